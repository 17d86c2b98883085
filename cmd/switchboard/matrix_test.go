package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"switchboard"
	"switchboard/channels/channeltest"
	"switchboard/message"
	"switchboard/simulator"
)

// object is JSON as the tests write it.
type object = map[string]any

// human is a customer of any platform.
type human interface {
	ID() string
	SendText(string) simulator.Sent
	Messages() []simulator.Message
	Press(data string) (simulator.Sent, error)
}

// deed is something that a customer does, and what the operators see of it.
type deed struct {
	do   func(human) (simulator.Sent, error)
	sees message.Content
}

// by makes a platform's own action one of anybody.
func by[C human](do func(C) (simulator.Sent, error)) func(human) (simulator.Sent, error) {
	return func(p human) (simulator.Sent, error) { return do(p.(C)) }
}

// party is a platform in the test: its account, and a customer who talks with
// the operator there. What differs between platforms is data.
type party struct {
	*inbound
	t       *testing.T // of the cell
	key     string     // of the REST API
	account string
	caps    message.Capabilities
	who     human
	chat    string
	serial  *atomic.Int64 // of texts and ids

	platform string
	customer func(simulator.CustomerSpec) (human, error)
	requests func(method string) []simulator.Request
	// background are methods that are called without an operator's doing; "GET x" is
	// one that is called so in this way only.
	background []string
	// scrub names what is random in a request that the platform received.
	scrub func(request object)
	// first is how a conversation is begun; nil: by a text.
	first object
	// sticker is a file that the platform takes for one; "": hi.webp.
	sticker string
	// does is what the customer does for a row: where the platform has not the
	// row's function, what happens instead.
	does map[string]deed
	// gets are the requests that the platform must have received for a row, as its
	// documents ask for them: HTTP method, path and content. CUSTOMER, CHAT, ID and
	// the like stand for what shownRequest replaces.
	gets map[string][]string
}

// in is the party for a cell.
func (p *party) in(t *testing.T) *party {
	c := *p
	w := *p.world
	w.t = t
	c.t, c.inbound = t, &inbound{&w, p.token, p.op.in(t)}
	return &c
}

// talk makes a customer who has written; the operator has taken the chat.
func (p *party) talk(spec simulator.CustomerSpec) (who human, chat string) {
	p.t.Helper()
	if spec.ID == "" && p.caps.StartByPhone {
		spec.ID = fmt.Sprintf("7926%07d", p.serial.Add(1))
	}
	who, err := p.customer(spec)
	if err != nil {
		p.t.Fatal(err)
	}
	hello := fmt.Sprintf("hello %d", p.serial.Add(1))
	if s := who.SendText(hello); s.Dropped {
		p.t.Fatal("the account wants no messages")
	}
	chat = p.op.message(hello, func(m *message.Message) bool { return m.Text == hello }).ChatID
	p.op.call("chat.accept", object{"chat_id": chat}, nil)
	return who, chat
}

// latest is the number of the chat's last message.
func (p *party) latest(chat string) (seq int64) {
	p.op.mu.Lock()
	defer p.op.mu.Unlock()
	for _, e := range p.op.events {
		if e.Message != nil && e.Message.ChatID == chat {
			seq = max(seq, e.Message.Seq)
		}
	}
	return seq
}

// sees lets the customer do something, and returns what the operator sees of
// it when its files have been fetched.
func (p *party) sees(who human, chat string, do func(human) (simulator.Sent, error)) (message.Message, simulator.Sent) {
	p.t.Helper()
	after := p.latest(chat)
	sent, err := do(who)
	if err != nil || sent.Dropped {
		p.t.Fatalf("the customer's doing: %+v %v", sent, err)
	}
	return p.op.message("message of the customer", func(m *message.Message) bool {
		return m.ChatID == chat && m.Direction == message.In && m.Seq > after &&
			!slices.ContainsFunc(m.Files, func(f message.File) bool { return f.State == message.FilePending })
	}), sent
}

var platformNumber = regexp.MustCompile(`[0-9]+_[0-9]+`)

