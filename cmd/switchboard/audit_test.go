package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/gorilla/websocket"

	"switchboard"
	"switchboard/config"
	"switchboard/db"
	"switchboard/internal/dbtest"
	"switchboard/simulator/simtest"
)

// unaudited are changing operations that are no administration, and why.
var unaudited = map[string]string{
	"POST /api/v1/messages":                  "the message itself says which key sent it",
	"POST /api/v1/campaigns/{id}/dry-run":    "it changes nothing",
	"DELETE /api/v1/messages/{id}":           "the message itself says that it was canceled, and only its own key can",
	"POST /files":                            "the file itself says whose it is",
	"POST /webhooks/{platform}/{account_id}": "what platforms say is kept as it came",
}

// journal opens or closes the audit journal: while it is closed, nothing can be
// written into it.
func (w *world) journal(open bool) {
	w.t.Helper()
	sql := "alter table audit enable trigger closed"
	if open {
		sql = "alter table audit disable trigger closed"
	}
	if _, err := w.sys.db.Pool().Exec(w.t.Context(), `create or replace function closed() returns trigger language plpgsql as $$ begin raise exception 'the journal is closed'; end $$;
		create or replace trigger closed before insert or update on audit for each row execute function closed(); `+sql); err != nil {
		w.t.Fatal(err)
	}
}

