package workers

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

// Who was looked at is looked at again after some hours, or when it failed.
func TestProfilesAge(t *testing.T) {
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
		if got := p.take(step.key, now.Add(step.after), profileAge); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
	p.put(k, time.Time{})
	if !p.take(k, now.Add(profileAge+time.Hour), profileAge) {
		t.Error("a failed look is not repeated")
	}
	for i := range profilesKept + 1 {
		p.take(profileKey{fmt.Sprint("account ", i), "1"}, now, profileAge)
	}
	if n := len(p.again); n > profilesKept {
		t.Errorf("%d are remembered", n)
	}
}

// Of a flood of customers of one account only so many are looked at, those of
// another account don't wait for them, and a platform that has had enough is left
// alone.
func TestProfilesPace(t *testing.T) {
	t.Parallel()
	p := newProfiles()
	now := time.Unix(1781001200, 0)
	taken := 0
	for ms := range 10_000 { // a thousand new customers a second, for ten seconds
		if p.take(profileKey{"a", fmt.Sprint(ms)}, now.Add(time.Duration(ms)*time.Millisecond), profileAge) {
			taken++
		}
	}
	if want := profileBurst + 10*profileRate; taken < want-2 || taken > want+2 {
		t.Errorf("%d customers were looked at, want %d", taken, want)
	}
	if len(p.again) != taken {
		t.Errorf("%d are remembered of %d", len(p.again), taken)
	}
	now = now.Add(10 * time.Second)
	if !p.take(profileKey{"b", "1"}, now, profileAge) {
		t.Error("another account waits")
	}
	p.rest("b", now.Add(time.Minute))
	for _, row := range []struct {
		after time.Duration
		want  bool
	}{{time.Second, false}, {time.Minute - time.Second, false}, {time.Minute + time.Second, true}} {
		if got := p.take(profileKey{"b", row.after.String()}, now.Add(row.after), profileAge); got != row.want {
			t.Errorf("%s after a 429 with one minute: %v", row.after, got)
		}
	}
}

// speaker is a channel that can be asked.
type speaker struct{ channels.Channel }

func (speaker) Profile(context.Context, string) (message.Profile, error) {
	return message.Profile{}, nil
}

// What updates tell is not asked for.
func TestLooks(t *testing.T) {
	t.Parallel()
	update := func(kind message.UpdateKind, p message.Profile) message.Update {
		return message.Update{Kind: kind, Customer: p}
	}
	for name, c := range map[string]struct {
		channel channels.Channel
		caps    message.Capabilities
		update  message.Update
		want    string
	}{
		"name unknown":            {speaker{}, message.Capabilities{}, update(message.UpdateMessage, message.Profile{ID: "1"}), "ask"},
		"picture unknown":         {speaker{}, message.Capabilities{CustomerAvatar: true}, update(message.UpdateMessage, message.Profile{ID: "1", Name: "Ann"}), "ask"},
		"name told, no pictures":  {speaker{}, message.Capabilities{}, update(message.UpdateMessage, message.Profile{ID: "1", Name: "Ann"}), ""},
		"all told":                {speaker{}, message.Capabilities{CustomerAvatar: true}, update(message.UpdateMessage, message.Profile{ID: "1", Name: "Ann", Avatar: "ref"}), "told"},
		"told by one that can't":  {nil, message.Capabilities{CustomerAvatar: true}, update(message.UpdateMessage, message.Profile{ID: "1", Avatar: "ref"}), "told"},
		"nothing told, can't ask": {nil, message.Capabilities{CustomerAvatar: true}, update(message.UpdateMessage, message.Profile{ID: "1", Name: "Ann"}), ""},
		"a report":                {speaker{}, message.Capabilities{}, update(message.UpdateStatus, message.Profile{ID: "1"}), ""},
		"nobody":                  {speaker{}, message.Capabilities{}, update(message.UpdateMessage, message.Profile{}), ""},
	} {
		got := ""
		for _, l := range looks(nil, &channels.Opened{Channel: c.channel, Capabilities: c.caps}, "a", &queue.Decoded{Updates: []message.Update{c.update}}) {
			switch {
			case l.key != profileKey{"a", "1"}:
				t.Errorf("%s: key %v", name, l.key)
			case l.asked != nil:
				got += "ask"
			default:
				got += "told"
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// crowd is a platform that answers when it is let, and a store that remembers whom
// it answered about.
type crowd struct {
	learner
	answer     chan struct{}
	atOnce     atomic.Int32
	mostAtOnce atomic.Int32
	known      sync.Map
}

func (c *crowd) Profile(context.Context, string) (message.Profile, error) {
	n := c.atOnce.Add(1)
	defer c.atOnce.Add(-1)
	for most := c.mostAtOnce.Load(); n > most && !c.mostAtOnce.CompareAndSwap(most, n); most = c.mostAtOnce.Load() {
	}
	<-c.answer
	return message.Profile{}, nil
}

func (c *crowd) SaveProfile(_ context.Context, _ string, p message.Profile) (bool, error) {
	c.known.Store(p.ID, nil)
	return false, nil
}

// Customers who write at the same moment are all looked at, a few at a time; who
// finds no room comes with the next message, and nobody waits when all ends.
func TestProfilesOfACrowd(t *testing.T) {
	t.Parallel()
	c := &crowd{learner: learner{due: true}, answer: make(chan struct{})}
	w := &Workers{cfg: Config{ProfileAge: profileAge}, deps: Deps{Store: c, Bus: noBus{}}, log: slog.New(slog.DiscardHandler), stopping: make(chan struct{}), profiles: newProfiles()}
	var found []look
	for i := range profileRoom + 20 {
		found = append(found, look{key: profileKey{fmt.Sprint("account ", i%30), fmt.Sprint(i)}, asked: c})
	}
	w.lookAt(t.Context(), found)
	close(c.answer)
	w.acks.Wait()
	for i, l := range found {
		if _, known := c.known.Load(l.key.customer); known != (i < profileRoom) {
			t.Errorf("customer %d: known %v", i, known)
		}
	}
	if n := c.mostAtOnce.Load(); n > profileSlots {
		t.Errorf("%d at once", n)
	}
	if !w.profiles.take(found[profileRoom].key, time.Now().Add(time.Minute), profileAge) {
		t.Error("who found no room is not looked at with the next message")
	}

	for range profileSlots {
		w.profiles.slots <- struct{}{}
	}
	w.lookAt(t.Context(), found[profileRoom+1:])
	close(w.stopping)
	w.acks.Wait()
}
