package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/channels"
)

// AccountsVersion is a number that rises with every change of any account.
func (d *DB) AccountsVersion(ctx context.Context) (int64, error) {
	var v int64
	if err := d.pool.QueryRow(ctx, `select version from versions where name = 'accounts'`).Scan(&v); err != nil {
		return 0, fmt.Errorf("reading the accounts' version: %w", err)
	}
	return v, nil
}

const accountColumns = `id, platform, name, state, reason, settings, secrets, created_at, updated_at::text`

type accountRow struct {
	switchboard.Account
	secrets map[string]string
	stamp   string
}

func (d *DB) scanAccount(row pgx.CollectableRow) (accountRow, error) {
	var a accountRow
	var settings, sealed []byte
	if err := row.Scan(&a.ID, &a.Platform, &a.Name, &a.State, &a.Reason, &settings, &sealed, &a.CreatedAt, &a.stamp); err != nil {
		return a, err
	}
	utc(&a.CreatedAt)
	if err := json.Unmarshal(settings, &a.Settings); err != nil {
		return a, fmt.Errorf("reading settings of account %s: %w", a.ID, err)
	}
	if sealed == nil {
		return a, nil
	}
	if d.secrets == nil {
		return a, fmt.Errorf("account %s has secrets, but there is no master key", a.ID)
	}
	plain, err := d.secrets.Open(sealed, []byte(a.ID))
	if err != nil {
		return a, fmt.Errorf("decrypting secrets of account %s (is SWITCHBOARD_MASTER_KEY the one they were stored with?): %w", a.ID, err)
	}
	if err := json.Unmarshal(plain, &a.secrets); err != nil {
		return a, fmt.Errorf("reading secrets of account %s: invalid JSON", a.ID)
	}
	return a, nil
}

// StoredAccounts returns the accounts that are not removed, secrets decrypted.
func (d *DB) StoredAccounts(ctx context.Context) ([]channels.Stored, error) {
	rows, err := d.pool.Query(ctx, `select `+accountColumns+` from accounts where state <> 'removed' order by id`)
	if err != nil {
		return nil, fmt.Errorf("reading accounts: %w", err)
	}
	list, err := pgx.CollectRows(rows, d.scanAccount)
	if err != nil {
		return nil, fmt.Errorf("reading accounts: %w", err)
	}
	stored := make([]channels.Stored, len(list))
	for i, a := range list {
		settings := maps.Clone(a.Settings)
		maps.Copy(settings, a.secrets)
		stored[i] = channels.Stored{
			Account: channels.Account{ID: a.ID, Platform: a.Platform, Name: a.Name, Settings: settings},
			State:   string(a.State), Reason: a.Reason, Stamp: a.stamp + "/" + string(a.State) + "/" + a.Reason,
		}
	}
	return stored, nil
}

// Accounts returns the accounts that are not removed, without their secrets.
func (d *DB) Accounts(ctx context.Context) ([]switchboard.Account, error) {
	rows, err := d.pool.Query(ctx, `select `+accountColumns+` from accounts where state <> 'removed' order by created_at, id`)
	if err != nil {
		return nil, fmt.Errorf("reading accounts: %w", err)
	}
	list, err := pgx.CollectRows(rows, d.scanAccount)
	if err != nil {
		return nil, fmt.Errorf("reading accounts: %w", err)
	}
	accounts := make([]switchboard.Account, len(list))
	for i, a := range list {
		accounts[i] = a.Account
	}
	return accounts, nil
}

// Account returns one account without its secrets, or ErrNotFound.
func (d *DB) Account(ctx context.Context, id string) (switchboard.Account, error) {
	a, err := d.account(ctx, d.pool, id, held(ctx))
	return a.Account, err
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (d *DB) account(ctx context.Context, q querier, id, lock string) (accountRow, error) {
	if len(wellFormed([]string{id})) == 0 {
		return accountRow{}, fmt.Errorf("account %s: %w", id, switchboard.ErrNotFound)
	}
	rows, err := q.Query(ctx, `select `+accountColumns+` from accounts where id = $1 and state <> 'removed' `+lock, id)
	if err != nil {
		return accountRow{}, fmt.Errorf("reading account: %w", err)
	}
	a, err := pgx.CollectExactlyOneRow(rows, d.scanAccount)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, fmt.Errorf("account %s: %w", id, switchboard.ErrNotFound)
	}
	if err != nil {
		return a, fmt.Errorf("reading account: %w", err)
	}
	return a, nil
}

// AddAccount stores a new account. Its id may be given beforehand, since the
// webhook's address holds it; secrets are encrypted.
func (d *DB) AddAccount(ctx context.Context, a switchboard.Account, secrets map[string]string) (switchboard.Account, error) {
	if a.ID == "" {
		a.ID = NewID()
	}
	sealed, err := d.seal(a.ID, secrets)
	if err != nil {
		return a, err
	}
	_, err = d.pool.Exec(ctx, `insert into accounts (id, platform, name, settings, secrets) values ($1, $2, $3, $4, $5)`,
		a.ID, a.Platform, a.Name, orEmpty(a.Settings), sealed)
	if err != nil {
		return a, fmt.Errorf("storing account: %w", err)
	}
	return d.Account(ctx, a.ID)
}

// SetAccount merges settings and secrets into an account's; an empty value
// takes a setting away. name "" keeps the name.
func (d *DB) SetAccount(ctx context.Context, id, name string, settings, secrets map[string]string) (switchboard.Account, error) {
	err := d.tx(ctx, func(tx pgx.Tx) error {
		a, err := d.account(ctx, tx, id, "for update")
		if err != nil {
			return err
		}
		merged, mergedSecrets := merge(a.Settings, settings), merge(a.secrets, secrets)
		sealed, err := d.seal(id, mergedSecrets)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `update accounts set name = coalesce(nullif($2, ''), name), settings = $3, secrets = $4, updated_at = now() where id = $1`,
			id, name, merged, sealed)
		if err != nil {
			return fmt.Errorf("storing account: %w", err)
		}
		return nil
	})
	if err != nil {
		return switchboard.Account{}, err
	}
	return d.Account(ctx, id)
}

// SetAccountState pauses, resumes or removes an account.
func (d *DB) SetAccountState(ctx context.Context, id string, state switchboard.AccountState, reason string) error {
	tag, err := d.pool.Exec(ctx, `update accounts set state = $2, reason = $3, updated_at = now() where id = $1 and state <> 'removed'`, id, state, reason)
	if err != nil {
		return fmt.Errorf("setting the account's state: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("account %s: %w", id, switchboard.ErrNotFound)
	}
	return nil
}

func (d *DB) seal(id string, secrets map[string]string) ([]byte, error) {
	if len(secrets) == 0 {
		return nil, nil
	}
	if d.secrets == nil {
		return nil, fmt.Errorf("storing secrets needs a master key: set SWITCHBOARD_MASTER_KEY (32 bytes, base64)")
	}
	plain, err := json.Marshal(secrets)
	if err != nil {
		return nil, err
	}
	return d.secrets.Seal(plain, []byte(id)), nil
}

func merge(old, changes map[string]string) map[string]string {
	out := maps.Clone(orEmpty(old))
	for k, v := range changes {
		if v == "" {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
