package ok

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// arrived looks in the chat's newest messages for one that an earlier attempt at a
// part may have left there, since OK has no key to tell repeats apart: the group's
// own, with the same words, written since ours was made, and none of those that
// are known already. "" when there is none, or OK does not show the history.
func (c *channel) arrived(ctx context.Context, part *message.Part, chat, words string) (mid string, failure *message.Error) {
	var page struct {
		Messages []json.RawMessage `json:"messages"`
	}
	failure = c.call(ctx, request{method: http.MethodGet, path: "/me/messages/" + chat, query: url.Values{"count": {messagesOfPage}}, out: &part.Outbound}, &page)
	if failure != nil {
		switch failure = before(failure); failure.Kind {
		case message.ErrThrottled, message.ErrUnavailable:
			return "", failure // nobody knows yet
		}
		return "", nil
	}
	made := channels.MadeAt(part.ID)
	for _, raw := range page.Messages {
		var item callback
		var m received
		if channels.DecodeLenient(raw, &item) != nil || channels.DecodeLenient(item.Message, &m) != nil {
			continue
		}
		files := slices.DeleteFunc(append(m.Attachments, m.Attachment...), func(a attachment) bool { return a.Type == "INLINE_KEYBOARD" })
		switch at := instant(item.Time.Int()); {
		case m.Mid == "" || slices.Contains(part.Known, string(m.Mid)):
		case !strings.HasPrefix(string(item.Sender.ID), "group:"):
		case !at.IsZero() && at.Before(made.Add(-clockSkew)):
		case strings.TrimSpace(string(m.Text)) == strings.TrimSpace(words) && (len(files) > 0) == (len(part.Files) > 0):
			return string(m.Mid), nil
		}
	}
	return "", nil
}

// clockSkew is how far OK's clock may be behind ours.
const clockSkew = 2 * time.Minute
