//go:build linux

package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// fast makes a server of tests: no fsync, which matters only when the machine
// loses power.
var fast = map[string]string{"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB"}

// holderDir makes a re-executed test binary hold a server on that folder until
// it is killed, instead of running tests.
const holderDir = "SWITCHBOARD_EMBEDDED_HOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holderDir); dir != "" {
		if err := hold(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold starts a server, prints "ready PID URL", and stops it when standard
// input ends.
func hold(dir string) error {
	s, err := Start(context.Background(), Config{DataDir: dir, Settings: fast})
	if err != nil {
		return err
	}
	fmt.Println("ready", s.PID(), s.URL())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return s.Stop(context.Background())
}

func TestStartAndStop(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, Config{DataDir: dir})
	query(t, s.URL(), `create table t (v text)`)
	query(t, s.URL(), `insert into t values ('kept')`)
	for name, want := range map[string]string{
		"listen_addresses": "", "fsync": "off", "max_connections": "200", "server_encoding": "UTF8", "lc_collate": "C", "lc_ctype": "C.UTF-8",
		"data_checksums": "off", "password_encryption": "scram-sha-256",
	} {
		if got := query(t, s.URL(), "show "+name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if got := query(t, s.URL(), `select lower('ЖЁ')`); got != "жё" {
		t.Errorf("lower('ЖЁ') = %q", got)
	}
	stop(t, s)
	if _, err := pgx.Connect(t.Context(), s.URL()); err == nil {
		t.Error("connected after Stop")
	}
	if err, open := <-s.Exited(); open {
		t.Errorf("Exited reports %v after Stop", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}

	s = start(t, Config{DataDir: dir})
	if got := query(t, s.URL(), `select v from t`); got != "kept" {
		t.Errorf("after a restart the table holds %q", got)
	}
	stop(t, s)
	if err := Remove(dir); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data folder after Remove: %v", err)
	}
}

// Nobody but us may read the data or connect.
func TestClosedToOthers(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, Config{DataDir: dir})
	for name, want := range map[string]fs.FileMode{clusterName: 0o700, runName: 0o700, passwordName: 0o600, lockName: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
	wrong := strings.Replace(s.URL(), ":"+s.password+"@", ":guess@", 1)
	if conn, err := pgx.Connect(t.Context(), wrong); err == nil {
		conn.Close(t.Context())
		t.Error("connected with a wrong password")
	}
	if os.Geteuid() != 0 {
		return
	}
	other := serverUser{name: "stranger", uid: 54321, gid: 54321, switched: true}
	out, err := runOnThread(other.command(t.Context(), "/", findPsql(t), s.URL(), "-c", "select 1"))
	if err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("psql as another user: %v: %s", err, out)
	}
}

func TestPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	dir := newDir(t)

	_, err = Start(t.Context(), Config{DataDir: dir, Settings: fast, Port: port})
	if err == nil || !strings.Contains(err.Error(), "Address already in use") {
		t.Errorf("on a taken port: %v", err)
	}
	l.Close()
	s := start(t, Config{DataDir: dir, Port: port})
	url := fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s", role, s.password, port, Database)
	if got := query(t, url, `select inet_server_addr() = '127.0.0.1'`); got != "true" {
		t.Errorf("over TCP: %s", got)
	}
	if got := query(t, s.URL(), `select inet_server_addr() is null`); got != "true" {
		t.Error("URL does not use the socket")
	}
}

func TestSecondServerOnOneFolder(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	child := startHolder(t, dir, nil)
	_, err := Start(t.Context(), Config{DataDir: dir, Settings: fast})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), strconv.Itoa(child.cmd.Process.Pid)) {
		t.Errorf("second Start: %v, want ErrInUse that names process %d", err, child.cmd.Process.Pid)
	}
	if err := Remove(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("Remove of a running server: %v", err)
	}
	if got := query(t, child.url, `select 'alive'`); got != "alive" {
		t.Errorf("the first server says %q", got)
	}
}

