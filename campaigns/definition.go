package campaigns

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"switchboard"
	"switchboard/channels"
	"switchboard/message"
)

// Definition is what a campaign is, as scripts write it.
type Definition struct {
	Name    string   `json:"name" minLength:"1" maxLength:"200" doc:"for people"`
	Content *Content `json:"content,omitempty" doc:"what is sent; a step may have its own instead"`
	Steps   []Step   `json:"steps" nullable:"false" minItems:"1" maxItems:"10" doc:"the cascade: the next step is taken when a step failed, or its wait ended without success"`
	// Priority orders campaigns among themselves: conversations go first anyway,
	// single sends of scripts second.
	Priority     string        `json:"priority,omitempty" enum:"high,normal,low" default:"normal" doc:"among campaigns; conversations always go first"`
	TrafficClass string        `json:"traffic_class,omitempty" enum:"marketing,service,transactional" default:"marketing"`
	Sender       string        `json:"sender,omitempty" maxLength:"100" doc:"the sender's name, where the channel shows one; default: the account's"`
	TTL          string        `json:"ttl,omitempty" maxLength:"20" doc:"how long a message may wait to be sent, like 24h; default: the account's"`
	Rate         float64       `json:"rate,omitempty" minimum:"0" maximum:"1000000" doc:"recipients per second that the campaign begins at most; 0 is as fast as its accounts may"`
	Schedule     *Schedule     `json:"schedule,omitempty"`
	FrequencyCap *FrequencyCap `json:"frequency_cap,omitempty" doc:"whoever got that many messages of campaigns lately is skipped"`
	StopLists    []string      `json:"stop_lists,omitempty" nullable:"false" maxItems:"20" doc:"lists of addresses that are skipped, besides the global one and the account's"`
	CallbackURL  string        `json:"callback_url,omitempty" maxLength:"2000" doc:"is told the statuses of the campaign's messages"`
}

// Content is what a step sends. Texts, buttons and template parameters may name a
// recipient's variables, see Parse.
type Content struct {
	Kind     message.Kind      `json:"kind,omitempty" default:"text" enum:"text,image,video,audio,voice,sticker,document,contact,location,template"`
	Text     string            `json:"text,omitempty" maxLength:"65536"`
	Files    []string          `json:"files,omitempty" nullable:"false" maxItems:"20" doc:"ids of uploaded files"`
	Contact  *message.Contact  `json:"contact,omitempty"`
	Location *message.Location `json:"location,omitempty"`
	Keyboard *message.Keyboard `json:"keyboard,omitempty"`
	Template *message.Template `json:"template,omitempty"`
}

// Success is when a step has done its work.
type Success string

// The conditions of success, each including the ones before it.
const (
	Accepted  Success = "accepted"
	Delivered Success = "delivered"
	Read      Success = "read"
)

// Step is one attempt to reach a recipient. Either AccountID or Platform is set.
type Step struct {
	AccountID string   `json:"account_id,omitempty" format:"uuid"`
	Platform  string   `json:"platform,omitempty" maxLength:"50" doc:"instead of account_id: any account of this kind of channel, one where the recipient is known first"`
	Content   *Content `json:"content,omitempty" doc:"instead of the campaign's"`
	Success   Success  `json:"success,omitempty" enum:"accepted,delivered,read" default:"accepted"`
	Wait      string   `json:"wait,omitempty" maxLength:"20" doc:"how long success may take, like 10m; default: the message's time to live"`
	Price     *float64 `json:"price,omitempty" minimum:"0" maximum:"1000000" doc:"of one message, for the dry run; default: the account's message_price"`
}

