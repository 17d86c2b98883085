package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"switchboard/message"
	"switchboard/simulator"
)

// newHuman makes a platform's own way to make customers one that makes humans.
func newHuman[C human](make func(simulator.CustomerSpec) (C, error)) func(simulator.CustomerSpec) (human, error) {
	return func(spec simulator.CustomerSpec) (human, error) { return make(spec) }
}

func press(data string) func(human) (simulator.Sent, error) {
	return func(h human) (simulator.Sent, error) { return h.Press(data) }
}

func pressed(payload, text string) message.Content {
	return message.Content{Kind: message.KindButton, Button: &message.Button{Payload: payload, Text: text}}
}

func place(lat, lon float64) message.Content {
	return message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: lat, Lon: lon}}
}

func card(name, phone string) message.Content {
	return message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: name, Phone: phone}}
}

func forwarded(c message.Content, f message.Forward) message.Content {
	c.Forwarded = []message.Forward{f}
	return c
}

// parties adds an account of every platform.
func parties(w *world) map[string]*party {
	w.t.Helper()
	return map[string]*party{
		"telegram": telegramParty(w), "viber": viberParty(w), "vk": vkParty(w), "ok": okParty(w), "infobip": infobipParty(w), "mfms": mfmsParty(w),
	}
}

func telegramParty(w *world) *party {
	acct := w.sim.Telegram(telegramToken)
	type a = simulator.TelegramAction
	does := func(action string, args a, sees message.Content) deed { return deed{by(tg(action, args)), sees} }
	gets := func(method, content string) []string {
		return []string{"POST /telegram/bot7000000001:<token>/" + method + ` {"chat_id":"CUSTOMER",` + content + "}"}
	}
	return &party{
		account: w.account("telegram", telegramToken, nil), customer: newHuman(acct.NewCustomer), requests: acct.Requests,
		background: []string{"getUpdates", "getFile", "file", "answerCallbackQuery", "getUserProfilePhotos", "getChat"},
		does: map[string]deed{
			"reply keyboards":        {press("Yes"), text("Yes")},
			"buttons in the feed":    {press("Good"), pressed("csat:5", "Good")},
			"receive images":         does("photo", a{Caption: "receipt"}, file(message.KindImage, "receipt", message.File{Name: "file.jpg", Mime: "image/jpeg", Width: 640, Height: 480})),
			"receive video":          does("video", a{Caption: "see"}, file(message.KindVideo, "see", message.File{Name: "video.mp4", Mime: "video/mp4", Width: 1280, Height: 720, Duration: 7})),
			"receive stickers":       does("sticker", a{Type: "static"}, file(message.KindSticker, "", message.File{Name: "file.webp", Mime: "image/webp", Emoji: "👍", Width: 512, Height: 512})),
			"receive documents":      does("document", a{File: simulator.FileSpec{Name: "договор №1.pdf"}}, file(message.KindDocument, "", message.File{Name: "договор №1.pdf", Mime: "application/pdf"})),
			"receive audio":          does("audio", a{File: simulator.FileSpec{Duration: 201}}, file(message.KindAudio, "", message.File{Name: "audio.mp3", Mime: "audio/mpeg", Duration: 201})),
			"receive voice messages": does("voice", a{}, file(message.KindVoice, "", message.File{Name: "file.ogg", Mime: "audio/ogg", Duration: 7})),
			"receive contact":        does("contact", a{Phone: "79164445566", FirstName: "Boris"}, card("Boris", "+79164445566")),
			"receive location":       does("location", a{}, place(55.751244, 37.618423)),
			"see forwarded messages": does("text", a{Text: "over there", Forward: "user"}, forwarded(text("over there"), message.Forward{From: "Пётр"})),
		},
		gets: map[string][]string{
			"chat conversation":                gets("sendMessage", `"text":"an answer"`),
			"customer's phone":                 gets("sendMessage", `"text":"call you?","reply_markup":{"keyboard":[[{"text":"My phone","request_contact":true}]],"resize_keyboard":true}`),
			"reply keyboards":                  gets("sendMessage", `"text":"choose","reply_markup":{"keyboard":[[{"text":"Yes"},{"text":"No"}]],"resize_keyboard":true}`),
			"buttons in the feed":              gets("sendMessage", `"text":"rate","reply_markup":{"inline_keyboard":[[{"text":"Good","callback_data":"csat:5"},{"text":"Bad","callback_data":"Bad"}]]}`),
			"edit own messages":                gets("editMessageText", `"message_id":"ID","text":"a better answer"`),
			"delete own messages":              gets("deleteMessage", `"message_id":"ID"`),
			"delete others' messages":          gets("deleteMessage", `"message_id":"ID"`),
			"operator starts the conversation": gets("sendMessage", `"text":"an answer"`),
			"emoji both ways":                  gets("sendMessage", `"text":"`+emoji+`"`),
			"send images":                      gets("sendPhoto", `"photo":"@cat.jpg image/jpeg","caption":"look"`),
			"send video":                       gets("sendVideo", `"video":"@clip.mp4 video/mp4","caption":"how to","supports_streaming":"true"`),
			"send stickers":                    gets("sendSticker", `"sticker":"@hi.webp image/webp"`),
			"send documents":                   gets("sendDocument", `"document":"@bill.pdf application/pdf","caption":"your bill","disable_content_type_detection":"true"`),
			"send audio":                       gets("sendAudio", `"audio":"@song.mp3 audio/mpeg"`),
			"send voice messages":              gets("sendVoice", `"voice":"@say.ogg audio/ogg"`),
			"send contact":                     gets("sendContact", `"first_name":"Service desk","phone_number":"+37060000000"`),
			"send location":                    gets("sendLocation", `"latitude":"55.75","longitude":"37.61"`),
			"forward a message":                gets("forwardMessage", `"from_chat_id":"OTHER","message_id":"THEIRS"`),
		},
	}
}

