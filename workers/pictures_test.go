package workers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/egress"
	"switchboard/internal/queue"
	"switchboard/message"
)

var pixel = []byte("\x89PNG\r\n\x1a\n with something behind it")

// gallery is the store of one customer's picture, and the sink of its bytes.
type gallery struct {
	Store
	had      queue.Picture
	gone     bool // the customer
	rows     map[string]bool
	stored   map[string][]byte
	finished []string
}

func (g *gallery) Picture(context.Context, string, string) (queue.Picture, error) {
	if g.gone {
		return queue.Picture{}, switchboard.ErrNotFound
	}
	return g.had, nil
}

func (g *gallery) FinishPicture(_ context.Context, _, _, key string, f queue.StoredFile) error {
	g.finished = append(g.finished, fmt.Sprintf("%s %s %s", key, f.ID, f.Mime))
	return nil
}

func (g *gallery) File(_ context.Context, id string) (queue.StoredFile, error) {
	if !g.rows[id] {
		return queue.StoredFile{}, switchboard.ErrNotFound
	}
	return queue.StoredFile{ID: id}, nil
}

func (g *gallery) SaveFetched(_ context.Context, id, _, mime string, r io.Reader, _ int64) (queue.StoredFile, error) {
	b, err := io.ReadAll(r)
	g.stored[id] = b
	return queue.StoredFile{ID: id, Mime: mime, Size: int64(len(b))}, err
}

func (g *gallery) Remove(_ context.Context, id string) error {
	delete(g.stored, id)
	return nil
}

func (g *gallery) IsTooLarge(error) bool { return false }

type fetched struct {
	channels.Channel
	body []byte
	size int64
	err  error
}

func (c fetched) Get(context.Context, string) (*channels.Opened, error) {
	return &channels.Opened{Channel: c}, nil
}

func (c fetched) Fetch(context.Context, string) (channels.Download, error) {
	if c.err != nil {
		return channels.Download{}, c.err
	}
	return channels.Download{Body: io.NopCloser(bytes.NewReader(c.body)), Size: c.size}, nil
}

type noBus struct{}

func (noBus) Wake(string)                                {}
func (noBus) Subscribe(string) (<-chan struct{}, func()) { return nil, func() {} }

// newOf is a new value of a type that is not ours to name.
func newOf[T any](*T) *T { return new(T) }

func TestPictureJob(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256(pixel)
	same := queue.Picture{Key: "old", FileID: "f0", SHA256: hex.EncodeToString(sum[:])}
	for name, c := range map[string]struct {
		had      queue.Picture
		gone     bool
		fetch    fetched
		attempt  int
		retry    bool
		stored   bool
		finished string
	}{
		"new":                  {fetch: fetched{body: pixel}, stored: true, finished: "[new f1 image/png]"},
		"changed":              {had: queue.Picture{Key: "old", FileID: "f0", SHA256: "00"}, fetch: fetched{body: pixel}, stored: true, finished: "[new f1 image/png]"},
		"same under a new key": {had: same, fetch: fetched{body: pixel}, finished: "[new  ]"},
		"already ours":         {had: queue.Picture{Key: "new", FileID: "f0"}, fetch: fetched{err: errors.New("was fetched")}, finished: "[]"},
		"same key, lost file":  {had: queue.Picture{Key: "new"}, fetch: fetched{body: pixel}, stored: true, finished: "[new f1 image/png]"},
		"customer is gone":     {gone: true, fetch: fetched{err: errors.New("was fetched")}, finished: "[]"},
		"no picture":           {fetch: fetched{body: []byte("<svg onload=alert(1)>")}, finished: "[]"},
		"empty":                {fetch: fetched{}, finished: "[]"},
		"said to be too large": {fetch: fetched{body: pixel, size: pictureBytes + 1}, finished: "[]"},
		"too large":            {fetch: fetched{body: append(bytes.Clone(pixel), make([]byte, pictureBytes)...), size: -1}, finished: "[]"},
		"largest":              {fetch: fetched{body: append(bytes.Clone(pixel), make([]byte, pictureBytes-len(pixel))...)}, stored: true, finished: "[new f1 image/png]"},
		"private address":      {fetch: fetched{err: fmt.Errorf("fetching: %w", &egress.BlockedError{Host: "127.0.0.1"})}, finished: "[]"},
		"away":                 {fetch: fetched{err: errors.New("HTTP 503")}, retry: true, finished: "[]"},
		"away for too long":    {fetch: fetched{err: errors.New("HTTP 503")}, attempt: 5, finished: "[]"},
		"gone once":            {fetch: fetched{err: channels.ErrFileGone}, retry: true, finished: "[]"},
		"gone":                 {fetch: fetched{err: channels.ErrFileGone}, attempt: 3, finished: "[]"},
	} {
		g := &gallery{had: c.had, gone: c.gone, stored: map[string][]byte{}}
		stopping := make(chan struct{})
		close(stopping) // nobody rings
		w := &Workers{stopping: stopping, deps: Deps{Store: g, Files: g, Accounts: c.fetch, Bus: noBus{}}, log: slog.New(slog.DiscardHandler), metrics: newMetrics(nil)}
		job := &river.Job[queue.PictureArgs]{Args: queue.PictureArgs{Key: "new", FileID: "f1"}}
		job.JobRow = newOf(job.JobRow)
		job.Attempt, job.MaxAttempts = max(c.attempt, 1), 5
		err := (&pictureWorker{w: w}).Work(t.Context(), job)
		if (err != nil) != c.retry || len(g.stored) == 1 != c.stored || fmt.Sprint(g.finished) != c.finished {
			t.Errorf("%s: %v, %d stored, finished %v; want retry=%v stored=%v %s", name, err, len(g.stored), g.finished, c.retry, c.stored, c.finished)
		}
	}
}

