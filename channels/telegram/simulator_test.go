package telegram_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/channels/telegram"
	"switchboard/message"
	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

// memory is a store of files in memory.
type memory map[string][]byte

func (m memory) Open(_ context.Context, id string) (io.ReadCloser, error) {
	b, ok := m[id]
	if !ok {
		return nil, errors.New("no such file")
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m memory) Link(context.Context, string, time.Duration) (string, error) {
	return "", errors.New("no links")
}

// talk is a bot and a customer at a simulator that was written from Telegram's
// documents, without this package.
type talk struct {
	t        *testing.T
	bot      *simulator.TelegramAccount
	customer *simulator.TelegramCustomer
	ch       channels.Channel
	files    memory
	offset   int64
}

func newTalk(t *testing.T) *talk {
	t.Helper()
	sim, base := simtest.Start(t)
	k := &talk{t: t, bot: sim.Telegram(token), files: memory{}}
	var err error
	if k.customer, err = k.bot.NewCustomer(simulator.CustomerSpec{ID: chat, FirstName: "Анна", LastName: "Котова", Username: "akotova", Phone: "79161234567"}); err != nil {
		t.Fatal(err)
	}
	env := channels.Env{HTTP: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, Files: k.files, PublicURL: "https://gateway.example"}
	if k.ch, err = telegram.Platform().Open(channels.Account{ID: "a1", Platform: "telegram", Settings: map[string]string{"token": token, "api_base": base + "/telegram"}}, env); err != nil {
		t.Fatal(err)
	}
	if _, err := k.ch.Check(t.Context()); err != nil {
		t.Fatalf("Check: %v", err)
	}
	k.poll(false) // tells which kinds of update are wanted
	return k
}

// poll takes what is there; wait waits for the first update.
func (k *talk) poll(wait bool) []message.Update {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 10*time.Second)
	defer cancel()
	if !wait {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, 100*time.Millisecond)
		defer stop()
	}
	raws, next, err := k.ch.(channels.Poller).Poll(ctx, k.offset)
	if err != nil {
		if !wait && errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		k.t.Fatalf("Poll: %v", err)
	}
	k.offset = next
	var all []message.Update
	for _, raw := range raws {
		updates, err := k.ch.Decode(raw.Raw)
		if err != nil {
			k.t.Fatalf("Decode of %s: %v", raw.Raw, err)
		}
		if err := k.ch.(channels.Acknowledger).Acknowledge(k.t.Context(), raw.Raw); err != nil {
			k.t.Errorf("Acknowledge of %s: %v", raw.Raw, err)
		}
		for _, u := range updates {
			if u.Chat != "" && u.Chat != raw.ChatKey {
				k.t.Errorf("chat %q of an update with chat key %q", u.Chat, raw.ChatKey)
			}
		}
		all = append(all, updates...)
	}
	return all
}

func (k *talk) send(content message.Content, replyTo string) []string {
	k.t.Helper()
	out := &message.Outbound{ID: "m", Chat: k.customer.ID(), Customer: k.customer.ID(), Content: content, ReplyTo: replyTo}
	caps := k.ch.Capabilities()
	if err := caps.Check(&out.Content, replyTo != ""); err != nil {
		k.t.Fatal(err)
	}
	parts, err := k.ch.Plan(out)
	if err != nil {
		k.t.Fatal(err)
	}
	var ids []string
	for i := range parts {
		receipt, err := k.ch.Send(k.t.Context(), &parts[i])
		if err != nil {
			k.t.Fatalf("Send of %s: %v", content.Kind, err)
		}
		ids = append(ids, receipt.IDs...)
	}
	return ids
}

