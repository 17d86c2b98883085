// Package viber connects Viber bots (the REST bot API, not Viber Business
// Messages, which are addressed by phone number and bought from partners).
//
// What shapes the package:
//
//   - One callback is one update, signed with HMAC-SHA256 over the raw bytes;
//     the key is the bot's token itself, so a rotated token changes both
//     directions at once.
//   - Errors come inside HTTP 200 as {"status":6,...}: the number decides,
//     never the text and hardly ever the HTTP code (errors.go holds the table).
//   - message_token is an unsigned 64-bit number over 2^53. It is kept as the
//     decimal text that Viber wrote and never passes through a float.
//   - There is no upload: media goes out as a signed link that Viber and the
//     customer's phone download, up to 14 days later.
//   - There is no event for a button press: it arrives as a text equal to the
//     button's ActionBody. We mark ours with a prefix (keyboard.go).
//   - A keyboard lives until the next message to that customer, so taking one
//     away is sending a message without it.
//   - The welcome is no message of ours: it is the answer to the callback
//     conversation_started, with no token and no receipts.
//
// Groups and channels (callbacks with chat_id) are not served.
package viber
