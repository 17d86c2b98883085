package db

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/message"
)

// ListChats returns one page of chats with the cursor of the next one, "" at
// the end. visibleTo is an operator's id, for the chats that this operator may
// read (their own and the queue), or "" for all. state "" is every state.
//
// The queue (state new or offered) comes longest wait first, everything else
// newest chat first. limit is 1 to 200. A cursor that this method didn't make,
// or made for another state, is ErrInvalid.
func (d *DB) ListChats(ctx context.Context, visibleTo string, state switchboard.ChatState, limit int, cursor string) (chats []switchboard.Chat, next string, err error) {
	limit = min(max(limit, 1), 200)
	queue := state == switchboard.ChatNew || state == switchboard.ChatOffered
	at, id, err := readChatCursor(cursor, queue)
	if err != nil {
		return nil, "", err
	}
	var sql string
	args := []any{limit + 1, id, textOrNil(visibleTo)}
	if queue {
		args = append(args, at, state)
		sql = `c.state in ('new', 'offered') and c.state = $5 and (c.queued_at, c.id) > ($4, $2)
			and ($3::uuid is null or c.operator_id is null or c.operator_id = $3) order by c.queued_at, c.id limit $1`
	} else {
		sql = `c.id in (` + chatPage(state, visibleTo != "") + `) and ($3::uuid is null or true) order by c.id desc limit $1`
	}
	rows, err := d.pool.Query(ctx, `select `+chatColumns+` from chats c join customers cu on cu.id = c.customer_id where `+sql, args...)
	if err != nil {
		return nil, "", fmt.Errorf("listing chats: %w", err)
	}
	chats, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (switchboard.Chat, error) { return scanChat(row) })
	if err != nil {
		return nil, "", fmt.Errorf("listing chats: %w", err)
	}
	if len(chats) > limit {
		chats = chats[:limit]
		next = chatCursor(&chats[limit-1], queue)
	}
	return chats, next, d.addLastMessages(ctx, chats)
}

// chatPage selects the ids of a page as the union of one limited index scan per
// kind of chat, because "mine or waiting" in one condition reads both wholly.
func chatPage(state switchboard.ChatState, own bool) string {
	const order = ` and id < $2 order by id desc limit $1)`
	all := state == ""
	if !own {
		if all {
			return `(select id from chats where true` + order
		}
		return `(select id from chats where state = '` + string(state) + `'` + order // one of the constants: partial indexes match
	}
	var legs []string
	if all || state == switchboard.ChatOpen {
		served := `('offered', 'open')`
		if !all {
			served = `('open')`
		}
		legs = append(legs, `(select id from chats where operator_id = $3 and state in `+served+order)
	}
	if all || state == switchboard.ChatClosed {
		legs = append(legs, `(select id from chats where operator_id = $3 and state = 'closed'`+order)
	}
	if all {
		legs = append(legs, `(select id from chats where state in ('new', 'offered') and operator_id is null`+order)
	}
	return strings.Join(legs, ` union all `)
}

const (
	lowestID  = "00000000-0000-0000-0000-000000000000"
	highestID = "ffffffff-ffff-ffff-ffff-ffffffffffff"
)

func chatCursor(c *switchboard.Chat, queue bool) string {
	s := "i " + c.ID
	if queue {
		s = "q " + c.ID + " " + strconv.FormatInt(c.QueuedAt.UnixMicro(), 10)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(s))
}

func readChatCursor(cursor string, queue bool) (at time.Time, id string, err error) {
	if cursor == "" {
		if queue {
			return time.Unix(0, 0), lowestID, nil
		}
		return time.Time{}, highestID, nil
	}
	bad := fmt.Errorf("cursor is not one of this list: %w", switchboard.ErrInvalid)
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return at, "", bad
	}
	f := strings.Split(string(raw), " ")
	if len(f) < 2 || len(f[1]) != len(lowestID) {
		return at, "", bad
	}
	if _, err := hex.DecodeString(strings.ReplaceAll(f[1], "-", "")); err != nil || strings.Count(f[1], "-") != 4 {
		return at, "", bad
	}
	if !queue && f[0] == "i" && len(f) == 2 {
		return at, f[1], nil
	}
	if queue && f[0] == "q" && len(f) == 3 {
		if micros, err := strconv.ParseInt(f[2], 10, 64); err == nil {
			return time.UnixMicro(micros), f[1], nil
		}
	}
	return at, "", bad
}

