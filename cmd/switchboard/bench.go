package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/config"
	"switchboard/db"
	"switchboard/db/embedded"
	"switchboard/internal/egress"
	"switchboard/internal/secret"
	"switchboard/simulator"
)

// The benchmarks run the service, its Postgres (default durability) and the
// load generator on this machine. Each figure stands beside a floor that is
// measured in the same run: what the bare parts do without us. Rates of two
// floors add as costs do: 1/(1/x + 1/y).

type benchCmd struct {
	Only       []string      `placeholder:"a,b,..." help:"Only these figures: a, b, c, d, e, f (growth), g (idle), h (start), l (limiter), o (overload), p (campaign)."`
	Time       time.Duration `default:"8s" help:"Length of each measurement."`
	Full       bool          `help:"The long run: (b) sustained for a minute, (f) with ten million messages, (p) with a million recipients."`
	Recipients int           `default:"100000" help:"Recipients of the campaign of (p)."`
	History    int           `default:"200000" help:"Messages stored before (f) measures growth."`
	Profile    string        `placeholder:"FILE" help:"Write a CPU profile of the service's part of (a), (b) and (c)."`
}

type benchRow struct {
	name, figure, floor, ratio, aim string
	notes                           []string
}

// bench is one run: a fresh Postgres, from which every figure gets databases of
// its own.
type bench struct {
	cmd    *benchCmd
	log    *slog.Logger
	dir    string
	load   string // before
	server *embedded.Server
	rows   []benchRow
	dbs    int
	// zookeeper are the servers of an ensemble for what needs one; empty: left out.
	zookeeper []string
	next      atomic.Int64 // number of the last callback made
	plain     float64      // sends/s of (c); 0: not measured
	sustained float64      // webhooks/s that (b) took without a growing lag; 0: not measured
}

