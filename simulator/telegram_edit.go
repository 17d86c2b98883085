package simulator

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"time"
)

// deleteWindow is how long a message can be deleted by the bot.
const deleteWindow = 48 * time.Hour

// edit finds the bot's message, lets change work on a copy, and stores the
// copy if it differs. The markup of the call, when given, replaces the old one.
func (c *tgCall) edit(keepMarkup bool, change func(m *tgStored) *tgError) (any, *tgError) {
	markup, e := c.markup(true)
	if e != nil {
		return nil, e
	}
	t, e := c.chat("chat_id")
	if e != nil {
		return nil, e
	}
	if e := t.reachable(); e != nil {
		return nil, e
	}
	id, e := c.int("message_id", 0)
	if e != nil {
		return nil, e
	}
	if e := c.limit(t, 1); e != nil { // edits count towards the chat's rate
		return nil, e
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.find(id)
	if m == nil {
		return nil, badRequest("message to edit not found")
	}
	if !m.fromBot || m.msg.ForwardOrigin != nil {
		return nil, badRequest("message can't be edited")
	}
	next := *m
	if e := change(&next); e != nil {
		return nil, e
	}
	if !keepMarkup || markup != nil {
		// An edit without reply_markup removes the inline keyboard.
		next.msg.ReplyMarkup, next.keyboard = markup, markup
	}
	if same(m, &next) {
		return nil, badRequest("message is not modified: specified new message content and reply markup are exactly the same as a current content and reply markup of the message")
	}
	if was := m.msg.Text + m.msg.Caption; was != next.msg.Text+next.msg.Caption {
		next.earlier = append(next.earlier[:len(next.earlier):len(next.earlier)], was)
	}
	next.edited = time.Now()
	next.msg.EditDate = next.edited.Unix()
	*m = next
	defer t.changed.broadcast()
	return m.msg.encode(), nil
}

func same(a, b *tgStored) bool {
	return a.msg.Text == b.msg.Text && a.msg.Caption == b.msg.Caption && a.msg.fileID() == b.msg.fileID() &&
		reflect.DeepEqual(a.msg.Entities, b.msg.Entities) && reflect.DeepEqual(a.msg.CaptionEntities, b.msg.CaptionEntities) &&
		bytes.Equal(compact(a.msg.ReplyMarkup), compact(b.msg.ReplyMarkup))
}

func compact(raw json.RawMessage) []byte {
	var buf bytes.Buffer
	if len(raw) == 0 || json.Compact(&buf, raw) != nil {
		return raw
	}
	return buf.Bytes()
}

func (c *tgCall) editMessageText() (any, *tgError) {
	text, ents, e := c.text("text")
	if e != nil {
		return nil, e
	}
	return c.edit(false, func(m *tgStored) *tgError {
		if m.msg.Text == "" {
			return badRequest("there is no text in the message to edit")
		}
		m.msg.Text, m.msg.Entities = text, ents
		return nil
	})
}

func (c *tgCall) editMessageCaption() (any, *tgError) {
	text, ents, e := c.caption()
	if e != nil {
		return nil, e
	}
	return c.edit(false, func(m *tgStored) *tgError {
		if m.msg.fileID() == "" || m.msg.Sticker != nil || m.msg.VideoNote != nil {
			return badRequest("there is no caption in the message to edit")
		}
		m.msg.Caption, m.msg.CaptionEntities = text, ents
		return nil
	})
}

func (c *tgCall) editMessageReplyMarkup() (any, *tgError) {
	return c.edit(false, func(*tgStored) *tgError { return nil })
}

func (c *tgCall) editMessageMedia() (any, *tgError) {
	var in inputMedia
	if err := json.Unmarshal([]byte(c.p["media"]), &in); err != nil {
		return nil, badRequest("can't parse media JSON object: %s", err.Error())
	}
	switch in.Type {
	case "photo", "video", "animation", "audio", "document":
	default:
		return nil, badRequest("media of type %q can't be used in an edit", in.Type)
	}
	o, e := c.input(in)
	if e != nil {
		return nil, e
	}
	return c.edit(false, func(m *tgStored) *tgError {
		if m.msg.fileID() == "" {
			return badRequest("there is no media in the message to edit")
		}
		m.msg.clearMedia()
		o.file.attach(&m.msg)
		m.file, m.url = o.file, o.url
		m.msg.Caption, m.msg.CaptionEntities = o.msg.Caption, o.msg.CaptionEntities
		return nil
	})
}

// remove deletes one message; t.mu is held. In a group only the bot's own.
func (t *TelegramCustomer) remove(id int64) *tgError {
	m := t.find(id)
	switch {
	case m == nil:
		return badRequest("message to delete not found")
	case time.Since(time.Unix(m.msg.Date, 0)) > deleteWindow, !m.fromBot && t.chat().Type != "private":
		return badRequest("message can't be deleted for everyone")
	}
	m.deleted = time.Now()
	return nil
}

func (c *tgCall) deleteMessage() (any, *tgError) {
	t, e := c.recipient()
	if e != nil {
		return nil, e
	}
	id, e := c.int("message_id", 0)
	if e != nil {
		return nil, e
	}
	t.mu.Lock()
	e = t.remove(id)
	t.mu.Unlock()
	if e != nil {
		return nil, e
	}
	t.changed.broadcast()
	return true, nil
}

func (c *tgCall) deleteMessages() (any, *tgError) {
	var ids []int64
	if err := json.Unmarshal([]byte(c.p["message_ids"]), &ids); err != nil {
		return nil, badRequest("can't parse message_ids: %s", err.Error())
	}
	if len(ids) < 1 || len(ids) > 100 {
		return nil, badRequest("message_ids must be 1-100, got %d", len(ids))
	}
	t, e := c.recipient()
	if e != nil {
		return nil, e
	}
	t.mu.Lock()
	for _, id := range ids {
		t.remove(id) //nolint:errcheck // ids that can't be found are skipped
	}
	t.mu.Unlock()
	t.changed.broadcast()
	return true, nil
}

// QueryAnswer is what the bot answered to a button press.
type QueryAnswer struct {
	QueryID string    `json:"query_id"`
	Text    string    `json:"text,omitempty"`
	Alert   bool      `json:"alert,omitempty"`
	URL     string    `json:"url,omitempty"`
	At      time.Time `json:"at"`
}

// queryLife is how long a button press waits for its answer.
const queryLife = 150 * time.Second

func (c *tgCall) answerCallbackQuery() (any, *tgError) {
	if utf16Len(c.p["text"]) > 200 {
		return nil, badRequest("MESSAGE_TOO_LONG")
	}
	id := c.p["callback_query_id"]
	c.a.fmu.Lock()
	q := c.a.queries[id]
	ok := q != nil && !q.answered && time.Since(q.at) < queryLife
	if ok {
		q.answered = true
		delete(c.a.queries, id)
	}
	c.a.fmu.Unlock()
	if !ok {
		return nil, badRequest("query is too old and response timeout expired or query ID is invalid")
	}
	t := q.customer
	t.mu.Lock()
	t.answers = append(t.answers, QueryAnswer{id, c.p["text"], c.bool("show_alert"), c.p["url"], time.Now()})
	if len(t.answers) > 100 {
		t.answers = t.answers[1:]
	}
	t.mu.Unlock()
	t.changed.broadcast()
	return true, nil
}

func (c *tgCall) getChat() (any, *tgError) {
	t, e := c.chat("chat_id")
	if e != nil {
		return nil, e
	}
	t.mu.Lock()
	chat := *t.chat()
	t.mu.Unlock()
	out := struct {
		tgChat
		Photo *chatPhoto `json:"photo,omitempty"`
		Bio   string     `json:"bio,omitempty"`
	}{tgChat: chat}
	if sizes := t.portrait(); sizes != nil {
		small, big := sizes[0], sizes[len(sizes)-1]
		out.Photo = &chatPhoto{small.id, small.unique, big.id, big.unique}
	}
	return out, nil
}

type chatPhoto struct {
	SmallID     string `json:"small_file_id"`
	SmallUnique string `json:"small_file_unique_id"`
	BigID       string `json:"big_file_id"`
	BigUnique   string `json:"big_file_unique_id"`
}

func (c *tgCall) getUserProfilePhotos() (any, *tgError) {
	id, err := strconv.ParseInt(c.p["user_id"], 10, 64)
	if err != nil {
		return nil, badRequest("invalid user_id specified")
	}
	t := c.a.byUser(id)
	if t == nil {
		return nil, badRequest("user not found")
	}
	offset, e := c.int("offset", 0)
	if e != nil {
		return nil, e
	}
	photos, total := [][]tgSize{}, 0
	if sizes := t.portrait(); sizes != nil {
		total = 1
		if offset < 1 {
			one := make([]tgSize, len(sizes))
			for i, f := range sizes {
				one[i] = tgSize{f.id, f.unique, f.w, f.h, f.b.size}
			}
			photos = append(photos, one)
		}
	}
	return map[string]any{"total_count": total, "photos": photos}, nil
}

func (a *TelegramAccount) byUser(id int64) *TelegramCustomer {
	if t := a.byChat(id); t != nil {
		return t
	}
	for _, t := range a.people2() {
		if t.user().ID == id {
			return t
		}
	}
	return nil
}

// portrait makes the customer's picture, once, in the sizes that Telegram keeps;
// nil without one.
func (t *TelegramCustomer) portrait() []*tgFile {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.avatar.shown {
		return nil
	}
	if t.photos == nil {
		for _, side := range []int{160, 320, 640} {
			f := &tgFile{kind: "photo", mime: "image/jpeg", w: side, h: side, b: face(side, t.avatar.seed)}
			t.acct.addFile(f)
			t.photos = append(t.photos, f)
		}
	}
	return t.photos
}
