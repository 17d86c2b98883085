package db

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// faults notes when a connection broke under a statement: the others that were
// open then may be broken, too, and are asked before they are used. By itself a
// pool asks those only that were idle for a second, so that after a restart of
// the database every connection would fail somebody once. With this five
// seconds are enough, and what an idle process does now and then is not doubled.
type faults struct{ last atomic.Int64 } // unix nanoseconds

func (f *faults) shouldPing(_ context.Context, p pgxpool.ShouldPingParams) bool {
	return p.IdleDuration > 5*time.Second || time.Now().Add(-p.IdleDuration).UnixNano() <= f.last.Load()
}

func (f *faults) note(conn *pgx.Conn, err error) {
	if err != nil && conn.IsClosed() {
		f.last.Store(time.Now().UnixNano())
	}
}

// TraceQueryStart implements pgx.QueryTracer.
func (*faults) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (f *faults) TraceQueryEnd(_ context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	f.note(conn, data.Err)
}

// TraceBatchStart implements pgx.BatchTracer.
func (*faults) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (*faults) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (f *faults) TraceBatchEnd(_ context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	f.note(conn, data.Err)
}
