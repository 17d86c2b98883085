package mfms

import (
	"switchboard/channels"
	"switchboard/message"
)

const (
	maxFiles = 10 // of one message of ours; each goes alone
	maxParts = 10
)

var sends = []message.Kind{
	message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice, message.KindDocument,
	message.KindLocation, message.KindTemplate,
}

// ownLimits are the account's: those of WhatsApp, or what its settings say.
func ownLimits(a channels.Account) (channels.Limits, error) {
	most := channels.Limits{Text: textLimit.Max, Image: maxPicture, Video: maxFile, File: maxFile}
	return a.Limits(most, most)
}

var receives = []message.Kind{
	message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice, message.KindSticker, message.KindDocument,
	message.KindContact, message.KindLocation, message.KindButton, message.KindUnsupported,
}

// Capabilities says what an account can do: over the XML connector it sends texts
// only, and is written to in JSON all the same. Stickers, contact cards and quotes
// have no place in MFMS's messages, so they can't be sent. Pictures, video and
// sound over their limits or of other types go as documents.
func (c *channel) Capabilities() message.Capabilities {
	caps := message.Capabilities{
		Platform:       name,
		Send:           []message.Kind{message.KindText},
		Receive:        receives,
		CustomerAvatar: true, // with messages of the newer form
		ForwardCopy:    true,
		Delivered:      true,
		Read:           true,
		StartByID:      true, // the id is the phone
		StartByPhone:   true,
		Idempotent:     true,
		Text:           message.Limit{Max: c.limits.Text, Unit: textLimit.Unit},
		MaxParts:       maxParts,
		FetchBytes:     maxFetch,
		Rate:           message.Rate{PerSecond: perSecond, Burst: 1},
	}
	if c.hpx {
		return caps
	}
	caps.Send = sends
	caps.InlineKeyboard = true
	caps.Caption = captionLimit
	caps.FileBytes = c.limits.FileBytes(sends)
	caps.ShownBytes = map[message.Kind]int64{
		message.KindImage: c.limits.Image, message.KindVideo: min(maxMedia, c.limits.Video),
		message.KindAudio: min(maxMedia, c.limits.File), message.KindVoice: min(maxMedia, c.limits.File),
	}
	caps.MaxFiles = maxFiles
	caps.ButtonText, caps.ButtonPayload = buttonLimit, payloadLimit
	caps.ButtonRows, caps.ButtonColumns, caps.Buttons = maxButtons, maxButtons, maxButtons
	return caps
}
