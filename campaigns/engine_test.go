package campaigns_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/bus"
	"switchboard/campaigns"
	"switchboard/db"
	"switchboard/internal/dbtest"
	"switchboard/internal/queue"
	"switchboard/message"
)

// engine is a database with campaigns, runners, and a platform that is played.
type engine struct {
	t        *testing.T
	store    *db.DB
	pool     *pgxpool.Pool
	bus      *bus.Memory
	accounts accounts

	mu   sync.Mutex
	sent map[string]int // calls by message
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	// Two runners and two workers, and what the test asks.
	config, err := pgxpool.ParseConfig(dbtest.New(t).Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 16
	return newEngineOn(t, config)
}

func newEngineOn(t *testing.T, config *pgxpool.Config) *engine {
	t.Helper()
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(t.Context()), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	store, err := db.New(pool, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, store: store, pool: pool, bus: bus.NewMemory(bus.Node{ID: "test"}), accounts: testAccounts(), sent: map[string]int{}}
	for id, o := range e.accounts {
		e.exec(`insert into accounts (id, platform, name) values ($1, $2, $3)`, id, o.Account.Platform, o.Account.Name)
	}
	return e
}

func (e *engine) exec(sql string, args ...any) {
	e.t.Helper()
	if _, err := e.pool.Exec(context.WithoutCancel(e.t.Context()), sql, args...); err != nil {
		e.t.Fatalf("%s: %v", sql, err)
	}
}

func scalar[T any](e *engine, sql string, args ...any) (v T) {
	e.t.Helper()
	if err := e.pool.QueryRow(context.WithoutCancel(e.t.Context()), sql, args...).Scan(&v); err != nil {
		e.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// add stores a draft with n recipients by phone, from a number on.
func (e *engine) add(d campaigns.Definition, from, n int) string {
	e.t.Helper()
	if _, err := d.Compile(nil); err != nil {
		e.t.Fatal(err)
	}
	raw, err := json.Marshal(d)
	if err != nil {
		e.t.Fatal(err)
	}
	add := switchboard.Campaign{Name: d.Name, Definition: raw, CreatedBy: "test"}
	if d.Schedule != nil {
		add.StartAt, add.StopAt = d.Schedule.StartAt, d.Schedule.StopAt
	}
	c, err := e.store.AddCampaign(e.t.Context(), queue.Once{}, add)
	if err != nil {
		e.t.Fatal(err)
	}
	e.exec(`insert into campaign_recipients (campaign_id, n, kind, address) select $1, i, 2, '+7' || (9000000000 + $2::bigint + i) from generate_series(1, $3::int) i`, c.ID, from, n)
	e.exec(`update campaigns set accepted = $2 where id = $1`, c.ID, n)
	e.exec(`insert into campaign_counts (campaign_id, status, delta) values ($1, 'queued', $2)`, c.ID, n)
	return c.ID
}

func (e *engine) do(id, action string) error {
	_, err := e.store.MoveCampaign(context.WithoutCancel(e.t.Context()), queue.Once{}, "test", id, action)
	e.bus.Wake("campaigns")
	return err
}

// start makes a runner work until the test ends or stop is called.
func (e *engine) start() (stop func()) { return e.startAs("", nobody{}) }

func (e *engine) startAs(node string, outboxes campaigns.Outboxes) (stop func()) {
	e.t.Helper()
	r, err := campaigns.NewRunner(campaigns.RunnerDeps{Node: node, Store: e.store, Accounts: e.accounts, Outboxes: outboxes, Bus: e.bus, Log: slog.New(slog.DiscardHandler),
		Follow: func(decide campaigns.Decide) campaigns.Follower {
			return e.store.FollowCampaigns(3, db.CampaignDecide(decide))
		}})
	if err != nil {
		e.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(e.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	e.t.Cleanup(stop)
	return stop
}

// nobody takes chats to be sent; the platform finds them by itself.
type nobody struct{}

func (nobody) Room() int              { return 4000 }
func (nobody) Deliver([]queue.Handed) {}
func (nobody) Release([]string)       {}

// sender takes what the pump has claimed for it: it sends, at once or later, or gives back.
type sender struct {
	nobody
	e    *engine
	node string
	pick func(n int) int
	fate func(*queue.Claim) queue.Outcome
	all  *sync.WaitGroup
	took atomic.Int64
}

func (s *sender) Deliver(list []queue.Handed) {
	for _, h := range list {
		if h.Claim == nil {
			continue // the platform finds it
		}
		s.took.Add(1)
		o := queue.Outcome{Kind: queue.OutcomeUnsent}
		if s.pick(4) > 0 {
			s.e.mu.Lock()
			s.e.sent[h.Claim.MessageID]++
			s.e.mu.Unlock()
			o = s.fate(h.Claim)
		}
		o.Claim = h.Claim
		note := func() {
			if _, err := s.e.store.Step(context.WithoutCancel(s.e.t.Context()), s.node, []queue.Outcome{o}, nil, s.e.pace); err != nil {
				s.e.t.Error(err)
			}
			s.e.bus.Wake("events")
		}
		if s.pick(2) == 0 {
			note()
			continue
		}
		s.all.Go(func() {
			time.Sleep(time.Duration(s.pick(50)) * time.Millisecond)
			note()
		})
	}
}

// alive makes the node count as alive until ctx ends.
func (e *engine) alive(ctx context.Context, node string) {
	for ctx.Err() == nil {
		if err := e.store.Heartbeat(ctx, node, nil, "", ""); err != nil && ctx.Err() == nil {
			e.t.Error(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (e *engine) pace(id string) queue.Pacing {
	o := e.accounts[id]
	if o == nil || o.State != "active" {
		return queue.Pacing{}
	}
	return queue.Pacing{OK: true, Account: o.Capabilities.Rate}
}

// work sends what is in the outboxes, as a process with workers does.
func (e *engine) work(ctx context.Context, node string, fate func(c *queue.Claim) queue.Outcome) error {
	for ctx.Err() == nil {
		if err := e.store.Heartbeat(ctx, node, nil, "", ""); err != nil {
			return err
		}
		for id := range e.accounts {
			if _, err := e.store.ReleaseParked(ctx, id, e.pace(id), 0); err != nil {
				return err
			}
		}
		rows, err := e.pool.Query(ctx, `select chat_id::text from outbox_chats where busy and parked_account is null order by random() limit 100`)
		if err != nil {
			return err
		}
		var chats []string
		var id string
		for rows.Next() {
			if err := rows.Scan(&id); err != nil {
				return err
			}
			chats = append(chats, id)
		}
		if len(chats) == 0 {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		claims, err := e.store.Step(ctx, node, nil, chats, e.pace)
		if err != nil {
			return err
		}
		var outcomes []queue.Outcome
		for i := range claims {
			c := &claims[i]
			if c.State != queue.ClaimWork {
				continue
			}
			e.mu.Lock()
			e.sent[c.MessageID]++
			e.mu.Unlock()
			o := fate(c)
			o.Claim = c
			outcomes = append(outcomes, o)
		}
		if len(outcomes) == 0 {
			continue
		}
		if _, err := e.store.Step(ctx, node, outcomes, nil, e.pace); err != nil {
			return err
		}
		e.bus.Wake("events")
	}
	return nil
}

// report is a receipt, as the lanes write it.
func (e *engine) report(messageID string, status message.Status) {
	e.exec(`with m as (update messages set status = $2, status_at = clock_timestamp(), error = case when $2 = 'failed' then '{"kind": "invalid", "detail": "refused"}'::jsonb end
			where id = $1 and status in ('queued', 'sent', 'delivered') and message_rank($2) > message_rank(status) returning id, chat_id)
		insert into events (type, chat_id, message_id) select 'message.updated', chat_id, id from m`, messageID, status)
	e.bus.Wake("events")
}

// until polls.
func (e *engine) until(what string, limit time.Duration, ok func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.t.Fatalf("%s: not within %v\n%s", what, limit, scalar[string](e, `select coalesce(string_agg(concat_ws(' ', c.state, c.taken, c.accepted, 'n', r.n, r.state, r.status, r.reason, 'step', r.step, 'round', r.round, 'due', r.due_at,
				(select string_agg(concat_ws(' ', '[', s.round, s.step, s.status, m.status, m.error, s.stopped, ']'), ' ') from campaign_sends s left join messages m on m.id = s.message_id where s.campaign_id = r.campaign_id and s.n = r.n)), E'\n'), 'nobody is left')
				from (select * from campaign_recipients where state <> 'done' limit 10) r join campaigns c on c.id = r.campaign_id`))
		}
	}
}

// consistent checks what must hold at any time, in one snapshot.
func (e *engine) consistent() {
	e.t.Helper()
	wrong := scalar[string](e, `with rows as (select campaign_id, status, step, count(*) n from campaign_recipients group by 1, 2, 3),
		counted as (select campaign_id, status, step, sum(delta) n from campaign_counts group by 1, 2, 3),
		done as (select c.id, (select count(*) from campaign_recipients r where r.campaign_id = c.id and r.state = 'done') is_done, (select coalesce(sum(delta), 0) from campaign_done d where d.campaign_id = c.id) counted_done from campaigns c)
		select coalesce(string_agg(text, E'\n'), '') from (
			select concat_ws(' ', 'counts', coalesce(r.status, c.status), coalesce(r.step, c.step), 'rows', r.n, 'counted', c.n) text from rows r full join counted c using (campaign_id, status, step) where coalesce(r.n, 0) <> coalesce(c.n, 0)
			union all select concat_ws(' ', 'done', is_done, counted_done) from done where is_done <> counted_done
			union all select concat_ws(' ', 'person twice', campaign_id, chat_id, count(distinct n)) from campaign_sends where status not in ('failed', 'expired', 'canceled') group by campaign_id, chat_id having count(distinct n) > 1) x`)
	if wrong != "" {
		e.t.Errorf("what is counted is not what is there:\n%s", wrong)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, n := range e.sent {
		if n > 1 {
			e.t.Errorf("message %s was sent %d times", id, n)
		}
	}
}

// Whatever is done to campaigns while they run, and whatever becomes of their
// messages, in whichever order: all recipients end, each step goes out once, and
// the counts are those of the rows.
func TestEngineAtRandom(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(n)
	}
	e.accounts[accountA].Capabilities.Rate = message.Rate{}
	ids := []string{
		e.add(campaigns.Definition{Name: "one", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountB}}}, 0, 150),
		e.add(campaigns.Definition{Name: "two", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountA, Success: campaigns.Delivered, Wait: "1s"}, {AccountID: accountB}}}, 50, 150),
		e.add(campaigns.Definition{Name: "three", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountA, Success: campaigns.Read, Wait: "1s"}, {AccountID: accountB, Wait: "1s"}, {AccountID: accountA, Wait: "1s"}},
			FrequencyCap: &campaigns.FrequencyCap{Count: 3, Per: "1h"}}, 100, 150),
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	taken := make(chan string, 10000)
	fate := func(c *queue.Claim) queue.Outcome {
		switch n := pick(10); {
		case n == 0:
			return queue.Outcome{Kind: queue.OutcomeFailed, Failure: &message.Failure{Kind: message.ErrInvalid, Detail: "no"}}
		case n == 1:
			return queue.Outcome{Kind: queue.OutcomeFailed, Failure: &message.Failure{Kind: message.ErrRecipient, Detail: "gone"}}
		}
		taken <- c.MessageID
		return queue.Outcome{Kind: queue.OutcomeSent, IDs: []string{"p-" + c.MessageID}}
	}
	var senders []*sender
	for i := range 2 {
		s := &sender{e: e, node: fmt.Sprint("runner", i), pick: pick, fate: fate, all: &all}
		if err := e.store.Heartbeat(ctx, s.node, nil, "", ""); err != nil {
			t.Fatal(err)
		}
		all.Go(func() { e.alive(ctx, s.node) })
		senders = append(senders, s)
		stop := e.startAs(s.node, s)
		defer stop()
		all.Go(func() {
			if err := e.work(ctx, fmt.Sprint("node", i), fate); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		})
	}
	all.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case id := <-taken:
				for _, s := range [][]message.Status{{}, {message.StatusDelivered}, {message.StatusRead, message.StatusDelivered}, {message.StatusDelivered, message.StatusRead}, {message.StatusFailed}}[pick(5)] {
					if ctx.Err() == nil {
						e.report(id, s)
					}
				}
			}
		}
	})
	for _, id := range ids {
		if err := e.do(id, "start"); err != nil {
			t.Fatal(err)
		}
	}
	canceled := -1
	for range 60 {
		i := pick(len(ids))
		switch n := pick(12); {
		case n < 4:
			_ = e.do(ids[i], "pause")
		case n < 9:
			_ = e.do(ids[i], "resume")
		case n < 11:
			_, _, _ = e.store.RetryCampaign(t.Context(), queue.Once{}, "test", ids[i])
			e.bus.Wake("campaigns")
		case canceled < 0 && pick(4) == 0:
			canceled = i
			_ = e.do(ids[i], "cancel")
		}
		time.Sleep(time.Duration(pick(60)) * time.Millisecond)
		e.consistent()
	}
	for _, id := range ids {
		_ = e.do(id, "resume")
	}
	e.until("all campaigns end", 30*time.Second, func() bool {
		return scalar[int](e, `select count(*) from campaigns where finished_at is null or exists (select 1 from campaign_recipients r where r.campaign_id = campaigns.id and r.state <> 'done')`) == 0
	})
	e.consistent()
	// What was being sent when its recipient ended by another step still has its outcome
	// to come.
	e.until("no messages are left", 30*time.Second, func() bool {
		return scalar[int](e, `select count(*) from campaign_held`)+scalar[int](e, `select count(*) from outbox where campaign_id in (select id from campaigns where state = 'done') and not exists (select 1 from campaign_sends s where s.message_id = outbox.message_id and s.stopped)`) == 0
	})
	if senders[0].took.Load()+senders[1].took.Load() == 0 {
		t.Error("nothing was claimed as it was made")
	}
	// Everybody was tried, or it is said why not.
	if n := scalar[int](e, `select count(*) from campaign_recipients r join campaigns c on c.id = r.campaign_id where c.state = 'done' and r.message_id is null and coalesce(r.reason, '') = ''`); n > 0 {
		t.Errorf("%d recipients were skipped without a word", n)
	}
}

