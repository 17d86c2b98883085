package simulator

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// InfobipCustomer is somebody with WhatsApp, as one number at Infobip knows them.
// The id is the phone's digits.
type InfobipCustomer struct {
	customerCore
	acct *InfobipAccount
	user string // business-scoped user id

	mu       sync.Mutex
	name     string
	username string
	receipts string
	blocked  bool
	nobody   bool // the phone has no WhatsApp
	hidden   bool // hides the phone
	wrote    time.Time
	history  []*infobipStored
	seq      int64
	lastKeys *infobipStored // the newest message with buttons
}

// infobipStored is a message as the dialogue keeps it; its customer's mu guards it.
type infobipStored struct {
	seq     int64
	id      string
	fromBot bool
	m       *infobipMessage
	files   []FileInfo
	state   string
	at      time.Time
}

// InfobipAction holds the arguments of every action; each uses its own few.
type InfobipAction struct {
	Text    string          `json:"text"` // also the caption
	File    FileSpec        `json:"file"`
	URL     string          `json:"url"`   // files: an address instead of a generated file
	Count   int             `json:"count"` // burst: messages in one callback
	Name    string          `json:"name"`
	Phone   string          `json:"phone"`
	Lat     float64         `json:"lat"`
	Lon     float64         `json:"lon"`
	Data    string          `json:"data"`     // press: id or title of the button; empty: the first one; reaction: the emoji
	ReplyTo string          `json:"reply_to"` // reply, reaction: id of the message
	Kind    string          `json:"kind"`     // unknown: the type; marketing: stop or resume
	Value   json.RawMessage `json:"value"`    // unknown, flow: further fields of the message
	Update  json.RawMessage `json:"update"`   // raw
}

func infobipActions() map[string]func(*InfobipCustomer, InfobipAction) (Sent, error) {
	type act = func(*InfobipCustomer, InfobipAction) (Sent, error)
	return map[string]act{
		"text":     func(u *InfobipCustomer, a InfobipAction) (Sent, error) { return u.writeText(a, nil) },
		"reply":    func(u *InfobipCustomer, a InfobipAction) (Sent, error) { return u.writeText(a, nil) },
		"burst":    (*InfobipCustomer).burst,
		"photo":    infobipFile("IMAGE", "jpeg"),
		"picture":  infobipFile("IMAGE", "jpeg"),
		"image":    infobipFile("IMAGE", "jpeg"),
		"video":    infobipFile("VIDEO", "mp4"),
		"audio":    infobipFile("AUDIO", "mp3"),
		"voice":    infobipFile("VOICE", "ogg"),
		"sticker":  infobipFile("STICKER", "webp"),
		"document": infobipFile("DOCUMENT", "pdf"),
		"file":     infobipFile("DOCUMENT", "pdf"),
		"location": (*InfobipCustomer).sendLocation,
		"contact":  (*InfobipCustomer).sendContact,
		"press":    (*InfobipCustomer).pressButton,
		"quick_reply": func(u *InfobipCustomer, a InfobipAction) (Sent, error) {
			return u.write(a, map[string]any{"type": "BUTTON", "text": a.Text, "payload": a.Data}, nil, nil)
		},
		"reaction": func(u *InfobipCustomer, a InfobipAction) (Sent, error) {
			if a.Data == "" {
				a.Data = "👍"
			}
			return u.write(a, map[string]any{"type": "REACTION", "emoji": a.Data, "action": "ADDED"}, nil, nil)
		},
		"flow": func(u *InfobipCustomer, a InfobipAction) (Sent, error) {
			return u.write(a, map[string]any{"type": "INTERACTIVE_FLOW_REPLY", "text": a.Text, "response": a.Value}, nil, nil)
		},
		"infected": func(u *InfobipCustomer, a InfobipAction) (Sent, error) {
			return u.write(a, map[string]any{"type": "INFECTED_CONTENT", "malware": "Infected content detected"}, nil, nil)
		},
		"unknown":      (*InfobipCustomer).sendUnknown,
		"marketing":    (*InfobipCustomer).marketing,
		"hide":         func(u *InfobipCustomer, _ InfobipAction) (Sent, error) { return u.flag(&u.hidden, true) },
		"show":         func(u *InfobipCustomer, _ InfobipAction) (Sent, error) { return u.flag(&u.hidden, false) },
		"block":        func(u *InfobipCustomer, _ InfobipAction) (Sent, error) { return u.flag(&u.blocked, true) },
		"unblock":      func(u *InfobipCustomer, _ InfobipAction) (Sent, error) { return u.flag(&u.blocked, false) },
		"expire_media": func(u *InfobipCustomer, _ InfobipAction) (Sent, error) { u.acct.sim.media.expire(); return Sent{}, nil },
		"raw":          func(u *InfobipCustomer, a InfobipAction) (Sent, error) { return u.acct.inject(a.Update) },
	}
}

