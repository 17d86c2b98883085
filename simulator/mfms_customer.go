package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"
)

// MFMSCustomer is somebody with WhatsApp, as one number at MFMS knows them. The
// id is the phone's digits.
type MFMSCustomer struct {
	customerCore
	acct   *MFMSAccount
	nobody bool // the phone has no WhatsApp

	mu       sync.Mutex
	name     string
	receipts string
	avatar   bool
	picture  string // path of the avatar, once it was told
	blocked  bool
	wrote    time.Time // last
	history  []*mfmsStored
	seq      int64
	lastKeys *mfmsStored // the newest message with buttons
}

// mfmsStored is a message as the dialogue keeps it. Its customer's mu guards it.
type mfmsStored struct {
	u       *MFMSCustomer
	seq     int64
	id      string
	fromBot bool
	hpx     bool // came over the XML connector, and is reported there; id is what it was given
	m       *mfmsMessage
	replyTo string
	contact *Card
	files   []FileInfo
	state   string
	problem string
	stateAt time.Time
	at      time.Time
}

// MFMSAction holds the arguments of every action; each uses its own few.
type MFMSAction struct {
	Text    string          `json:"text"` // also the caption
	File    FileSpec        `json:"file"`
	URL     string          `json:"url"` // files: an address instead of a generated file
	Name    string          `json:"name"`
	Phone   string          `json:"phone"`
	Lat     float64         `json:"lat"`
	Lon     float64         `json:"lon"`
	Data    string          `json:"data"`     // press: payload or text of the button; empty: the first one
	ReplyTo string          `json:"reply_to"` // reply: id of the quoted message
	Kind    string          `json:"kind"`     // unknown: the contentType
	Value   json.RawMessage `json:"value"`    // further fields of the callback, or others instead
	Update  json.RawMessage `json:"update"`   // raw
	Pulse   bool            `json:"pulse"`    // in the form of the newer interface
	List    bool            `json:"list"`     // as a list of one
	NoID    bool            `json:"no_id"`    // without an id
}

func mfmsActions() map[string]func(*MFMSCustomer, MFMSAction) (Sent, error) {
	return map[string]func(*MFMSCustomer, MFMSAction) (Sent, error){
		"text":         func(u *MFMSCustomer, a MFMSAction) (Sent, error) { return u.writeText(a, nil) },
		"reply":        func(u *MFMSCustomer, a MFMSAction) (Sent, error) { return u.writeText(a, nil) },
		"photo":        mfmsFile("image", "jpeg"),
		"picture":      mfmsFile("image", "jpeg"),
		"image":        mfmsFile("image", "jpeg"),
		"video":        mfmsFile("video", "mp4"),
		"audio":        mfmsFile("audio", "mp3"),
		"voice":        mfmsFile("voice", "ogg"),
		"sticker":      mfmsFile("sticker", "webp"),
		"document":     mfmsFile("document", "pdf"),
		"file":         mfmsFile("document", "pdf"),
		"location":     (*MFMSCustomer).sendLocation,
		"contact":      (*MFMSCustomer).sendContact,
		"press":        (*MFMSCustomer).pressButton,
		"unknown":      (*MFMSCustomer).sendUnknown,
		"block":        func(u *MFMSCustomer, _ MFMSAction) (Sent, error) { return u.block(true) },
		"unblock":      func(u *MFMSCustomer, _ MFMSAction) (Sent, error) { return u.block(false) },
		"expire_media": func(u *MFMSCustomer, _ MFMSAction) (Sent, error) { u.acct.sim.media.expire(); return Sent{}, nil },
		"raw":          func(u *MFMSCustomer, a MFMSAction) (Sent, error) { return u.acct.inject(a.Update) },
	}
}

// MFMSActions lists the names of all actions.
func MFMSActions() []string { return slices.Sorted(maps.Keys(mfmsActions())) }

