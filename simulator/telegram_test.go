package simulator_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"switchboard/simulator"
)

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func pngOf(t *testing.T, w, h int) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, image.NewGray(image.Rect(0, 0, w, h))); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestTelegramTokens(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"bot" + tgToken + "/getMe":                            {200, ""},
		"bot" + tgToken + "/GETME":                            {200, ""},
		"bot" + tgToken + "/test/getMe":                       {200, ""},
		"bot7000000001:other/getMe":                           {401, "Unauthorized"},
		"botnonsense/getMe":                                   {404, "Not Found"},
		"bot7000000001:" + strings.Repeat("x", 80) + "/getMe": {404, "Not Found"},
		"bot" + tgToken + "/hologram":                         {404, "Not Found: method not found"},
		"file/bot" + tgToken + "/photos/f.jpg":                {404, "Not Found"},
	} {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, b.base+"/telegram/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		status, _, raw := send(t, req)
		v := decode(t, raw)
		wantEq(t, path, status, want.code)
		wantEq(t, path, str(v["description"]), want.text)
		wantEq(t, path, v["ok"], want.code == 200)
	}
	me := b.ok("getMe", obj{})
	wantEq(t, "id", at(me, "id"), 7000000001)
	wantEq(t, "is_bot", at(me, "is_bot"), true)

	yes := true
	b.acct.Set(simulator.AccountOptions{Revoked: &yes})
	b.fails("getMe", obj{}, 401, "unauthorized")
}

func TestTelegramAutoRegister(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{AutoRegister: true, AutoCustomers: true})
	resp, err := http.Get(b.base + "/telegram/bot42:fresh/sendMessage?chat_id=99&text=hi") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	wantEq(t, "status", resp.StatusCode, 200)
	wantEq(t, "inbox", len(b.sim.Telegram("42:fresh").Customer(99).Messages()), 1)
}

func TestTelegramEncodings(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(555)
	markup := `{"inline_keyboard":[[{"text":"Да","callback_data":"y"}]]}`
	values := url.Values{"chat_id": {"555"}, "text": {"a+b & c"}, "reply_markup": {markup}}

	resp, err := http.Get(b.url("sendMessage") + "?" + values.Encode()) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	b.post("sendMessage", "application/x-www-form-urlencoded; charset=utf-8", strings.NewReader(values.Encode()))
	b.ok("sendMessage", obj{"chat_id": 555, "text": "a+b & c", "reply_markup": json.RawMessage(markup)})
	b.ok("sendMessage", obj{"chat_id": "555", "text": "a+b & c", "reply_markup": markup})
	b.multipart("sendMessage", map[string]string{"chat_id": "555", "text": "a+b & c", "reply_markup": markup})

	got := c.Messages()
	wantEq(t, "messages", len(got), 5)
	for i, m := range got {
		wantEq(t, "text", m.Text, "a+b & c")
		wantEq(t, "id", m.ID, fmt.Sprint(i+1))
		if len(m.Buttons) != 1 || m.Buttons[0].Data != "y" || m.Buttons[0].Text != "Да" {
			t.Errorf("message %d: buttons %+v", i, m.Buttons)
		}
	}
	v := b.post("sendMessage", "application/x-www-form-urlencoded", strings.NewReader("chat_id=555&text=%ff%fe"))
	wantEq(t, "invalid UTF-8", num(v["error_code"]), int64(400))
	v = b.post("sendMessage", "application/json", strings.NewReader(`{"chat_id":`))
	wantEq(t, "broken JSON", num(v["error_code"]), int64(400))
}

