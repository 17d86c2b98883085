package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// OKCustomer is a user of OK as one group knows them.
type OKCustomer struct {
	customerCore
	acct *OKAccount
	chat string // chat:...

	mu       sync.Mutex
	name     string
	phone    string
	allowed  bool // wrote to the group, or allowed its messages
	blocked  bool
	history  []*okStored
	seq      int64
	lastKeys *okStored            // the newest message with buttons
	presses  map[string]*okStored // by callbackId
}

// okStored is a message as the dialogue keeps it.
type okStored struct {
	seq      int64
	order    int64 // OK's seq
	mid      string
	fromBot  bool
	m        *okMessage
	earlier  []string
	ownFiles []FileInfo
	item     json.RawMessage // the customer's, as the history shows it
	at       time.Time
	edited   time.Time
}

// OKAction holds the arguments of every action; each uses its own few.
type OKAction struct {
	Text    string          `json:"text"` // also beside files
	File    FileSpec        `json:"file"`
	URL     string          `json:"url"`   // share, music: the link; files: an address instead of a generated file
	Count   int             `json:"count"` // album: pictures, up to 5
	Name    string          `json:"name"`
	Phone   string          `json:"phone"`
	Lat     float64         `json:"lat"`
	Lon     float64         `json:"lon"`
	Data    string          `json:"data"`     // press: payload or text of the button; empty: the first one
	ReplyTo string          `json:"reply_to"` // reply: mid of the quoted message
	Payload string          `json:"payload"`  // chat_started: of the link
	Kind    string          `json:"kind"`     // unknown, unknown_event: the type; call: hangupType
	Value   json.RawMessage `json:"value"`    // unknown: the payload; unknown_event: further fields
	Update  json.RawMessage `json:"update"`   // raw
	Old     bool            `json:"old"`      // without webhookType and name, as old callbacks were
}

func okActions() map[string]func(*OKCustomer, OKAction) (Sent, error) {
	return map[string]func(*OKCustomer, OKAction) (Sent, error){
		"text":     func(u *OKCustomer, a OKAction) (Sent, error) { return u.write(orHello(a), nil, nil) },
		"reply":    func(u *OKCustomer, a OKAction) (Sent, error) { return u.write(orHello(a), nil, nil) },
		"photo":    okFile("IMAGE", "jpeg"),
		"picture":  okFile("IMAGE", "jpeg"),
		"video":    okFile("VIDEO", "mp4"),
		"audio":    okFile("AUDIO", "mp3"),
		"voice":    okFile("AUDIO", "mp3"),
		"file":     okFile("FILE", "pdf"),
		"document": okFile("FILE", "pdf"),
		"sticker":  okFile("STICKER", "png"),
		"album":    (*OKCustomer).sendAlbum,
		"present": func(u *OKCustomer, a OKAction) (Sent, error) {
			return u.attach(a, "PRESENT", map[string]any{"id": "90071"})
		},
		"contact":       (*OKCustomer).sendContact,
		"location":      (*OKCustomer).sendLocation,
		"share":         (*OKCustomer).sendShare,
		"url":           (*OKCustomer).sendShare,
		"music":         (*OKCustomer).sendMusic,
		"call":          (*OKCustomer).call,
		"forward":       func(u *OKCustomer, _ OKAction) (Sent, error) { return u.write(OKAction{}, nil, nil) }, // arrives empty
		"unknown":       (*OKCustomer).sendUnknown,
		"unknown_event": (*OKCustomer).unknownEvent,
		"press":         (*OKCustomer).pressButton,
		"chat_started":  (*OKCustomer).open,
		"start":         (*OKCustomer).open,
		"block":         func(u *OKCustomer, _ OKAction) (Sent, error) { return u.allow(false) },
		"unblock":       func(u *OKCustomer, _ OKAction) (Sent, error) { return u.allow(true) },
		"expire_media":  func(u *OKCustomer, _ OKAction) (Sent, error) { u.acct.sim.media.expire(); return Sent{}, nil },
		"forget":        func(u *OKCustomer, _ OKAction) (Sent, error) { u.acct.Forget(); return Sent{}, nil },
		"raw":           func(u *OKCustomer, a OKAction) (Sent, error) { return u.acct.inject(a.Update) },
	}
}

