package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"switchboard"
	"switchboard/message"
	"switchboard/simulator"
)

const vkToken = "vk1.a.123456789.token-of-the-simulator"

// vkDesk is a system with a VK account, an operator who is connected, and the community.
type vkDesk struct {
	*inbound
	account   string
	community *simulator.VKAccount
	hellos    int
}

func newVKDesk(t *testing.T, more map[string]string) *vkDesk {
	t.Helper()
	w := start(t)
	community := w.sim.VK(vkToken)
	settings := map[string]string{"group_id": fmt.Sprint(community.GroupID())}
	if more["mode"] == "callback" {
		settings["confirmation"], settings["secret"] = community.Confirmation(), "aSecretOfTheTest"
	}
	for k, v := range more {
		settings[k] = v
	}
	d := &vkDesk{account: w.account("vk", vkToken, settings), community: community}
	d.inbound = lookOn(w)
	if more["mode"] != "callback" {
		// What is written before the first cursor is stored belongs to the time before the account.
		polled(t, "first long poll", patience, func() bool { return len(community.Requests("groups.getLongPollServer")) > 0 })
	}
	return d
}

// customer is one who has written; the operator has taken the chat.
func (d *vkDesk) customer(t *testing.T, spec simulator.CustomerSpec) (u *simulator.VKCustomer, chat string) {
	t.Helper()
	u, err := d.community.NewCustomer(spec)
	if err != nil {
		t.Fatal(err)
	}
	d.hellos++
	hello := fmt.Sprintf("hello %d", d.hellos)
	if s := u.SendText(hello); s.Dropped {
		t.Fatal("the community wants no messages")
	}
	m := d.op.message(hello, func(m *message.Message) bool { return m.Text == hello })
	d.op.call("chat.accept", map[string]any{"chat_id": m.ChatID}, nil)
	return u, m.ChatID
}

// sends is what the community sent to the customer.
func (d *vkDesk) sends(u *simulator.VKCustomer, method string) []simulator.Request {
	return slices.DeleteFunc(d.community.Requests(method), func(r simulator.Request) bool { return r.Customer != u.ID() })
}

// seen waits for the message in the chat that the customer has just sent, with its files fetched.
func (d *vkDesk) seen(chat string, s simulator.Sent) message.Message {
	d.t.Helper()
	return d.op.message("message "+s.MessageID, func(m *message.Message) bool {
		return m.ChatID == chat && m.PlatformMessageID != nil && strings.TrimPrefix(*m.PlatformMessageID, "event:") == s.MessageID &&
			!slices.ContainsFunc(m.Files, func(f message.File) bool { return f.State == message.FilePending })
	})
}

