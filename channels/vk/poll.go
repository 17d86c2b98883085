package vk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"switchboard/channels"
)

const (
	// pollWait is how long the server waits for something to happen; it takes up
	// to 90 s, but many proxies cut a silent connection at 60 s and some at 30.
	pollWait = 25 * time.Second
	// pollMargin is how much longer we wait for the answer itself.
	pollMargin = 10 * time.Second
	// maxRenewals bounds the keys asked for in one Poll, so that an unhealthy
	// server does not become a hot loop, which VK punishes with error 29.
	maxRenewals = 2
)

// session is a key to the long poll. It is no cursor: that is the ts alone.
type session struct {
	server, key string
	ts          int64
	since       time.Time
}

// Polls implements channels.Poller.
func (c *channel) Polls() bool { return c.mode == modePoll }

// Poll implements channels.Poller. offset is the ts, 0 in the beginning: then the
// server's own is returned at once, so that it is stored before anything is waited
// for, and what comes from then on can't be missed. The server keeps no cursor and
// wants no confirmation.
func (c *channel) Poll(ctx context.Context, offset int64) ([]channels.RawUpdate, int64, error) {
	updates, next, err := c.poll(ctx, offset)
	if err == nil {
		return updates, next, nil
	}
	if ctx.Err() != nil {
		return nil, offset, fmt.Errorf("poll: %w", ctx.Err())
	}
	if e, ok := errors.AsType[*channels.PollError](err); ok {
		return nil, offset, e
	}
	return nil, offset, c.pollError(err)
}

func (c *channel) poll(ctx context.Context, offset int64) ([]channels.RawUpdate, int64, error) {
	if offset == 0 {
		// Events that are not ticked never come. Without the right to tick them
		// there still may be some.
		_, _ = c.call(ctx, "groups.setLongPollSettings", c.events(nil))
	}
	for range maxRenewals + 1 {
		s, err := c.longPoll(ctx)
		if err != nil {
			return nil, offset, err
		}
		if offset == 0 {
			return nil, s.ts, nil
		}
		a, err := c.ask(ctx, s, offset)
		if err != nil {
			c.forget(s)
			return nil, offset, err
		}
		switch a.Failed {
		case 0:
			if a.TS == 0 {
				c.forget(s)
				return nil, offset, &channels.PollError{Kind: channels.PollUnavailable, Detail: "the long poll's answer has no ts"}
			}
			pieces, err := c.whole(ctx, a.Updates)
			if err != nil {
				return nil, offset, err
			}
			return rawUpdates(pieces), int64(a.TS), nil
		case 2: // the key is too old; the ts stays
			c.forget(s)
		case 1, 3:
			// 1: the history is too old, or partly lost, and goes on at the ts told.
			// 3: all is lost; a new key comes with a new ts.
			next := int64(a.TS)
			if a.Failed == 3 || next == 0 {
				c.forget(s)
				if s, err = c.longPoll(ctx); err != nil {
					return nil, offset, err
				}
				next = s.ts
			}
			pieces, err := c.missed(ctx)
			return rawUpdates(pieces), next, err
		default:
			c.forget(s)
			return nil, offset, &channels.PollError{Kind: channels.PollUnavailable, Detail: fmt.Sprintf("the long poll failed with code %d", a.Failed)}
		}
	}
	return nil, offset, &channels.PollError{Kind: channels.PollUnavailable, Detail: "the long poll refuses every key"}
}

// events adds the events that are wanted to a call's parameters.
func (c *channel) events(p url.Values) url.Values {
	if p == nil {
		p = url.Values{"enabled": {"1"}}
	}
	p.Set("group_id", number(c.group))
	p.Set("api_version", version)
	for _, e := range wanted {
		p.Set(e, "1")
	}
	return p
}

// longPoll returns the session, or asks for one.
func (c *channel) longPoll(ctx context.Context) (*session, error) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s != nil && c.now().Sub(s.since) < sessionLife {
		return s, nil
	}
	const method = "groups.getLongPollServer"
	raw, err := c.call(ctx, method, url.Values{"group_id": {number(c.group)}})
	if refused(err, 100) {
		// Switched off, perhaps by hand.
		if _, err := c.call(ctx, "groups.setLongPollSettings", c.events(nil)); err != nil {
			return nil, err
		}
		raw, err = c.call(ctx, method, url.Values{"group_id": {number(c.group)}})
	}
	if err != nil {
		return nil, err
	}
	var got struct {
		Server string `json:"server"`
		Key    string `json:"key"`
		TS     number64
	}
	if err := lenient(raw, &got); err != nil || got.Key == "" || got.TS == 0 {
		return nil, &callError{method: method, detail: "the answer has no server, key and ts", sent: true}
	}
	if err := checkAddress(got.Server); err != nil {
		return nil, &callError{method: method, detail: "the server's address is none", sent: true, err: err}
	}
	s = &session{server: got.Server, key: got.Key, ts: int64(got.TS), since: c.now()}
	c.mu.Lock()
	c.session = s
	c.mu.Unlock()
	return s, nil
}

