package simulator

import (
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

// okPlatform is the fake Graph API of Odnoklassniki, for groups' messages.
type okPlatform struct {
	sim *Simulator
	roster[*OKAccount]
	seq int64 // grows by at least one a message; above 2^53
}

// OKAccount is a group with messages switched on.
type OKAccount struct {
	accountCore
	plat  *okPlatform
	group string // group:...

	cmu    sync.RWMutex
	users  map[string]*OKCustomer // by user id
	chats  map[string]*OKCustomer // by chat id
	people []*OKCustomer

	mu      sync.Mutex
	subs    []*okSubscription
	slots   map[string]*okSlot // by the upload's address
	tokens  map[string]*okSlot // by the attachment's token
	slot    uint64
	overall gcra
}

// okSubscription is one webhook address; each gets every event.
type okSubscription struct {
	url   string
	types []string
	since time.Time
	hooks *dispatcher
}

// okSlot is a place to upload to.
type okSlot struct {
	kind  string
	id    string
	token string
	used  bool
	file  *FileInfo
	b     *blob
}

func newOK(s *Simulator) *okPlatform { return &okPlatform{sim: s, roster: newRoster[*OKAccount]()} }

func (p *okPlatform) name() string { return "ok" }

func (p *okPlatform) actions() []string { return OKActions() }

// validOKToken: two words of letters and digits, joined by a colon.
func validOKToken(t string) bool {
	a, b, ok := strings.Cut(t, ":")
	word := func(s string) bool {
		return len(s) >= 4 && strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_") == ""
	}
	return ok && word(a) && word(b)
}

func (p *okPlatform) register(spec AccountSpec) (account, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if spec.Token == "" {
		spec.Token = fmt.Sprintf("tkn%010d:%016X", len(p.list)+1, filler(p.sim.cfg.Seed, uint64(len(p.list)+1)*16))
	}
	if !validOKToken(spec.Token) {
		return nil, fmt.Errorf("ok token: want two words of letters and digits, joined by a colon")
	}
	if a, ok := p.byToken[spec.Token]; ok {
		a.Set(spec.AccountOptions)
		return a, nil
	}
	if spec.Name == "" {
		spec.Name = "Support group"
	}
	ref, _, _ := strings.Cut(spec.Token, ":")
	a := &OKAccount{plat: p, users: map[string]*OKCustomer{}, chats: map[string]*OKCustomer{}, slots: map[string]*okSlot{}, tokens: map[string]*okSlot{}}
	a.setup(p.sim, "ok", spec.Token, ref, spec.Name, spec.AccountOptions)
	a.group = fmt.Sprintf("group:%014d", 50_000_000_000_000+filler(p.sim.cfg.Seed, uint64(len(p.list)))%1e13)
	p.add(spec.Token, a)
	return a, nil
}

// nextSeq is the next message's counter: the time in 1/65536 ms, as in OK's examples.
func (p *okPlatform) nextSeq(now time.Time) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq = max(p.seq+1, now.UnixMilli()<<16)
	return p.seq
}

// OK is the account of a group's token, registered if it is new. It panics on a
// token that no group can have, which is a mistake of the caller's program.
func (s *Simulator) OK(token string) *OKAccount {
	a, err := s.ok.register(AccountSpec{Token: token})
	if err != nil {
		panic(err)
	}
	return a.(*OKAccount)
}

func (a *OKAccount) changed() {}

func (a *OKAccount) describe() map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	subs, pending, problem := []any{}, 0, ""
	for _, s := range a.subs {
		n, last, _ := s.hooks.waiting()
		pending += n
		if last != "" {
			problem = last
		}
		subs = append(subs, map[string]any{"url": s.url, "types": s.types, "time": s.since.UnixMilli()})
	}
	return map[string]any{
		"platform": "ok", "account": a.ref, "name": a.name, "group_id": a.group, "subscriptions": subs,
		"pending": pending, "last_error": problem, "customers": len(a.customers()),
	}
}

// okError is one of OK's errors.
type okError struct {
	code int
	text string
}

