package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"switchboard"
	"switchboard/config"
	"switchboard/internal/dbtest"
	"switchboard/internal/secret"
	"switchboard/message"
	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

const mfmsToken = "acme:s3cret of MFMS"

// mfmsAccount adds an account, and tells the simulator the address to call as a
// person tells MFMS.
func mfmsAccount(w *world) (string, *simulator.MFMSAccount) {
	w.t.Helper()
	return mfmsAccountBy(w, "json", "/mfms")
}

// mfmsAccountBy adds one of a dialect, whose connector is at path.
func mfmsAccountBy(w *world, dialect, path string) (string, *simulator.MFMSAccount) {
	w.t.Helper()
	acct := w.sim.MFMS(mfmsToken)
	login, password, _ := strings.Cut(mfmsToken, ":")
	a, err := w.sys.admin.AddAccount(w.t.Context(), "test", "mfms", "Test mfms", map[string]string{
		"login": login, "password": password, "sender": "ACME_WA", "webhook_user": "switchboard", "webhook_password": "s3cret-pass",
		"dialect": dialect, "api_base": w.base + path, "rate": "0",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.sys.admin.CheckAccount(w.t.Context(), "test", a.ID); err != nil {
		w.t.Fatal(err)
	}
	acct.SetWebhook(strings.Replace(w.http, "http://", "http://switchboard:s3cret-pass@", 1) + "/webhooks/mfms/" + a.ID)
	return a.ID, acct
}

func mfmsDo(action string, a simulator.MFMSAction) func(*simulator.MFMSCustomer) (simulator.Sent, error) {
	return func(c *simulator.MFMSCustomer) (simulator.Sent, error) { return c.Do(action, a) }
}

// Everything that a customer can do reaches the operators, files fetched, and
// everybody who writes is in the phone book.
func TestMFMSInbound(t *testing.T) {
	t.Parallel()
	w := start(t)
	_, acct := mfmsAccount(w)
	in := lookOn(w)
	type a = simulator.MFMSAction
	type steps = []func(*simulator.MFMSCustomer) (simulator.Sent, error)
	contents := func(c ...message.Content) []message.Content { return c }
	keys := map[string]any{"kind": "text", "text": "well?", "keyboard": map[string]any{"kind": "inline", "rows": []any{[]any{
		map[string]any{"text": "Good", "payload": "csat:5"}, map[string]any{"text": "Bad"}}}}}
	hologram := unsupported("hologram")
	hologram.Text = "seen?"
	cases := []inboundCase[*simulator.MFMSCustomer]{
		{name: "text", do: steps{mfmsDo("text", a{Text: "Добрый день 👩🏽‍💻 שלום"})}, want: contents(text("Добрый день 👩🏽‍💻 שלום"))},
		{name: "list", do: steps{mfmsDo("text", a{Text: "one", List: true}), mfmsDo("text", a{Text: "two", Pulse: true})}, want: contents(text("one"), text("two"))},
		{name: "picture", do: steps{mfmsDo("photo", a{Text: "scratched here"})}, want: contents(file(message.KindImage, "scratched here", message.File{Name: "image.jpg", Mime: "image/jpeg"}))},
		{name: "picture, newer form", do: steps{mfmsDo("photo", a{Text: "see", Pulse: true})}, want: contents(file(message.KindImage, "see", message.File{Name: "image.jpg", Mime: "image/jpeg"}))},
		{name: "video", do: steps{mfmsDo("video", a{Text: "how it works"})}, want: contents(file(message.KindVideo, "how it works", message.File{Name: "video.mp4", Mime: "video/mp4"}))},
		{name: "audio", do: steps{mfmsDo("audio", a{})}, want: contents(file(message.KindAudio, "", message.File{Name: "audio.mp3", Mime: "audio/mpeg"}))},
		{name: "voice", do: steps{mfmsDo("voice", a{})}, want: contents(file(message.KindVoice, "", message.File{Name: "voice.ogg", Mime: "audio/ogg"}))},
		{name: "sticker", do: steps{mfmsDo("sticker", a{})}, want: contents(file(message.KindSticker, "", message.File{Name: "sticker.webp", Mime: "image/webp"}))},
		{name: "document", do: steps{mfmsDo("document", a{File: simulator.FileSpec{Name: "договор.pdf"}})}, want: contents(file(message.KindDocument, "", message.File{Name: "договор.pdf", Mime: "application/pdf"}))},
		{name: "location", do: steps{mfmsDo("location", a{})}, want: contents(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 55.751244, Lon: 37.618423}})},
		{name: "contact", do: steps{mfmsDo("contact", a{Name: "Boris", Phone: "79990001122"})}, nobody: "+79990001122",
			want: contents(message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: "Boris", Phone: "+79990001122"}})},
		{name: "kind of the future", do: steps{mfmsDo("unknown", a{Text: "seen?"})}, want: contents(hologram)},
		{name: "button", ours: keys, reply: 2, do: steps{mfmsDo("press", a{Data: "Good"})}, want: contents(message.Content{Kind: message.KindButton, Button: &message.Button{Payload: "csat:5", Text: "Good"}})},
		{name: "button without payload", ours: keys, reply: 2, do: steps{mfmsDo("press", a{Data: "Bad"})}, want: contents(message.Content{Kind: message.KindButton, Button: &message.Button{Payload: "Bad", Text: "Bad"}})},
		{name: "reply", ours: map[string]any{"kind": "text", "text": "which one?"}, reply: 2, want: contents(text("this")), do: steps{
			func(c *simulator.MFMSCustomer) (simulator.Sent, error) {
				return c.Do("reply", a{Text: "this", ReplyTo: c.Messages()[0].ID})
			}}},
	}
	for i := range cases {
		cases[i].spec.ID = "7926000" + string([]byte{'0', '1', byte('0' + i/10), byte('0' + i%10)})
		cases[i].phone = "+" + cases[i].spec.ID
	}
	runInbound(t, in, acct.NewCustomer, cases)
	checkCallbacks(t, acct)
}

