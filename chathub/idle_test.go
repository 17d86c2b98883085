package chathub_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchboard"
	"switchboard/bus"
	"switchboard/chathub"
	"switchboard/internal/auth"
)

// emptyStore is a database without chats, for what is about connections only.
type emptyStore struct{ chathub.Store }

func (emptyStore) OperatorChats(context.Context, string, int) ([]switchboard.Chat, error) {
	return nil, nil
}
func (emptyStore) OperatorCame(context.Context, string) error    { return nil }
func (emptyStore) TouchPresence(context.Context, []string) error { return nil }
func (emptyStore) ExpirePresence(context.Context, time.Duration) (int, error) {
	return 0, nil
}
func (emptyStore) LiveSessions(_ context.Context, hashes [][]byte) ([][]byte, error) {
	return hashes, nil
}

type quietTail struct{}

func (quietTail) Pos() int64 { return 0 }
func (quietTail) Next(context.Context, int) ([]switchboard.Event, bool, error) {
	return nil, false, nil
}

// anybody signs everybody in, each as another operator.
type anybody struct {
	mu sync.Mutex
	n  int
}

func (a *anybody) Request(*http.Request) (auth.Principal, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.n++
	id := fmt.Sprint("operator ", a.n)
	return auth.Principal{Operator: &switchboard.Operator{ID: id, Name: id, Role: switchboard.RoleOperator}, TokenHash: []byte(id), ExpiresAt: time.Now().Add(time.Hour)}, nil
}

// idleHub is a hub with n connections that have said hello and then are silent.
func idleHub(tb testing.TB, n int) (perConnection float64) {
	tb.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && limit.Cur < uint64(2*n+100) {
		tb.Fatalf("%d connections need %d descriptors; the limit is %d", n, 2*n+100, limit.Cur)
	}
	h, err := chathub.New(chathub.Config{}, chathub.Deps{
		Store: emptyStore{}, OpenTail: func(context.Context) (chathub.Tail, error) { return quietTail{}, nil }, Accounts: &accounts{}, Auth: &anybody{},
		Bus: bus.NewMemory(bus.Node{ID: "test"}), Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	front := httptest.NewServer(h.Handler())
	defer front.Close()
	defer wg.Wait()
	defer cancel()
	eventually(tb, "hub ready", func() bool { return h.Ready() == nil })

	before := memory()
	conns := make([]net.Conn, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	var dialers sync.WaitGroup
	for part := range 8 {
		dialers.Go(func() {
			for i := part; i < n; i += 8 {
				if conns[i], err = idleClient(front.Listener.Addr().String()); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	dialers.Wait()
	if tb.Failed() {
		tb.FailNow()
	}
	return float64(memory()-before) / float64(n)
}

// idleClient opens a WebSocket with no more than a TCP connection of its own.
func idleClient(addr string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, "GET /ws/v1 HTTP/1.1\r\nHost: "+addr+"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer x\r\n\r\n"); err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(c, 1024)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("answered %s", res.Status)
	}
	call := `{"jsonrpc":"2.0","id":1,"method":"hello"}`
	if _, err := c.Write(append([]byte{0x81, 0x80 | byte(len(call)), 0, 0, 0, 0}, call...)); err != nil { // masked with zeros
		return nil, err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(br, head); err != nil {
		return nil, err
	}
	body := make([]byte, int(head[2])<<8|int(head[3])) // the answer takes 126 to 65,535 bytes
	if _, err := io.ReadFull(br, body); err != nil || !strings.Contains(string(body), `"result"`) {
		return nil, fmt.Errorf("hello answered %q, %w", body, err)
	}
	return c, nil
}

// memory is what the runtime holds in use, heap and stacks, after two collections.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// BenchmarkIdleConnection reports the memory of one of 5,000 idle connections,
// the test client's own socket (about 1 KiB) included.
func BenchmarkIdleConnection(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(idleHub(b, 5000)/1024, "KiB/conn")
	}
}

// Not parallel: other tests' memory would be counted.
func TestIdleConnectionIsSmall(t *testing.T) {
	const limit = 30 << 10
	if raceEnabled {
		t.Log("the race detector's own memory is counted, too")
		return
	}
	if got := idleHub(t, 1000); got > limit {
		t.Errorf("an idle connection takes %.0f bytes, limit %d", got, limit)
	}
}