func TestTelegramText(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	b.acct.Customer(5)
	long := strings.Repeat("я", 4096)
	emoji := strings.Repeat("😀", 2048) // two UTF-16 units each
	for _, c := range []struct {
		name   string
		params obj
		err    string // "" is success
		text   string
	}{
		{"longest", obj{"text": long}, "", long},
		{"longest in UTF-16", obj{"text": emoji}, "", emoji},
		{"one over", obj{"text": long + "я"}, "message is too long", ""},
		{"one emoji over", obj{"text": emoji + "😀"}, "message is too long", ""},
		{"counted after markup", obj{"text": "<b>" + long + "</b>", "parse_mode": "HTML"}, "", long},
		{"empty", obj{"text": ""}, "message text is empty", ""},
		{"blank", obj{"text": " \n "}, "message text is empty", ""},
		{"empty after markup", obj{"text": "<b></b>", "parse_mode": "HTML"}, "message text is empty", ""},
		{"html", obj{"text": `<b>A</b> &lt;i&gt; &amp; <a href="https://x.y/?a=1&amp;b=2">l</a>`, "parse_mode": "HTML"}, "", "A <i> & l"},
		{"unknown tag", obj{"text": "<p>x</p>", "parse_mode": "HTML"}, "can't parse entities", ""},
		{"open tag", obj{"text": "<b>x", "parse_mode": "HTML"}, "can't parse entities", ""},
		{"bare <", obj{"text": "1 < 2", "parse_mode": "HTML"}, "can't parse entities", ""},
		{"crossed tags", obj{"text": "<b><i>x</b></i>", "parse_mode": "HTML"}, "can't parse entities", ""},
		{"markdown", obj{"text": "*b* _i_ ||s|| `c` \\. [l](https://x.y)", "parse_mode": "MarkdownV2"}, "", "b i s c . l"},
		{"markdown reserved", obj{"text": "1.", "parse_mode": "MarkdownV2"}, "can't parse entities", ""},
		{"markdown open", obj{"text": "*b", "parse_mode": "MarkdownV2"}, "can't parse entities", ""},
		{"no such mode", obj{"text": "x", "parse_mode": "BBCode"}, "unsupported parse_mode", ""},
		{"entities", obj{"text": "😀bold", "entities": []obj{{"type": "bold", "offset": 2, "length": 4}}}, "", "😀bold"},
		{"entity splits a character", obj{"text": "😀bold", "entities": []obj{{"type": "bold", "offset": 1, "length": 4}}}, "can't parse entities", ""},
		{"entity outside", obj{"text": "x", "entities": []obj{{"type": "bold", "offset": 0, "length": 2}}}, "can't parse entities", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &tg{t, b.sim, b.base, b.acct}
			c.params["chat_id"] = 5
			if c.err != "" {
				b.fails("sendMessage", c.params, 400, c.err)
				return
			}
			wantEq(t, "text", str(at(b.ok("sendMessage", c.params), "text")), c.text)
		})
	}
	r := b.ok("sendMessage", obj{"chat_id": 5, "text": "😀 <b>x</b>", "parse_mode": "HTML"})
	wantEq(t, "offset in UTF-16", at(r, "entities", 0, "offset"), 3)
	wantEq(t, "from bot", at(r, "from", "is_bot"), true)
	wantEq(t, "chat", at(r, "chat", "id"), 5)
}

func TestTelegramChats(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	text := func(chat any) obj { return obj{"chat_id": chat, "text": "x"} }
	b.fails("sendMessage", text(404), 400, "chat not found")
	b.fails("sendMessage", text("@nobody"), 400, "chat not found")
	b.fails("sendMessage", obj{"text": "x"}, 400, "chat_id is empty")

	stranger, err := b.acct.NewCustomer(simulator.CustomerSpec{ID: "77", Username: "stranger"})
	if err != nil {
		t.Fatal(err)
	}
	b.fails("sendMessage", text(77), 403, "bot can't initiate conversation")
	b.fails("sendMessage", text("@stranger"), 400, "chat not found") // not by a private person's username
	if _, err := stranger.Start("promo"); err != nil {
		t.Fatal(err)
	}
	b.ok("sendMessage", text(77))
	stranger.Block()
	b.fails("sendMessage", text(77), 403, "bot was blocked by the user")
	stranger.Unblock()
	b.ok("sendMessage", text(77))
	yes := true
	stranger.Set(simulator.CustomerPatch{Deactivated: &yes})
	b.fails("sendMessage", text(77), 403, "user is deactivated")

	group, err := b.acct.NewCustomer(simulator.CustomerSpec{ChatType: "group", ChatID: -500, Title: "Двор"})
	if err != nil {
		t.Fatal(err)
	}
	b.ok("sendMessage", text(-500))
	b.fails("sendMessage", obj{"chat_id": -500, "text": "x", "reply_markup": obj{"keyboard": [][]obj{{{"text": "p", "request_contact": true}}}}}, 400, "private chats only")
	if _, err := group.Do("migrate", simulator.TelegramAction{}); err != nil {
		t.Fatal(err)
	}
	v := b.fails("sendMessage", text(-500), 400, "group chat was upgraded")
	next := num(at(v, "parameters", "migrate_to_chat_id"))
	b.ok("sendMessage", text(next))
}

