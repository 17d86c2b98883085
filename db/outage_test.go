package db_test

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"switchboard/db"
	"switchboard/internal/dbtest"
	"switchboard/internal/queue"
)

// After a restart of the database the first connection that is found broken is
// nearly the last that a caller notices, in either pool.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	url := dbtest.URLOf(t)
	d, err := db.Open(t.Context(), db.Config{URL: url, Name: "broken"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	acc := account(t, d)
	n := 0
	update := func() error {
		n++
		return d.Append(t.Context(), []queue.RawUpdate{{AccountID: acc, DedupKey: string(rune('a' + n)), ChatKey: "c", Raw: []byte("{}")}})
	}
	// Many connections, none of them idle for long.
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { _ = d.Ping(t.Context()) })
	}
	all.Wait()
	if err := update(); err != nil {
		t.Fatal(err)
	}
	other, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(t.Context())
	if _, err := other.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'switchboard broken'`); err != nil {
		t.Fatal(err)
	}
	if err := update(); err == nil {
		t.Log("the pool noticed by itself")
	}
	failed := 0
	for range 12 {
		if err := d.Ping(t.Context()); err != nil {
			failed++
		}
	}
	// One may be under way to be found out.
	if failed > 1 {
		t.Errorf("%d callers of the other pool noticed", failed)
	}
	if err := update(); err != nil {
		t.Errorf("after that: %v", err)
	}
}
