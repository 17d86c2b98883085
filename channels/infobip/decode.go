package infobip

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// received is what an element of results holds besides its envelope.
type received struct {
	Paired  channels.Scalar `json:"pairedMessageId"`
	Contact struct {
		Name     channels.Scalar `json:"name"`
		Username channels.Scalar `json:"username"`
	} `json:"contact"`
	Message json.RawMessage `json:"message"`
	Status  state           `json:"status"`
	Error   state           `json:"error"`
}

// words is the message of an element: the fields of all its types together.
type words struct {
	Type     channels.Scalar `json:"type"`
	Text     channels.Scalar `json:"text"`
	URL      channels.Scalar `json:"url"`
	Caption  channels.Scalar `json:"caption"`
	Lat      channels.Scalar `json:"latitude"`
	Lon      channels.Scalar `json:"longitude"`
	Name     channels.Scalar `json:"name"`
	Address  channels.Scalar `json:"address"`
	Contacts []card          `json:"contacts"`
	Payload  channels.Scalar `json:"payload"`
	ID       channels.Scalar `json:"id"`
	Title    channels.Scalar `json:"title"`
	Emoji    channels.Scalar `json:"emoji"`
	Action   channels.Scalar `json:"action"`
	Context  struct {
		ID      channels.Scalar `json:"id"`
		Group   channels.Scalar `json:"groupId"`
		Product json.RawMessage `json:"referredProduct"`
	} `json:"context"`
	Referral struct {
		Type   channels.Scalar `json:"sourceType"`
		Source channels.Scalar `json:"sourceId"`
		URL    channels.Scalar `json:"sourceUrl"`
		Title  channels.Scalar `json:"headline"`
	} `json:"referral"`
	Response json.RawMessage `json:"response"`
	Items    []struct {
		ID       channels.Scalar `json:"productRetailerId"`
		Quantity channels.Scalar `json:"quantity"`
		Price    channels.Scalar `json:"itemPrice"`
		Currency channels.Scalar `json:"currency"`
	} `json:"productItems"`
}

type card struct {
	Name struct {
		First  channels.Scalar `json:"firstName"`
		Last   channels.Scalar `json:"lastName"`
		Middle channels.Scalar `json:"middleName"`
		Whole  channels.Scalar `json:"formattedName"`
	} `json:"name"`
	Phones []struct {
		Phone    channels.Scalar `json:"phone"`
		WhatsApp channels.Scalar `json:"waId"`
	} `json:"phones"`
}

// event is a callback outside of results.
type event struct {
	Content struct {
		From   channels.Scalar `json:"from"`
		Notify channels.Scalar `json:"notificationMessagesStatus"` // stop or resume
		Type   channels.Scalar `json:"type"`
		Number channels.Scalar `json:"userNumber"`
		User   channels.Scalar `json:"userId"`
	} `json:"content"`
	Change struct {
		Type channels.Scalar `json:"type"`
	} `json:"change"`
	Notification channels.Scalar `json:"notificationType"`
	Created      channels.Scalar `json:"createdAt"`
}

func (e *event) chat() string {
	for _, s := range []channels.Scalar{e.Content.From, e.Content.Number, e.Content.User} {
		if s != "" {
			return address(string(s))
		}
	}
	return ""
}

// Decode implements channels.Channel. Errors are callbacks of an unknown form,
// elements that name no customer or message, and reports whose status says nothing
// that is known.
func (c *channel) Decode(raw []byte) ([]message.Update, error) {
	var r received
	if err := channels.DecodeLenient(raw, &r); err != nil {
		return nil, fmt.Errorf("decoding callback: %w", err)
	}
	var e envelope
	e.read(raw)
	chat := e.chat()
	switch e.kind() {
	case kindInbound:
		if chat == "" {
			return nil, errors.New("message names no customer")
		}
		return inbound(&r, &e, chat)
	case kindSeen, kindDelivery:
		if chat == "" || e.ID == "" {
			return nil, errors.New("report names no customer or no message")
		}
		u, err := report(&r, &e, chat)
		if err != nil {
			return nil, err
		}
		if u.Failure == nil || u.Failure.Kind != message.ErrRecipient {
			return []message.Update{u}, nil
		}
		// Until they write again.
		gone := message.Update{Kind: message.UpdateContactable, Chat: chat, Customer: u.Customer, At: u.At, Quiet: true}
		return []message.Update{u, gone}, nil
	}
	return outside(raw)
}

