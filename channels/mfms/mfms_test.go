package mfms

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/channels/channeltest"
	"switchboard/message"
)

const testChat = "79261234567"

func settings() map[string]string {
	return map[string]string{"login": "acme", "password": "s3cret of MFMS", "sender": "ACME_WA", "webhook_user": "switchboard", "webhook_password": "s3cret-pass"}
}

func basic(user string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(user))}}
}

// mfmsAnswer is MFMS when all is well.
func mfmsAnswer(r *channeltest.Request) channeltest.Response {
	if r.Method == http.MethodGet {
		return channeltest.Response{Body: `{"code":"error-not-found"}`}
	}
	id, _ := r.JSON()["id"].(string)
	return channeltest.Response{Body: `{"code":"ok","id":"` + id + `"}`}
}

func file(kind message.Kind, name, mime string, size int64) message.File {
	return message.File{ID: name, Kind: kind, Name: name, Mime: mime, Size: size, State: message.FileReady}
}

func check(ctx context.Context, ch channels.Channel) (any, error) { return ch.Check(ctx) }

func testCase() channeltest.Case {
	out := func(c message.Content) message.Outbound { return message.Outbound{Content: c} }
	files := func(kind message.Kind, text string, f ...message.File) message.Outbound {
		return out(message.Content{Kind: kind, Text: text, Files: f})
	}
	text := func(s string, k *message.Keyboard) message.Outbound {
		return out(message.Content{Kind: message.KindText, Text: s, Keyboard: k})
	}
	inline := func(rows ...[]message.KeyButton) *message.Keyboard {
		return &message.Keyboard{Kind: message.KeyboardInline, Rows: rows}
	}
	buttons := func(n int) (row []message.KeyButton) {
		for i := range n {
			row = append(row, message.KeyButton{Text: fmt.Sprint(i + 1), Payload: fmt.Sprint("p", i+1)})
		}
		return row
	}
	template := func(text string, k *message.Keyboard, parameters ...string) message.Outbound {
		return out(message.Content{Kind: message.KindTemplate, Text: text, Keyboard: k, Template: &message.Template{Name: "order_ready", Language: "ru", Parameters: parameters}})
	}
	picture := file(message.KindImage, "a.jpg", "image/jpeg", 5_000_000)
	withKeys := files(message.KindImage, "Which one?", picture)
	withKeys.Keyboard = inline(buttons(2))
	albumWithKeys := files(message.KindImage, "Which one?", picture, file(message.KindImage, "b.png", "image/png", 5))
	albumWithKeys.Keyboard = inline(buttons(2))
	voiceWithKeys := files(message.KindVoice, "Heard?", file(message.KindVoice, "v.ogg", "audio/ogg", 5))
	voiceWithKeys.Keyboard = inline(buttons(1))
	reply := text("Yes", nil)
	reply.ReplyTo = "77120"
	place := message.Content{Kind: message.KindLocation, Text: "Come here", Location: &message.Location{Lat: 0, Lon: -37.61, Title: "Shop", Address: "Tverskaya 1"}}
	c := channeltest.Case{
		Platform: Platform(), Settings: settings(), Chat: testChat, Customer: testChat, Answer: mfmsAnswer, PlainTexts: true,
		Sends: []channeltest.Send{
			{Name: "text", Out: text("Здравствуйте! Чем <помочь> & \"как\"? 😀", nil)},
			{Name: "keyboard", Out: text("Оцените", inline([]message.KeyButton{{Text: "Хорошо", Payload: "rate:5"}, {Text: "Без данных"}}, buttons(1)))},
			{Name: "keyboard_four", Out: text("no", inline(buttons(3), buttons(1))), Refused: message.RefusedLimit},
			{Name: "keyboard_wide", Out: text("no", inline(buttons(4))), Refused: message.RefusedLimit},
			{Name: "keyboard_title", Out: text("yes", inline([]message.KeyButton{{Text: strings.Repeat("я", 20), Payload: strings.Repeat("я", 256)}}))},
			{Name: "keyboard_long_title", Out: text("no", inline([]message.KeyButton{{Text: strings.Repeat("я", 21)}})), Refused: message.RefusedLimit},
			{Name: "keyboard_long_payload", Out: text("no", inline([]message.KeyButton{{Text: "x", Payload: strings.Repeat("я", 257)}})), Refused: message.RefusedLimit},
			{Name: "keyboard_reply", Out: text("no", &message.Keyboard{Kind: message.KeyboardReply, Rows: [][]message.KeyButton{buttons(1)}}), Refused: message.RefusedUnsupported},
			{Name: "keyboard_phone", Out: text("no", inline([]message.KeyButton{{Text: "Phone", Action: message.KeyPhone}})), Refused: message.RefusedUnsupported},
			{Name: "reply", Out: reply, Refused: message.RefusedUnsupported},
			{Name: "picture", Out: files(message.KindImage, "Фото товара", picture)},
			{Name: "picture_without_caption", Out: files(message.KindImage, "", picture)},
			{Name: "picture_large", Out: files(message.KindImage, "too fine", file(message.KindImage, "a.jpg", "image/jpeg", 5_000_001))},
			{Name: "picture_webp", Out: files(message.KindImage, "", file(message.KindImage, "a.webp", "image/webp", 17))},
			{Name: "picture_untyped", Out: files(message.KindImage, "", file(message.KindImage, "a.JPG", "", 17))},
			{Name: "picture_with_keyboard", Out: withKeys},
			{Name: "picture_too_large", Out: files(message.KindImage, "", file(message.KindImage, "a.jpg", "image/jpeg", 100_000_001)), Refused: message.RefusedLimit},
			{Name: "album", Out: files(message.KindImage, "Обе", picture, file(message.KindDocument, "b.pdf", "application/pdf", 5))},
			{Name: "album_with_keyboard", Out: albumWithKeys},
			{Name: "too_many_files", Out: files(message.KindImage, "", slices.Repeat([]message.File{picture}, 11)...), Refused: message.RefusedLimit},
			{Name: "video", Out: files(message.KindVideo, "How it works", file(message.KindVideo, "v.mp4", "video/mp4", 16_000_000))},
			{Name: "video_large", Out: files(message.KindVideo, "", file(message.KindVideo, "v.mp4", "video/mp4", 16_000_001))},
			{Name: "video_avi", Out: files(message.KindVideo, "", file(message.KindVideo, "v.avi", "video/x-msvideo", 5))},
			{Name: "document", Out: files(message.KindDocument, "Договор", file(message.KindDocument, "до\"го\\вор.pdf", "application/pdf", 100_000_000))},
			{Name: "document_long_name", Out: files(message.KindDocument, "", file(message.KindDocument, strings.Repeat("я", 80)+".pdf", "application/pdf", 5))},
			{Name: "document_nameless", Out: files(message.KindDocument, "", message.File{ID: "f1", Kind: message.KindDocument, Size: 5, State: message.FileReady})},
			{Name: "document_too_large", Out: files(message.KindDocument, "", file(message.KindDocument, "x.zip", "application/zip", 100_000_001)), Refused: message.RefusedLimit},
			{Name: "audio", Out: files(message.KindAudio, "Listen", file(message.KindAudio, "song.mp3", "audio/mpeg", 5))},
			{Name: "voice", Out: files(message.KindVoice, "", file(message.KindVoice, "voice.ogg", "audio/ogg; codecs=opus", 5))},
			{Name: "voice_with_keyboard", Out: voiceWithKeys},
			{Name: "location", Out: out(place)},
			{Name: "location_bare", Out: out(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 55.75, Lon: 37.61}})},
			{Name: "template", Out: template("Заказ {{1}} готов, {{2}}.", nil, "№ {{2}}", "Анна")},
			{Name: "template_with_keyboard", Out: template("Ready", inline([]message.KeyButton{{Text: "Thanks", Payload: "t"}, {Text: "Shop", Action: message.KeyURL, URL: "https://shop.example.com/?a=1&b=2"}}))},
			{Name: "sticker", Out: files(message.KindSticker, "", file(message.KindSticker, "s.webp", "image/webp", 5)), Refused: message.RefusedUnsupported},
			{Name: "contact", Out: out(message.Content{Kind: message.KindContact, Contact: &message.Contact{Phone: "+78000000000"}}), Refused: message.RefusedUnsupported},
			{Name: "too_long", Out: text(strings.Repeat("я", 40961), nil), Refused: message.RefusedLimit},
		},
		Calls: []channeltest.Call{
			{Name: "check_unauthorized", Do: check, Answer: func(*channeltest.Request) channeltest.Response {
				return channeltest.Response{Body: `{"code":"error-unauthorized"}`}
			}},
			{Name: "check_elsewhere", Do: check, Answer: func(*channeltest.Request) channeltest.Response {
				return channeltest.Response{Status: 404, Body: `<h1>nginx</h1>`}
			}},
			{Name: "check_known_message", Do: check, Answer: func(*channeltest.Request) channeltest.Response {
				return channeltest.Response{Body: `{"imOutMessageId":"x","dlvStatus":"sent"}`}
			}},
		},
		Verify: []channeltest.VerifyRow{
			{Name: "of the reference", Header: http.Header{"Authorization": {"Basic c3dpdGNoYm9hcmQ6czNjcmV0LXBhc3M="}}, Body: "{}", OK: true},
			{Name: "scheme in small letters", Header: http.Header{"Authorization": {"basic c3dpdGNoYm9hcmQ6czNjcmV0LXBhc3M="}}, Body: "{}", OK: true},
			{Name: "missing", Body: "{}"},
			{Name: "bearer", Header: http.Header{"Authorization": {"Bearer c3dpdGNoYm9hcmQ6czNjcmV0LXBhc3M="}}, Body: "{}"},
			{Name: "wrong password", Header: basic("switchboard:s3cret-pass2"), Body: "{}"},
			{Name: "wrong user", Header: basic("Switchboard:s3cret-pass"), Body: "{}"},
			{Name: "no password", Header: basic("switchboard"), Body: "{}"},
			{Name: "no base64", Header: http.Header{"Authorization": {"Basic switchboard:s3cret-pass"}}, Body: "{}"},
			{Name: "in the query", Query: map[string][]string{"webhook_password": {"s3cret-pass"}}, Body: "{}"},
		},
		Fetches: []channeltest.FetchRow{
			{Name: "picture", Ref: "{{api}}/f/9f", Answer: bytesOf("image/jpeg", "JPEG"), Body: "JPEG", Mime: "image/jpeg"},
			{Name: "named", Ref: "{{api}}/f/a.pdf", Answer: bytesOf("application/pdf", "PDF"), Body: "PDF", Mime: "application/pdf", FileName: "a.pdf"},
			{Name: "asks for the key", Ref: "{{api}}/f/a.pdf", Body: "PDF", Mime: "application/pdf", FileName: "a.pdf", Answer: func(r *channeltest.Request) channeltest.Response {
				if r.Header.Get("Authorization") == "" {
					return channeltest.Response{Status: 401}
				}
				return bytesOf("application/pdf", "PDF")(r)
			}},
			{Name: "gone", Ref: "{{api}}/f", Answer: func(*channeltest.Request) channeltest.Response { return channeltest.Response{Status: 410} }, Err: channels.ErrFileGone},
			{Name: "no address", Ref: "file:///etc/passwd", Err: channels.ErrFileGone},
		},
		Errors: []channeltest.ErrorRow{
			{Name: "unknown code", Response: channeltest.Response{Body: `{"code":"error-of-the-future"}`}, Want: message.Error{Kind: message.ErrInvalid, Code: "error-of-the-future", Detail: "unknown code"}},
			{Name: "code that repeats", Response: channeltest.Response{Body: `{"code":"чужая тайна 4711 +79161112233"}`}, Want: message.Error{Kind: message.ErrInvalid, Code: "unreadable", Detail: "unknown code"}},
			{Name: "code in capitals", Response: channeltest.Response{Body: `{"code":"ERROR-SYSTEM"}`}, Want: message.Error{Kind: message.ErrUnavailable, Code: "error-system"}},
			{Name: "code in HTTP 400", Response: channeltest.Response{Status: 400, Body: `{"code":"error-address-format"}`}, Want: message.Error{Kind: message.ErrRecipient, Code: "error-address-format"}},
			{Name: "code in the newer form", Response: channeltest.Response{Status: 400, Body: `{"title":"x","status":400,"detail":"matched-template-not-found"}`}, Want: message.Error{Kind: message.ErrInvalid, Code: "matched-template-not-found"}},
			{Name: "ok in HTTP 500", Response: channeltest.Response{Status: 500, Body: `{"code":"ok"}`}, Want: message.Error{Kind: message.ErrUncertain, Code: "500"}},
			{Name: "no code", Response: channeltest.Response{Body: `{}`}, Want: message.Error{Kind: message.ErrUncertain, Code: "200"}},
			{Name: "429", Response: channeltest.Response{Status: 429, Header: map[string]string{"Retry-After": "7"}}, Want: message.Error{Kind: message.ErrThrottled, Code: "429", RetryAfter: 7 * time.Second}},
			{Name: "429 with a code", Response: channeltest.Response{Status: 429, Header: map[string]string{"Retry-After": "7"}, Body: `{"code":"error-syntax"}`}, Want: message.Error{Kind: message.ErrThrottled, Code: "429", RetryAfter: 7 * time.Second}},
			{Name: "unknown code in HTTP 400", Response: channeltest.Response{Status: 400, Body: `{"detail":"future-is-not-now"}`}, Want: message.Error{Kind: message.ErrInvalid, Code: "future-is-not-now", Detail: "unknown code"}},
			{Name: "unknown fault of the address", Response: channeltest.Response{Body: `{"code":"error-address-of-the-future"}`}, Want: message.Error{Kind: message.ErrRecipient, Code: "error-address-of-the-future"}},
			{Name: "429 without time", Response: channeltest.Response{Status: 429}, Want: message.Error{Kind: message.ErrThrottled, Code: "429", RetryAfter: 5 * time.Second}},
			{Name: "401", Response: channeltest.Response{Status: 401}, Want: message.Error{Kind: message.ErrAccount, Code: "401"}},
			{Name: "403", Response: channeltest.Response{Status: 403}, Want: message.Error{Kind: message.ErrAccount, Code: "403"}},
			{Name: "400", Response: channeltest.Response{Status: 400}, Want: message.Error{Kind: message.ErrInvalid, Code: "400"}},
			{Name: "404", Response: channeltest.Response{Status: 404}, Want: message.Error{Kind: message.ErrInvalid, Code: "404"}},
			{Name: "405", Response: channeltest.Response{Status: 405}, Want: message.Error{Kind: message.ErrInvalid, Code: "405"}},
			{Name: "502", Response: channeltest.Response{Status: 502, Body: "<html>"}, Want: message.Error{Kind: message.ErrUncertain, Code: "502"}},
		},
		BadSettings: map[string]string{"api_base": "ftp://x", "sender": "A\nB", "login": "a:b", "webhook_user": "a:b", "webhook_password": " x", "password": "x\x00"},
	}
	// The classes by the reference, not by our table.
	for kind, codes := range map[message.ErrorKind]string{
		message.ErrUnavailable: "error-system error-system-blocked",
		message.ErrAccount:     "error-auth error-unauthorized error-account-locked error-permission error-insufficient-balance error-subject-unknown",
		message.ErrRecipient:   "error-address-format error-address-unknown error-address-not-specified not-whatsapp-user not-viber-user user-blocked",
		message.ErrInvalid: "error-syntax error-not-found error-subject-format error-subject-id-format error-subject-not-specified error-priority-format error-start-time-format " +
			"error-validity-period-seconds-format error-content-format error-content-type-format error-content-type-not-specified error-im-type-not-specified " +
			"error-attachment-url-not-specified error-latitude-not-specified error-longtitude-not-specified error-comment-format error-content-not-specified " +
			"error-instant-message-type-format error-type-not-specified error-resend-sms-error error-resend-sms-validity-period-error " +
			"error-instant-message-provider-id-format error-instant-message-provider-id-duplicate error-instant-message-provider-id-unknown not-template-match no-match-template",
	} {
		for _, code := range strings.Fields(codes) {
			c.Errors = append(c.Errors, channeltest.ErrorRow{Name: code, Response: channeltest.Response{Body: `{"code":"` + code + `"}`}, Want: message.Error{Kind: kind, Code: code}})
		}
	}
	return c
}

