package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxViberText      = 7000
	maxViberTracking  = 4000
	maxViberSender    = 28
	maxViberCaption   = 512
	maxViberVideo     = 26 << 20
	maxViberFile      = 50 << 20
	maxViberFileName  = 256
	maxViberDuration  = 180 // seconds
	maxViberURL       = 2000
	maxViberPhone     = 18
	maxViberBroadcast = 300
	viberSession      = 24 * time.Hour
)

// vMessage is a validated message.
type vMessage struct {
	kind     string
	text     string
	sender   string
	avatar   string
	tracking string
	media    string
	name     string
	size     int64
	minAPI   int
	keyboard json.RawMessage
	location *Point
	contact  *Card
	warnings []string
	raw      json.RawMessage
	group    string
}

// fields is a JSON object with exact names: Viber's are case-sensitive, and
// encoding/json's structs are not.
type fields map[string]json.RawMessage

func (f fields) has(name string) bool { return f[name] != nil }

// str reads a string; ok is false when the field is absent.
func (f fields) str(name string) (s string, ok bool, st *viberStatus) {
	v := f[name]
	if v == nil {
		return "", false, nil
	}
	if v[0] == '"' && bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1]), true, nil
	}
	if string(v) == "null" || json.Unmarshal(v, &s) != nil {
		return "", false, badData("%s must be a string", name)
	}
	return s, true, nil
}

func (f fields) num(name string) (n float64, ok bool, st *viberStatus) {
	v := f[name]
	if v == nil {
		return 0, false, nil
	}
	if string(v) == "null" || json.Unmarshal(v, &n) != nil {
		return 0, false, badData("%s must be a number", name)
	}
	return n, true, nil
}

func (f fields) obj(name string) (o fields, st *viberStatus) {
	v := f[name]
	if v == nil {
		return nil, nil
	}
	if v[0] != '{' || json.Unmarshal(v, &o) != nil {
		return nil, badData("%s must be an object", name)
	}
	return o, nil
}

// parseViber validates everything in a message but its receiver.
func parseViber(body []byte) (fields, *vMessage, *viberStatus) {
	var f fields
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, nil, badData("%v", err)
	}
	m := &vMessage{minAPI: 1, raw: bytes.Clone(body)}
	warn := func(format string, args ...any) { m.warnings = append(m.warnings, fmt.Sprintf(format, args...)) }

	sender, st := f.obj("sender")
	if st != nil {
		return f, nil, st
	}
	name, ok, st := sender.str("name")
	switch {
	case st != nil:
		return f, nil, st
	case !ok || name == "":
		return f, nil, missing("sender.name")
	case utf8.RuneCountInString(name) > maxViberSender:
		return f, nil, badData("sender.name is over %d characters", maxViberSender)
	}
	m.sender = name
	if m.avatar, ok, st = sender.str("avatar"); st != nil {
		return f, nil, st
	} else if ok && m.avatar != "" && !fetchableURL(m.avatar) {
		return f, nil, badData("sender.avatar is not a URL")
	}
	if m.tracking, _, st = f.str("tracking_data"); st != nil { // null is refused too
		return f, nil, st
	}
	if utf8.RuneCountInString(m.tracking) > maxViberTracking {
		return f, nil, badData("tracking_data is over %d characters", maxViberTracking)
	}
	api, ok, st := f.num("min_api_version")
	if st != nil {
		return f, nil, st
	}
	if ok {
		if m.minAPI = int(api); float64(m.minAPI) != api || m.minAPI < 1 {
			return f, nil, badData("min_api_version must be a positive integer")
		}
	}

	need := 1
	if f.has("keyboard") {
		k, st := f.obj("keyboard")
		if st != nil {
			return f, nil, st
		}
		if need, st = checkKeyboard(k, warn); st != nil {
			return f, nil, st
		}
		m.keyboard = bytes.Clone(f["keyboard"])
	}
	if m.kind, ok, st = f.str("type"); st != nil {
		return f, nil, st
	}
	if !ok {
		if m.keyboard == nil {
			return f, nil, missing("type")
		}
		m.kind = "keyboard"
	} else if st := m.content(f, &need, warn); st != nil {
		return f, nil, st
	}
	if m.minAPI < need {
		return f, nil, vStatus(14, "min_api_version %d is needed", need)
	}
	return f, m, nil
}

