package vk

import (
	"switchboard/channels"
	"switchboard/message"
)

const (
	// VK's "MB" is not said to be binary; the smaller reading is safe in both.
	photoBytes    = 50_000_000
	documentBytes = 200_000_000

	// maxText is a margin below the mostText of the documents, and a round number
	// for people who count; an account may set its own.
	maxText  = 4000
	mostText = 4096

	maxLabel   = 40  // of a button
	maxPayload = 255 // of a button, as JSON
	// payloadRoom is what our own marks need of maxPayload.
	payloadRoom = len(`{"sb":""}`)

	regularRows, inlineRows       = 10, 6
	columns                       = 5
	regularButtons, inlineButtons = 40, 10
)

// No audio: documents refuse mp3, and music needs a person's token. No contact:
// VK has no such attachment.
var sends = []message.Kind{
	message.KindText, message.KindImage, message.KindVideo, message.KindVoice,
	message.KindSticker, message.KindDocument, message.KindLocation,
}

// ownLimits are the account's: those of VK, or what its settings say.
func ownLimits(a channels.Account) (channels.Limits, error) {
	usual := channels.Limits{Text: maxText, Image: photoBytes, Video: documentBytes, File: documentBytes}
	most := usual
	most.Text = mostText
	return a.Limits(usual, most)
}

// Capabilities implements channels.Channel.
func (c *channel) Capabilities() message.Capabilities {
	return message.Capabilities{
		Platform: name,
		Send:     sends,
		Receive: []message.Kind{
			message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice,
			message.KindSticker, message.KindDocument, message.KindLocation,
			message.KindButton, message.KindForward, message.KindService, message.KindUnsupported,
		},
		ReplyKeyboard: true, InlineKeyboard: true, RequestLocation: true,
		ReplyTo: true, Edit: true, Delete: true, Forward: true, Forwarded: true, Typing: true,
		Read: true, CustomerAvatar: true, Idempotent: true,
		// An id works only if that person has written or allowed messages;
		// otherwise the send fails with kind recipient.
		StartByID: true,

		Text: message.Limit{Max: c.limits.Text, Unit: unitOf},
		// The text goes in the same message as the files.
		Caption:  message.Limit{Max: c.limits.Text, Unit: unitOf},
		MaxParts: 10,

		FileBytes:  c.limits.FileBytes(sends),
		ShownBytes: map[message.Kind]int64{message.KindImage: c.limits.Image},
		MaxFiles:   maxAttachments,
		FetchBytes: documentBytes,

		ButtonText:    message.Limit{Max: maxLabel, Unit: unitOf},
		ButtonPayload: message.Limit{Max: maxPayload - payloadRoom, Unit: unitOf},
		// Of regular keyboards; inline ones take 6 rows and 10 buttons, see Plan.
		ButtonRows:    regularRows,
		ButtonColumns: columns,
		Buttons:       regularButtons,

		// 3 messages a second is the promise; VK takes 20 calls a second of a
		// community's token, uploads included, and more by agreement.
		Rate: message.Rate{PerSecond: 3, Burst: 1},
	}
}
