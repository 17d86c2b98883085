// Package dbtest gives each test a Postgres database of its own, with our schema
// in it, in some 50 ms.
//
// All tests of a process share one server: that of SWITCHBOARD_TEST_DATABASE_URL
// when it is set (the command withpostgres below this folder sets it for a whole
// `go test ./...`), or else one that is started on first use and dies with the
// process. The schema is migrated once per server, into a template that is named
// after the migrations and copied for each test.
//
// It imports package db, so db's own tests belong to package db_test.
package dbtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard/db"
	"switchboard/db/embedded"
)

// URLVariable names a server on which tests may create databases. The role needs
// the right to do so; the database that the URL names is only connected to.
const URLVariable = "SWITCHBOARD_TEST_DATABASE_URL"

const (
	// setupTimeout is generous: a busy machine may run a dozen packages at once.
	setupTimeout = 2 * time.Minute
	// closeTimeout is how long a pool may wait for connections that the test still
	// holds before that counts as the test's failure.
	closeTimeout = 10 * time.Second
	dirPrefix    = "switchboard-dbtest-"
)

// Settings are those of every test server: nothing survives a power cut, and
// dozens of pools may connect. Killing Postgres, or us, loses nothing committed.
func Settings() map[string]string {
	return map[string]string{
		"fsync":            "off",
		"full_page_writes": "off",
		"jit":              "off",
		"max_connections":  "300",
		"shared_buffers":   "128MB",
		// A database is created and dropped per test: both write a checkpoint.
		"max_wal_size": "4GB",
		"autovacuum":   "off",
	}
}

// New returns a pool on a new database with our schema. It is dropped when the
// test ends; connections still held then fail the test.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	dbURL := URL(t, db.Migrate, db.MigrationsKey())
	urls.Store(t, dbURL)
	t.Cleanup(func() { urls.CompareAndDelete(t, dbURL) })
	pool, err := pgxpool.New(context.WithoutCancel(t.Context()), dbURL)
	if err != nil {
		t.Fatalf("dbtest: connecting: %v", err)
	}
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			pool.Close()
		}()
		select {
		case <-closed:
		case <-time.After(closeTimeout):
			t.Errorf("dbtest: the test ended with %d connections still in use", pool.Stat().AcquiredConns())
		}
	})
	return pool
}

// urls holds the database of each running test that called New.
var urls sync.Map // testing.TB to string

// URLOf returns the connection string of the database that New made for t, or of
// a new one with our schema, for tests that start other processes or open pools
// of their own. Who connects must have gone before the test ends, or is thrown
// out.
func URLOf(t testing.TB) string {
	t.Helper()
	if dbURL, ok := urls.Load(t); ok {
		return dbURL.(string)
	}
	dbURL := URL(t, db.Migrate, db.MigrationsKey())
	urls.Store(t, dbURL)
	t.Cleanup(func() { urls.CompareAndDelete(t, dbURL) })
	return dbURL
}

// URL returns the connection string of a new database that is a copy of what
// migrate makes of an empty one. migrate runs once per server and key, whichever
// process comes first. The database is dropped when the test ends.
func URL(t testing.TB, migrate func(ctx context.Context, url string) error, key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), setupTimeout)
	defer cancel()
	srv, err := shared.open(ctx)
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	template, err := srv.template(ctx, migrate, key)
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	if err := srv.exec(ctx, "create database %s template %s", name, template); err != nil {
		t.Fatalf("dbtest: copying the schema: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
		defer cancel()
		if err := srv.exec(ctx, "drop database if exists %s with (force)", name); err != nil {
			t.Errorf("dbtest: dropping the test's database: %v", err)
		}
	})
	return srv.urlFor(name)
}

// Server starts a Postgres of the test's own, for tests that stop or kill it, with
// our schema in its database. To start it again after that, call ServerIn with
// the same folder; its URL stays.
func Server(t testing.TB) *embedded.Server {
	t.Helper()
	return ServerIn(t, Dir(t))
}

// ServerIn is Server on a folder from Dir.
func ServerIn(t testing.TB, dir string) *embedded.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), setupTimeout)
	defer cancel()
	srv, err := embedded.Start(ctx, embedded.Config{DataDir: dir, Settings: Settings()})
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(context.Background()); err != nil {
			t.Errorf("dbtest: %v", err)
		}
	})
	if err := db.Migrate(ctx, srv.URL()); err != nil {
		t.Fatalf("dbtest: migrating: %v", err)
	}
	return srv
}

// Dir returns a new folder that the user who runs Postgres can enter, which is
// not the case for t.TempDir.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := newDir()
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("dbtest: %v", err)
		}
	})
	return dir
}

