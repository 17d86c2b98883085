package simulator

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// utf16Len counts a string's UTF-16 code units, as Telegram counts lengths.
func utf16Len(s string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b&0xc0 == 0x80: // continuation
		case b >= 0xf0:
			n += 2
		default:
			n++
		}
	}
	return n
}

// utf16Slice cuts units [from, from+length) out of s; ok is false outside s or
// in the middle of a character.
func utf16Slice(s string, from, length int) (string, bool) {
	start, end, n := -1, -1, 0
	for i, r := range s {
		if n == from {
			start = i
		}
		if n == from+length {
			end = i
			break
		}
		n++
		if r >= 0x10000 {
			n++
		}
	}
	if n == from && start < 0 {
		start = len(s)
	}
	if n == from+length && end < 0 {
		end = len(s)
	}
	if start < 0 || end < 0 {
		return "", false
	}
	return s[start:end], true
}

var entityTypes = []string{
	"mention", "hashtag", "cashtag", "bot_command", "url", "email", "phone_number", "bold", "italic", "underline",
	"strikethrough", "spoiler", "blockquote", "expandable_blockquote", "code", "pre", "text_link", "text_mention",
	"custom_emoji", "date_time",
}

// formatted reads a text parameter with its parse_mode or entities.
func (c *tgCall) formatted(text, modeParam, entitiesParam string) (string, []tgEntity, *tgError) {
	return formatText(text, c.p[modeParam], c.p[entitiesParam])
}

func formatText(text, mode, entities string) (string, []tgEntity, *tgError) {
	var out []tgEntity
	var err error
	switch {
	case mode == "":
		if entities != "" {
			if err := json.Unmarshal([]byte(entities), &out); err != nil {
				return "", nil, badRequest("can't parse entities: %s", err.Error())
			}
			for _, e := range out {
				if !slices.Contains(entityTypes, e.Type) {
					return "", nil, badRequest("can't parse entities: unsupported type %q", e.Type)
				}
				if part, ok := utf16Slice(text, e.Offset, e.Length); !ok || part == "" {
					return "", nil, badRequest("can't parse entities: entity %s at %d+%d is outside the text or splits a character", e.Type, e.Offset, e.Length)
				}
			}
		}
	case strings.EqualFold(mode, "HTML"):
		text, out, err = parseHTML(text)
	case strings.EqualFold(mode, "MarkdownV2"):
		text, out, err = parseMarkdownV2(text)
	default:
		return "", nil, badRequest("unsupported parse_mode")
	}
	if err != nil {
		return "", nil, badRequest("can't parse entities: %s", err.Error())
	}
	slices.SortStableFunc(out, func(a, b tgEntity) int {
		if a.Offset != b.Offset {
			return a.Offset - b.Offset
		}
		return b.Length - a.Length
	})
	return text, out, nil
}

var htmlTags = map[string]string{
	"b": "bold", "strong": "bold", "i": "italic", "em": "italic", "u": "underline", "ins": "underline",
	"s": "strikethrough", "strike": "strikethrough", "del": "strikethrough", "tg-spoiler": "spoiler",
	"a": "text_link", "code": "code", "pre": "pre", "blockquote": "blockquote", "span": "spoiler", "tg-emoji": "custom_emoji",
}

