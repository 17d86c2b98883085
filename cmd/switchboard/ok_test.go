package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
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

const (
	okToken  = "tkn18YdUJZe:CQABPOJKAKEKEKEKE"
	okSecret = "3f9c1e7a5b2d4086aa55bb66cc77dd88"
)

func okDo(action string, a simulator.OKAction) func(*simulator.OKCustomer) (simulator.Sent, error) {
	return func(c *simulator.OKCustomer) (simulator.Sent, error) { return c.Do(action, a) }
}

// Everything that a customer of OK can do reaches the operators, files fetched.
func TestOKInbound(t *testing.T) {
	t.Parallel()
	w := start(t)
	acct := w.sim.OK(okToken)
	w.account("ok", okToken, map[string]string{"secret": okSecret})
	in := lookOn(w)
	type a = simulator.OKAction
	type steps = []func(*simulator.OKCustomer) (simulator.Sent, error)
	contents := func(c ...message.Content) []message.Content { return c }
	with := func(c message.Content, change func(*message.Content)) []message.Content {
		change(&c)
		return contents(c)
	}
	picture := message.File{Kind: message.KindImage, Name: "image.jpg", Mime: "image/jpeg", State: message.FileReady}
	album := file(message.KindImage, "all", picture)
	album.Files = []message.File{picture, picture, picture, picture, picture}
	keys := map[string]any{"kind": "text", "text": "well?", "keyboard": map[string]any{"kind": "inline", "rows": []any{[]any{
		map[string]any{"text": "Good", "payload": "csat:5"}, map[string]any{"text": "Bad"}}}}}
	runInbound(t, in, acct.NewCustomer, []inboundCase[*simulator.OKCustomer]{
		{name: "text", do: steps{okDo("text", a{Text: "Добрый день 👩🏽‍💻 שלום"})}, want: contents(text("Добрый день 👩🏽‍💻 שלום"))},
		{name: "old callback", do: steps{okDo("text", a{Text: "named"}), okDo("text", a{Text: "nameless", Old: true})}, want: contents(text("named"), text("nameless"))},
		{name: "picture", do: steps{okDo("photo", a{Text: "scratched here"})}, want: contents(file(message.KindImage, "scratched here", picture))},
		{name: "album", do: steps{okDo("album", a{Count: 5, Text: "all"})}, want: contents(album)},
		{name: "video", do: steps{okDo("video", a{Text: "how it works"})}, want: contents(file(message.KindVideo, "how it works", message.File{Name: "video.mp4", Mime: "video/mp4"}))},
		{name: "voice", do: steps{okDo("voice", a{})}, want: contents(file(message.KindVoice, "", message.File{Name: "audio.mp3", Mime: "audio/mpeg"}))},
		{name: "document", do: steps{okDo("document", a{File: simulator.FileSpec{Name: "договор.pdf"}})}, want: contents(file(message.KindDocument, "", message.File{Name: "договор.pdf", Mime: "application/pdf"}))},
		{name: "sticker", do: steps{okDo("sticker", a{})}, want: contents(file(message.KindSticker, "", message.File{Name: "sticker.png", Mime: "image/png"}))},
		{name: "present", do: steps{okDo("present", a{})}, want: contents(unsupported("PRESENT"))},
		{name: "contact", do: steps{okDo("contact", a{Name: "Boris", Phone: "79990001122"})}, nobody: "+79990001122",
			want: contents(message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: "Boris", Phone: "+79990001122"}})},
		{name: "location", do: steps{okDo("location", a{})}, want: contents(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 55.751244, Lon: 37.618423}})},
		{name: "share", do: steps{okDo("share", a{})}, want: contents(text("https://shop.example.com/item/5"))},
		{name: "music", do: steps{okDo("music", a{Text: "listen"})}, want: contents(text("listen\nhttps://ok.ru/music/track/123456"))},
		{name: "call", do: steps{okDo("call", a{})}, want: with(serviceLine("call"), func(c *message.Content) { c.Payload = "AUDIO MISSED" })},
		{name: "forward", do: steps{okDo("forward", a{})}, want: contents(unsupported("empty message (a forwarded one arrives so)"))},
		{name: "kind of the future", do: steps{okDo("unknown", a{Text: "seen?"})}, want: with(unsupported("HOLOGRAM"), func(c *message.Content) { c.Text = "seen?" })},
		{name: "event of the future", do: steps{okDo("text", a{Text: "hi"}), okDo("unknown_event", a{})}, want: contents(text("hi"), unsupported("MESSAGE_EDITED"))},
		{name: "started", do: steps{okDo("start", a{Payload: "campaign-17"})}, unreachable: true, want: with(serviceLine("started"), func(c *message.Content) { c.Payload = "campaign-17" })},
		{name: "button", ours: keys, reply: 2, do: steps{okDo("press", a{Data: "Good"})}, want: contents(message.Content{Kind: message.KindButton, Button: &message.Button{Payload: "csat:5"}})},
		{name: "button without payload", ours: keys, reply: 2, do: steps{okDo("press", a{Data: "Bad"})}, want: contents(message.Content{Kind: message.KindButton, Button: &message.Button{Payload: "Bad"}})},
		{name: "reply", ours: map[string]any{"kind": "text", "text": "which one?"}, reply: 2, want: contents(text("this")), do: steps{
			func(c *simulator.OKCustomer) (simulator.Sent, error) {
				return c.Do("reply", a{Text: "this", ReplyTo: c.Messages()[0].ID})
			}}},
	})
	checkCallbacks(t, acct)
}

