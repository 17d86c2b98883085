package simulator

import (
	"cmp"
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

// VKCustomer is a person who talks with a community.
type VKCustomer struct {
	customerCore
	acct   *VKAccount
	number int64

	mu          sync.Mutex
	first, last string
	screen      string
	avatar      avatar
	allowed     bool // has written, or allowed messages
	blocked     bool // forbade messages
	blacklisted bool // by the community
	deactivated bool
	receipts    string
	cmid        int64
	seq         int64
	history     []*vkMessage
	keyboard    []Button   // the regular one, as it is shown
	inline      *vkMessage // the newest message with inline buttons
}

// VKAction holds the arguments of every action; each uses its own few.
type VKAction struct {
	Text      string          `json:"text"`
	File      FileSpec        `json:"file"`
	Files     []FileSpec      `json:"files"`   // album: photos; empty: two
	Payload   string          `json:"payload"` // JSON
	Ref       string          `json:"ref"`
	RefSource string          `json:"ref_source"`
	Lat       float64         `json:"lat"`
	Lon       float64         `json:"lon"`
	Title     string          `json:"title"`
	ReplyTo   int64           `json:"reply_to"` // a message's number in the chat
	ID        int64           `json:"id"`       // edit: the number; 0 is the customer's last message
	Data      string          `json:"data"`     // press: payload or label; empty: the first button
	NoFile    bool            `json:"no_file"`  // video with preview only, as it mostly is
	Cropped   bool            `json:"cropped"`  // the event carries the text only
	Admin     int64           `json:"admin"`    // answer: the administrator's id
	Reaction  int64           `json:"reaction"`
	From      int64           `json:"from"`   // forward: the author
	Kind      string          `json:"kind"`   // unknown, unknown_event
	Value     json.RawMessage `json:"value"`  // unknown: the attachment; unknown_event: the object
	Update    json.RawMessage `json:"update"` // raw
	By        Delay           `json:"by"`     // age
}

func vkActions() map[string]func(*VKCustomer, VKAction) (Sent, error) {
	return map[string]func(*VKCustomer, VKAction) (Sent, error){
		"text":            (*VKCustomer).sendText,
		"start":           (*VKCustomer).start,
		"photo":           vkFileOf("photo", "jpeg"),
		"picture":         vkFileOf("photo", "jpeg"),
		"album":           (*VKCustomer).sendAlbum,
		"document":        vkFileOf("doc", "pdf"),
		"gif":             vkFileOf("doc", "gif"),
		"voice":           vkFileOf("audio_message", "ogg"),
		"video":           vkFileOf("video", "mp4"),
		"audio":           vkFileOf("audio", "mp3"),
		"sticker":         vkFileOf("sticker", "png"),
		"graffiti":        vkFileOf("graffiti", "png"),
		"location":        (*VKCustomer).sendLocation,
		"link":            (*VKCustomer).sendLink,
		"wall":            (*VKCustomer).sendWall,
		"forward":         (*VKCustomer).sendForward,
		"unknown":         (*VKCustomer).sendUnknown,
		"unknown_event":   (*VKCustomer).unknownEvent,
		"edit":            (*VKCustomer).editOwn,
		"press":           (*VKCustomer).pressButton,
		"allow":           (*VKCustomer).allow,
		"unblock":         (*VKCustomer).allow,
		"deny":            (*VKCustomer).deny,
		"block":           (*VKCustomer).deny,
		"blacklist":       (*VKCustomer).blacklist,
		"unblacklist":     (*VKCustomer).unblacklist,
		"read":            func(u *VKCustomer, _ VKAction) (Sent, error) { return Sent{Dropped: !u.read(0)}, nil },
		"typing":          (*VKCustomer).typing,
		"reaction":        (*VKCustomer).react,
		"answered_in_app": (*VKCustomer).answeredInApp,
		"age":             (*VKCustomer).age,
		"expire_media":    func(u *VKCustomer, _ VKAction) (Sent, error) { u.acct.sim.media.expire(); return Sent{}, nil },
		"raw":             func(u *VKCustomer, a VKAction) (Sent, error) { return u.acct.inject(a.Update) },
	}
}

// VKActions lists the names of all actions.
func VKActions() []string { return slices.Sorted(maps.Keys(vkActions())) }

// Do performs an action by its name; see VKActions. Errors describe arguments that
// make no sense.
func (u *VKCustomer) Do(action string, a VKAction) (Sent, error) {
	f, ok := vkActions()[action]
	if !ok {
		return Sent{}, fmt.Errorf("action %q: want one of %q", action, VKActions())
	}
	return f(u, a)
}

func (u *VKCustomer) act(action string, args []byte) (Sent, error) {
	var a VKAction
	if err := decodeStrict(args, &a); err != nil {
		return Sent{}, err
	}
	return u.Do(action, a)
}

func (a *VKAccount) user(id int64) *VKCustomer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	return a.users[id]
}