// parseHTML turns Telegram's HTML into text and entities.
func parseHTML(s string) (string, []tgEntity, error) {
	if strings.IndexByte(s, '<') < 0 && strings.IndexByte(s, '&') < 0 {
		return s, nil, nil
	}
	type open struct {
		tag string
		ent tgEntity
		at  int // bytes in out
	}
	var out strings.Builder
	var ents []tgEntity
	var stack []open
	pos := 0 // UTF-16 units written
	for i := 0; i < len(s); {
		switch s[i] {
		case '&':
			r, n := htmlEntity(s[i:])
			if n == 0 {
				r, n = '&', 1 // an unknown one stays as it is
			}
			out.WriteRune(r)
			pos += utf16Len(string(r))
			i += n
		case '<':
			end := strings.IndexByte(s[i:], '>')
			if end < 0 {
				return "", nil, fmt.Errorf("Unclosed start tag at byte offset %d", i) //nolint:staticcheck // the platform's words
			}
			body := s[i+1 : i+end]
			if name, ok := strings.CutPrefix(body, "/"); ok {
				if len(stack) == 0 {
					return "", nil, fmt.Errorf("Unexpected end tag at byte offset %d", i) //nolint:staticcheck // the platform's words
				}
				top := stack[len(stack)-1]
				if name = strings.ToLower(strings.TrimSpace(name)); name != top.tag {
					return "", nil, fmt.Errorf("Unmatched end tag at byte offset %d, expected \"</%s>\", found \"</%s>\"", i, top.tag, name) //nolint:staticcheck // the platform's words
				}
				stack = stack[:len(stack)-1]
				top.ent.Length = pos - top.ent.Offset
				if top.ent.Type == "text_link" && top.ent.URL == "" {
					top.ent.URL = out.String()[top.at:]
				}
				// <pre><code class="language-x"> is one entity.
				nested := top.tag == "code" && len(stack) > 0 && stack[len(stack)-1].tag == "pre"
				if nested {
					stack[len(stack)-1].ent.Language = top.ent.Language
				} else if top.ent.Length > 0 {
					ents = append(ents, top.ent)
				}
			} else {
				tag, attrs := htmlTag(body)
				kind, known := htmlTags[tag]
				if !known || tag == "span" && attrs["class"] != "tg-spoiler" {
					return "", nil, fmt.Errorf("Unsupported start tag \"%s\" at byte offset %d", tag, i) //nolint:staticcheck // the platform's words
				}
				e := tgEntity{Type: kind, Offset: pos}
				switch tag {
				case "a":
					e.URL = attrs["href"]
				case "code":
					e.Language = strings.TrimPrefix(attrs["class"], "language-")
				case "blockquote":
					if _, ok := attrs["expandable"]; ok {
						e.Type = "expandable_blockquote"
					}
				case "tg-emoji":
					e.EmojiID = attrs["emoji-id"]
				}
				stack = append(stack, open{tag, e, out.Len()})
			}
			i += end + 1
		default:
			_, n := utf8.DecodeRuneInString(s[i:])
			out.WriteString(s[i : i+n])
			pos += utf16Len(s[i : i+n])
			i += n
		}
	}
	if len(stack) > 0 {
		return "", nil, fmt.Errorf("Can't find end tag corresponding to start tag \"%s\"", stack[len(stack)-1].tag) //nolint:staticcheck // the platform's words
	}
	for i := range ents {
		if ents[i].Type == "code" {
			ents[i].Language = ""
		}
	}
	return out.String(), ents, nil
}

func htmlEntity(s string) (r rune, n int) {
	end := strings.IndexByte(s[:min(len(s), 12)], ';')
	if end < 0 {
		return 0, 0
	}
	switch name := s[1:end]; {
	case name == "lt":
		return '<', end + 1
	case name == "gt":
		return '>', end + 1
	case name == "amp":
		return '&', end + 1
	case name == "quot":
		return '"', end + 1
	case strings.HasPrefix(name, "#"):
		base, digits := 10, name[1:]
		if strings.HasPrefix(digits, "x") || strings.HasPrefix(digits, "X") {
			base, digits = 16, digits[1:]
		}
		if v, err := strconv.ParseUint(digits, base, 21); err == nil && utf8.ValidRune(rune(v)) && v != 0 {
			return rune(v), end + 1
		}
	}
	return 0, 0
}

func htmlTag(body string) (tag string, attrs map[string]string) {
	tag, rest, _ := strings.Cut(strings.TrimSpace(body), " ")
	attrs = map[string]string{}
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		end := strings.IndexAny(rest, "= ")
		if end < 0 {
			attrs[strings.ToLower(rest)] = ""
			break
		}
		name := strings.ToLower(rest[:end])
		if rest[end] == ' ' {
			attrs[name] = ""
			rest = rest[end:]
			continue
		}
		rest = strings.TrimSpace(rest[end+1:])
		value := ""
		if rest != "" && (rest[0] == '"' || rest[0] == '\'') {
			value, rest, _ = strings.Cut(rest[1:], rest[:1])
		} else {
			value, rest, _ = strings.Cut(rest, " ")
		}
		var sb strings.Builder
		for i := 0; i < len(value); {
			if value[i] == '&' {
				if r, n := htmlEntity(value[i:]); n > 0 {
					sb.WriteRune(r)
					i += n
					continue
				}
			}
			sb.WriteByte(value[i])
			i++
		}
		attrs[name] = sb.String()
	}
	return strings.ToLower(tag), attrs
}