// OperatorChats returns what an operator starts with: the chats offered to them
// and those they serve, newest first, then the queue, longest wait first, at
// most queue of it.
func (d *DB) OperatorChats(ctx context.Context, operatorID string, queue int) ([]switchboard.Chat, error) {
	rows, err := d.pool.Query(ctx, `with mine as (
			select id, row_number() over (order by id desc) as n from chats where operator_id = $1 and state in ('offered', 'open')),
		waiting as (
			select id, row_number() over (order by queued_at, id) as n from chats where state in ('new', 'offered') and operator_id is null
			order by queued_at, id limit $2)
		select `+chatColumns+` from (select 1 as part, * from mine union all select 2, * from waiting) p
		join chats c on c.id = p.id join customers cu on cu.id = c.customer_id order by p.part, p.n`, operatorID, queue)
	if err != nil {
		return nil, fmt.Errorf("reading an operator's chats: %w", err)
	}
	chats, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (switchboard.Chat, error) { return scanChat(row) })
	if err != nil {
		return nil, fmt.Errorf("reading an operator's chats: %w", err)
	}
	return chats, d.addLastMessages(ctx, chats)
}

// ChatHolders returns the chats with the given ids with id, account, platform,
// state and operator only: enough for switchboard.Operator.MaySee. Unknown ids
// are left out.
func (d *DB) ChatHolders(ctx context.Context, ids []string) (map[string]switchboard.Chat, error) {
	rows, err := d.pool.Query(ctx, holdersByID, ids)
	if err != nil {
		return nil, fmt.Errorf("reading who holds chats: %w", err)
	}
	found, err := collectHolders(rows)
	if err != nil {
		return nil, fmt.Errorf("reading who holds chats: %w", err)
	}
	return found, nil
}

const holdersByID = `select id, account_id, platform, state, operator_id from chats where id = any($1)`

func collectHolders(rows pgx.Rows) (map[string]switchboard.Chat, error) {
	found := map[string]switchboard.Chat{}
	var c switchboard.Chat
	_, err := pgx.ForEachRow(rows, []any{&c.ID, &c.AccountID, &c.Platform, &c.State, &c.OperatorID}, func() error {
		found[c.ID] = c
		c.OperatorID = nil
		return nil
	})
	return found, err
}

// ChatKey returns the account of a chat and the platform's key of it, or
// ErrNotFound.
func (d *DB) ChatKey(ctx context.Context, chatID string) (accountID, key string, err error) {
	err = d.pool.QueryRow(ctx, `select account_id, external_id from chats where id = $1`, chatID).Scan(&accountID, &key)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", "", fmt.Errorf("chat %s: %w", chatID, switchboard.ErrNotFound)
	}
	if err != nil {
		return "", "", fmt.Errorf("reading a chat's key: %w", err)
	}
	return accountID, key, nil
}

// chatChange is one change of a locked chat: mutate c, and say what it means.
type chatChange struct {
	events []switchboard.Event
	// requeue puts the chat at the end of the queue; else it keeps its place as
	// long as it waits.
	requeue bool
	// transferred says that who serves the chat now did not take it.
	transferred bool
}

// logged is the change for chat_log, "" when there is nothing to note: who served
// the chat before and who does now, as ids or "".
func (change *chatChange) logged(was, now *switchboard.Chat) (what, former, server string) {
	serves := func(c *switchboard.Chat) string {
		if c.State == switchboard.ChatOpen && c.OperatorID != nil {
			return *c.OperatorID
		}
		return ""
	}
	former, server = serves(was), serves(now)
	switch {
	case now.State == switchboard.ChatClosed && was.State != switchboard.ChatClosed:
		what = "closed"
	case server == former:
	case server == "":
		what = "queued"
	case was.State == switchboard.ChatClosed:
		what = "started"
	case former != "" || change.transferred:
		what = "transferred"
	default:
		what = "accepted"
	}
	return what, former, server
}

// changed is the usual event: the chat as the operators concerned must learn.
// was is the chat before.
func changed(was, now *switchboard.Chat) switchboard.Event {
	e := switchboard.Event{Type: switchboard.EventChatUpdated, ChatID: now.ID}
	if now.OperatorID != nil {
		e.OperatorID = *now.OperatorID
	}
	if was.OperatorID != nil && *was.OperatorID != e.OperatorID {
		e.FormerOperatorID = *was.OperatorID
	}
	e.Everyone = inQueue(was) || inQueue(now)
	return e
}

func offered(c *switchboard.Chat) switchboard.Event {
	return switchboard.Event{Type: switchboard.EventChatOffered, ChatID: c.ID, Everyone: true}
}

