package telegram

import (
	"switchboard/channels"
	"switchboard/message"
)

const (
	mebibyte = 1 << 20
	// Uploads: 10 MB for what is shown as a photo, 50 MB for anything else; a
	// private server with --local takes 2000 MB. Telegram's "MB" is decimal in
	// some places and binary in others; the smaller one is safe in both.
	photoBytes       = 10_000_000
	uploadBytes      = 50_000_000
	localUploadBytes = 2_000_000_000
	// getFile refuses more than 20 MB, counted in binary.
	fetchBytes = 20 * mebibyte

	// textUnits is the longest text of one message, in UTF-16 code units, unless an
	// account sets its own. Telegram takes mostText "after entity parsing"; the rest
	// is a margin, and a round number for the people who count.
	textUnits    = 4000
	mostText     = 4096
	captionUnits = 1024 // UTF-16
	albumFiles   = 10   // sendMediaGroup takes 2..10
	callbackData = 64   // bytes
	placeholder  = 64   // UTF-16
)

var sends = []message.Kind{
	message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice,
	message.KindSticker, message.KindDocument, message.KindContact, message.KindLocation,
}

// ownLimits are the account's: those of Telegram, or what its settings say.
func (c *channel) ownLimits() (channels.Limits, error) {
	upload := int64(uploadBytes)
	if c.local != "" {
		upload = localUploadBytes
	}
	usual := channels.Limits{Text: textUnits, Image: photoBytes, Video: upload, File: upload}
	most := usual
	most.Text = mostText
	return c.account.Limits(usual, most)
}

// Capabilities implements channels.Channel.
func (c *channel) Capabilities() message.Capabilities {
	fetch := int64(fetchBytes)
	if c.local != "" {
		fetch = localUploadBytes
	}
	return message.Capabilities{
		Platform: name,
		Send:     sends,
		Receive: []message.Kind{
			message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice,
			message.KindSticker, message.KindDocument, message.KindContact, message.KindLocation,
			message.KindButton, message.KindService, message.KindUnsupported,
		},
		ReplyKeyboard: true, InlineKeyboard: true, RequestPhone: true, RequestLocation: true,
		ReplyTo: true, Edit: true, Delete: true, DeleteReceived: true, Forward: true, Forwarded: true, Typing: true, CustomerAvatar: true,
		// An id works only if that person has started the bot before; otherwise
		// the send fails with kind recipient.
		StartByID: true,

		Text:     message.Limit{Max: c.limits.Text, Unit: message.UnitUTF16},
		Caption:  message.Limit{Max: captionUnits, Unit: message.UnitUTF16},
		MaxParts: 10,

		FileBytes:  c.limits.FileBytes(sends),
		ShownBytes: map[message.Kind]int64{message.KindImage: c.limits.Image},
		MaxFiles:   albumFiles,
		FetchBytes: fetch,

		ButtonPayload: message.Limit{Max: callbackData, Unit: message.UnitBytes},
		// Observed, not documented: inline keyboards take 8 a row and 100 in
		// all, reply keyboards more. A byte budget for the whole may refuse
		// fewer ("reply markup is too long").
		ButtonColumns: 8,
		Buttons:       100,

		// Telegram publishes about 30 messages a second for a bot and about one
		// a second for a chat, "short bursts pass". The account's burst is a
		// tenth of a second's worth, so that no second holds much over 30. A
		// chat's burst of 3 lets an answer in three messages out at once. The
		// 20 messages a minute of a group have no limiter: a group's 429 makes
		// that group wait (see sendError).
		Rate:     message.Rate{PerSecond: 30, Burst: 3},
		ChatRate: message.Rate{PerSecond: 1, Burst: 3},
	}
}
