// Package s3test runs a real S3 server (versitygw) for tests.
package s3test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"switchboard/filestore"
)

const (
	access = "test-access"
	secret = "test-secret-key"
)

var shared struct {
	once sync.Once
	addr string
	err  error
}

// Shared returns the configuration of an S3 server that all tests of the
// process share, with a bucket of the test's own. The server is the one at
// SWITCHBOARD_TEST_S3 (host:port, keys test-access and test-secret-key), or a
// versitygw that ends with the process. Without it the test fails.
func Shared(t testing.TB, bucket string) filestore.S3Config {
	t.Helper()
	shared.once.Do(func() {
		if shared.addr = os.Getenv("SWITCHBOARD_TEST_S3"); shared.addr == "" {
			shared.addr, shared.err = start()
		}
	})
	if shared.err != nil {
		t.Fatalf("no S3 server: %v", shared.err)
	}
	return filestore.S3Config{Endpoint: shared.addr, Bucket: bucket, AccessKey: access, SecretKey: secret, Region: "us-east-1"}
}

// root is the module's folder.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// binary finds versitygw where the setup script puts it, or builds it there.
func binary() (string, error) {
	path := filepath.Join(root(), ".cache", "bin", "versitygw")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	build := exec.Command("go", "build", "-o", tmp, "github.com/versity/versitygw/cmd/versitygw")
	build.Dir = filepath.Join(root(), "tools", "s3server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building versitygw: %w\n%s", err, out)
	}
	return path, os.Rename(tmp, path)
}

func start() (string, error) {
	bin, err := binary()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "s3test-")
	if err != nil {
		return "", err
	}
	for range 5 { // another process may take the free port first
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		addr := l.Addr().String()
		l.Close()
		if err = launch(bin, addr, dir); err == nil {
			return addr, nil
		}
		if shared.err = err; err != nil {
			continue
		}
	}
	return "", shared.err
}

func launch(bin, addr, dir string) error {
	cmd := exec.Command(bin, "--access", access, "--secret", secret, "--port", addr, "--region", "us-east-1", "--quiet", "posix", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	exited := make(chan struct{})
	go func() {
		// Pdeathsig is sent when the thread that forked ends: it must live as
		// long as the server, and so does this goroutine.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting versitygw: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		var d net.Dialer
		if conn, err := d.DialContext(ctx, "tcp", addr); err == nil {
			return conn.Close()
		}
		select {
		case <-exited:
			return fmt.Errorf("versitygw ended at once on %s", addr)
		case <-ctx.Done():
			_ = cmd.Process.Kill()
			return fmt.Errorf("versitygw does not listen on %s", addr)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
