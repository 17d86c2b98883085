package telegram_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/channels/channeltest"
	"switchboard/channels/telegram"
	"switchboard/message"
)

const (
	token  = "7000000001:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
	secret = "a-shared_secret"
	chat   = "5551234567"
)

// platform answers as Telegram does when all is well.
func platform(r *channeltest.Request) channeltest.Response {
	method := r.Path[strings.LastIndex(r.Path, "/")+1:]
	if !strings.HasPrefix(r.Path, "/bot"+token+"/") {
		return channeltest.Response{Status: 404, Body: `{"ok":false,"error_code":404,"description":"Not Found"}`}
	}
	switch method {
	case "getMe":
		return ok(`{"id":7000000001,"is_bot":true,"first_name":"Поддержка","username":"support_bot"}`)
	case "getWebhookInfo":
		return ok(`{"url":"","has_custom_certificate":false,"pending_update_count":3}`)
	case "setWebhook", "deleteWebhook", "deleteMessage", "deleteMessages", "deleteBusinessMessages", "sendChatAction", "answerCallbackQuery", "editMessageText", "editMessageCaption", "editMessageReplyMarkup":
		return ok(`true`)
	case "sendMediaGroup":
		n := strings.Count(string(r.Body), "attach://")
		var items []string
		for i := range n {
			items = append(items, `{"message_id":`+strconv.Itoa(600+i)+`}`)
		}
		return ok("[" + strings.Join(items, ",") + "]")
	case "forwardMessages":
		return ok(`[{"message_id":701},{"message_id":702}]`)
	case "getUpdates":
		return ok(`[{"update_id":10,"message":{"message_id":1,"chat":{"id":1},"text":"a","future":{"x":[1,  2]}}},{"update_id":12,"poll":{}}]`)
	}
	return ok(`{"message_id":513,"from":{"id":7000000001,"is_bot":true,"first_name":"Поддержка"},"chat":{"id":5551234567,"type":"private"},"date":1781001205,"text":"x"}`)
}

func ok(result string) channeltest.Response {
	return channeltest.Response{Body: `{"ok":true,"result":` + result + `}`}
}

func refusal(code int, description, parameters string) channeltest.Response {
	body := `{"ok":false,"error_code":` + strconv.Itoa(code) + `,"description":` + strconv.Quote(description)
	if parameters != "" {
		body += `,"parameters":` + parameters
	}
	return channeltest.Response{Status: code, Body: body + "}"}
}

func inline(rows ...[]message.KeyButton) *message.Keyboard {
	return &message.Keyboard{Kind: message.KeyboardInline, Rows: rows}
}

func files(kind message.Kind, mime string, names ...string) []message.File {
	var all []message.File
	for _, n := range names {
		all = append(all, channeltest.File(kind, n, mime))
	}
	return all
}