// okNames are the codes of the documents.
var okNames = map[int]string{
	1: "UNKNOWN", 2: "SERVICE", 3: "METHOD", 4: "REQUEST", 7: "ACTION_BLOCKED", 8: "FLOOD_BLOCKED", 9: "IP_BLOCKED", 10: "PERMISSION_DENIED",
	11: "LIMIT_REACHED", 12: "CANCELLED", 21: "NOT_MULTIPART", 22: "NOT_ACTIVATED", 23: "NOT_YET_INVOLVED", 24: "NOT_OWNER", 25: "NOT_ACTIVE",
	26: "TOTAL_LIMIT_REACHED", 100: "PARAM", 101: "PARAM_API_KEY", 102: "PARAM_SESSION_EXPIRED", 103: "PARAM_SESSION_KEY", 104: "PARAM_SIGNATURE",
}

func okFail(code int, detail string, args ...any) *okError {
	text := okNames[code]
	if text == "" {
		text = "ERROR"
	}
	if detail != "" {
		text += " : " + fmt.Sprintf(detail, args...)
	}
	return &okError{code, text}
}

func okParam(detail string, args ...any) *okError { return okFail(100, detail, args...) }

// okCall is one API call.
type okCall struct {
	*call
	a    *OKAccount
	body []byte
	q    url.Values
}

const (
	maxOKRequest = 1 << 20
	okJSON       = "application/json;charset=utf-8"
)

func (p *okPlatform) serve(w http.ResponseWriter, r *http.Request, rest string) {
	if m, ok := strings.CutPrefix(rest, "media/"); ok {
		p.sim.media.serve(w, r, m)
		return
	}
	if id, ok := strings.CutPrefix(rest, "upload/"); ok {
		p.upload(w, r, id)
		return
	}
	method, ok := strings.CutPrefix(rest, "graph/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	token := r.URL.Query().Get("access_token")
	a := p.of(token)
	if a == nil && p.sim.cfg.AutoRegister && validOKToken(token) {
		if reg, err := p.register(AccountSpec{Token: token}); err == nil {
			a = reg.(*OKAccount)
		}
	}
	if a == nil {
		e := okFail(103, "Invalid session key")
		w.Header()["Content-Type"] = jsonType
		w.Header().Set("invocation-error", strconv.Itoa(e.code))
		json.NewEncoder(w).Encode(map[string]any{"error_code": e.code, "error_msg": e.text, "error_data": nil}) //nolint:errcheck // the client may have gone
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxOKRequest+1))
	if err != nil {
		return // the client has gone
	}
	a.serve(w, r, method, body)
}

// route names a call after its path, with ids left out, and finds its chat:
// "me/messages/chat:C1" is me/messages in chat:C1.
func okRoute(path string) (method, chat string) {
	var words []string
	for part := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(part, "chat:") {
			chat = part
			continue
		}
		words = append(words, part)
	}
	method = strings.Join(words, "/")
	switch {
	case method == "messages":
		method = "me/messages" // the same in another spelling
	case chat != "" && (method == "answer" || method == "action" || method == "url"):
		method = "chat/" + method
	}
	return method, chat
}

func (a *OKAccount) serve(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	method, chat := okRoute(path)
	c := &okCall{call: a.sim.begin(w, r, &a.accountCore, method, "/ok/graph/"+path), a: a, body: body, q: r.URL.Query()}
	if chat == "" {
		chat = c.q.Get("chat_id")
	}
	who := ""
	if u := a.byKey(chat); u != nil {
		who = u.id
	}
	if who == "" && r.Method == http.MethodPost {
		var in struct {
			Recipient struct {
				Chat string `json:"chat_id"`
				User string `json:"user_id"`
			} `json:"recipient"`
		}
		json.Unmarshal(body, &in) //nolint:errcheck // bad JSON gets its answer below
		if u := a.byKey(in.Recipient.Chat + in.Recipient.User); u != nil {
			who = u.id
		}
	}
	if c.keep {
		c.rec.Customer = who
		c.rec.Params = map[string]string{}
		for k := range c.q {
			if k != "access_token" {
				c.rec.Params[k] = c.q.Get(k)
			}
		}
		switch {
		case len(body) == 0:
		case json.Valid(body):
			c.rec.Body = json.RawMessage(a.redact(string(body)))
		default:
			c.rec.Body = mustJSON(a.redact(string(body)))
		}
	}
	if c.inject(a.sim, method, who) {
		return
	}
	if c.fault != nil && c.faultAnswer() {
		return
	}
	out := map[string]any{}
	if e := c.dispatch(method, chat, out); e != nil {
		c.fail(200, e)
		return
	}
	a.sim.respond(c.call, 200, 0, "ok", mustJSON(out))
}

