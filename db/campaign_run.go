package db

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/message"
)

// Running campaigns. The recipients' table is the durable queue. A pump moves those
// whose turn it is into their chats' outboxes, hundreds in a transaction: the message,
// its row in the outbox, the note which step of whom it is, and where the recipient
// stands, or none of it; so a process that dies at any point neither skips nor
// doubles anybody. One process pumps a campaign at a time (the campaign's row is
// locked), in transactions of some milliseconds each. It keeps little in the outbox,
// so that a pause takes hold at once and conversations and other campaigns get their
// share; from there on a campaign's message goes the way of all messages.
//
// What becomes of the messages is read from the events' log (campaign_follow.go).
// Neither touches the way of other messages, but for what the claim looks at
// (campaign_gate.go).

// ProgramOf returns a campaign's definition and its files, as JSON.
func (d *DB) ProgramOf(ctx context.Context, campaignID string) (definition, files []byte, createdBy string, err error) {
	err = d.pool.QueryRow(ctx, `select definition, files, created_by from campaigns where id = $1`, campaignID).Scan(&definition, &files, &createdBy)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, "", fmt.Errorf("campaign %s: %w", campaignID, switchboard.ErrNotFound)
	}
	if err != nil {
		return nil, nil, "", fmt.Errorf("reading campaign %s: %w", campaignID, err)
	}
	return definition, files, createdBy, nil
}

// LiveCampaigns returns the campaigns with which something is to be done, oldest
// first. It begins those whose time has come, and ends those whose recipients are
// all done.
func (d *DB) LiveCampaigns(ctx context.Context) ([]queue.CampaignLive, error) {
	live, err := d.liveCampaigns(ctx)
	if err != nil || !slices.ContainsFunc(live, func(c queue.CampaignLive) bool {
		return (c.State == "scheduled" && c.StartAt != nil && !c.StartAt.After(c.Now)) || (c.State != "paused" && c.Taken >= c.Accepted && c.Done >= c.Accepted)
	}) {
		return live, err
	}
	batch := &pgx.Batch{}
	batch.Queue(`update campaigns set state = 'running', started_at = coalesce(started_at, clock_timestamp()), updated_at = clock_timestamp()
		where state = 'scheduled' and start_at <= now()`)
	// Who waits here for a retry of what failed has counted before it: a campaign that
	// was changed meanwhile (was) is looked at next time.
	batch.Queue(`update campaigns c set state = case when c.state = 'running' then 'done' else c.state end, finished_at = clock_timestamp(), updated_at = clock_timestamp()
		from campaigns was where was.id = c.id and was.updated_at = c.updated_at and (c.state = 'running' or (c.state = 'canceled' and c.finished_at is null)) and c.taken >= c.accepted
			and (select coalesce(sum(delta), 0) from campaign_done where campaign_id = c.id) >= c.accepted`)
	if err := d.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("beginning and ending campaigns: %w", err)
	}
	return d.liveCampaigns(ctx)
}

func (d *DB) liveCampaigns(ctx context.Context) ([]queue.CampaignLive, error) {
	rows, err := d.pool.Query(ctx, `select id, state, start_at, stop_at, accepted, taken, (select min(due_at) from campaign_recipients r where r.campaign_id = c.id and r.due_at is not null),
			exists (select 1 from campaign_held h where h.campaign_id = c.id and (h.due_at is null or h.due_at <= now())),
			coalesce(nullif(paced_until, '-infinity'), 'epoch'), (select coalesce(sum(delta), 0) from campaign_done where campaign_id = c.id), held_up, clock_timestamp()
		from campaigns c where state in ('scheduled', 'running', 'paused') or (state = 'canceled' and finished_at is null) order by id`)
	if err != nil {
		return nil, fmt.Errorf("looking for campaigns to run: %w", err)
	}
	live, err := pgx.CollectRows(rows, pgx.RowToStructByPos[queue.CampaignLive])
	if err != nil {
		return nil, fmt.Errorf("looking for campaigns to run: %w", err)
	}
	return live, nil
}

// HoldUpCampaign notes why a campaign can't be moved on; "" when it can.
func (d *DB) HoldUpCampaign(ctx context.Context, campaignID, reason string) error {
	if _, err := d.pool.Exec(ctx, `update campaigns set held_up = $2 where id = $1`, campaignID, plainText(reason)); err != nil {
		return fmt.Errorf("noting what holds campaign %s up: %w", campaignID, err)
	}
	return nil
}

// CampaignLoads returns how many messages of campaigns wait in the outbox.
func (d *DB) CampaignLoads(ctx context.Context) ([]queue.CampaignLoad, error) {
	rows, err := d.pool.Query(ctx, `select campaign_id, account_id, count(*) from outbox where campaign_id is not null group by 1, 2`)
	if err != nil {
		return nil, fmt.Errorf("counting campaigns' messages: %w", err)
	}
	loads, err := pgx.CollectRows(rows, pgx.RowToStructByPos[queue.CampaignLoad])
	if err != nil {
		return nil, fmt.Errorf("counting campaigns' messages: %w", err)
	}
	return loads, nil
}

// PumpCampaign moves recipients of a running campaign on, p.Limit at most.
func (d *DB) PumpCampaign(ctx context.Context, p *queue.CampaignPump) (out queue.CampaignPumped, err error) {
	before := map[*queue.CampaignAccount]queue.CampaignAccount{}
	for _, s := range p.Steps {
		for _, a := range s.Accounts {
			before[a] = *a
		}
	}
	err = d.hotTx(ctx, func(tx pgx.Tx) error {
		for a, was := range before { // an attempt that was undone
			*a = was
		}
		w := &pumping{d: d, tx: tx, p: p, origin: map[int64]campaignCount{}, counts: map[campaignCount]int64{}, chats: map[string]bool{}, people: map[int64]bool{}, quiet: map[time.Time]int64{}}
		err := w.run(ctx)
		out = w.out
		return err
	})
	if err != nil {
		return queue.CampaignPumped{}, fmt.Errorf("moving campaign %s on: %w", p.ID, err)
	}
	return out, nil
}

type campaignCount struct {
	status message.Status
	step   int
}

// pumping is one transaction of the pump.
type pumping struct {
	d   *DB
	tx  pgx.Tx
	p   *queue.CampaignPump
	now time.Time
	out queue.CampaignPumped

	taken   int64
	took    bool // taken changed
	paced   time.Time
	targets []*target
	moved   []moved
	origin  map[int64]campaignCount // how recipients were counted
	counts  map[campaignCount]int64
	done    int64
	stop    []string            // messages that must not leave
	quiet   map[time.Time]int64 // recipients that were put off because of the hour, by until when

	chats  map[string]bool // that get a message here
	people map[int64]bool
}

