package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// socketPort names the socket when no TCP port is open: .s.PGSQL.5432. It is
	// not a port that anything listens on.
	socketPort = 5432
	// stopWait bounds a fast shutdown for callers without a deadline.
	stopWait = 30 * time.Second
	// forceWait is given to an immediate shutdown, which does not write anything.
	forceWait = 5 * time.Second
)

// defaults are the settings that Config.Settings may change.
var defaults = map[string]string{
	"max_connections": "200",
	// Our queries are short: compiling them costs more than it gives.
	"jit":          "off",
	"timezone":     "UTC",
	"log_timezone": "UTC",
	"cluster_name": "switchboard",
	// What Postgres logs must hold no customer's data: no statements, no
	// "Key (phone)=(...) already exists".
	"log_min_error_statement": "panic",
	"log_error_verbosity":     "terse",
	"log_line_prefix":         "",
	"lc_messages":             "C",
}

// Server is a running Postgres. Its methods may be called concurrently.
type Server struct {
	home     *home
	socket   string // folder
	port     int
	password string
	cmd      *exec.Cmd
	log      *logWriter

	done   chan struct{} // closed when Postgres is gone and the folder is free
	err    error         // set before done is closed; nil after Stop
	exited chan error
}

// Start runs a server on the data folder, creates what is missing, and returns
// when the database "switchboard" takes connections. A first start takes about
// a second, later ones a tenth, and after a crash as long as recovery takes. ctx
// bounds the start only: the server runs until Stop or until this process ends.
//
// Errors: ErrInUse, ErrNoPostgres, or one that says what is wrong with the
// folder or what Postgres said last.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	h, err := openHome(ctx, cfg)
	if err != nil {
		return nil, err
	}
	started := false
	defer func() {
		if !started {
			h.close()
		}
	}()
	version, err := h.clusterVersion()
	if err != nil {
		return nil, err
	}
	bin, err := findBinaries(ctx, cfg.BinDir, version)
	if err != nil {
		return nil, err
	}
	if err := h.tidy(ctx, cfg.Logger); err != nil {
		return nil, err
	}
	if version == "" {
		if err := h.create(ctx, bin, cfg.Settings["fsync"] != "off"); err != nil {
			return nil, err
		}
	}
	s := &Server{
		home: h, port: cfg.Port, log: &logWriter{log: cfg.Logger},
		done: make(chan struct{}), exited: make(chan error, 1),
	}
	if s.port == 0 {
		s.port = socketPort
	}
	if s.password, err = h.password(); err != nil {
		return nil, err
	}
	if s.socket, err = h.makeRun(s.port); err != nil {
		return nil, err
	}
	// From here on the server's goroutine releases the home.
	started = true
	if err := s.launch(bin, cfg); err != nil {
		return nil, err
	}
	if err := errors.Join(s.awaitReady(ctx), ctx.Err()); err != nil {
		return nil, errors.Join(err, s.abort())
	}
	if err := s.createDatabase(ctx); err != nil {
		return nil, errors.Join(err, s.abort())
	}
	return s, nil
}

// launch starts Postgres from a thread that lives as long as it does.
func (s *Server) launch(bin binaries, cfg Config) error {
	settings := maps.Clone(defaults)
	maps.Copy(settings, cfg.Settings)
	settings["listen_addresses"] = ""
	if cfg.Port != 0 {
		settings["listen_addresses"] = "127.0.0.1"
	}
	settings["port"] = strconv.Itoa(s.port)
	settings["unix_socket_directories"] = s.socket
	settings["unix_socket_permissions"] = "0700"
	settings["logging_collector"] = "off"
	settings["log_destination"] = "stderr"
	args := []string{"-D", s.home.path(clusterName)}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	// Not bound to a context: only Stop ends it.
	s.cmd = s.home.user.command(context.Background(), "/", bin.postgres(), args...)
	s.cmd.SysProcAttr.Pdeathsig = syscall.SIGINT
	// A Ctrl-C in the terminal is for us: we drain while the database still works.
	s.cmd.SysProcAttr.Setpgid = true
	s.cmd.Stdout = s.log
	s.cmd.Stderr = s.log
	// An orphan may keep the log open; its postmaster is dead all the same.
	s.cmd.WaitDelay = time.Second
	started := make(chan error, 1)
	go s.own(started)
	if err := <-started; err != nil {
		return fmt.Errorf("starting %s as user %s: %w", bin.postgres(), s.home.user.name, err)
	}
	return nil
}

// own runs Postgres and waits for its end. The thread is never unlocked: it ends
// with this goroutine, when no child is left for Pdeathsig to strike.
func (s *Server) own(started chan<- error) {
	runtime.LockOSThread()
	defer close(s.done)
	defer close(s.exited)
	defer s.home.close()
	if err := s.cmd.Start(); err != nil {
		s.err = err
		started <- err
		return
	}
	started <- nil
	err := s.cmd.Wait()
	if rmErr := s.home.removeRun(); rmErr != nil {
		s.log.log.Warn("removing the socket folder", slog.Any("error", rmErr))
	}
	if s.log.stopping.Load() {
		return
	}
	if err == nil {
		err = errors.New("it was told to stop by somebody else")
	}
	s.err = fmt.Errorf("postgres ended unexpectedly: %w: %s", err, s.log.last())
	s.exited <- s.err
}

