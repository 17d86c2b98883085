package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"switchboard/internal/queue"
)

// HeartbeatEvery is how often a process says that it lives.
const HeartbeatEvery = 2 * time.Second

// Heartbeat says that the process lives. It must be called before the process
// takes any job, and every HeartbeatEvery.
func (d *DB) Heartbeat(ctx context.Context, node string, roles []string, addr, version string) error {
	_, err := d.pool.Exec(ctx, `insert into nodes (id, roles, addr, version) values ($1, $2, $3, $4)
		on conflict (id) do update set seen_at = now(), roles = excluded.roles`, node, append([]string{}, roles...), addr, version)
	if err != nil {
		return fmt.Errorf("writing heartbeat: %w", err)
	}
	return nil
}

// Leave says that the process is gone and holds no job any more.
func (d *DB) Leave(ctx context.Context, node string) error {
	if _, err := d.pool.Exec(ctx, `delete from nodes where id = $1`, node); err != nil {
		return fmt.Errorf("removing heartbeat: %w", err)
	}
	return nil
}

// RescueOrphans gives jobs that dead processes were working on back to the
// queue, and returns how many. A process is dead when its heartbeat is
// 8 s old (or gone). One that was only paused may come back and go on: lanes
// are safe by their drain lock, sends by the claim's attempt number.
func (d *DB) RescueOrphans(ctx context.Context) (int64, error) {
	tag, err := d.pool.Exec(ctx, `update river_job j set state = 'available', scheduled_at = now(), attempt = greatest(attempt - 1, 0)
		where j.state = 'running' and j.kind in ('drain', 'deliver', 'fetch')
		and not exists (select 1 from nodes n where n.id = j.attempted_by[array_upper(j.attempted_by, 1)] and n.seen_at > now() - $1::interval)`, nodeDeadAfter)
	if err != nil {
		return 0, fmt.Errorf("rescuing orphaned jobs: %w", err)
	}
	return tag.RowsAffected(), nil
}

// MendMailboxes inserts the jobs of lanes and outboxes that have work but no
// job: left behind when a process died between storing updates and inserting
// the job, or when a job's completion and its rescue crossed. It returns how many were mended.
func (d *DB) MendMailboxes(ctx context.Context) (mended int, err error) {
	err = d.tx(ctx, func(tx pgx.Tx) error {
		mended = 0
		rows, err := tx.Query(ctx, `select l.id from lanes l where exists (select 1 from updates u where u.lane = l.id and u.id > l.done_id and u.received_at < now() - interval '3 seconds')
			and not exists (select 1 from river_job j where j.kind = 'drain' and j.args @> jsonb_build_object('lane', l.id)
				and j.state in ('available', 'running', 'retryable', 'scheduled', 'pending'))`)
		if err != nil {
			return fmt.Errorf("looking for stuck lanes: %w", err)
		}
		lanes, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil {
			return fmt.Errorf("looking for stuck lanes: %w", err)
		}
		for _, lane := range lanes {
			if _, err := tx.Exec(ctx, `update lanes set draining = true where id = $1 and not draining`, lane); err != nil {
				return fmt.Errorf("mending lane: %w", err)
			}
			if err := d.jobs.insert(ctx, tx, queue.DrainArgs{Lane: lane}); err != nil {
				return err
			}
		}
		rows, err = tx.Query(ctx, `select o.chat_id from outbox_chats o join (
				select distinct w.chat_id from outbox w join outbox_chats c on c.chat_id = w.chat_id and c.parked_account is null
				where w.created_at < now() - interval '10 seconds' and w.not_before < now() - interval '10 seconds' limit 1000) w using (chat_id)
			where not exists (select 1 from river_job j where j.kind = 'deliver' and j.args @> jsonb_build_object('chat_id', o.chat_id)
				and j.state in ('available', 'running', 'retryable', 'scheduled', 'pending'))
			limit 1000 for update of o skip locked`)
		if err != nil {
			return fmt.Errorf("looking for stuck outboxes: %w", err)
		}
		chats, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("looking for stuck outboxes: %w", err)
		}
		if err := d.giveJobs(ctx, tx, chats); err != nil {
			return err
		}
		mended = len(lanes) + len(chats)
		return nil
	})
	return mended, err
}

// GiveJobs gives deliver jobs to chats that have work and none.
func (d *DB) GiveJobs(ctx context.Context, chats []string) error {
	return d.tx(ctx, func(tx pgx.Tx) error { return d.giveJobs(ctx, tx, chats) })
}

func (d *DB) giveJobs(ctx context.Context, tx pgx.Tx, chats []string) error {
	if len(chats) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, `update outbox_chats set busy = true where chat_id in (
		select chat_id from outbox_chats where chat_id = any($1) and not busy order by chat_id for update)`, chats); err != nil {
		return fmt.Errorf("marking outboxes busy: %w", err)
	}
	jobs := make([]river.JobArgs, len(chats))
	for i, chat := range chats {
		jobs[i] = queue.DeliverArgs{ChatID: chat}
	}
	return d.jobs.insert(ctx, tx, jobs...)
}

// ApplyParked gives parked delivery reports to messages that became known in
// the meantime, and drops reports older than ten minutes: they are of messages
// that aren't ours.
func (d *DB) ApplyParked(ctx context.Context) error {
	return d.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, findParked); err != nil {
			return fmt.Errorf("finding the chats of parked reports: %w", err)
		}
		if _, err := tx.Exec(ctx, applyParked+applyParkedEnd); err != nil {
			return fmt.Errorf("applying parked reports: %w", err)
		}
		if _, err := tx.Exec(ctx, `delete from parked_receipts where parked_at < now() - interval '10 minutes'`); err != nil {
			return fmt.Errorf("dropping parked reports: %w", err)
		}
		return nil
	})
}

// PruneNodes forgets processes that died long ago.
func (d *DB) PruneNodes(ctx context.Context) error {
	_, err := d.pool.Exec(ctx, `delete from nodes where seen_at < now() - interval '1 hour'`)
	if err != nil {
		return fmt.Errorf("pruning nodes: %w", err)
	}
	return nil
}
