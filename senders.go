package switchboard

import (
	"strings"
	"time"
)

// SenderRule says which sender's name is shown instead of the one that was asked
// for. Empty fields fit everything.
type SenderRule struct {
	ID           string    `json:"id"`
	Position     int       `json:"position" doc:"of the rules that fit, the one with the lowest holds"`
	AccountID    *string   `json:"account_id"`
	Platform     string    `json:"platform"`
	TrafficClass string    `json:"traffic_class"`
	Pattern      string    `json:"pattern" doc:"of the name that was asked for, in any case; * stands for any text"`
	Sender       string    `json:"sender"`
	CreatedAt    time.Time `json:"created_at"`
}

// SenderRules are rules in their order.
type SenderRules []SenderRule

// Apply returns the sender's name for a message: that of the first rule that fits,
// else the one that was asked for.
func (rules SenderRules) Apply(accountID, platform, trafficClass, asked string) string {
	for _, r := range rules {
		if (r.AccountID == nil || *r.AccountID == accountID) && (r.Platform == "" || r.Platform == platform) &&
			(r.TrafficClass == "" || r.TrafficClass == trafficClass) && fits(strings.ToLower(r.Pattern), strings.ToLower(asked)) {
			return r.Sender
		}
	}
	return asked
}

// fits matches a pattern in which * stands for any text.
func fits(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}
