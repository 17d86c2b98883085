package db_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"switchboard"
	"switchboard/db"
	"switchboard/internal/auth"
	"switchboard/internal/secret"
)

// Wrong passwords beyond the free ones block the login, and the address, for twice
// as long each time, up to a quarter of an hour; an hour later they count for
// nothing, and leave nothing behind.
func TestLoginThrottle(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	ctx := t.Context()
	const free = 3
	blockedFor := func(keys ...string) time.Duration {
		t.Helper()
		until, err := d.LoginBlocked(ctx, keys)
		if err != nil {
			t.Fatal(err)
		}
		return time.Until(until).Round(time.Second)
	}
	fail := func(key string) {
		t.Helper()
		if err := d.LoginFailed(ctx, key, free); err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range []time.Duration{0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900} {
		fail("login:ann")
		if got := max(blockedFor("login:ann", "address:1"), 0); got < (want-1)*time.Second || got > want*time.Second {
			t.Errorf("after %d failures: blocked for %v, want %v", n+1, got, want*time.Second)
		}
	}
	if blockedFor("login:bob", "address:1") > 0 {
		t.Error("another login is blocked")
	}
	if blockedFor("login:bob", "login:ann") <= 0 {
		t.Error("one of two keys is blocked, and both are free")
	}
	// Logins that nobody has are counted like others, until they are of no use.
	for i := range 20 {
		fail(fmt.Sprint("login:made up ", i))
	}
	if _, err := pool.Exec(ctx, `update login_failures set since = since - interval '61 minutes', until = until - interval '61 minutes' where key <> 'login:made up 1'`); err != nil {
		t.Fatal(err)
	}
	if blockedFor("login:ann") > 0 {
		t.Error("still blocked an hour later")
	}
	if err := d.PruneLogins(ctx); err != nil {
		t.Fatal(err)
	}
	if n := scalar[int](t, pool, `select count(*) from login_failures`); n != 1 {
		t.Errorf("%d rows are left, want the fresh one", n)
	}
	fail("login:ann")
	if blockedFor("login:ann") > 0 {
		t.Error("the count did not begin anew")
	}
}

// counting counts the statements that the rate of keys costs.
type counting struct {
	auth.Store
	asked atomic.Int64
}

func (c *counting) TakeKeyRate(ctx context.Context, id string, perSecond float64, burst, n int) (int, time.Duration, error) {
	c.asked.Add(1)
	return c.Store.TakeKeyRate(ctx, id, perSecond, burst, n)
}

// A key's rate holds over all processes, whichever of them are asked, and a key that
// asks them in turn, or only one, has all of it.
func TestKeyRateOverProcesses(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	d2, err := db.New(pool, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const rate, burst = 200, 20
	for name, weights := range map[string][]int{"both": {1, 1}, "one": {1, 0}, "unevenly": {20, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token, _ := secret.NewToken()
			token = auth.KeyPrefix + token
			if _, err := d.AddAPIKey(t.Context(), switchboard.APIKey{Name: name, KeyLimits: switchboard.KeyLimits{Rate: rate, Burst: burst}}, secret.HashToken(token)); err != nil {
				t.Fatal(err)
			}
			var passed, told, waited atomic.Int64
			var group sync.WaitGroup
			stores := []*counting{{Store: d}, {Store: d2}}
			callers := 0
			start := time.Now()
			for i, w := range weights {
				process := auth.New(stores[i], slog.New(slog.DiscardHandler))
				for range w {
					callers++
					group.Go(func() {
						for time.Since(start) < 2*time.Second {
							_, err := process.Token(t.Context(), token, "192.0.2.1:5")
							limited, isLimited := errors.AsType[*auth.RateError](err)
							switch {
							case err == nil:
								passed.Add(1)
							case isLimited:
								told.Add(1)
								pause := min(limited.RetryAfter, 20*time.Millisecond)
								waited.Add(int64(pause))
								time.Sleep(pause)
							default:
								t.Error(err)
								return
							}
						}
					})
				}
			}
			group.Wait()
			took := time.Since(start).Seconds()
			least, most := 0.5*rate*took, burst+rate*(took+0.1)+1
			t.Logf("%d of %.0f requests in %.2f s, %d refused; %d and %d statements", passed.Load(), most, took, told.Load(), stores[0].asked.Load(), stores[1].asked.Load())
			// A machine that is too slow for the rate is told by callers who seldom wait.
			idle := time.Duration(waited.Load()).Seconds() / (took * float64(callers))
			if n := float64(passed.Load()); n > most || n < least && idle > 0.5 {
				t.Errorf("%.0f requests in %.2f s, want %.0f to %.0f; callers waited %.0f %% of the time", n, took, least, most, 100*idle)
			}
		})
	}
}

// A key that is far below its rate is never refused, in however many processes it is
// used: nobody hoards what others need.
func TestKeyRateIsNotHoarded(t *testing.T) {
	t.Parallel()
	d, _ := open(t)
	token, _ := secret.NewToken()
	token = auth.KeyPrefix + token
	if _, err := d.AddAPIKey(t.Context(), switchboard.APIKey{Name: "x", KeyLimits: switchboard.KeyLimits{Rate: 100, Burst: 5}}, secret.HashToken(token)); err != nil {
		t.Fatal(err)
	}
	processes := make([]*auth.Authenticator, 5)
	for i := range processes {
		processes[i] = auth.New(d, slog.New(slog.DiscardHandler))
	}
	for i := range 50 { // at 50/s at most
		if _, err := processes[i%len(processes)].Token(t.Context(), token, "192.0.2.1:5"); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
