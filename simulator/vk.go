package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// vkPlatform is the fake API of VK's communities, version 5.199. It retries
// callbacks sooner than VK does (10 s, 3 min, 10 min, 30 min, 1 h), so that tests
// need not wait for hours.
type vkPlatform struct {
	sim *Simulator
	roster[*VKAccount]
}

// VKAccount is a community.
type VKAccount struct {
	accountCore
	plat  *vkPlatform
	group int64

	cmu    sync.RWMutex
	users  map[int64]*VKCustomer
	people []*VKCustomer

	mu       sync.Mutex
	overall  gcra
	nextID   int64 // of messages and attachments
	events   uint64
	longPoll vkLongPoll
	servers  []*vkServer
	serverID int64
	uploads  map[string]*vkUpload // by the key in the address
	taken    map[string]*vkUpload // by what the upload answered
	attached map[string]*vkFile   // by attachment name without access key
	presses  map[string]*vkPress  // callback buttons that wait for an answer
}

// vkServer is a callback server.
type vkServer struct {
	ID                 int64
	URL, Title, Secret string
	Status             string
	ticked             map[string]bool
}

// vkUpload is an upload address, and what came there.
type vkUpload struct {
	kind string // photo, doc, audio_message, graffiti
	peer int64
	name string
	b    *blob
	info FileInfo
}

// vkFile is a saved attachment.
type vkFile struct {
	kind string
	id   int64
	key  string
	name string
	b    *blob
	info FileInfo
}

type vkPress struct {
	user, peer int64
	at         time.Time
	answered   bool
	data       string
}

func newVK(s *Simulator) *vkPlatform {
	return &vkPlatform{sim: s, roster: newRoster[*VKAccount]()}
}

func (p *vkPlatform) name() string      { return "vk" }
func (p *vkPlatform) actions() []string { return VKActions() }

const (
	vkVersion = "5.199"
	vkChats   = 2_000_000_000 // ids of group chats begin here
)

func (p *vkPlatform) register(spec AccountSpec) (account, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if spec.Token == "" {
		spec.Token = fmt.Sprintf("vk1.a.%016x%016x", filler(p.sim.cfg.Seed, uint64(len(p.list))), filler(p.sim.cfg.Seed, uint64(len(p.list))+1000))
	}
	if strings.ContainsFunc(spec.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("vk token: want printable ASCII without spaces")
	}
	if a, ok := p.byToken[spec.Token]; ok {
		a.Set(spec.AccountOptions)
		return a, nil
	}
	if digits, _, ok := strings.Cut(strings.TrimPrefix(spec.Token, "vk1.a."), "."); ok && spec.GroupID == 0 {
		// A token like vk1.a.123456789.anything is that community's, so that
		// accounts can be set up before the simulator has seen them.
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n > 0 && n < vkChats {
			spec.GroupID = n
		}
	}
	if spec.GroupID == 0 {
		h := fnv.New64a()
		h.Write([]byte(spec.Token)) //nolint:errcheck // never fails
		spec.GroupID = 100_000_000 + int64(h.Sum64()%100_000_000)
	}
	if spec.GroupID < 0 || spec.GroupID >= vkChats {
		return nil, fmt.Errorf("vk group_id %d: want 1 to %d", spec.GroupID, int64(vkChats-1))
	}
	if spec.Name == "" {
		spec.Name = "Community"
	}
	a := &VKAccount{
		plat: p, group: spec.GroupID, users: map[int64]*VKCustomer{}, nextID: 90_000, uploads: map[string]*vkUpload{}, taken: map[string]*vkUpload{},
		attached: map[string]*vkFile{}, presses: map[string]*vkPress{},
	}
	a.setup(p.sim, "vk", spec.Token, strconv.FormatInt(spec.GroupID, 10), spec.Name, spec.AccountOptions)
	a.longPoll.init()
	a.hooks = &dispatcher{
		sim: p.sim, acct: &a.accountCore,
		prepare:  func(http.Header, []byte, bool) {},
		accepts:  func(status int) bool { return status == http.StatusOK },
		confirms: func(answer []byte) bool { return string(answer) == "ok" },
		rewrite:  a.withSecret,
	}
	p.add(spec.Token, a)
	return a, nil
}

