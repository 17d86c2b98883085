package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// infobipMessage is a validated message.
type infobipMessage struct {
	id       string
	kind     string // the path's word
	text     string // also the caption
	replyTo  string
	callback string // comes back in delivery reports
	link     string
	file     string // kind of what is at link
	fileName string
	location *Point
	contact  *Card
	keyboard json.RawMessage
	buttons  []Button
	warnings []string
	raw      json.RawMessage
}

// infobipProblem is what validation refuses.
type infobipProblem struct{ field, says string }

func infobipBad(field, says string, args ...any) *infobipProblem {
	return &infobipProblem{field, fmt.Sprintf(says, args...)}
}

func units16(s string) int { return len(utf16.Encode([]rune(s))) }

// infobipSizes are the largest files by kind, in bytes, and their types.
var infobipSizes = map[string]struct {
	most  int64
	types []string
}{
	"image":    {5 << 20, []string{"image/jpeg", "image/png"}},
	"document": {100 << 20, nil},
	"audio":    {16 << 20, []string{"audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg", "audio/opus", "audio/x-m4a", "application/ogg"}},
	"video":    {16 << 20, []string{"video/mp4", "video/3gpp"}},
	"sticker":  {500_000, []string{"image/webp"}},
}

type infobipEnvelope struct {
	From    string          `json:"from"`
	To      string          `json:"to"`
	ID      string          `json:"messageId"`
	Content json.RawMessage `json:"content"`
	Context struct {
		ReplyTo string `json:"replyToMessageId"`
	} `json:"context"`
	Callback string `json:"callbackData"`
	Notify   string `json:"notifyUrl"`
}

// message validates the content of a kind.
func (e *infobipEnvelope) message(kind string, a *InfobipAccount) (*infobipMessage, *infobipProblem) {
	m := &infobipMessage{id: e.ID, kind: kind, replyTo: e.Context.ReplyTo, callback: e.Callback, raw: bytes.Clone(e.Content)}
	switch {
	case e.From == "" || len(e.From) > 24:
		return nil, infobipBad("from", "size must be between 1 and 24")
	case e.To == "" || len(e.To) > 150:
		return nil, infobipBad("to", "size must be between 1 and 150")
	case strings.HasPrefix(e.To, "+"):
		return nil, infobipBad("to", "must be digits without plus")
	case len(e.ID) > 200:
		return nil, infobipBad("messageId", "size must be between 0 and 200")
	case len(e.Callback) > 4000:
		return nil, infobipBad("callbackData", "size must be between 0 and 4000")
	case len(e.Content) == 0 || e.Content[0] != '{':
		return nil, infobipBad("content", "must not be null")
	}
	switch {
	case kind == "text":
		var in struct{ Text string }
		if json.Unmarshal(e.Content, &in) != nil || in.Text == "" || units16(in.Text) > 4096 {
			return nil, infobipBad("content.text", "size must be between 1 and 4096")
		}
		m.text = in.Text
	case infobipSizes[kind].most > 0:
		return m, m.media(e.Content)
	case kind == "location":
		var in struct {
			Lat     *float64 `json:"latitude"`
			Lon     *float64 `json:"longitude"`
			Name    string   `json:"name"`
			Address string   `json:"address"`
		}
		if json.Unmarshal(e.Content, &in) != nil || in.Lat == nil || in.Lon == nil || *in.Lat < -90 || *in.Lat > 90 || *in.Lon < -180 || *in.Lon > 180 {
			return nil, infobipBad("content.latitude", "must be a place")
		}
		if units16(in.Name) > 1000 || units16(in.Address) > 1000 {
			return nil, infobipBad("content.name", "size must be between 0 and 1000")
		}
		m.location = &Point{Lat: *in.Lat, Lon: *in.Lon, Title: in.Name}
	case kind == "contact":
		var in struct {
			Contacts []struct {
				Name struct {
					First string `json:"firstName"`
					Whole string `json:"formattedName"`
				} `json:"name"`
				Phones []struct{ Phone, Type string } `json:"phones"`
			} `json:"contacts"`
		}
		if json.Unmarshal(e.Content, &in) != nil || len(in.Contacts) == 0 || in.Contacts[0].Name.First == "" || in.Contacts[0].Name.Whole == "" {
			return nil, infobipBad("content.contacts[0].name", "must not be blank")
		}
		k := in.Contacts[0]
		m.contact = &Card{Name: k.Name.Whole}
		for _, p := range k.Phones {
			if p.Type != "" && !slices.Contains([]string{"CELL", "MAIN", "IPHONE", "HOME", "WORK"}, p.Type) {
				return nil, infobipBad("content.contacts[0].phones[0].type", "unknown")
			}
			m.contact.Phone = p.Phone
		}
	case strings.HasPrefix(kind, "interactive/"):
		return m, m.interactive(e.Content)
	case kind == "template":
		return m, m.template(e.Content, a)
	default:
		return nil, infobipBad("kind", "not faked")
	}
	return m, nil
}