// refusedExtensions are formats that run; the documents say that a list exists.
var refusedExtensions = []string{
	".exe", ".msi", ".bat", ".cmd", ".com", ".scr", ".pif", ".vbs", ".js", ".jse", ".wsf", ".cpl", ".jar", ".app", ".action",
	".command", ".workflow", ".apk", ".ipa", ".sh", ".ps1", ".reg", ".gadget", ".hta", ".inf", ".lnk",
}

func (m *vMessage) content(f fields, need *int, warn func(string, ...any)) *viberStatus {
	var st *viberStatus
	var ok bool
	text := func(limit int, required bool) *viberStatus {
		if m.text, ok, st = f.str("text"); st != nil {
			return st
		}
		if required && m.text == "" {
			return missing("text")
		}
		if utf8.RuneCountInString(m.text) > limit {
			return badData("text is over %d characters", limit)
		}
		return nil
	}
	media := func() *viberStatus {
		if m.media, ok, st = f.str("media"); st != nil {
			return st
		}
		if m.media == "" {
			return missing("media")
		}
		if !fetchableURL(m.media) {
			return badData("media is not a URL")
		}
		return nil
	}
	size := func(limit int64) *viberStatus {
		n, ok, st := f.num("size")
		switch {
		case st != nil:
			return st
		case !ok:
			return missing("size")
		case n < 1 || n != float64(int64(n)):
			return badData("size must be a positive integer")
		case int64(n) > limit:
			return badData("size is over %d bytes", limit)
		}
		m.size = int64(n)
		return nil
	}
	thumbnail := func() *viberStatus {
		t, ok, st := f.str("thumbnail")
		if st == nil && ok && t != "" && !fetchableURL(t) {
			st = badData("thumbnail is not a URL")
		}
		return st
	}

	switch m.kind {
	case "text":
		return text(maxViberText, true)
	case "picture":
		if st := text(maxViberCaption, false); st != nil {
			return st
		}
		if !ok {
			warn("picture without text: older validation wants the key, send \"\"")
		}
		if st := media(); st != nil {
			return st
		}
		if !slices.Contains([]string{".jpg", ".jpeg", ".png", ".gif"}, strings.ToLower(path.Ext(pathOf(m.media)))) {
			warn("picture URL should end in .jpg, .jpeg, .png or .gif")
		}
		return thumbnail()
	case "video":
		if st := text(maxViberCaption, false); st != nil {
			return st
		}
		if st := media(); st != nil {
			return st
		}
		if st := size(maxViberVideo); st != nil {
			return st
		}
		d, ok, st := f.num("duration")
		if st != nil {
			return st
		}
		if ok && (d < 0 || d > maxViberDuration) {
			return badData("duration is over %d seconds", maxViberDuration)
		}
		return thumbnail()
	case "file":
		if st := media(); st != nil {
			return st
		}
		if st := size(maxViberFile); st != nil {
			return st
		}
		if m.name, ok, st = f.str("file_name"); st != nil {
			return st
		}
		ext := strings.ToLower(path.Ext(m.name))
		switch {
		case m.name == "":
			return missing("file_name")
		case utf8.RuneCountInString(m.name) > maxViberFileName:
			return badData("file_name is over %d characters", maxViberFileName)
		case ext == "" || ext == ".":
			return badData("file_name has no extension")
		case slices.Contains(refusedExtensions, ext):
			return badData("files of type %s are not allowed", ext)
		}
		if f.has("text") {
			warn("a file has no caption: text is ignored")
		}
	case "location":
		l, st := f.obj("location")
		if st != nil {
			return st
		}
		lat, ok1, st1 := l.num("lat")
		lon, ok2, st2 := l.num("lon")
		switch {
		case st1 != nil || st2 != nil:
			return badData("location must have numbers")
		case !ok1 || !ok2:
			return missing("location.lat, location.lon")
		case lat < -90 || lat > 90 || lon < -180 || lon > 180:
			return badData("location is out of range")
		}
		m.location = &Point{Lat: lat, Lon: lon}
	case "contact":
		c, st := f.obj("contact")
		if st != nil {
			return st
		}
		name, _, st1 := c.str("name")
		phone, _, st2 := c.str("phone_number")
		switch {
		case st1 != nil || st2 != nil:
			return badData("contact must have strings")
		case name == "" || phone == "":
			return missing("contact.name, contact.phone_number")
		case utf8.RuneCountInString(name) > maxViberSender:
			return badData("contact.name is over %d characters", maxViberSender)
		case utf8.RuneCountInString(phone) > maxViberPhone:
			return badData("contact.phone_number is over %d characters", maxViberPhone)
		}
		m.contact = &Card{name, phone}
	case "sticker":
		if !f.has("sticker_id") {
			return missing("sticker_id")
		}
		if n, _, st := f.num("sticker_id"); st != nil || n < 1 {
			return badData("sticker_id must be a positive number")
		}
	case "url":
		if st := media(); st != nil {
			return st
		}
		if utf8.RuneCountInString(m.media) > maxViberURL {
			return badData("media is over %d characters", maxViberURL)
		}
		m.text, m.media = m.media, ""
	case "rich_media":
		if m.text, _, st = f.str("alt_text"); st != nil {
			return st
		}
		if utf8.RuneCountInString(m.text) > maxViberText {
			return badData("alt_text is over %d characters", maxViberText)
		}
		r, st := f.obj("rich_media")
		if st != nil {
			return st
		}
		if r == nil {
			return missing("rich_media")
		}
		if m.minAPI < 2 {
			warn("rich_media is believed to need min_api_version 2")
		}
		n, st := checkRichMedia(r, warn)
		*need = max(*need, n)
		if m.keyboard == nil {
			m.keyboard = bytes.Clone(f["rich_media"])
		}
		return st
	default:
		return badData("type %q", m.kind)
	}
	return nil
}

