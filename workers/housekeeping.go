package workers

import (
	"context"
	"time"
)

// keepRefusals is how long failed logins stay in the audit journal.
const keepRefusals = 90 * 24 * time.Hour

// housekeeping takes up what dead processes left behind and drops what is over
// age. Every process with workers does it; each step is safe to run anywhere,
// any number of times.
func (w *Workers) housekeeping(ctx context.Context) {
	quick := time.NewTicker(2 * time.Second)
	defer quick.Stop()
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-quick.C:
		}
		w.chore(ctx, "orphaned jobs could not be rescued", func(ctx context.Context) error {
			n, err := w.deps.Store.RescueOrphans(ctx)
			if n > 0 {
				w.metrics.rescued.Add(float64(n))
				w.log.WarnContext(ctx, "took over the jobs of a dead process", "jobs", n)
			}
			return err
		})
		w.chore(ctx, "parked chats could not be looked for", func(ctx context.Context) error {
			accounts, err := w.deps.Store.ParkedAccounts(ctx)
			for _, id := range accounts {
				w.pacer.note(id)
			}
			return err
		})
		w.chore(ctx, "scheduled messages could not be released", w.releaseScheduled)
		if round%3 == 0 {
			w.chore(ctx, "what failed of campaigns could not be queued again", w.retryCampaigns)
			w.chore(ctx, "parked reports could not be applied", w.deps.Store.ApplyParked)
			w.chore(ctx, "mailboxes could not be checked", func(ctx context.Context) error {
				n, err := w.deps.Store.MendMailboxes(ctx)
				if n > 0 {
					w.metrics.mended.Add(float64(n))
					w.log.WarnContext(ctx, "gave jobs to mailboxes that had lost theirs", "mailboxes", n)
				}
				return err
			})
		}
		if round%15 == 0 {
			w.chore(ctx, "deleted campaigns could not be removed", w.removeCampaigns)
		}
		if round%150 == 0 {
			w.chore(ctx, "old events could not be dropped", func(ctx context.Context) error {
				return w.deps.Store.PruneEvents(ctx, w.cfg.KeepEvents)
			})
			w.chore(ctx, "partitions could not be seen to", func(ctx context.Context) error {
				dropped, err := w.deps.Store.Partitions(ctx, time.Now(), w.cfg.Keep)
				if len(dropped) > 0 {
					w.log.InfoContext(ctx, "dropped what is older than what is kept", "partitions", dropped)
				}
				return err
			})
			w.chore(ctx, "old nodes could not be dropped", w.deps.Store.PruneNodes)
			w.chore(ctx, "old failed logins could not be dropped", w.deps.Store.PruneLogins)
			w.chore(ctx, "what keys used could not be dropped", func(ctx context.Context) error {
				return w.deps.Store.PruneUsage(ctx, keepRefusals)
			})
		}
	}
}

func (w *Workers) chore(ctx context.Context, complaint string, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := do(ctx); err != nil && ctx.Err() == nil {
		w.log.WarnContext(ctx, complaint, "error", err)
	}
}

// retryCampaigns goes on with retries that began elsewhere, in short transactions.
func (w *Workers) retryCampaigns(ctx context.Context) error {
	for {
		if more, err := w.deps.Store.RetryMore(ctx, ""); err != nil || !more {
			return err
		}
	}
}

// removeCampaigns removes what deleted drafts left, in short transactions.
func (w *Workers) removeCampaigns(ctx context.Context) error {
	for {
		if more, err := w.deps.Store.PruneCampaigns(ctx, 20000); err != nil || !more {
			return err
		}
	}
}

// releaseScheduled lets the messages go whose time has come.
func (w *Workers) releaseScheduled(ctx context.Context) error {
	const batch = 200
	for {
		n, err := w.deps.Store.ReleaseScheduled(ctx, batch)
		if err != nil || n < batch {
			return err
		}
	}
}