// Our own kill -9: what was committed is there for the next owner, who starts at
// once and never beside the old Postgres.
func TestOwnerKilled(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	child := startHolder(t, dir, nil)
	query(t, child.url, `create table t as select generate_series(1, 50000) as n`)
	for range 3 {
		child.kill(t)
		s := start(t, Config{DataDir: dir})
		if alive(child.postgres) {
			t.Fatal("the old Postgres lives beside the new one")
		}
		if got := query(t, s.URL(), `select count(*) from t`); got != "50000" {
			t.Errorf("%s rows, want 50000", got)
		}
		stop(t, s)
		child = startHolder(t, dir, nil)
	}
}

// A server that is busy when its owner dies takes long to end. The next owner
// waits for it.
func TestOwnerKilledPostgresSlow(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	child := startHolder(t, dir, nil)
	busy, err := pgx.Connect(t.Context(), child.url)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close(context.Background())
	backend := int(busy.PgConn().PID())
	// A stopped process does not end, and Postgres waits for it.
	if err := syscall.Kill(backend, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	child.kill(t)
	waiting := make(chan struct{})
	log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) {
		if strings.Contains(string(p), "waiting for the previous Postgres") {
			close(waiting)
		}
	}), nil))
	got := make(chan error, 1)
	go func() {
		s, err := Start(context.Background(), Config{DataDir: dir, Settings: fast, Logger: log})
		if err == nil {
			err = s.Stop(context.Background())
		}
		got <- err
	}()
	select {
	case <-waiting:
	case err := <-got:
		t.Fatalf("Start did not wait: %v", err)
	}
	if err := Remove(dir); !errors.Is(err, ErrInUse) {
		t.Errorf("Remove: %v", err)
	}
	if err := syscall.Kill(backend, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("after the old Postgres had ended: %v", err)
	}
}

// Postgres killed alone: the owner hears of it and starts again.
func TestPostgresKilled(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	s := start(t, Config{DataDir: dir})
	query(t, s.URL(), `create table t as select 1 as n`)
	// This one won't notice its postmaster's death by itself.
	stuck, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close(context.Background())
	stuckPID := int(stuck.PgConn().PID())
	if err := syscall.Kill(stuckPID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err, ok := <-s.Exited(); !ok || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Exited says %v", err)
	}
	if err := s.Wait(); err == nil {
		t.Error("Wait says nil")
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("Stop after the exit: %v", err)
	}
	s = start(t, Config{DataDir: dir})
	if alive(stuckPID) {
		t.Error("an orphan of the old server lives on")
	}
	if got := query(t, s.URL(), `select n from t`); got != "1" {
		t.Errorf("the table holds %q", got)
	}
}

// After a reboot the pid in a leftover file may belong to anybody.
func TestStalePIDFile(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	stop(t, start(t, Config{DataDir: dir}))
	pidFile := filepath.Join(dir, clusterName, "postmaster.pid")
	if err := os.WriteFile(pidFile, fmt.Appendf(nil, "%d\n%s\n1\n5432\n/\n\n 1 1\nready   \n", os.Getpid(), dir), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, runName, "leftover"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, halfMade+"cluster"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{DataDir: dir})
	for _, name := range []string{runName + "/leftover", halfMade + "cluster"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	query(t, s.URL(), `select 1`)
}

// A path that does not fit into a socket's address.
func TestLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(newDir(t), strings.Repeat("long", 30))
	s := start(t, Config{DataDir: dir})
	query(t, s.URL(), `select 1`)
	socket := s.socket
	stop(t, s)
	if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket's folder after Stop: %v", err)
	}
	// The folder of an owner who was killed is removed by the next one.
	child := startHolder(t, dir, nil)
	left, err := os.Readlink(filepath.Join(dir, runName))
	if err != nil {
		t.Fatal(err)
	}
	child.kill(t)
	stop(t, start(t, Config{DataDir: dir}))
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the killed owner's socket folder: %v", err)
	}
}

