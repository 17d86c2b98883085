package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The control API. Bodies and answers are JSON; an error is
// {"error":"..."} with 400 or 404. {account} is a token, its public part
// (Telegram: bot id; Viber: first group) or the account's name.
//
//	GET    /control/accounts                                   all accounts
//	POST   /control/{platform}/accounts                        AccountSpec -> the account and its token
//	GET    /control/{platform}/{account}                       state
//	PATCH  /control/{platform}/{account}                       AccountOptions
//	GET    /control/{platform}/{account}/requests              ?method=&customer=&since=SEQ&wait=5s&count=N
//	DELETE /control/{platform}/{account}/requests              forgets records and counters
//	GET    /control/{platform}/{account}/callbacks             webhook attempts: ?event= and as above
//	GET    /control/{platform}/{account}/rates                 Rates
//	POST   /control/{platform}/{account}/raw                   any JSON as an update
//	POST   /control/{platform}/{account}/customers             CustomerSpec, with "count" many
//	GET    /control/{platform}/{account}/customers
//	GET    /control/{platform}/{account}/customers/{id}
//	PATCH  /control/{platform}/{account}/customers/{id}        CustomerPatch
//	GET    /control/{platform}/{account}/customers/{id}/messages  ?from=bot|customer&since=SEQ&wait=5s&count=N
//	POST   /control/{platform}/{account}/customers/{id}/{action}  TelegramAction or ViberAction -> Sent
//	POST   /control/faults                                     Fault -> {"id"}
//	GET    /control/faults
//	DELETE /control/faults, /control/faults/{id}
//	POST   /control/load                                       LoadSpec -> {"id"}
//	DELETE /control/load/{id}                                  stops it
//	GET    /control/report                                     LoadReport of every run
//	GET    /control/actions                                    names of actions by platform
func (s *Simulator) controlRoutes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			writeControl(w, v, err)
		})
	}
	withAccount := func(f func(a account, r *http.Request) (any, error)) func(r *http.Request) (any, error) {
		return func(r *http.Request) (any, error) {
			p, ok := s.platforms[r.PathValue("platform")]
			if !ok {
				return nil, notFound("platform %q", r.PathValue("platform"))
			}
			a, ok := p.find(r.PathValue("account"))
			if !ok {
				return nil, notFound("account of %s", p.name())
			}
			return f(a, r)
		}
	}
	withCustomer := func(f func(c customer, r *http.Request) (any, error)) func(r *http.Request) (any, error) {
		return withAccount(func(a account, r *http.Request) (any, error) {
			c, ok := a.customer(r.PathValue("id"))
			if !ok {
				return nil, notFound("customer %q", r.PathValue("id"))
			}
			return f(c, r)
		})
	}

	handle("GET /control/accounts", func(*http.Request) (any, error) {
		out := []any{}
		for _, p := range s.order {
			for _, a := range p.accounts() {
				out = append(out, a.describe())
			}
		}
		return items(out), nil
	})
	handle("GET /control/actions", func(*http.Request) (any, error) {
		out := map[string][]string{}
		for _, p := range s.order {
			out[p.name()] = p.actions()
		}
		return out, nil
	})
	handle("POST /control/{platform}/accounts", func(r *http.Request) (any, error) {
		p, ok := s.platforms[r.PathValue("platform")]
		if !ok {
			return nil, notFound("platform %q", r.PathValue("platform"))
		}
		var spec AccountSpec
		if err := body(r, &spec); err != nil {
			return nil, err
		}
		a, err := p.register(spec)
		if err != nil {
			return nil, err
		}
		d := a.describe()
		d["token"] = a.core().token
		return d, nil
	})
	handle("GET /control/{platform}/{account}", withAccount(func(a account, _ *http.Request) (any, error) {
		return a.describe(), nil
	}))
	handle("PATCH /control/{platform}/{account}", withAccount(func(a account, r *http.Request) (any, error) {
		var o AccountOptions
		if err := body(r, &o); err != nil {
			return nil, err
		}
		a.core().Set(o)
		if o.FreeMessages != nil || o.Webhook != nil || o.Window != nil || o.Templates != nil {
			a.changed()
		}
		return a.describe(), nil
	}))
	handle("GET /control/{platform}/{account}/requests", withAccount(func(a account, r *http.Request) (any, error) {
		q, err := readQuery(r)
		if err != nil {
			return nil, err
		}
		var out []Request
		method, who := r.FormValue("method"), r.FormValue("customer")
		await(r.Context(), &a.core().rec.changed, q.wait, func() bool {
			out = a.core().rec.list(func(x *Request) bool {
				return x.Seq > q.since && (method == "" || equalFold(x.Method, method)) && (who == "" || who == x.Customer)
			})
			return len(out) >= q.count
		})
		return items(out), nil
	}))
	handle("DELETE /control/{platform}/{account}/requests", withAccount(func(a account, _ *http.Request) (any, error) {
		a.core().rec.reset()
		return map[string]any{}, nil
	}))
	handle("GET /control/{platform}/{account}/callbacks", withAccount(func(a account, r *http.Request) (any, error) {
		q, err := readQuery(r)
		if err != nil {
			return nil, err
		}
		var out []Callback
		event, who := r.FormValue("event"), r.FormValue("customer")
		await(r.Context(), &a.core().rec.changed, q.wait, func() bool {
			out = a.core().rec.listCallbacks(func(x *Callback) bool {
				return x.Seq > q.since && (event == "" || x.Event == event) && (who == "" || who == x.Customer)
			})
			return len(out) >= q.count
		})
		return items(out), nil
	}))
	handle("GET /control/{platform}/{account}/rates", withAccount(func(a account, _ *http.Request) (any, error) {
		return a.core().Rates(), nil
	}))
	handle("POST /control/{platform}/{account}/raw", withAccount(func(a account, r *http.Request) (any, error) {
		b, err := io.ReadAll(io.LimitReader(r.Body, maxControlBody))
		if err != nil {
			return nil, err
		}
		return a.inject(b)
	}))
	handle("POST /control/{platform}/{account}/customers", withAccount(func(a account, r *http.Request) (any, error) {
		var in struct {
			CustomerSpec
			Count int `json:"count"`
		}
		if err := body(r, &in); err != nil {
			return nil, err
		}
		if in.Count == 0 {
			c, err := a.addCustomer(in.CustomerSpec)
			if err != nil {
				return nil, err
			}
			return c.describe(), nil
		}
		if in.ID != "" || in.Count < 0 || in.Count > 1_000_000 {
			return nil, errors.New("count: want 1 to 1,000,000, and no id")
		}
		ids := make([]string, 0, in.Count)
		for range in.Count {
			c, err := a.addCustomer(in.CustomerSpec)
			if err != nil {
				return nil, err
			}
			ids = append(ids, c.base().id)
		}
		return map[string]any{"ids": ids}, nil
	}))
	handle("GET /control/{platform}/{account}/customers", withAccount(func(a account, _ *http.Request) (any, error) {
		out := []any{}
		for _, c := range a.customers() {
			out = append(out, c.describe())
		}
		return items(out), nil
	}))
	handle("GET /control/{platform}/{account}/customers/{id}", withCustomer(func(c customer, _ *http.Request) (any, error) {
		return c.describe(), nil
	}))
	handle("PATCH /control/{platform}/{account}/customers/{id}", withCustomer(func(c customer, r *http.Request) (any, error) {
		var p CustomerPatch
		if err := body(r, &p); err != nil {
			return nil, err
		}
		if err := c.set(p); err != nil {
			return nil, err
		}
		return c.describe(), nil
	}))
	handle("GET /control/{platform}/{account}/customers/{id}/messages", withCustomer(func(c customer, r *http.Request) (any, error) {
		q, err := readQuery(r)
		if err != nil {
			return nil, err
		}
		from := r.FormValue("from")
		out := []Message{}
		await(r.Context(), &c.base().changed, q.wait, func() bool {
			out = out[:0]
			for _, m := range c.view(q.since) {
				if from == "" || m.From == from {
					out = append(out, m)
				}
			}
			return len(out) >= q.count
		})
		return items(out), nil
	}))
	handle("POST /control/{platform}/{account}/customers/{id}/{action}", withCustomer(func(c customer, r *http.Request) (any, error) {
		b, err := io.ReadAll(io.LimitReader(r.Body, maxControlBody))
		if err != nil {
			return nil, err
		}
		return c.act(r.PathValue("action"), b)
	}))

	handle("POST /control/faults", func(r *http.Request) (any, error) {
		var f Fault
		if err := body(r, &f); err != nil {
			return nil, err
		}
		id, err := s.Fault(f)
		return map[string]string{"id": id}, err
	})
	handle("GET /control/faults", func(*http.Request) (any, error) { return items(s.Faults()), nil })
	handle("DELETE /control/faults", func(*http.Request) (any, error) {
		s.ClearFaults()
		return map[string]any{}, nil
	})
	handle("DELETE /control/faults/{id}", func(r *http.Request) (any, error) {
		s.ClearFaults(r.PathValue("id"))
		return map[string]any{}, nil
	})
	handle("POST /control/load", func(r *http.Request) (any, error) {
		var spec LoadSpec
		if err := body(r, &spec); err != nil {
			return nil, err
		}
		id, err := s.StartLoad(spec)
		return map[string]string{"id": id}, err
	})
	handle("DELETE /control/load/{id}", func(r *http.Request) (any, error) {
		return map[string]any{}, s.StopLoad(r.PathValue("id"))
	})
	handle("GET /control/report", func(*http.Request) (any, error) { return items(s.Report()), nil })
	return mux
}