// Run measures and prints the table.
func (b *benchCmd) Run(ctx context.Context, cfg *config.Config) error {
	cfg.LogLevel = "error"
	dir, err := os.MkdirTemp("", "switchboard-bench-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	run := &bench{cmd: b, log: logger(cfg), dir: dir, load: loadAverage(), zookeeper: cfg.ZooKeeperServers}
	if b.Full {
		b.History, b.Recipients = 10_000_000, 1_000_000
	}
	run.server, err = embedded.Start(ctx, embedded.Config{DataDir: filepath.Join(dir, "postgres"), Logger: run.log, Settings: map[string]string{"max_connections": "500", "max_wal_size": "4GB"}})
	if err != nil {
		return fmt.Errorf("starting Postgres: %w", err)
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		_ = run.server.Stop(stop)
	}()
	var failed error
	for _, f := range []struct {
		name string
		do   func(context.Context) error
	}{{"a", run.webhooks}, {"b", run.normalise}, {"c", run.sends}, {"d", run.latency}, {"e", run.memory}, {"f", run.growth}, {"g", run.idle}, {"h", run.start}, {"l", run.limiter}, {"o", run.overload}, {"p", run.campaign}} {
		if len(b.Only) > 0 && !slices.Contains(b.Only, f.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring (%s)...\n", f.name)
		if err := f.do(ctx); err != nil {
			// The others are worth their time.
			failed = errors.Join(failed, fmt.Errorf("figure (%s): %w", f.name, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	run.print()
	return failed
}

// loadAverage tells how busy the machine was in the last minute.
func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

func (r *bench) print() {
	fmt.Printf("\n%d cores, %s, Postgres with default durability, everything on this machine; load average %s before, %s after\n\n", runtime.NumCPU(), runtime.Version(), r.load, loadAverage())
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 3, ' ', 0)
	fmt.Fprintln(w, "FIGURE\tMEASURED\tFLOOR\tRATIO\tAIM")
	for _, row := range r.rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", row.name, row.figure, row.floor, row.ratio, row.aim)
	}
	_ = w.Flush()
	for _, row := range r.rows {
		for _, n := range row.notes {
			fmt.Println("  " + n)
		}
	}
}

func (r *bench) add(row benchRow) { r.rows = append(r.rows, row) }

func perSecond(x float64) string { return strconv.FormatFloat(x, 'f', 0, 64) + "/s" }

// sum adds the costs of two rates.
func sum(x, y float64) float64 { return 1 / (1/x + 1/y) }

// config makes the settings of a service on a fresh database.
func (r *bench) config(ctx context.Context) (*config.Config, error) {
	r.dbs++
	name := fmt.Sprint("bench_", r.dbs)
	pool, err := pgxpool.New(ctx, r.server.URL())
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "create database "+name); err != nil {
		return nil, fmt.Errorf("making database: %w", err)
	}
	url := r.server.URLFor(name)
	if err := db.Migrate(ctx, url); err != nil {
		return nil, err
	}
	key := bytes.Repeat([]byte{9}, secret.KeySize)
	return &config.Config{DatabaseURL: url, DataDir: filepath.Join(r.dir, name), HTTPAddr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0", S3TLS: "false",
		MasterKey: base64.StdEncoding.EncodeToString(key), FetchAllow: []string{"127.0.0.0/8"}, LogLevel: "error"}, nil
}

// service is a running system of some roles.
type benchService struct {
	*system
	addr    string
	account string // Viber
	stop    func() error
}

func (r *bench) service(ctx context.Context, apiBase string, roles ...string) (*benchService, error) {
	cfg, err := r.config(ctx)
	if err != nil {
		return nil, err
	}
	return r.serviceOn(ctx, cfg, apiBase, roles...)
}

func (r *bench) serviceOn(ctx context.Context, cfg *config.Config, apiBase string, roles ...string) (*benchService, error) {
	public, ops, err := listeners(cfg)
	if err != nil {
		return nil, err
	}
	c, err := openCore(ctx, cfg, r.log, "bench", false)
	if err != nil {
		return nil, err
	}
	sys, err := newSystem(ctx, c, roles, public, ops)
	if err != nil {
		c.close()
		return nil, err
	}
	s := &benchService{system: sys, addr: public.Addr().String()}
	accounts, err := c.db.Accounts(ctx)
	if err != nil {
		c.close()
		return nil, err
	}
	if len(accounts) == 0 {
		a, err := c.admin.AddAccount(ctx, "bench", "viber", "Bench", map[string]string{"token": demoViberToken, "sender_name": "Bench", "api_base": apiBase, "rate": "0", "chat_rate": "0"})
		if err != nil {
			c.close()
			return nil, err
		}
		accounts = append(accounts, a)
	}
	s.account = accounts[0].ID
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		err := sys.run(runCtx, func() { close(started) })
		c.close()
		ended <- err
	}()
	<-started
	s.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	return s, nil
}

const benchCustomers = 5000

// callback writes a signed Viber callback as a whole HTTP request.
func callback(buf []byte, account string, n int64, text string) []byte {
	body := fmt.Appendf(nil, `{"event":"message","timestamp":%d,"chat_hostname":"SN-CHAT-05_","message_token":%d,"sender":{"id":"bench-customer-%06d==","name":"Customer %d","language":"en","country":"LT","api_version":10},"message":{"type":"text","text":%q},"silent":false}`,
		time.Now().UnixMilli(), 5881234567890000000+n, n%benchCustomers, n%benchCustomers, text)
	mac := hmac.New(sha256.New, []byte(demoViberToken))
	mac.Write(body)
	buf = fmt.Appendf(buf[:0], "POST /webhooks/viber/%s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nX-Viber-Content-Signature: %s\r\nContent-Length: %d\r\n\r\n",
		account, hex.EncodeToString(mac.Sum(nil)), len(body))
	return append(buf, body...)
}

// post sends a request on a kept connection and reads the answer's status. It is
// as lean as can be: what it costs, it takes from the service on the same cores.
func post(conn net.Conn, r *bufio.Reader, request []byte) (status int, err error) {
	status, _, err = postTold(conn, r, request)
	return status, err
}

// postTold is post that also tells whether the answer says when to come again.
func postTold(conn net.Conn, r *bufio.Reader, request []byte) (status int, again bool, err error) {
	if _, err := conn.Write(request); err != nil {
		return 0, false, err
	}
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if first {
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, false, err
			}
		} else if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(v)); err != nil {
				return 0, false, err
			}
		} else if bytes.HasPrefix(line, []byte("Retry-After: ")) {
			again = true
		}
	}
	_, err = r.Discard(length)
	return status, again, err
}

