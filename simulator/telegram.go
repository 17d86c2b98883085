package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// telegramPlatform is the fake Bot API.
type telegramPlatform struct {
	sim *Simulator
	roster[*TelegramAccount]
	methods map[string]tgMethod
}

// TelegramAccount is a bot.
type TelegramAccount struct {
	accountCore
	botID   int64
	methods map[string]tgMethod
	user    tgUser

	cmu      sync.RWMutex // customers
	chats    map[int64]*TelegramCustomer
	people   []*TelegramCustomer
	nextUser int64

	updates tgUpdates

	fmu      sync.Mutex // files and callback queries
	files    map[string]*tgFile
	fileIDs  []string
	byPath   map[string]*tgFile
	nextFile uint64
	nextPath uint64
	queries  map[string]*tgQuery

	lmu     sync.Mutex
	overall gcra
}

type tgFile struct {
	id, unique string
	kind       string // photo, video, ...
	name, mime string
	w, h       int
	duration   int
	b          *blob
	path       string // given out by getFile
	linkUntil  time.Time
	claimed    int64
}

type tgQuery struct {
	customer *TelegramCustomer
	message  int64
	at       time.Time
	answered bool
}

func newTelegram(s *Simulator) *telegramPlatform {
	return &telegramPlatform{sim: s, roster: newRoster[*TelegramAccount](), methods: methodTable()}
}

func (p *telegramPlatform) name() string { return "telegram" }

func (p *telegramPlatform) actions() []string { return TelegramActions() }

// validTelegramToken: bot id digits, a colon, a secret; under 80 characters.
func validTelegramToken(t string) bool {
	id, secret, ok := strings.Cut(t, ":")
	if !ok || len(t) >= 80 || id == "" || len(id) > 15 || secret == "" || id[0] == '0' {
		return false
	}
	for _, c := range []byte(id) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return isKeyText(secret)
}

