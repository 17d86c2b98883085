package db_test

import (
	"fmt"
	"testing"
	"time"
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
