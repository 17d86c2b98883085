package bus

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// session is one ZooKeeper session from its first connection to its expiry or close; it may move from server to
// server. A client of the library would go on with a new session after an expiry and send it what was asked of the old
// one; here each session has its own client, which dials no more once its session has expired, so an ephemeral node
// can't be created in a session that nobody expects.
type session struct {
	z      *ZooKeeper
	conn   *zk.Conn
	events <-chan zk.Event // unused but for its end, which is the end of the client's goroutines
	dialer context.Context // ends when the session does; bounds dials in progress
	hangUp context.CancelFunc
	poke   chan struct{} // asks for a pulse now
	gone   chan struct{} // closed when the session has expired or is being closed

	draining chan struct{}  // closed when writers of wakes are to write what is pending and end
	writers  sync.WaitGroup // writers of wakes, and serveTopics, which starts them
	work     sync.WaitGroup // every goroutine; added to under z.mu while gone is open

	// Guarded by z.mu.
	ended     bool
	connected bool
	attached  bool // was connected once
	timeout   time.Duration
	wire      *wire
	lease     *lease
	expiry    *time.Timer // ends the lease
}

// lease is an unbroken time in which the session was proven alive.
type lease struct {
	until time.Time
	lost  chan struct{} // closed when the time has passed, or the session has gone
}

// open starts a session. It does not wait for a connection, and fails only for reasons that will not go away.
func (z *ZooKeeper) open() (*session, error) {
	s := &session{
		z:        z,
		poke:     make(chan struct{}, 1),
		gone:     make(chan struct{}),
		draining: make(chan struct{}),
		timeout:  z.cfg.SessionTimeout,
	}
	s.dialer, s.hangUp = context.WithCancel(context.Background()) // ended by close
	conn, events, err := zk.Connect(z.cfg.Servers, z.cfg.SessionTimeout,
		zk.WithHostProvider(&rotation{}),
		zk.WithDialer(s.dial),
		zk.WithEventCallback(s.onEvent),
		zk.WithLogger(clientLog{z.log}),
		zk.WithLogInfo(false),
		zk.WithMaxBufferSize(1<<20),       // the server's own limit on a packet
		zk.WithMaxConnBufferSize(256<<10), // our largest request re-arms watches: the client splits at 128 KiB
	)
	if err != nil {
		s.hangUp()
		return nil, err
	}
	s.conn, s.events = conn, events

	z.mu.Lock()
	z.session = s
	z.nodes = nil
	for _, t := range z.topics {
		t.armed = false
	}
	z.notifyLocked()
	z.mu.Unlock()
	s.writers.Add(1)
	if !s.spawn(s.serveTopics) {
		s.writers.Done()
	}
	s.spawn(s.pulse)
	s.spawn(s.serveNodes)
	return s, nil
}

// close ends the session, for the ensemble too if it can be reached, and waits for everything that works in it. It
// takes up to 1 s when the server does not answer.
func (s *session) close() {
	z := s.z
	z.mu.Lock()
	s.endLocked()
	if z.session == s {
		z.session = nil
	}
	wire, connected := s.wire, s.connected
	z.mu.Unlock()
	s.hangUp()
	if !connected && wire != nil {
		_ = wire.Close() // ends a handshake with a server that does not answer
	}
	s.conn.Close()
	z.mu.Lock()
	wire = s.wire
	z.mu.Unlock()
	if wire != nil {
		_ = wire.Close()
	}
	for range s.events {
		continue // until the client has closed it, as its last act
	}
	s.work.Wait()
}

// spawn runs f in a goroutine that close waits for, and reports false if the session has ended before.
func (s *session) spawn(f func()) bool {
	s.z.mu.Lock()
	defer s.z.mu.Unlock()
	if s.ended {
		return false
	}
	s.work.Go(f)
	return true
}

// call runs f, one or more requests, which may block as long as the servers are away and take no context. When ctx
// ends first the result is dropped, but f still ends on its own: with the connection's return or the session's end.
func call[T any](ctx context.Context, s *session, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	results := make(chan result, 1)
	var zero T
	if !s.spawn(func() {
		v, err := f()
		results <- result{v, err}
	}) {
		return zero, zk.ErrClosing
	}
	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}

// onEvent is called by the client's goroutines. It sees every event, unlike the client's channel, which drops events
// when it is full, and must not block.
func (s *session) onEvent(ev zk.Event) {
	if ev.Type != zk.EventSession {
		return
	}
	switch ev.State {
	case zk.StateHasSession:
		s.attach(ev.Server)
	case zk.StateDisconnected:
		s.detach()
	case zk.StateExpired:
		s.z.mu.Lock()
		s.endLocked()
		s.z.mu.Unlock()
	}
}

