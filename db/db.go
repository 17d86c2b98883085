// Package db is the only one that speaks SQL. It exports methods with domain
// types; callers declare the few methods they need as interfaces of their own.
//
// Its parts: intake.go (raw updates in), lanes.go (raw updates to messages,
// chats and events), outbox.go (messages out), events.go (the operators'
// stream), chats.go and operators.go (what operators do), history.go (reads),
// accounts.go, files.go, nodes.go. Order and durability rest on a few rules
// that are written where they are used:
//
//   - a lane's appends happen under its advisory lock, so update ids rise in
//     commit order inside a lane, and "done up to id" needs no flag per row;
//   - the chats row is locked before a message gets its seq and its event;
//   - an outbox job exists for a chat exactly while outbox_chats.busy is set.
package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB is the database.
type DB struct {
	pool conns
	// hot is for the statements of the message path; see hotSettings.
	hot     conns
	log     *slog.Logger
	jobs    Jobs
	bell    *bell
	secrets Sealer
	// dedup is how far into a week the week before is looked into for duplicates.
	dedup   time.Duration
	drained drainTimes
	lead    lead
	clock   clock
	words   words
}

// Config is how to reach the database.
type Config struct {
	URL string
	// MaxConns bounds the connections; 0 means 24. Half of them are for the
	// message path. Idle ones are kept, because churn halves throughput.
	MaxConns int
	// Name is shown in pg_stat_activity.
	Name string
	// Secrets encrypts platform secrets; nil for processes that handle none.
	Secrets Sealer
	// StopWords are what customers write, as a whole message, when they want no more
	// campaigns; nil takes the usual ones in English and Russian.
	StopWords []string
}

// Open connects. The schema is not checked; see Pending.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*DB, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("parsing database url: %w", RedactURL(err))
	}
	pc.MaxConns = int32(cfg.MaxConns)
	if pc.MaxConns == 0 {
		pc.MaxConns = 24
	}
	pc.MinIdleConns = min(4, pc.MaxConns)
	pc.MaxConnIdleTime = 10 * time.Minute
	pc.ConnConfig.ConnectTimeout = 10 * time.Second
	if pc.ConnConfig.RuntimeParams["application_name"] == "" {
		pc.ConnConfig.RuntimeParams["application_name"] = "switchboard " + cfg.Name
	}
	// A process that is stopped in the middle of a transaction must not hold its
	// locks, nor the event stream, longer than this.
	pc.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "10s"
	faults := &faults{}
	pc.ConnConfig.Tracer = faults
	pc.ShouldPing = faults.shouldPing
	pc.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		registerArrays(conn)
		return nil
	}
	if pc.MaxConns < 4 { // a tool's
		pool, err := pgxpool.NewWithConfig(ctx, pc)
		if err != nil {
			return nil, fmt.Errorf("opening the database: %w", RedactURL(err))
		}
		d, err := New(pool, cfg.Secrets, log)
		if err == nil {
			d.words = newWords(cfg.StopWords)
		}
		return d, err
	}
	hot := pc.Copy()
	hot.MaxConns /= 2
	pc.MaxConns -= hot.MaxConns
	for name, value := range hotSettings {
		hot.ConnConfig.RuntimeParams[name] = value
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", RedactURL(err))
	}
	d, err := New(pool, cfg.Secrets, log)
	if err != nil {
		pool.Close()
		return nil, err
	}
	d.words = newWords(cfg.StopWords)
	hotPool, err := pgxpool.NewWithConfig(ctx, hot)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("opening the database: %w", RedactURL(err))
	}
	d.hot = conns{hotPool}
	return d, nil
}

// conns is a pool whose statements and transactions belong to the transaction that
// their context carries, if it carries one: Audited puts it there.
type conns struct{ *pgxpool.Pool }

type carriedKey struct{}

func (c conns) on(ctx context.Context) interface {
	querier
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
} {
	if tx, ok := ctx.Value(carriedKey{}).(pgx.Tx); ok {
		return tx
	}
	return c.Pool
}

// Begin begins a transaction; inside of another one, a savepoint.
func (c conns) Begin(ctx context.Context) (pgx.Tx, error) { return c.on(ctx).Begin(ctx) }

// Exec is pgxpool's.
func (c conns) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return c.on(ctx).Exec(ctx, sql, args...)
}

// Query is pgxpool's.
func (c conns) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return c.on(ctx).Query(ctx, sql, args...)
}

// QueryRow is pgxpool's.
func (c conns) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return c.on(ctx).QueryRow(ctx, sql, args...)
}

// SendBatch is pgxpool's.
func (c conns) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return c.on(ctx).SendBatch(ctx, b)
}

// Acquire is pgxpool's; inside of a transaction there is no other connection to be had,
// since what it did would not belong to it.
func (c conns) Acquire(ctx context.Context) (*pgxpool.Conn, error) {
	if ctx.Value(carriedKey{}) != nil {
		return nil, errors.New("a connection of its own inside of a transaction")
	}
	return c.Pool.Acquire(ctx)
}

