package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"switchboard"
	"switchboard/config"
	"switchboard/db"
	"switchboard/internal/dbtest"
	"switchboard/message"
	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

// told is a script's address: what it was told of each message.
type told struct {
	*httptest.Server
	mu       sync.Mutex
	statuses map[string][]string
	bad      []string
}

func listen(t *testing.T, secret func() string) *told {
	l := &told{statuses: map[string][]string{}}
	l.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret(), "whsec_"))
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp"), body)
		var p struct {
			Data struct{ ID, Status string }
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if jerr := json.Unmarshal(body, &p); err != nil || jerr != nil || r.Header.Get("Webhook-Signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
			l.bad = append(l.bad, string(body))
		}
		l.statuses[p.Data.ID] = append(l.statuses[p.Data.ID], p.Data.Status)
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *told) of(id string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.statuses[id])
}

// The way of single sends with all that a script may say: a callback for every
// status, a sender's name by rules, stop-lists, a cap, a time.
func TestSendOptions(t *testing.T) {
	t.Parallel()
	sim, base := simtest.Start(t)
	w := startOn(t, sim, base, dbtest.URLOf(t), []byte(strings.Repeat("\x05", 32)), func(c *config.Config) { c.CallbackAllow = []string{"127.0.0.1"} })
	account := w.account("viber", viberToken, nil)
	root := w.operator("root", switchboard.RoleAdmin)
	var key struct {
		ID, Key string
		Secret  string `json:"callback_secret"`
	}
	w.rest("POST", "/api/v1/api-keys", root, map[string]string{"name": "k"}, 201, &key)
	script := listen(t, func() string { return key.Secret })
	op := w.connect(root, nil)
	person, err := w.sim.Viber(viberToken).NewCustomer(simulator.CustomerSpec{})
	if err != nil {
		t.Fatal(err)
	}
	person.SendText("hello")
	chat := op.message("hello", func(m *message.Message) bool { return m.Text == "hello" }).ChatID
	send := func(want int, more map[string]any) (id, answer string) {
		t.Helper()
		body := map[string]any{"account_id": account, "to": map[string]string{"chat_id": chat}, "text": "x", "callback_url": script.URL + "/s"}
		for k, v := range more {
			body[k] = v
		}
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		status, _, answer := w.ask("POST", "/api/v1/messages", key.Key, string(text))
		if status != want {
			t.Fatalf("%s: %d %s, want %d", text, status, answer, want)
		}
		var accepted struct{ ID string }
		_ = json.Unmarshal([]byte(answer), &accepted)
		return accepted.ID, answer
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !ok(); <-time.After(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s did not come true: %v", what, script.statuses)
			}
		}
	}
	names := func() (list []string) {
		for _, r := range w.sim.Viber(viberToken).Requests("send_message") {
			var body struct {
				Sender struct{ Name string }
				Text   string
			}
			if err := json.Unmarshal(r.Body, &body); err != nil {
				t.Fatal(err)
			}
			list = append(list, body.Text+" from "+body.Sender.Name)
		}
		return list
	}

	// Statuses, and the account's own name.
	first, _ := send(202, map[string]any{"text": "first"})
	until("the first's statuses", func() bool { return len(script.of(first)) >= 2 }) // a report that a later one overtakes is not told
	if got := script.of(first); got[0] != "sent" || !slices.Contains([]string{"delivered", "read"}, got[1]) {
		t.Errorf("told %q", got)
	}
	// Names: a rule for marketing at this account, behind one of a pattern.
	w.rest("POST", "/api/v1/sender-rules", root, map[string]any{"position": 2, "account_id": account, "traffic_class": "marketing", "sender": "Promo"}, 201, nil)
	w.rest("POST", "/api/v1/sender-rules", root, map[string]any{"position": 1, "platform": "viber", "pattern": "*bank*", "sender": "Not a bank"}, 201, nil)
	w.rest("POST", "/api/v1/sender-rules", root, map[string]any{"position": 1, "platform": "nobody's", "sender": "x"}, 422, nil)
	until("the rules to hold", func() bool {
		send(202, map[string]any{"text": "probe", "traffic_class": "marketing"})
		return slices.Contains(names(), "probe from Promo")
	})
	for _, more := range []map[string]any{
		{"text": "a", "traffic_class": "marketing", "sender": "My Bank"}, {"text": "b", "sender": "Anna"}, {"text": "c"}, {"text": "d", "traffic_class": "marketing", "sender": "Anna"},
	} {
		send(202, more)
	}
	want := []string{"first from Shop", "a from Not a bank", "b from Anna", "c from Shop", "d from Promo"}
	until("the names", func() bool {
		return !slices.ContainsFunc(want, func(n string) bool { return !slices.Contains(names(), n) })
	})

	// A time: it waits, and holds up nobody.
	at := time.Now().Add(3 * time.Second)
	later, _ := send(202, map[string]any{"text": "later", "schedule": map[string]any{"start_at": at}})
	canceled, _ := send(202, map[string]any{"text": "never", "schedule": map[string]any{"start_at": at}})
	blocked, _ := send(202, map[string]any{"text": "stopped", "schedule": map[string]any{"start_at": at}, "stop_lists": []string{"vip"}})
	between, _ := send(202, map[string]any{"text": "between"})
	until("what came between", func() bool { return len(script.of(between)) >= 1 })
	w.rest("DELETE", "/api/v1/messages/"+canceled, key.Key, nil, 204, nil)
	w.rest("DELETE", "/api/v1/messages/"+canceled, key.Key, nil, 409, nil)
	w.rest("DELETE", "/api/v1/messages/"+first, key.Key, nil, 409, nil)
	var other struct{ Key string }
	w.rest("POST", "/api/v1/api-keys", root, map[string]string{"name": "other"}, 201, &other)
	w.rest("DELETE", "/api/v1/messages/"+later, other.Key, nil, 404, nil)
	until("the cancelation", func() bool { return slices.Equal(script.of(canceled), []string{"canceled"}) })
	if got := script.of(later); time.Now().Before(at) && len(got) > 0 {
		t.Errorf("what was for later is %q already", got)
	}
	sql := func(text string, args ...any) {
		t.Helper()
		if _, err := w.sys.db.Pool().Exec(t.Context(), text, args...); err != nil {
			t.Fatal(err)
		}
	}
	// Stop-lists, now and when the time comes.
	stops := func(action, list string, want int64, entry map[string]string) {
		t.Helper()
		var changed struct{ Added, Removed int64 }
		w.rest("POST", "/api/v1/stop-lists/"+list+action, key.Key, map[string]any{"entries": []any{entry}}, 200, &changed)
		if got := changed.Added + changed.Removed; got != want {
			t.Errorf("%s%s %v: changed %d, want %d", list, action, entry, got, want)
		}
	}
	stops("", "vip", 1, map[string]string{"external_id": person.ID(), "reason": "asked us not to"})
	stops("", "vip", 0, map[string]string{"external_id": person.ID()})
	if _, answer := send(422, map[string]any{"stop_lists": []string{"vip"}}); !strings.Contains(answer, `"suppressed"`) || !strings.Contains(answer, "asked us not to") {
		t.Error(answer)
	}
	send(202, map[string]any{"stop_lists": []string{"others"}})
	until("the time", func() bool { return len(script.of(later)) >= 1 && len(script.of(blocked)) >= 1 })
	if time.Now().Before(at) {
		t.Error("it left before its time")
	}
	if got := script.of(blocked); !slices.Equal(got, []string{"canceled"}) {
		t.Errorf("what was stopped meanwhile: %q", got)
	}
	if slices.ContainsFunc(names(), func(n string) bool { return strings.HasPrefix(n, "never") || strings.HasPrefix(n, "stopped") }) {
		t.Errorf("the platform got %q", names())
	}
	var who string
	if err := w.sys.db.Pool().QueryRow(t.Context(), `select customer_id from chats where id = $1`, chat).Scan(&who); err != nil {
		t.Fatal(err)
	}
	stops("", "account:"+account, 1, map[string]string{"customer_id": who})
	if _, answer := send(422, nil); !strings.Contains(answer, `"suppressed"`) {
		t.Error(answer)
	}
	stops("/remove", "account:"+account, 1, map[string]string{"customer_id": who})
	stops("/remove", "account:"+account, 0, map[string]string{"customer_id": who})
	w.command(0, nil, "stoplist", "add", "global", "+7 900 123-45-67", "--reason", "asked")
	if text := w.command(0, nil, "stoplist", "list", "global"); !strings.Contains(text, "+79001234567") || !strings.Contains(text, "asked") {
		t.Errorf("the command printed %s", text)
	}
	// A cap.
	if _, answer := send(422, map[string]any{"frequency_cap": map[string]any{"count": 3, "per": "1h"}}); !strings.Contains(answer, `"frequency_capped"`) {
		t.Error(answer)
	}
	send(202, map[string]any{"frequency_cap": map[string]any{"count": 500, "per": "1h"}})
	// What makes no sense is refused with what would be right.
	for _, more := range []map[string]any{
		{"callback_url": "ftp://x"}, {"traffic_class": "spam"}, {"stop_lists": []string{"No Such Name"}}, {"frequency_cap": map[string]any{"count": 1, "per": "day"}},
		{"schedule": map[string]any{"stop_at": time.Now().Add(-time.Hour)}}, {"cascade": true}, {"schedule": map[string]any{"rate": 5}},
	} {
		send(422, more)
	}
	// What is never called is refused at once, with the setting that would allow it.
	for _, address := range []string{"http://10.0.0.5/x", "http://169.254.169.254/latest", "https://[::1]/", "http://[::ffff:10.0.0.5]/", "http://192.168.0.1:8080/", "http://10.1/", "http://0x0a000005/"} {
		answers := map[string]string{}
		_, answers["message"] = send(422, map[string]any{"callback_url": address})
		for _, ask := range []struct {
			name, path string
			body       any
		}{
			{"campaign", "/api/v1/campaigns", map[string]any{"name": "x", "content": map[string]string{"text": "x"}, "steps": []any{map[string]string{"account_id": account}}, "callback_url": address}},
			{"operator", "/api/v1/operators", map[string]any{"login": "pic", "role": "operator", "password": "password of pic", "avatar": address}},
			{"account", "/api/v1/accounts", map[string]any{"platform": "viber", "name": "pic", "settings": map[string]string{"token": viberToken, "sender_name": "Shop", "api_base": w.base + "/viber", "sender_avatar": address}}},
		} {
			raw, err := json.Marshal(ask.body)
			if err != nil {
				t.Fatal(err)
			}
			status, _, answer := w.ask("POST", ask.path, root, string(raw))
			if answers[ask.name] = answer; status != 422 {
				t.Errorf("%s with %s: %d %s", ask.name, address, status, answer)
			}
		}
		for what, answer := range answers {
			if !strings.Contains(answer, "SWITCHBOARD_FETCH_ALLOW") {
				t.Errorf("%s with %s is told: %s", what, address, answer)
			}
		}
	}
	for path, want := range map[string]string{"account:" + db.NewID(): "there is no such account; GET /api/v1/accounts", "account:nobody": "account: and an account's id"} {
		for _, do := range []string{"", "/remove"} {
			status, _, answer := w.ask("POST", "/api/v1/stop-lists/"+path+do, root, `{"entries":[{"phone":"+79001234567"}]}`)
			if status != 422 || !strings.Contains(answer, want) {
				t.Errorf("stop-list %s%s: %d %s", path, do, status, answer)
			}
		}
	}
	if status, _, answer := w.ask("POST", "/api/v1/stop-lists/vip", root, `{"entries":[{"phone":"89001234567"}]}`); status != 422 || strings.Contains(answer, "?region") || !strings.Contains(answer, "SWITCHBOARD_PHONE_REGION") {
		t.Errorf("a national phone: %d %s", status, answer)
	}
	w.command(1, nil, "stoplist", "add", "account:"+db.NewID(), "+79001234567")
	if script.mu.Lock(); len(script.bad) > 0 {
		t.Errorf("wrongly signed: %q", script.bad)
	}
	script.mu.Unlock()
	// A campaign of the key is told and named by the same rules.
	var campaign struct{ ID string }
	w.rest("POST", "/api/v1/campaigns", key.Key, map[string]any{"name": "all", "content": map[string]string{"text": "bulk"}, "traffic_class": "marketing", "sender": "Anna",
		"steps": []any{map[string]string{"account_id": account}}, "callback_url": script.URL + "/bulk"}, 201, &campaign)
	if status, answer := w.put("/api/v1/campaigns/"+campaign.ID+"/recipients", key.Key, "external_id\n"+person.ID()+"\n"); status != 200 {
		t.Fatal(status, answer)
	}
	w.rest("POST", "/api/v1/campaigns/"+campaign.ID+"/start", key.Key, nil, 200, nil)
	until("the campaign's message", func() bool { return slices.Contains(names(), "bulk from Promo") })
	var bulk string
	if err := w.sys.db.Pool().QueryRow(t.Context(), `select message_id from campaign_sends where campaign_id = $1`, campaign.ID).Scan(&bulk); err != nil {
		t.Fatal(err)
	}
	until("the campaign's statuses", func() bool { return len(script.of(bulk)) >= 2 })
	// A key of before callbacks has no secret to sign with.
	sql(`delete from callback_secrets where key_id = $1`, key.ID)
	if _, answer := send(422, nil); !strings.Contains(answer, "no_callback_secret") {
		t.Error(answer)
	}
	w.rest("POST", "/api/v1/api-keys/"+key.ID+"/callback-secret", root, nil, 201, &key)
	last, _ := send(202, nil)
	until("the last's status", func() bool { return len(script.of(last)) >= 1 })
	if script.mu.Lock(); len(script.bad) > 0 {
		t.Errorf("wrongly signed: %q", script.bad)
	}
	script.mu.Unlock()
	var listed struct {
		Items []switchboard.CallbackDelivery
	}
	w.rest("GET", "/api/v1/callbacks?message_id="+first, root, nil, 200, &listed)
	if len(listed.Items) < 2 || listed.Items[len(listed.Items)-1].Status != "sent" || listed.Items[0].State != "delivered" {
		t.Errorf("deliveries %+v", listed.Items)
	}
	w.command(0, &listed, "callback", "list", "--message", first, "--json")
}
