package edge

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"switchboard"
	"switchboard/internal/queue"
)

// intake is the group commit: whatever waits at the moment is stored in one
// transaction, and everybody who waited is answered after its commit.
//
// One committer: two make batches half as large, and what a batch costs by
// itself is as much as twenty of its rows (64 connections on two cores got
// 21,800 webhooks/s from two where one gave 25,200). It also means that an
// update that arrives after another of its chat was answered is stored later.
type intake struct {
	store    Store
	bus      Bus
	log      *slog.Logger
	metrics  *metrics
	patience time.Duration
	line     chan *intakeRequest
	ended    chan struct{} // closed when run has returned
}

// maxGather bounds one transaction. At 64 connections it never fills; at
// thousands it keeps a commit around 10 ms.
const maxGather = 512

var (
	errOverloaded = errors.New("too many webhooks wait for their commit")
	errLate       = errors.New("the commit would have come too late")
	errStopped    = errors.New("the edge is stopping")
)

type intakeRequest struct {
	updates []queue.RawUpdate
	since   time.Time
	done    chan error // capacity 1: the committer never waits for a caller
}

func newIntake(cfg Config, store Store, bus Bus, m *metrics, log *slog.Logger) *intake {
	return &intake{store: store, bus: bus, log: log, metrics: m, patience: cfg.CommitTimeout / 2, line: make(chan *intakeRequest, cfg.MaxWaiting), ended: make(chan struct{})}
}

// submit returns when updates are committed, or with the reason why not, at the
// latest after Config.CommitTimeout: half of it in the line, half in the commit.
// After an error they may still be committed: the platform repeats, and the
// repeat is recognised.
func (in *intake) submit(updates []queue.RawUpdate) error {
	if len(updates) == 0 {
		return nil
	}
	r := &intakeRequest{updates: updates, since: time.Now(), done: make(chan error, 1)}
	select {
	case in.line <- r:
	default:
		return errOverloaded
	}
	select {
	case err := <-r.done:
		return err
	case <-in.ended:
		return errStopped
	}
}

// run commits until ctx ends and every request that was taken in is answered.
func (in *intake) run(ctx context.Context) {
	defer close(in.ended)
	batch := make([]*intakeRequest, 0, maxGather)
	for {
		clear(batch[:cap(batch)]) // or they would live until it is as full again
		batch = batch[:0]
		select {
		case r := <-in.line:
			batch = append(batch, r)
		case <-ctx.Done():
			for {
				select {
				case r := <-in.line:
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
			case r := <-in.line:
				batch = append(batch, r)
				n += len(r.updates)
			default:
				break gather
			}
		}
		now := time.Now()
		batch = slices.DeleteFunc(batch, func(r *intakeRequest) bool {
			late := now.Sub(r.since) > in.patience
			if late {
				n -= len(r.updates)
				r.done <- errLate
			}
			return late
		})
		if len(batch) > 0 {
			// A stop must not cut a commit in half: callers wait for its answer.
			timed, cancel := context.WithTimeout(context.WithoutCancel(ctx), in.patience)
			in.commit(timed, batch, n)
			cancel()
		}
	}
}

func (in *intake) commit(ctx context.Context, batch []*intakeRequest, n int) {
	updates := batch[0].updates
	if len(batch) > 1 {
		updates = make([]queue.RawUpdate, 0, n)
		for i := range batch {
			updates = append(updates, batch[i].updates...)
		}
	}
	start := time.Now()
	err := in.store.Append(ctx, updates)
	if err != nil && len(batch) > 1 && ctx.Err() == nil && !errors.Is(err, switchboard.ErrUnavailable) {
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