func (a *VKAccount) customers() []customer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	out := make([]customer, len(a.people))
	for i, p := range a.people {
		out[i] = p
	}
	return out
}

func (a *VKAccount) customer(id string) (customer, bool) {
	n, err := strconv.ParseInt(id, 10, 64)
	if u := a.user(n); err == nil && u != nil {
		return u, true
	}
	return nil, false
}

// Customer is the customer with this id, created (reachable) if new. "" makes a new one.
func (a *VKAccount) Customer(id string) *VKCustomer {
	if c, ok := a.customer(id); ok {
		return c.(*VKCustomer)
	}
	c, err := a.addCustomer(CustomerSpec{ID: id, Started: true})
	if err != nil {
		panic(err) // an id that nobody can have
	}
	return c.(*VKCustomer)
}

// NewCustomer adds a customer; the error names what is wrong with the spec.
func (a *VKAccount) NewCustomer(spec CustomerSpec) (*VKCustomer, error) {
	c, err := a.addCustomer(spec)
	if err != nil {
		return nil, err
	}
	return c.(*VKCustomer), nil
}

func (a *VKAccount) addCustomer(spec CustomerSpec) (customer, error) {
	a.cmu.Lock()
	defer a.cmu.Unlock()
	if spec.ID == "" {
		for n := uint64(len(a.people)); ; n++ {
			id := 70_000_000 + int64(filler(a.sim.cfg.Seed+uint64(a.group), n)%900_000_000)
			if a.users[id] == nil {
				spec.ID = strconv.FormatInt(id, 10)
				break
			}
		}
	}
	id, err := strconv.ParseInt(spec.ID, 10, 64)
	if err != nil || id <= 0 || id >= vkChats {
		return nil, fmt.Errorf("vk customer id %q: want a number from 1 to %d", spec.ID, int64(vkChats-1))
	}
	if a.users[id] != nil {
		return nil, fmt.Errorf("vk customer %d exists already", id)
	}
	u := &VKCustomer{acct: a, number: id, first: spec.FirstName, last: spec.LastName, screen: spec.Username, allowed: spec.Started, receipts: spec.Receipts, cmid: 100}
	u.id, u.hash = spec.ID, filler(uint64(id), 3)
	u.avatar = newAvatar(spec, u.hash)
	if u.first == "" {
		u.first = "Customer"
	}
	if u.screen == "" {
		u.screen = "id" + spec.ID
	}
	if err := checkReceipts(&u.receipts); err != nil {
		return nil, err
	}
	a.users[id] = u
	a.people = append(a.people, u)
	return u, nil
}

// object is the person as users.get tells; a name always, other fields when asked for.
func (u *VKCustomer) object(fields string) map[string]any {
	u.mu.Lock()
	defer u.mu.Unlock()
	o := map[string]any{"id": u.number, "first_name": u.first, "last_name": u.last, "is_closed": false, "can_access_closed": true}
	if u.deactivated {
		return map[string]any{"id": u.number, "first_name": "DELETED", "last_name": "", "deactivated": "deleted"}
	}
	for _, f := range strings.Split(fields, ",") {
		switch f {
		case "screen_name", "domain":
			o[f] = u.screen
		case "photo_200", "photo_100":
			// Without a picture, as to VK's own: the drawing of a camera.
			o[f] = cmp.Or(u.avatar.address(u.acct.sim, "vk", 200), u.acct.sim.BaseURL()+"/vk/media/icon.png")
		case "has_photo":
			o[f] = 0
			if u.avatar.shown {
				o[f] = 1
			}
		}
	}
	return o
}

