package simulator

import (
	"bytes"
	"image"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf16"
)

func TestBlobs(t *testing.T) {
	t.Parallel()
	for format := range formats {
		for _, size := range []int64{0, 50_000, 50_001, 200_000} {
			b, err := makeBlob(FileSpec{Size: size, Seed: 9}, format)
			if err != nil {
				t.Fatal(err)
			}
			want := max(size, int64(len(b.head)))
			if b.size != want {
				t.Errorf("%s of %d: size %d, want %d", format, size, b.size, want)
			}
			all, err := io.ReadAll(b.open())
			if err != nil || int64(len(all)) != b.size {
				t.Errorf("%s: read %d of %d, %v", format, len(all), b.size, err)
			}
			if size == 50_001 {
				if err := iotest.TestReader(b.open(), all); err != nil {
					t.Errorf("%s: %v", format, err)
				}
			}
			twin, err := makeBlob(FileSpec{Size: size, Seed: 9}, format)
			if err != nil || twin.sha256() != b.sha256() {
				t.Errorf("%s: the same seed gives other bytes", format)
			}
			switch format {
			case "jpeg", "png", "gif":
				if _, kind, err := image.Decode(bytes.NewReader(all)); err != nil || kind != format {
					t.Errorf("%s of %d does not decode: %s %v", format, size, kind, err)
				}
			case "zip", "tgs", "txt", "exe", "pdf", "m4a":
			default:
				if got := sniff(all); got != b.mime {
					t.Errorf("%s looks like %s", format, got)
				}
			}
		}
	}
	huge, err := makeBlob(FileSpec{Size: 3 << 30}, "mp4")
	if err != nil || huge.size != 3<<30 || len(huge.head) > 1000 {
		t.Errorf("3 GiB take %d bytes of memory, %v", len(huge.head), err)
	}
	if _, err := makeBlob(FileSpec{Format: "doc"}, "pdf"); err == nil {
		t.Error("an unknown format was made")
	}
}

func TestUTF16(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "abc", "яблоко", "😀x😀", "e\u0301", "\U0010ffff"} {
		if got, want := utf16Len(s), len(utf16.Encode([]rune(s))); got != want {
			t.Errorf("%q: %d units, want %d", s, got, want)
		}
	}
	for _, c := range []struct {
		from, n int
		want    string
		ok      bool
	}{{0, 2, "😀", true}, {2, 1, "x", true}, {0, 1, "", false}, {1, 2, "", false}, {3, 0, "", true}, {2, 2, "", false}} {
		if got, ok := utf16Slice("😀x", c.from, c.n); got != c.want || ok != c.ok {
			t.Errorf("units %d+%d: %q %v, want %q %v", c.from, c.n, got, ok, c.want, c.ok)
		}
	}
}

func FuzzFormat(f *testing.F) {
	for _, s := range []string{"<b>x</b>", "a < b", "&lt;&#1086;&bad;", "<a href='x'>y</a>", "*b* _i_ ||s|| ```go\nx```", "[t](u)", ">q\nx", "\\*", "<pre><code class=\"language-go\">x</code></pre>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ToValidUTF8(s, "") != s {
			return
		}
		for _, mode := range []string{"HTML", "MarkdownV2"} {
			text, ents, e := formatText(s, mode, "")
			if e != nil {
				continue
			}
			for _, x := range ents {
				if _, ok := utf16Slice(text, x.Offset, x.Length); !ok {
					t.Fatalf("%s of %q: entity %+v is outside %q", mode, s, x, text)
				}
			}
		}
		detectEntities(s)
	})
}

func FuzzViberMessage(f *testing.F) {
	f.Add([]byte(`{"receiver":"x","type":"text","text":"a","sender":{"name":"n"},"keyboard":{"Type":"keyboard","Buttons":[{"Columns":3,"Rows":2,"ActionBody":"b"}]}}`))
	f.Add([]byte(`{"type":"rich_media","rich_media":{"Type":"rich_media","Buttons":[{}]},"sender":{"name":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, m, st := parseViber(b); (m == nil) == (st == nil) {
			t.Fatalf("%q: message %v, status %v", b, m, st)
		}
	})
}

func TestRing(t *testing.T) {
	t.Parallel()
	r := ring[int]{max: 3}
	for i := range 8 {
		r.push(i)
	}
	if got := r.all(); len(got) != 3 || got[0] != 5 || got[2] != 7 {
		t.Errorf("ring: %v", got)
	}
}

func TestSlidingRates(t *testing.T) {
	t.Parallel()
	var r recorder
	r.init(0)
	start := time.Unix(1_800_000_000, 900_000_000)
	for i := range 10 { // ten in 900 ms, across the edge of a second; then nothing for a while
		r.countSend(start.Add(time.Duration(i)*100*time.Millisecond), uint64(i%2))
	}
	for i := range 4 {
		r.countSend(start.Add(5*time.Second+time.Duration(i)*400*time.Millisecond), 7)
	}
	got := r.rates()
	if got.MaxPerSecond != 9 || got.MaxSliding != 10 || got.MaxSlidingCustomer != 5 || got.Sends != 14 {
		t.Errorf("rates: %+v", got)
	}
	if got := r.crowded(8); len(got) != 2 || got[0].Sends != 9 || got[1].Sends != 10 || !got[1].End.Equal(start.Add(900*time.Millisecond)) {
		t.Errorf("crowded: %+v", got)
	}
}

func TestGCRA(t *testing.T) {
	t.Parallel()
	var g gcra
	now := time.Unix(1_800_000_000, 0)
	for i := range 3 {
		if w := g.take(now, 1, 10, 3); w != 0 {
			t.Errorf("number %d of a burst of 3 waits %v", i+1, w)
		}
	}
	if w := g.take(now, 1, 10, 3); w != 100*time.Millisecond {
		t.Errorf("the fourth waits %v, want a step of 100ms", w)
	}
	if w := g.take(now.Add(100*time.Millisecond), 1, 10, 3); w != 0 {
		t.Errorf("after a step it still waits %v", w)
	}
}
