package channels_test

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"switchboard/channels"
	"switchboard/message"
)

func TestSplitText(t *testing.T) {
	t.Parallel()
	const (
		family  = "👩\u200d👩\u200d👧" // 8 UTF-16 units, one character
		flagRU  = "🇷🇺"
		flagKZ  = "🇰🇿"
		england = "\U0001F3F4\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F"
	)
	cases := []struct {
		name  string
		text  string
		limit int
		unit  message.Unit
		want  []string
	}{
		{"empty", "", 5, message.UnitRunes, nil},
		{"fits untouched", "  a b \n", 10, message.UnitRunes, []string{"  a b \n"}},
		{"no limit", "abc", 0, message.UnitRunes, []string{"abc"}},
		{"exactly", "abcde", 5, message.UnitRunes, []string{"abcde"}},
		{"one over", "abcdef", 5, message.UnitRunes, []string{"abcde", "f"}},
		{"early paragraph loses to line", "aaaa\n\nbb\ncc dddd", 12, message.UnitRunes, []string{"aaaa\n\nbb", "cc dddd"}},
		{"paragraph wins over later line", "aaaa bb\n\ncc\ndd ee", 12, message.UnitRunes, []string{"aaaa bb", "cc\ndd ee"}},
		{"line wins over word", "aaaa bbb\ncc dddddd", 12, message.UnitRunes, []string{"aaaa bbb", "cc dddddd"}},
		{"sentence wins over word", "Да, это так. Потом ещё", 18, message.UnitRunes, []string{"Да, это так.", "Потом ещё"}},
		{"sentence in quotes", "Он: «Да?» Потом ещё раз", 15, message.UnitRunes, []string{"Он: «Да?»", "Потом ещё раз"}},
		{"chinese sentence", "你好吗。我很好啊", 6, message.UnitRunes, []string{"你好吗。", "我很好啊"}},
		{"word", "hello brave world", 12, message.UnitRunes, []string{"hello brave", "world"}},
		{"space right after the limit", "hello brave", 5, message.UnitRunes, []string{"hello", "brave"}},
		{"early word rather than inside a long one", "см. https://example.org/a", 22, message.UnitRunes, []string{"см.", "https://example.org/a"}},
		{"no-break space", "цена 10\u00a0000", 8, message.UnitRunes, []string{"цена", "10\u00a0000"}},
		{"surrogates", "😀😀😀", 3, message.UnitUTF16, []string{"😀", "😀", "😀"}},
		{"bytes", "яяя", 3, message.UnitBytes, []string{"я", "я", "я"}},
		{"joined emoji", "ab" + family, 9, message.UnitUTF16, []string{"ab", family}},
		{"flags in pairs", flagRU + flagKZ, 3, message.UnitRunes, []string{flagRU, flagKZ}},
		{"tag flag", "ab" + england, 8, message.UnitRunes, []string{"ab", england}},
		{"skin tone", "aaa👍🏽", 4, message.UnitRunes, []string{"aaa", "👍🏽"}},
		{"marks", "abe\u0301", 3, message.UnitRunes, []string{"ab", "e\u0301"}},
		{"character over the limit", "e\u0301\u0301\u0301", 2, message.UnitRunes, []string{"e\u0301", "\u0301\u0301"}},
		{"code point over the limit", "😀a", 1, message.UnitUTF16, []string{"😀", "a"}},
		{"white space only", strings.Repeat(" ", 9), 4, message.UnitRunes, []string{"    "}},
		{"rtl", "שלום עולם", 5, message.UnitRunes, []string{"שלום", "עולם"}},
		{"invalid utf-8", "\xff\xfe\xfd", 2, message.UnitUTF16, []string{"\xff\xfe", "\xfd"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := channels.SplitText(c.text, c.limit, c.unit)
			if !slices.Equal(got, c.want) {
				t.Errorf("SplitText(%q, %d, %s) = %q, want %q", c.text, c.limit, c.unit, got, c.want)
			}
		})
	}
}

func TestSplitTextIsLinear(t *testing.T) {
	t.Parallel()
	// A megabyte of one character, and of spaces between letters: quadratic
	// work would take minutes.
	for _, text := range []string{
		"e" + strings.Repeat("\u0301", 1<<20),
		"a" + strings.Repeat(" ", 1<<20) + "b",
		strings.Repeat("🇷", 1<<18),
		strings.Repeat("\"", 1<<16) + strings.Repeat(" \"", 1<<16),
	} {
		if n := len(channels.SplitText(text, 4096, message.UnitUTF16)); n == 0 {
			t.Error("no pieces")
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{
		"", "hello world", "a\n\nb\nc. d e", "😀👩\u200d👩\u200d👧🇷🇺🇰🇿e\u0301", "Да. Нет! «Что?» 。x", "\xff \xfe", strings.Repeat(" ", 20),
		"한국어 \u1112\u1161\u11ab", "שלום עולם", "a\r\n\r\nb",
	} {
		f.Add(s, 5, uint8(0))
		f.Add(s, 1, uint8(1))
		f.Add(s, 17, uint8(2))
	}
	units := []message.Unit{message.UnitUTF16, message.UnitRunes, message.UnitBytes}
	f.Fuzz(func(t *testing.T, text string, limit int, u uint8) {
		unit := units[int(u)%len(units)]
		pieces := channels.SplitText(text, limit, unit)
		if text == "" {
			if pieces != nil {
				t.Fatalf("pieces of an empty text: %q", pieces)
			}
			return
		}
		if limit <= 0 || unit.Count(text) <= limit {
			if len(pieces) != 1 || pieces[0] != text {
				t.Fatalf("a text that fits was changed: %q -> %q", text, pieces)
			}
			return
		}
		var got strings.Builder
		for _, p := range pieces {
			got.WriteString(solid(p))
		}
		if got.String() != solid(text) {
			t.Fatalf("lost something: %q -> %q", text, pieces)
		}
		at := 0
		for i, p := range pieces {
			if p == "" {
				t.Fatalf("empty piece %d of %q", i, pieces)
			}
			if n := unit.Count(p); n > limit && utf8.RuneCountInString(p) > 1 {
				t.Fatalf("piece %d has %d %s, limit %d: %q", i, n, unit, limit, p)
			}
			if !utf8.ValidString(text) {
				continue // pieces can't be found again among stray bytes
			}
			where := strings.Index(text[at:], p)
			if where < 0 {
				t.Fatalf("piece %d %q is not in the text after %d", i, p, at)
			}
			if gap := text[at : at+where]; solid(gap) != "" {
				t.Fatalf("between pieces %d and %d: %q is lost", i-1, i, gap)
			}
			at += where + len(p)
			if i > 0 {
				first, _ := utf8.DecodeRuneInString(p)
				if unicode.In(first, unicode.M) && where == 0 && unit.Count(pieces[i-1]) < limit-8 {
					t.Fatalf("cut before a mark with room left: %q | %q", pieces[i-1], p)
				}
			}
		}
		// Two neighbours never fit into one piece unless the first was cut at a
		// good place, which fills half of it: the number of pieces is bounded.
		if most := 4*unit.Count(text)/limit + 2; unit.Count(text) >= limit && len(pieces) > most && limit >= 4 {
			t.Fatalf("%d pieces of %d units with limit %d", len(pieces), unit.Count(text), limit)
		}
	})
}

// solid is text without white space.
func solid(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if !unicode.IsSpace(r) {
			b.WriteString(text[:size])
		}
		text = text[size:]
	}
	return b.String()
}
