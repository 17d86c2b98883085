package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"switchboard"
	"switchboard/config"
)

// output is the --json of the administration commands.
type output struct {
	JSON bool `name:"json" help:"One JSON document on standard output."`
}

func (o output) print(v any, text func(w io.Writer)) error {
	if o.JSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(&plainWriter{os.Stdout}, 0, 4, 2, ' ', 0)
	text(w)
	return w.Flush()
}

const actor = "command line"

// withCore runs do on an open system; a running service's embedded database is used.
func withCore(ctx context.Context, cfg *config.Config, do func(c *core) error) error {
	c, err := openCore(ctx, cfg, logger(cfg), "admin", true)
	if err != nil {
		return err
	}
	defer c.close()
	return do(c)
}

type accountCmd struct {
	Add    accountAdd    `cmd:"" help:"Add a channel account; prints its id and webhook address."`
	List   accountList   `cmd:"" help:"List the accounts."`
	Show   accountShow   `cmd:"" help:"Show one account."`
	Set    accountSet    `cmd:"" help:"Change settings; an empty value takes one away."`
	Pause  accountPause  `cmd:"" help:"Stop sending; customers' messages still come in."`
	Resume accountResume `cmd:"" help:"Send again."`
	Remove accountRemove `cmd:"" help:"End an account; its history stays."`
	Check  accountCheck  `cmd:"" help:"Ask the platform whether the account works, and set up its webhook."`
}

type accountAdd struct {
	output
	Platform string            `required:"" help:"telegram, viber, ..."`
	Name     string            `required:"" help:"A name for people."`
	Set      map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"A setting; may be repeated."`
	NoCheck  bool              `help:"Don't call the platform."`
}

func printAccount(w io.Writer, a switchboard.Account) {
	fmt.Fprintf(w, "id\t%s\nplatform\t%s\nname\t%s\nstate\t%s\n", a.ID, a.Platform, a.Name, a.State)
	if a.Reason != "" {
		fmt.Fprintf(w, "reason\t%s\n", a.Reason)
	}
	fmt.Fprintf(w, "webhook\t%s\n", a.Webhook)
	for k, v := range a.Settings {
		fmt.Fprintf(w, "%s\t%s\n", k, v)
	}
}

// Run adds an account and sets up its webhook. An account that the platform
// refuses is kept, so that `account check` can be repeated when the reason
// (an address that isn't public yet, for instance) is gone.
func (a *accountAdd) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		account, err := c.admin.AddAccount(ctx, actor, a.Platform, a.Name, a.Set)
		if err != nil {
			return err
		}
		if err := a.print(account, func(w io.Writer) { printAccount(w, account) }); err != nil {
			return err
		}
		if a.NoCheck {
			return nil
		}
		if err := check(ctx, c, account.ID, os.Stderr); err != nil {
			fmt.Fprintf(os.Stderr, "warning: the account is stored, but the platform says: %v\nmend it, then run: switchboard account check %s\n", err, account.ID)
		}
		return nil
	})
}

func check(ctx context.Context, c *core, id string, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	health, err := c.admin.CheckAccount(ctx, actor, id)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: works as %s\n", id, health.Name)
	for k, v := range health.Details {
		fmt.Fprintf(w, "  %s: %s\n", k, v)
	}
	if health.Warning != "" {
		fmt.Fprintf(w, "  warning: %s\n", health.Warning)
	}
	return nil
}

type accountList struct{ output }

// Run lists the accounts.
func (a *accountList) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		list, err := c.admin.ListAccounts(ctx)
		if err != nil {
			return err
		}
		return a.print(map[string]any{"items": nonNil(list)}, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tPLATFORM\tNAME\tSTATE\tREASON")
			for _, x := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", x.ID, x.Platform, x.Name, x.State, x.Reason)
			}
		})
	})
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

type accountID struct {
	output
	ID string `arg:"" help:"The account's id."`
}

type accountShow struct{ accountID }

// Run shows one account.
func (a *accountShow) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error { return a.show(ctx, c) })
}

func (a *accountID) show(ctx context.Context, c *core) error {
	account, err := c.admin.ShowAccount(ctx, a.ID)
	if err != nil {
		return err
	}
	return a.print(account, func(w io.Writer) { printAccount(w, account) })
}

type accountSet struct {
	accountID
	Name string            `help:"A new name."`
	Set  map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"A setting; may be repeated; KEY= takes it away."`
}

