package vk

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"switchboard/channels"
	"switchboard/message"
)

// The events that we ask for and have a use for.
const (
	eventMessage      = "message_new"
	eventReply        = "message_reply"
	eventEdit         = "message_edit"
	eventPress        = "message_event"
	eventAllow        = "message_allow"
	eventDeny         = "message_deny"
	eventBlock        = "user_block"
	eventUnblock      = "user_unblock"
	eventRead         = "message_read"
	eventTyping       = "message_typing_state"
	eventReaction     = "message_reaction_event"
	eventConfirmation = "confirmation" // the check of a callback's address
)

// wanted are the events to switch on: what is not ticked never comes.
var wanted = []string{
	eventMessage, eventReply, eventEdit, eventPress, eventAllow, eventDeny,
	eventBlock, eventUnblock, eventRead, eventTyping, eventReaction,
}

// Decode implements channels.Channel.
func (c *channel) Decode(raw []byte) ([]message.Update, error) {
	var e event
	if err := lenient(raw, &e); err != nil {
		return nil, fmt.Errorf("reading event: %w", err)
	}
	var u message.Update
	var err error
	switch e.Type {
	case "":
		return nil, errors.New("event without type")
	case eventMessage, eventEdit:
		u, err = c.inbound(&e)
	case eventReply:
		u, err = c.outside(&e)
	case eventPress:
		u, err = press(&e)
	case eventAllow, eventDeny, eventBlock, eventUnblock:
		return contactable(&e)
	default:
		return c.other(&e)
	}
	if err != nil {
		return nil, err
	}
	return []message.Update{u}, nil
}

// messageOf finds the message of an event: in object.message, or the object itself.
func messageOf(object json.RawMessage) (*inMessage, error) {
	var o struct {
		Message json.RawMessage `json:"message"`
	}
	if err := lenient(object, &o); err != nil {
		return nil, err
	}
	body := object
	if len(o.Message) > 0 && o.Message[0] == '{' {
		body = o.Message
	}
	var m inMessage
	if err := lenient(body, &m); err != nil {
		return nil, err
	}
	return &m, nil
}

// common is what every update of a message says.
func (c *channel) common(m *inMessage) (message.Update, error) {
	if m.PeerID == 0 || m.CMID <= 0 {
		return message.Update{}, errors.New("message without peer_id or conversation_message_id")
	}
	u := message.Update{
		Kind: message.UpdateMessage, Chat: number(m.PeerID), PlatformID: number(m.CMID),
		At: at(max(m.Date, m.UpdateTime)), Content: c.content(m),
	}
	if r := m.Reply; r != nil {
		if r.CMID > 0 {
			u.ReplyTo = number(r.CMID)
		}
		u.Content.Quote = r.Text
	}
	return u, nil
}

// inbound decodes message_new and message_edit.
func (c *channel) inbound(e *event) (message.Update, error) {
	m, err := messageOf(e.Object)
	if err != nil {
		return message.Update{}, err
	}
	u, err := c.common(m)
	if err != nil {
		return u, err
	}
	if bool(m.Out) || m.FromID == -c.group {
		// Our own edit, come back. (Other communities may write in group chats.)
		return message.Update{Kind: message.UpdateIgnore}, nil
	}
	from := m.FromID
	if from == 0 {
		from = m.PeerID
	}
	u.Customer.ID = number(from)
	if e.Type == eventEdit {
		u.Kind = message.UpdateEdit
	}
	u.Quiet = m.Action != nil && m.Action.Type != ""
	return u, nil
}

// outside decodes message_reply, which comes for everything that is sent for the
// community. What an administrator wrote in VK itself is shown to operators; the
// rest is our own, come back.
func (c *channel) outside(e *event) (message.Update, error) {
	m, err := messageOf(e.Object)
	if err != nil {
		return message.Update{}, err
	}
	u, err := c.common(m)
	if err != nil {
		return u, err
	}
	if m.AdminID == 0 {
		return message.Update{Kind: message.UpdateIgnore}, nil
	}
	if m.PeerID < firstChat {
		u.Customer.ID = number(m.PeerID)
	} else {
		u.Customer.ID = number(-c.group)
	}
	u.Content.Service = "answered_in_app"
	if !u.Content.Kind.IsFile() {
		u.Content.Kind = message.KindService
	}
	u.Quiet = true
	return u, nil
}

// pressed is the object of message_event.
type pressed struct {
	UserID  int64           `json:"user_id"`
	PeerID  int64           `json:"peer_id"`
	EventID string          `json:"event_id"`
	CMID    int64           `json:"conversation_message_id"`
	Payload json.RawMessage `json:"payload"`
}

func (p *pressed) peer() int64 {
	if p.PeerID == 0 {
		return p.UserID
	}
	return p.PeerID
}

