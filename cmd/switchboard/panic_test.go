package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/channels"
	"switchboard/config"
	"switchboard/internal/dbtest"
	"switchboard/internal/secret"
	"switchboard/message"
	"switchboard/simulator/simtest"
)

// faulty is a channel with a bug in every call. What is in updates is polled, one
// by one; the customer's word is the whole update.
type faulty struct {
	updates chan string

	mu     sync.Mutex
	called map[string]int
}

func (f *faulty) bug(call string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.called[call]++
	panic("a bug in " + call)
}

func (f *faulty) calls(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.called[call]
}

func (*faulty) Capabilities() message.Capabilities {
	return message.Capabilities{Platform: "faulty", Send: []message.Kind{message.KindText}, Receive: []message.Kind{message.KindText}, Text: message.Limit{Max: 100, Unit: message.UnitRunes}, MaxParts: 1, Typing: true}
}
func (*faulty) Check(context.Context) (channels.Health, error) { return channels.Health{}, nil }
func (*faulty) Polls() bool                                    { return true }
func (*faulty) UpkeepEvery() time.Duration                     { return time.Hour }

func (f *faulty) Upkeep(context.Context) ([]channels.RawUpdate, error) {
	f.bug("Upkeep")
	return nil, nil
}
func (f *faulty) Acknowledge(context.Context, []byte) error { f.bug("Acknowledge"); return nil }
func (f *faulty) Typing(context.Context, string) error      { f.bug("Typing"); return nil }
func (f *faulty) Fetch(context.Context, string) (channels.Download, error) {
	f.bug("Fetch")
	return channels.Download{}, nil
}
func (f *faulty) Profile(context.Context, string) (p message.Profile, _ error) {
	f.bug("Profile")
	return p, nil
}

func (f *faulty) Poll(ctx context.Context, offset int64) ([]channels.RawUpdate, int64, error) {
	select {
	case u := <-f.updates:
		if u == "poll" {
			f.bug("Poll")
		}
		return []channels.RawUpdate{{DedupKey: u, ChatKey: "c", Raw: []byte(u)}}, offset + 1, nil
	case <-ctx.Done():
		return nil, offset, ctx.Err()
	}
}

func (f *faulty) Decode(raw []byte) ([]message.Update, error) {
	u := message.Update{Kind: message.UpdateMessage, Chat: "c", Customer: message.Profile{ID: "c"}, PlatformID: string(raw), Content: message.Content{Kind: message.KindText, Text: string(raw)}}
	switch string(raw) {
	case "decode":
		f.bug("Decode")
	case "press":
		u.Content.Kind, u.Content.Button = message.KindButton, &message.Button{Payload: "p", Text: "press"}
	case "picture":
		u.Content.Kind, u.Content.Files = message.KindImage, []message.File{{Kind: message.KindImage, Name: "p.jpg", Ref: "r"}}
	}
	return []message.Update{u}, nil
}

func (f *faulty) Plan(out *message.Outbound) ([]message.Part, error) {
	if out.Text == "plan" {
		f.bug("Plan")
	}
	return []message.Part{{Of: 1, Outbound: *out}}, nil
}

func (f *faulty) Send(_ context.Context, part *message.Part) (message.Receipt, error) {
	if part.Text == "send" {
		f.bug("Send")
	}
	if part.Text == "fine" {
		return message.Receipt{IDs: []string{"p"}}, nil
	}
	return message.Receipt{}, errors.New("not planned")
}

// A panic in a channel, in a River job or in a goroutine of ours, is the end of
// one call: the process, the chat and the account go on.
func TestPanicsAreContained(t *testing.T) {
	t.Parallel()
	f := &faulty{updates: make(chan string, 10), called: map[string]int{}}
	sim, base := simtest.Start(t)
	logged := &pad{}
	w := startLogging(t, debugLog(logged), sim, base, dbtest.URLOf(t), bytes.Repeat([]byte{5}, secret.KeySize), func(*config.Config) {}, func(c *core) {
		c.registry = channels.NewRegistry([]channels.Platform{{Name: "faulty", Open: func(channels.Account, channels.Env) (channels.Channel, error) { return f, nil }}}, channels.Env{}, c.db, c.log)
	})
	if _, err := w.sys.admin.AddAccount(t.Context(), "test", "faulty", "Faulty", nil); err != nil {
		t.Fatal(err)
	}
	op := w.connect(w.operator("ann", switchboard.RoleOperator), nil)
	for _, u := range []string{"poll", "decode", "press", "picture", "hello"} {
		f.updates <- u
	}
	hello := op.message("message behind the faults", func(m *message.Message) bool { return m.Text == "hello" })
	op.call("chat.accept", map[string]any{"chat_id": hello.ChatID}, nil)
	op.call("chat.typing", map[string]any{"chat_id": hello.ChatID}, nil)
	if err := op.try("message.send", map[string]any{"chat_id": hello.ChatID, "client_id": "0", "kind": "text", "text": "plan"}, nil); err == nil {
		t.Error("a message that can't be planned was taken")
	}
	op.call("message.send", map[string]any{"chat_id": hello.ChatID, "client_id": "1", "kind": "text", "text": "send"}, nil)
	failed := op.message("failed message", func(m *message.Message) bool { return m.Text == "send" && m.Status == message.StatusFailed })
	if failed.Error == nil || !strings.Contains(failed.Error.Detail, "panicked") {
		t.Errorf("the failed message says %+v", failed.Error)
	}
	if m := op.send(map[string]any{"chat_id": hello.ChatID, "client_id": "2", "kind": "text", "text": "fine"}); m.Status != message.StatusSent {
		t.Errorf("the message behind it is %s", m.Status)
	}
	for _, call := range []string{"Poll", "Decode", "Acknowledge", "Fetch", "Profile", "Typing", "Plan", "Send"} {
		eventually(t, patience, fmt.Sprint("a call of ", call), func() bool { return f.calls(call) > 0 })
	}
	// The job that panicked is kept for another attempt, with what happened.
	conn, err := pgx.Connect(t.Context(), w.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	eventually(t, patience, "the job's error", func() bool {
		var state, what string
		err := conn.QueryRow(t.Context(), `select state::text, errors[1]->>'error' from river_job where kind = 'fetch' and cardinality(errors) > 0`).Scan(&state, &what)
		return err == nil && slices.Contains([]string{"retryable", "available", "scheduled"}, state) && strings.Contains(what, "a bug in Fetch")
	})
	var errs []string
	rows, err := conn.Query(t.Context(), `select error from quarantine`)
	if err == nil {
		errs, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil || len(errs) != 1 || !strings.Contains(errs[0], "a bug in Decode") {
		t.Errorf("quarantine: %q, %v", errs, err)
	}
}