func TestSimulatedCustomerWrites(t *testing.T) {
	t.Parallel()
	k := newTalk(t)
	for _, c := range []struct {
		action string
		args   simulator.TelegramAction
		kind   message.Kind
		is     func(u message.Update) bool
	}{
		{"start", simulator.TelegramAction{Payload: "promo"}, message.KindText, func(u message.Update) bool { return u.Content.Payload == "promo" }},
		{"text", simulator.TelegramAction{Text: "привет 😀"}, message.KindText, func(u message.Update) bool {
			return u.Content.Text == "привет 😀" && u.Customer.Name == "Анна Котова" && u.Customer.Username == "akotova" && !u.At.IsZero()
		}},
		{"photo", simulator.TelegramAction{Caption: "чек"}, message.KindImage, func(u message.Update) bool { return u.Content.Text == "чек" && u.Content.Files[0].Width > 0 }},
		{"video", simulator.TelegramAction{}, message.KindVideo, nil},
		{"video_note", simulator.TelegramAction{}, message.KindVideo, nil},
		{"animation", simulator.TelegramAction{}, message.KindVideo, nil},
		{"audio", simulator.TelegramAction{}, message.KindAudio, nil},
		{"voice", simulator.TelegramAction{}, message.KindVoice, nil},
		{"document", simulator.TelegramAction{}, message.KindDocument, nil},
		{"sticker", simulator.TelegramAction{Type: "animated", Emoji: "👍"}, message.KindSticker, func(u message.Update) bool { return u.Content.Files[0].Emoji == "👍" && len(u.Content.Files) == 2 }},
		{"sticker", simulator.TelegramAction{}, message.KindSticker, nil},
		{"contact", simulator.TelegramAction{Own: true}, message.KindContact, func(u message.Update) bool {
			return u.Content.Contact.Own && u.Content.Contact.Phone == "+79161234567" && u.Customer.Phone == "+79161234567"
		}},
		{"contact", simulator.TelegramAction{Phone: "79990000000", FirstName: "Пётр"}, message.KindContact, func(u message.Update) bool { return !u.Content.Contact.Own && u.Customer.Phone == "" }},
		{"location", simulator.TelegramAction{Latitude: 55.75, Longitude: 37.61}, message.KindLocation, nil},
		{"venue", simulator.TelegramAction{Latitude: 55.75, Longitude: 37.61, Title: "Кафе", Address: "Тверская, 1"}, message.KindLocation, func(u message.Update) bool { return u.Content.Location.Title == "Кафе" }},
		{"poll", simulator.TelegramAction{}, message.KindUnsupported, func(u message.Update) bool { return u.Content.Unsupported == "poll" }},
		{"dice", simulator.TelegramAction{}, message.KindUnsupported, func(u message.Update) bool { return u.Content.Unsupported == "dice" }},
		{"story", simulator.TelegramAction{}, message.KindUnsupported, func(u message.Update) bool { return u.Content.Unsupported == "story" }},
		{"unknown", simulator.TelegramAction{}, message.KindUnsupported, func(u message.Update) bool { return u.Content.Unsupported == "hologram" }},
		{"text", simulator.TelegramAction{Text: "x", Forward: "channel", Name: "ред."}, message.KindText, func(u message.Update) bool { return u.Content.Forwarded[0].From == "Новости (ред.)" }},
		{"text", simulator.TelegramAction{Text: "x", Business: "bc1"}, message.KindText, func(u message.Update) bool { return u.Chat == chat+"@bc1" }},
	} {
		sent, err := k.customer.Do(c.action, c.args)
		if err != nil {
			t.Fatalf("%s: %v", c.action, err)
		}
		var got *message.Update
		for _, u := range k.poll(true) {
			if u.Kind == message.UpdateMessage && u.PlatformID == sent.MessageID {
				got = &u
			}
		}
		if got == nil {
			t.Errorf("%s: message %s did not come", c.action, sent.MessageID)
			continue
		}
		if got.Content.Kind != c.kind || (c.is != nil && !c.is(*got)) {
			t.Errorf("%s: decoded as %+v", c.action, *got)
		}
		for i, f := range got.Content.Files {
			d, err := k.ch.Fetch(t.Context(), f.Ref)
			if err != nil {
				t.Errorf("%s: Fetch: %v", c.action, err)
				continue
			}
			b, err := io.ReadAll(d.Body)
			if err != nil || len(b) == 0 || d.Size != int64(len(b)) {
				t.Errorf("%s: %d bytes of %d, %v", c.action, len(b), d.Size, err)
			}
			_ = d.Body.Close()
			if i == 0 && len(sent.Files) > 0 && sent.Files[0].Size != int64(len(b)) {
				t.Errorf("%s: %d bytes, the customer sent %d", c.action, len(b), sent.Files[0].Size)
			}
		}
	}
	if _, err := k.customer.SendAlbum(3, "альбом"); err != nil {
		t.Fatal(err)
	}
	albums := map[string]int{}
	for n := 0; n < 3; {
		updates := k.poll(true)
		n += len(updates)
		for _, u := range updates {
			albums[u.Content.Album]++
		}
	}
	if len(albums) != 1 || albums[""] != 0 {
		t.Errorf("messages by album: %v, want 3 of one", albums)
	}
}