// refuses tells why the community can't write to the customer; nil if it can.
func (u *VKCustomer) refuses() *vkError {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.deactivated:
		return vkErr(18, "")
	case u.blacklisted:
		return vkErr(900, "")
	case u.blocked || !u.allowed:
		return vkErr(901, "")
	}
	return nil
}

// keep numbers a message and puts it into the dialogue; u.mu is held.
func (u *VKCustomer) keep(m *vkMessage) {
	a := u.acct
	a.mu.Lock()
	a.nextID++
	m.id = a.nextID
	a.mu.Unlock()
	u.cmid++
	u.seq++
	m.cmid, m.seq = u.cmid, u.seq
	u.history = append(u.history, m)
	if n := len(u.history) - a.sim.cfg.KeepMessages; n > 0 {
		u.history = slices.Delete(u.history, 0, n)
	}
}

// offer shows a message's keyboard; u.mu is held.
func (u *VKCustomer) offer(m *vkMessage) {
	var k struct {
		Inline bool `json:"inline"`
	}
	json.Unmarshal(m.keyboard, &k) //nolint:errcheck // checked before
	if k.Inline {
		u.inline = m
		return
	}
	u.keyboard = m.buttons
}

// message finds a message by its number; u.mu is held.
func (u *VKCustomer) message(cmid int64) *vkMessage {
	if cmid == 0 {
		return nil
	}
	for _, m := range u.history {
		if m.cmid == cmid {
			return m
		}
	}
	return nil
}

func (u *VKCustomer) find(cmid int64) *vkMessage {
	u.mu.Lock()
	defer u.mu.Unlock()
	if m := u.message(cmid); m != nil && m.deleted == nil {
		return m
	}
	return nil
}

var vkClient = map[string]any{
	"button_actions": []string{"text", "vkpay", "open_app", "location", "open_link", "callback"},
	"keyboard":       true, "inline_keyboard": true, "carousel": true, "lang_id": 0,
}

// post writes a message to the community.
func (u *VKCustomer) post(m *vkMessage, a VKAction, t *tracker) Sent {
	m.at, m.reply = time.Now(), a.ReplyTo
	if m.payload == "" {
		m.payload = a.Payload
	}
	if m.extra == nil {
		m.extra = map[string]any{}
	}
	if a.Ref != "" {
		m.extra["ref"], m.extra["ref_source"] = a.Ref, a.RefSource
	}
	u.mu.Lock()
	u.allowed, u.blocked = true, false // writing is allowing
	u.keep(m)
	object := m.object(u)
	if a.Cropped {
		object["is_cropped"], object["attachments"], object["fwd_messages"] = true, []any{}, []any{}
	}
	files := slices.Clone(m.files)
	u.mu.Unlock()
	_, ok := u.acct.emit("message_new", u.number, map[string]any{"message": object, "client_info": vkClient}, t)
	u.changed.broadcast()
	return Sent{MessageID: strconv.FormatInt(m.cmid, 10), Dropped: !ok, Files: files}
}

func (u *VKCustomer) sendText(a VKAction) (Sent, error) {
	if a.Text == "" {
		a.Text = "Hello!"
	}
	return u.post(&vkMessage{kind: "text", text: a.Text}, a, nil), nil
}

func (u *VKCustomer) say(text string, t *tracker) (Sent, error) {
	return u.post(&vkMessage{kind: "text", text: text}, VKAction{}, t), nil
}

// start presses the button that an empty chat shows.
func (u *VKCustomer) start(a VKAction) (Sent, error) {
	a.Payload = `{"command":"start"}`
	return u.post(&vkMessage{kind: "text", text: "Начать"}, a, nil), nil
}