func suite() channeltest.Case {
	photo := func(edit func(*message.File)) []message.File {
		f := files(message.KindImage, "image/jpeg", "a.jpg")
		edit(&f[0])
		return f
	}
	thanks := inline([]message.KeyButton{{Text: "Отследить", Action: message.KeyURL, URL: "https://example.org/t/17"}}, []message.KeyButton{{Text: "Спасибо", Payload: "ok:17"}})
	content := func(c message.Content) message.Outbound { return message.Outbound{Content: c} }
	long := strings.Repeat("Длинное предложение из слов. ", 50) // 1450 units
	many := files(message.KindImage, "image/jpeg", "1.jpg", "2.jpg", "3.jpg")

	c := channeltest.Case{
		Platform: telegram.Platform(),
		Settings: map[string]string{"token": token},
		Chat:     chat, Customer: chat,
		Answer:      platform,
		BadSettings: map[string]string{"token": "no colon", "mode": "push", "secret": "not a secret", "file_base": "ftp://x", "local": "relative/folder"},
		Sends: []channeltest.Send{
			{Name: "out_text", Out: message.Outbound{Content: message.Content{Kind: message.KindText, Text: "Заказ <b>№17</b> & всё", Keyboard: thanks}, ReplyTo: "512"}},
			{Name: "out_text_long", Out: message.Outbound{Content: message.Content{Kind: message.KindText, Text: strings.Repeat(long, 4), Keyboard: thanks}, ReplyTo: "512"}},
			{Name: "out_reply_to_button", Out: message.Outbound{Content: message.Content{Kind: message.KindText, Text: "x"}, ReplyTo: "callback:77"}},
			{Name: "out_text_business", Out: message.Outbound{Chat: chat + "@bc1", Content: message.Content{Kind: message.KindText, Text: "x"}}},
			{Name: "out_keyboard_reply", Out: content(message.Content{Kind: message.KindText, Text: "Ваш номер?", Keyboard: &message.Keyboard{
				Kind: message.KeyboardReply, Once: true, Placeholder: strings.Repeat("Сообщение 😀", 8),
				Rows: [][]message.KeyButton{{{Text: "Отправить номер", Action: message.KeyPhone}, {Text: "Где я", Action: message.KeyLocation}}, {{Text: "Меню", Payload: "menu"}}},
			}})},
			{Name: "out_keyboard_remove", Out: content(message.Content{Kind: message.KindText, Text: "x", Keyboard: &message.Keyboard{Kind: message.KeyboardRemove}})},
			{Name: "out_keyboard_no_payload", Out: content(message.Content{Kind: message.KindText, Text: "x", Keyboard: inline([]message.KeyButton{{Text: strings.Repeat("я", 40)}})})},
			{Name: "out_keyboard_long_payload", Refused: message.RefusedLimit, Out: content(message.Content{Kind: message.KindText, Text: "x", Keyboard: inline([]message.KeyButton{{Text: "x", Payload: strings.Repeat("я", 33)}})})},
			{Name: "out_photo", Out: content(message.Content{Kind: message.KindImage, Text: "Фото", Files: many[:1], Keyboard: thanks})},
			{Name: "out_photo_long_caption", Out: content(message.Content{Kind: message.KindImage, Text: long, Files: many[:1], Keyboard: thanks})},
			{Name: "out_photo_large", Out: content(message.Content{Kind: message.KindImage, Files: photo(func(f *message.File) { f.Size = 10_000_001 })})},
			{Name: "out_photo_too_long_sides", Out: content(message.Content{Kind: message.KindImage, Files: photo(func(f *message.File) { f.Width, f.Height = 5000, 5001 })})},
			{Name: "out_photo_narrow", Out: content(message.Content{Kind: message.KindImage, Files: photo(func(f *message.File) { f.Width, f.Height = 2100, 100 })})},
			{Name: "out_photo_heic", Out: content(message.Content{Kind: message.KindImage, Files: photo(func(f *message.File) { f.Mime = "image/heic" })})},
			{Name: "out_photo_gif", Out: content(message.Content{Kind: message.KindImage, Files: photo(func(f *message.File) { f.Mime, f.Width = "image/gif", 320 })})},
			{Name: "out_photo_as_document", Out: content(message.Content{Kind: message.KindDocument, Files: many[:1]})},
			{Name: "out_album", Out: message.Outbound{ReplyTo: "512", Content: message.Content{Kind: message.KindImage, Text: "Три", Files: many}}},
			{Name: "out_album_mixed", Out: content(message.Content{Kind: message.KindImage, Text: "Всё", Files: append(append(files(message.KindImage, "image/png", "a.png"), files(message.KindVideo, "video/mp4", "b.mp4")...), files(message.KindDocument, "application/pdf", "c.pdf", "d.pdf")...)})},
			{Name: "out_album_keyboard_text", Out: content(message.Content{Kind: message.KindImage, Text: "Три", Files: many, Keyboard: thanks})},
			{Name: "out_album_keyboard", Out: content(message.Content{Kind: message.KindImage, Files: many, Keyboard: thanks})},
			{Name: "out_too_many_files", Refused: message.RefusedLimit, Out: content(message.Content{Kind: message.KindImage, Files: files(message.KindImage, "image/jpeg", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11")})},
			{Name: "out_video", Out: content(message.Content{Kind: message.KindVideo, Files: []message.File{{ID: "v.mp4", Kind: message.KindVideo, Name: "v.mp4", Mime: "video/mp4", Size: 14, Width: 640, Height: 480, Duration: 3}}})},
			{Name: "out_video_avi", Out: content(message.Content{Kind: message.KindVideo, Files: files(message.KindVideo, "video/x-msvideo", "v.avi")})},
			{Name: "out_audio", Out: content(message.Content{Kind: message.KindAudio, Text: "песня", Files: files(message.KindAudio, "audio/mpeg", "a.mp3")})},
			{Name: "out_audio_flac", Out: content(message.Content{Kind: message.KindAudio, Files: files(message.KindAudio, "audio/flac", "a.flac")})},
			{Name: "out_voice", Out: content(message.Content{Kind: message.KindVoice, Files: files(message.KindVoice, "audio/ogg; codecs=opus", "a.ogg")})},
			{Name: "out_voice_webm", Out: content(message.Content{Kind: message.KindVoice, Files: files(message.KindVoice, "audio/webm", "a.webm")})},
			{Name: "out_sticker_text", Out: content(message.Content{Kind: message.KindSticker, Text: "лови", Files: files(message.KindSticker, "image/webp", "s.webp")})},
			{Name: "out_document", Out: content(message.Content{Kind: message.KindDocument, Text: "счёт", Files: []message.File{{ID: "x1", Kind: message.KindDocument, Name: "счёт \"№1\"\r\nX: y.pdf", Mime: "application/pdf", Size: 11}}})},
			{Name: "out_document_limit", Out: content(message.Content{Kind: message.KindDocument, Files: []message.File{{ID: "x1", Kind: message.KindDocument, Name: "a", Size: 50_000_000}}})},
			{Name: "out_document_over", Refused: message.RefusedLimit, Out: content(message.Content{Kind: message.KindDocument, Files: []message.File{{ID: "x1", Kind: message.KindDocument, Name: "a", Size: 50_000_001}}})},
			{Name: "out_contact", Out: content(message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: "Анна Котова", Phone: "+79161234567"}})},
			{Name: "out_contact_nameless", Out: content(message.Content{Kind: message.KindContact, Contact: &message.Contact{Phone: "+79161234567"}, Text: "позвоните"})},
			{Name: "out_location", Out: content(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 55.75, Lon: 37.61}})},
			{Name: "out_venue", Out: content(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 55.75, Lon: 37.61, Title: "Кафе"}})},
			{Name: "out_template", Refused: message.RefusedUnsupported, Out: content(message.Content{Kind: message.KindTemplate, Template: &message.Template{Name: "x"}})},
		},
		Calls:      calls(),
		Errors:     errorRows(),
		PollErrors: pollErrors(),
		Fetches:    fetches(),
	}
	return c
}

