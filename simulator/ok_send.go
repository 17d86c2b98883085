package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxOKAttachments = 5
	maxOKUpload      = 200 << 20
	okText           = 4000 // believed; no document says
)

// okKinds are the attachments that can be uploaded.
var okKinds = []string{"IMAGE", "VIDEO", "AUDIO", "FILE"}

func (c *okCall) uploadURL(out map[string]any) *okError {
	kind := c.q.Get("type")
	if !slices.Contains(okKinds, kind) {
		return okParam("Invalid parameter type")
	}
	a := c.a
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slot++
	n := filler(a.sim.cfg.Seed+7, a.slot)
	s := &okSlot{kind: kind, id: strconv.FormatUint(900_000_000_000+a.slot, 10), token: fmt.Sprintf("s%015x==", n>>4)}
	place := fmt.Sprintf("%s.%d.%x", a.ref, a.slot, n)
	a.slots[place] = s
	if kind != "IMAGE" {
		a.tokens[s.token] = s
	} else {
		out["file_id"] = s.id
	}
	out["url"], out["token"] = a.sim.BaseURL()+"/ok/upload/"+place, s.token
	return nil
}

// upload takes a file: one multipart part that is named "file".
func (p *okPlatform) upload(w http.ResponseWriter, r *http.Request, place string) {
	ref := place
	if i := strings.IndexByte(place, '.'); i >= 0 {
		ref = place[:i]
	}
	found, ok := p.find(ref)
	if !ok {
		http.NotFound(w, r)
		return
	}
	a := found.(*OKAccount)
	c := &okCall{call: a.sim.begin(w, r, &a.accountCore, "upload", "/ok/upload/"), a: a}
	if c.inject(a.sim, "upload") {
		return
	}
	if c.fault != nil && c.faultAnswer() {
		return
	}
	a.mu.Lock()
	s := a.slots[place]
	used := s != nil && s.used
	a.mu.Unlock()
	switch {
	case s == nil:
		c.finish(404, 404, "no such place")
		http.NotFound(w, r)
		return
	case used:
		c.fail(200, okFail(4, "The place was used already"))
		return
	}
	b, info, e := c.readFile()
	if e != nil {
		c.fail(200, e)
		return
	}
	if s.kind == "IMAGE" && b.mime != "image/jpeg" && b.mime != "image/png" {
		c.fail(200, okParam("Not a picture"))
		return
	}
	if kind, _, _ := strings.Cut(info.MIME, "/"); s.kind == "IMAGE" && kind != "image" || s.kind == "AUDIO" && kind != "audio" {
		c.fail(200, okParam("The part's Content-Type is %s", info.MIME))
		return
	}
	c.rec.Files = []FileInfo{*info}
	answer := []byte{}
	a.mu.Lock()
	s.used, s.file, s.b = true, info, b
	if s.kind == "IMAGE" {
		token := "p" + s.token
		a.tokens[token] = s
		answer = mustJSON(map[string]any{"photos": map[string]any{s.id: map[string]string{"token": token}}})
	}
	a.mu.Unlock()
	a.sim.respond(c.call, 200, 0, "ok", answer)
}

func (c *okCall) readFile() (*blob, *FileInfo, *okError) {
	kind, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		return nil, nil, okFail(21, "want multipart/form-data")
	}
	form := multipart.NewReader(c.r.Body, params["boundary"])
	var b *blob
	var info *FileInfo
	for {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) && b != nil {
			return b, info, nil
		}
		if err != nil {
			return nil, nil, okFail(21, "broken form, or no part named file")
		}
		if b != nil || part.FormName() != "file" || part.FileName() == "" {
			return nil, nil, okFail(21, "want one part, named file, with a file name")
		}
		over := false
		if b, over, err = c.a.sim.capture(part, maxOKUpload); err != nil {
			return nil, nil, okFail(21, "broken part")
		}
		if over {
			return nil, nil, okParam("The file is too large")
		}
		if b.size == 0 {
			return nil, nil, okParam("The file is empty")
		}
		claimed, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
		info = &FileInfo{Field: "file", Name: part.FileName(), MIME: claimed, Size: b.size, SHA256: b.sha256()}
	}
}