const markdownReserved = "_*[]()~`>#+-=|{}.!"

// parseMarkdownV2 turns MarkdownV2 into text and entities.
func parseMarkdownV2(s string) (string, []tgEntity, error) {
	type open struct {
		mark string
		ent  tgEntity
	}
	kinds := map[string]string{"*": "bold", "_": "italic", "__": "underline", "~": "strikethrough", "||": "spoiler"}
	var out strings.Builder
	var ents []tgEntity
	var stack []open
	pos := 0
	emit := func(t string) {
		out.WriteString(t)
		pos += utf16Len(t)
	}
	for i := 0; i < len(s); {
		ch := s[i]
		if ch == '\\' && i+1 < len(s) && s[i+1] > 0 && s[i+1] < 127 {
			emit(s[i+1 : i+2])
			i += 2
			continue
		}
		if ch == '`' {
			mark := "`"
			if strings.HasPrefix(s[i:], "```") {
				mark = "```"
			}
			body, ok := untilMark(s[i+len(mark):], mark)
			if !ok {
				return "", nil, fmt.Errorf("Can't find end of %s entity at byte offset %d", map[string]string{"`": "Code", "```": "Pre"}[mark], i) //nolint:staticcheck // the platform's words
			}
			e := tgEntity{Type: "code", Offset: pos}
			text := body
			if mark == "```" {
				e.Type = "pre"
				if lang, rest, found := strings.Cut(body, "\n"); found && lang != "" && !strings.ContainsAny(lang, " \t") {
					e.Language, text = lang, rest
				}
			}
			emit(unescape(text))
			e.Length = pos - e.Offset
			if e.Length > 0 {
				ents = append(ents, e)
			}
			i += len(body) + 2*len(mark)
			continue
		}
		if ch == '[' {
			stack = append(stack, open{"[", tgEntity{Type: "text_link", Offset: pos}})
			i++
			continue
		}
		if ch == ']' && len(stack) > 0 && stack[len(stack)-1].mark == "[" {
			e := stack[len(stack)-1].ent
			stack = stack[:len(stack)-1]
			i++
			if i < len(s) && s[i] == '(' {
				link, ok := untilMark(s[i+1:], ")")
				if !ok {
					return "", nil, fmt.Errorf("Can't find end of a URL at byte offset %d", i) //nolint:staticcheck // the platform's words
				}
				e.URL = unescape(link)
				i += len(link) + 2
			}
			if e.Length = pos - e.Offset; e.Length > 0 && e.URL != "" {
				ents = append(ents, e)
			}
			continue
		}
		mark := ""
		switch {
		case strings.HasPrefix(s[i:], "__"), strings.HasPrefix(s[i:], "||"):
			mark = s[i : i+2]
		case ch == '*' || ch == '_' || ch == '~':
			mark = s[i : i+1]
		}
		if mark != "" {
			if n := len(stack); n > 0 && stack[n-1].mark == mark {
				e := stack[n-1].ent
				stack = stack[:n-1]
				if e.Length = pos - e.Offset; e.Length > 0 {
					ents = append(ents, e)
				}
			} else {
				stack = append(stack, open{mark, tgEntity{Type: kinds[mark], Offset: pos}})
			}
			i += len(mark)
			continue
		}
		if ch == '>' && (i == 0 || s[i-1] == '\n') {
			// A quotation runs to the end of its line; markup inside is not read.
			line, _, _ := strings.Cut(s[i+1:], "\n")
			e := tgEntity{Type: "blockquote", Offset: pos}
			emit(unescape(line))
			if e.Length = pos - e.Offset; e.Length > 0 {
				ents = append(ents, e)
			}
			i += 1 + len(line)
			continue
		}
		if strings.IndexByte(markdownReserved, ch) >= 0 {
			return "", nil, fmt.Errorf("Character '%c' is reserved and must be escaped with the preceding '\\'", ch) //nolint:staticcheck // the platform's words
		}
		_, n := utf8.DecodeRuneInString(s[i:])
		emit(s[i : i+n])
		i += n
	}
	if len(stack) > 0 {
		e := stack[len(stack)-1].ent
		return "", nil, fmt.Errorf("Can't find end of the entity starting at offset %d (%s)", e.Offset, e.Type) //nolint:staticcheck // the platform's words
	}
	return out.String(), ents, nil
}

