package ok

import (
	"context"
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

const (
	testToken  = "tkn18YdUJZe:CQABPOJKAKEKEKEKE/+="
	testSecret = "3f9c1e7a5b2d4086aa55&00"
	testChat   = "chat:C3ecb9d02a600"
	testUser   = "user:123456789012"
	sentOK     = `{"message_id":"mid:C3ecb9d02a600.15cea67d78d2300"}`
	ourHook    = "https://gateway.example/webhooks/ok/acc1?secret=3f9c1e7a5b2d4086aa55%2600"
)

func settings() map[string]string {
	return map[string]string{"token": testToken, "secret": testSecret}
}

// okAnswer is OK when all is well.
func okAnswer(r *channeltest.Request) channeltest.Response {
	switch {
	case r.Path == "/graph/me/info":
		return channeltest.Response{Body: `{"name":"Example Shop","group_id":"group:12345678901234"}`}
	case r.Path == "/graph/me/subscriptions":
		return channeltest.Response{Body: `{"subscriptions":[]}`}
	case r.Path == "/graph/me/chats":
		return channeltest.Response{Body: `{"chats":[]}`}
	case r.Path == "/graph/me/subscribe", r.Path == "/graph/me/unsubscribe":
		return channeltest.Response{Body: `{"success":true}`}
	case r.Path == "/graph/me/fileUploadUrl":
		kind := strings.TrimPrefix(r.Query[strings.Index(r.Query, "type="):], "type=")
		return channeltest.Response{Body: `{"url":"{{api}}/upload/` + kind + `?id=abc&sig=1","token":"Kl==","file_id":"900000000010"}`}
	case r.Path == "/upload/IMAGE":
		return channeltest.Response{Body: `{"photos":{"900000000010":{"token":"Mn=="}}}`}
	case strings.HasPrefix(r.Path, "/upload/"):
		return channeltest.Response{}
	case strings.HasPrefix(r.Path, "/graph/me/messages"):
		return channeltest.Response{Body: sentOK}
	case strings.HasSuffix(r.Path, "/answer"):
		return channeltest.Response{Body: `{"success":true}`}
	}
	return channeltest.Response{Status: 404, Body: "not OK's"}
}

func instead(path, body string) func(*channeltest.Request) channeltest.Response {
	return func(r *channeltest.Request) channeltest.Response {
		if r.Path == path {
			return channeltest.Response{Body: body}
		}
		return okAnswer(r)
	}
}

func file(kind message.Kind, name, mime string, size int64) message.File {
	return message.File{ID: name, Kind: kind, Name: name, Mime: mime, Size: size, State: message.FileReady}
}

func check(ctx context.Context, ch channels.Channel) (any, error) { return ch.Check(ctx) }

func upkeep(ctx context.Context, ch channels.Channel) (any, error) {
	c := ch.(*channel)
	c.now = func() time.Time { return time.UnixMilli(1770000200000) }
	c.wait = func(context.Context, time.Duration) bool { return true }
	updates, err := c.Upkeep(ctx)
	shown := []string{}
	for _, u := range updates {
		shown = append(shown, fmt.Sprintf("%s of %s at %d: %s", u.DedupKey, u.ChatKey, u.Order, u.Raw))
	}
	return shown, err
}

func testCase() channeltest.Case {
	out := func(c message.Content) message.Outbound { return message.Outbound{Content: c} }
	files := func(kind message.Kind, text string, f ...message.File) message.Outbound {
		return out(message.Content{Kind: kind, Text: text, Files: f})
	}
	text := func(s string, k *message.Keyboard) message.Outbound {
		return out(message.Content{Kind: message.KindText, Text: s, Keyboard: k})
	}
	inlineKeys := func(rows ...[]message.KeyButton) *message.Keyboard {
		return &message.Keyboard{Kind: message.KeyboardInline, Rows: rows}
	}
	buttons := func(n int) (row []message.KeyButton) {
		for i := range n {
			row = append(row, message.KeyButton{Text: fmt.Sprint(i + 1), Payload: fmt.Sprint("p", i+1)})
		}
		return row
	}
	pictures := func(n int) (list []message.File) {
		for i := range n {
			list = append(list, file(message.KindImage, fmt.Sprintf("%d.jpg", i+1), "image/jpeg", 100))
		}
		return list
	}
	reply := text("Yes", nil)
	reply.ReplyTo = "mid:C3ecb9d02a600.15cea67d78d2059#1"
	replyPress := text("Yes", nil)
	replyPress.ReplyTo = "press:cb-8f1e2d"
	byUser, byNumber := text("Hello", nil), text("Hello", nil)
	byUser.Chat, byNumber.Chat = testUser, "123456789012"
	withKeys := files(message.KindImage, "Which one?", pictures(5)...)
	withKeys.Keyboard = inlineKeys(buttons(2))
	oneWithKeys := files(message.KindImage, "This one?", pictures(1)...)
	oneWithKeys.Keyboard = inlineKeys(buttons(2))
	errorOf := func(code int, words string) channeltest.Response {
		return channeltest.Response{Header: map[string]string{"invocation-error": fmt.Sprint(code)}, Body: fmt.Sprintf(`{"error_code":%d,"error_msg":%q,"error_data":null}`, code, words)}
	}
	row := func(code int, words string, kind message.ErrorKind, after time.Duration) channeltest.ErrorRow {
		return channeltest.ErrorRow{Name: fmt.Sprint("code ", code), Response: errorOf(code, words), Want: message.Error{Kind: kind, Code: fmt.Sprint(code), RetryAfter: after}}
	}
	c := channeltest.Case{
		Platform: Platform(),
		Settings: settings(),
		Chat:     testChat,
		Customer: testUser,
		Answer:   okAnswer,
		Sends: []channeltest.Send{
			{Name: "text", Out: text("Здравствуйте! Чем <помочь> & \"как\"? 😀", nil)},
			{Name: "text_to_user", Out: byUser},
			{Name: "text_to_number", Out: byNumber},
			{Name: "reply", Out: reply},
			{Name: "reply_to_press", Out: replyPress},
			{Name: "keyboard", Out: text("Оцените ответ", inlineKeys(
				[]message.KeyButton{{Text: "Хорошо", Payload: "rate:5"}, {Text: "Без данных"}},
				[]message.KeyButton{{Text: "Наш сайт", Action: message.KeyURL, URL: "https://shop.example.com/?a=1&b=2"}}))},
			{Name: "keyboard_reply", Out: text("no", &message.Keyboard{Kind: message.KeyboardReply, Rows: [][]message.KeyButton{buttons(1)}}), Refused: message.RefusedUnsupported},
			{Name: "keyboard_phone", Out: text("no", inlineKeys([]message.KeyButton{{Text: "Phone", Action: message.KeyPhone}})), Refused: message.RefusedUnsupported},
			{Name: "keyboard_widest", Out: text("seven", inlineKeys(buttons(7)))},
			{Name: "keyboard_too_wide", Out: text("no", inlineKeys(buttons(8))), Refused: message.RefusedLimit},
			{Name: "keyboard_too_high", Out: text("no", inlineKeys(slices.Repeat([][]message.KeyButton{buttons(1)}, 31)...)), Refused: message.RefusedLimit},
			{Name: "keyboard_long_title", Out: text("no", inlineKeys([]message.KeyButton{{Text: strings.Repeat("я", 31)}})), Refused: message.RefusedLimit},
			{Name: "keyboard_long_payload", Out: text("no", inlineKeys([]message.KeyButton{{Text: "x", Payload: strings.Repeat("я", 1001)}})), Refused: message.RefusedLimit},
			{Name: "picture", Out: files(message.KindImage, "Фото товара", file(message.KindImage, "a1.jpg", "image/jpeg", 20_000_000))},
			{Name: "picture_without_caption", Out: files(message.KindImage, "", file(message.KindImage, "a1.png", "image/png", 17))},
			{Name: "picture_large", Out: files(message.KindImage, "too fine", file(message.KindImage, "a1.jpg", "image/jpeg", 20_000_001))},
			{Name: "picture_too_large", Out: files(message.KindImage, "", file(message.KindImage, "a1.jpg", "image/jpeg", 100_000_001)), Refused: message.RefusedLimit},
			{Name: "picture_webp", Out: files(message.KindImage, "", file(message.KindImage, "a1.webp", "image/webp", 17))},
			{Name: "picture_untyped", Out: files(message.KindImage, "", file(message.KindImage, "a1.JPG", "", 17))},
			{Name: "picture_with_keyboard", Out: oneWithKeys},
			{Name: "album", Out: files(message.KindImage, "Все семь", pictures(7)...)},
			{Name: "album_with_keyboard", Out: withKeys},
			{Name: "too_many_files", Out: files(message.KindImage, "", pictures(11)...), Refused: message.RefusedLimit},
			{Name: "video", Out: files(message.KindVideo, "How it works", file(message.KindVideo, "v.mp4", "video/mp4", 100))},
			{Name: "document", Out: files(message.KindDocument, "", file(message.KindDocument, "до\"го\\вор.pdf", "application/pdf", 100_000_000))},
			{Name: "document_too_large", Out: files(message.KindDocument, "", file(message.KindDocument, "x.zip", "application/zip", 100_000_001)), Refused: message.RefusedLimit},
			{Name: "document_nameless", Out: files(message.KindDocument, "", message.File{ID: "f1", Kind: message.KindDocument, Size: 5, State: message.FileReady})},
			{Name: "audio", Out: files(message.KindAudio, "", file(message.KindAudio, "song.mp3", "audio/mpeg", 5))},
			{Name: "voice", Out: files(message.KindVoice, "", file(message.KindVoice, "voice.ogg", "audio/ogg", 5))},
			{Name: "files_mixed", Out: files(message.KindImage, "Both", append(pictures(2), file(message.KindDocument, "b.pdf", "application/pdf", 5), file(message.KindImage, "z.jpg", "image/jpeg", 5))...)},
			{Name: "sticker", Out: files(message.KindSticker, "", file(message.KindSticker, "s.webp", "image/webp", 5)), Refused: message.RefusedUnsupported},
			{Name: "location", Out: out(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 1, Lon: 1}}), Refused: message.RefusedUnsupported},
			{Name: "contact", Out: out(message.Content{Kind: message.KindContact, Contact: &message.Contact{Phone: "+78000000000"}}), Refused: message.RefusedUnsupported},
			{Name: "template", Out: out(message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "x"}}), Refused: message.RefusedUnsupported},
			{Name: "too_long", Out: text(strings.Repeat("я", 40001), nil), Refused: message.RefusedLimit},
		},
		Calls: []channeltest.Call{
			{Name: "check_moved", Do: check, Answer: instead("/graph/me/subscriptions", `{"subscriptions":[{"time":1770000000000,"url":"https://gateway.example/webhooks/ok/acc1?secret=old"},{"url":"https://old.example/webhooks/ok/acc1"},{"url":"https://other.example/hook/with-a-secret"}]}`)},
			{Name: "check_subscribed", Do: check, Answer: instead("/graph/me/subscriptions", `{"subscriptions":[{"time":1770000000000,"url":"`+ourHook+`"}]}`)},
			{Name: "check_wrong_token", Do: check, Answer: func(*channeltest.Request) channeltest.Response {
				return errorOf(103, "PARAM_SESSION_KEY : Invalid session key "+testToken)
			}},
			{Name: "check_without_rights", Do: check, Answer: func(*channeltest.Request) channeltest.Response { return errorOf(10, "PERMISSION_DENIED") }},
			{Name: "check_refused", Do: check, Answer: instead("/graph/me/subscribe", `{"success":false}`)},
			{Name: "upkeep_subscribed", Do: upkeep, Answer: instead("/graph/me/subscriptions", `{"subscriptions":[{"time":1770000000000,"url":"`+ourHook+`"}]}`)},
			{Name: "upkeep_forgotten", Do: upkeep, Answer: forgotten},
			{Name: "acknowledge_off", Do: func(ctx context.Context, ch channels.Channel) (any, error) {
				return nil, ch.(channels.Acknowledger).Acknowledge(ctx, []byte(press))
			}},
			{Name: "acknowledge", Do: func(ctx context.Context, ch channels.Channel) (any, error) {
				ch.(*channel).afterPress = "Спасибо!"
				return nil, ch.(channels.Acknowledger).Acknowledge(ctx, []byte(press))
			}},
			{Name: "acknowledge_message", Do: func(ctx context.Context, ch channels.Channel) (any, error) {
				ch.(*channel).afterPress = "Спасибо!"
				return nil, ch.(channels.Acknowledger).Acknowledge(ctx, []byte(`{"webhookType":"MESSAGE_CREATED","recipient":{"chat_id":"chat:C1"},"message":{}}`))
			}},
		},
		Errors: []channeltest.ErrorRow{
			row(1, "UNKNOWN", message.ErrUncertain, 0),
			row(2, "SERVICE", message.ErrUnavailable, 0),
			row(3, "METHOD", message.ErrInvalid, 0),
			row(4, "REQUEST", message.ErrInvalid, 0),
			row(7, "ACTION_BLOCKED", message.ErrRecipient, 0),
			row(8, "FLOOD_BLOCKED", message.ErrThrottled, 30*time.Second),
			row(9, "IP_BLOCKED", message.ErrAccount, 0),
			row(10, "PERMISSION_DENIED", message.ErrRecipient, 0),
			row(11, "LIMIT_REACHED", message.ErrThrottled, time.Minute),
			row(12, "CANCELLED", message.ErrInvalid, 0),
			row(21, "NOT_MULTIPART", message.ErrInvalid, 0),
			row(22, "NOT_ACTIVATED", message.ErrInvalid, 0),
			row(23, "NOT_YET_INVOLVED", message.ErrInvalid, 0),
			row(24, "NOT_OWNER", message.ErrInvalid, 0),
			row(25, "NOT_ACTIVE", message.ErrInvalid, 0),
			row(26, "TOTAL_LIMIT_REACHED", message.ErrThrottled, time.Hour),
			row(100, "PARAM : Invalid parameter recipient", message.ErrInvalid, 0),
			row(101, "PARAM_API_KEY", message.ErrAccount, 0),
			row(102, "PARAM_SESSION_EXPIRED", message.ErrAccount, 0),
			row(103, "PARAM_SESSION_KEY", message.ErrAccount, 0),
			row(104, "PARAM_SIGNATURE", message.ErrInvalid, 0),
			row(5000, "not subscribed", message.ErrInvalid, 0),
			row(454, "CENSOR_MATCH чужая тайна 4711 "+testToken, message.ErrInvalid, 0),
			{Name: "words", Response: errorOf(100, "PARAM"), Want: message.Error{Kind: message.ErrInvalid, Code: "100", Detail: "PARAM: OK refuses a parameter of the message"}},
			{Name: "header only", Response: channeltest.Response{Header: map[string]string{"Invocation-Error": "7"}}, Want: message.Error{Kind: message.ErrRecipient, Code: "7"}},
			{Name: "not allowed", Response: channeltest.Response{Body: `{"success":false}`}, Want: message.Error{Kind: message.ErrRecipient, Code: "success:false"}},
			{Name: "no id", Response: channeltest.Response{Body: `{}`}, Want: message.Error{Kind: message.ErrUncertain}},
			{Name: "429", Response: channeltest.Response{Status: 429, Header: map[string]string{"Retry-After": "7"}}, Want: message.Error{Kind: message.ErrThrottled, Code: "429", RetryAfter: 7 * time.Second}},
			{Name: "gateway", Response: channeltest.Response{Status: 502, Body: "<html>Bad Gateway</html>"}, Want: message.Error{Kind: message.ErrUncertain, Code: "502"}},
			{Name: "413", Response: channeltest.Response{Status: 413}, Want: message.Error{Kind: message.ErrInvalid, Code: "413"}},
		},
		Verify: []channeltest.VerifyRow{
			{Name: "right", Query: map[string][]string{"secret": {testSecret}}, Body: "{}", OK: true},
			{Name: "missing", Body: "{}"},
			{Name: "empty", Query: map[string][]string{"secret": {""}}, Body: "{}"},
			{Name: "wrong", Query: map[string][]string{"secret": {testSecret + "x"}}, Body: "{}"},
			{Name: "second", Query: map[string][]string{"secret": {"x", testSecret}}, Body: "{}"},
			{Name: "in a header", Header: http.Header{"Secret": {testSecret}}, Body: "{}"},
		},
		Fetches: []channeltest.FetchRow{
			{Name: "picture", Ref: "{{api}}/i?r=EXAMPLE", Answer: bytesOf("image/jpeg", "JPEG"), Body: "JPEG", Mime: "image/jpeg"},
			{Name: "named", Ref: "{{api}}/f/a.pdf", Answer: bytesOf("application/pdf", "PDF"), Body: "PDF", Mime: "application/pdf", FileName: "a.pdf"},
			{Name: "gone", Ref: "{{api}}/f", Answer: func(*channeltest.Request) channeltest.Response { return channeltest.Response{Status: 410} }, Err: channels.ErrFileGone},
			{Name: "no address", Ref: "file:///etc/passwd", Err: channels.ErrFileGone},
		},
		BadSettings: map[string]string{"token": "with space", "secret": "с секретом", "api_base": "ftp://x", "after_press": strings.Repeat("x", 4001)},
	}
	for _, code := range []int{1, 2, 8, 10, 103} {
		kind := verdicts[fmt.Sprint(code)].kind
		switch code {
		case 1:
			kind = message.ErrUnavailable // nothing was sent, whatever became of the upload
		case 10:
			kind = message.ErrAccount
		}
		picture := files(message.KindImage, "x", file(message.KindImage, "a.jpg", "image/jpeg", 5))
		c.Errors = append(c.Errors, channeltest.ErrorRow{Name: fmt.Sprint("upload code ", code), Out: &picture, Response: errorOf(code, ""),
			Want: message.Error{Kind: kind, Code: fmt.Sprint(code), RetryAfter: verdicts[fmt.Sprint(code)].after}})
	}
	return c
}

