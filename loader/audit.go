package loader

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"switchboard"
	"switchboard/internal/restapi"
)

// AuditLog lists who did what, newest first.
func (a *Admin) AuditLog(ctx context.Context, f switchboard.AuditFilter, limit int) ([]switchboard.AuditEntry, error) {
	return a.store.AuditLog(ctx, f, limit)
}

type (
	auditInput struct {
		Actor  string    `query:"actor" maxLength:"200" doc:"like operator:<id>, apikey:<id>, command line, system"`
		Action string    `query:"action" maxLength:"100" doc:"like account.set, or account.* for all of accounts"`
		Target string    `query:"target" maxLength:"200" doc:"id of what was acted on"`
		From   time.Time `query:"from"`
		To     time.Time `query:"to" doc:"exclusive"`
		Before int64     `query:"before" minimum:"0" doc:"next_before of the former page"`
		Limit  int       `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	}
	// AuditPage is a page of the journal.
	AuditPage struct {
		Items      []switchboard.AuditEntry `json:"items"`
		NextBefore *int64                   `json:"next_before" doc:"null on the last page"`
	}
)

func (a *Admin) registerAudit(api huma.API) {
	restapi.Register(api, restapi.Admin, "GET", "/api/v1/audit", "listAudit", "Audit", "Who did what, newest first",
		func(ctx context.Context, in *auditInput) (*body[AuditPage], error) {
			f := switchboard.AuditFilter{Actor: in.Actor, Action: in.Action, Target: in.Target, Before: in.Before}
			if !in.From.IsZero() {
				f.From = &in.From
			}
			if !in.To.IsZero() {
				f.To = &in.To
			}
			items, err := a.AuditLog(ctx, f, in.Limit+1)
			page := AuditPage{Items: items}
			if items == nil {
				page.Items = []switchboard.AuditEntry{}
			}
			if len(items) > in.Limit {
				page.Items = items[:in.Limit]
				page.NextBefore = &page.Items[in.Limit-1].ID
			}
			return &body[AuditPage]{page}, err
		})
}