// InfobipActions lists the names of all actions.
func InfobipActions() []string { return slices.Sorted(maps.Keys(infobipActions())) }

// Do performs an action by its name; see InfobipActions. Errors describe
// arguments that make no sense.
func (u *InfobipCustomer) Do(action string, a InfobipAction) (Sent, error) {
	f, ok := infobipActions()[action]
	if !ok {
		return Sent{}, fmt.Errorf("action %q: want one of %q", action, InfobipActions())
	}
	return f(u, a)
}

func (u *InfobipCustomer) act(action string, args []byte) (Sent, error) {
	var a InfobipAction
	if err := decodeStrict(args, &a); err != nil {
		return Sent{}, err
	}
	return u.Do(action, a)
}

func (u *InfobipCustomer) flag(which *bool, on bool) (Sent, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	*which = on
	return Sent{}, nil
}

// element renders a message to the number; u.mu is held.
func (u *InfobipCustomer) element(id string, message map[string]any, at time.Time) map[string]any {
	from, contact := u.id, map[string]any{"name": u.name, "userId": u.user}
	if u.hidden {
		from = u.user
	} else {
		contact["phoneNumber"] = u.id
	}
	if u.username != "" {
		contact["username"] = u.username
	}
	return map[string]any{
		"from": from, "to": u.acct.Sender(), "integrationType": "WHATSAPP", "receivedAt": at.UTC().Format(infobipTime), "messageId": id, "message": message,
		"price": map[string]any{"pricePerMessage": 0, "currency": "EUR"}, "contact": contact,
	}
}

// newID is the id of a customer's message: base64, with signs that paths don't like.
func (u *InfobipCustomer) newID() string {
	u.acct.mu.Lock()
	defer u.acct.mu.Unlock()
	u.acct.next++
	return "wamid." + base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf("\x1d%s\x15\x02%x", u.id, filler(u.acct.sim.cfg.Seed, u.acct.next))))
}

// write sends a message to the number.
func (u *InfobipCustomer) write(a InfobipAction, message map[string]any, files []FileInfo, t *tracker) (Sent, error) {
	if a.ReplyTo != "" {
		message["context"] = map[string]any{"from": u.acct.Sender(), "id": a.ReplyTo}
	}
	id, now := u.newID(), time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.wrote, u.blocked = now, false // who writes has not blocked
	element := u.element(id, message, now)
	u.note(id, a, message, files, now)
	ok := u.acct.emit("INBOUND_MESSAGE", u.id, infobipResults(element), t)
	u.changed.broadcast()
	return Sent{MessageID: id, Dropped: !ok, Files: files}, nil
}

// note keeps what the customer wrote; u.mu is held.
func (u *InfobipCustomer) note(id string, a InfobipAction, message map[string]any, files []FileInfo, at time.Time) {
	kind, _ := message["type"].(string)
	u.keep(&infobipStored{id: id, m: &infobipMessage{id: id, kind: strings.ToLower(kind), text: a.Text, replyTo: a.ReplyTo}, files: files, at: at})
}

// keep stores a message; u.mu is held.
func (u *InfobipCustomer) keep(s *infobipStored) {
	u.seq++
	s.seq = u.seq
	if len(u.history) >= u.acct.sim.cfg.KeepMessages {
		u.history[0] = nil
		u.history = u.history[1:]
	}
	u.history = append(u.history, s)
}

func (u *InfobipCustomer) writeText(a InfobipAction, t *tracker) (Sent, error) {
	if a.Text == "" {
		a.Text = "Hello!"
	}
	return u.write(a, map[string]any{"type": "TEXT", "text": a.Text}, nil, t)
}

