package simulator_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"switchboard/simulator"
)

// connect sets the webhook and swallows its check.
func (b *vb) connect(answer func(n int, r received, w http.ResponseWriter)) *hook {
	b.t.Helper()
	h, url := newHook(b.t, answer)
	b.want("set_webhook", obj{"url": url, "send_name": true, "send_photo": true}, 0)
	wantEq(b.t, "the check comes first", str(h.next(b.t).v["event"]), "webhook")
	return h
}

func signature(key string, body []byte) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write(body)
	return hex.EncodeToString(m.Sum(nil))
}

func msg(id string, more obj) obj {
	m := obj{"receiver": id, "type": "text", "text": "hi", "sender": obj{"name": "Shop"}}
	for k, v := range more {
		if v == nil {
			delete(m, k)
			continue
		}
		m[k] = v
	}
	return m
}

func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	// The document's own vector, so that this test's notion is the document's.
	body := []byte(`{"event":"webhook","timestamp":1770000000000,"message_token":5881234567890000001}`)
	wantEq(t, "vector", signature(vbToken, body), "1543da8b9983833def80c5b931f6e80b57b432847c9aa808c4ee15d29cdb0da4")
}

func TestViberSetWebhook(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{})
	c := b.acct.Customer("")
	b.want("send_message", msg(c.ID(), nil), 10)
	b.want("set_webhook", obj{}, 4)
	b.want("set_webhook", obj{"url": "nonsense"}, 1)
	v := b.want("set_webhook", obj{"url": "http://127.0.0.1:1/x"}, 1)
	if !strings.Contains(str(v["status_message"]), "java.net.ConnectException") {
		t.Errorf("refused connection: %v", v)
	}
	_, bad := newHook(t, func(_ int, _ received, w http.ResponseWriter) { w.WriteHeader(419) })
	b.want("set_webhook", obj{"url": bad}, 1)
	b.want("send_message", msg(c.ID(), nil), 10)

	h, url := newHook(t, nil)
	v = b.want("set_webhook", obj{"url": url + "/hooks/viber/7b?x=1", "event_types": []string{"seen"}}, 0)
	r := h.next(t)
	wantEq(t, "event", str(r.v["event"]), "webhook")
	wantEq(t, "signed too", r.header.Get("X-Viber-Content-Signature"), signature(vbToken, r.body))
	wantEq(t, "types", fmt.Sprint(v["event_types"]), "[message subscribed unsubscribed seen]")
	wantEq(t, "the query is dropped", str(b.want("get_account_info", obj{}, 0)["webhook"]), url+"/hooks/viber/7b")

	// Only what was asked for, and no names unless asked.
	c.Open("")
	b.want("send_message", msg(c.ID(), nil), 0)
	wantEq(t, "no conversation_started, no delivered", str(h.next(t).v["event"]), "seen")
	c.SendText("x")
	r = h.next(t)
	wantEq(t, "no name", at(r.v, "sender", "name"), nil)

	b.want("set_webhook", obj{"url": ""}, 0)
	b.want("send_message", msg(c.ID(), nil), 10)
	wantEq(t, "nowhere to go", c.SendText("x").Dropped, true)
}

func TestViberAuth(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{})
	post := func(header, body string) obj {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, b.base+"/viber/pa/get_account_info", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set("X-Viber-Auth-Token", header)
		}
		status, _, raw := send(t, req)
		wantEq(t, "HTTP status", status, 200)
		return decode(t, raw)
	}
	wantEq(t, "header", num(post(vbToken, "{}")["status"]), int64(0))
	wantEq(t, "body", num(post("", `{"auth_token":"`+vbToken+`"}`)["status"]), int64(0))
	wantEq(t, "wrong", num(post("wrong", "{}")["status"]), int64(2))
	wantEq(t, "none", num(post("", "{}")["status"]), int64(2))
	wantEq(t, "malformed", num(post(vbToken, "{")["status"]), int64(3))
	wantEq(t, "not an object", num(post(vbToken, "[]")["status"]), int64(3))
	for _, r := range b.acct.Requests("") {
		if strings.Contains(string(r.Body), vbToken) {
			t.Errorf("the token is in a record: %s", r.Body)
		}
	}
	yes := true
	b.acct.Set(simulator.AccountOptions{Revoked: &yes})
	b.want("get_account_info", obj{}, 2)
}

