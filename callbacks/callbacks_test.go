package callbacks_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/bus"
	"switchboard/callbacks"
	"switchboard/db"
	"switchboard/internal/dbtest"
	"switchboard/internal/queue"
	"switchboard/internal/secret"
	"switchboard/message"
)

// childURL makes the test binary a process that only posts, see TestKilledBetweenPostAndNote.
const childURL = "CALLBACKS_TEST_DATABASE"

func TestMain(m *testing.M) {
	if url := os.Getenv(childURL); url != "" {
		child(url)
		return
	}
	dbtest.Main(m)
}

var masterKey = []byte("0123456789abcdef0123456789abcdef")

func box() *secret.Box {
	b, err := secret.NewBox(masterKey)
	if err != nil {
		panic(err)
	}
	return b
}

func child(url string) {
	d, err := db.Open(context.Background(), db.Config{URL: url, Secrets: box()}, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	c, err := callbacks.New(quick(), d, d.FollowCallbacks(), bus.NewMemory(bus.Node{ID: "child"}), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		panic(err)
	}
	fmt.Println("running")
	_ = c.Run(context.Background())
}

func quick() callbacks.Config {
	return callbacks.Config{Allow: []string{"127.0.0.0/8"}, BackOff: []time.Duration{20 * time.Millisecond, 40 * time.Millisecond, 60 * time.Millisecond}, Timeout: time.Second, Spare: time.Second}
}

// world is a database with one account and one chat, and what is needed to have
// messages go through their statuses on the real ways.
type world struct {
	*testing.T
	d       *db.DB
	pool    *pgxpool.Pool
	acc     string
	key     string // API key's id
	secret  []byte
	updates int
}

const node = "node"

func newWorld(t *testing.T) *world {
	t.Helper()
	pool := dbtest.New(t)
	d, err := db.New(pool, box(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, d: d, pool: pool, secret: []byte("a secret of thirty-two bytes !!!")}
	w.must(d.Heartbeat(t.Context(), node, []string{}, "", ""))
	a, err := d.AddAccount(t.Context(), switchboard.Account{Platform: "fake", Name: "test"}, nil)
	w.must(err)
	w.acc, w.key = a.ID, db.NewID()
	w.must(d.SetCallbackSecret(t.Context(), w.key, w.secret))
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// run posts until the returned function is called or the test ends.
func (w *world) run(cfg callbacks.Config) (stop func()) {
	w.Helper()
	c, err := callbacks.New(cfg, w.d, w.d.FollowCallbacks(), bus.NewMemory(bus.Node{ID: "n"}), slog.New(slog.DiscardHandler), nil)
	w.must(err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	done := make(chan struct{})
	go func() { _ = c.Run(ctx); close(done) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	w.Cleanup(stop)
	return stop
}

// send makes a message in a chat of its own.
func (w *world) send(chatKey, url string) message.Message {
	w.Helper()
	chat, err := w.d.ChatFor(w.Context(), w.acc, switchboard.Recipient{ExternalID: chatKey})
	w.must(err)
	m, _, err := w.d.SendMessage(w.Context(), queue.Send{ChatID: chat, Content: message.Content{Kind: message.KindText, Text: "x"},
		Sender: message.Sender{Kind: message.SenderAPI}, ClientID: new("key:" + w.key + ":mine-" + chatKey), Callback: &queue.Callback{KeyID: w.key, URL: url}})
	w.must(err)
	return m
}

func unlimited(string) queue.Pacing { return queue.Pacing{OK: true} }

// sent has the platform accept the message, or fail it.
func (w *world) sent(m message.Message, failure *message.Failure) {
	w.Helper()
	claims, err := w.d.Step(w.Context(), node, nil, []string{m.ChatID}, unlimited)
	w.must(err)
	o := queue.Outcome{Claim: &claims[0], Kind: queue.OutcomeSent, IDs: []string{"p-" + m.ID}, Log: queue.AttemptLog{Op: "send", Outcome: "sent"}}
	if failure != nil {
		o = queue.Outcome{Claim: &claims[0], Kind: queue.OutcomeFailed, Failure: failure, Log: queue.AttemptLog{Op: "send", Outcome: "recipient"}}
	}
	_, err = w.d.Step(w.Context(), node, []queue.Outcome{o}, []string{m.ChatID}, unlimited)
	w.must(err)
}

// report is the platform's, on a message of the chat with the key.
func (w *world) report(m message.Message, chatKey string, s message.Status) {
	w.Helper()
	w.updates++
	raw, err := json.Marshal(message.Update{Kind: message.UpdateStatus, Chat: chatKey, PlatformID: "p-" + m.ID, Status: s})
	w.must(err)
	w.must(w.d.Append(w.Context(), []queue.RawUpdate{{AccountID: w.acc, DedupKey: strconv.Itoa(w.updates), ChatKey: chatKey, Raw: raw}}))
	for lane := range db.Lanes {
		_, err := w.d.Drain(w.Context(), []int32{int32(lane)}, 100, func(stored []queue.StoredUpdate) []queue.Decoded {
			out := make([]queue.Decoded, len(stored))
			for i, s := range stored {
				var u message.Update
				out[i].Err = json.Unmarshal(s.Raw, &u)
				out[i].Platform, out[i].Updates = "fake", []message.Update{u}
			}
			return out
		})
		w.must(err)
	}
}

func (w *world) states() (list []string) {
	w.Helper()
	rows, err := w.pool.Query(w.Context(), `select status || ' ' || state || ' ' || attempts || ' ' || code from callback_deliveries order by message_id, n`)
	w.must(err)
	for rows.Next() {
		var s string
		w.must(rows.Scan(&s))
		list = append(list, s)
	}
	w.must(rows.Err())
	return list
}

// until waits for something to be so.
func (w *world) until(what string, ok func() bool) {
	w.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			w.Fatalf("%s did not come true; deliveries: %q", what, w.states())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

type post struct {
	ID, At, Signature string      `json:"-"`
	Header            http.Header `json:"-"`
	Body              []byte      `json:"-"`
	Type              string
	Data              struct {
		ID             string
		Status         string
		IdempotencyKey string          `json:"idempotency_key"`
		AccountID      string          `json:"account_id"`
		Error          *map[string]any `json:"error"`
	}
}

// receiver is a script's address. answer decides the answer to the n-th post, from 0.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	posts []post
}

func receive(t *testing.T, answer func(n int, p post, w http.ResponseWriter)) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		p := post{ID: req.Header.Get("webhook-id"), At: req.Header.Get("webhook-timestamp"), Signature: req.Header.Get("webhook-signature"), Header: req.Header, Body: body}
		if err != nil || json.Unmarshal(body, &p) != nil || req.Method != http.MethodPost {
			t.Errorf("%s with body %q: %v", req.Method, body, err)
		}
		r.mu.Lock()
		r.posts = append(r.posts, p)
		n := len(r.posts) - 1
		r.mu.Unlock()
		if answer != nil {
			answer(n, p, w)
		}
	}))
	t.Cleanup(func() { r.CloseClientConnections(); r.Close() })
	return r
}

func (r *receiver) got() []post {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.posts)
}

