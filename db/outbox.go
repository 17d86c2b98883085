package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/message"
)

// SendMessage queues a message durably: when it returns, the message will be
// sent or end in a visible final state. created is false when ClientID was seen
// before in the chat; the message is the first one's then.
func (d *DB) SendMessage(ctx context.Context, s queue.Send) (m message.Message, created bool, err error) {
	if s.TTL <= 0 {
		s.TTL = 24 * time.Hour
	}
	var id string
	err = d.hotTx(ctx, func(tx pgx.Tx) error {
		chat, err := d.lockChat(ctx, tx, s.ChatID)
		if err != nil {
			return err
		}
		if s.ClientID != nil {
			err := tx.QueryRow(ctx, `select id from messages where chat_id = $1 and client_id = $2`, s.ChatID, *s.ClientID).Scan(&id)
			if err == nil {
				created = false
				return nil
			}
			if !errors.Is(err, pgx.ErrNoRows) {
				return fmt.Errorf("looking for client id: %w", err)
			}
		}
		if s.Allow != nil {
			if err := s.Allow(chat); err != nil {
				return err
			}
		}
		if s.ReplyTo != nil {
			var found bool
			if len(wellFormed([]string{*s.ReplyTo})) == 0 {
				return fmt.Errorf("reply_to %s: no such message in the chat: %w", *s.ReplyTo, switchboard.ErrNotFound)
			}
			if err := tx.QueryRow(ctx, `select exists (select 1 from messages where id = $1 and chat_id = $2)`, *s.ReplyTo, s.ChatID).Scan(&found); err != nil {
				return fmt.Errorf("looking for the message replied to: %w", err)
			}
			if !found {
				return fmt.Errorf("reply_to %s: no such message in the chat: %w", *s.ReplyTo, switchboard.ErrNotFound)
			}
		}
		if err := refuse(ctx, tx, &s, chat); err != nil {
			return err
		}
		id, created = NewID(), true
		batch := &pgx.Batch{}
		batch.Queue(`with c as (update chats set last_seq = last_seq + 1 where id = $2 returning last_seq)
			insert into messages (id, chat_id, account_id, seq, direction, kind, status, status_at, body, sender_kind, sender_id, sender_name, reply_to, client_id, created_at)
			select $1, $2, $3, c.last_seq, 'out', $4, 'queued', t, $5, $6, $7, $8, $9, $10, t from c, clock_timestamp() t`,
			id, s.ChatID, chat.AccountID, s.Content.Kind, contentJSON(&s.Content), s.Sender.Kind, s.Sender.ID, plainText(s.Sender.Name), s.ReplyTo, s.ClientID)
		later := !s.NotBefore.IsZero()
		if later {
			batch.Queue(`insert into scheduled (message_id, chat_id, account_id, at, expires_at, priority, stop_lists) values ($1, $2, $3, $4, $4::timestamptz + $5::interval, $6, $7)`,
				id, s.ChatID, chat.AccountID, s.NotBefore, s.TTL, s.Priority, s.StopLists)
			batch.Queue(`insert into message_log (message_id, what, detail) values ($1, 'scheduled', jsonb_build_object('at', $2::timestamptz))`, id, s.NotBefore)
		} else {
			batch.Queue(`insert into outbox (chat_id, account_id, message_id, priority, expires_at, forward_of) values ($1, $2, $3, $4, now() + $5::interval, $6)`,
				s.ChatID, chat.AccountID, id, s.Priority, s.TTL, s.ForwardOf)
		}
		for i := range s.Content.Files {
			batch.Queue(`insert into file_chats (file_id, chat_id) values ($1, $2) on conflict do nothing`, s.Content.Files[i].ID, s.ChatID)
		}
		if s.Callback != nil {
			batch.Queue(insertCallback, id, callbackKey(s.Callback.KeyID), s.Callback.URL)
		}
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("queueing message: %w", err)
		}
		if !later {
			if err := d.wakeOutbox(ctx, tx, s.ChatID, s.Priority); err != nil {
				return err
			}
		}
		if err := d.event(ctx, tx, chatEvent(switchboard.EventMessageNew, chat, id)); err != nil || s.Daily <= 0 {
			return err
		}
		return takeDaily(ctx, tx, s.Sender.ID, s.Daily, 1)
	})
	if err != nil {
		return message.Message{}, false, err
	}
	m, err = d.Message(ctx, id)
	return m, created, err
}