// pathOf is a URL's part before the query.
func pathOf(u string) string {
	u, _, _ = strings.Cut(u, "?")
	return u
}

func isColour(s string) bool {
	if len(s) != 7 || s[0] != '#' {
		return false
	}
	return strings.Trim(s[1:], "0123456789abcdefABCDEF") == ""
}

// checkKeyboard returns the min_api_version that the keyboard's fields need.
func checkKeyboard(k fields, warn func(string, ...any)) (need int, st *viberStatus) {
	need = 1
	if t, _, st := k.str("Type"); st != nil || t != "keyboard" {
		return 0, badData("keyboard.Type must be \"keyboard\"")
	}
	if st := checkColour(k, "BgColor"); st != nil {
		return 0, st
	}
	if st := checkRange(k, "CustomDefaultHeight", 40, 70); st != nil {
		return 0, st
	}
	if st := checkRange(k, "HeightScale", 20, 100); st != nil {
		return 0, st
	}
	if st := checkEnum(k, "InputFieldState", "regular", "minimized", "hidden"); st != nil {
		return 0, st
	}
	if k.has("CustomDefaultHeight") || k.has("HeightScale") {
		need = 3
	}
	if k.has("InputFieldState") || k.has("ButtonsGroupColumns") || k.has("ButtonsGroupRows") {
		need = max(need, 4)
	}
	width := 6
	if n, ok, st := k.num("ButtonsGroupColumns"); st != nil {
		return 0, st
	} else if ok {
		if n < 1 || n > 6 {
			return 0, badData("ButtonsGroupColumns must be 1-6")
		}
		width = int(n)
	}
	var buttons []fields
	if json.Unmarshal(k["Buttons"], &buttons) != nil || len(buttons) == 0 {
		return 0, badData("keyboard.Buttons must be a non-empty array")
	}
	var grid layout
	for i, b := range buttons {
		w, h, n, st := checkButton(b, width, 2, warn)
		if st != nil {
			st.text += fmt.Sprintf(" (button %d)", i)
			return 0, st
		}
		need = max(need, n)
		if !grid.place(w, h, width) {
			return 0, badData("button %d does not fit its row of %d columns", i, width)
		}
	}
	if !grid.full(width) {
		return 0, badData("the last row of the keyboard does not fill %d columns", width)
	}
	if len(grid) > 24 {
		warn("keyboard of %d rows: 24 is believed to be the most", len(grid))
	}
	return need, nil
}