// Retrying what failed when the last recipient has just ended does not end the
// campaign.
func TestEngineRetryAtTheEnd(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	id := e.add(campaigns.Definition{Name: "retry", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountB}}}, 0, 3)
	e.exec(`update campaigns set state = 'running', started_at = now(), taken = 3`)
	e.exec(`update campaign_recipients set state = 'done', status = 'failed'`)
	e.exec(`insert into campaign_counts (campaign_id, status, delta) values ($1, 'queued', -3), ($1, 'failed', 3)`, id)
	e.exec(`insert into campaign_done values ($1, 3)`, id)
	// What RetryCampaign does, held up in the middle.
	tx, err := e.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `update campaigns set finished_at = null, reason = '', updated_at = now() where id = $1`, id); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := e.store.LiveCampaigns(context.WithoutCancel(t.Context()))
		ended <- err
	}()
	e.until("the other one waits", 5*time.Second, func() bool {
		return scalar[int](e, `select count(*) from pg_locks where not granted`) > 0 || len(ended) > 0
	})
	if _, err := tx.Exec(t.Context(), `insert into campaign_done values ($1, -3)`, id); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if state := scalar[string](e, `select state from campaigns where id = $1`, id); state != "running" {
		t.Errorf("the campaign is %s with three recipients to be tried again", state)
	}
}

