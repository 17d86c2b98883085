package edge

import (
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"time"

	"switchboard"
	"switchboard/internal/queue"
)

// intake is the group commit: whatever waits at the moment is stored in one
// transaction, and everybody who waited is answered after its commit.
//
// One committer per process: with two, batches were half as large and 64
// connections got 18,000 webhooks/s where one gives 20,000 (two cores). A chat
// always goes to the same line, so an update that arrives after another of its
// chat was answered is stored later.
type intake struct {
	store   Store
	bus     Bus
	log     *slog.Logger
	metrics *metrics
	lines   [committers]chan intakeRequest
}

const (
	committers = 1
	// maxGather bounds one transaction. At 64 connections it never fills; at
	// thousands it keeps a commit around 10 ms.
	maxGather = 512
)

var (
	errOverloaded = errors.New("too many webhooks wait for their commit")
	errStopped    = errors.New("the edge is stopping")
)

type intakeRequest struct {
	updates []queue.RawUpdate
	done    chan error // capacity 1: the committer never waits for a caller that left
}

func newIntake(store Store, bus Bus, waiting int, m *metrics, log *slog.Logger) *intake {
	in := &intake{store: store, bus: bus, log: log, metrics: m}
	for i := range in.lines {
		in.lines[i] = make(chan intakeRequest, waiting/committers)
	}
	return in
}

// submit returns when updates are committed, or with the reason why not. After
// an error they may still be committed: the platform repeats, and the repeat is
// recognised.
func (in *intake) submit(ctx context.Context, updates []queue.RawUpdate) error {
	if len(updates) == 0 {
		return nil
	}
	r := intakeRequest{updates: updates, done: make(chan error, 1)}
	select {
	case in.lines[lineOf(updates[0])] <- r:
	default:
		return errOverloaded
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func lineOf(u queue.RawUpdate) int {
	h := fnv.New32a()
	h.Write([]byte(u.AccountID))
	h.Write([]byte(u.ChatKey))
	return int(h.Sum32() % committers)
}

// run commits until ctx ends and every request that was taken in is answered.
func (in *intake) run(ctx context.Context) {
	done := make(chan struct{})
	for i := range in.lines {
		go func() {
			in.loop(ctx, in.lines[i])
			done <- struct{}{}
		}()
	}
	for range in.lines {
		<-done
	}
}

func (in *intake) loop(ctx context.Context, line chan intakeRequest) {
	batch := make([]intakeRequest, 0, maxGather)
	for {
		batch = batch[:0]
		select {
		case r := <-line:
			batch = append(batch, r)
		case <-ctx.Done():
			for {
				select {
				case r := <-line:
					r.done <- errStopped
				default:
					return
				}
			}
		}
		n := len(batch[0].updates)
	gather:
		for n < maxGather {
			select {
			case r := <-line:
				batch = append(batch, r)
				n += len(r.updates)
			default:
				break gather
			}
		}
		// A stop must not cut a commit in half: callers wait for its answer.
		in.commit(context.WithoutCancel(ctx), batch, n)
	}
}

func (in *intake) commit(ctx context.Context, batch []intakeRequest, n int) {
	updates := batch[0].updates
	if len(batch) > 1 {
		updates = make([]queue.RawUpdate, 0, n)
		for i := range batch {
			updates = append(updates, batch[i].updates...)
		}
	}
	timed, cancel := context.WithTimeout(ctx, 7*time.Second)
	start := time.Now()
	err := in.store.Append(timed, updates)
	cancel()
	if err != nil && len(batch) > 1 && !errors.Is(err, switchboard.ErrUnavailable) {
		// Something in it the database won't take: one by one, so that only that
		// one is refused.
		for i := range batch {
			in.commit(ctx, batch[i:i+1], len(batch[i].updates))
		}
		return
	}
	in.metrics.commits.Observe(time.Since(start).Seconds())
	in.metrics.batch.Observe(float64(n))
	if err == nil {
		in.bus.Wake("lanes")
	} else {
		in.log.ErrorContext(ctx, "updates could not be stored; their senders were told to repeat", "updates", n, "error", err)
	}
	for i := range batch {
		batch[i].done <- err
	}
}
