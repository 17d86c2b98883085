package db

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"switchboard/internal/queue"
	"switchboard/message"
)

// stray is what a report says of a message that it names by the platform's id
// alone.
type stray struct {
	stored   *queue.StoredUpdate
	platform string
	update   *message.Update
}

// isStray tells updates whose chat has to be found by their message.
func isStray(u *message.Update) bool {
	return u.Chat == "" && u.PlatformID != "" && (u.Kind == message.UpdateStatus || u.Kind == message.UpdateContactable)
}

// findStrays gives strays their chats, and sets reports apart whose message nobody
// has noted yet: they overtook our own commit of the send, or are not ours.
func (w *laneWriter) findStrays(ctx context.Context) error {
	if len(w.strays) == 0 {
		return nil
	}
	type key struct{ account, id string }
	type place struct{ chat, customer string }
	accounts, ids := make([]string, len(w.strays)), make([]string, len(w.strays))
	for i, s := range w.strays {
		accounts[i], ids[i] = s.stored.AccountID, keyText(s.update.PlatformID)
	}
	rows, err := w.tx.Query(ctx, `select r.a, r.p, c.external_id, cu.external_id
		from (select distinct a, p from unnest($1::uuid[], $2::text[]) r (a, p)) r
		join message_ids i on i.account_id = r.a and i.platform_message_id = r.p
		join chats c on c.id = i.chat_id join customers cu on cu.id = c.customer_id`, accounts, ids)
	if err != nil {
		return fmt.Errorf("finding the chats of reports: %w", err)
	}
	found := map[key]place{}
	for rows.Next() {
		var k key
		var p place
		if err := rows.Scan(&k.account, &k.id, &p.chat, &p.customer); err != nil {
			return fmt.Errorf("reading the chat of a report: %w", err)
		}
		found[k] = p
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("finding the chats of reports: %w", err)
	}
	for i, s := range w.strays {
		p, ok := found[key{accounts[i], ids[i]}]
		switch {
		case ok:
			s.update.Chat, s.update.Customer.ID = p.chat, p.customer
			w.take(s.stored, s.platform, s.update)
		case s.update.Kind == message.UpdateStatus:
			w.lost = append(w.lost, s)
		}
	}
	return nil
}

// queueLost parks the reports whose message is not known yet.
func (w *laneWriter) queueLost(batch *pgx.Batch) {
	for _, s := range w.lost {
		batch.Queue(`insert into parked_receipts (account_id, platform_message_id, status, failure, at) values ($1, $2, $3, $4, $5)`,
			s.stored.AccountID, keyText(s.update.PlatformID), s.update.Status, s.update.Failure, cmp.Or(timeOrNil(s.update.At), &s.stored.ReceivedAt))
	}
}

// queueIDs notes the chats of ids that reports will name alone, and gives reports
// that came before to them.
func queueIDs(batch *pgx.Batch, outcomes []queue.Outcome) {
	var accounts, ids, chats []string
	for i := range outcomes {
		o := &outcomes[i]
		if !o.ByID || o.Claim.Op != "send" {
			continue
		}
		for _, id := range o.IDs {
			accounts, ids, chats = append(accounts, o.Claim.AccountID), append(ids, keyText(id)), append(chats, o.Claim.ChatID)
		}
	}
	if len(ids) == 0 {
		return
	}
	batch.Queue(`insert into message_ids (account_id, platform_message_id, chat_id) select * from unnest($1::uuid[], $2::text[], $3::uuid[]) r (a, p, c)
		order by 1, 2 on conflict do nothing`, accounts, ids, chats)
	batch.Queue(`update parked_receipts pr set chat_id = r.c from unnest($1::uuid[], $2::text[], $3::uuid[]) r (a, p, c)
		where pr.chat_id is null and pr.account_id = r.a and pr.platform_message_id = r.p`, accounts, ids, chats)
}

// findParked gives parked reports the chats that became known meanwhile.
const findParked = `update parked_receipts pr set chat_id = i.chat_id from message_ids i
	where pr.chat_id is null and i.account_id = pr.account_id and i.platform_message_id = pr.platform_message_id`

// ReportsAskedAt is up to when the platform of an account was asked what became
// of our messages.
func (d *DB) ReportsAskedAt(ctx context.Context, accountID string) (at time.Time, err error) {
	if err := d.pool.QueryRow(ctx, `select reports_asked_at from accounts where id = $1`, accountID).Scan(&at); err != nil {
		return at, fmt.Errorf("reading when reports of account %s were asked for: %w", accountID, err)
	}
	return at.UTC(), nil
}

// SetReportsAskedAt moves it forward.
func (d *DB) SetReportsAskedAt(ctx context.Context, accountID string, at time.Time) error {
	if _, err := d.pool.Exec(ctx, `update accounts set reports_asked_at = $2 where id = $1 and reports_asked_at < $2`, accountID, at); err != nil {
		return fmt.Errorf("noting when reports of account %s were asked for: %w", accountID, err)
	}
	return nil
}

// Unreported returns messages of an account that were queued between from and to
// and accepted by the platform before acceptedBy, and of which nothing has been
// heard since; in the order of their ids, those after the id after ("" begins), at
// most limit.
//
// Ids rise in time, so the primary key gives a span of time without an index of
// its own, which every change of a status would have to pay for. A span's rows are
// read whatever account they are of: of a million messages a day a minute takes
// 0.6 ms, and the whole day 0.4 s.
func (d *DB) Unreported(ctx context.Context, accountID string, from, to, acceptedBy time.Time, after string, limit int) ([]queue.Unreported, error) {
	if after == "" {
		after = firstID(from)
	}
	rows, err := d.pool.Query(ctx, unreported, accountID, after, firstID(to), acceptedBy, limit)
	if err != nil {
		return nil, fmt.Errorf("looking for messages without report: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[queue.Unreported])
	if err != nil {
		return nil, fmt.Errorf("looking for messages without report: %w", err)
	}
	return list, nil
}

const unreported = `select m.id, c.external_id, coalesce((select array_agg(p.platform_message_id order by p.part) from message_parts p where p.message_id = m.id),
		array[m.platform_message_id])
	from (select id, chat_id, platform_message_id from messages where id > $2::uuid and id < $3::uuid and account_id = $1
		and direction = 'out' and status = 'sent' and platform_message_id is not null and status_at <= $4 order by id limit $5) m
	join chats c on c.id = m.chat_id order by m.id`

// firstID is below every id that NewID makes at the millisecond of t or later, and
// above all earlier ones.
func firstID(t time.Time) string {
	var id uuid.UUID
	ms := max(t.UnixMilli(), 0)
	for i := range 6 {
		id[5-i] = byte(ms >> (8 * i))
	}
	return id.String()
}
