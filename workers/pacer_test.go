package workers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

// A send that was cut off is settled before anything puts it off: put off, it would
// look like one that never left.
func TestCutOffSendIsNotPutOff(t *testing.T) {
	t.Parallel()
	stopping := make(chan struct{})
	close(stopping)
	for guarantee, want := range map[string]queue.OutcomeKind{"at_most_once": queue.OutcomeFailed, "at_least_once": queue.OutcomeUnsent} {
		w := &Workers{stopping: stopping, deps: Deps{Accounts: oneAccount{&channels.Opened{Guarantee: guarantee, Capabilities: message.Capabilities{Rate: message.Rate{PerSecond: 1}}}}}}
		o := w.send(t.Context(), &queue.Claim{AccountID: "a", Orphan: true, At: time.Now().Add(time.Minute)})
		if o.Kind != want || (want == queue.OutcomeUnsent) != (o.Log.Note != "") {
			t.Errorf("%s: %+v", guarantee, o)
		}
	}
}

// When the account can't be opened at the moment, it stays one that was cut off.
func TestCutOffSendWithoutAccount(t *testing.T) {
	t.Parallel()
	w := &Workers{stopping: make(chan struct{}), deps: Deps{Accounts: noAccount{}}}
	if o := w.send(t.Context(), &queue.Claim{AccountID: "a", Orphan: true}); o.Kind != queue.OutcomeUnsent {
		t.Errorf("%+v", o)
	}
}

type noAccount struct{}

func (noAccount) Get(context.Context, string) (*channels.Opened, error) {
	return nil, channels.ErrNoAccount
}

type oneAccount struct{ opened *channels.Opened }

func (a oneAccount) Get(context.Context, string) (*channels.Opened, error) { return a.opened, nil }

// scripted is a store whose releases are scripted: one account's chats, a tenth of
// a second apart.
type scripted struct {
	Store
	left  int
	calls []time.Duration
	began time.Time
	free  int
	sent  []string
}

func (s *scripted) ReleaseParked(_ context.Context, _ string, _ queue.Pacing, room int) (out queue.Released, err error) {
	s.calls = append(s.calls, time.Since(s.began))
	if s.left == 0 {
		return queue.Released{}, nil
	}
	s.left--
	if room > 0 {
		out.Handed = []queue.Handed{{ChatID: fmt.Sprint("chat ", s.left)}}
	}
	out.Chats, out.Left, out.Next = 1, true, 100*time.Millisecond
	return out, nil
}

func (s *scripted) Free() int { return s.free }

func (s *scripted) Deliver(chats []queue.Handed) {
	s.free -= len(chats)
	for _, h := range chats {
		s.sent = append(s.sent, h.ChatID)
	}
}

// An account is seen to when the limiter has room again, until no chat is parked; and
// anew when it is noted again. What this process has room for it sends.
func TestPacer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{left: 3, began: time.Now(), free: 2}
		p := newPacer(store, func(string) queue.Pacing { return queue.Pacing{OK: true} }, store, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { p.run(ctx); close(done) }()
		p.note("a")
		p.note("a")
		time.Sleep(time.Second)
		synctest.Wait()
		want := []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond}
		if !slices.Equal(store.calls, want) {
			t.Errorf("released at %v, want %v", store.calls, want)
		}
		if want := []string{"chat 2", "chat 1"}; !slices.Equal(store.sent, want) {
			t.Errorf("sent %v here, want %v: there was room for two", store.sent, want)
		}
		store.calls, store.left = nil, 1
		p.note("a")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(store.calls) != 2 {
			t.Errorf("%d more calls, want 2", len(store.calls))
		}
		stop()
		<-done
	})
}
