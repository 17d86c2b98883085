package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"

	"switchboard/filestore"
	"switchboard/internal/dbtest"
	"switchboard/internal/s3test"
	"switchboard/internal/secret"
	"switchboard/internal/zktest"
	"switchboard/message"
	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

// route is a line of the public door: the patterns of paths and the services
// that serve them.
type route struct{ patterns, services []string }

func (r route) fits(path string) bool {
	return r.patterns == nil || slices.ContainsFunc(r.patterns, func(p string) bool {
		prefix, open := strings.CutSuffix(p, "*")
		return path == p || (open && strings.HasPrefix(path, prefix))
	})
}

// readRoutes reads the routes of the Caddyfile; another test checks that file.
func readRoutes(t *testing.T) []route {
	t.Helper()
	text, err := os.ReadFile("../../deploy/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	matchers := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^\s*(@\w+) path (.+)$`).FindAllStringSubmatch(string(text), -1) {
		matchers[m[1]] = strings.Fields(m[2])
	}
	var routes []route
	for _, m := range regexp.MustCompile(`handle (@\w+ )?\{\s*reverse_proxy ([^{]+)\{`).FindAllStringSubmatch(string(text), -1) {
		r := route{patterns: matchers[strings.TrimSpace(m[1])]}
		for _, upstream := range strings.Fields(m[2]) {
			name, _, _ := strings.Cut(upstream, ":")
			r.services = append(r.services, name)
		}
		routes = append(routes, r)
	}
	if len(routes) != len(matchers)+1 {
		t.Fatalf("deploy/Caddyfile: read %d routes and %d matchers", len(routes), len(matchers))
	}
	return routes
}

// openDoor is a reverse proxy that does what the Caddyfile asks for: requests go
// round the processes of a route, and one that can't be connected to is passed
// over, for up to 5 s.
func openDoor(t *testing.T, routes []route, address func(service string) string) *httptest.Server {
	var turn atomic.Uint64
	dialer := net.Dialer{Timeout: time.Second}
	transport := &http.Transport{
		// A connection for each request: a request never meets one that has just been closed.
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var n int
			if _, err := fmt.Sscanf(addr, "route-%d", &n); err != nil {
				return nil, err
			}
			services := routes[n].services
			for deadline := time.Now().Add(5 * time.Second); ; {
				var err error
				first := turn.Add(1)
				for i := range services {
					var conn net.Conn
					if conn, err = dialer.DialContext(ctx, network, address(services[(int(first)+i)%len(services)])); err == nil {
						return conn, nil
					}
				}
				if time.Now().After(deadline) {
					return nil, err
				}
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(100 * time.Millisecond):
				}
			}
		},
	}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			n := slices.IndexFunc(routes, func(x route) bool { return x.fits(r.In.URL.Path) })
			r.SetURL(&url.URL{Scheme: "http", Host: fmt.Sprintf("route-%d", n)})
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// fleet is a set of processes behind one door.
type fleet struct {
	owner   *testing.T
	dir     string // where the processes run; nothing may be written there
	command map[string][]string
	env     map[string]map[string]string
	door    string // http://host:port

	mu        sync.Mutex
	processes map[string]*process
	former    []*process // those that others have taken the place of
}

func newFleet(t *testing.T, command map[string][]string, env map[string]map[string]string) *fleet {
	return &fleet{owner: t, dir: t.TempDir(), command: command, env: env, processes: map[string]*process{}}
}

// address is where a service's public listener is or was.
func (f *fleet) address(service string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.processes[service]; p != nil {
		return p.http
	}
	return "127.0.0.1:1" // not started yet
}

func (f *fleet) process(service string) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.processes[service]
}

// start runs services and returns when they are ready.
func (f *fleet) start(t *testing.T, services ...string) {
	t.Helper()
	var all []*process
	for _, name := range services {
		all = append(all, launch(t, f.owner, name, f.dir, f.env[name], "", f.command[name]...))
	}
	for i, p := range all {
		p.awaitServing(t)
		f.place(services[i], p)
	}
}

