// Package loader is the read side and administration over REST: which chats
// there were in a period, what was said, what became of a message; and the
// accounts, operators and keys that an admin looks after.
package loader

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/problem"
	"switchboard/internal/restapi"
	"switchboard/message"
)

// Store is what the loader reads.
type Store interface {
	FindChats(ctx context.Context, q switchboard.ChatQuery) ([]switchboard.ChatHit, error)
	Chat(ctx context.Context, id string) (switchboard.Chat, error)
	History(ctx context.Context, chatID string, after, before int64, fromStart bool, limit int) ([]message.Message, error)
	Message(ctx context.Context, id string) (message.Message, error)
	Timeline(ctx context.Context, id string) ([]switchboard.TimelineEntry, error)
	FindCustomers(ctx context.Context, phone string) ([]switchboard.PhoneEntry, error)
	Reports
}

// Accounts gives opened channels; *channels.Registry is one.
type Accounts interface {
	Get(ctx context.Context, accountID string) (*channels.Opened, error)
	Open(a channels.Account) (*channels.Opened, error)
	Platform(name string) (channels.Platform, bool)
}

// Loader is the role.
type Loader struct {
	store    Store
	accounts Accounts
	admin    *Admin
	reports  *reporter
	log      *slog.Logger
}

// New returns a loader that makes up to reportsAtOnce reports at a time.
func New(store Store, accounts Accounts, admin *Admin, reportsAtOnce int, log *slog.Logger) *Loader {
	reports := &reporter{reports: store, admin: admin, slots: make(chan struct{}, reportsAtOnce)}
	return &Loader{store: store, accounts: accounts, admin: admin, reports: reports, log: log}
}

type chatsInput struct {
	From       time.Time `query:"from" doc:"customers' messages from here on"`
	To         time.Time `query:"to" doc:"and before here"`
	Platform   string    `query:"platform" maxLength:"32"`
	AccountID  string    `query:"account_id" format:"uuid"`
	OperatorID string    `query:"operator_id" format:"uuid"`
	State      string    `query:"state" enum:"new,offered,open,closed"`
	Limit      int       `query:"limit" default:"50" minimum:"1" maximum:"200"`
	Cursor     string    `query:"cursor" doc:"next_cursor of the former page" maxLength:"200"`
}

// ChatPage is a page of chats.
type ChatPage struct {
	Items      []switchboard.Chat `json:"items"`
	NextCursor *string            `json:"next_cursor" doc:"null on the last page"`
}

// MessagePage is a page of messages, oldest first.
type MessagePage struct {
	Items      []message.Message `json:"items"`
	NextCursor *string           `json:"next_cursor" doc:"seq to go on from, as before_seq (or after_seq when that was given); null at the end"`
}

// MessageDetail is a message with what happened to it.
type MessageDetail struct {
	message.Message
	Timeline []switchboard.TimelineEntry `json:"timeline"`
}

type body[T any] struct{ Body T }

type chatInput struct {
	ID string `path:"id" format:"uuid"`
}

// Register adds the operations to api.
func (l *Loader) Register(api huma.API) {
	restapi.Register(api, restapi.Any, http.MethodGet, "/api/v1/chats", "listChats", "History",
		"Chats in which the customer wrote in a period, by their last message in it, newest first", l.listChats)
	restapi.Register(api, restapi.Any, http.MethodGet, "/api/v1/chats/{id}", "getChat", "History", "One chat", l.getChat)
	restapi.Register(api, restapi.Any, http.MethodGet, "/api/v1/chats/{id}/messages", "listMessages", "History",
		"A chat's messages, oldest first; the newest ones unless after_seq is given", l.listMessages)
	restapi.Register(api, restapi.Any, http.MethodGet, "/api/v1/messages/{id}", "getMessage", "History", "A message with its timeline", l.getMessage)
	restapi.Register(api, restapi.APIKey, http.MethodDelete, "/api/v1/messages/{id}", "cancelMessage", "Messages", "Take back a message of this key that has not left yet",
		func(ctx context.Context, in *chatInput) (*nothing, error) {
			if err := l.admin.store.CancelMessage(ctx, in.ID, restapi.Principal(ctx).APIKeyID); err != nil {
				return nil, err
			}
			l.admin.wake("events")
			return nil, nil
		}, taken)
	restapi.Register(api, restapi.Supervisor, http.MethodGet, "/api/v1/customers", "findCustomers", "History", "Search the phone book", l.findCustomers)
	restapi.Register(api, restapi.Any, http.MethodGet, "/api/v1/accounts/{id}/capabilities", "getCapabilities", "Accounts",
		"What an account can send and receive, with its limits", l.capabilities)
	l.reports.register(api)
	l.admin.register(api, l)
}

// mayRead is the rule of who reads which chat: operators their own and those in
// the queue, everybody else all. What may not be read does not exist.
func mayRead(ctx context.Context, c switchboard.Chat) error {
	if o := restapi.Principal(ctx).Operator; o != nil && !o.MaySee(c) {
		return fmt.Errorf("chat %s: %w", c.ID, switchboard.ErrNotFound)
	}
	return nil
}

