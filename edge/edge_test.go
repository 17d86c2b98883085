package edge_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"

	"switchboard"
	"switchboard/channels"
	"switchboard/edge"
	"switchboard/internal/queue"
)

// store is the database as the edge sees it.
type store struct {
	mu      sync.Mutex
	batches [][]queue.RawUpdate
	offset  int64
	epoch   int64
	lease   string
	elected bool // the lease's holder
	until   time.Time
	state   switchboard.AccountState
	asked   time.Time // for reports
	sent    []sentMessage
	append  func(ctx context.Context, updates []queue.RawUpdate) error // nil: stored
}

// sentMessage is one of which nothing was heard.
type sentMessage struct {
	id string
	at time.Time
}

func (s *store) Append(ctx context.Context, updates []queue.RawUpdate) error {
	if s.append != nil {
		if err := s.append(ctx, updates); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, updates)
	return nil
}

func (s *store) AppendPolled(ctx context.Context, _ string, epoch, offset int64, updates []queue.RawUpdate) error {
	s.mu.Lock()
	fenced := epoch != s.epoch
	s.mu.Unlock()
	if fenced {
		return queue.ErrFenced
	}
	if err := s.Append(ctx, updates); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset = offset
	return nil
}

func (s *store) BeginPolling(context.Context, string) (epoch, offset int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	return s.epoch, s.offset, nil
}

func (s *store) LeasePolling(_ context.Context, _, holder string, elected bool, d time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != holder && time.Now().Before(s.until) && (!elected || !s.elected) {
		return false, nil
	}
	s.lease, s.elected, s.until = holder, elected, time.Now().Add(d)
	return true, nil
}

func (s *store) ReleasePolling(_ context.Context, _, holder string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == holder {
		s.until = time.Time{}
	}
	return nil
}

func (s *store) SetAccountState(_ context.Context, _ string, state switchboard.AccountState, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
	return nil
}

func (s *store) ReportsAskedAt(context.Context, string) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, nil
}

func (s *store) SetReportsAskedAt(_ context.Context, _ string, at time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = at
	return nil
}

// Unreported hands out the messages queued in the span, id by id.
func (s *store) Unreported(_ context.Context, _ string, from, to, acceptedBy time.Time, after string, limit int) (list []queue.Unreported, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.sent {
		if m.at.After(from) && !m.at.After(to) && !m.at.After(acceptedBy) && m.id > after && len(list) < limit {
			list = append(list, queue.Unreported{ID: m.id, Chat: "c", PlatformIDs: []string{"p" + m.id}})
		}
	}
	return list, nil
}

func (s *store) stored() (n int, batches int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.batches {
		n += len(b)
	}
	return n, len(s.batches)
}

// electing is a bus that elects everybody while it is there.
type electing struct {
	mu   sync.Mutex
	away error
}

func (b *electing) Wake(string) {}

func (b *electing) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = err
}

func (b *electing) Ready() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.away
}