// Everything that customers of VK can do reaches the operator, by long poll and by
// callbacks, with the files byte for byte.
func TestVKInbound(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"poll", "callback"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			d := newVKDesk(t, map[string]string{"mode": mode})
			u, chat := d.customer(t, simulator.CustomerSpec{FirstName: "Анна", LastName: "Котова", Username: "akotova", Avatar: true})
			for _, row := range []struct {
				action string
				args   simulator.VKAction
				want   string // kind, text and what else there is
				files  int
			}{
				{"text", simulator.VKAction{Text: "Где заказ? 👩‍👩‍👧‍👦 😀"}, `text "Где заказ? 👩‍👩‍👧‍👦 😀"`, 0},
				{"start", simulator.VKAction{Ref: "promo"}, `button "" {"command":"start"}/Начать payload promo`, 0},
				{"photo", simulator.VKAction{Text: "вот"}, `image "вот"`, 1},
				{"album", simulator.VKAction{Text: "обе"}, `image "обе"`, 2},
				{"document", simulator.VKAction{File: simulator.FileSpec{Name: "договор.pdf"}}, `document ""`, 1},
				{"gif", simulator.VKAction{}, `image ""`, 1},
				{"voice", simulator.VKAction{}, `voice ""`, 1},
				{"video", simulator.VKAction{Text: "клип"}, `video "клип"`, 1},
				{"audio", simulator.VKAction{}, `audio ""`, 1},
				{"sticker", simulator.VKAction{}, `sticker ""`, 1},
				{"graffiti", simulator.VKAction{}, `image ""`, 1},
				{"location", simulator.VKAction{Lat: 55.75, Lon: 37.61, Title: "Москва"}, `location "" 55.75,37.61 Москва`, 0},
				{"link", simulator.VKAction{}, `text "Example https://example.org"`, 0},
				{"wall", simulator.VKAction{}, `unsupported "[wall] пост https://vk.ru/wall-123456789_55" wall`, 0},
				{"unknown", simulator.VKAction{}, `unsupported "[hologram]" hologram`, 0},
				{"forward", simulator.VKAction{Text: "смотрите", From: 555}, `text "смотрите" forwarded id555: пересланный текст`, 0},
				{"forward", simulator.VKAction{File: simulator.FileSpec{Format: "jpeg"}}, `image "" forwarded id555: пересланный текст`, 1},
				{"forward", simulator.VKAction{}, `forward "" forwarded id555: пересланный текст`, 0},
			} {
				s, err := u.Do(row.action, row.args)
				if err != nil || s.Dropped {
					t.Fatalf("%s: %+v %v", row.action, s, err)
				}
				m := d.seen(chat, s)
				got := fmt.Sprintf(`%s "%s"`, m.Kind, m.Text)
				if m.Button != nil {
					got += " " + m.Button.Payload + "/" + m.Button.Text
				}
				if m.Location != nil {
					got += fmt.Sprintf(" %v,%v %s", m.Location.Lat, m.Location.Lon, m.Location.Title)
				}
				if m.Unsupported != "" {
					got += " " + m.Unsupported
				}
				for _, f := range m.Forwarded {
					got += " forwarded " + f.From + ": " + f.Text
				}
				if m.Payload != "" {
					got += " payload " + m.Payload
				}
				if got != row.want || len(m.Files) != row.files {
					t.Errorf("%s: the operator sees %s with %d files, want %s with %d", row.action, got, len(m.Files), row.want, row.files)
				}
				for i, f := range m.Files {
					if f.State != message.FileReady {
						t.Errorf("%s: file %d is %s", row.action, i, f.State)
						continue
					}
					b, _ := d.download(t, f.ID)
					if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != s.Files[i].SHA256 {
						t.Errorf("%s: file %d differs from what was sent", row.action, i)
					}
				}
			}
			// A video without bytes, as most are, comes as its picture and a link.
			s, err := u.Do("video", simulator.VKAction{NoFile: true})
			if err != nil {
				t.Fatal(err)
			}
			if m := d.seen(chat, s); m.Kind != message.KindVideo || !strings.Contains(m.Text, "https://vk.ru/video") || len(m.Files) != 1 || m.Files[0].Kind != message.KindImage || m.Files[0].State != message.FileReady {
				t.Errorf("a video without bytes: %s", asJSON(m))
			}
			d.profile(t, chat)
			d.events(t, u, chat)
			if mode == "poll" {
				s, err := u.Do("photo", simulator.VKAction{Text: "обрезано", Cropped: true})
				if err != nil {
					t.Fatal(err)
				}
				if m := d.seen(chat, s); m.Kind != message.KindImage || len(m.Files) != 1 || m.Service != "" {
					t.Errorf("a cropped message: %s", asJSON(m))
				}
			}
		})
	}
}

// profile: the name and the picture come from the platform, since events have none.
func (d *vkDesk) profile(t *testing.T, chat string) {
	t.Helper()
	polled(t, "name and avatar of the customer", patience, func() bool {
		var c switchboard.Chat
		d.rest("GET", "/api/v1/chats/"+chat, d.token, nil, 200, &c)
		return c.Customer != nil && c.Customer.Name == "Анна Котова" && strings.HasPrefix(c.Customer.Avatar, "/files/")
	})
}

