package ok

import (
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// callback is every callback's fields together.
type callback struct {
	Event  scalar `json:"webhookType"`
	Sender struct {
		ID   scalar `json:"user_id"`
		Name text   `json:"name"`
	} `json:"sender"`
	Recipient struct {
		Chat scalar `json:"chat_id"`
	} `json:"recipient"`
	Message json.RawMessage `json:"message"`
	Mid     scalar          `json:"mid"` // of a press: the message with the buttons
	Press   scalar          `json:"callbackId"`
	Payload scalar          `json:"payload"`
	Type    scalar          `json:"type"`
	Time    scalar          `json:"timestamp"`
}

// received is the message of a callback.
type received struct {
	Text        text        `json:"text"`
	Mid         scalar      `json:"mid"`
	ReplyTo     scalar      `json:"reply_to"`
	Attachments attachments `json:"attachments"`
	Attachment  attachments `json:"attachment"` // an older spelling, of one
}

// attachments is a list, or a single one.
type attachments []attachment

// UnmarshalJSON never fails: an element that is no object is left out.
func (a *attachments) UnmarshalJSON(b []byte) error {
	*a = nil
	var list []json.RawMessage
	if len(b) > 0 && b[0] == '{' {
		list = []json.RawMessage{b}
	} else if json.Unmarshal(b, &list) != nil {
		return nil
	}
	for _, raw := range list {
		var one attachment
		if channels.DecodeLenient(raw, &one) == nil {
			*a = append(*a, one)
		}
	}
	return nil
}

type attachment struct {
	Type    scalar `json:"type"`
	Payload struct {
		URL    text   `json:"url"`
		Name   text   `json:"name"`
		Phone  scalar `json:"phone"`
		Lat    scalar `json:"latitude"`
		Lon    scalar `json:"longitude"`
		Call   scalar `json:"type"`       // of CALL: AUDIO or VIDEO
		Hangup scalar `json:"hangupType"` // of CALL: CANCELED, REJECTED, HUNGUP or MISSED
	} `json:"payload"`
}

// Decode implements channels.Channel. Errors are callbacks that name no person.
func (c *channel) Decode(raw []byte) ([]message.Update, error) {
	var cb callback
	if err := channels.DecodeLenient(raw, &cb); err != nil {
		return nil, fmt.Errorf("decoding callback: %w", err)
	}
	e := envelope{Event: cb.Event, Type: cb.Type, Time: cb.Time, Press: cb.Press, Sender: cb.Sender.ID, Chat: cb.Recipient.Chat,
		HasMessage: len(cb.Message) > 0 && cb.Message[0] == '{'}
	if strings.HasPrefix(string(cb.Sender.ID), "group:") {
		return []message.Update{{Kind: message.UpdateIgnore}}, nil // our own, from the history
	}
	if cb.Sender.ID == "" {
		return nil, fmt.Errorf("callback %q names no user", e.event())
	}
	u := message.Update{
		Kind:     message.UpdateMessage,
		Chat:     e.chat(),
		Aliases:  aliases(string(cb.Sender.ID)),
		Customer: message.Profile{ID: string(cb.Sender.ID), Name: string(cb.Sender.Name)},
		At:       instant(cb.Time.Int()),
	}
	switch event := e.event(); event {
	case eventMessage:
		var m received
		if err := channels.DecodeLenient(cb.Message, &m); err != nil {
			return nil, fmt.Errorf("callback %q without message", event)
		}
		return messages(u, &m), nil
	case eventPress:
		if cb.Press != "" {
			u.PlatformID = "press:" + string(cb.Press)
		}
		u.ReplyTo = string(cb.Mid)
		u.Content = message.Content{Kind: message.KindButton, Button: &message.Button{Payload: string(cb.Payload)}}
		return []message.Update{u}, nil
	case eventSystem:
		u.Quiet = true // only looked at: nobody wrote anything
		u.PlatformID = e.systemID()
		u.Content = message.Content{Kind: message.KindService, Service: service(string(cb.Type)), Payload: string(cb.Payload)}
		return []message.Update{u}, nil
	default: // of the future
		if event == "" {
			event = "callback without type"
		}
		u.Quiet = true
		u.PlatformID = e.systemID()
		u.Content = message.Content{Kind: message.KindUnsupported, Unsupported: event}
		return []message.Update{u}, nil
	}
}

// aliases are the addresses by which we may have begun the chat with a user, see recipient.
func aliases(user string) []string {
	if id, ok := strings.CutPrefix(user, "user:"); ok {
		return []string{user, id}
	}
	return nil
}

// service is our word for a system event of a chat.
func service(kind string) string {
	switch kind {
	case "CHAT_STARTED":
		return "started"
	case "":
		return "system"
	}
	return strings.ToLower(kind)
}

// messages makes updates of a customer's message: one of its text and files,
// and one more of each card, place and call.
func messages(base message.Update, m *received) []message.Update {
	base.PlatformID, base.ReplyTo = string(m.Mid), string(m.ReplyTo)
	words := string(m.Text)
	var files []message.File
	var others []message.Content
	unknown := ""
	for _, a := range append(m.Attachments, m.Attachment...) {
		switch kind, link := fileKind(string(a.Type)), string(a.Payload.URL); {
		case kind != "" && channels.WebAddress(link) != nil:
			files = append(files, message.File{Kind: kind, Name: string(a.Payload.Name), State: message.FilePending, Ref: link})
			if isPage(link) {
				words = withLink(words, link)
			}
		case a.Type == "SHARE" || a.Type == "MUSIC":
			words = withLink(words, link)
			if link == "" {
				unknown = string(a.Type)
			}
		case a.Type == "INLINE_KEYBOARD": // what we sent ourselves
		default:
			if content, ok := other(&a); ok {
				others = append(others, content)
				continue
			}
			unknown = string(a.Type)
			if unknown == "" {
				unknown = "attachment without type"
			}
		}
	}
	var contents []message.Content
	switch {
	case len(files) > 0:
		contents = append(contents, message.Content{Kind: files[0].Kind, Text: words, Files: files})
	case unknown != "":
		contents = append(contents, message.Content{Kind: message.KindUnsupported, Unsupported: unknown, Text: words})
	case words != "":
		contents = append(contents, message.Content{Kind: message.KindText, Text: words})
	case len(others) == 0:
		// What a forwarded message looks like: OK keeps its content from bots.
		contents = append(contents, message.Content{Kind: message.KindUnsupported, Unsupported: "empty message (a forwarded one arrives so)"})
	}
	contents = append(contents, others...)
	updates := make([]message.Update, len(contents))
	for i := range contents {
		updates[i] = base
		updates[i].Content = contents[i]
		if i > 0 && base.PlatformID != "" {
			updates[i].PlatformID += pieceMark + strconv.Itoa(i)
		}
	}
	return updates
}

// pieceMark separates a message's id from the number of its piece, for those
// that became several messages of ours.
const pieceMark = "#"

// fileKind is what an attachment with bytes is; "" for others.
func fileKind(kind string) message.Kind {
	switch kind {
	case "IMAGE":
		return message.KindImage
	case "VIDEO":
		return message.KindVideo
	case "AUDIO":
		return message.KindVoice
	case "FILE":
		return message.KindDocument
	case "STICKER", "PRESENT":
		return message.KindSticker
	}
	return ""
}

// other reads attachments that are messages of their own.
func other(a *attachment) (message.Content, bool) {
	p := &a.Payload
	switch a.Type {
	case "CONTACT":
		if phone := phone(string(p.Phone)); phone != "" {
			// Never the customer's proven own: a card of anybody looks the same.
			return message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: string(p.Name), Phone: phone}}, true
		}
	case "LOCATION":
		lat, okLat := degrees(p.Lat, 90)
		lon, okLon := degrees(p.Lon, 180)
		if okLat && okLon {
			return message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: lat, Lon: lon}}, true
		}
	case "CALL":
		how := strings.TrimSpace(string(p.Call) + " " + string(p.Hangup))
		return message.Content{Kind: message.KindService, Service: "call", Payload: how}, true
	}
	return message.Content{}, false
}

