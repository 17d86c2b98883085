package channeltest

import (
	"slices"
	"strings"
	"testing"

	"switchboard/message"
)

// testLimits: what an account sets for itself is declared and obeyed, at the limit
// and one beyond it, and nothing over what the platform allows is taken.
func (c *Case) testLimits(t *testing.T) {
	t.Parallel()
	p := NewPlatform(t, nil)
	for key, values := range map[string][]string{
		"text_limit":  {"0", "-1", "many", "1000000"},
		"image_limit": {"0", "10 apples", "4TB", "1000000000000"},
		"video_limit": {"0", "-5MB", "1000000000000"},
		"file_limit":  {"0", "1.5.2", "9999999999999999999999"},
	} {
		for _, v := range values {
			if _, err := c.Platform.Open(p.Account(c, map[string]string{key: v}), p.Env()); err == nil || !strings.Contains(err.Error(), key) {
				t.Errorf("%s=%s: %v; the error must name the setting", key, v, err)
			}
		}
	}
	usual := c.open(t, p).Capabilities()
	settings := map[string]string{"text_limit": "100"}
	for key, v := range map[string]struct {
		kind  message.Kind
		value string
	}{"image_limit": {message.KindImage, "3kB"}, "video_limit": {message.KindVideo, "4KiB"}, "file_limit": {message.KindDocument, "5000"}} {
		if slices.Contains(usual.Send, v.kind) {
			settings[key] = v.value
		}
	}
	ch, err := c.Platform.Open(p.Account(c, settings), p.Env())
	if err != nil {
		t.Fatal(err)
	}
	caps := ch.Capabilities()
	if caps.Text.Max != 100 {
		t.Errorf("Text is %+v", caps.Text)
	}
	for n, want := range map[int]int{99: 1, 100: 1, 101: 2, 250: 3} {
		out := c.text()
		out.Text = units(n, caps.Text.Unit)
		if got := len(plan(t, ch, out)); got != want {
			t.Errorf("%d %s in messages of 100: %d parts, want %d", n, caps.Text.Unit, got, want)
		}
	}
	for _, k := range caps.Send {
		if !k.IsFile() {
			continue
		}
		limit := int64(5000)
		if k == message.KindVideo {
			limit = 4096
		}
		if caps.FileBytes[k] != limit {
			t.Errorf("FileBytes[%s] = %d, want %d", k, caps.FileBytes[k], limit)
		}
		for _, size := range []int64{limit - 1, limit, limit + 1} {
			out := c.text()
			out.Kind, out.Text, out.Files = k, "", []message.File{sized(k, size)}
			if err := caps.Check(&out.Content, false); (err == nil) != (size <= limit) {
				t.Errorf("%s of %d bytes: %v", k, size, err)
			}
		}
	}
	if !slices.Contains(caps.Send, message.KindImage) {
		return
	}
	if caps.ShownBytes[message.KindImage] != 3000 {
		t.Errorf("ShownBytes = %v", caps.ShownBytes)
	}
	for size, want := range map[int64]message.Kind{2999: message.KindImage, 3000: message.KindImage, 3001: message.KindDocument} {
		out := c.text()
		out.Kind, out.Text, out.Files = message.KindImage, "", []message.File{sized(message.KindImage, size)}
		if parts := plan(t, ch, out); len(parts) != 1 || parts[0].Kind != want {
			t.Errorf("a picture of %d bytes goes as %s, want %s", size, parts[0].Kind, want)
		}
	}
}

// sized is a file that platforms take as what it is.
func sized(k message.Kind, size int64) message.File {
	types := map[message.Kind]string{
		message.KindImage: "image/jpeg", message.KindVideo: "video/mp4", message.KindAudio: "audio/mp4", message.KindVoice: "audio/ogg",
		message.KindSticker: "image/png", message.KindDocument: "application/pdf",
	}
	f := File(k, "0198aaaa-0000-7000-8000-0000000000ff", types[k])
	f.Size = size
	return f
}
