package infobip

import (
	"bytes"
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

const (
	testKey      = "0123456789abcdef0123456789abcdef-01234567-89ab-cdef-0123-456789abcdef"
	testPassword = "s3cret-pass"
	testPhone    = "79261234567"
	accepted200  = `{"to":"79261234567","messageCount":1,"messageId":"m","status":{"groupId":1,"groupName":"PENDING","id":7,"name":"PENDING_ENROUTE","description":"Message sent to next instance"}}`
)

func settings() map[string]string {
	return map[string]string{"api_key": testKey, "sender": "79001112233", "webhook_user": "switchboard", "webhook_password": testPassword}
}

// answer is Infobip when all is well.
func answer(r *channeltest.Request) channeltest.Response {
	switch {
	case r.Path == "/whatsapp/1/message/template":
		return channeltest.Response{Body: `{"messages":[` + accepted200 + `],"bulkId":"b"}`}
	case strings.HasPrefix(r.Path, "/whatsapp/1/message/"):
		return channeltest.Response{Body: accepted200}
	case r.Path == "/whatsapp/1/events":
		return channeltest.Response{Body: `{}`}
	case strings.HasPrefix(r.Path, "/whatsapp/2/senders/"):
		return channeltest.Response{Body: `{"templates":[{"id":"111","name":"order_ready","language":"ru","status":"APPROVED"},{"id":"112","status":"REJECTED"}]}`}
	case strings.HasPrefix(r.Path, "/subscriptions/1/subscription/"):
		return channeltest.Response{Body: `{}`}
	}
	return channeltest.Response{Status: 404, Body: `{"errorCode":"E404","description":"Not found"}`}
}

func instead(path string, response channeltest.Response) func(*channeltest.Request) channeltest.Response {
	return func(r *channeltest.Request) channeltest.Response {
		if r.Path == path {
			return response
		}
		return answer(r)
	}
}

func status(group, id int, name string) channeltest.Response {
	return channeltest.Response{Body: fmt.Sprintf(`{"messageId":"m","status":{"groupId":%d,"id":%d,"name":%q,"description":"to %s"}}`, group, id, name, testPhone)}
}

// rejected answers a send with an error of the network beside the status.
func rejected(id int, name string) channeltest.Response {
	return channeltest.Response{Body: fmt.Sprintf(`{"messageId":"m","status":{"groupId":5,"id":99,"name":"REJECTED"},"error":{"groupId":1,"id":%d,"name":%q,"permanent":true}}`, id, name)}
}

func file(kind message.Kind, name, mime string, size int64) message.File {
	return message.File{ID: name, Kind: kind, Name: name, Mime: mime, Size: size, State: message.FileReady}
}

func inline(buttons ...message.KeyButton) *message.Keyboard {
	return &message.Keyboard{Kind: message.KeyboardInline, Rows: [][]message.KeyButton{buttons}}
}

func numbered(n int) (list []message.KeyButton) {
	for i := range n {
		list = append(list, message.KeyButton{Text: fmt.Sprint("Choice ", i+1), Payload: fmt.Sprint("p", i+1)})
	}
	return list
}

func template(f message.File) message.Outbound {
	return message.Outbound{Content: message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "order_ready", Language: "ru"}, Files: []message.File{f}}}
}

func basic(s string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(s))}}
}

