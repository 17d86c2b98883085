package simulator

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// Request is one call that an account received, as recorded.
type Request struct {
	Seq         int64             `json:"seq"` // of the account, from 1
	At          time.Time         `json:"at"`
	Method      string            `json:"method"` // the platform's, as its documents spell it
	HTTPMethod  string            `json:"http_method"`
	Path        string            `json:"path"` // token redacted
	Customer    string            `json:"customer,omitempty"`
	Params      map[string]string `json:"params,omitempty"` // Telegram; nested values are JSON text
	Body        json.RawMessage   `json:"body,omitempty"`   // Viber
	Files       []FileInfo        `json:"files,omitempty"`  // uploaded with the call
	Status      int               `json:"status"`           // HTTP; 0 when the connection was cut
	Code        int               `json:"code"`             // Telegram's error_code or Viber's status; 0 is success
	Description string            `json:"description,omitempty"`
	Fault       string            `json:"fault,omitempty"` // the injected one
	Took        time.Duration     `json:"took_ns"`
}

// FileInfo is a file as the simulator saw it.
type FileInfo struct {
	Field  string `json:"field,omitempty"`
	Name   string `json:"name,omitempty"`
	MIME   string `json:"mime,omitempty"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"` // lower-case hex
	URL    string `json:"url,omitempty"`    // when the platform had to fetch it
	FileID string `json:"file_id,omitempty"`
	Error  string `json:"error,omitempty"` // why the platform could not fetch it
}

// Callback is one attempt to deliver an update to the account's webhook.
type Callback struct {
	Seq      int64           `json:"seq"`
	At       time.Time       `json:"at"`
	Customer string          `json:"customer,omitempty"`
	Event    string          `json:"event"`
	Attempt  int             `json:"attempt"` // from 1
	Status   int             `json:"status"`  // 0: no answer
	Error    string          `json:"error,omitempty"`
	Fault    string          `json:"fault,omitempty"`
	Body     json.RawMessage `json:"body,omitempty"`
	Answer   string          `json:"answer,omitempty"` // the first KiB
	Took     time.Duration   `json:"took_ns"`
}

// SecondCount is what an account received in one second by the simulator's clock.
type SecondCount struct {
	Second    int64 `json:"second"` // Unix
	Requests  int   `json:"requests"`
	Sends     int   `json:"sends"` // messages accepted; a group of n counts n
	Throttled int   `json:"throttled"`
}

// Rates is what an account received, counted.
type Rates struct {
	Requests  int64         `json:"requests"`
	Sends     int64         `json:"sends"`
	Throttled int64         `json:"throttled"`
	PerSecond []SecondCount `json:"per_second"` // last hour, seconds with traffic only
	// Sends are counted by when their requests arrived, also when a fault delayed them.
	// MaxPerSecond is the most sends in any second on the clock's grid, and
	// MaxSliding in any window of one second; Customer likewise for the busiest
	// customer. Sliding figures look at the last 65,536 sends.
	MaxPerSecond       int `json:"max_per_second"`
	MaxSliding         int `json:"max_sliding"`
	MaxSlidingCustomer int `json:"max_sliding_customer"`
}

// ring keeps the last max values.
type ring[T any] struct {
	buf   []T
	next  int
	total int64
	max   int
}

func (r *ring[T]) push(v T) {
	r.total++
	if r.max <= 0 {
		return
	}
	if len(r.buf) < r.max {
		r.buf = append(r.buf, v)
		return
	}
	r.buf[r.next] = v
	r.next = (r.next + 1) % r.max
}

// all returns the kept values, oldest first.
func (r *ring[T]) all() []T {
	out := make([]T, 0, len(r.buf))
	out = append(out, r.buf[r.next:]...)
	return append(out, r.buf[:r.next]...)
}

func (r *ring[T]) clear() { r.buf, r.next = nil, 0 }

const (
	keptSends   = 1 << 16
	keptSeconds = 3600
)

type sendStamp struct {
	ns       int64
	customer uint64
}

// recorder holds what one account received.
type recorder struct {
	changed signal

	mu        sync.Mutex
	requests  ring[Request]
	callbacks ring[Callback]
	seq, cseq int64

	rmu       sync.Mutex // counters apart from records: the benchmark's only lock here
	total     int64
	sends     int64
	throttled int64
	seconds   [keptSeconds]SecondCount
	stamps    ring[sendStamp]
}

