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
	} {
		if err := g.check(netip.MustParseAddr(addr)); (err == nil) != public {
			t.Errorf("%s: %v, want public=%v", addr, err, public)
		}
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
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); serveDNS(pc, [4]byte{127, 0, 0, 1}) }()
	defer func() { pc.Close(); <-done }()
	c, err := NewClient(Config{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", pc.LocalAddr().String())
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := get(t, c, "http://innocent.example/"); !blocked(err) {
		t.Errorf("%v, want BlockedError", err)
	}
}

func serveDNS(pc net.PacketConn, ip [4]byte) {
	buf := make([]byte, 1500)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) == 0 {
			continue
		}
		m.Response, m.Additionals = true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: ip}}}
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
