package loader

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"switchboard"
	"switchboard/internal/auth"
	"switchboard/internal/restapi"
	"switchboard/internal/secret"
)

// NewKey is a key that was just made.
type NewKey struct {
	switchboard.APIKey
	Key            string `json:"key" doc:"shown this once"`
	CallbackSecret string `json:"callback_secret" doc:"what status callbacks are signed with; shown this once"`
}

// AddAPIKey makes a key without limits; it is shown this once.
func (a *Admin) AddAPIKey(ctx context.Context, actor, name string) (switchboard.APIKey, string, error) {
	k, err := a.MakeAPIKey(ctx, actor, switchboard.APIKey{Name: name})
	return k.APIKey, k.Key, err
}

// MakeAPIKey makes a key with its limits, and the secret of its callbacks.
func (a *Admin) MakeAPIKey(ctx context.Context, actor string, k switchboard.APIKey) (NewKey, error) {
	if strings.TrimSpace(k.Name) == "" || len(k.Name) > 100 {
		return NewKey{}, invalid("name %q: use 1 to 100 characters", k.Name)
	}
	var err error
	if k.AllowFrom, err = checkLimits(k.Rate, k.Burst, k.Daily, k.AllowFrom, k.ExpiresAt); err != nil {
		return NewKey{}, err
	}
	random, _ := secret.NewToken()
	key := auth.KeyPrefix + random
	made := NewKey{Key: key}
	err = a.store.Audited(ctx, actor, "apikey.add", func(ctx context.Context) (_ string, _ any, err error) {
		if made.APIKey, err = a.store.AddAPIKey(ctx, k, secret.HashToken(key)); err != nil {
			return "", nil, err
		}
		made.CallbackSecret, err = a.newSecret(ctx, made.ID)
		return made.ID, switchboard.Change{After: made.APIKey}, err
	})
	if err != nil {
		return NewKey{}, err
	}
	return made, nil
}

func checkLimits(rate float64, burst int, daily int64, allow []string, expires *time.Time) ([]string, error) {
	switch {
	case rate < 0 || rate > 100_000:
		return nil, invalid("rate %g: use requests per second up to 100000, or 0 for no limit", rate)
	case burst < 0 || burst > 100_000:
		return nil, invalid("burst %d: use 0 to 100000", burst)
	case daily < 0:
		return nil, invalid("daily %d: use messages per day, or 0 for no limit", daily)
	case expires != nil && !expires.IsZero() && expires.Before(time.Now()):
		return nil, invalid("expires_at %s: use a time to come", expires.Format(time.RFC3339))
	}
	return switchboard.Networks(allow)
}

// SetAPIKey changes what a key may.
func (a *Admin) SetAPIKey(ctx context.Context, actor, id string, c switchboard.KeyChange) (switchboard.APIKey, error) {
	if c.Name != nil && (strings.TrimSpace(*c.Name) == "" || len(*c.Name) > 100) {
		return switchboard.APIKey{}, invalid("name %q: use 1 to 100 characters", *c.Name)
	}
	list, err := checkLimits(or(c.Rate, 0), or(c.Burst, 0), or(c.Daily, 0), or(c.AllowFrom, nil), c.ExpiresAt)
	if err != nil {
		return switchboard.APIKey{}, err
	}
	if c.AllowFrom != nil {
		c.AllowFrom = &list
	}
	var after switchboard.APIKey
	err = a.store.Audited(ctx, actor, "apikey.set", func(ctx context.Context) (string, any, error) {
		before, err := a.store.APIKey(ctx, id)
		if err != nil {
			return "", nil, err
		}
		after, err = a.store.SetAPIKey(ctx, id, c)
		return id, switchboard.Change{Before: before, After: after}, err
	})
	return after, err
}

func or[T any](v *T, otherwise T) T {
	if v == nil {
		return otherwise
	}
	return *v
}

// RevokeAPIKey ends a key.
func (a *Admin) RevokeAPIKey(ctx context.Context, actor, id string) error {
	if uuid.Validate(id) != nil {
		return fmt.Errorf("API key %s: %w", id, switchboard.ErrNotFound)
	}
	return a.store.Audited(ctx, actor, "apikey.revoke", func(ctx context.Context) (string, any, error) {
		before, err := a.store.APIKey(ctx, id)
		if err != nil {
			return "", nil, err
		}
		return id, switchboard.Change{Before: before}, a.store.RevokeAPIKey(ctx, id)
	})
}

// SecretPrefix starts what callbacks are signed with, as Standard Webhooks have it;
// the rest is base64.
const SecretPrefix = "whsec_"

// newSecret makes the secret of a key's callbacks, "" for the installation's own.
func (a *Admin) newSecret(ctx context.Context, keyID string) (string, error) {
	random := make([]byte, 32)
	rand.Read(random)
	return SecretPrefix + base64.StdEncoding.EncodeToString(random), a.store.SetCallbackSecret(ctx, keyID, random)
}

