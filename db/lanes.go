package db

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/message"
)

// Drain normalises what waits in the given lanes, at most limit updates of
// each, in one transaction: customers and chats are upserted, messages get the
// next seq of their chat, file fetches become jobs, events are appended, and
// each lane's done_id moves. Zero updates means that the lanes are empty.
//
// It may run for the same lane in several processes at once: the drain lock
// lets one through at a time, and everything it writes hangs on done_id.
func (d *DB) Drain(ctx context.Context, lanes []int32, limit int, decode func([]queue.StoredUpdate) []queue.Decoded) (queue.Drained, error) {
	done, err := d.drain(ctx, lanes, limit, decode)
	if err == nil || !isDataFault(err) || ctx.Err() != nil {
		return done, err
	}
	// Something in the batch is poison to the database. Lane by lane, then one
	// by one, the bad update is found and set aside; the others go on.
	var total queue.Drained
	for _, lane := range lanes {
		one := []int32{lane}
		done, err := d.drain(ctx, one, limit, decode)
		if err != nil && isDataFault(err) {
			done, err = d.drain(ctx, one, 1, decode)
		}
		if err != nil && isDataFault(err) {
			poison := err
			done, err = d.drain(ctx, one, 1, func(stored []queue.StoredUpdate) []queue.Decoded {
				return []queue.Decoded{{Err: poison}}
			})
		}
		total.Add(done)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// isDataFault tells errors that the data itself provokes, and would again.
func isDataFault(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (slices.Contains([]string{"21", "22", "23", "54"}, pg.Code[:2]) || pg.Code == "42804")
}

func (d *DB) drain(ctx context.Context, lanes []int32, limit int, decode func([]queue.StoredUpdate) []queue.Decoded) (queue.Drained, error) {
	var done queue.Drained
	var empty time.Time // when all that waited was taken; zero if it was not
	lanes = slices.Clone(lanes)
	slices.Sort(lanes)
	err := d.pipelined(ctx, func(tx *pipelinedTx) error {
		done, empty = queue.Drained{}, time.Time{}
		var stored []queue.StoredUpdate
		var began time.Time
		batch := &pgx.Batch{}
		batch.Queue(`select pg_advisory_xact_lock($1, l), statement_timestamp() from unnest($2::int[]) l`, lockLaneDrain, lanes).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				if err := rows.Scan(nil, &began); err != nil {
					return err
				}
			}
			return rows.Err()
		})
		batch.Queue(`select u.* from lanes l cross join lateral (
				select lane, id, account_id, chat_key, ord, raw, received_at from updates
				where lane = l.id and id > l.done_id and received_at >= least($3, statement_timestamp() - $4::interval)
					and received_at < (select case when exists (select 1 from updates where received_at >= statement_timestamp() + interval '7 days') then 'infinity'
						else statement_timestamp() + interval '7 days' end)
				order by id limit $2) u
			where l.id = any($1)`, lanes, limit, d.drained.since(lanes), arrivalSlack).
			Query(func(rows pgx.Rows) (err error) {
				stored, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (u queue.StoredUpdate, err error) {
					err = row.Scan(&u.Lane, &u.ID, &u.AccountID, &u.ChatKey, &u.Order, &u.Raw, &u.ReceivedAt)
					return u, err
				})
				return err
			})
		if err := tx.first(ctx, batch); err != nil {
			return fmt.Errorf("reading lanes: %w", err)
		}
		empty = began
		if len(stored) == 0 {
			return nil
		}
		w := &laneWriter{d: d, tx: tx, doneIDs: map[int32]int64{}, chats: map[chatKey]*laneChat{}, customers: map[chatKey]*message.Profile{},
			reachable: map[chatKey]bool{}, wrote: map[chatKey]bool{}}
		full := map[int32]int{}
		for i := range stored {
			u := &stored[i]
			w.doneIDs[u.Lane] = max(w.doneIDs[u.Lane], u.ID)
			if full[u.Lane]++; full[u.Lane] == limit {
				done.More = true
				empty = time.Time{}
			}
		}
		// Updates that arrived together are put into the platform's own order,
		// chat by chat; order between chats means nothing.
		slices.SortStableFunc(stored, func(a, b queue.StoredUpdate) int {
			return cmp.Or(strings.Compare(a.AccountID, b.AccountID), strings.Compare(a.ChatKey, b.ChatKey), cmp.Compare(a.Order, b.Order))
		})
		w.collect(stored, decode(stored))
		if err := w.write(ctx); err != nil {
			return err
		}
		more := done.More
		done = w.done
		done.More, done.Updates = more, len(stored)
		for lane := range w.doneIDs {
			done.Lanes = append(done.Lanes, lane)
		}
		return nil
	})
	if err != nil {
		return queue.Drained{}, fmt.Errorf("draining %d lanes: %w", len(lanes), err)
	}
	d.drained.note(lanes, empty)
	return done, nil
}

