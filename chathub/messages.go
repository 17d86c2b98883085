package chathub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

// Limits of our own, above those of any channel: they keep rows and frames
// small. Texts are in bytes, everything else in characters.
const (
	maxText     = 64 << 10
	maxName     = 256
	maxAddress  = 1024
	maxClientID = 128
	maxFiles    = 32
	maxButtons  = 300
	maxURL      = 2048
)

var errNoAccount = channels.ErrNoAccount

type messageResult struct {
	Message message.Message `json:"message"`
}

type sendParams struct {
	ChatID   string            `json:"chat_id"`
	ClientID *string           `json:"client_id"`
	Kind     message.Kind      `json:"kind"`
	Text     string            `json:"text"`
	Files    []string          `json:"files"`
	Contact  *message.Contact  `json:"contact"`
	Location *locationParams   `json:"location"`
	Keyboard *message.Keyboard `json:"keyboard"`
	Template *message.Template `json:"template"`
	ReplyTo  *string           `json:"reply_to"`
}

// locationParams is a message.Location that tells 0 from nothing.
type locationParams struct {
	Lat     *float64 `json:"lat"`
	Lon     *float64 `json:"lon"`
	Title   string   `json:"title"`
	Address string   `json:"address"`
}

func (l *locationParams) location() *message.Location {
	if l == nil {
		return nil
	}
	return &message.Location{Lat: *l.Lat, Lon: *l.Lon, Title: l.Title, Address: l.Address}
}

func (h *Hub) messageSend(ctx context.Context, c *conn, p *sendParams) (any, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	chat, opened, err := h.target(ctx, &c.operator, p.ChatID)
	if err != nil {
		return nil, err
	}
	content := message.Content{Kind: p.Kind, Text: p.Text, Contact: p.Contact, Location: p.Location.location(), Keyboard: p.Keyboard, Template: p.Template}
	if len(p.Files) > 0 {
		if content.Files, err = h.files(ctx, &c.operator, p.Kind, p.Files); err != nil {
			return nil, err
		}
	}
	return h.send(ctx, c, chat, opened, content, queue.Send{ReplyTo: p.ReplyTo, ClientID: p.ClientID})
}

// target is a chat to send into. Whether the operator may is decided again
// under the chat's lock; here it keeps strangers from learning anything else.
func (h *Hub) target(ctx context.Context, o *switchboard.Operator, chatID string) (switchboard.Chat, *channels.Opened, error) {
	chat, err := h.visible(ctx, o, chatID)
	if err != nil {
		return chat, nil, err
	}
	opened, err := h.deps.Accounts.Get(ctx, chat.AccountID)
	if err != nil {
		return chat, nil, accountError(err)
	}
	return chat, opened, nil
}

// accountError tells an account that isn't there from one that can't be opened.
func accountError(err error) error {
	if errors.Is(err, errNoAccount) {
		return err
	}
	return fmt.Errorf("the account can't be used now: %w: %w", switchboard.ErrUnavailable, err)
}

// send completes s and queues it.
func (h *Hub) send(ctx context.Context, c *conn, chat switchboard.Chat, opened *channels.Opened, content message.Content, s queue.Send) (any, error) {
	if err := opened.Check(&content, s.ReplyTo != nil, ""); err != nil {
		return nil, err
	}
	s.ChatID, s.Content, s.TTL, s.Priority = chat.ID, content, opened.TTL, queue.PriorityConversation
	s.Sender = message.Sender{Kind: message.SenderOperator, ID: c.operator.ID, Name: c.operator.Name}
	s.Allow = mayWrite(&c.operator)
	m, _, err := h.deps.Store.SendMessage(ctx, s)
	if err != nil {
		return nil, err
	}
	h.deps.Bus.Wake(topicOutbox)
	h.deps.Bus.Wake(topicEvents)
	return messageResult{m}, nil
}

