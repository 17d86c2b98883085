package db

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/message"
)

// messageColumns is what scanMessage reads, from messages m joined with chats c.
// A queued message whose outbox row is in flight shows as sending.
const messageColumns = `m.id, m.chat_id, m.account_id, c.platform, m.seq, m.direction, m.body, m.reply_to, m.platform_message_id,
	case when m.status = 'queued' and exists (select 1 from outbox o where o.chat_id = m.chat_id and o.message_id = m.id and o.sending) then 'sending' else m.status end,
	m.status_at, m.error, m.sender_kind, m.sender_id, m.sender_name, m.client_id, m.platform_at, m.created_at, m.edited_at, m.deleted_at`

// scanMessage reads messageColumns, and what follows them into more.
func scanMessage(row pgx.Row, more ...any) (message.Message, error) {
	var m message.Message
	var body, failure []byte
	dest := append([]any{
		&m.ID, &m.ChatID, &m.AccountID, &m.Platform, &m.Seq, &m.Direction, &body, &m.ReplyTo, &m.PlatformMessageID,
		&m.Status, &m.StatusAt, &failure, &m.Sender.Kind, &m.Sender.ID, &m.Sender.Name, &m.ClientID, &m.PlatformAt, &m.CreatedAt, &m.EditedAt, &m.DeletedAt,
	}, more...)
	if err := row.Scan(dest...); err != nil {
		return m, err
	}
	if err := json.Unmarshal(body, &m.Content); err != nil {
		return m, fmt.Errorf("reading body of message %s: %w", m.ID, err)
	}
	if failure != nil {
		m.Error = new(message.Failure)
		if err := json.Unmarshal(failure, m.Error); err != nil {
			return m, fmt.Errorf("reading error of message %s: %w", m.ID, err)
		}
	}
	utc(&m.StatusAt, m.PlatformAt, &m.CreatedAt, m.EditedAt, m.DeletedAt)
	if m.DeletedAt != nil {
		m.Content = message.Content{Kind: m.Content.Kind} // taken back means unseen
	}
	return m, nil
}

func utc(times ...*time.Time) {
	for _, t := range times {
		if t != nil {
			*t = t.UTC()
		}
	}
}

// Messages returns the messages with the given ids, by id; unknown ids are left out.
func (d *DB) Messages(ctx context.Context, ids []string) (map[string]*message.Message, error) {
	rows, err := d.hot.Query(ctx, messagesByID, distinctIDs(ids))
	if err != nil {
		return nil, fmt.Errorf("reading messages: %w", err)
	}
	found, _, err := collectMessages(rows)
	if err != nil {
		return nil, fmt.Errorf("reading messages: %w", err)
	}
	return found, nil
}

// Each id is looked for in its month's partition: "any" would look for all of them
// in every partition.
// The chat's holder comes along; see LoadEvents.
const messagesByID = `select ` + messageColumns + `, c.state, c.operator_id from unnest($1::uuid[]) r (id) cross join lateral (select * from messages where id = r.id limit 1) m join chats c on c.id = m.chat_id`

// collectMessages reads messagesByID: the messages, and who holds their chats.
func collectMessages(rows pgx.Rows) (found map[string]*message.Message, holders map[string]switchboard.Chat, err error) {
	found, holders = map[string]*message.Message{}, map[string]switchboard.Chat{}
	defer rows.Close()
	for rows.Next() {
		var chat switchboard.Chat
		m, err := scanMessage(rows, &chat.State, &chat.OperatorID)
		if err != nil {
			return nil, nil, err
		}
		found[m.ID] = &m
		chat.ID, chat.AccountID, chat.Platform = m.ChatID, m.AccountID, m.Platform
		holders[m.ChatID] = chat
	}
	return found, holders, rows.Err()
}

// Message returns one message, or ErrNotFound.
func (d *DB) Message(ctx context.Context, id string) (message.Message, error) {
	found, err := d.Messages(ctx, []string{id})
	if err != nil {
		return message.Message{}, err
	}
	m := found[id]
	if m == nil {
		return message.Message{}, fmt.Errorf("message %s: %w", id, switchboard.ErrNotFound)
	}
	return *m, nil
}

