package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"switchboard"
	"switchboard/message"
	"switchboard/simulator"
)

// agent is an operator's client as the contract wants it: it reconnects, to
// another hub if need be, resumes by its last cursor, and repeats a send that
// was not answered with the same client id.
type agent struct {
	t     *testing.T
	login string
	id    string
	token string
	hubs  func() []string // host:port, the preferred one first
	// patience is how long a call is repeated.
	patience time.Duration
	// note gets the events instead of events, under the lock.
	note func(received)

	write sync.Mutex

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every event and connection
	conn     *agentConn    // nil while there is none
	where    string        // host:port of conn
	sessions int
	cursor   *string
	last     int64
	events   []received
	heard    map[string]int             // customers' messages by chat
	left     map[string]map[string]bool // by chat: messages that have left
	faults   []string
	closes   []int // codes of closed connections; 0: cut
	calls    int
	reading  chan struct{} // not nil: nothing is read until it is closed
}

type received struct {
	event
	at time.Time
}

type agentConn struct {
	ws      *websocket.Conn
	gone    chan struct{}
	answers map[int]chan answer // guarded by agent.mu
}

var errCut = errors.New("the connection ended before the answer")

// runAgent connects an operator until the test ends.
func runAgent(t *testing.T, login, id, token string, hubs func() []string) *agent {
	a := &agent{t: t, login: login, id: id, token: token, hubs: hubs, patience: 30 * time.Second, changed: make(chan struct{}), heard: map[string]int{}, left: map[string]map[string]bool{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			addresses := hubs()
			if a.session(ctx, addresses[i%len(addresses)]) {
				i = -1 // the preferred one first again
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return a
}

// agentDialer lets the kernel take little for a client that does not read.
var agentDialer = &websocket.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if tcp, ok := conn.(*net.TCPConn); ok {
		err = tcp.SetReadBuffer(32 << 10)
	}
	return conn, err
}}

// session is one connection; it reports whether hello was answered.
func (a *agent) session(ctx context.Context, addr string) bool {
	dial, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	ws, _, err := agentDialer.DialContext(dial, "ws://"+addr+"/ws/v1", http.Header{"Authorization": {"Bearer " + a.token}})
	if err != nil {
		return false
	}
	defer ws.Close()
	defer context.AfterFunc(ctx, func() { ws.Close() })()
	c := &agentConn{ws: ws, gone: make(chan struct{}), answers: map[int]chan answer{}}
	defer close(c.gone)
	a.mu.Lock()
	cursor := a.cursor
	a.mu.Unlock()
	if err := ws.WriteJSON(map[string]any{"jsonrpc": "2.0", "id": 0, "method": "hello", "params": map[string]any{"cursor": cursor}}); err != nil {
		return false
	}
	greeted := false
	for {
		var frame struct {
			ID     *int            `json:"id"`
			Method string          `json:"method"`
			Params event           `json:"params"`
			Result json.RawMessage `json:"result"`
			Error  *rpcError       `json:"error"`
		}
		a.mu.Lock()
		reading := a.reading
		a.mu.Unlock()
		if reading != nil {
			select {
			case <-reading:
			case <-ctx.Done():
			}
		}
		err := ws.ReadJSON(&frame)
		a.mu.Lock()
		switch {
		case err != nil:
			a.conn, a.where = nil, ""
			code := 0
			if e, ok := errors.AsType[*websocket.CloseError](err); ok {
				code = e.Code
			}
			a.closes = append(a.closes, code)
		case frame.Method == "event":
			a.take(frame.Params)
		case frame.ID != nil && *frame.ID == 0:
			var hello struct {
				Cursor string
				Resync bool
			}
			if frame.Error != nil || json.Unmarshal(frame.Result, &hello) != nil {
				a.mu.Unlock()
				return false // a hub that is about to stop, or to start
			}
			if hello.Resync || (cursor != nil && hello.Cursor != *cursor) {
				a.faults = append(a.faults, fmt.Sprintf("hello with cursor %v was answered with %q, resync %v", *cursor, hello.Cursor, hello.Resync))
			}
			if a.cursor == nil {
				a.cursor = &hello.Cursor
			}
			greeted = true
			a.conn, a.where = c, addr
			a.sessions++
		case frame.ID != nil:
			if ch := c.answers[*frame.ID]; ch != nil {
				ch <- answer{frame.Result, frame.Error}
			}
		}
		close(a.changed)
		a.changed = make(chan struct{})
		a.mu.Unlock()
		if err != nil {
			return greeted
		}
	}
}

// take checks that the stream goes forward only: what is missed or seen twice
// across connections shows here or in the talks.
func (a *agent) take(e event) {
	n, err := strconv.ParseInt(e.Cursor, 10, 64)
	if err != nil || n <= a.last {
		a.faults = append(a.faults, fmt.Sprintf("event with cursor %q after %d", e.Cursor, a.last))
	}
	a.last, a.cursor = n, &e.Cursor
	r := received{e, time.Now()}
	switch m := e.Message; {
	case m == nil:
	case m.Direction == message.In && e.Type == "message.new":
		a.heard[e.ChatID]++
	case m.Direction == message.Out && !unfinished(*m):
		if a.left[e.ChatID] == nil {
			a.left[e.ChatID] = map[string]bool{}
		}
		a.left[e.ChatID][m.ID] = true
	}
	if a.note != nil {
		a.note(r)
		return
	}
	a.events = append(a.events, r)
}

// progress is how many of a customer's messages have come, and how many of ours
// have left, since the agent connected.
func (a *agent) progress(chat string) (heard, left int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.heard[chat], len(a.left[chat])
}

// pause makes the client read nothing until the returned function is called.
func (a *agent) pause() (resume func()) {
	ch := make(chan struct{})
	a.mu.Lock()
	a.reading = ch
	a.mu.Unlock()
	return sync.OnceFunc(func() {
		a.mu.Lock()
		a.reading = nil
		a.mu.Unlock()
		close(ch)
	})
}

// cut ends the connection without a word, as a network does.
func (a *agent) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != nil {
		_ = a.conn.ws.NetConn().Close()
	}
}

