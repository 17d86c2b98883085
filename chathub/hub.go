package chathub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/olahol/melody"
	"github.com/prometheus/client_golang/prometheus"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/auth"
	"switchboard/internal/queue"
	"switchboard/message"
)

// Config sizes a hub. Zero values take the defaults.
type Config struct {
	// PublicURL is where browsers find us; its host may open connections.
	PublicURL string
	// AllowedOrigins are further origins ("https://desk.example.org") whose pages
	// may open connections. A page on the host that is connected to always may.
	AllowedOrigins []string
	// MaxConnections is how many connections the hub holds; more are answered
	// 503. Default 20,000 (each needs a file descriptor).
	MaxConnections int
	// MaxPerOperator is how many connections one operator may have on this hub;
	// the oldest gives way. Default 20.
	MaxPerOperator int
	// MaxFrame is the largest frame of a client, in bytes. Default 256 KiB.
	MaxFrame int64
	// QueueBytes is how much may wait for one connection. Default 4 MiB: a burst
	// of large messages to a supervisor; the bytes of an event are shared by all
	// who wait for it.
	QueueBytes int
	// QueueLength is how many of the waiting chats a hello brings. Default 100.
	QueueLength int
	// MaxReplay is how many missed events are replayed at most. Default 5,000.
	MaxReplay int
	// HelloWait is how long a new connection may wait with its hello. Default 30 s.
	HelloWait time.Duration
	// WriteWait is how long the network may take for one frame. A client that
	// reads again within it is still told 4408, for which the frame that it
	// left half read has to be finished first. Default 15 s.
	WriteWait time.Duration
	// PingEvery and PongWait: a ping every 25 s keeps proxies (usually 60 s)
	// from cutting idle connections; silence for 60 s ends one.
	PingEvery, PongWait time.Duration
	// CallTimeout is how long one call may take. Default 10 s.
	CallTimeout time.Duration
	// SessionCheck is how often ended sessions are looked for. Default 3 s.
	SessionCheck time.Duration
	// PresenceGrace is how long an operator without any connection stays online.
	// Default 15 s; it must be above the time a client takes to reconnect.
	PresenceGrace time.Duration
	// StopWait is how long connections may take to end when the hub stops.
	// Default 3 s.
	StopWait time.Duration
}

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	wait := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.MaxConnections, 20_000)
	def(&c.MaxPerOperator, 20)
	def(&c.QueueBytes, 4<<20)
	def(&c.QueueLength, 100)
	def(&c.MaxReplay, 5000)
	if c.MaxFrame == 0 {
		c.MaxFrame = 256 << 10
	}
	wait(&c.HelloWait, 30*time.Second)
	wait(&c.WriteWait, 15*time.Second)
	wait(&c.PingEvery, 25*time.Second)
	wait(&c.PongWait, 60*time.Second)
	wait(&c.CallTimeout, 10*time.Second)
	wait(&c.SessionCheck, 3*time.Second)
	wait(&c.PresenceGrace, 15*time.Second)
	wait(&c.StopWait, 3*time.Second)
	return c
}

func (c Config) validate() error {
	for name, v := range map[string]int64{
		"MaxConnections": int64(c.MaxConnections), "MaxPerOperator": int64(c.MaxPerOperator), "QueueBytes": int64(c.QueueBytes),
		"QueueLength": int64(c.QueueLength), "MaxReplay": int64(c.MaxReplay), "MaxFrame": c.MaxFrame, "HelloWait": int64(c.HelloWait),
		"WriteWait": int64(c.WriteWait), "PingEvery": int64(c.PingEvery), "PongWait": int64(c.PongWait), "CallTimeout": int64(c.CallTimeout),
		"SessionCheck": int64(c.SessionCheck), "PresenceGrace": int64(c.PresenceGrace), "StopWait": int64(c.StopWait),
	} {
		if v < 0 {
			return fmt.Errorf("chathub: %s is negative", name)
		}
	}
	if c.PingEvery >= c.PongWait {
		return fmt.Errorf("chathub: PingEvery (%s) must be below PongWait (%s)", c.PingEvery, c.PongWait)
	}
	return nil
}

