package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"switchboard"
	"switchboard/internal/queue"
)

const operatorColumns = `id, login, name, role, avatar, skills, capacity, presence, disabled, allow_from, created_at`

func scanOperator(row pgx.CollectableRow) (switchboard.Operator, error) {
	var o switchboard.Operator
	err := row.Scan(&o.ID, &o.Login, &o.Name, &o.Role, &o.Avatar, &o.Skills, &o.Capacity, &o.Presence, &o.Disabled, &o.AllowFrom, &o.CreatedAt)
	utc(&o.CreatedAt)
	return o, err
}

// AddOperator stores a new operator; a login that is taken is ErrConflict.
func (d *DB) AddOperator(ctx context.Context, o switchboard.Operator, passwordHash string) (switchboard.Operator, error) {
	o.ID = NewID()
	_, err := d.pool.Exec(ctx, `insert into operators (id, login, name, role, avatar, password_hash, skills, capacity, allow_from) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		o.ID, o.Login, o.Name, o.Role, o.Avatar, passwordHash, append([]string{}, o.Skills...), o.Capacity, append([]string{}, o.AllowFrom...))
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23505" {
		return o, fmt.Errorf("login %q is taken: %w", o.Login, switchboard.ErrConflict)
	}
	if err != nil {
		return o, fmt.Errorf("storing operator: %w", err)
	}
	return d.Operator(ctx, o.ID)
}

// SetOperator changes an operator. A new password, role, list of
// networks, or disabling ends their sessions.
func (d *DB) SetOperator(ctx context.Context, id string, c switchboard.OperatorChange) (switchboard.Operator, error) {
	err := d.tx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update operators set name = coalesce($2, name), avatar = coalesce($3, avatar), password_hash = coalesce($4, password_hash),
			role = coalesce($5, role), skills = coalesce($6, skills), capacity = coalesce($7, capacity), disabled = coalesce($8, disabled), allow_from = coalesce($9, allow_from) where id = $1`,
			id, c.Name, c.Avatar, c.PasswordHash, c.Role, c.Skills, c.Capacity, c.Disabled, c.AllowFrom)
		if err != nil {
			return fmt.Errorf("changing operator: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("operator %s: %w", id, switchboard.ErrNotFound)
		}
		if c.PasswordHash != nil || c.Role != nil || c.AllowFrom != nil || (c.Disabled != nil && *c.Disabled) {
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
	rows, err := d.pool.Query(ctx, `select `+operatorColumns+` from operators where `+where+held(ctx), arg)
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
	rows, err := d.pool.Query(ctx, `select o.id, o.login, o.name, o.role, o.avatar, o.skills, o.capacity, o.presence, o.disabled, o.allow_from, o.created_at, s.expires_at
		from sessions s join operators o on o.id = s.operator_id where s.token_hash = $1 and s.expires_at > now() and not o.disabled`, tokenHash)
	if err != nil {
		return switchboard.Operator{}, expires, fmt.Errorf("reading session: %w", err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (o switchboard.Operator, err error) {
		err = row.Scan(&o.ID, &o.Login, &o.Name, &o.Role, &o.Avatar, &o.Skills, &o.Capacity, &o.Presence, &o.Disabled, &o.AllowFrom, &o.CreatedAt, &expires)
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

const keyColumns = `id, name, created_at, used_at, revoked_at, rate, burst, daily, allow_from, expires_at`

func scanKey(row pgx.CollectableRow) (k switchboard.APIKey, err error) {
	err = row.Scan(&k.ID, &k.Name, &k.CreatedAt, &k.UsedAt, &k.RevokedAt, &k.Rate, &k.Burst, &k.Daily, &k.AllowFrom, &k.ExpiresAt)
	utc(&k.CreatedAt, k.UsedAt, k.RevokedAt, k.ExpiresAt)
	return k, err
}

// AddAPIKey stores a key by its hash.
func (d *DB) AddAPIKey(ctx context.Context, k switchboard.APIKey, hash []byte) (switchboard.APIKey, error) {
	k.ID, k.AllowFrom = NewID(), append([]string{}, k.AllowFrom...)
	err := d.pool.QueryRow(ctx, `insert into api_keys (id, name, key_hash, rate, burst, daily, allow_from, expires_at) values ($1, $2, $3, $4, $5, $6, $7, $8) returning created_at`,
		k.ID, k.Name, hash, k.Rate, k.Burst, k.Daily, k.AllowFrom, k.ExpiresAt).Scan(&k.CreatedAt)
	if err != nil {
		return k, fmt.Errorf("storing API key: %w", err)
	}
	utc(&k.CreatedAt, k.ExpiresAt)
	return k, nil
}

// APIKeys returns all keys, the revoked ones too.
func (d *DB) APIKeys(ctx context.Context) ([]switchboard.APIKey, error) {
	return d.apiKeys(ctx, "true")
}

// APIKey returns one key, or ErrNotFound.
func (d *DB) APIKey(ctx context.Context, id string) (switchboard.APIKey, error) {
	list, err := d.apiKeys(ctx, "id::text = $1", id)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("API key %s: %w", id, switchboard.ErrNotFound)
	}
	if err != nil {
		return switchboard.APIKey{}, err
	}
	return list[0], nil
}

func (d *DB) apiKeys(ctx context.Context, where string, args ...any) ([]switchboard.APIKey, error) {
	rows, err := d.pool.Query(ctx, `select `+keyColumns+` from api_keys where `+where+` order by created_at`+held(ctx), args...)
	if err != nil {
		return nil, fmt.Errorf("reading API keys: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanKey)
	if err != nil {
		return nil, fmt.Errorf("reading API keys: %w", err)
	}
	return list, nil
}

// SetAPIKey changes what a key may. One that was revoked is ErrNotFound.
func (d *DB) SetAPIKey(ctx context.Context, id string, c switchboard.KeyChange) (switchboard.APIKey, error) {
	forever := c.ExpiresAt != nil && c.ExpiresAt.IsZero()
	tag, err := d.pool.Exec(ctx, `update api_keys set name = coalesce($2, name), rate = coalesce($3, rate), burst = coalesce($4, burst), daily = coalesce($5, daily),
		allow_from = coalesce($6, allow_from), expires_at = case when $8 then null else coalesce($7, expires_at) end where id::text = $1 and revoked_at is null`,
		id, c.Name, c.Rate, c.Burst, c.Daily, c.AllowFrom, c.ExpiresAt, forever)
	if err != nil {
		return switchboard.APIKey{}, fmt.Errorf("changing API key: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return switchboard.APIKey{}, fmt.Errorf("API key %s: %w", id, switchboard.ErrNotFound)
	}
	return d.APIKey(ctx, id)
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

// APIKeyByHash returns a key that is neither revoked nor expired.
func (d *DB) APIKeyByHash(ctx context.Context, hash []byte) (switchboard.APIKey, error) {
	// The time of use is for people; once a minute is fine and saves writes.
	rows, err := d.pool.Query(ctx, `with k as (select `+keyColumns+` from api_keys where key_hash = $1 and revoked_at is null and (expires_at is null or expires_at > now())),
		u as (update api_keys a set used_at = now() from k where a.id = k.id and (k.used_at is null or k.used_at < now() - interval '1 minute'))
		select `+keyColumns+` from k`, hash)
	if err != nil {
		return switchboard.APIKey{}, fmt.Errorf("reading API key: %w", err)
	}
	k, err := pgx.CollectExactlyOneRow(rows, scanKey)
	if errors.Is(err, pgx.ErrNoRows) {
		return k, fmt.Errorf("API key: %w", switchboard.ErrNotFound)
	}
	if err != nil {
		return k, fmt.Errorf("reading API key: %w", err)
	}
	return k, nil
}

// TakeKeyRate takes up to n places of what a key may do at perSecond, with so many at
// once, for all processes; when there is none it tells how long to wait for one. The
// clock is the database's.
func (d *DB) TakeKeyRate(ctx context.Context, keyID string, perSecond float64, burst, n int) (got int, wait time.Duration, err error) {
	var ahead float64
	// What is free now, with a thousandth for what is lost in microseconds.
	const free = `least($4::int, greatest(0, floor($3::int - greatest(extract(epoch from r.tat - now())::float8, 0) * $2::float8 + 0.001)))`
	err = d.pool.QueryRow(ctx, `insert into key_rates as r (key_id, tat, got) values ($1, now() + make_interval(secs => least($3::int, $4::int) / $2::float8), least($3::int, $4::int))
		on conflict (key_id) do update set got = `+free+`, tat = greatest(r.tat, now()) + make_interval(secs => `+free+` / $2::float8)
		returning got, extract(epoch from tat - now())::float8`, keyID, perSecond, burst, n).Scan(&got, &ahead)
	if err != nil {
		return 0, 0, fmt.Errorf("taking of a key's rate: %w", err)
	}
	if got > 0 {
		return got, 0, nil
	}
	return 0, max(time.Duration((ahead-float64(burst-1)/perSecond)*float64(time.Second)), time.Millisecond), nil
}

// takeDaily counts n messages against a key's daily limit. It is the last thing before
// the commit, since the key's other messages wait for it.
func takeDaily(ctx context.Context, tx pgx.Tx, keyID string, limit, n int64) error {
	tag, err := tx.Exec(ctx, `insert into api_usage as u (key_id, day, messages) select $1::uuid, (now() at time zone 'UTC')::date, $3::bigint where $3::bigint <= $2::bigint
		on conflict (key_id, day) do update set messages = u.messages + $3 where u.messages + $3 <= $2`, keyID, limit, n)
	if err != nil {
		return fmt.Errorf("counting the messages of a key: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return &queue.DailyLimitError{Limit: limit, Asked: n}
	}
	return nil
}

// PruneUsage forgets the counts of former days, and failed logins older than keep in
// the audit journal: whoever tries logins can make any number of them.
func (d *DB) PruneUsage(ctx context.Context, keep time.Duration) error {
	if _, err := d.pool.Exec(ctx, `delete from api_usage where day < (now() at time zone 'UTC')::date - 40`); err != nil {
		return fmt.Errorf("forgetting the usage of keys: %w", err)
	}
	if _, err := d.pool.Exec(ctx, `delete from audit where id in (select id from audit where action = 'session.refused' and at < now() - $1::interval limit 20000)`, keep); err != nil {
		return fmt.Errorf("forgetting old failed logins: %w", err)
	}
	return nil
}
