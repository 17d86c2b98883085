package campaigns

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

// RunStore is what running campaigns needs of the database.
type RunStore interface {
	LiveCampaigns(ctx context.Context) ([]queue.CampaignLive, error)
	CampaignLoads(ctx context.Context) ([]queue.CampaignLoad, error)
	ProgramOf(ctx context.Context, campaignID string) (definition, files []byte, createdBy string, err error)
	PumpCampaign(ctx context.Context, p *queue.CampaignPump) (queue.CampaignPumped, error)
	SweepCampaign(ctx context.Context, campaignID string, status message.Status, reason string, limit int, decide func(round int, sends []queue.CampaignSend, now time.Time) queue.CampaignVerdict) (more bool, err error)
	RecallCampaign(ctx context.Context, campaignID string) error
	FoldCampaign(ctx context.Context, campaignID string) error
	HoldUpCampaign(ctx context.Context, campaignID, reason string) error
	SenderRules(ctx context.Context) ([]switchboard.SenderRule, error)
}

// Decide decides about a recipient; see Cascade. The state is the campaign's.
type Decide func(campaignID, state string, round int, sends []queue.CampaignSend, now time.Time) (queue.CampaignVerdict, error)

// Follower reads what became of messages, and moves recipients on.
type Follower interface {
	Next(ctx context.Context, limit int) (queue.CampaignFollowed, error)
}

// Outboxes sends what was queued; *workers.Workers is one.
type Outboxes interface {
	// Room is how many chats Deliver takes.
	Room() int
	Deliver(chats []queue.Handed)
	// Release sees to accounts of which chats were parked.
	Release(accounts []string)
}

// RunBus rings doorbells; see package bus.
type RunBus interface {
	Wake(topic string)
	Subscribe(topic string) (hints <-chan struct{}, cancel func())
}

// RunnerDeps are what a runner works with.
type RunnerDeps struct {
	Node     string // as in its heartbeat; "": the runner claims nothing by itself
	Store    RunStore
	Follow   func(Decide) Follower
	Accounts Accounts
	Outboxes Outboxes
	Bus      RunBus
	Log      *slog.Logger
}

// Runner moves the recipients of running campaigns into outboxes, a little at a
// time, and follows what becomes of the messages. Every process with workers has
// one; the database lets one at a campaign at a time.
type Runner struct {
	deps  RunnerDeps
	log   *slog.Logger
	zones zones
	live  atomic.Int32  // campaigns with which something is to be done
	kick  chan struct{} // a step is to be begun
	awake chan struct{} // a campaign is live again

	mu       sync.Mutex
	programs map[string]*running // by campaign
	rules    switchboard.SenderRules
	rulesAt  time.Time

	backs map[[2]string]time.Time // by campaign and account, see queue.CampaignAccount.Back
	// waiting are messages in outboxes, by campaign and account; see count.
	waiting   map[[2]string]int
	countedAt time.Time
	counting  time.Duration // what the last count took
	rated     bool          // campaigns run at accounts with a limit

	rounds int                  // who comes first changes with every round
	folds  map[string]time.Time // when a campaign's counts are folded next
	last   map[string]bool      // for the last time
}

// running is a campaign's program, as its runner needs it.
type running struct {
	*Program
	callbackKey string
}

// NewRunner returns a runner that does nothing yet.
func NewRunner(deps RunnerDeps) (*Runner, error) {
	if deps.Store == nil || deps.Follow == nil || deps.Accounts == nil || deps.Outboxes == nil || deps.Bus == nil || deps.Log == nil {
		return nil, errors.New("campaigns: a runner needs all of its deps")
	}
	return &Runner{deps: deps, log: deps.Log, kick: make(chan struct{}, 1), awake: make(chan struct{}, 1), programs: map[string]*running{}, backs: map[[2]string]time.Time{}, folds: map[string]time.Time{}, last: map[string]bool{}}, nil
}