// until waits for cond, which is called under the lock.
func (a *agent) until(ctx context.Context, what string, cond func() bool) error {
	for {
		a.mu.Lock()
		ok, changed := cond(), a.changed
		a.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: waiting for %s: %w", a.login, what, ctx.Err())
		}
	}
}

// await is until for the test's goroutine.
func (a *agent) await(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := a.until(ctx, what, cond); err != nil {
		t.Fatal(err)
	}
}

// once makes one call on the current connection; errCut says that it ended.
func (a *agent) once(ctx context.Context, method string, params, result any) error {
	var c *agentConn
	var id int
	ch := make(chan answer, 1)
	if err := a.until(ctx, "connection", func() bool {
		if c = a.conn; c == nil {
			return false
		}
		a.calls++
		id = a.calls
		c.answers[id] = ch
		return true
	}); err != nil {
		return err
	}
	a.write.Lock()
	err := c.ws.WriteJSON(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	a.write.Unlock()
	if err != nil {
		return errCut
	}
	select {
	case got := <-ch:
		if got.Error != nil {
			return got.Error
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(got.Result, result)
	case <-c.gone:
		return errCut
	case <-ctx.Done():
		return fmt.Errorf("%s: waiting for the answer to %s: %w", a.login, method, ctx.Err())
	}
}

// call repeats a call that may be repeated until it is answered.
func (a *agent) call(method string, params, result any) error {
	ctx, cancel := context.WithTimeout(context.Background(), a.patience)
	defer cancel()
	for {
		err := a.once(ctx, method, params, result)
		if e, ok := errors.AsType[*rpcError](err); !errors.Is(err, errCut) && !(ok && e.Data.Code == "unavailable") {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %s: %w", a.login, method, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// must is call for the test's goroutine.
func (a *agent) must(t *testing.T, method string, params, result any) {
	t.Helper()
	if err := a.call(method, params, result); err != nil {
		t.Fatalf("%s: %s: %v", a.login, method, err)
	}
}

// message waits for an event with a message for which ok holds.
func (a *agent) message(t *testing.T, what string, ok func(m *message.Message) bool) (found message.Message, at time.Time) {
	t.Helper()
	a.await(t, patience, what, func() bool {
		i := slices.IndexFunc(a.events, func(e received) bool { return e.Message != nil && ok(e.Message) })
		if i >= 0 {
			found, at = *a.events[i].Message, a.events[i].at
		}
		return i >= 0
	})
	return found, at
}

// inbound are the customer's texts of a chat in the order in which they came.
func (a *agent) inbound(chat string) (texts []string, at []time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		if e.Type == "message.new" && e.ChatID == chat && e.Message != nil && e.Message.Direction == message.In {
			texts, at = append(texts, e.Message.Text), append(at, e.at)
		}
	}
	return texts, at
}

// address is the hub to which the client is connected, "" for none.
func (a *agent) address() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.where
}

// check reports what was wrong with the stream.
func (a *agent) check(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.faults {
		t.Errorf("%s: %s", a.login, f)
	}
	a.faults = nil
}

// person is a customer on any platform.
type person interface {
	ID() string
	SendText(text string) simulator.Sent
	Messages() []simulator.Message
}

// talk is a chat between a customer and an agent, with everything that both have
// said.
type talk struct {
	customer person
	agent    *agent
	chat     string
	mu       sync.Mutex
	in       []string // what was sent, in order
	out      []string
	account  string
	post     func(text string) error // nil: the agent answers; else a script does
	doubled  int                     // answers that the platform has twice, as their history says
	// once: the platform takes a key with each message, so that none comes twice.
	once bool
	// backlog is how many webhooks of the platform are under way; nil: it calls none.
	backlog func() int
	// late are texts of the customer that the platform itself brought too late.
	late map[string]bool
}

// greet makes the customer write and the agent accept.
func greet(t *testing.T, c person, a *agent) *talk {
	t.Helper()
	k := approach(c, a)
	k.accept(t)
	return k
}

// approach makes the customer write.
func approach(c person, a *agent) *talk {
	k := &talk{customer: c, agent: a}
	k.say("hello from " + c.ID())
	return k
}

// accept makes the agent accept the chat.
func (k *talk) accept(t *testing.T) {
	t.Helper()
	m, _ := k.agent.message(t, "the first message of a customer", func(m *message.Message) bool { return m.Text == k.in[0] })
	k.agent.must(t, "chat.accept", map[string]any{"chat_id": m.ChatID}, nil)
	k.chat, k.account = m.ChatID, m.AccountID
}

// say makes the customer write.
func (k *talk) say(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.in = append(k.in, text)
	k.customer.SendText(text)
}

// answer sends a text as the agent or the script; it returns when it is
// acknowledged.
func (k *talk) answer(text string) error {
	k.out = append(k.out, text)
	if k.post != nil {
		return k.post(text)
	}
	err := k.agent.call("message.send", map[string]any{"chat_id": k.chat, "client_id": text, "kind": "text", "text": text}, nil)
	if err != nil {
		return fmt.Errorf("sending %q: %w", text, err)
	}
	return nil
}

// byScript makes a script answer, through the public door, and repeat what was
// not answered with the same key, as long as the agent would.
func (k *talk) byScript(base, apiKey string) {
	k.post = func(text string) error {
		ctx, cancel := context.WithTimeout(context.Background(), k.agent.patience)
		defer cancel()
		body := fmt.Sprintf(`{"account_id":%q,"to":{"chat_id":%q},"kind":"text","text":%q}`, k.account, k.chat, text)
		for {
			req, err := http.NewRequestWithContext(ctx, "POST", base+"/api/v1/messages", strings.NewReader(body))
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+apiKey)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Idempotency-Key", k.chat+" "+text)
			res, err := probes.Do(req)
			if err == nil {
				answer, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode == http.StatusAccepted {
					return nil
				}
				// The door answers 502 for a process that is gone, and any process 503.
				if err = fmt.Errorf("%d %s", res.StatusCode, answer); res.StatusCode != http.StatusBadGateway && res.StatusCode != http.StatusServiceUnavailable {
					return fmt.Errorf("posting %q: %w", text, err)
				}
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("posting %q: %w", text, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// flow lets all talks go on at once, both ways.
type flow struct {
	talks []*talk
	began time.Time
	stop  chan struct{}
	work  sync.WaitGroup
	mu    sync.Mutex
	errs  []error
	// cutOff: a process that sends was killed. An orderly end cuts no send off.
	cutOff bool
}

// ahead is how many messages of a chat and a direction may be under way at most, and
// how many webhooks of a platform: 5 s of a flow. A machine that can't keep the pace
// delays them by little more.
const ahead = 50

// startFlow begins a flow in which every customer and every agent says something
// at each tick, unless too much is under way. The texts are name and number.
func startFlow(t *testing.T, name string, talks []*talk, every time.Duration) *flow {
	f := &flow{talks: talks, began: time.Now(), stop: make(chan struct{})}
	for _, k := range talks {
		heard, left := k.agent.progress(k.chat)
		room := func(n, arrived int) bool {
			return n-arrived <= ahead && (k.backlog == nil || k.backlog() <= 4*ahead)
		}
		f.work.Go(func() {
			f.tick(every, func(n int) error {
				k.say(fmt.Sprintf("%s in %d", name, n))
				return nil
			}, func(n int) bool {
				now, _ := k.agent.progress(k.chat)
				return room(n, now-heard)
			})
		})
		f.work.Go(func() {
			f.tick(every, func(n int) error {
				return k.answer(fmt.Sprintf("%s out %d", name, n))
			}, func(n int) bool {
				_, now := k.agent.progress(k.chat)
				return room(n, now-left)
			})
		})
	}
	t.Cleanup(f.halt)
	return f
}

// tick calls do with 1, 2, ... at each tick at which may allows it.
func (f *flow) tick(every time.Duration, do func(n int) error, may func(n int) bool) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 1; ; {
		if may(n) {
			if err := do(n); err != nil {
				f.mu.Lock()
				f.errs = append(f.errs, err)
				f.mu.Unlock()
				return
			}
			n++
		}
		select {
		case <-tick.C:
		case <-f.stop:
			return
		}
	}
}

func (f *flow) halt() {
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
	f.work.Wait()
}

// outcome is what became of a flow.
type outcome struct {
	messages int
	// The longest silence that anybody saw between two messages of a chat.
	inGap, outGap time.Duration
	doubled       int
}

func (o outcome) String() string {
	return fmt.Sprintf("%d messages; longest silence inbound %v, outbound %v; %d sent twice, and marked so", o.messages,
		o.inGap.Round(10*time.Millisecond), o.outGap.Round(10*time.Millisecond), o.doubled)
}

// finish ends the flow and checks that everything that was ever said in its
// talks has arrived once and in order: at the operator, at the platform, and in
// the history, which numbers it without a gap. An answer may have come twice only
// when a sending process was killed, and its history says so.
func (f *flow) finish(t *testing.T, base string) (o outcome) {
	t.Helper()
	since := time.Now()
	f.halt()
	for _, err := range f.errs {
		t.Errorf("an operator's call failed: %v", err)
	}
	for _, k := range f.talks {
		o.messages += len(k.in) + len(k.out)
		k.agent.await(t, patience, "the last message of a customer", func() bool {
			return slices.ContainsFunc(k.agent.events, func(e received) bool {
				return e.Message != nil && e.ChatID == k.chat && e.Message.Text == k.in[len(k.in)-1]
			})
		})
		if len(k.out) > 0 {
			eventually(t, patience, "the platform has "+k.out[len(k.out)-1], func() bool {
				return slices.ContainsFunc(k.customer.Messages(), func(m simulator.Message) bool { return m.Text == k.out[len(k.out)-1] })
			})
		}
	}
	t.Logf("caught up %v after the last message", time.Since(since).Round(time.Millisecond))
	for _, k := range f.talks {
		texts, at := k.agent.inbound(k.chat)
		if !k.sameIn(texts) {
			d, _ := difference(texts, k.in)
			t.Errorf("%s: the operator got %s", k.customer.ID(), d)
		}
		for i := 1; i < len(at); i++ {
			if at[i-1].Before(f.began) {
				continue
			}
			o.inGap = max(o.inGap, at[i].Sub(at[i-1]))
		}
		k.check(t, base, f.began, &o)
		k.agent.check(t)
	}
	if o.doubled > 0 && !f.cutOff {
		t.Errorf("%d messages were sent twice", o.doubled)
	}
	return o
}

// check compares the platform and the history with what was said, when every
// message has a final status.
func (k *talk) check(t *testing.T, base string, since time.Time, o *outcome) {
	t.Helper()
	var history []message.Message
	eventually(t, patience, "every message of the history has a final status", func() bool {
		var err error
		history, err = k.history(base)
		return err == nil && !slices.ContainsFunc(history, unfinished)
	})
	for _, problem := range k.compare(base, history, since, o) {
		t.Error(problem)
	}
}

func unfinished(m message.Message) bool {
	return m.Status == message.StatusQueued || m.Status == message.StatusSending
}

// history is the whole chat, oldest first, as the public door shows it.
func (k *talk) history(base string) (history []message.Message, err error) {
	for {
		var page struct{ Items []message.Message }
		status, body := get(base+"/api/v1/chats/"+k.chat+"/messages?limit=200&after_seq="+strconv.Itoa(len(history)), k.agent.token)
		if status != http.StatusOK {
			return nil, fmt.Errorf("history of chat %s: %d %s", k.chat, status, body)
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			return nil, fmt.Errorf("history of chat %s: %w", k.chat, err)
		}
		history = append(history, page.Items...)
		if len(page.Items) < 200 {
			return history, nil
		}
	}
}

// timeline is all that is known of a message.
func (k *talk) timeline(base, id string) string {
	_, detail := get(base+"/api/v1/messages/"+id, k.agent.token)
	return detail
}

// ambiguous are the notes of the declared ambiguous moment: a send that was cut
// off, or whose answer never came.
var ambiguous = []string{"the customer may see this message twice", "unknown whether it arrived; sent again"}

// compare returns what is wrong with the history and with what the platform got.
func (k *talk) compare(base string, history []message.Message, since time.Time, o *outcome) (problems []string) {
	wrong := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("chat %s of %s: ", k.chat, k.customer.ID())+fmt.Sprintf(format, args...))
	}
	var in, out []string
	byText := map[string]message.Message{}
	for i, m := range history {
		if m.Seq != int64(i+1) {
			wrong("message %d of the history has seq %d", i+1, m.Seq)
		}
		byText[m.Text] = m
		if m.Direction == message.In {
			in = append(in, m.Text)
			continue
		}
		out = append(out, m.Text)
		if unfinished(m) || m.Status == message.StatusFailed || m.Status == message.StatusExpired || m.Status == message.StatusCanceled {
			wrong("%q is %s: %+v; %s", m.Text, m.Status, m.Error, k.timeline(base, m.ID))
		}
	}
	where := func(got, want []string) string {
		d, text := difference(got, want)
		if m, ok := byText[text]; ok {
			d += "; " + k.timeline(base, m.ID)
		}
		return d
	}
	if !k.sameIn(in) {
		wrong("the history has of the customer %s", where(in, k.in))
	}
	if !slices.Equal(out, k.out) {
		wrong("the history has of the operator %s", where(out, k.out))
	}
	var shown []string
	var before time.Time
	doubled, copies := 0, 0 // of the last one
	for _, m := range k.customer.Messages() {
		if len(shown) > 0 && shown[len(shown)-1] == m.Text {
			doubled++
			copies++
			notes := 0
			line := k.timeline(base, byText[m.Text].ID)
			for _, note := range ambiguous {
				notes += strings.Count(line, note)
			}
			if notes < copies || k.once {
				wrong("the platform got %q %d times, and %d notes of its history say why: %s", m.Text, copies+1, notes, line)
			}
			continue
		}
		copies = 0
		if len(shown) > 0 && before.After(since) {
			o.outGap = max(o.outGap, m.At.Sub(before))
		}
		before = m.At
		shown = append(shown, m.Text)
	}
	if !slices.Equal(shown, k.out) {
		wrong("the platform got %s", where(shown, k.out))
	}
	o.doubled += doubled - k.doubled
	k.doubled = doubled
	return problems
}

// sameIn tells whether the customer's texts are all there, once, and in order but
// for those that the platform brought too late.
func (k *talk) sameIn(got []string) bool {
	if len(k.late) == 0 {
		return slices.Equal(got, k.in)
	}
	late := func(text string) bool { return k.late[text] }
	return slices.Equal(slices.DeleteFunc(slices.Clone(got), late), slices.DeleteFunc(slices.Clone(k.in), late)) &&
		slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(k.in)))
}

// difference describes where two lists part, and names the first text that
// should be there.
func difference(got, want []string) (description, text string) {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	if i < len(want) {
		text = want[i]
	}
	return fmt.Sprintf("%d messages, want %d; after %d equal ones %.60q, want %.60q", len(got), len(want), i,
		got[i:min(i+5, len(got))], want[i:min(i+5, len(want))]), text
}

// login opens a session at the public door.
func login(t *testing.T, base, name, password string) (token, id string) {
	t.Helper()
	body := fmt.Sprintf(`{"login":%q,"password":%q}`, name, password)
	res, err := http.Post(base+"/api/v1/sessions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	var s struct {
		Token    string
		Operator switchboard.Operator
	}
	if err != nil || res.StatusCode != http.StatusCreated || json.Unmarshal(text, &s) != nil {
		t.Fatalf("signing %s in: %d %s %v", name, res.StatusCode, text, err)
	}
	return s.Token, s.Operator.ID
}
