package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"switchboard"
	"switchboard/config"
)

type apikeyCmd struct {
	Add    apikeyAdd    `cmd:"" help:"Make a key; it is printed once."`
	List   apikeyList   `cmd:"" help:"List the keys."`
	Set    apikeySet    `cmd:"" help:"Change what a key may."`
	Secret apikeySecret `cmd:"" help:"Make a new secret for a key's status callbacks; it is printed once."`
	Revoke apikeyRevoke `cmd:"" help:"End a key."`
}

type apikeyAdd struct {
	output
	Name      string        `required:"" help:"What the key is for."`
	Rate      float64       `help:"Requests per second; 0 is no limit."`
	Burst     int           `help:"Requests at once, when there is a rate; default: a second's."`
	Daily     int64         `help:"Messages per day (UTC); 0 is no limit."`
	AllowFrom []string      `placeholder:"NETWORK,..." help:"Networks from which it may be used, like 192.0.2.0/24; none: everywhere."`
	Expires   time.Duration `placeholder:"720h" help:"How long it is good; default: until it is revoked."`
}

// Run makes a key.
func (a *apikeyAdd) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		made, err := c.admin.MakeAPIKey(ctx, actor, switchboard.APIKey{Name: a.Name,
			KeyLimits: switchboard.KeyLimits{Rate: a.Rate, Burst: a.Burst, Daily: a.Daily, AllowFrom: a.AllowFrom, ExpiresAt: expiry(a.Expires)}})
		if err != nil {
			return err
		}
		return a.print(made, func(w io.Writer) {
			printKey(w, made.APIKey)
			fmt.Fprintf(w, "key\t%s\ncallback secret\t%s\n", made.Key, made.CallbackSecret)
		})
	})
}

func expiry(d time.Duration) *time.Time {
	if d <= 0 {
		return nil
	}
	return new(time.Now().Add(d).UTC().Truncate(time.Second))
}

func printKey(w io.Writer, k switchboard.APIKey) {
	fmt.Fprintf(w, "id\t%s\nname\t%s\n", k.ID, k.Name)
	if k.Rate > 0 {
		fmt.Fprintf(w, "rate\t%g/s\n", k.Rate)
	}
	if k.Burst > 0 {
		fmt.Fprintf(w, "burst\t%d\n", k.Burst)
	}
	if k.Daily > 0 {
		fmt.Fprintf(w, "daily\t%d\n", k.Daily)
	}
	if len(k.AllowFrom) > 0 {
		fmt.Fprintf(w, "allow from\t%s\n", strings.Join(k.AllowFrom, " "))
	}
	if k.ExpiresAt != nil {
		fmt.Fprintf(w, "expires\t%s\n", k.ExpiresAt.Format(time.RFC3339))
	}
}

type apikeyList struct{ output }

// Run lists the keys.
func (a *apikeyList) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		list, err := c.db.APIKeys(ctx)
		if err != nil {
			return err
		}
		return a.print(map[string]any{"items": nonNil(list)}, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tNAME\tCREATED\tRATE\tDAILY\tFROM\tEXPIRES\tREVOKED")
			for _, k := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%g\t%d\t%s\t%s\t%s\n", k.ID, k.Name, k.CreatedAt.Format(time.RFC3339), k.Rate, k.Daily, strings.Join(k.AllowFrom, " "), moment(k.ExpiresAt), moment(k.RevokedAt))
			}
		})
	})
}

func moment(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}

type apikeySet struct {
	output
	ID        string         `arg:"" help:"The key's id."`
	Name      *string        `help:"A new name."`
	Rate      *float64       `help:"Requests per second; 0 is no limit."`
	Burst     *int           `help:"Requests at once; 0: a second's."`
	Daily     *int64         `help:"Messages per day (UTC); 0 is no limit."`
	AllowFrom *[]string      `placeholder:"NETWORK,..." help:"Networks from which it may be used; \"\" allows all again."`
	Expires   *time.Duration `placeholder:"720h" help:"How long it is good from now on; 0: until it is revoked."`
}

// networks is a list of a flag, in which one empty text stands for none.
func networks(list *[]string) *[]string {
	if list == nil {
		return nil
	}
	return new(slices.DeleteFunc(slices.Clone(*list), func(s string) bool { return s == "" }))
}

// Run changes a key.
func (a *apikeySet) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		change := switchboard.KeyChange{Name: a.Name, Rate: a.Rate, Burst: a.Burst, Daily: a.Daily, AllowFrom: networks(a.AllowFrom)}
		if a.Expires != nil {
			if change.ExpiresAt = expiry(*a.Expires); change.ExpiresAt == nil {
				change.ExpiresAt = &time.Time{}
			}
		}
		k, err := c.admin.SetAPIKey(ctx, actor, a.ID, change)
		if err != nil {
			return err
		}
		return a.print(k, func(w io.Writer) { printKey(w, k) })
	})
}

type apikeySecret struct {
	output
	ID string `arg:"" optional:"" help:"The key's id; without one, the secret for campaigns that people make."`
}

