package channels

import (
	"strconv"
	"strings"
	"time"
)

// MadeAt is when an account or a message of ours was made, from its id (a UUID of
// version 7 begins with the time); zero for other ids.
func MadeAt(id string) time.Time {
	digits := strings.ReplaceAll(id, "-", "")
	if len(digits) != 32 || digits[12] != '7' {
		return time.Time{}
	}
	ms, err := strconv.ParseInt(digits[:12], 16, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
