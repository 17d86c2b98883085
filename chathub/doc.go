// Package chathub is where operators' clients are connected: a WebSocket at
// GET /ws/v1 that speaks JSON-RPC 2.0, one JSON object a text frame. The public
// description is docs/asyncapi.yaml; a test keeps it equal to the code.
//
// # Model
//
// Hubs are alike, and any number of them run side by side; everything that
// lasts is in the database. A hub knows its own connections and a position in
// the stream of events. What an operator may see is decided when an event is
// read, not when it was written: whoever may not read the chat any more gets
// the chat redacted, and no messages.
//
// # Calls
//
// The first call of a connection is hello; anything else before it is answered
// 1005 conflict. The calls of one connection are handled one after another, in
// order, so a client needs not wait for an answer to keep the order of what it
// sends. Batches (arrays) are refused with -32600: nothing is gained by them on
// an ordered connection. A call without id is a notification: it is carried out
// and not answered. Parameters are given by name, and unknown ones are refused.
// A call that was being handled when the connection broke may have been carried
// out; message.send with the same client_id finds out.
//
// # Events
//
// Each event has a cursor. hello without a cursor gives the operator's chats as
// they are and the cursor where the stream goes on. hello with a cursor gives
// them too, returns the same cursor, and then sends everything after it: each
// event once, in order, first the missed ones, then the live ones, without a
// gap between. Cursors hold on every hub. When the cursor is older than what is
// kept (or more than Config.MaxReplay events are missed), the answer says
// "resync": true and brings a new cursor, and the client takes the chats in the
// answer for the whole truth.
//
// A replayed event shows its message or chat as it is now, not as it was then.
// A chat without "customer" is one that the operator may not read.
//
// # How a connection ends
//
//	4401 not signed in: no or a bad token, the session expired or was ended
//	4408 too slow: the client reads slower than events come; resume by cursor
//	4409 replaced: the operator has opened more than Config.MaxPerOperator
//	     connections to this hub, and this was the oldest
//	1003 a binary frame
//	1008 no hello within Config.HelloWait
//	1009 a frame larger than Config.MaxFrame
//	1012 the hub is restarting: reconnect, to any hub, and resume by cursor
//
// # Inside
//
// One goroutine follows the stream (fanout.go) and is the only one that sends
// events; it encodes each event at most twice (whole, redacted) for all its
// readers. Each connection has two goroutines, its reader (which handles the
// calls) and melody's writer. Two more look after sessions, presence and
// deadlines, and one writes to the messages' timelines to whom they were shown
// (shown.go).
//
// Behind melody's small buffer stands a queue of the connection's own, bounded
// in bytes, because melody drops messages silently when its buffer is full. A
// connection that overflows it is told 4408 and closed, and nobody else is
// delayed: the follower never waits for a connection. A peer that doesn't read
// at all is cut by the write deadline. See conn.go.
//
// Failures: without the database calls are answered 1006 unavailable and events
// stop, connections stay, and the stream goes on where it stood. A lost hint of
// the bus costs up to a second. A hub that is killed loses its connections;
// clients resume at another. Presence is a lease (see presence in watch.go), so
// the operators of a dead hub go offline by themselves.
//
// chathub imports neither db nor the other roles; what it needs of them are the
// interfaces in hub.go.
package chathub
