package vk

import (
	"encoding/json"
	"strconv"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// This file holds all that VK's documents leave open. Each has a comment that says
// what is known; a live community decides.

// maxAttachments: ten by common experience; the documents bound the list's length
// (9000 characters) only.
const maxAttachments = 10

// unitOf is what VK's "characters" are counted in. Bytes are excluded, code points
// and UTF-16 units are both possible; UTF-16 units are never fewer, so what fits
// by them fits in either count.
const unitOf = message.UnitUTF16

// sessionLife is how long a long-poll key is used: presses of buttons were seen to
// be lost on old ones; others renew every nine hours.
const sessionLife = 8 * time.Hour

// seenInTheWild are codes that the schema lacks: the text was refused, and sending
// is restricted for spam. The second one holds for the community, and sending on
// makes it worse.
var seenInTheWild = map[int]verdict{
	983: {message.ErrInvalid, "VK refuses this text"},
	984: {message.ErrAccount, "VK restricts the community's messages as spam; stop campaigns and write to VK's support"},
}

// stickerUpload: a community can send VK's own stickers by their number only, and
// nothing says that it may send new ones. A PNG goes as graffiti, which is shown
// like a sticker; whether every community's token may do that is open. Anything
// else goes as a picture or a document.
const stickerUpload = "graffiti"

// pointText goes with a location without words: messages.send is said to need text
// or an attachment, and whether lat and long alone are enough is open.
func pointText(l *message.Location) string {
	coordinate := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	return "📍 " + coordinate(l.Lat) + ", " + coordinate(l.Lon)
}

// deleted reads the answer of messages.delete: by one account a list of objects
// with a response or an error each, by another an object of ids with 1 or 0.
func deleted(raw json.RawMessage) error {
	var list []struct {
		Response json.Number `json:"response"`
		Error    *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if json.Unmarshal(raw, &list) == nil {
		for _, one := range list {
			if one.Error != nil && one.Error.Code != 0 {
				return &callError{method: "messages.delete", code: one.Error.Code, detail: channels.Shorten(one.Error.Description, 300), sent: true}
			}
		}
		return nil
	}
	var byID map[string]json.RawMessage
	if json.Unmarshal(raw, &byID) == nil {
		for _, result := range byID {
			if string(result) == "0" || string(result) == "false" {
				return &callError{method: "messages.delete", code: 924, detail: "not deleted at the customer", sent: true}
			}
		}
	}
	return nil
}

// Whether the confirmation request carries the secret is not said; the documents'
// example does not. It is believed without, because all that it gets for an answer
// is a string which the community's administrators see anyway.
const confirmationNeedsSecret = false

// reaction names what a customer did: reactions have numbers, 1 to 64, and no published table; a
// missing number presumably means that the reaction was taken back.
func reaction(id int64) (service, payload string) {
	if id == 0 {
		return "reaction_removed", ""
	}
	return "reaction", strconv.FormatInt(id, 10)
}
