package chathub

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"switchboard"
)

const (
	methodHello = "hello"
	// replayTimeout bounds one replay; a client that can't take MaxReplay events
	// in this time is closed with 4408 and resumes with the rest.
	replayTimeout = 30 * time.Second
	// replayPage is how many replayed events share their queries.
	replayPage = 200
)

type helloParams struct {
	Cursor *string `json:"cursor"`
}

type helloResult struct {
	Operator switchboard.Operator `json:"operator"`
	Cursor   string               `json:"cursor"`
	Chats    []switchboard.Chat   `json:"chats"`
	Resync   bool                 `json:"resync,omitempty"`

	conn   *conn
	missed []switchboard.Event
}

// hello starts the stream of a connection.
//
// The connection is registered at a position first; from then on live events
// are held. Everything up to the position comes from the database, the rest was
// held: together that is each event once.
func (h *Hub) hello(ctx context.Context, c *conn, p *helloParams) (any, error) {
	if c.greeted() {
		return nil, fail(codeConflict, "hello was said already")
	}
	select {
	case h.replays <- struct{}{}:
		defer func() { <-h.replays }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, resync, err := h.readCursor(ctx, p.Cursor)
	if err != nil {
		return nil, err
	}
	pos, err := h.register(c, after)
	if err != nil {
		return nil, err
	}
	res, err := h.prepareHello(ctx, c, after, pos, resync)
	if err != nil {
		h.unregister(c)
		return nil, err
	}
	return res, nil
}

// readCursor returns the event after which to go on, -1 for "from now on".
// resync is set when there is no going on from the cursor.
func (h *Hub) readCursor(ctx context.Context, cursor *string) (after int64, resync bool, err error) {
	if cursor == nil || *cursor == "" {
		return -1, false, nil
	}
	after, err = strconv.ParseInt(*cursor, 10, 64)
	if err != nil || after < 0 {
		return 0, false, fail(codeParams, "cursor must be one that an event or hello gave, or null")
	}
	h.mu.RLock()
	pos, follows := h.pos, h.follows
	h.mu.RUnlock()
	if !follows {
		return 0, false, fmt.Errorf("the event stream is not open yet: %w", switchboard.ErrUnavailable)
	}
	if after <= pos {
		return after, false, nil
	}
	// Another hub was ahead of this one, or the cursor is of another database.
	last, err := h.deps.Store.LastEvent(ctx)
	if err != nil {
		return 0, false, err
	}
	if after > last {
		return -1, true, nil
	}
	return after, false, nil
}

// register makes the connection one that live events after pos are held for.
func (h *Hub) register(c *conn, after int64) (pos int64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.follows {
		return 0, fmt.Errorf("the event stream is not open yet: %w", switchboard.ErrUnavailable)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.from = replaying, max(h.pos, after)
	h.live[c] = struct{}{}
	if c.operator.Role.AtLeast(switchboard.RoleSupervisor) {
		h.managers[c] = struct{}{}
	}
	return h.pos, nil
}

// unregister undoes register, so that the client may try again.
func (h *Hub) unregister(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(h.live, c)
	delete(h.managers, c)
	for _, frame := range c.held {
		c.waiting -= len(frame)
	}
	c.held, c.state = nil, greeting
}

func (h *Hub) prepareHello(ctx context.Context, c *conn, after, pos int64, resync bool) (*helloResult, error) {
	res := &helloResult{Operator: c.operator, Cursor: cursorOf(pos), Resync: resync, conn: c}
	if after >= 0 {
		res.Cursor = cursorOf(after)
	}
	if after >= 0 && after < pos {
		missed, err := h.deps.Store.EventsFor(ctx, c.operator, after, pos, h.cfg.MaxReplay+1)
		switch {
		case errors.Is(err, switchboard.ErrNotFound) || len(missed) > h.cfg.MaxReplay:
			res.Resync, res.Cursor = true, cursorOf(pos)
		case err != nil:
			return nil, err
		default:
			res.missed = missed
		}
	}
	if res.Resync {
		h.metrics.resyncs.Inc()
	}
	var err error
	if res.Chats, err = h.deps.Store.OperatorChats(ctx, c.operator.ID, h.cfg.QueueLength); err != nil {
		return nil, err
	}
	if err := h.deps.Store.OperatorCame(ctx, c.operator.ID); err != nil {
		return nil, err
	}
	h.deps.Bus.Wake(topicEvents)
	if res.Operator.Presence == switchboard.PresenceOffline {
		res.Operator.Presence = switchboard.PresenceOnline
	}
	if res.Chats == nil {
		res.Chats = []switchboard.Chat{}
	}
	return res, nil
}

// then sends the missed events and goes live.
func (res *helloResult) then(ctx context.Context) error {
	c, h := res.conn, res.conn.hub
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	for missed := res.missed; len(missed) > 0; {
		n := min(len(missed), replayPage)
		loaded, ok := h.load(ctx, missed[:n])
		if !ok {
			return ctx.Err()
		}
		missed = missed[n:]
		for i := range loaded {
			frame := loaded[i].frameFor(&c.operator)
			if frame == nil {
				continue
			}
			if err := c.waitForRoom(ctx); err != nil {
				return err
			}
			c.push(frame)
			h.shown.event(&loaded[i], c.operator.ID)
			h.metrics.events.WithLabelValues(string(loaded[i].Type)).Inc()
		}
	}
	res.missed = nil
	c.goLive()
	return nil
}