// awaitReady polls the status line that Postgres keeps for pg_ctl. Connecting
// instead would fill the log with refusals during recovery.
func (s *Server) awaitReady(ctx context.Context) error {
	pidFile := s.home.path(clusterName + "/postmaster.pid")
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(pidFile)
		lines := strings.Split(string(b), "\n")
		if err == nil && len(lines) >= 8 && lines[0] == strconv.Itoa(s.cmd.Process.Pid) && strings.TrimSpace(lines[7]) == "ready" {
			return nil
		}
		select {
		case <-s.done:
			return s.err
		case <-ctx.Done():
			return fmt.Errorf("waiting for postgres to be ready: %w: %s", context.Cause(ctx), s.log.last())
		case <-tick.C:
		}
	}
}

func (s *Server) createDatabase(ctx context.Context) (err error) {
	conn, err := pgx.Connect(ctx, s.URLFor("postgres"))
	if err != nil {
		return fmt.Errorf("connecting to the embedded postgres: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var exists bool
	if err := conn.QueryRow(ctx, `select exists(select from pg_database where datname = $1)`, Database).Scan(&exists); err != nil {
		return fmt.Errorf("looking for the database: %w", err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, "create database "+pgx.Identifier{Database}.Sanitize()); err != nil {
		return fmt.Errorf("creating the database: %w", err)
	}
	return nil
}

// URL is a connection string of the database "switchboard", password included,
// for pgx and psql.
func (s *Server) URL() string { return s.URLFor(Database) }

// URLFor is a connection string of another database of the server; it need not
// exist yet.
func (s *Server) URLFor(database string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(role, s.password),
		Path:   "/" + database,
		RawQuery: url.Values{
			"host":    {s.socket},
			"port":    {strconv.Itoa(s.port)},
			"sslmode": {"disable"},
		}.Encode(),
	}
	return u.String()
}

// PID is the process id of Postgres's main process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Exited gets an error if Postgres ends without Stop, and is closed when it has
// ended for whatever reason.
func (s *Server) Exited() <-chan error { return s.exited }

// Wait blocks until Postgres has ended and its folder is free. It returns nil if
// Stop ended it.
func (s *Server) Wait() error {
	<-s.done
	return s.err
}

// Stop ends Postgres and waits for it: open transactions are rolled back,
// everything committed is on the disk. When ctx ends first, or after 30 seconds,
// it is forced, and the next start has to recover; nothing committed is lost by
// that either, but Stop returns an error. Stopping twice, or after an unexpected
// exit, is fine.
func (s *Server) Stop(ctx context.Context) error {
	s.log.stopping.Store(true)
	if s.signal(ctx, syscall.SIGINT, stopWait) {
		return nil
	}
	if err := s.force(); err != nil {
		return err
	}
	return errors.New("postgres did not stop in time and was forced")
}

// abort ends a server that Start won't return.
func (s *Server) abort() error {
	s.log.stopping.Store(true)
	return s.force()
}

func (s *Server) force() error {
	// The caller's patience is over already; this has a time limit of its own.
	ctx := context.Background()
	if s.signal(ctx, syscall.SIGQUIT, forceWait) || s.signal(ctx, syscall.SIGKILL, 2*forceWait) {
		return nil
	}
	return fmt.Errorf("postgres process %d does not end", s.PID())
}

// signal sends sig and reports whether Postgres ended before ctx and timeout.
func (s *Server) signal(ctx context.Context, sig os.Signal, timeout time.Duration) bool {
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.log.Warn("signalling Postgres", slog.Any("error", err))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case <-s.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// logWriter passes Postgres's log lines on and remembers the last few, for the
// error of a failed start.
type logWriter struct {
	log *slog.Logger
	// stopping says that we end Postgres: clients that it throws out are no news.
	stopping atomic.Bool

	mu      sync.Mutex
	partial []byte
	recent  []string
}

var _ io.Writer = (*logWriter)(nil)

// recentLines are enough for a FATAL and its HINT.
const recentLines = 5

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.partial = append(w.partial, p...)
	for {
		line, rest, found := bytes.Cut(w.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.line(string(line))
		w.partial = append(w.partial[:0], rest...)
	}
}

func (w *logWriter) line(line string) {
	w.recent = append(w.recent, line)
	if len(w.recent) > recentLines {
		w.recent = w.recent[1:]
	}
	severity, text, found := strings.Cut(line, ":  ")
	if !found {
		severity, text = "LOG", line
	}
	level := slog.LevelDebug
	switch severity {
	case "PANIC":
		level = slog.LevelError
	case "FATAL", "WARNING":
		if !w.stopping.Load() {
			level = slog.LevelWarn
		}
	}
	// ERROR answers a statement: its sender is told, and logs it if it matters.
	w.log.LogAttrs(context.Background(), level, "postgres", slog.String("severity", strings.ToLower(severity)), slog.String("said", text))
}

func (w *logWriter) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.recent, "; ")
}
