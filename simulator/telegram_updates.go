package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	updateLife = 24 * time.Hour
	// maxUpdatesBytes caps one getUpdates answer.
	maxUpdatesBytes = 4 << 20
)

// kinds of updates that must be asked for by name.
var optionalUpdates = []string{"chat_member", "message_reaction", "message_reaction_count"}

type tgUpdate struct {
	id       int64
	kind     string
	key      string // chat; callback queries go by user, my_chat_member by itself
	customer string
	body     []byte
	expires  time.Time
	done     bool // acknowledged
	track    *tracker
	at       time.Time
}

// tgUpdates is a bot's queue and how it is emptied: polled, or pushed to a webhook.
type tgUpdates struct {
	a       *TelegramAccount
	arrived signal

	mu      sync.Mutex
	next    int64
	pending []*tgUpdate // in order of arrival; done ones are dropped lazily
	count   int         // not done
	mixed   bool        // raw updates may have put ids out of order
	allowed []string    // nil: all but optionalUpdates

	hanging    int // long polls
	generation int // rises with each getUpdates, so that an older hanging one ends
	conflicts  int
	lastOffset int64
	lastPoll   time.Time

	url       string
	secret    string
	parallel  int
	lastSet   time.Time
	goneSince time.Time
}

func (u *tgUpdates) init(a *TelegramAccount) {
	u.a = a
	u.next = 100_000_000 + int64(filler(a.sim.cfg.Seed, uint64(a.botID)+3)%800_000_000)
	a.hooks = &dispatcher{
		sim: a.sim, acct: &a.accountCore, immediate: 1,
		prepare: func(h http.Header, _ []byte, forged bool) {
			u.mu.Lock()
			secret := u.secret
			u.mu.Unlock()
			if forged {
				secret = "forged"
			}
			if secret != "" {
				h.Set("X-Telegram-Bot-Api-Secret-Token", secret)
			}
		},
		accepts: func(status int) bool { return status >= 200 && status < 300 },
		gone:    u.gone,
	}
}

// gone removes the webhook after 23 hours of 410.
func (u *tgUpdates) gone() {
	u.mu.Lock()
	if u.goneSince.IsZero() {
		u.goneSince = time.Now()
	}
	remove := time.Since(u.goneSince) >= 23*time.Hour
	if remove {
		u.url = ""
	}
	u.mu.Unlock()
	if remove {
		u.a.hooks.stop()
	}
}

// wants tells whether updates of a kind are produced.
func (u *tgUpdates) wants(kind string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.allowed == nil {
		return !slices.Contains(optionalUpdates, kind)
	}
	return slices.Contains(u.allowed, kind)
}

