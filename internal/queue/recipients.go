package queue

import "time"

// The kinds of a recipient's address, as the database has them.
const (
	ByCustomer   = 0 // a customer's id
	ByExternalID = 1 // the platform's id
	ByPhone      = 2 // E.164 with plus
)

// Recipient is one line of an import.
type Recipient struct {
	Kind     int16
	Address  []byte
	Timezone []byte // empty: the campaign's
	Vars     []byte // a JSON object of texts; empty for none
}

// Recipients is a piece of an import.
type Recipients struct {
	List       []Recipient
	Rejected   int64 // rows that were left out, since the last piece
	Duplicates int64
	Variables  []string // names that no former piece had
	// Zones counts List by the clock that they live by, "" being the campaign's; nil
	// where it makes no difference.
	Zones map[string]int64
}

// Once makes an action of a script happen once.
type Once struct {
	Scope   string // who: a principal's name
	Key     string // their own; "" asks for nothing
	Request []byte // a hash of what was asked
	// KeyID and Daily are of an API key with a daily limit: what is begun for so many
	// recipients counts as so many messages, or is a DailyLimitError.
	KeyID string
	Daily int64
}

// Reach asks who of a campaign's recipients can be reached.
type Reach struct {
	Steps     []ReachStep
	StopLists []string      // besides the global one and the accounts'
	Cap       int           // messages of campaigns to a person in CapPer; 0 is no limit
	CapPer    time.Duration // see Cap
}

// ReachStep is a step's accounts and whom they can begin a chat with.
type ReachStep struct {
	Accounts []string
	ByPhone  bool // any phone
	ByID     bool // any id of the platform
}

// Reached is the answer.
type Reached struct {
	Recipients, Reachable int64
	First                 []int64 // by step: those whom it reaches first
	Steps                 []int64 // by step: those whom it can reach
	Problems              []ReachProblem
}

// ReachProblem is why recipients are not reached, or not by a step.
type ReachProblem struct {
	Reason string
	Count  int64
}
