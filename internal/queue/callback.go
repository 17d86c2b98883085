package queue

import "time"

// Callback is where a script wants to be told a message's statuses.
type Callback struct {
	KeyID string // the API key whose secret signs; "" is the installation's own
	URL   string
}

// CallbackClaim is a status on its way to a script, taken for one attempt.
type CallbackClaim struct {
	ID        string // the webhook-id, the same at every attempt
	MessageID string
	KeyID     string
	Host      string // host:port
	URL       string
	Payload   []byte
	Attempt   int // from 1
	CreatedAt time.Time
	Secrets   [][]byte // that sign: the newest, and for a day each former one; none: there is no secret
}

// CallbackOutcome is what came of a claim. It counts only while the claim is
// still the newest.
type CallbackOutcome struct {
	Claim  *CallbackClaim
	Code   int           // HTTP status; 0 when there was no answer
	Error  string        // why it was not accepted; "" when it was
	After  time.Duration // until the next attempt; 0 with an Error: given up
	Gone   bool          // the address wants nothing more
	Undone bool          // there was no attempt: it counts for nothing
}
