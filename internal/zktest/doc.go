// Package zktest starts a real ZooKeeper ensemble on free loopback ports, for tests.
//
// The servers are Debian's (`apt-get install --no-install-recommends zookeeper`, which brings java and starts
// nothing). Each server is a child process that the kernel kills when the test process dies, so nothing outlives a
// test that was killed. A node is a port set that stays its own across KillNode and StartNode; ports are taken below
// the kernel's range for outgoing connections (32768 and up on Linux), so that a node that is down does not lose its
// port to some client, and a start that loses the race for a port is tried again with others.
//
// The ticks are short (500 ms): a session may be asked for 1 s to 60 s, and a follower that hears nothing from its
// leader gives up after 5 s. Writes are synced to disk as in production.
package zktest
