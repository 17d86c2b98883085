package restapi_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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
	restapi.RegisterSessions(restapi.New(router, "test", nil, slog.New(slog.DiscardHandler)), blocked{})
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