func (b *electing) Lead(ctx context.Context, _ string, lead func(context.Context)) error {
	for ctx.Err() == nil {
		if b.Ready() == nil {
			term, stop := context.WithCancel(ctx)
			ended := make(chan struct{})
			go func() { lead(term); close(ended) }()
			for b.Ready() == nil && ctx.Err() == nil {
				pause(ctx, 100*time.Millisecond)
			}
			stop()
			<-ended
		}
		pause(ctx, 100*time.Millisecond)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// channel takes webhooks whose body is one update, or is polled.
type channel struct {
	channels.Channel
	polls bool
	poll  func(ctx context.Context, offset int64) ([]channels.RawUpdate, int64, error)
}

func (c *channel) Polls() bool { return c.polls }

func (c *channel) Poll(ctx context.Context, offset int64) ([]channels.RawUpdate, int64, error) {
	return c.poll(ctx, offset)
}

func (c *channel) Verify(h http.Header, _ map[string][]string, _ []byte) error {
	switch h.Get("Signature") {
	case "":
		return channels.ErrNoSignature
	case "good":
		return nil
	}
	return errors.New("wrong")
}

func (c *channel) Split(raw []byte) ([]channels.RawUpdate, error) {
	if err := channels.CheckObject(raw); err != nil {
		return nil, err
	}
	return []channels.RawUpdate{{DedupKey: string(raw), ChatKey: "c", Raw: raw}}, nil
}

func (c *channel) Reply([]byte) channels.Reply {
	return channels.Reply{ContentType: "text/plain", Body: []byte("hello")}
}

// accounts has one account, "a", of platform p.
type accounts struct{ opened *channels.Opened }

func (a accounts) Get(_ context.Context, id string) (*channels.Opened, error) {
	if id != "a" {
		return nil, channels.ErrNoAccount
	}
	return a.opened, nil
}

func (a accounts) All() (map[string]*channels.Opened, <-chan struct{}) {
	return map[string]*channels.Opened{"a": a.opened}, nil
}

// start runs an edge until stop, or the test, ends.
func start(t *testing.T, cfg edge.Config, s edge.Store, b edge.Bus, c *channel) (e *edge.Edge, stop func()) {
	t.Helper()
	e, err := edge.New(cfg, s, b, accounts{&channels.Opened{Account: channels.Account{ID: "a", Platform: "p"}, Channel: c}}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		if err := e.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		close(ended)
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	return e, stop
}

func post(e *edge.Edge, path, signature, body string) *httptest.ResponseRecorder {
	router := chi.NewRouter()
	e.Routes(router)
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	if signature != "" {
		r.Header.Set("Signature", signature)
	}
	w := httptest.NewRecorder()
	router.ServeHTTP(w, r)
	return w
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := &store{}
	e, _ := start(t, edge.Config{MaxBody: 20}, s, &electing{}, &channel{})
	const good = "/webhooks/p/a"
	for _, c := range []struct {
		path, signature, body string
		want                  int
		text                  string
	}{
		{good, "good", `{"n":1}`, 200, "hello"},
		{good, "", `{"n":2}`, 401, "no_signature"},
		{good, "bad", `{"n":3}`, 403, "bad_signature"},
		{"/webhooks/p/b", "good", `{"n":4}`, 404, "not_found"},
		{"/webhooks/q/a", "good", `{"n":5}`, 404, "not_found"},
		{good, "good", `{"n":"123456789012"}`, 200, "hello"},
		{good, "good", `{"n":"1234567890123"}`, 413, "20 bytes"},
		{good, "good", `[1]`, 400, "bad_request"},
		{good, "good", ``, 400, "bad_request"},
	} {
		if w := post(e, c.path, c.signature, c.body); w.Code != c.want || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s %q %q: %d %s, want %d %s", c.path, c.signature, c.body, w.Code, w.Body, c.want, c.text)
		}
	}
	if n, _ := s.stored(); n != 2 {
		t.Errorf("%d stored, want 2", n)
	}
}

// What comes while a commit is under way goes into the next one, together.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &store{append: func(context.Context, []queue.RawUpdate) error { <-release; return nil }}
		e, stop := start(t, edge.Config{}, s, &electing{}, &channel{})
		var wg sync.WaitGroup
		send := func(body string) {
			wg.Go(func() {
				if w := post(e, "/webhooks/p/a", "good", body); w.Code != 200 {
					t.Errorf("%s: %d", body, w.Code)
				}
			})
			synctest.Wait()
		}
		send(`{"n":0}`)
		for range 63 {
			send(`{"n":1}`)
		}
		close(release)
		wg.Wait()
		if n, batches := s.stored(); n != 64 || batches != 2 {
			t.Errorf("%d updates in %d commits, want 64 in 2", n, batches)
		}
		stop()
	})
}

