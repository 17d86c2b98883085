package bus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

// wire is one connection to a server. It bounds what the client leaves unbounded:
//
//   - A server that accepts and does not answer (a frozen process, a cable pulled) holds the client for more than six
//     session timeouts in the handshake, and for 2/3 of one later. Here it is given up after 1/4 and 1/2, so that the
//     session reaches another server before it is in doubt.
//   - A session that moves to another server has its watches re-armed relative to the last transaction seen. The
//     client may take that number from an answer that comes in before the re-arming request is put together, and then
//     an event in between is lost. Here no answer is read until the request has been written.
type wire struct {
	net.Conn
	resumed bool        // the session was connected before, so there are watches to re-arm
	report  func(error) // takes the reason why the handshake failed

	timeout     atomic.Int64  // session timeout, nanoseconds: as asked for, then as granted
	established atomic.Bool   // the handshake is over
	rearmed     chan struct{} // closed when the request that re-arms the watches has been written
	rearm       sync.Once
	closed      chan struct{}
	closing     sync.Once

	// Used by the one goroutine that reads.
	greeting [12]byte // length, protocol version and granted timeout in ms: what the server's first answer begins with
	greeted  int
	released bool
}

// rearmPatience bounds the wait for watches to be re-armed: there may be none.
const rearmPatience = 100 * time.Millisecond

const opSetWatches = 101 // of the ZooKeeper protocol

// dial connects the client to a server.
func (s *session) dial(network, address string, patience time.Duration) (net.Conn, error) {
	s.z.mu.Lock()
	ended, resumed, timeout := s.ended, s.attached, s.timeout
	s.z.mu.Unlock()
	if ended {
		return nil, errors.New("session has ended")
	}
	ctx, cancel := context.WithTimeout(s.dialer, min(patience, timeout/4))
	defer cancel()
	conn, err := s.z.cfg.Dialer(ctx, network, address)
	s.z.mu.Lock()
	defer s.z.mu.Unlock()
	if err != nil {
		s.z.lastErr = err
		return nil, err
	}
	w := &wire{Conn: conn, resumed: resumed, report: s.blame, rearmed: make(chan struct{}), closed: make(chan struct{})}
	w.timeout.Store(int64(timeout))
	if s.ended {
		_ = w.Close()
	}
	s.wire = w
	return w, nil
}

// establish ends the handshake and returns the session timeout that the server granted. The client calls back in the
// goroutine that has read the server's answer.
func (w *wire) establish() time.Duration {
	w.established.Store(true)
	asked := time.Duration(w.timeout.Load())
	if w.greeted < len(w.greeting) {
		return asked
	}
	granted := time.Duration(binary.BigEndian.Uint32(w.greeting[8:])) * time.Millisecond
	w.timeout.Store(int64(min(asked, granted)))
	return granted
}

func (w *wire) Read(p []byte) (int, error) {
	if !w.established.Load() {
		n, err := w.Conn.Read(p)
		w.greeted += copy(w.greeting[w.greeted:], p[:n])
		if err != nil {
			w.report(fmt.Errorf("greeting %s: %w", w.RemoteAddr(), err))
		}
		return n, err
	}
	if w.resumed && !w.released {
		patience := time.NewTimer(rearmPatience)
		defer patience.Stop()
		select {
		case <-w.rearmed:
		case <-w.closed:
		case <-patience.C:
		}
		w.released = true
	}
	return w.Conn.Read(p)
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	// The client writes a request at once: length, transaction id, operation, each of four bytes.
	if w.resumed && w.established.Load() && len(p) >= 12 && binary.BigEndian.Uint32(p[8:]) == opSetWatches {
		w.rearm.Do(func() { close(w.rearmed) })
	}
	return n, err
}

// SetReadDeadline shortens the client's patience; the client never waits for ever here.
func (w *wire) SetReadDeadline(t time.Time) error {
	patience := time.Duration(w.timeout.Load()) / 4
	if w.established.Load() {
		patience *= 2
	}
	if limit := time.Now().Add(patience); t.IsZero() || t.After(limit) {
		t = limit
	}
	return w.Conn.SetReadDeadline(t)
}

func (w *wire) Close() error {
	w.closing.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// rotation hands out the servers in turn, names unresolved: the client's own provider looks them up once for the life
// of a session, which may outlive the addresses. It is used by the client's one goroutine.
type rotation struct {
	servers []string
	next    int
	tried   int // since the last success
}

var _ zk.HostProvider = (*rotation)(nil)

// Init takes the list, which the client has shuffled.
func (r *rotation) Init(servers []string) error {
	r.servers = servers
	return nil
}

func (r *rotation) Len() int { return len(r.servers) }

// Next reports retryStart after each full turn without success; the client then waits a second.
func (r *rotation) Next() (server string, retryStart bool) {
	if r.tried == len(r.servers) {
		r.tried, retryStart = 0, true
	}
	server = r.servers[r.next]
	r.next = (r.next + 1) % len(r.servers)
	r.tried++
	return server, retryStart
}

func (r *rotation) Connected() { r.tried = 0 }

// clientLog takes the client's own remarks; what matters of them is logged again by us, once.
type clientLog struct{ log *slog.Logger }

func (l clientLog) Printf(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("zookeeper client", "remark", fmt.Sprintf(format, args...))
	}
}
