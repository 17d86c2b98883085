package chathub_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"switchboard"
	"switchboard/channels"
	"switchboard/chathub"
	"switchboard/internal/auth"
	"switchboard/internal/secret"
)

func TestWhoMayConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	key, keyHash := secret.NewToken()
	key = auth.KeyPrefix + key
	keyHash = secret.HashToken(key)
	if _, err := w.d.AddAPIKey(t.Context(), switchboard.APIKey{Name: "script"}, keyHash); err != nil {
		t.Fatal(err)
	}
	over, overHash := secret.NewToken()
	if err := w.d.AddSession(t.Context(), ann.ID, overHash, time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	s := w.hub(nil)
	for _, tc := range []struct {
		name   string
		header http.Header
		query  string
		ok     bool
	}{
		{"header", http.Header{"Authorization": {"Bearer " + ann.token}}, "", true},
		{"query", nil, "?token=" + ann.token, true},
		{"nothing", nil, "", false},
		{"wrong", nil, "?token=wrong", false},
		{"expired", nil, "?token=" + over, false},
		{"an API key", nil, "?token=" + key, false},
		{"basic", http.Header{"Authorization": {"Basic YTpi"}}, "", false},
	} {
		ws, _, err := dial(s, tc.header, tc.query)
		if err != nil {
			t.Errorf("%s: %v; browsers see a close code only after the upgrade", tc.name, err)
			continue
		}
		c := newClient(t, ws)
		if tc.ok {
			c.hello(nil)
			continue
		}
		if code := c.closes(); code != 4401 {
			t.Errorf("%s: closed with %d, want 4401", tc.name, code)
		}
	}
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	s := w.hub(func(cfg *chathub.Config, _ *chathub.Deps) {
		cfg.PublicURL = "https://desk.example.org/app"
		cfg.AllowedOrigins = []string{"http://other.example.org:8443"}
	})
	for origin, ok := range map[string]bool{
		"":                                    true,
		"http://" + s.addr:                    true,
		"https://desk.example.org":            true,
		"HTTPS://Desk.Example.org":            true,
		"http://other.example.org:8443":       true,
		"http://desk.example.org":             false, // not over TLS
		"http://other.example.org":            false,
		"https://desk.example.org.evil.test":  false,
		"https://evil.test":                   false,
		"null":                                false,
		"https://evil.test/desk.example.org":  false,
		"https://desk.example.org@evil.test/": false,
	} {
		header := http.Header{"Authorization": {"Bearer " + ann.token}}
		if origin != "" {
			header.Set("Origin", origin)
		}
		ws, res, err := dial(s, header, "")
		if (err == nil) != ok {
			t.Errorf("origin %q: %v, want accepted %v", origin, err, ok)
		}
		if err == nil {
			_ = ws.Close()
		} else if res == nil || res.StatusCode != http.StatusForbidden {
			t.Errorf("origin %q: answered %v, want 403", origin, res)
		}
	}
}

func TestPlainRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.hub(nil)
	res, err := http.Get("http://" + s.addr + "/ws/v1")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a plain GET is answered %d, want 426", res.StatusCode)
	}
}

func TestUnavailableIsNotSignedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.hub(func(_ *chathub.Config, deps *chathub.Deps) { deps.Auth = awayAuth{} })
	_, res, err := dial(s, http.Header{"Authorization": {"Bearer x"}}, "")
	if err == nil || res == nil || res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("answered %v, %v; want 503: a client must not throw its session away", res, err)
	}
}

type awayAuth struct{}