// mfmsDesk is a system with an account of MFMS and an operator who talks to a customer.
type mfmsDesk struct {
	*inbound
	t       *testing.T
	account string
	acct    *simulator.MFMSAccount
	who     *simulator.MFMSCustomer
	chat    string
}

func newMFMSDesk(t *testing.T) *mfmsDesk {
	t.Helper()
	w := start(t)
	return mfmsDeskOf(w, mfmsAccount)
}

// newHPXDesk is one whose account speaks XML.
func newHPXDesk(t *testing.T) *mfmsDesk {
	t.Helper()
	w := start(t)
	return mfmsDeskOf(w, hpxAccount)
}

func hpxAccount(w *world) (string, *simulator.MFMSAccount) {
	w.t.Helper()
	return mfmsAccountBy(w, "hpx", "/mfms/acme/connector0/service")
}

func mfmsDeskOf(w *world, account func(*world) (string, *simulator.MFMSAccount)) *mfmsDesk {
	w.t.Helper()
	d := &mfmsDesk{t: w.t}
	d.account, d.acct = account(w)
	d.inbound = lookOn(w)
	d.who = d.acct.Customer("79261234567")
	d.who.SendText("hello")
	d.chat = d.op.message("hello", func(m *message.Message) bool { return m.Text == "hello" }).ChatID
	d.op.call("chat.accept", map[string]any{"chat_id": d.chat}, nil)
	return d
}

// sends are the messages that MFMS took, oldest first.
func (d *mfmsDesk) sends() []simulator.Request {
	return slices.DeleteFunc(d.acct.Requests(""), func(r simulator.Request) bool { return r.HTTPMethod != http.MethodPost })
}