func (r *recorder) init(keep int) {
	r.requests.max = keep
	r.callbacks.max = keep
	r.stamps.max = keptSends
}

func (r *recorder) slot(at time.Time) *SecondCount {
	sec := at.Unix()
	s := &r.seconds[sec%keptSeconds]
	if s.Second != sec {
		*s = SecondCount{Second: sec}
	}
	return s
}

func (r *recorder) countRequest(at time.Time) {
	r.rmu.Lock()
	r.total++
	r.slot(at).Requests++
	r.rmu.Unlock()
}

// countSend counts a message by when its request arrived, however late it was taken in.
func (r *recorder) countSend(at time.Time, customer uint64) {
	r.rmu.Lock()
	r.sends++
	r.slot(at).Sends++
	r.stamps.push(sendStamp{at.UnixNano(), customer})
	r.rmu.Unlock()
}

func (r *recorder) countThrottled(at time.Time) {
	r.rmu.Lock()
	r.throttled++
	r.slot(at).Throttled++
	r.rmu.Unlock()
}

func (r *recorder) add(rec Request) {
	if r.requests.max <= 0 {
		return
	}
	r.mu.Lock()
	r.seq++
	rec.Seq = r.seq
	r.requests.push(rec)
	r.mu.Unlock()
	r.changed.broadcast()
}

func (r *recorder) addCallback(cb Callback) {
	if r.callbacks.max <= 0 {
		return
	}
	r.mu.Lock()
	r.cseq++
	cb.Seq = r.cseq
	r.callbacks.push(cb)
	r.mu.Unlock()
	r.changed.broadcast()
}

func (r *recorder) list(keep func(*Request) bool) []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []Request{}
	for _, q := range r.requests.all() {
		if keep(&q) {
			out = append(out, q)
		}
	}
	return out
}

func (r *recorder) listCallbacks(keep func(*Callback) bool) []Callback {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []Callback{}
	for _, c := range r.callbacks.all() {
		if keep(&c) {
			out = append(out, c)
		}
	}
	return out
}

func (r *recorder) reset() {
	r.mu.Lock()
	r.requests.clear()
	r.callbacks.clear()
	r.mu.Unlock()
	r.rmu.Lock()
	r.total, r.sends, r.throttled = 0, 0, 0
	r.seconds = [keptSeconds]SecondCount{}
	r.stamps.clear()
	r.rmu.Unlock()
}

func (r *recorder) rates() Rates {
	r.rmu.Lock()
	out := Rates{Requests: r.total, Sends: r.sends, Throttled: r.throttled}
	for _, s := range r.seconds {
		if s.Second != 0 {
			out.PerSecond = append(out.PerSecond, s)
			out.MaxPerSecond = max(out.MaxPerSecond, s.Sends)
		}
	}
	r.rmu.Unlock()
	slices.SortFunc(out.PerSecond, func(a, b SecondCount) int { return int(a.Second - b.Second) })
	stamps := r.ordered()
	per := map[uint64]int{}
	first := 0
	for i, s := range stamps {
		for stamps[first].ns <= s.ns-int64(time.Second) {
			per[stamps[first].customer]--
			first++
		}
		per[s.customer]++
		out.MaxSliding = max(out.MaxSliding, i-first+1)
		out.MaxSlidingCustomer = max(out.MaxSlidingCustomer, per[s.customer])
	}
	return out
}

// ordered are the sends that are kept, by their time.
func (r *recorder) ordered() []sendStamp {
	r.rmu.Lock()
	stamps := r.stamps.all()
	r.rmu.Unlock()
	slices.SortFunc(stamps, func(a, b sendStamp) int { return cmp.Compare(a.ns, b.ns) })
	return stamps
}

// Crowd is a second in which an account was sent much.
type Crowd struct {
	End   time.Time // the time of the last send in it
	Sends int
}

// crowded are the windows of one second, each ending with a send, with more than most sends.
func (r *recorder) crowded(most float64) (list []Crowd) {
	stamps, first := r.ordered(), 0
	for i, s := range stamps {
		for stamps[first].ns <= s.ns-int64(time.Second) {
			first++
		}
		if n := i - first + 1; float64(n) > most {
			list = append(list, Crowd{time.Unix(0, s.ns), n})
		}
	}
	return list
}