// place makes p the process of a service.
func (f *fleet) place(service string, p *process) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if before := f.processes[service]; before != nil {
		f.former = append(f.former, before)
	}
	f.processes[service] = p
}

// everProcess is every process that served, the dead ones too.
func (f *fleet) everProcess() []*process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(slices.Collect(maps.Values(f.processes)), f.former...)
}

// tool runs a command of the program; the returned function waits for its end,
// which must be a good one, and returns what it printed.
func (f *fleet) tool(t *testing.T, service, stdin string, args ...string) (done func() string) {
	t.Helper()
	p := launch(t, t, strings.Join(args[:min(2, len(args))], " "), f.dir, f.env[service], stdin, args...)
	return func() string {
		t.Helper()
		if code := p.wait(t, 60*time.Second); code != 0 || strings.Contains(p.logText(), "warning:") {
			t.Fatalf("%q ended with exit code %d: %s", args, code, p.logText())
		}
		return p.output()
	}
}

// printed runs a tool that prints JSON.
func printed(t *testing.T, done func() string, v any) {
	t.Helper()
	if text := done(); json.Unmarshal([]byte(text), v) != nil {
		t.Fatalf("a tool printed %q", text)
	}
}

// addAccount adds an account; done waits for it and returns its id.
func (f *fleet) addAccount(t *testing.T, platform string, settings map[string]string, more ...string) (done func() (id string)) {
	t.Helper()
	args := append([]string{"account", "add", "--json", "--platform", platform, "--name", "Shop on " + platform}, more...)
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "--set", k+"="+settings[k])
	}
	wait := f.tool(t, "admin", "", args...)
	return func() string {
		t.Helper()
		var a struct{ ID string }
		printed(t, wait, &a)
		return a.ID
	}
}

func (f *fleet) addOperator(t *testing.T, login string) (done func() string) {
	t.Helper()
	return f.tool(t, "admin", passwordOf(login)+"\n", "operator", "add", "--json", "--login", login, "--role", "operator", "--password-stdin")
}

// addKey makes a key of the REST API.
func (f *fleet) addKey(t *testing.T) string {
	t.Helper()
	var made struct{ Key string }
	printed(t, f.tool(t, "admin", "", "apikey", "add", "--json", "--name", "script"), &made)
	return made.Key
}

// prepare adds accounts without limits at a simulator, and operators with their
// passwords.
func (f *fleet) prepare(t *testing.T, sim *simulator.Simulator, base string, operators ...string) {
	t.Helper()
	sim.Telegram(telegramToken)
	sim.Viber(viberToken)
	done := []func() string{
		f.addAccount(t, "telegram", map[string]string{"token": telegramToken, "api_base": base + "/telegram", "rate": "0", "chat_rate": "0"}),
		f.addAccount(t, "viber", map[string]string{"token": viberToken, "api_base": base + "/viber", "sender_name": "Shop", "rate": "0", "chat_rate": "0"}),
	}
	for _, login := range operators {
		done = append(done, f.addOperator(t, login))
	}
	for _, d := range done {
		d()
	}
}

// poller is the service that polls the one polled account.
func (f *fleet) poller(t *testing.T, services ...string) (name string) {
	t.Helper()
	eventually(t, patience, "one process polls", func() bool {
		var polling []string
		for _, s := range services {
			if f.process(s).gauge("switchboard_accounts_polled") == 1 {
				polling = append(polling, s)
			}
		}
		if len(polling) != 1 {
			return false
		}
		name = polling[0]
		return true
	})
	return name
}

// set is what docker-compose.yml describes as plain processes, with what they
// stand on.
type set struct {
	*fleet
	serving map[string][]string // roles by service
	sim     *simulator.Simulator
	base    string // of the simulator
	zk      *zktest.Ensemble
	ways    map[string][]*zktest.Proxy // by edge: to the nodes of zk
}

// topology is a set with talks.
type topology struct {
	*set
	db    *pgx.Conn
	tg    *simulator.TelegramAccount
	vb    *simulator.ViberAccount
	ann   *agent
	bob   *agent
	talks []*talk // four on Telegram, four on Viber
	moved []*talk // one on each, apart from those
}

