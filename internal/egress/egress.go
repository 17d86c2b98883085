// Package egress makes outgoing HTTP calls: to platforms' APIs (addresses that
// an admin configured) and to addresses that strangers chose (guarded).
//
// The guard sits below DNS, in the dialer: what is checked is the IP address
// that is about to be dialled, so names that resolve to private addresses,
// names that change between check and use, and redirects are all covered.
package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// BlockedError says that an address may not be reached.
type BlockedError struct {
	Host   string
	Reason string
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("%s may not be fetched: %s", e.Host, e.Reason)
}

// Config is of a guarded client.
type Config struct {
	// Allow lists hosts, host:port pairs, addresses or CIDRs that may be reached
	// although they are not public, or on ports other than 80 and 443.
	Allow []string
	// Resolver is for tests; nil is the system's.
	Resolver *net.Resolver
}

type guard struct {
	hosts    map[string]bool // "host" or "host:port", lower case
	prefixes []netip.Prefix
}

func newGuard(allow []string) (*guard, error) {
	g := &guard{hosts: map[string]bool{}}
	for _, a := range allow {
		a = strings.ToLower(strings.TrimSpace(a))
		if a == "" {
			continue
		}
		if strings.Contains(a, "/") {
			p, err := netip.ParsePrefix(a)
			if err != nil {
				return nil, fmt.Errorf("allowed address %q: use a host, host:port or a CIDR like 10.0.0.0/8", a)
			}
			g.prefixes = append(g.prefixes, p.Masked())
			continue
		}
		g.hosts[a] = true
	}
	return g, nil
}

// hostAllowed tells whether the name (or literal address) itself is allowed.
func (g *guard) hostAllowed(hostport string) bool {
	hostport = strings.ToLower(hostport)
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	return g.hosts[hostport] || g.hosts[host]
}

// publicIPv6 is all that was ever handed out of IPv6. What lies outside are, among
// others, the forms that carry an IPv4 address (NAT64, SIIT, IPv4-compatible).
var publicIPv6 = netip.MustParsePrefix("2000::/3")

// special are ranges beyond those that netip knows: none of them is a public
// unicast host. 2001::/23 and 2002::/16 carry IPv4 addresses inside of IPv6.
var special = func() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}()

// check refuses what is not public, and ports other than those of the web: on the
// address of another's machine, they are for its own use.
func (g *guard) check(to netip.AddrPort) error {
	addr := to.Addr().Unmap().WithZone("")
	for _, p := range g.prefixes {
		if p.Contains(addr) {
			return nil
		}
	}
	if !addr.IsGlobalUnicast() || addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() ||
		(addr.Is6() && !publicIPv6.Contains(addr)) {
		return &BlockedError{addr.String(), "not a public address"}
	}
	for _, p := range special {
		if p.Contains(addr) {
			return &BlockedError{addr.String(), "not a public address"}
		}
	}
	if to.Port() != 80 && to.Port() != 443 {
		return &BlockedError{addr.String(), fmt.Sprintf("port %d is not one of the web", to.Port())}
	}
	return nil
}

type allowedHost struct{}

// Policy tells beforehand what a client of NewClient refuses.
type Policy struct{ guard *guard }

// NewPolicy is the policy of clients with the same list.
func NewPolicy(allow []string) (*Policy, error) {
	g, err := newGuard(allow)
	if err != nil {
		return nil, err
	}
	return &Policy{g}, nil
}

// Check tells what is wrong with a web address as it is written: a literal address
// that is never reached is a *BlockedError. What a name resolves to is found out when
// it is called, since it may be another one by then.
func (p *Policy) Check(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return &BlockedError{"the address", "it can't be read"}
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	host := strings.TrimSuffix(u.Hostname(), ".")
	if p.guard.hostAllowed(net.JoinHostPort(host, port)) {
		return nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		if numericHost.MatchString(host) {
			return &BlockedError{host, "it is no address in the form 192.0.2.1"}
		}
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return &BlockedError{host, "port " + port + " is not one of the web"}
	}
	return p.guard.check(netip.AddrPortFrom(addr, uint16(n)))
}

// numericHost are the ways to write an IPv4 address that only some resolvers know:
// 127.1, 0x7f000001, 2130706433, 0177.0.0.1.
var numericHost = regexp.MustCompile(`^(?i:0x[0-9a-f]*|[0-9]+)(\.(?i:0x[0-9a-f]*|[0-9]+))*$`)

// NewClient returns a client for addresses that came from outside. It follows
// at most five redirects, each checked, uses no proxy of the environment, and
// has no overall timeout: requests carry a context with a deadline.
func NewClient(cfg Config) (*http.Client, error) {
	g, err := newGuard(cfg.Allow)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, Resolver: cfg.Resolver,
		ControlContext: func(ctx context.Context, _, address string, _ syscall.RawConn) error {
			if ctx.Value(allowedHost{}) != nil {
				return nil
			}
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return &BlockedError{address, "not an address"}
			}
			return g.check(ap)
		}}
	transport := newTransport()
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if g.hostAllowed(address) {
			ctx = context.WithValue(ctx, allowedHost{}, true)
		}
		return dialer.DialContext(ctx, network, address)
	}
	return &http.Client{
		Transport: schemeCheck{transport},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) >= 5 {
				return errors.New("more than 5 redirects")
			}
			return nil
		},
	}, nil
}

// schemeCheck refuses everything but http and https, also after a redirect.
type schemeCheck struct{ next http.RoundTripper }

func (s schemeCheck) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" && r.URL.Scheme != "https" {
		return nil, &BlockedError{r.URL.Hostname(), "only http and https are fetched"}
	}
	return s.next.RoundTrip(r)
}

// NewPlatformClient returns a client for platforms' APIs at configured
// addresses. It follows no redirects: an API that redirects is misconfigured,
// and the token would go along.
func NewPlatformClient() *http.Client {
	return &http.Client{
		Transport:     newTransport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:     (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		// As many as sends in flight: fewer idle ones than busy ones means a new
		// connection per send.
		MaxIdleConns: 1024, MaxIdleConnsPerHost: 512, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second, ExpectContinueTimeout: time.Second, ForceAttemptHTTP2: true,
	}
}

// Redact takes secrets out of an error's text: the address of a *url.Error
// (tokens stand in paths), and every given secret. errors.Is and As still see
// the cause, but its text is not shown.
func Redact(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if u, ok := errors.AsType[*url.Error](err); ok {
		text = strings.ToUpper(u.Op) + ": " + u.Err.Error()
	}
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[redacted]")
			text = strings.ReplaceAll(text, url.PathEscape(s), "[redacted]")
		}
	}
	return &redacted{text, err}
}

type redacted struct {
	text string
	err  error
}

func (r *redacted) Error() string { return r.text }

// Is and As look at the cause without exposing it to Unwrap, whose callers print.
func (r *redacted) Is(target error) bool { return errors.Is(r.err, target) }
func (r *redacted) As(target any) bool   { return errors.As(r.err, target) }
