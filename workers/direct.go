package workers

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// direct delivers chats without jobs. A campaign makes one message in each of many
// chats, and a job for each would cost more than the send; so who queues them hands
// their chats over here after the commit. Should the process die, they have work
// and no job, and MendMailboxes gives them jobs.
type direct struct {
	chats chan string
	load  atomic.Int64 // chats that were handed over and are not done
}

// directRoom is how many chats may wait for a sender; more are refused.
const directRoom = 8192

func newDirect() *direct { return &direct{chats: make(chan string, directRoom)} }

// Room is how many more chats Deliver takes.
func (w *Workers) Room() int { return max(directRoom-int(w.direct.load.Load()), 0) }

// Deliver sends what waits in the chats' outboxes, soon. Their outbox_chats are
// marked busy, and they have no jobs.
func (w *Workers) Deliver(chats []string) {
	for _, chat := range chats {
		w.direct.load.Add(1)
		w.direct.push(chat)
	}
}

// Release sees to accounts of which chats were parked.
func (w *Workers) Release(accounts []string) {
	for _, id := range accounts {
		w.pacer.note(id)
	}
}

// push never blocks: what finds no room is mended.
func (d *direct) push(chat string) {
	select {
	case d.chats <- chat:
	default:
		d.load.Add(-1)
	}
}

// run sends until the workers stop, and then gives jobs to what is left. ctx ends
// calls that take too long for the stop.
func (d *direct) run(ctx context.Context, w *Workers) {
	var senders sync.WaitGroup
	for range max(w.cfg.Sends/2, 1) {
		senders.Go(func() {
			for {
				select {
				case <-w.stopping:
					return
				case <-ctx.Done():
					return
				case chat := <-d.chats:
					d.send(ctx, w, chat)
				}
			}
		})
	}
	senders.Wait()
	var left []string
	for len(d.chats) > 0 {
		left = append(left, <-d.chats)
	}
	if len(left) == 0 {
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := w.deps.Store.GiveJobs(last, left); err != nil {
		w.log.WarnContext(last, "chats could not be given jobs at the end; they will be mended", "chats", len(left), "error", err)
	}
}

func (d *direct) send(ctx context.Context, w *Workers, chat string) {
	again, left := w.deliver(ctx, chat)
	if !left {
		d.load.Add(-1)
		return
	}
	time.AfterFunc(again, func() { d.push(chat) })
}
