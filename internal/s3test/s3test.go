// Package s3test runs a real S3 server (versitygw) for tests.
//
// All tests of a process share one server. It is that of SWITCHBOARD_TEST_S3 when
// it is set, or else one that is started on first use on a free loopback port,
// over a temporary folder, and dies with the process. Its program is the one that
// scripts/setup.sh built, or is built here from tools/s3server.
package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"switchboard/filestore"
)

// The variables that name a server to use instead: host:port, and its keys.
const (
	EndpointVariable  = "SWITCHBOARD_TEST_S3"
	AccessKeyVariable = "SWITCHBOARD_TEST_S3_ACCESS_KEY"
	SecretKeyVariable = "SWITCHBOARD_TEST_S3_SECRET_KEY"
)

const (
	region = "us-east-1"
	// startTimeout is generous: the server is up in 50 ms, but the machine may run
	// a dozen packages at once.
	startTimeout = 30 * time.Second
	dirPrefix    = "switchboard-s3test-"
)

var shared struct {
	once   sync.Once
	config filestore.S3Config
	err    error
}

// Shared returns how to reach bucket on the process's server, which every test of
// that name shares; Check of a filestore.S3 makes it. Without a server the test
// fails.
func Shared(t testing.TB, bucket string) filestore.S3Config {
	t.Helper()
	shared.once.Do(func() { shared.config, shared.err = open() })
	if shared.err != nil {
		t.Fatalf("s3test: no S3 server: %v", shared.err)
	}
	config := shared.config
	config.Bucket = bucket
	return config
}

func open() (filestore.S3Config, error) {
	if endpoint := os.Getenv(EndpointVariable); endpoint != "" {
		return filestore.S3Config{Endpoint: endpoint, AccessKey: os.Getenv(AccessKeyVariable), SecretKey: os.Getenv(SecretKeyVariable), Region: region}, nil
	}
	program, err := program()
	if err != nil {
		return filestore.S3Config{}, err
	}
	removeLeftovers()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", dirPrefix, os.Getpid()))
	if err != nil {
		return filestore.S3Config{}, err
	}
	// Keys of our own: whoever else may listen on the port is told from our server.
	config := filestore.S3Config{AccessKey: "test" + rand.Text(), SecretKey: rand.Text(), Region: region}
	for range 5 { // another process may take the free port first
		if config.Endpoint, err = freePort(); err != nil {
			return config, err
		}
		if err = launch(program, dir, config); err == nil {
			return config, nil
		}
	}
	return config, err
}

// removeLeftovers clears the folders of processes that are no more: a server dies
// with its process and can't clear its own.
func removeLeftovers() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*")) // fails for bad patterns only
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// root is the module's folder.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// program finds versitygw where the setup script puts it, or builds it there (45 s
// the first time). Of several processes one builds and the others wait.
func program() (string, error) {
	path := filepath.Join(root(), ".cache", "bin", "versitygw")
	module := filepath.Join(root(), "tools", "s3server")
	if current(path, module) {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("waiting for the build of versitygw: %w", err)
	}
	if current(path, module) {
		return path, nil
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", path+".new", "github.com/versity/versitygw/cmd/versitygw")
	build.Dir = module
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building versitygw: %w\n%s", err, out)
	}
	return path, os.Rename(path+".new", path)
}

// current tells whether the program is newer than the versions it is built from.
func current(path, module string) bool {
	built, err := os.Stat(path)
	if err != nil {
		return false
	}
	pinned, err := os.Stat(filepath.Join(module, "go.sum"))
	return err == nil && built.ModTime().After(pinned.ModTime())
}

func launch(program, dir string, config filestore.S3Config) error {
	cmd := exec.Command(program, "--port", config.Endpoint, "--region", config.Region, "--quiet", "posix", dir)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+config.AccessKey, "ROOT_SECRET_ACCESS_KEY="+config.SecretKey)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var output bytes.Buffer // read after the end only
	cmd.Stdout, cmd.Stderr = &output, &output
	started, exited := make(chan error, 1), make(chan struct{})
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
	config.Bucket = "ready"
	client, err := filestore.NewS3(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var dialer net.Dialer
	for {
		// The client would wait between its own attempts for longer than this.
		conn, err := dialer.DialContext(ctx, "tcp", config.Endpoint)
		if err == nil {
			_ = conn.Close()
			if err = client.Check(ctx); err == nil {
				return nil
			}
		}
		select {
		case <-exited:
			return fmt.Errorf("versitygw ended at once on %s: %s", config.Endpoint, output.String())
		case <-ctx.Done():
			_ = cmd.Process.Kill()
			<-exited
			return fmt.Errorf("versitygw does not answer on %s: %w: %s", config.Endpoint, err, output.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
