package vk

import (
	"encoding/json"
	"fmt"

	"switchboard/message"
)

// wide is how many cells of a row a button takes that is no plain text.
const wide = 2

// keyboard is VK's.
type keyboard struct {
	OneTime bool       `json:"one_time"`
	Inline  bool       `json:"inline"`
	Buttons [][]button `json:"buttons"`
}

type button struct {
	Action action `json:"action"`
	Color  string `json:"color,omitempty"`
}

type action struct {
	Type    string `json:"type"`
	Label   string `json:"label,omitempty"`
	Payload string `json:"payload,omitempty"` // JSON
	Link    string `json:"link,omitempty"`
}

// keyboardJSON translates a keyboard. The error is a *message.Refusal.
func keyboardJSON(k *message.Keyboard) (string, error) {
	if k.Kind == message.KeyboardRemove {
		return object(keyboard{OneTime: true, Buttons: [][]button{}}), nil
	}
	out := keyboard{Inline: k.Kind == message.KeyboardInline, Buttons: [][]button{}}
	out.OneTime = k.Once && !out.Inline
	total := 0
	for _, row := range k.Rows {
		cells := 0
		var buttons []button
		for i := range row {
			b, err := buttonFor(&row[i], out.Inline)
			if err != nil {
				return "", err
			}
			buttons = append(buttons, b)
			cells++
			if b.Action.Type == "open_link" || b.Action.Type == "location" {
				cells += wide - 1
			}
		}
		if cells > columns {
			return "", limit("keyboard row has %d cells (links and locations take two); vk takes %d", cells, columns)
		}
		total += len(row)
		out.Buttons = append(out.Buttons, buttons)
	}
	if out.Inline {
		if len(k.Rows) > inlineRows {
			return "", limit("inline keyboard has %d rows; vk takes %d", len(k.Rows), inlineRows)
		}
		if total > inlineButtons {
			return "", limit("inline keyboard has %d buttons; vk takes %d", total, inlineButtons)
		}
	}
	return object(out), nil
}

func limit(format string, args ...any) *message.Refusal {
	return &message.Refusal{Code: message.RefusedLimit, Detail: fmt.Sprintf(format, args...)}
}

func buttonFor(b *message.KeyButton, inline bool) (button, error) {
	switch b.Action {
	case message.KeyURL:
		return button{Action: action{Type: "open_link", Label: b.Text, Link: b.URL}}, nil
	case message.KeyLocation:
		return button{Action: action{Type: "location", Payload: "{}"}}, nil
	}
	if !inline {
		if b.Payload == "" { // its text is said, and read, as a text
			return button{Action: action{Type: "text", Label: b.Text}}, nil
		}
		p, err := payload(b.Payload, "")
		return button{Action: action{Type: "text", Label: b.Text, Payload: p}}, err
	}
	data := b.Payload
	if data == "" {
		data = b.Text
	}
	p, err := payload(data, b.Text)
	return button{Action: action{Type: "callback", Label: b.Text, Payload: p}}, err
}

// payload wraps a payload into the object that VK wants. The label goes along
// where there is room, since the event of a press does not tell it.
func payload(data, label string) (string, error) {
	if label != "" && label != data {
		if p := object(map[string]string{"sb": data, "t": label}); unitOf.Count(p) <= maxPayload {
			return p, nil
		}
	}
	b, err := json.Marshal(map[string]string{"sb": data})
	if err != nil {
		return "", limit("button payload can't be written as JSON")
	}
	if n := unitOf.Count(string(b)); n > maxPayload {
		return "", limit("button payload has %d characters as JSON; vk takes %d", n, maxPayload)
	}
	return string(b), nil
}
