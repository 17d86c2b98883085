package channels

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"switchboard/message"
)

// Setting describes one `--set key=value` of an account.
type Setting struct {
	Key      string   `json:"key"`
	Help     string   `json:"help"`
	Secret   bool     `json:"secret"` // encrypted at rest, never shown
	Required bool     `json:"required"`
	Default  string   `json:"default,omitempty"`
	Options  []string `json:"options,omitempty"` // closed set of values
}

// Platform is a messenger that accounts can be made for.
type Platform struct {
	// Name is the word of the public contract: telegram, viber, ...
	Name string
	// Settings are the platform's own; api_base and the common ones (CommonSettings) come on top.
	Settings []Setting
	// Open checks the account's settings and returns its channel. It does no
	// I/O and starts nothing. The error names the setting and what is right.
	Open func(Account, Env) (Channel, error)
}

// CommonSettings are understood for every platform, by the workers; the limits by
// each platform itself (Account.Limits).
var CommonSettings = []Setting{
	{Key: "api_base", Help: "address of the platform's API (a proxy, a private server, a simulator)"},
	{Key: "rate", Help: "messages per second that the account may send; 0 is no limit"},
	{Key: "chat_rate", Help: "messages per second to one chat; 0 is no limit"},
	{Key: "text_limit", Help: "longest text of one message, in characters; longer ones are split"},
	{Key: "image_limit", Help: "largest picture that is sent as one, like 10MB; larger ones go as documents"},
	{Key: "video_limit", Help: "largest video, like 50MB"},
	{Key: "file_limit", Help: "largest file of any kind, like 50MB"},
	{Key: "guarantee", Help: "what to do when nobody knows whether a message was sent", Options: []string{"at_least_once", "at_most_once"}, Default: "at_least_once"},
	{Key: "ttl", Help: "how long a message may wait to be sent, like 24h", Default: "24h"},
	{Key: "message_price", Help: "of one message, in any currency, for the dry run of campaigns"},
}

// Account is one bot, number or page at a platform, with its settings in the
// clear (secrets decrypted). It must never be logged.
type Account struct {
	ID       string
	Platform string
	Name     string
	Settings map[string]string
}

// Setting returns the value of key, or def when it is empty.
func (a Account) Setting(key, def string) string {
	if v := a.Settings[key]; v != "" {
		return v
	}
	return def
}

// Doer makes HTTP calls; *http.Client is one.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Files gives a platform package the bytes of a stored file, or a link to it.
type Files interface {
	// Open streams the file's bytes; the caller closes.
	Open(ctx context.Context, fileID string) (io.ReadCloser, error)
	// Link returns a public signed address that ends in the file's name and
	// works for at least ttl without credentials.
	Link(ctx context.Context, fileID string, ttl time.Duration) (string, error)
}

// Env is what a channel may use of the world.
type Env struct {
	HTTP      Doer   // the platform's API: keep-alive, no redirects
	Fetch     Doer   // addresses that came from outside: guarded against private networks
	Files     Files  // for sending
	PublicURL string // what platforms can reach, without trailing slash
}

// Webhook is the account's public webhook address.
func (e Env) Webhook(a Account) string {
	return e.PublicURL + "/webhooks/" + a.Platform + "/" + a.ID
}

// Channel is an opened account. Its methods may be called from many goroutines.
type Channel interface {
	Capabilities() message.Capabilities
	// Decode turns one raw update (a piece made by Split or Poll) into what
	// happened. It is pure and deterministic. An unknown kind is not an error:
	// it becomes KindUnsupported. An error quarantines the update.
	Decode(raw []byte) ([]message.Update, error)
	// Plan splits a message, already checked against Capabilities, into its
	// calls. It is pure and deterministic: a crash between two parts plans again
	// and goes on at the next index. The keyboard goes with the last part. An
	// empty Chat stands for a valid one: a message is planned once before it is
	// queued, to refuse at once (*message.Refusal) what can't be sent.
	Plan(out *message.Outbound) ([]message.Part, error)
	// Send makes the call of one part. Errors are *message.Error; everything
	// else counts as uncertain. The context carries the deadline.
	Send(ctx context.Context, part *message.Part) (message.Receipt, error)
	// Check asks the platform whether the account works and sets up what the
	// platform needs (a webhook, for instance).
	Check(ctx context.Context) (Health, error)
	// Fetch opens the bytes of a file of an inbound message by File.Ref.
	// Errors: ErrFileTooLarge is final, ErrFileGone when it is repeated; others
	// are retried.
	Fetch(ctx context.Context, ref string) (Download, error)
}

// ErrFileGone says that the platform no longer has the file.
var ErrFileGone = errors.New("file is gone at the platform")

// ErrFileTooLarge says that the platform refuses to hand the file out for its size.
var ErrFileTooLarge = errors.New("file is too large to fetch")

// Download is an open file of a platform.
type Download struct {
	Body io.ReadCloser
	Size int64  // -1 when unknown
	Mime string // claimed; may be ""
	Name string // claimed; may be ""
}

// Health is what Check found.
type Health struct {
	Name    string            `json:"name"`              // the account's name at the platform
	Details map[string]string `json:"details,omitempty"` // for people: pending updates, webhook address, ...
	Warning string            `json:"warning,omitempty"` // works, but look at this
}

// RawUpdate is one piece of a callback or of a poll, before decoding.
type RawUpdate struct {
	// DedupKey is equal for two deliveries of the same update, and only for them.
	DedupKey string
	// ChatKey is the platform's chat (or customer) key: updates with the same
	// key are handled one after another, in order.
	ChatKey string
	// Order sorts updates of one chat that arrive together, as the platform
	// ordered them (its clock or its counter). Equal values keep arrival order.
	Order int64
	Raw   []byte
}

