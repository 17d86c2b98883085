package simulator

import (
	"bytes"
	"encoding/base64"
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

// infobipPlatform is the fake WhatsApp API of Infobip: sends of every kind,
// templates, subscriptions, media that want the key, reports and customers'
// messages by callback.
type infobipPlatform struct {
	sim *Simulator
	roster[*InfobipAccount]
}

// InfobipAccount is a WhatsApp number at Infobip. Its token is the API key.
type InfobipAccount struct {
	accountCore
	plat *infobipPlatform

	cmu    sync.RWMutex
	users  map[string]*InfobipCustomer // by phone and by user id
	people []*InfobipCustomer

	mu       sync.Mutex
	sender   string // the number; the first one used when nobody gave one
	subs     []*infobipSubscription
	taken    map[string]bool // message ids
	next     uint64
	overall  gcra
	reads    gcra // of media
	noScope  bool // the key may not subscribe
	template []infobipTemplate
}

type infobipTemplate struct{ name, language string }

// infobipSubscription is one webhook; each gets every event that it wants.
type infobipSubscription struct {
	id     string
	url    string
	events []string
	auth   string // header of a callback
	hooks  *dispatcher
}

const (
	maxInfobipRequest = 1 << 20
	infobipTime       = "2006-01-02T15:04:05.000-0700"
	infobipMediaLife  = 7 * 24 * time.Hour
	infobipMediaRate  = 15 // a second
)

func newInfobip(s *Simulator) *infobipPlatform {
	return &infobipPlatform{sim: s, roster: newRoster[*InfobipAccount]()}
}

func (p *infobipPlatform) name() string { return "infobip" }

func (p *infobipPlatform) actions() []string { return InfobipActions() }

func validInfobipKey(k string) bool {
	return len(k) >= 8 && !strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r > '~' })
}

func (p *infobipPlatform) register(spec AccountSpec) (account, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if spec.Token == "" {
		spec.Token = fmt.Sprintf("%016x%016x-infobip", filler(p.sim.cfg.Seed, uint64(len(p.list)+1)*64), filler(p.sim.cfg.Seed, uint64(len(p.list)+1)*64+1))
	}
	if !validInfobipKey(spec.Token) {
		return nil, fmt.Errorf("infobip key: want 8 or more visible characters")
	}
	if a, ok := p.byToken[spec.Token]; ok {
		a.Set(spec.AccountOptions)
		return a, nil
	}
	a := &InfobipAccount{plat: p, users: map[string]*InfobipCustomer{}, taken: map[string]bool{}, template: []infobipTemplate{
		{"order_ready", "ru"}, {"order_ready", "en"}, {"hello", "ru"}, {"hello", "en"},
	}}
	a.setup(p.sim, "infobip", spec.Token, "key-"+strconv.FormatUint(filler(0, uint64(len(p.list)))>>40, 16), spec.Name, spec.AccountOptions)
	p.add(spec.Token, a)
	return a, nil
}

// Infobip is the account of a key, registered if it is new. It panics on a key
// that none can be, which is a mistake of the caller's program.
func (s *Simulator) Infobip(key string) *InfobipAccount {
	a, err := s.infobip.register(AccountSpec{Token: key})
	if err != nil {
		panic(err)
	}
	return a.(*InfobipAccount)
}

// SetScope says whether the key may subscribe webhooks.
func (a *InfobipAccount) SetScope(subscriptions bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.noScope = !subscriptions
}

func (a *InfobipAccount) changed() {}

func (a *InfobipAccount) describe() map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	subs, pending, problem := []any{}, 0, ""
	for _, s := range a.subs {
		n, last, _ := s.hooks.waiting()
		pending += n
		if last != "" {
			problem = last
		}
		subs = append(subs, map[string]any{"id": s.id, "url": s.url, "events": s.events})
	}
	return map[string]any{
		"platform": "infobip", "account": a.ref, "name": a.name, "sender": a.sender, "subscriptions": subs,
		"pending": pending, "last_error": problem, "customers": len(a.customers()),
	}
}

// infobipCall is one API call.
type infobipCall struct {
	*call
	a       *InfobipAccount
	body    []byte
	problem int // a fault makes the message undeliverable with this error
}