func TestViberValidation(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{NoReceipts: true})
	b.connect(nil)
	c := b.acct.Customer("")
	id := c.ID()
	media := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") })) //nolint:errcheck // a test
	kb := func(more obj, buttons ...obj) obj {
		k := obj{"Type": "keyboard", "Buttons": buttons}
		for f, v := range more {
			if v == nil {
				delete(k, f)
				continue
			}
			k[f] = v
		}
		return obj{"keyboard": k, "min_api_version": 6}
	}
	btn := func(cols int, more obj) obj {
		x := obj{"Columns": cols, "Rows": 1, "ActionType": "reply", "ActionBody": "cb", "Text": "T"}
		for f, v := range more {
			if v == nil {
				delete(x, f)
				continue
			}
			x[f] = v
		}
		return x
	}
	with := func(a obj, b obj) obj {
		for k, v := range b {
			a[k] = v
		}
		return a
	}
	s := strings.Repeat
	file := obj{"type": "file", "text": nil, "media": media + "/a.pdf", "size": 1, "file_name": "a.pdf"}
	rich := func(more obj, n int) obj {
		r := obj{"Type": "rich_media", "ButtonsGroupColumns": 1, "ButtonsGroupRows": 1, "Buttons": []obj{}}
		for range n {
			r["Buttons"] = append(r["Buttons"].([]obj), btn(1, nil))
		}
		return obj{"type": "rich_media", "text": nil, "alt_text": "a", "min_api_version": 7, "rich_media": with(r, more)}
	}
	for _, x := range []struct {
		name   string
		m      obj
		status int
	}{
		{"text", nil, 0},
		{"text of 7000", obj{"text": s("я", 7000)}, 0},
		{"text of 7001", obj{"text": s("я", 7001)}, 3},
		{"no text", obj{"text": nil}, 4},
		{"empty text", obj{"text": ""}, 4},
		{"text is a number", obj{"text": 5}, 3},
		{"no sender", obj{"sender": nil}, 4},
		{"no sender name", obj{"sender": obj{}}, 4},
		{"name of 28", obj{"sender": obj{"name": s("я", 28)}}, 0},
		{"name of 29", obj{"sender": obj{"name": s("я", 29)}}, 3},
		{"names are case-sensitive", obj{"sender": nil, "Sender": obj{"name": "x"}}, 4},
		{"avatar", obj{"sender": obj{"name": "x", "avatar": "https://x.y/a.png"}}, 0},
		{"avatar is no URL", obj{"sender": obj{"name": "x", "avatar": "a.png"}}, 3},
		{"no type", obj{"type": nil}, 4},
		{"unknown type", obj{"type": "hologram"}, 3},
		{"no receiver", obj{"receiver": nil}, 4},
		{"unknown receiver", obj{"receiver": "AAAAAAAAAAAAAAAAAAAAAA=="}, 5},
		{"tracking", obj{"tracking_data": s("x", 4000)}, 0},
		{"tracking of 4001", obj{"tracking_data": s("x", 4001)}, 3},
		{"tracking null", obj{"tracking_data": json.RawMessage("null")}, 3},
		{"min_api_version", obj{"min_api_version": 10}, 0},
		{"min_api_version above the client", obj{"min_api_version": 11}, 13},
		{"min_api_version text", obj{"min_api_version": "7"}, 3},

		{"picture", obj{"type": "picture", "text": "", "media": media + "/a.jpg"}, 0},
		{"caption of 512", obj{"type": "picture", "text": s("я", 512), "media": media + "/a.jpg"}, 0},
		{"caption of 513", obj{"type": "picture", "text": s("я", 513), "media": media + "/a.jpg"}, 3},
		{"picture without media", obj{"type": "picture"}, 4},
		{"media is no URL", obj{"type": "picture", "media": "a.jpg"}, 3},
		{"bad thumbnail", obj{"type": "picture", "media": media + "/a.jpg", "thumbnail": "t"}, 3},
		{"video", obj{"type": "video", "media": media + "/a.mp4", "size": 26 << 20, "duration": 180}, 0},
		{"video without size", obj{"type": "video", "media": media + "/a.mp4"}, 4},
		{"video too big", obj{"type": "video", "media": media + "/a.mp4", "size": 26<<20 + 1}, 3},
		{"video too long", obj{"type": "video", "media": media + "/a.mp4", "size": 5, "duration": 181}, 3},
		{"file", file, 0},
		{"file without size", with(obj{"type": "file", "media": media, "file_name": "a.pdf"}, nil), 4},
		{"file without name", obj{"type": "file", "media": media, "size": 5}, 4},
		{"file without extension", obj{"type": "file", "media": media, "size": 5, "file_name": "a"}, 3},
		{"file of 51 MB", obj{"type": "file", "media": media, "size": 50<<20 + 1, "file_name": "a.pdf"}, 3},
		{"file name of 257", obj{"type": "file", "media": media, "size": 5, "file_name": s("x", 253) + ".pdf"}, 3},
		{"executable", obj{"type": "file", "media": media, "size": 5, "file_name": "a.EXE"}, 3},
		{"location", obj{"type": "location", "location": obj{"lat": 54.6, "lon": 25.2}}, 0},
		{"location off the globe", obj{"type": "location", "location": obj{"lat": 91, "lon": 0}}, 3},
		{"location without lon", obj{"type": "location", "location": obj{"lat": 9}}, 4},
		{"contact", obj{"type": "contact", "contact": obj{"name": s("x", 28), "phone_number": s("1", 18)}}, 0},
		{"contact name of 29", obj{"type": "contact", "contact": obj{"name": s("x", 29), "phone_number": "1"}}, 3},
		{"phone of 19", obj{"type": "contact", "contact": obj{"name": "x", "phone_number": s("1", 19)}}, 3},
		{"sticker", obj{"type": "sticker", "sticker_id": 46105}, 0},
		{"sticker without id", obj{"type": "sticker"}, 4},
		{"url", obj{"type": "url", "media": "https://shop.example.com/item/5"}, 0},
		{"url of 2001", obj{"type": "url", "media": "https://" + s("x", 1993)}, 3},

		{"keyboard alone", with(kb(nil, btn(6, nil)), obj{"type": nil, "text": nil}), 0},
		{"two rows", kb(nil, btn(3, nil), btn(3, nil), btn(6, nil)), 0},
		{"a tall one beside two", kb(nil, btn(3, obj{"Rows": 2}), btn(3, nil), btn(3, nil)), 0},
		{"row not filled", kb(nil, btn(3, nil), btn(2, nil)), 3},
		{"row too wide", kb(nil, btn(4, nil), btn(4, nil)), 3},
		{"seven columns", kb(nil, btn(7, nil)), 3},
		{"three rows high", kb(nil, btn(6, obj{"Rows": 3})), 3},
		{"no keyboard Type", kb(obj{"Type": nil}, btn(6, nil)), 3},
		{"type in lower case", kb(obj{"Type": nil, "type": "keyboard"}, btn(6, nil)), 3},
		{"no buttons", kb(nil), 3},
		{"bad colour", kb(obj{"BgColor": "red"}, btn(6, nil)), 3},
		{"bad button colour", kb(nil, btn(6, obj{"BgColor": "#FFF"})), 3},
		{"no ActionBody", kb(nil, btn(6, obj{"ActionBody": nil})), 4},
		{"none needs no ActionBody", kb(nil, btn(6, obj{"ActionBody": nil, "ActionType": "none"})), 0},
		{"bad ActionType", kb(nil, btn(6, obj{"ActionType": "jump"})), 3},
		{"bad TextSize", kb(nil, btn(6, obj{"TextSize": "huge"})), 3},
		{"bad height", kb(obj{"CustomDefaultHeight": 39}, btn(6, nil)), 3},
		{"field needs version 4", with(kb(obj{"InputFieldState": "hidden"}, btn(6, nil)), obj{"min_api_version": 3}), 14},
		{"version 4 is there", with(kb(obj{"InputFieldState": "hidden"}, btn(6, nil)), obj{"min_api_version": 4}), 0},
		{"frame needs version 6", with(kb(nil, btn(6, obj{"Frame": obj{"BorderColor": "#000000"}})), obj{"min_api_version": 4}), 14},

		{"rich media", rich(nil, 6), 0},
		{"rich media of 7 on 1x1", rich(nil, 7), 3},
		{"rich media of 8 rows", rich(obj{"ButtonsGroupRows": 8}, 1), 3},
		{"alt_text", with(rich(nil, 1), obj{"alt_text": s("x", 7001)}), 3},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := &vb{t, b.sim, b.base, b.acct}
			b.want("send_message", msg(id, x.m), x.status)
		})
	}

	// 30 KB for the whole request; one byte more is refused.
	body, err := json.Marshal(msg(id, obj{"tracking_data": s("я", 4000), "text": s("я", 7000), "x": ""}))
	if err != nil {
		t.Fatal(err)
	}
	pad := 30<<10 - len(body)
	fit := bytes.Replace(body, []byte(`"x":""`), []byte(`"x":"`+s("p", pad)+`"`), 1)
	over := bytes.Replace(body, []byte(`"x":""`), []byte(`"x":"`+s("p", pad+1)+`"`), 1)
	wantEq(t, "30 KB", num(b.raw("send_message", fit)["status"]), int64(0))
	wantEq(t, "30 KB and a byte", num(b.raw("send_message", over)["status"]), int64(3))

	// A field that should be there, but whose absence nobody has seen refused.
	b.want("send_message", msg(id, obj{"type": "picture", "text": nil, "media": media + "/a.bmp"}), 0)
	got := c.Messages()
	if w := got[len(got)-1].Warnings; len(w) != 2 {
		t.Errorf("warnings: %q", w)
	}
}

