// Package channels is the contract of a messenger.
//
// A platform package translates: it decodes the platform's callbacks into
// message.Update values, plans an outbound message as parts, and makes the HTTP
// calls that send them. It returns values and never writes to the database;
// order, durability, retries and limits are done once, by the workers, for all
// platforms.
//
// A platform is one Platform value, listed in channels/all. Opening it for an
// account yields a Channel; further abilities (webhooks, polling, editing, ...)
// are the optional interfaces below, found by type assertion.
package channels