func viberParty(w *world) *party {
	acct := w.sim.Viber(viberToken)
	type a = simulator.ViberAction
	does := func(action string, args a, sees message.Content) deed { return deed{by(vb(action, args)), sees} }
	gets := func(contents ...string) (lines []string) {
		for _, c := range contents {
			if !strings.Contains(c, "min_api_version") {
				c = `"min_api_version":1,` + c
			}
			lines = append(lines, `POST /viber/pa/send_message {"receiver":"CUSTOMER","sender":{"name":"Ann Lee","avatar":"`+operatorAvatar+`"},`+c+"}")
		}
		return lines
	}
	// Viber has no type for sound, and takes its own stickers only: what has no
	// type of its own goes as a file.
	asFile := func(name, mime string) string {
		return fmt.Sprintf(`"type":"file","media":"link:%[1]s %[2]s","file_name":"%[1]s","size":%[3]d`, name, mime, len(fileBytes(w.t, name)))
	}
	phoneButton := regexp.MustCompile(`^sb-phone:[0-9a-f]{24}$`)
	return &party{
		account: w.account("viber", viberToken, nil), customer: newHuman(acct.NewCustomer), requests: acct.Requests,
		scrub: func(request object) {
			k, _ := request["keyboard"].(object)
			buttons, _ := k["Buttons"].([]any)
			for _, b := range buttons {
				if body, _ := b.(object)["ActionBody"].(string); phoneButton.MatchString(body) {
					b.(object)["ActionBody"] = "SECRET"
				}
			}
		},
		does: map[string]deed{
			"reply keyboards":        {press("Yes"), pressed("y", "Yes")},
			"receive images":         does("picture", a{Text: "scratched here"}, file(message.KindImage, "scratched here", message.File{Name: "picture.jpg", Mime: "image/jpeg"})),
			"receive video":          does("video", a{Text: "see", Duration: 12}, file(message.KindVideo, "see", message.File{Name: "video.mp4", Mime: "video/mp4", Duration: 12})),
			"receive stickers":       does("sticker", a{}, file(message.KindSticker, "", message.File{Name: "40133.png", Mime: "image/png"})),
			"receive documents":      does("file", a{File: simulator.FileSpec{Name: "рахунок.pdf"}}, file(message.KindDocument, "", message.File{Name: "рахунок.pdf", Mime: "application/pdf"})),
			"receive audio":          does("file", a{File: simulator.FileSpec{Name: "song.mp3", Format: "mp3"}}, file(message.KindDocument, "", message.File{Name: "song.mp3", Mime: "audio/mpeg"})),
			"receive voice messages": does("voice", a{}, file(message.KindDocument, "", message.File{Name: "file.m4a", Mime: "audio/x-m4a"})),
			"receive contact":        does("contact", a{Name: "Boris", Phone: "37060012399"}, card("Boris", "+37060012399")),
			"receive location":       does("location", a{}, place(54.687157, 25.279652)),
		},
		gets: map[string][]string{
			"chat conversation":                gets(`"type":"text","text":"an answer"`),
			"customer's phone":                 gets(`"min_api_version":3,"type":"text","text":"call you?","keyboard":{"Type":"keyboard","Buttons":[{"Columns":6,"Rows":1,"ActionType":"share-phone","ActionBody":"SECRET","Text":"My phone"}]}`),
			"reply keyboards":                  gets(`"type":"text","text":"choose","keyboard":{"Type":"keyboard","Buttons":[{"Columns":3,"Rows":1,"ActionType":"reply","ActionBody":"sb:y\nYes","Text":"Yes","Silent":true},{"Columns":3,"Rows":1,"ActionType":"reply","ActionBody":"No","Text":"No"}]}`),
			"operator starts the conversation": gets(`"type":"text","text":"an answer"`),
			"operator's avatar":                gets(`"type":"text","text":"an answer"`),
			"emoji both ways":                  gets(`"type":"text","text":"` + emoji + `"`),
			"send images":                      gets(`"type":"picture","text":"look","media":"link:cat.jpg image/jpeg"`),
			"send video":                       gets(fmt.Sprintf(`"type":"video","text":"how to","media":"link:clip.mp4 video/mp4","size":%d`, len(fileBytes(w.t, "clip.mp4")))),
			"send stickers":                    gets(asFile("hi.webp", "image/webp")),
			"send documents":                   gets(asFile("bill.pdf", "application/pdf"), `"type":"text","text":"your bill"`),
			"send audio":                       gets(asFile("song.mp3", "audio/mpeg")),
			"send voice messages":              gets(asFile("say.ogg", "audio/ogg")),
			"send contact":                     gets(`"type":"contact","contact":{"name":"Service desk","phone_number":"+37060000000"}`),
			"send location":                    gets(`"type":"location","location":{"lat":55.75,"lon":37.61}`),
		},
	}
}

