package workers

import (
	"context"
	"sync"
	"time"

	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

const (
	// profileAge is how long a customer's name and picture are believed: signed
	// addresses of pictures live for days.
	profileAge = 6 * time.Hour
	// profilesKept bounds the memory of who was asked for; beyond it some are
	// asked for again.
	profilesKept = 50_000
	// profileCalls is how many are asked for at once. It is a courtesy, like an
	// acknowledgement: who is passed over comes with the next message.
	profileCalls = 8
)

type profileKey struct{ account, customer string }

// profiles remembers whom the platforms were asked about.
type profiles struct {
	mu    sync.Mutex
	asked map[profileKey]time.Time
	slots chan struct{}
}

func newProfiles() *profiles {
	return &profiles{asked: map[profileKey]time.Time{}, slots: make(chan struct{}, profileCalls)}
}

// due reports whether it is time to ask, and takes note.
func (p *profiles) due(k profileKey, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at, ok := p.asked[k]; ok && now.Sub(at) < profileAge {
		return false
	}
	if len(p.asked) >= profilesKept {
		clear(p.asked)
	}
	p.asked[k] = now
	return true
}

func (p *profiles) forget(k profileKey) {
	p.mu.Lock()
	delete(p.asked, k)
	p.mu.Unlock()
}

type profileCall struct {
	key     profileKey
	channel channels.Profiler
}

// unknown lists the customers who have written, of a platform that tells names
// only when asked.
func unknown(account *channels.Opened, accountID string, d *queue.Decoded) (calls []profileCall) {
	asker, ok := account.Channel.(channels.Profiler)
	if !ok {
		return nil
	}
	for i := range d.Updates {
		u := &d.Updates[i]
		if u.Kind == message.UpdateMessage && u.Customer.ID != "" && u.Customer.Name == "" {
			calls = append(calls, profileCall{profileKey{accountID, u.Customer.ID}, asker})
		}
	}
	return calls
}

// askProfiles asks for names and pictures, after the messages are stored.
func (w *Workers) askProfiles(ctx context.Context, calls []profileCall) {
	for _, c := range calls {
		select {
		case w.profiles.slots <- struct{}{}:
		default:
			return
		}
		if !w.profiles.due(c.key, time.Now()) {
			<-w.profiles.slots
			continue
		}
		w.acks.Go(func() {
			defer func() { <-w.profiles.slots }()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			p, err := c.channel.Profile(ctx, c.key.customer)
			if err == nil {
				p.ID = c.key.customer
				err = w.deps.Store.SaveProfile(ctx, c.key.account, p)
			}
			if err != nil {
				w.profiles.forget(c.key)
				w.log.InfoContext(ctx, "customer's profile could not be fetched", "account", c.key.account, "error", err)
				return
			}
			w.deps.Bus.Wake("events")
		})
	}
}
