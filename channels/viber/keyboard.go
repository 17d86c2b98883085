package viber

import (
	"crypto/subtle"
	"strings"

	"switchboard/message"
)

// columns is the width of Viber's keyboards: every row has to fill it.
const columns = 6

// maxAction is the longest ActionBody, in UTF-16 units; users report 250.
const maxAction = 250

// What our buttons send back. A press arrives as an ordinary text, so ours
// begin with what nobody types.
const (
	pressPrefix     = "sb:"       // then the payload, and the button's text after the last line break
	phoneMarkPrefix = "sb-phone:" // then a secret of the account
	locationMark    = "sb-location:"
)

// keyboard is Viber's; its names are capitalised and case-sensitive.
type keyboard struct {
	Type    string // always "keyboard"; status 3 without it
	Buttons []button
}

type button struct {
	Columns    int
	Rows       int
	ActionType string
	ActionBody string
	Text       string // a little HTML, so <, > and & are escaped
	// Silent keeps the ActionBody out of the customer's chat: they would read
	// our marks there.
	Silent bool `json:",omitempty"`
}

var escapeButton = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// keyboard translates a reply keyboard; nil where none is to be shown, which
// is also how a shown one is taken away. level is the min_api_version needed.
func (c *channel) keyboard(k *message.Keyboard) (out *keyboard, level int) {
	if k == nil || k.Kind != message.KeyboardReply {
		return nil, 1
	}
	out, level = &keyboard{Type: "keyboard"}, 1
	for _, row := range k.Rows {
		for i := range row {
			b := c.button(&row[i])
			b.Columns = width(i, len(row))
			if b.ActionType == actionPhone || b.ActionType == actionLocation {
				level = 3
			}
			out.Buttons = append(out.Buttons, b)
		}
	}
	return out, level
}

// width is the number of columns of button i in a row of n: all six columns
// shared out, what doesn't divide to the first ones.
func width(i, n int) int {
	w := columns / n
	if i < columns%n {
		w++
	}
	return w
}

// The actions of Viber's buttons that we use.
const (
	actionReply    = "reply"
	actionURL      = "open-url"
	actionPhone    = "share-phone"
	actionLocation = "location-picker"
)

func (c *channel) button(b *message.KeyButton) button {
	out := button{Rows: 1, Text: escapeButton.Replace(b.Text)}
	switch b.Action {
	case message.KeyURL:
		// Not silent, the address would arrive as the customer's message.
		out.ActionType, out.ActionBody, out.Silent = actionURL, b.URL, true
	case message.KeyPhone:
		out.ActionType, out.ActionBody = actionPhone, c.phoneMark
	case message.KeyLocation:
		out.ActionType, out.ActionBody = actionLocation, locationMark
	default:
		out.ActionType = actionReply
		if b.Payload == "" {
			// The text itself, said aloud: customer and operator read it as text.
			out.ActionBody = b.Text
		} else {
			out.ActionBody, out.Silent = pressBody(b.Payload, b.Text), true
		}
	}
	return out
}

// pressBody marks a payload. The button's text follows where there is room, so
// that the operator reads "Yes" and not only "y".
func pressBody(payload, text string) string {
	body := pressPrefix + payload
	withText := body + "\n" + strings.Join(strings.Fields(text), " ")
	switch {
	case message.UnitUTF16.Count(withText) <= maxAction:
		return withText
	case strings.Contains(payload, "\n"):
		return body + "\n" // the last line break is where the payload ends
	default:
		return body
	}
}

// press reads what pressBody wrote.
func (c *channel) press(text string) (*message.Button, bool) {
	switch {
	case strings.HasPrefix(text, pressPrefix):
		body := text[len(pressPrefix):]
		if i := strings.LastIndexByte(body, '\n'); i >= 0 {
			return &message.Button{Payload: body[:i], Text: body[i+1:]}, true
		}
		return &message.Button{Payload: body}, true
	// Desktop clients can't share phones and places; should one send the mark as
	// text, nobody has to read it.
	case strings.HasPrefix(text, phoneMarkPrefix):
		return &message.Button{Payload: string(message.KeyPhone)}, true
	case text == locationMark:
		return &message.Button{Payload: string(message.KeyLocation)}, true
	default:
		return nil, false
	}
}

func (c *channel) isPhoneMark(text string) bool {
	return subtle.ConstantTimeCompare([]byte(text), []byte(c.phoneMark)) == 1
}

// plainer is k without what old clients don't know: the buttons that ask for
// the phone and the location. nil when no button is left.
func plainer(k *message.Keyboard) *message.Keyboard {
	if k == nil {
		return nil
	}
	out := *k
	out.Rows = nil
	for _, row := range k.Rows {
		var kept []message.KeyButton
		for _, b := range row {
			if b.Action != message.KeyPhone && b.Action != message.KeyLocation {
				kept = append(kept, b)
			}
		}
		if len(kept) > 0 {
			out.Rows = append(out.Rows, kept)
		}
	}
	if len(out.Rows) == 0 {
		return nil
	}
	return &out
}

func buttons(k *message.Keyboard) (n int) {
	for _, row := range k.Rows {
		n += len(row)
	}
	return n
}