// push queues {"update_id":N,"<kind>":payload}; 0 when the bot does not want the kind.
func (u *tgUpdates) push(kind, key, customer string, payload json.RawMessage, t *tracker) int64 {
	if !u.wants(kind) {
		return 0
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	id := u.next
	u.next++
	b := make([]byte, 0, len(payload)+len(kind)+40)
	b = append(b, `{"update_id":`...)
	b = strconv.AppendInt(b, id, 10)
	b = append(b, `,"`...)
	b = append(b, kind...)
	b = append(b, `":`...)
	b = append(b, payload...)
	b = append(b, '}')
	u.enqueue(&tgUpdate{id: id, kind: kind, key: key, customer: customer, body: b, track: t})
	return id
}

// enqueue adds an update; u.mu is held.
func (u *tgUpdates) enqueue(x *tgUpdate) {
	x.at = time.Now()
	x.expires = x.at.Add(updateLife)
	if x.kind == "callback_query" {
		x.expires = x.at.Add(queryLife)
	}
	u.pending = append(u.pending, x)
	u.count++
	x.track.sent(x.at)
	if u.url != "" {
		u.deliver(x)
		return
	}
	u.arrived.broadcast()
}

// deliver hands an update to the webhook; u.mu is held.
func (u *tgUpdates) deliver(x *tgUpdate) {
	u.a.hooks.add(&delivery{
		key: x.key, event: x.kind, customer: x.customer, body: x.body, expires: x.expires,
		acked: func(answer []byte) {
			u.mu.Lock()
			u.finish(x)
			u.goneSince = time.Time{}
			u.prune()
			u.mu.Unlock()
			u.a.callFromAnswer(answer)
		},
	})
}

func (u *tgUpdates) finish(x *tgUpdate) {
	if !x.done {
		x.done = true
		u.count--
		x.track.acked(time.Since(x.at))
	}
}

// prune drops what is done or expired from the head; u.mu is held.
func (u *tgUpdates) prune() {
	now := time.Now()
	n := 0
	for n < len(u.pending) && (u.pending[n].done || now.After(u.pending[n].expires)) {
		if !u.pending[n].done {
			u.count--
		}
		u.pending[n] = nil
		n++
	}
	u.pending = u.pending[n:]
}

// inject queues a raw update. With an update_id of its own it keeps it,
// otherwise it gets the next one.
func (a *TelegramAccount) inject(raw []byte) (Sent, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return Sent{}, fmt.Errorf("raw update: want a JSON object: %w", err)
	}
	x := &tgUpdate{body: bytes.TrimSpace(raw)}
	var probe struct {
		Chat    struct{ ID int64 } `json:"chat"`
		From    struct{ ID int64 } `json:"from"`
		Message struct {
			Chat struct{ ID int64 } `json:"chat"`
		} `json:"message"`
	}
	for k, v := range m {
		if k != "update_id" {
			x.kind = k
			json.Unmarshal(v, &probe) //nolint:errcheck // a raw update may be anything
		}
	}
	x.key, x.customer = "raw", ""
	if id := probe.Chat.ID + probe.Message.Chat.ID; id != 0 {
		x.key = strconv.FormatInt(id, 10)
		x.customer = x.key
	}
	u := &a.updates
	u.mu.Lock()
	defer u.mu.Unlock()
	if v, ok := m["update_id"]; ok {
		if err := json.Unmarshal(v, &x.id); err != nil {
			return Sent{}, fmt.Errorf("raw update: update_id: %w", err)
		}
		u.mixed = true
	} else {
		x.id = u.next
		u.next++
		x.body = append([]byte(`{"update_id":`+strconv.FormatInt(x.id, 10)+`,`), x.body[1:]...)
	}
	u.enqueue(x)
	return Sent{UpdateID: x.id}, nil
}

// Inject queues a raw update; the error says what is wrong with the JSON.
func (a *TelegramAccount) Inject(raw string) (Sent, error) { return a.inject([]byte(raw)) }

// SetNextUpdateID makes the next update carry this id: after a quiet week the
// platform may start anywhere, also lower.
func (a *TelegramAccount) SetNextUpdateID(id int64) {
	a.updates.mu.Lock()
	a.updates.next = id
	a.updates.mu.Unlock()
}

// Pending is the number of updates not yet acknowledged.
func (a *TelegramAccount) Pending() int {
	a.updates.mu.Lock()
	defer a.updates.mu.Unlock()
	return a.updates.count
}

// setAllowed applies the allowed_updates parameter: absent keeps the previous
// value, an empty list means the default set.
func (c *tgCall) setAllowed() *tgError {
	raw, ok := c.p["allowed_updates"]
	if !ok || raw == "" {
		return nil
	}
	var list []string
	if err := json.Unmarshal([]byte(raw), &list); err != nil {
		return badRequest("can't parse allowed_updates: %s", err.Error())
	}
	u := &c.a.updates
	u.mu.Lock()
	defer u.mu.Unlock()
	u.allowed = nil
	if len(list) > 0 {
		u.allowed = list
	}
	return nil
}

const (
	conflictPolls   = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
	conflictWebhook = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
	conflictSet     = "Conflict: terminated by setWebhook request"
)