// BeginTx is as Acquire.
func (c conns) BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error) {
	if ctx.Value(carriedKey{}) != nil {
		return nil, errors.New("a transaction of another kind inside of a transaction")
	}
	return c.Pool.BeginTx(ctx, o)
}

// hotSettings are of the connections of the message path. Its statements take
// arrays and find everything by an index, whatever a table's statistics say at
// the moment, and planning them anew takes as long as running them: of a webhook's
// way to the operator (3.4 ms at 500/s) 1.3 ms went into plans.
var hotSettings = map[string]string{
	"plan_cache_mode": "force_generic_plan",
	"enable_seqscan":  "off", "enable_bitmapscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
	// What is switched off costs so much on paper that it would be compiled, or
	// given to parallel workers.
	"jit": "off", "max_parallel_workers_per_gather": "0",
}

// New wraps an open pool.
func New(pool *pgxpool.Pool, secrets Sealer, log *slog.Logger) (*DB, error) {
	jobs, err := newJobs(log)
	if err != nil {
		return nil, err
	}
	return &DB{pool: conns{pool}, hot: conns{pool}, log: log, jobs: jobs, bell: newBell(pool, log), secrets: secrets, dedup: dedupHorizon, words: newWords(nil)}, nil
}

// Sealer encrypts what must not lie in the database in the clear. ad binds the
// ciphertext to its row.
type Sealer interface {
	Seal(plain, ad []byte) []byte
	Open(sealed, ad []byte) ([]byte, error)
}

// Close waits for connections in use and closes them.
func (d *DB) Close() {
	d.bell.close()
	if d.hot != d.pool {
		d.hot.Close()
	}
	d.pool.Close()
}

// Pool is for River and for tests; nobody else.
func (d *DB) Pool() *pgxpool.Pool { return d.pool.Pool }

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error {
	if _, err := d.pool.Exec(ctx, "select 1"); err != nil {
		return fmt.Errorf("asking the database: %w", err)
	}
	return nil
}

// NewID returns a new UUIDv7 as text: rising in time, so that indexes grow at
// their right edge.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// wellFormed drops what can't be an id, so that asking for it finds nothing
// instead of being an error.
func wellFormed(ids []string) []string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		if len(id) == 36 && uuid.Validate(id) == nil {
			out = append(out, id)
		}
	}
	return out
}

// distinctIDs is wellFormed with each id once, in any order.
func distinctIDs(ids []string) []string {
	ids = wellFormed(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

var passwordInURL = regexp.MustCompile(`(://[^:/@\s]*):[^@\s]*@`)

// RedactURL takes passwords of connection strings out of an error's text.
func RedactURL(err error) error {
	if err == nil {
		return nil
	}
	s := passwordInURL.ReplaceAllString(err.Error(), "$1:[redacted]@")
	if s == err.Error() {
		return err
	}
	return errors.New(s)
}

// tx runs do in a transaction. Serialization failures and deadlocks, which
// Postgres may answer to innocent transactions, are retried a few times.
func (d *DB) tx(ctx context.Context, do func(pgx.Tx) error) error {
	return d.ringing(ctx, d.pool, do)
}

// hotTx is tx for the message path.
func (d *DB) hotTx(ctx context.Context, do func(pgx.Tx) error) error {
	return d.ringing(ctx, d.hot, do)
}

// ringing rings for the jobs that the transaction made, when it is committed.
func (d *DB) ringing(ctx context.Context, on conns, do func(pgx.Tx) error) error {
	t := &notingTx{}
	err := txOn(ctx, on, func(tx pgx.Tx) error {
		t.Tx, t.queues = tx, nil
		return do(t)
	})
	if err != nil || len(t.queues) == 0 {
		return err
	}
	if outer, ok := ctx.Value(carriedKey{}).(*notingTx); ok {
		for queue := range t.queues {
			outer.note(queue)
		}
		return nil
	}
	d.bell.ring(t.queues)
	return nil
}

func txOn(ctx context.Context, on interface {
	Begin(context.Context) (pgx.Tx, error)
}, do func(pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := pgx.BeginFunc(ctx, on, do)
		if retryable(err) && attempt < 4 {
			continue
		}
		return err
	}
}

// IsUnavailable reports whether err says that the database could not be
// reached or was going down, as opposed to a fault in what was asked.
func IsUnavailable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code[:2] {
		case "08", "53", "57", "58": // connection, resources, operator intervention, system
			return true
		}
		return pg.Code == "25006" // read only: a standby
	}
	// A connection that breaks under a statement ends it with the network's error.
	var connect *pgconn.ConnectError
	var network *net.OpError
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err) || pgconn.SafeToRetry(err)
}
