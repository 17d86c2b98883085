package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/internal/secret"
	"switchboard/loader"
	"switchboard/message"
	"switchboard/simulator"
)

// command runs a command of the program on the world's database.
func (w *world) command(want int, out any, args ...string) string {
	w.t.Helper()
	p := launch(w.t, w.t, strings.Join(args, " "), w.t.TempDir(), map[string]string{
		"SWITCHBOARD_DATABASE_URL": w.database,
		"SWITCHBOARD_MASTER_KEY":   base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{5}, secret.KeySize)),
	}, "", args...)
	if code := p.wait(w.t, patience); code != want {
		w.t.Fatalf("%q ended with exit code %d, want %d: %s", args, code, want, p.logText())
	}
	if out != nil {
		if err := json.Unmarshal([]byte(p.output()), out); err != nil {
			w.t.Fatalf("%q printed %s: %v", args, p.output(), err)
		}
	}
	return p.output() + p.logText()
}

// Poisoned updates are seen, by the API and on the command line, and come in after
// a fix, in the order in which they were sent.
func TestRepairQuarantine(t *testing.T) {
	t.Parallel()
	w := start(t)
	account := w.account("telegram", telegramToken, nil)
	in := lookOn(w)
	acct := w.sim.Telegram(telegramToken)
	c, err := acct.NewCustomer(simulator.CustomerSpec{})
	if err != nil {
		t.Fatal(err)
	}
	const poison = `{"message":{"message_id":1,"poisoned":%q}}`
	for _, s := range []string{"one", "two", "three"} {
		if _, err := acct.Inject(strings.Replace(poison, "%q", `"`+s+`"`, 1)); err != nil {
			t.Fatal(err)
		}
	}
	c.SendText("behind")
	behind := in.op.message("message behind", func(m *message.Message) bool { return m.Text == "behind" })
	list := func(query string) (q struct {
		Items      []switchboard.Quarantined
		NextCursor *string `json:"next_cursor"`
	}) {
		t.Helper()
		w.rest("GET", "/api/v1/quarantine"+query, in.token, nil, 200, &q)
		return q
	}
	if q := list(""); len(q.Items) != 3 || !strings.Contains(q.Items[0].Raw, `"three"`) || q.Items[0].Error == "" || q.Items[0].AccountID != account || q.NextCursor != nil {
		t.Fatalf("quarantine = %s", asJSON(q))
	}
	if q := list("?limit=2"); len(q.Items) != 2 || q.NextCursor == nil {
		t.Errorf("first page = %s", asJSON(q))
	} else if q := list("?limit=2&cursor=" + *q.NextCursor); len(q.Items) != 1 || !strings.Contains(q.Items[0].Raw, `"one"`) {
		t.Errorf("second page = %s", asJSON(q))
	}
	for _, query := range []string{"?account_id=0198aaaa-0000-7000-8000-000000000000", "?error=no+such+words"} {
		if q := list(query); len(q.Items) != 0 {
			t.Errorf("%s: %s", query, asJSON(q))
		}
	}
	var q struct{ Items []switchboard.Quarantined }
	w.command(0, &q, "quarantine", "list", "--json", "--account", account)
	if len(q.Items) != 3 {
		t.Fatalf("command line: %s", asJSON(q))
	}
	if s := w.command(0, nil, "quarantine", "show", q.Items[2].ID); !strings.Contains(s, `"poisoned":"one"`) {
		t.Errorf("shown: %s", s)
	}
	w.command(1, nil, "quarantine", "show", "0198aaaa-0000-7000-8000-000000000000")
	if s := w.command(1, nil, "quarantine", "replay"); !strings.Contains(s, "--all") {
		t.Errorf("%s", s)
	}

	// Not mended yet: they are set aside again.
	w.rest("POST", "/api/v1/quarantine/replay", in.token, map[string]any{}, 200, nil)
	polled(t, "the same in quarantine again", patience, func() bool {
		q := list("")
		return len(q.Items) == 3 && strings.Contains(q.Items[0].Raw, `"three"`)
	})
	// The fix: here of the data, which is easier than of the program.
	conn, err := pgx.Connect(t.Context(), w.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), `update updates set raw = convert_to(replace(replace(convert_from(raw, 'UTF8'), '"message_id":1,',
			'"message_id":' || (9000 + id) || ',"date":1790000000,"chat":{"id":' || $1 || ',"type":"private"},"from":{"id":' || $1 || ',"is_bot":false,"first_name":"x"},'), '"poisoned"', '"text"'), 'UTF8')
		where convert_from(raw, 'UTF8') like '%poisoned%'`, c.ID()); err != nil {
		t.Fatal(err)
	}
	one := list("").Items[2]
	w.rest("POST", "/api/v1/quarantine/"+one.ID+"/replay", in.token, nil, 204, nil)
	in.op.message("the first one", func(m *message.Message) bool { return m.Text == "one" && m.ChatID == behind.ChatID })
	w.rest("POST", "/api/v1/quarantine/"+one.ID+"/replay", in.token, nil, 404, nil)
	var done loader.Replayed
	w.command(0, &done, "quarantine", "replay", "--json", "--account", account)
	if done.Replayed != 2 {
		t.Errorf("%d replayed", done.Replayed)
	}
	in.op.message("the last one", func(m *message.Message) bool { return m.Text == "three" })
	var texts []string
	for _, m := range in.history(behind.ChatID) {
		texts = append(texts, m.Text)
	}
	if !slices.Equal(texts, []string{"behind", "one", "two", "three"}) || len(list("").Items) != 0 {
		t.Errorf("the chat has %q; quarantine %s", texts, asJSON(list("")))
	}
}

