package chathub

import (
	"context"
	"sync"
	"time"

	"switchboard"
	"switchboard/message"
)

const (
	// shownEvery is how often the notes are written: one statement for all that
	// came together, and at most this much of them is lost when a hub is killed.
	shownEvery = 250 * time.Millisecond
	// shownWaiting bounds the notes (one per chat and operator) while the database
	// is away. Beyond it they are dropped: they are a record, not a message.
	shownWaiting = 20_000
)

// shown notes, off the way of events and calls, which of a customer's messages
// came before the eyes of the operator who serves the chat: those handed to a
// connection of theirs, and those that they said they read. The database keeps
// one entry per message and operator, however often a message is handed over.
type shown struct {
	hub *Hub

	mu      sync.Mutex
	waiting map[shownKey]switchboard.Shown
	some    chan struct{} // holds a value while something waits
}

type shownKey struct{ chatID, operatorID string }

func newShown(h *Hub) *shown {
	return &shown{hub: h, waiting: map[shownKey]switchboard.Shown{}, some: make(chan struct{}, 1)}
}

// note takes down that the messages from and to, and those between, were shown.
// What waits for one chat and operator is joined.
func (s *shown) note(chatID, operatorID string, from, to int64) {
	key := shownKey{chatID, operatorID}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.waiting[key]
	switch {
	case ok:
		n.From, n.To = min(n.From, from), max(n.To, to)
	case len(s.waiting) >= shownWaiting:
		return
	default:
		n = switchboard.Shown{ChatID: chatID, OperatorID: operatorID, From: from, To: to}
	}
	s.waiting[key] = n
	s.ring()
}

func (s *shown) ring() {
	select {
	case s.some <- struct{}{}:
	default:
	}
}

// event notes a message that was handed to a connection of an operator.
func (s *shown) event(e *loadedEvent, operatorID string) {
	if e.Type != switchboard.EventMessageNew || e.holder.OperatorID == nil || *e.holder.OperatorID != operatorID {
		return
	}
	s.message(e.Message, operatorID)
}

// message notes one message, if it is a customer's.
func (s *shown) message(m *message.Message, operatorID string) {
	if m != nil && m.Direction == message.In {
		s.note(m.ChatID, operatorID, m.Seq, m.Seq)
	}
}

// run writes the notes until ctx ends.
func (s *shown) run(ctx context.Context) {
	for {
		select {
		case <-s.some:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(shownEvery):
			s.flush(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// flush writes what waits; what can't be written waits on.
func (s *shown) flush(ctx context.Context) {
	s.mu.Lock()
	taken := s.waiting
	s.waiting = map[shownKey]switchboard.Shown{}
	s.mu.Unlock()
	if len(taken) == 0 {
		return
	}
	list := make([]switchboard.Shown, 0, len(taken))
	for _, n := range taken {
		list = append(list, n)
	}
	ctx, cancel := context.WithTimeout(ctx, s.hub.cfg.CallTimeout)
	defer cancel()
	if err := s.hub.deps.Store.LogShown(ctx, list); err != nil {
		if ctx.Err() == nil {
			s.hub.log.WarnContext(ctx, "shown messages could not be noted yet", "error", err)
		}
		for _, n := range list {
			s.note(n.ChatID, n.OperatorID, n.From, n.To)
		}
	}
}
