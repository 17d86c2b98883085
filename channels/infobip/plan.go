package infobip

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// Plan implements channels.Channel: one part of each file, place, card and
// template, and as many of a text as its length asks for. A caption goes with a
// leading picture, video or document; longer ones, and those beside other things,
// follow as a text. With buttons the last part is a text, of up to 1024
// characters, or a template. Errors are *message.Refusal.
func (c *channel) Plan(out *message.Outbound) ([]message.Part, error) {
	if out.Chat != "" && !isRecipient(out.Chat) {
		return nil, refuse(message.RefusedInvalid, "not a customer of WhatsApp; use the phone in digits with the country's code, like 79261234567, or a user's id like RU.1234567890")
	}
	if k := out.Keyboard; k != nil {
		if err := checkKeyboard(k, out.Kind == message.KindTemplate); err != nil {
			return nil, err
		}
	}
	contents, err := c.contents(&out.Content)
	if err != nil {
		return nil, err
	}
	contents[len(contents)-1].Keyboard = out.Keyboard
	parts := make([]message.Part, len(contents))
	for i := range contents {
		parts[i] = message.Part{Index: i, Of: len(contents), Outbound: *out}
		parts[i].Content = contents[i]
		if i > 0 {
			parts[i].ReplyTo = ""
		}
	}
	return parts, nil
}

