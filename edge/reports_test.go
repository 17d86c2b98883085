package edge_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"switchboard/channels"
	"switchboard/edge"
	"switchboard/message"
)

// asked is a channel whose platform can be asked.
type asked struct {
	channel
	mu    sync.Mutex
	calls []string // the ids of each call
	err   error
	news  bool // there is something to tell
}

func (a *asked) Capabilities() message.Capabilities { return message.Capabilities{Delivered: true} }

func (a *asked) Reports(ctx context.Context, messages []channels.Asked) (updates []channels.RawUpdate, err error) {
	if _, limited := ctx.Deadline(); !limited {
		return nil, errors.New("no deadline")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var ids []string
	for _, m := range messages {
		ids = append(ids, m.IDs...)
		if a.news {
			updates = append(updates, channels.RawUpdate{DedupKey: "report of " + m.IDs[0], ChatKey: m.Chat, Raw: []byte(`{}`)})
		}
	}
	a.calls = append(a.calls, strings.Join(ids, " "))
	return updates, a.err
}

func (a *asked) set(err error, news bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err, a.news = err, news
}

// take returns the calls since the last time.
func (a *asked) take() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer func() { a.calls = nil }()
	return strings.Join(a.calls, ", ")
}

// A message is asked about at certain ages, once at each, whatever process does it
// and however often it fails, until it is a day old.
func TestReports(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := &store{asked: began, sent: []sentMessage{{"1", began.Add(-time.Hour)}, {"2", began.Add(90 * time.Second)}}}
		a, b := &asked{}, &electing{}
		run := func() (stop func()) {
			e, err := edge.New(edge.Config{}, s, b, accounts{&channels.Opened{Account: channels.Account{ID: "a", Platform: "p"}, Channel: a}}, slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- e.Run(ctx) }()
			return func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}
		expect := func(at time.Duration, calls string) {
			t.Helper()
			time.Sleep(time.Until(began.Add(at))) // of the bubble
			synctest.Wait()
			if got := a.take(); got != calls {
				t.Errorf("after %s: %q, want %q", at, got, calls)
			}
		}
		stop := run()
		expect(11*time.Minute, "")
		expect(13*time.Minute, "p2") // ten minutes old
		expect(31*time.Minute, "")
		expect(33*time.Minute, "p2") // thirty
		expect(59*time.Minute, "")
		expect(62*time.Minute, "p1") // two hours
		expect(2*time.Hour, "")
		a.set(errors.New("the platform is away"), true)
		expect(2*time.Hour+10*time.Minute, "p2, p2, p2") // ever more rarely
		if n, _ := s.stored(); n != 3 {
			t.Errorf("%d updates stored; what came beside an error counts", n)
		}
		stop()
		a.set(nil, false)
		expect(6*time.Hour, "")
		stop = run() // what was due meanwhile is asked about at once, each message once
		expect(6*time.Hour+10*time.Second, "p2")
		expect(7*time.Hour+2*time.Minute, "p1") // eight hours
		a.set(&message.Error{Kind: message.ErrThrottled, RetryAfter: time.Hour}, false)
		expect(8*time.Hour+20*time.Minute, "p2")
		a.set(nil, false)
		expect(9*time.Hour+20*time.Minute, "p2")
		expect(19*time.Hour+5*time.Minute, "p1") // twenty
		stop()
		expect(30*time.Hour, "")
		stop = run()
		expect(40*time.Hour, "") // more than a day old
		stop()
	})
}

// Many are asked about in batches.
func TestReportsOfMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := &store{asked: began}
		for i := range 250 {
			s.sent = append(s.sent, sentMessage{fmt.Sprintf("%03d", i), began.Add(time.Duration(i) * time.Millisecond)})
		}
		a := &asked{news: true}
		e, err := edge.New(edge.Config{}, s, &electing{}, accounts{&channels.Opened{Account: channels.Account{ID: "a", Platform: "p"}, Channel: a}}, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		time.Sleep(12 * time.Minute) // of the bubble
		synctest.Wait()
		var sizes []int
		for call := range strings.SplitSeq(a.take(), ", ") {
			sizes = append(sizes, len(strings.Fields(call)))
		}
		if key := s.batches[0][0].DedupKey; key != "asked:report of p000" {
			t.Errorf("dedup key %q", key)
		}
		if n, _ := s.stored(); n != 250 || fmt.Sprint(sizes) != "[100 100 50]" {
			t.Errorf("%d stored, asked about %v", n, sizes)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
