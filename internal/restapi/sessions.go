package restapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"switchboard"
	"switchboard/internal/auth"
	"switchboard/internal/problem"
)

// Sessions opens and ends sessions; *auth.Authenticator is one.
type Sessions interface {
	LogIn(ctx context.Context, login, password, remoteAddr string) (token string, p auth.Principal, err error)
	LogOut(ctx context.Context, p auth.Principal) error
}

// NewSession is the answer to a login.
type NewSession struct {
	Token     string               `json:"token" doc:"for Authorization: Bearer"`
	ExpiresAt time.Time            `json:"expires_at"`
	Operator  switchboard.Operator `json:"operator"`
}

// Credentials are a login.
type Credentials struct {
	Login    string `json:"login" maxLength:"100"`
	Password string `json:"password" maxLength:"200"`
}

type loginInput struct {
	Body       Credentials
	remoteAddr string
}

// Resolve implements huma.Resolver.
func (l *loginInput) Resolve(ctx huma.Context) []error {
	l.remoteAddr = ctx.RemoteAddr()
	return nil
}

type sessionOutput struct{ Body NewSession }

// RegisterSessions adds login and logout.
func RegisterSessions(api huma.API, s Sessions) {
	Register(api, Public, http.MethodPost, "/api/v1/sessions", "logIn", "Sessions", "Log in as an operator",
		func(ctx context.Context, in *loginInput) (*sessionOutput, error) {
			token, p, err := s.LogIn(ctx, in.Body.Login, in.Body.Password, in.remoteAddr)
			blocked, isBlocked := errors.AsType[*auth.BlockedError](err)
			switch {
			case errors.Is(err, auth.ErrBadLogin):
				return nil, problem.New(http.StatusUnauthorized, "bad_login", err.Error())
			case isBlocked:
				return nil, huma.ErrorWithHeaders(problem.New(http.StatusTooManyRequests, "too_many_attempts", err.Error()),
					http.Header{"Retry-After": {strconv.Itoa(int(time.Until(blocked.Until).Seconds()) + 1)}})
			case Refused(err) != nil:
				return nil, Refused(err)
			case err != nil:
				return nil, err
			}
			return &sessionOutput{NewSession{token, p.ExpiresAt, *p.Operator}}, nil
		}, func(op *huma.Operation) {
			op.DefaultStatus = http.StatusCreated
			op.Errors = append(op.Errors, http.StatusTooManyRequests)
		})
	Register(api, Operator, http.MethodDelete, "/api/v1/sessions", "logOut", "Sessions", "End the session of the token",
		func(ctx context.Context, _ *struct{}) (*struct{}, error) { return nil, s.LogOut(ctx, Principal(ctx)) })
}