func (awayAuth) Request(*http.Request) (auth.Principal, error) {
	return auth.Principal{}, fmt.Errorf("no database: %w", switchboard.ErrUnavailable)
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.hub(nil)
	stays := connect(t, s, w.person("stays", switchboard.RoleOperator))
	stays.hello(nil)

	leaver := w.person("leaver", switchboard.RoleOperator)
	c := connect(t, s, leaver)
	c.hello(nil)
	if err := w.d.EndSession(t.Context(), leaver.hash); err != nil {
		t.Fatal(err)
	}
	if code := c.closes(); code != 4401 {
		t.Errorf("logged out: closed with %d, want 4401", code)
	}

	brief := w.person("brief", switchboard.RoleOperator)
	token, hash := secret.NewToken()
	if err := w.d.AddSession(t.Context(), brief.ID, hash, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	brief.token = token
	c = connect(t, s, brief)
	c.hello(nil)
	if code := c.closes(); code != 4401 {
		t.Errorf("expired: closed with %d, want 4401", code)
	}
	stays.must("chat.list", m{}, nil)
}

func TestOldestConnectionGivesWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann, bob := w.person("ann", switchboard.RoleOperator), w.person("bob", switchboard.RoleOperator)
	s := w.hub(func(cfg *chathub.Config, _ *chathub.Deps) { cfg.MaxPerOperator = 2 })
	other := connect(t, s, bob)
	other.hello(nil)
	var mine []*client
	for range 3 {
		c := connect(t, s, ann)
		c.hello(nil)
		mine = append(mine, c)
	}
	if code := mine[0].closes(); code != 4409 {
		t.Errorf("closed with %d, want 4409", code)
	}
	for _, c := range []*client{mine[1], mine[2], other} {
		c.must("chat.list", m{}, nil)
	}
}

func TestLimitsOfAConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	s := w.hub(func(cfg *chathub.Config, _ *chathub.Deps) {
		cfg.HelloWait = 100 * time.Millisecond
		cfg.MaxFrame = 64 << 10
		cfg.MaxConnections = 3
	})
	mute := connect(t, s, ann)
	if code := mute.closes(); code != websocket.ClosePolicyViolation {
		t.Errorf("without hello: closed with %d, want 1008", code)
	}
	binary := connect(t, s, ann)
	if err := binary.ws.WriteMessage(websocket.BinaryMessage, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if code := binary.closes(); code != websocket.CloseUnsupportedData {
		t.Errorf("a binary frame: closed with %d, want 1003", code)
	}
	large := connect(t, s, ann)
	large.hello(nil)
	_ = large.ws.WriteMessage(websocket.TextMessage, []byte(`{"x":"`+strings.Repeat("x", 10<<20)+`"}`)) // may fail: the hub stops reading
	if code := large.closes(); code != websocket.CloseMessageTooBig {
		t.Errorf("a frame of 10 MB: closed with %d, want 1009", code)
	}
	eventually(t, "the connections' end", func() bool { return s.metric(t, "switchboard_hub_connections") == 0 })
	half := connect(t, s, ann)
	if _, err := half.ws.NetConn().Write([]byte{0x81, 0xfe, 0x01}); err != nil { // the head of a frame, and no more
		t.Fatal(err)
	}
	if code := half.closes(); code != websocket.ClosePolicyViolation {
		t.Errorf("half a frame: closed with %d, want 1008", code)
	}
	eventually(t, "the connections' end", func() bool { return s.metric(t, "switchboard_hub_connections") == 0 })
	for range 3 {
		connect(t, s, ann).hello(nil)
	}
	if _, res, err := dial(s, http.Header{"Authorization": {"Bearer " + ann.token}}, ""); err == nil || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one connection too many: %v", err)
	}
}

// A peer that vanished (no close, no answer to pings) is let go.
func TestSilentPeerIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.hub(func(cfg *chathub.Config, _ *chathub.Deps) {
		cfg.PingEvery, cfg.PongWait = 50*time.Millisecond, 200*time.Millisecond
	})
	ann := w.person("ann", switchboard.RoleOperator)
	alive := connect(t, s, ann)
	alive.hello(nil)
	if _, _, err := dial(s, http.Header{"Authorization": {"Bearer " + ann.token}}, ""); err != nil { // never read: pongs are sent by reading
		t.Fatal(err)
	}
	eventually(t, "both connections", func() bool { return s.metric(t, "switchboard_hub_connections") == 2 })
	eventually(t, "the silent one's end", func() bool { return s.metric(t, "switchboard_hub_connections") == 1 })
	alive.must("chat.list", m{}, nil)
}

