package simulator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

const okToken = "tkn18YdUJZe:CQABPOJKAKEKEKEKE"

// okGroup is a group under test.
type okGroup struct {
	t    *testing.T
	sim  *simulator.Simulator
	base string
	acct *simulator.OKAccount
}

func newOKGroup(t *testing.T, cfg simulator.Config) *okGroup {
	t.Helper()
	sim, base := simtest.StartConfig(t, cfg)
	return &okGroup{t, sim, base, sim.OK(okToken)}
}

func (g *okGroup) do(method, path, query, contentType, body string) (int, http.Header, obj) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.base+"/ok/graph/"+path+"?access_token="+url.QueryEscape(okToken)+query, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	status, header, b := send(g.t, req)
	return status, header, decode(g.t, b)
}

func (g *okGroup) get(path, query string) obj {
	g.t.Helper()
	_, _, v := g.do("GET", path, query, "", "")
	return v
}

func (g *okGroup) post(path, query, body string) obj {
	g.t.Helper()
	_, _, v := g.do("POST", path, query, "application/json;charset=utf-8", body)
	return v
}

// hook subscribes a receiver and returns what it gets.
func (g *okGroup) hook(answer func(n int) int) (address string, got chan obj) {
	g.t.Helper()
	got = make(chan obj, 100)
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}

		if status := answer(int(n.Add(1))); status != 200 {
			w.WriteHeader(status)
			return
		}
		var v obj
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if d.Decode(&v) == nil {
			got <- v
		}
	}))
	g.t.Cleanup(srv.Close)
	address = srv.URL + "/hook?secret=x"
	wantEq(g.t, "subscribe", at(g.post("me/subscribe", "", fmt.Sprintf(`{"url":%q}`, address)), "success"), true)
	return address, got
}

func good(int) int { return 200 }

func next(t *testing.T, got chan obj) obj {
	t.Helper()
	select {
	case v := <-got:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("no callback")
		return nil
	}
}

// soon waits for what follows a callback's answer.
func soon(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s", what)
		}
	}
}

func (g *okGroup) refused(what string, v obj, code int) {
	g.t.Helper()
	wantEq(g.t, what, v["error_code"], code)
	if _, ok := v["error_data"]; !ok || str(v["error_msg"]) == "" {
		g.t.Errorf("%s: %v is not the documented error", what, v)
	}
}

func TestOKCallbacks(t *testing.T) {
	t.Parallel()
	g := newOKGroup(t, simulator.Config{RetryBase: time.Millisecond})
	_, got := g.hook(func(n int) int { return map[bool]int{true: 500, false: 200}[n == 1] })
	u := g.acct.Customer("123456789012")
	u.SendText("Добрый день")
	v := next(t, got)
	wantEq(t, "kind", v["webhookType"], "MESSAGE_CREATED")
	wantEq(t, "sender", at(v, "sender", "user_id"), "user:123456789012")
	wantEq(t, "chat", at(v, "recipient", "chat_id"), u.Chat())
	wantEq(t, "text", at(v, "message", "text"), "Добрый день")
	if seq := num(at(v, "message", "seq")); seq <= 1<<53 {
		t.Errorf("seq %d is not above 2^53", seq)
	}
	soon(t, "two attempts", func() bool {
		cb := g.acct.Callbacks("MESSAGE_CREATED")
		return len(cb) == 2 && cb[0].Status == 500 && cb[1].Status == 200
	})
	for action, kind := range map[string]string{
		"photo": "IMAGE", "video": "VIDEO", "voice": "AUDIO", "document": "FILE", "sticker": "STICKER", "present": "PRESENT", "contact": "CONTACT",
		"location": "LOCATION", "share": "SHARE", "music": "MUSIC", "call": "CALL", "unknown": "HOLOGRAM",
	} {
		sent, err := u.Do(action, simulator.OKAction{})
		if err != nil {
			t.Fatal(action, err)
		}
		v := next(t, got)
		wantEq(t, action, at(v, "message", "attachments", 0, "type"), kind)
		wantEq(t, action+"'s id", at(v, "message", "mid"), sent.MessageID)
		if len(sent.Files) == 1 {
			req, _ := http.NewRequestWithContext(t.Context(), "GET", str(at(v, "message", "attachments", 0, "payload", "url")), nil)
			if status, _, b := send(t, req); status != 200 || int64(len(b)) != sent.Files[0].Size {
				t.Errorf("%s: %d, %d bytes", action, status, len(b))
			}
		}
	}
	if _, err := u.Do("album", simulator.OKAction{Count: 5, Text: "five"}); err != nil {
		t.Fatal(err)
	}
	if n := len(at(next(t, got), "message", "attachments").([]any)); n != 5 {
		t.Errorf("album of %d", n)
	}
	for _, bad := range []func() error{
		func() error { _, err := u.Do("album", simulator.OKAction{Count: 6}); return err },
		func() error { _, err := u.Do("dance", simulator.OKAction{}); return err },
		func() error { _, err := u.Press(""); return err },
		func() error { _, err := g.acct.NewCustomer(simulator.CustomerSpec{ID: "ann"}); return err },
		func() error { _, err := g.acct.NewCustomer(simulator.CustomerSpec{ID: "123456789012"}); return err },
	} {
		if bad() == nil {
			t.Error("nonsense is taken")
		}
	}
	if _, err := u.Do("start", simulator.OKAction{Payload: "campaign-17"}); err != nil {
		t.Fatal(err)
	}
	v = next(t, got)
	wantEq(t, "start", v["type"], "CHAT_STARTED")
	wantEq(t, "payload", v["payload"], "campaign-17")
	if _, err := u.Do("text", simulator.OKAction{Text: "old", Old: true}); err != nil {
		t.Fatal(err)
	}
	if v := next(t, got); v["webhookType"] != nil || at(v, "sender", "name") != nil {
		t.Errorf("old callback: %v", v)
	}
	soon(t, "nothing pending", func() bool { return g.acct.Pending() == 0 })
}

