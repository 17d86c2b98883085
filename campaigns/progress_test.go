package campaigns_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"switchboard/campaigns"
	"switchboard/db"
	"switchboard/internal/queue"
)

// hours are quiet ones that began lately and end after next, by the clock of UTC.
func hours(from, to time.Duration) *campaigns.QuietHours {
	now := time.Now().UTC()
	return &campaigns.QuietHours{From: now.Add(from).Format("15:04"), To: now.Add(to).Format("15:04")}
}

// A running campaign that does not move says why, and no more when it does.
func TestWaiting(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	s := serveStore(t, e.store, e.accounts)
	id := e.add(campaigns.Definition{Name: "w", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountA, Success: campaigns.Delivered, Wait: "1h"}, {Platform: "beta"}},
		Schedule: &campaigns.Schedule{QuietHours: hours(-time.Hour, time.Hour)}}, 0, 100)
	look := func(want ...string) answer {
		t.Helper()
		a := s.want(200, s.call("GET", "/api/v1/campaigns/"+id, nil), "get")
		list := a.get("waiting").([]any)
		ok := len(list) == len(want)
		for i := range list {
			ok = ok && strings.Contains(fmt.Sprint(list[i]), want[i])
		}
		if !ok {
			t.Errorf("waiting: %v, want %q", list, want)
		}
		return a
	}
	look() // a draft waits for nothing
	if err := e.do(id, "start"); err != nil {
		t.Fatal(err)
	}
	look("no process with the role workers runs")
	e.exec(`insert into nodes (id, roles, addr, version) values ('n', '{edge,workers}', '', '')`)
	look()
	e.exec(`update nodes set seen_at = now() - interval '1 minute'`)
	look("no process with the role workers runs")
	e.exec(`update nodes set seen_at = now() + interval '1 hour'`)

	a := e.accounts[accountA]
	a.State, a.Reason = "paused", "401: the token is not valid"
	got := look("account_id:" + accountA + " reason:the account is paused: 401: the token is not valid")
	if got.get("eta") != nil {
		t.Errorf("it is to be done by %v", got.get("eta"))
	}
	a.State, a.Reason = "active", ""
	look()
	// The second step's account is missed by those who have come to it.
	b := e.accounts[accountB]
	b.Err = errors.New("no settings")
	look()
	e.exec(`insert into outbox (chat_id, account_id, message_id, priority, expires_at, campaign_id) values ($1, $2, $1, 2, now(), $3)`, db.NewID(), accountB, id)
	b.Err, b.State = nil, "paused"
	look("messages:1 reason:the account is paused")
	b.State = "active"
	e.exec(`insert into limits (key, tat) values ('account:' || $1, now() + interval '1 hour')`, accountB)
	if got = look("asked to wait until:"); got.get("waiting").([]any)[0].(map[string]any)["account_id"] != accountB {
		t.Errorf("the wrong account: %s", got.text)
	}
	e.exec(`delete from limits`)
	e.exec(`delete from outbox`)
	look()
	if err := e.store.HoldUpCampaign(t.Context(), id, "the moon"); err != nil {
		t.Fatal(err)
	}
	look("reason:the moon")
	if err := e.store.HoldUpCampaign(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}

	// A runner puts all off until the morning.
	e.exec(`update campaign_recipients set timezone = 'Etc/UTC'`)
	a.Capabilities.Rate.PerSecond = 2
	e.start()
	e.until("all are put off", 20*time.Second, func() bool {
		return scalar[int](e, `select coalesce(sum(n), 0) from campaign_quiet`) == 100 && scalar[int](e, `select taken from campaigns`) == 100
	})
	got = look("the hours of the schedule")
	until, err := time.Parse(time.RFC3339, got.get("waiting").([]any)[0].(map[string]any)["until"].(string))
	if left := time.Until(until); err != nil || left < 58*time.Minute || left > time.Hour {
		t.Errorf("until %v (%v)", until, err)
	}
	// A hundred at two per second, from then on.
	if eta, err := time.Parse(time.RFC3339, fmt.Sprint(got.get("eta"))); err != nil || eta.Sub(until).Round(time.Second) != 50*time.Second {
		t.Errorf("to be done by %v", got.get("eta"))
	}
	// What is past has come back.
	e.exec(`update campaign_quiet set due_at = now() - interval '1 second'`)
	look()
	if err := e.store.FoldCampaign(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if n := scalar[int](e, `select count(*) from campaign_quiet`); n != 0 {
		t.Errorf("%d sums of the past are kept", n)
	}
	// Many are summed up, and an end forgets them.
	e.exec(`insert into campaign_quiet select $1, date_trunc('day', now()) + interval '9 days', 2 from generate_series(1, 300)`, id)
	if err := e.store.FoldCampaign(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if n := scalar[int](e, `select count(*) * 10000 + sum(n) from campaign_quiet`); n != 10600 {
		t.Errorf("the sum is %d", n)
	}
	e.exec(`update campaigns set finished_at = now()`)
	if err := e.store.FoldCampaign(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if n := scalar[int](e, `select count(*) from campaign_quiet`); n != 0 {
		t.Errorf("%d sums of an ended campaign are kept", n)
	}
	e.exec(`update campaigns set finished_at = null`)
	if err := e.do(id, "pause"); err != nil {
		t.Fatal(err)
	}
	look()
}

// When the queue is empty depends on where those live who are in it.
func TestETA(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	s := serveStore(t, e.store, e.accounts)
	e.exec(`insert into nodes (id, roles, addr, version, seen_at) values ('n', '{workers}', '', '', now() + interval '1 hour')`)
	// It is night by the clock of UTC for three hours more, and day four hours west.
	id := e.add(campaigns.Definition{Name: "w", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountA}}, Schedule: &campaigns.Schedule{QuietHours: hours(-time.Hour, 3*time.Hour)}}, 0, 3000)
	e.exec(`insert into campaign_zones values ($1, '', 1000), ($1, 'Etc/GMT+4', 2000)`, id)
	eta := func() time.Duration {
		t.Helper()
		a := s.want(200, s.call("GET", "/api/v1/campaigns/"+id, nil), "get")
		at, err := time.Parse(time.RFC3339, fmt.Sprint(a.get("eta")))
		if err != nil {
			t.Fatalf("eta %v: %s", a.get("eta"), a.text)
		}
		return time.Until(at)
	}
	if err := e.do(id, "start"); err != nil {
		t.Fatal(err)
	}
	// Ten left the queue a second.
	e.exec(`update campaigns set started_at = now() - interval '1 minute'`)
	e.exec(`insert into campaign_counts (campaign_id, status, delta) values ($1, 'queued', -150), ($1, 'sent', 150)`, id)
	e.exec(`update campaigns set taken = 150`)
	// A third of those who were not looked at yet sleep: 950 take 95 s from the morning on.
	if got := eta(); got < 3*time.Hour-time.Minute || got > 3*time.Hour+96*time.Second {
		t.Errorf("it takes %v, with those who sleep", got)
	}
	// All have been looked at, and nobody was put off.
	e.exec(`update campaigns set taken = accepted`)
	if got := eta(); got < 280*time.Second || got > 285*time.Second {
		t.Errorf("it takes %v, without anybody who sleeps", got)
	}
	// Some were.
	e.exec(`insert into campaign_quiet values ($1, date_trunc('minute', now()) + interval '3 hours', 600)`, id)
	if got := eta(); got < 3*time.Hour-time.Minute || got > 3*time.Hour+60*time.Second {
		t.Errorf("it takes %v, with 600 who sleep", got)
	}
}