func TestTelegramMarkup(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	b.acct.Customer(5)
	inline := func(buttons ...obj) obj { return obj{"inline_keyboard": [][]obj{buttons}} }
	rows := func(n, per int, kind string) obj {
		var all [][]obj
		for i := 0; i < n; i += per {
			var row []obj
			for j := i; j < min(i+per, n); j++ {
				row = append(row, obj{"text": "b", "callback_data": "d"})
				if kind == "keyboard" {
					row[len(row)-1] = obj{"text": "b"}
				}
			}
			all = append(all, row)
		}
		return obj{kind: all}
	}
	for name, c := range map[string]struct {
		markup any
		err    string
	}{
		"callback of 64 bytes":  {inline(obj{"text": "x", "callback_data": strings.Repeat("я", 32)}), ""},
		"callback of 65 bytes":  {inline(obj{"text": "x", "callback_data": strings.Repeat("я", 32) + "a"}), "BUTTON_DATA_INVALID"},
		"callback empty":        {inline(obj{"text": "x", "callback_data": ""}), "BUTTON_DATA_INVALID"},
		"url":                   {inline(obj{"text": "x", "url": "https://example.org/t/17", "style": "primary"}), ""},
		"bad url":               {inline(obj{"text": "x", "url": "https://"}), "URL"},
		"bad style":             {inline(obj{"text": "x", "url": "https://example.org", "style": "pink"}), "style"},
		"no action":             {inline(obj{"text": "x"}), "exactly one"},
		"two actions":           {inline(obj{"text": "x", "url": "https://example.org", "callback_data": "d"}), "exactly one"},
		"no text":               {inline(obj{"callback_data": "d"}), "text"},
		"100 inline":            {rows(100, 8, "inline_keyboard"), ""},
		"101 inline":            {rows(101, 8, "inline_keyboard"), "reply markup is too long"},
		"9 in a row":            {rows(9, 9, "inline_keyboard"), "reply markup is too long"},
		"300 reply":             {rows(300, 12, "keyboard"), ""},
		"301 reply":             {rows(301, 12, "keyboard"), "reply markup is too long"},
		"remove":                {obj{"remove_keyboard": true}, ""},
		"force":                 {obj{"force_reply": true, "input_field_placeholder": strings.Repeat("x", 64)}, ""},
		"placeholder too long":  {obj{"force_reply": true, "input_field_placeholder": strings.Repeat("x", 65)}, "placeholder"},
		"two kinds":             {obj{"force_reply": true, "remove_keyboard": true}, "one kind"},
		"text buttons as names": {obj{"keyboard": [][]string{{"Меню"}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := &tg{t, b.sim, b.base, b.acct}
			p := obj{"chat_id": 5, "text": "x", "reply_markup": c.markup}
			if c.err == "" {
				b.ok("sendMessage", p)
			} else {
				b.fails("sendMessage", p, 400, c.err)
			}
		})
	}
}

func TestTelegramReply(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	asked := c.SendText("Где мой заказ?")
	reply := func(p obj) obj { return obj{"chat_id": 5, "text": "x", "reply_parameters": p} }
	r := b.ok("sendMessage", reply(obj{"message_id": 1, "quote": "мой"}))
	wantEq(t, "reply", at(r, "reply_to_message", "text"), "Где мой заказ?")
	wantEq(t, "quote position", at(r, "quote", "position"), 4)
	wantEq(t, "as the customer sees it", c.Messages()[0].ReplyTo, asked.MessageID)
	b.fails("sendMessage", reply(obj{"message_id": 1, "quote": "твой"}), 400, "quote")
	b.fails("sendMessage", reply(obj{"message_id": 100}), 400, "message to be replied not found")
	r = b.ok("sendMessage", reply(obj{"message_id": 100, "allow_sending_without_reply": true}))
	wantEq(t, "no reply", at(r, "reply_to_message"), nil)
}

func TestTelegramFiles(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	pic := pngOf(t, 300, 200)
	chat := map[string]string{"chat_id": "5", "caption": "<b>Чек</b>", "parse_mode": "HTML"}

	v := b.multipart("sendPhoto", chat, part{"photo", "a.png", "image/png", pic})
	photo := at(v, "result", "photo", 0)
	wantEq(t, "width", at(photo, "width"), 300)
	wantEq(t, "caption", at(v, "result", "caption"), "Чек")
	got := c.Messages()[0]
	wantEq(t, "sum", got.Files[0].SHA256, sum(pic))

	// The same file by its id, and only as what it is.
	id := str(at(photo, "file_id"))
	b.ok("sendPhoto", obj{"chat_id": 5, "photo": id})
	wantEq(t, "same bytes", c.Messages()[1].Files[0].SHA256, sum(pic))
	b.fails("sendDocument", obj{"chat_id": 5, "document": id}, 400, "invalid file_id")
	b.fails("sendPhoto", obj{"chat_id": 5, "photo": "AgACnonsense"}, 400, "wrong file identifier")
	other := b.sim.Telegram("7000000002:x")
	other.Customer(5)
	resp, err := http.PostForm(b.base+"/telegram/bot7000000002:x/sendPhoto", url.Values{"chat_id": {"5"}, "photo": {id}}) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	wantEq(t, "file_id of another bot", resp.StatusCode, 400)

	// Back through getFile.
	f := b.ok("getFile", obj{"file_id": id})
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, b.base+"/telegram/file/bot"+tgToken+"/"+str(at(f, "file_path")), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _, raw := send(t, req)
	wantEq(t, "download", sum(raw), sum(pic))
	b.fails("getFile", obj{"file_id": "x"}, 400, "invalid file_id")

	for name, x := range map[string]struct {
		method string
		file   part
		err    string
		kind   string
	}{
		"not a picture":      {"sendPhoto", part{"photo", "a.jpg", "image/jpeg", []byte("hello")}, "IMAGE_PROCESS_FAILED", ""},
		"photo too wide":     {"sendPhoto", part{"photo", "a.png", "image/png", pngOf(t, 2100, 100)}, "PHOTO_INVALID_DIMENSIONS", ""},
		"photo at the ratio": {"sendPhoto", part{"photo", "a.png", "image/png", pngOf(t, 2000, 100)}, "", "photo"},
		"photo over 10 MB":   {"sendPhoto", part{"photo", "a.png", "image/png", append(bytes.Clone(pic), make([]byte, 10<<20)...)}, "too big for a photo", ""},
		"empty file":         {"sendDocument", part{"document", "a.txt", "text/plain", nil}, "non-empty", ""},
		"document":           {"sendDocument", part{"document", "дог.pdf", "application/pdf", []byte("%PDF-1.4 x")}, "", "document"},
		"gif as document":    {"sendDocument", part{"document", "a.gif", "image/gif", []byte("GIF89a....")}, "", "animation"},
		"video that is not":  {"sendVideo", part{"video", "a.avi", "video/avi", []byte("RIFF0000AVI ")}, "", "document"},
		"voice that is not":  {"sendVoice", part{"voice", "a.wav", "audio/wav", []byte("RIFF0000WAVEfmt ")}, "", "document"},
		"voice":              {"sendVoice", part{"voice", "a.ogg", "audio/ogg", []byte("OggS\x00\x02")}, "", "voice"},
		"sticker that isn't": {"sendSticker", part{"sticker", "a.png", "image/png", pic}, "wrong file type", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := &tg{t, b.sim, b.base, b.acct}
			v := b.multipart(x.method, map[string]string{"chat_id": "5"}, x.file)
			if x.err != "" {
				if !strings.Contains(str(v["description"]), x.err) || num(v["error_code"]) != 400 {
					t.Errorf("got %v, want 400 %q", v, x.err)
				}
				return
			}
			if at(v, "result", x.kind) == nil {
				t.Errorf("got %v, want a %s", v, x.kind)
			}
		})
	}
	v = b.multipart("sendDocument", map[string]string{"chat_id": "5"}, part{"document", "big", "application/octet-stream", make([]byte, 50<<20+1)})
	wantEq(t, "51 MB", num(v["error_code"]), int64(413))
	b.fails("sendPhoto", obj{"chat_id": 5}, 400, "there is no photo")
	b.fails("sendPhoto", obj{"chat_id": 5, "photo": id, "caption": strings.Repeat("x", 1025)}, 400, "caption is too long")
	b.ok("sendPhoto", obj{"chat_id": 5, "photo": id, "caption": strings.Repeat("x", 1024)})

	var thumb bytes.Buffer
	if err := jpeg.Encode(&thumb, image.NewGray(image.Rect(0, 0, 321, 10)), nil); err != nil {
		t.Fatal(err)
	}
	v = b.multipart("sendDocument", map[string]string{"chat_id": "5", "thumbnail": "attach://t"},
		part{"document", "a.pdf", "application/pdf", []byte("%PDF-1.4")}, part{"t", "t.jpg", "image/jpeg", thumb.Bytes()})
	wantEq(t, "thumbnail of 321 px", num(v["error_code"]), int64(400))
}

