package db

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/message"
)

// quarantineFilter is the condition of a switchboard.QuarantineFilter, whose
// parts are $1 to $4, over quarantine q joined with its updates u.
const quarantineFilter = ` from quarantine q join updates u on u.lane = q.lane and u.id = q.update_id
	where q.resolved_at is null and ($1 = '' or q.account_id::text = $1) and ($2 = '' or position(lower($2) in lower(q.error)) > 0)
	and ($3 = '' or q.id::text = $3) and ($4 = '' or q.id < nullif($4, '')::uuid)`

func quarantineArgs(f switchboard.QuarantineFilter) []any {
	return []any{f.AccountID, f.Error, f.ID, f.Before}
}

// Quarantine lists updates that were set aside and not resolved, newest first.
func (d *DB) Quarantine(ctx context.Context, f switchboard.QuarantineFilter, limit int) ([]switchboard.Quarantined, error) {
	rows, err := d.pool.Query(ctx, `select q.id, q.account_id, q.error, u.raw, u.received_at, q.created_at`+quarantineFilter+` order by q.id desc limit $5`,
		append(quarantineArgs(f), limit)...)
	if err != nil {
		return nil, fmt.Errorf("reading quarantine: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (q switchboard.Quarantined, err error) {
		var raw []byte
		err = row.Scan(&q.ID, &q.AccountID, &q.Error, &raw, &q.ReceivedAt, &q.CreatedAt)
		q.Raw = plainText(string(raw))
		utc(&q.ReceivedAt, &q.CreatedAt)
		return q, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading quarantine: %w", err)
	}
	return list, nil
}

// Replay puts up to limit quarantined updates back at the end of their lanes, in
// the order in which they came, to be decoded again, and marks them resolved.
// What fails again comes back into quarantine, as a newer one; newest is the id of
// the last one that is meant.
func (d *DB) Replay(ctx context.Context, f switchboard.QuarantineFilter, newest string, limit int) (replayed int, err error) {
	err = d.tx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `with picked as (select q.id`+quarantineFilter+` and q.id <= $6 order by q.update_id limit $5 for update of q skip locked)
			update quarantine q set resolved_at = now() from picked, updates u
			where q.id = picked.id and u.lane = q.lane and u.id = q.update_id
			returning u.id, u.account_id, u.dedup_key || '/replay-' || q.id, u.chat_key, u.ord, u.raw`, append(quarantineArgs(f), limit, newest)...)
		if err != nil {
			return fmt.Errorf("replaying: %w", err)
		}
		type came struct {
			id int64
			queue.RawUpdate
		}
		list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (u came, err error) {
			err = row.Scan(&u.id, &u.AccountID, &u.DedupKey, &u.ChatKey, &u.Order, &u.Raw)
			return u, err
		})
		if err != nil {
			return fmt.Errorf("replaying: %w", err)
		}
		slices.SortFunc(list, func(a, b came) int { return cmp.Compare(a.id, b.id) })
		updates := make([]queue.RawUpdate, len(list))
		for i := range list {
			updates[i] = list[i].RawUpdate
		}
		replayed = len(updates)
		return d.append(ctx, tx, updates)
	})
	return replayed, err
}

// FailedMessages lists our messages that failed or expired and were not sent
// again (SentAgain), oldest first.
func (d *DB) FailedMessages(ctx context.Context, f switchboard.FailedFilter, limit int) ([]message.Message, error) {
	rows, err := d.pool.Query(ctx, `select `+messageColumns+` from messages m join chats c on c.id = m.chat_id
		where m.status in ('failed', 'expired') and m.direction = 'out' and m.deleted_at is null
		and ($1 = '' or m.account_id::text = $1) and ($2 = '' or m.chat_id::text = $2)
		and ($3::timestamptz is null or m.created_at >= $3) and ($4::timestamptz is null or m.created_at < $4)
		and ($5 = '' or m.error ->> 'kind' = $5) and ($6 = '' or m.error ->> 'code' = $6) and ($7 = '' or m.id > nullif($7, '')::uuid)
		and not exists (select 1 from messages again where again.chat_id = m.chat_id and again.client_id = 'again:' || m.id)
		order by m.id limit $8`,
		f.AccountID, f.ChatID, f.From, f.To, f.ErrorKind, f.ErrorCode, f.After, limit)
	if err != nil {
		return nil, fmt.Errorf("reading failed messages: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (message.Message, error) { return scanMessage(row) })
	if err != nil {
		return nil, fmt.Errorf("reading failed messages: %w", err)
	}
	return list, nil
}
