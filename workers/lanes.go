package workers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

// A drain job owns its lane for as long as traffic keeps coming: between two
// updates it lingers, woken by the bus, so that a busy lane costs no job per
// message and a message waits for no job to be fetched.
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

// Work drains the lane until it has been empty for a while.
func (d *drainWorker) Work(ctx context.Context, job *river.Job[queue.DrainArgs]) error {
	w, lane := d.w, job.Args.Lane
	wake, release := w.lanes.hold(lane)
	defer release()
	began := time.Now()
	idle := time.NewTimer(linger)
	defer idle.Stop()
	for {
		emptied, err := w.drainAll(ctx, lane)
		if err != nil {
			if ctx.Err() == nil {
				w.log.WarnContext(ctx, "lane could not be drained; it will be tried again", "lane", lane, "error", err)
			}
			// Snoozing takes no attempt, and up to 5 s skips River's scheduler.
			return river.JobSnooze(time.Second)
		}
		if emptied {
			idle.Reset(linger)
		}
		if time.Since(began) < holdAtMost {
			select {
			case <-wake:
				continue
			case <-idle.C:
			case <-w.stopping:
			case <-ctx.Done():
			}
		}
		released, err := w.deps.Store.ReleaseLane(ctx, lane)
		if err != nil {
			return river.JobSnooze(time.Second)
		}
		if released {
			return nil
		}
		select {
		case <-w.stopping:
			// Somebody else goes on with what came in meanwhile.
			return river.JobSnooze(0)
		default:
		}
	}
}

// drainAll normalises until the lane is empty. did tells whether there was anything.
func (w *Workers) drainAll(ctx context.Context, lane int) (did bool, err error) {
	for {
		var acks []ack
		start := time.Now()
		done, err := w.deps.Store.Drain(ctx, lane, w.cfg.Batch, func(stored []queue.StoredUpdate) []queue.Decoded {
			var decoded []queue.Decoded
			decoded, acks = w.decode(ctx, stored)
			return decoded
		})
		if err != nil {
			return did, err
		}
		if done.Updates == 0 {
			return did, nil
		}
		did = true
		w.metrics.drains.Observe(time.Since(start).Seconds())
		w.metrics.updates.Add(float64(done.Updates))
		w.metrics.messages.Add(float64(done.Messages))
		w.metrics.quarantined.Add(float64(done.Quarantined))
		if done.Quarantined > 0 {
			w.log.ErrorContext(ctx, "updates were put into quarantine", "lane", lane, "count", done.Quarantined)
		}
		if done.Events > 0 {
			w.deps.Bus.Wake("events")
		}
		w.acknowledge(ctx, acks)
		if done.Updates < w.cfg.Batch {
			return did, nil
		}
	}
}

type ack struct {
	channel channels.Acknowledger
	raw     []byte
}

func (w *Workers) decode(ctx context.Context, stored []queue.StoredUpdate) ([]queue.Decoded, []ack) {
	decoded := make([]queue.Decoded, len(stored))
	var acks []ack
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
	}
	return decoded, acks
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
			if err := a.channel.Acknowledge(ctx, a.raw); err != nil {
				w.log.InfoContext(ctx, "button press could not be acknowledged", "error", err)
			}
		})
	}
}

// laneWatch tells held lanes that something came in: on a hint of the bus it
// asks the database, once for all lanes that this process holds.
type laneWatch struct {
	store Store
	bus   Bus
	log   *slog.Logger

	mu   sync.Mutex
	held map[int32]map[chan struct{}]struct{} // a lane may be held twice after a rescue
}

func newLaneWatch(store Store, bus Bus, log *slog.Logger) *laneWatch {
	return &laneWatch{store: store, bus: bus, log: log, held: map[int32]map[chan struct{}]struct{}{}}
}

func (l *laneWatch) hold(lane int) (wake <-chan struct{}, release func()) {
	ch := make(chan struct{}, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[int32(lane)] == nil {
		l.held[int32(lane)] = map[chan struct{}]struct{}{}
	}
	l.held[int32(lane)][ch] = struct{}{}
	return ch, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held[int32(lane)], ch)
		if len(l.held[int32(lane)]) == 0 {
			delete(l.held, int32(lane))
		}
	}
}

func (l *laneWatch) run(ctx context.Context) {
	hints, cancel := l.bus.Subscribe("lanes")
	defer cancel()
	poll := time.NewTicker(500 * time.Millisecond) // what a lost hint costs
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hints:
		case <-poll.C:
		}
		l.mu.Lock()
		lanes := make([]int32, 0, len(l.held))
		for lane := range l.held {
			lanes = append(lanes, lane)
		}
		l.mu.Unlock()
		if len(lanes) == 0 {
			continue
		}
		waiting, err := l.store.WaitingLanes(ctx, lanes)
		if err != nil {
			if ctx.Err() == nil {
				l.log.WarnContext(ctx, "waiting lanes could not be read", "error", err)
			}
			continue
		}
		l.mu.Lock()
		for _, lane := range waiting {
			for ch := range l.held[lane] {
				select {
				case ch <- struct{}{}:
				default:
				}
			}
		}
		l.mu.Unlock()
	}
}