func checkRichMedia(r fields, warn func(string, ...any)) (need int, st *viberStatus) {
	if t, _, st := r.str("Type"); st != nil || t != "rich_media" {
		return 0, badData("rich_media.Type must be \"rich_media\"")
	}
	if st := checkColour(r, "BgColor"); st != nil {
		return 0, st
	}
	cols, rows := 6, 7
	for name, p := range map[string]*int{"ButtonsGroupColumns": &cols, "ButtonsGroupRows": &rows} {
		if st := checkRange(r, name, 1, float64(*p)); st != nil {
			return 0, st
		}
		if n, ok, _ := r.num(name); ok {
			*p = int(n)
		}
	}
	var buttons []fields
	if json.Unmarshal(r["Buttons"], &buttons) != nil || len(buttons) == 0 {
		return 0, badData("rich_media.Buttons must be a non-empty array")
	}
	if len(buttons) > 6*cols*rows {
		return 0, badData("rich_media has over %d buttons", 6*cols*rows)
	}
	need = 1
	for i, b := range buttons {
		_, _, n, st := checkButton(b, cols, rows, warn)
		if st != nil {
			st.text += fmt.Sprintf(" (button %d)", i)
			return 0, st
		}
		need = max(need, n)
	}
	return need, nil
}

func checkButton(b fields, maxCols, maxRows int, warn func(string, ...any)) (w, h, need int, st *viberStatus) {
	w, h, need = maxCols, 1, 1
	for name, p := range map[string]struct {
		v   *int
		max int
	}{"Columns": {&w, maxCols}, "Rows": {&h, maxRows}} {
		n, ok, st := b.num(name)
		if st != nil {
			return 0, 0, 0, st
		}
		if ok {
			if n < 1 || n > float64(p.max) || n != float64(int(n)) {
				return 0, 0, 0, badData("%s must be 1-%d", name, p.max)
			}
			*p.v = int(n)
		}
	}
	if st := checkEnum(b, "ActionType", "reply", "open-url", "location-picker", "share-phone", "none"); st != nil {
		return 0, 0, 0, st
	}
	action, _, _ := b.str("ActionType")
	body, ok, st := b.str("ActionBody")
	if st != nil {
		return 0, 0, 0, st
	}
	if (!ok || body == "") && action != "none" {
		return 0, 0, 0, missing("ActionBody")
	}
	if utf8.RuneCountInString(body) > 250 {
		warn("ActionBody is over 250 characters")
	}
	if action == "open-url" && !fetchableURL(body) {
		return 0, 0, 0, badData("ActionBody of open-url is not a URL")
	}
	for _, check := range []struct {
		name   string
		values []string
	}{
		{"TextSize", []string{"small", "regular", "large"}},
		{"TextVAlign", []string{"top", "middle", "bottom"}},
		{"TextHAlign", []string{"left", "center", "right"}},
		{"BgMediaType", []string{"picture", "gif"}},
		{"OpenURLType", []string{"internal", "external"}},
	} {
		if st := checkEnum(b, check.name, check.values...); st != nil {
			return 0, 0, 0, st
		}
	}
	if st := checkColour(b, "BgColor"); st != nil {
		return 0, 0, 0, st
	}
	if b.has("Silent") && string(b["Silent"]) != "true" && string(b["Silent"]) != "false" {
		return 0, 0, 0, badData("Silent must be a boolean")
	}
	if frame, st := b.obj("Frame"); st != nil {
		return 0, 0, 0, st
	} else if frame != nil {
		if st := checkColour(frame, "BorderColor"); st != nil {
			return 0, 0, 0, st
		}
	}
	if b.has("TextPaddings") {
		var p []float64
		if json.Unmarshal(b["TextPaddings"], &p) != nil || len(p) != 4 {
			return 0, 0, 0, badData("TextPaddings must be four numbers")
		}
		need = 4
	}
	if b.has("InternalBrowser") {
		need = max(need, 3)
	}
	for _, name := range []string{"Frame", "BgMediaScaleType", "ImageScaleType", "Map", "MediaPlayer"} {
		if b.has(name) {
			need = 6
		}
	}
	return w, h, need, nil
}

