package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"switchboard/internal/zktest"
	"switchboard/simulator"
)

// fault is something that goes wrong, and ends by itself.
type fault struct {
	kind    string
	touches []string // two faults that touch the same don't come at once
	strike  func(*strike) error
}

func (f fault) excludes(g fault) bool {
	return slices.ContainsFunc(f.touches, func(what string) bool { return slices.Contains(g.touches, what) })
}

// strike is one fault under way.
type strike struct {
	*chaos
	dice *rand.Rand
	// rest is what is still mended after the system has to work again.
	rest sync.WaitGroup
	// since is when the system had to work again; zero: at strike's end.
	since  time.Time
	detail string
}

// between draws a duration.
func (s *strike) between(min, max time.Duration) time.Duration {
	return min + time.Duration(s.dice.Int64N(int64(max-min)))
}

// lasting is how long a fault takes: less in a short run.
func (s *strike) lasting(short, long time.Duration) {
	if s.short {
		long = short
	}
	s.await(long)
}

// await lets time pass.
func (*strike) await(d time.Duration) { time.Sleep(d) }

func pick[T any](dice *rand.Rand, from []T) T { return from[dice.IntN(len(from))] }

// faults are all kinds.
func (x *chaos) faults() []fault {
	const pg, zk, s3, edge, worker, hub, sim, people = "postgres", "zookeeper", "s3", "edge", "worker", "hub", "platforms", "operators"
	return []fault{
		{"kill -9 of an edge", []string{edge}, func(s *strike) error { return s.killOne("edge") }},
		{"kill -9 of the poller", []string{edge, pg, zk}, (*strike).killPoller},
		{"kill -9 of a worker", []string{worker}, func(s *strike) error { return s.killOne("workers") }},
		{"kill -9 of a hub", []string{hub}, func(s *strike) error { return s.killOne("chathub") }},
		{"kill -9 of the loader", nil, func(s *strike) error { return s.killOne("loader") }},
		{"kill -9 of the filestore", nil, func(s *strike) error { return s.killOne("filestore") }},
		{"kill -9 of a ZooKeeper follower", []string{zk}, func(s *strike) error { return s.killZooKeeper(false) }},
		{"kill -9 of the ZooKeeper leader", []string{zk}, func(s *strike) error { return s.killZooKeeper(true) }},
		{"no ZooKeeper quorum", []string{zk}, (*strike).noQuorum},
		{"Postgres restarts, fast", []string{pg}, func(s *strike) error { return s.restartPostgres(syscall.SIGINT) }},
		{"Postgres restarts, immediate", []string{pg}, func(s *strike) error { return s.restartPostgres(syscall.SIGQUIT) }},
		{"Postgres unreachable, refused", []string{pg}, func(s *strike) error { return s.losePostgres(s.database.Cut) }},
		{"Postgres unreachable, silent", []string{pg}, func(s *strike) error { return s.losePostgres(s.database.Freeze) }},
		{"poller stopped beyond its session", []string{edge, pg, zk}, (*strike).freezePoller},
		{"poller's session expires, refused", []string{edge, pg, zk}, func(s *strike) error { return s.expire((*zktest.Proxy).Cut) }},
		{"poller's session expires, silent", []string{edge, pg, zk}, func(s *strike) error { return s.expire((*zktest.Proxy).Freeze) }},
		{"worker stopped beyond its session", []string{worker}, (*strike).freezeWorker},
		{"S3 unreachable", []string{s3}, (*strike).loseS3},
		{"platform answers 429", []string{sim}, func(s *strike) error {
			return s.platforms(2, 4*time.Second, func(*station) []simulator.Fault {
				return []simulator.Fault{{Kind: simulator.FaultThrottle, RetryAfter: 1 + s.dice.IntN(3), Count: 1 + s.dice.IntN(3)}}
			})
		}},
		{"platform answers 5xx", []string{sim}, func(s *strike) error {
			return s.platforms(2, 5*time.Second, func(*station) []simulator.Fault {
				return []simulator.Fault{{Kind: simulator.FaultError, Status: 500, Probability: 0.3}, {Kind: simulator.FaultHTML, Status: 502, Probability: 0.3}}
			})
		}},
		{"platform hangs", []string{sim}, func(s *strike) error {
			return s.platforms(2, 4*time.Second, func(p *station) []simulator.Fault {
				return []simulator.Fault{{Kind: simulator.FaultHang, Method: p.method, Count: 2}}
			})
		}},
		{"platform cuts before accepting", []string{sim}, func(s *strike) error {
			return s.platforms(3, 3*time.Second, func(*station) []simulator.Fault {
				return []simulator.Fault{{Kind: simulator.FaultCut, Count: 4}}
			})
		}},
		{"platform accepts, answer lost", []string{sim}, func(s *strike) error {
			return s.platforms(3, 4*time.Second, func(p *station) []simulator.Fault {
				return []simulator.Fault{{Kind: simulator.FaultCutAfter, Count: 3}, {Kind: simulator.FaultHangAfter, Method: p.method, Count: 1}}
			})
		}},
		{"platform is slow", []string{sim}, func(s *strike) error {
			return s.platforms(3, 5*time.Second, func(*station) []simulator.Fault {
				return []simulator.Fault{{Kind: simulator.FaultSlow, Delay: simulator.Delay(s.between(500*time.Millisecond, 2*time.Second)), Probability: 0.5}}
			})
		}},
		{"webhooks twice, answers lost", []string{sim}, func(s *strike) error {
			return s.platforms(6, 4*time.Second, func(*station) []simulator.Fault {
				return []simulator.Fault{{Kind: simulator.FaultDuplicate, Probability: 0.4}, {Kind: simulator.FaultLostAnswer, Probability: 0.2}, {Kind: simulator.FaultBadSignature, Probability: 0.1}}
			})
		}},
		{"webhooks reordered", []string{sim}, func(s *strike) error {
			return s.platforms(6, 4*time.Second, func(p *station) []simulator.Fault {
				if p.polled {
					return nil
				}
				return []simulator.Fault{{Kind: simulator.FaultReorder, Delay: simulator.Delay(500 * time.Millisecond), Probability: 0.2}}
			})
		}},
		{"slow operator", []string{people, hub, pg, sim}, (*strike).slowOperator},
		{"operators reconnect", []string{people}, (*strike).reconnect},
	}
}