// Run changes an account.
func (a *accountSet) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		if _, err := c.admin.SetAccount(ctx, actor, a.ID, a.Name, a.Set); err != nil {
			return err
		}
		return a.show(ctx, c)
	})
}

type accountPause struct {
	accountID
	Reason string `default:"paused by an admin" help:"Shown beside the state."`
}

// Run pauses an account.
func (a *accountPause) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		if err := c.admin.PauseAccount(ctx, actor, a.ID, a.Reason); err != nil {
			return err
		}
		return a.show(ctx, c)
	})
}

type accountResume struct{ accountID }

// Run resumes an account.
func (a *accountResume) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		if err := c.admin.ResumeAccount(ctx, actor, a.ID); err != nil {
			return err
		}
		return a.show(ctx, c)
	})
}

type accountRemove struct{ accountID }

// Run removes an account.
func (a *accountRemove) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		if err := c.admin.RemoveAccount(ctx, actor, a.ID); err != nil {
			return err
		}
		return a.print(map[string]string{"id": a.ID, "state": "removed"}, func(w io.Writer) { fmt.Fprintln(w, "removed", a.ID) })
	})
}

type accountCheck struct {
	output
	ID string `arg:"" optional:"" help:"The account's id; all accounts without one."`
}

// Run checks accounts; it fails if one does not work.
func (a *accountCheck) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		ids := []string{a.ID}
		if a.ID == "" {
			ids = nil
			list, err := c.admin.ListAccounts(ctx)
			if err != nil {
				return err
			}
			for _, x := range list {
				ids = append(ids, x.ID)
			}
		}
		type result struct {
			ID     string `json:"id"`
			OK     bool   `json:"ok"`
			Detail string `json:"detail"`
		}
		results := []result{}
		var failed error
		for _, id := range ids {
			var text strings.Builder
			err := check(ctx, c, id, &text)
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", id, err))
				results = append(results, result{id, false, err.Error()})
				continue
			}
			results = append(results, result{id, true, strings.TrimSpace(text.String())})
		}
		err := a.print(map[string]any{"items": results}, func(w io.Writer) {
			for _, r := range results {
				if r.OK {
					fmt.Fprintln(w, r.Detail)
				}
			}
		})
		return errors.Join(err, failed)
	})
}

type operatorCmd struct {
	Add    operatorAdd    `cmd:"" help:"Add an operator."`
	List   operatorList   `cmd:"" help:"List the operators."`
	Set    operatorSet    `cmd:"" help:"Change an operator."`
	Remove operatorRemove `cmd:"" help:"Remove an operator; their chats go back to the queue."`
}