func inQueue(c *switchboard.Chat) bool {
	return c.State == switchboard.ChatNew || c.State == switchboard.ChatOffered
}

// alterChat locks a chat, lets do mutate it, and stores the outcome with its
// events in the same transaction. Without events nothing is written.
func (d *DB) alterChat(ctx context.Context, chatID string, do func(tx pgx.Tx, c *switchboard.Chat) (chatChange, error)) (switchboard.Chat, error) {
	var chat switchboard.Chat
	err := d.tx(ctx, func(tx pgx.Tx) (err error) {
		chat, err = d.alterChatTx(ctx, tx, chatID, do)
		return err
	})
	if err != nil {
		return switchboard.Chat{}, err
	}
	return chat, nil
}

func (d *DB) alterChatTx(ctx context.Context, tx pgx.Tx, chatID string, do func(tx pgx.Tx, c *switchboard.Chat) (chatChange, error)) (switchboard.Chat, error) {
	chat, err := d.lockChat(ctx, tx, chatID)
	if err != nil {
		return chat, err
	}
	was := chat
	change, err := do(tx, &chat)
	if err != nil {
		return chat, err
	}
	batch := &pgx.Batch{}
	if len(change.events) > 0 { // without events nothing has changed
		what, former, server := change.logged(&was, &chat)
		if what != "" {
			batch.Queue(`insert into chat_log (chat_id, account_id, seq, what, operator_id, former_id, since)
				select id, account_id, last_seq, $2, $3, $4::uuid, case when $4 is not null then served_since end from chats where id = $1`,
				chat.ID, what, textOrNil(server), textOrNil(former))
		}
		batch.Queue(`update chats set state = $2, operator_id = $3, skill = $4, read_seq = $5, unread = $6,
			queued_at = case when $7 then clock_timestamp() when $2 in ('new', 'offered') then coalesce(queued_at, clock_timestamp()) end,
			served_since = case when $8 = '' then served_since when $9::uuid is not null then clock_timestamp() end
			where id = $1 returning queued_at`,
			chat.ID, chat.State, chat.OperatorID, chat.Skill, chat.ReadSeq, chat.Unread, change.requeue, what, textOrNil(server)).
			QueryRow(func(row pgx.Row) error {
				err := row.Scan(&chat.QueuedAt)
				utc(chat.QueuedAt)
				return err
			})
	}
	batch.Queue(`select `+messageColumns+` from messages m join chats c on c.id = m.chat_id where m.chat_id = $1 and m.seq = $2`, chat.ID, chat.LastSeq).
		Query(func(rows pgx.Rows) error {
			last, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (message.Message, error) { return scanMessage(row) })
			if err == nil && len(last) == 1 {
				chat.LastMessage = &last[0]
			}
			return err
		})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return chat, fmt.Errorf("changing chat: %w", err)
	}
	for _, e := range change.events {
		if err := d.event(ctx, tx, e); err != nil {
			return chat, err
		}
	}
	return chat, nil
}

func holds(o *switchboard.Operator, c *switchboard.Chat) bool {
	return c.OperatorID != nil && *c.OperatorID == o.ID
}

// hidden is the error for a chat that the operator may not read: the same as
// for one that doesn't exist.
func hidden(chatID string) error {
	return fmt.Errorf("chat %s: %w", chatID, switchboard.ErrNotFound)
}

// take makes the operator the one who serves the chat.
func take(o *switchboard.Operator, c *switchboard.Chat) (chatChange, error) {
	switch {
	case c.State == switchboard.ChatOpen && holds(o, c):
		return chatChange{}, nil
	case c.State == switchboard.ChatOpen:
		return chatChange{}, fmt.Errorf("chat %s is served by another operator: %w", c.ID, switchboard.ErrConflict)
	case c.State == switchboard.ChatOffered && c.OperatorID != nil && !holds(o, c):
		return chatChange{}, fmt.Errorf("chat %s is offered to another operator: %w", c.ID, switchboard.ErrConflict)
	}
	was := *c
	if c.State == switchboard.ChatClosed {
		was.OperatorID = nil // who served it last has lost nothing
	}
	c.State, c.OperatorID = switchboard.ChatOpen, new(o.ID)
	return chatChange{events: []switchboard.Event{changed(&was, c)}}, nil
}

