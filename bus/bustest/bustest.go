// Package bustest is the suite that every implementation of bus.Bus must pass.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"switchboard/bus"
)

// patience is how long the suite waits for what must happen. It is generous, because it only costs time when a test
// fails.
const patience = 20 * time.Second

// Run tests the buses that open returns: each time two new handles, a and b, that reach each other and nobody else, as
// two processes would. The suite calls their Run. The IDs of their nodes differ.
func Run(t *testing.T, open func(t *testing.T) (a, b bus.Bus)) {
	// Alone, before the parallel ones: it counts goroutines.
	t.Run("RunLeavesNothingBehind", func(t *testing.T) { runLeavesNothingBehind(t, open) })
	for name, test := range map[string]func(*testing.T, func(*testing.T) (a, b bus.Bus)){
		"WakeReachesAllSubscribers":       wakeReachesAllSubscribers,
		"WakeBeforeRunIsKept":             wakeBeforeRunIsKept,
		"LastWakeIsNeverLost":             lastWakeIsNeverLost,
		"TopicsAreApart":                  topicsAreApart,
		"AnyStringIsATopic":               anyStringIsATopic,
		"LateSubscriberStartsWithAHint":   lateSubscriberStartsWithAHint,
		"CanceledSubscriberIsLeftAlone":   canceledSubscriberIsLeftAlone,
		"OneLeaderAtATime":                oneLeaderAtATime,
		"NamesAreLedIndependently":        namesAreLedIndependently,
		"ResignedLeaderHandsOver":         resignedLeaderHandsOver,
		"LeadThatReturnsLeadsAgain":       leadThatReturnsLeadsAgain,
		"StoppedBusHandsOver":             stoppedBusHandsOver,
		"StoppedBusWaitsForItsLeaders":    stoppedBusWaitsForItsLeaders,
		"LastWakeBeforeTheEndIsDelivered": lastWakeBeforeTheEndIsDelivered,
		"NodesComeAndGo":                  nodesComeAndGo,
		"Misuse":                          misuse,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open)
		})
	}
}

// running is a bus whose Run is under way.
type running struct {
	bus.Bus
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// start runs b until the test ends or stop is called, and returns when it is ready.
func start(t *testing.T, b bus.Bus) *running {
	t.Helper()
	r := &running{Bus: b, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.err = b.Run(ctx)
	}()
	t.Cleanup(func() { r.stop(t) })
	Eventually(t, "the bus is ready", func() error { return b.Ready() })
	return r
}

// stop ends Run and waits for it.
func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	select {
	case <-r.done:
		if r.err != nil {
			t.Errorf("Run returned %v, want nil after an orderly end", r.err)
		}
	case <-time.After(patience):
		t.Errorf("Run has not returned %v after its context ended", patience)
	}
}

func startTwo(t *testing.T, open func(*testing.T) (a, b bus.Bus)) (a, b *running) {
	t.Helper()
	x, y := open(t)
	return start(t, x), start(t, y)
}

// Eventually polls until check returns nil, and fails the test with the last error if it does not within 20 s.
func Eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain until %s: %v", patience, what, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Hinted waits for a hint.
func Hinted(t *testing.T, what string, hints <-chan struct{}) {
	t.Helper()
	select {
	case _, open := <-hints:
		if !open {
			t.Fatalf("%s: the channel was closed", what)
		}
	case <-time.After(patience):
		t.Fatalf("%s: no hint within %v", what, patience)
	}
}

// settle consumes the hint a subscription starts with and those that may follow it: it returns when there was none for
// a while, so that the next one is news.
func settle(hints <-chan struct{}) {
	for {
		select {
		case <-hints:
		case <-time.After(100 * time.Millisecond):
			return
		}
	}
}

func subscribe(t *testing.T, b bus.Bus, topic string) <-chan struct{} {
	t.Helper()
	hints, cancel := b.Subscribe(topic)
	t.Cleanup(cancel)
	Hinted(t, "a subscription in force", hints)
	return hints
}

func wakeReachesAllSubscribers(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	subscribers := map[string]<-chan struct{}{
		"first of the waker": subscribe(t, a, "events"), "second of the waker": subscribe(t, a, "events"),
		"first of the other": subscribe(t, b, "events"), "second of the other": subscribe(t, b, "events"),
	}
	for round := range 3 {
		for _, hints := range subscribers {
			settle(hints)
		}
		a.Wake("events")
		for name, hints := range subscribers {
			Hinted(t, fmt.Sprintf("round %d, %s", round, name), hints)
		}
	}
}

