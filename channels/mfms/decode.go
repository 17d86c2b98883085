package mfms

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// Decode implements channels.Channel. Errors are messages without a phone,
// reports of an unknown status, and what is neither.
func (c *channel) Decode(raw []byte) ([]message.Update, error) {
	if isXML(raw) {
		return c.hpxDecode(raw)
	}
	var e envelope
	e.read(raw)
	switch e.kind() {
	case isReply:
		var r reply
		if err := channels.DecodeLenient(raw, &r); err != nil {
			return nil, fmt.Errorf("decoding message: %w", err)
		}
		return one(&r, string(r.ReplyTo), "")
	case isPulseReply:
		var p pulseReply
		if err := channels.DecodeLenient(raw, &p); err != nil {
			return nil, fmt.Errorf("decoding message: %w", err)
		}
		r := p.plain()
		return one(&r, string(r.ReplyTo), string(p.User.Avatar))
	case isReport, isPulseReport:
		var r report
		if err := channels.DecodeLenient(raw, &r); err != nil {
			return nil, fmt.Errorf("decoding report: %w", err)
		}
		if e.kind() == isPulseReport {
			r.ID, r.Status, r.At, r.Error = r.PulseID, r.PulseIs, r.PulseAt, r.PulseErr
		}
		return c.report(&r)
	}
	return nil, errors.New("callback is neither a message nor a report")
}

// plain is the same message in the older form.
func (p *pulseReply) plain() reply {
	m := &p.Content
	r := reply{
		ID: p.ID, Address: p.Subscriber.Identifier, UserName: p.User.Name, ReceivedAt: p.ReceivedAt,
		ContentType: m.Type, Text: m.Text, Caption: m.Caption, Contact: m.Contact, Payload: m.Payload,
		AttachmentURL: m.Attachment.URL, AttachmentName: m.Attachment.Name, AttachmentSize: m.Attachment.Size,
		Latitude: m.Location.Latitude, Longitude: m.Location.Longitude, Place: m.Location.Address,
		ReplyTo: p.ReplyOurs,
	}
	if r.UserName == "" {
		r.UserName = text(strings.TrimSpace(string(p.User.First) + " " + string(p.User.Last)))
	}
	if r.ReplyTo == "" {
		r.ReplyTo = p.ReplyTheir
	}
	if len(m.Items) > 0 && r.Payload == "" { // the rows chosen of a list
		r.Payload, r.ContentType = m.Items[0].Identifier, "button"
		if m.Items[0].Title != "" {
			r.Text = m.Items[0].Title
		}
	}
	return r
}

// customer is whom a phone belongs to: WhatsApp's address is the phone, proven.
func customer(number string) message.Profile {
	return message.Profile{ID: number, Phone: "+" + number}
}

// one makes the update of a customer's message.
func one(r *reply, replyTo, avatar string) ([]message.Update, error) {
	number := phone(string(r.Address))
	if number == "" {
		return nil, errors.New("message names no phone")
	}
	u := message.Update{
		Kind: message.UpdateMessage, Chat: number, Customer: customer(number),
		PlatformID: string(r.ID), At: instant(string(r.ReceivedAt)), ReplyTo: replyTo,
	}
	u.Customer.Name = string(r.UserName)
	if isWeb(avatar) {
		u.Customer.Avatar = avatar
	}
	content, err := content(r)
	if err != nil {
		content = message.Content{Kind: message.KindUnsupported, Unsupported: err.Error(), Text: words(r)}
	}
	u.Content = content
	return []message.Update{u}, nil
}

func words(r *reply) string {
	if r.Caption != "" {
		return string(r.Caption)
	}
	return string(r.Text)
}

// content is what a message says. The error is MFMS's word for what can't be shown.
func content(r *reply) (message.Content, error) {
	kind := strings.ToLower(string(r.ContentType))
	switch kind {
	case "text", "button":
		if r.Payload != "" || kind == "button" && r.Text != "" {
			b := &message.Button{Payload: string(r.Payload), Text: string(r.Text)}
			if b.Payload == "" {
				b.Payload = b.Text
			}
			return message.Content{Kind: message.KindButton, Button: b}, nil
		}
		if r.Text == "" {
			return message.Content{}, errors.New(kind + " (empty)")
		}
		return message.Content{Kind: message.KindText, Text: string(r.Text)}, nil
	case "location":
		lat, okLat := degrees(r.Latitude, 90)
		lon, okLon := degrees(r.Longitude, 180)
		if !okLat || !okLon {
			return message.Content{}, errors.New("location (not on Earth)")
		}
		return message.Content{Kind: message.KindLocation, Text: words(r), Location: &message.Location{Lat: lat, Lon: lon, Address: string(r.Place)}}, nil
	case "contact":
		if r.Contact.Phone == "" {
			return message.Content{}, errors.New("contact (without phone)")
		}
		// Never the customer's own: they have proven another way whose the chat is.
		return message.Content{Kind: message.KindContact, Text: words(r), Contact: &message.Contact{Name: string(r.Contact.Name), Phone: cardPhone(string(r.Contact.Phone))}}, nil
	case "image", "video", "audio", "voice", "sticker", "document":
		link := string(r.AttachmentURL)
		if !isWeb(link) {
			return message.Content{}, errors.New(kind + " (without file)")
		}
		k := message.Kind(kind)
		return message.Content{Kind: k, Text: words(r), Files: []message.File{{
			Kind: k, Name: string(r.AttachmentName), Size: max(r.AttachmentSize.Int(), 0), State: message.FilePending, Ref: link,
		}}}, nil
	case "":
		return message.Content{}, errors.New("message without type")
	}
	return message.Content{}, errors.New(kind)
}

