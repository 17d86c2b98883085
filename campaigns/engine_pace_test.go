package campaigns_test

import (
	"testing"
	"time"

	"switchboard/campaigns"
	"switchboard/internal/queue"
	"switchboard/message"
)

// A slow account ahead of a fast one: those who wait for it are not looked at again
// and again.
func TestEngineSlowFirstStep(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.accounts[accountA].Capabilities.Rate = message.Rate{PerSecond: 5, Burst: 1}
	id := e.add(campaigns.Definition{Name: "slow", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountA, Success: campaigns.Delivered, Wait: "1h"}, {AccountID: accountB}}}, 0, 5000)
	e.start()
	if err := e.do(id, "start"); err != nil {
		t.Fatal(err)
	}
	e.until("some are queued", 10*time.Second, func() bool { return scalar[int](e, `select count(*) from outbox`) >= 15 })
	time.Sleep(3 * time.Second)
	if n := scalar[int](e, `select count(*) from campaign_recipients where state = 'waiting' and message_id is null`); n > 200 {
		t.Errorf("%d recipients were put off", n)
	}
	if n := scalar[int](e, `select taken from campaigns`); n > 200 {
		t.Errorf("%d recipients were looked at", n)
	}
}

// Those who wait for the second step's account are not looked at all the time.
func TestEngineSlowSecondStep(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	e.accounts[accountA].Capabilities.Rate = message.Rate{PerSecond: 5, Burst: 1}
	id := e.add(campaigns.Definition{Name: "slow", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountB}, {AccountID: accountA}}}, 0, 2000)
	e.start()
	e.works(func(*queue.Claim) queue.Outcome {
		return queue.Outcome{Kind: queue.OutcomeFailed, Failure: &message.Failure{Kind: message.ErrInvalid, Detail: "no"}}
	})
	if err := e.do(id, "start"); err != nil {
		t.Fatal(err)
	}
	e.until("all have failed at the first step", 30*time.Second, func() bool {
		return scalar[int](e, `select count(*) from campaign_sends where step = 0 and status = 'failed'`) == 2000
	})
	e.exec(`create table looked (n int); create function note() returns trigger language plpgsql as $$ begin insert into looked values (1); return null; end $$;`)
	e.exec(`create trigger note after update on campaign_recipients for each row execute function note()`)
	time.Sleep(4 * time.Second)
	if n := scalar[int](e, `select count(*) from looked`); n > 800 {
		t.Errorf("%d recipients were looked at in 4 s, at an account that sends 5 a second", n)
	}
	sent := scalar[int](e, `select count(*) from campaign_sends where step = 1 and status <> 'queued'`)
	t.Logf("%d were sent over the second step", sent)
}

// Who could be written to first by an account that has no room just now waits for
// it: the next step is not for them.
func TestEngineFullIsNotUnknown(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	const other = "0198a000-0000-7000-8000-00000000001b"
	another := *e.accounts[accountB]
	another.Account.ID = other
	another.Capabilities.Rate = message.Rate{PerSecond: 5, Burst: 1}
	e.exec(`insert into accounts (id, platform, name) values ($1, 'beta', 'B2')`, other)
	e.accounts[other] = &another
	e.accounts[accountB].Capabilities.Rate = message.Rate{PerSecond: 5, Burst: 1}
	e.accounts[accountA].Capabilities.Rate = message.Rate{}
	id := e.add(campaigns.Definition{Name: "full", Content: text("hi"), Steps: []campaigns.Step{{Platform: "beta", Success: campaigns.Accepted, Wait: "1h"}, {AccountID: accountA}}}, 0, 500)
	e.exec(`update campaign_recipients set state = 'waiting', due_at = now()`) // as after a retry
	e.exec(`update campaigns set taken = accepted`)
	e.start()
	if err := e.do(id, "start"); err != nil {
		t.Fatal(err)
	}
	e.until("both accounts are full", 10*time.Second, func() bool {
		return scalar[int](e, `select count(distinct account_id) from outbox where account_id = any($1)`, []string{accountB, other}) == 2
	})
	time.Sleep(2 * time.Second)
	if n := scalar[int](e, `select count(*) from campaign_recipients where step > 0 or status <> 'queued'`); n > 0 {
		t.Errorf("%d recipients went on to the second step", n)
	}
}

// A message that a pause took out of the outbox before a quiet hour does not leave
// in a later one.
func TestEngineQuietAfterPause(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	now := time.Now().UTC()
	id := e.add(campaigns.Definition{Name: "quiet", Content: text("hi"), TTL: "72h", Steps: []campaigns.Step{{AccountID: accountB}},
		Schedule: &campaigns.Schedule{Timezone: "UTC", QuietHours: &campaigns.QuietHours{From: now.Add(time.Hour).Format("15:04"), To: now.Add(-3 * time.Hour).Format("15:04")}}}, 0, 3)
	e.exec(`update campaign_recipients set timezone = 'UTC'`)
	stop := e.start()
	if err := e.do(id, "start"); err != nil {
		t.Fatal(err)
	}
	e.until("all are queued", 10*time.Second, func() bool { return scalar[int](e, `select count(*) from outbox`) == 3 })
	stop()
	// A day passes, and it is an hour of the night: all that is stored is older then.
	e.exec(`update outbox set quiet_from = quiet_from - interval '25 hours', quiet_to = quiet_to - interval '25 hours'`)
	e.exec(`update campaigns set definition = jsonb_set(jsonb_set(definition, '{schedule,quiet_hours,from}', to_jsonb($1::text)), '{schedule,quiet_hours,to}', to_jsonb($2::text))`,
		now.Add(-time.Hour).Format("15:04"), now.Add(12*time.Hour).Format("15:04"))
	e.start()
	e.works(func(*queue.Claim) queue.Outcome { return queue.Outcome{Kind: queue.OutcomeSent} })
	e.until("all are held", 5*time.Second, func() bool {
		return scalar[int](e, `select count(*) from campaign_held where due_at > now() + interval '11 hours'`)+scalar[int](e, `select count(*) from messages where status = 'sent'`) == 3
	})
	time.Sleep(time.Second)
	if n := scalar[int](e, `select count(*) from messages where status = 'sent'`); n > 0 {
		t.Errorf("%d messages were sent at a quiet hour", n)
	}
}

// A message that somebody took back while it came back to the outbox does not leave.
func TestEngineTakenBack(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	id := e.add(campaigns.Definition{Name: "back", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountB}}}, 0, 2)
	e.start()
	if err := e.do(id, "start"); err != nil {
		t.Fatal(err)
	}
	e.until("all are queued", 10*time.Second, func() bool { return scalar[int](e, `select count(*) from outbox`) == 2 })
	e.exec(`with m as (update messages set status = 'canceled' where seq = 1 and id = (select min(id::text)::uuid from messages) returning chat_id, id)
		insert into events (type, chat_id, message_id) select 'message.updated', chat_id, id from m`)
	e.works(func(*queue.Claim) queue.Outcome { return queue.Outcome{Kind: queue.OutcomeSent} })
	e.until("the campaign is done", 10*time.Second, func() bool { return scalar[string](e, `select state from campaigns`) == "done" })
	e.consistent()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sent) != 1 {
		t.Errorf("%d messages were sent", len(e.sent))
	}
}
