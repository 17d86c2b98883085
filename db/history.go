package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/message"
)

// FindChats returns chats by the customer's last message in the period, newest
// first. It walks the customers' messages of the period backwards and keeps
// those that no later one of the same chat follows within it; so a page costs
// what it shows, whatever lies before and after the period.
func (d *DB) FindChats(ctx context.Context, q switchboard.ChatQuery) ([]switchboard.ChatHit, error) {
	if q.From.IsZero() {
		q.From = time.Unix(0, 0)
	}
	if q.To.IsZero() {
		q.To = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if q.Before.IsZero() {
		q.Before, q.BeforeID = q.To, "00000000-0000-0000-0000-000000000000"
	}
	// The walk is a query of its own ("offset 0" keeps it so): with the conditions in
	// it, every month would be searched for its first message that passes, and in an
	// old month none does. What follows a message has an id of about its time or later,
	// which spares looking into the months before.
	rows, err := d.pool.Query(ctx, `select `+chatColumns+`, m.created_at, m.id
		from (select id, chat_id, seq, created_at from messages
			where direction = 'in' and created_at >= $1 and created_at < $2 and (created_at, id) < ($3, $4) order by created_at desc, id desc offset 0) m
		join chats c on c.id = m.chat_id join customers cu on cu.id = c.customer_id
		where ($5 = '' or c.platform = $5) and ($6 = '' or c.account_id::text = $6) and ($7 = '' or c.operator_id::text = $7) and ($8 = '' or c.state = $8)
			and ($9 = '' or c.operator_id::text = $9 or c.state = 'new' or (c.state = 'offered' and c.operator_id is null))
			and not coalesce((select l.created_at < $2 from messages l where l.chat_id = m.chat_id and l.seq > m.seq and l.direction = 'in'
				and l.id >= (lpad(to_hex((extract(epoch from m.created_at - interval '1 day') * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid order by l.seq limit 1), false)
		order by m.created_at desc, m.id desc limit $10`,
		q.From, q.To, q.Before, q.BeforeID, q.Platform, q.AccountID, q.OperatorID, string(q.State), q.VisibleTo, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("finding chats: %w", err)
	}
	hits, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h switchboard.ChatHit, err error) {
		h.Chat, err = scanChat(row, &h.At, &h.ID)
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("finding chats: %w", err)
	}
	chats := make([]switchboard.Chat, len(hits))
	for i := range hits {
		chats[i] = hits[i].Chat
	}
	if err := d.addLastMessages(ctx, chats); err != nil {
		return nil, err
	}
	for i := range hits {
		hits[i].Chat = chats[i]
	}
	return hits, nil
}

// History returns messages of a chat with after < seq < before, oldest first:
// the newest limit of them, or with fromStart the oldest. before 0 is no bound.
func (d *DB) History(ctx context.Context, chatID string, after, before int64, fromStart bool, limit int) ([]message.Message, error) {
	order := "desc"
	if fromStart {
		order = "asc"
	}
	rows, err := d.pool.Query(ctx, `select * from (select `+messageColumns+` from messages m join chats c on c.id = m.chat_id
		where m.chat_id = $1 and m.seq > $2 and ($3 = 0 or m.seq < $3) order by m.seq `+order+` limit $4) h order by 5`, chatID, after, before, limit)
	if err != nil {
		return nil, fmt.Errorf("reading history: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (message.Message, error) { return scanMessage(row) })
	if err != nil {
		return nil, fmt.Errorf("reading history: %w", err)
	}
	return list, nil
}

// Timeline returns what happened to a message, oldest first.
func (d *DB) Timeline(ctx context.Context, id string) ([]switchboard.TimelineEntry, error) {
	rows, err := d.pool.Query(ctx, `
		select at, what, detail from (
			select u.received_at as at, 0 as n, 'received' as what, jsonb_build_object('update', u.lane || '-' || u.id, 'bytes', length(u.raw)) as detail
				from messages m join updates u on u.lane = m.lane and u.id = m.update_id where m.id = $1
			union all select created_at, 1, case when direction = 'in' then 'stored' else 'queued' end, null from messages where id = $1
			union all select at, 2, what, detail from message_log where message_id = $1
			union all select case when m.status = 'sent' then greatest(l.at, m.status_at) else l.at end, 3, 'sent', null
				from messages m, (select at, detail from message_log where message_id = $1 and what = 'attempt' and detail->>'op' = 'send' order by at desc limit 1) l
				where m.id = $1 and m.status in ('sent', 'delivered', 'read', 'failed') and l.detail->>'outcome' = 'sent'
			union all select edited_at, 4, 'edited', null from messages where id = $1 and edited_at is not null
			union all select deleted_at, 4, 'deleted', null from messages where id = $1 and deleted_at is not null
			union all select status_at, 5, status, error from messages m where id = $1 and status not in ('received', 'queued')
				and not exists (select 1 from message_log l where l.message_id = m.id and l.what in (m.status, case when m.status = 'sent' then 'attempt' end))
		) t order by at, n`, id)
	if err != nil {
		return nil, fmt.Errorf("reading timeline: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[switchboard.TimelineEntry])
	if err != nil {
		return nil, fmt.Errorf("reading timeline: %w", err)
	}
	for i := range list {
		utc(&list[i].At)
	}
	return list, nil
}

// LogShown notes that customers' messages were shown to operators, once per
// message and operator.
func (d *DB) LogShown(ctx context.Context, list []switchboard.Shown) error {
	var chats, operators []string
	var from, to []int64
	for _, s := range list {
		chats, operators, from, to = append(chats, s.ChatID), append(operators, s.OperatorID), append(from, s.From), append(to, s.To)
	}
	err := d.tx(ctx, func(tx pgx.Tx) error {
		// Two hubs may have connections of one operator: what the other has just
		// written must be visible to the check below.
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1, 0)`, lockShown); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `insert into message_log (message_id, what, detail)
			select m.id, 'shown', jsonb_build_object('operator_id', s.operator_id)
			from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[]) s (chat_id, operator_id, lo, hi)
				join messages m on m.chat_id = s.chat_id and m.seq between s.lo and s.hi and m.direction = 'in'
			where not exists (select 1 from message_log l where l.message_id = m.id and l.what = 'shown' and l.detail->>'operator_id' = s.operator_id)
			order by m.chat_id, m.seq`, chats, operators, from, to)
		return err
	})
	if err != nil {
		return fmt.Errorf("noting shown messages: %w", err)
	}
	return nil
}

// FindCustomers searches the phone book by E.164 number.
func (d *DB) FindCustomers(ctx context.Context, phone string) ([]switchboard.PhoneEntry, error) {
	rows, err := d.pool.Query(ctx, `select p.phone, p.platform, p.account_id, p.source, p.updated_at, cu.id, cu.external_id, cu.name, coalesce(c.id::text, '')
		from phone_book p join customers cu on cu.id = p.customer_id left join chats c on c.customer_id = cu.id
		where p.phone = $1 order by p.updated_at desc limit 100`, phone)
	if err != nil {
		return nil, fmt.Errorf("searching the phone book: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[switchboard.PhoneEntry])
	if err != nil {
		return nil, fmt.Errorf("searching the phone book: %w", err)
	}
	for i := range list {
		utc(&list[i].UpdatedAt)
	}
	return list, nil
}
