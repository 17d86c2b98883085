package bus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ZooKeeperConfig says which ensemble to use and how. Zero fields take the defaults given.
type ZooKeeperConfig struct {
	// Servers of the ensemble, host:port each, at least one. Names are looked up at every dial.
	Servers []string
	// Root is the path everything lives under; it is created when missing. Default "/switchboard".
	Root string
	// SessionTimeout is how long the ensemble waits for a silent process before it declares it dead: 1 s to 60 s. The
	// default of 6 s plus the server's rounding up to its tick (2 s by default) makes a fail-over in less than 10 s. A
	// leader stops after 2/3 of it without proof of life, and a lower value makes pauses of the disk or the garbage
	// collector look like deaths. The server may grant another value; the shorter of the two counts here.
	SessionTimeout time.Duration
	// Logger takes what an operator should know: sessions, leadership, trouble. Default: nothing is logged.
	Logger *slog.Logger
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
	// Dialer replaces the connection to a server, for TLS or tests; it gets addresses as given in Servers.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	defaultRoot           = "/switchboard"
	defaultSessionTimeout = 6 * time.Second
	minSessionTimeout     = time.Second
	maxSessionTimeout     = 60 * time.Second

	// coalesce is the shortest time between two writes of one writer to one topic. A synced write of a three-node
	// ensemble takes about 1 ms and it takes 13,000 in a second: 5 ms lets 16 processes ring four topics each without
	// pause and stay at the half of that, and adds at most 5 ms to a hint that follows another.
	coalesce = 5 * time.Millisecond

	// retryPause separates attempts at something that ZooKeeper refused or a broken connection swallowed.
	retryPause = 50 * time.Millisecond

	// flushTimeout bounds the last writes of pending wakes when Run ends.
	flushTimeout = 500 * time.Millisecond
)

// ZooKeeper is the bus of many processes. The package comment describes its protocol.
type ZooKeeper struct {
	cfg      ZooKeeperConfig
	self     Node
	instance string // random; tells our own writes from those of others
	log      *slog.Logger
	metrics  *metrics
	hints    *exchange

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change of what follows, and of the session's state
	phase    phase
	session  *session // the current one; nil before, between and after
	topics   map[string]*topic
	leads    int    // lead functions in progress
	nodes    []Node // the last list read in the current session, sorted by ID; nil until then
	lastErr  error  // why there is no live session, for Ready
	lastLive time.Time

	stopping chan struct{} // closed when Run begins to end: leaders stop
	stopped  chan struct{} // closed when Run has ended
}

type phase int

const (
	phaseNew phase = iota
	phaseRunning
	phaseStopped
)

// NewZooKeeper checks the configuration. Nothing is dialed before Run.
func NewZooKeeper(cfg ZooKeeperConfig, self Node) (*ZooKeeper, error) {
	if cfg.Root == "" {
		cfg.Root = defaultRoot
	}
	if cfg.SessionTimeout == 0 {
		cfg.SessionTimeout = defaultSessionTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dialer == nil {
		cfg.Dialer = (&net.Dialer{}).DialContext
	}
	cfg.Servers = slices.Clone(cfg.Servers)
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configuring zookeeper bus: %w", err)
	}
	if self.ID == "" {
		return nil, errors.New("configuring zookeeper bus: the node's id is empty")
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("configuring zookeeper bus: %w", err)
	}
	return &ZooKeeper{
		cfg: cfg, self: self.clone(), instance: newID(), log: cfg.Logger, metrics: m,
		hints:    newExchange(),
		changed:  make(chan struct{}),
		topics:   make(map[string]*topic),
		stopping: make(chan struct{}),
		stopped:  make(chan struct{}),
	}, nil
}

func (cfg *ZooKeeperConfig) validate() error {
	if len(cfg.Servers) == 0 {
		return errors.New("no servers given")
	}
	for _, server := range cfg.Servers {
		host, port, err := net.SplitHostPort(server)
		if err != nil || host == "" || port == "" {
			return fmt.Errorf("server %q is not host:port", server)
		}
	}
	if !strings.HasPrefix(cfg.Root, "/") || cfg.Root == "/" || strings.HasSuffix(cfg.Root, "/") || strings.Contains(cfg.Root, "//") {
		return fmt.Errorf("root %q is not a path such as %q", cfg.Root, defaultRoot)
	}
	if cfg.SessionTimeout < minSessionTimeout || cfg.SessionTimeout > maxSessionTimeout {
		return fmt.Errorf("session timeout %v is not within %v and %v", cfg.SessionTimeout, minSessionTimeout, maxSessionTimeout)
	}
	return nil
}

// Run implements Bus. It ends within the time that leaders need to stop, at most one session timeout, plus 3 s.
func (z *ZooKeeper) Run(ctx context.Context) error {
	z.mu.Lock()
	if z.phase != phaseNew {
		z.mu.Unlock()
		return errors.New("running bus: Run was called before")
	}
	z.phase = phaseRunning
	z.notifyLocked()
	z.mu.Unlock()

	for ctx.Err() == nil {
		s, err := z.open()
		if err != nil {
			z.finish()
			return fmt.Errorf("running bus: %w", err)
		}
		z.attend(ctx, s)
		s.close()
	}
	z.finish()
	return nil
}

