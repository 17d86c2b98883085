// Package callbacks tells scripts what becomes of their messages: each status that
// a message with a callback_url reaches is posted there as JSON, signed as Standard
// Webhooks have it, until the address accepts it or a day is over.
//
// What is to be told is found by a follower of the events (db/callbacks.go), so the
// way of the messages themselves has no part in it. A delivery is taken by a claim
// that ends by itself: a process that dies between the post and its note leaves one
// that is posted again, under the same webhook-id. The statuses of a message are told
// in order; messages, and hosts, don't wait for each other.
package callbacks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchboard/internal/egress"
	"switchboard/internal/queue"
)

// Follower turns statuses into deliveries; *db.CallbackFollower is one.
type Follower interface {
	Next(ctx context.Context, limit int) (made int, more, blocked bool, err error)
}

// Store is what the deliveries need of the database.
type Store interface {
	ClaimCallbacks(ctx context.Context, limit, room int, rooms map[string]int, after string, lease time.Duration) ([]queue.CallbackClaim, error)
	FinishCallbacks(ctx context.Context, outcomes []queue.CallbackOutcome) error
	PruneCallbacks(ctx context.Context) error
	CallbackCounts(ctx context.Context) (pending, failed int64, due time.Time, err error)
}

// Bus rings doorbells; see package bus.
type Bus interface {
	Wake(topic string)
	Subscribe(topic string) (hints <-chan struct{}, cancel func())
}

// Config sizes the sender. Zero values take the defaults.
type Config struct {
	// Allow lists hosts, host:port pairs and CIDRs outside the public ranges that
	// may be told; see egress.Config.
	Allow []string
	// PerHost is how many posts to a host may be under way; default 8. A host that
	// does not answer gets fewer, down to one.
	PerHost int
	// Senders is how many posts may be under way in all; default 256.
	Senders int
	// Timeout is for one post, its answer included; default 15 s.
	Timeout time.Duration
	// Spare is what a claim lasts beyond its post, for the note; default 15 s.
	Spare time.Duration
	// BackOff is the time between attempts; the default makes eleven of them in 24 h.
	BackOff []time.Duration
	// GiveUp is the age at which a status is not tried again; default 25 h.
	GiveUp time.Duration
}

// backOff adds up to 24 h.
var backOff = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 8 * time.Hour}

// Callbacks posts. Run does it.
type Callbacks struct {
	cfg      Config
	store    Store
	follower Follower
	bus      Bus
	client   *http.Client
	log      *slog.Logger
	metrics  *metrics

	mu    sync.Mutex
	hosts map[string]*host
	busy  int
	done  chan queue.CallbackOutcome
}

// host is what is known of a receiver.
type host struct {
	claimed int           // posts that are under way or wait for a place
	room    int           // posts at once that it is trusted with
	places  chan struct{} // that are free
	debt    int           // places that are still out and will not come back
	silent  int           // failures in a row without any answer
	quick   bool          // the last answer came at once
}

const (
	// A host that answers within quickAnswer has some claimed ahead, as many rounds of
	// its places, so that claims and notes are made for many at once.
	quickAnswer = 250 * time.Millisecond
	ahead       = 4
	// waitMost is how long a post may wait for a place; then another claim gets it.
	waitMost = 5 * time.Second
)

// New returns callbacks that do nothing yet.
func New(cfg Config, store Store, follower Follower, bus Bus, log *slog.Logger, reg prometheus.Registerer) (*Callbacks, error) {
	if cfg.PerHost <= 0 {
		cfg.PerHost = 8
	}
	if cfg.Senders <= 0 {
		cfg.Senders = 256
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.Spare <= 0 {
		cfg.Spare = 15 * time.Second
	}
	if cfg.BackOff == nil {
		cfg.BackOff = backOff
	}
	if cfg.GiveUp <= 0 {
		cfg.GiveUp = 25 * time.Hour
	}
	client, err := egress.NewClient(egress.Config{Allow: cfg.Allow})
	if err != nil {
		return nil, err
	}
	// What is signed for one address is not for another.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Callbacks{cfg: cfg, store: store, follower: follower, bus: bus, client: client, log: log, metrics: newMetrics(reg),
		hosts: map[string]*host{}, done: make(chan queue.CallbackOutcome, cfg.Senders)}, nil
}

