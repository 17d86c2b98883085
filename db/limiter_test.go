package db_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard/db"
	"switchboard/internal/queue"
	"switchboard/message"
)

func pacing(account, chat message.Rate) queue.Pace {
	return func(string) queue.Pacing { return queue.Pacing{OK: true, Account: account, Chat: chat} }
}

// waitingChats makes chats with a message each.
func waitingChats(t *testing.T, d *db.DB, pool *pgxpool.Pool, acc, name string, n, priority int) []string {
	t.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = chatWith(t, d, pool, acc, fmt.Sprint(name, i))
		s := queue.Send{ChatID: ids[i], Content: message.Content{Kind: message.KindText, Text: "x"}, Priority: priority}
		if _, _, err := d.SendMessage(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func claim(t *testing.T, d *db.DB, pace queue.Pace, chats ...string) []queue.Claim {
	t.Helper()
	claims, err := d.Step(t.Context(), node, nil, chats, pace)
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// Slots are given away for a quarter of a second, an interval apart after half of
// the burst; the chats that find none are parked. The pacer books the
// next ones, in order, and a booked slot is used without paying again.
func TestLimiter(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	ids := waitingChats(t, d, pool, acc, "c", 10, queue.PriorityAPI)
	pace := pacing(message.Rate{PerSecond: 20, Burst: 4}, message.Rate{})
	began := time.Now()
	var leave []time.Duration
	parked := 0
	for _, c := range claim(t, d, pace, ids...) {
		switch {
		case c.State == queue.ClaimWork:
			leave = append(leave, max(c.At.Sub(began), 0).Round(25*time.Millisecond))
		case c.Parked && c.State == queue.ClaimDone:
			parked++
		default:
			t.Errorf("%+v", c)
		}
	}
	if len(leave) < 6 || len(leave) > 8 || parked != 10-len(leave) || leave[0] != leave[1] || leave[2]-leave[1] < 25*time.Millisecond {
		t.Fatalf("leave at %v, %d parked", leave, parked)
	}
	if n := scalar[int](t, pool, `select count(*)::int from outbox_chats where parked_account is not null and busy`); n != parked {
		t.Errorf("%d are parked, want %d", n, parked)
	}

	// A second later there is room again: the oldest get it. Who has room for one sends
	// that without a job.
	shift(t, pool, time.Second)
	if _, err := pool.Exec(t.Context(), `delete from river_job`); err != nil {
		t.Fatal(err)
	}
	released, err := d.ReleaseParked(t.Context(), acc, pace(acc), 1)
	if err != nil || released.Chats != parked || released.Left || len(released.Handed) != 1 || released.Handed[0].ChatID != ids[10-parked] {
		t.Fatalf("released %+v, %v", released, err)
	}
	if jobs := scalar[int](t, pool, `select count(distinct args ->> 'chat_id')::int from river_job where args ->> 'chat_id' <> $1`, ids[10-parked]); jobs != parked-1 {
		t.Errorf("%d of %d other chats have jobs", jobs, parked-1)
	}
	booked := make([]time.Time, parked)
	for i := range booked {
		booked[i] = scalar[time.Time](t, pool, `select not_before from outbox where reserved and chat_id = $1`, ids[10-parked+i])
	}
	if !slices.IsSortedFunc(booked, time.Time.Compare) {
		t.Errorf("booked %v: not in order", booked)
	}
	// On a slow machine their times may be over already.
	if _, err := pool.Exec(t.Context(), `update outbox set not_before = now() + interval '200 ms' where reserved`); err != nil {
		t.Fatal(err)
	}
	tat := scalar[time.Time](t, pool, `select tat from limits`)
	for _, c := range claim(t, d, pace, ids[10-parked:]...) {
		if c.State != queue.ClaimWork {
			t.Errorf("booked: %+v", c)
		}
	}
	if now := scalar[time.Time](t, pool, `select tat from limits`); !now.Equal(tat) {
		t.Error("a booked slot was paid for twice")
	}
}

// shift makes everything the limiter knows that much older.
func shift(t *testing.T, pool *pgxpool.Pool, by time.Duration) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), fmt.Sprintf(`update outbox set not_before = not_before - interval '%[1]d ms' where reserved;
		update limits set tat = tat - interval '%[1]d ms', late = late - interval '%[1]d ms'`, by.Milliseconds())); err != nil {
		t.Fatal(err)
	}
}

