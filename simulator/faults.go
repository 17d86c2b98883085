package simulator

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// The kinds of faults. The first group answers a request wrongly, the second
// breaks its connection, the third bends a webhook delivery.
const (
	FaultThrottle     = "throttle"     // 429 with retry_after; Viber with Code: that status in a 200
	FaultError        = "error"        // Status (default 500) in the platform's own JSON, with Code and Description
	FaultHTML         = "html"         // Status (default 502) with an HTML page, as a proxy in front would
	FaultUnauthorized = "unauthorized" // the token is revoked: 401, or Viber's status 2
	FaultForbidden    = "forbidden"    // 403 with Description; Viber's status 7
	FaultBlocked      = "blocked"      // the customer has blocked the bot: 403, or Viber's status 6

	FaultSlow      = "slow"       // answers right, after Delay
	FaultHang      = "hang"       // not accepted; no answer until the client gives up
	FaultHangAfter = "hang_after" // accepted; no answer until the client gives up
	FaultCut       = "cut"        // not accepted; the connection is closed
	FaultCutAfter  = "cut_after"  // accepted; the connection is closed instead of the answer

	FaultDuplicate    = "webhook_duplicate" // the update is delivered twice
	FaultReorder      = "webhook_reorder"   // the update comes after the customer's next one (or after Delay, default 1 s)
	FaultWebhookDelay = "webhook_delay"     // the update comes Delay later, and those behind it too
	FaultBadSignature = "webhook_forged"    // the first attempt carries a wrong signature or secret
	FaultLostAnswer   = "webhook_lost"      // the answer to the first attempt is ignored, so the update comes again
	FaultDrop         = "webhook_drop"      // the update is never delivered
)

var faultKinds = []string{
	FaultThrottle, FaultError, FaultHTML, FaultUnauthorized, FaultForbidden, FaultBlocked,
	FaultSlow, FaultHang, FaultHangAfter, FaultCut, FaultCutAfter,
	FaultDuplicate, FaultReorder, FaultWebhookDelay, FaultBadSignature, FaultLostAnswer, FaultDrop,
}

// Fault is a rule. Empty selectors match everything; of several rules that
// match, the oldest one applies.
type Fault struct {
	ID       string `json:"id"` // given by the simulator
	Kind     string `json:"kind"`
	Platform string `json:"platform,omitempty"`
	Account  string `json:"account,omitempty"`  // token, its public part, or the account's name
	Method   string `json:"method,omitempty"`   // for webhook kinds: the event
	Customer string `json:"customer,omitempty"` // chat id or user id

	After       int     `json:"after,omitempty"`       // lets this many matches pass first
	Count       int     `json:"count,omitempty"`       // applies so many times; 0: without end
	Probability float64 `json:"probability,omitempty"` // 0 means 1

	Status      int    `json:"status,omitempty"`
	Code        int    `json:"code,omitempty"`
	Description string `json:"description,omitempty"`
	RetryAfter  int    `json:"retry_after,omitempty"` // seconds
	Delay       Delay  `json:"delay,omitempty"`

	Applied int `json:"applied"` // so far
}

// Delay is a duration that JSON writes as "1.5s".
type Delay time.Duration

// MarshalText renders the duration as time.Duration does.
func (d Delay) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Delay) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("delay %q: write it as 500ms or 2s", b)
	}
	*d = Delay(v)
	return nil
}

type faultSet struct {
	any  atomic.Bool // spares the hot path the lock
	rnd  *lockedRand
	mu   sync.Mutex
	next int
	list []*faultRule
}

type faultRule struct {
	Fault
	matched int
}

// Fault adds a rule and returns its id. The error names a kind that does not exist.
func (s *Simulator) Fault(f Fault) (string, error) {
	if !slices.Contains(faultKinds, f.Kind) {
		return "", fmt.Errorf("fault kind %q: want one of %q", f.Kind, faultKinds)
	}
	if f.Probability < 0 || f.Probability > 1 {
		return "", fmt.Errorf("fault probability %v: want 0 to 1", f.Probability)
	}
	fs := &s.faults
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.next++
	f.ID, f.Applied = "f"+strconv.Itoa(fs.next), 0
	fs.list = append(fs.list, &faultRule{Fault: f})
	fs.any.Store(true)
	return f.ID, nil
}

// Faults lists the rules with how often each has applied.
func (s *Simulator) Faults() []Fault {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	out := []Fault{}
	for _, r := range s.faults.list {
		out = append(out, r.Fault)
	}
	return out
}

