package zktest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
)

// EnvServers names the variable with the host:port list, separated by commas, of an ensemble that Shared should use
// instead of starting one.
const EnvServers = "SWITCHBOARD_TEST_ZOOKEEPER"

const (
	// startTimeout is generous: three nodes answer after 1 s on two idle cores, and after 10 s on busy ones.
	startTimeout = 40 * time.Second
	// attempts at finding a set of free ports.
	startAttempts = 5
	// dirPattern begins with the process's id, by which sweep knows whose folder it is.
	dirPrefix = "zktest-"
)

// jars are the class path; the first one names the rest of what it needs in its manifest.
var jars = []string{"/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar"}

// Ensemble is a running ZooKeeper of one or more nodes, numbered from 0.
type Ensemble struct {
	dir   string
	nodes []*node
}

// node is one server. Its ports never change.
type node struct {
	dir                string
	client, peer, vote int // ports; peer and vote are unused by a single node

	mu   sync.Mutex
	proc *process // nil while the node is down
}

// process is one life of a node.
type process struct {
	pid    int
	exited chan struct{} // closed when the process has been waited for
}

// Start runs an ensemble of the given number of nodes (1 or 3, or 5) that ends with the test. When the test has failed,
// the last lines of each node's log are added to the test's. It fails the test if a part is missing.
func Start(tb testing.TB, nodes int) *Ensemble {
	tb.Helper()
	e, err := Open(nodes)
	if err != nil {
		tb.Fatalf("zktest: %v", err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			for i := range e.nodes {
				tb.Logf("zktest: end of node %d's log:\n%s", i, e.logTail(i, 25))
			}
		}
		e.Stop()
	})
	return e
}

