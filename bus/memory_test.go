package bus_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"switchboard/bus"
	"switchboard/bus/bustest"
)

func testNode(id string) bus.Node {
	return bus.Node{ID: id, Roles: []string{"edge", "workers"}, Addr: "127.0.0.1:8080", Version: "v0", Started: time.Now().UTC()}
}

func TestMemory(t *testing.T) {
	bustest.Run(t, func(t *testing.T) (a, b bus.Bus) {
		m := bus.NewMemory(testNode("one"))
		return m, m.Join(testNode("two"))
	})
}

func TestMemoryNeedsNoRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := bus.NewMemory(testNode("one"))
		if err := m.Ready(); err != nil {
			t.Fatalf("not ready: %v", err)
		}
		if nodes, err := m.Nodes(t.Context()); err != nil || len(nodes) != 1 || nodes[0].ID != "one" {
			t.Errorf("the nodes are %v (%v), want the one itself", nodes, err)
		}
		hints, cancel := m.Subscribe("events")
		defer cancel()
		<-hints
		m.Wake("events")
		<-hints

		ctx, end := context.WithCancel(t.Context())
		terms := 0
		began := time.Now()
		err := m.Lead(ctx, "poll", func(context.Context) {
			if terms++; terms == 5 {
				end()
			}
		})
		if err != nil || terms != 5 {
			t.Fatalf("Lead returned %v after %d terms", err, terms)
		}
		if took := time.Since(began); took < time.Second {
			t.Errorf("a lead that returns at once was called 5 times in %v: a hot loop", took)
		}
	})
}
