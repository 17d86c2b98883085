package switchboard

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
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
	// Address is where the actor was; "" for the command line and the system.
	Address string          `json:"address" doc:"IP address of the actor; empty for the command line and the system"`
	Before  json.RawMessage `json:"before" doc:"what was, without secrets; null when there was nothing, or nothing is known"`
	After   json.RawMessage `json:"after"`
}

// AuditFilter picks entries of the audit journal; empty fields pick all.
type AuditFilter struct {
	Actor, Target string
	Action        string // "account.set", or what begins with "account." for "account.*"
	From, To      *time.Time
	Before        int64 // id: only older ones
}

// Change is an audit entry's detail when something was changed: what was, what is,
// and what else is to be said. Secrets are not part of it.
type Change struct{ Before, After, Detail any }

// OperatorChange is what SetOperator changes; nil fields stay.
type OperatorChange struct {
	Name, Avatar, PasswordHash *string
	Role                       *Role
	Skills                     *[]string
	Capacity                   *int
	Disabled                   *bool
	AllowFrom                  *[]string // networks, see Networks
}

// APIKey is a script's key; the key itself is kept as a hash only.
type APIKey struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	CreatedAt time.Time  `json:"created_at"`
	UsedAt    *time.Time `json:"used_at"`
	RevokedAt *time.Time `json:"revoked_at"`
	KeyLimits
}

// KeyLimits is what an API key may.
type KeyLimits struct {
	Rate      float64    `json:"rate" minimum:"0" maximum:"100000" doc:"requests per second, over all processes; 0: no limit"`
	Burst     int        `json:"burst" minimum:"0" maximum:"100000" doc:"requests at once, when there is a rate; 0: a second's"`
	Daily     int64      `json:"daily" minimum:"0" doc:"messages per day (UTC), over all processes; 0: no limit"`
	AllowFrom []string   `json:"allow_from" nullable:"false" maxItems:"100" doc:"networks from which it may be used, like 192.0.2.0/24; none: everywhere"`
	ExpiresAt *time.Time `json:"expires_at"`
}

// KeyChange is what SetAPIKey changes; nil fields stay. The zero time takes the
// expiry away.
type KeyChange struct {
	Name      *string
	Rate      *float64
	Burst     *int
	Daily     *int64
	AllowFrom *[]string
	ExpiresAt *time.Time
}

// Networks reads a list of addresses and networks, and returns it in one form. The
// error is ErrInvalid and says what would be right.
func Networks(list []string) ([]string, error) {
	out := make([]string, 0, len(list))
	for _, s := range list {
		s = strings.TrimSpace(s)
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			a = a.Unmap().WithZone("")
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || (p.Addr().Is4In6() && p.Bits() < 96) {
			return nil, fmt.Errorf("allow_from %q: use addresses or networks, like 192.0.2.7 or 2001:db8::/32: %w", s, ErrInvalid)
		}
		if p.Addr().Is4In6() {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked().String())
	}
	slices.Sort(out)
	return slices.Compact(out), nil
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
