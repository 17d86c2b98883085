package simulator

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
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
	"sync/atomic"
	"time"
)

// viberPlatform is the fake REST bot API.
type viberPlatform struct {
	sim    *Simulator
	tokens atomic.Uint64 // message tokens; unsigned 64 bits, above 2^53
	roster[*ViberAccount]
}

// ViberAccount is a bot.
type ViberAccount struct {
	accountCore
	plat *viberPlatform
	uri  string
	id   string

	cmu    sync.RWMutex
	users  map[string]*ViberCustomer
	people []*ViberCustomer

	mu         sync.Mutex
	url        string
	events     []string
	sendName   bool
	sendPhoto  bool
	freeLeft   int
	overall    gcra
	broadcasts []time.Time // last ten seconds
}

const viberHost = "SN-CHAT-05_"

func newViber(s *Simulator) *viberPlatform {
	p := &viberPlatform{sim: s, roster: newRoster[*ViberAccount]()}
	p.tokens.Store(5_881_234_567_890_000_000)
	return p
}

func (p *viberPlatform) name() string { return "viber" }

func (p *viberPlatform) actions() []string { return ViberActions() }

// validViberToken: three dash-joined groups of hex digits.
func validViberToken(t string) bool {
	groups := strings.Split(t, "-")
	if len(groups) != 3 {
		return false
	}
	for _, g := range groups {
		if len(g) != 16 || strings.Trim(g, "0123456789abcdefABCDEF") != "" {
			return false
		}
	}
	return true
}

func (p *viberPlatform) register(spec AccountSpec) (account, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if spec.Token == "" {
		n := uint64(len(p.list)+1) * 8
		spec.Token = fmt.Sprintf("%016x-%016x-%016x", filler(p.sim.cfg.Seed, n), filler(p.sim.cfg.Seed, n+1), filler(p.sim.cfg.Seed, n+2))
	}
	if !validViberToken(spec.Token) {
		return nil, fmt.Errorf("viber token: want three groups of 16 hex digits, joined by dashes")
	}
	if a, ok := p.byToken[spec.Token]; ok {
		a.Set(spec.AccountOptions)
		a.changed()
		return a, nil
	}
	if spec.Name == "" {
		spec.Name = "Support"
	}
	ref, _, _ := strings.Cut(spec.Token, "-")
	a := &ViberAccount{plat: p, users: map[string]*ViberCustomer{}, uri: "support" + ref[:6]}
	a.setup(p.sim, "viber", spec.Token, ref, spec.Name, spec.AccountOptions)
	a.id = "pa:" + strconv.FormatUint(filler(p.sim.cfg.Seed, uint64(len(p.list)))%1e12, 10)
	a.hooks = &dispatcher{
		sim: p.sim, acct: &a.accountCore,
		prepare: func(h http.Header, body []byte, forged bool) { a.sign(h, body, forged) },
		accepts: func(status int) bool { return status == http.StatusOK },
	}
	a.changed()
	p.add(spec.Token, a)
	return a, nil
}

// changed refills the free messages.
func (a *ViberAccount) changed() {
	a.mu.Lock()
	a.freeLeft = a.opts.Load().freeMessages
	a.mu.Unlock()
}

func (a *ViberAccount) describe() map[string]any {
	waiting, problem, _ := a.hooks.waiting()
	a.mu.Lock()
	defer a.mu.Unlock()
	return map[string]any{
		"platform": "viber", "account": a.ref, "name": a.name, "webhook": a.url, "event_types": a.events,
		"pending": waiting, "last_error": problem, "customers": len(a.customers()), "free_left": a.freeLeft,
	}
}

// sign adds HMAC-SHA256 of the raw body, keyed with the token's characters.
func (a *ViberAccount) sign(h http.Header, body []byte, forged bool) {
	key := a.token
	if forged {
		key += "-forged"
	}
	m := hmac.New(sha256.New, []byte(key))
	m.Write(body) //nolint:errcheck // never fails
	h.Set("X-Viber-Content-Signature", hex.EncodeToString(m.Sum(nil)))
}

// viberStatus is a status and its name.
type viberStatus struct {
	code int
	text string
}

