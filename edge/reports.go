package edge

import (
	"context"
	"errors"
	"slices"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// Reports get lost: a platform repeats a callback a few times, for half an hour at
// best. So the one process that is elected for an account asks what became of the
// messages that the platform took and said nothing of, where the platform can be
// asked (channels.Reporter). What it answers goes the way of all updates.
//
// A message is asked about at certain ages (Config.ReportAges). That needs no note
// per message: who looks every minute asks about those that reached one of the ages
// since the last look, and the time of the last look, one per account, is stored.

// reportAges are some minutes, and ever longer after that. The age counts from when
// the message was queued; one that was sent long after that is caught by a later
// age, the last of which is beyond what a message may usually wait.
var reportAges = []time.Duration{10 * time.Minute, 30 * time.Minute, 2 * time.Hour, 8 * time.Hour, 20 * time.Hour}

const (
	reportOldest = 24 * time.Hour // older messages are asked about no more
	reportEvery  = time.Minute    // between two looks
	reportBatch  = 100            // messages of one call
	reportTime   = 2 * time.Minute
	reportSlow   = 15 * time.Minute // between two looks that fail
)

// reports asks for the accounts whose platforms can be asked, until ctx ends.
func (e *Edge) reports(ctx context.Context) {
	e.follow(ctx, asksReports, func(ctx context.Context, id string, _ int) {
		e.campaign(ctx, "reports-"+id, func(ctx context.Context) { e.reportsOf(ctx, id) })
	})
}

// asksReports reports whether the account's platform can be asked, and tells more
// than that it took a message.
func asksReports(o *channels.Opened) bool {
	if o == nil || o.Err != nil {
		return false
	}
	_, ok := o.Channel.(channels.Reporter)
	return ok && o.Channel.Capabilities().Delivered
}

// reportsOf is one term. Two terms that overlap do no harm.
func (e *Edge) reportsOf(ctx context.Context, id string) {
	every := min(reportEvery, e.cfg.ReportAges[0]/10)
	failures := 0
	for wait := upkeepDelay; sleep(ctx, wait); {
		wait = every
		account, err := e.acc.Get(ctx, id)
		if err != nil || !asksReports(account) {
			continue
		}
		platform := account.Account.Platform
		err = e.askReports(ctx, id, platform, account.Channel.(channels.Reporter))
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures = 0
			continue
		}
		failures++
		e.metrics.reports.WithLabelValues(platform, "failed").Inc()
		wait = min(every<<min(failures, 10), max(reportSlow, every))
		if failure, ok := errors.AsType[*message.Error](err); ok {
			wait = max(wait, failure.RetryAfter)
		}
		e.log.WarnContext(ctx, "the platform could not be asked what became of messages; it will be tried again", "account", id, "wait", wait, "error", err)
	}
}

// askReports is one look.
func (e *Edge) askReports(ctx context.Context, id, platform string, reporter channels.Reporter) error {
	now := time.Now()
	since, err := e.store.ReportsAskedAt(ctx, id)
	if err != nil {
		return err
	}
	found := 0
	for _, s := range spans(since, now, e.cfg.ReportAges) {
		for after := ""; ; {
			list, err := e.store.Unreported(ctx, id, s.from, s.to, now.Add(-e.cfg.ReportAges[0]), after, reportBatch)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				break
			}
			after = list[len(list)-1].ID
			asked := make([]channels.Asked, len(list))
			for i := range list {
				asked[i] = channels.Asked{Chat: list[i].Chat, IDs: list[i].PlatformIDs}
			}
			timed, cancel := context.WithTimeout(ctx, reportTime)
			var missed []channels.RawUpdate
			err = channels.Contain(func() (err error) {
				missed, err = reporter.Reports(timed, asked)
				return err
			})
			cancel()
			e.metrics.reports.WithLabelValues(platform, "asked").Add(float64(len(asked)))
			e.metrics.reports.WithLabelValues(platform, "found").Add(float64(len(missed)))
			found += len(missed)
			for i := range missed {
				// The message shows that no report of it took effect. One may have come all
				// the same, and been dropped or put into quarantine: it must not stand in
				// the way of this one.
				missed[i].DedupKey = "asked:" + missed[i].DedupKey
			}
			if len(missed) > 0 && !e.storeMissed(ctx, id, missed) {
				return ctx.Err()
			}
			if err != nil {
				return err
			}
			if len(list) < reportBatch {
				break
			}
		}
	}
	if found > 0 {
		e.log.InfoContext(ctx, "reports that never came were asked for", "account", id, "reports", found)
	}
	return e.store.SetReportsAskedAt(ctx, id, now)
}

// span is the time from (excluding) to (including).
type span struct{ from, to time.Time }

// spans are the times at which those messages were queued that reached one of the
// ages between since and now, without overlap, in order.
func spans(since, now time.Time, ages []time.Duration) []span {
	var list []span
	for _, age := range slices.Backward(ages) { // the oldest messages first
		s := span{since.Add(-age), now.Add(-age)}
		if oldest := now.Add(-reportOldest); s.from.Before(oldest) {
			s.from = oldest
		}
		if n := len(list); n > 0 && !s.from.After(list[n-1].to) {
			s.from = list[n-1].to
		}
		if s.from.Before(s.to) {
			list = append(list, s)
		}
	}
	return list
}