// okDesk is a system with an account of OK and an operator who talks to a customer.
type okDesk struct {
	*inbound
	t       *testing.T
	account string
	acct    *simulator.OKAccount
	who     *simulator.OKCustomer
	chat    string
}

func newOKDesk(t *testing.T) *okDesk {
	t.Helper()
	w := start(t)
	d := &okDesk{t: t, acct: w.sim.OK(okToken)}
	d.account = w.account("ok", okToken, map[string]string{"secret": okSecret})
	d.inbound = lookOn(w)
	d.who = d.acct.Customer("123456789012")
	d.who.SendText("hello")
	d.chat = d.op.message("hello", func(m *message.Message) bool { return m.Text == "hello" }).ChatID
	d.op.call("chat.accept", map[string]any{"chat_id": d.chat}, nil)
	return d
}

// okSends are the requests that send; looking through a chat's history has the same path.
func okSends(acct *simulator.OKAccount) []simulator.Request {
	return slices.DeleteFunc(acct.Requests("me/messages"), func(r simulator.Request) bool { return r.HTTPMethod == http.MethodGet })
}

// Everything that an operator sends reaches OK as its documents ask for it.
func TestOKOutbound(t *testing.T) {
	t.Parallel()
	d := newOKDesk(t)
	type object = map[string]any
	ids := map[string]string{}
	for _, name := range []string{"cat.jpg", "cat.png", "hi.webp", "clip.mp4", "bill.pdf", "song.mp3", "say.ogg"} {
		ids[name] = d.upload(d.token, name, fileBytes(t, name))
	}
	keyboard := object{"kind": "inline", "rows": [][]object{{{"text": "Yes", "payload": "y"}, {"text": "No"}}, {{"text": "Site", "action": "url", "url": "https://shop.example.com/?a=1&b=2"}}}}
	const keys = `{"type":"INLINE_KEYBOARD","payload":{"keyboard":{"buttons":[[{"type":"CALLBACK","text":"Yes","intent":"DEFAULT","payload":"y"},{"type":"CALLBACK","text":"No","intent":"DEFAULT","payload":"No"}],[{"type":"LINK","text":"Site","intent":"DEFAULT","url":"https://shop.example.com/?a=1&b=2"}]]}}}`
	long := strings.Repeat("я", 4001)
	for _, c := range []struct {
		name   string
		params object
		files  []string
		want   []string // messages; TOKEN stands for an upload's
		sent   []string // files as OK got them
	}{
		{"text", object{"kind": "text", "text": "Price < 5 & \"more\" 😀"}, nil, []string{`{"text":"Price < 5 & \"more\" 😀"}`}, nil},
		{"long text", object{"kind": "text", "text": long}, nil, []string{`{"text":"` + long[:8000] + `"}`, `{"text":"я"}`}, nil},
		{"buttons", object{"kind": "text", "text": "Well?", "keyboard": keyboard}, nil, []string{`{"text":"Well?","attachments":[` + keys + `]}`}, nil},
		{"picture", object{"kind": "image", "text": "look"}, []string{"cat.jpg"}, []string{`{"text":"look","attachments":[{"type":"IMAGE","payload":{"token":"TOKEN"}}]}`}, []string{"image/jpeg"}},
		{"picture without caption, with buttons", object{"kind": "image", "keyboard": keyboard}, []string{"cat.png"},
			[]string{`{"text":"cat.png","attachments":[{"type":"IMAGE","payload":{"token":"TOKEN"}},` + keys + `]}`}, []string{"image/png"}},
		{"two pictures", object{"kind": "image", "text": "both"}, []string{"cat.jpg", "cat.png"},
			[]string{`{"text":"both","attachments":[{"type":"IMAGE","payload":{"token":"TOKEN"}},{"type":"IMAGE","payload":{"token":"TOKEN"}}]}`}, nil}, // uploaded already
		{"picture of another format", object{"kind": "image"}, []string{"hi.webp"}, []string{`{"text":"hi.webp","attachments":[{"type":"FILE","payload":{"token":"TOKEN"}}]}`}, []string{"image/webp"}},
		{"video", object{"kind": "video", "text": "how"}, []string{"clip.mp4"}, []string{`{"text":"how","attachments":[{"type":"VIDEO","payload":{"token":"TOKEN"}}]}`}, []string{"video/mp4"}},
		{"document", object{"kind": "document", "text": "your bill"}, []string{"bill.pdf"}, []string{`{"text":"your bill","attachments":[{"type":"FILE","payload":{"token":"TOKEN"}}]}`}, []string{"application/pdf"}},
		{"audio", object{"kind": "audio"}, []string{"song.mp3"}, []string{`{"text":"song.mp3","attachments":[{"type":"AUDIO","payload":{"token":"TOKEN"}}]}`}, []string{"audio/mpeg"}},
		{"voice", object{"kind": "voice"}, []string{"say.ogg"}, []string{`{"text":"say.ogg","attachments":[{"type":"AUDIO","payload":{"token":"TOKEN"}}]}`}, []string{"audio/ogg"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, uploads := len(okSends(d.acct)), len(d.acct.Requests("upload"))
			c.params["chat_id"], c.params["client_id"] = d.chat, c.name
			var files []string
			for _, name := range c.files {
				files = append(files, ids[name])
			}
			if files != nil {
				c.params["files"] = files
			}
			m := d.op.send(c.params)
			if m.Status != message.StatusSent || m.PlatformMessageID == nil || !strings.HasPrefix(*m.PlatformMessageID, "mid:") {
				t.Errorf("message = %s", asJSON(m))
			}
			requests := okSends(d.acct)[before:]
			if len(requests) != len(c.want) {
				t.Fatalf("%d messages, want %d", len(requests), len(c.want))
			}
			for i, r := range requests {
				var body struct {
					Recipient map[string]string
					Message   json.RawMessage
				}
				if err := json.Unmarshal(r.Body, &body); err != nil {
					t.Fatal(err)
				}
				if len(body.Recipient) != 1 || body.Recipient["chat_id"] != d.who.Chat() || r.Path != "/ok/graph/me/messages/"+d.who.Chat() || r.Code != 0 {
					t.Errorf("to %v at %s: %d", body.Recipient, r.Path, r.Code)
				}
				if got := okTokens(string(body.Message)); !sameJSON(t, "m "+got, "m "+c.want[i]) {
					t.Errorf("got  %s\nwant %s", got, c.want[i])
				}
			}
			sent := []string{}
			for i, r := range d.acct.Requests("upload")[uploads:] {
				sent = append(sent, r.Files[0].MIME)
				if want := fileBytes(t, c.files[i]); r.Files[0].Name != c.files[i] || r.Files[0].Size != int64(len(want)) {
					t.Errorf("file = %+v, want %d bytes of %s", r.Files[0], len(want), c.files[i])
				}
			}
			if !slices.Equal(sent, c.sent) && len(sent)+len(c.sent) > 0 {
				t.Errorf("uploads of %v, want %v", sent, c.sent)
			}
		})
	}
	for _, m := range d.who.Messages() {
		if len(m.Warnings) > 0 {
			t.Errorf("%s is doubtful: %v", m.ID, m.Warnings)
		}
	}

	t.Run("reply", func(t *testing.T) {
		hello := d.history(d.chat)[0]
		d.op.send(map[string]any{"chat_id": d.chat, "client_id": "reply", "kind": "text", "text": "hello to you", "reply_to": hello.ID})
		if all := d.who.Messages(); all[len(all)-1].ReplyTo != *hello.PlatformMessageID {
			t.Errorf("reply to %q", all[len(all)-1].ReplyTo)
		}
	})

	t.Run("the customer can't be written to", func(t *testing.T) {
		if _, err := d.who.Do("block", simulator.OKAction{}); err != nil {
			t.Fatal(err)
		}
		var r struct{ Message message.Message }
		d.op.call("message.send", map[string]any{"chat_id": d.chat, "client_id": "blocked", "kind": "text", "text": "hello?"}, &r)
		failed := d.op.message("failure", func(m *message.Message) bool { return m.ID == r.Message.ID && m.Status == message.StatusFailed })
		if failed.Error == nil || failed.Error.Kind != message.ErrRecipient || failed.Error.Code != "7" {
			t.Errorf("error = %+v", failed.Error)
		}
		var chat switchboard.Chat
		d.rest("GET", "/api/v1/chats/"+d.chat, d.token, nil, 200, &chat)
		if chat.Customer.Reachable {
			t.Error("the customer is still reachable")
		}
	})
}

