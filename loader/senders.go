package loader

import (
	"context"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"switchboard"
	"switchboard/internal/restapi"
)

// SenderRules lists the rules in their order.
func (a *Admin) SenderRules(ctx context.Context) ([]switchboard.SenderRule, error) {
	return a.store.SenderRules(ctx)
}

func (a *Admin) checkRule(ctx context.Context, r switchboard.SenderRule) error {
	switch {
	case strings.TrimSpace(r.Sender) == "" || len(r.Sender) > 100:
		return invalid("sender %q: use 1 to 100 characters", r.Sender)
	case len(r.Pattern) > 100:
		return invalid("pattern: use 100 characters at most, * for any text")
	}
	if r.Platform != "" {
		if _, ok := a.accounts.Platform(r.Platform); !ok {
			return invalid("platform %q: no such platform", r.Platform)
		}
	}
	if r.AccountID != nil {
		if _, err := a.store.Account(ctx, *r.AccountID); err != nil {
			return invalid("account_id %s: no such account", *r.AccountID)
		}
	}
	return nil
}

// AddSenderRule stores a rule.
func (a *Admin) AddSenderRule(ctx context.Context, actor string, r switchboard.SenderRule) (switchboard.SenderRule, error) {
	if r.Pattern == "" {
		r.Pattern = "*"
	}
	if err := a.checkRule(ctx, r); err != nil {
		return r, err
	}
	var added switchboard.SenderRule
	err := a.store.Audited(ctx, actor, "senderrule.add", func(ctx context.Context) (_ string, _ any, err error) {
		added, err = a.store.AddSenderRule(ctx, r)
		return added.ID, switchboard.Change{After: added}, err
	})
	return added, err
}

// SetSenderRule replaces the rule with r's id.
func (a *Admin) SetSenderRule(ctx context.Context, actor string, r switchboard.SenderRule) (switchboard.SenderRule, error) {
	if r.Pattern == "" {
		r.Pattern = "*"
	}
	if err := a.checkRule(ctx, r); err != nil {
		return r, err
	}
	err := a.store.Audited(ctx, actor, "senderrule.set", func(ctx context.Context) (string, any, error) {
		before, err := a.store.SetSenderRule(ctx, r)
		r.CreatedAt = before.CreatedAt
		return r.ID, switchboard.Change{Before: before, After: r}, err
	})
	return r, err
}

// RemoveSenderRule removes a rule.
func (a *Admin) RemoveSenderRule(ctx context.Context, actor, id string) error {
	return a.store.Audited(ctx, actor, "senderrule.remove", func(ctx context.Context) (string, any, error) {
		before, err := a.store.RemoveSenderRule(ctx, id)
		return id, switchboard.Change{Before: before}, err
	})
}

// SenderRuleFields is a rule to be stored.
type SenderRuleFields struct {
	Position     int    `json:"position" minimum:"0" maximum:"1000000" doc:"of the rules that fit, the one with the lowest holds"`
	AccountID    string `json:"account_id,omitempty" format:"uuid" doc:"none: any account"`
	Platform     string `json:"platform,omitempty" maxLength:"50" doc:"none: any platform"`
	TrafficClass string `json:"traffic_class,omitempty" enum:"marketing,service,transactional" doc:"none: any class"`
	Pattern      string `json:"pattern,omitempty" maxLength:"100" default:"*" doc:"of the sender's name that was asked for, or else the account's, in any case; * stands for any text"`
	Sender       string `json:"sender" minLength:"1" maxLength:"100" doc:"the name to send with instead"`
}

func (f SenderRuleFields) rule(id string) switchboard.SenderRule {
	r := switchboard.SenderRule{ID: id, Position: f.Position, Platform: f.Platform, TrafficClass: f.TrafficClass, Pattern: f.Pattern, Sender: f.Sender}
	if f.AccountID != "" {
		r.AccountID = &f.AccountID
	}
	return r
}

func (a *Admin) registerSenders(api huma.API) {
	actor := func(ctx context.Context) string { return restapi.Principal(ctx).Name() }
	restapi.Register(api, restapi.Admin, "GET", "/api/v1/sender-rules", "listSenderRules", "Senders", "Rules of the sender's name, in their order",
		func(ctx context.Context, _ *nothing) (*body[list[switchboard.SenderRule]], error) {
			return listOf(a.SenderRules(ctx))
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/sender-rules", "addSenderRule", "Senders", "Add a rule; it holds within seconds",
		func(ctx context.Context, in *body[SenderRuleFields]) (*body[switchboard.SenderRule], error) {
			r, err := a.AddSenderRule(ctx, actor(ctx), in.Body.rule(""))
			return &body[switchboard.SenderRule]{r}, err
		}, created)
	restapi.Register(api, restapi.Admin, "PUT", "/api/v1/sender-rules/{id}", "setSenderRule", "Senders", "Replace a rule",
		func(ctx context.Context, in *struct {
			ID   string `path:"id" format:"uuid"`
			Body SenderRuleFields
		}) (*body[switchboard.SenderRule], error) {
			r, err := a.SetSenderRule(ctx, actor(ctx), in.Body.rule(in.ID))
			return &body[switchboard.SenderRule]{r}, err
		})
	restapi.Register(api, restapi.Admin, "DELETE", "/api/v1/sender-rules/{id}", "removeSenderRule", "Senders", "Remove a rule",
		func(ctx context.Context, in *idInput) (*nothing, error) {
			return nil, a.RemoveSenderRule(ctx, actor(ctx), in.ID)
		})
}
