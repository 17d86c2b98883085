package message

import (
	"errors"
	"fmt"
	"time"
)

// ErrorKind is the closed vocabulary of why a send did not succeed. Each kind
// decides what happens next, once, for all platforms.
type ErrorKind string

// The kinds of send error.
const (
	// ErrInvalid: this message can't be sent, ever; others can. The message fails.
	ErrInvalid ErrorKind = "invalid"
	// ErrRecipient: the customer can't be reached (blocked, unknown, left). The
	// message fails and the customer is marked unreachable until they write again.
	ErrRecipient ErrorKind = "recipient"
	// ErrAccount: the account can't send at all (token revoked, bot banned, no
	// money). The account is paused with an alarm; its queue is kept.
	ErrAccount ErrorKind = "account"
	// ErrThrottled: certainly not sent; wait RetryAfter, then send the same again.
	ErrThrottled ErrorKind = "throttled"
	// ErrUnavailable: certainly not sent, for a reason that passes (no
	// connection, server restarting before it read us). Retried with backoff.
	ErrUnavailable ErrorKind = "unavailable"
	// ErrUncertain: nobody knows whether it was sent (timeout, cut connection,
	// 5xx after the request went out). The account's guarantee decides.
	ErrUncertain ErrorKind = "uncertain"
)

// Error is a classified send error. Detail is safe to show and to log: the
// platform package has removed secrets, message text and phone numbers.
type Error struct {
	Kind       ErrorKind
	Code       string        // the platform's own code, as text
	Detail     string        // the platform's own words
	RetryAfter time.Duration // for ErrThrottled; 0 means "not told"
	// ChatOnly says that a throttle concerns this chat alone; otherwise the whole account waits.
	ChatOnly bool
	Err      error
}

func (e *Error) Error() string {
	s := string(e.Kind)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s = fmt.Sprintf("%s: %v", s, e.Err)
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Failure is the error as the message's reader sees it.
func (e *Error) Failure() *Failure {
	return &Failure{Kind: e.Kind, Code: e.Code, Detail: e.Detail}
}

// Classify finds the *Error in err. An error that no platform classified is
// ErrUncertain: we can't prove that nothing was sent.
func Classify(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: ErrUncertain, Detail: "unclassified error", Err: err}
}