// administered is all that administration changes, as text. A campaign that is on its
// way goes on by itself, so that of it only counts that it was started, and what is
// replayed may come back.
func (w *world) administered() (text string) {
	w.t.Helper()
	err := w.sys.db.Pool().QueryRow(w.t.Context(), `select concat_ws(E'\n',
		(select string_agg(concat_ws(' ', id, name, state, reason, settings, encode(secrets, 'hex')), ', ' order by id) from accounts),
		(select string_agg(concat_ws(' ', id, login, name, role, password_hash, allow_from, disabled), ', ' order by id) from operators),
		(select string_agg(concat_ws(' ', id, name, rate, burst, daily, allow_from, expires_at, revoked_at), ', ' order by id) from api_keys),
		(select string_agg(s::text, ', ' order by key_id) from callback_secrets s),
		(select string_agg(r::text, ', ' order by id) from sender_rules r),
		(select string_agg(s::text, ', ' order by list, kind, address) from suppressions s),
		(select string_agg(concat_ws(' ', id, accepted, case when state in ('draft', 'deleted', 'canceled', 'paused') then state else 'on' end), ', ' order by id) from campaigns where state <> 'deleted'),
		(select string_agg(concat_ws(' ', id, resolved_at), ', ' order by id) from quarantine where resolved_at is not null),
		(select string_agg(concat_ws(' ', id, state), ', ' order by id) from callback_deliveries),
		(select count(*) from messages where client_id like 'again:%'),
		(select string_agg(encode(token_hash, 'hex'), ', ' order by token_hash) from sessions))`).Scan(&text)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// Every changing operation of the document leaves one entry that says who, from
// where, what, on what, and does not happen when that can't be written; a new
// operation fails until it has a row here.
func TestEveryChangeIsAudited(t *testing.T) {
	t.Parallel()
	w := start(t)
	token := w.operator("root", switchboard.RoleAdmin)
	root, err := w.sys.db.OperatorByLogin(t.Context(), "root")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		path, body string
		status     int
		action     string
		target     string // "" is the id in the answer
		before     bool   // there is something before, or after
		after      bool
	}
	id := func(method, path, body string, status int) string {
		t.Helper()
		var made struct{ ID string }
		w.rest(method, path, token, json.RawMessage(body), status, &made)
		return made.ID
	}
	account := w.account("telegram", telegramToken, nil)
	const (
		operatorBody = `{"login":%q,"role":"operator","password":"a very secret password"}`
		keyBody      = `{"name":"script","rate":5}`
		ruleBody     = `{"position":1,"sender":"Shop"}`
	)
	campaign := func(recipients string, actions ...string) string {
		// One that begins much later does not end meanwhile.
		made := id("POST", "/api/v1/campaigns", fmt.Sprintf(`{"name":"all","content":{"text":"x"},"steps":[{"account_id":%q}],"schedule":{"start_at":"2100-01-01T00:00:00Z"}}`, account), 201)
		if recipients != "" {
			w.put("/api/v1/campaigns/"+made+"/recipients", token, recipients)
		}
		for _, action := range actions {
			w.rest("POST", "/api/v1/campaigns/"+made+"/"+action, token, nil, 200, nil)
		}
		return "/api/v1/campaigns/" + made
	}
	last := func(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
	const person = "external_id\n5550001\n"
	rows := map[string]func() row{
		"POST /api/v1/campaigns": func() row {
			return row{"/api/v1/campaigns", fmt.Sprintf(`{"name":"all","content":{"text":"x"},"steps":[{"account_id":%q}]}`, account), 201, "campaign.add", "", false, false}
		},
		"PUT /api/v1/campaigns/{id}/recipients": func() row {
			c := campaign("")
			return row{c + "/recipients", person, 200, "campaign.import", last(c), false, false}
		},
		"DELETE /api/v1/campaigns/{id}": func() row { return row{campaign(""), "", 204, "campaign.delete", "path", false, false} },
		"POST /api/v1/campaigns/{id}/start": func() row {
			c := campaign(person)
			return row{c + "/start", "", 200, "campaign.start", last(c), false, false}
		},
		"POST /api/v1/campaigns/{id}/pause": func() row {
			c := campaign(person, "start")
			return row{c + "/pause", "", 200, "campaign.pause", last(c), false, false}
		},
		"POST /api/v1/campaigns/{id}/resume": func() row {
			c := campaign(person, "start", "pause")
			return row{c + "/resume", "", 200, "campaign.resume", last(c), false, false}
		},
		"POST /api/v1/campaigns/{id}/cancel": func() row {
			c := campaign(person, "start")
			return row{c + "/cancel", "", 200, "campaign.cancel", last(c), false, false}
		},
		"POST /api/v1/campaigns/{id}/retry-failed": func() row {
			c := campaign(person, "start", "pause")
			return row{c + "/retry-failed", "", 200, "campaign.retry-failed", last(c), false, false}
		},
		"POST /api/v1/accounts": func() row {
			w.sim.Telegram("7000000009:AAtestTokenOfTheSimulator0123456789")
			body := fmt.Sprintf(`{"platform":"telegram","name":"new","settings":{"token":"7000000009:AAtestTokenOfTheSimulator0123456789","api_base":%q}}`, w.base+"/telegram")
			return row{"/api/v1/accounts", body, 201, "account.add", "", false, true}
		},
		"PATCH /api/v1/accounts/{id}": func() row {
			return row{"/api/v1/accounts/" + account, `{"name":"renamed","settings":{"secret":"hush-hush"}}`, 200, "account.set", account, true, true}
		},
		"DELETE /api/v1/accounts/{id}": func() row {
			return row{"/api/v1/accounts/" + w.account("viber", viberToken, nil), "", 204, "account.remove", "path", true, true}
		},
		"POST /api/v1/accounts/{id}/check": func() row {
			return row{"/api/v1/accounts/" + account + "/check", "", 200, "account.check", account, false, false}
		},
		"POST /api/v1/accounts/{id}/pause": func() row {
			return row{"/api/v1/accounts/" + account + "/pause", "", 204, "account.pause", account, true, true}
		},
		"POST /api/v1/accounts/{id}/resume": func() row {
			return row{"/api/v1/accounts/" + account + "/resume", "", 204, "account.resume", account, true, true}
		},
		"POST /api/v1/operators": func() row {
			return row{"/api/v1/operators", fmt.Sprintf(operatorBody, "one"), 201, "operator.add", "", false, true}
		},
		"PATCH /api/v1/operators/{id}": func() row {
			return row{"/api/v1/operators/" + id("POST", "/api/v1/operators", fmt.Sprintf(operatorBody, "two"), 201), `{"password":"another secret one","allow_from":["192.0.2.0/24"]}`, 200, "operator.set", "path", true, true}
		},
		"DELETE /api/v1/operators/{id}": func() row {
			return row{"/api/v1/operators/" + id("POST", "/api/v1/operators", fmt.Sprintf(operatorBody, "three"), 201), "", 204, "operator.remove", "path", true, false}
		},
		"POST /api/v1/api-keys": func() row { return row{"/api/v1/api-keys", keyBody, 201, "apikey.add", "", false, true} },
		"PATCH /api/v1/api-keys/{id}": func() row {
			return row{"/api/v1/api-keys/" + id("POST", "/api/v1/api-keys", keyBody, 201), `{"daily":7}`, 200, "apikey.set", "path", true, true}
		},
		"DELETE /api/v1/api-keys/{id}": func() row {
			return row{"/api/v1/api-keys/" + id("POST", "/api/v1/api-keys", keyBody, 201), "", 204, "apikey.revoke", "path", true, false}
		},
		"POST /api/v1/api-keys/{id}/callback-secret": func() row {
			key := id("POST", "/api/v1/api-keys", keyBody, 201)
			return row{"/api/v1/api-keys/" + key + "/callback-secret", "", 201, "callback.secret", key, false, false}
		},
		"POST /api/v1/callbacks/secret": func() row { return row{"/api/v1/callbacks/secret", "", 201, "callback.secret", "none", false, false} },
		"POST /api/v1/callbacks/retry": func() row {
			return row{"/api/v1/callbacks/retry", "{}", 200, "callbacks.retry", "none", false, false}
		},
		"POST /api/v1/sender-rules": func() row {
			return row{"/api/v1/sender-rules", ruleBody, 201, "senderrule.add", "", false, true}
		},
		"PUT /api/v1/sender-rules/{id}": func() row {
			return row{"/api/v1/sender-rules/" + id("POST", "/api/v1/sender-rules", ruleBody, 201), ruleBody, 200, "senderrule.set", "path", true, true}
		},
		"DELETE /api/v1/sender-rules/{id}": func() row {
			return row{"/api/v1/sender-rules/" + id("POST", "/api/v1/sender-rules", ruleBody, 201), "", 204, "senderrule.remove", "path", true, false}
		},
		"POST /api/v1/stop-lists/{list}": func() row {
			return row{"/api/v1/stop-lists/vip", `{"entries":[{"phone":"+79001234567"}]}`, 200, "stop-list.add", "vip", false, false}
		},
		"POST /api/v1/stop-lists/{list}/remove": func() row {
			return row{"/api/v1/stop-lists/vip/remove", `{"entries":[{"phone":"+79001234567"}]}`, 200, "stop-list.remove", "vip", false, false}
		},
		"POST /api/v1/messages/resend": func() row {
			return row{"/api/v1/messages/resend", "{}", 200, "messages.resend", "none", false, false}
		},
		"POST /api/v1/quarantine/replay": func() row {
			return row{"/api/v1/quarantine/replay", "{}", 200, "quarantine.replay", "none", false, false}
		},
		"POST /api/v1/quarantine/{id}/replay": func() row {
			poisoned := db.NewID()
			_, err := w.sys.db.Pool().Exec(t.Context(), `with u as (insert into updates (lane, account_id, dedup_key, chat_key, raw) values (1, $2, $1::text, 'c', '{}') returning lane, id),
				done as (update lanes set done_id = u.id from u where lanes.id = u.lane)
				insert into quarantine (id, account_id, lane, update_id, error) select $1::uuid, $2, lane, id, 'poison' from u`, poisoned, account)
			if err != nil {
				t.Fatal(err)
			}
			return row{"/api/v1/quarantine/" + poisoned + "/replay", "", 204, "quarantine.replay", poisoned, false, false}
		},
		"POST /api/v1/sessions": func() row {
			return row{"/api/v1/sessions", `{"login":"root","password":"password of root"}`, 201, "session.open", root.ID, false, false}
		},
		"DELETE /api/v1/sessions": func() row { return row{"/api/v1/sessions", "", 204, "session.end", root.ID, false, false} },
	}
	entries := func(query string) (page struct {
		Items      []switchboard.AuditEntry
		NextBefore *int64 `json:"next_before"`
	}) {
		t.Helper()
		w.rest("GET", "/api/v1/audit?"+query, token, nil, 200, &page)
		return page
	}
	operations := documented(t)
	slices.SortStableFunc(operations, func(a, b string) int { // ends the session that the others need
		return strings.Count(a, "DELETE /api/v1/sessions") - strings.Count(b, "DELETE /api/v1/sessions")
	})
	for _, op := range operations {
		method, _, _ := strings.Cut(op, " ")
		if method == "GET" || method == "HEAD" || unaudited[op] != "" {
			continue
		}
		if rows[op] == nil {
			t.Errorf("%s: nobody has said what it leaves in the audit journal", op)
			continue
		}
		r := rows[op]()
		newest := entries("limit=1").Items[0].ID
		ask := func() (status int, answer string) {
			if method == "PUT" && strings.HasSuffix(r.path, "/recipients") {
				return w.put(r.path, token, r.body)
			}
			status, _, answer = w.ask(method, r.path, token, r.body)
			return status, answer
		}
		was := w.administered()
		w.journal(false)
		status, answer := ask()
		w.journal(true)
		if is := w.administered(); status < 500 || is != was {
			t.Errorf("%s with the journal closed: %d %s; before\n%s\nafter\n%s", op, status, answer, was, is)
		}
		status, answer = ask()
		if status != r.status {
			t.Errorf("%s: %d %s, want %d", op, status, answer, r.status)
			continue
		}
		want := r.target
		switch want {
		case "":
			var made struct{ ID string }
			if err := json.Unmarshal([]byte(answer), &made); err != nil {
				t.Fatal(err)
			}
			want = made.ID
		case "path":
			want = r.path[strings.LastIndexByte(r.path, '/')+1:]
		case "none":
			want = ""
		}
		if op == "DELETE /api/v1/sessions" {
			token = w.operator("auditor", switchboard.RoleAdmin)
		}
		list := entries("action=" + r.action).Items
		if len(list) == 0 || list[0].ID <= newest {
			t.Errorf("%s leaves no entry %s", op, r.action)
			continue
		}
		if all := entries("limit=2&actor=operator:" + root.ID).Items; all[0].ID != list[0].ID || all[1].ID > newest {
			t.Errorf("%s leaves more than one entry: %+v", op, all)
		}
		e := list[0]
		if e.Actor != "operator:"+root.ID || e.Address != "127.0.0.1" || e.Target != want || time.Since(e.At).Abs() > time.Minute {
			t.Errorf("%s: %+v, want root from 127.0.0.1 on %s", op, e, want)
		}
		has := func(v json.RawMessage) bool { return len(v) > 0 && string(v) != "null" }
		if has(e.Before) != r.before || has(e.After) != r.after {
			t.Errorf("%s: before %s, after %s", op, e.Before, e.After)
		}
	}

	// What is secret is not in it.
	var all string
	if err := w.sys.db.Pool().QueryRow(t.Context(), `select string_agg(audit::text, ' ') from audit`).Scan(&all); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"password of", "a very secret password", "another secret one", "hush-hush", "AAtestToken", "swb_", "whsec_", "argon2"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q stands in the audit journal", secret)
		}
	}

	// Refused logins: who is known by id, who is not by nothing.
	w.rest("POST", "/api/v1/sessions", "", map[string]string{"login": "root", "password": "wrong guess"}, 401, nil)
	w.rest("POST", "/api/v1/sessions", "", map[string]string{"login": "my password", "password": "oops"}, 401, nil)
	refused := entries("action=session.*&limit=2").Items
	if len(refused) != 2 || refused[0].Action != "session.refused" || refused[0].Target != "" || refused[1].Target != root.ID || refused[0].Address != "127.0.0.1" {
		t.Errorf("refused logins: %+v", refused)
	}

	// Pages and filters fit together, here and on the command line.
	var ids []int64
	for before := int64(0); ; {
		page := entries("limit=7&actor=operator:" + root.ID + "&before=" + strconv.FormatInt(before, 10))
		for _, e := range page.Items {
			ids = append(ids, e.ID)
			if e.Actor != "operator:"+root.ID {
				t.Errorf("a page of root's has %+v", e)
			}
		}
		if page.NextBefore == nil {
			break
		}
		before = *page.NextBefore
	}
	if !slices.IsSortedFunc(ids, func(a, b int64) int { return int(b - a) }) || len(slices.Compact(slices.Clone(ids))) != len(ids) || len(ids) < len(rows) {
		t.Errorf("pages of %d entries: %v", len(ids), ids)
	}
	var printed struct{ Items []switchboard.AuditEntry }
	w.command(0, &printed, "audit", "--actor", "operator:"+root.ID, "--limit", "5", "--json")
	if len(printed.Items) != 5 || printed.Items[0].ID != ids[0] {
		t.Errorf("the command printed %+v", printed.Items)
	}
	if text := w.command(0, nil, "audit", "--action", "operator.set", "--to", "2100-01-01T00:00:00Z"); !strings.Contains(text, "operator.set") || strings.Contains(text, "account.set") || !strings.Contains(text, "192.0.2.0/24") {
		t.Errorf("the command printed %s", text)
	}
	if n := len(entries("from=2100-01-01T00:00:00Z").Items); n != 0 {
		t.Errorf("%d entries of the future", n)
	}
}

