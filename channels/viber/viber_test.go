package viber

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/channels/channeltest"
	"switchboard/message"
)

const (
	testToken = "4f1a2b3c4d5e6f70-8192a3b4c5d6e7f8-0a1b2c3d4e5f6071"
	testUser  = "Zx9aBcD1eFgHiJkLmNoPqQ=="
	ok        = `{"status":0,"status_message":"ok","message_token":5881234567890200001,"chat_hostname":"SN-CHAT-05_","billing_status":1}`

	// The signed bodies and their signatures, as published and as computed by
	// two other programs.
	body1 = `{"event":"webhook","timestamp":1770000000000,"message_token":5881234567890000001}`
	sig1  = "1543da8b9983833def80c5b931f6e80b57b432847c9aa808c4ee15d29cdb0da4"
	body2 = `{"event":"message","timestamp":1770000000123,"chat_hostname":"SN-CHAT-05_","message_token":5881234567890123456,"sender":{"id":"Zx9aBcD1eFgHiJkLmNoPqQ==","name":"Олена","language":"uk","country":"UA","api_version":10},"message":{"type":"text","text":"Привіт / hi"},"silent":false}`
	sig2  = "ec5c1d988e38830b5d5a784355f820e6a51fa2311897619952c037930439f57c"
)

func settings() map[string]string {
	return map[string]string{"token": testToken, "sender_name": "Example Shop", "sender_avatar": "https://cdn.example.com/shop.png"}
}

// answer is Viber when all is well.
func viberAnswer(r *channeltest.Request) channeltest.Response {
	switch r.Path {
	case "/pa/send_message":
		return channeltest.Response{Body: ok}
	case "/pa/get_account_info":
		return channeltest.Response{Body: `{"status":0,"status_message":"ok","id":"pa:75346594275468546724","name":"Example Shop","uri":"exampleshop","subscribers_count":35,"webhook":"","event_types":["delivered"],"members":[{"id":"x","name":"Boss","role":"admin"}]}`}
	case "/pa/set_webhook":
		return channeltest.Response{Body: `{"status":0,"status_message":"ok","chat_hostname":"SN-CHAT-05_","event_types":["subscribed","unsubscribed","delivered","seen","failed","conversation_started","message"]}`}
	default:
		return channeltest.Response{Status: 404, Body: "not Viber's"}
	}
}

func stored(kind message.Kind, name, mime string, size int64) message.File {
	return message.File{ID: name, Kind: kind, Name: name, Mime: mime, Size: size, State: message.FileReady}
}

func replyKeyboard(rows ...[]message.KeyButton) *message.Keyboard {
	return &message.Keyboard{Kind: message.KeyboardReply, Rows: rows}
}

func out(c message.Content) message.Outbound { return message.Outbound{Content: c} }

