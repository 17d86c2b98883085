package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Names inside a home; doc.go says what they are.
const (
	lockName      = "lock"
	passwordName  = "password"
	clusterName   = "cluster"
	runName       = "run"
	elsewhereName = "elsewhere"
	halfMade      = "new-" // prefix of what is not finished
)

// home is the folder that really holds the server's files: the data folder, or
// the one that its "elsewhere" names.
type home struct {
	dir   string
	user  serverUser
	locks []*os.File
}

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

// close lets the next server have the folder.
func (h *home) close() {
	for _, f := range h.locks {
		// Closing is not enough: a child between fork and exec has the file as well.
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		f.Close()
	}
}

// serverUser is whom Postgres runs as.
type serverUser struct {
	name     string
	uid, gid int
	// switched says that this is not the user of our own process.
	switched bool
}

func (u serverUser) credential() *syscall.Credential {
	if !u.switched {
		return nil
	}
	return &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}
}

// give hands path over to the user.
func (u serverUser) give(path string) error {
	if !u.switched {
		return nil
	}
	return os.Lchown(path, u.uid, u.gid)
}

// openHome finds or makes the home of the data folder, locked, with a user who
// can enter it.
func openHome(ctx context.Context, cfg Config) (_ *home, err error) {
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711 // the server's user has to pass through
	}
	if err := os.MkdirAll(cfg.DataDir, mode); err != nil {
		return nil, fmt.Errorf("creating the data folder: %w", err)
	}
	h := &home{}
	if h.dir, err = filepath.EvalSymlinks(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("resolving the data folder: %w", err)
	}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if err := h.lock(); err != nil {
		return nil, err
	}
	moved, err := os.Readlink(h.path(elsewhereName))
	switch {
	case err == nil:
		if h.dir, err = filepath.EvalSymlinks(moved); err != nil {
			return nil, fmt.Errorf("%s points to the database's files, which are gone: %w", filepath.Join(cfg.DataDir, elsewhereName), err)
		}
		if err := h.lock(); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("reading the data folder: %w", err)
	}
	fresh, err := h.chooseUser()
	if err != nil || !h.user.switched {
		return h, err
	}
	if err := os.Chmod(h.dir, mode); err != nil {
		return nil, fmt.Errorf("opening the data folder to user %s: %w", h.user.name, err)
	}
	closed, err := h.closedAt(ctx)
	if err != nil || closed == "" {
		return h, err
	}
	if !fresh {
		return nil, fmt.Errorf("user %s, who runs Postgres and owns %s, can't enter %s: move the data folder, or let others pass with chmod o+x",
			h.user.name, h.path(clusterName), closed)
	}
	cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "the server's user can't enter the data folder; the database's files go elsewhere",
		slog.String("user", h.user.name), slog.String("closed", closed), slog.String("fallback", cfg.FallbackDir))
	return h, h.moveElsewhere(ctx, cfg.FallbackDir)
}

// lock takes the home for this process, or returns ErrInUse.
func (h *home) lock() error {
	path := h.path(lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("opening the lock of the data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("locking %s: %w", path, err)
		}
		pid := make([]byte, 16)
		n, _ := f.ReadAt(pid, 0)
		return fmt.Errorf("%w: %s is held by process %s; stop it or choose another data folder", ErrInUse, h.dir, bytes.TrimSpace(pid[:n]))
	}
	h.locks = append(h.locks, f)
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("writing the lock of the data folder: %w", err)
	}
	if _, err := f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0); err != nil {
		return fmt.Errorf("writing the lock of the data folder: %w", err)
	}
	return nil
}

// chooseUser says who runs Postgres, and whether the cluster has yet to be made.
func (h *home) chooseUser() (fresh bool, err error) {
	h.user = serverUser{name: strconv.Itoa(os.Geteuid()), uid: os.Geteuid(), gid: os.Getegid()}
	info, err := os.Stat(h.path(clusterName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("reading the data folder: %w", err)
	}
	fresh = err != nil
	if !fresh {
		owner := info.Sys().(*syscall.Stat_t)
		switch {
		case os.Geteuid() != 0 && int(owner.Uid) != os.Geteuid():
			return false, fmt.Errorf("%s belongs to user %d, and we are user %d: run as that user or as root", h.path(clusterName), owner.Uid, os.Geteuid())
		case os.Geteuid() == 0 && owner.Uid != 0:
			h.user = serverUser{name: userName(int(owner.Uid)), uid: int(owner.Uid), gid: int(owner.Gid), switched: true}
			return false, nil
		}
	}
	if os.Geteuid() != 0 {
		return fresh, nil
	}
	if h.user, err = unprivilegedUser(); err != nil || fresh {
		return fresh, err
	}
	// Somebody gave all files to root (cp -r, chown -R): give them back.
	err = filepath.WalkDir(h.path(clusterName), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return h.user.give(path)
	})
	if err != nil {
		return false, fmt.Errorf("giving the cluster to user %s: %w", h.user.name, err)
	}
	return false, nil
}