// ClearFaults removes the rules with these ids, or all without any.
func (s *Simulator) ClearFaults(ids ...string) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = slices.DeleteFunc(s.faults.list, func(r *faultRule) bool {
		return len(ids) == 0 || slices.Contains(ids, r.ID)
	})
	s.faults.any.Store(len(s.faults.list) > 0)
}

// match finds the rule for a request or, with webhook set, for a delivery.
func (fs *faultSet) match(webhook bool, a *accountCore, method string, customers ...string) *Fault {
	if !fs.any.Load() {
		return nil
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, r := range fs.list {
		if isWebhookFault(r.Kind) != webhook ||
			r.Platform != "" && r.Platform != a.platform ||
			r.Account != "" && !a.is(r.Account) ||
			r.Method != "" && !equalFold(r.Method, method) ||
			r.Customer != "" && !slices.Contains(customers, r.Customer) ||
			r.Count > 0 && r.Applied >= r.Count {
			continue
		}
		r.matched++
		if r.matched <= r.After {
			continue
		}
		if r.Probability > 0 && fs.rnd.float() >= r.Probability {
			continue
		}
		r.Applied++
		f := r.Fault
		return &f
	}
	return nil
}

func isWebhookFault(kind string) bool {
	switch kind {
	case FaultDuplicate, FaultReorder, FaultWebhookDelay, FaultBadSignature, FaultLostAnswer, FaultDrop:
		return true
	}
	return false
}

// call is one platform request on its way through a handler.
type call struct {
	acct  *accountCore
	w     http.ResponseWriter
	r     *http.Request
	start time.Time
	rec   Request
	keep  bool
	fault *Fault
}

// begin counts a request and prepares its record.
func (s *Simulator) begin(w http.ResponseWriter, r *http.Request, a *accountCore, method, path string) *call {
	c := &call{acct: a, w: w, r: r, start: time.Now()}
	a.rec.countRequest(c.start)
	c.keep = a.rec.requests.max > 0
	if c.keep {
		c.rec = Request{At: c.start, Method: method, HTTPMethod: r.Method, Path: path}
	}
	return c
}

// inject applies a matching fault that comes before acceptance. Done: the
// request has been dealt with. The caller renders the kinds that need the
// platform's own words, found in c.fault.
func (c *call) inject(s *Simulator, method string, customers ...string) (done bool) {
	f := s.faults.match(false, c.acct, method, customers...)
	if s.cfg.Latency > 0 && !s.wait(c.r.Context(), s.cfg.Latency) {
		c.abort()
	}
	if f == nil {
		return false
	}
	c.fault = f
	c.rec.Fault = f.Kind
	switch f.Kind {
	case FaultSlow:
		if !s.wait(c.r.Context(), time.Duration(f.Delay)) {
			c.abort()
		}
	case FaultHang:
		s.hang(c)
	case FaultCut:
		c.abort()
	case FaultHTML:
		status := f.Status
		if status == 0 {
			status = http.StatusBadGateway
		}
		text := http.StatusText(status)
		c.w.Header().Set("Content-Type", "text/html")
		c.write(status, 0, f.Description, fmt.Appendf(nil,
			"<html>\r\n<head><title>%d %s</title></head>\r\n<body>\r\n<center><h1>%d %s</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
			status, text, status, text))
		return true
	}
	return false
}

func (s *Simulator) hang(c *call) {
	select {
	case <-c.r.Context().Done():
	case <-s.stopped:
	}
	c.abort()
}

// abort records the request and closes its connection without an answer.
func (c *call) abort() {
	c.finish(0, 0, "connection closed")
	panic(http.ErrAbortHandler)
}

func (c *call) finish(status, code int, description string) {
	if !c.keep {
		return
	}
	c.rec.Status, c.rec.Code, c.rec.Description = status, code, description
	c.rec.Took = time.Since(c.start)
	c.acct.rec.add(c.rec)
}

// respond ends a request that was accepted: with its answer, or with the fault
// that loses the answer.
func (s *Simulator) respond(c *call, status, code int, description string, body []byte) {
	if c.fault != nil {
		switch c.fault.Kind {
		case FaultCutAfter:
			c.abort()
		case FaultHangAfter:
			s.hang(c)
		}
	}
	if status == http.StatusTooManyRequests {
		c.acct.rec.countThrottled(c.start)
	}
	if c.w.Header()["Content-Type"] == nil {
		c.w.Header()["Content-Type"] = jsonType
	}
	c.write(status, code, description, body)
}

var jsonType = []string{"application/json"}

func (c *call) write(status, code int, description string, body []byte) {
	// Recorded first: whoever has the answer finds the record.
	c.finish(status, code, description)
	c.w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.w.WriteHeader(status)
	c.w.Write(body) //nolint:errcheck // the client may have gone
}
