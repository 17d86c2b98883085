package infobip

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// maxAnswer bounds what is read of an answer; a list of templates is the largest.
const maxAnswer = 8 << 20

// call makes one call and reads its answer, a JSON object, into answer (nil: not
// wanted). what names the call in errors, and private is what they must not quote.
// The failed answer comes beside the error, for those who look closer.
func (c *channel) call(ctx context.Context, method, path, what string, in, answer any, private []string) (*failed, *message.Error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = channels.EncodeJSON(in); err != nil {
			return nil, &message.Error{Kind: message.ErrInvalid, Detail: "the message can't be written as JSON"}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, &message.Error{Kind: message.ErrUnavailable, Detail: what + " could not be sent", Err: err}
	}
	var sent channels.Trace
	req, err := http.NewRequestWithContext(sent.Watch(ctx), method, c.base.String()+path, bytes.NewReader(body))
	if err != nil {
		return nil, &message.Error{Kind: message.ErrAccount, Detail: "setting api_base makes no valid address"}
	}
	req.Header.Set("Authorization", "App "+c.key)
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.env.HTTP.Do(req)
	if err != nil {
		return nil, channels.NoAnswer(what, err, sent.Nothing())
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 == 2 {
		if answer == nil || err == nil && channels.DecodeLenient(raw, answer) == nil {
			return nil, nil
		}
		return nil, &message.Error{Kind: message.ErrUncertain, Detail: "the answer is not Infobip's JSON", Err: err}
	}
	var f failed
	if err != nil || channels.DecodeLenient(raw, &f) != nil {
		f = failed{}
	}
	failure := classify(resp, &f, c.redact(f.words(), private))
	failure.Err = err
	return &f, failure
}

// redact keeps secrets, and what is private of a message, out of what Infobip said.
func (c *channel) redact(s string, private []string) string {
	s = strings.NewReplacer(c.key, "[key]", c.password, "[password]").Replace(s)
	// The longest first: what holds another is found whole.
	for _, p := range slices.SortedFunc(slices.Values(private), func(a, b string) int { return len(b) - len(a) }) {
		if len(p) > 3 {
			s = strings.ReplaceAll(s, p, "[private]")
		}
	}
	return truncate(s, 300)
}

// truncate cuts s to at most n UTF-16 units, between characters.
func truncate(s string, n int) string {
	for i, r := range s {
		if n -= message.UnitUTF16.Count(string(r)); n < 0 {
			return s[:i]
		}
	}
	return s
}