func bytesOf(mime, body string) func(*channeltest.Request) channeltest.Response {
	return func(*channeltest.Request) channeltest.Response {
		return channeltest.Response{Header: map[string]string{"Content-Type": mime}, Body: body}
	}
}

func TestMFMS(t *testing.T) {
	t.Parallel()
	channeltest.Run(t, testCase())
}

func FuzzDecode(f *testing.F) { channeltest.FuzzDecode(f, testCase()) }

func openWith(t testing.TB, p *channeltest.Platform, with map[string]string) *channel {
	t.Helper()
	tc := testCase()
	c, err := open(p.Account(&tc, with), p.Env())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func textTo(chat string) *message.Part {
	return &message.Part{Of: 1, Outbound: message.Outbound{ID: "0198c0de-0000-7000-8000-000000000001", Chat: chat, Content: message.Content{Kind: message.KindText, Text: "Hello"}}}
}

// Whoever repeats a message under its id gets told so, and that is a success.
func TestKnownAlready(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"error-id-not-unique", "error-instant-message-client-id-not-unique", "error-out-message-client-id-not-unique", "requestId-is-not-unique"} {
		for _, status := range []int{200, 400} {
			c := openWith(t, channeltest.NewPlatform(t, func(*channeltest.Request) channeltest.Response {
				return channeltest.Response{Status: status, Body: `{"code":"` + code + `"}`}
			}), nil)
			r, err := c.Send(t.Context(), textTo(testChat))
			if err != nil || len(r.IDs) != 1 || !strings.Contains(r.Note, strings.ToLower(code)) {
				t.Errorf("%s in %d: %+v %v", code, status, r, err)
			}
		}
	}
}

