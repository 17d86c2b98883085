package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"switchboard"
	"switchboard/message"
	"switchboard/simulator"
)

const (
	infobipKey    = "0123456789abcdef0123456789abcdef-01234567-89ab-cdef-0123-456789abcdef"
	infobipSender = "79001112233"
)

// infobipAccount adds an account; its check subscribes the webhook.
func infobipAccount(w *world) (string, *simulator.InfobipAccount) {
	w.t.Helper()
	acct := w.sim.Infobip(infobipKey)
	a, err := w.sys.admin.AddAccount(w.t.Context(), "test", "infobip", "Test infobip", map[string]string{
		"api_key": infobipKey, "sender": infobipSender, "webhook_user": "switchboard", "webhook_password": "s3cret-pass",
		"api_base": w.base + "/infobip", "rate": "0", "chat_rate": "0",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for range 2 { // the second finds the subscription
		health, err := w.sys.admin.CheckAccount(w.t.Context(), "test", a.ID)
		if err != nil || health.Warning != "" {
			w.t.Fatalf("check: %+v %v", health, err)
		}
	}
	if hooks := acct.Webhooks(); !slices.Equal(hooks, []string{w.http + "/webhooks/infobip/" + a.ID}) {
		w.t.Fatalf("webhooks = %q", hooks)
	}
	return a.ID, acct
}

func infobipDo(action string, a simulator.InfobipAction) func(*simulator.InfobipCustomer) (simulator.Sent, error) {
	return func(c *simulator.InfobipCustomer) (simulator.Sent, error) { return c.Do(action, a) }
}

// Everything that a customer can do reaches the operators, files fetched with the
// key, and everybody who writes is in the phone book.
func TestInfobipInbound(t *testing.T) {
	t.Parallel()
	w := start(t)
	_, acct := infobipAccount(w)
	in := lookOn(w)
	type a = simulator.InfobipAction
	type steps = []func(*simulator.InfobipCustomer) (simulator.Sent, error)
	contents := func(c ...message.Content) []message.Content { return c }
	keyboard := func(titles ...string) map[string]any {
		row := []any{map[string]any{"text": "Good", "payload": "csat:5"}}
		for _, s := range titles {
			row = append(row, map[string]any{"text": s})
		}
		return map[string]any{"kind": "text", "text": "well?", "keyboard": map[string]any{"kind": "inline", "rows": []any{row}}}
	}
	reaction := serviceLine("reaction")
	reaction.Payload = "👍"
	cases := []inboundCase[*simulator.InfobipCustomer]{
		{name: "text", do: steps{infobipDo("text", a{Text: "Добрый день 👩🏽‍💻 שלום"})}, want: contents(text("Добрый день 👩🏽‍💻 שלום"))},
		{name: "three in one callback", do: steps{infobipDo("burst", a{Text: "n", Count: 3})}, want: contents(text("n1"), text("n2"), text("n3"))},
		{name: "picture", do: steps{infobipDo("photo", a{Text: "scratched here"})}, want: contents(file(message.KindImage, "scratched here", message.File{Name: "file.jpg", Mime: "image/jpeg"}))},
		{name: "video", do: steps{infobipDo("video", a{Text: "how it works"})}, want: contents(file(message.KindVideo, "how it works", message.File{Name: "file.mp4", Mime: "video/mp4"}))},
		{name: "audio", do: steps{infobipDo("audio", a{})}, want: contents(file(message.KindAudio, "", message.File{Name: "file.mp3", Mime: "audio/mpeg"}))},
		{name: "voice", do: steps{infobipDo("voice", a{})}, want: contents(file(message.KindVoice, "", message.File{Name: "file.oga", Mime: "audio/ogg"}))},
		{name: "sticker", do: steps{infobipDo("sticker", a{})}, want: contents(file(message.KindSticker, "", message.File{Name: "file.webp", Mime: "image/webp"}))},
		{name: "document", do: steps{infobipDo("document", a{File: simulator.FileSpec{Name: "договор.pdf"}})}, want: contents(file(message.KindDocument, "", message.File{Name: "договор.pdf", Mime: "application/pdf"}))},
		{name: "document with words", do: steps{infobipDo("document", a{Text: "my bill"})}, want: contents(file(message.KindDocument, "my bill", message.File{Name: "file.pdf", Mime: "application/pdf"}))},
		// Of an even and of an odd length: half of the files are at a storage elsewhere.
		{name: "elsewhere", do: steps{infobipDo("document", a{Text: "x", File: simulator.FileSpec{Size: 5000}})}, want: contents(file(message.KindDocument, "x", message.File{Name: "file.pdf", Mime: "application/pdf"}))},
		{name: "here", do: steps{infobipDo("document", a{Text: "x", File: simulator.FileSpec{Size: 5001}})}, want: contents(file(message.KindDocument, "x", message.File{Name: "file.pdf", Mime: "application/pdf"}))},
		{name: "location", do: steps{infobipDo("location", a{Name: "Red Square"})}, want: contents(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 55.751244, Lon: 37.618423, Title: "Red Square"}})},
		{name: "contact", do: steps{infobipDo("contact", a{Name: "Boris", Phone: "79990001122"})}, nobody: "+79990001122",
			want: contents(message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: "Boris", Phone: "+79990001122"}})},
		{name: "kind of the future", do: steps{infobipDo("unknown", a{})}, want: contents(unsupported("HOLOGRAM"))},
		{name: "infected", do: steps{infobipDo("infected", a{})}, want: contents(unsupported("INFECTED_CONTENT: Infobip's scanner took the file away"))},
		{name: "marketing", do: steps{infobipDo("text", a{Text: "hi"}), infobipDo("marketing", a{})}, want: contents(text("hi"), serviceLine("marketing_stop"))},
		{name: "reaction", do: steps{infobipDo("text", a{Text: "hi"}), infobipDo("reaction", a{})}, want: contents(text("hi"), reaction)},
		{name: "template's button", do: steps{infobipDo("quick_reply", a{Text: "Yes", Data: "yes:118"})}, want: contents(message.Content{Kind: message.KindButton, Button: &message.Button{Payload: "yes:118", Text: "Yes"}})},
		{name: "button", ours: keyboard("Bad"), do: steps{infobipDo("press", a{Data: "Good"})}, want: contents(message.Content{Kind: message.KindButton, Button: &message.Button{Payload: "csat:5", Text: "Good"}})},
		{name: "row of a list", ours: keyboard("Bad", "So-so", "No idea"), do: steps{infobipDo("press", a{Data: "No idea"})}, want: contents(message.Content{Kind: message.KindButton, Button: &message.Button{Payload: "No idea", Text: "No idea"}})},
		{name: "reply", ours: map[string]any{"kind": "text", "text": "which one?"}, reply: 2, want: contents(text("this")), do: steps{
			func(c *simulator.InfobipCustomer) (simulator.Sent, error) {
				return c.Do("reply", a{Text: "this", ReplyTo: c.Messages()[0].ID})
			}}},
	}
	for i := range cases {
		cases[i].spec.ID = fmt.Sprintf("79260001%03d", i)
		cases[i].phone = "+" + cases[i].spec.ID
	}
	runInbound(t, in, acct.NewCustomer, cases)
	checkCallbacks(t, acct)
	if n := len(acct.Requests("media")); n < 8 {
		t.Errorf("%d files were asked for", n)
	}
}

