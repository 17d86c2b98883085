// Package switchboard is a self-hosted gateway between messengers and contact
// centres: customers write from messengers, operators answer over one
// WebSocket API or the web desk, scripts send over REST.
//
// This package holds the nouns (Account, Customer, Chat, Operator, ...) and
// their rules; it does no I/O. The map of the other packages:
//
//	message     the universal message, capabilities, send errors
//	channels    the contract of a messenger; a folder a platform below it
//	db          Postgres: schema, queries, the embedded server
//	bus         wake-ups and leadership: ZooKeeper, or in-process
//	filestore   files: S3 or disk, the /files endpoints, signed links
//	edge        the public face: webhooks, pollers, the send API
//	workers     inbound lanes, outbound delivery, file fetches, housekeeping
//	callbacks   tells scripts what becomes of their messages
//	chathub     operators: WebSocket, JSON-RPC, sessions, assignment
//	loader      reads and administration over REST
//	web         the operators' desk
//	simulator   the platforms, faked from their documents
//	config      settings
//	cmd         the command line and the wiring of roles
package switchboard