// okMessage is a validated message.
type okMessage struct {
	text     string
	replyTo  string
	kind     string // of the first attachment, else text
	files    []FileInfo
	links    []string // pictures by address, which OK fetches
	keyboard json.RawMessage
	buttons  []Button
	warnings []string
	raw      json.RawMessage
}

type okAttachment struct {
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"`
}

// message validates a message of ours.
func (a *OKAccount) message(raw json.RawMessage) (*okMessage, *okError) {
	var in struct {
		Text        *string          `json:"text"`
		Attachment  *okAttachment    `json:"attachment"`
		Attachments []okAttachment   `json:"attachments"`
		ReplyTo     *json.RawMessage `json:"reply_to"`
		Privacy     *string          `json:"privacyWarning"`
	}
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &in) != nil {
		return nil, okParam("Invalid parameter message")
	}
	m := &okMessage{kind: "text", raw: bytes.Clone(raw)}
	if in.Text != nil {
		m.text = *in.Text
	}
	if in.Attachment != nil {
		in.Attachments = append(in.Attachments, *in.Attachment)
	}
	switch {
	case m.text == "" && len(in.Attachments) == 0:
		return nil, okParam("The message is empty")
	case m.text == "":
		return nil, okParam("The text is empty") // as one adapter has seen
	case len(in.Attachments) > maxOKAttachments:
		return nil, okParam("Over %d attachments", maxOKAttachments)
	case in.Privacy != nil && *in.Privacy != "SCREENSHOT" && *in.Privacy != "SCREENCAST":
		return nil, okParam("Invalid parameter privacyWarning")
	}
	if n := utf8.RuneCountInString(m.text); n > okText {
		m.warnings = append(m.warnings, fmt.Sprintf("text of %d characters: %d are believed to be the most", n, okText))
	}
	if in.ReplyTo != nil {
		if json.Unmarshal(*in.ReplyTo, &m.replyTo) != nil || !strings.HasPrefix(m.replyTo, "mid:") {
			return nil, okParam("Invalid parameter reply_to")
		}
	}
	for i := range in.Attachments {
		if e := a.attachment(m, &in.Attachments[i]); e != nil {
			return nil, e
		}
	}
	return m, nil
}

func (a *OKAccount) attachment(m *okMessage, in *okAttachment) *okError {
	var p struct {
		Token    string `json:"token"`
		URL      string `json:"url"`
		Keyboard *struct {
			Buttons [][]map[string]json.RawMessage `json:"buttons"`
		} `json:"keyboard"`
	}
	if len(in.Payload) == 0 || in.Payload[0] != '{' || json.Unmarshal(in.Payload, &p) != nil {
		return okParam("Invalid parameter payload")
	}
	switch {
	case in.Type == "INLINE_KEYBOARD":
		if m.keyboard != nil || p.Keyboard == nil || len(p.Keyboard.Buttons) == 0 {
			return okParam("Invalid parameter keyboard")
		}
		m.keyboard = bytes.Clone(in.Payload)
		return m.readButtons(p.Keyboard.Buttons)
	case slices.Contains(okKinds, in.Type) && p.Token != "":
		a.mu.Lock()
		s := a.tokens[p.Token]
		a.mu.Unlock()
		if s == nil || s.kind != in.Type {
			return okParam("Invalid parameter token")
		}
		if s.file == nil {
			return okParam("The attachment is not ready, processing")
		}
		m.files = append(m.files, *s.file)
	case in.Type == "IMAGE" && fetchableURL(p.URL):
		if m.links = append(m.links, p.URL); len(m.links) > 1 {
			return okParam("Only one picture by url")
		}
	case slices.Contains([]string{"SHARE", "LOCATION", "CONTACT", "STICKER"}, in.Type):
		m.warnings = append(m.warnings, in.Type+" is documented for receiving only")
	default:
		return okParam("Invalid parameter attachment")
	}
	if m.kind == "text" {
		m.kind = strings.ToLower(in.Type)
	}
	return nil
}

