package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits. The id's 36 characters are documented; the others are WhatsApp's own,
// or believed.
const (
	maxMFMSID      = 36
	maxMFMSText    = 4096
	maxMFMSCaption = 1024 // and of a text above buttons
	maxMFMSName    = 70   // of the newer interface
	maxMFMSButtons = 3
	mfmsWindow     = 24 * time.Hour
)

// mfmsMessage is a validated message.
type mfmsMessage struct {
	id       string
	kind     string // contentType
	text     string // or caption
	link     string
	name     string
	location *Point
	keyboard json.RawMessage
	buttons  []Button
	template bool
	warnings []string
	raw      json.RawMessage
}

var mfmsKinds = []string{"text", "image", "document", "video", "audio", "location"}

// parseMFMS validates a message; code is why it is refused.
func parseMFMS(body []byte, template bool) (m *mfmsMessage, address, subject, code string) {
	var in struct {
		ID        *string         `json:"id"`
		Subject   *string         `json:"subject"`
		Address   *string         `json:"address"`
		Priority  *string         `json:"priority"`
		Start     *string         `json:"startTime"`
		Validity  *int            `json:"validityPeriodSeconds"`
		Comment   *string         `json:"comment"`
		Kind      *string         `json:"contentType"`
		Text      string          `json:"text"`
		URL       string          `json:"attachmentUrl"`
		Name      string          `json:"attachmentName"`
		Caption   string          `json:"caption"`
		Latitude  *float64        `json:"latitude"`
		Longitude *float64        `json:"longitude"`
		Place     string          `json:"locationAddress"`
		Header    json.RawMessage `json:"header"`
		Footer    json.RawMessage `json:"footer"`
		Keyboard  json.RawMessage `json:"keyboard"`
	}
	if !json.Valid(body) || bytes.TrimSpace(body)[0] != '{' || json.Unmarshal(body, &in) != nil {
		return nil, "", "", "error-syntax"
	}
	m = &mfmsMessage{template: template, raw: bytes.Clone(body)}
	if in.ID == nil || *in.ID == "" || utf8.RuneCountInString(*in.ID) > maxMFMSID {
		return nil, "", "", "error-syntax"
	}
	m.id = *in.ID
	switch {
	case in.Subject == nil || *in.Subject == "":
		return m, "", "", "error-subject-format"
	case in.Address == nil || *in.Address == "":
		return m, "", "", "error-address-not-specified"
	case !validPhone(*in.Address):
		return m, "", "", "error-address-format"
	case in.Priority != nil && !slices.Contains([]string{"low", "normal", "high", "realtime"}, *in.Priority):
		return m, "", "", "error-priority-format"
	case in.Validity != nil && (*in.Validity < 30 || *in.Validity > 86400):
		return m, "", "", "error-validity-period-seconds-format"
	case in.Kind == nil || *in.Kind == "":
		return m, "", "", "error-content-type-not-specified"
	case !slices.Contains(mfmsKinds, *in.Kind):
		return m, "", "", "error-content-type-format"
	}
	if in.Start != nil {
		if _, err := time.Parse(time.RFC3339, *in.Start); err != nil {
			return m, "", "", "error-start-time-format"
		}
	}
	if !template && (in.Header != nil || in.Footer != nil) {
		m.warnings = append(m.warnings, "header and footer are of templates")
	}
	m.kind = *in.Kind
	switch m.kind {
	case "text":
		m.text = in.Text
		if n := utf8.RuneCountInString(m.text); n == 0 || n > maxMFMSText {
			return m, "", "", "error-content-format"
		}
	case "location":
		switch {
		case in.Latitude == nil:
			return m, "", "", "error-latitude-not-specified"
		case in.Longitude == nil:
			return m, "", "", "error-longtitude-not-specified" // spelt so
		case *in.Latitude < -90 || *in.Latitude > 90 || *in.Longitude < -180 || *in.Longitude > 180:
			return m, "", "", "error-content-format"
		}
		m.location = &Point{Lat: *in.Latitude, Lon: *in.Longitude, Title: in.Place}
	default:
		m.link, m.name, m.text = in.URL, in.Name, in.Caption
		switch {
		case m.link == "":
			return m, "", "", "error-attachment-url-not-specified"
		case !overHTTPS(m.link), utf8.RuneCountInString(m.name) > maxMFMSName, utf8.RuneCountInString(m.text) > maxMFMSCaption:
			return m, "", "", "error-content-format"
		}
		if m.kind == "audio" && m.text != "" {
			m.warnings = append(m.warnings, "WhatsApp shows no caption with audio")
		}
		if in.Text != "" {
			m.warnings = append(m.warnings, "text beside a file is not shown: use caption")
		}
	}
	if len(in.Keyboard) > 0 && string(in.Keyboard) != "null" {
		if code := m.readKeyboard(in.Keyboard); code != "" {
			return m, "", "", code
		}
	}
	return m, *in.Address, *in.Subject, ""
}

