package bus

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"
)

// serveNodes keeps this process registered and the list of all processes current.
func (s *session) serveNodes() {
	var events <-chan zk.Event // the one watch on the list; nil when there is none
	warned := false
	for s.awaitConnected() {
		held, err := s.announce()
		if err == nil && held && !warned {
			warned = true
			s.z.log.Warn("another session holds this node id; waiting for its end, which is normal for one session timeout after a crash",
				"id", s.z.self.ID)
		}
		var listed bool
		if err == nil {
			listed, err = s.readNodes(&events)
		}
		if err == nil && !listed {
			err = errors.New("own node is missing")
		}
		if err != nil {
			s.blame(err)
			if !s.pause(retryPause) {
				return
			}
			continue
		}
		select {
		case <-events:
			events = nil
		case <-s.gone:
			return
		}
	}
}

// announce creates the node of this process if it is missing. held says that another session has it.
func (s *session) announce() (held bool, err error) {
	data, err := json.Marshal(s.z.self)
	if err != nil {
		return false, fmt.Errorf("encoding node: %w", err)
	}
	p := s.z.path("nodes", escape(s.z.self.ID))
	for {
		_, err = s.conn.Create(p, data, zk.FlagEphemeral, openACL())
		switch {
		case errors.Is(err, zk.ErrNoNode):
			if err := s.makePath(s.z.path("nodes")); err != nil {
				return false, err
			}
		case errors.Is(err, zk.ErrNodeExists):
			ok, stat, err := s.conn.Exists(p)
			if err != nil {
				return false, fmt.Errorf("registering node: %w", err)
			}
			if !ok {
				continue
			}
			// Ours if the answer to an earlier attempt was lost.
			return stat.EphemeralOwner != s.conn.SessionID(), nil
		case err != nil:
			return false, fmt.Errorf("registering node: %w", err)
		default:
			return false, nil
		}
	}
}

// readNodes reads the list, with a watch if events says there is none, publishes it and reports whether this process
// is on it.
func (s *session) readNodes(events *<-chan zk.Event) (listed bool, err error) {
	dir := s.z.path("nodes")
	var names []string
	if *events == nil {
		names, _, *events, err = s.conn.ChildrenW(dir)
	} else {
		names, _, err = s.conn.Children(dir)
	}
	if err != nil {
		return false, fmt.Errorf("listing nodes: %w", err)
	}
	nodes := make([]Node, 0, len(names))
	for _, name := range names {
		data, _, err := s.conn.Get(dir + "/" + name)
		if errors.Is(err, zk.ErrNoNode) {
			continue // it went meanwhile; the watch tells
		}
		if err != nil {
			return false, fmt.Errorf("reading node: %w", err)
		}
		n := decodeNode(name, data)
		listed = listed || n.ID == s.z.self.ID
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })

	s.z.mu.Lock()
	news := !reflect.DeepEqual(s.z.nodes, nodes)
	s.z.nodes = nodes
	s.z.mu.Unlock()
	if news {
		s.z.hints.ring(TopicNodes)
	}
	return listed, nil
}

// decodeNode reads what announce wrote. The ID is that of the path: it alone is unique, and it is there even when the
// data was written by a version that says it otherwise.
func decodeNode(name string, data []byte) Node {
	var n Node
	if json.Unmarshal(data, &n) != nil {
		n = Node{}
	}
	n.ID = name
	if id, err := url.PathUnescape(name); err == nil {
		n.ID = id
	}
	n.Started = n.Started.UTC()
	return n
}