// isKeyText: A-Z a-z 0-9 _ - only.
func isKeyText(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

func (p *telegramPlatform) register(spec AccountSpec) (account, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if spec.Token == "" {
		n := uint64(len(p.list)) + 1
		spec.Token = fmt.Sprintf("%d:SIM%032x", 7_000_000_000+n, filler(p.sim.cfg.Seed, n))
	}
	if !validTelegramToken(spec.Token) {
		return nil, fmt.Errorf("telegram token: want <digits>:<secret> of A-Z a-z 0-9 _ -, under 80 characters")
	}
	if a, ok := p.byToken[spec.Token]; ok {
		a.Set(spec.AccountOptions)
		return a, nil
	}
	id, _, _ := strings.Cut(spec.Token, ":")
	a := &TelegramAccount{
		methods: p.methods,
		chats:   map[int64]*TelegramCustomer{},
		files:   map[string]*tgFile{},
		byPath:  map[string]*tgFile{},
		queries: map[string]*tgQuery{},
	}
	a.botID, _ = strconv.ParseInt(id, 10, 64)
	if spec.Name == "" {
		spec.Name = "Поддержка"
	}
	a.setup(p.sim, "telegram", spec.Token, id, spec.Name, spec.AccountOptions)
	a.user = tgUser{ID: a.botID, IsBot: true, FirstName: a.name, Username: "support_" + id + "_bot"}
	a.nextUser = 5_000_000_000 + int64(filler(p.sim.cfg.Seed, uint64(a.botID))%400_000_000)
	a.updates.init(a)
	p.add(spec.Token, a)
	return a, nil
}

func (a *TelegramAccount) changed() {}

func (a *TelegramAccount) describe() map[string]any {
	u := &a.updates
	u.mu.Lock()
	defer u.mu.Unlock()
	return map[string]any{
		"platform": "telegram", "account": a.ref, "name": a.name, "username": a.user.Username,
		"webhook": u.url, "pending": u.count, "conflicts": u.conflicts, "customers": len(a.customers()), "polling": u.hanging > 0,
	}
}

// serve routes bot<TOKEN>/<method>, bot<TOKEN>/test/<method> and file/bot<TOKEN>/<path>.
func (p *telegramPlatform) serve(w http.ResponseWriter, r *http.Request, rest string) {
	file := false
	if f, ok := strings.CutPrefix(rest, "file/"); ok {
		rest, file = f, true
	}
	rest, ok := strings.CutPrefix(rest, "bot")
	token, method, _ := strings.Cut(rest, "/")
	if !ok || !validTelegramToken(token) {
		tgFail(w, errTg(404, "Not Found"))
		return
	}
	a := p.of(token)
	if a == nil && p.sim.cfg.AutoRegister {
		if reg, err := p.register(AccountSpec{Token: token}); err == nil {
			a = reg.(*TelegramAccount)
		}
	}
	if a == nil {
		tgFail(w, errTg(401, "Unauthorized"))
		return
	}
	if file {
		a.download(w, r, method)
		return
	}
	a.serve(w, r, strings.TrimPrefix(method, "test/"))
}

// tgError is a failed call.
type tgError struct {
	Code        int       `json:"error_code"`
	Description string    `json:"description"`
	Parameters  *tgParams `json:"parameters,omitempty"`
}

type tgParams struct {
	RetryAfter int   `json:"retry_after,omitempty"`
	MigrateTo  int64 `json:"migrate_to_chat_id,omitempty"`
}

func (e *tgError) Error() string { return e.Description }

func errTg(code int, format string, args ...any) *tgError {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	return &tgError{Code: code, Description: format}
}

func badRequest(format string, args ...any) *tgError {
	return errTg(400, "Bad Request: "+format, args...)
}

func tooMany(retryAfter int) *tgError {
	return &tgError{429, "Too Many Requests: retry after " + strconv.Itoa(retryAfter), &tgParams{RetryAfter: retryAfter}}
}

func (e *tgError) encode() []byte {
	b, _ := json.Marshal(struct {
		OK bool `json:"ok"`
		*tgError
	}{false, e})
	return b
}

func tgFail(w http.ResponseWriter, e *tgError) {
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(e.Code)
	w.Write(e.encode()) //nolint:errcheck // the client may have gone
}

// tgCall is one Bot API call.
type tgCall struct {
	*call
	a      *TelegramAccount
	method string // lower case
	p      map[string]string
	files  map[string]*upload
	fetch  bool // URLs may be fetched: false for a call made in a webhook's answer
}

type tgMethod struct {
	name  string
	run   func(c *tgCall) (any, *tgError)
	sends bool
}

// methodTable is by lower-cased name and by the documented spelling, which
// spares the usual call the lower-casing.
func methodTable() map[string]tgMethod {
	m := map[string]tgMethod{}
	for _, x := range []tgMethod{
		{"getMe", (*tgCall).getMe, false},
		{"getUpdates", (*tgCall).getUpdates, false},
		{"setWebhook", (*tgCall).setWebhook, false},
		{"deleteWebhook", (*tgCall).deleteWebhook, false},
		{"getWebhookInfo", (*tgCall).getWebhookInfo, false},
		{"sendMessage", (*tgCall).sendMessage, true},
		{"sendPhoto", sendFile("photo"), true},
		{"sendVideo", sendFile("video"), true},
		{"sendAudio", sendFile("audio"), true},
		{"sendVoice", sendFile("voice"), true},
		{"sendDocument", sendFile("document"), true},
		{"sendAnimation", sendFile("animation"), true},
		{"sendSticker", sendFile("sticker"), true},
		{"sendVideoNote", sendFile("video_note"), true},
		{"sendLocation", (*tgCall).sendLocation, true},
		{"sendVenue", (*tgCall).sendVenue, true},
		{"sendContact", (*tgCall).sendContact, true},
		{"sendMediaGroup", (*tgCall).sendMediaGroup, true},
		{"copyMessage", (*tgCall).copyMessage, true},
		{"forwardMessage", (*tgCall).forwardMessage, true},
		{"editMessageText", (*tgCall).editMessageText, false},
		{"editMessageCaption", (*tgCall).editMessageCaption, false},
		{"editMessageReplyMarkup", (*tgCall).editMessageReplyMarkup, false},
		{"editMessageMedia", (*tgCall).editMessageMedia, false},
		{"deleteMessage", (*tgCall).deleteMessage, false},
		{"deleteMessages", (*tgCall).deleteMessages, false},
		{"sendChatAction", (*tgCall).sendChatAction, false},
		{"answerCallbackQuery", (*tgCall).answerCallbackQuery, false},
		{"getFile", (*tgCall).getFile, false},
		{"getChat", (*tgCall).getChat, false},
		{"getUserProfilePhotos", (*tgCall).getUserProfilePhotos, false},
	} {
		m[strings.ToLower(x.name)] = x
		m[x.name] = x
	}
	return m
}

func (a *TelegramAccount) serve(w http.ResponseWriter, r *http.Request, method string) {
	m, known := a.methods[method]
	if !known {
		method = strings.ToLower(method)
		m, known = a.methods[method]
	}
	shown := m.name
	if !known {
		shown = method
	}
	c := &tgCall{a: a, method: shown, fetch: true}
	path := ""
	if a.rec.requests.max > 0 {
		path = "/telegram/bot" + a.ref + ":<token>/" + shown
	}
	c.call = a.sim.begin(w, r, &a.accountCore, shown, path)
	e := c.parse(r)
	if c.keep {
		c.rec.Params = c.recorded()
		c.rec.Customer = c.p["chat_id"]
		for field, u := range c.files {
			c.rec.Files = append(c.rec.Files, FileInfo{Field: field, Name: u.name, MIME: u.mime, Size: u.b.size, SHA256: u.b.sha256()})
		}
		slices.SortFunc(c.rec.Files, func(a, b FileInfo) int { return strings.Compare(a.Field, b.Field) })
	}
	if c.inject(a.sim, shown, c.p["chat_id"]) {
		return
	}
	var result any
	switch {
	case c.fault != nil && c.faultError() != nil:
		e = c.faultError()
	case a.opts.Load().revoked:
		e = errTg(401, "Unauthorized")
	case e != nil:
	case !known:
		e = errTg(404, "Not Found: method not found")
	default:
		result, e = m.run(c)
	}
	if e != nil {
		if e == errClientGone {
			c.abort()
		}
		if e.Code == 429 && e.Parameters != nil {
			w.Header().Set("Retry-After", strconv.Itoa(e.Parameters.RetryAfter))
		}
		a.sim.respond(c.call, e.Code, e.Code, e.Description, e.encode())
		return
	}
	body, err := json.Marshal(struct {
		OK     bool `json:"ok"`
		Result any  `json:"result"`
	}{true, result})
	if err != nil {
		a.sim.log.Error("encoding an answer", "method", shown, "err", err)
		a.sim.respond(c.call, 500, 500, err.Error(), errTg(500, "Internal Server Error").encode())
		return
	}
	a.sim.respond(c.call, 200, 0, "", body)
}

// errClientGone ends a call whose client went away while it hung.
var errClientGone = errTg(499, "client closed the connection")

// faultError renders an injected fault in Telegram's words; nil for kinds that
// don't change the answer.
func (c *tgCall) faultError() *tgError {
	f := c.fault
	pick := func(code int, text string) *tgError {
		if f.Status != 0 {
			code = f.Status
		}
		if f.Description != "" {
			text = f.Description
		}
		return errTg(code, "%s", text)
	}
	switch f.Kind {
	case FaultThrottle:
		return tooMany(max(f.RetryAfter, 1))
	case FaultError:
		return pick(500, "Internal Server Error: restart")
	case FaultUnauthorized:
		return pick(401, "Unauthorized")
	case FaultForbidden:
		return pick(403, "Forbidden: user is deactivated")
	case FaultBlocked:
		return pick(403, "Forbidden: bot was blocked by the user")
	}
	return nil
}

// recorded copies the parameters without secrets.
func (c *tgCall) recorded() map[string]string {
	out := make(map[string]string, len(c.p))
	for k, v := range c.p {
		if k == "secret_token" {
			v = "<secret>"
		}
		out[k] = c.a.redact(v)
	}
	return out
}

func (c *tgCall) getMe() (any, *tgError) {
	return struct {
		tgUser
		CanJoinGroups   bool `json:"can_join_groups"`
		CanReadAll      bool `json:"can_read_all_group_messages"`
		SupportsInline  bool `json:"supports_inline_queries"`
		ConnectBusiness bool `json:"can_connect_to_business"`
		HasMainWebApp   bool `json:"has_main_web_app"`
	}{tgUser: c.a.user, CanJoinGroups: true}, nil
}

// chat resolves the chat_id parameter (or another that holds a chat) to a chat the bot may know.
func (c *tgCall) chat(param string) (*TelegramCustomer, *tgError) {
	v := c.p[param]
	if v == "" {
		return nil, badRequest("%s is empty", param)
	}
	id, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		if name, ok := strings.CutPrefix(v, "@"); ok {
			for _, p := range c.a.people2() {
				// Private persons can't be addressed by username.
				if p.chat().Type != "private" && strings.EqualFold(p.chat().Username, name) {
					return p, nil
				}
			}
		}
		return nil, badRequest("chat not found")
	}
	if cust := c.a.byChat(id); cust != nil {
		return cust, nil
	}
	if c.a.sim.cfg.AutoCustomers && id > 0 {
		if cust, err := c.a.addCustomer(CustomerSpec{ID: v, Started: true}); err == nil {
			return cust.(*TelegramCustomer), nil
		}
		if cust := c.a.byChat(id); cust != nil { // made by another call meanwhile
			return cust, nil
		}
	}
	return nil, badRequest("chat not found")
}

