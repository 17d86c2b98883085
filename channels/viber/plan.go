package viber

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"switchboard/channels"
	"switchboard/message"
)

// linkRoom is the length that Plan allows for a file's signed link, in bytes;
// the link itself is made by Send.
const linkRoom = 1024

// shortest is where shrinking the pieces of a text ends: a request that is
// still too long then is so for its keyboard.
const shortest = 200

// Plan makes one part of each file, place and card, and as many of a text as
// its length asks for. A caption goes with a leading picture or video; longer
// ones, and those of files, follow as a text. The keyboard and the tracking
// data go with the last part. Errors are *message.Refusal.
func (c *channel) Plan(out *message.Outbound) ([]message.Part, error) {
	if n := message.UnitUTF16.Count(out.Payload); n > maxTracking {
		return nil, &message.Refusal{Code: message.RefusedLimit, Detail: fmt.Sprintf("payload has %d utf16; viber takes %d", n, maxTracking)}
	}
	// 7000 units are up to 42,000 bytes of JSON, over what a request may have.
	for limit := c.limits.Text; ; limit /= 2 {
		contents, err := contents(&out.Content, limit, c.limits.Image)
		if err != nil {
			return nil, err
		}
		last := &contents[len(contents)-1]
		last.Keyboard, last.Payload = out.Keyboard, out.Payload
		parts := make([]message.Part, len(contents))
		over := 0
		for i := range contents {
			part := message.Part{Index: i, Of: len(contents), Outbound: *out}
			part.Content = contents[i]
			part.ReplyTo = ""
			parts[i] = part
			n, err := c.size(&part.Outbound)
			if err != nil {
				return nil, err
			}
			over = max(over, n-maxRequest)
		}
		if over <= 0 {
			return parts, nil
		}
		if limit <= shortest {
			return nil, &message.Refusal{
				Code:   message.RefusedLimit,
				Detail: fmt.Sprintf("the request is %d bytes over the %d that viber takes; use fewer or shorter buttons", over, maxRequest),
			}
		}
	}
}

// size is the length of the request in bytes.
func (c *channel) size(out *message.Outbound) (int, error) {
	link := ""
	if len(out.Files) > 0 {
		link = strings.Repeat("x", linkRoom)
	}
	body, err := channels.EncodeJSON(c.request(out, link))
	if err != nil {
		return 0, fmt.Errorf("encoding message: %w", err)
	}
	return len(body), nil
}

// contents cuts a message into what one call can carry each: texts of limit
// units, pictures of so many bytes. The result is never empty.
func contents(in *message.Content, limit int, picture int64) ([]message.Content, error) {
	var list []message.Content
	rest := in.Text
	switch {
	case in.Kind == message.KindText:
	case in.Kind == message.KindContact && in.Contact != nil:
		list = append(list, message.Content{Kind: message.KindContact, Contact: in.Contact})
	case in.Kind == message.KindLocation && in.Location != nil:
		list = append(list, message.Content{Kind: message.KindLocation, Location: in.Location})
		// A point has no words on Viber: they follow as a text.
		rest = joinLines(in.Location.Title, in.Location.Address, in.Text)
	case in.Kind.IsFile() && len(in.Files) > 0:
		for i := range in.Files {
			f := in.Files[i]
			kind := fileKind(&f, picture)
			if kind != message.KindImage && f.Size <= 0 {
				return nil, &message.Refusal{Code: message.RefusedInvalid, Detail: fmt.Sprintf("file %s is empty; viber takes files with at least one byte", f.ID)}
			}
			part := message.Content{Kind: kind, Files: []message.File{f}}
			if i == 0 && kind != message.KindDocument && captionLimit.Unit.Count(rest) <= captionLimit.Max {
				part.Text, rest = rest, ""
			}
			list = append(list, part)
		}
	default:
		return nil, &message.Refusal{Code: message.RefusedUnsupported, Detail: fmt.Sprintf("viber can't send %s with these fields", in.Kind)}
	}
	for _, piece := range channels.SplitText(rest, limit, textLimit.Unit) {
		list = append(list, message.Content{Kind: message.KindText, Text: piece})
	}
	if len(list) == 0 {
		return nil, &message.Refusal{Code: message.RefusedInvalid, Detail: "text must not be empty"}
	}
	return list, nil
}

func joinLines(lines ...string) string {
	var kept []string
	for _, l := range lines {
		if l != "" {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, "\n")
}

// fileKind is how a file goes out: as a picture or a video where Viber shows
// it as such, else as a document.
func fileKind(f *message.File, picture int64) message.Kind {
	mime, _, _ := strings.Cut(strings.ToLower(f.Mime), ";")
	mime = strings.TrimSpace(mime)
	if mime == "" {
		mime = mimeOf[strings.ToLower(path.Ext(f.Name))]
	}
	switch f.Kind {
	case message.KindImage, message.KindSticker:
		if f.Size <= picture && (mime == "image/jpeg" || mime == "image/png" || mime == "image/gif") {
			return message.KindImage
		}
	case message.KindVideo:
		if f.Size <= maxVideo && f.Duration <= maxDuration && mime == "video/mp4" {
			return message.KindVideo
		}
	}
	return message.KindDocument
}

// extensionOf names files that come without an extension, which Viber wants.
// It is our own table because the system's differs between machines, and a
// plan must not.
var extensionOf = map[string]string{
	"application/pdf": ".pdf", "application/zip": ".zip", "application/json": ".json",
	"application/msword": ".doc", "application/vnd.ms-excel": ".xls",
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet":       ".xlsx",
	"text/plain": ".txt", "text/csv": ".csv",
	"image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif", "image/webp": ".webp", "image/heic": ".heic",
	"audio/mpeg": ".mp3", "audio/ogg": ".ogg", "audio/mp4": ".m4a", "audio/wav": ".wav", "audio/aac": ".aac",
	"video/mp4": ".mp4", "video/quicktime": ".mov", "video/webm": ".webm",
}

var mimeOf = map[string]string{
	".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".gif": "image/gif", ".mp4": "video/mp4",
}

// fileName is the name a customer's phone shows and saves: with an extension,
// within Viber's length.
func fileName(f *message.File) string {
	name := strings.TrimSpace(f.Name)
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	ext := path.Ext(name)
	if len(ext) < 2 || utf8.RuneCountInString(ext) > 16 {
		mime, _, _ := strings.Cut(strings.ToLower(f.Mime), ";")
		ext = extensionOf[strings.TrimSpace(mime)]
		if ext == "" {
			ext = ".bin"
		}
		name = strings.TrimRight(name, ".") + ext
	}
	stem := strings.TrimSuffix(name, ext)
	if stem == "" {
		stem = "file"
	}
	return truncate(stem, maxFileName-message.UnitUTF16.Count(ext)) + ext
}

// truncate cuts s to at most limit UTF-16 units, between characters.
func truncate(s string, limit int) string {
	n := 0
	for i, r := range s {
		n += max(utf16.RuneLen(r), 1)
		if n > limit {
			return s[:i]
		}
	}
	return s
}
