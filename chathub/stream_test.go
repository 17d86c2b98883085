package chathub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/chathub"
	"switchboard/db"
	"switchboard/message"
)

func cursors(events []event) (ids []int64) {
	for _, e := range events {
		id, err := strconv.ParseInt(e.Cursor, 10, 64)
		if err != nil {
			panic(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// expected is what the operator must have been sent after a cursor.
func (w *world) expected(o switchboard.Operator, after string) (ids []int64) {
	w.t.Helper()
	from, err := strconv.ParseInt(after, 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	last, err := w.d.LastEvent(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	events, err := w.d.EventsFor(w.t.Context(), o, from, last, 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	return ids
}

func sameIDs(t *testing.T, who string, got, want []int64) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("%s: event number %d is %d, want %d (%d events, want %d)", who, i, got[i], want[i], len(got), len(want))
			return
		}
	}
	t.Errorf("%s: %d events, want %d", who, len(got), len(want))
}

// While events are written in parallel, late and in vain, clients keep losing
// their connections and resume at one or the other hub. Each must end up with
// every event once, in order.
func TestResumeWithoutGapOrDouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann, boss := w.person("ann", switchboard.RoleOperator), w.person("boss", switchboard.RoleSupervisor)
	hers := []string{w.chat("a", ann), w.chat("b", ann)}
	hubs := []*server{w.hub(nil), w.hub(nil)}

	var writers, readers sync.WaitGroup
	var over atomic.Bool
	const rounds = 60
	for i := range 3 {
		writers.Go(func() {
			for n := range rounds {
				w.customer(says([]string{"a", "b", fmt.Sprint("other", i)}[n%3], fmt.Sprint(i, "-", n)))
			}
		})
	}
	for i := range 3 {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 2))
			for range rounds {
				chat := hers[rnd.IntN(2)]
				err := pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) error {
					if _, err := tx.Exec(t.Context(), `select pg_current_xact_id()`); err != nil {
						return err
					}
					if _, err := tx.Exec(t.Context(), `insert into events (type, chat_id, operator_id) values ('chat.updated', $1, $2)`, chat, ann.ID); err != nil {
						return err
					}
					if _, err := tx.Exec(t.Context(), `select pg_sleep($1)`, rnd.Float64()*0.01); err != nil {
						return err
					}
					if rnd.IntN(3) == 0 {
						return errInVain
					}
					return nil
				})
				if err != nil && !errors.Is(err, errInVain) {
					t.Error(err)
				}
				w.bus.Wake("events")
			}
		})
	}

	type outcome struct {
		who   *person
		start string
		got   []int64
	}
	results := make([]outcome, 4)
	for i := range results {
		who := []*person{ann, boss}[i%2]
		readers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 3))
			r := &results[i]
			r.who = who
			var cursor any
			for drops := 0; ; drops++ {
				c := connect(t, hubs[rnd.IntN(2)], who)
				h := c.hello(cursor)
				if h.Resync {
					t.Error("resync although nothing was dropped")
				}
				if cursor == nil {
					r.start, cursor = h.Cursor, h.Cursor
				} else if h.Cursor != cursor {
					t.Errorf("resumed from %v, answered %s", cursor, h.Cursor)
				}
				last := over.Load()
				if last {
					for _, e := range c.flushed(w) {
						r.got = append(r.got, cursors([]event{e})...)
					}
					return
				}
				take := rnd.IntN(12)
				c.wait("some events", func() bool { return len(c.events) >= take || over.Load() })
				c.cut()
				c.closes()
				c.mu.Lock() // nobody adds any more
				events := slices.Clone(c.events)
				c.mu.Unlock()
				r.got = append(r.got, cursors(events)...)
				if len(events) > 0 {
					cursor = events[len(events)-1].Cursor
				}
			}
		})
	}
	writers.Wait()
	over.Store(true)
	w.fence() // wakes readers that wait for more
	readers.Wait()
	for i, r := range results {
		want := w.expected(r.who.Operator, r.start)
		// Everybody's last fence is their own: what came after it is of the others.
		if n := len(r.got); n > 0 {
			if at := slices.Index(want, r.got[n-1]); at >= 0 {
				want = want[:at+1]
			}
		}
		sameIDs(t, fmt.Sprintf("client %d (%s)", i, r.who.Login), r.got, want)
		if len(r.got) < rounds {
			t.Errorf("client %d saw %d events only", i, len(r.got))
		}
	}
}

var errInVain = errors.New("in vain")

// fence appends an event for everybody.
func (w *world) fence() {
	w.t.Helper()
	w.exec(`with x as (select pg_current_xact_id()) insert into events (type, everyone, payload) select 'operator.presence', true, '{"name":"nobody"}' from x`)
	w.bus.Wake("events")
}

func TestSlowClientIsCutAndResumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann, bob, boss := w.person("ann", switchboard.RoleOperator), w.person("bob", switchboard.RoleOperator), w.person("boss", switchboard.RoleSupervisor)
	w.chat("hers", ann)
	w.chat("his", bob)
	slowHub := func(cfg *chathub.Config, _ *chathub.Deps) {
		cfg.QueueBytes = 64 << 10
		cfg.WriteWait = patience
	}
	s, other := w.hub(slowHub), w.hub(nil)

	// A small receive buffer, and nobody reads.
	d := websocket.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(32 << 10)
		}
		return c, err
	}}
	ws, _, err := d.DialContext(t.Context(), "ws://"+s.addr+"/ws/v1", http.Header{"Authorization": {"Bearer " + ann.token}})
	if err != nil {
		t.Fatal(err)
	}
	fast, neighbour := connect(t, s, boss), connect(t, s, bob)
	start := fast.hello(nil).Cursor
	neighbour.hello(nil)
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"jsonrpc":"2.0","id":1,"method":"hello","params":{"cursor":"`+start+`"}}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "slow client's hello", func() bool { return s.metric(t, "switchboard_hub_calls_total") >= 3 })

	big := strings.Repeat("x", 8<<10)
	sent := 0
	for s.metric(t, "switchboard_hub_slow_total") == 0 {
		w.customer(says("hers", fmt.Sprint(sent, " ", big)))
		fast.message(fmt.Sprint(sent, " ", big)) // the others get it at once
		if sent++; sent > 500 {
			t.Fatal("4 MB were sent to a client that doesn't read, and it is still connected")
		}
	}
	w.customer(says("his", "hello bob"))
	neighbour.message("hello bob")

	slow := newClient(t, ws) // reads at last
	if code := slow.closes(); code != 4408 {
		t.Fatalf("closed with %d, want 4408", code)
	}
	got := cursors(slow.events)
	last := start
	if len(got) > 0 {
		last = fmt.Sprint(got[len(got)-1])
	}
	again := connect(t, other, ann)
	if h := again.hello(last); h.Resync || h.Cursor != last {
		t.Errorf("hello answered cursor %s, resync %v", h.Cursor, h.Resync)
	}
	want := w.expected(ann.Operator, start)
	got = append(got, cursors(again.flushed(w))...)
	sameIDs(t, "the slow client", got, want)
	if texts := len(fast.flushed(w)); texts < sent {
		t.Errorf("the fast client got %d events of %d messages", texts, sent)
	}
}

func TestHeldEventsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	w.chat("c", ann)
	gate, entered := make(chan struct{}), make(chan struct{}, 1)
	s := w.hub(func(cfg *chathub.Config, deps *chathub.Deps) {
		cfg.QueueBytes = 16 << 10
		deps.Store = &gatedStore{Store: w.d, gate: gate, entered: entered}
	})
	boss := connect(t, s, w.person("boss", switchboard.RoleSupervisor))
	c := connect(t, s, ann)
	boss.hello(nil)
	c.raw(`{"jsonrpc":"2.0","id":1,"method":"hello","params":{}}`)
	<-entered
	for i := 0; s.metric(t, "switchboard_hub_slow_total") == 0; i++ {
		if i > 20 {
			t.Fatal("160 KB were held for a connection that may hold 16")
		}
		body := fmt.Sprint(i, strings.Repeat("x", 8<<10))
		w.customer(says("c", body))
		boss.message(body)
	}
	close(gate)
	if code := c.closes(); code != 4408 {
		t.Errorf("closed with %d, want 4408", code)
	}
}

// gatedStore holds the hellos of operators back (of supervisors not).
type gatedStore struct {
	chathub.Store
	gate    chan struct{}
	entered chan struct{}
}

func (g *gatedStore) OperatorCame(ctx context.Context, id string) error {
	if o, err := g.Store.(*db.DB).Operator(ctx, id); err == nil && o.Role == switchboard.RoleOperator {
		g.entered <- struct{}{}
		<-g.gate
	}
	return g.Store.OperatorCame(ctx, id)
}

