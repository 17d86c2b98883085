package db

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"switchboard"
	"switchboard/internal/queue"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
)

// Lanes is how many mailboxes inbound updates fall into. It bounds how many
// batches are normalised at once; more lanes mean smaller, dearer batches. The
// rows of table lanes must match.
const Lanes = 32

// Classes of advisory locks (the first key of the two-key form).
const (
	lockLaneAppend = 7301 // held while a lane's rows are inserted, until commit
	lockLaneDrain  = 7302 // held while a lane's batch is normalised, until commit
	lockMemory     = 7303 // see BusLock
	lockShown      = 7304 // held while shown messages are noted, until commit
	lockAlias      = 7305 // see aliasLock
	lockPartitions = 7306 // held while partitions are made or dropped
	lockCampaign   = 7307 // see frequencyLock
)

// LaneOf is the lane of a chat's updates.
func LaneOf(accountID, chatKey string) int {
	h := fnv.New32a()
	h.Write([]byte(accountID))
	h.Write([]byte{0})
	h.Write([]byte(chatKey))
	return int(h.Sum32() % Lanes)
}

// Append stores updates durably, in one transaction and (while their lanes are
// being drained, which is the rule under load) in one round trip. Updates whose
// (account, dedup key) is stored already are passed over. The order of updates
// is kept inside a chat.
//
// A lane that nobody drains gets its job in a second transaction. If the
// process dies between the two, MendMailboxes finds the lane within seconds.
func (d *DB) Append(ctx context.Context, updates []queue.RawUpdate) error {
	if len(updates) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	touched := queueAppend(batch, updates, d.dedup)
	var idle []int32
	batch.Queue(`select id from lanes where id = any($1) and not draining order by id`, touched).Query(func(rows pgx.Rows) (err error) {
		idle, err = pgx.CollectRows(rows, pgx.RowTo[int32])
		return err
	})
	// One batch without begin is one transaction.
	if err := d.hot.SendBatch(ctx, batch).Close(); err != nil {
		return unavailable(fmt.Errorf("appending %d updates: %w", len(updates), err))
	}
	if len(idle) == 0 {
		return nil
	}
	// The updates are stored: what remains must not depend on the caller's patience.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := d.tx(ctx, func(tx pgx.Tx) error { return d.wakeLanes(ctx, tx, idle) }); err != nil {
		d.log.WarnContext(ctx, "stored updates have no drain job yet; the lanes will be found", "lanes", len(idle), "error", err)
	}
	return nil
}

// unavailable marks errors of an absent database as switchboard.ErrUnavailable.
func unavailable(err error) error {
	if err != nil && IsUnavailable(err) {
		return fmt.Errorf("%w: %w", switchboard.ErrUnavailable, err)
	}
	return err
}

// queueAppend adds the statements that store updates, and returns the lanes
// that they fall into. The lanes' append locks make ids rise in commit order
// inside each lane: whoever reads a lane up to id n has seen every row below n
// that will ever be. They are taken in rising order, so that two appends can't
// deadlock.
func queueAppend(batch *pgx.Batch, updates []queue.RawUpdate, horizon time.Duration) (touched []int32) {
	n := len(updates)
	lanes := make([]int32, n)
	accounts, keys, chats := make([]string, n), make([]string, n), make([]string, n)
	orders, raws := make([]int64, n), make([][]byte, n)
	for i := range updates {
		u := &updates[i]
		accounts[i], keys[i], chats[i], orders[i], raws[i] = u.AccountID, keyText(u.DedupKey), keyText(u.ChatKey), u.Order, u.Raw
		lanes[i] = int32(LaneOf(u.AccountID, chats[i]))
	}
	touched = slices.Clone(lanes)
	slices.Sort(touched)
	touched = slices.Compact(touched)
	batch.Queue(`select pg_advisory_xact_lock($1, l) from unnest($2::int[]) l`, lockLaneAppend, touched)
	// The time of this statement, which began with the locks in hand, decides on the
	// week: who inserts the same key later sees it, in its own week or the one before.
	batch.Queue(`insert into updates (lane, account_id, dedup_key, chat_key, ord, raw, received_at)
		select r.*, statement_timestamp() from unnest($1::int[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bytea[]) r (lane, account, key, chat, ord, raw)
		where statement_timestamp() > date_trunc('week', statement_timestamp(), 'UTC') + $7::interval
		or not exists (select 1 from updates u where u.account_id = r.account and u.dedup_key = r.key
			and u.received_at >= date_trunc('week', statement_timestamp(), 'UTC') - interval '7 days' and u.received_at < date_trunc('week', statement_timestamp(), 'UTC'))
		on conflict do nothing`, lanes, accounts, keys, chats, orders, raws, horizon)
	return touched
}