func checkColour(f fields, name string) *viberStatus {
	s, ok, st := f.str(name)
	if st == nil && ok && !isColour(s) {
		st = badData("%s must be #RRGGBB", name)
	}
	return st
}

func checkRange(f fields, name string, low, high float64) *viberStatus {
	n, ok, st := f.num(name)
	if st == nil && ok && (n < low || n > high) {
		st = badData("%s must be %v-%v", name, low, high)
	}
	return st
}

func checkEnum(f fields, name string, values ...string) *viberStatus {
	s, ok, st := f.str(name)
	if st == nil && ok && !slices.Contains(values, s) {
		st = badData("%s must be one of %v", name, values)
	}
	return st
}

// layout is the cells taken, by row.
type layout [][6]bool

// place puts a button into the first free cell, reading order; false when it does not fit there.
func (g *layout) place(w, h, width int) bool {
	r, c := 0, 0
	for ; ; r++ {
		if r == len(*g) {
			*g = append(*g, [6]bool{})
		}
		if c = slices.Index((*g)[r][:width], false); c >= 0 {
			break
		}
	}
	for len(*g) < r+h {
		*g = append(*g, [6]bool{})
	}
	if c+w > width {
		return false
	}
	for y := r; y < r+h; y++ {
		for x := c; x < c+w; x++ {
			if (*g)[y][x] {
				return false
			}
			(*g)[y][x] = true
		}
	}
	return true
}

func (g layout) full(width int) bool {
	for _, row := range g {
		if slices.Contains(row[:width], false) {
			return false
		}
	}
	return true
}

// viberButtons lists a keyboard's buttons in order.
func viberButtons(raw json.RawMessage) []Button {
	if len(raw) == 0 {
		return nil
	}
	var k struct {
		Buttons []struct{ ActionType, ActionBody, Text string }
	}
	if json.Unmarshal(raw, &k) != nil {
		return nil
	}
	var out []Button
	for _, b := range k.Buttons {
		if b.ActionType == "" {
			b.ActionType = "reply"
		}
		x := Button{Text: b.Text, Data: b.ActionBody, Action: b.ActionType}
		if b.ActionType == "open-url" {
			x.URL = b.ActionBody
		}
		out = append(out, x)
	}
	return out
}

func (c *viberCall) sendMessage() (token uint64, billing int, st *viberStatus) {
	if st := c.ready(); st != nil {
		return 0, 0, st
	}
	f, m, st := parseViber(c.body)
	if st != nil {
		return 0, 0, st
	}
	id, ok, st := f.str("receiver")
	if st != nil {
		return 0, 0, st
	}
	if !ok || id == "" {
		return 0, 0, missing("receiver")
	}
	now := time.Now()
	u, billing, st := c.a.admit(id, m.minAPI, now)
	if st != nil {
		return 0, 0, st
	}
	token = c.a.plat.tokens.Add(1)
	c.a.rec.countSend(c.start, u.hash)
	u.receive(m, token, now)
	return token, billing, nil
}