func testCase() channeltest.Case {
	files := func(kind message.Kind, text string, f ...message.File) message.Outbound {
		return out(message.Content{Kind: kind, Text: text, Files: f})
	}
	text := func(s string, k *message.Keyboard) message.Outbound {
		return out(message.Content{Kind: message.KindText, Text: s, Keyboard: k})
	}
	row := func(b ...message.KeyButton) []message.KeyButton { return b }
	named := text("Hello <b> & \"you\" \u2028 😀", nil)
	named.SenderName, named.SenderAvatar = "  Anastasia\nKonstantinopolskaya-😀Smith ", "https://cdn.example.com/ann.png"
	relative := text("Hello", nil)
	relative.SenderName, relative.SenderAvatar = " ", "/avatars/ann.png"
	tracked := text("tracked", nil)
	tracked.Payload = "campaign:7"
	buttons := func(n int) (r []message.KeyButton) {
		for i := range n {
			r = append(r, message.KeyButton{Text: fmt.Sprint(i + 1), Payload: fmt.Sprint("p", i+1)})
		}
		return r
	}
	return channeltest.Case{
		Platform: Platform(),
		Settings: settings(),
		Chat:     testUser,
		Customer: testUser,
		Answer:   viberAnswer,
		Sends: []channeltest.Send{
			{Name: "text", Out: text("Your parcel is on its way", nil)},
			{Name: "text_operator", Out: named},
			{Name: "text_operator_unnamed", Out: relative},
			{Name: "text_tracked", Out: tracked},
			{Name: "keyboard", Out: text("Rate the answer", replyKeyboard(
				row(message.KeyButton{Text: "<Good> & cheap", Payload: "rate:5"}, message.KeyButton{Text: "Bad", Payload: "rate:1"}),
				row(message.KeyButton{Text: "No payload"}, message.KeyButton{Text: "Shop", Action: message.KeyURL, URL: "https://shop.example.com/?a=1&b=2"}),
			))},
			{Name: "keyboard_phone_location", Out: text("Where are you?", replyKeyboard(
				row(message.KeyButton{Text: "Send my phone number", Action: message.KeyPhone}),
				row(message.KeyButton{Text: "Send my location", Action: message.KeyLocation}),
			))},
			{Name: "keyboard_widths", Out: text("1 to 6", replyKeyboard(buttons(1), buttons(2), buttons(3), buttons(4), buttons(5), buttons(6)))},
			{Name: "keyboard_remove", Out: text("Thanks", &message.Keyboard{Kind: message.KeyboardRemove})},
			{Name: "keyboard_long_payload", Out: text("long", replyKeyboard(row(message.KeyButton{Text: strings.Repeat("t", 100), Payload: strings.Repeat("p", 200)})))},
			{Name: "keyboard_inline", Out: text("no", &message.Keyboard{Kind: message.KeyboardInline, Rows: [][]message.KeyButton{buttons(1)}}), Refused: message.RefusedUnsupported},
			{Name: "keyboard_wide", Out: text("no", replyKeyboard(buttons(7))), Refused: message.RefusedLimit},
			{Name: "picture", Out: files(message.KindImage, "The new model", stored(message.KindImage, "a1.jpg", "image/jpeg", 1<<20))},
			{Name: "picture_without_caption", Out: files(message.KindImage, "", stored(message.KindImage, "a1.png", "image/png", 17))},
			{Name: "picture_large", Out: files(message.KindImage, "Too fine", stored(message.KindImage, "a1.jpg", "image/jpeg", 1<<20+1))},
			{Name: "picture_webp", Out: files(message.KindImage, "", stored(message.KindImage, "a1", "image/webp", 17))},
			{Name: "sticker", Out: files(message.KindSticker, "", stored(message.KindSticker, "hi.webp", "image/webp", 17))},
			{Name: "sticker_png", Out: files(message.KindSticker, "", stored(message.KindSticker, "hi.png", "image/png", 17))},
			{Name: "video", Out: files(message.KindVideo, "How it works", message.File{ID: "v1.mp4", Kind: message.KindVideo, Name: "v1.mp4", Mime: "video/mp4", Size: 26 << 20, Duration: 12})},
			{Name: "video_large", Out: files(message.KindVideo, "", stored(message.KindVideo, "v1.mp4", "video/mp4", 26<<20+1))},
			{Name: "video_webm", Out: files(message.KindVideo, "", stored(message.KindVideo, "v1.webm", "video/webm", 100))},
			{Name: "video_long", Out: files(message.KindVideo, "", message.File{ID: "v1.mp4", Kind: message.KindVideo, Name: "v1.mp4", Mime: "video/mp4", Size: 100, Duration: 181})},
			{Name: "document", Out: files(message.KindDocument, "Your invoice", stored(message.KindDocument, "invoice 17.pdf", "application/pdf", 190443))},
			{Name: "document_too_large", Out: files(message.KindDocument, "", stored(message.KindDocument, "x.zip", "application/zip", 50<<20+1)), Refused: message.RefusedLimit},
			{Name: "document_largest", Out: files(message.KindDocument, "", stored(message.KindDocument, "x.zip", "application/zip", 50<<20))},
			{Name: "document_nameless", Out: files(message.KindDocument, "", message.File{ID: "f1", Kind: message.KindDocument, Mime: "text/plain; charset=utf-8", Size: 5})},
			{Name: "document_long_name", Out: files(message.KindDocument, "", stored(message.KindDocument, strings.Repeat("ж", 300)+".docx", "application/msword", 5))},
			{Name: "audio", Out: files(message.KindAudio, "", stored(message.KindAudio, "song.mp3", "audio/mpeg", 5))},
			{Name: "voice", Out: files(message.KindVoice, "", stored(message.KindVoice, "voice", "audio/ogg", 5))},
			{Name: "files", Out: out(message.Content{
				Kind: message.KindImage, Text: "Both sides", Keyboard: replyKeyboard(buttons(2)), Payload: "t",
				Files: []message.File{stored(message.KindImage, "a.jpg", "image/jpeg", 10), stored(message.KindDocument, "b.pdf", "application/pdf", 20), stored(message.KindVideo, "c.mp4", "video/mp4", 30)},
			})},
			{Name: "files_document_first", Out: files(message.KindDocument, "The papers", stored(message.KindDocument, "b.pdf", "application/pdf", 20), stored(message.KindImage, "a.jpg", "image/jpeg", 10))},
			{Name: "location", Out: out(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 54.687157, Lon: 25.279652}})},
			{Name: "location_titled", Out: out(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 0, Lon: -0.5, Title: "Our shop", Address: "Main street 1"}})},
			{Name: "contact", Out: out(message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: "Service desk", Phone: "+37060000000"}})},
			{Name: "contact_nameless", Out: out(message.Content{Kind: message.KindContact, Contact: &message.Contact{Phone: "+37060000000"}})},
			{Name: "contact_long_name", Out: out(message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: strings.Repeat("x", 29), Phone: "1"}}), Refused: message.RefusedLimit},
			{Name: "contact_long_phone", Out: out(message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: "x", Phone: strings.Repeat("1", 19)}}), Refused: message.RefusedLimit},
			{Name: "reply", Out: message.Outbound{Content: message.Content{Kind: message.KindText, Text: "x"}, ReplyTo: "1"}, Refused: message.RefusedUnsupported},
			{Name: "template", Out: out(message.Content{Kind: message.KindTemplate}), Refused: message.RefusedUnsupported},
		},
		Calls: []channeltest.Call{
			{Name: "check_replaces", Do: check, Answer: func(r *channeltest.Request) channeltest.Response {
				if r.Path == "/pa/get_account_info" {
					return channeltest.Response{Body: `{"status":0,"name":"Example Shop","webhook":"https://old.example/hook"}`}
				}
				return viberAnswer(r)
			}},
			{Name: "check_wrong_token", Do: check, Answer: func(*channeltest.Request) channeltest.Response {
				return channeltest.Response{Body: `{"status":2,"status_message":"invalidAuthToken ` + testToken + `"}`}
			}},
			{Name: "check_webhook_refused", Do: check, Answer: func(r *channeltest.Request) channeltest.Response {
				if r.Path == "/pa/set_webhook" {
					return channeltest.Response{Body: `{"status":1,"status_message":"java.net.ConnectException: Connection refused"}`}
				}
				return viberAnswer(r)
			}},
			{Name: "check_webhook_refused_silently", Do: check, Answer: func(r *channeltest.Request) channeltest.Response {
				if r.Path == "/pa/set_webhook" {
					return channeltest.Response{Body: `{"status":1}`}
				}
				return viberAnswer(r)
			}},
			{Name: "send_without_webhook", Do: sendText(replyKeyboard(row(message.KeyButton{Text: "A", Payload: "a"}))), Answer: once("/pa/send_message", `{"status":10,"status_message":"webhookNotSet"}`)},
			{Name: "send_without_webhook_refused", Do: sendText(nil), Answer: func(r *channeltest.Request) channeltest.Response {
				if r.Path == "/pa/set_webhook" {
					return channeltest.Response{Body: `{"status":1,"status_message":"invalidUrl"}`}
				}
				return channeltest.Response{Body: `{"status":10,"status_message":"webhookNotSet"}`}
			}},
			{Name: "send_without_webhook_lost", Do: sendText(nil), Answer: func(r *channeltest.Request) channeltest.Response {
				if r.Path == "/pa/set_webhook" {
					return channeltest.Response{Cut: true}
				}
				return channeltest.Response{Body: `{"status":10,"status_message":"webhookNotSet"}`}
			}},
			{Name: "send_to_old_client", Do: sendText(replyKeyboard(
				row(message.KeyButton{Text: "A", Payload: "a"}, message.KeyButton{Text: "Phone", Action: message.KeyPhone}),
				row(message.KeyButton{Text: "Place", Action: message.KeyLocation}),
			)), Answer: once("/pa/send_message", `{"status":13,"status_message":"apiVersionNotSupported"}`)},
			{Name: "send_to_old_client_only_phone", Do: sendText(replyKeyboard(
				row(message.KeyButton{Text: "Phone", Action: message.KeyPhone}),
			)), Answer: once("/pa/send_message", `{"status":13,"status_message":"apiVersionNotSupported"}`)},
			{Name: "send_to_old_client_plain_already", Do: sendText(replyKeyboard(
				row(message.KeyButton{Text: "A", Payload: "a"}),
			)), Answer: once("/pa/send_message", `{"status":13,"status_message":"apiVersionNotSupported"}`)},
		},
		Errors:      errorRows(),
		Verify:      verifyRows(),
		Fetches:     fetchRows(),
		BadSettings: badSettings(),
	}
}

