package chathub

import (
	"context"
	"sync"
	"time"

	"switchboard/channels"
)

const (
	// typingEvery is how often one chat is shown the sign: platforms show it for
	// about five seconds.
	typingEvery = 3500 * time.Millisecond
	// typingSenders bounds what slow platforms can hold; signs beyond
	// typingWaiting are dropped, for a late one is worthless.
	typingSenders = 4
	typingWaiting = 64
	typingTimeout = 5 * time.Second
)

// typing shows customers that an operator is typing, off the way of calls.
type typing struct {
	hub   *Hub
	chats chan string

	mu    sync.Mutex
	shown map[string]time.Time // when last, by chat; entries older than typingEvery are dropped by sweep
}

func newTyping(h *Hub) *typing {
	return &typing{hub: h, chats: make(chan string, typingWaiting), shown: map[string]time.Time{}}
}

func (t *typing) start(ctx context.Context, wg *sync.WaitGroup) {
	for range typingSenders {
		wg.Go(func() {
			for {
				select {
				case chatID := <-t.chats:
					t.send(ctx, chatID)
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

// show queues a sign for the chat, unless it had one just now.
func (t *typing) show(chatID string) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.shown[chatID]) < typingEvery {
		t.hub.metrics.typing.WithLabelValues("limited").Inc()
		return
	}
	select {
	case t.chats <- chatID:
		t.shown[chatID] = now
	default:
		t.hub.metrics.typing.WithLabelValues("dropped").Inc()
	}
}

// sweep forgets chats that may have a sign again.
func (t *typing) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, at := range t.shown {
		if now.Sub(at) >= typingEvery {
			delete(t.shown, id)
		}
	}
}

func (t *typing) send(ctx context.Context, chatID string) {
	ctx, cancel := context.WithTimeout(ctx, typingTimeout)
	defer cancel()
	result := "sent"
	if err := t.try(ctx, chatID); err != nil {
		// Nobody waits for it, and the next key press tries again.
		t.hub.log.DebugContext(ctx, "typing could not be shown", "chat", chatID, "error", err)
		result = "failed"
	}
	t.hub.metrics.typing.WithLabelValues(result).Inc()
}

func (t *typing) try(ctx context.Context, chatID string) error {
	accountID, key, err := t.hub.deps.Store.ChatKey(ctx, chatID)
	if err != nil {
		return err
	}
	opened, err := t.hub.deps.Accounts.Get(ctx, accountID)
	if err != nil {
		return err
	}
	if typer, ok := opened.Channel.(channels.Typer); ok && opened.Capabilities.Typing {
		return channels.Contain(func() error { return typer.Typing(ctx, key) })
	}
	return nil // a channel without it is no error: the client needn't know
}