// infobipDesk is a system with a number and an operator who talks to a customer.
type infobipDesk struct {
	*inbound
	t       *testing.T
	account string
	acct    *simulator.InfobipAccount
	who     *simulator.InfobipCustomer
	chat    string
}

func newInfobipDesk(t *testing.T) *infobipDesk {
	t.Helper()
	w := start(t)
	d := &infobipDesk{t: t}
	d.account, d.acct = infobipAccount(w)
	d.inbound = lookOn(w)
	d.who = d.acct.Customer("79261234567")
	d.who.SendText("hello")
	d.chat = d.op.message("hello", func(m *message.Message) bool { return m.Text == "hello" }).ChatID
	d.op.call("chat.accept", map[string]any{"chat_id": d.chat}, nil)
	return d
}

// sends are the messages that Infobip got, oldest first.
func (d *infobipDesk) sends() []simulator.Request {
	return slices.DeleteFunc(d.acct.Requests(""), func(r simulator.Request) bool {
		return !strings.HasPrefix(r.Path, "/infobip/whatsapp/1/message/")
	})
}

// Everything that an operator sends reaches Infobip as its documents ask for it,
// and is reported as read.
func TestInfobipOutbound(t *testing.T) {
	t.Parallel()
	d := newInfobipDesk(t)
	type object = map[string]any
	ids := map[string]string{}
	for _, name := range []string{"cat.jpg", "cat.png", "hi.webp", "clip.mp4", "bill.pdf", "song.mp3", "say.ogg"} {
		ids[name] = d.upload(d.token, name, fileBytes(t, name))
	}
	keys := func(n int) object {
		row := []object{{"text": "Yes", "payload": "y"}, {"text": "No"}, {"text": "Maybe"}, {"text": "Never"}}
		return object{"kind": "inline", "rows": [][]object{row[:n]}}
	}
	const two = `{"action":{"buttons":[{"type":"REPLY","id":"y","title":"Yes"},{"type":"REPLY","id":"No","title":"No"}]},"body":{"text":"Well?"}}`
	long := strings.Repeat("я", 4097)
	for _, c := range []struct {
		name   string
		params object
		files  []string
		want   []string // path and content; LINK stands for our address of a file
	}{
		{"text", object{"kind": "text", "text": "Price < 5 & \"more\" 😀"}, nil, []string{`text {"previewUrl":false,"text":"Price < 5 & \"more\" 😀"}`}},
		{"long text", object{"kind": "text", "text": long}, nil, []string{`text {"previewUrl":false,"text":"` + long[:8192] + `"}`, `text {"previewUrl":false,"text":"я"}`}},
		{"buttons", object{"kind": "text", "text": "Well?", "keyboard": keys(2)}, nil, []string{`interactive/buttons ` + two}},
		{"list", object{"kind": "text", "text": "Well?", "keyboard": keys(4)}, nil,
			[]string{`interactive/list {"action":{"title":"Menu","sections":[{"rows":[{"id":"y","title":"Yes"},{"id":"No","title":"No"},{"id":"Maybe","title":"Maybe"},{"id":"Never","title":"Never"}]}]},"body":{"text":"Well?"}}`}},
		{"link", object{"kind": "text", "text": "Well?", "keyboard": object{"kind": "inline", "rows": [][]object{{{"text": "Open", "action": "url", "url": "https://shop.example.com/?a=1&b=2"}}}}}, nil,
			[]string{`interactive/url-button {"action":{"displayText":"Open","url":"https://shop.example.com/?a=1&b=2"},"body":{"text":"Well?"}}`}},
		{"picture", object{"kind": "image", "text": "look"}, []string{"cat.jpg"}, []string{`image {"mediaUrl":"LINK","caption":"look"}`}},
		{"picture with buttons", object{"kind": "image", "text": "Well?", "keyboard": keys(2)}, []string{"cat.png"}, []string{`image {"mediaUrl":"LINK"}`, `interactive/buttons ` + two}},
		{"two pictures", object{"kind": "image", "text": "both"}, []string{"cat.jpg", "cat.png"}, []string{`image {"mediaUrl":"LINK","caption":"both"}`, `image {"mediaUrl":"LINK"}`}},
		{"picture of another format", object{"kind": "image"}, []string{"hi.webp"}, []string{`document {"mediaUrl":"LINK","filename":"hi.webp"}`}},
		{"sticker", object{"kind": "sticker"}, []string{"hi.webp"}, []string{`sticker {"mediaUrl":"LINK"}`}},
		{"video", object{"kind": "video", "text": "how"}, []string{"clip.mp4"}, []string{`video {"mediaUrl":"LINK","caption":"how"}`}},
		{"document", object{"kind": "document", "text": "your bill"}, []string{"bill.pdf"}, []string{`document {"mediaUrl":"LINK","caption":"your bill","filename":"bill.pdf"}`}},
		{"audio", object{"kind": "audio", "text": "listen"}, []string{"song.mp3"}, []string{`audio {"mediaUrl":"LINK"}`, `text {"previewUrl":false,"text":"listen"}`}},
		{"voice", object{"kind": "voice"}, []string{"say.ogg"}, []string{`audio {"mediaUrl":"LINK","voice":true}`}},
		{"location", object{"kind": "location", "location": object{"lat": 55.75, "lon": 37.61, "title": "Shop"}}, nil, []string{`location {"latitude":55.75,"longitude":37.61,"name":"Shop"}`}},
		{"contact", object{"kind": "contact", "contact": object{"name": "Service", "phone": "+78000000000"}}, nil,
			[]string{`contact {"contacts":[{"name":{"firstName":"Service","formattedName":"Service"},"phones":[{"phone":"+78000000000","type":"CELL","waId":"78000000000"}]}]}`}},
		{"template", object{"kind": "template", "template": object{"name": "order_ready", "language": "ru", "parameters": []string{"Anna", "118"}}}, nil,
			[]string{`template {"templateName":"order_ready","language":"ru","templateData":{"body":{"placeholders":["Anna","118"]}}}`}},
		{"template with a picture", object{"kind": "template", "template": object{"name": "hello", "language": "ru"}}, []string{"cat.jpg"},
			[]string{`template {"templateName":"hello","language":"ru","templateData":{"body":{"placeholders":[]},"header":{"type":"IMAGE","mediaUrl":"LINK"}}}`}},
		{"template with a document", object{"kind": "template", "template": object{"name": "hello", "language": "ru"}}, []string{"bill.pdf"},
			[]string{`template {"templateName":"hello","language":"ru","templateData":{"body":{"placeholders":[]},"header":{"type":"DOCUMENT","mediaUrl":"LINK","filename":"bill.pdf"}}}`}},
		{"template with buttons", object{"kind": "template", "template": object{"name": "hello", "language": "ru"}, "keyboard": keys(2)}, nil,
			[]string{`template {"templateName":"hello","language":"ru","templateData":{"body":{"placeholders":[]},"buttons":[{"type":"QUICK_REPLY","parameter":"y"},{"type":"QUICK_REPLY","parameter":"No"}]}}`}},
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
			for i, r := range requests {
				type envelope struct {
					From, To   string
					MessageID  string
					Content    object
					URLOptions map[string]bool
					Messages   []json.RawMessage
				}
				var body envelope
				if err := json.Unmarshal(r.Body, &body); err != nil {
					t.Fatal(err)
				}
				template := len(body.Messages) == 1
				if template {
					if err := json.Unmarshal(body.Messages[0], &body); err != nil {
						t.Fatal(err)
					}
				}
				id := sent.ID
				if i > 0 {
					id += fmt.Sprint("-", i)
				}
				if body.From != infobipSender || body.To != "79261234567" || body.MessageID != id || r.Code != 0 || !template && (len(body.URLOptions) != 2 || body.URLOptions["shortenUrl"] || body.URLOptions["trackClicks"]) {
					t.Errorf("request = %s", r.Body)
				}
				media := body.Content
				if data, ok := media["templateData"].(object); ok {
					media, _ = data["header"].(object)
				}
				if link, _ := media["mediaUrl"].(string); strings.HasPrefix(link, d.http+"/files/") {
					media["mediaUrl"] = "LINK"
				}
				got, err := json.Marshal(body.Content)
				if err != nil {
					t.Fatal(err)
				}
				if !sameJSON(t, r.Method+" "+string(got), c.want[i]) {
					t.Errorf("got  %s %s\nwant %s", r.Method, got, c.want[i])
				}
			}
			read := d.op.message("read "+c.name, func(m *message.Message) bool { return m.ID == sent.ID && m.Status == message.StatusRead })
			if read.PlatformMessageID == nil || !strings.HasPrefix(*read.PlatformMessageID, sent.ID) {
				t.Errorf("message = %s", asJSON(read))
			}
		})
	}
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

	t.Run("reply", func(t *testing.T) {
		hello := d.history(d.chat)[0]
		d.op.send(object{"chat_id": d.chat, "client_id": "reply", "kind": "text", "text": "hello to you", "reply_to": hello.ID})
		if all := d.who.Messages(); all[len(all)-1].ReplyTo != *hello.PlatformMessageID {
			t.Errorf("reply to %q", all[len(all)-1].ReplyTo)
		}
	})
	t.Run("typing", func(t *testing.T) {
		d.op.call("chat.typing", object{"chat_id": d.chat}, nil)
		polled(t, "typing", patience, func() bool { return len(d.acct.Requests("events")) == 1 })
	})
	t.Run("the customer can't be written to", func(t *testing.T) {
		if _, err := d.who.Do("block", simulator.InfobipAction{}); err != nil {
			t.Fatal(err)
		}
		d.fails(d.chat, "blocked", object{"kind": "text", "text": "hello?"}, message.ErrRecipient, "7003")
		polled(t, "unreachable customer", patience, func() bool {
			var chat switchboard.Chat
			d.rest("GET", "/api/v1/chats/"+d.chat, d.token, nil, 200, &chat)
			return !chat.Customer.Reachable
		})
	})
}

