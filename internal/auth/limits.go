package auth

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// AddressError says that a key or login may not be used from where it was.
type AddressError struct {
	Address string
	what    string
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("%s may not be used from %s; an admin can allow the address", e.what, e.Address)
}

func addressError(remoteAddr, what string) error {
	return &AddressError{ClientAddress(remoteAddr), what}
}

// RateError says that an API key is used more often than it may.
type RateError struct {
	Rate       float64 // per second
	RetryAfter time.Duration
}

func (e *RateError) Error() string {
	return fmt.Sprintf("this API key may make %g requests per second; try again in %v", e.Rate, e.RetryAfter.Round(time.Millisecond))
}

// ClientAddress is the IP address of a request's RemoteAddr.
func ClientAddress(remoteAddr string) string {
	if a, ok := address(remoteAddr); ok {
		return a.String()
	}
	return remoteAddr
}

// allowed tells whether an address lies in one of the networks; none allow all, and
// one that can't be read allows nothing.
func allowed(networks []string, remoteAddr string) bool {
	if len(networks) == 0 {
		return true
	}
	at, ok := address(remoteAddr)
	if !ok {
		return false
	}
	for _, n := range networks {
		if p, err := netip.ParsePrefix(n); err == nil && p.Contains(at) {
			return true
		}
	}
	return false
}

type addressKey struct{}

// WithAddress notes where a request came from, for the audit journal.
func WithAddress(ctx context.Context, remoteAddr string) context.Context {
	return context.WithValue(ctx, addressKey{}, ClientAddress(remoteAddr))
}

// Addressed is WithAddress for every request of a server.
func Addressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(WithAddress(r.Context(), r.RemoteAddr)))
	})
}

// Address is what WithAddress noted; "" outside of requests.
func Address(ctx context.Context) string {
	a, _ := ctx.Value(addressKey{}).(string)
	return a
}

// rates are the theoretical arrival times of keys' next requests (GCRA), of this
// process alone: a limit that all share would cost a write per request.
type rates struct {
	mu  sync.Mutex
	tat map[string]time.Time
}

// ratesMost bounds the table; what is over is of keys that were not used lately.
const ratesMost = 10_000

// take takes a place, or tells how long to wait for one.
func (r *rates) take(id string, perSecond float64, burst int, now time.Time) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	interval := time.Duration(float64(time.Second) / perSecond)
	if burst <= 0 {
		burst = max(int(perSecond), 1)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tat == nil {
		r.tat = map[string]time.Time{}
	}
	if len(r.tat) >= ratesMost {
		for k, t := range r.tat {
			if t.Before(now) {
				delete(r.tat, k)
			}
		}
	}
	tat := r.tat[id]
	if tat.Before(now) {
		tat = now
	}
	if wait := tat.Sub(now) - time.Duration(burst-1)*interval; wait > 0 {
		return wait
	}
	r.tat[id] = tat.Add(interval)
	return 0
}