// ready checks what sending needs: a webhook, and the overall rate if there is one.
func (c *viberCall) ready() *viberStatus {
	a := c.a
	opts := a.opts.Load()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.url == "" {
		return vStatus(10, "")
	}
	if l := opts.limits; opts.realLimits && l.PerSecond > 0 {
		l = l.withDefaults(l.PerSecond, 0)
		if a.overall.take(time.Now(), 1, l.PerSecond, l.Burst) > 0 {
			return vStatus(12, "")
		}
	}
	return nil
}

// admit decides whether a user may be written to, and how that is billed.
func (a *ViberAccount) admit(id string, minAPI int, now time.Time) (*ViberCustomer, int, *viberStatus) {
	u := a.user(id)
	if u == nil {
		if !a.sim.cfg.AutoCustomers || !validViberID(id) {
			return nil, 0, vStatus(5, "")
		}
		if c, err := a.addCustomer(CustomerSpec{ID: id, Started: true}); err == nil {
			u = c.(*ViberCustomer)
		} else if u = a.user(id); u == nil {
			return nil, 0, vStatus(5, "")
		}
	}
	opts := a.opts.Load()
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case !u.subscribed:
		return nil, 0, vStatus(6, "")
	case u.unsuitable:
		return nil, 0, vStatus(11, "")
	case minAPI > u.version:
		return nil, 0, vStatus(13, "")
	}
	// 100 messages in a clock hour, counted anew when the user writes.
	if hour := now.Unix() / 3600; u.hour != hour {
		u.hour, u.inHour = hour, 0
	}
	if opts.realLimits && u.inHour >= opts.limits.withDefaults(0, 1).PerHour {
		return nil, 0, vStatus(12, "")
	}
	billing := 1
	if now.Sub(u.session) >= viberSession {
		billing = 2
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.freeLeft > 0 {
			a.freeLeft--
		} else {
			switch opts.billing {
			case "free":
				return nil, 0, vStatus(23, "")
			case "no_balance":
				return nil, 0, vStatus(24, "")
			}
			billing = 3
		}
	}
	u.inHour++
	return u, billing, nil
}

func (c *viberCall) broadcast(out map[string]any) *viberStatus {
	if st := c.ready(); st != nil {
		return st
	}
	f, m, st := parseViber(c.body)
	if st != nil {
		return st
	}
	var list []string
	if !f.has("broadcast_list") {
		return missing("broadcast_list")
	}
	if json.Unmarshal(f["broadcast_list"], &list) != nil || len(list) == 0 {
		return badData("broadcast_list must be a non-empty array of ids")
	}
	if len(list) > maxViberBroadcast {
		return badData("broadcast_list is over %d receivers", maxViberBroadcast)
	}
	a := c.a
	now := time.Now()
	if a.opts.Load().realLimits {
		a.mu.Lock()
		a.broadcasts = slices.DeleteFunc(a.broadcasts, func(t time.Time) bool { return now.Sub(t) > 10*time.Second })
		over := len(a.broadcasts) >= 500
		if !over {
			a.broadcasts = append(a.broadcasts, now)
		}
		a.mu.Unlock()
		if over {
			return vStatus(12, "")
		}
	}
	token := a.plat.tokens.Add(1)
	failed := []any{}
	billing := 4
	for _, id := range list {
		u, bill, st := a.admit(id, m.minAPI, now)
		if st != nil {
			failed = append(failed, map[string]any{"receiver": id, "status": st.code, "status_message": st.text})
			continue
		}
		if bill == 3 {
			billing = 5
		}
		a.rec.countSend(c.start, u.hash)
		copied := *m
		u.receive(&copied, token, now)
	}
	out["message_token"], out["billing_status"], out["failed_list"] = token, billing, failed
	return nil
}

// vStored is a message as the dialogue keeps it.
type vStored struct {
	seq      int64
	token    uint64
	fromBot  bool
	m        *vMessage
	file     *FileInfo
	state    string
	welcome  bool
	at       time.Time
	ownFiles []FileInfo
}