// Everything that an operator sends reaches MFMS as its documents ask for it, and
// is reported as read.
func TestMFMSOutbound(t *testing.T) {
	t.Parallel()
	d := newMFMSDesk(t)
	d.acct.SetTemplates("Order {{1}} is ready.")
	type object = map[string]any
	ids := map[string]string{}
	for _, name := range []string{"cat.jpg", "cat.png", "hi.webp", "clip.mp4", "bill.pdf", "song.mp3", "say.ogg"} {
		ids[name] = d.upload(d.token, name, fileBytes(t, name))
	}
	keyboard := object{"kind": "inline", "rows": [][]object{{{"text": "Yes", "payload": "y"}, {"text": "No"}}}}
	const keys = `,"keyboard":{"rows":[{"buttons":[{"type":"QUICK_REPLY","text":"Yes","payload":"y"},{"type":"QUICK_REPLY","text":"No","payload":"No"}]}]}`
	long := strings.Repeat("я", 4097)
	for _, c := range []struct {
		name   string
		params object
		files  []string
		want   []string // without the common fields; LINK stands for our address of a file
	}{
		{"text", object{"kind": "text", "text": "Price < 5 & \"more\" 😀"}, nil, []string{`{"contentType":"text","text":"Price < 5 & \"more\" 😀"}`}},
		{"long text", object{"kind": "text", "text": long}, nil, []string{`{"contentType":"text","text":"` + long[:8192] + `"}`, `{"contentType":"text","text":"я"}`}},
		{"buttons", object{"kind": "text", "text": "Well?", "keyboard": keyboard}, nil, []string{`{"contentType":"text","text":"Well?"` + keys + `}`}},
		{"picture", object{"kind": "image", "text": "look"}, []string{"cat.jpg"}, []string{`{"contentType":"image","attachmentUrl":"LINK","attachmentName":"cat.jpg","caption":"look"}`}},
		{"picture with buttons", object{"kind": "image", "text": "this?", "keyboard": keyboard}, []string{"cat.png"},
			[]string{`{"contentType":"image","attachmentUrl":"LINK","attachmentName":"cat.png","caption":"this?"` + keys + `}`}},
		{"two pictures", object{"kind": "image", "text": "both"}, []string{"cat.jpg", "cat.png"},
			[]string{`{"contentType":"image","attachmentUrl":"LINK","attachmentName":"cat.jpg","caption":"both"}`, `{"contentType":"image","attachmentUrl":"LINK","attachmentName":"cat.png"}`}},
		{"picture of another format", object{"kind": "image"}, []string{"hi.webp"}, []string{`{"contentType":"document","attachmentUrl":"LINK","attachmentName":"hi.webp"}`}},
		{"video", object{"kind": "video", "text": "how"}, []string{"clip.mp4"}, []string{`{"contentType":"video","attachmentUrl":"LINK","attachmentName":"clip.mp4","caption":"how"}`}},
		{"document", object{"kind": "document", "text": "your bill"}, []string{"bill.pdf"}, []string{`{"contentType":"document","attachmentUrl":"LINK","attachmentName":"bill.pdf","caption":"your bill"}`}},
		{"audio", object{"kind": "audio", "text": "listen"}, []string{"song.mp3"}, []string{`{"contentType":"audio","attachmentUrl":"LINK","attachmentName":"song.mp3"}`, `{"contentType":"text","text":"listen"}`}},
		{"voice", object{"kind": "voice"}, []string{"say.ogg"}, []string{`{"contentType":"audio","attachmentUrl":"LINK","attachmentName":"say.ogg"}`}},
		{"location", object{"kind": "location", "location": object{"lat": 55.75, "lon": 37.61, "title": "Shop"}}, nil, []string{`{"contentType":"location","latitude":55.75,"longitude":37.61,"locationAddress":"Shop"}`}},
		{"template", object{"kind": "template", "text": "Order {{1}} is ready.", "template": object{"name": "ready", "language": "en", "parameters": []string{"№ 5"}}}, nil,
			[]string{`{"contentType":"text","text":"Order № 5 is ready."}`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(d.sends())
			c.params["chat_id"], c.params["client_id"] = d.chat, c.name
			var files []string
			for _, name := range c.files {
				files = append(files, ids[name])
			}
			if files != nil {
				c.params["files"] = files
			}
			sent := d.op.send(c.params)
			requests := d.sends()[before:]
			if len(requests) != len(c.want) {
				t.Fatalf("%d messages, want %d", len(requests), len(c.want))
			}
			seen := map[string]bool{}
			for i, r := range requests {
				var body object
				if err := json.Unmarshal(r.Body, &body); err != nil {
					t.Fatal(err)
				}
				id, _ := body["id"].(string)
				validity, _ := body["validityPeriodSeconds"].(float64)
				if len(id) != 36 || seen[id] || body["subject"] != "ACME_WA" || body["address"] != "79261234567" || body["comment"] != sent.ID ||
					body["priority"] != "normal" || !(validity > 86300 && validity <= 86400) || r.Code != 0 {
					t.Errorf("request = %s", r.Body)
				}
				if want := map[bool]string{false: "imOutMessage", true: "imOutHSM"}[c.name == "template"]; r.Method != want {
					t.Errorf("sent by %s, want %s", r.Method, want)
				}
				seen[id] = true
				for _, common := range []string{"id", "subject", "address", "comment", "priority", "validityPeriodSeconds"} {
					delete(body, common)
				}
				if link, _ := body["attachmentUrl"].(string); strings.HasPrefix(link, d.http+"/files/") {
					body["attachmentUrl"] = "LINK"
				}
				got, err := json.Marshal(body)
				if err != nil {
					t.Fatal(err)
				}
				if !sameJSON(t, "m "+string(got), "m "+c.want[i]) {
					t.Errorf("got  %s\nwant %s", got, c.want[i])
				}
			}
			read := d.op.message("read "+c.name, func(m *message.Message) bool { return m.ID == sent.ID && m.Status == message.StatusRead })
			if read.PlatformMessageID == nil || !seen[*read.PlatformMessageID] {
				t.Errorf("message = %s", asJSON(read))
			}
		})
	}
	polled(t, "fetched files", patience, func() bool {
		return !slices.ContainsFunc(d.who.Messages(), func(m simulator.Message) bool {
			return strings.Contains(string(m.Raw), "attachmentUrl") && len(m.Files) == 0
		})
	})
	for _, m := range d.who.Messages() {
		if len(m.Warnings) > 0 {
			t.Errorf("%s is doubtful: %v", m.ID, m.Warnings)
		}
		for _, f := range m.Files {
			if want := fileBytes(t, f.Name); f.Error != "" || f.Size != int64(len(want)) {
				t.Errorf("file = %+v, want %d bytes", f, len(want))
			}
		}
	}

	t.Run("the customer can't be written to", func(t *testing.T) {
		if _, err := d.who.Do("block", simulator.MFMSAction{}); err != nil {
			t.Fatal(err)
		}
		var r struct{ Message message.Message }
		d.op.call("message.send", map[string]any{"chat_id": d.chat, "client_id": "blocked", "kind": "text", "text": "hello?"}, &r)
		failed := d.op.message("failure", func(m *message.Message) bool { return m.ID == r.Message.ID && m.Status == message.StatusFailed })
		if failed.Error == nil || failed.Error.Kind != message.ErrRecipient || failed.Error.Code != "user-blocked" {
			t.Errorf("error = %+v", failed.Error)
		}
		polled(t, "unreachable customer", patience, func() bool {
			var chat switchboard.Chat
			d.rest("GET", "/api/v1/chats/"+d.chat, d.token, nil, 200, &chat)
			return !chat.Customer.Reachable
		})
	})
}