// hooked is the suite of an account in webhook mode.
func hooked() channeltest.Case {
	c := suite()
	c.Dir = "testdata/webhook"
	c.Settings = map[string]string{"token": token, "mode": "webhook", "secret": secret}
	c.Sends, c.PollErrors, c.Fetches, c.Errors = nil, nil, nil, nil
	header := func(v string) http.Header { return http.Header{"X-Telegram-Bot-Api-Secret-Token": {v}} }
	c.Verify = []channeltest.VerifyRow{
		{Name: "right", Header: header(secret), Body: `{}`, OK: true},
		{Name: "none", Header: http.Header{}, Body: `{}`},
		{Name: "wrong", Header: header("a-shared_secreT"), Body: `{}`},
		{Name: "longer", Header: header(secret + "x"), Body: `{}`},
		{Name: "empty", Header: header(""), Body: `{}`},
	}
	info := func(info string) func(*channeltest.Request) channeltest.Response {
		return func(r *channeltest.Request) channeltest.Response {
			if strings.HasSuffix(r.Path, "/getWebhookInfo") {
				return ok(info)
			}
			return platform(r)
		}
	}
	check := func(ctx context.Context, ch channels.Channel) (any, error) { return ch.Check(ctx) }
	c.Calls = []channeltest.Call{
		{Name: "check_fine", Do: check, Answer: info(`{"url":"https://gateway.example/webhooks/telegram/acc1","pending_update_count":0}`)},
		{Name: "check_failing", Do: check, Answer: info(`{"url":"https://gateway.example/webhooks/telegram/acc1","pending_update_count":9,"last_error_date":1781001200,"last_error_message":"Wrong response from the webhook: 503"}`)},
	}
	return c
}

func TestTelegram(t *testing.T) {
	t.Parallel()
	channeltest.Run(t, suite())
}

func TestTelegramByWebhook(t *testing.T) {
	t.Parallel()
	channeltest.Run(t, hooked())
}

func FuzzDecode(f *testing.F) { channeltest.FuzzDecode(f, suite()) }

