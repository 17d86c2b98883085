package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"switchboard"
	"switchboard/config"
	"switchboard/internal/dbtest"
	"switchboard/internal/secret"
	"switchboard/internal/zktest"
	"switchboard/message"
	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

// inbound is a system with an administrator who looks on.
type inbound struct {
	*world
	token string
	op    *client
}

func lookOn(w *world) *inbound {
	w.t.Helper()
	token := w.operator("root", switchboard.RoleAdmin)
	return &inbound{w, token, w.connect(token, nil)}
}

// holds waits until cond, called under the client's lock, is true.
func (in *inbound) holds(limit time.Duration, cond func(events []event) bool) bool {
	deadline := time.After(limit)
	for {
		in.op.mu.Lock()
		ok, changed := cond(in.op.events), in.op.changed
		in.op.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-deadline:
			in.op.mu.Lock()
			in.t.Logf("%d events came; the connection's end: %v", len(in.op.events), in.op.closed)
			in.op.mu.Unlock()
			return false
		}
	}
}

// from picks the newest version of each message of the customer, in the order
// in which the hub announced them, and how often each was announced as new.
func from(events []event, customer string) (list []message.Message, news map[string]int) {
	news = map[string]int{}
	at := map[string]int{}
	chat := ""
	for _, e := range events {
		if e.Message == nil || (e.Message.Sender.Name != customer && e.ChatID != chat) {
			continue
		}
		chat = e.ChatID
		if e.Type == "message.new" {
			news[e.Message.ID]++
		}
		if i, ok := at[e.Message.ID]; ok {
			list[i] = *e.Message
			continue
		}
		at[e.Message.ID] = len(list)
		list = append(list, *e.Message)
	}
	return list, news
}

// history is the whole chat, oldest first.
func (in *inbound) history(chat string) []message.Message {
	in.t.Helper()
	var all []message.Message
	for {
		var page struct{ Items []message.Message }
		in.rest("GET", fmt.Sprintf("/api/v1/chats/%s/messages?limit=200&after_seq=%d", chat, len(all)), in.token, nil, 200, &page)
		all = append(all, page.Items...)
		if len(page.Items) < 200 {
			return all
		}
	}
}

// essence is what a message says, as JSON, without what differs from run to run.
func essence(list []message.Message) string {
	contents := []message.Content{}
	for _, m := range list {
		c := m.Content
		c.Files = append([]message.File(nil), c.Files...)
		for i := range c.Files {
			c.Files[i].ID, c.Files[i].Size = "", 0
			if strings.HasPrefix(c.Files[i].Name, "file_") { // the platform's own numbers
				c.Files[i].Name = "file" + path.Ext(c.Files[i].Name)
			}
		}
		for i := range c.Forwarded {
			c.Forwarded = []message.Forward{c.Forwarded[i]}
			c.Forwarded[i].At = nil
		}
		if c.Album != "" {
			c.Album = "album"
		}
		contents = append(contents, c)
	}
	return asJSON(contents)
}

func asJSON(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return b.String()
}

// download fetches a file with the operator's session.
func (in *inbound) download(t *testing.T, id string) ([]byte, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", in.http+"/files/"+id, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+in.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Errorf("GET /files/%s: %d %v", id, res.StatusCode, err)
	}
	return b, res.Header
}

type inboundCustomer interface {
	ID() string
	SendText(string) simulator.Sent
}

// inboundCase is something that customers do, and what the operators see of it.
type inboundCase[C inboundCustomer] struct {
	name string // and the customer's
	spec simulator.CustomerSpec
	// ours is what an operator sends first, in answer to a hello.
	ours map[string]any
	do   []func(C) (simulator.Sent, error)
	want []message.Content
	// reply is the seq that the last message replies to.
	reply int64
	phone string // that the phone book has now
	// nobody: the phone book must not have this one.
	nobody      string
	unreachable bool
}

// checkCallbacks wants every callback taken, with an empty answer where no other is
// asked for. One that a stalled machine did not answer in time, or put off with 503,
// is repeated until it is.
func checkCallbacks(t *testing.T, acct simulated) {
	t.Helper()
	eventually(t, patience, "every callback is taken", func() bool { return acct.Pending() == 0 })
	for _, cb := range acct.Callbacks("") {
		switch {
		case cb.Status == 0 || cb.Status == http.StatusServiceUnavailable:
			t.Logf("callback %s: %d %s %s", cb.Event, cb.Status, cb.Answer, cb.Error)
		case cb.Status != 200 || cb.Event != "conversation_started" && cb.Answer != "":
			t.Errorf("callback %s was answered %d %q", cb.Event, cb.Status, cb.Answer)
		}
	}
}

// runInbound lets all customers act at once and then looks at what came of it.
func runInbound[C inboundCustomer](t *testing.T, in *inbound, newCustomer func(simulator.CustomerSpec) (C, error), cases []inboundCase[C]) {
	sent := make([][]simulator.Sent, len(cases))
	customers := make([]C, len(cases))
	for i, c := range cases {
		spec := c.spec
		spec.FirstName = c.name
		cu, err := newCustomer(spec)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		customers[i] = cu
		if c.ours != nil {
			cu.SendText("hello")
			hello := in.op.message("hello of "+c.name, func(m *message.Message) bool { return m.Sender.Name == c.name })
			in.op.call("chat.accept", map[string]any{"chat_id": hello.ChatID}, nil)
			params := map[string]any{"chat_id": hello.ChatID, "client_id": c.name}
			for k, v := range c.ours {
				params[k] = v
			}
			in.op.send(params)
		}
		for _, do := range c.do {
			s, err := do(cu)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if s.Dropped {
				t.Errorf("%s: the account did not want the update", c.name)
			}
			sent[i] = append(sent[i], s)
		}
	}
	deadline := time.Now().Add(patience) // for all together
	for i, c := range cases {
		skip := 0
		if c.ours != nil {
			skip = 2
		}
		var want []message.Message
		for _, content := range c.want {
			want = append(want, message.Message{Content: content})
		}
		var got []message.Message
		var news map[string]int
		ok := in.holds(time.Until(deadline), func(events []event) bool {
			got, news = from(events, c.name)
			return len(got) >= skip && essence(got[skip:]) == essence(want)
		})
		t.Run(c.name, func(t *testing.T) {
			if !ok {
				t.Fatalf("operators see %s, want %s", essence(got[min(skip, len(got)):]), essence(want))
			}
			var files []simulator.FileInfo
			var ids []string
			for _, s := range sent[i] {
				files = append(files, s.Files...)
				ids = append(ids, s.MessageIDs...)
				if len(s.MessageIDs) == 0 {
					ids = append(ids, s.MessageID)
				}
			}
			// Reports of our own message come when the platform likes.
			eventually(t, patience, "the history is what the operators saw", func() bool {
				h := asJSON(in.history(got[0].ChatID))
				in.op.mu.Lock()
				defer in.op.mu.Unlock()
				got, news = from(in.op.events, c.name)
				return h == asJSON(got)
			})
			checkInbound(t, in, customers[i].ID(), c.reply, got, news, ids, files)
			checkCustomer(t, in, got[0].ChatID, c.phone, c.nobody, c.unreachable)
		})
	}
}

