package ok

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// outgoing is a message as OK takes it.
type outgoing struct {
	Text        string `json:"text"`
	Attachments []sent `json:"attachments,omitempty"`
	ReplyTo     string `json:"reply_to,omitempty"`
}

// sent is an attachment of ours.
type sent struct {
	Type    string `json:"type"`
	Payload any    `json:"payload"`
}

type byToken struct {
	Token string `json:"token"`
}

type inline struct {
	Keyboard struct {
		Buttons [][]button `json:"buttons"`
	} `json:"keyboard"`
}

// button is CALLBACK with a payload, or LINK with an address.
type button struct {
	Type    string `json:"type"`
	Text    string `json:"text"`
	Intent  string `json:"intent"`
	Payload string `json:"payload,omitempty"`
	URL     string `json:"url,omitempty"`
}

// keyboard translates buttons; a button without a payload sends its title back.
func keyboard(k *message.Keyboard) sent {
	var p inline
	for _, row := range k.Rows {
		buttons := make([]button, len(row))
		for i, b := range row {
			buttons[i] = button{Type: "CALLBACK", Text: b.Text, Intent: "DEFAULT", Payload: b.Payload}
			switch {
			case b.Action == message.KeyURL:
				buttons[i].Type, buttons[i].Payload, buttons[i].URL = "LINK", "", b.URL
			case b.Payload == "":
				buttons[i].Payload = b.Text
			}
		}
		p.Keyboard.Buttons = append(p.Keyboard.Buttons, buttons)
	}
	return sent{Type: "INLINE_KEYBOARD", Payload: p}
}

// attachmentType is OK's word for a kind of file.
func attachmentType(k message.Kind) string {
	switch k {
	case message.KindImage:
		return "IMAGE"
	case message.KindVideo:
		return "VIDEO"
	case message.KindVoice, message.KindAudio:
		return "AUDIO"
	}
	return "FILE"
}

// Send implements channels.Channel: the part's files are uploaded, then the
// message is sent. While OK says that a file is not ready the same is said
// again, with the pauses of readyWaits, as long as ctx allows. What was tried before
// is looked for in the chat first.
func (c *channel) Send(ctx context.Context, part *message.Part) (message.Receipt, error) {
	to, err := recipient(part.Chat)
	if err != nil {
		return message.Receipt{}, &message.Error{Kind: message.ErrInvalid, Detail: "the chat's key is not one of OK"}
	}
	if part.Again && to.Chat != "" {
		switch mid, failure := c.arrived(ctx, part, to.Chat, wordsOf(part)); {
		case failure != nil:
			return message.Receipt{}, failure
		case mid != "":
			return message.Receipt{IDs: []string{mid}, Note: "an earlier attempt had arrived"}, nil
		}
	}
	for fresh := false; ; fresh = true {
		tokens, known, failure := c.uploads(ctx, part, fresh)
		if failure != nil {
			return message.Receipt{}, failure
		}
		receipt, failure := c.sendReady(ctx, part, to, tokens)
		switch {
		case failure == nil:
			return receipt, nil
		case known && !fresh && failure.Kind == message.ErrInvalid:
			continue // perhaps for a token of an earlier upload, which has a life unknown to us
		}
		return message.Receipt{}, failure
	}
}

// sendReady sends, and waits for OK to be done with the files.
func (c *channel) sendReady(ctx context.Context, part *message.Part, to target, tokens []string) (message.Receipt, *message.Error) {
	for attempt := 0; ; attempt++ {
		receipt, failure := c.sendOnce(ctx, part, to, tokens)
		if failure == nil || len(tokens) == 0 || !stillProcessing(failure) {
			return receipt, failure
		}
		wait := readyWaits[min(attempt, len(readyWaits)-1)]
		deadline, limited := ctx.Deadline()
		if attempt >= len(readyWaits) || limited && deadline.Sub(c.now()) < 2*wait || !c.wait(ctx, wait) {
			// Certainly not sent. The tokens are kept, so that the next try finds
			// the files further on.
			failure.Kind, failure.ChatOnly, failure.RetryAfter = message.ErrThrottled, true, readyWaits[len(readyWaits)-1]
			return receipt, failure
		}
	}
}

// wordsOf is the text that a part is sent with.
func wordsOf(part *message.Part) string {
	if part.Text == "" && len(part.Files) > 0 {
		return textBeside(&part.Files[0])
	}
	return part.Text
}

func (c *channel) sendOnce(ctx context.Context, part *message.Part, to target, tokens []string) (message.Receipt, *message.Error) {
	m := outgoing{Text: wordsOf(part)}
	m.ReplyTo, _, _ = strings.Cut(part.ReplyTo, pieceMark)
	if !strings.HasPrefix(m.ReplyTo, "mid:") {
		m.ReplyTo = "" // a press, or a system event: nothing that OK could quote
	}
	for _, token := range tokens {
		m.Attachments = append(m.Attachments, sent{Type: attachmentType(part.Kind), Payload: byToken{token}})
	}
	if k := part.Keyboard; k != nil && k.Kind == message.KeyboardInline {
		m.Attachments = append(m.Attachments, keyboard(k))
	}
	path := "/me/messages"
	if to.Chat != "" {
		path += "/" + to.Chat
	}
	var answer struct {
		ID      scalar `json:"message_id"`
		Success *bool  `json:"success"`
	}
	failure := c.call(ctx, request{method: http.MethodPost, path: path, body: map[string]any{"recipient": to, "message": m}, out: &part.Outbound}, &answer)
	switch {
	case failure != nil:
		return message.Receipt{}, failure
	case answer.ID != "":
		c.mu.Lock()
		c.flood = channels.Backoff{}
		c.mu.Unlock()
		return message.Receipt{IDs: []string{string(answer.ID)}}, nil
	case answer.Success != nil && !*answer.Success:
		return message.Receipt{}, &message.Error{Kind: message.ErrRecipient, Code: "success:false", Detail: "the customer has not allowed the group's messages"}
	case answer.Success == nil:
		return message.Receipt{}, &message.Error{Kind: message.ErrUncertain, Detail: "the answer names no message"}
	}
	return message.Receipt{}, nil
}

// Acknowledge implements channels.Acknowledger: with the setting after_press a
// pressed message is replaced by that text, which takes its buttons away.
func (c *channel) Acknowledge(ctx context.Context, raw []byte) error {
	var e envelope
	if c.afterPress == "" || e.read(raw) != nil || e.event() != eventPress || e.Press == "" {
		return nil
	}
	to, err := recipient(string(e.Chat))
	if err != nil || to.Chat == "" {
		return nil
	}
	failure := c.call(ctx, request{method: http.MethodPost, path: "/" + to.Chat + "/answer", query: url.Values{"callbackId": {string(e.Press)}},
		body: answerBody(c.afterPress), out: &message.Outbound{}}, nil)
	if failure != nil {
		return failure
	}
	return nil
}