func calls() []channeltest.Call {
	edit := func(ids []string, c message.Content) func(context.Context, channels.Channel) (any, error) {
		return func(ctx context.Context, ch channels.Channel) (any, error) {
			return nil, ch.(channels.Editor).Edit(ctx, chat, ids, &c)
		}
	}
	remove := func(chat string, ids ...string) func(context.Context, channels.Channel) (any, error) {
		return func(ctx context.Context, ch channels.Channel) (any, error) {
			return nil, ch.(channels.Deleter).Delete(ctx, chat, ids)
		}
	}
	forward := func(to string, ids ...string) func(context.Context, channels.Channel) (any, error) {
		return func(ctx context.Context, ch channels.Channel) (any, error) {
			return ch.(channels.Forwarder).Forward(ctx, to, "-1001234567890", ids)
		}
	}
	acknowledge := func(raw string) func(context.Context, channels.Channel) (any, error) {
		return func(ctx context.Context, ch channels.Channel) (any, error) {
			return nil, ch.(channels.Acknowledger).Acknowledge(ctx, []byte(raw))
		}
	}
	poll := func(offset int64) func(context.Context, channels.Channel) (any, error) {
		return func(ctx context.Context, ch channels.Channel) (any, error) {
			updates, next, err := ch.(channels.Poller).Poll(ctx, offset)
			type piece struct {
				channels.RawUpdate
				Raw string
			}
			var pieces []piece
			for _, u := range updates {
				pieces = append(pieces, piece{u, string(u.Raw)})
			}
			return map[string]any{"next": next, "updates": pieces}, err
		}
	}
	answer := func(res channeltest.Response) func(*channeltest.Request) channeltest.Response {
		return func(*channeltest.Request) channeltest.Response { return res }
	}
	keyboard := inline([]message.KeyButton{{Text: "Да", Payload: "y"}})
	click := `{"update_id":1,"callback_query":{"id":"4382","from":{"id":1},"data":"x"}}`
	profile := func(customer string) func(context.Context, channels.Channel) (any, error) {
		return func(ctx context.Context, ch channels.Channel) (any, error) {
			return ch.(channels.Profiler).Profile(ctx, customer)
		}
	}
	return []channeltest.Call{
		{Name: "profile", Do: profile("5551234567"), Answer: answer(ok(`{"total_count":3,"photos":[[
			{"file_id":"a160","file_unique_id":"u160","width":160,"height":160,"file_size":9000},
			{"file_id":"a640","file_unique_id":"u640","width":640,"height":640,"file_size":60000},
			{"file_id":"a320","file_unique_id":"u320","width":320,"height":320,"file_size":20000}]]}`))},
		{Name: "profile_small", Do: profile("5551234567"), Answer: answer(ok(`{"total_count":1,"photos":[[{"file_id":"a160","file_unique_id":"u160","width":160,"height":160}]]}`))},
		{Name: "profile_hidden", Do: profile("5551234567"), Answer: answer(ok(`{"total_count":0,"photos":[]}`))},
		{Name: "profile_unknown", Do: profile("5551234567"), Answer: answer(refusal(400, "Bad Request: user not found", ""))},
		{Name: "profile_throttled", Do: profile("5551234567"), Answer: answer(refusal(429, "Too Many Requests: retry after 7", `{"retry_after":7}`))},
		{Name: "profile_of_a_channel", Do: profile("-1001234567890"), Answer: answer(ok(`{"id":-1001234567890,"type":"channel","title":"Новости","photo":{"small_file_id":"s","small_file_unique_id":"us","big_file_id":"b","big_file_unique_id":"ub"}}`))},
		{Name: "profile_no_id", Do: profile("ann")},
		{Name: "check_foreign_webhook", Do: func(ctx context.Context, ch channels.Channel) (any, error) { return ch.Check(ctx) }, Answer: func(r *channeltest.Request) channeltest.Response {
			if strings.HasSuffix(r.Path, "/getWebhookInfo") {
				return ok(`{"url":"https://other.example/secret-path","pending_update_count":5}`)
			}
			return platform(r)
		}},
		{Name: "check_revoked", Do: func(ctx context.Context, ch channels.Channel) (any, error) { return ch.Check(ctx) }, Answer: answer(refusal(401, "Unauthorized", ""))},
		{Name: "check_unknown_token", Do: func(ctx context.Context, ch channels.Channel) (any, error) { return ch.Check(ctx) }, Answer: answer(refusal(404, "Not Found", ""))},
		{Name: "check_token_echoed", Do: func(ctx context.Context, ch channels.Channel) (any, error) { return ch.Check(ctx) }, Answer: answer(refusal(400, "Bad Request: /bot"+token+"/getMe", ""))},
		{Name: "edit_text", Do: edit([]string{"513"}, message.Content{Kind: message.KindText, Text: "новое", Keyboard: keyboard})},
		{Name: "edit_text_shrinks", Do: edit([]string{"513", "514", "515"}, message.Content{Kind: message.KindText, Text: "короче"})},
		{Name: "edit_text_grows", Do: edit([]string{"513"}, message.Content{Kind: message.KindText, Text: strings.Repeat("слово ", 1000)})},
		{Name: "edit_caption", Do: edit([]string{"513"}, message.Content{Kind: message.KindImage, Text: "подпись", Files: files(message.KindImage, "image/jpeg", "a.jpg")})},
		{Name: "edit_caption_long", Do: edit([]string{"513"}, message.Content{Kind: message.KindImage, Text: strings.Repeat("я", 1025), Files: files(message.KindImage, "image/jpeg", "a.jpg")})},
		{Name: "edit_text_after_album", Do: edit([]string{"513", "514", "515"}, message.Content{Kind: message.KindImage, Text: "новое", Files: files(message.KindImage, "image/jpeg", "a.jpg", "b.jpg"), Keyboard: keyboard})},
		{Name: "edit_keyboard", Do: edit([]string{"513"}, message.Content{Kind: message.KindText, Keyboard: keyboard})},
		{Name: "edit_location", Do: edit([]string{"513"}, message.Content{Kind: message.KindLocation})},
		{Name: "edit_unchanged", Do: edit([]string{"513"}, message.Content{Kind: message.KindText, Text: "то же"}), Answer: answer(refusal(400, "Bad Request: message is not modified: specified new message content and reply markup are exactly the same", ""))},
		{Name: "edit_gone", Do: edit([]string{"513"}, message.Content{Kind: message.KindText, Text: "x"}), Answer: answer(refusal(400, "Bad Request: message to edit not found", ""))},
		{Name: "delete_one", Do: remove(chat, "513")},
		{Name: "delete_two", Do: remove(chat, "513", "514")},
		{Name: "delete_business", Do: remove(chat+"@bc1", "513")},
		{Name: "delete_gone", Do: remove(chat, "513"), Answer: answer(refusal(400, "Bad Request: message to delete not found", ""))},
		{Name: "delete_too_old", Do: remove(chat, "513"), Answer: answer(refusal(400, "Bad Request: message can't be deleted for everyone", ""))},
		{Name: "delete_button_press", Do: remove(chat, "callback:1")},
		{Name: "forward_one", Do: forward(chat, "5")},
		{Name: "forward_two", Do: forward(chat, "7", "5")},
		{Name: "forward_business", Do: forward(chat+"@bc1", "7")},
		{Name: "typing", Do: func(ctx context.Context, ch channels.Channel) (any, error) {
			return nil, ch.(channels.Typer).Typing(ctx, chat+"@bc1")
		}},
		{Name: "acknowledge", Do: acknowledge(click)},
		{Name: "acknowledge_late", Do: acknowledge(click), Answer: answer(refusal(400, "Bad Request: query is too old and response timeout expired or query ID is invalid", ""))},
		{Name: "acknowledge_message", Do: acknowledge(`{"update_id":1,"message":{"message_id":1,"chat":{"id":1},"text":"x"}}`)},
		{Name: "poll_first", Do: poll(0)},
		{Name: "poll_next", Do: poll(10)},
		{Name: "poll_empty", Do: poll(10), Answer: answer(ok(`[]`))},
		{Name: "poll_ids_start_anew", Do: poll(900000000), Answer: answer(ok(`[{"update_id":77,"message":{"message_id":1,"chat":{"id":1},"text":"a"}}]`))},
		{Name: "poll_poisoned", Do: poll(10), Answer: answer(ok(`[{"no_id":true},null,5,{"update_id":11,"message":{"message_id":1,"chat":{"id":1},"text":"a"}}]`))},
		{Name: "poll_webhook_active", Do: poll(10), Answer: webhookOnce()},
	}
}

