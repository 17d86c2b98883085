package db

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard/internal/queue"
	"switchboard/message"
)

// CampaignDecide decides about a recipient by what is known of their messages; the
// campaign's state is as in the table.
type CampaignDecide func(campaignID, state string, round int, sends []queue.CampaignSend, now time.Time) (queue.CampaignVerdict, error)

// CampaignFollower reads what became of campaigns' messages from the events, and
// moves their recipients on. It belongs to one goroutine.
type CampaignFollower struct {
	d *DB
	f follower
	// inactiveAfter is after how many permanent failures an address is inactive.
	inactiveAfter int
	decide        CampaignDecide
}

// FollowCampaigns returns the follower. inactiveAfter 0 is 3.
func (d *DB) FollowCampaigns(inactiveAfter int, decide CampaignDecide) *CampaignFollower {
	return &CampaignFollower{d, follower{name: "campaigns"}, cmp.Or(inactiveAfter, 3), decide}
}

// Next reads up to limit events and writes what they mean for recipients. When
// another process follows it does nothing.
func (c *CampaignFollower) Next(ctx context.Context, limit int) (out queue.CampaignFollowed, err error) {
	did, err := c.d.follow(ctx, &c.f, limit, func(ctx context.Context, tx pgx.Tx, messageIDs []string) error {
		out = queue.CampaignFollowed{}
		return c.apply(ctx, tx, messageIDs, &out)
	})
	out.Events, out.More, out.Blocked = did.events, did.more, did.blocked
	return out, err
}

// news is a message of a campaign whose status has changed.
type news struct {
	queue.CampaignSend
	campaign string
	chat     string
	kind     message.ErrorKind // of the failure
	was      message.Status
	state    string // of the campaign
	simple   bool   // it has one step and was not retried
}

func (c *CampaignFollower) apply(ctx context.Context, tx pgx.Tx, messageIDs []string, out *queue.CampaignFollowed) error {
	rows, err := tx.Query(ctx, `select s.message_id, s.n, s.round, s.step, s.account_id, s.at, m.status, coalesce(m.error ->> 'kind', ''), coalesce(m.error ->> 'detail', ''), m.platform_message_id is not null,
			s.campaign_id, s.chat_id, coalesce(m.error ->> 'kind', ''), s.status, ca.state, s.round = 0 and jsonb_array_length(ca.definition -> 'steps') = 1
		from unnest($1::uuid[]) r (id) join campaign_sends s on s.message_id = r.id join campaigns ca on ca.id = s.campaign_id
		cross join lateral (select status, error, platform_message_id from messages where id = r.id limit 1) m where m.status <> s.status`, messageIDs)
	if err != nil {
		return fmt.Errorf("reading what became of campaigns' messages: %w", err)
	}
	var list []news
	for rows.Next() {
		var n news
		if n.CampaignSend, err = scanSend(rows, &n.campaign, &n.chat, &n.kind, &n.was, &n.state, &n.simple); err != nil {
			return fmt.Errorf("reading what became of campaigns' messages: %w", err)
		}
		list = append(list, n)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading what became of campaigns' messages: %w", err)
	}
	if len(list) == 0 {
		return nil
	}
	out.Changed = len(list)
	slices.SortFunc(list, func(a, b news) int {
		return cmp.Or(strings.Compare(a.campaign, b.campaign), cmp.Compare(a.N, b.N), cmp.Compare(a.Round, b.Round), cmp.Compare(a.Step, b.Step))
	})
	batch := &pgx.Batch{}
	ids, statuses := make([]string, len(list)), make([]string, len(list))
	for i, n := range list {
		ids[i], statuses[i] = n.MessageID, string(n.Status)
	}
	batch.Queue(`update campaign_sends s set status = r.status from unnest($1::uuid[], $2::text[]) r (id, status) where s.message_id = r.id`, ids, statuses)
	for len(list) > 0 {
		end := slices.IndexFunc(list, func(n news) bool { return n.campaign != list[0].campaign })
		if end < 0 {
			end = len(list)
		}
		if err := c.applyTo(ctx, tx, batch, list[:end], out); err != nil {
			return err
		}
		c.queueHealth(batch, list[:end])
		list = list[end:]
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("writing what became of campaigns' messages: %w", err)
	}
	return nil
}

// stood is a recipient as the row has it.
type stood struct {
	N         int64
	State     string
	Status    message.Status
	Step      int
	Round     int
	MessageID *string
}