func TestViberReceipts(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{})
	h := b.connect(nil)
	c := b.acct.Customer("")
	v := b.want("send_message", msg(c.ID(), nil), 0)
	token := v["message_token"].(json.Number).String()
	if n, err := strconv.ParseUint(token, 10, 64); err != nil || n < 1<<53 {
		t.Errorf("message_token %s: want an unsigned 64-bit number above 2^53", token)
	}
	for _, event := range []string{"delivered", "seen"} {
		r := h.next(t)
		wantEq(t, "event", str(r.v["event"]), event)
		wantEq(t, "token", r.v["message_token"].(json.Number).String(), token)
		wantEq(t, "user", str(r.v["user_id"]), c.ID())
		wantEq(t, "signature", r.header.Get("X-Viber-Content-Signature"), signature(vbToken, r.body))
	}
	m := c.Messages()[0]
	wantEq(t, "state", m.State, "seen")
	wantEq(t, "id", m.ID, token)

	set := func(r string) {
		if err := c.Set(simulator.CustomerPatch{Receipts: &r}); err != nil {
			t.Fatal(err)
		}
	}
	set("failed")
	b.want("send_message", msg(c.ID(), nil), 0)
	r := h.next(t)
	wantEq(t, "failed", str(r.v["event"]), "failed")
	wantEq(t, "the text is in desc", str(r.v["desc"]) != "", true)

	// One seen for everything unread.
	set("delivered")
	var last string
	for range 3 {
		last = b.want("send_message", msg(c.ID(), nil), 0)["message_token"].(json.Number).String()
		h.event(t, "delivered")
	}
	if _, err := c.Do("seen", simulator.ViberAction{}); err != nil {
		t.Fatal(err)
	}
	wantEq(t, "seen", h.event(t, "seen").v["message_token"].(json.Number).String(), last)
	for _, m := range c.Messages()[2:] {
		wantEq(t, "all are read", m.State, "seen")
	}
	s, err := c.Do("seen", simulator.ViberAction{})
	if err != nil || !s.Dropped {
		t.Errorf("seen again: %+v %v", s, err)
	}

	// Several devices, and receipts for what the customer wrote.
	two, err := b.acct.NewCustomer(simulator.CustomerSpec{Devices: 2, Started: true, Receipts: "delivered"})
	if err != nil {
		t.Fatal(err)
	}
	b.want("send_message", msg(two.ID(), nil), 0)
	h.event(t, "delivered")
	h.event(t, "delivered")
	yes := true
	b.acct.Set(simulator.AccountOptions{InboundReceipts: &yes})
	sent := two.SendText("x")
	wantEq(t, "delivered for inbound", h.event(t, "delivered").v["message_token"].(json.Number).String(), sent.MessageID)
}

