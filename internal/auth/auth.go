// Package auth tells who makes a request: an operator with a session, or a
// script with an API key. Tokens and keys are known to the database as SHA-256
// hashes only.
package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"switchboard"
	"switchboard/internal/secret"
)

// Store is what auth needs of the database.
type Store interface {
	Session(ctx context.Context, tokenHash []byte) (switchboard.Operator, time.Time, error)
	APIKeyByHash(ctx context.Context, hash []byte) (switchboard.APIKey, error)
	// TakeKeyRate takes up to n places of a key's rate, or tells when there is one.
	TakeKeyRate(ctx context.Context, keyID string, perSecond float64, burst, n int) (got int, wait time.Duration, err error)
	PasswordHash(ctx context.Context, login string) (switchboard.Operator, string, error)
	AddSession(ctx context.Context, operatorID string, tokenHash []byte, expires time.Time) error
	EndSession(ctx context.Context, tokenHash []byte) error
	LoginBlocked(ctx context.Context, keys []string) (until time.Time, err error)
	LoginFailed(ctx context.Context, key string, free int) error
	LoginSucceeded(ctx context.Context, keys []string) error
	Audited(ctx context.Context, actor, action string, do func(ctx context.Context) (target string, detail any, err error)) error
}

// SessionLife is how long a session lasts: a working day and its evening.
const SessionLife = 14 * time.Hour

// KeyPrefix starts every API key, so that one is recognised where it leaked.
const KeyPrefix = "swb_"

// Principal is who makes a request. Exactly one of Operator and APIKeyID is set.
type Principal struct {
	Operator   *switchboard.Operator
	APIKeyID   string
	APIKeyName string
	Limits     switchboard.KeyLimits // of the key
	TokenHash  []byte                // of the session
	ExpiresAt  time.Time             // of the session
	// Local names somebody with a hold of the installation itself (the command line),
	// who works as Operator says.
	Local string
}

// Name is for the audit journal and for files' owners.
func (p Principal) Name() string {
	if p.Local != "" {
		return p.Local
	}
	if p.Operator != nil {
		return "operator:" + p.Operator.ID
	}
	return "apikey:" + p.APIKeyID
}

// The reasons why a request is refused.
var (
	ErrNoToken  = errors.New("no session or API key: send Authorization: Bearer ...")
	ErrBadToken = errors.New("the session or API key is unknown, expired or revoked")
)

// Authenticator checks tokens.
type Authenticator struct {
	store  Store
	log    *slog.Logger
	checks chan struct{} // a place for each password that is being checked
	rates  rates
}

// New returns an authenticator over store.
func New(store Store, log *slog.Logger) *Authenticator {
	return &Authenticator{store: store, log: log, checks: make(chan struct{}, maxChecks)}
}

// maxChecks is how many passwords are checked at once: each takes a core for
// 30 ms and 19 MiB. It is also how many guesses may go beyond the free ones when
// they come all at once.
const maxChecks = 4

// Token finds the bearer token of a request, in the Authorization header or,
// where a browser can't set headers, in ?token=.
func Token(r *http.Request) string {
	if h := r.Header.Get("Authorization"); h != "" {
		scheme, token, _ := strings.Cut(h, " ")
		if strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token)
		}
		return ""
	}
	return r.URL.Query().Get("token")
}

// Request authenticates a request. Errors: ErrNoToken, ErrBadToken, *AddressError,
// *RateError, or that the database is unavailable.
func (a *Authenticator) Request(r *http.Request) (Principal, error) {
	return a.Token(r.Context(), Token(r), r.RemoteAddr)
}

// Token authenticates a token that came from an address.
func (a *Authenticator) Token(ctx context.Context, token, remoteAddr string) (Principal, error) {
	if token == "" {
		return Principal{}, ErrNoToken
	}
	hash := secret.HashToken(token)
	if strings.HasPrefix(token, KeyPrefix) {
		k, err := a.store.APIKeyByHash(ctx, hash)
		if err != nil {
			return Principal{}, orBad(err)
		}
		if !allowed(k.AllowFrom, remoteAddr) {
			return Principal{}, addressError(remoteAddr, "this API key")
		}
		wait, err := a.rates.take(ctx, a.store, k.ID, k.Rate, k.Burst)
		if err != nil {
			return Principal{}, fmt.Errorf("%w: %w", switchboard.ErrUnavailable, err)
		}
		if wait > 0 {
			return Principal{}, &RateError{Rate: k.Rate, RetryAfter: wait}
		}
		return Principal{APIKeyID: k.ID, APIKeyName: k.Name, Limits: k.KeyLimits}, nil
	}
	o, expires, err := a.store.Session(ctx, hash)
	if err != nil {
		return Principal{}, orBad(err)
	}
	if !allowed(o.AllowFrom, remoteAddr) {
		return Principal{}, addressError(remoteAddr, "this login")
	}
	return Principal{Operator: &o, TokenHash: hash, ExpiresAt: expires}, nil
}

