package db

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/message"
)

const eventColumns = `id, type, coalesce(chat_id::text, ''), coalesce(message_id::text, ''), coalesce(operator_id::text, ''),
	coalesce(former_operator_id::text, ''), everyone, payload, created_at`

// scanEvent reads eventColumns, and what follows them into more.
func scanEvent(row pgx.CollectableRow, more ...any) (switchboard.Event, error) {
	var e switchboard.Event
	err := row.Scan(append([]any{&e.ID, &e.Type, &e.ChatID, &e.MessageID, &e.OperatorID, &e.FormerOperatorID, &e.Everyone, &e.Payload, &e.At}, more...)...)
	return e, err
}

// Tail reads the stream of events as it grows, each event once, in order of
// id, none skipped.
//
// Ids are given out before commit, so a lower id may become visible after a
// higher one. Tail therefore goes on over unbroken runs of ids at once, and
// stops at a gap until it is settled: filled, or proven empty because every
// transaction that was running when the gap was seen has ended. (A transaction
// that appends an event owns a transaction id before it draws the event's id:
// it has written or locked a row first. So it is among those.) What is in
// flight for long without appending events delays nothing but a gap.
//
// A Tail belongs to one goroutine.
type Tail struct {
	d   *DB
	pos int64
	// A gap was seen below gapTo (a visible id), and gapXact is a transaction id
	// drawn afterwards. Once every transaction below gapXact has ended, ids that
	// are still missing below gapTo will never come: whoever drew them did so
	// before gapTo was drawn, under an older transaction id. (A snapshot's xmax
	// would not do: it is one past the highest *completed* transaction, and those
	// still running may be above it.) 0: no gap known.
	gapXact, gapTo int64
}

