package simulator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// vkLongPoll is the Bots Long Poll of a community: a history with a counter, and
// keys to it. It keeps no cursor. The account's lock guards it.
type vkLongPoll struct {
	enabled bool
	ticked  map[string]bool
	keys    int64 // the number of the valid key
	ts      int64 // of the next event
	first   int64 // of the oldest event kept
	history []vkEvent
	held    []vkEvent // reordered: wait for the next event
	arrived signal
	lost    bool // requests hear failed 3
	heard   bool // one has heard it
}

type vkEvent struct {
	body  []byte
	track *tracker
	at    time.Time
	acked bool
}

// vkHistory is how many events the long poll keeps.
const vkHistory = 10_000

func (l *vkLongPoll) init() { l.ts, l.first, l.keys = 1411, 1411, 1 }

// pending counts what nobody has fetched yet.
func (l *vkLongPoll) pending() (n int) {
	if !l.enabled {
		return 0
	}
	for i := range l.history {
		if !l.history[i].acked {
			n++
		}
	}
	return n
}

func (l *vkLongPoll) push(e vkEvent) {
	l.history = append(l.history, e)
	l.ts++
	if len(l.history) > vkHistory {
		l.history[0] = vkEvent{}
		l.history = l.history[1:]
		l.first++
	}
}

func vkTicked(p url.Values, old map[string]bool) map[string]bool {
	out := map[string]bool{}
	for k, v := range old {
		out[k] = v
	}
	for k := range p {
		switch v := p.Get(k); {
		case k == "enabled" || k == "group_id" || k == "server_id" || k == "v" || k == "api_version":
		case v == "0" || v == "1":
			out[k] = v == "1"
		}
	}
	return out
}

func (c *vkCall) setLongPoll() (any, *vkError) {
	a := c.a
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := c.p.Get("enabled"); v != "" {
		a.longPoll.enabled = v == "1"
	}
	a.longPoll.ticked = vkTicked(c.p, a.longPoll.ticked)
	return 1, nil
}

func (l *vkLongPoll) key() string { return fmt.Sprintf("%016x", filler(77, uint64(l.keys))) }

func (c *vkCall) longPollServer() (any, *vkError) {
	a := c.a
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.longPoll.enabled {
		return nil, vkBad("longpoll for this group is not enabled")
	}
	if a.longPoll.heard {
		a.longPoll.lost, a.longPoll.heard = false, false
	}
	return map[string]any{"key": a.longPoll.key(), "server": a.sim.BaseURL() + "/vk/whp/" + a.ref, "ts": strconv.FormatInt(a.longPoll.ts, 10)}, nil
}

// ExpireKey makes the long poll's key too old: failed 2.
func (a *VKAccount) ExpireKey() {
	a.mu.Lock()
	a.longPoll.keys++
	a.mu.Unlock()
	a.longPoll.arrived.broadcast()
}

// ForgetHistory drops what the long poll keeps: failed 1 for older cursors.
func (a *VKAccount) ForgetHistory() {
	a.mu.Lock()
	a.longPoll.history, a.longPoll.first = nil, a.longPoll.ts
	a.mu.Unlock()
	a.longPoll.arrived.broadcast()
}

// LoseSession makes requests hear failed 3, until one has heard it and a server is
// asked for: a key fetched in between does not bring back what the old ts stood for.
func (a *VKAccount) LoseSession() {
	a.mu.Lock()
	a.longPoll.lost = true
	a.longPoll.keys++
	a.mu.Unlock()
	a.longPoll.arrived.broadcast()
}