func (p *sendParams) check() error {
	if err := checkID("chat_id", p.ChatID); err != nil {
		return err
	}
	if err := checkClientID(p.ClientID); err != nil {
		return err
	}
	if p.ReplyTo != nil {
		if err := checkID("reply_to", *p.ReplyTo); err != nil {
			return err
		}
	}
	switch {
	case p.Kind == "":
		return fail(codeParams, "kind is missing")
	case !p.Kind.Known():
		return fail(codeParams, "kind must be one of %v", message.Kinds)
	case len(p.Text) > maxText:
		return fail(codeLimit, "text has %d bytes; the limit is %d", len(p.Text), maxText)
	case len(p.Files) > maxFiles:
		return fail(codeLimit, "files has %d entries; the limit is %d", len(p.Files), maxFiles)
	case p.Contact != nil && p.Kind != message.KindContact:
		return fail(codeParams, "contact goes with kind contact only")
	case p.Location != nil && p.Kind != message.KindLocation:
		return fail(codeParams, "location goes with kind location only")
	case p.Template != nil && p.Kind != message.KindTemplate:
		return fail(codeParams, "template goes with kind template only")
	}
	for i, id := range p.Files {
		if err := checkID(fmt.Sprintf("files[%d]", i), id); err != nil {
			return err
		}
	}
	if c := p.Contact; c != nil {
		c.Own = false // only a platform can prove that
		if err := cmp.Or(capText("contact.name", c.Name, maxName), capText("contact.phone", c.Phone, 32)); err != nil {
			return err
		}
	}
	if l := p.Location; l != nil {
		switch {
		case l.Lat == nil:
			return fail(codeParams, "location.lat is missing")
		case l.Lon == nil:
			return fail(codeParams, "location.lon is missing")
		}
		if err := cmp.Or(capText("location.title", l.Title, maxName), capText("location.address", l.Address, maxAddress)); err != nil {
			return err
		}
	}
	if t := p.Template; t != nil {
		if err := checkTemplate(t); err != nil {
			return err
		}
	}
	return checkKeyboard(p.Keyboard)
}

func checkClientID(id *string) error {
	if id == nil {
		return nil
	}
	return checkText("client_id", *id, maxClientID)
}

// capText refuses what is too long. (An error value, so that cmp.Or can chain.)
func capText(field, s string, limit int) error {
	if n := utf8.RuneCountInString(s); n > limit {
		return fail(codeLimit, "%s has %d characters; the limit is %d", field, n, limit)
	}
	return nil
}

func checkTemplate(t *message.Template) error {
	if len(t.Parameters) > 100 {
		return fail(codeLimit, "template.parameters has %d entries; the limit is 100", len(t.Parameters))
	}
	for i, p := range t.Parameters {
		if err := capText(fmt.Sprintf("template.parameters[%d]", i), p, maxAddress); err != nil {
			return err
		}
	}
	return cmp.Or(capText("template.name", t.Name, maxName), capText("template.language", t.Language, 32))
}

func checkKeyboard(k *message.Keyboard) error {
	if k == nil {
		return nil
	}
	total := 0
	for _, row := range k.Rows {
		total += len(row)
		for _, b := range row {
			if err := cmp.Or(capText("keyboard button's text", b.Text, maxName), capText("keyboard button's payload", b.Payload, 4096), capText("keyboard button's url", b.URL, maxURL)); err != nil {
				return err
			}
			if b.URL == "" {
				continue
			}
			if u, err := url.Parse(b.URL); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
				return fail(codeParams, "keyboard button's url must be an http or https address")
			}
		}
	}
	if total > maxButtons || len(k.Rows) > maxButtons {
		return fail(codeLimit, "keyboard has %d buttons; the limit is %d", total, maxButtons)
	}
	return capText("keyboard.placeholder", k.Placeholder, maxName)
}

// files resolves uploaded files for a message of a kind: the operator may read them,
// they must be in the store, and what they are must agree with the kind.
func (h *Hub) files(ctx context.Context, o *switchboard.Operator, kind message.Kind, ids []string) ([]message.File, error) {
	if !kind.IsFile() && kind != message.KindTemplate {
		return nil, fail(codeParams, "a %s message carries no files; use kind image, video, audio, voice, sticker or document", kind)
	}
	found, err := h.deps.Store.FilesByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	readable, err := h.deps.Store.ReadableFiles(ctx, *o, ids)
	if err != nil {
		return nil, err
	}
	files := make([]message.File, len(ids))
	for i, id := range ids {
		at := slices.IndexFunc(found, func(f message.File) bool { return f.ID == id })
		if at < 0 || !slices.Contains(readable, id) {
			return nil, fail(codeNotFound, "files[%d]: no such file; upload it first", i)
		}
		f := found[at]
		if f.State != message.FileReady {
			return nil, fail(codeConflict, "files[%d] is %s, not ready", i, f.State)
		}
		if !fits(kind, f.Mime) {
			return nil, fail(codeParams, "files[%d] is %s, which can't be sent as %s; use kind document", i, f.Mime, kind)
		}
		f.Kind = kind.FileKind(f.Mime)
		files[i] = f
	}
	return files, nil
}

