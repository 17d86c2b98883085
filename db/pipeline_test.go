package db_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/db"
	"switchboard/internal/dbtest"
	"switchboard/internal/queue"
	"switchboard/message"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const node = "test-node"

func open(t *testing.T) (*db.DB, *pgxpool.Pool) {
	t.Helper()
	pool := dbtest.New(t)
	d, err := db.New(pool, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Heartbeat(t.Context(), node, []string{}, "", ""); err != nil {
		t.Fatal(err)
	}
	return d, pool
}

func account(t *testing.T, d *db.DB) string {
	t.Helper()
	a, err := d.AddAccount(t.Context(), switchboard.Account{Platform: "fake", Name: "test"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a.ID
}

// The raw updates of these tests are the JSON of message.Update.
func raw(accountID, key string, u message.Update) queue.RawUpdate {
	b, err := json.Marshal(u)
	if err != nil {
		panic(err)
	}
	return queue.RawUpdate{AccountID: accountID, DedupKey: key, ChatKey: u.Chat, Raw: b}
}

func text(chat, id, body string) message.Update {
	return message.Update{Kind: message.UpdateMessage, Chat: chat, PlatformID: id, Customer: message.Profile{ID: chat, Name: "Ann"},
		Content: message.Content{Kind: message.KindText, Text: body}}
}

func decode(stored []queue.StoredUpdate) []queue.Decoded {
	out := make([]queue.Decoded, len(stored))
	for i, s := range stored {
		var u message.Update
		out[i].Platform = "fake"
		if out[i].Err = json.Unmarshal(s.Raw, &u); out[i].Err == nil {
			out[i].Updates = []message.Update{u}
		}
	}
	return out
}

func drainAll(t *testing.T, d *db.DB) (total queue.Drained) {
	t.Helper()
	for lane := range db.Lanes {
		for {
			done, err := d.Drain(t.Context(), []int32{int32(lane)}, 100, decode)
			if err != nil {
				t.Fatal(err)
			}
			if done.Updates == 0 {
				break
			}
			total.Updates += done.Updates
			total.Messages += done.Messages
			total.Quarantined += done.Quarantined
			total.Events += done.Events
		}
	}
	return total
}

func appendAll(t *testing.T, d *db.DB, updates ...queue.RawUpdate) {
	t.Helper()
	if err := d.Append(t.Context(), updates); err != nil {
		t.Fatal(err)
	}
}

func scalar[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestDuplicatesBecomeOneMessage(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	u := raw(acc, "k1", text("c1", "1", "hi"))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := d.Append(t.Context(), []queue.RawUpdate{u, u}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	drainAll(t, d)
	appendAll(t, d, u)
	drainAll(t, d)
	if n := scalar[int](t, pool, `select count(*) from messages`); n != 1 {
		t.Errorf("messages = %d, want 1", n)
	}
}

// 64 senders, two appenders' worth of batches and several drainers at once: each
// chat's messages come out gapless and in the order in which they were sent.
func TestOrderPerChatUnderParallelSenders(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	const senders, each = 64, 20
	ctx, stop := context.WithCancel(t.Context())
	var drainers sync.WaitGroup
	for range 3 {
		drainers.Go(func() {
			for ctx.Err() == nil {
				for lane := range db.Lanes {
					if _, err := d.Drain(ctx, []int32{int32(lane), int32((lane + 5) % db.Lanes)}, 7, decode); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			}
		})
	}
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			chat := fmt.Sprintf("chat-%d", s)
			for i := range each {
				if err := d.Append(t.Context(), []queue.RawUpdate{raw(acc, fmt.Sprintf("%d-%d", s, i), text(chat, strconv.Itoa(i), strconv.Itoa(i)))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	drainers.Wait()
	drainAll(t, d)
	bad := scalar[int](t, pool, `select count(*) from messages where seq <> (body->>'text')::int + 1`)
	n := scalar[int](t, pool, `select count(*) from messages`)
	if bad != 0 || n != senders*each {
		t.Errorf("%d messages, %d out of order; want %d, 0", n, bad, senders*each)
	}
	if c := scalar[int](t, pool, `select count(*) from chats c where last_seq <> $1 or unread <> $1`, each); c != 0 {
		t.Errorf("%d chats have wrong counters", c)
	}
}

func TestPlatformOrderInsideABatch(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	var batch []queue.RawUpdate
	for _, i := range []int64{3, 1, 2} {
		u := raw(acc, fmt.Sprint(i), text("c", fmt.Sprint(i), fmt.Sprint(i)))
		u.Order = i
		batch = append(batch, u)
	}
	appendAll(t, d, batch...)
	drainAll(t, d)
	if got := scalar[string](t, pool, `select string_agg(body->>'text', '' order by seq) from messages`); got != "123" {
		t.Errorf("order = %s, want 123", got)
	}
	if scalar[bool](t, pool, `select bool_or(m.created_at < l.created_at) from messages m join messages l on l.chat_id = m.chat_id and l.seq = m.seq - 1`) {
		t.Error("created_at falls while seq rises")
	}
}

func TestLaneMailbox(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	lane := db.LaneOf(acc, "c")
	jobs := func() int { return scalar[int](t, pool, `select count(*) from river_job where kind = 'drain'`) }
	appendAll(t, d, raw(acc, "1", text("c", "1", "a")))
	appendAll(t, d, raw(acc, "2", text("c", "2", "b")))
	if n := jobs(); n != 1 {
		t.Errorf("%d drain jobs for a lane that is being drained, want 1", n)
	}
	if released, err := d.ReleaseLane(t.Context(), lane); err != nil || released {
		t.Errorf("released a lane with updates: %v, %v", released, err)
	}
	drainAll(t, d)
	if released, err := d.ReleaseLane(t.Context(), lane); err != nil || !released {
		t.Errorf("empty lane not released: %v, %v", released, err)
	}
	appendAll(t, d, raw(acc, "3", text("c", "3", "c")))
	if n := jobs(); n != 2 {
		t.Errorf("%d drain jobs after release and append, want 2", n)
	}
}

func TestPoisonIsSetAside(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	nul := text("c", "2", "a\x00b \\u0000")
	nul.Customer.Name = "N\x00ame"
	long := text("c", strings.Repeat("x", 5000), "long id")
	bad := raw(acc, "bad", text("c", "3", ""))
	bad.Raw = []byte("not json")
	updates := []queue.RawUpdate{raw(acc, "1", text("c", "1", "a")), bad, raw(acc, "2\x00", nul), raw(acc, strings.Repeat("k", 9000), long), raw(acc, "4", text("c", "4", "z"))}
	appendAll(t, d, updates...)
	total := drainAll(t, d)
	if total.Messages != 4 || total.Quarantined != 1 {
		t.Errorf("messages %d, quarantined %d; want 4, 1", total.Messages, total.Quarantined)
	}
	if got := scalar[string](t, pool, `select string_agg(body->>'text', '|' order by seq) from messages`); got != `a|ab \u0000|long id|z` {
		t.Errorf("texts = %s", got)
	}
	if got := scalar[int](t, pool, `select count(*) from quarantine q join updates u on u.lane = q.lane and u.id = q.update_id`); got != 1 {
		t.Errorf("quarantine lost the raw update")
	}
}

// A batch that the database refuses as a whole is taken apart, so that only the
// culprit is set aside.
func TestDataFaultIsNarrowedDown(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	if _, err := pool.Exec(t.Context(), `alter table messages add constraint no_boom check (body->>'text' <> 'boom')`); err != nil {
		t.Fatal(err)
	}
	appendAll(t, d, raw(acc, "1", text("c", "1", "a")), raw(acc, "2", text("c", "2", "boom")), raw(acc, "3", text("c", "3", "b")))
	total := drainAll(t, d)
	if total.Messages != 2 || total.Quarantined != 1 {
		t.Errorf("messages %d, quarantined %d; want 2, 1", total.Messages, total.Quarantined)
	}
	if got := scalar[string](t, pool, `select string_agg(body->>'text', '|' order by seq) from messages`); got != "a|b" {
		t.Errorf("texts = %s, want a|b", got)
	}
}

func TestRepliesEditsDeletions(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	reply := text("c", "2", "answer")
	reply.ReplyTo = "1"
	edit := text("c", "1", "first, better")
	edit.Kind = message.UpdateEdit
	unknown := text("c", "77", "edited before we knew it")
	unknown.Kind = message.UpdateEdit
	gone := message.Update{Kind: message.UpdateDelete, Chat: "c", PlatformID: "2"}
	// The same in one batch and over several.
	for _, together := range []bool{true, false} {
		if _, err := pool.Exec(t.Context(), `truncate messages, chats, updates, events; update lanes set done_id = 0`); err != nil {
			t.Fatal(err)
		}
		for i, u := range []message.Update{text("c", "1", "first"), reply, edit, unknown, gone} {
			appendAll(t, d, raw(acc, fmt.Sprint(together, i), u))
			if !together {
				drainAll(t, d)
			}
		}
		drainAll(t, d)
		got := scalar[string](t, pool, `select string_agg(m.seq || ':' || (m.body->>'text') || coalesce(' re ' || r.seq, '') || case when m.edited_at is not null then ' edited' else '' end
			|| case when m.deleted_at is not null then ' deleted' else '' end, '|' order by m.seq) from messages m left join messages r on r.id = m.reply_to`)
		if want := "1:first, better edited|2:answer re 1 deleted|3:edited before we knew it edited"; got != want {
			t.Errorf("together=%v:\n got %s\nwant %s", together, got, want)
		}
	}
}

func TestClosedChatReopens(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	quiet := text("c", "0", "started")
	quiet.Quiet = true
	appendAll(t, d, raw(acc, "0", quiet))
	drainAll(t, d)
	state := func() string {
		return scalar[string](t, pool, `select state || ' ' || unread || ' ' || (select count(*) from events where type = 'chat.offered') from chats`)
	}
	if got := state(); got != "closed 0 0" {
		t.Errorf("after a quiet message: %s", got)
	}
	appendAll(t, d, raw(acc, "1", text("c", "1", "hello")))
	drainAll(t, d)
	if got := state(); got != "new 1 1" {
		t.Errorf("after a message: %s", got)
	}
	appendAll(t, d, raw(acc, "2", text("c", "2", "anybody?")))
	drainAll(t, d)
	if got := state(); got != "new 2 1" {
		t.Errorf("after another: %s", got)
	}
}

func TestFencedPollerStoresNothing(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	old, _, err := d.BeginPolling(t.Context(), acc)
	if err != nil {
		t.Fatal(err)
	}
	fresh, _, err := d.BeginPolling(t.Context(), acc)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.AppendPolled(t.Context(), acc, old, 5, []queue.RawUpdate{raw(acc, "1", text("c", "1", "a"))}); !errors.Is(err, queue.ErrFenced) {
		t.Errorf("old poller: %v, want ErrFenced", err)
	}
	if n := scalar[int](t, pool, `select count(*) from updates`); n != 0 {
		t.Errorf("the old poller stored %d updates", n)
	}
	if err := d.AppendPolled(t.Context(), acc, fresh, 7, []queue.RawUpdate{raw(acc, "1", text("c", "1", "a"))}); err != nil {
		t.Error(err)
	}
	if got := scalar[int](t, pool, `select poll_offset from accounts`); got != 7 {
		t.Errorf("offset = %d, want 7", got)
	}
}

func TestPollingLease(t *testing.T) {
	t.Parallel()
	d, _ := open(t)
	acc := account(t, d)
	lease := func(holder string, elected bool, d2 time.Duration, want bool) {
		t.Helper()
		if got, err := d.LeasePolling(t.Context(), acc, holder, elected, d2); err != nil || got != want {
			t.Errorf("lease for %s, elected %v: %v %v, want %v", holder, elected, got, err, want)
		}
	}
	lease("one", true, time.Minute, true)
	lease("two", false, time.Minute, false) // alone cut off from the bus
	lease("two", true, time.Minute, true)   // the next one elected
	lease("one", true, time.Minute, true)
	lease("one", false, time.Minute, false) // nor from itself
	if err := d.ReleasePolling(t.Context(), acc, "one"); err != nil {
		t.Fatal(err)
	}
	lease("two", false, time.Minute, true)
	lease("two", false, time.Minute, true)
	lease("three", false, time.Minute, false)
	lease("one", true, time.Minute, false)
	lease("two", false, -time.Second, true)
	lease("one", true, time.Minute, true) // it ran out
}

// unlimited is a pace without limits.
func unlimited(string) queue.Pacing { return queue.Pacing{OK: true} }

func chatWith(t *testing.T, d *db.DB, pool *pgxpool.Pool, acc, key string) string {
	t.Helper()
	appendAll(t, d, raw(acc, "open "+key, text(key, "in-"+key, "hello")))
	drainAll(t, d)
	return scalar[string](t, pool, `select id from chats where external_id = $1`, key)
}

func send(t *testing.T, d *db.DB, chat, body string) message.Message {
	t.Helper()
	m, _, err := d.SendMessage(t.Context(), queue.Send{ChatID: chat, Content: message.Content{Kind: message.KindText, Text: body}, Sender: message.Sender{Kind: message.SenderOperator, Name: "Op"}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func step(t *testing.T, d *db.DB, who string, outcomes []queue.Outcome, chats ...string) []queue.Claim {
	t.Helper()
	claims, err := d.Step(t.Context(), who, outcomes, chats, unlimited)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestOutboxOrderAndEnds(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	chat := chatWith(t, d, pool, account(t, d), "c")
	a, b := send(t, d, chat, "a"), send(t, d, chat, "b")
	if n := scalar[int](t, pool, `select count(*) from river_job where kind = 'deliver'`); n != 1 {
		t.Errorf("%d deliver jobs, want 1", n)
	}
	c := step(t, d, node, nil, chat)[0]
	if c.State != queue.ClaimWork || c.MessageID != a.ID || c.Out.Text != "a" || c.Out.Chat != "c" || c.Orphan {
		t.Fatalf("claim = %+v", c)
	}
	if m, _ := d.Message(t.Context(), a.ID); m.Status != message.StatusSending {
		t.Errorf("status = %s, want sending", m.Status)
	}
	// A retry keeps b behind a.
	c = step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeRetry, After: time.Hour}}, chat)[0]
	if c.State != queue.ClaimWait || c.Wait < 59*time.Minute {
		t.Fatalf("claim during backoff = %+v", c)
	}
	if _, err := pool.Exec(t.Context(), `update outbox set not_before = '-infinity'`); err != nil {
		t.Fatal(err)
	}
	c = step(t, d, node, nil, chat)[0]
	if c.MessageID != a.ID || c.Attempt != 2 || c.Orphan {
		t.Fatalf("claim after backoff = %+v", c)
	}
	c = step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeSent, IDs: []string{"900719925474099301"}}}, chat)[0]
	if c.MessageID != b.ID {
		t.Fatalf("second claim = %+v", c)
	}
	c = step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeFailed, Unreachable: true, Failure: &message.Failure{Kind: message.ErrRecipient, Code: "403", Detail: "blocked"}}}, chat)[0]
	if c.State != queue.ClaimDone {
		t.Fatalf("claim of an empty outbox = %+v", c)
	}
	am, _ := d.Message(t.Context(), a.ID)
	bm, _ := d.Message(t.Context(), b.ID)
	if am.Status != message.StatusSent || *am.PlatformMessageID != "900719925474099301" {
		t.Errorf("a = %s %v", am.Status, am.PlatformMessageID)
	}
	if bm.Status != message.StatusFailed || bm.Error.Detail != "blocked" {
		t.Errorf("b = %s %+v", bm.Status, bm.Error)
	}
	if scalar[bool](t, pool, `select reachable from customers`) {
		t.Error("the customer is still reachable")
	}
	send(t, d, chat, "c")
	if n := scalar[int](t, pool, `select count(*) from river_job where kind = 'deliver'`); n != 2 {
		t.Errorf("%d deliver jobs after the outbox was empty once, want 2", n)
	}
}

// Only the holder of the present attempt may record an outcome.
func TestStaleOutcomeIsIgnored(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	chat := chatWith(t, d, pool, account(t, d), "c")
	m := send(t, d, chat, "a")
	first := step(t, d, "other", nil, chat)[0] // "other" never sent a heartbeat: dead
	second := step(t, d, node, nil, chat)[0]
	if second.State != queue.ClaimWork || !second.Orphan || second.Attempt != 2 {
		t.Fatalf("claim of an orphan = %+v", second)
	}
	step(t, d, "other", []queue.Outcome{{Claim: &first, Kind: queue.OutcomeSent, IDs: []string{"stale"}}})
	if got, _ := d.Message(t.Context(), m.ID); got.Status != message.StatusSending {
		t.Errorf("status after a stale outcome = %s", got.Status)
	}
	third := step(t, d, "third", nil, chat)[0]
	if third.State != queue.ClaimWait {
		t.Errorf("claimed from under a living owner: %+v", third)
	}
	step(t, d, node, []queue.Outcome{{Claim: &second, Kind: queue.OutcomeSent, IDs: []string{"good"}}})
	if got, _ := d.Message(t.Context(), m.ID); got.Status != message.StatusSent || *got.PlatformMessageID != "good" {
		t.Errorf("message = %s %v", got.Status, got.PlatformMessageID)
	}
}

func TestPartsAndReports(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	chat := chatWith(t, d, pool, acc, "c")
	m := send(t, d, chat, "long")
	report := func(key, id string, s message.Status) {
		appendAll(t, d, raw(acc, key, message.Update{Kind: message.UpdateStatus, Chat: "c", PlatformID: id, Status: s}))
		drainAll(t, d)
	}
	status := func() message.Status { got, _ := d.Message(t.Context(), m.ID); return got.Status }
	c := step(t, d, node, nil, chat)[0]
	c = step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomePart, IDs: []string{"p1"}}}, chat)[0]
	if c.State != queue.ClaimWork || c.Part != 1 {
		t.Fatalf("second part = %+v", c)
	}
	report("early", "p2", message.StatusDelivered) // overtakes our own commit
	c = step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeSent, IDs: []string{"p2"}}}, chat)[0]
	if got := status(); got != message.StatusDelivered {
		t.Errorf("status = %s, want delivered from the parked report", got)
	}
	report("r1", "p1", message.StatusRead)
	if got := status(); got != message.StatusDelivered {
		t.Errorf("status = %s; the first part's report must not speak for all", got)
	}
	report("r2", "p2", message.StatusRead)
	report("r3", "p2", message.StatusDelivered)
	if got := status(); got != message.StatusRead {
		t.Errorf("status = %s, want read, never back", got)
	}
	if n := scalar[int](t, pool, `select count(*) from parked_receipts`); n != 0 {
		t.Errorf("%d reports still parked", n)
	}
}

