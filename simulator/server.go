package simulator

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config is how a simulator behaves. The zero value works: it registers
// nothing by itself, enforces every documented limit except rates, sends
// receipts at once and keeps the last 10,000 requests of an account.
type Config struct {
	Logger *slog.Logger // default: discard
	Seed   uint64       // same seed, same ids, files, dialogues and dice
	// BaseURL is the address under which the simulator is reached, without a
	// trailing slash; customers' Viber media links start with it. Empty: taken
	// from SetBaseURL or from the last request's Host.
	BaseURL string

	// AutoRegister makes an account of any token of the right shape.
	AutoRegister bool
	// AutoCustomers makes a reachable customer of any plausible receiver.
	AutoCustomers bool
	// RealLimits enforces the platforms' rates on new accounts; see Limits.
	RealLimits bool
	// Lean is for benchmarks: no request records, and 16 messages kept for
	// each customer. Counters stay.
	Lean bool

	KeepRequests  int   // records for each account; default 10,000, none when Lean
	KeepMessages  int   // messages for each customer, both directions; default 1,000, 16 when Lean
	KeepFileBytes int64 // an uploaded file up to this size can be downloaded again; default 4 MiB

	Latency        time.Duration // before each answer; 0: none
	DeliveredAfter time.Duration // from acceptance to the delivered receipt; 0: at once
	SeenAfter      time.Duration // from delivered to seen; 0: at once
	NoReceipts     bool

	WebhookTimeout time.Duration // for one callback; default 5 s
	RetryBase      time.Duration // first delay after the immediate second try; default 1 s, doubles
	RetryMax       time.Duration // default 60 s; up to as much again is added at random
	PollHoldMax    time.Duration // cap of getUpdates' timeout; default 50 s

	Demo *Demo // customers who live by themselves; nil: none
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.KeepRequests == 0 && !c.Lean {
		c.KeepRequests = 10_000
	}
	if c.KeepMessages == 0 {
		c.KeepMessages = 1_000
		if c.Lean {
			c.KeepMessages = 16
		}
	}
	setDefault(&c.KeepFileBytes, 4<<20)
	setDefault(&c.WebhookTimeout, 5*time.Second)
	setDefault(&c.RetryBase, time.Second)
	setDefault(&c.RetryMax, 60*time.Second)
	setDefault(&c.PollHoldMax, 50*time.Second)
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	return c
}