// fail answers as OK does: HTTP 200, the code in the body and in a header.
func (c *okCall) fail(status int, e *okError) {
	c.w.Header().Set("invocation-error", strconv.Itoa(e.code))
	if e.code == 8 || e.code == 11 {
		c.a.rec.countThrottled(c.start)
	}
	c.a.sim.respond(c.call, status, e.code, e.text, mustJSON(map[string]any{"error_code": e.code, "error_msg": e.text, "error_data": nil}))
}

// faultAnswer renders an injected fault in OK's words; false for kinds that
// don't change the answer.
func (c *okCall) faultAnswer() bool {
	f := c.fault
	status, code := 200, f.Code
	switch f.Kind {
	case FaultThrottle:
		if code == 0 {
			status = http.StatusTooManyRequests
		}
		if f.Status != 0 {
			status = f.Status
		}
		if f.RetryAfter > 0 {
			c.w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		if status == http.StatusTooManyRequests { // a gateway's, not OK's own
			c.a.rec.countThrottled(c.start)
			c.write(status, status, f.Description, []byte("Too Many Requests"))
			return true
		}
	case FaultError:
		if code == 0 {
			code = 1
			status = http.StatusInternalServerError
		}
		if f.Status != 0 {
			status = f.Status
		}
	case FaultUnauthorized:
		code = 102
	case FaultForbidden:
		if code == 0 {
			code = 10
		}
	case FaultBlocked:
		code = 7
	default:
		return false
	}
	e := okFail(code, "")
	if f.Description != "" {
		e.text = f.Description
	}
	c.fail(status, e)
	return true
}

func (c *okCall) dispatch(method, chat string, out map[string]any) *okError {
	if c.a.opts.Load().revoked {
		return okFail(102, "Session expired")
	}
	post := c.r.Method == http.MethodPost
	switch {
	case c.r.Method != http.MethodGet && !post:
		return okFail(4, "Unsupported HTTP method")
	case post && strings.ReplaceAll(strings.ToLower(c.r.Header.Get("Content-Type")), " ", "") != okJSON:
		return okFail(4, "Content-Type must be %s", okJSON)
	case post && len(c.body) > maxOKRequest:
		return okFail(4, "The request is too large")
	case post && (!json.Valid(c.body) || c.body[0] != '{'):
		return okFail(4, "The body is not a JSON object")
	}
	switch {
	case method == "me/info" && !post:
		out["name"], out["group_id"] = c.a.name, c.a.group
	case method == "me/subscribe" && post:
		return c.subscribe(out)
	case method == "me/unsubscribe" && post:
		return c.unsubscribe(out)
	case method == "me/subscriptions" && !post:
		c.subscriptions(out)
	case method == "me/updates" && !post:
		return okFail(5000, "Subscribe with longPolling first")
	case method == "me/fileUploadUrl" && !post:
		return c.uploadURL(out)
	case method == "me/chats" && !post:
		return c.chats(out)
	case method == "me/chat" && !post:
		u := c.a.byKey(chat)
		if u == nil {
			return okParam("Invalid parameter chat_id")
		}
		for k, v := range u.chatObject() {
			out[k] = v
		}
	case method == "chat/url" && !post:
		u := c.a.byKey(chat)
		if u == nil {
			return okParam("Invalid parameter chat_id")
		}
		out["url"] = "https://ok.ru/messages/" + strings.TrimPrefix(u.chat, "chat:")
	case method == "me/messages" && !post:
		return c.history(chat, out)
	case method == "me/messages":
		return c.messages(chat, out)
	case method == "chat/answer" && post:
		return c.answer(chat, out)
	case method == "chat/action" && post:
		return c.action(chat, out)
	default:
		return okFail(3, "No such method")
	}
	return nil
}

// okEvents are the events that can be subscribed to.
var okEvents = []string{"MESSAGE_CREATED", "MESSAGE_CALLBACK", "CHAT_SYSTEM"}

func (c *okCall) subscribe(out map[string]any) *okError {
	var in struct {
		URL   string   `json:"url"`
		Types []string `json:"types"`
		Long  bool     `json:"longPolling"`
	}
	if json.Unmarshal(c.body, &in) != nil {
		return okParam("Invalid parameter")
	}
	for _, t := range in.Types {
		if !slices.Contains(okEvents, t) {
			return okParam("Invalid parameter types")
		}
	}
	if in.Long {
		return okFail(3, "long polling is not faked")
	}
	if !fetchableURL(in.URL) {
		return okParam("Invalid parameter url")
	}
	if len(in.Types) == 0 {
		in.Types = okEvents
	}
	a := c.a
	a.mu.Lock()
	// The address is not tried out.
	i := slices.IndexFunc(a.subs, func(s *okSubscription) bool { return s.url == in.URL })
	if i >= 0 {
		a.subs[i].types = in.Types
	} else {
		s := &okSubscription{url: in.URL, types: in.Types, since: time.Now()}
		s.hooks = &dispatcher{
			sim: a.sim, acct: &a.accountCore,
			prepare: func(http.Header, []byte, bool) {}, // nothing is signed
			accepts: func(status int) bool { return status == http.StatusOK },
		}
		s.hooks.start(in.URL, 20)
		a.subs = append(a.subs, s)
	}
	a.mu.Unlock()
	a.sim.demo.connected(a)
	out["success"] = true
	return nil
}

func (c *okCall) unsubscribe(out map[string]any) *okError {
	var in struct {
		URL string `json:"url"`
	}
	if json.Unmarshal(c.body, &in) != nil || in.URL == "" {
		return okParam("Invalid parameter url")
	}
	out["success"] = c.a.drop(func(s *okSubscription) bool { return s.url == in.URL }) > 0
	return nil
}

// drop ends subscriptions and forgets what waited for them.
func (a *OKAccount) drop(which func(*okSubscription) bool) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.subs = slices.DeleteFunc(a.subs, func(s *okSubscription) bool {
		if !which(s) {
			return false
		}
		s.hooks.stop()
		n++
		return true
	})
	return n
}

