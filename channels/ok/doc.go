// Package ok connects groups of Odnoklassniki (OK.ru) by the Graph API, in which
// a bot is a group with messages switched on.
//
// What shapes the package:
//
//   - Callbacks carry no signature. Ours go to an address that holds a secret
//     (webhook.go); nothing else tells OK's from a stranger's.
//   - OK forgets a subscription that it got no good answer from for 8 hours,
//     and tells nobody. Upkeep asks for the list, subscribes again, and reads
//     what was written meanwhile from the chats' history (upkeep.go).
//   - The token stands in every address, so no address goes into an error.
//   - Errors come inside HTTP 200 as {"error_code":7,...}; errors.go holds the table.
//   - Files are uploaded first and sent by token; OK may need seconds until a
//     token can be sent (upload.go).
//   - There are no receipts: a message ends as sent.
//
// What no document states stands in assumed.go.
package ok
