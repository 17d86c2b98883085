package db

import "time"

// KnowDuplicatesFor sets how far into a week the week before is looked into.
func (d *DB) KnowDuplicatesFor(horizon time.Duration) { d.dedup = horizon }