func TestResync(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	chat := w.chat("c", ann)
	s := w.hub(func(cfg *chathub.Config, _ *chathub.Deps) { cfg.MaxReplay = 10 })
	c := connect(t, s, ann)
	start := c.hello(nil).Cursor
	for i := range 8 {
		w.customer(says("c", fmt.Sprint("m", i)))
	}
	c.message("m7")

	within := connect(t, s, ann)
	if h := within.hello(start); h.Resync || h.Cursor != start {
		t.Errorf("hello answered %s, resync %v", h.Cursor, h.Resync)
	}
	within.message("m7")

	for i := range 8 {
		w.customer(says("c", fmt.Sprint("n", i)))
	}
	c.message("n7")
	newest := "n7"
	for what, cursor := range map[string]string{"too much missed": start, "a cursor of another database": "999999999"} {
		r := connect(t, s, ann)
		h := r.hello(cursor)
		if !h.Resync || h.Cursor == cursor || len(h.Chats) != 1 || h.Chats[0].ID != chat || h.Chats[0].LastMessage.Text != newest {
			t.Errorf("%s: %+v", what, h)
		}
		newest = "after " + what
		w.customer(says("c", newest))
		r.message(newest)
		for _, e := range r.flushed(w) {
			if e.Message != nil && e.Message.Text != newest {
				t.Errorf("%s: replayed %s", what, e.raw)
			}
		}
	}
	w.exec(`update events set created_at = now() - interval '1 day'`)
	w.exec(`update followers set pos = (select max(id) from events)`)
	if err := w.d.PruneEvents(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if h := connect(t, s, ann).hello(start); !h.Resync {
		t.Errorf("dropped events: %+v", h)
	}
}

// A hub that is behind the one that gave the cursor sends nothing twice.
func TestCursorAheadOfTheHub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	w.chat("c", ann)
	var stuck atomic.Bool
	ahead := w.hub(nil)
	behind := w.hub(func(_ *chathub.Config, deps *chathub.Deps) {
		deps.OpenTail = func(ctx context.Context) (chathub.Tail, error) {
			tail, err := w.d.OpenTail(ctx)
			return &stuckTail{tail, &stuck}, err
		}
	})
	stuck.Store(true)
	c := connect(t, ahead, ann)
	c.hello(nil)
	w.customer(says("c", "one"))
	cursor := c.message("one").Cursor
	r := connect(t, behind, ann)
	if h := r.hello(cursor); h.Resync || h.Cursor != cursor {
		t.Errorf("hello answered %+v", h)
	}
	stuck.Store(false)
	w.customer(says("c", "two"))
	r.message("two")
	for _, e := range r.flushed(w) {
		if e.Message != nil && e.Message.Text == "one" {
			t.Error("the event of the cursor came again")
		}
	}
}

type stuckTail struct {
	chathub.Tail
	stuck *atomic.Bool
}

func (s *stuckTail) Next(ctx context.Context, limit int) ([]switchboard.Event, bool, error) {
	if s.stuck.Load() {
		return nil, true, nil
	}
	return s.Tail.Next(ctx, limit)
}

func TestBrokenEventStopsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	chat := w.chat("c", ann)
	var away atomic.Bool
	s := w.hub(func(_ *chathub.Config, deps *chathub.Deps) {
		deps.Store = &hooks{Store: w.d, load: func() error {
			if away.Load() {
				return fmt.Errorf("the database is away: %w", switchboard.ErrUnavailable)
			}
			return nil
		}}
	})
	c := connect(t, s, ann)
	c.hello(nil)
	// A message that no code of ours would have written.
	w.exec(`with x as (insert into messages (id, chat_id, account_id, seq, direction, kind, status, status_at, body, sender_kind, created_at)
			values ($1, $2, $3, 1000, 'in', 'text', 'received', now(), '"?"', 'customer', now()) returning chat_id, id)
		insert into events (type, chat_id, message_id, operator_id) select 'message.new', chat_id, id, $4 from x`, db.NewID(), chat, w.acc, ann.ID)
	w.customer(says("c", "next"))
	c.message("next")
	if n := s.metric(t, "switchboard_hub_events_unreadable_total"); n != 1 {
		t.Errorf("%v events counted as unreadable, want 1", n)
	}
	away.Store(true)
	w.customer(says("c", "in the dark"))
	time.AfterFunc(200*time.Millisecond, func() { away.Store(false) })
	c.message("in the dark")
}

func TestLostHintCostsASecond(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	chat := w.chat("c", ann)
	s := w.hub(nil)
	c := connect(t, s, ann)
	c.hello(nil)
	c.flushed(w)
	begin := time.Now()
	w.exec(`with x as (select pg_current_xact_id()) insert into events (type, chat_id, operator_id) select 'customer.typing', $1, $2 from x`, chat, ann.ID)
	c.event("typing", func(e event) bool { return e.Type == switchboard.EventCustomerTyping })
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("without a hint the event took %s", took)
	}
}

// A page of events larger than one read, and a replay of several pages.
func TestLongReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	w.chat("c", ann)
	start, err := w.d.LastEvent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var updates []message.Update
	for i := range 1200 {
		u := says("c", fmt.Sprint("n", i))
		u.PlatformID = fmt.Sprint(i)
		updates = append(updates, u)
	}
	for page := range slices.Chunk(updates, 400) {
		w.customer(page...)
	}
	// It starts at the end of the stream, so that all of it is replayed, and may
	// queue far less than that.
	s := w.hub(func(cfg *chathub.Config, _ *chathub.Deps) { cfg.QueueBytes = 32 << 10 })
	again := connect(t, s, ann)
	again.hello(fmt.Sprint(start))
	want := w.expected(ann.Operator, fmt.Sprint(start))
	sameIDs(t, "ann", cursors(again.flushed(w)), want)
	if len(want) < 1200 {
		t.Errorf("only %d events", len(want))
	}
}