// Of changes at the same time each entry tells what the one before it made.
func TestEntriesFollowEachOther(t *testing.T) {
	t.Parallel()
	w := start(t)
	o, err := w.sys.admin.AddOperator(t.Context(), "test", switchboard.Operator{Login: "ann", Role: switchboard.RoleOperator}, "a very secret password")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			if _, err := w.sys.admin.SetOperator(t.Context(), "test", o.ID, switchboard.OperatorChange{Capacity: new(i + 1)}, ""); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	list, err := w.sys.db.AuditLog(t.Context(), switchboard.AuditFilter{Action: "operator.set"}, 100)
	if err != nil || len(list) != 20 {
		t.Fatalf("%d entries: %v", len(list), err)
	}
	was := 0
	for _, e := range slices.Backward(list) {
		var before, after switchboard.Operator
		if err := errors.Join(json.Unmarshal(e.Before, &before), json.Unmarshal(e.After, &after)); err != nil {
			t.Fatal(err)
		}
		if before.Capacity != was {
			t.Errorf("from %d to %d, after %d", before.Capacity, after.Capacity, was)
		}
		was = after.Capacity
	}
}

// unauditedCommands are commands that change nothing that administration is about, or
// nothing in the installation of the settings.
var unauditedCommands = []string{
	"demo", "serve", "migrate", "simulate", "bench", "doctor", "openapi", "version", "audit", "account list", "account show", "operator list", "apikey list",
	"callback list", "campaign list", "campaign show", "campaign export", "stoplist list", "quarantine list", "quarantine show",
}

