package all_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"switchboard/channels"
	"switchboard/channels/all"
	"switchboard/channels/channeltest"
	"switchboard/message"
)

func sends(c *message.Capabilities, k message.Kind) bool { return slices.Contains(c.Send, k) }

// settings are what an account of each platform needs at least.
var settings = map[string]map[string]string{
	"telegram": {"token": "7000000001:AAtestTokenOfTheSimulator0123456789"},
	"viber":    {"token": "4f1a2b3c4d5e6f70-8192a3b4c5d6e7f8-0a1b2c3d4e5f6071", "sender_name": "Shop"},
	"vk":       {"token": "vk1.a.0123456789abcdef", "group_id": "123456789"},
	"ok":       {"token": "tkn1O0123456789abcdef:CBA0123456789"},
	"infobip":  {"api_key": "0123456789abcdef0123456789abcdef-01234567-89ab-cdef-0123-456789abcdef", "sender": "441134960000", "webhook_user": "hook", "webhook_password": "password of the hook", "api_base": "https://x1y2z3.api.infobip.com"},
	"mfms":     {"login": "shop", "password": "password", "sender": "79990000000", "webhook_user": "hook", "webhook_password": "password of the hook"},
}

// declared opens an account of each platform and returns what it declares.
func declared(t *testing.T) map[string]message.Capabilities {
	t.Helper()
	found := map[string]message.Capabilities{}
	for _, p := range all.Platforms {
		c, err := p.Open(channels.Account{ID: "0198aaaa-0000-7000-8000-000000000000", Platform: p.Name, Name: "x", Settings: settings[p.Name]}, channels.Env{HTTP: http.DefaultClient, Fetch: http.DefaultClient})
		if err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		found[p.Name] = c.Capabilities()
	}
	return found
}

// What the promise says is declared, and what it denies is not, unless it is
// listed as beyond it.
func TestMatrix(t *testing.T) {
	t.Parallel()
	caps := declared(t)
	for _, f := range channeltest.Matrix() {
		for _, m := range channeltest.Messengers() {
			for _, platform := range m.Platforms {
				c, ok := caps[platform]
				if !ok {
					t.Errorf("%s is not registered", platform)
					continue
				}
				switch got, cell := f.Has(&c), f.Promised[platform]; {
				case cell == channeltest.Yes && !got:
					t.Errorf("%s: %s is promised and not declared", platform, f.Name)
				case (cell == channeltest.No && got) || (cell == channeltest.Beyond && !got):
					t.Errorf("%s: %s is declared %v, listed as beyond the promise %v", platform, f.Name, got, !got)
				}
			}
		}
	}
}

// The table's limits are the accounts' defaults, where the platforms' documents
// allow them.
func TestLimits(t *testing.T) {
	t.Parallel()
	const mb, mib = 1_000_000, 1 << 20
	caps := declared(t)
	for platform, want := range map[string]struct {
		rate               float64
		text               int
		photo, video, file int64
	}{
		"telegram": {30, 4000, 10 * mb, 50 * mb, 50 * mb},
		"viber":    {20, 7000, mib, 50 * mib, 50 * mib}, // the table's 8000 characters are over the documents' 7000; the rate is ours
		"vk":       {3, 4000, 50 * mb, 200 * mb, 200 * mb},
	} {
		c := caps[platform]
		if c.Rate.PerSecond != want.rate || c.Text.Max != want.text || c.ShownBytes[message.KindImage] != want.photo ||
			c.FileBytes[message.KindVideo] != want.video || c.FileBytes[message.KindDocument] != want.file {
			t.Errorf("%s: %v/s, text %d, picture %d, video %d, file %d; want %+v", platform, c.Rate.PerSecond, c.Text.Max,
				c.ShownBytes[message.KindImage], c.FileBytes[message.KindVideo], c.FileBytes[message.KindDocument], want)
		}
	}
}

const (
	document = "../../docs/channels.md"
	begin    = "<!-- generated: go test ./channels/all -update -->\n"
	end      = "<!-- end of the generated part -->\n"
)

