package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"switchboard"
	"switchboard/bus"
	"switchboard/internal/queue"
	"switchboard/internal/secret"
	"switchboard/message"
)

func benchSend(chat string) queue.Send {
	return queue.Send{ChatID: chat, Content: message.Content{Kind: message.KindText, Text: "On its way"}, Sender: message.Sender{Kind: message.SenderAPI, Name: "Bench"}}
}

func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}

type noopArgs struct{ N int }

// Kind implements river.JobArgs.
func (noopArgs) Kind() string { return "noop" }

type noopWorker struct {
	river.WorkerDefaults[noopArgs]
	done *atomic.Int64
}

// Work does nothing.
func (w *noopWorker) Work(context.Context, *river.Job[noopArgs]) error { w.done.Add(1); return nil }

// noopJobs burns River jobs down that do nothing, with settings at which its
// queue is not held back by its fetch cooldown.
func (r *bench) noopJobs(ctx context.Context) (float64, error) {
	cfg, err := r.config(ctx)
	if err != nil {
		return 0, err
	}
	pool, err := pgxpool.New(ctx, cfg.DatabaseURL)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	var done atomic.Int64
	workers := river.NewWorkers()
	river.AddWorker(workers, &noopWorker{done: &done})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Workers: workers, Logger: slog.New(slog.DiscardHandler),
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2000, FetchCooldown: 10 * time.Millisecond}}})
	if err != nil {
		return 0, err
	}
	const jobs = 60000
	params := make([]river.InsertManyParams, 5000)
	for i := range params {
		params[i].Args = noopArgs{i}
	}
	for range jobs / len(params) {
		if _, err := client.InsertManyFast(ctx, params); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	if err := client.Start(ctx); err != nil {
		return 0, err
	}
	for done.Load() < jobs && time.Since(start) < time.Minute {
		time.Sleep(2 * time.Millisecond)
	}
	took := time.Since(start)
	stop, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return rate(done.Load(), took), client.Stop(stop)
}

func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(float64(len(sorted))*p))]
}

// latency is figure (d): from sending the webhook to the operator's frame, at 500
// webhooks a second and at half of what the service sustains.
func (r *bench) latency(ctx context.Context) error {
	half := r.sustained / 2
	if half == 0 {
		cfg, err := r.config(ctx)
		if err != nil {
			return err
		}
		_, sustained, _, err := r.takeMessages(ctx, cfg, r.cmd.Time/2, false)
		if err != nil {
			return err
		}
		half = sustained / 2
	}
	cfg, err := r.config(ctx)
	if err != nil {
		return err
	}
	s, err := r.serviceOn(ctx, cfg, "http://127.0.0.1:1/viber", "edge", "workers", "chathub", "loader")
	if err != nil {
		return err
	}
	defer s.stop()
	wakes, err := busWakes(ctx, s.bus, s.bus)
	if err != nil {
		return err
	}
	if err := r.frames(ctx, s, s, "", "in-process bus", wakes, 500, half); err != nil {
		return err
	}
	if err := s.stop(); err != nil {
		return err
	}
	if len(r.zookeeper) == 0 {
		r.rows[len(r.rows)-1].notes = append(r.rows[len(r.rows)-1].notes, "(d) on the ZooKeeper bus: left out, there is no ensemble (SWITCHBOARD_ZOOKEEPER_SERVERS)")
		return nil
	}
	return r.distributedLatency(ctx, half)
}

// distributedLatency is latency with an edge, workers and a hub that know of each
// other by ZooKeeper only.
func (r *bench) distributedLatency(ctx context.Context, half float64) error {
	cfg, err := r.config(ctx)
	if err != nil {
		return err
	}
	cfg.ZooKeeperServers = r.zookeeper
	var parts []*benchService
	for _, roles := range [][]string{{"edge"}, {"workers"}, {"chathub", "loader"}} {
		own := *cfg
		s, err := r.serviceOn(ctx, &own, "http://127.0.0.1:1/viber", roles...)
		if err != nil {
			return err
		}
		defer s.stop()
		parts = append(parts, s)
	}
	wakes, err := busWakes(ctx, parts[0].bus, parts[1].bus)
	if err != nil {
		return err
	}
	return r.frames(ctx, parts[0], parts[2], ", ZooKeeper bus", "ZooKeeper bus", wakes, 500, half)
}