func (m *infobipMessage) media(raw []byte) *infobipProblem {
	var in struct {
		URL     string `json:"mediaUrl"`
		Caption string `json:"caption"`
		Name    string `json:"filename"`
		Voice   bool   `json:"voice"`
	}
	if json.Unmarshal(raw, &in) != nil || !fetchableURL(in.URL) || len(in.URL) > 2048 {
		return infobipBad("content.mediaUrl", "must be a URL of up to 2048 characters")
	}
	if units16(in.Caption) > 3000 {
		return infobipBad("content.caption", "size must be between 0 and 3000")
	}
	if units16(in.Name) > 240 {
		return infobipBad("content.filename", "size must be between 0 and 240")
	}
	if (m.kind == "audio" || m.kind == "sticker") && in.Caption != "" {
		m.warnings = append(m.warnings, "caption is ignored")
		in.Caption = ""
	}
	m.link, m.file, m.text, m.fileName = in.URL, m.kind, in.Caption, in.Name
	if in.Voice {
		m.kind = "voice"
	}
	return nil
}

func (m *infobipMessage) interactive(raw []byte) *infobipProblem {
	var in struct {
		Body   struct{ Text string } `json:"body"`
		Action struct {
			Buttons []struct{ Type, ID, Title string } `json:"buttons"`
			Title   string                             `json:"title"`
			Display string                             `json:"displayText"`
			URL     string                             `json:"url"`
			Section []struct {
				Title string                                    `json:"title"`
				Rows  []struct{ ID, Title, Description string } `json:"rows"`
			} `json:"sections"`
		} `json:"action"`
	}
	if json.Unmarshal(raw, &in) != nil || in.Body.Text == "" || units16(in.Body.Text) > 1024 {
		return infobipBad("content.body.text", "size must be between 1 and 1024")
	}
	m.text, m.keyboard = in.Body.Text, bytes.Clone(raw)
	var ids, titles []string
	add := func(where, id, title string, maxID, maxTitle int) *infobipProblem {
		switch {
		case id == "" || units16(id) > maxID || slices.Contains(ids, id):
			return infobipBad(where+".id", "size must be between 1 and %d, and different", maxID)
		case title == "" || units16(title) > maxTitle || slices.Contains(titles, title):
			return infobipBad(where+".title", "size must be between 1 and %d, and different", maxTitle)
		}
		ids, titles = append(ids, id), append(titles, title)
		return nil
	}
	switch m.kind {
	case "interactive/buttons":
		if n := len(in.Action.Buttons); n < 1 || n > 3 {
			return infobipBad("content.action.buttons", "size must be between 1 and 3")
		}
		for _, b := range in.Action.Buttons {
			if b.Type != "REPLY" {
				return infobipBad("content.action.buttons.type", "must be REPLY")
			}
			if e := add("content.action.buttons", b.ID, b.Title, 256, 20); e != nil {
				return e
			}
			m.buttons = append(m.buttons, Button{Text: b.Title, Data: b.ID, Action: "reply"})
		}
	case "interactive/list":
		if in.Action.Title == "" || units16(in.Action.Title) > 20 {
			return infobipBad("content.action.title", "size must be between 1 and 20")
		}
		if n := len(in.Action.Section); n < 1 || n > 10 {
			return infobipBad("content.action.sections", "size must be between 1 and 10")
		}
		for _, s := range in.Action.Section {
			if units16(s.Title) > 24 || s.Title == "" && len(in.Action.Section) > 1 || len(s.Rows) == 0 {
				return infobipBad("content.action.sections.title", "size must be between 1 and 24, and rows must not be empty")
			}
			for _, r := range s.Rows {
				if e := add("content.action.sections.rows", r.ID, r.Title, 200, 24); e != nil {
					return e
				}
				m.buttons = append(m.buttons, Button{Text: r.Title, Data: r.ID, Action: "list"})
			}
		}
		if len(m.buttons) > 10 {
			return infobipBad("content.action.sections", "10 rows in all")
		}
	case "interactive/url-button":
		if in.Action.Display == "" || units16(in.Action.Display) > 20 || !fetchableURL(in.Action.URL) || len(in.Action.URL) > 2048 {
			return infobipBad("content.action", "displayText of 1 to 20, and a url")
		}
		m.buttons = []Button{{Text: in.Action.Display, Action: "url", URL: in.Action.URL}}
	default:
		return infobipBad("kind", "not faked")
	}
	return nil
}