func (m *okMessage) readButtons(rows [][]map[string]json.RawMessage) *okError {
	for _, row := range rows {
		if len(row) == 0 {
			return okParam("An empty row of buttons")
		}
		if len(row) > 7 {
			m.warnings = append(m.warnings, "over 7 buttons in a row")
		}
		for _, raw := range row {
			word := func(name string) string {
				var s string
				json.Unmarshal(raw[name], &s) //nolint:errcheck // then it is not there
				return s
			}
			b := Button{Text: word("text"), Action: word("type"), Data: word("payload"), URL: word("url")}
			switch intent := word("intent"); {
			case b.Text == "":
				return okParam("A button without text")
			case intent != "" && !slices.Contains([]string{"DEFAULT", "POSITIVE", "NEGATIVE"}, intent):
				return okParam("Invalid parameter intent")
			case b.Action == "CALLBACK" && b.Data == "":
				return okParam("A button without payload")
			case b.Action == "LINK" && !fetchableURL(b.URL):
				return okParam("A button without url")
			case !slices.Contains([]string{"CALLBACK", "LINK", "REQUEST_CONTACT", "REQUEST_GEO_LOCATION"}, b.Action):
				return okParam("Invalid parameter type of a button")
			}
			if utf8.RuneCountInString(b.Text) > 30 || utf8.RuneCountInString(b.Data) > 1000 {
				m.warnings = append(m.warnings, "a button over 30 or 1000 characters")
			}
			m.buttons = append(m.buttons, b)
		}
	}
	if len(rows) > 30 {
		m.warnings = append(m.warnings, "over 30 rows of buttons")
	}
	return nil
}

func (c *okCall) messages(chat string, out map[string]any) *okError {
	var in struct {
		Recipient struct {
			Chat  string   `json:"chat_id"`
			User  string   `json:"user_id"`
			Users []string `json:"user_ids"`
		} `json:"recipient"`
		Message json.RawMessage `json:"message"`
		Sender  string          `json:"sender_action"`
	}
	if json.Unmarshal(c.body, &in) != nil {
		return okParam("Invalid parameter recipient")
	}
	a := c.a
	r := &in.Recipient
	if chat != "" && r.Chat != "" && r.Chat != chat {
		return okParam("Invalid parameter recipient: another chat than the path's")
	}
	if r.Chat == "" {
		r.Chat = chat
	}
	if opts := a.opts.Load(); opts.realLimits && opts.limits.PerSecond > 0 {
		l := opts.limits.withDefaults(opts.limits.PerSecond, 0)
		a.mu.Lock()
		wait := a.overall.take(time.Now(), 1, l.PerSecond, l.Burst)
		a.mu.Unlock()
		if wait > 0 {
			return okFail(8, "")
		}
	}
	if in.Sender != "" {
		out["success"] = true
		return nil
	}
	if len(r.Users) > 0 {
		return c.bulk(r.Users, in.Message, out)
	}
	key := r.Chat
	if key == "" {
		key = r.User
	}
	if key == "" {
		return okParam("Invalid parameter recipient")
	}
	m, e := a.message(in.Message)
	if e != nil {
		return e
	}
	u, e := a.admit(key)
	if e != nil {
		return e
	}
	out["message_id"] = u.receive(c.start, m)
	return nil
}

// admit decides whether a customer may be written to.
func (a *OKAccount) admit(key string) (*OKCustomer, *okError) {
	u := a.byKey(key)
	if u == nil && a.sim.cfg.AutoCustomers && !strings.HasPrefix(key, "chat:") {
		if _, err := a.addCustomer(CustomerSpec{ID: key, Started: true}); err == nil {
			u = a.byKey(key)
		}
	}
	if u == nil {
		return nil, okParam("Invalid parameter recipient")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.blocked:
		return nil, okFail(7, "")
	case !u.allowed:
		return nil, okFail(10, "")
	}
	return u, nil
}

// bulk sends one message to many; OK tells no reasons and no ids.
func (c *okCall) bulk(users []string, raw json.RawMessage, out map[string]any) *okError {
	m, e := c.a.message(raw)
	if e != nil {
		return e
	}
	success, chats := []bool{}, []any{}
	for _, id := range users {
		u, e := c.a.admit("user:" + strings.TrimPrefix(id, "user:"))
		success = append(success, e == nil)
		if e != nil {
			chats = append(chats, nil)
			continue
		}
		copied := *m
		u.receive(c.start, &copied)
		chats = append(chats, u.chat)
	}
	out["success"], out["chat_ids"] = success, chats
	return nil
}

