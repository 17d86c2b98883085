package viber

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"switchboard/message"
)

// Statuses that Send reacts to.
const (
	statusInvalidURL    = "1"
	statusWebhookNotSet = "10"
	statusTooOld        = "13"
	statusIncompatible  = "14"
)

// verdict is what a status means for a send.
type verdict struct {
	kind message.ErrorKind
	hint string // for people, beside Viber's own words
}

// verdicts is the table of Viber's statuses, all that are documented. Any other
// number is Viber's "general error": a certain refusal that may pass.
//
// 23 and 24 refuse messages outside of a session (24 hours from a customer's
// message), and only those: the account can still answer customers, so it is
// not paused, and the customer is reachable as soon as money or their next
// message comes, so they are not marked either. The message alone fails.
var verdicts = map[string]verdict{
	"1":  {message.ErrInvalid, "Viber refused an address"},
	"2":  {message.ErrAccount, "the token is wrong or was replaced; put the bot's current token into the setting token"},
	"3":  {message.ErrInvalid, "Viber refused a field of the message"},
	"4":  {message.ErrInvalid, "Viber misses a field of the message"},
	"5":  {message.ErrRecipient, "Viber does not know this customer"},
	"6":  {message.ErrRecipient, "the customer never wrote to this bot, or unsubscribed; they have to write first"},
	"7":  {message.ErrAccount, "the bot is blocked by Viber"},
	"8":  {message.ErrAccount, "the token belongs to no bot"},
	"9":  {message.ErrAccount, "the bot is suspended by Viber"},
	"10": {message.ErrAccount, "the bot has no webhook, and Viber sends nothing without"},
	"11": {message.ErrRecipient, "none of the customer's devices can talk to bots"},
	"12": {message.ErrThrottled, "100 messages in a clock hour without an answer of the customer"},
	"13": {message.ErrInvalid, "the customer's Viber is too old for this message"},
	"14": {message.ErrInvalid, "the message uses more than its min_api_version"},
	"15": {message.ErrAccount, "the bot may not use this; ask Viber"},
	"16": {message.ErrInvalid, "inline messages are not allowed"},
	"17": {message.ErrInvalid, "the bot is not inline"},
	"18": {message.ErrInvalid, "the bot has no public chat"},
	"19": {message.ErrUnavailable, "Viber refused a broadcast"},
	"20": {message.ErrUnavailable, "broadcasts are not allowed for this bot"},
	"21": {message.ErrInvalid, "this kind of message is not supported in the customer's country"},
	"22": {message.ErrInvalid, "payments are not enabled"},
	"23": {message.ErrInvalid, "this month's free messages outside of a session are used up; customers who write can still be answered"},
	"24": {message.ErrInvalid, "the bot has no balance for messages outside of a session; customers who write can still be answered"},
}

// failure classifies an answer that is no success.
func (c *channel) failure(resp *http.Response, a *answer) *message.Error {
	code := string(a.Status)
	v, known := verdicts[code]
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		return &message.Error{
			Kind: message.ErrThrottled, Code: "429", Detail: orElse(string(a.StatusText), "too many requests"),
			RetryAfter: c.retryAfter(resp),
		}
	case known:
		e := &message.Error{Kind: v.kind, Code: code, Detail: v.hint}
		if a.StatusText != "" {
			e.Detail = string(a.StatusText) + ": " + v.hint
		}
		if e.Kind == message.ErrThrottled {
			e.ChatOnly = true
			if e.RetryAfter = c.retryAfter(resp); e.RetryAfter == 0 {
				e.RetryAfter = c.nextHour(resp)
			}
		}
		return e
	case resp.StatusCode < 300 && code != "" && code != "0":
		return &message.Error{Kind: message.ErrUnavailable, Code: code, Detail: orElse(string(a.StatusText), "general error")}
	}
	// Not Viber's envelope: a proxy's page, or a server in trouble.
	e := &message.Error{Code: strconv.Itoa(resp.StatusCode), Detail: "HTTP " + resp.Status}
	switch {
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		e.Kind = message.ErrAccount
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusRequestEntityTooLarge:
		e.Kind = message.ErrInvalid
	case resp.StatusCode >= 300 && resp.StatusCode < 500:
		e.Kind = message.ErrUnavailable // turned away at the door
	default:
		e.Kind = message.ErrUncertain // 5xx, or a success that doesn't say so
		if resp.StatusCode < 300 {
			e.Detail = "the answer is not Viber's JSON"
		}
	}
	return e
}

// cannotSetWebhook says why a send that Viber refused for the missing webhook
// is not repeated. Nothing was sent, whatever became of set_webhook.
func cannotSetWebhook(cause *message.Error) *message.Error {
	e := *cause
	switch e.Kind {
	case message.ErrThrottled, message.ErrAccount:
	case message.ErrInvalid, message.ErrRecipient:
		e.Kind = message.ErrAccount
	default:
		e.Kind = message.ErrUnavailable
	}
	e.ChatOnly = false
	e.Code = statusWebhookNotSet
	e.Detail = "the bot has no webhook, and setting it did not work: " + e.Detail
	return &e
}

// retryAfter reads the header, in either of its forms; 0 when it isn't there.
func (c *channel) retryAfter(resp *http.Response) time.Duration {
	h := strings.TrimSpace(resp.Header.Get("Retry-After"))
	if n, err := strconv.Atoi(h); err == nil && n > 0 && n <= 86400 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(h); err == nil {
		return min(max(at.Sub(c.serverTime(resp)), 0), 24*time.Hour)
	}
	return 0
}

// nextHour is how long Viber's clock hour still lasts; a second more, because
// the header's time is cut to seconds.
func (c *channel) nextHour(resp *http.Response) time.Duration {
	now := c.serverTime(resp)
	return now.Truncate(time.Hour).Add(time.Hour + time.Second).Sub(now)
}

func (c *channel) serverTime(resp *http.Response) time.Time {
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		return at
	}
	return c.now()
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