func TestViberReceiptDelays(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{DeliveredAfter: 40 * time.Millisecond, SeenAfter: 60 * time.Millisecond})
	h := b.connect(nil)
	c := b.acct.Customer("")
	start := time.Now()
	b.want("send_message", msg(c.ID(), nil), 0)
	h.event(t, "delivered")
	if d := time.Since(start); d < 40*time.Millisecond {
		t.Errorf("delivered after %v", d)
	}
	h.event(t, "seen")
	if d := time.Since(start); d < 100*time.Millisecond {
		t.Errorf("seen after %v", d)
	}
}

func TestViberMediaIsFetched(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{})
	h := b.connect(nil)
	c := b.acct.Customer("")
	data := []byte("the file's bytes")
	site := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/invoice.pdf":
			w.Header().Set("Content-Type", "application/pdf")
			w.Write(data) //nolint:errcheck // a test
		case "/moved.pdf":
			http.Redirect(w, r, "/invoice.pdf", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	file := func(path string, size int) obj {
		return msg(c.ID(), obj{"type": "file", "text": nil, "media": site + path, "size": size, "file_name": "invoice.pdf"})
	}
	b.want("send_message", file("/moved.pdf", len(data)), 0)
	h.event(t, "seen")
	f := c.Messages()[0].Files[0]
	wantEq(t, "sum", f.SHA256, sum(data))
	wantEq(t, "type", f.MIME, "application/pdf")
	wantEq(t, "name", f.Name, "invoice.pdf")

	b.want("send_message", file("/invoice.pdf", 5), 0)
	h.event(t, "seen")
	wantEq(t, "the size was wrong", len(c.Messages()[1].Warnings), 1)

	b.want("send_message", file("/gone.pdf", 5), 0)
	wantEq(t, "what can't be downloaded fails", str(h.event(t, "failed").v["desc"]), "HTTP 404 Not Found")
}

