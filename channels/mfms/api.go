package mfms

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// maxAnswer bounds what is read of an answer; real ones have a line.
const maxAnswer = 1 << 20

// call makes one call of the JSON connector and returns the answer, which says
// that the message is with MFMS, and its code. body nil sends none.
func (c *channel) call(ctx context.Context, method, where string, body any) (code string, answer []byte, failure *message.Error) {
	var raw []byte
	if body != nil {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false) // addresses with "&" stay readable in their logs
		if e.Encode(body) != nil {
			return "", nil, &message.Error{Kind: message.ErrInvalid, Detail: "the message can't be written as JSON"}
		}
		raw = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	}
	resp, answer, cause, failure := c.exchange(ctx, method, where, raw, func(h http.Header) {
		if body != nil {
			h.Set("Content-Type", "application/json; charset=utf-8")
		}
		authorise(h, c.login, c.password)
	})
	if failure != nil {
		return "", nil, failure
	}
	code, failure = c.verdict(resp, answer, cause)
	return code, answer, failure
}

// exchange makes one request. cause is why the answer was not read to its end.
func (c *channel) exchange(ctx context.Context, method, where string, body []byte, prepare func(http.Header)) (resp *http.Response, answer []byte, cause error, failure *message.Error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, nil, &message.Error{Kind: message.ErrUnavailable, Detail: "the call could not be made", Err: err}
	}
	u := *c.base
	u.Path += where
	var sent channels.Trace
	req, err := http.NewRequestWithContext(sent.Watch(ctx), method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, nil, &message.Error{Kind: message.ErrAccount, Detail: "setting api_base makes no valid address"}
	}
	prepare(req.Header)
	resp, err = c.env.HTTP.Do(req)
	if err != nil {
		return nil, nil, nil, channels.NoAnswer("the call", err, sent.Nothing())
	}
	defer resp.Body.Close()
	answer, cause = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp, answer, cause, nil
}

// verdict reads an answer: by its code if it has one, else by the HTTP status.
func (c *channel) verdict(resp *http.Response, raw []byte, cause error) (string, *message.Error) {
	var a struct {
		Code   scalar `json:"code"`
		Detail scalar `json:"detail"` // the same word in the newer interface
		Status text   `json:"dlvStatus"`
	}
	if cause == nil && channels.DecodeLenient(raw, &a) == nil {
		code := strings.ToLower(string(a.Code))
		if code == "" {
			code = strings.ToLower(string(a.Detail))
		}
		if code == "" && a.Status != "" {
			code = codeOK // a report, on being asked for one
		}
		if failure, judged := c.judge(resp, code); judged {
			return code, failure
		}
	}
	return "", foreign(resp, cause)
}

// judge is what a code, in small letters, means: nil when the message is with
// MFMS. judged is false where it says nothing that fits its HTTP status.
func (c *channel) judge(resp *http.Response, code string) (failure *message.Error, judged bool) {
	v, known := verdictOf(code)
	switch {
	case resp.StatusCode == http.StatusTooManyRequests: // whatever it says
	case known && v.kind == accepted && resp.StatusCode < 500 && (resp.StatusCode/100 == 2 || code != codeOK):
		return nil, true
	case known && v.kind != accepted:
		return &message.Error{Kind: v.kind, Code: code, Detail: v.hint}, true
	case known || code == "":
	case resp.StatusCode/100 == 2, foreign(resp, nil).Kind == message.ErrInvalid && c.word(code) == code:
		return &message.Error{Kind: message.ErrInvalid, Code: c.word(code), Detail: "unknown code"}, true
	}
	return nil, false
}

// word shows a code that is in no table, if it looks like one: anything else may
// repeat what we sent.
func (c *channel) word(code string) string {
	odd := strings.ContainsFunc(code, func(r rune) bool { return (r < 'a' || r > 'z') && r != '-' && r != '_' })
	if odd || len(code) > 80 || strings.Contains(code, strings.ToLower(c.password)) {
		return "unreadable"
	}
	return code
}
