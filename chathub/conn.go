package chathub

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/olahol/melody"

	"switchboard"
	"switchboard/internal/auth"
	"switchboard/internal/problem"
)

// Close codes; see doc.go.
const (
	closeBinary      = websocket.CloseUnsupportedData
	closeNoHello     = websocket.ClosePolicyViolation
	closeRestart     = websocket.CloseServiceRestart
	closeNotSignedIn = 4401
	closeTooSlow     = 4408
	closeReplaced    = 4409
	// closeBroken is never sent: the peer is gone.
	closeBroken = websocket.CloseAbnormalClosure
)

var closeReasons = map[int]string{
	closeBinary:      "text frames only",
	closeNoHello:     "no hello",
	closeRestart:     "restarting: reconnect and resume by cursor",
	closeNotSignedIn: "not signed in",
	closeTooSlow:     "too slow: resume by cursor",
	closeReplaced:    "replaced by a newer connection",
}

const (
	// window is how many frames are in melody's hands at once; the rest waits in
	// the connection's own queue. Two more places of melody's buffer are never
	// taken by frames, so that a close frame always finds one.
	window = 8
	// linger is how long a connection that we closed stays half open for the peer
	// to read what was sent: closing with unread input would reset it and could
	// take the close frame away.
	linger = time.Second
	// sendBuffer bounds what the kernel holds for a slow peer. It is doubled by
	// Linux; 128 KiB still carry 1 MB/s over 100 ms.
	sendBuffer = 64 << 10
)

type connState int

const (
	greeting  connState = iota // no hello yet
	replaying                  // hello is being answered; live events are held
	live
)

// conn is one connection.
type conn struct {
	hub       *Hub
	net       *softConn
	operator  switchboard.Operator
	tokenHash []byte
	expires   time.Time
	born      time.Time
	refused   int // close code that is all this connection will get; 0 for a good one

	// done is closed when the connection has ended.
	done chan struct{}

	mu      sync.Mutex
	session *melody.Session // nil before the upgrade
	state   connState
	from    int64 // live events up to here are not for this connection
	// inflight frames are with melody, pending ones wait for them. held are live
	// events that came while older ones are being replayed.
	inflight   int
	pending    [][]byte
	held       [][]byte
	waiting    int           // bytes in pending and held
	room       chan struct{} // closed when pending is half empty; nil when nobody waits
	closing    int           // close code that was sent; nothing is sent after it
	closeBy    time.Time     // when closing: the hard cut
	calling    bool          // a call is being handled
	closeLater int           // close code for when it has been answered
}

// isRefused tells of sessions that may not be used from where they are: signing in
// again tells why.
func isRefused(err error) bool {
	_, elsewhere := errors.AsType[*auth.AddressError](err)
	_, tooOften := errors.AsType[*auth.RateError](err)
	return elsewhere || tooOften
}

// Handler answers GET /ws/v1: it takes the connection over from the HTTP server.
func (h *Hub) Handler() http.Handler {
	return http.HandlerFunc(h.serve)
}

func (h *Hub) serve(w http.ResponseWriter, r *http.Request) {
	if !h.originAllowed(r) {
		problem.Write(w, http.StatusForbidden, "forbidden", "pages of this origin may not connect; see the allowed origins")
		return
	}
	if !websocket.IsWebSocketUpgrade(r) || r.Method != http.MethodGet || r.Header.Get("Sec-Websocket-Version") != "13" || !validKey(r) {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Sec-Websocket-Version", "13")
		problem.Write(w, http.StatusUpgradeRequired, "upgrade_required", "this is a WebSocket (RFC 6455, version 13)")
		return
	}
	p, err := h.deps.Auth.Request(r)
	c := &conn{hub: h, done: make(chan struct{}), born: time.Now()}
	switch {
	case errors.Is(err, auth.ErrNoToken), errors.Is(err, auth.ErrBadToken), isRefused(err), err == nil && p.Operator == nil:
		// Browsers don't show the status of a refused upgrade, but they show a close code.
		c.refused = closeNotSignedIn
	case err != nil:
		h.log.WarnContext(r.Context(), "connection could not be authenticated", "error", err)
		w.Header().Set("Retry-After", "1")
		problem.Write(w, http.StatusServiceUnavailable, "unavailable", "try again in a second")
		return
	default:
		c.operator, c.tokenHash, c.expires = *p.Operator, p.TokenHash, p.ExpiresAt
	}
	if !h.admit() {
		w.Header().Set("Retry-After", "1")
		problem.Write(w, http.StatusServiceUnavailable, "unavailable", "this hub takes no connections now; try again in a second")
		return
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		h.owners.Done()
		h.log.ErrorContext(r.Context(), "connection could not be taken over", "error", err)
		problem.Write(w, http.StatusInternalServerError, "internal_error", "")
		return
	}
	c.net = &softConn{Conn: nc}
	// What the HTTP server keeps per connection (two 4 KiB buffers and more) is
	// freed when its handler returns; only our own small goroutine stays. The
	// same goes for the request.
	handshake := handshakeRequest(c, r)
	go func() {
		defer h.owners.Done()
		c.own(handshake, rw)
	}()
}