// events are those that make or change no message of the customer.
func (d *vkDesk) events(t *testing.T, u *simulator.VKCustomer, chat string) {
	t.Helper()
	do := func(action string, a simulator.VKAction) simulator.Sent {
		t.Helper()
		s, err := u.Do(action, a)
		if err != nil || s.Dropped {
			t.Fatalf("%s: %+v %v", action, s, err)
		}
		return s
	}
	ours := d.op.send(map[string]any{"chat_id": chat, "client_id": "ours", "kind": "text", "text": "наше"})
	number := int64(0)
	if _, err := fmt.Sscan(*ours.PlatformMessageID, &number); err != nil {
		t.Fatal(err)
	}
	if m := d.seen(chat, do("text", simulator.VKAction{Text: "ответ", ReplyTo: number})); m.ReplyTo == nil || *m.ReplyTo != ours.ID {
		t.Errorf("a reply: %s", asJSON(m))
	}
	d.op.message("read receipt", func(m *message.Message) bool { return m.ID == ours.ID && m.Status == message.StatusRead })
	s := do("text", simulator.VKAction{Text: "опечятка"})
	d.seen(chat, s)
	do("edit", simulator.VKAction{Text: "опечатка"})
	d.op.message("edited text", func(m *message.Message) bool { return m.Text == "опечатка" && m.EditedAt != nil })
	do("typing", simulator.VKAction{})
	d.op.until("typing", func() bool {
		return slices.ContainsFunc(d.op.events, func(e event) bool { return e.Type == "customer.typing" && e.ChatID == chat })
	})
	do("reaction", simulator.VKAction{ID: number, Reaction: 2})
	d.op.message("reaction", func(m *message.Message) bool { return m.ChatID == chat && m.Service == "reaction" && m.Payload == "2" })
	do("answered_in_app", simulator.VKAction{Text: "из приложения"})
	d.op.message("answer in the app", func(m *message.Message) bool {
		return m.Service == "answered_in_app" && m.Text == "из приложения"
	})
	do("unknown_event", simulator.VKAction{})
	d.op.message("unknown event", func(m *message.Message) bool { return m.Unsupported == "message_hologram" })
	for _, row := range []struct {
		action    string
		reachable bool
	}{{"deny", false}, {"allow", true}, {"blacklist", false}, {"unblacklist", true}} {
		do(row.action, simulator.VKAction{})
		polled(t, row.action, patience, func() bool {
			var c switchboard.Chat
			d.rest("GET", "/api/v1/chats/"+chat, d.token, nil, 200, &c)
			return c.Customer != nil && c.Customer.Reachable == row.reachable
		})
	}
}