func TestSimulatedConversation(t *testing.T) {
	t.Parallel()
	k := newTalk(t)
	first := k.customer.SendText("сколько стоит?")
	if got := k.poll(true); len(got) != 1 || got[0].PlatformID != first.MessageID {
		t.Fatalf("got %+v", got)
	}
	ids := k.send(message.Content{Kind: message.KindText, Text: "Оцените <b>ответ</b>", Keyboard: inline([]message.KeyButton{{Text: "Хорошо", Payload: "csat:5"}, {Text: "Плохо", Payload: "csat:1"}})}, first.MessageID)
	seen := k.customer.WaitMessages(1, 5*time.Second)
	if len(seen) != 1 || seen[0].Text != "Оцените <b>ответ</b>" || seen[0].ReplyTo != first.MessageID || len(seen[0].Buttons) != 2 || seen[0].ID != ids[0] {
		t.Fatalf("the customer sees %+v", seen)
	}

	if _, err := k.customer.Press("csat:5"); err != nil {
		t.Fatal(err)
	}
	press := k.poll(true)
	if len(press) != 1 || press[0].Content.Button == nil || *press[0].Content.Button != (message.Button{Payload: "csat:5", Text: "Хорошо"}) || press[0].ReplyTo != ids[0] {
		t.Errorf("press: %+v", press)
	}
	if n := len(k.customer.Answers()); n != 1 {
		t.Errorf("%d button presses were answered", n)
	}

	edited := message.Content{Kind: message.KindText, Text: "Спасибо!"}
	for range 2 { // the second changes nothing, which is fine
		if err := k.ch.(channels.Editor).Edit(t.Context(), chat, ids, &edited); err != nil {
			t.Errorf("Edit: %v", err)
		}
	}
	if seen := k.customer.Messages(); seen[0].Text != "Спасибо!" {
		t.Errorf("after the edit: %+v", seen[0])
	}
	if err := k.ch.(channels.Typer).Typing(t.Context(), chat); err != nil || k.customer.Action() != "typing" {
		t.Errorf("typing: %v, %q", err, k.customer.Action())
	}
	forwarded, err := k.ch.(channels.Forwarder).Forward(t.Context(), chat, chat, ids)
	if err != nil || len(forwarded.IDs) != 1 {
		t.Errorf("Forward: %+v, %v", forwarded, err)
	}
	for range 2 { // gone already is fine, too
		if err := k.ch.(channels.Deleter).Delete(t.Context(), chat, ids); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}

	if _, err := k.customer.Do("react", simulator.TelegramAction{}); err != nil {
		t.Fatal(err)
	}
	if got := k.poll(true); len(got) != 1 || got[0].Content.Service != "reaction" || got[0].Content.Text == "" {
		t.Errorf("reaction: %+v", got)
	}
	k.customer.Block()
	if got := k.poll(true); len(got) != 2 || got[0].Kind != message.UpdateContactable || got[0].Reachable || got[1].Content.Service != "blocked" {
		t.Errorf("block: %+v", got)
	}
	_, err = send(t.Context(), t, k.ch, chat, text("есть кто?"))
	if kindOf(t, err) != message.ErrRecipient {
		t.Errorf("to a customer who blocked the bot: %v", err)
	}
	k.customer.Unblock()
	if got := k.poll(true); len(got) == 0 || got[0].Kind != message.UpdateContactable || !got[0].Reachable {
		t.Errorf("unblock: %+v", got)
	}
	if _, err = send(t.Context(), t, k.ch, "123456", text("кто вы?")); kindOf(t, err) != message.ErrRecipient {
		t.Errorf("to a stranger: %v", err)
	}
	revoked := true
	k.bot.Set(simulator.AccountOptions{Revoked: &revoked})
	if _, err = send(t.Context(), t, k.ch, chat, text("x")); kindOf(t, err) != message.ErrAccount {
		t.Errorf("with a revoked token: %v", err)
	}
	_, _, err = k.ch.(channels.Poller).Poll(t.Context(), k.offset)
	if e, ok := errors.AsType[*channels.PollError](err); !ok || e.Kind != channels.PollUnauthorized {
		t.Errorf("poll with a revoked token: %v", err)
	}
}

