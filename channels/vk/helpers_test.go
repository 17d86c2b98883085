package vk

import (
	"net/url"
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