func TestTelegramByURL(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	pic := pngOf(t, 30, 20)
	site := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/a.png":
			w.Write(pic) //nolint:errcheck // a test
		case "/moved":
			http.Redirect(w, r, "/a.png", http.StatusFound)
		case "/page":
			fmt.Fprint(w, "<html><body>no</body></html>")
		case "/big.png":
			w.Write(append(bytes.Clone(pic), make([]byte, 5<<20)...)) //nolint:errcheck // a test
		case "/a.txt":
			fmt.Fprint(w, "plain")
		case "/a.pdf":
			fmt.Fprint(w, "%PDF-1.4")
		default:
			http.NotFound(w, r)
		}
	}))
	send := func(method, field, link string) obj { return b.call(method, obj{"chat_id": 5, field: link}) }
	wantEq(t, "picture", send("sendPhoto", "photo", site+"/a.png")["ok"], true)
	wantEq(t, "redirect", send("sendPhoto", "photo", site+"/moved")["ok"], true)
	wantEq(t, "pdf", send("sendDocument", "document", site+"/a.pdf")["ok"], true)
	wantEq(t, "sum", c.Messages()[1].Files[0].SHA256, sum(pic))
	b.fails("sendPhoto", obj{"chat_id": 5, "photo": site + "/page"}, 400, "wrong type of the web page content")
	b.fails("sendDocument", obj{"chat_id": 5, "document": site + "/a.txt"}, 400, "wrong type of the web page content")
	b.fails("sendPhoto", obj{"chat_id": 5, "photo": site + "/big.png"}, 400, "failed to get HTTP URL content")
	b.fails("sendPhoto", obj{"chat_id": 5, "photo": site + "/none"}, 400, "failed to get HTTP URL content")
	b.fails("sendPhoto", obj{"chat_id": 5, "photo": "ftp://x/y"}, 400, "wrong HTTP URL specified")
	b.fails("sendVideoNote", obj{"chat_id": 5, "video_note": site + "/a.png"}, 400, "wrong file identifier")
}

