package main

import (
	"testing"

	"switchboard"
	"switchboard/message"
	"switchboard/simulator"
)

// A customer writes, an operator accepts and answers, the customer gets it; on
// both platforms, with the status that each can report.
func TestConversation(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.account("telegram", telegramToken, nil)
	w.account("viber", viberToken, nil)
	token := w.operator("ann", switchboard.RoleOperator)
	op := w.connect(token, nil)

	tg, err := w.sim.Telegram(telegramToken).NewCustomer(simulator.CustomerSpec{FirstName: "Anna"})
	if err != nil {
		t.Fatal(err)
	}
	tg.SendText("where is my order?")
	in := op.message("telegram message", func(m *message.Message) bool { return m.Text == "where is my order?" })
	if in.Platform != "telegram" || in.Seq != 1 || in.Sender.Name == "" {
		t.Errorf("inbound = %+v", in)
	}
	op.call("chat.accept", map[string]any{"chat_id": in.ChatID}, nil)
	out := op.send(map[string]any{"chat_id": in.ChatID, "client_id": "c1", "kind": "text", "text": "on its way"})
	if out.Seq != 2 || out.PlatformMessageID == nil {
		t.Errorf("outbound = %+v", out)
	}
	if got := tg.WaitMessages(1, 0); len(got) != 1 || got[0].Text != "on its way" {
		t.Errorf("the customer sees %+v", got)
	}

	var page struct{ Items []message.Message }
	w.rest("GET", "/api/v1/chats/"+in.ChatID+"/messages?limit=1", token, nil, 200, &page)
	if len(page.Items) != 1 || page.Items[0].ID != out.ID {
		t.Errorf("newest message of the history = %+v", page.Items)
	}
	w.rest("GET", "/api/v1/chats/"+in.ChatID+"/messages?after_seq=0&limit=1", token, nil, 200, &page)
	if len(page.Items) != 1 || page.Items[0].Seq != 1 {
		t.Errorf("oldest message of the history = %+v", page.Items)
	}
	var detail struct {
		Timeline []switchboard.TimelineEntry
	}
	w.rest("GET", "/api/v1/messages/"+out.ID, token, nil, 200, &detail)
	if len(detail.Timeline) < 2 || detail.Timeline[0].What != "queued" {
		t.Errorf("timeline = %+v", detail.Timeline)
	}

	vb, err := w.sim.Viber(viberToken).NewCustomer(simulator.CustomerSpec{FirstName: "Viktor"})
	if err != nil {
		t.Fatal(err)
	}
	vb.SendText("hello from viber")
	in = op.message("viber message", func(m *message.Message) bool { return m.Text == "hello from viber" })
	op.call("chat.accept", map[string]any{"chat_id": in.ChatID}, nil)
	out = op.send(map[string]any{"chat_id": in.ChatID, "client_id": "c2", "kind": "text", "text": "hello to viber"})
	op.message("read receipt", func(m *message.Message) bool { return m.ID == out.ID && m.Status == message.StatusRead })
}
