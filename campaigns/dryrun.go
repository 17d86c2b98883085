package campaigns

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"

	"switchboard"
	"switchboard/internal/queue"
)

// DryRun is what a campaign would come to.
type DryRun struct {
	Recipients int64         `json:"recipients"`
	Reachable  int64         `json:"reachable" doc:"those who can be sent to over a step at least"`
	Steps      []DryRunStep  `json:"steps" nullable:"false"`
	Cost       DryRunCost    `json:"cost" doc:"by the prices of the steps and accounts; what has none costs nothing"`
	Seconds    float64       `json:"seconds" doc:"how long the first messages take at the allowed rates and within the campaign's hours, from the start on (start_at, or now); the cascade's waits come on top"`
	Duration   string        `json:"duration" doc:"the same for people"`
	Problems   []DryRunCount `json:"problems" nullable:"false" doc:"why recipients would not be reached"`
}

// DryRunStep is a step's part.
type DryRunStep struct {
	Step      int     `json:"step" doc:"from 0"`
	AccountID string  `json:"account_id,omitempty"`
	Platform  string  `json:"platform"`
	First     int64   `json:"first" doc:"recipients for whom it is the first step that can reach them"`
	Reachable int64   `json:"reachable" doc:"recipients whom it can reach"`
	Price     float64 `json:"price" doc:"of one message"`
	Cost      float64 `json:"cost" doc:"price times first"`
	Rate      float64 `json:"rate" doc:"messages per second that are allowed; 0: no limit"`
	Seconds   float64 `json:"seconds" doc:"how long first takes at that rate, within the campaign's hours"`
}

// DryRunCost is between what the first messages cost and what all steps cost.
type DryRunCost struct {
	Least float64 `json:"least" doc:"everybody is reached by the first step that can"`
	Most  float64 `json:"most" doc:"every step is taken"`
}

// DryRunCount is how many recipients have a problem.
type DryRunCount struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

func (a *API) dryRun(ctx context.Context, in *actionInput) (*body[DryRun], error) {
	c, err := a.Store.Campaign(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	p, err := program(c)
	if err != nil {
		return nil, err
	}
	run, err := a.dryRunOf(ctx, p, &c, time.Now())
	if err != nil {
		return nil, err
	}
	return &body[DryRun]{run}, nil
}

func (a *API) dryRunOf(ctx context.Context, p *Program, c *switchboard.Campaign, now time.Time) (DryRun, error) {
	run := DryRun{Steps: []DryRunStep{}, Problems: []DryRunCount{}}
	var stopped []DryRunCount // Count is the step yet
	q := queue.Reach{StopLists: p.StopLists, Cap: p.Cap, CapPer: p.CapPer}
	for i := range p.Steps {
		s := &p.Steps[i]
		opened, err := s.Accounts(ctx, a.Accounts)
		if err != nil {
			return run, err
		}
		step := DryRunStep{Step: i, AccountID: s.AccountID, Platform: s.Platform}
		var r queue.ReachStep
		for _, o := range opened {
			step.Platform = o.Account.Platform
			r.Accounts = append(r.Accounts, o.Account.ID)
			r.ByPhone = r.ByPhone || o.Capabilities.StartByPhone
			r.ByID = r.ByID || o.Capabilities.StartByID || o.Capabilities.StartByPhone
			if price, err := strconv.ParseFloat(o.Account.Setting("message_price", ""), 64); err == nil {
				step.Price = max(step.Price, price)
			}
			if reason := stopReason(o); reason != "" {
				stopped = append(stopped, DryRunCount{fmt.Sprintf("steps[%d]: %s (%s); what is sent over it waits", i, reason, o.Account.ID), int64(i)})
			}
		}
		if step.Rate, err = p.allowed(ctx, a.Accounts, i); err != nil {
			return run, err
		}
		if s.Price != nil {
			step.Price = *s.Price
		}
		q.Steps = append(q.Steps, r)
		run.Steps = append(run.Steps, step)
	}
	got, err := a.Store.CampaignReach(ctx, c.ID, q)
	if err != nil {
		return run, err
	}
	run.Recipients, run.Reachable = got.Recipients, got.Reachable
	begin := now
	if c.StartAt != nil && c.StartAt.After(now) {
		begin = *c.StartAt
	}
	var stop time.Time
	if c.StopAt != nil {
		stop = *c.StopAt
	}
	late := 0.0
	takes := func(n int64, rate float64) (float64, float64, error) {
		end, left, ok := p.ends(a.zones.groups(p, float64(n), c.Zones), rate, begin, stop)
		if !ok {
			return 0, 0, invalid("the schedule leaves no time to send")
		}
		return math.Round(end.Sub(begin).Seconds()*10) / 10, left, nil
	}
	for i := range run.Steps {
		s := &run.Steps[i]
		s.First, s.Reachable = got.First[i], got.Steps[i]
		s.Cost = money(float64(s.First) * s.Price)
		run.Cost.Least += s.Cost
		run.Cost.Most += float64(s.Reachable) * s.Price
		// Steps over different accounts go on side by side; the campaign's own rate is
		// of all of them together.
		var left float64
		if s.Seconds, left, err = takes(s.First, s.Rate); err != nil {
			return run, err
		}
		run.Seconds = max(run.Seconds, s.Seconds)
		late += left
	}
	if p.Rate > 0 {
		took, left, err := takes(run.Reachable, p.Rate)
		if err != nil {
			return run, err
		}
		run.Seconds, late = max(run.Seconds, took), max(late, left)
	}
	run.Cost.Least, run.Cost.Most = money(run.Cost.Least), money(run.Cost.Most)
	run.Duration = seconds(run.Seconds).Round(time.Second).String()
	for _, x := range stopped {
		run.Problems = append(run.Problems, DryRunCount{x.Reason, run.Steps[x.Count].First})
	}
	if n := int64(math.Round(late)); n > 0 {
		run.Problems = append(run.Problems, DryRunCount{"their turn comes after schedule.stop_at, so that they expire", n})
	}
	for _, x := range got.Problems {
		run.Problems = append(run.Problems, DryRunCount{x.Reason, x.Count})
	}
	return run, nil
}

// money has as many decimals as a price of a thousandth needs.
func money(x float64) float64 { return math.Round(x*10000) / 10000 }