// forget drops a session, if it is still the current one.
func (c *channel) forget(s *session) {
	c.mu.Lock()
	if c.session == s {
		c.session = nil
	}
	c.mu.Unlock()
}

// polled is the long poll's answer.
type polled struct {
	TS      number64          `json:"ts"`
	Updates []json.RawMessage `json:"updates"`
	Failed  number64          `json:"failed"`
}

func (c *channel) ask(ctx context.Context, s *session, ts int64) (*polled, error) {
	ctx, cancel := context.WithTimeout(ctx, pollWait+pollMargin)
	defer cancel()
	u, err := url.Parse(s.server)
	if err != nil {
		return nil, &callError{method: "a_check", detail: "the server's address is none"}
	}
	q := u.Query()
	q.Set("act", "a_check")
	q.Set("key", s.key)
	q.Set("ts", number(ts))
	q.Set("wait", strconv.Itoa(int(pollWait/time.Second)))
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, &callError{method: "a_check", detail: "the server's address is none"}
	}
	a, err := c.do(req, "a_check")
	if err != nil {
		return nil, err
	}
	var p polled
	if a.status != http.StatusOK || lenient(a.body, &p) != nil || len(a.body) == 0 {
		return nil, &callError{method: "a_check", status: a.status, retryAfter: a.retryAfter, detail: "the answer is not VK's", sent: true}
	}
	return &p, nil
}

// number64 is a whole number, written as such or as a string; 0 is anything else.
type number64 int64

// UnmarshalJSON never fails.
func (n *number64) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	if err != nil {
		v = 0
	}
	*n = number64(v)
	return nil
}

// whole fetches the messages that the events carry in part only.
func (c *channel) whole(ctx context.Context, events []json.RawMessage) ([]json.RawMessage, error) {
	for i, raw := range events {
		var e event
		if !bytes.Contains(raw, []byte(`"is_cropped"`)) || lenient(raw, &e) != nil || e.Type != eventMessage && e.Type != eventEdit && e.Type != eventReply {
			continue
		}
		m, err := messageOf(e.Object)
		if err != nil || !bool(m.Cropped) {
			continue
		}
		items, err := c.load(ctx, m.PeerID, []int64{m.CMID})
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		if err != nil || len(items) != 1 {
			continue // better a part than nothing, and all that wait behind it
		}
		if full, ok := replaceMessage(raw, items[0]); ok {
			events[i] = full
		}
	}
	return events, nil
}

// load reads messages by their numbers in the chat.
func (c *channel) load(ctx context.Context, peer int64, cmids []int64) ([]json.RawMessage, error) {
	raw, err := c.patiently(ctx, "messages.getByConversationMessageId", url.Values{
		"peer_id": {number(peer)}, "conversation_message_ids": {list(cmids)}, "group_id": {number(c.group)},
	})
	if err != nil {
		return nil, err
	}
	var got struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := lenient(raw, &got); err != nil {
		return nil, err
	}
	return got.Items, nil
}

// replaceMessage puts the whole message into its event, where messageOf finds it.
func replaceMessage(raw, whole json.RawMessage) (json.RawMessage, bool) {
	var e, o, m map[string]json.RawMessage
	if json.Unmarshal(raw, &e) != nil || json.Unmarshal(e["object"], &o) != nil || json.Unmarshal(whole, &m) != nil {
		return nil, false
	}
	delete(m, "is_cropped")
	message, err := json.Marshal(m)
	if err != nil {
		return nil, false
	}
	e["object"] = message
	if o["message"] != nil {
		o["message"] = message
		if e["object"], err = json.Marshal(o); err != nil {
			return nil, false
		}
	}
	full, err := json.Marshal(e)
	return full, err == nil
}

func list(numbers []int64) string {
	var b strings.Builder
	for i, n := range numbers {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(number(n))
	}
	return b.String()
}

// rawUpdates finds the keys of events that came in one answer, whose order is the
// platform's. An event without a place of its own takes that of its neighbour in
// the chat: behind the message before it, else before the message behind it.
func rawUpdates(pieces []json.RawMessage) []channels.RawUpdate {
	updates := make([]channels.RawUpdate, len(pieces))
	last := map[string]int64{}
	var waiting []int
	for i, raw := range pieces {
		var h head
		if h.read(raw) != nil {
			h = head{} // Decode sets it aside
		}
		u, placed := rawUpdate(&h, raw)
		switch before, ok := last[u.ChatKey]; {
		case placed && h.kind != eventEdit:
			for _, w := range waiting {
				if updates[w].ChatKey == u.ChatKey && updates[w].Order == noOrder {
					updates[w].Order = u.Order - 1
				}
			}
			last[u.ChatKey] = u.Order
		case placed:
		case ok:
			u.Order = before
		default:
			waiting = append(waiting, i)
		}
		updates[i] = u
	}
	return updates
}