// vkAttach makes an attachment of a customer's file.
func (u *VKCustomer) vkAttach(kind, format string, a VKAction) (map[string]any, FileInfo, error) {
	b, err := makeBlob(a.File, format)
	if err != nil {
		return nil, FileInfo{}, err
	}
	if a.File.MIME != "" {
		b.mime = a.File.MIME
	}
	s := u.acct.sim
	link := func(b *blob, name string) string {
		return s.BaseURL() + "/vk/media/" + s.media.put(b, s.cfg.Seed, mediaLife) + "/" + name
	}
	u.acct.mu.Lock()
	u.acct.nextID++
	id := u.acct.nextID
	u.acct.mu.Unlock()
	name := a.File.Name
	if name == "" {
		name = kind + "." + b.ext
	}
	body := map[string]any{"id": id, "owner_id": u.number, "access_key": fmt.Sprintf("%08x", filler(u.hash, uint64(id))&0xffffffff)}
	info := b.info(name)
	shot := func(w, h int) (string, error) {
		small, err := makeBlob(FileSpec{Width: w, Height: h, Seed: a.File.Seed}, "jpeg")
		if err != nil {
			return "", err
		}
		return link(small, "p.jpg"), nil
	}
	size := func(n, def int) int {
		if n > 0 {
			return n
		}
		return def
	}
	switch kind {
	case "photo":
		small, err := shot(130, 97)
		if err != nil {
			return nil, info, err
		}
		info.URL = link(b, "w."+b.ext)
		body["date"] = time.Now().Unix()
		body["sizes"] = []any{
			map[string]any{"type": "m", "url": small, "width": 130, "height": 97},
			map[string]any{"type": "w", "url": info.URL, "width": size(a.File.Width, 640), "height": size(a.File.Height, 480)},
		}
	case "doc":
		info.URL = link(b, urlName(name))
		kinds := map[string]int{"gif": 3, "jpg": 4, "png": 4, "mp3": 5, "mp4": 6, "zip": 2, "pdf": 1, "txt": 1}
		body["title"], body["size"], body["ext"], body["type"], body["url"] = name, b.size, b.ext, size(kinds[b.ext], 8), info.URL
		if a.File.ClaimedSize > 0 {
			body["size"] = a.File.ClaimedSize
		}
	case "audio_message":
		info.URL = link(b, "v.ogg")
		body["duration"], body["waveform"], body["link_ogg"] = size(a.File.Duration, 1), []int{0, 3, 9, 12}, info.URL
	case "video":
		preview, err := shot(720, 405)
		if err != nil {
			return nil, info, err
		}
		body["title"], body["duration"] = name, size(a.File.Duration, 14)
		body["image"] = []any{map[string]any{"url": preview, "width": 720, "height": 405}}
		body["player"] = fmt.Sprintf("https://vk.ru/video_ext.php?oid=%d&id=%d&hash=ff", u.number, id)
		if !a.NoFile {
			info.URL = link(b, "v.mp4")
			body["files"] = map[string]any{"mp4_720": info.URL}
		}
	case "audio":
		body["artist"], body["title"], body["duration"], body["url"] = "Artist", "Title", size(a.File.Duration, 201), ""
		if !a.NoFile {
			info.URL = link(b, "a.mp3")
			body["url"] = info.URL
		}
	case "sticker":
		info.URL = link(b, "256.png")
		body = map[string]any{"product_id": 279, "sticker_id": 9012, "images": []any{map[string]any{"url": info.URL, "width": 256, "height": 256}}, "images_with_background": []any{}}
	case "graffiti":
		info.URL = link(b, "g.png")
		body["url"], body["width"], body["height"] = info.URL, 160, 120
	}
	return map[string]any{"type": kind, kind: body}, info, nil
}

func vkFileOf(kind, format string) func(*VKCustomer, VKAction) (Sent, error) {
	return func(u *VKCustomer, a VKAction) (Sent, error) {
		att, info, err := u.vkAttach(kind, format, a)
		if err != nil {
			return Sent{}, err
		}
		return u.post(&vkMessage{kind: kind, text: a.Text, attached: []map[string]any{att}, files: []FileInfo{info}}, a, nil), nil
	}
}

// sendAlbum: several pictures are one message.
func (u *VKCustomer) sendAlbum(a VKAction) (Sent, error) {
	if len(a.Files) == 0 {
		a.Files = []FileSpec{{Seed: 1}, {Seed: 2}}
	}
	m := &vkMessage{kind: "photo", text: a.Text}
	for _, f := range a.Files {
		one := a
		one.File = f
		att, info, err := u.vkAttach("photo", "jpeg", one)
		if err != nil {
			return Sent{}, err
		}
		m.attached, m.files = append(m.attached, att), append(m.files, info)
	}
	return u.post(m, a, nil), nil
}