// kill ends a process of a service, and starts another after a while.
func (s *strike) kill(service string, down time.Duration) {
	p := s.process(service)
	s.mu.Lock()
	s.expected[p] = true
	s.mu.Unlock()
	s.since = time.Now()
	p.kill()
	s.rest.Go(func() {
		s.await(down)
		if err := s.revive(service); err != nil {
			s.breach("%s does not start: %v", service, err)
		}
	})
}

// revive starts a service again, as often as it takes: what it needs may be away.
func (x *chaos) revive(service string) error {
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		p := launch(x.t, x.t, service, x.dir, x.env[service], "", x.command[service]...)
		for ready := false; !ready && !p.gone(); time.Sleep(20 * time.Millisecond) {
			select {
			case <-p.serving:
				status, _ := get("http://"+p.ops+"/healthz", "")
				ready = status == 200
			default:
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("it is not ready; its log ends:\n%s", p.tail(10))
			}
		}
		if !p.gone() {
			x.place(service, p)
			return nil
		}
		x.note("%s ended with exit code %d while starting: %s", service, p.code, p.tail(1))
	}
}

func (s *strike) killOne(role string) error {
	service := pick(s.dice, s.services(role))
	s.detail = service
	s.kill(service, s.between(time.Second, 5*time.Second))
	return nil
}

// terms are the polled accounts of a process, with their epochs.
func (s *strike) terms(node string) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	rows, err := s.pool.Query(ctx, `select platform, poll_epoch from accounts where poll_lease_until > now() and poll_lease in ($1, 'elected ' || $1)`, node)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	terms := map[string]int64{}
	for rows.Next() {
		var platform string
		var epoch int64
		if err := rows.Scan(&platform, &epoch); err != nil {
			return nil, err
		}
		terms[platform] = epoch
	}
	return terms, rows.Err()
}

// pollingEdge is an edge that polls, with its terms.
func (s *strike) pollingEdge() (service string, terms map[string]int64, err error) {
	for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); s.await(100 * time.Millisecond) {
		edges := s.services("edge")
		s.dice.Shuffle(len(edges), func(i, j int) { edges[i], edges[j] = edges[j], edges[i] })
		for _, e := range edges {
			if terms, err = s.terms(s.process(e).node); err == nil && len(terms) > 0 {
				return e, terms, nil
			}
		}
	}
	return "", nil, fmt.Errorf("nobody polls: %w", err)
}

// polls are the calls by which platforms are polled.
var polls = map[string]string{"telegram": "getUpdates", "vk": "a_check"}