// hmacSHA256 is RFC 2104 by hand, so that the signature is checked by other code
// than what makes it.
func hmacSHA256(key, text []byte) []byte {
	pad := func(x byte) []byte {
		block := make([]byte, 64)
		copy(block, key)
		for i := range block {
			block[i] ^= x
		}
		return block
	}
	inner := sha256.Sum256(append(pad(0x36), text...))
	outer := sha256.Sum256(append(pad(0x5c), inner[:]...))
	return outer[:]
}

func verify(p post, secret []byte) bool {
	want := base64.StdEncoding.EncodeToString(hmacSHA256(secret, []byte(p.ID+"."+p.At+"."+string(p.Body))))
	return slices.Contains(strings.Fields(p.Signature), "v1,"+want)
}

// The example of the specification of Standard Webhooks.
func TestSignatureOfTheSpecification(t *testing.T) {
	t.Parallel()
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	if got := callbacks.Sign([][]byte{key}, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)); got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("signature %s", got)
	}
}

func TestStatusesAreTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t, nil)
	// Slow: everything has passed before anybody looks.
	m := w.send("a", r.URL+"/hook?x=1")
	w.sent(m, nil)
	w.report(m, "a", message.StatusDelivered)
	w.report(m, "a", message.StatusRead)
	w.run(quick())
	w.until("three posts", func() bool { return len(r.got()) >= 3 })
	// And as it happens.
	bad := w.send("b", r.URL)
	w.sent(bad, &message.Failure{Kind: message.ErrRecipient, Code: "403", Detail: "blocked"})
	w.until("the failure", func() bool { return len(r.got()) >= 4 })
	var list []string
	for _, p := range r.got() {
		list = append(list, p.Type+" "+p.Data.Status+" "+p.Data.IdempotencyKey)
		if !verify(p, w.secret) {
			t.Errorf("the signature of %s is wrong", p.Type)
		}
		if verify(p, []byte("another")) || p.ID == "" || p.Header.Get("Content-Type") != "application/json" {
			t.Errorf("headers %v", p.Header)
		}
		if at, err := strconv.ParseInt(p.At, 10, 64); err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute {
			t.Errorf("timestamp %q", p.At)
		}
		if p.Data.AccountID != w.acc {
			t.Errorf("data %s", p.Body)
		}
	}
	want := []string{"message.sent sent mine-a", "message.delivered delivered mine-a", "message.read read mine-a", "message.failed failed mine-b"}
	if !slices.Equal(list, want) {
		t.Errorf("told %q, want %q", list, want)
	}
	if last := r.got()[3]; last.Data.ID != bad.ID || last.Data.Error == nil || (*last.Data.Error)["code"] != "403" {
		t.Errorf("failure %s", last.Body)
	}
	w.until("the notes", func() bool {
		return slices.Equal(w.states(), []string{"sent delivered 1 200", "delivered delivered 1 200", "read delivered 1 200", "failed delivered 1 200"})
	})
}