// services are those that play a role.
func (x *set) services(role string) (names []string) {
	for name, roles := range x.serving {
		if slices.Contains(roles, role) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// startSet reads docker-compose.yml and starts what it describes, with the names
// of its network replaced by addresses of this machine.
func startSet(t *testing.T, database string, s3 filestore.S3Config, sim simulator.Config) *set {
	t.Helper()
	x := &set{fleet: newFleet(t, map[string][]string{}, map[string]map[string]string{}), serving: map[string][]string{}, ways: map[string][]*zktest.Proxy{}}
	x.door = openDoor(t, readRoutes(t), x.address).URL
	x.zk = zktest.Start(t, 3)
	x.sim, x.base = simtest.StartConfig(t, sim)

	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  "../..",
		ConfigFiles: []types.ConfigFile{{Filename: "../../docker-compose.yml"}},
		Environment: types.Mapping{
			"SWITCHBOARD_PUBLIC_URL": x.door, "SWITCHBOARD_FETCH_ALLOW": strings.TrimPrefix(x.base, "http://"),
			"POSTGRES_PASSWORD": "unused", "S3_ACCESS_KEY": s3.AccessKey, "S3_SECRET_KEY": s3.SecretKey,
			"SWITCHBOARD_MASTER_KEY": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, secret.KeySize)),
		},
	}, func(o *loader.Options) {
		o.SetProjectName("switchboard", true)
		o.Profiles = []string{"*"}
	})
	if err != nil {
		t.Fatal(err)
	}
	zk := x.zk.Servers()
	names := strings.NewReplacer("zk-1:2181", zk[0], "zk-2:2181", zk[1], "zk-3:2181", zk[2], "s3:7070", s3.Endpoint, "0.0.0.0:8080", "127.0.0.1:0", "0.0.0.0:9090", "127.0.0.1:0")
	for name, s := range project.Services {
		x.command[name], x.env[name] = s.Command, map[string]string{}
		for key, value := range s.Environment {
			if value != nil {
				x.env[name][key] = names.Replace(*value)
			}
		}
		if _, ours := x.env[name]["SWITCHBOARD_DATABASE_URL"]; ours {
			x.env[name]["SWITCHBOARD_DATABASE_URL"] = database
		}
		if len(s.Command) == 3 && s.Command[0] == "serve" && s.Command[1] == "--roles" {
			x.serving[name] = strings.Split(s.Command[2], ",")
			if slices.Contains(x.serving[name], "edge") {
				proxies, addrs := zktest.NewProxies(t, zk)
				x.ways[name], x.env[name]["SWITCHBOARD_ZOOKEEPER_SERVERS"] = proxies, strings.Join(addrs, ",")
			}
		}
	}
	x.tool(t, "migrate", "", x.command["migrate"]...)()
	x.start(t, slices.Sorted(maps.Keys(x.serving))...)
	if n := [5]int{len(x.services("edge")), len(x.services("workers")), len(x.services("chathub")), len(x.services("loader")), len(x.services("filestore"))}; n != [5]int{2, 2, 2, 1, 1} {
		t.Fatalf("edges, workers, hubs, loaders, filestores: %v", n)
	}
	return x
}

// startTopology is a set with two accounts and two operators.
func startTopology(t *testing.T) *topology {
	t.Helper()
	server := dbtest.Server(t)
	x := &topology{set: startSet(t, server.URL(), s3test.Shared(t, "switchboard"),
		simulator.Config{KeepMessages: 20_000, KeepRequests: 50_000, RetryBase: 200 * time.Millisecond, RetryMax: time.Second})}
	var err error
	if x.db, err = pgx.Connect(t.Context(), server.URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.db.Close(context.Background()) })
	x.prepare(t, x.sim, x.base, "ann", "bob")
	x.tg, x.vb = x.sim.Telegram(telegramToken), x.sim.Viber(viberToken)
	hubs := x.services("chathub")
	x.ann, x.bob = x.operator(t, "ann", hubs), x.operator(t, "bob", []string{hubs[1], hubs[0]})
	return x
}

func passwordOf(login string) string { return "password of " + login }

