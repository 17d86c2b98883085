package telegram

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// Decode implements channels.Channel.
func (c *channel) Decode(raw []byte) ([]message.Update, error) {
	u, err := parseUpdate(raw)
	if err != nil {
		return nil, err
	}
	switch {
	case u.ID == 0:
		return nil, errors.New("update without update_id")
	case given(u.Message):
		return c.newMessage(u.Message)
	case given(u.Business):
		return c.newMessage(u.Business)
	case given(u.ChannelPost):
		return c.newMessage(u.ChannelPost)
	case given(u.Edited):
		return c.editedMessage(u.Edited)
	case given(u.EditedBusiness):
		return c.editedMessage(u.EditedBusiness)
	case given(u.EditedPost):
		return c.editedMessage(u.EditedPost)
	case u.Callback != nil:
		return u.Callback.decode()
	case u.Member != nil:
		return u.Member.decode(u.ID)
	case u.Reaction != nil:
		return u.Reaction.decode(u.ID)
	case u.DeletedBusiness != nil:
		return u.DeletedBusiness.decode()
	case u.Connection != nil, u.Poll != nil:
		// The owner of a business account let the bot in or out; the counts of a
		// poll changed. Neither belongs to a chat.
		return []message.Update{{Kind: message.UpdateIgnore}}, nil
	default:
		return unknownUpdate(u.ID, raw)
	}
}

func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// chat is the chat that an update, whose bytes are raw, belongs to; zero if none.
func (u *update) chat(raw []byte) chatID {
	for _, body := range []json.RawMessage{u.Message, u.Business, u.ChannelPost, u.Edited, u.EditedBusiness, u.EditedPost} {
		if given(body) {
			var m inside
			if lenient(body, &m) != nil {
				return chatID{}
			}
			return chatOf(m.Chat, m.BusinessConnectionID)
		}
	}
	switch {
	case u.Callback != nil:
		return u.Callback.chat()
	case u.Member != nil:
		return chatOf(u.Member.Chat, "")
	case u.Reaction != nil:
		return chatOf(u.Reaction.Chat, "")
	case u.DeletedBusiness != nil:
		return chatOf(u.DeletedBusiness.Chat, u.DeletedBusiness.ConnectionID)
	case u.Connection != nil, u.Poll != nil:
		return chatID{}
	}
	_, key, _, _ := unknown(raw)
	return key
}

func chatOf(c *chat, business string) chatID {
	if c == nil || c.ID == 0 {
		return chatID{}
	}
	return chatID{c.ID, business}
}

func (m *inboundMessage) chat() chatID { return chatOf(m.Chat, m.BusinessConnectionID) }

func (c *channel) newMessage(raw json.RawMessage) ([]message.Update, error) {
	u, err := c.message(raw)
	if err != nil {
		return nil, err
	}
	return []message.Update{u}, nil
}

func (c *channel) editedMessage(raw json.RawMessage) ([]message.Update, error) {
	u, err := c.message(raw)
	if err != nil {
		return nil, err
	}
	u.Kind = message.UpdateEdit
	return []message.Update{u}, nil
}

// message decodes a message object.
func (c *channel) message(raw json.RawMessage) (message.Update, error) {
	var m inboundMessage
	if err := lenient(raw, &m); err != nil {
		return message.Update{}, err
	}
	key := m.chat()
	if key.id == 0 || m.MessageID == 0 {
		return message.Update{}, errors.New("message without chat.id or message_id")
	}
	u := message.Update{
		Kind:       message.UpdateMessage,
		Chat:       key.String(),
		Customer:   m.customer(),
		PlatformID: strconv.FormatInt(m.MessageID, 10),
		At:         at(max(m.Date, m.EditDate)),
		Content:    c.content(&m, raw),
	}
	u.Content.Album = m.AlbumID
	if m.Origin != nil {
		f := message.Forward{From: m.Origin.name()}
		if t := at(m.Origin.Date); !t.IsZero() {
			f.At = &t
		}
		u.Content.Forwarded = []message.Forward{f}
	}
	if m.ReplyTo != nil && m.ReplyTo.MessageID != 0 {
		u.ReplyTo = strconv.FormatInt(m.ReplyTo.MessageID, 10)
	}
	u.Content.Quote = m.quote()
	if u.Content.Contact != nil && u.Content.Contact.Own {
		u.Customer.Phone = u.Content.Contact.Phone
	}
	if m.sentByOwner() {
		// The owner of the business account answered in the app. It is neither
		// the customer's nor ours, but the operator should see it.
		u.Content.Service = "answered_in_app"
		if u.Content.Kind == message.KindText {
			u.Content.Kind = message.KindService
		}
		u.Quiet = true
	}
	return u, nil
}