// Schedule is when the campaign runs.
type Schedule struct {
	StartAt    *time.Time  `json:"start_at,omitempty" doc:"a started campaign waits until then"`
	StopAt     *time.Time  `json:"stop_at,omitempty" doc:"what was not sent by then expires"`
	QuietHours *QuietHours `json:"quiet_hours,omitempty" doc:"hours in which nothing is sent, by the recipient's clock"`
	Timezone   string      `json:"timezone,omitempty" maxLength:"64" doc:"of recipients who have none, like Europe/Moscow; default: UTC"`
	Weekdays   []string    `json:"weekdays,omitempty" nullable:"false" maxItems:"7" enum:"mon,tue,wed,thu,fri,sat,sun" doc:"days on which it is sent, by the recipient's clock; default: all"`
}

// QuietHours are from From until To, over midnight when To is the smaller one.
type QuietHours struct {
	From string `json:"from" doc:"like 21:00" maxLength:"5"`
	To   string `json:"to" doc:"like 09:00" maxLength:"5"`
}

// FrequencyCap is how many messages of campaigns a recipient may get in a time.
type FrequencyCap struct {
	Count int    `json:"count" minimum:"1" maximum:"1000"`
	Per   string `json:"per" maxLength:"20" doc:"like 24h"`
}

// Accounts knows the opened accounts; *channels.Registry is one.
type Accounts interface {
	Get(ctx context.Context, accountID string) (*channels.Opened, error)
	All() (opened map[string]*channels.Opened, changed <-chan struct{})
}

// Files finds uploaded files.
type Files interface {
	FilesByID(ctx context.Context, ids []string) ([]message.File, error)
}

const (
	minDuration = time.Second
	maxDuration = 14 * 24 * time.Hour
)

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, switchboard.ErrInvalid)...)
}

func duration(field, value string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < least || d > most {
		short := strings.NewReplacer("h0m0s", "h", "m0s", "m")
		return 0, invalid("%s %q; use a duration from %s to %s, like 24h", field, value, short.Replace(least.String()), short.Replace(most.String()))
	}
	return d, nil
}

// clock reads HH:MM as minutes after midnight.
func clock(field, value string) (int, error) {
	t, err := time.Parse("15:04", value)
	if err != nil || len(value) != 5 {
		return 0, invalid("%s %q; use hours and minutes from 00:00 to 23:59, like 21:00", field, value)
	}
	return t.Hour()*60 + t.Minute(), nil
}

var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// zone finds a time zone of the IANA's list. "Local" would be the server's.
func zone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, errors.New("unknown time zone")
	}
	return time.LoadLocation(name)
}

