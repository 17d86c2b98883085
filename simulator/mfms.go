package simulator

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// mfmsPlatform is the fake JSON connector of MFMS for WhatsApp: imOutMessage and
// imOutHSM, reports and customers' messages by callback; the XML connector is in
// mfms_hpx.go. MFMS publishes no
// documents; what is taken from the papers of the same platform (edna IM) and
// what is a guess is told where it stands.
type mfmsPlatform struct {
	sim *Simulator
	roster[*MFMSAccount]
}

// MFMSAccount is a WhatsApp number at MFMS. Its token is the API key, or
// "login:password".
type MFMSAccount struct {
	accountCore
	plat *mfmsPlatform

	cmu    sync.RWMutex
	users  map[string]*MFMSCustomer // by phone
	people []*MFMSCustomer

	mu        sync.Mutex
	subject   string // the sender's name; the first one used when nobody gave one
	messages  map[string]*mfmsStored
	next      uint64 // id of the next message from a customer
	provided  uint64 // messages taken over the XML connector
	templates []string
	window    bool
	hook      string // address without user and password
	auth      string // header of a callback
	overall   gcra
}

func newMFMS(s *Simulator) *mfmsPlatform {
	return &mfmsPlatform{sim: s, roster: newRoster[*MFMSAccount]()}
}

func (p *mfmsPlatform) name() string { return "mfms" }

func (p *mfmsPlatform) actions() []string { return MFMSActions() }