func TestViberReachability(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{})
	h := b.connect(nil)
	c, err := b.acct.NewCustomer(simulator.CustomerSpec{FirstName: "Ann", LastName: "Example", Avatar: true, Phone: "37060012345", Language: "en", Country: "LT"})
	if err != nil {
		t.Fatal(err)
	}
	b.want("send_message", msg(c.ID(), nil), 6) // has opened nothing yet
	c.Open("site-cart-77")
	r := h.event(t, "conversation_started")
	wantEq(t, "context", str(r.v["context"]), "site-cart-77")
	wantEq(t, "subscribed", r.v["subscribed"], false)
	wantEq(t, "name", str(at(r.v, "user", "name")), "Ann Example")
	b.want("send_message", msg(c.ID(), nil), 6) // opening is not subscribing
	c.SendText("hi")
	r = h.event(t, "message")
	wantEq(t, "country", str(at(r.v, "sender", "country")), "LT")
	if !strings.HasPrefix(str(at(r.v, "sender", "avatar")), b.base) {
		t.Errorf("avatar: %v", r.v)
	}
	resp, err := http.Get(str(at(r.v, "sender", "avatar"))) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	conf, _, err := image.DecodeConfig(resp.Body)
	resp.Body.Close()
	if err != nil || conf.Width != 720 {
		t.Errorf("avatar: %v %v", conf, err)
	}
	b.want("send_message", msg(c.ID(), obj{"tracking_data": "m:918273"}), 0)
	c.SendText("and back")
	wantEq(t, "tracking comes back", str(at(h.event(t, "message").v, "message", "tracking_data")), "m:918273")
	c.Unsubscribe()
	wantEq(t, "unsubscribed", str(h.event(t, "unsubscribed").v["user_id"]), c.ID())
	b.want("send_message", msg(c.ID(), nil), 6)
	wantEq(t, "online", num(at(b.want("get_online", obj{"ids": []string{c.ID(), "x"}}, 0), "users", 0, "online_status")), int64(4))
	c.Subscribe()
	wantEq(t, "subscribed", str(at(h.event(t, "subscribed").v, "user", "id")), c.ID())
	b.want("send_message", msg(c.ID(), nil), 0)
	wantEq(t, "online", num(at(b.want("get_online", obj{"ids": []string{c.ID()}}, 0), "users", 0, "online_status")), int64(0))
	yes := true
	if err := c.Set(simulator.CustomerPatch{Unsuitable: &yes}); err != nil {
		t.Fatal(err)
	}
	b.want("send_message", msg(c.ID(), nil), 11)
	b.want("get_user_details", obj{"id": "nobody"}, 5)
	u := b.want("get_user_details", obj{"id": c.ID()}, 0)
	wantEq(t, "details", str(at(u, "user", "name")), "Ann Example")
	wantEq(t, "no phone number in it", strings.Contains(fmt.Sprint(u), "37060012345"), false)
	b.want("post", obj{}, 18)
	if n := len(b.want("get_online", obj{"ids": make([]string, 101)}, 3)); n == 0 {
		t.Error("no answer")
	}
}

