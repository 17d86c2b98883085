package workers

import (
	"testing"
	"time"
)

// Who was asked for is asked for again after some hours, or when it failed.
func TestProfilesDue(t *testing.T) {
	t.Parallel()
	p := newProfiles()
	k, other := profileKey{"a", "1"}, profileKey{"b", "1"}
	now := time.Unix(1781001200, 0)
	for i, step := range []struct {
		key   profileKey
		after time.Duration
		want  bool
	}{
		{k, 0, true}, {k, time.Minute, false}, {other, time.Minute, true}, {k, profileAge - time.Second, false}, {k, profileAge, true}, {k, profileAge + time.Minute, false},
	} {
		if got := p.due(step.key, now.Add(step.after)); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	p.forget(k)
	if !p.due(k, now.Add(profileAge)) {
		t.Error("a failed call is not repeated")
	}
	for i := range profilesKept + 1 {
		p.due(profileKey{"c", time.Duration(i).String()}, now)
	}
	if n := len(p.asked); n > profilesKept {
		t.Errorf("%d are remembered", n)
	}
}
