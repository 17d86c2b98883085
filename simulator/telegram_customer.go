package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TelegramCustomer is a person and the chat in which they talk to the bot.
type TelegramCustomer struct {
	customerCore
	acct *TelegramAccount
	who  atomic.Pointer[tgIdentity]

	mu          sync.Mutex
	phone       string
	avatar      avatar
	started     bool
	blocked     bool
	deactivated bool
	migratedTo  int64
	pace        gcra
	nextID      int64
	seq         int64
	history     []*tgStored // by rising message_id
	keyboard    json.RawMessage
	oneTime     bool
	action      string
	actionAt    time.Time
	answers     []QueryAnswer
	queries     int
	photos      []*tgFile // the picture's sizes, rising; made when they are asked for
}

// tgIdentity is replaced as a whole when the customer renames themselves.
type tgIdentity struct {
	user tgUser
	chat tgChat
}

func (t *TelegramCustomer) user() *tgUser { return &t.who.Load().user }
func (t *TelegramCustomer) chat() *tgChat { return &t.who.Load().chat }

// TelegramAction holds the arguments of every action; each uses its own few.
type TelegramAction struct {
	Text     string          `json:"text"`
	Caption  string          `json:"caption"`
	Entities json.RawMessage `json:"entities"` // default: found in the text

	ReplyTo  int64  `json:"reply_to"`
	Quote    string `json:"quote"`
	External bool   `json:"external"` // reply to a message of another chat
	// Forward: user, hidden_user, chat or channel; Name is the author.
	Forward string `json:"forward"`
	Name    string `json:"name"`

	File  FileSpec `json:"file"`
	Count int      `json:"count"` // items of an album; default 3
	Type  string   `json:"type"`  // sticker: static (default), animated, video; album: photo, mixed, document, audio
	Emoji string   `json:"emoji"`

	Own       bool    `json:"own"` // contact: the sender's own card
	Phone     string  `json:"phone"`
	FirstName string  `json:"first_name"`
	LastName  string  `json:"last_name"`
	VCard     string  `json:"vcard"`
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	Title     string  `json:"title"`
	Address   string  `json:"address"`
	Period    int     `json:"live_period"`

	MessageID int64           `json:"message_id"` // of the message to edit, react to, press on; 0: the last fitting one
	Data      string          `json:"data"`       // press: callback_data or the button's text; empty: the first button
	Payload   string          `json:"payload"`    // start
	Kind      string          `json:"kind"`       // service, unknown: the field's name
	Value     json.RawMessage `json:"value"`      // service, unknown: the field's content
	Update    json.RawMessage `json:"update"`     // raw
	By        Delay           `json:"by"`         // age
	Business  string          `json:"business"`   // send as business_message of this connection
}

var errNoMessage = errors.New("the customer has no such message")

// Do performs an action by its name; see TelegramActions. Errors describe
// arguments that make no sense.
func (t *TelegramCustomer) Do(action string, a TelegramAction) (Sent, error) {
	f, ok := telegramActions()[action]
	if !ok {
		return Sent{}, fmt.Errorf("action %q: want one of %q", action, TelegramActions())
	}
	return f(t, a)
}

