package workers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river"

	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

type deliverWorker struct {
	river.WorkerDefaults[queue.DeliverArgs]
	w *Workers
}

// Timeout implements river.Worker: none; each call has a deadline of its own.
func (*deliverWorker) Timeout(*river.Job[queue.DeliverArgs]) time.Duration { return -1 }

// waitInSlot is the longest wait that is slept through in the worker's slot, as
// long as half of the slots are free of it: a chat's own turn comes after a second at
// most platforms, and a job that goes back to the queue comes late. waitAlways
// is slept through in any case.
const (
	waitInSlot = 1100 * time.Millisecond
	waitAlways = 20 * time.Millisecond
)

// wordsTimeout bounds a call that uploads nothing: one that hangs holds up its chat.
const wordsTimeout = 20 * time.Second

// sendsPerJob bounds how long a talkative chat keeps its slot.
const sendsPerJob = 100

// Work sends what waits in the chat's outbox, one message after another.
func (d *deliverWorker) Work(ctx context.Context, job *river.Job[queue.DeliverArgs]) error {
	if again, left := d.w.deliver(ctx, &queue.Handed{ChatID: job.Args.ChatID}, nil); left {
		return river.JobSnooze(again)
	}
	return nil
}

// deliver sends what waits in a chat's outbox. left says that there is more, which
// is to be looked at again after a time. A claim that came along is used up. Calls, if
// given, has room for as many as may be made at once.
func (w *Workers) deliver(ctx context.Context, h *queue.Handed, calls chan struct{}) (again time.Duration, left bool) {
	chat := h.ChatID
	if _, busy := w.inFlight.LoadOrStore(chat, struct{}{}); busy {
		return time.Second, true // a rescued twin of a job that still runs here
	}
	defer w.inFlight.Delete(chat)
	slot := slot{calls: calls}
	defer slot.leave()
	var outcome *queue.Outcome
	if h.Claim != nil {
		outcome = w.sendWithin(ctx, &slot, h.Claim, h.At)
		h.Claim = nil
	}
	for sent := 0; ; sent++ {
		select {
		case <-w.stopping:
			if outcome == nil {
				break
			}
			// Record and leave the rest to others.
			if _, err := w.stepUntilDone(ctx, outcome, ""); err != nil {
				w.log.ErrorContext(ctx, "outcome of a send could not be recorded", "message", outcome.Claim.MessageID, "error", err)
			}
			return 0, true
		default:
		}
		claim, err := w.stepUntilDone(ctx, outcome, chat)
		if err != nil {
			if ctx.Err() == nil {
				w.log.WarnContext(ctx, "outbox could not be read; it will be tried again", "chat", chat, "error", err)
			}
			return time.Second, true
		}
		outcome = nil
		switch claim.State {
		case queue.ClaimDone:
			if claim.Parked {
				w.pacer.note(claim.AccountID)
			}
			return 0, false
		case queue.ClaimWait:
			slot.leave()
			if sent < sendsPerJob && w.rest(ctx, claim.Wait) {
				continue
			}
			// Up to 4 s stays out of River's scheduler, which only its leader runs.
			return min(claim.Wait, 4*time.Second), true
		}
		outcome = w.sendWithin(ctx, &slot, &claim, time.Now())
	}
}

// slot is a place among the calls that may be made at once. Without calls everybody
// has one.
type slot struct {
	calls chan struct{}
	held  bool
}

// take waits for a place, and reports false when the process is to stop before.
func (s *slot) take(stopping <-chan struct{}) bool {
	if s.calls == nil || s.held {
		return true
	}
	select {
	case s.calls <- struct{}{}:
		s.held = true
	case <-stopping:
	}
	return s.held
}

func (s *slot) leave() {
	if s.held {
		<-s.calls
		s.held = false
	}
}

// sendWithin makes the call of a claim in a slot, which is taken when its time has come,
// and leaves that. When the slot came too late, or the account was stopped meanwhile,
// the claim is given back, and the slot is kept: what is claimed next goes at once.
func (w *Workers) sendWithin(ctx context.Context, s *slot, c *queue.Claim, claimed time.Time) *queue.Outcome {
	if wait := time.Until(c.At); s.calls != nil && !c.At.IsZero() && wait > 0 && !c.Orphan {
		s.leave()
		if !w.sleep(ctx, wait) {
			return &queue.Outcome{Claim: c, Kind: queue.OutcomeUnsent}
		}
		claimed = time.Now()
	}
	if !s.take(w.stopping) || s.calls != nil && (time.Since(claimed) > handedFresh || !w.pace(c.AccountID).OK) {
		return &queue.Outcome{Claim: c, Kind: queue.OutcomeUnsent}
	}
	defer s.leave()
	return w.send(ctx, c)
}

