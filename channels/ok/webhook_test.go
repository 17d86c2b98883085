package ok

import (
	"errors"
	"strings"
	"testing"

	"switchboard/channels"
	"switchboard/channels/channeltest"
)

func TestVerifyTellsMissingFromWrong(t *testing.T) {
	t.Parallel()
	c := openAt(t, channeltest.NewPlatform(t, okAnswer))
	if err := c.Verify(nil, nil, nil); !errors.Is(err, channels.ErrNoSignature) {
		t.Errorf("missing: %v", err)
	}
	if err := c.Verify(nil, map[string][]string{"secret": {"wrong"}}, nil); err == nil || errors.Is(err, channels.ErrNoSignature) {
		t.Errorf("wrong: %v", err)
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	c := openAt(t, channeltest.NewPlatform(t, okAnswer))
	const to = `"sender":{"user_id":"user:1"},"recipient":{"chat_id":"chat:C1"}`
	for _, row := range []struct {
		name, raw, dedup, chat string
		order                  int64
	}{
		{"message", `{"webhookType":"MESSAGE_CREATED",` + to + `,"message":{"mid":"mid:C1.2","seq":9223372036854775807},"timestamp":5}`, "mid:C1.2", "chat:C1", 9223372036854775807},
		{"without seq", `{` + to + `,"message":{"mid":"mid:C1.2"},"timestamp":1770000000000}`, "mid:C1.2", "chat:C1", 1770000000000<<16 | 0xffff},
		{"seq as text", `{` + to + `,"message":{"mid":"mid:C1.2","seq":"98211023614189660"}}`, "mid:C1.2", "chat:C1", 98211023614189660},
		{"seq over 64 bits", `{` + to + `,"message":{"mid":"mid:C1.2","seq":98211023614189660000},"timestamp":-1}`, "mid:C1.2", "chat:C1", 0},
		{"press", `{"webhookType":"MESSAGE_CALLBACK",` + to + `,"mid":"mid:C1.2","callbackId":"cb"}`, "press:cb", "chat:C1", 0},
		{"escapes", `{"sender":{"user_id":"\u0075ser:1"},"message":{"mid":"mid:\/"}}`, "mid:/", "user:1", 0},
	} {
		got, err := c.Split([]byte(row.raw))
		if err != nil || len(got) != 1 || got[0].DedupKey != row.dedup || got[0].ChatKey != row.chat || got[0].Order != row.order || string(got[0].Raw) != row.raw {
			t.Errorf("%s: %+v %v", row.name, got, err)
		}
	}
	// Equal for a repeat, different for another event.
	keys := map[string]bool{}
	for _, raw := range []string{
		`{"webhookType":"CHAT_SYSTEM","type":"CHAT_STARTED",` + to + `,"timestamp":1}`, `{"webhookType":"CHAT_SYSTEM","type":"CHAT_STARTED",` + to + `,"timestamp":2}`,
		`{"webhookType":"CHAT_SYSTEM","type":"X",` + to + `,"timestamp":1}`, `{"webhookType":"CHAT_SYSTEM",` + to + `}`, `{"webhookType":"NEW",` + to + `}`,
		`{` + to + `,"message":{"mid":"` + strings.Repeat("m", 500) + `"}}`,
	} {
		one, err := c.Split([]byte(raw))
		two, err2 := c.Split([]byte(raw))
		if err != nil || err2 != nil || len(one) != 1 || one[0].DedupKey != two[0].DedupKey || keys[one[0].DedupKey] || len(one[0].DedupKey) > 256 {
			t.Errorf("%s: %+v %v", raw, one, err)
			continue
		}
		keys[one[0].DedupKey] = true
	}
	for _, raw := range []string{`{}`, `{"webhookType":"CHAT_SYSTEM"}`, `{"timestamp":1}`} {
		if got, err := c.Split([]byte(raw)); err != nil || len(got) != 0 {
			t.Errorf("%s: %d updates, %v; want none", raw, len(got), err)
		}
	}
	for _, raw := range []string{``, `null`, `[]`, `"x"`, `{`, `{"message":{"mid":"x"}`, `{} {}`, `message=x`} {
		if _, err := c.Split([]byte(raw)); err == nil {
			t.Errorf("%q is taken for OK's JSON", raw)
		}
	}
}

func FuzzSplit(f *testing.F) { channeltest.FuzzSplit(f, testCase()) }
