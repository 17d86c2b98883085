package bus

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

// topic is what a process knows of one doorbell. It outlives sessions; there are few topics and they stay for ever.
type topic struct {
	name  string
	dirty chan struct{} // holds a value while a wake waits to be written

	// Guarded by ZooKeeper.mu.
	watched bool // somebody subscribed once
	armed   bool // the watch of the current session has been set

	// Between the writer and the watcher of a session.
	writing atomic.Bool  // a write is under way
	written atomic.Int32 // the node's version after our last write
}

// serveTopics starts a writer for each topic, and a watcher for each that was subscribed to. It counts among the
// writers: a topic that was woken for the first time just before the end has a pending wake too.
func (s *session) serveTopics() {
	defer s.writers.Done()
	writers := make(map[*topic]bool)
	watchers := make(map[*topic]bool)
	for last := false; ; {
		var write, watch []*topic
		s.z.mu.Lock()
		changed := s.z.changed
		for _, t := range s.z.topics {
			if !writers[t] {
				write = append(write, t)
			}
			if t.watched && !watchers[t] {
				watch = append(watch, t)
			}
		}
		s.z.mu.Unlock()
		for _, t := range write {
			writers[t] = true
			s.writers.Add(1)
			if !s.spawn(func() { defer s.writers.Done(); s.writeWakes(t) }) {
				s.writers.Done()
			}
		}
		for _, t := range watch {
			watchers[t] = true
			s.spawn(func() { s.watchWakes(t) })
		}
		if last {
			return
		}
		select {
		case <-changed:
		case <-s.draining:
			last = true
		case <-s.gone:
			return
		}
	}
}

// writeWakes writes the wakes of one topic: the first after a rest at once, and then one per coalesce for as many as
// came in meanwhile.
func (s *session) writeWakes(t *topic) {
	for last := false; !last; {
		select {
		case <-t.dirty:
		case <-s.gone:
			return
		case <-s.draining:
			last = true
			select {
			case <-t.dirty:
			default:
				return
			}
		}
		for !s.awaitConnected() || !s.writeWake(t) {
			s.z.metrics.failed.Inc()
			if !s.pause(retryPause) {
				push(t.dirty) // the next session's
				return
			}
		}
		rest := time.NewTimer(coalesce)
		select {
		case <-rest.C:
		case <-s.draining:
		case <-s.gone:
		}
		rest.Stop()
	}
}

// writeWake sets the topic's node, which has a new version then whatever the data. The data says who it was.
func (s *session) writeWake(t *topic) bool {
	p, data := s.wakePath(t), []byte(s.z.instance)
	began := time.Now()
	t.writing.Store(true)
	defer t.writing.Store(false)
	stat, err := s.conn.Set(p, data, -1)
	if errors.Is(err, zk.ErrNoNode) {
		if s.makePath(p) != nil {
			return false
		}
		stat, err = s.conn.Set(p, data, -1)
	}
	if err != nil {
		return false
	}
	t.written.Store(stat.Version)
	s.z.metrics.writes.Observe(time.Since(began).Seconds())
	return true
}

// watchWakes keeps one watch on the topic's node and rings the subscribers for what others write.
//
// A watch fires once, and what is written until it is set again shows as a version that is higher than expected. The
// version also tells our own writes, whose subscribers were rung by Wake: ringing them again would double the work of
// a process that writes and reads the same topic.
func (s *session) watchWakes(t *topic) {
	p := s.wakePath(t)
	var seen int32
	known := false // seen is the version of an earlier read
	rung := false  // for the event that led to this read
	for s.awaitConnected() {
		data, stat, events, err := s.conn.GetW(p)
		if err != nil {
			if errors.Is(err, zk.ErrNoNode) && s.makePath(p) == nil {
				known = false
				continue
			}
			if !s.pause(retryPause) {
				return
			}
			continue
		}
		switch {
		case !known:
			s.z.mu.Lock()
			t.armed = true
			s.z.mu.Unlock()
			s.z.hints.ring(t.name)
		case stat.Version == seen:
		case stat.Version == seen+1 && (rung || string(data) == s.z.instance):
		default:
			s.z.hear(t)
		}
		seen, known, rung = stat.Version, true, false

		select {
		case ev := <-events:
			// Unless the write may be our own, there is no reason to wait for the answer to the read.
			if ev.Type == zk.EventNodeDataChanged && !t.writing.Load() && t.written.Load()-seen <= 0 {
				s.z.hear(t)
				rung = true
			}
		case <-s.gone:
			return
		}
	}
}

func (z *ZooKeeper) hear(t *topic) {
	z.metrics.hints.Inc()
	z.hints.ring(t.name)
}

// flush lets the writers write what is pending, for at most flushTimeout.
func (s *session) flush() {
	close(s.draining)
	done := make(chan struct{})
	s.spawn(func() {
		s.writers.Wait()
		close(done)
	})
	select {
	case <-done:
	case <-s.gone:
	case <-time.After(flushTimeout):
	}
}

func (s *session) wakePath(t *topic) string { return s.z.path("wake", escape(t.name)) }