// attend returns when the session has expired, or has been brought to an end because ctx ended.
func (z *ZooKeeper) attend(ctx context.Context, s *session) {
	remind := time.NewTimer(z.cfg.SessionTimeout)
	defer remind.Stop()
	for {
		select {
		case <-s.gone:
			z.log.Warn("zookeeper session expired")
			z.metrics.lost.WithLabelValues("expired").Inc()
			return
		case <-ctx.Done():
			z.retire(s)
			return
		case <-remind.C: // once: what happens to a session that was live is logged when it happens
			if err := z.Ready(); err != nil {
				z.log.Warn("zookeeper is not reachable; trying on", "err", err)
			}
		}
	}
}

// retire ends in order what depends on the session: leaders first, so that no successor starts beside them, then the
// wakes they left.
func (z *ZooKeeper) retire(s *session) {
	z.mu.Lock()
	close(z.stopping)
	z.notifyLocked()
	z.mu.Unlock()
	patience := time.NewTimer(z.cfg.SessionTimeout)
	defer patience.Stop()
	for {
		z.mu.Lock()
		leads, changed := z.leads, z.changed
		z.mu.Unlock()
		if leads == 0 {
			break
		}
		select {
		case <-changed:
			continue
		case <-s.gone:
		case <-patience.C:
			z.log.Error("leaders still act although they were told to stop; leaving without them", "leaders", leads)
		}
		break
	}
	s.flush()
}

func (z *ZooKeeper) finish() {
	z.mu.Lock()
	defer z.mu.Unlock()
	select {
	case <-z.stopping:
	default:
		close(z.stopping)
	}
	z.phase = phaseStopped
	close(z.stopped)
	z.notifyLocked()
}

// Wake implements Bus.
func (z *ZooKeeper) Wake(name string) {
	z.hints.ring(name)
	z.metrics.wakes.Inc()
	push(z.topic(name, false).dirty)
}

// Subscribe implements Bus.
func (z *ZooKeeper) Subscribe(name string) (<-chan struct{}, func()) {
	bell, cancel := z.hints.subscribe(name)
	t := z.topic(name, true)
	z.mu.Lock()
	armed := t.armed
	z.mu.Unlock()
	if armed {
		push(bell)
	} // else the watcher rings all bells of the topic when it has armed the watch
	return bell, cancel
}

// topic returns the state of the named topic and, if watch is set, has it watched from now on.
func (z *ZooKeeper) topic(name string, watch bool) *topic {
	z.mu.Lock()
	defer z.mu.Unlock()
	t := z.topics[name]
	if t == nil {
		t = &topic{name: name, dirty: make(chan struct{}, 1)}
		z.topics[name] = t
		z.notifyLocked()
	}
	if watch && !t.watched {
		t.watched = true
		z.notifyLocked()
	}
	return t
}

// Nodes implements Bus. It answers from the list that the session keeps current by a watch.
func (z *ZooKeeper) Nodes(ctx context.Context) ([]Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := z.Ready(); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.nodes == nil {
		return nil, errors.New("listing nodes: not read yet in this session")
	}
	nodes := make([]Node, len(z.nodes))
	for i, n := range z.nodes {
		nodes[i] = n.clone()
	}
	return nodes, nil
}

// Ready implements Bus.
func (z *ZooKeeper) Ready() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	switch {
	case z.phase == phaseNew:
		return errors.New("bus does not run yet")
	case z.phase == phaseStopped:
		return ErrStopped
	case z.session != nil && z.session.lease != nil:
		return nil
	}
	since := "yet"
	if !z.lastLive.IsZero() {
		since = "for " + time.Since(z.lastLive).Round(100*time.Millisecond).String()
	}
	err := z.lastErr
	if err == nil {
		err = errors.New("connecting")
	}
	return fmt.Errorf("no live zookeeper session %s (%s): %w", since, strings.Join(z.cfg.Servers, ","), err)
}

// notifyLocked wakes everybody who waits for a change of state.
func (z *ZooKeeper) notifyLocked() {
	close(z.changed)
	z.changed = make(chan struct{})
}

func (z *ZooKeeper) path(parts ...string) string {
	var b strings.Builder
	b.WriteString(z.cfg.Root)
	for _, part := range parts {
		b.WriteByte('/')
		b.WriteString(part)
	}
	return b.String()
}

// escape turns any string into the name of a znode, and different ones into different names.
func escape(name string) string {
	switch name {
	case "":
		return "%"
	case ".":
		return "%2E"
	case "..":
		return "%2E%2E"
	}
	return url.PathEscape(name)
}

// newID returns 16 random hexadecimal digits.
func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