// drainTimes remembers when each lane was last found or made empty by this process,
// by the database's clock. What waits in it arrived later, so that a drain asks the
// newest partitions of updates alone, not every one for every lane; nor those of the
// time to come, unless a clock that was wrong has put something there.
type drainTimes struct {
	mu sync.Mutex
	at [Lanes]time.Time
}

// arrivalSlack is how much later than it arrived an update may become visible, or
// than the clock says: far more than any transaction takes.
const arrivalSlack = 24 * time.Hour

// since is when the oldest update that may wait in one of the lanes arrived.
func (t *drainTimes) since(lanes []int32) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	var oldest time.Time
	for i, lane := range lanes {
		if at := t.at[lane]; i == 0 || at.Before(oldest) {
			oldest = at
		}
	}
	if oldest.IsZero() {
		return oldest
	}
	return oldest.Add(-arrivalSlack)
}

func (t *drainTimes) note(lanes []int32, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, lane := range lanes {
		t.at[lane] = at
	}
}

// ReleaseLane ends a drain job: it clears the lane's flag if nothing waits, and
// reports whether it did. Under the append lock nobody can slip an update in
// between the look and the clearing.
func (d *DB) ReleaseLane(ctx context.Context, lane int) (released bool, err error) {
	err = d.tx(ctx, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(`select pg_advisory_xact_lock($1, $2)`, lockLaneAppend, lane)
		batch.Queue(`update lanes l set draining = false where id = $1
			and not exists (select 1 from updates u where u.lane = l.id and u.id > l.done_id) returning true`, lane).
			Query(func(rows pgx.Rows) error {
				got, err := pgx.CollectRows(rows, pgx.RowTo[bool])
				released = len(got) == 1
				return err
			})
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return false, fmt.Errorf("releasing lane %d: %w", lane, err)
	}
	return released, nil
}

type chatKey struct{ account, chat string }

type laneMessage struct {
	id      string
	update  *message.Update
	stored  *queue.StoredUpdate
	replyTo *string
	at      time.Time

	editedAt, deletedAt *time.Time
}

// laneChat gathers what one batch does to one chat.
type laneChat struct {
	key      chatKey
	platform string
	customer string // external id; "" when only receipts came
	aliases  []string
	creates  bool // the chat must exist for this
	opens    bool // something that an operator should answer
	messages []laneMessage
	edits    []laneMessage
	deletes  []laneMessage
	statuses []laneMessage
	typing   bool

	id, customerID string
	operator       *string
	state          switchboard.ChatState
	lastSeq        int64
	queued         bool // entered the operators' queue in this batch
	known          bool
}

type laneWriter struct {
	d         *DB
	tx        *pipelinedTx
	doneIDs   map[int32]int64 // by lane: the last update of this batch
	order     []*laneChat
	chats     map[chatKey]*laneChat
	customers map[chatKey]*message.Profile
	reachable map[chatKey]bool
	wrote     map[chatKey]bool // customers who wrote after the last word on reachable
	strays    []stray
	lost      []stray
	bad       []quarantined
	events    []laneEvent
	files     []laneFile
	done      queue.Drained
}

type quarantined struct {
	update *queue.StoredUpdate
	err    error
}

type laneEvent struct {
	typ      switchboard.EventType
	chat     *laneChat
	message  *string
	everyone bool
}

type laneFile struct {
	file      message.File
	accountID string
	messageID string
}

func (w *laneWriter) collect(stored []queue.StoredUpdate, decoded []queue.Decoded) {
	for i := range stored {
		if decoded[i].Err != nil {
			w.bad = append(w.bad, quarantined{&stored[i], decoded[i].Err})
			continue
		}
		for j := range decoded[i].Updates {
			w.take(&stored[i], decoded[i].Platform, &decoded[i].Updates[j])
		}
	}
}