// lockChat reads a chat and holds its row until the transaction ends.
func (d *DB) lockChat(ctx context.Context, tx pgx.Tx, chatID string) (switchboard.Chat, error) {
	if len(wellFormed([]string{chatID})) == 0 {
		return switchboard.Chat{}, fmt.Errorf("chat %s: %w", chatID, switchboard.ErrNotFound)
	}
	rows, err := tx.Query(ctx, `select `+chatColumns+` from chats c join customers cu on cu.id = c.customer_id where c.id = $1 for update of c`, chatID)
	if err != nil {
		return switchboard.Chat{}, fmt.Errorf("locking chat: %w", err)
	}
	chat, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (switchboard.Chat, error) { return scanChat(row) })
	if errors.Is(err, pgx.ErrNoRows) {
		return chat, fmt.Errorf("chat %s: %w", chatID, switchboard.ErrNotFound)
	}
	if err != nil {
		return chat, fmt.Errorf("locking chat: %w", err)
	}
	return chat, nil
}

// wakeOutbox makes sure that a deliver job exists for the chat. The row's lock
// decides against a worker that is just about to find the outbox empty.
func (d *DB) wakeOutbox(ctx context.Context, tx pgx.Tx, chatID string, priority int) error {
	batch := &pgx.Batch{}
	woken := false
	batch.Queue(`insert into outbox_chats as o (chat_id, busy) values ($1, true)
		on conflict (chat_id) do update set busy = true where not o.busy`, chatID).Exec(func(tag pgconn.CommandTag) error {
		woken = tag.RowsAffected() > 0
		return nil
	})
	if priority == queue.PriorityConversation {
		// What is urgent behind the first message makes that one urgent.
		batch.Queue(`update outbox_chats set parked_priority = $2 where chat_id = $1 and parked_account is not null and parked_priority > $2`, chatID, priority)
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("waking outbox: %w", err)
	}
	if !woken {
		return nil
	}
	return d.jobs.insert(ctx, tx, queue.DeliverArgs{ChatID: chatID, Priority: priority})
}

func chatEvent(typ switchboard.EventType, chat switchboard.Chat, messageID string) switchboard.Event {
	e := switchboard.Event{Type: typ, ChatID: chat.ID, MessageID: messageID}
	if chat.OperatorID != nil {
		e.OperatorID = *chat.OperatorID
	}
	e.Everyone = chat.State == switchboard.ChatNew || chat.State == switchboard.ChatOffered
	return e
}

// EditMessage changes the text of one of our messages: at once when it has not
// left yet, else by an edit that is queued behind what the chat still has to
// send. The new text shows at once; if the platform refuses, the old one is
// restored with the reason.
func (d *DB) EditMessage(ctx context.Context, messageID, text string, allow func(switchboard.Chat) error) (message.Message, error) {
	return d.change(ctx, messageID, false, allow, func(tx pgx.Tx, m message.Message, inFlight bool) error {
		content := m.Content
		content.Text = text
		_, err := tx.Exec(ctx, `update messages set body = $2, edited_at = clock_timestamp(), error = null where id = $1`, m.ID, contentJSON(&content))
		if err != nil {
			return fmt.Errorf("editing message: %w", err)
		}
		if m.Status == message.StatusQueued && !inFlight {
			return nil
		}
		return d.queueChange(ctx, tx, m, "edit")
	})
}

