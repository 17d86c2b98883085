package simulator

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"image"
	"io"
	"net/http"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	maxTelegramText    = 4096 // UTF-16 units after entity parsing
	maxTelegramCaption = 1024
	maxTelegramVCard   = 2048 // bytes
)

// tgStored is a message as the chat keeps it.
type tgStored struct {
	seq      int64
	msg      tgMessage
	fromBot  bool
	file     *tgFile
	url      string // the file was sent by this URL
	keyboard json.RawMessage
	earlier  []string
	at       time.Time
	edited   time.Time
	deleted  time.Time
}

// find returns a live message; t.mu is held.
func (t *TelegramCustomer) find(id int64) *tgStored {
	i := sort.Search(len(t.history), func(i int) bool { return t.history[i].msg.MessageID >= id })
	if i < len(t.history) && t.history[i].msg.MessageID == id && t.history[i].deleted.IsZero() {
		return t.history[i]
	}
	return nil
}

// store numbers and keeps a message; t.mu is held.
func (t *TelegramCustomer) store(m *tgStored) {
	t.nextID++
	t.seq++
	m.seq = t.seq
	m.msg.MessageID = t.nextID
	m.at = time.Now()
	if m.msg.Date == 0 {
		m.msg.Date = m.at.Unix()
	}
	m.msg.Chat = t.chat()
	if m.fromBot {
		m.msg.From = &t.acct.user
	} else {
		m.msg.From = t.user()
	}
	if len(t.history) >= t.acct.sim.cfg.KeepMessages {
		t.history[0] = nil
		t.history = t.history[1:]
	}
	t.history = append(t.history, m)
}

// outgoing is a message of the bot that is ready but for its chat.
type outgoing struct {
	msg    tgMessage
	file   *tgFile
	url    string
	markup json.RawMessage
}

// recipient checks the chat and what is replied to.
func (c *tgCall) recipient(out ...*outgoing) (*TelegramCustomer, *tgError) {
	t, e := c.chat("chat_id")
	if e != nil {
		return nil, e
	}
	if e := t.reachable(); e != nil {
		return nil, e
	}
	return t, c.reply(t, out...)
}

// reply applies reply_parameters.
func (c *tgCall) reply(t *TelegramCustomer, out ...*outgoing) *tgError {
	var p struct {
		MessageID int64           `json:"message_id"`
		ChatID    json.RawMessage `json:"chat_id"`
		Allow     bool            `json:"allow_sending_without_reply"`
		Quote     string          `json:"quote"`
		QuoteMode string          `json:"quote_parse_mode"`
		Position  int             `json:"quote_position"`
	}
	raw := c.p["reply_parameters"]
	if raw == "" || raw == "null" {
		return nil
	}
	if err := json.Unmarshal([]byte(raw), &p); err != nil {
		return badRequest("can't parse reply parameters: %s", err.Error())
	}
	from := t
	if len(p.ChatID) > 0 {
		id, _ := strconv.ParseInt(strings.Trim(string(p.ChatID), `"`), 10, 64)
		if from = c.a.byChat(id); from == nil {
			return badRequest("chat not found")
		}
	}
	quote, _, e := formatText(p.Quote, p.QuoteMode, "")
	if e != nil {
		return e
	}
	if utf16Len(quote) > maxTelegramCaption {
		return badRequest("message quote is too long")
	}
	from.mu.Lock()
	defer from.mu.Unlock()
	m := from.find(p.MessageID)
	if m == nil {
		if p.Allow {
			return nil
		}
		return badRequest("message to be replied not found")
	}
	var q *tgQuote
	if quote != "" {
		text := m.msg.Text + m.msg.Caption
		at := strings.Index(text, quote)
		if at < 0 {
			return badRequest("QUOTE_TEXT_INVALID")
		}
		q = &tgQuote{Text: quote, Position: utf16Len(text[:at]), IsManual: true}
	}
	ref := m.reference()
	for _, o := range out {
		o.msg.ReplyTo, o.msg.Quote = ref, q
	}
	return nil
}

