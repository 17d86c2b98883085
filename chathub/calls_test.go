package chathub_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"switchboard"
	"switchboard/db"
	"switchboard/message"
)

func TestConversation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann, bob, boss := w.person("ann", switchboard.RoleOperator), w.person("bob", switchboard.RoleOperator), w.person("boss", switchboard.RoleSupervisor)
	waiting := w.chat("c1", nil)
	s := w.hub(nil)
	a, b, v := connect(t, s, ann), connect(t, s, bob), connect(t, s, boss)

	h := a.hello(nil)
	if h.Operator.ID != ann.ID || h.Operator.Presence != switchboard.PresenceOnline || h.Cursor == "" || h.Resync {
		t.Errorf("hello answered %+v", h)
	}
	if len(h.Chats) != 1 || h.Chats[0].ID != waiting || h.Chats[0].LastMessage == nil || h.Chats[0].LastMessage.Text != "hello from c1" {
		t.Errorf("hello brought %+v", h.Chats)
	}
	b.hello(nil)
	v.hello(nil)

	var got struct{ Chat switchboard.Chat }
	a.must("chat.accept", m{"chat_id": waiting}, &got)
	if got.Chat.State != switchboard.ChatOpen || *got.Chat.OperatorID != ann.ID {
		t.Errorf("accepted %+v", got.Chat)
	}
	taken := func(e event) bool {
		return e.Type == switchboard.EventChatUpdated && e.Chat.State == switchboard.ChatOpen
	}
	if e := a.event("taken", taken); e.Chat.Customer == nil || e.Chat.LastMessage == nil {
		t.Errorf("ann is shown %s", e.raw)
	}
	if e := b.event("taken", taken); e.Chat.Customer != nil || e.Chat.LastMessage != nil || strings.Contains(e.raw, "hello from c1") {
		t.Errorf("bob is shown what isn't his: %s", e.raw)
	}
	if e := v.event("taken", taken); e.Chat.Customer == nil {
		t.Errorf("the supervisor is shown %s", e.raw)
	}

	var sent struct{ Message message.Message }
	a.must("message.send", m{"chat_id": waiting, "client_id": "x1", "kind": "text", "text": "How can I help?"}, &sent)
	if sent.Message.Status != message.StatusQueued || sent.Message.Sender.Name != "Name of ann" || sent.Message.Sender.Kind != message.SenderOperator || sent.Message.Seq != 2 {
		t.Errorf("sent %+v", sent.Message)
	}
	var again struct{ Message message.Message }
	a.must("message.send", m{"chat_id": waiting, "client_id": "x1", "kind": "text", "text": "How can I help?"}, &again)
	if again.Message.ID != sent.Message.ID {
		t.Error("the same client_id made a second message")
	}
	w.customer(says("c1", "my order"), message.Update{Kind: message.UpdateTyping, Chat: "c1"})
	a.message("my order")
	v.message("my order")
	a.event("typing", func(e event) bool { return e.Type == switchboard.EventCustomerTyping && e.ChatID == waiting })
	var order []string
	for _, e := range a.flushed(w) {
		if e.Message != nil {
			order = append(order, fmt.Sprint(e.Message.Seq, e.Message.Text))
		}
	}
	if want := []string{"2How can I help?", "3my order"}; !slices.Equal(order, want) {
		t.Errorf("ann's messages: %q, want %q", order, want)
	}
	for _, e := range b.flushed(w) {
		if e.Message != nil || e.Type == switchboard.EventCustomerTyping {
			t.Errorf("bob got %s", e.raw)
		}
	}

	a.must("chat.read", m{"chat_id": waiting, "seq": 3}, nil)
	a.event("read", func(e event) bool { return e.Chat != nil && e.Chat.ReadSeq == 3 && e.Chat.Unread == 0 })
	a.must("chat.transfer", m{"chat_id": waiting, "operator_id": bob.ID}, &got)
	if got.Chat.Customer != nil {
		t.Error("the result of a transfer shows what is another's now")
	}
	b.event("handed over", func(e event) bool { return e.Chat != nil && e.Chat.Customer != nil && *e.Chat.OperatorID == bob.ID })
	a.event("handed over", func(e event) bool {
		return e.Chat != nil && e.Chat.Customer == nil && e.Chat.OperatorID != nil && *e.Chat.OperatorID == bob.ID
	})
	b.must("chat.transfer", m{"chat_id": waiting, "skill": "billing"}, nil)
	a.event("back in the queue", func(e event) bool { return e.Type == switchboard.EventChatOffered && e.Chat.Skill == "billing" })
	b.must("chat.skip", m{"chat_id": waiting}, nil)
	b.must("chat.decline", m{"chat_id": waiting}, nil)
	b.must("chat.accept", m{"chat_id": waiting}, nil)
	b.must("chat.close", m{"chat_id": waiting}, &got)
	if got.Chat.State != switchboard.ChatClosed {
		t.Errorf("closed %+v", got.Chat)
	}
	a.must("chat.start", m{"account_id": w.acc, "external_id": "c1"}, &got)
	if got.Chat.ID != waiting || *got.Chat.OperatorID != ann.ID {
		t.Errorf("started %+v", got.Chat)
	}
	a.must("presence.set", m{"status": "away"}, nil)
	v.event("presence", func(e event) bool {
		return e.Operator["id"] == ann.ID && e.Operator["status"] == "away" && e.Operator["name"] == "Name of ann"
	})
}