// poll answers the long poll.
func (p *vkPlatform) poll(w http.ResponseWriter, r *http.Request, ref string) {
	found, ok := p.find(ref)
	if !ok {
		http.NotFound(w, r)
		return
	}
	a := found.(*VKAccount)
	q := r.URL.Query()
	c := &vkCall{call: p.sim.begin(w, r, &a.accountCore, "a_check", "/vk/whp/"+ref), a: a, p: url.Values{}}
	c.rec.Params = map[string]string{"act": q.Get("act"), "ts": q.Get("ts"), "wait": q.Get("wait")}
	if c.inject(p.sim, "a_check") || c.fault != nil && c.faultAnswer("a_check") {
		return
	}
	ts, err := strconv.ParseInt(q.Get("ts"), 10, 64)
	wait, _ := strconv.Atoi(q.Get("wait"))
	if q.Get("act") != "a_check" || err != nil {
		p.sim.respond(c.call, http.StatusOK, 4, "bad request", []byte(`{"failed":4,"min_version":0,"max_version":3}`))
		return
	}
	p.sim.demo.connected(a)
	l := &a.longPoll
	timer := time.NewTimer(min(time.Duration(min(max(wait, 0), 90))*time.Second, p.sim.cfg.PollHoldMax))
	defer timer.Stop()
	for over := false; ; {
		ch := l.arrived.C()
		a.mu.Lock()
		var answer []byte
		failed := 0
		switch {
		case l.lost:
			l.heard = true
			failed, answer = 3, []byte(`{"failed":3}`)
		case q.Get("key") != l.key():
			failed, answer = 2, []byte(`{"failed":2}`)
		case ts < l.first || ts > l.ts:
			failed, answer = 1, fmt.Appendf(nil, `{"failed":1,"ts":%d}`, l.ts)
		case ts < l.ts || over:
			l.confirm(ts)
			updates := []json.RawMessage{}
			next := min(l.ts, ts+100)
			for i := ts; i < next; i++ {
				updates = append(updates, l.history[i-l.first].body)
			}
			answer = mustJSON(map[string]any{"ts": strconv.FormatInt(next, 10), "updates": updates})
		default:
			l.confirm(ts)
		}
		a.mu.Unlock()
		if answer != nil {
			p.sim.respond(c.call, http.StatusOK, failed, "", answer)
			return
		}
		select {
		case <-ch:
		case <-timer.C:
			over = true
		case <-p.sim.stopped:
			over = true
		case <-r.Context().Done():
			c.abort()
		}
	}
}

// confirm: whoever asks for what follows ts has what was before.
func (l *vkLongPoll) confirm(ts int64) {
	for i := ts - l.first - 1; i >= 0 && i < int64(len(l.history)) && !l.history[i].acked; i-- {
		l.history[i].acked = true
		l.history[i].track.acked(time.Since(l.history[i].at))
	}
}

func (c *vkCall) callbackServers() (any, *vkError) {
	a := c.a
	_, problem, _ := a.hooks.waiting()
	a.mu.Lock()
	defer a.mu.Unlock()
	items := []any{}
	for _, s := range a.servers {
		status := s.Status
		if status == "ok" && problem != "" {
			status = "failed"
		}
		items = append(items, map[string]any{"id": s.ID, "title": s.Title, "url": s.URL, "secret_key": s.Secret, "status": status, "creator_id": 1})
	}
	return map[string]any{"count": len(items), "items": items}, nil
}

func (c *vkCall) server() (*vkServer, *vkError) {
	id, err := strconv.ParseInt(c.p.Get("server_id"), 10, 64)
	if err != nil {
		return nil, vkBad("server_id not integer")
	}
	for _, s := range c.a.servers {
		if s.ID == id {
			return s, nil
		}
	}
	return nil, vkErr(104, "")
}

// saveServer adds or changes a callback server. The simulator delivers to the first one.
func (c *vkCall) saveServer(method string) (any, *vkError) {
	a := c.a
	link, title, secret := c.p.Get("url"), c.p.Get("title"), c.p.Get("secret_key")
	if !fetchableURL(link) {
		return nil, vkBad("url is invalid")
	}
	if title == "" || len([]rune(title)) > 14 {
		return nil, vkBad("title should have 1 to 14 characters")
	}
	if len(secret) > 50 {
		return nil, vkBad("secret_key should be at most 50 characters")
	}
	a.mu.Lock()
	if method == "groups.editCallbackServer" {
		s, e := c.server()
		if e != nil {
			a.mu.Unlock()
			return nil, e
		}
		moved := s.URL != link
		s.URL, s.Title, s.Secret = link, title, secret
		a.mu.Unlock()
		if moved {
			c.confirm(s)
		}
		return 1, nil
	}
	if len(a.servers) >= 10 {
		a.mu.Unlock()
		return nil, vkErr(2000, "")
	}
	a.serverID++
	s := &vkServer{ID: a.serverID, URL: link, Title: title, Secret: secret, Status: "wait"}
	a.servers = append(a.servers, s)
	a.mu.Unlock()
	c.confirm(s)
	return map[string]any{"server_id": s.ID}, nil
}

