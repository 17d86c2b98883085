package simulator

import (
	"context"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// LoadSpec asks for customers who write numbered texts. The texts look like
// "L1 c17 #42": run, customer, number; numbers of a customer rise by one.
type LoadSpec struct {
	Platform  string  `json:"platform"`
	Account   string  `json:"account"`
	Customers int     `json:"customers"` // default 10; new ones, who have started the bot
	Rate      float64 `json:"rate"`      // messages a second, all customers together
	Count     int     `json:"count"`     // messages in all; 0: only check what the bot sends
	Prefix    string  `json:"prefix"`    // in front of each text
	// MaxPending holds the customers back while so many messages are not
	// acknowledged; default 100,000.
	MaxPending int `json:"max_pending"`
}

// LoadReport tells how a load run went. Everything is exact; latencies are
// upper bounds of buckets that double.
type LoadReport struct {
	ID        string  `json:"id"`
	Platform  string  `json:"platform"`
	Account   string  `json:"account"`
	Customers int     `json:"customers"`
	Running   bool    `json:"running"`
	Sent      int64   `json:"sent"`
	Dropped   int64   `json:"dropped"` // the account did not want them
	Acked     int64   `json:"acked"`   // webhook answered 2xx, or a higher offset polled
	Pending   int64   `json:"pending"`
	Seconds   float64 `json:"seconds"` // first message to last acknowledgement
	PerSecond float64 `json:"acked_per_second"`
	P50       Delay   `json:"p50"` // from sending to acknowledgement
	P99       Delay   `json:"p99"`

	// Echo checks the numbers ("#42") in what the bot sent to these customers:
	// each customer should get 1, 2, 3 ... once and in order.
	Echo EchoReport `json:"echo"`
	IDs  []string   `json:"customer_ids,omitempty"`
}

// EchoReport is about numbered messages from the bot.
type EchoReport struct {
	Received   int64 `json:"received"`
	Distinct   int64 `json:"distinct"`
	Missing    int64 `json:"missing"` // below the highest number of each customer
	Duplicates int64 `json:"duplicates"`
	OutOfOrder int64 `json:"out_of_order"` // a number lower than one received before, duplicates aside
}

// tracker counts a load's messages on their way. A nil tracker does nothing.
type tracker struct {
	sentN, ackedN atomic.Int64
	first, last   atomic.Int64 // Unix nanoseconds
	hist          [64]atomic.Int64
}

func (t *tracker) sent(at time.Time) {
	if t == nil {
		return
	}
	t.sentN.Add(1)
	t.first.CompareAndSwap(0, at.UnixNano())
}

func (t *tracker) acked(d time.Duration) {
	if t == nil {
		return
	}
	t.ackedN.Add(1)
	t.last.Store(time.Now().UnixNano())
	t.hist[bits.Len64(uint64(max(d, 0)))%64].Add(1)
}

func (t *tracker) quantile(q float64) Delay {
	var total int64
	for i := range t.hist {
		total += t.hist[i].Load()
	}
	if total == 0 {
		return 0
	}
	want, n := int64(q*float64(total)), int64(0)
	for i := range t.hist {
		if n += t.hist[i].Load(); n > want {
			return Delay(uint64(1) << min(i, 62))
		}
	}
	return Delay(uint64(1) << 62)
}

// echoCheck follows the numbers that one customer receives.
type echoCheck struct {
	mu   sync.Mutex
	seen []uint64 // bitmap
	max  int64
	rep  EchoReport
}

// maxEcho bounds the bitmap; higher numbers are only counted.
const maxEcho = 10_000_000

func (e *echoCheck) check(text string) {
	i := strings.LastIndexByte(text, '#')
	if i < 0 {
		return
	}
	end := i + 1
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(text[i+1:end], 10, 64)
	if err != nil || n < 1 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rep.Received++
	if n > maxEcho {
		return
	}
	for int(n/64) >= len(e.seen) {
		e.seen = append(e.seen, 0)
	}
	switch bit := uint64(1) << (n % 64); {
	case e.seen[n/64]&bit != 0:
		e.rep.Duplicates++
		return
	default:
		e.seen[n/64] |= bit
	}
	e.rep.Distinct++
	if n < e.max {
		e.rep.OutOfOrder++
	}
	e.max = max(e.max, n)
}

func (e *echoCheck) report() EchoReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.rep
	r.Missing = e.max - r.Distinct
	return r
}

type loadSet struct {
	mu   sync.Mutex
	runs []*loadRun
}

type loadRun struct {
	id      string
	spec    LoadSpec
	acct    account
	people  []customer
	echo    []*echoCheck
	track   tracker
	dropped atomic.Int64
	stop    chan struct{}
	once    sync.Once
	running atomic.Bool
}