var viberNames = map[int]string{
	0: "ok", 1: "invalidUrl", 2: "invalidAuthToken", 3: "badData", 4: "missingData", 5: "receiverNotRegistered",
	6: "receiverNotSubscribed", 7: "publicAccountBlocked", 8: "publicAccountNotFound", 9: "publicAccountSuspended",
	10: "webhookNotSet", 11: "receiverNoSuitableDevice", 12: "tooManyRequests", 13: "apiVersionNotSupported",
	14: "incompatibleWithVersion", 15: "publicAccountNotAuthorized", 16: "inchatReplyMessageNotAllowed",
	17: "publicAccountIsNotInline", 18: "noPublicChat", 19: "cannotSendBroadcast", 20: "broadcastNotAllowed",
	21: "unsupportedCountry", 22: "paymentUnsupported", 23: "freeMessagesExceeded", 24: "noBalance",
}

func vStatus(code int, detail string, args ...any) *viberStatus {
	text := viberNames[code]
	if text == "" {
		text = "generalError"
	}
	if detail != "" {
		text += ": " + fmt.Sprintf(detail, args...)
	}
	return &viberStatus{code, text}
}

func badData(detail string, args ...any) *viberStatus { return vStatus(3, detail, args...) }
func missing(field string) *viberStatus               { return vStatus(4, "%s", field) }

// viberCall is one API call.
type viberCall struct {
	*call
	a    *ViberAccount
	body []byte
}

const maxViberRequest = 30 << 10