// confirm asks the address for the confirmation string, before the call is answered.
func (c *vkCall) confirm(s *vkServer) {
	a := c.a
	body := fmt.Appendf(nil, `{"type":"confirmation","group_id":%d}`, a.group)
	began := time.Now()
	status, answer, _, err := a.sim.postJSON(c.r.Context(), s.URL, body, func(http.Header) {})
	cb := Callback{At: began, Event: "confirmation", Attempt: 1, Status: status, Took: time.Since(began), Body: body, Answer: string(answer[:min(len(answer), 1024)])}
	if err != nil {
		cb.Error = err.Error()
	}
	a.rec.addCallback(cb)
	ok := err == nil && status == http.StatusOK && string(answer) == a.Confirmation()
	a.mu.Lock()
	s.Status = "failed"
	if ok {
		s.Status = "ok"
	}
	first := len(a.servers) > 0 && a.servers[0] == s
	a.mu.Unlock()
	if ok && first {
		a.hooks.start(s.URL, 20)
		a.sim.demo.connected(a)
	}
}

func (c *vkCall) setCallback() (any, *vkError) {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	s, e := c.server()
	if e != nil {
		return nil, e
	}
	s.ticked = vkTicked(c.p, s.ticked)
	return 1, nil
}

func (c *vkCall) deleteServer() (any, *vkError) {
	a := c.a
	a.mu.Lock()
	s, e := c.server()
	if e != nil {
		a.mu.Unlock()
		return nil, e
	}
	first := a.servers[0] == s
	a.servers = slices.DeleteFunc(a.servers, func(x *vkServer) bool { return x == s })
	a.mu.Unlock()
	if first {
		a.hooks.stop()
	}
	return 1, nil
}

// emit makes an event, for the long poll and for the callback server as far as
// they have it ticked; false when neither has.
func (a *VKAccount) emit(event string, peer int64, object any, t *tracker) (id string, ok bool) {
	a.mu.Lock()
	a.events++
	id = fmt.Sprintf("%016x%08x", filler(uint64(a.group), a.events), a.events)
	a.mu.Unlock()
	body := mustJSON(struct {
		GroupID int64  `json:"group_id"`
		Type    string `json:"type"`
		EventID string `json:"event_id"`
		V       string `json:"v"`
		Object  any    `json:"object"`
	}{a.group, event, id, vkVersion, object})
	return id, a.deliver(event, strconv.FormatInt(peer, 10), body, t)
}

func (a *VKAccount) deliver(event, customer string, body []byte, t *tracker) bool {
	began := time.Now()
	a.mu.Lock()
	hooked := len(a.servers) > 0 && a.servers[0].Status == "ok" && wants(a.servers[0].ticked, event)
	polled := a.longPoll.enabled && wants(a.longPoll.ticked, event)
	a.mu.Unlock()
	if !hooked && !polled {
		return false
	}
	t.sent(began)
	if polled {
		x := vkEvent{body: body, at: began}
		if !hooked { // else the callback counts
			x.track = t
		}
		a.pollEvent(x, event, customer, !hooked)
	}
	if hooked {
		a.hooks.add(&delivery{
			key: customer, event: event, customer: customer, body: body, expires: began.Add(2 * time.Hour),
			acked: func([]byte) { t.acked(time.Since(began)) },
		})
	}
	return true
}