func TestTelegramAlbum(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	pic := pngOf(t, 30, 20)
	v := b.multipart("sendMediaGroup", map[string]string{"chat_id": "5", "media": `[{"type":"photo","media":"attach://f0","caption":"Фото"},{"type":"photo","media":"attach://f1"}]`},
		part{"f0", "0.png", "image/png", pic}, part{"f1", "1.png", "image/png", pic})
	wantEq(t, "items", len(v["result"].([]any)), 2)
	got := c.Messages()
	if got[0].Group == "" || got[0].Group != got[1].Group || got[0].Text != "Фото" || got[1].Text != "" {
		t.Errorf("album: %+v", got)
	}
	id := str(at(v, "result", 0, "photo", 0, "file_id"))
	item := func(kind, media string) obj { return obj{"type": kind, "media": media} }
	group := func(items ...obj) obj { return obj{"chat_id": 5, "media": items} }
	b.fails("sendMediaGroup", group(item("photo", id)), 400, "2-10")
	b.fails("sendMediaGroup", group(item("photo", id), item("document", id)), 400, "mixed")
	b.fails("sendMediaGroup", group(item("sticker", id), item("sticker", id)), 400, "album")
	b.fails("sendMediaGroup", group(item("photo", id), item("photo", "attach://none")), 400, "no file")
	wantEq(t, "nothing half sent", len(c.Messages()), 2)
}

