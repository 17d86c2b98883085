package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/google/uuid"

	"switchboard/config"
	"switchboard/internal/queue"
)

type stoplistCmd struct {
	List   stoplistList   `cmd:"" help:"List the lists, or the addresses of one."`
	Add    stoplistAdd    `cmd:"" help:"Put addresses on a list."`
	Remove stoplistRemove `cmd:"" help:"Take addresses off a list."`
}

type stoplistList struct {
	output
	Name  string `arg:"" optional:"" help:"A list; without one, all lists."`
	Limit int    `default:"1000" help:"At most so many addresses."`
}

// Run lists.
func (s *stoplistList) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		if s.Name == "" {
			lists, err := c.db.StopLists(ctx)
			if err != nil {
				return err
			}
			return s.print(map[string]any{"items": nonNil(lists)}, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tENTRIES")
				for _, l := range lists {
					fmt.Fprintf(w, "%s\t%d\n", l.List, l.Entries)
				}
			})
		}
		entries, err := c.db.Suppressions(ctx, s.Name, "", queue.Suppression{}, s.Limit)
		if err != nil {
			return err
		}
		return s.print(map[string]any{"items": nonNil(entries)}, func(w io.Writer) {
			fmt.Fprintln(w, "ADDRESS\tREASON\tSOURCE")
			for _, e := range entries {
				fmt.Fprintf(w, "%s\t%s\t%s\n", e.Address, e.Reason, e.Source)
			}
		})
	})
}

type stopAddresses struct {
	output
	Name      string   `arg:"" help:"global, account:ID, or a name of your own."`
	Addresses []string `arg:"" optional:"" help:"Phones with +, customers' ids, or platforms' ids; - reads them from standard input, one a line."`
}

var (
	listName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.:-]{0,63}$`)
	phone    = regexp.MustCompile(`^\+[1-9][0-9]{4,14}$`)
)

// stopBatch is how many addresses are changed in one transaction.
const stopBatch = 10_000

func (s *stopAddresses) each(ctx context.Context, reason string, change func(entries []queue.Suppression) (int64, error)) error {
	if !listName.MatchString(s.Name) {
		return fmt.Errorf("list %q: a name is 1 to 64 of a-z, 0-9, _ . : -, and begins with a letter or digit", s.Name)
	}
	if len(s.Addresses) == 0 {
		return errors.New("give addresses, or - for standard input")
	}
	var entries []queue.Suppression
	var changed int64
	flush := func() error {
		n, err := change(entries)
		changed, entries = changed+n, entries[:0]
		return err
	}
	add := func(address string) error {
		e := queue.Suppression{Reason: reason}
		switch address = strings.TrimSpace(address); {
		case address == "":
			return nil
		case strings.HasPrefix(address, "+"):
			e.Kind, e.Address = "phone", strings.NewReplacer(" ", "", "-", "", "(", "", ")", "").Replace(address)
			if !phone.MatchString(e.Address) {
				return fmt.Errorf("%q: use a phone in the form +79001234567", address)
			}
		case uuid.Validate(address) == nil:
			e.Kind, e.Address = "customer", address
		default:
			e.Kind, e.Address = "external", address
		}
		if entries = append(entries, e); len(entries) < stopBatch {
			return nil
		}
		return flush()
	}
	for _, address := range s.Addresses {
		if address != "-" {
			if err := add(address); err != nil {
				return err
			}
			continue
		}
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			if err := add(lines.Text()); err != nil {
				return err
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("reading addresses from standard input: %w", err)
		}
	}
	if len(entries) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	return s.print(map[string]int64{"changed": changed}, func(w io.Writer) { fmt.Fprintln(w, "changed", changed) })
}

type stoplistAdd struct {
	stopAddresses
	Reason string `help:"Shown where a message was not sent."`
}

// Run adds.
func (s *stoplistAdd) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		if id, ofAccount := strings.CutPrefix(s.Name, "account:"); ofAccount {
			if _, err := c.db.Account(ctx, id); err != nil {
				return fmt.Errorf("list %q: %w; switchboard account list has their ids", s.Name, err)
			}
		}
		return s.each(ctx, s.Reason, func(entries []queue.Suppression) (int64, error) {
			return c.db.Suppress(ctx, actor, s.Name, entries)
		})
	})
}

type stoplistRemove struct{ stopAddresses }

// Run removes.
func (s *stoplistRemove) Run(ctx context.Context, cfg *config.Config) error {
	return withCore(ctx, cfg, func(c *core) error {
		return s.each(ctx, "", func(entries []queue.Suppression) (int64, error) {
			return c.db.Unsuppress(ctx, actor, s.Name, entries)
		})
	})
}
