// Package problem writes errors of the REST API as RFC 9457 problem documents
// with a stable code.
package problem

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"switchboard"
)

// Error is a problem document, and an error.
type Error struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`             // stable, for programs
	Detail string `json:"detail,omitempty"` // for people: what is wrong and what would be right

	RetryAfter int `json:"-"` // seconds, for the header; 0: none
}

// New makes a problem.
func New(status int, code, detail string) *Error {
	return &Error{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

func (e *Error) Error() string { return e.Code + ": " + e.Detail }

// GetStatus is for HTTP frameworks that ask an error for its status.
func (e *Error) GetStatus() int { return e.Status }

// ContentType is the media type of the document.
func (e *Error) ContentType(string) string { return "application/problem+json" }

// Write answers a request with a problem.
func Write(w http.ResponseWriter, status int, code, detail string) {
	Send(w, New(status, code, detail))
}

// Send answers a request with e.
func Send(w http.ResponseWriter, e *Error) {
	body, _ := json.Marshal(e)
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(append(body, '\n'))
}

// From turns an error into a problem: those of package switchboard into their
// statuses, an *Error into itself, and anything else into a 500 that tells
// nothing (the caller logs it).
func From(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, switchboard.ErrNotFound):
		return New(http.StatusNotFound, "not_found", "no such thing, or not yours to see")
	case errors.Is(err, switchboard.ErrForbidden):
		return New(http.StatusForbidden, "forbidden", switchboard.Reason(err))
	case errors.Is(err, switchboard.ErrConflict):
		return New(http.StatusConflict, "conflict", switchboard.Reason(err))
	case errors.Is(err, switchboard.ErrInvalid):
		return New(http.StatusUnprocessableEntity, "invalid", switchboard.Reason(err))
	case errors.Is(err, switchboard.ErrUnavailable):
		return New(http.StatusServiceUnavailable, "unavailable", "the service can't do this right now; try again")
	default:
		return New(http.StatusInternalServerError, "internal", "something went wrong on our side; it was logged")
	}
}
