package channels_test

import (
	"testing"

	"switchboard/channels"
)

func TestLenient(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]struct {
		scalar channels.Scalar
		n      int64
		text   channels.Text
	}{
		`{"s":18446744073709551615,"t":"x"}`:          {"18446744073709551615", 0, "x"},
		`{"s":"5881234567890123456","t":5}`:           {"5881234567890123456", 5881234567890123456, ""},
		`{"s":"a\/b\u003d\u0000","t":"при\u0000вет"}`: {"a/b=", 0, "привет"},
		`{"s":-7,"t":null}`:                           {"-7", -7, ""},
		`{"s":["x"],"t":{}}`:                          {"", 0, ""},
		`{"s":true,"other":[]}`:                       {"", 0, ""},
	} {
		var got struct {
			S     channels.Scalar
			T     channels.Text
			Other string
		}
		if err := channels.DecodeLenient([]byte(raw), &got); err != nil || got.S != want.scalar || got.S.Int() != want.n || got.T != want.text {
			t.Errorf("%s: %q %d %q, %v; want %+v", raw, got.S, got.S.Int(), got.T, err, want)
		}
	}
	for _, raw := range []string{``, `[]`, `{`, `"x"`, `{}{}`} {
		if err := channels.DecodeLenient([]byte(raw), &struct{}{}); err == nil {
			t.Errorf("%q was taken", raw)
		}
	}
}

// Fields hands over what is there of a document that is cut off.
func TestScalarCutOff(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{``, `"`, `"x`, `"\`} {
		s := channels.Scalar("before")
		if err := s.UnmarshalJSON([]byte(raw)); err != nil || s != "" {
			t.Errorf("%q: %q %v", raw, s, err)
		}
	}
}
