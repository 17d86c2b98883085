package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"switchboard"
	"switchboard/db"
	"switchboard/internal/auth"
	"switchboard/internal/restapi"
	"switchboard/internal/secret"
	"switchboard/message"
)

// The groups of those who may call an operation.
var (
	anybody     = []string{"nobody", "operator", "supervisor", "admin", "key"}
	signedIn    = []string{"operator", "supervisor", "admin", "key"}
	sessions    = []string{"operator", "supervisor", "admin"}
	supervisors = []string{"supervisor", "admin", "key"}
	admins      = []string{"admin"}
	keys        = []string{"key"}
	scripts     = []string{"admin", "key"}
)

// mayCall is who may call what. It is written by hand, apart from the code: an
// operation that is not in here, or lets others in, fails TestRolesOfEveryRoute.
var mayCall = map[string][]string{
	"GET /api/v1/accounts":                       signedIn,
	"POST /api/v1/accounts":                      admins,
	"GET /api/v1/accounts/{id}":                  admins,
	"PATCH /api/v1/accounts/{id}":                admins,
	"DELETE /api/v1/accounts/{id}":               admins,
	"GET /api/v1/accounts/{id}/capabilities":     signedIn,
	"POST /api/v1/accounts/{id}/check":           admins,
	"POST /api/v1/accounts/{id}/pause":           admins,
	"POST /api/v1/accounts/{id}/resume":          admins,
	"GET /api/v1/addresses/inactive":             supervisors,
	"GET /api/v1/api-keys":                       admins,
	"POST /api/v1/api-keys":                      admins,
	"PATCH /api/v1/api-keys/{id}":                admins,
	"DELETE /api/v1/api-keys/{id}":               admins,
	"POST /api/v1/api-keys/{id}/callback-secret": admins,
	"GET /api/v1/audit":                          admins,
	"GET /api/v1/callbacks":                      admins,
	"POST /api/v1/callbacks/retry":               admins,
	"POST /api/v1/callbacks/secret":              admins,
	"GET /api/v1/campaigns":                      supervisors,
	"POST /api/v1/campaigns":                     scripts,
	"GET /api/v1/campaigns/{id}":                 supervisors,
	"DELETE /api/v1/campaigns/{id}":              scripts,
	"POST /api/v1/campaigns/{id}/cancel":         scripts,
	"POST /api/v1/campaigns/{id}/dry-run":        scripts,
	"GET /api/v1/campaigns/{id}/export.csv":      supervisors,
	"GET /api/v1/campaigns/{id}/export.xlsx":     supervisors,
	"POST /api/v1/campaigns/{id}/pause":          scripts,
	"GET /api/v1/campaigns/{id}/recipients":      supervisors,
	"PUT /api/v1/campaigns/{id}/recipients":      scripts,
	"POST /api/v1/campaigns/{id}/resume":         scripts,
	"POST /api/v1/campaigns/{id}/retry-failed":   scripts,
	"POST /api/v1/campaigns/{id}/start":          scripts,
	"GET /api/v1/chats":                          signedIn,
	"GET /api/v1/chats/{id}":                     signedIn,
	"GET /api/v1/chats/{id}/messages":            signedIn,
	"GET /api/v1/customers":                      supervisors,
	"POST /api/v1/messages":                      keys,
	"DELETE /api/v1/messages/{id}":               keys,
	"POST /api/v1/messages/resend":               admins,
	"GET /api/v1/messages/{id}":                  signedIn,
	"GET /api/v1/operators":                      sessions,
	"POST /api/v1/operators":                     admins,
	"PATCH /api/v1/operators/{id}":               admins,
	"DELETE /api/v1/operators/{id}":              admins,
	"GET /api/v1/quarantine":                     admins,
	"POST /api/v1/quarantine/replay":             admins,
	"POST /api/v1/quarantine/{id}/replay":        admins,
	"GET /api/v1/reports/by-account":             supervisors,
	"GET /api/v1/reports/by-campaign":            supervisors,
	"GET /api/v1/reports/by-day":                 supervisors,
	"GET /api/v1/reports/by-hour":                supervisors,
	"GET /api/v1/reports/by-operator":            signedIn,
	"GET /api/v1/reports/by-status":              supervisors,
	"GET /api/v1/reports/messages":               supervisors,
	"GET /api/v1/reports/summary":                supervisors,
	"GET /api/v1/sender-rules":                   admins,
	"POST /api/v1/sender-rules":                  admins,
	"PUT /api/v1/sender-rules/{id}":              admins,
	"DELETE /api/v1/sender-rules/{id}":           admins,
	"GET /api/v1/stop-lists":                     supervisors,
	"GET /api/v1/stop-lists/{list}":              supervisors,
	"POST /api/v1/stop-lists/{list}":             scripts,
	"POST /api/v1/stop-lists/{list}/remove":      scripts,
	"POST /api/v1/sessions":                      anybody,
	"DELETE /api/v1/sessions":                    sessions,
	"POST /files":                                signedIn,
	"GET /files/{id}":                            signedIn,
	"HEAD /files/{id}":                           signedIn,
	"POST /webhooks/{platform}/{account_id}":     anybody, // the platform's signature decides
}

