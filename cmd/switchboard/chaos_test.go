package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard/db/embedded"
	"switchboard/internal/dbtest"
	"switchboard/internal/s3test"
	"switchboard/internal/zktest"
	"switchboard/message"
	"switchboard/simulator"
)

// The variables that ask for TestChaos: for how long faults are injected, as Go
// writes durations, and by which seed. Without a seed one is drawn and printed.
const (
	chaosVariable     = "SWITCHBOARD_CHAOS"
	chaosSeedVariable = "SWITCHBOARD_CHAOS_SEED"
)

const (
	// chaosShort is the longest run with shortened faults.
	chaosShort = 5 * time.Minute
	// takeOver is how long the polling of an account may rest when its poller dies.
	takeOver = 10 * time.Second
	// recovery is how long a customer's question and its answer may take once a
	// fault is over.
	recovery = 60 * time.Second
	// drainLimit is how long what has piled up may take at the end: a call that
	// hangs is given up after 60 s, and tried again after up to another minute.
	drainLimit = 3 * time.Minute
)

// crowd is a platform's part of the load. Its pace is that of each customer and of
// each chat's operator: all chats together send less than half of what the
// platform's default limits allow, and so does each.
type crowd struct {
	platform string
	chats    int
	pace     time.Duration
}

// 64 messages a second, half of them from customers.
var crowds = []crowd{
	{"telegram", 60, 5 * time.Second},         // 12/s of 30, 0.2/s of 1 in a chat
	{"viber", 56, 7 * time.Second},            // 8/s of 20
	{"vk", 24, 18 * time.Second},              // 1.3/s of 3
	{"ok", 40, 10 * time.Second},              // 4/s of 10
	{"infobip", 40, 12500 * time.Millisecond}, // 3.2/s of 80, 0.08/s of 0.16 in a chat
	{"mfms", 36, 9 * time.Second},             // 4/s of 10
}

// station is an account at the simulator.
type station struct {
	platform, id string
	polled, once bool
	// method is that of sending a text; "": every method.
	method     string
	rate, chat message.Rate
	customer   func(simulator.CustomerSpec) (human, error)
	rates      func() simulator.Rates
	crowded    func(most float64) []simulator.Crowd
	requests   func(method string) []simulator.Request
	callbacks  func(event string) []simulator.Callback
	pending    func() int
}

// account is what accounts of all platforms have at the simulator.
type simulated interface {
	Rates() simulator.Rates
	Crowded(most float64) []simulator.Crowd
	Requests(method string) []simulator.Request
	Callbacks(event string) []simulator.Callback
	Pending() int
}

func stationOf[C human](platform string, a simulated, make func(simulator.CustomerSpec) (C, error)) *station {
	return &station{platform: platform, customer: newHuman(make), rates: a.Rates, crowded: a.Crowded, requests: a.Requests, callbacks: a.Callbacks, pending: a.Pending}
}

// chaos is a set under load, with everything that is known of it.
type chaos struct {
	*set
	t        *testing.T
	short    bool
	began    time.Time
	pool     *pgxpool.Pool // not through the proxy
	pg       *postgres
	database *line
	s3       *zktest.Proxy
	stations []*station
	talks    []*talk
	files    *talk    // not in talks: files go both ways
	fromFile []string // SHA-256 of what its customer has sent, in order
	toFile   []string // and of what its operator has
	flooded  *talk    // whose customer sends much at once
	probes   []*talk  // on a webhook platform and a polled one
	mailing  *mailing
	cascade  *cascade
	key      string // of the REST API
	agents   []*agent
	ledgers  map[*agent]*ledger

	stop  chan struct{}
	work  sync.WaitGroup // of the load
	clock *stalls
	held  atomic.Int64 // times that somebody said nothing, because too much was under way

	mu       sync.Mutex
	breaches []string
	log      []string
	asked    int               // probes
	frozen   [][2]time.Time    // when a poller stood still
	expected map[*process]bool // processes that we have killed
	failover []time.Duration

	stats map[string]*record // by kind of fault; the test's goroutine's
}