// AcceptChat gives a waiting chat to the operator; accepting one's own open
// chat again changes nothing. ErrConflict when another operator serves it or has
// it offered, or when it is closed; ErrNotFound. Capacity is not looked at: a
// person who takes one more chat means it.
func (d *DB) AcceptChat(ctx context.Context, o switchboard.Operator, chatID string) (switchboard.Chat, error) {
	return d.alterChat(ctx, chatID, func(_ pgx.Tx, c *switchboard.Chat) (chatChange, error) {
		if c.State == switchboard.ChatClosed {
			if !o.MaySee(*c) {
				return chatChange{}, hidden(chatID)
			}
			return chatChange{}, fmt.Errorf("chat %s is closed; start it again instead: %w", chatID, switchboard.ErrConflict)
		}
		return take(&o, c)
	})
}

// DeclineChat refuses an offered chat, which returns to the queue where it
// stood; a chat that waits for everybody just goes on waiting. ErrConflict when
// it does not wait, ErrNotFound when the operator may not read it.
func (d *DB) DeclineChat(ctx context.Context, o switchboard.Operator, chatID string) (switchboard.Chat, error) {
	return d.refuseChat(ctx, o, chatID, false)
}

// SkipChat is DeclineChat that also puts the chat at the end of the queue.
func (d *DB) SkipChat(ctx context.Context, o switchboard.Operator, chatID string) (switchboard.Chat, error) {
	return d.refuseChat(ctx, o, chatID, true)
}

func (d *DB) refuseChat(ctx context.Context, o switchboard.Operator, chatID string, last bool) (switchboard.Chat, error) {
	return d.alterChat(ctx, chatID, func(_ pgx.Tx, c *switchboard.Chat) (chatChange, error) {
		switch {
		case !o.MaySee(*c):
			return chatChange{}, hidden(chatID)
		case !inQueue(c):
			return chatChange{}, fmt.Errorf("chat %s is %s, not waiting; transfer or close it instead: %w", chatID, c.State, switchboard.ErrConflict)
		}
		was := *c
		c.State, c.OperatorID = switchboard.ChatNew, nil
		switch {
		case was.State == switchboard.ChatOffered:
			return chatChange{requeue: last, events: []switchboard.Event{changed(&was, c), offered(c)}}, nil
		case last:
			return chatChange{requeue: true, events: []switchboard.Event{changed(&was, c)}}, nil
		}
		return chatChange{}, nil
	})
}

// mayManage allows the one who serves the chat, and supervisors.
func mayManage(o *switchboard.Operator, c *switchboard.Chat) error {
	switch {
	case !o.MaySee(*c):
		return hidden(c.ID)
	case o.Role.AtLeast(switchboard.RoleSupervisor) || (holds(o, c) && c.State != switchboard.ChatOffered):
		return nil
	}
	return fmt.Errorf("chat %s is not yours; accept it first: %w", c.ID, switchboard.ErrForbidden)
}

// CloseChat ends a conversation until the customer writes again; the operator
// stays noted on it. Closing a closed chat changes nothing. Only the one who
// serves it and supervisors may (ErrForbidden, or ErrNotFound when the operator
// may not even read it).
func (d *DB) CloseChat(ctx context.Context, o switchboard.Operator, chatID string) (switchboard.Chat, error) {
	return d.alterChat(ctx, chatID, func(_ pgx.Tx, c *switchboard.Chat) (chatChange, error) {
		if err := mayManage(&o, c); err != nil {
			return chatChange{}, err
		}
		if c.State == switchboard.ChatClosed {
			return chatChange{}, nil
		}
		was := *c
		c.State = switchboard.ChatClosed
		return chatChange{events: []switchboard.Event{changed(&was, c)}}, nil
	})
}