// operator signs an operator in at the door and connects to the first of the
// hubs, directly.
func (f *fleet) operator(t *testing.T, name string, hubs []string) *agent {
	t.Helper()
	token, id := login(t, f.door, name, passwordOf(name))
	a := runAgent(t, name, id, token, func() (addresses []string) {
		for _, h := range hubs {
			addresses = append(addresses, f.address(h))
		}
		return addresses
	})
	a.await(t, patience, "connection", func() bool { return a.conn != nil })
	if a.address() != f.address(hubs[0]) {
		t.Errorf("%s is connected to %s, want %s", name, a.address(), f.address(hubs[0]))
	}
	return a
}

func (x *topology) telegramCustomer(t *testing.T, name string) *simulator.TelegramCustomer {
	t.Helper()
	c, err := x.tg.NewCustomer(simulator.CustomerSpec{FirstName: name})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (x *topology) viberCustomer(t *testing.T, name string) *simulator.ViberCustomer {
	t.Helper()
	c, err := x.vb.NewCustomer(simulator.CustomerSpec{FirstName: name})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pace is that of each customer and each operator's chat under load: with eight
// chats 160 messages/s, which leaves two cores air under the race detector.
const pace = 100 * time.Millisecond

// TestTopology tells the times that it sees, and wants only that what is to happen
// happens: TestChaos judges times, by what the machine was able to do.
func TestTopology(t *testing.T) {
	x := startTopology(t)
	steps := []struct {
		name string
		run  func(t *testing.T)
	}{
		{"listeners", x.listeners},
		{"conversation", x.conversation},
		{"files", x.filesBothWays},
		{"killed worker and poller", x.killedWorkerAndPoller},
		{"stopped poller", x.stoppedPoller},
		{"killed hub", x.killedHub},
		{"terminated hub", x.terminatedHub},
		{"no quorum", x.noQuorum},
		{"drained roles", x.drainedRoles},
		{"end", x.end},
	}
	for _, s := range steps {
		if !t.Run(s.name, func(t *testing.T) { s.run(t); x.nothingSetAside(t) }) {
			return // what follows would only stumble
		}
	}
}

// nothingSetAside: quarantine is for updates that are wrong, and none was.
func (x *topology) nothingSetAside(t *testing.T) {
	var aside string
	err := x.db.QueryRow(t.Context(), `select coalesce(string_agg(q.error || ': ' || convert_from(u.raw, 'UTF8'), E'\n'), '')
		from (select * from quarantine limit 3) q left join updates u on u.id = q.update_id`).Scan(&aside)
	if err != nil || aside != "" {
		t.Errorf("updates were put into quarantine: %v\n%s", err, aside)
	}
}

func (x *topology) listeners(t *testing.T) {
	for name := range x.serving {
		p := x.process(name)
		for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "process_cpu_seconds_total"} {
			if status, text := get("http://"+p.ops+path, ""); status != 200 || !strings.Contains(text, want) {
				t.Errorf("%s: %s answers %d %.100s", name, path, status, text)
			}
		}
		// What a role does not serve, it does not answer, and says so.
		if status, _ := get("http://"+p.http+"/metrics", ""); status == 200 && !slices.Contains(x.serving[name], "loader") {
			t.Errorf("%s: the public listener has /metrics", name)
		}
	}
	if status, text := get(x.door+"/api/openapi.json", ""); status != 200 || !strings.Contains(text, "/api/v1/chats") {
		t.Errorf("the OpenAPI document at the door: %d %.100s", status, text)
	}
}

// conversation: customers of both platforms, two operators on different hubs, and
// a script that writes into two of the chats.
func (x *topology) conversation(t *testing.T) {
	agents := []*agent{x.ann, x.bob}
	for i := range 8 {
		var c person = x.telegramCustomer(t, fmt.Sprint("T", i))
		if i >= 4 {
			c = x.viberCustomer(t, fmt.Sprint("V", i))
		}
		k := greet(t, c, agents[i%2])
		if i >= 4 {
			k.backlog = x.vb.Pending
		}
		x.talks = append(x.talks, k)
	}
	key := x.addKey(t)
	x.talks[3].byScript(x.door, key)
	x.talks[7].byScript(x.door, key)
	f := startFlow(t, "talk", x.talks, pace)
	x.ann.await(t, patience, "ten messages of a customer", func() bool {
		n := 0
		for _, e := range x.ann.events {
			if e.ChatID == x.talks[0].chat && e.Type == "message.new" && e.Message != nil && e.Message.Direction == message.In {
				n++
			}
		}
		return n > 10
	})
	t.Log(f.finish(t, x.door))

	// Each gives a chat to the other, and sees it no more.
	for i, c := range []person{x.telegramCustomer(t, "Moved"), x.viberCustomer(t, "Moved")} {
		from, to := agents[i], agents[1-i]
		k := greet(t, c, from)
		from.must(t, "chat.transfer", map[string]any{"chat_id": k.chat, "operator_id": to.id}, nil)
		to.await(t, patience, "the transferred chat", func() bool {
			return slices.ContainsFunc(to.events, func(e received) bool {
				return e.ChatID == k.chat && e.Chat != nil && e.Chat.OperatorID != nil && *e.Chat.OperatorID == to.id
			})
		})
		k.agent = to
		k.say("after the transfer")
		to.message(t, "message to the new operator", func(m *message.Message) bool { return m.ChatID == k.chat && m.Text == "after the transfer" })
		if err := k.answer("it is me now"); err != nil {
			t.Fatal(err)
		}
		err := from.call("message.send", map[string]any{"chat_id": k.chat, "client_id": "late", "kind": "text", "text": "too late"}, nil)
		if e, ok := errors.AsType[*rpcError](err); !ok || (e.Code != 1001 && e.Code != 1002) {
			t.Errorf("the operator who gave the chat away could send: %v", err)
		}
		if texts, _ := from.inbound(k.chat); slices.Contains(texts, "after the transfer") {
			t.Error("the operator who gave the chat away saw what was written there afterwards")
		}
		k.check(t, x.door, time.Now(), &outcome{})
		x.moved = append(x.moved, k)
	}
}

// filesBothWays through the door, S3, and the platforms.
func (x *topology) filesBothWays(t *testing.T) {
	tg, vb := x.moved[0].customer.(*simulator.TelegramCustomer), x.moved[1].customer.(*simulator.ViberCustomer)
	sent := map[*talk]simulator.Sent{}
	var err error
	if sent[x.moved[0]], err = tg.SendFile("document", simulator.FileSpec{Format: "pdf", Name: "order.pdf", Size: 300_000}); err != nil {
		t.Fatal(err)
	}
	if sent[x.moved[1]], err = vb.SendFile("file", simulator.FileSpec{Format: "zip", Name: "order.zip", Size: 2_000_000}); err != nil {
		t.Fatal(err)
	}
	for k, s := range sent {
		m, _ := k.agent.message(t, "the customer's file", func(m *message.Message) bool {
			return m.ChatID == k.chat && len(m.Files) == 1 && m.Files[0].State == message.FileReady
		})
		status, body := get(x.door+"/files/"+m.Files[0].ID, k.agent.token)
		if sum := sha256.Sum256([]byte(body)); status != 200 || hex.EncodeToString(sum[:]) != s.Files[0].SHA256 {
			t.Errorf("%s of the customer: %d, %d bytes, want %+v", m.Files[0].Name, status, len(body), s.Files[0])
		}
	}
	picture := append([]byte("%PDF-1.7\n"), bytes.Repeat([]byte("switchboard "), 50_000)...)
	sum := sha256.Sum256(picture)
	for k := range sent {
		res, err := http.DefaultClient.Do(authorized(t, "POST", x.door+"/files?name=answer.pdf", k.agent.token, picture))
		if err != nil {
			t.Fatal(err)
		}
		var f struct{ ID string }
		err = json.NewDecoder(res.Body).Decode(&f)
		res.Body.Close()
		if err != nil || res.StatusCode != 201 {
			t.Fatalf("uploading at the door: %d %v", res.StatusCode, err)
		}
		k.agent.must(t, "message.send", map[string]any{"chat_id": k.chat, "client_id": "file", "kind": "document", "files": []string{f.ID}}, nil)
		eventually(t, patience, "the customer has the operator's file", func() bool {
			all := k.customer.Messages()
			last := all[len(all)-1]
			return len(last.Files) == 1 && last.Files[0].SHA256 == hex.EncodeToString(sum[:])
		})
	}
	if left, err := os.ReadDir(x.dir); err != nil || len(left) > 0 {
		t.Errorf("the processes wrote to their disk, which is read-only in a container: %v %v", left, err)
	}
}

func authorized(t *testing.T, method, url, token string, body []byte) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return req
}

