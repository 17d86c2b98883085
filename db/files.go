package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/message"
)

// AddFile records a file whose bytes are in the store.
func (d *DB) AddFile(ctx context.Context, f queue.StoredFile) error {
	_, err := d.pool.Exec(ctx, `insert into files (id, name, mime, size, sha256, kind, state, owner) values ($1, $2, $3, $4, $5, $6, 'ready', $7)
		on conflict (id) do update set name = excluded.name, mime = excluded.mime, size = excluded.size, sha256 = excluded.sha256`,
		f.ID, plainText(f.Name), f.Mime, f.Size, f.SHA256, f.Kind, f.Owner)
	if err != nil {
		return fmt.Errorf("recording file: %w", err)
	}
	return nil
}

// File returns a file's row, or ErrNotFound.
func (d *DB) File(ctx context.Context, id string) (queue.StoredFile, error) {
	found, err := d.files(ctx, []string{id})
	if err != nil {
		return queue.StoredFile{}, err
	}
	if len(found) == 0 {
		return queue.StoredFile{}, fmt.Errorf("file %s: %w", id, switchboard.ErrNotFound)
	}
	return found[0], nil
}

func (d *DB) files(ctx context.Context, ids []string) ([]queue.StoredFile, error) {
	rows, err := d.pool.Query(ctx, `select id, name, mime, sha256, owner, kind, state, size, coalesce(account_id::text, ''), coalesce(message_id::text, ''), ref, created_at
		from files where id = any($1)`, wellFormed(ids))
	if err != nil {
		return nil, fmt.Errorf("reading files: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (queue.StoredFile, error) {
		var f queue.StoredFile
		err := row.Scan(&f.ID, &f.Name, &f.Mime, &f.SHA256, &f.Owner, &f.Kind, &f.State, &f.Size, &f.AccountID, &f.MessageID, &f.Ref, &f.CreatedAt)
		utc(&f.CreatedAt)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading files: %w", err)
	}
	return list, nil
}

// FilesByID returns the files with the given ids as a message carries them;
// unknown ids are left out, and customers' pictures, which don't last.
func (d *DB) FilesByID(ctx context.Context, ids []string) ([]message.File, error) {
	list, err := d.files(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]message.File, 0, len(list))
	for _, f := range list {
		if f.Owner != queue.PictureOwner {
			out = append(out, message.File{ID: f.ID, Kind: f.Kind, Name: f.Name, Mime: f.Mime, Size: f.Size, State: f.State})
		}
	}
	return out, nil
}

// ReadableFiles returns those of the files that an operator may read: their own
// uploads, what lies in chats that they may see (switchboard.Operator.MaySee), and
// the pictures of the customers of these. Supervisors may read all that exist.
func (d *DB) ReadableFiles(ctx context.Context, o switchboard.Operator, ids []string) ([]string, error) {
	rows, err := d.pool.Query(ctx, `select f.id from files f where f.id = any($1) and ($2 or f.owner = 'operator:' || $3 or exists (
		select from chats c where (c.state = 'new' or (c.state = 'offered' and c.operator_id is null) or c.operator_id::text = $3) and c.id in (
			select m.chat_id from messages m where m.id = f.message_id
			union all select fc.chat_id from file_chats fc where fc.file_id = f.id
			union all select ch.id from customers cu join chats ch on ch.customer_id = cu.id where cu.avatar_file = f.id)))`,
		wellFormed(ids), o.Role.AtLeast(switchboard.RoleSupervisor), o.ID)
	if err != nil {
		return nil, fmt.Errorf("reading who may read files: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("reading who may read files: %w", err)
	}
	return found, nil
}

// FinishFetch records how fetching a customer's file ended, in its row and in
// its message, and tells the operators.
func (d *DB) FinishFetch(ctx context.Context, f queue.StoredFile, reason string) error {
	return d.tx(ctx, func(tx pgx.Tx) error {
		var messageID *string
		err := tx.QueryRow(ctx, `update files set name = coalesce(nullif($2, ''), name), mime = coalesce(nullif($3, ''), mime), size = case when $4::bigint > 0 then $4 else size end,
			sha256 = $5, state = $6, error = $7 where id = $1 returning message_id`,
			f.ID, plainText(f.Name), f.Mime, f.Size, f.SHA256, f.State, reason).Scan(&messageID)
		if errors.Is(err, pgx.ErrNoRows) || (err == nil && messageID == nil) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("recording fetched file: %w", err)
		}
		var chatID string
		var body []byte
		if err := tx.QueryRow(ctx, `select chat_id, body from messages where id = $1 for update`, *messageID).Scan(&chatID, &body); err != nil {
			return fmt.Errorf("reading the file's message: %w", err)
		}
		var content message.Content
		if err := json.Unmarshal(body, &content); err != nil {
			return fmt.Errorf("reading body of message %s: %w", *messageID, err)
		}
		for i := range content.Files {
			if file := &content.Files[i]; file.ID == f.ID {
				file.State = f.State
				if f.State == message.FileReady {
					file.Name, file.Mime, file.Size = f.Name, f.Mime, f.Size
				}
			}
		}
		batch := &pgx.Batch{}
		batch.Queue(`update messages set body = $2 where id = $1`, *messageID, contentJSON(&content))
		if reason != "" {
			batch.Queue(`insert into message_log (message_id, what, detail) values ($1, 'file', jsonb_build_object('file', $2::text, 'state', $3::text, 'reason', $4::text))`, *messageID, f.ID, f.State, reason)
		}
		batch.Queue(eventOfMessage, *messageID)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("updating the file's message: %w", err)
		}
		return nil
	})
}
