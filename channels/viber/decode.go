package viber

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// callback is every callback's fields together.
type callback struct {
	envelope
	Sender     user     `json:"sender"`
	User       user     `json:"user"`
	Message    received `json:"message"`
	Subscribed bool     `json:"subscribed"` // of conversation_started
	Context    text     `json:"context"`    // of a deep link, with conversation_started
	Desc       text     `json:"desc"`       // of failed
}

type user struct {
	ID       scalar `json:"id"`
	Name     text   `json:"name"`
	Avatar   text   `json:"avatar"`
	Language text   `json:"language"`
	Country  text   `json:"country"`
}

// received is the message of a callback.
type received struct {
	Type         text   `json:"type"`
	Text         text   `json:"text"`
	Media        text   `json:"media"`
	FileName     text   `json:"file_name"`
	Size         scalar `json:"size"`
	Duration     scalar `json:"duration"`
	StickerID    scalar `json:"sticker_id"` // a number, or a string
	TrackingData text   `json:"tracking_data"`
	ChatID       scalar `json:"chat_id"`
	Contact      *struct {
		Name  text   `json:"name"`
		Phone scalar `json:"phone_number"`
	} `json:"contact"`
	Location *struct {
		Lat scalar `json:"lat"`
		Lon scalar `json:"lon"`
	} `json:"location"`
}

// Decode turns a callback into updates. Errors are callbacks that name no
// customer, or a receipt that names no message.
func (c *channel) Decode(raw []byte) ([]message.Update, error) {
	var cb callback
	if err := channels.DecodeLenient(raw, &cb); err != nil {
		return nil, fmt.Errorf("decoding callback: %w", err)
	}
	if cb.Event == eventWebhook || cb.ChatID != "" || cb.Message.ChatID != "" {
		return []message.Update{{Kind: message.UpdateIgnore}}, nil
	}
	customer := cb.customer()
	if customer.ID == "" {
		return nil, fmt.Errorf("callback %q names no user", cb.Event)
	}
	u := message.Update{
		Kind:     message.UpdateMessage,
		Chat:     customer.ID,
		Customer: customer,
		At:       instant(cb.Time),
	}
	token := string(cb.Token)
	if !isToken(token) {
		token = ""
	}
	switch cb.Event {
	case eventDelivered, eventSeen, eventFailed:
		if token == "" {
			return nil, fmt.Errorf("receipt %q names no message", cb.Event)
		}
		u.PlatformID = token
		return []message.Update{receipt(u, string(cb.Event), string(cb.Desc))}, nil
	}
	switch cb.Event {
	case eventMessage:
		u.PlatformID = token
		u.Content = c.content(&cb.Message)
		if contact := u.Content.Contact; contact != nil && contact.Own {
			u.Customer.Phone = contact.Phone
		}
		return []message.Update{u}, nil
	case eventStarted:
		started := service(u, token, "started", string(cb.Context))
		if !cb.Subscribed {
			// Only looked at: the customer can't be written to until they write.
			return []message.Update{started}, nil
		}
		contactable := u
		contactable.Kind, contactable.Reachable, contactable.Quiet = message.UpdateContactable, true, true
		return []message.Update{contactable, started}, nil
	case eventSubscribed, eventUnsubscribed:
		contactable := u
		contactable.Kind = message.UpdateContactable
		contactable.Reachable = cb.Event == eventSubscribed
		contactable.Quiet = true
		return []message.Update{contactable, service(u, token, string(cb.Event), "")}, nil
	default:
		// An event of the future. Its token may be that of one of our messages,
		// so the event's name goes before it.
		name := string(cb.Event)
		if name == "" {
			name = "callback without event"
		}
		if token != "" {
			u.PlatformID = name + ":" + token
		}
		u.Quiet = true
		u.Content = message.Content{Kind: message.KindUnsupported, Unsupported: name}
		return []message.Update{u}, nil
	}
}

func (cb *callback) customer() message.Profile {
	from := cb.Sender
	if from.ID == "" {
		from = cb.User
	}
	if from.ID == "" {
		from.ID = cb.UserID
	}
	return message.Profile{
		ID:       string(from.ID),
		Name:     string(from.Name),
		Avatar:   string(from.Avatar),
		Language: string(from.Language),
		Country:  string(from.Country),
	}
}

// receipt completes u with what happened to our message. Viber's "seen" comes
// once, for all that the customer had not read yet.
func receipt(u message.Update, event, desc string) message.Update {
	u.Kind = message.UpdateStatus
	switch event {
	case eventDelivered:
		u.Status = message.StatusDelivered
	case eventSeen:
		u.Status = message.StatusRead
		u.UpTo = true
	case eventFailed:
		u.Status = message.StatusFailed
		// Nothing in the callback tells a lost customer from a bad message: the
		// kind with the lesser consequence.
		u.Failure = &message.Failure{Kind: message.ErrInvalid, Code: eventFailed, Detail: desc}
	}
	return u
}

