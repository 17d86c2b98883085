// Package embedded runs the machine's own Postgres as a child of this process:
// nobody has to install, start or secure a database server to use Switchboard
// on one machine.
//
// # What lies where
//
// A server owns one folder, Config.DataDir:
//
//	lock       flock'ed while a server runs; holds the pid of its owner
//	password   of the database role, 0600, readable by the owner of the folder
//	cluster/   Postgres's own data, 0700, owned by the server's user
//	run/       the unix socket, 0700; made anew at each start. A symbolic link to
//	           a folder in /tmp where the path would exceed a socket address's
//	           107 bytes
//	elsewhere  a symbolic link to the folder that holds all of the above, when it
//	           can't lie here (see below)
//
// # Which user
//
// Postgres refuses to run as root. Started by root, the server runs as the user
// who owns cluster/, and a new one as "postgres" or else "nobody". Such a user
// may be unable to enter the folder, as below /root. A new cluster is then put
// into a folder of its own under /var/lib/switchboard, and DataDir/elsewhere
// points there. Removing DataDir does not remove that folder.
//
// # Who may connect
//
// Only the unix socket is open, plus 127.0.0.1 when Config.Port is set. The
// socket's folder is closed to other users, and the role's password (SCRAM) is
// asked for in any case, because "nobody" is shared with other programs.
//
// # Life and death
//
//	the owner calls Stop       fast shutdown (SIGINT), then immediate, then SIGKILL
//	the owner is killed        the kernel sends Postgres SIGINT (Pdeathsig): it
//	                           ends by itself, committed work is on the disk
//	the next owner is early    Start waits for that Postgres to be gone
//	Postgres is killed         Exited reports it; Start again recovers
//	the machine loses power    a postmaster.pid that names a foreign process is
//	                           recognised as stale and removed
//	a second owner             Start returns ErrInUse
//	killed during creation     the half-made cluster is thrown away at next start
//
// Pdeathsig is bound to the thread that forked, so a goroutine holds its thread
// for as long as the server lives.
package embedded