// validMFMSToken: a key, or login and password, of visible characters and spaces.
func validMFMSToken(t string) bool {
	return len(t) >= 4 && !strings.HasPrefix(t, ":") && !strings.ContainsFunc(t, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func (p *mfmsPlatform) register(spec AccountSpec) (account, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if spec.Token == "" {
		spec.Token = fmt.Sprintf("shop%d:%016x", len(p.list)+1, filler(p.sim.cfg.Seed, uint64(len(p.list)+1)*32))
	}
	if !validMFMSToken(spec.Token) {
		return nil, fmt.Errorf("mfms token: want an API key, or login and password joined by a colon")
	}
	if a, ok := p.byToken[spec.Token]; ok {
		a.Set(spec.AccountOptions)
		a.changed()
		return a, nil
	}
	ref, _, isLogin := strings.Cut(spec.Token, ":")
	if !isLogin {
		sum := sha256.Sum256([]byte(spec.Token))
		ref = "key-" + hex.EncodeToString(sum[:4])
	}
	a := &MFMSAccount{plat: p, subject: spec.Name, users: map[string]*MFMSCustomer{}, messages: map[string]*mfmsStored{}, next: 77_120}
	a.setup(p.sim, "mfms", spec.Token, ref, spec.Name, spec.AccountOptions)
	a.hooks = &dispatcher{
		sim: p.sim, acct: &a.accountCore,
		prepare: func(h http.Header, body []byte, forged bool) {
			if isXML(body) {
				h.Set("Content-Type", hpxType)
			}
			a.authorise(h, forged)
		},
		accepts: func(status int) bool { return status == http.StatusOK },
	}
	a.changed()
	p.add(spec.Token, a)
	return a, nil
}

// MFMS is the account of a key, or of "login:password", registered if it is new.
// It panics on a token that none can have, which is a mistake of the caller's
// program.
func (s *Simulator) MFMS(token string) *MFMSAccount {
	a, err := s.mfms.register(AccountSpec{Token: token})
	if err != nil {
		panic(err)
	}
	return a.(*MFMSAccount)
}

// changed points the callbacks to the address that the options name: MFMS's
// people enter it by hand.
func (a *MFMSAccount) changed() {
	o := a.opts.Load()
	hook, auth := "", ""
	if u, err := url.Parse(o.webhook); err == nil && o.webhook != "" && u.Host != "" {
		if u.User != nil {
			password, _ := u.User.Password()
			auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
		}
		u.User = nil
		hook = u.String()
	}
	a.mu.Lock()
	before := a.hook
	a.hook, a.auth, a.templates, a.window = hook, auth, o.templates, o.window
	a.mu.Unlock()
	switch {
	case hook == "" && before != "":
		a.hooks.stop()
	case hook != before:
		a.hooks.start(hook, 20)
		a.sim.demo.connected(a)
	}
}

// SetWebhook tells MFMS where to call, with user and password in the address.
func (a *MFMSAccount) SetWebhook(address string) {
	a.Set(AccountOptions{Webhook: &address})
	a.changed()
}

// authorise adds the user and password of the address.
func (a *MFMSAccount) authorise(h http.Header, forged bool) {
	a.mu.Lock()
	auth := a.auth
	a.mu.Unlock()
	if forged {
		auth = "Basic " + base64.StdEncoding.EncodeToString([]byte("stranger:forged"))
	}
	if auth != "" {
		h.Set("Authorization", auth)
	}
}

func (a *MFMSAccount) describe() map[string]any {
	waiting, problem, _ := a.hooks.waiting()
	a.mu.Lock()
	defer a.mu.Unlock()
	return map[string]any{
		"platform": "mfms", "account": a.ref, "name": a.name, "subject": a.subject, "webhook": a.hook, "templates": a.templates, "window": a.window,
		"pending": waiting, "last_error": problem, "customers": len(a.customers()),
	}
}

// mfmsCall is one API call.
type mfmsCall struct {
	*call
	a       *MFMSAccount
	body    []byte
	problem string // a fault makes the message undeliverable for it
}

const maxMFMSRequest = 256 << 10

// token finds the account's credentials: a key (documented), or Basic (a guess).
func mfmsToken(r *http.Request) string {
	if key := r.Header.Get("X-API-KEY"); key != "" {
		return key
	}
	login, password, ok := r.BasicAuth()
	if !ok {
		return ""
	}
	return login + ":" + password
}

func (p *mfmsPlatform) serve(w http.ResponseWriter, r *http.Request, rest string) {
	if m, ok := strings.CutPrefix(rest, "media/"); ok {
		p.sim.media.serve(w, r, m)
		return
	}
	if strings.HasSuffix(rest, "/service") && r.Method == http.MethodPost {
		p.serveHPX(w, r, rest)
		return
	}
	method, ok := strings.CutPrefix(rest, "api/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	token := mfmsToken(r)
	a := p.of(token)
	if a == nil && p.sim.cfg.AutoRegister && validMFMSToken(token) {
		if reg, err := p.register(AccountSpec{Token: token}); err == nil {
			a = reg.(*MFMSAccount)
		}
	}
	if a == nil {
		w.Header()["Content-Type"] = jsonType
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"code":"error-unauthorized"}`)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxMFMSRequest+1))
	if err != nil {
		return // the client has gone
	}
	a.serve(w, r, method, body)
}

func (a *MFMSAccount) serve(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	method, id, _ := strings.Cut(path, "/")
	c := &mfmsCall{call: a.sim.begin(w, r, &a.accountCore, method, "/mfms/api/"+path), a: a, body: body}
	var in struct {
		Address string `json:"address"`
	}
	json.Unmarshal(body, &in) //nolint:errcheck // bad JSON gets its answer below
	if c.keep {
		c.rec.Customer = in.Address
		switch {
		case len(body) == 0:
		case json.Valid(body):
			c.rec.Body = json.RawMessage(a.redact(string(body)))
		default:
			c.rec.Body = mustJSON(a.redact(string(body)))
		}
	}
	if c.inject(a.sim, method, in.Address) {
		return
	}
	if c.fault != nil && c.faultAnswer() {
		return
	}
	switch {
	case a.opts.Load().revoked:
		c.fail(http.StatusUnauthorized, "error-unauthorized", "")
	case method == "imOutMessage" && id != "" && r.Method == http.MethodGet:
		c.poll(id)
	case (method == "imOutMessage" || method == "imOutHSM") && id == "" && r.Method == http.MethodPost:
		c.send(method == "imOutHSM")
	case method == "imOutMessage" || method == "imOutHSM":
		c.fail(http.StatusMethodNotAllowed, "error-syntax", "")
	default:
		c.fail(http.StatusNotFound, "error-not-found", "")
	}
}

// fail answers with a code; the HTTP status is 200 for refused messages.
func (c *mfmsCall) fail(status int, code, id string) {
	out := map[string]any{"code": code}
	if id != "" {
		out["id"] = id
	}
	number := 0
	if code != "ok" {
		number = 1 // there are no numbers; anything but 0 is a refusal
	}
	c.a.sim.respond(c.call, status, number, code, mustJSON(out))
}

// faultAnswer renders an injected fault in MFMS's words; false for kinds that
// don't change the answer. Description is the code.
func (c *mfmsCall) faultAnswer() bool {
	f := c.fault
	status, code := http.StatusOK, f.Description
	switch f.Kind {
	case FaultThrottle: // not documented: a gateway's
		status = http.StatusTooManyRequests
		if f.Status != 0 {
			status = f.Status
		}
		if f.RetryAfter > 0 {
			c.w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		c.a.sim.respond(c.call, status, status, "throttled", []byte("Too Many Requests"))
		return true
	case FaultError:
		if code == "" {
			code = "error-system"
			status = http.StatusInternalServerError
		}
		if f.Status != 0 {
			status = f.Status
		}
	case FaultUnauthorized:
		status, code = http.StatusUnauthorized, "error-unauthorized"
	case FaultForbidden:
		if code == "" {
			code = "error-permission"
		}
	case FaultBlocked: // told afterwards only
		c.problem = "user-blocked"
		return false
	default:
		return false
	}
	c.fail(status, code, "")
	return true
}

// poll answers with the status as a callback would tell it.
func (c *mfmsCall) poll(id string) {
	c.a.mu.Lock()
	s := c.a.messages[strings.ToLower(id)]
	c.a.mu.Unlock()
	if s == nil {
		c.fail(http.StatusOK, "error-not-found", "")
		return
	}
	s.u.mu.Lock()
	body := s.report()
	s.u.mu.Unlock()
	body["code"] = "ok"
	c.a.sim.respond(c.call, http.StatusOK, 0, "ok", mustJSON(body))
}

// emit queues a callback; false when nobody entered an address.
func (a *MFMSAccount) emit(event, customer string, body []byte, t *tracker) bool {
	a.mu.Lock()
	hook := a.hook
	a.mu.Unlock()
	if hook == "" {
		return false
	}
	began := time.Now()
	t.sent(began)
	a.hooks.add(&delivery{
		key: customer, event: event, customer: customer, body: body,
		expires: began.Add(40 * time.Minute), // the newer interface repeats for 36 minutes
		acked:   func([]byte) { t.acked(time.Since(began)) },
	})
	return true
}

func (a *MFMSAccount) inject(raw []byte) (Sent, error) {
	if !json.Valid(raw) && !isXML(raw) {
		return Sent{}, fmt.Errorf("raw callback: neither JSON nor XML")
	}
	var in struct {
		ID      json.RawMessage `json:"id"`
		Address string          `json:"address"`
	}
	json.Unmarshal(raw, &in) //nolint:errcheck // a raw callback may be anything
	return Sent{MessageID: strings.Trim(string(in.ID), `"`), Dropped: !a.emit("raw", in.Address, raw, nil)}, nil
}

// Inject queues a raw callback.
func (a *MFMSAccount) Inject(raw string) (Sent, error) { return a.inject([]byte(raw)) }

// Pending is the number of callbacks that were not acknowledged.
func (a *MFMSAccount) Pending() int {
	n, _, _ := a.hooks.waiting()
	return n
}

func (a *MFMSAccount) byPhone(phone string) *MFMSCustomer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	return a.users[strings.TrimPrefix(phone, "+")]
}

func (a *MFMSAccount) customers() []customer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	out := make([]customer, len(a.people))
	for i, p := range a.people {
		out[i] = p
	}
	return out
}

func (a *MFMSAccount) customer(id string) (customer, bool) {
	if u := a.byPhone(id); u != nil {
		return u, true
	}
	return nil, false
}

// Customer is the customer with this phone, created if new. "" makes a new one.
func (a *MFMSAccount) Customer(phone string) *MFMSCustomer {
	if u := a.byPhone(phone); phone != "" && u != nil {
		return u
	}
	c, err := a.addCustomer(CustomerSpec{ID: phone})
	if err != nil {
		panic(err) // a phone that nobody can have
	}
	return c.(*MFMSCustomer)
}

// NewCustomer adds a customer; the error names what is wrong with the spec.
func (a *MFMSAccount) NewCustomer(spec CustomerSpec) (*MFMSCustomer, error) {
	c, err := a.addCustomer(spec)
	if err != nil {
		return nil, err
	}
	return c.(*MFMSCustomer), nil
}

func validPhone(s string) bool {
	return len(s) >= 7 && len(s) <= 15 && s[0] != '0' && strings.Trim(s, "0123456789") == ""
}

func (a *MFMSAccount) addCustomer(spec CustomerSpec) (customer, error) {
	if err := checkReceipts(&spec.Receipts); err != nil {
		return nil, err
	}
	a.cmu.Lock()
	defer a.cmu.Unlock()
	phone := strings.TrimPrefix(spec.ID, "+")
	if phone == "" {
		phone = strings.TrimPrefix(spec.Phone, "+")
	}
	n := uint64(len(a.people) + 1)
	for i := n; spec.ID == "" && spec.Phone == "" && (phone == "" || a.users[phone] != nil); i++ {
		phone = fmt.Sprintf("7926%07d", filler(a.sim.cfg.Seed, i<<9)%10_000_000)
	}
	if !validPhone(phone) {
		return nil, fmt.Errorf("mfms customer %q: want the digits of a phone, 7 to 15", phone)
	}
	if a.users[phone] != nil {
		return nil, fmt.Errorf("mfms customer %s exists already", phone)
	}
	name := strings.TrimSpace(spec.FirstName + " " + spec.LastName)
	if name == "" {
		name = "Customer"
	}
	u := &MFMSCustomer{acct: a, name: name, receipts: spec.Receipts, avatar: spec.Avatar}
	u.id, u.hash = phone, filler(a.sim.cfg.Seed, n<<17)
	a.users[phone] = u
	a.people = append(a.people, u)
	return u, nil
}

// SetTemplates replaces the approved templates; {{1}} and the like stand for any
// words.
func (a *MFMSAccount) SetTemplates(texts ...string) {
	list := slices.Clone(texts)
	a.Set(AccountOptions{Templates: &list})
	a.changed()
}

var (
	_ platform = (*mfmsPlatform)(nil)
	_ account  = (*MFMSAccount)(nil)
	_ customer = (*MFMSCustomer)(nil)
)