// What MFMS does not offer is refused at once, with the name of what is missing.
func TestMFMSRefuses(t *testing.T) {
	t.Parallel()
	d := newMFMSDesk(t)
	type object = map[string]any
	sticker := d.upload(d.token, "hi.webp", fileBytes(t, "hi.webp"))
	button := object{"text": "Yes", "payload": "y"}
	inline := func(b ...object) object { return object{"kind": "inline", "rows": [][]object{b}} }
	ours := d.op.send(object{"chat_id": d.chat, "client_id": "ours", "kind": "text", "text": "ours"})
	before := len(d.sends())
	for name, c := range map[string]struct {
		params object
		code   int
	}{
		"reply keyboard":      {object{"kind": "text", "text": "x", "keyboard": object{"kind": "reply", "rows": [][]object{{button}}}}, 1003},
		"removed keyboard":    {object{"kind": "text", "text": "x", "keyboard": object{"kind": "remove"}}, 1003},
		"phone button":        {object{"kind": "text", "text": "x", "keyboard": inline(object{"text": "x", "action": "phone"})}, 1003},
		"place button":        {object{"kind": "text", "text": "x", "keyboard": inline(object{"text": "x", "action": "location"})}, 1003},
		"link":                {object{"kind": "text", "text": "x", "keyboard": inline(object{"text": "x", "action": "url", "url": "https://shop.example.com"})}, 1003},
		"sticker":             {object{"kind": "sticker", "files": []string{sticker}}, 1003},
		"contact":             {object{"kind": "contact", "contact": object{"name": "Service", "phone": "+78000000000"}}, 1003},
		"quote":               {object{"kind": "text", "text": "x", "reply_to": ours.ID}, 1003},
		"four buttons":        {object{"kind": "text", "text": "x", "keyboard": inline(button, button, button, button)}, 1004},
		"long title":          {object{"kind": "text", "text": "x", "keyboard": inline(object{"text": strings.Repeat("я", 21)})}, 1004},
		"long payload":        {object{"kind": "text", "text": "x", "keyboard": inline(object{"text": "x", "payload": strings.Repeat("я", 257)})}, 1004},
		"more than ten texts": {object{"kind": "text", "text": strings.Repeat("я", 40_961)}, 1004},
		"long template":       {object{"kind": "template", "text": strings.Repeat("я", 1025), "template": object{"name": "x", "language": "ru"}}, 1004},
	} {
		c.params["chat_id"], c.params["client_id"] = d.chat, name
		if err := d.op.try("message.send", c.params, nil); err == nil || err.Code != c.code || err.Data.Detail == "" {
			t.Errorf("%s: %v, want %d", name, err, c.code)
		}
	}
	for method, params := range map[string]object{
		"message.edit":   {"message_id": ours.ID, "text": "x"},
		"message.delete": {"message_id": ours.ID},
	} {
		if err := d.op.try(method, params, nil); err == nil || err.Code != 1003 {
			t.Errorf("%s: %v, want 1003", method, err)
		}
	}
	if err := d.op.try("chat.start", object{"account_id": d.account, "external_id": "+79261234567"}, nil); err == nil {
		t.Error("a chat is started with what is no address of MFMS")
	}
	if n := len(d.sends()) - before; n != 0 {
		t.Errorf("%d messages went out", n)
	}
	var caps message.Capabilities
	d.rest("GET", "/api/v1/accounts/"+d.account+"/capabilities", d.token, nil, 200, &caps)
	if caps.ReplyKeyboard || caps.Edit || caps.Delete || caps.OperatorAvatar || caps.RequestPhone || caps.Forward || caps.ReplyTo ||
		!caps.InlineKeyboard || !caps.StartByPhone || !caps.Delivered || !caps.Read || !slices.Contains(caps.Send, message.KindTemplate) {
		t.Errorf("capabilities = %+v", caps)
	}
}

