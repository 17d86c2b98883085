package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"switchboard"
	"switchboard/campaigns"
	"switchboard/config"
	"switchboard/message"
)

type campaignCmd struct {
	Send        campaignSend   `cmd:"" help:"Make a campaign, add the recipients of a table, and start it."`
	List        campaignList   `cmd:"" help:"List campaigns, newest first."`
	Show        campaignShow   `cmd:"" help:"Show one campaign and how far it is."`
	Pause       campaignPause  `cmd:"" help:"Send nothing more for now."`
	Resume      campaignResume `cmd:"" help:"Go on."`
	Cancel      campaignCancel `cmd:"" help:"End a campaign; what has not been sent is canceled."`
	RetryFailed campaignRetry  `cmd:"" help:"Send again to those who failed or expired."`
	Export      campaignExport `cmd:"" help:"All recipients and what became of them, as a table."`
}

// remote is where the commands of campaigns work: at a server's REST API, with a
// key, or on the installation itself, as the other commands of administration do.
// Both go through the same API, so that what is checked, counted and written into
// the audit journal is the same.
type remote struct {
	output
	URL string `env:"SWITCHBOARD_URL" placeholder:"https://..." help:"Work over the REST API of this server; empty: on the installation of the settings."`
	Key string `name:"key" env:"SWITCHBOARD_API_KEY" placeholder:"swb_..." help:"API key for --url."`
}

// with calls do with a client.
func (r *remote) with(ctx context.Context, cfg *config.Config, do func(c *campaignClient) error) error {
	if r.URL != "" {
		if r.Key == "" {
			return fmt.Errorf("--url needs --key or SWITCHBOARD_API_KEY: make one with switchboard apikey add: %w", switchboard.ErrInvalid)
		}
		return do(newCampaignClient(strings.TrimRight(r.URL, "/"), r.Key))
	}
	return withCore(ctx, cfg, func(c *core) error { return serveCampaigns(ctx, c, do) })
}

type campaignSend struct {
	remote
	File       string   `arg:"" help:"CSV or NDJSON with the recipients, also packed with gzip; - is standard input."`
	Account    []string `placeholder:"ID" help:"Account to send over; several are a cascade, in order. A name works too where no --url is used."`
	Text       string   `help:"The text; {{name}} and {{name|friend}} are recipients' variables."`
	Definition string   `placeholder:"FILE" type:"existingfile" help:"The whole campaign as JSON, instead of --account, --text and what follows."`
	Name       string   `help:"A name for people; default: the table's."`
	Success    string   `enum:"accepted,delivered,read" default:"accepted" help:"When a step of the cascade has done its work: accepted, delivered or read."`
	Wait       string   `placeholder:"10m" help:"How long a step may take for that."`
	Files      []string `placeholder:"ID" help:"Uploaded files to send with the text."`
	Kind       string   `default:"text" help:"text, image, video, document, ..."`
	Rate       float64  `help:"Recipients per second at most."`
	TTL        string   `name:"ttl" placeholder:"24h" help:"How long a message may wait to be sent."`
	Priority   string   `enum:"high,normal,low" default:"normal" help:"Among campaigns: high, normal or low."`
	Class      string   `enum:"marketing,service,transactional" default:"marketing" help:"Traffic class: marketing, service or transactional."`
	Sender     string   `help:"The sender's name, where the channel shows one."`
	StartAt    string   `placeholder:"RFC3339" help:"Begin then."`
	StopAt     string   `placeholder:"RFC3339" help:"What was not sent by then expires."`
	QuietHours string   `placeholder:"21:00-09:00" help:"Hours in which nothing is sent, by the recipient's clock."`
	Timezone   string   `placeholder:"Europe/Moscow" help:"Of recipients who have none."`
	StopList   []string `placeholder:"LIST" help:"Skip who is on it, besides the global list."`
	Callback   string   `placeholder:"https://..." help:"Is told the statuses of the messages."`
	Region     string   `placeholder:"RU" help:"Country of phone numbers without a country code."`
	DryRun     bool     `help:"Stop before the start, and tell what would happen. The draft stays."`
	Draft      bool     `help:"Stop before the start. The draft stays."`
	Watch      bool     `help:"Show how it goes until it ends; Ctrl+C lets go of it."`
	Once       string   `placeholder:"KEY" help:"The same key again finds the same campaign and starts nothing twice."`
}

