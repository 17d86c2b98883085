package simulator

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The XML connector of MFMS (HPX), at /mfms/<client>/<connector>/service: texts to
// WhatsApp, the poll of statuses, and reports by callback. Customers' messages come
// in JSON: no form of them in XML is known. Elements and codes are taken from
// working clients; limits are believed.

const (
	maxHPXList    = 100
	maxHPXID      = 36
	maxHPXComment = 255
)

type hpxEnvelope struct {
	XMLName  xml.Name
	Login    string     `xml:"header>auth>login"`
	Password string     `xml:"header>auth>password"`
	List     *hpxInList `xml:"payload>instantMessageList"`
}

type hpxInList struct {
	Messages []hpxIn `xml:"instantMessage"`
}

type hpxIn struct {
	ClientID   string  `xml:"clientId,attr"`
	ProviderID *string `xml:"providerId,attr"`
	Address    *string `xml:"address"`
	Subject    *string `xml:"subject"`
	Priority   *string `xml:"priority"`
	Validity   *string `xml:"validityPeriodSeconds"`
	Comment    string  `xml:"comment"`
	Messenger  *string `xml:"instantMessageType"`
	Kind       *string `xml:"contentType"`
	Text       *string `xml:"content>text"`
}

type hpxOut struct {
	XMLName  xml.Name
	Header   *struct{}       `xml:"header"`
	Code     string          `xml:"payload>code"`
	Messages []hpxOutMessage `xml:"payload>instantMessageList>instantMessage"`
}

type hpxOutMessage struct {
	ClientID   string     `xml:"clientId,attr,omitempty"`
	ProviderID string     `xml:"providerId,attr,omitempty"`
	Code       string     `xml:"code"`
	Status     *hpxStatus `xml:"instantMessageDlvStatus"`
}

type hpxStatus struct {
	Status string `xml:"dlvStatus"`
	At     string `xml:"dlvStatusAt"`
	Error  string `xml:"dlvError"`
}

const (
	hpxConsume = "consumeInstantMessageRequest"
	hpxProvide = "provideInstantMessageDlvStatusRequest"
	hpxReport  = "provideInstantMessageDlvStatusResponse"
	hpxType    = "text/xml; charset=utf-8"
)

// hpxWhole are the codes of a request as a whole.
var hpxWhole = []string{"error-system", "error-auth", "error-syntax", "error-account-locked", "error-permission"}

func hpxDocument(root, code string, list []hpxOutMessage) []byte {
	b, err := xml.Marshal(hpxOut{XMLName: xml.Name{Local: root}, Header: &struct{}{}, Code: code, Messages: list})
	if err != nil {
		panic(err) // strings only
	}
	return append([]byte(xml.Header), b...)
}

// hpxCall is one call of the connector.
type hpxCall struct {
	*call
	a    *MFMSAccount
	root string
}

// answer answers with a code for the whole and the messages' own.
func (c *hpxCall) answer(status int, code string, list []hpxOutMessage) {
	number := 0
	if code != "ok" {
		number = 1
	}
	c.w.Header().Set("Content-Type", hpxType)
	c.a.sim.respond(c.call, status, number, code, hpxDocument(strings.Replace(c.root, "Request", "Response", 1), code, list))
}

func (p *mfmsPlatform) serveHPX(w http.ResponseWriter, r *http.Request, rest string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxMFMSRequest+1))
	if err != nil {
		return // the client has gone
	}
	var in hpxEnvelope
	broken := len(body) > maxMFMSRequest || xml.Unmarshal(body, &in) != nil || in.XMLName.Local != hpxConsume && in.XMLName.Local != hpxProvide
	token := in.Login + ":" + in.Password
	a := p.of(token)
	if a == nil && !broken && p.sim.cfg.AutoRegister && validMFMSToken(token) {
		if reg, err := p.register(AccountSpec{Token: token}); err == nil {
			a = reg.(*MFMSAccount)
		}
	}
	if broken || a == nil {
		code, root := "error-auth", strings.Replace(in.XMLName.Local, "Request", "Response", 1)
		if broken {
			code, root = "error-syntax", "consumeInstantMessageResponse"
		}
		w.Header().Set("Content-Type", hpxType)
		w.Write(hpxDocument(root, code, nil)) //nolint:errcheck // the client may have gone
		return
	}
	c := &hpxCall{call: a.sim.begin(w, r, &a.accountCore, in.XMLName.Local, "/mfms/"+rest), a: a, root: in.XMLName.Local}
	var customers []string
	if in.List != nil {
		for _, m := range in.List.Messages {
			if m.Address != nil {
				customers = append(customers, *m.Address)
			}
		}
	}
	if c.keep {
		if len(customers) > 0 {
			c.rec.Customer = customers[0]
		}
		c.rec.Body = mustJSON(strings.ReplaceAll(string(body), "<password>"+in.Password+"</password>", "<password>***</password>"))
	}
	if c.inject(a.sim, c.root, customers...) {
		return
	}
	problem := ""
	if c.fault != nil {
		var done bool
		if problem, done = c.faultAnswer(in.List); done {
			return
		}
	}
	switch {
	case a.opts.Load().revoked:
		c.answer(200, "error-auth", nil)
	case in.List == nil || len(in.List.Messages) == 0 || len(in.List.Messages) > maxHPXList:
		c.answer(200, "error-syntax", nil)
	case c.root == hpxConsume:
		c.consume(in.List.Messages, problem)
	default:
		c.provide(in.List.Messages)
	}
}

