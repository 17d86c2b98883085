package channels

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"switchboard/message"
)

// Trace tells whether a request can have reached the other side. Its zero value
// is ready, for one request.
type Trace struct{ started, wrote atomic.Bool }

// Watch returns the context for the request.
func (t *Trace) Watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { t.started.Store(true) },
		WroteHeaders: func() { t.wrote.Store(true) },
	})
}

// Nothing reports that no byte of the request went out, for certain.
func (t *Trace) Nothing() bool { return t.started.Load() && !t.wrote.Load() }

// NoAnswer classifies a call without an answer. what names the call; unsent says
// that no byte of it went out. The address, which may hold a key, is left out.
func NoAnswer(what string, err error, unsent bool) *message.Error {
	err = WithoutAddress(err)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		unsent = true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		unsent = true
	}
	e := &message.Error{Kind: message.ErrUncertain, Detail: what + " got no answer", Err: err}
	if unsent {
		e.Kind, e.Detail = message.ErrUnavailable, what+" could not be sent"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		e.Code = "timeout"
	}
	return e
}

// WithoutAddress takes the address out of an error of an HTTP client.
func WithoutAddress(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// RetryAfter reads the seconds of the header of that name, at most a day, which is
// longer than any message lives; 0 where it doesn't say.
func RetryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseInt(strings.TrimSpace(h.Get("Retry-After")), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, 24*60*60)) * time.Second
}

// EncodeJSON is JSON without the escapes that HTML would need: addresses with "&"
// stay readable in a platform's logs.
func EncodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// WebAddress parses an address of the web; nil for anything else.
func WebAddress(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return nil
	}
	return u
}

// Shorten cuts s to at most n bytes, between characters.
func Shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