func checkInbound(t *testing.T, in *inbound, external string, reply int64, got []message.Message, news map[string]int, ids []string, files []simulator.FileInfo) {
	t.Helper()
	album := got[0].Album
	for i, m := range got {
		if m.Seq != int64(i+1) || news[m.ID] != 1 {
			t.Errorf("message %d has seq %d and was announced %d times", i+1, m.Seq, news[m.ID])
		}
		if m.Direction == message.Out {
			continue
		}
		if m.Status != message.StatusReceived || m.Sender.Kind != message.SenderCustomer || m.Sender.ID == "" || m.AccountID == "" || m.PlatformMessageID == nil || m.CreatedAt.IsZero() || m.Error != nil {
			t.Errorf("message %d = %s", i+1, asJSON(m))
		}
		if m.Album != album {
			t.Errorf("message %d is of album %q, the first of %q", i+1, m.Album, album)
		}
		for _, f := range m.Files {
			if f.State != message.FileReady {
				continue
			}
			b, header := in.download(t, f.ID)
			sum := sha256.Sum256(b)
			if int64(len(b)) != f.Size || header.Get("Content-Type") != f.Mime {
				t.Errorf("file %s has %d bytes, of type %q", asJSON(f), len(b), header.Get("Content-Type"))
			}
			if tag := header.Get("ETag"); !strings.Contains(tag, hex.EncodeToString(sum[:])) {
				t.Errorf("ETag %s is not of the bytes", tag)
			}
			if len(files) > 0 && f == m.Files[0] {
				if files[0].SHA256 != hex.EncodeToString(sum[:]) {
					t.Errorf("file %s is not the one that was sent: %s", asJSON(f), asJSON(files[0]))
				}
				files = files[1:]
			}
		}
	}
	last := got[len(got)-1]
	switch {
	case reply == 0 && last.ReplyTo != nil:
		t.Errorf("reply_to = %s", *last.ReplyTo)
	case reply != 0 && (last.ReplyTo == nil || *last.ReplyTo != got[reply-1].ID):
		t.Errorf("reply_to = %v, want %s", last.ReplyTo, got[reply-1].ID)
	}
	for i, m := range got[len(got)-min(len(ids), len(got)):] {
		if id := ids[i]; id != "" && len(ids) <= len(got) && *m.PlatformMessageID != id && !strings.HasSuffix(*m.PlatformMessageID, ":"+id) {
			t.Errorf("platform_message_id = %s, want %s", *m.PlatformMessageID, id)
		}
	}
	var chat switchboard.Chat
	in.rest("GET", "/api/v1/chats/"+got[0].ChatID, in.token, nil, 200, &chat)
	if chat.Customer == nil || chat.LastSeq != last.Seq || chat.LastMessage == nil || chat.LastMessage.ID != last.ID {
		t.Errorf("chat = %s", asJSON(chat))
	} else if !strings.HasPrefix(external, "-") && chat.Customer.ExternalID != external {
		t.Errorf("external_id = %s, want %s", chat.Customer.ExternalID, external)
	}
}

func checkCustomer(t *testing.T, in *inbound, chatID, phone, nobody string, unreachable bool) {
	t.Helper()
	var chat switchboard.Chat
	in.rest("GET", "/api/v1/chats/"+chatID, in.token, nil, 200, &chat)
	if chat.Customer.Reachable == unreachable || chat.Customer.Phone != phone {
		t.Errorf("customer = %s, want phone %q, unreachable %v", asJSON(chat.Customer), phone, unreachable)
	}
	for number, want := range map[string]bool{phone: true, nobody: false} {
		if number == "" {
			continue
		}
		var book struct{ Items []switchboard.PhoneEntry }
		in.rest("GET", "/api/v1/customers?phone="+strings.TrimPrefix(number, "+"), in.token, nil, 200, &book)
		found := false
		for _, e := range book.Items {
			found = found || e.ChatID == chatID && e.CustomerID == chat.Customer.ID
		}
		if found != want {
			t.Errorf("the phone book has %s for %s: %v, want %v", asJSON(book.Items), number, found, want)
		}
	}
}

func tg(action string, a simulator.TelegramAction) func(*simulator.TelegramCustomer) (simulator.Sent, error) {
	return func(c *simulator.TelegramCustomer) (simulator.Sent, error) { return c.Do(action, a) }
}

type tgSteps = []func(*simulator.TelegramCustomer) (simulator.Sent, error)

func tgDo(action string, a simulator.TelegramAction) tgSteps { return tgSteps{tg(action, a)} }

func text(s string) message.Content { return message.Content{Kind: message.KindText, Text: s} }

func serviceLine(name string) message.Content {
	return message.Content{Kind: message.KindService, Service: name}
}

func unsupported(name string) message.Content {
	return message.Content{Kind: message.KindUnsupported, Unsupported: name}
}

func file(kind message.Kind, caption string, f message.File) message.Content {
	f.Kind = kind
	if f.State == "" {
		f.State = message.FileReady
	}
	return message.Content{Kind: kind, Text: caption, Files: []message.File{f}}
}