// A report that speaks of the account stops it, like a refusal to take the message;
// one that is older than the last resumption doesn't.
func TestReportStopsAccount(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	chat := chatWith(t, d, pool, acc, "c")
	for i, want := range []switchboard.AccountState{switchboard.AccountPaused, switchboard.AccountActive} {
		id := strconv.Itoa(i)
		send(t, d, chat, "x")
		c := step(t, d, node, nil, chat)[0]
		step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeSent, IDs: []string{id}}})
		if i == 1 {
			if err := d.SetAccountState(t.Context(), acc, switchboard.AccountActive, ""); err != nil {
				t.Fatal(err)
			}
		}
		appendAll(t, d, raw(acc, id, message.Update{Kind: message.UpdateStatus, Chat: "c", PlatformID: id, Status: message.StatusFailed,
			Failure: &message.Failure{Kind: message.ErrAccount, Code: "12", Detail: "no money"}}))
		drainAll(t, d)
		a, err := d.Account(t.Context(), acc)
		if err != nil || a.State != want || (want == switchboard.AccountPaused) != (a.Reason == "12: no money") {
			t.Errorf("report %d: account %+v %v, want %s", i, a, err, want)
		}
		if n := scalar[int](t, pool, `select count(*) from audit where action = 'account.pause'`); n != 1 {
			t.Errorf("report %d: %d entries in the journal", i, n)
		}
	}
}