func (m *infobipMessage) template(raw []byte, a *InfobipAccount) *infobipProblem {
	var in struct {
		Name     string `json:"templateName"`
		Language string `json:"language"`
		Data     struct {
			Body *struct {
				Placeholders *[]string `json:"placeholders"`
			} `json:"body"`
			Header struct {
				Type string   `json:"type"`
				Text string   `json:"placeholder"`
				URL  string   `json:"mediaUrl"`
				Name string   `json:"filename"`
				Lat  *float64 `json:"latitude"`
			} `json:"header"`
			Buttons []struct{ Type, Parameter string } `json:"buttons"`
		} `json:"templateData"`
	}
	if json.Unmarshal(raw, &in) != nil || in.Name == "" || len(in.Name) > 512 || strings.Trim(in.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return infobipBad("content.templateName", "lower case letters, digits and underscores, 1 to 512")
	}
	if in.Language == "" {
		return infobipBad("content.language", "must not be null")
	}
	if in.Data.Body == nil || in.Data.Body.Placeholders == nil {
		return infobipBad("content.templateData.body.placeholders", "must not be null")
	}
	for _, p := range *in.Data.Body.Placeholders {
		if strings.ContainsAny(p, "\n\t") || strings.Contains(p, "     ") {
			return infobipBad("content.templateData.body.placeholders", "no line breaks, tabs or over four spaces")
		}
	}
	switch h := &in.Data.Header; {
	case h.Type == "", h.Type == "TEXT" && h.Text != "", h.Type == "LOCATION" && h.Lat != nil:
	case (h.Type == "IMAGE" || h.Type == "VIDEO" || h.Type == "DOCUMENT" && h.Name != "" && units16(h.Name) <= 240) && fetchableURL(h.URL) && len(h.URL) <= 2048:
		m.link, m.fileName, m.file = h.URL, h.Name, strings.ToLower(h.Type)
	default:
		return infobipBad("content.templateData.header", "must be whole")
	}
	if len(in.Data.Buttons) > 10 {
		return infobipBad("content.templateData.buttons", "size must be between 0 and 10")
	}
	for _, b := range in.Data.Buttons {
		if !slices.Contains([]string{"QUICK_REPLY", "URL", "COPY_CODE", "FLOW"}, b.Type) || b.Parameter == "" {
			return infobipBad("content.templateData.buttons", "type and parameter must be given")
		}
		if b.Type == "QUICK_REPLY" {
			m.buttons, m.keyboard = append(m.buttons, Button{Text: b.Parameter, Data: b.Parameter, Action: "quick_reply"}), bytes.Clone(raw)
		}
	}
	m.text = in.Name + ": " + strings.Join(*in.Data.Body.Placeholders, ", ")
	if !slices.Contains(a.template, infobipTemplate{in.Name, in.Language}) {
		m.warnings = append(m.warnings, infobipNoTemplate)
	}
	return nil
}

const infobipNoTemplate = "no such approved template"