// receives proves a row by what the customer does for it.
func (p *party) receives(row string) message.Message {
	p.t.Helper()
	d, ok := p.does[row]
	if !ok {
		p.t.Fatal("nobody says what the customer does")
	}
	m, sent := p.sees(p.who, p.chat, d.do)
	for i := range m.Files { // the platform's own numbers
		m.Files[i].Name = platformNumber.ReplaceAllString(m.Files[i].Name, "N")
	}
	if got, want := essence([]message.Message{m}), essence([]message.Message{{Content: d.sees}}); got != want {
		p.t.Errorf("the operator sees %s, want %s", got, want)
	}
	for i, f := range sent.Files[:min(len(sent.Files), len(m.Files))] {
		b, _ := p.download(p.t, m.Files[i].ID)
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != f.SHA256 {
			p.t.Errorf("file %s is not the one that the customer sent", m.Files[i].Name)
		}
	}
	return m
}

// received are the requests since a moment, as one line each.
func (p *party) received(since int64, names map[string]string) (lines []string) {
	p.t.Helper()
	for _, r := range p.requests("") {
		if r.Seq > since && !slices.Contains(p.background, r.Method) && !slices.Contains(p.background, r.HTTPMethod+" "+r.Method) {
			if r.Code != 0 || r.Status != 200 {
				p.t.Errorf("the platform answered %s with %d %d %s", r.Method, r.Status, r.Code, r.Description)
			}
			lines = append(lines, p.shownRequest(&r, names))
		}
	}
	return lines
}

func (p *party) now() (seq int64) {
	if all := p.requests(""); len(all) > 0 {
		seq = all[len(all)-1].Seq
	}
	return seq
}

// shownRequest is a request as one line: HTTP method, path, and everything that
// it said. Uploaded files stand as "@name type", links to ours as "link:name
// type", both only if the bytes are right; names are what to call ids.
func (p *party) shownRequest(r *simulator.Request, names map[string]string) string {
	p.t.Helper()
	said := object{}
	for k, v := range r.Params {
		said[k] = v
		if strings.HasPrefix(v, "{") || strings.HasPrefix(v, "[") {
			said[k] = p.parsed([]byte(v))
		}
	}
	if len(r.Body) > 0 {
		body, ok := p.parsed(r.Body).(object)
		if !ok {
			p.t.Fatalf("%s: body %s", r.Method, r.Body)
		}
		for k, v := range body {
			said[k] = v
		}
	}
	for _, f := range r.Files {
		sum := sha256.Sum256(fileBytes(p.t, f.Name))
		said[f.Field] = "@" + f.Name + " " + f.MIME
		if f.SHA256 != hex.EncodeToString(sum[:]) {
			said[f.Field] = "other bytes"
		}
	}
	said = p.named(said, names).(object)
	if p.scrub != nil {
		p.scrub(said)
	}
	where := r.Path
	for id, name := range names {
		if len(id) > 6 { // shorter ones are in many places
			where = strings.ReplaceAll(where, id, name)
		}
	}
	return r.HTTPMethod + " " + where + " " + compact(said)
}

