package ok

import (
	"fmt"
	"path"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// Plan implements channels.Channel: pictures go up to five together, other
// files alone, and texts in as many parts as their length asks for. The caption
// goes with the first files; a longer one follows as a text. Errors are
// *message.Refusal.
func (c *channel) Plan(out *message.Outbound) ([]message.Part, error) {
	if _, err := recipient(out.Chat); out.Chat != "" && err != nil {
		return nil, err
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

// target is whom a message goes to: a chat, or a person whose chat nobody knows yet.
type target struct {
	Chat string `json:"chat_id,omitempty"`
	User string `json:"user_id,omitempty"`
}

// recipient reads the key of a chat: chat:..., or a user's id with user: or
// without.
func recipient(key string) (target, error) {
	id, chat := strings.CutPrefix(key, "chat:")
	if !chat {
		id = strings.TrimPrefix(key, "user:")
	}
	word := id != "" && len(id) <= maxID && !strings.ContainsFunc(id, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		return (r < '0' || r > '9') && !(chat && (letter || r == '-' || r == '_'))
	})
	switch {
	case !word:
		return target{}, &message.Refusal{Code: message.RefusedInvalid, Detail: "not a chat of OK; use an id like chat:C3ecb9d02a600, or a user's like user:123456789012"}
	case chat:
		return target{Chat: key}, nil
	}
	return target{User: key}, nil
}

// contents cuts a message into what one call can carry each. The result is
// never empty.
func (c *channel) contents(in *message.Content) ([]message.Content, error) {
	var list []message.Content
	rest := in.Text
	switch {
	case in.Kind == message.KindText:
	case in.Kind.IsFile() && in.Kind != message.KindSticker && len(in.Files) > 0:
		for i := range in.Files {
			f := in.Files[i]
			if f.Kind == message.KindSticker {
				return nil, &message.Refusal{Code: message.RefusedUnsupported, Detail: "ok can't send stickers"}
			}
			kind := sentAs(&f, c.limits.Image)
			if n := len(list); kind == message.KindImage && n > 0 && list[n-1].Kind == kind && len(list[n-1].Files) < maxTogether {
				list[n-1].Files = append(list[n-1].Files, f)
				continue
			}
			list = append(list, message.Content{Kind: kind, Files: []message.File{f}})
		}
		// One keyboard more than five pictures would be one attachment too many.
		if n := len(list); in.Keyboard != nil && len(list[n-1].Files) == maxTogether {
			last := list[n-1].Files[maxTogether-1]
			list[n-1].Files = list[n-1].Files[:maxTogether-1]
			list = append(list, message.Content{Kind: message.KindImage, Files: []message.File{last}})
		}
		if textLimit.Unit.Count(rest) <= c.limits.Text {
			list[0].Text, rest = rest, ""
		}
	default:
		return nil, &message.Refusal{Code: message.RefusedUnsupported, Detail: fmt.Sprintf("ok can't send %s with these fields", in.Kind)}
	}
	for _, piece := range channels.SplitText(rest, c.limits.Text, textLimit.Unit) {
		list = append(list, message.Content{Kind: message.KindText, Text: piece})
	}
	if len(list) == 0 {
		return nil, &message.Refusal{Code: message.RefusedInvalid, Detail: "text must not be empty"}
	}
	return list, nil
}

// sentAs is how a file goes out: as what it is where OK shows that, else as a
// document.
func sentAs(f *message.File, picture int64) message.Kind {
	mime, _, _ := strings.Cut(strings.ToLower(f.Mime), ";")
	mime = strings.TrimSpace(mime)
	if mime == "" {
		mime = mimeOf[strings.ToLower(path.Ext(f.Name))]
	}
	switch {
	case f.Kind == message.KindImage && f.Size <= picture && (mime == "image/jpeg" || mime == "image/png"):
		return message.KindImage
	case f.Kind == message.KindVideo:
		return message.KindVideo
	case f.Kind == message.KindAudio, f.Kind == message.KindVoice:
		return message.KindVoice
	}
	return message.KindDocument
}

// mimeOf is for files that come without a type. It is our own table because the
// system's differs between machines, and a plan must not.
var mimeOf = map[string]string{".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
