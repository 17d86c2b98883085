package bus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// TopicNodes is rung by the bus itself whenever the list that Nodes returns has changed.
const TopicNodes = "nodes"

// Errors of the bus. The three of leadership are the causes (context.Cause) of a lead context that ended although the
// caller's own context did not.
var (
	// ErrStopped says that the bus's Run has ended: nobody campaigns, registers or writes through it any more.
	ErrStopped = errors.New("bus stopped")
	// ErrInDoubt says that the session could not be proven alive for 2/3 of its timeout, or has expired.
	ErrInDoubt = errors.New("leadership in doubt")
	// ErrDeposed says that the session lives but the candidate's node was deleted by somebody else.
	ErrDeposed = errors.New("candidate deleted")
)

// resignPause keeps a lead function that returns at once from turning the election into a hot loop, and gives the
// other candidates the first try. It delays nobody else: the place is free before the pause begins.
const resignPause = 250 * time.Millisecond

// Bus tells that something happened; Postgres says what. All methods are safe for concurrent use.
type Bus interface {
	// Wake rings topic's doorbell for every subscriber in every process, soon: the first wake after an idle moment is
	// written at once, those that follow are coalesced to at most one write per writer and topic every few ms, and the
	// last one is never dropped. Subscribers of the same handle are rung before Wake returns. Never blocks on the
	// network, never fails: a lost hint costs latency.
	Wake(topic string)
	// Subscribe returns a channel of capacity 1 that receives a value as soon as the subscription is in force, after
	// each (coalesced) wake of topic, and after every (re)connect. Hints may be spurious; a subscriber re-reads its
	// state on each and needs no first read of its own. cancel releases the channel, which is never closed; it may be
	// called more than once.
	Subscribe(topic string) (hints <-chan struct{}, cancel func())
	// Lead campaigns for name until ctx ends. Each time this process becomes leader it calls lead, in the goroutine of
	// the caller, with a context that ends when leadership is lost or in doubt (2/3 of the session timeout without a
	// live session), waits for lead to return, and campaigns again; a lead that returns by itself resigns. Blocks
	// until ctx ends and the last lead returned, and then returns nil; ErrStopped if the bus ended first.
	//
	// lead must return promptly when its context ends: the successor waits for nobody. Leadership is a lease, not a
	// proof: what a leader writes must be fenced by an epoch.
	Lead(ctx context.Context, name string, lead func(ctx context.Context)) error
	// Nodes lists live nodes, this one included, sorted by ID. Subscribe(TopicNodes) tells when to ask again. It fails
	// while there is no live session: an old list must not be taken for news of somebody's death.
	Nodes(ctx context.Context) ([]Node, error)
	// Ready reports nil when hints flow (connected), else why not. Used by /readyz. It does not touch the network.
	Ready() error
	// Run keeps the connection, registrations and pending wakes until ctx ends; everything else may be called before
	// and during Run. It returns nil after an orderly end: leaders stopped, pending wakes written, session closed.
	Run(ctx context.Context) error
}

var (
	_ Bus = (*Memory)(nil)
	_ Bus = (*ZooKeeper)(nil)
)

// Node is one live process as the others see it.
type Node struct {
	// ID is unique among live processes, and best so among dead ones too: it names the owner of work to be taken over.
	ID      string    `json:"id"`
	Roles   []string  `json:"roles"`
	Addr    string    `json:"addr"` // host:port of the public listener; may be empty
	Version string    `json:"version"`
	Started time.Time `json:"started"`
}

func (n Node) clone() Node {
	n.Roles = slices.Clone(n.Roles)
	return n
}

// exchange hands hints to the subscribers of one process.
type exchange struct {
	mu     sync.RWMutex
	topics map[string][]chan struct{}
}

func newExchange() *exchange {
	return &exchange{topics: make(map[string][]chan struct{})}
}

// subscribe returns a new doorbell of topic; cancel takes it away again.
func (x *exchange) subscribe(topic string) (bell chan struct{}, cancel func()) {
	bell = make(chan struct{}, 1)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.topics[topic] = append(x.topics[topic], bell)
	return bell, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		bells := slices.DeleteFunc(x.topics[topic], func(b chan struct{}) bool { return b == bell })
		if len(bells) == 0 {
			delete(x.topics, topic)
			return
		}
		x.topics[topic] = bells
	}
}

// ring rings every subscriber of topic.
func (x *exchange) ring(topic string) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, bell := range x.topics[topic] {
		push(bell)
	}
}

// ringAll rings every subscriber.
func (x *exchange) ringAll() {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, bells := range x.topics {
		for _, bell := range bells {
			push(bell)
		}
	}
}

// push leaves a value in a channel of capacity 1, if there is none already.
func push(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