// reachable tells why the bot may not write to the customer.
func (t *TelegramCustomer) reachable() *tgError {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.migratedTo != 0:
		return &tgError{400, "Bad Request: group chat was upgraded to a supergroup chat", &tgParams{MigrateTo: t.migratedTo}}
	case t.deactivated:
		return errTg(403, "Forbidden: user is deactivated")
	case t.blocked && t.chat().Type != "private":
		return errTg(403, "Forbidden: bot was kicked from the %s chat", t.chat().Type)
	case t.blocked:
		return errTg(403, "Forbidden: bot was blocked by the user")
	case !t.started:
		return errTg(403, "Forbidden: bot can't initiate conversation with a user")
	}
	return nil
}

// limit takes n messages out of the bot's and the chat's rates.
func (c *tgCall) limit(t *TelegramCustomer, n int) *tgError {
	opts := c.a.opts.Load()
	if !opts.realLimits {
		return nil
	}
	l := opts.limits.withDefaults(30, 1)
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	rate, burst := l.ChatPerSecond, l.ChatBurst
	if t.chat().Type != "private" {
		rate, burst = float64(l.GroupPerMinute)/60, l.GroupPerMinute
	}
	before := t.pace
	if wait := t.pace.take(now, n, rate, burst); wait > 0 {
		return tooMany(wholeSeconds(wait))
	}
	c.a.lmu.Lock()
	defer c.a.lmu.Unlock()
	if wait := c.a.overall.take(now, n, l.PerSecond, l.Burst); wait > 0 {
		t.pace = before
		return tooMany(wholeSeconds(wait))
	}
	return nil
}

