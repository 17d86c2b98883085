package campaigns_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"switchboard"
	"switchboard/campaigns"
	"switchboard/db"
	"switchboard/internal/auth"
	"switchboard/internal/queue"
	"switchboard/internal/restapi"
)

// tokens are "key", "admin" and "supervisor".
type tokens struct{}

func (tokens) Token(_ context.Context, token, _ string) (auth.Principal, error) {
	switch token {
	case "key":
		return auth.Principal{APIKeyID: "0198a000-0000-7000-8000-000000000001"}, nil
	case "admin", "supervisor":
		return auth.Principal{Operator: &switchboard.Operator{ID: token, Role: switchboard.Role(token)}}, nil
	default:
		return auth.Principal{}, auth.ErrBadToken
	}
}

func (t tokens) Request(r *http.Request) (auth.Principal, error) {
	return t.Token(r.Context(), auth.Token(r), r.RemoteAddr)
}

// server is the API on a real listener, because bodies stream.
type server struct {
	t     testing.TB
	url   string
	store *db.DB
	mu    sync.Mutex
	woken int
}

func serve(t testing.TB) *server {
	t.Helper()
	return serveStore(t, openDB(t), testAccounts())
}

func serveStore(t testing.TB, store *db.DB, known accounts) *server {
	t.Helper()
	s := &server{t: t, store: store}
	router := chi.NewRouter()
	log := slog.New(slog.DiscardHandler)
	api := campaigns.NewAPI(campaigns.Deps{Store: s.store, OpenImport: func(ctx context.Context, actor, id string) (campaigns.Import, error) {
		return s.store.OpenImport(ctx, actor, id)
	},
		Accounts: known, Log: log, Unavailable: db.IsUnavailable, Wake: func(topic string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if topic == "campaigns" {
				s.woken++
			}
		}})
	api.Register(restapi.New(router, "test", tokens{}, db.IsUnavailable, log))
	api.Routes(router, tokens{})
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

type answer struct {
	code   int
	header http.Header
	text   []byte
	json   map[string]any
}

func (a answer) get(path string) any {
	var v any = a.json
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func (s *server) call(method, path string, body io.Reader, header ...string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer key")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{code: resp.StatusCode, header: resp.Header}
	if a.text, err = io.ReadAll(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	_ = json.Unmarshal(a.text, &a.json)
	return a
}

func (s *server) want(code int, a answer, what string) answer {
	s.t.Helper()
	if a.code != code {
		s.t.Fatalf("%s: %d %s, want %d", what, a.code, a.text, code)
	}
	return a
}

func definition(steps string) string {
	return fmt.Sprintf(`{"name":"spring","content":{"text":"Hello {{name|friend}}"},"steps":[%s]}`, steps)
}

func (s *server) add(definition string) string {
	s.t.Helper()
	a := s.want(201, s.call("POST", "/api/v1/campaigns", strings.NewReader(definition)), "add")
	if a.get("state") != "draft" {
		s.t.Fatalf("a new campaign: %s", a.text)
	}
	return a.get("id").(string)
}

func (s *server) put(id, csv string) answer {
	s.t.Helper()
	return s.call("PUT", "/api/v1/campaigns/"+id+"/recipients", strings.NewReader(csv), "Content-Type", "text/csv")
}

const overA = `{"account_id":"` + accountA + `"}`

func TestLifecycle(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id := s.add(definition(overA))
	path := "/api/v1/campaigns/" + id
	for _, action := range []string{"start", "pause", "resume", "retry-failed"} {
		if a := s.call("POST", path+"/"+action, nil); a.code != 409 || a.get("code") != "conflict" {
			t.Errorf("%s of an empty draft: %d %s", action, a.code, a.text)
		}
	}
	a := s.want(200, s.put(id, "phone,name,city\n+79001234567,Ann,Omsk\n+79001234568,,\n+79001234567,,\nx,,\n"), "put")
	if got := string(a.text); got != `{"accepted":2,"rejected":1,"duplicates":1,"errors":[{"line":5,"reason":"phone is no number; use one like +79001234567"}]}`+"\n" {
		t.Errorf("import: %s", got)
	}
	a = s.want(200, s.put(id, "phone\n+79001234568\n+79001234569\n"), "a second table")
	if a.get("accepted") != 1. || a.get("duplicates") != 1. {
		t.Errorf("the second table: %s", a.text)
	}
	a = s.want(200, s.call("GET", path, nil), "get")
	if a.get("counts.total") != 3. || a.get("counts.queued") != 3. || a.get("rejected") != 1. || a.get("duplicates") != 2. || a.get("definition.name") != "spring" || fmt.Sprint(a.get("variables")) != "[name city]" {
		t.Errorf("after the imports: %s", a.text)
	}
	// Ten who start it at once start it once.
	var wg sync.WaitGroup
	codes := make([]int, 10)
	for i := range codes {
		wg.Go(func() { codes[i] = s.call("POST", path+"/start", nil).code })
	}
	wg.Wait()
	started := 0
	for _, c := range codes {
		if c == 200 {
			started++
		} else if c != 409 {
			t.Errorf("start: %d", c)
		}
	}
	if started != 1 || s.woken != 1 {
		t.Errorf("started %d times, woken %d times", started, s.woken)
	}
	if a := s.put(id, "phone\n+79001234577\n"); a.code != 409 {
		t.Errorf("recipients for a running campaign: %d %s", a.code, a.text)
	}
	for _, step := range []struct{ action, state string }{{"pause", "paused"}, {"resume", "running"}, {"pause", "paused"}, {"cancel", "canceled"}} {
		if a := s.want(200, s.call("POST", path+"/"+step.action, nil), step.action); a.get("state") != step.state {
			t.Errorf("%s: %s", step.action, a.text)
		}
	}
	for _, action := range []string{"start", "pause", "resume", "cancel", "retry-failed"} {
		if a := s.call("POST", path+"/"+action, nil); a.code != 409 {
			t.Errorf("%s of a canceled campaign: %d %s", action, a.code, a.text)
		}
	}
	if a := s.call("DELETE", path, nil); a.code != 409 {
		t.Errorf("deleting a canceled campaign: %d %s", a.code, a.text)
	}
	entries, err := s.store.Pool().Query(t.Context(), `select action from audit where target = $1 order by id`, id)
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for entries.Next() {
		var action string
		if err := entries.Scan(&action); err != nil {
			t.Fatal(err)
		}
		actions = append(actions, strings.TrimPrefix(action, "campaign."))
	}
	if got := strings.Join(actions, " "); got != "add import import start pause resume pause cancel" {
		t.Errorf("the audit journal has %s", got)
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	s := serve(t)
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	id := s.add(`{"name":"later","content":{"text":"x"},"steps":[` + overA + `],"schedule":{"start_at":"` + at(time.Hour) + `"}}`)
	s.want(200, s.put(id, "phone\n+79001234567\n"), "put")
	path := "/api/v1/campaigns/" + id
	for _, step := range []struct{ action, state string }{{"start", "scheduled"}, {"pause", "paused"}, {"resume", "scheduled"}, {"cancel", "canceled"}} {
		a := s.want(200, s.call("POST", path+"/"+step.action, nil), step.action)
		if a.get("state") != step.state || a.get("started_at") != nil {
			t.Errorf("%s: %s", step.action, a.text)
		}
	}
	id = s.add(`{"name":"over","content":{"text":"x"},"steps":[` + overA + `],"schedule":{"stop_at":"` + at(-time.Hour) + `"}}`)
	s.want(200, s.put(id, "phone\n+79001234567\n"), "put")
	if a := s.call("POST", "/api/v1/campaigns/"+id+"/start", nil); a.code != 409 || !strings.Contains(string(a.text), "stop_at") {
		t.Errorf("start of what is over: %d %s", a.code, a.text)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	s := serve(t)
	first := s.want(201, s.call("POST", "/api/v1/campaigns", strings.NewReader(definition(overA)), "Idempotency-Key", "k1"), "add")
	again := s.want(201, s.call("POST", "/api/v1/campaigns", strings.NewReader(definition(overA)), "Idempotency-Key", "k1"), "add again")
	if first.get("id") != again.get("id") {
		t.Errorf("two campaigns: %s, %s", first.text, again.text)
	}
	if a := s.call("POST", "/api/v1/campaigns", strings.NewReader(strings.Replace(definition(overA), "spring", "autumn", 1)), "Idempotency-Key", "k1"); a.code != 409 {
		t.Errorf("the key with another campaign: %d %s", a.code, a.text)
	}
	id := first.get("id").(string)
	s.want(200, s.put(id, "phone\n+79001234567\n"), "put")
	path := "/api/v1/campaigns/" + id
	// A key whose request was refused is not used up.
	other := s.add(definition(overA))
	s.want(409, s.call("POST", "/api/v1/campaigns/"+other+"/start", nil, "Idempotency-Key", "k2"), "start of an empty one")
	s.want(200, s.put(other, "phone\n+79001234567\n"), "put")
	s.want(200, s.call("POST", "/api/v1/campaigns/"+other+"/start", nil, "Idempotency-Key", "k2"), "start")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if a := s.call("POST", path+"/start", nil, "Idempotency-Key", "k3"); a.code != 200 || a.get("state") != "running" {
				t.Errorf("start with a key: %d %s", a.code, a.text)
			}
		})
	}
	wg.Wait()
	s.want(200, s.call("POST", path+"/pause", nil), "pause")
	if a := s.call("POST", path+"/start", nil, "Idempotency-Key", "k3"); a.code != 200 || a.get("state") != "running" {
		t.Errorf("the key's answer changed: %d %s", a.code, a.text)
	}
	if a := s.call("POST", path+"/resume", nil, "Idempotency-Key", "k3"); a.code != 409 {
		t.Errorf("the key with another action: %d %s", a.code, a.text)
	}
	if a := s.call("GET", path, nil); a.get("state") != "paused" {
		t.Errorf("the repeat did something: %s", a.text)
	}
}

func TestRetryFailed(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id := s.add(definition(overA))
	s.want(200, s.put(id, "phone\n+79001234561\n+79001234562\n+79001234563\n"), "put")
	path := "/api/v1/campaigns/" + id
	s.want(200, s.call("POST", path+"/start", nil), "start")
	// What the pump and the follower would have done.
	for _, sql := range []string{
		`select campaign_unpack($1, 3)`,
		`update campaign_recipients set state = 'done', status = case n when 1 then 'failed' when 2 then 'delivered' else 'expired' end, reason = 'x' where campaign_id = $1`,
		`insert into campaign_counts (campaign_id, status, delta) values ($1, 'queued', -3), ($1, 'failed', 1), ($1, 'delivered', 1), ($1, 'expired', 1)`,
		`insert into campaign_done (campaign_id, delta) values ($1, 3)`,
		`update campaigns set state = 'done', finished_at = now(), taken = 3 where id = $1`,
	} {
		if _, err := s.store.Pool().Exec(t.Context(), sql, id); err != nil {
			t.Fatal(err)
		}
	}
	a := s.want(200, s.call("POST", path+"/retry-failed", nil, "Idempotency-Key", "r"), "retry")
	if a.get("retried") != 2. || a.get("campaign.state") != "running" || a.get("campaign.counts.queued") != 2. || a.get("campaign.counts.failed") != 0. || a.get("campaign.counts.total") != 3. {
		t.Errorf("retry: %s", a.text)
	}
	if a := s.want(200, s.call("POST", path+"/retry-failed", nil, "Idempotency-Key", "r"), "retry again"); a.get("retried") != 2. {
		t.Errorf("the repeat: %s", a.text)
	}
	if a := s.want(200, s.call("POST", path+"/retry-failed", nil), "retry of nothing"); a.get("retried") != 0. {
		t.Errorf("retry of nothing: %s", a.text)
	}
	var due, done int
	if err := s.store.Pool().QueryRow(t.Context(), `select (select count(*) from campaign_recipients where campaign_id = $1 and state = 'waiting' and round = 1 and due_at <= now() and message_id is null and reason is null),
		(select sum(delta) from campaign_done where campaign_id = $1)`, id).Scan(&due, &done); err != nil {
		t.Fatal(err)
	}
	if due != 2 || done != 1 {
		t.Errorf("%d are due, %d done", due, done)
	}
}

// A retry of many is done piece by piece, and goes on where it was left.
func TestRetryOfMany(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id := s.add(definition(overA))
	const n = 45000
	var b strings.Builder
	b.WriteString("phone\n")
	for i := range n {
		fmt.Fprintf(&b, "+79%09d\n", i)
	}
	s.want(200, s.put(id, b.String()), "put")
	path := "/api/v1/campaigns/" + id
	s.want(200, s.call("POST", path+"/start", nil), "start")
	for _, sql := range []string{
		`select campaign_unpack($1, 45000)`,
		`update campaign_recipients set state = 'done', status = 'failed' where campaign_id = $1`,
		`insert into campaign_counts (campaign_id, status, delta) values ($1, 'queued', -45000), ($1, 'failed', 45000)`,
		`insert into campaign_done (campaign_id, delta) values ($1, 45000)`,
		`update campaigns set state = 'done', finished_at = now(), taken = 45000 where id = $1`,
	} {
		if _, err := s.store.Pool().Exec(t.Context(), sql, id); err != nil {
			t.Fatal(err)
		}
	}
	// The first piece alone, as if the process had died behind it.
	if retried, c, err := s.store.RetryCampaign(t.Context(), queue.Once{}, "test", id); err != nil || retried != n || c.State != "running" || c.Counts.Queued == 0 || c.Counts.Queued == n {
		t.Fatalf("%d %+v %v", retried, c.Counts, err)
	}
	for more := true; more; {
		var err error
		if more, err = s.store.RetryMore(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	var due, rounds, done int
	if err := s.store.Pool().QueryRow(t.Context(), `select count(*) filter (where state = 'waiting' and due_at <= now()), max(round), (select sum(delta) from campaign_done where campaign_id = $1) from campaign_recipients where campaign_id = $1`, id).Scan(&due, &rounds, &done); err != nil || due != n || rounds != 1 || done != 0 {
		t.Errorf("%d are due, %d rounds, %d done: %v", due, rounds, done, err)
	}
	if a := s.want(200, s.call("GET", path, nil), "get"); a.get("counts.queued") != float64(n) || a.get("counts.failed") != 0. || a.get("finished_at") != nil {
		t.Errorf("%s", a.text)
	}
	// All in one call, when nobody dies.
	for _, sql := range []string{
		`update campaign_recipients set state = 'done', status = 'expired', due_at = null where campaign_id = $1`,
		`insert into campaign_counts (campaign_id, status, delta) values ($1, 'queued', -45000), ($1, 'expired', 45000)`,
	} {
		if _, err := s.store.Pool().Exec(t.Context(), sql, id); err != nil {
			t.Fatal(err)
		}
	}
	if a := s.want(200, s.call("POST", path+"/retry-failed", nil), "retry"); a.get("retried") != float64(n) {
		t.Errorf("%s", a.text)
	}
	if a := s.want(200, s.call("GET", path, nil), "get"); a.get("counts.queued") != float64(n) {
		t.Errorf("%s", a.text)
	}
}

func TestRecipientsAndExports(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id := s.add(definition(overA))
	var b strings.Builder
	b.WriteString("phone,name,status\n")
	const n = 2500
	for i := range n {
		fmt.Fprintf(&b, "+79%09d,\"N %d, Esq.\",=1+%d\n", i, i, i)
	}
	s.want(200, s.put(id, b.String()), "put")
	path := "/api/v1/campaigns/" + id
	// Some have been unpacked, and one was sent to.
	for _, sql := range []string{`select campaign_unpack($1, 1200)`, `update campaign_recipients set status = 'read' where campaign_id = $1 and n = 7`} {
		if _, err := s.store.Pool().Exec(t.Context(), sql, id); err != nil {
			t.Fatal(err)
		}
	}
	count := func(query string, limit int) (seen int) {
		cursor := ""
		for last := 0.; ; {
			a := s.want(200, s.call("GET", fmt.Sprintf("%s/recipients?limit=%d%s%s", path, limit, query, cursor), nil), "recipients")
			for _, x := range a.get("items").([]any) {
				seen++
				m := x.(map[string]any)
				if got := m["n"].(float64); got <= last {
					t.Fatalf("%v behind %v", got, last)
				} else {
					last = got
				}
				if want := fmt.Sprintf("+79%09d", int(last)-1); m["phone"] != want {
					t.Fatalf("recipient %v is %v, want %s", last, m["phone"], want)
				}
			}
			if a.get("next_cursor") == nil {
				return seen
			}
			cursor = "&cursor=" + a.get("next_cursor").(string)
		}
	}
	for query, want := range map[string]int{"": n, "&status=queued": n - 1, "&status=read": 1, "&status=failed": 0} {
		if got := count(query, 700); got != want {
			t.Errorf("recipients%s: %d, want %d", query, got, want)
		}
	}
	if a := s.call("GET", path+"/recipients?cursor=x", nil); a.code != 422 {
		t.Errorf("a made-up cursor: %d", a.code)
	}
	a := s.want(200, s.call("GET", path+"/export.csv", nil), "export")
	rows, err := csv.NewReader(bytes.NewReader(a.text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != n+1 || strings.Join(rows[0], ",") != "n,phone,customer_id,external_id,timezone,status,reason,step,message_id,updated_at,name,variable_status" {
		t.Fatalf("%d rows, %v", len(rows), rows[0])
	}
	if got := strings.Join(rows[7], "|"); got != "7|+79000000006|||"+"|read||0|||N 6, Esq.|'=1+6" {
		t.Errorf("row 7: %s", got)
	}
	if a := s.want(200, s.call("GET", path+"/export.csv?status=read&delimiter=semicolon", nil), "export"); bytes.Count(a.text, []byte("\n")) != 2 {
		t.Errorf("those who read: %s", a.text)
	}
	if a := s.want(200, s.call("GET", path+"/export.xlsx", nil), "export"); !bytes.HasPrefix(a.text, []byte("PK")) || !strings.Contains(a.header.Get("Content-Disposition"), ".xlsx") {
		t.Errorf("xlsx: %v", a.header)
	}
}

func TestDeleteDraft(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id := s.add(definition(overA))
	s.want(200, s.put(id, "phone\n+79001234567\n+79001234568\n"), "put")
	if _, err := s.store.Pool().Exec(t.Context(), `select campaign_unpack($1, 1)`, id); err != nil {
		t.Fatal(err)
	}
	s.want(204, s.call("DELETE", "/api/v1/campaigns/"+id, nil), "delete")
	s.want(404, s.call("GET", "/api/v1/campaigns/"+id, nil), "get")
	s.want(404, s.call("DELETE", "/api/v1/campaigns/"+id, nil), "delete again")
	s.want(404, s.put(id, "phone\n+79001234567\n"), "put")
	for range 10 {
		if more, err := s.store.PruneCampaigns(t.Context(), 1); err != nil {
			t.Fatal(err)
		} else if !more {
			break
		}
	}
	var left int
	if err := s.store.Pool().QueryRow(t.Context(), `select (select count(*) from campaigns) + (select count(*) from campaign_recipients) + (select count(*) from campaign_blocks) + (select count(*) from campaign_counts)`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows are left, %v", left, err)
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id := s.add(definition(overA))
	for _, c := range []struct {
		token, method, path string
		code                int
	}{
		{"", "GET", "", 401}, {"", "PUT", "/recipients", 401}, {"nobody", "POST", "/start", 401},
		{"supervisor", "GET", "", 200}, {"supervisor", "GET", "/recipients", 200}, {"supervisor", "PUT", "/recipients", 403}, {"supervisor", "POST", "/start", 403},
		{"admin", "GET", "", 200}, {"admin", "PUT", "/recipients", 200}, {"key", "GET", "", 200},
	} {
		a := s.call(c.method, "/api/v1/campaigns/"+id+c.path, strings.NewReader("phone\n"), "Authorization", "Bearer "+c.token, "Content-Type", "text/csv")
		if a.code != c.code {
			t.Errorf("%s %s by %q: %d %s, want %d", c.method, c.path, c.token, a.code, a.text, c.code)
		}
		if c.code == 401 && (a.header.Get("WWW-Authenticate") == "" || a.get("code") != "unauthorized") {
			t.Errorf("401: %v %s", a.header, a.text)
		}
	}
}

func TestPutRefusals(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id := s.add(definition(overA))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, "phone\n+79001234567\n")
	z.Close()
	var bomb bytes.Buffer
	z = gzip.NewWriter(&bomb)
	fmt.Fprint(z, "phone\n")
	zeros := bytes.Repeat([]byte("\n"), 1<<20)
	for range 64 {
		z.Write(zeros)
	}
	z.Close()
	for name, c := range map[string]struct {
		body   string
		header []string
		query  string
		code   int
		text   string
	}{
		"packed":            {packed.String(), []string{"Content-Type", "text/csv; charset=utf-8", "Content-Encoding", "gzip"}, "", 200, `"accepted":1`},
		"JSON":              {`{}`, []string{"Content-Type", "application/json"}, "", 415, "text/csv or application/x-ndjson"},
		"no type":           {`phone`, nil, "", 415, "text/csv"},
		"deflate":           {`x`, []string{"Content-Type", "text/csv", "Content-Encoding", "deflate"}, "", 415, "gzip"},
		"not packed":        {"phone\n", []string{"Content-Type", "text/csv", "Content-Encoding", "gzip"}, "", 400, "not gzip"},
		"cut off":           {packed.String()[:packed.Len()-9], []string{"Content-Type", "text/csv", "Content-Encoding", "gzip"}, "", 400, "ended in the middle"},
		"bomb":              {bomb.String(), []string{"Content-Type", "text/csv", "Content-Encoding", "gzip"}, "", 400, "unpacks to more"},
		"charset":           {"phone\n", []string{"Content-Type", "text/csv; charset=koi8-r"}, "", 422, "windows-1251"},
		"region":            {"phone\n", []string{"Content-Type", "text/csv"}, "?region=Mars", 422, "like RU"},
		"query":             {"phone\n", []string{"Content-Type", "text/csv"}, "?regoin=RU", 422, "use region and delimiter"},
		"empty":             {"", []string{"Content-Type", "text/csv"}, "", 422, "first row names the columns"},
		"no address":        {"name;town\nAnn;Omsk\n", []string{"Content-Type", "text/csv"}, "", 422, "phone, customer_id or external_id"},
		"two of a name":     {"phone,Name,name\n", []string{"Content-Type", "text/csv"}, "", 422, "two columns"},
		"headers only":      {"phone\n", []string{"Content-Type", "text/csv"}, "", 200, `"errors":[]`},
		"nothing of NDJSON": {"", []string{"Content-Type", "application/x-ndjson"}, "", 200, `"accepted":0`},
	} {
		a := s.call("PUT", "/api/v1/campaigns/"+id+"/recipients"+c.query, strings.NewReader(c.body), c.header...)
		if a.code != c.code || !strings.Contains(string(a.text), c.text) {
			t.Errorf("%s: %d %s, want %d %q", name, a.code, a.text, c.code, c.text)
		}
	}
	s.want(404, s.put("0198a000-0000-7000-8000-0000000000aa", "phone\n"), "another campaign")
	s.want(404, s.put("nonsense", "phone\n"), "nonsense")
}

// A transfer that breaks off leaves whole pieces, and the table can be sent again.
func TestImportBreaksOff(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id := s.add(definition(overA))
	all, err := io.ReadAll(table(25000))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), "PUT", s.url+"/api/v1/campaigns/"+id+"/recipients", io.MultiReader(bytes.NewReader(all[:len(all)-100]), broken{}))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer key")
	r.Header.Set("Content-Type", "text/csv")
	if resp, err := http.DefaultClient.Do(r); err == nil {
		resp.Body.Close()
		t.Errorf("the broken transfer: %d", resp.StatusCode)
	}
	a := s.want(200, s.put(id, string(all)), "the table again") // waits for the first one's end
	before := int(a.get("duplicates").(float64))
	if int(a.get("accepted").(float64))+before != 25000 || before%10000 != 0 {
		t.Errorf("again: %s", a.text)
	}
	if a := s.want(200, s.call("GET", "/api/v1/campaigns/"+id, nil), "get"); a.get("counts.total") != 25000. {
		t.Errorf("in all: %s", a.text)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// A campaign does not start while recipients are being added.
func TestNoStartDuringImport(t *testing.T) {
	t.Parallel()
	s := serve(t)
	id := s.add(definition(overA))
	s.want(200, s.put(id, "phone\n+79001234567\n"), "put")
	im, err := s.store.OpenImport(t.Context(), "test", id)
	if err != nil {
		t.Fatal(err)
	}
	if a := s.call("POST", "/api/v1/campaigns/"+id+"/start", nil); a.code != 409 || !strings.Contains(string(a.text), "being added") {
		t.Errorf("start: %d %s", a.code, a.text)
	}
	im.Close()
	s.want(200, s.call("POST", "/api/v1/campaigns/"+id+"/start", nil), "start")
}

func TestList(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var ids []string
	for range 5 {
		ids = append(ids, s.add(definition(overA)))
	}
	var got []string
	cursor := ""
	for {
		a := s.want(200, s.call("GET", "/api/v1/campaigns?limit=2&state=draft&name=PRIN"+cursor, nil), "list")
		for _, x := range a.get("items").([]any) {
			got = append([]string{x.(map[string]any)["id"].(string)}, got...)
		}
		if a.get("next_cursor") == nil {
			break
		}
		cursor = "&cursor=" + a.get("next_cursor").(string)
	}
	if strings.Join(got, " ") != strings.Join(ids, " ") {
		t.Errorf("%v, want %v", got, ids)
	}
	if a := s.want(200, s.call("GET", "/api/v1/campaigns?state=running", nil), "list"); len(a.get("items").([]any)) != 0 {
		t.Errorf("running: %s", a.text)
	}
}
