package edge

import (
	"context"
	"time"
)

// Who polls an account holds its lease in the database. As a rule it is who was
// elected, and takes the lease from the one elected before at once. While the bus
// can elect nobody, whoever gets the lease stands in: slower to change hands, but
// customers are heard. A process that alone is cut off from the bus gets no lease,
// because the elected one keeps its own.
const (
	// busPatience is how long the bus must have been away: beyond the session
	// timeout, so that who was elected has stopped.
	busPatience = 10 * time.Second
	leaseTime   = 9 * time.Second
	leaseRenew  = leaseTime / 3
)

// standIn polls the account under a lease whenever the bus has been away for
// busPatience, until it is back.
func (e *Edge) standIn(ctx context.Context, id string) {
	away := time.Time{}
	for sleep(ctx, time.Second) {
		switch {
		case e.bus.Ready() == nil:
			away = time.Time{}
		case away.IsZero():
			away = time.Now()
		case time.Since(away) >= busPatience:
			if got, err := e.store.LeasePolling(ctx, id, e.cfg.Node, false, leaseTime); err != nil || !got {
				continue
			}
			e.log.WarnContext(ctx, "the bus elects nobody; polling under a lease in the database", "account", id)
			e.pollLeased(ctx, id, false)
		}
	}
}

// pollElected is one term by election. Who stands in is waited for: the bus is
// back for us and may not be for them, and they stop when it is.
func (e *Edge) pollElected(ctx context.Context, id string) {
	for {
		got, err := e.store.LeasePolling(ctx, id, e.cfg.Node, true, leaseTime)
		if err == nil && got {
			e.pollLeased(ctx, id, true)
			return
		}
		if err != nil && ctx.Err() == nil {
			e.log.WarnContext(ctx, "polling can't begin yet", "account", id, "error", err)
		}
		if !sleep(ctx, 500*time.Millisecond) {
			return
		}
	}
}

// pollLeased is one term under the lease: for a stand-in until the bus is back or
// the lease could not be renewed in time, for the elected one until ctx ends or
// somebody else has got the lease.
func (e *Edge) pollLeased(ctx context.Context, id string, elected bool) {
	term, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		e.pollAccount(term, id)
		close(done)
	}()
	for held := time.Now(); elected || (e.bus.Ready() != nil && time.Since(held) < leaseTime-leaseRenew); {
		select {
		case <-done:
		case <-time.After(leaseRenew):
			asked := time.Now()
			renew, cancel := context.WithTimeout(term, leaseRenew)
			got, err := e.store.LeasePolling(renew, id, e.cfg.Node, elected, leaseTime)
			cancel()
			switch {
			case err != nil && term.Err() == nil: // asked again; a stand-in until the time is up
				continue
			case got:
				held = asked
				continue
			}
		}
		break
	}
	stop()
	<-done
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseRenew)
	defer cancel()
	if err := e.store.ReleasePolling(release, id, e.cfg.Node); err != nil {
		e.log.DebugContext(ctx, "lease runs out by itself", "account", id, "error", err)
	}
}
