package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"
)

// ViberCustomer is a Viber user as one bot knows them.
type ViberCustomer struct {
	customerCore
	acct *ViberAccount

	mu         sync.Mutex
	name       string
	phone      string
	country    string
	language   string
	avatar     avatar
	subscribed bool
	unsuitable bool
	version    int
	devices    int
	receipts   string
	online     int
	lastActive time.Time
	session    time.Time // start of the open session; zero: none yet
	hour       int64
	inHour     int
	details    []time.Time
	tracking   string
	context    string
	keyboard   json.RawMessage
	welcomeErr string
	history    []*vStored
	seq        int64
	unseen     *vStored // newest delivered and not seen
}

// ViberAction holds the arguments of every action; each uses its own few.
type ViberAction struct {
	Text      string          `json:"text"` // also a picture's or video's caption
	File      FileSpec        `json:"file"`
	Media     string          `json:"media"` // url: the link; others: an address instead of a generated file
	StickerID int             `json:"sticker_id"`
	AsString  bool            `json:"as_string"` // sticker_id as a JSON string
	NoMedia   bool            `json:"no_media"`  // sticker without media
	Own       bool            `json:"own"`       // contact: as the answer to a share-phone button; Text is its ActionBody
	Name      string          `json:"name"`
	Phone     string          `json:"phone"`
	Lat       float64         `json:"lat"`
	Lon       float64         `json:"lon"`
	Duration  int             `json:"duration"`
	Data      string          `json:"data"`    // press: ActionBody or Text; empty: the first button
	Context   string          `json:"context"` // conversation_started
	Kind      string          `json:"kind"`    // unknown, unknown_event: the type or the event
	Value     json.RawMessage `json:"value"`   // unknown: further fields of the message or of the event
	Update    json.RawMessage `json:"update"`  // raw
	ChatID    string          `json:"chat_id"` // the message was written in a group
	By        Delay           `json:"by"`      // age: moves the session into the past
}

func viberActions() map[string]func(*ViberCustomer, ViberAction) (Sent, error) {
	return map[string]func(*ViberCustomer, ViberAction) (Sent, error){
		"text":                 (*ViberCustomer).sendText,
		"picture":              viberFile("picture", "jpeg"),
		"photo":                viberFile("picture", "jpeg"),
		"video":                viberFile("video", "mp4"),
		"file":                 viberFile("file", "pdf"),
		"document":             viberFile("file", "pdf"),
		"voice":                viberFile("file", "m4a"), // how voice notes arrive is not proven; believed: as a file
		"sticker":              (*ViberCustomer).sendSticker,
		"contact":              (*ViberCustomer).sendContact,
		"location":             (*ViberCustomer).sendLocation,
		"url":                  (*ViberCustomer).sendURL,
		"gif":                  (*ViberCustomer).sendGIF,
		"unknown":              (*ViberCustomer).sendUnknown,
		"unknown_event":        (*ViberCustomer).unknownEvent,
		"press":                (*ViberCustomer).pressButton,
		"conversation_started": (*ViberCustomer).open,
		"start":                (*ViberCustomer).open,
		"subscribed":           (*ViberCustomer).subscribe,
		"unblock":              (*ViberCustomer).subscribe,
		"unsubscribed":         (*ViberCustomer).unsubscribe,
		"block":                (*ViberCustomer).unsubscribe,
		"seen":                 (*ViberCustomer).seeNow,
		"age":                  (*ViberCustomer).age,
		"expire_media":         func(u *ViberCustomer, _ ViberAction) (Sent, error) { u.acct.sim.media.expire(); return Sent{}, nil },
		"raw":                  func(u *ViberCustomer, a ViberAction) (Sent, error) { return u.acct.inject(a.Update) },
	}
}

