package campaigns

import (
	"testing"
	"time"

	"switchboard/internal/queue"
)

func TestHours(t *testing.T) {
	t.Parallel()
	content := &Content{Text: "hi"}
	steps := []Step{{AccountID: "a"}}
	program := func(q *QuietHours, days ...string) *Program {
		p, err := Definition{Name: "n", Content: content, Steps: steps, Schedule: &Schedule{QuietHours: q, Weekdays: days, Timezone: "Asia/Yekaterinburg"}}.Compile(nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	night := program(&QuietHours{"21:00", "09:00"})
	noon := program(&QuietHours{"12:00", "15:00"})
	midnight := program(&QuietHours{"00:00", "06:00"})
	work := program(nil, "mon", "tue", "wed", "thu", "fri")
	workday := program(&QuietHours{"18:00", "10:00"}, "mon", "fri")
	var z zones
	// 21 November 2026 is a Saturday.
	const layout = "Mon 2006-01-02 15:04"
	for _, c := range []struct {
		name, now string // UTC
		p         *Program
		r         queue.CampaignRecipient
		want      string // in the recipient's clock
	}{
		{"in the day", "2026-11-21T12:00:00Z", night, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "until Sat 2026-11-21 21:00, again Sun 2026-11-22 09:00"},
		{"at night", "2026-11-21T18:30:00Z", night, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "not before Sun 2026-11-22 09:00"},
		{"the first quiet minute", "2026-11-21T18:00:00Z", night, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "not before Sun 2026-11-22 09:00"},
		{"the last minute before", "2026-11-21T17:59:59Z", night, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "until Sat 2026-11-21 21:00, again Sun 2026-11-22 09:00"},
		{"in the morning", "2026-11-21T05:59:00Z", night, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "not before Sat 2026-11-21 09:00"},
		{"nine o'clock", "2026-11-21T06:00:00Z", night, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "until Sat 2026-11-21 21:00, again Sun 2026-11-22 09:00"},
		{"night in Vladivostok", "2026-11-21T12:00:00Z", night, queue.CampaignRecipient{Timezone: "Asia/Vladivostok"}, "not before Sun 2026-11-22 09:00"},
		{"the campaign's clock", "2026-11-21T16:30:00Z", night, queue.CampaignRecipient{}, "not before Sun 2026-11-22 09:00"},
		{"a zone that does not exist", "2026-11-21T16:30:00Z", night, queue.CampaignRecipient{Timezone: "Moon/Base"}, "not before Sun 2026-11-22 09:00"},
		{"a phone of Vladivostok", "2026-11-21T12:00:00Z", night, queue.CampaignRecipient{Kind: queue.ByPhone, Address: "+74232201234"}, "not before Sun 2026-11-22 09:00"},
		{"a phone of Riga", "2026-11-21T16:30:00Z", night, queue.CampaignRecipient{Kind: queue.ByPhone, Address: "+37167012345"}, "until Sat 2026-11-21 21:00, again Sun 2026-11-22 09:00"},
		{"a phone of anywhere in America", "2026-11-21T16:30:00Z", night, queue.CampaignRecipient{Kind: queue.ByPhone, Address: "+18005551234"}, "not before Sun 2026-11-22 09:00"},
		{"the zone goes before the phone", "2026-11-21T16:30:00Z", night, queue.CampaignRecipient{Kind: queue.ByPhone, Address: "+74232201234", Timezone: "Europe/London"}, "until Sat 2026-11-21 21:00, again Sun 2026-11-22 09:00"},
		{"quiet at noon, before", "2026-11-21T08:00:00Z", noon, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "until Sat 2026-11-21 12:00, again Sat 2026-11-21 15:00"},
		{"quiet at noon, after", "2026-11-21T13:00:00Z", noon, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "until Sun 2026-11-22 12:00, again Sun 2026-11-22 15:00"},
		{"quiet at noon, then", "2026-11-21T11:00:00Z", noon, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "not before Sat 2026-11-21 15:00"},
		{"quiet from midnight", "2026-11-21T20:59:00Z", midnight, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "until Sun 2026-11-22 00:00, again Sun 2026-11-22 06:00"},
		{"a Saturday", "2026-11-21T09:00:00Z", work, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "not before Mon 2026-11-23 00:00"},
		{"a Friday there", "2026-11-21T02:00:00Z", work, queue.CampaignRecipient{Timezone: "America/New_York"}, "until Sat 2026-11-21 00:00, again Mon 2026-11-23 00:00"},
		{"Friday evening", "2026-11-20T17:00:00Z", workday, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "not before Mon 2026-11-23 10:00"},
		{"Monday", "2026-11-23T08:00:00Z", workday, queue.CampaignRecipient{Timezone: "Europe/Moscow"}, "until Mon 2026-11-23 18:00, again Fri 2026-11-27 10:00"},
		// Clocks go back in Berlin on 25 October 2026 at 3:00, and forward in spring.
		{"the long night", "2026-10-24T20:00:00Z", night, queue.CampaignRecipient{Timezone: "Europe/Berlin"}, "not before Sun 2026-10-25 09:00"},
		{"the short night", "2026-03-28T21:00:00Z", night, queue.CampaignRecipient{Timezone: "Europe/Berlin"}, "not before Sun 2026-03-29 09:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			now, err := time.Parse(time.RFC3339, c.now)
			if err != nil {
				t.Fatal(err)
			}
			at := z.of(&c.r, c.p.Zone, now)
			until, again, wait := c.p.hours(at, now)
			got := "until " + until.Format(layout) + ", again " + again.Format(layout)
			if !wait.IsZero() {
				got = "not before " + wait.Format(layout)
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	always, err := Definition{Name: "n", Content: content, Steps: steps}.Compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	if until, again, wait := always.hours(time.UTC, time.Now()); !until.IsZero() || !again.IsZero() || !wait.IsZero() {
		t.Error("a campaign without hours has some")
	}
}