const (
	pumpBatch  = 500  // recipients in a transaction
	sweepBatch = 5000 // recipients that are ended in one
	openWindow = 2000 // messages in the outbox of an account without a limit
	leastRoom  = 20   // and at least of one with a limit

	unlimitedGap = time.Millisecond       // see queue.CampaignAccount.Gap
	idleWait     = 4 * time.Second        // nothing runs: a start rings
	pumpWait     = 20 * time.Millisecond  // what was sent makes room
	pumpLeast    = pumpBatch / 2          // room that is waited for: small transactions cost as much
	ratedWait    = 150 * time.Millisecond // at the pace of a limit
	quietWait    = time.Second            // something runs, and nothing is due
	foldEvery    = 2 * time.Second
	foldLast     = time.Minute // after the end: what tells the pace is folded then

	followBatch = 2000
	followLive  = 25 * time.Millisecond // between two looks at the events, at least
	followPoll  = 500 * time.Millisecond
	followIdle  = 5 * time.Second // for late words on campaigns that have ended
)

// Run works until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() { r.pump(ctx) })
	both.Go(func() { r.follow(ctx) })
	both.Wait()
	return nil
}

// follow reads the events. While no campaign is live there is no hurry.
func (r *Runner) follow(ctx context.Context) {
	f := r.deps.Follow(r.decide)
	hints, cancel := r.deps.Bus.Subscribe("events")
	defer cancel()
	for {
		did, err := f.Next(ctx, followBatch)
		if did.Next {
			select {
			case r.kick <- struct{}{}:
			default:
			}
		}
		wait, hinted := followLive, hints
		switch {
		case err != nil:
			if ctx.Err() == nil {
				r.log.WarnContext(ctx, "campaigns' messages could not be followed; they will be", "error", err)
			}
			wait, hinted = time.Second, nil
		case did.More:
			wait, hinted = 0, nil
		case did.Blocked:
			wait, hinted = 5*time.Millisecond, nil
		case r.live.Load() == 0:
			select {
			case <-ctx.Done():
				return
			case <-r.awake:
			case <-time.After(followIdle):
			}
			continue
		}
		if !sleep(ctx, wait) {
			return
		}
		if hinted == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-hinted:
		case <-time.After(followPoll):
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// pump goes round the campaigns.
func (r *Runner) pump(ctx context.Context) {
	hints, cancel := r.deps.Bus.Subscribe("campaigns")
	defer cancel()
	for {
		wait, err := r.round(ctx)
		if err != nil {
			if ctx.Err() == nil {
				r.log.WarnContext(ctx, "campaigns could not be moved on; they will be", "error", err)
			}
			wait = time.Second
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-hints:
		case <-r.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// round does what can be done at the moment, and says when to come again.
func (r *Runner) round(ctx context.Context) (wait time.Duration, err error) {
	live, err := r.deps.Store.LiveCampaigns(ctx)
	if err != nil {
		return 0, err
	}
	if r.live.Swap(int32(len(live))) == 0 && len(live) > 0 {
		select {
		case r.awake <- struct{}{}:
		default:
		}
	}
	maps.DeleteFunc(r.backs, func(_ [2]string, at time.Time) bool { return time.Since(at) > time.Minute })
	r.fold(ctx, live)
	wait = idleWait
	if len(live) == 0 {
		return wait, nil
	}
	if err := r.count(ctx, slices.ContainsFunc(live, func(c queue.CampaignLive) bool { return c.State == "paused" })); err != nil {
		return 0, err
	}
	byCampaign := map[string]int{}
	for of, n := range r.waiting {
		byCampaign[of[0]] += n
	}
	soon := func(d time.Duration) { wait = min(wait, max(d, 0)) }
	var active []*turn
	for _, c := range live {
		ended := c.StopAt != nil && !c.StopAt.After(c.Now)
		switch {
		case c.State == "canceled" || ended:
			again, err := r.end(ctx, c, ended && c.State != "canceled")
			if err != nil {
				r.log.WarnContext(ctx, "campaign could not be ended; it will be", "campaign", c.ID, "error", err)
			}
			r.note(ctx, c, err)
			soon(again)
			continue
		case c.State == "scheduled":
			if c.StartAt != nil {
				soon(c.StartAt.Sub(c.Now))
			}
			continue
		case c.State == "paused":
			if byCampaign[c.ID] > 0 {
				if err := r.deps.Store.RecallCampaign(ctx, c.ID); err != nil {
					return 0, err
				}
				soon(ratedWait)
			}
			continue
		}
		if c.StopAt != nil {
			soon(c.StopAt.Sub(c.Now))
		}
		if c.Due != nil && c.Due.After(c.Now) {
			soon(c.Due.Sub(c.Now))
		}
		soon(quietWait)
		if c.Taken >= c.Accepted && !c.Held && (c.Due == nil || c.Due.After(c.Now)) {
			r.note(ctx, c, nil)
			if byCampaign[c.ID] == 0 {
				soon(ratedWait) // the last words on its messages are on their way
			}
			continue
		}
		t, err := r.prepare(ctx, c)
		if err != nil {
			r.log.WarnContext(ctx, "campaign could not be moved on; it will be", "campaign", c.ID, "error", err)
			r.note(ctx, c, err)
			continue
		}
		active = append(active, t)
	}
	r.share(active)
	r.rounds++
	for i := range active {
		t := active[(i+r.rounds)%len(active)]
		again, err := r.move(ctx, t)
		if err != nil {
			r.log.WarnContext(ctx, "campaign could not be moved on; it will be", "campaign", t.live.ID, "error", err)
			again = time.Second
		}
		r.note(ctx, t.live, err)
		soon(again)
	}
	return wait, ctx.Err()
}

// note keeps with the campaign why it could not be moved on, for those who ask, and
// forgets it when it could.
func (r *Runner) note(ctx context.Context, c queue.CampaignLive, err error) {
	if ctx.Err() != nil || heldUp(err) == c.HeldUp {
		return
	}
	if err := r.deps.Store.HoldUpCampaign(ctx, c.ID, heldUp(err)); err != nil {
		r.log.WarnContext(ctx, "what holds a campaign up could not be noted; it will be", "campaign", c.ID, "error", err)
	}
}

// heldUp is an error in words for those who look at a campaign.
func heldUp(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, switchboard.ErrInvalid):
		return err.Error()
	default:
		return "it can't be moved on, and is tried again; the log of the process with the workers says why"
	}
}

// countEvery is how often the outboxes are counted where that decides on something: at
// accounts with a limit, and while a campaign is being paused. In between what is
// added counts, and what was sent does not make room yet. A count reads what
// was deleted lately, too, and takes tens of milliseconds at thousands of sends a second:
// it has a twentieth of the time.
const countEvery, countSeldom = 100 * time.Millisecond, time.Second

// count counts campaigns' messages in the outboxes.
func (r *Runner) count(ctx context.Context, pausing bool) error {
	every := countSeldom
	if pausing || r.rated {
		every = countEvery
	}
	if time.Since(r.countedAt) < max(every, 20*r.counting) {
		return nil
	}
	began := time.Now()
	loads, err := r.deps.Store.CampaignLoads(ctx)
	if err != nil {
		return err
	}
	r.waiting, r.countedAt, r.counting = map[[2]string]int{}, began, time.Since(began)
	for _, l := range loads {
		r.waiting[[2]string{l.CampaignID, l.AccountID}] = l.Messages
	}
	return nil
}

// turn is a campaign's part in a round.
type turn struct {
	live     queue.CampaignLive
	program  *running
	pump     *queue.CampaignPump
	accounts []*queue.CampaignAccount // each once
	rates    map[string]float64
	weight   int
}

// weights are the shares of campaigns by their priority.
var weights = map[string]int{"high": 4, "normal": 2, "": 2, "low": 1}

// rulesAge is how long the rules of the sender's name are believed.
const rulesAge = 2 * time.Second

func (r *Runner) senderRules(ctx context.Context) (switchboard.SenderRules, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.rulesAt.IsZero() && time.Since(r.rulesAt) < rulesAge {
		return r.rules, nil
	}
	rules, err := r.deps.Store.SenderRules(ctx)
	if err != nil {
		return nil, err
	}
	r.rules, r.rulesAt = rules, time.Now()
	return rules, nil
}

// prepare prepares a campaign's part.
func (r *Runner) prepare(ctx context.Context, c queue.CampaignLive) (*turn, error) {
	p, err := r.program(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	rules, err := r.senderRules(ctx)
	if err != nil {
		return nil, err
	}
	t := &turn{live: c, program: p, rates: map[string]float64{}, weight: weights[p.Priority]}
	t.pump = &queue.CampaignPump{ID: c.ID, Node: r.deps.Node, Rate: p.Rate, Cap: p.Cap, CapPer: p.CapPer, Lists: p.StopLists, TTL: p.TTL, StopAt: c.StopAt, Priority: queue.PriorityCampaign,
		CallbackURL: p.CallbackURL, CallbackKey: p.callbackKey}
	rungs := r.rungs(ctx, p)
	known := map[string]*queue.CampaignAccount{}
	for i := range p.Steps {
		s := &p.Steps[i]
		opened, err := s.Accounts(ctx, r.deps.Accounts)
		if err != nil {
			return nil, err
		}
		if active := slices.DeleteFunc(slices.Clone(opened), func(o *channels.Opened) bool { return o.State != "active" }); len(active) > 0 {
			opened = active // else what is queued waits for the account
		}
		step := queue.CampaignStep{Wait: rungs[i].Wait, Last: i == len(p.Steps)-1, Timed: i < len(p.Steps)-1 || s.Success != Accepted}
		for _, o := range opened {
			a := known[o.Account.ID]
			if a == nil {
				a = &queue.CampaignAccount{ID: o.Account.ID, Platform: o.Account.Platform, Sender: rules.Apply(o.Account.ID, o.Account.Platform, cmp.Or(p.TrafficClass, "marketing"), cmp.Or(p.Sender, o.Account.Setting("sender_name", ""))), TTL: o.TTL, Rated: o.Capabilities.Rate.PerSecond > 0,
					Prompt: o.State == "active" && o.Capabilities.Rate.PerSecond <= 0 && o.Capabilities.ChatRate.PerSecond <= 0 && (o.Guarantee != "at_most_once" || o.Capabilities.Idempotent),
					ByID:   o.Capabilities.StartByID, ByPhone: o.Capabilities.StartByPhone, Check: func(address string) bool { return o.CheckChat(address) == nil }}
				a.Gap, a.Back = unlimitedGap, r.backs[[2]string{c.ID, a.ID}]
				if a.Rated {
					a.Gap = time.Duration(float64(time.Second) / o.Capabilities.Rate.PerSecond)
				}
				known[a.ID] = a
				t.rates[a.ID] = o.Capabilities.Rate.PerSecond
				t.accounts = append(t.accounts, a)
			}
			step.Accounts = append(step.Accounts, a)
		}
		t.pump.Steps = append(t.pump.Steps, step)
	}
	t.pump.Hours = func(to *queue.CampaignRecipient, now time.Time) (until, again, wait time.Time) {
		if !p.restricted() {
			return until, again, wait
		}
		return p.hours(r.zones.of(to, p.Zone, now), now)
	}
	t.pump.Content = func(step int, to *queue.CampaignRecipient) (message.Content, error) {
		vars, err := variables(to)
		if err != nil {
			return message.Content{}, err
		}
		return p.Content(step, vars), nil
	}
	t.pump.Cascade = func(round int, sends []queue.CampaignSend, now time.Time) queue.CampaignVerdict {
		return Cascade(rungs, round, sends, Running, now)
	}
	t.pump.Standing = standing
	return t, nil
}

// variables are what a recipient's texts may name.
func variables(r *queue.CampaignRecipient) (map[string]string, error) {
	vars := map[string]string{}
	if len(r.Vars) > 0 {
		if err := json.Unmarshal(r.Vars, &vars); err != nil {
			return nil, fmt.Errorf("reading the recipient's variables: %w", err)
		}
	}
	vars[[]string{"customer_id", "external_id", "phone"}[r.Kind]] = r.Address
	return vars, nil
}

// share gives each campaign its room in the outboxes: a part of about a second of
// what the account may send, so that a pause, or another campaign, waits for no more.
// Without a limit it is a part of what this process may have under way.
func (r *Runner) share(active []*turn) {
	total, free := map[string]int{}, min(r.deps.Outboxes.Room(), openWindow)
	r.rated = false
	for _, t := range active {
		for _, a := range t.accounts {
			total[a.ID] += t.weight
		}
	}
	for _, t := range active {
		for _, a := range t.accounts {
			rate := t.rates[a.ID]
			if rate <= 0 {
				a.Room = (free*t.weight + total[a.ID] - 1) / total[a.ID]
				continue
			}
			r.rated = true
			window := max(leastRoom, int(math.Ceil(rate)))
			a.Room = max(max(window*t.weight/total[a.ID], 1)-r.waiting[[2]string{t.live.ID, a.ID}], 0)
		}
	}
}

// move begins what there is room for. The room is as of the round's beginning: what
// is begun here is taken off it.
func (r *Runner) move(ctx context.Context, t *turn) (again time.Duration, err error) {
	for range openWindow / pumpBatch {
		if again, err = r.moveOnce(ctx, t); err != nil || again > 0 {
			break
		}
	}
	return again, err
}

func (r *Runner) moveOnce(ctx context.Context, t *turn) (again time.Duration, err error) {
	room, rated := 0, true
	for _, a := range t.accounts {
		room += a.Room
		rated = rated && a.Rated
	}
	again = pumpWait
	if rated || t.program.Rate > 0 {
		again = ratedWait
	}
	if len(t.accounts) == 0 {
		room = pumpBatch // they are told why, one and all
	}
	if !rated {
		free := r.deps.Outboxes.Room()
		if free < pumpLeast {
			return again, nil
		}
		room = min(room, free)
	}
	if room <= 0 {
		return again, nil
	}
	t.pump.Limit = min(room, pumpBatch)
	rooms := make([]int, len(t.accounts))
	for i, a := range t.accounts {
		rooms[i] = a.Room
	}
	did, err := r.deps.Store.PumpCampaign(ctx, t.pump)
	if err != nil {
		return 0, err
	}
	for i, a := range t.accounts {
		r.waiting[[2]string{t.live.ID, a.ID}] += rooms[i] - a.Room
		if a.Back.After(t.live.Now) {
			r.backs[[2]string{t.live.ID, a.ID}] = a.Back
		}
	}
	r.deps.Outboxes.Deliver(did.Handed)
	r.deps.Outboxes.Release(did.Accounts)
	if did.Begun > 0 {
		r.deps.Bus.Wake("events")
	}
	if did.Looked+did.Held == 0 {
		again = ratedWait
	}
	if did.Busy || did.Held > 0 || (!did.More && did.Looked < t.pump.Limit) {
		return again, nil
	}
	return 0, nil
}

// end ends the recipients of a campaign that was canceled, or whose time is over.
func (r *Runner) end(ctx context.Context, c queue.CampaignLive, over bool) (again time.Duration, err error) {
	p, err := r.program(ctx, c.ID)
	if err != nil {
		return 0, err
	}
	if err := r.deps.Store.RecallCampaign(ctx, c.ID); err != nil {
		return 0, err
	}
	status, reason, phase := message.StatusCanceled, "the campaign was canceled", Stopped
	if over {
		status, reason, phase = message.StatusExpired, "the campaign's stop_at has passed", Ended
	}
	rungs := r.rungs(ctx, p)
	more, err := r.deps.Store.SweepCampaign(ctx, c.ID, status, reason, sweepBatch, func(round int, sends []queue.CampaignSend, now time.Time) queue.CampaignVerdict {
		return Cascade(rungs, round, sends, phase, now)
	})
	if more {
		return 0, err
	}
	return ratedWait, err
}

// fold sums up the counts of campaigns that run, or did a minute ago.
func (r *Runner) fold(ctx context.Context, live []queue.CampaignLive) {
	now := time.Now()
	runs := map[string]bool{}
	for _, c := range live {
		if c.State == "scheduled" {
			continue
		}
		runs[c.ID] = true
		if _, known := r.folds[c.ID]; !known || r.last[c.ID] {
			r.folds[c.ID] = now.Add(foldEvery)
			delete(r.last, c.ID)
		}
	}
	for id, at := range r.folds {
		if now.Before(at) {
			continue
		}
		if err := r.deps.Store.FoldCampaign(ctx, id); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "counts could not be summed up; they will be", "campaign", id, "error", err)
		}
		switch {
		case runs[id]:
			r.folds[id] = now.Add(foldEvery)
		case r.last[id]:
			delete(r.folds, id)
			delete(r.last, id)
		default:
			r.folds[id], r.last[id] = now.Add(foldLast), true
		}
	}
}

// programsKept bounds the cache of programs.
const programsKept = 200

// program returns a campaign's program. It does not change once the campaign has
// been started.
func (r *Runner) program(ctx context.Context, id string) (*running, error) {
	r.mu.Lock()
	p := r.programs[id]
	r.mu.Unlock()
	if p != nil {
		return p, nil
	}
	raw, rawFiles, createdBy, err := r.deps.Store.ProgramOf(ctx, id)
	if err != nil {
		return nil, err
	}
	var d Definition
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("reading the definition of campaign %s: %w", id, err)
	}
	files := map[string]message.File{}
	if err := json.Unmarshal(rawFiles, &files); err != nil {
		return nil, fmt.Errorf("reading the files of campaign %s: %w", id, err)
	}
	compiled, err := d.Compile(files)
	if err != nil {
		return nil, fmt.Errorf("campaign %s: %w", id, err)
	}
	p = &running{Program: compiled}
	p.callbackKey, _ = strings.CutPrefix(createdBy, "apikey:")
	if p.callbackKey == createdBy {
		p.callbackKey = ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.programs) >= programsKept {
		clear(r.programs)
	}
	r.programs[id] = p
	return p, nil
}

// rungs are what the cascade has to know of a program's steps. A wait that is not
// given is the message's time to live.
func (r *Runner) rungs(ctx context.Context, p *running) []Rung {
	rungs := make([]Rung, len(p.Steps))
	for i := range p.Steps {
		s := &p.Steps[i]
		wait := cmp.Or(s.Wait, p.TTL)
		if wait == 0 {
			if accounts, err := s.Accounts(ctx, r.deps.Accounts); err == nil && len(accounts) > 0 {
				wait = accounts[0].TTL
			}
		}
		rungs[i] = Rung{s.Success, cmp.Or(wait, 24*time.Hour)}
	}
	return rungs
}

// decide is Cascade for the follower.
func (r *Runner) decide(campaignID, state string, round int, sends []queue.CampaignSend, now time.Time) (queue.CampaignVerdict, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	p, err := r.program(ctx, campaignID)
	if err != nil {
		return queue.CampaignVerdict{}, err
	}
	phase := Running // a pause forgets nothing: what is due is begun when it goes on
	if state == "canceled" || state == "deleted" {
		phase = Stopped
	}
	return Cascade(r.rungs(ctx, p), round, sends, phase, now), nil
}
