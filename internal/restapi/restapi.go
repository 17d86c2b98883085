// Package restapi is the frame of the REST API: routing, who may call what,
// errors as problem documents, and the OpenAPI document with its page. The
// operations themselves are registered by the packages that serve them.
package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"switchboard"
	"switchboard/internal/auth"
	"switchboard/internal/problem"
	"switchboard/internal/queue"
)

// Access is who may call an operation.
type Access string

// The levels of access. A role includes the ones below it.
const (
	Public     Access = "public"     // anybody
	Operator   Access = "operator"   // a session
	Any        Access = "any"        // a session or an API key
	APIKey     Access = "apikey"     // an API key
	Supervisor Access = "supervisor" // a supervisor's session or an API key
	Script     Access = "script"     // an admin's session or an API key
	Admin      Access = "admin"      // an admin's session
)

const accessKey = "access"

// callTime is how long one call may take, asking a platform included. A
// database that is there and says nothing would otherwise hold every caller.
const callTime = 15 * time.Second

// Tokens checks bearer tokens; *auth.Authenticator is one.
type Tokens interface {
	Token(ctx context.Context, token, remoteAddr string) (auth.Principal, error)
}

// problems makes huma's own errors ours. huma keeps that in a global, which
// other APIs of the process may be reading by now.
var problems = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return newProblem(status, msg, errs)
	}
})

// New makes an API on router. tokens may be nil when only the document is wanted.
// unavailable tells errors of a store that is away from others, and may be nil.
func New(router chi.Router, version string, tokens Tokens, unavailable func(error) bool, log *slog.Logger) huma.API {
	problems()
	cfg := huma.DefaultConfig("Switchboard", version)
	cfg.Info.Description = "Messengers on one side, a contact centre on the other. Times are RFC 3339 in UTC, ids are UUIDs, " +
		"errors are RFC 9457 problem documents with a stable `code`. Operators' live traffic goes over the WebSocket at /ws/v1 (see the AsyncAPI document)."
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.CreateHooks = nil // no $schema links in answers
	cfg.RejectUnknownQueryParameters = true
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"session": {Type: "http", Scheme: "bearer", Description: "The token of POST /api/v1/sessions."},
		"apikey":  {Type: "http", Scheme: "bearer", Description: "A key of `switchboard apikey add`, starting with swb_."},
	}
	api := humachi.New(router, cfg)
	api.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		p, refused := authorize(ctx, tokens, log)
		if refused != nil {
			if refused.Status == http.StatusUnauthorized {
				ctx.SetHeader("WWW-Authenticate", "Bearer")
			}
			if refused.RetryAfter > 0 {
				ctx.SetHeader("Retry-After", strconv.Itoa(refused.RetryAfter))
			}
			send(ctx, refused)
			return
		}
		next(huma.WithValue(huma.WithValue(ctx, principalKey{}, p), serverKey{}, server{unavailable, log}))
	})
	return api
}

func send(ctx huma.Context, p *problem.Error) {
	ctx.SetHeader("Content-Type", "application/problem+json")
	ctx.SetStatus(p.Status)
	_ = json.NewEncoder(ctx.BodyWriter()).Encode(p)
}

type (
	principalKey struct{}
	serverKey    struct{}
	// server is what New was given, for the operations.
	server struct {
		unavailable func(error) bool
		log         *slog.Logger
	}
)

func serverOf(ctx context.Context) server {
	s, ok := ctx.Value(serverKey{}).(server)
	if !ok {
		s = server{log: slog.New(slog.DiscardHandler)}
	}
	return s
}

// Principal is who calls; the zero value on public operations.
func Principal(ctx context.Context) auth.Principal {
	p, _ := ctx.Value(principalKey{}).(auth.Principal)
	return p
}