// undocumented are the routes beside the OpenAPI document, and why they need no role.
var undocumented = map[string]string{
	"/":                    "the desk: a page without data",
	"/*":                   "the desk",
	"/api/docs":            "the document as a page",
	"/api/openapi.json":    "the document",
	"/ws/v1":               "asks for a session itself: TestWhoMayConnect of package chathub",
	"GET /webhooks/{}/{}":  "platforms try the address",
	"HEAD /webhooks/{}/{}": "platforms try the address",
	"GET /files/{}/{}":     "GET /files/{id} with a name, see TestOthersThingsAreClosed",
	"HEAD /files/{}/{}":    "HEAD /files/{id} with a name",
}

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// documented lists the operations of the OpenAPI document as "METHOD path".
func documented(t *testing.T) (list []string) {
	t.Helper()
	text, err := restapi.Document(fullAPI())
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for path, operations := range doc.Paths {
		for method := range operations {
			list = append(list, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(list)
	return list
}

// call makes a request with {"x":...} for a body where there is one, and returns
// the answer.
func (w *world) ask(method, path, token, body string) (status int, header http.Header, answer string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.http+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body == "" {
		req.Body, req.ContentLength = http.NoBody, 0
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
	return res.StatusCode, res.Header, string(text)
}

// Every route that is served is documented or listed, and every documented
// operation lets in those that the table says and nobody else, however their
// token is broken.
func TestRolesOfEveryRoute(t *testing.T) {
	t.Parallel()
	w := start(t)
	operations := documented(t)
	known := map[string]bool{}
	for _, op := range operations {
		known[parameter.ReplaceAllString(op, "{}")] = true
		if mayCall[op] == nil {
			t.Errorf("%s: nobody has said in mayCall who may call it", op)
		}
	}
	for op := range mayCall {
		if !slices.Contains(operations, op) {
			t.Errorf("%s is in mayCall and not in the document", op)
		}
	}
	err := chi.Walk(w.sys.router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		route = parameter.ReplaceAllString(route, "{}")
		if !known[method+" "+route] && undocumented[route] == "" && undocumented[method+" "+route] == "" {
			t.Errorf("%s %s is served and neither documented nor listed", method, route)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	// The good ones.
	tokens := map[string]string{
		"nobody": "", "operator": w.operator("op", switchboard.RoleOperator), "supervisor": w.operator("boss", switchboard.RoleSupervisor), "admin": w.operator("root", switchboard.RoleAdmin),
	}
	var key, revoked struct{ ID, Key string }
	w.rest("POST", "/api/v1/api-keys", tokens["admin"], map[string]string{"name": "k"}, 201, &key)
	tokens["key"] = key.Key
	// And those that are nobody's any more, or never were.
	w.rest("POST", "/api/v1/api-keys", tokens["admin"], map[string]string{"name": "r"}, 201, &revoked)
	w.rest("DELETE", "/api/v1/api-keys/"+revoked.ID, tokens["admin"], nil, 204, nil)
	ended := w.operator("ended", switchboard.RoleAdmin)
	w.rest("DELETE", "/api/v1/sessions", ended, nil, 204, nil)
	disabled := w.operator("disabled", switchboard.RoleAdmin)
	o, err := w.sys.db.OperatorByLogin(t.Context(), "disabled")
	if err != nil {
		t.Fatal(err)
	}
	w.rest("PATCH", "/api/v1/operators/"+o.ID, tokens["admin"], map[string]bool{"disabled": true}, 200, nil)
	expired, hash := secret.NewToken()
	boss, err := w.sys.db.OperatorByLogin(t.Context(), "root")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.sys.db.AddSession(t.Context(), boss.ID, hash, time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	broken := map[string]string{
		"a revoked key": revoked.Key, "an ended session": ended, "a disabled admin": disabled, "an expired session": expired, "a made-up token": "AAAA" + expired[4:],
		"a made-up key": auth.KeyPrefix + expired, "half a token": tokens["admin"][:20], "a session as a key": auth.KeyPrefix + tokens["admin"], "a key's hash": string(fmt.Appendf(nil, "%x", secret.HashToken(key.Key))),
	}

	// Ending the session comes last: it ends what the others need.
	slices.SortStableFunc(operations, func(a, b string) int {
		last := func(s string) int { return strings.Count(s, "DELETE /api/v1/sessions") }
		return last(a) - last(b)
	})
	nothing := db.NewID()
	for _, op := range operations {
		method, path, _ := strings.Cut(op, " ")
		path = strings.NewReplacer("{id}", nothing, "{account_id}", nothing, "{platform}", "telegram").Replace(path)
		if path == "/api/v1/customers" {
			path += "?phone=%2B79001234567"
		}
		body := ""
		if method == "POST" || method == "PATCH" || method == "PUT" {
			body = "{}"
		}
		for who, token := range tokens {
			status, _, answer := w.ask(method, path, token, body)
			refused := status == http.StatusUnauthorized || status == http.StatusForbidden
			switch may := slices.Contains(mayCall[op], who); {
			case may && (refused || status >= 500):
				t.Errorf("%s as %s: %d %s", op, who, status, answer)
			case !may && who == "nobody" && status != http.StatusUnauthorized:
				t.Errorf("%s without a token: %d %s, want 401", op, status, answer)
			case !may && who != "nobody" && status != http.StatusForbidden:
				t.Errorf("%s as %s: %d %s, want 403", op, who, status, answer)
			}
		}
		if slices.Contains(mayCall[op], "nobody") {
			continue
		}
		for what, token := range broken {
			if status, header, _ := w.ask(method, path, token, body); status != http.StatusUnauthorized || header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %s: %d, want 401", op, what, status)
			}
		}
	}
}

// Whatever is another operator's is not there, on every route that names a thing,
// with every method that an operator may call.
func TestOthersThingsAreClosed(t *testing.T) {
	t.Parallel()
	w := start(t)
	account := w.account("telegram", telegramToken, nil)
	customer, err := w.sim.Telegram(telegramToken).NewCustomer(simCustomer("Anna's own"))
	if err != nil {
		t.Fatal(err)
	}
	annToken, bob, boss := w.operator("ann", switchboard.RoleOperator), w.operator("bob", switchboard.RoleOperator), w.operator("boss", switchboard.RoleSupervisor)
	ann := w.connect(annToken, nil)
	customer.SendText("between us")
	first := ann.message("first message", func(m *message.Message) bool { return m.Text == "between us" })
	chat := first.ChatID
	ann.call("chat.accept", map[string]any{"chat_id": chat}, nil)
	customer.SendPhoto("a private picture")
	picture := ann.message("picture", func(m *message.Message) bool {
		return m.Text == "a private picture" && len(m.Files) == 1 && m.Files[0].State == message.FileReady
	})
	loose := w.upload(annToken, "draft.txt", []byte("not sent yet"))
	sentFile := w.upload(annToken, "sent.txt", []byte("for the customer"))
	sent := ann.send(map[string]any{"chat_id": chat, "client_id": "1", "kind": "document", "files": []string{sentFile}})

	// For each operation on a thing that operators may call: the things. One without
	// a row is a route whose check nobody has tried.
	things := map[string][]string{
		"GET /api/v1/chats/{id}":          {chat},
		"GET /api/v1/chats/{id}/messages": {chat},
		"GET /api/v1/messages/{id}":       {first.ID, picture.ID, sent.ID},
		"GET /files/{id}":                 {picture.Files[0].ID, loose, sentFile},
		"HEAD /files/{id}":                {picture.Files[0].ID, loose, sentFile},
		"GET /files/{id}/name.txt":        {picture.Files[0].ID, loose, sentFile},
		// What an account can do is no operator's own.
		"GET /api/v1/accounts/{id}/capabilities": nil,
	}
	for _, op := range documented(t) {
		if _, ok := things[op]; !ok && strings.Contains(op, "{id}") && slices.Contains(mayCall[op], "operator") {
			t.Errorf("%s: nobody has said what of another's it must not show", op)
		}
	}
	try := func(who, token string, want int) {
		t.Helper()
		for op, ids := range things {
			method, path, _ := strings.Cut(op, " ")
			for _, id := range ids {
				if status, _, answer := w.ask(method, strings.Replace(path, "{id}", id, 1), token, ""); status != want {
					t.Errorf("%s of ann's %s as %s: %d %.200s, want %d", op, id, who, status, answer, want)
				}
			}
		}
	}
	try("ann", annToken, 200)
	try("bob", bob, 404)
	try("the supervisor", boss, 200)
	me, err := w.sys.db.OperatorByLogin(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"", "?operator_id=" + me.ID, "?account_id=" + account, "?state=open", "?platform=telegram", "?limit=200&from=2020-01-01T00:00:00Z"} {
		if status, _, answer := w.ask("GET", "/api/v1/chats"+query, bob, ""); status != 200 || strings.Contains(answer, chat) {
			t.Errorf("bob's list %s: %d %s", query, status, answer)
		}
	}
	// Roles that are claimed in the request count for nothing.
	for _, header := range []string{"X-Operator-Id", "X-Forwarded-User", "X-Original-URL", "X-HTTP-Method-Override"} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", w.http+"/api/v1/chats/"+chat, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+bob)
		req.Header.Set(header, me.ID)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 404 {
			t.Errorf("with %s: %d", header, res.StatusCode)
		}
	}
	// When she hands it over it is his, and no longer hers, but for what she only uploaded.
	his, err := w.sys.db.OperatorByLogin(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	ann.call("chat.transfer", map[string]any{"chat_id": chat, "operator_id": his.ID}, nil)
	w.connect(bob, nil).call("chat.accept", map[string]any{"chat_id": chat}, nil)
	for op, ids := range things {
		things[op] = slices.DeleteFunc(ids, func(id string) bool { return id == loose || id == sentFile })
	}
	try("bob, whose it is now", bob, 200)
	try("ann, who gave it away", annToken, 404)
}

// Bombs and oddities end as refusals, on every way in, and what is around them
// goes on.
func TestBombs(t *testing.T) {
	t.Parallel()
	w := start(t)
	hook := "/webhooks/viber/" + w.account("viber", viberToken, nil)
	token := w.operator("root", switchboard.RoleAdmin)
	var key struct{ Key string }
	w.rest("POST", "/api/v1/api-keys", token, map[string]string{"name": "k"}, 201, &key)
	ws := w.connect(token, nil)
	nested := func(open, inside, end string, n int) string {
		return strings.Repeat(open, n) + inside + strings.Repeat(end, n)
	}
	bombs := map[string]string{
		"arrays":            nested("[", "", "]", 100_000),
		"open arrays":       strings.Repeat("[", 200_000),
		"objects":           nested(`{"a":`, "1", "}", 40_000),
		"as deep as parsed": nested(`{"a":`, "1", "}", 9_900),
		"arrays in 9900":    nested("[", "1", "]", 9_900),
		"a long number":     strings.Repeat("9", 200_000),
		"a large exponent":  "1e999999999",
	}
	for name, bomb := range bombs {
		began := time.Now()
		viber := strings.Replace(viberCallback("5881234567890123456", "user", "hello"), `"silent":false`, `"silent":false,"extra":`+bomb, 1)
		req, err := http.NewRequestWithContext(t.Context(), "POST", w.http+hook, strings.NewReader(viber))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Viber-Content-Signature", sign(viber))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 && res.StatusCode != 400 && res.StatusCode != 413 {
			t.Errorf("%s in a webhook: %d", name, res.StatusCode)
		}
		for _, c := range []struct{ path, token, body string }{
			{"/api/v1/messages", key.Key, `{"account_id":` + bomb + `}`},
			{"/api/v1/messages", key.Key, `{"account_id":"0198aaaa-0000-7000-8000-000000000000","to":{"phone":"+79001234567"},"keyboard":` + bomb + `}`},
			{"/api/v1/sessions", "", bomb},
			{"/api/v1/accounts", token, `{"platform":"telegram","name":"x","settings":` + bomb + `}`},
		} {
			if status, _, answer := w.ask("POST", c.path, c.token, c.body); status < 400 || status >= 500 {
				t.Errorf("%s at %s: %d %.200s", name, c.path, status, answer)
			}
		}
		if len(bomb) < 100_000 { // deeper and larger ones: package chathub
			if err := ws.try("message.send", json.RawMessage(`{"chat_id":`+bomb+`}`), nil); name != "a large exponent" && name != "a long number" && err == nil {
				t.Errorf("%s in a call was taken", name)
			}
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
	// A packed body is not unpacked, whatever it says it is.
	bomb := gzipped(t, 8<<20)
	for _, c := range []struct {
		path, token string
		want        []int
	}{
		{hook, "", []int{403}}, {"/api/v1/messages", key.Key, []int{400, 415, 422}}, {"/api/v1/sessions", "", []int{400, 415, 422}}, {"/files?name=x.gz", token, []int{201}},
	} {
		for _, encoding := range []string{"gzip", "deflate", "br", "zstd", "gzip, gzip"} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", w.http+c.path, bytes.NewReader(bomb))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Content-Encoding", encoding)
			req.Header.Set("Authorization", "Bearer "+c.token)
			req.Header.Set("X-Viber-Content-Signature", strings.Repeat("0", 64))
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if !slices.Contains(c.want, res.StatusCode) {
				t.Errorf("%s at %s: %d %s, want %v", encoding, c.path, res.StatusCode, text, c.want)
			}
			if res.StatusCode == 201 && !strings.Contains(string(text), fmt.Sprintf(`"size":%d`, len(bomb))) {
				t.Errorf("%s at %s: stored as %s, want the %d bytes as they came", encoding, c.path, text, len(bomb))
			}
		}
	}
	in := &inbound{w, token, ws}
	good := viberCallback("5881234567890123499", "user", "still here")
	if status, err := in.knock(http.DefaultClient, "POST", hook, sign(good), strings.NewReader(good)); status != 200 {
		t.Fatal(status, err)
	}
	in.op.message("message after the bombs", func(m *message.Message) bool { return m.Text == "still here" })
}