// NewCallbackSecret makes a new secret for a key's callbacks, or with id "" for
// those of campaigns that people made. The former one signs as well for a day.
func (a *Admin) NewCallbackSecret(ctx context.Context, actor, id string) (string, error) {
	if id != "" {
		k, err := a.store.APIKey(ctx, id)
		if err != nil {
			return "", err
		}
		if k.RevokedAt != nil {
			return "", fmt.Errorf("API key %s is revoked: %w", id, switchboard.ErrConflict)
		}
	}
	var made string
	err := a.store.Audited(ctx, actor, "callback.secret", func(ctx context.Context) (_ string, _ any, err error) {
		made, err = a.newSecret(ctx, id)
		return id, nil, err
	})
	if err != nil {
		return "", err
	}
	return made, nil
}

type (
	// KeyFields is a key to be made.
	KeyFields struct {
		Name      string     `json:"name" maxLength:"100"`
		Rate      float64    `json:"rate,omitempty" minimum:"0" maximum:"100000" doc:"requests per second, over all processes; 0: no limit"`
		Burst     int        `json:"burst,omitempty" minimum:"0" maximum:"100000" doc:"requests at once, when there is a rate; 0: a second's"`
		Daily     int64      `json:"daily,omitempty" minimum:"0" doc:"messages per day (UTC), over all processes; 0: no limit"`
		AllowFrom []string   `json:"allow_from,omitempty" nullable:"false" maxItems:"100" doc:"networks from which it may be used, like 192.0.2.0/24; none: everywhere"`
		ExpiresAt *time.Time `json:"expires_at,omitempty"`
	}
	// KeyPatch is what to change of a key.
	KeyPatch struct {
		Name      *string    `json:"name,omitempty" maxLength:"100"`
		Rate      *float64   `json:"rate,omitempty" minimum:"0" maximum:"100000"`
		Burst     *int       `json:"burst,omitempty" minimum:"0" maximum:"100000"`
		Daily     *int64     `json:"daily,omitempty" minimum:"0"`
		AllowFrom *[]string  `json:"allow_from,omitempty" maxItems:"100" doc:"replaces the list; an empty one allows all"`
		ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"0001-01-01T00:00:00Z takes the expiry away"`
	}
	// CallbackSecret is a secret that was just made.
	CallbackSecret struct {
		Secret string `json:"callback_secret" doc:"shown this once; the former one signs as well for a day"`
	}
)

func (a *Admin) registerKeys(api huma.API) {
	actor := func(ctx context.Context) string { return restapi.Principal(ctx).Name() }
	restapi.Register(api, restapi.Admin, "GET", "/api/v1/api-keys", "listAPIKeys", "API keys", "All keys, the revoked ones too",
		func(ctx context.Context, _ *nothing) (*body[list[switchboard.APIKey]], error) {
			return listOf(a.store.APIKeys(ctx))
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/api-keys", "addAPIKey", "API keys", "Make a key",
		func(ctx context.Context, in *body[KeyFields]) (*body[NewKey], error) {
			f := in.Body
			made, err := a.MakeAPIKey(ctx, actor(ctx), switchboard.APIKey{Name: f.Name,
				KeyLimits: switchboard.KeyLimits{Rate: f.Rate, Burst: f.Burst, Daily: f.Daily, AllowFrom: f.AllowFrom, ExpiresAt: f.ExpiresAt}})
			return &body[NewKey]{made}, err
		}, created)
	restapi.Register(api, restapi.Admin, "PATCH", "/api/v1/api-keys/{id}", "setAPIKey", "API keys", "Change what a key may",
		func(ctx context.Context, in *struct {
			ID   string `path:"id" format:"uuid"`
			Body KeyPatch
		}) (*body[switchboard.APIKey], error) {
			k, err := a.SetAPIKey(ctx, actor(ctx), in.ID, switchboard.KeyChange(in.Body))
			return &body[switchboard.APIKey]{k}, err
		})
	restapi.Register(api, restapi.Admin, "DELETE", "/api/v1/api-keys/{id}", "revokeAPIKey", "API keys", "End a key",
		func(ctx context.Context, in *idInput) (*nothing, error) {
			return nil, a.RevokeAPIKey(ctx, actor(ctx), in.ID)
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/api-keys/{id}/callback-secret", "renewCallbackSecret", "API keys", "Make a new secret for the key's status callbacks",
		func(ctx context.Context, in *idInput) (*body[CallbackSecret], error) {
			s, err := a.NewCallbackSecret(ctx, actor(ctx), in.ID)
			return &body[CallbackSecret]{CallbackSecret{s}}, err
		}, created, taken)
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/callbacks/secret", "renewOwnCallbackSecret", "Callbacks", "Make a new secret for the status callbacks of campaigns that people made",
		func(ctx context.Context, _ *nothing) (*body[CallbackSecret], error) {
			s, err := a.NewCallbackSecret(ctx, actor(ctx), "")
			return &body[CallbackSecret]{CallbackSecret{s}}, err
		}, created)
}