// takenOver waits until others poll the accounts of terms, and returns how long
// after a moment the last of them was asked, by the simulator's clock.
func (s *strike) takenOver(terms map[string]int64, since time.Time) (time.Duration, error) {
	var longest time.Duration
	for platform, epoch := range terms {
		var first time.Time
		for deadline := time.Now().Add(30 * time.Second); first.IsZero(); s.await(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				return 0, fmt.Errorf("nobody has taken over the polling of %s within 30 s", platform)
			}
			var now int64
			if err := s.pool.QueryRow(context.Background(), `select poll_epoch from accounts where platform = $1`, platform).Scan(&now); err != nil || now == epoch {
				continue
			}
			for _, r := range s.station(platform).requests(polls[platform]) {
				if r.At.After(since) {
					first = r.At
					break
				}
			}
			if first.IsZero() { // it hangs: it is recorded when it ends
				first = time.Now()
			}
		}
		longest = max(longest, first.Sub(since))
	}
	s.mu.Lock()
	s.failover = append(s.failover, longest)
	s.mu.Unlock()
	if longest > takeOver {
		s.breach("polling was taken over after %v, want %v", longest.Round(10*time.Millisecond), takeOver)
	}
	return longest, nil
}

func (s *strike) killPoller() error {
	service, terms, err := s.pollingEdge()
	if err != nil {
		return err
	}
	s.kill(service, s.between(8*time.Second, 12*time.Second))
	took, err := s.takenOver(terms, s.since)
	s.detail = fmt.Sprintf("%s; polling of %d accounts taken over after %.1f s", service, len(terms), took.Seconds())
	return err
}

func (s *strike) freezePoller() error {
	service, terms, err := s.pollingEdge()
	if err != nil {
		return err
	}
	p := s.process(service)
	s.since = time.Now()
	p.signal(syscall.SIGSTOP)
	s.rest.Go(func() {
		s.await(s.between(12*time.Second, 16*time.Second))
		p.signal(syscall.SIGCONT)
		s.mu.Lock()
		s.frozen = append(s.frozen, [2]time.Time{s.since, time.Now()})
		s.mu.Unlock()
		s.await(time.Second) // for its polls to end
	})
	took, err := s.takenOver(terms, s.since)
	s.detail = fmt.Sprintf("%s; polling of %d accounts taken over after %.1f s", service, len(terms), took.Seconds())
	return err
}

// expire cuts the poller off from ZooKeeper, and from nothing else, until its session
// is gone. It has to stop by itself: an overlap of its polls with the other
// edge's is a breach.
func (s *strike) expire(how func(*zktest.Proxy)) error {
	service, terms, err := s.pollingEdge()
	if err != nil {
		return err
	}
	s.since = time.Now()
	for _, way := range s.ways[service] {
		how(way)
	}
	s.rest.Go(func() {
		s.await(s.between(12*time.Second, 16*time.Second))
		for _, way := range s.ways[service] {
			way.Heal()
		}
	})
	took, err := s.takenOver(terms, s.since)
	s.detail = fmt.Sprintf("%s; polling of %d accounts taken over after %.1f s", service, len(terms), took.Seconds())
	return err
}

func (s *strike) freezeWorker() error {
	service := pick(s.dice, s.services("workers"))
	s.detail = service
	p := s.process(service)
	s.since = time.Now()
	p.signal(syscall.SIGSTOP)
	s.rest.Go(func() {
		s.await(s.between(11*time.Second, 15*time.Second))
		p.signal(syscall.SIGCONT)
	})
	return nil
}