// stalls are the times at which the machine was late to do what it was asked to do in
// two milliseconds: what happened meanwhile, in any process, seems to have happened
// at the end.
type stalls struct {
	mu   sync.Mutex
	late []stall
}

type stall struct {
	end  time.Time
	late time.Duration
}

func watchStalls(t *testing.T) *stalls {
	s, stop, done := &stalls{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		const tick = 2 * time.Millisecond
		for last := time.Now(); ; {
			select {
			case <-stop:
				return
			case <-time.After(tick):
			}
			now := time.Now()
			if late := now.Sub(last) - tick; late > 5*time.Millisecond {
				s.mu.Lock()
				s.late = append(s.late, stall{now, late})
				s.mu.Unlock()
			}
			last = now
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return s
}

// worst is the longest stall that can have moved sends into the second that ends then,
// or out of it.
func (s *stalls) worst(end time.Time) (worst time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.late {
		if x.end.After(end.Add(-2*time.Second)) && x.end.Add(-x.late).Before(end) {
			worst = max(worst, x.late)
		}
	}
	return worst
}

// ledger is what an agent has seen since the load began, guarded by its mu.
type ledger struct {
	since  int64
	chats  map[string]*seen
	events []int64 // of messages in its chats
}

type seen struct {
	in    []string
	out   map[string]bool // ids of messages that were announced as new
	twice []string
}

// record is how the system took a kind of fault.
type record struct {
	count   int
	webhook []time.Duration
	polled  []time.Duration
}

// breach notes that a promise was broken.
func (x *chaos) breach(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	x.breaches = append(x.breaches, text)
	x.line("BREACH " + text)
}

// note adds a line to the log of faults.
func (x *chaos) note(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.line(fmt.Sprintf(format, args...))
}

func (x *chaos) line(text string) {
	text = fmt.Sprintf("%7.1fs  %s", time.Since(x.began).Seconds(), text)
	x.log = append(x.log, text)
	fmt.Println(shorten(text, 2000))
}

func shorten(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}

// postgres is a server that is stopped and killed.
type postgres struct {
	dir      string
	settings map[string]string
	mu       sync.Mutex
	server   *embedded.Server
}

func (p *postgres) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	s, err := embedded.Start(ctx, embedded.Config{DataDir: p.dir, Settings: p.settings})
	if err == nil {
		p.server = s
	}
	return err
}

func (p *postgres) now() *embedded.Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

// TestChaos runs the set of docker-compose.yml under load while it is killed,
// stopped and cut off at random, and then looks at every message. It is asked for
// by SWITCHBOARD_CHAOS; `make chaos` does that.
func TestChaos(t *testing.T) {
	asked := os.Getenv(chaosVariable)
	if asked == "" {
		t.Skipf("takes minutes: run `make chaos`, or set %s=3m", chaosVariable)
	}
	duration, err := time.ParseDuration(asked)
	if err != nil || duration <= 0 {
		t.Fatalf("%s=%q: use a duration, like 10m", chaosVariable, asked)
	}
	seed := rand.Uint64()
	if s := os.Getenv(chaosSeedVariable); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s=%q: use a number", chaosSeedVariable, s)
		}
	}
	fmt.Printf("chaos for %v; to repeat it: make chaos DURATION=%v SEED=%d\n", duration, duration, seed)
	// Registered first, so that it comes last: the summary is what is read, and the
	// ends of a dozen logs, which a failed test prints, are not.
	var verdict func()
	t.Cleanup(func() {
		if verdict != nil {
			verdict()
		}
	})
	x := startChaos(t, duration <= chaosShort)
	x.load()
	calm := x.calm()
	x.mail(duration)
	x.torment(rand.New(rand.NewPCG(seed, 0)), duration)
	x.drain()
	o := x.judge()
	verdict = func() {
		x.summary(seed, calm, o)
		if len(x.breaches) > 0 {
			x.keepLogs()
			t.Errorf("%d breaches; to repeat it: make chaos DURATION=%v SEED=%d", len(x.breaches), duration, seed)
		}
	}
}

