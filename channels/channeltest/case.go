package channeltest

import (
	"context"
	"net/http"
	"testing"

	"switchboard/channels"
	"switchboard/message"
)

// Case describes a platform to the suite.
type Case struct {
	Platform channels.Platform
	// Settings open a working account. The suite sets api_base to its server,
	// and replaces {{api}} in the values by the server's address.
	Settings map[string]string
	// Chat and Customer are the platform's keys of some chat, for messages that
	// the suite makes up itself.
	Chat, Customer string
	// Answer is the platform when all is well. {{api}} in the body becomes the
	// server's address.
	Answer func(*Request) Response

	Sends      []Send
	Calls      []Call
	Errors     []ErrorRow
	PollErrors []PollErrorRow
	Verify     []VerifyRow
	Fetches    []FetchRow
	// BadSettings are settings that Open must refuse, by name of the setting to
	// blame: {"token": "no colon"}. An empty value is a missing setting.
	BadSettings map[string]string

	// PlainTexts says that a text above buttons is shorter than others: texts at
	// the limit are planned without buttons.
	PlainTexts bool

	// Scrub makes requests comparable that hold something random or the time;
	// it gets the golden file's text. nil: nothing to do.
	Scrub func(string) string
	// Dir holds the golden files; "" is testdata.
	Dir string
}

// Send is an outbound message and, in <Name>.send.json, the requests it makes.
type Send struct {
	Name string
	Out  message.Outbound
	// Refused says that Capabilities.Check must refuse the message; nothing is sent.
	Refused message.RefusalCode
}

// Call is any other use of the channel and, in <Name>.call.json, the requests
// it makes, its result as JSON and its error.
type Call struct {
	Name string
	Do   func(context.Context, channels.Channel) (any, error)
	// Answer replaces Case.Answer; nil keeps it.
	Answer func(*Request) Response
}

// ErrorRow is an answer of the platform to a text message, and what it means.
type ErrorRow struct {
	Name string
	Response
	// Want: Kind, Code, RetryAfter and ChatOnly are compared; Detail only when set.
	Want message.Error
	// Out is sent instead of a short text.
	Out *message.Outbound
}

// PollErrorRow is an answer to Poll, and what it means.
type PollErrorRow struct {
	Name string
	Response
	Want channels.PollError // Kind and RetryAfter are compared
}

// VerifyRow is a callback that Verify accepts or refuses.
type VerifyRow struct {
	Name   string
	Header http.Header
	Query  map[string][]string
	Body   string
	OK     bool
}

// FetchRow is a download of an inbound file. {{api}} in Ref becomes the
// server's address.
type FetchRow struct {
	Name   string
	Ref    string
	Answer func(*Request) Response
	// Body, Size, Mime and FileName are what must come out; Err wins.
	Body     string
	Size     int64 // 0: len(Body)
	Mime     string
	FileName string
	Err      error // errors.Is
}

// Run runs the whole suite.
func Run(t *testing.T, c Case) {
	t.Helper()
	if c.Dir == "" {
		c.Dir = "testdata"
	}
	t.Run("open", c.testOpen)
	t.Run("capabilities", c.testCapabilities)
	t.Run("decode", c.testDecode)
	t.Run("plan", c.testPlan)
	t.Run("limits", c.testLimits)
	t.Run("send", c.testSend)
	t.Run("call", c.testCalls)
	t.Run("errors", c.testErrors)
	t.Run("transport", c.testTransport)
	t.Run("poll", c.testPollErrors)
	t.Run("verify", c.testVerify)
	t.Run("fetch", c.testFetch)
}