func TestParkedBetweenTransactionsIsSwept(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	chat := chatWith(t, d, pool, acc, "c")
	m := send(t, d, chat, "x")
	c := step(t, d, node, nil, chat)[0]
	step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeSent, IDs: []string{"7"}}})
	if _, err := pool.Exec(t.Context(), `insert into parked_receipts (chat_id, platform_message_id, status, at) values ($1, '7', 'delivered', now())`, chat); err != nil {
		t.Fatal(err)
	}
	if err := d.ApplyParked(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := d.Message(t.Context(), m.ID); got.Status != message.StatusDelivered {
		t.Errorf("status = %s", got.Status)
	}
}

// What is tried again knows it, and which messages of the chat are known to be out.
func TestSecondAttemptKnowsTheOthers(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	chat := chatWith(t, d, pool, account(t, d), "c")
	send(t, d, chat, "0")
	c := step(t, d, node, nil, chat)[0]
	step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeSent, IDs: []string{"o0"}}})
	send(t, d, chat, "1")
	c = step(t, d, node, nil, chat)[0]
	step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomePart, IDs: []string{"o1a", "o1b"}}})
	c = step(t, d, node, nil, chat)[0]
	if c.Out.Again || len(c.Out.Known) != 0 {
		t.Errorf("a first attempt: %+v", c.Out)
	}
	step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeRetry}})
	c = step(t, d, node, nil, chat)[0]
	slices.Sort(c.Out.Known)
	if !c.Out.Again || !slices.Equal(c.Out.Known, []string{"o0", "o1a", "o1b"}) {
		t.Errorf("a second attempt: %+v", c.Out)
	}
}