// append stores updates as part of tx.
func (d *DB) append(ctx context.Context, tx pgx.Tx, updates []queue.RawUpdate) error {
	if len(updates) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	touched := queueAppend(batch, updates, d.dedup)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("appending %d updates: %w", len(updates), err)
	}
	return d.wakeLanes(ctx, tx, touched)
}

// wakeLanes gives a drain job to those of the lanes that have none.
func (d *DB) wakeLanes(ctx context.Context, tx pgx.Tx, lanes []int32) error {
	rows, err := tx.Query(ctx, `update lanes set draining = true where id in (select id from lanes where id = any($1) order by id for update) and not draining returning id`, lanes)
	if err != nil {
		return fmt.Errorf("waking lanes: %w", err)
	}
	idle, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return fmt.Errorf("waking lanes: %w", err)
	}
	jobs := make([]river.JobArgs, len(idle))
	for i, lane := range idle {
		jobs[i] = queue.DrainArgs{Lane: int(lane)}
	}
	return d.jobs.insert(ctx, tx, jobs...)
}

// AppendPolled stores what a poller got together with its new offset, if epoch
// is still the account's: a poller that was paused while another took over
// changes nothing and gets ErrFenced.
func (d *DB) AppendPolled(ctx context.Context, accountID string, epoch, offset int64, updates []queue.RawUpdate) error {
	return d.hotTx(ctx, func(tx pgx.Tx) error {
		if err := d.append(ctx, tx, updates); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `update accounts set poll_offset = $3 where id = $1 and poll_epoch = $2`, accountID, epoch, offset)
		if err != nil {
			return fmt.Errorf("storing poll offset: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return queue.ErrFenced
		}
		return nil
	})
}

// BeginPolling makes the caller the account's poller: it raises the fencing
// epoch, so that a former poller's writes fail, and returns it with the offset.
func (d *DB) BeginPolling(ctx context.Context, accountID string) (epoch, offset int64, err error) {
	err = d.pool.QueryRow(ctx, `update accounts set poll_epoch = poll_epoch + 1 where id = $1 returning poll_epoch, poll_offset`, accountID).Scan(&epoch, &offset)
	if err != nil {
		return 0, 0, fmt.Errorf("taking over polling of account %s: %w", accountID, err)
	}
	return epoch, offset, nil
}

// LeasePolling gives the account's polling to holder for d, or prolongs it, and
// reports whether it is holder's. An elected holder takes it at once from one
// that was elected before, never from one that stands in while nobody can be
// elected. What is polled is fenced by the epoch either way.
func (d *DB) LeasePolling(ctx context.Context, accountID, holder string, elected bool, lease time.Duration) (bool, error) {
	if elected {
		holder = electedPrefix + holder
	}
	tag, err := d.pool.Exec(ctx, `update accounts set poll_lease = $2, poll_lease_until = now() + $3
		where id = $1 and (poll_lease = $2 or poll_lease_until < now() or ($4 and starts_with(poll_lease, $5)))`, accountID, holder, lease, elected, electedPrefix)
	if err != nil {
		return false, fmt.Errorf("leasing polling of account %s: %w", accountID, err)
	}
	return tag.RowsAffected() == 1, nil
}

// electedPrefix marks the leases of elected holders.
const electedPrefix = "elected "

// ReleasePolling ends holder's lease early.
func (d *DB) ReleasePolling(ctx context.Context, accountID, holder string) error {
	if _, err := d.pool.Exec(ctx, `update accounts set poll_lease_until = '-infinity' where id = $1 and poll_lease in ($2, $3)`, accountID, holder, electedPrefix+holder); err != nil {
		return fmt.Errorf("releasing polling of account %s: %w", accountID, err)
	}
	return nil
}