// okTokens replaces attachments' tokens.
func okTokens(s string) string {
	for _, begin := range []string{`"token":"`} {
		parts := strings.Split(s, begin)
		for i := 1; i < len(parts); i++ {
			if end := strings.IndexByte(parts[i], '"'); end >= 0 {
				parts[i] = "TOKEN" + parts[i][end:]
			}
		}
		s = strings.Join(parts, begin)
	}
	return s
}

// What OK does not offer is refused at once, with the name of what is missing.
func TestOKRefuses(t *testing.T) {
	t.Parallel()
	d := newOKDesk(t)
	type object = map[string]any
	sticker := d.upload(d.token, "hi.webp", fileBytes(t, "hi.webp"))
	button := [][]object{{{"text": "Yes", "payload": "y"}}}
	wide := []object{}
	for range 8 {
		wide = append(wide, object{"text": "x"})
	}
	ours := d.op.send(object{"chat_id": d.chat, "client_id": "ours", "kind": "text", "text": "ours"})
	before := len(okSends(d.acct))
	for name, c := range map[string]struct {
		params object
		code   int
	}{
		"reply keyboard":      {object{"kind": "text", "text": "x", "keyboard": object{"kind": "reply", "rows": button}}, 1003},
		"removed keyboard":    {object{"kind": "text", "text": "x", "keyboard": object{"kind": "remove"}}, 1003},
		"phone button":        {object{"kind": "text", "text": "x", "keyboard": object{"kind": "inline", "rows": [][]object{{{"text": "x", "action": "phone"}}}}}, 1003},
		"place button":        {object{"kind": "text", "text": "x", "keyboard": object{"kind": "inline", "rows": [][]object{{{"text": "x", "action": "location"}}}}}, 1003},
		"sticker":             {object{"kind": "sticker", "files": []string{sticker}}, 1003},
		"contact":             {object{"kind": "contact", "contact": object{"name": "Service", "phone": "+78000000000"}}, 1003},
		"location":            {object{"kind": "location", "location": object{"lat": 55.75, "lon": 37.61}}, 1003},
		"template":            {object{"kind": "template", "template": object{"name": "x", "language": "ru"}}, 1003},
		"wide keyboard":       {object{"kind": "text", "text": "x", "keyboard": object{"kind": "inline", "rows": [][]object{wide}}}, 1004},
		"long title":          {object{"kind": "text", "text": "x", "keyboard": object{"kind": "inline", "rows": [][]object{{{"text": strings.Repeat("x", 31)}}}}}, 1004},
		"long payload":        {object{"kind": "text", "text": "x", "keyboard": object{"kind": "inline", "rows": [][]object{{{"text": "x", "payload": strings.Repeat("x", 1001)}}}}}, 1004},
		"more than ten texts": {object{"kind": "text", "text": strings.Repeat("я", 40_001)}, 1004},
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
	if err := d.op.try("chat.start", object{"account_id": d.account, "phone": "+79990001122"}, nil); err == nil {
		t.Error("a chat is started by an unknown phone")
	}
	if err := d.op.try("chat.start", object{"account_id": d.account, "external_id": "ann@ok"}, nil); err == nil {
		t.Error("a chat is started with what is no id of OK")
	}
	if n := len(okSends(d.acct)) - before; n != 0 {
		t.Errorf("%d messages went out", n)
	}
	var caps message.Capabilities
	d.rest("GET", "/api/v1/accounts/"+d.account+"/capabilities", d.token, nil, 200, &caps)
	if caps.ReplyKeyboard || caps.Edit || caps.Delete || caps.Delivered || caps.Read || caps.OperatorAvatar || caps.RequestPhone || caps.Forward ||
		!caps.StartByID || !slices.Contains(caps.Send, message.KindImage) || !slices.Contains(caps.Receive, message.KindVideo) {
		t.Errorf("capabilities = %+v", caps)
	}
}

// An operator begins by a user's id, with its prefix or without.
func TestOKStart(t *testing.T) {
	t.Parallel()
	d := newOKDesk(t)
	friend := d.acct.Customer("777")
	stranger, err := d.acct.NewCustomer(simulator.CustomerSpec{ID: "888"})
	if err != nil {
		t.Fatal(err)
	}
	for external, want := range map[string]message.Status{friend.ID(): message.StatusSent, "888": message.StatusFailed} {
		var started struct{ Chat switchboard.Chat }
		d.op.call("chat.start", map[string]any{"account_id": d.account, "external_id": external}, &started)
		var r struct{ Message message.Message }
		d.op.call("message.send", map[string]any{"chat_id": started.Chat.ID, "client_id": external, "kind": "text", "text": "good morning"}, &r)
		d.op.message(string(want)+" to "+external, func(m *message.Message) bool { return m.ID == r.Message.ID && m.Status == want })
	}
	if m := friend.Messages(); len(m) != 1 || m[0].Text != "good morning" || len(stranger.Messages()) != 0 {
		t.Errorf("the friend sees %+v, the stranger %+v", m, stranger.Messages())
	}
}

// A conversation begun by a user's id goes on when the user answers, although
// OK's key of it is another; whoever has answered is found by the id, too.
func TestOKAnswerToStart(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"user:777", "777"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			d := newOKDesk(t)
			friend := d.acct.Customer("777")
			_, key, err := d.sys.admin.AddAPIKey(t.Context(), "test", "script")
			if err != nil {
				t.Fatal(err)
			}
			start := func(external string) switchboard.Chat {
				var started struct{ Chat switchboard.Chat }
				d.op.call("chat.start", map[string]any{"account_id": d.account, "external_id": external}, &started)
				return started.Chat
			}
			chat := start(form)
			out := d.op.send(map[string]any{"chat_id": chat.ID, "client_id": "1", "kind": "text", "text": "good morning"})
			if _, err := friend.Do("text", simulator.OKAction{Text: "hello to you"}); err != nil {
				t.Fatal(err)
			}
			in := d.op.message("the answer", func(m *message.Message) bool { return m.Text == "hello to you" })
			if in.ChatID != chat.ID || in.Seq != out.Seq+1 {
				t.Errorf("the answer is message %d of chat %s, want %d of %s", in.Seq, in.ChatID, out.Seq+1, chat.ID)
			}
			for _, external := range []string{"777", "user:777"} {
				if again := start(external); again.ID != chat.ID || again.Customer.Name == "" {
					t.Errorf("begun again by %s: chat %+v, want %s", external, again, chat.ID)
				}
			}
			var r struct{ ID string }
			d.rest("POST", "/api/v1/messages", key, map[string]any{"account_id": d.account, "to": map[string]any{"external_id": "777"}, "text": "by script"}, 202, &r)
			d.op.message("the script's message", func(m *message.Message) bool {
				return m.ID == r.ID && m.ChatID == chat.ID && m.Status == message.StatusSent
			})
			if got := friend.Messages(); len(got) != 2 || got[1].Text != "by script" {
				t.Errorf("the friend sees %+v", got)
			}
		})
	}
}