func TestOKSubscriptions(t *testing.T) {
	t.Parallel()
	g := newOKGroup(t, simulator.Config{})
	wantEq(t, "info", at(g.get("me/info", ""), "name"), "Support group")
	first, one := g.hook(good)
	_, two := g.hook(good)
	u := g.acct.Customer("")
	u.SendText("both")
	next(t, one)
	next(t, two)
	if list := at(g.get("me/subscriptions", ""), "subscriptions").([]any); len(list) != 2 || at(list[0], "url") != first {
		t.Errorf("subscriptions: %v", list)
	}
	wantEq(t, "unsubscribe", at(g.post("me/unsubscribe", "", fmt.Sprintf(`{"url":%q}`, first)), "success"), true)
	wantEq(t, "again", at(g.post("me/unsubscribe", "", fmt.Sprintf(`{"url":%q}`, first)), "success"), false)
	u.SendText("one")
	next(t, two)
	g.acct.Forget()
	if !u.SendText("nobody").Dropped || len(g.acct.Subscriptions()) != 0 || len(one) != 0 {
		t.Error("a forgotten subscription is served")
	}
	wantEq(t, "only presses", at(g.post("me/subscribe", "", `{"url":"http://127.0.0.1:1/","types":["MESSAGE_CALLBACK"]}`), "success"), true)
	if !u.SendText("nobody").Dropped {
		t.Error("an event that was not asked for is sent")
	}
	g.refused("type", g.post("me/subscribe", "", `{"url":"http://127.0.0.1:1/","types":["X"]}`), 100)
	g.refused("address", g.post("me/subscribe", "", `{"url":"nowhere"}`), 100)
	// What was missed is in the history, newest first.
	chats := at(g.get("me/chats", "&count=1"), "chats").([]any)
	wantEq(t, "chat", at(chats[0], "chat_id"), u.Chat())
	past := at(g.get("me/messages/"+u.Chat(), "&count=2"), "messages").([]any)
	if len(past) != 2 || at(past[0], "message", "text") != "nobody" || at(past[1], "message", "text") != "nobody" {
		t.Errorf("history: %v", past)
	}
	g.refused("from before to", g.get("me/messages/"+u.Chat(), "&from=1&to=2"), 100)
	g.refused("updates", g.get("me/updates", ""), 5000)
}

