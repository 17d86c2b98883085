package auth

import (
	"net/http"
	"net/netip"
	"strings"
)

// BehindProxies makes RemoteAddr the client's address where a request came
// through trusted proxies, as X-Forwarded-For has it: the last address in it
// that is not a proxy's own. What stands before that is the client's to invent,
// and so is the whole header when the peer is no trusted proxy.
func BehindProxies(trusted []netip.Prefix, next http.Handler) http.Handler {
	if len(trusted) == 0 {
		return next
	}
	isProxy := func(a netip.Addr) bool {
		for _, p := range trusted {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, ok := address(r.RemoteAddr)
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		moved := false
		for i := len(hops) - 1; i >= 0 && ok && isProxy(at); i-- {
			var before netip.Addr
			if before, ok = address(strings.TrimSpace(hops[i])); ok {
				at, moved = before, true
			}
		}
		if moved {
			r = r.WithContext(r.Context())
			r.RemoteAddr = netip.AddrPortFrom(at, 0).String()
		}
		next.ServeHTTP(w, r)
	})
}

// address reads an IP address, with or without a port.
func address(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return a.Unmap().WithZone(""), err == nil
}

// origin is the key that failed logins from an address are counted by. Whoever
// has an IPv6 address has all those of its /64, so they count as one.
func origin(remoteAddr string) string {
	a, ok := address(remoteAddr)
	if !ok {
		return remoteAddr
	}
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