// Forget drops all subscriptions without telling anybody, as OK does when an
// address has not answered well for 8 hours.
func (a *OKAccount) Forget() { a.drop(func(*okSubscription) bool { return true }) }

// Subscriptions are the subscribed addresses, oldest first.
func (a *OKAccount) Subscriptions() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := []string{}
	for _, s := range a.subs {
		out = append(out, s.url)
	}
	return out
}

func (c *okCall) subscriptions(out map[string]any) {
	c.a.mu.Lock()
	defer c.a.mu.Unlock()
	list := []any{}
	for _, s := range c.a.subs {
		list = append(list, map[string]any{"time": s.since.UnixMilli(), "url": s.url})
	}
	out["subscriptions"] = list
}

// emit queues a callback for every subscription that wants it; false when there is none.
func (a *OKAccount) emit(event, customer string, body []byte, t *tracker) bool {
	a.mu.Lock()
	var wants []*okSubscription
	for _, s := range a.subs {
		if slices.Contains(s.types, event) || !slices.Contains(okEvents, event) {
			wants = append(wants, s)
		}
	}
	a.mu.Unlock()
	began := time.Now()
	for i, s := range wants {
		d := &delivery{key: customer, event: event, customer: customer, body: body, expires: began.Add(24 * time.Hour)}
		if i == 0 {
			t.sent(began)
			d.acked = func([]byte) { t.acked(time.Since(began)) }
		}
		s.hooks.add(d)
	}
	return len(wants) > 0
}

