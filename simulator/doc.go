// Package simulator fakes the messengers: a real HTTP server that behaves as
// the platforms' documents say, with customers who write, read, press buttons
// and block, and with faults on request.
//
// It shares no code with the rest of the project on purpose. Both sides are
// written from the platforms' documents, so a misreading on one side shows up
// as a disagreement instead of agreeing with itself.
//
// # Addresses
//
//	/telegram/bot<TOKEN>/<method>       Bot API; api_base of an account is <base>/telegram
//	/telegram/file/bot<TOKEN>/<path>    files, after getFile
//	/viber/pa/<method>                  REST bot API; api_base is <base>/viber
//	/viber/media/<id>/<name>            what customers sent, for one hour
//	/ok/graph/<method>                  Graph API of groups; api_base is <base>/ok
//	/ok/upload/<place>                  where a call of me/fileUploadUrl sends files
//	/ok/media/<id>/<name>               what customers sent
//	/control/...                        what people and tests say to the simulator, see control.go
//
// # Life
//
// New validates and does nothing else. A Simulator is an http.Handler and
// answers at once; Run owns everything that happens by itself: webhook
// deliveries and their retries, receipts, downloads of the media it was sent,
// load and demo customers. Without Run those wait in their queues. Run may be
// called once; when it returns, hanging long polls have been ended and no
// goroutine is left.
//
// # Guarantees
//
// Updates of one customer are delivered in order, each until the receiver
// acknowledges it (2xx, or a higher getUpdates offset) or it expires. Message
// numbers are unique inside one chat only on Telegram; Viber's message tokens
// are above 2^53. Everything that an account receives is recorded, newest
// first out of a bounded ring, with tokens redacted.
//
// What the documents leave open is decided here, and strictly: a request that
// the document calls wrong is refused. Where a document marks a behaviour as
// unproven and refusing would be a guess, the message is accepted and carries
// a warning (Message.Warnings).
package simulator