func startChaos(t *testing.T, short bool) *chaos {
	t.Helper()
	settings := dbtest.Settings()
	settings["autovacuum"] = "on" // rows that change with every send would be slow after minutes
	pg := &postgres{dir: dbtest.Dir(t), settings: settings}
	if err := pg.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.now().Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	way := newLine(t, pg.now().URL())
	store := s3test.Shared(t, "chaos")
	s3 := zktest.NewProxy(t, store.Endpoint)
	store.Endpoint = s3.Addr()
	x := &chaos{t: t, short: short, began: time.Now(), pg: pg, s3: s3, ledgers: map[*agent]*ledger{}, stop: make(chan struct{}), expected: map[*process]bool{}, stats: map[string]*record{}}
	x.set = startSet(t, way.url, store, simulator.Config{KeepMessages: 5_000, KeepRequests: 30_000, RetryBase: 200 * time.Millisecond, RetryMax: time.Second})
	x.database = way
	var err error
	if x.pool, err = pgxpool.New(context.Background(), pg.now().URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.pool.Close)
	x.note("the set is ready")
	x.open()
	x.note("six accounts are added")
	x.people()
	return x
}

// open adds an account of every platform, with the default limits.
func (x *chaos) open() {
	t := x.t
	vk, infobip, mfms := x.sim.VK(vkToken), x.sim.Infobip(infobipKey), x.sim.MFMS(mfmsToken)
	tg, vb, ok := x.sim.Telegram(telegramToken), x.sim.Viber(viberToken), x.sim.OK(okToken)
	x.stations = []*station{
		stationOf("telegram", tg, tg.NewCustomer), stationOf("viber", vb, vb.NewCustomer), stationOf("vk", vk, vk.NewCustomer),
		stationOf("ok", ok, ok.NewCustomer), stationOf("infobip", infobip, infobip.NewCustomer), stationOf("mfms", mfms, mfms.NewCustomer),
	}
	login, password, _ := strings.Cut(mfmsToken, ":")
	hook := map[string]string{"webhook_user": "switchboard", "webhook_password": "s3cret-pass"}
	settings := map[string]map[string]string{
		"telegram": {"token": telegramToken}, "viber": {"token": viberToken, "sender_name": "Shop"}, "vk": {"token": vkToken, "group_id": fmt.Sprint(vk.GroupID())},
		"ok": {"token": okToken, "secret": okSecret}, "infobip": {"api_key": infobipKey, "sender": infobipSender}, "mfms": {"login": login, "password": password, "sender": "ACME_WA"},
	}
	maps.Copy(settings["infobip"], hook)
	maps.Copy(settings["mfms"], hook)
	var done []func() string
	for _, s := range x.stations {
		settings[s.platform]["api_base"] = x.base + "/" + s.platform
		var more []string
		if s.platform == "mfms" { // it would warn of an address without https
			more = []string{"--no-check"}
		}
		done = append(done, x.addAccount(t, s.platform, settings[s.platform], more...))
	}
	for i, s := range x.stations {
		s.id = done[i]()
		switch s.platform {
		case "telegram":
			s.polled, s.method = true, "sendMessage"
		case "vk":
			s.polled, s.method = true, "messages.send"
		case "mfms":
			mfms.SetWebhook(strings.Replace(x.door, "http://", "http://switchboard:s3cret-pass@", 1) + "/webhooks/mfms/" + s.id)
		}
	}
	eventually(t, 30*time.Second, "the webhooks are set", func() bool { return len(ok.Subscriptions()) > 0 && len(infobip.Webhooks()) > 0 })
	// What is written before the first cursor is stored belongs to the time before the account.
	eventually(t, 30*time.Second, "VK is polled", func() bool { return len(vk.Requests("groups.getLongPollServer")) > 0 })
}

