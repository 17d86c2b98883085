package bus_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"switchboard/bus"
	"switchboard/bus/bustest"
	"switchboard/internal/zktest"
)

// member is a running bus with what the tests below want to know of it.
type member struct {
	*bus.ZooKeeper
	id   string
	addr atomic.Value // string: the server dialed last

	terms chan string // the causes of ended leaderships
	stop  func()
}

// join runs a bus until the test ends or stop is called. Ready or not is the caller's business.
func join(t testing.TB, id, root string, servers []string, timeout time.Duration) *member {
	t.Helper()
	m := &member{id: id, terms: make(chan string, 1000)}
	m.addr.Store("")
	m.ZooKeeper = newZooKeeper(t, id, bus.ZooKeeperConfig{
		Servers: servers, Root: root, SessionTimeout: timeout,
		Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil {
				m.addr.Store(address)
			}
			return conn, err
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		if err := m.Run(ctx); err != nil {
			t.Errorf("%s: Run: %v", id, err)
		}
	})
	m.stop = func() { cancel(); work.Wait() }
	t.Cleanup(m.stop)
	return m
}

func (m *member) ready(t *testing.T) *member {
	t.Helper()
	bustest.Eventually(t, m.id+" is ready", m.Ready)
	return m
}

// campaign leads name as a well-behaved leader until the test ends.
func (m *member) campaign(t *testing.T, name string, o *bustest.Office) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		err := m.Lead(ctx, name, func(ctx context.Context) {
			defer o.Enter(m.id)()
			<-ctx.Done()
			select {
			case m.terms <- context.Cause(ctx).Error():
			default: // nobody reads so many; the leaders must end
			}
		})
		if err != nil && !errors.Is(err, bus.ErrStopped) {
			t.Errorf("%s: Lead: %v", m.id, err)
		}
	})
	t.Cleanup(func() { cancel(); work.Wait() })
}

func (m *member) lists(t *testing.T, ids ...string) {
	t.Helper()
	bustest.Eventually(t, fmt.Sprintf("%s lists the nodes %v", m.id, ids), func() error {
		nodes, err := m.Nodes(t.Context())
		if err != nil {
			return err
		}
		var got []string
		for _, n := range nodes {
			got = append(got, n.ID)
		}
		if !slices.Equal(got, ids) {
			return fmt.Errorf("it lists %v", got)
		}
		return nil
	})
}

// deposed waits for the end of m's leadership and returns its cause.
func (m *member) deposed(t *testing.T) string {
	t.Helper()
	select {
	case cause := <-m.terms:
		return cause
	case <-time.After(20 * time.Second):
		t.Fatalf("%s leads still", m.id)
		return ""
	}
}

func (m *member) notReady() error {
	if m.Ready() == nil {
		return errors.New("it says it is ready")
	}
	return nil
}

