package campaigns

import (
	"math"
	"time"
)

// group are recipients who live by one clock.
type group struct {
	at   *time.Location
	left float64
}

// estimateSpan is how far ahead hours are looked at one by one: whole weeks, so that
// what is left then can be told by the average of them.
const estimateSpan = 28 * 24 * time.Hour

// ends tells when the last of groups has been sent to, from a time on, at a rate of
// recipients per second (0: no limit), within the campaign's hours. Those of all clocks
// that may be sent to at a time get their share of the rate, as in a table that is in
// no order. stop is when no more is sent (zero: never), and left how many are left by
// then. ok is false when it never ends.
func (p *Program) ends(groups []group, rate float64, from, stop time.Time) (end time.Time, left float64, ok bool) {
	type clock struct {
		group
		open bool
		turn time.Time // when that changes; zero: never
	}
	type same struct{ until, again, wait time.Time }
	var clocks []*clock
	merged := map[same]*clock{}
	total := 0.0
	for _, g := range groups {
		if !(g.left > 0) {
			continue
		}
		until, again, wait := p.hours(g.at, from)
		key := same{until.UTC(), again.UTC(), wait.UTC()}
		if merged[key] == nil {
			merged[key] = &clock{group: group{at: g.at}, open: wait.IsZero(), turn: from}
			clocks = append(clocks, merged[key])
		}
		merged[key].left += g.left
		total += g.left
	}
	now, begun := from, total
	atStop := -1.0
	for total > 0.5 {
		if now.Sub(from) >= estimateSpan {
			done := begun - total
			if done <= 0 {
				return time.Time{}, total, false
			}
			span := seconds(total / done * now.Sub(from).Seconds())
			now = now.Add(span)
			if atStop < 0 && !stop.IsZero() && now.After(stop) {
				atStop = total * now.Sub(stop).Seconds() / span.Seconds()
			}
			break
		}
		next := from.Add(estimateSpan)
		open := 0.0
		for _, c := range clocks {
			if !c.turn.IsZero() && !now.Before(c.turn) {
				until, _, wait := p.hours(c.at, now)
				c.open = wait.IsZero()
				if c.turn = until; !c.open {
					c.turn = wait
				}
			}
			if c.left <= 0 {
				continue
			}
			if c.open {
				open += c.left
			}
			if !c.turn.IsZero() && c.turn.Before(next) {
				next = c.turn
			}
		}
		span := time.Duration(0)
		if rate > 0 {
			span = seconds(open / rate)
		}
		if open == 0 || now.Add(span).After(next) {
			span = next.Sub(now)
		}
		sent := open
		if rate > 0 {
			sent = min(open, rate*span.Seconds())
		}
		if atStop < 0 && !stop.IsZero() && now.Add(span).After(stop) {
			atStop = total
			if rate > 0 {
				atStop = max(0, total-min(open, rate*max(0, stop.Sub(now).Seconds())))
			} else if now.Before(stop) {
				atStop = total - open
			}
		}
		if sent > 0 {
			for _, c := range clocks {
				if c.open {
					c.left -= c.left / open * sent
				}
			}
			total -= sent
		}
		now = now.Add(span)
	}
	if atStop < 0 {
		atStop = 0
	}
	return now, atStop, true
}

// seconds is a time that may be too long for one.
func seconds(s float64) time.Duration {
	const most = 100 * 365 * 24 * time.Hour
	if s >= most.Seconds() {
		return most
	}
	return time.Duration(math.Ceil(s * float64(time.Second)))
}

// groups shares n recipients out to clocks as all recipients are (by zone, "" being
// the campaign's).
func (z *zones) groups(p *Program, n float64, byZone map[string]int64) []group {
	total := 0.0
	for _, x := range byZone {
		total += float64(x)
	}
	if total == 0 {
		return []group{{p.Zone, n}}
	}
	var list []group
	for name, x := range byZone {
		list = append(list, group{z.named(p, name), n * float64(x) / total})
	}
	return list
}

// named is the zone of a name; the campaign's where it has none.
func (z *zones) named(p *Program, name string) *time.Location {
	if name != "" {
		if at := z.load(name); at != nil {
			return at
		}
	}
	return p.Zone
}
