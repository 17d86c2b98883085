package loader

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/internal/restapi"
	"switchboard/message"
)

// repairBatch is how many updates are replayed in one transaction, which has its entry
// in the audit journal; resendBatch, how many messages are sent again in one: their chats
// are locked meanwhile, and the operators' stream waits for them, some 0.2 s.
const (
	repairBatch = 500
	resendBatch = 100
)

// errNothingLeft undoes a transaction that found nothing more to do.
var errNothingLeft = errors.New("nothing left")

// ListQuarantine lists updates that were set aside, newest first.
func (a *Admin) ListQuarantine(ctx context.Context, f switchboard.QuarantineFilter, limit int) ([]switchboard.Quarantined, error) {
	return a.store.Quarantine(ctx, f, limit)
}

// Replay has updates decoded again after a fix, in the order in which they came:
// those that are in quarantine now, so that none is replayed for ever. Each batch has
// an entry in the journal.
func (a *Admin) Replay(ctx context.Context, actor string, f switchboard.QuarantineFilter) (replayed int, err error) {
	newest, err := a.store.Quarantine(ctx, f, 1)
	if err != nil || (len(newest) == 0 && f.ID != "") {
		return 0, err
	}
	if len(newest) == 0 {
		newest = []switchboard.Quarantined{{ID: "00000000-0000-0000-0000-000000000000"}}
	}
	target := f.ID
	if target == "" {
		target = f.AccountID
	}
	for {
		var n int
		err := a.store.Audited(ctx, actor, "quarantine.replay", func(ctx context.Context) (_ string, _ any, err error) {
			if n, err = a.store.Replay(ctx, f, newest[0].ID, repairBatch); err == nil && n == 0 && replayed > 0 {
				err = errNothingLeft
			}
			return target, map[string]any{"replayed": n, "error": f.Error, "account_id": f.AccountID}, err
		})
		if errors.Is(err, errNothingLeft) {
			return replayed, nil
		}
		if err != nil {
			return replayed, err
		}
		if replayed += n; n > 0 {
			a.wake("lanes")
		}
		if n < repairBatch {
			return replayed, nil
		}
	}
}

// Resent is what came of sending failed messages again.
type Resent struct {
	Matched int               `json:"matched" doc:"failed and expired messages that the filter picks"`
	Resent  int               `json:"resent"`
	Skipped map[string]string `json:"skipped" doc:"ids of messages that can't be sent, with the reason"`
	Next    string            `json:"next,omitempty" doc:"set when more may follow: the next call's after"`
}

// Resend sends up to limit messages that failed or expired again, oldest first,
// each as a new message at the end of its chat: the platform may have the first
// one's id, and the chat's history stays true. A message is sent again once; if
// that fails, the new one is there to be sent again. With dryRun nothing is sent.
// Each batch has an entry in the journal.
func (a *Admin) Resend(ctx context.Context, actor string, f switchboard.FailedFilter, limit int, dryRun bool) (Resent, error) {
	r := Resent{Skipped: map[string]string{}}
	for r.Matched < limit {
		batch := min(resendBatch, limit-r.Matched)
		list, err := a.store.FailedMessages(ctx, f, batch)
		if err != nil {
			return r, err
		}
		if len(list) == 0 && r.Matched > 0 {
			break
		}
		var resent int
		var skipped map[string]string
		if dryRun {
			resent, skipped, err = a.resendAll(ctx, list, true)
		} else {
			err = a.store.Audited(ctx, actor, "messages.resend", func(ctx context.Context) (_ string, _ any, err error) {
				resent, skipped, err = a.resendAll(ctx, list, false)
				return f.AccountID, map[string]any{"resent": resent, "skipped": len(skipped), "chat_id": f.ChatID, "from": f.From, "to": f.To, "error_kind": f.ErrorKind, "error_code": f.ErrorCode}, err
			})
		}
		if err != nil {
			return r, err
		}
		if resent > 0 && !dryRun {
			a.wake("events")
		}
		r.Matched, r.Resent = r.Matched+len(list), r.Resent+resent
		maps.Copy(r.Skipped, skipped)
		if len(list) < batch {
			break
		}
		f.After = list[len(list)-1].ID
		r.Next = f.After
	}
	if r.Matched < limit {
		r.Next = ""
	}
	return r, nil
}

// resendAll sends what it can of a batch.
func (a *Admin) resendAll(ctx context.Context, list []message.Message, dryRun bool) (resent int, skipped map[string]string, err error) {
	skipped = map[string]string{}
	// Chats are locked in the order of their ids, as everywhere; inside a chat the
	// order stays.
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b message.Message) int { return strings.Compare(a.ChatID, b.ChatID) })
	for i := range list {
		if err := a.resend(ctx, &list[i], dryRun); err != nil {
			reason, skip := unsendable(err)
			if !skip {
				return 0, nil, err
			}
			skipped[list[i].ID] = reason
			continue
		}
		resent++
	}
	return resent, skipped, nil
}

