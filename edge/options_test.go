package edge

import (
	"testing"
	"time"

	"switchboard/internal/queue"
)

func TestSchedule(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 20, 30, 0, 0, time.UTC) // 23:30 in Moscow
	at := func(s string) *time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return &v
	}
	night := &MessageQuietHours{From: "21:00", To: "09:00"}
	for name, tc := range map[string]struct {
		w    MessageSchedule
		want string // "" is at once
		ttl  time.Duration
		bad  bool
	}{
		"nothing":              {MessageSchedule{}, "", 24 * time.Hour, false},
		"in the past":          {MessageSchedule{StartAt: at("2026-11-21T20:00:00Z")}, "", 24 * time.Hour, false},
		"later":                {MessageSchedule{StartAt: at("2026-11-22T12:00:00+03:00")}, "2026-11-22T09:00:00Z", 24 * time.Hour, false},
		"before the night":     {MessageSchedule{QuietHours: night}, "", 24 * time.Hour, false},
		"in the night":         {MessageSchedule{QuietHours: night, Timezone: "Europe/Moscow"}, "2026-11-22T06:00:00Z", 24 * time.Hour, false},
		"after midnight":       {MessageSchedule{StartAt: at("2026-11-22T02:00:00Z"), QuietHours: night}, "2026-11-22T09:00:00Z", 24 * time.Hour, false},
		"when the night ends":  {MessageSchedule{StartAt: at("2026-11-22T09:00:00Z"), QuietHours: night}, "2026-11-22T09:00:00Z", 24 * time.Hour, false},
		"by day":               {MessageSchedule{QuietHours: &MessageQuietHours{From: "20:00", To: "21:15"}}, "2026-11-21T21:15:00Z", 24 * time.Hour, false},
		"no hours":             {MessageSchedule{QuietHours: &MessageQuietHours{From: "20:30", To: "20:30"}}, "", 24 * time.Hour, false},
		"with an end":          {MessageSchedule{StartAt: at("2026-11-22T00:00:00Z"), StopAt: at("2026-11-22T01:00:00Z")}, "2026-11-22T00:00:00Z", time.Hour, false},
		"end before it leaves": {MessageSchedule{QuietHours: night, Timezone: "Europe/Moscow", StopAt: at("2026-11-22T05:00:00Z")}, "", 0, true},
		"a bad clock":          {MessageSchedule{QuietHours: &MessageQuietHours{From: "9:00", To: "10:00"}}, "", 0, true},
		"a bad zone":           {MessageSchedule{Timezone: "Moscow"}, "", 0, true},
		"too far":              {MessageSchedule{StartAt: at("2028-01-01T00:00:00Z")}, "", 0, true},
	} {
		s := queue.Send{TTL: 24 * time.Hour}
		err := schedule(&tc.w, now, &s)
		if (err != nil) != tc.bad {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		got := ""
		if !s.NotBefore.IsZero() {
			got = s.NotBefore.UTC().Format(time.RFC3339)
		}
		if got != tc.want || s.TTL != tc.ttl {
			t.Errorf("%s: leaves at %q within %v, want %q, %v", name, got, s.TTL, tc.want, tc.ttl)
		}
	}
}

func TestCallbackURL(t *testing.T) {
	t.Parallel()
	for address, good := range map[string]bool{
		"https://example.org/a?b=c": true, "http://127.0.0.1:8000": true, "https://[2001:db8::1]:8443/x": true,
		"": false, "example.org": false, "ftp://example.org": false, "https://": false, "https://u:p@example.org": false, "https://example.org/#x": false, "javascript:alert(1)": false, "https://exa mple.org/": false,
	} {
		if err := CheckCallbackURL(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}
