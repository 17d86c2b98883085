package switchboard

import "time"

// ReportFilter picks what a report is about: what happened in [From, To). Empty
// fields don't restrict. CampaignID, Direction and Status restrict messages alone.
type ReportFilter struct {
	From, To   time.Time
	Zone       string // IANA name; days and hours are those of this time zone
	AccountID  string
	Platform   string
	CampaignID string
	OperatorID string // their messages, the chats they served, their answers
	Direction  string // in or out
	Status     string // of a message, as it is now
}

// ReportBy is what a report has a row for.
type ReportBy string

// The rows of reports.
const (
	ReportWhole    ReportBy = "" // one row
	ReportDay      ReportBy = "day"
	ReportHour     ReportBy = "hour"
	ReportAccount  ReportBy = "account"
	ReportOperator ReportBy = "operator"
)

// FigureKey is whose figures a row has.
type FigureKey struct {
	ID string    // of the account or operator
	At time.Time // when the day or hour begins
}

// Figures are a row of a report.
type Figures struct {
	FigureKey
	In  int64 // messages of customers
	Out int64 // ours; the next four are parts of it, by sender
	OutOperators, OutScripts, OutCampaigns,
	OutBots int64
	// Out by what has become of them: each is in one of these.
	Waiting, Sent, Delivered, Read, Failed, Expired, Canceled int64
	// Chats: begun by the customer, begun by an operator, accepted out of the queue,
	// handed to an operator, given back to the queue, closed. By operator, closed and
	// given back are those that they served.
	Begun, Started, Accepted, Transferred, Requeued, Closed int64
	// TransferredAway are chats that an operator handed to another; by operator only.
	TransferredAway int64
	// Answer is from the first message of a customer that nobody had answered to an
	// operator's answer; FirstAnswer is the first of a conversation, that is since
	// the chat was closed last. Handling is from when an operator took a chat (or was
	// given it) until it was closed.
	Answer, FirstAnswer, Handling Durations
}

// Durations sum up how long something took.
type Durations struct {
	N                    int64
	Average, Median, P90 time.Duration
}

// MessageCount is how many messages have the same kind and fate.
type MessageCount struct {
	Direction, SenderKind, Kind, Status string
	ErrorKind, ErrorCode                string
	N                                   int64
}

// CampaignStep is what became of a campaign's step: of the messages that were made
// in the period, and of all recipients that stand at the step, whenever.
type CampaignStep struct {
	CampaignID, Name, State string
	Step                    int // from 0
	// Messages by status and by reason ("kind code") of those that failed.
	Messages   map[string]int64
	Reasons    map[string]int64
	Recipients map[string]int64 // by public status
}

// MessageRow is a message in an export.
type MessageRow struct {
	ID, ChatID, AccountID           string
	Account, Platform               string
	CreatedAt                       time.Time
	Seq                             int64
	Direction, Kind, Status         string
	StatusAt                        time.Time
	SenderKind, SenderID            string
	SenderName                      string
	ExternalID, Customer            string // the chat's key at the platform, the customer's name
	CampaignID                      *string
	Step                            *int64
	ErrorKind, ErrorCode, ErrorText *string
	Text                            *string // only where it is asked for
}
