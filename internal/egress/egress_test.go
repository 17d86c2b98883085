package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func get(t *testing.T, c *http.Client, url string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err == nil {
		res.Body.Close()
	}
	return err
}

func blocked(err error) bool {
	_, ok := errors.AsType[*BlockedError](err)
	return ok
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	g, err := newGuard([]string{"10.1.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	for addr, public := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true, "10.1.2.3": true, "::ffff:10.1.2.3": true,
		"127.0.0.1": false, "127.9.9.9": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"100.64.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false,
		"::1": false, "::": false, "fe80::1": false, "fc00::1": false, "fd12::1": false, "ff02::1": false, "::ffff:127.0.0.1": false,
		"::127.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "fec0::1": false,
		"fe80::1%eth0": false, "::ffff:169.254.169.254": false, "::ffff:0:127.0.0.1": false, "::ffff:7f00:1%1": false, "64:ff9b:1::a00:1": false, "2001:0:7f00:1::1": false,
		"3fff::1": false, "5f00::1": false, "100::1": false, "2001:db8::1": false, "192.0.0.8": false, "192.88.99.1": false, "fd00:ec2::254": false,
	} {
		if err := g.check(netip.AddrPortFrom(netip.MustParseAddr(addr), 443)); (err == nil) != public {
			t.Errorf("%s: %v, want public=%v", addr, err, public)
		}
	}
	for port, web := range map[uint16]bool{80: true, 443: true, 22: false, 25: false, 6379: false, 8080: false, 0: false} {
		if err := g.check(netip.AddrPortFrom(netip.MustParseAddr("93.184.216.34"), port)); (err == nil) != web {
			t.Errorf("port %d: %v, want taken=%v", port, err, web)
		}
		if err := g.check(netip.AddrPortFrom(netip.MustParseAddr("10.1.2.3"), port)); err != nil {
			t.Errorf("port %d in an allowed range: %v", port, err)
		}
	}
}

// However loopback is written, and wherever a redirect leads: nothing is asked.
func TestAddressesInDisguise(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer inner.Close()
	_, port, _ := net.SplitHostPort(inner.Listener.Addr().String())
	var to string
	outer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer outer.Close()
	resolver := answering(t, func(int) netip.Addr { return netip.MustParseAddr("127.0.0.1") })
	c, err := NewClient(Config{Allow: []string{outer.Listener.Addr().String()}, Resolver: resolver})
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{
		"127.0.0.1", "localhost", "LOCALHOST.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0", "0.0.0.0",
		"[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:0001]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[fe80::1%25lo]",
		"[::1%25lo]", "\u2460\u2461\u2466.0.0.1", "127\u30020\u30020\u30021", "innocent.example", "user:pass@127.0.0.1", "127.0.0.1%09",
	} {
		for name, ask := range map[string]string{"link": "http://" + host + ":" + port + "/x.jpg", "redirect": outer.URL} {
			to = "http://" + host + ":" + port + "/x.jpg"
			req, err := http.NewRequestWithContext(t.Context(), "GET", ask, nil)
			if err != nil {
				continue // no address at all
			}
			res, err := c.Do(req)
			if err == nil {
				res.Body.Close()
				t.Errorf("%s %s: answered %d", name, host, res.StatusCode)
			} else if strings.Contains(err.Error(), "port") && blocked(err) {
				t.Errorf("%s %s: refused for its port only: %v", name, host, err)
			}
		}
	}
	for _, link := range []string{"file:///etc/passwd", "gopher://127.0.0.1:" + port + "/_GET", "ftp://127.0.0.1/", "data:text/plain,x", "unix:///run/x.sock", "//127.0.0.1:" + port, "javascript:alert(1)"} {
		to = link
		for name, ask := range map[string]string{"link": link, "redirect": outer.URL} {
			if err := get(t, c, ask); err == nil {
				t.Errorf("%s %s was fetched", name, link)
			}
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests reached the inner server", n)
	}
}

// A name that is public when it is looked at first and private when it is dialled
// (DNS rebinding) is refused: what is checked is what is dialled.
func TestNameThatTurnsPrivate(t *testing.T) {
	t.Parallel()
	var looks atomic.Int64
	resolver := answering(t, func(n int) netip.Addr {
		looks.Store(int64(n))
		if n == 1 {
			return netip.MustParseAddr("93.184.216.34")
		}
		return netip.MustParseAddr("127.0.0.1")
	})
	// Whoever checks first and dials later asks twice, as here.
	if first, err := resolver.LookupNetIP(t.Context(), "ip4", "turning.example"); err != nil || first[0].IsLoopback() {
		t.Fatal(first, err)
	}
	c, err := NewClient(Config{Resolver: resolver})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := get(t, c, "http://turning.example/"); !blocked(err) {
			t.Errorf("%v, want BlockedError", err)
		}
	}
	if looks.Load() < 2 {
		t.Errorf("the name was looked up %d times", looks.Load())
	}
}

func TestGuardedClient(t *testing.T) {
	t.Parallel()
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer inner.Close()
	host := inner.Listener.Addr().String()
	guarded, err := NewClient(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{inner.URL, "http://localhost" + host[strings.LastIndex(host, ":"):], "http://[::ffff:127.0.0.1]:80/", "http://2130706433/", "http://0/"} {
		if err := get(t, guarded, url); err == nil {
			t.Errorf("%s was fetched", url)
		}
	}
	if err := get(t, guarded, inner.URL); !blocked(err) {
		t.Errorf("loopback: %v, want BlockedError", err)
	}
	if err := get(t, guarded, "file:///etc/passwd"); err == nil {
		t.Error("a file was fetched")
	}
	// An allowed host that redirects to one that isn't.
	outer := httptest.NewServer(http.RedirectHandler(inner.URL, http.StatusFound))
	defer outer.Close()
	half, err := NewClient(Config{Allow: []string{outer.Listener.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := get(t, half, outer.URL); !blocked(err) {
		t.Errorf("redirect to a private address: %v, want BlockedError", err)
	}
	both, err := NewClient(Config{Allow: []string{"127.0.0.0/8"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := get(t, both, outer.URL); err != nil {
		t.Errorf("allowed range: %v", err)
	}
	if _, err := NewClient(Config{Allow: []string{"10.0.0.0/99"}}); err == nil {
		t.Error("a bad CIDR was taken")
	}
}

// A name that resolves to a private address is refused although the name looks public.
func TestNameThatResolvesToPrivate(t *testing.T) {
	t.Parallel()
	for _, ip := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"} {
		c, err := NewClient(Config{Resolver: answering(t, func(int) netip.Addr { return netip.MustParseAddr(ip) })})
		if err != nil {
			t.Fatal(err)
		}
		if err := get(t, c, "http://innocent.example/"); !blocked(err) {
			t.Errorf("%s: %v, want BlockedError", ip, err)
		}
	}
}

// answering is a resolver to which every name has the address that ip returns for
// the n-th question, counted from 1.
func answering(t *testing.T, ip func(n int) netip.Addr) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); serveDNS(pc, ip) }()
	t.Cleanup(func() { pc.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

func serveDNS(pc net.PacketConn, ip func(n int) netip.Addr) {
	buf := make([]byte, 1500)
	for asked := 0; ; {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) == 0 {
			continue
		}
		m.Response, m.Additionals = true, nil
		q := m.Questions[0]
		head := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
		if q.Type == dnsmessage.TypeA {
			asked++
		}
		switch addr := ip(max(asked, 1)); {
		case q.Type == dnsmessage.TypeA && addr.Is4():
			m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: addr.As4()}}}
		case q.Type == dnsmessage.TypeAAAA && addr.Is6():
			m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}}}
		}
		if out, err := m.Pack(); err == nil {
			_, _ = pc.WriteTo(out, from)
		}
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	err := get(t, NewPlatformClient(), "http://127.0.0.1:1/bot12:SECRET/getMe")
	red := Redact(fmt.Errorf("calling: %w", err), "12:SECRET")
	if strings.Contains(red.Error(), "SECRET") {
		t.Errorf("secret in %q", red)
	}
	if _, ok := errors.AsType[*net.OpError](red); !ok {
		t.Error("the cause is lost")
	}
}

// What is refused before it is called is refused when it is, and what is allowed is
// not. Names are looked up only then.
func TestPolicy(t *testing.T) {
	t.Parallel()
	for address, good := range map[string]bool{
		"https://example.org/a": true, "https://8.8.8.8/": true, "http://[2606:4700::1111]/": true, "http://intranet:8080/": true, "http://localhost/": true,
		"http://10.0.0.5/": false, "http://192.168.1.1/": false, "http://172.16.0.1/": false, "http://127.0.0.1/": false, "http://169.254.169.254/latest/meta-data": false,
		"http://0.0.0.0/": false, "http://100.64.0.1/": false, "http://[::1]/": false, "http://[::]/": false, "http://[fe80::1%25eth0]/": false, "http://[fd00::1]/": false,
		"http://[::ffff:127.0.0.1]/": false, "http://[64:ff9b::7f00:1]/": false, "http://127.0.0.1./": false, "http://224.0.0.1/": false, "http://255.255.255.255/": false,
		"http://127.1/": false, "http://0x7f000001/": false, "http://2130706433/": false, "http://0177.0.0.1/": false, "http://0x7f.1/": false,
		"https://8.8.8.8:8443/": false, "https://8.8.8.8:99999/": false, "http://10.0.0.5:80 80/": false,
		"http://10.9.0.1:8080/": true, "http://10.8.0.1:8080/": true, "http://10.8.0.1:8081/": false, "http://10.7.0.1:1/": true,
	} {
		p, err := NewPolicy([]string{"10.9.0.0/16", "10.8.0.1:8080", "10.7.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(address); (err == nil) != good {
			t.Errorf("%s: %v, want good: %v", address, err, good)
		}
	}
	if _, err := NewPolicy([]string{"10.0.0.0/99"}); err == nil {
		t.Error("a CIDR that is none is taken")
	}
}