// webhookOnce refuses getUpdates until deleteWebhook.
func webhookOnce() func(*channeltest.Request) channeltest.Response {
	deleted := make(chan struct{}, 1)
	return func(r *channeltest.Request) channeltest.Response {
		if strings.HasSuffix(r.Path, "/deleteWebhook") {
			deleted <- struct{}{}
			return ok(`true`)
		}
		select {
		case <-deleted:
			return platform(r)
		default:
			return refusal(409, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first", "")
		}
	}
}

func errorRows() []channeltest.ErrorRow {
	row := func(name string, res channeltest.Response, kind message.ErrorKind, code string) channeltest.ErrorRow {
		return channeltest.ErrorRow{Name: name, Response: res, Want: message.Error{Kind: kind, Code: code}}
	}
	var rows []channeltest.ErrorRow
	for _, r := range []struct {
		code        int
		description string
		kind        message.ErrorKind
	}{
		{400, "Bad Request: chat not found", message.ErrRecipient},
		{400, "Bad Request: PEER_ID_INVALID", message.ErrRecipient},
		{400, "Bad Request: USER_IS_BLOCKED", message.ErrRecipient},
		{400, "Bad Request: message text is empty", message.ErrInvalid},
		{400, "Bad Request: message is too long", message.ErrInvalid},
		{400, "Bad Request: message caption is too long", message.ErrInvalid},
		{400, "Bad Request: can't parse entities: unclosed tag", message.ErrInvalid},
		{400, "Bad Request: message to be replied not found", message.ErrInvalid},
		{400, "Bad Request: reply markup is too long", message.ErrInvalid},
		{400, "Bad Request: BUTTON_DATA_INVALID", message.ErrInvalid},
		{400, "Bad Request: wrong file_id or the file is temporarily unavailable", message.ErrUnavailable},
		{400, "Bad Request: invalid file_id", message.ErrInvalid},
		{400, "Bad Request: wrong file identifier/HTTP URL specified", message.ErrInvalid},
		{400, "Bad Request: failed to get HTTP URL content", message.ErrInvalid},
		{400, "Bad Request: something new", message.ErrInvalid},
		{401, "Unauthorized", message.ErrAccount},
		{403, "Forbidden: bot was blocked by the user", message.ErrRecipient},
		{403, "Forbidden: user is deactivated", message.ErrRecipient},
		{403, "Forbidden: bot can't initiate conversation with a user", message.ErrRecipient},
		{403, "Forbidden: bot was kicked from the supergroup chat", message.ErrRecipient},
		{403, "Forbidden: bot is not a member of the channel chat", message.ErrRecipient},
		{403, "Forbidden: the group chat was deleted", message.ErrRecipient},
		{404, "Not Found", message.ErrAccount}, // getMe gets the same answer
		{409, "Conflict: terminated by setWebhook request", message.ErrUnavailable},
		{413, "Request Entity Too Large", message.ErrInvalid},
		{500, "Internal Server Error: restart", message.ErrUncertain},
		{502, "Bad Gateway", message.ErrUncertain},
		{503, "Service Unavailable", message.ErrUncertain},
		{504, "Gateway Timeout", message.ErrUncertain},
	} {
		rows = append(rows, row(r.description, refusal(r.code, r.description, ""), r.kind, strconv.Itoa(r.code)))
	}
	throttled := func(name, chat string, res channeltest.Response, after time.Duration, chatOnly bool) channeltest.ErrorRow {
		r := row(name, res, message.ErrThrottled, "429")
		r.Want.RetryAfter, r.Want.ChatOnly = after, chatOnly
		r.Out = &message.Outbound{Chat: chat, Content: message.Content{Kind: message.KindText, Text: "x"}}
		return r
	}
	flood := refusal(429, "Too Many Requests: retry after 17", `{"retry_after":17}`)
	rows = append(rows,
		throttled("flood", chat, flood, 17*time.Second, false),
		throttled("flood in a group", "-1001234567890", flood, 17*time.Second, true),
		throttled("flood by header", chat, channeltest.Response{Status: 429, Header: map[string]string{"Retry-After": "9"}, Body: `{"ok":false}`}, 9*time.Second, false),
		throttled("flood for weeks", chat, refusal(429, "Too Many Requests: retry after 99999999", `{"retry_after":99999999}`), 24*time.Hour, false),
		row("html", channeltest.Response{Status: 502, Header: map[string]string{"Content-Type": "text/html"}, Body: "<html>Bad Gateway</html>"}, message.ErrUncertain, "502"),
		row("html of a firewall", channeltest.Response{Status: 403, Header: map[string]string{"Content-Type": "text/html"}, Body: "<html>no</html>"}, message.ErrUnavailable, "403"),
		row("not ok with 200", channeltest.Response{Body: `{"ok":false,"error_code":403,"description":"Forbidden: bot was blocked by the user"}`}, message.ErrRecipient, "403"),
	)
	store := row("store gone", ok(`{}`), message.ErrUnavailable, "")
	store.Out = &message.Outbound{Content: message.Content{Kind: message.KindDocument, Files: files(message.KindDocument, "application/pdf", "missing.pdf")}}
	rows = append(rows, store)
	broken := row("store breaks off", ok(`{}`), message.ErrUnavailable, "")
	broken.Out = &message.Outbound{Content: message.Content{Kind: message.KindDocument, Files: files(message.KindDocument, "application/pdf", "broken.pdf")}}
	return append(rows, broken)
}

func pollErrors() []channeltest.PollErrorRow {
	row := func(name string, res channeltest.Response, kind channels.PollErrorKind, after time.Duration) channeltest.PollErrorRow {
		return channeltest.PollErrorRow{Name: name, Response: res, Want: channels.PollError{Kind: kind, RetryAfter: after}}
	}
	return []channeltest.PollErrorRow{
		row("other poller", refusal(409, "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running", ""), channels.PollConflict, 0),
		row("webhook being set", refusal(409, "Conflict: terminated by setWebhook request", ""), channels.PollConflict, 0),
		row("revoked", refusal(401, "Unauthorized", ""), channels.PollUnauthorized, 0),
		row("unknown", refusal(404, "Not Found", ""), channels.PollUnauthorized, 0),
		row("flood", refusal(429, "Too Many Requests: retry after 5", `{"retry_after":5}`), channels.PollThrottled, 5*time.Second),
		row("restart", refusal(500, "Internal Server Error: restart", ""), channels.PollUnavailable, 0),
		row("html", channeltest.Response{Status: 502, Header: map[string]string{"Content-Type": "text/html"}, Body: "<h1>502</h1>"}, channels.PollUnavailable, 0),
		row("html with 200", channeltest.Response{Header: map[string]string{"Content-Type": "text/html"}, Body: "<h1>hotel wifi</h1>"}, channels.PollUnavailable, 0),
		row("no list", ok(`{"update_id":1}`), channels.PollUnavailable, 0),
		row("cut", channeltest.Response{Cut: true}, channels.PollUnavailable, 0),
	}
}

func fetches() []channeltest.FetchRow {
	getFile := func(res channeltest.Response, bytes channeltest.Response) func(*channeltest.Request) channeltest.Response {
		return func(r *channeltest.Request) channeltest.Response {
			switch r.Path {
			case "/bot" + token + "/getFile":
				return res
			case "/file/bot" + token + "/photos/файл 12.jpg":
				return bytes
			}
			return channeltest.Response{Status: 404}
		}
	}
	path := ok(`{"file_id":"x","file_unique_id":"y","file_size":5,"file_path":"photos/файл 12.jpg"}`)
	return []channeltest.FetchRow{
		{Name: "file", Ref: "AgAD..y", Body: "bytes", Mime: "image/jpeg", FileName: "файл 12.jpg", Answer: getFile(path, channeltest.Response{Header: map[string]string{"Content-Type": "image/jpeg"}, Body: "bytes"})},
		{Name: "no type", Ref: "AgAD..y", Body: "bytes", FileName: "файл 12.jpg", Answer: getFile(path, channeltest.Response{Header: map[string]string{"Content-Type": "application/octet-stream"}, Body: "bytes"})},
		{Name: "too large", Ref: "x", Err: channels.ErrFileTooLarge, Answer: getFile(refusal(400, "Bad Request: file is too big", ""), channeltest.Response{})},
		{Name: "gone", Ref: "x", Err: channels.ErrFileGone, Answer: getFile(refusal(400, "Bad Request: invalid file_id", ""), channeltest.Response{})},
	}
}

// open opens an account at a fake platform.
func open(t *testing.T, p *channeltest.Platform, more map[string]string) channels.Channel {
	t.Helper()
	c := suite()
	ch, err := c.Platform.Open(p.Account(&c, more), p.Env())
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func kindOf(t *testing.T, err error) message.ErrorKind {
	t.Helper()
	e, ok := errors.AsType[*message.Error](err)
	if !ok {
		t.Fatalf("got %T %v, want *message.Error", err, err)
	}
	return e.Kind
}

func body(t *testing.T, r *channeltest.Request) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(r.Body, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