func (a *VKAccount) changed() {}

// GroupID is the community's number.
func (a *VKAccount) GroupID() int64 { return a.group }

// Confirmation is what the community wants back when it confirms an address.
func (a *VKAccount) Confirmation() string {
	return fmt.Sprintf("%08x", filler(uint64(a.group), 1)&0xffffffff)
}

func (a *VKAccount) describe() map[string]any {
	waiting, problem, _ := a.hooks.waiting()
	a.mu.Lock()
	defer a.mu.Unlock()
	servers := []any{}
	for _, s := range a.servers {
		servers = append(servers, map[string]any{"id": s.ID, "url": s.URL, "status": s.Status})
	}
	return map[string]any{
		"platform": "vk", "account": a.ref, "name": a.name, "group_id": a.group, "confirmation": a.Confirmation(), "callback_servers": servers,
		"long_poll": a.longPoll.enabled, "ts": a.longPoll.ts, "pending": waiting + a.longPoll.pending(), "last_error": problem, "customers": len(a.customers()),
	}
}

// withSecret puts the callback server's secret into a body, as the last member.
func (a *VKAccount) withSecret(body []byte, forged bool) []byte {
	a.mu.Lock()
	secret := ""
	if len(a.servers) > 0 {
		secret = a.servers[0].Secret
	}
	a.mu.Unlock()
	if forged {
		secret += "-forged"
	}
	if secret == "" || len(body) < 2 || body[len(body)-1] != '}' {
		return body
	}
	out := append([]byte{}, body[:len(body)-1]...)
	out = append(out, `,"secret":`...)
	out = append(out, mustJSON(secret)...)
	return append(out, '}')
}

// vkError is a refusal.
type vkError struct {
	code int
	msg  string
}

var vkWords = map[int]string{
	1: "Unknown error occurred", 3: "Unknown method passed", 5: "User authorization failed", 6: "Too many requests per second", 7: "Permission to perform this action is denied",
	8: "Invalid request", 9: "Flood control", 10: "Internal server error", 14: "Captcha needed", 15: "Access denied", 18: "User was deleted or banned", 22: "Upload error",
	29: "Rate limit reached", 100: "One of the parameters specified was missing or invalid", 104: "Not found", 105: "Couldn't save file", 113: "Invalid user id", 121: "Invalid hash", 129: "Invalid photo",
	900: "Can't send messages for users from blacklist", 901: "Can't send messages for users without permission", 902: "Can't send messages to this user due to their privacy settings",
	909: "Can't edit this message, because it's too old", 911: "Keyboard format is invalid", 912: "This is a chat bot feature, change this status in settings", 913: "Too many forwarded messages",
	914: "Message is too long", 917: "You don't have access to this chat", 920: "Can't edit this kind of message", 921: "Can't forward these messages", 924: "Can't delete this message for everybody",
	936: "Contact not found", 2000: "Servers number limit is reached",
}

func vkErr(code int, detail string, args ...any) *vkError {
	text := vkWords[code]
	if text == "" {
		text = "Error " + strconv.Itoa(code)
	}
	if detail != "" {
		text += ": " + fmt.Sprintf(detail, args...)
	}
	return &vkError{code, text}
}

func vkBad(detail string, args ...any) *vkError { return vkErr(100, detail, args...) }

// vkCall is one call of the API.
type vkCall struct {
	*call
	a *VKAccount
	p url.Values
}

const maxVKForm = 1 << 20

func (p *vkPlatform) serve(w http.ResponseWriter, r *http.Request, rest string) {
	switch first, tail, _ := strings.Cut(rest, "/"); first {
	case "media":
		p.sim.media.serve(w, r, tail)
	case "method":
		p.method(w, r, tail)
	case "whp":
		p.poll(w, r, tail)
	case "upload":
		p.upload(w, r, tail)
	default:
		http.NotFound(w, r)
	}
}