// sentByOwner tells the owner's own messages from the customer's, both of which
// a business connection reports: in a private chat the chat's id is the customer's.
func (m *inboundMessage) sentByOwner() bool {
	return m.BusinessConnectionID != "" && m.From != nil && m.From.ID != 0 && m.Chat.ID > 0 && m.From.ID != m.Chat.ID
}

func (m *inboundMessage) customer() message.Profile {
	switch {
	case m.sentByOwner():
		return m.Chat.profile()
	case m.SenderChat != nil && m.SenderChat.ID != 0:
		// An anonymous administrator or a channel: "from" is a stand-in then.
		return m.SenderChat.profile()
	case m.From != nil && m.From.ID != 0:
		return m.From.profile()
	default:
		return m.Chat.profile()
	}
}

// quote is what the customer quotes: a chosen part, or for a message of another
// chat at least whose it was.
func (m *inboundMessage) quote() string {
	quote := ""
	if m.Quote != nil {
		quote = m.Quote.Text
	}
	if m.ExternalReply != nil && m.ExternalReply.Origin != nil {
		if from := m.ExternalReply.Origin.name(); from != "" {
			return strings.TrimSuffix(from+": "+quote, ": ")
		}
	}
	return quote
}

// name says whom a message is from, as far as Telegram tells.
func (o *messageOrigin) name() string {
	from := o.HiddenName
	switch {
	case o.User != nil:
		from = o.User.name()
		if from == "" {
			from = o.User.Username
		}
	case o.SenderChat != nil:
		from = o.SenderChat.name()
	case o.Chat != nil:
		from = o.Chat.name()
	}
	if o.Signature != "" {
		from = strings.TrimSpace(from + " (" + o.Signature + ")")
	}
	return from
}

func (q *callbackQuery) chat() chatID {
	if q.Message != nil {
		if id := chatOf(q.Message.Chat, q.Message.BusinessConnectionID); id.id != 0 {
			return id
		}
	}
	if q.From != nil { // the button of an inline message that we can't see
		return chatID{id: q.From.ID}
	}
	return chatID{}
}

func (q *callbackQuery) decode() ([]message.Update, error) {
	key := q.chat()
	if key.id == 0 || q.ID == "" {
		return nil, errors.New("callback_query without id or chat")
	}
	// The query has no time of its own, and message.date is of the message with
	// the buttons.
	u := message.Update{Kind: message.UpdateMessage, Chat: key.String(), Customer: q.From.profile(), PlatformID: "callback:" + q.ID}
	if q.Message != nil && q.Message.MessageID != 0 {
		u.ReplyTo = strconv.FormatInt(q.Message.MessageID, 10)
	}
	if q.Data == nil {
		u.Content = message.Content{Kind: message.KindUnsupported, Unsupported: "callback_query", Payload: q.Game}
		return []message.Update{u}, nil
	}
	u.Content = message.Content{Kind: message.KindButton, Button: &message.Button{Payload: *q.Data, Text: q.text()}}
	return []message.Update{u}, nil
}

// text finds the label of the pressed button; an inaccessible message has none.
func (q *callbackQuery) text() string {
	if q.Message == nil || q.Message.Markup == nil {
		return ""
	}
	for _, row := range q.Message.Markup.Inline {
		for _, b := range row {
			if b.Data != "" && b.Data == *q.Data {
				return b.Text
			}
		}
	}
	return ""
}

