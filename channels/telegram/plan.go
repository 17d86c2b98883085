package telegram

import (
	"slices"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// Plan implements channels.Channel. Files come first, in albums of neighbours
// that Telegram shows together, with the text as the caption of the first; a
// text that doesn't fit there follows by itself. The keyboard is on the last
// part, and an album can't have one: then the text, or else the last file, is
// taken out of the album.
func (c *channel) Plan(out *message.Outbound) ([]message.Part, error) {
	if out.Chat != "" {
		if _, err := parseChat(out.Chat); err != nil {
			return nil, err
		}
	}
	if k := out.Keyboard; k != nil && k.Kind == message.KeyboardReply {
		for _, row := range k.Rows {
			for _, b := range row {
				if b.Action == message.KeyURL {
					return nil, &message.Refusal{Code: message.RefusedUnsupported, Detail: "a reply keyboard of Telegram can't hold url buttons; use an inline one"}
				}
			}
		}
	}
	var parts []message.Content
	rest := out.Text
	switch {
	case out.Kind == message.KindText:
	case out.Kind.IsFile():
		parts, rest = planFiles(out, c.limits.Image)
	case out.Kind == message.KindContact && out.Contact != nil:
		parts = []message.Content{{Kind: out.Kind, Contact: out.Contact}}
	case out.Kind == message.KindLocation && out.Location != nil:
		parts = []message.Content{{Kind: out.Kind, Location: out.Location}}
	default:
		return nil, invalid("Telegram can't send " + string(out.Kind))
	}
	for _, piece := range channels.SplitText(rest, c.limits.Text, message.UnitUTF16) {
		parts = append(parts, message.Content{Kind: message.KindText, Text: piece})
	}
	if len(parts) == 0 {
		return nil, invalid("nothing to send: neither text nor files")
	}
	planned := make([]message.Part, len(parts))
	for i, content := range parts {
		part := message.Part{Index: i, Of: len(parts), Outbound: *out}
		part.Content = content
		if i > 0 {
			part.ReplyTo = ""
		}
		planned[i] = part
	}
	planned[len(planned)-1].Keyboard = out.Keyboard
	return planned, nil
}

// planFiles groups the files and returns the text that has to follow them. photo
// is the size of the largest picture sent as one.
func planFiles(out *message.Outbound, photo int64) (parts []message.Content, rest string) {
	var groups [][]message.File
	for _, f := range out.Files {
		f.Kind = sendAs(out.Kind, &f, photo)
		if n := len(groups); n > 0 && len(groups[n-1]) < albumFiles && album(f.Kind) != "" && album(f.Kind) == album(groups[n-1][0].Kind) &&
			!gif(&f) && !gif(&groups[n-1][0]) {
			groups[n-1] = append(groups[n-1], f)
			continue
		}
		groups = append(groups, []message.File{f})
	}
	if len(groups) == 0 {
		return nil, out.Text
	}
	if strings.TrimSpace(out.Text) != "" {
		rest = out.Text
	}
	last := groups[len(groups)-1]
	bare := out.Keyboard != nil && len(last) > 1 // an album has no place for the keyboard
	if bare && rest == "" {
		groups[len(groups)-1] = slices.Clip(last[:len(last)-1])
		groups = append(groups, last[len(last)-1:])
	}
	for _, g := range groups {
		parts = append(parts, message.Content{Kind: g[0].Kind, Files: g})
	}
	if !bare && parts[0].Kind != message.KindSticker && message.UnitUTF16.Count(rest) <= captionUnits {
		parts[0].Text, rest = rest, ""
	}
	return parts, rest
}

// sendAs decides how a file is sent: as the message's kind says, unless Telegram
// would refuse it as that. A document takes everything.
func sendAs(whole message.Kind, f *message.File, photo int64) message.Kind {
	kind := f.Kind
	if whole == message.KindDocument || !kind.IsFile() {
		kind = whole // "document" also means: don't recompress this picture
	}
	switch kind {
	case message.KindSticker:
		if !mime(f, "image/webp", "application/x-tgsticker", "video/webm") {
			return photoOrDocument(f, photo)
		}
	case message.KindImage:
		return photoOrDocument(f, photo)
	case message.KindVideo:
		if !mime(f, "video/mp4") {
			return message.KindDocument
		}
	case message.KindAudio:
		if !mime(f, "audio/mpeg", "audio/mp3", "audio/mp4", "audio/x-m4a", "audio/m4a") {
			return message.KindDocument
		}
	case message.KindVoice:
		if !mime(f, "audio/ogg", "audio/opus", "application/ogg", "audio/mpeg", "audio/mp3", "audio/mp4", "audio/x-m4a", "audio/m4a") {
			return message.KindDocument
		}
	}
	return kind
}

func photoOrDocument(f *message.File, photo int64) message.Kind {
	const sides, ratio = 10000, 20 // width+height, longer:shorter
	switch {
	case gif(f):
		return message.KindImage // sendAnimation, which has no limits of photos
	case !mime(f, "image/jpeg", "image/png", "image/webp", "image/jpg"), f.Size > photo:
		return message.KindDocument
	case f.Width > 0 && f.Height > 0 &&
		(f.Width+f.Height > sides || f.Width > ratio*f.Height || f.Height > ratio*f.Width):
		return message.KindDocument
	}
	return message.KindImage
}

// mime reports whether the file is of one of the types, or of an unknown one.
func mime(f *message.File, types ...string) bool {
	bare, _, _ := strings.Cut(f.Mime, ";")
	return bare == "" || slices.Contains(types, strings.ToLower(strings.TrimSpace(bare)))
}

func gif(f *message.File) bool {
	return f.Kind == message.KindImage && f.Mime != "" && mime(f, "image/gif")
}

// album names the sort of album that a kind may be in; "" is none.
func album(k message.Kind) string {
	switch k {
	case message.KindImage, message.KindVideo:
		return "visual"
	case message.KindDocument, message.KindAudio:
		return string(k)
	}
	return ""
}