func vkParty(w *world) *party {
	acct := w.sim.VK(vkToken)
	type a = simulator.VKAction
	does := func(action string, args a, sees message.Content) deed {
		return deed{by(func(u *simulator.VKCustomer) (simulator.Sent, error) { return u.Do(action, args) }), sees}
	}
	method := func(name, params string) string { return "POST /vk/method/" + name + ` {"v":"5.199",` + params + "}" }
	gets := func(params string) []string {
		return []string{method("messages.send", `"peer_ids":"CUSTOMER","random_id":"RANDOM",`+params)}
	}
	doc := func(kind, file, mime, attachment, more string) []string {
		return append([]string{
			method("docs.getMessagesUploadServer", `"peer_id":"CUSTOMER","type":"`+kind+`"`),
			fmt.Sprintf(`POST /vk/upload/123456789 {"file":"@%s %s"}`, file, mime),
			method("docs.save", `"file":"UPLOADED","title":"`+file+`"`),
		}, gets(more+`"attachment":"`+attachment+`-123456789_NUMBER_KEY"`)...)
	}
	random := map[string]*regexp.Regexp{"random_id": regexp.MustCompile(`^[1-9][0-9]{0,9}$`), "file": regexp.MustCompile(`^[0-9a-f]{16}$`), "hash": regexp.MustCompile(`^[0-9a-f]{8}$`)}
	number := regexp.MustCompile(`_[0-9]+_[0-9a-f]{8}$`)
	p := &party{
		account: w.account("vk", vkToken, map[string]string{"group_id": fmt.Sprint(acct.GroupID())}), customer: newHuman(acct.NewCustomer), requests: acct.Requests,
		background: []string{"a_check", "groups.getLongPollServer", "users.get", "messages.getConversations", "messages.getHistory", "messages.sendMessageEventAnswer"},
		sticker:    "cat.png",
		scrub: func(request object) {
			for k, word := range map[string]string{"random_id": "RANDOM", "file": "UPLOADED", "hash": "UPLOADED"} {
				if s, _ := request[k].(string); random[k].MatchString(s) {
					request[k] = word
				}
			}
			if _, ok := request["photo"].([]any); ok {
				request["photo"] = "UPLOADED"
			}
			if s, ok := request["attachment"].(string); ok {
				request["attachment"] = number.ReplaceAllString(s, "_NUMBER_KEY")
			}
		},
		does: map[string]deed{
			"reply keyboards":        {press("Yes"), pressed("y", "Yes")},
			"buttons in the feed":    {press("Good"), pressed("csat:5", "Good")},
			"receive images":         does("photo", a{Text: "вот"}, file(message.KindImage, "вот", message.File{Name: "photoN.jpg", Mime: "image/jpeg", Width: 640, Height: 480})),
			"receive video":          does("video", a{Text: "клип"}, file(message.KindVideo, "клип", message.File{Name: "videoN.mp4", Mime: "video/mp4", Duration: 14})),
			"receive stickers":       does("sticker", a{}, file(message.KindSticker, "", message.File{Name: "sticker.png", Mime: "image/png", Width: 256, Height: 256})),
			"receive documents":      does("document", a{File: simulator.FileSpec{Name: "договор.pdf"}}, file(message.KindDocument, "", message.File{Name: "договор.pdf", Mime: "application/pdf"})),
			"receive audio":          does("audio", a{}, file(message.KindAudio, "", message.File{Name: "Artist — Title.mp3", Mime: "audio/mpeg", Duration: 201})),
			"receive voice messages": does("voice", a{}, file(message.KindVoice, "", message.File{Name: "audio_messageN.ogg", Mime: "audio/ogg", Duration: 1})),
			"receive contact":        does("unknown", a{Kind: "contact", Value: json.RawMessage(`{"name":"Boris"}`)}, message.Content{Kind: message.KindUnsupported, Text: "[contact]", Unsupported: "contact"}),
			"receive location":       does("location", a{Lat: 55.75, Lon: 37.61}, place(55.75, 37.61)),
			"see forwarded messages": does("forward", a{Text: "смотрите", From: 555}, forwarded(text("смотрите"), message.Forward{From: "id555", Text: "пересланный текст"})),
		},
		gets: map[string][]string{
			"chat conversation":                gets(`"message":"an answer"`),
			"reply keyboards":                  gets(`"message":"choose","keyboard":{"one_time":false,"inline":false,"buttons":[[{"action":{"type":"text","label":"Yes","payload":"{\"sb\":\"y\"}"}},{"action":{"type":"text","label":"No"}}]]}`),
			"buttons in the feed":              gets(`"message":"rate","keyboard":{"one_time":false,"inline":true,"buttons":[[{"action":{"type":"callback","label":"Good","payload":"{\"sb\":\"csat:5\",\"t\":\"Good\"}"}},{"action":{"type":"callback","label":"Bad","payload":"{\"sb\":\"Bad\"}"}}]]}`),
			"edit own messages":                {method("messages.edit", `"peer_id":"CUSTOMER","cmid":"ID","message":"a better answer","keep_forward_messages":"1","keep_snippets":"1"`)},
			"delete own messages":              {method("messages.delete", `"peer_id":"CUSTOMER","cmids":"ID","delete_for_all":"1","group_id":"123456789"`)},
			"operator starts the conversation": gets(`"message":"an answer"`),
			"emoji both ways":                  gets(`"message":"` + emoji + `"`),
			"send images": append([]string{
				method("photos.getMessagesUploadServer", `"peer_id":"CUSTOMER"`),
				`POST /vk/upload/123456789 {"photo":"@cat.jpg image/jpeg"}`,
				method("photos.saveMessagesPhoto", `"server":"851","photo":"UPLOADED","hash":"UPLOADED"`),
			}, gets(`"message":"look","attachment":"photo-123456789_NUMBER_KEY"`)...),
			"send video":          doc("doc", "clip.mp4", "video/mp4", "doc", `"message":"how to",`), // video.save takes a person's token
			"send stickers":       doc("graffiti", "cat.png", "image/png", "graffiti", ""),
			"send documents":      doc("doc", "bill.pdf", "application/pdf", "doc", `"message":"your bill",`),
			"send voice messages": doc("audio_message", "say.ogg", "audio/ogg", "audio_message", ""),
			"send location":       gets(`"lat":"55.75","long":"37.61","message":"📍 55.75, 37.61"`),
			"forward a message":   gets(`"forward":{"peer_id":"OTHER","conversation_message_ids":["THEIRS"]}`),
		},
	}
	// What is written before the first cursor is stored belongs to the time before the account.
	polled(w.t, "first long poll", patience, func() bool { return len(acct.Requests("groups.getLongPollServer")) > 0 })
	return p
}

