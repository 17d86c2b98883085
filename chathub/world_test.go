package chathub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"switchboard"
	"switchboard/bus"
	"switchboard/channels"
	"switchboard/chathub"
	"switchboard/db"
	"switchboard/internal/auth"
	"switchboard/internal/dbtest"
	"switchboard/internal/queue"
	"switchboard/internal/secret"
	"switchboard/message"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// fakeChannel is a channel that takes everything and notes typing signs.
type fakeChannel struct {
	channels.Channel
	typing chan string
}

func (*fakeChannel) Plan(*message.Outbound) ([]message.Part, error) { return nil, nil }

func (f *fakeChannel) Typing(_ context.Context, chat string) error {
	f.typing <- chat
	return nil
}

// accounts are opened channels by account.
type accounts struct {
	mu     sync.Mutex
	opened map[string]*channels.Opened
	err    error
}

func (a *accounts) Get(_ context.Context, id string) (*channels.Opened, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return nil, a.err
	}
	o := a.opened[id]
	if o == nil {
		return nil, channels.ErrNoAccount
	}
	return o, nil
}

// world is a database with an account and a bus, for one or more hubs.
type world struct {
	t        *testing.T
	d        *db.DB
	pool     *pgxpool.Pool
	bus      *bus.Memory
	acc      string
	accounts *accounts
	channel  *fakeChannel
	updates  atomic.Int64
}

