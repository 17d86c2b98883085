package db_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard/db"
	"switchboard/internal/queue"
	"switchboard/message"
)

// An event whose transaction commits after a later one's is not skipped, and each
// is handled once, whoever follows.
func TestFollowerWaitsForLowerIDs(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	chat := chatWith(t, d, pool, account(t, d), "c")
	messages := make([]string, 2)
	for i := range messages {
		m, _, err := d.SendMessage(t.Context(), queue.Send{ChatID: chat, Content: message.Content{Kind: message.KindText, Text: "x"}, Sender: message.Sender{Kind: message.SenderAPI},
			Callback: &queue.Callback{URL: "https://example.org/"}})
		if err != nil {
			t.Fatal(err)
		}
		messages[i] = m.ID
	}
	f, other := d.FollowCallbacks(), d.FollowCallbacks()
	next := func(f *db.CallbackFollower) (made int, blocked bool) {
		t.Helper()
		for {
			n, more, blocked, err := f.Next(t.Context(), 3)
			if err != nil {
				t.Fatal(err)
			}
			if made += n; !more {
				return made, blocked
			}
		}
	}
	if made, _ := next(f); made != 0 {
		t.Errorf("%d deliveries before anything was sent", made)
	}
	const fail = `with m as (update messages set status = 'failed', status_at = now() where id = $1 returning id, chat_id)
		insert into events (type, chat_id, message_id) select 'message.updated', chat_id, id from m`
	slow, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Rollback(t.Context())
	if _, err := slow.Exec(t.Context(), fail, messages[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), fail, messages[1]); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*db.CallbackFollower{f, other} {
		if made, blocked := next(f); made != 0 || !blocked {
			t.Errorf("made %d, blocked %v while a lower id is open", made, blocked)
		}
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	made, _ := next(f)
	again, _ := next(other)
	if made+again != 2 {
		t.Errorf("made %d and %d deliveries, want 2 in all", made, again)
	}
	if n := deliveries(t, pool); n != 2 {
		t.Errorf("%d deliveries are stored", n)
	}
	// An id that was drawn and rolled back holds nothing up for ever.
	if _, err := pool.Exec(t.Context(), `select nextval('events_id_seq')`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), fail, messages[0]); err != nil {
		t.Fatal(err)
	}
	// Everything of the server that writes meanwhile is waited for: other tests, too.
	until(t, "the gap is passed over", func() bool { _, blocked := next(f); return !blocked })
}

func deliveries(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	return scalar[int](t, pool, `select count(*) from callback_deliveries`)
}
