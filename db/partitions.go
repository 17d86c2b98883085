package db

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"switchboard/internal/queue"
)

// partitioned is a table whose rows lie in partitions of time.
type partitioned struct {
	name string
	// begin is when the partition of t begins, and next when the one after it does.
	begin, next func(t time.Time) time.Time
	ahead       int // how many are made ahead of time
	// bound is a time as the partition key's value, and ends reads it back.
	bound func(t time.Time) string
	ends  func(bound string) (time.Time, error)
	with  string // storage of a partition
	// indexes are of each partition alone, because they are unique without the key,
	// or for the parent's name; %[1]s is the partition.
	indexes []string
	// needed says by SQL whether something still needs the partition %[1]s, which
	// ends before %[2]s.
	needed string
}

// Updates lie in weeks, from Monday on (UTC). A key is unique within its week;
// queueAppend looks into the week before as well, during the first dedupHorizon of
// a week, so that an update which a platform delivers again is known for that long
// at least. Platforms repeat for a day or less, as far as they say; a repair by
// upkeep looks back for a day.
var updatesTable = partitioned{
	name: "updates", ahead: 4,
	begin: func(t time.Time) time.Time {
		day := t.UTC().Truncate(24 * time.Hour)
		return day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
	},
	next:  func(t time.Time) time.Time { return t.AddDate(0, 0, 7) },
	bound: func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	ends:  func(bound string) (time.Time, error) { return time.Parse("2006-01-02 15:04:05-07", bound) },
	indexes: []string{
		`create unique index on %[1]s (account_id, dedup_key)`,
	},
	needed: `exists (select 1 from lanes l where exists (select 1 from %[1]s u where u.lane = l.id and u.id > l.done_id))
		or exists (select 1 from quarantine q join %[1]s u on u.lane = q.lane and u.id = q.update_id where q.resolved_at is null)`,
}

const dedupHorizon = 4 * 24 * time.Hour

// Messages lie in months (UTC), by their ids.
var messagesTable = partitioned{
	name: "messages", ahead: 2,
	begin: func(t time.Time) time.Time {
		t = t.UTC()
		return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
	},
	next:  func(t time.Time) time.Time { return t.AddDate(0, 1, 0) },
	bound: firstID,
	ends: func(bound string) (time.Time, error) {
		id, err := uuid.Parse(bound)
		return time.UnixMilli(int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])).UTC(), err
	},
	with: ` with (fillfactor = 95)`,
	indexes: []string{
		`create unique index on %[1]s (chat_id, seq)`,
		`create unique index on %[1]s (chat_id, client_id) where client_id is not null`,
	},
	needed: `exists (select 1 from outbox where message_id < '%[2]s') or exists (select 1 from scheduled where message_id < '%[2]s')
		or exists (select 1 from campaign_held where message_id < '%[2]s')`,
}

// Partitions makes the partitions of the time to come and drops those that are
// wholly older than what is kept and done with: updates that are normalised and not
// in quarantine, messages that are not on their way. It gives way to whoever works
// on the tables, so that a call may achieve nothing. It returns what it dropped.
func (d *DB) Partitions(ctx context.Context, now time.Time, keep queue.Keep) (dropped []string, err error) {
	for _, t := range []struct {
		partitioned
		keep   time.Duration
		before func(ctx context.Context, end time.Time) (done bool, err error)
	}{{updatesTable, keep.Updates, nil}, {messagesTable, keep.Messages, d.dropBelongings}} {
		for from, n := t.begin(now), 0; n < t.ahead; from, n = t.next(from), n+1 {
			if err := d.addPartition(ctx, &t.partitioned, from); err != nil {
				return dropped, err
			}
		}
		if t.keep <= 0 {
			continue
		}
		list, err := d.partitionsOf(ctx, &t.partitioned)
		if err != nil {
			return dropped, err
		}
		for name, end := range list {
			if end.After(now.Add(-t.keep)) {
				continue
			}
			if t.before != nil {
				if done, err := t.before(ctx, end); err != nil || !done {
					return dropped, err
				}
			}
			gone, err := d.dropPartition(ctx, &t.partitioned, name, end)
			if err != nil {
				return dropped, err
			}
			if gone {
				dropped = append(dropped, name)
			}
		}
	}
	// Reports that name a message by its platform's id alone come within days.
	if _, err := d.pool.Exec(ctx, `delete from message_ids where created_at < $1`, now.Add(-30*24*time.Hour)); err != nil {
		return dropped, fmt.Errorf("dropping old ids of messages: %w", err)
	}
	return dropped, nil
}

const partitionEnd = `(regexp_match(pg_get_expr(c.relpartbound, c.oid), $r$TO \('([^']+)'\)$r$))[1]`