// chatColumns is what scanChat reads, from chats c joined with customers cu.
const chatColumns = `c.id, c.account_id, c.platform, c.state, c.operator_id, c.skill, c.unread, c.read_seq, c.last_seq,
	c.last_customer_message_at, c.queued_at, c.created_at,
	cu.id, cu.external_id, cu.name, cu.username, cu.phone, coalesce('/files/' || cu.avatar_file, ''), cu.language, cu.country, cu.reachable`

func scanChat(row pgx.CollectableRow, more ...any) (switchboard.Chat, error) {
	c := switchboard.Chat{Customer: new(switchboard.Customer)}
	cu := c.Customer
	dest := append([]any{
		&c.ID, &c.AccountID, &c.Platform, &c.State, &c.OperatorID, &c.Skill, &c.Unread, &c.ReadSeq, &c.LastSeq,
		&c.LastCustomerMessageAt, &c.QueuedAt, &c.CreatedAt,
		&cu.ID, &cu.ExternalID, &cu.Name, &cu.Username, &cu.Phone, &cu.Avatar, &cu.Language, &cu.Country, &cu.Reachable,
	}, more...)
	err := row.Scan(dest...)
	utc(c.LastCustomerMessageAt, c.QueuedAt, &c.CreatedAt)
	return c, err
}

// Chats returns the chats with the given ids with their last message, by id;
// unknown ids are left out.
func (d *DB) Chats(ctx context.Context, ids []string) (map[string]*switchboard.Chat, error) {
	batch := &pgx.Batch{}
	found := queueChats(batch, ids)
	if err := d.hot.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("reading chats: %w", err)
	}
	return found, nil
}

// queueChats reads chats with their last messages into the map that it returns.
func queueChats(batch *pgx.Batch, ids []string) map[string]*switchboard.Chat {
	ids = wellFormed(ids)
	found := make(map[string]*switchboard.Chat, len(ids))
	batch.Queue(`select `+chatColumns+` from chats c join customers cu on cu.id = c.customer_id where c.id = any($1)`, ids).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			c, err := scanChat(rows)
			if err != nil {
				return err
			}
			found[c.ID] = &c
		}
		return rows.Err()
	})
	batch.Queue(`select `+messageColumns+` from chats c join messages m on m.chat_id = c.id and m.seq = c.last_seq where c.id = any($1)`, ids).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			m, err := scanMessage(rows)
			if err != nil {
				return err
			}
			if c := found[m.ChatID]; c != nil {
				// One that came between the two statements is the last one.
				c.LastMessage, c.LastSeq = &m, m.Seq
			}
		}
		return rows.Err()
	})
	return found
}

// Chat returns one chat with its last message, or ErrNotFound.
func (d *DB) Chat(ctx context.Context, id string) (switchboard.Chat, error) {
	found, err := d.Chats(ctx, []string{id})
	if err != nil {
		return switchboard.Chat{}, err
	}
	c := found[id]
	if c == nil {
		return switchboard.Chat{}, fmt.Errorf("chat %s: %w", id, switchboard.ErrNotFound)
	}
	return *c, nil
}

// addLastMessages fills LastMessage of each chat.
func (d *DB) addLastMessages(ctx context.Context, chats []switchboard.Chat) error {
	ids, seqs := make([]string, len(chats)), make([]int64, len(chats))
	for i := range chats {
		ids[i], seqs[i] = chats[i].ID, chats[i].LastSeq
	}
	rows, err := d.pool.Query(ctx, `select `+messageColumns+` from unnest($1::uuid[], $2::bigint[]) r (id, seq)
		join messages m on m.chat_id = r.id and m.seq = r.seq join chats c on c.id = m.chat_id`, ids, seqs)
	if err != nil {
		return fmt.Errorf("reading last messages: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (message.Message, error) { return scanMessage(row) })
	if err != nil {
		return fmt.Errorf("reading last messages: %w", err)
	}
	byChat := make(map[string]*message.Message, len(list))
	for i := range list {
		byChat[list[i].ChatID] = &list[i]
	}
	for i := range chats {
		chats[i].LastMessage = byChat[chats[i].ID]
	}
	return nil
}