// Whatever bob tries with ann's chat and messages, he learns and changes nothing.
func TestOthersChatsAreClosedToOperators(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann, bob, boss := w.person("ann", switchboard.RoleOperator), w.person("bob", switchboard.RoleOperator), w.person("boss", switchboard.RoleSupervisor)
	hers, his, waits := w.chat("hers", ann), w.chat("his", bob), w.chat("waits", nil)
	closed := w.chat("closed", ann)
	if _, err := w.d.CloseChat(t.Context(), ann.Operator, closed); err != nil {
		t.Fatal(err)
	}
	s := w.hub(nil)
	a, b, v := connect(t, s, ann), connect(t, s, bob), connect(t, s, boss)
	for _, h := range [][]switchboard.Chat{b.hello(nil).Chats} {
		for _, c := range h {
			if c.ID == hers || c.ID == closed {
				t.Errorf("bob's hello brought ann's chat")
			}
		}
	}
	a.hello(nil)
	v.hello(nil)
	var sent, mine struct{ Message message.Message }
	a.must("message.send", m{"chat_id": hers, "kind": "text", "text": "secret"}, &sent)
	b.must("message.send", m{"chat_id": his, "kind": "text", "text": "mine"}, &mine)
	state := func() string {
		chat, err := w.d.Chat(t.Context(), hers)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(chat)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := state()

	// A method that is not in here has not been tried with another's things.
	tried := []string{
		"chat.accept", "chat.close", "chat.decline", "chat.list", "chat.read", "chat.skip", "chat.start", "chat.transfer", "chat.typing",
		"hello", "message.delete", "message.edit", "message.forward", "message.send",
		"presence.set", // of oneself: it names nobody
	}
	if methods := s.Methods(); !slices.Equal(methods, tried) {
		t.Errorf("the methods are %q, and tried are %q", methods, tried)
	}
	stranger := db.NewID()
	for _, chat := range []string{hers, closed, stranger} {
		for method, params := range map[string]m{
			"message.send":  {"chat_id": chat, "kind": "text", "text": "x"},
			"chat.close":    {"chat_id": chat},
			"chat.decline":  {"chat_id": chat},
			"chat.skip":     {"chat_id": chat},
			"chat.read":     {"chat_id": chat, "seq": 1},
			"chat.typing":   {"chat_id": chat},
			"chat.transfer": {"chat_id": chat, "operator_id": bob.ID},
		} {
			b.fails(1001, method, params)
		}
		b.fails(1001, "message.forward", m{"message_id": mine.Message.ID, "chat_id": chat})
	}
	for _, id := range []string{sent.Message.ID, stranger} {
		b.fails(1001, "message.edit", m{"message_id": id, "text": "x"})
		b.fails(1001, "message.delete", m{"message_id": id})
		b.fails(1001, "message.forward", m{"message_id": id, "chat_id": his})
	}
	b.fails(1005, "chat.accept", m{"chat_id": hers})
	b.fails(1001, "chat.accept", m{"chat_id": closed})
	b.fails(1005, "chat.start", m{"account_id": w.acc, "external_id": "hers"})
	// Readable, but not his to act in.
	b.fails(1002, "chat.close", m{"chat_id": waits})
	b.fails(1005, "message.send", m{"chat_id": waits, "kind": "text", "text": "x"})
	b.fails(1005, "chat.typing", m{"chat_id": waits})
	// Nor can another's file be sent on, be it only uploaded or in her chat already.
	file := db.NewID()
	w.exec(`insert into files (id, name, mime, size, owner) values ($1, 'name.pdf', 'application/pdf', 10, $2)`, file, "operator:"+ann.ID)
	b.fails(1001, "message.send", m{"chat_id": his, "kind": "document", "files": []string{file}})
	a.must("message.send", m{"chat_id": hers, "kind": "document", "files": []string{file}}, nil)
	before = state()
	b.fails(1001, "message.send", m{"chat_id": his, "kind": "document", "files": []string{file}})
	// A reply can't reach into another chat.
	b.fails(1001, "message.send", m{"chat_id": his, "kind": "text", "text": "x", "reply_to": sent.Message.ID})

	for _, state := range []string{"", "open", "closed"} {
		var list struct{ Items []switchboard.Chat }
		b.must("chat.list", m{"state": state}, &list)
		for _, c := range list.Items {
			if c.ID == hers || c.ID == closed {
				t.Errorf("chat.list %q showed ann's chat to bob", state)
			}
		}
	}
	if after := state(); after != before {
		t.Errorf("ann's chat changed:\n%s\n%s", before, after)
	}
	for _, e := range b.flushed(w) {
		if strings.Contains(e.raw, "secret") || strings.Contains(e.raw, "from hers") {
			t.Errorf("bob got %s", e.raw)
		}
	}

	// A replay reaches back to when her chats waited for everybody, her transfers too.
	back := connect(t, s, bob)
	if h := back.hello("0"); h.Resync {
		t.Error("resync although nothing was dropped")
	}
	replayed := back.flushed(w)
	for _, e := range replayed {
		if (e.ChatID == hers || e.ChatID == closed) && (e.Message != nil || e.Chat == nil || e.Chat.Customer != nil || strings.Contains(e.raw, "hello from")) {
			t.Errorf("the replay showed bob %s", e.raw)
		}
	}
	if !slices.ContainsFunc(replayed, func(e event) bool { return e.ChatID == hers }) {
		t.Error("the replay says nothing of a chat that left the queue")
	}

	// A supervisor reads and writes, but another's message is another's.
	v.must("message.send", m{"chat_id": hers, "kind": "text", "text": "from above"}, nil)
	v.must("message.send", m{"chat_id": hers, "kind": "document", "files": []string{file}}, nil)
	a.message("from above")
	v.fails(1002, "message.edit", m{"message_id": sent.Message.ID, "text": "x"})
	v.fails(1005, "message.send", m{"chat_id": closed, "kind": "text", "text": "x"})
	var list struct{ Items []switchboard.Chat }
	v.must("chat.list", m{}, &list)
	if len(list.Items) != 4 {
		t.Errorf("the supervisor sees %d chats, want 4", len(list.Items))
	}
}

func TestMessagesOfEveryKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	chat := w.chat("c", ann)
	file := func(mime string, size int, state string) string {
		id := db.NewID()
		w.exec(`insert into files (id, name, mime, size, state, owner) values ($1, 'name.bin', $2, $3, $4, $5)`, id, mime, size, state, "operator:"+ann.ID)
		return id
	}
	jpeg, pdf, big, pending := file("image/jpeg", 10, "ready"), file("application/pdf", 10, "ready"), file("application/pdf", 5000, "ready"), file("image/png", 1, "pending")
	poor := everything("poor")
	poor.Send, poor.Edit, poor.Delete, poor.ReplyTo, poor.InlineKeyboard, poor.StartByID = []message.Kind{message.KindText, message.KindDocument}, false, false, false, false, false
	poor.ForwardCopy = true
	poorAccount := w.account(poor)
	s := w.hub(nil)
	c := connect(t, s, ann)
	c.hello(nil)

	send := func(extra m) m {
		p := m{"chat_id": chat, "kind": "text"}
		for k, v := range extra {
			p[k] = v
		}
		return p
	}
	var r struct{ Message message.Message }
	c.must("message.send", send(m{"kind": "image", "files": []string{jpeg}, "text": "look"}), &r)
	if f := r.Message.Files; len(f) != 1 || f[0].ID != jpeg || f[0].Kind != message.KindImage || f[0].Mime != "image/jpeg" || f[0].Size != 10 || f[0].Name != "name.bin" {
		t.Errorf("files %+v", f)
	}
	c.must("message.send", send(m{"kind": "document", "files": []string{pdf}}), nil)
	c.must("message.send", send(m{"kind": "contact", "contact": m{"name": "Al", "phone": "+123", "own": true}}), &r)
	if r.Message.Contact.Own {
		t.Error("an operator claimed a contact to be the customer's own")
	}
	c.must("message.send", send(m{"kind": "location", "location": m{"lat": 1.5, "lon": 2}}), nil)
	c.must("message.send", send(m{"kind": "template", "template": m{"name": "order", "language": "en", "parameters": []string{"7"}}}), nil)
	c.must("message.send", send(m{"text": "pick", "keyboard": m{"kind": "inline", "rows": [][]m{{{"text": "a", "payload": "b"}, {"text": "u", "action": "url", "url": "https://example.org/x"}}}}}), &r)
	first := r.Message
	c.must("message.send", send(m{"text": "re", "reply_to": first.ID}), &r)
	if r.Message.ReplyTo == nil || *r.Message.ReplyTo != first.ID {
		t.Errorf("reply_to %v", r.Message.ReplyTo)
	}
	c.must("message.edit", m{"message_id": first.ID, "text": "choose"}, &r)
	if r.Message.Text != "choose" || r.Message.EditedAt == nil || r.Message.Keyboard == nil {
		t.Errorf("edited %+v", r.Message)
	}
	c.event("edit", func(e event) bool {
		return e.Type == switchboard.EventMessageUpdated && e.Message.Text == "choose"
	})
	c.must("message.delete", m{"message_id": first.ID}, &r)
	if r.Message.DeletedAt == nil || r.Message.Text != "" {
		t.Errorf("deleted %+v", r.Message)
	}
	c.fails(1005, "message.edit", m{"message_id": first.ID, "text": "x"})

	in := message.Message{}
	w.customer(says("c", "from the customer"))
	in = *c.message("from the customer").Message
	c.fails(1003, "message.edit", m{"message_id": in.ID, "text": "x"})
	c.fails(1003, "message.delete", m{"message_id": in.ID})

	for _, bad := range []struct {
		code   int
		params m
	}{
		{-32602, m{}},
		{-32602, m{"chat_id": "nonsense", "text": "x"}},
		{-32602, m{"chat_id": strings.ToUpper(chat), "text": "x"}},
		{-32602, m{"kind": "", "text": "x"}},
		{-32602, m{"kind": "sonnet", "text": "x"}},
		{-32602, m{"text": "x", "colour": "red"}},
		{-32602, m{"text": 5}},
		{-32602, m{"text": "x", "client_id": strings.Repeat("x", 129)}},
		{-32602, m{"text": "x", "client_id": ""}},
		{-32602, m{"text": "x", "client_id": "a\x00b"}},
		{-32602, m{"text": "x", "reply_to": "that one"}},
		{-32602, m{"text": "x", "files": []string{jpeg}}},
		{-32602, m{"kind": "image", "files": []string{pdf}}},
		{-32602, m{"kind": "image"}},
		{-32602, m{"kind": "document", "files": []string{"x"}}},
		{-32602, m{"kind": "location", "location": m{"lat": 91, "lon": 0}}},
		{-32602, m{"text": "x", "location": m{"lat": 1, "lon": 0}}},
		{-32602, m{"text": "x", "keyboard": m{"kind": "inline", "rows": [][]m{{{"text": "u", "action": "url", "url": "javascript:alert(1)"}}}}}},
		{1001, m{"kind": "document", "files": []string{db.NewID()}}},
		{1005, m{"kind": "image", "files": []string{pending}}},
		{1004, m{"kind": "document", "files": []string{big}}},
		{1004, m{"kind": "document", "files": []string{pdf, pdf, pdf}}},
		{1004, m{"text": strings.Repeat("x", 201)}},
		{1004, m{"text": strings.Repeat("x", 65<<10)}},
		{1004, m{"kind": "contact", "contact": m{"name": strings.Repeat("x", 300), "phone": "1"}}},
		{1003, m{"kind": "forward", "text": "x"}},
		{1003, m{"kind": "service", "text": "x"}},
		{1003, m{"kind": "button", "text": "x"}},
	} {
		c.fails(bad.code, "message.send", send(bad.params))
	}

	// The other account: what it can't do is said with the limit's name.
	c.fails(1003, "chat.start", m{"account_id": poorAccount, "external_id": "p"})
	w.exec(`update accounts set name = 'poor' where id = $1`, poorAccount)
	there, err := w.d.StartChat(t.Context(), ann.Operator, poorAccount, "p", true)
	if err != nil {
		t.Fatal(err)
	}
	c.fails(1003, "message.send", m{"chat_id": there.ID, "kind": "image", "files": []string{jpeg}})
	c.fails(1003, "message.send", m{"chat_id": there.ID, "kind": "text", "text": "x", "reply_to": db.NewID()})
	c.must("message.send", m{"chat_id": there.ID, "kind": "text", "text": "x"}, &r)
	c.fails(1003, "message.edit", m{"message_id": r.Message.ID, "text": "y"})
	c.must("message.delete", m{"message_id": r.Message.ID}, nil) // it had not left yet
	c.must("message.send", m{"chat_id": there.ID, "kind": "text", "text": "z"}, &r)
	w.exec(`update messages set status = 'sent' where id = $1`, r.Message.ID)
	c.fails(1003, "message.delete", m{"message_id": r.Message.ID})

	// Forwards.
	c.fails(1003, "message.forward", m{"message_id": in.ID, "chat_id": chat}) // neither forwards nor copies
	c.must("message.forward", m{"message_id": in.ID, "chat_id": there.ID, "client_id": "f1"}, &r)
	if r.Message.Text != "from the customer" || len(r.Message.Forwarded) != 1 || r.Message.Forwarded[0].From != "Customer c" || r.Message.Forwarded[0].Text != "from the customer" {
		t.Errorf("forwarded %+v", r.Message.Content)
	}
	c.must("message.send", send(m{"kind": "image", "files": []string{jpeg}}), &r)
	c.must("message.forward", m{"message_id": r.Message.ID, "chat_id": there.ID}, &r)
	if r.Message.Kind != message.KindDocument || len(r.Message.Files) != 1 || r.Message.Files[0].ID != jpeg {
		t.Errorf("an image forwarded to a channel without images: %+v", r.Message.Content)
	}
	c.must("message.send", send(m{"kind": "location", "location": m{"lat": 1.5, "lon": 2}}), &r)
	c.fails(1003, "message.forward", m{"message_id": r.Message.ID, "chat_id": there.ID})
	c.fails(1005, "message.forward", m{"message_id": first.ID, "chat_id": there.ID}) // deleted

	// An account that can't be used, or is gone.
	w.accounts.mu.Lock()
	w.accounts.err = errors.New("the token is missing")
	w.accounts.mu.Unlock()
	c.fails(1006, "message.send", send(m{"text": "x"}))
	w.accounts.mu.Lock()
	w.accounts.err = nil
	delete(w.accounts.opened, w.acc)
	w.accounts.mu.Unlock()
	c.fails(1005, "message.send", send(m{"text": "x"}))
	c.fails(1001, "chat.start", m{"account_id": w.acc, "external_id": "c"})
}