func (s *campaignSend) definition() (campaigns.Definition, error) {
	if s.Definition != "" {
		var d campaigns.Definition
		raw, err := os.Open(s.Definition)
		if err != nil {
			return d, fmt.Errorf("reading --definition: %w", err)
		}
		defer raw.Close()
		dec := json.NewDecoder(raw)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&d); err != nil {
			return d, fmt.Errorf("reading --definition %s: %w", s.Definition, err)
		}
		return d, nil
	}
	if len(s.Account) == 0 || (s.Text == "" && len(s.Files) == 0) {
		return campaigns.Definition{}, fmt.Errorf("use --account with --text or --files, or --definition: %w", switchboard.ErrInvalid)
	}
	name := s.Name
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(s.File), filepath.Ext(s.File))
		if s.Once == "" { // with a key, the same command is to ask for the same at any time
			name += time.Now().Format(" 2006-01-02 15:04")
		}
	}
	d := campaigns.Definition{Name: name, Content: &campaigns.Content{Kind: message.Kind(s.Kind), Text: s.Text, Files: s.Files}, Priority: s.Priority, TrafficClass: s.Class,
		Sender: s.Sender, TTL: s.TTL, Rate: s.Rate, StopLists: s.StopList, CallbackURL: s.Callback}
	for _, a := range s.Account {
		d.Steps = append(d.Steps, campaigns.Step{AccountID: a, Success: campaigns.Success(s.Success), Wait: s.Wait})
	}
	schedule := campaigns.Schedule{Timezone: s.Timezone}
	for _, x := range []struct {
		flag, value string
		to          **time.Time
	}{{"--start-at", s.StartAt, &schedule.StartAt}, {"--stop-at", s.StopAt, &schedule.StopAt}} {
		if x.value == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, x.value)
		if err != nil {
			return d, fmt.Errorf("%s %q: use a time like 2026-12-01T10:00:00+03:00: %w", x.flag, x.value, switchboard.ErrInvalid)
		}
		*x.to = &at
	}
	if s.QuietHours != "" {
		from, to, ok := strings.Cut(s.QuietHours, "-")
		if !ok {
			return d, fmt.Errorf("--quiet-hours %q: use a form like 21:00-09:00: %w", s.QuietHours, switchboard.ErrInvalid)
		}
		schedule.QuietHours = &campaigns.QuietHours{From: strings.TrimSpace(from), To: strings.TrimSpace(to)}
	}
	if schedule.StartAt != nil || schedule.StopAt != nil || schedule.QuietHours != nil || schedule.Timezone != "" {
		d.Schedule = &schedule
	}
	return d, nil
}

// Run sends.
func (s *campaignSend) Run(ctx context.Context, cfg *config.Config) error {
	d, err := s.definition()
	if err != nil {
		return err
	}
	table, kind, packed, err := openTable(s.File)
	if err != nil {
		return err
	}
	defer table.Close()
	once := s.Once
	if once == "" {
		once = uuid.NewString()
	}
	return s.with(ctx, cfg, func(c *campaignClient) error {
		if c.accounts != nil {
			for i := range d.Steps {
				if d.Steps[i].AccountID, err = c.accounts(d.Steps[i].AccountID); err != nil {
					return err
				}
			}
		}
		made, err := c.add(ctx, d, once)
		if err != nil {
			return err
		}
		var imported campaigns.Imported
		if made.State == switchboard.CampaignDraft {
			if imported, err = c.put(ctx, made.ID, table, kind, packed, s.Region); ctx.Err() != nil {
				return fmt.Errorf("interrupted: campaign %s stays a draft, and nothing is sent", made.ID)
			} else if err != nil {
				return fmt.Errorf("campaign %s stays a draft: %w", made.ID, err)
			}
			fmt.Fprintf(os.Stderr, "%d recipients, %d rows left out, %d duplicates\n", imported.Accepted, imported.Rejected, imported.Duplicates)
			for i, e := range imported.Errors {
				if i == 10 {
					fmt.Fprintf(os.Stderr, "  and %d more\n", imported.Rejected-10)
					break
				}
				fmt.Fprintf(&plainWriter{os.Stderr}, "  line %d: %s\n", e.Line, e.Reason)
			}
		}
		if s.DryRun {
			run, err := c.dryRun(ctx, made.ID)
			if err != nil {
				return err
			}
			return s.print(map[string]any{"id": made.ID, "import": imported, "dry_run": run}, func(w io.Writer) { printDryRun(w, made.ID, run) })
		}
		if !s.Draft {
			if made, err = c.action(ctx, made.ID, "start", once+":start"); err != nil {
				return fmt.Errorf("campaign %s stays a draft: %w", made.ID, err)
			}
		} else if made, err = c.get(ctx, made.ID); err != nil {
			return err
		}
		if s.Watch && !s.Draft {
			if !s.JSON {
				fmt.Println("campaign", made.ID)
			}
			return watchCampaign(ctx, c, made, s.output)
		}
		return s.print(made, func(w io.Writer) { printCampaign(w, made) })
	})
}