func inbound(r *received, e *envelope, chat string) ([]message.Update, error) {
	var m words
	if err := channels.DecodeLenient(r.Message, &m); err != nil {
		return nil, fmt.Errorf("decoding message: %w", err)
	}
	base := message.Update{
		Kind: message.UpdateMessage, Chat: chat, PlatformID: string(e.ID), At: instant(string(e.Received)),
		Customer: message.Profile{ID: chat, Name: string(r.Contact.Name), Username: string(r.Contact.Username)},
		ReplyTo:  repliedTo(string(m.Context.ID), string(r.Paired)),
	}
	if isPhone(chat) {
		// WhatsApp's address is the phone: Infobip vouches for it.
		base.Customer.Phone = "+" + chat
		if user := string(e.User); isUserID(user) {
			base.Aliases = []string{user} // the chat's key while they hid the phone
		}
	}
	if m.Type == "REACTION" {
		base.Quiet = true
	}
	contents := contentsOf(&m)
	updates := make([]message.Update, len(contents))
	for i := range contents {
		updates[i] = base
		updates[i].Content = contents[i]
		if i > 0 && base.PlatformID != "" {
			updates[i].PlatformID += pieceMark + strconv.Itoa(i)
		}
	}
	return updates, nil
}

// pieceMark separates a message's id from the number of its piece, for those
// that became several messages of ours.
const pieceMark = "#"

// contentsOf reads a message; several cards are several of ours.
func contentsOf(m *words) []message.Content {
	one := message.Content{Payload: m.origin()}
	unsupported := func(what string) []message.Content {
		one.Kind, one.Unsupported = message.KindUnsupported, what
		one.Text = first(string(m.Text), string(m.Caption))
		return []message.Content{one}
	}
	switch kind := string(m.Type); kind {
	case "TEXT":
		if m.Text == "" {
			return unsupported("TEXT without text")
		}
		one.Kind, one.Text = message.KindText, string(m.Text)
	case "IMAGE", "VIDEO", "DOCUMENT", "AUDIO", "VOICE", "STICKER":
		if channels.WebAddress(string(m.URL)) == nil {
			return unsupported(kind + " without url")
		}
		file := message.File{Kind: fileKinds[kind], State: message.FilePending, Ref: string(m.URL)}
		one.Kind, one.Text = file.Kind, string(m.Caption)
		if kind == "DOCUMENT" {
			file.Name, one.Text = captionOf(string(m.Caption))
		}
		one.Files = []message.File{file}
	case "LOCATION":
		lat, okLat := degrees(m.Lat, 90)
		lon, okLon := degrees(m.Lon, 180)
		if !okLat || !okLon {
			return unsupported("LOCATION without place")
		}
		one.Kind, one.Location = message.KindLocation, &message.Location{Lat: lat, Lon: lon, Title: string(m.Name), Address: string(m.Address)}
	case "CONTACT":
		return m.cards(one)
	case "BUTTON":
		one.Kind, one.Button = message.KindButton, &message.Button{Payload: first(string(m.Payload), string(m.Text)), Text: string(m.Text)}
	case "INTERACTIVE_BUTTON_REPLY", "INTERACTIVE_LIST_REPLY":
		one.Kind, one.Button = message.KindButton, &message.Button{Payload: first(string(m.ID), string(m.Title)), Text: string(m.Title)}
	case "INTERACTIVE_FLOW_REPLY":
		one.Kind, one.Service, one.Text, one.Payload = message.KindService, "flow_reply", string(m.Text), compact(m.Response)
	case "REACTION":
		one.Kind, one.Service, one.Payload = message.KindService, "reaction", string(m.Emoji)
		if m.Action == "REMOVED" {
			one.Service = "reaction_removed"
		}
	case "ORDER":
		var items []string
		for _, i := range m.Items {
			items = append(items, string(i.Quantity+" x "+i.ID+" at "+i.Price+" "+i.Currency))
		}
		one.Payload = strings.Join(items, "; ")
		return unsupported(kind)
	case "INFECTED_CONTENT":
		return unsupported("INFECTED_CONTENT: Infobip's scanner took the file away")
	case "":
		return unsupported("message without type")
	default:
		return unsupported(kind)
	}
	return []message.Content{one}
}

var fileKinds = map[string]message.Kind{
	"IMAGE": message.KindImage, "VIDEO": message.KindVideo, "DOCUMENT": message.KindDocument,
	"AUDIO": message.KindAudio, "VOICE": message.KindVoice, "STICKER": message.KindSticker,
}