func TestOKSends(t *testing.T) {
	t.Parallel()
	g := newOKGroup(t, simulator.Config{})
	_, got := g.hook(good)
	u := g.acct.Customer("")
	to := `{"recipient":{"chat_id":"` + u.Chat() + `"},"message":`
	const path = "me/messages"
	v := g.post(path+"/"+u.Chat(), "", to+`{"text":"Здравствуйте!","reply_to":"mid:C1.1"}}`)
	if !strings.HasPrefix(str(v["message_id"]), "mid:"+strings.TrimPrefix(u.Chat(), "chat:")+".") {
		t.Errorf("answer: %v", v)
	}
	g.post(u.Chat()+"/messages", "", to+`{"text":"other path"}}`)
	g.post(path, "", `{"recipient":{"user_id":"`+strings.TrimPrefix(u.ID(), "user:")+`"},"message":{"text":"by user"}}`)
	if m := u.Messages(); len(m) != 3 || m[0].Text != "Здравствуйте!" || m[0].ReplyTo != "mid:C1.1" || m[2].Text != "by user" {
		t.Errorf("the customer sees %+v", m)
	}
	keys := `{"type":"INLINE_KEYBOARD","payload":{"keyboard":{"buttons":[[{"type":"CALLBACK","text":"Yes","intent":"POSITIVE","payload":"y"},{"type":"LINK","text":"Site","url":"https://shop.example.com/"}],[{"type":"REQUEST_CONTACT","text":"Phone"}]]}}}`
	mid := g.post(path, "", to+`{"text":"choose","attachments":[`+keys+`]}}`)["message_id"]
	pressed, err := u.Press("Yes")
	if err != nil {
		t.Fatal(err)
	}
	press := next(t, got)
	wantEq(t, "press", press["payload"], "y")
	wantEq(t, "pressed", press["mid"], mid)
	wantEq(t, "callback", press["callbackId"], pressed.MessageID)
	wantEq(t, "answer", at(g.post(u.Chat()+"/answer", "&callbackId="+pressed.MessageID, `{"message":{"text":"Thanks"}}`), "success"), true)
	if m := u.Messages()[3]; m.Text != "Thanks" || len(m.Buttons) != 0 || m.EditedAt == nil {
		t.Errorf("after the answer: %+v", m)
	}
	if _, err := u.Press("Phone"); err == nil {
		t.Error("a button that was taken away is pressed")
	}
	wantEq(t, "action", at(g.post(u.Chat()+"/action", "", `{"action":"MARK_SEEN"}`), "success"), true)

	stranger, err := g.acct.NewCustomer(simulator.CustomerSpec{})
	if err != nil {
		t.Fatal(err)
	}
	blocked := g.acct.Customer("77")
	yes := true
	if err := blocked.Set(simulator.CustomerPatch{Blocked: &yes}); err != nil {
		t.Fatal(err)
	}
	bulk := g.post(path, "", `{"recipient":{"user_ids":["`+u.ID()+`","77","404"]},"message":{"text":"sale"}}`)
	if s := at(bulk, "success").([]any); len(s) != 3 || s[0] != true || s[1] != false || s[2] != false || at(bulk, "chat_ids", 0) != u.Chat() {
		t.Errorf("bulk: %v", bulk)
	}
	for what, row := range map[string]struct {
		body string
		code int
	}{
		"nobody":          {`{"message":{"text":"x"}}`, 100},
		"unknown chat":    {`{"recipient":{"chat_id":"chat:X"},"message":{"text":"x"}}`, 100},
		"blocked":         {`{"recipient":{"user_id":"user:77"},"message":{"text":"x"}}`, 7},
		"never wrote":     {`{"recipient":{"user_id":"` + stranger.ID() + `"},"message":{"text":"x"}}`, 10},
		"empty":           {to + `{}}`, 100},
		"no text":         {to + `{"attachments":[` + keys + `]}}`, 100},
		"no JSON":         {`x`, 4},
		"unknown token":   {to + `{"text":"x","attachments":[{"type":"FILE","payload":{"token":"no"}}]}}`, 100},
		"no type":         {to + `{"text":"x","attachments":[{"payload":{"token":"no"}}]}}`, 100},
		"two by url":      {to + `{"text":"x","attachments":[{"type":"IMAGE","payload":{"url":"http://a/b"}},{"type":"IMAGE","payload":{"url":"http://a/b"}}]}}`, 100},
		"six":             {to + `{"text":"x","attachments":[` + strings.TrimSuffix(strings.Repeat(`{"type":"SHARE","payload":{"url":"http://a/"}},`, 6), ",") + `]}}`, 100},
		"button no data":  {to + `{"text":"x","attachments":[{"type":"INLINE_KEYBOARD","payload":{"keyboard":{"buttons":[[{"type":"CALLBACK","text":"x"}]]}}}]}}`, 100},
		"button no url":   {to + `{"text":"x","attachments":[{"type":"INLINE_KEYBOARD","payload":{"keyboard":{"buttons":[[{"type":"LINK","text":"x"}]]}}}]}}`, 100},
		"button no type":  {to + `{"text":"x","attachments":[{"type":"INLINE_KEYBOARD","payload":{"keyboard":{"buttons":[[{"text":"x","payload":"x"}]]}}}]}}`, 100},
		"reply to no mid": {to + `{"text":"x","reply_to":"1"}}`, 100},
	} {
		g.refused(what, g.post(path, "", row.body), row.code)
	}
	status, header, v := g.do("POST", path, "", "application/json", to+`{"text":"x"}}`)
	g.refused("content type", v, 4)
	if status != 200 || header.Get("invocation-error") != "4" {
		t.Errorf("an error is HTTP %d with header %q", status, header.Get("invocation-error"))
	}
	g.refused("method", g.post("me/dance", "", `{}`), 3)
	revoked := true
	g.acct.Set(simulator.AccountOptions{Revoked: &revoked})
	g.refused("revoked", g.get("me/info", ""), 102)
	req, _ := http.NewRequestWithContext(t.Context(), "GET", g.base+"/ok/graph/me/info?access_token=xxxx:yyyy", nil)
	_, _, b := send(t, req)
	g.refused("unknown group", decode(t, b), 103)
	for _, r := range g.acct.Requests("") {
		if strings.Contains(fmt.Sprintf("%+v %s", r, r.Body), okToken) {
			t.Fatalf("a record holds the token: %+v", r)
		}
	}
}