// Do performs an action by its name; see MFMSActions. Errors describe arguments
// that make no sense.
func (u *MFMSCustomer) Do(action string, a MFMSAction) (Sent, error) {
	f, ok := mfmsActions()[action]
	if !ok {
		return Sent{}, fmt.Errorf("action %q: want one of %q", action, MFMSActions())
	}
	return f(u, a)
}

func (u *MFMSCustomer) act(action string, args []byte) (Sent, error) {
	var a MFMSAction
	if err := decodeStrict(args, &a); err != nil {
		return Sent{}, err
	}
	return u.Do(action, a)
}

// mfmsInbound is what a customer's message has beside the common fields.
type mfmsInbound struct {
	kind, text, caption string
	file                *FileInfo
	location            *Point
	contact             *Card
	payload             string
}

// callback renders a message from a customer. Of the IM form only imSubject is
// documented; the newer interface's is.
func (u *MFMSCustomer) callback(a *MFMSAction, id, subject string, in *mfmsInbound, at time.Time) map[string]any {
	null := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	m := map[string]any{}
	if a.Pulse {
		content := map[string]any{"type": upper(in.kind), "text": null(in.text), "caption": null(in.caption), "payload": null(in.payload), "attachment": nil, "location": nil}
		if in.file != nil {
			content["attachment"] = map[string]any{"url": in.file.URL, "name": in.file.Name, "size": in.file.Size}
		}
		if in.location != nil {
			content["location"] = map[string]any{"longitude": in.location.Lon, "latitude": in.location.Lat, "address": null(in.location.Title)}
		}
		if in.contact != nil {
			content["contact"] = in.contact
		}
		number, _ := strconv.ParseInt(id, 10, 64)
		m = map[string]any{
			"id": number, "subject": subject, "subjectId": 55, "subscriber": map[string]any{"id": 3301, "identifier": u.id},
			"userInfo":       map[string]any{"userName": u.name, "firstName": u.name, "lastName": nil, "avatarUrl": null(u.avatarURL())},
			"messageContent": content, "receivedAt": at.UTC().Format(time.RFC3339Nano),
			"replyOutMessageId": nil, "replyOutMessageExternalRequestId": null(a.ReplyTo), "replyInMessageId": nil,
		}
	} else {
		m = map[string]any{
			"id": id, "imSubject": subject, "imType": "whatsapp", "address": u.id, "userName": u.name, "receivedAt": at.In(moscow).Format(mfmsTime),
			"contentType": in.kind, "text": null(in.text), "attachmentUrl": nil, "attachmentName": nil, "caption": null(in.caption),
			"latitude": nil, "longitude": nil, "payload": null(in.payload), "replyToId": null(a.ReplyTo),
		}
		if in.file != nil {
			m["attachmentUrl"], m["attachmentName"] = in.file.URL, in.file.Name
		}
		if in.location != nil {
			m["latitude"], m["longitude"] = in.location.Lat, in.location.Lon
		}
		if in.contact != nil {
			m["contact"] = in.contact
		}
	}
	if a.NoID {
		delete(m, "id")
	}
	return m
}

// avatarURL is where the customer's picture is; "" without one. u.mu is held.
func (u *MFMSCustomer) avatarURL() string {
	sim := u.acct.sim
	if u.avatar && u.picture == "" {
		b, err := makeBlob(FileSpec{Seed: u.hash}, "jpeg")
		if err != nil {
			return ""
		}
		u.picture = "/mfms/media/" + sim.media.put(b, sim.cfg.Seed, 365*24*time.Hour) + "/avatar.jpg"
	}
	if !u.avatar {
		return ""
	}
	return sim.BaseURL() + u.picture
}

func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