func (w *laneWriter) take(stored *queue.StoredUpdate, platform string, u *message.Update) {
	if isStray(u) {
		w.strays = append(w.strays, stray{stored, platform, u})
		return
	}
	if u.Kind == message.UpdateIgnore || u.Chat == "" {
		return
	}
	u.Chat, u.PlatformID, u.ReplyTo = keyText(u.Chat), keyText(u.PlatformID), keyText(u.ReplyTo)
	p := &u.Customer
	p.ID = keyText(p.ID)
	p.Name, p.Username = plainText(p.Name), plainText(p.Username)
	p.Phone, p.Language, p.Country = keyText(p.Phone), keyText(p.Language), keyText(p.Country)
	key := chatKey{stored.AccountID, u.Chat}
	chat := w.chats[key]
	if chat == nil {
		chat = &laneChat{key: key, platform: platform}
		w.chats[key] = chat
		w.order = append(w.order, chat)
	}
	chat.addAliases(u)
	if u.Customer.ID != "" {
		chat.customer = u.Customer.ID
		ck := chatKey{stored.AccountID, u.Customer.ID}
		if known := w.customers[ck]; known == nil {
			w.customers[ck] = new(u.Customer)
		} else {
			mergeProfile(known, &u.Customer)
		}
	}
	// Whoever writes can be written to; being blocked, having read or having
	// looked at the chat says nothing of the kind.
	if (u.Kind == message.UpdateMessage || u.Kind == message.UpdateEdit) && !u.Quiet {
		writer := chatKey{stored.AccountID, cmp.Or(u.Customer.ID, u.Chat)}
		w.wrote[writer] = true
		delete(w.reachable, writer)
	}
	m := laneMessage{update: u, stored: stored, at: u.At}
	switch u.Kind {
	case message.UpdateMessage:
		m.id = NewID()
		chat.creates = true
		chat.opens = chat.opens || !u.Quiet
		chat.messages = append(chat.messages, m)
	case message.UpdateEdit:
		chat.edits = append(chat.edits, m)
		chat.creates = true // an edit of a message that we never saw becomes a message
	case message.UpdateDelete:
		chat.deletes = append(chat.deletes, m)
	case message.UpdateStatus:
		chat.statuses = append(chat.statuses, m)
	case message.UpdateTyping:
		chat.typing = true
	case message.UpdateContactable:
		w.reachable[chatKey{stored.AccountID, cmp.Or(u.Customer.ID, u.Chat)}] = u.Reachable
	}
}

func mergeProfile(into, from *message.Profile) {
	set := func(a *string, b string) {
		if b != "" {
			*a = b
		}
	}
	set(&into.Name, from.Name)
	set(&into.Username, from.Username)
	set(&into.Language, from.Language)
	set(&into.Country, from.Country)
	set(&into.Phone, from.Phone)
}

func (w *laneWriter) write(ctx context.Context) error {
	if err := w.findStrays(ctx); err != nil {
		return err
	}
	if err := w.dropRepeats(ctx); err != nil {
		return err
	}
	if err := w.resolveChats(ctx); err != nil {
		return err
	}
	if err := w.resolveReferences(ctx); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	jobs := w.queueMessages(batch)
	w.queueEvents(batch)
	w.queueRest(batch)
	lanes := slices.Sorted(maps.Keys(w.doneIDs))
	ids := make([]int64, len(lanes))
	for i, lane := range lanes {
		ids[i] = w.doneIDs[lane]
	}
	batch.Queue(`update lanes l set done_id = r.done from unnest($1::int[], $2::bigint[]) r (lane, done) where l.id = r.lane`, lanes, ids)
	if len(jobs) > 0 {
		if err := w.tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("writing batch: %w", err)
		}
		return w.d.jobs.insert(ctx, riverTx{w.tx}, jobs...)
	}
	if err := w.tx.last(ctx, batch); err != nil {
		return fmt.Errorf("writing batch: %w", err)
	}
	return nil
}