// TransferChat hands a chat over: to an operator, who then serves it at once, or
// to a skill, for which it waits in the queue again. Exactly one of the two is
// set. Only the one who serves it and supervisors may. ErrNotFound when the
// target is unknown or disabled, ErrConflict when the chat is closed.
func (d *DB) TransferChat(ctx context.Context, by switchboard.Operator, chatID, toOperatorID, toSkill string) (switchboard.Chat, error) {
	if (toOperatorID == "") == (toSkill == "") {
		return switchboard.Chat{}, fmt.Errorf("a transfer needs an operator or a skill: %w", switchboard.ErrInvalid)
	}
	return d.alterChat(ctx, chatID, func(tx pgx.Tx, c *switchboard.Chat) (chatChange, error) {
		if err := mayManage(&by, c); err != nil {
			return chatChange{}, err
		}
		if c.State == switchboard.ChatClosed {
			return chatChange{}, fmt.Errorf("chat %s is closed; start it again instead: %w", chatID, switchboard.ErrConflict)
		}
		was := *c
		if toSkill != "" {
			c.State, c.OperatorID, c.Skill = switchboard.ChatNew, nil, plainText(toSkill)
			return chatChange{requeue: true, events: []switchboard.Event{changed(&was, c), offered(c)}}, nil
		}
		var works bool
		err := tx.QueryRow(ctx, `select exists (select 1 from operators where id = $1 and not disabled)`, toOperatorID).Scan(&works)
		if err != nil {
			return chatChange{}, fmt.Errorf("looking for the operator: %w", err)
		}
		if !works {
			return chatChange{}, fmt.Errorf("operator %s: %w", toOperatorID, switchboard.ErrNotFound)
		}
		if c.State == switchboard.ChatOpen && c.OperatorID != nil && *c.OperatorID == toOperatorID {
			return chatChange{}, nil
		}
		c.State, c.OperatorID = switchboard.ChatOpen, &toOperatorID
		return chatChange{transferred: true, events: []switchboard.Event{changed(&was, c)}}, nil
	})
}