// Every kind of update that the Bot API knows, and those that it doesn't yet.
func TestInboundTelegram(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.account("telegram", telegramToken, nil)
	in := lookOn(w)
	type a = simulator.TelegramAction
	type f = simulator.FileSpec
	photo := message.File{Name: "file.jpg", Mime: "image/jpeg", Width: 640, Height: 480}
	forwarded := func(name string) []message.Content {
		c := text("over there")
		c.Forwarded = []message.Forward{{From: name}}
		return []message.Content{c}
	}
	thumb := message.File{Kind: message.KindImage, Name: "file.jpg", Mime: "image/jpeg", State: message.FileReady, Width: 320, Height: 180}
	sticker := func(mime, name string, more ...message.File) []message.Content {
		c := file(message.KindSticker, "", message.File{Name: name, Mime: mime, Emoji: "👍", Width: 512, Height: 512})
		c.Files = append(c.Files, more...)
		return []message.Content{c}
	}
	album := func(c message.Content) message.Content { c.Album = "album"; return c }
	with := func(c message.Content, change func(*message.Content)) []message.Content {
		change(&c)
		return []message.Content{c}
	}
	buttons := func(kind, action string) map[string]any {
		return map[string]any{"kind": "text", "text": "well?", "keyboard": map[string]any{"kind": kind, "rows": []any{[]any{
			map[string]any{"text": "Good", "payload": "csat:5", "action": action}}}}}
	}
	cases := []inboundCase[*simulator.TelegramCustomer]{
		{name: "text", do: tgDo("text", a{Text: "Where is 😀 <b>№17</b>?\nhttps://example.com/x", Entities: json.RawMessage(`[{"type":"bold","offset":6,"length":2}]`)}),
			want: []message.Content{text("Where is 😀 <b>№17</b>?\nhttps://example.com/x")}},
		{name: "photo", do: tgDo("photo", a{Caption: "receipt"}), want: []message.Content{file(message.KindImage, "receipt", photo)}},
		{name: "document", do: tgDo("document", a{File: f{Name: "договор №1.pdf"}, Caption: "see"}),
			want: []message.Content{file(message.KindDocument, "see", message.File{Name: "договор №1.pdf", Mime: "application/pdf"})}},
		{name: "document of another type than claimed", do: tgDo("document", a{File: f{Name: "notes.txt", MIME: "text/plain", Format: "png"}}),
			want: []message.Content{file(message.KindDocument, "", message.File{Name: "notes.txt", Mime: "image/png"})}},
		{name: "audio", do: tgDo("audio", a{File: f{Duration: 201}}), want: []message.Content{file(message.KindAudio, "", message.File{Name: "audio.mp3", Mime: "audio/mpeg", Duration: 201})}},
		{name: "voice", do: tgDo("voice", a{}), want: []message.Content{file(message.KindVoice, "", message.File{Name: "file.ogg", Mime: "audio/ogg", Duration: 7})}},
		{name: "video", do: tgDo("video", a{Caption: "look"}), want: []message.Content{file(message.KindVideo, "look", message.File{Name: "video.mp4", Mime: "video/mp4", Width: 1280, Height: 720, Duration: 7})}},
		{name: "video note", do: tgDo("video_note", a{}), want: []message.Content{file(message.KindVideo, "", message.File{Name: "file.mp4", Mime: "video/mp4", Width: 384, Height: 384, Duration: 7})}},
		{name: "animation", do: tgDo("animation", a{}), want: []message.Content{file(message.KindVideo, "", message.File{Name: "animation.mp4", Mime: "video/mp4", Width: 480, Height: 270, Duration: 7})}},
		{name: "static sticker", do: tgDo("sticker", a{Type: "static"}), want: sticker("image/webp", "file.webp")},
		{name: "animated sticker", do: tgDo("sticker", a{Type: "animated"}), want: sticker("application/gzip", "file.tgs", thumb)},
		{name: "video sticker", do: tgDo("sticker", a{Type: "video"}), want: sticker("video/webm", "file.webm", thumb)},
		{name: "album", do: tgDo("album", a{Count: 4, Caption: "four"}), want: []message.Content{
			album(file(message.KindImage, "four", photo)), album(file(message.KindImage, "", photo)), album(file(message.KindImage, "", photo)), album(file(message.KindImage, "", photo))}},
		{name: "album of pictures and videos", do: tgDo("album", a{Count: 2, Type: "mixed"}), want: []message.Content{
			album(file(message.KindImage, "", photo)), album(file(message.KindVideo, "", message.File{Name: "video.mp4", Mime: "video/mp4", Width: 1280, Height: 720, Duration: 7}))}},
		{name: "reply to themselves", do: tgSteps{tg("text", a{Text: "one"}), tg("text", a{Text: "two"}), tg("text", a{Text: "as I said", ReplyTo: 1, Quote: "on"})}, reply: 1,
			want: []message.Content{text("one"), text("two"), {Kind: message.KindText, Text: "as I said", Quote: "on"}}},
		{name: "reply to us", ours: map[string]any{"kind": "text", "text": "how can I help?"}, do: tgDo("text", a{Text: "with this", ReplyTo: 2}), reply: 2, want: []message.Content{text("with this")}},
		{name: "reply to another chat", do: tgDo("text", a{Text: "is it true?", External: true}), want: with(text("is it true?"), func(c *message.Content) { c.Quote = "Новости" })},
		{name: "forward of a user", do: tgDo("text", a{Text: "over there", Forward: "user"}), want: forwarded("Пётр")},
		{name: "forward of a hidden user", do: tgDo("text", a{Text: "over there", Forward: "hidden_user", Name: "Hidden"}), want: forwarded("Hidden")},
		{name: "forward of a chat", do: tgDo("text", a{Text: "over there", Forward: "chat"}), want: forwarded("Соседи (Пётр)")},
		{name: "forward of a channel", do: tgDo("text", a{Text: "over there", Forward: "channel", Name: "ed."}), want: forwarded("Новости (ed.)")},
		{name: "edited text", do: tgSteps{tg("text", a{Text: "wher is it"}), tg("text", a{Text: "?"}), tg("edit", a{MessageID: 1, Text: "where is it"})},
			want: []message.Content{text("where is it"), text("?")}},
		{name: "edited caption", do: tgSteps{tg("photo", a{Caption: "old"}), tg("edit", a{Text: "new"})}, want: []message.Content{file(message.KindImage, "new", photo)}},
		{name: "own contact", spec: simulator.CustomerSpec{Phone: "79161112233"}, do: tgDo("contact", a{Own: true}), phone: "+79161112233",
			want: []message.Content{{Kind: message.KindContact, Contact: &message.Contact{Name: "own contact", Phone: "+79161112233", Own: true}}}},
		{name: "another's contact", do: tgDo("contact", a{Phone: "+7 (916) 444-55-66", FirstName: "Boris", LastName: "B"}), nobody: "+79164445566",
			want: []message.Content{{Kind: message.KindContact, Contact: &message.Contact{Name: "Boris B", Phone: "+79164445566"}}}},
		{name: "own contact forwarded", spec: simulator.CustomerSpec{Phone: "79167778899"}, do: tgDo("contact", a{Own: true, Forward: "user"}), nobody: "+79167778899",
			want: []message.Content{{Kind: message.KindContact, Contact: &message.Contact{Name: "own contact forwarded", Phone: "+79167778899"}, Forwarded: []message.Forward{{From: "Пётр"}}}}},
		{name: "location", do: tgDo("location", a{}), want: []message.Content{{Kind: message.KindLocation, Location: &message.Location{Lat: 55.751244, Lon: 37.618423}}}},
		{name: "venue", do: tgDo("venue", a{}), want: []message.Content{{Kind: message.KindLocation, Location: &message.Location{Lat: 55.751244, Lon: 37.618423, Title: "Кафе", Address: "Тверская, 1"}}}},
		{name: "live location", do: tgSteps{tg("location", a{Period: 900}), tg("move", a{Latitude: 55.8, Longitude: 37.7})},
			want: []message.Content{{Kind: message.KindLocation, Location: &message.Location{Lat: 55.8, Lon: 37.7, Live: true}}}},
		{name: "inline button", ours: buttons("inline", ""), do: tgDo("press", a{Data: "csat:5"}), reply: 2,
			want: []message.Content{{Kind: message.KindButton, Button: &message.Button{Payload: "csat:5", Text: "Good"}}}},
		{name: "reply button", ours: buttons("reply", ""), do: tgDo("press", a{Data: "Good"}), want: []message.Content{text("Good")}},
		{name: "phone button", spec: simulator.CustomerSpec{Phone: "79165550011"}, ours: buttons("reply", "phone"), do: tgDo("press", a{Data: "Good"}), phone: "+79165550011",
			want: []message.Content{{Kind: message.KindContact, Contact: &message.Contact{Name: "phone button", Phone: "+79165550011", Own: true}}}},
		{name: "location button", ours: buttons("reply", "location"), do: tgDo("press", a{Data: "Good"}),
			want: []message.Content{{Kind: message.KindLocation, Location: &message.Location{Lat: 55.751244, Lon: 37.618423}}}},
		{name: "start", do: tgDo("start", a{Payload: "promo_autumn"}), want: with(text("/start promo_autumn"), func(c *message.Content) { c.Payload = "promo_autumn" })},
		{name: "bare start", do: tgDo("start", a{}), want: []message.Content{text("/start")}},
		{name: "poll", do: tgDo("poll", a{}), want: with(unsupported("poll"), func(c *message.Content) { c.Text = "Как вам?" })},
		{name: "dice", do: tgDo("dice", a{}), want: with(unsupported("dice"), func(c *message.Content) { c.Text = "🎲" })},
		{name: "web app data", do: tgDo("web_app_data", a{}), want: with(unsupported("web_app_data"), func(c *message.Content) { c.Payload = `{"order":17}` })},
		{name: "story", do: tgDo("story", a{}), want: []message.Content{unsupported("story")}},
		{name: "pinned message", do: tgDo("service", a{}), want: []message.Content{unsupported("pinned_message")}},
		{name: "kind of the future", do: tgDo("unknown", a{}), want: []message.Content{unsupported("hologram")}},
		{name: "reaction", ours: map[string]any{"kind": "text", "text": "done"}, do: tgDo("react", a{}), reply: 2, want: with(serviceLine("reaction"), func(c *message.Content) { c.Text = "👍" })},
		{name: "block", do: tgSteps{tg("text", a{Text: "bye"}), tg("block", a{})}, want: []message.Content{text("bye"), serviceLine("blocked")}, unreachable: true},
		{name: "group", spec: simulator.CustomerSpec{ChatType: "group", ChatID: -500, Title: "Yard"}, do: tgDo("text", a{Text: "all of you"}), want: []message.Content{text("all of you")}},
		{name: "business message", do: tgDo("text", a{Text: "to the owner", Business: "bc1"}), want: []message.Content{text("to the owner")}},
	}
	acct := w.sim.Telegram(telegramToken)
	runInbound(t, in, acct.NewCustomer, cases)

	if got := acct.Requests("answerCallbackQuery"); len(got) != 1 || got[0].Code != 0 {
		t.Errorf("button presses were answered by %s", asJSON(got))
	}

	t.Run("back after blocking", func(t *testing.T) {
		c, err := acct.NewCustomer(simulator.CustomerSpec{FirstName: "back"})
		if err != nil {
			t.Fatal(err)
		}
		c.SendText("one")
		c.Block()
		c.SendText("here again")
		if !in.holds(patience, func(events []event) bool { got, _ := from(events, "back"); return len(got) == 3 }) {
			t.Fatal("three messages should have come")
		}
		in.op.mu.Lock()
		got, _ := from(in.op.events, "back")
		in.op.mu.Unlock()
		checkCustomer(t, in, got[0].ChatID, "", "", false)
	})

	t.Run("what can't be read", func(t *testing.T) {
		c, err := acct.NewCustomer(simulator.CustomerSpec{FirstName: "after the bad ones"})
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range []string{
			`{"message":{"message_id":1}}`, `{"message":"text"}`, `{"my_chat_member":{"chat":{"id":7}}}`,
			`{"purchased_paid_media":{"from":{"id":71,"is_bot":false,"first_name":"buyer"},"paid_media_payload":"x"}}`, `{"something":{"of":"nobody"}}`,
		} {
			if _, err := acct.Inject(raw); err != nil {
				t.Fatal(err)
			}
		}
		c.SendText("still here")
		in.op.message("message behind the bad ones", func(m *message.Message) bool { return m.Text == "still here" })
		in.op.message("update of an unknown kind", func(m *message.Message) bool {
			return m.Unsupported == "purchased_paid_media" && m.Sender.Name == "buyer"
		})
		eventually(t, patience, "the quarantine holds three", func() bool {
			var q struct{ Items []switchboard.Quarantined }
			in.rest("GET", "/api/v1/quarantine", in.token, nil, 200, &q)
			return len(q.Items) == 3
		})
	})
}