func TestSeenMarksEarlierMessages(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	chat := chatWith(t, d, pool, acc, "c")
	for i := range 3 {
		send(t, d, chat, fmt.Sprint(i))
		c := step(t, d, node, nil, chat)[0]
		step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeSent, IDs: []string{fmt.Sprint("o", i)}}})
	}
	appendAll(t, d, raw(acc, "seen", message.Update{Kind: message.UpdateStatus, Chat: "c", PlatformID: "o1", Status: message.StatusRead, UpTo: true}))
	drainAll(t, d)
	if got := scalar[string](t, pool, `select string_agg(status, ' ' order by seq) from messages where direction = 'out'`); got != "read read sent" {
		t.Errorf("statuses = %s, want read read sent", got)
	}
	// The last message that was read may be one that came in: an answer that somebody gave in the platform's own app.
	appendAll(t, d, raw(acc, "app", text("c", "answered in the app", "x")))
	drainAll(t, d)
	appendAll(t, d, raw(acc, "seen it", message.Update{Kind: message.UpdateStatus, Chat: "c", PlatformID: "answered in the app", Status: message.StatusRead, UpTo: true}))
	drainAll(t, d)
	if got := scalar[string](t, pool, `select string_agg(status, ' ' order by seq) from messages where direction = 'out'`); got != "read read read" {
		t.Errorf("statuses = %s, want all read", got)
	}
}

