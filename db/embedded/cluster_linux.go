package embedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxSocketPath is what fits into sockaddr_un with its closing zero.
const maxSocketPath = 107

// socketTemp is the prefix of socket folders outside of the home.
const socketTemp = "switchboard-pg-"

// clusterVersion returns the major version that made the cluster, or "" if
// there is none yet.
func (h *home) clusterVersion() (string, error) {
	cluster := h.path(clusterName)
	if _, err := os.Lstat(cluster); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	b, err := os.ReadFile(filepath.Join(cluster, "PG_VERSION"))
	if err != nil {
		return "", fmt.Errorf("%s is not a Postgres cluster: %w", cluster, err)
	}
	return string(bytes.TrimSpace(b)), nil
}

// create makes the cluster and its password. It appears complete or not at all.
// Text sorts by code point and "lower" knows all of Unicode: the same on every
// machine, whatever its locales.
func (h *home) create(ctx context.Context, bin binaries, sync bool) (err error) {
	password := rand.Text()
	dir, err := os.MkdirTemp(h.dir, halfMade)
	if err != nil {
		return fmt.Errorf("creating the cluster's folder: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	if err := h.user.give(dir); err != nil {
		return fmt.Errorf("giving the cluster to user %s: %w", h.user.name, err)
	}
	pwFile, err := h.writeHalfMade(password, true)
	if err != nil {
		return err
	}
	defer os.Remove(pwFile)
	args := []string{
		"--pgdata", dir, "--username", role, "--pwfile", pwFile, "--auth", "scram-sha-256",
		"--encoding", "UTF8", "--locale", "C", "--lc-ctype", "C.UTF-8", "--no-instructions",
	}
	if !sync {
		args = append(args, "--no-sync")
	}
	if out, err := runOnThread(h.user.command(ctx, "/", bin.initdb(), args...)); err != nil {
		return fmt.Errorf("creating the database cluster with %s: %w: %s", bin.initdb(), err, tail(string(out), 5))
	}
	kept, err := h.writeHalfMade(password, false)
	if err != nil {
		return err
	}
	if err := os.Rename(kept, h.path(passwordName)); err != nil {
		return fmt.Errorf("keeping the database's password: %w", err)
	}
	if err := os.Rename(dir, h.path(clusterName)); err != nil {
		return fmt.Errorf("naming the new cluster: %w", err)
	}
	return nil
}

// writeHalfMade writes a file of mode 0600 and returns its name.
func (h *home) writeHalfMade(content string, give bool) (_ string, err error) {
	f, err := os.CreateTemp(h.dir, halfMade)
	if err != nil {
		return "", fmt.Errorf("keeping the database's password: %w", err)
	}
	_, err = f.WriteString(content)
	if give {
		err = errors.Join(err, h.user.give(f.Name()))
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("keeping the database's password: %w", err)
	}
	return f.Name(), nil
}

func (h *home) password() (string, error) {
	b, err := os.ReadFile(h.path(passwordName))
	if err != nil {
		return "", fmt.Errorf("reading the database's password: %w", err)
	}
	return string(bytes.TrimSpace(b)), nil
}

// makeRun makes the socket's folder and returns it.
func (h *home) makeRun(port int) (string, error) {
	run := h.path(runName)
	if len(run)+len(fmt.Sprintf("/.s.PGSQL.%d", port)) <= maxSocketPath {
		if err := os.Mkdir(run, 0o700); err != nil {
			return "", fmt.Errorf("creating the socket's folder: %w", err)
		}
		return run, h.giveRun(run)
	}
	// Not os.TempDir: that may be long as well.
	dir, err := os.MkdirTemp("/tmp", socketTemp)
	if err != nil {
		return "", fmt.Errorf("creating the socket's folder: %w", err)
	}
	if err := os.Symlink(dir, run); err != nil {
		os.Remove(dir)
		return "", fmt.Errorf("noting the socket's folder: %w", err)
	}
	return dir, h.giveRun(dir)
}

func (h *home) giveRun(dir string) error {
	if err := h.user.give(dir); err != nil {
		return fmt.Errorf("giving the socket's folder to user %s: %w", h.user.name, err)
	}
	return nil
}

// removeRun removes the socket's folder of an earlier server. After a reboot
// its name in /tmp may belong to somebody else, whose it then stays.
func (h *home) removeRun() error {
	run := h.path(runName)
	if dir, err := os.Readlink(run); err == nil && strings.HasPrefix(dir, "/tmp/"+socketTemp) {
		info, err := os.Lstat(dir)
		if err == nil && info.IsDir() && h.owns(info) {
			if err := os.RemoveAll(dir); err != nil {
				return fmt.Errorf("removing a stale socket folder: %w", err)
			}
		}
	}
	if err := os.RemoveAll(run); err != nil {
		return fmt.Errorf("removing a stale socket folder: %w", err)
	}
	return nil
}

// owns says that the file belongs to whoever owns the cluster.
func (h *home) owns(info fs.FileInfo) bool {
	cluster, err := os.Stat(h.path(clusterName))
	return err == nil && info.Sys().(*syscall.Stat_t).Uid == cluster.Sys().(*syscall.Stat_t).Uid
}

// tail returns the last n lines, as one.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