func everything(platform string) message.Capabilities {
	return message.Capabilities{
		Platform: platform,
		Send: []message.Kind{message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice, message.KindSticker, message.KindDocument,
			message.KindContact, message.KindLocation, message.KindTemplate},
		ReplyKeyboard: true, InlineKeyboard: true, ReplyTo: true, Edit: true, Delete: true, Typing: true, StartByID: true,
		Text: message.Limit{Max: 100, Unit: message.UnitRunes}, MaxParts: 2, MaxFiles: 2, FileBytes: map[message.Kind]int64{message.KindDocument: 1000},
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	pool := dbtest.New(t)
	d, err := db.New(pool, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, d: d, pool: pool, bus: bus.NewMemory(bus.Node{ID: "test"}), accounts: &accounts{opened: map[string]*channels.Opened{}},
		channel: &fakeChannel{typing: make(chan string, 100)}}
	w.acc = w.account(everything("fake"))
	return w
}

func (w *world) account(caps message.Capabilities) string {
	w.t.Helper()
	a, err := w.d.AddAccount(w.t.Context(), switchboard.Account{Platform: caps.Platform, Name: caps.Platform}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.accounts.mu.Lock()
	defer w.accounts.mu.Unlock()
	w.accounts.opened[a.ID] = &channels.Opened{Account: channels.Account{ID: a.ID, Platform: caps.Platform}, State: "active", Channel: w.channel, Capabilities: caps, TTL: time.Hour}
	return a.ID
}

// person is an operator with a session.
type person struct {
	switchboard.Operator
	token string
	hash  []byte
}

func (w *world) person(login string, role switchboard.Role) *person {
	w.t.Helper()
	o, err := w.d.AddOperator(w.t.Context(), switchboard.Operator{Login: login, Name: "Name of " + login, Role: role}, "hash")
	if err != nil {
		w.t.Fatal(err)
	}
	p := &person{Operator: o}
	p.token, p.hash = secret.NewToken()
	if err := w.d.AddSession(w.t.Context(), o.ID, p.hash, time.Now().Add(time.Hour)); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// customer brings updates of customers in, as edge and workers do.
func (w *world) customer(updates ...message.Update) {
	w.t.Helper()
	raws := make([]queue.RawUpdate, len(updates))
	for i, u := range updates {
		u.Customer = message.Profile{ID: u.Chat, Name: "Customer " + u.Chat}
		b, err := json.Marshal(u)
		if err != nil {
			w.t.Fatal(err)
		}
		raws[i] = queue.RawUpdate{AccountID: w.acc, DedupKey: fmt.Sprint("u", w.updates.Add(1)), ChatKey: u.Chat, Raw: b}
	}
	if err := w.d.Append(w.t.Context(), raws); err != nil {
		w.t.Error(err)
		return
	}
	var lanes []int32
	for _, r := range raws {
		lanes = append(lanes, int32(db.LaneOf(r.AccountID, r.ChatKey)))
	}
	slices.Sort(lanes)
	for _, lane := range slices.Compact(lanes) {
		_, err := w.d.Drain(w.t.Context(), []int32{lane}, 1000, func(stored []queue.StoredUpdate) []queue.Decoded {
			out := make([]queue.Decoded, len(stored))
			for i, s := range stored {
				var u message.Update
				out[i].Platform = "fake"
				if out[i].Err = json.Unmarshal(s.Raw, &u); out[i].Err == nil {
					out[i].Updates = []message.Update{u}
				}
			}
			return out
		})
		if err != nil {
			w.t.Error(err)
			return
		}
	}
	w.bus.Wake("events")
}

func says(chat, body string) message.Update {
	return message.Update{Kind: message.UpdateMessage, Chat: chat, PlatformID: fmt.Sprint("p", time.Now().UnixNano()), Content: message.Content{Kind: message.KindText, Text: body}}
}

// chat makes a chat with one message of the customer, served by p, or waiting.
func (w *world) chat(key string, p *person) string {
	w.t.Helper()
	w.customer(says(key, "hello from "+key))
	id := w.chatID(key)
	if p != nil {
		if _, err := w.d.AcceptChat(w.t.Context(), p.Operator, id); err != nil {
			w.t.Fatal(err)
		}
		w.bus.Wake("events")
	}
	return id
}

func (w *world) chatID(key string) (id string) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), `select id from chats where account_id = $1 and external_id = $2`, w.acc, key).Scan(&id); err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// server is a running hub.
type server struct {
	*chathub.Hub
	addr     string
	registry *prometheus.Registry
	stop     func() // ends Run and waits; may be called again
	stopped  chan struct{}
}

// hooks let a test come between the hub and its database.
type hooks struct {
	chathub.Store
	load func() error
}

func (s *hooks) LoadEvents(ctx context.Context, events []switchboard.Event) (map[string]switchboard.Chat, error) {
	if s.load != nil {
		if err := s.load(); err != nil {
			return nil, err
		}
	}
	return s.Store.LoadEvents(ctx, events)
}

func (w *world) hub(change func(*chathub.Config, *chathub.Deps)) *server {
	w.t.Helper()
	// Most tests neither want nor need the pace of production.
	cfg := chathub.Config{SessionCheck: 100 * time.Millisecond}
	reg := prometheus.NewRegistry()
	deps := chathub.Deps{
		Store: w.d, Accounts: w.accounts, Auth: auth.New(w.d, slog.New(slog.DiscardHandler)), Bus: w.bus,
		OpenTail:    func(ctx context.Context) (chathub.Tail, error) { return w.d.OpenTail(ctx) },
		Unavailable: db.IsUnavailable, Log: slog.New(slog.NewTextHandler(testLog{w.t}, &slog.HandlerOptions{Level: slog.LevelInfo})), Metrics: reg,
	}
	if change != nil {
		change(&cfg, &deps)
	}
	h, err := chathub.New(cfg, deps)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	s := &server{Hub: h, registry: reg, stopped: make(chan struct{})}
	go func() {
		defer close(s.stopped)
		if err := h.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}()
	front := httptest.NewServer(h.Handler())
	s.addr = front.Listener.Addr().String()
	s.stop = func() {
		cancel()
		<-s.stopped
	}
	w.t.Cleanup(func() {
		s.stop()
		front.Close()
	})
	eventually(w.t, "hub ready", func() bool { return h.Ready() == nil })
	return s
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// rpcError is an error answer.
type rpcError struct {
	Code    int
	Message string
	Data    struct{ Code, Detail string }
}

func (e *rpcError) Error() string { return fmt.Sprint(e.Code, " ", e.Data.Code, ": ", e.Data.Detail) }

// event is a notification's params.
type event struct {
	Cursor   string                `json:"cursor"`
	Type     switchboard.EventType `json:"type"`
	ChatID   string                `json:"chat_id"`
	Message  *message.Message      `json:"message"`
	Chat     *switchboard.Chat     `json:"chat"`
	Operator map[string]string     `json:"operator"`
	raw      string
}

type frame struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *rpcError       `json:"error"`
}

// client is an operator's client.
type client struct {
	t    *testing.T
	ws   *websocket.Conn
	next int

	mu      sync.Mutex
	events  []event
	answers map[string]frame
	closed  error
	changed chan struct{} // closed and replaced at every change
}

// dial connects without reading.
func dial(s *server, header http.Header, path string) (*websocket.Conn, *http.Response, error) {
	d := websocket.Dialer{HandshakeTimeout: patience}
	return d.Dial("ws://"+s.addr+"/ws/v1"+path, header)
}

func connect(t *testing.T, s *server, p *person) *client {
	t.Helper()
	ws, _, err := dial(s, http.Header{"Authorization": {"Bearer " + p.token}}, "")
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, ws)
}

func newClient(t *testing.T, ws *websocket.Conn) *client {
	c := &client{t: t, ws: ws, answers: map[string]frame{}, changed: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.read()
	}()
	t.Cleanup(func() {
		_ = ws.Close()
		<-done
	})
	return c
}