// burst sends several texts in one callback.
func (u *InfobipCustomer) burst(a InfobipAction) (Sent, error) {
	if a.Count < 1 || a.Count > 2000 {
		return Sent{}, fmt.Errorf("count %d: want 1 to 2000", a.Count)
	}
	var sent Sent
	var all []any
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range a.Count {
		id, now := u.newID(), time.Now()
		one := map[string]any{"type": "TEXT", "text": a.Text + strconv.Itoa(i+1)}
		all = append(all, u.element(id, one, now))
		u.note(id, a, one, nil, now)
		sent.MessageIDs = append(sent.MessageIDs, id)
	}
	u.wrote = time.Now()
	sent.Dropped = !u.acct.emit("INBOUND_MESSAGE", u.id, infobipResults(all...), nil)
	return sent, nil
}

func infobipFile(kind, format string) func(*InfobipCustomer, InfobipAction) (Sent, error) {
	return func(u *InfobipCustomer, a InfobipAction) (Sent, error) {
		b, err := makeBlob(a.File, format)
		if err != nil {
			return Sent{}, err
		}
		if a.File.MIME != "" {
			b.mime = a.File.MIME
		}
		info := b.info(a.File.Name)
		if info.URL = a.URL; a.URL == "" {
			info.URL = u.acct.link(b)
		}
		m := map[string]any{"type": kind, "url": info.URL}
		switch {
		case a.Text != "" && kind != "AUDIO" && kind != "STICKER":
			m["caption"] = a.Text
		case kind == "DOCUMENT": // holds the name when nobody wrote anything
			if info.Name == "" {
				info.Name = "file." + b.ext
			}
			m["caption"] = info.Name
		}
		return u.write(a, m, []FileInfo{info}, nil)
	}
}

func (u *InfobipCustomer) sendLocation(a InfobipAction) (Sent, error) {
	if a.Lat == 0 && a.Lon == 0 {
		a.Lat, a.Lon = 55.751244, 37.618423
	}
	m := map[string]any{"type": "LOCATION", "latitude": a.Lat, "longitude": a.Lon}
	if a.Name != "" {
		m["name"] = a.Name
	}
	return u.write(a, m, nil, nil)
}

func (u *InfobipCustomer) sendContact(a InfobipAction) (Sent, error) {
	if a.Phone == "" {
		a.Name, a.Phone = "Support of a friend", "79161234500"
	}
	return u.write(a, map[string]any{"type": "CONTACT", "contacts": []any{map[string]any{
		"name":   map[string]any{"firstName": a.Name, "formattedName": a.Name},
		"phones": []any{map[string]any{"phone": a.Phone, "type": "CELL", "waId": strings.TrimPrefix(a.Phone, "+")}},
	}}}, nil, nil)
}

func (u *InfobipCustomer) sendUnknown(a InfobipAction) (Sent, error) {
	if a.Kind == "" {
		a.Kind = "HOLOGRAM"
	}
	m := map[string]any{}
	if len(a.Value) > 0 {
		if err := json.Unmarshal(a.Value, &m); err != nil {
			return Sent{}, fmt.Errorf("value: %w", err)
		}
	}
	m["type"] = a.Kind
	return u.write(a, m, nil, nil)
}

// marketing stops or resumes messages of that kind.
func (u *InfobipCustomer) marketing(a InfobipAction) (Sent, error) {
	if a.Kind == "" {
		a.Kind = "stop"
	}
	body := map[string]any{
		"from":      u.acct.Sender(),
		"content":   map[string]any{"sender": u.acct.Sender(), "from": u.id, "notificationMessagesStatus": a.Kind, "description": "User requested to " + a.Kind + " marketing messages"},
		"createdAt": time.Now().UTC().Format(infobipTime),
	}
	return Sent{Dropped: !u.acct.emit("MARKETING_SUBSCRIPTION_UPDATE", u.id, mustJSON(body), nil)}, nil
}