// write sends a message to the number.
func (u *MFMSCustomer) write(a MFMSAction, in *mfmsInbound, t *tracker) (Sent, error) {
	more := map[string]any{}
	if len(a.Value) > 0 {
		if err := json.Unmarshal(a.Value, &more); err != nil {
			return Sent{}, fmt.Errorf("value: %w", err)
		}
	}
	acct := u.acct
	acct.mu.Lock()
	acct.next++
	id := strconv.FormatUint(acct.next, 10)
	subject := acct.subject
	if subject == "" { // not told yet
		subject = "ACME_WA"
	}
	acct.mu.Unlock()
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.wrote, u.blocked = now, false // who writes has not blocked
	body := u.callback(&a, id, subject, in, now)
	maps.Copy(body, more)
	words := in.text
	if words == "" {
		words = in.caption
	}
	s := &mfmsStored{u: u, id: id, m: &mfmsMessage{id: id, kind: in.kind, text: words, location: in.location}, contact: in.contact, replyTo: a.ReplyTo, at: now}
	if in.file != nil {
		s.files = []FileInfo{*in.file}
	}
	u.keep(s)
	raw := mustJSON(body)
	if a.List {
		raw = mustJSON([]any{body})
	}
	ok := acct.emit("message", u.id, raw, t)
	u.changed.broadcast()
	return Sent{MessageID: id, Dropped: !ok, Files: s.files}, nil
}

// keep stores a message; u.mu is held.
func (u *MFMSCustomer) keep(s *mfmsStored) {
	u.seq++
	s.seq = u.seq
	if len(u.history) >= u.acct.sim.cfg.KeepMessages {
		u.history[0] = nil
		u.history = u.history[1:]
	}
	u.history = append(u.history, s)
}

func (u *MFMSCustomer) writeText(a MFMSAction, t *tracker) (Sent, error) {
	if a.Text == "" {
		a.Text = "Hello!"
	}
	return u.write(a, &mfmsInbound{kind: "text", text: a.Text}, t)
}

func mfmsFile(kind, format string) func(*MFMSCustomer, MFMSAction) (Sent, error) {
	return func(u *MFMSCustomer, a MFMSAction) (Sent, error) {
		b, err := makeBlob(a.File, format)
		if err != nil {
			return Sent{}, err
		}
		if a.File.MIME != "" {
			b.mime = a.File.MIME
		}
		name := a.File.Name
		if name == "" {
			name = kind + "." + b.ext
		}
		info := b.info(name)
		if info.URL = a.URL; a.URL == "" {
			s := u.acct.sim
			info.URL = s.BaseURL() + "/mfms/media/" + s.media.put(b, s.cfg.Seed, mediaLife) + "/" + urlName(name)
		}
		return u.write(a, &mfmsInbound{kind: kind, caption: a.Text, file: &info}, nil)
	}
}

func (u *MFMSCustomer) sendLocation(a MFMSAction) (Sent, error) {
	if a.Lat == 0 && a.Lon == 0 {
		a.Lat, a.Lon = 55.751244, 37.618423
	}
	return u.write(a, &mfmsInbound{kind: "location", location: &Point{Lat: a.Lat, Lon: a.Lon, Title: a.Name}}, nil)
}

func (u *MFMSCustomer) sendContact(a MFMSAction) (Sent, error) {
	if a.Phone == "" {
		a.Name, a.Phone = "Support of a friend", "+79161234500"
	}
	return u.write(a, &mfmsInbound{kind: "contact", contact: &Card{Name: a.Name, Phone: a.Phone}}, nil)
}

func (u *MFMSCustomer) sendUnknown(a MFMSAction) (Sent, error) {
	if a.Kind == "" {
		a.Kind = "hologram"
	}
	return u.write(a, &mfmsInbound{kind: a.Kind, text: a.Text}, nil)
}

// block blocks the number; nobody is told before the next message.
func (u *MFMSCustomer) block(yes bool) (Sent, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.blocked = yes
	return Sent{}, nil
}