// faultAnswer renders an injected fault; problem is why an accepted message won't
// arrive.
func (c *hpxCall) faultAnswer(in *hpxInList) (problem string, done bool) {
	f := c.fault
	status, code := http.StatusOK, f.Description
	switch f.Kind {
	case FaultThrottle: // not documented: a gateway's
		if f.RetryAfter > 0 {
			c.w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		c.a.sim.respond(c.call, http.StatusTooManyRequests, http.StatusTooManyRequests, "throttled", []byte("Too Many Requests"))
		return "", true
	case FaultError:
		if code == "" {
			code = "error-system"
		}
		if f.Status != 0 {
			status = f.Status
		}
	case FaultUnauthorized:
		code = "error-auth"
	case FaultForbidden:
		if code == "" {
			code = "error-permission"
		}
	case FaultBlocked: // told afterwards only
		return "user-blocked", false
	default:
		return "", false
	}
	if in == nil || slices.Contains(hpxWhole, code) {
		c.answer(status, code, nil)
		return "", true
	}
	list := make([]hpxOutMessage, len(in.Messages))
	for i := range list {
		list[i] = hpxOutMessage{ClientID: in.Messages[i].ClientID, Code: code}
	}
	c.answer(status, "ok", list)
	return "", true
}

// refuse is why a message is not taken; "" when it is.
func (in *hpxIn) refuse() string {
	missing := func(s *string) bool { return s == nil || *s == "" }
	validity := 0
	if in.Validity != nil {
		validity, _ = strconv.Atoi(*in.Validity)
	}
	switch {
	case in.ClientID == "" || len(in.ClientID) > maxHPXID:
		return "error-syntax"
	case missing(in.Address):
		return "error-address-not-specified"
	case !validPhone(*in.Address):
		return "error-address-format"
	case missing(in.Subject):
		return "error-subject-not-specified"
	case in.Priority != nil && !slices.Contains([]string{"low", "normal", "high", "realtime"}, *in.Priority):
		return "error-priority-format"
	case in.Validity != nil && (validity < 30 || validity > 86400):
		return "error-validity-period-seconds-format"
	case utf8.RuneCountInString(in.Comment) > maxHPXComment:
		return "error-comment-format"
	case missing(in.Messenger):
		return "error-instant-message-type-not-specified"
	case *in.Messenger != "whatsapp":
		return "error-instant-message-type-format"
	case missing(in.Kind) || *in.Kind != "text":
		return "error-content-type-format"
	case missing(in.Text):
		return "error-content-not-specified"
	case utf8.RuneCountInString(*in.Text) > maxMFMSText:
		return "error-content-format"
	}
	return ""
}

// consume takes messages, each by itself.
func (c *hpxCall) consume(list []hpxIn, problem string) {
	a := c.a
	if opts := a.opts.Load(); opts.realLimits {
		l := opts.limits.withDefaults(80, 0)
		a.mu.Lock()
		wait := a.overall.take(time.Now(), len(list), l.PerSecond, l.Burst)
		a.mu.Unlock()
		if wait > 0 {
			c.w.Header().Set("Retry-After", "1")
			a.sim.respond(c.call, 429, 429, "throttled", []byte("Too Many Requests"))
			return
		}
	}
	out := make([]hpxOutMessage, len(list))
	var taken []*mfmsStored
	for i := range list {
		in := &list[i]
		out[i] = hpxOutMessage{ClientID: in.ClientID, Code: in.refuse()}
		if out[i].Code != "" {
			continue
		}
		var s *mfmsStored
		if out[i].ProviderID, out[i].Code, s = a.takeHPX(c.start, in); s != nil {
			taken = append(taken, s)
		}
	}
	// Reports may come before the answer does.
	for _, s := range taken {
		s.u.take(s, problem)
	}
	c.answer(200, "ok", out)
}

// takeHPX stores a valid message under an id of ours; s is nil when it isn't taken.
func (a *MFMSAccount) takeHPX(arrived time.Time, in *hpxIn) (provider, code string, s *mfmsStored) {
	a.mu.Lock()
	if a.subject == "" {
		a.subject = *in.Subject
	}
	known, earlier := a.subject == *in.Subject, a.messages["client "+strings.ToLower(in.ClientID)]
	a.mu.Unlock()
	switch {
	case !known:
		return "", "error-subject-unknown", nil
	case earlier != nil:
		return earlier.id, "error-instant-message-client-id-not-unique", nil
	}
	u := a.byPhone(*in.Address)
	if u == nil && a.sim.cfg.AutoCustomers {
		if _, err := a.addCustomer(CustomerSpec{ID: *in.Address}); err == nil {
			u = a.byPhone(*in.Address)
		}
	}
	if u == nil {
		u = &MFMSCustomer{acct: a, name: "nobody", nobody: true}
		u.id, u.hash = *in.Address, filler(a.sim.cfg.Seed, uint64(len(*in.Address)))
	}
	s = &mfmsStored{u: u, m: &mfmsMessage{kind: "text", text: *in.Text}, fromBot: true, hpx: true, state: "enqueued", at: time.Now()}
	a.mu.Lock()
	defer a.mu.Unlock()
	if earlier := a.messages["client "+strings.ToLower(in.ClientID)]; earlier != nil { // at the same moment
		return earlier.id, "error-instant-message-client-id-not-unique", nil
	}
	a.provided++
	s.id = strconv.FormatUint(87_952_035+a.provided, 10)
	s.m.id, s.m.raw = s.id, mustJSON(in)
	a.messages["client "+strings.ToLower(in.ClientID)], a.messages[s.id] = s, s
	a.rec.countSend(arrived, u.hash)
	return s.id, "ok", s
}

// provide tells what became of messages.
func (c *hpxCall) provide(list []hpxIn) {
	out := make([]hpxOutMessage, len(list))
	seen := map[string]bool{}
	for i, in := range list {
		if in.ProviderID == nil || *in.ProviderID == "" || strings.Trim(*in.ProviderID, "0123456789") != "" {
			out[i].Code = "error-instant-message-provider-id-format"
			continue
		}
		out[i].ProviderID = *in.ProviderID
		c.a.mu.Lock()
		s := c.a.messages[*in.ProviderID]
		c.a.mu.Unlock()
		switch {
		case seen[*in.ProviderID]:
			out[i].Code = "error-instant-message-provider-id-duplicate"
		case s == nil || !s.hpx:
			out[i].Code = "error-instant-message-provider-id-unknown"
		default:
			s.u.mu.Lock()
			out[i] = s.hpxReport()
			s.u.mu.Unlock()
		}
		seen[*in.ProviderID] = true
	}
	c.answer(200, "ok", out)
}

// hpxReport is what a document says of a message; u.mu is held.
func (s *mfmsStored) hpxReport() hpxOutMessage {
	at := s.stateAt
	if at.IsZero() {
		at = s.at
	}
	return hpxOutMessage{ProviderID: s.id, Code: "ok", Status: &hpxStatus{Status: s.state, At: at.In(moscow).Format(time.DateTime), Error: s.problem}}
}

// callbackBody is the report as it is pushed; u.mu is held.
func (s *mfmsStored) callbackBody() []byte {
	if s.hpx {
		return hpxDocument(hpxReport, "ok", []hpxOutMessage{s.hpxReport()})
	}
	return mustJSON(s.report())
}

func isXML(body []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) }

// shown is a body as the records hold it: XML as a JSON string.
func shown(body []byte) json.RawMessage {
	if isXML(body) {
		return mustJSON(string(body))
	}
	return body
}