// untilMark returns s up to the next unescaped mark.
func untilMark(s, mark string) (string, bool) {
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
			continue
		}
		if strings.HasPrefix(s[i:], mark) {
			return s[:i], true
		}
	}
	return "", false
}

func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// detectEntities finds what clients mark by themselves in plain text.
func detectEntities(text string) []tgEntity {
	var out []tgEntity
	pos := 0
	for i := 0; i < len(text); {
		end := i
		for end < len(text) && !strings.ContainsRune(" \n\t,;()\"«»", rune(text[end])) {
			end++
		}
		if end == i {
			_, n := utf8.DecodeRuneInString(text[i:])
			pos += utf16Len(text[i : i+n])
			i += n
			continue
		}
		word := strings.TrimRight(text[i:end], ".!?:")
		if kind := wordKind(word); kind != "" {
			out = append(out, tgEntity{Type: kind, Offset: pos, Length: utf16Len(word)})
		}
		pos += utf16Len(text[i:end])
		i = end
	}
	return out
}

func wordKind(w string) string {
	if len(w) < 2 {
		return ""
	}
	switch {
	case w[0] == '/' && isKeyText(strings.Replace(w[1:], "@", "", 1)):
		return "bot_command"
	case w[0] == '@' && len(w) > 4 && isKeyText(w[1:]):
		return "mention"
	case w[0] == '#':
		return "hashtag"
	case strings.HasPrefix(w, "http://"), strings.HasPrefix(w, "https://"):
		return "url"
	case strings.Count(w, "@") == 1 && strings.LastIndexByte(w, '.') > strings.IndexByte(w, '@')+1:
		return "email"
	}
	return ""
}

const (
	maxInlineButtons, maxInlineRow = 100, 8 // observed, not documented
	maxReplyButtons, maxReplyRow   = 300, 12
)

// markup validates reply_markup; inlineOnly is for edits.
func (c *tgCall) markup(inlineOnly bool) (json.RawMessage, *tgError) {
	raw := c.p["reply_markup"]
	if raw == "" || raw == "null" {
		return nil, nil
	}
	var m struct {
		Inline      *[][]map[string]json.RawMessage `json:"inline_keyboard"`
		Reply       *[][]json.RawMessage            `json:"keyboard"`
		Remove      bool                            `json:"remove_keyboard"`
		Force       bool                            `json:"force_reply"`
		Placeholder string                          `json:"input_field_placeholder"`
	}
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		return nil, badRequest("can't parse reply keyboard markup JSON object: %s", err.Error())
	}
	kinds := 0
	for _, has := range []bool{m.Inline != nil, m.Reply != nil, m.Remove, m.Force} {
		if has {
			kinds++
		}
	}
	if kinds != 1 {
		return nil, badRequest("object expected as reply markup of one kind, got %d kinds", kinds)
	}
	if inlineOnly && m.Inline == nil {
		return nil, badRequest("inline keyboard expected")
	}
	if n := utf16Len(m.Placeholder); n > 64 {
		return nil, badRequest("input_field_placeholder is too long")
	}
	total := 0
	if m.Inline != nil {
		for _, row := range *m.Inline {
			if len(row) > maxInlineRow {
				return nil, badRequest("reply markup is too long")
			}
			for _, b := range row {
				total++
				if e := inlineButton(b); e != nil {
					return nil, e
				}
			}
		}
		if total > maxInlineButtons {
			return nil, badRequest("reply markup is too long")
		}
	}
	if m.Reply != nil {
		for _, row := range *m.Reply {
			if len(row) > maxReplyRow {
				return nil, badRequest("reply markup is too long")
			}
			for _, b := range row {
				total++
				if _, e := replyButton(b); e != nil {
					return nil, e
				}
				if t, _ := c.chat("chat_id"); t != nil && t.chat().Type != "private" && strings.Contains(string(b), `"request_contact":true`) {
					return nil, badRequest("phone number can be requested in private chats only")
				}
			}
		}
		if total == 0 {
			return nil, badRequest("reply keyboard must have at least one button")
		}
		if total > maxReplyButtons {
			return nil, badRequest("reply markup is too long")
		}
	}
	return json.RawMessage(raw), nil
}