// withLink puts an address below the text, unless it is in it.
func withLink(words, link string) string {
	switch {
	case link == "" || strings.Contains(words, link):
		return words
	case words == "":
		return link
	}
	return words + "\n" + link
}

// isPage reports whether the address of a video is that of a page to watch it
// on, as in OK's own examples.
func isPage(link string) bool {
	u := channels.WebAddress(link)
	if u == nil {
		return false
	}
	host := strings.TrimPrefix(strings.TrimPrefix(u.Hostname(), "www."), "m.")
	return (host == "ok.ru" || host == "odnoklassniki.ru") && strings.HasPrefix(u.Path, "/video") && path.Ext(u.Path) == ""
}

func degrees(s scalar, limit float64) (float64, bool) {
	f, err := strconv.ParseFloat(string(s), 64)
	return f, err == nil && f >= -limit && f <= limit
}

// phone is "+" and digits where the form allows to tell, else the digits. OK
// leaves the "+" out. A trunk prefix (0..., or Russia's 8 and ten digits) and
// short numbers are left without it.
func phone(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r >= '0' && r <= '9' {
			b.WriteRune(r)
		}
	}
	digits := b.String()
	if digits == "" {
		return strings.TrimSpace(s)
	}
	trunk := digits[0] == '0' || digits[0] == '8' && len(digits) == 11
	if strings.HasPrefix(strings.TrimSpace(s), "+") || !trunk && len(digits) >= 11 && len(digits) <= 15 {
		return "+" + digits
	}
	return digits
}

// instant reads milliseconds since 1970; zero where they make no sense. The
// upper bound is the year 9999, the last that JSON times can write.
func instant(ms int64) time.Time {
	if ms <= 0 || ms > 253402300799999 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
