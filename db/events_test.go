package db_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/db"
)

// follow reads a tail until stop says that it has seen enough.
func follow(ctx context.Context, tail *db.Tail, limit int, stop func(pos int64) bool) (ids []int64, err error) {
	for ctx.Err() == nil {
		before := tail.Pos()
		events, blocked, err := tail.Next(ctx, limit)
		if err != nil {
			return ids, err
		}
		for _, e := range events {
			ids = append(ids, e.ID)
		}
		if n := len(events); n > 0 && tail.Pos() != events[n-1].ID {
			return ids, fmt.Errorf("position is %d after event %d", tail.Pos(), events[n-1].ID)
		}
		if len(events) == 0 && tail.Pos() != before {
			return ids, fmt.Errorf("position moved from %d to %d without an event", before, tail.Pos())
		}
		if blocked && len(events) == 0 {
			time.Sleep(time.Millisecond) // as the chat hub does
		}
		if stop(tail.Pos()) {
			return ids, nil
		}
	}
	return ids, fmt.Errorf("still at event %d: %w", tail.Pos(), ctx.Err())
}

// Writers commit late, out of order and not at all, while followers read. Every
// follower must see each committed event after its start once, in order of id.
func TestTailSkipsAndDoublesNothing(t *testing.T) {
	t.Parallel()
	_, pool := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const writers, rounds, followers = 8, 40, 4

	// A pool of their own for the followers: the writers take all connections of the test's.
	readers, err := db.Open(ctx, db.Config{URL: pool.Config().ConnString(), MaxConns: followers}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer readers.Close()

	var (
		mu        sync.Mutex
		committed []int64
		wg        sync.WaitGroup
		read      sync.WaitGroup
		last      = make(chan struct{}) // closed when the last event is committed
		lastID    int64
	)
	starts := make([]int64, followers)
	seen := make([][]int64, followers)
	halfway := make(chan struct{})
	var once sync.Once
	for f := range followers {
		read.Go(func() {
			if f%2 == 1 { // joins in the middle of the noise
				<-halfway
			}
			tail, err := readers.OpenTail(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			starts[f] = tail.Pos()
			seen[f], err = follow(ctx, tail, []int{1, 7, 100, 1000}[f], func(pos int64) bool {
				select {
				case <-last:
					return pos >= lastID
				default:
					return false
				}
			})
			if err != nil {
				t.Errorf("follower %d: %v", f, err)
			}
		})
	}

	// One transaction holds an id for a while without appending anything.
	idle, err := readers.Pool().Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Exec(ctx, `select pg_current_xact_id()`); err != nil {
		t.Fatal(err)
	}

	roll := errors.New("rolled back on purpose")
	for w := range writers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			conn, err := pgx.Connect(ctx, pool.Config().ConnString())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for round := range rounds {
				if w == 0 && round == rounds/4 {
					if err := idle.Rollback(ctx); err != nil {
						t.Error(err)
					}
				}
				if w == 0 && round == rounds/2 {
					once.Do(func() { close(halfway) })
				}
				var ids []int64
				err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
					// As every writer does: it has written something before it appends.
					if _, err := tx.Exec(ctx, `insert into limits (key, tat) values ($1, now()) on conflict (key) do update set tat = now()`, fmt.Sprint("writer ", w)); err != nil {
						return err
					}
					for range 1 + rnd.IntN(3) {
						var id int64
						if err := tx.QueryRow(ctx, `insert into events (type) values ('message.new') returning id`).Scan(&id); err != nil {
							return err
						}
						ids = append(ids, id)
						if rnd.IntN(2) == 0 { // lets others overtake, inside a run of ids too
							if _, err := tx.Exec(ctx, `select pg_sleep($1)`, rnd.Float64()*0.05); err != nil {
								return err
							}
						}
					}
					if rnd.IntN(4) == 0 {
						return roll
					}
					return nil
				})
				switch {
				case err == nil:
					mu.Lock()
					committed = append(committed, ids...)
					mu.Unlock()
				case !errors.Is(err, roll):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	once.Do(func() { close(halfway) })
	if err := pool.QueryRow(ctx, `insert into events (type) values ('message.new') returning id`).Scan(&lastID); err != nil {
		t.Fatal(err)
	}
	committed = append(committed, lastID)
	close(last)
	read.Wait()

	slices.Sort(committed)
	if len(committed) < writers*rounds/2 || int(lastID) < len(committed)+writers {
		t.Fatalf("%d events committed of %d ids: not the mess that this test is about", len(committed), lastID)
	}
	for f := range followers {
		after, _ := slices.BinarySearch(committed, starts[f]+1)
		if want := committed[after:]; !slices.Equal(seen[f], want) {
			t.Errorf("follower %d, from %d: saw %d events, want %d; first difference: %s", f, starts[f], len(seen[f]), len(want), firstDifference(seen[f], want))
		}
	}
}

func firstDifference(got, want []int64) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("number %d is %d, want %d", i, got[i], want[i])
		}
	}
	return "the length"
}

