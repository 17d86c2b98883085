package loader

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"switchboard"
	"switchboard/internal/restapi"
)

// ListCallbacks lists statuses that scripts are told, newest first.
func (a *Admin) ListCallbacks(ctx context.Context, f switchboard.CallbackFilter, limit int) ([]switchboard.CallbackDelivery, error) {
	return a.store.CallbackDeliveries(ctx, f, limit)
}

// RetryCallbacks has what was given up posted again: up to limit of the filter,
// oldest first. Addresses that said 410 Gone are turned on again by it.
func (a *Admin) RetryCallbacks(ctx context.Context, actor string, f switchboard.CallbackFilter, limit int) (int, error) {
	target := f.ID
	if target == "" {
		target = f.MessageID
	}
	var n int
	err := a.store.Audited(ctx, actor, "callbacks.retry", func(ctx context.Context) (_ string, _ any, err error) {
		n, err = a.store.RetryCallbacks(ctx, f, limit)
		return target, map[string]any{"retried": n, "api_key_id": f.APIKeyID}, err
	})
	if err != nil {
		return 0, err
	}
	a.wake("callbacks")
	return n, nil
}

type (
	callbacksInput struct {
		State     string `query:"state" enum:"pending,delivered,failed"`
		MessageID string `query:"message_id" format:"uuid"`
		APIKeyID  string `query:"api_key_id" format:"uuid"`
		URL       string `query:"url" maxLength:"2000"`
		Cursor    string `query:"cursor" format:"uuid" doc:"next_cursor of the former page"`
		Limit     int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}
	callbackPage struct {
		Items      []switchboard.CallbackDelivery `json:"items"`
		NextCursor *string                        `json:"next_cursor"`
	}
	// RetryFields picks what to retry.
	RetryFields struct {
		ID        string `json:"id,omitempty" format:"uuid"`
		MessageID string `json:"message_id,omitempty" format:"uuid"`
		APIKeyID  string `json:"api_key_id,omitempty" format:"uuid"`
		URL       string `json:"url,omitempty" maxLength:"2000"`
		Limit     int    `json:"limit,omitempty" default:"1000" minimum:"1" maximum:"10000"`
	}
	// Retried is how many are posted again.
	Retried struct {
		Retried int `json:"retried"`
	}
)

func (a *Admin) registerCallbacks(api huma.API) {
	restapi.Register(api, restapi.Admin, "GET", "/api/v1/callbacks", "listCallbacks", "Callbacks", "Statuses that scripts are told, newest first",
		func(ctx context.Context, in *callbacksInput) (*body[callbackPage], error) {
			items, err := a.ListCallbacks(ctx, switchboard.CallbackFilter{State: in.State, MessageID: in.MessageID, APIKeyID: in.APIKeyID, URL: in.URL, Before: in.Cursor}, in.Limit)
			page := callbackPage{Items: items}
			if items == nil {
				page.Items = []switchboard.CallbackDelivery{}
			}
			if len(items) == in.Limit {
				page.NextCursor = &items[len(items)-1].ID
			}
			return &body[callbackPage]{page}, err
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/callbacks/retry", "retryCallbacks", "Callbacks",
		"Post what was given up again, all or what the body picks, oldest first; turns addresses on again that said 410 Gone",
		func(ctx context.Context, in *body[RetryFields]) (*body[Retried], error) {
			f := in.Body
			n, err := a.RetryCallbacks(ctx, restapi.Principal(ctx).Name(), switchboard.CallbackFilter{ID: f.ID, MessageID: f.MessageID, APIKeyID: f.APIKeyID, URL: f.URL}, max(f.Limit, 1))
			return &body[Retried]{Retried{n}}, err
		})
}