func (a *OKAccount) inject(raw []byte) (Sent, error) {
	if !json.Valid(raw) {
		return Sent{}, fmt.Errorf("raw callback: not JSON")
	}
	var in struct {
		Event  string `json:"webhookType"`
		Sender struct {
			ID string `json:"user_id"`
		} `json:"sender"`
		Message struct {
			Mid string `json:"mid"`
		} `json:"message"`
	}
	json.Unmarshal(raw, &in) //nolint:errcheck // a raw callback may be anything
	if in.Event == "" {
		in.Event = "raw"
	}
	return Sent{MessageID: in.Message.Mid, Dropped: !a.emit(in.Event, in.Sender.ID, raw, nil)}, nil
}

// Inject queues a raw callback.
func (a *OKAccount) Inject(raw string) (Sent, error) { return a.inject([]byte(raw)) }

// Pending is the number of callbacks not yet acknowledged.
func (a *OKAccount) Pending() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.subs {
		waiting, _, _ := s.hooks.waiting()
		n += waiting
	}
	return n
}

// byKey finds a customer by chat id, or by user id with its prefix or without.
func (a *OKAccount) byKey(key string) *OKCustomer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	if strings.HasPrefix(key, "chat:") {
		return a.chats[key]
	}
	return a.users["user:"+strings.TrimPrefix(key, "user:")]
}

func (a *OKAccount) everybody() []*OKCustomer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	return slices.Clone(a.people)
}

func (a *OKAccount) customers() []customer {
	people := a.everybody()
	out := make([]customer, len(people))
	for i, p := range people {
		out[i] = p
	}
	return out
}

func (a *OKAccount) customer(id string) (customer, bool) {
	if u := a.byKey(id); u != nil {
		return u, true
	}
	return nil, false
}

// Customer is the customer with this id, created (messages allowed) if new. ""
// makes a new one.
func (a *OKAccount) Customer(id string) *OKCustomer {
	if u := a.byKey(id); id != "" && u != nil {
		return u
	}
	c, err := a.addCustomer(CustomerSpec{ID: id, Started: true})
	if err != nil {
		panic(err) // an id that no user can have
	}
	return c.(*OKCustomer)
}

// NewCustomer adds a customer; the error names what is wrong with the spec.
func (a *OKAccount) NewCustomer(spec CustomerSpec) (*OKCustomer, error) {
	c, err := a.addCustomer(spec)
	if err != nil {
		return nil, err
	}
	return c.(*OKCustomer), nil
}

func (a *OKAccount) addCustomer(spec CustomerSpec) (customer, error) {
	a.cmu.Lock()
	defer a.cmu.Unlock()
	number := strings.TrimPrefix(spec.ID, "user:")
	n := uint64(len(a.people) + 1)
	for i := n; spec.ID == "" && (number == "" || a.users["user:"+number] != nil); i++ {
		number = strconv.FormatUint(500_000_000_000+filler(a.sim.cfg.Seed, i<<8)%90_000_000_000, 10)
	}
	if number == "" || len(number) > 19 || strings.Trim(number, "0123456789") != "" {
		return nil, fmt.Errorf("ok customer id %q: want digits, with user: in front or without", spec.ID)
	}
	id := "user:" + number
	if a.users[id] != nil {
		return nil, fmt.Errorf("ok customer %s exists already", id)
	}
	name := strings.TrimSpace(spec.FirstName + " " + spec.LastName)
	if name == "" {
		name = "Customer"
	}
	u := &OKCustomer{acct: a, name: name, phone: spec.Phone, allowed: spec.Started}
	u.id, u.hash = id, filler(a.sim.cfg.Seed, n<<16)
	u.chat = fmt.Sprintf("chat:C%x%03x", filler(a.sim.cfg.Seed, n<<24)%(1<<36), len(a.people))
	if u.phone == "" {
		u.phone = fmt.Sprintf("7999%07d", u.hash%10_000_000)
	}
	a.users[id], a.chats[u.chat] = u, u
	a.people = append(a.people, u)
	return u, nil
}

var (
	_ platform = (*okPlatform)(nil)
	_ account  = (*OKAccount)(nil)
	_ customer = (*OKCustomer)(nil)
)