func TestExpiryAndCancel(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	chat := chatWith(t, d, pool, account(t, d), "c")
	a, b := send(t, d, chat, "a"), send(t, d, chat, "b")
	if _, err := pool.Exec(t.Context(), `update outbox set expires_at = now() - interval '1 s' where message_id = $1`, a.ID); err != nil {
		t.Fatal(err)
	}
	if c := step(t, d, node, nil, chat)[0]; !c.Expired || c.Wait != 0 {
		t.Fatalf("claim = %+v", c)
	}
	if got, _ := d.Message(t.Context(), a.ID); got.Status != message.StatusExpired || got.Error == nil {
		t.Errorf("a = %s %v", got.Status, got.Error)
	}
	got, err := d.DeleteMessage(t.Context(), b.ID, nil)
	if err != nil || got.Status != message.StatusCanceled {
		t.Errorf("b = %s, %v", got.Status, err)
	}
	if c := step(t, d, node, nil, chat)[0]; c.State != queue.ClaimDone {
		t.Errorf("claim = %+v", c)
	}
}

func TestEditIsUndoneWhenRefused(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	chat := chatWith(t, d, pool, account(t, d), "c")
	m := send(t, d, chat, "old")
	c := step(t, d, node, nil, chat)[0]
	step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeSent, IDs: []string{"9"}}})
	got, err := d.EditMessage(t.Context(), m.ID, "new", nil)
	if err != nil || got.Text != "new" || got.EditedAt == nil {
		t.Fatalf("edit = %+v, %v", got, err)
	}
	c = step(t, d, node, nil, chat)[0]
	if c.Op != "edit" || len(c.PlatformIDs) != 1 || c.PlatformIDs[0] != "9" || c.Out.Text != "new" {
		t.Fatalf("claim = %+v", c)
	}
	step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeFailed, Failure: &message.Failure{Kind: message.ErrInvalid, Detail: "too old"}}})
	if got, _ := d.Message(t.Context(), m.ID); got.Text != "old" || got.Status != message.StatusSent || got.Error == nil {
		t.Errorf("after the refusal: %+v", got)
	}
}

