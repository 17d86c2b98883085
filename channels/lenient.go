package channels

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// DecodeLenient reads one JSON object into v and lets fields of an unexpected
// type be empty: one odd field must not lose a customer's message.
func DecodeLenient(raw []byte, v any) error {
	if err := CheckObject(raw); err != nil {
		return err
	}
	err := json.Unmarshal(raw, v)
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return nil
	}
	return err
}

// Scalar is the text of a JSON string or number, exactly as written, whichever of
// the two a platform chose: ids go beyond 2^53. Everything else reads as "". NUL
// characters are left out, because a database's text can't hold them.
type Scalar string

// UnmarshalJSON never fails.
func (s *Scalar) UnmarshalJSON(b []byte) error {
	*s = ""
	switch {
	case len(b) == 0:
	case b[0] == '"':
		if isPlain(b) {
			*s = Scalar(b[1 : len(b)-1])
			return nil
		}
		var text string
		if err := json.Unmarshal(b, &text); err == nil {
			*s = Scalar(strings.ReplaceAll(text, "\x00", ""))
		}
	case b[0] == '-' || b[0] >= '0' && b[0] <= '9':
		*s = Scalar(b)
	}
	return nil
}

// Int is the number, or 0 where it isn't a whole 64-bit one.
func (s Scalar) Int() int64 {
	n, err := strconv.ParseInt(string(s), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// isPlain tells strings that mean what is written between the quotes.
func isPlain(b []byte) bool {
	if len(b) < 2 || b[len(b)-1] != '"' { // cut off
		return false
	}
	for _, x := range b {
		if x >= 0x80 {
			return false
		}
	}
	return bytes.IndexByte(b, '\\') < 0
}

// Text is a JSON string without NUL characters; any other value reads as "".
type Text string

// UnmarshalJSON never fails.
func (t *Text) UnmarshalJSON(b []byte) error {
	*t = ""
	var s string
	if len(b) > 0 && b[0] == '"' && json.Unmarshal(b, &s) == nil {
		*t = Text(strings.ReplaceAll(s, "\x00", ""))
	}
	return nil
}