// Run makes a new secret.
func (a *apikeySecret) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		s, err := c.admin.NewCallbackSecret(ctx, actor, a.ID)
		if err != nil {
			return err
		}
		return a.print(map[string]string{"id": a.ID, "callback_secret": s}, func(w io.Writer) { fmt.Fprintf(w, "callback secret\t%s\n", s) })
	})
}

type apikeyRevoke struct {
	output
	ID string `arg:"" help:"The key's id."`
}

// Run ends a key.
func (a *apikeyRevoke) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		if err := c.admin.RevokeAPIKey(ctx, actor, a.ID); err != nil {
			return err
		}
		return a.print(map[string]string{"id": a.ID}, func(w io.Writer) { fmt.Fprintln(w, "revoked", a.ID) })
	})
}

type auditCmd struct {
	output
	Actor  string     `help:"Like operator:ID, apikey:ID, system, or command line."`
	Action string     `help:"Like account.set, or account.* for all of accounts."`
	Target string     `help:"Id of what was acted on."`
	From   *time.Time `placeholder:"2026-11-21T00:00:00Z" help:"At or after."`
	To     *time.Time `placeholder:"2026-11-22T00:00:00Z" help:"Before."`
	Before int64      `help:"Only entries older than the one with this id."`
	Limit  int        `default:"100" help:"At most so many; 1 to 10000."`
}

// Run lists the audit journal, newest first.
func (a *auditCmd) Run(ctx context.Context, cfg *config.Config) error {
	if a.Limit < 1 || a.Limit > 10_000 {
		return fmt.Errorf("--limit %d: use 1 to 10000", a.Limit)
	}
	return withCore(ctx, cfg, func(c *core) error {
		list, err := c.admin.AuditLog(ctx, switchboard.AuditFilter{Actor: a.Actor, Action: a.Action, Target: a.Target, From: a.From, To: a.To, Before: a.Before}, a.Limit)
		if err != nil {
			return err
		}
		return a.print(map[string]any{"items": nonNil(list)}, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tAT\tACTOR\tADDRESS\tACTION\tTARGET\tDETAIL")
			for _, e := range list {
				detail := string(e.Detail)
				if len(e.Before)+len(e.After) > 0 {
					detail = strings.TrimPrefix(detail, "{}")
					if len(e.Before) > 0 {
						detail += " before " + string(e.Before)
					}
					if len(e.After) > 0 {
						detail += " after " + string(e.After)
					}
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.At.Format(time.RFC3339), e.Actor, e.Address, e.Action, e.Target, strings.TrimSpace(detail))
			}
		})
	})
}

type callbackCmd struct {
	List  callbackList  `cmd:"" help:"List statuses that scripts are told, newest first."`
	Retry callbackRetry `cmd:"" help:"Post what was given up again."`
}

type callbackFilter struct {
	output
	Message string `help:"Of one message, by id."`
	Key     string `help:"Of one API key, by id."`
	URL     string `help:"To one address."`
}

func (f callbackFilter) filter() switchboard.CallbackFilter {
	return switchboard.CallbackFilter{MessageID: f.Message, APIKeyID: f.Key, URL: f.URL}
}

type callbackList struct {
	callbackFilter
	State string `help:"pending, delivered or failed."`
	Limit int    `default:"100" help:"At most so many."`
}

// Run lists deliveries.
func (l *callbackList) Run(ctx context.Context, cfg *config.Config) error {
	if l.State != "" && !slices.Contains([]string{"pending", "delivered", "failed"}, l.State) {
		return fmt.Errorf("--state %q: use pending, delivered or failed", l.State)
	}
	return withCore(ctx, cfg, func(c *core) error {
		f := l.filter()
		f.State = l.State
		list, err := c.admin.ListCallbacks(ctx, f, l.Limit)
		if err != nil {
			return err
		}
		return l.print(map[string]any{"items": nonNil(list)}, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tMESSAGE\tSTATUS\tSTATE\tATTEMPTS\tCODE\tURL\tERROR")
			for _, d := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", d.ID, d.MessageID, d.Status, d.State, d.Attempts, d.Code, d.URL, d.Error)
			}
		})
	})
}

type callbackRetry struct {
	callbackFilter
	All   bool `help:"All that were given up, without a filter."`
	Limit int  `default:"1000" help:"At most so many, oldest first."`
}

// Run retries.
func (r *callbackRetry) Run(ctx context.Context, cfg *config.Config) error {
	if !r.All && r.Message == "" && r.Key == "" && r.URL == "" {
		return errors.New("say which: --message, --key, --url, or --all")
	}
	return withCore(ctx, cfg, func(c *core) error {
		n, err := c.admin.RetryCallbacks(ctx, actor, r.filter(), r.Limit)
		if err != nil {
			return err
		}
		return r.print(map[string]int{"retried": n}, func(w io.Writer) { fmt.Fprintln(w, "retried", n) })
	})
}