// readPassword takes the first line of standard input.
func readPassword() (string, error) {
	line, err := bufio.NewReader(io.LimitReader(os.Stdin, 1024)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("reading the password from standard input: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

type operatorAdd struct {
	output
	Login         string   `required:"" help:"The login."`
	Name          string   `help:"The name that customers see; default: the login."`
	Role          string   `default:"operator" help:"operator, supervisor or admin."`
	PasswordStdin bool     `help:"Read the password from standard input."`
	Avatar        string   `help:"Public address of a picture, for channels that show it."`
	Skills        []string `help:"Skills for the assignment of chats."`
	Capacity      int      `help:"Chats at once; 0 is no limit."`
	AllowFrom     []string `placeholder:"NETWORK,..." help:"Networks from which they may log in, like 192.0.2.0/24; none: everywhere."`
}

func printOperator(w io.Writer, o switchboard.Operator) {
	fmt.Fprintf(w, "id\t%s\nlogin\t%s\nname\t%s\nrole\t%s\n", o.ID, o.Login, o.Name, o.Role)
}

// Run adds an operator.
func (o *operatorAdd) Run(ctx context.Context, cfg *config.Config) error {
	if !o.PasswordStdin {
		return errors.New("give the password on standard input, with --password-stdin")
	}
	password, err := readPassword()
	if err != nil {
		return err
	}
	return withCore(ctx, cfg, func(c *core) error {
		added, err := c.admin.AddOperator(ctx, actor, switchboard.Operator{Login: o.Login, Name: o.Name, Role: switchboard.Role(o.Role), Avatar: o.Avatar, Skills: o.Skills, Capacity: o.Capacity, AllowFrom: o.AllowFrom}, password)
		if err != nil {
			return err
		}
		return o.print(added, func(w io.Writer) { printOperator(w, added) })
	})
}

type operatorList struct{ output }

// Run lists the operators.
func (o *operatorList) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		list, err := c.db.Operators(ctx)
		if err != nil {
			return err
		}
		return o.print(map[string]any{"items": nonNil(list)}, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tLOGIN\tNAME\tROLE\tPRESENCE\tDISABLED")
			for _, x := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%v\n", x.ID, x.Login, x.Name, x.Role, x.Presence, x.Disabled)
			}
		})
	})
}

type operatorSet struct {
	output
	Operator      string    `arg:"" help:"Id or login."`
	Name          *string   `help:"A new name."`
	Role          *string   `help:"operator, supervisor or admin."`
	PasswordStdin bool      `help:"Read a new password from standard input."`
	Avatar        *string   `help:"Public address of a picture."`
	Skills        *[]string `help:"Skills."`
	Capacity      *int      `help:"Chats at once; 0 is no limit."`
	Disabled      *bool     `help:"true locks the operator out."`
	AllowFrom     *[]string `placeholder:"NETWORK,..." help:"Networks from which they may log in; \"\" allows all again."`
}

func findOperator(ctx context.Context, c *core, idOrLogin string) (switchboard.Operator, error) {
	if o, err := c.db.OperatorByLogin(ctx, idOrLogin); err == nil {
		return o, nil
	}
	list, err := c.db.Operators(ctx)
	if err != nil {
		return switchboard.Operator{}, err
	}
	for _, o := range list {
		if o.ID == idOrLogin {
			return o, nil
		}
	}
	return switchboard.Operator{}, fmt.Errorf("operator %s: %w", idOrLogin, switchboard.ErrNotFound)
}

// Run changes an operator.
func (o *operatorSet) Run(ctx context.Context, cfg *config.Config) error {
	password := ""
	if o.PasswordStdin {
		var err error
		if password, err = readPassword(); err != nil {
			return err
		}
		if password == "" {
			return errors.New("the password on standard input is empty")
		}
	}
	return withCore(ctx, cfg, func(c *core) error {
		found, err := findOperator(ctx, c, o.Operator)
		if err != nil {
			return err
		}
		change := switchboard.OperatorChange{Name: o.Name, Avatar: o.Avatar, Skills: o.Skills, Capacity: o.Capacity, Disabled: o.Disabled, AllowFrom: networks(o.AllowFrom)}
		if o.Role != nil {
			change.Role = new(switchboard.Role(*o.Role))
		}
		changed, err := c.admin.SetOperator(ctx, actor, found.ID, change, password)
		if err != nil {
			return err
		}
		return o.print(changed, func(w io.Writer) { printOperator(w, changed) })
	})
}

type operatorRemove struct {
	output
	Operator string `arg:"" help:"Id or login."`
}

// Run removes an operator.
func (o *operatorRemove) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		found, err := findOperator(ctx, c, o.Operator)
		if err != nil {
			return err
		}
		if err := c.admin.RemoveOperator(ctx, actor, found.ID); err != nil {
			return err
		}
		return o.print(map[string]string{"id": found.ID}, func(w io.Writer) { fmt.Fprintln(w, "removed", found.Login) })
	})
}