// A runner that needs another connection when there is none lets go of what it has
// locked: those who have the connections may wait for just that.
func TestEngineWithoutConnections(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(dbtest.New(t).Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 3
	e := newEngineOn(t, config)
	id := e.add(campaigns.Definition{Name: "poor", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountB}}}, 0, 30)
	if err := e.do(id, "start"); err != nil {
		t.Fatal(err)
	}
	outside, err := pgxpool.New(context.WithoutCancel(t.Context()), config.ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	// Two of the three are somebody's who waits for the campaign's row, say.
	var held [2]*pgxpool.Conn
	for i := range held {
		if held[i], err = e.pool.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e.start()
	// The third is the runner's, which needs a fourth to make the chats.
	locked := func() (n int) {
		if err := outside.QueryRow(t.Context(), `select count(*) from pg_locks l join pg_class c on c.oid = l.relation where c.relname = 'campaigns' and l.mode = 'RowShareLock'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	e.until("the runner has locked the campaign", 20*time.Second, func() bool { return locked() > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := outside.Exec(ctx, `update campaigns set updated_at = now() where id = $1`, id); err != nil {
		t.Fatalf("the campaign stays locked: %v", err)
	}
	for _, c := range held {
		c.Release()
	}
	e.until("all are queued", 20*time.Second, func() bool { return scalar[int](e, `select count(*) from outbox`) == 30 })
}

// Events are kept until those have read them who must not miss any.
func TestEngineEventsAreKept(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	id := e.add(campaigns.Definition{Name: "kept", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountB, Success: campaigns.Accepted}}}, 0, 3)
	stop := e.start()
	if err := e.do(id, "start"); err != nil {
		t.Fatal(err)
	}
	e.until("all are queued", 10*time.Second, func() bool { return scalar[int](e, `select count(*) from outbox`) == 3 })
	stop()
	stopWork := e.works(func(*queue.Claim) queue.Outcome { return queue.Outcome{Kind: queue.OutcomeSent} })
	e.until("all are sent", 10*time.Second, func() bool { return scalar[int](e, `select count(*) from messages where status = 'sent'`) == 3 })
	stopWork()
	// A long weekend.
	e.exec(`update events set created_at = now() - interval '80 hours'`)
	e.exec(`insert into events (type) select 'chat.updated' from generate_series(1, 3)`)
	if err := e.store.PruneEvents(t.Context(), 72*time.Hour); err != nil {
		t.Fatal(err)
	}
	e.start()
	e.until("the campaign is done", 10*time.Second, func() bool { return scalar[string](e, `select state from campaigns`) == "done" })
	e.consistent()
}

// What is taken for sent stays that when the message itself is not kept any more.
func TestEngineMessagesAreGone(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	id := e.add(campaigns.Definition{Name: "gone", Content: text("hi"), Steps: []campaigns.Step{{AccountID: accountA, Success: campaigns.Delivered, Wait: "3s"}}}, 0, 3)
	stop := e.start()
	if err := e.do(id, "start"); err != nil {
		t.Fatal(err)
	}
	e.works(func(*queue.Claim) queue.Outcome { return queue.Outcome{Kind: queue.OutcomeSent} })
	e.until("all are sent", 10*time.Second, func() bool { return scalar[int](e, `select count(*) from campaign_sends where status = 'sent'`) == 3 })
	stop()
	e.exec(`delete from messages`)
	e.start()
	e.until("the campaign is done", 10*time.Second, func() bool { return scalar[string](e, `select state from campaigns`) == "done" })
	e.consistent()
	if n := scalar[int](e, `select count(*) from campaign_recipients where status = 'sent'`); n != 3 {
		t.Errorf("%d were sent to", n)
	}
}

// works sends what waits until stop is called, or the test is over.
func (e *engine) works(send func(*queue.Claim) queue.Outcome) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.t.Context()))
	done := make(chan struct{})
	go func() { e.work(ctx, "node", send); close(done) }()
	stop = func() { cancel(); <-done }
	e.t.Cleanup(stop)
	return stop
}
