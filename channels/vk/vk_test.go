package vk

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
	testToken  = "vk1.a.SECRET-token_of.the-community"
	testSecret = "s3cretKey_vk"
	testPeer   = "77001122"
)

func settings() map[string]string {
	return map[string]string{"token": testToken, "group_id": "123456789", "secret": testSecret}
}

// vkAnswer is VK when all is well.
func vkAnswer(r *channeltest.Request) channeltest.Response {
	body := map[string]string{
		"/method/messages.send":                       `{"response":[{"peer_id":77001122,"message_id":90322,"conversation_message_id":119}]}`,
		"/method/messages.edit":                       `{"response":1}`,
		"/method/messages.delete":                     `{"response":[{"peer_id":77001122,"conversation_message_id":119,"response":1}]}`,
		"/method/messages.setActivity":                `{"response":1}`,
		"/method/messages.sendMessageEventAnswer":     `{"response":1}`,
		"/method/messages.getByConversationMessageId": `{"response":{"count":1,"items":[{"id":90322,"peer_id":77001122,"conversation_message_id":119,"text":"old","attachments":[{"type":"photo","photo":{"id":7,"owner_id":-123456789,"access_key":"k7"}},{"type":"doc","doc":{"id":8,"owner_id":-123456789}}]}]}}`,
		"/method/photos.getMessagesUploadServer":      `{"response":{"upload_url":"{{api}}/upload/photo?key=1","album_id":-64,"group_id":0}}`,
		"/upload/photo":                               `{"server":851,"photo":"[{\"photo\":\"a\"}]","hash":"9f"}`,
		"/method/photos.saveMessagesPhoto":            `{"response":[{"id":457239100,"owner_id":-123456789,"access_key":"k"}]}`,
		"/upload/doc":                                 `{"file":"77001122|0|0|doc"}`,
		"/upload/audio_message":                       `{"file":"77001122|0|0|voice"}`,
		"/upload/graffiti":                            `{"file":"77001122|0|0|graffiti"}`,
		"/method/groups.getById":                      `{"response":{"groups":[{"id":123456789,"name":"Магазин","screen_name":"shop","is_closed":0}],"profiles":[]}}`,
		"/method/groups.getTokenPermissions":          `{"response":{"mask":1,"permissions":[{"name":"messages","setting":4096},{"name":"photos","setting":4},{"name":"docs","setting":131072},{"name":"manage","setting":262144}]}}`,
		"/method/groups.setLongPollSettings":          `{"response":1}`,
		"/method/groups.getLongPollServer":            `{"response":{"key":"f1e2","server":"{{api}}/whp/123456789","ts":"1411"}}`,
		"/method/groups.getCallbackServers":           `{"response":{"count":0,"items":[]}}`,
		"/method/groups.getCallbackConfirmationCode":  `{"response":{"code":"1a2b3c4d"}}`,
		"/method/groups.addCallbackServer":            `{"response":{"server_id":3}}`,
		"/method/groups.editCallbackServer":           `{"response":1}`,
		"/method/groups.setCallbackSettings":          `{"response":1}`,
		"/method/users.get":                           `{"response":[{"id":77001122,"first_name":"Анна","last_name":"Котова","photo_200":"https://sun9-1.userapi.com/200.jpg","photo_100":"https://sun9-1.userapi.com/100.jpg","screen_name":"akotova","is_closed":false,"can_access_closed":true}]}`,
		"/whp/123456789":                              `{"ts":"1413","updates":[]}`,
	}[r.Path]
	if r.Path == "/method/docs.getMessagesUploadServer" {
		body = `{"response":{"upload_url":"{{api}}/upload/` + form(r).Get("type") + `"}}`
	}
	if r.Path == "/method/docs.save" {
		kind := map[string]string{"doc": "doc", "voice": "audio_message", "graffiti": "graffiti"}[form(r).Get("file")[len("77001122|0|0|"):]]
		body = `{"response":{"type":"` + kind + `","` + kind + `":{"id":671,"owner_id":-123456789,"url":"https://vk.ru/doc"}}}`
	}
	if body == "" {
		body = `{"error":{"error_code":3,"error_msg":"Unknown method passed"}}`
	}
	return channeltest.Response{Body: body}
}

func out(c message.Content) message.Outbound { return message.Outbound{Content: c} }

func text(s string, k *message.Keyboard) message.Outbound {
	return out(message.Content{Kind: message.KindText, Text: s, Keyboard: k})
}

func board(kind message.KeyboardKind, rows ...[]message.KeyButton) *message.Keyboard {
	return &message.Keyboard{Kind: kind, Rows: rows}
}

func buttons(n int) (row []message.KeyButton) {
	for i := range n {
		row = append(row, message.KeyButton{Text: fmt.Sprint(i + 1), Payload: fmt.Sprint("p", i+1)})
	}
	return row
}

func sized(kind message.Kind, name, mime string, size int64) message.File {
	return message.File{ID: name, Kind: kind, Name: name, Mime: mime, Size: size, State: message.FileReady}
}

// refusal is VK's error envelope.
func refusal(code int) channeltest.Response {
	return channeltest.Response{Body: fmt.Sprintf(`{"error":{"error_code":%d,"error_msg":"words of VK","request_params":[{"key":"message","value":"чужая тайна 4711"},{"key":"access_token","value":"%s"}]}}`, code, testToken)}
}

