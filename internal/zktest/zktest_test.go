package zktest

import (
	"context"
	"slices"
	"testing"
	"time"
)

func TestEnsembleElectsAnotherLeaderWhenItsLeaderIsKilled(t *testing.T) {
	t.Parallel()
	e := Start(t, 3)
	if len(e.Servers()) != 3 || e.Len() != 3 {
		t.Fatalf("servers are %v, want three", e.Servers())
	}
	first := e.Leader()
	if first < 0 {
		t.Fatal("a started ensemble has no leader")
	}
	e.KillNode(first)
	if e.PID(first) != 0 {
		t.Errorf("a killed node still has pid %d", e.PID(first))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for e.Leader() < 0 {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("no new leader after 30 s")
		}
	}
	if e.Leader() == first {
		t.Errorf("the killed node %d still leads", first)
	}
	if err := e.StartNode(first); err != nil {
		t.Fatal(err)
	}
	if err := e.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	if e.PID(first) == 0 {
		t.Error("the node that came back has no pid")
	}
	e.Pause(first)
	if m := e.nodes[first].mode(); m != "" {
		t.Errorf("a paused node answers that it is %q", m)
	}
	e.Resume(first)
	if err := e.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestSharedIsOneEnsemble(t *testing.T) {
	t.Parallel()
	if a, b := Shared(t), Shared(t); len(a) == 0 || !slices.Equal(a, b) {
		t.Errorf("two calls returned %v and %v", a, b)
	}
	if Root(t) == Root(t) {
		t.Error("two roots are the same")
	}
}