// Every kind that an operator sends reaches the platform with the methods and the
// fields that its documents ask for, and the files byte for byte.
func TestVKOutbound(t *testing.T) {
	t.Parallel()
	d := newVKDesk(t, nil)
	u, chat := d.customer(t, simulator.CustomerSpec{})
	ids, bodies := map[string]string{}, map[string][]byte{}
	for _, name := range []string{"cat.png", "cat.jpg", "fun.gif", "bill.pdf", "say.ogg", "clip.mp4", "hi.webp", "note.txt"} {
		bodies[name] = fileBytes(t, name)
		ids[name] = d.upload(d.token, name, bodies[name])
	}
	type object = map[string]any
	rows := func(rows ...[]object) [][]object { return rows }
	const group = "-123456789_"
	for _, row := range []struct {
		name   string
		params object
		want   object   // of messages.send; "#" in attachment stands for an id with its key
		files  []string // as the platform got them
	}{
		{"text", object{"kind": "text", "text": "Уже едет 😀"}, object{"message": "Уже едет 😀"}, nil},
		{"photo", object{"kind": "image", "text": "кот", "files": []string{ids["cat.jpg"]}}, object{"message": "кот", "attachment": "photo" + group + "#"}, []string{"cat.jpg"}},
		{"png", object{"kind": "image", "files": []string{ids["cat.png"]}}, object{"attachment": "photo" + group + "#"}, []string{"cat.png"}},
		{"gif", object{"kind": "image", "files": []string{ids["fun.gif"]}}, object{"attachment": "doc" + group + "#"}, []string{"fun.gif"}},
		{"album", object{"kind": "image", "text": "два", "files": []string{ids["cat.jpg"], ids["cat.png"]}}, object{"message": "два", "attachment": "photo" + group + "#,photo" + group + "#"}, []string{"cat.jpg", "cat.png"}},
		{"video", object{"kind": "video", "text": "клип", "files": []string{ids["clip.mp4"]}}, object{"message": "клип", "attachment": "doc" + group + "#"}, []string{"clip.mp4"}},
		{"document", object{"kind": "document", "files": []string{ids["bill.pdf"]}}, object{"attachment": "doc" + group + "#"}, []string{"bill.pdf"}},
		{"voice", object{"kind": "voice", "files": []string{ids["say.ogg"]}}, object{"attachment": "audio_message" + group + "#"}, []string{"say.ogg"}},
		{"sticker", object{"kind": "sticker", "files": []string{ids["cat.png"]}}, object{"attachment": "graffiti" + group + "#"}, []string{"cat.png"}},
		{"sticker webp", object{"kind": "sticker", "files": []string{ids["hi.webp"]}}, object{"attachment": "doc" + group + "#"}, []string{"hi.webp"}},
		{"location", object{"kind": "location", "location": object{"lat": 55.75, "lon": 37.61, "title": "Склад"}}, object{"message": "Склад", "lat": "55.75", "long": "37.61"}, nil},
		{"reply keyboard", object{"kind": "text", "text": "Да?", "keyboard": object{"kind": "reply", "rows": rows([]object{{"text": "Да", "payload": "y"}, {"text": "Нет"}})}},
			object{"message": "Да?", "keyboard": `{"one_time":false,"inline":false,"buttons":[[{"action":{"type":"text","label":"Да","payload":"{\"sb\":\"y\"}"}},{"action":{"type":"text","label":"Нет"}}]]}`}, nil},
		{"remove keyboard", object{"kind": "text", "text": "Спасибо", "keyboard": object{"kind": "remove"}}, object{"message": "Спасибо", "keyboard": `{"one_time":true,"inline":false,"buttons":[]}`}, nil},
		{"inline keyboard", object{"kind": "text", "text": "Оцените", "keyboard": object{"kind": "inline", "rows": rows([]object{{"text": "Хорошо", "payload": "5"}})}},
			object{"message": "Оцените", "keyboard": `{"one_time":false,"inline":true,"buttons":[[{"action":{"type":"callback","label":"Хорошо","payload":"{\"sb\":\"5\",\"t\":\"Хорошо\"}"}}]]}`}, nil},
	} {
		before, uploads := len(d.sends(u, "messages.send")), len(d.sends(u, "upload"))
		params := object{"chat_id": chat, "client_id": row.name}
		for k, v := range row.params {
			params[k] = v
		}
		sent := d.op.send(params)
		calls := d.sends(u, "messages.send")
		if len(calls) != before+1 || calls[before].Code != 0 {
			t.Fatalf("%s: %d calls: %+v", row.name, len(calls)-before, calls[before:])
		}
		got := object{}
		for k, v := range calls[before].Params {
			got[k] = v
		}
		if got["v"] != "5.199" || got["peer_ids"] != u.ID() || got["random_id"] == "" {
			t.Errorf("%s: %v", row.name, got)
		}
		delete(got, "v")
		delete(got, "peer_ids")
		delete(got, "random_id")
		if list, ok := got["attachment"].(string); ok {
			names := strings.Split(list, ",")
			for i := range names {
				kind, _, _ := strings.Cut(names[i], group)
				names[i] = kind + group + "#"
			}
			got["attachment"] = strings.Join(names, ",")
		}
		if asJSON(got) != asJSON(row.want) {
			t.Errorf("%s: the platform got %s, want %s", row.name, asJSON(got), asJSON(row.want))
		}
		files := d.sends(u, "upload")[uploads:]
		if len(files) != len(row.files) {
			t.Fatalf("%s: %d uploads", row.name, len(files))
		}
		for i, name := range row.files {
			sum := sha256.Sum256(bodies[name])
			if f := files[i].Files[0]; f.SHA256 != hex.EncodeToString(sum[:]) || f.Name != name {
				t.Errorf("%s: %+v was uploaded", row.name, f)
			}
		}
		list := u.Messages()
		if last := list[len(list)-1]; sent.PlatformMessageID == nil || *sent.PlatformMessageID != last.ID {
			t.Errorf("%s: platform_message_id is %v, the customer's is %s", row.name, sent.PlatformMessageID, last.ID)
		}
	}
	// Both keyboards come back as presses, the inline one answered.
	press, err := u.Press("Хорошо")
	if err != nil {
		t.Fatal(err)
	}
	if m := d.seen(chat, press); m.Kind != message.KindButton || m.Button.Payload != "5" || m.Button.Text != "Хорошо" || m.ReplyTo == nil {
		t.Errorf("a press: %s", asJSON(m))
	}
	polled(t, "answer to the press", patience, func() bool { return d.community.Answered(press.MessageID) })
}