// frames measures the way from a webhook at the edge to a supervisor's frame at the
// hub, at several paces.
func (r *bench) frames(ctx context.Context, edge, hub *benchService, title, busName string, wakes []time.Duration, paces ...float64) error {
	commits, err := r.bareCommits(ctx, edge)
	if err != nil {
		return err
	}
	token, err := benchOperator(ctx, hub, "supervisor", switchboard.RoleSupervisor)
	if err != nil {
		return err
	}
	var next atomic.Int64
	f50, f99 := percentile(commits, 0.5)+percentile(wakes, 0.5), percentile(commits, 0.99)+percentile(wakes, 0.99)
	us := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }
	for i, pace := range paces {
		took, err := frameTimes(ctx, edge, hub, token, pace, r.cmd.Time, &next)
		if err != nil {
			return err
		}
		aims, name := [2]string{}, fmt.Sprintf("(d) webhook to operator's frame%s, %.0f/s, ", title, pace)
		var notes []string
		if i == len(paces)-1 {
			aims = [2]string{"<= 3", "<= 10"}
			notes = []string{fmt.Sprintf("(d) floor%s: one bare commit (p50 %s, p99 %s) + one wake of the %s (p50 %s, p99 %s); the second pace is half of what is sustained", title,
				us(percentile(commits, 0.5)), us(percentile(commits, 0.99)), busName, us(percentile(wakes, 0.5)), us(percentile(wakes, 0.99)))}
		}
		r.add(benchRow{name + "p50", us(took.P50), us(f50), ratio(float64(took.P50) / float64(f50)), aims[0], nil})
		r.add(benchRow{name + "p99", us(took.P99), us(f99), ratio(float64(took.P99) / float64(f99)), aims[1], notes})
	}
	return nil
}

func (r *bench) bareCommits(ctx context.Context, s *benchService) ([]time.Duration, error) {
	conn, err := s.db.Pool().Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `create table if not exists bench_commits (n int)`); err != nil {
		return nil, err
	}
	var took []time.Duration
	for i := range 2000 {
		start := time.Now()
		if _, err := conn.Exec(ctx, `insert into bench_commits values ($1)`, i); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took, nil
}

// busWakes measures how long a wake takes from one bus to another.
func busWakes(ctx context.Context, from, to bus.Bus) ([]time.Duration, error) {
	hints, cancel := to.Subscribe("bench")
	defer cancel()
	for quiet := false; !quiet; { // a subscription may begin with hints
		select {
		case <-hints:
		case <-time.After(300 * time.Millisecond):
			quiet = true
		}
	}
	var took []time.Duration
	for range 300 {
		time.Sleep(6 * time.Millisecond) // past the coalescing of the former wake
		start := time.Now()
		from.Wake("bench")
		select {
		case <-hints:
			took = append(took, time.Since(start))
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
			return nil, fmt.Errorf("a wake did not arrive within a second")
		}
	}
	slices.Sort(took)
	return took, nil
}

func benchOperator(ctx context.Context, s *benchService, login string, role switchboard.Role) (token string, err error) {
	o, err := s.db.AddOperator(ctx, switchboard.Operator{Login: login, Name: login, Role: role}, "no password")
	if err != nil {
		return "", err
	}
	token, hash := secret.NewToken()
	return token, s.db.AddSession(ctx, o.ID, hash, time.Now().Add(time.Hour))
}

// childVariable makes a process a helper of a benchmark: a kind and its
// arguments, parted by commas. What the helper uses must not count as ours.
const childVariable = "SWITCHBOARD_BENCH_CHILD"

const (
	childIdle   = "idle"   // holds connections for figure (e): address, number, tokens
	childLoad   = "load"   // see load: address, account, length, first number
	childPaced  = "paced"  // see paced
	childFrames = "frames" // see frameTimes
)

// benchChild starts a helper process. It ends when stop is called.
func benchChild(ctx context.Context, kind string, args ...string) (out *bufio.Reader, stop func(), err error) {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+kind+","+strings.Join(args, ","))
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return bufio.NewReader(pipe), func() { _ = in.Close(); _ = cmd.Wait() }, nil
}

// runChild is the helper process.
func runChild(spec string) error {
	kind, args, _ := strings.Cut(spec, ",")
	switch kind {
	case childIdle:
		return holdIdle(args)
	case childLoad:
		if a := strings.Split(args, ","); len(a) == 4 {
			return generate(a[0], a[1], a[2], a[3])
		}
	case childPaced:
		return runPaced(args)
	case childFrames:
		return runFrames(args)
	}
	return fmt.Errorf("%s=%q is nothing that a benchmark starts", childVariable, spec)
}