// applyTo moves the recipients of one campaign on.
func (c *CampaignFollower) applyTo(ctx context.Context, tx pgx.Tx, batch *pgx.Batch, list []news, out *queue.CampaignFollowed) error {
	campaign, state := list[0].campaign, list[0].state
	var numbers, several []int64
	known := map[int64][]queue.CampaignSend{}
	for _, n := range list {
		if len(numbers) == 0 || numbers[len(numbers)-1] != n.N {
			numbers = append(numbers, n.N)
			if !n.simple {
				several = append(several, n.N)
			}
		}
		if n.simple {
			known[n.N] = append(known[n.N], n.CampaignSend)
		}
	}
	var now time.Time
	rows, err := tx.Query(ctx, `select r.n, r.state, r.status, r.step, r.round, r.message_id, clock_timestamp()
		from (select $1::uuid as campaign_id, x.n from unnest($2::bigint[]) x (n) offset 0) x join campaign_recipients r on r.campaign_id = x.campaign_id and r.n = x.n for update of r`, campaign, numbers)
	if err != nil {
		return fmt.Errorf("reading recipients: %w", err)
	}
	stand, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s stood, err error) {
		err = row.Scan(&s.N, &s.State, &s.Status, &s.Step, &s.Round, &s.MessageID, &now)
		return s, err
	})
	if err != nil {
		return fmt.Errorf("reading recipients: %w", err)
	}
	more, err := campaignSends(ctx, tx, campaign, several)
	if err != nil {
		return err
	}
	for n, sends := range more {
		known[n] = sends
	}
	var written []moved
	counts := map[campaignCount]int64{}
	var done int64
	var stop []string
	for _, r := range stand {
		sends := known[r.N]
		if r.Round > 0 && len(more[r.N]) == 0 {
			continue // can't be: a round has sends of the one before
		}
		v, err := c.decide(campaign, state, r.Round, sends, now)
		if err != nil {
			return err
		}
		m := moved{n: r.N, state: r.State, status: v.Status, reason: v.Reason, step: v.Step, messageID: sendID(sends, v, r.MessageID)}
		over := r.State == "done"
		switch {
		case over: // the status alone may rise
			if v.Next || !v.Done {
				continue
			}
			m.done = true
		case v.Done:
			m.state, m.done = "done", true
			done++
		case r.MessageID == nil && r.State != "pending":
			continue // a step is to be begun already
		case v.Next:
			m.state, m.step, m.messageID, m.due, m.reason = "waiting", v.NextStep, nil, &now, ""
			if m.status != message.StatusSent && m.status != message.StatusDelivered && m.status != message.StatusRead {
				m.status = message.StatusQueued
			}
			out.Next = true
		default:
			m.state, m.due = "waiting", timeOrNil(v.Due)
			if r.State != "pending" { // else this is the first that is written of them
				m.messageID, m.step = r.MessageID, r.Step
			}
		}
		for _, i := range v.Stop {
			stop = append(stop, sends[i].MessageID)
		}
		written = append(written, m)
		if from, to := (campaignCount{r.Status, r.Step}), (campaignCount{m.status, m.step}); from != to {
			counts[from]--
			counts[to]++
		}
	}
	queueMoved(batch, campaign, written, counts, done, stop)
	return nil
}

// queueHealth learns which addresses a platform keeps refusing: a permanent failure
// counts, and what arrives forgives.
func (c *CampaignFollower) queueHealth(batch *pgx.Batch, list []news) {
	var bad, reasons, good []string
	for _, n := range list {
		switch {
		case n.Status == message.StatusFailed && n.kind == message.ErrRecipient:
			bad, reasons = append(bad, n.chat), append(reasons, n.Reason)
		case n.Status == message.StatusDelivered || n.Status == message.StatusRead:
			good = append(good, n.chat)
		}
	}
	if len(bad) > 0 {
		batch.Queue(`insert into address_health as h (account_id, address, permanent_failures, last_failure_at, last_failure, inactive_since)
			select c.account_id, c.external_id, count(*), now(), max(r.reason), case when count(*) >= $3 then now() end
			from unnest($1::uuid[], $2::text[]) r (chat, reason) join chats c on c.id = r.chat group by 1, 2 order by 1, 2
			on conflict (account_id, address) do update set
				permanent_failures = case when h.last_failure_at < (select last_customer_message_at from chats where account_id = h.account_id and external_id = h.address) then 0 else h.permanent_failures end + excluded.permanent_failures,
				last_failure_at = now(), last_failure = excluded.last_failure,
				inactive_since = case when case when h.last_failure_at < (select last_customer_message_at from chats where account_id = h.account_id and external_id = h.address) then 0 else h.permanent_failures end
					+ excluded.permanent_failures >= $3 then coalesce(h.inactive_since, now()) end`, bad, reasons, c.inactiveAfter)
	}
	if len(good) > 0 {
		batch.Queue(`delete from address_health h using chats c where c.id = any($1) and h.account_id = c.account_id and h.address = c.external_id`, good)
	}
}