// fits reports whether a file of the media type can be what the kind says.
func fits(kind message.Kind, mime string) bool {
	mime, _, _ = strings.Cut(mime, ";")
	family, _, _ := strings.Cut(mime, "/")
	switch kind {
	case message.KindImage:
		return family == "image"
	case message.KindVideo:
		return family == "video"
	case message.KindAudio, message.KindVoice:
		// Browsers record speech as WebM, which sniffs as video.
		return family == "audio" || mime == "application/ogg" || mime == "video/webm" || mime == "video/mp4"
	case message.KindSticker:
		return family == "image" || mime == "video/webm" || mime == "application/gzip" || mime == "application/json" // animated ones
	default:
		return true
	}
}

type editParams struct {
	MessageID string `json:"message_id"`
	Text      string `json:"text"`
}

func (h *Hub) messageEdit(ctx context.Context, c *conn, p *editParams) (any, error) {
	if len(p.Text) > maxText {
		return nil, fail(codeLimit, "text has %d bytes; the limit is %d", len(p.Text), maxText)
	}
	m, opened, err := h.own(ctx, &c.operator, p.MessageID)
	if err != nil {
		return nil, err
	}
	caps := &opened.Capabilities
	if !caps.Edit {
		return nil, fail(codeUnsupported, "%s can't edit sent messages", caps.Platform)
	}
	if m.Kind != message.KindText && !m.Kind.IsFile() {
		return nil, fail(codeUnsupported, "a %s message has no text to edit", m.Kind)
	}
	if m.DeletedAt != nil {
		return nil, fail(codeConflict, "the message has been deleted")
	}
	if k := m.Keyboard; k != nil && k.Kind != message.KeyboardInline {
		return nil, fail(codeUnsupported, "%s can't edit a message that was sent with a %s keyboard", caps.Platform, k.Kind)
	}
	content := m.Content
	content.Text = p.Text
	if err := opened.Check(&content, false, ""); err != nil {
		return nil, err
	}
	if m.Status != message.StatusQueued {
		was, is := opened.Calls(&m.Content), opened.Calls(&content)
		if is > was {
			return nil, fail(codeLimit, "the text needs %d messages of %s (at most %d %s each, %d beside files), and %d were sent; shorten it",
				is, caps.Platform, caps.Text.Max, caps.Text.Unit, caps.Caption.Max, was)
		}
	}
	edited, err := h.deps.Store.EditMessage(ctx, p.MessageID, p.Text, mayWrite(&c.operator))
	if err != nil {
		return nil, err
	}
	h.deps.Bus.Wake(topicOutbox)
	h.deps.Bus.Wake(topicEvents)
	return messageResult{edited}, nil
}

type deleteParams struct {
	MessageID string `json:"message_id"`
}

func (h *Hub) messageDelete(ctx context.Context, c *conn, p *deleteParams) (any, error) {
	m, opened, err := h.deletable(ctx, &c.operator, p.MessageID)
	if err != nil {
		return nil, err
	}
	// What has not left yet can be taken back on any channel.
	if m.Direction == message.Out && !opened.Capabilities.Delete && m.Status != message.StatusQueued {
		return nil, fail(codeUnsupported, "%s can't delete sent messages", opened.Capabilities.Platform)
	}
	deleted, err := h.deps.Store.DeleteMessage(ctx, p.MessageID, mayWrite(&c.operator))
	if err != nil {
		return nil, err
	}
	h.deps.Bus.Wake(topicOutbox)
	h.deps.Bus.Wake(topicEvents)
	return messageResult{deleted}, nil
}

// deletable is own, or a message of the customer where the platform lets it be
// deleted.
func (h *Hub) deletable(ctx context.Context, o *switchboard.Operator, messageID string) (message.Message, *channels.Opened, error) {
	m, err := h.readable(ctx, o, messageID)
	if err != nil || m.Direction == message.Out {
		return h.own(ctx, o, messageID)
	}
	opened, err := h.deps.Accounts.Get(ctx, m.AccountID)
	if err != nil {
		return m, nil, accountError(err)
	}
	if caps := &opened.Capabilities; !caps.DeleteReceived || m.PlatformMessageID == nil {
		return m, nil, fail(codeUnsupported, "%s can't delete what the customer wrote", caps.Platform)
	}
	return m, opened, nil
}