func (x *chaos) station(platform string) *station {
	return x.stations[slices.IndexFunc(x.stations, func(s *station) bool { return s.platform == platform })]
}

// people adds operators and customers who know each other.
func (x *chaos) people() {
	t := x.t
	logins := []string{"ann", "bob", "cid", "dot", "eve", "fay", "probe", "slow"}
	var done []func() string
	for _, login := range logins {
		done = append(done, x.addOperator(t, login))
	}
	for _, d := range done {
		d()
	}
	hubs := x.services("chathub")
	for i, login := range logins {
		a := x.operator(t, login, []string{hubs[i%2], hubs[1-i%2]})
		a.patience = 2 * time.Minute
		x.agents = append(x.agents, a)
	}
	x.note("%d operators are connected", len(logins))
	answering, probe, slow := x.agents[:6], x.agents[6], x.agents[7]
	serial := 0
	meet := func(platform string, a *agent) *talk {
		s := x.station(platform)
		serial++
		spec := simulator.CustomerSpec{FirstName: fmt.Sprintf("%s %d", platform, serial)}
		if platform == "infobip" || platform == "mfms" {
			spec.ID = fmt.Sprintf("7926%07d", serial)
		}
		c, err := s.customer(spec)
		if err != nil {
			t.Fatal(err)
		}
		k := approach(c, a)
		k.once = s.once
		return k
	}
	for _, s := range x.stations {
		status, body := get(x.door+"/api/v1/accounts/"+s.id+"/capabilities", probe.token)
		var caps message.Capabilities
		if status != http.StatusOK || json.Unmarshal([]byte(body), &caps) != nil || caps.Rate.PerSecond == 0 {
			t.Fatalf("capabilities of %s: %d %s", s.platform, status, body)
		}
		s.rate, s.chat, s.once = caps.Rate, caps.ChatRate, caps.Idempotent
	}
	x.key = x.addKey(t)
	n := 0
	for _, c := range crowds {
		for range c.chats {
			k := meet(c.platform, answering[n%len(answering)])
			if n%12 == 5 {
				k.byScript(x.door, x.key)
			}
			x.talks = append(x.talks, k)
			n++
		}
	}
	x.probes = []*talk{meet("viber", probe), meet("telegram", probe)}
	x.flooded = meet("viber", slow)
	x.files = meet("telegram", answering[0])
	x.note("%d customers have written", serial)
	for _, k := range append(x.everyTalk(), x.files) {
		k.accept(t)
	}
	x.note("%d customers and %d operators know each other", serial, len(logins))
}

// everyTalk is each chat in which only texts are said.
func (x *chaos) everyTalk() []*talk {
	return slices.Concat(x.talks, x.probes, []*talk{x.flooded})
}

// load lets everybody talk until stop is closed, and notes what operators see. Who
// waits for several messages of a chat says nothing: a machine that can't keep the
// pace is judged by what it does.
func (x *chaos) load() {
	const most = 4 // 20 s and more of a chat
	for _, a := range x.agents {
		l := &ledger{chats: map[string]*seen{}}
		for _, k := range append(x.everyTalk(), x.files) {
			if k.agent == a {
				l.chats[k.chat] = &seen{out: map[string]bool{}}
			}
		}
		x.ledgers[a] = l
		a.mu.Lock()
		for _, e := range a.events {
			l.note(e)
		}
		l.since, l.events, a.events = a.last, nil, nil
		a.note = l.note
		a.mu.Unlock()
	}
	n := 0
	for _, c := range crowds {
		for range c.chats {
			k := x.talks[n]
			n++
			x.work.Go(func() {
				x.every(c.pace, func(i int) error {
					if heard, _ := k.agent.progress(k.chat); len(k.in)-heard >= most {
						x.held.Add(1)
						return nil
					}
					k.say(fmt.Sprint("in ", i))
					return nil
				})
			})
			x.work.Go(func() {
				x.every(c.pace, func(i int) error {
					if _, left := k.agent.progress(k.chat); len(k.out)-left >= most {
						x.held.Add(1)
						return nil
					}
					return k.answer(fmt.Sprint("out ", i))
				})
			})
		}
	}
	x.clock = watchStalls(x.t)
	x.work.Go(func() { x.every(3*time.Second, x.exchangeFiles) })
	x.work.Go(x.watchProcesses)
	x.t.Cleanup(x.halt)
}

