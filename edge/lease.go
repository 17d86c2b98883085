package edge

import (
	"context"
	"time"
)

// While the bus can elect nobody, accounts are polled under a lease in the
// database: slower to change hands, but customers are heard.
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
			if got, err := e.store.LeasePolling(ctx, id, e.cfg.Node, leaseTime); err != nil || !got {
				continue
			}
			e.log.WarnContext(ctx, "the bus elects nobody; polling under a lease in the database", "account", id)
			e.pollLeased(ctx, id)
		}
	}
}

// pollLeased is one term under the lease: until the bus is back, or the lease
// could not be renewed in time.
func (e *Edge) pollLeased(ctx context.Context, id string) {
	term, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		e.pollAccount(term, id)
		close(done)
	}()
	for held := time.Now(); e.bus.Ready() != nil && time.Since(held) < leaseTime-leaseRenew; {
		select {
		case <-done:
		case <-time.After(leaseRenew):
			asked := time.Now()
			renew, cancel := context.WithTimeout(term, leaseRenew)
			got, err := e.store.LeasePolling(renew, id, e.cfg.Node, leaseTime)
			cancel()
			switch {
			case err != nil: // asked again until the time is up
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
