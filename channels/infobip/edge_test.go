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

// The customer's address is what Infobip calls them by; a card's phone stands in
// where that is no phone. Reports go by the chat that the message was sent to.
func TestWhoseChat(t *testing.T) {
	t.Parallel()
	c := opened(t)
	const text = `"messageId":"m1","message":{"type":"TEXT","text":"x"}`
	const done = `"messageId":"m1","status":{"groupId":3,"id":5}`
	for raw, want := range map[string]string{
		`{"from":"79261234567",` + text + `}`:                                                              "79261234567",
		`{"from":"+79261234567",` + text + `}`:                                                             "79261234567",
		`{"from":"79261234567","contact":{"phoneNumber":"9261234567","userId":"RU.1"},` + text + `}`:       "79261234567",
		`{"from":"RU.1","contact":{"phoneNumber":"79261234567","userId":"RU.1"},` + text + `}`:             "79261234567",
		`{"from":"RU.1","contact":{"userId":"RU.1"},` + text + `}`:                                         "RU.1",
		`{"contact":{"userId":"RU.1"},` + text + `}`:                                                       "RU.1",
		`{"to":"79261234567",` + done + `}`:                                                                "79261234567",
		`{"to":"79261234567","callbackData":"a=17;c=4401",` + done + `}`:                                   "79261234567",
		`{"to":"79261234567","callbackData":"RU.1",` + done + `}`:                                          "RU.1",
		`{"to":"RU.1","callbackData":"79261234567",` + done + `}`:                                          "79261234567",
		`{"from":"RU.1","to":"79001112233","callbackData":"79261234567","messageId":"m1","seenAt":"2026"}`: "79261234567",
		`{"from":"RU.1","to":"79001112233","messageId":"m1","seenAt":"2026"}`:                              "RU.1",
		// Of a message, it is what we said to the one that it answers.
		`{"from":"RU.1","callbackData":"79261234567",` + text + `}`: "RU.1",
	} {
		pieces, err := c.Split([]byte(`{"results":[` + raw + `]}`))
		if err != nil || len(pieces) != 1 || pieces[0].ChatKey != want {
			t.Errorf("%s: Split: %+v %v, want %s", raw, pieces, err, want)
			continue
		}
		if got, err := c.Decode(pieces[0].Raw); err != nil || got[0].Chat != want || got[0].Customer.ID != want {
			t.Errorf("%s: Decode: %+v %v, want %s", raw, got, err, want)
		}
	}
}

// Elements are the same where Infobip's ids are, and without ids where all of
// their bytes are, the time to the millisecond among them.
func TestSameElements(t *testing.T) {
	t.Parallel()
	c := opened(t)
	const at = `"receivedAt":"2026-01-01T10:00:00.000+0000",`
	const text = `"from":"79261234567","message":{"type":"TEXT","text":"x"}}`
	const failed = `"messageId":"m1","to":"79261234567","status":{"groupId":2,"id":4}}`
	for name, row := range map[string]struct {
		a, b string
		same bool
	}{
		"message again":            {`{"messageId":"w1",` + at + text, `{"messageId":"w1",` + text, true},
		"other message":            {`{"messageId":"w1",` + at + text, `{"messageId":"w2",` + at + text, false},
		"without id":               {`{` + at + text, `{` + at + text, true},
		"without id, later":        {`{` + at + text, `{"receivedAt":"2026-01-01T10:00:00.001+0000",` + text, false},
		"reaction to a message":    {`{"messageId":"w1",` + text, `{"messageId":"w2","from":"79261234567","message":{"type":"REACTION","emoji":"x","context":{"id":"w1"}}}`, false},
		"report again":             {`{"doneAt":"1",` + failed, `{"bulkId":"b","doneAt":"1",` + failed, true},
		"later report":             {`{"doneAt":"1",` + failed, `{"doneAt":"2",` + failed, false},
		"delivered and seen":       {`{"messageId":"m1","to":"1","status":{"groupId":3,"id":5}}`, `{"messageId":"m1","from":"1","seenAt":"1"}`, false},
		"seen again":               {`{"messageId":"m1","from":"1","seenAt":"1"}`, `{"messageId":"m1","from":"1","seenAt":"2"}`, true},
		"parts of one message":     {`{"doneAt":"1",` + failed, `{"doneAt":"1",` + strings.Replace(failed, "m1", "m1-1", 1), false},
		"a message and its report": {`{"messageId":"m1",` + text, `{` + failed, false},
		"ids beyond any column":    {`{"messageId":"` + strings.Repeat("x", 5000) + `1",` + text, `{"messageId":"` + strings.Repeat("x", 5000) + `2",` + text, false},
	} {
		pieces, err := c.Split([]byte(`{"results":[` + row.a + `,` + row.b + `]}`))
		if err != nil || len(pieces) != 2 || (pieces[0].DedupKey == pieces[1].DedupKey) != row.same || len(pieces[0].DedupKey) > 300 {
			t.Errorf("%s: %+v %v", name, pieces, err)
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

// An operator's few messages in a row are not held up, nor is a long text in its
// parts; on average the customer gets what WhatsApp allows.
func TestChatRate(t *testing.T) {
	t.Parallel()
	r := opened(t).Capabilities().ChatRate
	if r.PerSecond <= 0 || r.PerSecond > 1.0/6 || r.Burst < maxParts || r.Burst > 45 {
		t.Errorf("chat rate = %+v", r)
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