func TestClientIDIsIdempotent(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	chat := chatWith(t, d, pool, account(t, d), "c")
	id := "double-click"
	var mu sync.Mutex
	ids := map[string]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			m, _, err := d.SendMessage(t.Context(), queue.Send{ChatID: chat, ClientID: &id, Content: message.Content{Kind: message.KindText, Text: "x"}, Sender: message.Sender{Kind: message.SenderOperator}})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			ids[m.ID]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(ids) != 1 || scalar[int](t, pool, `select count(*) from outbox`) != 1 {
		t.Errorf("one client id made %d messages", len(ids))
	}
}

func TestRescueOrphansAndMend(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	chat := chatWith(t, d, pool, acc, "c")
	send(t, d, chat, "x")
	if _, err := pool.Exec(t.Context(), `update river_job set state = 'running', attempt = 1, attempted_by = array['dead']`); err != nil {
		t.Fatal(err)
	}
	n, err := d.RescueOrphans(t.Context())
	if err != nil || n != 2 {
		t.Errorf("rescued %d, %v; want the drain and the deliver job", n, err)
	}
	if _, err := pool.Exec(t.Context(), `update river_job set state = 'running', attempted_by = array['`+node+`']`); err != nil {
		t.Fatal(err)
	}
	if n, _ := d.RescueOrphans(t.Context()); n != 0 {
		t.Errorf("took %d jobs from a living process", n)
	}
	if _, err := pool.Exec(t.Context(), `delete from river_job; update outbox set created_at = now() - interval '1 min'`); err != nil {
		t.Fatal(err)
	}
	if n, err := d.MendMailboxes(t.Context()); err != nil || n != 1 {
		t.Errorf("mended %d, %v; want 1", n, err)
	}
	if n, err := d.MendMailboxes(t.Context()); err != nil || n != 0 {
		t.Errorf("mended %d again, %v", n, err)
	}
}