func setDefault[T int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// A platform is one faked messenger. A new one is a file of its own that
// implements platform, account and customer, and its place in New's order.
type platform interface {
	name() string
	// serve answers a platform request; rest is the path after "/<name>/".
	serve(w http.ResponseWriter, r *http.Request, rest string)
	// register makes an account, or returns the one that has this token.
	register(spec AccountSpec) (account, error)
	// find looks an account up by token, by name, or by the public part of its token.
	find(ref string) (account, bool)
	accounts() []account
	// actions lists what its customers can do.
	actions() []string
}

type account interface {
	is(ref string) bool // its token or its name in the control API
	core() *accountCore
	addCustomer(spec CustomerSpec) (customer, error)
	customer(id string) (customer, bool)
	customers() []customer
	// inject queues a raw update as the platform would send it.
	inject(raw []byte) (Sent, error)
	describe() map[string]any
	// changed tells the platform that the account's options have changed.
	changed()
}

// A customer is a person behind a platform. say, share and press are what the
// load and the demo need on every platform; act takes every action of the
// control API, with its arguments as JSON.
type customer interface {
	base() *customerCore
	act(action string, args []byte) (Sent, error)
	say(text string, t *tracker) (Sent, error)
	share(what, caption string, seed uint64) (Sent, error)
	press(button int) (Sent, error)
	view(sinceSeq int64) []Message
	describe() map[string]any
	set(p CustomerPatch) error
}

// Simulator is the fake platforms. Safe for concurrent use.
type Simulator struct {
	cfg       Config
	log       *slog.Logger
	client    *http.Client
	baseURL   atomic.Pointer[string]
	tg        *telegramPlatform
	vb        *viberPlatform
	vk        *vkPlatform
	ok        *okPlatform
	infobip   *infobipPlatform
	mfms      *mfmsPlatform
	platforms map[string]platform
	order     []platform
	control   http.Handler
	faults    faultSet
	media     mediaStore
	loads     loadSet
	demo      *demoLife
	rnd       *lockedRand

	run      runState
	sched    scheduler
	stopped  chan struct{} // closed when Run ends: hanging requests let go
	reserved atomic.Int64  // bytes of uploads kept
}

type runState struct {
	mu      sync.Mutex
	ctx     context.Context
	wg      sync.WaitGroup
	started bool
	running bool
	waiting []func(context.Context) // asked for before Run
}

// ErrAlreadyRun is returned by a second Run.
var ErrAlreadyRun = errors.New("simulator: Run was called before")

// New makes a simulator without accounts.
func New(cfg Config) *Simulator {
	cfg = cfg.withDefaults()
	s := &Simulator{
		cfg: cfg,
		log: cfg.Logger,
		client: &http.Client{
			Transport: &http.Transport{
				// A hundred parallel webhook connections is Telegram's documented
				// maximum; media fetches share the pool.
				MaxIdleConnsPerHost: 256,
				MaxIdleConns:        1024,
				IdleConnTimeout:     30 * time.Second,
				DisableCompression:  true,
			},
			// Telegram does not follow a webhook's redirects; media fetches use
			// their own copy of the client that does.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		rnd:     newLockedRand(cfg.Seed),
		stopped: make(chan struct{}),
	}
	s.sched.wake = make(chan struct{}, 1)
	s.faults.rnd = newLockedRand(cfg.Seed + 1)
	s.media.init()
	base := cfg.BaseURL
	s.baseURL.Store(&base)
	s.tg = newTelegram(s)
	s.vb = newViber(s)
	s.vk = newVK(s)
	s.ok = newOK(s)
	s.infobip = newInfobip(s)
	s.mfms = newMFMS(s)
	s.order = []platform{s.tg, s.vb, s.vk, s.ok, s.infobip, s.mfms}
	s.platforms = map[string]platform{}
	for _, p := range s.order {
		s.platforms[p.name()] = p
	}
	s.control = s.controlRoutes()
	if cfg.Demo != nil {
		s.demo = newDemoLife(s, *cfg.Demo)
	}
	return s
}

// SetBaseURL sets the address under which the simulator is reached.
func (s *Simulator) SetBaseURL(u string) {
	u = strings.TrimRight(u, "/")
	s.baseURL.Store(&u)
}

// BaseURL is the address under which the simulator is reached; empty as long
// as nobody said and no request has come.
func (s *Simulator) BaseURL() string { return *s.baseURL.Load() }

// ServeHTTP answers the platforms' and the control API's requests.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if *s.baseURL.Load() == "" && r.Host != "" {
		u := "http://" + r.Host
		s.baseURL.Store(&u)
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if p, ok := s.platforms[first]; ok {
		p.serve(w, r, rest)
		return
	}
	switch first {
	case "control":
		s.control.ServeHTTP(w, r)
	case "":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, "Fake messengers. Bot APIs under /telegram, /viber, /vk, /ok, /infobip and /mfms, control under /control/accounts.")
	default:
		http.NotFound(w, r)
	}
}

