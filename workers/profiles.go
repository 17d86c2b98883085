package workers

import (
	"cmp"
	"context"
	"sync"
	"time"

	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

// Names and pictures that updates don't carry are asked for after the messages are
// stored, in goroutines of their own: a courtesy, like an acknowledgement. Whoever
// is passed over comes with the next message. How much is bounded in three ways:
// by profileSlots at once and profileRoom that wait for them, by profileRate for an
// account, which leaves the platform's patience to the messages, and by the queue of
// pictures (db.NotePicture).
const (
	// profileAge is how long a customer's name and picture are believed.
	profileAge = 6 * time.Hour
	// profilePause is after what a customer is looked at again for whom there was no room.
	profilePause = 10 * time.Minute
	// profilesKept bounds the memory of who was looked at; beyond it the database is
	// asked, which remembers all.
	profilesKept = 50_000
	// profileSlots is how many are looked at at once.
	profileSlots = 8
	// profileRoom is how many wait for a slot or have one. Those who write at the same
	// moment all have their turn, and a platform that hangs for profileTime each holds
	// a hundred small goroutines.
	profileRoom = 100
	// profileRate and profileBurst are for an account and this process, in customers
	// a second. VK allows a community 20 calls a second, sends included.
	profileRate  = 10
	profileBurst = 20
	// profileTime bounds a look.
	profileTime = 5 * time.Second
)

type profileKey struct{ account, customer string }

// profiles remembers who was looked at, and paces.
type profiles struct {
	room, slots chan struct{}

	mu    sync.Mutex
	again map[profileKey]time.Time // not before
	tat   map[string]time.Time     // by account: theoretical arrival time of the next look
}

func newProfiles() *profiles {
	return &profiles{room: make(chan struct{}, profileRoom), slots: make(chan struct{}, profileSlots), again: map[profileKey]time.Time{}, tat: map[string]time.Time{}}
}

// take reports whether it is time to look at a customer and the account's turn,
// and takes note for age.
func (p *profiles) take(k profileKey, now time.Time, age time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.again[k]) {
		return false
	}
	const gap = time.Second / profileRate
	tat := p.tat[k.account]
	if tat.Before(now) {
		tat = now
	}
	if tat.Sub(now) > (profileBurst-1)*gap {
		return false
	}
	p.tat[k.account] = tat.Add(gap)
	if len(p.again) >= profilesKept {
		clear(p.again)
	}
	p.again[k] = now.Add(age)
	return true
}

// put sets when a customer may be looked at again.
func (p *profiles) put(k profileKey, again time.Time) {
	p.mu.Lock()
	p.again[k] = again
	p.mu.Unlock()
}

// rest keeps everybody from asking about an account's customers for a while.
func (p *profiles) rest(account string, until time.Time) {
	p.mu.Lock()
	if tat := until.Add(profileBurst * time.Second / profileRate); p.tat[account].Before(tat) {
		p.tat[account] = tat
	}
	p.mu.Unlock()
}

// look is something to learn of a customer: asked is whom to ask, or nil where told
// says it.
type look struct {
	key   profileKey
	asked channels.Profiler
	told  *message.Profile
}

// looks adds the customers who have written and whose name or picture their update
// does not tell, and those whose picture it does. It is called for every update, as
// is take: together they cost 0.1 us.
func looks(found []look, account *channels.Opened, accountID string, d *queue.Decoded) []look {
	asker, _ := account.Channel.(channels.Profiler)
	for i := range d.Updates {
		u := &d.Updates[i]
		if u.Kind != message.UpdateMessage || u.Customer.ID == "" {
			continue
		}
		l := look{key: profileKey{accountID, u.Customer.ID}}
		switch {
		case asker != nil && (u.Customer.Name == "" || (u.Customer.Avatar == "" && account.Capabilities.CustomerAvatar)):
			l.asked = asker
		case u.Customer.Avatar != "":
			l.told = &u.Customer
		default:
			continue
		}
		found = append(found, l)
	}
	return found
}

// lookAt learns what there is to learn, after the messages are stored. It does not wait.
func (w *Workers) lookAt(ctx context.Context, found []look) {
	now := time.Now()
	for _, l := range found {
		if !w.profiles.take(l.key, now, w.cfg.ProfileAge) {
			continue
		}
		select {
		case w.profiles.room <- struct{}{}:
		default:
			w.profiles.put(l.key, time.Time{})
			return
		}
		w.acks.Go(func() {
			defer func() { <-w.profiles.room }()
			select {
			case w.profiles.slots <- struct{}{}:
			case <-w.stopping:
				return
			}
			defer func() { <-w.profiles.slots }()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), profileTime)
			defer cancel()
			if err := w.learn(ctx, l); err != nil {
				w.log.InfoContext(ctx, "customer's profile could not be fetched", "account", l.key.account, "error", err)
			}
		})
	}
}

// learn looks at one customer and decides when to look again.
func (w *Workers) learn(ctx context.Context, l look) error {
	due, err := w.deps.Store.ProfileDue(ctx, l.key.account, l.key.customer, w.cfg.ProfileAge)
	if err == nil && !due {
		return nil
	}
	var passed bool
	if err == nil && l.asked == nil {
		passed, err = w.deps.Store.NotePicture(ctx, l.key.account, *l.told)
	} else if err == nil {
		var p message.Profile
		err = channels.Contain(func() (err error) {
			p, err = l.asked.Profile(ctx, l.key.customer)
			return err
		})
		if err == nil {
			p.ID = l.key.customer
			if passed, err = w.deps.Store.SaveProfile(ctx, l.key.account, p); err == nil {
				w.deps.Bus.Wake("events")
			}
		}
	}
	now := time.Now()
	if err == nil {
		if passed {
			w.profiles.put(l.key, now.Add(min(profilePause, w.cfg.ProfileAge)))
		}
		return nil
	}
	switch e := message.Classify(err); e.Kind {
	case message.ErrRecipient, message.ErrInvalid:
		// It will not be told later either.
	case message.ErrThrottled:
		w.profiles.rest(l.key.account, now.Add(cmp.Or(e.RetryAfter, time.Minute)))
		w.profiles.put(l.key, time.Time{})
	default:
		w.profiles.put(l.key, time.Time{})
	}
	return err
}
