package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"switchboard"
	"switchboard/config"
	"switchboard/loader"
)

type quarantineCmd struct {
	List   quarantineList   `cmd:"" help:"List updates that could not be decoded or stored, newest first."`
	Show   quarantineShow   `cmd:"" help:"Show one, with the platform's update as it came."`
	Replay quarantineReplay `cmd:"" help:"Decode updates again, after a fix, in the order in which they came."`
}

type quarantineList struct {
	output
	Account string `placeholder:"ID" help:"Of one account."`
	Error   string `placeholder:"TEXT" help:"With this in the error's text."`
	Limit   int    `default:"100" help:"At most so many."`
}

// Run lists what is in quarantine.
func (q *quarantineList) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		list, err := c.admin.ListQuarantine(ctx, switchboard.QuarantineFilter{AccountID: q.Account, Error: q.Error}, q.Limit)
		if err != nil {
			return err
		}
		return q.print(map[string]any{"items": nonNil(list)}, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tACCOUNT\tRECEIVED\tBYTES\tERROR")
			for _, x := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", x.ID, x.AccountID, x.ReceivedAt.Format(time.RFC3339), len(x.Raw), x.Error)
			}
		})
	})
}

type quarantineShow struct {
	output
	ID string `arg:"" help:"Id in quarantine."`
}

// Run shows one update.
func (q *quarantineShow) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		list, err := c.admin.ListQuarantine(ctx, switchboard.QuarantineFilter{ID: q.ID}, 1)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return fmt.Errorf("quarantined update %s: %w", q.ID, switchboard.ErrNotFound)
		}
		x := list[0]
		return q.print(x, func(w io.Writer) {
			fmt.Fprintf(w, "id\t%s\naccount\t%s\nreceived\t%s\nset aside\t%s\nerror\t%s\n\n%s\n", x.ID, x.AccountID, x.ReceivedAt.Format(time.RFC3339), x.CreatedAt.Format(time.RFC3339), x.Error, x.Raw)
		})
	})
}

type quarantineReplay struct {
	output
	ID      string `arg:"" optional:"" help:"Id in quarantine."`
	All     bool   `help:"All of them, or those of --account and --error."`
	Account string `placeholder:"ID" help:"Of one account."`
	Error   string `placeholder:"TEXT" help:"With this in the error's text."`
}

// Run replays one update, or many.
func (q *quarantineReplay) Run(ctx context.Context, cfg *config.Config) error {
	if (q.ID != "") == (q.All || q.Account != "" || q.Error != "") {
		return fmt.Errorf("name one id, or use --all, --account or --error: %w", switchboard.ErrInvalid)
	}
	return withCore(ctx, cfg, func(c *core) error {
		n, err := c.admin.Replay(ctx, actor, switchboard.QuarantineFilter{ID: q.ID, AccountID: q.Account, Error: q.Error})
		if err == nil && n == 0 && q.ID != "" {
			err = fmt.Errorf("quarantined update %s: %w", q.ID, switchboard.ErrNotFound)
		}
		if err != nil {
			return err
		}
		return q.print(map[string]int{"replayed": n}, func(w io.Writer) { fmt.Fprintln(w, "replayed", n) })
	})
}

type messageCmd struct {
	Resend messageResend `cmd:"" help:"Send messages that failed or expired again, each once and as a new message, oldest first."`
}

type messageResend struct {
	output
	Account   string     `placeholder:"ID" help:"Of one account."`
	Chat      string     `placeholder:"ID" help:"Of one chat."`
	From      *time.Time `placeholder:"RFC3339" help:"Made at or after."`
	To        *time.Time `placeholder:"RFC3339" help:"Made before."`
	ErrorKind string     `placeholder:"KIND" help:"As in the message's error: recipient, invalid, uncertain, expired, ..."`
	ErrorCode string     `placeholder:"CODE" help:"The platform's."`
	All       bool       `help:"All, when no filter is given."`
	DryRun    bool       `help:"Only tell what would be sent."`
}

// Run sends again.
func (m *messageResend) Run(ctx context.Context, cfg *config.Config) error {
	f := switchboard.FailedFilter{AccountID: m.Account, ChatID: m.Chat, From: m.From, To: m.To, ErrorKind: m.ErrorKind, ErrorCode: m.ErrorCode}
	if f == (switchboard.FailedFilter{}) && !m.All && !m.DryRun {
		return fmt.Errorf("use --account, --chat, --from, --to, --error-kind or --error-code, or --all: %w", switchboard.ErrInvalid)
	}
	return withCore(ctx, cfg, func(c *core) error {
		r := loader.Resent{Skipped: map[string]string{}}
		for more := true; more; {
			page, err := c.admin.Resend(ctx, actor, f, 1000, m.DryRun)
			r.Matched, r.Resent = r.Matched+page.Matched, r.Resent+page.Resent
			maps.Copy(r.Skipped, page.Skipped)
			if err != nil {
				return err
			}
			f.After, more = page.Next, page.Next != ""
		}
		return m.print(r, func(w io.Writer) {
			verb := "sent again"
			if m.DryRun {
				verb = "would be sent again"
			}
			fmt.Fprintf(w, "%d of %d %s\n", r.Resent, r.Matched, verb)
			for _, id := range slices.Sorted(maps.Keys(r.Skipped)) {
				fmt.Fprintf(w, "%s\t%s\n", id, r.Skipped[id])
			}
		})
	})
}