// The next status waits until the former was accepted; every attempt has the same
// id and body, and a signature of its own time.
func TestOrderThroughFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t, func(n int, _ post, w http.ResponseWriter) {
		switch n {
		case 0:
			w.WriteHeader(500)
		case 1:
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
		case 2:
			panic(http.ErrAbortHandler)
		}
	})
	m := w.send("a", r.URL)
	w.sent(m, nil)
	w.report(m, "a", message.StatusDelivered)
	w.run(quick())
	w.until("five posts", func() bool { return len(r.got()) >= 5 })
	posts := r.got()
	for i, p := range posts[:4] {
		if p.Data.Status != "sent" || p.ID != posts[0].ID || string(p.Body) != string(posts[0].Body) || !verify(p, w.secret) {
			t.Errorf("post %d: %s %s", i, p.ID, p.Body)
		}
	}
	if posts[4].Data.Status != "delivered" || posts[4].ID == posts[0].ID {
		t.Errorf("the fifth is %s", posts[4].Body)
	}
}

// What nobody takes is given up, the next status has its turn, and an admin can
// have it posted again.
func TestGivingUpAndRetrying(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var broken sync.Mutex
	isBroken := true
	r := receive(t, func(_ int, p post, rw http.ResponseWriter) {
		broken.Lock()
		defer broken.Unlock()
		if isBroken && p.Data.Status == "sent" {
			rw.WriteHeader(404)
		}
	})
	m := w.send("a", r.URL)
	w.sent(m, nil)
	w.report(m, "a", message.StatusDelivered)
	w.run(quick())
	w.until("giving up", func() bool {
		return slices.Equal(w.states(), []string{"sent failed 4 404", "delivered delivered 1 200"})
	})
	failed, err := w.d.CallbackDeliveries(t.Context(), switchboard.CallbackFilter{State: "failed"}, 10)
	if err != nil || len(failed) != 1 || failed[0].MessageID != m.ID || failed[0].Code != 404 || failed[0].FinishedAt == nil || *failed[0].APIKeyID != w.key {
		t.Fatalf("failed: %+v, %v", failed, err)
	}
	broken.Lock()
	isBroken = false
	broken.Unlock()
	if n, err := w.d.RetryCallbacks(t.Context(), switchboard.CallbackFilter{MessageID: m.ID}, 10); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	w.until("the retry", func() bool {
		return slices.Equal(w.states(), []string{"sent delivered 1 200", "delivered delivered 1 200"})
	})
	if last := r.got(); last[len(last)-1].ID != failed[0].ID {
		t.Error("the retry has another id")
	}
}

func TestGoneEndsAnAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t, func(_ int, _ post, w http.ResponseWriter) { w.WriteHeader(http.StatusGone) })
	other := receive(t, nil)
	m := w.send("a", r.URL)
	w.sent(m, nil)
	w.report(m, "a", message.StatusDelivered)
	w.run(quick())
	w.until("the end", func() bool { return slices.Equal(w.states(), []string{"sent failed 1 410", "delivered failed 0 0"}) })
	later := w.send("b", r.URL)
	w.sent(later, nil)
	fine := w.send("c", other.URL)
	w.sent(fine, nil)
	w.until("another address", func() bool { return len(other.got()) == 1 && len(w.states()) == 4 })
	if n := len(r.got()); n != 1 {
		t.Errorf("%d posts to an address that is gone", n)
	}
	if got := w.states()[2]; got != "sent failed 0 0" {
		t.Errorf("a message after the end: %s", got)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t, func(n int, _ post, w http.ResponseWriter) {
		if n == 0 {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(429)
		}
	})
	m := w.send("a", r.URL)
	w.sent(m, nil)
	w.run(quick())
	w.until("the first post", func() bool { return len(r.got()) >= 1 })
	began := time.Now()
	w.until("the second post", func() bool { return len(r.got()) >= 2 })
	if took := time.Since(began); took < 1900*time.Millisecond {
		t.Errorf("posted again after %v, was told 2 s", took)
	}
}

// One receiver that answers nothing holds up none of the others, and takes a few
// posts at once at most.
func TestSlowReceiverHoldsUpNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	var mu sync.Mutex
	now, most := 0, 0
	slow := receive(t, func(int, post, http.ResponseWriter) {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		<-release
		mu.Lock()
		now--
		mu.Unlock()
	})
	defer close(release)
	fast := receive(t, nil)
	for i := range 40 {
		w.sent(w.send(fmt.Sprint("slow", i), slow.URL), nil)
	}
	cfg := quick()
	cfg.PerHost, cfg.Timeout = 4, 20*time.Second
	w.run(cfg)
	w.until("the slow one's posts", func() bool { return len(slow.got()) == 4 })
	for i := range 20 {
		w.sent(w.send(fmt.Sprint("fast", i), fast.URL), nil)
	}
	began := time.Now()
	w.until("the fast one's posts", func() bool { return len(fast.got()) == 20 })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v beside a slow receiver", took)
	}
	mu.Lock()
	defer mu.Unlock()
	if most != 4 {
		t.Errorf("%d posts to the slow one at once, want 4", most)
	}
}

// An address inside is not reached, neither by itself nor by a redirect.
func TestPrivateAddressesAreNotTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t, nil)
	w.sent(w.send("a", r.URL), nil)
	cfg := quick()
	cfg.Allow = nil
	w.run(cfg)
	w.until("giving up", func() bool { return slices.Equal(w.states(), []string{"sent failed 4 0"}) })
	failed, err := w.d.CallbackDeliveries(t.Context(), switchboard.CallbackFilter{}, 10)
	if err != nil || !strings.Contains(failed[0].Error, "not a public address") {
		t.Errorf("%+v %v", failed, err)
	}
	if len(r.got()) != 0 {
		t.Error("a private address was told")
	}
}

// A new secret signs at once, the former one beside it.
func TestRotatedSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t, nil)
	fresh := []byte("another secret of 32 bytes......")
	w.must(w.d.SetCallbackSecret(t.Context(), w.key, fresh))
	w.sent(w.send("a", r.URL), nil)
	w.run(quick())
	w.until("the post", func() bool { return len(r.got()) == 1 })
	if p := r.got()[0]; !verify(p, fresh) || !verify(p, w.secret) {
		t.Errorf("signatures %q", p.Signature)
	}
	// Once more, because the answer was lost: receivers know the first one still.
	again := []byte("a third secret of 32 bytes......")
	w.must(w.d.SetCallbackSecret(t.Context(), w.key, again))
	w.sent(w.send("b", r.URL), nil)
	w.until("the second post", func() bool { return len(r.got()) == 2 })
	if p := r.got()[1]; !verify(p, again) || !verify(p, fresh) || !verify(p, w.secret) || !strings.HasPrefix(p.Signature, "v1,"+base64.StdEncoding.EncodeToString(hmacSHA256(again, []byte(p.ID+"."+p.At+"."+string(p.Body))))) {
		t.Errorf("signatures %q", p.Signature)
	}
	// A day later.
	_, err := w.pool.Exec(t.Context(), `update callback_former_secrets set until = until - interval '1 day'`)
	w.must(err)
	w.sent(w.send("c", r.URL), nil)
	w.until("the third post", func() bool { return len(r.got()) == 3 })
	if p := r.got()[2]; !verify(p, again) || verify(p, fresh) || verify(p, w.secret) {
		t.Errorf("signatures %q, a day later", p.Signature)
	}
	var stored []byte
	w.must(w.pool.QueryRow(t.Context(), `select secret from callback_secrets`).Scan(&stored))
	if strings.Contains(string(stored), string(fresh)) {
		t.Error("the secret is stored in the clear")
	}
}

