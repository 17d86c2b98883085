package workers

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"switchboard/internal/queue"
)

// direct delivers chats without jobs. A campaign makes one message in each of many
// chats, and the pacer gives slots to many; a job for each would cost more than the
// send. So who queues or books them hands their chats over here after the commit.
// Should the process die, they have work and no job, and MendMailboxes gives them
// jobs.
type direct struct {
	chats chan queue.Handed
	calls chan struct{} // holds a value for each call that is under way
	load  atomic.Int64  // chats that were handed over and are not done

	mu    sync.Mutex
	later map[string]queue.Handed // that come again after a time; nil when it is over
}

const (
	// directRoom is how many chats may be under way, which a pause of their campaigns
	// waits for: a fifth of a second's worth where nothing else holds sends up, well
	// within handedFresh.
	directRoom = 1200
	// handedFresh is how long a claim that was handed over holds: what was true when it
	// was made (the campaign runs, the customer wants it) is looked at again after that.
	handedFresh  = 500 * time.Millisecond
	giveBackTime = 3 * time.Second // for a stop
)

func newDirect(calls int) *direct {
	return &direct{chats: make(chan queue.Handed, 4*directRoom), calls: make(chan struct{}, calls), later: map[string]queue.Handed{}}
}

// Room is how many more chats Deliver takes.
func (w *Workers) Room() int { return max(directRoom-int(w.direct.load.Load()), 0) }

// Free is for how many of the chats that Deliver takes a call may be made at once.
func (w *Workers) Free() int { return max(cap(w.direct.calls)-int(w.direct.load.Load()), 0) }

// Deliver sends what waits in the chats' outboxes, soon. Their outbox_chats are
// marked busy, and they have no jobs.
func (w *Workers) Deliver(chats []queue.Handed) {
	select {
	case <-w.stopping:
	default:
		if w.direct.take(chats) {
			return
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), giveBackTime)
	defer cancel()
	w.giveBack(ctx, chats)
}

// take reports false when it is over.
func (d *direct) take(chats []queue.Handed) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.later == nil {
		return false
	}
	for _, h := range chats {
		d.load.Add(1)
		d.push(h)
	}
	return true
}

// Release sees to accounts of which chats were parked.
func (w *Workers) Release(accounts []string) {
	for _, id := range accounts {
		w.pacer.note(id)
	}
}

// push never blocks: what finds no room is mended.
func (d *direct) push(h queue.Handed) {
	select {
	case d.chats <- h:
	default:
		d.load.Add(-1)
	}
}

// run sends until the workers stop, and then gives jobs to what is left. ctx ends
// calls that take too long for the stop.
func (d *direct) run(ctx context.Context, w *Workers) {
	var senders sync.WaitGroup
	// Most of them wait for the commit of what came of their sends: the more do, the
	// fewer and larger are those.
	for range 4 * cap(d.calls) {
		senders.Go(func() {
			for {
				select {
				case <-w.stopping:
					return
				case <-ctx.Done():
					return
				case h := <-d.chats:
					d.send(ctx, w, h)
				}
			}
		})
	}
	senders.Wait()
	d.mu.Lock()
	left := slices.Collect(maps.Values(d.later))
	d.later = nil
	for len(d.chats) > 0 {
		left = append(left, <-d.chats)
	}
	d.mu.Unlock()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackTime)
	defer cancel()
	w.giveBack(last, left)
}

// giveBack leaves chats to others: claims are undone, and the chats get jobs.
func (w *Workers) giveBack(ctx context.Context, handed []queue.Handed) {
	if len(handed) == 0 {
		return
	}
	chats := make([]string, len(handed))
	var claims []queue.Outcome
	for i, h := range handed {
		chats[i] = h.ChatID
		if h.Claim != nil {
			claims = append(claims, queue.Outcome{Claim: h.Claim, Kind: queue.OutcomeUnsent})
		}
	}
	if len(claims) > 0 {
		if _, err := w.deps.Store.Step(ctx, w.cfg.Node, claims, nil, w.pace); err != nil {
			w.log.WarnContext(ctx, "claims could not be given back at the end; they will count as cut off", "claims", len(claims), "error", err)
		}
	}
	if err := w.deps.Store.GiveJobs(ctx, chats); err != nil {
		w.log.WarnContext(ctx, "chats could not be given jobs at the end; they will be mended", "chats", len(chats), "error", err)
	}
}

func (d *direct) send(ctx context.Context, w *Workers, h queue.Handed) {
	again, left := w.deliver(ctx, &h, d.calls)
	if !left {
		d.load.Add(-1)
		return
	}
	d.mu.Lock()
	d.later[h.ChatID] = h
	d.mu.Unlock()
	time.AfterFunc(again, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if _, mine := d.later[h.ChatID]; mine { // else it was given back
			delete(d.later, h.ChatID)
			d.push(h)
		}
	})
}