func orHello(a OKAction) OKAction {
	if a.Text == "" {
		a.Text = "Hello!"
	}
	return a
}

// OKActions lists the names of all actions.
func OKActions() []string {
	var out []string
	for k := range okActions() {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Do performs an action by its name; see OKActions. Errors describe arguments
// that make no sense.
func (u *OKCustomer) Do(action string, a OKAction) (Sent, error) {
	f, ok := okActions()[action]
	if !ok {
		return Sent{}, fmt.Errorf("action %q: want one of %q", action, OKActions())
	}
	return f(u, a)
}

func (u *OKCustomer) act(action string, args []byte) (Sent, error) {
	var a OKAction
	if err := decodeStrict(args, &a); err != nil {
		return Sent{}, err
	}
	return u.Do(action, a)
}

// mid is the id of a message: the chat's, and the counter in hex.
func (u *OKCustomer) mid(seq int64) string {
	return "mid:" + strings.TrimPrefix(u.chat, "chat:") + "." + strconv.FormatInt(seq, 16)
}

// envelope begins a callback; u.mu is held.
func (u *OKCustomer) envelope(event string, old bool, at time.Time) map[string]any {
	sender := map[string]any{"user_id": u.id}
	m := map[string]any{"sender": sender, "recipient": map[string]any{"chat_id": u.chat}, "timestamp": at.UnixMilli()}
	if !old {
		m["webhookType"], sender["name"] = event, u.name
	}
	return m
}

// write sends a message of text and attachments.
func (u *OKCustomer) write(a OKAction, attachments []any, files []FileInfo) (Sent, error) {
	return u.writeTracked(a, attachments, files, nil)
}

func (u *OKCustomer) writeTracked(a OKAction, attachments []any, files []FileInfo, t *tracker) (Sent, error) {
	now := time.Now()
	seq := u.acct.plat.nextSeq(now)
	m := map[string]any{"seq": seq, "mid": u.mid(seq)}
	if a.Text != "" || len(attachments) == 0 {
		m["text"] = a.Text
	}
	if len(attachments) > 0 {
		m["attachments"] = attachments
	}
	if a.ReplyTo != "" {
		m["reply_to"] = a.ReplyTo
	}
	kind := "text"
	if len(attachments) > 0 {
		kind = strings.ToLower(fmt.Sprint(attachments[0].(map[string]any)["type"]))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.allowed, u.blocked = true, false // who writes allows
	body := u.envelope("MESSAGE_CREATED", a.Old, now)
	body["message"] = m
	s := &okStored{order: seq, mid: u.mid(seq), m: &okMessage{kind: kind, text: a.Text, replyTo: a.ReplyTo}, ownFiles: files, item: mustJSON(body), at: now}
	u.keep(s)
	ok := u.acct.emit("MESSAGE_CREATED", u.id, mustJSON(body), t)
	u.changed.broadcast()
	return Sent{MessageID: s.mid, Dropped: !ok, Files: files}, nil
}

// keep stores a message; u.mu is held.
func (u *OKCustomer) keep(s *okStored) {
	u.seq++
	s.seq = u.seq
	if len(u.history) >= u.acct.sim.cfg.KeepMessages {
		u.history[0] = nil
		u.history = u.history[1:]
	}
	u.history = append(u.history, s)
}

func (u *OKCustomer) attach(a OKAction, kind string, payload map[string]any) (Sent, error) {
	return u.write(a, []any{map[string]any{"type": kind, "payload": payload}}, nil)
}

// link publishes a generated file.
func (u *OKCustomer) link(b *blob, name string) string {
	s := u.acct.sim
	return s.BaseURL() + "/ok/media/" + s.media.put(b, s.cfg.Seed, mediaLife) + "/" + urlName(name)
}

// made generates a file and its attachment.
func (u *OKCustomer) made(kind, format string, spec FileSpec, address string) (map[string]any, FileInfo, error) {
	b, err := makeBlob(spec, format)
	if err != nil {
		return nil, FileInfo{}, err
	}
	if spec.MIME != "" {
		b.mime = spec.MIME
	}
	name := spec.Name
	if name == "" {
		name = strings.ToLower(kind) + "." + b.ext
	}
	info := b.info(name)
	if info.URL = address; address == "" {
		info.URL = u.link(b, name)
	}
	payload := map[string]any{"url": info.URL, "token": "t" + info.SHA256[:12] + "=="}
	switch kind {
	case "IMAGE", "VIDEO":
		payload["id"] = "900000000001"
	case "STICKER":
		payload = map[string]any{"url": info.URL, "id": "st-77"}
	case "FILE":
		payload["name"] = name
	}
	return map[string]any{"type": kind, "payload": payload}, info, nil
}

func okFile(kind, format string) func(*OKCustomer, OKAction) (Sent, error) {
	return func(u *OKCustomer, a OKAction) (Sent, error) {
		one, info, err := u.made(kind, format, a.File, a.URL)
		if err != nil {
			return Sent{}, err
		}
		return u.write(a, []any{one}, []FileInfo{info})
	}
}

func (u *OKCustomer) sendAlbum(a OKAction) (Sent, error) {
	if a.Count == 0 {
		a.Count = 3
	}
	if a.Count < 1 || a.Count > maxOKAttachments {
		return Sent{}, fmt.Errorf("count %d: want 1 to %d", a.Count, maxOKAttachments)
	}
	var all []any
	var files []FileInfo
	for i := range a.Count {
		spec := a.File
		spec.Seed += uint64(i)
		one, info, err := u.made("IMAGE", "jpeg", spec, "")
		if err != nil {
			return Sent{}, err
		}
		all, files = append(all, one), append(files, info)
	}
	return u.write(a, all, files)
}

func (u *OKCustomer) sendContact(a OKAction) (Sent, error) {
	if a.Phone == "" {
		u.mu.Lock()
		a.Name, a.Phone = u.name, u.phone
		u.mu.Unlock()
	}
	return u.attach(a, "CONTACT", map[string]any{"name": a.Name, "phone": a.Phone, "photoUrl": u.acct.sim.BaseURL() + "/ok/media/icon.png"})
}

func (u *OKCustomer) sendLocation(a OKAction) (Sent, error) {
	if a.Lat == 0 && a.Lon == 0 {
		a.Lat, a.Lon = 55.751244, 37.618423
	}
	return u.attach(a, "LOCATION", map[string]any{"latitude": a.Lat, "longitude": a.Lon, "zoom": 15})
}

func (u *OKCustomer) sendShare(a OKAction) (Sent, error) {
	if a.URL == "" {
		a.URL = "https://shop.example.com/item/5"
	}
	if a.Text == "" {
		a.Text = a.URL
	}
	return u.attach(a, "SHARE", map[string]any{"url": a.URL})
}

func (u *OKCustomer) sendMusic(a OKAction) (Sent, error) {
	if a.URL == "" {
		a.URL = "https://ok.ru/music/track/123456"
	}
	return u.attach(a, "MUSIC", map[string]any{"url": a.URL})
}

func (u *OKCustomer) call(a OKAction) (Sent, error) {
	if a.Kind == "" {
		a.Kind = "MISSED"
	}
	return u.attach(OKAction{}, "CALL", map[string]any{"type": "AUDIO", "hangupType": a.Kind, "duration": 0})
}

func (u *OKCustomer) sendUnknown(a OKAction) (Sent, error) {
	if a.Kind == "" {
		a.Kind = "HOLOGRAM"
	}
	payload := map[string]any{}
	if len(a.Value) > 0 {
		if err := json.Unmarshal(a.Value, &payload); err != nil {
			return Sent{}, fmt.Errorf("value: %w", err)
		}
	}
	return u.attach(a, a.Kind, payload)
}

// event queues a callback that is not a message.
func (u *OKCustomer) event(event string, old bool, more map[string]any) (Sent, error) {
	now := time.Now()
	u.mu.Lock()
	body := u.envelope(event, old, now)
	u.mu.Unlock()
	for k, v := range more {
		body[k] = v
	}
	return Sent{Dropped: !u.acct.emit(event, u.id, mustJSON(body), nil)}, nil
}

func (u *OKCustomer) unknownEvent(a OKAction) (Sent, error) {
	if a.Kind == "" {
		a.Kind = "MESSAGE_EDITED"
	}
	more := map[string]any{}
	if len(a.Value) > 0 {
		if err := json.Unmarshal(a.Value, &more); err != nil {
			return Sent{}, fmt.Errorf("value: %w", err)
		}
	}
	return u.event(a.Kind, false, more)
}

// open opens the chat by a link.
func (u *OKCustomer) open(a OKAction) (Sent, error) {
	u.mu.Lock()
	u.allowed = true
	u.mu.Unlock()
	more := map[string]any{"type": "CHAT_STARTED"}
	if a.Payload != "" {
		more["payload"] = a.Payload
	}
	return u.event("CHAT_SYSTEM", false, more)
}

// allow allows or forbids the group's messages; nobody is told.
func (u *OKCustomer) allow(yes bool) (Sent, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.blocked = !yes
	if yes {
		u.allowed = true
	}
	return Sent{}, nil
}

// pressButton presses a button of the newest message that has some.
func (u *OKCustomer) pressButton(a OKAction) (Sent, error) {
	u.mu.Lock()
	s := u.lastKeys
	var all []Button
	if s != nil {
		all = s.m.buttons
	}
	u.mu.Unlock()
	for _, b := range all {
		if a.Data != "" && a.Data != b.Data && a.Data != b.Text {
			continue
		}
		switch b.Action {
		case "REQUEST_CONTACT":
			return u.sendContact(OKAction{})
		case "REQUEST_GEO_LOCATION":
			return u.sendLocation(OKAction{})
		case "LINK":
			return Sent{Dropped: true}, nil
		}
		u.mu.Lock()
		id := fmt.Sprintf("cb-%x", filler(u.hash, uint64(len(u.presses))+1)>>16)
		if u.presses == nil {
			u.presses = map[string]*okStored{}
		}
		u.presses[id] = s
		mid := s.mid
		u.mu.Unlock()
		sent, err := u.event("MESSAGE_CALLBACK", a.Old, map[string]any{"mid": mid, "callbackId": id, "payload": b.Data})
		sent.MessageID = id
		return sent, err
	}
	return Sent{}, fmt.Errorf("press %q: no such button", a.Data)
}

func (u *OKCustomer) say(text string, t *tracker) (Sent, error) {
	return u.writeTracked(OKAction{Text: text}, nil, nil, t)
}

func (u *OKCustomer) share(what, caption string, seed uint64) (Sent, error) {
	a := OKAction{Text: caption, File: FileSpec{Seed: seed}}
	switch what {
	case "location":
		a.Lat, a.Lon = 55.70+float64(seed%1000)/10_000, 37.55+float64(seed/1000%1000)/10_000
	case "document":
		a.File.Name = "order-" + strconv.FormatUint(seed%10_000, 10) + ".pdf"
	}
	return u.Do(what, a)
}

func (u *OKCustomer) press(i int) (Sent, error) {
	u.mu.Lock()
	var all []Button
	if u.lastKeys != nil {
		all = u.lastKeys.m.buttons
	}
	u.mu.Unlock()
	if len(all) == 0 {
		return Sent{}, errors.New("no keyboard is shown")
	}
	return u.pressButton(OKAction{Data: all[i%len(all)].Text})
}

func (u *OKCustomer) set(p CustomerPatch) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	assign(&u.name, p.FirstName)
	assign(&u.blocked, p.Blocked)
	assign(&u.allowed, p.Started)
	return nil
}

// lastSeq is the counter of the newest message; 0 without any.
func (u *OKCustomer) lastSeq() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.history) == 0 {
		return 0
	}
	return u.history[len(u.history)-1].order
}

