package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
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

// latency is figure (d): 500 webhooks a second, from sending the webhook to the
// operator's frame.
func (r *bench) latency(ctx context.Context) error {
	s, err := r.service(ctx, "http://127.0.0.1:1/viber", "edge", "workers", "chathub", "loader")
	if err != nil {
		return err
	}
	defer s.stop()
	commits, err := r.bareCommits(ctx, s)
	if err != nil {
		return err
	}
	wakes, err := busWakes(ctx, s.bus)
	if err != nil {
		return err
	}
	var next atomic.Int64
	if err := r.warm(ctx, s, &next); err != nil {
		return err
	}
	token, err := benchOperator(ctx, s, "supervisor", switchboard.RoleSupervisor)
	if err != nil {
		return err
	}
	ws, _, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+s.addr+"/ws/v1", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer ws.Close()
	if err := ws.WriteJSON(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "hello", "params": map[string]any{"cursor": nil}}); err != nil {
		return err
	}
	if _, _, err := ws.ReadMessage(); err != nil {
		return err
	}
	const perSec = 500
	total := int(r.cmd.Time.Seconds()) * perSec
	sentAt := make([]atomic.Int64, total)
	took := make([]time.Duration, 0, total)
	received := make(chan error, 1)
	began := time.Now()
	go func() {
		for len(took) < total {
			_ = ws.SetReadDeadline(time.Now().Add(15 * time.Second))
			_, frame, err := ws.ReadMessage()
			if err != nil {
				received <- fmt.Errorf("after %d of %d frames: %w", len(took), total, err)
				return
			}
			now := time.Since(began)
			var e struct {
				Params struct {
					Type    string
					Message struct{ Text string }
				}
			}
			if json.Unmarshal(frame, &e) != nil || e.Params.Type != "message.new" {
				continue
			}
			if i, err := strconv.Atoi(strings.TrimPrefix(e.Params.Message.Text, "latency ")); err == nil && i < total {
				took = append(took, now-time.Duration(sentAt[i].Load()))
			}
		}
		received <- nil
	}()
	if err := steady(ctx, s, &next, perSec, total, began, sentAt); err != nil {
		return err
	}
	if err := <-received; err != nil {
		return err
	}
	slices.Sort(took)
	p50, p99 := percentile(took, 0.5), percentile(took, 0.99)
	f50, f99 := percentile(commits, 0.5)+percentile(wakes, 0.5), percentile(commits, 0.99)+percentile(wakes, 0.99)
	us := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }
	r.add(benchRow{"(d) webhook to operator's frame at 500/s, p50", us(p50), us(f50), ratio(float64(p50) / float64(f50)), "<= 5", nil})
	r.add(benchRow{"(d) the same, p99", us(p99), us(f99), ratio(float64(p99) / float64(f99)), "", []string{
		fmt.Sprintf("(d) floor: one bare commit (p50 %s, p99 %s) + one wake of the in-process bus (p50 %s)", us(percentile(commits, 0.5)), us(percentile(commits, 0.99)), us(percentile(wakes, 0.5)))}})
	return nil
}

// steady sends webhooks at an even pace from 32 connections.
func steady(ctx context.Context, s *benchService, next *atomic.Int64, perSec, total int, began time.Time, sentAt []atomic.Int64) error {
	work := make(chan int, total)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range 32 {
		wg.Go(func() {
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				failed.Store(&err)
				return
			}
			defer conn.Close()
			rd := bufio.NewReader(conn)
			var buf []byte
			for i := range work {
				buf = callback(buf, s.account, next.Add(1), fmt.Sprint("latency ", i))
				sentAt[i].Store(int64(time.Since(began)))
				if status, err := post(conn, rd, buf); err != nil || status != 200 {
					err = fmt.Errorf("webhook answered %d: %w", status, err)
					failed.Store(&err)
					return
				}
			}
		})
	}
	tick := time.NewTicker(time.Second / time.Duration(perSec))
	defer tick.Stop()
	for i := range total {
		select {
		case <-ctx.Done():
			close(work)
			return ctx.Err()
		case <-tick.C:
		}
		work <- i
	}
	close(work)
	wg.Wait()
	if e := failed.Load(); e != nil {
		return *e
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

func busWakes(ctx context.Context, b bus.Bus) ([]time.Duration, error) {
	hints, cancel := b.Subscribe("bench")
	defer cancel()
	select { // a subscription may begin with a hint
	case <-hints:
	case <-time.After(50 * time.Millisecond):
	}
	var took []time.Duration
	for range 300 {
		time.Sleep(6 * time.Millisecond) // past the coalescing of the former wake
		start := time.Now()
		b.Wake("bench")
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
	childIdle = "idle" // holds connections for figure (e): address, number, tokens
	childLoad = "load" // see load: address, account, length, first number
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
	}
	return fmt.Errorf("%s=%q is nothing that a benchmark starts", childVariable, spec)
}

// memory is figure (e).
func (r *bench) memory(ctx context.Context) error {
	s, err := r.service(ctx, "http://127.0.0.1:1/viber", "chathub")
	if err != nil {
		return err
	}
	defer s.stop()
	const connections, perOperator = 5000, 20
	tokens := make([]string, 0, connections/perOperator)
	for i := range connections / perOperator {
		token, err := benchOperator(ctx, s, fmt.Sprint("idle", i), switchboard.RoleOperator)
		if err != nil {
			return err
		}
		tokens = append(tokens, token)
	}
	before := residentAfterGC()
	out, stop, err := benchChild(ctx, childIdle, append([]string{s.addr, strconv.Itoa(connections)}, tokens...)...)
	if err != nil {
		return err
	}
	defer stop()
	line, err := out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "connected" {
		return fmt.Errorf("holding %d connections: %q %w", connections, line, err)
	}
	after := residentAfterGC()
	each := float64(after-before) / connections
	r.add(benchRow{"(e) memory of an idle operator connection, of 5,000", fmt.Sprintf("%.1f KiB", each/1024), "", "", "<= 30 KiB", []string{
		"(e) resident memory of the hub's process after garbage collection, with and without the connections"}})
	return nil
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