// reference renders m for reply_to_message: without a further reply.
func (m *tgStored) reference() json.RawMessage {
	x := m.msg
	x.ReplyTo, x.Quote, x.ExternalReply = nil, nil, nil
	return x.encode()
}

// deliver gives the messages to the customer and returns them encoded.
func (c *tgCall) deliver(t *TelegramCustomer, out ...*outgoing) ([]json.RawMessage, *tgError) {
	if e := c.limit(t, len(out)); e != nil {
		return nil, e
	}
	protected := c.bool("protect_content")
	results := make([]json.RawMessage, len(out))
	t.mu.Lock()
	for i, o := range out {
		m := &tgStored{msg: o.msg, fromBot: true, file: o.file, url: o.url, keyboard: o.markup}
		m.msg.Protected = protected
		if bytes.Contains(o.markup, []byte(`"inline_keyboard"`)) {
			m.msg.ReplyMarkup = o.markup
		} else if o.markup != nil {
			t.setKeyboard(o.markup)
		}
		t.store(m)
		results[i] = m.msg.encode()
	}
	t.action = ""
	t.mu.Unlock()
	for _, o := range out {
		c.a.rec.countSend(c.start, t.hash)
		t.received(o.msg.Text+o.msg.Caption, len(keyboardButtons(o.markup)))
	}
	return results, nil
}