// The tables of docs/channels.md are what the platforms declare.
func TestDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := bytes.Cut(text, []byte(begin))
	_, tail, ok2 := bytes.Cut(rest, []byte(end))
	if !ok1 || !ok2 {
		t.Fatalf("%s lacks the marks of the generated part", document)
	}
	want := slices.Concat(head, []byte(begin), generated(declared(t)), []byte(end), tail)
	if channeltest.Updating() {
		if err := os.WriteFile(document, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(text, want) {
		t.Errorf("%s is not what the platforms declare; run: go test ./channels/all -update", document)
	}
}

func generated(caps map[string]message.Capabilities) []byte {
	var b bytes.Buffer
	var platforms, titles []string
	for _, col := range channeltest.Messengers() {
		for _, p := range col.Platforms {
			platforms = append(platforms, p)
			title := col.Name
			if len(col.Platforms) > 1 {
				title += " (" + p + ")"
			}
			titles = append(titles, title)
		}
	}
	fmt.Fprintf(&b, "\n| | %s |\n|---|%s\n", strings.Join(titles, " | "), strings.Repeat("---|", len(titles)))
	for _, f := range channeltest.Matrix() {
		fmt.Fprintf(&b, "| %s |", f.Name)
		for _, p := range platforms {
			c := caps[p]
			cell := "–"
			if f.Has(&c) {
				cell = "yes"
				if f.Promised[p] == channeltest.Beyond {
					cell = "yes +"
				}
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	b.WriteString("\nyes +: beyond what was promised for the channel, because its documents have it today.\n\n")
	fmt.Fprintf(&b, "| limit | %s |\n|---|%s\n", strings.Join(titles, " | "), strings.Repeat("---|", len(titles)))
	limit := func(name string, cell func(c *message.Capabilities) string) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, p := range platforms {
			c := caps[p]
			fmt.Fprintf(&b, " %s |", cell(&c))
		}
		b.WriteString("\n")
	}
	limit("messages/s of an account", func(c *message.Capabilities) string { return number(c.Rate.PerSecond) })
	limit("messages/s to one chat", func(c *message.Capabilities) string { return number(c.ChatRate.PerSecond) })
	limit("text of one message; longer ones are split", func(c *message.Capabilities) string { return fmt.Sprintf("%d %s", c.Text.Max, units[c.Text.Unit]) })
	limit("text beside files; longer ones follow", func(c *message.Capabilities) string {
		if c.Caption.Max == 0 {
			return "–"
		}
		return fmt.Sprintf("%d %s", c.Caption.Max, units[c.Caption.Unit])
	})
	for _, k := range []message.Kind{message.KindImage, message.KindVideo, message.KindAudio, message.KindVoice, message.KindSticker, message.KindDocument} {
		limit(string(k), func(c *message.Capabilities) string {
			if !sends(c, k) {
				return "–"
			}
			n := c.FileBytes[k]
			if n == 0 {
				n = c.FileBytes[message.KindDocument]
			}
			if shown := c.ShownBytes[k]; shown > 0 && shown < n {
				return size(shown) + "; as a document " + size(n)
			}
			return size(n)
		})
	}
	limit("files of one message", func(c *message.Capabilities) string { return fmt.Sprint(max(c.MaxFiles, 1)) })
	limit("largest file fetched", func(c *message.Capabilities) string { return size(c.FetchBytes) })
	b.WriteString("\n")
	return b.Bytes()
}

var units = map[message.Unit]string{message.UnitUTF16: "UTF-16 units", message.UnitRunes: "characters", message.UnitBytes: "bytes"}

func number(x float64) string {
	if x == 0 {
		return "–"
	}
	return fmt.Sprint(x)
}

func size(n int64) string {
	switch {
	case n == 0:
		return "–"
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1_000_000:
		return fmt.Sprintf("%d MB", n/1_000_000)
	default:
		return fmt.Sprintf("%d KB", n/1000)
	}
}
