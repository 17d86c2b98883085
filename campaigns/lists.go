package campaigns

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/internal/restapi"
)

// ListStore is what the REST API of stop-lists needs of the database.
type ListStore interface {
	StopLists(ctx context.Context) ([]queue.StopList, error)
	Suppressions(ctx context.Context, list, address string, after queue.Suppression, limit int) ([]queue.Suppression, error)
	Suppress(ctx context.Context, actor, list string, entries []queue.Suppression) (added int64, err error)
	Unsuppress(ctx context.Context, actor, list string, entries []queue.Suppression) (removed int64, err error)
	// Account returns an account that was not removed, or ErrNotFound.
	Account(ctx context.Context, id string) (switchboard.Account, error)
	InactiveAddresses(ctx context.Context, accountID, afterAccount, afterAddress string, limit int) ([]queue.InactiveAddress, error)
}

// ListEntry is an address as scripts write it: exactly one of the first three is set.
type ListEntry struct {
	Phone      string `json:"phone,omitempty" maxLength:"40" doc:"E.164, or as people write it"`
	ExternalID string `json:"external_id,omitempty" maxLength:"200" doc:"the platform's id"`
	CustomerID string `json:"customer_id,omitempty" format:"uuid"`
	Reason     string `json:"reason,omitempty" maxLength:"300" doc:"is told with the recipients that are skipped"`
}

const listTag = "Stop-lists"

type stopListInput struct {
	List    string `path:"list" maxLength:"80" doc:"global, account:<id>, or a name of your own: a-z, 0-9 and _ . : -"`
	Address string `query:"address" maxLength:"256" doc:"this one only"`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor  string `query:"cursor" maxLength:"600" doc:"next_cursor of the former page"`
}

type inactiveInput struct {
	AccountID string `query:"account_id" format:"uuid"`
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor    string `query:"cursor" maxLength:"600" doc:"next_cursor of the former page"`
}

// ListAdded tells what became of entries.
type ListAdded struct {
	Added   int64 `json:"added"`
	Present int64 `json:"present" doc:"that were there already"`
}

// ListRemoved tells how many entries there were.
type ListRemoved struct {
	Removed int64 `json:"removed"`
}

type stopLists struct {
	Items []queue.StopList `json:"items" nullable:"false"`
}

type stopListPage struct {
	Items      []queue.Suppression `json:"items" nullable:"false"`
	NextCursor *string             `json:"next_cursor" doc:"null on the last page"`
}

type inactivePage struct {
	Items      []queue.InactiveAddress `json:"items" nullable:"false"`
	NextCursor *string                 `json:"next_cursor" doc:"null on the last page"`
}

type listChange struct {
	List string `path:"list" maxLength:"80" doc:"global, account:<id>, or a name of your own: a-z, 0-9 and _ . : -"`
	Body struct {
		Entries []ListEntry `json:"entries" minItems:"1" maxItems:"10000" nullable:"false"`
	}
}

