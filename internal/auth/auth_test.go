package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"switchboard"
	"switchboard/internal/secret"
)

// people is one operator, ann, in a store that blocks for good after the free
// failures.
type people struct {
	Store
	hash string

	mu      sync.Mutex
	failed  map[string]int
	blocked map[string]bool
	checked int
}

func (p *people) LoginBlocked(_ context.Context, keys []string) (until time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(keys, func(k string) bool { return p.blocked[k] }) {
		until = time.Now().Add(time.Hour)
	}
	return until, nil
}

func (p *people) LoginFailed(ctx context.Context, key string, free int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed[key]++
	p.blocked[key] = p.failed[key] > free
	return ctx.Err()
}

func (p *people) PasswordHash(_ context.Context, login string) (switchboard.Operator, string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checked++
	if login != "ann" {
		return switchboard.Operator{}, "", fmt.Errorf("operator: %w", switchboard.ErrNotFound)
	}
	return switchboard.Operator{ID: "1", Login: login}, p.hash, nil
}

func (*people) AddSession(context.Context, string, []byte, time.Time) error { return nil }
func (*people) LoginSucceeded(context.Context, []string) error              { return nil }
func (*people) Audited(ctx context.Context, _, _ string, do func(context.Context) (string, any, error)) error {
	_, _, err := do(ctx)
	return err
}

func newPeople(t *testing.T) (*people, *Authenticator) {
	t.Helper()
	hash, err := secret.HashPassword("the password")
	if err != nil {
		t.Fatal(err)
	}
	p := &people{hash: hash, failed: map[string]int{}, blocked: map[string]bool{}}
	return p, New(p, slog.New(slog.DiscardHandler))
}

// Guesses that come all at once are not more than those one by one: the throttle
// can't be outrun, and neither memory nor cores go to guessers.
func TestGuessesAtOnce(t *testing.T) {
	t.Parallel()
	p, a := newPeople(t)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			_, _, err := a.LogIn(t.Context(), "ann", fmt.Sprint("guess ", i), fmt.Sprintf("10.0.%d.1:1", i))
			if _, blocked := errors.AsType[*BlockedError](err); !blocked && !errors.Is(err, ErrBadLogin) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most := freePerLogin + maxChecks; p.checked > most {
		t.Errorf("%d passwords were tried, want %d at most", p.checked, most)
	}
	// Others are not held up, from elsewhere or from the same place.
	if _, _, err := a.LogIn(t.Context(), "bob", "x", "10.0.1.1:1"); !errors.Is(err, ErrBadLogin) {
		t.Errorf("another login: %v", err)
	}
}

// A client that hangs up before the answer has guessed all the same.
func TestGuessCountsWithoutItsClient(t *testing.T) {
	t.Parallel()
	p, a := newPeople(t)
	ctx, cancel := context.WithCancel(t.Context())
	p.Store = nil
	gone := &leaving{p, cancel}
	a.store = gone
	if _, _, err := a.LogIn(ctx, "ann", "guess", "10.0.0.1:1"); !errors.Is(err, ErrBadLogin) || p.failed["login:ann"] != 1 {
		t.Errorf("%v, counted %d", err, p.failed["login:ann"])
	}
}

// leaving is a store whose client leaves while the password is looked up.
type leaving struct {
	*people
	cancel func()
}

func (l *leaving) PasswordHash(ctx context.Context, login string) (switchboard.Operator, string, error) {
	l.cancel()
	return l.people.PasswordHash(ctx, login)
}

func (l *leaving) LoginFailed(ctx context.Context, key string, free int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.people.LoginFailed(ctx, key, free)
}

// The time of the answer doesn't tell whether there is such a login. (Not beside
// the other tests: it measures.)
func TestUnknownLoginTakesAsLong(t *testing.T) {
	p, a := newPeople(t)
	least := map[string]time.Duration{"ann": time.Hour, "nobody": time.Hour}
	for range 3 {
		for login := range least {
			clear(p.blocked)
			clear(p.failed)
			began := time.Now()
			if _, _, err := a.LogIn(t.Context(), login, "guess", "10.0.0.1:1"); !errors.Is(err, ErrBadLogin) {
				t.Fatal(err)
			}
			least[login] = min(least[login], time.Since(began))
		}
	}
	if known, unknown := least["ann"], least["nobody"]; unknown < known/3 || known < unknown/3 {
		t.Errorf("a known login takes %v, an unknown one %v", known, unknown)
	}
	if _, _, err := a.LogIn(t.Context(), "a\x00nn", "guess", "10.0.0.1:1"); !errors.Is(err, ErrBadLogin) {
		t.Errorf("a login with a zero byte: %v", err)
	}
}
