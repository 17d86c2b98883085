package workers

import (
	"context"
	"sync"
	"time"
)

// gates space the calls that leave this process, account by account. The limiter in
// the database gives each send its time, but a process that was held up for a
// moment has several due at once, and the platform counts by when they arrive.
type gates struct {
	mu   sync.Mutex
	next map[string]time.Time // by account: when the next call may leave
}

// jitter is how far apart from its time a call may leave without waiting: timers
// are no finer, and high rates need no spacing below it.
const jitter = 5 * time.Millisecond

// reserve takes the next free time of the account and returns how long it is off.
func (g *gates) reserve(account string, perSecond float64, now time.Time) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next == nil {
		g.next = map[string]time.Time{}
	}
	at := g.next[account]
	if at.Before(now) {
		at = now
	}
	g.next[account] = at.Add(time.Duration(float64(time.Second) / perSecond))
	if wait := at.Sub(now); wait > jitter {
		return wait
	}
	return 0
}

// pass waits for the account's next free time; false when ctx ended or stop was
// closed first.
func (g *gates) pass(ctx context.Context, stop <-chan struct{}, account string, perSecond float64) bool {
	wait := g.reserve(account, perSecond, time.Now())
	if wait == 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
	case <-ctx.Done():
	}
	return false
}