// chatObject renders the chat for me/chats.
func (u *OKCustomer) chatObject() map[string]any {
	u.mu.Lock()
	defer u.mu.Unlock()
	m := map[string]any{"chat_id": u.chat, "type": "DIALOG", "status": "ACTIVE", "title": u.name}
	if n := len(u.history); n > 0 {
		last := u.history[n-1].at.UnixMilli()
		m["lastEventTime"] = last
		m["participants"] = map[string]any{u.id: last, u.acct.group: last}
	}
	return m
}

// past renders the history, newest first, of [to, from].
func (u *OKCustomer) past(from, to int64, count int) []any {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := []any{}
	for _, s := range slices.Backward(u.history) {
		at := s.at.UnixMilli()
		if at > from || at < to || len(out) == count {
			continue
		}
		if !s.fromBot {
			// As the callback, which the document shows; its kind is of callbacks only.
			var item map[string]json.RawMessage
			if json.Unmarshal(s.item, &item) == nil {
				delete(item, "webhookType")
				out = append(out, item)
			}
			continue
		}
		m := map[string]any{"text": s.m.text, "seq": s.order, "mid": s.mid}
		var sent struct {
			Attachments []okAttachment `json:"attachments"`
		}
		if json.Unmarshal(s.m.raw, &sent) == nil && len(sent.Attachments) > 0 {
			m["attachments"] = sent.Attachments
		}
		out = append(out, map[string]any{
			"sender": map[string]any{"user_id": u.acct.group, "name": u.acct.name}, "recipient": map[string]any{"chat_id": u.chat},
			"message": m, "timestamp": at,
		})
	}
	return out
}

