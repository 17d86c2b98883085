package auth

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
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

// rates hands out the places of keys' requests. The allowance of a key is one row in
// the database that all processes share (GCRA). A process takes places from it in lots
// of half of what it used in the last lotLife, so that a busy key costs a few statements for
// each tenth of a second and one that is used up to twenty times a second one for
// each request; what is left of a lot expires with lotLife, so that nobody hoards. So
// in any time t a key makes at most burst + rate * (t + lotLife) requests, over all
// processes. The rate divided by the number of processes would not do: a proxy may send
// a script's connection, and all it says, to one of them.
type rates struct {
	mu   sync.Mutex
	keys map[string]*keyRate
}

// keyRate is what this process has of one key. Turn is held by whoever works on it.
type keyRate struct {
	turn    chan struct{}
	waiting atomic.Int64 // requests in line for the turn

	left    int       // places that were taken and not used
	expires time.Time // when those that are left are no good any more
	full    time.Time // nobody has to ask before this,
	free    time.Time // and there will be no place before this
	used    int       // places that were used since
	since   time.Time
	before  int // and in the lotLife before that
}

const (
	lotLife = 100 * time.Millisecond
	// ratesMost bounds the table; what is over is of keys that were not used lately.
	ratesMost = 10_000
	// refusedMost is how long a refusal holds without asking again, since what a key
	// may can be changed.
	refusedMost = time.Second
)

func (r *rates) key(id string, now time.Time) *keyRate {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.keys[id]; k != nil {
		return k
	}
	if len(r.keys) >= ratesMost {
		for id, k := range r.keys {
			select {
			case k.turn <- struct{}{}:
				idle := now.Sub(k.since) > 2*lotLife && now.After(k.full)
				<-k.turn
				if idle {
					delete(r.keys, id)
				}
			default: // at work
			}
		}
	}
	if r.keys == nil {
		r.keys = map[string]*keyRate{}
	}
	k := &keyRate{turn: make(chan struct{}, 1)}
	r.keys[id] = k
	return k
}

// take takes a place, or tells how long to wait for one.
func (r *rates) take(ctx context.Context, store Store, id string, perSecond float64, burst int) (wait time.Duration, err error) {
	if perSecond <= 0 {
		return 0, nil
	}
	if burst <= 0 {
		burst = max(int(perSecond), 1)
	}
	k := r.key(id, time.Now())
	k.waiting.Add(1)
	defer k.waiting.Add(-1)
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for a place of the key's rate: %w", ctx.Err())
	}
	now := time.Now()
	if now.Sub(k.since) >= lotLife {
		k.before = 0
		if now.Sub(k.since) < 2*lotLife {
			k.before = k.used
		}
		k.used, k.since = 0, now
	}
	if now.Before(k.full) {
		return k.free.Sub(now), nil
	}
	if k.left == 0 || !now.Before(k.expires) {
		lot := max(int(k.waiting.Load()), max(k.used, k.before)/2)
		lot = max(1, min(lot, int(perSecond*lotLife.Seconds())))
		if k.left, wait, err = store.TakeKeyRate(ctx, id, perSecond, burst, lot); err != nil {
			return 0, fmt.Errorf("taking a place of the key's rate: %w", err)
		}
		k.expires = now.Add(lotLife)
		if k.left == 0 {
			// At the limit places come one by one. Who asks a little later gets several
			// at once, and loses none as long as the burst is not full again.
			wait = max(wait, min(lotLife/2, time.Duration(float64(burst)/2/perSecond*float64(time.Second))))
			now = time.Now()
			k.full, k.free = now.Add(min(wait, refusedMost)), now.Add(wait)
			return wait, nil
		}
	}
	k.left--
	k.used++
	return 0, nil
}