// What is booked and comes late, because the database or a process stood still,
// does not go all at once: with a rate of 10 and a burst of 2, 12 at most in any
// second. Nor does what a process claimed and could not send in time.
func TestSendsThatAreLate(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	ids := waitingChats(t, d, pool, acc, "c", 20, queue.PriorityAPI)
	pace := pacing(message.Rate{PerSecond: 10, Burst: 2}, message.Rate{})
	var unsent []queue.Outcome
	for _, c := range claim(t, d, pace, ids...) {
		if c.State == queue.ClaimWork {
			unsent = append(unsent, queue.Outcome{Claim: &c, Kind: queue.OutcomeUnsent})
		}
	}
	if len(unsent) < 2 || len(unsent) > 4 {
		t.Fatalf("%d claims of a quarter of a second at 10/s", len(unsent))
	}
	step(t, d, node, unsent)
	if n := scalar[int](t, pool, `select count(*)::int from outbox where reserved and attempt = 0 and not sending`); n != len(unsent) {
		t.Fatalf("%d keep their slots, want %d", n, len(unsent))
	}
	if _, err := d.ReleaseParked(t.Context(), acc, pace(acc), 0); err != nil {
		t.Fatal(err)
	}
	shift(t, pool, 30*time.Second) // in which nothing happened
	var at []time.Time
	for deadline := time.Now().Add(20 * time.Second); len(ids) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d were not sent", len(ids))
		}
		if _, err := d.ReleaseParked(t.Context(), acc, pace(acc), 0); err != nil {
			t.Fatal(err)
		}
		for _, c := range claim(t, d, pace, ids...) {
			if c.State == queue.ClaimWork {
				at = append(at, c.At)
				ids = slices.DeleteFunc(ids, func(id string) bool { return id == c.ChatID })
			}
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	for i := range at {
		n := 0
		for _, other := range at[i:] {
			if other.Sub(at[i]) < time.Second {
				n++
			}
		}
		if n > 12 {
			t.Errorf("%d sends in a second", n)
		}
	}
	// Two seconds on a machine that keeps up.
	if took := at[len(at)-1].Sub(at[0]); took > 6*time.Second {
		t.Errorf("20 sends took %v, at 10 a second", took)
	}
}

// What the database's clock showed is taken from the quickest answers of some seconds; a
// clock that was set back is believed.
func TestClock(t *testing.T) {
	t.Parallel()
	var c db.Clock
	began := time.Unix(1781001200, 0)
	const ahead = 3 * time.Second // of the database's clock
	for n, on := range []time.Duration{40, 2, 90, 1, 60} {
		when := began.Add(time.Duration(n) * time.Second)
		want := []time.Duration{40, 2, 2, 1, 1}[n]
		if got := c.When(when.Add(ahead), when.Add(on*time.Millisecond)); !got.Equal(when.Add(want * time.Millisecond)) {
			t.Errorf("answer %d, %d ms on its way: off by %v, want %d ms", n, on, got.Sub(when), want)
		}
	}
	for at := 6 * time.Second; at < 20*time.Second; at += time.Second {
		when := began.Add(at)
		if got := c.When(when, when.Add(time.Millisecond)).Sub(when); got != time.Millisecond {
			t.Errorf("%v after the database's clock was set back: off by %v", at, got)
		}
	}
}

// A process whose sends are late again and again begins its slots later, so that they
// are not.
func TestLateSendsLead(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	ids := waitingChats(t, d, pool, acc, "c", 2, queue.PriorityAPI)
	pace := pacing(message.Rate{PerSecond: 1000, Burst: 1000}, message.Rate{})
	for n := range 5 {
		c := claim(t, d, pace, ids[0])[0]
		if c.State != queue.ClaimWork {
			t.Fatalf("go %d: %+v", n, c)
		}
		step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeUnsent}})
		shift(t, pool, time.Second)
		time.Sleep(25 * time.Millisecond) // what is late at once counts once
	}
	before := time.Now()
	if c := claim(t, d, pace, ids[1])[0]; c.State != queue.ClaimWork || c.At.Sub(before) < 25*time.Millisecond {
		t.Errorf("after four late sends one leaves %v ahead of its claim: %+v", c.At.Sub(before), c)
	}
}