func TestTelegramPlainKinds(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	b.ok("sendLocation", obj{"chat_id": 5, "latitude": 55.75, "longitude": 37.61})
	b.ok("sendVenue", obj{"chat_id": 5, "latitude": 55.75, "longitude": 37.61, "title": "Кафе", "address": "Тверская, 1"})
	b.ok("sendContact", obj{"chat_id": 5, "phone_number": "+79161234567", "first_name": "Анна"})
	b.fails("sendLocation", obj{"chat_id": 5, "latitude": 95, "longitude": 0}, 400, "coordinates")
	b.fails("sendContact", obj{"chat_id": 5, "phone_number": "1", "first_name": "A", "vcard": strings.Repeat("x", 2049)}, 400, "vcard")
	got := c.Messages()
	wantEq(t, "location", got[0].Location.Lat, 55.75)
	wantEq(t, "venue", got[1].Location.Title, "Кафе")
	wantEq(t, "contact", got[2].Contact.Phone, "+79161234567")
	b.ok("sendChatAction", obj{"chat_id": 5, "action": "typing"})
	wantEq(t, "action", c.Action(), "typing")
	b.fails("sendChatAction", obj{"chat_id": 5, "action": "yawning"}, 400, "wrong parameter action")
	b.ok("sendMessage", obj{"chat_id": 5, "text": "x"})
	wantEq(t, "gone with the message", c.Action(), "")
}

