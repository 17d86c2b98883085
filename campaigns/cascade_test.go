package campaigns_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"switchboard/campaigns"
	"switchboard/internal/queue"
	"switchboard/message"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// sent is a message of a step that was queued some minutes before noon.
func sent(step int, ago time.Duration, status message.Status) queue.CampaignSend {
	s := queue.CampaignSend{MessageID: fmt.Sprint("m", step), Step: step, At: noon.Add(-ago), Status: status}
	switch status {
	case "":
		s.Status = message.StatusQueued
	case message.StatusSent, message.StatusDelivered, message.StatusRead:
		s.Taken = true
	case message.StatusFailed:
		s.Reason = "refused"
	}
	return s
}

func with(s queue.CampaignSend, change func(*queue.CampaignSend)) queue.CampaignSend {
	change(&s)
	return s
}

func taken(s *queue.CampaignSend)    { s.Taken = true }
func passed(s *queue.CampaignSend)   { s.Passed = true }
func barred(s *queue.CampaignSend)   { s.Barred = true }
func ofRound1(s *queue.CampaignSend) { s.Round = 1 }

const (
	queued    = message.StatusQueued
	accepted  = message.StatusSent
	delivered = message.StatusDelivered
	read      = message.StatusRead
	refused   = message.StatusFailed
	expired   = message.StatusExpired
	canceled  = message.StatusCanceled
	skipped   = campaigns.Skipped
	minute    = time.Minute
)

