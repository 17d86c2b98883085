package edge

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/problem"
	"switchboard/internal/queue"
	"switchboard/internal/restapi"
	"switchboard/message"
)

// Outbox is what the send API needs of the database.
type Outbox interface {
	ChatFor(ctx context.Context, accountID string, to switchboard.Recipient) (string, error)
	FilesByID(ctx context.Context, ids []string) ([]message.File, error)
	NotePhone(ctx context.Context, chatID, phone string) error
	SendMessage(ctx context.Context, s queue.Send) (m message.Message, created bool, err error)
	SenderRules(ctx context.Context) ([]switchboard.SenderRule, error)
	HasCallbackSecret(ctx context.Context, keyID string) (has bool, err error)
	ClaimIdempotencyKey(ctx context.Context, scope, key string, request []byte) error
}

// NewMessage is a script's message.
type NewMessage struct {
	AccountID string                `json:"account_id" format:"uuid"`
	To        switchboard.Recipient `json:"to"`
	Kind      message.Kind          `json:"kind,omitempty" default:"text" enum:"text,image,video,audio,voice,sticker,document,contact,location,template"`
	Text      string                `json:"text,omitempty" maxLength:"65536"`
	Files     []string              `json:"files,omitempty" nullable:"false" maxItems:"20" doc:"ids of uploaded files"`
	Contact   *message.Contact      `json:"contact,omitempty"`
	Location  *message.Location     `json:"location,omitempty"`
	Keyboard  *message.Keyboard     `json:"keyboard,omitempty"`
	Template  *message.Template     `json:"template,omitempty"`
	TTL       string                `json:"ttl,omitempty" doc:"how long it may wait, like 24h" maxLength:"20"`
	Priority  string                `json:"priority,omitempty" enum:"high,normal,low" default:"normal"`

	TrafficClass string               `json:"traffic_class,omitempty" enum:"marketing,service,transactional" doc:"for the rules of the sender's name; default: service"`
	Sender       string               `json:"sender,omitempty" maxLength:"100" doc:"the sender's name, where the channel shows one; default: the account's. Rules may put another in its place"`
	Schedule     *MessageSchedule     `json:"schedule,omitempty"`
	FrequencyCap *MessageFrequencyCap `json:"frequency_cap,omitempty" doc:"refuses the message (frequency_capped) when the recipient got that many lately, of scripts and campaigns"`
	StopLists    []string             `json:"stop_lists,omitempty" nullable:"false" maxItems:"20" doc:"lists of addresses that are not written to (suppressed), besides the global one and the account's"`
	CallbackURL  string               `json:"callback_url,omitempty" maxLength:"2000" doc:"is told what becomes of the message, see docs/callbacks.md"`
}

// MessageSchedule is when a single message may leave.
type MessageSchedule struct {
	StartAt    *time.Time         `json:"start_at,omitempty" doc:"it waits until then, 90 days at most; its time to live runs from then"`
	StopAt     *time.Time         `json:"stop_at,omitempty" doc:"what was not sent by then expires"`
	QuietHours *MessageQuietHours `json:"quiet_hours,omitempty" doc:"when it would leave in these hours, it waits for their end"`
	Timezone   string             `json:"timezone,omitempty" maxLength:"64" doc:"of the quiet hours, like Europe/Moscow; default: UTC"`
}

// MessageQuietHours are from From until To, over midnight when To is the smaller one.
type MessageQuietHours struct {
	From string `json:"from" doc:"like 21:00" maxLength:"5"`
	To   string `json:"to" doc:"like 09:00" maxLength:"5"`
}

// MessageFrequencyCap is how many messages a recipient may get in a time.
type MessageFrequencyCap struct {
	Count int    `json:"count" minimum:"1" maximum:"1000"`
	Per   string `json:"per" maxLength:"20" doc:"like 24h"`
}

// Accepted is the answer: the message is stored and will be sent or fail visibly.
type Accepted struct {
	ID     string         `json:"id"`
	Status message.Status `json:"status"`
}

type sendInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"100" doc:"the same key again answers with the first message"`
	Body           NewMessage
}

type sendOutput struct{ Body Accepted }

// Register adds POST /api/v1/messages to api.
func (e *Edge) Register(api huma.API, outbox Outbox) {
	restapi.Register(api, restapi.APIKey, http.MethodPost, "/api/v1/messages", "sendMessage", "Messages", "Send one message",
		func(ctx context.Context, in *sendInput) (*sendOutput, error) { return e.send(ctx, outbox, in) },
		func(op *huma.Operation) {
			op.DefaultStatus = http.StatusAccepted
			op.Errors = append(op.Errors, http.StatusConflict, http.StatusTooManyRequests)
		})
}

func unprocessable(code, format string, args ...any) error {
	return problem.New(http.StatusUnprocessableEntity, code, fmt.Sprintf(format, args...))
}

func (e *Edge) send(ctx context.Context, outbox Outbox, in *sendInput) (*sendOutput, error) {
	m := &in.Body
	set := 0
	for _, v := range []string{m.To.ChatID, m.To.CustomerID, m.To.ExternalID, m.To.Phone} {
		if v != "" {
			set++
		}
	}
	if set != 1 {
		return nil, unprocessable("invalid", "to needs exactly one of chat_id, customer_id, external_id, phone")
	}
	account, err := e.acc.Get(ctx, m.AccountID)
	if errors.Is(err, channels.ErrNoAccount) {
		return nil, unprocessable("invalid", "account_id %s: no such account", m.AccountID)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", switchboard.ErrUnavailable, err)
	}
	ttl := account.TTL
	if m.TTL != "" {
		if ttl, err = time.ParseDuration(m.TTL); err != nil || ttl < time.Second || ttl > 14*24*time.Hour {
			return nil, unprocessable("invalid", "ttl %q: use a duration from 1s to 336h, like 24h", m.TTL)
		}
	}
	content := message.Content{Kind: m.Kind, Text: m.Text, Contact: m.Contact, Location: m.Location, Keyboard: m.Keyboard, Template: m.Template}
	if content.Kind == "" {
		content.Kind = message.KindText
	}
	if content.Files, err = e.files(ctx, outbox, content.Kind, m.Files); err != nil {
		return nil, err
	}
	if err := account.Check(&content, false, m.To.ExternalID); err != nil {
		if refusal, ok := errors.AsType[*message.Refusal](err); ok {
			return nil, unprocessable(string(refusal.Code), "%s", refusal.Detail)
		}
		return nil, err
	}
	chatID, err := outbox.ChatFor(ctx, m.AccountID, m.To)
	if errors.Is(err, switchboard.ErrNotFound) && m.To.Phone != "" && account.Capabilities.StartByPhone {
		// The platform's own ids are phone numbers, as for chat.start.
		address := strings.TrimPrefix(m.To.Phone, "+")
		if err := account.CheckChat(address); err != nil {
			return nil, unprocessable("invalid", "to.phone: %s", err)
		}
		if chatID, err = outbox.ChatFor(ctx, m.AccountID, switchboard.Recipient{ExternalID: address}); err == nil {
			err = outbox.NotePhone(ctx, chatID, "+"+address)
		}
	}
	if errors.Is(err, switchboard.ErrNotFound) {
		return nil, unprocessable("unknown_recipient", "nobody is known by this chat_id, customer_id or phone at the account")
	}
	if err != nil {
		return nil, err
	}
	key := restapi.Principal(ctx)
	s := queue.Send{ChatID: chatID, Content: content, TTL: ttl, Sender: message.Sender{Kind: message.SenderAPI, ID: key.APIKeyID}, Priority: queue.PriorityAPI}
	if err := e.options(ctx, outbox, m, account, &s); err != nil {
		return nil, err
	}
	if m.Priority == "high" {
		s.Priority = queue.PriorityConversation
	}
	if in.IdempotencyKey != "" {
		request, err := json.Marshal(in.Body)
		if err != nil {
			return nil, fmt.Errorf("hashing the request: %w", err)
		}
		sum := sha256.Sum256(request)
		if err := outbox.ClaimIdempotencyKey(ctx, key.APIKeyID, in.IdempotencyKey, sum[:]); err != nil {
			return nil, err
		}
		s.ClientID = new("key:" + key.APIKeyID + ":" + in.IdempotencyKey)
	}
	s.Daily = key.Limits.Daily
	sent, created, err := outbox.SendMessage(ctx, s)
	if refused := refusal(err); refused != nil {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	e.bus.Wake("events")
	status := message.StatusQueued // a worker may have it already
	if !created {
		status = sent.Status
	}
	return &sendOutput{Accepted{sent.ID, status}}, nil
}

func (e *Edge) files(ctx context.Context, outbox Outbox, kind message.Kind, ids []string) ([]message.File, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	found, err := outbox.FilesByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]message.File, len(found))
	for _, f := range found {
		byID[f.ID] = f
	}
	files := make([]message.File, len(ids))
	for i, id := range ids {
		f, ok := byID[id]
		if !ok || f.State != message.FileReady {
			return nil, unprocessable("invalid", "files: %s is not an uploaded file", id)
		}
		f.Kind = kind.FileKind(f.Mime)
		files[i] = f
	}
	return files, nil
}
