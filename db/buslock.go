package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// BusLock takes the database for a kind of bus: processes with the in-process
// bus exclude every other process, processes with ZooKeeper exclude those with
// the in-process one. Without it two processes would each believe that nobody
// else needs to be told.
//
// The lock lives as long as its connection. Run sees to it that it outlives the
// restarts of Postgres.
type BusLock struct {
	d      *DB
	single bool
	conn   *pgxpool.Conn // nil while there is none
	pid    int32         // of conn's server process, or of the last one
	began  time.Time     // when that started: ids are used again
}

const (
	// busLockCheck is how often Run looks whether the lock's connection lives.
	busLockCheck = 2 * time.Second
	// busLockPatience is how long Run asks again when another process has the lock:
	// one that was refused may hold it for a moment.
	busLockPatience = 10 * time.Second
)

var (
	errDatabaseTaken  = errors.New("another process uses this database; several processes need SWITCHBOARD_ZOOKEEPER_SERVERS on every one of them")
	errDatabaseSingle = errors.New("a process with the in-process bus uses this database; give it SWITCHBOARD_ZOOKEEPER_SERVERS too, or stop it")
)

// HoldBus takes the lock, or fails with what to do about it: within some 5 s when
// somebody else has it, and some 25 s when the database does not answer. A
// process with the in-process bus calls it before its first heartbeat: all former
// ones are forgotten.
func (d *DB) HoldBus(ctx context.Context, single bool) (*BusLock, error) {
	l := &BusLock{d: d, single: single}
	// A process that was just killed may hold the lock for a moment still.
	began := time.Now()
	for {
		err := l.take(ctx)
		if err == nil && single {
			// Nobody else works here: what a killed process left is taken up at once,
			// and not when its last heartbeat is old enough.
			if _, err := d.pool.Exec(ctx, `delete from nodes`); err != nil {
				l.Release()
				return nil, fmt.Errorf("forgetting the processes before this one: %w", err)
			}
		}
		if err == nil {
			return l, nil
		}
		patience := time.Duration(0)
		switch {
		case errors.Is(err, errDatabaseTaken) || errors.Is(err, errDatabaseSingle):
			patience = 5 * time.Second
		case errors.Is(err, context.DeadlineExceeded):
			patience = 20 * time.Second // a machine that is busy with starting everything
		}
		if time.Since(began) > patience {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// take tries once.
func (l *BusLock) take(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := l.d.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connecting to hold the bus lock: %w", err)
	}
	if l.pid != 0 {
		// Our own last connection may not have been noticed to be dead.
		if _, err := conn.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and backend_start = $2`, l.pid, l.began); err != nil {
			conn.Release()
			return fmt.Errorf("ending the last holder of the bus lock: %w", err)
		}
	}
	lock, taken := `pg_try_advisory_lock_shared($1, 0)`, errDatabaseSingle
	if l.single {
		lock, taken = `pg_try_advisory_lock($1, 0)`, errDatabaseTaken
	}
	var ok bool
	var pid int32
	var began time.Time
	err = conn.QueryRow(ctx, `select `+lock+`, pid, backend_start from pg_stat_activity where pid = pg_backend_pid()`, lockMemory).Scan(&ok, &pid, &began)
	if err != nil || !ok {
		conn.Release()
		if err != nil {
			return fmt.Errorf("taking the bus lock: %w", err)
		}
		return taken
	}
	l.conn, l.pid, l.began = conn, pid, began
	return nil
}

// Run keeps the lock until ctx ends: when its connection breaks it is taken anew.
// The error says that another process has got it, and only a process with the
// in-process bus gives way to that; the others say so in the log and go on.
func (l *BusLock) Run(ctx context.Context) error {
	tick := time.NewTicker(busLockCheck)
	defer tick.Stop()
	var refused time.Time // since when; zero: not
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if l.conn != nil {
			ping, cancel := context.WithTimeout(ctx, 10*time.Second)
			err := l.conn.Ping(ping)
			cancel()
			if err == nil || ctx.Err() != nil {
				continue
			}
			l.drop(ctx)
			l.d.log.WarnContext(ctx, "the bus lock's connection broke; taking the lock anew", "error", err)
		}
		err := l.take(ctx)
		switch {
		case err == nil:
			refused = time.Time{}
		case !errors.Is(err, errDatabaseTaken) && !errors.Is(err, errDatabaseSingle): // the database is away
		case refused.IsZero():
			refused = time.Now()
		case time.Since(refused) > busLockPatience:
			if l.single {
				return err
			}
			l.d.log.ErrorContext(ctx, "the bus lock was lost", "error", err)
			refused = time.Time{}
		}
	}
}

// Release gives the lock back, after Run.
func (l *BusLock) Release() { l.drop(context.Background()) }

func (l *BusLock) drop(ctx context.Context) {
	if l.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = l.conn.Hijack().Close(ctx)
	l.conn = nil
}
