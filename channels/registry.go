package channels

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"switchboard/message"
)

// Stored is an account as the database has it, secrets decrypted.
type Stored struct {
	Account
	State  string // active, paused or removed
	Reason string // why it is paused
	// Stamp changes with every change of the account; an opened channel is kept
	// as long as it is equal.
	Stamp string
}

// Source lists the accounts that are not removed, with the version of the list.
type Source interface {
	AccountsVersion(ctx context.Context) (int64, error)
	StoredAccounts(ctx context.Context) ([]Stored, error)
}

// Opened is an account with its channel, ready for use.
type Opened struct {
	Account Account
	State   string
	Reason  string // why it is paused
	Channel Channel
	// Capabilities are the channel's, with the account's own rates applied.
	Capabilities message.Capabilities
	Guarantee    string // at_least_once or at_most_once
	TTL          time.Duration
	// Err says why the account could not be opened; Channel is nil then.
	Err error

	stamp string
	open  func(Account) (Channel, error)
}

// Check says whether the account can send content, as a *message.Refusal or nil:
// by its capabilities, and by the plan of its calls. chat is the platform's key
// of the chat, "" when it is known to be one. replyTo tells that the message is
// a reply.
func (o *Opened) Check(content *message.Content, replyTo bool, chat string) error {
	if err := o.Capabilities.Check(content, replyTo); err != nil {
		return err
	}
	if o.Channel == nil {
		return nil
	}
	_, err := o.Channel.Plan(&message.Outbound{Chat: chat, Content: *content})
	if e, ok := errors.AsType[*message.Error](err); ok {
		return &message.Refusal{Code: message.RefusedInvalid, Detail: e.Detail}
	}
	return err
}

// Calls is how many messages of the platform content makes; 0 when it can't be sent.
func (o *Opened) Calls(content *message.Content) int {
	parts, err := o.Channel.Plan(&message.Outbound{Content: *content})
	if err != nil {
		return 0
	}
	return len(parts)
}

// CheckChat says whether chat may be the platform's key of a chat, as a
// *message.Refusal or nil.
func (o *Opened) CheckChat(chat string) error {
	return o.Check(&message.Content{Kind: message.KindText, Text: "?"}, false, chat)
}

// ErrNoAccount says that there is no such account.
var ErrNoAccount = errors.New("no such account")

// Registry keeps the accounts' opened channels. It is a cache: it follows the
// database by Refresh, which Run calls on every hint and every two seconds.
type Registry struct {
	platforms map[string]Platform
	env       Env
	source    Source
	log       *slog.Logger

	mu      sync.RWMutex
	version int64
	loaded  bool
	opened  map[string]*Opened
	changed chan struct{} // closed and replaced at every change

	refresh sync.Mutex // one refresh at a time
}

// NewRegistry returns an empty registry of the given platforms.
func NewRegistry(platforms []Platform, env Env, source Source, log *slog.Logger) *Registry {
	byName := make(map[string]Platform, len(platforms))
	for _, p := range platforms {
		byName[p.Name] = p
	}
	return &Registry{platforms: byName, env: env, source: source, log: log, opened: map[string]*Opened{}, changed: make(chan struct{})}
}

// Platform returns the platform called name.
func (r *Registry) Platform(name string) (Platform, bool) {
	p, ok := r.platforms[name]
	return p, ok
}

// Platforms returns all platforms by name.
func (r *Registry) Platforms() map[string]Platform { return maps.Clone(r.platforms) }

// Run follows the database until ctx ends. hints may be nil.
func (r *Registry) Run(ctx context.Context, hints <-chan struct{}) error {
	ticker := time.NewTicker(2 * time.Second) // the safety poll: a lost hint costs this much
	defer ticker.Stop()
	for {
		if err := r.Refresh(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "accounts could not be read", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-hints:
		case <-ticker.C:
		}
	}
}

// Refresh reads the accounts if they changed.
func (r *Registry) Refresh(ctx context.Context) error {
	r.refresh.Lock()
	defer r.refresh.Unlock()
	version, err := r.source.AccountsVersion(ctx)
	if err != nil {
		return err
	}
	r.mu.RLock()
	same := r.loaded && version == r.version
	old := r.opened
	r.mu.RUnlock()
	if same {
		return nil
	}
	stored, err := r.source.StoredAccounts(ctx)
	if err != nil {
		return err
	}
	opened := make(map[string]*Opened, len(stored))
	for _, s := range stored {
		if was := old[s.ID]; was != nil && was.stamp == s.Stamp {
			opened[s.ID] = was
			continue
		}
		opened[s.ID] = r.open(s)
		if err := opened[s.ID].Err; err != nil {
			r.log.WarnContext(ctx, "account can't be opened", "account", s.ID, "platform", s.Platform, "error", err)
		}
	}
	r.mu.Lock()
	r.version, r.loaded, r.opened = version, true, opened
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	return nil
}

