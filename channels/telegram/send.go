package telegram

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"switchboard/channels"
	"switchboard/message"
)

// upload is a file that goes along with a call.
type upload struct {
	field string
	file  *message.File
}

// Send implements channels.Channel. What Telegram refuses in one form but takes
// in another is sent again at once, in that form, each remedy once: a group that
// moved to another id, a reply to a message that is gone, a picture or voice
// message that only passes as a document.
func (c *channel) Send(ctx context.Context, part *message.Part) (message.Receipt, error) {
	key, err := parseChat(part.Chat)
	if err != nil {
		return message.Receipt{}, err
	}
	var note string
	current := *part
	for migrated, unreplied, documents := false, false, false; ; {
		receipt, err := c.sendOnce(ctx, key, &current)
		e, failed := errors.AsType[*callError](err)
		switch {
		case err == nil:
			if note != "" && receipt.Note != "" {
				note += "; "
			}
			receipt.Note = note + receipt.Note
			return receipt, nil
		case !failed:
			return message.Receipt{}, err
		case e.migrateTo != 0 && !migrated:
			migrated, key.id = true, e.migrateTo
			note = "the group's id is now " + strconv.FormatInt(e.migrateTo, 10)
		case e.is(400, replyMissing...) && current.ReplyTo != "" && !unreplied:
			unreplied, current.ReplyTo = true, ""
			note = "the message replied to is gone"
		case (e.is(400, notForPhoto...) && onlyImages(&current) || e.is(400, noVoice...) && current.Kind == message.KindVoice) && !documents:
			documents = true
			current.Files = slices.Clone(current.Files)
			for i := range current.Files {
				current.Files[i].Kind = message.KindDocument
			}
			current.Kind = message.KindDocument
			note = "sent as a document: " + e.description
		default:
			return message.Receipt{}, c.sendFailure(ctx, e, key)
		}
	}
}

func onlyImages(p *message.Part) bool {
	return p.Kind == message.KindImage && !slices.ContainsFunc(p.Files, func(f message.File) bool { return f.Kind != message.KindImage })
}

// sendFailure classifies, and finds out what a 404 means: with a wrong token
// every path is unknown.
func (c *channel) sendFailure(ctx context.Context, e *callError, key chatID) *message.Error {
	out := sendError(e, key.id)
	if e.code == 404 && !e.foreign {
		out.Kind = message.ErrInvalid
		if _, err := c.call(ctx, "getMe", nil); err != nil {
			if me, ok := errors.AsType[*callError](err); ok && (me.code == 401 || me.code == 404) {
				out.Kind = message.ErrAccount
			}
		}
	}
	return out
}

// sendOnce makes the call of a part.
func (c *channel) sendOnce(ctx context.Context, key chatID, part *message.Part) (message.Receipt, error) {
	method, p, uploads, err := request(key, part)
	if err != nil {
		return message.Receipt{}, err
	}
	var result json.RawMessage
	if len(uploads) > 0 {
		result, err = c.callUpload(ctx, method, p, uploads)
	} else {
		result, err = c.call(ctx, method, p)
	}
	if err != nil {
		return message.Receipt{}, err
	}
	return receipt(result), nil
}

// receipt reads the sent message, or the list of them. Telegram said ok, so
// whatever stands there, it is sent.
func receipt(result json.RawMessage) message.Receipt {
	type sent struct {
		MessageID int64 `json:"message_id"`
	}
	var list []sent
	if json.Unmarshal(result, &list) != nil {
		var one sent
		_ = json.Unmarshal(result, &one)
		list = []sent{one}
	}
	var r message.Receipt
	for _, m := range list {
		if m.MessageID != 0 {
			r.IDs = append(r.IDs, strconv.FormatInt(m.MessageID, 10))
		}
	}
	if len(r.IDs) < max(len(list), 1) {
		// The id is 0 when the server sends later: a big video to a big group.
		r.Note = "accepted without a message id"
	}
	return r
}