// Webhooks is a channel that is called by its platform.
type Webhooks interface {
	// Verify checks that the platform sent this, in constant time, over the raw bytes.
	Verify(header http.Header, query map[string][]string, raw []byte) error
	// Split cuts a verified body into updates. An error means "not the
	// platform's JSON" and is answered with 400. Zero updates is fine.
	Split(raw []byte) ([]RawUpdate, error)
	// Reply is what the platform wants in the very answer, after the commit.
	// The zero Reply is an empty 200.
	Reply(raw []byte) Reply
}

// Probed is a channel whose platform first tries the webhook's address by HEAD or
// GET, without credentials, and wants an empty 200.
type Probed interface {
	Probed() bool
}

// ErrNoSignature is (or is wrapped by) Verify's error when the platform's
// signature is missing, as opposed to wrong.
var ErrNoSignature = errors.New("signature is missing")

// Reply is the body of a webhook's answer.
type Reply struct {
	ContentType string
	Body        []byte
}

// Poller is a channel that is polled.
type Poller interface {
	// Polls reports whether this account is set to be polled.
	Polls() bool
	// Poll waits for updates after offset, and returns them with the next
	// offset. It blocks up to the platform's long-poll time. Errors are
	// *PollError where the poller should react in a special way.
	Poll(ctx context.Context, offset int64) (updates []RawUpdate, next int64, err error)
}

// PollError tells the poll loop what to do.
type PollError struct {
	Kind       PollErrorKind
	RetryAfter time.Duration
	Detail     string
	Err        error
}

// PollErrorKind is the closed set of reactions.
type PollErrorKind string

// The kinds of poll error.
const (
	PollConflict     PollErrorKind = "conflict"     // somebody else polls this account: step back, alarm
	PollUnauthorized PollErrorKind = "unauthorized" // pause the account
	PollThrottled    PollErrorKind = "throttled"    // wait RetryAfter
	PollUnavailable  PollErrorKind = "unavailable"  // back off and go on
)

func (e *PollError) Error() string {
	s := "poll: " + string(e.Kind)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *PollError) Unwrap() error { return e.Err }

// Editor is a channel that can change a sent message.
type Editor interface {
	// Edit replaces the text (or caption) and inline keyboard of the message
	// whose platform ids are ids (one per part).
	Edit(ctx context.Context, chat string, ids []string, content *message.Content) error
}

// Deleter is a channel that can take a sent message back.
type Deleter interface {
	Delete(ctx context.Context, chat string, ids []string) error
}

// Forwarder is a channel with real forwards.
type Forwarder interface {
	Forward(ctx context.Context, toChat, fromChat string, ids []string) (message.Receipt, error)
}

// Typer is a channel that can show "typing...".
type Typer interface {
	Typing(ctx context.Context, chat string) error
}

// Acknowledger is a channel whose button presses want an answer at once
// (outside of the message queue); the workers call it after the update is stored.
type Acknowledger interface {
	// Acknowledge answers what raw asks to be answered; most updates ask nothing.
	Acknowledge(ctx context.Context, raw []byte) error
}

// Profiler is a channel whose updates tell too little of the customer (no name, or
// no picture where Capabilities.CustomerAvatar promises one), and whose platform
// can be asked; the workers call it outside of the message queue for customers who
// have written.
type Profiler interface {
	// Profile asks the platform about a customer by its id. Empty fields are
	// unknown, but no Avatar means that there is no picture to see. Errors are
	// *message.Error: recipient and invalid are taken for final, throttled holds
	// the account's further questions, others are tried again with the customer's
	// next message. Avatar is what Fetch takes.
	Profile(ctx context.Context, customer string) (message.Profile, error)
}

type messageIDKey struct{}

// WithMessageID tells the calls of Forwarder, whose arguments don't, which of our
// messages they are for.
func WithMessageID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, messageIDKey{}, id)
}

// MessageID is our message id, stable over attempts; "" when it isn't known. It
// serves as the base of an idempotency key, as Outbound.ID does for Send.
func MessageID(ctx context.Context) string {
	id, _ := ctx.Value(messageIDKey{}).(string)
	return id
}

// Asked is a message of ours that the platform took, and said nothing of since.
type Asked struct {
	Chat string   // the platform's key
	IDs  []string // the platform's, of all the message's parts
}

// Reporter is a channel whose platform can be asked what became of messages: a
// report that gets lost on its way is made up for. One process of the installation
// asks, hours apart and ever more rarely.
type Reporter interface {
	// Reports asks about a hundred messages at most. What it returns are the reports
	// as the platform would have sent them, with the same dedup keys; messages of
	// which nothing new is known are left out. Updates beside an error count; after
	// it the same messages are asked about again, so an answer that makes no sense
	// for one message is no error.
	Reports(ctx context.Context, messages []Asked) ([]RawUpdate, error)
}

// Keeper is a channel that needs looking after even while nobody writes: its
// platform forgets a webhook, for instance.
type Keeper interface {
	// UpkeepEvery is the time between two calls of Upkeep; one process of the
	// installation makes them, the first one soon after the account is opened.
	UpkeepEvery() time.Duration
	// Upkeep does what is due and returns updates that the platform could not
	// deliver meanwhile; those that are stored already are passed over by their
	// dedup keys. Updates beside an error count.
	Upkeep(ctx context.Context) ([]RawUpdate, error)
}