func TestViberWelcome(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{})
	answers := []string{
		`{"sender":{"name":"Example Shop"},"tracking_data":"welcome","type":"text","text":"Hello!","keyboard":{"Type":"keyboard","Buttons":[{"ActionType":"reply","ActionBody":"start","Text":"Start"}]}}`,
		`{"type":"text","text":"no sender"}`, ``,
	}
	i := 0
	h := b.connect(func(_ int, r received, w http.ResponseWriter) {
		if r.v["event"] == "conversation_started" {
			fmt.Fprint(w, answers[i]) //nolint:errcheck // a test
			i++
		}
	})
	c, err := b.acct.NewCustomer(simulator.CustomerSpec{})
	if err != nil {
		t.Fatal(err)
	}
	c.Open("")
	got := c.WaitMessages(1, 10*time.Second)
	if len(got) != 1 || !got[0].Welcome || got[0].Text != "Hello!" || got[0].Sender != "Example Shop" {
		t.Fatalf("welcome: %+v", got)
	}
	if _, err := c.Press("Start"); err != nil {
		t.Fatal(err)
	}
	r := h.event(t, "message")
	wantEq(t, "press", str(at(r.v, "message", "text")), "start")
	wantEq(t, "tracking", str(at(r.v, "message", "tracking_data")), "welcome")
	c.Open("")
	eventually(t, "the bad one is refused", func() bool { return strings.HasPrefix(c.WelcomeError(), "4 missingData") })
	c.Open("")
	h.event(t, "conversation_started")
	wantEq(t, "nothing more shown", len(c.Messages()), 1)
}

func TestViberKeyboardLivesUntilTheNextMessage(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{NoReceipts: true})
	h := b.connect(nil)
	c := b.acct.Customer("")
	keyboard := obj{"Type": "keyboard", "Buttons": []obj{
		{"Columns": 6, "ActionType": "reply", "ActionBody": "cb:5", "Text": "Good", "Silent": true},
		{"Columns": 6, "ActionType": "share-phone", "ActionBody": "share_k93", "Text": "Phone"},
		{"Columns": 6, "ActionType": "location-picker", "ActionBody": "loc", "Text": "Where"},
		{"Columns": 6, "ActionType": "open-url", "ActionBody": "https://x.y/z", "Text": "Link"},
	}}
	b.want("send_message", msg(c.ID(), obj{"keyboard": keyboard, "min_api_version": 3}), 0)
	press := func(data string) obj {
		t.Helper()
		if _, err := c.Press(data); err != nil {
			t.Fatal(err)
		}
		return h.event(t, "message").v
	}
	v := press("Good")
	wantEq(t, "silent", v["silent"], true)
	wantEq(t, "body", str(at(v, "message", "text")), "cb:5")
	v = press("share_k93")
	wantEq(t, "marker", str(at(v, "message", "text")), "share_k93")
	wantEq(t, "contact", str(at(v, "message", "type")), "contact")
	wantEq(t, "location", str(at(press("Where"), "message", "type")), "location")
	wantEq(t, "url", str(at(press("Link"), "message", "text")), "https://x.y/z")
	b.want("send_message", msg(c.ID(), nil), 0)
	if _, err := c.Press(""); err == nil {
		t.Error("the keyboard is still there after a message without one")
	}
}

func TestViberBroadcast(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{})
	h := b.connect(nil)
	one, two := b.acct.Customer(""), b.acct.Customer("")
	gone := b.acct.Customer("")
	off := false
	if err := gone.Set(simulator.CustomerPatch{Started: &off}); err != nil {
		t.Fatal(err)
	}
	list := func(ids ...string) obj { return msg("", obj{"receiver": nil, "broadcast_list": ids}) }
	v := b.want("broadcast_message", list(one.ID(), gone.ID(), two.ID(), "nobody"), 0)
	wantEq(t, "failed", len(v["failed_list"].([]any)), 2)
	wantEq(t, "reason", num(at(v, "failed_list", 0, "status")), int64(6))
	wantEq(t, "reason", num(at(v, "failed_list", 1, "status")), int64(5))
	users := map[string]bool{}
	for range 2 {
		r := h.event(t, "delivered")
		wantEq(t, "one shared token", r.v["message_token"], v["message_token"])
		users[str(r.v["user_id"])] = true
	}
	wantEq(t, "both", len(users), 2)
	b.want("broadcast_message", list(), 3)
	b.want("broadcast_message", list(make([]string, 301)...), 3)
	b.want("broadcast_message", msg("", obj{"receiver": nil}), 4)
}