func testCase() channeltest.Case {
	files := func(kind message.Kind, words string, f ...message.File) message.Outbound {
		return out(message.Content{Kind: kind, Text: words, Files: f})
	}
	row := func(b ...message.KeyButton) []message.KeyButton { return b }
	reply := text("это", nil)
	reply.ReplyTo = "118"
	replyToPress := text("это", nil)
	replyToPress.ReplyTo = "event:b63f"
	chat := text("в беседу", nil)
	chat.Chat = "2000000007"
	var eleven []message.File
	for i := range 10 {
		eleven = append(eleven, channeltest.File(message.KindImage, fmt.Sprintf("%d.jpg", i), "image/jpeg"))
	}
	c := channeltest.Case{
		Platform: Platform(), Settings: settings(), Chat: testPeer, Customer: testPeer, Answer: vkAnswer,
		Sends: []channeltest.Send{
			{Name: "out_text", Out: text("Уже едет 😀", nil)},
			{Name: "out_text_long", Out: text(strings.Repeat("слово ", 800), nil)},
			{Name: "out_text_chat", Out: chat},
			{Name: "out_reply", Out: reply},
			{Name: "out_reply_to_press", Out: replyToPress},
			{Name: "out_keyboard", Out: text("Выберите", &message.Keyboard{Kind: message.KeyboardReply, Once: true, Rows: [][]message.KeyButton{
				row(message.KeyButton{Text: "Да", Payload: "y"}, message.KeyButton{Text: "<Нет> & \"всё\""}),
				row(message.KeyButton{Text: "Сайт", Action: message.KeyURL, URL: "https://example.org/?a=1&b=2"}),
				row(message.KeyButton{Text: "Где я", Action: message.KeyLocation}),
			}})},
			{Name: "out_keyboard_inline", Out: text("Оцените", board(message.KeyboardInline, row(message.KeyButton{Text: "Отлично", Payload: "csat:5"}, message.KeyButton{Text: "Плохо"}), row(message.KeyButton{Text: "Сайт", Action: message.KeyURL, URL: "https://example.org"})))},
			{Name: "out_keyboard_remove", Out: text("Спасибо", &message.Keyboard{Kind: message.KeyboardRemove})},
			{Name: "out_keyboard_full", Out: text("40", board(message.KeyboardReply, buttons(4), buttons(4), buttons(4), buttons(4), buttons(4), buttons(4), buttons(4), buttons(4), buttons(4), buttons(4)))},
			{Name: "rows", Out: text("11", board(message.KeyboardReply, buttons(1), buttons(1), buttons(1), buttons(1), buttons(1), buttons(1), buttons(1), buttons(1), buttons(1), buttons(1), buttons(1))), Refused: message.RefusedLimit},
			{Name: "columns", Out: text("6", board(message.KeyboardReply, buttons(6))), Refused: message.RefusedLimit},
			{Name: "buttons", Out: text("41", board(message.KeyboardReply, buttons(5), buttons(5), buttons(5), buttons(5), buttons(5), buttons(5), buttons(5), buttons(5), buttons(1))), Refused: message.RefusedLimit},
			{Name: "label", Out: text("41", board(message.KeyboardReply, row(message.KeyButton{Text: strings.Repeat("я", 41)}))), Refused: message.RefusedLimit},
			{Name: "payload", Out: text("247", board(message.KeyboardReply, row(message.KeyButton{Text: "a", Payload: strings.Repeat("я", 247)}))), Refused: message.RefusedLimit},
			{Name: "out_payload_longest", Out: text("246", board(message.KeyboardInline, row(message.KeyButton{Text: strings.Repeat("я", 40), Payload: strings.Repeat("я", 246)})))},
			{Name: "phone", Out: text("phone", board(message.KeyboardReply, row(message.KeyButton{Text: "a", Action: message.KeyPhone}))), Refused: message.RefusedUnsupported},
			{Name: "out_photo", Out: files(message.KindImage, "подпись", channeltest.File(message.KindImage, "a.jpg", "image/jpeg"))},
			{Name: "out_photo_too_big", Out: files(message.KindImage, "", sized(message.KindImage, "big.jpg", "image/jpeg", photoBytes+1))},
			{Name: "out_photo_biggest", Out: files(message.KindImage, "", sized(message.KindImage, "big.jpg", "image/jpeg", photoBytes))},
			{Name: "out_gif", Out: files(message.KindImage, "", channeltest.File(message.KindImage, "a.gif", "image/gif"))},
			{Name: "out_album", Out: files(message.KindImage, "все", channeltest.File(message.KindImage, "a.jpg", "image/jpeg"), channeltest.File(message.KindDocument, "b.pdf", "application/pdf"), channeltest.File(message.KindVideo, "c.mp4", "video/mp4"))},
			{Name: "out_album_full", Out: files(message.KindImage, "", eleven...)},
			{Name: "album", Out: files(message.KindImage, "", append(eleven, eleven[0])...), Refused: message.RefusedLimit},
			{Name: "out_document", Out: files(message.KindDocument, "", channeltest.File(message.KindDocument, "счёт \"17\".pdf", "application/pdf"))},
			{Name: "out_document_picture", Out: files(message.KindDocument, "", channeltest.File(message.KindImage, "a.jpg", "image/jpeg"))},
			{Name: "out_document_biggest", Out: files(message.KindDocument, "", sized(message.KindDocument, "a.zip", "application/zip", documentBytes))},
			{Name: "document_too_big", Out: files(message.KindDocument, "", sized(message.KindDocument, "a.zip", "application/zip", documentBytes+1)), Refused: message.RefusedLimit},
			{Name: "out_video", Out: files(message.KindVideo, "как это", channeltest.File(message.KindVideo, "v", "video/mp4"))},
			{Name: "out_voice", Out: files(message.KindVoice, "", channeltest.File(message.KindVoice, "voice.ogg", "audio/ogg"))},
			{Name: "out_voice_with_text", Out: out(message.Content{Kind: message.KindVoice, Text: "и слова", Files: []message.File{channeltest.File(message.KindVoice, "voice.ogg", "audio/ogg; codecs=opus")}, Keyboard: board(message.KeyboardInline, buttons(1))})},
			{Name: "out_sticker", Out: files(message.KindSticker, "", channeltest.File(message.KindSticker, "s.png", "image/png"))},
			{Name: "out_sticker_webp", Out: files(message.KindSticker, "", channeltest.File(message.KindSticker, "s.webp", "image/webp"))},
			{Name: "audio", Out: files(message.KindAudio, "", channeltest.File(message.KindAudio, "a.mp3", "audio/mpeg")), Refused: message.RefusedUnsupported},
			{Name: "contact", Out: out(message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: "A", Phone: "+7"}}), Refused: message.RefusedUnsupported},
			{Name: "template", Out: out(message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "a"}}), Refused: message.RefusedUnsupported},
			{Name: "out_location", Out: out(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 55.75, Lon: -0.000001}})},
			{Name: "out_location_titled", Out: out(message.Content{Kind: message.KindLocation, Text: "ждём", Location: &message.Location{Lat: 55.75, Lon: 37.61, Title: "Склад", Address: "Тверская, 1"}})},
		},
		Calls:  calls(),
		Errors: errorRows(),
		PollErrors: []channeltest.PollErrorRow{
			{Name: "wrong token", Response: refusal(5), Want: channels.PollError{Kind: channels.PollUnauthorized}},
			{Name: "group token invalid", Response: refusal(27), Want: channels.PollError{Kind: channels.PollUnauthorized}},
			{Name: "captcha", Response: refusal(14), Want: channels.PollError{Kind: channels.PollUnavailable}},
			{Name: "per second", Response: refusal(6), Want: channels.PollError{Kind: channels.PollThrottled, RetryAfter: time.Second}},
			{Name: "quantity", Response: refusal(29), Want: channels.PollError{Kind: channels.PollThrottled, RetryAfter: time.Minute}},
			{Name: "internal", Response: refusal(10), Want: channels.PollError{Kind: channels.PollUnavailable}},
			{Name: "429", Response: channeltest.Response{Status: 429, Header: map[string]string{"Retry-After": "7"}}, Want: channels.PollError{Kind: channels.PollThrottled, RetryAfter: 7 * time.Second}},
			{Name: "502", Response: channeltest.Response{Status: 502, Body: "<h1>no</h1>"}, Want: channels.PollError{Kind: channels.PollUnavailable}},
			{Name: "nonsense", Response: channeltest.Response{Body: "<html>"}, Want: channels.PollError{Kind: channels.PollUnavailable}},
			{Name: "cut", Response: channeltest.Response{Cut: true}, Want: channels.PollError{Kind: channels.PollUnavailable}},
		},
		Verify: []channeltest.VerifyRow{
			{Name: "right", Body: `{"type":"message_new","group_id":123456789,"secret":"s3cretKey_vk","object":{}}`, OK: true},
			{Name: "wrong secret", Body: `{"type":"message_new","group_id":123456789,"secret":"s3cretKey_vl","object":{}}`},
			{Name: "shorter secret", Body: `{"type":"message_new","group_id":123456789,"secret":"s","object":{}}`},
			{Name: "no secret", Body: `{"type":"message_new","group_id":123456789,"object":{}}`},
			{Name: "secret elsewhere", Body: `{"type":"message_new","group_id":123456789,"object":{"secret":"s3cretKey_vk"}}`},
			{Name: "secret is a number", Body: `{"type":"message_new","group_id":123456789,"secret":1}`},
			{Name: "another community", Body: `{"type":"message_new","group_id":123456788,"secret":"s3cretKey_vk","object":{}}`},
			{Name: "no community", Body: `{"type":"message_new","secret":"s3cretKey_vk","object":{}}`},
			{Name: "confirmation", Body: `{"type":"confirmation","group_id":123456789}`, OK: true},
			{Name: "confirmation with secret", Body: `{"type":"confirmation","group_id":123456789,"secret":"s3cretKey_vk"}`, OK: true},
			{Name: "confirmation with wrong secret", Body: `{"type":"confirmation","group_id":123456789,"secret":"x"}`},
			{Name: "confirmation of another", Body: `{"type":"confirmation","group_id":1}`},
			{Name: "no object", Body: `[]`},
			{Name: "empty"},
		},
		Fetches: []channeltest.FetchRow{
			{Name: "bytes", Ref: "{{api}}/w.jpg?size=1", Answer: func(*channeltest.Request) channeltest.Response {
				return channeltest.Response{Header: map[string]string{"Content-Type": "image/jpeg"}, Body: "jpeg"}
			}, Body: "jpeg", Mime: "image/jpeg", FileName: "w.jpg"},
			{Name: "named", Ref: "{{api}}/doc1", Answer: func(*channeltest.Request) channeltest.Response {
				return channeltest.Response{Header: map[string]string{"Content-Type": "application/octet-stream", "Content-Disposition": `attachment; filename="a b.pdf"`}, Body: "pdf"}
			}, Body: "pdf", FileName: "a b.pdf"},
			{Name: "gone", Ref: "{{api}}/w.jpg", Answer: func(*channeltest.Request) channeltest.Response { return channeltest.Response{Status: 404} }, Err: channels.ErrFileGone},
			{Name: "expired", Ref: "{{api}}/w.jpg", Answer: func(*channeltest.Request) channeltest.Response { return channeltest.Response{Status: 403} }, Err: channels.ErrFileGone},
			{Name: "no address", Ref: "file:///etc/passwd", Err: channels.ErrFileGone},
		},
		BadSettings: map[string]string{"group_id": "club1", "token": "with space", "secret": "white space", "confirmation": "no\nway"},
	}
	return c
}