func check(ctx context.Context, ch channels.Channel) (any, error) { return ch.Check(ctx) }

// sendText sends one text and shows the receipt.
func sendText(k *message.Keyboard) func(context.Context, channels.Channel) (any, error) {
	return func(ctx context.Context, ch channels.Channel) (any, error) {
		parts, err := ch.Plan(&message.Outbound{Chat: testUser, Content: message.Content{Kind: message.KindText, Text: "Hello", Keyboard: k}})
		if err != nil {
			return nil, err
		}
		receipt, err := ch.Send(ctx, &parts[0])
		return receipt, err
	}
}

// once answers the first request to path with body, and is well otherwise.
func once(path, body string) func(*channeltest.Request) channeltest.Response {
	first := make(chan struct{}, 1)
	first <- struct{}{}
	return func(r *channeltest.Request) channeltest.Response {
		if r.Path == path {
			select {
			case <-first:
				return channeltest.Response{Body: body}
			default:
			}
		}
		return viberAnswer(r)
	}
}

func status(n int, name string) channeltest.Response {
	return channeltest.Response{
		Header: map[string]string{"Date": "Sat, 21 Nov 2026 10:58:30 GMT"},
		Body:   fmt.Sprintf(`{"status":%d,"status_message":%q,"message_token":5881234567890123456,"chat_hostname":"SN-CHAT-05_"}`, n, name),
	}
}

