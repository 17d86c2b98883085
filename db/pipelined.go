package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pipelinedTx is a transaction whose begin and commit travel along with its
// first and its last batch: two round trips less, which is two of five for a
// drain. One of first must be called before anything else. Where a statement of
// a batch fails, those behind it, the commit too, are passed over.
type pipelinedTx struct {
	*pgxpool.Conn
	began, ended bool
	queues       map[string]bool // that got jobs
}

func (t *pipelinedTx) note(queue string) {
	if t.queues == nil {
		t.queues = map[string]bool{}
	}
	t.queues[queue] = true
}

// first runs the transaction's first batch.
func (t *pipelinedTx) first(ctx context.Context, batch *pgx.Batch) error {
	begin := &pgx.Batch{}
	begin.Queue("begin")
	begin.QueuedQueries = append(begin.QueuedQueries, batch.QueuedQueries...)
	t.began = true
	return t.SendBatch(ctx, begin).Close()
}

// last runs the transaction's last batch and commits.
func (t *pipelinedTx) last(ctx context.Context, batch *pgx.Batch) error {
	batch.Queue("commit")
	err := t.SendBatch(ctx, batch).Close()
	t.ended = err == nil
	return err
}

// Commit implements pgx.Tx.
func (t *pipelinedTx) Commit(ctx context.Context) error {
	if t.ended || !t.began {
		return pgx.ErrTxClosed
	}
	tag, err := t.Exec(ctx, "commit")
	if err == nil && tag.String() == "ROLLBACK" {
		err = pgx.ErrTxCommitRollback
	}
	t.ended = err == nil
	return err
}

// Rollback implements pgx.Tx.
func (t *pipelinedTx) Rollback(ctx context.Context) error {
	if t.ended || !t.began {
		return pgx.ErrTxClosed
	}
	t.ended = true
	_, err := t.Exec(ctx, "rollback")
	return err
}

// LargeObjects implements pgx.Tx; there are none.
func (t *pipelinedTx) LargeObjects() pgx.LargeObjects { return pgx.LargeObjects{} }

// Prepare implements pgx.Tx.
func (t *pipelinedTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	return t.Conn.Conn().Prepare(ctx, name, sql)
}

// riverTx is a pipelinedTx as River takes it.
type riverTx struct{ *pipelinedTx }

// Conn implements pgx.Tx.
func (t riverTx) Conn() *pgx.Conn { return t.pipelinedTx.Conn.Conn() }

// pipelined runs do in a transaction; do ends it by last, or it is committed
// after do. Like tx it repeats after a deadlock.
func (d *DB) pipelined(ctx context.Context, do func(tx *pipelinedTx) error) error {
	for attempt := 1; ; attempt++ {
		err := d.tryPipelined(ctx, do)
		if retryable(err) && attempt < 4 {
			continue
		}
		return err
	}
}

func (d *DB) tryPipelined(ctx context.Context, do func(tx *pipelinedTx) error) (err error) {
	conn, err := d.hot.Acquire(ctx)
	if err != nil {
		return err
	}
	// A connection that is not idle is closed by this, and its transaction ends.
	defer conn.Release()
	tx := &pipelinedTx{Conn: conn}
	defer func() {
		if tx.ended || !tx.began || conn.Conn().IsClosed() {
			return
		}
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if rollback := tx.Rollback(undo); rollback != nil && err == nil {
			err = fmt.Errorf("rolling back: %w", rollback)
		}
	}()
	if err := do(tx); err != nil {
		return err
	}
	if !tx.ended {
		if err := tx.Commit(ctx); err != nil {
			return err
		}
	}
	d.bell.ring(tx.queues)
	return nil
}

func retryable(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "40001" || pg.Code == "40P01")
}