func TestViberInbound(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{})
	h := b.connect(nil)
	c := b.acct.Customer("")
	do := func(action string, a simulator.ViberAction) (any, simulator.Sent) {
		t.Helper()
		s, err := c.Do(action, a)
		if err != nil {
			t.Fatalf("%s: %v", action, err)
		}
		r := h.next(t)
		wantEq(t, action+" token", r.v["message_token"].(json.Number).String(), s.MessageID)
		wantEq(t, action+" signature", r.header.Get("X-Viber-Content-Signature"), signature(vbToken, r.body))
		wantEq(t, action+" sender", str(at(r.v, "sender", "id")), c.ID())
		return at(r.v, "message"), s
	}
	m, _ := do("text", simulator.ViberAction{Text: "Привіт"})
	wantEq(t, "text", str(at(m, "text")), "Привіт")
	for _, f := range []struct {
		action, kind, mime string
		a                  simulator.ViberAction
	}{
		{"picture", "picture", "image/jpeg", simulator.ViberAction{Text: "scratched here"}},
		{"video", "video", "video/mp4", simulator.ViberAction{Duration: 12, File: simulator.FileSpec{Size: 300_000}}},
		{"file", "file", "application/pdf", simulator.ViberAction{File: simulator.FileSpec{Name: "invoice 17.pdf"}}},
		{"voice", "file", "video/mp4", simulator.ViberAction{}},
		{"file", "file", "text/plain; charset=utf-8", simulator.ViberAction{File: simulator.FileSpec{Data: []byte("own bytes"), Name: "a.txt", MIME: "text/plain"}}},
	} {
		m, s := do(f.action, f.a)
		wantEq(t, "type", str(at(m, "type")), f.kind)
		wantEq(t, "caption", str(at(m, "text")), f.a.Text)
		resp, err := http.Get(str(at(m, "media"))) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		var raw bytes.Buffer
		raw.ReadFrom(resp.Body) //nolint:errcheck // compared below
		resp.Body.Close()
		wantEq(t, f.action+" sum", sum(raw.Bytes()), s.Files[0].SHA256)
		wantEq(t, f.action+" size", num(at(m, "size")), int64(raw.Len()))
		wantEq(t, f.action+" looks like", sniffed(raw.Bytes()), f.mime)
		if f.a.File.Name != "" {
			wantEq(t, "name", str(at(m, "file_name")), f.a.File.Name)
		}
	}
	m, _ = do("sticker", simulator.ViberAction{})
	wantEq(t, "number", at(m, "sticker_id"), 40133)
	m, _ = do("sticker", simulator.ViberAction{AsString: true, NoMedia: true})
	wantEq(t, "string", str(at(m, "sticker_id")), "40133")
	wantEq(t, "no media", at(m, "media"), nil)
	m, _ = do("contact", simulator.ViberAction{})
	wantEq(t, "foreign card has no marker", at(m, "text"), nil)
	m, _ = do("location", simulator.ViberAction{})
	wantEq(t, "lat", at(m, "location", "lat").(json.Number).String(), "54.687157")
	m, _ = do("url", simulator.ViberAction{Media: "https://a.b/c"})
	wantEq(t, "url", str(at(m, "media")), "https://a.b/c")
	m, _ = do("gif", simulator.ViberAction{})
	wantEq(t, "gif is a url", str(at(m, "type"))+str(at(m, "media"))[len(str(at(m, "media")))-4:], "url.gif")
	m, _ = do("unknown", simulator.ViberAction{Kind: "smell", Value: json.RawMessage(`{"of":"coffee"}`)})
	wantEq(t, "unknown", str(at(m, "type"))+str(at(m, "of")), "smellcoffee")
	m, _ = do("text", simulator.ViberAction{ChatID: "grp"})
	wantEq(t, "group", str(at(m, "chat_id")), "grp")
	if _, err := c.Do("unknown_event", simulator.ViberAction{}); err != nil {
		t.Fatal(err)
	}
	h.event(t, "client_status")
	if _, err := b.acct.Inject(`{"event":"message","odd":true}`); err != nil {
		t.Fatal(err)
	}
	r := h.next(t)
	wantEq(t, "raw", string(r.body), `{"event":"message","odd":true}`)
	if _, err := b.acct.Inject(`{`); err == nil {
		t.Error("broken JSON was taken")
	}

	// An hour later the links are dead.
	m, _ = do("picture", simulator.ViberAction{})
	if _, err := c.Do("expire_media", simulator.ViberAction{}); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(str(at(m, "media"))) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	wantEq(t, "expired", resp.StatusCode, 404)
}

