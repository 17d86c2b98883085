package db_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/db"
	"switchboard/internal/queue"
	"switchboard/message"
)

// portrait is a room with a customer "c1" whose chat ann serves.
type portrait struct {
	*chatRoom
	id string
}

func newPortrait(t *testing.T) *portrait {
	t.Helper()
	p := &portrait{chatRoom: room(t)}
	p.id = p.chat(t, "c1", switchboard.ChatOpen, &p.ann)
	return p
}

// pictureJobs takes what waits in the queue of pictures.
func (p *portrait) pictureJobs(t *testing.T) (jobs []string) {
	t.Helper()
	rows, err := p.pool.Query(t.Context(), `with gone as (delete from river_job where queue = 'pictures' returning id, kind, args)
		select kind || ' ' || case kind when 'picture' then (args->>'customer') || ' ' || (args->>'ref') || ' ' || (args->>'key') else args->>'file_id' end from gone order by id`)
	if err != nil {
		t.Fatal(err)
	}
	if jobs, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		t.Fatal(err)
	}
	return jobs
}

func (p *portrait) shown(t *testing.T) string {
	t.Helper()
	chats, err := p.d.Chats(t.Context(), []string{p.id})
	if err != nil {
		t.Fatal(err)
	}
	return chats[p.id].Customer.Avatar
}

func (p *portrait) expect(t *testing.T, step, shown string, jobs, events []string) {
	t.Helper()
	if got := p.shown(t); got != shown {
		t.Errorf("%s: the operator sees %q, want %q", step, got, shown)
	}
	if got := p.pictureJobs(t); !slices.Equal(got, jobs) {
		t.Errorf("%s: jobs %q, want %q", step, got, jobs)
	}
	if got := p.events(); !slices.Equal(got, events) {
		t.Errorf("%s: events %q, want %q", step, got, events)
	}
}

func (p *portrait) finish(t *testing.T, key, id string) {
	t.Helper()
	f := queue.StoredFile{ID: id, Name: "picture.jpg", Mime: "image/jpeg", Size: 3, SHA256: "sum of " + id, Kind: message.KindImage}
	if id == "" {
		f = queue.StoredFile{}
	}
	if err := p.d.FinishPicture(t.Context(), p.acc, "c1", key, f); err != nil {
		t.Fatal(err)
	}
}

// A picture that was told or asked for becomes a file of ours; the same one is
// left alone, another replaces it, and none removes it.
func TestCustomersPicture(t *testing.T) {
	t.Parallel()
	p := newPortrait(t)
	ctx, told := t.Context(), []string{"chat.updated of ann"}
	first, second, third := db.NewID(), db.NewID(), db.NewID()
	note := func(avatar, key string) {
		t.Helper()
		if passed, err := p.d.NotePicture(ctx, p.acc, message.Profile{ID: "c1", Avatar: avatar, AvatarKey: key}); err != nil || passed {
			t.Fatalf("noting %s: %v %v", avatar, passed, err)
		}
	}
	save := func(profile message.Profile) {
		t.Helper()
		profile.ID = "c1"
		if passed, err := p.d.SaveProfile(ctx, p.acc, profile); err != nil || passed {
			t.Fatalf("saving %+v: %v %v", profile, passed, err)
		}
	}
	files := func(want ...string) {
		t.Helper()
		if got := scalar[string](t, p.pool, `select coalesce(string_agg(id::text, ' ' order by created_at), '') from files`); got != strings.Join(want, " ") {
			t.Errorf("files %s, want %s", got, want)
		}
	}

	note("https://cdn.example/1", "")
	p.expect(t, "told", "", []string{"picture c1 https://cdn.example/1 https://cdn.example/1"}, nil)
	p.finish(t, "https://cdn.example/1", first)
	p.expect(t, "kept", "/files/"+first, nil, told)
	p.finish(t, "https://cdn.example/1", first)
	p.expect(t, "kept twice", "/files/"+first, nil, nil)
	note("https://cdn.example/1", "")
	p.expect(t, "told again", "/files/"+first, nil, nil)
	if got, err := p.d.Picture(ctx, p.acc, "c1"); err != nil || got != (queue.Picture{Key: "https://cdn.example/1", FileID: first, SHA256: "sum of " + first}) {
		t.Errorf("what is kept: %+v %v", got, err)
	}
	if f, err := p.d.File(ctx, first); err != nil || f.State != message.FileReady || f.AccountID != p.acc || f.MessageID != "" {
		t.Errorf("its file: %+v %v", f, err)
	}
	if sendable, err := p.d.FilesByID(ctx, []string{first}); err != nil || len(sendable) != 0 {
		t.Errorf("a picture can be sent as a file: %v %v", sendable, err)
	}

	// A new address of the same bytes.
	note("https://cdn.example/2", "")
	p.expect(t, "other address", "/files/"+first, []string{"picture c1 https://cdn.example/2 https://cdn.example/2"}, nil)
	p.finish(t, "https://cdn.example/2", "")
	note("https://cdn.example/2", "")
	p.expect(t, "same bytes", "/files/"+first, nil, nil)

	// Asked: the key counts, not the reference.
	save(message.Profile{Avatar: "ref", AvatarKey: "key"})
	p.expect(t, "asked", "/files/"+first, []string{"picture c1 ref key"}, nil)
	p.finish(t, "key", second)
	files(second)
	p.expect(t, "changed", "/files/"+second, []string{"remove " + first}, told)
	save(message.Profile{Avatar: "another ref", AvatarKey: "key"})
	p.expect(t, "asked again", "/files/"+second, nil, nil)

	// The name alone.
	save(message.Profile{Name: "Ann Lee", Avatar: "another ref", AvatarKey: "key"})
	p.expect(t, "named", "/files/"+second, nil, told)

	// Hidden, twice; and shown again, the same one.
	save(message.Profile{})
	files()
	p.expect(t, "hidden", "", []string{"remove " + second}, told)
	save(message.Profile{})
	p.expect(t, "still hidden", "", nil, nil)
	save(message.Profile{Avatar: "ref", AvatarKey: "key"})
	p.expect(t, "shown again", "", []string{"picture c1 ref key"}, nil)
	p.finish(t, "key", third)
	p.expect(t, "kept again", "/files/"+third, nil, told)

	// The name that the platform told stays, and messages change nothing here.
	appendAll(t, p.d, raw(p.acc, "k", message.Update{Kind: message.UpdateMessage, Chat: "c1", Customer: message.Profile{ID: "c1", Avatar: "https://cdn.example/9"}, PlatformID: "9"}))
	drainAll(t, p.d)
	if got := p.shown(t); got != "/files/"+third {
		t.Errorf("after a message: %q", got)
	}
	if got := scalar[string](t, p.pool, `select avatar || name from customers where external_id = 'c1'`); got != "Ann Lee" {
		t.Errorf("the customer: %q", got)
	}

	// An address that no platform would give.
	note("https://cdn.example/"+strings.Repeat("x", 4096), "")
	if jobs := p.pictureJobs(t); len(jobs) > 0 {
		t.Errorf("a job of a monstrous address: %.80q", jobs)
	}
	for _, err := range []error{
		p.d.FinishPicture(ctx, p.acc, "nobody", "key", queue.StoredFile{ID: db.NewID()}),
		func() error { _, err := p.d.Picture(ctx, p.acc, "nobody"); return err }(),
	} {
		if !errors.Is(err, switchboard.ErrNotFound) {
			t.Errorf("of nobody: %v", err)
		}
	}
}

