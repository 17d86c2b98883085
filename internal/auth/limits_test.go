package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"switchboard"
	"switchboard/internal/auth"
)

// oneKey is a store with one key and one session.
type oneKey struct {
	auth.Store
	key      switchboard.APIKey
	operator switchboard.Operator
	tats     map[string]time.Time
	asked    int // for places
}

func (o *oneKey) APIKeyByHash(context.Context, []byte) (switchboard.APIKey, error) { return o.key, nil }

// TakeKeyRate is one process' own, for what auth does with it; what all share is tested
// with the database.
func (o *oneKey) TakeKeyRate(_ context.Context, id string, perSecond float64, burst, n int) (int, time.Duration, error) {
	interval, now := time.Duration(float64(time.Second)/perSecond), time.Now()
	if o.tats == nil {
		o.tats = map[string]time.Time{}
	}
	o.asked++
	tat := o.tats[id]
	if tat.Before(now) {
		tat = now
	}
	free := burst - int((tat.Sub(now)+interval-1)/interval)
	if free < 1 {
		return 0, tat.Sub(now) - time.Duration(burst-1)*interval, nil
	}
	n = min(n, free)
	o.tats[id] = tat.Add(time.Duration(n) * interval)
	return n, 0, nil
}

func (o *oneKey) Session(context.Context, []byte) (switchboard.Operator, time.Time, error) {
	return o.operator, time.Now().Add(time.Hour), nil
}

// A key gets its burst at once and its rate in the long run, exactly; another one's
// is its own.
func TestKeyRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &oneKey{key: switchboard.APIKey{ID: "a", KeyLimits: switchboard.KeyLimits{Rate: 5, Burst: 3}}}
		a := auth.New(store, slog.New(slog.DiscardHandler))
		passed := 0
		try := func() (wait time.Duration) {
			_, err := a.Token(t.Context(), auth.KeyPrefix+"x", "192.0.2.1:5")
			if limited, ok := errors.AsType[*auth.RateError](err); ok {
				return limited.RetryAfter
			}
			if err != nil {
				t.Fatal(err)
			}
			passed++
			return 0
		}
		for range 10 {
			try()
		}
		if passed != 3 {
			t.Errorf("%d requests at once, want the burst of 3", passed)
		}
		wait := try()
		if wait <= 0 || wait > 200*time.Millisecond {
			t.Errorf("told to wait %v, want up to 200 ms", wait)
		}
		time.Sleep(wait)
		if try() != 0 {
			t.Error("whoever waits as long as they were told is refused")
		}
		passed = 0
		for range 1000 { // 10 s
			try()
			time.Sleep(10 * time.Millisecond)
		}
		if passed < 49 || passed > 51 {
			t.Errorf("%d requests in 10 s at 5/s", passed)
		}
		store.key.ID = "b"
		if try() != 0 {
			t.Error("another key is held up")
		}
		store.key = switchboard.APIKey{ID: "c"}
		for range 100 {
			if try() != 0 {
				t.Fatal("a key without a rate is limited")
			}
		}
	})
}

func TestNetworksOfKeysAndPeople(t *testing.T) {
	t.Parallel()
	list, err := switchboard.Networks([]string{" 192.0.2.7", "198.51.100.9/24", "2001:db8::1/32", "::ffff:203.0.113.0/120", "192.0.2.7/32"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(list), 4; got != want {
		t.Fatalf("networks %q", list)
	}
	for _, bad := range []string{"", "example.org", "192.0.2.0/33", "192.0.2", "::ffff:0:0/64"} {
		if _, err := switchboard.Networks([]string{bad}); !errors.Is(err, switchboard.ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	store := &oneKey{key: switchboard.APIKey{ID: "a"}, operator: switchboard.Operator{ID: "o"}}
	a := auth.New(store, slog.New(slog.DiscardHandler))
	for from, want := range map[string]bool{
		"192.0.2.7:1": true, "192.0.2.8:1": false, "198.51.100.200:1": true, "[2001:db8:ffff::1]:1": true, "[2001:db9::1]:1": false,
		"[::ffff:192.0.2.7]:1": true, "203.0.113.5:1": true, "[2001:db8::1%eth0]:1": true, "nonsense": false, "": false,
	} {
		for token, set := range map[string]*[]string{auth.KeyPrefix + "x": &store.key.AllowFrom, "session": &store.operator.AllowFrom} {
			*set = list
			_, err := a.Token(t.Context(), token, from)
			_, refused := errors.AsType[*auth.AddressError](err)
			if refused == want || (want && err != nil) {
				t.Errorf("%s from %q: %v, want in: %v", token, from, err, want)
			}
			*set = nil
			if _, err := a.Token(t.Context(), token, from); err != nil {
				t.Errorf("%s from %q without a list: %v", token, from, err)
			}
		}
	}
}
