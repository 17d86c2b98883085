package edge_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"

	"switchboard/edge"
	"switchboard/internal/queue"
)

// At three times what the database takes, the edge goes on storing at the
// database's pace, tells everybody else when to come back, holds a bounded number
// of bytes, and is as before once the flood is over.
func TestOverload(t *testing.T) {
	t.Parallel()
	const pace, flood, size = 300, 5 * time.Second, 2000
	for name, cfg := range map[string]edge.Config{
		"bounded by requests": {MaxWaiting: 200},
		"bounded by bytes":    {MaxHeld: 400 << 10},
		"bounded by time":     {CommitTimeout: 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &store{append: func(ctx context.Context, updates []queue.RawUpdate) error {
					pause(ctx, time.Duration(len(updates))*time.Second/pace)
					return ctx.Err()
				}}
				e, stop := start(t, cfg, s, &electing{}, &channel{})
				pad := strings.Repeat("x", size)
				router := chi.NewRouter()
				e.Routes(router)
				send := func(n int) *httptest.ResponseRecorder {
					r := httptest.NewRequest("POST", "/webhooks/p/a", strings.NewReader(fmt.Sprintf(`{"n":%d,"pad":"%s"}`, n, pad)))
					r.Header.Set("Signature", "good")
					w := httptest.NewRecorder()
					router.ServeHTTP(w, r)
					return w
				}
				var wg sync.WaitGroup
				var good, shed, late atomic.Int64
				var most int64 // bytes
				tick := time.NewTicker(10 * time.Millisecond)
				n := 0
				for began := time.Now(); time.Since(began) < flood; <-tick.C {
					for range 3 * pace / 100 {
						n++
						n := n
						wg.Go(func() {
							began := time.Now()
							w := send(n)
							if time.Since(began) > 8*time.Second {
								late.Add(1)
							}
							switch {
							case w.Code == http.StatusOK:
								good.Add(1)
							case w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "":
								t.Errorf("answered %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
							default:
								shed.Add(1)
							}
						})
					}
					synctest.Wait()
					most = max(most, e.Held())
				}
				wg.Wait()
				if want := int64(pace * flood.Seconds() * 0.9); good.Load() < want {
					t.Errorf("%d of %d were stored, want the database's pace: %d", good.Load(), n, want)
				}
				if shed.Load() == 0 {
					t.Error("nothing was shed")
				}
				if stored, _ := s.stored(); int64(stored) < good.Load() {
					t.Errorf("%d stored, but %d told so", stored, good.Load())
				}
				if cfg.MaxHeld > 0 && most > cfg.MaxHeld || most > 12<<20 {
					t.Errorf("%d bytes were held", most)
				}
				if late.Load() > 0 {
					t.Errorf("%d waited for longer than 8 s", late.Load())
				}
				began := time.Now()
				if w := send(0); w.Code != http.StatusOK || time.Since(began) > 100*time.Millisecond {
					t.Errorf("after the flood: %d after %v", w.Code, time.Since(began))
				}
				if held := e.Held(); held != 0 {
					t.Errorf("%d bytes are still held", held)
				}
				tick.Stop()
				stop()
			})
		})
	}
}

// A promise of a long body gets no memory, and bodies that dribble can't keep
// others' out for longer than they come.
func TestBodiesAreHeldAsTheyCome(t *testing.T) {
	t.Parallel()
	s := &store{}
	e, _ := start(t, edge.Config{MaxHeld: 64 << 10}, s, &electing{}, &channel{})
	router := chi.NewRouter()
	e.Routes(router)
	var wg sync.WaitGroup
	var pipes []*io.PipeWriter
	for range 10 {
		r, w := io.Pipe()
		pipes = append(pipes, w)
		req := httptest.NewRequest("POST", "/webhooks/p/a", r)
		req.ContentLength = 1 << 20
		wg.Go(func() { router.ServeHTTP(httptest.NewRecorder(), req) })
		_, _ = io.WriteString(w, "{") // read, so its share is taken
	}
	if held := e.Held(); held != 10*4<<10 {
		t.Errorf("ten promises of 1 MiB hold %d bytes, want 4 KiB each", held)
	}
	long := `{"pad":"` + strings.Repeat("x", 30<<10) + `"}`
	if w := post(e, "/webhooks/p/a", "good", long); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("beyond the bytes that may be held: %d, want 503 with Retry-After", w.Code)
	}
	for _, w := range pipes {
		_ = w.Close()
	}
	wg.Wait()
	if w := post(e, "/webhooks/p/a", "good", long); w.Code != http.StatusOK || e.Held() != 0 {
		t.Errorf("afterwards: %d with %d bytes held", w.Code, e.Held())
	}
	if n, _ := s.stored(); n != 1 {
		t.Errorf("%d stored, want 1", n)
	}
}

// Bodies are never unpacked: a bomb is some bytes that are no JSON.
func TestPackedBodyIsNotUnpacked(t *testing.T) {
	t.Parallel()
	s := &store{}
	e, _ := start(t, edge.Config{}, s, &electing{}, &channel{})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(`{"pad":"` + strings.Repeat("x", 1<<20) + `"}`))
	_ = z.Close()
	router := chi.NewRouter()
	e.Routes(router)
	r := httptest.NewRequest("POST", "/webhooks/p/a", &packed)
	r.Header.Set("Signature", "good")
	r.Header.Set("Content-Encoding", "gzip")
	w := httptest.NewRecorder()
	router.ServeHTTP(w, r)
	if n, _ := s.stored(); w.Code != http.StatusBadRequest || n != 0 {
		t.Errorf("answered %d, %d stored", w.Code, n)
	}
}
