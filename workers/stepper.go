package workers

import (
	"context"
	"errors"
	"sync"
	"time"

	"switchboard/internal/queue"
)

// stepper is the group commit of sending: the outcomes and claims of all jobs
// that wait at the moment share one transaction. A job's next step goes along
// with its last outcome.
type stepper struct {
	store Store
	node  string
	pace  queue.Pace
	bus   Bus
	in    chan stepRequest
	told  chan struct{} // holds a value while a wake of the hubs is due
}

type stepRequest struct {
	ctx     context.Context
	outcome *queue.Outcome
	chat    string // to claim for; "" for none
	done    chan stepResult
}

type stepResult struct {
	claim queue.Claim
	err   error
}

// maxSteps bounds one transaction.
const maxSteps = 500

func newStepper(store Store, node string, pace queue.Pace, bus Bus) *stepper {
	return &stepper{store: store, node: node, pace: pace, bus: bus, in: make(chan stepRequest, maxSteps), told: make(chan struct{}, 1)}
}

// step records the outcome (if any) and claims the chat's next send (if chat is
// given). It returns when that is committed.
func (s *stepper) step(ctx context.Context, outcome *queue.Outcome, chat string) (queue.Claim, error) {
	r := stepRequest{ctx: ctx, outcome: outcome, chat: chat, done: make(chan stepResult, 1)}
	select {
	case s.in <- r:
	case <-ctx.Done():
		return queue.Claim{}, ctx.Err()
	}
	select {
	case res := <-r.done:
		return res.claim, res.err
	case <-ctx.Done():
		return queue.Claim{}, ctx.Err()
	}
}

var errStopped = errors.New("workers are stopping")

// run commits batches one after another until ctx ends; two run side by side, so
// that one gathers while the other waits for the disk.
func (s *stepper) run(ctx context.Context) {
	var others sync.WaitGroup
	others.Go(func() { s.loop(ctx) })
	others.Go(func() { s.tell(ctx) })
	s.loop(ctx)
	others.Wait()
}

// tellEvery is how often statuses of what was sent are told to the hubs: the first
// after a rest at once. A bulk load would ring them all the time, for ticks that
// nobody looks at.
const tellEvery = 50 * time.Millisecond

func (s *stepper) tell(ctx context.Context) {
	for {
		select {
		case <-s.told:
			s.bus.Wake("events")
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(tellEvery):
		case <-ctx.Done():
			select {
			case <-s.told:
				s.bus.Wake("events")
			default:
			}
			return
		}
	}
}

func (s *stepper) loop(ctx context.Context) {
	batch := make([]stepRequest, 0, maxSteps)
	for {
		batch = batch[:0]
		select {
		case r := <-s.in:
			batch = append(batch, r)
		case <-ctx.Done():
			for {
				select {
				case r := <-s.in:
					r.done <- stepResult{err: errStopped}
				default:
					return
				}
			}
		}
	gather:
		for len(batch) < maxSteps {
			select {
			case r := <-s.in:
				batch = append(batch, r)
			default:
				break gather
			}
		}
		s.commit(ctx, batch)
	}
}

func (s *stepper) commit(ctx context.Context, batch []stepRequest) {
	claims, err := s.try(ctx, batch)
	if err != nil && len(batch) > 1 {
		// One bad row must not hold up the others.
		for i := range batch {
			s.commit(ctx, batch[i:i+1])
		}
		return
	}
	for i := range batch {
		if err != nil {
			batch[i].done <- stepResult{err: err}
			continue
		}
		batch[i].done <- stepResult{claim: claims[batch[i].chat]}
	}
}

func (s *stepper) try(ctx context.Context, batch []stepRequest) (map[string]queue.Claim, error) {
	// The jobs' own contexts don't reach the transaction that they share; it has
	// a deadline instead.
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	outcomes := make([]queue.Outcome, 0, len(batch))
	chats := make([]string, 0, len(batch))
	for _, r := range batch {
		if r.outcome != nil {
			outcomes = append(outcomes, *r.outcome)
		}
		if r.chat != "" {
			chats = append(chats, r.chat)
		}
	}
	claims, err := s.store.Step(ctx, s.node, outcomes, chats, s.pace)
	if err != nil {
		return nil, err
	}
	if len(outcomes) > 0 {
		select {
		case s.told <- struct{}{}:
		default:
		}
	}
	byChat := make(map[string]queue.Claim, len(claims))
	for _, c := range claims {
		byChat[c.ChatID] = c
	}
	return byChat, nil
}