// An operator begins by a phone: of one who wrote, of one who never did, and of
// one who has no WhatsApp.
func TestMFMSStart(t *testing.T) {
	t.Parallel()
	d := newMFMSDesk(t)
	start := func(params map[string]any) switchboard.Chat {
		t.Helper()
		var started struct{ Chat switchboard.Chat }
		params["account_id"] = d.account
		d.op.call("chat.start", params, &started)
		return started.Chat
	}
	if chat := start(map[string]any{"phone": "+7 926 123-45-67"}); chat.ID != d.chat {
		t.Errorf("another chat with the customer who wrote: %s", asJSON(chat))
	}
	friend := d.acct.Customer("79261234568")
	chat := start(map[string]any{"phone": "+79261234568"})
	sent := d.op.send(map[string]any{"chat_id": chat.ID, "client_id": "first", "kind": "text", "text": "good morning"})
	if m := friend.WaitMessages(1, patience); len(m) != 1 || m[0].Text != "good morning" {
		t.Errorf("the friend sees %+v", m)
	}
	d.op.message("read", func(m *message.Message) bool { return m.ID == sent.ID && m.Status == message.StatusRead })
	friend.SendText("good evening")
	if m := d.op.message("answer", func(m *message.Message) bool { return m.Text == "good evening" }); m.ChatID != chat.ID || m.Sender.Name == "" {
		t.Errorf("the answer came as %s", asJSON(m))
	}
	for by, want := range map[string]string{"phone": "+79261234568", "external_id": "79261234568"} {
		if again := start(map[string]any{by: want}); again.ID != chat.ID {
			t.Errorf("another chat by %s: %s", by, asJSON(again))
		}
	}
	nobody := start(map[string]any{"phone": "+79990000000"})
	var r struct{ Message message.Message }
	d.op.call("message.send", map[string]any{"chat_id": nobody.ID, "client_id": "nobody", "kind": "text", "text": "anybody?"}, &r)
	failed := d.op.message("failure", func(m *message.Message) bool { return m.ID == r.Message.ID && m.Status == message.StatusFailed })
	if failed.Error == nil || failed.Error.Kind != message.ErrRecipient || failed.Error.Code != "not-whatsapp-user" {
		t.Errorf("error = %+v", failed.Error)
	}
}

// A send of unknown outcome is repeated under its id: the customer gets it once.
// Callbacks that come doubled, in another order or from a stranger do no harm.
func TestMFMSFaults(t *testing.T) {
	t.Parallel()
	d := newMFMSDesk(t)
	fault := func(f simulator.Fault) {
		t.Helper()
		f.Platform, f.Count = "mfms", 1
		if _, err := d.sim.Fault(f); err != nil {
			t.Fatal(err)
		}
	}
	send := func(words string) message.Message {
		t.Helper()
		m := d.op.send(map[string]any{"chat_id": d.chat, "client_id": words, "kind": "text", "text": words})
		return d.op.message("read "+words, func(x *message.Message) bool { return x.ID == m.ID && x.Status == message.StatusRead })
	}
	for _, f := range []simulator.Fault{
		{Kind: simulator.FaultCutAfter, Method: "imOutMessage"},
		{Kind: simulator.FaultError, Method: "imOutMessage"},
		{Kind: simulator.FaultThrottle, Method: "imOutMessage", RetryAfter: 1},
	} {
		fault(f)
		send("despite " + f.Kind)
	}
	fault(simulator.Fault{Kind: simulator.FaultDuplicate, Method: "delivered"})
	send("doubled report")
	fault(simulator.Fault{Kind: simulator.FaultReorder, Method: "delivered"})
	send("late report")
	fault(simulator.Fault{Kind: simulator.FaultDuplicate, Method: "message"})
	d.who.SendText("doubled")
	fault(simulator.Fault{Kind: simulator.FaultBadSignature, Method: "message"})
	d.who.SendText("forged first")
	d.op.message("message that came from a stranger first", func(m *message.Message) bool { return m.Text == "forged first" })
	texts := map[string]int{}
	for _, m := range d.who.Messages() {
		texts[m.Text]++
	}
	for _, m := range d.history(d.chat) {
		if m.Direction == message.In {
			texts[m.Text]++
		} else if m.Status != message.StatusRead {
			t.Errorf("message = %s", asJSON(m))
		}
	}
	for words, n := range texts {
		if n != 1 {
			t.Errorf("%q is there %d times", words, n)
		}
	}
	if len(texts) != 8 {
		t.Errorf("messages = %v", texts)
	}
	polled(t, "refused stranger", patience, func() bool {
		return slices.ContainsFunc(d.acct.Callbacks("message"), func(c simulator.Callback) bool { return c.Status == 403 })
	})
}