// wants: unknown events count as ticked, so that they can be tried out.
func wants(ticked map[string]bool, event string) bool {
	on, known := ticked[event]
	return on || !known && !slices.Contains(vkEvents, event)
}

var vkEvents = []string{
	"message_new", "message_reply", "message_edit", "message_allow", "message_deny", "message_event", "message_read",
	"message_typing_state", "message_reaction_event", "user_block", "user_unblock", "group_join", "group_leave",
}

// pollEvent puts an event into the history, bent by a fault.
func (a *VKAccount) pollEvent(x vkEvent, event, customer string, faults bool) {
	var f *Fault
	if faults {
		f = a.sim.faults.match(true, &a.accountCore, event, customer)
	}
	a.mu.Lock()
	defer func() { a.mu.Unlock(); a.longPoll.arrived.broadcast() }()
	l := &a.longPoll
	if f != nil {
		switch f.Kind {
		case FaultDuplicate:
			twin := x
			twin.track = nil
			l.push(twin)
		case FaultReorder:
			l.held = append(l.held, x)
			wait := time.Duration(f.Delay)
			if wait == 0 {
				wait = time.Second
			}
			a.sim.after(wait, a.flush)
			return
		case FaultWebhookDelay:
			a.sim.after(time.Duration(f.Delay), func() {
				a.mu.Lock()
				l.push(x)
				a.mu.Unlock()
				l.arrived.broadcast()
			})
			return
		}
	}
	l.push(x)
	for _, h := range l.held {
		l.push(h)
	}
	l.held = nil
}

func (a *VKAccount) flush() {
	a.mu.Lock()
	for _, h := range a.longPoll.held {
		a.longPoll.push(h)
	}
	a.longPoll.held = nil
	a.mu.Unlock()
	a.longPoll.arrived.broadcast()
}

func (a *VKAccount) inject(raw []byte) (Sent, error) {
	var in struct {
		Type   string `json:"type"`
		Object struct {
			PeerID  int64 `json:"peer_id"`
			UserID  int64 `json:"user_id"`
			Message struct {
				PeerID int64 `json:"peer_id"`
			} `json:"message"`
		} `json:"object"`
	}
	if !json.Valid(raw) {
		return Sent{}, fmt.Errorf("raw event: not JSON")
	}
	json.Unmarshal(raw, &in) //nolint:errcheck // a raw event may be anything
	if in.Type == "" {
		in.Type = "raw"
	}
	peer := strconv.FormatInt(cmp.Or(in.Object.PeerID, in.Object.Message.PeerID, in.Object.UserID), 10)
	return Sent{Dropped: !a.deliver(in.Type, peer, bytes.TrimSpace(raw), nil)}, nil
}

// Inject queues a raw event; callbacks get the secret.
func (a *VKAccount) Inject(raw string) (Sent, error) { return a.inject([]byte(raw)) }

// Pending is the number of events that were not acknowledged or fetched.
func (a *VKAccount) Pending() int {
	n, _, _ := a.hooks.waiting()
	a.mu.Lock()
	defer a.mu.Unlock()
	return n + a.longPoll.pending()
}

// answerPress ends the waiting of a callback button.
func (c *vkCall) answerPress() (any, *vkError) {
	a := c.a
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.presses[c.p.Get("event_id")]
	switch {
	case p == nil || p.answered || time.Since(p.at) > time.Minute:
		return nil, vkBad("event_id is unknown, answered or too old")
	case c.p.Get("user_id") != strconv.FormatInt(p.user, 10) || c.p.Get("peer_id") != strconv.FormatInt(p.peer, 10):
		return nil, vkBad("user_id and peer_id are not those of the event")
	}
	if data := c.p.Get("event_data"); data != "" {
		var d struct{ Type, Text, Link string }
		if len(data) > 1000 || json.Unmarshal([]byte(data), &d) != nil || !strings.Contains("show_snackbar open_link open_app", d.Type) || len([]rune(d.Text)) > 90 {
			return nil, vkBad("event_data is invalid")
		}
	}
	p.answered, p.data = true, c.p.Get("event_data")
	return 1, nil
}