// An answer goes before everything that has not got its slot yet, and a
// chat that has to wait for its own turn takes none from the others.
func TestLimiterKnowsPriorities(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	pace := pacing(message.Rate{PerSecond: 20, Burst: 1}, message.Rate{PerSecond: 2, Burst: 1})
	bulk := waitingChats(t, d, pool, acc, "bulk", 40, queue.PriorityCampaign)
	if n := scalar[int](t, pool, `select count(*) from river_job where kind = 'deliver' and priority = 3`); n != 40 {
		t.Errorf("%d jobs of the campaign's priority", n)
	}
	work := 0
	for _, c := range claim(t, d, pace, bulk...) {
		if c.State == queue.ClaimWork {
			work++
		}
	}
	if work < 5 || work > 7 {
		t.Errorf("%d of the campaign have a slot", work)
	}
	answers := waitingChats(t, d, pool, acc, "answer", 2, queue.PriorityConversation)
	for _, c := range claim(t, d, pace, answers...) {
		if c.State == queue.ClaimWork && time.Until(c.At) > aheadAtMost {
			t.Errorf("the answer waits for %v", time.Until(c.At))
		}
	}
	// Behind a message of the campaign in the same chat: that one becomes urgent.
	send(t, d, bulk[39], "an answer")
	if p := scalar[int](t, pool, `select parked_priority from outbox_chats where chat_id = $1`, bulk[39]); p != queue.PriorityConversation {
		t.Errorf("parked with priority %d", p)
	}
	shift(t, pool, 200*time.Millisecond) // room for a few
	if released, err := d.ReleaseParked(t.Context(), acc, pace(acc), 0); err != nil || !released.Left || released.Chats < 1 || released.Chats > 8 {
		t.Fatalf("%+v %v", released, err)
	}
	if n := scalar[int](t, pool, `select count(*)::int from outbox where reserved and chat_id = any($1)`, append(slices.Clone(answers), bulk[39])); n == 0 {
		t.Error("what is urgent was not released first")
	}
	if n := scalar[int](t, pool, `select count(*)::int from outbox where reserved and chat_id = any($1)`, bulk[:39]); n != 0 {
		if n := scalar[int](t, pool, `select count(*)::int from outbox_chats where parked_account is not null and parked_priority = 0`); n > 0 {
			t.Errorf("the campaign went before %d answers", n)
		}
	}

	if _, err := pool.Exec(t.Context(), `update limits set tat = 'epoch', late = '-infinity'; update outbox_chats set parked_account = null`); err != nil {
		t.Fatal(err)
	}
	busy := waitingChats(t, d, pool, acc, "busy", 1, queue.PriorityConversation)[0]
	c := claim(t, d, pace, busy)[0]
	if c.State != queue.ClaimWork {
		t.Fatalf("%+v", c)
	}
	send(t, d, busy, "2")
	claims, err := d.Step(t.Context(), node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeSent, IDs: []string{"1"}}}, []string{busy}, pace)
	if err != nil || claims[0].State != queue.ClaimWait || claims[0].Wait < 300*time.Millisecond {
		t.Fatalf("%+v %v", claims, err)
	}
	other := waitingChats(t, d, pool, acc, "other", 1, queue.PriorityConversation)[0]
	if c := claim(t, d, pace, other)[0]; c.State != queue.ClaimWork || time.Until(c.At) > 60*time.Millisecond {
		t.Errorf("a free chat waits because another one has to: %+v", c)
	}
}

// aheadAtMost is how far ahead slots are given away.
const aheadAtMost = 250 * time.Millisecond

// An account that sends at most once claims a send when its time has come, and not
// before: a process that ends while a send waits leaves no doubt about it.
func TestAtMostOnceClaimsOnTime(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	ids := waitingChats(t, d, pool, acc, "c", 3, queue.PriorityAPI)
	pace := func(string) queue.Pacing {
		return queue.Pacing{OK: true, Account: message.Rate{PerSecond: 10, Burst: 1}, OnlyOnTime: true}
	}
	claims := claim(t, d, pace, ids...)
	if claims[0].State != queue.ClaimWork || claims[1].State != queue.ClaimWait || claims[1].Wait < 50*time.Millisecond || claims[2].State != queue.ClaimWait {
		t.Fatalf("%+v", claims)
	}
	if n := scalar[int](t, pool, `select count(*)::int from outbox where sending`); n != 1 {
		t.Errorf("%d are being sent", n)
	}
	shift(t, pool, claims[1].Wait)
	if c := claim(t, d, pace, ids[1])[0]; c.State != queue.ClaimWork {
		t.Errorf("at its time: %+v", c)
	}
}

