package workers

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"switchboard/internal/dbtest"
	"switchboard/internal/queue"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// failing fails twice, and rings for each repeat as our workers do.
type failing struct {
	river.WorkerDefaults[queue.PictureArgs]
	w        *Workers
	attempts chan int
}

func (*failing) NextRetry(*river.Job[queue.PictureArgs]) time.Time {
	return time.Now().Add(500 * time.Millisecond)
}

func (f *failing) Work(ctx context.Context, job *river.Job[queue.PictureArgs]) error {
	f.attempts <- job.Attempt
	if job.Attempt == 3 {
		return nil
	}
	f.w.ring(ctx, queue.PictureQueue, 500*time.Millisecond)
	return errors.New("away")
}

// A job that is repeated does not wait until its queue is looked at anyway, which
// here is after an hour.
func TestRingForRepeats(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	w := &Workers{deps: Deps{Pool: pool}, log: slog.New(slog.DiscardHandler), stopping: make(chan struct{})}
	f := &failing{w: w, attempts: make(chan int, 10)}
	registered := river.NewWorkers()
	river.AddWorker(registered, f)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Workers: registered, Logger: w.log, Queues: map[string]river.QueueConfig{queue.PictureQueue: {MaxWorkers: 4, FetchPollInterval: time.Hour}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	defer func() {
		close(w.stopping)
		w.acks.Wait()
		if err := client.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	if _, err := client.Insert(t.Context(), queue.PictureArgs{Customer: "1"}, nil); err != nil {
		t.Fatal(err)
	}
	for want := 1; want <= 3; want++ {
		select {
		case got := <-f.attempts:
			if got != want {
				t.Fatalf("attempt %d, want %d", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no attempt %d", want)
		}
	}
}

// Many that are repeated together are one ring, and none is left when it is over.
func TestRingsTogether(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	w := &Workers{deps: Deps{Pool: pool}, log: slog.New(slog.DiscardHandler), stopping: make(chan struct{})}
	told := listen(t, pool)
	for range 100 {
		w.ring(t.Context(), queue.FetchQueue, time.Second)
	}
	w.ring(t.Context(), queue.FetchQueue, ringAtMost+time.Second)
	w.acks.Wait()
	if _, err := pool.Exec(t.Context(), `select pg_notify('public.river_insert', 'end')`); err != nil {
		t.Fatal(err)
	}
	n := 0
	for payload := range told {
		if payload == "end" {
			break
		}
		if n++; payload != `{"queue":"fetch"}` {
			t.Errorf("rung with %s", payload)
		}
	}
	// The hundred calls may take longer than a step on a busy machine.
	if n < 1 || n > 10 {
		t.Errorf("rung %d times", n)
	}
	w.rings.Range(func(r, _ any) bool { t.Errorf("%v is left", r); return true })
}

// listen gives what River's processes hear.
func listen(t *testing.T, pool *pgxpool.Pool) <-chan string {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `listen "public.river_insert"`); err != nil {
		t.Fatal(err)
	}
	told := make(chan string)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var done sync.WaitGroup
	done.Go(func() {
		defer conn.Release()
		defer close(told)
		for {
			n, err := conn.Conn().WaitForNotification(ctx)
			if err != nil {
				return
			}
			select {
			case told <- n.Payload:
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return told
}