func (c *client) read() {
	for {
		_, b, err := c.ws.ReadMessage()
		c.mu.Lock()
		if err != nil {
			c.closed = err
		} else {
			var f frame
			if err := json.Unmarshal(b, &f); err != nil {
				c.t.Errorf("frame %s: %v", b, err)
			}
			switch {
			case f.Method == "event":
				e := event{raw: string(b)}
				if err := json.Unmarshal(f.Params, &e); err != nil {
					c.t.Errorf("event %s: %v", b, err)
				}
				c.events = append(c.events, e)
			case f.ID != nil:
				c.answers[string(f.ID)] = f
			default:
				c.t.Errorf("neither answer nor event: %s", b)
			}
		}
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// wait returns when ok, which is called with the lock held, says so.
func (c *client) wait(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		done, changed, closed := ok(), c.changed, c.closed
		c.mu.Unlock()
		if done {
			return
		}
		if closed != nil {
			c.t.Fatalf("waiting for %s: %v", what, closed)
		}
		select {
		case <-changed:
		case <-deadline:
			c.t.Fatalf("waited in vain for: %s; events so far: %s", what, c.types())
		}
	}
}

func (c *client) types() (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		list = append(list, e.Cursor+" "+string(e.Type))
	}
	return list
}

// raw sends a frame as it is.
func (c *client) raw(s string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(s)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) answer(id string) (f frame) {
	c.t.Helper()
	c.wait("the answer to "+id, func() bool {
		var ok bool
		f, ok = c.answers[id]
		delete(c.answers, id)
		return ok
	})
	return f
}

// call makes a call and returns its error.
func (c *client) call(method string, params, into any) *rpcError {
	c.t.Helper()
	c.next++
	b, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": c.next, "method": method, "params": params})
	if err != nil {
		c.t.Fatal(err)
	}
	c.raw(string(b))
	f := c.answer(fmt.Sprint(c.next))
	if f.Error != nil {
		return f.Error
	}
	if into != nil {
		reflect.ValueOf(into).Elem().SetZero()
		if err := json.Unmarshal(f.Result, into); err != nil {
			c.t.Fatalf("result %s: %v", f.Result, err)
		}
	}
	return nil
}

func (c *client) must(method string, params, into any) {
	c.t.Helper()
	if err := c.call(method, params, into); err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
}

func (c *client) fails(code int, method string, params any) {
	c.t.Helper()
	err := c.call(method, params, nil)
	switch {
	case err == nil:
		c.t.Errorf("%s %v succeeded, want error %d", method, params, code)
	case err.Code != code:
		c.t.Errorf("%s %v: error %v, want %d", method, params, err, code)
	case err.Data.Code == "" || err.Message == "":
		c.t.Errorf("%s: error without code or message: %+v", method, err)
	}
}

type m = map[string]any

type hello struct {
	Operator switchboard.Operator
	Cursor   string
	Chats    []switchboard.Chat
	Resync   bool
}

func (c *client) hello(cursor any) (h hello) {
	c.t.Helper()
	c.must("hello", m{"cursor": cursor}, &h)
	return h
}

// event waits for an event and returns the first that fits.
func (c *client) event(what string, fits func(event) bool) (e event) {
	c.t.Helper()
	c.wait("event "+what, func() bool {
		i := slices.IndexFunc(c.events, fits)
		if i >= 0 {
			e = c.events[i]
		}
		return i >= 0
	})
	return e
}

// message waits for the event of the message with the text.
func (c *client) message(body string) event {
	c.t.Helper()
	return c.event("message "+body, func(e event) bool { return e.Message != nil && e.Message.Text == body })
}

// flushed returns all events up to now: those before a fence that is everybody's.
func (c *client) flushed(w *world) []event {
	c.t.Helper()
	fence := "fence " + fmt.Sprint(w.updates.Add(1))
	w.exec(`with x as (select pg_current_xact_id()) insert into events (type, everyone, payload)
		select 'operator.presence', true, jsonb_build_object('operator_id', '', 'name', $1::text, 'status', 'online') from x`, fence)
	w.bus.Wake("events")
	c.event(fence, func(e event) bool { return e.Operator["name"] == fence })
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.events, func(e event) bool { return e.Operator["name"] == fence })
	return slices.Clone(c.events[:i])
}

// closes waits for the connection's end and returns the close code, 0 without one.
func (c *client) closes() int {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		err, changed := c.closed, c.changed
		c.mu.Unlock()
		if err != nil {
			return closeCode(err)
		}
		select {
		case <-changed:
		case <-deadline:
			c.t.Fatal("the connection stays open")
		}
	}
}

func closeCode(err error) int {
	if e, ok := errors.AsType[*websocket.CloseError](err); ok && e.Code != websocket.CloseAbnormalClosure {
		return e.Code
	}
	return 0
}

// cut ends a connection as a broken network does.
func (c *client) cut() { _ = c.ws.NetConn().Close() }

func (s *server) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, metric := range f.GetMetric() {
				sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}