// params reads a call's parameters: a form, in the body or in the address. A JSON
// body is not understood, so that it has none.
func vkParams(r *http.Request) (url.Values, error) {
	out := r.URL.Query()
	kind, attrs, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch kind {
	case "application/x-www-form-urlencoded":
		b, err := io.ReadAll(io.LimitReader(r.Body, maxVKForm))
		if err != nil {
			return nil, err
		}
		form, err := url.ParseQuery(string(b))
		if err != nil {
			return nil, err
		}
		for k, v := range form {
			out[k] = v
		}
	case "multipart/form-data":
		form, err := multipart.NewReader(r.Body, attrs["boundary"]).ReadForm(maxVKForm)
		if err != nil {
			return nil, err
		}
		for k, v := range form.Value {
			out[k] = v
		}
	}
	return out, nil
}

func (p *vkPlatform) account(token string) *VKAccount {
	a := p.of(token)
	if a == nil && token != "" && p.sim.cfg.AutoRegister {
		if reg, err := p.register(AccountSpec{Token: token}); err == nil {
			a = reg.(*VKAccount)
		}
	}
	return a
}

func (p *vkPlatform) method(w http.ResponseWriter, r *http.Request, method string) {
	params, err := vkParams(r)
	if err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		token = params.Get("access_token")
	}
	params.Del("access_token")
	a := p.account(token)
	if a == nil {
		detail := "invalid access_token (4)."
		if token == "" {
			detail = "no access_token passed."
		}
		w.Header()["Content-Type"] = jsonType
		w.Write(vkEnvelope(vkErr(5, "%s", detail), method, params)) //nolint:errcheck // the client may have gone
		return
	}
	c := &vkCall{call: p.sim.begin(w, r, &a.accountCore, method, "/vk/method/"+method), a: a, p: params}
	peers := c.peers()
	if c.keep {
		c.rec.Params = map[string]string{}
		for k := range params {
			c.rec.Params[k] = a.redact(params.Get(k))
		}
		if len(peers) > 0 {
			c.rec.Customer = peers[0]
		}
	}
	if c.inject(a.sim, method, peers...) {
		return
	}
	if c.fault != nil && c.faultAnswer(method) {
		return
	}
	result, refusal := c.run(method)
	if refusal != nil {
		c.refuse(http.StatusOK, refusal, method)
		return
	}
	a.sim.respond(c.call, http.StatusOK, 0, "ok", mustJSON(map[string]any{"response": result}))
}

// peers are whom the call is about.
func (c *vkCall) peers() []string {
	for _, key := range []string{"peer_ids", "peer_id", "user_id", "user_ids"} {
		if v := c.p.Get(key); v != "" {
			return strings.Split(v, ",")
		}
	}
	return nil
}

func vkEnvelope(e *vkError, method string, params url.Values) []byte {
	echo := []map[string]string{{"key": "method", "value": method}}
	for k, v := range params {
		echo = append(echo, map[string]string{"key": k, "value": strings.Join(v, ",")})
	}
	slices.SortFunc(echo[1:], func(a, b map[string]string) int { return strings.Compare(a["key"], b["key"]) })
	return mustJSON(map[string]any{"error": map[string]any{"error_code": e.code, "error_msg": e.msg, "request_params": echo}})
}

func (c *vkCall) refuse(status int, e *vkError, method string) {
	if e.code == 6 || e.code == 9 || e.code == 29 {
		c.a.rec.countThrottled(c.start)
	}
	c.a.sim.respond(c.call, status, e.code, e.msg, vkEnvelope(e, method, c.p))
}

// faultAnswer renders an injected fault in VK's words; false for kinds that don't
// change the answer.
func (c *vkCall) faultAnswer(method string) bool {
	f := c.fault
	status, code := http.StatusOK, f.Code
	switch f.Kind {
	case FaultThrottle:
		if code == 0 {
			code = 6 // VK tells no wait; a proxy in front of it might
		}
		if f.RetryAfter > 0 {
			status = http.StatusTooManyRequests
			c.w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
			c.a.sim.respond(c.call, status, code, "too many requests", []byte(`{}`))
			return true
		}
	case FaultError:
		if status = f.Status; status == 0 {
			status = http.StatusInternalServerError
			if code != 0 {
				status = http.StatusOK
			}
		}
		if code == 0 {
			c.a.sim.respond(c.call, status, status, "error", []byte(`{}`))
			return true
		}
	case FaultUnauthorized:
		code = 5
	case FaultForbidden:
		if code == 0 {
			code = 7
		}
	case FaultBlocked:
		code = 901
	default:
		return false
	}
	e := vkErr(code, "")
	if f.Description != "" {
		e.msg = f.Description
	}
	c.refuse(status, e, method)
	return true
}