// overHTTPS: MFMS fetches over https only. Plain http is taken from this very
// machine, where no certificate can be had.
func overHTTPS(link string) bool {
	u, err := url.Parse(link)
	if err != nil || u.Host == "" {
		return false
	}
	host := u.Hostname()
	return u.Scheme == "https" || u.Scheme == "http" && (host == "localhost" || host == "::1" || strings.HasPrefix(host, "127."))
}

// readKeyboard reads the buttons; their shape is a guess.
func (m *mfmsMessage) readKeyboard(raw json.RawMessage) (code string) {
	var in struct {
		Rows []struct {
			Buttons []struct {
				Type    string `json:"type"`
				Text    string `json:"text"`
				Payload string `json:"payload"`
				URL     string `json:"url"`
				Phone   string `json:"phone"`
			} `json:"buttons"`
		} `json:"rows"`
	}
	if json.Unmarshal(raw, &in) != nil {
		return "error-content-format"
	}
	for _, row := range in.Rows {
		for _, b := range row.Buttons {
			ok := b.Text != "" && utf8.RuneCountInString(b.Text) <= 20
			switch b.Type {
			case "QUICK_REPLY":
				ok = ok && b.Payload != "" && len(b.Payload) <= 1024
			case "URL":
				ok = ok && m.template && fetchableURL(b.URL)
			case "PHONE":
				ok = ok && m.template && b.Phone != ""
			case "TEXT":
				ok = ok && m.template
			default:
				ok = false
			}
			if !ok {
				return "error-content-format"
			}
			m.buttons = append(m.buttons, Button{Text: b.Text, Data: b.Payload, Action: b.Type, URL: b.URL})
		}
	}
	if len(m.buttons) == 0 || len(m.buttons) > maxMFMSButtons || m.text == "" || utf8.RuneCountInString(m.text) > maxMFMSCaption {
		return "error-content-format"
	}
	m.keyboard = bytes.Clone(raw)
	return ""
}

// send takes a message.
func (c *mfmsCall) send(template bool) {
	a := c.a
	if len(c.body) > maxMFMSRequest {
		c.fail(200, "error-syntax", "")
		return
	}
	if opts := a.opts.Load(); opts.realLimits {
		l := opts.limits.withDefaults(80, 0) // WhatsApp's for a number; MFMS publishes none
		a.mu.Lock()
		wait := a.overall.take(time.Now(), 1, l.PerSecond, l.Burst)
		a.mu.Unlock()
		if wait > 0 {
			c.w.Header().Set("Retry-After", "1")
			a.sim.respond(c.call, 429, 429, "throttled", []byte("Too Many Requests"))
			return
		}
	}
	m, address, subject, code := parseMFMS(c.body, template)
	id := ""
	if m != nil {
		id = m.id
	}
	if code != "" {
		c.fail(200, code, id)
		return
	}
	a.mu.Lock()
	if a.subject == "" {
		a.subject = subject
	}
	known := a.subject == subject
	a.mu.Unlock()
	if !known {
		c.fail(200, "error-subject-unknown", id)
		return
	}
	u := a.byPhone(address)
	if u == nil && a.sim.cfg.AutoCustomers {
		if _, err := a.addCustomer(CustomerSpec{ID: address}); err == nil {
			u = a.byPhone(address)
		}
	}
	if u == nil {
		// The address is as good as any; that it has no WhatsApp is told later.
		u = &MFMSCustomer{acct: a, name: "nobody", nobody: true}
		u.id, u.hash = address, filler(a.sim.cfg.Seed, uint64(len(address)))
	}
	s := &mfmsStored{u: u, m: m, id: strings.ToLower(m.id), fromBot: true, state: "enqueued", at: time.Now()}
	a.mu.Lock()
	_, twice := a.messages[s.id]
	if !twice {
		a.messages[s.id] = s
	}
	a.mu.Unlock()
	if twice {
		c.fail(200, "error-id-not-unique", id)
		return
	}
	a.rec.countSend(c.start, u.hash)
	u.take(s, c.problem)
	c.fail(200, "ok", id)
}