// lastWakeIsNeverLost has writers count up as fast as they can and wake after each step, in both processes. Readers
// look at the counter only when hinted; the total they saw last must be the final one.
func lastWakeIsNeverLost(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	const writers, rounds, steps = 4, 5, 300
	var counter atomic.Int64
	type reader struct {
		hints <-chan struct{}
		seen  atomic.Int64
		count atomic.Int64
	}
	readers := make([]*reader, 4)
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	for i := range readers {
		r := &reader{hints: subscribe(t, []bus.Bus{a, b}[i%2], "lanes")}
		readers[i] = r
		reading.Go(func() {
			for {
				select {
				case <-r.hints:
					r.count.Add(1)
					r.seen.Store(counter.Load())
				case <-ctx.Done():
					return
				}
			}
		})
	}
	for round := range rounds {
		var writing sync.WaitGroup
		for w := range writers {
			writing.Go(func() {
				for i := range steps {
					counter.Add(1)
					[]bus.Bus{a, b}[w%2].Wake("lanes")
					if i%50 == 0 {
						runtime.Gosched()
					}
				}
			})
		}
		writing.Wait()
		want := int64((round + 1) * writers * steps)
		for i, r := range readers {
			Eventually(t, fmt.Sprintf("reader %d sees the last step of round %d", i, round), func() error {
				if got := r.seen.Load(); got != want {
					return fmt.Errorf("it saw %d of %d", got, want)
				}
				return nil
			})
		}
	}
	for i, r := range readers {
		t.Logf("reader %d: %d hints for %d wakes", i, r.count.Load(), writers*rounds*steps)
	}
}

func wakeBeforeRunIsKept(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	x, y := open(t)
	b := start(t, y)
	hints := subscribe(t, b, "outbox")
	settle(hints)
	own, cancel := x.Subscribe("outbox")
	defer cancel()
	x.Wake("outbox")
	Hinted(t, "the waker's own subscriber, before Run", own)
	start(t, x)
	Hinted(t, "the other's subscriber, after Run", hints)
}

func lastWakeBeforeTheEndIsDelivered(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	hints := subscribe(t, b, "outbox")
	settle(hints)
	a.Wake("outbox")
	a.cancel()
	Hinted(t, "a wake right before the end", hints)
	a.stop(t)
}

func topicsAreApart(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	events, accounts := subscribe(t, b, "events"), subscribe(t, b, "accounts")
	settle(events)
	settle(accounts)
	a.Wake("events")
	Hinted(t, "the topic that was woken", events)
	select {
	case <-accounts:
		t.Error("a hint of a topic that nobody woke")
	case <-time.After(50 * time.Millisecond):
	}
}

func anyStringIsATopic(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	names := []string{"", ".", "..", "a/b", "a%2Fb", "%", "привет\n", "a.b", " ", "\x00"}
	var all []<-chan struct{}
	for _, name := range names {
		all = append(all, subscribe(t, b, name))
	}
	for _, hints := range all {
		settle(hints)
	}
	for i, name := range names {
		a.Wake(name)
		Hinted(t, fmt.Sprintf("topic %q", name), all[i])
	}
	settle(all[0])
	for i, hints := range all[1:] {
		select {
		case <-hints:
			t.Errorf("topic %q was rung twice for one wake: it shares its doorbell", names[i+1])
		default:
		}
	}
}

func lateSubscriberStartsWithAHint(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	a.Wake("accounts")
	hints, cancel := b.Subscribe("accounts")
	defer cancel()
	Hinted(t, "a subscriber that came after the wake", hints)
	second, cancelSecond := b.Subscribe("accounts")
	defer cancelSecond()
	Hinted(t, "the second subscriber", second)
	settle(second)
	a.Wake("accounts")
	Hinted(t, "the second subscriber, on the next wake", second)
}

func canceledSubscriberIsLeftAlone(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	gone, cancel := b.Subscribe("events")
	Hinted(t, "a subscription in force", gone)
	stays := subscribe(t, b, "events")
	settle(stays)
	settle(gone)
	cancel()
	cancel()
	a.Wake("events")
	Hinted(t, "the one that stays", stays)
	select {
	case _, open := <-gone:
		if !open {
			t.Error("cancel closed the channel")
		} else {
			t.Error("a hint after cancel")
		}
	case <-time.After(50 * time.Millisecond):
	}
	again := subscribe(t, b, "events")
	settle(again)
	a.Wake("events")
	Hinted(t, "a new subscriber of the same topic", again)
}

// Office counts who leads. Its methods are for the lead functions under test.
type Office struct {
	inside  atomic.Int32
	terms   atomic.Int32
	crowded atomic.Bool
	mu      sync.Mutex
	holder  string
}