// What seldom happens on Telegram: numbers that begin anew, edits of what came
// before our time, deletions, groups that move.
func TestInboundTelegramSeldom(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.account("telegram", telegramToken, nil)
	in := lookOn(w)
	acct := w.sim.Telegram(telegramToken)
	customer := func(spec simulator.CustomerSpec) *simulator.TelegramCustomer {
		c, err := acct.NewCustomer(spec)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	texts := func(list []message.Message) (out []string) {
		for _, m := range list {
			out = append(out, fmt.Sprintf("%d %s%s%s", m.Seq, m.Text, m.Service, m.Unsupported))
		}
		return out
	}
	shows := func(name string, want ...string) (got []message.Message) {
		t.Helper()
		if !in.holds(patience, func(events []event) bool {
			got, _ = from(events, name)
			return strings.Join(texts(got), "|") == strings.Join(want, "|")
		}) {
			t.Fatalf("operators see %q, want %q", texts(got), want)
		}
		if h := in.history(got[0].ChatID); asJSON(h) != asJSON(got) {
			t.Errorf("history is %s, operators see %s", asJSON(h), asJSON(got))
		}
		return got
	}
	inject := func(format string, args ...any) {
		t.Helper()
		if _, err := acct.Inject(fmt.Sprintf(format, args...)); err != nil {
			t.Fatal(err)
		}
	}

	quiet := customer(simulator.CustomerSpec{FirstName: "quiet"})
	quiet.SendText("before the quiet week")
	shows("quiet", "1 before the quiet week")
	eventually(t, patience, "it is acknowledged", func() bool { return acct.Pending() == 0 })
	acct.SetNextUpdateID(1000)
	quiet.SendText("after it")
	quiet.SendText("and on")
	shows("quiet", "1 before the quiet week", "2 after it", "3 and on")

	const who = `"chat":{"id":%[1]d,"type":"private","first_name":%[2]q},"from":{"id":%[1]d,"is_bot":false,"first_name":%[2]q},"date":1781001200`
	inject(`{"edited_message":{"message_id":512,"edit_date":1781001260,"text":"where is it?",`+who+`}}`, 9001, "editor")
	got := shows("editor", "1 where is it?")
	if got[0].EditedAt == nil || *got[0].PlatformMessageID != "512" {
		t.Errorf("message = %s", asJSON(got[0]))
	}
	inject(`{"edited_message":{"message_id":512,"edit_date":1781001270,"text":"never mind",`+who+`}}`, 9001, "editor")
	shows("editor", "1 never mind")

	for i, text := range []string{"one", "two", "three"} {
		inject(`{"business_message":{"business_connection_id":"bc1","message_id":%[3]d,"text":%[4]q,`+who+`}}`, 9002, "deleter", 10+i, text)
	}
	shows("deleter", "1 one", "2 two", "3 three")
	inject(`{"deleted_business_messages":{"business_connection_id":"bc1","chat":{"id":9002,"type":"private"},"message_ids":[10,12,99]}}`)
	if !in.holds(patience, func(events []event) bool {
		got, _ := from(events, "deleter")
		return len(got) == 3 && got[0].DeletedAt != nil && got[1].DeletedAt == nil && got[2].DeletedAt != nil
	}) {
		t.Error("two of three messages should be marked as deleted")
	}
	shows("deleter", "1 ", "2 two", "3 ") // what was said is nobody's business any more

	yard := customer(simulator.CustomerSpec{FirstName: "gardener", ChatType: "group", ChatID: -700, Title: "Yard"})
	yard.SendText("the tree")
	const neighbour = `"chat":{"id":-700,"type":"group","title":"Yard"},"from":{"id":9004,"is_bot":false,"first_name":"neighbour"},"date":1781001200`
	inject(`{"message":{"message_id":77,"text":"which?",` + neighbour + `}}`)
	got = shows("gardener", "1 the tree", "2 which?")
	if a, b := got[0].Sender, got[1].Sender; b.Name != "neighbour" || a.ID == "" || b.ID == "" || a.ID == b.ID {
		t.Errorf("senders = %+v, %+v", a, b)
	}
	if _, err := yard.Do("migrate", simulator.TelegramAction{}); err != nil {
		t.Fatal(err)
	}
	in.op.message("the new group", func(m *message.Message) bool { return m.Service == "migrated_from" && m.Payload == "-700" })
	in.op.message("the old group", func(m *message.Message) bool { return m.Service == "migrated_to" && m.ChatID == got[0].ChatID })
}

// The same account by webhook: only with the secret, and what comes twice, too
// late or again is shown once.
func TestInboundTelegramWebhook(t *testing.T) {
	t.Parallel()
	w := start(t)
	id := w.account("telegram", telegramToken, map[string]string{"mode": "webhook"})
	in := lookOn(w)
	acct := w.sim.Telegram(telegramToken)
	kinds := []string{simulator.FaultDuplicate, simulator.FaultLostAnswer, simulator.FaultBadSignature, simulator.FaultWebhookDelay}
	for _, kind := range kinds {
		c, err := acct.NewCustomer(simulator.CustomerSpec{FirstName: kind})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.sim.Fault(simulator.Fault{Kind: kind, Customer: c.ID(), Count: 3, Delay: simulator.Delay(50 * time.Millisecond)}); err != nil {
			t.Fatal(err)
		}
		for n := range 5 {
			c.SendText(fmt.Sprint(n))
		}
	}
	for _, kind := range kinds {
		var got []message.Message
		in.holds(patience, func(events []event) bool { got, _ = from(events, kind); return len(got) >= 5 })
		for n, m := range got {
			if m.Text != fmt.Sprint(n) || m.Seq != int64(n+1) {
				t.Errorf("%s: message %d is %q with seq %d", kind, n, m.Text, m.Seq)
			}
		}
		if len(got) != 5 {
			t.Fatalf("%s: %d messages, want 5", kind, len(got))
		}
	}
	eventually(t, patience, "every callback is acknowledged", func() bool { return acct.Pending() == 0 })
	for _, kind := range kinds {
		in.op.mu.Lock()
		got, _ := from(in.op.events, kind)
		in.op.mu.Unlock()
		if h := in.history(got[0].ChatID); len(h) != 5 {
			t.Errorf("%s: history is %s", kind, asJSON(h))
		}
	}
	for secret, want := range map[string]int{"": 401, "guess": 403} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", w.http+"/webhooks/telegram/"+id, strings.NewReader(`{"update_id":1}`))
		if err != nil {
			t.Fatal(err)
		}
		if secret != "" {
			req.Header.Set("X-Telegram-Bot-Api-Secret-Token", secret)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("secret %q: %d, want %d", secret, res.StatusCode, want)
		}
	}
	if n := len(acct.Requests("getUpdates")); n != 0 {
		t.Errorf("%d polls beside the webhook", n)
	}
}

