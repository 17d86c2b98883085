package vk

import (
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

func FuzzSplit(f *testing.F) { channeltest.FuzzSplit(f, testCase()) }

// An event has the same keys whichever way it comes.
func TestKeysOfBothWays(t *testing.T) {
	t.Parallel()
	c := openWith(t, nil)
	paths, err := filepath.Glob("testdata/*.in.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no events: %v", err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		called, err := c.Split(raw)
		if err != nil || len(called) == 0 {
			continue
		}
		polled := rawUpdates([]json.RawMessage{raw})
		if len(called) != 1 || len(polled) != 1 || called[0].DedupKey != polled[0].DedupKey || called[0].ChatKey != polled[0].ChatKey {
			t.Errorf("%s: %+v by callback, %+v by long poll", path, called, polled)
		}
	}
}