// Enter notes that holder leads and returns the function to call when it no longer does.
func (o *Office) Enter(holder string) (leave func()) {
	if o.inside.Add(1) > 1 {
		o.crowded.Store(true)
	}
	o.terms.Add(1)
	o.mu.Lock()
	o.holder = holder
	o.mu.Unlock()
	return func() {
		o.mu.Lock()
		if o.holder == holder {
			o.holder = ""
		}
		o.mu.Unlock()
		o.inside.Add(-1)
	}
}

// Holder is who leads, "" if nobody does.
func (o *Office) Holder() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.holder
}

// AwaitHolder waits until one of the named leads and returns which.
func (o *Office) AwaitHolder(t *testing.T, names ...string) string {
	t.Helper()
	var holder string
	Eventually(t, "one of "+strings.Join(names, ", ")+" leads", func() error {
		if holder = o.Holder(); !slices.Contains(names, holder) {
			return fmt.Errorf("the leader is %q", holder)
		}
		return nil
	})
	return holder
}

// Check fails the test if two ever led at the same time.
func (o *Office) Check(t *testing.T) {
	t.Helper()
	if o.crowded.Load() {
		t.Error("two led at the same time")
	}
}

// campaign is a Lead under way.
type campaign struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// lead campaigns for name on b until stop; as leader it stays in office until its context ends.
func lead(t *testing.T, b bus.Bus, name, holder string, o *Office) *campaign {
	t.Helper()
	return leadWith(t, b, name, func(ctx context.Context) {
		defer o.Enter(holder)()
		<-ctx.Done()
	})
}

func leadWith(t *testing.T, b bus.Bus, name string, f func(ctx context.Context)) *campaign {
	ctx, cancel := context.WithCancel(context.Background())
	c := &campaign{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.err = b.Lead(ctx, name, f)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-c.done:
		case <-time.After(patience):
			t.Errorf("Lead has not returned %v after its context ended", patience)
		}
	})
	return c
}

func (c *campaign) stop(t *testing.T) {
	t.Helper()
	c.cancel()
	select {
	case <-c.done:
		if c.err != nil {
			t.Errorf("Lead returned %v, want nil after its context ended", c.err)
		}
	case <-time.After(patience):
		t.Fatalf("Lead has not returned %v after its context ended", patience)
	}
}

func oneLeaderAtATime(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	var o Office
	const rounds = 8
	campaigns := map[string]*campaign{}
	for i := range 6 {
		holder := fmt.Sprint("candidate ", i)
		campaigns[holder] = lead(t, []bus.Bus{a, b}[i%2], "poll", holder, &o)
	}
	for range rounds {
		holder := o.AwaitHolder(t, slices.Collect(keys(campaigns))...)
		campaigns[holder].stop(t)
		delete(campaigns, holder)
		if len(campaigns) < 3 {
			again := holder + "'"
			campaigns[again] = lead(t, b, "poll", again, &o)
		}
	}
	o.Check(t)
}

func keys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func namesAreLedIndependently(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	offices := map[string]*Office{"a/1": {}, "a": {}, "..": {}, "телеграм": {}}
	for name, o := range offices {
		lead(t, a, name, "a", o)
		lead(t, b, name, "b", o)
	}
	for _, o := range offices {
		o.AwaitHolder(t, "a", "b")
		o.Check(t)
	}
}

func resignedLeaderHandsOver(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	var o Office
	first := lead(t, a, "poll", "a", &o)
	o.AwaitHolder(t, "a")
	lead(t, b, "poll", "b", &o)
	// b stands in line or is about to; either way it must not lead before a has left.
	began := time.Now()
	first.stop(t)
	o.AwaitHolder(t, "b")
	t.Logf("hand-over took %v", time.Since(began))
	o.Check(t)
}

func leadThatReturnsLeadsAgain(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	terms := make(chan string)
	for name, x := range map[string]bus.Bus{"a": a, "b": b} {
		leadWith(t, x, "poll", func(ctx context.Context) {
			select {
			case terms <- name: // a short term
			case <-ctx.Done():
			}
		})
	}
	seen := map[string]int{}
	Eventually(t, "both had two terms each", func() error {
		select {
		case name := <-terms:
			seen[name]++
		case <-time.After(patience):
			return errors.New("nobody leads")
		}
		if seen["a"] < 2 || seen["b"] < 2 {
			return fmt.Errorf("terms are %v", seen)
		}
		return nil
	})
}

