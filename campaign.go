package switchboard

import (
	"encoding/json"
	"time"

	"switchboard/message"
)

// CampaignState is where a campaign stands.
type CampaignState string

// The states of a campaign. A scheduled one begins by itself at its time; done and
// canceled are ends, but for what is retried of a done one.
const (
	CampaignDraft     CampaignState = "draft"
	CampaignScheduled CampaignState = "scheduled"
	CampaignRunning   CampaignState = "running"
	CampaignPaused    CampaignState = "paused"
	CampaignDone      CampaignState = "done"
	CampaignCanceled  CampaignState = "canceled"
)

// CampaignStates lists them.
var CampaignStates = []CampaignState{CampaignDraft, CampaignScheduled, CampaignRunning, CampaignPaused, CampaignDone, CampaignCanceled}

// RecipientStatuses are what becomes of a recipient, in the order of the public
// contract.
var RecipientStatuses = []string{"queued", "sent", "delivered", "read", "failed", "expired", "canceled", "skipped"}

// CampaignCounts is how many recipients have a status.
type CampaignCounts struct {
	Total     int64 `json:"total"`
	Queued    int64 `json:"queued"`
	Sent      int64 `json:"sent"`
	Delivered int64 `json:"delivered"`
	Read      int64 `json:"read"`
	Failed    int64 `json:"failed"`
	Expired   int64 `json:"expired"`
	Canceled  int64 `json:"canceled"`
	Skipped   int64 `json:"skipped"`
}

// Of is the count of a status.
func (c *CampaignCounts) Of(status string) *int64 {
	switch status {
	case "queued":
		return &c.Queued
	case "sent":
		return &c.Sent
	case "delivered":
		return &c.Delivered
	case "read":
		return &c.Read
	case "failed":
		return &c.Failed
	case "expired":
		return &c.Expired
	case "canceled":
		return &c.Canceled
	case "skipped":
		return &c.Skipped
	default:
		return new(int64)
	}
}

// Campaign is a campaign as the database has it.
type Campaign struct {
	ID         string
	Name       string
	State      CampaignState
	Reason     string // why it is paused or has ended
	Definition json.RawMessage
	Files      map[string]message.File // those that the definition names
	CreatedBy  string
	CreatedAt  time.Time
	UpdatedAt  time.Time
	StartAt    *time.Time
	StopAt     *time.Time
	StartedAt  *time.Time
	FinishedAt *time.Time
	Rejected   int64
	Duplicates int64
	Variables  []string // names of those that recipients have
	Counts     CampaignCounts
	// Steps has the counts of recipients by the step that they are at.
	Steps []CampaignCounts
	// Recent is how many recipients left the queue in the last RecentTime.
	Recent     int64
	RecentTime time.Duration
	// Zones counts the recipients by the clock that they live by, "" being the
	// campaign's; empty where that makes no difference.
	Zones map[string]int64
	Run   *CampaignRun // nil unless it is running
}

// CampaignRun is what holds a running campaign up.
type CampaignRun struct {
	Fresh   int64                // recipients that were never looked at
	Quiet   []CampaignQuiet      // recipients who wait for an hour
	Outbox  map[string]int64     // messages that wait to leave, by account
	Busy    map[string]time.Time // until when an account's limit is used up, where that is long
	HeldUp  string               // why the runner could not move it on
	Workers bool                 // a process runs that could
}

// CampaignQuiet is how many recipients are not written to before a time.
type CampaignQuiet struct {
	Until      time.Time
	Recipients int64
}

// CampaignFilter picks campaigns; empty fields pick all.
type CampaignFilter struct {
	State  CampaignState
	Name   string // a part of it, whatever its case
	Before string // id: only older ones
}

// CampaignRecipient is what became of one recipient.
type CampaignRecipient struct {
	N          int64             `json:"n" doc:"number in the campaign, in the order of the import"`
	Phone      string            `json:"phone,omitempty"`
	CustomerID string            `json:"customer_id,omitempty"`
	ExternalID string            `json:"external_id,omitempty"`
	Timezone   string            `json:"timezone,omitempty"`
	Variables  map[string]string `json:"variables,omitempty"`
	Status     string            `json:"status" enum:"queued,sent,delivered,read,failed,expired,canceled,skipped"`
	Reason     string            `json:"reason,omitempty" doc:"why it failed or was skipped"`
	Step       int               `json:"step" doc:"of the cascade, from 0"`
	MessageID  *string           `json:"message_id" doc:"the newest step's message"`
	UpdatedAt  *time.Time        `json:"updated_at"`
}

// RecipientFilter picks recipients of a campaign; an empty status picks all.
type RecipientFilter struct {
	Status string
	After  int64 // number: only those behind it
}