func press(e *event) (message.Update, error) {
	var p pressed
	if err := lenient(e.Object, &p); err != nil {
		return message.Update{}, err
	}
	if p.peer() == 0 || p.EventID == "" {
		return message.Update{}, errors.New("message_event without peer_id or event_id")
	}
	// An object in live events, and a string that holds one in the schema.
	payload := string(p.Payload)
	var text string
	if len(payload) > 0 && payload[0] == '"' && json.Unmarshal(p.Payload, &text) == nil {
		payload = text
	}
	b := buttonOf(payload)
	u := message.Update{
		Kind: message.UpdateMessage, Chat: number(p.peer()), PlatformID: "event:" + p.EventID,
		Content: message.Content{Kind: message.KindButton, Button: &b},
	}
	u.Customer.ID = number(p.UserID)
	if p.UserID == 0 {
		u.Customer.ID = u.Chat
	}
	if p.CMID > 0 {
		u.ReplyTo = number(p.CMID)
	}
	return u, nil
}

// contactable tells what happened twice: as a fact about the customer, and as a
// line for the people who read the chat.
func contactable(e *event) ([]message.Update, error) {
	var o struct {
		UserID int64 `json:"user_id"`
	}
	if err := lenient(e.Object, &o); err != nil {
		return nil, err
	}
	if o.UserID == 0 {
		return nil, errors.New(e.Type + " without user_id")
	}
	service := map[string]string{eventAllow: "started", eventDeny: "blocked", eventBlock: "blocked_by_us", eventUnblock: "unblocked_by_us"}[e.Type]
	u := message.Update{
		Kind: message.UpdateContactable, Chat: number(o.UserID), Customer: message.Profile{ID: number(o.UserID)},
		Reachable: e.Type == eventAllow || e.Type == eventUnblock,
	}
	if e.EventID == "" {
		return []message.Update{u}, nil // a line without an id of its own could come twice
	}
	line := u
	line.Kind, line.Reachable, line.Quiet = message.UpdateMessage, false, true
	line.PlatformID = "event:" + e.EventID
	line.Content = message.Content{Kind: message.KindService, Service: service}
	return []message.Update{u, line}, nil
}

// other decodes what is no message, and what did not exist when this was written.
func (c *channel) other(e *event) ([]message.Update, error) {
	var o struct {
		UserID    int64 `json:"user_id"`
		PeerID    int64 `json:"peer_id"`
		FromID    int64 `json:"from_id"`
		ReactedID int64 `json:"reacted_id"`
		CMID      int64 `json:"conversation_message_id"`
		Reacted   int64 `json:"cmid"`
		Reaction  int64 `json:"reaction_id"`
	}
	if err := lenient(e.Object, &o); err != nil {
		return nil, err
	}
	ignore := []message.Update{{Kind: message.UpdateIgnore}}
	u := message.Update{Chat: number(o.PeerID)}
	switch e.Type {
	case eventTyping:
		if o.FromID <= 0 {
			return ignore, nil
		}
		u.Kind, u.Chat, u.Customer.ID = message.UpdateTyping, number(o.FromID), number(o.FromID)
	case eventRead:
		if o.PeerID == 0 || o.CMID <= 0 { // older versions tell the id only that is 0 in group chats
			return ignore, nil
		}
		u.Kind, u.PlatformID, u.Status, u.UpTo = message.UpdateStatus, number(o.CMID), message.StatusRead, true
	case eventReaction:
		if o.PeerID == 0 || o.ReactedID == -c.group || e.EventID == "" {
			return ignore, nil
		}
		service, payload := reaction(o.Reaction)
		u.Kind, u.PlatformID, u.Quiet = message.UpdateMessage, "event:"+e.EventID, true
		u.Customer.ID = number(o.ReactedID)
		if o.ReactedID == 0 {
			u.Customer.ID = u.Chat
		}
		u.Content = message.Content{Kind: message.KindService, Service: service, Payload: payload}
		if o.Reacted > 0 {
			u.ReplyTo = number(o.Reacted)
		}
	default:
		// Wall posts, members, comments: the community's life, not a chat's.
		// Something new about messages is shown with VK's own word.
		const ours = "message_"
		peer := o.PeerID
		if peer == 0 {
			peer = o.UserID
		}
		if len(e.Type) < len(ours) || e.Type[:len(ours)] != ours || peer == 0 || e.EventID == "" {
			return ignore, nil
		}
		u.Kind, u.Chat, u.PlatformID, u.Quiet = message.UpdateMessage, number(peer), "event:"+e.EventID, true
		u.Customer.ID = u.Chat
		if o.UserID != 0 {
			u.Customer.ID = number(o.UserID)
		}
		u.Content = message.Content{Kind: message.KindUnsupported, Unsupported: channels.Shorten(e.Type, 64)}
	}
	return []message.Update{u}, nil
}

// buttonOf reads the payload of a pressed button. Ours is {"sb":payload} with the
// label in "t" where it is not told otherwise; any other is kept as it is.
func buttonOf(payload string) message.Button {
	var ours struct {
		Payload *string `json:"sb"`
		Label   string  `json:"t"`
	}
	if lenient([]byte(payload), &ours) == nil && ours.Payload != nil {
		return message.Button{Payload: *ours.Payload, Text: ours.Label}
	}
	return message.Button{Payload: payload}
}

// who names the author of a forwarded message: events carry no names.
func (c *channel) who(id int64) string {
	switch {
	case id == -c.group:
		return "us"
	case id < 0:
		return "club" + strconv.FormatInt(-id, 10)
	default:
		return "id" + strconv.FormatInt(id, 10)
	}
}
