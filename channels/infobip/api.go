package infobip

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"

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
		if body, err = encode(in); err != nil {
			return nil, &message.Error{Kind: message.ErrInvalid, Detail: "the message can't be written as JSON"}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, &message.Error{Kind: message.ErrUnavailable, Detail: what + " could not be sent", Err: err}
	}
	var sent trace
	req, err := http.NewRequestWithContext(sent.watch(ctx), method, c.base.String()+path, bytes.NewReader(body))
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
		return nil, transportError(what, err, sent.nothing())
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

// encode is JSON without the escapes that HTML would need: signed links keep
// their "&".
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// trace tells whether a request can have reached the other side.
type trace struct{ started, wrote atomic.Bool }

func (t *trace) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { t.started.Store(true) },
		WroteHeaders: func() { t.wrote.Store(true) },
	})
}

// nothing reports that no byte of the request went out, for certain.
func (t *trace) nothing() bool { return t.started.Load() && !t.wrote.Load() }

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
