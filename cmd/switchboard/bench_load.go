package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// The generators of load at a pace, each a process of its own.

// pacedResult is what a paced load met with.
type pacedResult struct {
	Taken     int64 // answered 200
	Refused   int64 // answered 503
	NoRetry   int64 // of these, those that were not told when to come again
	Unsent    int64 // were due, but every connection waited for an answer
	Took      time.Duration
	Slowest   time.Duration // answer
	NextFirst int64
}

// paced sends distinct callbacks at an even pace for d.
func paced(ctx context.Context, addr, account string, pace float64, d time.Duration, connections int, next *atomic.Int64) (res pacedResult, err error) {
	out, stop, err := benchChild(ctx, childPaced, addr, account, strconv.FormatFloat(pace, 'f', 1, 64), d.String(), strconv.Itoa(connections), strconv.FormatInt(next.Load(), 10))
	if err != nil {
		return res, err
	}
	defer stop()
	if err := json.NewDecoder(out).Decode(&res); err != nil {
		return res, fmt.Errorf("the load generator ended early: %w", err)
	}
	next.Store(res.NextFirst)
	return res, nil
}

// evenly hands out n numbers evenly over time; what nobody takes at once is counted.
// ready is how many of them may wait.
func evenly(perSec float64, d time.Duration, ready int, do func(work <-chan int64)) (unsent int64) {
	work := make(chan int64, ready)
	done := make(chan struct{})
	go func() { do(work); close(done) }()
	begin := time.Now()
	var given int64
	for elapsed := time.Duration(0); elapsed < d; elapsed = time.Since(begin) {
		for due := int64(elapsed.Seconds() * perSec); given < due; given++ {
			select {
			case work <- given:
			default:
				unsent++
			}
		}
		// Timers are no finer than this on a busy machine.
		time.Sleep(min(time.Millisecond, max(100*time.Microsecond, time.Duration(float64(time.Second)/perSec))))
	}
	close(work)
	<-done
	return unsent
}

