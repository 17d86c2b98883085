package infobip

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// outgoing is the envelope of every send but a template's.
type outgoing struct {
	From    string  `json:"from"`
	To      string  `json:"to"`
	ID      string  `json:"messageId"`
	Content any     `json:"content"`
	Chat    string  `json:"callbackData"` // our key of the chat: comes back in reports
	Context *quoted `json:"context,omitempty"`
	// Links must arrive as operators wrote them; by default Infobip may
	// shorten them.
	Links *linkOptions `json:"urlOptions,omitempty"`
}

type quoted struct {
	ReplyTo string `json:"replyToMessageId"`
}

type linkOptions struct {
	Shorten bool `json:"shortenUrl"`
	Track   bool `json:"trackClicks"`
}

type object map[string]any

// messageID is our id of a part, which reports come back with.
func messageID(part *message.Part) string {
	if part.Index == 0 {
		return part.ID
	}
	return part.ID + "-" + strconv.Itoa(part.Index)
}

// request is the path of a part's kind, and what is posted there. link is the
// address of its file.
func (c *channel) request(part *message.Part, link string) (kind string, body any) {
	var content any
	switch part.Kind {
	case message.KindImage, message.KindVideo:
		kind, content = string(part.Kind), media{URL: link, Caption: part.Text}
	case message.KindDocument:
		kind, content = "document", media{URL: link, Caption: part.Text, Name: fileName(&part.Files[0])}
	case message.KindAudio:
		kind, content = "audio", media{URL: link}
	case message.KindVoice:
		kind, content = "audio", media{URL: link, Voice: true}
	case message.KindSticker:
		kind, content = "sticker", media{URL: link}
	case message.KindLocation:
		l := part.Location
		kind, content = "location", place{l.Lat, l.Lon, l.Title, l.Address}
	case message.KindContact:
		kind, content = "contact", object{"contacts": []any{cardOf(part.Contact)}}
	case message.KindTemplate:
		return "template", object{"messages": []any{outgoing{From: c.sender, To: part.Chat, ID: messageID(part), Chat: part.Chat, Content: templateOf(&part.Content, link)}}}
	default:
		kind, content = "text", object{"text": part.Text, "previewUrl": false}
		if part.Keyboard != nil {
			kind, content = c.interactive(part.Text, slices.Concat(part.Keyboard.Rows...), part.Keyboard.Placeholder)
		}
	}
	m := outgoing{From: c.sender, To: part.Chat, ID: messageID(part), Chat: part.Chat, Content: content, Links: &linkOptions{}}
	if id, _, _ := strings.Cut(part.ReplyTo, pieceMark); id != "" && !strings.HasPrefix(id, "event:") {
		m.Context = &quoted{id}
	}
	return kind, m
}

// templateOf is a template with its values, and the file at link in its header. Buttons have one each where they have a
// variable part: what comes back of a quick reply, the end of a link's address.
func templateOf(in *message.Content, link string) any {
	data := object{"body": object{"placeholders": append([]string{}, in.Template.Parameters...)}}
	if link != "" {
		f := &in.Files[0]
		head := header{Type: strings.ToUpper(string(f.Kind)), URL: link} // IMAGE, VIDEO or DOCUMENT
		if f.Kind == message.KindDocument {
			head.Name = fileName(f)
		}
		data["header"] = head
	}
	if in.Keyboard != nil {
		var buttons []any
		for _, b := range slices.Concat(in.Keyboard.Rows...) {
			switch {
			case b.Action != message.KeyURL:
				buttons = append(buttons, object{"type": "QUICK_REPLY", "parameter": payloadOf(b)})
			case b.Payload != "":
				buttons = append(buttons, object{"type": "URL", "parameter": b.Payload})
			}
		}
		if buttons != nil {
			data["buttons"] = buttons
		}
	}
	return object{"templateName": in.Template.Name, "language": in.Template.Language, "templateData": data}
}

// header is a template's.
type header struct {
	Type string `json:"type"`
	URL  string `json:"mediaUrl"`
	Name string `json:"filename,omitempty"`
}

type media struct {
	URL     string `json:"mediaUrl"`
	Caption string `json:"caption,omitempty"`
	Name    string `json:"filename,omitempty"`
	Voice   bool   `json:"voice,omitempty"`
}

type place struct {
	Lat     float64 `json:"latitude"`
	Lon     float64 `json:"longitude"`
	Name    string  `json:"name,omitempty"`
	Address string  `json:"address,omitempty"`
}

func cardOf(k *message.Contact) any {
	name := first(k.Name, k.Phone)
	phone := object{"phone": k.Phone, "type": "CELL"}
	if digits, ok := strings.CutPrefix(k.Phone, "+"); ok && isPhone(digits) {
		phone["waId"] = digits // makes the card's button open a chat
	}
	return object{"name": object{"firstName": name, "formattedName": name}, "phones": []any{phone}}
}

