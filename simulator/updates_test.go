package simulator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"switchboard/simulator"
)

// poll is getUpdates in the background.
func (b *tg) poll(ctx context.Context, params string) <-chan obj {
	out := make(chan obj, 1)
	go func() {
		defer close(out)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url("getUpdates")+"?"+params, nil)
		if err != nil {
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			return
		}
		out <- decode(b.t, raw)
	}()
	return out
}

// hanging waits until a long poll has arrived at the simulator.
func (b *tg) hanging() {
	b.t.Helper()
	eventually(b.t, "a poll hangs", func() bool {
		_, v := control(b.t, b.base, http.MethodGet, "telegram/7000000001", nil)
		return v["polling"] == true
	})
}

func ids(updates []any) []int64 {
	out := []int64{}
	for _, u := range updates {
		out = append(out, num(at(u, "update_id")))
	}
	return out
}

func TestTelegramOffsets(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	var want []int64
	for range 5 {
		want = append(want, c.SendText("x").UpdateID)
	}
	for i, id := range want {
		if i > 0 && id != want[i-1]+1 {
			t.Fatalf("ids don't rise by one: %v", want)
		}
	}
	check := func(what string, got []any, want []int64) {
		t.Helper()
		if !slices.Equal(ids(got), want) {
			t.Errorf("%s: got %v, want %v", what, ids(got), want)
		}
	}
	check("all", b.updates(0), want)
	check("again: nothing was confirmed", b.updates(0), want)
	r, _ := b.ok("getUpdates", obj{"limit": 2}).([]any)
	check("limit", r, want[:2])
	check("from the third on", b.updates(want[2]), want[2:])
	check("the first two are forgotten", b.updates(0), want[2:])
	check("negative: the last one, earlier dropped", b.updates(-1), want[4:])
	wantEq(t, "pending", b.acct.Pending(), 1)
	check("all confirmed", b.updates(want[4]+1), nil)
	wantEq(t, "pending", b.acct.Pending(), 0)

	// Ids may start anywhere after a quiet week; the old offset confirms nothing then.
	b.acct.SetNextUpdateID(17)
	low := c.SendText("after the break")
	wantEq(t, "low id", low.UpdateID, int64(17))
	check("old offset", b.updates(want[4]+1), []int64{17})
	check("new offset", b.updates(18), nil)
}

func TestTelegramLongPoll(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	p := b.poll(t.Context(), "timeout=30")
	b.hanging()
	sent := c.SendText("hello")
	got := <-p
	wantEq(t, "update", num(at(got, "result", 0, "update_id")), sent.UpdateID)

	// The timeout ends with an empty list.
	start := time.Now()
	r := b.ok("getUpdates", obj{"offset": sent.UpdateID + 1, "timeout": 1})
	wantEq(t, "empty", len(r.([]any)), 0)
	if d := time.Since(start); d < 900*time.Millisecond {
		t.Errorf("held for %v, want a second", d)
	}

	// A client that goes away loses nothing.
	ctx, cancel := context.WithCancel(t.Context())
	p = b.poll(ctx, fmt.Sprintf("timeout=30&offset=%d", sent.UpdateID+1))
	b.hanging()
	cancel()
	<-p
	c.SendText("still here")
	wantEq(t, "kept", len(b.updates(sent.UpdateID+1)), 1)
}

func TestTelegramConflicts(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	older := b.poll(t.Context(), "timeout=30")
	b.hanging()
	newer := b.poll(t.Context(), "timeout=30")
	got := <-older
	wantEq(t, "older", num(got["error_code"]), int64(409))
	if !strings.Contains(str(got["description"]), "terminated by other getUpdates request") {
		t.Errorf("older: %v", got)
	}
	b.hanging()
	c.SendText("x")
	wantEq(t, "newer wins", (<-newer)["ok"], true)
	b.updates(-1)

	_, url := newHook(t, nil)
	third := b.poll(t.Context(), "timeout=30&offset=999999999")
	<-third // the future offset gives what is there
	b.updates(num(at(b.updates(0)[0], "update_id")) + 1)
	fourth := b.poll(t.Context(), "timeout=30")
	b.hanging()
	b.ok("setWebhook", obj{"url": url})
	got = <-fourth
	if num(got["error_code"]) != 409 || !strings.Contains(str(got["description"]), "terminated by setWebhook") {
		t.Errorf("hanging poll at setWebhook: %v", got)
	}
	b.fails("getUpdates", obj{}, 409, "can't use getUpdates method while webhook is active")
	b.ok("deleteWebhook", obj{})
	b.ok("getUpdates", obj{})
}

