package channels

import "time"

// Backoff is a pause that doubles each time it was not enough. Its zero value is
// ready; a lock is the user's affair.
type Backoff struct {
	times int
	until time.Time
}

// Pause is how long to wait from now on: first, then twice as long each time, at
// most most. Within a pause it is the rest of it, so that calls which were under
// way together count once.
func (b *Backoff) Pause(now time.Time, first, most time.Duration) time.Duration {
	if !b.Holds(now) {
		b.until = now.Add(min(first<<min(b.times, 20), most))
		b.times++
	}
	return b.until.Sub(now)
}

// Holds reports whether the pause is not over.
func (b *Backoff) Holds(now time.Time) bool { return b.until.After(now) }