func testCase() channeltest.Case {
	out := func(c message.Content) message.Outbound { return message.Outbound{Content: c} }
	files := func(kind message.Kind, text string, f ...message.File) message.Outbound {
		return out(message.Content{Kind: kind, Text: text, Files: f})
	}
	text := func(s string, k *message.Keyboard) message.Outbound {
		return out(message.Content{Kind: message.KindText, Text: s, Keyboard: k})
	}
	reply := text("Yes", nil)
	reply.ReplyTo = "wamid.ABC=#1"
	byUser := text("Hello", nil)
	byUser.Chat = "RU.1234567890"
	withKeys := files(message.KindImage, "Is it this one?", file(message.KindImage, "a.jpg", "image/jpeg", 100))
	withKeys.Keyboard = inline(numbered(2)...)
	named := inline(numbered(4)...)
	named.Placeholder = "Отделы"
	check := func(ctx context.Context, ch channels.Channel) (any, error) { return ch.Check(ctx) }
	const subscription = "/subscriptions/1/subscription/WHATSAPP"
	c := channeltest.Case{
		Platform: Platform(), Settings: settings(), Chat: testPhone, Customer: testPhone, Answer: answer, PlainTexts: true,
		Sends: []channeltest.Send{
			{Name: "text", Out: text("Здравствуйте! Чем <помочь> & \"как\"? 😀 https://shop.example/?a=1&b=2", nil)},
			{Name: "text_to_user", Out: byUser},
			{Name: "text_long", Out: text(strings.Repeat("я", 4097), nil)},
			{Name: "text_too_long", Out: text(strings.Repeat("я", 40961), nil), Refused: message.RefusedLimit},
			{Name: "reply", Out: reply},
			{Name: "buttons", Out: text("Is it right?", inline(message.KeyButton{Text: "Yes", Payload: "yes:118"}, message.KeyButton{Text: "No"}))},
			{Name: "buttons_three_of_20", Out: text("?", inline(message.KeyButton{Text: strings.Repeat("я", 20)}, message.KeyButton{Text: "2"}, message.KeyButton{Text: "3"}))},
			{Name: "buttons_long_title", Out: text("?", inline(message.KeyButton{Text: strings.Repeat("я", 21)}))},
			{Name: "buttons_longer_title", Out: text("?", inline(message.KeyButton{Text: strings.Repeat("я", 25)})), Refused: message.RefusedLimit},
			{Name: "buttons_long_payload", Out: text("?", inline(message.KeyButton{Text: "x", Payload: strings.Repeat("я", 201)})), Refused: message.RefusedLimit},
			{Name: "buttons_under_1025", Out: text(strings.Repeat("я", 1025), inline(numbered(1)...))},
			{Name: "list", Out: text("Choose a department", inline(numbered(10)...))},
			{Name: "list_named", Out: text("Choose a department", named)},
			{Name: "list_too_long", Out: text("?", inline(numbered(11)...)), Refused: message.RefusedLimit},
			{Name: "button_url", Out: text("Look", inline(message.KeyButton{Text: "Open", Action: message.KeyURL, URL: "https://shop.example/?a=1&b=2"}))},
			{Name: "keyboard_reply", Out: text("no", &message.Keyboard{Kind: message.KeyboardReply, Rows: [][]message.KeyButton{numbered(1)}}), Refused: message.RefusedUnsupported},
			{Name: "keyboard_phone", Out: text("no", inline(message.KeyButton{Text: "Phone", Action: message.KeyPhone})), Refused: message.RefusedUnsupported},
			{Name: "picture", Out: files(message.KindImage, "Фото товара", file(message.KindImage, "a1.jpg", "image/jpeg", 5_000_000))},
			{Name: "picture_large", Out: files(message.KindImage, "too fine", file(message.KindImage, "a1.jpg", "image/jpeg", 5_000_001))},
			{Name: "picture_webp", Out: files(message.KindImage, "", file(message.KindImage, "a1.webp", "image/webp", 17))},
			{Name: "picture_untyped", Out: files(message.KindImage, "", file(message.KindImage, "a1.PNG", "", 17))},
			{Name: "picture_too_large", Out: files(message.KindImage, "", file(message.KindImage, "a1.jpg", "image/jpeg", 100_000_001)), Refused: message.RefusedLimit},
			{Name: "picture_long_caption", Out: files(message.KindImage, strings.Repeat("я", 3001), file(message.KindImage, "a1.jpg", "image/jpeg", 5))},
			{Name: "picture_with_buttons", Out: withKeys},
			{Name: "pictures", Out: files(message.KindImage, "Both", file(message.KindImage, "1.jpg", "image/jpeg", 5), file(message.KindImage, "2.jpg", "image/jpeg", 5))},
			{Name: "too_many_files", Out: files(message.KindImage, "", slices.Repeat([]message.File{file(message.KindImage, "1.jpg", "image/jpeg", 5)}, 11)...), Refused: message.RefusedLimit},
			{Name: "video", Out: files(message.KindVideo, "How it works", file(message.KindVideo, "v.mp4", "video/mp4", 16_000_000))},
			{Name: "video_large", Out: files(message.KindVideo, "", file(message.KindVideo, "v.mp4", "video/mp4", 16_000_001))},
			{Name: "video_other", Out: files(message.KindVideo, "", file(message.KindVideo, "v.webm", "video/webm", 5))},
			{Name: "audio", Out: files(message.KindAudio, "Listen", file(message.KindAudio, "song.mp3", "audio/mpeg", 16_000_000))},
			{Name: "audio_large", Out: files(message.KindAudio, "", file(message.KindAudio, "song.mp3", "audio/mpeg", 16_000_001))},
			{Name: "audio_wav", Out: files(message.KindAudio, "", file(message.KindAudio, "song.wav", "audio/wav", 5))},
			{Name: "voice", Out: files(message.KindVoice, "", file(message.KindVoice, "voice.ogg", "audio/ogg; codecs=opus", 5))},
			{Name: "voice_mp3", Out: files(message.KindVoice, "", file(message.KindVoice, "voice.mp3", "audio/mpeg", 5))},
			{Name: "sticker", Out: files(message.KindSticker, "", file(message.KindSticker, "s.webp", "image/webp", 100_000))},
			{Name: "sticker_large", Out: files(message.KindSticker, "", file(message.KindSticker, "s.webp", "image/webp", 100_001))},
			{Name: "sticker_png", Out: files(message.KindSticker, "", file(message.KindSticker, "s.png", "image/png", 5))},
			{Name: "document", Out: files(message.KindDocument, "Invoice", file(message.KindDocument, "до\"го\\вор.pdf", "application/pdf", 100_000_000))},
			{Name: "document_too_large", Out: files(message.KindDocument, "", file(message.KindDocument, "x.zip", "application/zip", 100_000_001)), Refused: message.RefusedLimit},
			{Name: "document_long_name", Out: files(message.KindDocument, "", file(message.KindDocument, strings.Repeat("x", 250)+".pdf", "application/pdf", 5))},
			{Name: "document_nameless", Out: files(message.KindDocument, "", message.File{ID: "f1", Kind: message.KindDocument, Size: 5, State: message.FileReady})},
			{Name: "location", Out: out(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 55.7539, Lon: 37.6208, Title: "Office", Address: "1 Main St"}})},
			{Name: "location_with_text", Out: out(message.Content{Kind: message.KindLocation, Text: "We are here", Location: &message.Location{Lat: 0, Lon: -180}})},
			{Name: "contact", Out: out(message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: "Ivan Petrov", Phone: "+79160000001"}})},
			{Name: "contact_nameless", Out: out(message.Content{Kind: message.KindContact, Contact: &message.Contact{Phone: "112"}})},
			{Name: "template", Out: out(message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "order_ready", Language: "ru", Parameters: []string{"Anna", "118"}}})},
			{Name: "template_buttons", Out: out(message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "order_ready", Language: "ru"}, Keyboard: inline(
				message.KeyButton{Text: "Yes", Payload: "yes:118"}, message.KeyButton{Text: "No"},
				message.KeyButton{Text: "Follow", Action: message.KeyURL, URL: "https://shop.example/118", Payload: "118"}, message.KeyButton{Text: "Shop", Action: message.KeyURL, URL: "https://shop.example"})})},
			{Name: "template_picture", Out: template(file(message.KindImage, "a.jpg", "image/jpeg", 5_000_000))},
			{Name: "template_video", Out: template(file(message.KindVideo, "a.mp4", "video/mp4", 5))},
			{Name: "template_document", Out: template(file(message.KindDocument, "invoice.pdf", "application/pdf", 5))},
			{Name: "template_too_large", Out: template(file(message.KindDocument, "x.pdf", "application/pdf", 100_000_001)), Refused: message.RefusedLimit},
			{Name: "template_bare", Out: out(message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "hello", Language: "en_GB"}})},
		},
		Calls: []channeltest.Call{
			{Name: "check_again", Do: check, Answer: instead(subscription, channeltest.Response{Status: 409, Body: `{"errorCode":"E409","description":"exists"}`})},
			{Name: "check_again_400", Do: check, Answer: instead(subscription, channeltest.Response{Status: 400, Body: `{"errorCode":"E400","description":"Subscription already exists."}`})},
			{Name: "check_without_scope", Do: check, Answer: instead(subscription, channeltest.Response{Status: 403, Body: `{"errorCode":"E403"}`})},
			{Name: "check_refused", Do: check, Answer: instead(subscription, channeltest.Response{Status: 400, Body: `{"errorCode":"E400","description":"no","violations":[{"property":"profile","violation":"bad ` + testPassword + `"}]}`})},
			{Name: "check_wrong_key", Do: check, Answer: func(*channeltest.Request) channeltest.Response {
				return channeltest.Response{Status: 401, Body: `{"errorCode":"E401","description":"` + testKey + `"}`}
			}},
			{Name: "typing", Do: func(ctx context.Context, ch channels.Channel) (any, error) {
				return nil, ch.(channels.Typer).Typing(ctx, testPhone)
			}},
			{Name: "duplicate", Do: sendOnce, Answer: func(*channeltest.Request) channeltest.Response { return status(5, 23, "REJECTED_DUPLICATE_MESSAGE_ID") }},
			{Name: "duplicate_by_error", Do: sendOnce, Answer: func(*channeltest.Request) channeltest.Response { return rejected(7280, "DUPLICATE_REQUEST") }},
			{Name: "duplicate_7280", Do: sendOnce, Answer: func(*channeltest.Request) channeltest.Response {
				return channeltest.Response{Status: 400, Body: `{"errorCode":"7280","description":"DUPLICATE_REQUEST"}`}
			}},
		},
		Errors: []channeltest.ErrorRow{
			{Name: "400", Response: channeltest.Response{Status: 400, Body: `{"requestError":{"serviceException":{"messageId":"BAD_REQUEST","text":"Bad Request","validationErrors":{"content.text":["чужая тайна 4711 of ` + testPhone + `"],"to":["wrong"]}}}}`},
				Want: message.Error{Kind: message.ErrInvalid, Code: "400", Detail: "Bad Request; content.text [private] of [private]; to wrong"}},
			{Name: "400 other shape", Response: channeltest.Response{Status: 400, Body: `{"errorCode":"E400","description":"Request cannot be processed.","action":"Check","violations":[{"property":"content.text","violation":"must not be null"}]}`},
				Want: message.Error{Kind: message.ErrInvalid, Code: "400", Detail: "Request cannot be processed.; content.text must not be null"}},
			{Name: "401", Response: channeltest.Response{Status: 401, Body: testKey}, Want: message.Error{Kind: message.ErrAccount, Code: "401"}},
			{Name: "403", Response: channeltest.Response{Status: 403}, Want: message.Error{Kind: message.ErrAccount, Code: "403"}},
			{Name: "404", Response: channeltest.Response{Status: 404}, Want: message.Error{Kind: message.ErrAccount, Code: "404"}},
			{Name: "408", Response: channeltest.Response{Status: 408}, Want: message.Error{Kind: message.ErrUncertain, Code: "408"}},
			{Name: "429", Response: channeltest.Response{Status: 429, Header: map[string]string{"Retry-After": "7"}}, Want: message.Error{Kind: message.ErrThrottled, Code: "429", RetryAfter: 7 * time.Second}},
			{Name: "500", Response: channeltest.Response{Status: 500, Body: `{"requestError":{"serviceException":{"messageId":"GENERAL_ERROR","text":"Something went wrong"}}}`}, Want: message.Error{Kind: message.ErrUncertain, Code: "500"}},
			{Name: "502", Response: channeltest.Response{Status: 502, Body: "<html>"}, Want: message.Error{Kind: message.ErrUncertain, Code: "502"}},
			{Name: "302", Response: channeltest.Response{Status: 302}, Want: message.Error{Kind: message.ErrUnavailable, Code: "302"}},
			{Name: "error of the answer", Response: rejected(7010, "EC_NO_SESSION"), Want: message.Error{Kind: message.ErrInvalid, Code: "7010"}},
			{Name: "error of the answer: recipient", Response: rejected(7003, "EC_BLOCKED_USER"), Want: message.Error{Kind: message.ErrRecipient, Code: "7003"}},
			{Name: "no id", Response: channeltest.Response{Body: `{}`}, Want: message.Error{Kind: message.ErrUncertain}},
		},
		Verify: []channeltest.VerifyRow{
			{Name: "right", Header: http.Header{"Authorization": {"Basic c3dpdGNoYm9hcmQ6czNjcmV0LXBhc3M="}}, Body: "{}", OK: true},
			{Name: "missing", Body: "{}"},
			{Name: "wrong user", Header: basic("x:" + testPassword), Body: "{}"},
			{Name: "wrong password", Header: basic("switchboard:x"), Body: "{}"},
			{Name: "other scheme", Header: http.Header{"Authorization": {"App " + testKey}}, Body: "{}"},
			{Name: "no base64", Header: http.Header{"Authorization": {"Basic ?"}}, Body: "{}"},
		},
		Fetches: []channeltest.FetchRow{
			{Name: "picture", Ref: "{{api}}/whatsapp/1/senders/79001112233/media/f1", Answer: keyed("image/jpeg", "JPEG"), Body: "JPEG", Mime: "image/jpeg"},
			{Name: "untyped", Ref: "{{api}}/media/f1", Answer: keyed("application/octet-stream", "x"), Body: "x"},
			{Name: "gone", Ref: "{{api}}/media/f", Answer: func(*channeltest.Request) channeltest.Response { return channeltest.Response{Status: 404} }, Err: channels.ErrFileGone},
			{Name: "redirect", Ref: "{{api}}/media/f", Answer: func(r *channeltest.Request) channeltest.Response {
				if r.Path == "/storage" {
					if r.Header.Get("Authorization") != "" {
						return channeltest.Response{Status: 400}
					}
					return channeltest.Response{Header: map[string]string{"Content-Type": "image/png", "Content-Disposition": `attachment; filename="a.png"`}, Body: "PNG"}
				}
				return channeltest.Response{Status: 302, Header: map[string]string{"Location": "/storage"}}
			}, Body: "PNG", Mime: "image/png", FileName: "a.png"},
			{Name: "no address", Ref: "file:///etc/passwd", Err: channels.ErrFileGone},
		},
		BadSettings: map[string]string{"api_key": "with space", "sender": "Acme", "webhook_user": "a:b", "list_title": strings.Repeat("я", 21), "api_base": "ftp://x"},
	}
	for kind, ids := range map[message.ErrorKind][]int{
		message.ErrRecipient:   {6, 8, 10, 14, 18, 51, 52},
		message.ErrAccount:     {11, 12, 13, 17, 19},
		message.ErrInvalid:     {4, 9, 15, 24, 25, 29, 31, 87, 99, 100, 4242},
		message.ErrThrottled:   {20},
		message.ErrUnavailable: {21},
	} {
		for _, id := range ids {
			row := channeltest.ErrorRow{Name: fmt.Sprint("status ", id), Response: status(5, id, "X"), Want: message.Error{Kind: kind, Code: fmt.Sprint(id)}}
			if id == 20 { // twenty different texts to one number within the hour
				row.Want.RetryAfter, row.Want.ChatOnly = time.Hour, true
			}
			c.Errors = append(c.Errors, row)
		}
	}
	return c
}