// own returns a message that the operator wrote themselves, with its account.
func (h *Hub) own(ctx context.Context, o *switchboard.Operator, messageID string) (message.Message, *channels.Opened, error) {
	m, err := h.readable(ctx, o, messageID)
	if err != nil {
		return m, nil, err
	}
	if m.Direction == message.In {
		return m, nil, fail(codeUnsupported, "what the customer wrote is not ours to edit")
	}
	if m.Sender.Kind != message.SenderOperator || m.Sender.ID != o.ID {
		return m, nil, fail(codeForbidden, "only messages that you sent yourself")
	}
	opened, err := h.deps.Accounts.Get(ctx, m.AccountID)
	if err != nil {
		return m, nil, accountError(err)
	}
	return m, opened, nil
}

// readable returns a message of a chat that the operator may read, or an
// ErrNotFound that doesn't tell whether there is one.
func (h *Hub) readable(ctx context.Context, o *switchboard.Operator, messageID string) (message.Message, error) {
	if err := checkID("message_id", messageID); err != nil {
		return message.Message{}, err
	}
	m, err := h.deps.Store.Message(ctx, messageID)
	if err == nil {
		_, err = h.visible(ctx, o, m.ChatID)
	}
	if errors.Is(err, switchboard.ErrNotFound) {
		return m, fmt.Errorf("message %s: %w", messageID, switchboard.ErrNotFound)
	}
	return m, err
}

type forwardParams struct {
	MessageID string  `json:"message_id"`
	ChatID    string  `json:"chat_id"`
	ClientID  *string `json:"client_id"`
}

// messageForward forwards a message into another chat: by the platform's own
// forward where both chats are of one account that has such, else as a copy, as
// far as the other channel can carry it.
func (h *Hub) messageForward(ctx context.Context, c *conn, p *forwardParams) (any, error) {
	if err := cmp.Or(checkID("chat_id", p.ChatID), checkClientID(p.ClientID)); err != nil {
		return nil, err
	}
	m, err := h.readable(ctx, &c.operator, p.MessageID)
	if err != nil {
		return nil, err
	}
	chat, opened, err := h.target(ctx, &c.operator, p.ChatID)
	if err != nil {
		return nil, err
	}
	if m.DeletedAt != nil {
		return nil, fail(codeConflict, "the message has been deleted")
	}
	if caps := &opened.Capabilities; !caps.Forward && !caps.ForwardCopy {
		return nil, fail(codeUnsupported, "%s can't forward messages; write what matters as a message of your own", caps.Platform)
	}
	content, err := copyFor(&opened.Capabilities, &m)
	if err != nil {
		return nil, err
	}
	if len(content.Files) > 0 {
		ids := make([]string, len(content.Files))
		for i, f := range content.Files {
			ids[i] = f.ID
		}
		if content.Files, err = h.files(ctx, &c.operator, content.Kind, ids); err != nil {
			return nil, err
		}
	}
	return h.send(ctx, c, chat, opened, content, queue.Send{ClientID: p.ClientID, ForwardOf: &m.ID})
}

// copyFor is the content of a forwarded copy: the same kind where the channel
// has it, else the nearest that says the same.
func copyFor(caps *message.Capabilities, m *message.Message) (message.Content, error) {
	can := func(k message.Kind) bool { return slices.Contains(caps.Send, k) }
	content := message.Content{Kind: m.Kind, Text: m.Text, Files: m.Files, Location: m.Location}
	switch {
	case m.Kind == message.KindContact && m.Contact != nil:
		content.Contact = &message.Contact{Name: m.Contact.Name, Phone: m.Contact.Phone}
	case m.Kind == message.KindButton && m.Button != nil:
		content.Kind, content.Text = message.KindText, cmp.Or(m.Button.Text, m.Button.Payload)
	case m.Kind == message.KindForward:
		content.Kind = message.KindText
		var lines []string
		if m.Text != "" {
			lines = append(lines, m.Text)
		}
		for _, f := range m.Forwarded {
			lines = append(lines, strings.TrimPrefix(f.From+": ", ": ")+f.Text)
		}
		content.Text = strings.Join(lines, "\n")
	case m.Kind.IsFile() && !can(m.Kind):
		content.Kind = message.KindDocument
	}
	if !can(content.Kind) || content.Kind == message.KindTemplate {
		return content, fail(codeUnsupported, "%s can't send a copy of a %s message", caps.Platform, m.Kind)
	}
	content.Forwarded = append(slices.Clone(m.Forwarded), message.Forward{From: m.Sender.Name, Text: m.Text, At: new(m.CreatedAt)})
	return content, nil
}