// request builds the call of a part.
func request(key chatID, part *message.Part) (method string, p params, uploads []upload, err error) {
	p = key.params()
	if part.ReplyTo != "" {
		id, err := strconv.ParseInt(part.ReplyTo, 10, 64)
		if err == nil { // a reply to a button press or a service line has nothing to point at
			p["reply_parameters"] = params{"message_id": id, "allow_sending_without_reply": true}
		}
	}
	if part.Keyboard != nil {
		if p["reply_markup"], err = markup(part.Keyboard); err != nil {
			return "", nil, nil, err
		}
	}
	switch {
	case len(part.Files) > 1:
		media, uploads := albumOf(part)
		p["media"] = media
		return "sendMediaGroup", p, uploads, nil
	case len(part.Files) == 1:
		f := &part.Files[0]
		method, field := single(f)
		if part.Text != "" {
			p["caption"] = part.Text
		}
		for k, v := range dimensions(f) {
			p[k] = v
		}
		return method, p, []upload{{field, f}}, nil
	case part.Kind == message.KindText:
		p["text"] = part.Text
		return "sendMessage", p, nil, nil
	case part.Kind == message.KindContact && part.Contact != nil:
		p["phone_number"], p["first_name"] = part.Contact.Phone, part.Contact.Name
		if part.Contact.Name == "" {
			p["first_name"] = part.Contact.Phone
		}
		return "sendContact", p, nil, nil
	case part.Kind == message.KindLocation && part.Location != nil:
		l := part.Location
		p["latitude"], p["longitude"] = l.Lat, l.Lon
		if l.Title == "" && l.Address == "" {
			return "sendLocation", p, nil, nil
		}
		p["title"], p["address"] = l.Title, l.Address // both are required
		if l.Title == "" {
			p["title"] = l.Address
		}
		if l.Address == "" {
			p["address"] = l.Title
		}
		return "sendVenue", p, nil, nil
	}
	return "", nil, nil, invalid(fmt.Sprintf("Telegram can't send %s", part.Kind))
}

// single finds the method for one file, and its field there.
func single(f *message.File) (method, field string) {
	switch f.Kind {
	case message.KindImage:
		if gif(f) {
			return "sendAnimation", "animation"
		}
		return "sendPhoto", "photo"
	case message.KindVideo:
		return "sendVideo", "video"
	case message.KindAudio:
		return "sendAudio", "audio"
	case message.KindVoice:
		return "sendVoice", "voice"
	case message.KindSticker:
		return "sendSticker", "sticker"
	default:
		return "sendDocument", "document"
	}
}

// dimensions is what the customer's app wants to know before the download.
func dimensions(f *message.File) params {
	p := params{}
	set := func(key string, n int) {
		if n > 0 {
			p[key] = n
		}
	}
	switch {
	case f.Kind == message.KindVideo, gif(f):
		set("width", f.Width)
		set("height", f.Height)
		set("duration", f.Duration)
		if f.Kind == message.KindVideo {
			p["supports_streaming"] = true
		}
	case f.Kind == message.KindAudio, f.Kind == message.KindVoice:
		set("duration", f.Duration)
	case f.Kind == message.KindDocument:
		p["disable_content_type_detection"] = true // a document was asked for
	}
	return p
}

// albumOf describes the files of an album; the caption is the first one's.
func albumOf(part *message.Part) ([]params, []upload) {
	var media []params
	var uploads []upload
	for i := range part.Files {
		f := &part.Files[i]
		field := "f" + strconv.Itoa(i)
		item := dimensions(f)
		_, item["type"] = single(f)
		item["media"] = "attach://" + field
		if i == 0 && part.Text != "" {
			item["caption"] = part.Text
		}
		media = append(media, item)
		uploads = append(uploads, upload{field, f})
	}
	return media, uploads
}

// markup translates a keyboard.
func markup(k *message.Keyboard) (params, error) {
	if k.Kind == message.KeyboardRemove {
		return params{"remove_keyboard": true}, nil
	}
	rows := make([][]params, 0, len(k.Rows))
	for _, row := range k.Rows {
		buttons := make([]params, 0, len(row))
		for i := range row {
			b := params{"text": row[i].Text}
			switch {
			case k.Kind == message.KeyboardInline && row[i].Action == message.KeyURL:
				b["url"] = row[i].URL
			case k.Kind == message.KeyboardInline:
				data := row[i].Payload
				if data == "" {
					data = channels.Shorten(row[i].Text, callbackData)
				}
				b["callback_data"] = data
			case row[i].Action == message.KeyPhone:
				b["request_contact"] = true
			case row[i].Action == message.KeyLocation:
				b["request_location"] = true
			}
			buttons = append(buttons, b)
		}
		rows = append(rows, buttons)
	}
	if k.Kind == message.KeyboardInline {
		return params{"inline_keyboard": rows}, nil
	}
	p := params{"keyboard": rows, "resize_keyboard": true}
	if k.Once {
		p["one_time_keyboard"] = true
	}
	if k.Placeholder != "" {
		p["input_field_placeholder"] = firstUnits(k.Placeholder, placeholder)
	}
	return p, nil
}

// firstUnits is the start of s, at most n UTF-16 units of it.
func firstUnits(s string, n int) string {
	count := 0
	for i, r := range s {
		count += message.UnitUTF16.Count(string(r))
		if count > n {
			return s[:i]
		}
	}
	return s
}
