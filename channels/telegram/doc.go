// Package telegram translates between the Telegram Bot API and the universal
// message.
//
// An account is one bot, known by its token. Updates come by long polling
// (mode=poll, the default) or by webhook (mode=webhook); both carry the same
// Update objects, so both end in the same Split and Decode.
//
// Keys. A chat is the decimal chat id; groups are negative. A chat of a Telegram
// Business connection is "<chat id>@<connection id>", because an answer needs
// both. Topics of a forum group are one chat. Message ids are decimal and unique
// inside the chat; things that happen without a message of their own (a button
// press, a reaction, a block) get an id with a prefix, "callback:..." or
// "update:...". A redelivered update is known by its update_id.
//
// What Telegram doesn't have: delivery and read reports, the customer's typing,
// deletions by the customer (but for business chats), an idempotency key for
// sends, and payloads of reply keyboards, whose buttons send their text.
//
// The token is a part of every URL, and Go's HTTP errors repeat the URL. So no
// error of the HTTP client leaves this package as it is: see callError.
//
// Files: telegram.go opens an account, api.go makes calls, errors.go says what
// failures mean, decode.go and content.go read updates, plan.go cuts messages
// into parts, send.go and upload.go send them, manage.go edits and deletes,
// profile.go finds customers' pictures, webhook.go, poll.go, fetch.go and check.go
// do what they are called.
package telegram