// answer takes a press's answer: its message replaces the one with the buttons.
func (c *okCall) answer(chat string, out map[string]any) *okError {
	u := c.a.byKey(chat)
	if u == nil {
		return okParam("Invalid parameter chat_id")
	}
	var in struct {
		Message json.RawMessage `json:"message"`
	}
	if json.Unmarshal(c.body, &in) != nil {
		return okParam("Invalid parameter message")
	}
	m, e := c.a.message(in.Message)
	if e != nil {
		return e
	}
	u.mu.Lock()
	s := u.presses[c.q.Get("callbackId")]
	if s == nil {
		u.mu.Unlock()
		return okParam("Invalid parameter callbackId")
	}
	s.earlier = append(s.earlier, s.m.text)
	s.m, s.edited = m, time.Now()
	u.mu.Unlock()
	u.changed.broadcast()
	out["success"] = true
	return nil
}

func (c *okCall) action(chat string, out map[string]any) *okError {
	var in struct {
		Action string `json:"action"`
	}
	if c.a.byKey(chat) == nil {
		return okParam("Invalid parameter chat_id")
	}
	if json.Unmarshal(c.body, &in) != nil || !slices.Contains([]string{"TYPING_ON", "SENDING_PHOTO", "SENDING_VIDEO", "SENDING_AUDIO", "MARK_SEEN"}, in.Action) {
		return okParam("Invalid parameter action")
	}
	out["success"] = true
	return nil
}

// chats lists the chats, newest activity first, in pages.
func (c *okCall) chats(out map[string]any) *okError {
	count, marker := 50, int64(1<<62)
	for name, read := range map[string]func(string) error{
		"count":  func(s string) (err error) { count, err = strconv.Atoi(s); return err },
		"marker": func(s string) (err error) { marker, err = strconv.ParseInt(s, 10, 64); return err },
	} {
		if v := c.q.Get(name); v != "" && read(v) != nil {
			return okParam("Invalid parameter %s", name)
		}
	}
	if count < 1 || count > 100 {
		return okParam("Invalid parameter count")
	}
	type entry struct {
		last int64
		obj  map[string]any
	}
	var all []entry
	for _, u := range c.a.everybody() {
		if last := u.lastSeq(); last > 0 && last < marker {
			all = append(all, entry{last, u.chatObject()})
		}
	}
	slices.SortFunc(all, func(a, b entry) int {
		if a.last > b.last {
			return -1
		}
		return 1
	})
	list := []any{}
	for i, e := range all {
		if i == count {
			out["marker"] = all[i-1].last
			break
		}
		list = append(list, e.obj)
	}
	out["chats"] = list
	return nil
}

// history is a chat's past, newest first; from is the later end.
func (c *okCall) history(chat string, out map[string]any) *okError {
	u := c.a.byKey(chat)
	if u == nil {
		return okParam("Invalid parameter chat_id")
	}
	from, to, count := int64(1<<62), int64(0), int64(50)
	for name, p := range map[string]*int64{"from": &from, "to": &to, "count": &count} {
		if v := c.q.Get(name); v != "" {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return okParam("Invalid parameter %s", name)
			}
			*p = n
		}
	}
	if from <= to || count < 1 || count > 100 {
		return okParam("Invalid parameter from, to or count")
	}
	out["messages"] = u.past(from, to, int(count))
	return nil
}

// receive gives an accepted message to the customer and returns its id.
func (u *OKCustomer) receive(arrived time.Time, m *okMessage) string {
	a := u.acct
	now := time.Now()
	seq := a.plat.nextSeq(now)
	s := &okStored{fromBot: true, mid: u.mid(seq), order: seq, m: m, at: now}
	a.rec.countSend(arrived, u.hash)
	u.mu.Lock()
	u.keep(s)
	if m.keyboard != nil {
		u.lastKeys = s
	}
	u.mu.Unlock()
	for _, link := range m.links {
		a.sim.spawn(func(ctx context.Context) {
			f := a.sim.fetch(ctx, link)
			u.mu.Lock()
			s.m.files = append(slices.Clone(s.m.files), f)
			u.mu.Unlock()
			u.changed.broadcast()
		})
	}
	u.received(m.text, len(m.buttons))
	return s.mid
}