func TestTelegramEditAndDelete(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	c.SendText("моё")
	b.ok("sendMessage", obj{"chat_id": 5, "text": "раз", "reply_markup": obj{"inline_keyboard": [][]obj{{{"text": "k", "callback_data": "d"}}}}})
	edit := func(id int, text string) obj { return obj{"chat_id": 5, "message_id": id, "text": text} }
	r := b.ok("editMessageText", edit(2, "два"))
	if at(r, "edit_date") == nil || at(r, "reply_markup") != nil {
		t.Errorf("edited: %v", r)
	}
	m := c.Messages()[0]
	if m.Text != "два" || len(m.Earlier) != 1 || m.Earlier[0] != "раз" || m.EditedAt == nil {
		t.Errorf("as the customer sees it: %+v", m)
	}
	b.fails("editMessageText", edit(2, "два"), 400, "message is not modified")
	b.fails("editMessageText", edit(1, "x"), 400, "message can't be edited")
	b.fails("editMessageText", edit(9, "x"), 400, "message to edit not found")
	b.fails("editMessageText", edit(2, ""), 400, "message text is empty")
	b.fails("editMessageCaption", obj{"chat_id": 5, "message_id": 2, "caption": "x"}, 400, "no caption")
	b.ok("editMessageReplyMarkup", obj{"chat_id": 5, "message_id": 2, "reply_markup": obj{"inline_keyboard": [][]obj{{{"text": "k", "callback_data": "d"}}}}})
	b.fails("editMessageReplyMarkup", obj{"chat_id": 5, "message_id": 2, "reply_markup": obj{"keyboard": [][]obj{{{"text": "k"}}}}}, 400, "inline keyboard expected")

	v := b.multipart("sendPhoto", map[string]string{"chat_id": "5", "caption": "c"}, part{"photo", "a.png", "image/png", pngOf(t, 3, 3)})
	photo := num(at(v, "result", "message_id"))
	b.ok("editMessageCaption", obj{"chat_id": 5, "message_id": photo, "caption": "c2"})
	next := pngOf(t, 7, 7)
	b.multipart("editMessageMedia", map[string]string{"chat_id": "5", "message_id": fmt.Sprint(photo), "media": `{"type":"photo","media":"attach://n","caption":"c3"}`}, part{"n", "n.png", "image/png", next})
	m = c.Messages()[1]
	wantEq(t, "new picture", m.Files[0].SHA256, sum(next))
	wantEq(t, "new caption", m.Text, "c3")

	del := func(id int64) obj { return obj{"chat_id": 5, "message_id": id} }
	b.ok("deleteMessage", del(2))
	b.fails("deleteMessage", del(2), 400, "message to delete not found")
	b.ok("deleteMessage", del(1)) // a customer's own, in a private chat
	if c.Messages()[0].DeletedAt == nil {
		t.Error("the customer still sees the deleted message")
	}
	if _, err := c.Do("age", simulator.TelegramAction{MessageID: photo, By: simulator.Delay(49 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	b.fails("deleteMessage", del(photo), 400, "message can't be deleted")
	b.ok("deleteMessages", obj{"chat_id": 5, "message_ids": []int{100, 101}})
	b.fails("deleteMessages", obj{"chat_id": 5, "message_ids": []int{}}, 400, "1-100")
}

func TestTelegramCopyAndForward(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	from, to := b.acct.Customer(5), b.acct.Customer(6)
	sent, err := from.SendFile("document", simulator.FileSpec{Name: "a.pdf"})
	if err != nil {
		t.Fatal(err)
	}
	r := b.ok("copyMessage", obj{"chat_id": 6, "from_chat_id": 5, "message_id": 1}).(obj)
	wantEq(t, "only the id", len(r), 1)
	r = b.ok("forwardMessage", obj{"chat_id": 6, "from_chat_id": 5, "message_id": 1}).(obj)
	wantEq(t, "origin", at(r, "forward_origin", "type"), "user")
	got := to.Messages()
	for i, m := range got {
		wantEq(t, "bytes", m.Files[0].SHA256, sent.Files[0].SHA256)
		wantEq(t, "forwarded", m.Forwarded, i == 1)
	}
	b.fails("copyMessage", obj{"chat_id": 6, "from_chat_id": 5, "message_id": 7}, 400, "not found")
	b.ok("sendMessage", obj{"chat_id": 5, "text": "secret", "protect_content": true})
	b.fails("forwardMessage", obj{"chat_id": 6, "from_chat_id": 5, "message_id": 2}, 400, "can't be forwarded")
}

func TestTelegramCallbackQuery(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	b.ok("sendMessage", obj{"chat_id": 5, "text": "Оцените", "reply_markup": obj{"inline_keyboard": [][]obj{{{"text": "5", "callback_data": "csat:5"}}}}})
	if _, err := c.Press("csat:4"); err == nil {
		t.Error("pressed a button that is not there")
	}
	if _, err := c.Press("5"); err != nil {
		t.Fatal(err)
	}
	q := at(b.updates(0)[0], "callback_query")
	wantEq(t, "data", at(q, "data"), "csat:5")
	wantEq(t, "message", at(q, "message", "message_id"), 1)
	b.fails("answerCallbackQuery", obj{"callback_query_id": at(q, "id"), "text": strings.Repeat("x", 201)}, 400, "too_long")
	b.ok("answerCallbackQuery", obj{"callback_query_id": at(q, "id"), "text": "Спасибо"})
	b.fails("answerCallbackQuery", obj{"callback_query_id": at(q, "id")}, 400, "query is too old")
	wantEq(t, "answer seen", c.Answers()[0].Text, "Спасибо")

	// Reply keyboards: a text, and the customer's own contact.
	b.ok("sendMessage", obj{"chat_id": 5, "text": "k", "reply_markup": obj{"keyboard": [][]obj{{{"text": "Меню"}, {"text": "Номер", "request_contact": true}}}}})
	for _, x := range []string{"Меню", "Номер"} {
		if _, err := c.Press(x); err != nil {
			t.Fatal(err)
		}
	}
	u := b.updates(0)
	wantEq(t, "text", at(u[1], "message", "text"), "Меню")
	wantEq(t, "own contact", num(at(u[2], "message", "contact", "user_id")), int64(5))
}

func TestTelegramProfile(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	if _, err := b.acct.NewCustomer(simulator.CustomerSpec{ID: "5", FirstName: "Анна", LastName: "Котова", Avatar: true, Started: true}); err != nil {
		t.Fatal(err)
	}
	b.acct.Customer(6)
	r := b.ok("getChat", obj{"chat_id": 5})
	wantEq(t, "name", at(r, "last_name"), "Котова")
	if at(b.ok("getChat", obj{"chat_id": 6}), "photo") != nil {
		t.Error("a photo of a customer without one")
	}
	for _, id := range []any{at(r, "photo", "small_file_id"), at(b.ok("getUserProfilePhotos", obj{"user_id": 5, "limit": 1}), "photos", 0, 2, "file_id")} {
		f := b.ok("getFile", obj{"file_id": id})
		resp, err := http.Get(b.base + "/telegram/file/bot" + tgToken + "/" + str(at(f, "file_path"))) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		conf, err := jpeg.DecodeConfig(resp.Body)
		resp.Body.Close()
		if err != nil || conf.Width != conf.Height {
			t.Errorf("portrait: %v %v", conf, err)
		}
	}
	wantEq(t, "none", at(b.ok("getUserProfilePhotos", obj{"user_id": 6}), "total_count"), 0)
	b.fails("getUserProfilePhotos", obj{"user_id": 7}, 400, "user not found")

	unique := func() any {
		got := b.ok("getUserProfilePhotos", obj{"user_id": 5})
		wantEq(t, "total", at(got, "total_count"), 1)
		for i, side := range []int{160, 320, 640} {
			wantEq(t, "width", at(got, "photos", 0, i, "width"), side)
			wantEq(t, "height", at(got, "photos", 0, i, "height"), side)
		}
		return at(got, "photos", 0, 1, "file_unique_id")
	}
	first := unique()
	wantEq(t, "asked again", unique(), first)
	wantEq(t, "beyond the last", len(at(b.ok("getUserProfilePhotos", obj{"user_id": 5, "offset": 1}), "photos").([]any)), 0)
	b.acct.Customer(5).Set(simulator.CustomerPatch{Picture: new(uint64(1))})
	if second := unique(); second == first {
		t.Error("another picture has the same unique id")
	}
	b.acct.Customer(5).Set(simulator.CustomerPatch{Avatar: new(false)})
	wantEq(t, "hidden", at(b.ok("getUserProfilePhotos", obj{"user_id": 5}), "total_count"), 0)
}

func TestTelegramRealLimits(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{RealLimits: true})
	b.acct.Set(simulator.AccountOptions{Limits: &simulator.Limits{PerSecond: 5, Burst: 5, ChatBurst: 3}})
	for i := range 10 {
		b.acct.Customer(int64(i + 1))
	}
	throttled := 0
	for range 4 {
		if v := b.call("sendMessage", obj{"chat_id": 1, "text": "x"}); v["ok"] == false {
			throttled++
			wantEq(t, "code", num(v["error_code"]), int64(429))
			wantEq(t, "retry_after", num(at(v, "parameters", "retry_after")), int64(1))
		}
	}
	wantEq(t, "burst of 3 in one chat, then no more", throttled, 1)
	for i := range 10 {
		if b.call("sendMessage", obj{"chat_id": i + 1, "text": "x"})["ok"] == false {
			throttled++
		}
	}
	r := b.acct.Rates()
	if r.Sends > 7 || r.Throttled != int64(throttled) || r.MaxSliding > 7 || r.MaxSlidingCustomer != 3 {
		t.Errorf("rates: %+v", r)
	}
	wantEq(t, "requests", r.Requests, int64(14))

	// What the bot's rate refuses costs the chat nothing.
	b.acct.Set(simulator.AccountOptions{Limits: &simulator.Limits{PerSecond: .0001, Burst: 1, ChatPerSecond: .0001, ChatBurst: 1}})
	b.acct.Customer(1001)
	b.fails("sendMessage", obj{"chat_id": 1001, "text": "x"}, 429, "retry after")
	b.acct.Set(simulator.AccountOptions{Limits: &simulator.Limits{PerSecond: 1e6, Burst: 1 << 30, ChatPerSecond: .0001, ChatBurst: 1}})
	b.ok("sendMessage", obj{"chat_id": 1001, "text": "x"})
	b.acct.Set(simulator.AccountOptions{Limits: &simulator.Limits{PerSecond: 1e6, Burst: 1 << 30, ChatPerSecond: .0001, ChatBurst: 3}})
	c := b.acct.Customer(1000)
	b.ok("sendMessage", obj{"chat_id": 1000, "text": "x"})
	b.ok("editMessageText", obj{"chat_id": 1000, "message_id": 1, "text": "y"})
	b.ok("editMessageText", obj{"chat_id": 1000, "message_id": 1, "text": "z"})
	b.fails("editMessageText", obj{"chat_id": 1000, "message_id": 1, "text": "edits count too"}, 429, "retry after")
	wantEq(t, "text", c.Messages()[0].Text, "z")
}