func authorize(ctx huma.Context, tokens Tokens, log *slog.Logger) (auth.Principal, *problem.Error) {
	access, _ := ctx.Operation().Metadata[accessKey].(Access)
	if access == Public {
		return auth.Principal{}, nil
	}
	scheme, token, _ := strings.Cut(ctx.Header("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		token = ""
	}
	timed, cancel := context.WithTimeout(ctx.Context(), callTime)
	defer cancel()
	p, err := tokens.Token(timed, strings.TrimSpace(token), ctx.RemoteAddr())
	return p, admit(timed, access, p, err, log)
}

// admit is the answer to whoever may not do this, by what the check of their token said.
func admit(ctx context.Context, access Access, p auth.Principal, err error, log *slog.Logger) *problem.Error {
	switch {
	case errors.Is(err, auth.ErrNoToken), errors.Is(err, auth.ErrBadToken):
		return problem.New(http.StatusUnauthorized, "unauthorized", err.Error())
	case Refused(err) != nil:
		return Refused(err)
	case err != nil:
		log.ErrorContext(ctx, "token could not be checked", "error", err)
		return problem.From(late(ctx, err))
	case !Allowed(access, p):
		return problem.New(http.StatusForbidden, "forbidden", "this needs "+needs[access])
	}
	return nil
}

// Refused is the answer to whoever is known and may not come in from where they are,
// or not as often; nil for other errors.
func Refused(err error) *problem.Error {
	if e, ok := errors.AsType[*auth.AddressError](err); ok {
		return problem.New(http.StatusForbidden, "address_not_allowed", e.Error())
	}
	if e, ok := errors.AsType[*auth.RateError](err); ok {
		p := problem.New(http.StatusTooManyRequests, "rate_limited", e.Error())
		p.RetryAfter = int(e.RetryAfter/time.Second) + 1
		return p
	}
	return nil
}

var needs = map[Access]string{
	Operator: "an operator's session", APIKey: "an API key", Supervisor: "a supervisor's session or an API key", Script: "an admin's session or an API key", Admin: "an admin's session",
}

// Allowed is the table of who may what.
func Allowed(access Access, p auth.Principal) bool {
	key := p.APIKeyID != ""
	role := switchboard.Role("")
	if p.Operator != nil {
		role = p.Operator.Role
	}
	switch access {
	case Public:
		return true
	case Any:
		return key || role.AtLeast(switchboard.RoleOperator)
	case Operator:
		return role.AtLeast(switchboard.RoleOperator)
	case APIKey:
		return key
	case Supervisor:
		return key || role.AtLeast(switchboard.RoleSupervisor)
	case Script:
		return key || role.AtLeast(switchboard.RoleAdmin)
	case Admin:
		return role.AtLeast(switchboard.RoleAdmin)
	default:
		return false // an operation without a level is nobody's
	}
}

// Register adds an operation. id is its name in generated clients.
func Register[I, O any](api huma.API, access Access, method, path, id, tag, summary string, handler func(context.Context, *I) (*O, error), change ...func(*huma.Operation)) {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag},
		Metadata: map[string]any{accessKey: access}, MaxBodyBytes: 1 << 20,
		Errors: []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
	}
	if _, hasBody := reflect.TypeFor[I]().FieldByName("Body"); hasBody {
		op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	switch access {
	case Any, Supervisor, Script:
		op.Security = []map[string][]string{{"session": {}}, {"apikey": {}}}
	case APIKey:
		op.Security = []map[string][]string{{"apikey": {}}}
	case Operator, Admin:
		op.Security = []map[string][]string{{"session": {}}}
	}
	for _, c := range change {
		c(&op)
	}
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		timed, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		out, err := handler(timed, in)
		if err != nil {
			return nil, Fail(ctx, late(timed, err))
		}
		return out, nil
	})
}

// late makes what failed for want of time, or because a store was away,
// unavailable rather than broken.
func late(timed context.Context, err error) error {
	away := serverOf(timed).unavailable
	if (errors.Is(timed.Err(), context.DeadlineExceeded) && errors.Is(err, context.DeadlineExceeded)) || (away != nil && away(err)) {
		return fmt.Errorf("%w: %w", switchboard.ErrUnavailable, err)
	}
	return err
}

// Fail turns a handler's error into its problem document. What is our fault is
// logged here, once.
func Fail(ctx context.Context, err error) error {
	p := problem.From(err)
	if p.Status >= 500 && ctx.Err() == nil {
		serverOf(ctx).log.ErrorContext(ctx, "request failed", "error", err)
	}
	if h, ok := errors.AsType[huma.HeadersError](err); ok {
		return huma.ErrorWithHeaders(p, h.GetHeaders())
	}
	if p.RetryAfter > 0 {
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {strconv.Itoa(p.RetryAfter)}})
	}
	return p
}

// OverDaily turns a queue.DailyLimitError into the answer, and leaves other errors.
func OverDaily(err error) error {
	e, ok := errors.AsType[*queue.DailyLimitError](err)
	if !ok {
		return err
	}
	p := problem.New(http.StatusTooManyRequests, "daily_limit", e.Error())
	tomorrow := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	p.RetryAfter = int(time.Until(tomorrow)/time.Second) + 1
	return p
}

func newProblem(status int, msg string, errs []error) *problem.Error {
	code := map[int]string{400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 406: "not_acceptable",
		409: "conflict", 413: "too_large", 415: "unsupported_media_type", 422: "invalid", 503: "unavailable"}[status]
	if code == "" {
		code = "internal"
	}
	details := []string{}
	for _, e := range errs {
		var d huma.ErrorDetailer
		if errors.As(e, &d) {
			detail := d.ErrorDetail()
			details = append(details, fmt.Sprintf("%s: %s", detail.Location, detail.Message))
		} else if e != nil && status < 500 {
			details = append(details, e.Error())
		}
	}
	if len(details) > 0 {
		msg += ": " + strings.Join(details, "; ")
	}
	return problem.New(status, code, msg)
}

// Document is the OpenAPI 3.1 document of an API.
func Document(api huma.API) ([]byte, error) {
	doc := api.OpenAPI()
	nullables(doc.Components.Schemas)
	text, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the OpenAPI document: %w", err)
	}
	return append(text, '\n'), nil
}

// nullables says of the members that are always there, and null when there is
// nothing, that they may be null. huma does so for everything but structs.
func nullables(registry huma.Registry) {
	for name, schema := range registry.Map() {
		t := registry.TypeFromRef("#/components/schemas/" + name)
		if t == nil {
			continue
		}
		for _, f := range reflect.VisibleFields(t) {
			if f.Type.Kind() != reflect.Pointer {
				continue
			}
			member, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if p := schema.Properties[member]; p != nil && p.Ref != "" && slices.Contains(schema.Required, member) {
				schema.Properties[member] = &huma.Schema{AnyOf: []*huma.Schema{p, {Type: "null"}}}
			}
		}
	}
}