func TestStartByPhone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	caps := everything("sms")
	caps.StartByPhone = true
	sms := w.account(caps)
	w.exec(`insert into customers (id, account_id, external_id) values ($1, $2, 'u7')`, db.NewID(), w.acc)
	w.exec(`insert into phone_book (phone, customer_id, account_id, platform, source) select '+79001234567', id, account_id, 'fake', 'contact' from customers`)
	s := w.hub(nil)
	c := connect(t, s, ann)
	c.hello(nil)
	var r struct{ Chat switchboard.Chat }
	c.must("chat.start", m{"account_id": w.acc, "phone": "+7 (900) 123-45-67"}, &r)
	if r.Chat.Customer.ExternalID != "u7" || r.Chat.State != switchboard.ChatOpen {
		t.Errorf("started %+v", r.Chat)
	}
	c.fails(1001, "chat.start", m{"account_id": w.acc, "phone": "+79000000000"})
	c.must("chat.start", m{"account_id": sms, "phone": "+79000000000"}, &r)
	if r.Chat.Customer.ExternalID != "79000000000" {
		t.Errorf("started %+v", r.Chat)
	}
	for _, bad := range []m{
		{"account_id": w.acc}, {"account_id": w.acc, "phone": "12"}, {"account_id": w.acc, "phone": "+1234567", "external_id": "x"},
		{"account_id": "x", "external_id": "x"}, {"account_id": w.acc, "external_id": "x\ny"},
	} {
		c.fails(-32602, "chat.start", bad)
	}
	c.fails(1001, "chat.start", m{"account_id": db.NewID(), "external_id": "x"})
}