// fails sends what is accepted and reported as failed.
func (d *infobipDesk) fails(chat, client string, params map[string]any, kind message.ErrorKind, code string) {
	d.t.Helper()
	var r struct{ Message message.Message }
	params["chat_id"], params["client_id"] = chat, client
	d.op.call("message.send", params, &r)
	failed := d.op.message("failure of "+client, func(m *message.Message) bool { return m.ID == r.Message.ID && m.Status == message.StatusFailed })
	if failed.Error == nil || failed.Error.Kind != kind || failed.Error.Code != code {
		d.t.Errorf("%s: error = %+v, want %s %s", client, failed.Error, kind, code)
	}
}

// What WhatsApp does not offer is refused at once, with the name of what is missing.
func TestInfobipRefuses(t *testing.T) {
	t.Parallel()
	d := newInfobipDesk(t)
	type object = map[string]any
	inline := func(b ...object) object { return object{"kind": "inline", "rows": [][]object{b}} }
	many := []object{}
	for i := range 11 {
		many = append(many, object{"text": fmt.Sprint(i)})
	}
	ours := d.op.send(object{"chat_id": d.chat, "client_id": "ours", "kind": "text", "text": "ours"})
	before := len(d.sends())
	for name, c := range map[string]struct {
		params object
		code   int
	}{
		"reply keyboard":      {object{"kind": "text", "text": "x", "keyboard": object{"kind": "reply", "rows": [][]object{{{"text": "Yes"}}}}}, 1003},
		"removed keyboard":    {object{"kind": "text", "text": "x", "keyboard": object{"kind": "remove"}}, 1003},
		"phone button":        {object{"kind": "text", "text": "x", "keyboard": inline(object{"text": "x", "action": "phone"})}, 1003},
		"place button":        {object{"kind": "text", "text": "x", "keyboard": inline(object{"text": "x", "action": "location"})}, 1003},
		"eleven buttons":      {object{"kind": "text", "text": "x", "keyboard": inline(many...)}, 1004},
		"long title":          {object{"kind": "text", "text": "x", "keyboard": inline(object{"text": strings.Repeat("я", 25)})}, 1004},
		"long payload":        {object{"kind": "text", "text": "x", "keyboard": inline(object{"text": "x", "payload": strings.Repeat("я", 201)})}, 1004},
		"link among buttons":  {object{"kind": "text", "text": "x", "keyboard": inline(object{"text": "x"}, object{"text": "y", "action": "url", "url": "https://shop.example.com"})}, 1004},
		"more than ten texts": {object{"kind": "text", "text": strings.Repeat("я", 40_961)}, 1004},
		"long place":          {object{"kind": "location", "location": object{"lat": 1, "lon": 1, "address": strings.Repeat("я", 1001)}}, 1004},
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
	if err := d.op.try("chat.start", object{"account_id": d.account, "external_id": "ann@wa"}, nil); err == nil {
		t.Error("a chat is started with what is no address of WhatsApp")
	}
	if n := len(d.sends()) - before; n != 0 {
		t.Errorf("%d messages went out", n)
	}
	var caps message.Capabilities
	d.rest("GET", "/api/v1/accounts/"+d.account+"/capabilities", d.token, nil, 200, &caps)
	if caps.ReplyKeyboard || caps.Edit || caps.Delete || caps.OperatorAvatar || caps.RequestPhone || caps.Forward ||
		!caps.InlineKeyboard || !caps.StartByPhone || !caps.Delivered || !caps.Read || !caps.ReplyTo || !slices.Contains(caps.Send, message.KindTemplate) {
		t.Errorf("capabilities = %+v", caps)
	}
}

// An operator begins by a phone: of one who wrote, of one who never did (by a
// template, as WhatsApp wants it), and of one who has no WhatsApp.
func TestInfobipStart(t *testing.T) {
	t.Parallel()
	d := newInfobipDesk(t)
	type object = map[string]any
	begin := func(phone string) switchboard.Chat {
		t.Helper()
		var started struct{ Chat switchboard.Chat }
		d.op.call("chat.start", object{"account_id": d.account, "phone": phone}, &started)
		return started.Chat
	}
	if chat := begin("+7 926 123-45-67"); chat.ID != d.chat {
		t.Errorf("another chat with the customer who wrote: %s", asJSON(chat))
	}
	friend, err := d.acct.NewCustomer(simulator.CustomerSpec{ID: "79261234568"}) // never wrote
	if err != nil {
		t.Fatal(err)
	}
	chat := begin("+79261234568")
	known := func() {
		t.Helper()
		var book struct{ Items []switchboard.PhoneEntry }
		d.rest("GET", "/api/v1/customers?phone=%2B79261234568", d.token, nil, 200, &book)
		if len(book.Items) != 1 || book.Items[0].ChatID != chat.ID || book.Items[0].Source != "address" || chat.Customer.Phone != "+79261234568" {
			t.Errorf("phone book %s, chat %s", asJSON(book), asJSON(chat))
		}
	}
	known()
	d.fails(chat.ID, "too early", object{"kind": "text", "text": "good morning"}, message.ErrInvalid, "7010")
	d.fails(chat.ID, "unknown template", object{"kind": "template", "template": object{"name": "nonesuch", "language": "ru"}}, message.ErrInvalid, "7009")
	d.op.send(object{"chat_id": chat.ID, "client_id": "template", "kind": "template", "template": object{"name": "hello", "language": "ru", "parameters": []string{"Anna"}}})
	if m := friend.WaitMessages(1, patience); len(m) != 1 || m[0].Text != "hello: Anna" {
		t.Fatalf("the friend sees %+v", m)
	}
	friend.SendText("good evening")
	if m := d.op.message("answer", func(m *message.Message) bool { return m.Text == "good evening" }); m.ChatID != chat.ID {
		t.Errorf("the answer came as %s", asJSON(m))
	}
	known()
	d.op.send(object{"chat_id": chat.ID, "client_id": "now", "kind": "text", "text": "good night"})
	if m := friend.WaitMessages(2, patience); len(m) != 2 || m[1].Text != "good night" {
		t.Errorf("the friend sees %+v", m)
	}
	d.fails(begin("+79990000000").ID, "nobody", object{"kind": "text", "text": "anybody?"}, message.ErrRecipient, "7002")
}

// A script begins by a phone, too, and who answers is in the phone book by their
// address.
func TestInfobipScriptStarts(t *testing.T) {
	t.Parallel()
	d := newInfobipDesk(t)
	_, key, err := d.sys.admin.AddAPIKey(t.Context(), "test", "script")
	if err != nil {
		t.Fatal(err)
	}
	friend, err := d.acct.NewCustomer(simulator.CustomerSpec{ID: "79261234569"}) // never wrote
	if err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	d.rest("POST", "/api/v1/messages", key, object{"account_id": d.account, "to": object{"phone": "+79261234569"},
		"kind": "template", "template": object{"name": "hello", "language": "ru", "parameters": []string{"Anna"}}}, 202, nil)
	if m := friend.WaitMessages(1, patience); len(m) != 1 || m[0].Text != "hello: Anna" {
		t.Fatalf("the friend sees %+v", m)
	}
	friend.SendText("good evening")
	d.op.message("answer", func(m *message.Message) bool { return m.Text == "good evening" })
	var book struct{ Items []switchboard.PhoneEntry }
	d.rest("GET", "/api/v1/customers?phone=79261234569", d.token, nil, 200, &book)
	if len(book.Items) != 1 || book.Items[0].Source != "address" || book.Items[0].AccountID != d.account {
		t.Errorf("the phone book has %s", asJSON(book.Items))
	}
}

// Infobip's errors and a bad line: what can be repeated is, and the customer sees
// each message once.
func TestInfobipFaults(t *testing.T) {
	t.Parallel()
	d := newInfobipDesk(t)
	for i, f := range []simulator.Fault{
		{Kind: simulator.FaultError},
		{Kind: simulator.FaultHTML},
		{Kind: simulator.FaultThrottle, RetryAfter: 1},
		{Kind: simulator.FaultCut},
		{Kind: simulator.FaultCutAfter}, // taken, and the answer lost
		{Kind: simulator.FaultSlow, Delay: simulator.Delay(300 * time.Millisecond)},
	} {
		f.Method, f.Count = "text", 1
		if _, err := d.sim.Fault(f); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint("message ", i)
		d.op.send(map[string]any{"chat_id": d.chat, "client_id": text, "kind": "text", "text": text})
		if all := d.who.Messages(); len(all) != i+1 || all[i].Text != text {
			t.Fatalf("after %s the customer sees %d messages", f.Kind, len(all))
		}
	}
	for _, kind := range []string{simulator.FaultDuplicate, simulator.FaultLostAnswer} {
		if _, err := d.sim.Fault(simulator.Fault{Kind: kind, Count: 1, Method: "INBOUND_MESSAGE"}); err != nil {
			t.Fatal(err)
		}
		d.who.SendText(kind)
	}
	d.who.SendText("last")
	d.op.message("last", func(m *message.Message) bool { return m.Text == "last" })
	seen := []string{}
	for _, m := range d.history(d.chat) {
		if m.Direction == message.In {
			seen = append(seen, m.Text)
		}
	}
	if want := []string{"hello", simulator.FaultDuplicate, simulator.FaultLostAnswer, "last"}; !slices.Equal(seen, want) {
		t.Errorf("operators see %q, want %q", seen, want)
	}
	// A revoked key pauses the account; its queue is kept.
	if _, err := d.sim.Fault(simulator.Fault{Kind: simulator.FaultUnauthorized, Method: "text", Count: 1}); err != nil {
		t.Fatal(err)
	}
	d.op.call("message.send", map[string]any{"chat_id": d.chat, "client_id": "revoked", "kind": "text", "text": "later"}, nil)
	polled(t, "paused account", patience, func() bool { return d.inbound.account(d.account).State == switchboard.AccountPaused })
}

// Who has not the user and the password is not believed.
func TestInfobipWebhook(t *testing.T) {
	t.Parallel()
	d := newInfobipDesk(t)
	for _, c := range []struct {
		user, password string
		want           int
	}{{"", "", 401}, {"switchboard", "", 403}, {"switchboard", "s3cret-pas", 403}, {"stranger", "s3cret-pass", 403}} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", d.http+"/webhooks/infobip/"+d.account,
			strings.NewReader(`{"results":[{"from":"79261234567","messageId":"wamid.forged","message":{"type":"TEXT","text":"forged"}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if c.user != "" {
			req.SetBasicAuth(c.user, c.password)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.want {
			t.Errorf("%s:%s: %d, want %d", c.user, c.password, res.StatusCode, c.want)
		}
	}
	d.who.SendText("last")
	d.op.message("last", func(m *message.Message) bool { return m.Text == "last" })
	if n := len(d.history(d.chat)); n != 2 {
		t.Errorf("%d messages in the chat", n)
	}
}

// Who hides the phone is answered all the same, and goes on in the same chat when
// the phone is shown; from then on the phone book has it.
func TestInfobipHiddenPhone(t *testing.T) {
	t.Parallel()
	d := newInfobipDesk(t)
	who := d.acct.Customer("79261234569")
	if _, err := who.Do("hide", simulator.InfobipAction{}); err != nil {
		t.Fatal(err)
	}
	who.SendText("who am I?")
	asked := d.op.message("question", func(m *message.Message) bool { return m.Text == "who am I?" })
	d.op.call("chat.accept", map[string]any{"chat_id": asked.ChatID}, nil)
	sent := d.op.send(map[string]any{"chat_id": asked.ChatID, "client_id": "answer", "kind": "text", "text": "a friend"})
	d.op.message("read", func(m *message.Message) bool { return m.ID == sent.ID && m.Status == message.StatusRead })
	var chat switchboard.Chat
	d.rest("GET", "/api/v1/chats/"+asked.ChatID, d.token, nil, 200, &chat)
	if chat.Customer.ExternalID != who.UserID() || chat.Customer.Phone != "" {
		t.Errorf("the customer is %s", asJSON(chat.Customer))
	}
	if _, err := who.Do("show", simulator.InfobipAction{}); err != nil {
		t.Fatal(err)
	}
	who.SendText("it's me")
	if m := d.op.message("answer", func(m *message.Message) bool { return m.Text == "it's me" }); m.ChatID != asked.ChatID {
		t.Errorf("a chat of its own: %s", asJSON(m))
	}
	var started struct{ Chat switchboard.Chat }
	d.op.call("chat.start", map[string]any{"account_id": d.account, "phone": "+79261234569"}, &started)
	if started.Chat.ID != asked.ChatID || started.Chat.Customer.Phone != "+79261234569" {
		t.Errorf("by phone: %s", asJSON(started.Chat))
	}
	d.op.send(map[string]any{"chat_id": asked.ChatID, "client_id": "again", "kind": "text", "text": "hello again"})
	if all := who.WaitMessages(2, patience); len(all) != 2 || all[1].Text != "hello again" {
		t.Errorf("the customer sees %+v", all)
	}
}

// Reports that come late, twice and in the wrong order leave a message where it
// got furthest; what Infobip tells afterwards only makes it fail.
func TestInfobipReports(t *testing.T) {
	t.Parallel()
	d := newInfobipDesk(t)
	for i, c := range []struct {
		name  string
		fault simulator.Fault
	}{
		{"delivered after seen", simulator.Fault{Kind: simulator.FaultReorder, Method: "DELIVERY"}},
		{"delivered twice", simulator.Fault{Kind: simulator.FaultDuplicate, Method: "DELIVERY"}},
		{"seen twice", simulator.Fault{Kind: simulator.FaultLostAnswer, Method: "SEEN"}},
		{"forged at first", simulator.Fault{Kind: simulator.FaultBadSignature, Method: "SEEN"}},
		{"never delivered", simulator.Fault{Kind: simulator.FaultDrop, Method: "DELIVERY"}},
	} {
		c.fault.Count = 1
		if _, err := d.sim.Fault(c.fault); err != nil {
			t.Fatal(err)
		}
		sent := d.op.send(map[string]any{"chat_id": d.chat, "client_id": c.name, "kind": "text", "text": c.name})
		d.op.message("read "+c.name, func(m *message.Message) bool { return m.ID == sent.ID && m.Status == message.StatusRead })
		if i == 0 { // delivered is on its way still
			polled(t, "late report", patience, func() bool { return len(d.acct.Callbacks("DELIVERY")) == 1 && d.acct.Pending() == 0 })
		}
	}
	d.who.SendText("all seen")
	d.op.message("last", func(m *message.Message) bool { return m.Text == "all seen" })
	for _, m := range d.history(d.chat) {
		if m.Direction == message.Out && m.Status != message.StatusRead {
			t.Errorf("%s is %s", m.Text, m.Status)
		}
	}
	for code, kind := range map[int]message.ErrorKind{7013: message.ErrUnavailable, 7022: message.ErrInvalid, 7011: message.ErrAccount} {
		if _, err := d.sim.Fault(simulator.Fault{Kind: simulator.FaultError, Method: "text", Code: code, Count: 1}); err != nil {
			t.Fatal(err)
		}
		d.fails(d.chat, fmt.Sprint(code), map[string]any{"kind": "text", "text": fmt.Sprint(code)}, kind, fmt.Sprint(code))
	}
	if _, err := d.sim.Fault(simulator.Fault{Kind: simulator.FaultBlocked, Method: "text", Count: 1}); err != nil {
		t.Fatal(err)
	}
	d.fails(d.chat, "blocked", map[string]any{"kind": "text", "text": "blocked"}, message.ErrRecipient, "7003")
}
