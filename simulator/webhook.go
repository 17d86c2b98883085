package simulator

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// delivery is one update on its way to a webhook.
type delivery struct {
	key      string // deliveries of one key go one after another
	event    string
	customer string
	body     []byte
	expires  time.Time // zero: never
	attempts int
	fault    string
	forged   bool // first attempt with a wrong signature
	lose     bool // ignore the first answer
	// notBefore holds this delivery, and those of its key behind it.
	notBefore time.Time
	// acked is called once, after the first 2xx, with the answer's body.
	acked func(body []byte)
}

// dispatcher delivers an account's updates to its webhook: in order for each
// key, keys in parallel, every one until it is acknowledged or expires.
type dispatcher struct {
	sim  *Simulator
	acct *accountCore
	// immediate is how many retries come without a pause.
	immediate int
	// prepare adds the platform's headers; forged asks for a wrong signature.
	prepare func(h http.Header, body []byte, forged bool)
	// accepts tells whether a status acknowledges the update.
	accepts func(status int) bool
	// confirms tells whether the answer's body does; nil: the status is enough.
	confirms func(answer []byte) bool
	// rewrite makes the body that is sent, where it holds a secret; nil: as it is.
	rewrite func(body []byte, forged bool) []byte
	// gone is called when the receiver answers 410.
	gone func()

	mu      sync.Mutex
	url     string
	max     int // parallel deliveries
	queues  map[string]*hookQueue
	ready   []*hookQueue
	workers int
	epoch   int // rises with start and stop, so that late results of an old webhook change nothing
	pending int

	lastError   string
	lastErrorAt time.Time
}

type hookQueue struct {
	key     string
	items   []*delivery
	held    []*delivery // reordered: wait for the next item
	busy    bool        // with a worker, in ready, or waiting for a retry
	retries int
}

func (d *dispatcher) start(url string, parallel int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.url, d.max = url, parallel
	d.epoch++
	if d.queues == nil {
		d.queues = map[string]*hookQueue{}
	}
	d.lastError = ""
	// What waited for a retry at the old address goes out at once.
	d.ready = nil
	for _, q := range d.queues {
		q.retries, q.busy = 0, len(q.items) > 0
		if q.busy {
			d.ready = append(d.ready, q)
		}
	}
	d.kick()
}

// stop forgets the webhook and everything queued for it.
func (d *dispatcher) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch++
	d.url, d.queues, d.ready, d.pending = "", map[string]*hookQueue{}, nil, 0
}

func (d *dispatcher) add(v *delivery) {
	f := d.sim.faults.match(true, d.acct, v.event, v.customer)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.url == "" {
		return
	}
	q := d.queues[v.key]
	if q == nil {
		q = &hookQueue{key: v.key}
		d.queues[v.key] = q
	}
	if f != nil {
		v.fault = f.Kind
		switch f.Kind {
		case FaultDrop:
			return
		case FaultDuplicate:
			twin := *v
			twin.acked = nil
			d.push(q, v)
			v = &twin
		case FaultReorder:
			d.pending++
			q.held = append(q.held, v)
			wait := time.Duration(f.Delay)
			if wait == 0 {
				wait = time.Second
			}
			epoch := d.epoch
			d.sim.after(wait, func() { d.release(q, epoch) })
			return
		case FaultWebhookDelay:
			v.notBefore = time.Now().Add(time.Duration(f.Delay))
		case FaultBadSignature:
			v.forged = true
		case FaultLostAnswer:
			v.lose = true
		}
	}
	d.push(q, v)
	d.flush(q)
}

// push appends v; d.mu is held.
func (d *dispatcher) push(q *hookQueue, v *delivery) {
	d.pending++
	q.items = append(q.items, v)
	if !q.busy {
		q.busy = true
		d.ready = append(d.ready, q)
		d.kick()
	}
}

// flush puts reordered deliveries behind what came after them; d.mu is held.
func (d *dispatcher) flush(q *hookQueue) {
	for _, h := range q.held {
		d.pending--
		d.push(q, h)
	}
	q.held = nil
}

func (d *dispatcher) release(q *hookQueue, epoch int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch == epoch {
		d.flush(q)
	}
}

func (d *dispatcher) requeue(q *hookQueue, epoch int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch == epoch {
		d.ready = append(d.ready, q)
		d.kick()
	}
}

// kick starts workers as needed; d.mu is held.
func (d *dispatcher) kick() {
	// Workers leave when nothing is ready, so those that exist are busy.
	for n := 0; n < len(d.ready) && d.workers < d.max; n++ {
		d.workers++
		d.sim.spawn(d.work)
	}
}