// isWeb reports whether a file can be fetched from the address.
func isWeb(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

func degrees(s scalar, limit float64) (float64, bool) {
	f, err := strconv.ParseFloat(string(s), 64)
	return f, err == nil && f >= -limit && f <= limit
}

// cardPhone is "+" and digits where the form allows to tell: a card may hold what
// its owner typed. A trunk prefix (0..., or Russia's 8 and ten digits) and short
// numbers are left without the "+".
func cardPhone(s string) string {
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
	if digits == "" {
		return strings.TrimSpace(s)
	}
	trunk := digits[0] == '0' || digits[0] == '8' && len(digits) == 11
	if strings.HasPrefix(strings.TrimSpace(s), "+") || !trunk && len(digits) >= 11 && len(digits) <= 15 {
		return "+" + digits
	}
	return digits
}

// states are MFMS's statuses; "" is one that changes nothing.
var states = map[string]message.Status{
	"enqueued": "", "delayed": "",
	"sent": message.StatusSent, "delivered": message.StatusDelivered, "read": message.StatusRead,
	"undelivered": message.StatusFailed, "failed": message.StatusFailed,
	"expired": message.StatusExpired, "vp_expired": message.StatusExpired,
	"cancelled": message.StatusCanceled, "canceled": message.StatusCanceled,
	// Reasons that are seen in the place of a status, too.
	"no-match-template": message.StatusFailed, "not-template-match": message.StatusFailed,
	"not-whatsapp-user": message.StatusFailed, "not-viber-user": message.StatusFailed, "user-blocked": message.StatusFailed,
}

// newer reports whether a status tells more than that the message is with MFMS.
func newer(status string) bool {
	s, known := states[strings.ToLower(strings.TrimSpace(status))]
	return known && s != "" && s != message.StatusSent
}

// report makes the updates of a delivery report in JSON.
func (c *channel) report(r *report) ([]message.Update, error) {
	number := c.ids.phone(string(r.ID))
	if number == "" && known(string(r.Status)) {
		// Of a message that another program sent over this account.
		return []message.Update{{Kind: message.UpdateIgnore}}, nil
	}
	return c.updates(string(r.Status), string(r.Error), string(r.At),
		message.Update{Chat: number, Customer: customer(number), PlatformID: strings.ToLower(string(r.ID))})
}

func known(status string) bool {
	_, ok := states[strings.ToLower(status)]
	return ok
}

// updates are what a report says of a message: what became of it, and that the
// customer can't be written to where that is the reason. about names the message,
// and its chat where the report does.
func (c *channel) updates(state, reason, at string, about message.Update) ([]message.Update, error) {
	word := strings.ToLower(state)
	status, known := states[word]
	switch {
	case !known:
		return nil, errors.New("report with an unknown status")
	case status == "":
		return []message.Update{{Kind: message.UpdateIgnore}}, nil
	}
	u := about
	u.Kind, u.At, u.Status = message.UpdateStatus, instant(at), status
	if status != message.StatusFailed {
		return []message.Update{u}, nil
	}
	u.Failure = c.failure(word, strings.ToLower(reason))
	updates := []message.Update{u}
	if u.Failure.Kind == message.ErrRecipient {
		about.Kind, about.At, about.Quiet = message.UpdateContactable, u.At, true
		if about.Chat != "" {
			about.PlatformID = ""
		}
		updates = append(updates, about)
	}
	return updates, nil
}

func (c *channel) failure(status, reason string) *message.Failure {
	if reason == "" {
		reason = status
	}
	v, known := verdictOf(reason)
	if !known || v.kind == accepted {
		return &message.Failure{Kind: message.ErrInvalid, Code: c.word(reason), Detail: "MFMS could not deliver the message"}
	}
	// What is passing for a send is final in a report.
	if v.kind != message.ErrRecipient {
		v.kind = message.ErrInvalid
	}
	return &message.Failure{Kind: v.kind, Code: reason, Detail: v.hint}
}
