// Package mfms connects WhatsApp numbers over MFMS (МФМ Солюшнс, today edna) by
// its JSON connector for instant messages.
//
// MFMS gives its papers to customers only. What working clients and the public
// documentation of the same platform confirm stands with the code that uses it;
// what is assumed (names, paths, limits, authorisation) stands in wire_json.go and
// nowhere else, to be corrected there when the papers come.
//
// What shapes the package:
//
//   - We choose the id of a message, and a second one with the same id is refused
//     by a code of its own. So a send of unknown outcome is repeated, and that
//     refusal counts as success.
//   - A delivery report names the message's id and nobody's phone, while reports
//     are put in order by chat. The ids that we choose therefore hold the phone,
//     scrambled (id.go).
//   - Verdicts are a code in the answer, whatever the HTTP status; errors.go
//     holds the table.
//   - Callbacks carry no signature. They come with the user and password of Basic
//     authorisation that stand in the address registered with MFMS.
//   - The customer's address is their phone number, so everybody who writes is in
//     the phone book, and a phone is all that is needed to write first. WhatsApp
//     wants an approved template then, and whenever the customer has not written
//     for 24 hours.
package mfms