func TestTelegramAllowedUpdates(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	c.SendText("x")
	react := func() simulator.Sent {
		s, err := c.Do("react", simulator.TelegramAction{MessageID: 1})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	wantEq(t, "reactions are off by default", react().Dropped, true)
	b.ok("getUpdates", obj{"allowed_updates": []string{"message_reaction"}})
	wantEq(t, "asked for", react().Dropped, false)
	wantEq(t, "not asked for", c.SendText("x").Dropped, true)
	b.ok("getUpdates", obj{})
	wantEq(t, "remembered", c.SendText("x").Dropped, true)
	b.ok("getUpdates", obj{"allowed_updates": []string{}})
	wantEq(t, "empty list is the default set", c.SendText("x").Dropped, false)
	wantEq(t, "without reactions", react().Dropped, true)
}

func TestTelegramWebhook(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{RetryBase: 5 * time.Millisecond, RetryMax: 20 * time.Millisecond})
	c := b.acct.Customer(5)
	waiting := c.SendText("before the webhook")
	fail := 3
	h, url := newHook(t, func(n int, _ received, w http.ResponseWriter) {
		if n < fail {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	b.fails("setWebhook", obj{"url": "not a url"}, 400, "bad webhook")
	b.fails("setWebhook", obj{"url": url, "secret_token": "with space"}, 400, "unallowed characters")
	b.fails("setWebhook", obj{"url": url, "secret_token": strings.Repeat("x", 257)}, 400, "too long")
	b.ok("setWebhook", obj{"url": url, "secret_token": "s3cret_-"})
	for range fail + 1 { // the pending one goes out, again and again until it is taken
		r := h.next(t)
		wantEq(t, "same update", num(r.v["update_id"]), waiting.UpdateID)
		wantEq(t, "secret", r.header.Get("X-Telegram-Bot-Api-Secret-Token"), "s3cret_-")
		wantEq(t, "type", r.header.Get("Content-Type"), "application/json")
	}
	for i := range 20 {
		c.SendText(fmt.Sprint(i))
	}
	for i := range 20 {
		wantEq(t, "order in a chat", str(at(h.next(t).v, "message", "text")), fmt.Sprint(i))
	}
	eventually(t, "all acknowledged", func() bool { return b.acct.Pending() == 0 })
	info := b.ok("getWebhookInfo", obj{})
	wantEq(t, "url", at(info, "url"), url)
	wantEq(t, "pending", at(info, "pending_update_count"), 0)
	wantEq(t, "last error", at(info, "last_error_message"), "Wrong response from the webhook: 503 Service Unavailable")
	wantEq(t, "attempts recorded", len(b.acct.Callbacks("message")), 24)

	// Whatever is pending survives the switch to polling.
	b.ok("deleteWebhook", obj{})
	c.SendText("polled")
	wantEq(t, "polled", len(b.updates(0)), 1)
	b.ok("setWebhook", obj{"url": url, "drop_pending_updates": true})
	wantEq(t, "dropped", b.acct.Pending(), 0)
}

func TestTelegramWebhookBackoff(t *testing.T) {
	t.Parallel()
	// Virtual time can't cross sockets, so the receiver is behind the
	// simulator's own fault: every answer is lost.
	b := newTG(t, simulator.Config{RetryBase: 300 * time.Millisecond, RetryMax: time.Hour})
	h, url := newHook(t, func(n int, _ received, w http.ResponseWriter) {
		switch n {
		case 0, 1, 2:
			w.WriteHeader(500)
		case 3:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
		}
	})
	b.ok("setWebhook", obj{"url": url})
	b.acct.Customer(5).SendText("x")
	for range 5 {
		h.next(t)
	}
	eventually(t, "acknowledged", func() bool { return b.acct.Pending() == 0 })
	cb := b.acct.Callbacks("")
	gap := func(i int) time.Duration { return cb[i].At.Sub(cb[i-1].At) }
	if gap(1) > 250*time.Millisecond { // a busy machine takes tens
		t.Errorf("the second try came after %v, want at once", gap(1))
	}
	if gap(2) < 300*time.Millisecond || gap(3) < 600*time.Millisecond || gap(4) < time.Second {
		t.Errorf("gaps %v %v %v, want 300ms, 600ms, and the second that Retry-After asks for", gap(2), gap(3), gap(4))
	}
}

func TestTelegramWebhookParallel(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	release := make(chan struct{})
	h, url := newHook(t, func(_ int, r received, _ http.ResponseWriter) {
		if num(at(r.v, "message", "chat", "id")) == 1 {
			<-release
		}
	})
	b.ok("setWebhook", obj{"url": url})
	b.acct.Customer(1).SendText("slow")
	b.acct.Customer(2).SendText("fast")
	wantEq(t, "another chat is not held up", num(at(h.next(t).v, "message", "chat", "id")), int64(2))
	close(release)
	wantEq(t, "the slow one", num(at(h.next(t).v, "message", "chat", "id")), int64(1))
}

func TestTelegramAnswerIsACall(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	_, url := newHook(t, func(_ int, _ received, w http.ResponseWriter) {
		fmt.Fprint(w, `{"method":"sendMessage","chat_id":5,"text":"from the answer"}`) //nolint:errcheck // a test
	})
	b.ok("setWebhook", obj{"url": url})
	c := b.acct.Customer(5)
	c.SendText("x")
	got := c.WaitMessages(1, 10*time.Second)
	wantEq(t, "sent", got[0].Text, "from the answer")
}

func TestTelegramWebhookFaults(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{RetryBase: time.Millisecond})
	h, url := newHook(t, func(_ int, r received, w http.ResponseWriter) {
		if r.header.Get("X-Telegram-Bot-Api-Secret-Token") != "good" {
			w.WriteHeader(401)
		}
	})
	b.ok("setWebhook", obj{"url": url, "secret_token": "good"})
	c := b.acct.Customer(5)
	fault := func(f simulator.Fault) {
		t.Helper()
		f.Count = 1
		if _, err := b.sim.Fault(f); err != nil {
			t.Fatal(err)
		}
	}
	texts := func(n int) (out []string) {
		for range n {
			out = append(out, str(at(h.next(t).v, "message", "text")))
		}
		return out
	}
	fault(simulator.Fault{Kind: simulator.FaultDuplicate})
	c.SendText("a")
	if got := texts(2); got[0] != "a" || got[1] != "a" {
		t.Errorf("duplicate: %v", got)
	}
	fault(simulator.Fault{Kind: simulator.FaultReorder, Method: "message", Customer: "5"})
	c.SendText("b")
	c.SendText("c")
	if got := texts(2); got[0] != "c" || got[1] != "b" {
		t.Errorf("reorder: %v", got)
	}
	fault(simulator.Fault{Kind: simulator.FaultReorder, Delay: simulator.Delay(time.Millisecond)})
	c.SendText("alone")
	texts(1)
	fault(simulator.Fault{Kind: simulator.FaultBadSignature})
	c.SendText("d")
	if r := h.next(t); r.header.Get("X-Telegram-Bot-Api-Secret-Token") == "good" {
		t.Error("forged delivery carries the right secret")
	}
	texts(1)
	fault(simulator.Fault{Kind: simulator.FaultLostAnswer})
	c.SendText("e")
	if got := texts(2); got[0] != "e" || got[1] != "e" {
		t.Errorf("lost answer: %v", got)
	}
	fault(simulator.Fault{Kind: simulator.FaultWebhookDelay, Delay: simulator.Delay(20 * time.Millisecond)})
	start := time.Now()
	c.SendText("f")
	c.SendText("g")
	if got := texts(2); got[0] != "f" || got[1] != "g" || time.Since(start) < 20*time.Millisecond {
		t.Errorf("delay: %v after %v", got, time.Since(start))
	}
	eventually(t, "all acknowledged", func() bool { return b.acct.Pending() == 0 })
}

func TestTelegramRaw(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	if _, err := b.acct.Inject(`[1]`); err == nil {
		t.Error("an array was taken as an update")
	}
	s, err := b.acct.Inject(`{"business_connection":{"id":"bc1"}}`)
	if err != nil {
		t.Fatal(err)
	}
	twin := fmt.Sprintf(`{"update_id":%d,"message":{"message_id":1,"chat":{"id":5}}}`, s.UpdateID)
	if _, err := b.acct.Inject(twin); err != nil {
		t.Fatal(err)
	}
	got := b.updates(0)
	wantEq(t, "both, with one id", fmt.Sprint(ids(got)), fmt.Sprint([]int64{s.UpdateID, s.UpdateID}))
	wantEq(t, "kept as it was", str(at(got[0], "business_connection", "id")), "bc1")
}

func TestTelegramExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simulator.New(simulator.Config{})
		a := sim.Telegram(tgToken)
		c := a.Customer(5)
		call := func(method, body string) obj {
			rec := newRecorder()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/telegram/bot"+tgToken+"/"+method, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			sim.ServeHTTP(rec, req)
			return decode(t, rec.Body.Bytes())
		}
		call("sendMessage", `{"chat_id":5,"text":"k","reply_markup":{"inline_keyboard":[[{"text":"b","callback_data":"d"}]]}}`)
		c.SendText("x")
		if _, err := c.Press("d"); err != nil {
			t.Fatal(err)
		}
		query := at(call("getUpdates", `{}`), "result", 1, "callback_query", "id")
		time.Sleep(151 * time.Second)
		wantEq(t, "the press is gone, the message is not", len(call("getUpdates", `{}`)["result"].([]any)), 1)
		if v := call("answerCallbackQuery", `{"callback_query_id":"`+str(query)+`"}`); !strings.Contains(str(v["description"]), "query is too old") {
			t.Errorf("late answer: %v", v)
		}
		time.Sleep(24 * time.Hour)
		wantEq(t, "after a day", len(call("getUpdates", `{}`)["result"].([]any)), 0)
		wantEq(t, "pending", a.Pending(), 0)

		start := time.Now()
		call("getUpdates", `{"timeout":3600}`)
		wantEq(t, "long polls are capped", time.Since(start), 50*time.Second)
	})
}