func (p *infobipPlatform) serve(w http.ResponseWriter, r *http.Request, rest string) {
	if m, ok := strings.CutPrefix(rest, "storage/"); ok { // where media redirect to: without a key, and refusing one
		if r.Header.Get("Authorization") != "" {
			http.Error(w, "Only one auth mechanism allowed", http.StatusBadRequest)
			return
		}
		p.sim.media.serve(w, r, m)
		return
	}
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "App ")
	a := p.of(key)
	if a == nil && ok && p.sim.cfg.AutoRegister && validInfobipKey(key) {
		if reg, err := p.register(AccountSpec{Token: key}); err == nil {
			a = reg.(*InfobipAccount)
		}
	}
	if a == nil {
		w.Header()["Content-Type"] = jsonType
		w.WriteHeader(http.StatusUnauthorized)
		w.Write(infobipFailure(rest, http.StatusUnauthorized, "Invalid login details", nil)) //nolint:errcheck // the client may have gone
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxInfobipRequest+1))
	if err != nil {
		return // the client has gone
	}
	a.serve(w, r, rest, body)
}

// infobipFailure is an error in the shape of its path's age.
func infobipFailure(path string, status int, text string, fields map[string][]string) []byte {
	if strings.HasPrefix(path, "whatsapp/1/message/") || strings.HasPrefix(path, "whatsapp/1/senders/") {
		word := map[int]string{400: "BAD_REQUEST", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND", 429: "TOO_MANY_REQUESTS"}[status]
		if word == "" {
			word = "GENERAL_ERROR"
		}
		e := map[string]any{"messageId": word, "text": text}
		if fields != nil {
			e["validationErrors"] = fields
		}
		return mustJSON(map[string]any{"requestError": map[string]any{"serviceException": e}})
	}
	violations := []any{}
	for property, says := range fields {
		violations = append(violations, map[string]string{"property": property, "violation": strings.Join(says, ", ")})
	}
	return mustJSON(map[string]any{"errorCode": "E" + strconv.Itoa(status), "description": text, "action": "Check the request.", "violations": violations, "resources": []any{}})
}

func (c *infobipCall) path() string { return strings.TrimPrefix(c.r.URL.Path, "/infobip/") }

func (c *infobipCall) fail(status int, text string, fields map[string][]string) {
	c.a.sim.respond(c.call, status, status, text, infobipFailure(c.path(), status, text, fields))
}

func (c *infobipCall) bad(field, says string, args ...any) {
	c.fail(http.StatusBadRequest, "Bad Request", map[string][]string{field: {fmt.Sprintf(says, args...)}})
}

func (a *InfobipAccount) serve(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	method := path
	if kind, ok := strings.CutPrefix(path, "whatsapp/1/message/"); ok {
		method = kind
	}
	words := strings.Split(path, "/")
	media := len(words) == 6 && strings.HasPrefix(path, "whatsapp/1/senders/") && words[4] == "media"
	templates := len(words) == 5 && strings.HasPrefix(path, "whatsapp/2/senders/") && words[4] == "templates"
	switch {
	case media:
		method = "media"
	case templates:
		method = "templates"
	case path == "whatsapp/1/events":
		method = "events"
	case path == "subscriptions/1/subscription/WHATSAPP":
		method = "subscription"
	}
	c := &infobipCall{call: a.sim.begin(w, r, &a.accountCore, method, "/infobip/"+path), a: a, body: body}
	var to struct {
		To       string                `json:"to"`
		Messages []struct{ To string } `json:"messages"`
	}
	json.Unmarshal(body, &to) //nolint:errcheck // bad JSON gets its answer below
	if len(to.Messages) > 0 {
		to.To = to.Messages[0].To
	}
	if c.keep {
		c.rec.Customer = to.To
		switch {
		case len(body) == 0:
		case json.Valid(body):
			c.rec.Body = json.RawMessage(a.redact(string(body)))
		default:
			c.rec.Body = mustJSON(a.redact(string(body)))
		}
	}
	if c.inject(a.sim, method, to.To) {
		return
	}
	if c.fault != nil && c.faultAnswer() {
		return
	}
	post := r.Method == http.MethodPost
	switch {
	case a.opts.Load().revoked:
		c.fail(http.StatusUnauthorized, "Invalid login details", nil)
	case post && (len(body) > maxInfobipRequest || !json.Valid(body) || body[0] != '{'):
		c.fail(http.StatusBadRequest, "Bad Request", nil)
	case post && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
		c.fail(http.StatusUnsupportedMediaType, "Unsupported Media Type", nil)
	case media && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		c.media(words[3], words[5])
	case templates && r.Method == http.MethodGet:
		c.templates(words[3])
	case method == "events" && post:
		c.events()
	case method == "subscription" && post:
		c.subscribe()
	case strings.HasPrefix(path, "whatsapp/1/message/") && post:
		c.send(method)
	default:
		c.fail(http.StatusNotFound, "Not Found", nil)
	}
}

// faultAnswer renders an injected fault in Infobip's words; false for kinds that
// don't change the answer. Code is the error of the report.
func (c *infobipCall) faultAnswer() bool {
	f := c.fault
	status := 0
	switch f.Kind {
	case FaultThrottle:
		status = http.StatusTooManyRequests
		if f.RetryAfter > 0 {
			c.w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
	case FaultError:
		status = http.StatusInternalServerError
	case FaultUnauthorized:
		status = http.StatusUnauthorized
	case FaultForbidden:
		status = http.StatusForbidden
	case FaultBlocked: // told afterwards only
		c.problem = 7003
		return false
	default:
		return false
	}
	if f.Code >= 1000 { // told afterwards too
		c.problem = f.Code
		return false
	}
	if f.Status != 0 {
		status = f.Status
	}
	text := f.Description
	if text == "" {
		text = http.StatusText(status)
	}
	c.fail(status, text, nil)
	return true
}

// own reports whether the number is the account's; the first one used is.
func (a *InfobipAccount) own(sender string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sender == "" && infobipPhone(sender) {
		a.sender = sender
		if a.name == "" {
			a.name = "WhatsApp " + sender
		}
	}
	return a.sender == sender
}

// Sender is the account's number; a common one as long as nobody used any.
func (a *InfobipAccount) Sender() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sender == "" {
		return "79001112233"
	}
	return a.sender
}

func (c *infobipCall) templates(sender string) {
	if !c.a.own(sender) {
		c.fail(http.StatusForbidden, "Forbidden", nil)
		return
	}
	list := []any{}
	for i, t := range c.a.template {
		list = append(list, map[string]any{
			"id": strconv.Itoa(111 + i), "businessAccountId": 222, "name": t.name, "language": t.language, "status": "APPROVED", "category": "UTILITY",
			"structure": map[string]any{"type": "TEXT", "body": map[string]any{"text": "Hello {{1}}"}}, "quality": "HIGH",
		})
	}
	c.a.sim.respond(c.call, 200, 0, "ok", mustJSON(map[string]any{"templates": list}))
}

func (c *infobipCall) events() {
	var in struct {
		Events []struct {
			Sender       string                `json:"sender"`
			Destinations []struct{ To string } `json:"destinations"`
			Content      struct{ Type string } `json:"content"`
		} `json:"events"`
	}
	if json.Unmarshal(c.body, &in) != nil || len(in.Events) == 0 {
		c.bad("events", "must not be empty")
		return
	}
	for _, e := range in.Events {
		switch {
		case !c.a.own(e.Sender):
			c.fail(http.StatusForbidden, "Forbidden", nil)
			return
		case len(e.Destinations) == 0 || e.Content.Type != "TYPING_INDICATOR":
			c.bad("events[0]", "must name destinations and a type")
			return
		}
	}
	c.a.sim.respond(c.call, 200, 0, "ok", []byte(`{}`))
}

// media hands a customer's file out: half of them lie at a storage elsewhere.
func (c *infobipCall) media(sender, id string) {
	a := c.a
	if opts := a.opts.Load(); opts.realLimits {
		a.mu.Lock()
		wait := a.reads.take(time.Now(), 1, infobipMediaRate, infobipMediaRate)
		a.mu.Unlock()
		if wait > 0 {
			c.w.Header().Set("Retry-After", "1")
			c.fail(http.StatusTooManyRequests, "Too many requests", nil)
			return
		}
	}
	m := &a.sim.media
	m.mu.Lock()
	it, ok := m.items[id]
	m.mu.Unlock()
	switch {
	case sender != a.Sender() || !ok || time.Now().After(it.expires):
		c.fail(http.StatusNotFound, "Not Found", nil)
	case it.b.size%2 == 0:
		c.finish(http.StatusFound, 0, "ok")
		http.Redirect(c.w, c.r, a.sim.BaseURL()+"/infobip/storage/"+id+"/file", http.StatusFound)
	default:
		c.finish(http.StatusOK, 0, "ok")
		serveBlob(c.w, c.r, it.b, "")
	}
}

// infobipEvents are the events of WhatsApp that can be subscribed to.
var infobipEvents = []string{"DELIVERY", "SEEN", "INBOUND_MESSAGE", "CLICK", "TEMPLATE_UPDATE", "IDENTITY_CHANGE", "MARKETING_SUBSCRIPTION_UPDATE", "PAYMENT_STATUS"}

func (c *infobipCall) subscribe() {
	var in struct {
		ID        string   `json:"subscriptionId"`
		Events    []string `json:"events"`
		Resources []string `json:"resources"`
		Profile   struct {
			Webhook struct {
				URL string `json:"notifyUrl"`
			} `json:"webhook"`
			Security struct {
				Type        string                              `json:"type"`
				Credentials struct{ Username, Password string } `json:"credentials"`
			} `json:"security"`
			Bucket *int `json:"maxBucketSize"`
			Window *int `json:"windowSize"`
		} `json:"profile"`
	}
	a := c.a
	a.mu.Lock()
	noScope := a.noScope
	exists := false
	a.mu.Unlock()
	outside := func(n *int, low, high int) bool { return n != nil && (*n < low || *n > high) }
	err := json.Unmarshal(c.body, &in)
	for _, s := range a.subscriptions() {
		exists = exists || s.id == in.ID
	}
	switch p := &in.Profile; {
	case noScope:
		c.fail(http.StatusForbidden, "Forbidden", nil)
		return
	case err != nil || in.ID == "":
		c.bad("subscriptionId", "must not be blank")
		return
	case len(in.Events) == 0 || slices.ContainsFunc(in.Events, func(e string) bool { return !slices.Contains(infobipEvents, e) }):
		c.bad("events", "must be of %v", infobipEvents)
		return
	case !fetchableURL(p.Webhook.URL) || len(p.Webhook.URL) > 512:
		c.bad("profile.webhook.notifyUrl", "must be a URL of up to 512 characters")
		return
	case p.Security.Type != "" && p.Security.Type != "BASIC":
		c.bad("profile.security.type", "is not faked")
		return
	case outside(p.Bucket, 1, 2000) || outside(p.Window, 20, 10000):
		c.bad("profile", "maxBucketSize 1..2000, windowSize 20..10000")
		return
	case exists:
		c.fail(http.StatusConflict, "Subscription already exists", nil)
		return
	}
	for _, r := range in.Resources {
		if !a.own(r) {
			c.fail(http.StatusForbidden, "Forbidden", nil)
			return
		}
	}
	s := &infobipSubscription{id: in.ID, url: in.Profile.Webhook.URL, events: in.Events}
	if k := in.Profile.Security.Credentials; in.Profile.Security.Type == "BASIC" {
		s.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(k.Username+":"+k.Password))
	}
	s.hooks = &dispatcher{
		sim: a.sim, acct: &a.accountCore,
		prepare: func(h http.Header, _ []byte, forged bool) {
			switch {
			case forged:
				h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("stranger:forged")))
			case s.auth != "":
				h.Set("Authorization", s.auth)
			}
		},
		accepts: func(status int) bool { return status/100 == 2 },
	}
	s.hooks.start(s.url, 50)
	a.mu.Lock()
	a.subs = append(a.subs, s)
	a.mu.Unlock()
	a.sim.demo.connected(a)
	a.sim.respond(c.call, 200, 0, "ok", mustJSON(map[string]any{"subscriptionId": in.ID}))
}

