package db_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"switchboard"
	"switchboard/internal/queue"
)

// Every beginning and end of a conversation and of who serves it is in the log,
// once, with the time since when it was served.
func TestChatLog(t *testing.T) {
	t.Parallel()
	r := room(t)
	ctx := t.Context()
	names := map[string]string{r.ann.ID: "ann", r.bob.ID: "bob", r.boss.ID: "boss"}
	n := 0
	write := func() {
		n++
		appendAll(t, r.d, raw(r.acc, fmt.Sprint("u", n), text("c", fmt.Sprint(n), "hello")))
		drainAll(t, r.d)
	}
	did := func(c switchboard.Chat, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	quiet := text("c", "0", "started")
	quiet.Quiet = true
	appendAll(t, r.d, raw(r.acc, "u0", quiet))
	drainAll(t, r.d)
	write()
	write()
	id := scalar[string](t, r.pool, `select id::text from chats`)
	did(r.d.AcceptChat(ctx, r.ann, id))
	did(r.d.AcceptChat(ctx, r.ann, id)) // again: nothing
	if _, _, err := r.d.ReadChat(ctx, r.ann, id, 1); err != nil {
		t.Fatal(err)
	}
	did(r.d.TransferChat(ctx, r.ann, id, r.bob.ID, ""))
	write()
	did(r.d.TransferChat(ctx, r.bob, id, "", "billing"))
	did(r.d.SkipChat(ctx, r.ann, id))
	did(r.d.TransferChat(ctx, r.boss, id, r.ann.ID, ""))
	did(r.d.CloseChat(ctx, r.boss, id))
	did(r.d.CloseChat(ctx, r.boss, id))
	did(r.d.StartChat(ctx, r.bob, r.acc, "c", false))
	did(r.d.CloseChat(ctx, r.bob, id))
	write()
	did(r.d.CloseChat(ctx, r.boss, id)) // that nobody served
	write()
	did(r.d.AcceptChat(ctx, r.bob, id))
	if err := r.d.RemoveOperator(ctx, r.bob.ID); err != nil {
		t.Fatal(err)
	}
	rows, err := r.pool.Query(ctx, `select what, coalesce(operator_id::text, ''), coalesce(former_id::text, ''), seq, since is not null and since <= at and since > at - interval '1 minute'
		from chat_log where chat_id = $1 and account_id = $2 order by at`, id, r.acc)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var what, operator, former string
		var seq int64
		var since bool
		if err := rows.Scan(&what, &operator, &former, &seq, &since); err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(what, " ", seq, " ", names[operator], "<", names[former], " ", since))
	}
	want := []string{
		"begun 2 < false", "accepted 3 ann< false", "transferred 3 bob<ann true", "queued 4 <bob true", "transferred 4 ann< false",
		"closed 4 <ann true", "started 4 bob< false", "closed 4 <bob true", "begun 5 < false", "closed 5 < false", "begun 6 < false",
		"accepted 6 bob< false", "queued 6 <bob true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	// It goes with the messages of its time.
	if _, err := r.pool.Exec(ctx, `update chat_log set at = at - interval '100 days' where seq < 5`); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := r.d.Partitions(ctx, time.Now().AddDate(0, 2, 0), queue.Keep{Messages: 90 * 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	if left := scalar[int](t, r.pool, `select count(*) from chat_log where seq < 5`); left != 8 {
		t.Errorf("%d old rows are left; the month of the messages is still kept", left)
	}
	for range 3 {
		if _, err := r.d.Partitions(ctx, time.Now().AddDate(0, 6, 0), queue.Keep{Messages: 90 * 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	if left := scalar[int](t, r.pool, `select count(*) from chat_log`); left != 0 {
		t.Errorf("%d rows are left of a month that was dropped", left)
	}
}
