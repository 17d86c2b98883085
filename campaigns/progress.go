package campaigns

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"switchboard"
	"switchboard/channels"
)

// Waiting is why a running campaign does not move on.
type Waiting struct {
	AccountID string     `json:"account_id,omitempty" doc:"empty: as a whole"`
	Reason    string     `json:"reason"`
	Until     *time.Time `json:"until,omitempty" doc:"when it goes on by itself"`
	Messages  int64      `json:"messages,omitempty" doc:"that wait in the account's outbox; more follow them"`
}

// show makes what the API shows of a campaign.
func (a *API) show(ctx context.Context, c switchboard.Campaign, now time.Time, whole bool) (Campaign, error) {
	s := Campaign{ID: c.ID, Name: c.Name, State: c.State, Reason: c.Reason, Counts: c.Counts, Steps: []StepCounts{}, Waiting: []Waiting{}, Rejected: c.Rejected, Duplicates: c.Duplicates, Variables: c.Variables,
		CreatedBy: c.CreatedBy, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt, StartAt: c.StartAt, StopAt: c.StopAt, StartedAt: c.StartedAt, FinishedAt: c.FinishedAt}
	for i, counts := range c.Steps {
		s.Steps = append(s.Steps, StepCounts{i, counts})
	}
	if s.Variables == nil {
		s.Variables = []string{}
	}
	if c.State == switchboard.CampaignRunning && c.StartedAt != nil && c.RecentTime > 0 {
		span := min(c.RecentTime, max(now.Sub(*c.StartedAt), time.Second))
		s.Rate = float64(int64(float64(c.Recent)/span.Seconds()*10+0.5)) / 10
	}
	if c.Run != nil && (c.Counts.Queued > 0 || len(c.Run.Outbox) > 0) {
		// One that does not compile any more is held up, and its runner says by what.
		if p, err := program(c); err == nil {
			s.Waiting = a.waiting(ctx, p, &c, now)
			if len(s.Waiting) == 0 || s.Waiting[0].Until != nil {
				s.ETA = a.eta(ctx, p, &c, s.Rate, now)
			}
		} else {
			s.Waiting = []Waiting{{Reason: heldUp(err)}}
		}
	}
	if whole {
		s.Definition = &Definition{}
		if err := json.Unmarshal(c.Definition, s.Definition); err != nil {
			return s, fmt.Errorf("reading the definition of campaign %s: %w", c.ID, err)
		}
	}
	return s, nil
}

// waiting tells what holds a running campaign up; what ends by itself goes last.
func (a *API) waiting(ctx context.Context, p *Program, c *switchboard.Campaign, now time.Time) []Waiting {
	list := []Waiting{}
	run := c.Run
	if !run.Workers {
		list = append(list, Waiting{Reason: "no process with the role workers runs"})
	}
	if run.HeldUp != "" {
		list = append(list, Waiting{Reason: run.HeldUp})
	}
	var busy []Waiting
	told := map[string]bool{}
	for i := range p.Steps {
		opened, err := p.Steps[i].Accounts(ctx, a.Accounts)
		if err != nil {
			continue // its runner says so
		}
		stopped := []Waiting{}
		for _, o := range opened {
			id := o.Account.ID
			n := run.Outbox[id]
			// Who comes to this step finds it so; later steps may never be needed.
			needed := n > 0 || (i == 0 && c.Counts.Queued > 0)
			reason := stopReason(o)
			if until, long := run.Busy[id]; reason == "" && long && n > 0 && !told[id] {
				told[id] = true
				busy = append(busy, Waiting{AccountID: id, Reason: "the account's limit is used up, or its platform asked to wait", Until: &until, Messages: n})
			}
			if reason != "" && needed && !told[id] {
				stopped = append(stopped, Waiting{AccountID: id, Reason: reason, Messages: n})
			}
		}
		// A kind of channel goes over those of its accounts that run: a stopped one is
		// missed when it has messages, or when it is the last.
		for _, w := range stopped {
			if w.Messages > 0 || len(stopped) == len(opened) {
				told[w.AccountID] = true
				list = append(list, w)
			}
		}
	}
	list = append(list, busy...)
	if quiet := quietOf(run); quiet > 0 && run.Fresh == 0 && quiet >= c.Counts.Queued {
		until := run.Quiet[0].Until
		list = append(list, Waiting{Reason: "the hours of the schedule: all who are left may not be written to now", Until: &until})
	}
	return list
}

// stopReason is why nothing leaves over an account; empty when it does.
func stopReason(o *channels.Opened) string {
	switch {
	case o.Err != nil:
		return "the account can't be used: " + o.Err.Error()
	case o.State == "active":
		return ""
	case o.Reason != "":
		return "the account is " + o.State + ": " + o.Reason
	default:
		return "the account is " + o.State
	}
}

func quietOf(run *switchboard.CampaignRun) (n int64) {
	for _, q := range run.Quiet {
		n += q.Recipients
	}
	return n
}

// eta tells when the queue of a running campaign is empty; nil when that can't be told.
// It knows of those who wait for an hour, and takes others to be like all recipients.
func (a *API) eta(ctx context.Context, p *Program, c *switchboard.Campaign, rate float64, now time.Time) *time.Time {
	run := c.Run
	left := c.Counts.Queued
	if left <= 0 {
		return nil
	}
	var groups []group
	later := map[time.Time]*time.Location{} // a clock on which it is quiet until then
	open := map[string]int64{}              // clocks on which it is not
	clocks := c.Zones
	if len(clocks) == 0 {
		clocks = map[string]int64{"": 1}
	}
	for name, n := range clocks {
		at := a.zones.named(p, name)
		if _, _, wait := p.hours(at, now); wait.IsZero() {
			open[name] = n
		} else {
			later[wait.UTC()] = at
		}
	}
	quiet := min(quietOf(run), left)
	for _, q := range run.Quiet {
		at := later[q.Until]
		if at == nil {
			at = p.Zone
		}
		groups = append(groups, group{at, float64(q.Recipients)})
	}
	fresh := min(run.Fresh, left-quiet)
	groups = append(groups, a.zones.groups(p, float64(fresh), c.Zones)...)
	// The rest is on its way, or its turn has come: it is day where they are.
	rest := left - quiet - fresh
	if len(open) == 0 {
		open = c.Zones
	}
	groups = append(groups, a.zones.groups(p, float64(rest), open)...)
	if rate <= 0 {
		// Nothing moves. Until the hour of those who sleep that says nothing.
		if quiet < left {
			return nil
		}
		rate, _ = p.allowed(ctx, a.Accounts, 0)
	}
	end, _, ok := p.ends(groups, rate, now, time.Time{})
	if !ok {
		return nil
	}
	if c.StopAt != nil && end.After(*c.StopAt) {
		end = *c.StopAt
	}
	return new(end.Truncate(time.Second).UTC())
}

// allowed is how many recipients per second may be begun over a step (0: no limit).
func (p *Program) allowed(ctx context.Context, accounts Accounts, step int) (rate float64, err error) {
	opened, err := p.Steps[step].Accounts(ctx, accounts)
	if err != nil {
		return 0, err
	}
	for _, o := range opened {
		if o.Capabilities.Rate.PerSecond <= 0 {
			rate = 0
			break
		}
		rate += o.Capabilities.Rate.PerSecond
	}
	if p.Rate > 0 && (rate == 0 || p.Rate < rate) {
		rate = p.Rate
	}
	return rate, nil
}