// Callbacks want user and password; what nobody knows is kept, and answered well.
func TestMFMSWebhook(t *testing.T) {
	t.Parallel()
	d := newMFMSDesk(t)
	post := func(user, password, body string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", d.http+"/webhooks/mfms/"+d.account, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			req.SetBasicAuth(user, password)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	for _, c := range []struct {
		user, password, body string
		want                 int
	}{
		{"", "", "{}", 401},
		{"switchboard", "wrong", "{}", 403},
		{"stranger", "s3cret-pass", "{}", 403},
		{"switchboard", "s3cret-pass", "<xml>", 400},
		{"switchboard", "s3cret-pass", "[]", 200},
		{"switchboard", "s3cret-pass", `{"what":"is this"}`, 200},
		{"switchboard", "s3cret-pass", `<what>is this</what>`, 200},
	} {
		if got := post(c.user, c.password, c.body); got != c.want {
			t.Errorf("%s of %q: %d, want %d", c.body, c.user, got, c.want)
		}
	}
	for _, method := range []string{"HEAD", "GET"} { // tried before it is called
		req, err := http.NewRequestWithContext(t.Context(), method, d.http+"/webhooks/mfms/"+d.account, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Errorf("%s: %d", method, res.StatusCode)
		}
	}
	polled(t, "update in quarantine", patience, func() bool {
		var q struct{ Items []json.RawMessage }
		d.rest("GET", "/api/v1/quarantine", d.token, nil, 200, &q)
		return len(q.Items) == 2
	})
}

// Over the XML connector texts go out and are reported as read; what customers
// write comes in JSON as ever; nothing else is offered.
func TestHPX(t *testing.T) {
	t.Parallel()
	d := newHPXDesk(t)
	type object = map[string]any
	long := strings.Repeat("я", 4097)
	for _, c := range []struct {
		text string
		want []string
	}{{"Price < 5 & \"more\" ]]> 😀\nsecond line", nil}, {long, []string{long[:8192], "я"}}} {
		if c.want == nil {
			c.want = []string{c.text}
		}
		before := len(d.who.Messages())
		m := d.op.send(object{"chat_id": d.chat, "client_id": c.text[:10], "kind": "text", "text": c.text})
		read := d.op.message("read message", func(x *message.Message) bool { return x.ID == m.ID && x.Status == message.StatusRead })
		got := d.who.Messages()[before:]
		for i, x := range got {
			if len(got) != len(c.want) || x.Text != c.want[i] {
				t.Errorf("the customer sees %d messages, %.50q", len(got), x.Text)
			}
		}
		if len(got) == 0 || read.PlatformMessageID == nil || *read.PlatformMessageID != got[0].ID {
			t.Errorf("message = %s", asJSON(read))
		}
	}
	var request struct {
		XMLName xml.Name
		Message struct {
			ClientID string `xml:"clientId,attr"`
			Address  string `xml:"address"`
			Subject  string `xml:"subject"`
			Priority string `xml:"priority"`
			Validity int    `xml:"validityPeriodSeconds"`
			Comment  string `xml:"comment"`
			Type     string `xml:"instantMessageType"`
			Kind     string `xml:"contentType"`
		} `xml:"payload>instantMessageList>instantMessage"`
	}
	var body string
	if err := json.Unmarshal(d.sends()[1].Body, &body); err != nil { // the first one was of the check
		t.Fatal(err)
	}
	m := &request.Message
	if err := xml.Unmarshal([]byte(body), &request); err != nil || request.XMLName.Local != "consumeInstantMessageRequest" || len(m.ClientID) != 32 || m.Address != "79261234567" ||
		m.Subject != "ACME_WA" || m.Priority != "normal" || m.Validity < 86300 || m.Validity > 86400 || len(m.Comment) != 36 || m.Type != "whatsapp" || m.Kind != "text" {
		t.Errorf("request = %s, %v", body, err)
	}

	for name, words := range map[string]simulator.MFMSAction{"text": {Text: "again"}, "newer form": {Text: "and again", Pulse: true}} {
		if _, err := d.who.Do("text", words); err != nil {
			t.Fatal(err)
		}
		d.op.message(name, func(m *message.Message) bool { return m.Text == words.Text })
	}

	// Refused, each with the name of what is missing.
	files := map[string]string{}
	for _, name := range []string{"cat.jpg", "clip.mp4", "bill.pdf", "song.mp3", "say.ogg", "hi.webp"} {
		files[name] = d.upload(d.token, name, fileBytes(t, name))
	}
	ours := d.op.send(object{"chat_id": d.chat, "client_id": "ours", "kind": "text", "text": "ours"})
	before := len(d.sends())
	for name, params := range map[string]object{
		"image":    {"kind": "image", "files": []string{files["cat.jpg"]}},
		"video":    {"kind": "video", "files": []string{files["clip.mp4"]}},
		"document": {"kind": "document", "files": []string{files["bill.pdf"]}},
		"audio":    {"kind": "audio", "files": []string{files["song.mp3"]}},
		"voice":    {"kind": "voice", "files": []string{files["say.ogg"]}},
		"sticker":  {"kind": "sticker", "files": []string{files["hi.webp"]}},
		"location": {"kind": "location", "location": object{"lat": 55.75, "lon": 37.61}},
		"contact":  {"kind": "contact", "contact": object{"name": "Service", "phone": "+78000000000"}},
		"template": {"kind": "template", "text": "x", "template": object{"name": "x", "language": "ru"}},
		"buttons":  {"kind": "text", "text": "x", "keyboard": object{"kind": "inline", "rows": [][]object{{{"text": "Yes"}}}}},
		"keyboard": {"kind": "text", "text": "x", "keyboard": object{"kind": "reply", "rows": [][]object{{{"text": "Yes"}}}}},
		"quote":    {"kind": "text", "text": "x", "reply_to": ours.ID},
	} {
		params["chat_id"], params["client_id"] = d.chat, name
		if err := d.op.try("message.send", params, nil); err == nil || err.Code != 1003 || err.Data.Detail == "" {
			t.Errorf("%s: %v, want 1003", name, err)
		}
	}
	for method, params := range map[string]object{"message.edit": {"message_id": ours.ID, "text": "x"}, "message.delete": {"message_id": ours.ID}} {
		if err := d.op.try(method, params, nil); err == nil || err.Code != 1003 {
			t.Errorf("%s: %v, want 1003", method, err)
		}
	}
	if n := len(d.sends()) - before; n != 0 {
		t.Errorf("%d messages went out", n)
	}
}

