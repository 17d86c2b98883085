package campaigns

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"switchboard/message"
)

// Text is a text with variables. {{name}} is the recipient's value, and
// {{name|friend}} the value or, without one, "friend". Names are letters, digits
// and _ - . of any alphabet, and their case does not matter. \{{ stands for two
// braces; single braces stand for themselves.
type Text struct {
	parts []part
}

type part struct {
	literal  string // when name is empty
	name     string
	fallback string
	optional bool // fallback counts, even when it is empty
}

// Parse reads a text. The error says at which character what is missing.
func Parse(s string) (Text, error) {
	var t Text
	literal := strings.Builder{}
	rest := s
	for {
		i := strings.Index(rest, "{{")
		if i < 0 {
			literal.WriteString(rest)
			break
		}
		if i > 0 && rest[i-1] == '\\' {
			literal.WriteString(rest[:i-1] + "{{")
			rest = rest[i+2:]
			continue
		}
		literal.WriteString(rest[:i])
		at := len([]rune(s[:len(s)-len(rest)+i])) + 1
		end := strings.Index(rest[i:], "}}")
		if end < 0 {
			return t, fmt.Errorf(`character %d: {{ without }}; write \{{ for two braces`, at)
		}
		name, fallback, optional := strings.Cut(rest[i+2:i+end], "|")
		name = strings.ToLower(strings.TrimSpace(name))
		if !isName(name) {
			return t, fmt.Errorf(`character %d: {{%s}} is no variable; a name has 1 to 64 letters, digits, _ - or . (write \{{ for two braces)`, at, shortened(name))
		}
		if literal.Len() > 0 {
			t.parts = append(t.parts, part{literal: literal.String()})
			literal.Reset()
		}
		t.parts = append(t.parts, part{name: name, fallback: fallback, optional: optional})
		rest = rest[i+end+2:]
	}
	if literal.Len() > 0 {
		t.parts = append(t.parts, part{literal: literal.String()})
	}
	return t, nil
}

func shortened(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// isName reports whether s, in lower case, can be a variable's name.
func isName(s string) bool {
	n := 0
	for _, r := range s {
		if n++; n > 64 || !(unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || strings.ContainsRune("_-.", r)) {
			return false
		}
	}
	return n > 0
}

// Render puts values in; value returns "" for a variable that there is none of.
func (t Text) Render(value func(name string) string) string {
	switch {
	case len(t.parts) == 0:
		return ""
	case len(t.parts) == 1 && t.parts[0].name == "":
		return t.parts[0].literal
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.literal)
		} else if v := value(p.name); v != "" {
			b.WriteString(v)
		} else {
			b.WriteString(p.fallback)
		}
	}
	return b.String()
}

// template is a content with its texts parsed.
type template struct {
	base     message.Content // without what is in fields
	fields   []field
	required []string // variables without a default, sorted
}

// field is one text of a content.
type field struct {
	text Text
	to   func(*message.Content) *string
	// What it is; neither of a button's text and payload.
	body, parameter, url bool
}

// parse reads a content. The error names the field below where.
func (c *Content) parse(where string, files map[string]message.File) (template, error) {
	t := template{base: message.Content{Kind: c.Kind, Text: c.Text, Contact: c.Contact, Location: c.Location, Keyboard: c.Keyboard, Template: c.Template}}
	if t.base.Kind == "" {
		t.base.Kind = message.KindText
	}
	for _, id := range c.Files {
		f, ok := files[id]
		if !ok {
			return t, invalid("%s.files: %s is not an uploaded file", where, id)
		}
		f.Kind = t.base.Kind.FileKind(f.Mime)
		t.base.Files = append(t.base.Files, f)
	}
	add := func(name, text string, to func(*message.Content) *string) error {
		parsed, err := Parse(text)
		if err != nil {
			return invalid("%s.%s: %w", where, name, err)
		}
		if text == "" || (len(parsed.parts) == 1 && parsed.parts[0].literal == text) {
			return nil
		}
		for _, p := range parsed.parts {
			if p.name != "" && !p.optional {
				t.required = append(t.required, p.name)
			}
		}
		t.fields = append(t.fields, field{parsed, to, name == "text", strings.HasPrefix(name, "template."), strings.HasSuffix(name, "url")})
		return nil
	}
	if err := add("text", c.Text, func(m *message.Content) *string { return &m.Text }); err != nil {
		return t, err
	}
	if k := c.Keyboard; k != nil {
		for i, row := range k.Rows {
			for j, b := range row {
				at := fmt.Sprintf("keyboard.rows[%d][%d].", i, j)
				for _, x := range []struct {
					name, text string
					to         func(*message.Content) *string
				}{
					{"text", b.Text, func(m *message.Content) *string { return &m.Keyboard.Rows[i][j].Text }},
					{"payload", b.Payload, func(m *message.Content) *string { return &m.Keyboard.Rows[i][j].Payload }},
					{"url", b.URL, func(m *message.Content) *string { return &m.Keyboard.Rows[i][j].URL }},
				} {
					if err := add(at+x.name, x.text, x.to); err != nil {
						return t, err
					}
				}
			}
		}
	}
	if c.Template != nil {
		for i, text := range c.Template.Parameters {
			if err := add(fmt.Sprintf("template.parameters[%d]", i), text, func(m *message.Content) *string { return &m.Template.Parameters[i] }); err != nil {
				return t, err
			}
		}
	}
	slices.Sort(t.required)
	t.required = slices.Compact(t.required)
	return t, nil
}

// render makes the content for one recipient.
func (t *template) render(value func(name string) string) message.Content {
	return t.fill(func(f field) string { return f.text.Render(value) })
}

// sample is a content as short as one can be: a letter for every variable.
func (t *template) sample() message.Content {
	return t.fill(func(f field) string {
		if f.url && f.text.parts[0].name != "" {
			return "https://example.com/"
		}
		return f.text.Render(func(string) string { return "x" })
	})
}

func (t *template) fill(with func(field) string) message.Content {
	c := t.base
	if len(t.fields) == 0 {
		return c
	}
	if c.Keyboard != nil {
		k := *c.Keyboard
		k.Rows = make([][]message.KeyButton, len(c.Keyboard.Rows))
		for i, row := range c.Keyboard.Rows {
			k.Rows[i] = slices.Clone(row)
		}
		c.Keyboard = &k
	}
	if c.Template != nil {
		tpl := *c.Template
		tpl.Parameters = slices.Clone(tpl.Parameters)
		c.Template = &tpl
	}
	for _, f := range t.fields {
		*f.to(&c) = with(f)
	}
	return c
}

// Content is what a recipient gets at a step. vars are the recipient's, by their
// names in lower case; the caller adds the address under phone, customer_id or
// external_id. The answer is the caller's to change, files and location excepted.
func (p *Program) Content(step int, vars map[string]string) message.Content {
	return p.Steps[step].content.render(func(name string) string { return vars[name] })
}