// Progress takes no longer when there are a million recipients, put off by every
// transaction of the pump.
func TestProgressOfMany(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	s := serveStore(t, e.store, e.accounts)
	id := e.add(campaigns.Definition{Name: "w", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountA}}, Schedule: &campaigns.Schedule{QuietHours: hours(-time.Hour, time.Hour)}}, 0, 1)
	e.exec(`update campaigns set accepted = 1000000, state = 'running', started_at = now() where id = $1`, id)
	e.exec(`insert into campaign_counts (campaign_id, status, delta) values ($1, 'queued', 999999)`, id)
	e.exec(`insert into campaign_zones select $1, 'Etc/GMT+' || i, 30000 from generate_series(1, 12) i`, id)
	e.exec(`insert into campaign_zones select $1, 'Etc/GMT-' || i, 30000 from generate_series(1, 12) i`, id)
	e.exec(`insert into campaign_quiet select $1, date_trunc('hour', now()) + i % 24 * interval '1 hour', 500 from generate_series(1, 2000) i`, id)
	e.exec(`insert into outbox (chat_id, account_id, message_id, priority, expires_at, campaign_id) select $1, $2, gen_random_uuid(), 2, now(), $3 from generate_series(1, 2000)`, db.NewID(), accountA, id)
	small := e.add(campaigns.Definition{Name: "s", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountA}}, Schedule: &campaigns.Schedule{QuietHours: hours(-time.Hour, time.Hour)}}, 0, 1)
	e.exec(`update campaigns set state = 'running', started_at = now() where id = $1`, small)
	// The best of many, by turns: a busy machine slows both.
	best := map[string]time.Duration{id: time.Hour, small: time.Hour}
	for range 20 {
		for id := range best {
			began := time.Now()
			s.want(200, s.call("GET", "/api/v1/campaigns/"+id, nil), "get")
			best[id] = min(best[id], time.Since(began))
		}
	}
	if t.Logf("%v, of one recipient %v", best[id], best[small]); best[id] > 10*best[small] {
		t.Errorf("progress of a million takes %v, of one recipient %v", best[id], best[small])
	}
}

// stuck is a store that moves nothing on for a while.
type stuck struct {
	*db.DB
	on atomic.Bool
}

func (s *stuck) PumpCampaign(ctx context.Context, p *queue.CampaignPump) (queue.CampaignPumped, error) {
	if s.on.Load() {
		return queue.CampaignPumped{}, errors.New("no")
	}
	return s.DB.PumpCampaign(ctx, p)
}

// A runner that fails says so at the campaign, and takes it back.
func TestHeldUp(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	store := &stuck{DB: e.store}
	store.on.Store(true)
	r, err := campaigns.NewRunner(campaigns.RunnerDeps{Store: store, Accounts: e.accounts, Outboxes: nobody{}, Bus: e.bus, Log: slog.New(slog.DiscardHandler),
		Follow: func(decide campaigns.Decide) campaigns.Follower {
			return e.store.FollowCampaigns(3, db.CampaignDecide(decide))
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	defer func() { cancel(); <-done }()
	id := e.add(campaigns.Definition{Name: "w", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountA}}}, 0, 10)
	if err := e.do(id, "start"); err != nil {
		t.Fatal(err)
	}
	heldUp := func() string { return scalar[string](e, `select held_up from campaigns`) }
	e.until("the runner says that it can't", 20*time.Second, func() bool { return strings.Contains(heldUp(), "is tried again") })
	store.on.Store(false)
	e.until("the runner takes it back", 20*time.Second, func() bool { return heldUp() == "" && scalar[int](e, `select count(*) from outbox`) == 10 })
}
