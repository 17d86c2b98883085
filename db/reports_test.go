package db_test

import (
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	"switchboard/db"
	"switchboard/internal/queue"
	"switchboard/message"
)

// byID is a report that names a message by the platform's id alone.
func byID(acc, key, id string, u message.Update) queue.RawUpdate {
	u.PlatformID = id
	b, err := json.Marshal(u)
	if err != nil {
		panic(err)
	}
	return queue.RawUpdate{AccountID: acc, DedupKey: key, ChatKey: "of " + id, Raw: b}
}

// A report that names no chat finds its message, before and after our own commit
// of the send, and never one of another account.
func TestReportsThatNameNoChat(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc, other := account(t, d), account(t, d)
	chat := chatWith(t, d, pool, acc, "c")
	elsewhere := func() string {
		appendAll(t, d, raw(other, "open", text("o", "in-o", "hello")))
		drainAll(t, d)
		return scalar[string](t, pool, `select id from chats where external_id = 'o'`)
	}()
	n := 0
	report := func(account, id string, s message.Status) {
		n++
		appendAll(t, d, byID(account, strconv.Itoa(n), id, message.Update{Kind: message.UpdateStatus, Status: s}))
		drainAll(t, d)
	}
	claim := func(chat string) (message.Message, queue.Claim) {
		m := send(t, d, chat, "x")
		return m, step(t, d, node, nil, chat)[0]
	}
	sent := func(c queue.Claim, kind queue.OutcomeKind, ids ...string) queue.Outcome {
		return queue.Outcome{Claim: &c, Kind: kind, IDs: ids, ByID: true}
	}
	expect := func(what, id string, want message.Status) {
		t.Helper()
		if got, err := d.Message(t.Context(), id); err != nil || got.Status != want {
			t.Errorf("%s: %s %v, want %s", what, got.Status, err, want)
		}
	}

	m, c := claim(chat)
	foreign, fc := claim(elsewhere)
	step(t, d, node, []queue.Outcome{sent(c, queue.OutcomeSent, "1"), sent(fc, queue.OutcomeSent, "1")})
	report(acc, "1", message.StatusDelivered)
	expect("after the commit", m.ID, message.StatusDelivered)
	expect("the same id of another account", foreign.ID, message.StatusSent)

	m, c = claim(chat)
	report(acc, "2", message.StatusRead)
	report(other, "2", message.StatusDelivered)
	expect("before the commit", m.ID, message.StatusSending)
	step(t, d, node, []queue.Outcome{sent(c, queue.OutcomeSent, "2")})
	expect("with the commit", m.ID, message.StatusRead)

	// Neither transaction saw the other's.
	m, c = claim(chat)
	step(t, d, node, []queue.Outcome{sent(c, queue.OutcomeSent, "3")})
	if _, err := pool.Exec(t.Context(), `insert into parked_receipts (account_id, platform_message_id, status, at) values ($1, '3', 'delivered', now())`, acc); err != nil {
		t.Fatal(err)
	}
	if err := d.ApplyParked(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("swept", m.ID, message.StatusDelivered)

	// Of two parts the last one speaks.
	m, c = claim(chat)
	report(acc, "5", message.StatusDelivered)
	c = step(t, d, node, []queue.Outcome{sent(c, queue.OutcomePart, "4")}, chat)[0]
	report(acc, "4", message.StatusDelivered)
	step(t, d, node, []queue.Outcome{sent(c, queue.OutcomeSent, "5")})
	expect("of two parts", m.ID, message.StatusDelivered)
	report(acc, "4", message.StatusRead)
	expect("by the first part", m.ID, message.StatusDelivered)

	// Reports of ids without that mark, or of nobody's, wait and are forgotten.
	m, c = claim(chat)
	o := sent(c, queue.OutcomeSent, "6")
	o.ByID = false
	step(t, d, node, []queue.Outcome{o})
	report(acc, "6", message.StatusRead)
	report(acc, "7", message.StatusRead)
	expect("not marked", m.ID, message.StatusSent)
	if n := scalar[int](t, pool, `select count(*) from parked_receipts where chat_id is null`); n != 3 {
		t.Errorf("%d reports are parked, want those of 6, 7 and the other account's 2", n)
	}
	if _, err := pool.Exec(t.Context(), `update parked_receipts set parked_at = now() - interval '11 minutes'`); err != nil {
		t.Fatal(err)
	}
	if err := d.ApplyParked(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := scalar[int](t, pool, `select count(*) from parked_receipts`); n != 0 {
		t.Errorf("%d reports are parked for ever", n)
	}

	// What such a report says of the customer is theirs.
	appendAll(t, d, byID(acc, "blocked", "1", message.Update{Kind: message.UpdateContactable, Quiet: true}))
	drainAll(t, d)
	if reachable := scalar[bool](t, pool, `select cu.reachable from chats c join customers cu on cu.id = c.customer_id where c.id = $1`, chat); reachable {
		t.Error("the customer still counts as reachable")
	}
}

// Messages are found that the platform took and said nothing of since: of the
// account, of the span, page by page.
func TestUnreported(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc, other := account(t, d), account(t, d)
	before := time.Now().Add(-time.Second)
	chat := chatWith(t, d, pool, acc, "c")
	appendAll(t, d, raw(other, "open", text("o", "in-o", "hello")))
	drainAll(t, d)
	elsewhere := scalar[string](t, pool, `select id from chats where external_id = 'o'`)
	sent := func(chat string, ids ...string) string {
		t.Helper()
		m := send(t, d, chat, "x")
		c := step(t, d, node, nil, chat)[0]
		for i, id := range ids {
			kind := queue.OutcomePart
			if i == len(ids)-1 {
				kind = queue.OutcomeSent
			}
			claims := step(t, d, node, []queue.Outcome{{Claim: &c, Kind: kind, IDs: []string{id}}}, chat)
			c = claims[0]
		}
		return m.ID
	}
	a, b, parts := sent(chat, "1"), sent(chat, "2"), sent(chat, "3", "4")
	delivered := sent(chat, "5")
	appendAll(t, d, raw(acc, "r", message.Update{Kind: message.UpdateStatus, Chat: "c", PlatformID: "5", Status: message.StatusDelivered}))
	drainAll(t, d)
	sent(elsewhere, "1")
	send(t, d, chat, "still queued")
	after := time.Now().Add(time.Second)
	find := func(from, to, by time.Time, last string, limit int) (ids []string) {
		t.Helper()
		list, err := d.Unreported(t.Context(), acc, from, to, by, last, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range list {
			ids = append(ids, u.ID)
			if u.Chat != "c" || u.ID == parts && !slices.Equal(u.PlatformIDs, []string{"3", "4"}) || u.ID == a && !slices.Equal(u.PlatformIDs, []string{"1"}) {
				t.Errorf("%+v", u)
			}
		}
		return ids
	}
	for _, row := range []struct {
		name         string
		from, to, by time.Time
		last         string
		limit        int
		want         []string
	}{
		{"all", before, after, after, "", 10, []string{a, b, parts}},
		{"first page", before, after, after, "", 2, []string{a, b}},
		{"second page", before, after, after, b, 2, []string{parts}},
		{"before the span", after, after.Add(time.Hour), after, "", 10, nil},
		{"behind the span", before.Add(-time.Hour), before, after, "", 10, nil},
		{"accepted too lately", before, after, before, "", 10, nil},
	} {
		if got := find(row.from, row.to, row.by, row.last, row.limit); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v (delivered is %s)", row.name, got, row.want, delivered)
		}
	}

	asked, err := d.ReportsAskedAt(t.Context(), acc)
	if err != nil || time.Since(asked) > time.Minute {
		t.Errorf("a new account was asked at %v, %v", asked, err)
	}
	for _, at := range []time.Time{after, before} { // never back
		if err := d.SetReportsAskedAt(t.Context(), acc, at); err != nil {
			t.Fatal(err)
		}
		if got, err := d.ReportsAskedAt(t.Context(), acc); err != nil || !got.Equal(after.Truncate(time.Microsecond)) && got.Sub(after).Abs() > time.Microsecond {
			t.Errorf("asked at %v, %v; want %v", got, err, after)
		}
	}
	if _, err := d.ReportsAskedAt(t.Context(), db.NewID()); err == nil {
		t.Error("an account that is not there was asked")
	}
}
