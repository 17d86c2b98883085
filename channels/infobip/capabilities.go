package infobip

import (
	"switchboard/channels"
	"switchboard/message"
)

// The limits of Infobip's documents. Characters are counted in UTF-16 units,
// the strictest reading.
var (
	textLimit    = message.Limit{Max: 4096, Unit: message.UnitUTF16}
	captionLimit = message.Limit{Max: 3000, Unit: message.UnitUTF16}
	bodyLimit    = message.Limit{Max: 1024, Unit: message.UnitUTF16} // of a message with buttons
	rowLimit     = message.Limit{Max: 24, Unit: message.UnitUTF16}   // title of a row of a list
	payloadLimit = message.Limit{Max: 200, Unit: message.UnitUTF16}  // id of a row; a button's may have 256
	placeLimit   = message.Limit{Max: 1000, Unit: message.UnitUTF16} // name and address of a location
)

const (
	maxButtonTitle = 20
	maxButtons     = 3  // of a message with buttons; more become a list
	maxListRows    = 10 // in all sections
	maxAddress     = 150
	maxFileName    = 240
	maxURL         = 2048
	maxTemplate    = 512
	maxParts       = 10
	maxFiles       = 10

	maxPicture  = 5_000_000 // bytes, JPEG and PNG
	maxSound    = 16_000_000
	maxVideo    = 16_000_000
	maxSticker  = 100_000 // a moving one may have 500,000, and which it is can't be told
	maxDocument = 100_000_000
	maxFetch    = 200 << 20
)

var sends = []message.Kind{
	message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice,
	message.KindSticker, message.KindDocument, message.KindContact, message.KindLocation, message.KindTemplate,
}

// ownLimits are the account's: those of WhatsApp, or what its settings say.
func ownLimits(a channels.Account) (channels.Limits, error) {
	most := channels.Limits{Text: textLimit.Max, Image: maxPicture, Video: maxDocument, File: maxDocument}
	return a.Limits(most, most)
}

// Capabilities says what a WhatsApp number at Infobip can do.
//
// Files over the limit of their kind, and those of other formats than WhatsApp
// shows, go as documents.
//
// Buttons are three at most; four to ten become a list behind a button, and so
// do titles of 21 to 24 characters. One button with an address is a message of
// its own kind. Beside a template they give its registered buttons their values.
func (c *channel) Capabilities() message.Capabilities {
	return message.Capabilities{
		Platform: name,
		Send:     sends,
		Receive: []message.Kind{
			message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice,
			message.KindSticker, message.KindDocument, message.KindContact, message.KindLocation,
			message.KindButton, message.KindService, message.KindUnsupported,
		},
		InlineKeyboard: true,
		ForwardCopy:    true,
		ReplyTo:        true,
		Typing:         true,
		Delivered:      true,
		Read:           true,
		StartByID:      true,
		StartByPhone:   true, // by a template, unless the customer wrote within 24 hours
		Idempotent:     true,
		Text:           message.Limit{Max: c.limits.Text, Unit: textLimit.Unit},
		Caption:        captionLimit,
		MaxParts:       maxParts,
		FileBytes:      c.limits.FileBytes(sends),
		ShownBytes: map[message.Kind]int64{
			message.KindImage: c.limits.Image, message.KindVideo: min(maxVideo, c.limits.Video), message.KindSticker: maxSticker,
			message.KindAudio: min(maxSound, c.limits.File), message.KindVoice: min(maxSound, c.limits.File),
		},
		MaxFiles:      maxFiles,
		FetchBytes:    maxFetch,
		ButtonText:    rowLimit,
		ButtonPayload: payloadLimit,
		ButtonRows:    maxListRows,
		ButtonColumns: maxListRows,
		Buttons:       maxListRows,
		// WhatsApp's own, below Infobip's 4000 calls a second.
		Rate:     message.Rate{PerSecond: 80, Burst: 8},
		ChatRate: chatRate,
	}
}