func sendOnce(ctx context.Context, ch channels.Channel) (any, error) {
	return ch.Send(ctx, &message.Part{Index: 1, Of: 2, Outbound: message.Outbound{ID: "0198", Chat: testPhone, Content: message.Content{Kind: message.KindText, Text: "Hi"}}})
}

// keyed is a file for those who have the key.
func keyed(mime, body string) func(*channeltest.Request) channeltest.Response {
	return func(r *channeltest.Request) channeltest.Response {
		if r.Header.Get("Authorization") != "App "+testKey {
			return channeltest.Response{Status: 401}
		}
		return channeltest.Response{Header: map[string]string{"Content-Type": mime}, Body: body}
	}
}

func TestInfobip(t *testing.T) {
	t.Parallel()
	channeltest.Run(t, testCase())
}

func FuzzDecode(f *testing.F) { channeltest.FuzzDecode(f, testCase()) }

func FuzzSplit(f *testing.F) { channeltest.FuzzSplit(f, testCase()) }

func opened(t testing.TB) *channel {
	t.Helper()
	ch, err := open(channels.Account{ID: "acc1", Platform: name, Settings: settings()}, channels.Env{PublicURL: "https://gateway.example"})
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func TestVerifyTellsMissingFromWrong(t *testing.T) {
	t.Parallel()
	c := opened(t)
	if err := c.Verify(http.Header{}, nil, nil); !errors.Is(err, channels.ErrNoSignature) {
		t.Errorf("missing: %v", err)
	}
	if err := c.Verify(basic("switchboard:wrong"), nil, nil); err == nil || errors.Is(err, channels.ErrNoSignature) {
		t.Errorf("wrong: %v", err)
	}
}

// Every error of the reference's table has its meaning in a report.
func TestReportedErrors(t *testing.T) {
	t.Parallel()
	c := opened(t)
	for _, row := range []struct {
		ids  []int
		kind message.ErrorKind
	}{
		{[]int{7002, 7003, 7020, 7025, 7029, 7102, 7201}, message.ErrRecipient},
		{[]int{7001, 7004, 7005, 7011, 7019, 7021, 7034, 7038, 7080, 7081, 7083, 7084, 7281}, message.ErrAccount},
		{[]int{7006, 7007, 7008, 7009, 7010, 7015, 7016, 7018, 7022, 7023, 7026, 7027, 7030, 7031, 7032, 7033, 7052, 1}, message.ErrInvalid},
		{[]int{7012, 7017, 7024, 7035, 7036, 7037}, message.ErrThrottled},
		{[]int{7013, 7014, 7050, 7082}, message.ErrUnavailable},
		{[]int{7051}, message.ErrUncertain},
	} {
		for _, id := range row.ids {
			raw := fmt.Sprintf(`{"messageId":"m1","to":"79261234567","doneAt":"2026-01-01T10:00:03.120+0000","status":{"groupId":2,"id":4,"name":"U"},"error":{"id":%d,"name":"EC_X","permanent":true}}`, id)
			got, err := c.Decode([]byte(raw))
			gone := len(got) == 2 && got[1].Kind == message.UpdateContactable && !got[1].Reachable
			if err != nil || len(got) == 0 || gone != (row.kind == message.ErrRecipient) || got[0].Status != message.StatusFailed || got[0].Failure == nil || got[0].Failure.Kind != row.kind || got[0].Failure.Code != fmt.Sprint(id) {
				t.Errorf("%d: %+v %v", id, got, err)
			}
		}
	}
}

func TestRefusedByPlan(t *testing.T) {
	t.Parallel()
	c := opened(t)
	text := message.Content{Kind: message.KindText, Text: "?"}
	for name, row := range map[string]struct {
		out  message.Outbound
		code message.RefusalCode
	}{
		"no phone":      {message.Outbound{Chat: "chat:1", Content: text}, message.RefusedInvalid},
		"same titles":   {message.Outbound{Content: message.Content{Kind: message.KindText, Text: "?", Keyboard: inline(message.KeyButton{Text: "A", Payload: "1"}, message.KeyButton{Text: "A", Payload: "2"})}}, message.RefusedInvalid},
		"same payloads": {message.Outbound{Content: message.Content{Kind: message.KindText, Text: "?", Keyboard: inline(message.KeyButton{Text: "A", Payload: "1"}, message.KeyButton{Text: "B", Payload: "1"})}}, message.RefusedInvalid},
		"two addresses": {message.Outbound{Content: message.Content{Kind: message.KindText, Text: "?", Keyboard: inline(message.KeyButton{Text: "A", Action: message.KeyURL, URL: "https://a.example"}, message.KeyButton{Text: "B"})}}, message.RefusedLimit},
		"no words":      {message.Outbound{Content: message.Content{Kind: message.KindLocation, Location: &message.Location{}, Keyboard: inline(numbered(1)...)}}, message.RefusedInvalid},
		"long place":    {message.Outbound{Content: message.Content{Kind: message.KindLocation, Location: &message.Location{Title: strings.Repeat("x", 1001)}}}, message.RefusedLimit},
		"language":      {message.Outbound{Content: message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "x"}}}, message.RefusedInvalid},
		"name":          {message.Outbound{Content: message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "X", Language: "ru"}}}, message.RefusedInvalid},
		"long name":     {message.Outbound{Content: message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: strings.Repeat("x", 513), Language: "ru"}}}, message.RefusedLimit},
		"two files":     {message.Outbound{Content: message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "x", Language: "ru"}, Files: make([]message.File, 2)}}, message.RefusedLimit},
		"large picture": {template(file(message.KindImage, "a.jpg", "image/jpeg", 5_000_001)), message.RefusedLimit},
		"WebP picture":  {template(file(message.KindImage, "a.webp", "image/webp", 5)), message.RefusedLimit},
		"voice":         {template(file(message.KindVoice, "a.ogg", "audio/ogg", 5)), message.RefusedLimit},
		"reply keys":    {message.Outbound{Content: message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "x", Language: "ru"}, Keyboard: &message.Keyboard{Kind: message.KeyboardReply, Rows: [][]message.KeyButton{numbered(1)}}}}, message.RefusedUnsupported},
		"line break":    {message.Outbound{Content: message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "x", Language: "ru", Parameters: []string{"a\nb"}}}}, message.RefusedInvalid},
	} {
		_, err := c.Plan(&row.out)
		if r, ok := errors.AsType[*message.Refusal](err); !ok || r.Code != row.code {
			t.Errorf("%s: %v, want %s", name, err, row.code)
		}
	}
}

