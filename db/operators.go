package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"switchboard"
)

const operatorColumns = `id, login, name, role, avatar, skills, capacity, presence, disabled, created_at`

func scanOperator(row pgx.CollectableRow) (switchboard.Operator, error) {
	var o switchboard.Operator
	err := row.Scan(&o.ID, &o.Login, &o.Name, &o.Role, &o.Avatar, &o.Skills, &o.Capacity, &o.Presence, &o.Disabled, &o.CreatedAt)
	utc(&o.CreatedAt)
	return o, err
}

// AddOperator stores a new operator; a login that is taken is ErrConflict.
func (d *DB) AddOperator(ctx context.Context, o switchboard.Operator, passwordHash string) (switchboard.Operator, error) {
	o.ID = NewID()
	_, err := d.pool.Exec(ctx, `insert into operators (id, login, name, role, avatar, password_hash, skills, capacity) values ($1, $2, $3, $4, $5, $6, $7, $8)`,
		o.ID, o.Login, o.Name, o.Role, o.Avatar, passwordHash, append([]string{}, o.Skills...), o.Capacity)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23505" {
		return o, fmt.Errorf("login %q is taken: %w", o.Login, switchboard.ErrConflict)
	}
	if err != nil {
		return o, fmt.Errorf("storing operator: %w", err)
	}
	return d.Operator(ctx, o.ID)
}