// Chats is what operators do with chats; *db.DB is one. See there for who may
// do what, and for the errors (those of package switchboard).
type Chats interface {
	Chat(ctx context.Context, chatID string) (switchboard.Chat, error)
	ChatHolders(ctx context.Context, chatIDs []string) (map[string]switchboard.Chat, error)
	ChatKey(ctx context.Context, chatID string) (accountID, key string, err error)
	ListChats(ctx context.Context, visibleTo string, state switchboard.ChatState, limit int, cursor string) (chats []switchboard.Chat, next string, err error)
	OperatorChats(ctx context.Context, operatorID string, queue int) ([]switchboard.Chat, error)
	AcceptChat(ctx context.Context, o switchboard.Operator, chatID string) (switchboard.Chat, error)
	DeclineChat(ctx context.Context, o switchboard.Operator, chatID string) (switchboard.Chat, error)
	SkipChat(ctx context.Context, o switchboard.Operator, chatID string) (switchboard.Chat, error)
	CloseChat(ctx context.Context, o switchboard.Operator, chatID string) (switchboard.Chat, error)
	TransferChat(ctx context.Context, o switchboard.Operator, chatID, toOperatorID, toSkill string) (switchboard.Chat, error)
	CustomerByPhone(ctx context.Context, accountID, phone string) (externalID string, err error)
	NotePhone(ctx context.Context, chatID, phone string) error
	StartChat(ctx context.Context, o switchboard.Operator, accountID, externalID string, create bool) (switchboard.Chat, error)
	ReadChat(ctx context.Context, o switchboard.Operator, chatID string, seq int64) (c switchboard.Chat, before int64, err error)
}

// Messages is what operators do with messages.
type Messages interface {
	Message(ctx context.Context, id string) (message.Message, error)
	FilesByID(ctx context.Context, ids []string) ([]message.File, error)
	ReadableFiles(ctx context.Context, o switchboard.Operator, ids []string) (readable []string, err error)
	SendMessage(ctx context.Context, s queue.Send) (m message.Message, created bool, err error)
	EditMessage(ctx context.Context, messageID, text string, allow func(switchboard.Chat) error) (message.Message, error)
	DeleteMessage(ctx context.Context, messageID string, allow func(switchboard.Chat) error) (message.Message, error)
	LogShown(ctx context.Context, list []switchboard.Shown) error
}

// Events is the operators' stream. EventsFor's error is an ErrNotFound when
// events after the given one are not kept any more.
type Events interface {
	EventsFor(ctx context.Context, o switchboard.Operator, after, upTo int64, limit int) ([]switchboard.Event, error)
	// LoadEvents fills in messages and chats, and returns who holds those of messages.
	LoadEvents(ctx context.Context, events []switchboard.Event) (holders map[string]switchboard.Chat, err error)
	LastEvent(ctx context.Context) (int64, error)
}

// People is sessions and presence.
type People interface {
	LiveSessions(ctx context.Context, tokenHashes [][]byte) ([][]byte, error)
	SetPresence(ctx context.Context, operatorID string, p switchboard.Presence) error
	OperatorCame(ctx context.Context, operatorID string) error
	TouchPresence(ctx context.Context, operatorIDs []string) error
	ExpirePresence(ctx context.Context, age time.Duration) (expired int, err error)
}

// Store is what the hub needs of the database.
type Store interface {
	Chats
	Messages
	Events
	People
}

// Tail follows the stream of events from where it was opened; *db.Tail is one.
// Next doesn't wait; blocked says that it can't go on for a few milliseconds.
type Tail interface {
	Pos() int64
	Next(ctx context.Context, limit int) (events []switchboard.Event, blocked bool, err error)
}

// Accounts gives opened channels; *channels.Registry is one.
type Accounts interface {
	Get(ctx context.Context, accountID string) (*channels.Opened, error)
}

// Authenticator tells who opens a connection; *auth.Authenticator is one.
type Authenticator interface {
	Request(r *http.Request) (auth.Principal, error)
}

// Bus rings doorbells; see package bus.
type Bus interface {
	Wake(topic string)
	Subscribe(topic string) (hints <-chan struct{}, cancel func())
}

// Deps is what a hub works with. All but Unavailable are needed.
type Deps struct {
	Store    Store
	OpenTail func(ctx context.Context) (Tail, error)
	Accounts Accounts
	Auth     Authenticator
	Bus      Bus
	// Unavailable tells errors of a database that can't be reached just now from
	// faults; nil knows those of package switchboard and deadlines only.
	Unavailable func(error) bool
	Log         *slog.Logger
	Metrics     prometheus.Registerer
}

// Topics of the bus.
const (
	topicEvents = "events"
	topicOutbox = "outbox"
)

// Hub is the role.
type Hub struct {
	cfg     Config
	deps    Deps
	origins []string // hosts whose pages may connect
	log     *slog.Logger
	metrics *metrics
	methods map[string]method
	typing  *typing
	shown   *shown
	replays chan struct{} // bounds how many replays read the database at once

	// base is the context of calls; it outlives Run's own until the connections
	// have ended. Set by Run before running is.
	base   context.Context
	melody *melody.Melody

	mu       sync.RWMutex
	running  bool // Run is ready for connections and has not begun to stop
	owners   sync.WaitGroup
	conns    map[*conn]struct{}
	live     map[*conn]struct{} // those that have said hello
	managers map[*conn]struct{} // the supervisors among the live ones: they get every event
	byOwner  map[string][]*conn // all of an operator, oldest first
	pos      int64              // events up to here have been handed to the live ones of their time
	follows  bool               // pos is known
}