// The chats of a paused account wait without jobs, are found when it goes on, and
// those that expire meanwhile get their job.
func TestPausedAccountParks(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	ids := waitingChats(t, d, pool, acc, "c", 3, queue.PriorityConversation)
	paused := func(string) queue.Pacing { return queue.Pacing{} }
	for _, c := range claim(t, d, paused, ids...) {
		if c.State != queue.ClaimDone || !c.Parked {
			t.Fatalf("%+v", c)
		}
	}
	if released, err := d.ReleaseParked(t.Context(), acc, queue.Pacing{}, 0); err != nil || released.Chats != 0 {
		t.Fatalf("%+v %v", released, err)
	}
	for _, sql := range []string{`update outbox set expires_at = now() - interval '1 s' where chat_id = '` + ids[0] + `'`,
		`update outbox_chats set parked_until = now() - interval '1 s' where chat_id = '` + ids[0] + `'`, `delete from river_job`, `update outbox set created_at = now() - interval '1 h'`} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := d.MendMailboxes(t.Context()); err != nil || n != 0 {
		t.Errorf("parked chats were taken for stuck ones: %d %v", n, err)
	}
	accounts, err := d.ParkedAccounts(t.Context())
	if err != nil || !slices.Equal(accounts, []string{acc}) {
		t.Errorf("%v %v", accounts, err)
	}
	if n := scalar[int](t, pool, `select count(*)::int from river_job where args ->> 'chat_id' = $1`, ids[0]); n != 1 {
		t.Errorf("the expired one has %d jobs", n)
	}
	if c := claim(t, d, paused, ids[0])[0]; !c.Expired {
		t.Errorf("%+v", c)
	}
	released, err := d.ReleaseParked(t.Context(), acc, queue.Pacing{OK: true}, 0)
	if err != nil || released.Chats != 2 || released.Left {
		t.Errorf("%+v %v", released, err)
	}
	for _, c := range claim(t, d, unlimited, ids[1:]...) {
		if c.State != queue.ClaimWork {
			t.Errorf("%+v", c)
		}
	}
	if accounts, err = d.ParkedAccounts(t.Context()); err != nil || len(accounts) != 0 {
		t.Errorf("%v %v", accounts, err)
	}
}

// A send that was cut off, was claimed anew and could not be tried, is still one
// that was cut off.
func TestUnsentStaysCutOff(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	id := waitingChats(t, d, pool, account(t, d), "c", 1, queue.PriorityConversation)[0]
	c := claim(t, d, unlimited, id)[0]
	if c.State != queue.ClaimWork || c.Orphan {
		t.Fatalf("%+v", c)
	}
	for range 2 { // the owner is not known as a process: dead
		if c = claim(t, d, unlimited, id)[0]; c.State != queue.ClaimWork || !c.Orphan {
			t.Fatalf("%+v", c)
		}
		step(t, d, node, []queue.Outcome{{Claim: &c, Kind: queue.OutcomeUnsent}})
	}
}

// The first of a burst to a chat may reach the platform a quarter of a second later
// than those after it, and the platform, which counts by when sends arrive, refuses none.
func TestChatWay(t *testing.T) {
	t.Parallel()
	for _, r := range []message.Rate{{PerSecond: 1, Burst: 3}, {PerSecond: 0.5, Burst: 2}, {PerSecond: 20, Burst: 20}} {
		late := min(time.Duration(float64(time.Second)/r.PerSecond)/4, 250*time.Millisecond) - time.Millisecond
		began := time.Unix(1781001200, 0)
		tat, theirs := began, time.Time{}
		for i := range 50 {
			at := tat.Add(-db.ChatTolerance(r))
			if at.Before(began) {
				at = began
			}
			tat = tat.Add(db.Interval(r))
			arrives := at
			if i == 0 || at.Sub(began) < late {
				arrives = began.Add(late)
			}
			if theirs.Before(arrives) {
				theirs = arrives
			}
			step := time.Duration(float64(time.Second) / r.PerSecond)
			if early := theirs.Add(step).Sub(arrives) - time.Duration(r.Burst)*step; early > 0 {
				t.Errorf("%v: send %d is %v too early for the platform", r, i, early)
			}
			theirs = theirs.Add(step)
		}
	}
	if db.ChatTolerance(message.Rate{PerSecond: 1, Burst: 1}) != 0 {
		t.Error("without a burst a chat waits for its turn and no longer")
	}
}