// target is a recipient whose step is to be begun.
type target struct {
	*queue.CampaignRecipient
	from   int // the step at which it was found
	until  time.Time
	again  time.Time
	reason string            // why the last step that was tried can't reach them
	key    string            // by which a chat is made with them
	fresh  *place            // the chat that was made
	barred map[string]string // reasons by account, of stop-lists of the accounts
	phone  string            // see phones

	full    *queue.CampaignAccount // could write to them first, and has no room
	account *queue.CampaignAccount
	place   *place
	person  int64
	content message.Content
	id      string // of the message
	sender  string
	end     time.Time // of its time to live
	gone    bool      // decided
}

// place is a chat of a recipient.
type place struct {
	chatID     string
	accountID  string
	key        string // the platform's
	customer   string // likewise
	phone      string
	reachable  bool
	reason     string
	inactive   bool
	suppressed *string
	spoke      time.Time
}

// moved is what is written of a recipient.
type moved struct {
	n         int64
	state     string
	status    message.Status
	reason    string
	step      int
	messageID *string
	due       *time.Time
	done      bool
}

func (w *pumping) run(ctx context.Context) error {
	p := w.p
	var accepted int64
	var paced time.Time
	err := w.tx.QueryRow(ctx, `select taken, accepted, coalesce(nullif(paced_until, '-infinity'), 'epoch'), clock_timestamp() from campaigns
		where id = $1 and state = 'running' for update skip locked`, p.ID).Scan(&w.taken, &accepted, &paced, &w.now)
	if errors.Is(err, pgx.ErrNoRows) {
		w.out.Busy = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("locking the campaign: %w", err)
	}
	limit := p.Limit
	if p.Rate > 0 {
		// What was not used is kept for a quarter of a second.
		keep := max(250*time.Millisecond, time.Duration(float64(time.Second)/p.Rate))
		w.paced = later(paced, w.now.Add(-keep))
		limit = min(limit, int(math.Floor(w.now.Sub(w.paced).Seconds()*p.Rate+1e-6)))
	}
	if limit <= 0 {
		return nil
	}
	held, err := w.release(ctx, limit)
	if err != nil {
		return err
	}
	if limit -= held; limit <= 0 {
		return nil
	}
	if err := w.take(ctx, limit, accepted); err != nil {
		return err
	}
	if err := w.address(ctx); err != nil {
		return err
	}
	if err := w.spare(ctx); err != nil {
		return err
	}
	return w.write(ctx)
}

// The statements here name a campaign or an account beside each row's own key, and
// on tables that were empty a moment ago a plan may well begin with that one, and
// look at all of them for each row. Where two columns make the key, the row is asked
// for by both (lateral and limit, or offset 0).

// release brings messages back to the outbox that were taken out of it while the
// campaign was paused, or at a quiet hour: until the next one, which is found anew.
func (w *pumping) release(ctx context.Context, limit int) (int, error) {
	rows, err := w.tx.Query(ctx, `select h.message_id, r.kind, r.address, r.timezone from (select message_id from campaign_held
				where campaign_id = $1 and (due_at is null or due_at <= now()) order by message_id limit $2) h
			cross join lateral (select n from campaign_sends where message_id = h.message_id limit 1) s
			cross join lateral (select kind, address, coalesce(timezone, '') as timezone from campaign_recipients where campaign_id = $1 and n = s.n limit 1) r`, w.p.ID, limit)
	if err != nil {
		return 0, fmt.Errorf("looking for messages to bring back: %w", err)
	}
	var free, quiet []string
	var from, to []*time.Time
	var waits []time.Time
	var message string
	var r queue.CampaignRecipient
	if _, err := pgx.ForEachRow(rows, []any{&message, &r.Kind, &r.Address, &r.Timezone}, func() error {
		until, again, wait := w.p.Hours(&r, w.now)
		if wait.IsZero() {
			free, from, to = append(free, message), append(from, timeOrNil(until)), append(to, timeOrNil(again))
		} else {
			quiet, waits = append(quiet, message), append(waits, wait)
		}
		return nil
	}); err != nil {
		return 0, fmt.Errorf("looking for messages to bring back: %w", err)
	}
	w.out.Held = len(free) + len(quiet)
	if len(quiet) > 0 {
		if _, err := w.tx.Exec(ctx, `update campaign_held h set due_at = r.due_at from unnest($1::uuid[], $2::timestamptz[]) r (id, due_at) where h.message_id = r.id`, quiet, waits); err != nil {
			return 0, fmt.Errorf("keeping messages back for quiet hours: %w", err)
		}
	}
	if len(free) == 0 {
		return w.out.Held, nil
	}
	rows, err = w.tx.Query(ctx, `with h as (delete from campaign_held h using unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) r (id, quiet_from, quiet_to) where h.message_id = r.id
				returning h.chat_id, h.account_id, h.message_id, h.priority, h.attempt, h.expires_at, h.campaign_id, r.quiet_from, r.quiet_to)
		insert into outbox (chat_id, account_id, message_id, priority, attempt, expires_at, campaign_id, quiet_from, quiet_to)
		select h.* from h cross join lateral (select status from messages where id = h.message_id limit 1) m where m.status = 'queued' order by h.message_id
		returning chat_id, id, account_id, expires_at`, free, from, to)
	if err != nil {
		return 0, fmt.Errorf("bringing messages back to the outbox: %w", err)
	}
	var q queuedRows
	var chat, account string
	var id int64
	var expires time.Time
	if _, err := pgx.ForEachRow(rows, []any{&chat, &id, &account, &expires}, func() error {
		q.chats, q.ids, q.accounts, q.expires = append(q.chats, chat), append(q.ids, id), append(q.accounts, account), append(q.expires, expires)
		return nil
	}); err != nil {
		return 0, fmt.Errorf("bringing messages back to the outbox: %w", err)
	}
	if len(q.chats) == 0 {
		return w.out.Held, nil
	}
	batch := &pgx.Batch{}
	w.queueMailboxes(batch, &q)
	if err := w.tx.SendBatch(ctx, batch).Close(); err != nil {
		return 0, fmt.Errorf("waking outboxes: %w", err)
	}
	return w.out.Held, nil
}

const recipientColumns = `n, kind, address, coalesce(timezone, ''), vars, step, round, status, message_id, state = 'pending'`

