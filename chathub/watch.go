package chathub

import (
	"context"
	"time"
)

// watchClocks looks after deadlines once a second: one goroutine instead of
// timers per connection.
func (h *Hub) watchClocks(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			for _, c := range h.all() {
				h.checkClocks(c, now)
			}
			h.typing.sweep(now)
		case <-ctx.Done():
			return
		}
	}
}

func (h *Hub) checkClocks(c *conn, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing != 0:
		if now.After(c.closeBy) {
			c.cut()
		}
	case c.refused != 0:
	case !c.expires.IsZero() && !now.Before(c.expires):
		c.closeLocked(closeNotSignedIn)
	case c.state == greeting && now.Sub(c.born) > h.cfg.HelloWait:
		c.closeLocked(closeNoHello)
	}
}

// watchPeople finds sessions that were ended and keeps presence.
//
// Presence is a lease: every hub renews it for the operators connected to it,
// and any hub ends the ones that nobody has renewed for PresenceGrace. So an
// operator goes offline that long after the last connection, wherever it was,
// also when a hub dies. A hub that could not renew for a while (the database
// was away) ends nobody until it has renewed for PresenceGrace again: by then
// the others have, too.
func (h *Hub) watchPeople(ctx context.Context) {
	sessions := time.NewTicker(h.cfg.SessionCheck)
	defer sessions.Stop()
	leases := time.NewTicker(h.cfg.PresenceGrace / 4)
	defer leases.Stop()
	var renewing time.Time // since when every renewal has succeeded
	for {
		var err error
		call, cancel := context.WithTimeout(ctx, h.cfg.CallTimeout)
		select {
		case <-sessions.C:
			err = h.endSessions(call)
		case now := <-leases.C:
			if renewing.IsZero() {
				renewing = now
			}
			if err = h.renewPresence(call, now.Sub(renewing) >= h.cfg.PresenceGrace); err != nil {
				renewing = time.Time{}
			}
		case <-ctx.Done():
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			h.log.WarnContext(ctx, "sessions and presence could not be looked after", "error", err)
		}
	}
}

// endSessions closes the connections whose sessions don't hold any more.
func (h *Hub) endSessions(ctx context.Context) error {
	list := h.all()
	var hashes [][]byte
	seen := map[string]bool{}
	for _, c := range list {
		if c.refused == 0 && !seen[string(c.tokenHash)] {
			seen[string(c.tokenHash)] = true
			hashes = append(hashes, c.tokenHash)
		}
	}
	if len(hashes) == 0 {
		return nil
	}
	held, err := h.deps.Store.LiveSessions(ctx, hashes)
	if err != nil {
		return err
	}
	for _, hash := range held {
		delete(seen, string(hash))
	}
	for _, c := range list {
		if seen[string(c.tokenHash)] {
			c.close(closeNotSignedIn)
		}
	}
	return nil
}

func (h *Hub) renewPresence(ctx context.Context, expire bool) error {
	seen := map[string]bool{}
	var ids []string
	h.mu.RLock()
	for c := range h.live {
		if id := c.operator.ID; !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	h.mu.RUnlock()
	var err error
	if len(ids) > 0 {
		err = h.deps.Store.TouchPresence(ctx, ids)
	}
	if err != nil || !expire {
		return err
	}
	expired, err := h.deps.Store.ExpirePresence(ctx, h.cfg.PresenceGrace)
	if expired > 0 {
		h.deps.Bus.Wake(topicEvents)
	}
	return err
}
