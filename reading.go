package switchboard

import (
	"encoding/json"
	"time"
)

// ChatQuery asks for the chats in which the customer wrote in [From, To). Zero
// fields don't restrict.
type ChatQuery struct {
	From, To   time.Time
	Platform   string
	AccountID  string
	OperatorID string
	State      ChatState
	// VisibleTo restricts to what this operator may see.
	VisibleTo string
	// Before is the key of the last chat of the former page.
	Before   time.Time
	BeforeID string
	Limit    int
}

// ChatHit is a chat with the time of the customer's last message in the period.
type ChatHit struct {
	Chat Chat
	At   time.Time
	ID   string // of that message: with At the page key
}

// TimelineEntry is one thing that happened to a message.
type TimelineEntry struct {
	At     time.Time       `json:"at"`
	What   string          `json:"what" doc:"received, stored, queued, attempt, sent, delivered, read, failed, expired, canceled, edited, deleted, file, shown"`
	Detail json.RawMessage `json:"detail,omitempty" doc:"what is known of it: attempt number, platform ids, reason, ..."`
}

// Shown says that a chat's messages from seq From to To, those of the customer,
// were shown to an operator.
type Shown struct {
	ChatID     string
	OperatorID string
	From, To   int64
}

// PhoneEntry links a phone number to a customer.
type PhoneEntry struct {
	Phone      string    `json:"phone"`
	Platform   string    `json:"platform"`
	AccountID  string    `json:"account_id"`
	Source     string    `json:"source" doc:"contact: shared by the customer; address: the channel's address is the phone"`
	UpdatedAt  time.Time `json:"updated_at"`
	CustomerID string    `json:"customer_id"`
	ExternalID string    `json:"external_id"`
	Name       string    `json:"name"`
	ChatID     string    `json:"chat_id"`
}

// Quarantined is an update that was set aside.
type Quarantined struct {
	ID         string    `json:"id"`
	AccountID  string    `json:"account_id"`
	Error      string    `json:"error"`
	Raw        string    `json:"raw" doc:"the platform's update as it came"`
	ReceivedAt time.Time `json:"received_at"`
	CreatedAt  time.Time `json:"created_at" doc:"when it was set aside"`
}

// QuarantineFilter picks quarantined updates; empty fields pick all.
type QuarantineFilter struct {
	ID        string
	AccountID string
	Error     string // a part of the error's text, in any case
	Before    string // id: those that were set aside before this one
}

// FailedFilter picks our messages that failed or expired; empty fields pick all.
type FailedFilter struct {
	AccountID, ChatID    string
	From, To             *time.Time // of their creation, To exclusive
	ErrorKind, ErrorCode string     // as in the message's error
	After                string     // id: those made after this one
}

// AuditEntry is a line of the audit journal.
type AuditEntry struct {
	ID     int64           `json:"id"`
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor"`
	Action string          `json:"action"`
	Target string          `json:"target"`
	Detail json.RawMessage `json:"detail"`
}

// OperatorChange is what SetOperator changes; nil fields stay.
type OperatorChange struct {
	Name, Avatar, PasswordHash *string
	Role                       *Role
	Skills                     *[]string
	Capacity                   *int
	Disabled                   *bool
}

// APIKey is a script's key; the key itself is kept as a hash only.
type APIKey struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	CreatedAt time.Time  `json:"created_at"`
	UsedAt    *time.Time `json:"used_at"`
	RevokedAt *time.Time `json:"revoked_at"`
}

// Recipient is whom a script writes to: exactly one field is set.
type Recipient struct {
	ChatID     string `json:"chat_id,omitempty" format:"uuid"`
	CustomerID string `json:"customer_id,omitempty" format:"uuid"`
	ExternalID string `json:"external_id,omitempty" doc:"the platform's id of the chat or customer" maxLength:"200"`
	Phone      string `json:"phone,omitempty" pattern:"^\\+[0-9]{5,15}$" doc:"E.164, found in the phone book; where the channel's addresses are phones (start_by_phone), any"`
}

// CallbackDelivery is a status of a message on its way to a script's address.
type CallbackDelivery struct {
	ID         string     `json:"id" doc:"the webhook-id"`
	MessageID  string     `json:"message_id"`
	APIKeyID   *string    `json:"api_key_id" doc:"whose secret signs; null: the installation's own"`
	URL        string     `json:"url"`
	Status     string     `json:"status" doc:"that is told"`
	State      string     `json:"state" enum:"pending,delivered,failed"`
	Attempts   int        `json:"attempts"`
	Code       int        `json:"code" doc:"HTTP status of the last answer; 0: none"`
	Error      string     `json:"error"`
	CreatedAt  time.Time  `json:"created_at"`
	DueAt      *time.Time `json:"due_at" doc:"the next attempt; null when it waits for an earlier status of the message"`
	FinishedAt *time.Time `json:"finished_at"`
}

// CallbackFilter picks deliveries; empty fields pick all.
type CallbackFilter struct {
	ID, MessageID, APIKeyID, URL, State string
	Before                              string // id: only older ones
}
