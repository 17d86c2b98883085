package workers

import (
	"context"
	"encoding/json"
	"time"
)

const (
	// ringStep is what the times of rings are rounded up to, so that many jobs that
	// are repeated together cost one statement.
	ringStep = 250 * time.Millisecond
	// ringAtMost is the longest wait that is rung for; after a longer one nobody
	// minds the seconds until the queue is looked at anyway.
	ringAtMost = time.Minute
	// ringTopic is where River's processes hear of new jobs.
	ringTopic = "river_insert"
)

// ring is a time at which a queue has a job to repeat.
type ring struct {
	queue string
	at    time.Time
}

// ring makes all processes look at a queue when a job is due that is repeated after
// a wait. River itself tells of new jobs only: a queue that is rarely asked for jobs
// would be late by all of its poll interval. A ring that is lost with the process
// costs just that.
func (w *Workers) ring(ctx context.Context, queue string, after time.Duration) {
	if after > ringAtMost {
		return
	}
	// River sets the job's time a little after us.
	r := ring{queue, time.Now().Add(after + ringStep/2).Truncate(ringStep).Add(ringStep)}
	if _, waited := w.rings.LoadOrStore(r, nil); waited {
		return
	}
	ctx = context.WithoutCancel(ctx)
	w.acks.Go(func() {
		defer w.rings.Delete(r)
		if !w.sleep(ctx, time.Until(r.at)) {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		payload, err := json.Marshal(map[string]string{"queue": queue})
		if err == nil {
			_, err = w.deps.Pool.Exec(ctx, `select pg_notify(concat(current_schema(), '.', $1::text), $2)`, ringTopic, string(payload))
		}
		if err != nil {
			w.log.InfoContext(ctx, "queue could not be rung for; it will be looked at", "queue", queue, "error", err)
		}
	})
}