// mail starts campaigns that last for most of the faults, at a pace that leaves
// the talks their share: one over Telegram, and one that is a cascade over Viber and
// Telegram, which is paused and resumed all the time.
func (x *chaos) mail(duration time.Duration) {
	const pace = 4 // recipients per second
	n := max(50, int(duration.Seconds()*pace*0.6))
	people := map[string]human{}
	for range n {
		c, err := x.sim.Telegram(telegramToken).NewCustomer(simulator.CustomerSpec{FirstName: "T", Started: true})
		if err != nil {
			x.t.Fatal(err)
		}
		people[c.ID()] = c
	}
	telegram := x.station("telegram").id
	var err error
	if x.mailing, err = startMailing(x.door, x.key, js{"name": "telegram", "content": js{"text": "Hello {{name}}"}, "steps": []js{step(telegram, nil)}, "rate": pace}, people); err != nil {
		x.breach("a campaign could not be started: %v", err)
	}
	x.cascade = x.newCascade(n)
	m := &x.cascade.mailing
	if err := m.start(js{"name": "cascade", "content": js{"text": "first {{name}}"}, "rate": pace, "steps": []js{
		step(x.station("viber").id, js{"success": "delivered", "wait": x.cascade.wait.String()}), step(telegram, js{"content": js{"text": "then {{name}}"}})}}); err != nil {
		x.breach("a cascade could not be started: %v", err)
		return
	}
	x.note("2 campaigns of %d recipients have begun", n)
	x.work.Go(func() {
		wait := func(least, most time.Duration) bool {
			select {
			case <-x.stop:
				return false
			case <-time.After(least + time.Duration(rand.Int64N(int64(most-least)))):
				return true
			}
		}
		for wait(5*time.Second, 20*time.Second) {
			if state, _, err := m.state(); err != nil || state == "done" {
				break
			}
			if err := m.call("POST", "/"+m.id+"/pause", "application/json", "", nil); err != nil {
				if !strings.Contains(err.Error(), "done") { // in between
					x.breach("a campaign could not be paused: %v", err)
				}
				break
			}
			wait(time.Second, 4*time.Second)
			if err := m.call("POST", "/"+m.id+"/resume", "application/json", "", nil); err != nil {
				x.breach("a campaign could not be resumed: %v", err)
				break
			}
		}
	})
}

func (x *chaos) halt() {
	select {
	case <-x.stop:
	default:
		close(x.stop)
	}
	x.work.Wait()
}

// note is the agent's: it is called under the agent's lock.
func (l *ledger) note(e received) {
	s := l.chats[e.ChatID]
	if s == nil || e.Message == nil || (e.Type != "message.new" && e.Type != "message.updated") {
		return
	}
	id, _ := strconv.ParseInt(e.Cursor, 10, 64) // take has looked at it
	l.events = append(l.events, id)
	if e.Type != "message.new" {
		return
	}
	if s.out[e.Message.ID] {
		s.twice = append(s.twice, e.Message.ID)
	}
	s.out[e.Message.ID] = true
	if e.Message.Direction == message.In {
		s.in = append(s.in, trim(e.Message.Text))
	}
}

// padding makes the texts of a flood long.
const padding = "ж"

func trim(text string) string { return strings.TrimRight(text, padding) }