// What is left of the time to live is told, within MFMS's range.
func TestValidity(t *testing.T) {
	t.Parallel()
	p := channeltest.NewPlatform(t, mfmsAnswer)
	c := openWith(t, p, map[string]string{"ttl": "2h"})
	for _, row := range []struct {
		left     time.Duration // 0: not known
		min, max float64
	}{{0, 7200, 7200}, {time.Hour, 3590, 3600}, {48 * time.Hour, 86400, 86400}, {time.Second, 30, 30}, {-time.Hour, 30, 30}} {
		part := textTo(testChat)
		if row.left != 0 {
			part.ExpiresAt = time.Now().Add(row.left)
		}
		if _, err := c.Send(t.Context(), part); err != nil {
			t.Fatal(err)
		}
		if got := p.Requests()[0].JSON()["validityPeriodSeconds"].(float64); got < row.min || got > row.max {
			t.Errorf("%v left: %v seconds", row.left, got)
		}
	}
}

// Without a login the password is a key.
func TestKey(t *testing.T) {
	t.Parallel()
	p := channeltest.NewPlatform(t, mfmsAnswer)
	c := openWith(t, p, map[string]string{"login": "", "password": "k3y"})
	if _, err := c.Send(t.Context(), textTo(testChat)); err != nil {
		t.Fatal(err)
	}
	h := p.Requests()[0].Header
	if h.Get("X-API-KEY") != "k3y" || h.Get("Authorization") != "" {
		t.Errorf("headers %v", h)
	}
	tc := testCase()
	if _, err := open(p.Account(&tc, map[string]string{"login": "", "password": "with space"}), p.Env()); err == nil || !strings.Contains(err.Error(), "password") {
		t.Errorf("a key with a space: %v", err)
	}
}

