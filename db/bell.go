package db

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ringPause is between two rings for a queue: a process fetches jobs of a queue as
// often at most.
const ringPause = 20 * time.Millisecond

// bell tells River's processes of new jobs, after the commit. River's own client tells
// of them inside of the transaction, and of no more than one in 100 ms: the jobs
// in between would wait until their queue is looked at anyway, for up to seconds. Here
// whatever comes during a pause is told when it ends, so that none is left.
type bell struct {
	pool *pgxpool.Pool
	log  *slog.Logger

	mu     sync.Mutex
	due    map[string]bool // by queue that is seen to: something came since the last ring
	closed bool
	rings  sync.WaitGroup
}

func newBell(pool *pgxpool.Pool, log *slog.Logger) *bell {
	return &bell{pool: pool, log: log, due: map[string]bool{}}
}

// ring never waits: each queue that has something to tell has a goroutine meanwhile.
func (b *bell) ring(queues map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for queue := range queues {
		if _, seen := b.due[queue]; seen {
			b.due[queue] = true
			continue
		}
		if b.closed {
			return
		}
		b.due[queue] = false
		b.rings.Go(func() { b.see(queue) })
	}
}

// see rings until nothing has come for a pause.
func (b *bell) see(queue string) {
	for {
		b.tell(queue)
		time.Sleep(ringPause)
		b.mu.Lock()
		if !b.due[queue] || b.closed {
			delete(b.due, queue)
			b.mu.Unlock()
			return
		}
		b.due[queue] = false
		b.mu.Unlock()
	}
}

// tell needs no answer: a ring that is lost costs what it saves.
func (b *bell) tell(queue string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := b.pool.Exec(ctx, `select pg_notify(concat(current_schema(), '.river_insert'), json_build_object('queue', $1::text)::text)`, queue)
	if err != nil {
		b.log.DebugContext(ctx, "a queue could not be rung for; it will be looked at", "queue", queue, "error", err)
	}
}

func (b *bell) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.rings.Wait()
}

// notingTx is a transaction that knows for which queues it has made jobs.
type notingTx struct {
	pgx.Tx
	queues map[string]bool
}

func (t *notingTx) note(queue string) {
	if t.queues == nil {
		t.queues = map[string]bool{}
	}
	t.queues[queue] = true
}