// A form's answers are the customer's own words, whatever they are called.
func TestFlowReply(t *testing.T) {
	t.Parallel()
	got, err := opened(t).Decode([]byte(`{"from":"79261234567","messageId":"m1","message":{"type":"INTERACTIVE_FLOW_REPLY","text":"sent","response":{ "date": "2026-01-02", "agree":true}}}`))
	if err != nil || len(got) != 1 || got[0].Content.Kind != message.KindService || got[0].Content.Text != "sent" || got[0].Content.Payload != `{"date":"2026-01-02","agree":true}` {
		t.Errorf("%+v %v", got, err)
	}
}

// The key goes to Infobip alone.
func TestKeyStaysHome(t *testing.T) {
	t.Parallel()
	c := opened(t)
	for ref, sent := range map[string]bool{
		"https://api.infobip.com/m/1": true, "https://x1.api.infobip.com/m/1": true, "https://X1.API.infobip.com/m/1": true,
		"http://x1.api.infobip.com/m/1": false, "https://x1.api.infobip.com:8443/m": false, "https://api.infobip.com.evil.example/m": false,
		"https://evilapi.infobip.com/m": false, "https://evil.example/api.infobip.com": false,
	} {
		var home, away []string
		c.env.HTTP = doer(func(r *http.Request) { home = append(home, r.Header.Get("Authorization")) })
		c.env.Fetch = doer(func(r *http.Request) { away = append(away, r.Header.Get("Authorization")) })
		if _, err := c.Fetch(t.Context(), ref); err == nil {
			t.Errorf("%s: no error", ref)
		}
		if sent != (len(home) == 1) || sent == (len(away) == 1) || len(away) == 1 && away[0] != "" {
			t.Errorf("%s: %d times home, away %q", ref, len(home), away)
		}
	}
}

