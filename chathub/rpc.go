package chathub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"switchboard"
	"switchboard/channels"
	"switchboard/message"
)

type request struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
}

type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

type notification struct {
	Version string `json:"jsonrpc"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
}

// rpcError is the error object of JSON-RPC, and an error.
type rpcError struct {
	Code    int       `json:"code"`
	Message string    `json:"message"`
	Data    errorData `json:"data"`
}

type errorData struct {
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}

func (e *rpcError) Error() string { return e.Data.Code + ": " + e.Data.Detail }

// errorNames are the errors of the protocol by code; Message is the name in words.
var errorNames = map[int]string{
	-32700: "parse_error",
	-32600: "invalid_request",
	-32601: "method_not_found",
	-32602: "invalid_params",
	-32603: "internal_error",
	1001:   "not_found",
	1002:   "forbidden",
	1003:   "unsupported_by_channel",
	1004:   "limit_exceeded",
	1005:   "conflict",
	1006:   "unavailable",
}

// The codes as the code uses them.
const (
	codeParse       = -32700
	codeRequest     = -32600
	codeMethod      = -32601
	codeParams      = -32602
	codeInternal    = -32603
	codeNotFound    = 1001
	codeForbidden   = 1002
	codeUnsupported = 1003
	codeLimit       = 1004
	codeConflict    = 1005
	codeUnavailable = 1006
)

func fail(code int, format string, args ...any) *rpcError {
	name := errorNames[code]
	return &rpcError{Code: code, Message: strings.ReplaceAll(name, "_", " "), Data: errorData{name, fmt.Sprintf(format, args...)}}
}

// toRPC turns an error into the protocol's. Errors that are nobody's concern
// but ours are logged here and told without detail.
func (h *Hub) toRPC(ctx context.Context, method string, err error) *rpcError {
	if e, ok := errors.AsType[*rpcError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*message.Refusal](err); ok {
		switch e.Code {
		case message.RefusedUnsupported:
			return fail(codeUnsupported, "%s", e.Detail)
		case message.RefusedLimit:
			return fail(codeLimit, "%s", e.Detail)
		default:
			return fail(codeParams, "%s", e.Detail)
		}
	}
	switch {
	case errors.Is(err, switchboard.ErrNotFound):
		return fail(codeNotFound, "%s", err)
	case errors.Is(err, switchboard.ErrForbidden):
		return fail(codeForbidden, "%s", switchboard.Reason(err))
	case errors.Is(err, switchboard.ErrConflict):
		return fail(codeConflict, "%s", switchboard.Reason(err))
	case errors.Is(err, switchboard.ErrInvalid):
		return fail(codeParams, "%s", switchboard.Reason(err))
	case errors.Is(err, channels.ErrNoAccount):
		return fail(codeConflict, "the account of this chat is unknown or has been removed")
	case h.unavailable(err):
		h.log.WarnContext(ctx, "call could not be served", "method", method, "error", err)
		return fail(codeUnavailable, "the service can't do this right now; try again in a second")
	}
	h.log.ErrorContext(ctx, "call failed", "method", method, "error", err)
	return fail(codeInternal, "our fault; it has been logged")
}

// method handles one call and returns its result.
type method func(ctx context.Context, c *conn, params json.RawMessage) (any, error)

// typed makes a method of a function with a struct of parameters.
func typed[P any](do func(ctx context.Context, c *conn, p *P) (any, error)) method {
	return func(ctx context.Context, c *conn, params json.RawMessage) (any, error) {
		p := new(P)
		if err := decodeParams(params, p); err != nil {
			return nil, err
		}
		return do(ctx, c, p)
	}
}

func decodeParams(params json.RawMessage, into any) error {
	if len(params) == 0 || string(params) == "null" {
		return nil
	}
	if params[0] != '{' {
		return fail(codeParams, "params must be an object")
	}
	d := json.NewDecoder(bytes.NewReader(params))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fail(codeParams, "%s must be %s, not %s", e.Field, wanted(e.Type), e.Value)
	}
	// "json: unknown field \"x\"" is all that encoding/json gives.
	return fail(codeParams, "%s", strings.TrimPrefix(err.Error(), "json: "))
}

// wanted says in JSON's words what a parameter must be.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "an array"
	case reflect.Struct:
		return "an object"
	default:
		return "a string"
	}
}

// follower is a result after which something is to be sent.
type follower interface {
	then(ctx context.Context) error
}

// received handles one frame, in the connection's reading goroutine: the next
// frame is read when this one is done with.
func (c *conn) received(frame []byte) {
	if !c.begin() {
		return
	}
	defer c.end()
	h := c.hub
	var req request
	if e := parse(frame, &req); e != nil {
		h.metrics.calls.WithLabelValues("", e.Data.Code).Inc()
		c.answer(response{Version: "2.0", ID: req.ID, Error: e})
		return
	}
	label := req.Method
	do, known := h.methods[req.Method]
	if !known {
		label = "unknown" // names that clients make up must not become labels
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(h.base, h.cfg.CallTimeout)
	defer cancel()
	result, err := any(nil), error(nil)
	switch {
	case !known:
		err = fail(codeMethod, "unknown method %.64q", req.Method)
	case req.Method != methodHello && !c.greeted():
		err = fail(codeConflict, "the first call must be hello")
	default:
		err = h.guarded(ctx, label, func() (err error) {
			result, err = do(ctx, c, req.Params)
			return err
		})
	}
	outcome := "ok"
	res := response{Version: "2.0", ID: req.ID, Result: result}
	if err != nil {
		res.Result, res.Error = nil, h.toRPC(ctx, label, err)
		outcome = res.Error.Data.Code
	}
	h.metrics.calls.WithLabelValues(label, outcome).Inc()
	h.metrics.callTime.WithLabelValues(label).Observe(time.Since(start).Seconds())
	if req.ID != nil {
		c.answer(res)
	}
	if f, ok := result.(follower); ok && err == nil {
		err := h.guarded(h.base, label, func() error { return f.then(h.base) })
		if err != nil && !errors.Is(err, errClosing) {
			h.log.WarnContext(h.base, "missed events could not be sent", "operator", c.operator.ID, "error", err)
			c.close(closeTooSlow) // the client resumes by cursor where this stopped
		}
	}
}

// guarded keeps a panic from taking the process down.
func (h *Hub) guarded(ctx context.Context, method string, do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			h.log.ErrorContext(ctx, "panic in a call", "method", method, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = fail(codeInternal, "our fault; it has been logged")
		}
	}()
	return do()
}

var null = json.RawMessage("null")

// parse reads a request. On error req.ID is the id to answer to.
func parse(frame []byte, req *request) *rpcError {
	frame = bytes.TrimLeft(frame, " \t\r\n")
	if len(frame) > 0 && frame[0] == '[' {
		req.ID = null
		return fail(codeRequest, "batches are not supported; send one object a frame")
	}
	d := json.NewDecoder(bytes.NewReader(frame))
	err := d.Decode(req)
	_, mistyped := errors.AsType[*json.UnmarshalTypeError](err)
	if err != nil && !mistyped {
		req.ID = null
		return fail(codeParse, "not JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		req.ID = null
		return fail(codeParse, "one JSON object a frame")
	}
	if len(req.ID) > 0 && strings.IndexByte(`"-0123456789n`, req.ID[0]) < 0 {
		req.ID = null
		return fail(codeRequest, "id must be a string, a number or null")
	}
	if mistyped {
		if req.ID == nil {
			req.ID = null
		}
		return fail(codeRequest, "a request is an object with jsonrpc, id, method and params")
	}
	if req.Version != "2.0" || req.Method == "" {
		if req.ID == nil {
			req.ID = null
		}
		return fail(codeRequest, `a request needs "jsonrpc":"2.0" and a method`)
	}
	return nil
}

func (c *conn) answer(res response) {
	if res.Error == nil && res.Result == nil {
		res.Result = struct{}{}
	}
	frame, err := json.Marshal(res)
	if err != nil {
		c.hub.log.ErrorContext(c.hub.base, "answer could not be encoded", "error", err)
		frame, _ = json.Marshal(response{Version: "2.0", ID: res.ID, Error: fail(codeInternal, "our fault; it has been logged")})
	}
	c.push(frame)
}

func (c *conn) greeted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state != greeting
}
