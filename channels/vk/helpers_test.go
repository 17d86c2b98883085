package vk

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"switchboard/channels"
	"switchboard/channels/channeltest"
	"switchboard/message"
)

func form(r *channeltest.Request) url.Values {
	v, _ := url.ParseQuery(string(r.Body))
	return v
}

func openWith(t testing.TB, more map[string]string) *channel {
	t.Helper()
	all := settings()
	for k, v := range more {
		all[k] = v
	}
	c, err := open(channels.Account{ID: "acc1", Platform: name, Settings: all}, channels.Env{PublicURL: "https://gateway.example"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// openAt opens the account against a platform of the test.
func openAt(t testing.TB, p *channeltest.Platform) *channel {
	t.Helper()
	cs := testCase()
	c, err := open(p.Account(&cs, nil), p.Env())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sendFirst sends the first part of a message.
func sendFirst(t testing.TB, c *channel, o message.Outbound) error {
	t.Helper()
	o.ID, o.Chat = "0198c0de-0000-7000-8000-000000000001", testPeer
	parts, err := c.Plan(&o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Send(t.Context(), &parts[0])
	return err
}

// The plan loses nothing of a text, whatever it is.
func FuzzPlan(f *testing.F) {
	f.Add("hello", "😀")
	f.Fuzz(func(t *testing.T, s, other string) {
		c := openWith(t, nil)
		content := message.Content{Kind: message.KindText, Text: s + other}
		parts, err := c.Plan(&message.Outbound{Content: content})
		if err != nil {
			return
		}
		for i := range parts {
			if n := unitOf.Count(parts[i].Text); n > maxText || n == 0 {
				t.Errorf("part %d of %d has %d characters", i, len(parts), n)
			}
		}
	})
}

// What Split finds is what Decode finds: the chat of an update is its lane's.
func FuzzSplit(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.in.json")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	c := openWith(f, nil)
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		updates, err := c.Split(raw)
		if err != nil && len(updates) > 0 {
			t.Error("updates beside an error")
		}
		polled := rawUpdates([]json.RawMessage{raw})
		for i, u := range updates {
			switch {
			case u.DedupKey == "" || len(u.DedupKey) > 256:
				t.Errorf("dedup key of %d bytes", len(u.DedupKey))
			case u.DedupKey != polled[i].DedupKey || u.ChatKey != polled[i].ChatKey:
				t.Errorf("%q of %q by callback, %q of %q by long poll", u.DedupKey, u.ChatKey, polled[i].DedupKey, polled[i].ChatKey)
			case !bytes.Equal(u.Raw, raw):
				t.Error("raw is not the event")
			}
			// Decode takes names in any case, as encoding/json does; VK writes one.
			if !bytes.Equal(bytes.ToLower(raw), raw) {
				continue
			}
			decoded, err := c.Decode(raw)
			if err != nil {
				continue
			}
			for i := range decoded {
				if decoded[i].Chat != "" && decoded[i].Chat != u.ChatKey {
					t.Errorf("chat %q goes to the lane of %q", decoded[i].Chat, u.ChatKey)
				}
			}
		}
		if !bytes.Equal(raw, before) {
			t.Error("the input was changed")
		}
	})
}