// unprivilegedUser is whom Postgres runs as when we are root.
func unprivilegedUser() (serverUser, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return serverUser{}, fmt.Errorf("user %s has the id %q", name, u.Uid)
		}
		gid, err := strconv.Atoi(u.Gid)
		if err != nil {
			return serverUser{}, fmt.Errorf("user %s has the group %q", name, u.Gid)
		}
		return serverUser{name: name, uid: uid, gid: gid, switched: true}, nil
	}
	return serverUser{}, errors.New("postgres refuses to run as root, and the machine has neither a user postgres nor nobody")
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// closedAt returns the topmost folder on the way to the home that the server's
// user can't enter, or "". The kernel is asked, by entering: modes alone would
// miss access lists.
func (h *home) closedAt(ctx context.Context) (string, error) {
	if err := h.enter(ctx, "/"); err != nil {
		return "", fmt.Errorf("running as user %s: %w", h.user.name, err)
	}
	if h.enter(ctx, h.dir) == nil {
		return "", nil
	}
	at := "/"
	for _, part := range strings.Split(strings.Trim(h.dir, "/"), "/") {
		at = filepath.Join(at, part)
		if h.enter(ctx, at) != nil {
			return at, nil
		}
	}
	return h.dir, nil
}

func (h *home) enter(ctx context.Context, dir string) error {
	_, err := runOnThread(h.user.command(ctx, dir, "/bin/true"))
	return err
}

// moveElsewhere makes a new folder below fallback and leaves a link to it in
// the data folder. The name is random and not derived from the data folder's:
// who removes that expects to find nothing when he starts again.
func (h *home) moveElsewhere(ctx context.Context, fallback string) error {
	if err := os.MkdirAll(fallback, 0o711); err != nil {
		return fmt.Errorf("creating a folder that user %s can enter: %w", h.user.name, err)
	}
	fallback, err := filepath.EvalSymlinks(fallback)
	if err != nil {
		return fmt.Errorf("resolving the fallback folder: %w", err)
	}
	dir, err := os.MkdirTemp(fallback, "postgres-")
	if err != nil {
		return fmt.Errorf("creating a folder that user %s can enter: %w", h.user.name, err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return fmt.Errorf("opening %s to user %s: %w", dir, h.user.name, err)
	}
	link := h.path(elsewhereName)
	h.dir = dir
	switch closed, err := h.closedAt(ctx); {
	case err != nil:
		return err
	case closed != "":
		os.Remove(dir)
		return fmt.Errorf("user %s, who has to run Postgres, can enter neither the data folder nor %s", h.user.name, closed)
	}
	if err := h.lock(); err != nil {
		return err
	}
	if err := os.Symlink(dir, link); err != nil {
		return fmt.Errorf("noting where the database's files are: %w", err)
	}
	return nil
}

// command prepares a program that runs as the user in dir and dies with us. The
// environment is not ours: PGDATA, PGPORT and their like would change what
// Postgres does.
func (u serverUser) command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: u.credential(), Pdeathsig: syscall.SIGKILL}
	return cmd
}

// runOnThread runs a short command. The thread that starts it must not end
// before it, or Pdeathsig would strike.
func runOnThread(cmd *exec.Cmd) ([]byte, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return cmd.CombinedOutput()
}

// Remove deletes the data folder of a server that does not run, wherever its
// files are. It returns ErrInUse if a server runs or is still ending. A folder
// that does not exist is fine.
func Remove(dataDir string) error {
	dir, err := filepath.EvalSymlinks(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("resolving the data folder: %w", err)
	}
	h := &home{dir: dir}
	defer h.close()
	if err := h.lock(); err != nil {
		return err
	}
	if moved, err := os.Readlink(h.path(elsewhereName)); err == nil {
		h.dir = moved
		if err := h.lock(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if _, err := h.chooseUser(); err != nil {
		return err
	}
	if pids, err := h.processes(); err != nil || len(pids) > 0 {
		return errors.Join(err, fmt.Errorf("%w: processes %v still run in %s", ErrInUse, pids, h.dir))
	}
	if err := h.removeRun(); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(h.dir), os.RemoveAll(dir))
}