func (c *tgCall) getUpdates() (any, *tgError) {
	u := &c.a.updates
	u.mu.Lock()
	hooked := u.url != ""
	u.mu.Unlock()
	if hooked {
		return nil, errTg(409, conflictWebhook)
	}
	offset, e := c.int("offset", 0)
	if e != nil {
		return nil, e
	}
	limit, e := c.int("limit", 100)
	if e != nil {
		return nil, e
	}
	timeout, e := c.int("timeout", 0)
	if e != nil {
		return nil, e
	}
	if e := c.setAllowed(); e != nil {
		return nil, e
	}
	if limit < 1 || limit > 100 {
		limit = 100
	}
	hold := min(time.Duration(min(max(timeout, 0), 3600))*time.Second, c.a.sim.cfg.PollHoldMax)
	c.a.sim.demo.connected(c.a)

	u.mu.Lock()
	u.generation++
	mine := u.generation
	if u.hanging > 0 {
		u.conflicts++
		u.arrived.broadcast()
	}
	if c.a.opts.Load().realLimits && offset == u.lastOffset && time.Since(u.lastPoll) < 500*time.Millisecond {
		limit = 1
	}
	u.lastOffset, u.lastPoll = offset, time.Now()
	u.confirm(offset)
	u.mu.Unlock()

	timer := time.NewTimer(hold)
	defer timer.Stop()
	for {
		ch := u.arrived.C()
		u.mu.Lock()
		switch {
		case u.url != "":
			u.mu.Unlock()
			return nil, errTg(409, conflictSet)
		case u.generation != mine:
			u.mu.Unlock()
			return nil, errTg(409, conflictPolls)
		}
		batch := u.batch(offset, int(limit))
		if len(batch) > 0 || hold <= 0 {
			u.mu.Unlock()
			return batch, nil
		}
		u.hanging++
		u.mu.Unlock()
		over, gone := false, false
		select {
		case <-ch:
		case <-timer.C:
			over = true
		case <-c.a.sim.stopped:
			over = true
		case <-c.r.Context().Done():
			gone = true
		}
		u.mu.Lock()
		u.hanging--
		u.mu.Unlock()
		if gone {
			return nil, errClientGone
		}
		if over {
			hold = 0
		}
	}
}

// confirm forgets what the offset acknowledges; u.mu is held. An offset far
// beyond the queue belongs to a time before the ids were restarted, and
// confirms nothing.
func (u *tgUpdates) confirm(offset int64) {
	defer u.prune()
	switch {
	case offset < 0:
		n := int64(0)
		for i := len(u.pending) - 1; i >= 0; i-- {
			if u.pending[i].done {
				continue
			}
			if n++; n > -offset {
				u.finish(u.pending[i])
			}
		}
	case offset > 0:
		if u.future(offset) {
			return
		}
		for _, x := range u.pending {
			if x.id < offset {
				u.finish(x)
			} else if !u.mixed {
				break
			}
		}
	}
}

func (u *tgUpdates) future(offset int64) bool {
	last := u.next
	if u.mixed {
		for _, x := range u.pending {
			last = max(last, x.id)
		}
	}
	return offset > last+10
}

// batch collects updates for one answer; u.mu is held.
func (u *tgUpdates) batch(offset int64, limit int) []json.RawMessage {
	out := []json.RawMessage{}
	now := time.Now()
	size := 0
	future := u.future(offset)
	for _, x := range u.pending {
		if x.done || now.After(x.expires) || !future && x.id < offset {
			continue
		}
		if size += len(x.body); len(out) == limit || size > maxUpdatesBytes && len(out) > 0 {
			break
		}
		out = append(out, x.body)
	}
	return out
}