func (u *VKCustomer) sendLocation(a VKAction) (Sent, error) {
	if a.Lat == 0 && a.Lon == 0 {
		a.Lat, a.Lon = 55.75, 37.61
	}
	return u.post(&vkMessage{kind: "location", text: a.Text, geo: &Point{Lat: a.Lat, Lon: a.Lon, Title: a.Title}}, a, nil), nil
}

// card posts an attachment without bytes.
func (u *VKCustomer) card(kind string, body map[string]any, a VKAction) (Sent, error) {
	m := &vkMessage{kind: kind, text: a.Text, attached: []map[string]any{{"type": kind, kind: body}}}
	return u.post(m, a, nil), nil
}

func (u *VKCustomer) sendLink(a VKAction) (Sent, error) {
	return u.card("link", map[string]any{"url": "https://example.org", "title": "Example", "caption": "example.org"}, a)
}

func (u *VKCustomer) sendWall(a VKAction) (Sent, error) {
	return u.card("wall", map[string]any{"id": 55, "from_id": -u.acct.group, "text": "пост"}, a)
}

func (u *VKCustomer) sendUnknown(a VKAction) (Sent, error) {
	if a.Kind == "" {
		a.Kind = "hologram"
	}
	body := map[string]any{}
	if len(a.Value) > 0 {
		if err := json.Unmarshal(a.Value, &body); err != nil {
			return Sent{}, fmt.Errorf("value: %w", err)
		}
	}
	return u.card(a.Kind, body, a)
}

// sendForward forwards a message of somebody else; Title is its text.
func (u *VKCustomer) sendForward(a VKAction) (Sent, error) {
	if a.From == 0 {
		a.From = 555
	}
	if a.Title == "" {
		a.Title = "пересланный текст"
	}
	inner := map[string]any{
		"id": 0, "conversation_message_id": 12, "from_id": a.From, "date": time.Now().Add(-24 * time.Hour).Unix(), "text": a.Title,
		"attachments": []any{}, "fwd_messages": []any{},
	}
	m := &vkMessage{kind: "forward", text: a.Text, forwarded: []map[string]any{inner}}
	if a.File.Format != "" {
		att, info, err := u.vkAttach("photo", "jpeg", a)
		if err != nil {
			return Sent{}, err
		}
		inner["attachments"], m.files = []any{att}, []FileInfo{info}
	}
	return u.post(m, a, nil), nil
}

func (u *VKCustomer) unknownEvent(a VKAction) (Sent, error) {
	if a.Kind == "" {
		a.Kind = "message_hologram"
	}
	o := map[string]any{"user_id": u.number, "peer_id": u.number}
	if len(a.Value) > 0 {
		if err := json.Unmarshal(a.Value, &o); err != nil {
			return Sent{}, fmt.Errorf("value: %w", err)
		}
	}
	return u.event(a.Kind, o), nil
}

func (u *VKCustomer) event(kind string, o map[string]any) Sent {
	_, ok := u.acct.emit(kind, u.number, o, nil)
	return Sent{Dropped: !ok}
}

// editOwn changes the text of one of the customer's messages.
func (u *VKCustomer) editOwn(a VKAction) (Sent, error) {
	u.mu.Lock()
	var m *vkMessage
	for _, x := range u.history {
		if !x.fromBot && (a.ID == 0 || x.cmid == a.ID) {
			m = x
		}
	}
	if m == nil {
		u.mu.Unlock()
		return Sent{}, errors.New("edit: no such message of the customer")
	}
	now := time.Now()
	m.earlier, m.text, m.edited = append(m.earlier, m.text), a.Text, &now
	o := m.object(u)
	u.mu.Unlock()
	s := u.event("message_edit", o)
	s.MessageID = strconv.FormatInt(m.cmid, 10)
	return s, nil
}

