package queue

import (
	"fmt"
	"time"

	"switchboard"
	"switchboard/message"
)

// Priorities of outbound messages.
const (
	PriorityConversation = 0
	PriorityAPI          = 1
	PriorityCampaign     = 2
)

// Send is a message to be sent into a chat.
type Send struct {
	ChatID   string
	Content  message.Content
	ReplyTo  *string // id of a message of the same chat
	ClientID *string // made by the sender; the same again returns the first message
	Sender   message.Sender
	TTL      time.Duration // how long it may wait; 0 is 24 h
	Priority int
	// ForwardOf is the id of the message that Content is a copy of. Where the
	// platform can, it forwards that one; the copy is what our side shows.
	ForwardOf *string
	// Callback is where a script wants to be told what becomes of the message; nil
	// for nowhere.
	Callback *Callback
	// NotBefore is when the message may leave; the zero time is now. Until then it is
	// queued beside the outbox, where it holds up nothing; TTL runs from then.
	NotBefore time.Time
	// StopLists are checked besides the global one and the account's; nil checks
	// none of them. An address that is on one is a SuppressedError. Names of lists.
	StopLists []string
	// Cap refuses what would be one too many, with a CappedError; 0 is no cap. It
	// counts what scripts and campaigns sent into the chat within CapPer.
	Cap    int
	CapPer time.Duration
	// Daily is how many messages the API key of Sender may make in a day (UTC); one
	// more is a DailyLimitError. 0 is no limit.
	Daily int64
	// Allow decides under the chat's lock whether the message may be sent; nil allows.
	Allow func(switchboard.Chat) error
}

// SuppressedError says that the recipient is on a stop-list.
type SuppressedError struct{ Reason string }

func (e *SuppressedError) Error() string { return "the recipient may not be written to: " + e.Reason }

// CappedError says that the recipient got as many messages as they may.
type CappedError struct {
	Count int
	Per   time.Duration
}

func (e *CappedError) Error() string {
	return fmt.Sprintf("the recipient got %d messages within %v", e.Count, e.Per)
}

// DailyLimitError says that an API key would send more messages than it may today.
type DailyLimitError struct{ Limit, Asked int64 }

func (e *DailyLimitError) Error() string {
	if e.Asked > 1 {
		return fmt.Sprintf("this API key may send %d messages a day, and fewer than the %d that this takes are left; the next day begins at midnight UTC", e.Limit, e.Asked)
	}
	return fmt.Sprintf("this API key may send %d messages a day, and has; the next day begins at midnight UTC", e.Limit)
}

// ClaimState is what a worker is to do for a chat.
type ClaimState int

// The states of a claim.
const (
	ClaimDone ClaimState = iota // the outbox is empty; the job is over
	ClaimWait                   // come back after Wait
	ClaimWork                   // do Op, then hand in an Outcome
)

// Claim is the head of a chat's outbox, taken for sending.
type Claim struct {
	ChatID  string
	State   ClaimState
	Wait    time.Duration
	Expired bool // the former head waited too long and was given up; with ClaimWait 0
	Parked  bool // with ClaimDone: the account has no room; the pacer makes a job when it has

	// At is when to make the call, Slack by how much it may be late. Zero: at once.
	At    time.Time
	Slack time.Duration

	OutboxID    int64
	Attempt     int
	Part        int
	Limits      string // of parts after the first: the account's own limits at the first
	Op          string // send, edit or delete
	MessageID   string
	AccountID   string
	PlatformIDs []string // of an edit or deletion
	// ForwardFrom and ForwardIDs are the platform's chat and messages to forward
	// instead of sending Out, when they are of the same account.
	ForwardFrom string
	ForwardIDs  []string
	Out         message.Outbound
	// Orphan says that a former attempt was cut off in the middle, by a crash:
	// nobody knows whether it reached the platform.
	Orphan bool
}

// Handed is a chat whose outbox is to be seen to without a job.
type Handed struct {
	ChatID string
	// Claim, if there is one, is its only message, claimed already at At.
	Claim *Claim
	At    time.Time
}

// OutcomeKind is what came of a claim.
type OutcomeKind int

// The outcomes.
const (
	OutcomeSent    OutcomeKind = iota // the message's last part was accepted
	OutcomePart                       // a part was accepted, more follow
	OutcomeRetry                      // not sent; try again after After
	OutcomeUnsent                     // not tried: it was too late, or the process stops
	OutcomeFailed                     // given up: Failure says why
	OutcomeAccount                    // the account can't send: paused with Failure; the message waits
)

// Outcome is what came of a claim. It counts only while the claim is still the
// caller's: attempt number and owner must match.
type Outcome struct {
	Claim *Claim
	Kind  OutcomeKind
	IDs   []string // the platform's, of this part
	ByID  bool     // reports name these ids and no chat
	// Limits are the account's own at the first of several parts.
	Limits string
	After  time.Duration
	// WholeAccount makes After hold for every chat of the account.
	WholeAccount bool
	// Unreachable marks the customer until they write again.
	Unreachable bool
	Failure     *message.Failure
	Log         AttemptLog
}

// Unreported is a message that the platform accepted, and said nothing of since.
type Unreported struct {
	ID          string // ours
	Chat        string // the platform's key
	PlatformIDs []string
}

// AttemptLog is the timeline's entry of one attempt.
type AttemptLog struct {
	Op      string           `json:"op,omitempty"`
	Attempt int              `json:"attempt"`
	Part    int              `json:"part,omitempty"`
	Node    string           `json:"node,omitempty"`
	Started time.Time        `json:"started"`
	TookMS  int64            `json:"took_ms"`
	Outcome string           `json:"outcome"`
	IDs     []string         `json:"ids,omitempty"`
	Note    string           `json:"note,omitempty"`
	RetryMS int64            `json:"retry_ms,omitempty"`
	Failure *message.Failure `json:"failure,omitempty"`
}

// Pace gives the limits of an account.
type Pace func(accountID string) Pacing

// Pacing is how an account may send.
type Pacing struct {
	OK            bool // false when it must not send now (paused, removed, can't be opened)
	Account, Chat message.Rate
	// OnlyOnTime says that a send is claimed when its time has come, and not before:
	// the account sends at most once.
	OnlyOnTime bool
}

// Released tells what a release of parked chats did.
type Released struct {
	Chats  int           // that were parked
	Handed []Handed      // those of them that got no job
	Left   bool          // others wait
	Next   time.Duration // until there is room for them
}
