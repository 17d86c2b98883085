package simulator_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

const infobipKey = "0123456789abcdef-infobip"

type infobipNumber struct {
	t    *testing.T
	base string
	acct *simulator.InfobipAccount
	ids  atomic.Int64
}

func newInfobipNumber(t *testing.T, cfg simulator.Config) *infobipNumber {
	t.Helper()
	sim, base := simtest.StartConfig(t, cfg)
	return &infobipNumber{t: t, base: base, acct: sim.Infobip(infobipKey)}
}

func (n *infobipNumber) do(method, path, key, body string) (int, http.Header, []byte) {
	n.t.Helper()
	if !strings.HasPrefix(path, "http") {
		path = n.base + "/infobip/" + path
	}
	req, err := http.NewRequestWithContext(n.t.Context(), method, path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "App "+key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return send(n.t, req)
}

// post sends a message; more overrides the envelope's fields, nil removes one.
func (n *infobipNumber) post(kind string, content any, more obj) (int, obj) {
	n.t.Helper()
	body := obj{"from": "79001112233", "to": "79261234567", "messageId": fmt.Sprint("m-", n.ids.Add(1)), "content": content}
	for k, v := range more {
		if body[k] = v; v == nil {
			delete(body, k)
		}
	}
	if kind == "template" {
		body = obj{"messages": []obj{body}}
	}
	b, err := json.Marshal(body)
	if err != nil {
		n.t.Fatal(err)
	}
	status, _, raw := n.do("POST", "whatsapp/1/message/"+kind, infobipKey, string(b))
	return status, decode(n.t, raw)
}

// What the documents refuse is refused, at the limits.
func TestInfobipRefuses(t *testing.T) {
	t.Parallel()
	n := newInfobipNumber(t, simulator.Config{AutoCustomers: true})
	long := func(k int) string { return strings.Repeat("я", k) }
	button := func(id, title string) obj { return obj{"type": "REPLY", "id": id, "title": title} }
	buttons := func(b ...obj) obj { return obj{"body": obj{"text": "?"}, "action": obj{"buttons": b}} }
	list := func(k int) obj {
		rows := []obj{}
		for i := range k {
			rows = append(rows, obj{"id": fmt.Sprint(i), "title": fmt.Sprint("t", i)})
		}
		return obj{"body": obj{"text": "?"}, "action": obj{"title": "Menu", "sections": []obj{{"rows": rows}}}}
	}
	template := func(name string, values ...string) obj {
		return obj{"templateName": name, "language": "ru", "templateData": obj{"body": obj{"placeholders": values}}}
	}
	n.post("text", obj{"text": "the first sender is the account's"}, nil)
	const link = "https://files.example.invalid/a.jpg"
	for name, c := range map[string]struct {
		kind    string
		content any
		more    obj
		status  int
	}{
		"text of 4096":     {"text", obj{"text": long(4096)}, nil, 200},
		"text of 4097":     {"text", obj{"text": long(4097)}, nil, 400},
		"empty text":       {"text", obj{"text": ""}, nil, 400},
		"no content":       {"text", nil, nil, 400},
		"to with plus":     {"text", obj{"text": "x"}, obj{"to": "+79261234567"}, 400},
		"no to":            {"text", obj{"text": "x"}, obj{"to": nil}, 400},
		"other sender":     {"text", obj{"text": "x"}, obj{"from": "79990000000"}, 403},
		"id of 200":        {"text", obj{"text": "x"}, obj{"messageId": strings.Repeat("x", 200)}, 200},
		"id of 201":        {"text", obj{"text": "x"}, obj{"messageId": strings.Repeat("x", 201)}, 400},
		"caption of 3000":  {"image", obj{"mediaUrl": link, "caption": long(3000)}, nil, 200},
		"caption of 3001":  {"image", obj{"mediaUrl": link, "caption": long(3001)}, nil, 400},
		"no media":         {"image", obj{"caption": "x"}, nil, 400},
		"name of 241":      {"document", obj{"mediaUrl": link, "filename": long(241)}, nil, 400},
		"off the Earth":    {"location", obj{"latitude": 90.1, "longitude": 0}, nil, 400},
		"nameless contact": {"contact", obj{"contacts": []obj{{"phones": []obj{{"phone": "1"}}}}}, nil, 400},
		"three buttons":    {"interactive/buttons", buttons(button("1", "a"), button("2", "b"), button("3", long(20))), nil, 200},
		"four buttons":     {"interactive/buttons", buttons(button("1", "a"), button("2", "b"), button("3", "c"), button("4", "d")), nil, 400},
		"title of 21":      {"interactive/buttons", buttons(button("1", long(21))), nil, 400},
		"same id":          {"interactive/buttons", buttons(button("1", "a"), button("1", "b")), nil, 400},
		"ten rows":         {"interactive/list", list(10), nil, 200},
		"eleven rows":      {"interactive/list", list(11), nil, 400},
		"template":         {"template", template("order_ready", "Anna"), nil, 200},
		"template's name":  {"template", template("Order"), nil, 400},
		"template's break": {"template", template("order_ready", "a\nb"), nil, 400},
		"template's file":  {"template", obj{"templateName": "hello", "language": "ru", "templateData": obj{"body": obj{"placeholders": []string{}}, "header": obj{"type": "DOCUMENT", "mediaUrl": link}}}, nil, 400},
		"template's value": {"template", obj{"templateName": "hello", "language": "ru", "templateData": obj{"body": obj{"placeholders": []string{}}, "buttons": []obj{{"type": "URL"}}}}, nil, 400},
		"unknown kind":     {"hologram", obj{}, nil, 400},
	} {
		if name == "no content" {
			c.more = obj{"content": nil}
		}
		if status, body := n.post(c.kind, c.content, c.more); status != c.status || status == 400 && at(body, "requestError", "serviceException", "messageId") != "BAD_REQUEST" {
			t.Errorf("%s: %d %v, want %d", name, status, body, c.status)
		}
	}
	for _, want := range []string{"7", "23"} { // once queued, then known
		_, body := n.post("text", obj{"text": "x"}, obj{"messageId": "twice"})
		if got := at(body, "status", "id"); fmt.Sprint(got) != want {
			t.Errorf("status %v, want %s", got, want)
		}
	}
	for key, want := range map[string]int{"": 401, "other-key-1234": 401, infobipKey: 200} {
		if status, _, _ := n.do("GET", "whatsapp/2/senders/79001112233/templates", key, ""); status != want {
			t.Errorf("key %q: %d, want %d", key, status, want)
		}
	}
}

type infobipCallback struct {
	auth string
	body obj
}

// A subscription gets everything, signed in; media want the key, and reports tell
// what became of a message.
func TestInfobipLife(t *testing.T) {
	t.Parallel()
	n := newInfobipNumber(t, simulator.Config{})
	got := make(chan infobipCallback, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		var v obj
		if err == nil && json.Unmarshal(b, &v) == nil {
			got <- infobipCallback{r.Header.Get("Authorization"), v}
		}
	}))
	t.Cleanup(srv.Close)
	subscription := func(id string) (int, http.Header, []byte) {
		return n.do("POST", "subscriptions/1/subscription/WHATSAPP", infobipKey, `{"subscriptionId":"`+id+`","events":["INBOUND_MESSAGE","DELIVERY","SEEN"],"resources":["79001112233"],
			"profile":{"webhook":{"notifyUrl":"`+srv.URL+`"},"security":{"type":"BASIC","credentials":{"username":"switchboard","password":"s3cret-pass"}}}}`)
	}
	for _, want := range []int{200, 409} {
		if status, _, body := subscription("gw"); status != want {
			t.Fatalf("%d %s, want %d", status, body, want)
		}
	}
	n.acct.SetScope(false)
	if status, _, _ := subscription("other"); status != 403 {
		t.Errorf("without scope: %d", status)
	}
	next := func() obj {
		t.Helper()
		select {
		case v := <-got:
			if v.auth != "Basic "+base64.StdEncoding.EncodeToString([]byte("switchboard:s3cret-pass")) {
				t.Errorf("signed in as %q", v.auth)
			}
			one, _ := at(v.body, "results", 0).(obj)
			return one
		case <-time.After(10 * time.Second):
			t.Fatal("no callback")
			return nil
		}
	}
	who := n.acct.Customer("79261234567")
	if _, err := who.Do("document", simulator.InfobipAction{File: simulator.FileSpec{Name: "a.pdf", Size: 4001}}); err != nil {
		t.Fatal(err)
	}
	in := next()
	wantEq(t, "from", in["from"], "79261234567")
	wantEq(t, "phone", at(in, "contact", "phoneNumber"), "79261234567")
	wantEq(t, "caption", at(in, "message", "caption"), "a.pdf")
	link, _ := at(in, "message", "url").(string)
	if status, _, _ := n.do("GET", link, "", ""); status != 401 {
		t.Errorf("media without the key: %d", status)
	}
	if status, h, b := n.do("GET", link, infobipKey, ""); status != 200 || len(b) != 4001 || h.Get("Content-Type") != "application/pdf" {
		t.Errorf("media: %d, %d bytes", status, len(b))
	}
	if _, err := who.Do("expire_media", simulator.InfobipAction{}); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := n.do("GET", link, infobipKey, ""); status != 404 {
		t.Errorf("media of last month: %d", status)
	}
	if _, err := who.Do("hide", simulator.InfobipAction{}); err != nil {
		t.Fatal(err)
	}
	who.SendText("hidden")
	in = next()
	wantEq(t, "hidden from", in["from"], who.UserID())
	wantEq(t, "hidden phone", at(in, "contact", "phoneNumber"), nil)
	n.post("text", obj{"text": "x"}, obj{"messageId": "m-1", "callbackData": "c=1"})
	report := next()
	wantEq(t, "callback data", report["callbackData"], "c=1")
	wantEq(t, "delivered to", report["to"], "79261234567")
	wantEq(t, "delivered", at(report, "status", "name"), "DELIVERED_TO_HANDSET")
	seen := next()
	wantEq(t, "seen by", seen["from"], "79261234567") // turned round
	if seen["seenAt"] == nil {
		t.Errorf("seen = %v", seen)
	}
	for problem, prepare := range map[string]func() (string, error){
		"EC_UNKNOWN_USER": func() (string, error) { return "79990000000", nil },
		"EC_BLOCKED_USER": func() (string, error) {
			_, err := who.Do("block", simulator.InfobipAction{})
			return who.ID(), err
		},
		"EC_NO_SESSION": func() (string, error) {
			u, err := n.acct.NewCustomer(simulator.CustomerSpec{ID: "79261234569"})
			return u.ID(), err
		},
	} {
		to, err := prepare()
		if err != nil {
			t.Fatal(err)
		}
		n.post("text", obj{"text": "x"}, obj{"to": to})
		wantEq(t, problem, at(next(), "error", "name"), problem)
	}
}
