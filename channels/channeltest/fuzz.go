package channeltest

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"switchboard/channels"
)

// FuzzSplit fuzzes the cutting of callbacks, seeded with the golden inputs: the keys
// can be stored, what Decode makes of a piece belongs to the lane that Split chose
// for it, and the input stays as it was.
func FuzzSplit(f *testing.F, c Case) {
	if c.Dir == "" {
		c.Dir = "testdata"
	}
	ch := c.open(f, NewPlatform(f, nil))
	hooks, ok := ch.(channels.Webhooks)
	if !ok {
		f.Fatal("the platform has no callbacks")
	}
	known := names{}
	for _, raw := range c.inputs(f) {
		known.add(parse(raw))
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		updates, err := hooks.Split(raw)
		if err != nil && len(updates) > 0 {
			t.Error("updates beside an error")
		}
		for _, u := range updates {
			switch {
			case u.DedupKey == "" || len(u.DedupKey) > 256:
				t.Errorf("dedup key of %d bytes", len(u.DedupKey))
			case strings.ContainsRune(u.DedupKey+u.ChatKey, 0) || !utf8.ValidString(u.DedupKey+u.ChatKey):
				t.Errorf("keys that a database can't store: %q %q", u.DedupKey, u.ChatKey)
			}
			// The lane is chosen by Split and filled by Decode. A name in another case,
			// or with an escape in it, is taken by encoding/json alone; platforms write
			// theirs in one way.
			decoded, err := ch.Decode(u.Raw)
			if err != nil || bytes.ContainsRune(u.Raw, '\\') || known.misspelt(parse(u.Raw)) {
				continue
			}
			for i := range decoded {
				if decoded[i].Chat != "" && decoded[i].Chat != u.ChatKey {
					t.Errorf("chat %q goes to the lane of %q", decoded[i].Chat, u.ChatKey)
				}
			}
		}
		hooks.Reply(raw)
		if !bytes.Equal(raw, before) {
			t.Error("the input was changed")
		}
	})
}

// names are the names of members, by what encoding/json takes for equal.
type names map[string]string

func (n names) add(tree any) {
	n.walk(tree, func(name string) bool { n[strings.ToLower(name)] = name; return true })
}

// misspelt reports whether a known name is there in another spelling.
func (n names) misspelt(tree any) bool {
	return !n.walk(tree, func(name string) bool {
		right, ok := n[strings.ToLower(name)]
		return !ok || right == name
	})
}

func (n names) walk(tree any, ok func(name string) bool) bool {
	switch v := tree.(type) {
	case map[string]any:
		for name, member := range v {
			if !ok(name) || !n.walk(member, ok) {
				return false
			}
		}
	case []any:
		for _, member := range v {
			if !n.walk(member, ok) {
				return false
			}
		}
	}
	return true
}
