package campaigns

import (
	"time"

	"switchboard/internal/queue"
	"switchboard/message"
)

// Phase is what a campaign allows its recipients.
type Phase int

// The phases. Paused begins nothing, and forgets nothing; Stopped and Ended begin
// nothing any more, and take back what has not left: Stopped because somebody
// canceled the campaign, Ended because its time is over.
const (
	Running Phase = iota
	Paused
	Stopped
	Ended
)

// Rung is what the cascade has to know of a step. Wait is more than 0.
type Rung struct {
	Success Success
	Wait    time.Duration
}

// Verdict says where a recipient stands, and what happens next.
type Verdict = queue.CampaignVerdict

// Cascade decides about a recipient, by what is known of their messages: sends, in
// the order in which they were made. It depends on what is known and not on the
// order in which it came to be known, so reports may come late, or out of order:
//
//   - a step that has had its success ends the cascade, also when a later step was
//     begun meanwhile, and the earliest such step is the one that is reported;
//   - the next step is begun when the last one failed, or when its wait is over;
//   - the last step ends the cascade when it failed, or its wait is over. What
//     waits in the outbox still ends by its own time to live;
//   - of the rounds before this one (round), successes count and failures do not.
func Cascade(rungs []Rung, round int, sends []queue.CampaignSend, phase Phase, now time.Time) Verdict {
	v := standing(round, sends)
	for i, s := range sends {
		if s.Step >= len(rungs) || (s.Round != round && failed(s.Status)) {
			continue
		}
		if rungs[s.Step].succeeded(s) {
			v.Status, v.Step, v.Sent, v.Reason = s.Status, s.Step, i, s.Reason
			v.Won, v.Done, v.Stop = true, true, queued(sends)
			return v
		}
	}
	var last *queue.CampaignSend
	for i := range sends {
		if sends[i].Round == round {
			last = &sends[i]
		}
	}
	if last == nil {
		advance(&v, true, -1, phase, now)
		return v
	}
	more := last.Step+1 < len(rungs)
	due := last.At
	if last.Step < len(rungs) {
		due = last.At.Add(rungs[last.Step].Wait)
	}
	over := !now.Before(due)
	switch {
	case last.Barred || (last.Status == message.StatusCanceled && !last.Passed):
		v.Done = true
	case phase == Stopped || phase == Ended:
		// What is out stays out; what has not left is taken back, and the word that
		// it was makes the end.
		v.Stop = queued(sends)
		v.Done = len(v.Stop) == 0
	case failed(last.Status):
		advance(&v, more, last.Step, phase, now)
	case waits(last.Status) && !more:
		// The message's time to live ends it.
	case over:
		advance(&v, more, last.Step, phase, now)
	default:
		v.Due = due
	}
	if v.Next {
		v.Stop = queued(sends)
	}
	return v
}

// advance goes on to the step after step, or ends.
func advance(v *Verdict, more bool, step int, phase Phase, now time.Time) {
	switch {
	case phase == Stopped:
		v.Done = true
		if v.Status == message.StatusQueued {
			v.Status = message.StatusCanceled
		}
	case phase == Ended:
		v.Done = true
		if v.Status == message.StatusQueued {
			v.Status = message.StatusExpired
		}
	case !more:
		v.Done = true
	case phase == Paused:
		v.Due = now // to be looked at when it goes on
	default:
		v.Next, v.NextStep = true, step+1
	}
}

// standing is the best that is known of the messages; of failures the last one of
// this round, and one that was tried before one that was not.
func standing(round int, sends []queue.CampaignSend) Verdict {
	v := Verdict{Status: message.StatusQueued, Sent: -1}
	best := 0
	for i, s := range sends {
		rank := 1
		switch {
		case arrived(s.Status):
			rank = 10 + s.Status.Rank()
		case s.Round != round:
			continue
		case waits(s.Status):
			rank = 5
		case !s.Passed && !s.Barred:
			rank = 2
		}
		if rank < best || (rank == best && rank >= 10) {
			continue
		}
		best = rank
		v.Step, v.Sent, v.Status, v.Reason = s.Step, i, s.Status, s.Reason
		switch rank {
		case 5:
			v.Status = message.StatusQueued
		case 1:
			v.Status = Skipped
		}
	}
	return v
}

// Skipped is the status of a recipient to whom nothing was sent for a reason of
// their own: on a stop-list, not to be reached, sent enough lately.
const Skipped message.Status = "skipped"

// succeeded reports whether a message has done what its step is for. That a
// platform took it is not undone by what it says later.
func (r Rung) succeeded(s queue.CampaignSend) bool {
	switch r.Success {
	case Read:
		return s.Status == message.StatusRead
	case Delivered:
		return s.Status == message.StatusRead || s.Status == message.StatusDelivered
	}
	return s.Taken || arrived(s.Status)
}

func arrived(s message.Status) bool {
	return s == message.StatusSent || s == message.StatusDelivered || s == message.StatusRead
}

func failed(s message.Status) bool {
	return s == message.StatusFailed || s == message.StatusExpired || s == message.StatusCanceled
}

func waits(s message.Status) bool { return s == message.StatusQueued || s == message.StatusSending }

func queued(sends []queue.CampaignSend) (list []int) {
	for i, s := range sends {
		if s.Status == message.StatusQueued {
			list = append(list, i)
		}
	}
	return list
}
