// Package bus carries hints between processes and decides which of them leads.
//
// It has two protocols over one ZooKeeper session per process, and an implementation of the same interface for a single
// process (Memory). Both pass the suite in bustest.
//
// # The rule
//
// The bus tells that something happened; Postgres says what. A hint has no content. Whoever receives one re-reads its
// state from the database, and reads it now and then without any hint: the poll is the guarantee, the hint is the
// speed. Wake only after the commit, never inside the transaction. Likewise a leadership is a lease that can be
// lost between two statements of the leader: what a leader writes is fenced by an epoch in the same database.
//
// # The tree
//
//	/switchboard/nodes/<id>                        ephemeral, JSON of Node: who lives
//	/switchboard/leaders/<name>/<guid>-<sequence>  ephemeral: who stands in line to lead name; the lowest one leads
//	/switchboard/wake/<topic>                      persistent: the doorbell; its version counts the rings, its data
//	                                               says who rang last
//
// Names are percent-escaped, so any string is a topic, an id or a name. The nodes of topics and of names stay when
// they are no longer used: a few bytes each.
//
// # Hints
//
// A topic has one znode that all subscribing processes watch, so a wake costs one synced write however many subscribe.
// A node per subscriber would be written once for each of them, and a synced write is what an ensemble has least of:
// 1,300 in a second one at a time, 13,000 with 64 in flight, against 0.1 ms for a read. The price is that every
// subscriber re-arms its watch by a read after each ring, which its own server answers from memory.
//
// The first wake after a rest is written at once. While a write is under way, and for 5 ms from its end, further wakes
// only mark the topic; then one write stands for all of them. The mark is removed before the write begins, so a wake
// during a write leads to another: the last wake is never lost. It survives disconnections and sessions, and Run
// writes it before it ends.
//
// Subscribers of the waking handle are rung by Wake itself and not again by their own write's echo: the watcher
// compares the version it reads with the one it expects, and the writer's name with its own.
//
// Measured with three nodes that sync to disk, all on one machine of two cores: from Wake in one process to the hint
// in another 1.3 ms in the median and 5 to 12 ms for one in a hundred, while compilers ran beside it. Wake itself takes
// 0.1 us.
//
// What a subscriber may rely on:
//
//   - A hint comes after the subscription is in force, so whatever was committed before is found by the read that this
//     hint causes; there is no gap between reading and subscribing.
//   - After each wake that follows, at least one hint comes, as long as the waking and the receiving process live and
//     reach ZooKeeper some time. The wake happened before the hint.
//   - After each (re)connection a hint comes, for what may have been missed.
//   - Hints are coalesced, may be spurious, and have no order between topics.
//
// # Leadership
//
// A candidate creates an ephemeral sequential node and watches the node before its own, and only that. It leads when
// there is none before it: it can see its own node, hence every older one that is left. To resign it deletes its node
// and the next in line leads within a few milliseconds; a candidate that stands in line leaves the same way. A node
// whose creation was never answered is found by its guid and deleted, else it would block the line as long as the
// session lives.
//
// A leader is given a context. It ends
//
//   - when the caller's own context ends (resignation),
//   - when Run ends (cause ErrStopped): Run then waits for the leaders, at most one session timeout, before it closes
//     the session, so that no successor starts beside them,
//   - when the session was not proven alive for 2/3 of its timeout, or has expired (cause ErrInDoubt),
//   - when somebody else deletes the candidate's node (cause ErrDeposed).
//
// The proof of life is a sync every 1/6 of the session timeout, and counts from the moment it was asked for. The
// state of the connection is no proof: a connection that went silent looks well for 2/3 of the timeout, and a server
// that lost its ensemble goes on answering for several ticks. A sync passes through the ensemble's leader, which keeps
// the sessions. The third of the timeout that is left over covers what that leader learns late (half a tick) and is the
// time lead has to return.
//
// So two processes act as leaders of one name at the same time only if a leader overstays: a lead function that
// does not return when its context ends, a process that was stopped (SIGSTOP, a suspended machine) and does not know it
// yet. Hence the epoch.
//
// The first process to come leads; leadership is not spread evenly over processes.
//
// # What happens when
//
//	a ZooKeeper server is killed    the session moves to another in 10 to 100 ms; leaders stay, watches too
//	a ZooKeeper server freezes      it is left after half the session timeout; leaders stay (the lease holds 2/3)
//	the ensemble's leader is killed hints pause for about 1 s; leaders usually stay
//	no quorum                       local hints flow, others wait; leaders stop after 2/3 of the timeout and nobody
//	                                leads; Ready and Nodes say why. All is resumed when the quorum is back
//	this process is cut off         as above; the others take over after the session timeout (plus a tick). On its
//	                                return it opens a new session, registers, writes kept wakes, rings everybody, and
//	                                stands in line at the end
//	this process is killed          others take over after the session timeout: 6 to 8 s with the defaults
//	this process is restarted       under the same id: it is registered when the old session has ended
//	ZooKeeper is away at the start  Run tries on; Wake reaches local subscribers; Lead waits; Ready says why
//	an address changes              names are looked up at every dial
//	somebody deletes our nodes      they are created again; a leader is deposed and stands in line again
//
// # Sessions and goroutines
//
// Each session has a client of its own, which dials no more after its session has expired, so that a request made in
// one session is never carried out in the next. All goroutines belong to a session and Run waits for them; a lead
// function runs in the goroutine of Lead's caller. Around the client's connection are deadlines and an order of
// reading that the client itself lacks; type wire tells why.
//
// Allowed imports: the standard library, the ZooKeeper client, the Prometheus client.
package bus