// The connector's codes, reports of several messages in one callback, and a report
// that comes before we know the message's id.
func TestHPXFaults(t *testing.T) {
	t.Parallel()
	d := newHPXDesk(t)
	fault := func(f simulator.Fault) {
		t.Helper()
		f.Platform, f.Count = "mfms", 1
		if _, err := d.sim.Fault(f); err != nil {
			t.Fatal(err)
		}
	}
	const method = "consumeInstantMessageRequest"
	send := func(words string) message.Message {
		t.Helper()
		var r struct{ Message message.Message }
		d.op.call("message.send", map[string]any{"chat_id": d.chat, "client_id": words, "kind": "text", "text": words}, &r)
		return r.Message
	}
	reach := func(m message.Message, status message.Status) message.Message {
		t.Helper()
		return d.op.message(string(status), func(x *message.Message) bool { return x.ID == m.ID && x.Status == status })
	}
	// The first answer is lost: the reports of that message wait until the repeat is
	// refused with its id.
	fault(simulator.Fault{Kind: simulator.FaultCutAfter, Method: method})
	reach(send("answer lost"), message.StatusRead)
	for _, f := range []simulator.Fault{
		{Kind: simulator.FaultError, Method: method},
		{Kind: simulator.FaultThrottle, Method: method, RetryAfter: 1},
		{Kind: simulator.FaultCut, Method: method},
		{Kind: simulator.FaultDuplicate, Method: "delivered"},
		{Kind: simulator.FaultReorder, Method: "delivered"},
	} {
		fault(f)
		reach(send("despite "+f.Kind), message.StatusRead)
	}
	texts := map[string]int{}
	for _, m := range d.who.Messages() {
		texts[m.Text]++
	}
	for words, n := range texts {
		if n != 1 {
			t.Errorf("%q is there %d times", words, n)
		}
	}

	for code, kind := range map[string]message.ErrorKind{
		"error-syntax": message.ErrInvalid, "error-content-type-format": message.ErrInvalid, "error-of-the-future": message.ErrInvalid,
	} {
		fault(simulator.Fault{Kind: simulator.FaultError, Method: method, Description: code})
		if failed := reach(send(code), message.StatusFailed); failed.Error == nil || failed.Error.Kind != kind || failed.Error.Code != code {
			t.Errorf("%s: %+v", code, failed.Error)
		}
	}
	// One message's bad address is that one's alone.
	fault(simulator.Fault{Kind: simulator.FaultError, Method: method, Description: "error-address-format"})
	bad, good := send("bad address"), send("good address")
	if failed := reach(bad, message.StatusFailed); failed.Error == nil || failed.Error.Kind != message.ErrRecipient || failed.Error.Code != "error-address-format" {
		t.Errorf("error = %+v", failed.Error)
	}
	reach(good, message.StatusRead)

	// Two messages in one callback.
	quiet := simulator.CustomerPatch{Receipts: new("none")}
	if err := d.who.Set(quiet); err != nil {
		t.Fatal(err)
	}
	one, two := reach(send("one"), message.StatusSent), reach(send("two"), message.StatusSent)
	document := "<provideInstantMessageDlvStatusResponse><payload><code>ok</code><instantMessageList>"
	for _, m := range []message.Message{one, two} {
		document += `<instantMessage providerId="` + *m.PlatformMessageID + `"><code>ok</code><instantMessageDlvStatus><dlvStatus>delivered</dlvStatus><dlvStatusAt>2026-01-01 13:00:05</dlvStatusAt><dlvError/></instantMessageDlvStatus></instantMessage>`
	}
	if _, err := d.acct.Inject(document + "</instantMessageList></payload></provideInstantMessageDlvStatusResponse>"); err != nil {
		t.Fatal(err)
	}
	for _, m := range []message.Message{one, two} {
		if got := reach(m, message.StatusDelivered); !got.StatusAt.Equal(time.Date(2026, 1, 1, 10, 0, 5, 0, time.UTC)) {
			t.Errorf("delivered at %v", got.StatusAt)
		}
	}

	if _, err := d.who.Do("block", simulator.MFMSAction{}); err != nil {
		t.Fatal(err)
	}
	if failed := reach(send("hello?"), message.StatusFailed); failed.Error == nil || failed.Error.Code != "user-blocked" {
		t.Errorf("error = %+v", failed.Error)
	}
	polled(t, "unreachable customer", patience, func() bool {
		var chat switchboard.Chat
		d.rest("GET", "/api/v1/chats/"+d.chat, d.token, nil, 200, &chat)
		return !chat.Customer.Reachable
	})

	fault(simulator.Fault{Kind: simulator.FaultUnauthorized, Method: method})
	send("who are you?")
	polled(t, "paused account", patience, func() bool {
		var account switchboard.Account
		d.rest("GET", "/api/v1/accounts/"+d.account, d.token, nil, 200, &account)
		return account.State == switchboard.AccountPaused && strings.Contains(account.Reason, "error-auth")
	})
}

