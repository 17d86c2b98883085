package chathub

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"switchboard"
	"switchboard/message"
)

const (
	// safetyPoll is how late an event comes whose hint was lost.
	safetyPoll = time.Second
	// batch is how many events are read at once: some hundred share their
	// queries, more would delay the first and come to the connections as a flood.
	batch = 250
	// blockedMin and blockedMax are the pauses while an earlier event may still
	// come: usually its transaction is about to commit.
	blockedMin, blockedMax = 250 * time.Microsecond, 50 * time.Millisecond
)

// follow hands the stream of events to the connections until ctx ends.
func (h *Hub) follow(ctx context.Context) {
	hints, cancel := h.deps.Bus.Subscribe(topicEvents)
	defer cancel()
	var tail Tail
	if !h.persist(ctx, "event stream could not be opened", func() (err error) {
		tail, err = h.deps.OpenTail(ctx)
		return err
	}) {
		return
	}
	h.mu.Lock()
	h.pos, h.follows = tail.Pos(), true
	h.mu.Unlock()

	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := blockedMin
	for {
		var events []switchboard.Event
		var blocked bool
		if !h.persist(ctx, "events could not be read", func() (err error) {
			events, blocked, err = tail.Next(ctx, batch)
			return err
		}) {
			return
		}
		if len(events) > 0 {
			pause = blockedMin
			if !h.hand(ctx, events) {
				return
			}
		}
		switch {
		case blocked:
			timer.Reset(pause)
			pause = min(2*pause, blockedMax)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		case len(events) == batch:
		default:
			timer.Reset(safetyPoll)
			select {
			case <-hints:
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// persist repeats do until it succeeds, with pauses up to 2 s, and reports
// false when ctx ended before. Each spell of failures is logged once.
func (h *Hub) persist(ctx context.Context, failed string, do func() error) bool {
	pause := 50 * time.Millisecond
	for attempt := 1; ; attempt++ {
		err := do()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if attempt == 1 {
			h.log.ErrorContext(ctx, failed, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// hand gives events to the connections that they concern. It reports false when
// ctx ended.
func (h *Hub) hand(ctx context.Context, events []switchboard.Event) bool {
	// From here on a new connection starts after these events: it replays them
	// from the database, and deliver passes over them.
	h.mu.Lock()
	h.pos = events[len(events)-1].ID
	wanted := events[:0:0]
	for _, e := range events {
		if h.concernsSomebody(&e) {
			wanted = append(wanted, e)
		}
	}
	h.mu.Unlock()
	if len(wanted) == 0 {
		return true
	}
	loaded, ok := h.load(ctx, wanted)
	if !ok {
		return false
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for i := range loaded {
		e := &loaded[i]
		sent := 0
		h.eachConcerned(e, func(c *conn) {
			if frame := e.frameFor(&c.operator); frame != nil {
				c.deliver(e.ID, frame)
				h.shown.event(e, c.operator.ID)
				sent++
			}
		})
		if sent > 0 {
			h.metrics.events.WithLabelValues(string(e.Type)).Add(float64(sent))
			h.metrics.lag.Observe(max(0, time.Since(e.At).Seconds()))
		}
	}
	return true
}

// concernsSomebody and eachConcerned mirror switchboard.Event.For over the
// hub's index. They are called with h.mu held.
func (h *Hub) concernsSomebody(e *switchboard.Event) bool {
	if len(h.live) == 0 {
		return false
	}
	return e.Everyone || len(h.managers) > 0 || len(h.byOwner[e.OperatorID]) > 0 || len(h.byOwner[e.FormerOperatorID]) > 0
}

func (h *Hub) eachConcerned(e *loadedEvent, do func(*conn)) {
	if e.Everyone {
		for c := range h.live {
			do(c)
		}
		return
	}
	for c := range h.managers {
		do(c)
	}
	owners := []string{e.OperatorID, e.FormerOperatorID}
	if e.OperatorID == e.FormerOperatorID {
		owners = owners[:1]
	}
	for _, id := range owners {
		for _, c := range h.byOwner[id] {
			if !c.operator.Role.AtLeast(switchboard.RoleSupervisor) { // those have it already
				do(c)
			}
		}
	}
}

// loadedEvent is an event with what it shows, encoded when first asked for.
type loadedEvent struct {
	switchboard.Event
	holder   switchboard.Chat // of message and typing events
	whole    []byte
	redacted []byte
}

// load fills events in. While the database is away it waits; an event that
// can't be read although the database is there is passed over, so that one
// broken row doesn't end the stream. It reports false when ctx ended.
func (h *Hub) load(ctx context.Context, events []switchboard.Event) (loaded []loadedEvent, ok bool) {
	var fault error
	ok = h.persist(ctx, "events could not be loaded", func() (err error) {
		loaded, err = h.tryLoad(ctx, events)
		if err != nil && !h.unavailable(err) {
			fault, err = err, nil
		}
		return err
	})
	switch {
	case !ok:
		return nil, false
	case fault == nil:
		return loaded, true
	case len(events) == 1:
		h.metrics.lost.Inc()
		h.log.ErrorContext(ctx, "event can't be read and is passed over", "event", events[0].ID, "type", events[0].Type, "error", fault)
		return nil, true
	}
	for i := range events {
		one, ok := h.load(ctx, events[i:i+1])
		if !ok {
			return nil, false
		}
		loaded = append(loaded, one...)
	}
	return loaded, true
}

func (h *Hub) tryLoad(ctx context.Context, events []switchboard.Event) ([]loadedEvent, error) {
	holders, err := h.deps.Store.LoadEvents(ctx, events)
	if err != nil {
		return nil, err
	}
	loaded := make([]loadedEvent, len(events))
	for i := range events {
		loaded[i] = loadedEvent{Event: events[i], holder: holders[events[i].ChatID]}
		if err := loaded[i].check(); err != nil {
			return nil, err
		}
	}
	return loaded, nil
}

func needsHolder(t switchboard.EventType) bool {
	return t == switchboard.EventMessageNew || t == switchboard.EventMessageUpdated || t == switchboard.EventCustomerTyping
}

// presence is the payload of a presence event.
type presence struct {
	ID     string               `json:"id"`
	Name   string               `json:"name"`
	Status switchboard.Presence `json:"status"`
}

type eventParams struct {
	Cursor   string                `json:"cursor"`
	Type     switchboard.EventType `json:"type"`
	ChatID   string                `json:"chat_id,omitempty"`
	Message  *message.Message      `json:"message,omitempty"`
	Chat     *switchboard.Chat     `json:"chat,omitempty"`
	Operator *presence             `json:"operator,omitempty"`
}

// check encodes what everybody who may see it gets, to find out in time whether
// that is possible.
func (e *loadedEvent) check() (err error) {
	p := eventParams{Type: e.Type, ChatID: e.ChatID}
	switch e.Type {
	case switchboard.EventMessageNew, switchboard.EventMessageUpdated:
		if e.Message == nil || e.holder.ID == "" {
			return nil // gone in the meantime
		}
		p.Message = e.Message
	case switchboard.EventChatOffered, switchboard.EventChatUpdated:
		if e.Chat == nil {
			return nil
		}
		p.Chat = e.Chat
	case switchboard.EventOperatorPresence:
		var stored struct {
			OperatorID string               `json:"operator_id"`
			Name       string               `json:"name"`
			Status     switchboard.Presence `json:"status"`
		}
		if err := json.Unmarshal(e.Payload, &stored); err != nil {
			return fmt.Errorf("reading payload of event %d: %w", e.ID, err)
		}
		p.Operator = &presence{stored.OperatorID, stored.Name, stored.Status}
	case switchboard.EventCustomerTyping:
		if e.holder.ID == "" {
			return nil
		}
	default:
		return nil // of a newer version
	}
	e.whole, err = p.encode(e.ID)
	return err
}

// frameFor is what the operator gets of an event that concerns them; nil for
// nothing.
func (e *loadedEvent) frameFor(o *switchboard.Operator) []byte {
	switch {
	case e.whole == nil:
		return nil
	case needsHolder(e.Type):
		if !o.MaySee(e.holder) {
			return nil
		}
	case e.Chat != nil && !o.MaySee(*e.Chat):
		if e.redacted == nil {
			p := eventParams{Type: switchboard.EventChatUpdated, ChatID: e.ChatID, Chat: new(e.Chat.Redacted())}
			e.redacted, _ = p.encode(e.ID) // a part of what was encoded already
		}
		return e.redacted
	}
	return e.whole
}

func (p eventParams) encode(id int64) ([]byte, error) {
	p.Cursor = cursorOf(id)
	frame, err := json.Marshal(notification{"2.0", "event", p})
	if err != nil {
		return nil, fmt.Errorf("encoding event %d: %w", id, err)
	}
	return frame, nil
}

func cursorOf(id int64) string { return strconv.FormatInt(id, 10) }