// Run delivers webhooks, sends receipts and lets customers live until ctx ends,
// then waits for everything it started. The error is nil after a cancelled ctx,
// and ErrAlreadyRun on a second call.
func (s *Simulator) Run(ctx context.Context) error {
	s.run.mu.Lock()
	if s.run.started {
		s.run.mu.Unlock()
		return ErrAlreadyRun
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.run.started, s.run.running, s.run.ctx = true, true, ctx
	waiting := s.run.waiting
	s.run.waiting = nil
	s.run.mu.Unlock()
	for _, f := range waiting {
		s.spawn(f)
	}

	s.sched.loop(ctx)

	s.run.mu.Lock()
	s.run.running = false
	s.run.mu.Unlock()
	close(s.stopped)
	cancel()
	s.run.wg.Wait()
	s.client.CloseIdleConnections()
	return nil
}

// spawn runs f in a goroutine that Run owns; before Run it waits for Run, and
// after Run's end it is dropped.
func (s *Simulator) spawn(f func(ctx context.Context)) {
	s.run.mu.Lock()
	defer s.run.mu.Unlock()
	switch {
	case s.run.running:
		ctx := s.run.ctx
		s.run.wg.Go(func() { f(ctx) })
	case !s.run.started:
		s.run.waiting = append(s.run.waiting, f)
	}
}

// after calls f from Run's scheduler, no sooner than d from now. f must not block.
func (s *Simulator) after(d time.Duration, f func()) {
	s.sched.add(time.Now().Add(d), f)
}

// Telegram is the account of a token, registered if it is new. It panics on a
// token that no bot can have, which is a mistake of the caller's program.
func (s *Simulator) Telegram(token string) *TelegramAccount {
	a, err := s.tg.register(AccountSpec{Token: token})
	if err != nil {
		panic(err)
	}
	return a.(*TelegramAccount)
}

// Viber is the account of a token, registered if it is new. It panics on a
// token that no bot can have, which is a mistake of the caller's program.
func (s *Simulator) Viber(token string) *ViberAccount {
	a, err := s.vb.register(AccountSpec{Token: token})
	if err != nil {
		panic(err)
	}
	return a.(*ViberAccount)
}

// VK is the community of a token, registered if it is new. It panics on an empty
// token, which is a mistake of the caller's program.
func (s *Simulator) VK(token string) *VKAccount {
	if token == "" {
		panic("vk: no token")
	}
	a, err := s.vk.register(AccountSpec{Token: token})
	if err != nil {
		panic(err)
	}
	return a.(*VKAccount)
}

// wait pauses a request's handler; false when the client or the simulator has gone.
func (s *Simulator) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-s.stopped:
	}
	return false
}

// scheduler is one queue of things to do later, run by one goroutine.
type scheduler struct {
	mu   sync.Mutex
	heap taskHeap
	seq  uint64
	wake chan struct{}
}

type task struct {
	at  time.Time
	seq uint64
	f   func()
}

type taskHeap []task

func (h taskHeap) Len() int { return len(h) }
func (h taskHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h taskHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *taskHeap) Push(x any)   { *h = append(*h, x.(task)) }
func (h *taskHeap) Pop() any {
	old := *h
	n := len(old) - 1
	t := old[n]
	old[n] = task{}
	*h = old[:n]
	return t
}

func (s *scheduler) add(at time.Time, f func()) {
	s.mu.Lock()
	s.seq++
	heap.Push(&s.heap, task{at, s.seq, f})
	first := s.heap[0].seq == s.seq
	s.mu.Unlock()
	if first {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func (s *scheduler) loop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		var due []func()
		s.mu.Lock()
		now := time.Now()
		for len(s.heap) > 0 && len(due) < 256 {
			if d := s.heap[0].at.Sub(now); d > 0 {
				wait = d
				break
			}
			due = append(due, heap.Pop(&s.heap).(task).f)
		}
		s.mu.Unlock()
		for _, f := range due {
			f()
		}
		if ctx.Err() != nil {
			return
		}
		if len(due) > 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// signal wakes everybody who waits for a change.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// C is closed at the next broadcast. Take it before reading the state.
func (s *signal) C() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) broadcast() {
	s.mu.Lock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
	s.mu.Unlock()
}

// await blocks until cond holds, ctx ends or d has passed; it returns cond's last value.
func await(ctx context.Context, sig *signal, d time.Duration, cond func() bool) bool {
	ch := sig.C()
	if cond() {
		return true
	}
	if d <= 0 {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ch:
		case <-t.C:
			return cond()
		case <-ctx.Done():
			return cond()
		}
		ch = sig.C()
		if cond() {
			return true
		}
	}
}

// lockedRand is a seeded generator for many goroutines.
type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newLockedRand(seed uint64) *lockedRand {
	return &lockedRand{r: rand.New(rand.NewPCG(seed, 0x5157_4954_4348))}
}

func (l *lockedRand) intN(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.IntN(n)
}

func (l *lockedRand) float() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Float64()
}

// fetchableURL reports whether a platform would try to download from u.
func fetchableURL(u string) bool {
	p, err := url.Parse(u)
	return err == nil && (p.Scheme == "http" || p.Scheme == "https") && p.Host != ""
}