// admit counts a new connection's goroutine in, unless the hub is full or stopping.
func (h *Hub) admit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.running || len(h.conns) >= h.cfg.MaxConnections {
		return false
	}
	h.owners.Add(1)
	return true
}

func (h *Hub) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true // not a browser
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	return strings.EqualFold(u.Host, r.Host) || slices.Contains(h.origins, strings.ToLower(u.Scheme+"://"+u.Host))
}

func validKey(r *http.Request) bool {
	b, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-Websocket-Key"))
	return err == nil && len(b) == 16
}

type connKey struct{}

// handshakeRequest is the little of r that the upgrade looks at. It carries the
// conn to melody's handlers.
func handshakeRequest(c *conn, r *http.Request) *http.Request {
	header := http.Header{}
	for _, name := range []string{"Connection", "Upgrade", "Sec-Websocket-Version", "Sec-Websocket-Key"} {
		header[name] = r.Header[name]
	}
	return (&http.Request{Method: r.Method, Header: header}).WithContext(context.WithValue(c.hub.base, connKey{}, c))
}

func connOf(s *melody.Session) *conn { return s.Request.Context().Value(connKey{}).(*conn) }

// own upgrades the connection and reads from it until it ends.
func (c *conn) own(handshake *http.Request, rw *bufio.ReadWriter) {
	h := c.hub
	defer close(c.done)
	defer c.net.reallyClose()
	if tcp, ok := c.net.Conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(sendBuffer)
	}
	h.join(c)
	defer h.leave(c)
	w := &hijacked{conn: c.net, rw: rw}
	rw = nil
	if err := h.melody.HandleRequest(w, handshake); err != nil {
		h.log.DebugContext(h.base, "upgrade failed", "error", err)
		return
	}
	// melody has closed it softly; what the peer still sends is thrown away until
	// it closes too, or linger is over.
	_, _ = io.Copy(io.Discard, io.LimitReader(c.net.Conn, 64<<20))
	if c.refused == 0 {
		h.log.DebugContext(h.base, "connection ended", "operator", c.operator.ID, "after", time.Since(c.born))
	}
}

// hijacked hands melody the connection that was taken over already.
type hijacked struct {
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (*hijacked) Header() http.Header         { return nil }
func (*hijacked) Write(p []byte) (int, error) { return len(p), nil } // only after a failed upgrade
func (*hijacked) WriteHeader(int)             {}
func (w *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	rw := w.rw
	w.rw = nil // its buffers needn't live as long as the connection
	return w.conn, rw, nil
}

// softConn is a net.Conn whose Close, which melody calls, only ends writing and
// leaves the peer a moment to read; its owner closes it really.
type softConn struct {
	net.Conn
	mu   sync.Mutex
	soft bool
}

// Close implements net.Conn.
func (s *softConn) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.soft {
		return nil
	}
	s.soft = true
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	return s.Conn.SetReadDeadline(time.Now().Add(linger))
}

// SetReadDeadline implements net.Conn: a pong during linger must not prolong it.
func (s *softConn) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.soft {
		return nil
	}
	return s.Conn.SetReadDeadline(t)
}

func (s *softConn) reallyClose() { _ = s.Conn.Close() }

// newMelody sets on purpose what melody's defaults would do to us: frames of
// 512 bytes at most, any origin, and messages dropped beyond 256.
func (h *Hub) newMelody() *melody.Melody {
	m := melody.New()
	m.Config.MaxMessageSize = h.cfg.MaxFrame
	m.Config.MessageBufferSize = window + 2
	m.Config.WriteWait = h.cfg.WriteWait
	m.Config.PingPeriod = h.cfg.PingEvery
	m.Config.PongWait = h.cfg.PongWait
	m.Upgrader = &websocket.Upgrader{
		ReadBufferSize: 512, // most calls fit; larger ones take more reads
		// Borrowed per write, so that idle connections own none.
		WriteBufferSize: 2 << 10,
		WriteBufferPool: new(sync.Pool),
		CheckOrigin:     func(*http.Request) bool { return true }, // done by serve
	}
	m.HandleConnect(func(s *melody.Session) {
		c := connOf(s)
		// Only the context is needed from here on.
		s.Request = (&http.Request{}).WithContext(s.Request.Context())
		c.mu.Lock()
		c.session = s
		code := c.closing // replaced or restarting before it began
		c.closing = 0
		c.mu.Unlock()
		if code == 0 {
			code = c.refused
		}
		if code != 0 {
			c.close(code)
		}
	})
	m.HandleMessage(func(s *melody.Session, frame []byte) { connOf(s).received(frame) })
	m.HandleMessageBinary(func(s *melody.Session, _ []byte) { connOf(s).close(closeBinary) })
	m.HandleSentMessage(func(s *melody.Session, _ []byte) { connOf(s).sent() })
	m.HandleError(func(s *melody.Session, err error) {
		c := connOf(s)
		switch {
		case errors.Is(err, melody.ErrWriteClosed): // c.mu may be held here, and below
		case errors.Is(err, melody.ErrMessageBufferFull):
			// window makes this impossible. If it happens all the same a frame is
			// lost, and only a cut is honest.
			h.log.ErrorContext(h.base, "melody's buffer is full", "operator", c.operator.ID)
			c.cut()
		default:
			if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "write" && op.Timeout() {
				h.metrics.slow.Inc()
			}
			c.broken()
		}
	})
	return m
}

