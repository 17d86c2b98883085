package infobip

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

func TestTimes(t *testing.T) {
	t.Parallel()
	ten := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"2026-01-01T10:00:00.000+0000":    ten,
		"2026-01-01T10:00:00+0000":        ten,
		"2026-01-01T10:00:00.000000+0000": ten,
		"2026-01-01T10:00:00.123456+0000": ten.Add(123456 * time.Microsecond),
		"2026-01-01T13:00:00.000+0300":    ten,
		"2026-01-01T04:30:00.000-0530":    ten,
		"2026-01-01T10:00:00.000Z":        ten,
		"2026-01-01T10:00:00Z":            ten,
		"2026-01-01T13:00:00.5+03:00":     ten.Add(time.Second / 2),
		"2026-01-01T10:00:00":             {},
		"1767261600000":                   {},
		"0001-01-01T00:00:00.000+0000":    {},
		"":                                {},
	} {
		if got := instant(s); !got.Equal(want) {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// Documents come with their name or with words in the same field.
func TestCaption(t *testing.T) {
	t.Parallel()
	for caption, name := range map[string]string{
		"passport.pdf": "passport.pdf", "договор № 5.docx": "договор № 5.docx", "song.mp3": "song.mp3", "a.7z": "a.7z",
		"": "", "see": "", "Here it is. Thanks": "", "come at 10.30": "", "Total: 1.250": "", "write to anna@mail.ru": "", "two\nlines.pdf": "", "https://x.example/a.pdf": "",
	} {
		got, words := captionOf(caption)
		if got != name || got == "" && words != caption || got != "" && words != "" {
			t.Errorf("%q: name %q, words %q", caption, got, words)
		}
	}
}

// Nothing of what was sent stands in an error, in whatever part of it Infobip
// quotes it.
func TestErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	c := opened(t)
	const link = "https://gateway.example/files/9f?exp=1&sig=abcdef/a.jpg"
	said := []string{link, "1 Main Street", "The Office", "Ivan Petrov", "+79160000001", "Yes, please", "payload:118", "a secret 4711", testPhone, testKey, "Anna Ivanova", "invoice of Anna.pdf"}
	out := message.Outbound{Chat: testPhone, Content: message.Content{
		Text: "a secret 4711", Location: &message.Location{Title: "The Office", Address: "1 Main Street"}, Contact: &message.Contact{Name: "Ivan Petrov", Phone: "+79160000001"},
		Keyboard: inline(message.KeyButton{Text: "Yes, please", Payload: "payload:118"}), Template: &message.Template{Parameters: []string{"Anna Ivanova"}},
		Files: []message.File{{Name: "invoice of Anna.pdf"}},
	}}
	for _, s := range said {
		if got := c.redact(fmt.Sprintf("size of %q must be less", s), private(&out, link)); strings.Contains(got, s) {
			t.Errorf("%q", got)
		}
	}
}
