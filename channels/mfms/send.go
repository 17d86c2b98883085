package mfms

import (
	"context"
	"net/http"
	"path"
	"strings"
	"time"

	"switchboard/message"
)

// linkLife is how long a file's link works: MFMS may keep a message for as long
// as it is valid before it hands it on.
const linkLife = maxValidity + time.Hour

// Send implements channels.Channel. The receipt's id is the one that we chose, or
// over HPX the one that MFMS gave.
func (c *channel) Send(ctx context.Context, part *message.Part) (message.Receipt, error) {
	if !isPhone(part.Chat) {
		return message.Receipt{}, &message.Error{Kind: message.ErrInvalid, Detail: "the chat's key is not a phone"}
	}
	if c.hpx {
		return c.hpxSend(ctx, part)
	}
	link := ""
	if len(part.Files) > 0 {
		var err error
		if link, err = c.env.Files.Link(ctx, part.Files[0].ID, linkLife); err != nil {
			return message.Receipt{}, &message.Error{Kind: message.ErrUnavailable, Detail: "no link to the file", Err: err}
		}
	}
	where := pathSend
	if part.Kind == message.KindTemplate {
		where = pathTemplate
	}
	out := c.outgoing(part, link)
	code, _, failure := c.call(ctx, http.MethodPost, where, out)
	if failure != nil {
		return message.Receipt{}, failure
	}
	receipt := message.Receipt{IDs: []string{out.ID}}
	if code != codeOK {
		receipt.Note = "MFMS had this message already (" + code + ")"
	}
	return receipt, nil
}

// outgoing translates a part. link is the address of its file.
func (c *channel) outgoing(part *message.Part, link string) *outgoing {
	o := &outgoing{
		ID:              c.ids.id(part.Chat, part.ID, part.Index),
		Subject:         c.sender,
		Address:         part.Chat,
		Priority:        "normal",
		ValiditySeconds: int(c.validFor(part) / time.Second),
		Comment:         part.ID, // so that their papers lead to our message
		ContentType:     "text",
		Keyboard:        buttons(part.Keyboard),
	}
	switch part.Kind {
	case message.KindImage, message.KindVideo, message.KindAudio, message.KindDocument:
		o.ContentType = string(part.Kind)
		o.AttachmentURL, o.AttachmentName, o.Caption = link, fileName(&part.Files[0]), part.Text
	case message.KindLocation:
		l := part.Location
		o.ContentType = "location"
		o.Latitude, o.Longitude = &l.Lat, &l.Lon
		o.LocationAddress = strings.TrimPrefix(strings.TrimSuffix(l.Title+", "+l.Address, ", "), ", ")
	default:
		o.Text = part.Text
	}
	return o
}

// validFor is how long MFMS may try: what is left of the message's time to live,
// within the range that it takes.
func (c *channel) validFor(part *message.Part) time.Duration {
	if part.ExpiresAt.IsZero() {
		return c.validity
	}
	return min(max(time.Until(part.ExpiresAt), minValidity), maxValidity)
}

// buttons translates a keyboard; a button without a payload sends its text back.
func buttons(k *message.Keyboard) *keyboard {
	if k == nil || k.Kind != message.KeyboardInline {
		return nil
	}
	var out keyboard
	for _, row := range k.Rows {
		var r keyboardRow
		for _, b := range row {
			one := button{Type: "QUICK_REPLY", Text: b.Text, Payload: b.Payload}
			switch {
			case b.Action == message.KeyURL:
				one = button{Type: "URL", Text: b.Text, URL: b.URL}
			case b.Payload == "":
				one.Payload = b.Text
			}
			r.Buttons = append(r.Buttons, one)
		}
		out.Rows = append(out.Rows, r)
	}
	return &out
}

// fileName is the file's name, shortened before its ending.
func fileName(f *message.File) string {
	name := f.Name
	if name == "" {
		name = "file"
	}
	if nameLimit.Unit.Count(name) <= nameLimit.Max {
		return name
	}
	ext := path.Ext(name)
	if nameLimit.Unit.Count(ext) > 10 {
		ext = ""
	}
	room := nameLimit.Max - nameLimit.Unit.Count(ext)
	var b strings.Builder
	for _, r := range strings.TrimSuffix(name, ext) {
		if room -= nameLimit.Unit.Count(string(r)); room < 0 {
			break
		}
		b.WriteRune(r)
	}
	return b.String() + ext
}