// What VK or the table denies is refused at once, with nothing sent.
func TestVKRefusals(t *testing.T) {
	t.Parallel()
	d := newVKDesk(t, nil)
	u, chat := d.customer(t, simulator.CustomerSpec{})
	mp3, exe := d.upload(d.token, "song.mp3", fileBytes(t, "song.mp3")), d.upload(d.token, "run.exe", append([]byte("MZ"), bytes.Repeat([]byte{0}, 100)...))
	type object = map[string]any
	button := func(n int) (rows [][]object) {
		for i := range n {
			rows = append(rows, []object{{"text": fmt.Sprint(i), "payload": "p"}})
		}
		return rows
	}
	for _, row := range []struct {
		name   string
		params object
		code   int
	}{
		{"audio", object{"kind": "audio", "files": []string{mp3}}, 1003},
		{"mp3 as a document", object{"kind": "document", "files": []string{mp3}}, 1003},
		{"mp3 as voice", object{"kind": "voice", "files": []string{mp3}}, 1003},
		{"program", object{"kind": "document", "files": []string{exe}}, 1003},
		{"contact", object{"kind": "contact", "contact": object{"name": "A", "phone": "+79161112233"}}, 1003},
		{"template", object{"kind": "template"}, 1003},
		{"phone button", object{"kind": "text", "text": "x", "keyboard": object{"kind": "reply", "rows": [][]object{{{"text": "phone", "action": "phone"}}}}}, 1003},
		{"11 rows", object{"kind": "text", "text": "x", "keyboard": object{"kind": "reply", "rows": button(11)}}, 1004},
		{"7 inline rows", object{"kind": "text", "text": "x", "keyboard": object{"kind": "inline", "rows": button(7)}}, 1004},
		{"41 characters", object{"kind": "text", "text": "x", "keyboard": object{"kind": "inline", "rows": [][]object{{{"text": strings.Repeat("я", 41), "payload": "p"}}}}}, 1004},
		{"text over ten messages", object{"kind": "text", "text": strings.Repeat("я", 40001)}, 1004},
	} {
		params := object{"chat_id": chat, "client_id": row.name}
		for k, v := range row.params {
			params[k] = v
		}
		if err := d.op.try("message.send", params, nil); err == nil || err.Code != row.code {
			t.Errorf("%s: %v, want %d", row.name, err, row.code)
		}
	}
	if list := u.Messages(); len(list) != 0 {
		t.Errorf("the customer got %d messages", len(list))
	}
	// The longest text there is, in one message; one more is a second message.
	for n, want := range map[int]int{3999: 1, 4000: 1, 4001: 2} {
		before := len(u.Messages())
		d.op.send(object{"chat_id": chat, "client_id": fmt.Sprint(n), "kind": "text", "text": strings.Repeat("я", n)})
		if got := len(u.Messages()) - before; got != want {
			t.Errorf("%d characters are %d messages, want %d", n, got, want)
		}
	}
}

