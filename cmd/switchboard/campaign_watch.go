package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"switchboard"
	"switchboard/campaigns"
)

// watchEvery is how often a campaign is looked at; without a terminal a line is
// written for every watchLine in which something changed.
const (
	watchEvery = 500 * time.Millisecond
	watchLine  = 2 * time.Second
)

// watchCampaign shows how a campaign goes until it has ended. Letting go of it (ctx)
// is no error: the campaign goes on. One that was canceled is one.
func watchCampaign(ctx context.Context, c *campaignClient, now campaigns.Campaign, o output) error {
	info, err := os.Stderr.Stat()
	w := &watcher{to: &plainWriter{os.Stderr}, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
	for {
		w.show(now, time.Now())
		if now.State == switchboard.CampaignDone || now.State == switchboard.CampaignCanceled && now.Counts.Queued == 0 || now.State == switchboard.CampaignDraft {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchEvery):
			var next campaigns.Campaign
			if next, err = c.get(ctx, now.ID); err == nil {
				now = next
			} else if ctx.Err() == nil {
				w.end()
				return err
			}
		}
		if ctx.Err() != nil {
			w.end()
			fmt.Fprintf(os.Stderr, "the campaign goes on; see it again with: switchboard campaign show %s --watch\n", now.ID)
			return nil
		}
	}
	w.end()
	if err := o.print(now, func(to io.Writer) { printCampaign(to, now) }); err != nil {
		return err
	}
	if now.State == switchboard.CampaignCanceled {
		return fmt.Errorf("campaign %s was canceled", now.ID)
	}
	return nil
}

// watcher writes a bar that renews itself on a terminal, and lines elsewhere.
type watcher struct {
	to       io.Writer
	terminal bool
	last     string
	at       time.Time
	width    int
}

func (w *watcher) show(c campaigns.Campaign, now time.Time) {
	text := progress(c, now)
	if !w.terminal {
		// The pace changes all the time; the counts are what a line is for, and what
		// holds them up.
		counts := counted(c)
		for _, x := range c.Waiting {
			counts += x.AccountID + x.Reason
		}
		final := c.State == switchboard.CampaignDone || c.State == switchboard.CampaignCanceled
		if counts != w.last && (final || now.Sub(w.at) >= watchLine) {
			fmt.Fprintf(w.to, "%s %s\n", now.UTC().Format(time.RFC3339), text)
			w.last, w.at = counts, now
		}
		return
	}
	const cells = 24
	filled := 0
	if c.Counts.Total > 0 {
		filled = int(cells * (c.Counts.Total - c.Counts.Queued) / c.Counts.Total)
	}
	line := "[" + strings.Repeat("#", filled) + strings.Repeat("-", cells-filled) + "] " + text
	pad := max(0, w.width-len(line))
	w.width = len(line)
	_, _ = os.Stderr.WriteString("\r") // plainWriter would show it
	fmt.Fprint(w.to, line+strings.Repeat(" ", pad))
}

func (w *watcher) end() {
	if w.terminal && w.width > 0 {
		fmt.Fprintln(w.to)
		w.width = 0
	}
}

func counted(c campaigns.Campaign) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d/%d", c.State, c.Counts.Total-c.Counts.Queued, c.Counts.Total)
	for _, status := range switchboard.RecipientStatuses {
		if n := *c.Counts.Of(status); n > 0 && status != "queued" {
			fmt.Fprintf(&b, " %s %d", status, n)
		}
	}
	return b.String()
}

func progress(c campaigns.Campaign, now time.Time) string {
	text := counted(c)
	if c.Rate > 0 {
		text += fmt.Sprintf(" %.1f/s", c.Rate)
	}
	if c.ETA != nil {
		text += " " + max(c.ETA.Sub(now), 0).Round(time.Second).String() + " left"
	}
	for i, x := range c.Waiting {
		if i == 0 {
			text += ", waiting: "
		} else {
			text += "; "
		}
		text += waitingText(x)
	}
	return text
}