func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

func (a *TelegramAccount) byChat(id int64) *TelegramCustomer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	return a.chats[id]
}

func (a *TelegramAccount) people2() []*TelegramCustomer {
	a.cmu.RLock()
	defer a.cmu.RUnlock()
	return slices.Clone(a.people)
}

func (a *TelegramAccount) customers() []customer {
	people := a.people2()
	out := make([]customer, len(people))
	for i, p := range people {
		out[i] = p
	}
	return out
}

func (a *TelegramAccount) customer(id string) (customer, bool) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return nil, false
	}
	if t := a.byChat(n); t != nil {
		return t, true
	}
	return nil, false
}

// Customer is the customer with this chat id, created (having pressed Start) if new.
func (a *TelegramAccount) Customer(id int64) *TelegramCustomer {
	if t := a.byChat(id); t != nil {
		return t
	}
	c, err := a.addCustomer(CustomerSpec{ID: strconv.FormatInt(id, 10), Started: true})
	if err != nil {
		panic(err) // only a zero or too large id
	}
	return c.(*TelegramCustomer)
}

// NewCustomer adds a customer; the error names what is wrong with the spec.
func (a *TelegramAccount) NewCustomer(spec CustomerSpec) (*TelegramCustomer, error) {
	c, err := a.addCustomer(spec)
	if err != nil {
		return nil, err
	}
	return c.(*TelegramCustomer), nil
}

