package db_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"switchboard"
	"switchboard/db"
	"switchboard/internal/queue"
	"switchboard/message"
)

const week = 7 * 24 * time.Hour

// Weeks get their partitions ahead of time, and old ones go once all that they hold
// is done with.
func TestPartitions(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	var now time.Time
	if err := pool.QueryRow(t.Context(), `select date_trunc('week', now(), 'UTC') + interval '10 weeks 1 hour'`).Scan(&now); err != nil {
		t.Fatal(err)
	}
	partitions := func(at time.Time) []string {
		t.Helper()
		dropped, err := d.Partitions(t.Context(), at, queue.Keep{Updates: 4 * week})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(dropped)
		return dropped
	}
	name := func(weeks int) string {
		return "updates_" + now.UTC().Add(-time.Hour+time.Duration(weeks)*week).Format("20060102")
	}
	exists := func(name string) bool { return scalar[bool](t, pool, `select to_regclass($1) is not null`, name) }

	for n := -9; n <= 0; n++ { // as every week does
		if dropped := partitions(now.Add(time.Duration(n) * week)); n < -5 && len(dropped) > 0 {
			t.Errorf("week %d: dropped %v", n, dropped)
		}
	}
	if exists("updates_first") || exists(name(-5)) || !exists(name(-4)) || !exists(name(3)) || exists(name(4)) {
		t.Errorf("partitions: %s", scalar[string](t, pool, `select string_agg(inhrelid::regclass::text, ' ' order by 1) from pg_inherits where inhparent = 'updates'::regclass`))
	}

	// Three old weeks: one is done with, one has an update that waits, one has one in
	// quarantine; and a time of long ago that has no week of its own.
	bad := queue.RawUpdate{AccountID: acc, DedupKey: "bad", ChatKey: "c9", Raw: []byte("no json")}
	appendAll(t, d, raw(acc, "done", text("c1", "1", "a")), bad)
	drainAll(t, d)
	for key, weeks := range map[string]int{"done": -4, "bad": -3} {
		if _, err := pool.Exec(t.Context(), `update updates set received_at = $2 where dedup_key = $1`, key, now.Add(time.Duration(weeks)*week)); err != nil {
			t.Fatal(err)
		}
	}
	appendAll(t, d, raw(acc, "waits", text("c2", "2", "b")), raw(acc, "ancient", text("c3", "3", "c")))
	if _, err := pool.Exec(t.Context(), `update updates set received_at = case dedup_key when 'waits' then $1::timestamptz else '2001-01-01' end where dedup_key in ('waits', 'ancient')`, now.Add(-2*week)); err != nil {
		t.Fatal(err)
	}
	later := now.Add(5 * week)
	if got := partitions(later); !slices.Equal(got, []string{name(-4), name(-1), name(0)}) {
		t.Errorf("dropped %v", got)
	}
	// Who has drained the lanes knows that nothing older can wait; who comes new finds
	// it in every partition.
	fresh, err := db.New(pool, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if done := drainAll(t, fresh); done.Messages != 2 {
		t.Errorf("%d messages of what waited", done.Messages)
	}
	if got := partitions(later); !slices.Equal(got, []string{name(-2)}) {
		t.Errorf("then dropped %v", got)
	}
	if _, err := pool.Exec(t.Context(), `update quarantine set resolved_at = now()`); err != nil {
		t.Fatal(err)
	}
	if got := partitions(later); !slices.Equal(got, []string{name(-3)}) {
		t.Errorf("at last dropped %v", got)
	}
	if n := scalar[int](t, pool, `select count(*) from messages`); n != 3 {
		t.Errorf("%d messages are left of 3", n)
	}
}

// A drain asks the newest partitions only, once its lanes were empty, and misses
// nothing by that: not what comes later, nor what a clock that was wrong for a moment
// has put into another week.
func TestDrainAfterEmpty(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	appendAll(t, d, raw(acc, "1", text("c1", "1", "a")))
	drainAll(t, d)
	appendAll(t, d, raw(acc, "2", text("c1", "2", "b")), raw(acc, "3", text("c1", "3", "c")))
	if _, err := pool.Exec(t.Context(), `update updates set received_at = now() + case dedup_key when '2' then interval '30 days' else interval '0' end where dedup_key in ('2', '3')`); err != nil {
		t.Fatal(err)
	}
	if done := drainAll(t, d); done.Messages != 2 {
		t.Errorf("%d messages of two", done.Messages)
	}
	appendAll(t, d, raw(acc, "4", text("c1", "4", "d")))
	if done := drainAll(t, d); done.Messages != 1 {
		t.Errorf("%d messages of one", done.Messages)
	}
	if got := scalar[string](t, pool, `select string_agg(platform_message_id, ' ' order by seq) from messages`); got != "1 2 3 4" {
		t.Errorf("stored as %s", got)
	}
}

// An update that came last week is known this week, and order is kept.
func TestDuplicatesOfLastWeek(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	d.KnowDuplicatesFor(8 * 24 * time.Hour)
	// As in the weeks after the first one.
	if _, err := pool.Exec(t.Context(), `alter table updates detach partition updates_first; do $$ begin
		execute format('alter table updates attach partition updates_first for values from (minvalue) to (%L)', date_trunc('week', now(), 'UTC')); end $$`); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Partitions(t.Context(), time.Now(), queue.Keep{Updates: week}); err != nil {
		t.Fatal(err)
	}
	var all []queue.RawUpdate
	for i := range 300 {
		all = append(all, raw(acc, fmt.Sprint("k", i), text("c", fmt.Sprint(i), fmt.Sprint(i))))
	}
	appendAll(t, d, all[:100]...)
	drainAll(t, d)
	if _, err := pool.Exec(t.Context(), `update updates set received_at = date_trunc('week', now(), 'UTC') - interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	appendAll(t, d, all...)
	if done := drainAll(t, d); done.Messages != 200 || done.Updates != 200 {
		t.Errorf("%+v", done)
	}
	if n := scalar[int](t, pool, `select count(*) from messages where body->>'text' <> (seq - 1)::text`); n != 0 {
		t.Errorf("%d messages out of order", n)
	}
	// Beyond the horizon nobody looks.
	if _, err := pool.Exec(t.Context(), `update updates set received_at = date_trunc('week', now(), 'UTC') - interval '1 second'`); err != nil {
		t.Fatal(err)
	}
	d.KnowDuplicatesFor(0)
	appendAll(t, d, all[0])
	if n := scalar[int](t, pool, `select count(*) from updates`); n != 301 {
		t.Errorf("%d updates", n)
	}
}

// A repeat that comes when its update is forgotten is known by its message; what is
// merely late is not lost, and neither is a second message with another's id.
func TestLateRepeats(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	at := time.Now().Add(-5 * 24 * time.Hour)
	old := func(id, body string) message.Update {
		u := text("c", id, body)
		u.At = at
		return u
	}
	appendAll(t, d, raw(acc, "k1", old("1", "late")), raw(acc, "k2", old("2", "late, too")))
	drainAll(t, d)
	if _, err := pool.Exec(t.Context(), `update chats set state = 'closed', unread = 0; update updates set dedup_key = 'forgotten ' || dedup_key`); err != nil {
		t.Fatal(err)
	}
	appendAll(t, d, raw(acc, "k1", old("1", "late")))
	drainAll(t, d)
	if n, state := scalar[int](t, pool, `select count(*) from messages`), scalar[string](t, pool, `select state from chats`); n != 2 || state != "closed" {
		t.Errorf("%d messages, want 2; the chat is %s", n, state)
	}
	appendAll(t, d, raw(acc, "k2", old("2", "late, too")), raw(acc, "k3", old("3", "new")))
	drainAll(t, d)
	if n, last := scalar[int](t, pool, `select count(*) from messages`), scalar[int](t, pool, `select last_seq from chats where state = 'new' and unread = 1`); n != 3 || last != 3 {
		t.Errorf("%d messages, the last number is %d; want 3 and 3", n, last)
	}
}

// Months go with all that belongs to their messages, except where one is still on
// its way; what is younger stays, and so do chats and their numbers.
func TestMonths(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	var month time.Time
	if err := pool.QueryRow(t.Context(), `select date_trunc('month', now(), 'UTC')`).Scan(&month); err != nil {
		t.Fatal(err)
	}
	partitions := func(at time.Time, keep time.Duration) []string {
		t.Helper()
		dropped, err := d.Partitions(t.Context(), at, queue.Keep{Updates: 1000 * week, Messages: keep})
		if err != nil {
			t.Fatal(err)
		}
		return dropped
	}
	chat := chatWith(t, d, pool, acc, "c")
	in := raw(acc, "with a file", text("c", "77", "look"))
	appendAll(t, d, in)
	drainAll(t, d)
	stays := send(t, d, chat, "stays")
	if _, err := pool.Exec(t.Context(), `insert into files (id, message_id) select id, id from messages where body->>'text' = 'look';
		insert into message_log (message_id, what) select id, 'attempt' from messages;
		insert into message_parts select chat_id, 'p' || seq, id, 0 from messages`); err != nil {
		t.Fatal(err)
	}
	last := scalar[int](t, pool, `select last_seq from chats where id = $1`, chat)

	later := month.AddDate(0, 3, 1)
	if got := partitions(month.AddDate(0, 2, 0), 0); got != nil {
		t.Errorf("dropped %v although messages are kept for ever", got)
	}
	if got := partitions(later, 30*24*time.Hour); got != nil {
		t.Errorf("dropped %v under a message that is to be sent", got)
	}
	c := step(t, d, node, nil, chat)[0]
	step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeSent, IDs: []string{"9"}}}, chat)
	if got := partitions(later, 30*24*time.Hour); !slices.Contains(got, "messages_first") {
		t.Errorf("dropped %v", got)
	}
	if n := scalar[int](t, pool, `select (select count(*) from messages) + (select count(*) from message_log) + (select count(*) from message_parts) + (select count(*) from files)`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if n := scalar[int](t, pool, `select count(*) from river_job where kind = 'remove'`); n != 1 {
		t.Errorf("%d files are to be removed", n)
	}
	if _, err := d.Message(t.Context(), stays.ID); !errors.Is(err, switchboard.ErrNotFound) {
		t.Errorf("a dropped message: %v", err)
	}
	if list, err := d.History(t.Context(), chat, 0, 0, false, 10); err != nil || len(list) != 0 {
		t.Errorf("history: %v %v", list, err)
	}

	// The chat goes on where it was, in the partition of its time.
	next := send(t, d, chat, "next")
	if next.Seq != int64(last+1) || scalar[string](t, pool, `select tableoid::regclass::text from messages where id = $1`, next.ID) != "messages_other" {
		t.Errorf("the next message has number %d after %d", next.Seq, last)
	}
}

// Chats are found by their last message in a period, whichever months it and the
// others lie in.
func TestFindChatsOverMonths(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	for key := range 2 {
		chat := "c" + strconv.Itoa(key)
		appendAll(t, d, raw(acc, chat, text(chat, "1", "a")))
	}
	drainAll(t, d)
	now := time.Now().UTC()
	next := time.Date(now.Year(), now.Month()+1, 5, 0, 0, 0, 0, time.UTC)
	if _, err := d.Partitions(t.Context(), now, queue.Keep{}); err != nil {
		t.Fatal(err)
	}
	// c0 has a second message, next month.
	if _, err := pool.Exec(t.Context(), `insert into messages (id, chat_id, account_id, seq, direction, kind, status, status_at, body, sender_kind, created_at)
		select (lpad(to_hex((extract(epoch from $1::timestamptz) * 1000)::bigint), 12, '0') || '70008000000000000001')::uuid, m.chat_id, m.account_id, 2, 'in', m.kind, m.status, $1, m.body, m.sender_kind, $1
		from messages m join chats c on c.id = m.chat_id where c.external_id = 'c0'`, next); err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]struct {
		from, to time.Time
		want     string
	}{
		"all":        {time.Time{}, time.Time{}, "c0 next, c1 now"},
		"this month": {now.Add(-time.Hour), now.Add(time.Hour), "c1 now, c0 now"},
		"next month": {next.Add(-time.Hour), next.Add(time.Hour), "c0 next"},
	} {
		hits, err := d.FindChats(t.Context(), switchboard.ChatQuery{From: q.from, To: q.to, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range hits {
			at := "now"
			if h.At.Equal(next) {
				at = "next"
			}
			got = append(got, scalar[string](t, pool, `select external_id from chats where id = $1`, h.Chat.ID)+" "+at)
		}
		if name == "this month" {
			slices.Sort(got) // they came together
			q.want = "c0 now, c1 now"
		}
		if s := strings.Join(got, ", "); s != q.want {
			t.Errorf("%s: %s; want %s", name, s, q.want)
		}
	}
}