func (p *viberPlatform) serve(w http.ResponseWriter, r *http.Request, rest string) {
	if m, ok := strings.CutPrefix(rest, "media/"); ok {
		p.sim.media.serve(w, r, m)
		return
	}
	method, ok := strings.CutPrefix(rest, "pa/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	buf := bodyPool.Get().(*bytes.Buffer)
	buf.Reset()
	defer bodyPool.Put(buf)
	// Twice the limit is read, so that a little too much gets its proper answer.
	if _, err := buf.ReadFrom(io.LimitReader(r.Body, 2*maxViberRequest)); err != nil {
		return // the client has gone
	}
	token := r.Header.Get("X-Viber-Auth-Token")
	if token == "" {
		var in struct {
			Token string `json:"auth_token"`
		}
		json.Unmarshal(buf.Bytes(), &in) //nolint:errcheck // then there is no token
		token = in.Token
	}
	a := p.of(token)
	if a == nil && p.sim.cfg.AutoRegister && validViberToken(token) {
		if reg, err := p.register(AccountSpec{Token: token}); err == nil {
			a = reg.(*ViberAccount)
		}
	}
	if a == nil {
		w.Header()["Content-Type"] = jsonType
		json.NewEncoder(w).Encode(map[string]any{"status": 2, "status_message": "invalidAuthToken"}) //nolint:errcheck // the client may have gone
		return
	}
	a.serve(w, r, method, buf.Bytes())
}

func (a *ViberAccount) serve(w http.ResponseWriter, r *http.Request, method string, body []byte) {
	path := ""
	if a.rec.requests.max > 0 {
		path = "/viber/pa/" + method
	}
	c := &viberCall{call: a.sim.begin(w, r, &a.accountCore, method, path), a: a, body: body}
	var receivers []string
	if c.keep || a.sim.faults.any.Load() {
		var in struct {
			Receiver string   `json:"receiver"`
			List     []string `json:"broadcast_list"`
			ID       string   `json:"id"`
		}
		json.Unmarshal(body, &in) //nolint:errcheck // bad JSON gets its answer below
		receivers = append(in.List, in.Receiver+in.ID)
		if c.keep {
			c.rec.Customer = in.Receiver + in.ID
			if json.Valid(body) {
				c.rec.Body = json.RawMessage(a.redact(string(body)))
			} else {
				c.rec.Body = mustJSON(a.redact(string(body)))
			}
		}
	}
	if c.inject(a.sim, method, receivers...) {
		return
	}
	if c.fault != nil && c.faultAnswer() {
		return
	}
	var st *viberStatus
	extra := map[string]any{}
	switch {
	case a.opts.Load().revoked:
		st = vStatus(2, "")
	case len(body) > maxViberRequest:
		st = badData("request is over 30 KB")
	case !json.Valid(body) || bytes.TrimSpace(body)[0] != '{':
		st = badData("malformed JSON")
	default:
		switch method {
		case "set_webhook":
			st = c.setWebhook(extra)
		case "get_account_info":
			st = c.accountInfo(extra)
		case "send_message":
			token, billing, problem := c.sendMessage()
			if problem == nil { // the hot path builds its answer by hand
				var b [160]byte
				out := append(b[:0], `{"status":0,"status_message":"ok","message_token":`...)
				out = strconv.AppendUint(out, token, 10)
				out = append(out, `,"chat_hostname":"`+viberHost+`","billing_status":`...)
				out = strconv.AppendInt(out, int64(billing), 10)
				a.sim.respond(c.call, 200, 0, "ok", append(out, '}'))
				return
			}
			st = problem
		case "broadcast_message":
			st = c.broadcast(extra)
		case "get_user_details":
			st = c.userDetails(extra)
		case "get_online":
			st = c.online(extra)
		case "post":
			st = vStatus(18, "")
		default:
			c.finish(404, 404, "no such method")
			http.NotFound(w, r)
			return
		}
	}
	if st == nil {
		st = vStatus(0, "")
	}
	extra["status"], extra["status_message"], extra["chat_hostname"] = st.code, st.text, viberHost
	if st.code == 12 {
		a.rec.countThrottled(c.start)
	}
	b, err := json.Marshal(extra)
	if err != nil {
		a.sim.log.Error("encoding an answer", "method", method, "err", err)
	}
	a.sim.respond(c.call, 200, st.code, st.text, b)
}

// faultAnswer renders an injected fault in Viber's words; false for kinds that
// don't change the answer.
func (c *viberCall) faultAnswer() bool {
	f := c.fault
	status, code := 200, f.Code
	switch f.Kind {
	case FaultThrottle:
		if code == 0 {
			status, code = http.StatusTooManyRequests, 12
		}
		if f.Status != 0 {
			status = f.Status
		}
		if f.RetryAfter > 0 {
			c.w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
		}
		if status == 200 {
			c.a.rec.countThrottled(c.start)
		}
	case FaultError:
		if status = f.Status; status == 0 {
			status = 500
			if code != 0 {
				status = 200
			}
		}
		if code == 0 {
			code = 999
		}
	case FaultUnauthorized:
		code = 2
	case FaultForbidden:
		if code == 0 {
			code = 7
		}
	case FaultBlocked:
		code = 6
	default:
		return false
	}
	st := vStatus(code, "")
	if f.Description != "" {
		st.text = f.Description
	}
	b := mustJSON(map[string]any{"status": st.code, "status_message": st.text, "chat_hostname": viberHost})
	c.a.sim.respond(c.call, status, st.code, st.text, b)
	return true
}

var viberEvents = []string{"subscribed", "unsubscribed", "delivered", "seen", "failed", "conversation_started", "message"}

func (c *viberCall) setWebhook(out map[string]any) *viberStatus {
	var in struct {
		URL    *string   `json:"url"`
		Events *[]string `json:"event_types"`
		Name   bool      `json:"send_name"`
		Photo  bool      `json:"send_photo"`
	}
	if err := json.Unmarshal(c.body, &in); err != nil {
		return badData("%v", err)
	}
	a := c.a
	if in.URL == nil {
		return missing("url")
	}
	if *in.URL == "" {
		a.mu.Lock()
		a.url, a.events = "", nil
		a.mu.Unlock()
		a.hooks.stop()
		return nil
	}
	p, err := url.Parse(*in.URL)
	if err != nil || p.Host == "" || p.Scheme != "https" && p.Scheme != "http" {
		return vStatus(1, "webhook URL is not valid")
	}
	// Users report that the query string is dropped.
	p.RawQuery = ""
	link := p.String()
	events := slices.Clone(viberEvents)
	if in.Events != nil {
		events = []string{"message", "subscribed", "unsubscribed"}
		for _, e := range *in.Events {
			if !slices.Contains(viberEvents, e) && e != "webhook" {
				return badData("event_types: %q", e)
			}
			if !slices.Contains(events, e) && e != "webhook" {
				events = append(events, e)
			}
		}
	}
	// The synchronous check: nothing is answered before the callback was.
	check := mustJSON(map[string]any{
		"event": "webhook", "timestamp": time.Now().UnixMilli(), "chat_hostname": viberHost, "message_token": a.plat.tokens.Add(1),
	})
	began := time.Now()
	status, answer, _, err := a.sim.postJSON(c.r.Context(), link, check, func(h http.Header) { a.sign(h, check, false) })
	cb := Callback{At: began, Event: "webhook", Attempt: 1, Status: status, Took: time.Since(began), Body: check, Answer: string(answer[:min(len(answer), 1024)])}
	if err != nil {
		cb.Error = err.Error()
	}
	a.rec.addCallback(cb)
	if err != nil {
		return vStatus(1, "java.net.ConnectException: %v", err)
	}
	if status != http.StatusOK {
		return vStatus(1, "webhook answered %d", status)
	}
	a.mu.Lock()
	a.url, a.events, a.sendName, a.sendPhoto = link, events, in.Name, in.Photo
	a.mu.Unlock()
	a.hooks.start(link, 20)
	a.sim.demo.connected(a)
	out["event_types"] = events
	return nil
}

func (c *viberCall) accountInfo(out map[string]any) *viberStatus {
	a := c.a
	n := 0
	for _, p := range a.people2() {
		if p.isSubscribed() {
			n++
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	out["id"], out["name"], out["uri"] = a.id, a.name, a.uri
	out["icon"] = a.sim.BaseURL() + "/viber/media/icon.png"
	out["background"] = ""
	out["category"], out["subcategory"] = "Local Businesses", "Support"
	out["location"], out["country"] = map[string]float64{"lat": 54.687157, "lon": 25.279652}, "LT"
	out["webhook"], out["event_types"] = a.url, a.events
	out["subscribers_count"], out["members"] = n, []any{}
	return nil
}

func (c *viberCall) userDetails(out map[string]any) *viberStatus {
	var in struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(c.body, &in); err != nil {
		return badData("%v", err)
	}
	if in.ID == "" {
		return missing("id")
	}
	u := c.a.user(in.ID)
	if u == nil {
		return vStatus(5, "")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.subscribed {
		return vStatus(6, "")
	}
	if c.a.opts.Load().realLimits {
		now := time.Now()
		u.details = slices.DeleteFunc(u.details, func(t time.Time) bool { return now.Sub(t) > 12*time.Hour })
		if len(u.details) >= 2 {
			return vStatus(12, "")
		}
		u.details = append(u.details, now)
	}
	user := u.userObject(true, true)
	user["primary_device_os"], user["viber_version"], user["mcc"], user["mnc"], user["device_type"] = "android 14", "24.1.0", 246, 1, "Pixel 8"
	out["user"], out["message_token"] = user, c.a.plat.tokens.Add(1)
	return nil
}

func (c *viberCall) online(out map[string]any) *viberStatus {
	var in struct {
		IDs []string `json:"ids"`
	}
	if err := json.Unmarshal(c.body, &in); err != nil {
		return badData("%v", err)
	}
	if len(in.IDs) == 0 {
		return missing("ids")
	}
	if len(in.IDs) > 100 {
		return badData("ids: at most 100")
	}
	users := []any{}
	texts := []string{"online", "offline", "undisclosed", "tryLater", "unavailable"}
	for _, id := range in.IDs {
		st := 4
		x := map[string]any{"id": id}
		if u := c.a.user(id); u != nil {
			u.mu.Lock()
			if u.subscribed {
				st = u.online
			}
			if !u.lastActive.IsZero() && st == 1 {
				x["last_online"] = u.lastActive.UnixMilli()
			}
			u.mu.Unlock()
		}
		x["online_status"], x["online_status_message"] = st, texts[st]
		users = append(users, x)
	}
	out["users"] = users
	return nil
}

func (a *ViberAccount) user(id string) *ViberCustomer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	return a.users[id]
}

func (a *ViberAccount) people2() []*ViberCustomer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	return slices.Clone(a.people)
}

func (a *ViberAccount) customers() []customer {
	people := a.people2()
	out := make([]customer, len(people))
	for i, p := range people {
		out[i] = p
	}
	return out
}

func (a *ViberAccount) customer(id string) (customer, bool) {
	if u := a.user(id); u != nil {
		return u, true
	}
	return nil, false
}

// Customer is the customer with this id, created (subscribed) if new. "" makes
// a new one.
func (a *ViberAccount) Customer(id string) *ViberCustomer {
	if u := a.user(id); u != nil {
		return u
	}
	c, err := a.addCustomer(CustomerSpec{ID: id, Started: true})
	if err != nil {
		panic(err) // an id that no user can have
	}
	return c.(*ViberCustomer)
}

// NewCustomer adds a customer; the error names what is wrong with the spec.
func (a *ViberAccount) NewCustomer(spec CustomerSpec) (*ViberCustomer, error) {
	c, err := a.addCustomer(spec)
	if err != nil {
		return nil, err
	}
	return c.(*ViberCustomer), nil
}

// validViberID: 16 bytes in base64, 24 characters.
func validViberID(id string) bool {
	b, err := base64.StdEncoding.DecodeString(id)
	return err == nil && len(id) == 24 && len(b) == 16
}

func (a *ViberAccount) addCustomer(spec CustomerSpec) (customer, error) {
	a.cmu.Lock()
	defer a.cmu.Unlock()
	if spec.ID == "" {
		// The id is specific to the bot.
		sum := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte(a.token), filler(a.sim.cfg.Seed, uint64(len(a.people)))))
		spec.ID = base64.StdEncoding.EncodeToString(sum[:16])
	}
	if !validViberID(spec.ID) {
		return nil, fmt.Errorf("viber customer id %q: want 24 characters of base64", spec.ID)
	}
	if a.users[spec.ID] != nil {
		return nil, fmt.Errorf("viber customer %s exists already", spec.ID)
	}
	u := &ViberCustomer{
		acct: a, name: strings.TrimSpace(spec.FirstName + " " + spec.LastName), phone: spec.Phone, country: spec.Country,
		language: spec.Language, subscribed: spec.Started, version: spec.APIVersion, devices: max(spec.Devices, 1),
		receipts: spec.Receipts,
	}
	u.id = spec.ID
	sum := sha256.Sum256([]byte(spec.ID))
	u.hash = binary.LittleEndian.Uint64(sum[:])
	u.avatar = newAvatar(spec, u.hash)
	if u.name == "" {
		u.name = "Customer"
	}
	if u.phone == "" {
		u.phone = fmt.Sprintf("3706%07d", u.hash%10_000_000)
	}
	if u.country == "" {
		u.country = "RU"
	}
	if u.language == "" {
		u.language = "ru"
	}
	if u.version == 0 {
		u.version = 10
	}
	if err := checkReceipts(&u.receipts); err != nil {
		return nil, err
	}
	a.users[u.id] = u
	a.people = append(a.people, u)
	return u, nil
}