// rest waits in the worker's slot, or reports that the wait is too long for that.
func (w *Workers) rest(ctx context.Context, wait time.Duration) bool {
	if wait <= 0 {
		return true
	}
	resting := w.resting.Add(1)
	defer w.resting.Add(-1)
	if wait > waitInSlot || (wait > waitAlways && int(resting) > w.cfg.Sends/2) {
		return false
	}
	return w.sleep(ctx, wait)
}

// sleep reports false when the process is to stop before the time is over.
func (w *Workers) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.stopping:
	case <-ctx.Done():
	}
	return false
}

// stepUntilDone insists on recording an outcome: while the database is away the
// knowledge that a message was sent exists only here, and losing it would mean
// sending twice. It gives up when the process is told to stop for good.
func (w *Workers) stepUntilDone(ctx context.Context, outcome *queue.Outcome, chat string) (queue.Claim, error) {
	backoff := 50 * time.Millisecond
	for {
		claim, err := w.stepper.step(ctx, outcome, chat)
		if err == nil || outcome == nil || ctx.Err() != nil || errors.Is(err, errStopped) {
			return claim, err
		}
		w.log.WarnContext(ctx, "outcome of a send not recorded yet", "message", outcome.Claim.MessageID, "error", err)
		select {
		case <-ctx.Done():
			return claim, err
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, 2*time.Second)
	}
}

// pace is the limiter's view of an account.
func (w *Workers) pace(accountID string) queue.Pacing {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	o, err := w.deps.Accounts.Get(ctx, accountID)
	if err != nil || o.State != "active" {
		return queue.Pacing{}
	}
	return queue.Pacing{OK: true, Account: o.Capabilities.Rate, Chat: o.Capabilities.ChatRate, OnlyOnTime: atMostOnce(o)}
}

// atMostOnce says that an attempt which nobody knows the end of is not repeated.
func atMostOnce(o *channels.Opened) bool {
	return o.Guarantee == "at_most_once" && !o.Capabilities.Idempotent
}

// send makes the call of a claim and classifies what came of it.
func (w *Workers) send(ctx context.Context, c *queue.Claim) *queue.Outcome {
	o := &queue.Outcome{Claim: c, Log: queue.AttemptLog{Op: c.Op, Attempt: c.Attempt, Part: c.Part, Node: w.cfg.Node, Started: time.Now().UTC()}}
	account, err := w.deps.Accounts.Get(ctx, c.AccountID)
	if err != nil {
		o.Kind = queue.OutcomeUnsent // its chat is parked with the next claim
		return o
	}
	// First of all: a retry forgets that the attempt before was cut off.
	if c.Orphan && atMostOnce(account) {
		o.Kind, o.Log.Outcome = queue.OutcomeFailed, "given up"
		o.Failure = &message.Failure{Kind: message.ErrUncertain, Detail: "the process died while sending; it is not known whether the message arrived, and the account sends at most once"}
		o.Log.Failure = o.Failure
		return o
	}
	if c.Orphan {
		o.Log.Note = "an earlier attempt was cut off; the customer may see this message twice"
	}
	if !c.At.IsZero() {
		if !w.sleep(ctx, time.Until(c.At)) {
			o.Kind = queue.OutcomeUnsent
			return o
		}
		if late := time.Since(c.At); late > c.Slack {
			o.Kind = queue.OutcomeUnsent
			w.metrics.late.Inc()
			return o
		}
	}
	if w.deps.Alive() > w.cfg.Guard {
		// Others may believe us dead and have taken this send over.
		o.Kind, o.After, o.Log.Outcome = queue.OutcomeRetry, time.Second, "process was stalled"
		return o
	}
	started := time.Now()
	o.Log.Started = started.UTC()
	// A stop of the process lets the call end; only the hard stop cuts it.
	timeout := w.cfg.SendTimeout
	if len(c.Out.Files) == 0 {
		timeout = min(timeout, wordsTimeout)
	}
	callCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	more, err := w.call(callCtx, account, c, o)
	took := time.Since(started)
	o.Log.TookMS = took.Milliseconds()
	w.metrics.sendTime.WithLabelValues(account.Account.Platform).Observe(took.Seconds())
	if err == nil {
		o.Kind = queue.OutcomeSent
		if more {
			o.Kind, o.Limits = queue.OutcomePart, account.OwnLimits()
			if c.Part > 0 {
				o.Limits = c.Limits
			}
		}
		o.Log.Outcome, o.Log.IDs = "sent", o.IDs
		w.metrics.sends.WithLabelValues(account.Account.Platform, "sent").Inc()
		return o
	}
	w.classify(o, account, message.Classify(err))
	w.metrics.sends.WithLabelValues(account.Account.Platform, o.Log.Outcome).Inc()
	if o.Kind == queue.OutcomeAccount {
		w.log.ErrorContext(ctx, "account can't send and was paused", "account", c.AccountID, "platform", account.Account.Platform, "reason", o.Failure.Detail)
		w.deps.Bus.Wake("accounts")
	}
	return o
}

