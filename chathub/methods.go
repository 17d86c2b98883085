package chathub

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"switchboard"
)

// allMethods is the protocol; docs/asyncapi.yaml describes the same.
func (h *Hub) allMethods() map[string]method {
	return map[string]method{
		methodHello:       typed(h.hello),
		"presence.set":    typed(h.presenceSet),
		"chat.list":       typed(h.chatList),
		"chat.accept":     typed(h.changing(h.deps.Store.AcceptChat)),
		"chat.decline":    typed(h.changing(h.deps.Store.DeclineChat)),
		"chat.skip":       typed(h.changing(h.deps.Store.SkipChat)),
		"chat.close":      typed(h.changing(h.deps.Store.CloseChat)),
		"chat.transfer":   typed(h.chatTransfer),
		"chat.start":      typed(h.chatStart),
		"chat.read":       typed(h.chatRead),
		"chat.typing":     typed(h.chatTyping),
		"message.send":    typed(h.messageSend),
		"message.edit":    typed(h.messageEdit),
		"message.delete":  typed(h.messageDelete),
		"message.forward": typed(h.messageForward),
	}
}

type chatParams struct {
	ChatID string `json:"chat_id"`
}

type chatResult struct {
	Chat switchboard.Chat `json:"chat"`
}

// checkID wants the form of our ids: everything else would only make the
// database stumble.
func checkID(field, id string) error {
	if id == "" {
		return fail(codeParams, "%s is missing", field)
	}
	if _, err := uuid.Parse(id); err != nil || len(id) != 36 || strings.ToLower(id) != id {
		return fail(codeParams, "%s is not an id", field)
	}
	return nil
}

// checkText wants a string of min to limit characters without control
// characters, as names and keys are.
func checkText(field, s string, limit int) error {
	switch {
	case s == "":
		return fail(codeParams, "%s is missing", field)
	case utf8.RuneCountInString(s) > limit:
		return fail(codeParams, "%s has more than %d characters", field, limit)
	case strings.ContainsFunc(s, unicode.IsControl):
		return fail(codeParams, "%s has control characters", field)
	}
	return nil
}

// visibly is the chat as the operator may see it.
func visibly(o *switchboard.Operator, c switchboard.Chat) chatResult {
	if !o.MaySee(c) {
		c = c.Redacted()
	}
	return chatResult{c}
}

// changing makes a method of a change that needs nothing but the chat.
func (h *Hub) changing(do func(context.Context, switchboard.Operator, string) (switchboard.Chat, error)) func(context.Context, *conn, *chatParams) (any, error) {
	return func(ctx context.Context, c *conn, p *chatParams) (any, error) {
		if err := checkID("chat_id", p.ChatID); err != nil {
			return nil, err
		}
		chat, err := do(ctx, c.operator, p.ChatID)
		if err != nil {
			return nil, err
		}
		h.deps.Bus.Wake(topicEvents)
		if chat.OperatorID != nil && *chat.OperatorID == c.operator.ID {
			h.shown.message(chat.LastMessage, c.operator.ID)
		}
		return visibly(&c.operator, chat), nil
	}
}

type presenceParams struct {
	Status switchboard.Presence `json:"status"`
}

func (h *Hub) presenceSet(ctx context.Context, c *conn, p *presenceParams) (any, error) {
	switch p.Status {
	case switchboard.PresenceOnline, switchboard.PresenceAway, switchboard.PresenceOffline:
	default:
		return nil, fail(codeParams, "status must be online, away or offline")
	}
	if err := h.deps.Store.SetPresence(ctx, c.operator.ID, p.Status); err != nil {
		return nil, err
	}
	h.deps.Bus.Wake(topicEvents)
	return struct{}{}, nil
}

type listParams struct {
	State  switchboard.ChatState `json:"state"`
	Limit  *int                  `json:"limit"`
	Cursor string                `json:"cursor"`
}

type listResult struct {
	Items      []switchboard.Chat `json:"items"`
	NextCursor *string            `json:"next_cursor"`
}

func (h *Hub) chatList(ctx context.Context, c *conn, p *listParams) (any, error) {
	limit := 50
	if p.Limit != nil {
		limit = *p.Limit
	}
	if limit < 1 || limit > 200 {
		return nil, fail(codeParams, "limit must be 1 to 200")
	}
	switch p.State {
	case "", switchboard.ChatNew, switchboard.ChatOffered, switchboard.ChatOpen, switchboard.ChatClosed:
	default:
		return nil, fail(codeParams, "state must be new, offered, open or closed, or left out")
	}
	visibleTo := c.operator.ID
	if c.operator.Role.AtLeast(switchboard.RoleSupervisor) {
		visibleTo = ""
	}
	items, next, err := h.deps.Store.ListChats(ctx, visibleTo, p.State, limit, p.Cursor)
	if err != nil {
		return nil, err
	}
	res := listResult{Items: items}
	if items == nil {
		res.Items = []switchboard.Chat{}
	}
	if next != "" {
		res.NextCursor = &next
	}
	return res, nil
}

type transferParams struct {
	ChatID     string `json:"chat_id"`
	OperatorID string `json:"operator_id"`
	Skill      string `json:"skill"`
}

func (h *Hub) chatTransfer(ctx context.Context, c *conn, p *transferParams) (any, error) {
	if err := checkID("chat_id", p.ChatID); err != nil {
		return nil, err
	}
	switch {
	case (p.OperatorID == "") == (p.Skill == ""):
		return nil, fail(codeParams, "exactly one of operator_id and skill is needed")
	case p.OperatorID != "":
		if err := checkID("operator_id", p.OperatorID); err != nil {
			return nil, err
		}
	default:
		if err := checkText("skill", p.Skill, 64); err != nil {
			return nil, err
		}
	}
	chat, err := h.deps.Store.TransferChat(ctx, c.operator, p.ChatID, p.OperatorID, p.Skill)
	if err != nil {
		return nil, err
	}
	h.deps.Bus.Wake(topicEvents)
	return visibly(&c.operator, chat), nil
}