// setKeyboard shows or removes the reply keyboard; t.mu is held.
func (t *TelegramCustomer) setKeyboard(raw json.RawMessage) {
	var m struct {
		Reply   json.RawMessage `json:"keyboard"`
		Remove  bool            `json:"remove_keyboard"`
		OneTime bool            `json:"one_time_keyboard"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return
	}
	switch {
	case m.Remove:
		t.keyboard = nil
	case m.Reply != nil:
		t.keyboard, t.oneTime = raw, m.OneTime
	}
}

// one delivers a single message after the checks that all sends share.
func (c *tgCall) one(o *outgoing) (any, *tgError) {
	var e *tgError
	if o.markup, e = c.markup(false); e != nil {
		return nil, e
	}
	t, e := c.recipient(o)
	if e != nil {
		return nil, e
	}
	res, e := c.deliver(t, o)
	if e != nil {
		return nil, e
	}
	return res[0], nil
}

func (c *tgCall) text(param string) (string, []tgEntity, *tgError) {
	text, ents, e := c.formatted(c.p[param], "parse_mode", "entities")
	switch {
	case e != nil:
		return "", nil, e
	case strings.TrimSpace(text) == "":
		return "", nil, badRequest("message text is empty")
	case utf16Len(text) > maxTelegramText:
		return "", nil, badRequest("message is too long")
	}
	return text, ents, nil
}

func (c *tgCall) caption() (string, []tgEntity, *tgError) {
	text, ents, e := c.formatted(c.p["caption"], "parse_mode", "caption_entities")
	if e == nil && utf16Len(text) > maxTelegramCaption {
		e = badRequest("message caption is too long")
	}
	return text, ents, e
}

func (c *tgCall) sendMessage() (any, *tgError) {
	o := &outgoing{}
	var e *tgError
	if o.msg.Text, o.msg.Entities, e = c.text("text"); e != nil {
		return nil, e
	}
	return c.one(o)
}

func sendFile(kind string) func(*tgCall) (any, *tgError) {
	return func(c *tgCall) (any, *tgError) {
		o := &outgoing{}
		var e *tgError
		if kind != "sticker" && kind != "video_note" { // these two have no caption
			if o.msg.Caption, o.msg.CaptionEntities, e = c.caption(); e != nil {
				return nil, e
			}
		}
		if o.markup, e = c.markup(false); e != nil {
			return nil, e
		}
		if e = c.thumbnail(); e != nil {
			return nil, e
		}
		t, e := c.recipient(o)
		if e != nil {
			return nil, e
		}
		if o.file, o.url, e = c.file(kind, kind, c.p[kind]); e != nil {
			return nil, e
		}
		for field, dst := range map[string]*int{"width": &o.file.w, "height": &o.file.h, "duration": &o.file.duration, "length": &o.file.w} {
			if v, e := c.int(field, 0); e != nil {
				return nil, e
			} else if v > 0 && *dst == 0 {
				*dst = int(v)
			}
		}
		if kind == "video_note" && o.file.duration > 60 {
			return nil, badRequest("VIDEO_NOTE_DURATION_INVALID")
		}
		o.file.attach(&o.msg)
		if o.msg.Audio != nil {
			o.msg.Audio.Title, o.msg.Audio.Performer = c.p["title"], c.p["performer"]
		}
		res, e := c.deliver(t, o)
		if e != nil {
			return nil, e
		}
		return res[0], nil
	}
}

// thumbnail validates the optional thumbnail: multipart only, JPEG, at most 200 kB and 320 px a side.
func (c *tgCall) thumbnail() *tgError {
	v, up := c.p["thumbnail"], c.files["thumbnail"]
	if name, ok := strings.CutPrefix(v, "attach://"); ok {
		up = c.files[name]
	}
	if v == "" && up == nil {
		return nil
	}
	if up == nil {
		return badRequest("thumbnail must be uploaded")
	}
	conf, format, err := image.DecodeConfig(up.b.open())
	if err != nil || format != "jpeg" || up.b.size > 200<<10 || conf.Width > 320 || conf.Height > 320 {
		return badRequest("thumbnail must be a JPEG of up to 200 kB and 320 px a side")
	}
	return nil
}

// file resolves a file parameter: uploaded under its own name, attach://name,
// an http(s) URL, or a file_id. kind is what it will be sent as.
func (c *tgCall) file(field, kind, value string) (f *tgFile, link string, e *tgError) {
	up := c.files[field]
	if name, ok := strings.CutPrefix(value, "attach://"); ok {
		if up = c.files[name]; up == nil {
			return nil, "", badRequest("there is no file %q in the request", name)
		}
	}
	switch {
	case up != nil:
		if up.b.size == 0 {
			return nil, "", badRequest("file must be non-empty")
		}
		if kind == "photo" && up.b.size > maxTelegramPhoto {
			return nil, "", badRequest("file of size %d bytes is too big for a photo; the maximum size is %d bytes", up.b.size, maxTelegramPhoto)
		}
		f, e = c.a.accept(kind, up.name, up.mime, up.b, c.bool("disable_content_type_detection"))
		return f, "", e
	case value == "":
		return nil, "", badRequest("there is no %s in the request", kind)
	case strings.Contains(value, "://"):
		if !fetchableURL(value) {
			return nil, "", badRequest("wrong HTTP URL specified: unsupported URL protocol")
		}
		f, e = c.byURL(kind, value)
		return f, value, e
	}
	c.a.fmu.Lock()
	old := c.a.files[value]
	c.a.fmu.Unlock()
	if old == nil {
		return nil, "", badRequest("wrong file identifier/HTTP URL specified")
	}
	if old.kind != kind {
		return nil, "", badRequest("invalid file_id: can't use file of type %s as %s", old.kind, kind)
	}
	same := *old
	return &same, "", nil
}

// byURL downloads a file as the platform would, with its smaller limits.
func (c *tgCall) byURL(kind, link string) (*tgFile, *tgError) {
	if kind == "video_note" || !c.fetch {
		return nil, badRequest("wrong file identifier/HTTP URL specified")
	}
	limit := int64(20 << 20)
	switch kind {
	case "photo":
		limit = 5 << 20
	case "voice":
		limit = 1 << 20
	}
	req, err := http.NewRequestWithContext(c.r.Context(), http.MethodGet, link, nil)
	if err != nil {
		return nil, badRequest("wrong HTTP URL specified: %s", err.Error())
	}
	follow := http.Client{Transport: c.a.sim.client.Transport, Timeout: 20 * time.Second}
	resp, err := follow.Do(req)
	if err != nil {
		return nil, badRequest("failed to get HTTP URL content")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, badRequest("failed to get HTTP URL content")
	}
	b, over, err := c.a.sim.capture(resp.Body, limit)
	if err != nil || over || b.size == 0 {
		return nil, badRequest("failed to get HTTP URL content")
	}
	right := true
	switch kind {
	case "photo":
		right = strings.HasPrefix(b.mime, "image/")
	case "voice":
		right = b.mime == "audio/ogg"
	case "document":
		right = slices.Contains([]string{"image/gif", "application/pdf", "application/zip"}, b.mime)
	case "sticker":
		right = b.mime == "image/webp"
	case "video", "animation":
		right = b.mime == "video/mp4" || b.mime == "image/gif"
	}
	if !right || strings.HasPrefix(b.mime, "text/html") {
		return nil, badRequest("wrong type of the web page content")
	}
	return c.a.accept(kind, path.Base(req.URL.Path), resp.Header.Get("Content-Type"), b, false)
}

// accept makes a file of bytes sent as kind, or as what they really are.
func (a *TelegramAccount) accept(kind, name, mimeType string, b *blob, keepType bool) (*tgFile, *tgError) {
	w, h := 0, 0
	sniffed := b.mime
	switch kind {
	case "photo":
		if sniffed != "image/webp" {
			conf, _, err := image.DecodeConfig(b.open())
			if err != nil {
				return nil, badRequest("IMAGE_PROCESS_FAILED")
			}
			w, h = conf.Width, conf.Height
			if w+h > 10_000 || w > 20*h || h > 20*w {
				return nil, badRequest("PHOTO_INVALID_DIMENSIONS")
			}
		}
	case "video":
		if sniffed != "video/mp4" {
			kind = "document"
		}
	case "animation":
		if sniffed != "video/mp4" && sniffed != "image/gif" {
			kind = "document"
		}
	case "voice":
		switch sniffed {
		case "audio/ogg", "audio/mpeg", "audio/mp4":
		default:
			kind = "document"
		}
	case "audio":
		if sniffed != "audio/mpeg" && sniffed != "audio/mp4" && sniffed != "audio/ogg" {
			kind = "document"
		}
	case "video_note":
		if sniffed != "video/mp4" {
			kind = "document"
		}
	case "sticker":
		if sniffed != "image/webp" && sniffed != "application/gzip" && sniffed != "video/webm" {
			return nil, badRequest("wrong file type: a sticker is WEBP, TGS or WEBM")
		}
	case "document":
		if sniffed == "image/gif" && !keepType {
			kind = "animation"
		}
	}
	mimeType, _, _ = strings.Cut(mimeType, ";")
	if mimeType == "" || mimeType == "application/octet-stream" {
		mimeType = sniffed
	}
	f := &tgFile{kind: kind, name: path.Base("/" + name), mime: mimeType, w: w, h: h, b: b}
	if f.name == "/" {
		f.name = "file"
	}
	a.addFile(f)
	return f, nil
}

var fileIDPrefix = map[string]string{
	"photo": "AgACAgI", "video": "BAACAgI", "audio": "CQACAgI", "voice": "AwACAgI", "document": "BQACAgI",
	"animation": "CgACAgI", "sticker": "CAACAgI", "video_note": "DQACAgI",
}

const keptFiles = 20_000

// addFile gives f its ids: file_id belongs to this bot, file_unique_id to the content.
func (a *TelegramAccount) addFile(f *tgFile) {
	h := fnv.New64a()
	h.Write(f.b.head[:min(len(f.b.head), 1<<16)]) //nolint:errcheck // never fails
	var tail [16]byte
	binary.LittleEndian.PutUint64(tail[:], uint64(f.b.size))
	binary.LittleEndian.PutUint64(tail[8:], f.b.seed)
	h.Write(tail[:]) //nolint:errcheck // never fails
	f.unique = "AQAD" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))

	a.fmu.Lock()
	defer a.fmu.Unlock()
	a.nextFile++
	var raw [24]byte
	binary.LittleEndian.PutUint64(raw[:], uint64(a.botID))
	binary.LittleEndian.PutUint64(raw[8:], a.nextFile)
	binary.LittleEndian.PutUint64(raw[16:], filler(a.sim.cfg.Seed, a.nextFile))
	f.id = fileIDPrefix[f.kind] + base64.RawURLEncoding.EncodeToString(raw[:])
	a.files[f.id] = f
	a.fileIDs = append(a.fileIDs, f.id)
	if len(a.fileIDs) > keptFiles {
		if old := a.files[a.fileIDs[0]]; old != nil {
			delete(a.byPath, old.path)
			if !old.b.lost && old.b.sum != "" {
				a.sim.reserved.Add(-old.b.size)
			}
		}
		delete(a.files, a.fileIDs[0])
		a.fileIDs = a.fileIDs[1:]
	}
}

// attach puts the file into a message under the field of its kind.
func (f *tgFile) attach(m *tgMessage) {
	size := f.b.size
	if f.claimed > 0 {
		size = f.claimed
	}
	if f.kind == "photo" {
		w, h := f.w, f.h
		if w == 0 {
			w, h = 640, 480
		}
		m.Photo = []tgSize{{f.id, f.unique, w, h, size}}
		return
	}
	x := &tgMedia{FileID: f.id, UniqueID: f.unique, Width: f.w, Height: f.h, FileName: f.name, MIME: f.mime, FileSize: size}
	d := f.duration
	switch f.kind {
	case "video":
		x.Duration, m.Video = &d, x
	case "animation":
		x.Duration, m.Animation = &d, x
		doc := *x
		doc.Width, doc.Height, doc.Duration = 0, 0, nil
		m.Document = &doc
	case "audio":
		x.Duration, m.Audio = &d, x
	case "voice":
		x.Duration, m.Voice, x.FileName = &d, x, ""
	case "video_note":
		x.Duration, m.VideoNote = &d, x
		x.Length, x.Width, x.Height, x.FileName, x.MIME = max(f.w, 1), 0, 0, "", ""
	case "sticker":
		animated, video := f.b.mime == "application/gzip" || f.b.format == "tgs", f.b.mime == "video/webm"
		x.Type, x.IsAnimated, x.IsVideo, m.Sticker = "regular", &animated, &video, x
		x.FileName, x.MIME = "", ""
		if x.Width == 0 {
			x.Width, x.Height = 512, 512
		}
	default:
		x.Width, x.Height, m.Document = 0, 0, x
	}
}

func (c *tgCall) sendLocation() (any, *tgError) {
	loc, e := c.location()
	if e != nil {
		return nil, e
	}
	return c.one(&outgoing{msg: tgMessage{Location: loc}})
}

func (c *tgCall) location() (*tgLocation, *tgError) {
	lat, e := c.float("latitude")
	if e != nil {
		return nil, e
	}
	lon, e := c.float("longitude")
	if e != nil {
		return nil, e
	}
	if lat < -90 || lat > 90 || lon < -180 || lon > 180 {
		return nil, badRequest("wrong location coordinates")
	}
	return &tgLocation{Latitude: lat, Longitude: lon}, nil
}

func (c *tgCall) sendVenue() (any, *tgError) {
	loc, e := c.location()
	if e != nil {
		return nil, e
	}
	if c.p["title"] == "" || c.p["address"] == "" {
		return nil, badRequest("venue title and address must be non-empty")
	}
	return c.one(&outgoing{msg: tgMessage{Location: loc, Venue: &tgVenue{*loc, c.p["title"], c.p["address"]}}})
}

func (c *tgCall) sendContact() (any, *tgError) {
	if c.p["phone_number"] == "" || c.p["first_name"] == "" {
		return nil, badRequest("contact phone number and first name must be non-empty")
	}
	if len(c.p["vcard"]) > maxTelegramVCard {
		return nil, badRequest("vcard is too long")
	}
	return c.one(&outgoing{msg: tgMessage{Contact: &tgContact{
		Phone: c.p["phone_number"], FirstName: c.p["first_name"], LastName: c.p["last_name"], VCard: c.p["vcard"],
	}}})
}

// inputMedia is an element of media in sendMediaGroup and editMessageMedia.
type inputMedia struct {
	Type     string          `json:"type"`
	Media    string          `json:"media"`
	Caption  string          `json:"caption"`
	Mode     string          `json:"parse_mode"`
	Entities json.RawMessage `json:"caption_entities"`
	Width    int             `json:"width"`
	Height   int             `json:"height"`
	Duration int             `json:"duration"`
}

func (c *tgCall) input(m inputMedia) (*outgoing, *tgError) {
	o := &outgoing{}
	var e *tgError
	if o.msg.Caption, o.msg.CaptionEntities, e = formatText(m.Caption, m.Mode, string(m.Entities)); e != nil {
		return nil, e
	}
	if utf16Len(o.msg.Caption) > maxTelegramCaption {
		return nil, badRequest("message caption is too long")
	}
	if o.file, o.url, e = c.file("", m.Type, m.Media); e != nil {
		return nil, e
	}
	if o.file.w == 0 {
		o.file.w, o.file.h = m.Width, m.Height
	}
	if o.file.duration == 0 {
		o.file.duration = m.Duration
	}
	o.file.attach(&o.msg)
	return o, nil
}

func (c *tgCall) sendMediaGroup() (any, *tgError) {
	var media []inputMedia
	if err := json.Unmarshal([]byte(c.p["media"]), &media); err != nil {
		return nil, badRequest("can't parse media JSON object: %s", err.Error())
	}
	if len(media) < 2 || len(media) > 10 {
		return nil, badRequest("wrong number of items in the album: %d, must be 2-10", len(media))
	}
	families := map[string]string{"photo": "visual", "video": "visual", "live_photo": "visual", "document": "document", "audio": "audio"}
	for _, m := range media {
		family, ok := families[m.Type]
		if !ok {
			return nil, badRequest("media of type %q can't be in an album", m.Type)
		}
		if family != families[media[0].Type] {
			return nil, badRequest("%s can't be mixed with other media types in an album", media[0].Type)
		}
	}
	if c.p["reply_markup"] != "" {
		return nil, badRequest("reply_markup can't be used with an album")
	}
	t, e := c.recipient()
	if e != nil {
		return nil, e
	}
	group := "1" + strconv.FormatInt(int64(c.a.sim.rnd.float()*1e15), 10)
	var out []*outgoing
	for _, m := range media {
		o, e := c.input(m)
		if e != nil {
			return nil, e
		}
		o.msg.MediaGroupID = group
		out = append(out, o)
	}
	if e := c.reply(t, out...); e != nil {
		return nil, e
	}
	res, e := c.deliver(t, out...)
	if e != nil {
		return nil, e
	}
	return res, nil
}

// source finds the message that copyMessage and forwardMessage speak of.
func (c *tgCall) source(verb string) (*tgStored, *tgError) {
	from, e := c.chat("from_chat_id")
	if e != nil {
		return nil, e
	}
	id, e := c.int("message_id", 0)
	if e != nil {
		return nil, e
	}
	from.mu.Lock()
	defer from.mu.Unlock()
	m := from.find(id)
	if m == nil {
		return nil, badRequest("message to %s not found", verb)
	}
	if m.msg.Protected {
		return nil, badRequest("message can't be %s", map[string]string{"copy": "copied", "forward": "forwarded"}[verb])
	}
	x := *m
	return &x, nil
}

func (c *tgCall) copyMessage() (any, *tgError) {
	src, e := c.source("copy")
	if e != nil {
		return nil, e
	}
	o := &outgoing{msg: src.msg, file: src.file}
	o.msg.ForwardOrigin, o.msg.ReplyTo, o.msg.Quote, o.msg.ReplyMarkup, o.msg.MediaGroupID = nil, nil, nil, nil, ""
	o.msg.EditDate, o.msg.Date, o.msg.extra = 0, 0, src.msg.extra
	if _, ok := c.p["caption"]; ok {
		if o.msg.Caption, o.msg.CaptionEntities, e = c.caption(); e != nil {
			return nil, e
		}
	}
	res, e := c.one(o)
	if e != nil {
		return nil, e
	}
	var id struct {
		MessageID int64 `json:"message_id"`
	}
	json.Unmarshal(res.(json.RawMessage), &id) //nolint:errcheck // our own encoding
	return id, nil
}

func (c *tgCall) forwardMessage() (any, *tgError) {
	src, e := c.source("forward")
	if e != nil {
		return nil, e
	}
	o := &outgoing{msg: src.msg, file: src.file}
	if o.msg.ForwardOrigin == nil {
		origin, err := json.Marshal(map[string]any{"type": "user", "sender_user": src.msg.From, "date": src.msg.Date})
		if err != nil {
			return nil, errTg(500, "Internal Server Error")
		}
		o.msg.ForwardOrigin = origin
	}
	o.msg.ReplyTo, o.msg.Quote, o.msg.ReplyMarkup, o.msg.MediaGroupID, o.msg.EditDate, o.msg.Date = nil, nil, nil, "", 0, 0
	return c.one(o)
}

var chatActions = []string{
	"typing", "upload_photo", "record_video", "upload_video", "record_voice", "upload_voice", "upload_document",
	"choose_sticker", "find_location", "record_video_note", "upload_video_note",
}

func (c *tgCall) sendChatAction() (any, *tgError) {
	if !slices.Contains(chatActions, c.p["action"]) {
		return nil, badRequest("wrong parameter action in request")
	}
	t, e := c.recipient()
	if e != nil {
		return nil, e
	}
	t.mu.Lock()
	t.action, t.actionAt = c.p["action"], time.Now()
	t.mu.Unlock()
	t.changed.broadcast()
	return true, nil
}

// getFile gives out a download path; the link holds for an hour.
func (c *tgCall) getFile() (any, *tgError) {
	c.a.fmu.Lock()
	defer c.a.fmu.Unlock()
	f := c.a.files[c.p["file_id"]]
	if f == nil {
		return nil, badRequest("invalid file_id")
	}
	size := f.b.size
	if f.claimed > 0 {
		size = f.claimed
	}
	if f.b.size > 20<<20 {
		return nil, badRequest("file is too big")
	}
	if f.b.lost {
		return nil, badRequest("wrong file_id or the file is temporarily unavailable")
	}
	if f.path == "" {
		ext := f.b.ext
		if ext == "" {
			if ext = strings.TrimPrefix(path.Ext(f.name), "."); ext == "" {
				ext = "bin"
			}
		}
		dir := map[string]string{"photo": "photos", "video": "videos", "voice": "voice", "audio": "music", "sticker": "stickers", "video_note": "video_notes", "animation": "animations"}[f.kind]
		if dir == "" {
			dir = "documents"
		}
		c.a.nextPath++
		f.path = dir + "/file_" + strconv.FormatUint(c.a.nextPath, 10) + "." + ext
		c.a.byPath[f.path] = f
	}
	f.linkUntil = time.Now().Add(time.Hour)
	return struct {
		ID     string `json:"file_id"`
		Unique string `json:"file_unique_id"`
		Size   int64  `json:"file_size,omitempty"`
		Path   string `json:"file_path"`
	}{f.id, f.unique, size, f.path}, nil
}

func (a *TelegramAccount) download(w http.ResponseWriter, r *http.Request, filePath string) {
	c := a.sim.begin(w, r, &a.accountCore, "file", "/telegram/file/bot"+a.ref+":<token>/"+filePath)
	if c.inject(a.sim, "file") {
		return
	}
	if c.fault != nil {
		if e := (&tgCall{call: c, a: a}).faultError(); e != nil {
			a.sim.respond(c, e.Code, e.Code, e.Description, e.encode())
			return
		}
	}
	a.fmu.Lock()
	f := a.byPath[filePath]
	ok := f != nil && time.Now().Before(f.linkUntil)
	a.fmu.Unlock()
	if !ok {
		e := errTg(404, "Not Found")
		a.sim.respond(c, 404, 404, e.Description, e.encode())
		return
	}
	if c.fault != nil && c.fault.Kind == FaultCutAfter {
		// Half of the file, then nothing.
		w.Header().Set("Content-Length", strconv.FormatInt(f.b.size, 10))
		io.CopyN(w, f.b.open(), f.b.size/2) //nolint:errcheck // the client may have gone
		c.abort()
	}
	c.finish(200, 0, "")
	// The platform tells nothing but bytes.
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f.b.open())
}

// info describes a file to the control API.
func (f *tgFile) info(link string) FileInfo {
	return FileInfo{Name: f.name, MIME: f.mime, Size: f.b.size, SHA256: f.b.sha256(), FileID: f.id, URL: link}
}
