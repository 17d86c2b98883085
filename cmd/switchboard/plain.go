package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// plainWriter shows what would command a terminal, or turn the direction of
// writing, as \u and its number. Names and errors come from customers and
// platforms.
type plainWriter struct{ w io.Writer }

// Write implements io.Writer.
func (p *plainWriter) Write(b []byte) (int, error) {
	text := string(b)
	if strings.ContainsFunc(text, unprintable) {
		var out strings.Builder
		for _, r := range text {
			if unprintable(r) {
				fmt.Fprintf(&out, `\u%04x`, r)
			} else {
				out.WriteRune(r)
			}
		}
		text = out.String()
	}
	if _, err := io.WriteString(p.w, text); err != nil {
		return 0, err
	}
	return len(b), nil
}

// joiner is inside of emoji.
const joiner = 0x200d

func unprintable(r rune) bool {
	return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) && r != joiner || r == unicode.ReplacementChar)
}