// unsendable tells what speaks against one message from what speaks against all.
func unsendable(err error) (reason string, ok bool) {
	if refusal, ok := errors.AsType[*message.Refusal](err); ok {
		return refusal.Detail, true
	}
	if errors.Is(err, channels.ErrNoAccount) {
		return "the account was removed", true
	}
	if errors.Is(err, switchboard.ErrNotFound) || errors.Is(err, switchboard.ErrConflict) {
		return switchboard.Reason(err), true
	}
	return "", false
}

func (a *Admin) resend(ctx context.Context, m *message.Message, dryRun bool) error {
	account, err := a.accounts.Get(ctx, m.AccountID)
	if err != nil {
		return fmt.Errorf("account %s: %w", m.AccountID, err)
	}
	if err := account.Check(&m.Content, m.ReplyTo != nil, ""); err != nil || dryRun {
		return err
	}
	priority := queue.PriorityAPI
	switch m.Sender.Kind {
	case message.SenderOperator:
		priority = queue.PriorityConversation
	case message.SenderCampaign:
		priority = queue.PriorityCampaign
	}
	_, _, err = a.store.SendMessage(ctx, queue.Send{
		ChatID: m.ChatID, Content: m.Content, ReplyTo: m.ReplyTo, ClientID: new("again:" + m.ID), Sender: m.Sender, TTL: account.TTL, Priority: priority,
	})
	return err
}

type (
	quarantineInput struct {
		AccountID string `query:"account_id" format:"uuid"`
		Error     string `query:"error" maxLength:"200" doc:"a part of the error's text"`
		Cursor    string `query:"cursor" format:"uuid" doc:"next_cursor of the former page"`
		Limit     int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}
	quarantinePage struct {
		Items      []switchboard.Quarantined `json:"items"`
		NextCursor *string                   `json:"next_cursor"`
	}
	ReplayFields struct {
		AccountID string `json:"account_id,omitempty" format:"uuid"`
		Error     string `json:"error,omitempty" maxLength:"200" doc:"a part of the error's text"`
	}
	Replayed struct {
		Replayed int `json:"replayed"`
	}
	ResendFields struct {
		AccountID string     `json:"account_id,omitempty" format:"uuid"`
		ChatID    string     `json:"chat_id,omitempty" format:"uuid"`
		From      *time.Time `json:"from,omitempty" doc:"made at or after"`
		To        *time.Time `json:"to,omitempty" doc:"made before"`
		ErrorKind string     `json:"error_kind,omitempty" maxLength:"50" doc:"as in the message's error: recipient, invalid, uncertain, expired, ..."`
		ErrorCode string     `json:"error_code,omitempty" maxLength:"100" doc:"the platform's"`
		After     string     `json:"after,omitempty" format:"uuid" doc:"next of the former call"`
		Limit     int        `json:"limit,omitempty" default:"100" minimum:"1" maximum:"1000"`
		DryRun    bool       `json:"dry_run,omitempty" doc:"only tell what would be sent"`
	}
)

func (a *Admin) registerRepair(api huma.API) {
	actor := func(ctx context.Context) string { return restapi.Principal(ctx).Name() }
	restapi.Register(api, restapi.Admin, "GET", "/api/v1/quarantine", "listQuarantine", "Repair", "Updates that could not be decoded or stored, newest first",
		func(ctx context.Context, in *quarantineInput) (*body[quarantinePage], error) {
			items, err := a.ListQuarantine(ctx, switchboard.QuarantineFilter{AccountID: in.AccountID, Error: in.Error, Before: in.Cursor}, in.Limit)
			page := quarantinePage{Items: items}
			if items == nil {
				page.Items = []switchboard.Quarantined{}
			}
			if len(items) == in.Limit {
				page.NextCursor = &items[len(items)-1].ID
			}
			return &body[quarantinePage]{page}, err
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/quarantine/replay", "replayUpdates", "Repair", "Decode all updates in quarantine, or those of a filter, again, after a fix",
		func(ctx context.Context, in *body[ReplayFields]) (*body[Replayed], error) {
			n, err := a.Replay(ctx, actor(ctx), switchboard.QuarantineFilter{AccountID: in.Body.AccountID, Error: in.Body.Error})
			return &body[Replayed]{Replayed{n}}, err
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/quarantine/{id}/replay", "replayUpdate", "Repair", "Decode an update again, after a fix",
		func(ctx context.Context, in *idInput) (*nothing, error) {
			n, err := a.Replay(ctx, actor(ctx), switchboard.QuarantineFilter{ID: in.ID})
			if err == nil && n == 0 {
				err = fmt.Errorf("quarantined update %s: %w", in.ID, switchboard.ErrNotFound)
			}
			return nil, err
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/messages/resend", "resendMessages", "Repair", "Send messages that failed or expired again, each once and as a new message, oldest first",
		func(ctx context.Context, in *body[ResendFields]) (*body[Resent], error) {
			f := switchboard.FailedFilter{AccountID: in.Body.AccountID, ChatID: in.Body.ChatID, From: in.Body.From, To: in.Body.To,
				ErrorKind: in.Body.ErrorKind, ErrorCode: in.Body.ErrorCode, After: in.Body.After}
			r, err := a.Resend(ctx, actor(ctx), f, max(in.Body.Limit, 1), in.Body.DryRun)
			return &body[Resent]{r}, err
		})
}