// pressButton presses a button of the newest message that has some.
func (u *MFMSCustomer) pressButton(a MFMSAction) (Sent, error) {
	u.mu.Lock()
	s := u.lastKeys
	u.mu.Unlock()
	if s == nil {
		return Sent{}, errors.New("no buttons are shown")
	}
	for _, b := range s.m.buttons {
		if a.Data != "" && a.Data != b.Data && a.Data != b.Text {
			continue
		}
		if b.Action != "QUICK_REPLY" {
			return Sent{Dropped: true}, nil
		}
		if a.ReplyTo == "" {
			a.ReplyTo = s.m.id
		}
		return u.write(a, &mfmsInbound{kind: "button", text: b.Text, payload: b.Data}, nil)
	}
	return Sent{}, fmt.Errorf("press %q: no such button", a.Data)
}

func (u *MFMSCustomer) say(text string, t *tracker) (Sent, error) {
	return u.writeText(MFMSAction{Text: text}, t)
}

func (u *MFMSCustomer) share(what, caption string, seed uint64) (Sent, error) {
	a := MFMSAction{Text: caption, File: FileSpec{Seed: seed}}
	switch what {
	case "location":
		a.Lat, a.Lon = 55.70+float64(seed%1000)/10_000, 37.55+float64(seed/1000%1000)/10_000
	case "document":
		a.File.Name = "order-" + strconv.FormatUint(seed%10_000, 10) + ".pdf"
	}
	return u.Do(what, a)
}

func (u *MFMSCustomer) press(i int) (Sent, error) {
	u.mu.Lock()
	s := u.lastKeys
	u.mu.Unlock()
	if s == nil {
		return Sent{}, errors.New("no buttons are shown")
	}
	return u.pressButton(MFMSAction{Data: s.m.buttons[i%len(s.m.buttons)].Text})
}

func (u *MFMSCustomer) set(p CustomerPatch) error {
	if p.Receipts != nil {
		if err := checkReceipts(p.Receipts); err != nil {
			return err
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	assign(&u.name, p.FirstName)
	assign(&u.blocked, p.Blocked)
	assign(&u.nobody, p.Deactivated)
	assign(&u.receipts, p.Receipts)
	assign(&u.avatar, p.Avatar)
	return nil
}

func (u *MFMSCustomer) describe() map[string]any {
	u.mu.Lock()
	defer u.mu.Unlock()
	m := map[string]any{
		"id": u.id, "phone": u.id, "name": u.name, "blocked": u.blocked, "receipts": u.receipts, "messages": u.seq,
	}
	if u.lastKeys != nil {
		m["buttons"] = u.lastKeys.m.buttons
	}
	return m
}

func (u *MFMSCustomer) view(since int64) []Message {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := []Message{}
	for _, s := range u.history {
		if s.seq <= since {
			continue
		}
		v := Message{
			Seq: s.seq, ID: s.id, From: FromCustomer, Kind: s.m.kind, Text: s.m.text, Location: s.m.location, Contact: s.contact, Keyboard: s.m.keyboard,
			Buttons: slices.Clone(s.m.buttons), ReplyTo: s.replyTo, State: s.state, Warnings: slices.Clone(s.m.warnings), Files: slices.Clone(s.files), At: s.at, Raw: s.m.raw,
		}
		if s.fromBot {
			v.From = FromBot
		}
		out = append(out, v)
	}
	return out
}

// SendText writes a text.
func (u *MFMSCustomer) SendText(text string) Sent { return must(u.Do("text", MFMSAction{Text: text})) }

// Press presses a button by its payload or its text; "" is the first one.
func (u *MFMSCustomer) Press(data string) (Sent, error) { return u.Do("press", MFMSAction{Data: data}) }

// Set changes the customer without a callback.
func (u *MFMSCustomer) Set(p CustomerPatch) error { return u.set(p) }

// Messages returns what the number has sent, as the customer sees it now.
func (u *MFMSCustomer) Messages() []Message { return fromBot(u.view(0)) }

// Transcript returns the whole dialogue.
func (u *MFMSCustomer) Transcript() []Message { return u.view(0) }

// WaitMessages waits until the number has sent n messages or d has passed, and
// returns them.
func (u *MFMSCustomer) WaitMessages(n int, d time.Duration) []Message {
	return waitMessages(u, &u.customerCore, n, d)
}
