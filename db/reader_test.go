package db_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/db"
	"switchboard/internal/dbtest"
)

// A real standby, fed by the primary: it is read while it is there and not far
// behind, and what must not be old is not.
func TestReplica(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := dbtest.Dir(t)
	primary := dbtest.ServerIn(t, dir)
	standby, standbyDir := dbtest.Standby(t, primary, dir)
	connect := func(url string) *pgxpool.Pool {
		pool, err := pgxpool.New(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return pool
	}
	pool, replica := connect(primary.URL()), connect(standby.URL())
	d, err := db.New(pool, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	beat := func() {
		t.Helper()
		if err := d.Heartbeat(ctx, node, []string{}, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not within 20 s: %s", what)
			}
		}
	}
	fed := func() bool {
		return scalar[bool](t, pool, `select bool_and(replay_lsn >= pg_current_wal_lsn()) from pg_stat_replication`)
	}
	beat()
	acc := account(t, d)
	appendAll(t, d, raw(acc, "1", text("c", "1", "one")))
	drainAll(t, d)
	until("the standby has what was written", fed)
	reader, err := db.OpenReader(ctx, d, db.ReaderConfig{PrimaryURL: primary.URL(), ReplicaURL: standby.URL()}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if s := reader.Replica(); !s.Up || !s.Configured || s.Lag != 0 {
		t.Fatalf("the replica: %+v", s)
	}

	// What is written while the standby stands still is not on it.
	if _, err := replica.Exec(ctx, `select pg_wal_replay_pause()`); err != nil {
		t.Fatal(err)
	}
	until("replay pauses", func() bool { return scalar[string](t, replica, `select pg_get_wal_replay_pause_state()`) == "paused" })
	appendAll(t, d, raw(acc, "2", text("c", "2", "two")), raw(acc, "3", text("new", "3", "three")))
	drainAll(t, d)
	chat := scalar[string](t, pool, `select id::text from chats where external_id = 'c'`)
	young := scalar[string](t, pool, `select id::text from chats where external_id = 'new'`)
	message := scalar[string](t, pool, `select id::text from messages where chat_id = $1`, young)
	chats := func() int {
		t.Helper()
		hits, err := reader.FindChats(ctx, switchboard.ChatQuery{Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		return len(hits)
	}
	inPeriod := func() int64 {
		t.Helper()
		rows, err := reader.Figures(ctx, switchboard.ReportFilter{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour), Zone: "UTC"}, switchboard.ReportWhole)
		if err != nil || len(rows) != 1 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		return rows[0].In
	}
	if n, in := chats(), inPeriod(); n != 1 || in != 1 {
		t.Errorf("%d chats, %d messages; the replica has one of each", n, in)
	}
	if c, err := reader.Chat(ctx, chat); err != nil || c.LastSeq != 1 {
		t.Errorf("a chat as it is on the replica: %+v, %v", c, err)
	}
	// What is asked for by its id, and the end of a history, is found all the same.
	if c, err := reader.Chat(ctx, young); err != nil || c.ID != young {
		t.Errorf("a chat that is too young for the replica: %v", err)
	}
	if m, err := reader.Message(ctx, message); err != nil || m.ID != message {
		t.Errorf("a message that is too young for the replica: %v", err)
	}
	if list, err := reader.Timeline(ctx, message); err != nil || len(list) == 0 {
		t.Errorf("its timeline: %v, %v", list, err)
	}
	if _, err := reader.Chat(ctx, db.NewID()); !errors.Is(err, switchboard.ErrNotFound) {
		t.Errorf("a chat that is nowhere: %v", err)
	}
	for _, fromStart := range []bool{false, true} {
		if list, err := reader.History(ctx, chat, 0, 0, fromStart, 10); err != nil || len(list) != 2 {
			t.Errorf("from start %v: the end of a history has %d messages, want 2; %v", fromStart, len(list), err)
		}
		if list, err := reader.History(ctx, chat, 0, 2, fromStart, 10); err != nil || len(list) != 1 {
			t.Errorf("from start %v: %d messages before the second, %v", fromStart, len(list), err)
		}
	}
	if s := reader.Replica(); s.Fallbacks != 0 {
		t.Errorf("%d reads fell back to the primary", s.Fallbacks)
	}

	// A standby that is far behind is not read, until it has caught up.
	if _, err := pool.Exec(ctx, `update nodes set seen_at = seen_at + interval '40 seconds'`); err != nil {
		t.Fatal(err)
	}
	reader.Check(ctx)
	if s := reader.Replica(); s.Up || s.Lag != 40*time.Second {
		t.Errorf("40 s behind: %+v", s)
	}
	if n, in := chats(), inPeriod(); n != 2 || in != 3 {
		t.Errorf("%d chats, %d messages; the primary has 2 and 3", n, in)
	}
	if s := reader.Replica(); s.Fallbacks != 2 {
		t.Errorf("%d fallbacks counted, want 2", s.Fallbacks)
	}
	if _, err := replica.Exec(ctx, `select pg_wal_replay_resume()`); err != nil {
		t.Fatal(err)
	}
	until("the standby catches up", fed)
	reader.Check(ctx)
	if s := reader.Replica(); !s.Up || s.Lag != 0 {
		t.Errorf("caught up: %+v", s)
	}

	// One that is gone is noticed by the first read, which the primary answers.
	replica.Close()
	if err := standby.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if n, in := chats(), inPeriod(); n != 2 || in != 3 {
		t.Errorf("without the replica: %d chats, %d messages", n, in)
	}
	reader.Check(ctx)
	if s := reader.Replica(); s.Up || s.Fallbacks < 4 {
		t.Errorf("gone: %+v", s)
	}
	dbtest.StandbyIn(t, standbyDir)
	run, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- reader.Run(run) }()
	until("the replica is used again", func() bool { return reader.Replica().Up })
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