// Editing, deleting, forwarding, replying, and writing first.
func TestVKManages(t *testing.T) {
	t.Parallel()
	d := newVKDesk(t, nil)
	u, chat := d.customer(t, simulator.CustomerSpec{})
	other, otherChat := d.customer(t, simulator.CustomerSpec{})
	photo := d.upload(d.token, "cat.jpg", fileBytes(t, "cat.jpg"))
	text := d.op.send(map[string]any{"chat_id": chat, "client_id": "a", "kind": "text", "text": "опечятка"})
	d.op.call("message.edit", map[string]any{"message_id": text.ID, "text": "опечатка"}, nil)
	polled(t, "edited text", patience, func() bool { return u.Messages()[0].Text == "опечатка" })
	picture := d.op.send(map[string]any{"chat_id": chat, "client_id": "b", "kind": "image", "text": "кот", "files": []string{photo}})
	d.op.call("message.edit", map[string]any{"message_id": picture.ID, "text": "кошка"}, nil)
	polled(t, "edited caption", patience, func() bool { return u.Messages()[1].Text == "кошка" })
	if m := u.Messages()[1]; len(m.Files) != 1 {
		t.Errorf("the picture is gone with the edit: %+v", m)
	}
	d.op.call("message.forward", map[string]any{"message_id": text.ID, "chat_id": otherChat, "client_id": "c"}, nil)
	if list := other.WaitMessages(1, patience); len(list) != 1 || !list[0].Forwarded || list[0].Text != "опечатка" {
		t.Errorf("the forward is %+v", list)
	}
	d.op.call("message.delete", map[string]any{"message_id": text.ID}, nil)
	polled(t, "deletion", patience, func() bool { return u.Messages()[0].DeletedAt != nil })
	reply := d.op.send(map[string]any{"chat_id": chat, "client_id": "d", "kind": "text", "text": "ответ", "reply_to": picture.ID})
	if m := u.Messages()[2]; m.ReplyTo != *picture.PlatformMessageID || m.ID != *reply.PlatformMessageID {
		t.Errorf("the reply is %+v", m)
	}
	d.op.call("chat.typing", map[string]any{"chat_id": chat}, nil)
	polled(t, "typing", patience, func() bool { return len(d.sends(u, "messages.setActivity")) > 0 })
	allowed, err := d.community.NewCustomer(simulator.CustomerSpec{Started: true})
	if err != nil {
		t.Fatal(err)
	}
	var started struct{ Chat switchboard.Chat }
	d.op.call("chat.start", map[string]any{"account_id": d.account, "external_id": allowed.ID()}, &started)
	d.op.send(map[string]any{"chat_id": started.Chat.ID, "client_id": "e", "kind": "text", "text": "первыми"})
	if list := allowed.Messages(); len(list) != 1 || list[0].Text != "первыми" {
		t.Errorf("%+v", list)
	}
	var caps message.Capabilities
	d.rest("GET", "/api/v1/accounts/"+d.account+"/capabilities", d.token, nil, 200, &caps)
	if caps.Platform != "vk" || !caps.Idempotent || !caps.Read || caps.RequestPhone {
		t.Errorf("%s", asJSON(caps))
	}
}

