package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"switchboard"
	"switchboard/config"
	"switchboard/internal/dbtest"
	"switchboard/internal/secret"
	"switchboard/message"
	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(beSwitchboard) != "" {
		os.Exit(run(os.Args[1:]))
	}
	dbtest.Main(m)
}

// world is a running system with its simulator, in this process.
type world struct {
	t    *testing.T
	sys  *system
	sim  *simulator.Simulator
	base string // of the simulator
	// database is its address.
	database string
	http     string // of the public listener
	stop     func() error
}

// testConfig is the settings of a process on a database of its own.
func testConfig(t *testing.T, databaseURL string, key []byte, allow string) *config.Config {
	t.Helper()
	return &config.Config{
		DatabaseURL: databaseURL, DataDir: t.TempDir(), HTTPAddr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0", S3Bucket: "switchboard", S3Region: "us-east-1", S3TLS: "false",
		MasterKey: base64.StdEncoding.EncodeToString(key), FetchAllow: []string{allow}, LogLevel: "warn", LogFormat: "text",
	}
}

func testLog(t *testing.T) *slog.Logger {
	if os.Getenv("SWITCHBOARD_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("test", t.Name())
}

// start runs a whole system on a fresh database.
func start(t *testing.T) *world {
	t.Helper()
	sim, base := simtest.Start(t)
	return startOn(t, sim, base, dbtest.URLOf(t), bytes.Repeat([]byte{5}, secret.KeySize), func(*config.Config) {})
}

// startOn runs a system on a given database; several on one are several processes.
func startOn(t *testing.T, sim *simulator.Simulator, base, databaseURL string, key []byte, change func(*config.Config), prepare ...func(*core)) *world {
	t.Helper()
	return startLogging(t, testLog(t), sim, base, databaseURL, key, change, prepare...)
}

func startLogging(t *testing.T, log *slog.Logger, sim *simulator.Simulator, base, databaseURL string, key []byte, change func(*config.Config), prepare ...func(*core)) *world {
	t.Helper()
	cfg := testConfig(t, databaseURL, key, base[len("http://"):])
	change(cfg)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	public, ops, err := listeners(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c, err := openCore(t.Context(), cfg, log, "test", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prepare {
		f(c)
	}
	sys, err := newSystem(t.Context(), c, config.Roles, public, ops)
	if err != nil {
		c.close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		err := sys.run(ctx, func() { close(started) })
		c.close()
		ended <- err
	}()
	<-started
	w := &world{t: t, sys: sys, sim: sim, base: base, database: databaseURL, http: "http://" + public.Addr().String()}
	w.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return w
}

const (
	telegramToken = "7000000001:AAtestTokenOfTheSimulator0123456789"
	viberToken    = "4f1a2b3c4d5e6f70-8192a3b4c5d6e7f8-0a1b2c3d4e5f6071"
)

// account adds an account and connects it.
func (w *world) account(platform, token string, more map[string]string) string {
	w.t.Helper()
	settings := map[string]string{"token": token, "api_base": w.base + "/" + platform, "rate": "0", "chat_rate": "0"}
	switch platform { // registers the token at the simulator
	case "telegram":
		w.sim.Telegram(token)
	case "viber":
		w.sim.Viber(token)
		settings["sender_name"] = "Shop"
	}
	for k, v := range more {
		settings[k] = v
	}
	a, err := w.sys.admin.AddAccount(w.t.Context(), "test", platform, "Test "+platform, settings)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.sys.admin.CheckAccount(w.t.Context(), "test", a.ID); err != nil {
		w.t.Fatal(err)
	}
	return a.ID
}

func (w *world) operator(login string, role switchboard.Role) (token string) {
	w.t.Helper()
	return w.operatorAs(switchboard.Operator{Login: login, Name: "Op " + login, Role: role})
}

func (w *world) operatorAs(o switchboard.Operator) (token string) {
	w.t.Helper()
	if _, err := w.sys.admin.AddOperator(w.t.Context(), "test", o, "password of "+o.Login); err != nil {
		w.t.Fatal(err)
	}
	var s struct{ Token string }
	w.rest("POST", "/api/v1/sessions", "", map[string]string{"login": o.Login, "password": "password of " + o.Login}, 201, &s)
	return s.Token
}

// rest calls the REST API and decodes the answer into out.
func (w *world) rest(method, path, token string, body any, want int, out any) {
	w.t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.http+path, r)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if res.StatusCode != want {
		w.t.Fatalf("%s %s: %d %s, want %d", method, path, res.StatusCode, text, want)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			w.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
}

// upload stores a file and returns its id.
func (w *world) upload(token, name string, body []byte) string {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), "POST", w.http+"/files?name="+name, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var f struct{ ID string }
	if err := json.NewDecoder(res.Body).Decode(&f); err != nil || res.StatusCode != 201 {
		w.t.Fatalf("upload: %d %v", res.StatusCode, err)
	}
	return f.ID
}

// event is a notification as an operator's client gets it.
type event struct {
	Cursor  string            `json:"cursor"`
	Type    string            `json:"type"`
	ChatID  string            `json:"chat_id"`
	Message *message.Message  `json:"message"`
	Chat    *switchboard.Chat `json:"chat"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"data"`
}

func (e *rpcError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Code, e.Data.Code, e.Data.Detail)
}

// client is an operator's connection, as a test uses it.
type client struct {
	t *testing.T
	*connection
}

// in is the client for a subtest.
func (c *client) in(t *testing.T) *client { return &client{t, c.connection} }

type connection struct {
	ws      *websocket.Conn
	mu      sync.Mutex
	changed chan struct{}
	events  []event
	answers map[int]answer
	next    int
	closed  error
}

type answer struct {
	Result json.RawMessage
	Error  *rpcError
}

// connect opens a connection and says hello.
func (w *world) connect(token string, cursor *string) *client {
	w.t.Helper()
	ws, res, err := websocket.DefaultDialer.DialContext(w.t.Context(), "ws"+w.http[len("http"):]+"/ws/v1", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		w.t.Fatalf("connecting: %v %v", err, res)
	}
	c := &client{w.t, &connection{ws: ws, changed: make(chan struct{}), answers: map[int]answer{}}}
	done := make(chan struct{})
	go func() { defer close(done); c.read() }()
	w.t.Cleanup(func() { ws.Close(); <-done })
	// A hub that is short of time says so: the protocol is to try again.
	for deadline := time.Now().Add(patience); ; <-time.After(100 * time.Millisecond) {
		err := c.try("hello", map[string]any{"cursor": cursor}, nil)
		if err == nil {
			return c
		}
		if err.Code != 1006 || time.Now().After(deadline) {
			w.t.Fatalf("hello: %v", err)
		}
	}
}

func (c *connection) read() {
	for {
		var frame struct {
			ID     *int            `json:"id"`
			Method string          `json:"method"`
			Params event           `json:"params"`
			Result json.RawMessage `json:"result"`
			Error  *rpcError       `json:"error"`
		}
		err := c.ws.ReadJSON(&frame)
		c.mu.Lock()
		switch {
		case err != nil:
			c.closed = err
		case frame.Method == "event":
			c.events = append(c.events, frame.Params)
		case frame.ID != nil:
			c.answers[*frame.ID] = answer{frame.Result, frame.Error}
		}
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// until waits for cond, which is called under the client's lock.
func (c *client) until(what string, cond func() bool) {
	c.t.Helper()
	deadline := time.After(patience)
	for {
		c.mu.Lock()
		ok, changed, closed := cond(), c.changed, c.closed
		c.mu.Unlock()
		if ok {
			return
		}
		if closed != nil {
			c.t.Fatalf("waiting for %s: %v", what, closed)
		}
		select {
		case <-changed:
		case <-deadline:
			c.mu.Lock()
			defer c.mu.Unlock()
			text, _ := json.Marshal(c.events)
			c.t.Fatalf("no %s; events: %.4000s", what, text)
		}
	}
}

// try makes a call and returns its error.
func (c *client) try(method string, params, result any) *rpcError {
	c.t.Helper()
	c.mu.Lock()
	c.next++
	id := c.next
	err := c.ws.WriteJSON(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	c.mu.Unlock()
	if err != nil {
		c.t.Fatal(err)
	}
	var got answer
	c.until("answer to "+method, func() (ok bool) { got, ok = c.answers[id]; return ok })
	if got.Error == nil && result != nil {
		if err := json.Unmarshal(got.Result, result); err != nil {
			c.t.Fatalf("%s: %v in %s", method, err, got.Result)
		}
	}
	return got.Error
}

func (c *client) call(method string, params, result any) {
	c.t.Helper()
	if err := c.try(method, params, result); err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
}

// message waits for an event with a message for which ok holds.
func (c *client) message(what string, ok func(m *message.Message) bool) message.Message {
	c.t.Helper()
	var found message.Message
	c.until(what, func() bool {
		for _, e := range c.events {
			if e.Message != nil && ok(e.Message) {
				found = *e.Message
				return true
			}
		}
		return false
	})
	return found
}

// send sends a message and waits until the platform has it.
func (c *client) send(params map[string]any) message.Message {
	c.t.Helper()
	var r struct{ Message message.Message }
	c.call("message.send", params, &r)
	return c.message("sent message", func(m *message.Message) bool {
		if m.ID == r.Message.ID && m.Status == message.StatusFailed {
			c.t.Errorf("message failed: %+v", m.Error)
		}
		return m.ID == r.Message.ID && (m.Status == message.StatusSent || m.Status == message.StatusDelivered || m.Status == message.StatusRead || m.Status == message.StatusFailed)
	})
}

// closed tells whether a listener refuses connections.
func closed(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, os.ErrDeadlineExceeded) || err != nil
}
