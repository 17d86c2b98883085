package loader

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"switchboard"
	"switchboard/internal/problem"
	"switchboard/internal/restapi"
)

// Stops is what stop-lists need of the database.
type Stops interface {
	StopLists(ctx context.Context) ([]switchboard.StopList, error)
	StopEntries(ctx context.Context, list string, after *switchboard.StopEntry, limit int) ([]switchboard.StopEntry, error)
	AddStops(ctx context.Context, actor, list string, entries []switchboard.StopEntry) (added int64, err error)
	RemoveStops(ctx context.Context, actor, list string, entries []switchboard.StopEntry) (removed int64, err error)
}

var (
	stopListName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.:-]{0,63}$`)
	e164         = regexp.MustCompile(`^\+[1-9][0-9]{4,14}$`)
)

// checkStops tells what is wrong with entries, and brings phones into one form.
func (a *Admin) checkStops(list string, entries []switchboard.StopEntry) error {
	if !stopListName.MatchString(list) {
		return invalid("list %q: a name is 1 to 64 of a-z, 0-9, _ . : -, and begins with a letter or digit", list)
	}
	if id, ok := strings.CutPrefix(list, "account:"); ok && uuid.Validate(id) != nil {
		return invalid("list %q: account: is followed by an account's id", list)
	}
	if len(entries) == 0 {
		return invalid("entries: give at least one")
	}
	for i := range entries {
		e := &entries[i]
		set := 0
		for _, v := range []string{e.CustomerID, e.ExternalID, e.Phone} {
			if v != "" {
				set++
			}
		}
		if set != 1 {
			return invalid("entry %d: give exactly one of customer_id, external_id, phone", i+1)
		}
		if e.CustomerID != "" && uuid.Validate(e.CustomerID) != nil {
			return invalid("entry %d: customer_id %q is no id", i+1, e.CustomerID)
		}
		if e.Phone != "" {
			if e.Phone = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "").Replace(e.Phone); !e164.MatchString(e.Phone) {
				return invalid("entry %d: use a phone in the form +79001234567", i+1)
			}
		}
	}
	return nil
}

// AddStops puts addresses on a list.
func (a *Admin) AddStops(ctx context.Context, actor, list string, entries []switchboard.StopEntry) (int64, error) {
	if err := a.checkStops(list, entries); err != nil {
		return 0, err
	}
	return a.store.AddStops(ctx, actor, list, entries)
}

// RemoveStops takes addresses off a list.
func (a *Admin) RemoveStops(ctx context.Context, actor, list string, entries []switchboard.StopEntry) (int64, error) {
	if err := a.checkStops(list, entries); err != nil {
		return 0, err
	}
	return a.store.RemoveStops(ctx, actor, list, entries)
}

type (
	// StopAddress is an address to be put on a list, or taken off.
	StopAddress struct {
		CustomerID string `json:"customer_id,omitempty" format:"uuid"`
		ExternalID string `json:"external_id,omitempty" maxLength:"200" doc:"the platform's id"`
		Phone      string `json:"phone,omitempty" maxLength:"30" doc:"E.164"`
		Reason     string `json:"reason,omitempty" maxLength:"200"`
	}
	// StopFields are addresses.
	StopFields struct {
		Entries []StopAddress `json:"entries" nullable:"false" minItems:"1" maxItems:"10000"`
	}
	// StopChange is how many addresses a call changed.
	StopChange struct {
		Changed int64 `json:"changed" doc:"that were not on the list, or were; the others are as they were"`
	}
	stopPage struct {
		Items      []switchboard.StopEntry `json:"items"`
		NextCursor *string                 `json:"next_cursor"`
	}
	stopsInput struct {
		List   string `path:"list" maxLength:"64"`
		Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"10000"`
		Cursor string `query:"cursor" maxLength:"1000" doc:"next_cursor of the former page"`
	}
	stopInput struct {
		List string `path:"list" maxLength:"64" doc:"global, account:<id>, or a name of your own"`
		Body StopFields
	}
)

func (f StopFields) entries() []switchboard.StopEntry {
	list := make([]switchboard.StopEntry, len(f.Entries))
	for i, e := range f.Entries {
		list[i] = switchboard.StopEntry{CustomerID: e.CustomerID, ExternalID: e.ExternalID, Phone: e.Phone, Reason: e.Reason}
	}
	return list
}

func (a *Admin) registerStops(api huma.API) {
	actor := func(ctx context.Context) string { return restapi.Principal(ctx).Name() }
	const tag = "Stop-lists"
	restapi.Register(api, restapi.Supervisor, "GET", "/api/v1/stop-lists", "listStopLists", tag, "Lists of addresses that are not written to",
		func(ctx context.Context, _ *nothing) (*body[list[switchboard.StopList]], error) {
			return listOf(a.store.StopLists(ctx))
		})
	restapi.Register(api, restapi.Supervisor, "GET", "/api/v1/stop-lists/{list}", "listStops", tag, "Addresses of a list",
		func(ctx context.Context, in *stopsInput) (*body[stopPage], error) {
			var after *switchboard.StopEntry
			if in.Cursor != "" {
				text, err := base64.RawURLEncoding.DecodeString(in.Cursor)
				if err != nil || json.Unmarshal(text, &after) != nil {
					return nil, problem.New(http.StatusUnprocessableEntity, "invalid", "cursor: use the next_cursor of a page of the same list")
				}
			}
			items, err := a.store.StopEntries(ctx, in.List, after, in.Limit)
			if err != nil {
				return nil, err
			}
			page := stopPage{Items: items}
			if items == nil {
				page.Items = []switchboard.StopEntry{}
			}
			if len(items) == in.Limit {
				text, err := json.Marshal(items[len(items)-1])
				if err != nil {
					return nil, err
				}
				page.NextCursor = new(base64.RawURLEncoding.EncodeToString(text))
			}
			return &body[stopPage]{page}, nil
		})
	restapi.Register(api, restapi.Script, "POST", "/api/v1/stop-lists/{list}", "addStops", tag, "Put addresses on a list",
		func(ctx context.Context, in *stopInput) (*body[StopChange], error) {
			n, err := a.AddStops(ctx, actor(ctx), in.List, in.Body.entries())
			return &body[StopChange]{StopChange{n}}, err
		}, func(op *huma.Operation) { op.MaxBodyBytes = 4 << 20 })
	restapi.Register(api, restapi.Script, "POST", "/api/v1/stop-lists/{list}/remove", "removeStops", tag, "Take addresses off a list",
		func(ctx context.Context, in *stopInput) (*body[StopChange], error) {
			n, err := a.RemoveStops(ctx, actor(ctx), in.List, in.Body.entries())
			return &body[StopChange]{StopChange{n}}, err
		}, func(op *huma.Operation) { op.MaxBodyBytes = 4 << 20 })
}