func (c *vkCall) run(method string) (any, *vkError) {
	a := c.a
	if a.opts.Load().revoked {
		return nil, vkErr(5, "invalid access_token (4).")
	}
	if c.p.Get("v") == "" {
		return nil, vkErr(8, "v (version) is required")
	}
	if set := a.opts.Load(); set.realLimits {
		l := set.limits.withDefaults(20, 20)
		a.mu.Lock()
		wait := a.overall.take(c.start, 1, l.PerSecond, l.Burst)
		a.mu.Unlock()
		if wait > 0 {
			return nil, vkErr(6, "")
		}
	}
	if id := c.p.Get("group_id"); strings.HasPrefix(method, "groups.") && method != "groups.getById" && method != "groups.getTokenPermissions" && id != a.ref {
		if id == "" {
			return nil, vkBad("group_id is undefined")
		}
		return nil, vkErr(15, "no access to call this method with another group_id")
	}
	switch method {
	case "groups.getById":
		return map[string]any{"groups": []any{map[string]any{"id": a.group, "name": a.name, "screen_name": "club" + a.ref, "is_closed": 0, "type": "group"}}, "profiles": []any{}}, nil
	case "groups.getTokenPermissions":
		list := []any{}
		for i, name := range []string{"messages", "photos", "docs", "manage"} {
			list = append(list, map[string]any{"name": name, "setting": 1 << (i + 2)})
		}
		return map[string]any{"mask": 0, "permissions": list}, nil
	case "groups.setLongPollSettings":
		return c.setLongPoll()
	case "groups.getLongPollServer":
		return c.longPollServer()
	case "groups.getCallbackConfirmationCode":
		return map[string]any{"code": a.Confirmation()}, nil
	case "groups.getCallbackServers":
		return c.callbackServers()
	case "groups.addCallbackServer", "groups.editCallbackServer":
		return c.saveServer(method)
	case "groups.setCallbackSettings":
		return c.setCallback()
	case "groups.deleteCallbackServer":
		return c.deleteServer()
	case "users.get":
		return c.getUsers()
	case "messages.send":
		return c.send()
	case "messages.edit":
		return c.edit()
	case "messages.delete":
		return c.remove()
	case "messages.getByConversationMessageId":
		return c.getMessages()
	case "messages.getConversations":
		return c.conversations()
	case "messages.getHistory":
		return c.history()
	case "messages.setActivity", "messages.markAsRead":
		if _, e := c.peer(); e != nil {
			return nil, e
		}
		return 1, nil
	case "messages.sendMessageEventAnswer":
		return c.answerPress()
	case "messages.isMessagesFromGroupAllowed":
		id, _ := strconv.ParseInt(c.p.Get("user_id"), 10, 64)
		u := a.user(id)
		return map[string]any{"is_allowed": flagOf(u != nil && u.refuses() == nil)}, nil
	case "photos.getMessagesUploadServer", "docs.getMessagesUploadServer":
		return c.uploadServer(method)
	case "photos.saveMessagesPhoto", "docs.save":
		return c.save(method)
	default:
		return nil, vkErr(3, "")
	}
}

func flagOf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// peer reads peer_id and finds the customer.
func (c *vkCall) peer() (*VKCustomer, *vkError) {
	id, err := strconv.ParseInt(c.p.Get("peer_id"), 10, 64)
	if err != nil {
		return nil, vkBad("peer_id not integer")
	}
	u := c.a.receiver(id)
	if u == nil {
		return nil, vkErr(936, "")
	}
	return u, nil
}

// receiver finds a customer, or makes one where the simulator is told to.
func (a *VKAccount) receiver(id int64) *VKCustomer {
	u := a.user(id)
	if u == nil && id > 0 && a.sim.cfg.AutoCustomers {
		if c, err := a.addCustomer(CustomerSpec{ID: strconv.FormatInt(id, 10), Started: true}); err == nil {
			return c.(*VKCustomer)
		}
		u = a.user(id)
	}
	return u
}

