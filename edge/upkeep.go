package edge

import (
	"context"
	"errors"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

const (
	// upkeepDelay spares processes that only start and stop, and lets the
	// listener answer before a platform is told to call it.
	upkeepDelay = 3 * time.Second
	// upkeepTime bounds one call; reading what was missed takes most of it.
	upkeepTime = 5 * time.Minute
	// upkeepAgain is how soon a failed one is repeated, at most as late as the next.
	upkeepAgain = time.Minute
)

// upkeep looks after every account whose channel needs it, in the one process
// that is elected for the account, until ctx ends.
func (e *Edge) upkeep(ctx context.Context) {
	e.follow(ctx, needsUpkeep, func(ctx context.Context, id string, _ int) {
		e.campaign(ctx, "upkeep-"+id, func(ctx context.Context) { e.keepAccount(ctx, id) })
	})
}

// needsUpkeep reports whether the account's channel is a channels.Keeper. Paused
// accounts are looked after, too: pausing stops sending, not receiving.
func needsUpkeep(o *channels.Opened) bool {
	if o == nil || o.Err != nil {
		return false
	}
	_, ok := o.Channel.(channels.Keeper)
	return ok
}

// keepAccount is one term. Two terms that overlap do no harm: what is stored is
// told apart by its dedup keys.
func (e *Edge) keepAccount(ctx context.Context, id string) {
	for wait := upkeepDelay; sleep(ctx, wait); {
		account, err := e.acc.Get(ctx, id)
		if err != nil || !needsUpkeep(account) {
			wait = upkeepAgain
			continue
		}
		keeper := account.Channel.(channels.Keeper)
		wait = keeper.UpkeepEvery()
		timed, cancel := context.WithTimeout(ctx, upkeepTime)
		var missed []channels.RawUpdate
		err = channels.Contain(func() (err error) {
			missed, err = keeper.Upkeep(timed)
			return err
		})
		cancel()
		if len(missed) > 0 {
			e.log.InfoContext(ctx, "updates that the platform did not deliver were read", "account", id, "updates", len(missed))
			if !e.storeMissed(ctx, id, missed) {
				return
			}
		}
		outcome := "ok"
		if err != nil && ctx.Err() == nil {
			outcome = "failed"
			// A refused token does not pass by itself.
			if failure, ok := errors.AsType[*message.Error](err); !ok || failure.Kind != message.ErrAccount {
				wait = min(wait, upkeepAgain)
			}
			e.log.WarnContext(ctx, "upkeep of an account failed; it will be tried again", "account", id, "error", err)
		}
		if ctx.Err() == nil {
			e.metrics.upkeeps.WithLabelValues(account.Account.Platform, outcome).Inc()
		}
	}
}

// storeMissed insists until the updates are stored: the channel believes them
// handed over. It returns false when ctx ended first.
func (e *Edge) storeMissed(ctx context.Context, id string, missed []channels.RawUpdate) bool {
	for backoff := 100 * time.Millisecond; ; backoff = min(2*backoff, 5*time.Second) {
		err := e.intake.submit(rawUpdates(id, missed))
		if err == nil {
			return true
		}
		e.log.ErrorContext(ctx, "missed updates could not be stored yet", "account", id, "updates", len(missed), "error", err)
		if !sleep(ctx, backoff) {
			return false
		}
	}
}
