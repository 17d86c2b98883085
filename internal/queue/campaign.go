package queue

import (
	"time"

	"switchboard/message"
)

// CampaignSend is what is known of a message that is a step of a campaign.
type CampaignSend struct {
	MessageID string
	N         int64 // the recipient
	Round     int   // raised by every retry of what failed
	Step      int
	AccountID string
	At        time.Time // when it was queued: its wait begins
	Status    message.Status
	Reason    string // of a failure
	// Taken says that the platform took the message, whatever came of it later.
	Taken bool
	// A message that was canceled may have been so because the step can't reach the
	// recipient (Passed: the next one may), or because nothing must be sent to them
	// (Barred).
	Passed, Barred bool
}

// CampaignVerdict says where a recipient stands, and what happens next.
type CampaignVerdict struct {
	// Status is what the outside is told: queued, or the best that is known of the
	// messages, or how the last one failed.
	Status message.Status
	// Reason is why, in words, when it failed.
	Reason string
	// Step is the one that Status is of, and Sent its message in what was given; -1
	// when there is none.
	Step, Sent int
	// Won says that a step has had its success.
	Won bool
	// Next says that the step NextStep is to be begun now.
	Next     bool
	NextStep int
	// Done says that nothing more will be sent. The status may still rise.
	Done bool
	// Due is when the wait of the step under way ends; zero when nothing ends by time.
	Due time.Time
	// Stop lists messages, by their place in what was given, that must not leave.
	Stop []int
}

// CampaignLive is a campaign with which something is to be done.
type CampaignLive struct {
	ID         string
	State      string // scheduled, running, paused, canceled
	StartAt    *time.Time
	StopAt     *time.Time
	Accepted   int64      // recipients
	Taken      int64      // up to this number they were looked at
	Due        *time.Time // when the next of them is due
	Held       bool       // messages of it wait beside the outbox
	PacedUntil time.Time
	Done       int64  // recipients
	HeldUp     string // why it could not be moved on, as it was last noted
	Now        time.Time
}

// CampaignLoad is how many messages of a campaign wait in the outbox.
type CampaignLoad struct {
	CampaignID, AccountID string
	Messages              int
}

// CampaignRecipient is one whose turn it is.
type CampaignRecipient struct {
	N         int64
	Kind      int // 0 customer, 1 external id, 2 phone
	Address   string
	Timezone  string
	Vars      []byte // JSON, an object of texts
	Step      int
	Round     int
	Status    message.Status
	MessageID *string // of the step under way; nil: the step is to be begun
	Pending   bool    // never looked at
}

// CampaignAccount is an account over which a step may go.
type CampaignAccount struct {
	ID       string
	Platform string
	Sender   string // name that the customer sees
	TTL      time.Duration
	Rated    bool // it has a limit
	// Prompt says that nothing orders the account's sends in time, and that one which
	// was cut off may be made again: a message for a chat that has no other can be
	// claimed as it is made.
	Prompt  bool
	ByID    bool // whom it does not know can be written to by the platform's id,
	ByPhone bool // or by phone
	// Check says whether an address can be one of the platform's.
	Check func(address string) bool
	// Room is how many more messages the campaign may have in the account's outbox.
	Room int
	// Gap is the time of one message at the account's limit. Who finds no room comes
	// back in the order and at the pace of the sends: Back is when the last one of
	// them does. The pump moves it on.
	Gap  time.Duration
	Back time.Time
}

// CampaignStep is a step as the pump has to know it.
type CampaignStep struct {
	Accounts []*CampaignAccount // best first; the same account is the same pointer in all steps
	Wait     time.Duration      // 0: the message's time to live
	Timed    bool               // something happens when the wait is over
	Last     bool
}

// CampaignPump is how a campaign is moved on.
type CampaignPump struct {
	ID       string
	Node     string // claims what can be sent at once; "": nobody does
	Limit    int    // recipients
	Steps    []CampaignStep
	Rate     float64       // recipients per second; 0 is no limit
	Cap      int           // messages of campaigns to a person in CapPer; 0 is no limit
	CapPer   time.Duration // see Cap
	Lists    []string      // stop-lists, besides the global one and the accounts'
	TTL      time.Duration // 0: the account's
	StopAt   *time.Time
	Priority int
	Sender   string // 0: the account's
	// CallbackURL is told the statuses, signed with the secret of CallbackKey.
	CallbackURL, CallbackKey string
	// Hours tells until when the recipient may be written to (zero: for ever), and
	// from when again; or wait, when they must not be written to before that time.
	Hours func(r *CampaignRecipient, now time.Time) (until, again, wait time.Time)
	// Content is what the recipient gets at a step.
	Content func(step int, r *CampaignRecipient) (message.Content, error)
	// Cascade decides what happens next, and Standing what is to be told.
	Cascade  func(round int, sends []CampaignSend, now time.Time) CampaignVerdict
	Standing func(round int, sends []CampaignSend) CampaignVerdict
}

// CampaignPumped is what a call of the pump did.
type CampaignPumped struct {
	Busy     bool     // another process is at it, or the campaign does not run
	Looked   int      // recipients that were looked at
	More     bool     // others could be begun at once
	Begun    int      // messages that were queued
	Handed   []Handed // chats that have work and no job
	Accounts []string // of which chats were parked
	Held     int      // messages that came back to the outbox
}

// CampaignFollowed is what a call of the campaigns' follower did.
type CampaignFollowed struct {
	Events, Changed int
	Next            bool // a step is to be begun
	More, Blocked   bool
}

// InactiveAddress is one that a platform kept refusing.
type InactiveAddress struct {
	AccountID         string     `json:"account_id"`
	Address           string     `json:"address" doc:"the platform's id of the chat or customer"`
	CustomerID        string     `json:"customer_id,omitempty"`
	PermanentFailures int        `json:"permanent_failures"`
	LastFailure       string     `json:"last_failure"`
	LastFailureAt     *time.Time `json:"last_failure_at"`
	InactiveSince     *time.Time `json:"inactive_since"`
	Reason            string     `json:"reason" doc:"permanent_failures, or unreachable: the customer blocked or left the account"`
}

// Suppression is an entry of a stop-list.
type Suppression struct {
	List      string    `json:"list"`
	Kind      string    `json:"kind" enum:"customer,external,phone"`
	Address   string    `json:"address"`
	Reason    string    `json:"reason"`
	Source    string    `json:"source"`
	CreatedAt time.Time `json:"created_at"`
}

// StopList is a list of addresses to which campaigns send nothing.
type StopList struct {
	List    string `json:"list" doc:"global holds for all, account:<id> for one account, others for campaigns that name them"`
	Entries int64  `json:"entries"`
}
