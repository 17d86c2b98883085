package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// leftoverWait bounds the wait for the Postgres of an owner that was killed.
	// It writes a checkpoint before it ends, which takes a second or two.
	leftoverWait = 30 * time.Second
	// orphanWait is how long server processes without a postmaster may take to
	// notice. They do when their query ends, which may be never.
	orphanWait = 2 * time.Second
	pollEvery  = 20 * time.Millisecond
)

// tidy readies the home for a new server, whatever ended the last one. The lock
// is held: who is still running has lost his owner.
func (h *home) tidy(ctx context.Context, log *slog.Logger) error {
	if err := h.awaitLeftovers(ctx, log); err != nil {
		return err
	}
	// No process works here, so the pid that a leftover file names is a foreign one.
	if err := os.Remove(h.path(clusterName + "/postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a stale pid file: %w", err)
	}
	old, err := filepath.Glob(h.path(halfMade + "*"))
	if err != nil {
		return fmt.Errorf("looking for half-made files: %w", err)
	}
	for _, path := range old {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing half-made files: %w", err)
		}
	}
	return h.removeRun()
}

// awaitLeftovers returns when no process works in the cluster any more.
func (h *home) awaitLeftovers(ctx context.Context, log *slog.Logger) error {
	cluster := h.path(clusterName)
	start := time.Now()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for told := false; ; told = true {
		pids, err := h.processes()
		if err != nil || len(pids) == 0 {
			return err
		}
		if !told {
			log.LogAttrs(ctx, slog.LevelInfo, "waiting for the previous Postgres to end", slog.Any("pids", pids))
		}
		waited := time.Since(start)
		if master := postmasterPID(cluster); waited > orphanWait && !slices.Contains(pids, master) {
			for _, pid := range pids {
				log.LogAttrs(ctx, slog.LevelWarn, "killing an orphaned Postgres process", slog.Int("pid", pid))
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
					return fmt.Errorf("killing orphaned postgres process %d: %w", pid, err)
				}
			}
		}
		if waited > leftoverWait {
			return fmt.Errorf("%w: postgres process %d still runs in %s; it was not started by us, or does not end", ErrInUse, pids[0], cluster)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for postgres process %d to end: %w", pids[0], ctx.Err())
		case <-tick.C:
		}
	}
}

// processes lists the Postgres processes that work in the cluster: each process
// of a server has it as its working folder.
//
// Root in a container may not look at that of other users' processes
// (CAP_SYS_PTRACE is missing), but the server's user may. So this thread looks
// with that user's eyes.
func (h *home) processes() ([]int, error) {
	if h.user.switched {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer syscall.Setfsuid(0)
		defer syscall.Setfsgid(0)
		if err := errors.Join(syscall.Setfsgid(h.user.gid), syscall.Setfsuid(h.user.uid)); err != nil {
			return nil, fmt.Errorf("listing processes as user %s: %w", h.user.name, err)
		}
	}
	return processesIn(h.path(clusterName))
}

func processesIn(dir string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if cwd, err := os.Readlink("/proc/" + e.Name() + "/cwd"); err == nil && cwd == dir && isPostgres(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// isPostgres spares the shell of an administrator who looks around.
func isPostgres(pid int) bool {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && bytes.HasPrefix(comm, []byte("postgres"))
}

// postmasterPID reads the first line of postmaster.pid; 0 if there is none.
func postmasterPID(cluster string) int {
	b, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	return pid
}
