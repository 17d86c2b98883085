package simulator

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"time"
)

// AccountSpec describes an account (a bot) to register.
type AccountSpec struct {
	Token string `json:"token"` // empty: one of the right shape is made up
	Name  string `json:"name"`  // shown to customers; empty: a default
	// GroupID is the community's number (VK); 0: made from the token.
	GroupID int64 `json:"group_id,omitempty"`
	AccountOptions
}

// AccountOptions are what can be changed on a registered account.
type AccountOptions struct {
	Revoked    *bool   `json:"revoked,omitempty"`     // the token no longer works
	RealLimits *bool   `json:"real_limits,omitempty"` // enforce Limits
	Limits     *Limits `json:"limits,omitempty"`
	// Receipts (Viber).
	NoReceipts     *bool  `json:"no_receipts,omitempty"`
	DeliveredAfter *Delay `json:"delivered_after,omitempty"`
	SeenAfter      *Delay `json:"seen_after,omitempty"`
	// InboundReceipts sends a delivered receipt for customers' messages too,
	// as one gateway has seen (Viber).
	InboundReceipts *bool `json:"inbound_receipts,omitempty"`
	// Billing (Viber): "free" refuses messages outside a session with status 23
	// when FreeMessages are used up, "no_balance" with 24, "charged" lets them pass.
	Billing      *string `json:"billing,omitempty"`
	FreeMessages *int    `json:"free_messages,omitempty"`
	// Webhook is the address to call, with user and password in it, of platforms
	// whose people enter it by hand (MFMS).
	Webhook *string `json:"webhook,omitempty"`
	// Window (WhatsApp): who has not written for 24 hours gets templates only.
	Window *bool `json:"window,omitempty"`
	// Templates (WhatsApp) are the approved texts; {{1}} stands for any words.
	Templates *[]string `json:"templates,omitempty"`
}

// Limits are an account's rates. Zero fields keep the documented figure.
type Limits struct {
	PerSecond      float64 `json:"per_second,omitempty"`       // Telegram: 30 for the bot; VK: 20 calls; Viber: none
	Burst          int     `json:"burst,omitempty"`            // default: PerSecond
	ChatPerSecond  float64 `json:"chat_per_second,omitempty"`  // Telegram: 1
	ChatBurst      int     `json:"chat_burst,omitempty"`       // default 3: short bursts pass
	GroupPerMinute int     `json:"group_per_minute,omitempty"` // Telegram: 20
	PerHour        int     `json:"per_hour,omitempty"`         // Viber: 100 to one user without a reply
}

func (l Limits) withDefaults(perSecond, chatPerSecond float64) Limits {
	if l.PerSecond == 0 {
		l.PerSecond = perSecond
	}
	if l.Burst == 0 {
		l.Burst = max(1, int(l.PerSecond))
	}
	if l.ChatPerSecond == 0 {
		l.ChatPerSecond = chatPerSecond
	}
	if l.ChatBurst == 0 {
		l.ChatBurst = 3
	}
	if l.GroupPerMinute == 0 {
		l.GroupPerMinute = 20
	}
	if l.PerHour == 0 {
		l.PerHour = 100
	}
	return l
}

// settings are the options in force; replaced as a whole.
type settings struct {
	revoked         bool
	realLimits      bool
	limits          Limits
	noReceipts      bool
	deliveredAfter  time.Duration
	seenAfter       time.Duration
	inboundReceipts bool
	billing         string
	freeMessages    int
	webhook         string
	window          bool
	templates       []string
}

func (s settings) with(o AccountOptions) settings {
	assign(&s.revoked, o.Revoked)
	assign(&s.realLimits, o.RealLimits)
	assign(&s.limits, o.Limits)
	assign(&s.noReceipts, o.NoReceipts)
	assign((*Delay)(&s.deliveredAfter), o.DeliveredAfter)
	assign((*Delay)(&s.seenAfter), o.SeenAfter)
	assign(&s.inboundReceipts, o.InboundReceipts)
	assign(&s.billing, o.Billing)
	assign(&s.freeMessages, o.FreeMessages)
	assign(&s.webhook, o.Webhook)
	assign(&s.window, o.Window)
	assign(&s.templates, o.Templates)
	return s
}

func assign[T any](dst *T, src *T) {
	if src != nil {
		*dst = *src
	}
}

