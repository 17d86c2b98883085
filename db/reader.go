package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/message"
)

// Reader reads history and reports: from a replica where there is one that answers
// and is not far behind, else from the primary. What was written a moment ago may
// not be on the replica yet. What is asked for by its id and not found there, and
// the end of a chat's history, are therefore looked for on the primary as well;
// states (of a chat, of a message) may be as old as the replica.
type Reader struct {
	primary *DB
	replica *DB // nil without one
	// reports and replicaReports are pools of their own; see reportSettings.
	reports, replicaReports *pgxpool.Pool
	log                     *slog.Logger

	up        atomic.Bool
	lag       atomic.Int64 // milliseconds
	fallbacks atomic.Int64
}

// ReaderConfig is where to read.
type ReaderConfig struct {
	PrimaryURL string
	ReplicaURL string // empty: the primary alone
	// Timeout bounds each statement of a report; 0 is 5 minutes.
	Timeout time.Duration
}

// ReplicaStatus is how the replica does.
type ReplicaStatus struct {
	Configured bool
	Up         bool          // used
	Lag        time.Duration // how far behind, as last seen
	Fallbacks  int64         // reads that went to the primary since the start
}

const (
	// replicaLag is how far behind a replica may be and still be read.
	replicaLag = 30 * time.Second
	// replicaCheck is how often the replica is looked at, and how long it may take to
	// answer that.
	replicaCheck = 2 * time.Second
)

// OpenReader connects. A replica that does not answer is no error: Run notices when
// it does. Close closes what it opened, not primary.
func OpenReader(ctx context.Context, primary *DB, cfg ReaderConfig, log *slog.Logger) (*Reader, error) {
	r := &Reader{primary: primary, log: log}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Minute
	}
	var err error
	if r.reports, err = reportPool(ctx, cfg.PrimaryURL, cfg.Timeout); err != nil {
		return nil, err
	}
	if cfg.ReplicaURL == "" {
		return r, nil
	}
	if r.replicaReports, err = reportPool(ctx, cfg.ReplicaURL, cfg.Timeout); err == nil {
		var pc *pgxpool.Config
		if pc, err = pgxpool.ParseConfig(cfg.ReplicaURL); err == nil {
			pc.MaxConns = 12
			pc.ConnConfig.ConnectTimeout = replicaCheck
			pc.ConnConfig.RuntimeParams["application_name"] = "switchboard reader"
			pc.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
			pc.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
				registerArrays(conn)
				return nil
			}
			var pool *pgxpool.Pool
			if pool, err = pgxpool.NewWithConfig(ctx, pc); err == nil {
				r.replica, err = New(pool, nil, log)
			}
		}
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("opening the replica: %w", RedactURL(err))
	}
	r.check(ctx)
	return r, nil
}

func reportPool(ctx context.Context, url string, timeout time.Duration) (*pgxpool.Pool, error) {
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parsing database url: %w", RedactURL(err))
	}
	pc.MaxConns, pc.MinConns, pc.MaxConnIdleTime = 2*ReportsAtOnce, 0, time.Minute
	pc.ConnConfig.ConnectTimeout = 5 * time.Second
	pc.ConnConfig.RuntimeParams["application_name"] = "switchboard reports"
	pc.ConnConfig.RuntimeParams["statement_timeout"] = strconv.FormatInt(timeout.Milliseconds(), 10)
	for name, value := range reportSettings {
		pc.ConnConfig.RuntimeParams[name] = value
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("opening the database for reports: %w", RedactURL(err))
	}
	return pool, nil
}

// Close waits for what is being read and closes the connections.
func (r *Reader) Close() {
	if r.replica != nil {
		r.replica.Close()
	}
	if r.replicaReports != nil {
		r.replicaReports.Close()
	}
	r.reports.Close()
}

// Replica tells how the replica does.
func (r *Reader) Replica() ReplicaStatus {
	return ReplicaStatus{Configured: r.replica != nil, Up: r.up.Load(), Lag: time.Duration(r.lag.Load()) * time.Millisecond, Fallbacks: r.fallbacks.Load()}
}

// Run looks after the replica until ctx ends.
func (r *Reader) Run(ctx context.Context) error {
	if r.replica == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(replicaCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			r.check(ctx)
		}
	}
}