const benchConnections = 64

// load keeps 64 connections busy with distinct callbacks for d, from a process of
// its own, and returns how many were answered 200, and in what time. It raises
// next by the numbers used.
func load(ctx context.Context, addr, account string, d time.Duration, next *atomic.Int64) (n int64, took time.Duration, err error) {
	out, stop, err := benchChild(ctx, childLoad, addr, account, d.String(), strconv.FormatInt(next.Load(), 10))
	if err != nil {
		return 0, 0, err
	}
	defer stop()
	var last int64
	if _, err := fmt.Fscanln(out, &n, &took, &last); err != nil {
		return 0, 0, fmt.Errorf("the load generator ended early: %w", err)
	}
	next.Store(last)
	return n, took, nil
}

// generate is the process of load.
func generate(addr, account, length, first string) error {
	d, err := time.ParseDuration(length)
	if err != nil {
		return err
	}
	start, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return err
	}
	var next, ok atomic.Int64
	next.Store(start)
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	begin := time.Now()
	for range benchConnections {
		wg.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				failed.Store(&err)
				return
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			var buf []byte
			for time.Since(begin) < d {
				buf = callback(buf, account, next.Add(1), benchText)
				status, err := post(conn, r, buf)
				if err == nil && status != 200 {
					err = fmt.Errorf("webhook answered %d", status)
				}
				if err != nil {
					failed.Store(&err)
					return
				}
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	if e := failed.Load(); e != nil {
		return *e
	}
	fmt.Println(ok.Load(), int64(took), next.Load())
	return nil
}

func rate(n int64, d time.Duration) float64 { return float64(n) / d.Seconds() }

// bareHandler measures the same load on a handler that checks the signature and
// answers, in the same frame (listener, router).
func (r *bench) bareHandler(ctx context.Context) (float64, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	router := chi.NewRouter()
	router.Post("/webhooks/{platform}/{account}", func(w http.ResponseWriter, req *http.Request) {
		body := make([]byte, req.ContentLength)
		if _, err := io.ReadFull(req.Body, body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mac := hmac.New(sha256.New, []byte(demoViberToken))
		mac.Write(body)
		given, _ := hex.DecodeString(req.Header.Get("X-Viber-Content-Signature"))
		if !hmac.Equal(given, mac.Sum(nil)) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Length", "0")
	})
	srv := &http.Server{Handler: router}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	var next atomic.Int64
	if _, _, err := load(ctx, l.Addr().String(), "x", time.Second, &next); err != nil { // warm
		return 0, err
	}
	n, took, err := load(ctx, l.Addr().String(), "x", r.cmd.Time/2, &next)
	return rate(n, took), err
}

// table is a table and how its rows look, for the floors.
type table struct {
	name    string
	columns []string
	row     func(n int64) []any
}

// insert copies rows of the tables straight with pgx: batches of 500, two
// writers, one transaction a batch. It returns rows (of each table) per second.
func (r *bench) insert(ctx context.Context, url string, tables ...table) (float64, error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	timed, cancel := context.WithTimeout(ctx, r.cmd.Time/2)
	defer cancel()
	const rows = 500
	var next, done atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	start := time.Now()
	for range 2 {
		wg.Go(func() {
			for timed.Err() == nil {
				first := next.Add(rows)
				err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
					for _, t := range tables {
						_, err := tx.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return t.row(first + int64(i)), nil }))
						if err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					failed.Store(&err)
					return
				}
				done.Add(rows)
			}
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return 0, *e
	}
	return rate(done.Load(), time.Since(start)), nil
}

// The rows that one message makes, as the service writes them.
const benchText = "Where is my order? It was promised for yesterday."

var benchRaw = []byte(`{"event":"message","timestamp":1770000000000,"chat_hostname":"SN-CHAT-05_","message_token":5881234567890000000,"sender":{"id":"bench-customer-000000==","name":"Customer 0","language":"en","country":"LT","api_version":10},"message":{"type":"text","text":"` + benchText + `"},"silent":false}`)

var (
	benchAccount = uuid.MustParse("0198aaaa-0000-7000-8000-000000000000")
	benchChats   = func() (ids [benchCustomers]uuid.UUID) {
		for i := range ids {
			ids[i] = uuid.Must(uuid.NewV7())
		}
		return ids
	}()
	updateRows = table{"updates", []string{"lane", "account_id", "dedup_key", "chat_key", "ord", "raw"}, func(n int64) []any {
		return []any{int32(n % 32), benchAccount, "m:" + strconv.FormatInt(5881234567890000000+n, 10), "bench-customer-" + strconv.FormatInt(n%benchCustomers, 10), n, benchRaw}
	}}
	messageRows = table{"messages", []string{"id", "chat_id", "account_id", "seq", "direction", "kind", "status", "status_at", "body", "sender_kind", "sender_id", "sender_name",
		"platform_message_id", "platform_at", "created_at", "lane", "update_id"}, func(n int64) []any {
		now := time.Now()
		return []any{uuid.Must(uuid.NewV7()), benchChats[n%benchCustomers], benchAccount, n, "in", "text", "received", now,
			[]byte(`{"kind":"text","text":"` + benchText + `"}`), "customer", "0198aaaa-0000-7000-8000-000000000000", "Customer 0",
			strconv.FormatInt(5881234567890000000+n, 10), now, now, int32(n % 32), n}
	}}
	eventRows = table{"events", []string{"type", "chat_id", "message_id", "everyone"}, func(n int64) []any {
		return []any{"message.new", benchChats[n%benchCustomers], uuid.Must(uuid.NewV7()), true}
	}}
)

// webhooks is figure (a).
func (r *bench) webhooks(ctx context.Context) error {
	bare, err := r.bareHandler(ctx)
	if err != nil {
		return err
	}
	cfg, err := r.config(ctx)
	if err != nil {
		return err
	}
	inserts, err := r.insert(ctx, cfg.DatabaseURL, updateRows)
	if err != nil {
		return err
	}
	if cfg, err = r.config(ctx); err != nil {
		return err
	}
	got, cost, err := r.takeWebhooks(ctx, cfg, r.cmd.Time)
	if err != nil {
		return err
	}
	single, err := r.singleCommits(ctx, cfg.DatabaseURL)
	if err != nil {
		return err
	}
	floor := sum(bare, inserts)
	r.add(benchRow{"(a) durable webhooks", perSecond(got), perSecond(floor), ratio(got / floor), ">= 0.8", []string{
		fmt.Sprintf("(a) floor: bare handler %s + batch inserts %s; one transaction per webhook instead: %s; %s", perSecond(bare), perSecond(inserts), perSecond(single), cost)}})
	return nil
}

// takeWebhooks measures how many webhooks an edge alone takes per second.
func (r *bench) takeWebhooks(ctx context.Context, cfg *config.Config, d time.Duration) (perSec float64, cost string, err error) {
	s, err := r.serviceOn(ctx, cfg, "http://127.0.0.1:1/viber", "edge")
	if err != nil {
		return 0, "", err
	}
	defer s.stop()
	if _, _, err := load(ctx, s.addr, s.account, time.Second, &r.next); err != nil {
		return 0, "", err
	}
	var before int64
	if err := s.db.Pool().QueryRow(ctx, `select count(*) from updates`).Scan(&before); err != nil {
		return 0, "", err
	}
	stop, err := r.profile()
	if err != nil {
		return 0, "", err
	}
	used := r.cost()
	n, took, err := load(ctx, s.addr, s.account, d, &r.next)
	cost = r.since(used, n)
	stop()
	if err != nil {
		return 0, "", err
	}
	var stored int64
	if err := s.db.Pool().QueryRow(ctx, `select count(*) from updates`).Scan(&stored); err != nil {
		return 0, "", err
	}
	if stored-before < n {
		return 0, "", fmt.Errorf("%d webhooks were answered 200, but %d are stored", n, stored-before)
	}
	return rate(n, took), cost, nil
}

func ratio(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) }

