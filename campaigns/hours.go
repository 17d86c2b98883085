package campaigns

import (
	"sync"
	"time"

	"github.com/nyaruka/phonenumbers"

	"switchboard/internal/queue"
)

// zones finds the time zone by whose clock a recipient lives: their own, or the one
// of their phone's region, or the campaign's.
type zones struct {
	mu    sync.RWMutex
	known map[string]*time.Location // nil: no such zone
}

func (z *zones) load(name string) *time.Location {
	z.mu.RLock()
	at, ok := z.known[name]
	z.mu.RUnlock()
	if ok {
		return at
	}
	at, err := zone(name)
	if err != nil {
		at = nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.known == nil || len(z.known) > 1000 { // there are some 600 names
		z.known = map[string]*time.Location{}
	}
	z.known[name] = at
	return at
}

// of returns the recipient's zone. Numbers of a region with several zones are the
// campaign's, unless the clocks of all of them show the same.
func (z *zones) of(r *queue.CampaignRecipient, campaign *time.Location, now time.Time) *time.Location {
	if r.Timezone != "" {
		if at := z.load(r.Timezone); at != nil {
			return at
		}
	}
	if r.Kind != queue.ByPhone {
		return campaign
	}
	names, err := phonenumbers.GetTimezonesForPrefix(r.Address)
	if err != nil || len(names) == 0 {
		return campaign
	}
	first := z.load(names[0])
	if first == nil {
		return campaign
	}
	_, offset := now.In(first).Zone()
	for _, name := range names[1:] {
		at := z.load(name)
		if at == nil {
			return campaign
		}
		if _, o := now.In(at).Zone(); o != offset {
			return campaign
		}
	}
	return first
}

// restricted tells that not every hour of every day will do.
func (p *Program) restricted() bool {
	return p.Quiet || p.Weekdays != [7]bool{true, true, true, true, true, true, true}
}

// hoursAhead is how many days are looked at: a week and what is left of today.
const hoursAhead = 9

// hours tells about a clock when the campaign may send: until a time (zero: for
// ever) and again from another, or not before wait.
func (p *Program) hours(at *time.Location, now time.Time) (until, again, wait time.Time) {
	if !p.restricted() {
		return until, again, wait
	}
	type span struct{ from, to time.Time }
	var spans []span
	local := now.In(at)
	year, month, day := local.Date()
	minute := func(d, m int) time.Time { return time.Date(year, month, day+d, 0, m, 0, 0, at) }
	add := func(from, to time.Time) {
		if n := len(spans); n > 0 && !from.After(spans[n-1].to) {
			spans[n-1].to = to
			return
		}
		spans = append(spans, span{from, to})
	}
	const midnight = 24 * 60
	for d := range hoursAhead {
		if !p.Weekdays[minute(d, midnight/2).Weekday()] {
			continue
		}
		switch {
		case !p.Quiet:
			add(minute(d, 0), minute(d, midnight))
		case p.QuietFrom < p.QuietTo:
			if p.QuietFrom > 0 {
				add(minute(d, 0), minute(d, p.QuietFrom))
			}
			add(minute(d, p.QuietTo), minute(d, midnight))
		default:
			add(minute(d, p.QuietTo), minute(d, p.QuietFrom))
		}
	}
	for i, s := range spans {
		if !now.Before(s.to) {
			continue
		}
		if now.Before(s.from) {
			return until, again, s.from
		}
		if i+1 < len(spans) {
			again = spans[i+1].from
		}
		if again.IsZero() {
			return time.Time{}, time.Time{}, time.Time{} // further off than is looked ahead
		}
		return s.to, again, time.Time{}
	}
	return until, again, now.Add(24 * time.Hour) // looks again tomorrow
}