// accountCore is what accounts of all platforms share.
type accountCore struct {
	sim      *Simulator
	platform string
	token    string
	ref      string // the public part, safe to show and to log
	name     string
	opts     atomic.Pointer[settings]
	rec      recorder
	hooks    *dispatcher
	adopted  atomic.Bool // has demo customers
}

func (a *accountCore) setup(s *Simulator, platform, token, ref, name string, o AccountOptions) {
	a.sim, a.platform, a.token, a.ref, a.name = s, platform, token, ref, name
	set := settings{
		realLimits:     s.cfg.RealLimits,
		noReceipts:     s.cfg.NoReceipts,
		deliveredAfter: s.cfg.DeliveredAfter,
		seenAfter:      s.cfg.SeenAfter,
		freeMessages:   10_000,
		billing:        "charged",
	}.with(o)
	a.opts.Store(&set)
	a.rec.init(s.cfg.KeepRequests)
}

func (a *accountCore) core() *accountCore { return a }

func (a *accountCore) is(ref string) bool { return ref == a.token || ref == a.ref || ref == a.name }

func (a *accountCore) redact(s string) string {
	return strings.ReplaceAll(s, a.token, "<token>")
}

// Ref is the public part of the token: Telegram's bot id, or the first group
// of a Viber token. The control API takes it in its paths.
func (a *accountCore) Ref() string { return a.ref }

// Token is the account's secret.
func (a *accountCore) Token() string { return a.token }

// Set changes options; nil fields stay.
func (a *accountCore) Set(o AccountOptions) {
	for {
		old := a.opts.Load()
		next := old.with(o)
		if a.opts.CompareAndSwap(old, &next) {
			return
		}
	}
}

// Requests returns the recorded calls of a method, oldest first; "" is every method.
func (a *accountCore) Requests(method string) []Request {
	return a.rec.list(func(r *Request) bool { return method == "" || equalFold(r.Method, method) })
}

// Callbacks returns the recorded webhook attempts of an event, oldest first; "" is every event.
func (a *accountCore) Callbacks(event string) []Callback {
	return a.rec.listCallbacks(func(c *Callback) bool { return event == "" || c.Event == event })
}

// Rates counts what the account received, by the simulator's clock.
func (a *accountCore) Rates() Rates { return a.rec.rates() }

// Crowded returns the windows of one second that had more than most sends.
func (a *accountCore) Crowded(most float64) []Crowd { return a.rec.crowded(most) }