func compact(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

func (p *party) parsed(b []byte) (v any) {
	p.t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // ids are beyond float64
	if err := d.Decode(&v); err != nil {
		p.t.Fatalf("%v in %s", err, b)
	}
	return v
}

// named replaces ids and links anywhere in v.
func (p *party) named(v any, names map[string]string) any {
	switch v := v.(type) {
	case object:
		for k, x := range v {
			v[k] = p.named(x, names)
		}
	case []any:
		for i, x := range v {
			v[i] = p.named(x, names)
		}
	case json.Number:
		if name, ok := names[v.String()]; ok {
			return name
		}
	case string:
		if name, ok := names[v]; ok {
			return name
		}
		if strings.HasPrefix(v, p.http+"/files/") {
			return p.shownLink(v)
		}
	}
	return v
}

// shownLink fetches a link as anybody may.
func (p *party) shownLink(link string) string {
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, link, nil)
	if err != nil {
		return err.Error()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	u, urlErr := url.Parse(link)
	if err != nil || urlErr != nil || res.StatusCode != 200 {
		return fmt.Sprintf("a link that answers %d %v %v", res.StatusCode, err, urlErr)
	}
	name := path.Base(u.Path)
	if !bytes.Equal(b, fileBytes(p.t, name)) {
		return "a link to other bytes"
	}
	return "link:" + name + " " + res.Header.Get("Content-Type")
}

// got compares what the platform received since a moment with a row's requests.
func (p *party) got(row string, since int64, names map[string]string) {
	p.t.Helper()
	want, ok := p.gets[row]
	if !ok {
		p.t.Errorf("nobody says what the platform must have received; it was\n%s", strings.Join(p.received(since, names), "\n"))
		return
	}
	lines := p.received(since, names)
	for i, line := range want {
		method, rest, _ := strings.Cut(line, " ")
		where, content, _ := strings.Cut(rest, " ")
		line = method + " " + where + " " + compact(p.parsed([]byte(content)))
		if i >= len(lines) || lines[i] != line {
			p.t.Errorf("the platform received\n%s\nwant, at %d,\n%s", strings.Join(lines, "\n"), i, line)
			return
		}
	}
	if len(lines) != len(want) {
		p.t.Errorf("the platform received\n%s\nwant %d requests", strings.Join(lines, "\n"), len(want))
	}
}

// names are what to call the ids of a message that was sent to somebody.
func (p *party) names(who human, m *message.Message) map[string]string {
	names := map[string]string{who.ID(): "CUSTOMER", m.ID: "OURS"}
	if m.PlatformMessageID != nil {
		names[*m.PlatformMessageID] = "ID"
	}
	if c, ok := who.(interface{ Chat() string }); ok {
		names[c.Chat()] = "CHAT"
	}
	return names
}

// says is a row's message of an operator. Files are names.
func says(row string) object {
	buttons := func(kind string, row ...object) object { return object{"kind": kind, "rows": [][]object{row}} }
	switch row {
	case "reply keyboards":
		return object{"kind": "text", "text": "choose", "keyboard": buttons("reply", object{"text": "Yes", "payload": "y"}, object{"text": "No"})}
	case "buttons in the feed":
		return object{"kind": "text", "text": "rate", "keyboard": buttons("inline", object{"text": "Good", "payload": "csat:5"}, object{"text": "Bad"})}
	case "customer's phone":
		return object{"kind": "text", "text": "call you?", "keyboard": buttons("reply", object{"text": "My phone", "action": "phone"})}
	case "emoji both ways":
		return object{"kind": "text", "text": emoji}
	case "send images":
		return object{"kind": "image", "text": "look", "files": []string{"cat.jpg"}}
	case "send video":
		return object{"kind": "video", "text": "how to", "files": []string{"clip.mp4"}}
	case "send stickers":
		return object{"kind": "sticker", "files": []string{"hi.webp"}}
	case "send documents":
		return object{"kind": "document", "text": "your bill", "files": []string{"bill.pdf"}}
	case "send audio":
		return object{"kind": "audio", "files": []string{"song.mp3"}}
	case "send voice messages":
		return object{"kind": "voice", "files": []string{"say.ogg"}}
	case "send contact":
		return object{"kind": "contact", "contact": object{"name": "Service desk", "phone": "+37060000000"}}
	case "send location":
		return object{"kind": "location", "location": object{"lat": 55.75, "lon": 37.61}}
	default:
		return object{"kind": "text", "text": "an answer"}
	}
}

// emoji holds what is easily cut: beyond 16 bits, joined, coloured, flags, keycaps.
const emoji = "😀 👩‍👩‍👧‍👦 👍🏽 🇱🇹 1️⃣ ❤️"

// sending is says with a client id, and the files uploaded.
func (p *party) sending(params object, chat string) object {
	p.t.Helper()
	full := object{"chat_id": chat, "client_id": fmt.Sprint("matrix ", p.serial.Add(1))}
	for k, v := range params {
		full[k] = v
	}
	if names, ok := params["files"].([]string); ok {
		ids := make([]string, len(names))
		for i, name := range names {
			ids[i] = p.upload(p.token, name, fileBytes(p.t, name))
		}
		full["files"] = ids
	}
	return full
}

// sends proves a row by what the operator sends for it.
func (p *party) sends(row string) message.Message {
	p.t.Helper()
	since, before := p.now(), len(p.who.Messages())
	params := says(row)
	if params["kind"] == "sticker" && p.sticker != "" {
		params["files"] = []string{p.sticker}
	}
	m := p.op.send(p.sending(params, p.chat))
	p.got(row, since, p.names(p.who, &m))
	for _, s := range p.shows(p.who, func(seen []simulator.Message) bool { return len(seen) > before })[before:] {
		if len(s.Warnings) > 0 {
			p.t.Errorf("doubtful: %v", s.Warnings)
		}
		for _, f := range s.Files {
			if f.Error != "" {
				p.t.Errorf("the platform could not fetch %s: %s", f.URL, f.Error)
			}
		}
	}
	return m
}

// refuses proves that a message can't be sent: not by an operator, not by a script,
// and nothing goes out.
func (p *party) refuses(params object) {
	p.t.Helper()
	since := p.now()
	full := p.sending(params, p.chat)
	if err := p.op.try("message.send", full, nil); err == nil || err.Code != 1003 || err.Data.Code != "unsupported_by_channel" || err.Data.Detail == "" {
		p.t.Errorf("to an operator: %v, want 1003 with a reason", err)
	}
	delete(full, "chat_id")
	delete(full, "client_id")
	full["account_id"], full["to"] = p.account, object{"chat_id": p.chat}
	var problem struct{ Code, Detail string }
	p.rest("POST", "/api/v1/messages", p.key, full, 422, &problem)
	if problem.Code != "unsupported_by_channel" || problem.Detail == "" {
		p.t.Errorf("to a script: %+v", problem)
	}
	if lines := p.received(since, nil); len(lines) > 0 {
		p.t.Errorf("the platform received %s", lines)
	}
}

// refusesCall is refuses of another call of the operators.
func (p *party) refusesCall(method string, params object) {
	p.t.Helper()
	since := p.now()
	if err := p.op.try(method, params, nil); err == nil || err.Code != 1003 || err.Data.Detail == "" {
		p.t.Errorf("%s: %v, want 1003 with a reason", method, err)
	}
	if lines := p.received(since, nil); len(lines) > 0 {
		p.t.Errorf("the platform received %s", lines)
	}
}

func (p *party) stored(id string) (m message.Message, timeline []string) {
	p.t.Helper()
	var stored struct {
		message.Message
		Timeline []switchboard.TimelineEntry
	}
	p.rest("GET", "/api/v1/messages/"+id, p.token, nil, 200, &stored)
	for _, e := range stored.Timeline {
		timeline = append(timeline, e.What)
	}
	return stored.Message, timeline
}

func (p *party) chatNow(id string) (c switchboard.Chat) {
	p.t.Helper()
	p.rest("GET", "/api/v1/chats/"+id, p.token, nil, 200, &c)
	return c
}

// known asks the phone book.
func (p *party) known(phone, chat string) bool {
	p.t.Helper()
	var book struct{ Items []switchboard.PhoneEntry }
	p.rest("GET", "/api/v1/customers?phone="+url.QueryEscape(phone), p.token, nil, 200, &book)
	return slices.ContainsFunc(book.Items, func(e switchboard.PhoneEntry) bool { return e.ChatID == chat && e.Platform == p.platform })
}

// reported proves how far the platform's reports bring a message whose customer's
// device tells as much as that: delivered or seen.
func (p *party) reported(receipts string, want message.Status) {
	p.t.Helper()
	who, chat := p.talk(simulator.CustomerSpec{Receipts: receipts})
	m := p.op.send(p.sending(says(""), chat))
	if want != message.StatusSent {
		p.op.message(string(want), func(x *message.Message) bool { return x.ID == m.ID && x.Status == want })
	}
	p.sees(who, chat, func(w human) (simulator.Sent, error) { return w.SendText("got it"), nil }) // comes behind the reports
	if m, timeline := p.stored(m.ID); m.Status != want || !slices.Contains(timeline, string(want)) {
		p.t.Errorf("the message is %s after %q, want %s", m.Status, timeline, want)
	}
}

// proof is how a row is proven: that a platform has its function, and that it
// has not.
type proof struct{ yes, no func(p *party, row string) }

// off is for what nobody can ask for, so that nothing can be refused. What the
// customer does instead is not lost.
func off(p *party, row string) {
	if _, ok := p.does[row]; ok {
		p.receives(row)
	}
}

func proofs() map[string]proof {
	sends := func(p *party, row string) { p.t.Helper(); p.sends(row) }
	refuses := func(p *party, row string) { p.t.Helper(); p.refuses(says(row)) }
	never := func(p *party, row string) { p.t.Error("nobody thought that this is possible") }
	keys := func(p *party, row string) {
		p.sends(row)
		p.receives(row)
	}
	theirs := func(method string) func(p *party, row string) {
		return func(p *party, _ string) {
			m, _ := p.sees(p.who, p.chat, func(w human) (simulator.Sent, error) { return w.SendText("as I said"), nil })
			params := object{"message_id": m.ID}
			if method == "message.edit" {
				params["text"] = "as I never said"
			}
			p.refusesCall(method, params)
			if m, _ := p.stored(m.ID); m.Text != "as I said" || m.DeletedAt != nil || m.EditedAt != nil {
				p.t.Errorf("the customer's message is now %s", asJSON(m))
			}
		}
	}
	list := map[string]proof{
		"chat conversation": {func(p *party, row string) {
			m, _ := p.sees(p.who, p.chat, func(w human) (simulator.Sent, error) { return w.SendText("a question"), nil })
			if m.Kind != message.KindText || m.Text != "a question" || m.Sender.Kind != message.SenderCustomer || m.Platform != p.platform || m.AccountID != p.account {
				p.t.Errorf("the operator sees %s", asJSON(m))
			}
			p.sends(row)
			if last := p.who.Messages(); last[len(last)-1].Text != "an answer" {
				p.t.Errorf("the customer sees %+v", last[len(last)-1])
			}
		}, never},
		"customer's phone": {hasPhone, func(p *party, row string) {
			p.refuses(says(row))
			inline := says(row)
			inline["keyboard"].(object)["kind"] = "inline"
			p.refuses(inline)
			who, chat := p.talk(simulator.CustomerSpec{Phone: "79161112233"})
			if c := p.chatNow(chat).Customer; c.Phone != "" || p.known("79161112233", chat) {
				p.t.Errorf("the phone of %s is known: %+v", who.ID(), c)
			}
			if err := p.op.try("chat.start", object{"account_id": p.account, "phone": "+79161112233"}, nil); err == nil || err.Data.Detail == "" {
				p.t.Errorf("a chat is begun by a phone that nobody knows: %v", err)
			}
		}},
		"reply keyboards": {keys, func(p *party, row string) {
			p.refuses(says(row))
			p.refuses(object{"kind": "text", "text": "thanks", "keyboard": object{"kind": "remove"}})
		}},
		"buttons in the feed": {keys, refuses},
		"edit own messages": {func(p *party, row string) {
			m := p.op.send(p.sending(says(""), p.chat))
			since := p.now()
			p.op.call("message.edit", object{"message_id": m.ID, "text": "a better answer"}, nil)
			p.shows(p.who, func(s []simulator.Message) bool { return s[len(s)-1].Text == "a better answer" })
			p.got(row, since, p.names(p.who, &m))
			if m, _ := p.stored(m.ID); m.EditedAt == nil || m.Text != "a better answer" || m.Error != nil {
				p.t.Errorf("the message is now %s", asJSON(m))
			}
		}, func(p *party, _ string) {
			m := p.op.send(p.sending(says(""), p.chat))
			p.refusesCall("message.edit", object{"message_id": m.ID, "text": "a better answer"})
		}},
		"delete own messages": {func(p *party, row string) {
			m := p.op.send(p.sending(says(""), p.chat))
			since := p.now()
			p.op.call("message.delete", object{"message_id": m.ID}, nil)
			p.shows(p.who, func(s []simulator.Message) bool { return s[len(s)-1].DeletedAt != nil })
			p.got(row, since, p.names(p.who, &m))
			if m, _ := p.stored(m.ID); m.DeletedAt == nil || m.Error != nil {
				p.t.Errorf("the message is now %s", asJSON(m))
			}
		}, func(p *party, _ string) {
			m := p.op.send(p.sending(says(""), p.chat))
			p.refusesCall("message.delete", object{"message_id": m.ID})
		}},
		"edit others' messages":            {never, theirs("message.edit")},
		"delete others' messages":          {deletesTheirs, theirs("message.delete")},
		"operator starts the conversation": {starts, never},
		"accepted by the network": {func(p *party, _ string) {
			m := p.op.send(p.sending(says(""), p.chat))
			got, timeline := p.stored(m.ID)
			if got.PlatformMessageID == nil || got.Status.Rank() < message.StatusSent.Rank() || len(timeline) < 3 || !slices.Equal(timeline[:3], []string{"queued", "attempt", "sent"}) {
				p.t.Errorf("the message is %s after %q", got.Status, timeline)
			}
		}, never},
		"delivered to the customer": {func(p *party, _ string) { p.reported("delivered", message.StatusDelivered) }, func(p *party, _ string) { p.reported("delivered", message.StatusSent) }},
		"read by the customer":      {func(p *party, _ string) { p.reported("seen", message.StatusRead) }, func(p *party, _ string) { p.reported("seen", message.StatusSent) }},
		"customer's avatar": {func(p *party, row string) {
			who, chat := p.talk(simulator.CustomerSpec{Avatar: true})
			if d, ok := p.does[row]; ok {
				p.sees(who, chat, d.do)
			}
			polled(p.t, "picture of the customer", patience, func() bool { return p.chatNow(chat).Customer.Avatar != "" })
		}, func(p *party, _ string) {
			_, chat := p.talk(simulator.CustomerSpec{Avatar: true})
			if c := p.chatNow(chat).Customer; c.Avatar != "" {
				p.t.Errorf("the customer has the picture %s", c.Avatar)
			}
		}},
		"operator's avatar": {sends, func(p *party, _ string) {
			since := p.now()
			m := p.op.send(p.sending(says(""), p.chat))
			if lines := p.received(since, p.names(p.who, &m)); strings.Contains(strings.Join(lines, " "), operatorAvatar) {
				p.t.Errorf("the platform received %s", lines)
			}
		}},
		"emoji both ways": {func(p *party, row string) {
			if m, _ := p.sees(p.who, p.chat, func(w human) (simulator.Sent, error) { return w.SendText(emoji), nil }); m.Text != emoji {
				p.t.Errorf("the operator sees %q", m.Text)
			}
			p.sends(row)
			if last := p.who.Messages(); last[len(last)-1].Text != emoji {
				p.t.Errorf("the customer sees %q", last[len(last)-1].Text)
			}
		}, never},
		"see forwarded messages": {func(p *party, row string) {
			if m := p.receives(row); len(m.Forwarded) == 0 {
				p.t.Errorf("not told to be forwarded: %s", asJSON(m))
			}
		}, off},
		"forward a message": {forwards, func(p *party, _ string) {
			words, _ := p.sees(p.who, p.chat, func(w human) (simulator.Sent, error) { return w.SendText("pass it on"), nil })
			p.refusesCall("message.forward", object{"message_id": words.ID, "chat_id": p.chat})
		}},
	}
	for name, kind := range map[string]message.Kind{"images": message.KindImage, "video": message.KindVideo, "stickers": message.KindSticker, "documents": message.KindDocument,
		"audio": message.KindAudio, "voice messages": message.KindVoice, "contact": message.KindContact, "location": message.KindLocation} {
		list["receive "+name] = proof{func(p *party, row string) {
			if m := p.receives(row); m.Kind != kind {
				p.t.Errorf("the operator sees %s", m.Kind)
			}
		}, func(p *party, row string) {
			if p.does[row].sees.Kind == kind {
				p.t.Errorf("the operator sees %s", kind)
			}
			off(p, row)
		}}
		list["send "+name] = proof{sends, refuses}
	}
	return list
}

// shows waits until a customer sees what is wanted.
func (p *party) shows(who human, ok func([]simulator.Message) bool) (seen []simulator.Message) {
	p.t.Helper()
	polled(p.t, "message at the customer", patience, func() bool { seen = who.Messages(); return ok(seen) })
	return seen
}

// hasPhone: the customer gives the phone by a button, or it is the address; then it
// is in the phone book, and begins a conversation.
func hasPhone(p *party, row string) {
	spec := simulator.CustomerSpec{FirstName: "Anna", Phone: fmt.Sprintf("7916%07d", p.serial.Add(1))}
	who, chat := p.talk(spec)
	phone := spec.Phone
	if p.caps.RequestPhone {
		if c := p.chatNow(chat).Customer; c.Phone != "" {
			p.t.Errorf("the phone is known before it was asked for: %s", c.Phone)
		}
		since := p.now()
		asked := p.op.send(p.sending(says(row), chat))
		p.got(row, since, p.names(who, &asked))
		m, _ := p.sees(who, chat, func(w human) (simulator.Sent, error) { return w.Press("My phone") })
		if m.Kind != message.KindContact || m.Contact == nil || m.Contact.Phone != "+"+phone || !m.Contact.Own {
			p.t.Errorf("the operator sees %s", asJSON(m))
		}
	} else {
		phone = who.ID()
	}
	if c := p.chatNow(chat).Customer; c.Phone != "+"+phone {
		p.t.Errorf("the customer's phone is %q, want +%s", c.Phone, phone)
	}
	if !p.known(phone, chat) {
		p.t.Errorf("%s is not in the phone book", phone)
	}
	var started struct{ Chat switchboard.Chat }
	p.op.call("chat.start", object{"account_id": p.account, "phone": "+" + phone}, &started)
	if started.Chat.ID != chat {
		p.t.Errorf("the phone begins chat %s, want %s", started.Chat.ID, chat)
	}
}

// starts: the operator writes first, to somebody who never wrote.
func starts(p *party, row string) {
	spec := simulator.CustomerSpec{Started: true}
	if p.caps.StartByPhone {
		spec.ID = fmt.Sprintf("7927%07d", p.serial.Add(1))
	}
	who, err := p.customer(spec)
	if err != nil {
		p.t.Fatal(err)
	}
	chat := ""
	begin := func(by, value string) {
		var started struct{ Chat switchboard.Chat }
		p.op.call("chat.start", object{"account_id": p.account, by: value}, &started)
		if chat != "" && started.Chat.ID != chat || started.Chat.State != switchboard.ChatOpen {
			p.t.Errorf("begun by %s: %s", by, asJSON(started.Chat))
		}
		chat = started.Chat.ID
	}
	if p.caps.StartByPhone {
		begin("phone", "+"+who.ID())
	}
	if p.caps.StartByID {
		begin("external_id", who.ID())
	}
	since, params := p.now(), p.first
	if params == nil {
		params = says(row)
	}
	m := p.op.send(p.sending(params, chat))
	p.got(row, since, p.names(who, &m))
	p.shows(who, func(s []simulator.Message) bool { return len(s) == 1 })
	if m, _ := p.sees(who, chat, func(w human) (simulator.Sent, error) { return w.SendText("who is it?"), nil }); m.Text != "who is it?" {
		p.t.Errorf("the operator sees %s", asJSON(m))
	}
}

// deletesTheirs: what the customer wrote goes from their side, too.
func deletesTheirs(p *party, row string) {
	m, _ := p.sees(p.who, p.chat, func(w human) (simulator.Sent, error) { return w.SendText("my card is 4111"), nil })
	since := p.now()
	p.op.call("message.delete", object{"message_id": m.ID}, nil)
	polled(p.t, "deletion at the platform", patience, func() bool { return len(p.received(since, nil)) > 0 })
	p.got(row, since, p.names(p.who, &m))
	if m, _ := p.stored(m.ID); m.DeletedAt == nil || m.Status != message.StatusReceived {
		p.t.Errorf("the message is %s", asJSON(m))
	}
}

// forwards: the platform's own forward where it has such, else an ordinary
// message with the same words.
func forwards(p *party, row string) {
	from, fromChat := p.talk(simulator.CustomerSpec{})
	words, _ := p.sees(from, fromChat, func(w human) (simulator.Sent, error) { return w.SendText("pass it on"), nil })
	since := p.now()
	var r struct{ Message message.Message }
	p.op.call("message.forward", object{"message_id": words.ID, "chat_id": p.chat, "client_id": fmt.Sprint("matrix ", p.serial.Add(1))}, &r)
	m := p.op.message("forwarded message", func(m *message.Message) bool {
		return m.ID == r.Message.ID && m.Status.Rank() >= message.StatusSent.Rank()
	})
	names := p.names(p.who, &m)
	names[from.ID()], names[*words.PlatformMessageID] = "OTHER", "THEIRS"
	p.got(row, since, names)
	p.shows(p.who, func(seen []simulator.Message) bool {
		s := seen[len(seen)-1]
		return s.Text == "pass it on" && s.Forwarded == p.caps.Forward
	})
}

// Every cell of the promise, through the whole system: what a platform can is done,
// by the customer and seen by the operator or by the operator and received by the
// platform as its documents ask; what it can't is refused.
func TestPromise(t *testing.T) {
	t.Parallel()
	w := start(t)
	list := parties(w)
	token := w.operatorAs(switchboard.Operator{Login: "ann", Name: "Ann Lee", Role: switchboard.RoleAdmin, Avatar: operatorAvatar})
	op := w.connect(token, nil)
	_, key, err := w.sys.admin.AddAPIKey(t.Context(), "test", "script")
	if err != nil {
		t.Fatal(err)
	}
	matrix, how := channeltest.Matrix(), proofs()
	for name := range how {
		if !slices.ContainsFunc(matrix, func(f channeltest.Function) bool { return f.Name == name }) {
			t.Errorf("%q is no row of the promise", name)
		}
	}
	var done, refused, skipped atomic.Int64
	var all sync.WaitGroup
	serial := new(atomic.Int64)
	for _, m := range channeltest.Messengers() {
		for _, platform := range m.Platforms {
			p, ok := list[platform]
			if !ok {
				t.Errorf("nobody plays %s", platform)
				continue
			}
			for _, name := range slices.Concat(slices.Collect(maps.Keys(p.does)), slices.Collect(maps.Keys(p.gets))) {
				if _, ok := how[name]; !ok {
					t.Errorf("%s: %q is no row of the promise", platform, name)
				}
			}
			p.platform, p.inbound, p.key, p.t, p.serial = platform, &inbound{w, token, op}, key, t, serial
			p.rest("GET", "/api/v1/accounts/"+p.account+"/capabilities", token, nil, 200, &p.caps)
			p.who, p.chat = p.talk(simulator.CustomerSpec{Receipts: "none"})
			all.Go(func() {
				for _, f := range matrix {
					if f.NotBuilt != "" {
						skipped.Add(1)
						continue
					}
					t.Run(f.Name+"/"+platform, func(t *testing.T) {
						has, promise := f.Has(&p.caps), f.Promised[platform]
						if has && promise == channeltest.No || !has && (promise == channeltest.Yes || promise == channeltest.Beyond) {
							t.Fatalf("declared %v, promised %q", has, promise)
						}
						proof, ok := how[f.Name]
						if !ok {
							t.Fatal("nobody says how to prove it")
						}
						if has {
							done.Add(1)
							proof.yes(p.in(t), f.Name)
						} else {
							refused.Add(1)
							proof.no(p.in(t), f.Name)
						}
					})
				}
			})
		}
	}
	all.Wait()
	t.Logf("%d cells done, %d refused, %d not built", done.Load(), refused.Load(), skipped.Load())
}