func (a *TelegramAccount) addCustomer(spec CustomerSpec) (customer, error) {
	a.cmu.Lock()
	defer a.cmu.Unlock()
	var id int64
	if spec.ID != "" {
		n, err := strconv.ParseInt(spec.ID, 10, 64)
		if err != nil || n == 0 || n >= 1<<52 || n <= -1<<52 {
			return nil, fmt.Errorf("telegram customer id %q: want an integer of up to 52 bits", spec.ID)
		}
		id = n
	}
	if id < 0 { // a group was meant
		spec.ChatID, id = id, 0
		if spec.ChatType == "" {
			spec.ChatType = "supergroup"
		}
	}
	if id == 0 {
		for id == 0 || a.chats[id] != nil {
			a.nextUser += 1 + int64(filler(a.sim.cfg.Seed, uint64(a.nextUser))%997)
			id = a.nextUser
		}
	}
	if spec.FirstName == "" {
		spec.FirstName = "Customer"
	}
	if spec.Language == "" {
		spec.Language = "ru"
	}
	who := &tgIdentity{
		user: tgUser{ID: id, FirstName: spec.FirstName, LastName: spec.LastName, Username: spec.Username, Language: spec.Language},
		chat: tgChat{ID: id, Type: "private", FirstName: spec.FirstName, LastName: spec.LastName, Username: spec.Username},
	}
	t := &TelegramCustomer{acct: a, started: spec.Started, phone: spec.Phone, avatar: newAvatar(spec, uint64(id))}
	if spec.ChatType != "" && spec.ChatType != "private" {
		if spec.ChatID == 0 {
			spec.ChatID = -id
			if spec.ChatType == "supergroup" {
				spec.ChatID -= 1_000_000_000_000
			}
		}
		if spec.ChatID >= 0 || spec.ChatType == "supergroup" && !strings.HasPrefix(strconv.FormatInt(spec.ChatID, 10), "-100") {
			return nil, fmt.Errorf("telegram chat id %d: groups are negative, supergroups start with -100", spec.ChatID)
		}
		if spec.Title == "" {
			spec.Title = "Group"
		}
		who.chat = tgChat{ID: spec.ChatID, Type: spec.ChatType, Title: spec.Title, Username: spec.Username}
		who.user.Username = ""
		t.started = true
	}
	t.who.Store(who)
	if a.chats[t.chat().ID] != nil {
		return nil, fmt.Errorf("telegram customer %d exists already", t.chat().ID)
	}
	t.id = strconv.FormatInt(t.chat().ID, 10)
	t.hash = uint64(t.chat().ID)
	if t.phone == "" {
		t.phone = "79" + fmt.Sprintf("%09d", filler(a.sim.cfg.Seed, uint64(id))%1_000_000_000)
	}
	a.chats[t.chat().ID] = t
	a.people = append(a.people, t)
	return t, nil
}