// origin is where the message comes from, where that is not the chat alone: the
// advertisement that led the customer here, the product that they ask about, the
// group that they wrote in.
func (m *words) origin() string {
	r := &m.Referral
	list := []string{string(r.Type), string(r.Source), string(r.URL), string(r.Title)}
	if m.Context.Group != "" {
		list = append(list, "group "+string(m.Context.Group))
	}
	if product := compact(m.Context.Product); product != "" {
		list = append(list, "product "+product)
	}
	return strings.Join(strings.Fields(strings.Join(list, " ")), " ")
}

func (m *words) cards(base message.Content) (list []message.Content) {
	for i := range m.Contacts {
		k, one := &m.Contacts[i], base
		name := first(string(k.Name.Whole), strings.Join(strings.Fields(string(k.Name.First+" "+k.Name.Middle+" "+k.Name.Last)), " "))
		one.Kind, one.Text, one.Unsupported = message.KindUnsupported, name, "CONTACT without phone"
		for _, p := range k.Phones {
			if number := cardPhone(string(p.WhatsApp), string(p.Phone)); number != "" {
				one.Kind, one.Text, one.Unsupported = message.KindContact, "", ""
				one.Contact = &message.Contact{Name: name, Phone: number}
				break
			}
		}
		list = append(list, one)
	}
	if list == nil {
		base.Kind, base.Unsupported = message.KindUnsupported, "CONTACT without contacts"
		list = append(list, base)
	}
	return list
}

// cardPhone is "+" and digits where WhatsApp knows the number or its form tells,
// else what the card says.
func cardPhone(whatsApp, given string) string {
	if isPhone(whatsApp) {
		return "+" + whatsApp
	}
	digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, given)
	switch {
	case digits == "":
		return strings.TrimSpace(given)
	case strings.HasPrefix(strings.TrimSpace(given), "+"):
		return "+" + digits
	}
	return digits
}

// report is a delivery or a seen report.
func report(r *received, e *envelope, chat string) (message.Update, error) {
	u := message.Update{Kind: message.UpdateStatus, Chat: chat, Customer: message.Profile{ID: chat}, PlatformID: string(e.ID)}
	if e.kind() == kindSeen {
		u.At, u.Status = instant(string(e.Seen)), message.StatusRead
		return u, nil
	}
	if r.Status.ID == statusDuplicate || r.Error.ID == errorDuplicate {
		// Of a repetition that was refused; the message itself was taken.
		return message.Update{Kind: message.UpdateIgnore}, nil
	}
	u.At = instant(string(e.Done))
	u.Status = statusOf(&r.Status)
	switch u.Status {
	case "":
		return message.Update{}, errors.New("report with a status of an unknown group")
	case message.StatusFailed, message.StatusExpired:
		u.Failure = verdictOf(&r.Status, &r.Error).Failure()
	}
	return u, nil
}

// outside reads a callback that has no results.
func outside(raw []byte) ([]message.Update, error) {
	var ev event
	if err := channels.DecodeLenient(raw, &ev); err != nil {
		return nil, fmt.Errorf("decoding event: %w", err)
	}
	service := ""
	switch {
	case ev.Content.Notify != "":
		service = "marketing_" + strings.ToLower(string(ev.Content.Notify)) // stop or resume
	case ev.Content.Type != "":
		service = string(ev.Content.Type)
	case ev.Change.Type != "", ev.Notification == "CLICKED":
		return []message.Update{{Kind: message.UpdateIgnore}}, nil
	default:
		return nil, errors.New("neither a message nor a report nor an event that we know")
	}
	chat := ev.chat()
	if chat == "" {
		return nil, errors.New("event names no customer")
	}
	u := message.Update{
		Kind: message.UpdateMessage, Chat: chat, PlatformID: "event:" + hash(chat+"\n"+service+"\n"+string(ev.Created)), At: instant(string(ev.Created)),
		Customer: message.Profile{ID: chat}, Quiet: true,
		Content: message.Content{Kind: message.KindService, Service: service},
	}
	if isPhone(chat) {
		u.Customer.Phone = "+" + chat
	}
	return []message.Update{u}, nil
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// compact is JSON on one line; "" where there is none.
func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if len(raw) == 0 || json.Compact(&b, raw) != nil || b.String() == "null" {
		return ""
	}
	return strings.ReplaceAll(b.String(), `\u0000`, "")
}

func degrees(s channels.Scalar, limit float64) (float64, bool) {
	f, err := strconv.ParseFloat(string(s), 64)
	return f, err == nil && f >= -limit && f <= limit
}