// An update that the database refuses takes no other with it.
func TestOneRefusedUpdate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &store{append: func(_ context.Context, updates []queue.RawUpdate) error {
			<-release
			for _, u := range updates {
				if u.DedupKey == `{"n":"bad"}` {
					return errors.New("invalid byte sequence")
				}
			}
			return nil
		}}
		e, stop := start(t, edge.Config{}, s, &electing{}, &channel{})
		var wg sync.WaitGroup
		for body, want := range map[string]int{`{"n":1}`: 200, `{"n":2}`: 200, `{"n":"bad"}`: 503, `{"n":3}`: 200} {
			wg.Go(func() {
				if w := post(e, "/webhooks/p/a", "good", body); w.Code != want || (want == 503) != (w.Header().Get("Retry-After") != "") {
					t.Errorf("%s: %d %v, want %d", body, w.Code, w.Header(), want)
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		stop()
	})
}

// A database that hangs makes the platforms repeat, in time; what waits beyond
// the limit is shed at once.
func TestHangingDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{append: func(ctx context.Context, _ []queue.RawUpdate) error { <-ctx.Done(); return ctx.Err() }}
		e, stop := start(t, edge.Config{MaxWaiting: 3}, s, &electing{}, &channel{})
		began := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var slowest time.Duration
		for range 4 {
			wg.Go(func() {
				w := post(e, "/webhooks/p/a", "good", `{"n":1}`)
				mu.Lock()
				defer mu.Unlock()
				slowest = max(slowest, time.Since(began))
				if w.Code != 503 {
					t.Errorf("answer %d, want 503", w.Code)
				}
			})
			synctest.Wait()
		}
		if w := post(e, "/webhooks/p/a", "good", `{"n":1}`); w.Code != 503 || time.Since(began) != 0 {
			t.Errorf("one too many: %d after %v", w.Code, time.Since(began))
		}
		wg.Wait()
		if slowest > 8*time.Second {
			t.Errorf("answered after %v", slowest)
		}
		stop()
	})
}

// After the stop nobody waits for an answer that nobody will give.
func TestWebhookAfterStop(t *testing.T) {
	t.Parallel()
	e, stop := start(t, edge.Config{}, &store{}, &electing{}, &channel{})
	stop()
	if w := post(e, "/webhooks/p/a", "good", `{"n":1}`); w.Code != 503 {
		t.Errorf("answer = %d, want 503", w.Code)
	}
}

// numbered polls one update a second, numbered by the offset.
func numbered() *channel {
	return &channel{polls: true, poll: func(ctx context.Context, offset int64) ([]channels.RawUpdate, int64, error) {
		pause(ctx, time.Second)
		return []channels.RawUpdate{{DedupKey: time.Now().String(), ChatKey: "c", Raw: []byte("{}")}}, offset + 1, ctx.Err()
	}}
}

// Without elections exactly one process polls, under the lease; when the bus is
// back it stops, and when it dies another takes over.
func TestPollingWithoutElections(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, away := &store{}, errors.New("no quorum")
		bus1, bus2 := &electing{away: away}, &electing{away: away}
		_, stop1 := start(t, edge.Config{Node: "one"}, s, bus1, numbered())
		_, stop2 := start(t, edge.Config{Node: "two"}, s, bus2, numbered())
		time.Sleep(9 * time.Second)
		if n, _ := s.stored(); n != 0 {
			t.Errorf("%d updates before anybody's patience ended", n)
		}
		time.Sleep(51 * time.Second)
		n, _ := s.stored()
		if s.mu.Lock(); s.epoch != 1 || n < 45 || n > 50 || s.offset != int64(n) {
			t.Errorf("%d updates in %d terms to offset %d, want about 48 in one", n, s.epoch, s.offset)
		}
		holder := s.lease
		s.mu.Unlock()
		first, second := stop1, stop2
		if holder == "two" {
			first, second = second, first
		}
		first()
		time.Sleep(15 * time.Second)
		if after, _ := s.stored(); after < n+8 {
			t.Errorf("%d updates since the holder stopped", after-n)
		}
		bus1.set(nil)
		bus2.set(nil)
		time.Sleep(30 * time.Second)
		if s.mu.Lock(); s.epoch != 3 || !s.elected {
			t.Errorf("epoch %d, elected %v: want the third, elected", s.epoch, s.elected)
		}
		s.mu.Unlock()
		second()
	})
}