// What goes wrong with getUpdates costs time, never an update and never twice.
func TestInboundPollingFaults(t *testing.T) {
	t.Parallel()
	w := start(t)
	in := lookOn(w)
	faults := []simulator.Fault{
		{Kind: simulator.FaultThrottle, RetryAfter: 1},
		{Kind: simulator.FaultError, Status: 500, Count: 2},
		{Kind: simulator.FaultHTML, Status: 502},
		{Kind: simulator.FaultCut},
		{Kind: simulator.FaultCutAfter},
		{Kind: simulator.FaultError, Status: 409, Description: "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"},
		{Kind: simulator.FaultError, Status: 409, Description: "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"},
	}
	type bot struct {
		name string
		acct *simulator.TelegramAccount
		id   string
	}
	var bots []bot
	var customers []*simulator.TelegramCustomer
	for i, f := range faults {
		token := fmt.Sprintf("70000010%02d:AAtestTokenOfTheSimulator0123456789", i)
		acct := w.sim.Telegram(token)
		f.Account, f.Method, f.After, f.Count = token, "getUpdates", 1, max(f.Count, 1)
		if _, err := w.sim.Fault(f); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSpace(fmt.Sprintf("%s %.40s", f.Kind, f.Description))
		c, err := acct.NewCustomer(simulator.CustomerSpec{FirstName: name, Started: true})
		if err != nil {
			t.Fatal(err)
		}
		bots = append(bots, bot{name, acct, w.account("telegram", token, nil)})
		customers = append(customers, c)
		for n := range 15 {
			c.SendText(fmt.Sprint(n))
		}
	}
	for i, c := range customers {
		eventually(t, patience, bots[i].name+" has struck", func() bool { f := w.sim.Faults()[i]; return f.Applied == f.Count })
		for n := range 15 {
			c.SendText(fmt.Sprint(15 + n))
		}
	}
	deadline := time.Now().Add(patience)
	for _, b := range bots {
		var got []message.Message
		var news map[string]int
		in.holds(time.Until(deadline), func(events []event) bool { got, news = from(events, b.name); return len(got) >= 30 })
		t.Run(b.name, func(t *testing.T) {
			if len(got) != 30 {
				t.Fatalf("%d messages, want 30", len(got))
			}
			for n, m := range got {
				if m.Text != fmt.Sprint(n) || m.Seq != int64(n+1) || news[m.ID] != 1 {
					t.Errorf("message %d = %q with seq %d, announced %d times", n, m.Text, m.Seq, news[m.ID])
				}
			}
			eventually(t, patience, "all are acknowledged", func() bool { return b.acct.Pending() == 0 })
			if h := in.history(got[0].ChatID); asJSON(h) != asJSON(got) {
				t.Errorf("history is %s", asJSON(h))
			}
			if a := in.account(b.id); a.State != switchboard.AccountActive || a.Reason != "" {
				t.Errorf("account = %s", asJSON(a))
			}
		})
	}
	if got := bots[len(bots)-1].acct.Requests("deleteWebhook"); len(got) == 0 {
		t.Error("the webhook in the way was not deleted")
	}
}

func (in *inbound) account(id string) (a switchboard.Account) {
	in.t.Helper()
	in.rest("GET", "/api/v1/accounts/"+id, in.token, nil, 200, &a)
	return a
}

// A revoked token pauses the account with a reason; resumed, it gets what had
// waited.
func TestInboundRevokedToken(t *testing.T) {
	t.Parallel()
	w := start(t)
	in := lookOn(w)
	id := w.account("telegram", telegramToken, nil)
	acct := w.sim.Telegram(telegramToken)
	c, err := acct.NewCustomer(simulator.CustomerSpec{FirstName: "Anna"})
	if err != nil {
		t.Fatal(err)
	}
	c.SendText("one")
	in.op.message("first message", func(m *message.Message) bool { return m.Text == "one" })
	acct.Set(simulator.AccountOptions{Revoked: new(true)})
	c.SendText("two") // ends the poll that hangs; the next one is refused
	eventually(t, patience, "the account is paused", func() bool {
		a := in.account(id)
		return a.State == switchboard.AccountPaused && a.Reason != ""
	})
	polls := len(acct.Requests("getUpdates"))
	c.SendText("three")
	acct.Set(simulator.AccountOptions{Revoked: new(false)})
	if n := len(acct.Requests("getUpdates")); n != polls {
		t.Errorf("%d polls of a paused account", n-polls)
	}
	in.rest("POST", "/api/v1/accounts/"+id+"/resume", in.token, nil, 204, nil)
	in.op.message("last message", func(m *message.Message) bool { return m.Text == "three" })
	in.op.mu.Lock()
	got, _ := from(in.op.events, "Anna")
	in.op.mu.Unlock()
	if len(got) != 3 || got[1].Text != "two" || got[2].Seq != 3 {
		t.Errorf("messages = %s", asJSON(got))
	}
	if a := in.account(id); a.State != switchboard.AccountActive || a.Reason != "" {
		t.Errorf("account = %s", asJSON(a))
	}
}

// A restarted system polls from where it was.
func TestInboundRestart(t *testing.T) {
	t.Parallel()
	sim, base := simtest.Start(t)
	database, key := dbtest.URLOf(t), bytes.Repeat([]byte{5}, secret.KeySize)
	w := startOn(t, sim, base, database, key, func(*config.Config) {})
	id := w.account("telegram", telegramToken, nil)
	in := lookOn(w)
	acct := sim.Telegram(telegramToken)
	c, err := acct.NewCustomer(simulator.CustomerSpec{FirstName: "Anna"})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		c.SendText(fmt.Sprint(n))
	}
	last := in.op.message("tenth message", func(m *message.Message) bool { return m.Text == "9" })
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	before := acct.Requests("getUpdates")
	for n := 10; n < 20; n++ {
		c.SendText(fmt.Sprint(n))
	}
	w = startOn(t, sim, base, database, key, func(*config.Config) {})
	in = &inbound{world: w, token: in.token} // sessions outlive the process
	eventually(t, patience, "all have come", func() bool { return len(in.history(last.ChatID)) >= 20 && acct.Pending() == 0 })
	for n, m := range in.history(last.ChatID) {
		if m.Text != fmt.Sprint(n) || m.Seq != int64(n+1) {
			t.Errorf("message %d = %s", n, asJSON(m))
		}
	}
	first := acct.Requests("getUpdates")[len(before)]
	if first.Params["offset"] == "" || first.Params["offset"] == "0" {
		t.Errorf("the first poll after the restart is %s", asJSON(first))
	}
	if a := in.account(id); a.State != switchboard.AccountActive {
		t.Errorf("account = %s", asJSON(a))
	}
}

func vb(action string, a simulator.ViberAction) func(*simulator.ViberCustomer) (simulator.Sent, error) {
	return func(c *simulator.ViberCustomer) (simulator.Sent, error) { return c.Do(action, a) }
}

