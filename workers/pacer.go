package workers

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"switchboard/internal/queue"
)

// pacer takes chats out of parking when their accounts have room: slots of a quarter
// of a second at a time, some eight times a second. It sees to an account from
// when it is noted, until no chat of it is parked. Any number of processes may
// see to the same account: the slots are booked under its lock.
//
// What this process has calls free for it sends itself. Jobs, which go to all, would
// cost several times as much as the sends, and come late where there is much to do.
type pacer struct {
	store   Store
	pace    queue.Pace
	senders pacedSenders
	log     *slog.Logger
	start   chan string

	mu    sync.Mutex
	again map[string]bool // by account that is seen to: noted since the last look
}

// pacedSenders send what has a slot.
type pacedSenders interface {
	Free() int
	Deliver(chats []queue.Handed)
}

func newPacer(store Store, pace queue.Pace, senders pacedSenders, log *slog.Logger) *pacer {
	return &pacer{store: store, pace: pace, senders: senders, log: log, start: make(chan string, 64), again: map[string]bool{}}
}

// note says that the account has parked chats. It never blocks: what finds no
// room is noted again by housekeeping.
func (p *pacer) note(account string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, seen := p.again[account]; seen {
		p.again[account] = true
		return
	}
	select {
	case p.start <- account:
		p.again[account] = true
	default:
	}
}

// run sees to accounts until ctx ends.
func (p *pacer) run(ctx context.Context) {
	var accounts sync.WaitGroup
	defer accounts.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case account := <-p.start:
			accounts.Go(func() { p.account(ctx, account) })
		}
	}
}

const (
	pacerTick  = 10 * time.Millisecond  // between two releases of an account, at least
	pacerRetry = 500 * time.Millisecond // after an error
)

func (p *pacer) account(ctx context.Context, account string) {
	for {
		p.mu.Lock()
		p.again[account] = false
		p.mu.Unlock()
		released, err := p.release(ctx, account)
		wait := max(released.Next, pacerTick)
		if err != nil {
			if ctx.Err() == nil {
				p.log.WarnContext(ctx, "parked chats could not be released; they will be", "account", account, "error", err)
			}
			wait = pacerRetry
		} else if !released.Left {
			p.mu.Lock()
			if !p.again[account] {
				delete(p.again, account)
				p.mu.Unlock()
				return
			}
			p.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (p *pacer) release(ctx context.Context, account string) (queue.Released, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	released, err := p.store.ReleaseParked(ctx, account, p.pace(account), p.senders.Free())
	if len(released.Handed) > 0 {
		p.senders.Deliver(released.Handed)
	}
	return released, err
}