func (s *strike) startZooKeeper(nodes ...int) error {
	for _, i := range nodes {
		if err := s.zk.StartNode(i); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	return s.zk.WaitReady(ctx)
}

func (s *strike) killZooKeeper(leading bool) error {
	leader := -1
	for deadline := time.Now().Add(20 * time.Second); leader < 0; s.await(100 * time.Millisecond) {
		if leader = s.zk.Leader(); time.Now().After(deadline) {
			return fmt.Errorf("no leader")
		}
	}
	node := leader
	if !leading {
		node = (leader + 1 + s.dice.IntN(s.zk.Len()-1)) % s.zk.Len()
	}
	s.detail = fmt.Sprintf("node %d", node)
	s.zk.KillNode(node)
	s.since = time.Now()
	s.rest.Go(func() {
		s.await(s.between(2*time.Second, 5*time.Second))
		if err := s.startZooKeeper(node); err != nil {
			s.breach("ZooKeeper: %v", err)
		}
	})
	return nil
}

func (s *strike) noQuorum() error {
	first := s.dice.IntN(s.zk.Len())
	nodes := []int{first, (first + 1) % s.zk.Len()}
	s.detail = fmt.Sprintf("nodes %v", nodes)
	for _, i := range nodes {
		s.zk.KillNode(i)
	}
	s.lasting(15*time.Second, 30*time.Second)
	return s.startZooKeeper(nodes...)
}

func (s *strike) restartPostgres(how syscall.Signal) error {
	server := s.pg.now()
	if how == syscall.SIGINT {
		if err := server.Stop(context.Background()); err != nil {
			return err
		}
	} else {
		if err := syscall.Kill(server.PID(), how); err != nil {
			return err
		}
		_ = server.Wait() // that it ended is what we wanted
	}
	s.await(s.between(200*time.Millisecond, 2*time.Second))
	return s.pg.start()
}

func (s *strike) losePostgres(how func()) error {
	how()
	defer s.database.Heal()
	s.lasting(10*time.Second, 20*time.Second)
	return nil
}

func (s *strike) loseS3() error {
	s.s3.Cut()
	defer s.s3.Heal()
	s.lasting(5*time.Second, 15*time.Second)
	return nil
}

// platforms bends some of the platforms for a while.
func (s *strike) platforms(count int, d time.Duration, faults func(*station) []simulator.Fault) error {
	chosen := slices.Clone(s.stations)
	s.dice.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	chosen = chosen[:count]
	var ids, names []string
	defer func() { s.sim.ClearFaults(append(ids, "none")...) }()
	for _, p := range chosen {
		names = append(names, p.platform)
		for _, f := range faults(p) {
			f.Platform = p.platform
			id, err := s.sim.Fault(f)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
	}
	s.await(d)
	hits := 0
	for _, f := range s.sim.Faults() {
		if slices.Contains(ids, f.ID) {
			hits += f.Applied
		}
	}
	s.detail = fmt.Sprintf("%s, %d times", strings.Join(names, " "), hits)
	return nil
}

// slowOperator gets more than its connection may have in its queue while it reads
// nothing, is told so, and goes on by its cursor.
func (s *strike) slowOperator() error {
	k := s.flooded
	a := k.agent
	a.mu.Lock()
	sessions, closes := a.sessions, len(a.closes)
	a.mu.Unlock()
	resume := a.pause()
	defer resume()
	// 4 MiB may wait for a connection. A text of Viber has up to 7,000 characters,
	// of two bytes here.
	const texts = 360
	began := time.Now()
	s.mu.Lock()
	s.asked++
	flood := s.asked
	s.mu.Unlock()
	long := strings.Repeat(padding, 6_900)
	for n := range texts {
		k.say(fmt.Sprintf("flood %d %d%s", flood, n, long))
	}
	last := fmt.Sprintf("flood %d %d", flood, texts-1)
	// They are stored when the next question of the same chat's lane is; here, when the history has the last.
	for deadline := time.Now().Add(30 * time.Second); ; s.await(100 * time.Millisecond) {
		var stored bool
		if err := s.pool.QueryRow(context.Background(), `select starts_with(body->>'text', $2) from messages where chat_id = $1 order by seq desc limit 1`, k.chat, last).Scan(&stored); err == nil && stored {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the flood is not stored after 30 s")
		}
	}
	s.await(500 * time.Millisecond)
	resume()
	s.since = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), recovery)
	defer cancel()
	seen := s.ledgers[a].chats[k.chat]
	if err := a.until(ctx, last, func() bool { return slices.Contains(seen.in, last) }); err != nil {
		return err
	}
	caught := time.Since(s.since)
	a.mu.Lock()
	defer a.mu.Unlock()
	codes := slices.Clone(a.closes[closes:])
	s.detail = fmt.Sprintf("%d texts in %.1f s while it read nothing; closed with %v, caught up %.1f s later", texts, s.since.Sub(began).Seconds(), codes, caught.Seconds())
	// A hub waits 15 s for the network to take a frame; then there is no way to say
	// anything, and the connection is cut.
	late := slices.Contains(codes, websocket.CloseAbnormalClosure) && s.since.Sub(began) > 13*time.Second
	if a.sessions == sessions || !(slices.Contains(codes, 4408) || late) {
		s.breach("a slow operator's connection was closed with %v, want 4408", codes)
	}
	return nil
}

// reconnect cuts operators' connections again and again.
func (s *strike) reconnect() error {
	cuts := 0
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); s.await(s.between(20*time.Millisecond, 300*time.Millisecond)) {
		pick(s.dice, s.agents).cut()
		cuts++
	}
	s.detail = fmt.Sprintf("%d connections cut", cuts)
	return nil
}
