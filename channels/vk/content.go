package vk

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// maxForwards is how many forwarded messages VK nests in all.
const maxForwards = 500

// collector gathers what a message and those that it forwards carry.
type collector struct {
	channel  *channel
	files    []message.File
	forwards []message.Forward
	unknown  string // the first attachment that is neither a file nor a link
	preview  bool   // a picture stands for a video
}

// content decodes what a message says.
func (c *channel) content(m *inMessage) message.Content {
	if m.Action != nil && m.Action.Type != "" {
		out := message.Content{Kind: message.KindService, Service: channels.Shorten(m.Action.Type, 64), Text: m.Action.Text}
		if m.Action.MemberID != 0 {
			out.Payload = number(m.Action.MemberID)
		}
		return out
	}
	g := collector{channel: c}
	out := message.Content{Kind: message.KindText, Text: lines(m.Text, g.attachments(m.Text, m.Attachments))}
	g.forward(m.Forwarded)
	out.Files, out.Forwarded = g.files, g.forwards
	out.Payload = strings.TrimSpace(m.Ref + " " + m.RefSource)
	if bool(m.Cropped) {
		out.Service = "cropped" // there is more of it, which this event does not carry
	}
	point := m.Geo.point()
	switch {
	case len(g.files) > 0:
		out.Kind = g.files[0].Kind
		if g.preview && len(g.files) == 1 {
			out.Kind = message.KindVideo // the file is its preview
		}
		if point != nil {
			out.Text = lines(out.Text, pointText(point))
		}
	case point != nil:
		out.Kind, out.Location = message.KindLocation, point
	case m.Payload != "" && m.Payload != "null":
		b := buttonOf(m.Payload)
		b.Text = m.Text
		out.Kind, out.Text, out.Button = message.KindButton, "", &b
	case g.unknown != "" && m.Text == "":
		out.Kind, out.Unsupported = message.KindUnsupported, g.unknown
	case out.Text == "" && len(g.forwards) > 0:
		out.Kind = message.KindForward
	case out.Text == "" && bool(m.Cropped):
		out.Kind, out.Unsupported = message.KindUnsupported, "is_cropped"
	case out.Text == "":
		out.Kind, out.Unsupported = message.KindUnsupported, "empty message"
	}
	return out
}

func (g *geo) point() *message.Location {
	if g == nil || g.Coordinates == nil || g.Coordinates.Lat == nil || g.Coordinates.Lon == nil {
		return nil
	}
	l := &message.Location{Lat: *g.Coordinates.Lat, Lon: *g.Coordinates.Lon, Title: g.Place.Title, Address: g.Place.Address}
	if l.Lat < -90 || l.Lat > 90 || l.Lon < -180 || l.Lon > 180 {
		return nil
	}
	if l.Address == "" {
		var parts []string
		for _, p := range []string{g.Place.City, g.Place.Country} {
			if p != "" && p != l.Title {
				parts = append(parts, p)
			}
		}
		l.Address = strings.Join(parts, ", ")
	}
	return l
}

// forward flattens forwarded messages, which nest; their files become the message's.
func (g *collector) forward(list []inMessage) {
	for i := range list {
		m := &list[i]
		if len(g.forwards) == maxForwards {
			return
		}
		f := message.Forward{From: g.channel.who(m.FromID), Text: lines(m.Text, g.attachments(m.Text, m.Attachments))}
		if p := m.Geo.point(); p != nil {
			f.Text = lines(f.Text, pointText(p))
		}
		if t := at(m.Date); !t.IsZero() {
			f.At = &t
		}
		g.forwards = append(g.forwards, f)
		g.forward(m.Forwarded)
	}
}

// attachments takes the files, and returns lines for what has none. A link whose
// address stands in the text already has nothing to add.
func (g *collector) attachments(text string, list []attachment) string {
	var cards []string
	for i := range list {
		a := &list[i]
		var m media
		if a.Type == "" || lenient(a.body, &m) != nil {
			m = media{}
		}
		if f, ok := fileOf(a.Type, &m); ok {
			g.files = append(g.files, f)
			if !strings.HasPrefix(a.Type, "video") || f.Kind == message.KindVideo {
				continue
			}
			g.preview = true
		}
		if a.Type == "link" && m.URL != "" {
			if !strings.Contains(text, m.URL) {
				cards = append(cards, words(m.Title, m.URL))
			}
			continue
		}
		if g.unknown == "" {
			g.unknown = channels.Shorten(a.Type, 64)
			if a.Type == "" {
				g.unknown = "attachment"
			}
		}
		cards = append(cards, card(a.Type, &m))
	}
	return lines(cards...)
}