// TestTelegramInbound checks every kind against the document's shape.
func TestTelegramInbound(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	b.ok("getUpdates", obj{"allowed_updates": []string{"message", "edited_message", "callback_query", "my_chat_member", "message_reaction", "business_message", "edited_business_message", "hologram_call"}})
	c, err := b.acct.NewCustomer(simulator.CustomerSpec{ID: "5551234567", FirstName: "Анна", Username: "akotova", Phone: "79161234567"})
	if err != nil {
		t.Fatal(err)
	}
	offset := int64(0)
	do := func(action string, a simulator.TelegramAction) []any {
		t.Helper()
		s, err := c.Do(action, a)
		if err != nil {
			t.Fatalf("%s: %v", action, err)
		}
		u := b.updates(offset)
		if len(u) == 0 {
			t.Fatalf("%s: no update (%+v)", action, s)
		}
		offset = num(at(u[len(u)-1], "update_id")) + 1
		return u
	}
	msg := func(action string, a simulator.TelegramAction) any {
		t.Helper()
		m := at(do(action, a)[0], "message")
		wantEq(t, action+" from", num(at(m, "from", "id")), int64(5551234567))
		wantEq(t, action+" chat", str(at(m, "chat", "type")), "private")
		if num(at(m, "date")) == 0 {
			t.Errorf("%s has no date: %v", action, m)
		}
		return m
	}

	m := msg("text", simulator.TelegramAction{Text: "см. https://x.y/z и /help"})
	wantEq(t, "entity", at(m, "entities", 0, "type"), "url")
	wantEq(t, "entity offset", at(m, "entities", 0, "offset"), 4)
	wantEq(t, "entity", at(m, "entities", 1, "type"), "bot_command")
	for _, f := range []struct {
		action, field, mime string
		args                simulator.TelegramAction
	}{
		{"photo", "photo", "image/jpeg", simulator.TelegramAction{Caption: "Вот чек"}},
		{"video", "video", "video/mp4", simulator.TelegramAction{}},
		{"audio", "audio", "audio/mpeg", simulator.TelegramAction{}},
		{"voice", "voice", "audio/ogg", simulator.TelegramAction{}},
		{"video_note", "video_note", "video/mp4", simulator.TelegramAction{}},
		{"animation", "animation", "video/mp4", simulator.TelegramAction{}},
		{"document", "document", "application/pdf", simulator.TelegramAction{File: simulator.FileSpec{Name: "договор.pdf", Size: 100_000}}},
		{"sticker", "sticker", "image/webp", simulator.TelegramAction{}},
		{"sticker", "sticker", "application/x-gzip", simulator.TelegramAction{Type: "animated"}},
		{"sticker", "sticker", "video/webm", simulator.TelegramAction{Type: "video"}},
	} {
		m := msg(f.action, f.args)
		x := at(m, f.field)
		if f.field == "photo" {
			if len(x.([]any)) != 2 {
				t.Errorf("photo sizes: %v", x)
			}
			x = at(x, 1)
		}
		id := str(at(x, "file_id"))
		wantEq(t, f.action+" caption", str(at(m, "caption")), f.args.Caption)
		file := b.ok("getFile", obj{"file_id": id})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.base+"/telegram/file/bot"+tgToken+"/"+str(at(file, "file_path")), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _, raw := send(t, req)
		shown := c.Transcript()
		wantEq(t, f.action+" sum", sum(raw), shown[len(shown)-1].Files[0].SHA256)
		if f.action != "video_note" && f.action != "sticker" || f.field == "sticker" {
			if got := sniffed(raw); got != f.mime {
				t.Errorf("%s: bytes look like %s, want %s", f.action, got, f.mime)
			}
		}
		if f.action == "animation" {
			wantEq(t, "animation fills document", str(at(m, "document", "file_id")), id)
		}
		if f.action == "document" {
			wantEq(t, "name", str(at(x, "file_name")), "договор.pdf")
			wantEq(t, "size", at(x, "file_size"), 100_000)
		}
	}
	wantEq(t, "animated", at(msg("sticker", simulator.TelegramAction{Type: "animated"}), "sticker", "is_animated"), true)

	album := do("album", simulator.TelegramAction{Count: 4, Type: "mixed", Caption: "все"})
	wantEq(t, "album items", len(album), 4)
	for i, u := range album {
		wantEq(t, "group", at(u, "message", "media_group_id"), at(album[0], "message", "media_group_id"))
		wantEq(t, "caption on the first", at(u, "message", "caption") != nil, i == 0)
	}

	m = msg("contact", simulator.TelegramAction{Own: true})
	wantEq(t, "own contact", num(at(m, "contact", "user_id")), int64(5551234567))
	wantEq(t, "own phone", str(at(m, "contact", "phone_number")), "79161234567")
	wantEq(t, "foreign contact", at(msg("contact", simulator.TelegramAction{}), "contact", "user_id"), nil)
	m = msg("venue", simulator.TelegramAction{})
	wantEq(t, "venue fills location", at(m, "location") != nil, true)
	m = msg("location", simulator.TelegramAction{Period: 900})
	wantEq(t, "live", at(m, "location", "live_period"), 900)
	moved := at(do("move", simulator.TelegramAction{Latitude: 1, Longitude: 2})[0], "edited_message")
	wantEq(t, "moved", at(moved, "location", "latitude").(json.Number).String(), "1")
	wantEq(t, "same message", num(at(moved, "message_id")), num(at(m, "message_id")))
	for _, kind := range []string{"poll", "dice", "web_app_data", "story"} {
		if at(msg(kind, simulator.TelegramAction{}), kind) == nil {
			t.Errorf("%s: no field", kind)
		}
	}
	wantEq(t, "service", at(msg("service", simulator.TelegramAction{}), "pinned_message") != nil, true)
	wantEq(t, "unknown", at(msg("unknown", simulator.TelegramAction{Kind: "smell", Value: json.RawMessage(`{"of":"coffee"}`)}), "smell", "of"), "coffee")
	wantEq(t, "unknown event", at(do("unknown_event", simulator.TelegramAction{})[0], "hologram_call") != nil, true)

	b.ok("sendMessage", obj{"chat_id": 5551234567, "text": "Чем помочь?"})
	asked := num(at(b.ok("sendMessage", obj{"chat_id": 5551234567, "text": "Чем помочь?"}), "message_id"))
	m = msg("text", simulator.TelegramAction{Text: "Вот с этим", ReplyTo: asked, Quote: "помочь"})
	wantEq(t, "reply", num(at(m, "reply_to_message", "message_id")), asked)
	wantEq(t, "reply author", at(m, "reply_to_message", "from", "is_bot"), true)
	wantEq(t, "quote", at(m, "quote", "position"), 4)
	wantEq(t, "no nesting", at(msg("text", simulator.TelegramAction{ReplyTo: num(at(m, "message_id"))}), "reply_to_message", "reply_to_message"), nil)
	wantEq(t, "external", at(msg("text", simulator.TelegramAction{External: true}), "external_reply", "origin", "type"), "channel")
	for origin, field := range map[string]string{"user": "sender_user", "hidden_user": "sender_user_name", "chat": "sender_chat", "channel": "chat"} {
		m := msg("text", simulator.TelegramAction{Forward: origin})
		wantEq(t, "origin", at(m, "forward_origin", "type"), origin)
		if at(m, "forward_origin", field) == nil {
			t.Errorf("forward of %s without %s: %v", origin, field, m)
		}
	}
	edited := at(do("edit", simulator.TelegramAction{Text: "поправил"})[0], "edited_message")
	wantEq(t, "edited", at(edited, "text"), "поправил")
	wantEq(t, "edit date", at(edited, "edit_date") != nil, true)

	m = msg("start", simulator.TelegramAction{Payload: "promo_autumn"})
	wantEq(t, "start", at(m, "text"), "/start promo_autumn")
	wantEq(t, "command", at(m, "entities", 0, "length"), 6)
	kicked := at(do("block", simulator.TelegramAction{})[0], "my_chat_member")
	wantEq(t, "blocked", at(kicked, "new_chat_member", "status"), "kicked")
	wantEq(t, "the bot is who was kicked", num(at(kicked, "new_chat_member", "user", "id")), int64(7000000001))
	back := do("start", simulator.TelegramAction{})
	wantEq(t, "start after a block", at(back[0], "my_chat_member", "new_chat_member", "status"), "member")
	wantEq(t, "and the message", at(back[1], "message", "text"), "/start")
	react := at(do("react", simulator.TelegramAction{MessageID: asked, Emoji: "🔥"})[0], "message_reaction")
	wantEq(t, "reaction", at(react, "new_reaction", 0, "emoji"), "🔥")
	wantEq(t, "business", at(do("text", simulator.TelegramAction{Business: "bc1"})[0], "business_message", "business_connection_id"), "bc1")

	for _, bad := range []struct {
		action string
		a      simulator.TelegramAction
	}{
		{"dance", simulator.TelegramAction{}}, {"text", simulator.TelegramAction{ReplyTo: 9999}}, {"text", simulator.TelegramAction{Forward: "moon"}},
		{"start", simulator.TelegramAction{Payload: "не то"}}, {"album", simulator.TelegramAction{Count: 11}}, {"sticker", simulator.TelegramAction{Type: "wax"}},
		{"document", simulator.TelegramAction{File: simulator.FileSpec{Format: "doc"}}}, {"unknown", simulator.TelegramAction{Value: json.RawMessage(`{`)}},
	} {
		if _, err := c.Do(bad.action, bad.a); err == nil {
			t.Errorf("%s %+v: no error", bad.action, bad.a)
		}
	}
}

func TestTelegramBigFile(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	id := func(f simulator.FileSpec) string {
		t.Helper()
		if _, err := c.SendFile("document", f); err != nil {
			t.Fatal(err)
		}
		u := b.updates(-1)
		return str(at(u[0], "message", "document", "file_id"))
	}
	b.ok("getFile", obj{"file_id": id(simulator.FileSpec{Size: 20 << 20})})
	b.fails("getFile", obj{"file_id": id(simulator.FileSpec{Size: 20<<20 + 1})}, 400, "file is too big")
	// The claim is the sender's; the truth decides.
	b.fails("getFile", obj{"file_id": id(simulator.FileSpec{Size: 21 << 20, ClaimedSize: 5})}, 400, "file is too big")
}