// cut ends a connection without a word.
func (c *conn) cut() { c.net.reallyClose() }

// push queues a frame. It never waits; a connection with too much in its queue
// is closed.
func (c *conn) push(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pushLocked(frame)
}

func (c *conn) pushLocked(frame []byte) {
	switch {
	case c.closing != 0 || c.session == nil:
	case c.inflight < window:
		c.inflight++
		_ = c.session.Write(frame) // fails only for one that has ended
	case c.waiting+len(frame) > c.hub.cfg.QueueBytes:
		c.overflowLocked()
	default:
		c.pending = append(c.pending, frame)
		c.waiting += len(frame)
	}
}

// overflowLocked gives a slow connection up. What is with melody already is
// still sent, then the close frame: all that was sent is in order and without a
// gap, so the client's last cursor is the right one to resume from.
func (c *conn) overflowLocked() {
	c.hub.metrics.slow.Inc()
	c.closeLocked(closeTooSlow)
}

// sent is called after melody has written a frame.
func (c *conn) sent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inflight--
	if len(c.pending) > 0 && c.closing == 0 {
		frame := c.pending[0]
		c.pending[0] = nil
		c.pending = c.pending[1:]
		c.waiting -= len(frame)
		if len(c.pending) == 0 {
			c.pending = nil
		}
		c.inflight++
		_ = c.session.Write(frame)
	}
	if c.room != nil && c.waiting <= c.hub.cfg.QueueBytes/2 {
		close(c.room)
		c.room = nil
	}
}

// waitForRoom returns when the queue is at most half full: for replays, which
// can wait for their connection, unlike live events.
func (c *conn) waitForRoom(ctx context.Context) error {
	for {
		c.mu.Lock()
		switch {
		case c.closing != 0:
			c.mu.Unlock()
			return errClosing
		case c.waiting <= c.hub.cfg.QueueBytes/2 || len(c.pending) == 0:
			// With nothing pending it is the held events that fill the queue, and
			// going on is the way to get rid of them.
			c.mu.Unlock()
			return nil
		}
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errClosing = errors.New("the connection is closing")

// deliver hands a live event over.
func (c *conn) deliver(id int64, frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case id <= c.from || c.closing != 0:
	case c.state == live:
		c.pushLocked(frame)
	case c.state == replaying && c.waiting+len(frame) <= c.hub.cfg.QueueBytes:
		c.held = append(c.held, frame)
		c.waiting += len(frame)
	case c.state == replaying:
		c.overflowLocked()
	}
}

// goLive sends what was held and lets live events through.
func (c *conn) goLive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.held
	c.held, c.state = nil, live
	for _, frame := range held {
		c.waiting -= len(frame)
		c.pushLocked(frame)
	}
}

// close ends the connection with a code; the first one counts.
func (c *conn) close(code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeLocked(code)
}

func (c *conn) closeLocked(code int) {
	if c.closing != 0 {
		return
	}
	c.endLocked(code)
	if c.session == nil {
		return // HandleConnect will see it
	}
	c.hub.metrics.closed(code)
	_ = c.session.CloseWithMsg(melody.FormatCloseMessage(code, closeReasons[code]))
}

// broken notes that nothing can be read or written any more.
func (c *conn) broken() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing == 0 {
		c.endLocked(closeBroken)
	}
}

// endLocked is what every end has in common.
func (c *conn) endLocked(code int) {
	c.closing = code
	c.closeBy = time.Now().Add(c.hub.cfg.WriteWait + 2*linger)
	c.pending, c.held, c.waiting = nil, nil, 0
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// closeAfterCall is close that lets a call in progress be answered first.
func (c *conn) closeAfterCall(code int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calling {
		c.closeLater = code
		return
	}
	c.closeLocked(code)
}

// begin marks a call as being handled, unless the connection is closing.
func (c *conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != 0 || c.session.IsClosed() {
		return false
	}
	c.calling = true
	return true
}

func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calling = false
	if c.closeLater != 0 {
		c.closeLocked(c.closeLater)
	}
}