func errorRows() []channeltest.ErrorRow {
	kinds := []struct {
		status int
		name   string
		kind   message.ErrorKind
	}{
		{1, "invalidUrl", message.ErrInvalid},
		{2, "invalidAuthToken", message.ErrAccount},
		{3, "badData", message.ErrInvalid},
		{4, "missingData", message.ErrInvalid},
		{5, "receiverNotRegistered", message.ErrRecipient},
		{6, "receiverNotSubscribed", message.ErrRecipient},
		{7, "publicAccountBlocked", message.ErrAccount},
		{8, "publicAccountNotFound", message.ErrAccount},
		{9, "publicAccountSuspended", message.ErrAccount},
		{11, "receiverNoSuitableDevice", message.ErrRecipient},
		{13, "apiVersionNotSupported", message.ErrInvalid},
		{14, "incompatibleWithVersion", message.ErrInvalid},
		{15, "publicAccountNotAuthorized", message.ErrAccount},
		{16, "inchatReplyMessageNotAllowed", message.ErrInvalid},
		{17, "publicAccountIsNotInline", message.ErrInvalid},
		{18, "noPublicChat", message.ErrInvalid},
		{19, "cannotSendBroadcast", message.ErrUnavailable},
		{20, "broadcastNotAllowed", message.ErrUnavailable},
		{21, "unsupportedCountry", message.ErrInvalid},
		{22, "paymentUnsupported", message.ErrInvalid},
		{23, "freeMessagesExceeded", message.ErrInvalid},
		{24, "noBalance", message.ErrInvalid},
		{25, "generalError", message.ErrUnavailable},
		{999, "generalError", message.ErrUnavailable},
	}
	var rows []channeltest.ErrorRow
	for _, k := range kinds {
		rows = append(rows, channeltest.ErrorRow{
			Name: fmt.Sprintf("%d %s", k.status, k.name), Response: status(k.status, k.name),
			Want: message.Error{Kind: k.kind, Code: fmt.Sprint(k.status)},
		})
	}
	hour := status(12, "tooManyRequests")
	told := status(12, "tooManyRequests")
	told.Header["Retry-After"] = "30"
	private := status(3, "badData: 'чужая тайна 4711' with token "+testToken)
	http := func(name string, code int, body string, want message.ErrorKind, platform ...string) channeltest.ErrorRow {
		return channeltest.ErrorRow{
			Name: name, Response: channeltest.Response{Status: code, Body: body},
			Want: message.Error{Kind: want, Code: strings.Join(append(platform, fmt.Sprint(code))[:1], "")},
		}
	}
	return append(rows,
		channeltest.ErrorRow{Name: "12 till the next hour", Response: hour, Want: message.Error{Kind: message.ErrThrottled, Code: "12", ChatOnly: true, RetryAfter: 91 * time.Second}},
		channeltest.ErrorRow{Name: "12 as told", Response: told, Want: message.Error{Kind: message.ErrThrottled, Code: "12", ChatOnly: true, RetryAfter: 30 * time.Second}},
		channeltest.ErrorRow{Name: "10 twice", Response: status(10, "webhookNotSet"), Want: message.Error{Kind: message.ErrAccount, Code: "10"}},
		channeltest.ErrorRow{Name: "private words", Response: private, Want: message.Error{
			Kind: message.ErrInvalid, Code: "3", Detail: "badData: '[text]' with token [token]: Viber refused a field of the message",
		}},
		channeltest.ErrorRow{
			Name: "429", Response: channeltest.Response{Status: 429, Header: map[string]string{"Retry-After": "7"}, Body: "slow down"},
			Want: message.Error{Kind: message.ErrThrottled, Code: "429", RetryAfter: 7 * time.Second},
		},
		channeltest.ErrorRow{
			Name: "429 with date",
			Response: channeltest.Response{Status: 429, Header: map[string]string{
				"Date": "Sat, 21 Nov 2026 10:00:00 GMT", "Retry-After": "Sat, 21 Nov 2026 10:00:20 GMT",
			}, Body: `{"status":12}`},
			Want: message.Error{Kind: message.ErrThrottled, Code: "429", RetryAfter: 20 * time.Second},
		},
		http("status as text", 200, `{"status":"6","status_message":"notSubscribed"}`, message.ErrRecipient, "6"),
		http("no status", 200, `{"ok":true}`, message.ErrUncertain),
		http("status of a wrong type", 200, `{"status":{}}`, message.ErrUncertain),
		http("known status inside 500", 500, `{"status":6,"status_message":"notSubscribed"}`, message.ErrRecipient, "6"),
		http("a server's own JSON page", 500, `{"timestamp":"x","status":500,"error":"Internal Server Error"}`, message.ErrUncertain),
		http("401", 401, "", message.ErrAccount),
		http("403", 403, "<html>", message.ErrAccount),
		http("404", 404, "<html>", message.ErrUnavailable),
		http("413", 413, "<html>", message.ErrInvalid),
		http("503", 503, "<html>", message.ErrUncertain),
	)
}