// killedWorkerAndPoller: kill -9 of both in the middle of a stream, and of a call
// that the platform has accepted and not answered, which is the one that can't be
// known.
func (x *topology) killedWorkerAndPoller(t *testing.T) {
	hung := x.talks[0]
	if _, err := x.sim.Fault(simulator.Fault{Kind: simulator.FaultHangAfter, Platform: "telegram", Method: "sendMessage", Customer: hung.customer.ID(), After: 5, Count: 1}); err != nil {
		t.Fatal(err)
	}
	// A call takes as long as real ones do, so that many are cut.
	if _, err := x.sim.Fault(simulator.Fault{Kind: simulator.FaultSlow, Method: "sendMessage", Delay: simulator.Delay(25 * time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	defer x.sim.ClearFaults()
	f := startFlow(t, "worker", x.talks, pace)
	f.cutOff = true
	eventually(t, patience, "a call hangs", func() bool { return x.sim.Faults()[0].Applied == 1 })
	// Who makes it? The claim says so; a job may be shown as running for some 300 ms
	// after its end.
	var node string
	if err := x.db.QueryRow(t.Context(), `select owner from outbox where chat_id = $1 and sending`, hung.chat).Scan(&node); err != nil {
		t.Fatal(err)
	}
	var victim string
	for _, s := range x.services("workers") {
		if x.process(s).node == node {
			victim = s
		}
	}
	defer func() {
		if t.Failed() {
			var state string
			err := x.db.QueryRow(context.Background(), `select coalesce((select jsonb_agg(o)::text from (select * from outbox where chat_id::text = $1 order by id limit 2) o), '') ||
				coalesce((select jsonb_agg(j)::text from (select state, attempt, attempted_by, scheduled_at from river_job where kind = 'deliver' and args->>'chat_id' = $1) j), '')`, hung.chat).Scan(&state)
			t.Logf("the chat's outbox and jobs: %s %v", state, err)
		}
	}()
	edges := x.services("edge")
	poller := x.poller(t, edges...)
	before := len(hung.customer.Messages())
	killed := time.Now()
	x.process(victim).kill()
	x.process(poller).kill()
	eventually(t, patience, "the other edge polls", func() bool {
		return slices.ContainsFunc(edges, func(e string) bool { return e != poller && x.process(e).gauge("switchboard_accounts_polled") == 1 })
	})
	t.Logf("%s killed: the other edge polls after %v", poller, time.Since(killed).Round(10*time.Millisecond))
	eventually(t, patience, "the other worker goes on", func() bool { return len(hung.customer.Messages()) > before })
	took := hung.customer.Messages()[before].At.Sub(killed)
	o := f.finish(t, x.door)
	t.Logf("%s killed: its jobs resumed after %v; %v", victim, took.Round(10*time.Millisecond), o)
	if o.doubled < 1 {
		t.Error("the send that hung was not repeated: the test did not hit it")
	}
	x.start(t, victim, poller)
}

// heard reports, under the agent's lock, whether a text came.
func (x *topology) heard(a *agent, text string) bool {
	return slices.ContainsFunc(a.events, func(e received) bool { return e.Message != nil && e.Message.Text == text })
}

// stoppedPoller: the poller is frozen for longer than its session, and comes
// back with an answer of the platform in its hands.
func (x *topology) stoppedPoller(t *testing.T) {
	edges := x.services("edge")
	victim := x.poller(t, edges...)
	other := edges[0]
	if other == victim {
		other = edges[1]
	}
	polls := len(x.tg.Requests("getUpdates"))
	stopped := time.Now()
	p := x.process(victim)
	p.signal(syscall.SIGSTOP)
	f := startFlow(t, "frozen", x.talks, pace)
	eventually(t, patience, "the other edge polls", func() bool { return x.process(other).gauge("switchboard_accounts_polled") == 1 })
	took := time.Since(stopped)
	p.signal(syscall.SIGCONT)
	eventually(t, patience, "the frozen edge has given up", func() bool { return p.gauge("switchboard_accounts_polled") == 0 })
	o := f.finish(t, x.door)
	if got := x.poller(t, edges...); got != other {
		t.Errorf("%s polls; %s was elected", got, other)
	}
	conflicts := 0
	for _, r := range x.tg.Requests("getUpdates")[polls:] {
		if r.Code == 409 {
			conflicts++
		}
	}
	if conflicts > 1 {
		t.Errorf("the platform ended %d polls because there was another; want at most the frozen one", conflicts)
	}
	t.Logf("%s frozen: polling resumed after %v; %d overlapping polls; %v", victim, took.Round(10*time.Millisecond), conflicts, o)
}

// killedHub: its operators go on at the other one.
func (x *topology) killedHub(t *testing.T) {
	f := startFlow(t, "hub", x.talks, pace)
	x.ann.await(t, patience, "the flow", func() bool { return x.heard(x.ann, "hub in 5") })
	var victim string
	for _, h := range x.services("chathub") {
		if x.address(h) == x.ann.address() {
			victim = h
		}
	}
	x.ann.mu.Lock()
	sessions := x.ann.sessions
	x.ann.mu.Unlock()
	killed := time.Now()
	x.process(victim).kill()
	x.ann.await(t, patience, "a connection to the other hub", func() bool { return x.ann.sessions > sessions && x.ann.conn != nil })
	took := time.Since(killed)
	x.ann.await(t, patience, "the flow after it", func() bool { return x.heard(x.ann, "hub in 15") })
	t.Logf("%s killed: its operator was connected again after %v; %v", victim, took.Round(time.Millisecond), f.finish(t, x.door))
	x.start(t, victim)
}

// terminatedHub: operators are told 1012, and go on at the other one.
func (x *topology) terminatedHub(t *testing.T) {
	f := startFlow(t, "restart", x.talks, pace)
	x.ann.await(t, patience, "the flow", func() bool { return x.heard(x.ann, "restart in 5") })
	x.ann.mu.Lock()
	where, sessions := x.ann.where, x.ann.sessions
	x.ann.mu.Unlock()
	for _, h := range x.services("chathub") {
		if x.address(h) != where {
			continue
		}
		told := x.process(h).terminate(t)
		x.ann.await(t, patience, "a connection to the other hub", func() bool { return x.ann.sessions > sessions && x.ann.conn != nil })
		x.ann.mu.Lock()
		if code := x.ann.closes[len(x.ann.closes)-1]; code != websocket.CloseServiceRestart {
			t.Errorf("the hub closed with %d, want 1012", code)
		}
		x.ann.mu.Unlock()
		x.ann.await(t, patience, "the flow after it", func() bool { return x.heard(x.ann, "restart in 15") })
		t.Logf("%s terminated in %v; %v", h, told.Round(time.Millisecond), f.finish(t, x.door))
		x.start(t, h)
		return
	}
	t.Fatalf("%s is no hub's address", where)
}

// noQuorum: two of three ZooKeepers are gone. Webhooks are taken, messages are
// sent, operators see them; polling changes from elections to leases. Afterwards
// everything is quick again by itself.
func (x *topology) noQuorum(t *testing.T) {
	x.zk.KillNode(0)
	x.zk.KillNode(1)
	lost := time.Now()
	f := startFlow(t, "quorum", x.talks, pace)
	eventually(t, patience, "the processes say that their bus is gone", func() bool {
		for name := range x.serving {
			if status, text := get("http://"+x.process(name).ops+"/readyz", ""); status != 503 || !strings.Contains(text, "bus") {
				return false
			}
		}
		return true
	})
	// On Viber, with webhooks, nothing but hints is missing: 2 s is the safety poll, the
	// rest is the machine.
	late := make([]time.Duration, 10)
	for n := range late {
		k, text := x.talks[7], fmt.Sprint("without a quorum ", n)
		sent := time.Now()
		k.say(text)
		_, at := k.agent.message(t, text, func(m *message.Message) bool { return m.Text == text })
		late[n] = at.Sub(sent)
	}
	if slices.Min(late) > 4*time.Second {
		t.Errorf("without a quorum messages took %v", late)
	}
	// Telegram is polled again when it is sure that no elected one polls.
	leased := x.poller(t, x.services("edge")...)
	polling := time.Since(lost)
	o := f.finish(t, x.door)
	without := time.Since(lost)
	for _, i := range []int{0, 1} {
		if err := x.zk.StartNode(i); err != nil {
			t.Fatal(err)
		}
	}
	back := time.Now()
	eventually(t, patience, "the processes are ready again", func() bool {
		for name := range x.serving {
			if status, _ := get("http://"+x.process(name).ops+"/readyz", ""); status != 200 {
				return false
			}
		}
		return true
	})
	ready := time.Since(back)
	x.poller(t, x.services("edge")...)
	// Eight in a row below 200 ms: with safety polls alone that is next to impossible.
	k, quick, n := x.talks[7], 0, 0
	var last time.Duration
	for deadline := time.Now().Add(patience); quick < 8; n++ {
		if time.Now().After(deadline) {
			t.Fatalf("wake-ups did not come back; the last message took %v", last)
		}
		text := fmt.Sprint("after the quorum ", n)
		sent := time.Now()
		k.say(text)
		_, at := k.agent.message(t, text, func(m *message.Message) bool { return m.Text == text })
		if last = at.Sub(sent); last < 200*time.Millisecond {
			quick++
		} else {
			quick = 0
		}
	}
	t.Logf("%v without a quorum: messages took %v; %s polls under a lease after %v; %v; ready %v after the servers' start, wake-ups after %v (%d messages, the last took %v)", without.Round(time.Millisecond), late, leased, polling.Round(10*time.Millisecond), o,
		ready.Round(time.Millisecond), time.Since(back).Round(time.Millisecond), n, last.Round(time.Millisecond))
	t.Log(startFlow(t, "quorum again", x.talks, pace).finish(t, x.door))
}

// drainedRoles: SIGTERM of a process of each role, one after another, under load.
func (x *topology) drainedRoles(t *testing.T) {
	f := startFlow(t, "drain", x.talks, pace)
	times := map[string]time.Duration{}
	for _, name := range []string{x.poller(t, x.services("edge")...), x.services("workers")[0], x.services("loader")[0], x.services("filestore")[0]} {
		times[name] = x.process(name).terminate(t).Round(time.Millisecond)
		x.start(t, name)
	}
	t.Logf("ended in %v; %v", times, f.finish(t, x.door))
}

// end: everything at once, as at `docker compose down`.
func (x *topology) end(t *testing.T) {
	f := startFlow(t, "down", x.talks[:2], pace)
	x.ann.await(t, patience, "the flow", func() bool { return x.heard(x.ann, "down in 5") })
	began := time.Now()
	for name := range x.serving {
		x.process(name).signal(syscall.SIGTERM)
	}
	for name := range x.serving {
		if code := x.process(name).wait(t, patience); code != 0 {
			t.Errorf("%s ended with exit code %d", name, code)
		}
	}
	down := time.Since(began)
	x.start(t, slices.Sorted(maps.Keys(x.serving))...)
	t.Logf("all ended in %v; %v", down.Round(time.Millisecond), f.finish(t, x.door))
	for name := range x.serving {
		for line := range strings.Lines(x.process(name).logText()) {
			if strings.Contains(line, "DATA RACE") || strings.Contains(line, "panicked") {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
	if left, err := os.ReadDir(x.dir); err != nil || len(left) > 0 {
		t.Errorf("the processes wrote to their disk, which is read-only in a container: %v %v", left, err)
	}
}
