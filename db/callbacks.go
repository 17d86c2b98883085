package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/message"
)

// Status callbacks. A message with one has a row in message_callbacks, made in its
// own transaction: whoever makes messages for scripts puts it there (see
// insertCallback). A follower of the events turns each status that such a message
// reaches into a delivery; package callbacks posts these. The statuses of a message
// are posted in order: only its first pending delivery has a time at which it is due.

// insertCallback is for the transaction that makes message $1: statuses are told at
// $3, signed with the secret of key $2 (see callbackKey).
const insertCallback = `insert into message_callbacks (message_id, key_id, url) values ($1, $2, $3)`

const nilID = "00000000-0000-0000-0000-000000000000"

// callbackKey is a key's id as the tables of callbacks have it.
func callbackKey(keyID string) string {
	if keyID == "" {
		return nilID
	}
	return keyID
}

// callbackHost is what an address is limited by.
func callbackHost(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "(none)"
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port))
}

// reached is a status that a message has gone through.
type reached struct {
	status message.Status
	at     time.Time
}

// passed lists the statuses that a message went through, in order, above rank
// told: those that the timeline has and the present one. A status that a later one
// overtook on the way here is known by the timeline alone, and failed, expired and
// canceled are ends.
func passed(told int, now message.Status, at time.Time, sentAt, deliveredAt *time.Time) (list []reached) {
	add := func(s message.Status, when time.Time) {
		if s.Rank() > told {
			list = append(list, reached{s, when})
		}
	}
	switch now {
	case message.StatusDelivered, message.StatusRead, message.StatusFailed:
		if sentAt != nil {
			add(message.StatusSent, earlier(*sentAt, at))
		}
		if now == message.StatusRead && deliveredAt != nil {
			add(message.StatusDelivered, earlier(*deliveredAt, at))
		}
	case message.StatusSent, message.StatusExpired, message.StatusCanceled:
	default:
		return nil // queued, sending
	}
	add(now, at)
	return list
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// CallbackFollower turns statuses into deliveries. It belongs to one goroutine.
type CallbackFollower struct {
	d *DB
	f follower
}

// FollowCallbacks returns the follower.
func (d *DB) FollowCallbacks() *CallbackFollower {
	return &CallbackFollower{d, follower{name: "callbacks"}}
}

// Next reads up to limit events and makes the deliveries that they call for; made
// is how many. more says to come back at once, blocked to do so in some
// milliseconds. When another process follows it does nothing.
func (c *CallbackFollower) Next(ctx context.Context, limit int) (made int, more, blocked bool, err error) {
	did, err := c.d.follow(ctx, &c.f, limit, func(ctx context.Context, tx pgx.Tx, messageIDs []string) error {
		var err error
		made, err = c.d.makeCallbacks(ctx, tx, messageIDs)
		return err
	})
	return made, did.more, did.blocked, err
}

type told struct {
	MessageID   string
	KeyID       string
	URL         string
	Told, N     int
	Status      message.Status
	StatusAt    time.Time
	Error       []byte
	AccountID   string
	Platform    string
	ChatID      string
	ClientID    *string
	CampaignID  *string
	SentAt      *time.Time
	DeliveredAt *time.Time
	Stopped     bool
	Pending     bool
}

// callbackBody is what is posted: the frame of Standard Webhooks.
type callbackBody struct {
	Type      string       `json:"type"` // message.sent, ...
	Timestamp time.Time    `json:"timestamp"`
	Data      callbackData `json:"data"`
}

type callbackData struct {
	ID             string          `json:"id"`
	Status         message.Status  `json:"status"`
	StatusAt       time.Time       `json:"status_at"`
	AccountID      string          `json:"account_id"`
	Platform       string          `json:"platform"`
	ChatID         string          `json:"chat_id"`
	CampaignID     *string         `json:"campaign_id"`
	IdempotencyKey *string         `json:"idempotency_key"`
	Error          json.RawMessage `json:"error"`
}

func (d *DB) makeCallbacks(ctx context.Context, tx pgx.Tx, messageIDs []string) (made int, err error) {
	rows, err := tx.Query(ctx, `select c.message_id, c.key_id, c.url, c.told, c.n, m.status, m.status_at, m.error, m.account_id, ch.platform, m.chat_id, m.client_id,
			case when m.sender_kind = 'campaign' then nullif(m.sender_id, '') end,
			(select at from message_log l where l.message_id = m.id and l.what = 'attempt' and l.detail->>'op' = 'send' and l.detail->>'outcome' = 'sent' order by at desc limit 1),
			(select min(at) from message_log l where l.message_id = m.id and l.what = 'delivered'),
			exists (select 1 from callback_stops s where s.key_id = c.key_id and s.url = c.url),
			exists (select 1 from callback_deliveries p where p.message_id = c.message_id and p.state = 'pending')
		from message_callbacks c join messages m on m.id = c.message_id join chats ch on ch.id = m.chat_id
		where c.message_id = any($1) and message_rank(m.status) > c.told order by c.message_id for update of c`, messageIDs)
	if err != nil {
		return 0, fmt.Errorf("looking for callbacks: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[told])
	if err != nil {
		return 0, fmt.Errorf("looking for callbacks: %w", err)
	}
	var ids, messages, keys, hosts, urls, statuses, payloads, failures []string
	var ns, ranks, counts []int32
	var due []bool
	var changed []string
	now := time.Now().UTC()
	for _, t := range list {
		pending := t.Pending
		for _, r := range passed(t.Told, t.Status, t.StatusAt, t.SentAt, t.DeliveredAt) {
			t.N++
			t.Told = r.status.Rank()
			body := callbackBody{Type: "message." + string(r.status), Timestamp: now, Data: callbackData{
				ID: t.MessageID, Status: r.status, StatusAt: r.at.UTC(), AccountID: t.AccountID, Platform: t.Platform, ChatID: t.ChatID, CampaignID: t.CampaignID}}
			if t.ClientID != nil {
				if _, key, ok := strings.Cut(strings.TrimPrefix(*t.ClientID, "key:"), ":"); ok && strings.HasPrefix(*t.ClientID, "key:") {
					body.Data.IdempotencyKey = &key
				}
			}
			if r.status == t.Status && len(t.Error) > 0 {
				body.Data.Error = t.Error
			}
			payload, err := json.Marshal(body)
			if err != nil {
				return 0, fmt.Errorf("writing the callback of message %s: %w", t.MessageID, err)
			}
			failure := ""
			if t.Stopped {
				failure = callbackGone
			}
			ids, messages, keys, hosts, urls = append(ids, NewID()), append(messages, t.MessageID), append(keys, t.KeyID), append(hosts, callbackHost(t.URL)), append(urls, t.URL)
			statuses, payloads, failures, ns, due = append(statuses, string(r.status)), append(payloads, string(payload)), append(failures, failure), append(ns, int32(t.N)), append(due, !pending)
			pending = pending || !t.Stopped
		}
		changed, ranks, counts = append(changed, t.MessageID), append(ranks, int32(t.Told)), append(counts, int32(t.N))
	}
	if len(changed) == 0 {
		return 0, nil
	}
	batch := &pgx.Batch{}
	batch.Queue(`insert into callback_deliveries (id, message_id, n, key_id, host, url, status, payload, state, due_at, error, finished_at)
		select id, message_id, n, key_id, host, url, status, payload, case when failure = '' then 'pending' else 'failed' end,
			case when due and failure = '' then clock_timestamp() end, failure, case when failure <> '' then clock_timestamp() end
		from unnest($1::uuid[], $2::uuid[], $3::int[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bool[])
			d (id, message_id, n, key_id, host, url, status, payload, failure, due) on conflict (message_id, n) do nothing`,
		ids, messages, ns, keys, hosts, urls, statuses, payloads, failures, due)
	batch.Queue(`update message_callbacks c set told = x.told, n = x.n from unnest($1::uuid[], $2::int[], $3::int[]) x (id, told, n) where c.message_id = x.id`, changed, ranks, counts)
	// What was pending when we looked may have been told while we waited for the lock.
	batch.Queue(nextCallbacks, changed)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return 0, fmt.Errorf("storing callbacks: %w", err)
	}
	return len(ids), nil
}

// callbackGone is the reason of what is not posted any more.
const callbackGone = "the address said 410 Gone; retry turns it on again"

// ClaimCallbacks takes deliveries that are due, at most limit in all and room of a
// host; rooms has those of hosts that differ. Each is the caller's for lease: then
// it is due again, whatever became of the caller. after is the host that was served
// last, so that every host's turn comes.
func (d *DB) ClaimCallbacks(ctx context.Context, limit, room int, rooms map[string]int, after string, lease time.Duration) ([]queue.CallbackClaim, error) {
	var hosts []string
	var left []int32
	for h, n := range rooms {
		hosts, left = append(hosts, h), append(left, int32(n))
	}
	rows, err := d.hot.Query(ctx, `with recursive hosts as (
			(select host from callback_deliveries where state = 'pending' and due_at is not null order by host limit 1)
			union all
			select (select n.host from callback_deliveries n where n.state = 'pending' and n.due_at is not null and n.host > h.host order by n.host limit 1) from hosts h where h.host is not null),
		picked as (
			select p.id from (select host from hosts where host is not null order by host <= $5, host) h
				left join unnest($1::text[], $2::int[]) b (host, room) on b.host = h.host
				cross join lateral (select id from callback_deliveries d where d.host = h.host and d.state = 'pending' and d.due_at <= now()
					order by d.due_at limit coalesce(b.room, $3) for update skip locked) p
			limit $4)
		update callback_deliveries d set due_at = clock_timestamp() + $6::interval, attempts = attempts + 1
		from picked where d.id = picked.id
		returning d.id, d.message_id, d.key_id, d.host, d.url, d.payload, d.attempts, d.created_at`,
		hosts, left, room, limit, after, lease)
	if err != nil {
		return nil, fmt.Errorf("claiming callbacks: %w", err)
	}
	claims, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c queue.CallbackClaim, err error) {
		var payload string
		err = row.Scan(&c.ID, &c.MessageID, &c.KeyID, &c.Host, &c.URL, &payload, &c.Attempt, &c.CreatedAt)
		c.Payload = []byte(payload)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("claiming callbacks: %w", err)
	}
	return claims, d.addSecrets(ctx, claims)
}

func (d *DB) addSecrets(ctx context.Context, claims []queue.CallbackClaim) error {
	if len(claims) == 0 {
		return nil
	}
	byKey := map[string][][]byte{}
	var keys []string
	for _, c := range claims {
		if _, ok := byKey[c.KeyID]; !ok {
			byKey[c.KeyID] = nil
			keys = append(keys, c.KeyID)
		}
	}
	rows, err := d.pool.Query(ctx, `select s.key_id, s.secret, array(select f.secret from callback_former_secrets f where f.key_id = s.key_id and f.until > now() order by f.until desc limit $2)
		from callback_secrets s where s.key_id = any($1)`, keys, formerSecrets)
	if err != nil {
		return fmt.Errorf("reading the secrets of callbacks: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var newest []byte
		var former [][]byte
		if err := rows.Scan(&key, &newest, &former); err != nil {
			return fmt.Errorf("reading the secrets of callbacks: %w", err)
		}
		for _, s := range append([][]byte{newest}, former...) {
			if d.secrets == nil {
				return errors.New("callbacks have secrets, but there is no master key")
			}
			plain, err := d.secrets.Open(s, callbackSecretAD(key))
			if err != nil {
				return fmt.Errorf("decrypting the callback secret of key %s (is SWITCHBOARD_MASTER_KEY the one it was stored with?): %w", key, err)
			}
			byKey[key] = append(byKey[key], plain)
		}
	}
	if rows.Err() != nil {
		return fmt.Errorf("reading the secrets of callbacks: %w", rows.Err())
	}
	for i := range claims {
		claims[i].Secrets = byKey[claims[i].KeyID]
	}
	return nil
}

func callbackSecretAD(keyID string) []byte { return []byte("callback/" + keyID) }

// FinishCallbacks notes what came of claims, and lets the next status of each
// message that is through or given up go.
func (d *DB) FinishCallbacks(ctx context.Context, outcomes []queue.CallbackOutcome) error {
	var ids, messages, states, failures []string
	var attempts, codes []int32
	var after []time.Duration
	gone := map[[3]string]bool{}
	for _, o := range outcomes {
		state, attempt := "pending", o.Claim.Attempt
		switch {
		case o.Undone:
		case o.Error == "":
			state = "delivered"
		case o.Gone:
			state = "failed"
			gone[[3]string{o.Claim.KeyID, o.Claim.Host, o.Claim.URL}] = true
		case o.After == 0:
			state = "failed"
		}
		if o.Undone {
			state = "undone"
		}
		ids, messages, states, failures = append(ids, o.Claim.ID), append(messages, o.Claim.MessageID), append(states, state), append(failures, plainText(o.Error))
		attempts, codes, after = append(attempts, int32(attempt)), append(codes, int32(o.Code)), append(after, o.After)
	}
	err := d.hotTx(ctx, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		// A follower that adds to these messages waits, or is waited for.
		batch.Queue(`select from message_callbacks where message_id = any($1) order by message_id for update`, distinctIDs(messages))
		batch.Queue(`update callback_deliveries d set state = case when o.state = 'undone' then 'pending' else o.state end,
				attempts = case when o.state = 'undone' then d.attempts - 1 else d.attempts end,
				due_at = case when o.state = 'pending' then clock_timestamp() + o.after when o.state = 'undone' then clock_timestamp() end,
				code = case when o.state = 'undone' then d.code else o.code end, error = case when o.state = 'undone' then d.error else o.error end,
				finished_at = case when o.state in ('delivered', 'failed') then clock_timestamp() end
			from unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::int[], $6::interval[]) o (id, attempt, state, error, code, after)
			where d.id = o.id and d.attempts = o.attempt and d.state = 'pending'`, ids, attempts, states, failures, codes, after)
		for g := range gone {
			batch.Queue(`insert into callback_stops (key_id, url) values ($1, $2) on conflict do nothing`, g[0], g[2])
			batch.Queue(`update callback_deliveries set state = 'failed', due_at = null, error = $4, finished_at = clock_timestamp()
				where host = $2 and key_id = $1 and url = $3 and state = 'pending'`, g[0], g[1], g[2], callbackGone)
		}
		batch.Queue(nextCallbacks, distinctIDs(messages))
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return fmt.Errorf("noting the outcome of %d callbacks: %w", len(outcomes), err)
	}
	return nil
}

// nextCallbacks makes the first pending delivery of messages $1 due.
const nextCallbacks = `update callback_deliveries d set due_at = clock_timestamp()
	from (select distinct on (message_id) id, due_at from callback_deliveries where message_id = any($1) and state = 'pending' order by message_id, n) f
	where d.id = f.id and f.due_at is null`

// CallbackDeliveries lists deliveries, newest first.
func (d *DB) CallbackDeliveries(ctx context.Context, f switchboard.CallbackFilter, limit int) ([]switchboard.CallbackDelivery, error) {
	where, args := callbackWhere(f)
	rows, err := d.pool.Query(ctx, `select id, message_id, key_id, url, status, state, attempts, code, error, created_at, case when state = 'pending' then due_at end, finished_at
		from callback_deliveries where `+where+` order by id desc limit $7`, append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("reading callbacks: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c switchboard.CallbackDelivery, err error) {
		var key string
		err = row.Scan(&c.ID, &c.MessageID, &key, &c.URL, &c.Status, &c.State, &c.Attempts, &c.Code, &c.Error, &c.CreatedAt, &c.DueAt, &c.FinishedAt)
		if key != nilID {
			c.APIKeyID = &key
		}
		utc(&c.CreatedAt, c.DueAt, c.FinishedAt)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading callbacks: %w", err)
	}
	return list, nil
}

// callbackWhere is the condition of a filter, whose parts are $1 to $6.
func callbackWhere(f switchboard.CallbackFilter) (string, []any) {
	return `($1 = '' or state = $1) and ($2 = '' or message_id = nullif($2, '')::uuid) and ($3 = '' or id = nullif($3, '')::uuid)
		and ($4 = '' or key_id = nullif($4, '')::uuid) and ($5 = '' or url = $5) and ($6 = '' or id < nullif($6, '')::uuid)`,
		[]any{f.State, f.MessageID, f.ID, f.APIKeyID, f.URL, f.Before}
}

// RetryCallbacks has up to limit failed deliveries of the filter posted again, from
// the start of the back-off, oldest first, and turns their addresses on again.
func (d *DB) RetryCallbacks(ctx context.Context, f switchboard.CallbackFilter, limit int) (retried int, err error) {
	f.State = "failed"
	err = d.tx(ctx, func(tx pgx.Tx) error {
		where, args := callbackWhere(f)
		rows, err := tx.Query(ctx, `select message_id from callback_deliveries where `+where+` order by id limit $7`, append(args, limit)...)
		if err != nil {
			return fmt.Errorf("looking for failed callbacks: %w", err)
		}
		messages, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("looking for failed callbacks: %w", err)
		}
		messages = distinctIDs(messages)
		if _, err := tx.Exec(ctx, `select from message_callbacks where message_id = any($1) order by message_id for update`, messages); err != nil {
			return fmt.Errorf("locking callbacks: %w", err)
		}
		tag, err := tx.Exec(ctx, `with picked as (select id from callback_deliveries where `+where+` order by id limit $7 for update),
			again as (update callback_deliveries d set state = 'pending', due_at = null, attempts = 0, created_at = clock_timestamp(), finished_at = null
				from picked where d.id = picked.id and d.message_id = any($8) returning d.id, d.key_id, d.url),
			on_again as (delete from callback_stops s using again where s.key_id = again.key_id and s.url = again.url)
			select id from again`, append(args, limit, messages)...)
		if err != nil {
			return fmt.Errorf("retrying callbacks: %w", err)
		}
		retried = int(tag.RowsAffected())
		// Of a message the first is due, as ever; one that is under way is let be.
		if _, err := tx.Exec(ctx, nextCallbacks, messages); err != nil {
			return fmt.Errorf("retrying callbacks: %w", err)
		}
		return nil
	})
	return retried, err
}

// PruneCallbacks drops what was delivered a day ago and what failed thirty days
// ago. Statuses of messages older than thirty days are told no more.
func (d *DB) PruneCallbacks(ctx context.Context) error {
	for _, sql := range []string{
		`delete from callback_deliveries where id in (select id from callback_deliveries where state <> 'pending' and finished_at < now() - interval '1 day' and (state = 'delivered' or finished_at < now() - interval '30 days') limit 20000)`,
		`delete from callback_stops where at < now() - interval '30 days'`,
	} {
		if _, err := d.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("dropping old callbacks: %w", err)
		}
	}
	if _, err := d.pool.Exec(ctx, `delete from message_callbacks where message_id in (select message_id from message_callbacks where message_id < $1 limit 20000)`,
		firstID(time.Now().Add(-30*24*time.Hour))); err != nil {
		return fmt.Errorf("dropping old callbacks: %w", err)
	}
	return nil
}

// CallbackCounts tells how many deliveries are to be posted, now or later (of a
// message at most one), how many were given up, and since when the one that waits
// longest is due; now when none is.
func (d *DB) CallbackCounts(ctx context.Context) (pending, failed int64, due time.Time, err error) {
	err = d.pool.QueryRow(ctx, `select count(*), (select count(*) from callback_deliveries where state = 'failed'), least(coalesce(min(due_at), now()), now())
		from callback_deliveries where state = 'pending' and due_at is not null`).Scan(&pending, &failed, &due)
	if err != nil {
		return 0, 0, due, fmt.Errorf("counting callbacks: %w", err)
	}
	return pending, failed, due, nil
}

// formerSecret is how long callbacks are signed with a former secret as well, and
// formerSecrets with how many: a new one may be made twice, when the first answer
// was lost, and receivers know the one before.
const (
	formerSecret  = 24 * time.Hour
	formerSecrets = 3
)

// SetCallbackSecret stores what the callbacks of a key ("" for the installation's
// own) are signed with. What was signed with in the day before signs as well for a day.
func (d *DB) SetCallbackSecret(ctx context.Context, keyID string, secret []byte) error {
	if d.secrets == nil {
		return errors.New("callback secrets are encrypted, but there is no master key")
	}
	keyID = callbackKey(keyID)
	err := d.tx(ctx, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(`delete from callback_former_secrets where until < now()`)
		batch.Queue(`insert into callback_former_secrets (key_id, secret, until) select key_id, secret, clock_timestamp() + $2::interval from callback_secrets where key_id = $1 for update`, keyID, formerSecret)
		batch.Queue(`insert into callback_secrets (key_id, secret) values ($1, $2) on conflict (key_id) do update set secret = excluded.secret, created_at = now()`, keyID, d.secrets.Seal(secret, callbackSecretAD(keyID)))
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return fmt.Errorf("storing the callback secret: %w", err)
	}
	return nil
}

// HasCallbackSecret tells whether callbacks of the key can be signed.
func (d *DB) HasCallbackSecret(ctx context.Context, keyID string) (has bool, err error) {
	if err := d.pool.QueryRow(ctx, `select exists (select 1 from callback_secrets where key_id = $1)`, callbackKey(keyID)).Scan(&has); err != nil {
		return false, fmt.Errorf("looking for the callback secret: %w", err)
	}
	return has, nil
}