// card is a line for an attachment without bytes.
func card(kind string, m *media) string {
	title := m.Title
	for _, s := range []string{m.Text, m.Question, m.Caption} {
		if title == "" {
			title = s
		}
	}
	if m.Artist != "" {
		title = strings.TrimSuffix(m.Artist+" — "+title, " — ")
	}
	owner, link := m.OwnerID, ""
	if owner == 0 {
		owner = m.FromID
	}
	switch kind {
	case "video", "wall", "market", "story", "article", "podcast", "poll", "photo", "doc":
		if owner != 0 && m.ID != 0 {
			link = fmt.Sprintf("https://vk.ru/%s%d_%d", kind, owner, m.ID)
			if kind == "market" {
				link = fmt.Sprintf("https://vk.ru/market%d?w=product%d_%d", owner, owner, m.ID)
			}
		}
	}
	return words("["+kind+"]", title, m.Price.Text, link)
}

func words(parts ...string) string { return join(" ", parts) }
func lines(parts ...string) string { return join("\n", parts) }

func join(sep string, parts []string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(parts), func(s string) bool { return s == "" }), sep)
}

// fileOf is the file of an attachment, if it has bytes. A video mostly has none:
// its preview stands for it.
func fileOf(kind string, m *media) (message.File, bool) {
	f := message.File{State: message.FilePending}
	stem := kind + strconv.FormatInt(m.OwnerID, 10) + "_" + strconv.FormatInt(m.ID, 10)
	picture := func(i image) {
		f.Ref, f.Width, f.Height = i.URL, max(i.Width, 0), max(i.Height, 0)
	}
	switch kind {
	case "photo":
		f.Kind, f.Mime, f.Name = message.KindImage, "image/jpeg", stem+".jpg"
		best := largest(m.Sizes)
		if m.Original != nil && m.Original.URL != "" && (best.URL == "" || m.Original.Width > best.Width) {
			best = *m.Original
		}
		picture(best)
	case "doc":
		f = docOf(m)
	case "audio_message":
		f.Kind, f.Ref, f.Mime, f.Name, f.Duration = message.KindVoice, m.LinkOGG, "audio/ogg", stem+".ogg", max(m.Duration, 0)
		if f.Ref == "" {
			f.Ref, f.Mime, f.Name = m.LinkMP3, "audio/mpeg", stem+".mp3"
		}
	case "audio":
		f.Kind, f.Ref, f.Mime, f.Duration = message.KindAudio, m.URL, "audio/mpeg", max(m.Duration, 0)
		f.Name = fileTitle(strings.TrimSuffix(m.Artist+" — "+m.Title, " — "), stem) + ".mp3"
	case "sticker":
		f.Kind, f.Mime, f.Name = message.KindSticker, "image/png", "sticker.png"
		picture(largest(m.Images))
	case "graffiti":
		f.Kind, f.Mime, f.Name = message.KindImage, "image/png", stem+".png"
		picture(image{URL: m.URL, Width: m.Width, Height: m.Height})
	case "video", "video_message":
		f.Kind, f.Mime, f.Name, f.Duration = message.KindVideo, "video/mp4", stem+".mp4", max(m.Duration, 0)
		f.Ref = bestVideo(m.Files)
		if f.Ref == "" {
			f.Kind, f.Mime, f.Name, f.Duration = message.KindImage, "image/jpeg", stem+".jpg", 0
			picture(largest(m.Image))
		}
	}
	return f, channels.WebAddress(f.Ref) != nil
}

// docOf is a document: its name may or may not end in its extension.
func docOf(m *media) message.File {
	f := message.File{Kind: message.KindDocument, State: message.FilePending, Ref: m.URL, Size: max(m.Size, 0)}
	ext := strings.ToLower(m.Ext)
	f.Name = fileTitle(m.Title, "doc"+number(m.OwnerID)+"_"+number(m.ID))
	if ext != "" && len(ext) <= 16 && !strings.EqualFold(path.Ext(f.Name), "."+ext) {
		f.Name += "." + ext
	}
	switch {
	case m.Type == 3 || ext == "gif":
		f.Kind, f.Mime = message.KindImage, "image/gif"
	case ext == "mp4":
		f.Kind, f.Mime = message.KindVideo, "video/mp4"
	}
	return f
}

func fileTitle(title, other string) string {
	title = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '/' || r == '\\' {
			return '_'
		}
		return r
	}, strings.TrimSpace(title))
	if title == "" {
		return other
	}
	return title
}

// largest is the picture with the largest width; o, p, q and r are cuts of it.
func largest(list []image) (best image) {
	for _, cuts := range []bool{false, true} {
		for _, i := range list {
			cut := len(i.Type) == 1 && strings.Contains("opqr", i.Type)
			if i.URL != "" && cut == cuts && (best.URL == "" || i.Width > best.Width) {
				best = i
			}
		}
		if best.URL != "" {
			return best
		}
	}
	return best
}

// bestVideo is the mp4 with the most lines.
func bestVideo(files map[string]json.RawMessage) (link string) {
	most := -1
	for _, key := range slices.Sorted(maps.Keys(files)) {
		height, ok := strings.CutPrefix(key, "mp4_")
		n, err := strconv.Atoi(height)
		var u string
		if ok && err == nil && n > most && json.Unmarshal(files[key], &u) == nil && channels.WebAddress(u) != nil {
			most, link = n, u
		}
	}
	return link
}