// CustomerByPhone finds the account's customer with the phone number ("+" and
// digits) in the phone book, the one confirmed last, and returns the platform's
// id of them; ErrNotFound.
func (d *DB) CustomerByPhone(ctx context.Context, accountID, phone string) (externalID string, err error) {
	err = d.pool.QueryRow(ctx, `select cu.external_id from phone_book p join customers cu on cu.id = p.customer_id
		where p.phone = $2 and p.account_id = $1 order by p.updated_at desc limit 1`, accountID, phone).Scan(&externalID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("phone: nobody of this account is known by it: %w", switchboard.ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("looking into the phone book: %w", err)
	}
	return externalID, nil
}

// StartChat opens the chat with a customer, known by the platform's id, for the
// operator. A closed or waiting chat is opened; the operator's own open one is
// returned as it is; ErrConflict when another operator serves it or has it
// offered. One that doesn't exist is made, with its customer, if create is set;
// else ErrNotFound. ErrNotFound also when the account is unknown or removed.
func (d *DB) StartChat(ctx context.Context, o switchboard.Operator, accountID, externalID string, create bool) (switchboard.Chat, error) {
	externalID = keyText(externalID)
	if externalID == "" {
		return switchboard.Chat{}, fmt.Errorf("external_id is empty: %w", switchboard.ErrInvalid)
	}
	var chat switchboard.Chat
	err := d.tx(ctx, func(tx pgx.Tx) error {
		var works bool
		err := tx.QueryRow(ctx, `select exists (select 1 from accounts where id = $1 and state <> 'removed')`, accountID).Scan(&works)
		if err != nil {
			return fmt.Errorf("reading the account: %w", err)
		}
		if !works {
			return fmt.Errorf("account %s: %w", accountID, switchboard.ErrNotFound)
		}
		chatID, err := findChat(ctx, tx, accountID, externalID)
		if err != nil {
			return err
		}
		if chatID == "" && !create {
			return fmt.Errorf("external_id: no chat with this customer: %w", switchboard.ErrNotFound)
		}
		if chatID == "" {
			if chatID, err = makeChat(ctx, tx, accountID, externalID); err != nil {
				return err
			}
		}
		chat, err = d.alterChatTx(ctx, tx, chatID, func(_ pgx.Tx, c *switchboard.Chat) (chatChange, error) { return take(&o, c) })
		return err
	})
	if err != nil {
		return switchboard.Chat{}, err
	}
	return chat, nil
}

// ReadChat notes that everything up to seq has been read: read_seq only moves
// forward (and not past the last message), and unread counts the customer's
// messages after it. before is what read_seq was. Only the one who serves the
// chat and supervisors may.
func (d *DB) ReadChat(ctx context.Context, o switchboard.Operator, chatID string, seq int64) (c switchboard.Chat, before int64, err error) {
	c, err = d.alterChat(ctx, chatID, func(tx pgx.Tx, c *switchboard.Chat) (chatChange, error) {
		if err := mayManage(&o, c); err != nil {
			return chatChange{}, err
		}
		before = c.ReadSeq
		seq := min(seq, c.LastSeq)
		if seq <= c.ReadSeq {
			return chatChange{}, nil
		}
		err := tx.QueryRow(ctx, `select count(*) from messages where chat_id = $1 and direction = 'in' and seq > $2`, c.ID, seq).Scan(&c.Unread)
		if err != nil {
			return chatChange{}, fmt.Errorf("counting unread messages: %w", err)
		}
		c.ReadSeq = seq
		e := changed(c, c)
		e.Everyone = false // the queue is as it was
		return chatChange{events: []switchboard.Event{e}}, nil
	})
	return c, before, err
}

// SetPresence stores what an operator says of themselves, and tells everybody
// if it is news. It also counts as a sign of life; see TouchPresence.
func (d *DB) SetPresence(ctx context.Context, operatorID string, p switchboard.Presence) error {
	if !slices.Contains([]switchboard.Presence{switchboard.PresenceOnline, switchboard.PresenceAway, switchboard.PresenceOffline}, p) {
		return fmt.Errorf("presence %q; use online, away or offline: %w", p, switchboard.ErrInvalid)
	}
	return d.changePresence(ctx, operatorID, func(switchboard.Presence) switchboard.Presence { return p })
}

// OperatorCame makes an operator who was offline online: a client has
// connected. One who is away stays so.
func (d *DB) OperatorCame(ctx context.Context, operatorID string) error {
	return d.changePresence(ctx, operatorID, func(was switchboard.Presence) switchboard.Presence {
		if was == switchboard.PresenceOffline {
			return switchboard.PresenceOnline
		}
		return was
	})
}

func (d *DB) changePresence(ctx context.Context, operatorID string, next func(was switchboard.Presence) switchboard.Presence) error {
	return d.tx(ctx, func(tx pgx.Tx) error {
		var was switchboard.Presence
		var name string
		err := tx.QueryRow(ctx, `select presence, name from operators where id = $1 for update`, operatorID).Scan(&was, &name)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("operator %s: %w", operatorID, switchboard.ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("reading presence: %w", err)
		}
		p := next(was)
		if _, err := tx.Exec(ctx, `update operators set presence = $2, presence_at = now() where id = $1`, operatorID, p); err != nil {
			return fmt.Errorf("storing presence: %w", err)
		}
		if p == was {
			return nil
		}
		return d.presenceEvent(ctx, tx, operatorID, name, p)
	})
}

func (d *DB) presenceEvent(ctx context.Context, tx pgx.Tx, operatorID, name string, p switchboard.Presence) error {
	payload, err := json.Marshal(map[string]string{"operator_id": operatorID, "name": name, "status": string(p)})
	if err != nil {
		return fmt.Errorf("writing presence event: %w", err)
	}
	return d.event(ctx, tx, switchboard.Event{Type: switchboard.EventOperatorPresence, OperatorID: operatorID, Everyone: true, Payload: payload})
}

// TouchPresence is the sign of life of connected operators: without it
// ExpirePresence takes them offline. A hub calls it for all of its own at once.
func (d *DB) TouchPresence(ctx context.Context, operatorIDs []string) error {
	// In one order, so that two hubs with the same operators can't deadlock.
	_, err := d.pool.Exec(ctx, `update operators set presence_at = now() where id in (
		select id from operators where id = any($1) order by id for update)`, operatorIDs)
	if err != nil {
		return fmt.Errorf("keeping operators present: %w", err)
	}
	return nil
}

// ExpirePresence takes operators offline who gave no sign of life for longer
// than age, on any hub, and returns how many.
func (d *DB) ExpirePresence(ctx context.Context, age time.Duration) (expired int, err error) {
	err = d.tx(ctx, func(tx pgx.Tx) error {
		type gone struct{ ID, Name string }
		rows, err := tx.Query(ctx, `update operators set presence = 'offline' where id in (
				select id from operators where presence <> 'offline' and presence_at < now() - $1::interval order by id for update skip locked)
			returning id, name`, age)
		if err != nil {
			return fmt.Errorf("taking operators offline: %w", err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[gone])
		if err != nil {
			return fmt.Errorf("taking operators offline: %w", err)
		}
		for _, g := range list {
			if err := d.presenceEvent(ctx, tx, g.ID, g.Name, switchboard.PresenceOffline); err != nil {
				return err
			}
		}
		expired = len(list)
		return nil
	})
	return expired, err
}

// LastEvent is the id of the newest event, 0 when there is none. Unlike a
// Tail's position it may be ahead of events that are still to be committed.
func (d *DB) LastEvent(ctx context.Context) (id int64, err error) {
	if err := d.pool.QueryRow(ctx, `select coalesce(max(id), 0) from events`).Scan(&id); err != nil {
		return 0, fmt.Errorf("finding the end of the event stream: %w", err)
	}
	return id, nil
}
