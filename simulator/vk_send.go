package simulator

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	vkText     = 4096 // characters
	vkFiles    = 10
	vkForwards = 100
	vkPeers    = 100
	vkOld      = 24 * time.Hour // what can be edited and deleted for everybody
)

// vkMessage is a message of a dialogue, in either direction.
type vkMessage struct {
	seq       int64
	id        int64
	cmid      int64
	fromBot   bool
	admin     int64 // an administrator wrote it in VK's own interface
	randomID  int64
	kind      string
	text      string
	payload   string
	at        time.Time
	edited    *time.Time
	deleted   *time.Time
	attached  []map[string]any
	files     []FileInfo
	keyboard  json.RawMessage
	buttons   []Button
	geo       *Point
	reply     int64 // cmid
	forwarded []map[string]any
	earlier   []string
	extra     map[string]any // further members of the object
	read      bool
}

// object renders the message as VK does.
func (m *vkMessage) object(u *VKCustomer) map[string]any {
	from, out := u.number, 0
	if m.fromBot {
		from, out = -u.acct.group, 1
	}
	id := m.id
	o := map[string]any{
		"id": id, "date": m.at.Unix(), "peer_id": u.number, "from_id": from, "out": out, "version": 10_000_000 + m.id, "conversation_message_id": m.cmid,
		"text": m.text, "attachments": []any{}, "fwd_messages": []any{}, "random_id": m.randomID, "important": false, "is_hidden": false,
	}
	if len(m.attached) > 0 {
		o["attachments"] = m.attached
	}
	if len(m.forwarded) > 0 {
		o["fwd_messages"] = m.forwarded
	}
	if m.payload != "" {
		o["payload"] = m.payload
	}
	if m.geo != nil {
		o["geo"] = map[string]any{"type": "point", "coordinates": map[string]float64{"latitude": m.geo.Lat, "longitude": m.geo.Lon}}
		if m.geo.Title != "" {
			o["geo"].(map[string]any)["place"] = map[string]string{"title": m.geo.Title, "city": m.geo.Title, "country": "Россия"}
		}
	}
	if m.edited != nil {
		o["update_time"] = m.edited.Unix()
	}
	if m.admin != 0 {
		o["admin_author_id"] = m.admin
	}
	if r := u.message(m.reply); r != nil {
		o["reply_message"] = r.short(u)
	}
	for k, v := range m.extra {
		o[k] = v
	}
	return o
}

// short is a message inside of another.
func (m *vkMessage) short(u *VKCustomer) map[string]any {
	from := u.number
	if m.fromBot {
		from = -u.acct.group
	}
	o := map[string]any{"id": m.id, "conversation_message_id": m.cmid, "from_id": from, "peer_id": u.number, "date": m.at.Unix(), "text": m.text, "attachments": []any{}, "fwd_messages": []any{}}
	if len(m.attached) > 0 {
		o["attachments"] = m.attached
	}
	return o
}

// parsed is what a messages.send or messages.edit says.
type vkParsed struct {
	text     string
	attached []map[string]any
	files    []FileInfo
	kind     string
	keyboard json.RawMessage
	buttons  []Button
	geo      *Point
	reply    int64
	forward  *vkForward
	sticker  int64
}

type vkForward struct {
	Peer    int64   `json:"peer_id"`
	CMIDs   []int64 `json:"conversation_message_ids"`
	IsReply bool    `json:"is_reply"`
}