func orBad(err error) error {
	if errors.Is(err, switchboard.ErrNotFound) {
		return ErrBadToken
	}
	return fmt.Errorf("%w: %w", switchboard.ErrUnavailable, err)
}

// BlockedError says that too many wrong passwords were tried.
type BlockedError struct{ Until time.Time }

func (e *BlockedError) Error() string {
	return "too many wrong passwords; try again after " + e.Until.UTC().Format(time.RFC3339)
}

// Free failures before blocking begins: a person's typing errors, and those of
// an office behind one address.
const (
	freePerLogin   = 5
	freePerAddress = 50
)

// decoy is checked when the login is unknown, so that the answer takes as long.
var decoy, _ = secret.HashPassword("a password that nobody has")

// LogIn checks a password and opens a session. The error is ErrBadToken's kin
// ErrBadLogin for a wrong login or password, or *BlockedError.
func (a *Authenticator) LogIn(ctx context.Context, login, password, remoteAddr string) (token string, p Principal, err error) {
	if strings.ContainsRune(login, 0) {
		return "", p, ErrBadLogin // nobody's, and nothing that the database can look for
	}
	ctx = WithAddress(ctx, remoteAddr)
	byLogin, byAddress := "login:"+login, "address:"+origin(remoteAddr)
	// Before the place as well, so that whoever is blocked takes none from others.
	if err := a.blocked(ctx, byLogin, byAddress); err != nil {
		return "", p, err
	}
	select {
	case a.checks <- struct{}{}:
		defer func() { <-a.checks }()
	case <-ctx.Done():
		return "", p, fmt.Errorf("%w: waiting to check the password: %w", switchboard.ErrUnavailable, ctx.Err())
	}
	// Those that were in line together have failed by now.
	if err := a.blocked(ctx, byLogin, byAddress); err != nil {
		return "", p, err
	}
	o, hash, err := a.store.PasswordHash(ctx, login)
	known := err == nil
	if err != nil && !errors.Is(err, switchboard.ErrNotFound) {
		return "", p, fmt.Errorf("%w: %w", switchboard.ErrUnavailable, err)
	}
	if !known {
		hash = decoy
	}
	if !secret.CheckPassword(hash, password) || !known {
		// It counts also when the client has gone meanwhile.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		for key, free := range map[string]int{byLogin: freePerLogin, byAddress: freePerAddress} {
			if err := a.store.LoginFailed(ctx, key, free); err != nil {
				a.log.ErrorContext(ctx, "failed login could not be counted", "error", err)
			}
		}
		// What nobody is called may be a password in the wrong field.
		actor, target := "nobody", ""
		if known {
			target = o.ID
		}
		a.refused(ctx, actor, target, map[string]any{"known": known, "reason": "wrong login or password"})
		return "", p, ErrBadLogin
	}
	if !allowed(o.AllowFrom, remoteAddr) {
		a.refused(ctx, "operator:"+o.ID, o.ID, map[string]any{"known": true, "reason": "address"})
		return "", p, addressError(remoteAddr, "this login")
	}
	token, tokenHash := secret.NewToken()
	p = Principal{Operator: &o, TokenHash: tokenHash, ExpiresAt: time.Now().Add(SessionLife).UTC()}
	err = a.store.Audited(ctx, "operator:"+o.ID, "session.open", func(ctx context.Context) (string, any, error) {
		return o.ID, nil, a.store.AddSession(ctx, o.ID, tokenHash, p.ExpiresAt)
	})
	if err != nil {
		return "", p, fmt.Errorf("%w: %w", switchboard.ErrUnavailable, err)
	}
	if err := a.store.LoginSucceeded(ctx, []string{byLogin}); err != nil {
		a.log.ErrorContext(ctx, "failed logins could not be forgotten", "error", err)
	}
	return token, p, nil
}

// refused notes a login that was refused; that it was does not depend on the journal.
func (a *Authenticator) refused(ctx context.Context, actor, target string, detail any) {
	err := a.store.Audited(ctx, actor, "session.refused", func(context.Context) (string, any, error) { return target, detail, nil })
	if err != nil {
		a.log.ErrorContext(ctx, "a refused login could not be noted in the audit journal", "error", err)
	}
}

func (a *Authenticator) blocked(ctx context.Context, keys ...string) error {
	until, err := a.store.LoginBlocked(ctx, keys)
	if err != nil {
		return fmt.Errorf("%w: %w", switchboard.ErrUnavailable, err)
	}
	if until.After(time.Now()) {
		return &BlockedError{until}
	}
	return nil
}

// ErrBadLogin says that login or password are wrong, without telling which.
var ErrBadLogin = errors.New("login or password is wrong")

// LogOut ends the session of a principal.
func (a *Authenticator) LogOut(ctx context.Context, p Principal) error {
	return a.store.Audited(ctx, p.Name(), "session.end", func(ctx context.Context) (string, any, error) {
		return p.Operator.ID, nil, a.store.EndSession(ctx, p.TokenHash)
	})
}