func service(u message.Update, id, name, payload string) message.Update {
	u.PlatformID = id
	u.Quiet = true
	u.Content = message.Content{Kind: message.KindService, Service: name, Payload: payload}
	return u
}

// content is what a customer's message says.
func (c *channel) content(m *received) message.Content {
	out, err := c.known(m)
	if err != nil {
		out = message.Content{Kind: message.KindUnsupported, Unsupported: err.Error(), Text: string(m.Text)}
	}
	out.Payload = string(m.TrackingData)
	return out
}

// known reads the types we know, and any type that has media as a file. The
// error is Viber's word for what can't be shown.
func (c *channel) known(m *received) (message.Content, error) {
	switch m.Type {
	case "text":
		if m.Text == "" {
			return message.Content{}, errors.New("text (empty)")
		}
		if press, ok := c.press(string(m.Text)); ok {
			return message.Content{Kind: message.KindButton, Button: press}, nil
		}
		return message.Content{Kind: message.KindText, Text: string(m.Text)}, nil
	case "url":
		if m.Media == "" {
			return message.Content{}, errors.New("url (without address)")
		}
		link := string(m.Media)
		if m.Text != "" && m.Text != m.Media {
			link = string(m.Text) + "\n" + link
		}
		return message.Content{Kind: message.KindText, Text: link}, nil
	case "contact":
		return c.contact(m)
	case "location":
		return location(m)
	case "sticker":
		if m.Media == "" && isToken(string(m.StickerID)) {
			// Where Viber publishes the stock stickers; some ids are missing there.
			m.Media = text("https://viber.github.io/docs/img/stickers/" + string(m.StickerID) + ".png")
		}
		return file(m, message.KindSticker)
	case "picture":
		return file(m, message.KindImage)
	case "video":
		return file(m, message.KindVideo)
	case "":
		return message.Content{}, errors.New("message without type")
	default: // "file", and voice notes whatever Viber calls them
		return file(m, message.KindDocument)
	}
}

func file(m *received, kind message.Kind) (message.Content, error) {
	if m.Media == "" {
		return message.Content{}, errors.New(string(m.Type))
	}
	return message.Content{
		Kind: kind,
		Text: string(m.Text),
		Files: []message.File{{
			Kind:     kind,
			Name:     string(m.FileName),
			Size:     max(m.Size.Int(), 0),
			State:    message.FilePending,
			Duration: int(min(max(m.Duration.Int(), 0), math.MaxInt32)),
			Ref:      string(m.Media),
		}},
	}, nil
}

// contact reads a card. It is the customer's own number only where our
// share-phone button's mark comes back: a forwarded card looks just the same
// otherwise.
func (c *channel) contact(m *received) (message.Content, error) {
	if m.Contact == nil || strings.TrimSpace(string(m.Contact.Phone)) == "" {
		return message.Content{}, errors.New("contact (without phone)")
	}
	out := message.Content{
		Kind:    message.KindContact,
		Contact: &message.Contact{Name: string(m.Contact.Name), Own: c.isPhoneMark(string(m.Text))},
	}
	out.Contact.Phone = normalPhone(string(m.Contact.Phone), out.Contact.Own)
	if !strings.HasPrefix(string(m.Text), phoneMarkPrefix) {
		out.Text = string(m.Text)
	}
	return out, nil
}

// normalPhone is "+" and digits where the form allows to tell. Viber leaves the
// "+" out. The customer's own number is always international; a card may hold
// what its owner typed, so there a trunk prefix (0..., or Russia's 8 and ten
// digits) and short numbers are left without it.
func normalPhone(s string, own bool) string {
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
	international := own || strings.HasPrefix(strings.TrimSpace(s), "+")
	if !international && strings.HasPrefix(digits, "00") && len(digits) > 2 {
		digits, international = digits[2:], true
	}
	trunk := digits[0] == '0' || digits[0] == '8' && len(digits) == 11
	if international || !trunk && len(digits) >= 11 && len(digits) <= 15 {
		return "+" + digits
	}
	return digits
}

func location(m *received) (message.Content, error) {
	if m.Location == nil {
		return message.Content{}, errors.New("location (without point)")
	}
	lat, okLat := degrees(m.Location.Lat, 90)
	lon, okLon := degrees(m.Location.Lon, 180)
	if !okLat || !okLon {
		return message.Content{}, errors.New("location (not on Earth)")
	}
	out := message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: lat, Lon: lon}}
	if m.Text != locationMark {
		out.Text = string(m.Text)
	}
	return out, nil
}

func degrees(s scalar, limit float64) (float64, bool) {
	f, err := strconv.ParseFloat(string(s), 64)
	return f, err == nil && f >= -limit && f <= limit
}

// instant reads milliseconds since 1970; zero where they make no sense. The
// upper bound is the year 9999, the last that JSON times can write.
func instant(ms scalar) time.Time {
	n := ms.Int()
	if n <= 0 || n > 253402300799999 {
		return time.Time{}
	}
	return time.UnixMilli(n).UTC()
}