// openTable opens a table and tells its type, by its name.
func openTable(name string) (f *os.File, kind string, packed bool, err error) {
	kind = "text/csv"
	if name == "-" {
		return os.Stdin, kind, false, nil
	}
	base, packed := strings.CutSuffix(strings.ToLower(name), ".gz")
	switch filepath.Ext(base) {
	case ".ndjson", ".jsonl":
		kind = "application/x-ndjson"
	case ".xlsx", ".xls", ".ods", ".json", ".zip":
		return nil, "", false, fmt.Errorf("%s: save it as CSV (UTF-8), or as NDJSON: %w", name, switchboard.ErrInvalid)
	}
	if f, err = os.Open(name); err != nil {
		return nil, "", false, fmt.Errorf("opening the table: %w", err)
	}
	return f, kind, packed, nil
}

func printCampaign(w io.Writer, c campaigns.Campaign) {
	fmt.Fprintf(w, "id\t%s\nname\t%s\nstate\t%s\n", c.ID, c.Name, c.State)
	if c.Reason != "" {
		fmt.Fprintf(w, "reason\t%s\n", c.Reason)
	}
	fmt.Fprintf(w, "recipients\t%d\n", c.Counts.Total)
	for _, status := range switchboard.RecipientStatuses {
		if n := *c.Counts.Of(status); n > 0 {
			fmt.Fprintf(w, "%s\t%d\n", status, n)
		}
	}
	for _, x := range []struct {
		name string
		at   *time.Time
	}{{"starts", c.StartAt}, {"stops", c.StopAt}, {"started", c.StartedAt}, {"finished", c.FinishedAt}, {"done by", c.ETA}} {
		if x.at != nil {
			fmt.Fprintf(w, "%s\t%s\n", x.name, x.at.Format(time.RFC3339))
		}
	}
	if c.Rate > 0 {
		fmt.Fprintf(w, "rate\t%.1f/s\n", c.Rate)
	}
	for _, x := range c.Waiting {
		fmt.Fprintf(w, "waiting\t%s\n", waitingText(x))
	}
}

// waitingText is why a campaign does not move on, in words.
func waitingText(w campaigns.Waiting) string {
	text := w.Reason
	if w.AccountID != "" {
		text += " (" + w.AccountID + ")"
	}
	if w.Until != nil {
		text += ", until " + w.Until.Format(time.RFC3339)
	}
	return text
}

func printDryRun(w io.Writer, id string, d campaigns.DryRun) {
	fmt.Fprintf(w, "draft\t%s\nrecipients\t%d\nreachable\t%d\ncost\t%g to %g\ntakes\t%s\n", id, d.Recipients, d.Reachable, d.Cost.Least, d.Cost.Most, d.Duration)
	for _, s := range d.Steps {
		fmt.Fprintf(w, "step %d\t%s: first for %d, reaches %d, costs %g\n", s.Step, s.Platform, s.First, s.Reachable, s.Cost)
	}
	for _, p := range d.Problems {
		fmt.Fprintf(w, "problem\t%d: %s\n", p.Count, p.Reason)
	}
}

type campaignList struct {
	remote
	State string `help:"Only of this state: draft, scheduled, running, paused, done or canceled."`
	Limit int    `default:"50" help:"At most so many."`
}