func TestListing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	for i := range 5 {
		w.chat(fmt.Sprint("c", i), nil)
	}
	s := w.hub(nil)
	c := connect(t, s, ann)
	c.hello(nil)
	var page struct {
		Items      []switchboard.Chat
		NextCursor *string `json:"next_cursor"`
	}
	seen := 0
	for cursor := ""; ; cursor = *page.NextCursor {
		page.NextCursor = nil
		c.must("chat.list", m{"state": "new", "limit": 2, "cursor": cursor}, &page)
		for _, chat := range page.Items {
			if want := fmt.Sprint("c", seen); chat.Customer.ExternalID != want {
				t.Errorf("place %d of the queue is %s, want %s", seen, chat.Customer.ExternalID, want)
			}
			seen++
		}
		if page.NextCursor == nil {
			break
		}
	}
	if seen != 5 {
		t.Errorf("listed %d chats, want 5", seen)
	}
	for _, bad := range []m{{"limit": 0}, {"limit": 201}, {"state": "lost"}, {"cursor": "?"}, {"limit": "3"}, {"page": 2}} {
		c.fails(-32602, "chat.list", bad)
	}
	for _, bad := range []m{{"status": "asleep"}, {}} {
		c.fails(-32602, "presence.set", bad)
	}
	id := page.Items[0].ID
	for _, bad := range []m{{"chat_id": id}, {"chat_id": id, "operator_id": ann.ID, "skill": "x"}, {"chat_id": id, "operator_id": "x"}, {"chat_id": id, "skill": strings.Repeat("x", 65)}} {
		c.fails(-32602, "chat.transfer", bad)
	}
	c.fails(-32602, "chat.read", m{"chat_id": id})
}

func TestProtocolErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.hub(nil)
	c := connect(t, s, w.person("ann", switchboard.RoleOperator))
	c.fails(1005, "chat.list", m{})
	c.fails(-32602, "hello", m{"cursor": "tomorrow"})
	c.fails(-32602, "hello", m{"cursor": "-5"})
	c.hello(nil)
	c.fails(1005, "hello", m{"cursor": nil})
	for _, tc := range []struct {
		frame, id string
		code      int
	}{
		{`{"jsonrpc":`, "null", -32700},
		{``, "null", -32700},
		{strings.Repeat("[", 100_000), "null", -32600},
		{`{"jsonrpc":"2.0","id":1,"method":"chat.list","params":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, "null", -32700},
		{`{"jsonrpc":"2.0","id":"deep","method":"chat.list","params":{"cursor":` + strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000) + `}}`, `"deep"`, -32602},
		{`{"jsonrpc":"2.0","id":1,"method":"chat.list"} {}`, "null", -32700},
		{`[{"jsonrpc":"2.0","id":1,"method":"chat.list"}]`, "null", -32600},
		{`7`, "null", -32600},
		{`[]`, "null", -32600},
		{`null`, "null", -32600},
		{`{"jsonrpc":2,"id":72,"method":"chat.list"}`, "72", -32600},
		{`{"jsonrpc":"2.0","id":"d","method":["chat.list"]}`, `"d"`, -32600},
		{`{"jsonrpc":"2.0","id":1.5,"method":"chat.burn"}`, "1.5", -32601},
		{`{"jsonrpc":"2.0","id":null,"method":"chat.burn"}`, "null", -32601},
		{`{"jsonrpc":"1.0","id":70,"method":"chat.list"}`, "70", -32600},
		{`{"jsonrpc":"2.0","id":71}`, "71", -32600},
		{`{"jsonrpc":"2.0","id":{},"method":"chat.list"}`, "null", -32600},
		{`{"jsonrpc":"2.0","id":true,"method":"chat.list"}`, "null", -32600},
		{`{"jsonrpc":"2.0","id":"a","method":"chat.burn"}`, `"a"`, -32601},
		{`{"jsonrpc":"2.0","id":"b","method":"chat.list","params":[1]}`, `"b"`, -32602},
		{`{"jsonrpc":"2.0","id":"c","method":"chat.list","params":{"limit":"x"}}`, `"c"`, -32602},
	} {
		c.raw(tc.frame)
		f := c.answer(tc.id)
		if f.Error == nil || f.Error.Code != tc.code || f.Error.Data.Code == "" {
			t.Errorf("%s: answered %+v, want error %d", tc.frame, f.Error, tc.code)
		}
	}
	if err := c.call("chat.list", m{"limit": "x"}, nil); err == nil || !strings.Contains(err.Data.Detail, "limit") {
		t.Errorf("the field is not named: %v", err)
	}
	if err := c.call("chat.list", m{"colour": "x"}, nil); err == nil || !strings.Contains(err.Data.Detail, "colour") {
		t.Errorf("the unknown field is not named: %v", err)
	}
	// A notification is carried out and not answered.
	c.raw(`{"jsonrpc":"2.0","method":"presence.set","params":{"status":"away"}}`)
	c.event("presence", func(e event) bool { return e.Operator["status"] == "away" })
	c.raw(`{"jsonrpc":"2.0","id":null,"method":"presence.set","params":{"status":"online"}}`)
	if f := c.answer("null"); f.Error != nil || string(f.Result) != "{}" {
		t.Errorf("answer to id null: %+v", f)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) != 0 {
		t.Errorf("answers that nobody asked for: %v", c.answers)
	}
}

// Every method refuses what is wrong, with a sentence that names the parameter.
func TestRefusalsNameTheParameter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	chat := w.chat("c", ann)
	s := w.hub(nil)
	c := connect(t, s, ann)
	refused := func(method string, params any, names string) {
		t.Helper()
		err := c.call(method, params, nil)
		if err == nil || err.Code != -32602 || err.Data.Code != "invalid_params" || !strings.Contains(err.Data.Detail, names) {
			t.Errorf("%s %v: answered %v, want -32602 with %q", method, params, err, names)
		}
	}
	refused("hello", m{"cursor": 5}, "cursor must be a string, not number")
	c.hello(nil)
	for _, method := range s.Methods() {
		if method == "hello" {
			continue
		}
		refused(method, []int{1}, "params must be an object")
		refused(method, "x", "params must be an object")
		refused(method, m{"colour": 1}, "colour")
		if method == "chat.list" {
			continue // everything may be left out
		}
		missing := map[string]string{"presence.set": "status", "chat.start": "account_id", "message.edit": "message_id", "message.delete": "message_id"}[method]
		if missing == "" {
			missing = "chat_id"
		}
		for _, params := range []any{nil, m{}, m{missing: nil}, m{missing: 5}, m{missing: true}, m{missing: m{}}} {
			refused(method, params, missing)
		}
	}
	send := func(extra m, names string) {
		t.Helper()
		p := m{"chat_id": chat, "kind": "text", "text": "x"}
		for k, v := range extra {
			p[k] = v
		}
		refused("message.send", p, names)
	}
	send(m{"text": " \n\t"}, "text must not be empty")
	send(m{"text": 5}, "text must be a string")
	send(m{"client_id": 5}, "client_id must be a string")
	send(m{"reply_to": ""}, "reply_to")
	send(m{"files": "x"}, "files must be an array")
	send(m{"kind": "image", "files": []any{nil}}, "files[0]")
	send(m{"kind": "contact"}, "contact.phone")
	send(m{"kind": "contact", "contact": m{"name": "x", "phone": 5}}, "contact.phone must be a string")
	send(m{"kind": "location"}, "location.lat")
	send(m{"kind": "location", "location": m{}}, "location.lat is missing")
	send(m{"kind": "location", "location": m{"lat": 0}}, "location.lon is missing")
	send(m{"kind": "location", "location": m{"lat": "0", "lon": 0}}, "location.lat must be a number")
	send(m{"kind": "location", "location": m{"lat": 0, "lon": 181}}, "location.lon")
	send(m{"keyboard": 5}, "keyboard must be an object")
	send(m{"keyboard": m{"kind": "sticky", "rows": [][]m{{{"text": "a"}}}}}, "keyboard.kind")
	send(m{"keyboard": m{"kind": "inline", "rows": []int{5}}}, "keyboard.rows must be an array")
	send(m{"kind": "template"}, "template.name")
	refused("chat.read", m{"chat_id": chat, "seq": "1"}, "seq must be a whole number, not string")
	refused("chat.read", m{"chat_id": chat, "seq": 1.5}, "seq must be a whole number")
	refused("chat.list", m{"limit": "x"}, "limit must be a whole number")
	refused("message.forward", m{"chat_id": chat}, "message_id")
	if err := c.call("message.send", m{"chat_id": w.chat("waits", nil), "kind": "text", "text": "x"}, nil); err == nil || err.Data.Detail != "the chat waits for an operator; accept it first" {
		t.Errorf("answered %v", err)
	}
}

func TestTyping(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann := w.person("ann", switchboard.RoleOperator)
	one, two := w.chat("one", ann), w.chat("two", ann)
	s := w.hub(nil)
	c := connect(t, s, ann)
	c.hello(nil)
	for range 5 {
		c.must("chat.typing", m{"chat_id": one}, nil)
	}
	if got := <-w.channel.typing; got != "one" {
		t.Errorf("typing in %q", got)
	}
	c.must("chat.typing", m{"chat_id": two}, nil)
	if got := <-w.channel.typing; got != "two" {
		t.Errorf("typing in %q: the first chat's pace was not kept", got)
	}
	eventually(t, "all signs counted", func() bool { return s.metric(t, "switchboard_hub_typing_total") == 6 })
	if n := len(w.channel.typing); n != 0 {
		t.Errorf("%d signs too many", n)
	}
}
