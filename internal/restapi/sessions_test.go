package restapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"

	"switchboard/internal/auth"
	"switchboard/internal/restapi"
)

type blocked struct{}

func (blocked) LogIn(context.Context, string, string, string) (string, auth.Principal, error) {
	return "", auth.Principal{}, &auth.BlockedError{Until: time.Now().Add(90 * time.Second)}
}

func (blocked) LogOut(context.Context, auth.Principal) error { return nil }

// Whoever has to wait is told for how long.
func TestTooManyLoginsSayWhenToComeBack(t *testing.T) {
	t.Parallel()
	router := chi.NewRouter()
	restapi.RegisterSessions(restapi.New(router, "test", nil, nil, slog.New(slog.DiscardHandler)), blocked{})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/sessions", strings.NewReader(`{"login":"ann","password":"wrong password"}`))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	router.ServeHTTP(w, r)
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), `"code":"too_many_attempts"`) {
		t.Errorf("answer %d, %v, %s", w.Code, w.Header(), w.Body)
	}
	if after := w.Header().Get("Retry-After"); after != "90" && after != "91" {
		t.Errorf("Retry-After: %q", after)
	}
}

type silent struct{}

func (silent) Token(ctx context.Context, _, _ string) (auth.Principal, error) {
	<-ctx.Done() // as a query that is never answered
	return auth.Principal{}, fmt.Errorf("reading the session: %w", ctx.Err())
}

// A database that says nothing makes calls fail, not wait for ever.
func TestCallsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		router := chi.NewRouter()
		api := restapi.New(router, "test", silent{}, nil, slog.New(slog.DiscardHandler))
		call := func(ctx context.Context, _ *struct{}) (*struct{}, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("reading: %w", ctx.Err())
		}
		restapi.Register(api, restapi.Any, http.MethodGet, "/signed-in", "signedIn", "T", "", call)
		restapi.Register(api, restapi.Public, http.MethodGet, "/public", "public", "T", "", call)
		for _, path := range []string{"/signed-in", "/public"} {
			start, w := time.Now(), httptest.NewRecorder()
			router.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
			if w.Code != http.StatusServiceUnavailable || time.Since(start) != 15*time.Second || !strings.Contains(w.Body.String(), `"code":"unavailable"`) {
				t.Errorf("%s: %d after %v: %s", path, w.Code, time.Since(start), w.Body)
			}
		}
	})
}

type everybody struct{}

func (everybody) Token(context.Context, string, string) (auth.Principal, error) {
	return auth.Principal{APIKeyID: "key"}, nil
}

// A store that goes away in the middle of a call is no fault of the call: the
// caller is told to come back. Its own faults stay what they are.
func TestOutageIsUnavailable(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]int{io.ErrUnexpectedEOF: http.StatusServiceUnavailable, io.ErrShortWrite: http.StatusInternalServerError} {
		router, logged := chi.NewRouter(), &strings.Builder{}
		api := restapi.New(router, "test", everybody{}, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }, slog.New(slog.NewTextHandler(logged, nil)))
		restapi.Register(api, restapi.APIKey, http.MethodGet, "/x", "x", "x", "x", func(context.Context, *struct{}) (*struct{}, error) {
			return nil, fmt.Errorf("reading: %w", err)
		})
		w := httptest.NewRecorder()
		router.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/x", nil))
		if w.Code != want {
			t.Errorf("%v: %d %s, want %d", err, w.Code, w.Body, want)
		}
		if !strings.Contains(logged.String(), err.Error()) {
			t.Errorf("%v is not logged where the API was told to: %s", err, logged)
		}
	}
}