func okParty(w *world) *party {
	acct := w.sim.OK(okToken)
	type a = simulator.OKAction
	does := func(action string, args a, sees message.Content) deed { return deed{by(okDo(action, args)), sees} }
	gets := func(content string) []string {
		return []string{`POST /ok/graph/me/messages/CHAT {"recipient":{"chat_id":"CHAT"},"message":{` + content + "}}"}
	}
	uploads := func(kind, file, mime, text string) []string {
		return append([]string{
			`GET /ok/graph/me/fileUploadUrl {"type":"` + kind + `"}`,
			fmt.Sprintf(`POST /ok/upload/ {"file":"@%s %s"}`, file, mime),
		}, gets(fmt.Sprintf(`"text":%q,"attachments":[{"type":%q,"payload":{"token":"TOKEN"}}]`, text, kind))...)
	}
	token := regexp.MustCompile(`^p?s[0-9a-f]{15,16}==$`)
	return &party{
		account: w.account("ok", okToken, map[string]string{"secret": okSecret}), customer: newHuman(acct.NewCustomer), requests: acct.Requests,
		background: []string{"me/subscriptions", "me/chats", "GET me/messages"},
		scrub: func(request object) {
			m, _ := request["message"].(object)
			attachments, _ := m["attachments"].([]any)
			for _, attached := range attachments {
				payload, _ := attached.(object)["payload"].(object)
				if s, _ := payload["token"].(string); token.MatchString(s) {
					payload["token"] = "TOKEN"
				}
			}
		},
		does: map[string]deed{
			"buttons in the feed":    {press("Good"), pressed("csat:5", "")},
			"receive images":         does("photo", a{Text: "scratched here"}, file(message.KindImage, "scratched here", message.File{Name: "image.jpg", Mime: "image/jpeg"})),
			"receive video":          does("video", a{Text: "how it works"}, file(message.KindVideo, "how it works", message.File{Name: "video.mp4", Mime: "video/mp4"})),
			"receive stickers":       does("sticker", a{}, file(message.KindSticker, "", message.File{Name: "sticker.png", Mime: "image/png"})),
			"receive documents":      does("document", a{File: simulator.FileSpec{Name: "договор.pdf"}}, file(message.KindDocument, "", message.File{Name: "договор.pdf", Mime: "application/pdf"})),
			"receive audio":          does("music", a{Text: "listen"}, text("listen\nhttps://ok.ru/music/track/123456")),
			"receive voice messages": does("voice", a{}, file(message.KindVoice, "", message.File{Name: "audio.mp3", Mime: "audio/mpeg"})),
			"receive contact":        does("contact", a{Name: "Boris", Phone: "79990001122"}, card("Boris", "+79990001122")),
			"receive location":       does("location", a{}, place(55.751244, 37.618423)),
			"see forwarded messages": does("forward", a{}, unsupported("empty message (a forwarded one arrives so)")),
		},
		gets: map[string][]string{
			"chat conversation":                gets(`"text":"an answer"`),
			"buttons in the feed":              gets(`"text":"rate","attachments":[{"type":"INLINE_KEYBOARD","payload":{"keyboard":{"buttons":[[{"type":"CALLBACK","text":"Good","intent":"DEFAULT","payload":"csat:5"},{"type":"CALLBACK","text":"Bad","intent":"DEFAULT","payload":"Bad"}]]}}}]`),
			"operator starts the conversation": {`POST /ok/graph/me/messages {"recipient":{"user_id":"CUSTOMER"},"message":{"text":"an answer"}}`},
			"emoji both ways":                  gets(`"text":"` + emoji + `"`),
			"send images":                      uploads("IMAGE", "cat.jpg", "image/jpeg", "look"),
			"send video":                       uploads("VIDEO", "clip.mp4", "video/mp4", "how to"),
			"send documents":                   uploads("FILE", "bill.pdf", "application/pdf", "your bill"),
			"send audio":                       uploads("AUDIO", "song.mp3", "audio/mpeg", "song.mp3"), // OK refuses files without a text
			"send voice messages":              uploads("AUDIO", "say.ogg", "audio/ogg", "say.ogg"),
		},
	}
}