func (a *InfobipAccount) subscriptions() []*infobipSubscription {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.subs)
}

// Webhooks are the subscribed addresses, oldest first.
func (a *InfobipAccount) Webhooks() []string {
	out := []string{}
	for _, s := range a.subscriptions() {
		out = append(out, s.url)
	}
	return out
}

// emit queues an event for every subscription that wants it; false when there is none.
func (a *InfobipAccount) emit(event, customer string, body []byte, t *tracker) bool {
	began, found := time.Now(), false
	for _, s := range a.subscriptions() {
		if !slices.Contains(s.events, event) && slices.Contains(infobipEvents, event) {
			continue
		}
		d := &delivery{key: customer, event: event, customer: customer, body: body, expires: began.Add(24 * time.Hour)}
		if !found {
			t.sent(began)
			d.acked = func([]byte) { t.acked(time.Since(began)) }
		}
		found = true
		s.hooks.add(d)
	}
	return found
}

// results wraps elements as a callback.
func infobipResults(elements ...any) []byte {
	return mustJSON(map[string]any{"results": elements, "messageCount": len(elements), "pendingMessageCount": 0})
}

func (a *InfobipAccount) inject(raw []byte) (Sent, error) {
	if !json.Valid(raw) {
		return Sent{}, fmt.Errorf("raw callback: not JSON")
	}
	var in struct {
		Results []struct {
			ID   string `json:"messageId"`
			From string `json:"from"`
		} `json:"results"`
	}
	json.Unmarshal(raw, &in) //nolint:errcheck // a raw callback may be anything
	var sent Sent
	who := ""
	if len(in.Results) > 0 {
		sent.MessageID, who = in.Results[0].ID, in.Results[0].From
	}
	sent.Dropped = !a.emit("raw", who, bytes.Clone(raw), nil)
	return sent, nil
}

