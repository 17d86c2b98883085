package mfms

import "switchboard/message"

const (
	maxFiles = 10 // of one message of ours; each goes alone
	maxParts = 10
)

// Capabilities says what an account can do. Stickers, contact cards and quotes
// have no place in MFMS's messages, so they can't be sent. Pictures, video and
// sound over their limits or of other types go as documents, so every kind's
// limit is a document's.
func (c *channel) Capabilities() message.Capabilities {
	return message.Capabilities{
		Platform: name,
		Send: []message.Kind{
			message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice, message.KindDocument,
			message.KindLocation, message.KindTemplate,
		},
		Receive: []message.Kind{
			message.KindText, message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice, message.KindSticker, message.KindDocument,
			message.KindContact, message.KindLocation, message.KindButton, message.KindUnsupported,
		},
		InlineKeyboard: true,
		Delivered:      true,
		Read:           true,
		StartByID:      true, // the id is the phone
		StartByPhone:   true,
		Idempotent:     true,
		Text:           textLimit,
		Caption:        captionLimit,
		MaxParts:       maxParts,
		FileBytes: map[message.Kind]int64{
			message.KindImage: maxFile, message.KindVideo: maxFile, message.KindAudio: maxFile, message.KindVoice: maxFile, message.KindDocument: maxFile,
		},
		MaxFiles:      maxFiles,
		FetchBytes:    maxFetch,
		ButtonText:    buttonLimit,
		ButtonPayload: payloadLimit,
		ButtonRows:    maxButtons,
		ButtonColumns: maxButtons,
		Buttons:       maxButtons,
		Rate:          message.Rate{PerSecond: perSecond, Burst: 1},
	}
}
