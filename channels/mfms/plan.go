package mfms

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// Plan implements channels.Channel: every file goes alone, the caption with the
// first where that shows one; a longer caption follows as a text, and so does one
// that has buttons, unless there is a single file. Errors are *message.Refusal.
func (c *channel) Plan(out *message.Outbound) ([]message.Part, error) {
	if out.Chat != "" && !isPhone(out.Chat) {
		return nil, refuse(message.RefusedInvalid, "not an address of WhatsApp; use the phone's digits with the country's code and without +, like 79261234567")
	}
	contents, err := c.contents(&out.Content)
	if err != nil {
		return nil, err
	}
	last := &contents[len(contents)-1]
	if last.Keyboard = out.Keyboard; last.Keyboard != nil {
		if err := checkButtons(last); err != nil {
			return nil, err
		}
	}
	parts := make([]message.Part, len(contents))
	for i := range contents {
		parts[i] = message.Part{Index: i, Of: len(contents), Outbound: *out}
		parts[i].Content = contents[i]
	}
	return parts, nil
}

func refuse(code message.RefusalCode, detail string) error {
	return &message.Refusal{Code: code, Detail: detail}
}

// checkButtons refuses what WhatsApp can't show: links outside of templates, and
// buttons without words.
func checkButtons(c *message.Content) error {
	for _, row := range c.Keyboard.Rows {
		for _, b := range row {
			if b.Action == message.KeyURL && c.Kind != message.KindTemplate {
				return refuse(message.RefusedUnsupported, "mfms has buttons with links in templates only")
			}
		}
	}
	if c.Text == "" {
		return refuse(message.RefusedUnsupported, "mfms can't send buttons without a text")
	}
	return nil
}

// contents cuts a message into what one call can carry each. The result is never
// empty.
func (c *channel) contents(in *message.Content) ([]message.Content, error) {
	var list []message.Content
	rest := in.Text
	switch {
	case in.Kind == message.KindText:
	case in.Kind == message.KindTemplate && in.Template != nil:
		if len(in.Files) > 0 {
			return nil, refuse(message.RefusedUnsupported, "mfms has no files in templates")
		}
		words, err := fill(in)
		return []message.Content{{Kind: in.Kind, Text: words, Template: in.Template}}, err
	case in.Kind == message.KindLocation && in.Location != nil:
		list = append(list, message.Content{Kind: in.Kind, Location: in.Location})
	case in.Kind.IsFile() && in.Kind != message.KindSticker && len(in.Files) > 0:
		for i := range in.Files {
			if in.Files[i].Kind == message.KindSticker {
				return nil, refuse(message.RefusedUnsupported, "mfms can't send stickers")
			}
			list = append(list, message.Content{Kind: sentAs(&in.Files[i], c.limits.Image), Files: in.Files[i : i+1]})
		}
		first := &list[0]
		if first.Kind != message.KindAudio && captionLimit.Unit.Count(rest) <= captionLimit.Max && (in.Keyboard == nil || len(list) == 1) {
			first.Text, rest = rest, ""
		}
	default:
		return nil, refuse(message.RefusedUnsupported, "mfms can't send "+string(in.Kind)+" with these fields")
	}
	pieces := channels.SplitText(rest, c.limits.Text, textLimit.Unit)
	if in.Keyboard != nil && len(pieces) > 0 {
		pieces = shortEnd(pieces)
	}
	for _, piece := range pieces {
		list = append(list, message.Content{Kind: message.KindText, Text: piece})
	}
	if len(list) == 0 {
		return nil, refuse(message.RefusedInvalid, "text must not be empty")
	}
	return list, nil
}

// shortEnd cuts the last piece so that its end can stand above buttons.
func shortEnd(pieces []string) []string {
	last := pieces[len(pieces)-1]
	cut := channels.SplitText(last, bodyLimit.Max, bodyLimit.Unit)
	if len(cut) == 1 {
		return pieces
	}
	end := cut[len(cut)-1]
	begin := strings.TrimSpace(last[:strings.LastIndex(last, end)])
	return append(pieces[:len(pieces)-1], begin, end)
}

// fill puts the parameters of a template into its text: MFMS compares the whole
// text with the approved templates, and takes no name of one.
func fill(in *message.Content) (string, error) {
	if strings.TrimSpace(in.Text) == "" {
		return "", refuse(message.RefusedInvalid, "mfms knows templates by their text; put the approved text into text, with {{1}}, {{2}}, ... where the parameters go")
	}
	pairs := make([]string, 0, 2*len(in.Template.Parameters))
	for i, p := range in.Template.Parameters {
		pairs = append(pairs, "{{"+strconv.Itoa(i+1)+"}}", p)
	}
	words := strings.NewReplacer(pairs...).Replace(in.Text)
	if n := templateLimit.Unit.Count(words); n > templateLimit.Max {
		return "", refuse(message.RefusedLimit, "the template's text has "+strconv.Itoa(n)+" characters; mfms takes "+strconv.Itoa(templateLimit.Max))
	}
	return words, nil
}

// sentAs is how a file goes out: as what it is where WhatsApp shows that, else as
// a document. Voice messages go as audio.
func sentAs(f *message.File, picture int64) message.Kind {
	kind, limit := f.Kind, int64(maxMedia)
	switch kind {
	case message.KindVoice:
		kind = message.KindAudio
	case message.KindImage:
		limit = picture
	}
	mime, _, _ := strings.Cut(strings.ToLower(f.Mime), ";")
	mime = strings.TrimSpace(mime)
	if mime == "" {
		mime = mimeOf[strings.ToLower(path.Ext(f.Name))]
	}
	if f.Size <= limit && slices.Contains(shownAs[kind], mime) {
		return kind
	}
	return message.KindDocument
}

// mimeOf is for files that come without a type. It is our own table because the
// system's differs between machines, and a plan must not.
var mimeOf = map[string]string{
	".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4", ".3gp": "video/3gpp",
	".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac", ".amr": "audio/amr", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg",
}
