package workers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

// A drain job holds its lane for as long as traffic keeps coming, so that a busy
// lane costs no job per message and a message waits for no job to be fetched.
// The draining itself is done for all lanes that this process holds together
// (laneDrainer): whatever waits in any of them at the moment becomes one
// transaction.
const (
	// linger is how long an empty lane is held. Longer saves jobs on slow lanes,
	// at one worker slot per held lane (there are 32).
	linger = 3 * time.Second
	// holdAtMost bounds a job's life, so that lanes spread over processes again.
	holdAtMost = 2 * time.Minute
)

type drainWorker struct {
	river.WorkerDefaults[queue.DrainArgs]
	w *Workers
}

// Timeout implements river.Worker: none, the job bounds itself.
func (*drainWorker) Timeout(*river.Job[queue.DrainArgs]) time.Duration { return -1 }

// Work holds the lane until it has been empty for a while.
func (d *drainWorker) Work(ctx context.Context, job *river.Job[queue.DrainArgs]) error {
	w, lane := d.w, int32(job.Args.Lane)
	held := w.drainer.hold(lane)
	defer held.release()
	began := time.Now()
	for {
		stopping := !held.untilIdle(ctx, w.stopping, began.Add(holdAtMost))
		released, err := w.deps.Store.ReleaseLane(ctx, job.Args.Lane)
		switch {
		case err == nil && released:
			return nil
		case err != nil || stopping || time.Since(began) > holdAtMost:
			// Somebody goes on with what came in meanwhile. Snoozing takes no
			// attempt, and up to 5 s skips River's scheduler.
			return river.JobSnooze(200 * time.Millisecond)
		}
		// Something waits in it although nothing was drained for so long: draining
		// fails. Asking at once whether it still does would be asked in a circle.
		held.d.touch([]int32{lane})
	}
}

// laneDrainer drains the lanes that this process holds. There is one: two, each
// with half of the lanes, normalised 12,000 updates/s where one does 14,000 (two
// cores), because what a batch costs by itself is as much as ten of its updates.
type laneDrainer struct {
	w *Workers

	mu   sync.Mutex
	held map[*heldLane]struct{} // a lane may be held twice after a rescue
	kick chan struct{}
}

type heldLane struct {
	d      *laneDrainer
	lane   int32
	active time.Time // when it last had updates; guarded by d.mu
}

func newLaneDrainer(w *Workers) *laneDrainer {
	return &laneDrainer{w: w, held: map[*heldLane]struct{}{}, kick: make(chan struct{}, 1)}
}

func (l *laneDrainer) hold(lane int32) *heldLane {
	h := &heldLane{d: l, lane: lane, active: time.Now()}
	l.mu.Lock()
	l.held[h] = struct{}{}
	l.mu.Unlock()
	select {
	case l.kick <- struct{}{}:
	default:
	}
	return h
}

func (h *heldLane) release() {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	delete(h.d.held, h)
}

// untilIdle waits until the lane has had no updates for linger, or until the
// deadline; false means that the process stops.
func (h *heldLane) untilIdle(ctx context.Context, stopping <-chan struct{}, deadline time.Time) bool {
	for {
		h.d.mu.Lock()
		wait := min(time.Until(h.active.Add(linger)), time.Until(deadline))
		h.d.mu.Unlock()
		select {
		case <-ctx.Done():
			return false
		case <-stopping:
			return false
		case <-time.After(wait):
			if wait <= 0 {
				return true
			}
		}
	}
}

// run drains on hints of the bus; the poll is what a lost hint costs.
func (l *laneDrainer) run(ctx context.Context) {
	hints, cancel := l.w.deps.Bus.Subscribe("lanes")
	defer cancel()
	poll := time.NewTicker(500 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hints:
		case <-l.kick:
		case <-poll.C:
		}
		for ctx.Err() == nil {
			lanes := l.lanes()
			if len(lanes) == 0 {
				break
			}
			done, err := l.w.drain(ctx, lanes)
			if err != nil {
				if ctx.Err() == nil {
					l.w.log.WarnContext(ctx, "lanes could not be drained; they will be tried again", "lanes", len(lanes), "error", err)
				}
				break // the poll comes soon
			}
			l.touch(done.Lanes)
			if !done.More {
				break // what is committed from now on rings again
			}
		}
	}
}

