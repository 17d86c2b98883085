package main

import (
	"bytes"
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

var _ = utf16.Encode
var _ = utf8.RuneCountInString