// TelegramActions lists the names of all actions.
func TelegramActions() []string {
	var out []string
	for k := range telegramActions() {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func telegramActions() map[string]func(*TelegramCustomer, TelegramAction) (Sent, error) {
	return map[string]func(*TelegramCustomer, TelegramAction) (Sent, error){
		"text":          (*TelegramCustomer).sendText,
		"photo":         fileAction("photo", "jpeg"),
		"video":         fileAction("video", "mp4"),
		"audio":         fileAction("audio", "mp3"),
		"voice":         fileAction("voice", "ogg"),
		"video_note":    fileAction("video_note", "mp4"),
		"animation":     fileAction("animation", "mp4"),
		"document":      fileAction("document", "pdf"),
		"sticker":       (*TelegramCustomer).sendSticker,
		"album":         (*TelegramCustomer).sendAlbum,
		"contact":       (*TelegramCustomer).sendContact,
		"location":      (*TelegramCustomer).sendLocation,
		"venue":         (*TelegramCustomer).sendVenue,
		"move":          (*TelegramCustomer).moveLocation,
		"poll":          extraAction("poll", `{"id":"541","question":"Как вам?","options":[{"text":"Да","voter_count":0},{"text":"Нет","voter_count":0}],"total_voter_count":0,"is_closed":false,"is_anonymous":true,"type":"regular","allows_multiple_answers":false}`),
		"dice":          extraAction("dice", `{"emoji":"🎲","value":4}`),
		"web_app_data":  extraAction("web_app_data", `{"button_text":"Открыть","data":"{\"order\":17}"}`),
		"story":         extraAction("story", `{"chat":{"id":-1001111111111,"type":"channel","title":"Новости"},"id":5}`),
		"service":       extraAction("pinned_message", ""),
		"unknown":       extraAction("hologram", `{"id":"h1","depth":3}`),
		"edit":          (*TelegramCustomer).edit,
		"press":         (*TelegramCustomer).pressButton,
		"start":         (*TelegramCustomer).start,
		"block":         (*TelegramCustomer).block,
		"unblock":       (*TelegramCustomer).unblock,
		"react":         (*TelegramCustomer).react,
		"migrate":       (*TelegramCustomer).migrate,
		"unknown_event": (*TelegramCustomer).unknownEvent,
		"age":           (*TelegramCustomer).age,
		"raw":           func(t *TelegramCustomer, a TelegramAction) (Sent, error) { return t.acct.inject(a.Update) },
	}
}

func (t *TelegramCustomer) act(action string, args []byte) (Sent, error) {
	var a TelegramAction
	if err := decodeStrict(args, &a); err != nil {
		return Sent{}, err
	}
	return t.Do(action, a)
}

// post stores messages of the customer and queues their updates, in order.
func (t *TelegramCustomer) post(a TelegramAction, track *tracker, msgs ...*tgStored) (Sent, error) {
	var s Sent
	for _, m := range msgs {
		if m.file != nil { // sums take a while for big files: not under the lock
			s.Files = append(s.Files, m.file.info(""))
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.context(a, msgs...); err != nil {
		return Sent{}, err
	}
	t.started, t.blocked = true, false
	for _, m := range msgs {
		t.store(m)
		id := t.push("message", m, a.Business, track)
		s.note(id, m.msg.MessageID)
	}
	t.changed.broadcast()
	return s, nil
}

// push queues a message's update; t.mu is held, so that updates and message
// numbers rise together.
func (t *TelegramCustomer) push(kind string, m *tgStored, business string, track *tracker) int64 {
	body := m.msg.encode()
	key := t.id
	if business != "" {
		kind = map[string]string{"message": "business_message", "edited_message": "edited_business_message"}[kind]
		conn, _ := json.Marshal(business)
		body = append(append(append(body[:len(body)-1], `,"business_connection_id":`...), conn...), '}')
	}
	return t.acct.updates.push(kind, key, t.id, body, track)
}

func (s *Sent) note(update, message int64) {
	if update == 0 {
		s.Dropped = true
	}
	id := strconv.FormatInt(message, 10)
	if s.MessageID == "" {
		s.MessageID, s.UpdateID = id, update
	}
	s.MessageIDs = append(s.MessageIDs, id)
	s.UpdateIDs = append(s.UpdateIDs, update)
}

// context applies reply, quote and forward; t.mu is held.
func (t *TelegramCustomer) context(a TelegramAction, msgs ...*tgStored) error {
	var reply, external, origin json.RawMessage
	var quote *tgQuote
	now := time.Now().Unix()
	if a.ReplyTo != 0 {
		m := t.find(a.ReplyTo)
		if m == nil {
			return fmt.Errorf("reply to %d: %w", a.ReplyTo, errNoMessage)
		}
		reply = m.reference()
		if a.Quote != "" {
			text := m.msg.Text + m.msg.Caption
			at := strings.Index(text, a.Quote)
			if at < 0 {
				return fmt.Errorf("quote %q is not in message %d", a.Quote, a.ReplyTo)
			}
			quote = &tgQuote{Text: a.Quote, Position: utf16Len(text[:at]), IsManual: true}
		}
	}
	channel := map[string]any{"id": -1001111111111, "type": "channel", "title": "Новости"}
	if a.External {
		external = mustJSON(map[string]any{"origin": map[string]any{"type": "channel", "chat": channel, "message_id": 77, "date": now - 86_400}})
	}
	name := a.Name
	if name == "" {
		name = "Пётр"
	}
	switch a.Forward {
	case "":
	case "user":
		origin = mustJSON(map[string]any{"type": "user", "sender_user": tgUser{ID: 42, FirstName: name}, "date": now - 3600})
	case "hidden_user":
		origin = mustJSON(map[string]any{"type": "hidden_user", "sender_user_name": name, "date": now - 3600})
	case "chat":
		origin = mustJSON(map[string]any{"type": "chat", "sender_chat": map[string]any{"id": -1002222222222, "type": "supergroup", "title": "Соседи"}, "author_signature": name, "date": now - 3600})
	case "channel":
		origin = mustJSON(map[string]any{"type": "channel", "chat": channel, "message_id": 77, "author_signature": name, "date": now - 3600})
	default:
		return fmt.Errorf("forward %q: want user, hidden_user, chat or channel", a.Forward)
	}
	for _, m := range msgs {
		m.msg.ReplyTo, m.msg.Quote, m.msg.ExternalReply, m.msg.ForwardOrigin = reply, quote, external, origin
	}
	return nil
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only literals of this package come here
	}
	return b
}

func entitiesOf(a TelegramAction, text string) ([]tgEntity, error) {
	if len(a.Entities) == 0 {
		return detectEntities(text), nil
	}
	var e []tgEntity
	if err := json.Unmarshal(a.Entities, &e); err != nil {
		return nil, fmt.Errorf("entities: %w", err)
	}
	return e, nil
}

func (t *TelegramCustomer) sendText(a TelegramAction) (Sent, error) {
	if a.Text == "" {
		a.Text = "Здравствуйте!"
	}
	ents, err := entitiesOf(a, a.Text)
	if err != nil {
		return Sent{}, err
	}
	return t.post(a, nil, &tgStored{msg: tgMessage{Text: a.Text, Entities: ents}})
}

func (t *TelegramCustomer) say(text string, track *tracker) (Sent, error) {
	return t.post(TelegramAction{}, track, &tgStored{msg: tgMessage{Text: text}})
}

// newFile generates a file that the customer sends.
func (t *TelegramCustomer) newFile(kind, format string, spec FileSpec) (*tgFile, error) {
	if spec.Duration == 0 {
		spec.Duration = 7
	}
	b, err := makeBlob(spec, format)
	if err != nil {
		return nil, err
	}
	f := &tgFile{kind: kind, name: spec.Name, mime: spec.MIME, w: spec.Width, h: spec.Height, duration: spec.Duration, b: b, claimed: spec.ClaimedSize}
	if f.mime == "" {
		f.mime = b.mime
	}
	if f.name == "" {
		f.name = kind + "." + b.ext
	}
	if f.w == 0 {
		switch kind {
		case "photo":
			f.w, f.h = 640, 480
		case "video":
			f.w, f.h = 1280, 720
		case "animation":
			f.w, f.h = 480, 270
		case "video_note":
			f.w, f.h = 384, 384
		}
	}
	t.acct.addFile(f)
	return f, nil
}

func (t *TelegramCustomer) fileMessage(kind, format string, a TelegramAction) (*tgStored, error) {
	ents, err := entitiesOf(a, a.Caption)
	if err != nil {
		return nil, err
	}
	f, err := t.newFile(kind, format, a.File)
	if err != nil {
		return nil, err
	}
	m := &tgStored{file: f, msg: tgMessage{Caption: a.Caption, CaptionEntities: ents}}
	f.attach(&m.msg)
	switch {
	case m.msg.Photo != nil:
		small, err := t.newFile("photo", "jpeg", FileSpec{Width: 90, Height: 67, Seed: a.File.Seed})
		if err != nil {
			return nil, err
		}
		m.msg.Photo = append([]tgSize{{small.id, small.unique, 90, 67, small.b.size}}, m.msg.Photo...)
	case m.msg.Video != nil:
		m.msg.Video.Thumbnail, err = t.thumb(a.File.Seed)
	case m.msg.Audio != nil:
		m.msg.Audio.Title, m.msg.Audio.Performer = a.Title, a.Name
	}
	return m, err
}

func (t *TelegramCustomer) thumb(seed uint64) (*tgSize, error) {
	f, err := t.newFile("photo", "jpeg", FileSpec{Width: 320, Height: 180, Seed: seed})
	if err != nil {
		return nil, err
	}
	return &tgSize{f.id, f.unique, 320, 180, f.b.size}, nil
}

func fileAction(kind, format string) func(*TelegramCustomer, TelegramAction) (Sent, error) {
	return func(t *TelegramCustomer, a TelegramAction) (Sent, error) {
		m, err := t.fileMessage(kind, format, a)
		if err != nil {
			return Sent{}, err
		}
		return t.post(a, nil, m)
	}
}

func (t *TelegramCustomer) sendSticker(a TelegramAction) (Sent, error) {
	format := map[string]string{"": "webp", "static": "webp", "animated": "tgs", "video": "webm"}[a.Type]
	if format == "" {
		return Sent{}, fmt.Errorf("sticker type %q: want static, animated or video", a.Type)
	}
	f, err := t.newFile("sticker", format, a.File)
	if err != nil {
		return Sent{}, err
	}
	m := &tgStored{file: f}
	f.attach(&m.msg)
	m.msg.Sticker.Emoji, m.msg.Sticker.SetName = a.Emoji, "CatsPack"
	if a.Emoji == "" {
		m.msg.Sticker.Emoji = "👍"
	}
	if m.msg.Sticker.Thumbnail, err = t.thumb(a.File.Seed); err != nil {
		return Sent{}, err
	}
	return t.post(a, nil, m)
}

func (t *TelegramCustomer) sendAlbum(a TelegramAction) (Sent, error) {
	n := a.Count
	if n == 0 {
		n = 3
	}
	if n < 2 || n > 10 {
		return Sent{}, fmt.Errorf("album of %d: want 2 to 10", n)
	}
	group := "13" + strconv.FormatInt(int64(t.acct.sim.rnd.float()*1e15), 10)
	var msgs []*tgStored
	for i := range n {
		kind, format := "photo", "jpeg"
		switch {
		case a.Type == "document":
			kind, format = "document", "pdf"
		case a.Type == "audio":
			kind, format = "audio", "mp3"
		case a.Type == "mixed" && i%2 == 1:
			kind, format = "video", "mp4"
		}
		item := a
		item.File.Seed += uint64(i)
		if i > 0 {
			item.Caption = "" // usually on the first only
		}
		m, err := t.fileMessage(kind, format, item)
		if err != nil {
			return Sent{}, err
		}
		m.msg.MediaGroupID = group
		msgs = append(msgs, m)
	}
	return t.post(a, nil, msgs...)
}

func (t *TelegramCustomer) sendContact(a TelegramAction) (Sent, error) {
	c := &tgContact{Phone: a.Phone, FirstName: a.FirstName, LastName: a.LastName, VCard: a.VCard}
	if a.Own {
		u := t.user()
		c.Phone, c.FirstName, c.LastName, c.UserID = t.phone, u.FirstName, u.LastName, u.ID
	} else {
		if c.Phone == "" {
			c.Phone = "+79161234567"
		}
		if c.FirstName == "" {
			c.FirstName = "Пётр"
		}
	}
	return t.post(a, nil, &tgStored{msg: tgMessage{Contact: c}})
}

func (a TelegramAction) place() tgLocation {
	if a.Latitude == 0 && a.Longitude == 0 {
		a.Latitude, a.Longitude = 55.751244, 37.618423
	}
	return tgLocation{Latitude: a.Latitude, Longitude: a.Longitude, LivePeriod: a.Period}
}

func (t *TelegramCustomer) sendLocation(a TelegramAction) (Sent, error) {
	l := a.place()
	l.Accuracy = 12.5
	return t.post(a, nil, &tgStored{msg: tgMessage{Location: &l}})
}

func (t *TelegramCustomer) sendVenue(a TelegramAction) (Sent, error) {
	l := a.place()
	if a.Title == "" {
		a.Title, a.Address = "Кафе", "Тверская, 1"
	}
	return t.post(a, nil, &tgStored{msg: tgMessage{Location: &l, Venue: &tgVenue{l, a.Title, a.Address}}})
}

// moveLocation edits a live location: it arrives as edited_message.
func (t *TelegramCustomer) moveLocation(a TelegramAction) (Sent, error) {
	return t.change(a, func(m *tgStored) bool { return m.msg.Location != nil }, func(m *tgStored) {
		l := a.place()
		l.LivePeriod = m.msg.Location.LivePeriod
		m.msg.Location = &l
	})
}

func extraAction(kind, content string) func(*TelegramCustomer, TelegramAction) (Sent, error) {
	return func(t *TelegramCustomer, a TelegramAction) (Sent, error) {
		k, v := kind, json.RawMessage(content)
		if a.Kind != "" {
			k = a.Kind
		}
		if len(a.Value) > 0 {
			v = a.Value
		}
		if len(v) == 0 {
			v = mustJSON(map[string]any{"message_id": 1, "chat": t.chat(), "date": time.Now().Unix(), "text": "Закреплено"})
		}
		if !json.Valid(v) {
			return Sent{}, fmt.Errorf("value of %s is not JSON", k)
		}
		return t.post(a, nil, &tgStored{msg: tgMessage{extra: map[string]json.RawMessage{k: v}}})
	}
}

// last finds the newest live message that fits; t.mu is held.
func (t *TelegramCustomer) last(id int64, fits func(*tgStored) bool) *tgStored {
	if id != 0 {
		if m := t.find(id); m != nil && fits(m) {
			return m
		}
		return nil
	}
	for _, m := range slices.Backward(t.history) {
		if m.deleted.IsZero() && fits(m) {
			return m
		}
	}
	return nil
}

// change edits one of the customer's own messages.
func (t *TelegramCustomer) change(a TelegramAction, fits func(*tgStored) bool, f func(*tgStored)) (Sent, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.last(a.MessageID, func(m *tgStored) bool { return !m.fromBot && fits(m) })
	if m == nil {
		return Sent{}, fmt.Errorf("edit: %w", errNoMessage)
	}
	m.earlier = append(m.earlier, m.msg.Text+m.msg.Caption)
	f(m)
	m.edited = time.Now()
	m.msg.EditDate = m.edited.Unix()
	var s Sent
	s.note(t.push("edited_message", m, a.Business, nil), m.msg.MessageID)
	t.changed.broadcast()
	return s, nil
}

func (t *TelegramCustomer) edit(a TelegramAction) (Sent, error) {
	return t.change(a, func(m *tgStored) bool { return m.msg.Text != "" || m.msg.fileID() != "" }, func(m *tgStored) {
		if m.msg.Text != "" {
			m.msg.Text, m.msg.Entities = a.Text, detectEntities(a.Text)
			return
		}
		m.msg.Caption, m.msg.CaptionEntities = a.Text+a.Caption, nil
	})
}

// pressButton presses an inline button (a callback query) or one of the reply
// keyboard (an ordinary message, or the contact or place that it asks for).
func (t *TelegramCustomer) pressButton(a TelegramAction) (Sent, error) {
	t.mu.Lock()
	fits := func(b Button) bool { return a.Data == "" || a.Data == b.Data || a.Data == b.Text }
	var pressed Button
	m := t.last(a.MessageID, func(m *tgStored) bool {
		for _, b := range keyboardButtons(m.msg.ReplyMarkup) {
			if b.Action == "callback" && fits(b) {
				pressed = b
				return true
			}
		}
		return false
	})
	if m != nil {
		defer t.mu.Unlock()
		return t.query(m, pressed.Data), nil
	}
	for _, b := range keyboardButtons(t.keyboard) {
		if !fits(b) {
			continue
		}
		if t.oneTime {
			t.keyboard = nil
		}
		t.mu.Unlock()
		switch b.Action {
		case "contact":
			return t.sendContact(TelegramAction{Own: true})
		case "location":
			return t.sendLocation(TelegramAction{})
		}
		return t.sendText(TelegramAction{Text: b.Text})
	}
	t.mu.Unlock()
	return Sent{}, fmt.Errorf("press %q: no such button", a.Data)
}

// query queues a callback query; t.mu is held.
func (t *TelegramCustomer) query(m *tgStored, data string) Sent {
	t.queries++
	id := strconv.FormatUint(filler(uint64(t.user().ID), uint64(t.queries))%9e18, 10)
	t.acct.fmu.Lock()
	t.acct.queries[id] = &tgQuery{customer: t, message: m.msg.MessageID, at: time.Now()}
	for k, q := range t.acct.queries {
		if len(t.acct.queries) < 10_000 {
			break
		}
		if time.Since(q.at) > queryLife {
			delete(t.acct.queries, k)
		}
	}
	t.acct.fmu.Unlock()
	body := mustJSON(map[string]any{
		"id": id, "from": t.user(), "message": m.msg.encode(),
		"chat_instance": "-31415926535", "data": data,
	})
	s := Sent{MessageID: id}
	s.UpdateID = t.acct.updates.push("callback_query", "q"+strconv.FormatInt(t.user().ID, 10), t.id, body, nil)
	s.Dropped = s.UpdateID == 0
	return s
}

func (t *TelegramCustomer) press(i int) (Sent, error) {
	t.mu.Lock()
	var all []Button
	for _, m := range slices.Backward(t.history) {
		if m.fromBot && m.deleted.IsZero() {
			all = keyboardButtons(m.msg.ReplyMarkup)
			break
		}
	}
	if len(all) == 0 {
		all = keyboardButtons(t.keyboard)
	}
	t.mu.Unlock()
	if len(all) == 0 {
		return Sent{}, errNoMessage
	}
	b := all[i%len(all)]
	if b.Data == "" {
		b.Data = b.Text
	}
	return t.pressButton(TelegramAction{Data: b.Data})
}

func (t *TelegramCustomer) start(a TelegramAction) (Sent, error) {
	if len(a.Payload) > 64 || !isKeyText(a.Payload) {
		return Sent{}, fmt.Errorf("start payload %q: want 1 to 64 of A-Z a-z 0-9 _ -", a.Payload)
	}
	t.mu.Lock()
	if t.blocked {
		t.member("kicked", "member")
	}
	t.mu.Unlock()
	text := strings.TrimSpace("/start " + a.Payload)
	return t.post(a, nil, &tgStored{msg: tgMessage{Text: text, Entities: []tgEntity{{Type: "bot_command", Length: 6}}}})
}

// member queues my_chat_member; t.mu is held.
func (t *TelegramCustomer) member(was, is string) Sent {
	status := func(s string) map[string]any {
		m := map[string]any{"user": t.acct.user, "status": s}
		if s == "kicked" {
			m["until_date"] = 0
		}
		return m
	}
	body := mustJSON(map[string]any{
		"chat": t.chat(), "from": t.user(), "date": time.Now().Unix(),
		"old_chat_member": status(was), "new_chat_member": status(is),
	})
	id := t.acct.updates.push("my_chat_member", "m"+t.id, t.id, body, nil)
	return Sent{UpdateID: id, Dropped: id == 0}
}

func (t *TelegramCustomer) block(TelegramAction) (Sent, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.blocked = true
	return t.member("member", "kicked"), nil
}

func (t *TelegramCustomer) unblock(TelegramAction) (Sent, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.blocked, t.started = false, true
	return t.member("kicked", "member"), nil
}

func (t *TelegramCustomer) react(a TelegramAction) (Sent, error) {
	if a.Emoji == "" {
		a.Emoji = "👍"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.last(a.MessageID, func(m *tgStored) bool { return a.MessageID != 0 || m.fromBot })
	if m == nil {
		return Sent{}, fmt.Errorf("react: %w", errNoMessage)
	}
	body := mustJSON(map[string]any{
		"chat": t.chat(), "message_id": m.msg.MessageID, "user": t.user(), "date": time.Now().Unix(),
		"old_reaction": []any{}, "new_reaction": []any{map[string]string{"type": "emoji", "emoji": a.Emoji}},
	})
	id := t.acct.updates.push("message_reaction", t.id, t.id, body, nil)
	return Sent{UpdateID: id, Dropped: id == 0}, nil
}

// migrate turns a group into a supergroup with another id.
func (t *TelegramCustomer) migrate(TelegramAction) (Sent, error) {
	if t.chat().Type != "group" {
		return Sent{}, errors.New("migrate: the chat is not a group")
	}
	next, err := t.acct.NewCustomer(CustomerSpec{ChatType: "supergroup", ChatID: -1_000_000_000_000 + t.chat().ID, Title: t.chat().Title, FirstName: t.user().FirstName})
	if err != nil {
		return Sent{}, err
	}
	nid := next.chat().ID
	s, err := t.post(TelegramAction{}, nil, &tgStored{msg: tgMessage{extra: map[string]json.RawMessage{"migrate_to_chat_id": mustJSON(nid)}}})
	if err != nil {
		return Sent{}, err
	}
	t.mu.Lock()
	t.migratedTo = nid
	t.mu.Unlock()
	_, err = next.post(TelegramAction{}, nil, &tgStored{msg: tgMessage{extra: map[string]json.RawMessage{"migrate_from_chat_id": mustJSON(t.chat().ID)}}})
	return s, err
}

// unknownEvent queues an update of a kind that does not exist yet.
func (t *TelegramCustomer) unknownEvent(a TelegramAction) (Sent, error) {
	kind := a.Kind
	if kind == "" {
		kind = "hologram_call"
	}
	body := a.Value
	if len(body) == 0 {
		body = mustJSON(map[string]any{"chat": t.chat(), "from": t.user(), "date": time.Now().Unix()})
	}
	if !json.Valid(body) {
		return Sent{}, fmt.Errorf("value of %s is not JSON", kind)
	}
	id := t.acct.updates.push(kind, t.id, t.id, body, nil)
	return Sent{UpdateID: id, Dropped: id == 0}, nil
}

// age makes a message older, to get past the time in which it can be deleted.
func (t *TelegramCustomer) age(a TelegramAction) (Sent, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.last(a.MessageID, func(*tgStored) bool { return true })
	if m == nil {
		return Sent{}, fmt.Errorf("age: %w", errNoMessage)
	}
	m.msg.Date -= int64(time.Duration(a.By) / time.Second)
	return Sent{MessageID: strconv.FormatInt(m.msg.MessageID, 10)}, nil
}

func (t *TelegramCustomer) share(what, caption string, seed uint64) (Sent, error) {
	a := TelegramAction{Caption: caption, File: FileSpec{Seed: seed, Duration: 3 + int(seed%9)}}
	switch what {
	case "contact":
		a.Own = true
	case "location":
		a.Latitude, a.Longitude = 55.70+float64(seed%1000)/10_000, 37.55+float64(seed/1000%1000)/10_000
	case "document":
		a.File.Name = "order-" + strconv.FormatUint(seed%10_000, 10) + ".pdf"
	}
	return t.Do(what, a)
}

func (t *TelegramCustomer) set(p CustomerPatch) error {
	if p.FirstName != nil {
		next := *t.who.Load()
		next.user.FirstName = *p.FirstName
		if next.chat.Type == "private" {
			next.chat.FirstName = *p.FirstName
		}
		t.who.Store(&next)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	assign(&t.blocked, p.Blocked)
	assign(&t.deactivated, p.Deactivated)
	assign(&t.started, p.Started)
	if t.avatar.set(p, uint64(t.user().ID)) {
		t.photos = nil
	}
	return nil
}

func (t *TelegramCustomer) describe() map[string]any {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := map[string]any{
		"id": t.id, "user": t.user(), "chat": t.chat(), "phone": t.phone, "started": t.started, "blocked": t.blocked,
		"deactivated": t.deactivated, "messages": t.seq, "answers": t.answers, "buttons": keyboardButtons(t.keyboard),
	}
	// A chat action lasts five seconds or until a message.
	if t.action != "" && time.Since(t.actionAt) < 5*time.Second {
		m["action"] = t.action
	}
	return m
}

func (t *TelegramCustomer) view(since int64) []Message {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := []Message{}
	for _, m := range t.history {
		if m.seq > since {
			out = append(out, m.view())
		}
	}
	return out
}

func (m *tgStored) view() Message {
	v := Message{
		Seq: m.seq, ID: strconv.FormatInt(m.msg.MessageID, 10), From: FromCustomer, Kind: m.msg.kind(),
		Text: m.msg.Text + m.msg.Caption, Keyboard: m.keyboard, Buttons: keyboardButtons(m.keyboard),
		Group: m.msg.MediaGroupID, Forwarded: m.msg.ForwardOrigin != nil, Earlier: slices.Clone(m.earlier), At: m.at, Raw: m.msg.encode(),
	}
	if m.fromBot {
		v.From = FromBot
	}
	if e := append(slices.Clone(m.msg.Entities), m.msg.CaptionEntities...); len(e) > 0 {
		v.Entities = mustJSON(e)
	}
	if m.file != nil {
		v.Files = []FileInfo{m.file.info(m.url)}
	}
	if l := m.msg.Location; l != nil {
		v.Location = &Point{Lat: l.Latitude, Lon: l.Longitude}
		if m.msg.Venue != nil {
			v.Location.Title = m.msg.Venue.Title
		}
	}
	if c := m.msg.Contact; c != nil {
		v.Contact = &Card{strings.TrimSpace(c.FirstName + " " + c.LastName), c.Phone}
	}
	if m.msg.ReplyTo != nil {
		var r struct {
			ID int64 `json:"message_id"`
		}
		json.Unmarshal(m.msg.ReplyTo, &r) //nolint:errcheck // our own encoding
		v.ReplyTo = strconv.FormatInt(r.ID, 10)
	}
	if m.msg.Quote != nil {
		v.Quote = m.msg.Quote.Text
	}
	if !m.edited.IsZero() {
		at := m.edited
		v.EditedAt = &at
	}
	if !m.deleted.IsZero() {
		at := m.deleted
		v.DeletedAt = &at
	}
	return v
}

// The rest is the Go face for tests. Methods that can't fail on their plain
// arguments return Sent alone.

func must(s Sent, err error) Sent {
	if err != nil {
		panic(err)
	}
	return s
}

// SendText writes a text.
func (t *TelegramCustomer) SendText(text string) Sent {
	return must(t.Do("text", TelegramAction{Text: text}))
}

// Reply answers a message of the chat.
func (t *TelegramCustomer) Reply(to int64, text string) (Sent, error) {
	return t.Do("text", TelegramAction{Text: text, ReplyTo: to})
}

// SendPhoto sends a generated picture.
func (t *TelegramCustomer) SendPhoto(caption string) Sent {
	return must(t.Do("photo", TelegramAction{Caption: caption}))
}

// SendFile sends a generated file as kind: photo, video, audio, voice, video_note, animation or document.
func (t *TelegramCustomer) SendFile(kind string, f FileSpec) (Sent, error) {
	return t.Do(kind, TelegramAction{File: f})
}

// SendAlbum sends n pictures as a group, each an update of its own.
func (t *TelegramCustomer) SendAlbum(n int, caption string) (Sent, error) {
	return t.Do("album", TelegramAction{Count: n, Caption: caption})
}

// Edit changes the text of one of the customer's messages; 0 is the last one.
func (t *TelegramCustomer) Edit(messageID int64, text string) (Sent, error) {
	return t.Do("edit", TelegramAction{MessageID: messageID, Text: text})
}

// Press presses a button by its callback data or its text; "" is the first one.
func (t *TelegramCustomer) Press(data string) (Sent, error) {
	return t.Do("press", TelegramAction{Data: data})
}

// Start presses Start, with a deep link's payload or "".
func (t *TelegramCustomer) Start(payload string) (Sent, error) {
	return t.Do("start", TelegramAction{Payload: payload})
}

// Block blocks the bot.
func (t *TelegramCustomer) Block() Sent { return must(t.Do("block", TelegramAction{})) }

// Unblock lets the bot write again.
func (t *TelegramCustomer) Unblock() Sent { return must(t.Do("unblock", TelegramAction{})) }

// Set changes the customer without an update to the bot.
func (t *TelegramCustomer) Set(p CustomerPatch) { t.set(p) } //nolint:errcheck // Telegram's fields are all valid

// Messages returns what the bot has sent, as the customer sees it now.
func (t *TelegramCustomer) Messages() []Message { return fromBot(t.view(0)) }

// Transcript returns the whole dialogue.
func (t *TelegramCustomer) Transcript() []Message { return t.view(0) }

// WaitMessages waits until the bot has sent n messages or d has passed, and returns them.
func (t *TelegramCustomer) WaitMessages(n int, d time.Duration) []Message {
	return waitMessages(t, &t.customerCore, n, d)
}

// Answers returns what the bot answered to button presses.
func (t *TelegramCustomer) Answers() []QueryAnswer {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.answers)
}

// Action is the chat action that the customer sees now; "" is none.
func (t *TelegramCustomer) Action() string {
	a, _ := t.describe()["action"].(string)
	return a
}