func stoppedBusHandsOver(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	var o Office
	causes := make(chan error, 1)
	first := leadWith(t, a, "poll", func(ctx context.Context) {
		defer o.Enter("a")()
		<-ctx.Done()
		causes <- context.Cause(ctx)
	})
	o.AwaitHolder(t, "a")
	lead(t, b, "poll", "b", &o)
	a.stop(t)
	if cause := <-causes; !errors.Is(cause, bus.ErrStopped) {
		t.Errorf("the leader's context ended by %v, want ErrStopped", cause)
	}
	o.AwaitHolder(t, "b")
	o.Check(t)
	select {
	case <-first.done:
		if !errors.Is(first.err, bus.ErrStopped) {
			t.Errorf("Lead on a stopped bus returned %v, want ErrStopped", first.err)
		}
	case <-time.After(patience):
		t.Error("Lead on a stopped bus does not return")
	}
}

func stoppedBusWaitsForItsLeaders(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, b := startTwo(t, open)
	var o Office
	told, release := make(chan struct{}), make(chan struct{})
	leadWith(t, a, "poll", func(ctx context.Context) {
		defer o.Enter("a")()
		<-ctx.Done()
		close(told)
		<-release // the leader's last work
	})
	o.AwaitHolder(t, "a")
	lead(t, b, "poll", "b", &o)
	a.cancel()
	<-told
	select {
	case <-a.done:
		t.Error("Run returned while a leader still acted")
	case <-time.After(100 * time.Millisecond):
	}
	if h := o.Holder(); h != "a" {
		t.Errorf("%q leads while the one before still acts", h)
	}
	close(release)
	a.stop(t)
	o.AwaitHolder(t, "b")
	o.Check(t)
}

func nodesComeAndGo(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	x, y := open(t)
	a := start(t, x)
	changes := subscribe(t, a, bus.TopicNodes)
	b := start(t, y)

	// Asks again after each hint only: the hints must suffice.
	await := func(what string, want int) []bus.Node {
		t.Helper()
		deadline := time.After(patience)
		for {
			nodes, err := a.Nodes(t.Context())
			if err == nil && len(nodes) == want {
				return nodes
			}
			select {
			case <-changes:
			case <-deadline:
				t.Fatalf("%s: the list is %v (%v), want %d nodes", what, nodes, err, want)
			}
		}
	}
	nodes := await("both run", 2)
	if nodes[0].ID >= nodes[1].ID {
		t.Errorf("nodes %q and %q are not in order", nodes[0].ID, nodes[1].ID)
	}
	for _, n := range nodes {
		if n.Addr == "" || n.Version == "" || len(n.Roles) == 0 || n.Started.IsZero() {
			t.Errorf("the node is incomplete: %+v", n)
		}
	}
	b.stop(t)
	await("one was stopped", 1)
	if _, err := b.Nodes(t.Context()); err == nil {
		t.Error("a stopped bus lists nodes")
	}
	if b.Ready() == nil {
		t.Error("a stopped bus says it is ready")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Nodes(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a canceled context, Nodes returned %v", err)
	}
}

func misuse(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	a, _ := startTwo(t, open)
	if err := a.Lead(t.Context(), "", func(context.Context) {}); err == nil {
		t.Error("Lead without a name returned nil")
	}
	if err := a.Lead(t.Context(), "poll", nil); err == nil {
		t.Error("Lead without a function returned nil")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Lead(ctx, "poll", func(context.Context) { t.Error("led with a context that had ended") }); err != nil {
		t.Errorf("Lead with a context that had ended returned %v, want nil", err)
	}
	a.stop(t)
	if err := a.Run(t.Context()); err == nil {
		t.Error("a second Run returned nil")
	}
}

func runLeavesNothingBehind(t *testing.T, open func(*testing.T) (a, b bus.Bus)) {
	before := busGoroutines()
	for range 2 {
		a, b := startTwo(t, open)
		var o Office
		ca, cb := lead(t, a, "poll", "a", &o), lead(t, b, "poll", "b", &o)
		o.AwaitHolder(t, "a", "b")
		subscribe(t, a, "events")
		subscribe(t, b, "events")
		a.Wake("events")
		b.Wake("events")
		a.stop(t)
		o.AwaitHolder(t, "b")
		ca.cancel()
		<-ca.done
		cb.stop(t)
		b.stop(t)
		a.Wake("events") // harmless
		b.Wake("events")
	}
	Eventually(t, "all goroutines of the bus have ended", func() error {
		if now := busGoroutines(); len(now) > len(before) {
			return fmt.Errorf("%d before, %d now:\n%s", len(before), len(now), strings.Join(now, "\n\n"))
		}
		return nil
	})
}

// busGoroutines returns the stacks of the goroutines that the bus or its client library started.
func busGoroutines() []string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var found []string
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(stack, "created by switchboard/bus.") || strings.Contains(stack, "created by github.com/go-zookeeper") {
			found = append(found, stack)
		}
	}
	return found
}