// Open opens an account that need not be stored, to check its settings.
func (r *Registry) Open(a Account) (*Opened, error) {
	o := r.open(Stored{Account: a})
	return o, o.Err
}

func (r *Registry) open(s Stored) *Opened {
	o := &Opened{Account: s.Account, State: s.State, Reason: s.Reason, stamp: s.Stamp}
	p, ok := r.platforms[s.Platform]
	if !ok {
		o.Err = fmt.Errorf("unknown platform %q; known: %s", s.Platform, strings.Join(slices.Sorted(maps.Keys(r.platforms)), ", "))
		return o
	}
	if o.Err = checkSettings(p, s.Account); o.Err != nil {
		return o
	}
	channel, err := p.Open(s.Account, r.env)
	if err != nil {
		o.Err = fmt.Errorf("%s account %q: %w", s.Platform, s.Name, err)
		return o
	}
	o.Channel, o.Capabilities = channel, channel.Capabilities()
	o.open = func(a Account) (Channel, error) { return p.Open(a, r.env) }
	o.Guarantee = s.Setting("guarantee", "at_least_once")
	o.TTL = 24 * time.Hour
	if v := s.Setting("ttl", ""); v != "" {
		o.TTL, _ = time.ParseDuration(v)
	}
	applyRate(&o.Capabilities.Rate, s.Setting("rate", ""))
	applyRate(&o.Capabilities.ChatRate, s.Setting("chat_rate", ""))
	return o
}

func applyRate(rate *message.Rate, setting string) {
	if setting == "" {
		return
	}
	perSecond, _ := strconv.ParseFloat(setting, 64)
	if perSecond == rate.PerSecond {
		return
	}
	rate.PerSecond = perSecond
	// A tenth of a second's worth at once at most, so that no one-second window
	// holds much more than the rate.
	rate.Burst = max(1, int(perSecond/10))
}

func checkSettings(p Platform, a Account) error {
	known := map[string]Setting{}
	for _, list := range [][]Setting{CommonSettings, p.Settings} {
		for _, s := range list {
			known[s.Key] = s
		}
	}
	for key, value := range a.Settings {
		s, ok := known[key]
		if !ok {
			return fmt.Errorf("unknown setting %q; %s knows %s", key, p.Name, settingNames(known))
		}
		if len(s.Options) > 0 && value != "" && !slices.Contains(s.Options, value) {
			return fmt.Errorf("setting %s=%q; allowed: %v", key, value, s.Options)
		}
	}
	for key, s := range known {
		if s.Required && a.Settings[key] == "" {
			return fmt.Errorf("setting %q is missing: %s", key, s.Help)
		}
	}
	for _, key := range []string{"rate", "chat_rate"} {
		if v := a.Settings[key]; v != "" {
			if n, err := strconv.ParseFloat(v, 64); err != nil || !(n >= 0 && n <= 1e6) { // so that NaN is none, too
				return fmt.Errorf("setting %s=%q; use messages per second, 0 to 1000000 (0 is no limit)", key, v)
			}
		}
	}
	if v := a.Settings["message_price"]; v != "" {
		if n, err := strconv.ParseFloat(v, 64); err != nil || !(n >= 0 && n <= 1e6) {
			return fmt.Errorf("setting message_price=%q; use a number from 0 to 1000000, like 0.35", v)
		}
	}
	if v := a.Settings["ttl"]; v != "" {
		if d, err := time.ParseDuration(v); err != nil || d < time.Second || d > 14*24*time.Hour {
			return fmt.Errorf("setting ttl=%q; use a duration from 1s to 336h, like 24h", v)
		}
	}
	return nil
}

// Get returns an account's channel, looking at the database once more when the
// account isn't known. The error is ErrNoAccount, or why it can't be opened.
func (r *Registry) Get(ctx context.Context, accountID string) (*Opened, error) {
	o := r.lookup(accountID)
	if o == nil {
		if err := r.Refresh(ctx); err != nil {
			return nil, err
		}
		if o = r.lookup(accountID); o == nil {
			return nil, ErrNoAccount
		}
	}
	if o.Err != nil {
		return nil, o.Err
	}
	return o, nil
}

func (r *Registry) lookup(accountID string) *Opened {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.opened[accountID]
}

// All returns the accounts as of now, and a channel that is closed when that
// changes.
func (r *Registry) All() (opened map[string]*Opened, changed <-chan struct{}) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.opened, r.changed
}

func settingNames(known map[string]Setting) string {
	return strings.Join(slices.Sorted(maps.Keys(known)), ", ")
}