func infobipStatus(group, id int, name string) map[string]any {
	groups := []string{"OK", "PENDING", "UNDELIVERABLE", "DELIVERED", "EXPIRED", "REJECTED"}
	return map[string]any{"groupId": group, "groupName": groups[group], "id": id, "name": name, "description": "said in words"}
}

// send takes one message, or a template's list of them.
func (c *infobipCall) send(kind string) {
	a := c.a
	var list struct {
		Messages []infobipEnvelope `json:"messages"`
	}
	var one infobipEnvelope
	err := json.Unmarshal(c.body, &one)
	if kind == "template" {
		err = json.Unmarshal(c.body, &list)
	} else {
		list.Messages = []infobipEnvelope{one}
	}
	if err != nil || len(list.Messages) == 0 {
		c.bad("messages", "must not be empty")
		return
	}
	if opts := a.opts.Load(); opts.realLimits {
		l := opts.limits.withDefaults(4000, 0)
		a.mu.Lock()
		wait := a.overall.take(time.Now(), len(list.Messages), l.PerSecond, l.Burst)
		a.mu.Unlock()
		if wait > 0 {
			c.w.Header().Set("Retry-After", "1")
			c.fail(http.StatusTooManyRequests, "Too many requests", nil)
			return
		}
	}
	var messages []*infobipMessage
	for i := range list.Messages {
		m, problem := list.Messages[i].message(kind, a)
		if problem != nil {
			c.bad(problem.field, "%s", problem.says)
			return
		}
		if !a.own(list.Messages[i].From) {
			c.fail(http.StatusForbidden, "Forbidden", nil)
			return
		}
		messages = append(messages, m)
	}
	var answers []any
	for i, m := range messages {
		to := list.Messages[i].To
		a.mu.Lock()
		if m.id == "" {
			a.next++
			m.id = fmt.Sprintf("%08x-0000-4000-8000-%012x", a.next, filler(a.sim.cfg.Seed, a.next)>>16)
		}
		known := a.taken[m.id]
		a.taken[m.id] = true
		a.mu.Unlock()
		status := infobipStatus(1, 7, "PENDING_ENROUTE")
		if known {
			status = infobipStatus(5, 23, "REJECTED_DUPLICATE_MESSAGE_ID")
		} else {
			a.accept(c.start, to, m, c.problem)
		}
		answers = append(answers, map[string]any{"to": to, "messageCount": 1, "messageId": m.id, "status": status})
	}
	out := mustJSON(answers[0])
	if kind == "template" {
		out = mustJSON(map[string]any{"messages": answers, "bulkId": "b-" + messages[0].id})
	}
	a.sim.respond(c.call, 200, 0, "ok", out)
}

// accept takes a message for delivery; what becomes of it is told by reports.
func (a *InfobipAccount) accept(arrived time.Time, to string, m *infobipMessage, problem int) {
	now := time.Now()
	u := a.byKey(to)
	if u == nil && a.sim.cfg.AutoCustomers {
		if _, err := a.addCustomer(CustomerSpec{ID: to, Started: true}); err == nil {
			u = a.byKey(to)
		}
	}
	if u == nil {
		a.rec.countSend(arrived, 0)
		a.later(func() { a.report(to, m, now, 2, 4, "UNDELIVERABLE_REJECTED_OPERATOR", 7002) })
		return
	}
	a.rec.countSend(arrived, u.hash)
	u.mu.Lock()
	window := now.Sub(u.wrote) < 24*time.Hour || m.kind == "template"
	switch {
	case problem != 0:
	case u.nobody:
		problem = 7002
	case u.blocked:
		problem = 7003
	case !window:
		problem = 7010
	case slices.Contains(m.warnings, infobipNoTemplate):
		problem = 7009
	}
	u.mu.Unlock()
	if problem != 0 {
		a.later(func() { a.report(to, m, now, 2, 4, "UNDELIVERABLE_REJECTED_OPERATOR", problem) })
		return
	}
	if m.link == "" {
		u.receive(to, m, nil, now)
		return
	}
	a.sim.spawn(func(ctx context.Context) {
		f := a.sim.fetch(ctx, m.link)
		if f.Name = m.fileName; f.Name == "" {
			if link, err := url.Parse(m.link); err == nil {
				f.Name = path.Base(link.Path)
			}
		}
		allowed := infobipSizes[m.file]
		mime, _, _ := strings.Cut(f.MIME, ";")
		switch {
		case f.Error != "":
			problem = 7013
		case f.Size > allowed.most:
			problem = 7015
		case allowed.types != nil && !slices.Contains(allowed.types, mime):
			problem = 7022
		}
		if problem != 0 {
			a.later(func() { a.report(to, m, now, 2, 4, "UNDELIVERABLE_REJECTED_OPERATOR", problem) })
			return
		}
		u.receive(to, m, &f, now)
	})
}