// Whatever the platform does, each message arrives once, and in order.
func TestVKFaults(t *testing.T) {
	t.Parallel()
	d := newVKDesk(t, nil)
	u, chat := d.customer(t, simulator.CustomerSpec{})
	fault := func(f simulator.Fault) {
		t.Helper()
		f.Platform, f.Count = "vk", max(f.Count, 1)
		if _, err := d.sim.Fault(f); err != nil {
			t.Fatal(err)
		}
	}
	for i, f := range []simulator.Fault{
		{Kind: simulator.FaultCutAfter}, {Kind: simulator.FaultCut}, {Kind: simulator.FaultHTML}, {Kind: simulator.FaultError, Code: 10},
		{Kind: simulator.FaultThrottle}, {Kind: simulator.FaultThrottle, RetryAfter: 1}, {Kind: simulator.FaultError, Status: 500},
	} {
		f.Method = "messages.send"
		fault(f)
		words := fmt.Sprintf("после %d", i)
		d.op.send(map[string]any{"chat_id": chat, "client_id": words, "kind": "text", "text": words})
		if list := u.Messages(); len(list) != i+1 || list[i].Text != words {
			t.Fatalf("%s: the customer has %s", f.Kind, asJSON(list))
		}
	}
	// In: twice, in another order, over broken polls and every loss that VK knows.
	fault(simulator.Fault{Kind: simulator.FaultDuplicate, Method: "message_new"})
	fault(simulator.Fault{Kind: simulator.FaultCut, Method: "a_check"})
	fault(simulator.Fault{Kind: simulator.FaultError, Method: "a_check", After: 1})
	for i := range 6 {
		switch i {
		case 2:
			d.community.ExpireKey()
		case 4:
			fault(simulator.Fault{Kind: simulator.FaultError, Code: 29 - 23, Method: "groups.getLongPollServer"})
			d.community.ExpireKey()
		}
		u.SendText(fmt.Sprintf("in %d", i))
	}
	d.op.message("last message", func(m *message.Message) bool { return m.Text == "in 5" })
	var in []string
	for _, m := range d.history(chat) {
		if m.Direction == message.In {
			in = append(in, m.Text)
		}
	}
	if got := strings.Join(in[1:], ","); got != "in 0,in 1,in 2,in 3,in 4,in 5" {
		t.Errorf("the operator has %s", got)
	}
	// What the long poll lost is read from the chat: the events are gone before
	// anybody could fetch them.
	d.sim.ClearFaults() // a fault of the long poll would get a new session before the loss is heard
	fault(simulator.Fault{Kind: simulator.FaultWebhookDelay, Method: "message_new", Delay: simulator.Delay(time.Hour)})
	u.SendText("lost")
	d.op.send(map[string]any{"chat_id": chat, "client_id": "meanwhile", "kind": "text", "text": "answered by somebody who has not seen it"})
	d.community.LoseSession()
	// A back-off after the faults above may take 30 s.
	polled(t, "new session", time.Minute, func() bool {
		lost := int64(0)
		for _, r := range d.community.Requests("a_check") {
			if r.Code == 3 {
				lost = r.Seq
			}
		}
		keys := d.community.Requests("groups.getLongPollServer")
		return lost > 0 && keys[len(keys)-1].Seq > lost
	})
	d.op.message("lost message", func(m *message.Message) bool { return m.Text == "lost" })
	u.SendText("after the loss")
	d.op.message("message after the loss", func(m *message.Message) bool { return m.Text == "after the loss" })
	// Blocked: failed for good, the customer marked, the account not.
	fault(simulator.Fault{Kind: simulator.FaultBlocked, Method: "messages.send"})
	var r struct{ Message message.Message }
	d.op.call("message.send", map[string]any{"chat_id": chat, "client_id": "blocked", "kind": "text", "text": "x"}, &r)
	m := d.op.message("failure", func(m *message.Message) bool { return m.ID == r.Message.ID && m.Status == message.StatusFailed })
	if m.Error == nil || m.Error.Kind != message.ErrRecipient || m.Error.Code != "901" {
		t.Errorf("%s", asJSON(m))
	}
	// Revoked: the account stops, with an alarm.
	revoked := true
	d.community.Set(simulator.AccountOptions{Revoked: &revoked})
	d.op.call("message.send", map[string]any{"chat_id": chat, "client_id": "revoked", "kind": "text", "text": "x"}, nil)
	polled(t, "paused account", patience, func() bool {
		var raw json.RawMessage
		d.rest("GET", "/api/v1/accounts/"+d.account, d.token, nil, 200, &raw)
		return strings.Contains(string(raw), `"paused"`)
	})
}