// pressButton presses a button of the newest message that has some.
func (u *InfobipCustomer) pressButton(a InfobipAction) (Sent, error) {
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
		if a.ReplyTo == "" {
			a.ReplyTo = "wamid." + base64.StdEncoding.EncodeToString([]byte(s.id)) // never the id that was sent
		}
		switch b.Action {
		case "url":
			return Sent{Dropped: true}, nil
		case "quick_reply":
			return u.write(a, map[string]any{"type": "BUTTON", "text": b.Text, "payload": b.Data}, nil, nil)
		case "list":
			return u.write(a, map[string]any{"type": "INTERACTIVE_LIST_REPLY", "id": b.Data, "title": b.Text, "description": ""}, nil, nil)
		}
		return u.write(a, map[string]any{"type": "INTERACTIVE_BUTTON_REPLY", "id": b.Data, "title": b.Text}, nil, nil)
	}
	return Sent{}, fmt.Errorf("press %q: no such button", a.Data)
}

func (u *InfobipCustomer) say(text string, t *tracker) (Sent, error) {
	return u.writeText(InfobipAction{Text: text}, t)
}

func (u *InfobipCustomer) share(what, caption string, seed uint64) (Sent, error) {
	a := InfobipAction{Text: caption, File: FileSpec{Seed: seed}}
	switch what {
	case "location":
		a.Lat, a.Lon = 55.70+float64(seed%1000)/10_000, 37.55+float64(seed/1000%1000)/10_000
	case "document":
		a.File.Name = "order-" + strconv.FormatUint(seed%10_000, 10) + ".pdf"
	}
	return u.Do(what, a)
}

func (u *InfobipCustomer) press(i int) (Sent, error) {
	u.mu.Lock()
	s := u.lastKeys
	u.mu.Unlock()
	if s == nil {
		return Sent{}, errors.New("no buttons are shown")
	}
	return u.pressButton(InfobipAction{Data: s.m.buttons[i%len(s.m.buttons)].Text})
}

func (u *InfobipCustomer) set(p CustomerPatch) error {
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
	if p.Started != nil {
		u.wrote = time.Time{}
		if *p.Started {
			u.wrote = time.Now()
		}
	}
	return nil
}

func (u *InfobipCustomer) describe() map[string]any {
	u.mu.Lock()
	defer u.mu.Unlock()
	m := map[string]any{
		"id": u.id, "user_id": u.user, "phone": u.id, "name": u.name, "blocked": u.blocked, "receipts": u.receipts, "messages": u.seq,
	}
	if u.lastKeys != nil {
		m["buttons"] = u.lastKeys.m.buttons
	}
	return m
}

func (u *InfobipCustomer) view(since int64) []Message {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := []Message{}
	for _, s := range u.history {
		if s.seq <= since {
			continue
		}
		v := Message{
			Seq: s.seq, ID: s.id, From: FromCustomer, Kind: s.m.kind, Text: s.m.text, Location: s.m.location, Contact: s.m.contact, Keyboard: s.m.keyboard,
			Buttons: slices.Clone(s.m.buttons), ReplyTo: s.m.replyTo, State: s.state, Warnings: slices.Clone(s.m.warnings), Files: slices.Clone(s.files), At: s.at, Raw: s.m.raw,
		}
		if s.fromBot {
			v.From = FromBot
		}
		out = append(out, v)
	}
	return out
}

// UserID is the customer's business-scoped user id.
func (u *InfobipCustomer) UserID() string { return u.user }

// SendText writes a text.
func (u *InfobipCustomer) SendText(text string) Sent {
	return must(u.Do("text", InfobipAction{Text: text}))
}

// Press presses a button by its id or its title; "" is the first one.
func (u *InfobipCustomer) Press(data string) (Sent, error) {
	return u.Do("press", InfobipAction{Data: data})
}

// Set changes the customer without a callback.
func (u *InfobipCustomer) Set(p CustomerPatch) error { return u.set(p) }

// Messages returns what the number has sent, as the customer sees it now.
func (u *InfobipCustomer) Messages() []Message { return fromBot(u.view(0)) }

// Transcript returns the whole dialogue.
func (u *InfobipCustomer) Transcript() []Message { return u.view(0) }

// WaitMessages waits until the number has sent n messages or d has passed, and
// returns them.
func (u *InfobipCustomer) WaitMessages(n int, d time.Duration) []Message {
	return waitMessages(u, &u.customerCore, n, d)
}