// pressButton presses a button of the newest inline keyboard, or of the regular
// one: callback buttons make an event, text buttons a message.
func (u *VKCustomer) pressButton(a VKAction) (Sent, error) {
	u.mu.Lock()
	type shown struct {
		b  Button
		on *vkMessage
	}
	var all []shown
	if u.inline != nil && u.inline.deleted == nil {
		for _, b := range u.inline.buttons {
			all = append(all, shown{b, u.inline})
		}
	}
	for _, b := range u.keyboard {
		all = append(all, shown{b, nil})
	}
	u.mu.Unlock()
	i := slices.IndexFunc(all, func(s shown) bool { return a.Data == "" || s.b.Data == a.Data || s.b.Text == a.Data })
	if i < 0 {
		return Sent{}, fmt.Errorf("press: no button %q among %d", a.Data, len(all))
	}
	b := all[i].b
	switch b.Action {
	case "text":
		return u.post(&vkMessage{kind: "text", text: b.Text, payload: b.Data}, VKAction{}, nil), nil
	case "location":
		return u.sendLocation(VKAction{Payload: b.Data})
	case "callback":
		acct := u.acct
		acct.mu.Lock()
		acct.nextID++
		id := fmt.Sprintf("%012x", filler(uint64(u.number), uint64(acct.nextID))&0xffffffffffff)
		acct.presses[id] = &vkPress{user: u.number, peer: u.number, at: time.Now()}
		acct.mu.Unlock()
		o := map[string]any{"user_id": u.number, "peer_id": u.number, "event_id": id}
		if all[i].on != nil {
			o["conversation_message_id"] = all[i].on.cmid
		}
		if b.Data != "" {
			o["payload"] = json.RawMessage(b.Data)
		}
		s := u.event("message_event", o)
		s.MessageID = id
		return s, nil
	default:
		return Sent{}, nil // opens something at the customer's
	}
}

// Answered tells whether the community has answered a press, by Sent.MessageID.
func (a *VKAccount) Answered(press string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.presses[press]
	return p != nil && p.answered
}

func (u *VKCustomer) press(i int) (Sent, error) {
	u.mu.Lock()
	list := u.keyboard
	if u.inline != nil {
		list = u.inline.buttons
	}
	u.mu.Unlock()
	if i < 0 || i >= len(list) {
		return Sent{}, fmt.Errorf("button %d of %d", i, len(list))
	}
	return u.pressButton(VKAction{Data: list[i].Text})
}

func (u *VKCustomer) allow(VKAction) (Sent, error) {
	u.mu.Lock()
	u.allowed, u.blocked = true, false
	u.mu.Unlock()
	return u.event("message_allow", map[string]any{"user_id": u.number, "key": ""}), nil
}

func (u *VKCustomer) deny(VKAction) (Sent, error) {
	u.mu.Lock()
	u.blocked = true
	u.mu.Unlock()
	return u.event("message_deny", map[string]any{"user_id": u.number}), nil
}

// blacklist: an administrator puts the customer into the community's blacklist.
func (u *VKCustomer) blacklist(a VKAction) (Sent, error) {
	u.mu.Lock()
	u.blacklisted = true
	u.mu.Unlock()
	return u.event("user_block", map[string]any{"admin_id": 88112233, "user_id": u.number, "unblock_date": 0, "reason": 1, "comment": a.Text}), nil
}

func (u *VKCustomer) unblacklist(VKAction) (Sent, error) {
	u.mu.Lock()
	u.blacklisted = false
	u.mu.Unlock()
	return u.event("user_unblock", map[string]any{"admin_id": 88112233, "user_id": u.number, "by_end_date": 0}), nil
}

func (u *VKCustomer) typing(VKAction) (Sent, error) {
	return u.event("message_typing_state", map[string]any{"state": "typing", "from_id": u.number, "to_id": -u.acct.group}), nil
}

func (u *VKCustomer) react(a VKAction) (Sent, error) {
	o := map[string]any{"reacted_id": u.number, "peer_id": u.number, "cmid": a.ID}
	if a.Reaction != 0 {
		o["reaction_id"] = a.Reaction
	}
	return u.event("message_reaction_event", o), nil
}

// answeredInApp: an administrator writes to the customer in VK itself.
func (u *VKCustomer) answeredInApp(a VKAction) (Sent, error) {
	if a.Admin == 0 {
		a.Admin = 88112233
	}
	m := &vkMessage{kind: "text", text: a.Text, fromBot: true, admin: a.Admin, at: time.Now()}
	u.mu.Lock()
	u.keep(m)
	o := m.object(u)
	u.mu.Unlock()
	s := u.event("message_reply", o)
	s.MessageID = strconv.FormatInt(m.cmid, 10)
	u.changed.broadcast()
	return s, nil
}