// DeleteMessage takes one of our messages back: one that has not left yet is
// canceled, else the deletion is queued behind what the chat still has to send, as
// it is for a message of the customer's.
func (d *DB) DeleteMessage(ctx context.Context, messageID string, allow func(switchboard.Chat) error) (message.Message, error) {
	return d.change(ctx, messageID, true, allow, func(tx pgx.Tx, m message.Message, inFlight bool) error {
		if m.Status == message.StatusQueued && !inFlight {
			batch := &pgx.Batch{}
			batch.Queue(`delete from outbox where chat_id = $1 and message_id = $2`, m.ChatID, m.ID)
			batch.Queue(`update messages set status = 'canceled', status_at = clock_timestamp(), deleted_at = clock_timestamp() where id = $1`, m.ID)
			batch.Queue(`insert into message_log (message_id, what) values ($1, 'canceled')`, m.ID)
			return tx.SendBatch(ctx, batch).Close()
		}
		if _, err := tx.Exec(ctx, `update messages set deleted_at = clock_timestamp(), error = null where id = $1`, m.ID); err != nil {
			return fmt.Errorf("deleting message: %w", err)
		}
		return d.queueChange(ctx, tx, m, "delete")
	})
}

// change does something to a message under its chat's lock; theirs allows it for a
// message of the customer's.
func (d *DB) change(ctx context.Context, messageID string, theirs bool, allow func(switchboard.Chat) error, do func(tx pgx.Tx, m message.Message, inFlight bool) error) (message.Message, error) {
	m, err := d.Message(ctx, messageID)
	if err != nil {
		return m, err
	}
	err = d.tx(ctx, func(tx pgx.Tx) error {
		chat, err := d.lockChat(ctx, tx, m.ChatID)
		if err != nil {
			return err
		}
		if allow != nil {
			if err := allow(chat); err != nil {
				return err
			}
		}
		// The outbox' lock holds workers off while the message is looked at.
		if _, err := tx.Exec(ctx, `select 1 from outbox_chats where chat_id = $1 for update`, m.ChatID); err != nil {
			return fmt.Errorf("locking outbox: %w", err)
		}
		var inFlight bool
		rows, err := tx.Query(ctx, `select `+messageColumns+`, coalesce((select o.sending or o.part > 0 or o.attempt > 0 from outbox o where o.chat_id = m.chat_id and o.message_id = m.id and o.op = 'send'), false)
			from messages m join chats c on c.id = m.chat_id where m.id = $1 for update of m`, messageID)
		if err != nil {
			return fmt.Errorf("locking message: %w", err)
		}
		m, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (message.Message, error) { return scanMessage(row, &inFlight) })
		if err != nil {
			return fmt.Errorf("locking message: %w", err)
		}
		switch {
		case m.Direction != message.Out && !theirs:
			return fmt.Errorf("message %s is the customer's: %w", messageID, switchboard.ErrForbidden)
		case m.DeletedAt != nil:
			return fmt.Errorf("message %s is deleted: %w", messageID, switchboard.ErrConflict)
		case m.Status == message.StatusFailed || m.Status == message.StatusExpired || m.Status == message.StatusCanceled:
			return fmt.Errorf("message %s is %s and was never shown to the customer: %w", messageID, m.Status, switchboard.ErrConflict)
		}
		if err := do(tx, m, inFlight); err != nil {
			return err
		}
		return d.event(ctx, tx, chatEvent(switchboard.EventMessageUpdated, chat, m.ID))
	})
	if err != nil {
		return message.Message{}, err
	}
	return d.Message(ctx, messageID)
}

func (d *DB) queueChange(ctx context.Context, tx pgx.Tx, m message.Message, op string) error {
	_, err := tx.Exec(ctx, `insert into outbox (chat_id, account_id, message_id, op, undo, expires_at) values ($1, $2, $3, $4, $5, now() + interval '1 hour')`,
		m.ChatID, m.AccountID, m.ID, op, contentJSON(&m.Content))
	if err != nil {
		return fmt.Errorf("queueing %s: %w", op, err)
	}
	return d.wakeOutbox(ctx, tx, m.ChatID, queue.PriorityConversation)
}