// singleCommits stores the same updates with one transaction each, by as many
// callers as there are connections, behind the bare handler's cost.
func (r *bench) singleCommits(ctx context.Context, url string) (float64, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return 0, err
	}
	config.MaxConns = 24
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	ctx, cancel := context.WithTimeout(ctx, r.cmd.Time/2)
	defer cancel()
	var n, next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range config.MaxConns {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1)
				_, err := pool.Exec(ctx, `insert into updates (lane, account_id, dedup_key, chat_key, raw) values ($1, $2, $3, $4, $5) on conflict do nothing`,
					i%32, benchAccount, fmt.Sprint("single ", i), fmt.Sprint("single ", i%benchCustomers), make([]byte, 330))
				if err != nil {
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return rate(n.Load(), time.Since(start)), nil
}

// normalise is figure (b).
func (r *bench) normalise(ctx context.Context) error {
	bare, err := r.bareHandler(ctx)
	if err != nil {
		return err
	}
	cfg, err := r.config(ctx)
	if err != nil {
		return err
	}
	inserts, err := r.insert(ctx, cfg.DatabaseURL, updateRows, messageRows, eventRows)
	if err != nil {
		return err
	}
	if cfg, err = r.config(ctx); err != nil {
		return err
	}
	burst, got, lag, err := r.takeMessages(ctx, cfg, r.cmd.Time, r.cmd.Full)
	if err != nil {
		return err
	}
	r.sustained = got
	floor := sum(bare, inserts)
	r.add(benchRow{"(b) webhook to hub event, sustained", perSecond(got), perSecond(floor), ratio(got / floor), ">= 0.6", []string{
		fmt.Sprintf("(b) floor: bare handler %s + batch inserts of update, message and event %s; %s; all at once, the backlog drained afterwards: %s", perSecond(bare), perSecond(inserts), lag, perSecond(burst))}})
	return nil
}