// StartLoad lets customers write; Report tells how it goes. The error says
// what is wrong with the spec.
func (s *Simulator) StartLoad(spec LoadSpec) (id string, err error) {
	p, ok := s.platforms[spec.Platform]
	if !ok {
		return "", fmt.Errorf("load: platform %q is not known", spec.Platform)
	}
	a, ok := p.find(spec.Account)
	if !ok {
		return "", fmt.Errorf("load: no such account of %s", spec.Platform)
	}
	if spec.Customers == 0 {
		spec.Customers = 10
	}
	if spec.Customers < 0 || spec.Customers > 1_000_000 || spec.Count < 0 || spec.Rate < 0 || spec.Count > 0 && spec.Rate == 0 {
		return "", fmt.Errorf("load: want 1 to 1,000,000 customers, and a rate above 0 with a count")
	}
	if spec.MaxPending == 0 {
		spec.MaxPending = 100_000
	}
	run := &loadRun{spec: spec, acct: a, stop: make(chan struct{})}
	for i := range spec.Customers {
		c, err := a.addCustomer(CustomerSpec{FirstName: "Load", LastName: strconv.Itoa(i + 1), Started: true})
		if err != nil {
			return "", fmt.Errorf("load: %w", err)
		}
		e := &echoCheck{}
		c.base().echo.Store(e)
		run.people, run.echo = append(run.people, c), append(run.echo, e)
	}
	s.loads.mu.Lock()
	run.id = "L" + strconv.Itoa(len(s.loads.runs)+1)
	s.loads.runs = append(s.loads.runs, run)
	s.loads.mu.Unlock()
	if spec.Count > 0 {
		run.running.Store(true)
		s.spawn(run.write)
	}
	return run.id, nil
}

// StopLoad ends a run's writing; what was sent is still delivered.
func (s *Simulator) StopLoad(id string) error {
	s.loads.mu.Lock()
	defer s.loads.mu.Unlock()
	for _, r := range s.loads.runs {
		if r.id == id {
			r.once.Do(func() { close(r.stop) })
			return nil
		}
	}
	return fmt.Errorf("load %q does not exist", id)
}

// Report tells about all load runs, oldest first.
func (s *Simulator) Report() []LoadReport {
	s.loads.mu.Lock()
	runs := append([]*loadRun(nil), s.loads.runs...)
	s.loads.mu.Unlock()
	out := []LoadReport{}
	for _, r := range runs {
		out = append(out, r.report())
	}
	return out
}

func (r *loadRun) write(ctx context.Context) {
	defer r.running.Store(false)
	// Five milliseconds is fine enough for any rate a machine can take, and
	// coarse enough to cost nothing.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	sent := 0
	for sent < r.spec.Count {
		select {
		case <-ctx.Done():
			return
		case <-r.stop:
			return
		case <-tick.C:
		}
		due := min(int(time.Since(start).Seconds()*r.spec.Rate)+1, r.spec.Count)
		for sent < due {
			if r.track.sentN.Load()-r.track.ackedN.Load() >= int64(r.spec.MaxPending) {
				break
			}
			i := sent % len(r.people)
			text := fmt.Sprintf("%s%s c%d #%d", r.spec.Prefix, r.id, i+1, sent/len(r.people)+1)
			if s, err := r.people[i].say(text, &r.track); err != nil || s.Dropped {
				r.dropped.Add(1)
			}
			sent++
		}
	}
}

func (r *loadRun) report() LoadReport {
	acked := r.track.ackedN.Load()
	out := LoadReport{
		ID: r.id, Platform: r.spec.Platform, Account: r.acct.core().ref, Customers: len(r.people), Running: r.running.Load(),
		Sent: r.track.sentN.Load() + r.dropped.Load(), Dropped: r.dropped.Load(), Acked: acked,
		P50: r.track.quantile(.5), P99: r.track.quantile(.99),
	}
	out.Pending = r.track.sentN.Load() - acked
	if first, last := r.track.first.Load(), r.track.last.Load(); last > first {
		out.Seconds = time.Duration(last - first).Seconds()
		out.PerSecond = float64(acked) / out.Seconds
	}
	for i, e := range r.echo {
		x := e.report()
		out.Echo.Received += x.Received
		out.Echo.Distinct += x.Distinct
		out.Echo.Missing += x.Missing
		out.Echo.Duplicates += x.Duplicates
		out.Echo.OutOfOrder += x.OutOfOrder
		if len(out.IDs) < 1000 {
			out.IDs = append(out.IDs, r.people[i].base().id)
		}
	}
	return out
}