// Every command that changes something leaves one entry, too. Doctor asks the platforms
// as account check does, of all accounts.
func TestEveryCommandIsAudited(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin, me := w.sys.admin, "test"
	account := w.account("telegram", telegramToken, nil)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	operator := func(login string) string {
		o, err := admin.AddOperator(t.Context(), me, switchboard.Operator{Login: login, Role: switchboard.RoleOperator}, "a very secret password")
		must(err)
		return o.ID
	}
	key := func() string {
		k, _, err := admin.AddAPIKey(t.Context(), me, "script")
		must(err)
		return k.ID
	}
	table := writeTable(t, func(b *bufio.Writer) { fmt.Fprint(b, "external_id\n5550001\n") })
	token := w.operator("root", switchboard.RoleAdmin)
	campaign := func(actions ...string) string {
		var made struct{ ID string }
		w.rest("POST", "/api/v1/campaigns", token, json.RawMessage(fmt.Sprintf(`{"name":"all","content":{"text":"x"},"steps":[{"account_id":%q}],"schedule":{"start_at":"2100-01-01T00:00:00Z"}}`, account)), 201, &made)
		w.put("/api/v1/campaigns/"+made.ID+"/recipients", token, "external_id\n5550001\n")
		for _, action := range actions {
			w.rest("POST", "/api/v1/campaigns/"+made.ID+"/"+action, token, nil, 200, nil)
		}
		return made.ID
	}
	poisoned := db.NewID()
	_, err := w.sys.db.Pool().Exec(t.Context(), `with u as (insert into updates (lane, account_id, dedup_key, chat_key, raw) values (1, $2, $1::text, 'c', '{}') returning lane, id),
		done as (update lanes set done_id = u.id from u where lanes.id = u.lane)
		insert into quarantine (id, account_id, lane, update_id, error) select $1::uuid, $2, lane, id, 'poison' from u`, poisoned, account)
	must(err)
	rows := map[string]struct {
		args    func() []string
		stdin   string
		actions string
	}{
		"account add": {func() []string {
			w.sim.Telegram(telegramToken)
			return []string{"account", "add", "--platform", "telegram", "--name", "new", "--no-check", "--set", "token=" + telegramToken, "--set", "api_base=" + w.base + "/telegram"}
		}, "", "account.add"},
		"account set":       {func() []string { return []string{"account", "set", account, "--name", "renamed"} }, "", "account.set"},
		"account pause":     {func() []string { return []string{"account", "pause", account} }, "", "account.pause"},
		"account resume":    {func() []string { return []string{"account", "resume", w.account("viber", viberToken, nil)} }, "", "account.resume"},
		"account remove":    {func() []string { return []string{"account", "remove", w.account("viber", viberToken, nil)} }, "", "account.remove"},
		"account check":     {func() []string { return []string{"account", "check", account} }, "", "account.check"},
		"operator add":      {func() []string { return []string{"operator", "add", "--login", "one", "--password-stdin"} }, "a very secret password\n", "operator.add"},
		"operator set":      {func() []string { return []string{"operator", "set", operator("two"), "--name", "Two"} }, "", "operator.set"},
		"operator remove":   {func() []string { return []string{"operator", "remove", operator("three")} }, "", "operator.remove"},
		"apikey add":        {func() []string { return []string{"apikey", "add", "--name", "x"} }, "", "apikey.add"},
		"apikey set":        {func() []string { return []string{"apikey", "set", key(), "--rate", "3"} }, "", "apikey.set"},
		"apikey secret":     {func() []string { return []string{"apikey", "secret", key()} }, "", "callback.secret"},
		"apikey revoke":     {func() []string { return []string{"apikey", "revoke", key()} }, "", "apikey.revoke"},
		"callback retry":    {func() []string { return []string{"callback", "retry", "--all"} }, "", "callbacks.retry"},
		"stoplist add":      {func() []string { return []string{"stoplist", "add", "vip", "+79001234567"} }, "", "stop-list.add"},
		"stoplist remove":   {func() []string { return []string{"stoplist", "remove", "vip", "+79001234567"} }, "", "stop-list.remove"},
		"message resend":    {func() []string { return []string{"message", "resend", "--all"} }, "", "messages.resend"},
		"quarantine replay": {func() []string { return []string{"quarantine", "replay", poisoned} }, "", "quarantine.replay"},
		"campaign send": {func() []string {
			return []string{"campaign", "send", table, "--account", account, "--text", "x", "--start-at", "2100-01-01T00:00:00Z"}
		}, "", "campaign.add campaign.import campaign.start"},
		"campaign pause":        {func() []string { return []string{"campaign", "pause", campaign("start")} }, "", "campaign.pause"},
		"campaign resume":       {func() []string { return []string{"campaign", "resume", campaign("start", "pause")} }, "", "campaign.resume"},
		"campaign cancel":       {func() []string { return []string{"campaign", "cancel", campaign("start")} }, "", "campaign.cancel"},
		"campaign retry-failed": {func() []string { return []string{"campaign", "retry-failed", campaign("start", "pause")} }, "", "campaign.retry-failed"},
	}
	noted := func(after int64) (newest int64, actions []string) {
		t.Helper()
		list, err := w.sys.db.AuditLog(t.Context(), switchboard.AuditFilter{Actor: actor}, 50)
		must(err)
		newest = after
		for _, e := range slices.Backward(list) {
			if e.ID > after {
				newest, actions = e.ID, append(actions, e.Action)
			}
		}
		return newest, actions
	}
	parser, err := kong.New(&cli{})
	must(err)
	for _, leaf := range parser.Model.Leaves(false) {
		name := leaf.Path()
		if slices.Contains(unauditedCommands, name) {
			continue
		}
		r, ok := rows[name]
		if !ok {
			t.Errorf("%s: nobody has said what it leaves in the audit journal", name)
			continue
		}
		args := r.args()
		run := func() (int, string) {
			p := w.spawnWith(nil, r.stdin, args...)
			return p.wait(t, 30*time.Second), p.output() + p.logText()
		}
		newest, _ := noted(0)
		// What goes by way of the same rules as the API is tested with it.
		if strings.HasPrefix(name, "stoplist") || name == "campaign send" || name == "account set" {
			was := w.administered()
			w.journal(false)
			code, text := run()
			w.journal(true)
			if is := w.administered(); code == 0 || is != was {
				t.Errorf("%s with the journal closed: %d %s; before\n%s\nafter\n%s", name, code, text, was, is)
			}
		}
		if code, text := run(); code != 0 {
			t.Errorf("%s: %d %s", name, code, text)
		}
		if _, actions := noted(newest); strings.Join(actions, " ") != r.actions {
			t.Errorf("%s leaves %q, want %q", name, actions, r.actions)
		}
	}
}

