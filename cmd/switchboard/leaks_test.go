package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"switchboard"
	"switchboard/config"
	"switchboard/internal/dbtest"
	"switchboard/internal/secret"
	"switchboard/message"
	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

func simCustomer(name string) simulator.CustomerSpec { return simulator.CustomerSpec{FirstName: name} }

func gzipped(t *testing.T, size int) []byte {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(bytes.Repeat([]byte(" "), size)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// pad collects what is written, from anywhere.
type pad struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *pad) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *pad) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func debugLog(to io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// A busy run that logs everything, with platforms that fail and refuse, and every
// question an admin can ask: no secret, no word of a customer and no number in the
// log, no secret in an answer, and no line in the log that somebody else wrote.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	const (
		words   = "what-the-customer-said"
		forged  = "\nlevel=ERROR msg=forged\x1b[2J\u009b31m\u202e"
		phone   = "+79005551234"
		apiName = "name" + forged
	)
	logged, answered := &pad{}, &pad{}
	sim, base := simtest.Start(t)
	key := bytes.Repeat([]byte{5}, secret.KeySize)
	w := startLogging(t, debugLog(logged), sim, base, dbtest.URLOf(t), key, func(c *config.Config) { c.LogLevel = "debug" })

	secrets := map[string]string{"master key": base64.StdEncoding.EncodeToString(key), "telegram token": telegramToken, "viber token": viberToken}
	accounts := []string{w.account("telegram", telegramToken, nil), w.account("viber", viberToken, nil)}
	token := w.operator("root", switchboard.RoleAdmin)
	secrets["session"], secrets["password"] = token, "password of root"
	ask := func(method, path, body string) {
		status, header, answer := w.ask(method, path, token, body)
		fmt.Fprintln(answered, method, status, header, answer)
	}
	// Platforms that are not there, or don't know us.
	for platform, settings := range map[string]map[string]string{
		"telegram": {"token": "7000000009:AAhiddenTelegramToken0123456789abc", "secret": "hidden-telegram-hook"},
		"viber":    {"token": "5f1a2b3c4d5e6f70-hidden-viber-token00-0a1b2c3d4e5f6071", "sender_name": "S"},
		"vk":       {"token": "vk1.a.hidden-vk-token", "group_id": "1", "mode": "callback", "secret": "hidden_vk_secret", "confirmation": "c0nf1rm"},
		"ok":       {"token": "tkn0hiddenOK:HIDDEN0OK0TOKEN", "secret": "hiddenOKsecret0123456789"},
		"infobip":  {"api_key": "0hidden0infobip0key-01234567-89ab-cdef", "sender": "79001112233", "webhook_user": "u", "webhook_password": "hidden-infobip-password"},
		"mfms":     {"login": "l", "password": "hidden-mfms-password", "sender": "S", "webhook_user": "u", "webhook_password": "hidden-mfms-hook"},
	} {
		p, _ := w.sys.registry.Platform(platform)
		for _, s := range p.Settings {
			if v := settings[s.Key]; s.Secret && v != "" {
				secrets[platform+" "+s.Key] = v
			}
		}
		for _, api := range []string{"http://127.0.0.1:1/" + platform, base + "/" + platform} {
			all := maps.Clone(settings)
			all["api_base"] = api
			a, err := w.sys.admin.AddAccount(t.Context(), "test", platform, platform+forged, all)
			if err != nil {
				t.Fatalf("%s: %v", platform, err)
			}
			accounts = append(accounts, a.ID)
		}
	}
	var apikey struct{ Key string }
	w.rest("POST", "/api/v1/api-keys", token, map[string]string{"name": apiName}, 201, &apikey)
	secrets["API key"] = apikey.Key

	in := &inbound{w, token, w.connect(token, nil)}
	customer, err := sim.Telegram(telegramToken).NewCustomer(simCustomer("Eve" + forged))
	if err != nil {
		t.Fatal(err)
	}
	customer.SendText(words)
	chat := in.op.message("message", func(m *message.Message) bool { return m.Text == words }).ChatID
	in.op.call("chat.accept", map[string]any{"chat_id": chat}, nil)
	customer.SendPhoto(words + " picture")
	in.op.message("picture", func(m *message.Message) bool { return len(m.Files) == 1 && m.Files[0].State == message.FileReady })
	file := w.upload(token, "x.txt", []byte(words))
	in.op.send(map[string]any{"chat_id": chat, "client_id": "1", "kind": "document", "files": []string{file}})
	in.op.send(map[string]any{"chat_id": chat, "client_id": "2", "kind": "text", "text": words + forged})
	link, err := w.sys.files.Link(t.Context(), file, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, secrets["signature of a link"], _ = strings.Cut(link, "sig=")
	if status, _ := get(link, ""); status != 200 {
		t.Errorf("the signed link: %d", status)
	}
	// Poison, wrong signatures and passwords, odd paths, names and queries.
	if _, err := sim.Telegram(telegramToken).Inject(`{"message":{"message_id":1,"text":"` + words + `"}}`); err != nil {
		t.Fatal(err)
	}
	for _, id := range accounts {
		ask("GET", "/api/v1/accounts/"+id, "")
		ask("POST", "/api/v1/accounts/"+id+"/check", "")
		ask("GET", "/api/v1/accounts/"+id+"/capabilities", "")
		for _, platform := range []string{"telegram", "viber", "vk", "ok", "infobip", "mfms"} {
			ask("POST", "/webhooks/"+platform+"/"+id+"?secret=wrong%0Alevel=ERROR", `{"text":"`+words+`"}`)
		}
	}
	for _, path := range []string{"/api/v1/chats/%0Alevel=ERROR%20msg=forged", "/files/%1b%5b2J", "/%0alevel=ERROR", "/api/v1/chats?token=" + token, "/files/" + file + "?token=" + token, "/ws/v1?token=" + token} {
		ask("GET", path, "")
	}
	for _, login := range []string{"root", "no" + strings.ReplaceAll(forged, "\n", `\n`)} {
		_, _, answer := w.ask("POST", "/api/v1/sessions", "", `{"login":"`+strings.NewReplacer("\x1b", `\u001b`).Replace(login)+`","password":"wrong-password-of-somebody"}`)
		fmt.Fprintln(answered, answer)
	}
	secrets["wrong password"] = "wrong-password-of-somebody"
	w.rest("POST", "/api/v1/messages", apikey.Key, map[string]any{"account_id": accounts[0], "to": map[string]string{"phone": phone}, "text": words}, 422, nil)
	polled(t, "poison in quarantine", patience, func() bool {
		_, _, answer := w.ask("GET", "/api/v1/quarantine", token, "")
		return strings.Contains(answer, words)
	})
	for _, path := range []string{"accounts", "operators", "api-keys", "audit", "quarantine", "chats", "chats/" + chat, "chats/" + chat + "/messages", "customers?phone=%2B79005551234"} {
		ask("GET", "/api/v1/"+path, "")
	}
	// A while with accounts that can't be polled, and the end.
	polled(t, "a failed poll in the log", patience, func() bool { return strings.Contains(logged.String(), "poll failed") })
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}

	log, answers := logged.String(), answered.String()
	if !strings.Contains(log, "level=DEBUG") || len(answers) < 10_000 {
		t.Fatalf("the run was not busy: %d bytes of answers, log:\n%s", len(answers), log)
	}
	around := func(text, s string) string {
		i := strings.Index(text, s)
		return text[max(0, i-200):min(len(text), i+len(s)+100)]
	}
	for what, s := range secrets {
		if s == "" {
			t.Errorf("no %s to look for", what)
		} else if strings.Contains(log, s) {
			t.Errorf("%s in the log: %s", what, around(log, s))
		} else if strings.Contains(answers, s) {
			t.Errorf("%s in an answer: %s", what, around(answers, s))
		}
	}
	for what, s := range map[string]string{"a customer's words": words, "a phone": phone[1:], "a terminal's code": "\x1b", "a C1 code": "\u009b", "a mark of direction": "\u202e"} {
		if strings.Contains(log, s) {
			t.Errorf("%s in the log: %s", what, around(log, s))
		}
	}
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("a line that is not ours: %q", line)
		}
	}
}