// OpenTail starts at the present end of the stream.
func (d *DB) OpenTail(ctx context.Context) (*Tail, error) {
	t := &Tail{d: d}
	if err := d.pool.QueryRow(ctx, `select coalesce(max(id), 0) from events`).Scan(&t.pos); err != nil {
		return nil, fmt.Errorf("finding the end of the event stream: %w", err)
	}
	after, err := d.drawXact(ctx)
	if err != nil {
		return nil, err
	}
	// Wait until nothing below the starting point can appear any more.
	for {
		var xmin int64
		if err := d.pool.QueryRow(ctx, `select pg_snapshot_xmin(pg_current_snapshot())::text::bigint`).Scan(&xmin); err != nil {
			return nil, fmt.Errorf("settling the end of the event stream: %w", err)
		}
		if xmin >= after {
			return t, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("settling the end of the event stream: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// drawXact draws a transaction id: every transaction that has written anything
// so far has a lower one.
func (d *DB) drawXact(ctx context.Context) (id int64, err error) {
	if err := d.pool.QueryRow(ctx, `select pg_current_xact_id()::text::bigint`).Scan(&id); err != nil {
		return 0, fmt.Errorf("drawing a transaction id: %w", err)
	}
	return id, nil
}

// Pos is the id up to which events were returned (or proven missing).
func (t *Tail) Pos() int64 { return t.pos }

// Next returns the events after Pos that are settled, at most limit, without
// waiting. blocked tells that later events are visible already, but an earlier
// one may still come: look again in a few milliseconds.
func (t *Tail) Next(ctx context.Context, limit int) (events []switchboard.Event, blocked bool, err error) {
	var xmin int64
	rows, err := t.d.hot.Query(ctx, `select `+eventColumns+`, (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint) from events where id > $1 order by id limit $2`, t.pos, limit)
	if err != nil {
		return nil, false, fmt.Errorf("reading events: %w", err)
	}
	events, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (switchboard.Event, error) { return scanEvent(row, &xmin) })
	if err != nil {
		return nil, false, fmt.Errorf("reading events: %w", err)
	}
	settled := int64(0) // missing ids below are settled
	if t.gapXact != 0 && xmin >= t.gapXact {
		settled = t.gapTo
	}
	start := t.pos
	for i := range events {
		id := events[i].ID
		if id != t.pos+1 && id > settled {
			if t.gapXact == 0 {
				after, err := t.d.drawXact(ctx)
				if err != nil {
					t.pos = start // nothing is handed out
					return nil, false, err
				}
				t.gapXact, t.gapTo = after, id
			}
			return events[:i], true, nil
		}
		t.pos = id
		if t.pos >= t.gapTo {
			t.gapXact, t.gapTo = 0, 0
		}
	}
	return events, false, nil
}

// ErrCursorTooOld says that events after the cursor have been dropped; the
// client must load its chats anew.
var ErrCursorTooOld = fmt.Errorf("cursor is too old: %w", switchboard.ErrNotFound)

// EventsFor returns the operator's events with after < id <= upTo, at most
// limit, oldest first. upTo must be a Tail's position.
func (d *DB) EventsFor(ctx context.Context, o switchboard.Operator, after, upTo int64, limit int) ([]switchboard.Event, error) {
	var oldest int64
	if err := d.pool.QueryRow(ctx, `select coalesce((select id from events order by id limit 1), 0)`).Scan(&oldest); err != nil {
		return nil, fmt.Errorf("reading the oldest event: %w", err)
	}
	if after < upTo && oldest > after+1 {
		// The first kept event is far above the cursor only after retention: a
		// fresh table starts at 1.
		var pruned bool
		if err := d.pool.QueryRow(ctx, `select exists (select 1 from versions where name = 'events_pruned' and version >= $1)`, after).Scan(&pruned); err != nil {
			return nil, fmt.Errorf("reading the events' retention: %w", err)
		}
		if pruned {
			return nil, ErrCursorTooOld
		}
	}
	rows, err := d.pool.Query(ctx, `select `+eventColumns+` from events where id > $1 and id <= $2
		and ($3 or everyone or operator_id = $4 or former_operator_id = $4) order by id limit $5`,
		after, upTo, o.Role.AtLeast(switchboard.RoleSupervisor), o.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("reading an operator's events: %w", err)
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (switchboard.Event, error) { return scanEvent(row) })
	if err != nil {
		return nil, fmt.Errorf("reading an operator's events: %w", err)
	}
	return events, nil
}

// LoadEvents fills in the events' messages and chats as they are now, and
// returns who holds the chats of messages and of typing (see ChatHolders).
func (d *DB) LoadEvents(ctx context.Context, events []switchboard.Event) (map[string]switchboard.Chat, error) {
	var messageIDs, chatIDs, heldIDs []string
	for i := range events {
		switch e := &events[i]; e.Type {
		case switchboard.EventMessageNew, switchboard.EventMessageUpdated:
			messageIDs = append(messageIDs, e.MessageID)
		case switchboard.EventCustomerTyping:
			heldIDs = append(heldIDs, e.ChatID)
		case switchboard.EventChatOffered, switchboard.EventChatUpdated:
			chatIDs = append(chatIDs, e.ChatID)
		}
	}
	// One round trip for everything.
	var found map[string]*message.Message
	holders, typing := map[string]switchboard.Chat{}, map[string]switchboard.Chat{}
	batch := &pgx.Batch{}
	if len(messageIDs) > 0 {
		batch.Queue(messagesByID, distinctIDs(messageIDs)).Query(func(rows pgx.Rows) (err error) {
			found, holders, err = collectMessages(rows)
			return err
		})
	}
	if len(heldIDs) > 0 {
		batch.Queue(holdersByID, heldIDs).Query(func(rows pgx.Rows) (err error) {
			typing, err = collectHolders(rows)
			return err
		})
	}
	var chats map[string]*switchboard.Chat
	if len(chatIDs) > 0 {
		chats = queueChats(batch, chatIDs)
	}
	if batch.Len() > 0 {
		if err := d.hot.SendBatch(ctx, batch).Close(); err != nil {
			return nil, fmt.Errorf("loading events: %w", err)
		}
	}
	maps.Copy(holders, typing)
	for i := range events {
		e := &events[i]
		if e.MessageID != "" {
			e.Message = found[e.MessageID]
		}
		if e.Type == switchboard.EventChatOffered || e.Type == switchboard.EventChatUpdated {
			e.Chat = chats[e.ChatID]
		}
	}
	return holders, nil
}

// PruneEvents drops events older than keep, and remembers up to where. What a
// follower has not read stays: it would never know.
func (d *DB) PruneEvents(ctx context.Context, keep time.Duration) error {
	return d.tx(ctx, func(tx pgx.Tx) error {
		var last *int64
		// The newest event always stays, so that the stream's end can be found.
		err := tx.QueryRow(ctx, `with gone as (delete from events where created_at < now() - $1::interval and id < (select max(id) from events)
				and id <= coalesce((select min(pos) from followers), 0) returning id)
			select max(id) from gone`, keep).Scan(&last)
		if err != nil {
			return fmt.Errorf("pruning events: %w", err)
		}
		if last == nil {
			return nil
		}
		_, err = tx.Exec(ctx, `insert into versions (name, version) values ('events_pruned', $1) on conflict (name) do update set version = excluded.version`, *last)
		return err
	})
}

// event appends one event in tx. The caller holds the chat's row lock.
func (d *DB) event(ctx context.Context, tx pgx.Tx, e switchboard.Event) error {
	_, err := tx.Exec(ctx, `insert into events (type, chat_id, message_id, operator_id, former_operator_id, everyone, payload)
		values ($1, $2, $3, $4, $5, $6, $7)`,
		e.Type, textOrNil(e.ChatID), textOrNil(e.MessageID), textOrNil(e.OperatorID), textOrNil(e.FormerOperatorID), e.Everyone, e.Payload)
	if err != nil {
		return fmt.Errorf("appending event %s: %w", e.Type, err)
	}
	return nil
}