// Every callback of Viber.
func TestInboundViber(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.account("viber", viberToken, map[string]string{"welcome": "Hello! Ask us anything."})
	in := lookOn(w)
	type a = simulator.ViberAction
	type steps = []func(*simulator.ViberCustomer) (simulator.Sent, error)
	contents := func(c ...message.Content) []message.Content { return c }
	with := func(c message.Content, change func(*message.Content)) []message.Content {
		change(&c)
		return contents(c)
	}
	contact := func(name, phone string, own bool) message.Content {
		return message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: name, Phone: phone, Own: own}}
	}
	buttons := func(action string) map[string]any {
		return map[string]any{"kind": "text", "text": "well?", "keyboard": map[string]any{"kind": "reply", "rows": []any{[]any{
			map[string]any{"text": "Good", "payload": "csat:5", "action": action}}}}}
	}
	place := message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 54.687157, Lon: 25.279652}}
	cases := []inboundCase[*simulator.ViberCustomer]{
		{name: "text", do: steps{vb("text", a{Text: "Привіт / hi (smiley) 😀"})}, want: contents(text("Привіт / hi (smiley) 😀"))},
		{name: "picture", do: steps{vb("picture", a{Text: "scratched here"})}, want: contents(file(message.KindImage, "scratched here", message.File{Name: "picture.jpg", Mime: "image/jpeg"}))},
		{name: "video", do: steps{vb("video", a{Text: "how it works", Duration: 12})}, want: contents(file(message.KindVideo, "how it works", message.File{Name: "video.mp4", Mime: "video/mp4", Duration: 12}))},
		{name: "file", do: steps{vb("file", a{File: simulator.FileSpec{Name: "рахунок.pdf"}})}, want: contents(file(message.KindDocument, "", message.File{Name: "рахунок.pdf", Mime: "application/pdf"}))},
		{name: "file of another type than claimed", do: steps{vb("file", a{File: simulator.FileSpec{Name: "notes.txt", Format: "png", MIME: "text/plain"}})},
			want: contents(file(message.KindDocument, "", message.File{Name: "notes.txt", Mime: "image/png"}))},
		{name: "voice", do: steps{vb("voice", a{})}, want: contents(file(message.KindDocument, "", message.File{Name: "file.m4a", Mime: "audio/x-m4a"}))},
		{name: "sticker", do: steps{vb("sticker", a{})}, want: contents(file(message.KindSticker, "", message.File{Name: "40133.png", Mime: "image/png"}))},
		{name: "sticker with a textual id", do: steps{vb("sticker", a{AsString: true})}, want: contents(file(message.KindSticker, "", message.File{Name: "40133.png", Mime: "image/png"}))},
		{name: "another's contact", do: steps{vb("contact", a{Name: "Boris", Phone: "37060012399", Text: "share_phone"})}, nobody: "+37060012399",
			want: with(contact("Boris", "+37060012399", false), func(c *message.Content) { c.Text = "share_phone" })},
		{name: "phone button", spec: simulator.CustomerSpec{Phone: "37060012345"}, ours: buttons("phone"), do: steps{vb("press", a{Data: "Good"})}, phone: "+37060012345",
			want: contents(contact("phone button", "+37060012345", true))},
		{name: "location", do: steps{vb("location", a{})}, want: contents(place)},
		{name: "location button", ours: buttons("location"), do: steps{vb("press", a{Data: "Good"})}, want: contents(place)},
		{name: "reply button", ours: buttons(""), do: steps{vb("press", a{Data: "Good"})}, want: contents(message.Content{Kind: message.KindButton, Button: &message.Button{Payload: "csat:5", Text: "Good"}})},
		{name: "url", do: steps{vb("url", a{})}, want: contents(text("https://shop.example.com/item/5"))},
		{name: "rich media", do: steps{vb("unknown", a{Kind: "rich_media", Value: json.RawMessage(`{"rich_media":{"Type":"rich_media"}}`)})}, want: contents(unsupported("rich_media"))},
		{name: "kind of the future", do: steps{vb("unknown", a{Value: json.RawMessage(`{"text":"seen?","depth":3}`)})}, want: with(unsupported("hologram"), func(c *message.Content) { c.Text = "seen?" })},
		{name: "conversation started", do: steps{vb("conversation_started", a{Context: "site-cart-77"})}, unreachable: true,
			want: with(serviceLine("started"), func(c *message.Content) { c.Payload = "site-cart-77" })},
		{name: "started and wrote", do: steps{vb("conversation_started", a{}), vb("text", a{Text: "hi"})}, want: contents(serviceLine("started"), text("hi"))},
		{name: "unsubscribed", do: steps{vb("text", a{Text: "bye"}), vb("unsubscribed", a{})}, unreachable: true, want: contents(text("bye"), serviceLine("unsubscribed"))},
		{name: "subscribed", do: steps{vb("text", a{Text: "bye"}), vb("unsubscribed", a{}), vb("subscribed", a{})}, want: contents(text("bye"), serviceLine("unsubscribed"), serviceLine("subscribed"))},
		{name: "back by writing", do: steps{vb("text", a{Text: "bye"}), vb("unsubscribed", a{}), vb("text", a{Text: "hi"})}, want: contents(text("bye"), serviceLine("unsubscribed"), text("hi"))},
		{name: "group and then alone", do: steps{vb("text", a{Text: "to all", ChatID: "group1"}), vb("unknown_event", a{}), vb("text", a{Text: "alone"})}, want: contents(text("alone"))},
	}
	acct := w.sim.Viber(viberToken)
	runInbound(t, in, acct.NewCustomer, cases)
	checkCallbacks(t, acct)

	t.Run("welcome", func(t *testing.T) {
		c, err := acct.NewCustomer(simulator.CustomerSpec{FirstName: "new"})
		if err != nil {
			t.Fatal(err)
		}
		c.Open("")
		got := c.WaitMessages(1, patience)
		if len(got) != 1 || !got[0].Welcome || got[0].Text != "Hello! Ask us anything." || got[0].Sender != "Shop" || c.WelcomeError() != "" {
			t.Errorf("the customer is greeted with %s %s", asJSON(got), c.WelcomeError())
		}
	})

	// A receipt may come before our own note of the send.
	for receipts, want := range map[string]message.Status{"none": message.StatusSent, "delivered": message.StatusDelivered, "seen": message.StatusRead, "failed": message.StatusFailed} {
		t.Run("receipt "+receipts, func(t *testing.T) {
			c, err := acct.NewCustomer(simulator.CustomerSpec{FirstName: "receipt " + receipts, Receipts: receipts, Devices: 2})
			if err != nil {
				t.Fatal(err)
			}
			c.SendText("hello")
			hello := in.op.message("hello", func(m *message.Message) bool { return m.Sender.Name == "receipt "+receipts })
			in.op.call("chat.accept", map[string]any{"chat_id": hello.ChatID}, nil)
			var out struct{ Message message.Message }
			in.op.call("message.send", map[string]any{"chat_id": hello.ChatID, "client_id": receipts, "kind": "text", "text": "hi"}, &out)
			got := in.op.message("status "+string(want), func(m *message.Message) bool { return m.ID == out.Message.ID && m.Status == want })
			if (got.Error != nil) != (want == message.StatusFailed) || got.Error != nil && got.Error.Detail == "" {
				t.Errorf("error = %+v", got.Error)
			}
		})
	}
}

// viberCallback is one message event of Viber, written out by hand.
func viberCallback(token, customer, text string) string {
	return fmt.Sprintf(`{"event":"message","timestamp":1770000100123,"chat_hostname":"SN-CHAT-05_","message_token":%s,`+
		`"sender":{"id":%q,"name":%q,"language":"en","country":"LT","api_version":10},"message":{"type":"text","text":%q},"silent":false}`, token, customer, customer, text)
}

func sign(body string) string {
	m := hmac.New(sha256.New, []byte(viberToken))
	m.Write([]byte(body))
	return hex.EncodeToString(m.Sum(nil))
}