func TestVK(t *testing.T) { channeltest.Run(t, testCase()) }

func FuzzDecode(f *testing.F) { channeltest.FuzzDecode(f, testCase()) }

// Every code of the reference, in the envelope and inside of a good answer.
func errorRows() []channeltest.ErrorRow {
	type want = message.Error
	rows := map[message.ErrorKind][]int{
		message.ErrUncertain:   {1, 10, 36},
		message.ErrAccount:     {5, 27, 28, 1117, 14, 17, 24, 38, 40, 984},
		message.ErrInvalid:     {3, 7, 15, 8, 100, 105, 118, 121, 129, 104, 909, 910, 914, 911, 912, 913, 940, 920, 921, 969, 924, 943, 944, 950, 983, 985, 2000, 4242},
		message.ErrRecipient:   {18, 37, 113, 900, 901, 902, 917, 922, 925, 927, 945, 946, 932, 936, 962, 987, 988, 1012, 1021},
		message.ErrUnavailable: {22, 43, 949},
	}
	var list []channeltest.ErrorRow
	add := func(code int, w want) {
		w.Code = fmt.Sprint(code)
		list = append(list, channeltest.ErrorRow{Name: w.Code, Response: refusal(code), Want: w})
		list = append(list, channeltest.ErrorRow{Name: w.Code + " of the peer", Want: w, Response: channeltest.Response{
			Body: fmt.Sprintf(`{"response":[{"peer_id":77001122,"message_id":0,"conversation_message_id":0,"error":{"code":%d,"description":"words"}}]}`, code),
		}})
	}
	for kind, codes := range rows {
		for _, code := range codes {
			add(code, want{Kind: kind})
		}
	}
	add(6, want{Kind: message.ErrThrottled, RetryAfter: time.Second})
	add(9, want{Kind: message.ErrThrottled, RetryAfter: 2 * time.Minute, ChatOnly: true})
	add(29, want{Kind: message.ErrThrottled, RetryAfter: time.Minute})
	photo := out(message.Content{Kind: message.KindImage, Files: []message.File{channeltest.File(message.KindImage, "a.jpg", "image/jpeg")}})
	missing := out(message.Content{Kind: message.KindDocument, Files: []message.File{channeltest.File(message.KindDocument, "missing.pdf", "application/pdf")}})
	list = append(list,
		channeltest.ErrorRow{Name: "429", Response: channeltest.Response{Status: 429, Header: map[string]string{"Retry-After": "7"}}, Want: want{Kind: message.ErrThrottled, Code: "429", RetryAfter: 7 * time.Second}},
		channeltest.ErrorRow{Name: "403 of a proxy", Response: channeltest.Response{Status: 403, Body: "<h1>no</h1>"}, Want: want{Kind: message.ErrUnavailable, Code: "403"}},
		channeltest.ErrorRow{Name: "413", Response: channeltest.Response{Status: 413}, Want: want{Kind: message.ErrInvalid, Code: "413"}},
		channeltest.ErrorRow{Name: "no message named", Response: channeltest.Response{Body: `{"response":[]}`}, Want: want{Kind: message.ErrUncertain, Code: "200"}},
		// Before messages.send nothing is uncertain.
		channeltest.ErrorRow{Name: "500 before an upload", Response: channeltest.Response{Status: 500}, Out: &photo, Want: want{Kind: message.ErrUnavailable, Code: "500"}},
		channeltest.ErrorRow{Name: "broken three times", Response: refusal(10), Out: &photo, Want: want{Kind: message.ErrInvalid, Code: "10"}},
		channeltest.ErrorRow{Name: "upload to who forbids", Response: refusal(901), Out: &photo, Want: want{Kind: message.ErrRecipient, Code: "901"}},
		channeltest.ErrorRow{Name: "file is missing in the store", Response: channeltest.Response{Body: `{"response":{"upload_url":"{{api}}/up"}}`}, Out: &missing, Want: want{Kind: message.ErrUnavailable}},
	)
	return list
}