// every calls do at random times, pace apart on average, until the load ends.
func (x *chaos) every(pace time.Duration, do func(n int) error) {
	for n := 1; ; n++ {
		wait := time.Duration((0.5 + rand.Float64()) * float64(pace))
		if n == 1 {
			wait = time.Duration(rand.Float64() * float64(pace))
		}
		select {
		case <-x.stop:
			return
		case <-time.After(wait):
		}
		if err := do(n); err != nil {
			x.breach("an operator's or a script's call failed: %v", err)
			return
		}
	}
}

// exchangeFiles lets a customer send a file, and an operator one of theirs.
func (x *chaos) exchangeFiles(n int) error {
	k := x.files
	sent, err := k.customer.(*simulator.TelegramCustomer).SendFile("document", simulator.FileSpec{Format: "pdf", Name: fmt.Sprintf("in%d.pdf", n), Size: 50_000})
	if err != nil {
		return err
	}
	x.fromFile = append(x.fromFile, sent.Files[0].SHA256)
	body := append([]byte("%PDF-1.7\n"), bytes.Repeat(fmt.Appendf(nil, "switchboard %d ", n), 4000)...)
	sum := sha256.Sum256(body)
	for deadline := time.Now().Add(k.agent.patience); ; {
		id, err := x.upload(k.agent.token, body)
		if err == nil {
			x.toFile = append(x.toFile, hex.EncodeToString(sum[:]))
			return k.agent.call("message.send", map[string]any{"chat_id": k.chat, "client_id": fmt.Sprint("file ", n), "kind": "document", "files": []string{id}}, nil)
		}
		if time.Now().After(deadline) {
			return err
		}
		select {
		case <-x.stop:
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (x *chaos) upload(token string, body []byte) (id string, err error) {
	req, err := http.NewRequest("POST", x.door+"/files?name=answer.pdf", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := probes.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var f struct{ ID string }
	if err := json.NewDecoder(res.Body).Decode(&f); err != nil || res.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("uploading: %d %w", res.StatusCode, errors.Join(err, errors.New("not created")))
	}
	return f.ID, nil
}

// watchProcesses: no process ends by itself, whatever it meets.
func (x *chaos) watchProcesses() {
	known := map[*process]bool{}
	for {
		select {
		case <-x.stop:
			return
		case <-time.After(200 * time.Millisecond):
		}
		for _, p := range x.everProcess() {
			if !p.gone() || known[p] {
				continue
			}
			known[p] = true
			x.mu.Lock()
			ours := x.expected[p]
			x.mu.Unlock()
			if !ours {
				x.breach("%s (pid %d) ended by itself with exit code %d; its log ends:\n%s", p.name, p.pid, p.code, p.tail(15))
			}
		}
	}
}

// ask lets a customer write and be answered, on a webhook platform and a polled
// one, and returns how long that took from a moment on.
func (x *chaos) ask(since time.Time) (took [2]time.Duration, err error) {
	x.mu.Lock()
	x.asked++
	text := fmt.Sprint("probe ", x.asked)
	x.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), recovery)
	defer cancel()
	var errs [2]error
	var both sync.WaitGroup
	for i, k := range x.probes {
		both.Go(func() {
			k.say(text)
			s := x.ledgers[k.agent].chats[k.chat]
			if errs[i] = k.agent.until(ctx, text, func() bool { return slices.Contains(s.in, text) }); errs[i] != nil {
				return
			}
			if errs[i] = k.answer(text); errs[i] != nil {
				return
			}
			for {
				all := k.customer.Messages()
				if at := slices.IndexFunc(all, func(m simulator.Message) bool { return m.Text == text }); at >= 0 {
					took[i] = all[at].At.Sub(since)
					return
				}
				select {
				case <-ctx.Done():
					errs[i] = fmt.Errorf("the answer to %q did not reach the platform", text)
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	both.Wait()
	return took, errors.Join(errs[:]...)
}

// calm measures without faults.
func (x *chaos) calm() *record {
	r := &record{}
	for range 5 {
		took, err := x.ask(time.Now())
		if err != nil {
			x.breach("without any fault: %v", err)
			break
		}
		r.count++
		r.webhook, r.polled = append(r.webhook, took[0]), append(r.polled, took[1])
		time.Sleep(1100 * time.Millisecond) // Telegram takes one message a second in a chat
	}
	x.note("without faults a question and its answer take %v by webhook, %v by poll", median(r.webhook), median(r.polled))
	return r
}

// torment injects faults out of a shuffled bag, which is filled again when it is
// empty, for at least the duration and until each kind has come once.
func (x *chaos) torment(rng *rand.Rand, duration time.Duration) {
	end := time.Now().Add(duration)
	between := func(min, max time.Duration) time.Duration { return min + time.Duration(rng.Int64N(int64(max-min))) }
	for round := 0; round == 0 || time.Now().Before(end); round++ {
		bag := x.faults()
		rng.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
		for len(bag) > 0 && (round == 0 || time.Now().Before(end)) {
			now := bag[:1:1]
			bag = bag[1:]
			// Two at once: when they don't touch the same.
			if odds := rng.Float64(); odds < 0.25 || (x.short && odds < 0.6) {
				if i := slices.IndexFunc(bag, func(f fault) bool { return !f.excludes(now[0]) }); i >= 0 {
					now = append(now, bag[i])
					bag = slices.Delete(bag, i, i+1)
				}
			}
			x.suffer(now, rng)
			time.Sleep(between(300*time.Millisecond, 2*time.Second))
		}
	}
}

// twoAtOnce is the name of faults that came together.
const twoAtOnce = "two of these at once"

// suffer is one fault, or two at once, from the beginning until a customer is
// answered again.
func (x *chaos) suffer(faults []fault, rng *rand.Rand) {
	began := time.Now()
	var strikes []*strike
	var under sync.WaitGroup
	var kinds []string
	for _, f := range faults {
		// Its own dice: what runs at once must not race for them.
		s := &strike{chaos: x, dice: rand.New(rand.NewPCG(rng.Uint64(), 0))}
		defer s.rest.Wait()
		strikes, kinds = append(strikes, s), append(kinds, f.kind)
		x.note("%s", f.kind)
		under.Go(func() {
			if err := f.strike(s); err != nil {
				x.breach("%s: %v", f.kind, err)
			}
			if s.since.IsZero() {
				s.since = time.Now()
			}
			x.note("%s: over after %.1f s; %s", f.kind, time.Since(began).Seconds(), s.detail)
		})
	}
	under.Wait()
	since := strikes[0].since
	for _, s := range strikes {
		if s.since.After(since) {
			since = s.since
		}
	}
	took, err := x.ask(since)
	if err != nil {
		x.breach("%s: no recovery within %v: %v", strings.Join(kinds, " and "), recovery, err)
		return
	}
	x.note("a customer was answered after %.2f s by webhook, %.2f s by poll", took[0].Seconds(), took[1].Seconds())
	for _, kind := range kinds {
		x.record(kind).count++
	}
	r := x.record(kinds[0])
	if len(kinds) > 1 {
		r = x.record(twoAtOnce)
		r.count++
	}
	r.webhook, r.polled = append(r.webhook, took[0]), append(r.polled, took[1])
}

func (x *chaos) record(kind string) *record {
	if x.stats[kind] == nil {
		x.stats[kind] = &record{}
	}
	return x.stats[kind]
}

// keepLogs writes everything that is needed to look into a failure.
func (x *chaos) keepLogs() {
	dir, err := os.MkdirTemp("", "switchboard-chaos-")
	if err != nil {
		x.t.Error(err)
		return
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			x.t.Error(err)
		}
	}
	for _, p := range x.everProcess() {
		write(fmt.Sprintf("%s-%d.log", p.name, p.pid), p.logText())
	}
	x.mu.Lock()
	write("faults.log", strings.Join(x.log, "\n"))
	x.mu.Unlock()
	fmt.Printf("the logs of all processes and of the faults are in %s\n", dir)
}