func infobipParty(w *world) *party {
	account, acct := infobipAccount(w)
	type a = simulator.InfobipAction
	does := func(action string, args a, sees message.Content) deed { return deed{by(infobipDo(action, args)), sees} }
	const address = `"from":"` + infobipSender + `","to":"CUSTOMER","messageId":"ID","callbackData":"CUSTOMER"`
	gets := func(kind, content string) []string {
		return []string{`POST /infobip/whatsapp/1/message/` + kind + ` {` + address + `,"urlOptions":{"shortenUrl":false,"trackClicks":false},"content":{` + content + `}}`}
	}
	return &party{
		account: account, customer: newHuman(acct.NewCustomer), requests: acct.Requests,
		background: []string{"media"},
		first:      object{"kind": "template", "template": object{"name": "hello", "language": "ru", "parameters": []string{"Anna"}}},
		does: map[string]deed{
			"buttons in the feed":    {press("Good"), pressed("csat:5", "Good")},
			"receive images":         does("photo", a{Text: "scratched here"}, file(message.KindImage, "scratched here", message.File{Name: "file.jpg", Mime: "image/jpeg"})),
			"receive video":          does("video", a{Text: "how it works"}, file(message.KindVideo, "how it works", message.File{Name: "file.mp4", Mime: "video/mp4"})),
			"receive stickers":       does("sticker", a{}, file(message.KindSticker, "", message.File{Name: "file.webp", Mime: "image/webp"})),
			"receive documents":      does("document", a{File: simulator.FileSpec{Name: "договор.pdf"}}, file(message.KindDocument, "", message.File{Name: "договор.pdf", Mime: "application/pdf"})),
			"receive audio":          does("audio", a{}, file(message.KindAudio, "", message.File{Name: "file.mp3", Mime: "audio/mpeg"})),
			"receive voice messages": does("voice", a{}, file(message.KindVoice, "", message.File{Name: "file.oga", Mime: "audio/ogg"})),
			"receive contact":        does("contact", a{Name: "Boris", Phone: "79990001122"}, card("Boris", "+79990001122")),
			"receive location":       does("location", a{}, place(55.751244, 37.618423)),
		},
		gets: map[string][]string{
			"chat conversation":                gets("text", `"text":"an answer","previewUrl":false`),
			"buttons in the feed":              gets("interactive/buttons", `"body":{"text":"rate"},"action":{"buttons":[{"type":"REPLY","id":"csat:5","title":"Good"},{"type":"REPLY","id":"Bad","title":"Bad"}]}`),
			"operator starts the conversation": {`POST /infobip/whatsapp/1/message/template {"messages":[{` + address + `,"content":{"templateName":"hello","language":"ru","templateData":{"body":{"placeholders":["Anna"]}}}}]}`},
			"emoji both ways":                  gets("text", `"text":"`+emoji+`","previewUrl":false`),
			"send images":                      gets("image", `"mediaUrl":"link:cat.jpg image/jpeg","caption":"look"`),
			"send video":                       gets("video", `"mediaUrl":"link:clip.mp4 video/mp4","caption":"how to"`),
			"send stickers":                    gets("sticker", `"mediaUrl":"link:hi.webp image/webp"`),
			"send documents":                   gets("document", `"mediaUrl":"link:bill.pdf application/pdf","caption":"your bill","filename":"bill.pdf"`),
			"send audio":                       gets("audio", `"mediaUrl":"link:song.mp3 audio/mpeg"`),
			"send voice messages":              gets("audio", `"mediaUrl":"link:say.ogg audio/ogg","voice":true`),
			"send contact":                     gets("contact", `"contacts":[{"name":{"firstName":"Service desk","formattedName":"Service desk"},"phones":[{"phone":"+37060000000","type":"CELL","waId":"37060000000"}]}]`),
			"send location":                    gets("location", `"latitude":55.75,"longitude":37.61`),
			"forward a message":                gets("text", `"text":"pass it on","previewUrl":false`),
		},
	}
}