// answers replaces some answers of VK.
func answers(replace map[string]string) func(*channeltest.Request) channeltest.Response {
	return func(r *channeltest.Request) channeltest.Response {
		if body, ok := replace[r.Path]; ok {
			return channeltest.Response{Body: body}
		}
		return vkAnswer(r)
	}
}

func failed(code int) string {
	return fmt.Sprintf(`{"error":{"error_code":%d,"error_msg":"words of VK"}}`, code)
}

type polledResult struct {
	Updates []channels.RawUpdate
	Next    int64
}

func poll(offset int64) func(context.Context, channels.Channel) (any, error) {
	return func(ctx context.Context, ch channels.Channel) (any, error) {
		updates, next, err := ch.(channels.Poller).Poll(ctx, offset)
		for i := range updates {
			updates[i].Raw = nil
		}
		return polledResult{updates, next}, err
	}
}

// pollAndDecode decodes the one event that a poll brings.
func pollAndDecode(ctx context.Context, c channels.Channel) (any, error) {
	updates, _, err := c.(channels.Poller).Poll(ctx, 1411)
	if err != nil || len(updates) != 1 {
		return nil, err
	}
	return c.Decode(updates[0].Raw)
}

func calls() []channeltest.Call {
	type ch = channels.Channel
	edit := func(c message.Content, ids ...string) func(context.Context, ch) (any, error) {
		return func(ctx context.Context, c2 ch) (any, error) {
			return nil, c2.(channels.Editor).Edit(ctx, testPeer, ids, &c)
		}
	}
	del := func(ids ...string) func(context.Context, ch) (any, error) {
		return func(ctx context.Context, c ch) (any, error) {
			return nil, c.(channels.Deleter).Delete(ctx, testPeer, ids)
		}
	}
	forward := func(ctx context.Context, c ch) (any, error) {
		return c.(channels.Forwarder).Forward(channels.WithMessageID(ctx, "0198c0de-0000-7000-8000-000000000001"), testPeer, "2000000007", []string{"7", "8"})
	}
	ack := func(raw string) func(context.Context, ch) (any, error) {
		return func(ctx context.Context, c ch) (any, error) {
			return nil, c.(channels.Acknowledger).Acknowledge(ctx, []byte(raw))
		}
	}
	profile := func(id string) func(context.Context, ch) (any, error) {
		return func(ctx context.Context, c ch) (any, error) {
			return c.(channels.Profiler).Profile(ctx, id)
		}
	}
	send := func(o message.Outbound) func(context.Context, ch) (any, error) {
		return func(ctx context.Context, c ch) (any, error) {
			o.ID, o.Chat = "0198c0de-0000-7000-8000-000000000001", testPeer
			parts, err := c.Plan(&o)
			if err != nil {
				return nil, err
			}
			return c.Send(ctx, &parts[0])
		}
	}
	words := message.Content{Kind: message.KindText, Text: "новый текст"}
	photo := message.Content{Kind: message.KindImage, Text: "новая подпись", Files: []message.File{channeltest.File(message.KindImage, "a.jpg", "image/jpeg")}}
	inline := words
	inline.Keyboard = board(message.KeyboardInline, buttons(2))
	withReply := text("это", nil)
	withReply.ReplyTo = "118"
	press := `{"type":"message_event","event_id":"cc02","object":{"user_id":77001122,"peer_id":77001122,"event_id":"b63f1a2c4d5e","conversation_message_id":119,"payload":{"sb":"y"}}}`
	const lp = "/whp/123456789"
	return []channeltest.Call{
		{Name: "check_other_group", Do: func(ctx context.Context, c ch) (any, error) { return c.Check(ctx) }, Answer: answers(map[string]string{"/method/groups.getById": `{"response":{"groups":[{"id":5,"name":"x"}]}}`})},
		{Name: "check_user_token", Do: func(ctx context.Context, c ch) (any, error) { return c.Check(ctx) }, Answer: answers(map[string]string{"/method/groups.getById": `{"response":{"groups":[],"profiles":[]}}`})},
		{Name: "check_revoked", Do: func(ctx context.Context, c ch) (any, error) { return c.Check(ctx) }, Answer: answers(map[string]string{"/method/groups.getById": failed(5)})},
		{Name: "check_rights", Do: func(ctx context.Context, c ch) (any, error) { return c.Check(ctx) }, Answer: answers(map[string]string{
			"/method/groups.getTokenPermissions": `{"response":{"permissions":[{"name":"messages"}]}}`, "/method/groups.setLongPollSettings": failed(15),
		})},
		{Name: "edit_text", Do: edit(words, "119")},
		{Name: "edit_keyboard", Do: edit(inline, "119")},
		{Name: "edit_caption", Do: edit(photo, "119")},
		{Name: "edit_shrinks", Do: edit(words, "119", "120")},
		{Name: "edit_grows", Do: edit(message.Content{Kind: message.KindText, Text: strings.Repeat("я", maxText+1)}, "119")},
		{Name: "edit_too_old", Do: edit(words, "119"), Answer: answers(map[string]string{"/method/messages.edit": failed(909)})},
		{Name: "edit_reply_keyboard", Do: edit(message.Content{Kind: message.KindText, Text: "x", Keyboard: board(message.KeyboardReply, buttons(1))}, "119")},
		{Name: "edit_press", Do: edit(words, "event:b63f")},
		{Name: "delete", Do: del("119", "120")},
		{Name: "delete_too_old", Do: del("119"), Answer: answers(map[string]string{"/method/messages.delete": `{"response":[{"peer_id":77001122,"conversation_message_id":119,"error":{"code":924,"description":"Can't delete this message for everybody"}}]}`})},
		{Name: "delete_other_shape", Do: del("119"), Answer: answers(map[string]string{"/method/messages.delete": `{"response":{"119":0}}`})},
		{Name: "forward", Do: forward},
		{Name: "forward_refused", Do: forward, Answer: answers(map[string]string{"/method/messages.send": failed(921)})},
		{Name: "typing", Do: func(ctx context.Context, c ch) (any, error) { return nil, c.(channels.Typer).Typing(ctx, testPeer) }},
		{Name: "acknowledge", Do: ack(press)},
		{Name: "acknowledge_late", Do: ack(press), Answer: answers(map[string]string{"/method/messages.sendMessageEventAnswer": failed(100)})},
		{Name: "acknowledge_nothing", Do: ack(`{"type":"message_new","object":{}}`)},
		{Name: "profile", Do: profile(testPeer)},
		{Name: "profile_closed", Do: profile(testPeer), Answer: answers(map[string]string{"/method/users.get": `{"response":[{"id":77001122,"first_name":"DELETED","last_name":"","deactivated":"deleted"}]}`})},
		{Name: "profile_no_picture", Do: profile(testPeer), Answer: answers(map[string]string{"/method/users.get": `{"response":[{"id":77001122,"first_name":"Анна","last_name":"Котова","has_photo":0,"photo_200":"https://vk.ru/images/camera_200.png"}]}`})},
		{Name: "profile_community", Do: profile("-123456789")},
		{Name: "send_without_keyboard", Do: send(text("x", inline.Keyboard)), Answer: func(r *channeltest.Request) channeltest.Response {
			if form(r).Has("keyboard") {
				return refusal(912)
			}
			return vkAnswer(r)
		}},
		{Name: "send_without_reply", Do: send(withReply), Answer: func(r *channeltest.Request) channeltest.Response {
			if form(r).Has("forward") {
				return refusal(921)
			}
			return vkAnswer(r)
		}},
		{Name: "send_bare_number", Do: send(text("x", nil)), Answer: answers(map[string]string{"/method/messages.send": `{"response":90322}`})},
		{Name: "poll_first", Do: poll(0)},
		{Name: "poll_idle", Do: poll(1411)},
		{Name: "poll_events", Do: poll(1411), Answer: answers(map[string]string{lp: `{"ts":1415,"updates":[` +
			`{"type":"message_typing_state","event_id":"a","object":{"from_id":77001122}},` +
			`{"type":"message_new","event_id":"b","object":{"message":{"peer_id":77001122,"from_id":77001122,"conversation_message_id":5,"text":"x"}}},` +
			`{"type":"message_event","event_id":"c","object":{"peer_id":77001122,"user_id":77001122,"event_id":"i","conversation_message_id":2}},` +
			`{"type":"message_deny","event_id":"d","object":{"user_id":7}},[]]}`})},
		{Name: "poll_failed_1", Do: poll(1411), Answer: answers(map[string]string{lp: `{"failed":1,"ts":30}`})},
		{Name: "poll_failed_2", Do: poll(1411), Answer: answers(map[string]string{lp: `{"failed":2}`})},
		{Name: "poll_failed_2_once", Do: poll(1400), Answer: func() func(*channeltest.Request) channeltest.Response {
			n := 0
			return func(r *channeltest.Request) channeltest.Response {
				if r.Path == lp {
					if n++; n == 1 {
						return channeltest.Response{Body: `{"failed":2}`}
					}
				}
				return vkAnswer(r)
			}
		}()},
		{Name: "poll_failed_3", Do: poll(1400), Answer: answers(map[string]string{lp: `{"failed":3}`})},
		{Name: "poll_failed_3_missed", Do: poll(1400), Answer: answers(map[string]string{
			lp: `{"failed":3}`, "/method/messages.getConversations": `{"response":{"count":1,"items":[{"conversation":{"peer":{"id":77001122,"type":"user"}},"last_message":{}}]}}`,
			"/method/messages.getHistory": `{"response":{"count":4,"items":[{"peer_id":77001122,"from_id":77001122,"out":0,"conversation_message_id":9,"text":"b"},` +
				`{"peer_id":77001122,"from_id":77001122,"out":0,"conversation_message_id":8,"text":"a"},{"peer_id":77001122,"from_id":-123456789,"out":1,"conversation_message_id":7},{"peer_id":77001122,"from_id":77001122,"out":0,"conversation_message_id":6}]}}`,
		})},
		{Name: "poll_failed_1_without_ts", Do: poll(1400), Answer: answers(map[string]string{lp: `{"failed":"1"}`})},
		{Name: "poll_failed_1_answered", Do: poll(1400), Answer: answers(map[string]string{
			lp: `{"failed":1,"ts":30}`, "/method/messages.getConversations": `{"response":{"count":1,"items":[{"conversation":{"peer":{"id":77001122,"type":"user"}},"last_message":{"out":1}}]}}`,
			"/method/messages.getHistory": `{"response":{"count":4,"items":[{"peer_id":77001122,"from_id":-123456789,"out":1,"conversation_message_id":9,"text":"campaign"},` +
				`{"peer_id":77001122,"from_id":77001122,"out":0,"conversation_message_id":8,"text":"lost"},{"peer_id":77001122,"from_id":-123456789,"out":1,"admin_author_id":5,"conversation_message_id":7,"text":"of an administrator"},` +
				`{"peer_id":77001122,"from_id":77001122,"out":0,"conversation_message_id":6,"date":1,"text":"of long ago"}]}}`,
		})},
		{Name: "poll_failed_3_broken", Do: poll(1400), Answer: answers(map[string]string{lp: `{"failed":3}`, "/method/messages.getConversations": failed(10)})},
		{Name: "poll_failed_4", Do: poll(1400), Answer: answers(map[string]string{lp: `{"failed":4,"min_version":0,"max_version":3}`})},
		{Name: "poll_switched_off", Do: poll(1400), Answer: answers(map[string]string{"/method/groups.getLongPollServer": failed(100)})},
		{Name: "poll_cropped_edit", Do: pollAndDecode, Answer: answers(map[string]string{
			lp: `{"ts":"1412","updates":[{"type":"message_edit","event_id":"b","object":{"peer_id":77001122,"from_id":77001122,"conversation_message_id":5,"is_cropped":true,"text":"y","update_time":1781001300}}]}`,
			"/method/messages.getByConversationMessageId": `{"response":{"count":1,"items":[{"peer_id":77001122,"from_id":77001122,"conversation_message_id":5,"text":"y","update_time":1781001300,"attachments":[{"type":"doc","doc":{"id":8,"owner_id":77001122,"title":"a.pdf","ext":"pdf","url":"https://vk.ru/doc8"}}]}]}}`,
		})},
		{Name: "poll_cropped", Do: pollAndDecode, Answer: answers(map[string]string{
			lp: `{"ts":"1412","updates":[{"type":"message_new","event_id":"b","object":{"message":{"peer_id":77001122,"from_id":77001122,"conversation_message_id":5,"is_cropped":true,"text":"x"}}}]}`,
			"/method/messages.getByConversationMessageId": `{"response":{"count":1,"items":[{"peer_id":77001122,"from_id":77001122,"conversation_message_id":5,"text":"x","attachments":[{"type":"doc","doc":{"id":8,"owner_id":77001122,"title":"a.pdf","ext":"pdf","url":"https://vk.ru/doc8"}}]}]}}`,
		})},
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	ch := openWith(t, map[string]string{"mode": "callback", "confirmation": "1a2b3c4d"})
	for body, want := range map[string]string{
		`{"type":"confirmation","group_id":123456789}`:                          "1a2b3c4d",
		`{"type":"message_new","group_id":123456789,"object":{"message":null}}`: "ok",
		`{"type":"remove","object":"remove"}`:                                   "ok",
	} {
		if r := ch.Reply([]byte(body)); string(r.Body) != want || r.ContentType != "text/plain" {
			t.Errorf("%s: %s %q, want %q", body, r.ContentType, r.Body, want)
		}
	}
	if ch.Polls() {
		t.Error("polls in callback mode")
	}
	unsure := openWith(t, map[string]string{"secret": ""})
	if unsure.Verify(http.Header{}, nil, []byte(`{"type":"message_new","group_id":123456789,"secret":""}`)) == nil {
		t.Error("believes callbacks without having a secret")
	}
}

func TestCallbackSettings(t *testing.T) {
	t.Parallel()
	for key, more := range map[string]map[string]string{
		"secret":       {"mode": "callback", "secret": "", "confirmation": "1a2b3c4d"},
		"confirmation": {"mode": "callback"},
	} {
		all := settings()
		for k, v := range more {
			all[k] = v
		}
		_, err := open(channels.Account{ID: "a", Platform: name, Settings: all}, channels.Env{})
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("without %s: %v", key, err)
		}
	}
}