// RegisterLists adds stop-lists and the report of inactive addresses to api. region
// is of phones without a country code.
func RegisterLists(api huma.API, store ListStore, region string) {
	restapi.Register(api, restapi.Supervisor, http.MethodGet, "/api/v1/stop-lists", "listStopLists", listTag, "Stop-lists that have entries",
		func(ctx context.Context, _ *struct{}) (*body[stopLists], error) {
			lists, err := store.StopLists(ctx)
			return &body[stopLists]{stopLists{append([]queue.StopList{}, lists...)}}, err
		})
	restapi.Register(api, restapi.Supervisor, http.MethodGet, "/api/v1/stop-lists/{list}", "getStopList", listTag, "Entries of a stop-list",
		func(ctx context.Context, in *stopListInput) (*body[stopListPage], error) {
			after, err := readListCursor(in.Cursor)
			if err != nil {
				return nil, err
			}
			found, err := store.Suppressions(ctx, in.List, in.Address, queue.Suppression{Kind: after[0], Address: after[1]}, in.Limit+1)
			if err != nil {
				return nil, err
			}
			p := stopListPage{Items: append([]queue.Suppression{}, found...)}
			if len(found) > in.Limit {
				p.Items = p.Items[:in.Limit]
				p.NextCursor = listCursor(found[in.Limit-1].Kind, found[in.Limit-1].Address)
			}
			return &body[stopListPage]{p}, nil
		})
	restapi.Register(api, restapi.Script, http.MethodPost, "/api/v1/stop-lists/{list}", "addToStopList", listTag, "Add addresses: nothing of a campaign is sent to them from now on",
		func(ctx context.Context, in *listChange) (*body[ListAdded], error) {
			entries, err := in.entries(region)
			if err == nil {
				err = knownList(ctx, store, in.List)
			}
			if err != nil {
				return nil, err
			}
			added, err := store.Suppress(ctx, restapi.Principal(ctx).Name(), in.List, entries)
			if err != nil {
				return nil, err
			}
			return &body[ListAdded]{ListAdded{added, int64(len(entries)) - added}}, nil
		})
	restapi.Register(api, restapi.Script, http.MethodPost, "/api/v1/stop-lists/{list}/remove", "removeFromStopList", listTag, "Take addresses off a stop-list",
		func(ctx context.Context, in *listChange) (*body[ListRemoved], error) {
			entries, err := in.entries(region)
			if err == nil {
				err = knownList(ctx, store, in.List)
			}
			if err != nil {
				return nil, err
			}
			removed, err := store.Unsuppress(ctx, restapi.Principal(ctx).Name(), in.List, entries)
			return &body[ListRemoved]{ListRemoved{removed}}, err
		})
	restapi.Register(api, restapi.Supervisor, http.MethodGet, "/api/v1/addresses/inactive", "listInactiveAddresses", listTag, "Addresses that campaigns leave out, because the platform kept refusing them",
		func(ctx context.Context, in *inactiveInput) (*body[inactivePage], error) {
			after, err := readListCursor(in.Cursor)
			if err == nil && after[0] != "" && uuid.Validate(after[0]) != nil {
				err = errCursor
			}
			if err != nil {
				return nil, err
			}
			found, err := store.InactiveAddresses(ctx, in.AccountID, after[0], after[1], in.Limit+1)
			if err != nil {
				return nil, err
			}
			p := inactivePage{Items: append([]queue.InactiveAddress{}, found...)}
			if len(found) > in.Limit {
				p.Items = p.Items[:in.Limit]
				p.NextCursor = listCursor(found[in.Limit-1].AccountID, found[in.Limit-1].Address)
			}
			return &body[inactivePage]{p}, nil
		})
}

// knownList finds what is wrong with a list's name that only the database knows: no
// such account. The list of an account that was removed is there as long as it has
// entries.
func knownList(ctx context.Context, store ListStore, list string) error {
	id, ofAccount := strings.CutPrefix(list, "account:")
	if !ofAccount {
		return nil
	}
	_, err := store.Account(ctx, id)
	if !errors.Is(err, switchboard.ErrNotFound) {
		return err
	}
	if found, err := store.Suppressions(ctx, list, "", queue.Suppression{}, 1); err != nil || len(found) > 0 {
		return err
	}
	return invalid("list %q: there is no such account; GET /api/v1/accounts has their ids, and a list of your own has another name", list)
}

// entries checks what is to be changed. Each address counts once.
func (in *listChange) entries(region string) ([]queue.Suppression, error) {
	account, ofAccount := strings.CutPrefix(in.List, "account:")
	if !listName.MatchString(in.List) || (ofAccount && uuid.Validate(account) != nil) {
		return nil, invalid("list %q; use global, account: and an account's id, or 1 to 64 of a-z, 0-9 and _ . : -, beginning with a letter or digit", in.List)
	}
	phones, err := NewPhones(region)
	if err != nil {
		return nil, err
	}
	seen := map[[2]string]bool{}
	var entries []queue.Suppression
	for i, e := range in.Body.Entries {
		s := queue.Suppression{Reason: e.Reason}
		set := 0
		for _, x := range []struct{ kind, address string }{{"phone", e.Phone}, {"external", e.ExternalID}, {"customer", strings.ToLower(e.CustomerID)}} {
			if x.address != "" {
				s.Kind, s.Address = x.kind, x.address
				set++
			}
		}
		if set != 1 {
			return nil, invalid("entries[%d] needs exactly one of phone, external_id and customer_id", i)
		}
		if s.Kind == "phone" {
			s.Address, err = phones.E164(e.Phone)
			if errors.Is(err, errNoCountry) {
				return nil, invalid("entries[%d].phone: %w; SWITCHBOARD_PHONE_REGION names the country of national numbers", i, err)
			}
			if err != nil {
				return nil, invalid("entries[%d].phone: %w", i, err)
			}
		}
		if key := [2]string{s.Kind, s.Address}; !seen[key] {
			seen[key] = true
			entries = append(entries, s)
		}
	}
	return entries, nil
}

func listCursor(a, b string) *string {
	return new(base64.RawURLEncoding.EncodeToString([]byte(a + " " + b)))
}

func readListCursor(cursor string) (key [2]string, err error) {
	if cursor == "" {
		return key, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return key, errCursor
	}
	var ok bool
	if key[0], key[1], ok = strings.Cut(string(raw), " "); !ok {
		return key, errCursor
	}
	return key, nil
}
