package workers

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
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

// A send that was cut off is settled before anything puts it off: put off, it would
// look like one that never left.
func TestCutOffSendIsNotPutOff(t *testing.T) {
	t.Parallel()
	stopping := make(chan struct{})
	close(stopping)
	for guarantee, want := range map[string]queue.OutcomeKind{"at_most_once": queue.OutcomeFailed, "at_least_once": queue.OutcomeRetry} {
		w := &Workers{stopping: stopping, deps: Deps{Accounts: oneAccount{&channels.Opened{Guarantee: guarantee, Capabilities: message.Capabilities{Rate: message.Rate{PerSecond: 1}}}}}}
		w.gates.reserve("a", 1, time.Now()) // the next one has to wait
		o := w.send(t.Context(), &queue.Claim{AccountID: "a", Orphan: true})
		if o.Kind != want || (want == queue.OutcomeRetry) != (o.Log.Note != "") {
			t.Errorf("%s: %+v", guarantee, o)
		}
	}
}

type oneAccount struct{ opened *channels.Opened }

func (a oneAccount) Get(context.Context, string) (*channels.Opened, error) { return a.opened, nil }