func (d *dispatcher) work(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if len(d.ready) == 0 || ctx.Err() != nil || d.workers > d.max {
			d.workers--
			return
		}
		q := d.ready[0]
		d.ready[0] = nil
		d.ready = d.ready[1:]
		if len(q.items) == 0 {
			q.busy = false
			continue
		}
		v, url, epoch := q.items[0], d.url, d.epoch
		if wait := time.Until(v.notBefore); !v.notBefore.IsZero() && wait > 0 {
			d.sim.after(wait, func() { d.requeue(q, epoch) })
			continue
		}
		v.attempts++
		d.mu.Unlock()
		ok, retryAfter, answer, problem := d.post(ctx, url, v)
		if ok && v.acked != nil {
			v.acked(answer)
		}
		d.mu.Lock()
		if d.epoch != epoch {
			// The webhook was changed meanwhile. An acknowledged update is done
			// all the same; start has put the queue into ready.
			if ok && d.queues[q.key] == q {
				d.drop(q, v)
			}
			continue
		}
		if ok || !v.expires.IsZero() && time.Now().After(v.expires) {
			d.drop(q, v)
			q.retries = 0
		} else {
			d.lastError, d.lastErrorAt = problem, time.Now()
			q.retries++
		}
		switch {
		case len(q.items) == 0:
			q.busy = false
			if len(q.held) == 0 {
				delete(d.queues, q.key)
			}
		case q.retries > d.immediate || retryAfter > 0:
			wait := max(d.backoff(q.retries-d.immediate), retryAfter)
			d.sim.after(wait, func() { d.requeue(q, epoch) })
		default:
			d.ready = append(d.ready, q)
		}
	}
}

func (d *dispatcher) drop(q *hookQueue, v *delivery) {
	if i := slices.Index(q.items, v); i >= 0 {
		d.pending--
		q.items[i] = nil
		if i == 0 {
			q.items = q.items[1:]
		} else {
			q.items = slices.Delete(q.items, i, i+1)
		}
	}
}

// backoff doubles from RetryBase up to RetryMax plus up to as much again.
func (d *dispatcher) backoff(n int) time.Duration {
	w := d.sim.cfg.RetryBase << min(max(n-1, 0), 20)
	if m := d.sim.cfg.RetryMax; w <= 0 || w > m {
		w = m + time.Duration(d.sim.rnd.float()*float64(m))
	}
	return w
}

func (d *dispatcher) post(ctx context.Context, url string, v *delivery) (ok bool, retryAfter time.Duration, answer []byte, problem string) {
	started := time.Now()
	cb := Callback{At: started, Customer: v.customer, Event: v.event, Attempt: v.attempts, Fault: v.fault}
	forged, body := v.forged && v.attempts == 1, v.body
	if d.rewrite != nil {
		body = d.rewrite(body, forged)
	}
	status, answer, header, err := d.sim.postJSON(ctx, url, body, func(h http.Header) {
		d.prepare(h, body, forged)
	})
	cb.Status, cb.Took = status, time.Since(started)
	switch {
	case err != nil:
		problem = err.Error()
	case !d.accepts(status):
		problem = "Wrong response from the webhook: " + strconv.Itoa(status) + " " + http.StatusText(status)
		if s, err := strconv.Atoi(header.Get("Retry-After")); err == nil {
			retryAfter = time.Duration(min(max(s, 0), 3600)) * time.Second
		}
		if status == http.StatusGone && d.gone != nil {
			d.gone()
		}
	case d.confirms != nil && !d.confirms(answer):
		problem = "Wrong response from the webhook: not the body that confirms"
	case v.lose && v.attempts == 1:
		problem = "Read timeout expired"
	default:
		ok = true
	}
	cb.Error = problem
	if d.acct.rec.callbacks.max > 0 {
		cb.Body = shown(v.body)
		cb.Answer = string(answer[:min(len(answer), 1024)])
		d.acct.rec.addCallback(cb)
	}
	return ok, retryAfter, answer, problem
}

// waiting is the number of updates not yet acknowledged, and the last failure.
func (d *dispatcher) waiting() (n int, lastError string, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pending, d.lastError, d.lastErrorAt
}

// postJSON makes one callback; the answer is capped at 1 MiB. status is 0 without an answer.
func (s *Simulator) postJSON(ctx context.Context, url string, body []byte, prepare func(http.Header)) (status int, answer []byte, h http.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.WebhookTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header["Content-Type"] = jsonType
	prepare(req.Header)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, nil, nil, err
	}
	return resp.StatusCode, answer, resp.Header, nil
}
