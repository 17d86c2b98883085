package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"switchboard"
	"switchboard/message"
	"switchboard/simulator"
)

// desk is a system with an account of each platform, an operator who is
// connected and an API key.
type desk struct {
	*world
	op         *client
	token, key string
	accounts   map[string]string // ids by platform
	started    int
}

const operatorAvatar = "https://shop.example/ann.jpg"

// newDesk starts one; settings are added to both accounts.
func newDesk(t *testing.T, settings map[string]string) *desk {
	t.Helper()
	w := start(t)
	d := &desk{world: w, accounts: map[string]string{
		"telegram": w.account("telegram", telegramToken, settings),
		"viber":    w.account("viber", viberToken, settings),
	}}
	operator := switchboard.Operator{Login: "ann", Name: "Ann Lee", Role: switchboard.RoleAdmin, Avatar: operatorAvatar}
	if _, err := w.sys.admin.AddOperator(t.Context(), "test", operator, "a password"); err != nil {
		t.Fatal(err)
	}
	var s struct{ Token string }
	w.rest("POST", "/api/v1/sessions", "", map[string]string{"login": "ann", "password": "a password"}, 201, &s)
	_, key, err := w.sys.admin.AddAPIKey(t.Context(), "test", "script")
	if err != nil {
		t.Fatal(err)
	}
	d.token, d.key, d.op = s.Token, key, w.connect(s.Token, nil)
	return d
}

// customer is a person on either platform, with the chat that the operator took.
type customer struct {
	platform string
	id       string
	chat     string
	tg       *simulator.TelegramCustomer
	vb       *simulator.ViberCustomer
}

// messages is what the customer sees of us.
func (c *customer) messages() []simulator.Message {
	if c.tg != nil {
		return c.tg.Messages()
	}
	return c.vb.Messages()
}

// write makes the customer write.
func (c *customer) write(text string) simulator.Sent {
	if c.tg != nil {
		return c.tg.SendText(text)
	}
	return c.vb.SendText(text)
}

func (c *customer) texts() []string {
	var texts []string
	for _, m := range c.messages() {
		texts = append(texts, m.Text)
	}
	return texts
}

