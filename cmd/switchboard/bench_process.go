package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/config"
	"switchboard/internal/queue"
	"switchboard/simulator"
)

// The figures of whole processes: idle (g), start (h), limiter (l), overload (o).

// benchProcess is a running `switchboard serve`.
type benchProcess struct {
	pid       int
	http, ops string // host:port
	ready     time.Duration
	stop      func()
}

// serve starts a process and returns when it is ready.
func (r *bench) serve(ctx context.Context, cfg *config.Config, roles ...string) (*benchProcess, error) {
	cmd := exec.CommandContext(ctx, os.Args[0], "serve", "--roles="+strings.Join(roles, ","))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "SWITCHBOARD_DATABASE_URL=" + cfg.DatabaseURL, "SWITCHBOARD_MASTER_KEY=" + cfg.MasterKey,
		"SWITCHBOARD_DATA_DIR=" + cfg.DataDir, "SWITCHBOARD_HTTP_ADDR=127.0.0.1:0", "SWITCHBOARD_OPS_ADDR=127.0.0.1:0", "SWITCHBOARD_LOG_FORMAT=json",
		"SWITCHBOARD_FETCH_ALLOW=127.0.0.0/8", "SWITCHBOARD_ZOOKEEPER_SERVERS=" + strings.Join(cfg.ZooKeeperServers, ",")}
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &benchProcess{pid: cmd.Process.Pid}
	p.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(log)
	for p.ops == "" && lines.Scan() {
		var entry struct{ Msg, HTTP, Ops string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
			p.http, p.ops = entry.HTTP, entry.Ops
		}
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	for p.ops != "" {
		res, err := http.Get("http://" + p.ops + "/readyz") //nolint:noctx // bounded by the process
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				p.ready = time.Since(start)
				return p, nil
			}
		}
		if time.Since(start) > time.Minute {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	p.stop()
	return nil, errors.New("the process did not become ready")
}

// usage is a process's CPU time so far and its resident memory.
func (p *benchProcess) usage() (cpu time.Duration, resident int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0, 0, err
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	const userField, systemField, residentField, ticks = 11, 12, 21, 100
	user, _ := strconv.ParseInt(fields[userField], 10, 64)
	system, _ := strconv.ParseInt(fields[systemField], 10, 64)
	pages, err := strconv.ParseInt(fields[residentField], 10, 64)
	return time.Duration(user+system) * time.Second / ticks, pages * int64(os.Getpagesize()), err
}

// costs is CPU time used so far, by this process and by Postgres.
type costs struct{ service, postgres time.Duration }

// cost reads what was used so far. Unlike rates it says the same on a machine that
// is busy with other things.
func (r *bench) cost() (c costs) {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		c.service = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	// Of Postgres' processes those that live, and what the ended ones used.
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	const parent, user, childUser, tick = 1, 11, 13, time.Second / 100
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(after)
		first := 0
		switch strconv.Itoa(r.server.PID()) {
		case fields[parent]:
			first = user
		case filepath.Base(filepath.Dir(name)):
			first = childUser
		default:
			continue
		}
		for _, field := range fields[first : first+2] {
			n, _ := strconv.ParseInt(field, 10, 64)
			c.postgres += time.Duration(n) * tick
		}
	}
	return c
}

// since says what one of n took since before.
func (r *bench) since(before costs, n int64) string {
	now := r.cost()
	us := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(max(n, 1)) }
	return fmt.Sprintf("CPU of the service %.1f us, of Postgres %.1f us each", us(now.service-before.service), us(now.postgres-before.postgres))
}

// idle is figure (g): what a process with every role takes while nothing happens.
func (r *bench) idle(ctx context.Context) error {
	cfg, err := r.withAccount(ctx)
	if err != nil {
		return err
	}
	p, err := r.serve(ctx, cfg, config.Roles...)
	if err != nil {
		return err
	}
	defer p.stop()
	time.Sleep(8 * time.Second) // what is done at a start is over
	before, _, err := p.usage()
	if err != nil {
		return err
	}
	length := max(r.cmd.Time, 20*time.Second) // CPU time is counted in hundredths of a second
	time.Sleep(length)
	after, resident, err := p.usage()
	if err != nil {
		return err
	}
	r.add(benchRow{"(g) idle process, CPU of one core", fmt.Sprintf("%.2f %%", 100*(after-before).Seconds()/length.Seconds()), "", "", "< 1 %", nil})
	r.add(benchRow{"(g) idle process, memory without Postgres", fmt.Sprintf("%.0f MiB", float64(resident)/(1<<20)), "", "", "< 80 MiB", nil})
	return nil
}