// Open is Start for programs other than tests: the caller calls Stop.
func Open(nodes int) (*Ensemble, error) {
	if nodes < 1 {
		return nil, fmt.Errorf("starting zookeeper: %d nodes", nodes)
	}
	java, err := findParts()
	if err != nil {
		return nil, err
	}
	sweep()
	var errs []error
	for range startAttempts {
		e, err := start(java, nodes)
		if err == nil {
			return e, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("starting zookeeper with %d nodes: %w", nodes, errors.Join(errs...))
}

// shared is the ensemble of the test process. Tests have no common owner to hold it, hence the package variable; it is
// never stopped because nobody knows which test is the last: the kernel ends it with the process.
var shared struct {
	once     sync.Once
	ensemble *Ensemble
	err      error
}

// Shared returns the servers that EnvServers names, or else those of a single node that is started on first use and
// lives as long as the test process. Tests on it keep apart by Root. Nobody may kill it.
func Shared(tb testing.TB) []string {
	tb.Helper()
	if list := os.Getenv(EnvServers); list != "" {
		return strings.Split(list, ",")
	}
	shared.once.Do(func() { shared.ensemble, shared.err = Open(1) })
	if shared.err != nil {
		tb.Fatalf("zktest: %v", shared.err)
	}
	return shared.ensemble.Servers()
}

// Root returns a path below which no other test works, such as "/test-1f0a2b3c4d5e6f70".
func Root(tb testing.TB) string {
	tb.Helper()
	return fmt.Sprintf("/test-%016x", rand.Uint64())
}

// Servers lists the nodes' client addresses, host:port, in the order of their numbers.
func (e *Ensemble) Servers() []string {
	servers := make([]string, len(e.nodes))
	for i, n := range e.nodes {
		servers[i] = n.addr()
	}
	return servers
}

// KillNode ends node i as a power cut would (SIGKILL) and waits until the process is gone. A stopped node is no error.
func (e *Ensemble) KillNode(i int) {
	n := e.nodes[i]
	n.mu.Lock()
	p := n.proc
	n.proc = nil
	n.mu.Unlock()
	if p == nil {
		return
	}
	_ = syscall.Kill(p.pid, syscall.SIGKILL)
	<-p.exited
}

// StartNode brings node i back on its old ports with its old data, and returns when its process runs; WaitReady tells
// when it serves.
func (e *Ensemble) StartNode(i int) error {
	java, err := findParts()
	if err != nil {
		return err
	}
	return e.nodes[i].start(java)
}

// WaitReady returns when every node that has a process serves clients.
func (e *Ensemble) WaitReady(ctx context.Context) error {
	for i, n := range e.nodes {
		for {
			p := n.process()
			if p == nil {
				break
			}
			if n.mode() != "" {
				break
			}
			select {
			case <-p.exited:
				return fmt.Errorf("node %d ended while starting; its log ends:\n%s", i, e.logTail(i, 15))
			case <-ctx.Done():
				return fmt.Errorf("waiting for node %d: %w; its log ends:\n%s", i, ctx.Err(), e.logTail(i, 15))
			case <-time.After(25 * time.Millisecond):
			}
		}
	}
	return nil
}

// Leader returns the number of the node that leads (or stands alone), -1 if none does at this moment.
func (e *Ensemble) Leader() int {
	for i, n := range e.nodes {
		if n.process() == nil {
			continue
		}
		if m := n.mode(); m == "leader" || m == "standalone" {
			return i
		}
	}
	return -1
}

// Len is the number of nodes, dead ones included.
func (e *Ensemble) Len() int { return len(e.nodes) }

// PID returns the process id of node i, 0 while it is down. For signals, SIGSTOP above all: see Pause.
func (e *Ensemble) PID(i int) int {
	if p := e.nodes[i].process(); p != nil {
		return p.pid
	}
	return 0
}

// Pause freezes node i (SIGSTOP) and returns when all its threads stand still: it accepts connections, by its kernel,
// and answers nothing.
func (e *Ensemble) Pause(i int) {
	e.signal(i, syscall.SIGSTOP)
	for deadline := time.Now().Add(5 * time.Second); !stopped(e.PID(i)) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // the kernel has no other way of telling
	}
}

// Resume lets a paused node go on.
func (e *Ensemble) Resume(i int) { e.signal(i, syscall.SIGCONT) }

func (e *Ensemble) signal(i int, sig syscall.Signal) {
	if pid := e.PID(i); pid != 0 {
		_ = syscall.Kill(pid, sig)
	}
}

// Stop kills all nodes and removes their data.
func (e *Ensemble) Stop() {
	for i := range e.nodes {
		e.KillNode(i)
	}
	_ = os.RemoveAll(e.dir)
}

func (e *Ensemble) logTail(i, lines int) string {
	raw, err := os.ReadFile(e.nodes[i].logFile())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func start(java string, count int) (_ *Ensemble, err error) {
	dir, err := os.MkdirTemp("", dirPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, err
	}
	e := &Ensemble{dir: dir}
	defer func() {
		if err != nil {
			e.Stop()
		}
	}()
	ports, err := freePorts(3 * count)
	if err != nil {
		return nil, err
	}
	for i := range count {
		e.nodes = append(e.nodes, &node{
			dir:    filepath.Join(dir, "node"+strconv.Itoa(i)),
			client: ports[3*i], peer: ports[3*i+1], vote: ports[3*i+2],
		})
	}
	for i, n := range e.nodes {
		if err := n.configure(i, e.nodes); err != nil {
			return nil, err
		}
	}
	for _, n := range e.nodes {
		if err := n.start(java); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := e.WaitReady(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

func (n *node) configure(i int, all []*node) error {
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "tickTime=500\ninitLimit=20\nsyncLimit=10\nmaxClientCnxns=0\nadmin.enableServer=false\n")
	fmt.Fprintf(&b, "4lw.commands.whitelist=*\nminSessionTimeout=1000\nmaxSessionTimeout=60000\ndataDir=%s\n", n.dir)
	if len(all) == 1 {
		fmt.Fprintf(&b, "clientPort=%d\nclientPortAddress=127.0.0.1\n", n.client)
	} else {
		for j, o := range all {
			fmt.Fprintf(&b, "server.%d=127.0.0.1:%d:%d;127.0.0.1:%d\n", j+1, o.peer, o.vote, o.client)
		}
		if err := os.WriteFile(filepath.Join(n.dir, "myid"), []byte(strconv.Itoa(i+1)), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(n.configFile(), []byte(b.String()), 0o644)
}

func (n *node) start(java string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil {
		return errors.New("starting zookeeper: the node runs already")
	}
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(java,
		"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-Dzookeeper.preAllocSize=1024", // KiB a log file grows by; 64 MiB at a time is for real servers
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
		"-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", strings.Join(jars, ":"),
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", n.configFile())
	cmd.Dir = n.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	p := &process{exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the *thread* that forked ends, so this one is kept until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed is how it ends
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting java: %w", err)
	}
	n.proc = p
	return nil
}

func (n *node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

func (n *node) addr() string       { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.client)) }
func (n *node) configFile() string { return filepath.Join(n.dir, "zoo.cfg") }
func (n *node) logFile() string    { return filepath.Join(n.dir, "server.log") }

// mode asks the server what it is: leader, follower, standalone, or "" when it does not serve. The command is srvr:
// ruok says imok long before there is a quorum.
func (n *node) mode() string {
	conn, err := net.DialTimeout("tcp", n.addr(), time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := conn.Write([]byte("srvr")); err != nil {
		return ""
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if mode, ok := strings.CutPrefix(lines.Text(), "Mode: "); ok {
			return mode
		}
	}
	return ""
}

// stopped reports whether every thread of a process is in state T.
func stopped(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, stat := range stats {
		raw, err := os.ReadFile(stat)
		if err != nil {
			continue // the thread has ended
		}
		// "tid (name) state ...", where the name may hold anything.
		if i := strings.LastIndexByte(string(raw), ')'); i < 0 || !strings.HasPrefix(string(raw[i:]), ") T") {
			return false
		}
	}
	return true
}

// findParts returns the java to run, or says what to install.
func findParts() (java string, err error) {
	java, err = exec.LookPath("java")
	if err != nil {
		return "", errors.New("java is missing: apt-get install --no-install-recommends zookeeper")
	}
	for _, jar := range jars {
		if _, err := os.Stat(jar); err != nil {
			return "", fmt.Errorf("%s is missing: apt-get install --no-install-recommends zookeeper", jar)
		}
	}
	return java, nil
}

// freePorts returns ports that nobody listened on a moment ago.
func freePorts(count int) ([]int, error) {
	const low, high = 12000, 32000 // below the range of outgoing connections
	var ports []int
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range 50 * count {
		if len(ports) == count {
			return ports, nil
		}
		port := low + rand.IntN(high-low)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		held = append(held, l) // kept open so that no port is drawn twice
		ports = append(ports, port)
	}
	return nil, errors.New("no free ports on 127.0.0.1")
}

// sweep removes the folders of test processes that are no more: a shared ensemble is never stopped in order.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
}