// call runs one platform call; more tells that parts follow.
func (w *Workers) call(ctx context.Context, account *channels.Opened, c *queue.Claim, o *queue.Outcome) (more bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &message.Error{Kind: message.ErrInvalid, Detail: fmt.Sprintf("sending panicked: %v", p)}
		}
	}()
	switch c.Op {
	case "edit":
		editor, ok := account.Channel.(channels.Editor)
		if !ok {
			return false, &message.Error{Kind: message.ErrInvalid, Detail: "this channel can't edit messages"}
		}
		return false, editor.Edit(ctx, c.Out.Chat, c.PlatformIDs, &c.Out.Content)
	case "delete":
		deleter, ok := account.Channel.(channels.Deleter)
		if !ok {
			return false, &message.Error{Kind: message.ErrInvalid, Detail: "this channel can't delete messages"}
		}
		return false, deleter.Delete(ctx, c.Out.Chat, c.PlatformIDs)
	}
	if forwarder, ok := account.Channel.(channels.Forwarder); ok && len(c.ForwardIDs) > 0 && c.Part == 0 {
		receipt, err := forwarder.Forward(channels.WithMessageID(ctx, c.Out.ID), c.Out.Chat, c.ForwardFrom, c.ForwardIDs)
		if err == nil {
			o.IDs, o.ByID, o.Log.Note = receipt.IDs, receipt.ByID, joinNotes(o.Log.Note, receipt.Note)
			return false, nil
		}
		// Deleted at the platform, protected, or no message at all (a press of a
		// button): then it goes as a copy.
		e := message.Classify(err)
		if e.Kind != message.ErrInvalid {
			return false, err
		}
		o.Log.Note = joinNotes(o.Log.Note, "sent as a copy, not forwarded: "+e.Detail)
	}
	channel := account.Channel
	if c.Part > 0 && c.Limits != account.OwnLimits() {
		if channel, err = account.WithLimits(c.Limits); err != nil {
			return false, &message.Error{Kind: message.ErrInvalid, Detail: "the account's limits were changed after a part of the message was sent: " + err.Error()}
		}
	}
	parts, err := channel.Plan(&c.Out)
	if err != nil {
		return false, &message.Error{Kind: message.ErrInvalid, Detail: err.Error()}
	}
	if c.Part >= len(parts) {
		return false, nil // a shorter plan after an upgrade: everything is out already
	}
	receipt, err := channel.Send(ctx, &parts[c.Part])
	if err != nil {
		return false, err
	}
	o.IDs, o.ByID, o.Log.Note = receipt.IDs, receipt.ByID, joinNotes(o.Log.Note, receipt.Note)
	return c.Part+1 < len(parts), nil
}

func joinNotes(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// classify turns a send error into what happens next: the table of
// message.ErrorKind, kept here and nowhere else.
func (w *Workers) classify(o *queue.Outcome, account *channels.Opened, e *message.Error) {
	o.Failure = e.Failure()
	o.Log.Failure, o.Log.Outcome = o.Failure, string(e.Kind)
	switch e.Kind {
	case message.ErrThrottled:
		o.Kind, o.WholeAccount = queue.OutcomeRetry, !e.ChatOnly
		o.After = e.RetryAfter
		if o.After <= 0 {
			o.After = backoff(o.Claim.Attempt)
		}
	case message.ErrUnavailable:
		o.Kind, o.After = queue.OutcomeRetry, backoff(o.Claim.Attempt)
	case message.ErrUncertain:
		if atMostOnce(account) {
			o.Kind = queue.OutcomeFailed
			o.Failure.Detail = "it is not known whether the message arrived, and the account sends at most once: " + o.Failure.Detail
			return
		}
		o.Kind, o.After = queue.OutcomeRetry, backoff(o.Claim.Attempt)
		o.Log.Note = joinNotes(o.Log.Note, "unknown whether it arrived; sent again")
	case message.ErrAccount:
		o.Kind = queue.OutcomeAccount
	case message.ErrRecipient:
		o.Kind, o.Unreachable = queue.OutcomeFailed, true
	default:
		o.Kind = queue.OutcomeFailed
	}
	o.Log.RetryMS = o.After.Milliseconds()
}

// backoff is 1 s, 2 s, 4 s ... up to a minute, +-20 % so that many chats don't
// come back at once. The message's time-to-live ends it.
func backoff(attempt int) time.Duration {
	d := time.Minute
	if attempt < 7 {
		d = time.Second << max(attempt-1, 0)
	}
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