// form is a multipart body of one part.
func form(t *testing.T, field, name, kind string, b []byte) (contentType string, body *bytes.Buffer) {
	t.Helper()
	body = &bytes.Buffer{}
	w := multipart.NewWriter(body)
	p, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name=%q; filename=%q`, field, name)}, "Content-Type": {kind}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), body
}

func TestOKUploads(t *testing.T) {
	t.Parallel()
	g := newOKGroup(t, simulator.Config{})
	u := g.acct.Customer("")
	upload := func(address, contentType string, body io.Reader) (int, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", address, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		status, _, b := send(t, req)
		return status, b
	}
	jpeg := []byte("\xff\xd8\xff\xe0 a picture, to a sniffer")
	sendToken := func(kind, token string) obj {
		return g.post("me/messages", "", fmt.Sprintf(`{"recipient":{"chat_id":%q},"message":{"text":"x","attachments":[{"type":%q,"payload":{"token":%q}}]}}`, u.Chat(), kind, token))
	}
	slot := g.get("me/fileUploadUrl", "&type=IMAGE")
	if str(slot["file_id"]) == "" {
		t.Errorf("slot: %v", slot)
	}
	kind, body := form(t, "file", "a.jpg", "image/jpeg", jpeg)
	_, b := upload(str(slot["url"]), kind, body)
	token := str(at(decode(t, b), "photos", str(slot["file_id"]), "token"))
	if v := sendToken("IMAGE", token); v["message_id"] == nil {
		t.Errorf("picture: %v", v)
	}
	g.refused("a picture as a file", sendToken("FILE", token), 100)
	g.refused("the slot's token of a picture", sendToken("IMAGE", str(slot["token"])), 100)

	slot = g.get("me/fileUploadUrl", "&type=FILE")
	if v := sendToken("FILE", str(slot["token"])); !strings.Contains(str(v["error_msg"]), "not ready") {
		t.Errorf("before the upload: %v", v)
	}
	kind, body = form(t, "file", "договор.pdf", "application/pdf", []byte("%PDF-1.4 ..."))
	if status, b := upload(str(slot["url"]), kind, body); status != 200 || len(b) != 0 {
		t.Errorf("upload: %d %s", status, b)
	}
	for range 2 { // a token can be used again
		if v := sendToken("FILE", str(slot["token"])); v["message_id"] == nil {
			t.Errorf("file: %v", v)
		}
	}
	if m := u.Messages(); len(m) != 3 || m[2].Kind != "file" || len(m[2].Files) != 1 || m[2].Files[0].Name != "договор.pdf" || m[2].Files[0].Size != 12 {
		t.Errorf("the customer sees %+v", m)
	}
	g.refused("type", g.get("me/fileUploadUrl", "&type=MUSIC"), 100)
	for what, row := range map[string]struct {
		slot, field, name, kind string
		body                    string
		code                    int
	}{
		"other field":    {"FILE", "photo", "a", "text/plain", "x", 21},
		"no name":        {"FILE", "file", "", "text/plain", "x", 21},
		"empty":          {"FILE", "file", "a", "text/plain", "", 100},
		"no picture":     {"IMAGE", "file", "a.jpg", "image/jpeg", "text", 100},
		"wrong type":     {"IMAGE", "file", "a.jpg", "application/octet-stream", string(jpeg), 100},
		"wrong audio":    {"AUDIO", "file", "a.mp3", "application/octet-stream", "x", 100},
		"not a form":     {"FILE", "", "", "", "x", 21},
		"used slot once": {"FILE", "file", "a", "text/plain", "x", 0},
	} {
		slot := g.get("me/fileUploadUrl", "&type="+row.slot)
		kind, body := "text/plain", bytes.NewBufferString(row.body)
		if row.field != "" {
			kind, body = form(t, row.field, row.name, row.kind, []byte(row.body))
		}
		_, b := upload(str(slot["url"]), kind, body)
		if row.code != 0 {
			g.refused(what, decode(t, b), row.code)
			continue
		}
		kind, body = form(t, row.field, row.name, row.kind, []byte(row.body))
		_, b = upload(str(slot["url"]), kind, body)
		g.refused(what, decode(t, b), 4)
	}
}

func TestOKFaults(t *testing.T) {
	t.Parallel()
	g := newOKGroup(t, simulator.Config{})
	u := g.acct.Customer("")
	body := `{"recipient":{"chat_id":"` + u.Chat() + `"},"message":{"text":"x"}}`
	for _, row := range []struct {
		fault  simulator.Fault
		status int
		code   int
	}{
		{simulator.Fault{Kind: simulator.FaultError, Code: 8}, 200, 8},
		{simulator.Fault{Kind: simulator.FaultError}, 500, 1},
		{simulator.Fault{Kind: simulator.FaultThrottle, Code: 11}, 200, 11},
		{simulator.Fault{Kind: simulator.FaultUnauthorized}, 200, 102},
		{simulator.Fault{Kind: simulator.FaultForbidden}, 200, 10},
		{simulator.Fault{Kind: simulator.FaultBlocked, Customer: u.ID()}, 200, 7},
	} {
		row.fault.Count, row.fault.Method = 1, "me/messages"
		if _, err := g.sim.Fault(row.fault); err != nil {
			t.Fatal(err)
		}
		status, _, v := g.do("POST", "me/messages", "", "application/json;charset=utf-8", body)
		wantEq(t, row.fault.Kind, status, row.status)
		g.refused(row.fault.Kind, v, row.code)
	}
	if _, err := g.sim.Fault(simulator.Fault{Kind: simulator.FaultThrottle, RetryAfter: 3, Count: 1}); err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", g.base+"/ok/graph/me/info?access_token="+okToken, nil)
	if status, header, _ := send(t, req); status != 429 || header.Get("Retry-After") != "3" {
		t.Errorf("%d after %q", status, header.Get("Retry-After"))
	}
	if len(u.Messages()) != 0 {
		t.Error("a faulty call was accepted")
	}
	// Delivered twice, and out of order.
	_, got := g.hook(good)
	for _, kind := range []string{simulator.FaultDuplicate, simulator.FaultReorder} {
		if _, err := g.sim.Fault(simulator.Fault{Kind: kind, Count: 1, Method: "MESSAGE_CREATED"}); err != nil {
			t.Fatal(err)
		}
	}
	u.SendText("a")
	if a, b := next(t, got), next(t, got); str(at(a, "message", "mid")) != str(at(b, "message", "mid")) {
		t.Errorf("not twice: %v %v", a, b)
	}
	u.SendText("b")
	u.SendText("c")
	if first, second := next(t, got), next(t, got); at(first, "message", "text") != "c" || at(second, "message", "text") != "b" {
		t.Errorf("in order: %v %v", first, second)
	}
}

func TestOKLoadAndDemo(t *testing.T) {
	t.Parallel()
	g := newOKGroup(t, simulator.Config{Demo: &simulator.Demo{Customers: 2, Pace: 100, PerMinute: 10_000}})
	_, got := g.hook(good)
	next(t, got) // a demo customer
	id, err := g.sim.StartLoad(simulator.LoadSpec{Platform: "ok", Account: okToken, Customers: 3, Rate: 1000, Count: 30})
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second)
	for {
		if r := g.sim.Report()[0]; r.ID == id && r.Acked == 30 {
			return
		}
		select {
		case <-got:
		case <-deadline:
			t.Fatalf("%+v", g.sim.Report())
		}
	}
}