// age moves the dialogue into the past.
func (u *VKCustomer) age(a VKAction) (Sent, error) {
	u.mu.Lock()
	for _, m := range u.history {
		m.at = m.at.Add(-time.Duration(a.By))
	}
	u.mu.Unlock()
	return Sent{}, nil
}

func (u *VKCustomer) share(what, caption string, seed uint64) (Sent, error) {
	a := VKAction{Text: caption, File: FileSpec{Seed: seed, Duration: 3 + int(seed%9)}}
	switch what {
	case "contact": // VK has none: it is typed
		return u.sendText(VKAction{Text: fmt.Sprintf("+7 916 %07d", seed%10_000_000)})
	case "location":
		a.Lat, a.Lon = 55.70+float64(seed%1000)/10_000, 37.55+float64(seed/1000%1000)/10_000
	case "document":
		a.File.Name = "order-" + strconv.FormatUint(seed%10_000, 10) + ".pdf"
	}
	return u.Do(what, a)
}

func (u *VKCustomer) set(p CustomerPatch) error {
	if p.Receipts != nil {
		if err := checkReceipts(p.Receipts); err != nil {
			return err
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	assign(&u.first, p.FirstName)
	assign(&u.blocked, p.Blocked)
	assign(&u.deactivated, p.Deactivated)
	assign(&u.allowed, p.Started)
	u.avatar.set(p, u.hash)
	assign(&u.receipts, p.Receipts)
	return nil
}

func (u *VKCustomer) describe() map[string]any {
	o := u.object("screen_name,photo_200")
	u.mu.Lock()
	defer u.mu.Unlock()
	return map[string]any{
		"id": u.id, "user": o, "allowed": u.allowed, "blocked": u.blocked, "blacklisted": u.blacklisted, "receipts": u.receipts,
		"messages": u.seq, "buttons": u.keyboard,
	}
}

func (u *VKCustomer) view(since int64) []Message {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := []Message{}
	for _, m := range u.history {
		if m.seq > since {
			out = append(out, m.view(u))
		}
	}
	return out
}

func (m *vkMessage) view(u *VKCustomer) Message {
	v := Message{
		Seq: m.seq, ID: strconv.FormatInt(m.cmid, 10), From: FromCustomer, Kind: m.kind, Text: m.text, Files: slices.Clone(m.files),
		Location: m.geo, Keyboard: m.keyboard, Buttons: slices.Clone(m.buttons), Forwarded: len(m.forwarded) > 0,
		Earlier: slices.Clone(m.earlier), At: m.at, EditedAt: m.edited, DeletedAt: m.deleted, Raw: mustJSON(m.object(u)),
	}
	if m.reply != 0 {
		v.ReplyTo = strconv.FormatInt(m.reply, 10)
	}
	if m.fromBot {
		v.From, v.State = FromBot, "accepted"
		if m.read {
			v.State = "seen"
		}
	}
	if len(m.forwarded) > 0 && m.fromBot && m.text == "" {
		v.Text, _ = m.forwarded[0]["text"].(string)
	}
	return v
}

// SendText writes a text.
func (u *VKCustomer) SendText(text string) Sent { return must(u.Do("text", VKAction{Text: text})) }

// Press presses a button by its payload or its label; "" is the first one.
func (u *VKCustomer) Press(data string) (Sent, error) { return u.Do("press", VKAction{Data: data}) }

// Set changes the customer without an event; the error names a value that is not allowed.
func (u *VKCustomer) Set(p CustomerPatch) error { return u.set(p) }

// Messages returns what the community has sent, as the customer sees it now.
func (u *VKCustomer) Messages() []Message { return fromBot(u.view(0)) }

// Transcript returns the whole dialogue.
func (u *VKCustomer) Transcript() []Message { return u.view(0) }

// WaitMessages waits until the community has sent n messages or d has passed, and returns them.
func (u *VKCustomer) WaitMessages(n int, d time.Duration) []Message {
	return waitMessages(u, &u.customerCore, n, d)
}
