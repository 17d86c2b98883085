package ok

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// Codes that are looked at by themselves.
const (
	codePermission = "10"
	codeParam      = "100"
)

// verdict is what a code means for a send.
type verdict struct {
	kind  message.ErrorKind
	after time.Duration
	hint  string // for people, beside OK's own words
}

// verdicts is the table of OK's codes. It is the classic REST API's; that the
// Graph API numbers its errors alike is plausible and nowhere promised. Any
// other code fails the message: OK said for certain that it does not want it.
var verdicts = map[string]verdict{
	"1":    {message.ErrUncertain, 0, "OK does not know what happened"},
	"2":    {message.ErrUnavailable, 0, "OK is temporarily unavailable"},
	"3":    {message.ErrInvalid, 0, "OK knows no such method"},
	"4":    {message.ErrInvalid, 0, "OK can't read the request"},
	"7":    {message.ErrRecipient, 0, "the customer has blocked the group's messages, or never allowed them"},
	"8":    {message.ErrThrottled, afterFlood, "too many messages"},
	"9":    {message.ErrAccount, 0, "OK blocks this server's address; ask api-support@ok.ru"},
	"10":   {message.ErrRecipient, 0, "the customer has not allowed the group's messages"},
	"11":   {message.ErrThrottled, afterLimit, "a limit of the group is reached"},
	"12":   {message.ErrInvalid, 0, "OK canceled the call"},
	"21":   {message.ErrInvalid, 0, "the upload is not built as OK wants it"},
	"22":   {message.ErrInvalid, 0, "not activated"},
	"23":   {message.ErrInvalid, 0, "not yet involved"},
	"24":   {message.ErrInvalid, 0, "not the owner"},
	"25":   {message.ErrInvalid, 0, "not active"},
	"26":   {message.ErrThrottled, afterTotal, "the group's total limit is used up"},
	"100":  {message.ErrInvalid, 0, "OK refuses a parameter of the message"},
	"101":  {message.ErrAccount, 0, "OK refuses the application's key"},
	"102":  {message.ErrAccount, 0, "the token has expired; take a new access key from the group's settings into the setting token"},
	"103":  {message.ErrAccount, 0, "the token is wrong or was replaced; take the access key from the group's settings into the setting token"},
	"104":  {message.ErrInvalid, 0, "OK refuses the signature"},
	"5000": {message.ErrInvalid, 0, "the group is not subscribed to this"},
}

// classify says what a code means. about tells that the call was about one
// customer, whom code 10 is about then; else it is about the token's rights.
func classify(code, words string, about bool) *message.Error {
	v, known := verdicts[code]
	if !known {
		v = verdict{kind: message.ErrInvalid, hint: "an error that is in no document of ours"}
	}
	if code == codePermission && !about {
		v = verdict{kind: message.ErrAccount, hint: "the token lacks the right for this; switch the group's messages on and take a new access key"}
	}
	e := &message.Error{Kind: v.kind, Code: code, Detail: v.hint, RetryAfter: v.after}
	if words != "" {
		e.Detail = words + ": " + v.hint
	}
	return e
}

// stillProcessing reports that the message's files are not ready yet.
func stillProcessing(e *message.Error) bool {
	words := strings.ToLower(e.Detail)
	return e.Code == codeParam && slices.ContainsFunc(notReady, func(s string) bool { return strings.Contains(words, s) })
}

// foreign classifies an answer that is not OK's: a proxy's page, or a server in
// trouble.
func foreign(resp *http.Response, cause error) *message.Error {
	e := &message.Error{Code: strconv.Itoa(resp.StatusCode), Detail: "HTTP " + resp.Status, Err: cause}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		e.Kind, e.RetryAfter = message.ErrThrottled, channels.RetryAfter(resp.Header)
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusRequestEntityTooLarge:
		e.Kind = message.ErrInvalid
	case resp.StatusCode >= 300 && resp.StatusCode < 500:
		e.Kind = message.ErrUnavailable // turned away at the door
	default:
		e.Kind = message.ErrUncertain // 5xx, or a success that doesn't say so
		if resp.StatusCode < 300 {
			e.Detail = "the answer is not OK's JSON"
		}
	}
	return e
}

// before is the error of a call that a message needs first: nothing was sent,
// whatever became of it.
func before(e *message.Error) *message.Error {
	if e.Kind == message.ErrUncertain {
		out := *e
		out.Kind = message.ErrUnavailable
		return &out
	}
	return e
}