// receive gives an accepted message to the customer and lets the receipts follow.
func (u *ViberCustomer) receive(m *vMessage, token uint64, now time.Time) {
	a := u.acct
	s := &vStored{token: token, fromBot: true, m: m, state: "accepted", at: now}
	u.mu.Lock()
	u.keep(s)
	// The keyboard lives until the next message.
	u.keyboard = m.keyboard
	u.tracking = m.tracking
	u.mu.Unlock()
	buttons := 0
	if m.keyboard != nil {
		buttons = len(viberButtons(m.keyboard))
	}
	if m.media != "" && (!a.sim.cfg.Lean || !a.opts.Load().noReceipts) {
		a.sim.spawn(func(ctx context.Context) { u.download(ctx, s) })
	} else {
		u.schedule(s, "")
	}
	u.received(m.text, buttons)
}

// keep stores a message; u.mu is held.
func (u *ViberCustomer) keep(s *vStored) {
	u.seq++
	s.seq = u.seq
	if len(u.history) >= u.acct.sim.cfg.KeepMessages {
		u.history[0] = nil
		u.history = u.history[1:]
	}
	u.history = append(u.history, s)
}

// download fetches the media as the client would; without it the message fails.
func (u *ViberCustomer) download(ctx context.Context, s *vStored) {
	f := u.acct.sim.fetch(ctx, s.m.media)
	f.Name = s.m.name
	if f.Name == "" {
		f.Name = path.Base(pathOf(s.m.media))
	}
	problem := f.Error
	u.mu.Lock()
	s.file = &f
	if problem == "" && s.m.size > 0 && s.m.size != f.Size {
		s.m.warnings = append(slices.Clone(s.m.warnings), fmt.Sprintf("size says %d, the file has %d bytes", s.m.size, f.Size))
	}
	if s.m.kind == "picture" && f.Size > 1<<20 {
		s.m.warnings = append(slices.Clone(s.m.warnings), "picture is over 1 MB: some clients won't show it")
	}
	u.mu.Unlock()
	u.changed.broadcast()
	u.schedule(s, problem)
}

// schedule sends the receipts of a message after the configured delays.
func (u *ViberCustomer) schedule(s *vStored, problem string) {
	opts := u.acct.opts.Load()
	u.mu.Lock()
	mode, devices := u.receipts, u.devices
	u.mu.Unlock()
	if opts.noReceipts || mode == "none" && problem == "" || s.token == 0 {
		return
	}
	if problem != "" || mode == "failed" {
		if problem == "" {
			problem = "failure description"
		}
		u.acct.sim.after(opts.deliveredAfter, func() { u.receipt(s, "failed", problem) })
		return
	}
	u.acct.sim.after(opts.deliveredAfter, func() {
		for range devices {
			u.receipt(s, "delivered", "")
		}
		if mode == "seen" {
			u.acct.sim.after(opts.seenAfter, func() { u.see(s) })
		}
	})
}

func (u *ViberCustomer) receipt(s *vStored, event, desc string) {
	u.mu.Lock()
	s.state = event
	if event == "delivered" {
		u.unseen = s
	}
	u.mu.Unlock()
	body := map[string]any{
		"event": event, "timestamp": time.Now().UnixMilli(), "chat_hostname": viberHost, "message_token": s.token, "user_id": u.id,
	}
	if desc != "" {
		body["desc"] = desc
	}
	u.acct.emit(event, u.id, mustJSON(body), nil, nil)
	u.changed.broadcast()
}

// see sends seen once for everything that is delivered and not seen yet; by is
// the message whose reading time has come.
func (u *ViberCustomer) see(by *vStored) bool {
	u.mu.Lock()
	last := u.unseen
	if last == nil || by != nil && by.seq > last.seq || by != nil && by.state != "delivered" {
		u.mu.Unlock()
		return false
	}
	u.unseen = nil
	for _, m := range u.history {
		if m.fromBot && m.state == "delivered" && m.seq <= last.seq {
			m.state = "seen"
		}
	}
	u.mu.Unlock()
	u.receipt(last, "seen", "")
	return true
}