func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann, bob := w.person("ann", switchboard.RoleOperator), w.person("bob", switchboard.RoleOperator)
	chat := w.chat("c", ann)
	gate, entered := make(chan struct{}), make(chan struct{})
	s := w.hub(func(cfg *chathub.Config, deps *chathub.Deps) {
		cfg.StopWait = patience
		deps.Accounts = gatedAccounts{w.accounts, gate, entered}
	})
	busy, idle, mute := connect(t, s, ann), connect(t, s, bob), connect(t, s, bob)
	busy.hello(nil)
	idle.hello(nil)
	busy.raw(`{"jsonrpc":"2.0","id":"last","method":"message.send","params":{"chat_id":"` + chat + `","kind":"text","text":"the last word"}}`)
	<-entered
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.stop()
	}()
	if code := idle.closes(); code != websocket.CloseServiceRestart {
		t.Errorf("idle: closed with %d, want 1012", code)
	}
	if code := mute.closes(); code != websocket.CloseServiceRestart {
		t.Errorf("before hello: closed with %d, want 1012", code)
	}
	if _, res, err := dial(s, http.Header{"Authorization": {"Bearer " + ann.token}}, ""); err == nil || res == nil || res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("connecting to a stopping hub: %v, want 503", err)
	}
	close(gate)
	if f := busy.answer(`"last"`); f.Error != nil {
		t.Errorf("the call in progress: %v", f.Error)
	}
	if code := busy.closes(); code != websocket.CloseServiceRestart {
		t.Errorf("busy: closed with %d, want 1012", code)
	}
	<-stopped
	if n := s.metric(t, "switchboard_hub_connections"); n != 0 {
		t.Errorf("%v connections left", n)
	}
	if s.Ready() == nil {
		t.Error("a stopped hub says that it is ready")
	}
}

type gatedAccounts struct {
	chathub.Accounts
	gate, entered chan struct{}
}

func (g gatedAccounts) Get(ctx context.Context, id string) (*channels.Opened, error) {
	g.entered <- struct{}{}
	<-g.gate
	return g.Accounts.Get(ctx, id)
}

// A peer that neither reads nor closes doesn't hold the end up.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	w.chat("c", ann)
	s := w.hub(func(cfg *chathub.Config, _ *chathub.Deps) {
		cfg.StopWait, cfg.WriteWait, cfg.QueueBytes = 100*time.Millisecond, time.Minute, 16<<20
	})
	ws, _, err := dial(s, http.Header{"Authorization": {"Bearer " + ann.token}}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"jsonrpc":"2.0","id":1,"method":"hello"}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "hello", func() bool { return s.metric(t, "switchboard_hub_calls_total") == 1 })
	begin := time.Now()
	s.stop()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

func TestPresenceFollowsConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	const grace = 400 * time.Millisecond
	quick := func(cfg *chathub.Config, _ *chathub.Deps) { cfg.PresenceGrace = grace }
	one, two := w.hub(quick), w.hub(quick)
	boss := connect(t, two, w.person("boss", switchboard.RoleSupervisor))
	boss.hello(nil)
	is := func(status string) func(event) bool {
		return func(e event) bool { return e.Operator["id"] == ann.ID && e.Operator["status"] == status }
	}
	first, second := connect(t, one, ann), connect(t, two, ann)
	first.hello(nil)
	second.hello(nil)
	boss.event("online", is("online"))
	first.cut()
	eventually(t, "the first connection's end", func() bool { return one.metric(t, "switchboard_hub_connections") == 0 })
	// One more lease goes by without news: she is there on the other hub.
	for end := time.Now().Add(2 * grace); time.Now().Before(end); time.Sleep(grace / 8) {
		o, err := w.d.Operator(t.Context(), ann.ID)
		if err != nil || o.Presence != switchboard.PresenceOnline {
			t.Fatalf("ann is %s, %v, with a connection left", o.Presence, err)
		}
	}
	second.cut()
	boss.event("offline", is("offline"))
	third := connect(t, one, ann)
	third.hello(nil)
	third.must("presence.set", m{"status": "away"}, nil)
	boss.event("away", is("away"))
	fourth := connect(t, one, ann)
	if h := fourth.hello(nil); h.Operator.Presence != switchboard.PresenceAway {
		t.Errorf("a second window of one who is away says %s", h.Operator.Presence)
	}
}

func TestNewChecksItsParts(t *testing.T) {
	t.Parallel()
	if _, err := chathub.New(chathub.Config{}, chathub.Deps{}); err == nil {
		t.Error("a hub without anything was made")
	}
	if _, err := chathub.New(chathub.Config{PingEvery: time.Minute, PongWait: time.Second}, chathub.Deps{}); err == nil || !strings.Contains(err.Error(), "PingEvery") {
		t.Errorf("pings rarer than the wait for pongs: %v", err)
	}
	if _, err := chathub.New(chathub.Config{MaxFrame: -1}, chathub.Deps{}); err == nil || !strings.Contains(err.Error(), "MaxFrame") {
		t.Errorf("a negative size: %v", err)
	}
}