// knock makes a request to a webhook; no signature is sent where it is "".
func (in *inbound) knock(c *http.Client, method, path, signature string, body io.Reader) (int, error) {
	req, err := http.NewRequestWithContext(in.t.Context(), method, in.http+path, body)
	if err != nil {
		return 0, err
	}
	if signature != "" {
		req.Header.Set("X-Viber-Content-Signature", signature)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// Only what Viber signed gets in, once, with its number as it was.
func TestInboundWebhook(t *testing.T) {
	t.Parallel()
	w := start(t)
	id := w.account("viber", viberToken, nil)
	in := lookOn(w)
	hook := "/webhooks/viber/" + id
	good := viberCallback("5881234567890123456", "user", "hello")
	big := viberCallback("5881234567890123457", "user", strings.Repeat("x", 1<<20))
	for _, c := range []struct {
		name, method, path, body, signature string
		want                                int
	}{
		{"unsigned", "POST", hook, good, "", 401},
		{"signed with another token", "POST", hook, good, strings.Repeat("0", 64), 403},
		{"half a signature", "POST", hook, good, sign(good)[:32], 403},
		{"no signature at all", "POST", hook, good, "yes", 403},
		{"changed on the way", "POST", hook, good + "\n", sign(good), 403},
		{"unknown account", "POST", "/webhooks/viber/01999999-9999-7999-9999-999999999999", good, sign(good), 404},
		{"not an account's id", "POST", "/webhooks/viber/nobody", good, sign(good), 404},
		{"another platform", "POST", "/webhooks/telegram/" + id, good, sign(good), 404},
		{"unknown platform", "POST", "/webhooks/pigeon/" + id, good, sign(good), 404},
		{"too large", "POST", hook, big, sign(big), 413},
		{"not JSON", "POST", hook, "hello", sign("hello"), 400},
		{"cut JSON", "POST", hook, good[:80], sign(good[:80]), 400},
		{"a list", "POST", hook, "[]", sign("[]"), 400},
		{"nothing", "POST", hook, "", sign(""), 400},
		{"opened in a browser", "GET", hook, "", "", 405},
		{"put", "PUT", hook, good, sign(good), 405},
		{"webhook check", "POST", hook, `{"event":"webhook","timestamp":1770000000000,"message_token":5881234567890000001}`,
			sign(`{"event":"webhook","timestamp":1770000000000,"message_token":5881234567890000001}`), 200},
		{"unknown event of nobody", "POST", hook, `{"event":"client_status","status":{}}`, sign(`{"event":"client_status","status":{}}`), 200},
		{"as it should be", "POST", hook, good, sign(good), 200},
	} {
		if got, err := in.knock(http.DefaultClient, c.method, c.path, c.signature, strings.NewReader(c.body)); got != c.want {
			t.Errorf("%s: %d %v, want %d", c.name, got, err, c.want)
		}
	}
	if got, _ := in.knock(http.DefaultClient, "POST", hook, sign(big), io.MultiReader(strings.NewReader(big))); got != 413 {
		t.Errorf("too large, without a length: %d, want 413", got)
	}
	// Eight connections deliver the same at once.
	var all sync.WaitGroup
	for _, token := range []string{"18446744073709551615", "9007199254740993"} {
		body := viberCallback(token, "user", token)
		for range 8 {
			all.Go(func() {
				if got, err := in.knock(http.DefaultClient, "POST", hook, sign(body), strings.NewReader(body)); got != 200 {
					t.Errorf("duplicate: %d %v", got, err)
				}
			})
		}
	}
	all.Wait()
	last := viberCallback("5881234567890123499", "user", "last")
	if got, err := in.knock(http.DefaultClient, "POST", hook, sign(last), strings.NewReader(last)); got != 200 {
		t.Fatal(got, err)
	}
	chat := in.op.message("last message", func(m *message.Message) bool { return m.Text == "last" }).ChatID
	h := in.history(chat)
	if len(h) != 4 {
		t.Fatalf("history = %s, want hello, each number once, last", asJSON(h))
	}
	for _, m := range h[1:3] {
		if *m.PlatformMessageID != m.Text {
			t.Errorf("platform_message_id = %s, want %s", *m.PlatformMessageID, m.Text)
		}
	}
}

// line is a way to the database that can be cut.
type line struct {
	*zktest.Proxy
	url string
}

func newLine(t *testing.T, database string) *line {
	t.Helper()
	cfg, err := pgconn.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgconn.NetworkAddress(cfg.Host, cfg.Port)
	l := &line{Proxy: zktest.NewProxyTo(t, network, address)}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(cfg.User, cfg.Password), Host: l.Addr(), Path: "/" + cfg.Database, RawQuery: "sslmode=disable"}
	l.url = u.String()
	return l
}

// Without the database a webhook is not answered with success, and what comes
// again lands once; a polled account goes on where it was.
func TestInboundDatabaseAway(t *testing.T) {
	t.Parallel()
	sim, base := simtest.Start(t)
	l := newLine(t, dbtest.URLOf(t))
	w := startOn(t, sim, base, l.url, bytes.Repeat([]byte{5}, secret.KeySize), func(*config.Config) {})
	id := w.account("viber", viberToken, nil)
	w.account("telegram", telegramToken, nil)
	in := lookOn(w)
	tgc, err := sim.Telegram(telegramToken).NewCustomer(simulator.CustomerSpec{FirstName: "polled"})
	if err != nil {
		t.Fatal(err)
	}
	say := func(token, text string) int {
		t.Helper()
		body := viberCallback(token, "user", text)
		got, err := in.knock(http.DefaultClient, "POST", "/webhooks/viber/"+id, sign(body), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := say("5881234567890123456", "before"); got != 200 {
		t.Fatal(got)
	}
	tgc.SendText("before")
	chat := in.op.message("message", func(m *message.Message) bool { return m.Sender.Name == "user" }).ChatID
	polledChat := in.op.message("message", func(m *message.Message) bool { return m.Sender.Name == "polled" }).ChatID
	l.Cut()
	tgc.SendText("during")
	for range 2 {
		if got := say("5881234567890123457", "during"); got != 503 {
			t.Errorf("without a database: %d, want 503", got)
		}
	}
	l.Heal()
	tgc.SendText("after")
	eventually(t, patience, "the retried callback is taken", func() bool { return say("5881234567890123457", "during") == 200 })
	if got := say("5881234567890123457", "during"); got != 200 {
		t.Errorf("once more: %d", got)
	}
	if got := say("5881234567890123458", "after"); got != 200 {
		t.Errorf("after: %d", got)
	}
	for _, chat := range []string{chat, polledChat} {
		eventually(t, patience, "all three have come", func() bool { return len(in.history(chat)) >= 3 })
		for i, m := range in.history(chat) {
			if want := []string{"before", "during", "after", "too much"}[i]; m.Text != want || m.Seq != int64(i+1) {
				t.Errorf("message %d = %s, want %q", i+1, asJSON(m), want)
			}
		}
	}
	in.op.message("event after the outage", func(m *message.Message) bool { return m.Text == "after" && m.Sender.Name == "user" })
}

// Updates that can't be written wait, without haste, hold up no stop, and are
// there when they can be written again.
func TestInboundCannotBeWritten(t *testing.T) {
	t.Parallel()
	sim, base := simtest.Start(t)
	database, key := dbtest.URLOf(t), bytes.Repeat([]byte{5}, secret.KeySize)
	w := startOn(t, sim, base, database, key, func(*config.Config) {})
	w.account("telegram", telegramToken, nil)
	in := lookOn(w)
	acct := sim.Telegram(telegramToken)
	c, err := acct.NewCustomer(simulator.CustomerSpec{FirstName: "Anna"})
	if err != nil {
		t.Fatal(err)
	}
	c.SendText("one")
	chat := in.op.message("first message", func(m *message.Message) bool { return m.Text == "one" }).ChatID
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	query := func(sql string) (n int64) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if _, err := conn.Exec(t.Context(), `alter table messages rename to messages_away`); err != nil {
		t.Fatal(err)
	}
	c.SendText("two")
	began := time.Now()
	// Longer than an idle lane is held.
	eventually(t, patience, "the lane has failed for 4 s", func() bool { return acct.Pending() == 0 && time.Since(began) > 4*time.Second })
	const transactions = `select xact_commit + xact_rollback from pg_stat_database where datname = current_database()`
	before := query(transactions)
	from := time.Now()
	eventually(t, patience, "statistics have been written", func() bool { return time.Since(from) > 1500*time.Millisecond })
	if n := query(transactions) - before; n > 1000 {
		t.Errorf("%d transactions in %v, for one update that can't be written", n, time.Since(from))
	}
	from = time.Now()
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(from); d > 8*time.Second {
		t.Errorf("stopping took %v", d)
	}
	if _, err := conn.Exec(t.Context(), `alter table messages_away rename to messages`); err != nil {
		t.Fatal(err)
	}
	in = &inbound{world: startOn(t, sim, base, database, key, func(*config.Config) {}), token: in.token}
	c.SendText("three")
	eventually(t, patience, "all three are there", func() bool { return len(in.history(chat)) == 3 })
	for i, m := range in.history(chat) {
		if m.Text != []string{"one", "two", "three"}[i] || m.Seq != int64(i+1) {
			t.Errorf("message %d = %s", i+1, asJSON(m))
		}
	}
}

// Files: what is too large says so, what fails for a while arrives, what may
// not be reached is not reached.
func TestInboundFiles(t *testing.T) {
	t.Parallel()
	var secrets, asked atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		secrets.Add(1)
		_, _ = io.WriteString(w, "secret")
	}))
	t.Cleanup(inside.Close)
	var mu sync.Mutex
	visits := map[string]int{}
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		mu.Lock()
		visits[r.URL.Path]++
		first := visits[r.URL.Path] == 1
		mu.Unlock()
		switch r.URL.Path {
		case "/missing-first.txt":
			if first {
				http.NotFound(w, r)
				return
			}
		case "/broken-first.txt":
			if first {
				http.Error(w, "try later", 500)
				return
			}
		case "/cut-first.txt":
			if first {
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, "cut")
				return
			}
		case "/moved.txt":
			http.Redirect(w, r, "/plain.txt", 302)
			return
		case "/inwards.txt":
			http.Redirect(w, r, inside.URL+"/admin", 302)
			return
		case "/local.txt":
			http.Redirect(w, r, "file:///etc/passwd", 302)
			return
		case "/round.txt":
			http.Redirect(w, r, "/round.txt", 302)
			return
		case "/large.bin":
			w.Header().Set("Content-Length", fmt.Sprint(300<<20))
			return
		case "/gone.txt":
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.WriteString(w, "a plain text, long enough to be told from others")
	}))
	t.Cleanup(cdn.Close)
	sim, base := simtest.Start(t)
	w := startOn(t, sim, base, dbtest.URLOf(t), bytes.Repeat([]byte{5}, secret.KeySize), func(c *config.Config) {
		c.FetchAllow = append(c.FetchAllow, strings.TrimPrefix(cdn.URL, "http://"))
	})
	w.account("viber", viberToken, nil)
	w.account("telegram", telegramToken, nil)
	in := lookOn(w)
	txt := message.File{Mime: "text/plain; charset=utf-8"}
	at := func(name string) []func(*simulator.ViberCustomer) (simulator.Sent, error) {
		return []func(*simulator.ViberCustomer) (simulator.Sent, error){func(c *simulator.ViberCustomer) (simulator.Sent, error) {
			s, err := c.Do("file", simulator.ViberAction{Media: cdn.URL + "/" + name, File: simulator.FileSpec{Name: name, Format: "txt"}})
			s.Files = nil // the bytes are the server's
			return s, err
		}}
	}
	is := func(name, mime string, state message.FileState) []message.Content {
		return []message.Content{file(message.KindDocument, "", message.File{Name: name, Mime: mime, State: state})}
	}
	direct := func(c *simulator.ViberCustomer) (simulator.Sent, error) {
		s, err := c.Do("file", simulator.ViberAction{Media: inside.URL + "/admin.txt"})
		s.Files = nil
		return s, err
	}
	huge := func(c *simulator.ViberCustomer) (simulator.Sent, error) {
		return c.Do("file", simulator.ViberAction{File: simulator.FileSpec{ClaimedSize: 300 << 20}})
	}
	type steps = []func(*simulator.ViberCustomer) (simulator.Sent, error)
	t.Run("viber", func(t *testing.T) {
		runInbound(t, in, sim.Viber(viberToken).NewCustomer, []inboundCase[*simulator.ViberCustomer]{
			{name: "plain", do: at("plain.txt"), want: is("plain.txt", txt.Mime, message.FileReady)},
			{name: "moved", do: at("moved.txt"), want: is("moved.txt", txt.Mime, message.FileReady)},
			{name: "missing first", do: at("missing-first.txt"), want: is("missing-first.txt", txt.Mime, message.FileReady)},
			{name: "broken first", do: at("broken-first.txt"), want: is("broken-first.txt", txt.Mime, message.FileReady)},
			{name: "cut first", do: at("cut-first.txt"), want: is("cut-first.txt", txt.Mime, message.FileReady)},
			{name: "large", do: at("large.bin"), want: is("large.bin", "", message.FileTooLarge)},
			{name: "said to be large", do: steps{huge}, want: is("file.pdf", "", message.FileTooLarge)},
			{name: "private address", do: steps{direct}, want: is("file.pdf", "", message.FileFailed)},
			{name: "redirect to a private address", do: at("inwards.txt"), want: is("inwards.txt", "", message.FileFailed)},
			{name: "redirect to a local file", do: at("local.txt"), want: is("local.txt", "", message.FileFailed)},
			{name: "gone", do: at("gone.txt"), want: is("gone.txt", "", message.FileFailed)},
		})
	})
	if n := secrets.Load(); n != 0 {
		t.Errorf("%d requests to an address that may not be fetched", n)
	}
	t.Run("telegram", func(t *testing.T) {
		runInbound(t, in, sim.Telegram(telegramToken).NewCustomer, []inboundCase[*simulator.TelegramCustomer]{
			{name: "said to be over 20 MB", do: tgDo("document", simulator.TelegramAction{Caption: "see", File: simulator.FileSpec{ClaimedSize: 21 << 20}}),
				want: []message.Content{file(message.KindDocument, "see", message.File{Name: "document.pdf", Mime: "application/pdf", State: message.FileTooLarge})}},
			{name: "over 20 MB", do: tgDo("video", simulator.TelegramAction{File: simulator.FileSpec{Size: 21 << 20, ClaimedSize: 1000}}),
				want: []message.Content{file(message.KindVideo, "", message.File{Name: "video.mp4", Mime: "video/mp4", State: message.FileTooLarge, Width: 1280, Height: 720, Duration: 7})}},
		})
	})
}