// A customer is due once per age, whoever asks.
func TestProfileDue(t *testing.T) {
	t.Parallel()
	p := newPortrait(t)
	due := func(customer string, age time.Duration) bool {
		t.Helper()
		due, err := p.d.ProfileDue(t.Context(), p.acc, customer, age)
		if err != nil {
			t.Fatal(err)
		}
		return due
	}
	if !due("c1", time.Hour) || due("nobody", time.Hour) {
		t.Error("a new customer is not due, or an unknown one is")
	}
	for _, learn := range []func() error{
		func() error {
			_, err := p.d.SaveProfile(t.Context(), p.acc, message.Profile{ID: "c1"})
			return err
		},
		func() error {
			_, err := p.d.NotePicture(t.Context(), p.acc, message.Profile{ID: "c1", Avatar: "https://cdn.example/1"})
			return err
		},
	} {
		if _, err := p.pool.Exec(t.Context(), `update customers set profile_at = now() - interval '2 hours'`); err != nil {
			t.Fatal(err)
		}
		if !due("c1", time.Hour) || due("c1", 3*time.Hour) {
			t.Error("the age does not count")
		}
		if err := learn(); err != nil {
			t.Fatal(err)
		}
		if due("c1", time.Hour) {
			t.Error("due at once again")
		}
	}
}

// Pictures beyond the backlog are passed over, and come later.
func TestPicturesBacklog(t *testing.T) {
	t.Parallel()
	p := newPortrait(t)
	for i := range 203 {
		avatar := fmt.Sprintf("https://cdn.example/%d", i)
		passed, err := p.d.NotePicture(t.Context(), p.acc, message.Profile{ID: "c1", Avatar: avatar})
		if err != nil || passed != (i >= 200) {
			t.Fatalf("picture %d: passed %v, %v", i, passed, err)
		}
	}
	if n := len(p.pictureJobs(t)); n != 200 {
		t.Errorf("%d jobs wait", n)
	}
	// What was passed over is not taken for known.
	if _, err := p.pool.Exec(t.Context(), `update customers set profile_at = '-infinity'`); err != nil {
		t.Fatal(err)
	}
	if passed, err := p.d.SaveProfile(t.Context(), p.acc, message.Profile{ID: "c1", Avatar: "https://cdn.example/202"}); err != nil || passed || len(p.pictureJobs(t)) != 1 {
		t.Errorf("with room again: passed %v, %v", passed, err)
	}
}

// Of two that replace a picture at once one wins, and the other one's row does
// not stay.
func TestPicturesRace(t *testing.T) {
	t.Parallel()
	p := newPortrait(t)
	p.finish(t, "old", db.NewID())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			f := queue.StoredFile{ID: db.NewID(), Mime: "image/jpeg", Kind: message.KindImage}
			// Whoever is overtaken is told so, and tries again.
			_ = p.d.FinishPicture(t.Context(), p.acc, "c1", fmt.Sprint("key ", i), f)
		})
	}
	wg.Wait()
	if n := scalar[int](t, p.pool, `select count(*)::int from files`); n != 1 {
		t.Errorf("%d rows of files", n)
	}
	if n := scalar[int](t, p.pool, `select count(*)::int from customers c join files f on f.id = c.avatar_file where c.external_id = 'c1'`); n != 1 {
		t.Error("the customer's picture has no file")
	}
}
