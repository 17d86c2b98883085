package workers

import (
	"testing"
	"testing/synctest"
	"time"
)

// Ten sends that are due at once, after a hold-up, leave at the account's rate, and
// no other account waits for them.
func TestGates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g gates
		began := time.Now()
		for i := range 10 {
			if !g.pass(t.Context(), nil, "a", 20) {
				t.Fatal("closed")
			}
			if at, want := time.Since(began), time.Duration(i)*50*time.Millisecond; at != want {
				t.Errorf("send %d left at %v, want %v", i, at, want)
			}
		}
		for range 1000 {
			if !g.pass(t.Context(), nil, "unlimited", 0) {
				t.Fatal("closed")
			}
		}
		stop := make(chan struct{})
		close(stop)
		if g.pass(t.Context(), stop, "a", 20) {
			t.Error("a send left after the stop")
		}
		if since := time.Since(began); since != 450*time.Millisecond {
			t.Errorf("the others took %v", since)
		}
		time.Sleep(time.Minute)
		began = time.Now()
		if g.pass(t.Context(), nil, "a", 20); time.Since(began) != 0 {
			t.Error("an idle account waits")
		}
	})
}
