package db_test

import (
	"context"
	"strings"
	"testing"
	"time"
)

// A lock that ended with its connection would let a second process in after
// every restart of Postgres.
func TestBusLockOutlivesItsConnection(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	lock, err := d.HoldBus(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- lock.Run(ctx) }()
	held := func() int {
		return scalar[int](t, pool, `select coalesce((select pid from pg_locks where locktype = 'advisory' and classid = 7303 and granted
			and database = (select oid from pg_database where datname = current_database())), 0)`)
	}
	first := held()
	if first == 0 {
		t.Fatal("nobody holds the lock")
	}
	scalar[bool](t, pool, `select pg_terminate_backend($1)`, first)
	for deadline := time.Now().Add(10 * time.Second); held() == 0 || held() == first; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the lock was not taken anew")
		}
	}
	// On a slow machine the connection may have timed out once more: then the lock
	// is free for a moment, and taken anew.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		second, err := d.HoldBus(t.Context(), false)
		if err != nil && strings.Contains(err.Error(), "SWITCHBOARD_ZOOKEEPER_SERVERS") {
			break
		}
		if err == nil {
			second.Release()
		}
		if time.Now().After(deadline) {
			t.Fatalf("a second process: %v", err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Two processes that use ZooKeeper share the database, and leave no room for one
// that does not.
func TestBusLockIsShared(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	if err := d.Heartbeat(t.Context(), "other", nil, "", ""); err != nil {
		t.Fatal(err)
	}
	one, err := d.HoldBus(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	two, err := d.HoldBus(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	one.Release()
	if _, err := d.HoldBus(t.Context(), true); err == nil {
		t.Error("a process with the in-process bus was let in")
	}
	two.Release()
	if n := scalar[int](t, pool, `select count(*) from nodes where id = 'other'`); n != 1 {
		t.Error("a process that lives was forgotten")
	}
	alone, err := d.HoldBus(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	alone.Release()
	if n := scalar[int](t, pool, `select count(*) from nodes`); n != 0 {
		t.Errorf("%d processes are known beside the one that is alone: their jobs would wait", n)
	}
}
