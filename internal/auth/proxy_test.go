package auth_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"switchboard/internal/auth"
)

func TestBehindProxies(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tc := range []struct {
		name, peer string
		header     []string
		want       string
	}{
		{"no header", "10.0.0.1:5000", nil, "10.0.0.1:5000"},
		{"one proxy", "10.0.0.1:5000", []string{"203.0.113.7"}, "203.0.113.7:0"},
		{"what the client wrote before", "10.0.0.1:5000", []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7:0"},
		{"in a header of its own", "10.0.0.1:5000", []string{"198.51.100.1", "203.0.113.7"}, "203.0.113.7:0"},
		{"two proxies", "10.0.0.1:5000", []string{"198.51.100.1, 203.0.113.7, 10.0.0.2"}, "203.0.113.7:0"},
		{"a client of the proxies' network", "10.0.0.1:5000", []string{"10.9.9.9"}, "10.9.9.9:0"},
		{"a stranger", "203.0.113.7:5000", []string{"198.51.100.1"}, "203.0.113.7:5000"},
		{"nonsense", "10.0.0.1:5000", []string{"unknown"}, "10.0.0.1:5000"},
		{"nonsense before a proxy", "10.0.0.1:5000", []string{"203.0.113.7, x, 10.0.0.2"}, "10.0.0.2:0"},
		{"IPv6", "[fd00::1]:5000", []string{"2001:db8::7"}, "[2001:db8::7]:0"},
		{"with ports", "10.0.0.1:5000", []string{"[2001:db8::7]:443, 10.0.0.2:1234"}, "[2001:db8::7]:0"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:5000", []string{"::ffff:203.0.113.7"}, "203.0.113.7:0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, on := range []bool{true, false} {
				prefixes, want := trusted, tc.want
				if !on {
					prefixes, want = nil, tc.peer
				}
				got := ""
				h := auth.BehindProxies(prefixes, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }))
				r := httptest.NewRequest(http.MethodPost, "/", nil)
				r.RemoteAddr = tc.peer
				r.Header["X-Forwarded-For"] = tc.header
				h.ServeHTTP(httptest.NewRecorder(), r)
				if got != want {
					t.Errorf("trusted %v: the client is %q, want %q", on, got, want)
				}
			}
		})
	}
}