// Run follows and posts until ctx ends; posts that are under way then are cut off
// and made again by the next process.
func (c *Callbacks) Run(ctx context.Context) error {
	var running sync.WaitGroup
	running.Go(func() { c.follow(ctx) })
	running.Go(func() { c.housekeeping(ctx) })
	c.deliver(ctx)
	running.Wait()
	return nil
}

const (
	// lookEvery is how long a hint that was lost costs.
	lookEvery = 2 * time.Second
	// gather lets the events of a moment be read at once: a status is not urgent by
	// tenths of a second, and each look costs a transaction.
	gather = 100 * time.Millisecond
	// followBatch is how many events are read at once.
	followBatch = 2000
)

func (c *Callbacks) follow(ctx context.Context) {
	hints, cancel := c.bus.Subscribe("events")
	defer cancel()
	for ctx.Err() == nil {
		made, more, blocked, err := c.follower.Next(ctx, followBatch)
		if err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "statuses for callbacks could not be read", "error", err)
		}
		if made > 0 {
			c.metrics.made.Add(float64(made))
			c.bus.Wake("callbacks")
		}
		switch {
		case err != nil:
			sleep(ctx, lookEvery)
		case more:
		case blocked:
			sleep(ctx, 10*time.Millisecond)
		default:
			select {
			case <-ctx.Done():
			case <-hints:
				sleep(ctx, gather)
			case <-time.After(lookEvery):
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (c *Callbacks) housekeeping(ctx context.Context) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for round := 0; ; round++ {
		if pending, failed, due, err := c.store.CallbackCounts(ctx); err == nil {
			c.metrics.pending.Set(float64(pending))
			c.metrics.failed.Set(float64(failed))
			c.metrics.late.Set(max(time.Since(due).Seconds(), 0))
		} else if ctx.Err() == nil {
			c.log.WarnContext(ctx, "callbacks could not be counted", "error", err)
		}
		if round%10 == 1 {
			if err := c.store.PruneCallbacks(ctx); err != nil && ctx.Err() == nil {
				c.log.WarnContext(ctx, "old callbacks could not be dropped", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// deliver claims what is due, posts it and notes what came of it. Claims and notes
// are made for many at once.
func (c *Callbacks) deliver(ctx context.Context) {
	hints, cancel := c.bus.Subscribe("callbacks")
	defer cancel()
	posts, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	defer func() {
		stop()
		running.Wait()
		c.note(context.WithoutCancel(ctx), c.drain(nil))
	}()
	last := ""
	for ctx.Err() == nil {
		claimed := 0
		if free, rooms := c.rooms(); free > 0 {
			claims, err := c.store.ClaimCallbacks(ctx, free, c.cfg.PerHost, rooms, last, c.cfg.Timeout+c.cfg.Spare)
			if err != nil {
				if ctx.Err() == nil {
					c.log.WarnContext(ctx, "callbacks could not be claimed", "error", err)
				}
				sleep(ctx, lookEvery)
			}
			claimed = len(claims)
			for i := range claims {
				claim := &claims[i]
				last = claim.Host
				h := c.take(claim.Host)
				running.Go(func() { c.done <- c.attempt(posts, claim, h) })
			}
		}
		var outcomes []queue.CallbackOutcome
		if claimed > 0 {
			// Others may be due already; first those that end at once are noted.
			sleep(ctx, 3*time.Millisecond)
			outcomes = c.drain(nil)
		} else {
			select {
			case <-ctx.Done():
			case <-hints:
			case o := <-c.done:
				c.noted(1)
				outcomes = c.drain([]queue.CallbackOutcome{o})
			case <-time.After(lookEvery):
			}
		}
		c.note(ctx, outcomes)
	}
}

// drain adds the outcomes that are there.
func (c *Callbacks) drain(list []queue.CallbackOutcome) []queue.CallbackOutcome {
	for {
		select {
		case o := <-c.done:
			list = append(list, o)
			c.noted(1)
		default:
			return list
		}
	}
}

// note insists on nothing: what could not be noted is posted again, with the same
// id, when its claim ends.
func (c *Callbacks) note(ctx context.Context, outcomes []queue.CallbackOutcome) {
	if len(outcomes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := c.store.FinishCallbacks(ctx, outcomes); err != nil {
		c.log.WarnContext(ctx, "outcomes of callbacks could not be noted; they are posted again", "error", err, "callbacks", len(outcomes))
	}
}

// rooms is how many posts may begin in all, and for the hosts that differ from the
// others.
func (c *Callbacks) rooms() (free int, rooms map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rooms = map[string]int{}
	for name, h := range c.hosts {
		if h.claimed == 0 && h.room == c.cfg.PerHost && !h.quick {
			delete(c.hosts, name)
			continue
		}
		most := h.room
		if h.quick {
			most *= ahead
		}
		rooms[name] = max(most-h.claimed, 0)
	}
	return c.cfg.Senders - c.busy, rooms
}

func (c *Callbacks) take(name string) *host {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[name]
	if h == nil {
		h = &host{room: c.cfg.PerHost, places: make(chan struct{}, c.cfg.PerHost)}
		for range c.cfg.PerHost {
			h.places <- struct{}{}
		}
		c.hosts[name] = h
	}
	h.claimed++
	c.busy++
	return h
}

// place waits for a place at the host; false: there was none for too long.
func (h *host) place(ctx context.Context) bool {
	select {
	case <-h.places:
		return true
	case <-ctx.Done():
		return false
	case <-time.After(waitMost):
		return false
	}
}

// give takes a place back. A host that answers in time is trusted with one more, one
// that does not with half as many. took is how long that was; 0: nothing was posted.
func (c *Callbacks) give(h *host, answered bool, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.claimed--
	back := 1
	switch {
	case took == 0:
	case answered:
		if h.silent, h.quick = 0, took < quickAnswer; h.room < c.cfg.PerHost {
			h.room++
			back++
		}
	default:
		less := h.room - max(h.room/2, 1)
		h.room, h.silent, h.quick, h.debt = h.room-less, h.silent+1, false, h.debt+less
	}
	for ; back > 0; back-- {
		if h.debt > 0 {
			h.debt--
		} else {
			h.places <- struct{}{}
		}
	}
}

// noted frees the places of outcomes that were taken off done.
func (c *Callbacks) noted(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy -= n
}

func (c *Callbacks) isSilent(h *host) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return h.silent >= 10
}

// attempt posts once.
func (c *Callbacks) attempt(ctx context.Context, claim *queue.CallbackClaim, h *host) queue.CallbackOutcome {
	o := queue.CallbackOutcome{Claim: claim}
	if !h.place(ctx) {
		c.mu.Lock()
		h.claimed--
		c.mu.Unlock()
		o.Undone = true
		return o
	}
	age := time.Since(claim.CreatedAt)
	if age > c.cfg.GiveUp && c.isSilent(h) {
		// Nobody was there for a day, and nobody is now: the others get their turn.
		c.give(h, false, 0)
		o.Error = "given up: the host answered nothing for too long"
		c.metrics.attempts.WithLabelValues("given_up").Inc()
		return o
	}
	began := time.Now()
	code, after, err := c.post(ctx, claim)
	took := max(time.Since(began), 1)
	if errors.Is(err, errNoSecret) {
		took = 0
	}
	if ctx.Err() != nil { // we are stopping; nothing is known
		c.give(h, false, 0)
		o.Undone = true
		return o
	}
	c.give(h, code != 0, took)
	c.metrics.seconds.Observe(time.Since(began).Seconds())
	o.Code = code
	switch {
	case err == nil && code >= 200 && code < 300:
		c.metrics.attempts.WithLabelValues("accepted").Inc()
		return o
	case err == nil && code == http.StatusGone:
		o.Error, o.Gone = "410 Gone", true
		c.metrics.attempts.WithLabelValues("gone").Inc()
		return o
	case err != nil:
		o.Error = reason(err)
	default:
		o.Error = strconv.Itoa(code) + " " + http.StatusText(code)
		if code >= 300 && code < 400 {
			o.Error += ": redirects are not followed"
		}
	}
	if claim.Attempt > len(c.cfg.BackOff) || age > c.cfg.GiveUp {
		o.Error = "given up after " + strconv.Itoa(claim.Attempt) + " attempts: " + o.Error
		c.metrics.attempts.WithLabelValues("given_up").Inc()
		return o
	}
	o.After = max(jitter(c.cfg.BackOff[claim.Attempt-1]), min(after, c.cfg.GiveUp-age), time.Millisecond)
	c.metrics.attempts.WithLabelValues("retry").Inc()
	return o
}

// jitter spreads what failed together by up to a tenth.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/10+1))
}

// answerMost is how much of an answer is read; what it says is of no interest.
const answerMost = 16 << 10

var errNoSecret = errors.New("there is no callback secret to sign with: make one with `switchboard apikey secret`, with the key's id, or without one for campaigns that people made")

func (c *Callbacks) post(ctx context.Context, claim *queue.CallbackClaim) (code int, after time.Duration, err error) {
	if len(claim.Secrets) == 0 {
		return 0, 0, errNoSecret
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, claim.URL, bytes.NewReader(claim.Payload))
	if err != nil {
		return 0, 0, errors.New("callback_url is no address")
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Switchboard-Callbacks/1")
	req.Header.Set("Webhook-Id", claim.ID)
	req.Header.Set("Webhook-Timestamp", at)
	req.Header.Set("Webhook-Signature", Sign(claim.Secrets, claim.ID, at, claim.Payload))
	res, err := c.client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, answerMost)
	return res.StatusCode, retryAfter(res.Header.Get("Retry-After")), nil
}

// Sign is the Webhook-Signature of a payload: one signature per secret.
func Sign(secrets [][]byte, id, timestamp string, payload []byte) string {
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.", id, timestamp)
		mac.Write(payload)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(v string) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSpace(v)); err == nil {
		return time.Duration(min(max(n, 0), 7*24*3600)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// reason is an error without the address, which may hold what is secret.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	text := egress.Redact(err).Error()
	if blocked, ok := errors.AsType[*egress.BlockedError](err); ok {
		text = blocked.Error()
	}
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "")
	}
	return text
}

type metrics struct {
	made                  prometheus.Counter
	attempts              *prometheus.CounterVec
	seconds               prometheus.Histogram
	pending, failed, late prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		made: prometheus.NewCounter(prometheus.CounterOpts{Name: "switchboard_callbacks_total", Help: "Statuses that scripts are to be told."}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_callback_attempts_total",
			Help: "Posts of statuses by outcome: accepted, retry, given_up, gone (410). Alert on given_up: a script was not told."}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "switchboard_callback_seconds",
			Help: "Time of one post to a script.", Buckets: prometheus.ExponentialBuckets(0.002, 2, 14)}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{Name: "switchboard_callbacks_pending", Help: "Messages with a status that their script was not told yet, in the whole installation."}),
		failed:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "switchboard_callbacks_failed", Help: "Statuses given up in the last thirty days, in the whole installation."}),
		late:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "switchboard_callbacks_late_seconds", Help: "How long the status is due that waits longest for its post. Alert when it grows: receivers are slow, or nobody posts."}),
	}
	if r != nil {
		r.MustRegister(m.made, m.attempts, m.seconds, m.pending, m.failed, m.late)
	}
	return m
}