var inlineActions = []string{
	"url", "callback_data", "web_app", "login_url", "switch_inline_query", "switch_inline_query_current_chat",
	"switch_inline_query_chosen_chat", "copy_text", "pay", "callback_game",
}

func inlineButton(b map[string]json.RawMessage) *tgError {
	var text string
	if json.Unmarshal(b["text"], &text) != nil || strings.TrimSpace(text) == "" {
		return badRequest("can't parse inline keyboard button: field \"text\" must be a non-empty string")
	}
	actions := 0
	for _, k := range inlineActions {
		if _, ok := b[k]; ok {
			actions++
		}
	}
	if actions != 1 {
		return badRequest("text buttons are unallowed in the inline keyboard: a button needs exactly one action, %q has %d", text, actions)
	}
	if e := buttonStyle(b); e != nil {
		return e
	}
	if raw, ok := b["callback_data"]; ok {
		var data string
		if json.Unmarshal(raw, &data) != nil || len(data) < 1 || len(data) > 64 {
			return badRequest("BUTTON_DATA_INVALID")
		}
	}
	if raw, ok := b["url"]; ok {
		var link string
		if json.Unmarshal(raw, &link) != nil || !buttonURL(link) {
			return badRequest("inline keyboard button URL '%s' is invalid: Wrong HTTP URL", link)
		}
	}
	return nil
}

func buttonStyle(b map[string]json.RawMessage) *tgError {
	if raw, ok := b["style"]; ok {
		var s string
		if json.Unmarshal(raw, &s) != nil || !slices.Contains([]string{"danger", "success", "primary"}, s) {
			return badRequest("button style %s is not one of danger, success, primary", raw)
		}
	}
	return nil
}

func buttonURL(link string) bool {
	u, err := url.Parse(link)
	if err != nil {
		return false
	}
	switch u.Scheme {
	case "http", "https":
		return u.Hostname() != "" && (strings.Contains(u.Hostname(), ".") || u.Hostname() == "localhost")
	case "tg":
		return true
	}
	return false
}

// replyButton reads a button of a reply keyboard: text, or an object with an optional request.
func replyButton(raw json.RawMessage) (b struct {
	Text     string `json:"text"`
	Contact  bool   `json:"request_contact"`
	Location bool   `json:"request_location"`
}, _ *tgError,
) {
	if len(raw) > 0 && raw[0] == '"' {
		json.Unmarshal(raw, &b.Text) //nolint:errcheck // valid JSON already
	} else if err := json.Unmarshal(raw, &b); err != nil {
		return b, badRequest("can't parse keyboard button: %s", err.Error())
	}
	if strings.TrimSpace(b.Text) == "" {
		return b, badRequest("keyboard button text must be non-empty")
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) == nil {
		requests := 0
		for _, k := range []string{"request_contact", "request_location", "request_users", "request_chat", "request_poll", "web_app"} {
			if v, ok := all[k]; ok && string(v) != "false" {
				requests++
			}
		}
		if requests > 1 {
			return b, badRequest("keyboard button %q has more than one request", b.Text)
		}
		if e := buttonStyle(all); e != nil {
			return b, e
		}
	}
	return b, nil
}

// keyboardButtons lists a markup's buttons in reading order.
func keyboardButtons(raw json.RawMessage) []Button {
	if len(raw) == 0 {
		return nil
	}
	var m struct {
		Inline [][]struct {
			Text string  `json:"text"`
			URL  string  `json:"url"`
			Data *string `json:"callback_data"`
		} `json:"inline_keyboard"`
		Reply [][]json.RawMessage `json:"keyboard"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	var out []Button
	for _, row := range m.Inline {
		for _, b := range row {
			x := Button{Text: b.Text, Action: "other"}
			switch {
			case b.Data != nil:
				x.Action, x.Data = "callback", *b.Data
			case b.URL != "":
				x.Action, x.URL = "url", b.URL
			}
			out = append(out, x)
		}
	}
	for _, row := range m.Reply {
		for _, raw := range row {
			b, _ := replyButton(raw)
			x := Button{Text: b.Text, Action: "text"}
			switch {
			case b.Contact:
				x.Action = "contact"
			case b.Location:
				x.Action = "location"
			}
			out = append(out, x)
		}
	}
	return out
}
