package vk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"switchboard/channels"
)

// answerBytes bounds an answer.
const answerBytes = 16 << 20

// apiError is VK's refusal.
type apiError struct {
	Code int    `json:"error_code"`
	Msg  string `json:"error_msg"`
}

// callError is why a call has no result. It holds neither an address nor a parameter.
type callError struct {
	method     string
	code       int    // VK's; 0: it did not answer as such
	status     int    // of HTTP; 0: no answer
	detail     string // VK's words, or ours
	retryAfter time.Duration
	// sent says that the whole request may have reached the platform.
	sent bool
	err  error
}

func (e *callError) Error() string {
	s := "vk " + e.method
	switch {
	case e.code != 0:
		s += " " + strconv.Itoa(e.code)
	case e.status != 0:
		s += " HTTP " + strconv.Itoa(e.status)
	}
	if e.detail != "" {
		s += ": " + e.detail
	}
	if e.err != nil {
		s += ": " + e.err.Error()
	}
	return s
}

func (e *callError) Unwrap() error { return e.err }

// refused reports whether err is VK's refusal with one of the codes.
func refused(err error, codes ...int) bool {
	e, ok := errors.AsType[*callError](err)
	if !ok {
		return false
	}
	for _, code := range codes {
		if e.code == code {
			return true
		}
	}
	return false
}

// call makes a call of the API. Errors are *callError.
func (c *channel) call(ctx context.Context, method string, params url.Values) (json.RawMessage, error) {
	if c.flooded(method) {
		return nil, &callError{method: method, code: 29, detail: "not called"}
	}
	if params == nil {
		params = url.Values{}
	}
	params.Set("v", version)
	body := params.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/method/"+method, strings.NewReader(body))
	if err != nil {
		return nil, &callError{method: method, detail: "api_base makes no address"}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+c.token)
	raw, failure := c.do(req, method)
	if failure != nil {
		return nil, failure
	}
	var a struct {
		Response json.RawMessage `json:"response"`
		Error    *apiError       `json:"error"`
	}
	err = lenient(raw.body, &a)
	fail := &callError{method: method, status: raw.status, sent: true, retryAfter: raw.retryAfter}
	switch {
	case err == nil && a.Error != nil && a.Error.Code != 0:
		fail.code, fail.detail = a.Error.Code, c.redact(channels.Shorten(a.Error.Msg, 300))
		return nil, fail
	case err == nil && raw.status/100 == 2 && len(a.Response) > 0:
		if method != methodSend { // whose answer holds the refusals
			c.flowed(method)
		}
		return a.Response, nil
	}
	fail.detail = "the answer is not VK's"
	return nil, fail
}

// patiently makes a call and repeats it while there are too many a second, so
// that ten pictures are not begun anew with the first one.
func (c *channel) patiently(ctx context.Context, method string, params url.Values) (json.RawMessage, error) {
	const tries = 5
	for try := 1; ; try++ {
		raw, err := c.call(ctx, method, params)
		if !refused(err, 6) || try == tries || !c.wait(ctx, waitPerSecond) {
			return raw, err
		}
	}
}

// answer is an answer to a request.
type answer struct {
	status     int
	body       []byte
	retryAfter time.Duration
}

// do sends a request whose body is as good as sent when it has begun, and reads
// the answer. The error is *callError or nil.
func (c *channel) do(req *http.Request, method string) (answer, error) {
	var begun atomic.Bool
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{WroteHeaders: func() { begun.Store(true) }}))
	res, err := c.env.HTTP.Do(req)
	if err != nil {
		return answer{}, &callError{method: method, detail: "no answer", sent: begun.Load(), err: c.clean(err)}
	}
	defer func() { _ = res.Body.Close() }()
	a := answer{status: res.StatusCode, retryAfter: channels.RetryAfter(res.Header)}
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, answerBytes)); err != nil {
		return a, &callError{method: method, detail: "the answer broke off", sent: true, err: c.clean(err)}
	}
	return a, nil
}

// lenient decodes JSON and lets fields of an unexpected type be: a changed type
// of a field that we could do without must not cost the message.
func lenient(raw []byte, v any) error {
	err := json.Unmarshal(raw, v)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return nil
	}
	return err
}

// clean takes addresses out of an error of the HTTP client: those of uploads and
// of the long poll are keys. Context errors can still be found by errors.Is.
func (c *channel) clean(err error) error {
	err = channels.WithoutAddress(err)
	text := fmt.Sprintf("%v %#v", err, err)
	if strings.Contains(text, c.token) || c.secret != "" && strings.Contains(text, c.secret) {
		return errors.New(c.redact(err.Error()))
	}
	return err
}

// redact takes the account's secrets out of a text.
func (c *channel) redact(s string) string {
	s = strings.ReplaceAll(s, c.token, "<token>")
	if c.secret != "" {
		s = strings.ReplaceAll(s, c.secret, "<secret>")
	}
	return s
}

// object is JSON inside of a form's field.
func object(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "{}" // maps and lists of strings and numbers always encode
	}
	return string(b)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
