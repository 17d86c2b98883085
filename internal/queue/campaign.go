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