// Messages that failed are sent again by filter: once each, as new ones, and what
// can't be sent is named.
func TestRepairResend(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	tg, vb := d.customer("telegram", simulator.CustomerSpec{}), d.customer("viber", simulator.CustomerSpec{})
	fail := func(c *customer, text, client string) message.Message {
		t.Helper()
		d.fault(simulator.Fault{Kind: simulator.FaultBlocked, Customer: c.id, Count: 1})
		return d.reaches(d.post(c, map[string]any{"kind": "text", "text": text, "client_id": client}).ID, message.StatusFailed)
	}
	var failed []message.Message
	for _, s := range []string{"a", "b", "c"} {
		failed = append(failed, fail(tg, s, s))
	}
	failed = append(failed, fail(vb, "d", "d"))
	resend := func(body map[string]any) (r loader.Resent) {
		t.Helper()
		d.rest("POST", "/api/v1/messages/resend", d.token, body, 200, &r)
		return r
	}
	for name, c := range map[string]struct {
		body          map[string]any
		matched, sent int
	}{
		"all, dry":      {map[string]any{"dry_run": true}, 4, 4},
		"other kind":    {map[string]any{"error_kind": "uncertain"}, 0, 0},
		"other code":    {map[string]any{"error_kind": "recipient", "error_code": "404"}, 0, 0},
		"other account": {map[string]any{"account_id": "0198aaaa-0000-7000-8000-000000000000"}, 0, 0},
		"too early":     {map[string]any{"to": failed[0].CreatedAt}, 0, 0},
		"late, dry":     {map[string]any{"from": failed[2].CreatedAt, "dry_run": true}, 2, 2},
	} {
		if r := resend(c.body); r.Matched != c.matched || r.Resent != c.sent || len(r.Skipped) != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	first := resend(map[string]any{"chat_id": tg.chat, "error_kind": "recipient", "error_code": "403", "limit": 2})
	if first.Resent != 2 || first.Next != failed[1].ID {
		t.Errorf("first: %+v", first)
	}
	if second := resend(map[string]any{"chat_id": tg.chat, "limit": 2}); second.Resent != 1 || second.Next != "" {
		t.Errorf("second: %+v", second)
	}
	d.op.message("c again", func(m *message.Message) bool {
		return m.Text == "c" && m.ID != failed[2].ID && m.Status == message.StatusSent
	})
	if got := tg.texts(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("the customer has %q", got)
	}
	m, _ := d.message(failed[0].ID)
	if m.Status != message.StatusFailed {
		t.Errorf("the first one is %s", m.Status)
	}
	if r := resend(map[string]any{"chat_id": tg.chat}); r.Matched != 0 {
		t.Errorf("a third time: %+v", r)
	}

	d.rest("DELETE", "/api/v1/accounts/"+d.accounts["viber"], d.token, nil, 204, nil)
	var r loader.Resent
	polled(t, "removed account", patience, func() bool {
		r = resend(map[string]any{"dry_run": true})
		return len(r.Skipped) == 1
	})
	if r.Matched != 1 || r.Skipped[failed[3].ID] == "" {
		t.Errorf("removed account: %+v", r)
	}
	d.command(0, &r, "message", "resend", "--json", "--all")
	if r.Matched != 1 || r.Resent != 0 || r.Skipped[failed[3].ID] == "" {
		t.Errorf("command line: %+v", r)
	}
	if s := d.command(1, nil, "message", "resend"); !strings.Contains(s, "--all") {
		t.Errorf("%s", s)
	}
}

// More than fit one transaction are sent again, each once and in their order, and each
// transaction has its entry in the journal.
func TestRepairResendMany(t *testing.T) {
	t.Parallel()
	d := newDesk(t, map[string]string{"rate": "0", "chat_rate": "0"})
	c := d.customer("telegram", simulator.CustomerSpec{})
	d.fault(simulator.Fault{Kind: simulator.FaultBlocked, Customer: c.id, Count: 1})
	first := d.reaches(d.post(c, map[string]any{"kind": "text", "text": "0", "client_id": "0"}).ID, message.StatusFailed)
	const n = 150
	if _, err := d.sys.db.Pool().Exec(t.Context(), `with copied as (insert into messages select (jsonb_populate_record(m, jsonb_build_object(
				'id', overlay(m.id::text placing lpad(to_hex(i), 4, '0') from 33), 'seq', m.seq + i, 'client_id', null, 'body', m.body || jsonb_build_object('text', i::text)))).*
			from messages m, generate_series(1, $2::int) i where m.id = $1 returning chat_id)
		update chats set last_seq = last_seq + $2 where id in (select chat_id from copied)`, first.ID, n); err != nil {
		t.Fatal(err)
	}
	if _, err := d.sys.db.Pool().Exec(t.Context(), `update messages set deleted_at = now() where id = $1`, first.ID); err != nil {
		t.Fatal(err)
	}
	var r loader.Resent
	d.rest("POST", "/api/v1/messages/resend", d.token, map[string]any{"chat_id": c.chat, "limit": 1000}, 200, &r)
	if r.Matched != n || r.Resent != n || len(r.Skipped) != 0 || r.Next != "" {
		t.Errorf("resent: %+v", r)
	}
	eventually(t, patience, "all are sent", func() bool { return len(c.texts()) >= n })
	for i, text := range c.texts() {
		if text != strconv.Itoa(i+1) {
			t.Fatalf("message %d of %d is %q", i+1, len(c.texts()), text)
		}
	}
	list, err := d.sys.db.AuditLog(t.Context(), switchboard.AuditFilter{Action: "messages.resend"}, 10)
	if err != nil {
		t.Fatal(err)
	}
	var details []string
	for _, e := range slices.Backward(list) {
		var detail struct{ Resent int }
		if err := json.Unmarshal(e.Detail, &detail); err != nil {
			t.Fatal(err)
		}
		details = append(details, strconv.Itoa(detail.Resent))
	}
	if got := strings.Join(details, " "); got != "100 50" {
		t.Errorf("the journal has %s", got)
	}
}
