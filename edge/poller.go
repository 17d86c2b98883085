package edge

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/queue"
)

// poll polls the accounts that this process is elected for, until ctx ends.
func (e *Edge) poll(ctx context.Context) {
	e.follow(ctx, polled, func(ctx context.Context, id string, before int) {
		var standIn sync.WaitGroup
		defer standIn.Wait()
		standIn.Go(func() { e.standIn(ctx, id) })
		// Platforms limit first contacts per minute: many accounts start spread
		// out, the first ones at once.
		if sleep(ctx, time.Duration(max(before-5, 0))*200*time.Millisecond) {
			e.campaign(ctx, "poll-"+id, func(ctx context.Context) { e.pollElected(ctx, id) })
		}
	})
}

// follow runs do for every account that is wanted, as long as it is: the list of
// accounts is followed until ctx ends. before is how many were begun before it.
func (e *Edge) follow(ctx context.Context, wanted func(o *channels.Opened) bool, do func(ctx context.Context, id string, before int)) {
	var running sync.WaitGroup
	defer running.Wait()
	stops := map[string]context.CancelFunc{}
	defer func() {
		for _, stop := range stops {
			stop()
		}
	}()
	for begun := 0; ; {
		opened, changed := e.acc.All()
		for id, stop := range stops {
			if !wanted(opened[id]) {
				stop()
				delete(stops, id)
			}
		}
		for id, o := range opened {
			if stops[id] == nil && wanted(o) {
				accountCtx, stop := context.WithCancel(ctx)
				stops[id] = stop
				before := begun
				begun++
				running.Go(func() { do(accountCtx, id, before) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// campaign is bus.Lead until ctx ends.
func (e *Edge) campaign(ctx context.Context, name string, lead func(ctx context.Context)) {
	if err := e.bus.Lead(ctx, name, lead); err != nil && ctx.Err() == nil {
		e.log.ErrorContext(ctx, "campaigning for an account ended", "name", name, "error", err)
	}
}

// refused is the reason of accounts that are paused because the platform does
// not know their token.
const refused = "the platform refuses the token"

// polled reports whether the account is to be polled. Paused accounts are, too:
// pausing stops sending, not receiving; only a refused token stops polling.
func polled(o *channels.Opened) bool {
	if o == nil || o.Err != nil || (o.State == string(switchboard.AccountPaused) && o.Reason == refused) {
		return false
	}
	p, ok := o.Channel.(channels.Poller)
	return ok && p.Polls()
}

// pollAccount is one term as the account's poller. The epoch taken at its start
// fences it: once another has begun, nothing is stored any more, and the
// platform's offset is moved by the newer one only.
func (e *Edge) pollAccount(ctx context.Context, id string) {
	log := e.log.With("account", id)
	e.metrics.polling.Inc()
	defer e.metrics.polling.Dec()
	var epoch, offset int64
	for backoff := 100 * time.Millisecond; ; backoff = min(2*backoff, 5*time.Second) {
		var err error
		if epoch, offset, err = e.store.BeginPolling(ctx, id); err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		log.WarnContext(ctx, "polling can't begin yet", "error", err)
		if !sleep(ctx, backoff) {
			return
		}
	}
	log.InfoContext(ctx, "polling", "epoch", epoch)
	failures := 0
	for ctx.Err() == nil {
		account, err := e.acc.Get(ctx, id)
		if err != nil || !polled(account) {
			sleep(ctx, time.Second)
			continue
		}
		platform := account.Account.Platform
		var pieces []channels.RawUpdate
		next := offset
		err = channels.Contain(func() (err error) {
			pieces, next, err = account.Channel.(channels.Poller).Poll(ctx, offset)
			return err
		})
		if ctx.Err() != nil {
			return // what was got is not confirmed and comes again
		}
		if err != nil {
			failures++
			if !e.pollFailed(ctx, id, platform, err, failures) {
				return
			}
			continue
		}
		e.metrics.polls.WithLabelValues(platform, "ok").Inc()
		failures = 0
		if len(pieces) == 0 && next == offset {
			continue
		}
		if !e.storePolled(ctx, id, epoch, next, rawUpdates(id, pieces)) {
			return
		}
		offset = next
	}
}

// storePolled insists until the updates are stored; the next poll, which makes
// the platform forget them, is not before that. It returns false when the term
// is over.
func (e *Edge) storePolled(ctx context.Context, id string, epoch, next int64, updates []queue.RawUpdate) bool {
	for backoff := 100 * time.Millisecond; ; backoff = min(2*backoff, 5*time.Second) {
		err := e.store.AppendPolled(ctx, id, epoch, next, updates)
		if err == nil {
			e.bus.Wake("lanes")
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if errors.Is(err, queue.ErrFenced) {
			e.log.WarnContext(ctx, "another process polls the account now", "account", id)
			return false
		}
		e.log.ErrorContext(ctx, "polled updates could not be stored yet", "account", id, "updates", len(updates), "error", err)
		if !sleep(ctx, backoff) {
			return false
		}
	}
}

// pollFailed reacts to a failed poll; false ends the term.
func (e *Edge) pollFailed(ctx context.Context, id, platform string, err error, failures int) bool {
	kind, wait := channels.PollUnavailable, time.Duration(0)
	if p, ok := errors.AsType[*channels.PollError](err); ok {
		kind, wait = p.Kind, p.RetryAfter
	}
	e.metrics.polls.WithLabelValues(platform, string(kind)).Inc()
	switch kind {
	case channels.PollUnauthorized:
		e.log.ErrorContext(ctx, "the platform refuses the account; it was paused", "account", id, "error", err)
		if err := e.store.SetAccountState(ctx, id, switchboard.AccountPaused, refused); err != nil {
			e.log.ErrorContext(ctx, "account could not be paused", "account", id, "error", err)
			return sleep(ctx, 5*time.Second)
		}
		e.bus.Wake("accounts")
		return sleep(ctx, 3*time.Second) // until the pause is seen here, too
	case channels.PollConflict:
		// Polling on would only end the other's requests in turn. Stepping back
		// for 1 s, 2 s ... 30 s lets a hand-over settle; an intruder stays visible.
		if wait <= 0 {
			wait = min(time.Second<<min(failures-1, 6), 30*time.Second)
		}
		e.log.ErrorContext(ctx, "something else polls this account with the same token", "account", id, "error", err)
	case channels.PollThrottled:
		if wait <= 0 {
			wait = 5 * time.Second
		}
		e.log.WarnContext(ctx, "poll throttled", "account", id, "wait", wait)
	default:
		// 0.5 s, 1 s, 2 s ... 30 s
		wait = min(500*time.Millisecond<<min(failures-1, 6), 30*time.Second)
		level := e.log.InfoContext
		if failures >= 3 {
			level = e.log.WarnContext
		}
		level(ctx, "poll failed", "account", id, "failures", failures, "error", err)
	}
	return sleep(ctx, wait+time.Duration(rand.Int64N(int64(200*time.Millisecond))))
}

// sleep waits for d; false means that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