// A folder below /root, as seen by the user that Postgres runs as.
func TestClosedFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs Postgres as somebody else")
	}
	parent := newDir(t)
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := Config{DataDir: filepath.Join(parent, "data"), FallbackDir: filepath.Join(newDir(t), "fallback")}
	s := start(t, cfg)
	query(t, s.URL(), `create table t as select 'kept' as v`)
	if _, err := Start(t.Context(), cfg); !errors.Is(err, ErrInUse) {
		t.Errorf("second Start: %v", err)
	}
	stop(t, s)
	s = start(t, cfg)
	if got := query(t, s.URL(), `select v from t`); got != "kept" {
		t.Errorf("after a restart the table holds %q", got)
	}
	stop(t, s)

	// A copy of the data folder names the same files: two owners can't share them.
	twin := filepath.Join(parent, "twin")
	if err := os.Mkdir(twin, 0o700); err != nil {
		t.Fatal(err)
	}
	elsewhere, err := os.Readlink(filepath.Join(cfg.DataDir, elsewhereName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(twin, elsewhereName)); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg)
	if _, err := Start(t.Context(), Config{DataDir: twin, FallbackDir: cfg.FallbackDir}); !errors.Is(err, ErrInUse) {
		t.Errorf("Start on the twin: %v", err)
	}
	stop(t, s)
	if err := Remove(cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(cfg.FallbackDir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A cluster that became unreachable is named, and not silently replaced.
func TestFolderClosedLater(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs Postgres as somebody else")
	}
	parent := newDir(t)
	cfg := Config{DataDir: filepath.Join(parent, "data")}
	stop(t, start(t, cfg))
	if err := os.Chmod(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "can't enter "+parent+":") {
		t.Errorf("Start: %v", err)
	}
}

// Files that became root's, by a copy or a careless chown, go back.
func TestFilesOfRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs Postgres as somebody else")
	}
	dir := newDir(t)
	stop(t, start(t, Config{DataDir: dir}))
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, 0, 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	query(t, start(t, Config{DataDir: dir}).URL(), `select 1`)
}

// A user who is not root needs no other user at all; root continues as him.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test binary lies in a folder that only root may enter.
	bin := filepath.Join(newDir(t), "holder")
	if out, err := exec.Command("cp", self, bin).CombinedOutput(); err != nil {
		t.Fatalf("copying the test binary: %v: %s", err, out)
	}
	dir := newDir(t)
	nobody, err := user.Lookup("nobody") // initdb wants a user who has a name
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, uid); err != nil {
		t.Fatal(err)
	}
	child := startHolder(t, dir, func(cmd *exec.Cmd) {
		cmd.Path = bin
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	})
	query(t, child.url, `create table t as select 'kept' as v`)
	child.kill(t)
	s := start(t, Config{DataDir: dir})
	if s.home.user.uid != uid {
		t.Errorf("root runs the server as %d, want the owner of the files, %d", s.home.user.uid, uid)
	}
	if got := query(t, s.URL(), `select v from t`); got != "kept" {
		t.Errorf("the table holds %q", got)
	}
}

func TestBadFolders(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	write := func(path, content string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("file", "")
	write("foreign/cluster/photo.jpg", "")
	write("old/cluster/PG_VERSION", "9\n")
	if err := os.Mkdir(filepath.Join(dir, "dangling"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "gone"), filepath.Join(dir, "dangling", elsewhereName)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cfg  Config
		is   error
		says string
	}{
		{"no folder given", Config{}, nil, "no data folder"},
		{"a file", Config{DataDir: filepath.Join(dir, "file")}, nil, "not a directory"},
		{"a foreign cluster", Config{DataDir: filepath.Join(dir, "foreign")}, nil, "is not a Postgres cluster"},
		{"data of another version", Config{DataDir: filepath.Join(dir, "old")}, ErrNoPostgres, "postgresql-9"},
		{"files gone", Config{DataDir: filepath.Join(dir, "dangling")}, nil, "which are gone"},
		{"no binaries", Config{DataDir: filepath.Join(dir, "no-programs"), BinDir: dir}, ErrNoPostgres, dir},
		{"bad port", Config{DataDir: filepath.Join(dir, "new"), Port: 70000}, nil, "70000"},
		{"reserved setting", Config{DataDir: filepath.Join(dir, "new"), Settings: map[string]string{"listen_addresses": "*"}}, nil, "listen_addresses"},
		{"bad setting", Config{DataDir: filepath.Join(dir, "new"), Settings: map[string]string{"max_connections": "many", "fsync": "off"}}, nil, "max_connections"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := Start(t.Context(), tt.cfg)
			if err == nil {
				s.Stop(context.Background())
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), tt.says) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want it to say %q and to be %v", err, tt.says, tt.is)
			}
		})
	}
}

