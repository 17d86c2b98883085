// Package service runs the parts of a process and stops them in order.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Part is something that runs until its context ends.
type Part struct {
	Name string
	// Run blocks until ctx ends and everything it started has ended too. Ending
	// before with an error (or without) stops the whole process.
	Run func(ctx context.Context) error
	// Budget is how long it may take to stop; default 5 s.
	Budget time.Duration
	// Early says that no other part needs it to go on: it is told to stop at
	// once, together with the first, and only waited for in its place.
	Early bool
}

// A process has 30 s to stop: the last of StopWithin go to parts that come after
// one that took all the time, lastWait to each.
const (
	StopWithin = 26 * time.Second
	lastWait   = 500 * time.Millisecond
)

// Group is parts in the order of their start. They stop in reverse, each after
// the ones that use it, all within StopWithin.
type Group struct {
	log   *slog.Logger
	parts []Part
}

// NewGroup returns an empty group.
func NewGroup(log *slog.Logger) *Group { return &Group{log: log} }

// Add appends a part.
func (g *Group) Add(p Part) {
	if p.Budget <= 0 {
		p.Budget = 5 * time.Second
	}
	g.parts = append(g.parts, p)
}

type running struct {
	Part
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// Run starts all parts, calls started, and waits for ctx to end or a part to
// fail; then it stops the parts in reverse order. A part over its budget is
// logged and left behind; the process should end then.
func (g *Group) Run(ctx context.Context, started func()) error {
	base := context.WithoutCancel(ctx)
	parts := make([]*running, len(g.parts))
	ended := make(chan *running, len(g.parts))
	for i, p := range g.parts {
		partCtx, cancel := context.WithCancel(base)
		r := &running{Part: p, cancel: cancel, done: make(chan struct{})}
		parts[i] = r
		go func() {
			r.err = r.Run(partCtx)
			close(r.done)
			ended <- r
		}()
	}
	if started != nil {
		started()
	}
	var failed error
	select {
	case <-ctx.Done():
	case r := <-ended:
		failed = fmt.Errorf("%s ended: %w", r.Name, orUnexpected(r.err))
	}
	deadline := time.Now().Add(StopWithin)
	for _, r := range parts {
		if r.Early {
			r.cancel()
		}
	}
	for i := len(parts) - 1; i >= 0; i-- {
		r := parts[i]
		r.cancel()
		budget := max(min(r.Budget, time.Until(deadline)), lastWait)
		select {
		case <-r.done:
			if r.err != nil && failed == nil && !errors.Is(r.err, context.Canceled) {
				failed = fmt.Errorf("%s: %w", r.Name, r.err)
			}
		case <-time.After(budget):
			g.log.Error("part did not stop in time", "part", r.Name, "budget", budget)
			failed = errors.Join(failed, fmt.Errorf("%s did not stop within %s", r.Name, budget))
		}
	}
	return failed
}

func orUnexpected(err error) error {
	if err == nil {
		return errors.New("unexpectedly, without an error")
	}
	return err
}

// Listen binds addr now, so that a taken port is a clear error at start.
func Listen(key, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s=%s can't be listened on (another process has the port? choose another address): %w", key, addr, err)
	}
	return l, nil
}
