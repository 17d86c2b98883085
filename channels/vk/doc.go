// Package vk connects communities of VK (vk.ru) by their API 5.199.
//
// Updates come by Bots Long Poll or by the Callback API, in one envelope
//
//	{"type":"message_new","event_id":"3d9c","v":"5.199","group_id":1,"object":{...}}
//
// and with one event_id whichever way they come, which is the dedup key of all but
// messages; those are known by chat and number, and so can be read again from the
// history when the long poll has lost events. A chat is a peer_id (a person's id, 2000000000+n for a group chat), a message is its
// conversation_message_id: decimal text that counts from 1 in each chat.
//
// Calls are forms POSTed to /method/NAME; objects inside them are JSON in one
// field. Refusals come with HTTP 200 and {"error":{"error_code":6,...}}, and for
// messages.send inside of a successful answer, since peer_ids is always used: only
// that form tells the conversation_message_id.
//
// messages.send takes random_id, a 31-bit key under which a repeat within an hour
// (and 100 messages) is not sent again. Ours is made from our message's id and the
// number of the part, so that it needs no storing.
//
// What no document proves is in unconfirmed.go.
package vk