// The set-up of a callback: a new address, one that is there already, and a
// confirmation string that VK would not accept.
func TestCheckCallback(t *testing.T) {
	t.Parallel()
	own := "https://gateway.example/webhooks/vk/acc1"
	for _, row := range []struct {
		name    string
		replace map[string]string
		want    string // methods called behind getTokenPermissions
		warning string
		err     string
	}{
		{name: "new", want: "getCallbackServers getCallbackConfirmationCode addCallbackServer setCallbackSettings"},
		{name: "known", want: "getCallbackServers editCallbackServer setCallbackSettings", replace: map[string]string{"/method/groups.getCallbackServers": `{"response":{"count":1,"items":[{"id":2,"url":"` + own + `","status":"ok"}]}}`}},
		{name: "failing", want: "getCallbackServers editCallbackServer setCallbackSettings", warning: "failed", replace: map[string]string{"/method/groups.getCallbackServers": `{"response":{"count":1,"items":[{"id":2,"url":"` + own + `","status":"failed"}]}}`}},
		{name: "other confirmation", want: "getCallbackServers getCallbackConfirmationCode", err: `must be "other"`, replace: map[string]string{"/method/groups.getCallbackConfirmationCode": `{"response":{"code":"other"}}`}},
		{name: "ten already", want: "getCallbackServers getCallbackConfirmationCode addCallbackServer", err: "delete one", replace: map[string]string{"/method/groups.addCallbackServer": failed(2000)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := channeltest.NewPlatform(t, answers(row.replace))
			c := testCase()
			ch, err := Platform().Open(p.Account(&c, map[string]string{"mode": "callback", "confirmation": "1a2b3c4d"}), p.Env())
			if err != nil {
				t.Fatal(err)
			}
			h, err := ch.Check(t.Context())
			if (err != nil) != (row.err != "") || err != nil && !strings.Contains(err.Error(), row.err) {
				t.Errorf("Check: %v, want %q", err, row.err)
			}
			if err == nil && (!strings.Contains(h.Warning, row.warning) || row.warning == "" && h.Warning != "" || h.Details["webhook"] != own) {
				t.Errorf("%+v", h)
			}
			var methods []string
			for _, r := range p.Requests()[2:] {
				methods = append(methods, strings.TrimPrefix(r.Path, "/method/groups."))
				if f := form(r); f.Get("url") != "" && (f.Get("url") != own || f.Get("secret_key") != testSecret || len(f.Get("title")) > 14) {
					t.Errorf("%s with %v", r.Path, f)
				}
			}
			if got := strings.Join(methods, " "); got != row.want {
				t.Errorf("called %s, want %s", got, row.want)
			}
		})
	}
}

