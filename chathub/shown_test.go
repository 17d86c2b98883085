package chathub_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"switchboard"
)

// shownTo lists to whom a message was shown, by its timeline.
func (w *world) shownTo(seq int64, chat string) (operators []string) {
	w.t.Helper()
	var id string
	if err := w.pool.QueryRow(w.t.Context(), `select id from messages where chat_id = $1 and seq = $2`, chat, seq).Scan(&id); err != nil {
		w.t.Fatal(err)
	}
	entries, err := w.d.Timeline(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		var detail struct {
			OperatorID string `json:"operator_id"`
		}
		if e.What == "shown" {
			if err := json.Unmarshal(e.Detail, &detail); err != nil {
				w.t.Fatal(err)
			}
			operators = append(operators, detail.OperatorID)
		}
	}
	return operators
}

// The timeline tells once to which operator a message was shown: not to those
// who only watch, and not again by a second window, another hub or a replay.
func TestTimelineTellsToWhomAMessageWasShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ann, bob, boss := w.person("ann", switchboard.RoleOperator), w.person("bob", switchboard.RoleOperator), w.person("boss", switchboard.RoleSupervisor)
	chat := w.chat("c1", nil)
	w.customer(says("c1", "second"), says("c1", "third"))
	one, two := w.hub(nil), w.hub(nil)
	first, second, v, b := connect(t, one, ann), connect(t, two, ann), connect(t, one, boss), connect(t, two, bob)
	cursor := first.hello(nil).Cursor
	for _, c := range []*client{second, v, b} {
		c.hello(nil)
	}
	is := func(seq int64, want ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("message %d shown to %d operators", seq, len(want)), func() bool { return slices.Equal(w.shownTo(seq, chat), want) })
	}
	first.must("chat.accept", m{"chat_id": chat}, nil)
	is(3, ann.ID) // it came with the chat
	first.must("chat.read", m{"chat_id": chat, "seq": 3}, nil)
	is(1, ann.ID)
	is(2, ann.ID)
	first.must("message.send", m{"chat_id": chat, "kind": "text", "text": "an answer"}, nil)
	w.customer(says("c1", "live"))
	for _, c := range []*client{first, second, v} {
		c.message("live")
	}
	is(5, ann.ID)
	back := connect(t, two, ann)
	back.hello(cursor)
	back.message("live")
	first.must("chat.read", m{"chat_id": chat, "seq": 5}, nil)
	first.must("chat.transfer", m{"chat_id": chat, "operator_id": bob.ID}, nil)
	w.customer(says("c1", "to bob"))
	b.message("to bob")
	one.stop() // what waits is written
	two.stop()
	is(6, bob.ID)
	for _, seq := range []int64{1, 2, 3, 5} {
		is(seq, ann.ID)
	}
	is(4) // ann's own
}