// New checks cfg and deps and returns a hub that does nothing yet.
func New(cfg Config, deps Deps) (*Hub, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if deps.Store == nil || deps.OpenTail == nil || deps.Accounts == nil || deps.Auth == nil || deps.Bus == nil || deps.Log == nil || deps.Metrics == nil {
		return nil, errors.New("chathub: store, tail, accounts, auth, bus, log and metrics are needed")
	}
	h := &Hub{
		cfg: cfg, deps: deps, log: deps.Log, metrics: newMetrics(deps.Metrics),
		replays: make(chan struct{}, 8),
		conns:   map[*conn]struct{}{}, live: map[*conn]struct{}{}, managers: map[*conn]struct{}{}, byOwner: map[string][]*conn{},
	}
	for _, origin := range append([]string{cfg.PublicURL}, cfg.AllowedOrigins...) {
		if origin == "" {
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("chathub: origin %q; use one like https://desk.example.org", origin)
		}
		h.origins = append(h.origins, strings.ToLower(u.Scheme+"://"+u.Host))
	}
	h.methods = h.allMethods()
	h.typing, h.shown = newTyping(h), newShown(h)
	return h, nil
}

// Methods lists the JSON-RPC methods, sorted.
func (h *Hub) Methods() []string {
	names := make([]string, 0, len(h.methods))
	for name := range h.methods {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Run serves connections until ctx ends. Then it stops sending events, lets
// calls in progress finish, closes every connection with 1012 and waits for
// them, StopWait and two seconds at most. A hub runs once.
func (h *Hub) Run(ctx context.Context) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	h.mu.Lock()
	if h.base != nil {
		h.mu.Unlock()
		return errors.New("running the chat hub: Run was called before")
	}
	h.base, h.melody, h.running = base, h.newMelody(), true
	h.mu.Unlock()

	var producers sync.WaitGroup
	producers.Go(func() { h.follow(ctx) })
	producers.Go(func() { h.watchClocks(ctx) })
	producers.Go(func() { h.watchPeople(ctx) })
	producers.Go(func() { h.shown.run(ctx) })
	h.typing.start(ctx, &producers)

	<-ctx.Done()
	h.mu.Lock()
	h.running = false
	h.mu.Unlock()
	producers.Wait()

	for _, c := range h.all() {
		c.closeAfterCall(closeRestart)
	}
	ended := make(chan struct{})
	go func() {
		h.owners.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(h.cfg.StopWait):
		cancel()
		for _, c := range h.all() {
			c.cut()
		}
		<-ended
	}
	last, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	h.shown.flush(last)
	// Nobody is registered any more, so this only ends melody's own goroutine.
	if err := h.melody.Close(); err != nil {
		return fmt.Errorf("closing melody: %w", err)
	}
	return nil
}

// Ready reports nil when the hub takes connections and follows the events.
func (h *Hub) Ready() error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case !h.running:
		return errors.New("chat hub: not running")
	case !h.follows:
		return errors.New("chat hub: not following the events yet")
	}
	return nil
}

func (h *Hub) all() []*conn {
	h.mu.RLock()
	defer h.mu.RUnlock()
	list := make([]*conn, 0, len(h.conns))
	for c := range h.conns {
		list = append(list, c)
	}
	return list
}

// join counts a connection in. The oldest connection of an operator with too
// many gives way.
func (h *Hub) join(c *conn) {
	h.mu.Lock()
	h.conns[c] = struct{}{}
	var oldest *conn
	if c.refused == 0 {
		mine := append(h.byOwner[c.operator.ID], c)
		h.byOwner[c.operator.ID] = mine
		if extra := len(mine) - h.cfg.MaxPerOperator; extra > 0 {
			oldest = mine[0]
			h.byOwner[c.operator.ID] = slices.Delete(mine, 0, 1)
		}
	}
	h.mu.Unlock()
	h.metrics.connections.Inc()
	if oldest != nil {
		oldest.close(closeReplaced)
	}
}

// leave forgets a connection that has ended.
func (h *Hub) leave(c *conn) {
	h.mu.Lock()
	delete(h.conns, c)
	delete(h.live, c)
	delete(h.managers, c)
	if mine := slices.DeleteFunc(h.byOwner[c.operator.ID], func(o *conn) bool { return o == c }); len(mine) > 0 {
		h.byOwner[c.operator.ID] = mine
	} else {
		delete(h.byOwner, c.operator.ID)
	}
	h.mu.Unlock()
	h.metrics.connections.Dec()
}

func (h *Hub) unavailable(err error) bool {
	return errors.Is(err, switchboard.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		(h.deps.Unavailable != nil && h.deps.Unavailable(err))
}