func checkReceipts(r *string) error {
	switch *r {
	case "":
		*r = "seen"
	case "none", "delivered", "seen", "failed":
	default:
		return fmt.Errorf("receipts %q: want none, delivered, seen or failed", *r)
	}
	return nil
}

// emit queues a callback; false when the bot does not want the event or has no webhook.
func (a *ViberAccount) emit(event, userID string, body []byte, t *tracker, answered func([]byte)) bool {
	a.mu.Lock()
	wants := a.url != "" && (slices.Contains(a.events, event) || !slices.Contains(viberEvents, event))
	a.mu.Unlock()
	if !wants {
		return false
	}
	began := time.Now()
	t.sent(began)
	a.hooks.add(&delivery{
		key: userID, event: event, customer: userID, body: body,
		expires: began.Add(14 * 24 * time.Hour),
		acked: func(answer []byte) {
			t.acked(time.Since(began))
			if answered != nil {
				answered(answer)
			}
		},
	})
	return true
}

func (a *ViberAccount) inject(raw []byte) (Sent, error) {
	var in struct {
		Event  string              `json:"event"`
		UserID string              `json:"user_id"`
		Sender struct{ ID string } `json:"sender"`
		User   struct{ ID string } `json:"user"`
		Token  json.Number         `json:"message_token"`
	}
	if !json.Valid(raw) {
		return Sent{}, fmt.Errorf("raw callback: not JSON")
	}
	json.Unmarshal(raw, &in) //nolint:errcheck // a raw callback may be anything
	if in.Event == "" {
		in.Event = "raw"
	}
	ok := a.emit(in.Event, in.UserID+in.Sender.ID+in.User.ID, bytes.TrimSpace(raw), nil, nil)
	return Sent{MessageID: in.Token.String(), Dropped: !ok}, nil
}

// Inject queues a raw callback, signed as all are.
func (a *ViberAccount) Inject(raw string) (Sent, error) { return a.inject([]byte(raw)) }

// Pending is the number of callbacks not yet acknowledged.
func (a *ViberAccount) Pending() int {
	n, _, _ := a.hooks.waiting()
	return n
}

// fetch downloads what the bot sent, as Viber and its clients do: follows
// redirects, reads all of it.
func (s *Simulator) fetch(ctx context.Context, link string) FileInfo {
	f := FileInfo{URL: link}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		f.Error = err.Error()
		return f
	}
	client := http.Client{Transport: s.client.Transport}
	resp, err := client.Do(req)
	if err != nil {
		f.Error = err.Error()
		return f
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f.Error = "HTTP " + resp.Status
		return f
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(resp.Body, 200<<20))
	f.Size, f.MIME, f.SHA256 = n, resp.Header.Get("Content-Type"), hex.EncodeToString(h.Sum(nil))
	if err != nil {
		f.Error = err.Error()
	}
	return f
}