func (u *OKCustomer) describe() map[string]any {
	u.mu.Lock()
	defer u.mu.Unlock()
	m := map[string]any{
		"id": u.id, "chat_id": u.chat, "name": u.name, "phone": u.phone, "allowed": u.allowed, "blocked": u.blocked, "messages": u.seq,
	}
	if u.lastKeys != nil {
		m["buttons"] = u.lastKeys.m.buttons
	}
	return m
}

func (u *OKCustomer) view(since int64) []Message {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := []Message{}
	for _, s := range u.history {
		if s.seq <= since {
			continue
		}
		v := Message{
			Seq: s.seq, ID: s.mid, From: FromCustomer, Kind: s.m.kind, Text: s.m.text, Keyboard: s.m.keyboard, Buttons: slices.Clone(s.m.buttons),
			ReplyTo: s.m.replyTo, Earlier: slices.Clone(s.earlier), Warnings: slices.Clone(s.m.warnings), Files: slices.Clone(s.ownFiles), At: s.at, Raw: s.m.raw,
		}
		if s.fromBot {
			v.From, v.Files = FromBot, slices.Clone(s.m.files)
		}
		if !s.edited.IsZero() {
			v.EditedAt = &s.edited
		}
		out = append(out, v)
	}
	return out
}

// Chat is the id of the customer's chat with the group.
func (u *OKCustomer) Chat() string { return u.chat }

// SendText writes a text.
func (u *OKCustomer) SendText(text string) Sent { return must(u.Do("text", OKAction{Text: text})) }

// Press presses a button by its payload or its text; "" is the first one.
func (u *OKCustomer) Press(data string) (Sent, error) { return u.Do("press", OKAction{Data: data}) }

// Set changes the customer without a callback to the group.
func (u *OKCustomer) Set(p CustomerPatch) error { return u.set(p) }

// Messages returns what the group has sent, as the customer sees it now.
func (u *OKCustomer) Messages() []Message { return fromBot(u.view(0)) }

// Transcript returns the whole dialogue.
func (u *OKCustomer) Transcript() []Message { return u.view(0) }

// WaitMessages waits until the group has sent n messages or d has passed, and returns them.
func (u *OKCustomer) WaitMessages(n int, d time.Duration) []Message {
	return waitMessages(u, &u.customerCore, n, d)
}