// parse reads the content parameters.
func (c *vkCall) parse() (*vkParsed, *vkError) {
	m := &vkParsed{text: c.p.Get("message"), kind: "text"}
	if !utf8.ValidString(m.text) {
		return nil, vkBad("message is not UTF-8")
	}
	if utf8.RuneCountInString(m.text) > vkText {
		return nil, vkErr(914, "")
	}
	if e := c.parseAttachments(m); e != nil {
		return nil, e
	}
	if s := c.p.Get("sticker_id"); s != "" {
		id, err := strconv.ParseInt(s, 10, 64)
		if err != nil || id <= 0 {
			return nil, vkBad("sticker_id not integer")
		}
		m.sticker, m.kind = id, "sticker"
		m.attached = append(m.attached, map[string]any{"type": "sticker", "sticker": map[string]any{"sticker_id": id, "product_id": 1, "images": []any{}}})
	}
	lat, lon := c.p.Get("lat"), c.p.Get("long")
	if lat != "" || lon != "" {
		y, err1 := strconv.ParseFloat(lat, 64)
		x, err2 := strconv.ParseFloat(lon, 64)
		if err1 != nil || err2 != nil || math.Abs(y) > 90 || math.Abs(x) > 180 {
			return nil, vkBad("lat and long should be -90..90 and -180..180")
		}
		m.geo = &Point{Lat: y, Lon: x}
		m.kind = "location"
	}
	if k := c.p.Get("keyboard"); k != "" {
		var e *vkError
		if m.keyboard, m.buttons, e = parseVKKeyboard(k); e != nil {
			return nil, e
		}
	}
	if f := c.p.Get("forward"); f != "" {
		m.forward = &vkForward{}
		if json.Unmarshal([]byte(f), m.forward) != nil || m.forward.Peer == 0 || len(m.forward.CMIDs) == 0 {
			return nil, vkBad("forward is invalid")
		}
		if len(m.forward.CMIDs) > vkForwards {
			return nil, vkErr(913, "")
		}
	}
	if p := c.p.Get("payload"); p != "" && (!json.Valid([]byte(p)) || utf8.RuneCountInString(p) > 1000) {
		return nil, vkBad("payload should be JSON of at most 1000 characters")
	}
	if strings.TrimSpace(m.text) == "" && len(m.attached) == 0 && (m.forward == nil || m.forward.IsReply) {
		return nil, vkBad("message is empty or invalid")
	}
	return m, nil
}

func (c *vkCall) parseAttachments(m *vkParsed) *vkError {
	list := c.p.Get("attachment")
	if list == "" {
		return nil
	}
	names := strings.Split(list, ",")
	if len(names) > vkFiles || len(list) > 9000 {
		return vkBad("attachment: too many attachments")
	}
	for _, name := range names {
		base, key := name, ""
		if first := strings.IndexByte(name, '_'); strings.HasPrefix(name, "audio_message") {
			rest := strings.TrimPrefix(name, "audio_message")
			owner, tail, _ := strings.Cut(rest, "_")
			id, k, _ := strings.Cut(tail, "_")
			base, key = "audio_message"+owner+"_"+id, k
		} else if first >= 0 {
			id, k, _ := strings.Cut(name[first+1:], "_")
			base, key = name[:first+1]+id, k
		}
		c.a.mu.Lock()
		f := c.a.attached[base]
		c.a.mu.Unlock()
		if f == nil || key != "" && key != f.key {
			return vkBad("attachment %q is not one of the community's", base)
		}
		m.attached = append(m.attached, c.a.attachment(f))
		info := f.info
		info.FileID, info.Name = base, f.name
		m.files = append(m.files, info)
		m.kind = f.kind
		if (f.kind == "audio_message" || f.kind == "graffiti") && (len(names) > 1 || m.text != "") {
			return vkBad("attachment: %s goes alone", f.kind)
		}
	}
	return nil
}