// check looks at the replica. Its lag is told by the processes' heartbeats, which
// are written every HeartbeatEvery: the newest on the primary against the newest on
// the replica. That needs no rights, counts nothing while nothing is written, and
// finds a replica out that answers but is not fed any more. While the primary is
// away nothing can be compared, and the replica is taken.
func (r *Reader) check(ctx context.Context) {
	newest := func(d *DB) (at time.Time, err error) {
		ctx, cancel := context.WithTimeout(ctx, replicaCheck)
		defer cancel()
		return at, d.pool.QueryRow(ctx, `select coalesce(max(seen_at), 'epoch') from nodes`).Scan(&at)
	}
	// The primary first: what is written in between counts for the replica.
	there, primaryErr := newest(r.primary)
	here, err := newest(r.replica)
	lag := time.Duration(0)
	if err == nil && primaryErr == nil {
		lag = max(there.Sub(here), 0)
		r.lag.Store(lag.Milliseconds())
	}
	if ctx.Err() != nil {
		return
	}
	if err == nil && lag > replicaLag {
		err = fmt.Errorf("it is %s behind", lag.Round(time.Second))
	}
	if was := r.up.Swap(err == nil); err != nil && was {
		r.log.WarnContext(ctx, "the replica is not used; reads go to the primary", "error", RedactURL(err))
	} else if err == nil && !was {
		r.log.InfoContext(ctx, "the replica is used for reads", "lag", lag)
	}
}

// away tells errors for which the primary is worth a try: the replica is gone, or
// ended the statement because it got in the way of what it is fed, or is not there
// yet with its schema.
func away(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "42P01" || pg.Code == "42703") {
		return true
	}
	return IsUnavailable(err)
}

// read runs do on the replica, and on the primary when that does not work.
func (r *Reader) read(ctx context.Context, do func(d *DB) error) error {
	if r.replica == nil {
		return do(r.primary)
	}
	if r.up.Load() {
		err := do(r.replica)
		if err == nil || ctx.Err() != nil || !away(err) {
			return err
		}
	}
	r.fallbacks.Add(1)
	return do(r.primary)
}

// report is read for reports.
func (r *Reader) report(ctx context.Context, do func(pool *pgxpool.Pool) error) error {
	if r.replica == nil {
		return do(r.reports)
	}
	if r.up.Load() {
		err := do(r.replicaReports)
		if err == nil || ctx.Err() != nil || !away(err) {
			return err
		}
	}
	r.fallbacks.Add(1)
	return do(r.reports)
}

// byID is read for what may be too new for the replica.
func byID[T any](ctx context.Context, r *Reader, do func(d *DB) (T, error)) (found T, err error) {
	err = r.read(ctx, func(d *DB) (err error) {
		found, err = do(d)
		return err
	})
	if r.replica != nil && errors.Is(err, switchboard.ErrNotFound) {
		return do(r.primary)
	}
	return found, err
}

// FindChats is DB.FindChats.
func (r *Reader) FindChats(ctx context.Context, q switchboard.ChatQuery) (hits []switchboard.ChatHit, err error) {
	err = r.read(ctx, func(d *DB) (err error) {
		hits, err = d.FindChats(ctx, q)
		return err
	})
	return hits, err
}

// Chat is DB.Chat.
func (r *Reader) Chat(ctx context.Context, id string) (switchboard.Chat, error) {
	return byID(ctx, r, func(d *DB) (switchboard.Chat, error) { return d.Chat(ctx, id) })
}

// Message is DB.Message.
func (r *Reader) Message(ctx context.Context, id string) (message.Message, error) {
	return byID(ctx, r, func(d *DB) (message.Message, error) { return d.Message(ctx, id) })
}

// History is DB.History. A page that reaches the end of the chat has its end.
func (r *Reader) History(ctx context.Context, chatID string, after, before int64, fromStart bool, limit int) (list []message.Message, err error) {
	err = r.read(ctx, func(d *DB) (err error) {
		list, err = d.History(ctx, chatID, after, before, fromStart, limit)
		if err != nil || d == r.primary || before != 0 || (fromStart && len(list) == limit) {
			return err
		}
		last := after
		if len(list) > 0 {
			last = list[len(list)-1].Seq
		}
		var newer bool
		if err := r.primary.pool.QueryRow(ctx, `select coalesce((select last_seq > $2 from chats where id = $1), false)`, chatID, last).Scan(&newer); err != nil || !newer {
			return nil // the primary may be away: then this is what there is
		}
		list, err = r.primary.History(ctx, chatID, after, before, fromStart, limit)
		return err
	})
	return list, err
}

// Timeline is DB.Timeline.
func (r *Reader) Timeline(ctx context.Context, id string) (list []switchboard.TimelineEntry, err error) {
	err = r.read(ctx, func(d *DB) (err error) {
		list, err = d.Timeline(ctx, id)
		return err
	})
	if err == nil && len(list) == 0 && r.replica != nil { // as in byID
		return r.primary.Timeline(ctx, id)
	}
	return list, err
}

// FindCustomers is DB.FindCustomers.
func (r *Reader) FindCustomers(ctx context.Context, phone string) (list []switchboard.PhoneEntry, err error) {
	err = r.read(ctx, func(d *DB) (err error) {
		list, err = d.FindCustomers(ctx, phone)
		return err
	})
	return list, err
}
