// Package infobip connects WhatsApp numbers that are leased from Infobip.
//
// What shapes the package:
//
//   - One call sends one message to one customer, and the path names its kind.
//     Long texts, several files and words beside a file that takes none are
//     therefore several parts (plan.go).
//   - We choose the message's id, and reports come back with it. A repeated id is
//     refused, so after an unclear attempt the same is sent again, and that refusal
//     is a success (send.go).
//   - HTTP 200 means queued. What became of a message is told by reports only,
//     which come at the same address as the customers' messages and may come
//     before the answer of the call (decode.go).
//   - There is no upload: media goes out as a signed link that Infobip downloads.
//   - Customers' files lie at Infobip for 7 days and are read with the account's
//     key, which goes to Infobip's hosts alone, whatever a callback says (fetch.go).
//   - Outside of 24 hours after the customer's last message only templates arrive
//     (error 7010).
//   - A customer is keyed by phone number, so that a chat can be begun with a
//     number. Customers who hide it are keyed by their business-scoped id, like
//     RU.1234567890.
//
// What no document states stands in unconfirmed.go.
package infobip
