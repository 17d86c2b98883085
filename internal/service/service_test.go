package service_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"switchboard/internal/service"
)

// journal notes what parts do.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, s)
}

func (j *journal) read() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// part runs until its context ends, and then takes slow to stop.
func (j *journal) part(name string, slow time.Duration) service.Part {
	return service.Part{Name: name, Budget: time.Second, Run: func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(slow)
		j.note(name)
		return nil
	}}
}

func group(parts ...service.Part) *service.Group {
	g := service.NewGroup(slog.New(slog.DiscardHandler))
	for _, p := range parts {
		g.Add(p)
	}
	return g
}

// Parts stop in reverse, each only when those that use it have ended.
func TestStopsInReverse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		ctx, cancel := context.WithCancel(t.Context())
		err := group(j.part("database", 0), j.part("workers", 500*time.Millisecond), j.part("http", 300*time.Millisecond)).Run(ctx, func() { j.note("started"); cancel() })
		if want := []string{"started", "http", "workers", "database"}; err != nil || !slices.Equal(j.read(), want) {
			t.Errorf("%q, %v; want %q", j.read(), err, want)
		}
	})
}

// One part that ends, with or without an error, stops them all and says so.
func TestFailingPart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want string
	}{{errors.New("port lost"), "http ended: port lost"}, {nil, "http ended: unexpectedly"}} {
		j := &journal{}
		failing := service.Part{Name: "http", Run: func(context.Context) error { return c.err }}
		err := group(j.part("database", 0), failing).Run(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || !slices.Equal(j.read(), []string{"database"}) {
			t.Errorf("%v, %q; want %q", err, j.read(), c.want)
		}
	}
}

// A part over its budget does not hold the rest.
func TestBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		err := group(j.part("database", 0), j.part("stuck", time.Minute)).Run(ctx, cancel)
		if err == nil || !strings.Contains(err.Error(), "stuck did not stop within 1s") || time.Since(began) != time.Second || !slices.Equal(j.read(), []string{"database"}) {
			t.Errorf("%v after %v, %q", err, time.Since(began), j.read())
		}
		time.Sleep(time.Minute)
	})
}

// An early part winds up beside the others, and however long each may take, all
// of them have 30 s.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		long := func(name string, slow time.Duration, early bool) service.Part {
			p := j.part(name, slow)
			p.Budget, p.Early = time.Hour, early
			return p
		}
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		err := group(j.part("database", 0), long("stuck", time.Hour, false), long("workers", 20*time.Second, true), long("http", 12*time.Second, false)).Run(ctx, cancel)
		if want := []string{"http", "workers", "database"}; err == nil || !slices.Equal(j.read(), want) || time.Since(began) != service.StopWithin {
			t.Errorf("%q after %v, %v; want %q", j.read(), time.Since(began), err, want)
		}
		time.Sleep(time.Hour)
	})
}

func TestListen(t *testing.T) {
	t.Parallel()
	l, err := service.Listen("SWITCHBOARD_HTTP_ADDR", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := service.Listen("SWITCHBOARD_HTTP_ADDR", l.Addr().String()); err == nil || !strings.Contains(err.Error(), "SWITCHBOARD_HTTP_ADDR="+l.Addr().String()) {
		t.Errorf("a taken port: %v", err)
	}
}

// A request under way when the stop begins gets its answer.
func TestHTTPDrains(t *testing.T) {
	t.Parallel()
	l, err := service.Listen("A", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inside, release := make(chan struct{}), make(chan struct{})
	part := service.HTTP("public", l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		<-release
		if r.Context().Err() != nil {
			t.Error("the request's context ended with the server's")
		}
		_, _ = io.WriteString(w, "done")
	}), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended, answer := make(chan error, 1), make(chan string, 1)
	go func() { ended <- part.Run(ctx) }()
	go func() {
		res, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		answer <- string(text)
	}()
	<-inside
	cancel()
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("answer = %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