// nodeDeadAfter is how long after its last heartbeat (every 2 s) a process
// counts as dead and its work is taken over.
const nodeDeadAfter = 8 * time.Second

// Step records outcomes and claims the next send of each chat, in one
// transaction for all of them. The answer has one claim per chat, in order.
func (d *DB) Step(ctx context.Context, node string, outcomes []queue.Outcome, chats []string, pace queue.Pace) ([]queue.Claim, error) {
	var claims []queue.Claim
	err := d.hotTx(ctx, func(tx pgx.Tx) error {
		s := &step{d: d, tx: tx, node: node, pace: pace}
		if err := s.run(ctx, outcomes, chats); err != nil {
			return err
		}
		claims = make([]queue.Claim, len(chats))
		for i, id := range chats {
			claims[i] = queue.Claim{ChatID: id, State: queue.ClaimDone}
			if c := s.claims[id]; c != nil {
				claims[i] = *c
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("stepping %d outcomes and %d chats: %w", len(outcomes), len(chats), err)
	}
	return claims, nil
}

type step struct {
	d      *DB
	tx     pgx.Tx
	node   string
	pace   queue.Pace
	claims map[string]*queue.Claim
	// here is this process' clock when the database's showed there.
	here, there time.Time
}

// head is the first outbox row of a chat with all that sending it needs.
type head struct {
	Now        time.Time
	ChatID     string
	ChatTat    time.Time
	Parked     bool
	Ahead      *int // the most urgent priority among the account's parked chats
	OutboxID   int64
	Priority   int
	Op         string
	Part       int
	Limits     string
	Attempt    int
	Sending    bool
	Owner      string
	OwnerAlive bool
	Reserved   bool
	NotBefore  time.Time
	ExpiresAt  time.Time
	AccountID  string
	MessageID  string
	Body       []byte
	SenderName string
	Avatar     string
	Chat       string
	Customer   string
	ReplyTo    string
	PlatformID []string
	Status     message.Status
	FromChat   string
	ForwardIDs []string
	Known      []string
	Gate       string // see campaignGate
}

// headOf finds the first row of the chat of outbox_chats row oc. With an equality the
// order would be by id alone, and a plan that was made when the outbox was empty
// goes through all of it by the primary key.
const headOf = `chat_id >= oc.chat_id and chat_id <= oc.chat_id order by chat_id, id`

func (s *step) run(ctx context.Context, outcomes []queue.Outcome, chats []string) error {
	batch := &pgx.Batch{}
	s.queueOutcomes(batch, outcomes)
	var heads []head
	if len(chats) > 0 {
		// The lock is a statement of its own: the next one's snapshot then sees
		// every row that its former holders added.
		batch.Queue(`select from outbox_chats where chat_id = any($1) order by chat_id for update`, chats)
		batch.Queue(`select clock_timestamp(), oc.chat_id, coalesce(nullif(oc.tat, '-infinity'), 'epoch'), oc.parked_account is not null,
				(select parked_priority from outbox_chats p where p.parked_account = o.account_id order by parked_priority, parked_id limit 1), o.id, o.priority, o.op, o.part, o.limits, o.attempt, o.sending, o.owner,
				coalesce(n.seen_at > now() - $2::interval, false), o.reserved, coalesce(nullif(o.not_before, '-infinity'), 'epoch'), o.expires_at,
				o.account_id, o.message_id, m.body, m.sender_name,
				coalesce((select avatar from operators where m.sender_kind = 'operator' and id::text = m.sender_id), ''),
				c.external_id, coalesce(cu.external_id, ''), coalesce((select platform_message_id from messages where id = m.reply_to), ''),
				case when o.op = 'send' then null else coalesce(
					(select array_agg(platform_message_id order by part) from message_parts p where p.message_id = m.id),
					array_remove(array[m.platform_message_id], null)) end, m.status,
				coalesce(fc.external_id, ''), case when fc.id is null then null else coalesce(
					(select array_agg(platform_message_id order by part) from message_parts p where p.message_id = f.id),
					array_remove(array[f.platform_message_id], null)) end,
				case when o.op = 'send' and o.attempt > 0 then array(
					select coalesce(p.platform_message_id, s.platform_message_id) from (
						select id, platform_message_id from messages where chat_id = m.chat_id and direction = 'out' and platform_message_id is not null
						order by seq desc limit 50) s left join message_parts p on p.message_id = s.id) end, `+campaignGate+`
			from outbox_chats oc
			cross join lateral (select * from outbox where `+headOf+` limit 1) o
			join messages m on m.id = o.message_id
			join chats c on c.id = oc.chat_id
			left join customers cu on cu.id = c.customer_id
			left join nodes n on n.id = o.owner and o.sending
			left join messages f on f.id = o.forward_of and f.account_id = o.account_id and f.deleted_at is null
			left join chats fc on fc.id = f.chat_id
			where oc.chat_id = any($1)`, chats, nodeDeadAfter).
			Query(func(rows pgx.Rows) (err error) {
				heads, err = pgx.CollectRows(rows, pgx.RowToStructByPos[head])
				return err
			})
	}
	if batch.Len() > 0 {
		if err := s.tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("recording outcomes and reading heads: %w", err)
		}
	}
	if len(chats) == 0 {
		return nil
	}
	if len(heads) > 0 {
		s.here, s.there = time.Now(), heads[0].Now
	}
	return s.claim(ctx, heads, chats)
}

func (s *step) fill(c *queue.Claim, h *head) error {
	c.Out = message.Outbound{ID: h.MessageID, Chat: h.Chat, Customer: h.Customer, ReplyTo: h.ReplyTo, SenderName: h.SenderName, SenderAvatar: h.Avatar, ExpiresAt: h.ExpiresAt,
		Again: h.Attempt > 0, Known: h.Known}
	if err := json.Unmarshal(h.Body, &c.Out.Content); err != nil {
		return fmt.Errorf("reading body of message %s: %w", h.MessageID, err)
	}
	return nil
}

func (s *step) queueExpired(batch *pgx.Batch, h *head) {
	batch.Queue(`delete from outbox where id = $1`, h.OutboxID)
	failure := message.Failure{Kind: "expired", Detail: "could not be sent within its time-to-live"}
	if h.Op != "send" {
		s.queueUndo(batch, h.OutboxID, h.MessageID, h.Op, nil, failure)
		return
	}
	batch.Queue(`update messages set status = 'expired', status_at = clock_timestamp(), error = $2 where id = $1`, h.MessageID, failure)
	batch.Queue(`insert into message_log (message_id, what, detail) values ($1, 'expired', $2)`, h.MessageID, failure)
	batch.Queue(eventOfMessage, h.MessageID)
}

// eventOfMessage tells the operators concerned that message $1 changed.
const eventOfMessage = `insert into events (type, chat_id, message_id, operator_id, everyone)
	select 'message.updated', m.chat_id, m.id, c.operator_id, c.state in ('new', 'offered') from messages m join chats c on c.id = m.chat_id where m.id = $1`

func (s *step) queueOutcomes(batch *pgx.Batch, outcomes []queue.Outcome) {
	var (
		ids                     []int64
		attempts                []int32
		pids, logs, parkedChats []string
	)
	queueIDs(batch, outcomes)
	for i := range outcomes {
		o := &outcomes[i]
		detail, _ := json.Marshal(o.Log)
		switch {
		case o.Kind == queue.OutcomeSent && o.Claim.Op == "send" && o.Claim.Part == 0 && len(o.IDs) <= 1:
			pid := ""
			if len(o.IDs) == 1 {
				pid = keyText(o.IDs[0])
			}
			ids, attempts, pids, logs = append(ids, o.Claim.OutboxID), append(attempts, int32(o.Claim.Attempt)), append(pids, pid), append(logs, string(detail))
			parkedChats = append(parkedChats, o.Claim.ChatID)
		default:
			s.queueOutcome(batch, o, string(detail))
		}
	}
	if len(ids) == 0 {
		return
	}
	// The outbox is not joined: planned when it was found empty, a join would read all of
	// it, and what was deleted from it, for each of these (25 ms among thousands of
	// sends a second).
	batch.Queue(`with ok as (delete from outbox where id = any($1::bigint[]) and attempt = ($2::int[])[array_position($1::bigint[], id)] and sending and owner = $5
			returning message_id, array_position($1::bigint[], id) as n),
		up as (update messages m set status = 'sent', status_at = clock_timestamp(), error = null, platform_message_id = nullif(($3::text[])[ok.n], '')
			from ok where m.id = ok.message_id and m.status = 'queued' returning m.id, m.chat_id),
		lg as (insert into message_log (message_id, what, detail) select message_id, 'attempt', (($4::text[])[n])::jsonb from ok)
		insert into events (type, chat_id, message_id, operator_id, everyone)
		select 'message.updated', up.chat_id, up.id, c.operator_id, c.state in ('new', 'offered') from up join chats c on c.id = up.chat_id`,
		ids, attempts, pids, logs, s.node)
	batch.Queue(applyParked+` where p.chat_id = any($1) and p.platform_message_id = any($2)`+applyParkedEnd, parkedChats, pids)
}

// applyParked moves messages on by reports that came before we knew the
// platform's id of the message. A report of a part but the last is dropped
// unless it is bad news, as in the lanes.
const (
	applyParked = `with p as (delete from parked_receipts p using messages m where m.chat_id = p.chat_id and m.direction = 'out'
			and (m.platform_message_id = p.platform_message_id and not exists (select 1 from message_parts mp where mp.message_id = m.id)
				or m.id = (select mp.message_id from message_parts mp where mp.chat_id = p.chat_id and mp.platform_message_id = p.platform_message_id
					and (p.status = 'failed' or mp.part = (select max(x.part) from message_parts x where x.message_id = mp.message_id)
						and not exists (select 1 from outbox o where o.chat_id = mp.chat_id and o.message_id = mp.message_id and o.op = 'send'))))
			and p.ctid in (select p.ctid from parked_receipts p`
	applyParkedEnd = `) returning m.id, p.status, p.failure, p.at),
		best as (select distinct on (id) * from p order by id, message_rank(status) desc),
		up as (update messages m set status = b.status, status_at = b.at, error = b.failure from best b
			where m.id = b.id and m.status in ('queued', 'sent', 'delivered') and message_rank(b.status) > message_rank(m.status) returning m.id, m.chat_id),
		lg as (insert into message_log (message_id, at, what, detail) select id, at, status, failure from p)
		insert into events (type, chat_id, message_id, operator_id, everyone)
		select 'message.updated', up.chat_id, up.id, c.operator_id, c.state in ('new', 'offered') from up join chats c on c.id = up.chat_id`
)

// queueOutcome is the general form, one outcome at a time: parts, albums,
// retries, failures, edits and deletions. Each statement holds only while the
// claim is still ours.
func (s *step) queueOutcome(batch *pgx.Batch, o *queue.Outcome, detail string) {
	c := o.Claim
	mine := `id = $1 and attempt = $2 and owner = $3 and sending`
	log := func(what string) {
		batch.Queue(`insert into message_log (message_id, what, detail) values ($1, $2, $3)`, c.MessageID, what, detail)
	}
	if len(o.IDs) > 0 && c.Op == "send" {
		// Parts are numbered over the whole message; an album's part holds many.
		batch.Queue(`insert into message_parts (chat_id, platform_message_id, message_id, part)
			select $4, p.id, $5, $7 * 1000 + p.n from unnest($6::text[]) with ordinality p (id, n) where exists (select 1 from outbox where `+mine+`)
			on conflict do nothing`, c.OutboxID, c.Attempt, s.node, c.ChatID, c.MessageID, o.IDs, c.Part)
		batch.Queue(`update messages set platform_message_id = $4 where id = $5 and platform_message_id is null and exists (select 1 from outbox where `+mine+`)`,
			c.OutboxID, c.Attempt, s.node, o.IDs[0], c.MessageID)
	}
	switch o.Kind {
	case queue.OutcomeSent:
		log("attempt")
		if c.Op != "send" {
			batch.Queue(`delete from outbox where `+mine, c.OutboxID, c.Attempt, s.node)
			return
		}
		batch.Queue(`with ok as (delete from outbox where `+mine+` returning message_id)
			update messages m set status = 'sent', status_at = clock_timestamp(), error = null from ok where m.id = ok.message_id and m.status = 'queued'`,
			c.OutboxID, c.Attempt, s.node)
		batch.Queue(applyParked+` join message_parts mp on mp.chat_id = p.chat_id and mp.platform_message_id = p.platform_message_id where mp.message_id = $1`+applyParkedEnd, c.MessageID)
		batch.Queue(eventOfMessage, c.MessageID)
	case queue.OutcomePart:
		log("attempt")
		batch.Queue(`update outbox set part = part + 1, limits = $4, sending = false, attempt = 0 where `+mine, c.OutboxID, c.Attempt, s.node, o.Limits)
	case queue.OutcomeUnsent:
		// Its slot stays its own; the next claim sees how late it is.
		// One whose attempt before was cut off is still that: nobody's, under way.
		batch.Queue(`update outbox set sending = $4, owner = '', attempt = attempt - 1, reserved = not_before > '-infinity' where `+mine, c.OutboxID, c.Attempt, s.node, c.Orphan)
	case queue.OutcomeRetry, queue.OutcomeAccount:
		log("attempt")
		after := o.After
		if o.Kind == queue.OutcomeAccount {
			after = max(after, 5*time.Second)
			queuePause(batch, c.AccountID, nil, o.Failure)
		}
		batch.Queue(`update outbox set sending = false, not_before = clock_timestamp() + $4::interval where `+mine, c.OutboxID, c.Attempt, s.node, after)
		if o.WholeAccount {
			until := after
			if rate := s.pace(c.AccountID).Account; rate.PerSecond > 0 {
				until += tolerance(rate)
			}
			batch.Queue(`insert into limits as l (key, tat) values ($1, clock_timestamp() + $2::interval)
				on conflict (key) do update set tat = greatest(l.tat, excluded.tat)`, accountLimit(c.AccountID), until)
		}
	case queue.OutcomeFailed:
		log("attempt")
		if o.Unreachable {
			batch.Queue(`update customers cu set reachable = false, unreachable_reason = $2 from chats c where c.id = $1 and cu.id = c.customer_id`, c.ChatID, failureText(o.Failure))
		}
		if c.Op != "send" {
			s.queueUndo(batch, c.OutboxID, c.MessageID, c.Op, &c.Attempt, *o.Failure)
			return
		}
		batch.Queue(`with ok as (delete from outbox where `+mine+` returning message_id)
			update messages m set status = 'failed', status_at = clock_timestamp(), error = $4 from ok where m.id = ok.message_id`,
			c.OutboxID, c.Attempt, s.node, o.Failure)
		batch.Queue(eventOfMessage, c.MessageID)
	}
}

// queueUndo puts a message back to what it was before an edit or deletion that
// the platform refused, with the reason.
func (s *step) queueUndo(batch *pgx.Batch, outboxID int64, messageID, op string, attempt *int, failure message.Failure) {
	failure.Detail = op + " refused: " + failure.Detail
	set := `body = coalesce(ok.undo, m.body), edited_at = null`
	if op == "delete" {
		set = `deleted_at = null`
	}
	batch.Queue(`with ok as (delete from outbox where id = $1 and ($2::int is null or attempt = $2 and owner = $3 and sending) returning message_id, undo)
		update messages m set `+set+`, error = $4 from ok where m.id = ok.message_id`, outboxID, attempt, s.node, failure)
	batch.Queue(eventOfMessage, messageID)
}

// queuePause stops an account whose platform refuses all that it sends. A report
// may tell so late: reported is its message, and an account that was changed or
// resumed after that was queued goes on.
func queuePause(batch *pgx.Batch, accountID string, reported *string, failure *message.Failure) {
	batch.Queue(`with paused as (update accounts a set state = 'paused', reason = $3, updated_at = now()
			where a.id = $1 and a.state = 'active' and ($2::uuid is null or a.updated_at < (select created_at from messages where id = $2)) returning a.id)
		insert into audit (actor, action, target, detail) select 'system', 'account.pause', id::text, jsonb_build_object('reason', $3::text) from paused`,
		accountID, reported, failureText(failure))
}

func failureText(f *message.Failure) string {
	if f == nil {
		return ""
	}
	if f.Code == "" {
		return f.Detail
	}
	return f.Code + ": " + f.Detail
}

// ChatFor returns the chat of a recipient at an account, making it (closed, out
// of the operators' queue) when the address is new. The error is ErrNotFound
// when a chat, customer or phone number is not known.
func (d *DB) ChatFor(ctx context.Context, accountID string, to switchboard.Recipient) (string, error) {
	var id string
	var err error
	switch {
	case to.ChatID != "":
		err = d.pool.QueryRow(ctx, `select id from chats where id = $1 and account_id = $2`, to.ChatID, accountID).Scan(&id)
	case to.CustomerID != "":
		// A customer who was known by an alias alone has no chat any more.
		err = d.pool.QueryRow(ctx, `select ca.chat_id from customers cu join chat_aliases ca on ca.account_id = cu.account_id and ca.alias = cu.external_id
				where cu.id = $1 and cu.account_id = $2
			union all (select id from chats where customer_id = $1 and account_id = $2 order by created_at limit 1) limit 1`, to.CustomerID, accountID).Scan(&id)
	case to.Phone != "":
		err = d.pool.QueryRow(ctx, `select coalesce(ca.chat_id, c.id) from phone_book p join customers cu on cu.id = p.customer_id
				left join chat_aliases ca on ca.account_id = cu.account_id and ca.alias = cu.external_id
				left join chats c on c.customer_id = cu.id
			where p.phone = $1 and p.account_id = $2 and (ca.chat_id is not null or c.id is not null) order by p.updated_at desc, c.created_at limit 1`, to.Phone, accountID).Scan(&id)
	default:
		return d.chatByAddress(ctx, accountID, keyText(to.ExternalID))
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("recipient: %w", switchboard.ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("finding the recipient's chat: %w", err)
	}
	return id, nil
}

// NotePhone puts a phone that is a customer's very address into the phone book:
// somebody began the chat by it.
func (d *DB) NotePhone(ctx context.Context, chatID, phone string) error {
	_, err := d.pool.Exec(ctx, `with cu as (update customers set phone = $2 where id = (select customer_id from chats where id = $1) and phone in ('', $2) returning id, account_id)
		insert into phone_book (phone, customer_id, account_id, platform, source)
			select $2, cu.id, cu.account_id, a.platform, 'address' from cu join accounts a on a.id = cu.account_id on conflict do nothing`, chatID, phone)
	if err != nil {
		return fmt.Errorf("noting the phone of a chat: %w", err)
	}
	return nil
}

// ClaimIdempotencyKey notes that a script used a key with a request. It returns
// ErrConflict when the key was used with another request before.
func (d *DB) ClaimIdempotencyKey(ctx context.Context, scope, key string, request []byte) error {
	var first []byte
	err := d.pool.QueryRow(ctx, `with i as (insert into idempotency_keys (scope, key, request, status, response) values ($1, $2, $3, 0, '') on conflict do nothing)
		select coalesce((select request from idempotency_keys where scope = $1 and key = $2), $3)`, scope, key, request).Scan(&first)
	if err != nil {
		return fmt.Errorf("noting idempotency key: %w", err)
	}
	if string(first) != string(request) {
		return fmt.Errorf("the Idempotency-Key was used with another request: %w", switchboard.ErrConflict)
	}
	return nil
}