// approved reports whether a text is that of a template with values filled in.
func (a *MFMSAccount) approved(text string) bool {
	a.mu.Lock()
	templates := a.templates
	a.mu.Unlock()
	return slices.ContainsFunc(templates, func(t string) bool {
		pattern := "(?s)^" + placeholder.ReplaceAllString(regexp.QuoteMeta(t), ".+") + "$"
		ok, err := regexp.MatchString(pattern, text)
		return err == nil && ok
	})
}

var placeholder = regexp.MustCompile(`\\\{\\\{\d+\\\}\\\}`)

// take gives an accepted message to the customer, or tells later why it can't.
func (u *MFMSCustomer) take(s *mfmsStored, problem string) {
	a := u.acct
	a.mu.Lock()
	window := a.window
	a.mu.Unlock()
	u.mu.Lock()
	switch {
	case problem != "":
	case u.nobody:
		problem = "not-whatsapp-user"
	case u.blocked:
		problem = "user-blocked"
	case s.m.template && !a.approved(s.m.text), !s.m.template && window && time.Since(u.wrote) > mfmsWindow:
		problem = "not-template-match"
	case u.receipts == "failed":
		problem = "undelivered"
	}
	if problem == "" {
		u.keep(s)
		if s.m.keyboard != nil {
			u.lastKeys = s
		}
	}
	u.mu.Unlock()
	if s.m.link == "" {
		u.hand(s, problem)
		return
	}
	a.sim.spawn(func(ctx context.Context) {
		f := a.sim.fetch(ctx, s.m.link)
		f.Name = s.m.name
		if f.Error != "" && problem == "" {
			problem = "error-content-format"
		}
		u.mu.Lock()
		s.files = []FileInfo{f}
		u.mu.Unlock()
		u.hand(s, problem)
	})
}

// hand shows the message and sends the reports.
func (u *MFMSCustomer) hand(s *mfmsStored, problem string) {
	u.changed.broadcast()
	if problem == "" {
		defer u.received(s.m.text, len(s.m.buttons))
	}
	opts := u.acct.opts.Load()
	u.mu.Lock()
	mode := u.receipts
	u.mu.Unlock()
	if opts.noReceipts || mode == "none" && problem == "" {
		return
	}
	if problem != "" {
		u.acct.sim.after(opts.deliveredAfter, func() { u.tell(s, "undelivered", problem) })
		return
	}
	u.tell(s, "sent", "")
	u.acct.sim.after(opts.deliveredAfter, func() {
		u.tell(s, "delivered", "")
		if mode == "seen" {
			u.acct.sim.after(opts.seenAfter, func() { u.tell(s, "read", "") })
		}
	})
}

// tell notes a message's status and calls back.
func (u *MFMSCustomer) tell(s *mfmsStored, state, problem string) {
	u.mu.Lock()
	s.state, s.problem, s.stateAt = state, problem, time.Now()
	body := s.callbackBody()
	u.mu.Unlock()
	u.acct.emit(state, u.id, body, nil)
	u.changed.broadcast()
}

// mfmsTime is MFMS's: milliseconds, and a zone without colon.
const mfmsTime = "2006-01-02T15:04:05.000-0700"

var moscow = time.FixedZone("MSK", 3*60*60)

// report is what a callback says of a message; u.mu is held.
func (s *mfmsStored) report() map[string]any {
	at := s.stateAt
	if at.IsZero() {
		at = s.at
	}
	body := map[string]any{"imOutMessageId": s.m.id, "dlvStatus": s.state, "dlvStatusAt": at.In(moscow).Format(mfmsTime), "dlvError": nil, "rate": nil, "reserveSms": nil}
	if s.problem != "" {
		body["dlvError"] = s.problem
	}
	return body
}
