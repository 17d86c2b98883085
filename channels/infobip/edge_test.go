package infobip

import (
	"testing"

	"switchboard/message"
)

// What each status of a report does to a message; a group that nobody knows says
// nothing of it, and is put aside for a person.
func TestStatuses(t *testing.T) {
	t.Parallel()
	c := opened(t)
	for _, row := range []struct {
		status string
		want   message.Status // "" is ignored, "?" put aside
	}{
		{`{"groupId":1,"id":3}`, message.StatusSent},
		{`{"groupId":1,"id":7}`, message.StatusSent},
		{`{"groupId":1,"id":26}`, message.StatusSent},
		{`{"groupId":"1","id":"26"}`, message.StatusSent},
		{`{"groupId":0,"id":0}`, message.StatusSent},
		{`{"groupId":3,"id":2}`, message.StatusSent},
		{`{"groupId":3,"id":5}`, message.StatusDelivered},
		{`{"groupId":3,"id":4242}`, message.StatusDelivered},
		{`{"groupId":2,"id":4}`, message.StatusFailed},
		{`{"groupId":2,"id":9}`, message.StatusFailed},
		{`{"groupId":2,"id":31}`, message.StatusFailed},
		{`{"groupId":4,"id":15}`, message.StatusExpired},
		{`{"groupId":4,"id":29}`, message.StatusExpired},
		{`{"groupId":5,"id":6}`, message.StatusFailed},
		{`{"groupId":5,"id":20}`, message.StatusFailed},
		{`{"groupId":5,"id":21}`, message.StatusFailed},
		{`{"groupId":5,"id":23}`, ""},
		{`{"groupId":4,"id":87}`, message.StatusFailed},
		{`{"groupId":5,"id":87}`, message.StatusFailed},
		{`{"groupId":2,"id":100}`, message.StatusFailed},
		{`{"groupId":9,"id":900}`, "?"},
		{`{"id":5}`, "?"},
		{`{}`, "?"},
	} {
		got, err := c.Decode([]byte(`{"messageId":"m1","to":"79261234567","status":` + row.status + `}`))
		switch {
		case row.want == "?":
			if err == nil {
				t.Errorf("%s: %+v, want an error", row.status, got)
			}
		case err != nil:
			t.Errorf("%s: %v", row.status, err)
		case row.want == "":
			if got[0].Kind != message.UpdateIgnore {
				t.Errorf("%s: %+v, want to ignore it", row.status, got)
			}
		case got[0].Status != row.want || (got[0].Failure != nil) != (row.want == message.StatusFailed || row.want == message.StatusExpired):
			t.Errorf("%s: %+v, want %s", row.status, got, row.want)
		}
	}
}
