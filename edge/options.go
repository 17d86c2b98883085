package edge

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"sync"
	"time"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/internal/restapi"
)

var listName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.:-]{0,63}$`)

// options puts what a script says beyond the content into s, whose TTL and key are
// set.
func (e *Edge) options(ctx context.Context, outbox Outbox, m *NewMessage, account *channels.Opened, s *queue.Send) error {
	rules, err := e.senders.get(ctx, outbox)
	if err != nil {
		return err
	}
	name := m.Sender
	if name == "" {
		name = account.Account.Setting("sender_name", "")
	}
	class := m.TrafficClass
	if class == "" {
		class = "service"
	}
	s.Sender.Name = rules.Apply(account.Account.ID, account.Account.Platform, class, name)

	s.StopLists = append([]string{}, m.StopLists...)
	for _, l := range m.StopLists {
		if !listName.MatchString(l) {
			return unprocessable("invalid", "stop_lists: %q; a list's name is 1 to 64 of a-z, 0-9, _ . : -, and begins with a letter or digit", l)
		}
	}
	if c := m.FrequencyCap; c != nil {
		if s.CapPer, err = time.ParseDuration(c.Per); err != nil || s.CapPer < time.Second || s.CapPer > 90*24*time.Hour {
			return unprocessable("invalid", "frequency_cap.per %q: use a duration from 1s to 2160h, like 24h", c.Per)
		}
		s.Cap = c.Count
	}
	if m.Schedule != nil {
		if err := schedule(m.Schedule, time.Now(), s); err != nil {
			return err
		}
	}
	if m.CallbackURL == "" {
		return nil
	}
	if err := CheckCallbackURL(m.CallbackURL); err != nil {
		return err
	}
	if e.cfg.MayCall != nil {
		if err := e.cfg.MayCall(m.CallbackURL); err != nil {
			return unprocessable("invalid", "callback_url: %s", err)
		}
	}
	s.Callback = &queue.Callback{KeyID: s.Sender.ID, URL: m.CallbackURL}
	has, err := outbox.HasCallbackSecret(ctx, s.Sender.ID)
	if err == nil && !has {
		err = unprocessable("no_callback_secret", "callback_url: this API key is older than callbacks and has no secret to sign with; an admin makes one with: switchboard apikey secret %s", s.Sender.ID)
	}
	return err
}

// CheckCallbackURL tells what is wrong with an address for callbacks. Whether its
// name leads to where it may is found out when it is called.
func CheckCallbackURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "":
		return unprocessable("invalid", "callback_url: use an address like https://example.org/statuses")
	case u.User != nil:
		return unprocessable("invalid", "callback_url: leave user and password out; the signature tells who calls")
	case u.Fragment != "":
		return unprocessable("invalid", "callback_url: leave out what stands behind #")
	case len(address) > 2000:
		return unprocessable("invalid", "callback_url: use 2000 characters at most")
	}
	return nil
}

// scheduleMost is how far ahead a message may be scheduled.
const scheduleMost = 90 * 24 * time.Hour

func schedule(w *MessageSchedule, now time.Time, s *queue.Send) error {
	at := now
	if w.StartAt != nil && w.StartAt.After(now) {
		if at = *w.StartAt; at.Sub(now) > scheduleMost {
			return unprocessable("invalid", "schedule.start_at %s: use a time within 90 days", at.Format(time.RFC3339))
		}
	}
	zone := time.UTC
	if w.Timezone != "" {
		var err error
		if zone, err = time.LoadLocation(w.Timezone); err != nil || w.Timezone == "Local" {
			return unprocessable("invalid", "schedule.timezone %q: use a name of the IANA's list, like Europe/Moscow", w.Timezone)
		}
	}
	if q := w.QuietHours; q != nil {
		from, err := clock(q.From)
		if err != nil {
			return err
		}
		to, err := clock(q.To)
		if err != nil {
			return err
		}
		at = afterQuiet(at.In(zone), from, to)
	}
	if w.StopAt != nil {
		if !w.StopAt.After(at) {
			return unprocessable("invalid", "schedule.stop_at %s: use a time after %s, when the message would leave", w.StopAt.Format(time.RFC3339), at.UTC().Format(time.RFC3339))
		}
		s.TTL = min(s.TTL, w.StopAt.Sub(at))
	}
	if at.After(now) {
		s.NotBefore = at
	}
	return nil
}

// clock reads HH:MM as minutes after midnight.
func clock(value string) (int, error) {
	t, err := time.Parse("15:04", value)
	if err != nil || len(value) != 5 {
		return 0, unprocessable("invalid", "schedule.quiet_hours %q: use hours and minutes from 00:00 to 23:59, like 21:00", value)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// afterQuiet is at, or the end of the quiet hours that it lies in. From and to are
// minutes after midnight by at's clock; equal ones are no hours.
func afterQuiet(at time.Time, from, to int) time.Time {
	minute := at.Hour()*60 + at.Minute()
	days := 0
	switch {
	case from == to:
		return at
	case from < to:
		if minute < from || minute >= to {
			return at
		}
	default: // over midnight
		if minute >= to && minute < from {
			return at
		}
		if minute >= from {
			days = 1
		}
	}
	return time.Date(at.Year(), at.Month(), at.Day()+days, to/60, to%60, 0, 0, at.Location())
}

// refusal is the answer to a message that may not be made; nil for other errors.
func refusal(err error) error {
	if e, ok := errors.AsType[*queue.SuppressedError](err); ok {
		return unprocessable("suppressed", "%s", e)
	}
	if e, ok := errors.AsType[*queue.CappedError](err); ok {
		return unprocessable("frequency_capped", "%s", e)
	}
	if _, ok := errors.AsType[*queue.DailyLimitError](err); ok {
		return restapi.OverDaily(err)
	}
	return nil
}

// senderRules keeps the rules of the sender's name for a moment, so that a message
// costs no query for them.
type senderRules struct {
	mu    sync.Mutex
	at    time.Time
	rules switchboard.SenderRules
}

const senderRulesAge = 2 * time.Second

func (s *senderRules) get(ctx context.Context, outbox Outbox) (switchboard.SenderRules, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.IsZero() && time.Since(s.at) < senderRulesAge {
		return s.rules, nil
	}
	rules, err := outbox.SenderRules(ctx)
	if err != nil {
		return nil, err
	}
	s.rules, s.at = rules, time.Now()
	return rules, nil
}