// withAccount is a fresh database with the Viber account.
func (r *bench) withAccount(ctx context.Context) (*config.Config, error) {
	cfg, err := r.config(ctx)
	if err != nil {
		return nil, err
	}
	s, err := r.serviceOn(ctx, cfg, "http://127.0.0.1:1/viber", "loader")
	if err != nil {
		return nil, err
	}
	return cfg, s.stop()
}

// start is figure (h): from the start of the process to its readiness.
func (r *bench) start(ctx context.Context) error {
	cfg, err := r.withAccount(ctx)
	if err != nil {
		return err
	}
	var took []time.Duration
	for range 5 {
		p, err := r.serve(ctx, cfg, config.Roles...)
		if err != nil {
			return err
		}
		p.stop()
		took = append(took, p.ready)
	}
	slices.Sort(took)
	r.add(benchRow{"(h) start to ready, all roles", fmt.Sprintf("%.2f s", took[len(took)/2].Seconds()), "", "", "< 2 s", []string{"(h) the median of five, with Postgres running and its tables there"}})
	return nil
}

// arrivals notes when sends reach the platform.
type arrivals struct {
	http.Handler
	mu    sync.Mutex
	at    []time.Time
	texts map[string]time.Time // of replies
}

// ServeHTTP implements http.Handler.
func (a *arrivals) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if !strings.HasSuffix(req.URL.Path, "/sendMessage") {
		a.Handler.ServeHTTP(w, req)
		return
	}
	now := time.Now()
	body, _ := io.ReadAll(req.Body)
	req.Body = io.NopCloser(strings.NewReader(string(body)))
	var m struct{ Text string }
	_ = json.Unmarshal(body, &m)
	a.mu.Lock()
	a.at = append(a.at, now)
	if strings.HasPrefix(m.Text, "reply ") {
		a.texts[m.Text] = now
	}
	a.mu.Unlock()
	a.Handler.ServeHTTP(w, req)
}

func (a *arrivals) replied(text string) (at time.Time, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok = a.texts[text]
	return at, ok
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at)
}

// window returns the sends per second without limiterWarm and the last second, and
// the most in any window of one second.
func (a *arrivals) window() (perSec float64, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := slices.SortedFunc(slices.Values(a.at), time.Time.Compare)
	if len(at) == 0 {
		return 0, 0
	}
	lo, hi := at[0].Add(limiterWarm), at[len(at)-1].Add(-time.Second)
	n := 0
	for i, t := range at {
		if !t.Before(lo) && t.Before(hi) {
			n++
		}
		until, _ := slices.BinarySearchFunc(at, t.Add(time.Second), time.Time.Compare)
		most = max(most, until-i)
	}
	return float64(n) / hi.Sub(lo).Seconds(), most
}

const limiterProcesses = 8

// limiterWarm is how long eight processes start and plan their statements.
const limiterWarm = 4 * time.Second

// limiter measures the account's rate over 8 worker processes by the platform's
// clock, and how long replies wait while a bulk load runs.
func (r *bench) limiter(ctx context.Context) error {
	if len(r.zookeeper) == 0 {
		r.add(benchRow{"(l) limiter, 8 worker processes", "left out", "", "", "", []string{"(l) several processes need ZooKeeper (SWITCHBOARD_ZOOKEEPER_SERVERS)"}})
		return nil
	}
	for _, perSec := range []float64{300, 30} {
		if err := r.limit(ctx, perSec); err != nil {
			return err
		}
	}
	return nil
}

// watchedPlatform is the simulator with a note of when sends came.
func watchedPlatform() (seen *arrivals, base string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	base = "http://" + l.Addr().String()
	seen = &arrivals{Handler: simulator.New(simulator.Config{Lean: true, AutoRegister: true, AutoCustomers: true, NoReceipts: true, BaseURL: base}), texts: map[string]time.Time{}}
	srv := &http.Server{Handler: seen}
	served := make(chan struct{})
	go func() { _ = srv.Serve(l); close(served) }()
	return seen, base, func() { srv.Close(); <-served }, nil
}

