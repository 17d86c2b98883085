package edge_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"switchboard/channels"
	"switchboard/edge"
	"switchboard/internal/queue"
	"switchboard/message"
)

// kept is a channel that needs upkeep every ten minutes.
type kept struct {
	channel
	mu    sync.Mutex
	calls []time.Time
	err   error
}

func (k *kept) UpkeepEvery() time.Duration { return 10 * time.Minute }

func (k *kept) Upkeep(ctx context.Context) ([]channels.RawUpdate, error) {
	if _, limited := ctx.Deadline(); !limited {
		return nil, errors.New("no deadline")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, time.Now())
	return []channels.RawUpdate{{DedupKey: "missed", ChatKey: "c", Raw: []byte(`{}`)}}, k.err
}

func (k *kept) set(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func (k *kept) called() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.calls)
}

// An account is looked after soon, again and again, sooner after a failure; what
// was missed is stored, however often that takes, by the elected process alone.
func TestUpkeep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refusals := 2
		s := &store{append: func(context.Context, []queue.RawUpdate) error {
			if refusals--; refusals >= 0 {
				return errors.New("the database is away")
			}
			return nil
		}}
		k, b := &kept{}, &electing{}
		e, err := edge.New(edge.Config{}, s, b, accounts{&channels.Opened{Account: channels.Account{ID: "a", Platform: "p"}, Channel: k}}, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		expect := func(after time.Duration, calls, stored int) {
			t.Helper()
			time.Sleep(after) // of the bubble
			synctest.Wait()
			if n, _ := s.stored(); k.called() != calls || n != stored {
				t.Errorf("%d calls and %d stored, want %d and %d", k.called(), n, calls, stored)
			}
		}
		expect(time.Second, 0, 0)
		expect(10*time.Second, 1, 1)
		expect(9*time.Minute, 1, 1)
		k.set(errors.New("the platform is away"))
		expect(time.Minute, 2, 2) // what came beside an error counts
		expect(time.Minute, 3, 3)
		k.set(nil)
		expect(time.Minute, 4, 4)
		expect(9*time.Minute, 4, 4)
		k.set(&message.Error{Kind: message.ErrAccount})
		expect(time.Minute, 5, 5)
		expect(9*time.Minute, 5, 5)
		k.set(nil)
		b.set(errors.New("the bus is away"))
		expect(time.Hour, 5, 5)
		b.set(nil)
		expect(10*time.Second, 6, 6)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
