package simulator

import "sync"

// roster is a platform's accounts, in the order of their registration.
type roster[A account] struct {
	mu      sync.RWMutex
	byToken map[string]A
	list    []A
}

func newRoster[A account]() roster[A] { return roster[A]{byToken: map[string]A{}} }

// add enters an account; the caller holds mu.
func (r *roster[A]) add(token string, a A) {
	r.byToken[token] = a
	r.list = append(r.list, a)
}

// of returns the account of a token, or nil.
func (r *roster[A]) of(token string) A {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byToken[token]
}

// find returns an account by its token or by its name in the control API.
func (r *roster[A]) find(ref string) (account, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if a, ok := r.byToken[ref]; ok {
		return a, true
	}
	for _, a := range r.list {
		if a.is(ref) {
			return a, true
		}
	}
	return nil, false
}

func (r *roster[A]) accounts() []account {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]account, len(r.list))
	for i, a := range r.list {
		out[i] = a
	}
	return out
}
