package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// follower is what a process knows of gaps in the ids of events, for one reader
// with a durable cursor (a row of followers). See Tail for how a gap is settled:
// what is proven here is true whoever moves the cursor meanwhile.
type follower struct {
	name           string
	gapXact, gapTo int64
	idle           bool // the last look found nothing
}

// followed is what a call of follow did.
type followed struct {
	events  int
	more    bool // there are more: come back at once
	blocked bool // an earlier event may still come: come back in some milliseconds
}

// follow hands the messages whose status may have changed (message.updated), of the
// settled events after the follower's cursor, to apply, at most limit events, each message once, in order, and moves the cursor
// in the same transaction: what apply does happens once, whatever dies. One process
// follows at a time; others do nothing. A follower's row is made by a migration.
func (d *DB) follow(ctx context.Context, f *follower, limit int, apply func(ctx context.Context, tx pgx.Tx, messageIDs []string) error) (did followed, err error) {
	if f.idle {
		// Without a lock, which is a write: an installation without traffic does nothing.
		if err := d.hot.QueryRow(ctx, `select not exists (select 1 from events where id > (select pos from followers where name = $1))`, f.name).Scan(&f.idle); err != nil || f.idle {
			return followed{}, err
		}
	}
	err = d.hotTx(ctx, func(tx pgx.Tx) error {
		did = followed{}
		var pos int64
		err := tx.QueryRow(ctx, `select pos from followers where name = $1 for update skip locked`, f.name).Scan(&pos)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // another process is at it
		}
		if err != nil {
			return fmt.Errorf("reading the cursor: %w", err)
		}
		var ids, updated []int64
		var messages []string
		var xmin int64
		rows, err := tx.Query(ctx, `select id, coalesce(case when type = 'message.updated' then message_id end::text, ''),
			(select pg_snapshot_xmin(pg_current_snapshot())::text::bigint) from events where id > $1 order by id limit $2`, pos, limit)
		if err != nil {
			return fmt.Errorf("reading events: %w", err)
		}
		for rows.Next() {
			var id int64
			var message string
			if err := rows.Scan(&id, &message, &xmin); err != nil {
				return fmt.Errorf("reading events: %w", err)
			}
			ids, messages = append(ids, id), append(messages, message)
		}
		if rows.Err() != nil {
			return fmt.Errorf("reading events: %w", rows.Err())
		}
		settled := int64(0)
		if f.gapXact != 0 && xmin >= f.gapXact {
			settled = f.gapTo
		}
		start, seen, distinct := pos, map[string]bool{}, []string(nil)
		for i, id := range ids {
			if id != pos+1 && id > settled {
				if f.gapXact == 0 || id > f.gapTo {
					after, err := d.drawXact(ctx)
					if err != nil {
						return err
					}
					f.gapXact, f.gapTo = after, ids[len(ids)-1]
				}
				did.blocked = true
				break
			}
			pos = id
			updated = append(updated, id)
			if m := messages[i]; m != "" && !seen[m] {
				seen[m] = true
				distinct = append(distinct, m)
			}
		}
		did.events, did.more = len(updated), len(updated) == limit
		if pos == start {
			return nil
		}
		if len(distinct) > 0 {
			if err := apply(ctx, tx, distinct); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `update followers set pos = $2 where name = $1`, f.name, pos); err != nil {
			return fmt.Errorf("moving the cursor: %w", err)
		}
		return nil
	})
	if err != nil {
		return followed{}, fmt.Errorf("following events for %s: %w", f.name, err)
	}
	f.idle = did.events == 0 && !did.blocked
	return did, nil
}