// Main runs a package's tests and then stops the server that they shared, if it
// was our own, and removes its files. Without it the server dies with the
// process, and the next test process removes the files.
func Main(m *testing.M) {
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "dbtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// shared is the one server of this process's tests.
var shared process

// process opens a server once.
type process struct {
	once sync.Once
	srv  *server
	err  error
}

func (p *process) open(ctx context.Context) (*server, error) {
	p.once.Do(func() { p.srv, p.err = openServer(ctx) })
	return p.srv, p.err
}

func (p *process) close() error {
	p.once.Do(func() { p.err = errors.New("the tests are over") })
	if p.srv == nil {
		return nil
	}
	return p.srv.close()
}

// server is where databases are made.
type server struct {
	url   *url.URL
	admin *pgxpool.Pool
	own   *embedded.Server // nil when the server is not ours
	dir   string           // of own

	mu        sync.Mutex
	templates map[string]bool // known to be complete
}

func openServer(ctx context.Context) (_ *server, err error) {
	s := &server{templates: map[string]bool{}}
	given := os.Getenv(URLVariable)
	if given == "" {
		if err := sweep(); err != nil {
			return nil, err
		}
		if s.dir, err = newDir(); err != nil {
			return nil, err
		}
		if s.own, err = embedded.Start(ctx, embedded.Config{DataDir: s.dir, Settings: Settings()}); err != nil {
			return nil, errors.Join(err, os.RemoveAll(s.dir))
		}
		given = s.own.URLFor("postgres")
	}
	if s.url, err = url.Parse(given); err != nil {
		return nil, fmt.Errorf("%s is not a URL", URLVariable) // the parser's error would show the password
	}
	cfg, err := pgxpool.ParseConfig(given)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", URLVariable, db.RedactURL(err))
	}
	// Creating a database is work for the disk: more at once only disturb each other.
	cfg.MaxConns = 4
	if s.admin, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg); err != nil {
		return nil, fmt.Errorf("connecting to the test server: %w", err)
	}
	return s, nil
}

func (s *server) close() error {
	s.admin.Close()
	if s.own == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	return errors.Join(s.own.Stop(ctx), embedded.Remove(s.dir))
}

func (s *server) urlFor(database string) string {
	u := *s.url
	u.Path = "/" + database
	return u.String()
}

// exec runs a statement with names in it, which can't be parameters.
func (s *server) exec(ctx context.Context, format string, names ...string) error {
	quoted := make([]any, len(names))
	for i, name := range names {
		quoted[i] = pgx.Identifier{name}.Sanitize()
	}
	_, err := s.admin.Exec(ctx, fmt.Sprintf(format, quoted...))
	return err
}

// template returns the name of the template of that key. The first process to
// come makes it, under a lock; it is marked as a template when it is complete,
// so one that was abandoned half-way is made again.
func (s *server) template(ctx context.Context, migrate func(context.Context, string) error, key string) (string, error) {
	name := "template_" + key
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.templates[name] {
		return name, nil
	}
	conn, err := s.admin.Acquire(ctx)
	if err != nil {
		return "", fmt.Errorf("connecting to the test server: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `select pg_advisory_lock(hashtext($1))`, name); err != nil {
		return "", fmt.Errorf("locking the template: %w", err)
	}
	defer conn.Exec(context.WithoutCancel(ctx), `select pg_advisory_unlock(hashtext($1))`, name)
	var complete bool
	const isComplete = `select exists(select from pg_database where datname = $1 and datistemplate)`
	if err := conn.QueryRow(ctx, isComplete, name).Scan(&complete); err != nil {
		return "", fmt.Errorf("looking for the template: %w", err)
	}
	if !complete {
		if err := s.makeTemplate(ctx, name, migrate); err != nil {
			return "", err
		}
	}
	s.templates[name] = true
	return name, nil
}

func (s *server) makeTemplate(ctx context.Context, name string, migrate func(context.Context, string) error) error {
	for _, sql := range []string{"drop database if exists %s with (force)", "create database %s"} {
		if err := s.exec(ctx, sql, name); err != nil {
			return fmt.Errorf("creating the template: %w", err)
		}
	}
	if err := migrate(ctx, s.urlFor(name)); err != nil {
		return fmt.Errorf("migrating the template: %w", err)
	}
	// Nobody may connect to it: a template that is in use can't be copied.
	for _, sql := range []string{"alter database %s allow_connections false", "alter database %s is_template true"} {
		if err := s.exec(ctx, sql, name); err != nil {
			return fmt.Errorf("closing the template: %w", err)
		}
	}
	return nil
}

func newDir() (string, error) {
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return "", fmt.Errorf("creating a folder for Postgres: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", fmt.Errorf("opening a folder to Postgres: %w", err)
	}
	return dir, nil
}

// sweep removes what earlier test processes left behind.
func sweep() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return fmt.Errorf("looking for old test servers: %w", err)
	}
	for _, dir := range dirs {
		// A new folder may belong to a process that is about to lock it.
		if info, err := os.Stat(dir); err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		// In use, or another user's: it stays.
		_ = embedded.Remove(dir)
	}
	return nil
}

// Run starts a test server, runs do with URLVariable's value for it, and removes
// it. It is what the command withpostgres does.
func Run(ctx context.Context, do func(env string) error) (err error) {
	if err := sweep(); err != nil {
		return err
	}
	dir, err := newDir()
	if err != nil {
		return err
	}
	settings := Settings()
	maps.Copy(settings, map[string]string{"shared_buffers": "256MB"})
	srv, err := embedded.Start(ctx, embedded.Config{DataDir: dir, Settings: settings})
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer func() {
		err = errors.Join(err, srv.Stop(context.WithoutCancel(ctx)), embedded.Remove(dir))
	}()
	return do(URLVariable + "=" + srv.URLFor("postgres"))
}