type doer func(*http.Request)

func (d doer) Do(r *http.Request) (*http.Response, error) { d(r); return nil, errors.New("no network") }

// FuzzPlan: whatever is planned has parts within the limits, and loses no text.
func FuzzPlan(f *testing.F) {
	f.Add("Hello", 1, true)
	f.Add(strings.Repeat("😀", 3000), 5, false)
	c := opened(f)
	f.Fuzz(func(t *testing.T, s string, n int, withFile bool) {
		out := message.Outbound{ID: "1", Chat: testPhone, Content: message.Content{Kind: message.KindText, Text: s}}
		if n > 0 {
			out.Keyboard = inline(numbered(n%10 + 1)...)
		}
		if withFile {
			out.Kind, out.Files = message.KindImage, []message.File{file(message.KindImage, "a.jpg", "image/jpeg", 5)}
		}
		caps := c.Capabilities()
		if caps.Check(&out.Content, false) != nil {
			return
		}
		parts, err := c.Plan(&out)
		if err != nil {
			return
		}
		var whole bytes.Buffer
		for i := range parts {
			limit := textLimit.Max
			switch {
			case len(parts[i].Files) > 0:
				limit = captionLimit.Max
			case parts[i].Keyboard != nil:
				limit = bodyLimit.Max
			}
			if got := message.UnitUTF16.Count(parts[i].Text); got > limit {
				t.Errorf("part %d has %d units, limit %d", i, got, limit)
			}
			whole.WriteString(parts[i].Text)
		}
		if strings.Join(strings.Fields(whole.String()), "") != strings.Join(strings.Fields(s), "") {
			t.Errorf("the parts are not the text")
		}
	})
}
