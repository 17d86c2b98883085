package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/message"
)

// suppressedBy finds why the customer of chat $1 may not be written to: the reason
// of an entry in the global list, the account's or one of $2.
const suppressedBy = `select coalesce(nullif(x.reason, ''), 'on the stop-list ' || case when x.list like 'account:%' then 'of the account' else x.list end)
	from chats c join customers cu on cu.id = c.customer_id
	join suppressions x on x.address = any(array[cu.id::text, cu.external_id, c.external_id, nullif(cu.phone, '')])
		and x.kind = case when x.address = cu.id::text then 0 when x.address = cu.phone and x.address like '+%' then 2 else 1 end
		and x.list = any(array['global', 'account:' || c.account_id] || $2::text[]) and x.kind = any('{0,1,2}'::smallint[])
	where c.id = $1 order by x.list limit 1`

// refuse is why a script's message may not be made, or nil.
func refuse(ctx context.Context, tx pgx.Tx, s *queue.Send, chat switchboard.Chat) error {
	if s.StopLists != nil {
		var reason string
		err := tx.QueryRow(ctx, suppressedBy, chat.ID, s.StopLists).Scan(&reason)
		if err == nil {
			return &queue.SuppressedError{Reason: reason}
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("looking into stop-lists: %w", err)
		}
	}
	if s.Cap > 0 {
		// The chat's newest messages are found by their numbers, whatever lies behind.
		var n int
		err := tx.QueryRow(ctx, `select count(*) from (select direction, sender_kind, status, created_at from messages where chat_id = $1 order by seq desc limit 5000) m
			where created_at >= $2 and direction = 'out' and sender_kind in ('campaign', 'api') and status not in ('failed', 'expired', 'canceled')`, chat.ID, time.Now().Add(-s.CapPer)).Scan(&n)
		if err != nil {
			return fmt.Errorf("counting a chat's messages: %w", err)
		}
		if n >= s.Cap {
			return &queue.CappedError{Count: n, Per: s.CapPer}
		}
	}
	return nil
}

// ReleaseScheduled puts up to limit messages whose time has come into their
// outboxes, and returns how many it looked at. One that was canceled meanwhile is
// dropped; one whose recipient is on a stop-list by now is canceled.
func (d *DB) ReleaseScheduled(ctx context.Context, limit int) (done int, err error) {
	err = d.tx(ctx, func(tx pgx.Tx) error {
		done = 0
		type due struct {
			MessageID, ChatID string
			Priority          int
			StopLists         []string
		}
		rows, err := tx.Query(ctx, `select message_id, chat_id, priority, stop_lists from scheduled where at <= now() order by at limit $1 for update skip locked`, limit)
		if err != nil {
			return fmt.Errorf("looking for scheduled messages: %w", err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[due])
		if err != nil {
			return fmt.Errorf("looking for scheduled messages: %w", err)
		}
		for _, m := range list {
			// In the order in which everybody else takes them.
			chat, err := d.lockChat(ctx, tx, m.ChatID)
			if err != nil {
				return err
			}
			var status message.Status
			if err := tx.QueryRow(ctx, `select status from messages where id = $1 for update`, m.MessageID).Scan(&status); err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return fmt.Errorf("reading a scheduled message: %w", err)
			}
			if status == message.StatusQueued {
				if err := d.release(ctx, tx, chat, m.MessageID, m.Priority, m.StopLists); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(ctx, `delete from scheduled where message_id = $1`, m.MessageID); err != nil {
				return fmt.Errorf("releasing a scheduled message: %w", err)
			}
		}
		done = len(list)
		return nil
	})
	return done, err
}

func (d *DB) release(ctx context.Context, tx pgx.Tx, chat switchboard.Chat, messageID string, priority int, stopLists []string) error {
	s := queue.Send{StopLists: stopLists}
	err := refuse(ctx, tx, &s, chat)
	if suppressed, ok := errors.AsType[*queue.SuppressedError](err); ok {
		failure := message.Failure{Kind: "suppressed", Detail: suppressed.Reason}
		batch := &pgx.Batch{}
		batch.Queue(`update messages set status = 'canceled', status_at = clock_timestamp(), error = $2 where id = $1`, messageID, failure)
		batch.Queue(`insert into message_log (message_id, what, detail) values ($1, 'canceled', $2)`, messageID, failure)
		batch.Queue(eventOfMessage, messageID)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("canceling a scheduled message: %w", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `insert into outbox (chat_id, account_id, message_id, priority, expires_at) select chat_id, account_id, message_id, priority, expires_at from scheduled where message_id = $1`, messageID)
	if err != nil {
		return fmt.Errorf("releasing a scheduled message: %w", err)
	}
	return d.wakeOutbox(ctx, tx, chat.ID, priority)
}

// CancelMessage takes back a message of an API key that has not left yet. The error
// is ErrNotFound for what the key did not send, ErrConflict for what is on its way
// or out.
func (d *DB) CancelMessage(ctx context.Context, messageID, keyID string) error {
	_, err := d.change(ctx, messageID, true, nil, func(tx pgx.Tx, m message.Message, inFlight bool) error {
		if m.Sender.Kind != message.SenderAPI || m.Sender.ID != keyID {
			return fmt.Errorf("message %s: %w", messageID, switchboard.ErrNotFound)
		}
		if m.Status != message.StatusQueued || inFlight {
			return fmt.Errorf("message %s is %s and can't be taken back any more: %w", messageID, m.Status, switchboard.ErrConflict)
		}
		batch := &pgx.Batch{}
		batch.Queue(`delete from outbox where chat_id = $1 and message_id = $2`, m.ChatID, m.ID)
		batch.Queue(`delete from scheduled where message_id = $1`, m.ID)
		batch.Queue(`update messages set status = 'canceled', status_at = clock_timestamp() where id = $1`, m.ID)
		batch.Queue(`insert into message_log (message_id, what) values ($1, 'canceled')`, m.ID)
		return tx.SendBatch(ctx, batch).Close()
	})
	return err
}