// A start that is given up leaves nothing running, and the folder usable.
func TestStartCanceled(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	stop(t, start(t, Config{DataDir: dir}))
	for _, delay := range []time.Duration{0, 10 * time.Millisecond, 25 * time.Millisecond, 40 * time.Millisecond, 60 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), delay)
		s, err := Start(ctx, Config{DataDir: dir, Settings: fast})
		cancel()
		if err == nil {
			stop(t, s)
		}
		if pids, err := processesIn(filepath.Join(dir, clusterName)); err != nil || len(pids) > 0 {
			t.Errorf("after %v: %v still run, %v", delay, pids, err)
		}
	}
	query(t, start(t, Config{DataDir: dir}).URL(), `select 1`)
}

func TestForcedStop(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DataDir: newDir(t)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Stop(ctx)
	if err == nil || !strings.Contains(err.Error(), "forced") {
		t.Errorf("Stop with an ended context: %v", err)
	}
	if alive(s.PID()) {
		t.Error("Postgres lives on")
	}
}

// What Postgres logs must not hold what customers wrote.
func TestLogHoldsNoData(t *testing.T) {
	t.Parallel()
	lines := make(chan string, 1000)
	s := start(t, Config{DataDir: newDir(t), Logger: slog.New(slog.NewTextHandler(writerFunc(func(p []byte) {
		select {
		case lines <- string(p):
		default:
		}
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, sql := range []string{
		`create table phones (phone text primary key)`,
		`insert into phones values ('+79991234567')`,
		`insert into phones values ('+79991234567')`,
		`insert into nowhere values ('+79991234567')`,
	} {
		_, _ = conn.Exec(t.Context(), sql)
	}
	conn.Close(t.Context())
	stop(t, s)
	close(lines)
	duplicates := 0
	for line := range lines {
		if strings.Contains(line, "7999") {
			t.Errorf("logged: %s", line)
		}
		if strings.Contains(line, "duplicate key") {
			duplicates++
			if !strings.Contains(line, "level=DEBUG") {
				t.Errorf("a statement's error is logged as %s", line)
			}
		}
	}
	if duplicates != 1 {
		t.Errorf("%d lines about the duplicate, want 1: is the log passed on?", duplicates)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// newDir returns a new folder that the server's user can enter; t.TempDir would
// be closed to him.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "embedded-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the test's folder: %v", err)
		}
	})
	return dir
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.Settings == nil {
		cfg.Settings = fast
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Start(ctx, cfg)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatalf("Stop: %v", err)
	}
}

// query returns the first column of the first row as text.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	var first string
	if rows.Next() {
		values, err := rows.Values()
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		first = fmt.Sprint(values[0])
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return first
}

func alive(pid int) bool {
	// A zombie answers signals, and works nowhere.
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil
}

func findPsql(t *testing.T) string {
	t.Helper()
	bin, err := findBinaries(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(bin.dir, "psql")
}

// holder is another process that owns a server.
type holder struct {
	cmd      *exec.Cmd
	postgres int
	url      string
}

func startHolder(t *testing.T, dir string, change func(*exec.Cmd)) *holder {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), holderDir+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	cmd.Dir = "/"
	if change != nil {
		change(cmd)
	}
	// Kept open: the holder ends with it.
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &holder{cmd: cmd}
	t.Cleanup(func() { h.kill(t) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the holder said %q: %v", line, err)
	}
	if n, err := fmt.Sscanf(line, "ready %d %s", &h.postgres, &h.url); n != 2 {
		t.Fatalf("the holder said %q: %v", line, err)
	}
	return h
}

// kill is kill -9. It returns when the process is gone; its Postgres may not be.
func (h *holder) kill(t *testing.T) {
	t.Helper()
	if h.cmd.ProcessState != nil {
		return
	}
	if err := h.cmd.Process.Kill(); err != nil {
		t.Errorf("killing the holder: %v", err)
	}
	_ = h.cmd.Wait()
	// A test's folder can't be removed under a Postgres that writes its last words.
	t.Cleanup(func() {
		deadline := time.Now().Add(10 * time.Second)
		for alive(h.postgres) && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
	})
}