// A file whose row is there is not removed.
func TestRemoveJob(t *testing.T) {
	t.Parallel()
	g := &gallery{rows: map[string]bool{"kept": true}, stored: map[string][]byte{"kept": pixel, "left": pixel}}
	w := &Workers{deps: Deps{Store: g, Files: g}}
	for _, id := range []string{"kept", "left"} {
		if err := (&removeWorker{w: w}).Work(t.Context(), &river.Job[queue.RemoveArgs]{Args: queue.RemoveArgs{FileID: id}}); err != nil {
			t.Error(err)
		}
	}
	if len(g.stored) != 1 || g.stored["kept"] == nil {
		t.Errorf("left: %v", g.stored)
	}
}

// learner is what learn asks: a store and a platform.
type learner struct {
	gallery
	due      bool
	passed   bool
	fail     error
	profiled int
	saved    []string
}

func (l *learner) ProfileDue(context.Context, string, string, time.Duration) (bool, error) {
	return l.due, nil
}

func (l *learner) SaveProfile(_ context.Context, _ string, p message.Profile) (bool, error) {
	l.saved = append(l.saved, "asked "+p.ID+" "+p.Avatar)
	return l.passed, nil
}

func (l *learner) NotePicture(_ context.Context, _ string, p message.Profile) (bool, error) {
	l.saved = append(l.saved, "told "+p.ID+" "+p.Avatar)
	return l.passed, nil
}

func (l *learner) Profile(context.Context, string) (message.Profile, error) {
	l.profiled++
	return message.Profile{Avatar: "theirs"}, l.fail
}

// When a customer is looked at again depends on what came of it.
func TestLearn(t *testing.T) {
	t.Parallel()
	key := profileKey{"a", "1"}
	for name, c := range map[string]struct {
		l     learner
		told  string
		saved string
		again time.Duration // of the customer
		rests bool          // the whole account
	}{
		"asked":               {l: learner{due: true}, saved: "[asked 1 theirs]", again: profileAge},
		"told":                {l: learner{due: true}, told: "ref", saved: "[told 1 ref]", again: profileAge},
		"known, by another":   {l: learner{}, saved: "[]", again: profileAge},
		"no room":             {l: learner{due: true, passed: true}, told: "ref", saved: "[told 1 ref]", again: profilePause},
		"platform away":       {l: learner{due: true, fail: &message.Error{Kind: message.ErrUnavailable}}, saved: "[]"},
		"unknown to it":       {l: learner{due: true, fail: &message.Error{Kind: message.ErrInvalid}}, saved: "[]", again: profileAge},
		"platform had enough": {l: learner{due: true, fail: &message.Error{Kind: message.ErrThrottled, RetryAfter: 7 * time.Second}}, saved: "[]", rests: true},
	} {
		w := &Workers{cfg: Config{ProfileAge: profileAge}, deps: Deps{Store: &c.l, Bus: noBus{}}, profiles: newProfiles()}
		now := time.Now()
		w.profiles.take(key, now, profileAge)
		l := look{key: key, told: &message.Profile{ID: "1", Avatar: c.told}}
		if c.told == "" {
			l.asked = &c.l
		}
		err := w.learn(t.Context(), l)
		if !errors.Is(err, c.l.fail) || fmt.Sprint(c.l.saved) != c.saved {
			t.Errorf("%s: %v, saved %v; want %v, %s", name, err, c.l.saved, c.l.fail, c.saved)
		}
		again := w.profiles.again[key]
		if want := now.Add(c.again); (c.again == 0 && !again.IsZero()) || (c.again > 0 && (again.Before(want) || again.After(want.Add(time.Minute)))) {
			t.Errorf("%s: looked at again at %v, want %v", name, again, want)
		}
		if rests := !w.profiles.take(profileKey{"a", "2"}, now, profileAge); rests != c.rests {
			t.Errorf("%s: the account rests: %v", name, rests)
		}
	}
}