// SetOperator changes an operator. A new password, role or disabling ends their sessions.
func (d *DB) SetOperator(ctx context.Context, id string, c switchboard.OperatorChange) (switchboard.Operator, error) {
	err := d.tx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update operators set name = coalesce($2, name), avatar = coalesce($3, avatar), password_hash = coalesce($4, password_hash),
			role = coalesce($5, role), skills = coalesce($6, skills), capacity = coalesce($7, capacity), disabled = coalesce($8, disabled) where id = $1`,
			id, c.Name, c.Avatar, c.PasswordHash, c.Role, c.Skills, c.Capacity, c.Disabled)
		if err != nil {
			return fmt.Errorf("changing operator: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("operator %s: %w", id, switchboard.ErrNotFound)
		}
		if c.PasswordHash != nil || c.Role != nil || (c.Disabled != nil && *c.Disabled) {
			if _, err := tx.Exec(ctx, `delete from sessions where operator_id = $1`, id); err != nil {
				return fmt.Errorf("ending the operator's sessions: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return switchboard.Operator{}, err
	}
	return d.Operator(ctx, id)
}

// Operator returns one operator, or ErrNotFound.
func (d *DB) Operator(ctx context.Context, id string) (switchboard.Operator, error) {
	return d.oneOperator(ctx, `id = $1`, id)
}

// OperatorByLogin returns one operator, or ErrNotFound.
func (d *DB) OperatorByLogin(ctx context.Context, login string) (switchboard.Operator, error) {
	return d.oneOperator(ctx, `login = $1`, login)
}

func (d *DB) oneOperator(ctx context.Context, where, arg string) (switchboard.Operator, error) {
	rows, err := d.pool.Query(ctx, `select `+operatorColumns+` from operators where `+where, arg)
	if err != nil {
		return switchboard.Operator{}, fmt.Errorf("reading operator: %w", err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, scanOperator)
	if errors.Is(err, pgx.ErrNoRows) {
		return o, fmt.Errorf("operator %s: %w", arg, switchboard.ErrNotFound)
	}
	if err != nil {
		return o, fmt.Errorf("reading operator: %w", err)
	}
	return o, nil
}

// Operators returns all operators by login.
func (d *DB) Operators(ctx context.Context) ([]switchboard.Operator, error) {
	rows, err := d.pool.Query(ctx, `select `+operatorColumns+` from operators order by login`)
	if err != nil {
		return nil, fmt.Errorf("reading operators: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanOperator)
	if err != nil {
		return nil, fmt.Errorf("reading operators: %w", err)
	}
	return list, nil
}

// RemoveOperator deletes an operator with their sessions. Their open chats go
// back to the queue; their messages keep their name.
func (d *DB) RemoveOperator(ctx context.Context, id string) error {
	return d.tx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `delete from operators where id = $1`, id)
		if err != nil {
			return fmt.Errorf("removing operator: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("operator %s: %w", id, switchboard.ErrNotFound)
		}
		_, err = tx.Exec(ctx, `with logged as (insert into chat_log (chat_id, account_id, seq, what, former_id, since)
				select id, account_id, last_seq, 'queued', operator_id, served_since from chats where operator_id = $1 and state = 'open'),
			freed as (update chats set state = 'new', operator_id = null, queued_at = now(), served_since = null
				where operator_id = $1 and state in ('offered', 'open') returning id)
			insert into events (type, chat_id, former_operator_id, everyone) select 'chat.offered', id, $1, true from freed`, id)
		if err != nil {
			return fmt.Errorf("freeing the operator's chats: %w", err)
		}
		return nil
	})
}

// PasswordHash returns the operator with the login and their password's hash;
// ErrNotFound also for disabled ones.
func (d *DB) PasswordHash(ctx context.Context, login string) (switchboard.Operator, string, error) {
	o, err := d.OperatorByLogin(ctx, login)
	if err != nil {
		return o, "", err
	}
	if o.Disabled {
		return o, "", fmt.Errorf("operator %s is disabled: %w", login, switchboard.ErrNotFound)
	}
	var hash string
	if err := d.pool.QueryRow(ctx, `select password_hash from operators where id = $1`, o.ID).Scan(&hash); err != nil {
		return o, "", fmt.Errorf("reading password hash: %w", err)
	}
	return o, hash, nil
}

// AddSession stores a session by the hash of its token.
func (d *DB) AddSession(ctx context.Context, operatorID string, tokenHash []byte, expires time.Time) error {
	batch := &pgx.Batch{}
	batch.Queue(`insert into sessions (token_hash, operator_id, expires_at) values ($1, $2, $3)`, tokenHash, operatorID, expires)
	batch.Queue(`delete from sessions where expires_at < now() - interval '1 day'`)
	if err := d.pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("storing session: %w", err)
	}
	return nil
}

// Session returns the operator of a live session, and when it expires.
func (d *DB) Session(ctx context.Context, tokenHash []byte) (switchboard.Operator, time.Time, error) {
	var expires time.Time
	rows, err := d.pool.Query(ctx, `select o.id, o.login, o.name, o.role, o.avatar, o.skills, o.capacity, o.presence, o.disabled, o.created_at, s.expires_at
		from sessions s join operators o on o.id = s.operator_id where s.token_hash = $1 and s.expires_at > now() and not o.disabled`, tokenHash)
	if err != nil {
		return switchboard.Operator{}, expires, fmt.Errorf("reading session: %w", err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (o switchboard.Operator, err error) {
		err = row.Scan(&o.ID, &o.Login, &o.Name, &o.Role, &o.Avatar, &o.Skills, &o.Capacity, &o.Presence, &o.Disabled, &o.CreatedAt, &expires)
		return o, err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return o, expires, fmt.Errorf("session: %w", switchboard.ErrNotFound)
	}
	if err != nil {
		return o, expires, fmt.Errorf("reading session: %w", err)
	}
	return o, expires, nil
}

// EndSession forgets a session.
func (d *DB) EndSession(ctx context.Context, tokenHash []byte) error {
	if _, err := d.pool.Exec(ctx, `delete from sessions where token_hash = $1`, tokenHash); err != nil {
		return fmt.Errorf("ending session: %w", err)
	}
	return nil
}

// LiveSessions returns those of the given token hashes whose sessions still
// hold, so that a hub finds the ones that were ended elsewhere.
func (d *DB) LiveSessions(ctx context.Context, tokenHashes [][]byte) ([][]byte, error) {
	rows, err := d.pool.Query(ctx, `select s.token_hash from sessions s join operators o on o.id = s.operator_id
		where s.token_hash = any($1) and s.expires_at > now() and not o.disabled`, tokenHashes)
	if err != nil {
		return nil, fmt.Errorf("reading sessions: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[[]byte])
}

// LoginBlocked tells until when logins for any of the keys (login, address) are refused.
func (d *DB) LoginBlocked(ctx context.Context, keys []string) (until time.Time, err error) {
	err = d.pool.QueryRow(ctx, `select coalesce(max(until), 'epoch') from login_failures where key = any($1) and until > now()`, keys).Scan(&until)
	if err != nil {
		return until, fmt.Errorf("reading login failures: %w", err)
	}
	return until, nil
}

// LoginFailed counts a wrong password. After free failures within an hour each
// further one blocks the key for twice as long, from 1 s up to 15 min.
func (d *DB) LoginFailed(ctx context.Context, key string, free int) error {
	_, err := d.pool.Exec(ctx, `insert into login_failures as f (key, failures, since, until) values ($1, 1, now(), 'epoch')
		on conflict (key) do update set
			failures = case when f.since < now() - interval '1 hour' then 1 else f.failures + 1 end,
			since = case when f.since < now() - interval '1 hour' then now() else f.since end,
			until = case when f.since < now() - interval '1 hour' or f.failures < $2 then 'epoch'
				else now() + least(interval '1 second' * power(2, least(f.failures - $2, 10)), interval '15 minutes') end`, key, free)
	if err != nil {
		return fmt.Errorf("counting a failed login: %w", err)
	}
	return nil
}

// PruneLogins forgets the failures that count for nothing any more. Logins are made
// up by whoever tries them, so their rows would pile up.
func (d *DB) PruneLogins(ctx context.Context) error {
	if _, err := d.pool.Exec(ctx, `delete from login_failures where since < now() - interval '1 hour' and until < now()`); err != nil {
		return fmt.Errorf("forgetting old failed logins: %w", err)
	}
	return nil
}

// LoginSucceeded forgets the failures of keys.
func (d *DB) LoginSucceeded(ctx context.Context, keys []string) error {
	if _, err := d.pool.Exec(ctx, `delete from login_failures where key = any($1)`, keys); err != nil {
		return fmt.Errorf("forgetting failed logins: %w", err)
	}
	return nil
}

// AddAPIKey stores a key by its hash.
func (d *DB) AddAPIKey(ctx context.Context, name string, hash []byte) (switchboard.APIKey, error) {
	k := switchboard.APIKey{ID: NewID(), Name: name}
	if err := d.pool.QueryRow(ctx, `insert into api_keys (id, name, key_hash) values ($1, $2, $3) returning created_at`, k.ID, name, hash).Scan(&k.CreatedAt); err != nil {
		return k, fmt.Errorf("storing API key: %w", err)
	}
	utc(&k.CreatedAt)
	return k, nil
}

// APIKeys returns all keys, the revoked ones too.
func (d *DB) APIKeys(ctx context.Context) ([]switchboard.APIKey, error) {
	rows, err := d.pool.Query(ctx, `select id, name, created_at, used_at, revoked_at from api_keys order by created_at`)
	if err != nil {
		return nil, fmt.Errorf("reading API keys: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[switchboard.APIKey])
	if err != nil {
		return nil, fmt.Errorf("reading API keys: %w", err)
	}
	for i := range list {
		utc(&list[i].CreatedAt, list[i].UsedAt, list[i].RevokedAt)
	}
	return list, nil
}

// RevokeAPIKey ends a key, by id.
func (d *DB) RevokeAPIKey(ctx context.Context, id string) error {
	tag, err := d.pool.Exec(ctx, `update api_keys set revoked_at = now() where id = $1 and revoked_at is null`, id)
	if err != nil {
		return fmt.Errorf("revoking API key: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("API key %s: %w", id, switchboard.ErrNotFound)
	}
	return nil
}

// APIKeyByHash returns the id and name of a key that is not revoked.
func (d *DB) APIKeyByHash(ctx context.Context, hash []byte) (id, name string, err error) {
	// The time of use is for people; once a minute is fine and saves writes.
	err = d.pool.QueryRow(ctx, `with k as (select id, name, used_at from api_keys where key_hash = $1 and revoked_at is null),
		u as (update api_keys a set used_at = now() from k where a.id = k.id and (k.used_at is null or k.used_at < now() - interval '1 minute'))
		select id, name from k`, hash).Scan(&id, &name)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", "", fmt.Errorf("API key: %w", switchboard.ErrNotFound)
	}
	if err != nil {
		return "", "", fmt.Errorf("reading API key: %w", err)
	}
	return id, name, nil
}

// Audit notes who did what.
func (d *DB) Audit(ctx context.Context, actor, action, target string, detail any) error {
	if detail == nil {
		detail = struct{}{}
	}
	if _, err := d.pool.Exec(ctx, `insert into audit (actor, action, target, detail) values ($1, $2, $3, $4)`, actor, action, target, detail); err != nil {
		return fmt.Errorf("writing the audit journal: %w", err)
	}
	return nil
}