// Run lists campaigns.
func (l *campaignList) Run(ctx context.Context, cfg *config.Config) error {
	if l.State != "" && !slices.Contains(switchboard.CampaignStates, switchboard.CampaignState(l.State)) {
		return fmt.Errorf("--state %q: use one of %v: %w", l.State, switchboard.CampaignStates, switchboard.ErrInvalid)
	}
	return l.with(ctx, cfg, func(c *campaignClient) error {
		list, err := c.list(ctx, l.State, l.Limit)
		if err != nil {
			return err
		}
		return l.print(map[string]any{"items": nonNil(list)}, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tSTATE\tRECIPIENTS\tQUEUED\tFAILED\tNAME")
			for _, x := range list {
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\n", x.ID, x.State, x.Counts.Total, x.Counts.Queued, x.Counts.Failed+x.Counts.Expired, x.Name)
			}
		})
	})
}

type campaignID struct {
	remote
	ID    string `arg:"" help:"The campaign's id."`
	Watch bool   `help:"Show how it goes until it ends; Ctrl+C lets go of it."`
}

func (i *campaignID) do(ctx context.Context, cfg *config.Config, action string) error {
	return i.with(ctx, cfg, func(c *campaignClient) (err error) {
		var got campaigns.Campaign
		if action == "" {
			got, err = c.get(ctx, i.ID)
		} else {
			got, err = c.action(ctx, i.ID, action, uuid.NewString())
		}
		if err != nil {
			return err
		}
		if i.Watch {
			return watchCampaign(ctx, c, got, i.output)
		}
		return i.print(got, func(w io.Writer) { printCampaign(w, got) })
	})
}

type campaignShow struct{ campaignID }

// Run shows a campaign.
func (s *campaignShow) Run(ctx context.Context, cfg *config.Config) error { return s.do(ctx, cfg, "") }

type campaignPause struct{ campaignID }

// Run pauses a campaign.
func (p *campaignPause) Run(ctx context.Context, cfg *config.Config) error {
	return p.do(ctx, cfg, "pause")
}

type campaignResume struct{ campaignID }

// Run resumes a campaign.
func (r *campaignResume) Run(ctx context.Context, cfg *config.Config) error {
	return r.do(ctx, cfg, "resume")
}

type campaignCancel struct{ campaignID }

// Run cancels a campaign.
func (x *campaignCancel) Run(ctx context.Context, cfg *config.Config) error {
	return x.do(ctx, cfg, "cancel")
}

type campaignRetry struct{ campaignID }

// Run queues again what failed.
func (r *campaignRetry) Run(ctx context.Context, cfg *config.Config) error {
	return r.with(ctx, cfg, func(c *campaignClient) error {
		got, err := c.retry(ctx, r.ID, uuid.NewString())
		if err != nil {
			return err
		}
		if r.Watch {
			return watchCampaign(ctx, c, got.Campaign, r.output)
		}
		return r.print(got, func(w io.Writer) {
			fmt.Fprintf(w, "queued again\t%d\n", got.Retried)
			printCampaign(w, got.Campaign)
		})
	})
}

type campaignExport struct {
	remote
	ID     string `arg:"" help:"The campaign's id."`
	Format string `enum:"csv,xlsx" default:"csv" help:"csv or xlsx."`
	Status string `help:"Only those with this status."`
	Out    string `placeholder:"FILE" default:"-" help:"Where to; - is standard output."`
}

// Run exports. A file is there as a whole or not at all.
func (e *campaignExport) Run(ctx context.Context, cfg *config.Config) error {
	return e.with(ctx, cfg, func(c *campaignClient) error {
		if e.Out == "-" {
			if info, err := os.Stdout.Stat(); e.Format == "xlsx" && err == nil && info.Mode()&os.ModeCharDevice != 0 {
				return fmt.Errorf("use --out FILE for xlsx: %w", switchboard.ErrInvalid)
			}
			return c.export(ctx, e.ID, e.Format, e.Status, os.Stdout)
		}
		f, err := os.CreateTemp(filepath.Dir(e.Out), ".export-*")
		if err != nil {
			return fmt.Errorf("writing the table: %w", err)
		}
		err = c.export(ctx, e.ID, e.Format, e.Status, f)
		if err == nil {
			err = f.Chmod(0o644)
		}
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), e.Out)
		}
		if err != nil {
			_ = os.Remove(f.Name())
			return fmt.Errorf("writing the table: %w", err)
		}
		return nil
	})
}