// A process that is killed after the receiver has the status, and before that is
// noted, leaves it to the next one, which posts it again under the same id.
func TestKilledBetweenPostAndNote(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived, hold := make(chan struct{}, 100), make(chan struct{})
	r := receive(t, func(n int, _ post, _ http.ResponseWriter) {
		arrived <- struct{}{}
		if n == 0 {
			<-hold // the first process dies before it has the answer
		}
	})
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childURL+"="+dbtest.URLOf(t))
		out, err := cmd.StdoutPipe()
		w.must(err)
		w.must(cmd.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "running\n" {
			t.Fatal(line, err)
		}
		return cmd
	}
	m := w.send("a", r.URL)
	w.sent(m, nil)
	w.report(m, "a", message.StatusDelivered)
	first := start()
	<-arrived
	w.must(first.Process.Kill())
	_ = first.Wait()
	close(hold)
	second := start()
	defer func() { _ = second.Process.Kill(); _ = second.Wait() }()
	w.until("all to be told", func() bool { return len(r.got()) >= 3 })
	posts := r.got()
	if posts[1].ID != posts[0].ID || posts[1].Data.Status != "sent" || string(posts[1].Body) != string(posts[0].Body) {
		t.Errorf("after the crash came %s %s, want %s again", posts[1].ID, posts[1].Body, posts[0].ID)
	}
	if posts[2].Data.Status != "delivered" {
		t.Errorf("then came %s", posts[2].Body)
	}
}

// Several processes at once tell each status once, in order.
func TestManyProcesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := receive(t, nil)
	for range 3 {
		w.run(quick())
	}
	const n = 30
	for i := range n {
		key := fmt.Sprint("c", i)
		m := w.send(key, r.URL)
		w.sent(m, nil)
		w.report(m, key, message.StatusDelivered)
	}
	w.until("all to be told", func() bool { return len(r.got()) >= 2*n })
	byMessage := map[string][]string{}
	for _, p := range r.got() {
		byMessage[p.Data.ID] = append(byMessage[p.Data.ID], p.Data.Status)
	}
	for id, list := range byMessage {
		if !slices.Equal(list, []string{"sent", "delivered"}) {
			t.Errorf("%s: told %q", id, list)
		}
	}
}

// A status that is made while the one before is noted as told is due all the same.
func TestNextWhileNoting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.send("c", "http://127.0.0.1:1/")
	follow := func() error {
		_, _, _, err := w.d.FollowCallbacks().Next(context.WithoutCancel(t.Context()), 100)
		return err
	}
	w.sent(m, nil)
	w.must(follow())
	w.report(m, "c", message.StatusDelivered)
	// FinishCallbacks, held up in the middle.
	tx, err := w.pool.Begin(t.Context())
	w.must(err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(t.Context(), `select from message_callbacks for update`)
	w.must(err)
	followed := make(chan error, 1)
	go func() { followed <- follow() }()
	w.until("the follower waits", func() bool {
		var waits bool
		w.must(w.pool.QueryRow(t.Context(), `select exists (select 1 from pg_locks where not granted)`).Scan(&waits))
		return waits
	})
	_, err = tx.Exec(t.Context(), `update callback_deliveries set state = 'delivered', due_at = null, finished_at = now()`)
	w.must(err)
	w.must(tx.Commit(t.Context()))
	w.must(<-followed)
	var due int
	w.must(w.pool.QueryRow(t.Context(), `select count(*) from callback_deliveries where state = 'pending' and due_at is not null`).Scan(&due))
	if due != 1 {
		t.Errorf("%d deliveries are due, want the second", due)
	}
}
