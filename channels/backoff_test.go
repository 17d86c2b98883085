package channels_test

import (
	"testing"
	"time"

	"switchboard/channels"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	var b channels.Backoff
	now := time.Unix(1781001200, 0)
	if b.Holds(now) {
		t.Error("holds before the first pause")
	}
	for i, want := range []time.Duration{30, 60, 120, 240, 300, 300} {
		want *= time.Second
		if got := b.Pause(now, 30*time.Second, 5*time.Minute); got != want {
			t.Errorf("pause %d is %s, want %s", i, got, want)
		}
		now = now.Add(want / 2)
		if got := b.Pause(now, 30*time.Second, 5*time.Minute); got != want/2 || !b.Holds(now) {
			t.Errorf("in the middle of pause %d: %s", i, got)
		}
		now = now.Add(want / 2)
		if b.Holds(now) {
			t.Errorf("pause %d holds on", i)
		}
	}
}
