package infobip

import (
	"path"
	"strings"
	"time"

	"switchboard/message"
)

// What no document states, or states in words that can be read in two ways. Each
// is the cautious reading; a live account proves them.

// chatRate: WhatsApp takes a message in 6 seconds to one customer on average,
// and lets a number run ahead; by how much is told in other words elsewhere.
var chatRate = message.Rate{PerSecond: 0.16, Burst: 20}

// linkLife is how long a link to our file works. Infobip downloads it at once as
// a rule; how long it tries is not told.
const linkLife = 24 * time.Hour

// afterFlood is the pause of a chat when Infobip takes no more for one number: it
// counts by the hour.
const afterFlood = time.Hour

// repliedTo is the message that a customer's is a reply to. context.id is
// WhatsApp's id, which we never learn of our own messages; the paired id is
// ours where Infobip fills it in.
func repliedTo(context, paired string) string {
	if context != "" && paired != "" {
		return paired
	}
	return context
}

// captionOf tells a document's name from words about it: Infobip puts either
// into the caption. A single line that ends like a file's name is one; prices,
// times of day and mail addresses are words.
func captionOf(caption string) (fileName, words string) {
	ext := path.Ext(caption)
	short := len(ext) >= 3 && len(ext) <= 6 && strings.Trim(ext, ".0123456789") != "" && !strings.ContainsFunc(ext[1:], func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
	if short && len(caption) <= maxFileName && !strings.ContainsAny(caption, "\n\r/\\@") {
		return caption, ""
	}
	return "", caption
}

// subscribed reports that a subscription with our id exists already: the id holds
// everything that matters of it, so it is the same one. Which of the two codes
// Infobip uses is not told.
func subscribed(f *failed, status int) bool {
	words := strings.ToLower(f.words())
	return status == 409 || status == 400 && (strings.Contains(words, "already exist") || strings.Contains(words, "not unique"))
}
