package service

import (
	"container/list"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits bound what strangers can hold of a listener. Zero values take the
// defaults.
type Limits struct {
	// Header is how long the head of a request may take; default 10 s.
	Header time.Duration
	// Body is how long the body may take, whether the handler reads it or not;
	// default 20 s, in which the largest body but an upload (1 MiB) comes over
	// 0.4 Mbit/s. A handler that takes longer bodies sets the connection's read
	// deadline itself, as it reads.
	Body time.Duration
	// Answer is how long a request may take in all, until its answer is taken;
	// default 2 min, above the longest poll (50 s). A handler of longer answers
	// sets the connection's write deadline itself, as it writes.
	Answer time.Duration
	// Idle is how long a connection may wait for its next request; default 2 min.
	Idle time.Duration
	// Conns is how many connections there may be, those that a handler took over
	// aside; default 8192, some 100 MiB. Beyond it the one that has waited longest
	// for a request gives way, so that hoarding idle ones shuts nobody out.
	Conns int
}

func (l Limits) withDefaults() Limits {
	def := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Header, 10*time.Second)
	def(&l.Body, 20*time.Second)
	def(&l.Answer, 2*time.Minute)
	def(&l.Idle, 2*time.Minute)
	if l.Conns <= 0 {
		l.Conns = 8192
	}
	return l
}

// HTTP serves handler on l until ctx ends, then lets requests in flight finish.
func HTTP(name string, l net.Listener, handler http.Handler, log *slog.Logger) Part {
	return LimitedHTTP(name, l, handler, Limits{}, log)
}

// LimitedHTTP is HTTP with limits of its own.
func LimitedHTTP(name string, l net.Listener, handler http.Handler, limits Limits, log *slog.Logger) Part {
	const drain = 12 * time.Second // above the edge's commit timeout of 8 s
	limits = limits.withDefaults()
	return Part{Name: name, Budget: drain + 2*time.Second, Run: func(ctx context.Context) error {
		conns := &crowd{most: limits.Conns, at: map[net.Conn]*list.Element{}}
		srv := &http.Server{
			Handler:           bodyWithin(limits.Body, handler),
			ReadHeaderTimeout: limits.Header,
			WriteTimeout:      limits.Answer,
			IdleTimeout:       limits.Idle,
			MaxHeaderBytes:    64 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
			BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
			ConnState:         conns.changed,
		}
		failed := make(chan error, 1)
		go func() { failed <- srv.Serve(l) }()
		select {
		case err := <-failed:
			return fmt.Errorf("serving %s: %w", name, err)
		case <-ctx.Done():
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if err := srv.Shutdown(stop); err != nil {
			_ = srv.Close()
		}
		<-failed
		return nil
	}}
}

// bodyWithin gives each body a deadline. http.Server.ReadTimeout would go on
// behind the body, where the server listens for the client's going, and end the
// request's context in the middle of a long answer.
func bodyWithin(d time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			ctl := http.NewResponseController(w)
			_ = ctl.SetReadDeadline(time.Now().Add(d))
			r.Body = &timedBody{r.Body, ctl}
		}
		next.ServeHTTP(w, r)
	})
}

// timedBody ends the deadline with the body. One that is not read keeps it: the
// server reads the rest before it sends the answer.
type timedBody struct {
	io.ReadCloser
	ctl *http.ResponseController
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.ctl.SetReadDeadline(time.Time{})
	}
	return n, err
}

// crowd bounds the connections of a server.
type crowd struct {
	most int

	mu      sync.Mutex
	waiting list.List                  // of net.Conn that wait for a request, longest first
	at      map[net.Conn]*list.Element // all; nil while a request is under way
}

// changed is the server's ConnState.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	if out := c.move(conn, state); out != nil {
		_ = out.Close()
	}
}

// move keeps count, and returns the connection that has to go.
func (c *crowd) move(conn net.Conn, state http.ConnState) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.at[conn]; e != nil {
		c.waiting.Remove(e)
	}
	switch state {
	case http.StateClosed, http.StateHijacked:
		delete(c.at, conn)
		return nil
	case http.StateActive:
		c.at[conn] = nil
		return nil
	}
	c.at[conn] = c.waiting.PushBack(conn)
	if len(c.at) <= c.most {
		return nil
	}
	first := c.waiting.Front()
	out := first.Value.(net.Conn)
	c.waiting.Remove(first)
	c.at[out] = nil // until the server says that it is closed
	return out
}