// runPaced is the process of paced.
func runPaced(spec string) error {
	a := strings.Split(spec, ",")
	if len(a) != 6 {
		return fmt.Errorf("paced load: %q", spec)
	}
	addr, account := a[0], a[1]
	perSec, err := strconv.ParseFloat(a[2], 64)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(a[3])
	if err != nil {
		return err
	}
	connections, err := strconv.Atoi(a[4])
	if err != nil {
		return err
	}
	first, err := strconv.ParseInt(a[5], 10, 64)
	if err != nil {
		return err
	}
	conns := make([]net.Conn, connections)
	for i := range conns {
		if conns[i], err = net.Dial("tcp", addr); err != nil {
			return err
		}
		defer conns[i].Close()
	}
	var taken, refused, noRetry, slowest, last atomic.Int64
	last.Store(first)
	var failed atomic.Pointer[error]
	begin := time.Now()
	unsent := evenly(perSec, d, connections, func(work <-chan int64) {
		var wg sync.WaitGroup
		for _, conn := range conns {
			wg.Go(func() {
				r := bufio.NewReader(conn)
				var buf []byte
				for range work {
					buf = callback(buf, account, last.Add(1), benchText)
					sent := time.Now()
					status, again, err := postTold(conn, r, buf)
					for took := int64(time.Since(sent)); ; {
						if was := slowest.Load(); took <= was || slowest.CompareAndSwap(was, took) {
							break
						}
					}
					switch {
					case err == nil && status == http.StatusOK:
						taken.Add(1)
					case err == nil && status == http.StatusServiceUnavailable:
						refused.Add(1)
						if !again {
							noRetry.Add(1)
						}
					default:
						err = fmt.Errorf("webhook answered %d: %w", status, err)
						failed.Store(&err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
	if e := failed.Load(); e != nil {
		return *e
	}
	return json.NewEncoder(os.Stdout).Encode(pacedResult{Taken: taken.Load(), Refused: refused.Load(), NoRetry: noRetry.Load(), Unsent: unsent,
		Took: time.Since(begin), Slowest: time.Duration(slowest.Load()), NextFirst: last.Load()})
}

// frameResult is how long operators waited.
type frameResult struct {
	P50, P99 time.Duration
	Last     int64
}

// frameTimes sends callbacks at an even pace to the edge, and measures until each
// one's frame is with an operator at the hub. The same process does both.
func frameTimes(ctx context.Context, edge, hub *benchService, token string, pace float64, d time.Duration, next *atomic.Int64) (res frameResult, err error) {
	out, stop, err := benchChild(ctx, childFrames, edge.addr, edge.account, hub.addr, token, strconv.FormatFloat(pace, 'f', 1, 64), d.String(), strconv.FormatInt(next.Load(), 10))
	if err != nil {
		return res, err
	}
	defer stop()
	if err := json.NewDecoder(out).Decode(&res); err != nil {
		return res, fmt.Errorf("the load generator ended early: %w", err)
	}
	next.Store(res.Last)
	return res, nil
}

func connectOperator(ctx context.Context, addr, token string) (*websocket.Conn, error) {
	ws, _, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+addr+"/ws/v1", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	if err := ws.WriteJSON(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "hello", "params": map[string]any{"cursor": nil}}); err != nil {
		return nil, err
	}
	_, _, err = ws.ReadMessage()
	return ws, err
}

const framePrefix = `"text":"latency `

// runFrames is the process of frameTimes. The first second and the customers' first
// messages, which make chats, are not counted.
func runFrames(spec string) error {
	a := strings.Split(spec, ",")
	if len(a) != 7 {
		return fmt.Errorf("frames: %q", spec)
	}
	perSec, err := strconv.ParseFloat(a[4], 64)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(a[5])
	if err != nil {
		return err
	}
	first, err := strconv.ParseInt(a[6], 10, 64)
	if err != nil {
		return err
	}
	ws, err := connectOperator(context.Background(), a[2], a[3])
	if err != nil {
		return err
	}
	defer ws.Close()
	warm := int64(perSec)
	if first == 0 {
		warm = max(warm, benchCustomers)
	}
	lead := time.Duration(float64(warm) / perSec * float64(time.Second))
	sentAt := make([]atomic.Int64, warm+int64(perSec*d.Seconds())+1)
	began := time.Now()
	var expected atomic.Int64 // frames; 0 while there are more to come
	took := make([]time.Duration, 0, len(sentAt))
	received := make(chan error, 1)
	go func() {
		seen := make([]bool, len(sentAt))
		for n := int64(0); ; {
			_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, frame, err := ws.ReadMessage()
			if err != nil {
				var missing []int
				for i := range seen {
					if !seen[i] && sentAt[i].Load() != 0 {
						missing = append(missing, i)
					}
				}
				received <- fmt.Errorf("after %d of %d frames, without %v: %w", n, expected.Load(), missing, err)
				return
			}
			now := time.Since(began)
			_, text, ok := strings.Cut(string(frame), framePrefix)
			if !ok || !strings.Contains(string(frame), `"type":"message.new"`) { // an offered chat shows its last message too
				continue
			}
			digits, _, _ := strings.Cut(text, `"`)
			i, err := strconv.Atoi(digits)
			if err != nil || i >= len(sentAt) {
				continue
			}
			seen[i] = true
			if n++; int64(i) >= warm {
				took = append(took, now-time.Duration(sentAt[i].Load()))
			}
			if n == expected.Load() {
				received <- nil
				return
			}
		}
	}()
	var failed atomic.Pointer[error]
	var next, done atomic.Int64
	next.Store(first)
	unsent := evenly(perSec, lead+d, len(sentAt), func(work <-chan int64) {
		var wg sync.WaitGroup
		for range benchConnections {
			wg.Go(func() {
				conn, err := net.Dial("tcp", a[0])
				if err != nil {
					failed.Store(&err)
					return
				}
				defer conn.Close()
				r := bufio.NewReader(conn)
				var buf []byte
				for i := range work {
					if int(i) >= len(sentAt) {
						continue
					}
					buf = callback(buf, a[1], next.Add(1), "latency "+strconv.FormatInt(i, 10))
					sentAt[i].Store(int64(time.Since(began)))
					if status, err := post(conn, r, buf); err != nil || status != http.StatusOK {
						err = fmt.Errorf("webhook answered %d: %w", status, err)
						failed.Store(&err)
						return
					}
					done.Add(1)
				}
			})
		}
		wg.Wait()
		// One more tells the reader the number, which it may be waiting past.
		expected.Store(done.Load() + 1)
		conn, err := net.Dial("tcp", a[0])
		if err != nil {
			failed.Store(&err)
			return
		}
		defer conn.Close()
		if status, err := post(conn, bufio.NewReader(conn), callback(nil, a[1], next.Add(1), "latency 0")); err != nil || status != http.StatusOK {
			err = fmt.Errorf("webhook answered %d: %w", status, err)
			failed.Store(&err)
		}
	})
	if e := failed.Load(); e != nil {
		return *e
	}
	if unsent > 0 {
		return fmt.Errorf("%d webhooks could not be sent in time", unsent)
	}
	if err := <-received; err != nil {
		return err
	}
	slices.Sort(took)
	return json.NewEncoder(os.Stdout).Encode(frameResult{P50: percentile(took, 0.5), P99: percentile(took, 0.99), Last: next.Load()})
}