func (c *vkCall) getUsers() (any, *vkError) {
	list := []any{}
	ids := strings.Split(c.p.Get("user_ids"), ",")
	if len(ids) > 1000 {
		return nil, vkBad("user_ids: at most 1000")
	}
	for _, s := range ids {
		id, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, vkErr(113, "")
		}
		if u := c.a.user(id); u != nil {
			list = append(list, u.object(c.p.Get("fields")))
		}
	}
	return list, nil
}

// uploadServer hands out an address for one upload.
func (c *vkCall) uploadServer(method string) (any, *vkError) {
	u, e := c.peer()
	if e != nil {
		return nil, e
	}
	kind := "photo"
	if method == "docs.getMessagesUploadServer" {
		kind = c.p.Get("type")
		if kind == "" {
			kind = "doc"
		}
		if kind != "doc" && kind != "audio_message" && kind != "graffiti" {
			return nil, vkBad("type should be doc, audio_message or graffiti")
		}
	}
	a := c.a
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nextID++
	key := fmt.Sprintf("%016x", filler(a.sim.cfg.Seed+uint64(a.group), uint64(a.nextID)))
	a.uploads[key] = &vkUpload{kind: kind, peer: u.number}
	out := map[string]any{"upload_url": a.sim.BaseURL() + "/vk/upload/" + a.ref + "/" + key}
	if kind == "photo" {
		out["album_id"], out["group_id"] = -64, 0
	}
	return out, nil
}

const (
	vkPhotoBytes = 50_000_000
	vkDocBytes   = 200_000_000
)

// upload takes a file at an address, which needs no token and is good once.
func (p *vkPlatform) upload(w http.ResponseWriter, r *http.Request, rest string) {
	ref, key, _ := strings.Cut(rest, "/")
	found, ok := p.find(ref)
	if !ok || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	a := found.(*VKAccount)
	c := &vkCall{call: p.sim.begin(w, r, &a.accountCore, "upload", "/vk/upload/"+ref), a: a, p: url.Values{}}
	a.mu.Lock()
	up := a.uploads[key]
	delete(a.uploads, key)
	a.mu.Unlock()
	if up != nil {
		c.rec.Customer = strconv.FormatInt(up.peer, 10)
	}
	if c.inject(a.sim, "upload", c.rec.Customer) {
		return
	}
	if c.fault != nil && c.faultAnswer("upload") {
		return
	}
	answer := func(v map[string]any, code int, words string) {
		p.sim.respond(c.call, http.StatusOK, code, words, mustJSON(v))
	}
	if up == nil {
		answer(map[string]any{"error": "ERR_UPLOAD_BAD_ADDRESS: the address is used or too old"}, 22, "bad address")
		return
	}
	field, limit := "file", int64(vkDocBytes)
	if up.kind == "photo" {
		field, limit = "photo", vkPhotoBytes
	}
	if problem := c.take(up, field, limit); problem != "" {
		if up.kind == "photo" {
			answer(map[string]any{"server": 851, "photo": "[]", "hash": ""}, 129, problem)
			return
		}
		answer(map[string]any{"error": problem}, 22, problem)
		return
	}
	a.mu.Lock()
	a.taken[key] = up
	a.mu.Unlock()
	if up.kind == "photo" {
		answer(map[string]any{"server": 851, "photo": `[{"photo":"` + key + `","sizes":[]}]`, "hash": key[:8]}, 0, "ok")
		return
	}
	answer(map[string]any{"file": key}, 0, "ok")
}