func (l *Loader) listChats(ctx context.Context, in *chatsInput) (*body[ChatPage], error) {
	q := switchboard.ChatQuery{From: in.From, To: in.To, Platform: in.Platform, AccountID: in.AccountID, OperatorID: in.OperatorID,
		State: switchboard.ChatState(in.State), Limit: in.Limit + 1}
	if !in.From.IsZero() && !in.To.IsZero() && !in.From.Before(in.To) {
		return nil, problem.New(http.StatusUnprocessableEntity, "invalid", "from must be before to")
	}
	if o := restapi.Principal(ctx).Operator; o != nil && !o.Role.AtLeast(switchboard.RoleSupervisor) {
		q.VisibleTo = o.ID
	}
	if in.Cursor != "" {
		var err error
		if q.Before, q.BeforeID, err = parseCursor(in.Cursor); err != nil {
			return nil, problem.New(http.StatusUnprocessableEntity, "invalid", "cursor: use the next_cursor of a page of the same query")
		}
	}
	hits, err := l.store.FindChats(ctx, q)
	if err != nil {
		return nil, err
	}
	page := ChatPage{Items: make([]switchboard.Chat, 0, len(hits))}
	for i, h := range hits {
		if i == in.Limit {
			last := hits[i-1]
			page.NextCursor = new(cursorOf(last.At, last.ID))
			break
		}
		page.Items = append(page.Items, h.Chat)
	}
	return &body[ChatPage]{page}, nil
}

func cursorOf(at time.Time, id string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(at.UTC().Format(time.RFC3339Nano) + "|" + id))
}

func parseCursor(cursor string) (at time.Time, id string, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return at, "", err
	}
	when, id, ok := strings.Cut(string(text), "|")
	if !ok {
		return at, "", errors.New("no separator")
	}
	if _, err := uuid.Parse(id); err != nil {
		return at, "", err
	}
	at, err = time.Parse(time.RFC3339Nano, when)
	return at, id, err
}

func (l *Loader) getChat(ctx context.Context, in *chatInput) (*body[switchboard.Chat], error) {
	c, err := l.store.Chat(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := mayRead(ctx, c); err != nil {
		return nil, err
	}
	return &body[switchboard.Chat]{c}, nil
}

type messagesInput struct {
	ID        string `path:"id" format:"uuid"`
	AfterSeq  int64  `query:"after_seq" minimum:"-1" default:"-1" doc:"only messages above this seq, oldest first from there"`
	BeforeSeq int64  `query:"before_seq" minimum:"1" doc:"only messages below this seq"`
	Limit     int    `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

func (l *Loader) listMessages(ctx context.Context, in *messagesInput) (*body[MessagePage], error) {
	c, err := l.store.Chat(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := mayRead(ctx, c); err != nil {
		return nil, err
	}
	fromStart := in.AfterSeq >= 0
	list, err := l.store.History(ctx, in.ID, max(in.AfterSeq, 0), in.BeforeSeq, fromStart, in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := MessagePage{Items: list}
	if len(list) > in.Limit {
		if fromStart {
			page.Items = list[:in.Limit]
			page.NextCursor = new(fmt.Sprint(page.Items[in.Limit-1].Seq))
		} else {
			page.Items = list[1:]
			page.NextCursor = new(fmt.Sprint(page.Items[0].Seq))
		}
	}
	if page.Items == nil {
		page.Items = []message.Message{}
	}
	return &body[MessagePage]{page}, nil
}

func (l *Loader) getMessage(ctx context.Context, in *chatInput) (*body[MessageDetail], error) {
	m, err := l.store.Message(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	c, err := l.store.Chat(ctx, m.ChatID)
	if err != nil {
		return nil, err
	}
	if err := mayRead(ctx, c); err != nil {
		return nil, err
	}
	timeline, err := l.store.Timeline(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &body[MessageDetail]{MessageDetail{m, timeline}}, nil
}

type customersInput struct {
	Phone string `query:"phone" required:"true" pattern:"^\\+?[0-9]{5,15}$" doc:"E.164; the plus sign may be left out"`
}

// CustomerList is what the phone book knows of a number.
type CustomerList struct {
	Items []switchboard.PhoneEntry `json:"items"`
}

func (l *Loader) findCustomers(ctx context.Context, in *customersInput) (*body[CustomerList], error) {
	list, err := l.store.FindCustomers(ctx, "+"+strings.TrimPrefix(in.Phone, "+"))
	if err != nil {
		return nil, err
	}
	if list == nil {
		list = []switchboard.PhoneEntry{}
	}
	return &body[CustomerList]{CustomerList{list}}, nil
}

func (l *Loader) capabilities(ctx context.Context, in *chatInput) (*body[message.Capabilities], error) {
	o, err := l.accounts.Get(ctx, in.ID)
	if errors.Is(err, channels.ErrNoAccount) {
		return nil, fmt.Errorf("account %s: %w", in.ID, switchboard.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return &body[message.Capabilities]{o.Capabilities}, nil
}