// Callbacks that VK gave up on are read from the chats: once in the beginning, and
// for as long as VK says that the address fails.
func TestUpkeepOfCallbacks(t *testing.T) {
	t.Parallel()
	own, status, broken := "https://gateway.example/webhooks/vk/acc1", "ok", false
	p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
		switch {
		case broken && strings.HasSuffix(r.Path, "getHistory"):
			return channeltest.Response{Status: 502}
		case strings.HasSuffix(r.Path, "getCallbackServers") && status == "none":
			return vkAnswer(r)
		case strings.HasSuffix(r.Path, "getCallbackServers") && status == "forbidden":
			return refusal(15)
		case strings.HasSuffix(r.Path, "getCallbackServers"):
			return channeltest.Response{Body: `{"response":{"count":1,"items":[{"id":2,"url":"` + own + `","status":"` + status + `"}]}}`}
		case strings.HasSuffix(r.Path, "getConversations"):
			return channeltest.Response{Body: `{"response":{"items":[{"conversation":{"peer":{"id":77001122}}}]}}`}
		case strings.HasSuffix(r.Path, "getHistory"):
			return channeltest.Response{Body: `{"response":{"items":[{"peer_id":77001122,"from_id":77001122,"conversation_message_id":9,"text":"lost"}]}}`}
		}
		return vkAnswer(r)
	})
	cs := testCase()
	opened := func(more map[string]string) *channel {
		c, err := open(p.Account(&cs, more), p.Env())
		if err != nil {
			t.Fatal(err)
		}
		c.wait = func(context.Context, time.Duration) bool { return true }
		return c
	}
	c := opened(map[string]string{"mode": "callback", "confirmation": "1a2b3c4d"})
	for i, step := range []struct {
		status string
		broken bool
		want   int // updates, -1: an error
		calls  string
	}{
		{"ok", true, -1, ""},
		{"ok", false, 1, "getCallbackServers getConversations getHistory"},
		{"ok", false, 0, "getCallbackServers"},
		{"failed", false, 1, "getCallbackServers editCallbackServer setCallbackSettings getConversations getHistory"},
		{"failed", false, 1, "getCallbackServers editCallbackServer setCallbackSettings getConversations getHistory"},
		{"ok", false, 1, "getCallbackServers getConversations getHistory"},
		{"none", false, 1, "getCallbackServers getCallbackConfirmationCode addCallbackServer setCallbackSettings getConversations getHistory"},
		{"forbidden", false, 1, "getCallbackServers getConversations getHistory"},
		{"forbidden", false, 0, "getCallbackServers"},
	} {
		status, broken = step.status, step.broken
		p.Requests()
		updates, err := c.Upkeep(t.Context())
		var methods []string
		for _, r := range p.Requests() {
			methods = append(methods, r.Path[strings.LastIndexByte(r.Path, '.')+1:])
		}
		if (err != nil) != (step.want < 0) || err == nil && (len(updates) != step.want || strings.Join(methods, " ") != step.calls) {
			t.Errorf("step %d: %d updates by %s, %v", i, len(updates), methods, err)
		}
		if len(updates) == 1 && updates[0].DedupKey != "message_new:77001122:9" {
			t.Errorf("step %d: %+v", i, updates[0])
		}
	}
	if updates, err := opened(nil).Upkeep(t.Context()); err != nil || len(updates) != 0 || len(p.Requests()) != 0 {
		t.Errorf("a long poll needs no upkeep: %v %v", updates, err)
	}
}

