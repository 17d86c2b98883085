package service_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"switchboard/internal/service"
)

// serveHTTP runs a listener with limits until the test ends.
func serveHTTP(t *testing.T, limits service.Limits, handler http.HandlerFunc) (addr string) {
	t.Helper()
	l, err := service.Listen("A", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- service.LimitedHTTP("test", l, handler, limits, slog.New(slog.DiscardHandler)).Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// untilClosed dribbles into c until the server has closed it, and returns what it
// answered before. It fails the test after 5 s.
func untilClosed(t *testing.T, c net.Conn, dribble string) (answer string) {
	t.Helper()
	ended := make(chan string, 1)
	go func() {
		text, err := io.ReadAll(c)
		if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection is still open after 5 s")
		}
		ended <- string(text)
	}()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case text := <-ended:
			return text
		case <-tick.C:
			if dribble != "" {
				_, _ = io.WriteString(c, dribble)
			}
		}
	}
}

// Whoever is slow on purpose is cut, whatever it is slow with.
func TestSlowClientsAreCut(t *testing.T) {
	t.Parallel()
	limits := service.Limits{Header: 200 * time.Millisecond, Body: 200 * time.Millisecond, Answer: 2 * time.Second, Idle: 200 * time.Millisecond}
	addr := serveHTTP(t, limits, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/read":
			if _, err := io.ReadAll(r.Body); errors.Is(err, os.ErrDeadlineExceeded) {
				w.WriteHeader(http.StatusRequestTimeout)
			}
		case "/refuse":
			w.WriteHeader(http.StatusUnauthorized)
		case "/large":
			_, _ = w.Write(make([]byte, 64<<20))
		}
	})
	const post = "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{"
	for _, c := range []struct{ name, begin, dribble, want string }{
		{"nothing is sent", "", "", ""},
		{"headers dribble", "GET / HTTP/1.1\r\nHost: x\r\n", "A: b\r\n", ""},
		// What was dribbled and not read resets the connection, and may take the answer along.
		{"a body dribbles", fmt.Sprintf(post, "/read"), " ", ""},
		{"a body stands still", fmt.Sprintf(post, "/read"), "", " 408 "},
		{"chunks dribble", "POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n{\r\n", ""},
		{"a body dribbles that nobody reads", fmt.Sprintf(post, "/refuse"), " ", ""},
		{"the next request does not come", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", " 200 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := dialTCP(t, addr)
			if _, err := io.WriteString(conn, c.begin); err != nil {
				t.Fatal(err)
			}
			if got := untilClosed(t, conn, c.dribble); !strings.Contains(got, c.want) {
				t.Errorf("answered %q, want %q in it", got, c.want)
			}
		})
	}
	t.Run("an answer is not taken", func(t *testing.T) {
		t.Parallel()
		conn := dialTCP(t, addr)
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		if _, err := io.WriteString(conn, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		// Cut when the server has closed it: writing then fails.
		deadline := time.Now().Add(5 * time.Second)
		for {
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the connection is still open after 5 s")
			}
			<-time.After(20 * time.Millisecond)
		}
	})
}

// A body that came in time doesn't limit how long the answer may take.
func TestBodyDeadlineEndsWithTheBody(t *testing.T) {
	t.Parallel()
	addr := serveHTTP(t, service.Limits{Body: 100 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
			w.WriteHeader(http.StatusTeapot)
		case <-time.After(300 * time.Millisecond):
		}
	})
	res, err := http.Post("http://"+addr, "text/plain", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("answered %d: the body's deadline ended the request", res.StatusCode)
	}
}

// Idle connections beyond the bound give way, longest first; those with a request
// under way stay, and a newcomer is served.
func TestCrowdIsBounded(t *testing.T) {
	t.Parallel()
	inside, release := make(chan struct{}), make(chan struct{})
	addr := serveHTTP(t, service.Limits{Conns: 4}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(inside)
			<-release
		}
	})
	get := func(c net.Conn, path string) {
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	answered := func(c net.Conn) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v; want an answer", res, err)
		}
		_ = res.Body.Close()
	}
	busy := dialTCP(t, addr)
	get(busy, "/wait")
	<-inside
	var idle []net.Conn
	for range 3 {
		c := dialTCP(t, addr)
		get(c, "/")
		answered(c)
		idle = append(idle, c)
	}
	for range 10 {
		c := dialTCP(t, addr)
		get(c, "/")
		answered(c)
	}
	for _, c := range idle {
		untilClosed(t, c, "")
	}
	close(release)
	answered(busy)
}
