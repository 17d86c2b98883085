package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard/internal/queue"
	"switchboard/message"
)

// SweepCampaign ends recipients of a campaign that was canceled, or whose time is
// over, limit at most: those to whom nothing was sent get the status. What is in the
// outbox is taken back by the claim, or is on its way. more tells that there are others.
func (d *DB) SweepCampaign(ctx context.Context, campaignID string, status message.Status, reason string, limit int, decide func(round int, sends []queue.CampaignSend, now time.Time) queue.CampaignVerdict) (more bool, err error) {
	err = d.tx(ctx, func(tx pgx.Tx) error {
		more = false
		var taken, accepted int64
		var now time.Time
		err := tx.QueryRow(ctx, `select taken, accepted, clock_timestamp() from campaigns where id = $1
			and (state = 'canceled' or (state in ('running', 'paused', 'scheduled') and stop_at <= now())) for update skip locked`, campaignID).Scan(&taken, &accepted, &now)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("locking the campaign: %w", err)
		}
		w := &pumping{d: d, tx: tx, now: now, origin: map[int64]campaignCount{}, counts: map[campaignCount]int64{}}
		if taken < accepted {
			upTo := min(accepted, taken+int64(limit))
			if _, err := tx.Exec(ctx, `select campaign_unpack($1, $2)`, campaignID, upTo); err != nil {
				return fmt.Errorf("unpacking recipients: %w", err)
			}
			tag, err := tx.Exec(ctx, `update campaign_recipients set state = 'done', status = $4, reason = $5, updated_at = now()
				where campaign_id = $1 and n > $2 and n <= $3 and state = 'pending'`, campaignID, taken, upTo, status, textOrNil(reason))
			if err != nil {
				return fmt.Errorf("ending recipients: %w", err)
			}
			w.done = tag.RowsAffected()
			w.counts[campaignCount{message.StatusQueued, 0}] -= w.done
			w.counts[campaignCount{status, 0}] += w.done
			if _, err := tx.Exec(ctx, `update campaigns set taken = $2 where id = $1`, campaignID, upTo); err != nil {
				return fmt.Errorf("ending recipients: %w", err)
			}
			more = upTo < accepted
		}
		// The follower locks recipients in another order; whom it has comes next time.
		rows, err := tx.Query(ctx, `select `+recipientColumns+` from campaign_recipients where campaign_id = $1 and due_at is not null order by due_at, n limit $2 for update skip locked`, campaignID, limit)
		if err != nil {
			return fmt.Errorf("reading recipients: %w", err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[queue.CampaignRecipient])
		if err != nil {
			return fmt.Errorf("reading recipients: %w", err)
		}
		more = more || len(list) == limit
		var numbers []int64
		for _, r := range list {
			w.origin[r.N] = campaignCount{r.Status, r.Step}
			numbers = append(numbers, r.N)
		}
		sends, err := campaignSends(ctx, tx, campaignID, numbers)
		if err != nil {
			return err
		}
		for _, r := range list {
			m := moved{n: r.N, state: "done", status: r.Status, step: r.Step, messageID: r.MessageID, done: true}
			v := decide(r.Round, sends[r.N], now)
			switch {
			case v.Done:
				m.status, m.reason, m.step, m.messageID = v.Status, v.Reason, v.Step, sendID(sends[r.N], v, r.MessageID)
			case r.MessageID == nil:
				m.status = status
			default: // its message is taken back, and the word that it was makes the end
				m.state, m.done = "waiting", false
			}
			if m.status == message.StatusQueued && m.done {
				m.status = status
			}
			if m.status == status && m.reason == "" {
				m.reason = reason
			}
			w.move(m)
		}
		batch := &pgx.Batch{}
		queueMoved(batch, campaignID, w.moved, w.counts, w.done, nil)
		failure := message.Failure{Kind: failureWithdrawn, Detail: reason}
		batch.Queue(`with gone as (delete from campaign_held where campaign_id = $1 returning message_id),
			up as (update messages m set status = $2, status_at = clock_timestamp(), error = $3 from gone where m.id = gone.message_id and m.status = 'queued' returning m.id, m.chat_id),
			lg as (insert into message_log (message_id, what, detail) select id, $2, $3 from up)
			insert into events (type, chat_id, message_id, operator_id, everyone)
			select 'message.updated', up.chat_id, up.id, c.operator_id, c.state in ('new', 'offered') from up join chats c on c.id = up.chat_id`, campaignID, status, failure)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("ending recipients: %w", err)
		}
		if len(list) > 0 || w.done > 0 {
			return nil
		}
		_, err = tx.Exec(ctx, `update campaigns c set state = case when state = 'canceled' then state else 'done' end, finished_at = clock_timestamp(), updated_at = clock_timestamp(),
				reason = case when state = 'canceled' or reason <> '' then reason else $2 end
			where id = $1 and finished_at is null and taken >= accepted and (select coalesce(sum(delta), 0) from campaign_done where campaign_id = c.id) >= accepted`, campaignID, reason)
		if err != nil {
			return fmt.Errorf("ending the campaign: %w", err)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("ending recipients of campaign %s: %w", campaignID, err)
	}
	return more, nil
}

// RecallCampaign makes messages of a campaign that doesn't run be looked at which
// wait for room in their account's rate, so that they leave the outbox. Those behind
// other messages of their chats wait on, as they would anyway.
func (d *DB) RecallCampaign(ctx context.Context, campaignID string) error {
	err := d.unpark(ctx, `select o.chat_id from outbox_chats o where o.parked_account is not null
		and (o.chat_id, o.parked_id) in (select chat_id, id from outbox where campaign_id = $1 and not sending limit 5000) for update of o skip locked`, campaignID)
	if err != nil {
		return fmt.Errorf("recalling messages of campaign %s: %w", campaignID, err)
	}
	return nil
}

// FoldCampaign sums up the deltas of a campaign's counts, when there are many. Those
// of the last seconds stay: they tell the pace.
func (d *DB) FoldCampaign(ctx context.Context, campaignID string) error {
	err := d.tx(ctx, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(`with gone as (delete from campaign_counts where campaign_id = $1 and at < now() - $2::interval and (select count(*) from campaign_counts where campaign_id = $1) > 200
				returning status, step, delta, at)
			insert into campaign_counts (campaign_id, status, step, delta, at) select $1, status, step, sum(delta), max(at) from gone group by 2, 3 having sum(delta) <> 0`, campaignID, 2*campaignPace)
		batch.Queue(`with gone as (delete from campaign_done where campaign_id = $1 and (select count(*) from campaign_done where campaign_id = $1) > 200 returning delta)
			insert into campaign_done (campaign_id, delta) select $1, sum(delta) from gone having sum(delta) <> 0`, campaignID)
		batch.Queue(`with c as (select finished_at is not null as over from campaigns where id = $1),
			gone as (delete from campaign_quiet where campaign_id = $1 and (due_at <= now() or (select over from c) or (select count(*) from campaign_quiet where campaign_id = $1) > 200) returning due_at, n)
			insert into campaign_quiet (campaign_id, due_at, n) select $1, due_at, sum(n) from gone, c where due_at > now() and not c.over group by 2`, campaignID)
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return fmt.Errorf("folding the counts of campaign %s: %w", campaignID, err)
	}
	return nil
}