// Every kind of file that the customer sent goes back to them.
func TestSimulatedFiles(t *testing.T) {
	t.Parallel()
	k := newTalk(t)
	stored := map[string]message.File{}
	for _, kind := range []string{"photo", "video", "audio", "voice", "document", "sticker"} {
		if _, err := k.customer.Do(kind, simulator.TelegramAction{}); err != nil {
			t.Fatal(err)
		}
		f := k.poll(true)[0].Content.Files[0]
		d, err := k.ch.Fetch(t.Context(), f.Ref)
		if err != nil {
			t.Fatal(err)
		}
		if k.files[kind], err = io.ReadAll(d.Body); err != nil {
			t.Fatal(err)
		}
		_ = d.Body.Close()
		f.ID, f.Size, f.State, f.Ref = kind, int64(len(k.files[kind])), message.FileReady, ""
		if f.Name == "" {
			f.Name = kind
		}
		stored[kind] = f
	}
	want := func(n int, kinds string, text string) {
		t.Helper()
		seen := k.customer.WaitMessages(n, 5*time.Second)
		var got []string
		for _, m := range seen[len(seen)-len(strings.Fields(kinds)):] {
			got = append(got, m.Kind)
			for _, warning := range m.Warnings {
				t.Errorf("%s: %s", m.Kind, warning)
			}
		}
		if strings.Join(got, " ") != kinds {
			t.Errorf("the customer sees %q, want %q", got, kinds)
		}
		if first := seen[len(seen)-len(got)]; text != "" && first.Text != text {
			t.Errorf("caption %q, want %q", first.Text, text)
		}
	}
	n := 0
	for kind, content := range map[string]message.Kind{
		"photo": message.KindImage, "video": message.KindVideo, "audio": message.KindAudio,
		"voice": message.KindVoice, "document": message.KindDocument,
	} {
		k.send(message.Content{Kind: content, Text: "подпись", Files: []message.File{stored[kind]}}, "")
		n++
		want(n, kind, "подпись")
	}
	k.send(message.Content{Kind: message.KindSticker, Files: []message.File{stored["sticker"]}}, "")
	n++
	want(n, "sticker", "")
	k.send(message.Content{Kind: message.KindImage, Text: "альбом", Files: []message.File{stored["photo"], stored["video"], stored["photo"]}}, "")
	n += 3
	want(n, "photo video photo", "альбом")
	// Claims to be a picture and is none: it arrives all the same.
	k.files["fake"] = k.files["document"]
	fake := stored["photo"]
	fake.ID = "fake"
	k.send(message.Content{Kind: message.KindImage, Files: []message.File{fake}}, "")
	n++
	want(n, "document", "")
	k.send(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 55.75, Lon: 37.61}}, "")
	n++
	want(n, "location", "")
	k.send(message.Content{Kind: message.KindContact, Contact: &message.Contact{Name: "Анна", Phone: "+79161234567"}}, "")
	n++
	want(n, "contact", "")
}