func (l *laneDrainer) lanes() []int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	lanes := make([]int32, 0, len(l.held))
	for h := range l.held {
		if !slices.Contains(lanes, h.lane) {
			lanes = append(lanes, h.lane)
		}
	}
	return lanes
}

func (l *laneDrainer) touch(lanes []int32) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for h := range l.held {
		if slices.Contains(lanes, h.lane) {
			h.active = now
		}
	}
}

// drain normalises one batch.
func (w *Workers) drain(ctx context.Context, lanes []int32) (queue.Drained, error) {
	var acks []ack
	var found []look
	start := time.Now()
	done, err := w.deps.Store.Drain(ctx, lanes, w.cfg.Batch, func(stored []queue.StoredUpdate) []queue.Decoded {
		var decoded []queue.Decoded
		decoded, acks, found = w.decode(ctx, stored)
		return decoded
	})
	if err != nil || done.Updates == 0 {
		return done, err
	}
	if done.Events > 0 {
		w.deps.Bus.Wake("events")
	}
	w.metrics.drains.Observe(time.Since(start).Seconds())
	w.metrics.updates.Add(float64(done.Updates))
	w.metrics.messages.Add(float64(done.Messages))
	w.metrics.quarantined.Add(float64(done.Quarantined))
	if done.Quarantined > 0 {
		w.log.ErrorContext(ctx, "updates were put into quarantine", "count", done.Quarantined)
	}
	w.acknowledge(ctx, acks)
	w.lookAt(ctx, found)
	return done, nil
}

type ack struct {
	channel channels.Acknowledger
	raw     []byte
}

func (w *Workers) decode(ctx context.Context, stored []queue.StoredUpdate) ([]queue.Decoded, []ack, []look) {
	decoded := make([]queue.Decoded, len(stored))
	var acks []ack
	found := make([]look, 0, len(stored))
	for i := range stored {
		account, err := w.deps.Accounts.Get(ctx, stored[i].AccountID)
		if err != nil {
			decoded[i].Err = fmt.Errorf("account %s: %w", stored[i].AccountID, err)
			continue
		}
		decoded[i] = decodeOne(account, stored[i].Raw)
		if a, ok := account.Channel.(channels.Acknowledger); ok && wantsAck(decoded[i].Updates) {
			acks = append(acks, ack{a, stored[i].Raw})
		}
		found = looks(found, account, stored[i].AccountID, &decoded[i])
	}
	return decoded, acks, found
}

// decodeOne contains a decoder's panic to its update.
func decodeOne(account *channels.Opened, raw []byte) (d queue.Decoded) {
	d.Platform = account.Account.Platform
	defer func() {
		if p := recover(); p != nil {
			d.Updates, d.Err = nil, fmt.Errorf("decoder panicked: %v", p)
		}
	}()
	d.Updates, d.Err = account.Channel.Decode(raw)
	return d
}

func wantsAck(updates []message.Update) bool {
	for i := range updates {
		if updates[i].Kind == message.UpdateMessage && updates[i].Content.Kind == message.KindButton {
			return true
		}
	}
	return false
}

// acknowledge answers button presses, so that the customer's client stops
// waiting. It is a courtesy: at most 64 at once, others are passed over.
func (w *Workers) acknowledge(ctx context.Context, acks []ack) {
	for _, a := range acks {
		select {
		case w.ackSlots <- struct{}{}:
		default:
			return
		}
		w.acks.Go(func() {
			defer func() { <-w.ackSlots }()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := channels.Contain(func() error { return a.channel.Acknowledge(ctx, a.raw) }); err != nil {
				w.log.InfoContext(ctx, "button press could not be acknowledged", "error", err)
			}
		})
	}
}
