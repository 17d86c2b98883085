package telegram

import (
	"bytes"
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

// params are the parameters of a call.
type params map[string]any

// answerBytes bounds an answer: getUpdates gives about 4 MiB.
const answerBytes = 16 * mebibyte

// envelope is around every answer.
type envelope struct {
	OK          bool            `json:"ok"`
	Result      json.RawMessage `json:"result"`
	ErrorCode   int             `json:"error_code"`
	Description string          `json:"description"`
	Parameters  struct {
		RetryAfter      int64 `json:"retry_after"`
		MigrateToChatID int64 `json:"migrate_to_chat_id"`
	} `json:"parameters"`
}

// callError is why a call has no result. It holds neither the URL nor any error
// that does.
type callError struct {
	method      string
	code        int    // the platform's, else the HTTP status; 0: no answer
	description string // the platform's words, or ours
	retryAfter  time.Duration
	migrateTo   int64 // the group's new id
	// sent says that the whole request may have reached the platform.
	sent bool
	// foreign says that the answer is not Telegram's: some proxy, firewall or
	// login page spoke, which knows nothing of bots and chats.
	foreign bool
	err     error
}

func (e *callError) Error() string {
	s := "telegram " + e.method
	if e.code != 0 {
		s += " " + strconv.Itoa(e.code)
	}
	if e.description != "" {
		s += ": " + e.description
	}
	if e.err != nil {
		s += ": " + e.err.Error()
	}
	return s
}

func (e *callError) Unwrap() error { return e.err }

// is reports whether the platform refused with the code and one of the phrases,
// in lower case. Telegram tells causes apart by text only.
func (e *callError) is(code int, phrases ...string) bool {
	if e.code != code {
		return false
	}
	text := strings.ToLower(e.description)
	for _, p := range phrases {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}

// call makes a call with a JSON body. Errors are *callError.
func (c *channel) call(ctx context.Context, method string, p params) (json.RawMessage, error) {
	if p == nil {
		p = params{}
	}
	body, err := json.Marshal(p)
	if err != nil {
		return nil, &callError{method: method, description: "building the request", err: err}
	}
	return c.post(ctx, method, "application/json", bytes.NewReader(body), nil)
}

// post makes a call. complete reports whether the body was handed over to its
// end; nil means that a body begun is as good as sent, which holds for small ones.
func (c *channel) post(ctx context.Context, method, contentType string, body io.Reader, complete func() bool) (json.RawMessage, error) {
	var begun atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { begun.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/bot"+c.token+"/"+method, body)
	if err != nil {
		return nil, &callError{method: method, description: "building the request", err: c.clean(err)}
	}
	req.Header.Set("Content-Type", contentType)
	res, err := c.env.HTTP.Do(req)
	if err != nil {
		sent := begun.Load() && (complete == nil || complete())
		return nil, &callError{method: method, description: "no answer", sent: sent, err: c.clean(err)}
	}
	defer func() { _ = res.Body.Close() }()
	return c.answer(method, res)
}

// answer reads an answer's envelope.
func (c *channel) answer(method string, res *http.Response) (json.RawMessage, error) {
	fail := &callError{method: method, code: res.StatusCode, sent: true}
	raw, err := io.ReadAll(io.LimitReader(res.Body, answerBytes))
	if err != nil {
		fail.description, fail.err = "the answer broke off", c.clean(err)
		return nil, fail
	}
	fail.retryAfter = channels.RetryAfter(res.Header)
	var e envelope
	// Proxies answer in HTML, whatever the status.
	err = lenient(raw, &e)
	if err == nil && e.OK && res.StatusCode/100 == 2 {
		return e.Result, nil
	}
	if err != nil || (e.ErrorCode == 0 && e.Description == "") {
		fail.foreign, fail.description = true, strings.TrimSpace("the answer is not Telegram's "+http.StatusText(res.StatusCode))
		return nil, fail
	}
	if e.ErrorCode != 0 {
		fail.code = e.ErrorCode
	}
	fail.description = c.redact(channels.Shorten(e.Description, 300))
	if s := e.Parameters.RetryAfter; s > 0 {
		fail.retryAfter = time.Duration(min(s, maxRetryAfter)) * time.Second
	}
	fail.migrateTo = e.Parameters.MigrateToChatID
	return nil, fail
}

// maxRetryAfter bounds a wait, in seconds: a day is longer than any message lives.
const maxRetryAfter = 24 * 60 * 60

// lenient decodes JSON and lets fields of an unexpected type be: a changed type
// of a field that we could do without must not cost the message.
func lenient(raw []byte, v any) error {
	err := json.Unmarshal(raw, v)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return nil
	}
	return err
}

// clean takes the URL, which holds the token, out of an error of the HTTP
// client. Context errors can still be found by errors.Is.
func (c *channel) clean(err error) error {
	err = channels.WithoutAddress(err)
	if leaks := fmt.Sprintf("%v %#v", err, err); strings.Contains(leaks, c.token) || strings.Contains(leaks, c.secret) {
		return errors.New(c.redact(err.Error()))
	}
	return err
}

// redact takes the account's secrets out of a text.
func (c *channel) redact(s string) string {
	return strings.NewReplacer(c.token, "<token>", url.PathEscape(c.token), "<token>", url.QueryEscape(c.token), "<token>", c.secret, "<secret>").Replace(s)
}
