package restapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"switchboard/internal/auth"
	"switchboard/internal/problem"
)

// Requests checks whole requests; *auth.Authenticator is one.
type Requests interface {
	Request(r *http.Request) (auth.Principal, error)
}

// Stream makes a handler of one that reads a body of any length by itself, outside
// the frame, with the frame's access, context and errors. The handler answers when
// it returns no error.
func Stream(requests Requests, access Access, unavailable func(error) bool, log *slog.Logger, handler func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, refused := streamer(r, requests, access, log)
		if refused != nil {
			if refused.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			problem.Send(w, refused)
			return
		}
		ctx := context.WithValue(context.WithValue(r.Context(), principalKey{}, p), serverKey{}, server{unavailable, log})
		if err := handler(w, r.WithContext(ctx)); err != nil && r.Context().Err() == nil {
			e, _ := errors.AsType[*problem.Error](Fail(ctx, late(ctx, err)))
			problem.Send(w, e)
		}
	}
}

func streamer(r *http.Request, requests Requests, access Access, log *slog.Logger) (auth.Principal, *problem.Error) {
	ctx, cancel := context.WithTimeout(r.Context(), callTime)
	defer cancel()
	p, err := requests.Request(r.WithContext(ctx))
	return p, admit(ctx, access, p, err, log)
}

// Moving is the body of a request that may take as long as it moves: a read that
// waits for longer than idle is its end.
func Moving(w http.ResponseWriter, body io.Reader, idle time.Duration) io.Reader {
	return &moving{body, http.NewResponseController(w), idle}
}

type moving struct {
	r    io.Reader
	ctl  *http.ResponseController
	idle time.Duration
}

// Read implements io.Reader.
func (m *moving) Read(p []byte) (int, error) {
	_ = m.ctl.SetReadDeadline(time.Now().Add(m.idle))
	n, err := m.r.Read(p)
	if err == io.EOF { // behind the body the server listens for the client's going
		_ = m.ctl.SetReadDeadline(time.Time{})
	}
	// Whatever is answered is answered after this.
	_ = m.ctl.SetWriteDeadline(time.Now().Add(2 * m.idle))
	return n, err
}