// partitionsOf returns the partitions with their ends, without the one for all
// other times.
func (d *DB) partitionsOf(ctx context.Context, t *partitioned) (map[string]time.Time, error) {
	var rows pgx.Rows
	list := map[string]time.Time{}
	err := d.tx(ctx, func(tx pgx.Tx) (err error) {
		if _, err := tx.Exec(ctx, `set local timezone = 'UTC'`); err != nil {
			return err
		}
		rows, err = tx.Query(ctx, `select c.relname, `+partitionEnd+` from pg_inherits i join pg_class c on c.oid = i.inhrelid
			where i.inhparent = $1::regclass and `+partitionEnd+` is not null`, t.name)
		if err != nil {
			return err
		}
		var name, bound string
		_, err = pgx.ForEachRow(rows, []any{&name, &bound}, func() (err error) {
			list[name], err = t.ends(bound)
			return err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing partitions of %s: %w", t.name, err)
	}
	return list, nil
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

func (d *DB) addPartition(ctx context.Context, t *partitioned, from time.Time) error {
	list, err := d.partitionsOf(ctx, t)
	if err != nil {
		return err
	}
	name := t.name + "_" + from.Format("20060102")
	if _, ok := list[name]; ok || list[t.name+"_first"].After(from) { // the first one ends with the time in which it was made
		return nil
	}
	statements := append([]string{`create table %[1]s (like ` + t.name + ` including defaults)` + t.with}, t.indexes...)
	// By itself: attaching asks less of the parent than creating in place.
	statements = append(statements, fmt.Sprintf(`alter table %s attach partition %%[1]s for values from ('%s') to ('%s')`, t.name, t.bound(from), t.bound(t.next(from))))
	err = d.briefly(ctx, func(tx pgx.Tx) error {
		var exists bool // somebody was quicker
		if err := tx.QueryRow(ctx, `select to_regclass($1) is not null`, name).Scan(&exists); err != nil || exists {
			return err
		}
		for _, s := range statements {
			if _, err := tx.Exec(ctx, fmt.Sprintf(s, name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("making partition %s: %w", name, err)
	}
	return nil
}

func (d *DB) dropPartition(ctx context.Context, t *partitioned, name string, end time.Time) (gone bool, err error) {
	table := pgx.Identifier{name}.Sanitize()
	err = d.briefly(ctx, func(tx pgx.Tx) error {
		var needed bool
		if err := tx.QueryRow(ctx, `select `+strings.NewReplacer("%[1]s", table, "%[2]s", t.bound(end)).Replace(t.needed)).Scan(&needed); err != nil {
			return err
		}
		if needed {
			return nil
		}
		if _, err := tx.Exec(ctx, `drop table `+table); err != nil {
			return err
		}
		gone = true
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("dropping partition %s: %w", name, err)
	}
	return gone, nil
}

// belongingsBatch is how many rows go in one transaction, and belongingsBatches in
// one call: the rest waits for the next one.
const (
	belongingsBatch   = 5000
	belongingsBatches = 200
	removalsBatch     = 100 // files, each a job
)

// dropBelongings drops what belongs to messages that end before end: customers'
// files, timelines, the ids of parts, and what chats did in their time.
func (d *DB) dropBelongings(ctx context.Context, end time.Time) (done bool, err error) {
	for range belongingsBatches {
		var gone int64
		for _, table := range []string{"message_log", "message_parts"} {
			tag, err := d.pool.Exec(ctx, `delete from `+table+` where ctid = any(array(select ctid from `+table+` where message_id < $1::uuid order by message_id limit $2))`, firstID(end), belongingsBatch)
			if err != nil {
				return false, fmt.Errorf("dropping rows of %s: %w", table, err)
			}
			gone += tag.RowsAffected()
		}
		tag, err := d.pool.Exec(ctx, `delete from chat_log where ctid = any(array(select ctid from chat_log where at < $1 order by at limit $2))`, end, belongingsBatch)
		if err != nil {
			return false, fmt.Errorf("dropping rows of chat_log: %w", err)
		}
		if gone += tag.RowsAffected(); gone > 0 {
			continue
		}
		n := 0
		err = d.tx(ctx, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `delete from files where id = any(array(select id from files where message_id < $1::uuid limit $2)) returning id`, firstID(end), removalsBatch)
			if err != nil {
				return err
			}
			ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			n = len(ids)
			for _, id := range ids {
				if err := d.jobs.insert(ctx, tx, queue.RemoveArgs{FileID: id}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return false, fmt.Errorf("dropping files of old messages: %w", err)
		}
		if n < removalsBatch {
			return true, nil
		}
	}
	return false, nil
}
