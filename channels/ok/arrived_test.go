package ok

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/channels/channeltest"
	"switchboard/message"
)

// A second attempt looks for the first one in the chat, and takes no other message for it.
func TestSecondAttempt(t *testing.T) {
	t.Parallel()
	const id = "0199a8c0-de00-7000-8000-000000000001"
	made := channels.MadeAt(id)
	item := func(sender, mid, words string, at time.Time, more string) string {
		return fmt.Sprintf(`{"sender":{"user_id":%q},"recipient":{"chat_id":%q},"message":{"mid":%q,"text":%q%s},"timestamp":%d}`, sender, testChat, mid, words, more, at.UnixMilli())
	}
	const group, keys = "group:12345678901234", `,"attachments":[{"type":"INLINE_KEYBOARD","payload":{}}]`
	for _, row := range []struct {
		name, history string
		to            string
		first         bool
		want          string // id, "sent" for a new send, or the kind of an error
	}{
		{name: "first attempt", first: true, history: item(group, "mid:1", "Hello", made, ""), want: "sent"},
		{name: "arrived", history: item("user:1", "mid:9", "Hello", made, "") + "," + item(group, "mid:1", " Hello\n", made.Add(time.Second), keys), want: "mid:1"},
		{name: "clock behind", history: item(group, "mid:1", "Hello", made.Add(-time.Minute), ""), want: "mid:1"},
		{name: "before ours", history: item(group, "mid:1", "Hello", made.Add(-time.Hour), ""), want: "sent"},
		{name: "known", history: item(group, "mid:known", "Hello", made, ""), want: "sent"},
		{name: "other words", history: item(group, "mid:1", "Hello!", made, ""), want: "sent"},
		{name: "with a file", history: item(group, "mid:1", "Hello", made, `,"attachments":[{"type":"IMAGE","payload":{}}]`), want: "sent"},
		{name: "odd items", history: `7,{},{"message":7},` + item(group, "", "Hello", made, ""), want: "sent"},
		{name: "chat not known yet", to: testUser, history: item(group, "mid:1", "Hello", made, ""), want: "sent"},
		{name: "no right to read", history: "10", want: "sent"},
		{name: "reading too fast", history: "8", want: "throttled"},
		{name: "reading fails", history: "502", want: "unavailable"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
				switch {
				case r.Method == "POST" || !strings.HasPrefix(r.Path, "/graph/me/messages"):
					return okAnswer(r)
				case row.history == "502":
					return channeltest.Response{Status: 502}
				case len(row.history) < 3:
					return channeltest.Response{Body: `{"error_code":` + row.history + `}`}
				}
				return channeltest.Response{Body: `{"messages":[` + row.history + `]}`}
			})
			out := message.Outbound{ID: id, Chat: testChat, Content: message.Content{Kind: message.KindText, Text: "Hello"}, Again: !row.first, Known: []string{"mid:known"}}
			if row.to != "" {
				out.Chat = row.to
			}
			receipt, err := openAt(t, p).Send(t.Context(), &message.Part{Of: 1, Outbound: out})
			got := "sent"
			posts := 0
			for _, r := range p.Requests() {
				if r.Method == "POST" {
					posts++
				}
			}
			switch e := message.Classify(err); {
			case e != nil:
				got = string(e.Kind)
			case posts == 0:
				got = strings.Join(receipt.IDs, " ")
			}
			if got != row.want || posts > 1 {
				t.Errorf("%s, want %s; %v", got, row.want, err)
			}
		})
	}
}
