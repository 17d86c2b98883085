package channels

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"switchboard/message"
)

// SplitText cuts text into pieces of at most limit units, in order.
//
// A text that fits (or limit <= 0) comes back whole and untouched; an empty
// text gives nil. Otherwise nothing but white space is lost: the white space
// around the whole text and the white space at each cut. Everything else is in
// the pieces, in order, and no piece is empty.
//
// Cuts are made at the best place available: between paragraphs, lines or
// sentences if that fills at least half of the piece, else between words, else
// between characters as a reader sees them: never inside a surrogate pair, a
// letter with its marks, a joined emoji or a flag. Only a character that alone
// exceeds the limit is cut, between its code points, and only a code point that
// alone exceeds the limit makes a piece that does.
func SplitText(text string, limit int, unit message.Unit) []string {
	if text == "" {
		return nil
	}
	if limit <= 0 || unit.Count(text) <= limit {
		return []string{text}
	}
	rest := strings.TrimFunc(text, breakable)
	if rest == "" {
		// White space only: nothing to show, but a message stays a message.
		end, _ := cut(text, limit, unit)
		return []string{text[:end]}
	}
	var pieces []string
	for {
		end, next := cut(rest, limit, unit)
		pieces = append(pieces, rest[:end])
		rest = rest[next:]
		if rest == "" {
			return pieces
		}
	}
}

// quality orders the places where a text may be cut.
type quality int

const (
	atWord quality = iota
	atSentence
	atLine
	atParagraph
	qualities
)

// cut finds the first piece s[:end] and the start of the rest s[next:]. Both
// are len(s) when s fits.
func cut(s string, limit int, unit message.Unit) (end, next int) {
	type place struct{ end, next int }
	var (
		best     [qualities]place // end 0: none found
		boundary int              // last place between two characters
		count    int              // units in s[:i]
		prev     rune
		flags    int  // regional indicators right before i
		inSpace  bool // s[i-1] is white space
	)
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		space := breakable(r)
		if i > 0 && !joined(prev, r, flags) {
			boundary = i
			switch {
			case space && !inSpace:
				stop, q := spaceRun(s, i, prev)
				if 2*count < limit {
					q = atWord // too early to be worth the short piece
				}
				best[q] = place{i, stop}
			case !space && fullStop(prev) && 2*count >= limit:
				best[atSentence] = place{i, i}
			}
		}
		units := unit.Count(s[i : i+size])
		if count+units > limit {
			for q := atParagraph; q >= atWord; q-- {
				if best[q].end > 0 {
					return best[q].end, best[q].next
				}
			}
			if boundary > 0 {
				return boundary, boundary
			}
			if i == 0 {
				i = size
			}
			return i, i
		}
		count += units
		i += size
		prev, inSpace = r, space
		if isFlag(r) {
			flags++
		} else {
			flags = 0
		}
	}
	return len(s), len(s)
}

// spaceRun measures the white space that starts at i, after the rune prev.
func spaceRun(s string, i int, prev rune) (stop int, q quality) {
	lines := 0
	for stop = i; stop < len(s); {
		r, size := utf8.DecodeRuneInString(s[stop:])
		if !breakable(r) {
			break
		}
		switch r {
		case '\n', '\u2028':
			lines++
		case '\u2029':
			lines += 2
		}
		stop += size
	}
	switch {
	case lines > 1:
		return stop, atParagraph
	case lines == 1:
		return stop, atLine
	}
	// A sentence may end in a closing quote or bracket: "Really?" he said.
	before := strings.TrimRightFunc(s[:i], func(r rune) bool { return strings.ContainsRune("\"'»”’)]", r) })
	if before != s[:i] {
		prev, _ = utf8.DecodeLastRuneInString(before)
	}
	if strings.ContainsRune(".!?…", prev) || fullStop(prev) {
		return stop, atSentence
	}
	return stop, atWord
}

// breakable is white space at which a line may be broken: "10 000 ₽" with
// no-break spaces is one word.
func breakable(r rune) bool {
	switch r {
	case '\u00a0', '\u2007', '\u202f':
		return false
	}
	return unicode.IsSpace(r)
}

// fullStop ends a sentence without any white space after it.
func fullStop(r rune) bool { return r == '。' || r == '！' || r == '？' }

// joined reports whether a reader sees prev and r as parts of one character.
// flags is the number of regional indicators up to and including prev. It is
// the rule of Unicode's extended grapheme clusters as far as it matters for
// chats: marks, joiners, skin tones, tags, flags, Korean letters, CR LF.
func joined(prev, r rune, flags int) bool {
	const zwnj, zwj = '\u200c', '\u200d'
	switch {
	case prev == '\r' && r == '\n', prev == zwj && !breakable(r):
		return true
	case r == zwj, r == zwnj, unicode.In(r, unicode.M):
		return true
	case r >= 0x1F3FB && r <= 0x1F3FF: // skin tones
		return true
	case r >= 0xE0020 && r <= 0xE007F: // tags: the flags of England, Scotland, Wales
		return true
	case r >= 0x1160 && r <= 0x11FF, r >= 0xD7B0 && r <= 0xD7FB, r == 0xFF9E, r == 0xFF9F: // vowels and finals of Korean; sound marks of Japanese
		return true
	case isFlag(r):
		return flags%2 == 1
	}
	return false
}

func isFlag(r rune) bool { return r >= 0x1F1E6 && r <= 0x1F1FF }
