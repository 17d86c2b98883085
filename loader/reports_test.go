package loader_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/xuri/excelize/v2"

	"switchboard"
	"switchboard/db"
	"switchboard/internal/auth"
	"switchboard/internal/dbtest"
	"switchboard/internal/queue"
	"switchboard/internal/restapi"
	"switchboard/loader"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// tokens are principals by token.
type tokens map[string]auth.Principal

// Token implements restapi.Tokens.
func (t tokens) Token(_ context.Context, token, _ string) (auth.Principal, error) {
	p, ok := t[token]
	if !ok {
		return p, auth.ErrBadToken
	}
	return p, nil
}

type office struct {
	t        testing.TB
	pool     *pgxpool.Pool
	db       *db.DB
	url      string
	ann, bob switchboard.Operator
	account  switchboard.Account
}

// open serves the loader's API over store, or over the test's database when it is nil.
func open(t testing.TB, store loader.Store) *office {
	t.Helper()
	o := &office{t: t, pool: dbtest.New(t)}
	quiet := slog.New(slog.DiscardHandler)
	var err error
	if o.db, err = db.New(o.pool, nil, quiet); err != nil {
		t.Fatal(err)
	}
	if store == nil {
		reader, err := db.OpenReader(t.Context(), o.db, db.ReaderConfig{PrimaryURL: dbtest.URLOf(t)}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(reader.Close)
		store = reader
	}
	add := func(login string, role switchboard.Role) switchboard.Operator {
		op, err := o.db.AddOperator(t.Context(), switchboard.Operator{Login: login, Name: "=" + login, Role: role}, "hash")
		if err != nil {
			t.Fatal(err)
		}
		return op
	}
	boss := add("boss", switchboard.RoleSupervisor)
	o.ann, o.bob = add("ann", switchboard.RoleOperator), add("bob", switchboard.RoleOperator)
	if o.account, err = o.db.AddAccount(t.Context(), switchboard.Account{Platform: "fake", Name: "@Shop"}, nil); err != nil {
		t.Fatal(err)
	}
	router := chi.NewRouter()
	api := restapi.New(router, "test", tokens{"boss": {Operator: &boss}, "ann": {Operator: &o.ann}, "key": {APIKeyID: "key"}}, db.IsUnavailable, quiet)
	loader.New(store, nil, loader.NewAdmin(o.db, nil, "", func(string) {}, nil), 2, quiet).Register(api)
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	o.url = server.URL + "/api/v1/reports/"
	return o
}

// get asks for a report; query is "key=value" pairs.
func (o *office) get(token, report string, query ...string) (status int, header http.Header, body []byte) {
	o.t.Helper()
	q := url.Values{}
	for _, kv := range query {
		k, v, _ := strings.Cut(kv, "=")
		q.Set(k, v)
	}
	req, err := http.NewRequestWithContext(o.t.Context(), http.MethodGet, o.url+report+"?"+q.Encode(), nil)
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

func (o *office) items(token, report string, query ...string) []map[string]any {
	o.t.Helper()
	status, _, body := o.get(token, report, query...)
	var table struct {
		From, To, Timezone string
		Items              []map[string]any
	}
	if err := json.Unmarshal(body, &table); status != http.StatusOK || err != nil || table.Timezone == "" || table.From == "" {
		o.t.Fatalf("%s %q: %d, %v: %s", report, query, status, err, body)
	}
	return table.Items
}

func (o *office) exec(sql string, args ...any) {
	o.t.Helper()
	if _, err := o.pool.Exec(o.t.Context(), sql, args...); err != nil {
		o.t.Fatal(err)
	}
}

// history writes a customer's question and ann's answer after 90 s, at 23:30 UTC on
// the evening before Berlin's clocks are put back, and bob's in the second of the two
// hours that begin at two o'clock.
func (o *office) history() (chat string) {
	o.t.Helper()
	chat, customer := db.NewID(), db.NewID()
	o.exec(`insert into customers (id, account_id, external_id, name) values ($1, $2, 'c', '-Ann')`, customer, o.account.ID)
	o.exec(`insert into chats (id, account_id, platform, customer_id, external_id, state) values ($1, $2, 'fake', $3, 'c', 'closed')`, chat, o.account.ID, customer)
	for i, m := range []struct{ at, direction, sender, id, text string }{
		{"2025-10-25T23:30:00Z", "in", "customer", customer, "=HYPERLINK(1)"},
		{"2025-10-25T23:31:30Z", "out", "operator", o.ann.ID, "hello"},
		{"2025-10-26T01:10:00Z", "in", "customer", customer, "again"},
		{"2025-10-26T01:10:10Z", "out", "operator", o.bob.ID, "yes"},
	} {
		at, err := time.Parse(time.RFC3339, m.at)
		if err != nil {
			o.t.Fatal(err)
		}
		id := uuid.Must(uuid.NewV7())
		copy(id[:6], []byte{byte(at.UnixMilli() >> 40), byte(at.UnixMilli() >> 32), byte(at.UnixMilli() >> 24), byte(at.UnixMilli() >> 16), byte(at.UnixMilli() >> 8), byte(at.UnixMilli())})
		o.exec(`insert into messages (id, chat_id, account_id, seq, direction, kind, status, status_at, body, sender_kind, sender_id, created_at)
			values ($1, $2, $3, $4, $5, 'text', 'sent', $6, jsonb_build_object('text', $7::text), $8, $9, $6)`, id.String(), chat, o.account.ID, i+1, m.direction, at, m.text, m.sender, m.id)
	}
	return chat
}

func TestReports(t *testing.T) {
	t.Parallel()
	o := open(t, nil)
	o.history()
	october := []string{"from=2025-10-25", "to=2025-10-28", "timezone=Europe/Berlin"}
	with := func(more ...string) []string { return append(slices.Clone(october), more...) }

	days := o.items("boss", "by-day", october...)
	var got []string
	for _, d := range days {
		got = append(got, fmt.Sprint(d["day"], d["messages_in"], d["messages_out"], d["answers"], d["answer_median"]))
	}
	if want := []string{"2025-10-25 0 0 0 <nil>", "2025-10-26 2 2 2 10", "2025-10-27 0 0 0 <nil>"}; strings.ReplaceAll(strings.Join(got, "|"), " ", "") != strings.ReplaceAll(strings.Join(want, "|"), " ", "") {
		t.Errorf("days %q, want %q", got, want)
	}
	hours := o.items("key", "by-hour", "from=2025-10-26", "to=2025-10-27", "timezone=Europe/Berlin", "account_id="+o.account.ID)
	got = nil
	for _, h := range hours {
		if h["messages_in"] != 0.0 {
			got = append(got, fmt.Sprint(h["begin"], "/", h["hour"]))
		}
	}
	if len(hours) != 25 || !slices.Equal(got, []string{"2025-10-26T01:00:00.000+02:00/1", "2025-10-26T02:00:00.000+01:00/2"}) {
		t.Errorf("%d hours, of which %q have something", len(hours), got)
	}
	if hours[2]["begin"] != "2025-10-26T02:00:00.000+02:00" || hours[3]["begin"] != "2025-10-26T02:00:00.000+01:00" {
		t.Errorf("the hour that comes twice: %v, %v", hours[2]["begin"], hours[3]["begin"])
	}
	if whole := o.items("boss", "summary", october...); len(whole) != 1 || whole[0]["messages_in"] != 2.0 || whole[0]["first_answers"] != 1.0 || whole[0]["first_answer_average"] != 90.0 {
		t.Errorf("summary %v", whole)
	}
	if whole := o.items("boss", "summary", "from=2020-01-01", "to=2020-01-02"); len(whole) != 1 || whole[0]["messages_in"] != 0.0 {
		t.Errorf("a summary of nothing: %v", whole)
	}
	if out := o.items("boss", "summary", with("direction=out")...); len(out) != 1 || out[0]["messages_in"] != 0.0 || out[0]["messages_out"] != 2.0 || out[0]["answers"] != nil {
		t.Errorf("summary of one direction: %v", out)
	}
	if byAccount := o.items("boss", "by-account", october...); len(byAccount) != 1 || byAccount[0]["account"] != "@Shop" || byAccount[0]["platform"] != "fake" || byAccount[0]["sent"] != 2.0 {
		t.Errorf("by account %v", byAccount)
	}
	if byStatus := o.items("boss", "by-status", october...); len(byStatus) != 2 || byStatus[0]["messages"] != 2.0 {
		t.Errorf("by status %v", byStatus)
	}
	if byCampaign := o.items("boss", "by-campaign", october...); len(byCampaign) != 0 {
		t.Errorf("by campaign %v", byCampaign)
	}

	// Who sees whom.
	if all := o.items("boss", "by-operator", october...); len(all) != 2 {
		t.Errorf("by operator %v", all)
	}
	if own := o.items("ann", "by-operator", october...); len(own) != 1 || own[0]["operator_id"] != o.ann.ID || own[0]["answer_median"] != 90.0 || own[0]["operator"] != "=ann" {
		t.Errorf("ann's own %v", own)
	}
	for _, c := range []struct {
		token, report string
		status        int
		query         []string
	}{
		{"ann", "by-operator", 403, with("operator_id=" + o.bob.ID)},
		{"ann", "by-operator", 200, with("operator_id=" + o.ann.ID)},
		{"ann", "summary", 403, october},
		{"ann", "messages", 403, october},
		{"nobody", "summary", 401, october},
		{"key", "by-operator", 200, october},
		{"key", "messages", 200, october},
		{"boss", "summary", 422, []string{"from=2025-10-25"}},
		{"boss", "summary", 422, []string{"from=2025-10-25", "to=2025-10-25"}},
		{"boss", "summary", 422, []string{"from=2020-10-25", "to=2025-10-25"}},
		{"boss", "summary", 422, []string{"from=yesterday", "to=2025-10-25"}},
		{"boss", "summary", 422, []string{"from=2025-10-25", "to=2025-10-26", "timezone=Local"}},
		{"boss", "summary", 422, []string{"from=2025-10-25", "to=2025-10-26", "timezone=Mars/Olympus"}},
		{"boss", "summary", 422, with("format=pdf")},
		{"boss", "summary", 422, with("of=me")},
	} {
		if status, _, body := o.get(c.token, c.report, c.query...); status != c.status {
			t.Errorf("%s asks for %s %q: %d, want %d: %s", c.token, c.report, c.query, status, c.status, body)
		}
	}

	// What spreadsheets must not run is inert in all of their formats.
	status, header, body := o.get("boss", "messages", with("format=csv", "bom=true", "delimiter=semicolon", "text=true")...)
	if status != 200 || !bytes.HasPrefix(body, []byte("\xEF\xBB\xBFid;created_at;")) || header.Get("Content-Disposition") != "attachment; filename=messages_2025-10-25_2025-10-28.csv" ||
		!strings.HasPrefix(header.Get("Content-Type"), "text/csv") {
		t.Errorf("CSV: %d %v %.100s", status, header, body)
	}
	r := csv.NewReader(bytes.NewReader(body[3:]))
	r.Comma = ';'
	rows, err := r.ReadAll()
	if err != nil || len(rows) != 5 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	cell := func(row []string, column string) string { return row[slices.Index(rows[0], column)] }
	if first := rows[1]; cell(first, "text") != "'=HYPERLINK(1)" || cell(first, "account") != "'@Shop" || cell(first, "customer") != "'-Ann" || cell(first, "created_at") != "2025-10-26T01:30:00.000+02:00" {
		t.Errorf("CSV row %q", first)
	}
	_, _, body = o.get("boss", "messages", with("format=xlsx", "text=true")...)
	book, err := excelize.OpenReader(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	cells, err := book.GetRows("messages")
	if err != nil || len(cells) != 5 || cells[1][len(cells[1])-1] != "'=HYPERLINK(1)" || cells[1][1] != "2025-10-26 01:30:00" {
		t.Errorf("XLSX rows %q, %v", cells, err)
	}
	_, _, body = o.get("boss", "messages", with("format=ndjson", "status=sent", "direction=out", "operator_id="+o.bob.ID)...)
	if lines := bytes.Split(bytes.TrimSpace(body), []byte("\n")); len(lines) != 1 || bytes.Contains(body, []byte(`"text":`)) {
		t.Errorf("NDJSON %s", body)
	}
	var noted int
	if err := o.pool.QueryRow(t.Context(), `select count(*) from audit where action = 'report.messages'`).Scan(&noted); err != nil || noted != 4 {
		t.Errorf("%d exports of messages in the journal, want 4 (%v)", noted, err)
	}

	// Months that are gone are not counted as if nothing had been.
	if _, err := o.db.Partitions(t.Context(), time.Now().AddDate(0, 1, 0), queue.Keep{}); err != nil {
		t.Fatal(err)
	}
	o.exec(`alter table messages detach partition messages_first`)
	if status, _, body := o.get("boss", "summary", october...); status != http.StatusGone || !bytes.Contains(body, []byte(`"no_longer_kept"`)) {
		t.Errorf("a month that was dropped: %d %s", status, body)
	}
}

// slow is a store whose rows come when they are told to.
type slow struct {
	loader.Store
	rows  chan int // how many more to write, 0 to end
	began chan struct{}
	ended chan error
}

func (*slow) KeptFrom(context.Context) (time.Time, error) { return time.Time{}, nil }

func (s *slow) MessageRows(ctx context.Context, _ switchboard.ReportFilter, _ bool, do func(*switchboard.MessageRow) error) (err error) {
	s.began <- struct{}{}
	defer func() { s.ended <- err }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case n := <-s.rows:
			if n == 0 {
				return nil
			}
			if n < 0 {
				return errors.New("broken")
			}
			for range n {
				if err := do(&switchboard.MessageRow{ID: "id", Customer: strings.Repeat("name", 1000)}); err != nil {
					return err
				}
			}
		}
	}
}

// Only so many at once; and whoever goes leaves nothing behind.
func TestReportsAtOnce(t *testing.T) { // not parallel: it names the folder of temporary files
	s := &slow{rows: make(chan int), began: make(chan struct{}), ended: make(chan error, 8)}
	o := open(t, s)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ask := func(ctx context.Context, format string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url+"messages?from=2025-10-25&to=2025-10-28&format="+format, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer boss")
		return http.DefaultClient.Do(req)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 2)
	for range 2 {
		go func() {
			resp, err := ask(ctx, "xlsx")
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			gone <- err
		}()
		<-s.began
	}
	s.rows <- 6000 // 24 MB, more than is kept in memory
	s.rows <- 6000
	s.rows <- 1
	s.rows <- 1
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(left) == 0 {
		t.Error("nothing on disk; the test shows nothing")
	}
	status, header, body := o.get("boss", "messages", "from=2025-10-25", "to=2025-10-28")
	if status != http.StatusTooManyRequests || header.Get("Retry-After") == "" || !bytes.Contains(body, []byte(`"too_many_reports"`)) {
		t.Errorf("a third: %d %v %s", status, header, body)
	}
	cancel()
	for range 2 {
		if err := <-gone; err == nil {
			t.Error("an aborted request ended well")
		}
		if err := <-s.ended; err == nil {
			t.Error("an aborted report went on")
		}
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("left behind: %v", left)
		}
	}
	// There is room again. What breaks after something was sent is cut off, and before
	// that it is a problem.
	for _, c := range []struct {
		format string
		rows   int
		cut    bool
	}{{"csv", 100, true}, {"csv", 1, false}, {"xlsx", 1, false}} {
		resp := make(chan *http.Response, 1)
		go func() {
			r, err := ask(t.Context(), c.format)
			if err != nil {
				t.Error(err)
			}
			resp <- r
		}()
		<-s.began
		s.rows <- c.rows
		s.rows <- -1
		r := <-resp
		_, err := io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if c.cut && (r.StatusCode != 200 || err == nil) || !c.cut && r.StatusCode != 500 {
			t.Errorf("%s that broke after %d rows: %d, %v", c.format, c.rows, r.StatusCode, err)
		}
		<-s.ended
	}
}