func (a *InfobipAccount) later(f func()) {
	opts := a.opts.Load()
	if !opts.noReceipts {
		a.sim.after(opts.deliveredAfter, f)
	}
}

var infobipErrors = map[int]string{
	0: "NO_ERROR", 7002: "EC_UNKNOWN_USER", 7003: "EC_BLOCKED_USER", 7009: "EC_INVALID_TEMPLATE", 7010: "EC_NO_SESSION", 7013: "EC_MEDIA_HOSTING_ERROR",
	7015: "EC_MEDIA_METADATA_ERROR", 7022: "EC_MEDIA_UNSUPPORTED",
}

// report queues a delivery report.
func (a *InfobipAccount) report(to string, m *infobipMessage, sent time.Time, group, status int, name string, problem int) {
	word := infobipErrors[problem]
	if word == "" {
		word = "EC_ERROR"
	}
	errorGroup := 0
	if problem != 0 {
		errorGroup = 1
	}
	element := map[string]any{
		"bulkId": "b-" + m.id, "messageId": m.id, "to": to, "sentAt": sent.UTC().Format(infobipTime), "doneAt": time.Now().UTC().Format(infobipTime),
		"messageCount": 1, "price": map[string]any{"pricePerMessage": 0.02, "currency": "EUR"}, "status": infobipStatus(group, status, name),
		"error": map[string]any{"groupId": errorGroup, "id": problem, "name": word, "description": word, "permanent": problem != 0 && problem != 7013},
	}
	if m.callback != "" {
		element["callbackData"] = m.callback
	}
	if u := a.byKey(to); u != nil {
		element["contact"] = map[string]any{"phoneNumber": u.id, "userId": u.user}
	}
	a.emit("DELIVERY", to, infobipResults(element), nil)
}

// receive gives a message to the customer and reports about it.
func (u *InfobipCustomer) receive(to string, m *infobipMessage, f *FileInfo, sent time.Time) {
	a := u.acct
	s := &infobipStored{id: m.id, fromBot: true, m: m, at: sent, state: "accepted"}
	if f != nil {
		s.files = []FileInfo{*f}
	}
	u.mu.Lock()
	u.keep(s)
	if m.keyboard != nil {
		u.lastKeys = s
	}
	mode := u.receipts
	u.mu.Unlock()
	u.received(m.text, len(m.buttons))
	if mode == "none" {
		return
	}
	a.later(func() {
		if mode == "failed" {
			u.state(s, "failed")
			a.report(to, m, sent, 2, 9, "UNDELIVERABLE_NOT_DELIVERED", 7050)
			return
		}
		u.state(s, "delivered")
		a.report(to, m, sent, 3, 5, "DELIVERED_TO_HANDSET", 0)
		if mode != "seen" {
			return
		}
		a.sim.after(a.opts.Load().seenAfter, func() {
			u.state(s, "seen")
			// The addresses are turned round.
			a.emit("SEEN", to, infobipResults(map[string]any{
				"messageId": m.id, "from": to, "to": a.Sender(), "sentAt": sent.UTC().Format(infobipTime), "seenAt": time.Now().UTC().Format(infobipTime),
			}), nil)
		})
	})
}

func (u *InfobipCustomer) state(s *infobipStored, state string) {
	u.mu.Lock()
	s.state = state
	u.mu.Unlock()
	u.changed.broadcast()
}