const maxControlBody = 32 << 20

// notFoundError is answered with 404.
type notFoundError string

func (e notFoundError) Error() string { return string(e) }

func notFound(format string, args ...any) error {
	return notFoundError("no such " + fmt.Sprintf(format, args...))
}

func writeControl(w http.ResponseWriter, v any, err error) {
	w.Header()["Content-Type"] = jsonType
	if err != nil {
		status := http.StatusBadRequest
		var nf notFoundError
		if errors.As(err, &nf) {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		v = map[string]string{"error": err.Error()}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.Encode(v) //nolint:errcheck // the client may have gone
}

func items[T any](list []T) map[string]any { return map[string]any{"items": list} }

func body(r *http.Request, v any) error {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxControlBody))
	if err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	return decodeStrict(b, v)
}

type query struct {
	since int64
	wait  time.Duration
	count int
}

func readQuery(r *http.Request) (query, error) {
	q := query{count: 1}
	var err error
	if v := r.FormValue("since"); v != "" {
		if q.since, err = strconv.ParseInt(v, 10, 64); err != nil {
			return q, fmt.Errorf("since %q: want a number", v)
		}
	}
	if v := r.FormValue("count"); v != "" {
		if q.count, err = strconv.Atoi(v); err != nil {
			return q, fmt.Errorf("count %q: want a number", v)
		}
	}
	if v := r.FormValue("wait"); v != "" {
		if strings.Trim(v, "0123456789") == "" {
			v += "s"
		}
		if q.wait, err = time.ParseDuration(v); err != nil {
			return q, fmt.Errorf("wait %q: write it as 5s", r.FormValue("wait"))
		}
	}
	return q, nil
}
