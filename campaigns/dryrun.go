package campaigns

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"

	"switchboard/internal/queue"
)

// DryRun is what a campaign would come to.
type DryRun struct {
	Recipients int64         `json:"recipients"`
	Reachable  int64         `json:"reachable" doc:"those who can be sent to over a step at least"`
	Steps      []DryRunStep  `json:"steps" nullable:"false"`
	Cost       DryRunCost    `json:"cost" doc:"by the prices of the steps and accounts; what has none costs nothing"`
	Seconds    float64       `json:"seconds" doc:"how long the first messages take at the allowed rates, quiet hours aside; the cascade's waits come on top"`
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
	Seconds   float64 `json:"seconds" doc:"first at that rate"`
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
	run, err := p.dryRun(ctx, c.ID, a.Accounts, a.Store)
	if err != nil {
		return nil, err
	}
	return &body[DryRun]{run}, nil
}

func (p *Program) dryRun(ctx context.Context, id string, accounts Accounts, store Store) (DryRun, error) {
	run := DryRun{Steps: []DryRunStep{}, Problems: []DryRunCount{}}
	var stopped []DryRunCount // Count is the step yet
	q := queue.Reach{StopLists: p.StopLists}
	for i := range p.Steps {
		s := &p.Steps[i]
		opened, err := s.Accounts(ctx, accounts)
		if err != nil {
			return run, err
		}
		step := DryRunStep{Step: i, AccountID: s.AccountID, Platform: s.Platform}
		var r queue.ReachStep
		limited := len(opened) > 0
		for _, o := range opened {
			step.Platform = o.Account.Platform
			r.Accounts = append(r.Accounts, o.Account.ID)
			r.ByPhone = r.ByPhone || o.Capabilities.StartByPhone
			r.ByID = r.ByID || o.Capabilities.StartByID || o.Capabilities.StartByPhone
			limited = limited && o.Capabilities.Rate.PerSecond > 0
			step.Rate += o.Capabilities.Rate.PerSecond
			if price, err := strconv.ParseFloat(o.Account.Setting("message_price", ""), 64); err == nil {
				step.Price = max(step.Price, price)
			}
			if o.State != "active" {
				stopped = append(stopped, DryRunCount{fmt.Sprintf("steps[%d]: account %s is %s; what is sent over it waits", i, o.Account.ID, o.State), int64(i)})
			}
		}
		if !limited {
			step.Rate = 0
		}
		if p.Rate > 0 && (step.Rate == 0 || p.Rate < step.Rate) {
			step.Rate = p.Rate
		}
		if s.Price != nil {
			step.Price = *s.Price
		}
		q.Steps = append(q.Steps, r)
		run.Steps = append(run.Steps, step)
	}
	got, err := store.CampaignReach(ctx, id, q)
	if err != nil {
		return run, err
	}
	run.Recipients, run.Reachable = got.Recipients, got.Reachable
	for i := range run.Steps {
		s := &run.Steps[i]
		s.First, s.Reachable = got.First[i], got.Steps[i]
		s.Cost = money(float64(s.First) * s.Price)
		run.Cost.Least += s.Cost
		run.Cost.Most += float64(s.Reachable) * s.Price
		if s.Rate > 0 {
			s.Seconds = math.Round(float64(s.First)/s.Rate*10) / 10
		}
		// Steps over different accounts go on side by side; the campaign's own rate is
		// of all of them together.
		run.Seconds = max(run.Seconds, s.Seconds)
	}
	if p.Rate > 0 {
		run.Seconds = max(run.Seconds, math.Round(float64(run.Reachable)/p.Rate*10)/10)
	}
	run.Cost.Least, run.Cost.Most = money(run.Cost.Least), money(run.Cost.Most)
	run.Duration = (time.Duration(run.Seconds) * time.Second).String()
	for _, x := range stopped {
		run.Problems = append(run.Problems, DryRunCount{x.Reason, run.Steps[x.Count].First})
	}
	for _, x := range got.Problems {
		run.Problems = append(run.Problems, DryRunCount{x.Reason, x.Count})
	}
	return run, nil
}

// money has as many decimals as a price of a thousandth needs.
func money(x float64) float64 { return math.Round(x*10000) / 10000 }