// parseVKKeyboard checks a keyboard against the documents; each problem is error 911.
func parseVKKeyboard(text string) (json.RawMessage, []Button, *vkError) {
	var k struct {
		OneTime bool `json:"one_time"`
		Inline  bool `json:"inline"`
		Buttons *[][]struct {
			Action struct {
				Type    string  `json:"type"`
				Label   string  `json:"label"`
				Payload *string `json:"payload"`
				Link    string  `json:"link"`
			} `json:"action"`
			Color string `json:"color"`
		} `json:"buttons"`
	}
	bad := func(format string, args ...any) (json.RawMessage, []Button, *vkError) {
		return nil, nil, vkErr(911, format, args...)
	}
	if err := json.Unmarshal([]byte(text), &k); err != nil || k.Buttons == nil {
		return bad("not a keyboard")
	}
	rows, most := 10, 40
	if k.Inline {
		rows, most = 6, 10
		if k.OneTime {
			return bad("an inline keyboard can't be one_time")
		}
	}
	if len(*k.Buttons) > rows {
		return bad("%d rows, at most %d", len(*k.Buttons), rows)
	}
	list := []Button{}
	for _, row := range *k.Buttons {
		cells := 0
		if len(row) == 0 {
			return bad("an empty row")
		}
		for _, b := range row {
			cells++
			plain := b.Action.Type == "text" || b.Action.Type == "callback"
			if !plain {
				cells++
			}
			n := utf8.RuneCountInString(b.Action.Label)
			x := Button{Text: b.Action.Label, Action: b.Action.Type, URL: b.Action.Link}
			switch b.Action.Type {
			case "text", "callback":
				if n == 0 || n > 40 {
					return bad("label of %d characters, 1 to 40", n)
				}
			case "open_link":
				if n == 0 || n > 40 || b.Action.Link == "" {
					return bad("open_link needs label and link")
				}
			case "location", "vkpay", "open_app":
				if n > 0 {
					return bad("%s has no label", b.Action.Type)
				}
			default:
				return bad("action type %q", b.Action.Type)
			}
			switch b.Color {
			case "":
			case "primary", "secondary", "negative", "positive":
				if !plain {
					return bad("color of %s", b.Action.Type)
				}
			default:
				return bad("color %q", b.Color)
			}
			if b.Action.Payload != nil {
				var o map[string]any
				if utf8.RuneCountInString(*b.Action.Payload) > 255 || json.Unmarshal([]byte(*b.Action.Payload), &o) != nil {
					return bad("payload should be a JSON object in a string, at most 255 characters")
				}
				x.Data = *b.Action.Payload
			}
			list = append(list, x)
		}
		if cells > 5 {
			return bad("%d cells in a row, at most 5", cells)
		}
	}
	if len(list) > most {
		return bad("%d buttons, at most %d", len(list), most)
	}
	if len(list) == 0 {
		list = nil
	}
	return json.RawMessage(text), list, nil
}

// send is messages.send.
func (c *vkCall) send() (any, *vkError) {
	random, err := strconv.ParseInt(c.p.Get("random_id"), 10, 64)
	if err != nil || random < math.MinInt32 || random > math.MaxInt32 {
		return nil, vkBad("random_id not integer")
	}
	list, single := c.p.Get("peer_ids"), false
	if list == "" {
		single = true
		if list = c.p.Get("peer_id"); list == "" {
			list = c.p.Get("user_id")
		}
	}
	ids := strings.Split(list, ",")
	if len(ids) > vkPeers {
		return nil, vkBad("peer_ids: at most 100")
	}
	m, e := c.parse()
	if e != nil {
		return nil, e
	}
	results := []any{}
	for _, s := range ids {
		peer, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, vkBad("peer_ids not integer")
		}
		sent, e := c.sendTo(peer, random, m)
		if single {
			if e != nil {
				return nil, e
			}
			return sent.id, nil
		}
		if e != nil {
			results = append(results, map[string]any{"peer_id": peer, "message_id": 0, "conversation_message_id": 0, "error": map[string]any{"code": e.code, "description": e.msg}})
			c.rec.Code = e.code
			continue
		}
		results = append(results, map[string]any{"peer_id": peer, "message_id": sent.id, "conversation_message_id": sent.cmid})
	}
	return results, nil
}