// dropRepeats takes out messages that came so long after their time that the
// updates no longer know a repeat (dedupHorizon, with a day for clocks that differ)
// and that are stored already: a platform's last attempt, or a callback that
// somebody kept.
func (w *laneWriter) dropRepeats(ctx context.Context) error {
	var accounts, chats, ids []string
	for _, c := range w.order {
		for i := range c.messages {
			if m := &c.messages[i]; m.late() {
				accounts, chats, ids = append(accounts, c.key.account), append(chats, c.key.chat), append(ids, m.update.PlatformID)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	type message struct {
		chat chatKey
		id   string
	}
	stored := map[message]bool{}
	rows, err := w.tx.Query(ctx, `select r.a, r.c, r.p from unnest($1::uuid[], $2::text[], $3::text[]) r (a, c, p)
		where exists (select 1 from messages m where m.direction = 'in' and m.platform_message_id = r.p and m.chat_id = coalesce(
			(select chat_id from chat_aliases where account_id = r.a and alias = r.c), (select id from chats where account_id = r.a and external_id = r.c)))`, accounts, chats, ids)
	if err != nil {
		return fmt.Errorf("looking for late repeats: %w", err)
	}
	var k message
	if _, err := pgx.ForEachRow(rows, []any{&k.chat.account, &k.chat.chat, &k.id}, func() error { stored[k] = true; return nil }); err != nil {
		return fmt.Errorf("looking for late repeats: %w", err)
	}
	for _, c := range w.order {
		before := len(c.messages)
		c.messages = slices.DeleteFunc(c.messages, func(m laneMessage) bool { return m.late() && stored[message{c.key, m.update.PlatformID}] })
		if len(c.messages) < before && len(c.messages) == 0 {
			c.opens, c.creates = false, len(c.edits) > 0
		}
	}
	return nil
}

// late reports whether the message was older than dedupHorizon when it came.
func (m *laneMessage) late() bool {
	return m.update.PlatformID != "" && !m.update.At.IsZero() && m.stored.ReceivedAt.Sub(m.update.At) > dedupHorizon-24*time.Hour
}

// resolveChats upserts customers and chats. The chats' rows stay locked until
// commit; they are taken in one order (account, chat key) by every lane.
func (w *laneWriter) resolveChats(ctx context.Context) error {
	slices.SortFunc(w.order, func(a, b *laneChat) int {
		return cmp.Or(strings.Compare(a.key.account, b.key.account), strings.Compare(a.key.chat, b.key.chat))
	})
	batch := &pgx.Batch{}
	aliases := w.aliases()
	aliases.queueLock(batch)
	w.queueCustomers(batch)
	aliases.queueRekey(batch)
	// Edits of unknown messages become messages, but whether they are unknown is
	// seen only with the chat at hand: they are counted in resolveReferences.
	var (
		ids, accounts, platforms, keys, customers []string
		counts, unread                            []int64
		lastAt                                    []*time.Time
		opens                                     []bool
	)
	var lookups []*laneChat
	for _, c := range w.order {
		if !c.creates || c.customer == "" {
			lookups = append(lookups, c)
			continue
		}
		ids = append(ids, NewID())
		accounts = append(accounts, c.key.account)
		platforms = append(platforms, c.platform)
		keys = append(keys, c.key.chat)
		customers = append(customers, c.customer)
		counts = append(counts, int64(len(c.messages)))
		loud := int64(0)
		var last *time.Time
		for i := range c.messages {
			if !c.messages[i].update.Quiet {
				loud++
				last = &c.messages[i].stored.ReceivedAt
			}
		}
		unread = append(unread, loud)
		lastAt = append(lastAt, last)
		opens = append(opens, c.opens)
	}
	if len(ids) > 0 {
		// A closed chat that the customer writes to goes back to the queue.
		batch.Queue(`insert into chats as c (id, account_id, platform, customer_id, external_id, state, last_seq, unread, last_customer_message_at, queued_at)
			select r.id, r.account_id, r.platform, cu.id, r.external_id, case when r.opens then 'new' else 'closed' end,
				r.n, r.unread, r.last_at, case when r.opens then now() end
			from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::timestamptz[], $9::bool[])
				as r (id, account_id, platform, external_id, customer_external_id, n, unread, last_at, opens)
			join customers cu on cu.account_id = r.account_id and cu.external_id = r.customer_external_id
			order by r.account_id, r.external_id
			on conflict (account_id, external_id) do update set
				last_seq = c.last_seq + excluded.last_seq,
				unread = c.unread + excluded.unread,
				last_customer_message_at = greatest(c.last_customer_message_at, excluded.last_customer_message_at),
				state = case when c.state = 'closed' and excluded.state = 'new' then 'new' else c.state end,
				operator_id = case when c.state = 'closed' and excluded.state = 'new' then null else c.operator_id end,
				queued_at = case when c.state = 'closed' and excluded.state = 'new' then now() else c.queued_at end
			returning c.id, c.account_id, c.external_id, c.customer_id, c.state, c.operator_id, c.last_seq, coalesce(c.queued_at = now(), false)`,
			ids, accounts, platforms, keys, customers, counts, unread, lastAt, opens).Query(w.readChats)
	}
	if len(lookups) > 0 {
		accounts, keys := make([]string, len(lookups)), make([]string, len(lookups))
		for i, c := range lookups {
			accounts[i], keys[i] = c.key.account, c.key.chat
		}
		batch.Queue(`select c.id, c.account_id, c.external_id, c.customer_id, c.state, c.operator_id, c.last_seq, false
			from unnest($1::uuid[], $2::text[]) r (a, k) join chats c on c.account_id = r.a and c.external_id = r.k
			order by c.account_id, c.external_id for update of c`, accounts, keys).Query(w.readChats)
	}
	aliases.queueNote(batch)
	if batch.Len() == 0 {
		return nil
	}
	if err := w.tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("upserting customers and chats: %w", err)
	}
	return nil
}

func (w *laneWriter) readChats(rows pgx.Rows) error {
	for rows.Next() {
		var key chatKey
		var c laneChat
		if err := rows.Scan(&c.id, &key.account, &key.chat, &c.customerID, &c.state, &c.operator, &c.lastSeq, &c.queued); err != nil {
			return err
		}
		chat := w.chats[key]
		chat.id, chat.customerID, chat.state, chat.operator, chat.lastSeq, chat.queued = c.id, c.customerID, c.state, c.operator, c.lastSeq, c.queued
		chat.known = true
	}
	return rows.Err()
}

func (w *laneWriter) queueCustomers(batch *pgx.Batch) {
	if len(w.customers) > 0 {
		keys := make([]chatKey, 0, len(w.customers))
		for k := range w.customers {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b chatKey) int {
			return cmp.Or(strings.Compare(a.account, b.account), strings.Compare(a.chat, b.chat))
		})
		n := len(keys)
		cols := make([][]string, 8)
		for i := range cols {
			cols[i] = make([]string, n)
		}
		var phones []int
		wrote := make([]bool, n)
		for i, k := range keys {
			wrote[i] = w.wrote[k]
			p := w.customers[k]
			for c, v := range []string{NewID(), k.account, k.chat, p.Name, p.Username, p.Phone, p.Language, p.Country} {
				cols[c][i] = v
			}
			if p.Phone != "" {
				phones = append(phones, i)
			}
		}
		// Rows that would not change are passed over before the insert, which would lock
		// each of them and write that.
		batch.Queue(`insert into customers as c (id, account_id, external_id, name, username, phone, language, country, reachable)
			select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bool[])
				as r (id, account_id, external_id, name, username, phone, language, country, reachable)
			where not exists (select 1 from customers k where k.account_id = r.account_id and k.external_id = r.external_id
				and (k.reachable or not r.reachable) and r.name in ('', k.name) and r.username in ('', k.username)
				and r.phone in ('', k.phone) and r.language in ('', k.language) and r.country in ('', k.country))
			on conflict (account_id, external_id) do update set
				name = coalesce(nullif(excluded.name, ''), c.name), username = coalesce(nullif(excluded.username, ''), c.username),
				phone = coalesce(nullif(excluded.phone, ''), c.phone),
				language = coalesce(nullif(excluded.language, ''), c.language), country = coalesce(nullif(excluded.country, ''), c.country),
				reachable = c.reachable or excluded.reachable, unreachable_reason = case when excluded.reachable then '' else c.unreachable_reason end`,
			cols[0], cols[1], cols[2], cols[3], cols[4], cols[5], cols[6], cols[7], wrote)
		for _, i := range phones {
			batch.Queue(`insert into phone_book (phone, customer_id, account_id, platform, source)
				select $3, c.id, c.account_id, a.platform, case when c.external_id = ltrim($3, '+') then 'address' else 'contact' end from customers c join accounts a on a.id = c.account_id
				where c.account_id = $1 and c.external_id = $2
				on conflict (phone, customer_id) do update set source = excluded.source, updated_at = now()`, cols[1][i], cols[2][i], cols[5][i])
		}
	}
	for key, ok := range w.reachable {
		batch.Queue(`update customers set reachable = $3, unreachable_reason = case when $3 then '' else 'unsubscribed or blocked' end
			where account_id = $1 and external_id = $2`, key.account, key.chat, ok)
	}
}

// reference is a row found by a platform's message id.
type reference struct {
	id        string
	part      int // of message_parts
	last      int // the message's last part; -1 while there are parts to send
	direction message.Direction
	status    message.Status
	seq       int64
	body      []byte
}

type referenceKey struct{ chatID, platformID string }

// resolveReferences finds the messages that replies, edits, deletions and
// delivery reports speak of, in the database or earlier in this very batch.
func (w *laneWriter) resolveReferences(ctx context.Context) error {
	var chatIDs, platformIDs []string
	want := func(c *laneChat, id string) {
		if c.known && id != "" {
			chatIDs, platformIDs = append(chatIDs, c.id), append(platformIDs, id)
		}
	}
	for _, c := range w.order {
		for i := range c.messages {
			want(c, c.messages[i].update.ReplyTo)
		}
		for _, list := range [][]laneMessage{c.edits, c.deletes, c.statuses} {
			for i := range list {
				want(c, list[i].update.PlatformID)
			}
		}
	}
	if len(chatIDs) == 0 {
		return nil
	}
	found := map[referenceKey]reference{}
	rows, err := w.tx.Query(ctx, `with r as (select distinct c, p from unnest($1::uuid[], $2::text[]) as r (c, p))
		select m.id, r.c, r.p, x.part, x.last, m.direction, m.status, m.seq, m.body
		from r cross join lateral (
			select id, 0 as part, 0 as last from messages where chat_id = r.c and platform_message_id = r.p
				and not exists (select 1 from message_parts where chat_id = r.c and platform_message_id = r.p)
			union all
			select p1.message_id, p1.part, case when exists (select 1 from outbox o where o.chat_id = r.c and o.message_id = p1.message_id and o.op = 'send')
				then -1 else (select max(p2.part) from message_parts p2 where p2.message_id = p1.message_id) end
			from message_parts p1 where p1.chat_id = r.c and p1.platform_message_id = r.p
			limit 1) x
		join messages m on m.id = x.id order by m.id for update of m`, chatIDs, platformIDs)
	if err != nil {
		return fmt.Errorf("finding referenced messages: %w", err)
	}
	for rows.Next() {
		var k referenceKey
		var r reference
		if err := rows.Scan(&r.id, &k.chatID, &k.platformID, &r.part, &r.last, &r.direction, &r.status, &r.seq, &r.body); err != nil {
			return fmt.Errorf("reading referenced message: %w", err)
		}
		found[k] = r
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("finding referenced messages: %w", err)
	}
	batch := &pgx.Batch{}
	for _, c := range w.order {
		if !c.known {
			continue
		}
		fresh := map[string]int{} // index in c.messages by platform id
		for i := range c.messages {
			m := &c.messages[i]
			if m.update.PlatformID != "" {
				fresh[m.update.PlatformID] = i
			}
			if id := m.update.ReplyTo; id != "" {
				if f, ok := fresh[id]; ok {
					m.replyTo = &c.messages[f].id
				} else if r, ok := found[referenceKey{c.id, id}]; ok {
					m.replyTo = &r.id
				}
			}
		}
		w.applyEdits(batch, c, fresh, found)
		w.applyDeletes(batch, c, fresh, found)
		w.applyStatuses(batch, c, found)
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := w.tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("applying edits and reports: %w", err)
	}
	return nil
}

func (w *laneWriter) applyEdits(batch *pgx.Batch, c *laneChat, fresh map[string]int, found map[referenceKey]reference) {
	for i := range c.edits {
		e := &c.edits[i]
		content := e.update.Content
		if f, ok := fresh[e.update.PlatformID]; ok { // written and edited within this batch
			c.messages[f].update.Content = content
			c.messages[f].editedAt = &e.stored.ReceivedAt
			continue
		}
		r, ok := found[referenceKey{c.id, e.update.PlatformID}]
		if !ok {
			// We never saw the original: the edit is the message.
			m := *e
			m.id = NewID()
			m.editedAt = &e.stored.ReceivedAt
			fresh[e.update.PlatformID] = len(c.messages)
			c.messages = append(c.messages, m)
			c.lastSeq++
			batch.Queue(`update chats set last_seq = last_seq + 1, unread = unread + 1,
				last_customer_message_at = greatest(last_customer_message_at, $2),
				operator_id = case when state = 'closed' then null else operator_id end,
				queued_at = case when state = 'closed' then now() else queued_at end,
				state = case when state = 'closed' then 'new' else state end where id = $1`, c.id, e.stored.ReceivedAt)
			if c.state == switchboard.ChatClosed {
				c.state, c.operator, c.queued = switchboard.ChatNew, nil, true
			}
			continue
		}
		var old message.Content
		if err := json.Unmarshal(r.body, &old); err == nil {
			content.Files = w.keepFiles(c, r.id, old.Files, content.Files)
			if content.Keyboard == nil {
				content.Keyboard = old.Keyboard
			}
		}
		body := contentJSON(&content)
		batch.Queue(`update messages set body = $2, kind = $3, edited_at = coalesce($4, clock_timestamp()) where id = $1`, r.id, body, content.Kind, timeOrNil(e.at))
		w.event(switchboard.EventMessageUpdated, c, &r.id)
	}
}

// keepFiles carries the stored files of an edited message over to its new
// content: platforms repeat the files when only the caption changed.
func (w *laneWriter) keepFiles(c *laneChat, messageID string, old, edited []message.File) []message.File {
	for i := range edited {
		if i < len(old) && old[i].Kind == edited[i].Kind && (edited[i].Size == 0 || old[i].Size == edited[i].Size || old[i].State != message.FileReady) {
			edited[i] = old[i]
			continue
		}
		edited[i].ID = NewID()
		if edited[i].State == "" {
			edited[i].State = message.FilePending
		}
		w.files = append(w.files, laneFile{edited[i], c.key.account, messageID})
	}
	return edited
}

func (w *laneWriter) applyDeletes(batch *pgx.Batch, c *laneChat, fresh map[string]int, found map[referenceKey]reference) {
	for i := range c.deletes {
		e := &c.deletes[i]
		if f, ok := fresh[e.update.PlatformID]; ok { // written and deleted within this batch
			c.messages[f].deletedAt = &e.stored.ReceivedAt
			continue
		}
		r, ok := found[referenceKey{c.id, e.update.PlatformID}]
		if !ok {
			continue
		}
		batch.Queue(`update messages set deleted_at = coalesce($2, clock_timestamp()) where id = $1 and deleted_at is null`, r.id, timeOrNil(e.at))
		w.event(switchboard.EventMessageUpdated, c, &r.id)
	}
}

func (w *laneWriter) applyStatuses(batch *pgx.Batch, c *laneChat, found map[referenceKey]reference) {
	for i := range c.statuses {
		s := &c.statuses[i]
		key := referenceKey{c.id, s.update.PlatformID}
		r, ok := found[key]
		if !ok {
			// The report overtook our own note of the send, or is of a message
			// that isn't ours: it waits a while for its message.
			batch.Queue(`insert into parked_receipts (chat_id, platform_message_id, status, failure, at) values ($1, $2, $3, $4, $5)`,
				c.id, s.update.PlatformID, s.update.Status, s.update.Failure, cmp.Or(timeOrNil(s.at), &s.stored.ReceivedAt))
			continue
		}
		at := cmp.Or(timeOrNil(s.at), &s.stored.ReceivedAt)
		if s.update.UpTo {
			// One report for everything that was sent so far.
			batch.Queue(`update messages set status = $3, status_at = $4 where chat_id = $1 and direction = 'out' and seq < $2
				and status in ('sent', 'delivered') returning id`, c.id, r.seq, s.update.Status, at).Query(func(rows pgx.Rows) error {
				ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
				for _, id := range ids {
					w.event(switchboard.EventMessageUpdated, c, &id)
				}
				return err
			})
		}
		if r.direction != message.Out {
			continue // an answer given in the platform's own app, for instance
		}
		// Of several parts the last one speaks for the message, except for bad news.
		if r.part != r.last && s.update.Status != message.StatusFailed {
			continue
		}
		if !r.status.Advances(s.update.Status) {
			continue
		}
		r.status = s.update.Status
		found[key] = r
		batch.Queue(`update messages set status = $2, status_at = $3, error = $4 where id = $1`, r.id, s.update.Status, at, s.update.Failure)
		batch.Queue(`insert into message_log (message_id, at, what, detail) values ($1, $2, $3, $4)`, r.id, at, s.update.Status, s.update.Failure)
		w.event(switchboard.EventMessageUpdated, c, &r.id)
		if s.update.Failure != nil && s.update.Failure.Kind == message.ErrAccount {
			queuePause(batch, s.stored.AccountID, &r.id, s.update.Failure)
		}
	}
}

func (w *laneWriter) event(typ switchboard.EventType, c *laneChat, messageID *string) {
	w.events = append(w.events, laneEvent{typ: typ, chat: c, message: messageID, everyone: c.state == switchboard.ChatNew || c.state == switchboard.ChatOffered})
}

func (w *laneWriter) queueMessages(batch *pgx.Batch) []river.JobArgs {
	var (
		ids, chatIDs, accounts, kinds, bodies, senders, names []string
		replies, platformIDs                                  []*string
		platformAts, deleted, edited                          []*time.Time
		members, memberMessages                               []string // in chats of several people
		created                                               []time.Time
		seqs, updateIDs                                       []int64
		lanes                                                 []int32
	)
	for _, c := range w.order {
		if !c.known {
			continue
		}
		var at time.Time
		for i := range c.messages {
			m := &c.messages[i]
			content := &m.update.Content
			for f := range content.Files {
				file := &content.Files[f]
				file.ID = NewID()
				if file.State == "" {
					file.State = message.FilePending
				}
				w.files = append(w.files, laneFile{*file, c.key.account, m.id})
			}
			body := contentJSON(content)
			ids = append(ids, m.id)
			chatIDs = append(chatIDs, c.id)
			accounts = append(accounts, c.key.account)
			seqs = append(seqs, c.lastSeq-int64(len(c.messages)-1-i))
			kinds = append(kinds, string(content.Kind))
			bodies = append(bodies, string(body))
			senders = append(senders, c.customerID)
			names = append(names, m.update.Customer.Name)
			if id := m.update.Customer.ID; id != "" && id != c.key.chat {
				members, memberMessages = append(members, id), append(memberMessages, m.id)
			}
			replies = append(replies, m.replyTo)
			platformIDs = append(platformIDs, textOrNil(m.update.PlatformID))
			platformAts = append(platformAts, timeOrNil(m.at))
			// Our clock rises with seq inside a chat, also where the platform's order
			// differed from the order of arrival.
			if m.stored.ReceivedAt.After(at) {
				at = m.stored.ReceivedAt
			}
			created = append(created, at)
			updateIDs = append(updateIDs, m.stored.ID)
			lanes = append(lanes, m.stored.Lane)
			edited = append(edited, m.editedAt)
			deleted = append(deleted, m.deletedAt)
			w.event(switchboard.EventMessageNew, c, &m.id)
		}
		if c.queued {
			w.events = append(w.events, laneEvent{typ: switchboard.EventChatOffered, chat: c, everyone: true})
		}
		if c.typing {
			w.events = append(w.events, laneEvent{typ: switchboard.EventCustomerTyping, chat: c})
		}
	}
	w.done.Messages = len(ids)
	if len(ids) > 0 {
		batch.Queue(`insert into messages (id, chat_id, account_id, seq, direction, kind, status, status_at, body, sender_kind, sender_id, sender_name,
				reply_to, platform_message_id, platform_at, created_at, edited_at, deleted_at, lane, update_id)
			select id, chat_id, account_id, seq, 'in', kind, 'received', created_at, body::jsonb, 'customer', sender_id, sender_name,
				reply_to, platform_message_id, platform_at, created_at, edited_at, deleted_at, lane, update_id
			from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::uuid[], $10::text[],
				$11::timestamptz[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[], $15::int[], $16::bigint[])
			as r (id, chat_id, account_id, seq, kind, body, sender_id, sender_name, reply_to, platform_message_id, platform_at, created_at, edited_at, deleted_at, lane, update_id)`,
			ids, chatIDs, accounts, seqs, kinds, bodies, senders, names, replies, platformIDs, platformAts, created, edited, deleted, lanes, updateIDs)
	}
	if len(members) > 0 {
		// A chat has one customer, but a group's members write for themselves.
		batch.Queue(`update messages m set sender_id = cu.id::text from unnest($1::uuid[], $2::text[]) r (id, external_id), customers cu
			where m.id = r.id and cu.account_id = m.account_id and cu.external_id = r.external_id and m.sender_id is distinct from cu.id::text`, memberMessages, members)
	}
	var jobs []river.JobArgs
	for _, f := range w.files {
		batch.Queue(`insert into files (id, name, mime, size, kind, state, account_id, message_id, ref) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			f.file.ID, f.file.Name, f.file.Mime, f.file.Size, f.file.Kind, f.file.State, f.accountID, f.messageID, f.file.Ref)
		if f.file.State == message.FilePending {
			jobs = append(jobs, queue.FetchArgs{FileID: f.file.ID})
		}
	}
	w.done.Files = len(jobs)
	return jobs
}

func (w *laneWriter) queueEvents(batch *pgx.Batch) {
	n := len(w.events)
	w.done.Events = n
	if n == 0 {
		return
	}
	types, chatIDs := make([]string, n), make([]string, n)
	messageIDs, operators := make([]*string, n), make([]*string, n)
	everyone := make([]bool, n)
	for i, e := range w.events {
		types[i], chatIDs[i], messageIDs[i], operators[i], everyone[i] = string(e.typ), e.chat.id, e.message, e.chat.operator, e.everyone
	}
	batch.Queue(insertEvents, types, chatIDs, messageIDs, operators, everyone)
	var begun, accounts []string
	var seqs []int64
	for _, c := range w.order {
		if c.queued {
			begun, accounts, seqs = append(begun, c.id), append(accounts, c.key.account), append(seqs, c.lastSeq)
		}
	}
	if len(begun) > 0 {
		batch.Queue(`insert into chat_log (chat_id, account_id, seq, what) select *, 'begun' from unnest($1::uuid[], $2::uuid[], $3::bigint[])`, begun, accounts, seqs)
	}
}

const insertEvents = `insert into events (type, chat_id, message_id, operator_id, everyone)
	select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bool[])`

func (w *laneWriter) queueRest(batch *pgx.Batch) {
	w.queueLost(batch)
	w.queueStopWords(batch)
	w.done.Quarantined = len(w.bad)
	for _, q := range w.bad {
		batch.Queue(`insert into quarantine (id, account_id, lane, update_id, error) values ($1, $2, $3, $4, $5)`,
			NewID(), q.update.AccountID, q.update.Lane, q.update.ID, strings.ReplaceAll(q.err.Error(), "\x00", ""))
	}
	var wrote []string
	for _, c := range w.order {
		if slices.ContainsFunc(c.messages, func(m laneMessage) bool { return !m.update.Quiet }) {
			wrote = append(wrote, c.id)
		}
	}
	if len(wrote) > 0 {
		// A platform that takes only so many messages without an answer (Viber:
		// 100 an hour) held the chat for long; here is the answer. Back-offs end
		// at 72 s and are left alone.
		batch.Queue(`update outbox set not_before = now() where chat_id = any($1) and not sending and not_before > now() + interval '2 minutes'`, wrote)
	}
}

// contentJSON is what the body column holds. Postgres' jsonb takes no NUL, so
// that is dropped; a location that is not a number can't be JSON and is shown
// as unsupported rather than lost.
func contentJSON(content *message.Content) []byte {
	body, err := json.Marshal(content)
	if err != nil {
		body, _ = json.Marshal(message.Content{Kind: message.KindUnsupported, Unsupported: "unreadable " + string(content.Kind)})
	}
	if !bytes.Contains(body, []byte(`\u0000`)) {
		return body
	}
	clean := body[:0]
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			clean = append(clean, body[i])
			continue
		}
		if bytes.HasPrefix(body[i:], []byte(`\u0000`)) {
			i += 5
			continue
		}
		clean = append(clean, body[i], body[i+1])
		i++
	}
	return clean
}

// keyText makes a platform's key fit for an index: no NUL, valid UTF-8, at most
// 256 bytes (longer ones keep their start and end in a digest). Real keys are
// under 100 bytes and stay as they are.
func keyText(s string) string {
	s = plainText(s)
	if len(s) <= 256 {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return strings.ToValidUTF8(s[:160], "") + "~" + hex.EncodeToString(sum[:])
}

// plainText is s as a text column takes it.
func plainText(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func textOrNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
