package zktest

import (
	"context"
	"net"
	"sync"
	"testing"
)

// Proxy stands between one client and one server and breaks their connection in the ways networks do.
type Proxy struct {
	network  string
	target   string
	listener net.Listener
	work     sync.WaitGroup

	mu      sync.Mutex
	mode    proxyMode
	changed chan struct{} // closed and replaced when mode changes
	conns   map[net.Conn]struct{}
}

type proxyMode int

const (
	passing proxyMode = iota
	refusing
	frozen
	closed
)

// NewProxy listens on a free loopback port and passes connections on to target until the test ends.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	return NewProxyTo(tb, "tcp", target)
}

// NewProxyTo is NewProxy for targets on any network that net.Dial knows, such as
// the unix socket of a Postgres.
func NewProxyTo(tb testing.TB, network, target string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("zktest: starting proxy: %v", err)
	}
	p := &Proxy{network: network, target: target, listener: l, changed: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	p.work.Go(p.accept)
	tb.Cleanup(func() {
		_ = l.Close()
		p.set(closed)
		p.work.Wait()
	})
	return p
}

// NewProxies returns one proxy per server and their addresses.
func NewProxies(tb testing.TB, servers []string) (proxies []*Proxy, addrs []string) {
	tb.Helper()
	for _, server := range servers {
		p := NewProxy(tb, server)
		proxies = append(proxies, p)
		addrs = append(addrs, p.Addr())
	}
	return proxies, addrs
}

// Addr is the address to connect to, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut closes all connections and every new one at once, like a peer that is gone.
func (p *Proxy) Cut() { p.set(refusing) }

// Freeze passes nothing on in either direction and closes nothing, like a cable that was pulled. What was sent
// meanwhile arrives after Heal.
func (p *Proxy) Freeze() { p.set(frozen) }

// Heal passes everything on again.
func (p *Proxy) Heal() { p.set(passing) }

func (p *Proxy) set(m proxyMode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	close(p.changed)
	p.changed = make(chan struct{})
	if m == refusing || m == closed {
		for c := range p.conns {
			_ = c.Close()
		}
	}
}

// wait blocks while the proxy is frozen and reports whether bytes may pass.
func (p *Proxy) wait() bool {
	for {
		p.mu.Lock()
		mode, changed := p.mode, p.changed
		p.mu.Unlock()
		if mode != frozen {
			return mode == passing
		}
		<-changed
	}
}

// hold registers c to be closed by Cut, unless it is too late for that.
func (p *Proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == refusing || p.mode == closed {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) release(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.release(client)
	if !p.hold(client) || !p.wait() {
		return
	}
	var d net.Dialer
	server, err := d.DialContext(context.Background(), p.network, p.target)
	if err != nil {
		return
	}
	defer p.release(server)
	if !p.hold(server) {
		return
	}
	var up sync.WaitGroup
	up.Go(func() { p.pipe(server, client) })
	p.pipe(client, server)
	up.Wait()
}

func (p *Proxy) pipe(dst, src net.Conn) {
	// One side's end is the other's: ZooKeeper does not use half-closed connections.
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if !p.wait() {
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