func equalFold(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// CustomerSpec describes a customer. Every field is optional.
type CustomerSpec struct {
	ID        string `json:"id"` // Telegram: digits; Viber: 24 characters of base64
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
	Username  string `json:"username"`
	Language  string `json:"language"` // default "ru"
	Country   string `json:"country"`  // Viber, ISO-2; default "RU"
	Phone     string `json:"phone"`    // digits without "+"
	Avatar    bool   `json:"avatar"`   // has a picture that the bot may see
	Picture   uint64 `json:"picture"`  // which one; another number is another picture
	// AvatarURL is told as the picture's address instead of our own (Viber, VK).
	AvatarURL string `json:"avatar_url"`
	// Started: the customer has written or pressed Start before, so the bot
	// may write first.
	Started bool `json:"started"`

	// Telegram: a chat of another kind than private, negative ID, in which the
	// customer speaks.
	ChatType string `json:"chat_type"` // private (default), group, supergroup
	ChatID   int64  `json:"chat_id"`
	Title    string `json:"title"`

	// Viber.
	APIVersion int    `json:"api_version"` // newest the client understands; default 10
	Devices    int    `json:"devices"`     // delivered receipts for each message; default 1
	Receipts   string `json:"receipts"`    // how far a message gets: none, delivered, seen (default), failed
}

// CustomerPatch changes a customer; nil fields stay.
type CustomerPatch struct {
	FirstName   *string `json:"first_name,omitempty"`
	Blocked     *bool   `json:"blocked,omitempty"`     // silently: no update is sent
	Deactivated *bool   `json:"deactivated,omitempty"` // Telegram: the account is deleted
	Started     *bool   `json:"started,omitempty"`
	Avatar      *bool   `json:"avatar,omitempty"`
	Picture     *uint64 `json:"picture,omitempty"`
	AvatarURL   *string `json:"avatar_url,omitempty"`
	Receipts    *string `json:"receipts,omitempty"`
	APIVersion  *int    `json:"api_version,omitempty"`
	// Unsuitable: the device can't do bots, Viber's status 11.
	Unsuitable *bool `json:"unsuitable,omitempty"`
	// Online is Viber's get_online figure, 0..4.
	Online *int `json:"online,omitempty"`
}

// customerCore is what customers of all platforms share.
type customerCore struct {
	id      string
	hash    uint64
	changed signal
	// onMessage is told of every message from the bot, outside all locks.
	onMessage atomic.Pointer[func(text string, buttons int)]
	// echo checks numbered messages to a customer of a load run.
	echo atomic.Pointer[echoCheck]
}

func (c *customerCore) base() *customerCore { return c }

// ID is the customer's id on the platform.
func (c *customerCore) ID() string { return c.id }

func (c *customerCore) received(text string, buttons int) {
	c.changed.broadcast()
	if e := c.echo.Load(); e != nil {
		e.check(text)
	}
	if f := c.onMessage.Load(); f != nil {
		(*f)(text, buttons)
	}
}

// Sent tells what a customer's action produced.
type Sent struct {
	MessageID  string   `json:"message_id,omitempty"`
	MessageIDs []string `json:"message_ids,omitempty"` // of an album
	UpdateID   int64    `json:"update_id,omitempty"`   // Telegram
	UpdateIDs  []int64  `json:"update_ids,omitempty"`
	// Dropped: the account does not want this kind of update.
	Dropped bool `json:"dropped,omitempty"`
	// Files as the customer sent them, to compare with what arrived.
	Files []FileInfo `json:"files,omitempty"`
}

// Message is a message of a dialogue as the customer sees it now.
type Message struct {
	Seq       int64           `json:"seq"` // of the customer, from 1
	ID        string          `json:"id"`  // the platform's
	From      string          `json:"from"`
	Kind      string          `json:"kind"` // the platform's word
	Text      string          `json:"text,omitempty"`
	Entities  json.RawMessage `json:"entities,omitempty"`
	Files     []FileInfo      `json:"files,omitempty"`
	Location  *Point          `json:"location,omitempty"`
	Contact   *Card           `json:"contact,omitempty"`
	Keyboard  json.RawMessage `json:"keyboard,omitempty"`
	Buttons   []Button        `json:"buttons,omitempty"` // the keyboard's, in reading order
	ReplyTo   string          `json:"reply_to,omitempty"`
	Quote     string          `json:"quote,omitempty"`
	Group     string          `json:"group,omitempty"` // album
	Forwarded bool            `json:"forwarded,omitempty"`
	Sender    string          `json:"sender,omitempty"` // Viber: sender.name
	Avatar    string          `json:"avatar,omitempty"` // Viber: sender.avatar
	Welcome   bool            `json:"welcome,omitempty"`
	State     string          `json:"state,omitempty"`    // Viber: accepted, delivered, seen, failed
	Earlier   []string        `json:"earlier,omitempty"`  // texts before edits
	Warnings  []string        `json:"warnings,omitempty"` // against the document, but accepted
	At        time.Time       `json:"at"`
	EditedAt  *time.Time      `json:"edited_at,omitempty"`
	DeletedAt *time.Time      `json:"deleted_at,omitempty"`
	Raw       json.RawMessage `json:"raw,omitempty"` // the platform's own object
}

// FromBot and FromCustomer are the values of Message.From.
const (
	FromBot      = "bot"
	FromCustomer = "customer"
)

// Point is a place on Earth, in degrees.
type Point struct {
	Lat   float64 `json:"lat"`
	Lon   float64 `json:"lon"`
	Title string  `json:"title,omitempty"`
}

// Card is a phone book entry.
type Card struct {
	Name  string `json:"name"`
	Phone string `json:"phone"`
}

// Button is one button of a keyboard.
type Button struct {
	Text   string `json:"text"`
	Data   string `json:"data,omitempty"` // callback_data or ActionBody
	Action string `json:"action"`         // Telegram: callback, url, text, contact, location, other; Viber: the ActionType
	URL    string `json:"url,omitempty"`
}

// gcra is a leaky bucket: how long until n more may pass.
type gcra struct{ tat time.Time }

// take reserves n at the given rate and burst, or tells how long to wait.
func (g *gcra) take(now time.Time, n int, perSecond float64, burst int) (wait time.Duration) {
	step := time.Duration(float64(time.Second) / perSecond)
	tat := g.tat
	if tat.Before(now) {
		tat = now
	}
	next := tat.Add(time.Duration(n) * step)
	if early := next.Sub(now) - time.Duration(max(burst, n))*step; early > 0 {
		return early
	}
	g.tat = next
	return 0
}