// Reports that never come are asked for, in both dialects: the message is still
// shown as read, and one that could not be delivered as failed.
func TestMFMSLostReports(t *testing.T) {
	t.Parallel()
	for name, account := range map[string]func(*world) (string, *simulator.MFMSAccount){"json": mfmsAccount, "hpx": hpxAccount} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, base := simtest.Start(t)
			w := startOn(t, sim, base, dbtest.URLOf(t), bytes.Repeat([]byte{5}, secret.KeySize), func(*config.Config) {}, func(c *core) {
				c.reportAges = []time.Duration{time.Second, 4 * time.Second, 8 * time.Second}
			})
			d := mfmsDeskOf(w, account)
			for _, event := range []string{"delivered", "read", "undelivered"} {
				if _, err := sim.Fault(simulator.Fault{Platform: "mfms", Kind: simulator.FaultDrop, Method: event}); err != nil {
					t.Fatal(err)
				}
			}
			long := d.op.send(map[string]any{"chat_id": d.chat, "client_id": "long", "kind": "text", "text": strings.Repeat("я", 4097)})
			m := d.op.send(map[string]any{"chat_id": d.chat, "client_id": "lost", "kind": "text", "text": "lost"})
			for _, id := range []string{long.ID, m.ID} {
				d.op.message("read", func(x *message.Message) bool { return x.ID == id && x.Status == message.StatusRead })
			}
			if _, err := d.who.Do("block", simulator.MFMSAction{}); err != nil {
				t.Fatal(err)
			}
			refused := d.op.send(map[string]any{"chat_id": d.chat, "client_id": "refused", "kind": "text", "text": "refused"})
			failed := d.op.message("failed", func(x *message.Message) bool { return x.ID == refused.ID && x.Status == message.StatusFailed })
			if failed.Error == nil || failed.Error.Code != "user-blocked" {
				t.Errorf("error = %+v", failed.Error)
			}
			for _, event := range []string{"delivered", "read", "undelivered"} {
				if n := len(d.acct.Callbacks(event)); n != 0 {
					t.Errorf("%d callbacks of %s were delivered", n, event)
				}
			}
		})
	}
}