// What others wrote can't take over the terminal of whoever lists it.
func TestCommandLineShowsNoCodes(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.account("telegram", telegramToken, nil)
	if _, err := w.sys.admin.AddOperator(t.Context(), "test", switchboard.Operator{Login: "eve", Name: "Eve\x1b]0;owned\x07\u009b2J\u202e\rroot", Role: switchboard.RoleOperator}, "password of eve"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sim.Telegram(telegramToken).Inject("{\"message\":{\"message_id\":1,\"text\":\"\u009b2J\u202eowned\"}}"); err != nil {
		t.Fatal(err)
	}
	token := w.operator("root", switchboard.RoleAdmin)
	var q struct{ Items []switchboard.Quarantined }
	polled(t, "poison in quarantine", patience, func() bool {
		w.rest("GET", "/api/v1/quarantine", token, nil, http.StatusOK, &q)
		return len(q.Items) == 1
	})
	for _, args := range [][]string{{"operator", "list"}, {"quarantine", "list"}, {"quarantine", "show", q.Items[0].ID}} {
		shown := w.command(0, nil, args...)
		if i := strings.IndexFunc(shown, func(r rune) bool { return r != '\n' && unprintable(r) }); i >= 0 || !strings.Contains(shown, "\\u") && args[1] != "list" {
			t.Errorf("%q shows %q", args, shown)
		}
	}
	var out bytes.Buffer
	if _, err := io.WriteString(&plainWriter{w: &out}, "a\tb\x1b\u009b\u202e\r\xff\xc2é\n"); err != nil || out.String() != "a\tb\\u001b\\u009b\\u202e\\u000d\\ufffd\\ufffdé\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
