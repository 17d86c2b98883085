package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Partitions of updates begin on Mondays, 00:00 UTC. A key is unique within its
// week; queueAppend looks into the week before as well, during the first
// dedupHorizon of a week, so that an update which a platform delivers again is
// known for that long at least. Platforms repeat for a day or less, as far as they
// say; a repair by upkeep looks back for a day.
const (
	week         = 7 * 24 * time.Hour
	dedupHorizon = 4 * 24 * time.Hour
	weeksAhead   = 4
)

func weekOf(t time.Time) time.Time {
	day := t.UTC().Truncate(24 * time.Hour)
	return day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
}

// Partitions makes the partitions of the weeks to come and drops those whose
// updates are all older than keep and done with: normalised, and not in quarantine.
// It gives way to whoever works on the tables, so that a call may achieve nothing.
func (d *DB) Partitions(ctx context.Context, now time.Time, keep time.Duration) (dropped []string, err error) {
	for n := range weeksAhead {
		from := weekOf(now).Add(time.Duration(n) * week)
		if err := d.addPartition(ctx, from); err != nil {
			return nil, err
		}
	}
	rows, err := d.pool.Query(ctx, `select c.relname, (regexp_match(pg_get_expr(c.relpartbound, c.oid), $r$TO \('([^']+)'\)$r$))[1]::timestamptz as ends
		from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'updates'::regclass`)
	if err != nil {
		return nil, fmt.Errorf("listing partitions: %w", err)
	}
	type partition struct {
		Name string
		Ends *time.Time // nil of the one for all other times
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[partition])
	if err != nil {
		return nil, fmt.Errorf("listing partitions: %w", err)
	}
	for _, p := range list {
		if p.Ends == nil || p.Ends.After(now.Add(-keep)) {
			continue
		}
		gone, err := d.dropPartition(ctx, p.Name)
		if err != nil {
			return dropped, err
		}
		if gone {
			dropped = append(dropped, p.Name)
		}
	}
	return dropped, nil
}

// briefly bounds how long everybody else waits for us: whoever asks for a lock
// behind ours waits, too.
func (d *DB) briefly(ctx context.Context, do func(tx pgx.Tx) error) error {
	return d.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local lock_timeout = '1s'`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1, 0)`, lockPartitions); err != nil {
			return err
		}
		return do(tx)
	})
}

func (d *DB) addPartition(ctx context.Context, from time.Time) error {
	name := "updates_" + from.Format("20060102")
	return d.briefly(ctx, func(tx pgx.Tx) error {
		var covered bool
		// The first partition ends with the week in which it was made.
		err := tx.QueryRow(ctx, `select to_regclass($1) is not null or exists (select 1 from pg_inherits i join pg_class c on c.oid = i.inhrelid
			where i.inhparent = 'updates'::regclass and c.relname = 'updates_first'
			and (regexp_match(pg_get_expr(c.relpartbound, c.oid), $r$TO \('([^']+)'\)$r$))[1]::timestamptz > $2)`, name, from).Scan(&covered)
		if err != nil || covered {
			return err
		}
		for _, s := range []string{
			`create table ` + name + ` (like updates including defaults)`,
			`create unique index on ` + name + ` (account_id, dedup_key)`,
			`create index on ` + name + ` (lane, id)`,
			// By itself: attaching asks less of the parent than creating in place.
			fmt.Sprintf(`alter table updates attach partition %s for values from ('%s') to ('%s')`, name, from.Format(time.RFC3339), from.Add(week).Format(time.RFC3339)),
		} {
			if _, err := tx.Exec(ctx, s); err != nil {
				return fmt.Errorf("making partition %s: %w", name, err)
			}
		}
		return nil
	})
}

func (d *DB) dropPartition(ctx context.Context, name string) (gone bool, err error) {
	table := pgx.Identifier{name}.Sanitize()
	err = d.briefly(ctx, func(tx pgx.Tx) error {
		var needed bool
		if err := tx.QueryRow(ctx, `select exists (select 1 from lanes l where exists (select 1 from `+table+` u where u.lane = l.id and u.id > l.done_id))
			or exists (select 1 from quarantine q join `+table+` u on u.lane = q.lane and u.id = q.update_id where q.resolved_at is null)`).Scan(&needed); err != nil {
			return fmt.Errorf("looking into partition %s: %w", name, err)
		}
		if needed {
			return nil
		}
		if _, err := tx.Exec(ctx, `drop table `+table); err != nil {
			return fmt.Errorf("dropping partition %s: %w", name, err)
		}
		gone = true
		return nil
	})
	return gone && err == nil, err
}
