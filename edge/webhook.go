package edge

import (
	"errors"
	"net/http"
	"os"
	"strconv"

	"github.com/go-chi/chi/v5"

	"switchboard/channels"
	"switchboard/internal/problem"
	"switchboard/internal/queue"
)

// Routes mounts the webhooks: POST (and GET and HEAD, where a platform verifies by them)
// /webhooks/{platform}/{account_id}.
//
// Answers: 200 after the commit; 400 when the body is not the platform's JSON;
// 401 when the signature is missing, 403 when it is wrong; 404 for an unknown
// account; 408 when the body takes too long; 413 over the size cap; 503 with
// Retry-After when the updates could not be stored or too much waits for that
// already, so that the platform repeats.
func (e *Edge) Routes(r chi.Router) {
	r.Post("/webhooks/{platform}/{account}", e.webhook)
	r.Get("/webhooks/{platform}/{account}", e.webhookProbe)
	r.Head("/webhooks/{platform}/{account}", e.webhookProbe)
}

// webhookProbe answers platforms that try the address, and people who open it in
// a browser.
func (e *Edge) webhookProbe(w http.ResponseWriter, r *http.Request) {
	if account, _, ok := e.channelOf(w, r); ok {
		if p, is := account.Channel.(channels.Probed); is && p.Probed() {
			w.WriteHeader(http.StatusOK)
			return
		}
		w.Header().Set("Allow", "POST")
		problem.Write(w, http.StatusMethodNotAllowed, "method_not_allowed", "this address takes the platform's POST callbacks")
	}
}

func (e *Edge) channelOf(w http.ResponseWriter, r *http.Request) (*channels.Opened, channels.Webhooks, bool) {
	account, err := e.acc.Get(r.Context(), chi.URLParam(r, "account"))
	if err != nil {
		if errors.Is(err, channels.ErrNoAccount) {
			e.answer(w, "unknown", http.StatusNotFound, "not_found", "no such account")
			return nil, nil, false
		}
		e.answer(w, "unknown", http.StatusServiceUnavailable, "unavailable", "the account can't be used right now")
		return nil, nil, false
	}
	platform := account.Account.Platform
	hooks, ok := account.Channel.(channels.Webhooks)
	if !ok || platform != chi.URLParam(r, "platform") {
		e.answer(w, "unknown", http.StatusNotFound, "not_found", "no such account")
		return nil, nil, false
	}
	return account, hooks, true
}

func (e *Edge) webhook(w http.ResponseWriter, r *http.Request) {
	account, hooks, ok := e.channelOf(w, r)
	if !ok {
		return
	}
	platform := account.Account.Platform
	body := &body{budget: &e.held}
	defer body.release() // the intake has answered by then
	raw, err := body.read(w, r, e.cfg.MaxBody)
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			e.answer(w, platform, http.StatusRequestEntityTooLarge, "too_large", "the body is over "+strconv.FormatInt(e.cfg.MaxBody, 10)+" bytes")
			return
		}
		if errors.Is(err, errOverloaded) {
			e.shed(w, platform)
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			e.answer(w, platform, http.StatusRequestTimeout, "too_slow", "the body took too long")
			return
		}
		e.answer(w, platform, http.StatusBadRequest, "bad_request", "the body could not be read")
		return
	}
	var query map[string][]string
	if r.URL.RawQuery != "" {
		query = r.URL.Query()
	}
	if err := hooks.Verify(r.Header, query, raw); err != nil {
		if errors.Is(err, channels.ErrNoSignature) {
			e.answer(w, platform, http.StatusUnauthorized, "no_signature", "the platform's signature is missing")
			return
		}
		e.answer(w, platform, http.StatusForbidden, "bad_signature", "the platform's signature is wrong")
		return
	}
	pieces, err := hooks.Split(raw)
	if err != nil {
		e.answer(w, platform, http.StatusBadRequest, "bad_request", "the body is not the platform's JSON")
		return
	}
	// The commit goes on when the platform hangs up: only its answer is lost.
	if err := e.intake.submit(rawUpdates(account.Account.ID, pieces)); err != nil {
		e.shed(w, platform)
		return
	}
	e.metrics.webhooks.WithLabelValues(platform, "200").Inc()
	if reply := hooks.Reply(raw); len(reply.Body) > 0 {
		w.Header().Set("Content-Type", reply.ContentType)
		_, _ = w.Write(reply.Body)
	}
}

// shed tells the platform to repeat.
func (e *Edge) shed(w http.ResponseWriter, platform string) {
	w.Header().Set("Retry-After", "2")
	e.answer(w, platform, http.StatusServiceUnavailable, "unavailable", "could not be stored; send it again")
}

func (e *Edge) answer(w http.ResponseWriter, platform string, status int, code, detail string) {
	e.metrics.webhooks.WithLabelValues(platform, strconv.Itoa(status)).Inc()
	problem.Write(w, status, code, detail)
}

func rawUpdates(accountID string, pieces []channels.RawUpdate) []queue.RawUpdate {
	updates := make([]queue.RawUpdate, len(pieces))
	for i, p := range pieces {
		updates[i] = queue.RawUpdate{AccountID: accountID, DedupKey: p.DedupKey, ChatKey: p.ChatKey, Order: p.Order, Raw: p.Raw}
	}
	return updates
}
