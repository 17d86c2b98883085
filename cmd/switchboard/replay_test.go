package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"switchboard/message"
)

// For each platform: a callback without what proves its sender, with another's,
// and the true one, over and over, also spelled differently. Refused, refused, one
// message. What the schemes prove differs: Viber signs the body; the others send a
// secret along, so that whoever has seen one callback could write others.
func TestForgedAndReplayed(t *testing.T) {
	t.Parallel()
	w := start(t)
	in := lookOn(w)
	golden := func(path string) string {
		b, err := os.ReadFile("../../channels/" + path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	basic := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	query := func(q string) func(*http.Request) { return func(r *http.Request) { r.URL.RawQuery = q } }
	const vk = `{"type":"message_new","event_id":"e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1","v":"5.199","object":{"message":{"date":1770000100,"from_id":777,"id":5,"out":0,` +
		`"version":10000001,"attachments":[],"conversation_message_id":3,"fwd_messages":[],"important":false,"is_hidden":false,"peer_id":777,"random_id":0,"text":"from vk"},"client_info":{}},"group_id":123456789SECRET}`
	viber := viberCallback("5881234567890123456", "user", "from viber")
	const telegram = `{"update_id":700000001,"message":{"message_id":42,"from":{"id":77,"is_bot":false,"first_name":"A"},"chat":{"id":77,"first_name":"A","type":"private"},"date":1770000100,"text":"from telegram"}}`
	platforms := map[string]struct {
		settings          map[string]string
		body, text        string
		none, wrong, good func(*http.Request)
		inBody            map[string]string // the body's secret, for none, wrong and good
		signed            bool              // the body can't be written differently
	}{
		"telegram": {settings: map[string]string{"token": telegramToken, "mode": "webhook", "secret": "hook-secret"}, body: telegram, text: "from telegram",
			wrong: header("X-Telegram-Bot-Api-Secret-Token", "hook-secre"), good: header("X-Telegram-Bot-Api-Secret-Token", "hook-secret")},
		"viber": {settings: map[string]string{"token": viberToken, "sender_name": "S"}, body: viber, text: "from viber", signed: true,
			wrong: header("X-Viber-Content-Signature", sign(viber+" ")), good: header("X-Viber-Content-Signature", sign(viber))},
		"vk": {settings: map[string]string{"token": "vk1.a.token", "group_id": "123456789", "mode": "callback", "secret": "hook_secret", "confirmation": "abc123"}, body: vk, text: "from vk",
			inBody: map[string]string{"none": "", "wrong": `,"secret":"hook_secreT"`, "good": `,"secret":"hook_secret"`}},
		"ok": {settings: map[string]string{"token": "tkn0:KEY", "secret": "hookSecret0123456789"}, body: golden("ok/testdata/text.in.json"), text: "Добрый день",
			wrong: query("secret=hookSecret012345678"), good: query("secret=hookSecret0123456789")},
		"infobip": {settings: map[string]string{"api_key": "key", "sender": "79001112233", "webhook_user": "u", "webhook_password": "hook-password"}, body: golden("infobip/testdata/text.in.json"), text: "Where is my order?",
			wrong: basic("u", "hook-passwore"), good: basic("u", "hook-password")},
		"mfms": {settings: map[string]string{"login": "l", "password": "p", "sender": "ACME_WA", "webhook_user": "u", "webhook_password": "hook-password"}, body: golden("mfms/testdata/text.in.json"), text: "Where is my order?",
			wrong: basic("hook-password", "u"), good: basic("u", "hook-password")},
	}
	if len(platforms) != len(w.sys.registry.Platforms()) {
		t.Errorf("%d of %d platforms are tried", len(platforms), len(w.sys.registry.Platforms()))
	}
	for name, p := range platforms {
		t.Run(name, func(t *testing.T) {
			p.settings["api_base"] = "http://127.0.0.1:1"
			a, err := w.sys.admin.AddAccount(t.Context(), "test", name, name, p.settings)
			if err != nil {
				t.Fatal(err)
			}
			post := func(how string, spell func(string) string) int {
				body := spell(strings.Replace(p.body, "SECRET", p.inBody[how], 1))
				req, err := http.NewRequestWithContext(t.Context(), "POST", w.http+"/webhooks/"+name+"/"+a.ID, strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return 0
				}
				if prove := map[string]func(*http.Request){"none": p.none, "wrong": p.wrong, "good": p.good}[how]; prove != nil {
					prove(req)
				}
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return 0
				}
				defer res.Body.Close()
				_, _ = io.Copy(io.Discard, res.Body)
				return res.StatusCode
			}
			same := func(s string) string { return s }
			if got := post("none", same); got != 401 {
				t.Errorf("without a proof: %d, want 401", got)
			}
			if got := post("wrong", same); got != 403 {
				t.Errorf("with a wrong proof: %d, want 403", got)
			}
			spell := func(s string) string { return " " + strings.Replace(s, "{", "{ ", 1) + "\n" }
			if got := post("good", spell); p.signed && got != 403 {
				t.Errorf("signed, and spelled differently: %d, want 403", got)
			} else if !p.signed && got != 200 {
				t.Errorf("spelled differently: %d, want 200", got)
			}
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					if got := post("good", same); got != 200 {
						t.Errorf("the true one: %d, want 200", got)
					}
				})
			}
			all.Wait()
			m := in.op.in(t).message("the message", func(m *message.Message) bool { return m.AccountID == a.ID && m.Text == p.text })
			if got := post("good", same); got != 200 { // and once more when it is stored and shown
				t.Errorf("the last replay: %d, want 200", got)
			}
			// A replay is passed over where it would be stored, before it is answered.
			if h := in.history(m.ChatID); len(h) != 1 {
				t.Errorf("history = %s, want one message", asJSON(h))
			}
		})
	}
}
