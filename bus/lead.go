package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// Lead implements Bus.
func (z *ZooKeeper) Lead(ctx context.Context, name string, lead func(ctx context.Context)) error {
	if err := checkLead(name, lead); err != nil {
		return err
	}
	dir := z.path("leaders", escape(name))
	for {
		s, err := z.awaitLease(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		rest := resignPause
		if err := s.term(ctx, dir, lead); err != nil {
			z.log.Debug("campaign begins anew", "name", name, "reason", err)
			rest = retryPause
		}
		select {
		case <-time.After(rest):
		case <-ctx.Done():
		}
	}
}

// awaitLease waits for a session that is proven alive. Its error is that of ctx, or ErrStopped.
func (z *ZooKeeper) awaitLease(ctx context.Context) (*session, error) {
	for {
		z.mu.Lock()
		s, changed := z.session, z.changed
		live := s != nil && s.lease != nil
		z.mu.Unlock()
		select {
		case <-z.stopping:
			return nil, z.awaitStopped(ctx)
		default:
		}
		if live {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// awaitStopped gives the caller's context, which usually ends together with Run's, the time to say so first.
func (z *ZooKeeper) awaitStopped(ctx context.Context) error {
	select {
	case <-z.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// candidate is one place in the line of an election: a node <guid>-<sequence> below dir. The guid finds the node when
// the answer to its creation was lost.
type candidate struct {
	s    *session
	dir  string
	guid string
	done chan struct{} // closed when the request that creates the node has ended, however it did
	name string        // of the node, once known
}

// term stands in line once, leads once when the turn comes, and leaves the line. A nil error says that lead was called
// and returned.
func (s *session) term(ctx context.Context, dir string, lead func(ctx context.Context)) error {
	c := &candidate{s: s, dir: dir, guid: newID(), done: make(chan struct{})}
	defer c.leave()
	name, err := call(ctx, s, func() (string, error) {
		defer close(c.done)
		return c.enter()
	})
	if err != nil {
		return err
	}
	c.name = name
	if err := c.awaitTurn(ctx); err != nil {
		return err
	}
	return c.lead(ctx, lead)
}

// enter creates the candidate's node. If the connection breaks before the answer, it looks whether the node is there.
func (c *candidate) enter() (name string, err error) {
	s := c.s
	for s.awaitConnected() {
		p, err := s.conn.Create(c.dir+"/"+c.guid+"-", []byte(s.z.self.ID), zk.FlagEphemeral|zk.FlagSequence, openACL())
		switch {
		case err == nil:
			return p[len(c.dir)+1:], nil
		case errors.Is(err, zk.ErrNoNode):
			if err := s.makePath(c.dir); err != nil {
				return "", err
			}
		case errors.Is(err, zk.ErrConnectionClosed), errors.Is(err, zk.ErrNoServer):
			for {
				if !s.pause(retryPause) || !s.awaitConnected() {
					return "", zk.ErrClosing
				}
				mine, err := c.mine()
				if err != nil {
					continue
				}
				if len(mine) > 0 {
					return mine[0], nil
				}
				break
			}
		default:
			return "", fmt.Errorf("entering election: %w", err)
		}
	}
	return "", zk.ErrClosing
}

// mine lists the nodes with the candidate's guid. It asks a server that has caught up with the ensemble's leader: the
// one this session moved to may not have seen yet what was asked of the other.
func (c *candidate) mine() ([]string, error) {
	if _, err := c.s.conn.Sync(c.dir); err != nil {
		return nil, err
	}
	names, _, err := c.s.conn.Children(c.dir)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	var mine []string
	for _, name := range names {
		if strings.HasPrefix(name, c.guid+"-") {
			mine = append(mine, name)
		}
	}
	return mine, err
}

// leave deletes the candidate's node in the background, now or when the connection is back. Nobody need wait: should
// the session end first, the ensemble deletes the node.
func (c *candidate) leave() {
	s := c.s
	s.spawn(func() {
		select {
		case <-c.done: // a creation still under way would outrun the deletion
		case <-s.gone:
			return
		}
		for s.awaitConnected() {
			mine, err := []string{c.name}, error(nil)
			if c.name == "" {
				mine, err = c.mine()
			}
			for _, name := range mine {
				if e := s.conn.Delete(c.dir+"/"+name, -1); e != nil && !errors.Is(e, zk.ErrNoNode) {
					err = e
				}
			}
			if err == nil || !s.pause(retryPause) {
				return
			}
		}
	})
}

// awaitTurn returns when the candidate is the first in line. It watches only the one before it, so that the end of a
// leader wakes one successor and not all.
//
// Whatever server answers, being the first is final: the list contains the candidate's own node, hence all that were
// created before it and are not deleted.
func (c *candidate) awaitTurn(ctx context.Context) error {
	s := c.s
	for {
		before, err := c.predecessor(ctx)
		if err != nil || before == "" {
			return err
		}
		// A read, not an exists: that would leave a watch behind for a node that is gone and never comes again.
		events, err := c.watch(ctx, before)
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return err
		}
		// The look now and then costs one read per timeout, and makes up for a watch that was lost for reasons unknown.
		for waiting := true; waiting; {
			look := time.NewTimer(s.z.cfg.SessionTimeout)
			select {
			case <-events:
				waiting = false
			case <-look.C:
				now, err := c.predecessor(ctx)
				if err != nil {
					return err
				}
				waiting = now == before
			case <-s.gone:
				look.Stop()
				return zk.ErrSessionExpired
			case <-ctx.Done():
				look.Stop()
				return ctx.Err()
			}
			look.Stop()
		}
	}
}

// predecessor returns the name of the candidate next before this one, "" if this one is the first.
func (c *candidate) predecessor(ctx context.Context) (string, error) {
	names, err := retry(ctx, c.s, func() ([]string, error) {
		names, _, err := c.s.conn.Children(c.dir)
		return names, err
	})
	if err != nil {
		return "", err
	}
	own, present := sequence(c.name), false
	before, best := "", int64(-1)
	for _, name := range names {
		present = present || name == c.name
		if n := sequence(name); n < own && n > best {
			before, best = name, n
		}
	}
	if !present {
		return "", ErrDeposed
	}
	return before, nil
}

// watch sets a watch on a candidate's node, which fires when it is deleted.
func (c *candidate) watch(ctx context.Context, name string) (<-chan zk.Event, error) {
	return retry(ctx, c.s, func() (<-chan zk.Event, error) {
		_, _, events, err := c.s.conn.GetW(c.dir + "/" + name)
		return events, err
	})
}

// lead calls the caller's function with a context that ends with the right to lead.
func (c *candidate) lead(ctx context.Context, lead func(ctx context.Context)) error {
	s, z := c.s, c.s.z
	deposed, err := c.watch(ctx, c.name)
	if errors.Is(err, zk.ErrNoNode) {
		return ErrDeposed
	}
	if err != nil {
		return err
	}
	lease, err := s.takeOffice(ctx)
	if err != nil {
		return err
	}
	leadCtx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-lease.lost:
			cancel(ErrInDoubt)
		case ev := <-deposed:
			if ev.Type == zk.EventNotWatching {
				cancel(ErrInDoubt)
			} else {
				cancel(ErrDeposed)
			}
		case <-z.stopping:
			cancel(ErrStopped)
		case <-leadCtx.Done():
		}
	})
	defer func() { // also when lead panics
		cancel(nil)
		watch.Wait()
		z.metrics.leading.Dec()
		z.metrics.ended.WithLabelValues(endReason(context.Cause(leadCtx))).Inc()
		z.mu.Lock()
		z.leads--
		z.notifyLocked()
		z.mu.Unlock()
	}()
	z.metrics.leading.Inc()
	lead(leadCtx)
	return nil
}

// takeOffice waits for a lease and counts the leader in, unless the bus is about to end.
func (s *session) takeOffice(ctx context.Context) (*lease, error) {
	for {
		s.z.mu.Lock()
		l, ended, changed := s.lease, s.ended, s.z.changed
		select {
		case <-s.z.stopping:
			ended = true
		default:
		}
		if !ended && l != nil {
			s.z.leads++
			s.z.mu.Unlock()
			return l, nil
		}
		s.z.mu.Unlock()
		if ended {
			return nil, zk.ErrClosing
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// retry repeats a read that a broken connection has swallowed until the connection is back, or the session or ctx ends.
func retry[T any](ctx context.Context, s *session, f func() (T, error)) (T, error) {
	return call(ctx, s, func() (T, error) {
		for {
			v, err := f()
			if !errors.Is(err, zk.ErrConnectionClosed) && !errors.Is(err, zk.ErrNoServer) {
				return v, err
			}
			if ctx.Err() != nil || !s.pause(retryPause) || !s.awaitConnected() {
				return v, err
			}
		}
	})
}

// sequence is the number that ends a candidate's name, -1 if there is none: a stranger's node, which is nobody's
// predecessor.
func sequence(name string) int64 {
	i := strings.LastIndexByte(name, '-')
	n, err := strconv.ParseInt(name[i+1:], 10, 32)
	if i < 0 || err != nil {
		return -1
	}
	return n
}