func TestCascade(t *testing.T) {
	t.Parallel()
	one := func(s campaigns.Success) []campaigns.Rung { return []campaigns.Rung{{s, 10 * minute}} }
	two := func(s campaigns.Success) []campaigns.Rung {
		return []campaigns.Rung{{s, 10 * minute}, {s, 10 * minute}}
	}
	type sends []queue.CampaignSend
	for _, c := range []struct {
		name  string
		rungs []campaigns.Rung
		round int
		sends sends
		phase campaigns.Phase
		want  string // status, the step it is of, and what happens next
	}{
		{"nothing was sent", one(campaigns.Accepted), 0, nil, campaigns.Running, "queued of 0, begins 0"},
		{"nothing was sent, paused", one(campaigns.Accepted), 0, nil, campaigns.Paused, "queued of 0, looks again at 0s"},
		{"nothing was sent, canceled", one(campaigns.Accepted), 0, nil, campaigns.Stopped, "canceled of 0, done"},
		{"nothing was sent, too late", one(campaigns.Accepted), 0, nil, campaigns.Ended, "expired of 0, done"},

		{"one step waits for its turn", one(campaigns.Accepted), 0, sends{sent(0, minute, queued)}, campaigns.Running, "queued of 0, waits"},
		{"one step waits beyond its wait", one(campaigns.Accepted), 0, sends{sent(0, 11*minute, queued)}, campaigns.Running, "queued of 0, waits"},
		{"accepted is enough", one(campaigns.Accepted), 0, sends{sent(0, minute, accepted)}, campaigns.Running, "sent of 0, won, done"},
		{"more than accepted, too", one(campaigns.Accepted), 0, sends{sent(0, minute, read)}, campaigns.Running, "read of 0, won, done"},
		{"accepted, and refused later", one(campaigns.Accepted), 0, sends{with(sent(0, minute, refused), taken)}, campaigns.Running, "failed of 0 (refused), won, done"},
		{"one step failed", one(campaigns.Accepted), 0, sends{sent(0, minute, refused)}, campaigns.Running, "failed of 0 (refused), done"},
		{"one step expired", one(campaigns.Accepted), 0, sends{sent(0, minute, expired)}, campaigns.Running, "expired of 0, done"},
		{"not delivered yet", one(campaigns.Delivered), 0, sends{sent(0, 4*minute, accepted)}, campaigns.Running, "sent of 0, looks again at 6m0s"},
		{"not delivered in time", one(campaigns.Delivered), 0, sends{sent(0, 10*minute, accepted)}, campaigns.Running, "sent of 0, done"},
		{"delivered", one(campaigns.Delivered), 0, sends{sent(0, minute, delivered)}, campaigns.Running, "delivered of 0, won, done"},
		{"delivered late", one(campaigns.Delivered), 0, sends{sent(0, 20*minute, delivered)}, campaigns.Running, "delivered of 0, won, done"},
		{"delivered but not read", one(campaigns.Read), 0, sends{sent(0, minute, delivered)}, campaigns.Running, "delivered of 0, looks again at 9m0s"},
		{"never read", one(campaigns.Read), 0, sends{sent(0, 20*minute, delivered)}, campaigns.Running, "delivered of 0, done"},
		{"read", one(campaigns.Read), 0, sends{sent(0, minute, read)}, campaigns.Running, "read of 0, won, done"},

		{"failed, another step", two(campaigns.Accepted), 0, sends{sent(0, minute, refused)}, campaigns.Running, "failed of 0 (refused), begins 1"},
		{"expired, another step", two(campaigns.Accepted), 0, sends{sent(0, minute, expired)}, campaigns.Running, "expired of 0, begins 1"},
		{"failed while paused", two(campaigns.Accepted), 0, sends{sent(0, minute, refused)}, campaigns.Paused, "failed of 0 (refused), looks again at 0s"},
		{"failed in a canceled campaign", two(campaigns.Accepted), 0, sends{sent(0, minute, refused)}, campaigns.Stopped, "failed of 0 (refused), done"},
		{"not accepted yet, another step", two(campaigns.Accepted), 0, sends{sent(0, minute, queued)}, campaigns.Running, "queued of 0, looks again at 9m0s"},
		{"not accepted in time", two(campaigns.Accepted), 0, sends{sent(0, 10*minute, queued)}, campaigns.Running, "queued of 0, begins 1, stops 0"},
		{"not delivered in time, another step", two(campaigns.Delivered), 0, sends{sent(0, 10*minute, accepted)}, campaigns.Running, "sent of 0, begins 1"},
		{"not read in time, another step", two(campaigns.Read), 0, sends{sent(0, 10*minute, delivered)}, campaigns.Running, "delivered of 0, begins 1"},
		{"not delivered in time, paused", two(campaigns.Delivered), 0, sends{sent(0, 10*minute, accepted)}, campaigns.Paused, "sent of 0, looks again at 0s"},
		{"both under way", two(campaigns.Delivered), 0, sends{sent(0, 12*minute, accepted), sent(1, 2*minute, accepted)}, campaigns.Running, "sent of 0, looks again at 8m0s"},
		{"late success while the next one waits", two(campaigns.Delivered), 0, sends{sent(0, 12*minute, delivered), sent(1, 2*minute, queued)}, campaigns.Running, "delivered of 0, won, done, stops 1"},
		{"late success after the next one left", two(campaigns.Delivered), 0, sends{sent(0, 12*minute, delivered), sent(1, 2*minute, accepted)}, campaigns.Running, "delivered of 0, won, done"},
		{"late success after the next one's", two(campaigns.Delivered), 0, sends{sent(0, 12*minute, delivered), sent(1, 2*minute, read)}, campaigns.Running, "delivered of 0, won, done"},
		{"late success after the next one failed", two(campaigns.Delivered), 0, sends{sent(0, 12*minute, delivered), sent(1, 2*minute, refused)}, campaigns.Running, "delivered of 0, won, done"},
		{"success of the second", two(campaigns.Delivered), 0, sends{sent(0, 12*minute, accepted), sent(1, 2*minute, delivered)}, campaigns.Running, "delivered of 1, won, done"},
		{"success of the second, the first failed", two(campaigns.Delivered), 0, sends{sent(0, 12*minute, refused), sent(1, 2*minute, delivered)}, campaigns.Running, "delivered of 1, won, done"},
		{"both failed", two(campaigns.Delivered), 0, sends{sent(0, 12*minute, refused), sent(1, 2*minute, expired)}, campaigns.Running, "expired of 1, done"},
		{"the second failed, the first may come yet", two(campaigns.Delivered), 0, sends{sent(0, 12*minute, accepted), sent(1, 2*minute, refused)}, campaigns.Running, "sent of 0, done"},
		{"late success in a canceled campaign", two(campaigns.Delivered), 0, sends{sent(0, 12*minute, delivered), sent(1, 2*minute, canceled)}, campaigns.Stopped, "delivered of 0, won, done"},

		{"the step can't reach them", two(campaigns.Accepted), 0, sends{with(sent(0, minute, canceled), passed)}, campaigns.Running, "skipped of 0, begins 1"},
		{"no step can reach them", two(campaigns.Accepted), 0, sends{with(sent(0, minute, canceled), passed), with(sent(1, minute, canceled), passed)}, campaigns.Running, "skipped of 1, done"},
		{"one step failed, the next can't reach them", two(campaigns.Accepted), 0, sends{sent(0, minute, refused), with(sent(1, minute, canceled), passed)}, campaigns.Running, "failed of 0 (refused), done"},
		{"a stop word came", two(campaigns.Accepted), 0, sends{with(sent(0, minute, canceled), barred)}, campaigns.Running, "skipped of 0, done"},
		{"an operator took it back", two(campaigns.Accepted), 0, sends{sent(0, minute, canceled)}, campaigns.Running, "canceled of 0, done"},

		{"canceled while it waits", two(campaigns.Accepted), 0, sends{sent(0, minute, queued)}, campaigns.Stopped, "queued of 0, waits, stops 0"},
		{"canceled, taken back", two(campaigns.Accepted), 0, sends{sent(0, minute, canceled)}, campaigns.Stopped, "canceled of 0, done"},
		{"canceled when it was out", two(campaigns.Delivered), 0, sends{sent(0, minute, accepted)}, campaigns.Stopped, "sent of 0, done"},
		{"over while it waits", two(campaigns.Accepted), 0, sends{sent(0, minute, queued)}, campaigns.Ended, "queued of 0, waits, stops 0"},
		{"paused while it waits", two(campaigns.Accepted), 0, sends{sent(0, minute, queued)}, campaigns.Paused, "queued of 0, looks again at 9m0s"},

		{"another round", two(campaigns.Accepted), 1, sends{sent(0, 30*minute, refused), sent(1, 30*minute, expired)}, campaigns.Running, "queued of 0, begins 0"},
		{"another round, refused after acceptance", two(campaigns.Accepted), 1, sends{with(sent(0, 30*minute, refused), taken)}, campaigns.Running, "queued of 0, begins 0"},
		{"another round under way", two(campaigns.Accepted), 1, sends{sent(0, 30*minute, refused), with(sent(0, minute, queued), ofRound1)}, campaigns.Running, "queued of 0, looks again at 9m0s"},
		{"another round, late success of the first", two(campaigns.Delivered), 1, sends{sent(0, 30*minute, delivered), with(sent(0, minute, queued), ofRound1)}, campaigns.Running, "delivered of 0, won, done, stops 1"},
		{"another round failed as well", two(campaigns.Accepted), 1, sends{sent(0, 30*minute, refused), with(sent(1, minute, expired), ofRound1)}, campaigns.Running, "expired of 1, done"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := tell(campaigns.Cascade(c.rungs, c.round, c.sends, c.phase, noon)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func tell(v campaigns.Verdict) string {
	s := fmt.Sprintf("%s of %d", v.Status, v.Step)
	if v.Reason != "" {
		s += " (" + v.Reason + ")"
	}
	if v.Won {
		s += ", won"
	}
	switch {
	case v.Next:
		s += fmt.Sprintf(", begins %d", v.NextStep)
	case v.Done:
		s += ", done"
	case !v.Due.IsZero():
		s += fmt.Sprint(", looks again at ", v.Due.Sub(noon))
	default:
		s += ", waits"
	}
	for _, i := range v.Stop {
		s += fmt.Sprintf(", stops %d", i)
	}
	return s
}

// Every cascade of up to three steps, with every condition, every status of every
// message, before and after its wait, in every phase.
func TestCascadeHoldsAlways(t *testing.T) {
	t.Parallel()
	conditions := []campaigns.Success{campaigns.Accepted, campaigns.Delivered, campaigns.Read}
	statuses := []message.Status{queued, accepted, delivered, read, refused, expired, canceled}
	n := 0
	var check func(rungs []campaigns.Rung, sends []queue.CampaignSend)
	check = func(rungs []campaigns.Rung, sends []queue.CampaignSend) {
		for _, phase := range []campaigns.Phase{campaigns.Running, campaigns.Paused, campaigns.Stopped, campaigns.Ended} {
			n++
			holds(t, rungs, sends, phase)
		}
		if len(sends) == len(rungs) {
			return
		}
		for _, status := range statuses {
			for _, ago := range []time.Duration{minute, 20 * minute} {
				for _, change := range []func(*queue.CampaignSend){func(*queue.CampaignSend) {}, passed, barred, taken} {
					next := with(sent(len(sends), ago, status), change)
					if (next.Passed || next.Barred) && status != canceled || next.Taken && (status == canceled || status == queued || status == expired) {
						continue
					}
					if len(sends) > 0 && last(sends).Status == canceled && !last(sends).Passed {
						continue // the end
					}
					check(rungs, append(sends[:len(sends):len(sends)], next))
				}
			}
		}
	}
	for _, a := range conditions {
		check([]campaigns.Rung{{a, 10 * minute}}, nil)
		for _, b := range conditions {
			check([]campaigns.Rung{{a, 10 * minute}, {b, 10 * minute}}, nil)
		}
		check([]campaigns.Rung{{a, 10 * minute}, {a, 10 * minute}, {a, 10 * minute}}, nil)
	}
	if n < 50_000 {
		t.Errorf("looked at %d cases, which can't be all", n)
	}
}

func holds(t *testing.T, rungs []campaigns.Rung, sends []queue.CampaignSend, phase campaigns.Phase) {
	v := campaigns.Cascade(rungs, 0, sends, phase, noon)
	fault := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%v %+v in phase %d: %s: %+v", rungs, sends, phase, fmt.Sprintf(format, args...), v)
	}
	first := -1 // success
	for i := len(sends) - 1; i >= 0; i-- {
		s := sends[i]
		if s.Status == read || (s.Status == delivered && rungs[i].Success != campaigns.Read) || (rungs[i].Success == campaigns.Accepted && s.Taken) {
			first = i
		}
	}
	if v.Won != (first >= 0) || (v.Won && v.Step != first) {
		fault("the first success is of step %d", first)
	}
	switch {
	case v.Next && (v.Done || phase != campaigns.Running || v.NextStep != len(sends) || v.NextStep >= len(rungs)):
		fault("begins what it must not")
	case v.Next && len(sends) > 0:
		last := sends[len(sends)-1]
		bad := last.Status == refused || last.Status == expired || (last.Status == canceled && last.Passed)
		if !bad && last.At.Add(10*minute).After(noon) {
			fault("begins before the last step failed or its wait was over")
		}
		if last.Barred {
			fault("goes on though nothing must be sent")
		}
	}
	if !v.Next && !v.Done && v.Due.IsZero() {
		waiting := false
		for _, s := range sends {
			waiting = waiting || s.Status == queued
		}
		if !waiting {
			fault("nothing would ever end this")
		}
	}
	if v.Done && phase == campaigns.Running && !v.Won && len(sends) > 0 {
		if len(sends) < len(rungs) && last(sends).Status != canceled {
			fault("ended with a step to go")
		}
		if last(sends).Status == queued {
			fault("ended with a message that may still leave")
		}
	}
	for _, i := range v.Stop {
		if sends[i].Status != queued {
			fault("stops a message that is %s", sends[i].Status)
		}
	}
	if v.Won || v.Next || ((phase == campaigns.Stopped || phase == campaigns.Ended) && !v.Done) {
		for i, s := range sends {
			if s.Status == queued && !contains(v.Stop, i) {
				fault("message %d may still leave", i)
			}
		}
	}
}

func last(sends []queue.CampaignSend) queue.CampaignSend { return sends[len(sends)-1] }

func contains(list []int, i int) bool {
	for _, x := range list {
		if x == i {
			return true
		}
	}
	return false
}

// Reports come in any order and at any time, while the cascade goes on by what is
// known. At most one message is made for each step, none after a success is known,
// and the end is the same in whatever order reports were heard.
func TestCascadeInTime(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	conditions := []campaigns.Success{campaigns.Accepted, campaigns.Delivered, campaigns.Read}
	fates := [][]message.Status{{refused}, {expired}, {accepted}, {accepted, delivered}, {accepted, delivered, read}, {accepted, refused}, {delivered}, {read}}
	for range 20_000 {
		rungs := make([]campaigns.Rung, 1+rng.IntN(3))
		for i := range rungs {
			rungs[i] = campaigns.Rung{Success: conditions[rng.IntN(3)], Wait: 10 * minute}
		}
		type report struct {
			at     time.Time
			send   int
			status message.Status
		}
		var sends []queue.CampaignSend
		var coming []report
		now, done := noon, false
		var told message.Status
		for steps := 0; ; steps++ {
			if steps > 200 {
				t.Fatalf("no end: %+v %+v", rungs, sends)
			}
			v := campaigns.Cascade(rungs, 0, sends, campaigns.Running, now)
			if again := campaigns.Cascade(rungs, 0, sends, campaigns.Running, now); !reflect.DeepEqual(v, again) {
				t.Fatal("the same is decided in two ways")
			}
			if done && (v.Next || !v.Done) {
				t.Fatalf("what was over goes on: %+v %+v", rungs, sends)
			}
			done = done || v.Done
			if told == read && v.Status != read && !v.Won {
				t.Fatalf("%s after %s: %+v", v.Status, told, sends)
			}
			told = v.Status
			for _, i := range v.Stop {
				sends[i].Status = canceled
			}
			if v.Next {
				if v.NextStep != len(sends) {
					t.Fatalf("step %d after %d messages", v.NextStep, len(sends))
				}
				sends = append(sends, queue.CampaignSend{Step: v.NextStep, At: now, Status: queued})
				at := now
				for _, status := range fates[rng.IntN(len(fates))] {
					at = at.Add(time.Duration(rng.IntN(25)) * minute)
					coming = append(coming, report{at, len(sends) - 1, status})
				}
				continue
			}
			// The next thing that happens: a report, or the end of the wait.
			next := -1
			for i, r := range coming {
				if next < 0 || r.at.Before(coming[next].at) {
					next = i
				}
			}
			if next < 0 || (!v.Due.IsZero() && v.Due.Before(coming[next].at)) {
				if v.Due.IsZero() {
					break
				}
				now = v.Due
				continue
			}
			r := coming[next]
			coming = append(coming[:next], coming[next+1:]...)
			if r.at.After(now) {
				now = r.at
			}
			s := &sends[r.send]
			if s.Status.Advances(r.status) {
				s.Status = r.status
				s.Taken = s.Taken || r.status != refused && r.status != expired
			}
		}
		if !done {
			t.Fatalf("it never ended: %+v %+v", rungs, sends)
		}
	}
}