// memory is figure (e): what idle connections of operators take, and what they do
// to the events of one operator.
func (r *bench) memory(ctx context.Context) error {
	s, err := r.service(ctx, "http://127.0.0.1:1/viber", "chathub")
	if err != nil {
		return err
	}
	defer s.stop()
	const few, connections, perOperator = 100, 9_900, 20
	tokens := make([]string, 0, connections/perOperator)
	for i := range connections / perOperator {
		token, err := benchOperator(ctx, s, fmt.Sprint("idle", i), switchboard.RoleOperator)
		if err != nil {
			return err
		}
		tokens = append(tokens, token)
	}
	one, err := newReceiver(ctx, s)
	if err != nil {
		return err
	}
	defer one.ws.Close()
	hold := func(n int) (stop func(), err error) {
		out, stop, err := benchChild(ctx, childIdle, append([]string{s.addr, strconv.Itoa(n)}, tokens...)...)
		if err != nil {
			return nil, err
		}
		if line, err := out.ReadString('\n'); err != nil || strings.TrimSpace(line) != "connected" {
			stop()
			return nil, fmt.Errorf("holding %d connections: %q %w", n, line, err)
		}
		return stop, nil
	}
	stopFew, err := hold(few)
	if err != nil {
		return err
	}
	defer stopFew()
	amongFew, err := one.events(ctx, s)
	if err != nil {
		return err
	}
	before := residentAfterGC()
	stopMany, err := hold(connections)
	if err != nil {
		return err
	}
	defer stopMany()
	each := float64(residentAfterGC()-before) / connections
	amongMany, err := one.events(ctx, s)
	if err != nil {
		return err
	}
	r.add(benchRow{"(e) memory of an idle operator connection, of 10,000", fmt.Sprintf("%.1f KiB", each/1024), "", "", "<= 20 KiB", []string{
		"(e) resident memory of the hub's process after garbage collection, with and without the connections"}})
	r.add(benchRow{"(e) an event to one operator among 10,000", fmt.Sprintf("%.1f us", amongMany), fmt.Sprintf("%.1f us", amongFew), ratio(amongMany / amongFew), "about 1", []string{
		fmt.Sprintf("(e) floor: the same among %d; time from commit to the last frame of %d events, for each, the median of %d goes", few, receiverEvents, receiverGoes)}})
	return nil
}

// receiver is an operator with one connection and one open chat with one message.
type receiver struct {
	ws                *websocket.Conn
	id, chat, message string
	frames            chan string // closed when the connection ended
}

const receiverEvents, receiverGoes = 2000, 9

func newReceiver(ctx context.Context, s *benchService) (*receiver, error) {
	token, err := benchOperator(ctx, s, "receiver", switchboard.RoleOperator)
	if err != nil {
		return nil, err
	}
	r := &receiver{}
	if r.chat, err = s.db.ChatFor(ctx, s.account, switchboard.Recipient{ExternalID: "bench-receiver"}); err != nil {
		return nil, err
	}
	m, _, err := s.db.SendMessage(ctx, benchSend(r.chat))
	if err != nil {
		return nil, err
	}
	r.message = m.ID
	if err := s.db.Pool().QueryRow(ctx, `update chats set state = 'open', operator_id = o.id from operators o where o.login = 'receiver' and chats.id = $1 returning o.id`, r.chat).Scan(&r.id); err != nil {
		return nil, err
	}
	if r.ws, err = connectOperator(ctx, s.addr, token); err != nil {
		return nil, err
	}
	// Always reading, because that is what answers pings.
	r.frames = make(chan string, 2*receiverEvents)
	go func() {
		defer close(r.frames)
		for {
			_, frame, err := r.ws.ReadMessage()
			if err != nil {
				return
			}
			r.frames <- string(frame)
		}
	}()
	return r, nil
}

// events returns the microseconds that an event takes from its commit to the
// operator, in a crowd of them.
func (r *receiver) events(ctx context.Context, s *benchService) (float64, error) {
	each := make([]float64, 0, receiverGoes)
	for range receiverGoes {
		if _, err := s.db.Pool().Exec(ctx, `insert into events (type, chat_id, message_id, operator_id) select 'message.updated', $1, $2, $3 from generate_series(1, $4)`,
			r.chat, r.message, r.id, receiverEvents); err != nil {
			return 0, err
		}
		start := time.Now()
		s.bus.Wake("events")
		for got := 0; got < receiverEvents; {
			select {
			case frame, ok := <-r.frames:
				if !ok {
					return 0, fmt.Errorf("the connection ended after %d of %d events", got, receiverEvents)
				}
				if strings.Contains(frame, `"message.updated"`) {
					got++
				}
			case <-time.After(time.Minute):
				return 0, fmt.Errorf("%d of %d events came", got, receiverEvents)
			}
		}
		each = append(each, float64(time.Since(start).Microseconds())/receiverEvents)
	}
	slices.Sort(each)
	return each[len(each)/2], nil
}

func residentAfterGC() int64 {
	for range 3 {
		runtime.GC()
		debug.FreeOSMemory()
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// holdIdle opens connections, says hello on each, prints "connected", and holds
// them until standard input ends.
func holdIdle(spec string) error {
	fields := strings.Split(spec, ",")
	n, err := strconv.Atoi(fields[1])
	if err != nil {
		return err
	}
	tokens := fields[2:]
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	conns := make([]*websocket.Conn, n)
	slots := make(chan struct{}, 50)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ws, _, err := websocket.DefaultDialer.Dial("ws://"+fields[0]+"/ws/v1", http.Header{"Authorization": {"Bearer " + tokens[i%len(tokens)]}})
			if err == nil {
				err = ws.WriteJSON(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "hello", "params": map[string]any{"cursor": nil}})
			}
			if err == nil {
				_, _, err = ws.ReadMessage()
			}
			if err != nil {
				failed.Store(&err)
				return
			}
			conns[i] = ws
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		return *e
	}
	fmt.Println("connected")
	_, _ = os.Stdin.Read(make([]byte, 1))
	return nil
}
