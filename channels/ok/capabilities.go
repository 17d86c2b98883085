package ok

import (
	"switchboard/channels"
	"switchboard/message"
)

const (
	// maxTogether is how many attachments a message holds, by OK's documents.
	maxTogether = 5
	maxFiles    = 10
	maxParts    = 10
)

var sends = []message.Kind{
	message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice, message.KindDocument,
}

// ownLimits are the account's: ours for OK, or what its settings say.
func ownLimits(a channels.Account) (channels.Limits, error) {
	most := channels.Limits{Text: textLimit.Max, Image: maxPicture, Video: maxFile, File: maxFile}
	return a.Limits(most, most)
}

// Capabilities says what a group can do.
//
// OK has no receipts, no typing of customers and no way to delete; editing,
// typing and sending cards, places and stickers are not proven by any document,
// and so not offered. A pressed button of the kinds that ask for phone or place
// exists in the feed only, where our keyboards don't have it.
//
// Pictures over their limit, and those that are neither JPEG nor PNG, go as files.
func (c *channel) Capabilities() message.Capabilities {
	return message.Capabilities{
		Platform: name,
		Send:     sends,
		Receive: []message.Kind{
			message.KindText, message.KindImage, message.KindVideo, message.KindVoice, message.KindSticker, message.KindDocument,
			message.KindContact, message.KindLocation, message.KindButton, message.KindService, message.KindUnsupported,
		},
		InlineKeyboard: true,
		ReplyTo:        true,
		StartByID:      true, // who wrote to the group or allowed its messages; others answer with code 7 or 10
		Text:           message.Limit{Max: c.limits.Text, Unit: textLimit.Unit},
		Caption:        message.Limit{Max: c.limits.Text, Unit: textLimit.Unit},
		MaxParts:       maxParts,
		FileBytes:      c.limits.FileBytes(sends),
		ShownBytes:     map[message.Kind]int64{message.KindImage: c.limits.Image},
		MaxFiles:       maxFiles,
		FetchBytes:     maxFetch,
		ButtonText:     titleLimit,
		ButtonPayload:  payloadLimit,
		ButtonRows:     maxRows,
		ButtonColumns:  maxColumns,
		Rate:           message.Rate{PerSecond: perSecond, Burst: 2},
	}
}