func (w *pumping) take(ctx context.Context, limit int, accepted int64) error {
	p := w.p
	collect := func(sql string, args ...any) ([]*queue.CampaignRecipient, error) {
		rows, err := w.tx.Query(ctx, `select `+recipientColumns+` from campaign_recipients where campaign_id = $1 and `+sql, append([]any{p.ID}, args...)...)
		if err != nil {
			return nil, fmt.Errorf("reading recipients: %w", err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[queue.CampaignRecipient])
		if err != nil {
			return nil, fmt.Errorf("reading recipients: %w", err)
		}
		for _, r := range list {
			w.origin[r.N] = campaignCount{r.Status, r.Step}
		}
		return list, nil
	}
	due, err := collect(`due_at <= $2 order by due_at, n limit $3 for update skip locked`, w.now, limit)
	if err != nil {
		return err
	}
	if err := w.waited(ctx, due); err != nil {
		return err
	}
	n := limit - len(due)
	if room, limited := w.firstRoom(); limited && room < n {
		n = room
		w.out.More = n > 0
	}
	if n > 0 && w.taken < accepted {
		// Whoever was never looked at is nobody else's: no lock is needed.
		if _, err := w.tx.Exec(ctx, `select campaign_unpack($1, $2)`, p.ID, w.taken+int64(n)); err != nil {
			return fmt.Errorf("unpacking recipients: %w", err)
		}
		fresh, err := collect(`n > $2 order by n limit $3`, w.taken, n)
		if err != nil {
			return err
		}
		w.took = true
		w.out.More = w.out.More && len(fresh) == n
		w.taken = accepted
		if len(fresh) == n {
			w.taken = fresh[n-1].N
		}
		for _, r := range fresh {
			if r.Pending {
				w.targets = append(w.targets, &target{CampaignRecipient: r, from: r.Step})
			}
		}
		w.out.Looked += len(fresh)
	}
	w.out.Looked += len(due)
	return nil
}

// firstRoom is how many recipients may begin with the first step: others would be
// looked at, and put off. Limited is false when that step has no account any more.
func (w *pumping) firstRoom() (room int, limited bool) {
	for _, t := range w.targets {
		if t.Step == 0 {
			room--
		}
	}
	for _, a := range w.p.Steps[0].Accounts {
		room += a.Room
	}
	return max(room, 0), len(w.p.Steps[0].Accounts) > 0
}

// waited sees to recipients whose time has come: some wait for a step to be begun,
// others' wait for a success is over.
func (w *pumping) waited(ctx context.Context, due []*queue.CampaignRecipient) error {
	var numbers []int64
	for _, r := range due {
		if r.MessageID != nil {
			numbers = append(numbers, r.N)
		}
	}
	sends, err := campaignSends(ctx, w.tx, w.p.ID, numbers)
	if err != nil {
		return err
	}
	for _, r := range due {
		if r.MessageID == nil {
			w.targets = append(w.targets, &target{CampaignRecipient: r, from: r.Step})
			continue
		}
		v := w.p.Cascade(r.Round, sends[r.N], w.now)
		for _, i := range v.Stop {
			w.stop = append(w.stop, sends[r.N][i].MessageID)
		}
		switch {
		case v.Next:
			r.Step, r.MessageID = v.NextStep, nil
			w.targets = append(w.targets, &target{CampaignRecipient: r, from: r.Step})
		case v.Done:
			w.move(moved{n: r.N, state: "done", status: v.Status, reason: v.Reason, step: v.Step, messageID: sendID(sends[r.N], v, r.MessageID), done: true})
		default:
			w.move(moved{n: r.N, state: "waiting", status: v.Status, reason: v.Reason, step: v.Step, messageID: r.MessageID, due: timeOrNil(v.Due)})
		}
	}
	return nil
}

func sendID(sends []queue.CampaignSend, v queue.CampaignVerdict, otherwise *string) *string {
	if v.Sent >= 0 && v.Sent < len(sends) {
		return &sends[v.Sent].MessageID
	}
	return otherwise
}

// campaignSends returns what is known of the messages of some recipients, in the
// order in which they were made. Of those that are not kept any more it is what the
// follower has read.
func campaignSends(ctx context.Context, tx pgx.Tx, campaignID string, numbers []int64) (map[int64][]queue.CampaignSend, error) {
	found := map[int64][]queue.CampaignSend{}
	if len(numbers) == 0 {
		return found, nil
	}
	rows, err := tx.Query(ctx, `select s.message_id, s.n, s.round, s.step, s.account_id, s.at, coalesce(m.status, s.status), coalesce(m.error ->> 'kind', ''), coalesce(m.error ->> 'detail', ''), m.platform_message_id is not null
		from unnest($2::bigint[]) r (n) cross join lateral (select * from campaign_sends where campaign_id = $1 and n = r.n order by round, step limit 1000) s
		left join lateral (select status, error, platform_message_id from messages where id = s.message_id limit 1) m on true order by s.n, s.round, s.step`, campaignID, numbers)
	if err != nil {
		return nil, fmt.Errorf("reading what was sent: %w", err)
	}
	for rows.Next() {
		s, err := scanSend(rows)
		if err != nil {
			return nil, fmt.Errorf("reading what was sent: %w", err)
		}
		found[s.N] = append(found[s.N], s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading what was sent: %w", err)
	}
	return found, nil
}

func scanSend(rows pgx.Rows, more ...any) (s queue.CampaignSend, err error) {
	var kind string
	err = rows.Scan(append([]any{&s.MessageID, &s.N, &s.Round, &s.Step, &s.AccountID, &s.At, &s.Status, &kind, &s.Reason, &s.Taken}, more...)...)
	if s.Status == message.StatusCanceled {
		s.Passed, s.Barred = kind == string(message.ErrRecipient), kind == string(failureSuppressed)
	}
	return s, err
}

// move notes what is written of a recipient.
func (w *pumping) move(m moved) {
	w.moved = append(w.moved, m)
	if from, to := w.origin[m.n], (campaignCount{m.status, m.step}); from != to {
		w.counts[from]--
		w.counts[to]++
	}
	if m.done {
		w.done++
	}
}

// open are the targets about which nothing is decided yet.
func (w *pumping) open() []*target {
	var list []*target
	for _, t := range w.targets {
		if !t.gone {
			list = append(list, t)
		}
	}
	return list
}

// crowdedAtMost is how long somebody waits for room who came when there was none,
// before they look again: limits are raised, and campaigns that shared them end.
const crowdedAtMost = 3 * time.Minute

// crowded lets a recipient wait for room at an account.
func (w *pumping) crowded(t *target, a *queue.CampaignAccount) {
	a.Back = later(a.Back, w.now.Add(500*time.Millisecond)).Add(a.Gap)
	if most := w.now.Add(crowdedAtMost); a.Back.After(most) {
		a.Back = most
	}
	w.putOff(t, a.Back)
}

// putOff lets a recipient wait.
func (w *pumping) putOff(t *target, until time.Time) {
	t.gone = true
	w.move(moved{n: t.N, state: "waiting", status: t.Status, step: t.Step, due: &until})
}

// address finds out where each target can be written to, step by step.
func (w *pumping) address(ctx context.Context) error {
	for _, t := range w.targets {
		var wait time.Time
		if t.until, t.again, wait = w.p.Hours(t.CampaignRecipient, w.now); !wait.IsZero() {
			w.putOff(t, wait)
			w.quiet[wait]++
		}
	}
	if err := w.suppressed(ctx); err != nil {
		return err
	}
	for step := range w.p.Steps {
		var here []*target
		for _, t := range w.open() {
			if t.Step == step && t.place == nil {
				here = append(here, t)
			}
		}
		if len(here) == 0 {
			continue
		}
		if err := w.addressStep(ctx, step, here); err != nil {
			return err
		}
	}
	for _, t := range w.open() {
		if t.place == nil {
			t.gone = true
			if err := w.giveUp(ctx, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveUp ends a recipient whom no step can reach, or must.
func (w *pumping) giveUp(ctx context.Context, t *target) error {
	m := moved{n: t.N, state: "done", status: "skipped", reason: t.reason, step: min(t.Step, len(w.p.Steps)-1), done: true}
	if t.from > 0 || t.Round > 0 {
		sends, err := campaignSends(ctx, w.tx, w.p.ID, []int64{t.N})
		if err != nil {
			return err
		}
		if v := w.p.Standing(t.Round, sends[t.N]); v.Sent >= 0 {
			m.status, m.step, m.messageID = v.Status, v.Step, &sends[t.N][v.Sent].MessageID
			m.reason = cmp.Or(v.Reason, t.reason)
		}
	}
	w.move(m)
	return nil
}

// suppressed sets those apart whose own address is on a stop-list.
func (w *pumping) suppressed(ctx context.Context) error {
	open := w.open()
	if len(open) == 0 {
		return nil
	}
	index, kinds, addresses := make([]int32, len(open)), make([]int16, len(open)), make([]string, len(open))
	for i, t := range open {
		index[i], kinds[i], addresses[i] = int32(i), int16(t.Kind), t.Address
	}
	lists := w.lists()
	for _, s := range w.p.Steps {
		for _, a := range s.Accounts {
			lists = append(lists, "account:"+a.ID)
		}
	}
	rows, err := w.tx.Query(ctx, `select r.i, x.list, x.reason from unnest($1::int[], $2::smallint[], $3::text[]) r (i, kind, address)
		join suppressions x on x.address = r.address and x.kind = r.kind where x.list = any($4)`, index, kinds, addresses, lists)
	if err != nil {
		return fmt.Errorf("looking into stop-lists: %w", err)
	}
	var i int32
	var list, reason string
	_, err = pgx.ForEachRow(rows, []any{&i, &list, &reason}, func() error {
		t := open[i]
		if account, ok := strings.CutPrefix(list, "account:"); ok {
			if t.barred == nil {
				t.barred = map[string]string{}
			}
			t.barred[account] = cmp.Or(reason, "on the stop-list of the account")
			return nil
		}
		t.reason = cmp.Or(reason, "on the stop-list "+list)
		t.Step = len(w.p.Steps)
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking into stop-lists: %w", err)
	}
	return nil
}

// addressStep looks for the chats of targets at a step's accounts. Who can't be
// reached there goes on to the next step.
func (w *pumping) addressStep(ctx context.Context, step int, here []*target) error {
	s := &w.p.Steps[step]
	byID := map[string]*queue.CampaignAccount{}
	var accounts, homes []string
	for _, a := range s.Accounts {
		byID[a.ID] = a
		accounts = append(accounts, a.ID)
	}
	// A platform's id means nothing on another platform: there the phone has to tell.
	home := len(w.p.Steps[0].Accounts) > 0 && len(s.Accounts) > 0 && w.p.Steps[0].Accounts[0].Platform == s.Accounts[0].Platform
	for _, a := range w.p.Steps[0].Accounts {
		homes = append(homes, a.ID)
	}
	places, err := w.places(ctx, here, accounts, homes, home)
	if err != nil {
		return err
	}
	// Whom no account knows is made known to one that can write first.
	if err := w.phones(ctx, s, here, places, homes); err != nil {
		return err
	}
	fresh := map[*queue.CampaignAccount][]*target{}
	for i, t := range here {
		if len(places[i]) > 0 {
			continue
		}
		t.key, t.full = "", nil
		for _, a := range s.Accounts {
			var key string
			switch {
			case t.Kind == 1 && home && a.ByID && a.Check(t.Address):
				key = t.Address
			case t.phone != "" && a.ByPhone && a.Check(t.phone[1:]):
				key = t.phone[1:]
			default:
				continue
			}
			if a.Room <= len(fresh[a]) && len(s.Accounts) > 1 {
				t.full = cmp.Or(t.full, a) // perhaps another one has room
				continue
			}
			t.key = key
			if reason, barred := t.barred[a.ID]; barred {
				t.reason, t.Step = reason, len(w.p.Steps)
				break
			}
			fresh[a] = append(fresh[a], t)
			break
		}
	}
	if len(fresh) > 0 {
		for a, list := range fresh {
			if err := w.d.makeCampaignChats(ctx, a.ID, list); err != nil {
				return err
			}
		}
		// Those whom somebody else made known in between are looked for again.
		var again []*target
		var at []int
		for i, t := range here {
			if t.fresh != nil {
				places[i] = []place{*t.fresh}
			} else if len(places[i]) == 0 && t.Step == step {
				again, at = append(again, t), append(at, i)
			}
		}
		more, err := w.places(ctx, again, accounts, homes, home)
		if err != nil {
			return err
		}
		for i, found := range more {
			places[at[i]] = found
		}
	}
	for i, t := range here {
		if t.Step == step {
			w.choose(s, byID, t, places[i])
		}
	}
	return nil
}

// phones finds the phones of targets whom a step's accounts don't know, where one
// of them can write to a phone.
func (w *pumping) phones(ctx context.Context, s *queue.CampaignStep, here []*target, places [][]place, homes []string) error {
	if !slices.ContainsFunc(s.Accounts, func(a *queue.CampaignAccount) bool { return a.ByPhone }) {
		return nil
	}
	var index [2][]int32
	var addresses [2][]string
	for i, t := range here {
		switch {
		case len(places[i]) > 0:
		case t.Kind == 2:
			t.phone = t.Address
		default:
			index[t.Kind], addresses[t.Kind] = append(index[t.Kind], int32(i)), append(addresses[t.Kind], t.Address)
		}
	}
	batch := &pgx.Batch{}
	read := func(rows pgx.Rows) error {
		var i int32
		var phone string
		_, err := pgx.ForEachRow(rows, []any{&i, &phone}, func() error {
			if len(phone) > 1 && phone[0] == '+' {
				here[i].phone = phone
			}
			return nil
		})
		return err
	}
	if len(index[0]) > 0 {
		batch.Queue(`select r.i, k.phone from unnest($1::int[], $2::uuid[]) r (i, address) join customers k on k.id = r.address where k.phone <> ''`, index[0], addresses[0]).Query(read)
	}
	if len(index[1]) > 0 {
		batch.Queue(`select r.i, k.phone from unnest($1::int[], $2::text[]) r (i, address) cross join unnest($3::uuid[]) a (id)
			cross join lateral (select phone from customers where account_id = a.id and external_id = r.address limit 1) k where k.phone <> ''`,
			index[1], addresses[1], homes).Query(read)
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := w.tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("looking for phones: %w", err)
	}
	return nil
}

// choose picks the chat over which a target is written to.
func (w *pumping) choose(s *queue.CampaignStep, byID map[string]*queue.CampaignAccount, t *target, places []place) {
	slices.SortStableFunc(places, func(a, b place) int { return b.spoke.Compare(a.spoke) })
	var best *place
	reason := "not known at the account, and it can't write first"
	if len(s.Accounts) == 0 {
		reason = "the account is gone"
	}
	var full *queue.CampaignAccount
	if len(places) == 0 {
		full = t.full
	}
	for i := range places {
		x := &places[i]
		switch {
		case x.suppressed != nil:
			// Who asked not to be written to is not tried elsewhere.
			t.reason, t.Step = *x.suppressed, len(w.p.Steps)
			return
		case !x.reachable:
			reason = cmp.Or(x.reason, "the customer can't be reached")
		case x.inactive:
			reason = "the address is inactive: the platform kept refusing it"
		case byID[x.accountID].Room <= 0:
			full = cmp.Or(full, byID[x.accountID])
		case best == nil:
			best = x
		}
	}
	switch {
	case best != nil:
		t.place, t.account = best, byID[best.accountID]
		t.account.Room--
	case full != nil:
		w.crowded(t, full)
	default:
		t.reason = reason
		t.Step++
	}
}

// places returns the chats of targets at some accounts.
func (w *pumping) places(ctx context.Context, targets []*target, accounts, homes []string, home bool) ([][]place, error) {
	out := make([][]place, len(targets))
	var index [3][]int32
	var addresses [3][]string
	for i, t := range targets {
		index[t.Kind], addresses[t.Kind] = append(index[t.Kind], int32(i)), append(addresses[t.Kind], t.Address)
	}
	batch := &pgx.Batch{}
	read := func(rows pgx.Rows) error {
		for rows.Next() {
			var i int32
			var x place
			if err := rows.Scan(&i, &x.chatID, &x.accountID, &x.key, &x.customer, &x.phone, &x.reachable, &x.reason, &x.inactive, &x.suppressed, &x.spoke); err != nil {
				return err
			}
			if !slices.ContainsFunc(out[i], func(o place) bool { return o.chatID == x.chatID }) {
				out[i] = append(out[i], x)
			}
		}
		return rows.Err()
	}
	// By customer: at the account itself, elsewhere by their phone.
	if len(index[0]) > 0 {
		batch.Queue(`select `+placeColumns+` from unnest($1::int[], $2::uuid[]) r (i, address) join customers own on own.id = r.address
			cross join lateral (select own.* where own.account_id = any($3) union all select k.* from phone_book p join customers k on k.id = p.customer_id
				where own.phone <> '' and p.phone = own.phone and p.account_id = any($3) and k.id <> own.id) k
			cross join lateral (select `+chatOfCustomer+` as id) found `+placeJoins, index[0], addresses[0], accounts, w.lists()).Query(read)
	}
	switch {
	case len(index[1]) > 0 && home:
		batch.Queue(`select `+placeColumns+` from unnest($1::int[], $2::text[]) r (i, address) cross join unnest($3::uuid[]) a (id)
			cross join lateral (select coalesce((select ca.chat_id from chat_aliases ca where ca.account_id = a.id and ca.alias = r.address),
				(select c.id from chats c where c.account_id = a.id and c.external_id = r.address),
				(select c.id from customers k join chats c on c.customer_id = k.id where k.account_id = a.id and k.external_id = r.address order by c.created_at limit 1)) as id) found `+placeJoins,
			index[1], addresses[1], accounts, w.lists()).Query(read)
	case len(index[1]) > 0:
		batch.Queue(`select `+placeColumns+` from unnest($1::int[], $2::text[]) r (i, address) cross join unnest($5::uuid[]) h (id)
			cross join lateral (select phone from customers where account_id = h.id and external_id = r.address and phone <> '' limit 1) own
			cross join lateral (select k.* from phone_book p join customers k on k.id = p.customer_id where p.phone = own.phone and p.account_id = any($3)) k
			cross join lateral (select `+chatOfCustomer+` as id) found `+placeJoins, index[1], addresses[1], accounts, w.lists(), homes).Query(read)
	}
	if len(index[2]) > 0 {
		batch.Queue(`select `+placeColumns+` from unnest($1::int[], $2::text[]) r (i, address)
			cross join lateral (select k.* from phone_book p join customers k on k.id = p.customer_id where p.phone = r.address and p.account_id = any($3)) k
			cross join lateral (select `+chatOfCustomer+` as id) found `+placeJoins, index[2], addresses[2], accounts, w.lists()).Query(read)
	}
	if batch.Len() == 0 {
		return out, nil
	}
	if err := w.tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("looking for recipients: %w", err)
	}
	return out, nil
}

// lists are those that the campaign looks into, but for the accounts' own.
func (w *pumping) lists() []string { return append([]string{"global"}, w.p.Lists...) }

const (
	chatOfCustomer = `coalesce((select ca.chat_id from chat_aliases ca where ca.account_id = k.account_id and ca.alias = k.external_id),
		(select c.id from chats c where c.customer_id = k.id order by c.created_at limit 1))`
	placeColumns = `r.i, c.id, c.account_id, c.external_id, cu.external_id, cu.phone, cu.reachable, cu.unreachable_reason,
		exists (select 1 from address_health) and exists (select 1 from address_health h where h.account_id = c.account_id and h.address = c.external_id and h.inactive_since is not null
			and h.last_failure_at > coalesce(c.last_customer_message_at, '-infinity')),
		case when exists (select 1 from suppressions) then (select coalesce(nullif(x.reason, ''), 'on the stop-list ' || case when x.list like 'account:%' then 'of the account' else x.list end) from suppressions x
			where x.address = any(array[cu.id::text, cu.external_id, c.external_id, nullif(cu.phone, '')])
				and x.kind = case when x.address = cu.id::text then 0 when x.address = cu.phone and x.address like '+%' then 2 else 1 end
				and (x.list = any($4) or x.list = 'account:' || c.account_id) order by x.list limit 1) end,
		coalesce(c.last_customer_message_at, 'epoch')`
	placeJoins = `join chats c on c.id = found.id join customers cu on cu.id = c.customer_id`
)

// secondConnection is how long the pump, which holds locks, waits for another
// connection: all others of the pool may be waiting for these locks. It lets go of
// them then, and tries again.
const secondConnection = 2 * time.Second

// makeCampaignChats makes chats of an account with people whom it does not know, in
// a transaction of its own: a chat without messages does no harm.
func (d *DB) makeCampaignChats(ctx context.Context, accountID string, targets []*target) error {
	keys, phones := make([]string, 0, len(targets)), make([]string, 0, len(targets))
	byKey := make(map[string]*target, len(targets))
	for _, t := range targets {
		byKey[keyText(t.key)] = t
		phone := ""
		if t.phone != "" && t.key == t.phone[1:] {
			phone = t.phone
		}
		keys, phones = append(keys, keyText(t.key)), append(phones, phone)
	}
	ids := make([]string, len(keys))
	chatIDs := make([]string, len(keys))
	var locks []int32
	for i, key := range keys {
		ids[i], chatIDs[i] = NewID(), NewID()
		locks = append(locks, aliasLock(accountID, key))
	}
	slices.Sort(locks)
	locks = slices.Compact(locks)
	waiting, cancel := context.WithTimeout(ctx, secondConnection)
	conn, err := d.hot.Acquire(waiting)
	cancel()
	if err != nil {
		return fmt.Errorf("waiting for a second connection: %w", err)
	}
	defer conn.Release()
	return txOn(ctx, conn, func(tx pgx.Tx) error {
		for _, t := range targets {
			t.fresh = nil // of an attempt that was undone
		}
		batch := &pgx.Batch{}
		batch.Queue(`select pg_advisory_xact_lock($1, l) from unnest($2::int[]) l`, lockAlias, locks)
		const noAlias = `not exists (select 1 from chat_aliases where account_id = $1 and alias = r.key)`
		batch.Queue(`insert into customers (id, account_id, external_id, phone) select r.id, $1, r.key, r.phone from unnest($2::uuid[], $3::text[], $4::text[]) r (id, key, phone)
			where `+noAlias+` order by r.key on conflict (account_id, external_id) do nothing`, accountID, ids, keys, phones)
		batch.Queue(`insert into chats (id, account_id, platform, customer_id, external_id, state)
			select r.id, a.id, a.platform, cu.id, r.key, 'closed' from unnest($2::uuid[], $3::text[]) r (id, key) join accounts a on a.id = $1
			cross join lateral (select id from customers where account_id = $1 and external_id = r.key limit 1) cu where `+noAlias+` order by r.key on conflict (account_id, external_id) do nothing returning id, external_id`, accountID, chatIDs, keys).Query(func(rows pgx.Rows) error {
			var id, key string
			_, err := pgx.ForEachRow(rows, []any{&id, &key}, func() error {
				if t := byKey[key]; t != nil {
					t.fresh = &place{chatID: id, accountID: accountID, key: key, customer: key, phone: t.phone, reachable: true}
				}
				return nil
			})
			return err
		})
		if slices.ContainsFunc(phones, func(p string) bool { return p != "" }) {
			batch.Queue(`insert into phone_book (phone, customer_id, account_id, platform, source)
				select r.phone, cu.id, a.id, a.platform, 'address' from unnest($2::text[], $3::text[]) r (key, phone) join accounts a on a.id = $1
				cross join lateral (select id from customers where account_id = $1 and external_id = r.key limit 1) cu where r.phone <> '' order by 1, 2 on conflict do nothing`, accountID, keys, phones)
		}
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("making chats: %w", err)
		}
		return nil
	})
}

// personOf is a hash of who a target is: by the phone where there is one, so that
// one person is one over all accounts, else by the chat.
func personOf(t *target) int64 {
	if t.Kind == queue.ByPhone {
		return person(t.Address, "")
	}
	return person(t.place.phone, t.place.chatID)
}

func person(phone, chatID string) int64 {
	h := fnv.New64a()
	h.Write([]byte(cmp.Or(phone, chatID)))
	return int64(h.Sum64())
}

// The messages of campaigns that count as got: by somebody among the recipients of
// the same campaign, who is then there twice, and within a time, for the cap on
// frequency. $1 is the campaign, r has a person and the recipient's n.
const (
	gotAny   = `s.status not in ('failed', 'expired', 'canceled')`
	gotTwice = `exists (select 1 from campaign_sends s where s.person = r.person and s.campaign_id is not distinct from $1 and s.n <> r.n and ` + gotAny + `)`
	gotCount = `(select count(*) from campaign_sends s where s.person = r.person and s.at > now() - $6::interval and (s.campaign_id, s.n) <> ($1, r.n) and ` + gotAny + `)`

	twiceSQL  = `select r.i from unnest($2::int[], $3::bigint[], $4::bigint[]) r (i, person, n) where ` + gotTwice
	enoughSQL = `select r.i from unnest($2::int[], $3::bigint[], $4::bigint[]) r (i, person, n) where $5 <= ` + gotCount
)

const reasonTwice = "the same person is another recipient of this campaign"

func reasonEnough(count int, per time.Duration) string {
	return fmt.Sprintf("got %d messages of campaigns within %v", count, per)
}

// frequencyLock is held by campaigns with a cap while they count and send, so that
// two of them don't both send the last message that is allowed.
const frequencyLock = 1

// spare leaves out those who get the message anyway, and those who got enough.
func (w *pumping) spare(ctx context.Context) error {
	var index []int32
	var people, numbers []int64
	open := w.open()
	if len(open) == 0 {
		return nil
	}
	for i, t := range open {
		t.person = personOf(t)
		index, people, numbers = append(index, int32(i)), append(people, t.person), append(numbers, t.N)
	}
	batch := &pgx.Batch{}
	if w.p.Cap > 0 {
		batch.Queue(`select pg_advisory_xact_lock($1, $2)`, lockCampaign, frequencyLock)
	}
	twice, enough := map[int32]bool{}, map[int32]bool{}
	note := func(in map[int32]bool) func(pgx.Rows) error {
		return func(rows pgx.Rows) error {
			var i int32
			_, err := pgx.ForEachRow(rows, []any{&i}, func() error { in[i] = true; return nil })
			return err
		}
	}
	batch.Queue(twiceSQL, w.p.ID, index, people, numbers).Query(note(twice))
	if w.p.Cap > 0 {
		batch.Queue(enoughSQL, w.p.ID, index, people, numbers, w.p.Cap, w.p.CapPer).Query(note(enough))
	}
	if err := w.tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("counting what recipients got lately: %w", err)
	}
	for i, t := range open {
		switch {
		case w.people[t.person] || twice[int32(i)]:
			t.reason = reasonTwice
		case enough[int32(i)]:
			t.reason = reasonEnough(w.p.Cap, w.p.CapPer)
		case w.chats[t.place.chatID]:
			w.putOff(t, w.now) // two numbers of one chat: one after the other
			continue
		default:
			content, err := w.p.Content(t.Step, t.CampaignRecipient)
			if err != nil {
				t.reason = err.Error()
				break
			}
			w.people[t.person], w.chats[t.place.chatID] = true, true
			t.content = content
			continue
		}
		t.account.Room++
		t.gone = true
		if err := w.giveUp(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// queuedRows are rows of the outbox that were just made.
type queuedRows struct {
	chats, accounts []string
	ids             []int64
	expires         []time.Time
}

// queueMailboxes marks the chats as having work. Those of accounts with a limit
// wait for the pacer; the others are the caller's to deliver.
func (w *pumping) queueMailboxes(batch *pgx.Batch, q *queuedRows) {
	rated := map[string]bool{}
	for _, s := range w.p.Steps {
		for _, a := range s.Accounts {
			rated[a.ID] = a.Rated
		}
	}
	parked := make([]*string, len(q.chats))
	for i, id := range q.accounts {
		if limit, known := rated[id]; limit || !known {
			parked[i] = &q.accounts[i]
		}
	}
	batch.Queue(`insert into outbox_chats as o (chat_id, busy, parked_account, parked_priority, parked_id, parked_until)
		select r.chat, true, r.parked, $6, r.id, r.expires from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::uuid[]) r (chat, account, id, expires, parked) order by r.chat
		on conflict (chat_id) do update set busy = true, parked_account = excluded.parked_account, parked_priority = excluded.parked_priority, parked_id = excluded.parked_id, parked_until = excluded.parked_until
		where not o.busy returning chat_id, parked_account`, q.chats, q.accounts, q.ids, q.expires, parked, w.p.Priority).Query(func(rows pgx.Rows) error {
		var chat string
		var account *string
		_, err := pgx.ForEachRow(rows, []any{&chat, &account}, func() error {
			switch {
			case account == nil:
				w.out.Handed = append(w.out.Handed, queue.Handed{ChatID: chat})
			case !slices.Contains(w.out.Accounts, *account):
				w.out.Accounts = append(w.out.Accounts, *account)
			}
			return nil
		})
		return err
	})
}

// write queues the messages and notes everything.
func (w *pumping) write(ctx context.Context) error {
	p := w.p
	begun := w.open()
	var ids, chats, accounts, kinds, bodies, names []string
	var waiting, prompt outboxRows
	var numbers, people []int64
	var rounds, steps []int16
	var files, fileChats []string
	for _, t := range begun {
		s := &p.Steps[t.Step]
		t.id = NewID()
		ttl := cmp.Or(p.TTL, t.account.TTL, 24*time.Hour)
		wait := cmp.Or(s.Wait, ttl)
		end := w.now.Add(ttl)
		if !s.Last {
			end = w.now.Add(min(ttl, wait)) // whose wait is over must not leave any more
		}
		if p.StopAt != nil && p.StopAt.Before(end) {
			end = *p.StopAt
		}
		ids, chats, accounts = append(ids, t.id), append(chats, t.place.chatID), append(accounts, t.account.ID)
		kinds, bodies = append(kinds, string(t.content.Kind)), append(bodies, string(contentJSON(&t.content)))
		names = append(names, plainText(cmp.Or(p.Sender, t.account.Sender)))
		if t.sender = names[len(names)-1]; p.Node != "" && t.account.Prompt && end.After(w.now) {
			prompt.add(t, end)
		} else {
			waiting.add(t, end)
		}
		numbers, people = append(numbers, t.N), append(people, t.person)
		rounds, steps = append(rounds, int16(t.Round)), append(steps, int16(t.Step))
		for i := range t.content.Files {
			files, fileChats = append(files, t.content.Files[i].ID), append(fileChats, t.place.chatID)
		}
		m := moved{n: t.N, state: "waiting", status: t.Status, step: t.Step, messageID: &t.id}
		if t.Status != message.StatusSent && t.Status != message.StatusDelivered && t.Status != message.StatusRead {
			m.status = message.StatusQueued
		}
		if s.Timed {
			m.due = new(w.now.Add(wait))
		} else if t.Pending && t.Step == 0 {
			continue // what comes of the message is the first that is written of them
		}
		w.move(m)
	}
	w.out.Begun = len(ids)
	batch := &pgx.Batch{}
	var q queuedRows
	if len(ids) > 0 {
		batch.Queue(`select from chats where id = any($1) order by account_id, external_id for update`, chats)
		// Everything comes out of the update, so that nothing is joined.
		batch.Queue(`with u as (update chats c set last_seq = last_seq + 1
				from unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[]) as r (id, chat_id, account_id, kind, body, name) where c.id = r.chat_id
				returning r.*, c.last_seq, c.operator_id, c.state in ('new', 'offered') as everyone),
			m as (insert into messages (id, chat_id, account_id, seq, direction, kind, status, status_at, body, sender_kind, sender_id, sender_name, created_at)
				select u.id, u.chat_id, u.account_id, u.last_seq, 'out', u.kind, 'queued', t, u.body::jsonb, 'campaign', $1, u.name, t from u, clock_timestamp() t)
			insert into events (type, chat_id, message_id, operator_id, everyone) select 'message.new', chat_id, id, operator_id, everyone from u`,
			p.ID, ids, chats, accounts, kinds, bodies, names)
		batch.Queue(`insert into campaign_sends (message_id, campaign_id, n, round, step, account_id, chat_id, person)
			select r.id, $1, r.n, r.round, r.step, r.account_id, r.chat_id, r.person
			from unnest($2::uuid[], $3::bigint[], $4::smallint[], $5::smallint[], $6::uuid[], $7::uuid[], $8::bigint[]) r (id, n, round, step, account_id, chat_id, person)`,
			p.ID, ids, numbers, rounds, steps, accounts, chats, people)
		if len(files) > 0 {
			batch.Queue(`insert into file_chats (file_id, chat_id) select * from unnest($1::uuid[], $2::uuid[]) r (f, c) order by 1, 2 on conflict do nothing`, files, fileChats)
		}
		if p.CallbackURL != "" {
			batch.Queue(`insert into message_callbacks (message_id, key_id, url) select id, $2, $3 from unnest($1::uuid[]) r (id)`, ids, callbackKey(p.CallbackKey), p.CallbackURL)
		}
	}
	if len(waiting.targets) > 0 {
		batch.Queue(`insert into outbox (chat_id, account_id, message_id, priority, expires_at, campaign_id, quiet_from, quiet_to)
			select chat_id, account_id, id, $2, expires, $1, quiet_from, quiet_to from `+outboxArrays+` returning chat_id, account_id, id, expires_at`,
			waiting.args(p)...).Query(func(rows pgx.Rows) error {
			var chat, account string
			var id int64
			var at time.Time
			_, err := pgx.ForEachRow(rows, []any{&chat, &account, &id, &at}, func() error {
				q.chats, q.accounts, q.ids, q.expires = append(q.chats, chat), append(q.accounts, account), append(q.ids, id), append(q.expires, at)
				return nil
			})
			return err
		})
	}
	free := map[string]bool{}
	if len(prompt.targets) > 0 {
		batch.Queue(`insert into outbox_chats as o (chat_id, busy) select chat, true from unnest($1::uuid[]) r (chat) order by 1
			on conflict (chat_id) do update set busy = true where not o.busy returning chat_id`, prompt.chats).Query(func(rows pgx.Rows) error {
			var chat string
			_, err := pgx.ForEachRow(rows, []any{&chat}, func() error { free[chat] = true; return nil })
			return err
		})
	}
	w.queueMoved(batch)
	for at, n := range w.quiet {
		batch.Queue(`insert into campaign_quiet (campaign_id, due_at, n) values ($1, $2, $3)`, p.ID, at, n)
	}
	if w.took || (p.Rate > 0 && len(ids) > 0) {
		paced := w.paced
		if p.Rate > 0 {
			paced = paced.Add(time.Duration(float64(len(ids)) / p.Rate * float64(time.Second)))
		}
		batch.Queue(`update campaigns set taken = $2, paced_until = case when $3 then $4 else paced_until end where id = $1`, p.ID, w.taken, p.Rate > 0, paced)
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := w.tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("queueing %d messages: %w", len(ids), err)
	}
	last := &pgx.Batch{}
	if len(q.chats) > 0 {
		w.queueMailboxes(last, &q)
	}
	if len(prompt.targets) > 0 {
		w.queuePrompt(last, &prompt, free)
	}
	if last.Len() == 0 {
		return nil
	}
	if err := w.tx.SendBatch(ctx, last).Close(); err != nil {
		return fmt.Errorf("waking outboxes: %w", err)
	}
	return nil
}

// outboxRows are rows of the outbox that are to be made.
type outboxRows struct {
	targets              []*target
	chats, accounts, ids []string
	expires              []time.Time
	from, to             []*time.Time
}

func (o *outboxRows) add(t *target, end time.Time) {
	t.end = end
	o.targets = append(o.targets, t)
	o.chats, o.accounts, o.ids = append(o.chats, t.place.chatID), append(o.accounts, t.account.ID), append(o.ids, t.id)
	o.expires, o.from, o.to = append(o.expires, end), append(o.from, timeOrNil(t.until)), append(o.to, timeOrNil(t.again))
}

const outboxArrays = `unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::timestamptz[], $8::timestamptz[]) r (chat_id, account_id, id, expires, quiet_from, quiet_to)`

func (o *outboxRows) args(p *queue.CampaignPump) []any {
	return []any{p.ID, p.Priority, o.chats, o.accounts, o.ids, o.expires, o.from, o.to}
}

// queuePrompt makes messages whose turn it is at once, and claims them along with it,
// for this process: to come back and ask whether each may leave, right after it was
// found out that it may, would be a quarter of what it costs. One whose chat is busy
// already waits its turn behind what makes it so. (Two statements, with free between
// them: what one makes and another one joins, Postgres knows no size of.)
func (w *pumping) queuePrompt(batch *pgx.Batch, o *outboxRows, free map[string]bool) {
	byChat := make(map[string]*target, len(o.targets))
	first := make([]bool, len(o.targets))
	for i, t := range o.targets {
		byChat[o.chats[i]], first[i] = t, free[o.chats[i]]
	}
	batch.Queue(`insert into outbox (chat_id, account_id, message_id, priority, expires_at, campaign_id, quiet_from, quiet_to, sending, attempt, owner)
		select chat_id, account_id, id, $2, expires, $1, quiet_from, quiet_to, first, first::int, case when first then $10 else '' end
		from (select chat_id, account_id, id, expires, quiet_from, quiet_to, free and not exists (select 1 from outbox x where x.chat_id = r.chat_id) as first
			from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::timestamptz[], $8::timestamptz[], $9::bool[]) r (chat_id, account_id, id, expires, quiet_from, quiet_to, free)) r
		returning chat_id, id, sending`, append(o.args(w.p), first, w.p.Node)...).Query(func(rows pgx.Rows) error {
		var chat string
		var id int64
		var claimed bool
		now := time.Now()
		_, err := pgx.ForEachRow(rows, []any{&chat, &id, &claimed}, func() error {
			if !free[chat] {
				return nil
			}
			h := queue.Handed{ChatID: chat, At: now}
			if t := byChat[chat]; claimed {
				content, err := ownContent(&t.content)
				if err != nil {
					return err
				}
				h.Claim = &queue.Claim{ChatID: chat, State: queue.ClaimWork, OutboxID: id, Attempt: 1, Op: "send", MessageID: t.id, AccountID: t.account.ID,
					Out: message.Outbound{ID: t.id, Chat: t.place.key, Customer: t.place.customer, SenderName: t.sender, ExpiresAt: t.end, Content: content}}
			}
			w.out.Handed = append(w.out.Handed, h)
			return nil
		})
		return err
	})
}

// ownContent is a content that shares nothing with those of other recipients.
func ownContent(c *message.Content) (own message.Content, err error) {
	if len(c.Files) == 0 && c.Keyboard == nil && c.Template == nil {
		return *c, nil
	}
	if err := json.Unmarshal(contentJSON(c), &own); err != nil {
		return own, fmt.Errorf("copying a message: %w", err)
	}
	return own, nil
}

// queueMoved writes where recipients stand.
func (w *pumping) queueMoved(batch *pgx.Batch) {
	queueMoved(batch, w.p.ID, w.moved, w.counts, w.done, w.stop)
}

func queueMoved(batch *pgx.Batch, campaignID string, list []moved, counts map[campaignCount]int64, done int64, stop []string) {
	if len(list) > 0 {
		n := len(list)
		numbers, states, statuses := make([]int64, n), make([]string, n), make([]string, n)
		reasons, messages := make([]*string, n), make([]*string, n)
		steps, due := make([]int16, n), make([]*time.Time, n)
		for i, m := range list {
			numbers[i], states[i], statuses[i], reasons[i] = m.n, m.state, string(m.status), textOrNil(plainText(m.reason))
			steps[i], messages[i], due[i] = int16(m.step), m.messageID, m.due
		}
		batch.Queue(`update campaign_recipients c set state = r.state, status = r.status, reason = r.reason, step = r.step, message_id = r.message_id, due_at = r.due_at, updated_at = now()
			from (select $1::uuid as campaign_id, r.* from unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::uuid[], $8::timestamptz[]) r (n, state, status, reason, step, message_id, due_at) offset 0) r
			where c.campaign_id = r.campaign_id and c.n = r.n`, campaignID, numbers, states, statuses, reasons, steps, messages, due)
	}
	if len(stop) > 0 {
		batch.Queue(`update campaign_sends set stopped = true where message_id = any($1)`, stop)
	}
	var statuses []string
	var steps []int16
	var deltas []int64
	for c, delta := range counts {
		if delta != 0 {
			statuses, steps, deltas = append(statuses, string(c.status)), append(steps, int16(c.step)), append(deltas, delta)
		}
	}
	if len(deltas) > 0 {
		batch.Queue(`insert into campaign_counts (campaign_id, status, step, delta) select $1, * from unnest($2::text[], $3::smallint[], $4::bigint[]) r (status, step, delta)`, campaignID, statuses, steps, deltas)
	}
	if done != 0 {
		batch.Queue(`insert into campaign_done (campaign_id, delta) values ($1, $2)`, campaignID, done)
	}
}