// put stores a table of recipients.
func (w *world) put(path, token, table string) (status int, answer string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), "PUT", w.http+path, strings.NewReader(table))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/csv")
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// Keys and people with a list of networks come in from there alone, on every way
// in; who comes through a trusted proxy is where the proxy says.
func TestAddressesOfKeysAndPeople(t *testing.T) {
	t.Parallel()
	sim, base := simtest.Start(t)
	w := startOn(t, sim, base, dbtest.URLOf(t), []byte(strings.Repeat("\x05", 32)), func(c *config.Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	root := w.operator("root", switchboard.RoleAdmin)
	var key struct{ ID, Key string }
	w.rest("POST", "/api/v1/api-keys", root, map[string]any{"name": "k", "allow_from": []string{"192.0.2.0/24", "2001:db8::/32"}}, 201, &key)
	if _, err := w.sys.admin.AddOperator(t.Context(), "test", switchboard.Operator{Login: "ann", Role: switchboard.RoleAdmin, AllowFrom: []string{"192.0.2.0/24", "2001:db8::/32"}}, "password of ann"); err != nil {
		t.Fatal(err)
	}
	from := func(address, method, path, token, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, w.http+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Forwarded-For", address)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text)
	}
	const login = `{"login":"ann","password":"password of ann"}`
	status, answer := from("192.0.2.9", "POST", "/api/v1/sessions", "", login)
	var session struct{ Token string }
	if err := json.Unmarshal([]byte(answer), &session); err != nil || status != 201 {
		t.Fatal(status, answer, err)
	}
	if status, answer := from("192.0.3.9", "POST", "/api/v1/sessions", "", login); status != 403 || !strings.Contains(answer, "address_not_allowed") {
		t.Errorf("a login from elsewhere: %d %s", status, answer)
	}
	if status, _ := from("192.0.3.9", "POST", "/api/v1/sessions", "", `{"login":"ann","password":"a wrong one"}`); status != 401 {
		t.Errorf("a wrong password from elsewhere: %d; it must not tell that ann exists", status)
	}
	nothing := db.NewID()
	for _, op := range documented(t) {
		method, path, _ := strings.Cut(op, " ")
		path = strings.NewReplacer("{id}", nothing, "{account_id}", nothing, "{platform}", "telegram").Replace(path)
		if path == "/api/v1/customers" {
			path += "?phone=%2B79001234567"
		}
		body := ""
		if method != "GET" && method != "HEAD" && method != "DELETE" {
			body = "{}"
		}
		if slices.Contains(mayCall[op], "nobody") || op == "DELETE /api/v1/sessions" {
			continue
		}
		for who, token := range map[string]string{"key": key.Key, "admin": session.Token} {
			// The last address counts: what stands before it is the client's to invent.
			for _, address := range []string{"192.0.3.9", "2001:db9::1", "192.0.2.9, 192.0.3.9", "::ffff:192.0.3.9"} {
				if status, answer := from(address, method, path, token, body); status != 403 || (method != "HEAD" && !strings.Contains(answer, "address_not_allowed")) {
					t.Errorf("%s as %s from %s: %d %s", op, who, address, status, answer)
				}
			}
			if !slices.Contains(mayCall[op], who) {
				continue
			}
			for _, address := range []string{"192.0.2.9", "2001:db8:5::1", "::ffff:192.0.2.9"} {
				if status, answer := from(address, method, path, token, body); status == 401 || status == 403 {
					t.Errorf("%s as %s from %s: %d %s", op, who, address, status, answer)
				}
			}
		}
	}
	for address, want := range map[string]int{"192.0.3.9": 4401, "192.0.2.9": 0} {
		ws, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+w.http[len("http"):]+"/ws/v1", http.Header{"Authorization": {"Bearer " + session.Token}, "X-Forwarded-For": {address}})
		if err != nil {
			t.Fatal(err)
		}
		if err := ws.WriteMessage(websocket.TextMessage, []byte(`{"jsonrpc":"2.0","id":1,"method":"hello","params":{"cursor":null}}`)); err != nil && want == 0 {
			t.Fatal(err)
		}
		_, _, err = ws.ReadMessage()
		if got := 0; err != nil {
			if closed, ok := err.(*websocket.CloseError); ok {
				got = closed.Code
			}
			if got != want {
				t.Errorf("a connection from %s: %v, want %d", address, err, want)
			}
		} else if want != 0 {
			t.Errorf("a connection from %s was let in", address)
		}
		ws.Close()
	}
	// A change of the list ends the sessions of before.
	ann, err := w.sys.db.OperatorByLogin(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	w.rest("PATCH", "/api/v1/operators/"+ann.ID, root, map[string]any{"allow_from": []string{}}, 200, nil)
	if status, _ := from("192.0.2.9", "GET", "/api/v1/chats", session.Token, ""); status != 401 {
		t.Errorf("the session of before the change: %d", status)
	}
	// An expired key is nobody's.
	w.rest("PATCH", "/api/v1/api-keys/"+key.ID, root, map[string]any{"allow_from": []string{}}, 200, nil)
	if status, answer := from("198.51.100.1", "GET", "/api/v1/chats", key.Key, ""); status != 200 {
		t.Errorf("a key without a list: %d %s", status, answer)
	}
	w.rest("PATCH", "/api/v1/api-keys/"+key.ID, root, map[string]any{"expires_at": time.Now().Add(time.Second)}, 200, nil)
	eventually(t, patience, "the key has expired", func() bool {
		status, _ := from("198.51.100.1", "GET", "/api/v1/chats", key.Key, "")
		return status == 401
	})
}

// The daily number of a key holds over processes and requests at once, exactly;
// repeats and refusals don't count.
func TestDailyLimit(t *testing.T) {
	t.Parallel()
	w := start(t)
	account := w.account("telegram", telegramToken, nil)
	root := w.operator("root", switchboard.RoleAdmin)
	var key struct{ ID, Key string }
	w.rest("POST", "/api/v1/api-keys", root, map[string]any{"name": "k", "daily": 10}, 201, &key)
	send := func(idempotency, to string) (int, string, string) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", w.http+"/api/v1/messages", strings.NewReader(fmt.Sprintf(`{"account_id":%q,"to":{"external_id":%q},"text":"x"}`, account, to)))
		if err != nil {
			return 0, err.Error(), ""
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+key.Key)
		req.Header.Set("Idempotency-Key", idempotency)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error(), ""
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text), res.Header.Get("Retry-After")
	}
	if status, answer, _ := send("bad", ""); status != 422 {
		t.Fatal(status, answer)
	}
	for range 3 {
		if status, answer, _ := send("same", "100"); status != 202 {
			t.Fatal(status, answer)
		}
	}
	results := make(chan int, 30)
	for i := range 30 {
		go func() {
			status, answer, after := send(fmt.Sprint("k", i), fmt.Sprint(200+i))
			if status == 429 && (!strings.Contains(answer, "daily_limit") || after == "") {
				t.Errorf("429 with %s, Retry-After %q", answer, after)
			}
			results <- status
		}()
	}
	count := map[int]int{}
	for range 30 {
		count[<-results]++
	}
	if count[202] != 9 || count[429] != 21 {
		t.Errorf("answers %v, want 9 accepted and 21 refused", count)
	}
	if status, answer, _ := send("same", "100"); status != 202 {
		t.Error("a repeat of what was accepted, after the limit:", status, answer)
	}
	// A campaign counts with all of its recipients, when it is started.
	var c struct{ ID, State string }
	var problem struct{ Code string }
	w.rest("POST", "/api/v1/campaigns", key.Key, map[string]any{"name": "c", "content": map[string]any{"text": "x"}, "steps": []any{map[string]any{"account_id": account}}}, 201, &c)
	table, err := http.NewRequestWithContext(t.Context(), "PUT", w.http+"/api/v1/campaigns/"+c.ID+"/recipients", strings.NewReader("external_id\n400\n401\n402\n"))
	if err != nil {
		t.Fatal(err)
	}
	table.Header.Set("Content-Type", "text/csv")
	table.Header.Set("Authorization", "Bearer "+key.Key)
	if res, err := http.DefaultClient.Do(table); err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	w.rest("PATCH", "/api/v1/api-keys/"+key.ID, root, map[string]any{"daily": 12}, 200, nil)
	w.rest("POST", "/api/v1/campaigns/"+c.ID+"/start", key.Key, nil, 429, &problem)
	if w.rest("GET", "/api/v1/campaigns/"+c.ID, key.Key, nil, 200, &c); c.State != "draft" || problem.Code != "daily_limit" {
		t.Errorf("over the day's number: %+v %+v", c, problem)
	}
	w.rest("PATCH", "/api/v1/api-keys/"+key.ID, root, map[string]any{"daily": 13}, 200, nil)
	w.rest("POST", "/api/v1/campaigns/"+c.ID+"/start", key.Key, nil, 200, nil)
	if status, answer, _ := send("one more", "403"); status != 429 {
		t.Error("the campaign's messages were not counted:", status, answer)
	}
	w.rest("PATCH", "/api/v1/api-keys/"+key.ID, root, map[string]any{"rate": 0.1, "burst": 1, "daily": 0}, 200, nil)
	if status, answer, _ := send("more", "300"); status != 202 {
		t.Error("after the limit was taken away:", status, answer)
	}
	if status, answer, after := send("more2", "301"); status != 429 || !strings.Contains(answer, "rate_limited") || after == "" {
		t.Errorf("over the rate: %d %s, Retry-After %q", status, answer, after)
	}
}

