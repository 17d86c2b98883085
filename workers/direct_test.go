package workers

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"switchboard/internal/queue"
)

// waitingStore has chats whose turn comes much later.
type waitingStore struct {
	Store
	asked chan string

	mu     sync.Mutex
	unsent []string
	jobs   []string
}

func (s *waitingStore) Step(_ context.Context, _ string, outcomes []queue.Outcome, chats []string, _ queue.Pace) ([]queue.Claim, error) {
	s.mu.Lock()
	for _, o := range outcomes {
		if o.Kind == queue.OutcomeUnsent {
			s.unsent = append(s.unsent, o.Claim.ChatID)
		}
	}
	s.mu.Unlock()
	claims := make([]queue.Claim, len(chats))
	for i, id := range chats {
		claims[i] = queue.Claim{ChatID: id, State: queue.ClaimWait, Wait: time.Hour}
		s.asked <- id
	}
	return claims, nil
}

func (s *waitingStore) GiveJobs(_ context.Context, chats []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jobs = append(s.jobs, chats...)
	return nil
}

type deafBus struct{ Bus }

func (deafBus) Wake(string) {}

// What was handed over and is not done when the process stops is left to others: chats
// that wait for their turn, and claims that nobody has come to.
func TestDirectGivesBack(t *testing.T) {
	t.Parallel()
	store := &waitingStore{asked: make(chan string, 10)}
	log := slog.New(slog.DiscardHandler)
	w := &Workers{cfg: Config{Node: "n", Sends: 2}, deps: Deps{Store: store}, log: log, stopping: make(chan struct{}), direct: newDirect(1)}
	w.stepper = newStepper(store, "n", nil, deafBus{})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { w.stepper.run(ctx) })
	done := make(chan struct{})
	go func() { w.direct.run(ctx, w); close(done) }()
	w.Deliver([]queue.Handed{{ChatID: "waits"}, {ChatID: "stale", Claim: &queue.Claim{ChatID: "stale"}, At: time.Now().Add(-time.Hour)}})
	for range 2 {
		<-store.asked
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		w.direct.mu.Lock()
		n := len(w.direct.later)
		w.direct.mu.Unlock()
		if n == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d chats wait", n)
		}
	}
	close(w.stopping)
	<-done
	w.Deliver([]queue.Handed{{ChatID: "late", Claim: &queue.Claim{ChatID: "late"}, At: time.Now()}})
	slices.Sort(store.jobs)
	if want := []string{"late", "stale", "waits"}; !slices.Equal(store.jobs, want) {
		t.Errorf("given jobs: %v, want %v", store.jobs, want)
	}
	slices.Sort(store.unsent)
	if want := []string{"late", "stale"}; !slices.Equal(store.unsent, want) {
		t.Errorf("claims given back: %v, want %v", store.unsent, want)
	}
}

// A claim whose slot came too late is given back, and the slot is kept for the next one:
// else all who wait at a slow platform would claim in vain, again and again.
func TestStaleClaimKeepsItsSlot(t *testing.T) {
	t.Parallel()
	calls := make(chan struct{}, 1)
	w := &Workers{stopping: make(chan struct{})}
	s := slot{calls: calls}
	if o := w.sendWithin(t.Context(), &s, &queue.Claim{}, time.Now().Add(-2*handedFresh)); o.Kind != queue.OutcomeUnsent || !s.held || len(calls) != 1 {
		t.Errorf("outcome %v, slot held: %v", o.Kind, s.held)
	}
	close(w.stopping)
	other := slot{calls: calls}
	if o := w.sendWithin(t.Context(), &other, &queue.Claim{}, time.Now()); o.Kind != queue.OutcomeUnsent || other.held {
		t.Errorf("at the stop: outcome %v, slot held: %v", o.Kind, other.held)
	}
	s.leave()
	if s.leave(); len(calls) != 0 {
		t.Error("the slot is not free")
	}
}

// A claim waits for its time without a slot, which others can use meanwhile; a stop ends
// the wait.
func TestClaimAheadHoldsNoSlot(t *testing.T) {
	t.Parallel()
	for _, stops := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := &Workers{stopping: make(chan struct{}), deps: Deps{Accounts: noAccount{}}} // given back in the end
			s := slot{calls: make(chan struct{}, 1)}
			began, done := time.Now(), make(chan time.Duration)
			go func() {
				if o := w.sendWithin(t.Context(), &s, &queue.Claim{At: began.Add(time.Second)}, began); o.Kind != queue.OutcomeUnsent {
					t.Errorf("outcome %v", o.Kind)
				}
				done <- time.Since(began)
			}()
			synctest.Wait()
			if len(s.calls) != 0 {
				t.Error("a slot is held before the claim's time")
			}
			want := time.Second
			if stops {
				want = 0
				close(w.stopping)
			}
			if took := <-done; took != want || s.held == stops {
				t.Errorf("stopped %v: after %v, want %v; slot held: %v", stops, took, want, s.held)
			}
		})
	}
}

// Who hands chats over when nobody sends any more sees them given back.
func TestDirectIsOver(t *testing.T) {
	t.Parallel()
	store := &waitingStore{}
	w := &Workers{deps: Deps{Store: store}, stopping: make(chan struct{}), direct: newDirect(1)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.direct.run(ctx, w)
	if w.Deliver([]queue.Handed{{ChatID: "c"}}); !slices.Equal(store.jobs, []string{"c"}) || len(w.direct.chats) != 0 {
		t.Errorf("given jobs: %v; %d wait for nobody", store.jobs, len(w.direct.chats))
	}
}