// An event with a lower id that commits later holds back the higher ones, and a
// rolled back one does not.
func TestTailWaitsForLowerIDs(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	ctx := t.Context()
	tail, err := d.OpenTail(ctx)
	if err != nil {
		t.Fatal(err)
	}
	insert := func(q interface {
		QueryRow(context.Context, string, ...any) pgx.Row
	}) (id int64) {
		t.Helper()
		if err := q.QueryRow(ctx, `with x as (select pg_current_xact_id()) insert into events (type) select 'message.new' from x returning id`).Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	for _, commits := range []bool{true, false} {
		slow, err := pool.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		low := insert(slow)
		high := insert(pool)
		for range 3 {
			events, blocked, err := tail.Next(ctx, 10)
			if err != nil || len(events) != 0 || !blocked {
				t.Fatalf("Next = %d events, blocked %v, %v; event %d must wait for %d", len(events), blocked, err, high, low)
			}
		}
		want := []int64{low, high}
		if commits {
			err = slow.Commit(ctx)
		} else {
			want = want[1:]
			err = slow.Rollback(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		wait, cancel := context.WithTimeout(ctx, 10*time.Second)
		got, err := follow(wait, tail, 10, func(pos int64) bool { return pos >= high })
		cancel()
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("after commit %v: got events %v, %v; want %v", commits, got, err, want)
		}
	}
}

func TestReplayForAnOperator(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	ctx := t.Context()
	ann := operator(t, d, "ann", switchboard.RoleOperator)
	bob := operator(t, d, "bob", switchboard.RoleOperator)
	boss := operator(t, d, "boss", switchboard.RoleSupervisor)
	// 1: ann's, 2: everybody's, 3: from bob to ann, 4: nobody's.
	_, err := pool.Exec(ctx, `insert into events (type, operator_id, former_operator_id, everyone) values
		('chat.updated', $1, null, false), ('chat.offered', null, null, true), ('chat.updated', $1, $2, false), ('customer.typing', null, null, false)`, ann.ID, bob.ID)
	if err != nil {
		t.Fatal(err)
	}
	ids := func(o switchboard.Operator, after, upTo int64, limit int) (got []int64) {
		t.Helper()
		events, err := d.EventsFor(ctx, o, after, upTo, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if !e.For(o) {
				t.Errorf("event %d is not for %s", e.ID, o.Login)
			}
			got = append(got, e.ID)
		}
		return got
	}
	for _, tc := range []struct {
		o           switchboard.Operator
		after, upTo int64
		limit       int
		want        []int64
	}{
		{ann, 0, 4, 10, []int64{1, 2, 3}},
		{bob, 0, 4, 10, []int64{2, 3}},
		{boss, 0, 4, 10, []int64{1, 2, 3, 4}},
		{boss, 1, 3, 10, []int64{2, 3}},
		{ann, 0, 4, 2, []int64{1, 2}},
		{ann, 4, 4, 10, nil},
	} {
		if got := ids(tc.o, tc.after, tc.upTo, tc.limit); !slices.Equal(got, tc.want) {
			t.Errorf("%s after %d up to %d: %v, want %v", tc.o.Login, tc.after, tc.upTo, got, tc.want)
		}
	}

	if _, err := pool.Exec(ctx, `update events set created_at = now() - interval '1 hour' where id <= 3`); err != nil {
		t.Fatal(err)
	}
	// What a follower has not read stays.
	for _, read := range []int64{1, 4} {
		if _, err := pool.Exec(ctx, `update followers set pos = $1`, read); err != nil {
			t.Fatal(err)
		}
		if err := d.PruneEvents(ctx, time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, err := d.EventsFor(ctx, boss, 1, 4, 10); (err == nil) != (read == 1) {
			t.Errorf("replay with a follower at %d: %v", read, err)
		}
	}
	if _, err := d.EventsFor(ctx, boss, 2, 4, 10); !errors.Is(err, db.ErrCursorTooOld) {
		t.Errorf("replay from a dropped event: %v, want ErrCursorTooOld", err)
	}
	if got := ids(boss, 3, 4, 10); !slices.Equal(got, []int64{4}) {
		t.Errorf("replay from the last dropped event: %v, want 4", got)
	}
	if last, err := d.LastEvent(ctx); err != nil || last != 4 {
		t.Errorf("LastEvent = %d, %v; want 4", last, err)
	}
}
