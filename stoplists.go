package switchboard

import "time"

// StopEntry is an address that is not written to. Exactly one of CustomerID,
// ExternalID and Phone is set.
type StopEntry struct {
	CustomerID string    `json:"customer_id,omitempty"`
	ExternalID string    `json:"external_id,omitempty" doc:"the platform's id; on the list of an account, or in any other on every platform"`
	Phone      string    `json:"phone,omitempty"`
	Reason     string    `json:"reason"`
	Source     string    `json:"source" doc:"who put it there: operator:<id>, apikey:<id>, command line, stop word"`
	CreatedAt  time.Time `json:"created_at"`
}

// StopList is a list of addresses: global, account:<id>, or one that campaigns and
// messages name.
type StopList struct {
	Name    string `json:"name"`
	Entries int64  `json:"entries"`
}