func (c *tgCall) setWebhook() (any, *tgError) {
	u := &c.a.updates
	link := c.p["url"]
	if link == "" {
		return c.deleteWebhook()
	}
	p, err := url.Parse(link)
	if err != nil || p.Host == "" || p.Scheme != "https" && p.Scheme != "http" {
		return nil, badRequest("bad webhook: invalid webhook URL specified")
	}
	// Plain HTTP and any port, as a local Bot API server allows: the simulator
	// talks to loopback.
	secret := c.p["secret_token"]
	if len(secret) > 256 {
		return nil, badRequest("secret token is too long")
	}
	if !isKeyText(secret) {
		return nil, badRequest("secret token contains unallowed characters")
	}
	parallel, e := c.int("max_connections", 40)
	if e != nil {
		return nil, e
	}
	if parallel < 1 || parallel > 100 {
		parallel = 40
	}
	if cert := c.files["certificate"]; cert != nil && cert.b.size > 3<<20 {
		return nil, badRequest("certificate size is too big")
	}
	if e := c.setAllowed(); e != nil {
		return nil, e
	}
	c.a.sim.demo.connected(c.a)
	u.mu.Lock()
	defer u.mu.Unlock()
	if c.a.opts.Load().realLimits && time.Since(u.lastSet) < time.Second {
		return nil, tooMany(1)
	}
	u.lastSet = time.Now()
	if c.bool("drop_pending_updates") {
		u.clear()
	}
	if u.url != link {
		c.a.hooks.stop()
		u.url = link
		c.a.hooks.start(link, int(parallel))
		u.prune()
		for _, x := range u.pending {
			if !x.done {
				u.deliver(x)
			}
		}
	} else {
		c.a.hooks.start(link, int(parallel)) // what waits for a retry goes out at once
	}
	u.secret, u.parallel, u.goneSince = secret, int(parallel), time.Time{}
	u.arrived.broadcast()
	return true, nil
}

func (u *tgUpdates) clear() {
	for _, x := range u.pending {
		x.done = true
	}
	u.pending, u.count = nil, 0
}

func (c *tgCall) deleteWebhook() (any, *tgError) {
	u := &c.a.updates
	u.mu.Lock()
	defer u.mu.Unlock()
	u.url, u.secret = "", ""
	c.a.hooks.stop()
	if c.bool("drop_pending_updates") {
		u.clear()
	}
	u.prune()
	return true, nil
}

func (c *tgCall) getWebhookInfo() (any, *tgError) {
	u := &c.a.updates
	_, problem, at := c.a.hooks.waiting()
	u.mu.Lock()
	defer u.mu.Unlock()
	out := struct {
		URL         string   `json:"url"`
		Cert        bool     `json:"has_custom_certificate"`
		Pending     int      `json:"pending_update_count"`
		IP          string   `json:"ip_address,omitempty"`
		LastErrorAt int64    `json:"last_error_date,omitempty"`
		LastError   string   `json:"last_error_message,omitempty"`
		Parallel    int      `json:"max_connections,omitempty"`
		Allowed     []string `json:"allowed_updates,omitempty"`
	}{URL: u.url, Pending: u.count, Allowed: u.allowed}
	if u.url != "" {
		out.Parallel = u.parallel
		if problem != "" {
			out.LastError, out.LastErrorAt = problem, at.Unix()
		}
		if p, err := url.Parse(u.url); err == nil {
			out.IP = p.Hostname()
		}
	}
	return out, nil
}

// callFromAnswer makes the method call that a webhook's answer may contain.
// Its result goes nowhere.
func (a *TelegramAccount) callFromAnswer(answer []byte) {
	if len(answer) == 0 || answer[0] != '{' {
		return
	}
	c := &tgCall{a: a, p: map[string]string{}, call: &call{acct: &a.accountCore, start: time.Now()}}
	if addJSON(c.p, answer) != nil {
		return
	}
	m, ok := a.methods[strings.ToLower(c.p["method"])]
	if !ok || m.name == "getUpdates" || m.name == "setWebhook" {
		return
	}
	c.method = m.name
	c.keep = a.rec.requests.max > 0
	c.rec = Request{At: c.start, Method: m.name, HTTPMethod: "ANSWER", Params: c.recorded(), Customer: c.p["chat_id"]}
	a.rec.countRequest(c.start)
	if _, e := m.run(c); e != nil {
		c.finish(e.Code, e.Code, e.Description)
		return
	}
	c.finish(200, 0, "")
}