func verifyRows() []channeltest.VerifyRow {
	sig := func(s string) http.Header { return http.Header{signatureHeader: {s}} }
	return []channeltest.VerifyRow{
		{Name: "vector 1", Header: sig(sig1), Body: body1, OK: true},
		{Name: "vector 2", Header: sig(sig2), Body: body2, OK: true},
		{Name: "another body's", Header: sig(sig1), Body: body2},
		{Name: "one byte changed", Header: sig(sig1), Body: strings.Replace(body1, "webhook", "webhooK", 1)},
		{Name: "one byte more", Header: sig(sig1), Body: body1 + "\n"},
		{Name: "missing", Body: body1},
		{Name: "empty", Header: sig(""), Body: body1},
		{Name: "short", Header: sig(sig1[:62]), Body: body1},
		{Name: "long", Header: sig(sig1 + "00"), Body: body1},
		{Name: "no hex", Header: sig(strings.Repeat("z", 64)), Body: body1},
		{Name: "zeroes", Header: sig(strings.Repeat("0", 64)), Body: body1},
		{Name: "in the query only", Query: map[string][]string{"sig": {sig1}}, Body: body1},
	}
}

func fetchRows() []channeltest.FetchRow {
	return []channeltest.FetchRow{
		{
			Name: "picture", Ref: "{{api}}/5/media/bb.jpg", Body: "jpeg", Mime: "image/jpeg", FileName: "bb.jpg",
			Answer: func(r *channeltest.Request) channeltest.Response {
				if r.Header.Get("X-Viber-Auth-Token") != "" || r.Method != "GET" {
					return channeltest.Response{Status: 400}
				}
				return channeltest.Response{Body: "jpeg", Header: map[string]string{"Content-Type": "image/jpeg"}}
			},
		},
		{
			Name: "named", Ref: "{{api}}/download?id=1", Body: "pdf", Mime: "application/pdf", FileName: "invoice.pdf",
			Answer: func(*channeltest.Request) channeltest.Response {
				return channeltest.Response{Body: "pdf", Header: map[string]string{
					"Content-Type": "application/pdf", "Content-Disposition": `attachment; filename="../invoice.pdf"`,
				}}
			},
		},
		{Name: "not found", Ref: "{{api}}/x.jpg", Err: channels.ErrFileGone, Answer: func(*channeltest.Request) channeltest.Response {
			return channeltest.Response{Status: 404}
		}},
		{Name: "gone", Ref: "{{api}}/x.jpg", Err: channels.ErrFileGone, Answer: func(*channeltest.Request) channeltest.Response {
			return channeltest.Response{Status: 410}
		}},
		{Name: "no address", Ref: "file:///etc/passwd", Err: channels.ErrFileGone},
	}
}

func badSettings() map[string]string {
	return map[string]string{
		"token":            "two words",
		"sender_name":      strings.Repeat("x", 29),
		"sender_avatar":    "avatar.png",
		"welcome":          strings.Repeat("x", 7001),
		"welcome_keyboard": `{"kind":"reply","rows":[[{"text":"Yes"}]]}`, // without welcome
	}
}

func TestChannel(t *testing.T) {
	t.Parallel()
	channeltest.Run(t, testCase())
}

func FuzzDecode(f *testing.F) { channeltest.FuzzDecode(f, testCase()) }