func drain(hints <-chan struct{}) {
	for {
		select {
		case <-hints:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

// reaches checks that a wake of from arrives at hints.
func reaches(t *testing.T, from *member, topic string, hints <-chan struct{}) {
	t.Helper()
	drain(hints)
	from.Wake(topic)
	bustest.Hinted(t, "a wake by "+from.id, hints)
}

// TestEnsemble breaks one three-node ensemble in turn; each part leaves it whole.
func TestEnsemble(t *testing.T) {
	t.Parallel()
	e := zktest.Start(t, 3)
	restart := func(t *testing.T, nodes ...int) {
		t.Helper()
		for _, i := range nodes {
			if err := e.StartNode(i); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		if err := e.WaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	nodeAt := func(addr string) int { return slices.Index(e.Servers(), addr) }

	t.Run("a follower is killed", func(t *testing.T) {
		var o bustest.Office
		// a and b know the followers only, so that it is one of them that dies; each has another to go to.
		var followers []string
		for i, s := range e.Servers() {
			if i != e.Leader() {
				followers = append(followers, s)
			}
		}
		root := zktest.Root(t)
		a := join(t, "a", root, followers, 6*time.Second).ready(t)
		a.campaign(t, "poll", &o)
		o.AwaitHolder(t, "a")
		b := join(t, "b", root, followers, 6*time.Second).ready(t)
		b.campaign(t, "poll", &o)
		hints, cancel := b.Subscribe("events")
		defer cancel()
		victim := nodeAt(a.addr.Load().(string))
		e.KillNode(victim)
		began := time.Now()
		reaches(t, a, "events", hints)
		t.Logf("hints flow %v after the kill", time.Since(began))
		if got := o.Holder(); got != "a" {
			t.Errorf("%q leads; the session of a survived and a should", got)
		}
		if len(a.terms) > 0 {
			t.Errorf("leadership ended by %q although the session survived", <-a.terms)
		}
		o.Check(t)
		restart(t, victim)
	})

	t.Run("the leader is killed", func(t *testing.T) {
		var o bustest.Office
		root := zktest.Root(t)
		a := join(t, "a", root, e.Servers(), 6*time.Second).ready(t)
		b := join(t, "b", root, e.Servers(), 6*time.Second).ready(t)
		a.campaign(t, "poll", &o)
		b.campaign(t, "poll", &o)
		o.AwaitHolder(t, "a", "b")
		hints, cancel := b.Subscribe("events")
		defer cancel()
		victim := e.Leader()
		e.KillNode(victim)
		began := time.Now()
		reaches(t, a, "events", hints)
		t.Logf("hints flow %v after the kill", time.Since(began))
		o.AwaitHolder(t, "a", "b")
		o.Check(t)
		a.lists(t, "a", "b")
		restart(t, victim)
	})

	t.Run("a server freezes", func(t *testing.T) {
		var o bustest.Office
		root := zktest.Root(t)
		const timeout = 9 * time.Second // a third of it is what a loaded machine may be late
		leader := e.Leader()
		var followers []string
		for i, s := range e.Servers() {
			if i != leader {
				followers = append(followers, s)
			}
		}
		a := join(t, "a", root, followers, timeout).ready(t)
		a.campaign(t, "poll", &o)
		o.AwaitHolder(t, "a")
		victim := nodeAt(a.addr.Load().(string))
		e.Pause(victim)
		defer e.Resume(victim)
		began := time.Now()
		bustest.Eventually(t, "a uses another server", func() error {
			if got := nodeAt(a.addr.Load().(string)); got == victim {
				return fmt.Errorf("it uses %d", got)
			}
			return nil
		})
		t.Logf("the session moved %v after the freeze", time.Since(began))
		bustest.Eventually(t, "a new round of proof", func() error {
			if time.Since(began) < timeout {
				return errors.New("too early to say")
			}
			return a.Ready()
		})
		if len(a.terms) > 0 {
			t.Errorf("leadership ended by %q: a frozen server must be left before the session is in doubt", <-a.terms)
		}
	})
	restart(t)

	t.Run("the quorum is lost and regained", func(t *testing.T) {
		var o bustest.Office
		root := zktest.Root(t)
		const timeout = 2 * time.Second
		a := join(t, "a", root, e.Servers(), timeout).ready(t)
		b := join(t, "b", root, e.Servers(), timeout).ready(t)
		a.campaign(t, "poll", &o)
		b.campaign(t, "poll", &o)
		holder := o.AwaitHolder(t, "a", "b")
		local, cancelLocal := a.Subscribe("events")
		defer cancelLocal()
		remote, cancelRemote := b.Subscribe("events")
		defer cancelRemote()
		bustest.Hinted(t, "b's subscription", remote)

		e.KillNode(0)
		e.KillNode(1)
		began := time.Now()
		cause := map[string]*member{"a": a, "b": b}[holder].deposed(t)
		if took := time.Since(began); cause != bus.ErrInDoubt.Error() || took > timeout {
			t.Errorf("leadership ended by %q after %v, want by doubt within %v", cause, took, timeout)
		}
		bustest.Eventually(t, "a is not ready", a.notReady)
		bustest.Eventually(t, "b is not ready", b.notReady)
		t.Logf("a says: %v", a.Ready())
		if _, err := a.Nodes(t.Context()); err == nil {
			t.Error("nodes are listed without a quorum")
		}
		drain(local)
		a.Wake("events")
		bustest.Hinted(t, "the local subscriber", local)
		if h := o.Holder(); h != "" {
			t.Errorf("%q leads without a quorum", h)
		}
		drain(remote)
		restart(t, 0, 1)
		bustest.Hinted(t, "the remote subscriber, after the quorum is back", remote)
		a.ready(t)
		b.ready(t)
		o.AwaitHolder(t, "a", "b")
		o.Check(t)
		a.lists(t, "a", "b")
		reaches(t, a, "events", remote)
		reaches(t, b, "events", local)
	})
}

// TestKilledProcessIsReplaced kills a leader (SIGKILL) with the default timeout.
func TestKilledProcessIsReplaced(t *testing.T) {
	t.Parallel()
	root, servers := zktest.Root(t), zktest.Shared(t)
	var o bustest.Office
	b := join(t, "b", root, servers, 0).ready(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestLeadUntilKilled$")
	cmd.Env = append(os.Environ(), "BUS_TEST_SERVERS="+strings.Join(servers, ","), "BUS_TEST_ROOT="+root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "leading"; {
	}
	b.campaign(t, "poll", &o)
	b.lists(t, "a", "b")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	began := time.Now()
	o.AwaitHolder(t, "b")
	took := time.Since(began)
	t.Logf("fail-over after kill -9 took %v", took)
	if took > 10*time.Second {
		t.Errorf("fail-over took %v, want less than 10 s", took)
	}
	b.lists(t, "b")
}

// TestLeadUntilKilled is the process that TestKilledProcessIsReplaced kills; without its instructions it does nothing.
func TestLeadUntilKilled(t *testing.T) {
	servers := os.Getenv("BUS_TEST_SERVERS")
	if servers == "" {
		return
	}
	m := join(t, "a", os.Getenv("BUS_TEST_ROOT"), strings.Split(servers, ","), 0)
	_ = m.Lead(t.Context(), "poll", func(ctx context.Context) {
		fmt.Println("leading")
		<-ctx.Done()
	})
}

// TestPartition cuts off one of two contenders, each several times as long as a session lives, and lets it return.
func TestPartition(t *testing.T) {
	t.Parallel()
	e := zktest.Start(t, 3)
	const timeout = 1500 * time.Millisecond
	for name, cut := range map[string]func(*zktest.Proxy){
		"silence": (*zktest.Proxy).Freeze,
		"refusal": (*zktest.Proxy).Cut,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var o bustest.Office
			root := zktest.Root(t)
			proxies, addrs := zktest.NewProxies(t, e.Servers())
			a := join(t, "a", root, addrs, timeout).ready(t)
			a.campaign(t, "poll", &o)
			o.AwaitHolder(t, "a")
			b := join(t, "b", root, e.Servers(), timeout).ready(t)
			b.campaign(t, "poll", &o)
			b.lists(t, "a", "b")
			atA, cancelA := a.Subscribe("events")
			defer cancelA()
			bustest.Hinted(t, "a's subscription", atA)
			atB, cancelB := b.Subscribe("outbox")
			defer cancelB()
			bustest.Hinted(t, "b's subscription", atB)
			drain(atB)

			for _, p := range proxies {
				cut(p)
			}
			began := time.Now()
			cause := a.deposed(t)
			stopped := time.Now()
			if cause != bus.ErrInDoubt.Error() || stopped.Sub(began) > timeout*2/3+300*time.Millisecond {
				t.Errorf("a stopped by %q after %v, want by doubt within 2/3 of %v", cause, stopped.Sub(began), timeout)
			}
			o.AwaitHolder(t, "b")
			t.Logf("a stopped %v after the cut, b leads after %v", stopped.Sub(began), time.Since(began))
			b.lists(t, "b")
			if a.Ready() == nil {
				t.Error("a says it is ready")
			}
			a.Wake("outbox") // is kept
			drain(atA)
			b.Wake("events") // is missed by a, which learns of it by its return

			for _, p := range proxies {
				p.Heal()
			}
			bustest.Hinted(t, "b, of what a did meanwhile", atB)
			bustest.Hinted(t, "a, on its return", atA)
			a.ready(t)
			b.lists(t, "a", "b")
			a.lists(t, "a", "b")
			reaches(t, a, "outbox", atB)
			reaches(t, b, "events", atA)
			if h := o.Holder(); h != "b" {
				t.Errorf("%q leads after a's return, want b still", h)
			}
			b.stop()
			o.AwaitHolder(t, "a")
			o.Check(t)
			a.lists(t, "a")
		})
	}
}

// TestFlappingConnection counts up and wakes while the reader's and the writer's connections break again and again;
// the reader must end with the last count, and nothing of this ends a leadership.
func TestFlappingConnection(t *testing.T) {
	t.Parallel()
	servers := zktest.Shared(t)
	proxies, addrs := zktest.NewProxies(t, slices.Concat(servers, servers, servers)[:3])
	root := zktest.Root(t)
	var o bustest.Office
	a := join(t, "a", root, addrs, 6*time.Second).ready(t)
	b := join(t, "b", root, addrs, 6*time.Second).ready(t)
	a.campaign(t, "poll", &o)
	o.AwaitHolder(t, "a")
	b.campaign(t, "poll", &o)

	var counter, seen atomic.Int64
	hints, cancel := b.Subscribe("events")
	defer cancel()
	ctx, end := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer end()
	work.Go(func() {
		for {
			select {
			case <-hints:
				seen.Store(counter.Load())
			case <-ctx.Done():
				return
			}
		}
	})
	quit := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for tick := time.NewTicker(500 * time.Microsecond); ; {
			select {
			case <-tick.C:
				counter.Add(1)
				a.Wake("events")
			case <-quit:
				tick.Stop()
				return
			}
		}
	})
	for i := range 30 {
		p := proxies[i%3]
		for _, other := range proxies {
			other.Heal()
		}
		p.Cut()
		time.Sleep(time.Duration(20+i*3) * time.Millisecond) // the length of the trouble, not a wait for anything
	}
	for _, p := range proxies {
		p.Heal()
	}
	close(quit)
	writing.Wait()
	bustest.Eventually(t, "the reader has seen the last step", func() error {
		if got, want := seen.Load(), counter.Load(); got != want {
			return fmt.Errorf("it saw %d of %d", got, want)
		}
		return nil
	})
	if len(a.terms) > 0 || o.Holder() != "a" {
		t.Errorf("%q leads, %d leaderships of a ended: short breaks should end none", o.Holder(), len(a.terms))
	}
	o.Check(t)
}

func TestZooKeeperAwayAtStart(t *testing.T) {
	t.Parallel()
	proxies, addrs := zktest.NewProxies(t, zktest.Shared(t)[:1])
	proxies[0].Cut()
	m := join(t, "a", zktest.Root(t), addrs, 2*time.Second)
	var o bustest.Office
	m.campaign(t, "poll", &o)
	hints, cancel := m.Subscribe("events")
	defer cancel()
	m.Wake("events")
	bustest.Hinted(t, "the local subscriber", hints)
	bustest.Eventually(t, "the reason is known", func() error {
		if err := m.Ready(); err == nil || !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "reset") {
			return fmt.Errorf("it says %v", err)
		}
		return nil
	})
	t.Logf("it says: %v", m.Ready())
	if o.Holder() != "" {
		t.Error("it leads without a session")
	}
	proxies[0].Heal()
	m.ready(t)
	o.AwaitHolder(t, "a")
	m.lists(t, "a")
}

func TestEndsSoonWhenZooKeeperIsAway(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*zktest.Proxy){
		"silence": (*zktest.Proxy).Freeze,
		"refusal": (*zktest.Proxy).Cut,
	} {
		for _, before := range []string{"before the session", "in the session"} {
			t.Run(name+" "+before, func(t *testing.T) {
				t.Parallel()
				proxies, addrs := zktest.NewProxies(t, zktest.Shared(t)[:1])
				var o bustest.Office
				if before == "before the session" {
					cut(proxies[0])
				}
				m := join(t, "a", zktest.Root(t), addrs, 30*time.Second)
				m.campaign(t, "poll", &o)
				if before == "in the session" {
					o.AwaitHolder(t, "a")
					cut(proxies[0])
				} else {
					bustest.Eventually(t, "it dials", func() error {
						if m.addr.Load() == "" {
							return errors.New("not yet")
						}
						return nil
					})
				}
				m.Wake("events")
				began := time.Now()
				m.stop()
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("Run took %v to end, want at most 3 s", took)
				}
			})
		}
	}
}

