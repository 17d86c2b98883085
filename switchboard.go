package switchboard

import (
	"errors"
	"strings"
	"time"

	"switchboard/message"
)

// The errors that the outside can act on. Packages wrap them with what was
// asked for; the edges (REST, JSON-RPC) turn them into codes.
var (
	ErrNotFound    = errors.New("not found")
	ErrForbidden   = errors.New("forbidden")
	ErrConflict    = errors.New("conflict")
	ErrInvalid     = errors.New("invalid")
	ErrUnavailable = errors.New("unavailable")
)

// Reason is the text of an error for people: without a class at its end that
// says nothing beyond the text.
func Reason(err error) string {
	text := err.Error()
	for _, class := range []error{ErrForbidden, ErrConflict, ErrInvalid} {
		text = strings.TrimSuffix(text, ": "+class.Error())
	}
	return text
}

// AccountState says whether an account works.
type AccountState string

// The states of an account. Paused keeps receiving and queues sends; removed
// accounts stay in the database for their history only.
const (
	AccountActive  AccountState = "active"
	AccountPaused  AccountState = "paused"
	AccountRemoved AccountState = "removed"
)

// Account is a bot, number or page at a platform. Secrets are not part of it.
type Account struct {
	ID        string            `json:"id"`
	Platform  string            `json:"platform"`
	Name      string            `json:"name"`
	State     AccountState      `json:"state"`
	Reason    string            `json:"reason,omitempty"` // why it is paused
	Settings  map[string]string `json:"settings"`         // without secrets
	Webhook   string            `json:"webhook,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
}

// Customer is a person as one account knows them.
type Customer struct {
	ID         string `json:"id"`
	ExternalID string `json:"external_id"`
	Name       string `json:"name"`
	Username   string `json:"username,omitempty"`
	Phone      string `json:"phone"`
	Avatar     string `json:"avatar" doc:"address of the picture on this server, /files/{id}; empty when there is none or it was not fetched yet"`
	Language   string `json:"language,omitempty"`
	Country    string `json:"country,omitempty"`
	Reachable  bool   `json:"reachable"`
}

// ChatState is where a chat stands with the operators.
type ChatState string

// The states of a chat. New waits in the queue, offered waits for one
// operator's yes, open is being served, closed has ended until the customer
// writes again.
const (
	ChatNew     ChatState = "new"
	ChatOffered ChatState = "offered"
	ChatOpen    ChatState = "open"
	ChatClosed  ChatState = "closed"
)

// ChatStates lists them.
var ChatStates = []ChatState{ChatNew, ChatOffered, ChatOpen, ChatClosed}

// Chat is the conversation of one customer with one account.
type Chat struct {
	ID                    string           `json:"id"`
	AccountID             string           `json:"account_id"`
	Platform              string           `json:"platform"`
	Customer              *Customer        `json:"customer,omitempty"`
	State                 ChatState        `json:"state"`
	OperatorID            *string          `json:"operator_id"`
	Skill                 string           `json:"skill,omitempty"`
	Unread                int              `json:"unread"`
	ReadSeq               int64            `json:"read_seq"`
	LastSeq               int64            `json:"last_seq"`
	LastMessage           *message.Message `json:"last_message"`
	LastCustomerMessageAt *time.Time       `json:"last_customer_message_at"`
	QueuedAt              *time.Time       `json:"queued_at,omitempty"`
	CreatedAt             time.Time        `json:"created_at"`
}

// Redacted is the chat for those who may know that it exists and who serves
// it, but not whom it is with or what was said.
func (c Chat) Redacted() Chat {
	return Chat{
		ID: c.ID, AccountID: c.AccountID, Platform: c.Platform, State: c.State,
		OperatorID: c.OperatorID, Skill: c.Skill, CreatedAt: c.CreatedAt,
	}
}

// Role is what a person may do.
type Role string

// The roles, each including the ones before it. A supervisor sees every chat;
// an admin also administers.
const (
	RoleOperator   Role = "operator"
	RoleSupervisor Role = "supervisor"
	RoleAdmin      Role = "admin"
)

// Roles lists them from least to most.
var Roles = []Role{RoleOperator, RoleSupervisor, RoleAdmin}

// AtLeast reports whether r includes want.
func (r Role) AtLeast(want Role) bool {
	level := func(x Role) int {
		for i, known := range Roles {
			if x == known {
				return i + 1
			}
		}
		return 0
	}
	return level(r) >= level(want) && level(r) > 0
}

// Presence is what an operator says of themselves.
type Presence string

// The presences.
const (
	PresenceOnline  Presence = "online"
	PresenceAway    Presence = "away"
	PresenceOffline Presence = "offline"
)

// Operator is a person who answers customers.
type Operator struct {
	ID        string    `json:"id"`
	Login     string    `json:"login"`
	Name      string    `json:"name"`
	Role      Role      `json:"role"`
	Avatar    string    `json:"avatar,omitempty"` // public address of a picture
	Skills    []string  `json:"skills"`
	Capacity  int       `json:"capacity"` // chats at once; 0 is no limit
	Presence  Presence  `json:"presence,omitempty"`
	Disabled  bool      `json:"disabled,omitempty"`
	AllowFrom []string  `json:"allow_from,omitempty" nullable:"false" doc:"networks from which they may log in and work; none: everywhere"`
	CreatedAt time.Time `json:"created_at"`
}

// MaySee reports whether the operator may read the chat: their own, one that
// waits for an operator, or any for supervisors.
func (o Operator) MaySee(c Chat) bool {
	if o.Role.AtLeast(RoleSupervisor) {
		return true
	}
	if c.State == ChatNew || (c.State == ChatOffered && c.OperatorID == nil) {
		return true
	}
	return c.OperatorID != nil && *c.OperatorID == o.ID
}

// EventType says what an operator's client is told.
type EventType string

// The event types.
const (
	EventMessageNew       EventType = "message.new"
	EventMessageUpdated   EventType = "message.updated"
	EventChatOffered      EventType = "chat.offered"
	EventChatUpdated      EventType = "chat.updated"
	EventCustomerTyping   EventType = "customer.typing"
	EventOperatorPresence EventType = "operator.presence"
)

// Event is one entry of the operators' stream. Its message or chat is as of
// reading, not of writing: a replay after a gap shows the newest state.
type Event struct {
	ID        int64
	Type      EventType
	ChatID    string
	MessageID string
	// OperatorID is the chat's operator when the event happened, and
	// FormerOperatorID the one before, when it changed hands; "" for none.
	OperatorID       string
	FormerOperatorID string
	// Everyone says that all operators must know (the queue changed).
	Everyone bool
	Payload  []byte // JSON, for presence
	Message  *message.Message
	Chat     *Chat
	At       time.Time
}

// For reports whether the event concerns the operator.
func (e Event) For(o Operator) bool {
	return e.Everyone || o.Role.AtLeast(RoleSupervisor) || e.OperatorID == o.ID || (e.FormerOperatorID != "" && e.FormerOperatorID == o.ID)
}