func (r *bench) limit(ctx context.Context, perSec float64) error {
	cfg, err := r.config(ctx)
	if err != nil {
		return err
	}
	cfg.ZooKeeperServers = r.zookeeper
	seen, base, stop, err := watchedPlatform()
	if err != nil {
		return err
	}
	defer stop()
	s, err := r.serviceOn(ctx, cfg, base+"/viber", "loader")
	if err != nil {
		return err
	}
	defer s.stop()
	account, err := s.admin.AddAccount(ctx, "bench", "telegram", "Bench", map[string]string{"token": demoTelegramToken, "api_base": base + "/telegram", "rate": strconv.FormatFloat(perSec, 'f', -1, 64), "chat_rate": "0"})
	if err != nil {
		return err
	}
	length := max(2*r.cmd.Time, 12*time.Second)
	// As many messages as leave until the end and a bit, to half as many chats; there
	// before anybody sends, so that it is not their making that is measured.
	bulk := int(perSec * (length + limiterWarm).Seconds() * 1.1)
	if err := eachOf(16, bulk/2, func(i int) error {
		chat, err := s.db.ChatFor(ctx, account.ID, switchboard.Recipient{ExternalID: strconv.Itoa(5552000000 + i)})
		if err != nil {
			return err
		}
		for range 2 {
			send := benchSend(chat)
			send.Priority = queue.PriorityCampaign
			if _, _, err := s.db.SendMessage(ctx, send); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for range limiterProcesses {
		p, err := r.serve(ctx, cfg, "workers")
		if err != nil {
			return err
		}
		defer p.stop()
	}
	waits, err := replies(ctx, s, account.ID, seen, length+limiterWarm-time.Second)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); seen.count() < bulk+len(waits); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d messages reached the platform", seen.count(), bulk+len(waits))
		}
	}
	got, most := seen.window()
	burst := max(1, int(perSec/10))
	slices.Sort(waits)
	r.add(benchRow{fmt.Sprintf("(l) limiter at %.0f/s, %d worker processes", perSec, limiterProcesses), fmt.Sprintf("%.1f/s", got), fmt.Sprintf("%.0f/s", perSec), strconv.FormatFloat(got/perSec, 'f', 3, 64), "0.98 to 1", []string{
		fmt.Sprintf("(l) by the platform's clock, over the %.0f s after the start of the processes; the most in any window of a second: %d (%.0f and a burst of %d)", length.Seconds(), most, perSec, burst)}})
	r.add(benchRow{fmt.Sprintf("(l) reply among a bulk load at %.0f/s, p99", perSec), fmt.Sprintf("%.2f s", percentile(waits, 0.99).Seconds()), "", "", "< 1 s", []string{
		fmt.Sprintf("(l) %d replies; p50 %.2f s", len(waits), percentile(waits, 0.5).Seconds())}})
	return nil
}