// The last word counts, whether it came in the same batch or later; and only
// writing proves that a customer can be written to.
func TestReachable(t *testing.T) {
	t.Parallel()
	update := map[string]message.Update{
		"writes": text("c", "", "hi"),
		"looks":  {Kind: message.UpdateMessage, Chat: "c", Customer: message.Profile{ID: "c"}, Quiet: true, Content: message.Content{Kind: message.KindService, Service: "started"}},
		"reads":  {Kind: message.UpdateStatus, Chat: "c", Customer: message.Profile{ID: "c", Name: "Ann"}, PlatformID: "1", Status: message.StatusRead},
		"blocks": {Kind: message.UpdateContactable, Chat: "c", Customer: message.Profile{ID: "c"}},
		"allows": {Kind: message.UpdateContactable, Chat: "c", Customer: message.Profile{ID: "c"}, Reachable: true},
	}
	for _, c := range []struct {
		story string
		want  bool
	}{
		{"writes", true}, {"looks", false}, {"looks writes", true}, {"looks allows", true}, {"writes blocks", false}, {"writes blocks looks", false},
		{"writes blocks reads", false}, {"writes blocks writes", true}, {"writes blocks allows", true}, {"writes blocks allows blocks", false}, {"writes looks", true},
	} {
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprint(c.story, together), func(t *testing.T) {
				t.Parallel()
				d, pool := open(t)
				acc := account(t, d)
				for i, what := range strings.Fields(c.story) {
					appendAll(t, d, raw(acc, fmt.Sprint(i), update[what]))
					if !together {
						drainAll(t, d)
					}
				}
				drainAll(t, d)
				if got := scalar[bool](t, pool, `select reachable from customers`); got != c.want {
					t.Errorf("reachable = %v, want %v", got, c.want)
				}
			})
		}
	}
}