func refuse(code message.RefusalCode, format string, args ...any) *message.Refusal {
	return &message.Refusal{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func isRecipient(s string) bool { return isPhone(s) || isUserID(s) }

// contents cuts a message into what one call can carry each. The result is
// never empty.
func (c *channel) contents(in *message.Content) ([]message.Content, error) {
	var list []message.Content
	rest := in.Text
	switch {
	case in.Kind == message.KindText:
	case in.Kind == message.KindContact && in.Contact != nil:
		list = append(list, message.Content{Kind: in.Kind, Contact: in.Contact})
	case in.Kind == message.KindLocation && in.Location != nil:
		for _, s := range []string{in.Location.Title, in.Location.Address} {
			if n := placeLimit.Unit.Count(s); n > placeLimit.Max {
				return nil, refuse(message.RefusedLimit, "a location's title or address has %d utf16; WhatsApp takes %d", n, placeLimit.Max)
			}
		}
		list = append(list, message.Content{Kind: in.Kind, Location: in.Location})
	case in.Kind == message.KindTemplate && in.Template != nil:
		if err := c.checkTemplate(in); err != nil {
			return nil, err
		}
		// Its words are registered; text is only what operators see of them.
		list, rest = append(list, message.Content{Kind: in.Kind, Template: in.Template, Files: in.Files}), ""
	case in.Kind.IsFile() && len(in.Files) > 0:
		for i := range in.Files {
			f := in.Files[i]
			part := message.Content{Kind: sentAs(&f, c.limits.Image), Files: []message.File{f}}
			if i == 0 && isCaptioned(part.Kind) && in.Keyboard == nil && captionLimit.Unit.Count(rest) <= captionLimit.Max {
				part.Text, rest = rest, ""
			}
			list = append(list, part)
		}
	default:
		return nil, refuse(message.RefusedUnsupported, "WhatsApp can't send %s with these fields", in.Kind)
	}
	pieces := channels.SplitText(rest, c.limits.Text, textLimit.Unit)
	if in.Keyboard != nil && in.Kind != message.KindTemplate {
		if len(pieces) == 0 {
			return nil, refuse(message.RefusedInvalid, "buttons need a text to stand under; add one")
		}
		last := len(pieces) - 1
		pieces = append(pieces[:last:last], channels.SplitText(pieces[last], bodyLimit.Max, bodyLimit.Unit)...)
	}
	for _, piece := range pieces {
		list = append(list, message.Content{Kind: message.KindText, Text: piece})
	}
	if len(list) == 0 {
		return nil, refuse(message.RefusedInvalid, "text must not be empty")
	}
	return list, nil
}

func (c *channel) checkTemplate(in *message.Content) error {
	t := in.Template
	if t.Language == "" {
		return refuse(message.RefusedInvalid, "a template needs template.language as it is registered, like ru or en_GB")
	}
	if len(t.Name) > maxTemplate {
		return refuse(message.RefusedLimit, "template.name has %d characters; WhatsApp takes %d", len(t.Name), maxTemplate)
	}
	if strings.ContainsFunc(t.Name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }) {
		return refuse(message.RefusedInvalid, "template.name holds other characters than a-z, 0-9 and _")
	}
	if len(in.Files) > 1 {
		return refuse(message.RefusedLimit, "%d files; a template's header has one", len(in.Files))
	}
	for i := range in.Files {
		// What it can be is registered: a picture can't go as a document here.
		if f := &in.Files[i]; !isCaptioned(f.Kind) || sentAs(f, c.limits.Image) != f.Kind {
			return refuse(message.RefusedLimit, "a template's header takes pictures in JPEG and PNG of up to %d bytes, video in MP4 and 3GPP of up to %d, and documents", c.limits.Image, maxVideo)
		}
	}
	for i, p := range t.Parameters {
		if strings.ContainsAny(p, "\n\r\t") || strings.Contains(p, "     ") {
			return refuse(message.RefusedInvalid, "template.parameters[%d] holds a line break, a tab or more than four spaces in a row, which WhatsApp refuses", i)
		}
	}
	return nil
}

// checkKeyboard refuses what Capabilities can't express. A template's buttons are
// registered with it, links among them; the keyboard only gives them their values.
func checkKeyboard(k *message.Keyboard, template bool) error {
	if k.Kind != message.KeyboardInline {
		return refuse(message.RefusedUnsupported, "WhatsApp has buttons in the feed only; use keyboard.kind inline")
	}
	if template {
		return nil
	}
	keys := slices.Concat(k.Rows...)
	var titles, ids []string
	for _, b := range keys {
		if b.Action == message.KeyURL {
			if len(keys) > 1 {
				return refuse(message.RefusedLimit, "a button with an address must be the only one on WhatsApp")
			}
			if n := message.UnitUTF16.Count(b.Text); n > maxButtonTitle {
				return refuse(message.RefusedLimit, "button text has %d utf16; WhatsApp takes %d on a button with an address", n, maxButtonTitle)
			}
			if len(b.URL) > maxURL || channels.WebAddress(b.URL) == nil {
				return refuse(message.RefusedInvalid, "a button's url must be a web address of up to %d bytes", maxURL)
			}
			continue
		}
		if slices.Contains(titles, b.Text) || slices.Contains(ids, payloadOf(b)) {
			return refuse(message.RefusedInvalid, "two buttons have the same text or payload; WhatsApp wants them different")
		}
		titles, ids = append(titles, b.Text), append(ids, payloadOf(b))
	}
	return nil
}

// payloadOf is a button's id; a button without a payload sends its title back.
func payloadOf(b message.KeyButton) string {
	if b.Payload == "" {
		return b.Text
	}
	return b.Payload
}

// sentAs is how a file goes out: as what it is where WhatsApp takes that, else
// as a document.
func sentAs(f *message.File, largest int64) message.Kind {
	mime, _, _ := strings.Cut(strings.ToLower(f.Mime), ";")
	mime = strings.TrimSpace(mime)
	if mime == "" {
		mime = mimeOf[strings.ToLower(path.Ext(f.Name))]
	}
	picture := f.Size <= largest && (mime == "image/jpeg" || mime == "image/png")
	switch f.Kind {
	case message.KindImage:
		if picture {
			return message.KindImage
		}
	case message.KindSticker:
		switch {
		case mime == "image/webp" && f.Size <= maxSticker:
			return message.KindSticker
		case picture:
			return message.KindImage
		}
	case message.KindVideo:
		if f.Size <= maxVideo && (mime == "video/mp4" || mime == "video/3gpp") {
			return message.KindVideo
		}
	case message.KindVoice, message.KindAudio:
		switch {
		case f.Size > maxSound:
		case mime == "audio/ogg" || mime == "audio/opus":
			return f.Kind
		case slices.Contains(soundTypes, mime):
			return message.KindAudio // a voice note is OGG only
		}
	}
	return message.KindDocument
}

// isCaptioned tells the kinds of file that words and templates go with.
func isCaptioned(k message.Kind) bool {
	return k == message.KindImage || k == message.KindVideo || k == message.KindDocument
}

var soundTypes = []string{"audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/x-m4a"}

// mimeOf is for files that come without a type. It is our own table because the
// system's differs between machines, and a plan must not.
var mimeOf = map[string]string{
	".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".mp4": "video/mp4", ".3gp": "video/3gpp",
	".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg", ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac", ".amr": "audio/amr",
}

// fileName is the name that the customer sees of a document.
func fileName(f *message.File) string {
	name := strings.TrimSpace(f.Name)
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	ext := path.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	if stem == "" {
		stem = "file"
	}
	if len(ext) > 16 {
		stem, ext = stem+ext, ""
	}
	return truncate(stem, maxFileName-message.UnitUTF16.Count(ext)) + ext
}