type button struct {
	Type  string `json:"type,omitempty"`
	ID    string `json:"id"`
	Title string `json:"title"`
}

// interactive is a message with buttons: one with an address, up to three, or a
// list.
func (c *channel) interactive(text string, keys []message.KeyButton, placeholder string) (kind string, content any) {
	body := object{"text": text}
	if keys[0].Action == message.KeyURL {
		return "interactive/url-button", object{"body": body, "action": object{"displayText": keys[0].Text, "url": keys[0].URL}}
	}
	list := len(keys) > maxButtons
	buttons := make([]button, len(keys))
	for i, b := range keys {
		buttons[i] = button{ID: payloadOf(b), Title: b.Text}
		list = list || message.UnitUTF16.Count(b.Text) > maxButtonTitle
	}
	if !list {
		for i := range buttons {
			buttons[i].Type = "REPLY"
		}
		return "interactive/buttons", object{"body": body, "action": object{"buttons": buttons}}
	}
	title := c.listTitle
	if placeholder != "" && message.UnitUTF16.Count(placeholder) <= maxButtonTitle {
		title = placeholder
	}
	return "interactive/list", object{"body": body, "action": object{"title": title, "sections": []any{object{"rows": buttons}}}}
}

// accepted is the answer to a send, and each of a template's messages.
type accepted struct {
	ID       channels.Scalar `json:"messageId"`
	Status   state           `json:"status"`
	Error    state           `json:"error"`
	Messages []accepted      `json:"messages"`
}

// Send implements channels.Channel. The answer means that Infobip has queued the
// message under our id; that it knows the id already means so too, since we give
// an id once.
func (c *channel) Send(ctx context.Context, part *message.Part) (message.Receipt, error) {
	if !isRecipient(part.Chat) || part.ID == "" {
		return message.Receipt{}, &message.Error{Kind: message.ErrInvalid, Detail: "the chat's key is not one of WhatsApp"}
	}
	link := ""
	if len(part.Files) > 0 {
		var err error
		if link, err = c.env.Files.Link(ctx, part.Files[0].ID, linkLife); err != nil {
			return message.Receipt{}, &message.Error{Kind: message.ErrUnavailable, Detail: "no link to the file", Err: err}
		}
		if len(link) > maxURL {
			return message.Receipt{}, &message.Error{Kind: message.ErrInvalid, Detail: "the link to the file is over " + strconv.Itoa(maxURL) + " bytes; give the file a shorter name"}
		}
	}
	kind, body := c.request(part, link)
	receipt := message.Receipt{IDs: []string{messageID(part)}}
	const taken = "Infobip had taken it before"
	var a accepted
	f, failure := c.call(ctx, http.MethodPost, "/whatsapp/1/message/"+kind, kind, body, &a, private(&part.Outbound, link))
	if failure != nil {
		if f != nil && f.duplicate() {
			receipt.Note = taken
			return receipt, nil
		}
		return message.Receipt{}, failure
	}
	if len(a.Messages) > 0 {
		a = a.Messages[0]
	}
	switch s := &a.Status; {
	case s.ID == statusDuplicate, a.Error.ID == errorDuplicate:
		receipt.Note = taken
	case s.Group == groupRejected || s.Group == groupUndeliverable || s.Group == groupExpired:
		return message.Receipt{}, verdictOf(s, &a.Error)
	case a.ID == "" && s.ID == "":
		return message.Receipt{}, &message.Error{Kind: message.ErrUncertain, Detail: "the answer names no message"}
	}
	return receipt, nil
}

// private is what belongs to a message and its reader alone.
func private(out *message.Outbound, link string) []string {
	list := []string{out.Text, out.Chat, out.Customer, link}
	if k := out.Contact; k != nil {
		list = append(list, k.Phone, k.Name)
	}
	if l := out.Location; l != nil {
		list = append(list, l.Title, l.Address)
	}
	if t := out.Template; t != nil {
		list = append(list, t.Parameters...)
	}
	if k := out.Keyboard; k != nil {
		for _, b := range slices.Concat(k.Rows...) {
			list = append(list, b.Text, b.Payload, b.URL)
		}
	}
	for i := range out.Files {
		if f := &out.Files[i]; f.Name != "" {
			list = append(list, f.Name, fileName(f))
		}
	}
	return list
}

// Typing implements channels.Typer.
func (c *channel) Typing(ctx context.Context, chat string) error {
	if !isRecipient(chat) {
		return &message.Error{Kind: message.ErrInvalid, Detail: "the chat's key is not one of WhatsApp"}
	}
	body := object{"events": []any{object{
		"sender": c.sender, "destinations": []any{object{"to": chat}}, "content": object{"type": "TYPING_INDICATOR"},
	}}}
	if _, failure := c.call(ctx, http.MethodPost, "/whatsapp/1/events", "typing", body, nil, []string{chat}); failure != nil {
		return failure
	}
	return nil
}