// OK's errors and a bad line: what can be repeated is, once and in order.
func TestOKFaults(t *testing.T) {
	t.Parallel()
	d := newOKDesk(t)
	for i, f := range []simulator.Fault{
		{Kind: simulator.FaultError, Code: 2},
		{Kind: simulator.FaultHTML},
		{Kind: simulator.FaultThrottle, RetryAfter: 1},
		{Kind: simulator.FaultCut},
		{Kind: simulator.FaultCutAfter}, // arrived, and is found in the chat
		{Kind: simulator.FaultSlow, Delay: simulator.Delay(300 * time.Millisecond)},
	} {
		f.Method, f.Count = "me/messages", 1
		if _, err := d.sim.Fault(f); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint("message ", i)
		d.op.send(map[string]any{"chat_id": d.chat, "client_id": text, "kind": "text", "text": text})
		if all := d.who.Messages(); len(all) != i+1 || all[i].Text != text {
			t.Fatalf("after %s the customer sees %d messages", f.Kind, len(all))
		}
	}
	// The file is not ready at once; it is uploaded once all the same.
	if _, err := d.sim.Fault(simulator.Fault{Kind: simulator.FaultError, Code: 100, Description: "PARAM : attachment is still processing", Method: "me/messages", Count: 1}); err != nil {
		t.Fatal(err)
	}
	id := d.upload(d.token, "clip.mp4", fileBytes(t, "clip.mp4"))
	d.op.send(map[string]any{"chat_id": d.chat, "client_id": "video", "kind": "video", "files": []string{id}})
	if n := len(d.acct.Requests("upload")); n != 1 {
		t.Errorf("%d uploads", n)
	}
	// Twice, late, and again because the answer was lost: each is seen once.
	for _, kind := range []string{simulator.FaultDuplicate, simulator.FaultLostAnswer} {
		if _, err := d.sim.Fault(simulator.Fault{Kind: kind, Count: 1, Method: "MESSAGE_CREATED"}); err != nil {
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
	// A token that no longer works pauses the account; its queue is kept.
	if _, err := d.sim.Fault(simulator.Fault{Kind: simulator.FaultUnauthorized, Method: "me/messages", Count: 1}); err != nil {
		t.Fatal(err)
	}
	d.op.call("message.send", map[string]any{"chat_id": d.chat, "client_id": "expired", "kind": "text", "text": "later"}, nil)
	polled(t, "paused account", patience, func() bool { return d.inbound.account(d.account).State == switchboard.AccountPaused })
}

// Who does not know the secret is not believed.
func TestOKWebhook(t *testing.T) {
	t.Parallel()
	d := newOKDesk(t)
	body := `{"webhookType":"MESSAGE_CREATED","sender":{"user_id":"user:123456789012"},"recipient":{"chat_id":"` + d.who.Chat() + `"},"message":{"text":"forged","mid":"mid:forged.1"}}`
	for query, want := range map[string]int{"": 401, "?secret=": 401, "?secret=" + okSecret + "0": 403, "?secret=" + okSecret[1:]: 403, "?other=" + okSecret: 401} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", d.http+"/webhooks/ok/"+d.account+query, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != want || bytes.Contains(text, []byte(okSecret)) {
			t.Errorf("%q: %d %s, want %d", query, res.StatusCode, text, want)
		}
	}
	d.who.SendText("last")
	d.op.message("last", func(m *message.Message) bool { return m.Text == "last" })
	if n := len(d.history(d.chat)); n != 2 {
		t.Errorf("%d messages in the chat", n)
	}
	if subs := d.acct.Subscriptions(); len(subs) != 1 || !strings.HasSuffix(subs[0], "/webhooks/ok/"+d.account+"?secret="+okSecret) {
		t.Errorf("subscribed: %q", subs)
	}
}