// takeMessages measures how many webhooks per second become messages and events:
// burst with as many as go in, until the last is normalised, and sustained at an
// even pace at which the lag does not grow. lag says how far behind that was.
func (r *bench) takeMessages(ctx context.Context, cfg *config.Config, d time.Duration, minute bool) (burst, sustained float64, lag string, err error) {
	s, err := r.serviceOn(ctx, cfg, "http://127.0.0.1:1/viber", "edge", "workers", "chathub")
	if err != nil {
		return 0, 0, "", err
	}
	defer s.stop()
	// Warm: every customer has a chat, so that the figure is of messages.
	if err := r.warm(ctx, s); err != nil {
		return 0, 0, "", err
	}
	stop, err := r.profile()
	if err != nil {
		return 0, 0, "", err
	}
	before, err := normalised(s)
	if err != nil {
		return 0, 0, "", err
	}
	used := r.cost()
	start := time.Now()
	n, _, err := load(ctx, s.addr, s.account, d, &r.next)
	if err != nil {
		return 0, 0, "", err
	}
	if err := r.settled(ctx, s, before+n); err != nil {
		return 0, 0, "", err
	}
	burst = rate(n, time.Since(start))
	cost := r.since(used, n)
	stop()
	// Taking and normalising even halves of the time is dearer than one after the
	// other, so the pace begins where the backlog was.
	for pace := burst; ; pace *= 0.93 {
		got, early, late, err := r.pacedLag(ctx, s, pace, d)
		if err != nil {
			return 0, 0, "", err
		}
		if late <= early+pace/10 || pace < burst/2 { // a tenth of a second
			if minute {
				minute, d = false, time.Minute
				pace /= 0.93
				continue
			}
			return burst, got, fmt.Sprintf("%s at this pace: %.0f updates behind on average in the first half, %.0f in the second; %s", d, early, late, cost), nil
		}
	}
}

// pacedLag sends webhooks at a pace and returns what was taken per second, and how
// many updates were stored but not normalised on average, in the first half of the
// time and in the second.
func (r *bench) pacedLag(ctx context.Context, s *benchService, pace float64, d time.Duration) (got, early, late float64, err error) {
	done, err := normalised(s)
	if err != nil {
		return 0, 0, 0, err
	}
	ended := make(chan struct{})
	var behind [2][]float64
	var sampling sync.WaitGroup
	var sampled error
	start := time.Now()
	taken, err := counter(s, "switchboard_intake_batch_updates")
	if err != nil {
		return 0, 0, 0, err
	}
	sampling.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
			}
			in, err := counter(s, "switchboard_intake_batch_updates")
			if err != nil {
				sampled = err
				return
			}
			out, err := normalised(s)
			if err != nil {
				sampled = err
				return
			}
			half := 0
			if time.Since(start) > d/2 {
				half = 1
			}
			behind[half] = append(behind[half], (in-taken)-float64(out-done))
		}
	})
	res, err := paced(ctx, s.addr, s.account, pace, d, benchConnections, &r.next)
	close(ended)
	sampling.Wait()
	if err = errors.Join(err, sampled); err != nil {
		return 0, 0, 0, err
	}
	if res.Refused > 0 {
		return 0, 0, 0, fmt.Errorf("%d webhooks were refused", res.Refused)
	}
	if err := r.settled(ctx, s, done+res.Taken); err != nil {
		return 0, 0, 0, err
	}
	return rate(res.Taken, res.Took), mean(behind[0]), mean(behind[1]), nil
}