// customer makes a customer who has written; the operator has taken the chat.
func (d *desk) customer(platform string, spec simulator.CustomerSpec) *customer {
	d.t.Helper()
	d.started++
	c := &customer{platform: platform}
	var err error
	if platform == "telegram" {
		c.tg, err = d.sim.Telegram(telegramToken).NewCustomer(spec)
	} else {
		c.vb, err = d.sim.Viber(viberToken).NewCustomer(spec)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	if c.tg != nil {
		c.id = c.tg.ID()
	} else {
		c.id = c.vb.ID()
	}
	hello := fmt.Sprintf("hello %d", d.started)
	c.write(hello)
	in := d.op.message("customer's message", func(m *message.Message) bool { return m.Text == hello })
	c.chat = in.ChatID
	d.op.call("chat.accept", map[string]any{"chat_id": c.chat}, nil)
	return c
}

// requests is what the platform received about the customer.
func (d *desk) requests(c *customer, methods ...string) []simulator.Request {
	var all []simulator.Request
	if c.tg != nil {
		all = d.sim.Telegram(telegramToken).Requests("")
	} else {
		all = d.sim.Viber(viberToken).Requests("")
	}
	return slices.DeleteFunc(all, func(r simulator.Request) bool {
		return r.Customer != c.id || len(methods) > 0 && !slices.Contains(methods, r.Method)
	})
}

// post sends over the WebSocket without waiting for the platform.
func (d *desk) post(c *customer, params map[string]any) message.Message {
	d.t.Helper()
	params["chat_id"] = c.chat
	var r struct{ Message message.Message }
	d.op.call("message.send", params, &r)
	return r.Message
}

// reaches waits until the operator hears that the message has the status.
func (d *desk) reaches(id string, status message.Status) message.Message {
	d.t.Helper()
	return d.op.message(string(status)+" of message "+id, func(m *message.Message) bool { return m.ID == id && m.Status == status })
}

// message reads a message as it is stored, with its timeline.
func (d *desk) message(id string) (m message.Message, timeline []switchboard.TimelineEntry) {
	d.t.Helper()
	var r struct {
		Message  message.Message
		Timeline []switchboard.TimelineEntry
	}
	var raw json.RawMessage
	d.rest("GET", "/api/v1/messages/"+id, d.token, nil, 200, &raw)
	if err := json.Unmarshal(raw, &r); err != nil {
		d.t.Fatal(err)
	}
	if r.Message.ID == "" {
		if err := json.Unmarshal(raw, &r.Message); err != nil {
			d.t.Fatal(err)
		}
	}
	return r.Message, r.Timeline
}

// patience is how long a test waits for what takes a second or a few: machines that
// do everything at once are slow, and only a failure waits for its end.
const patience = time.Minute

// polled polls cond until it holds.
func polled(t *testing.T, what string, within time.Duration, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %v", what, within)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// shownCall is a recorded call as one line: the method and what it said, without
// the receiver. Uploaded files stand as "@name type", links as "link:name".
func shownCall(t *testing.T, c *customer, r *simulator.Request) string {
	t.Helper()
	said := map[string]any{}
	if c.tg != nil {
		for k, v := range r.Params {
			var parsed any
			if strings.HasPrefix(v, "{") || strings.HasPrefix(v, "[") {
				if err := json.Unmarshal([]byte(v), &parsed); err != nil {
					t.Fatalf("%s of %s: %v", k, r.Method, err)
				}
				said[k] = parsed
			} else {
				said[k] = v
			}
		}
		delete(said, "chat_id")
		for _, f := range r.Files {
			said[f.Field] = "@" + f.Name + " " + f.MIME
		}
	} else {
		if err := json.Unmarshal(r.Body, &said); err != nil {
			t.Fatal(err)
		}
		delete(said, "receiver")
		if link, ok := said["media"].(string); ok {
			u, err := url.Parse(link)
			if err != nil {
				t.Fatal(err)
			}
			said["media"] = "link:" + path.Base(u.Path)
		}
	}
	line, err := json.Marshal(said)
	if err != nil {
		t.Fatal(err)
	}
	return r.Method + " " + string(line)
}

func sameJSON(t *testing.T, got, want string) bool {
	t.Helper()
	canonical := func(s string) string {
		method, body, _ := strings.Cut(s, " ")
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatalf("%v in %s", err, s)
		}
		b, _ := json.Marshal(v)
		return method + " " + string(b)
	}
	return canonical(got) == canonical(want)
}

// picture is a small picture in a format.
func picture(t *testing.T, format string) []byte {
	t.Helper()
	img := image.NewPaletted(image.Rect(0, 0, 40, 30), color.Palette{color.Black, color.RGBA{200, 30, 30, 255}})
	img.SetColorIndex(3, 3, 1)
	var b bytes.Buffer
	var err error
	switch format {
	case "png":
		err = png.Encode(&b, img)
	case "jpg":
		err = jpeg.Encode(&b, img, nil)
	case "gif":
		err = gif.Encode(&b, img, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// fileBytes are the beginnings of formats, as far as a sniffer looks.
func fileBytes(t *testing.T, name string) []byte {
	t.Helper()
	pad := strings.Repeat("\x00", 400)
	switch path.Ext(name) {
	case ".pdf":
		return []byte("%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n")
	case ".mp3":
		return []byte("\xff\xfb\x90\x64" + pad)
	case ".ogg":
		return []byte("OggS\x00\x02" + strings.Repeat("\x00", 20) + "\x01\x13OpusHead\x01\x01" + pad)
	case ".mp4":
		return []byte("\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42" + pad)
	case ".webp":
		return []byte("RIFF\x24\x00\x00\x00WEBPVP8L\x18\x00\x00\x00\x2f\x00\x00\x00\x10" + pad)
	case ".txt":
		return []byte("plain words\n")
	default:
		return picture(t, strings.TrimPrefix(path.Ext(name), "."))
	}
}

// Every kind reaches the platform with the method and the fields that its
// documents ask for, and the files byte for byte.
func TestOutboundKinds(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	ids := map[string]string{}
	for _, name := range []string{"cat.png", "cat.jpg", "fun.gif", "bill.pdf", "song.mp3", "say.ogg", "clip.mp4", "hi.webp", "note.txt"} {
		ids[name] = d.upload(d.token, name, fileBytes(t, name))
	}
	customers := map[string]*customer{
		"telegram": d.customer("telegram", simulator.CustomerSpec{}),
		"viber":    d.customer("viber", simulator.CustomerSpec{}),
	}
	type object = map[string]any
	rows := func(rows ...[]object) [][]object { return rows }
	const sender = `"sender":{"name":"Ann Lee","avatar":"` + operatorAvatar + `"}`
	v := func(fields string) string {
		if !strings.Contains(fields, "min_api_version") {
			fields = `"min_api_version":1,` + fields
		}
		return `send_message {` + sender + `,` + fields + `}`
	}
	for _, c := range []struct {
		name            string
		params          object
		files           []string
		telegram, viber []string // nil: not sent there
	}{
		{"text", object{"kind": "text", "text": "Price < 5 & \"more\" *now* 😀"}, nil,
			[]string{`sendMessage {"text":"Price < 5 & \"more\" *now* 😀"}`},
			[]string{v(`"type":"text","text":"Price < 5 & \"more\" *now* 😀"`)}},
		{"picture", object{"kind": "image", "text": "look"}, []string{"cat.jpg"},
			[]string{`sendPhoto {"caption":"look","photo":"@cat.jpg image/jpeg"}`},
			[]string{v(`"type":"picture","text":"look","media":"link:cat.jpg"`)}},
		{"picture without caption", object{"kind": "image"}, []string{"cat.png"},
			[]string{`sendPhoto {"photo":"@cat.png image/png"}`},
			[]string{v(`"type":"picture","text":"","media":"link:cat.png"`)}},
		{"moving picture", object{"kind": "image"}, []string{"fun.gif"},
			[]string{`sendAnimation {"animation":"@fun.gif image/gif"}`},
			[]string{v(`"type":"picture","text":"","media":"link:fun.gif"`)}},
		{"document", object{"kind": "document", "text": "your bill"}, []string{"bill.pdf"},
			[]string{`sendDocument {"caption":"your bill","disable_content_type_detection":"true","document":"@bill.pdf application/pdf"}`},
			[]string{v(fmt.Sprintf(`"type":"file","media":"link:bill.pdf","file_name":"bill.pdf","size":%d`, len(fileBytes(t, "bill.pdf")))), v(`"type":"text","text":"your bill"`)}},
		{"picture as document", object{"kind": "document"}, []string{"cat.png"},
			[]string{`sendDocument {"disable_content_type_detection":"true","document":"@cat.png image/png"}`},
			[]string{v(fmt.Sprintf(`"type":"file","media":"link:cat.png","file_name":"cat.png","size":%d`, len(fileBytes(t, "cat.png"))))}},
		{"audio", object{"kind": "audio"}, []string{"song.mp3"},
			[]string{`sendAudio {"audio":"@song.mp3 audio/mpeg"}`},
			[]string{v(fmt.Sprintf(`"type":"file","media":"link:song.mp3","file_name":"song.mp3","size":%d`, len(fileBytes(t, "song.mp3"))))}},
		{"voice", object{"kind": "voice"}, []string{"say.ogg"},
			[]string{`sendVoice {"voice":"@say.ogg audio/ogg"}`},
			[]string{v(fmt.Sprintf(`"type":"file","media":"link:say.ogg","file_name":"say.ogg","size":%d`, len(fileBytes(t, "say.ogg"))))}},
		{"video", object{"kind": "video", "text": "how to"}, []string{"clip.mp4"},
			[]string{`sendVideo {"caption":"how to","supports_streaming":"true","video":"@clip.mp4 video/mp4"}`},
			[]string{v(fmt.Sprintf(`"type":"video","text":"how to","media":"link:clip.mp4","size":%d`, len(fileBytes(t, "clip.mp4"))))}},
		{"sticker", object{"kind": "sticker"}, []string{"hi.webp"},
			[]string{`sendSticker {"sticker":"@hi.webp image/webp"}`},
			[]string{v(fmt.Sprintf(`"type":"file","media":"link:hi.webp","file_name":"hi.webp","size":%d`, len(fileBytes(t, "hi.webp"))))}},
		{"location", object{"kind": "location", "location": object{"lat": 55.75, "lon": 37.61}}, nil,
			[]string{`sendLocation {"latitude":"55.75","longitude":"37.61"}`},
			[]string{v(`"type":"location","location":{"lat":55.75,"lon":37.61}`)}},
		{"venue", object{"kind": "location", "location": object{"lat": -1.5, "lon": 2, "title": "Shop", "address": "Main street 1"}}, nil,
			[]string{`sendVenue {"latitude":"-1.5","longitude":"2","title":"Shop","address":"Main street 1"}`},
			[]string{v(`"type":"location","location":{"lat":-1.5,"lon":2}`), v(`"type":"text","text":"Shop\nMain street 1"`)}},
		{"contact", object{"kind": "contact", "contact": object{"name": "Service desk", "phone": "+37060000000"}}, nil,
			[]string{`sendContact {"first_name":"Service desk","phone_number":"+37060000000"}`},
			[]string{v(`"type":"contact","contact":{"name":"Service desk","phone_number":"+37060000000"}`)}},
		{"album", object{"kind": "image", "text": "both"}, []string{"cat.png", "cat.jpg"},
			[]string{`sendMediaGroup {"media":[{"type":"photo","media":"attach://f0","caption":"both"},{"type":"photo","media":"attach://f1"}],"f0":"@cat.png image/png","f1":"@cat.jpg image/jpeg"}`},
			[]string{v(`"type":"picture","text":"both","media":"link:cat.png"`), v(`"type":"picture","text":"","media":"link:cat.jpg"`)}},
		{"reply keyboard", object{"kind": "text", "text": "choose", "keyboard": object{"kind": "reply", "once": true, "rows": rows([]object{{"text": "Yes & <no>", "payload": "y"}, {"text": "No"}}, []object{{"text": "My phone", "action": "phone"}, {"text": "My place", "action": "location"}})}}, nil,
			[]string{`sendMessage {"text":"choose","reply_markup":{"keyboard":[[{"text":"Yes & <no>"},{"text":"No"}],[{"text":"My phone","request_contact":true},{"text":"My place","request_location":true}]],"resize_keyboard":true,"one_time_keyboard":true}}`},
			[]string{v(`"min_api_version":3,"type":"text","text":"choose","keyboard":{"Type":"keyboard","Buttons":[
				{"Columns":3,"Rows":1,"ActionType":"reply","ActionBody":"sb:y\nYes & <no>","Text":"Yes &amp; &lt;no&gt;","Silent":true},
				{"Columns":3,"Rows":1,"ActionType":"reply","ActionBody":"No","Text":"No"},
				{"Columns":3,"Rows":1,"ActionType":"share-phone","ActionBody":"PHONE","Text":"My phone"},
				{"Columns":3,"Rows":1,"ActionType":"location-picker","ActionBody":"sb-location:","Text":"My place"}]}`)}},
		{"keyboard away", object{"kind": "text", "text": "thanks", "keyboard": object{"kind": "remove"}}, nil,
			[]string{`sendMessage {"text":"thanks","reply_markup":{"remove_keyboard":true}}`},
			[]string{v(`"type":"text","text":"thanks"`)}},
		{"inline buttons", object{"kind": "text", "text": "track", "keyboard": object{"kind": "inline", "rows": rows([]object{{"text": "Open", "action": "url", "url": "https://shop.example/t/17"}}, []object{{"text": "OK", "payload": "ok:17"}})}}, nil,
			[]string{`sendMessage {"text":"track","reply_markup":{"inline_keyboard":[[{"text":"Open","url":"https://shop.example/t/17"}],[{"text":"OK","callback_data":"ok:17"}]]}}`}, nil},
		{"url button below", object{"kind": "text", "text": "track", "keyboard": object{"kind": "reply", "rows": rows([]object{{"text": "Open", "action": "url", "url": "https://shop.example/t/17"}})}}, nil,
			nil, []string{v(`"type":"text","text":"track","keyboard":{"Type":"keyboard","Buttons":[{"Columns":6,"Rows":1,"ActionType":"open-url","ActionBody":"https://shop.example/t/17","Text":"Open","Silent":true}]}`)}},
		{"file with buttons", object{"kind": "image", "text": "this?", "keyboard": object{"kind": "inline", "rows": rows([]object{{"text": "Yes", "payload": "y"}})}}, []string{"cat.jpg"},
			[]string{`sendPhoto {"caption":"this?","photo":"@cat.jpg image/jpeg","reply_markup":{"inline_keyboard":[[{"text":"Yes","callback_data":"y"}]]}}`}, nil},
	} {
		for platform, want := range map[string][]string{"telegram": c.telegram, "viber": c.viber} {
			to := customers[platform]
			params := object{"chat_id": to.chat, "client_id": c.name}
			for k, p := range c.params {
				params[k] = p
			}
			var files []string
			for _, name := range c.files {
				files = append(files, ids[name])
			}
			if files != nil {
				params["files"] = files
			}
			before := len(d.requests(to))
			if want == nil {
				err := d.op.try("message.send", params, nil)
				if err == nil || err.Code != 1003 || err.Data.Code != "unsupported_by_channel" || err.Data.Detail == "" {
					t.Errorf("%s on %s: %v, want 1003", c.name, platform, err)
				}
				continue
			}
			m := d.op.send(params)
			calls := d.requests(to)[before:]
			if m.PlatformMessageID == nil || len(calls) != len(want) || m.Status == message.StatusFailed {
				t.Errorf("%s on %s: %+v after %d calls, want %d", c.name, platform, m, len(calls), len(want))
				continue
			}
			at := 0
			for i := range calls {
				got := shownCall(t, to, &calls[i])
				if a := strings.Index(got, "sb-phone:"); a >= 0 {
					got = got[:a] + "PHONE" + got[a+strings.Index(got[a:], `"`):]
				}
				if calls[i].Code != 0 || !sameJSON(t, got, want[i]) {
					t.Errorf("%s on %s, call %d:\n got %s\nwant %s\nanswer %d %s", c.name, platform, i, got, want[i], calls[i].Code, calls[i].Description)
				}
				at += checkFiles(t, d, to, &calls[i], c.files[min(at, len(c.files)):])
			}
			if at != len(c.files) {
				t.Errorf("%s on %s: %d files arrived, want %d", c.name, platform, at, len(c.files))
			}
			if platform == "telegram" { // the same by REST
				script := object{"account_id": d.accounts[platform], "to": object{"chat_id": to.chat}}
				for k, p := range c.params {
					script[k] = p
				}
				if files != nil {
					script["files"] = files
				}
				before := len(d.requests(to))
				var r struct{ ID, Status string }
				d.rest("POST", "/api/v1/messages", d.key, script, 202, &r)
				d.reaches(r.ID, message.StatusSent)
				for i, call := range d.requests(to)[before:] {
					if got := shownCall(t, to, &call); call.Code != 0 || !sameJSON(t, got, want[i]) || r.Status != "queued" {
						t.Errorf("%s by REST: %s, call %d:\n got %s\nwant %s", c.name, r.Status, i, got, want[i])
					}
				}
			}
			for _, seen := range to.messages() {
				if len(seen.Warnings) > 0 {
					t.Errorf("%s on %s: %v", c.name, platform, seen.Warnings)
				}
			}
		}
	}
}

// checkFiles compares what a call carries with the files, and returns how many
// it carries. A link must work for anybody, under the right type, and end in
// the name.
func checkFiles(t *testing.T, d *desk, c *customer, r *simulator.Request, names []string) int {
	t.Helper()
	if c.tg != nil {
		for i, f := range r.Files {
			if want := fileBytes(t, names[i]); f.Size != int64(len(want)) {
				t.Errorf("%s: %d bytes arrived, want %d", names[i], f.Size, len(want))
			}
		}
		return len(r.Files)
	}
	var body struct{ Media string }
	if err := json.Unmarshal(r.Body, &body); err != nil {
		t.Fatal(err)
	}
	if body.Media == "" {
		return 0
	}
	res, err := http.Get(body.Media)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if want := fileBytes(t, names[0]); err != nil || res.StatusCode != 200 || !bytes.Equal(got, want) || res.ContentLength != int64(len(want)) {
		t.Errorf("%s: %d, %d of %d bytes, %v", body.Media, res.StatusCode, len(got), len(want), err)
	}
	if u, err := url.Parse(body.Media); err != nil || path.Base(u.Path) != names[0] {
		t.Errorf("link %s does not end in %s", body.Media, names[0])
	}
	return 1
}

// A reply, a later change and a deletion are the platform's own where it has
// them, and refused with the reason where it has not.
func TestOutboundChanges(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	tg, vb := d.customer("telegram", simulator.CustomerSpec{}), d.customer("viber", simulator.CustomerSpec{})
	picture := d.upload(d.token, "cat.jpg", fileBytes(t, "cat.jpg"))
	type object = map[string]any
	inline := object{"kind": "inline", "rows": [][]object{{{"text": "Yes", "payload": "y"}}}}
	send := func(c *customer, params object) message.Message {
		params["chat_id"] = c.chat
		return d.op.send(params)
	}
	changed := func(m message.Message, calls int) message.Message {
		t.Helper()
		var got message.Message
		polled(t, "change at the platform", patience, func() bool {
			got, _ = d.message(m.ID)
			return len(d.requests(tg)) >= calls || got.Error != nil
		})
		if got.Error != nil {
			t.Errorf("change of %s: %+v", m.Kind, got.Error)
		}
		return got
	}
	refused := func(what string, code int, method string, params object) {
		t.Helper()
		if err := d.op.try(method, params, nil); err == nil || err.Code != code || err.Data.Detail == "" {
			t.Errorf("%s: %v, want %d with a reason", what, err, code)
		}
	}

	var history struct{ Items []message.Message }
	d.rest("GET", "/api/v1/chats/"+tg.chat+"/messages", d.token, nil, 200, &history)
	asked := history.Items[0]
	send(tg, object{"kind": "text", "text": "an answer", "reply_to": asked.ID})
	if got, want := tg.messages()[0].ReplyTo, *asked.PlatformMessageID; got != want {
		t.Errorf("reply to %q, want %q", got, want)
	}
	refused("reply to nothing", 1001, "message.send", object{"chat_id": tg.chat, "kind": "text", "text": "x", "reply_to": "0198f000-0000-7000-8000-000000000000"})
	refused("reply on viber", 1003, "message.send", object{"chat_id": vb.chat, "kind": "text", "text": "x", "reply_to": asked.ID})

	long := strings.Repeat("word ", 1200)
	for _, c := range []struct {
		name   string
		send   object
		text   string
		want   []string // calls of the change
		delete string
	}{
		{"text", object{"kind": "text", "text": "one"}, "two", []string{`editMessageText {"message_id":"ID","text":"two"}`}, "deleteMessage"},
		{"text with buttons", object{"kind": "text", "text": "one", "keyboard": inline}, "two",
			[]string{`editMessageText {"message_id":"ID","text":"two","reply_markup":{"inline_keyboard":[[{"text":"Yes","callback_data":"y"}]]}}`}, "deleteMessage"},
		{"caption", object{"kind": "image", "text": "one", "files": []string{picture}}, "two", []string{`editMessageCaption {"message_id":"ID","caption":"two"}`}, "deleteMessage"},
		{"long text that shrinks", object{"kind": "text", "text": long}, "two", []string{`editMessageText {"message_id":"ID","text":"two"}`, `deleteMessage {"message_id":"ID+1"}`}, "deleteMessages"},
	} {
		m := send(tg, c.send)
		before := len(d.requests(tg))
		var r struct{ Message message.Message }
		d.op.call("message.edit", object{"message_id": m.ID, "text": c.text}, &r)
		if r.Message.Text != c.text || r.Message.EditedAt == nil {
			t.Errorf("%s: the answer is %+v", c.name, r.Message)
		}
		if got := changed(m, before+len(c.want)); got.Text != c.text || got.EditedAt == nil || got.Status != message.StatusSent {
			t.Errorf("%s: the message is now %+v", c.name, got)
		}
		for i, call := range d.requests(tg)[before:] {
			got := strings.ReplaceAll(shownCall(t, tg, &call), `"`+*m.PlatformMessageID+`"`, `"ID"`)
			if i == 1 {
				got = c.want[1] // the id of the second part is the platform's
				if call.Method != "deleteMessage" || call.Params["message_id"] == *m.PlatformMessageID {
					t.Errorf("%s: %s %v", c.name, call.Method, call.Params)
				}
			}
			if call.Code != 0 || !sameJSON(t, got, c.want[i]) {
				t.Errorf("%s:\n got %s (%s)\nwant %s", c.name, got, call.Description, c.want[i])
			}
		}
		before = len(d.requests(tg))
		d.op.call("message.delete", object{"message_id": m.ID}, &r)
		if r.Message.DeletedAt == nil {
			t.Errorf("%s: deleted: %+v", c.name, r.Message)
		}
		changed(m, before+1)
		if call := d.requests(tg)[before]; call.Code != 0 || call.Method != c.delete {
			t.Errorf("%s: deleted by %s: %s", c.name, call.Method, call.Description)
		}
		for _, seen := range tg.messages() {
			if seen.ID == *m.PlatformMessageID && seen.DeletedAt == nil {
				t.Errorf("%s: the customer still sees %+v", c.name, seen)
			}
		}
		refused(c.name+": deleted twice", 1005, "message.delete", object{"message_id": m.ID})
		refused(c.name+": edited when deleted", 1005, "message.edit", object{"message_id": m.ID, "text": "three"})
	}

	short := send(tg, object{"kind": "text", "text": "short"})
	caption := send(tg, object{"kind": "image", "text": "caption", "files": []string{picture}})
	keys := send(tg, object{"kind": "text", "text": "keys", "keyboard": object{"kind": "reply", "rows": [][]object{{{"text": "A"}}}}})
	place := send(tg, object{"kind": "location", "location": object{"lat": 1, "lon": 2}})
	sent := send(vb, object{"kind": "text", "text": "sent"})
	before := len(d.requests(tg))
	refused("text grown over its messages", 1004, "message.edit", object{"message_id": short.ID, "text": long})
	refused("caption over its limit", 1004, "message.edit", object{"message_id": caption.ID, "text": strings.Repeat("x", 1025)})
	refused("emptied text", -32602, "message.edit", object{"message_id": short.ID, "text": ""})
	refused("message with a reply keyboard", 1003, "message.edit", object{"message_id": keys.ID, "text": "x"})
	refused("a place", 1003, "message.edit", object{"message_id": place.ID, "text": "x"})
	refused("the customer's message", 1003, "message.edit", object{"message_id": asked.ID, "text": "x"})
	refused("edit on viber", 1003, "message.edit", object{"message_id": sent.ID, "text": "x"})
	refused("delete on viber", 1003, "message.delete", object{"message_id": sent.ID})
	refused("unknown message", 1001, "message.delete", object{"message_id": "0198f000-0000-7000-8000-000000000000"})
	if got := len(d.requests(tg)); got != before {
		t.Errorf("%d calls for what was refused", got-before)
	}

	// An album's caption is that of its first picture, and all of it goes.
	album := send(tg, object{"kind": "image", "text": "two", "files": []string{picture, picture}})
	before = len(d.requests(tg))
	d.op.call("message.edit", object{"message_id": album.ID, "text": "both"}, nil)
	changed(album, before+1)
	d.op.call("message.delete", object{"message_id": album.ID}, nil)
	changed(album, before+2)
	if calls := d.requests(tg)[before:]; calls[0].Method != "editMessageCaption" || calls[0].Params["message_id"] != *album.PlatformMessageID || calls[1].Method != "deleteMessages" || strings.Count(calls[1].Params["message_ids"], ",") != 1 {
		t.Errorf("album: %+v", calls)
	}

	// What has not left yet leaves changed, or not at all.
	for _, c := range []*customer{tg, vb} {
		d.fault(simulator.Fault{Kind: simulator.FaultThrottle, Customer: c.id, RetryAfter: 2, Count: 1})
		d.post(c, object{"kind": "text", "text": "first"})
		second, third := d.post(c, object{"kind": "text", "text": "second"}), d.post(c, object{"kind": "text", "text": "third"})
		want := []string{"first", "changed second"}
		if c.vb != nil {
			want = []string{"first", "second"}
			refused("edit of what waits on viber", 1003, "message.edit", object{"message_id": second.ID, "text": "changed second"})
		} else {
			d.op.call("message.edit", object{"message_id": second.ID, "text": "changed second"}, nil)
		}
		var r struct{ Message message.Message }
		d.op.call("message.delete", object{"message_id": third.ID}, &r)
		if r.Message.Status != message.StatusCanceled {
			t.Errorf("%s: deleted before it left: %+v", c.platform, r.Message)
		}
		send(c, object{"kind": "text", "text": "fourth"})
		want = append(want, "fourth")
		if got := c.texts(); !slices.Equal(got[len(got)-3:], want) {
			t.Errorf("%s: the customer got %q, want %q", c.platform, got[len(got)-3:], want)
		}
		if calls := d.requests(c, "editMessageText"); len(calls) > 0 && calls[len(calls)-1].Params["text"] == "changed second" {
			t.Error("a message was edited that had not left")
		}
	}

	// What the platform refuses later is put back, with the reason.
	if _, err := d.sim.Fault(simulator.Fault{Kind: simulator.FaultError, Method: "editMessageText", Customer: tg.id, Count: 1, Status: 400, Description: "Bad Request: message can't be edited"}); err != nil {
		t.Fatal(err)
	}
	d.op.call("message.edit", object{"message_id": short.ID, "text": "changed"}, nil)
	back := d.op.message("edit put back", func(m *message.Message) bool { return m.ID == short.ID && m.Error != nil })
	if back.Text != "short" || back.EditedAt != nil || !strings.Contains(back.Error.Detail, "can't be edited") || back.Status != message.StatusSent {
		t.Errorf("after a refused edit: %+v", back)
	}
}

// A forwarded message reaches the other chat, on the same account as the
// platform's own forward, from elsewhere as a copy.
func TestOutboundForward(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	from, to, vb := d.customer("telegram", simulator.CustomerSpec{FirstName: "Boris"}), d.customer("telegram", simulator.CustomerSpec{}), d.customer("viber", simulator.CustomerSpec{})
	from.tg.SendPhoto("my receipt")
	photo := d.op.message("picture", func(m *message.Message) bool {
		return m.Text == "my receipt" && len(m.Files) == 1 && m.Files[0].State == message.FileReady
	})
	from.write("please forward")
	words := d.op.message("text", func(m *message.Message) bool { return m.Text == "please forward" })
	vb.write("from viber")
	other := d.op.message("text", func(m *message.Message) bool { return m.Text == "from viber" })

	forward := func(m message.Message, c *customer) message.Message {
		t.Helper()
		params := map[string]any{"message_id": m.ID, "chat_id": c.chat, "client_id": "fwd " + m.ID}
		var first, again struct{ Message message.Message }
		d.op.call("message.forward", params, &first)
		d.op.call("message.forward", params, &again)
		if first.Message.ID != again.Message.ID || first.Message.ChatID != c.chat {
			t.Errorf("forwarded twice: %+v and %+v", first.Message, again.Message)
		}
		if len(first.Message.Forwarded) != 1 || first.Message.Forwarded[0].From != m.Sender.Name {
			t.Errorf("forwarded: %+v, want from %q", first.Message.Forwarded, m.Sender.Name)
		}
		return d.op.message("forwarded message", func(x *message.Message) bool {
			return x.ID == first.Message.ID && x.Status.Rank() >= message.StatusSent.Rank()
		})
	}
	for _, m := range []message.Message{words, photo} {
		out := forward(m, to)
		calls := d.requests(to)
		if call := calls[len(calls)-1]; call.Method != "forwardMessage" || call.Params["from_chat_id"] != from.id || call.Params["message_id"] != *m.PlatformMessageID || call.Code != 0 {
			t.Errorf("on telegram: %s %v %s", call.Method, call.Params, call.Description)
		}
		if seen := to.messages(); !seen[len(seen)-1].Forwarded || seen[len(seen)-1].ID != *out.PlatformMessageID {
			t.Errorf("the customer sees %+v", seen)
		}
	}
	if err := d.op.try("message.forward", map[string]any{"message_id": photo.ID, "chat_id": vb.chat}, nil); err == nil || err.Code != 1003 || len(vb.messages()) != 0 {
		t.Errorf("to Viber, which has no forwards: %v", err)
	}
	forward(other, to)
	if seen := to.messages(); len(seen) != 3 || seen[2].Text != "from viber" || seen[2].Forwarded {
		t.Errorf("copy on telegram: %+v", seen)
	}
	// What the platform won't forward goes as a copy.
	if _, err := d.sim.Fault(simulator.Fault{Kind: simulator.FaultError, Method: "forwardMessage", Status: 400, Description: "Bad Request: the message can't be forwarded"}); err != nil {
		t.Fatal(err)
	}
	from.write("protected")
	forward(d.op.message("text", func(m *message.Message) bool { return m.Text == "protected" }), to)
	if seen := to.messages(); len(seen) != 4 || seen[3].Text != "protected" || seen[3].Forwarded {
		t.Errorf("copy of what can't be forwarded: %+v", seen)
	}
}

func units(platform, text string) int {
	if platform == "telegram" {
		return len(utf16.Encode([]rune(text)))
	}
	return utf8.RuneCountInString(text)
}

// Long texts arrive whole, in order and in pieces that the platform takes, cut
// where a reader would cut them; the message is one, with one status.
func TestOutboundSplit(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	numbered := func(n int, sep string) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, "word%05d%s", i, sep)
		}
		return strings.TrimSpace(b.String())
	}
	const family = "👩\u200d👩\u200d👧\u200d👦" // 11 UTF-16 units, 7 characters
	customers := map[string]*customer{
		"telegram": d.customer("telegram", simulator.CustomerSpec{}),
		"viber":    d.customer("viber", simulator.CustomerSpec{}),
	}
	limits := map[string]int{"telegram": 4096, "viber": 7000}
	for _, c := range []struct {
		name, text string
		parts      map[string]int // how many at least, and at most one more
		whole      string         // what no cut may fall into
	}{
		{"at telegram's own limit", strings.Repeat("x", 4000), map[string]int{"telegram": 1, "viber": 1}, ""},
		{"over telegram's", strings.Repeat("x", 4097), map[string]int{"telegram": 2, "viber": 1}, ""},
		{"at viber's", strings.Repeat("y", 7000), map[string]int{"telegram": 2, "viber": 1}, ""},
		{"over viber's", strings.Repeat("y", 7001), map[string]int{"telegram": 2, "viber": 2}, ""},
		{"words", numbered(20000, " "), map[string]int{"telegram": 5, "viber": 3}, "word"},
		{"lines", numbered(12000, "\n"), map[string]int{"telegram": 3, "viber": 2}, "word"},
		{"joined emoji", strings.Repeat(family, 900), map[string]int{"telegram": 3, "viber": 2}, family},
		{"emoji", strings.Repeat("😀", 4100), map[string]int{"telegram": 3, "viber": 2}, "😀"},
		{"letters with marks", strings.Repeat("е\u0301", 4000), map[string]int{"telegram": 2, "viber": 2}, "е\u0301"},
	} {
		for platform, want := range c.parts {
			to := customers[platform]
			before := len(to.messages())
			m := d.op.send(map[string]any{"chat_id": to.chat, "kind": "text", "text": c.text})
			pieces := to.texts()[before:]
			if len(pieces) < want || len(pieces) > want+1 {
				t.Errorf("%s on %s: %d pieces, want %d", c.name, platform, len(pieces), want)
			}
			squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
			if squeeze(strings.Join(pieces, "")) != squeeze(c.text) {
				t.Errorf("%s on %s: the pieces are not the text", c.name, platform)
			}
			for i, p := range pieces {
				if n := units(platform, p); n == 0 || n > limits[platform] {
					t.Errorf("%s on %s: piece %d has %d units", c.name, platform, i, n)
				}
				switch {
				case c.whole == "":
				case c.whole == "word":
					for _, word := range strings.Fields(p) {
						if len(word) != len("word00000") {
							t.Errorf("%s on %s: broken word %q", c.name, platform, word)
						}
					}
				case strings.ReplaceAll(p, c.whole, "") != "":
					t.Errorf("%s on %s: piece %d breaks a character", c.name, platform, i)
				}
			}
			if got, _ := d.message(m.ID); got.Text != c.text || got.PlatformMessageID == nil || *got.PlatformMessageID != to.messages()[before].ID {
				t.Errorf("%s on %s: the message is %q with id %v", c.name, platform, got.Text[:20], got.PlatformMessageID)
			}
		}
	}
	// A caption that doesn't fit follows its picture.
	picture := d.upload(d.token, "cat.jpg", fileBytes(t, "cat.jpg"))
	for platform, limit := range map[string]int{"telegram": 1024, "viber": 512} {
		to := customers[platform]
		for extra, want := range []int{1, 2} {
			before := len(to.messages())
			text := strings.Repeat("c", limit+extra)
			d.op.send(map[string]any{"chat_id": to.chat, "kind": "image", "text": text, "files": []string{picture}})
			if got := to.texts()[before:]; len(got) != want || got[want-1] != text {
				t.Errorf("caption of %d on %s: %d messages", limit+extra, platform, len(got))
			}
		}
	}
	// What the customer read of the first piece says nothing about the whole.
	vb := customers["viber"]
	if _, err := d.sim.Fault(simulator.Fault{Kind: simulator.FaultThrottle, Method: "send_message", Customer: vb.id, After: 1, Count: 1, RetryAfter: 1}); err != nil {
		t.Fatal(err)
	}
	m := d.post(vb, map[string]any{"kind": "text", "text": numbered(9000, " ")})
	d.reaches(m.ID, message.StatusRead)
	_, timeline := d.message(m.ID)
	last := vb.messages()[len(vb.messages())-1]
	for _, e := range timeline {
		if (e.What == "delivered" || e.What == "read") && e.At.Before(last.At.Add(-time.Second/2)) {
			t.Errorf("%s at %v, but the second piece went at %v", e.What, e.At, last.At)
		}
	}

	// The last piece decides: a message whose second half was refused has failed.
	for platform, to := range customers {
		if _, err := d.sim.Fault(simulator.Fault{Kind: simulator.FaultBlocked, Customer: to.id, After: 1}); err != nil {
			t.Fatal(err)
		}
		m := d.post(to, map[string]any{"kind": "text", "text": numbered(9000, " ")})
		failed := d.reaches(m.ID, message.StatusFailed)
		if failed.Error == nil || failed.Error.Kind != message.ErrRecipient || failed.Error.Detail == "" {
			t.Errorf("half sent on %s: %+v", platform, failed.Error)
		}
	}
}

// What goes over a limit or beyond a channel is refused at once, by both ways in,
// with the limit in the answer, and nothing of it is queued.
func TestOutboundLimits(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	customers := map[string]*customer{
		"telegram": d.customer("telegram", simulator.CustomerSpec{}),
		"viber":    d.customer("viber", simulator.CustomerSpec{}),
	}
	type object = map[string]any
	picture := d.upload(d.token, "cat.jpg", fileBytes(t, "cat.jpg"))
	huge := d.upload(d.token, "huge.bin", make([]byte, 50<<20+1))
	keyboard := func(kind string, rows, columns int, b object) object {
		list := make([][]object, rows)
		for i := range list {
			for range columns {
				list[i] = append(list[i], b)
			}
		}
		return object{"kind": "text", "text": "x", "keyboard": object{"kind": kind, "rows": list}}
	}
	button := object{"text": "b", "payload": "b"}
	for _, c := range []struct {
		name      string
		platforms string
		params    object
		code      int
		detail    string
	}{
		{"text over ten messages", "telegram", object{"kind": "text", "text": strings.Repeat("x", 40001)}, 1004, "4000"},
		{"file", "telegram viber", object{"kind": "document", "files": []string{huge}}, 1004, "52428801"},
		{"files", "telegram viber", object{"kind": "image", "files": slices.Repeat([]string{picture}, 11)}, 1004, "10"},
		{"contact's name", "viber", object{"kind": "contact", "contact": object{"name": strings.Repeat("n", 29), "phone": "+37060000000"}}, 1004, "28"},
		{"contact's phone", "viber", object{"kind": "contact", "contact": object{"name": "n", "phone": "+" + strings.Repeat("1", 18)}}, 1004, "18"},
		{"button's payload", "telegram", keyboard("inline", 1, 1, object{"text": "b", "payload": strings.Repeat("ж", 33)}), 1004, "64"},
		{"button's payload", "viber", keyboard("reply", 1, 1, object{"text": "b", "payload": strings.Repeat("p", 241)}), 1004, "240"},
		{"button's text", "viber", keyboard("reply", 1, 1, object{"text": strings.Repeat("p", 241)}), 1004, "240"},
		{"button's url without its action", "telegram viber", keyboard("reply", 1, 1, object{"text": "b", "url": "https://example.org"}), -32602, "action \"url\""},
		{"buttons in a row", "telegram", keyboard("inline", 1, 9, button), 1004, "8"},
		{"buttons in a row", "viber", keyboard("reply", 1, 7, button), 1004, "6"},
		{"buttons", "telegram", keyboard("inline", 13, 8, button), 1004, "100"},
		{"rows", "viber", keyboard("reply", 25, 1, button), 1004, "24"},
		{"size of the keyboard", "viber", keyboard("reply", 24, 6, object{"text": strings.Repeat("ж", 200), "payload": strings.Repeat("ж", 200)}), 1004, "30000"},
		{"inline buttons", "viber", keyboard("inline", 1, 1, button), 1003, "inline"},
		{"phone inline", "telegram", keyboard("inline", 1, 1, object{"text": "b", "action": "phone"}), 1003, "phone"},
		{"link below", "telegram", keyboard("reply", 1, 1, object{"text": "b", "action": "url", "url": "https://shop.example"}), 1003, "inline"},
		{"template", "telegram viber", object{"kind": "template", "template": object{"name": "t", "language": "en"}}, 1003, "template"},
		{"empty text", "telegram viber", object{"kind": "text", "text": ""}, -32602, "empty"},
		{"no files", "telegram viber", object{"kind": "image"}, -32602, "files"},
		{"no phone", "telegram viber", object{"kind": "contact", "contact": object{"name": "n", "phone": ""}}, -32602, "phone"},
		{"off the map", "telegram viber", object{"kind": "location", "location": object{"lat": 91, "lon": 0}}, -32602, "90"},
		{"empty keyboard", "telegram viber", object{"kind": "text", "text": "x", "keyboard": object{"kind": "reply", "rows": []any{}}}, -32602, "rows"},
		{"button without text", "telegram viber", keyboard("reply", 1, 1, object{"text": ""}), -32602, "text"},
	} {
		for _, platform := range strings.Fields(c.platforms) {
			params := object{"chat_id": customers[platform].chat}
			script := object{"account_id": d.accounts[platform], "to": object{"chat_id": customers[platform].chat}}
			for k, v := range c.params {
				params[k], script[k] = v, v
			}
			err := d.op.try("message.send", params, nil)
			if err == nil || err.Code != c.code || !strings.Contains(err.Data.Detail, c.detail) {
				t.Errorf("%s on %s: %v, want %d with %q", c.name, platform, err, c.code, c.detail)
			}
			var p struct{ Code, Detail string }
			d.rest("POST", "/api/v1/messages", d.key, script, 422, &p)
			if want := map[int]string{1003: "unsupported_by_channel", 1004: "limit_exceeded", -32602: "invalid"}[c.code]; p.Code != want || !strings.Contains(p.Detail, c.detail) {
				t.Errorf("%s on %s by REST: %+v, want %s with %q", c.name, platform, p, want, c.detail)
			}
		}
	}
	for platform, to := range customers {
		for _, kind := range []string{"button", "service", "unsupported", "forward"} {
			if err := d.op.try("message.send", object{"chat_id": to.chat, "kind": kind, "text": "x"}, nil); err == nil || err.Code != 1003 {
				t.Errorf("kind %s on %s: %v", kind, platform, err)
			}
		}
		if err := d.op.try("message.send", object{"chat_id": to.chat, "kind": "poll", "text": "x"}, nil); err == nil || err.Code != -32602 {
			t.Errorf("kind poll on %s: %v", platform, err)
		}
		m := d.op.send(object{"chat_id": to.chat, "kind": "text", "text": "the only one"})
		if got := to.texts(); m.Seq != 2 || !slices.Equal(got, []string{"the only one"}) {
			t.Errorf("%s: number %d, the customer got %q", platform, m.Seq, got)
		}
		// Viber's tokens are above 2^53: as text they survive JavaScript.
		var raw json.RawMessage
		d.rest("GET", "/api/v1/chats/"+to.chat+"/messages?limit=1", d.token, nil, 200, &raw)
		if want := `"platform_message_id":"` + to.messages()[0].ID + `"`; !strings.Contains(string(raw), want) || *m.PlatformMessageID != to.messages()[0].ID {
			t.Errorf("%s: no %s in %s; event has %s", platform, want, raw, *m.PlatformMessageID)
		}
	}
}

func (d *desk) fault(f simulator.Fault) string {
	d.t.Helper()
	id, err := d.sim.Fault(f)
	if err != nil {
		d.t.Fatal(err)
	}
	return id
}

// Messages of a chat keep their order, come once however often they are asked
// for, and survive what platforms and networks do.
func TestOutboundDelivery(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	tg, vb := d.customer("telegram", simulator.CustomerSpec{}), d.customer("viber", simulator.CustomerSpec{})
	text := func(s string) map[string]any { return map[string]any{"kind": "text", "text": s, "client_id": s} }

	// 200 at once.
	var want []string
	last := map[string]message.Message{}
	for i := range 100 {
		want = append(want, fmt.Sprintf("quick %d", i))
		last["telegram"], last["viber"] = d.post(tg, text(want[i])), d.post(vb, text(want[i]))
	}
	for platform, c := range map[string]*customer{"telegram": tg, "viber": vb} {
		id := last[platform].ID
		d.op.message("last of many", func(m *message.Message) bool { return m.ID == id && m.Status.Rank() >= message.StatusSent.Rank() })
		if got := c.texts(); !slices.Equal(got, want) {
			t.Errorf("%s got %q", platform, got)
		}
		// Asked for again, with other words even: the first one is the answer.
		again := text("quick 99")
		again["text"] = "other words"
		if m := d.post(c, again); m.ID != id || m.Text != "quick 99" {
			t.Errorf("%s: the same client_id gave %+v", platform, m)
		}
	}

	type entry struct {
		Outcome string
		Note    string
		RetryMS int64 `json:"retry_ms"`
	}
	attempts := func(id string) (list []entry) {
		_, timeline := d.message(id)
		for _, e := range timeline {
			if e.What == "attempt" {
				var a entry
				if err := json.Unmarshal(e.Detail, &a); err != nil {
					t.Fatal(err)
				}
				list = append(list, a)
			}
		}
		return list
	}
	for _, c := range []struct {
		name     string
		fault    simulator.Fault
		outcomes []string
		copies   int
		atLeast  time.Duration // from the first call to the last
	}{
		{"throttled", simulator.Fault{Kind: simulator.FaultThrottle, RetryAfter: 2, Count: 1}, []string{"throttled", "sent"}, 1, 2 * time.Second},
		{"server error", simulator.Fault{Kind: simulator.FaultError, Status: 500, Count: 1}, []string{"uncertain", "sent"}, 1, 0},
		{"proxy's page", simulator.Fault{Kind: simulator.FaultHTML, Count: 1}, []string{"uncertain", "sent"}, 1, 0},
		{"cut before", simulator.Fault{Kind: simulator.FaultCut, Count: 1}, []string{"uncertain", "sent"}, 1, 0},
		{"cut after", simulator.Fault{Kind: simulator.FaultCutAfter, Count: 1}, []string{"uncertain", "sent"}, 2, 0},
	} {
		sent := map[*customer]message.Message{}
		for platform, to := range map[string]*customer{"telegram": tg, "viber": vb} {
			f := c.fault
			f.Customer = to.id
			d.fault(f)
			sent[to] = d.post(to, text(platform+" "+c.name))
			d.post(to, text("behind "+platform+" "+c.name))
		}
		for to, m := range sent {
			d.op.message(c.name+" sent", func(x *message.Message) bool {
				return x.ID == m.ID && x.Status.Rank() >= message.StatusSent.Rank() && x.Error == nil
			})
			d.op.message("message behind", func(x *message.Message) bool {
				return x.Text == "behind "+m.Text && x.Status.Rank() >= message.StatusSent.Rank()
			})
			texts := to.texts()
			expected := append(slices.Repeat([]string{m.Text}, c.copies), "behind "+m.Text)
			if got := texts[len(texts)-min(len(texts), len(expected)):]; !slices.Equal(got, expected) {
				t.Errorf("%s: the customer got %q", c.name, got)
			}
			var outcomes []string
			list := attempts(m.ID)
			for _, a := range list {
				outcomes = append(outcomes, a.Outcome)
			}
			if !slices.Equal(outcomes, c.outcomes) || c.outcomes[0] == "uncertain" && list[0].Note == "" {
				t.Errorf("%s: timeline %+v, want %v", c.name, list, c.outcomes)
			}
			var about []simulator.Request
			for _, r := range d.requests(to) {
				if strings.Contains(string(r.Body)+r.Params["text"], m.Text) {
					about = append(about, r)
				}
			}
			if took := about[len(c.outcomes)-1].At.Sub(about[0].At); took < c.atLeast {
				t.Errorf("%s: sent again after %v", c.name, took)
			}
		}
	}

}

// A message ends as the platform says, a chat goes on after what failed, and an
// account that can't send holds what it has.
func TestOutboundEnds(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	tg, vb := d.customer("telegram", simulator.CustomerSpec{}), d.customer("viber", simulator.CustomerSpec{})

	// A customer out of reach: the message fails with the reason, the chat goes on.
	for _, c := range []struct {
		platform string
		fault    simulator.Fault
		code     string
		kind     message.ErrorKind
	}{
		{"telegram", simulator.Fault{Kind: simulator.FaultBlocked}, "403", message.ErrRecipient},
		{"telegram", simulator.Fault{Kind: simulator.FaultError, Status: 400, Description: "Bad Request: chat not found"}, "400", message.ErrRecipient},
		{"telegram", simulator.Fault{Kind: simulator.FaultError, Status: 400, Description: "Bad Request: something is wrong"}, "400", message.ErrInvalid},
		{"viber", simulator.Fault{Kind: simulator.FaultBlocked}, "6", message.ErrRecipient},
		{"viber", simulator.Fault{Kind: simulator.FaultError, Status: 200, Code: 3, Description: "badData"}, "3", message.ErrInvalid},
	} {
		to := map[string]*customer{"telegram": tg, "viber": vb}[c.platform]
		c.fault.Customer, c.fault.Count = to.id, 1
		d.fault(c.fault)
		m := d.post(to, map[string]any{"kind": "text", "text": "lost"})
		next := d.post(to, map[string]any{"kind": "text", "text": "not lost"})
		failed := d.reaches(m.ID, message.StatusFailed)
		if failed.Error == nil || failed.Error.Kind != c.kind || failed.Error.Code != c.code || failed.Error.Detail == "" {
			t.Errorf("%s %s: %+v", c.platform, c.fault.Description, failed.Error)
		}
		d.op.message("next message", func(x *message.Message) bool { return x.ID == next.ID && x.Status.Rank() >= message.StatusSent.Rank() })
		if _, timeline := d.message(m.ID); timeline[len(timeline)-1].What != "failed" || timeline[len(timeline)-2].What != "attempt" {
			t.Errorf("timeline of a failed message: %+v", timeline)
		}
	}

	// Viber's verdicts.
	for receipts, end := range map[string]message.Status{"none": message.StatusSent, "delivered": message.StatusDelivered, "seen": message.StatusRead, "failed": message.StatusFailed} {
		c := d.customer("viber", simulator.CustomerSpec{Receipts: receipts})
		m := d.post(c, map[string]any{"kind": "text", "text": "how far"})
		got := d.reaches(m.ID, end)
		if (end == message.StatusFailed) != (got.Error != nil) || got.Error != nil && got.Error.Detail == "" {
			t.Errorf("receipts %s: %+v", receipts, got.Error)
		}
		// A report that came between the answer and our note of it is put in
		// within 6 s.
		want := map[string]string{"none": "queued sent", "delivered": "delivered queued sent", "seen": "delivered queued read sent", "failed": "failed queued sent"}[receipts]
		polled(t, "timeline "+want+" with receipts "+receipts, patience, func() bool {
			stored, timeline := d.message(m.ID)
			var steps []string
			for i, e := range timeline {
				if i > 0 && e.At.Before(timeline[i-1].At) {
					t.Errorf("receipts %s: the timeline goes back at %d: %+v", receipts, i, timeline)
				}
				if e.What != "attempt" {
					steps = append(steps, e.What)
				}
			}
			slices.Sort(steps) // a receipt may have come before the answer
			return strings.Join(steps, " ") == want && stored.Status == end
		})
	}

	// Receipts of a send whose answer was lost wait for nobody; those of its
	// second try, which may come before that one's answer, count.
	early := d.customer("viber", simulator.CustomerSpec{})
	seen := len(d.sim.Viber(viberToken).Callbacks("seen"))
	d.fault(simulator.Fault{Kind: simulator.FaultCutAfter, Customer: early.id, Count: 1})
	m := d.post(early, map[string]any{"kind": "text", "text": "early"})
	polled(t, "receipts", patience, func() bool { return len(d.sim.Viber(viberToken).Callbacks("seen")) >= seen+2 })
	d.reaches(m.ID, message.StatusRead)

	// A customer who has had too much without answering: the chat waits, for
	// their answer or the next hour, and no other chat does.
	d.fault(simulator.Fault{Kind: simulator.FaultThrottle, Customer: vb.id, Code: 12, Count: 1})
	held := d.post(vb, map[string]any{"kind": "text", "text": "held for an answer"})
	polled(t, "refused attempt", patience, func() bool {
		// Not any attempt: a process that was stalled notes one, too, and makes no call.
		_, timeline := d.message(held.ID)
		return slices.ContainsFunc(timeline, func(e switchboard.TimelineEntry) bool { return bytes.Contains(e.Detail, []byte("throttled")) })
	})
	d.op.send(map[string]any{"chat_id": early.chat, "kind": "text", "text": "to somebody else"})
	if got, _ := d.message(held.ID); got.Status.Rank() >= message.StatusSent.Rank() {
		t.Errorf("held for an answer, but %s", got.Status)
	}
	vb.write("an answer")
	d.op.message("the answer", func(x *message.Message) bool { return x.Text == "an answer" })
	t.Cleanup(func() {
		if t.Failed() {
			var state string
			err := d.sys.db.Pool().QueryRow(context.Background(), `select coalesce((select jsonb_agg(o)::text from outbox o where o.chat_id = $1), '') || now() ||
				coalesce((select jsonb_agg(c)::text from outbox_chats c where c.chat_id = $1), '') ||
				coalesce((select jsonb_agg(j)::text from (select state, attempt, attempted_at, scheduled_at, errors from river_job where kind = 'deliver' and args->>'chat_id' = $1::text) j), '')`, vb.chat).Scan(&state)
			t.Logf("the chat's outbox and jobs: %s %v", state, err)
		}
	})
	d.op.message("message that waited for an answer", func(x *message.Message) bool { return x.ID == held.ID && x.Status.Rank() >= message.StatusSent.Rank() })

	// The token is revoked: nothing fails, the account says why it waits, and
	// once it is mended everything goes out in order.
	revoked := func(is bool) {
		d.sim.Telegram(telegramToken).Set(simulator.AccountOptions{Revoked: &is})
		d.sim.Viber(viberToken).Set(simulator.AccountOptions{Revoked: &is})
	}
	revoked(true)
	var waiting []message.Message
	for _, to := range []*customer{tg, vb} {
		waiting = append(waiting, d.post(to, map[string]any{"kind": "text", "text": "held 1"}), d.post(to, map[string]any{"kind": "text", "text": "held 2"}))
	}
	for platform, id := range d.accounts {
		polled(t, "pause of the "+platform+" account", patience, func() bool {
			var a switchboard.Account
			d.rest("GET", "/api/v1/accounts/"+id, d.token, nil, 200, &a)
			return a.State == switchboard.AccountPaused && a.Reason != ""
		})
	}
	for _, m := range waiting {
		if got, _ := d.message(m.ID); got.Status.Rank() >= message.StatusSent.Rank() {
			t.Errorf("%s: held message is %s", m.Platform, got.Status)
		}
	}
	revoked(false)
	for _, id := range d.accounts {
		d.rest("POST", "/api/v1/accounts/"+id+"/resume", d.token, nil, 204, nil)
	}
	for _, to := range []*customer{tg, vb} {
		polled(t, "held messages on "+to.platform, patience, func() bool { return slices.Contains(to.texts(), "held 2") })
		if got := to.texts(); !slices.Equal(got[len(got)-2:], []string{"held 1", "held 2"}) {
			t.Errorf("%s: after the repair the customer got %q", to.platform, got[len(got)-2:])
		}
	}
}

// An account that sends at most once gives up what it can't know, and a message
// that waits longer than its time-to-live expires; the chats go on.
func TestOutboundGivesUp(t *testing.T) {
	t.Parallel()
	d := newDesk(t, map[string]string{"guarantee": "at_most_once", "ttl": "2s"})
	for _, platform := range []string{"telegram", "viber"} {
		c := d.customer(platform, simulator.CustomerSpec{})
		d.fault(simulator.Fault{Kind: simulator.FaultCutAfter, Customer: c.id, Count: 1})
		m := d.post(c, map[string]any{"kind": "text", "text": "once"})
		d.op.send(map[string]any{"chat_id": c.chat, "kind": "text", "text": "next"})
		if got, _ := d.message(m.ID); got.Status != message.StatusFailed || got.Error == nil || got.Error.Kind != message.ErrUncertain {
			t.Errorf("%s: unknown outcome: %s %+v", platform, got.Status, got.Error)
		}
		if got := c.texts(); !slices.Equal(got, []string{"once", "next"}) {
			t.Errorf("%s: the customer got %q", platform, got)
		}

		away := d.fault(simulator.Fault{Kind: simulator.FaultThrottle, Customer: c.id, RetryAfter: 1})
		late := d.post(c, map[string]any{"kind": "text", "text": "late"})
		var script struct{ ID string }
		d.rest("POST", "/api/v1/messages", d.key, map[string]any{"account_id": d.accounts[platform], "to": map[string]string{"chat_id": c.chat}, "text": "late too", "ttl": "1s"}, 202, &script)
		for _, id := range []string{late.ID, script.ID} {
			got := d.reaches(id, message.StatusExpired)
			if got.Error == nil || got.Error.Detail == "" {
				t.Errorf("%s: expired without a reason: %+v", platform, got)
			}
		}
		d.sim.ClearFaults(away)
		d.op.send(map[string]any{"chat_id": c.chat, "kind": "text", "text": "back"})
		if got := c.texts(); !slices.Equal(got, []string{"once", "next", "back"}) {
			t.Errorf("%s: the customer got %q", platform, got)
		}
	}
}

// Without a setting, an account keeps to what the platform publishes: a Telegram
// bot to 30 messages a second and a chat to one a second after a burst.
func TestOutboundRate(t *testing.T) {
	t.Parallel()
	d := newDesk(t, map[string]string{"rate": "", "chat_rate": ""})
	bot, on := d.sim.Telegram(telegramToken), true
	bot.Set(simulator.AccountOptions{RealLimits: &on})
	send := func(external, text string) {
		d.rest("POST", "/api/v1/messages", d.key, map[string]any{"account_id": d.accounts["telegram"], "to": map[string]string{"external_id": external}, "text": text}, 202, nil)
	}
	var all []*simulator.TelegramCustomer
	for range 60 {
		c, err := bot.NewCustomer(simulator.CustomerSpec{Started: true})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	for i := range 5 {
		send(all[0].ID(), fmt.Sprint(i+1))
	}
	for _, c := range all[1:] {
		send(c.ID(), "1")
	}
	for i, c := range all {
		want := 1
		if i == 0 {
			want = 5
		}
		if got := c.WaitMessages(want, patience); len(got) != want {
			t.Fatalf("customer %d got %d messages", i, len(got))
		}
	}
	if r := bot.Rates(); r.Throttled != 0 || r.MaxSliding > 33 || r.MaxSlidingCustomer > 3 {
		t.Errorf("rates: %d throttled, %d in a second, %d to one chat", r.Throttled, r.MaxSliding, r.MaxSlidingCustomer)
	}
}

// A chat is begun by us where the platform lets us, and a script's message is
// sent once however often it is handed in.
func TestOutboundStart(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	known, err := d.sim.Telegram(telegramToken).NewCustomer(simulator.CustomerSpec{Started: true})
	if err != nil {
		t.Fatal(err)
	}
	subscribed, err := d.sim.Viber(viberToken).NewCustomer(simulator.CustomerSpec{Started: true})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := d.sim.Viber(viberToken).NewCustomer(simulator.CustomerSpec{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		platform, external string
		reachable          bool
	}{
		{"telegram", known.ID(), true},
		{"telegram", "99887766", false},
		{"viber", subscribed.ID(), true},
		{"viber", stranger.ID(), false},
	} {
		var first, again struct{ Chat switchboard.Chat }
		params := map[string]any{"account_id": d.accounts[c.platform], "external_id": c.external}
		d.op.call("chat.start", params, &first)
		d.op.call("chat.start", params, &again)
		if first.Chat.ID != again.Chat.ID || first.Chat.State != switchboard.ChatOpen {
			t.Errorf("%s: started %+v and %+v", c.platform, first.Chat, again.Chat)
		}
		m := d.post(&customer{chat: first.Chat.ID}, map[string]any{"kind": "text", "text": "good morning"})
		if c.reachable {
			d.op.message("first word", func(x *message.Message) bool {
				return x.ID == m.ID && x.Status.Rank() >= message.StatusSent.Rank() && x.Error == nil
			})
			continue
		}
		if failed := d.reaches(m.ID, message.StatusFailed); failed.Error == nil || failed.Error.Kind != message.ErrRecipient {
			t.Errorf("%s: to a stranger: %+v", c.platform, failed.Error)
		}
	}
	for _, c := range []struct {
		name   string
		params map[string]any
		code   int
	}{
		{"no telegram id", map[string]any{"account_id": d.accounts["telegram"], "external_id": "@durov"}, -32602},
		{"unknown phone", map[string]any{"account_id": d.accounts["telegram"], "phone": "+37060000001"}, 1001},
		{"no phone", map[string]any{"account_id": d.accounts["viber"], "phone": "12"}, -32602},
		{"nobody", map[string]any{"account_id": d.accounts["viber"]}, -32602},
		{"two ways", map[string]any{"account_id": d.accounts["viber"], "external_id": "x", "phone": "+37060000001"}, -32602},
		{"no account", map[string]any{"account_id": "0198f000-0000-7000-8000-000000000000", "external_id": "1"}, 1001},
	} {
		if err := d.op.try("chat.start", c.params, nil); err == nil || err.Code != c.code || err.Data.Detail == "" {
			t.Errorf("%s: %v, want %d", c.name, err, c.code)
		}
	}

	// A script's message.
	post := func(key string, body map[string]any, want int) (answer struct{ ID, Code, Detail string }) {
		t.Helper()
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", d.http+"/api/v1/messages", bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+d.key)
		req.Header.Set("Content-Type", "application/json")
		if key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != want {
			t.Fatalf("%v: %d %+v %v, want %d", body, res.StatusCode, answer, err, want)
		}
		return answer
	}
	body := map[string]any{"account_id": d.accounts["telegram"], "to": map[string]string{"external_id": known.ID()}, "text": "from a script"}
	first, again := post("k1", body, 202), post("k1", body, 202)
	if first.ID == "" || first.ID != again.ID {
		t.Errorf("one key gave %+v and %+v", first, again)
	}
	var group sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		group.Go(func() {
			b, _ := json.Marshal(map[string]any{"account_id": d.accounts["viber"], "to": map[string]string{"external_id": subscribed.ID()}, "text": "at once"})
			req, err := http.NewRequestWithContext(t.Context(), "POST", d.http+"/api/v1/messages", bytes.NewReader(b))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+d.key)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Idempotency-Key", "at once")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			var answer struct{ ID string }
			if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
				t.Error(err)
			}
			ids[i] = answer.ID
		})
	}
	group.Wait()
	if slices.Sort(ids); ids[0] == "" || ids[0] != ids[7] {
		t.Errorf("one key at once gave %v", ids)
	}
	changed := map[string]any{"account_id": body["account_id"], "to": body["to"], "text": "something else"}
	if p := post("k1", changed, 409); p.Code != "conflict" {
		t.Errorf("the key with another body: %+v", p)
	}
	second := post("k2", body, 202)
	if second.ID == first.ID {
		t.Error("two keys gave one message")
	}
	polled(t, "script's messages", patience, func() bool { m, _ := d.message(second.ID); return m.Status == message.StatusSent })
	var got []string
	for _, m := range known.Messages() {
		got = append(got, m.Text)
	}
	if !slices.Equal(got, []string{"good morning", "from a script", "from a script"}) {
		t.Errorf("the customer got %q", got)
	}
	m, timeline := d.message(first.ID)
	if m.Sender.Kind != message.SenderAPI || len(timeline) != 3 || timeline[0].What != "queued" || timeline[1].What != "attempt" || timeline[2].What != "sent" {
		t.Errorf("the script's message: %+v, %+v", m.Sender, timeline)
	}
	for name, to := range map[string]map[string]string{
		"invalid":           {"external_id": "@durov"},
		"unknown_recipient": {"phone": "+37060000001"},
	} {
		if p := post("", map[string]any{"account_id": d.accounts["telegram"], "to": to, "text": "x"}, 422); p.Code != name || p.Detail == "" {
			t.Errorf("to %v: %+v", to, p)
		}
	}
	if p := post("", map[string]any{"account_id": d.accounts["telegram"], "to": map[string]string{}, "text": "x"}, 422); p.Code != "invalid" {
		t.Errorf("to nobody: %+v", p)
	}
	d.rest("POST", "/api/v1/messages", "", body, 401, nil)
}