// replies sends operators' messages while others wait in line, and returns how
// long each took to the platform.
func replies(ctx context.Context, s *benchService, account string, seen *arrivals, d time.Duration) (waits []time.Duration, err error) {
	sent := map[string]time.Time{}
	start := time.Now()
	for i := 0; time.Since(start) < d; i++ {
		chat, err := s.db.ChatFor(ctx, account, switchboard.Recipient{ExternalID: strconv.Itoa(5553000000 + i)})
		if err != nil {
			return nil, err
		}
		send := benchSend(chat)
		send.Content.Text = fmt.Sprint("reply ", i)
		sent[send.Content.Text] = time.Now()
		if _, _, err := s.db.SendMessage(ctx, send); err != nil {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	for text, at := range sent {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if came, ok := seen.replied(text); ok {
				waits = append(waits, came.Sub(at))
				break
			}
			if time.Now().After(deadline) {
				return nil, fmt.Errorf("%s did not reach the platform", text)
			}
		}
	}
	return waits, nil
}

// eachOf calls do for 0 to n-1, some at a time, until there is an error.
func eachOf(atOnce, n int, do func(i int) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	next := 0
	for range atOnce {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := failed != nil || i >= n
				mu.Unlock()
				if stop {
					return
				}
				if err := do(i); err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return failed
}

// overload offers three times what the edge sustains. So that a generator on the
// same cores can, storing a batch takes 200 ms here.
func (r *bench) overload(ctx context.Context) error {
	cfg, err := r.withAccount(ctx)
	if err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, cfg.DatabaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	var account string
	if err := pool.QueryRow(ctx, `select id::text from accounts`).Scan(&account); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, `create function slow_intake() returns trigger language plpgsql as 'begin perform pg_sleep(0.2); return null; end';
		create trigger slow_intake before insert on updates execute function slow_intake()`); err != nil {
		return err
	}
	defer func() { _, _ = pool.Exec(context.WithoutCancel(ctx), `drop function slow_intake cascade`) }()
	p, err := r.serve(ctx, cfg, "edge", "workers")
	if err != nil {
		return err
	}
	defer p.stop()
	const connections = 8000 // twice as many as may wait
	calm, err := paced(ctx, p.http, account, 100_000, r.cmd.Time/2, 1000, &r.next)
	if err != nil {
		return err
	}
	sustained := rate(calm.Taken, calm.Took)
	_, restBefore, err := p.usage()
	if err != nil {
		return err
	}
	watched := make(chan struct{})
	var peak int64
	var health time.Duration
	var sick error
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-watched:
				return
			case <-time.After(50 * time.Millisecond):
			}
			if _, resident, err := p.usage(); err == nil {
				peak = max(peak, resident)
			}
			begin := time.Now()
			if err := healthy(ctx, p.ops); err != nil {
				sick = errors.Join(sick, err)
			}
			health = max(health, time.Since(begin))
		}
	})
	storm, err := paced(ctx, p.http, account, 3*sustained, 2*r.cmd.Time, connections, &r.next)
	close(watched)
	watch.Wait()
	if err = errors.Join(err, sick); err != nil {
		return err
	}
	// Recovery: what is sustained without trouble is taken at once again.
	ended := time.Now()
	recovered := time.Duration(0)
	var after pacedResult
	for {
		more, err := paced(ctx, p.http, account, sustained/2, 500*time.Millisecond, 1000, &r.next)
		if err != nil {
			return err
		}
		after.Taken += more.Taken
		if more.Refused == 0 && more.Unsent == 0 {
			break
		}
		if recovered = time.Since(ended); recovered > time.Minute {
			return errors.New("the edge still refuses webhooks a minute after the overload")
		}
	}
	accepted := calm.Taken + storm.Taken + after.Taken
	var stored, messages int64
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err := pool.QueryRow(ctx, `select count(*), (select count(*) from messages) from updates`).Scan(&stored, &messages); err != nil {
			return err
		}
		if messages == stored {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d messages of %d updates after two minutes", messages, stored)
		}
	}
	if stored < accepted {
		return fmt.Errorf("%d webhooks were answered 200, but %d are stored", accepted, stored)
	}
	offered := storm.Taken + storm.Refused + storm.Unsent
	r.add(benchRow{"(o) overload, taken of what is sustained", perSecond(rate(storm.Taken, storm.Took)), perSecond(sustained), ratio(rate(storm.Taken, storm.Took) / sustained), "about 1", []string{
		fmt.Sprintf("(o) floor: sustained when storing takes 200 ms. Offered %.1f times as much by %d connections: %d answered 503 (%d of these without Retry-After), %d more found no free connection",
			rate(offered, 2*r.cmd.Time)/sustained, connections, storm.Refused, storm.NoRetry, storm.Unsent),
		fmt.Sprintf("(o) memory %.0f MiB before, %.0f MiB at most; slowest health check %.0f ms; slowest answer %.1f s; %.1f s until nothing was refused at half of the pace; accepted %d, stored %d, messages %d",
			float64(restBefore)/(1<<20), float64(peak)/(1<<20), float64(health.Milliseconds()), storm.Slowest.Seconds(), recovered.Seconds(), accepted, stored, messages)}})
	return nil
}

func healthy(ctx context.Context, ops string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/healthz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("health under overload: %w", err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("health under overload: %d", res.StatusCode)
	}
	return nil
}