func TestViberRetries(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{RetryBase: time.Millisecond, RetryMax: 5 * time.Millisecond, WebhookTimeout: 100 * time.Millisecond})
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	h := b.connect(func(n int, _ received, w http.ResponseWriter) {
		switch n {
		case 1:
			w.WriteHeader(503)
		case 2:
			w.WriteHeader(204) // only 200 counts
		case 3:
			select { // no answer
			case <-stop:
			case <-time.After(300 * time.Millisecond):
			}
		}
	})
	s := b.acct.Customer("").SendText("x")
	for range 4 {
		wantEq(t, "the same token", h.event(t, "message").v["message_token"].(json.Number).String(), s.MessageID)
	}
	eventually(t, "taken", func() bool { return b.acct.Pending() == 0 })
	cb := b.acct.Callbacks("message")
	wantEq(t, "attempts", len(cb), 4)
	wantEq(t, "number", cb[3].Attempt, 4)
	wantEq(t, "unanswered", cb[2].Status, 0)
}

func TestViberLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simulator.New(simulator.Config{RealLimits: true})
		a := sim.Viber(vbToken)
		c := a.Customer("")
		call := func(method string, body obj) obj {
			raw, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/viber/pa/"+method, bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Viber-Auth-Token", vbToken)
			rec := newRecorder()
			sim.ServeHTTP(rec, req)
			return decode(t, rec.Body.Bytes())
		}
		sim.ForTestViberWebhook(a)
		want := func(what string, v obj, status int) {
			t.Helper()
			wantEq(t, what, num(v["status"]), int64(status))
		}
		time.Sleep(time.Hour - time.Since(time.Now().Truncate(time.Hour))) // the start of a clock hour
		for range 100 {
			want("within the hour", call("send_message", msg(c.ID(), nil)), 0)
		}
		want("the 101st", call("send_message", msg(c.ID(), nil)), 12)
		c.SendText("a reply")
		want("after a reply", call("send_message", msg(c.ID(), nil)), 0)
		for range 99 {
			call("send_message", msg(c.ID(), nil))
		}
		want("the 101st again", call("send_message", msg(c.ID(), nil)), 12)
		time.Sleep(time.Hour)
		want("the next hour", call("send_message", msg(c.ID(), nil)), 0)

		want("details", call("get_user_details", obj{"id": c.ID()}), 0)
		want("details", call("get_user_details", obj{"id": c.ID()}), 0)
		want("third in 12 hours", call("get_user_details", obj{"id": c.ID()}), 12)
		time.Sleep(12*time.Hour + time.Second)
		want("after 12 hours", call("get_user_details", obj{"id": c.ID()}), 0)

		// Sessions and billing.
		time.Sleep(24 * time.Hour)
		c.SendText("opens a session")
		time.Sleep(23 * time.Hour)
		c.SendText("does not prolong it")
		v := call("send_message", msg(c.ID(), nil))
		wantEq(t, "in session", num(v["billing_status"]), int64(1))
		time.Sleep(14 * time.Hour)
		one, free := 1, "free"
		a.Set(simulator.AccountOptions{FreeMessages: &one, Billing: &free})
		sim.ForTestRefill(a)
		wantEq(t, "free", num(call("send_message", msg(c.ID(), nil))["billing_status"]), int64(2))
		want("no free ones left", call("send_message", msg(c.ID(), nil)), 23)
		poor := "no_balance"
		a.Set(simulator.AccountOptions{Billing: &poor})
		want("no balance", call("send_message", msg(c.ID(), nil)), 24)
		paid := "charged"
		a.Set(simulator.AccountOptions{Billing: &paid})
		wantEq(t, "charged", num(call("send_message", msg(c.ID(), nil))["billing_status"]), int64(3))
	})
}
