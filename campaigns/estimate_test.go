package campaigns

import (
	"math"
	"testing"
	"time"
)

// When the last recipient has been sent to: by the hour of those who live by several
// clocks, at a rate that they share.
func TestEnds(t *testing.T) {
	t.Parallel()
	program := func(s *Schedule) *Program {
		p, err := Definition{Name: "n", Content: &Content{Text: "hi"}, Steps: []Step{{AccountID: "a"}}, Schedule: s}.Compile(nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	load := func(name string) *time.Location {
		at, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	moscow, omsk, saratov := load("Europe/Moscow"), load("Asia/Omsk"), load("Europe/Saratov") // +3, +6, +4
	always := program(nil)
	night := program(&Schedule{QuietHours: &QuietHours{"21:00", "09:00"}})
	work := program(&Schedule{QuietHours: &QuietHours{"18:00", "10:00"}, Weekdays: []string{"mon", "tue", "wed", "thu", "fri"}})
	// 21 November 2026 is a Saturday.
	for _, c := range []struct {
		name   string
		p      *Program
		groups []group
		rate   float64
		from   string
		stop   string
		want   string
		left   float64
	}{
		{"without hours", always, []group{{moscow, 1000}}, 10, "2026-11-21T12:00:00Z", "", "2026-11-21T12:01:40Z", 0},
		{"without anybody", night, []group{{moscow, 0}}, 10, "2026-11-21T22:00:00Z", "", "2026-11-21T22:00:00Z", 0},
		{"in the day", night, []group{{moscow, 3600}}, 1, "2026-11-21T12:00:00Z", "", "2026-11-21T13:00:00Z", 0},
		{"begun in the night", night, []group{{moscow, 3600}}, 1, "2026-11-21T22:00:00Z", "", "2026-11-22T07:00:00Z", 0},
		// From 17:00 to 18:00 UTC, and from 6:00 on the next day.
		{"over the night", night, []group{{moscow, 7200}}, 1, "2026-11-21T17:00:00Z", "", "2026-11-22T07:00:00Z", 0},
		{"over two nights", night, []group{{moscow, 14 * 3600}}, 1, "2026-11-21T17:00:00Z", "", "2026-11-23T07:00:00Z", 0},
		{"without a limit, asleep", night, []group{{moscow, 1e6}}, 0, "2026-11-21T22:00:00Z", "", "2026-11-22T06:00:00Z", 0},
		{"without a limit, some asleep", night, []group{{moscow, 1e6}, {omsk, 5}}, 0, "2026-11-21T16:00:00Z", "", "2026-11-22T03:00:00Z", 0},
		// Omsk sleeps from 15:00 UTC: Moscow's alone, then Omsk's from 3:00 on.
		{"one sleeps", night, []group{{moscow, 3600}, {omsk, 3600}}, 1, "2026-11-21T15:00:00Z", "", "2026-11-22T04:00:00Z", 0},
		// Both share the rate until 15:00: 1,800 each. Then Moscow has it alone until 18:00.
		{"they share", night, []group{{moscow, 1800 + 3*3600 + 60}, {omsk, 1800}}, 1, "2026-11-21T14:00:00Z", "", "", 0},
		{"the same clock by two names", night, []group{{saratov, 1800}, {load("Asia/Dubai"), 1800}}, 1, "2026-11-21T16:00:00Z", "", "2026-11-21T17:00:00Z", 0},
		{"over a weekend", work, []group{{moscow, 3600}}, 1, "2026-11-21T12:00:00Z", "", "2026-11-23T08:00:00Z", 0},
		// 8 h of 5 days a week: 576,000 in four weeks.
		{"for longer than is looked ahead", work, []group{{moscow, 1e6}}, 1, "2026-11-23T07:00:00Z", "", "2027-01-10T21:40:00Z", 0},
		{"stopped in the middle", always, []group{{moscow, 1000}}, 10, "2026-11-21T12:00:00Z", "2026-11-21T12:01:00Z", "2026-11-21T12:01:40Z", 400},
		{"stopped after the end", always, []group{{moscow, 1000}}, 10, "2026-11-21T12:00:00Z", "2026-11-21T13:01:00Z", "2026-11-21T12:01:40Z", 0},
		{"stopped at night", night, []group{{moscow, 7200}}, 1, "2026-11-21T17:00:00Z", "2026-11-21T20:00:00Z", "2026-11-22T07:00:00Z", 3600},
		{"stopped at night, without a limit", night, []group{{moscow, 7200}, {omsk, 100}}, 0, "2026-11-21T17:00:00Z", "2026-11-21T20:00:00Z", "2026-11-22T03:00:00Z", 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			parse := func(s string) (at time.Time) {
				if s != "" {
					var err error
					if at, err = time.Parse(time.RFC3339, s); err != nil {
						t.Fatal(err)
					}
				}
				return at
			}
			end, left, ok := c.p.ends(c.groups, c.rate, parse(c.from), parse(c.stop))
			if !ok || math.Abs(left-c.left) > 1 {
				t.Errorf("%v are left by the stop, want %v (%v)", left, c.left, ok)
			}
			if want := parse(c.want); c.want != "" && end.Sub(want).Abs() > time.Second {
				t.Errorf("ends %v, want %v", end.UTC(), want)
			}
			total := 0.0
			for _, g := range c.groups {
				total += g.left
			}
			if c.rate > 0 && end.Sub(parse(c.from)).Seconds() < total/c.rate-1 {
				t.Errorf("%v for %v at %v per second", end.Sub(parse(c.from)), total, c.rate)
			}
		})
	}
}

func BenchmarkEnds(b *testing.B) {
	p, err := Definition{Name: "n", Content: &Content{Text: "hi"}, Steps: []Step{{AccountID: "a"}}, Schedule: &Schedule{QuietHours: &QuietHours{"21:00", "09:00"}}}.Compile(nil)
	if err != nil {
		b.Fatal(err)
	}
	var groups []group
	for i := range 26 {
		groups = append(groups, group{time.FixedZone("", (i-12)*3600), 1e6})
	}
	for b.Loop() {
		p.ends(groups, 10, time.Now(), time.Time{})
	}
}