func TestVerifyTellsMissingFromWrong(t *testing.T) {
	t.Parallel()
	c := openWith(t, channeltest.NewPlatform(t, nil), nil)
	if err := c.Verify(nil, nil, nil); !errors.Is(err, channels.ErrNoSignature) {
		t.Errorf("missing: %v", err)
	}
	if err := c.Verify(basic("switchboard:x"), nil, nil); err == nil || errors.Is(err, channels.ErrNoSignature) {
		t.Errorf("wrong: %v", err)
	}
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	c := openWith(t, channeltest.NewPlatform(t, nil), nil)
	keys := func(b message.KeyButton) *message.Keyboard {
		return &message.Keyboard{Kind: message.KeyboardInline, Rows: [][]message.KeyButton{{b}}}
	}
	press, link := keys(message.KeyButton{Text: "Yes"}), keys(message.KeyButton{Text: "Shop", Action: message.KeyURL, URL: "https://shop.example.com"})
	template := &message.Template{Name: "x", Parameters: []string{strings.Repeat("я", 1020)}}
	for _, row := range []struct {
		name string
		out  message.Outbound
		want message.RefusalCode
	}{
		{"chat with +", message.Outbound{Chat: "+79261234567", Content: message.Content{Kind: message.KindText, Text: "x"}}, message.RefusedInvalid},
		{"chat of another platform", message.Outbound{Chat: "user:1", Content: message.Content{Kind: message.KindText, Text: "x"}}, message.RefusedInvalid},
		{"link", message.Outbound{Content: message.Content{Kind: message.KindText, Text: "x", Keyboard: link}}, message.RefusedUnsupported},
		{"buttons without words", message.Outbound{Content: message.Content{Kind: message.KindImage, Files: []message.File{file(message.KindImage, "a.jpg", "image/jpeg", 5)}, Keyboard: press}}, message.RefusedUnsupported},
		{"template without text", message.Outbound{Content: message.Content{Kind: message.KindTemplate, Template: template}}, message.RefusedInvalid},
		{"template with a file", message.Outbound{Content: message.Content{Kind: message.KindTemplate, Text: "x", Template: template, Files: make([]message.File, 1)}}, message.RefusedUnsupported},
		{"template one too long", message.Outbound{Content: message.Content{Kind: message.KindTemplate, Text: "{{1}}abcde", Template: template}}, message.RefusedLimit},
		{"template that fits", message.Outbound{Content: message.Content{Kind: message.KindTemplate, Text: "{{1}}abcd", Template: template}}, ""},
		{"sticker in an album", message.Outbound{Content: message.Content{Kind: message.KindImage, Files: []message.File{{Kind: message.KindSticker}}}}, message.RefusedUnsupported},
	} {
		_, err := c.Plan(&row.out)
		refusal, _ := errors.AsType[*message.Refusal](err)
		if row.want == "" && err != nil || row.want != "" && (refusal == nil || refusal.Code != row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
}

// A text above buttons is shorter: what goes before it goes first.
func TestLongTextWithButtons(t *testing.T) {
	t.Parallel()
	c := openWith(t, channeltest.NewPlatform(t, nil), nil)
	k := &message.Keyboard{Kind: message.KeyboardInline, Rows: [][]message.KeyButton{{{Text: "Yes"}}}}
	for _, row := range []struct{ units, parts int }{{1, 1}, {1023, 1}, {1024, 1}, {1025, 2}, {2049, 2}, {4096, 2}, {4097, 2}, {5120, 2}, {5121, 3}, {8192, 3}} {
		for _, words := range []string{strings.Repeat("я", row.units), strings.Repeat("слово ", row.units/6) + strings.Repeat("я", row.units%6)} {
			words = strings.TrimSpace(words)
			parts, err := c.Plan(&message.Outbound{Chat: testChat, Content: message.Content{Kind: message.KindText, Text: words, Keyboard: k}})
			if err != nil {
				t.Fatal(err)
			}
			whole := ""
			for i, p := range parts {
				if n, last := message.UnitUTF16.Count(p.Text), i == len(parts)-1; n > 4096 || last && n > 1024 || n == 0 || (p.Keyboard != nil) != last {
					t.Errorf("%d units: part %d has %d units, keyboard %v", row.units, i, n, p.Keyboard)
				}
				whole += p.Text
			}
			bare := func(s string) string { return strings.ReplaceAll(s, " ", "") }
			if bare(whole) != bare(words) || !strings.Contains(words, " ") && len(parts) != row.parts {
				t.Errorf("%d units became %d parts, want %d", row.units, len(parts), row.parts)
			}
		}
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	s := newScrambler("0198c0de-0000-7000-8000-000000000001")
	seen := map[string]bool{}
	for _, phone := range []string{"1000000", "79261234567", "79261234568", "999999999999999"} {
		for m := range 50 {
			for part := range 3 {
				id := s.id(phone, fmt.Sprint("message ", m), part)
				if len(id) != 36 || seen[id] || id != s.id(phone, fmt.Sprint("message ", m), part) {
					t.Fatalf("id %s", id)
				}
				seen[id] = true
				if got := s.phone(id); got != phone {
					t.Fatalf("%s holds %s, want %s", id, got, phone)
				}
				if got := s.phone(strings.ToUpper(strings.ReplaceAll(id, "-", ""))); got != phone {
					t.Fatalf("without dashes: %s", got)
				}
				if strings.Contains(strings.ReplaceAll(id, "-", ""), phone) {
					t.Fatalf("%s shows %s", id, phone)
				}
			}
		}
	}
	other := newScrambler("0198c0de-0000-7000-8000-000000000002")
	for id := range seen {
		if got := other.phone(id); got != "" {
			t.Errorf("another account reads %s out of %s", got, id)
		}
	}
	for _, id := range []string{"", "x", "0198c0de-0000-7000-8000-000000000001", strings.Repeat("0", 32), strings.Repeat("f", 36), "5f7d2e0c-6f0b-8c0e-9c1a-7d7f0a3b9e11"} {
		if got := s.phone(id); got != "" {
			t.Errorf("%q holds %s", id, got)
		}
	}
}

func FuzzIDs(f *testing.F) {
	f.Add(uint64(79261234567), "m", 3)
	f.Fuzz(func(t *testing.T, number uint64, id string, part int) {
		s, phone := newScrambler("a"), fmt.Sprint(number)
		if isPhone(phone) {
			if got := s.phone(s.id(phone, id, part&127)); got != phone {
				t.Errorf("%s became %s", phone, got)
			}
		}
		_ = s.phone(id)
	})
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"2021-03-24 10:53:55":          "2021-03-24T07:53:55Z",
		"2026-01-01T13:00:03.120+0300": "2026-01-01T10:00:03.12Z",
		"2026-01-01T13:00:03+0300":     "2026-01-01T10:00:03Z",
		"2026-01-01T10:00:03Z":         "2026-01-01T10:00:03Z",
		"2026-01-01T13:00:03.5+03:00":  "2026-01-01T10:00:03.5Z",
		"2026-01-01T13:00:03":          "2026-01-01T10:00:03Z",
		"0000-01-01T00:00:00+0100":     "0001-01-01T00:00:00Z",
		"":                             "0001-01-01T00:00:00Z",
		"yesterday":                    "0001-01-01T00:00:00Z",
	} {
		if got := instant(in).Format(time.RFC3339Nano); got != want {
			t.Errorf("%q is %s, want %s", in, got, want)
		}
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	c := openWith(t, channeltest.NewPlatform(t, nil), nil)
	id := c.ids.id(testChat, "m", 0)
	for _, row := range []struct {
		name, raw string
		want      []channels.RawUpdate
	}{
		{"message", `{"id":"77120","imSubject":"ACME_WA","address":"+7 926 123-45-67","receivedAt":"2026-01-01T13:00:00.000+0300"}`,
			[]channels.RawUpdate{{DedupKey: "in:ACME_WA:77120", ChatKey: testChat, Order: 1767261600000}}},
		{"number as id", `{"id":9223372036854775807,"imSubject":"ACME_WA","address":79261234567}`,
			[]channels.RawUpdate{{DedupKey: "in:ACME_WA:9223372036854775807", ChatKey: testChat}}},
		{"newer form", `{"id":77120,"subject":"ACME_WA","subjectId":55,"subscriber":{"id":3301,"identifier":"79261234567"},"messageContent":{}}`,
			[]channels.RawUpdate{{DedupKey: "in:55:77120", ChatKey: testChat}}},
		{"report", `{"imOutMessageId":"` + id + `","dlvStatus":"READ"}`, []channels.RawUpdate{{DedupKey: "report:" + id + ":read", ChatKey: testChat}}},
		{"report, newer form", `{"requestId":"` + id + `","status":"READ"}`, []channels.RawUpdate{{DedupKey: "report:" + id + ":read", ChatKey: testChat}}},
		{"list", `[{"id":1,"imSubject":"A","address":"79261234567"},{"id":2,"imSubject":"A","address":"79261234568"}]`,
			[]channels.RawUpdate{{DedupKey: "in:A:1", ChatKey: testChat}, {DedupKey: "in:A:2", ChatKey: "79261234568"}}},
		{"empty list", `[]`, []channels.RawUpdate{}},
	} {
		got, err := c.Split([]byte(row.raw))
		for i := range got {
			got[i].Raw = nil
		}
		if err != nil || !slices.EqualFunc(got, row.want, func(a, b channels.RawUpdate) bool {
			return a.DedupKey == b.DedupKey && a.ChatKey == b.ChatKey && a.Order == b.Order
		}) {
			t.Errorf("%s: %+v %v", row.name, got, err)
		}
	}
	// What nobody can read is kept for people, and told apart.
	keys := map[string]bool{}
	for _, raw := range []string{`{}`, `{"a":1}`, `[7]`, `["x"]`, `{"imSubject":"A","address":"79261234567"}`, `{"imSubject":"A","id":"` + strings.Repeat("9", 500) + `"}`} {
		got, err := c.Split([]byte(raw))
		if err != nil || len(got) != 1 || keys[got[0].DedupKey] || len(got[0].DedupKey) > 256 {
			t.Errorf("%s: %+v %v", raw, got, err)
			continue
		}
		keys[got[0].DedupKey] = true
	}
	for _, raw := range []string{``, `null`, `"x"`, `{`, `[`, `[{]`, `{} {}`, `message=x`, `<?xml version="1.0"?>`} {
		if _, err := c.Split([]byte(raw)); err == nil {
			t.Errorf("%q is taken for MFMS's JSON", raw)
		}
	}
}

func FuzzSplit(f *testing.F) { channeltest.FuzzSplit(f, testCase()) }
