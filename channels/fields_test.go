package channels_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"switchboard/channels"
)

// Fields sees what encoding/json sees.
func FuzzFields(f *testing.F) {
	for _, s := range []string{`{}`, ` { "a" : 1 , "b":"x\"}{,","c":{"d":[1,{"e":"]"}]},"d":null}`, `{"a":-1.5e3}`, `{"a":true,"a":false}`, `[1]`, `"x"`, ``, `{`, `{"a`, `{"a":`, `{"a":[`, `{"a\\":"\\"}`, `{"a":1}x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want map[string]json.RawMessage
		err := json.Unmarshal(raw, &want)
		valid := err == nil && want != nil
		if got := channels.CheckObject(raw) == nil; got != valid {
			t.Fatalf("%q: valid %v, want %v", raw, got, valid)
		}
		got := map[string][]byte{}
		channels.Fields(raw, func(name, value []byte) {
			var s string
			if json.Unmarshal(append(append([]byte{'"'}, name...), '"'), &s) == nil {
				got[s] = value
			}
		})
		if !valid {
			return // it had only to end
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %q, want %q", raw, got, want)
		}
		for name, value := range want {
			if !bytes.Equal(got[name], value) {
				t.Errorf("%q: %q = %q, want %q", raw, name, got[name], value)
			}
		}
	})
}
