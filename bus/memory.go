package bus

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is the bus of a single process. It is live from NewMemory until its Run ends, so it serves tests that never
// call Run. Parts of one process share it by passing the same *Memory, or by Join if they want identities of their own.
type Memory struct {
	self    Node
	core    *memoryCore
	stopped chan struct{} // closed when Run ends

	mu      sync.Mutex
	running bool
	leading sync.WaitGroup // leads in progress; added to under mu while stopped is open
}

// memoryCore is what the handles of one process share.
type memoryCore struct {
	hints *exchange

	mu        sync.Mutex
	members   []*Memory
	elections map[string][]*memoryCandidate // in order of arrival; the first one leads
}

type memoryCandidate struct {
	turn chan struct{} // closed when the candidate has become the first
}

// NewMemory returns a bus with self as its only node.
func NewMemory(self Node) *Memory {
	return joinMemory(&memoryCore{hints: newExchange(), elections: make(map[string][]*memoryCandidate)}, self)
}

// Join returns another handle on the same bus, with an identity, a Run and an end of its own, as if it were another
// process.
func (m *Memory) Join(self Node) *Memory {
	return joinMemory(m.core, self)
}

func joinMemory(core *memoryCore, self Node) *Memory {
	m := &Memory{self: self.clone(), core: core, stopped: make(chan struct{})}
	core.mu.Lock()
	core.members = append(core.members, m)
	core.mu.Unlock()
	core.hints.ring(TopicNodes)
	return m
}

// Wake implements Bus.
func (m *Memory) Wake(topic string) { m.core.hints.ring(topic) }

// Subscribe implements Bus.
func (m *Memory) Subscribe(topic string) (<-chan struct{}, func()) {
	bell, cancel := m.core.hints.subscribe(topic)
	push(bell)
	return bell, cancel
}

// Nodes implements Bus.
func (m *Memory) Nodes(ctx context.Context) ([]Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := m.Ready(); err != nil {
		return nil, err
	}
	m.core.mu.Lock()
	defer m.core.mu.Unlock()
	nodes := make([]Node, 0, len(m.core.members))
	for _, member := range m.core.members {
		nodes = append(nodes, member.self.clone())
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	return nodes, nil
}

// Ready implements Bus.
func (m *Memory) Ready() error {
	select {
	case <-m.stopped:
		return ErrStopped
	default:
		return nil
	}
}

// Run implements Bus.
func (m *Memory) Run(ctx context.Context) error {
	m.mu.Lock()
	if m.running {
		m.mu.Unlock()
		return errors.New("running bus: Run was called before")
	}
	m.running = true
	m.mu.Unlock()

	<-ctx.Done()

	m.mu.Lock()
	close(m.stopped)
	m.mu.Unlock()
	m.leading.Wait()
	m.core.mu.Lock()
	m.core.members = slices.DeleteFunc(m.core.members, func(other *Memory) bool { return other == m })
	m.core.mu.Unlock()
	m.core.hints.ring(TopicNodes)
	return nil
}

// Lead implements Bus.
func (m *Memory) Lead(ctx context.Context, name string, lead func(ctx context.Context)) error {
	if err := checkLead(name, lead); err != nil {
		return err
	}
	for {
		if err := m.term(ctx, name, lead); err != nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(resignPause):
		case <-m.stopped:
		case <-ctx.Done():
			return nil
		}
	}
}

// term waits for this handle's turn, leads once and frees the place. A nil error says to campaign again, if ctx lives.
func (m *Memory) term(ctx context.Context, name string, lead func(ctx context.Context)) error {
	c := m.core.enter(name)
	defer m.core.leave(name, c)
	select {
	case <-c.turn:
	case <-m.stopped:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil
	}
	m.mu.Lock()
	select {
	case <-m.stopped:
		m.mu.Unlock()
		return ErrStopped
	default:
	}
	m.leading.Add(1)
	m.mu.Unlock()
	defer m.leading.Done()

	leadCtx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-m.stopped:
			cancel(ErrStopped)
		case <-leadCtx.Done():
		}
	})
	defer watch.Wait()
	defer cancel(nil)
	lead(leadCtx)
	return nil
}

func (k *memoryCore) enter(name string) *memoryCandidate {
	c := &memoryCandidate{turn: make(chan struct{})}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.elections[name] = append(k.elections[name], c)
	if len(k.elections[name]) == 1 {
		close(c.turn)
	}
	return c
}

func (k *memoryCore) leave(name string, c *memoryCandidate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	line := k.elections[name]
	first := line[0] == c
	line = slices.DeleteFunc(line, func(other *memoryCandidate) bool { return other == c })
	if len(line) == 0 {
		delete(k.elections, name)
		return
	}
	k.elections[name] = line
	if first {
		close(line[0].turn)
	}
}

func checkLead(name string, lead func(ctx context.Context)) error {
	if name == "" {
		return errors.New("campaigning: the name is empty")
	}
	if lead == nil {
		return errors.New("campaigning: lead is nil")
	}
	return nil
}
