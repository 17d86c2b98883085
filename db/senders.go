package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"switchboard"
)

const ruleColumns = `id, position, account_id, platform, traffic_class, pattern, sender, created_at`

// SenderRules returns the rules of the sender's name in their order.
func (d *DB) SenderRules(ctx context.Context) ([]switchboard.SenderRule, error) {
	rows, err := d.pool.Query(ctx, `select `+ruleColumns+` from sender_rules order by position, id`)
	if err != nil {
		return nil, fmt.Errorf("reading sender rules: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[switchboard.SenderRule])
	if err != nil {
		return nil, fmt.Errorf("reading sender rules: %w", err)
	}
	for i := range list {
		utc(&list[i].CreatedAt)
	}
	return list, nil
}

// AddSenderRule stores a rule.
func (d *DB) AddSenderRule(ctx context.Context, r switchboard.SenderRule) (switchboard.SenderRule, error) {
	r.ID = NewID()
	err := d.rule(ctx, &r, `insert into sender_rules (id, position, account_id, platform, traffic_class, pattern, sender) values ($1, $2, $3, $4, $5, $6, $7) returning `+ruleColumns,
		r.ID, r.Position, r.AccountID, r.Platform, r.TrafficClass, plainText(r.Pattern), plainText(r.Sender))
	return r, err
}

// SetSenderRule replaces the rule with r's id and returns what it was, or
// ErrNotFound.
func (d *DB) SetSenderRule(ctx context.Context, r switchboard.SenderRule) (before switchboard.SenderRule, err error) {
	err = d.rule(ctx, &before, `with b as (select `+ruleColumns+` from sender_rules where id = $1 for update),
		u as (update sender_rules set position = $2, account_id = $3, platform = $4, traffic_class = $5, pattern = $6, sender = $7 where id = $1)
		select `+ruleColumns+` from b`,
		r.ID, r.Position, r.AccountID, r.Platform, r.TrafficClass, plainText(r.Pattern), plainText(r.Sender))
	return before, err
}

// RemoveSenderRule removes a rule and returns what it was, or ErrNotFound.
func (d *DB) RemoveSenderRule(ctx context.Context, id string) (before switchboard.SenderRule, err error) {
	err = d.rule(ctx, &before, `delete from sender_rules where id = $1 returning `+ruleColumns, id)
	return before, err
}

func (d *DB) rule(ctx context.Context, r *switchboard.SenderRule, sql string, args ...any) error {
	rows, err := d.pool.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("storing sender rule: %w", err)
	}
	got, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[switchboard.SenderRule])
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("sender rule %v: %w", args[0], switchboard.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("storing sender rule: %w", err)
	}
	utc(&got.CreatedAt)
	*r = got
	return nil
}