// Waits for error 29 double, and begin anew after a success.
func TestQuantityLimitBacksOff(t *testing.T) {
	t.Parallel()
	c := openWith(t, nil)
	now := time.Unix(1781001200, 0)
	c.now = func() time.Time { return now }
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 32} {
		for range 2 { // a second call in the same pause makes it no longer
			if got := c.pause("docs.save", 29); got != want*time.Minute {
				t.Errorf("wait %d is %s, want %d min", i, got, want)
			}
		}
		now = now.Add(want * time.Minute)
	}
	if got := c.pause(methodSend, 29); got != time.Minute {
		t.Errorf("another method waits %s", got)
	}
	c.flowed("docs.save")
	if got := c.pause("docs.save", 29); got != time.Minute {
		t.Errorf("after a success: %s", got)
	}
}

// A method whose quantity limit is reached is left alone, others are not.
func TestQuantityLimitIsOfOneMethod(t *testing.T) {
	t.Parallel()
	p := channeltest.NewPlatform(t, answers(map[string]string{"/method/photos.getMessagesUploadServer": failed(29)}))
	c := openAt(t, p)
	photo := out(message.Content{Kind: message.KindImage, Files: []message.File{channeltest.File(message.KindImage, "a.jpg", "image/jpeg")}})
	for i := range 2 {
		err := sendFirst(t, c, photo)
		if e := message.Classify(err); e == nil || e.Kind != message.ErrThrottled || e.Code != "29" || !e.ChatOnly || e.RetryAfter <= 50*time.Second {
			t.Errorf("photo %d: %+v", i, err)
		}
	}
	if err := sendFirst(t, c, text("x", nil)); err != nil {
		t.Errorf("a text beside it: %v", err)
	}
	if n := len(p.Requests()); n != 2 {
		t.Errorf("%d calls, want one refused upload and one text", n)
	}
}

// A loss is made good in all chats of the last day, however many pages they fill.
func TestMissedPages(t *testing.T) {
	t.Parallel()
	now := time.Unix(1781001200, 0)
	chat := func(peer, date int64) string {
		return fmt.Sprintf(`{"conversation":{"peer":{"id":%d}},"last_message":{"date":%d}}`, peer, date)
	}
	pages := func(r *channeltest.Request) channeltest.Response {
		var items []string
		switch offset := form(r).Get("offset"); {
		case strings.HasSuffix(r.Path, "getConversations") && offset == "0":
			for i := range missedPage {
				items = append(items, chat(int64(1+i%2), now.Unix())) // a chat may move on to the next page meanwhile
			}
		case strings.HasSuffix(r.Path, "getConversations"):
			items = []string{chat(2, now.Unix()), chat(3, now.Unix()), chat(4, now.Add(-25*time.Hour).Unix())}
		case form(r).Get("peer_id") == "3" && offset == "0":
			for i := range missedPage {
				items = append(items, fmt.Sprintf(`{"peer_id":3,"from_id":3,"conversation_message_id":%d,"date":%d}`, 300-i, now.Unix()))
			}
		default:
			items = []string{fmt.Sprintf(`{"peer_id":%s,"from_id":3,"conversation_message_id":100,"date":%d}`, form(r).Get("peer_id"), now.Unix())}
		}
		return channeltest.Response{Body: `{"response":{"items":[` + strings.Join(items, ",") + `]}}`}
	}
	p := channeltest.NewPlatform(t, pages)
	c := openAt(t, p)
	c.now = func() time.Time { return now }
	c.wait = func(context.Context, time.Duration) bool { return true }
	events, err := c.missed(t.Context())
	if err != nil || len(events) != 1+1+201 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if list := rawUpdates(events); list[2].Order != 100 || list[202].Order != 300 || list[2].ChatKey != "3" {
		t.Errorf("not in the chat's order: %+v %+v", list[2], list[202])
	}
	if n := len(p.Requests()); n != 2+1+1+2 {
		t.Errorf("%d calls", n)
	}
}

// Too many calls a second hold up an album, and don't begin it anew.
func TestUploadsWaitForTheNextSecond(t *testing.T) {
	t.Parallel()
	left := 20
	p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
		if strings.HasPrefix(r.Path, "/method/") {
			if left--; left < 0 {
				return refusal(6)
			}
		}
		return vkAnswer(r)
	})
	c := openAt(t, p)
	waits := 0
	c.wait = func(context.Context, time.Duration) bool { waits++; left = 20; return true }
	var ten []message.File
	for i := range 10 {
		ten = append(ten, channeltest.File(message.KindImage, fmt.Sprintf("%d.jpg", i), "image/jpeg"))
	}
	left = 18
	if err := sendFirst(t, c, out(message.Content{Kind: message.KindImage, Files: ten})); err != nil || waits != 1 {
		t.Errorf("%d waits, %v", waits, err)
	}
}

// A key is used for hours and not for days; the cursor outlives it.
func TestSessionIsRenewed(t *testing.T) {
	t.Parallel()
	p := channeltest.NewPlatform(t, vkAnswer)
	c := openAt(t, p)
	now := time.Unix(1781001200, 0)
	c.now = func() time.Time { return now }
	asked := func() (n int) {
		for _, r := range p.Requests() {
			if strings.HasSuffix(r.Path, "getLongPollServer") {
				n++
			}
		}
		return n
	}
	for _, step := range []struct {
		after time.Duration
		keys  int
	}{{0, 1}, {time.Hour, 0}, {8 * time.Hour, 1}, {time.Minute, 0}} {
		now = now.Add(step.after)
		if _, next, err := c.Poll(t.Context(), 1300); err != nil || next != 1413 {
			t.Fatal(next, err)
		}
		if n := asked(); n != step.keys {
			t.Errorf("after %s: %d keys asked for, want %d", step.after, n, step.keys)
		}
	}
}