// The command line says what a key and a person may.
func TestAccessOnTheCommandLine(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.operator("root", switchboard.RoleAdmin)
	var key struct {
		switchboard.APIKey
		Key    string
		Secret string `json:"callback_secret"`
	}
	w.command(0, &key, "apikey", "add", "--name", "nightly", "--rate", "5", "--burst", "2", "--daily", "100", "--allow-from", "127.0.0.1,2001:db8::/32", "--expires", "720h", "--json")
	if key.Rate != 5 || key.Burst != 2 || key.Daily != 100 || !slices.Equal(key.AllowFrom, []string{"127.0.0.1/32", "2001:db8::/32"}) || key.ExpiresAt == nil ||
		time.Until(*key.ExpiresAt).Round(time.Hour) != 720*time.Hour || !strings.HasPrefix(key.Key, "swb_") || !strings.HasPrefix(key.Secret, "whsec_") {
		t.Errorf("made %+v", key)
	}
	if status, _, answer := w.ask("GET", "/api/v1/chats", key.Key, ""); status != 200 {
		t.Error(status, answer)
	}
	var changed switchboard.APIKey
	w.command(0, &changed, "apikey", "set", key.ID, "--allow-from", "192.0.2.0/24", "--rate", "0", "--expires", "0s", "--json")
	if changed.Rate != 0 || changed.Daily != 100 || changed.ExpiresAt != nil || !slices.Equal(changed.AllowFrom, []string{"192.0.2.0/24"}) {
		t.Errorf("changed to %+v", changed)
	}
	if status, _, answer := w.ask("GET", "/api/v1/chats", key.Key, ""); status != 403 {
		t.Error(status, answer)
	}
	w.command(0, &changed, "apikey", "set", key.ID, "--allow-from=", "--json")
	if status, _, answer := w.ask("GET", "/api/v1/chats", key.Key, ""); status != 200 || len(changed.AllowFrom) != 0 {
		t.Error(status, answer, changed)
	}
	if text := w.command(1, nil, "apikey", "set", key.ID, "--allow-from", "example.org"); !strings.Contains(text, "192.0.2.7") {
		t.Errorf("a bad network: %s", text)
	}
	secret := key.Secret
	w.command(0, &key, "apikey", "secret", key.ID, "--json")
	if key.Secret == secret || !strings.HasPrefix(key.Secret, "whsec_") {
		t.Errorf("the new secret is %s", key.Secret)
	}
	w.command(0, nil, "operator", "set", "root", "--allow-from", "192.0.2.0/24")
	if status, _, answer := w.ask("POST", "/api/v1/sessions", "", `{"login":"root","password":"password of root"}`); status != 403 {
		t.Error(status, answer)
	}
	w.command(0, nil, "operator", "set", "root", "--allow-from=")
	if status, _, answer := w.ask("POST", "/api/v1/sessions", "", `{"login":"root","password":"password of root"}`); status != 201 {
		t.Error(status, answer)
	}
	if text := w.command(0, nil, "audit", "--action", "apikey.*"); strings.Count(text, "apikey.set") != 2 || !strings.Contains(text, "command line") || strings.Contains(text, "whsec_") {
		t.Errorf("the journal has %s", text)
	}
}