// decode tells what happened twice: as a fact about the chat, and as a line for
// the people who read it.
func (m *memberUpdate) decode(updateID int64) ([]message.Update, error) {
	key := chatOf(m.Chat, "")
	if key.id == 0 {
		return nil, errors.New("my_chat_member without chat")
	}
	if m.New.Status == "" {
		return nil, errors.New("my_chat_member without new status")
	}
	reachable := false
	switch m.New.Status {
	case "member", "administrator", "creator":
		reachable = true
	case "restricted":
		reachable = m.New.IsMember && (m.New.CanSend == nil || *m.New.CanSend)
	}
	private := m.Chat.Type == "private" || (m.Chat.Type == "" && m.Chat.ID > 0)
	service := map[[2]bool]string{
		{true, true}: "started", {true, false}: "blocked",
		{false, true}: "added", {false, false}: "removed",
	}[[2]bool{private, reachable}]
	u := message.Update{Kind: message.UpdateContactable, Chat: key.String(), Customer: m.From.profile(), At: at(m.Date), Reachable: reachable}
	line := u
	line.Kind, line.Reachable, line.Quiet = message.UpdateMessage, false, true
	line.PlatformID = "update:" + strconv.FormatInt(updateID, 10)
	line.Content = message.Content{Kind: message.KindService, Service: service}
	return []message.Update{u, line}, nil
}

func (r *messageReaction) decode(updateID int64) ([]message.Update, error) {
	key := chatOf(r.Chat, "")
	if key.id == 0 {
		return nil, errors.New("message_reaction without chat")
	}
	u := message.Update{
		Kind: message.UpdateMessage, Chat: key.String(), Customer: r.User.profile(), At: at(r.Date), Quiet: true,
		PlatformID: "update:" + strconv.FormatInt(updateID, 10),
		Content:    message.Content{Kind: message.KindService, Service: "reaction"},
	}
	if r.User == nil && r.ActorChat != nil {
		u.Customer = r.ActorChat.profile()
	}
	if r.MessageID != 0 {
		u.ReplyTo = strconv.FormatInt(r.MessageID, 10)
	}
	var signs []string
	for _, sign := range r.New {
		switch {
		case sign.Emoji != "":
			signs = append(signs, sign.Emoji)
		case sign.Type == "paid":
			signs = append(signs, "⭐")
		default:
			signs = append(signs, "❔") // a custom emoji, which only Telegram can draw
		}
	}
	u.Content.Text = strings.Join(signs, " ")
	if len(signs) == 0 {
		u.Content.Service = "reaction_removed"
	}
	return []message.Update{u}, nil
}

func (d *deletedMessages) decode() ([]message.Update, error) {
	key := chatOf(d.Chat, d.ConnectionID)
	if key.id == 0 || len(d.MessageIDs) == 0 {
		return nil, errors.New("deleted_business_messages without chat or message_ids")
	}
	var updates []message.Update
	for _, id := range d.MessageIDs {
		if id == 0 {
			return nil, errors.New("deleted_business_messages with an id of 0")
		}
		updates = append(updates, message.Update{Kind: message.UpdateDelete, Chat: key.String(), PlatformID: strconv.FormatInt(id, 10)})
	}
	return updates, nil
}

// unknownUpdate is for kinds of update that didn't exist when this was written,
// or that we didn't ask for.
func unknownUpdate(updateID int64, raw []byte) ([]message.Update, error) {
	kind, key, customer, date := unknown(raw)
	if key.id == 0 {
		return []message.Update{{Kind: message.UpdateIgnore}}, nil
	}
	return []message.Update{{
		Kind: message.UpdateMessage, Chat: key.String(), Customer: customer.profile(), At: at(date), Quiet: true,
		PlatformID: "update:" + strconv.FormatInt(updateID, 10),
		Content:    message.Content{Kind: message.KindUnsupported, Unsupported: channels.Shorten(kind, 64)},
	}}, nil
}

// unknown finds whom an unknown update is about, by the fields that most
// objects of Telegram have; the key is zero if it doesn't say.
func unknown(raw []byte) (kind string, key chatID, customer *user, date int64) {
	var fields map[string]json.RawMessage
	if lenient(raw, &fields) != nil {
		return "", chatID{}, nil, 0
	}
	for _, kind := range slices.Sorted(maps.Keys(fields)) {
		var a anything
		if kind == "update_id" || kind == "" || lenient(fields[kind], &a) != nil {
			continue
		}
		customer := a.From
		if customer == nil {
			customer = a.User
		}
		key := chatOf(a.Chat, a.BusinessConnectionID)
		if key.id == 0 && a.Message != nil {
			key = chatOf(a.Message.Chat, a.Message.BusinessConnectionID)
		}
		if key.id == 0 && customer != nil {
			key = chatID{id: customer.ID}
		}
		if key.id != 0 {
			return kind, key, customer, a.Date
		}
	}
	return "", chatID{}, nil, 0
}