// ViberActions lists the names of all actions.
func ViberActions() []string {
	var out []string
	for k := range viberActions() {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// Do performs an action by its name; see ViberActions. Errors describe
// arguments that make no sense.
func (u *ViberCustomer) Do(action string, a ViberAction) (Sent, error) {
	f, ok := viberActions()[action]
	if !ok {
		return Sent{}, fmt.Errorf("action %q: want one of %q", action, ViberActions())
	}
	return f(u, a)
}

func (u *ViberCustomer) act(action string, args []byte) (Sent, error) {
	var a ViberAction
	if err := decodeStrict(args, &a); err != nil {
		return Sent{}, err
	}
	return u.Do(action, a)
}

// userObject renders the user; u.mu is held.
func (u *ViberCustomer) userObject(name, photo bool) map[string]any {
	m := map[string]any{"id": u.id, "country": u.country, "language": u.language, "api_version": u.version}
	if name {
		m["name"] = u.name
	}
	if address := u.avatar.address(u.acct.sim, "viber", 720); photo && address != "" {
		m["avatar"] = address
	}
	return m
}

func (a *ViberAccount) profile() (name, photo bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sendName, a.sendPhoto
}

// post sends a message event; shown is what the dialogue keeps.
func (u *ViberCustomer) post(message map[string]any, shown *vMessage, silent bool, files []FileInfo, t *tracker) Sent {
	name, photo := u.acct.profile()
	now := time.Now()
	token := u.acct.plat.tokens.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.subscribed = true // the first message subscribes silently
	u.inHour = 0
	u.lastActive = now
	if now.Sub(u.session) >= viberSession {
		u.session = now
	}
	if u.tracking != "" {
		message["tracking_data"] = u.tracking
	}
	if shown.group != "" {
		message["chat_id"] = shown.group
	}
	u.keep(&vStored{token: token, m: shown, at: now, ownFiles: files})
	body := mustJSON(map[string]any{
		"event": "message", "timestamp": now.UnixMilli(), "chat_hostname": viberHost, "message_token": token,
		"sender": u.userObject(name, photo), "message": message, "silent": silent,
	})
	ok := u.acct.emit("message", u.id, body, t, nil)
	if u.acct.opts.Load().inboundReceipts {
		u.acct.emit("delivered", u.id, mustJSON(map[string]any{
			"event": "delivered", "timestamp": now.UnixMilli(), "chat_hostname": viberHost, "message_token": token, "user_id": u.id,
		}), nil, nil)
	}
	u.changed.broadcast()
	return Sent{MessageID: strconv.FormatUint(token, 10), Dropped: !ok, Files: files}
}

func (u *ViberCustomer) sendText(a ViberAction) (Sent, error) {
	if a.Text == "" {
		a.Text = "Hello!"
	}
	return u.post(map[string]any{"type": "text", "text": a.Text}, &vMessage{kind: "text", text: a.Text, group: a.ChatID}, false, nil, nil), nil
}

func (u *ViberCustomer) say(text string, t *tracker) (Sent, error) {
	return u.post(map[string]any{"type": "text", "text": text}, &vMessage{kind: "text", text: text}, false, nil, t), nil
}

// link publishes a generated file for an hour.
func (u *ViberCustomer) link(b *blob, name string) string {
	s := u.acct.sim
	return s.BaseURL() + "/viber/media/" + s.media.put(b, s.cfg.Seed, mediaLife) + "/" + name
}

func viberFile(kind, format string) func(*ViberCustomer, ViberAction) (Sent, error) {
	return func(u *ViberCustomer, a ViberAction) (Sent, error) {
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
		address := path.Base("/" + name)
		if kind == "picture" {
			address = "image." + b.ext // the name in the URL means nothing
		}
		media := a.Media
		if media == "" {
			media = u.link(b, urlName(address))
		}
		m := map[string]any{"type": kind, "media": media, "size": b.size}
		if a.File.ClaimedSize > 0 {
			m["size"] = a.File.ClaimedSize
		}
		if a.Text != "" && kind != "file" {
			m["text"] = a.Text
		}
		switch kind {
		case "picture":
			small, err := makeBlob(FileSpec{Width: 400, Height: 300, Seed: a.File.Seed}, "jpeg")
			if err != nil {
				return Sent{}, err
			}
			m["thumbnail"], m["file_name"] = u.link(small, "t.jpg"), name
		case "video":
			small, err := makeBlob(FileSpec{Width: 400, Height: 300, Seed: a.File.Seed}, "jpeg")
			if err != nil {
				return Sent{}, err
			}
			m["thumbnail"], m["duration"] = u.link(small, "t.jpg"), max(a.Duration, a.File.Duration, 1)
		default:
			m["file_name"] = name
		}
		info := b.info(name)
		info.URL = media
		shown := &vMessage{kind: kind, text: a.Text, media: media, name: name, group: a.ChatID}
		return u.post(m, shown, false, []FileInfo{info}, nil), nil
	}
}

// urlName keeps a name readable in a URL's path.
func urlName(s string) string {
	out := []byte{}
	for _, c := range []byte(s) {
		if c > ' ' && c < 127 && c != '?' && c != '#' && c != '%' && c != '"' {
			out = append(out, c)
		} else {
			out = append(out, '_')
		}
	}
	return string(out)
}

func (u *ViberCustomer) sendSticker(a ViberAction) (Sent, error) {
	if a.StickerID == 0 {
		a.StickerID = 40133
	}
	m := map[string]any{"type": "sticker", "sticker_id": a.StickerID}
	if a.AsString {
		m["sticker_id"] = strconv.Itoa(a.StickerID)
	}
	shown := &vMessage{kind: "sticker", group: a.ChatID}
	if !a.NoMedia {
		b, err := makeBlob(a.File, "png")
		if err != nil {
			return Sent{}, err
		}
		shown.media = u.link(b, strconv.Itoa(a.StickerID)+".png")
		m["media"] = shown.media
	}
	return u.post(m, shown, false, nil, nil), nil
}

func (u *ViberCustomer) sendContact(a ViberAction) (Sent, error) {
	if a.Own {
		u.mu.Lock()
		a.Name, a.Phone = u.name, u.phone
		u.mu.Unlock()
	}
	if a.Phone == "" {
		a.Name, a.Phone = "Service desk", "37060012345"
	}
	m := map[string]any{"type": "contact", "contact": map[string]string{"name": a.Name, "phone_number": a.Phone, "avatar": ""}}
	if a.Text != "" {
		m["text"] = a.Text
	}
	return u.post(m, &vMessage{kind: "contact", text: a.Text, contact: &Card{a.Name, a.Phone}, group: a.ChatID}, false, nil, nil), nil
}

func (u *ViberCustomer) sendLocation(a ViberAction) (Sent, error) {
	if a.Lat == 0 && a.Lon == 0 {
		a.Lat, a.Lon = 54.687157, 25.279652
	}
	m := map[string]any{"type": "location", "location": map[string]float64{"lat": a.Lat, "lon": a.Lon}}
	return u.post(m, &vMessage{kind: "location", location: &Point{Lat: a.Lat, Lon: a.Lon}, group: a.ChatID}, false, nil, nil), nil
}

func (u *ViberCustomer) sendURL(a ViberAction) (Sent, error) {
	if a.Media == "" {
		a.Media = "https://shop.example.com/item/5"
	}
	return u.post(map[string]any{"type": "url", "media": a.Media}, &vMessage{kind: "url", text: a.Media, group: a.ChatID}, false, nil, nil), nil
}

// sendGIF: animated pictures are believed to arrive as url.
func (u *ViberCustomer) sendGIF(a ViberAction) (Sent, error) {
	b, err := makeBlob(a.File, "gif")
	if err != nil {
		return Sent{}, err
	}
	return u.sendURL(ViberAction{Media: u.link(b, "animation.gif"), ChatID: a.ChatID})
}

func (u *ViberCustomer) sendUnknown(a ViberAction) (Sent, error) {
	if a.Kind == "" {
		a.Kind = "hologram"
	}
	m := map[string]any{}
	if len(a.Value) > 0 {
		if err := json.Unmarshal(a.Value, &m); err != nil {
			return Sent{}, fmt.Errorf("value: %w", err)
		}
	}
	m["type"] = a.Kind
	return u.post(m, &vMessage{kind: a.Kind, group: a.ChatID}, false, nil, nil), nil
}

func (u *ViberCustomer) unknownEvent(a ViberAction) (Sent, error) {
	if a.Kind == "" {
		a.Kind = "client_status"
	}
	m := map[string]any{}
	if len(a.Value) > 0 {
		if err := json.Unmarshal(a.Value, &m); err != nil {
			return Sent{}, fmt.Errorf("value: %w", err)
		}
	}
	return u.event(a.Kind, m, nil), nil
}

// event queues a callback that is not a message.
func (u *ViberCustomer) event(kind string, m map[string]any, answered func([]byte)) Sent {
	token := u.acct.plat.tokens.Add(1)
	m["event"], m["timestamp"], m["chat_hostname"], m["message_token"] = kind, time.Now().UnixMilli(), viberHost, token
	ok := u.acct.emit(kind, u.id, mustJSON(m), nil, answered)
	return Sent{MessageID: strconv.FormatUint(token, 10), Dropped: !ok}
}

// pressButton presses a button of the keyboard that the last message brought.
func (u *ViberCustomer) pressButton(a ViberAction) (Sent, error) {
	u.mu.Lock()
	var k struct {
		Buttons []struct {
			ActionType, ActionBody, Text string
			Silent                       bool
		}
	}
	if u.keyboard != nil {
		json.Unmarshal(u.keyboard, &k) //nolint:errcheck // validated when it came
	}
	u.mu.Unlock()
	for _, b := range k.Buttons {
		if a.Data != "" && a.Data != b.ActionBody && a.Data != b.Text || b.ActionType == "none" {
			continue
		}
		switch b.ActionType {
		case "share-phone":
			return u.sendContact(ViberAction{Own: true, Text: b.ActionBody})
		case "location-picker":
			return u.sendLocation(ViberAction{})
		case "open-url":
			if b.Silent {
				return Sent{Dropped: true}, nil
			}
		}
		return u.post(map[string]any{"type": "text", "text": b.ActionBody}, &vMessage{kind: "text", text: b.ActionBody}, b.Silent, nil, nil), nil
	}
	return Sent{}, fmt.Errorf("press %q: no such button", a.Data)
}

func (u *ViberCustomer) press(i int) (Sent, error) {
	u.mu.Lock()
	all := viberButtons(u.keyboard)
	u.mu.Unlock()
	if len(all) == 0 {
		return Sent{}, errors.New("no keyboard is shown")
	}
	return u.pressButton(ViberAction{Data: all[i%len(all)].Data})
}

// open opens the chat screen. The answer to the callback may be a welcome message.
func (u *ViberCustomer) open(a ViberAction) (Sent, error) {
	name, photo := u.acct.profile()
	u.mu.Lock()
	m := map[string]any{"type": "open", "user": u.userObject(name, photo), "subscribed": u.subscribed}
	u.context = a.Context
	u.mu.Unlock()
	if a.Context != "" {
		m["context"] = a.Context
	}
	return u.event("conversation_started", m, u.welcome), nil
}

// welcome takes the body of the answer to conversation_started.
func (u *ViberCustomer) welcome(answer []byte) {
	if len(answer) == 0 {
		return
	}
	_, m, st := parseViber(answer)
	if st != nil {
		u.mu.Lock()
		u.welcomeErr = strconv.Itoa(st.code) + " " + st.text
		u.mu.Unlock()
		u.changed.broadcast()
		return
	}
	if m.kind == "rich_media" {
		m.warnings = append(m.warnings, "rich_media is believed not to be allowed in a welcome message")
	}
	s := &vStored{fromBot: true, m: m, state: "accepted", welcome: true, at: time.Now()}
	u.mu.Lock()
	u.keep(s)
	u.keyboard, u.tracking = m.keyboard, m.tracking
	u.mu.Unlock()
	u.received(m.text, len(viberButtons(m.keyboard)))
}

// subscribe: the user allows messages again in the chat's settings.
func (u *ViberCustomer) subscribe(ViberAction) (Sent, error) {
	name, photo := u.acct.profile()
	u.mu.Lock()
	u.subscribed = true
	u.tracking, u.context = "", "" // wiped by subscribing
	user := u.userObject(name, photo)
	u.mu.Unlock()
	return u.event("subscribed", map[string]any{"user": user}, nil), nil
}

func (u *ViberCustomer) unsubscribe(ViberAction) (Sent, error) {
	u.mu.Lock()
	u.subscribed = false
	u.mu.Unlock()
	return u.event("unsubscribed", map[string]any{"user_id": u.id}, nil), nil
}

func (u *ViberCustomer) seeNow(ViberAction) (Sent, error) {
	return Sent{Dropped: !u.see(nil)}, nil
}

func (u *ViberCustomer) age(a ViberAction) (Sent, error) {
	u.mu.Lock()
	u.session = u.session.Add(-time.Duration(a.By))
	u.mu.Unlock()
	return Sent{}, nil
}

func (u *ViberCustomer) share(what, caption string, seed uint64) (Sent, error) {
	a := ViberAction{Text: caption, File: FileSpec{Seed: seed}, Duration: 3 + int(seed%9)}
	switch what {
	case "contact":
		a = ViberAction{Own: true}
	case "location":
		a.Lat, a.Lon = 55.70+float64(seed%1000)/10_000, 37.55+float64(seed/1000%1000)/10_000
	case "document":
		a.File.Name = "order-" + strconv.FormatUint(seed%10_000, 10) + ".pdf"
	case "voice":
		a.File.Name = "voice.m4a"
	}
	return u.Do(what, a)
}

func (u *ViberCustomer) set(p CustomerPatch) error {
	if p.Receipts != nil {
		if err := checkReceipts(p.Receipts); err != nil {
			return err
		}
	}
	if p.Online != nil && (*p.Online < 0 || *p.Online > 4) {
		return fmt.Errorf("online %d: want 0 to 4", *p.Online)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	assign(&u.name, p.FirstName)
	if p.Blocked != nil {
		u.subscribed = !*p.Blocked
	}
	assign(&u.subscribed, p.Started)
	u.avatar.set(p, u.hash)
	assign(&u.receipts, p.Receipts)
	assign(&u.version, p.APIVersion)
	assign(&u.unsuitable, p.Unsuitable)
	assign(&u.online, p.Online)
	return nil
}

func (u *ViberCustomer) isSubscribed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.subscribed
}

func (u *ViberCustomer) describe() map[string]any {
	u.mu.Lock()
	defer u.mu.Unlock()
	return map[string]any{
		"id": u.id, "user": u.userObject(true, true), "phone": u.phone, "subscribed": u.subscribed, "receipts": u.receipts,
		"messages": u.seq, "buttons": viberButtons(u.keyboard), "tracking_data": u.tracking, "context": u.context,
		"session_open": time.Since(u.session) < viberSession, "welcome_error": u.welcomeErr,
	}
}

func (u *ViberCustomer) view(since int64) []Message {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := []Message{}
	for _, s := range u.history {
		if s.seq > since {
			out = append(out, s.view())
		}
	}
	return out
}

func (s *vStored) view() Message {
	v := Message{
		Seq: s.seq, ID: strconv.FormatUint(s.token, 10), From: FromCustomer, Kind: s.m.kind, Text: s.m.text,
		Keyboard: s.m.keyboard, Buttons: viberButtons(s.m.keyboard), Sender: s.m.sender, Avatar: s.m.avatar,
		Welcome: s.welcome, State: s.state, Warnings: slices.Clone(s.m.warnings), Location: s.m.location, Contact: s.m.contact,
		At: s.at, Raw: s.m.raw, Files: slices.Clone(s.ownFiles),
	}
	if s.fromBot {
		v.From = FromBot
		if s.file != nil {
			v.Files = []FileInfo{*s.file}
		} else if s.m.media != "" {
			v.Files = []FileInfo{{Name: s.m.name, URL: s.m.media}}
		}
	}
	return v
}

// SendText writes a text.
func (u *ViberCustomer) SendText(text string) Sent {
	return must(u.Do("text", ViberAction{Text: text}))
}

// SendPicture sends a generated picture.
func (u *ViberCustomer) SendPicture(caption string) Sent {
	return must(u.Do("picture", ViberAction{Text: caption}))
}

// SendFile sends a generated file as kind: picture, video or file.
func (u *ViberCustomer) SendFile(kind string, f FileSpec) (Sent, error) {
	return u.Do(kind, ViberAction{File: f})
}

// Press presses a button by its ActionBody or its text; "" is the first one.
func (u *ViberCustomer) Press(data string) (Sent, error) {
	return u.Do("press", ViberAction{Data: data})
}

// Open opens the chat: conversation_started, with a deep link's context or "".
func (u *ViberCustomer) Open(context string) Sent {
	return must(u.Do("conversation_started", ViberAction{Context: context}))
}

// Subscribe allows messages again.
func (u *ViberCustomer) Subscribe() Sent { return must(u.Do("subscribed", ViberAction{})) }

// Unsubscribe forbids messages.
func (u *ViberCustomer) Unsubscribe() Sent { return must(u.Do("unsubscribed", ViberAction{})) }

// Set changes the customer without a callback to the bot; the error names a
// value that is not allowed.
func (u *ViberCustomer) Set(p CustomerPatch) error { return u.set(p) }

// Messages returns what the bot has sent, as the customer sees it now.
func (u *ViberCustomer) Messages() []Message { return fromBot(u.view(0)) }

// Transcript returns the whole dialogue.
func (u *ViberCustomer) Transcript() []Message { return u.view(0) }

// WaitMessages waits until the bot has sent n messages or d has passed, and returns them.
func (u *ViberCustomer) WaitMessages(n int, d time.Duration) []Message {
	return waitMessages(u, &u.customerCore, n, d)
}

// WelcomeError is why the last answer to conversation_started was refused; "" if it was not.
func (u *ViberCustomer) WelcomeError() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.welcomeErr
}