// take reads the multipart body; the answer is what is wrong with it.
func (c *vkCall) take(up *vkUpload, field string, limit int64) string {
	reader, err := c.r.MultipartReader()
	if err != nil {
		return "ERR_UPLOAD_FILE_NOT_UPLOADED: no multipart body"
	}
	for {
		part, err := reader.NextPart()
		if err != nil {
			return "ERR_UPLOAD_FILE_NOT_UPLOADED: no field " + field
		}
		if part.FormName() != field {
			continue
		}
		b, over, err := c.a.sim.capture(part, limit)
		if err != nil {
			return "ERR_UPLOAD_FILE_NOT_UPLOADED: the body broke off"
		}
		up.b, up.name = b, part.FileName()
		up.info = FileInfo{Field: field, Name: up.name, MIME: part.Header.Get("Content-Type"), Size: b.size, SHA256: b.sha256()}
		c.rec.Files = []FileInfo{up.info}
		ext := strings.ToLower(up.name[strings.LastIndexByte(up.name, '.')+1:])
		switch {
		case up.name == "":
			return "ERR_UPLOAD_FILE_NOT_UPLOADED: no file name"
		case b.size == 0:
			return "ERR_UPLOAD_FILE_EMPTY"
		case over:
			return "ERR_UPLOAD_FILE_TOO_BIG"
		case up.kind == "photo" && b.mime != "image/jpeg" && b.mime != "image/png" && b.mime != "image/gif":
			return "not a JPG, PNG or GIF"
		case up.kind == "graffiti" && b.mime != "image/png":
			return "ERR_UPLOAD_BAD_GRAFFITI: not a PNG"
		case up.kind == "doc" && (b.mime == "audio/mpeg" || b.mime == "application/x-msdownload" || ext == "mp3" || ext == "exe" || ext == "com" || ext == "bat"):
			return "ERR_UPLOAD_FILE_BAD_TYPE"
		}
		return ""
	}
}

// save makes an attachment of an upload.
func (c *vkCall) save(method string) (any, *vkError) {
	a := c.a
	key := c.p.Get("file")
	if method == "photos.saveMessagesPhoto" {
		var photos []struct {
			Photo string `json:"photo"`
		}
		if json.Unmarshal([]byte(c.p.Get("photo")), &photos) != nil || len(photos) != 1 {
			return nil, vkErr(129, "")
		}
		key = photos[0].Photo
		if c.p.Get("server") != "851" {
			return nil, vkErr(118, "Invalid server")
		}
		if len(key) < 8 || c.p.Get("hash") != key[:8] {
			return nil, vkErr(121, "")
		}
	}
	a.mu.Lock()
	up := a.taken[key]
	delete(a.taken, key)
	a.mu.Unlock()
	if up == nil || (up.kind == "photo") != (method == "photos.saveMessagesPhoto") {
		return nil, vkBad("file is undefined")
	}
	if up.kind == "audio_message" && up.b.mime != "audio/ogg" {
		return nil, vkErr(10, "could not read the voice message")
	}
	a.mu.Lock()
	a.nextID++
	f := &vkFile{kind: up.kind, id: a.nextID, name: up.name, b: up.b, info: up.info}
	f.key = fmt.Sprintf("%08x", filler(uint64(a.group), uint64(f.id))&0xffffffff)
	a.attached[fmt.Sprintf("%s-%d_%d", f.kind, a.group, f.id)] = f
	a.mu.Unlock()
	if t := c.p.Get("title"); t != "" {
		f.name = t
	}
	body := a.attachment(f)[f.kind]
	if up.kind == "photo" {
		return []any{body}, nil
	}
	return map[string]any{"type": f.kind, f.kind: body}, nil
}

// attachment renders an attachment of ours.
func (a *VKAccount) attachment(f *vkFile) map[string]any {
	link := a.sim.BaseURL() + "/vk/media/" + a.sim.media.put(f.b, a.sim.cfg.Seed, mediaLife) + "/"
	body := map[string]any{"id": f.id, "owner_id": -a.group, "access_key": f.key}
	switch f.kind {
	case "photo":
		body["sizes"] = []any{map[string]any{"type": "w", "url": link + "w.jpg", "width": 640, "height": 480}}
	case "audio_message":
		body["link_ogg"], body["duration"] = link+"v.ogg", 1
	case "graffiti":
		body["url"], body["width"], body["height"] = link+"g.png", 100, 100
	default:
		body["title"], body["size"], body["url"], body["type"] = f.name, f.b.size, link+urlName(f.name), 8
		body["ext"] = f.name[strings.LastIndexByte(f.name, '.')+1:]
	}
	return map[string]any{"type": f.kind, f.kind: body}
}
