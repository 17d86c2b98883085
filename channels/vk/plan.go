package vk

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// Plan implements channels.Channel. Pictures and documents go together in one
// message, with the text; voice messages and stickers each in one of its own. A
// text that does not fit follows by itself. The keyboard is on the last part.
// Errors are *message.Refusal or *message.Error.
func (c *channel) Plan(out *message.Outbound) ([]message.Part, error) {
	if out.Chat != "" {
		if _, err := parsePeer(out.Chat); err != nil {
			return nil, err
		}
	}
	if out.Keyboard != nil {
		if _, err := keyboardJSON(out.Keyboard); err != nil {
			return nil, err
		}
	}
	contents, err := c.contents(&out.Content)
	if err != nil {
		return nil, err
	}
	parts := make([]message.Part, len(contents))
	for i := range contents {
		part := message.Part{Index: i, Of: len(contents), Outbound: *out}
		part.Content = contents[i]
		if i > 0 {
			part.ReplyTo = ""
		}
		parts[i] = part
	}
	parts[len(parts)-1].Keyboard = out.Keyboard
	return parts, nil
}

// contents cuts a message into what one call can carry each; never empty.
func (c *channel) contents(in *message.Content) ([]message.Content, error) {
	var list []message.Content
	rest := in.Text
	switch {
	case in.Kind == message.KindText:
	case in.Kind == message.KindLocation && in.Location != nil:
		list = []message.Content{{Kind: in.Kind, Location: in.Location}}
		rest = lines(in.Location.Title, in.Location.Address, in.Text)
		if strings.TrimSpace(rest) == "" {
			rest = pointText(in.Location)
		}
	case in.Kind.IsFile() && len(in.Files) > 0:
		for i := range in.Files {
			f := in.Files[i]
			var err error
			if f.Kind, err = sendAs(in.Kind, &f, c.limits.Image); err != nil {
				return nil, err
			}
			if n := len(list); n > 0 && together(f.Kind) && together(list[n-1].Kind) && len(list[n-1].Files) < maxAttachments {
				list[n-1].Files = append(list[n-1].Files, f)
				continue
			}
			list = append(list, message.Content{Kind: f.Kind, Files: []message.File{f}})
		}
	default:
		return nil, invalid(fmt.Sprintf("VK can't send %s", in.Kind))
	}
	if len(list) > 0 && !alone(list[0].Kind) && unitOf.Count(rest) <= c.limits.Text {
		list[0].Text, rest = rest, ""
	} else if in.Kind == message.KindLocation {
		list[0].Text = pointText(in.Location)
	}
	if strings.TrimSpace(rest) == "" {
		rest = ""
	}
	for _, piece := range channels.SplitText(rest, c.limits.Text, unitOf) {
		list = append(list, message.Content{Kind: message.KindText, Text: piece})
	}
	if len(list) == 0 {
		return nil, invalid("nothing to send: neither text nor files")
	}
	return list, nil
}

// alone are kinds that take neither text nor neighbours.
func alone(k message.Kind) bool { return k == message.KindVoice || k == message.KindSticker }

func together(k message.Kind) bool { return k == message.KindImage || k == message.KindDocument }

// refusedTypes are what VK's documents refuse; there is no other way for them.
var refusedTypes = []string{".mp3", ".exe", ".com", ".bat", ".cmd", ".msi", ".scr", ".apk", ".jar", ".dll"}

// sendAs decides how a file is sent: as a photo, a voice message or graffiti where
// VK takes it as such, else as a document.
func sendAs(whole message.Kind, f *message.File, photo int64) (message.Kind, error) {
	kind := f.Kind
	if whole == message.KindDocument || !kind.IsFile() {
		kind = whole // "document" also means: don't recompress this picture
	}
	if f.Size < 0 || f.State == message.FileReady && f.Size == 0 {
		return "", &message.Refusal{Code: message.RefusedInvalid, Detail: fmt.Sprintf("file %s is empty; vk takes files with at least one byte", f.ID)}
	}
	switch kind {
	case message.KindSticker:
		if hasType(f, "image/png") && f.Size <= photo {
			return message.KindSticker, nil
		}
		return document(f, isPhoto(f, photo))
	case message.KindImage:
		return document(f, isPhoto(f, photo))
	case message.KindVoice:
		if hasType(f, "audio/ogg", "audio/opus", "application/ogg") {
			return message.KindVoice, nil
		}
	}
	return document(f, false)
}

func document(f *message.File, photo bool) (message.Kind, error) {
	if photo {
		return message.KindImage, nil
	}
	ext := strings.ToLower(path.Ext(f.Name))
	if slices.Contains(refusedTypes, ext) || hasType(f, "audio/mpeg", "audio/mp3") && f.Mime != "" {
		return "", &message.Refusal{Code: message.RefusedUnsupported, Detail: fmt.Sprintf("file %s: vk takes neither mp3 nor programs; send an archive, or a voice message in OGG/Opus", f.ID)}
	}
	return message.KindDocument, nil
}

// isPhoto reports whether VK takes the file as a photo. A GIF would lose its
// motion as one; as a document it is shown moving.
func isPhoto(f *message.File, photo int64) bool {
	const sides, ratio = 14000, 20 // width+height, longer:shorter
	switch {
	case !hasType(f, "image/jpeg", "image/jpg", "image/png"), f.Size > photo:
		return false
	case f.Width > 0 && f.Height > 0:
		return f.Width+f.Height <= sides && f.Width <= ratio*f.Height && f.Height <= ratio*f.Width
	}
	return true
}

// hasType reports whether the file is of one of the types, or of an unknown one.
func hasType(f *message.File, types ...string) bool {
	bare, _, _ := strings.Cut(f.Mime, ";")
	bare = lower(bare)
	return bare == "" || slices.Contains(types, bare)
}

func lower(s string) string { return strings.ToLower(strings.TrimSpace(s)) }