func (c *vkCall) sendTo(peer, random int64, in *vkParsed) (*vkMessage, *vkError) {
	a := c.a
	u := a.receiver(peer)
	switch {
	case u == nil && peer >= vkChats:
		return nil, vkErr(917, "")
	case u == nil:
		return nil, vkErr(901, "")
	}
	if e := u.refuses(); e != nil {
		return nil, e
	}
	m := &vkMessage{
		fromBot: true, randomID: random, kind: in.kind, text: in.text, attached: in.attached, files: in.files,
		keyboard: in.keyboard, buttons: in.buttons, geo: in.geo, payload: c.p.Get("payload"), at: time.Now(),
	}
	if f := in.forward; f != nil {
		from := a.user(f.Peer)
		if from == nil {
			return nil, vkErr(921, "")
		}
		for _, cmid := range f.CMIDs {
			src := from.find(cmid)
			if src == nil {
				return nil, vkErr(921, "")
			}
			if f.IsReply {
				if from != u || len(f.CMIDs) != 1 {
					return nil, vkBad("forward: a reply is to one message of the same chat")
				}
				m.reply = cmid
				continue
			}
			m.kind = "forward"
			from.mu.Lock()
			m.forwarded = append(m.forwarded, src.short(from))
			m.files = append(m.files, src.files...)
			from.mu.Unlock()
		}
	}
	u.mu.Lock()
	if old := u.repeated(random, m.at); old != nil {
		u.mu.Unlock()
		return old, nil
	}
	u.keep(m)
	if in.keyboard != nil {
		u.offer(m)
	}
	object := m.object(u)
	u.mu.Unlock()
	a.rec.countSend(c.start, u.hash)
	words := m.text
	if words == "" && len(m.forwarded) > 0 {
		words, _ = m.forwarded[0]["text"].(string)
	}
	a.emit("message_reply", u.number, object, nil)
	u.received(words, len(m.buttons))
	u.readLater(m)
	return m, nil
}

// repeated finds a message with the same random_id, within an hour and the last
// hundred messages; u.mu is held.
func (u *VKCustomer) repeated(random int64, now time.Time) *vkMessage {
	if random == 0 {
		return nil
	}
	for i := len(u.history) - 1; i >= max(0, len(u.history)-100); i-- {
		if m := u.history[i]; m.fromBot && m.randomID == random && now.Sub(m.at) < time.Hour {
			return m
		}
	}
	return nil
}

// readLater: whoever reads sees the whole chat up to the message.
func (u *VKCustomer) readLater(m *vkMessage) {
	set := u.acct.opts.Load()
	u.mu.Lock()
	reads := u.receipts == "seen" && !set.noReceipts
	u.mu.Unlock()
	if !reads {
		return
	}
	u.acct.sim.after(set.deliveredAfter+set.seenAfter, func() { u.read(m.cmid) })
}

// read marks everything up to cmid; 0 is the last message. It reports whether the
// community was told.
func (u *VKCustomer) read(cmid int64) bool {
	u.mu.Lock()
	if cmid == 0 {
		cmid = u.cmid
	}
	id, news := int64(0), false
	for _, m := range u.history {
		if m.fromBot && m.cmid <= cmid {
			news = news || !m.read
			m.read, id = true, m.id
		}
	}
	u.mu.Unlock()
	if !news {
		return false
	}
	_, ok := u.acct.emit("message_read", u.number, map[string]any{"from_id": u.number, "peer_id": u.number, "read_message_id": id, "conversation_message_id": cmid}, nil)
	return ok
}

// edit is messages.edit: what is not given again is gone.
func (c *vkCall) edit() (any, *vkError) {
	u, e := c.peer()
	if e != nil {
		return nil, e
	}
	cmid, err := strconv.ParseInt(c.p.Get("cmid"), 10, 64)
	if err != nil {
		return nil, vkBad("cmid not integer")
	}
	in, e := c.parse()
	if e != nil {
		return nil, e
	}
	m := u.find(cmid)
	switch {
	case m == nil:
		return nil, vkErr(104, "")
	case !m.fromBot:
		return nil, vkErr(15, "not the community's message")
	case m.kind == "audio_message" || m.kind == "sticker" || m.kind == "graffiti":
		return nil, vkErr(920, "")
	}
	u.mu.Lock()
	now := time.Now()
	if now.Sub(m.at) > vkOld {
		u.mu.Unlock()
		return nil, vkErr(909, "")
	}
	m.earlier = append(m.earlier, m.text)
	m.text, m.attached, m.files, m.geo, m.edited, m.keyboard, m.buttons = in.text, in.attached, in.files, in.geo, &now, in.keyboard, in.buttons
	if c.p.Get("keep_forward_messages") != "1" {
		m.reply, m.forwarded = 0, nil
	}
	object := m.object(u)
	u.mu.Unlock()
	c.a.emit("message_edit", u.number, object, nil)
	u.changed.broadcast()
	return 1, nil
}

