package db

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"switchboard"
	"switchboard/internal/auth"
)

// Audited makes a change and its entry in the journal one: all of the database's
// methods that do calls with the context it is given work in one transaction, which
// ends with the entry. So there is no change without an entry, and none that is told
// of but did not happen. Do returns on what it acted and what to tell of it: a
// switchboard.Change is kept as what was and what is. The address is ctx's
// (auth.Address). Do may run again after a deadlock, must not use its context from
// several goroutines or keep it, and must be quick, since what it changed is locked.
func (d *DB) Audited(ctx context.Context, actor, action string, do func(ctx context.Context) (target string, detail any, err error)) error {
	return d.tx(ctx, func(tx pgx.Tx) error {
		target, detail, err := do(context.WithValue(ctx, carriedKey{}, tx))
		if err != nil {
			return err
		}
		return writeAudit(ctx, tx, actor, action, target, detail)
	})
}

// held is what reads of one thing end with: inside of Audited nobody else changes it
// until the entry, which tells what was before, is written.
func held(ctx context.Context) string {
	if ctx.Value(carriedKey{}) == nil {
		return ""
	}
	return " for no key update"
}

// writeAudit writes an entry, in the transaction of what it tells.
func writeAudit(ctx context.Context, on interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, actor, action, target string, detail any) error {
	var before, after any
	if c, ok := detail.(switchboard.Change); ok {
		before, after, detail = c.Before, c.After, c.Detail
	}
	if detail == nil {
		detail = struct{}{}
	}
	columns := make([][]byte, 3)
	for i, v := range []any{detail, before, after} {
		if v == nil {
			continue
		}
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("writing the audit journal: %w", err)
		}
		// Postgres takes every JSON but one with the character 0 in a text.
		columns[i] = []byte(strings.ReplaceAll(string(text), `\u0000`, `\ufffd`))
	}
	if _, err := on.Exec(ctx, `insert into audit (actor, address, action, target, detail, before, after) values ($1, $2, $3, $4, $5, $6, $7)`,
		plainText(actor), auth.Address(ctx), action, plainText(target), columns[0], columns[1], columns[2]); err != nil {
		return fmt.Errorf("writing the audit journal: %w", err)
	}
	return nil
}

// AuditLog returns the journal's entries of the filter, newest first.
func (d *DB) AuditLog(ctx context.Context, f switchboard.AuditFilter, limit int) ([]switchboard.AuditEntry, error) {
	prefix := ""
	if p, ok := strings.CutSuffix(f.Action, "*"); ok {
		f.Action, prefix = "", p
	}
	rows, err := d.pool.Query(ctx, `select id, at, actor, address, action, target, detail, before, after from audit
		where ($1 = 0 or id < $1) and ($2 = '' or actor = $2) and ($3 = '' or target = $3) and ($4 = '' or action = $4) and ($5 = '' or starts_with(action, $5))
			and ($6::timestamptz is null or at >= $6) and ($7::timestamptz is null or at < $7)
		order by id desc limit $8`, f.Before, plainText(f.Actor), plainText(f.Target), plainText(f.Action), plainText(prefix), f.From, f.To, limit)
	if err != nil {
		return nil, fmt.Errorf("reading the audit journal: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e switchboard.AuditEntry, err error) {
		err = row.Scan(&e.ID, &e.At, &e.Actor, &e.Address, &e.Action, &e.Target, &e.Detail, &e.Before, &e.After)
		utc(&e.At)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the audit journal: %w", err)
	}
	return list, nil
}
