package viber

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"switchboard/channels"
	"switchboard/channels/channeltest"
)

func openWith(t testing.TB, more map[string]string) *channel {
	t.Helper()
	s := settings()
	for k, v := range more {
		s[k] = v
	}
	p := channeltest.NewPlatform(t, viberAnswer)
	if s["api_base"] == "" {
		s["api_base"] = p.URL
	}
	c, err := open(channels.Account{ID: "acc1", Platform: "viber", Settings: s}, p.Env())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestVerifyTellsMissingFromWrong(t *testing.T) {
	t.Parallel()
	c := openWith(t, nil)
	missing := c.Verify(http.Header{}, nil, []byte(body1))
	if !errors.Is(missing, channels.ErrNoSignature) || !strings.Contains(missing.Error(), signatureHeader) {
		t.Errorf("missing: %v", missing)
	}
	wrong := c.Verify(http.Header{signatureHeader: {sig2}}, nil, []byte(body1))
	if wrong == nil || errors.Is(wrong, channels.ErrNoSignature) {
		t.Errorf("wrong: %v", wrong)
	}
	other := openWith(t, map[string]string{"token": "another"})
	if err := other.Verify(http.Header{signatureHeader: {sig1}}, nil, []byte(body1)); err == nil {
		t.Error("another bot's signature is taken")
	}
	// The keyed hashes are shared: many at once must not disturb each other.
	done := make(chan error)
	for i := range 8 {
		body, sig := body1, sig1
		if i%2 == 1 {
			body, sig = body2, sig2
		}
		go func() {
			var err error
			for range 200 {
				err = errors.Join(err, c.Verify(http.Header{signatureHeader: {sig}}, nil, []byte(body)))
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	c := openWith(t, nil)
	const user = `"user_id":"U=="`
	for _, row := range []struct{ name, raw, dedup, chat string }{
		{"message", `{"event":"message","message_token":18446744073709551615,"sender":{"id":"U=="}}`, "m:18446744073709551615", "U=="},
		{"token as text", `{"event":"message","message_token":"18446744073709551615","sender":{"id":"U=="}}`, "m:18446744073709551615", "U=="},
		{"escaped id", `{"event":"message","message_token":1,"sender":{"id":"a\/b+\u003d="}}`, "m:1", "a/b+=="},
		{"id as number", `{"event":"message","message_token":1,"sender":{"id":17}}`, "m:1", "17"},
		{"delivered", `{"event":"delivered","message_token":2,` + user + `}`, "delivered:2:U==", "U=="},
		{"delivered to a second device", `{"event":"delivered","timestamp":9,"message_token":2,` + user + `}`, "delivered:2:U==", "U=="},
		{"seen", `{"event":"seen","message_token":2,` + user + `}`, "seen:2:U==", "U=="},
		{"failed", `{"event":"failed","message_token":2,` + user + `}`, "failed:2:U==", "U=="},
		{"started", `{"event":"conversation_started","message_token":3,"user":{"id":"U=="}}`, "conversation_started:3", "U=="},
		{"subscribed", `{"event":"subscribed","message_token":4,"user":{"id":"U=="}}`, "subscribed:4", "U=="},
		{"unsubscribed", `{"event":"unsubscribed","message_token":5,` + user + `}`, "unsubscribed:5", "U=="},
		{"unknown event", `{"event":"client_status","message_token":6,` + user + `}`, "client_status:6:U==", "U=="},
		{"odd fields", `{"event":"message","timestamp":[],"message_token":7,"user":3,"sender":{"id":"U=="},"silent":"x"}`, "m:7", "U=="},
	} {
		got, err := c.Split([]byte(row.raw))
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %d updates, %v", row.name, len(got), err)
			continue
		}
		if got[0].DedupKey != row.dedup || got[0].ChatKey != row.chat || string(got[0].Raw) != row.raw {
			t.Errorf("%s: %q of %q, want %q of %q", row.name, got[0].DedupKey, got[0].ChatKey, row.dedup, row.chat)
		}
	}
	for _, raw := range []string{
		body1, `{"event":"webhook"}`, `{}`, `{"event":"maintenance","message_token":1}`,
		`{"event":"message","message_token":1,"sender":{"id":"U=="},"chat_id":"g"}`,
	} {
		if got, err := c.Split([]byte(raw)); err != nil || len(got) != 0 {
			t.Errorf("%s: %d updates, %v; want none", raw, len(got), err)
		}
	}
	for _, raw := range []string{``, `null`, `[]`, `"x"`, `{`, `{"event":"message"`, `{} {}`, `event=message`} {
		if _, err := c.Split([]byte(raw)); err == nil {
			t.Errorf("%q is taken for Viber's JSON", raw)
		}
	}
	// Without a usable token the bytes tell deliveries apart.
	keys := map[string]bool{}
	for _, token := range []string{`-1`, `1.5`, `1e3`, `null`, `184467440737095516150`, `"` + strings.Repeat("9", 5000) + `"`} {
		raw := `{"event":"message","message_token":` + token + `,"sender":{"id":"U=="}}`
		got, err := c.Split([]byte(raw))
		if err != nil || len(got) != 1 || !strings.HasPrefix(got[0].DedupKey, "raw:") || keys[got[0].DedupKey] {
			t.Errorf("token %.20s: %v %v", token, got, err)
			continue
		}
		keys[got[0].DedupKey] = true
	}
	long := `{"event":"` + strings.Repeat("e", 5000) + `","message_token":1,` + user + `}`
	if got, err := c.Split([]byte(long)); err != nil || len(got) != 1 || len(got[0].DedupKey) > 256 {
		t.Errorf("a long event makes a long key: %v", err)
	}
}

func TestReply(t *testing.T) {
	t.Parallel()
	started := []byte(`{"event":"conversation_started","message_token":1,"user":{"id":"U=="},"subscribed":false}`)
	c := openWith(t, map[string]string{
		"welcome":          `Hello & <welcome>!`,
		"welcome_keyboard": `{"kind":"reply","rows":[[{"text":"Start <now>","payload":"start"},{"text":"My number","action":"phone"}]]}`,
	})
	want := `{"min_api_version":3,"sender":{"name":"Example Shop","avatar":"https://cdn.example.com/shop.png"},"type":"text","text":"Hello & <welcome>!",` +
		`"keyboard":{"Type":"keyboard","Buttons":[{"Columns":3,"Rows":1,"ActionType":"reply","ActionBody":"sb:start\nStart <now>","Text":"Start &lt;now&gt;","Silent":true},` +
		`{"Columns":3,"Rows":1,"ActionType":"share-phone","ActionBody":"` + c.phoneMark + `","Text":"My number"}]}}`
	r := c.Reply(started)
	if r.ContentType != "application/json" || string(r.Body) != want {
		t.Errorf("got  %s %s\nwant %s", r.ContentType, r.Body, want)
	}
	r.Body[0] = 'x' // a caller's business
	if again := c.Reply(started); string(again.Body) != want {
		t.Error("a reply shares its bytes with the next")
	}
	for name, raw := range map[string]string{
		"subscribed already": `{"event":"conversation_started","message_token":1,"user":{"id":"U=="},"subscribed":true}`,
		"a text about it":    `{"event":"message","message_token":1,"sender":{"id":"U=="},"message":{"type":"text","text":"conversation_started"}}`,
		"the check":          body1,
		"nonsense":           `conversation_started`,
	} {
		if r := c.Reply([]byte(raw)); r.Body != nil || r.ContentType != "" {
			t.Errorf("%s is answered with %s", name, r.Body)
		}
	}
	if r := openWith(t, nil).Reply(started); r.Body != nil {
		t.Errorf("without the setting: %s", r.Body)
	}
}

func TestWelcomeSettings(t *testing.T) {
	t.Parallel()
	for name, keyboard := range map[string]string{
		"no JSON":        `{`,
		"unknown field":  `{"kind":"reply","colour":"red","rows":[[{"text":"x"}]]}`,
		"inline":         `{"kind":"inline","rows":[[{"text":"x"}]]}`,
		"no rows":        `{"kind":"reply"}`,
		"seven in a row": `{"kind":"reply","rows":[[{"text":"1"},{"text":"2"},{"text":"3"},{"text":"4"},{"text":"5"},{"text":"6"},{"text":"7"}]]}`,
		"a list":         `[]`,
	} {
		s := settings()
		s["welcome"], s["welcome_keyboard"] = "Hello", keyboard
		_, err := open(channels.Account{ID: "a", Settings: s}, channels.Env{})
		if err == nil || !strings.Contains(err.Error(), "welcome_keyboard") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBase(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                            "https://chatapi.viber.com/pa",
		"http://127.0.0.1:8099":       "http://127.0.0.1:8099/pa",
		"http://127.0.0.1:8099/":      "http://127.0.0.1:8099/pa",
		"https://proxy.example/pa/":   "https://proxy.example/pa",
		"https://proxy.example/viber": "https://proxy.example/viber/pa",
	} {
		s := settings()
		s["api_base"] = in
		c, err := open(channels.Account{ID: "a", Settings: s}, channels.Env{})
		if err != nil || c.base != want {
			t.Errorf("%q: %v, %v", in, c, err)
		}
	}
	for _, in := range []string{"ftp://x/pa", "chatapi.viber.com/pa", "https://", "https://h/pa?x=1", "%"} {
		s := settings()
		s["api_base"] = in
		if _, err := open(channels.Account{ID: "a", Settings: s}, channels.Env{}); err == nil || !strings.Contains(err.Error(), "api_base") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzSplit(f *testing.F) { channeltest.FuzzSplit(f, testCase()) }

var hot = []byte(`{"event":"message","timestamp":1770000100123,"chat_hostname":"SN-CHAT-05_","message_token":5881234567890123456,"sender":{"id":"Zx9aBcD1eFgHiJkLmNoPqQ==","name":"Ann Example","avatar":"https://media-direct.cdn.viber.com/download_photo?dlid=abc","country":"LT","language":"en","api_version":10},"message":{"type":"text","text":"Where is my order?","tracking_data":"m:918273"},"silent":false}`)

func BenchmarkVerify(b *testing.B) {
	c := openWith(b, nil)
	header := http.Header{signatureHeader: {sig2}}
	raw := []byte(body2)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Verify(header, nil, raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSplit(b *testing.B) {
	c := openWith(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if updates, err := c.Split(hot); err != nil || len(updates) != 1 {
			b.Fatal(err)
		}
	}
}

func BenchmarkReply(b *testing.B) {
	c := openWith(b, map[string]string{"welcome": "Hello"})
	b.ReportAllocs()
	for b.Loop() {
		if r := c.Reply(hot); r.Body != nil {
			b.Fatal("a reply to a message")
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	c := openWith(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if updates, err := c.Decode(hot); err != nil || len(updates) != 1 {
			b.Fatal(err)
		}
	}
}