func mean(x []float64) (m float64) {
	for _, v := range x {
		m += v / float64(len(x))
	}
	return m
}

// counter is the value of one of the service's counters, or the sum of what a
// histogram saw.
func counter(s *benchService, name string) (float64, error) {
	families, err := s.metrics.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		total := 0.0
		for _, m := range f.GetMetric() {
			total += m.GetCounter().GetValue() + m.GetHistogram().GetSampleSum()
		}
		return total, nil
	}
	return 0, fmt.Errorf("the service has no metric %s", name)
}

// normalised is how many customers' messages the service has stored.
func normalised(s *benchService) (int64, error) {
	n, err := counter(s, "switchboard_messages_received_total")
	return int64(n), err
}

// warm lets every customer write once and waits for the messages.
func (r *bench) warm(ctx context.Context, s *benchService) error {
	res, err := paced(ctx, s.addr, s.account, 2*benchCustomers, time.Second, benchConnections, &r.next)
	for res.Taken < benchCustomers && err == nil {
		var more pacedResult
		more, err = paced(ctx, s.addr, s.account, 2*benchCustomers, time.Second, benchConnections, &r.next)
		res.Taken += more.Taken
	}
	if err != nil {
		return err
	}
	return r.settled(ctx, s, res.Taken)
}

// settled waits until the service has stored n messages.
func (r *bench) settled(ctx context.Context, s *benchService, n int64) error {
	for deadline := time.Now().Add(2 * time.Minute); ; {
		got, err := normalised(s)
		if err != nil {
			return err
		}
		if got >= n {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d messages after two minutes", got, n)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// platform runs a zero-latency Telegram.
func platform(ctx context.Context) (base string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	sim := simulator.New(simulator.Config{Lean: true, AutoRegister: true, AutoCustomers: true, NoReceipts: true, BaseURL: "http://" + l.Addr().String()})
	srv := &http.Server{Handler: sim}
	go func() { _ = srv.Serve(l) }()
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { _ = sim.Run(runCtx); close(done) }()
	return "http://" + l.Addr().String(), func() { cancel(); <-done; _ = srv.Close() }, nil
}

// bareCalls measures plain HTTP calls to the platform with as many in flight as
// the workers have.
func (r *bench) bareCalls(ctx context.Context, base string) (float64, error) {
	client := egress.NewPlatformClient()
	ctx, cancel := context.WithTimeout(ctx, r.cmd.Time/2)
	defer cancel()
	var n atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	start := time.Now()
	for i := range 128 {
		wg.Go(func() {
			body := fmt.Sprintf(`{"chat_id":%d,"text":"On its way"}`, 5551000000+i)
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, "POST", base+"/telegram/bot"+demoTelegramToken+"/sendMessage", strings.NewReader(body))
				if err != nil {
					failed.Store(&err)
					return
				}
				req.Header.Set("Content-Type", "application/json")
				res, err := client.Do(req)
				if err != nil {
					if ctx.Err() == nil {
						failed.Store(&err)
					}
					return
				}
				answer, _ := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if !bytes.Contains(answer, []byte(`"ok":true`)) {
					err := fmt.Errorf("platform answered %s", answer)
					failed.Store(&err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return 0, *e
	}
	return rate(n.Load(), time.Since(start)), nil
}

// sends is figure (c).
func (r *bench) sends(ctx context.Context) error {
	base, stopPlatform, err := platform(ctx)
	if err != nil {
		return err
	}
	defer stopPlatform()
	calls, err := r.bareCalls(ctx, base)
	if err != nil {
		return err
	}
	jobs, err := r.noopJobs(ctx)
	if err != nil {
		return err
	}
	cfg, err := r.config(ctx)
	if err != nil {
		return err
	}
	got, cost, err := r.sendAll(ctx, cfg, base)
	if err != nil {
		return err
	}
	r.plain = got
	floor := sum(calls, jobs)
	r.add(benchRow{"(c) sends to a zero-latency platform", perSecond(got), perSecond(floor), ratio(got / floor), ">= 0.7", []string{
		fmt.Sprintf("(c) floor: bare calls %s + no-op River jobs %s; %s (the platform and the simulator of it are in the same process)", perSecond(calls), perSecond(jobs), cost)}})
	return nil
}

// sendAll measures how fast workers empty an outbox.
func (r *bench) sendAll(ctx context.Context, cfg *config.Config, base string) (perSec float64, cost string, err error) {
	const chats, each = 1000, 25
	if err := r.enqueue(ctx, cfg, base+"/telegram", chats, each); err != nil {
		return 0, "", err
	}
	stop, err := r.profile()
	if err != nil {
		return 0, "", err
	}
	defer stop()
	s, err := r.serviceOn(ctx, cfg, base+"/viber", "workers")
	if err != nil {
		return 0, "", err
	}
	defer s.stop()
	// The clock starts with the first send, not with the process' start.
	queued := func() (n int64, err error) {
		err = s.db.Pool().QueryRow(ctx, `select count(*) from outbox`).Scan(&n)
		return n, err
	}
	left := int64(chats * each)
	for left == chats*each {
		if left, err = queued(); err != nil {
			return 0, "", err
		}
		time.Sleep(2 * time.Millisecond)
	}
	first, start, used := left, time.Now(), r.cost()
	for deadline := start.Add(2 * time.Minute); left > 0; {
		if left, err = queued(); err != nil {
			return 0, "", err
		}
		if time.Now().After(deadline) {
			return 0, "", fmt.Errorf("%d of %d not sent after two minutes", left, chats*each)
		}
		time.Sleep(10 * time.Millisecond)
	}
	got := rate(first, time.Since(start))
	cost = r.since(used, first)
	var failed int64
	if err := s.db.Pool().QueryRow(ctx, `select count(*) from messages where direction = 'out' and status <> 'sent' and created_at > now() - interval '10 minutes'`).Scan(&failed); err != nil {
		return 0, "", err
	}
	if failed > 0 {
		return 0, "", fmt.Errorf("%d messages were not sent", failed)
	}
	return got, cost, nil
}

func (r *bench) profile() (stop func(), err error) { return startProfile(r.cmd.Profile) }

// enqueue fills the outbox while nobody sends.
func (r *bench) enqueue(ctx context.Context, cfg *config.Config, apiBase string, chats, each int) error {
	s, err := r.serviceOn(ctx, cfg, apiBase, "loader")
	if err != nil {
		return err
	}
	defer s.stop()
	accounts, err := s.db.Accounts(ctx)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(accounts, func(a switchboard.Account) bool { return a.Platform == "telegram" }); i >= 0 {
		s.account = accounts[i].ID
		return r.fill(ctx, s, chats, each)
	}
	account, err := s.admin.AddAccount(ctx, "bench", "telegram", "Bench", map[string]string{"token": demoTelegramToken, "api_base": apiBase, "rate": "0", "chat_rate": "0"})
	if err != nil {
		return err
	}
	s.account = account.ID
	return r.fill(ctx, s, chats, each)
}

// fill queues messages to the account's chats.
func (r *bench) fill(ctx context.Context, s *benchService, chats, each int) error {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	var next atomic.Int64
	for range 16 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= chats {
					return
				}
				if err := enqueueChat(ctx, s, i, each); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return *e
	}
	return nil
}

func enqueueChat(ctx context.Context, s *benchService, i, each int) error {
	chat, err := s.db.ChatFor(ctx, s.account, switchboard.Recipient{ExternalID: strconv.Itoa(5551000000 + i)})
	if err != nil {
		return err
	}
	for range each {
		if _, _, err := s.db.SendMessage(ctx, benchSend(chat)); err != nil {
			return err
		}
	}
	return nil
}