// A process that alone is cut off from the bus stays away from an account whose
// elected poller is well; and one that stands in is not disturbed by an election
// that it can't know of.
func TestPollingWhileCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, away := &store{}, errors.New("cut off")
		well, cut := &electing{}, &electing{away: away}
		_, stop1 := start(t, edge.Config{Node: "one"}, s, well, numbered())
		_, stop2 := start(t, edge.Config{Node: "two"}, s, cut, numbered())
		terms := func(want int64, lease string) {
			t.Helper()
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.epoch != want || s.lease != lease {
				t.Errorf("%d terms, the last by %q; want %d, by %q", s.epoch, s.lease, want, lease)
			}
		}
		time.Sleep(time.Minute)
		terms(1, "one")
		well.set(away) // nobody is elected
		time.Sleep(time.Minute)
		s.mu.Lock()
		holder := s.lease
		s.mu.Unlock()
		terms(2, holder)
		back := cut
		if holder == "two" {
			back = well
		}
		back.set(nil) // elected, but the other one polls and does not know
		time.Sleep(time.Minute)
		terms(2, holder)
		well.set(nil)
		cut.set(nil)
		time.Sleep(10 * time.Second)
		if n, _ := s.stored(); n < 60+40+60 {
			t.Errorf("%d updates in 190 s", n)
		}
		stop1()
		stop2()
	})
}

// What the platform answers to a poll decides what comes next.
func TestPollErrors(t *testing.T) {
	t.Parallel()
	for kind, want := range map[channels.PollErrorKind]struct {
		polls int // within a minute
		state switchboard.AccountState
	}{
		channels.PollConflict:     {7, ""},                         // at 0, 1, 3, 7, 15, 31 s ...
		channels.PollThrottled:    {12, ""},                        // every 5 s
		channels.PollUnavailable:  {8, ""},                         // at 0, 0.5, 1.5, 3.5 ... s
		channels.PollUnauthorized: {20, switchboard.AccountPaused}, // until the registry tells
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, polls := &store{}, 0
				c := &channel{polls: true, poll: func(_ context.Context, offset int64) ([]channels.RawUpdate, int64, error) {
					polls++
					return nil, offset, &channels.PollError{Kind: kind, Err: io.ErrUnexpectedEOF}
				}}
				_, stop := start(t, edge.Config{}, s, &electing{}, c)
				time.Sleep(time.Minute)
				stop()
				if polls < want.polls-2 || polls > want.polls+1 || s.state != want.state {
					t.Errorf("%d polls, state %q; want about %d, %q", polls, s.state, want.polls, want.state)
				}
			})
		})
	}
}

// Polled updates that can't be stored are not confirmed to the platform.
func TestPolledUpdatesWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := &store{append: func(context.Context, []queue.RawUpdate) error {
			if time.Since(began) < 20*time.Second {
				return errors.New("no database")
			}
			return nil
		}}
		asked := map[int64]time.Duration{}
		c := &channel{polls: true, poll: func(ctx context.Context, offset int64) ([]channels.RawUpdate, int64, error) {
			if _, ok := asked[offset]; !ok {
				asked[offset] = time.Since(began)
			}
			pause(ctx, time.Second)
			return []channels.RawUpdate{{DedupKey: "k", Raw: []byte("{}")}}, offset + 1, ctx.Err()
		}}
		_, stop := start(t, edge.Config{}, s, &electing{}, c)
		time.Sleep(30 * time.Second)
		stop()
		if asked[1] < 20*time.Second {
			t.Errorf("the first update was confirmed after %v, before it was stored", asked[1])
		}
	})
}