// Many customers write at once over many connections, and the platform repeats
// itself: each one's messages come once and in order.
func TestInboundOrder(t *testing.T) {
	t.Parallel()
	const customers, each = 64, 40
	w := start(t)
	id := w.account("viber", viberToken, nil)
	in := lookOn(w)
	hook := "/webhooks/viber/" + id
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: customers}}
	t.Cleanup(client.CloseIdleConnections)
	var all sync.WaitGroup
	for c := range customers {
		all.Go(func() {
			customer := fmt.Sprintf("customer %d", c)
			for n := range each {
				body := viberCallback(fmt.Sprint(5881234567890000000+c*1000+n), customer, fmt.Sprint(n))
				for range 1 + n%5/4 { // every fifth twice
					if got, err := in.knock(client, "POST", hook, sign(body), strings.NewReader(body)); got != 200 {
						t.Errorf("%s, message %d: %d %v", customer, n, got, err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	chats := map[string]string{}
	seen := map[string][]message.Message{}
	in.holds(patience, func(events []event) bool {
		n := 0
		for _, e := range events {
			if e.Type == "message.new" {
				n++
			}
		}
		return n >= customers*each
	})
	in.op.mu.Lock()
	for _, e := range in.op.events {
		if e.Type == "message.new" {
			seen[e.Message.Sender.Name] = append(seen[e.Message.Sender.Name], *e.Message)
			chats[e.Message.Sender.Name] = e.ChatID
		}
	}
	in.op.mu.Unlock()
	if len(seen) != customers {
		t.Errorf("%d customers, want %d", len(seen), customers)
	}
	for customer, got := range seen {
		if len(got) != each {
			t.Errorf("%s: %d messages, want %d", customer, len(got), each)
		}
		for n, m := range got {
			if m.Text != fmt.Sprint(n) || m.Seq != int64(n+1) {
				t.Errorf("%s: message %d is %q with seq %d", customer, n, m.Text, m.Seq)
			}
		}
		if h := in.history(chats[customer]); asJSON(h) != asJSON(got) {
			t.Errorf("%s: the history is not what the operators saw: %s", customer, asJSON(h))
		}
	}
}
