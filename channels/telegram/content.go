package telegram

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// content decodes what a message says. Some kinds fill the fields of others for
// old clients' sake, so the order matters: venue before location, animation
// before document.
func (c *channel) content(m *inboundMessage, raw json.RawMessage) message.Content {
	if p := largest(m.Photo); p != nil {
		p.Mime = "image/jpeg" // always, and Telegram doesn't say
		return c.files(m, message.KindImage, p)
	}
	switch {
	case m.Contact != nil && m.Contact.Phone != "":
		return message.Content{Kind: message.KindContact, Contact: m.contact()}
	case m.Venue != nil && m.Venue.Location.known():
		return message.Content{Kind: message.KindLocation, Location: &message.Location{
			Lat: *m.Venue.Location.Lat, Lon: *m.Venue.Location.Lon, Title: m.Venue.Title, Address: m.Venue.Address,
		}}
	case m.Location.known():
		return message.Content{Kind: message.KindLocation, Location: &message.Location{
			Lat: *m.Location.Lat, Lon: *m.Location.Lon, Live: m.Location.LivePeriod > 0,
		}}
	case m.Animation.known():
		if strings.HasPrefix(m.Animation.Mime, "image/") {
			return c.files(m, message.KindImage, m.Animation)
		}
		return c.files(m, message.KindVideo, m.Animation)
	case m.Video.known():
		return c.files(m, message.KindVideo, m.Video)
	case m.VideoNote.known():
		note := *m.VideoNote
		note.Mime, note.Width, note.Height = "video/mp4", note.Length, note.Length
		return c.files(m, message.KindVideo, &note)
	case m.Voice.known():
		voice := *m.Voice
		if voice.Mime == "" {
			voice.Mime = "audio/ogg"
		}
		return c.files(m, message.KindVoice, &voice)
	case m.Audio.known():
		return c.files(m, message.KindAudio, m.Audio)
	case m.Document.known():
		return c.files(m, message.KindDocument, m.Document)
	case m.Sticker.known():
		return c.sticker(m)
	case m.Text != nil:
		return message.Content{Kind: message.KindText, Text: *m.Text, Payload: startPayload(*m.Text)}
	case m.MigrateTo != 0:
		return message.Content{Kind: message.KindService, Service: "migrated_to", Payload: strconv.FormatInt(m.MigrateTo, 10)}
	case m.MigrateFrom != 0:
		return message.Content{Kind: message.KindService, Service: "migrated_from", Payload: strconv.FormatInt(m.MigrateFrom, 10)}
	}
	out := message.Content{Kind: message.KindUnsupported, Unsupported: unsupported(raw), Text: m.Caption}
	switch {
	case m.Dice != nil && m.Dice.Emoji != "":
		out.Text = m.Dice.Emoji
	case m.Poll != nil && m.Poll.Question != "":
		out.Text = m.Poll.Question
	case m.WebApp != nil:
		out.Payload = m.WebApp.Data
	}
	return out
}

func (f *file) known() bool { return f != nil && f.ID != "" }

func (l *location) known() bool {
	return l != nil && l.Lat != nil && l.Lon != nil
}

// largest is the photo's size with the most pixels: usually, but not always, the last.
func largest(sizes []file) *file {
	var best *file
	for i := range sizes {
		s := &sizes[i]
		if s.known() && (best == nil || int64(s.Width)*int64(s.Height) >= int64(best.Width)*int64(best.Height)) {
			best = s
		}
	}
	return best
}

func (c *channel) files(m *inboundMessage, kind message.Kind, f *file) message.Content {
	return message.Content{Kind: kind, Text: m.Caption, Files: []message.File{c.file(kind, f)}}
}

func (c *channel) file(kind message.Kind, f *file) message.File {
	out := message.File{
		Kind: kind, Name: f.Name, Mime: f.Mime, Size: max(f.Size, 0), State: message.FilePending,
		Width: max(f.Width, 0), Height: max(f.Height, 0), Duration: max(f.Duration, 0), Ref: f.ID,
	}
	// No use asking: getFile refuses. A private server hands out everything.
	if c.local == "" && out.Size > fetchBytes {
		out.State = message.FileTooLarge
	}
	return out
}

// sticker keeps the sticker and, where a browser can't show it, its thumbnail
// as a second file.
func (c *channel) sticker(m *inboundMessage) message.Content {
	s := *m.Sticker
	switch {
	case s.Animated:
		s.Mime = "application/x-tgsticker" // gzipped Lottie JSON
	case s.IsVideo:
		s.Mime = "video/webm"
	default:
		s.Mime = "image/webp"
	}
	out := c.files(m, message.KindSticker, &s)
	out.Files[0].Emoji = s.Emoji
	if (s.Animated || s.IsVideo) && s.Thumbnail.known() {
		out.Files = append(out.Files, c.file(message.KindImage, s.Thumbnail))
	}
	return out
}

func (m *inboundMessage) contact() *message.Contact {
	c := m.Contact
	return &message.Contact{
		Name:  strings.TrimSpace(c.FirstName + " " + c.LastName),
		Phone: phone(c.Phone),
		// Any card can be shared, anybody's message can be forwarded and a bot
		// can make cards up: only the sender's own id on a card that they sent
		// themselves is a proof.
		Own: c.UserID != 0 && m.From != nil && c.UserID == m.From.ID && m.Origin == nil && m.ViaBot == nil,
	}
}

// phone brings a number to "+" and digits; it comes with or without the plus.
// What isn't a number stays as it is.
func phone(s string) string {
	digits := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9':
			return r
		case strings.ContainsRune("+-() .\u00a0", r):
			return -1
		}
		return 'x'
	}, s)
	if digits == "" || strings.Contains(digits, "x") {
		return s
	}
	return "+" + digits
}

// startPayload is the parameter of the deep link that a customer came by:
// "/start promo_autumn", in groups "/start@bot promo_autumn".
func startPayload(text string) string {
	command, payload, _ := strings.Cut(text, " ")
	if command != "/start" && !strings.HasPrefix(command, "/start@") {
		return ""
	}
	return strings.TrimSpace(payload)
}

// plain are the fields that a message of any kind may have.
var plain = map[string]bool{
	"message_id": true, "message_thread_id": true, "direct_messages_topic": true, "from": true, "sender_chat": true,
	"sender_boost_count": true, "sender_business_bot": true, "sender_tag": true, "business_connection_id": true, "date": true, "chat": true,
	"forward_origin": true, "is_topic_message": true, "is_automatic_forward": true, "reply_to_message": true, "external_reply": true,
	"quote": true, "reply_to_story": true, "reply_to_checklist_task_id": true, "via_bot": true, "edit_date": true,
	"has_protected_content": true, "is_from_offline": true, "is_paid_post": true, "media_group_id": true, "author_signature": true,
	"paid_star_count": true, "entities": true, "caption": true, "caption_entities": true, "link_preview_options": true,
	"show_caption_above_media": true, "has_media_spoiler": true, "suggested_post_info": true, "effect_id": true, "reply_markup": true,
}

// unsupported finds the field that makes a message what it is.
func unsupported(raw json.RawMessage) string {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(raw, &fields) // it was read before
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if !plain[field] && given(fields[field]) && field != "" {
			return channels.Shorten(field, 64)
		}
	}
	return "message"
}