// While nothing of ours ran OK forgot the webhook, and a customer wrote: the
// next process subscribes again and the message arrives, once, before the new one.
func TestOKUpkeep(t *testing.T) {
	t.Parallel()
	sim, base := simtest.Start(t)
	database, key := dbtest.URLOf(t), bytes.Repeat([]byte{5}, secret.KeySize)
	acct := sim.OK(okToken)
	w := startOn(t, sim, base, database, key, func(*config.Config) {})
	id := w.account("ok", okToken, nil)
	who := acct.Customer("")
	who.SendText("heard")
	in := lookOn(w)
	polled(t, "heard message", patience, func() bool { return acct.Pending() == 0 })
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	acct.Forget()
	if !who.SendText("missed").Dropped {
		t.Fatal("OK still calls")
	}
	w = startOn(t, sim, base, database, key, func(*config.Config) {})
	in = &inbound{w, in.token, w.connect(in.token, nil)}
	missed := in.op.message("missed message", func(m *message.Message) bool { return m.Text == "missed" })
	if who.SendText("new").Dropped {
		t.Fatal("not subscribed again")
	}
	in.op.message("new message", func(m *message.Message) bool { return m.Text == "new" })
	var texts []string
	for _, m := range in.history(missed.ChatID) {
		texts = append(texts, m.Text)
	}
	if !slices.Equal(texts, []string{"heard", "missed", "new"}) {
		t.Errorf("operators see %q", texts)
	}
	if subs := acct.Subscriptions(); len(subs) != 1 || !strings.Contains(subs[0], "/webhooks/ok/"+id+"?secret=") {
		t.Errorf("subscribed: %q", subs)
	}
}