// remove is messages.delete.
func (c *vkCall) remove() (any, *vkError) {
	u, e := c.peer()
	if e != nil {
		return nil, e
	}
	ids := strings.Split(c.p.Get("cmids"), ",")
	if len(ids) > 100 {
		return nil, vkBad("cmids: at most 100")
	}
	everybody := c.p.Get("delete_for_all") == "1"
	results := []any{}
	for _, s := range ids {
		cmid, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, vkBad("cmids not integer")
		}
		one := map[string]any{"peer_id": u.number, "conversation_message_id": cmid}
		m := u.find(cmid)
		u.mu.Lock()
		now := time.Now()
		switch {
		case m == nil:
			one["error"] = map[string]any{"code": 104, "description": vkWords[104]}
		case everybody && (!m.fromBot || now.Sub(m.at) > vkOld):
			one["error"] = map[string]any{"code": 924, "description": vkWords[924]}
		default:
			one["response"] = 1
			if everybody {
				m.deleted = &now
			}
		}
		u.mu.Unlock()
		if e, ok := one["error"].(map[string]any); ok {
			c.rec.Code = e["code"].(int)
		}
		results = append(results, one)
	}
	u.changed.broadcast()
	return results, nil
}

func (c *vkCall) getMessages() (any, *vkError) {
	u, e := c.peer()
	if e != nil {
		return nil, e
	}
	items := []any{}
	for _, s := range strings.Split(c.p.Get("conversation_message_ids"), ",") {
		cmid, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, vkBad("conversation_message_ids not integer")
		}
		if m := u.find(cmid); m != nil {
			u.mu.Lock()
			o := m.object(u)
			delete(o, "is_cropped")
			u.mu.Unlock()
			items = append(items, o)
		}
	}
	return map[string]any{"count": len(items), "items": items}, nil
}

// page reads offset and count, 1 to 200.
func (c *vkCall) page() (offset, count int, e *vkError) {
	var err error
	if s := c.p.Get("offset"); s != "" {
		if offset, err = strconv.Atoi(s); err != nil || offset < 0 {
			return 0, 0, vkBad("offset should be 0 or more")
		}
	}
	count, err = strconv.Atoi(c.p.Get("count"))
	if err != nil || count < 1 || count > 200 {
		return 0, 0, vkBad("count should be 1 to 200")
	}
	return offset, count, nil
}

// conversations lists the chats, the newest first, with filter unanswered those
// whose last message is the customer's.
func (c *vkCall) conversations() (any, *vkError) {
	filter := c.p.Get("filter")
	if filter != "" && filter != "all" && filter != "unanswered" {
		return nil, vkBad("filter: the simulator knows all and unanswered")
	}
	offset, count, e := c.page()
	if e != nil {
		return nil, e
	}
	type chat struct {
		last int64 // message id
		item map[string]any
	}
	var chats []chat
	c.a.cmu.RLock()
	people := slices.Clone(c.a.people)
	c.a.cmu.RUnlock()
	for _, u := range people {
		u.mu.Lock()
		if n := len(u.history); n > 0 && (filter != "unanswered" || !u.history[n-1].fromBot) {
			chats = append(chats, chat{u.history[n-1].id, map[string]any{
				"conversation": map[string]any{"peer": map[string]any{"id": u.number, "type": "user", "local_id": u.number}},
				"last_message": u.history[n-1].object(u),
			}})
		}
		u.mu.Unlock()
	}
	slices.SortFunc(chats, func(a, b chat) int { return cmp.Compare(b.last, a.last) })
	items := []any{}
	for i := offset; i < len(chats) && len(items) < count; i++ {
		items = append(items, chats[i].item)
	}
	return map[string]any{"count": len(chats), "items": items}, nil
}

// history is a chat's messages, the newest first.
func (c *vkCall) history() (any, *vkError) {
	u, e := c.peer()
	if e != nil {
		return nil, e
	}
	offset, count, e := c.page()
	if e != nil {
		return nil, e
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	items := []any{}
	for i := len(u.history) - 1; i >= 0 && len(items) < count; i-- {
		if m := u.history[i]; m.deleted == nil {
			if offset--; offset < 0 {
				items = append(items, m.object(u))
			}
		}
	}
	return map[string]any{"count": len(u.history), "items": items}, nil
}
