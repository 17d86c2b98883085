package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// beSwitchboard makes the test binary be the program, with the arguments it was
// given, instead of running tests: no second build, and the race detector
// watches the processes too (one that saw a race exits with 66).
const beSwitchboard = "SWITCHBOARD_TEST_BE_THE_PROGRAM"

// process is a running switchboard. It is killed when its test ends, or dies
// with the test process.
type process struct {
	name   string
	pid    int
	exited chan struct{} // closed when it has been waited for; code is set then
	code   int           // -1: killed

	serving chan struct{} // closed when it said where it listens; the rest is set then
	http    string        // host:port
	ops     string
	node    string

	mu       sync.Mutex
	out, log bytes.Buffer
	line     []byte
}

// launch starts switchboard with these arguments and nothing in the environment
// but env. The process lives no longer than owner, which may be t or the test
// that t is part of.
func launch(t, owner *testing.T, name, dir string, env map[string]string, stdin string, args ...string) *process {
	t.Helper()
	p := &process{name: name, exited: make(chan struct{}), serving: make(chan struct{})}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Dir = dir
	// The race detector would wait for a second at every exit.
	cmd.Env = []string{beSwitchboard + "=1", "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = writer(p.writeOut), writer(p.writeLog)
	cmd.WaitDelay = 5 * time.Second // should a grandchild hold the pipes
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// Pdeathsig is sent when the thread that forked ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait()
			p.code = cmd.ProcessState.ExitCode()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	owner.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.exited
		if owner.Failed() && p.code != 0 {
			owner.Logf("%s (pid %d, exit code %d); its log ends:\n%s", name, p.pid, p.code, p.tail(25))
		}
	})
	return p
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func (p *process) writeOut(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

// writeLog keeps the log and looks for the line that tells the addresses.
func (p *process) writeLog(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log.Write(b)
	p.line = append(p.line, b...)
	for {
		i := bytes.IndexByte(p.line, '\n')
		if i < 0 {
			return len(b), nil
		}
		var entry struct{ Msg, HTTP, Ops, Node string }
		if json.Unmarshal(p.line[:i], &entry) == nil && entry.Msg == "serving" {
			p.http, p.ops, p.node = entry.HTTP, entry.Ops, entry.Node
			close(p.serving)
		}
		p.line = p.line[i+1:]
	}
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *process) logText() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *process) tail(n int) string {
	lines := strings.Split(strings.TrimRight(p.logText(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// signal sends a signal, unless the process has been waited for: its id may be
// another's then.
func (p *process) signal(sig syscall.Signal) {
	if !p.gone() {
		_ = syscall.Kill(p.pid, sig)
	}
}

// kill ends it as a power cut would.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// wait returns its exit code.
func (p *process) wait(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(limit):
		t.Fatalf("%s runs after %v still; its log ends:\n%s", p.name, limit, p.tail(25))
	}
	return p.code
}

// terminate asks it to end, as every service manager does, and returns how long
// that took. It must end in order, within 30 s.
func (p *process) terminate(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	p.signal(syscall.SIGTERM)
	if code := p.wait(t, patience); code != 0 {
		t.Errorf("%s ended with exit code %d after SIGTERM; its log ends:\n%s", p.name, code, p.tail(25))
	}
	return time.Since(began)
}

// awaitServing returns when the process has told its addresses and is ready.
func (p *process) awaitServing(t *testing.T) {
	t.Helper()
	select {
	case <-p.serving:
	case <-p.exited:
		t.Fatalf("%s ended with exit code %d while starting; its log ends:\n%s", p.name, p.code, p.tail(25))
	case <-time.After(60 * time.Second):
		t.Fatalf("%s does not serve; its log ends:\n%s", p.name, p.tail(25))
	}
	eventually(t, patience, p.name+" is ready", func() bool {
		status, _ := get("http://"+p.ops+"/readyz", "")
		return status == http.StatusOK
	})
}

// gauge reads a metric without labels; -1 when it is not there.
func (p *process) gauge(name string) float64 {
	status, text := get("http://"+p.ops+"/metrics", "")
	if m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(text); status == http.StatusOK && m != nil {
		if v, err := strconv.ParseFloat(m[1], 64); err == nil {
			return v
		}
	}
	return -1
}

// probes has a time limit: a stopped process accepts connections, by its kernel,
// and answers nothing.
var probes = &http.Client{Timeout: 5 * time.Second}

// get returns status 0 when there was no answer.
func get(url, token string) (status int, body string) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return 0, err.Error()
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := probes.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(text)
}

// eventually asks again and again until cond holds.
func eventually(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(limit); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("after %v it still does not hold that %s", limit, what)
		}
	}
}