type startParams struct {
	AccountID  string `json:"account_id"`
	ExternalID string `json:"external_id"`
	Phone      string `json:"phone"`
}

// phones are "+" and digits, E.164, once people's punctuation is taken out.
var (
	phonePunctuation = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "", "\u00a0", "")
	phoneForm        = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
)

func (h *Hub) chatStart(ctx context.Context, c *conn, p *startParams) (any, error) {
	if err := checkID("account_id", p.AccountID); err != nil {
		return nil, err
	}
	if (p.ExternalID == "") == (p.Phone == "") {
		return nil, fail(codeParams, "exactly one of external_id and phone is needed")
	}
	opened, err := h.deps.Accounts.Get(ctx, p.AccountID)
	if errors.Is(err, errNoAccount) {
		return nil, fail(codeNotFound, "account_id: no such account")
	}
	if err != nil {
		return nil, accountError(err)
	}
	caps := &opened.Capabilities
	externalID, create, address := p.ExternalID, caps.StartByID, ""
	if p.Phone != "" {
		phone := phonePunctuation.Replace(p.Phone)
		if !phoneForm.MatchString(phone) {
			return nil, fail(codeParams, `phone must be "+" with the country's code and the number, 7 to 15 digits`)
		}
		externalID, err = h.deps.Store.CustomerByPhone(ctx, p.AccountID, phone)
		switch {
		case errors.Is(err, switchboard.ErrNotFound) && caps.StartByPhone:
			// The platform's own ids are phone numbers.
			externalID, create, address = strings.TrimPrefix(phone, "+"), true, phone
		case err != nil:
			return nil, err
		}
	} else if err := checkText("external_id", p.ExternalID, 256); err != nil {
		return nil, err
	}
	if err := opened.CheckChat(externalID); err != nil {
		return nil, err
	}
	chat, err := h.deps.Store.StartChat(ctx, c.operator, p.AccountID, externalID, create)
	if errors.Is(err, switchboard.ErrNotFound) && !create {
		return nil, fail(codeUnsupported, "%s customers must write first; there is no chat with this one yet", caps.Platform)
	}
	if err != nil {
		return nil, err
	}
	if address != "" {
		if err := h.deps.Store.NotePhone(ctx, chat.ID, address); err != nil {
			return nil, err
		}
		chat.Customer.Phone = address
	}
	h.deps.Bus.Wake(topicEvents)
	return visibly(&c.operator, chat), nil
}

type readParams struct {
	ChatID string `json:"chat_id"`
	Seq    int64  `json:"seq"`
}

func (h *Hub) chatRead(ctx context.Context, c *conn, p *readParams) (any, error) {
	if err := checkID("chat_id", p.ChatID); err != nil {
		return nil, err
	}
	if p.Seq < 1 {
		return nil, fail(codeParams, "seq must be that of a message, 1 or more")
	}
	chat, before, err := h.deps.Store.ReadChat(ctx, c.operator, p.ChatID, p.Seq)
	if err != nil {
		return nil, err
	}
	if chat.ReadSeq > before {
		h.shown.note(p.ChatID, c.operator.ID, before+1, chat.ReadSeq)
	}
	h.deps.Bus.Wake(topicEvents)
	return struct{}{}, nil
}

func (h *Hub) chatTyping(ctx context.Context, c *conn, p *chatParams) (any, error) {
	if err := checkID("chat_id", p.ChatID); err != nil {
		return nil, err
	}
	chat, err := h.visible(ctx, &c.operator, p.ChatID)
	if err != nil {
		return nil, err
	}
	if err := mayWrite(&c.operator)(chat); err != nil {
		return nil, err
	}
	h.typing.show(p.ChatID)
	return struct{}{}, nil
}

// visible returns what decides about the operator's rights in a chat (see
// ChatHolders), or ErrNotFound when there is no such chat for them.
func (h *Hub) visible(ctx context.Context, o *switchboard.Operator, chatID string) (switchboard.Chat, error) {
	found, err := h.deps.Store.ChatHolders(ctx, []string{chatID})
	if err != nil {
		return switchboard.Chat{}, err
	}
	chat, ok := found[chatID]
	if !ok || !o.MaySee(chat) {
		return chat, fmt.Errorf("chat %s: %w", chatID, switchboard.ErrNotFound)
	}
	return chat, nil
}

// mayWrite decides who writes into a chat: the one who serves it, and
// supervisors into any that is being served.
func mayWrite(o *switchboard.Operator) func(switchboard.Chat) error {
	return func(c switchboard.Chat) error {
		mine := c.OperatorID != nil && *c.OperatorID == o.ID
		switch {
		case !o.MaySee(c):
			return fmt.Errorf("chat %s: %w", c.ID, switchboard.ErrNotFound)
		case c.State == switchboard.ChatClosed:
			return fmt.Errorf("the chat is closed; start it again first: %w", switchboard.ErrConflict)
		case c.State != switchboard.ChatOpen:
			return fmt.Errorf("the chat waits for an operator; accept it first: %w", switchboard.ErrConflict)
		case !mine && !o.Role.AtLeast(switchboard.RoleSupervisor):
			return fmt.Errorf("the chat is not yours: %w", switchboard.ErrForbidden)
		}
		return nil
	}
}
