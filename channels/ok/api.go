package ok

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// maxAnswer bounds what is read of an answer; a page of history is the largest.
const maxAnswer = 4 << 20

// jsonType is what POST wants to the letter.
const jsonType = "application/json;charset=utf-8"

// request is one call of the API.
type request struct {
	method string // of HTTP
	path   string // below the base, with the leading slash
	query  url.Values
	body   any // nil: none
	// out is the message concerned: its words are kept out of errors, and a
	// refusal may be about its customer. nil for calls about the group.
	out *message.Outbound
}

// failed is what every answer may be.
type failed struct {
	Code    scalar `json:"error_code"`
	Message text   `json:"error_msg"`
}

// call makes one call and reads its answer, a JSON object, into answer.
func (c *channel) call(ctx context.Context, r request, answer any) *message.Error {
	what := r.path
	if i := strings.LastIndexByte(what, '/'); r.out != nil && i > 0 {
		what = what[:i] // the rest names the chat
	}
	var body []byte
	if r.body != nil {
		var err error
		if body, err = channels.EncodeJSON(r.body); err != nil {
			return &message.Error{Kind: message.ErrInvalid, Detail: "the message can't be written as JSON"}
		}
	}
	if err := ctx.Err(); err != nil {
		return &message.Error{Kind: message.ErrUnavailable, Detail: what + " could not be sent", Err: err}
	}
	query := url.Values{"access_token": {c.token}}
	for k, v := range r.query {
		query[k] = v
	}
	u := *c.base
	u.Path += r.path
	u.RawQuery = query.Encode()
	var sent channels.Trace
	req, err := http.NewRequestWithContext(sent.Watch(ctx), r.method, u.String(), bytes.NewReader(body))
	if err != nil {
		return &message.Error{Kind: message.ErrAccount, Detail: "setting api_base makes no valid address"}
	}
	if r.body != nil {
		req.Header.Set("Content-Type", jsonType)
	}
	resp, err := c.env.HTTP.Do(req)
	if err != nil {
		return channels.NoAnswer(what, err, sent.Nothing())
	}
	defer resp.Body.Close()
	return c.read(resp, r.out, answer)
}

// read takes an answer apart: OK's errors come in any HTTP status, 200 as a rule.
func (c *channel) read(resp *http.Response, out *message.Outbound, answer any) *message.Error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	var f failed
	object := err == nil && channels.DecodeLenient(raw, &f) == nil
	code := string(f.Code)
	if code == "" {
		code = strings.TrimSpace(resp.Header.Get("Invocation-Error"))
	}
	if object && code == "" && resp.StatusCode/100 == 2 {
		if answer == nil || channels.DecodeLenient(raw, answer) == nil {
			return nil
		}
		object = false
	}
	if code == "" || code == "0" {
		return foreign(resp, err)
	}
	return c.failure(code, &f, out)
}

// failure is what OK refused with. A flood's pause doubles until a message goes out.
func (c *channel) failure(code string, f *failed, out *message.Outbound) *message.Error {
	e := classify(code, c.redact(string(f.Message), out), out != nil)
	if e.Kind == message.ErrThrottled && e.RetryAfter < afterTotal {
		c.mu.Lock()
		e.RetryAfter = c.flood.Pause(c.now(), e.RetryAfter, afterTotal)
		c.mu.Unlock()
	}
	return e
}

// redact keeps secrets and the customer's words out of what OK said.
func (c *channel) redact(s string, out *message.Outbound) string {
	s = strings.NewReplacer(c.token, "[token]", url.QueryEscape(c.token), "[token]",
		c.secret, "[secret]", url.QueryEscape(c.secret), "[secret]").Replace(s)
	if out != nil && len(out.Text) > 3 {
		s = strings.ReplaceAll(s, out.Text, "[text]")
	}
	return channels.Shorten(s, 300)
}