// TestForeignHands deletes what the bus has written.
func TestForeignHands(t *testing.T) {
	t.Parallel()
	root := zktest.Root(t)
	servers := zktest.Shared(t)
	a := join(t, "a", root, servers, 4*time.Second).ready(t)
	var o bustest.Office
	a.campaign(t, "poll", &o)
	o.AwaitHolder(t, "a")
	a.lists(t, "a")
	hints, cancel := a.Subscribe("events")
	defer cancel()
	bustest.Hinted(t, "the subscription", hints)

	conn, _, err := zk.Connect(servers, 4*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	remove := func(path string) {
		t.Helper()
		if err := conn.Delete(path, -1); err != nil {
			t.Fatalf("deleting %s: %v", path, err)
		}
	}
	remove(root + "/nodes/a")
	bustest.Eventually(t, "the process is registered again", func() error {
		if ok, _, err := conn.Exists(root + "/nodes/a"); err != nil || !ok {
			return fmt.Errorf("its node is there: %v (%v)", ok, err)
		}
		return nil
	})
	a.lists(t, "a")

	candidates, _, err := conn.Children(root + "/leaders/poll")
	if err != nil || len(candidates) != 1 {
		t.Fatalf("candidates are %v (%v), want one", candidates, err)
	}
	remove(root + "/leaders/poll/" + candidates[0])
	if cause := a.deposed(t); cause != bus.ErrDeposed.Error() {
		t.Errorf("leadership ended by %q, want %q", cause, bus.ErrDeposed)
	}
	o.AwaitHolder(t, "a")

	drain(hints)
	remove(root + "/wake/events")
	bustest.Hinted(t, "the topic, when its node was deleted", hints)
	b := join(t, "b", root, servers, 4*time.Second).ready(t)
	reaches(t, b, "events", hints)

	if _, err := conn.Create(root+"/nodes/stranger", []byte("not json"), zk.FlagPersistent, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	a.lists(t, "a", "b", "stranger")
}

// TestNodeIDIsTakenOver restarts a process under its old id while the old session still lives.
func TestNodeIDIsTakenOver(t *testing.T) {
	t.Parallel()
	root := zktest.Root(t)
	servers := zktest.Shared(t)
	proxies, addrs := zktest.NewProxies(t, servers[:1])
	old := join(t, "a", root, addrs, 2*time.Second).ready(t)
	old.lists(t, "a")
	was, err := old.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	proxies[0].Freeze()
	m := join(t, "a", root, servers, 2*time.Second).ready(t)
	bustest.Eventually(t, "the list shows the new process", func() error {
		nodes, err := m.Nodes(t.Context())
		if err != nil {
			return err
		}
		if len(nodes) != 1 || nodes[0].Started.Equal(was[0].Started) {
			return fmt.Errorf("it shows %v", nodes)
		}
		return nil
	})
}

// TestCandidatesLeaveNoNodes enters and leaves elections at every moment and looks at what is left.
func TestCandidatesLeaveNoNodes(t *testing.T) {
	t.Parallel()
	root := zktest.Root(t)
	servers := zktest.Shared(t)
	proxies, addrs := zktest.NewProxies(t, slices.Concat(servers, servers)[:2])
	m := join(t, "a", root, addrs, 6*time.Second).ready(t)
	var o bustest.Office
	m.campaign(t, "poll", &o)
	o.AwaitHolder(t, "a")

	var work sync.WaitGroup
	for i := range 60 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*300*time.Microsecond)
		work.Go(func() {
			defer cancel()
			if err := m.Lead(ctx, "poll", func(ctx context.Context) { t.Error("a second leader") }); err != nil {
				t.Errorf("Lead: %v", err)
			}
		})
		if i%10 == 5 {
			proxies[i/10%2].Cut()
			proxies[i/10%2].Heal()
		}
	}
	work.Wait()
	conn, _, err := zk.Connect(servers, 4*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	bustest.Eventually(t, "only the leader's node is left", func() error {
		names, _, err := conn.Children(root + "/leaders/poll")
		if err != nil || len(names) != 1 {
			return fmt.Errorf("there are %d (%v)", len(names), err)
		}
		return nil
	})
	if o.Holder() != "a" {
		t.Error("the leader has gone")
	}
}

// TestManyElections has one process lead many names and another take them all over, in order and then after a cut.
func TestManyElections(t *testing.T) {
	t.Parallel()
	const names = 200
	root := zktest.Root(t)
	servers := zktest.Shared(t)
	proxies, addrs := zktest.NewProxies(t, servers[:1])
	const timeout = 2 * time.Second
	a := join(t, "a", root, servers, timeout).ready(t)
	b := join(t, "b", root, addrs, timeout).ready(t)
	c := join(t, "c", root, servers, timeout).ready(t)
	offices := make([]bustest.Office, names)
	allBy := func(holder string) {
		t.Helper()
		for i := range offices {
			offices[i].AwaitHolder(t, holder)
		}
	}
	for i, m := range []*member{a, b, c} {
		m.terms = make(chan string, names)
		for i := range offices {
			m.campaign(t, fmt.Sprint("account ", i), &offices[i])
		}
		// The candidates of a are the first in line, then those of b.
		bustest.Eventually(t, "all stand in line", func() error { return inLine(servers, root, (i+1)*names) })
	}
	allBy("a")
	began := time.Now()
	a.stop()
	allBy("b")
	t.Logf("%d names handed over in %v", names, time.Since(began))
	proxies[0].Freeze()
	began = time.Now()
	allBy("c")
	t.Logf("%d names taken over %v after a partition", names, time.Since(began))
	for i := range offices {
		offices[i].Check(t)
	}
	proxies[0].Heal()
	b.lists(t, "b", "c")
}

// inLine reports whether there are as many candidates below root as wanted.
func inLine(servers []string, root string, want int) error {
	conn, _, err := zk.Connect(servers, 4*time.Second, zk.WithLogInfo(false))
	if err != nil {
		return err
	}
	defer conn.Close()
	elections, _, err := conn.Children(root + "/leaders")
	if err != nil {
		return err
	}
	got := 0
	for _, e := range elections {
		names, _, err := conn.Children(root + "/leaders/" + e)
		if err != nil {
			return err
		}
		got += len(names)
	}
	if got != want {
		return fmt.Errorf("%d candidates, want %d", got, want)
	}
	return nil
}

// BenchmarkWakeToHint measures one wake at a time from one process's session to another's, on three nodes that sync
// every write to disk. The rest between two wakes is that of coalescing, so what is timed is the leading edge.
func BenchmarkWakeToHint(b *testing.B) {
	e := zktest.Start(b, 3)
	root := zktest.Root(b)
	from := join(b, "a", root, e.Servers(), 0)
	to := join(b, "b", root, e.Servers(), 0)
	hints, cancel := to.Subscribe("events")
	defer cancel()
	<-hints
	for from.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	drain(hints)
	var times []time.Duration
	for b.Loop() {
		b.StopTimer()
		time.Sleep(10 * time.Millisecond)
		drainNow(hints)
		b.StartTimer()
		began := time.Now()
		from.Wake("events")
		<-hints
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-us")
}

func drainNow(hints <-chan struct{}) {
	select {
	case <-hints:
	default:
	}
}

// BenchmarkWake measures what Wake costs its caller, in a running bus.
func BenchmarkWake(b *testing.B) {
	servers := zktest.Shared(b)
	m := join(b, "a", zktest.Root(b), servers, 0)
	_, cancel := m.Subscribe("events")
	defer cancel()
	for b.Loop() {
		m.Wake("events")
	}
}
