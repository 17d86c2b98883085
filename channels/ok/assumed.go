package ok

import (
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// What OK publishes nowhere, or what only one client is known to do. Each is
// the cautious reading; a live group proves them.

// Limits. OK names none for texts, buttons and rates.
var (
	textLimit    = message.Limit{Max: 4000, Unit: message.UnitUTF16}
	titleLimit   = message.Limit{Max: 30, Unit: message.UnitUTF16}
	payloadLimit = message.Limit{Max: 1000, Unit: message.UnitUTF16}
)

const (
	maxRows    = 30
	maxColumns = 7

	maxPicture = 20_000_000  // bytes
	maxFile    = 100_000_000 // bytes, anything else; larger pictures go as files
	maxFetch   = 200 << 20

	perSecond = 10 // calls with one token
)

// How long to wait where OK says "too much" without a time.
const (
	afterFlood = 30 * time.Second
	afterLimit = time.Minute
	afterTotal = time.Hour
)

// readyWaits are the pauses before a message is tried again whose files OK is
// still working at; one adapter waits so.
var readyWaits = []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}

// notReady are words of an error_msg about files that are not processed yet.
var notReady = []string{"processing", "not ready", "not.ready", "notready"}

// tokenLife is how long an upload's token is used again; how long it works is
// not told.
const tokenLife = time.Hour

// textBeside is sent beside files that have no caption: an empty text was
// refused once.
func textBeside(f *message.File) string {
	if f.Name != "" {
		return f.Name
	}
	return "file"
}

// order makes a callback's place in its chat: seq where there is one, else the
// time. In all examples seq is the time in 1/65536 ms, so the two compare; what
// has only the time comes behind the messages of the same millisecond.
func order(seq, ms int64) int64 {
	if seq > 0 {
		return seq
	}
	if ms <= 0 || ms >= 1<<46 {
		return 0
	}
	return ms<<16 | 0xffff
}

// The answers about the past; their fields are those of the callbacks.
type chatsPage struct {
	Chats []struct {
		ID   scalar `json:"chat_id"`
		Last scalar `json:"lastEventTime"` // ms
		Type scalar `json:"type"`          // DIALOG, CHAT or GROUP_CHAT
	} `json:"chats"`
	Marker scalar `json:"marker"` // of the next page; none on the last one
}

// The largest pages.
const (
	chatsOfPage    = "100"
	messagesOfPage = "50"
)

// groupChat are chats of many members, which no operator serves.
const groupChat = "GROUP_CHAT"

// answerBody is what an answer to a press holds: the message that takes the
// place of the one with the buttons.
func answerBody(text string) any {
	return map[string]any{"message": outgoing{Text: text}}
}

var _ channels.Acknowledger = (*channel)(nil)