// Inject queues a raw callback.
func (a *InfobipAccount) Inject(raw string) (Sent, error) { return a.inject([]byte(raw)) }

// Pending is the number of callbacks not yet acknowledged.
func (a *InfobipAccount) Pending() (n int) {
	for _, s := range a.subscriptions() {
		waiting, _, _ := s.hooks.waiting()
		n += waiting
	}
	return n
}

func (a *InfobipAccount) byKey(key string) *InfobipCustomer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	return a.users[strings.TrimPrefix(key, "+")]
}

func (a *InfobipAccount) customers() []customer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	out := make([]customer, len(a.people))
	for i, p := range a.people {
		out[i] = p
	}
	return out
}

func (a *InfobipAccount) customer(id string) (customer, bool) {
	if u := a.byKey(id); u != nil {
		return u, true
	}
	return nil, false
}

// Customer is the customer with this phone, created if new. "" makes a new one.
// One that is created has written within 24 hours.
func (a *InfobipAccount) Customer(phone string) *InfobipCustomer {
	if u := a.byKey(phone); phone != "" && u != nil {
		return u
	}
	c, err := a.addCustomer(CustomerSpec{ID: phone, Started: true})
	if err != nil {
		panic(err) // a phone that nobody can have
	}
	return c.(*InfobipCustomer)
}

