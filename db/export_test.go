package db

import (
	"context"
	"time"
)

// KnowDuplicatesFor sets how far into a week the week before is looked into.
func (d *DB) KnowDuplicatesFor(horizon time.Duration) { d.dedup = horizon }

// Check looks at the replica once, as Run does again and again.
func (r *Reader) Check(ctx context.Context) { r.check(ctx) }

// ChatTolerance and Interval are what the limiter counts with.
var (
	ChatTolerance = chatTolerance
	Interval      = interval
)

// Clock is the comparison of two clocks.
type Clock = clock

func (c *clock) When(there, here time.Time) time.Time { return c.when(there, here) }