// attach notes that a server has accepted the session. What was missed without a connection is unknown: everybody is
// rung.
func (s *session) attach(server string) {
	z := s.z
	z.mu.Lock()
	granted := s.wire.establish()
	s.timeout = min(s.timeout, granted)
	first := !s.attached
	s.connected, s.attached = true, true
	z.notifyLocked()
	z.mu.Unlock()
	push(s.poke)
	z.hints.ringAll()
	if first {
		z.metrics.sessions.Inc()
		z.log.Info("zookeeper session opened", "server", server, "timeout", granted)
		if granted != z.cfg.SessionTimeout {
			z.log.Warn("zookeeper granted another session timeout than the one asked for", "asked", z.cfg.SessionTimeout, "granted", granted)
		}
		return
	}
	z.log.Info("zookeeper session moved", "server", server)
}

func (s *session) detach() {
	s.z.mu.Lock()
	defer s.z.mu.Unlock()
	if !s.connected {
		return
	}
	s.connected = false
	if !s.ended {
		s.z.metrics.lost.WithLabelValues("disconnected").Inc()
		s.z.lastErr = errors.New("connection lost")
	}
	s.z.notifyLocked()
}

// blame notes why there is no live session, for Ready.
func (s *session) blame(err error) {
	s.z.mu.Lock()
	s.z.lastErr = err
	s.z.mu.Unlock()
}

// endLocked marks the session as gone.
func (s *session) endLocked() {
	if s.ended {
		return
	}
	s.ended = true
	close(s.gone)
	s.dropLeaseLocked()
	s.z.notifyLocked()
}

// awaitConnected waits for a connection and reports false if the session has gone.
func (s *session) awaitConnected() bool {
	for {
		s.z.mu.Lock()
		ended, connected, changed := s.ended, s.connected, s.z.changed
		s.z.mu.Unlock()
		if ended || connected {
			return !ended
		}
		select {
		case <-changed:
		case <-s.gone:
			return false
		}
	}
}

// pause waits d and reports false if the session has gone.
func (s *session) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.gone:
		return false
	}
}

// pulse proves again and again that the session is alive and renews the lease from the moment the proof was asked for.
//
// The client's own state is no proof: it notices silence only 2/3 of the timeout after the last byte, when the
// ensemble may already have given the session up; and the server it is connected to may itself be cut off from the
// others and answer pings and reads for several ticks. A sync is passed on to the ensemble's leader, which refuses it
// to an expired session, and it costs no disk write.
func (s *session) pulse() {
	for s.awaitConnected() {
		sent := time.Now()
		_, err := s.conn.Sync("/")
		if err != nil {
			s.blame(err)
			if !s.pause(retryPause) {
				return
			}
			continue
		}
		s.renew(sent)
		s.z.mu.Lock()
		next := time.NewTimer(s.timeout / 6)
		s.z.mu.Unlock()
		select {
		case <-next.C:
		case <-s.poke:
		case <-s.gone:
		}
		next.Stop()
	}
}

// renew extends the lease to 2/3 of the session timeout after proof. The last third pays for what the ensemble's
// leader does not know yet: a follower reports its clients' signs of life every half tick.
func (s *session) renew(proof time.Time) {
	z := s.z
	z.mu.Lock()
	defer z.mu.Unlock()
	now := time.Now()
	until := proof.Add(s.timeout * 2 / 3)
	if s.ended || !until.After(now) {
		return
	}
	if s.lease != nil && !s.lease.until.After(now) {
		s.dropLeaseLocked() // its timer is late
	}
	z.lastLive = now
	if s.lease == nil {
		s.lease = &lease{until: until, lost: make(chan struct{})}
		s.expiry = time.AfterFunc(until.Sub(now), s.checkLease)
		z.metrics.connected.Set(1)
		z.notifyLocked()
		return
	}
	s.lease.until = until
	s.expiry.Reset(until.Sub(now))
}

// checkLease ends the lease if its time has come.
func (s *session) checkLease() {
	s.z.mu.Lock()
	defer s.z.mu.Unlock()
	if s.lease == nil {
		return
	}
	if left := time.Until(s.lease.until); left > 0 {
		s.expiry.Reset(left)
		return
	}
	s.z.log.Warn("zookeeper session in doubt: no proof of life for 2/3 of its timeout", "timeout", s.timeout)
	s.z.metrics.lost.WithLabelValues("doubt").Inc()
	s.dropLeaseLocked()
}

func (s *session) dropLeaseLocked() {
	if s.lease == nil {
		return
	}
	s.expiry.Stop()
	close(s.lease.lost)
	s.lease = nil
	s.z.metrics.connected.Set(0)
	s.z.notifyLocked()
}

// makePath creates a persistent node and those above it; existing ones are no error.
func (s *session) makePath(p string) error {
	_, err := s.conn.Create(p, nil, zk.FlagPersistent, openACL())
	switch {
	case err == nil, errors.Is(err, zk.ErrNodeExists):
		return nil
	case !errors.Is(err, zk.ErrNoNode):
		return fmt.Errorf("creating %s: %w", p, err)
	}
	if err := s.makePath(path.Dir(p)); err != nil {
		return err
	}
	return s.makePath(p)
}

// openACL lets every client do everything: the ensemble is reachable from inside only.
func openACL() []zk.ACL { return zk.WorldACL(zk.PermAll) }
