package viber

import (
	"switchboard/channels"
	"switchboard/message"
)

// The limits of the bot API 7.3 as documented, unless said otherwise.
var (
	// textLimit: documented as 7000 characters. UTF-16 units are the strictest
	// reading (never fewer than characters), and nothing is truncated for us: one
	// too many and the call fails.
	textLimit = message.Limit{Max: 7000, Unit: message.UnitUTF16}
	// captionLimit is of pictures and videos; older documents say 120.
	captionLimit = message.Limit{Max: 512, Unit: message.UnitUTF16}
	// buttonLimit keeps an ActionBody (250, from users' reports) after our prefix.
	buttonLimit = message.Limit{Max: 240, Unit: message.UnitUTF16}
)

const (
	maxRequest  = 30_000   // bytes of JSON; "30 KB", in the smaller reading
	maxTracking = 4000     // characters of tracking_data
	maxFileName = 256      // characters, with the extension
	maxPicture  = 1 << 20  // bytes; what iOS shows, unless the account says otherwise
	mostPicture = 3 << 20  // what Android shows
	maxVideo    = 26 << 20 // bytes
	maxFile     = 50 << 20 // bytes
	maxFetch    = 200 << 20
	maxDuration = 180 // seconds of a video
)

var sends = []message.Kind{
	message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice,
	message.KindSticker, message.KindDocument, message.KindContact, message.KindLocation,
}

// ownLimits are the account's: those of Viber, or what its settings say.
func ownLimits(a channels.Account) (channels.Limits, error) {
	usual := channels.Limits{Text: textLimit.Max, Image: maxPicture, Video: maxFile, File: maxFile}
	most := usual
	most.Image = mostPicture
	return a.Limits(usual, most)
}

// Capabilities says what a Viber bot can do.
//
// Pictures over their limit and videos over 26 MB go as files.
//
// Rate is a cautious start: Viber publishes no number, only 429 and status 12.
// ChatRate is unlimited: one chat is sent to by one sender at a time, and
// Viber's only rule (100 messages a clock hour without an answer of the
// customer) can't be expressed as a rate, because the customer's answer resets
// it; status 12 holds that chat till the hour is over.
func (c *channel) Capabilities() message.Capabilities {
	return message.Capabilities{
		Platform: "viber",
		Send:     sends,
		Receive: []message.Kind{
			message.KindText, message.KindImage, message.KindVideo, message.KindSticker, message.KindDocument,
			message.KindContact, message.KindLocation, message.KindButton, message.KindService, message.KindUnsupported,
		},
		ReplyKeyboard:   true,
		RequestPhone:    true,
		RequestLocation: true,
		OperatorName:    true,
		OperatorAvatar:  true,
		CustomerAvatar:  true,
		Delivered:       true,
		Read:            true,
		StartByID:       true, // subscribed customers only; others answer with status 6
		Text:            message.Limit{Max: c.limits.Text, Unit: textLimit.Unit},
		Caption:         captionLimit,
		MaxParts:        10,
		FileBytes:       c.limits.FileBytes(sends),
		ShownBytes:      map[message.Kind]int64{message.KindImage: c.limits.Image, message.KindVideo: min(maxVideo, c.limits.Video)},
		MaxFiles:        10,
		FetchBytes:      maxFetch,
		ButtonText:      buttonLimit,
		ButtonPayload:   buttonLimit,
		ButtonRows:      24,
		ButtonColumns:   columns,
		ContactName:     message.Limit{Max: 28, Unit: message.UnitUTF16},
		ContactPhone:    message.Limit{Max: 18, Unit: message.UnitUTF16},
		Rate:            message.Rate{PerSecond: 20, Burst: 2},
	}
}