const press = `{"webhookType":"MESSAGE_CALLBACK","sender":{"user_id":"user:1"},"recipient":{"chat_id":"chat:C3ecb9d02a600"},"mid":"mid:1","callbackId":"cb-8f1e2d","payload":"rate:5"}`

func bytesOf(mime, body string) func(*channeltest.Request) channeltest.Response {
	return func(*channeltest.Request) channeltest.Response {
		return channeltest.Response{Header: map[string]string{"Content-Type": mime}, Body: body}
	}
}

// forgotten is OK when it dropped our subscription, with two pages of chats.
func forgotten(r *channeltest.Request) channeltest.Response {
	switch r.Path {
	case "/graph/me/chats":
		if strings.Contains(r.Query, "marker=") {
			return channeltest.Response{Body: `{"chats":[{"chat_id":"chat:C2","type":"CHAT","lastEventTime":1769999000000},{"chat_id":"chat:C3","lastEventTime":1700000000000},{"chat_id":"chat:C4","lastEventTime":1769999000000}],"marker":9}`}
		}
		return channeltest.Response{Body: `{"chats":[{"chat_id":"chat:C1","type":"DIALOG","lastEventTime":1770000100000},{"chat_id":"chat:C5","type":"GROUP_CHAT","lastEventTime":1770000100000}],"marker":1769999999999}`}
	case "/graph/me/messages/chat:C1":
		return channeltest.Response{Body: `{"messages":[
			{"sender":{"user_id":"user:1","name":"Анна"},"recipient":{"chat_id":"chat:C1"},"message":{"text":"second","seq":98211023614189670,"mid":"mid:C1.2"},"timestamp":1770000100000},
			{"sender":{"user_id":"group:12345678901234"},"recipient":{"chat_id":"chat:C1"},"message":{"text":"ours","seq":98211023614189665,"mid":"mid:C1.o"},"timestamp":1770000095000},
			{"sender":{"user_id":"user:1"},"recipient":{"chat_id":"chat:C1"},"message":{"text":"first","seq":98211023614189660,"mid":"mid:C1.1"},"timestamp":1770000090000},
			{"sender":{"user_id":"user:1"},"recipient":{"chat_id":"chat:C1"},"message":{"text":"{\"ty\":\"USERS_ADDED\"}","seq":98211023614189659,"mid":"mid:C1.s"},"timestamp":1770000090000},
			{"sender":{"user_id":"user:1"},"message":{"text":"of last year","seq":9,"mid":"mid:C1.0"},"timestamp":1740000000000}, 7]}`}
	case "/graph/me/messages/chat:C2":
		return channeltest.Response{Body: `{"messages":[{"sender":{"user_id":"user:2"},"message":{"text":"no recipient","mid":"mid:C2.1","attachments":[]},"timestamp":1769999000000}]}`}
	}
	return okAnswer(r)
}

func TestOK(t *testing.T) {
	t.Parallel()
	channeltest.Run(t, testCase())
}

func FuzzDecode(f *testing.F) { channeltest.FuzzDecode(f, testCase()) }