// VK knows a random_id for an hour; later the chat is looked into before a repeat.
func TestSecondAttemptAfterAnHour(t *testing.T) {
	t.Parallel()
	const id = "0199a8c0-de00-7000-8000-000000000001"
	made := channels.MadeAt(id)
	item := func(out int, random int64) string {
		return fmt.Sprintf(`{"out":%d,"conversation_message_id":7,"random_id":%d}`, out, random)
	}
	ours := randomID(id, 1)
	for _, row := range []struct {
		name    string
		history channeltest.Response
		after   time.Duration
		first   bool
		want    string
	}{
		{name: "first attempt", after: 2 * time.Hour, first: true, history: channeltest.Response{Body: item(1, ours)}, want: "119 by send"},
		{name: "within the hour", after: 40 * time.Minute, history: channeltest.Response{Body: item(1, ours)}, want: "119 by send"},
		{name: "arrived", after: 2 * time.Hour, history: channeltest.Response{Body: item(1, 5) + "," + item(1, ours)}, want: "7 by getHistory"},
		{name: "another part", after: 2 * time.Hour, history: channeltest.Response{Body: item(1, randomID(id, 0))}, want: "119 by getHistory send"},
		{name: "of the customer", after: 2 * time.Hour, history: channeltest.Response{Body: item(0, ours)}, want: "119 by getHistory send"},
		{name: "no right", after: 2 * time.Hour, history: refusal(15), want: "119 by getHistory send"},
		{name: "out of order", after: 2 * time.Hour, history: refusal(10), want: "unavailable by getHistory"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
				if !strings.HasSuffix(r.Path, "getHistory") {
					return vkAnswer(r)
				}
				if h := row.history; strings.HasPrefix(h.Body, `{"error"`) {
					return h
				}
				return channeltest.Response{Body: `{"response":{"items":[` + row.history.Body + `]}}`}
			})
			c := openAt(t, p)
			c.now = func() time.Time { return made.Add(row.after) }
			o := text("x", nil)
			o.ID, o.Chat, o.Again = id, testPeer, !row.first
			receipt, err := c.Send(t.Context(), &message.Part{Index: 1, Of: 2, Outbound: o})
			got := strings.Join(receipt.IDs, " ")
			if e := message.Classify(err); e != nil {
				got = string(e.Kind)
			}
			got += " by"
			for _, r := range p.Requests() {
				got += " " + strings.TrimPrefix(r.Path, "/method/messages.")
			}
			if got != row.want {
				t.Errorf("%s, want %s; %v", got, row.want, err)
			}
		})
	}
}

func TestRandomID(t *testing.T) {
	t.Parallel()
	seen := map[int64]bool{}
	for i := range 1000 {
		for part := range 3 {
			id := randomID(fmt.Sprintf("0198c0de-0000-7000-8000-%012d", i), part)
			if id < 1 || id > 2147483647 {
				t.Fatalf("%d is out of range", id)
			}
			seen[id] = true
		}
	}
	if len(seen) < 2999 {
		t.Errorf("%d different keys of 3000 messages", len(seen))
	}
}

func TestPayloadRoundTrip(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ payload, label, wantLabel string }{
		{"y", "Да", "Да"}, {"y", "y", ""}, {`{"a":"b"}`, "x", "x"}, {"line\nbreak \"q\"", "x", "x"},
		{strings.Repeat("я", 246), "Да", ""}, {strings.Repeat("я", 230), strings.Repeat("т", 40), ""},
	} {
		p, err := payload(row.payload, row.label)
		if err != nil || message.UnitUTF16.Count(p) > maxPayload {
			t.Fatalf("%.10q: %d characters, %v", row.payload, message.UnitUTF16.Count(p), err)
		}
		want := message.Button{Payload: row.payload, Text: row.wantLabel}
		if row.wantLabel == "" && row.payload == row.label {
			want.Text = ""
		}
		if got := buttonOf(p); got != want {
			t.Errorf("%.10q came back as %+v", row.payload, got)
		}
	}
	if _, err := payload(strings.Repeat(`"`, 130), "x"); err == nil {
		t.Error("130 quotes are 268 characters of JSON")
	}
}

// Inline keyboards and wide buttons have limits of their own.
func TestKeyboardLimits(t *testing.T) {
	t.Parallel()
	link := message.KeyButton{Text: "a", Action: message.KeyURL, URL: "https://example.org"}
	row := func(b ...message.KeyButton) []message.KeyButton { return b }
	for _, r := range []struct {
		name string
		k    *message.Keyboard
		ok   bool
	}{
		{"6 rows", board(message.KeyboardInline, buttons(1), buttons(1), buttons(1), buttons(1), buttons(1), buttons(1)), true},
		{"7 rows", board(message.KeyboardInline, buttons(1), buttons(1), buttons(1), buttons(1), buttons(1), buttons(1), buttons(1)), false},
		{"10 buttons", board(message.KeyboardInline, buttons(5), buttons(5)), true},
		{"11 buttons", board(message.KeyboardInline, buttons(5), buttons(5), buttons(1)), false},
		{"two links and a text", board(message.KeyboardReply, row(link, link, buttons(1)[0])), true},
		{"three links", board(message.KeyboardReply, row(link, link, link)), false},
	} {
		_, err := openWith(t, nil).Plan(&message.Outbound{Content: message.Content{Kind: message.KindText, Text: "x", Keyboard: r.k}})
		refusal, refused := err.(*message.Refusal) //nolint:errorlint // the very type
		if refused == r.ok || refused && refusal.Code != message.RefusedLimit {
			t.Errorf("%s: %v", r.name, err)
		}
	}
}

// A place never goes without words, also when its own follow as a text.
func TestPlaceWithManyWords(t *testing.T) {
	t.Parallel()
	parts, err := openWith(t, nil).Plan(&message.Outbound{Content: message.Content{Kind: message.KindLocation, Text: strings.Repeat("я", maxText), Location: &message.Location{Lat: 1, Lon: 2, Title: "Склад"}}})
	if err != nil || len(parts) != 3 || parts[0].Location == nil || parts[0].Text != "📍 1, 2" || !strings.HasPrefix(parts[1].Text, "Склад") {
		t.Errorf("%d parts, %v", len(parts), err)
	}
}

// What VK refuses as a document is refused before it is queued.
func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	for _, f := range []message.File{
		channeltest.File(message.KindDocument, "a.MP3", ""), channeltest.File(message.KindVoice, "a", "audio/mpeg"),
		channeltest.File(message.KindDocument, "setup.exe", "application/octet-stream"), {ID: "e", Kind: message.KindImage, State: message.FileReady},
	} {
		_, err := openWith(t, nil).Plan(&message.Outbound{Content: message.Content{Kind: f.Kind, Files: []message.File{f}}})
		if _, ok := err.(*message.Refusal); !ok { //nolint:errorlint // the very type
			t.Errorf("%s %s: %v", f.Name, f.Mime, err)
		}
	}
}

// Buttons that something else sent keep their payload as it is, an object or a string.
func TestForeignPress(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{`{"csat": 5}`: `{"csat": 5}`, `"{\"csat\":5}"`: `{"csat":5}`, `7`: `7`} {
		u, err := openWith(t, nil).Decode([]byte(`{"type":"message_event","event_id":"cc02","object":{"user_id":77001122,"peer_id":77001122,"event_id":"b6","conversation_message_id":119,"payload":` + payload + `}}`))
		if err != nil || len(u) != 1 || u[0].Content.Button == nil || u[0].Content.Button.Payload != want {
			t.Errorf("%s: %+v %v", payload, u, err)
		}
	}
}