// NewCustomer adds a customer; the error names what is wrong with the spec.
func (a *InfobipAccount) NewCustomer(spec CustomerSpec) (*InfobipCustomer, error) {
	c, err := a.addCustomer(spec)
	if err != nil {
		return nil, err
	}
	return c.(*InfobipCustomer), nil
}

func infobipPhone(s string) bool {
	return len(s) >= 5 && len(s) <= 15 && strings.Trim(s, "0123456789") == ""
}

func (a *InfobipAccount) addCustomer(spec CustomerSpec) (customer, error) {
	if spec.Receipts != "" {
		if err := checkReceipts(&spec.Receipts); err != nil {
			return nil, err
		}
	}
	a.cmu.Lock()
	defer a.cmu.Unlock()
	n := uint64(len(a.people) + 1)
	phone := strings.TrimPrefix(spec.ID, "+")
	if phone == "" {
		phone = spec.Phone
	}
	for i := n; spec.ID == "" && (phone == "" || a.users[phone] != nil); i++ {
		phone = fmt.Sprintf("7926%07d", filler(a.sim.cfg.Seed, i<<9)%10_000_000)
	}
	if !infobipPhone(phone) {
		return nil, fmt.Errorf("infobip customer id %q: want a phone in digits", spec.ID)
	}
	if a.users[phone] != nil {
		return nil, fmt.Errorf("infobip customer %s exists already", phone)
	}
	u := &InfobipCustomer{acct: a, name: strings.TrimSpace(spec.FirstName + " " + spec.LastName), username: spec.Username, receipts: spec.Receipts}
	if u.name == "" {
		u.name = "Customer"
	}
	if u.receipts == "" {
		u.receipts = "seen"
	}
	u.id, u.hash = phone, filler(a.sim.cfg.Seed, n<<17)
	u.user = fmt.Sprintf("RU.%016d", u.hash%1e16)
	if spec.Started {
		u.wrote = time.Now()
	}
	a.users[phone], a.users[u.user] = u, u
	a.people = append(a.people, u)
	return u, nil
}

// link is a customer's file, which wants the key.
func (a *InfobipAccount) link(b *blob) string {
	id := a.sim.media.put(b, a.sim.cfg.Seed, infobipMediaLife)
	return a.sim.BaseURL() + "/infobip/whatsapp/1/senders/" + url.PathEscape(a.Sender()) + "/media/" + id
}

var (
	_ platform = (*infobipPlatform)(nil)
	_ account  = (*InfobipAccount)(nil)
	_ customer = (*InfobipCustomer)(nil)
)
