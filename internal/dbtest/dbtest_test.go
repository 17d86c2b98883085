package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard/db"
)

func TestMain(m *testing.M) { Main(m) }

func TestNewHasSchemaAndIsAlone(t *testing.T) {
	t.Parallel()
	if err := db.Pending(t.Context(), URLOf(t)); err != nil {
		t.Errorf("the database is not on our schema: %v", err)
	}
	a, b := New(t), New(t)
	if _, err := a.Exec(t.Context(), `create table only_here (n int)`); err != nil {
		t.Fatal(err)
	}
	if exists(t, b, "only_here") {
		t.Error("two databases share a table")
	}
	if _, err := a.Exec(t.Context(), `drop table only_here`); err != nil {
		t.Fatal(err)
	}
}

func TestURLOf(t *testing.T) {
	t.Parallel()
	pool := New(t)
	if _, err := pool.Exec(t.Context(), `create table here (n int)`); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), URLOf(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `select n from here`); err != nil {
		t.Errorf("URLOf names another database than New: %v", err)
	}
	t.Run("subtest", func(t *testing.T) {
		if URLOf(t) == pool.Config().ConnString() {
			t.Error("a subtest got its parent's database")
		}
		if URLOf(t) != URLOf(t) {
			t.Error("URLOf names two databases for one test")
		}
	})
}

func TestDroppedAfterTheTest(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("test", func(t *testing.T) {
		pool := New(t)
		name = pool.Config().ConnConfig.Database
		// Left open on purpose: it is thrown out.
		if _, err := pgx.Connect(t.Context(), URLOf(t)); err != nil {
			t.Fatal(err)
		}
	})
	srv, err := shared.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var left int
	if err := srv.admin.QueryRow(t.Context(), `select count(*) from pg_database where datname = $1`, name).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left != 0 {
		t.Errorf("database %s outlived its test", name)
	}
}

func TestTemplateMadeOnce(t *testing.T) {
	t.Parallel()
	var made atomic.Int32
	fail := atomic.Bool{}
	fail.Store(true)
	migrate := func(ctx context.Context, url string) error {
		made.Add(1)
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, `create table t (n int)`); err != nil {
			return err
		}
		if fail.Swap(false) {
			return errors.New("killed half-way")
		}
		return nil
	}
	const key = "made_once"
	ctx := t.Context()
	srv, err := shared.open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		if err := errors.Join(srv.exec(ctx, "alter database %s is_template false", "template_"+key), srv.exec(ctx, "drop database %s", "template_"+key)); err != nil {
			t.Error(err)
		}
	})
	if _, err := srv.template(ctx, migrate, key); err == nil {
		t.Fatal("a failed migration made a template")
	}
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			// As other processes would, which know of no template yet.
			other := &server{url: srv.url, admin: srv.admin, templates: map[string]bool{}}
			if _, err := other.template(t.Context(), migrate, key); err != nil {
				t.Error(err)
			}
			conn, err := pgxpool.New(t.Context(), URL(t, migrate, key))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if !exists(t, conn, "t") {
				t.Error("the copy lacks the table")
			}
		})
	}
	if got := made.Load(); got != 2 {
		t.Errorf("migrated %d times, want 2: the failed one and one more", got)
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	dir := Dir(t)
	srv := ServerIn(t, dir)
	before := srv.URL()
	if err := db.Pending(t.Context(), before); err != nil {
		t.Error(err)
	}
	if err := srv.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := ServerIn(t, dir).URL(); after != before {
		t.Error("a restart changed the URL")
	}
}

// The command's environment, exit code and end.
func TestWithPostgres(t *testing.T) {
	t.Parallel()
	bin := t.TempDir() + "/withpostgres"
	if out, err := exec.Command("go", "build", "-o", bin, "./withpostgres").CombinedOutput(); err != nil {
		t.Fatalf("building: %v: %s", err, out)
	}
	cmd := exec.Command(bin, "sh", "-c", `echo "$`+URLVariable+`"; exit 7`)
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != 7 {
		t.Fatalf("exit code %d, want 7: %v", cmd.ProcessState.ExitCode(), err)
	}
	cfg, err := pgx.ParseConfig(strings.TrimSpace(string(out)))
	if err != nil || !strings.HasPrefix(cfg.Host, "/") {
		t.Fatalf("the command got %q: %v", out, err)
	}
	if _, err := os.Stat(cfg.Host); !os.IsNotExist(err) {
		t.Errorf("the server's files are left: %v", err)
	}
	if out, err := exec.Command(bin, "sh", "-c", "kill -TERM $PPID; exec sleep 60").CombinedOutput(); err == nil || !strings.Contains(err.Error(), "143") {
		t.Errorf("a command that was told to end: %v: %s", err, out)
	}
	if out, err := exec.Command(bin, "/does/not/exist").CombinedOutput(); err == nil || !strings.Contains(err.Error(), "125") {
		t.Errorf("no such command: %v: %s", err, out)
	}
}

func BenchmarkNew(b *testing.B) {
	New(b) // the server and the template
	for b.Loop() {
		URL(b, db.Migrate, db.MigrationsKey())
	}
}

func exists(t *testing.T, pool *pgxpool.Pool, table string) bool {
	t.Helper()
	var found bool
	if err := pool.QueryRow(t.Context(), `select to_regclass($1) is not null`, table).Scan(&found); err != nil {
		t.Fatal(err)
	}
	return found
}