var listName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.:-]{0,63}$`)

// Program is a definition that was checked, its durations and templates parsed. It
// may be used by many goroutines.
type Program struct {
	Definition
	TTL       time.Duration // 0: the account's
	Quiet     bool          // there are quiet hours:
	QuietFrom int           // minutes after midnight
	QuietTo   int
	Zone      *time.Location // of recipients who have none
	Weekdays  [7]bool        // by time.Weekday: may be sent
	Cap       int            // messages per CapPer; 0 is no cap
	CapPer    time.Duration
	Steps     []ProgramStep
	Variables []string // those that a recipient must have, sorted
}

// ProgramStep is a step of a program.
type ProgramStep struct {
	Step
	Wait    time.Duration // 0: the message's time to live
	content template
}

// Compile checks what can be checked without accounts, and parses. files are those
// that the definition names, by id. Errors are ErrInvalid and say what would be right.
func (d Definition) Compile(files map[string]message.File) (*Program, error) {
	p := &Program{Definition: d, Zone: time.UTC, Weekdays: [7]bool{true, true, true, true, true, true, true}}
	if strings.TrimSpace(d.Name) == "" || len(d.Name) > 800 {
		return nil, invalid("name must have 1 to 200 characters")
	}
	if d.Priority != "" && !slices.Contains([]string{"high", "normal", "low"}, d.Priority) {
		return nil, invalid("priority %q; use high, normal or low", d.Priority)
	}
	if d.TrafficClass != "" && !slices.Contains([]string{"marketing", "service", "transactional"}, d.TrafficClass) {
		return nil, invalid("traffic_class %q; use marketing, service or transactional", d.TrafficClass)
	}
	var err error
	if d.TTL != "" {
		if p.TTL, err = duration("ttl", d.TTL, minDuration, maxDuration); err != nil {
			return nil, err
		}
	}
	if !(d.Rate >= 0 && d.Rate <= 1e6) {
		return nil, invalid("rate %v; use recipients per second, 0 to 1000000 (0 is no limit)", d.Rate)
	}
	if err := p.schedule(d.Schedule); err != nil {
		return nil, err
	}
	if c := d.FrequencyCap; c != nil {
		if c.Count < 1 || c.Count > 1000 {
			return nil, invalid("frequency_cap.count %d; use 1 to 1000", c.Count)
		}
		p.Cap = c.Count
		if p.CapPer, err = duration("frequency_cap.per", c.Per, time.Minute, 31*24*time.Hour); err != nil {
			return nil, err
		}
	}
	for _, list := range d.StopLists {
		if !listName.MatchString(list) {
			return nil, invalid("stop_lists: %q; use 1 to 64 of a-z, 0-9 and _ . : -, beginning with a letter or digit", list)
		}
	}
	if d.CallbackURL != "" {
		u, err := url.Parse(d.CallbackURL)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.Fragment != "" {
			return nil, invalid("callback_url %q; use an address like https://example.com/statuses", d.CallbackURL)
		}
	}
	return p, p.steps(files)
}

func (p *Program) schedule(s *Schedule) (err error) {
	if s == nil {
		return nil
	}
	if s.StartAt != nil && s.StopAt != nil && !s.StartAt.Before(*s.StopAt) {
		return invalid("schedule.stop_at must be later than schedule.start_at")
	}
	if q := s.QuietHours; q != nil {
		p.Quiet = true
		if p.QuietFrom, err = clock("schedule.quiet_hours.from", q.From); err != nil {
			return err
		}
		if p.QuietTo, err = clock("schedule.quiet_hours.to", q.To); err != nil {
			return err
		}
		if p.QuietFrom == p.QuietTo {
			return invalid("schedule.quiet_hours: from and to are both %s, which leaves no time to send; leave quiet_hours out to send at any hour", q.From)
		}
	}
	if s.Timezone != "" {
		if p.Zone, err = zone(s.Timezone); err != nil {
			return invalid("schedule.timezone %q; use a name of the IANA time zones, like Europe/Moscow", s.Timezone)
		}
	}
	if len(s.Weekdays) > 0 {
		p.Weekdays = [7]bool{}
		for _, day := range s.Weekdays {
			i := slices.Index(days, day)
			if i < 0 {
				return invalid("schedule.weekdays: %q; use mon, tue, wed, thu, fri, sat and sun", day)
			}
			p.Weekdays[i] = true
		}
	}
	return nil
}

func (p *Program) steps(files map[string]message.File) error {
	if n := len(p.Definition.Steps); n < 1 || n > 10 {
		return invalid("steps has %d entries; use 1 to 10, each with account_id or platform", n)
	}
	needed := map[string]bool{}
	for i, s := range p.Definition.Steps {
		at := fmt.Sprintf("steps[%d]", i)
		if (s.AccountID == "") == (s.Platform == "") {
			return invalid("%s needs exactly one of account_id and platform", at)
		}
		if s.Success == "" {
			s.Success = Accepted
		}
		if !slices.Contains([]Success{Accepted, Delivered, Read}, s.Success) {
			return invalid("%s.success %q; use accepted, delivered or read", at, s.Success)
		}
		if s.Price != nil && !(*s.Price >= 0 && *s.Price <= 1e6) {
			return invalid("%s.price %v; use 0 to 1000000", at, *s.Price)
		}
		ps := ProgramStep{Step: s}
		var err error
		if s.Wait != "" {
			if ps.Wait, err = duration(at+".wait", s.Wait, minDuration, maxDuration); err != nil {
				return err
			}
		}
		content, where := s.Content, at+".content"
		if content == nil {
			content, where = p.Definition.Content, "content"
		}
		if content == nil {
			return invalid("%s has no content, and neither has the campaign; add content to one of them", at)
		}
		if ps.content, err = content.parse(where, files); err != nil {
			return err
		}
		for _, name := range ps.content.required {
			needed[name] = true
		}
		p.Steps = append(p.Steps, ps)
	}
	for name := range needed {
		p.Variables = append(p.Variables, name)
	}
	slices.Sort(p.Variables)
	return nil
}

// FileIDs are the files that the definition names, each once.
func (d Definition) FileIDs() []string {
	var ids []string
	add := func(c *Content) {
		if c != nil {
			ids = append(ids, c.Files...)
		}
	}
	add(d.Content)
	for _, s := range d.Steps {
		add(s.Content)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Check checks a definition against the accounts that it names and the files that
// were uploaded. Errors are ErrInvalid, a *message.Refusal of a channel's included.
func Check(ctx context.Context, d Definition, accounts Accounts, store Files) (*Program, map[string]message.File, error) {
	files := map[string]message.File{}
	if ids := d.FileIDs(); len(ids) > 0 {
		found, err := store.FilesByID(ctx, ids)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range found {
			if f.State == message.FileReady {
				files[f.ID] = f
			}
		}
	}
	p, err := d.Compile(files)
	if err != nil {
		return nil, nil, err
	}
	for i := range p.Steps {
		if err := p.checkStep(ctx, i, accounts); err != nil {
			return nil, nil, err
		}
	}
	return p, files, nil
}

func (p *Program) checkStep(ctx context.Context, i int, accounts Accounts) error {
	candidates, err := p.Steps[i].Accounts(ctx, accounts)
	if err != nil {
		return err
	}
	s := &p.Steps[i]
	at := fmt.Sprintf("steps[%d]", i)
	switch {
	case len(candidates) == 0 && s.AccountID != "":
		return invalid("%s.account_id %s: no such account", at, s.AccountID)
	case len(candidates) == 0:
		return invalid("%s.platform %q: there is no account of this kind; add one, or name one of the platforms that have accounts%s", at, s.Platform, platformsOf(accounts))
	}
	// The texts are tried as they are, with a letter for every variable: they can be
	// no shorter. The recipients' own are tried when they come in.
	sample := s.content.sample()
	for _, a := range candidates {
		if err := a.Check(&sample, false, ""); err != nil {
			if refusal, ok := errors.AsType[*message.Refusal](err); ok {
				return invalid("%s: %s", at, refusal.Detail)
			}
			return err
		}
		c := &a.Capabilities
		if (s.Success == Delivered && !c.Delivered && !c.Read) || (s.Success == Read && !c.Read) {
			right := "accepted"
			if s.Success == Read && c.Delivered {
				right = "accepted or delivered"
			}
			return invalid("%s.success %q: %s does not report that; use %s", at, s.Success, c.Platform, right)
		}
	}
	return nil
}

// Accounts are those over which the step may go, by id.
func (s *ProgramStep) Accounts(ctx context.Context, accounts Accounts) ([]*channels.Opened, error) {
	if s.AccountID != "" {
		a, err := accounts.Get(ctx, s.AccountID)
		if errors.Is(err, channels.ErrNoAccount) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("account %s: %w", s.AccountID, err)
		}
		return []*channels.Opened{a}, nil
	}
	var found []*channels.Opened
	opened, _ := accounts.All()
	for _, a := range opened {
		if a.Account.Platform == s.Platform && a.Err == nil {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(a, b *channels.Opened) int { return strings.Compare(a.Account.ID, b.Account.ID) })
	return found, nil
}

func platformsOf(accounts Accounts) string {
	var names []string
	opened, _ := accounts.All()
	for _, a := range opened {
		if a.Err == nil {
			names = append(names, a.Account.Platform)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return ": " + strings.Join(slices.Compact(names), ", ")
}