func mfmsParty(w *world) *party {
	account, acct := mfmsAccount(w)
	type a = simulator.MFMSAction
	does := func(action string, args a, sees message.Content) deed { return deed{by(mfmsDo(action, args)), sees} }
	gets := func(content string) []string {
		return []string{`POST /mfms/api/imOutMessage {"id":"ID","subject":"ACME_WA","address":"CUSTOMER","comment":"OURS","priority":"normal","validityPeriodSeconds":"REMAINING",` + content + "}"}
	}
	files := func(kind, name, mime, more string) []string {
		return gets(fmt.Sprintf(`"contentType":%q,"attachmentUrl":"link:%s %s","attachmentName":%[2]q%[4]s`, kind, name, mime, more))
	}
	return &party{
		account: account, customer: newHuman(acct.NewCustomer), requests: acct.Requests,
		scrub: func(request object) {
			if n, ok := request["validityPeriodSeconds"].(json.Number); ok {
				if left, err := n.Int64(); err == nil && left >= 86_000 && left <= 86_400 {
					request["validityPeriodSeconds"] = "REMAINING"
				}
			}
		},
		does: map[string]deed{
			"customer's avatar":      does("text", a{Text: "here I am", Pulse: true}, text("here I am")), // the older form has no picture
			"buttons in the feed":    {press("Good"), pressed("csat:5", "Good")},
			"receive images":         does("photo", a{Text: "scratched here"}, file(message.KindImage, "scratched here", message.File{Name: "image.jpg", Mime: "image/jpeg"})),
			"receive video":          does("video", a{Text: "how it works"}, file(message.KindVideo, "how it works", message.File{Name: "video.mp4", Mime: "video/mp4"})),
			"receive stickers":       does("sticker", a{}, file(message.KindSticker, "", message.File{Name: "sticker.webp", Mime: "image/webp"})),
			"receive documents":      does("document", a{File: simulator.FileSpec{Name: "договор.pdf"}}, file(message.KindDocument, "", message.File{Name: "договор.pdf", Mime: "application/pdf"})),
			"receive audio":          does("audio", a{}, file(message.KindAudio, "", message.File{Name: "audio.mp3", Mime: "audio/mpeg"})),
			"receive voice messages": does("voice", a{}, file(message.KindVoice, "", message.File{Name: "voice.ogg", Mime: "audio/ogg"})),
			"receive contact":        does("contact", a{Name: "Boris", Phone: "79990001122"}, card("Boris", "+79990001122")),
			"receive location":       does("location", a{}, place(55.751244, 37.618423)),
		},
		gets: map[string][]string{
			"chat conversation":                gets(`"contentType":"text","text":"an answer"`),
			"buttons in the feed":              gets(`"contentType":"text","text":"rate","keyboard":{"rows":[{"buttons":[{"type":"QUICK_REPLY","text":"Good","payload":"csat:5"},{"type":"QUICK_REPLY","text":"Bad","payload":"Bad"}]}]}`),
			"operator starts the conversation": gets(`"contentType":"text","text":"an answer"`),
			"emoji both ways":                  gets(`"contentType":"text","text":"` + emoji + `"`),
			"send images":                      files("image", "cat.jpg", "image/jpeg", `,"caption":"look"`),
			"send video":                       files("video", "clip.mp4", "video/mp4", `,"caption":"how to"`),
			"send documents":                   files("document", "bill.pdf", "application/pdf", `,"caption":"your bill"`),
			"send audio":                       files("audio", "song.mp3", "audio/mpeg", ""),
			"send voice messages":              files("audio", "say.ogg", "audio/ogg", ""),
			"send location":                    gets(`"contentType":"location","latitude":55.75,"longitude":37.61`),
			"forward a message":                gets(`"contentType":"text","text":"pass it on"`),
		},
	}
}
