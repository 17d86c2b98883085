package db_test

import (
	"log/slog"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"switchboard/db"
	"switchboard/internal/dbtest"
	"switchboard/internal/queue"
	"switchboard/internal/zktest"
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

// Whatever a statement ends with when its connection is cut, restarted under it
// or taken away by the server, it says that the database was not there: events
// and updates that are only met by an outage are not taken for broken ones.
func TestCutConnectionsAreNoFaultsOfTheStatement(t *testing.T) {
	t.Parallel()
	cfg, err := pgconn.ParseConfig(dbtest.URLOf(t))
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgconn.NetworkAddress(cfg.Host, cfg.Port)
	proxy := zktest.NewProxyTo(t, network, address)
	way := url.URL{Scheme: "postgres", User: url.UserPassword(cfg.User, cfg.Password), Host: proxy.Addr(), Path: "/" + cfg.Database, RawQuery: "sslmode=disable"}
	d, err := db.Open(t.Context(), db.Config{URL: way.String(), Name: "cut"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for range 8 {
		var running, all sync.WaitGroup
		for range 8 {
			running.Add(1)
			all.Go(func() {
				err := d.Ping(t.Context())
				running.Done()
				for err == nil {
					var slept string
					err = d.Pool().QueryRow(t.Context(), `select pg_sleep(0.001)::text`).Scan(&slept)
				}
				if !db.IsUnavailable(err) {
					t.Errorf("%T: %v", err, err)
				}
			})
		}
		running.Wait()
		proxy.Cut()
		all.Wait()
		proxy.Heal()
	}
}
