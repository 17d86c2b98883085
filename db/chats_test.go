package db_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/db"
)

var quiet = slog.New(slog.DiscardHandler)

func operator(t *testing.T, d *db.DB, login string, role switchboard.Role) switchboard.Operator {
	t.Helper()
	o, err := d.AddOperator(t.Context(), switchboard.Operator{Login: login, Name: "Name of " + login, Role: role}, "hash")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// newEvents returns what was appended since the last call, as one line each.
func newEvents(t *testing.T, pool *pgxpool.Pool, names map[string]string) func() []string {
	t.Helper()
	var after int64
	return func() (lines []string) {
		t.Helper()
		rows, err := pool.Query(t.Context(), `select id, type, coalesce(operator_id::text, ''), coalesce(former_operator_id::text, ''), everyone from events where id > $1 order by id`, after)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var typ, op, former string
			var everyone bool
			if err := rows.Scan(&after, &typ, &op, &former, &everyone); err != nil {
				t.Fatal(err)
			}
			line := typ
			if op != "" {
				line += " of " + names[op]
			}
			if former != "" {
				line += " from " + names[former]
			}
			if everyone {
				line += " to all"
			}
			lines = append(lines, line)
		}
		return lines
	}
}

type chatRoom struct {
	d              *db.DB
	pool           *pgxpool.Pool
	acc            string
	ann, bob, boss switchboard.Operator
	events         func() []string
}

func room(t *testing.T) *chatRoom {
	t.Helper()
	d, pool := open(t)
	r := &chatRoom{d: d, pool: pool, acc: account(t, d)}
	r.ann = operator(t, d, "ann", switchboard.RoleOperator)
	r.bob = operator(t, d, "bob", switchboard.RoleOperator)
	r.boss = operator(t, d, "boss", switchboard.RoleSupervisor)
	r.events = newEvents(t, pool, map[string]string{r.ann.ID: "ann", r.bob.ID: "bob", r.boss.ID: "boss"})
	return r
}

// chat makes a chat in the given state: new, offered (to who or all), open, closed.
func (r *chatRoom) chat(t *testing.T, key string, state switchboard.ChatState, who *switchboard.Operator) string {
	t.Helper()
	id := chatWith(t, r.d, r.pool, r.acc, key)
	var op *string
	if who != nil {
		op = &who.ID
	}
	_, err := r.pool.Exec(t.Context(), `update chats set state = $2, operator_id = $3, queued_at = case when $2 in ('new', 'offered') then queued_at end where id = $1`, id, state, op)
	if err != nil {
		t.Fatal(err)
	}
	r.events()
	return id
}

func TestHandsOfAChat(t *testing.T) {
	t.Parallel()
	type who = switchboard.Operator
	type call func(context.Context, *chatRoom, string) (switchboard.Chat, error)
	accept := func(o func(*chatRoom) who) call {
		return func(ctx context.Context, r *chatRoom, id string) (switchboard.Chat, error) {
			return r.d.AcceptChat(ctx, o(r), id)
		}
	}
	decline := func(o func(*chatRoom) who) call {
		return func(ctx context.Context, r *chatRoom, id string) (switchboard.Chat, error) {
			return r.d.DeclineChat(ctx, o(r), id)
		}
	}
	skip := func(o func(*chatRoom) who) call {
		return func(ctx context.Context, r *chatRoom, id string) (switchboard.Chat, error) {
			return r.d.SkipChat(ctx, o(r), id)
		}
	}
	closing := func(o func(*chatRoom) who) call {
		return func(ctx context.Context, r *chatRoom, id string) (switchboard.Chat, error) {
			return r.d.CloseChat(ctx, o(r), id)
		}
	}
	transfer := func(o, to func(*chatRoom) who, skill string) call {
		return func(ctx context.Context, r *chatRoom, id string) (switchboard.Chat, error) {
			target := ""
			if to != nil {
				target = to(r).ID
			}
			return r.d.TransferChat(ctx, o(r), id, target, skill)
		}
	}
	start := func(o func(*chatRoom) who) call {
		return func(ctx context.Context, r *chatRoom, id string) (switchboard.Chat, error) {
			return r.d.StartChat(ctx, o(r), r.acc, "c", false)
		}
	}
	ann := func(r *chatRoom) who { return r.ann }
	bob := func(r *chatRoom) who { return r.bob }
	boss := func(r *chatRoom) who { return r.boss }
	const (
		fresh, offer = switchboard.ChatNew, switchboard.ChatOffered
		opened, shut = switchboard.ChatOpen, switchboard.ChatClosed
	)
	tests := []struct {
		name   string
		state  switchboard.ChatState
		holder func(*chatRoom) who
		call   call
		want   switchboard.ChatState
		owner  func(*chatRoom) who
		err    error
		events []string
	}{
		{"accept a waiting chat", fresh, nil, accept(ann), opened, ann, nil, []string{"chat.updated of ann to all"}},
		{"accept one offered to all", offer, nil, accept(ann), opened, ann, nil, []string{"chat.updated of ann to all"}},
		{"accept one offered to me", offer, ann, accept(ann), opened, ann, nil, []string{"chat.updated of ann to all"}},
		{"accept one offered to another", offer, bob, accept(ann), offer, bob, switchboard.ErrConflict, nil},
		{"accept my own again", opened, ann, accept(ann), opened, ann, nil, nil},
		{"accept another's", opened, bob, accept(ann), opened, bob, switchboard.ErrConflict, nil},
		{"accept my closed one", shut, ann, accept(ann), shut, ann, switchboard.ErrConflict, nil},
		{"accept another's closed one", shut, bob, accept(ann), shut, bob, switchboard.ErrNotFound, nil},

		{"decline a waiting chat", fresh, nil, decline(ann), fresh, nil, nil, nil},
		{"decline one offered to me", offer, ann, decline(ann), fresh, nil, nil, []string{"chat.updated from ann to all", "chat.offered to all"}},
		{"decline one offered to all", offer, nil, decline(ann), fresh, nil, nil, []string{"chat.updated to all", "chat.offered to all"}},
		{"decline one offered to another", offer, bob, decline(ann), offer, bob, switchboard.ErrNotFound, nil},
		{"decline my open one", opened, ann, decline(ann), opened, ann, switchboard.ErrConflict, nil},
		{"decline another's", opened, bob, decline(ann), opened, bob, switchboard.ErrNotFound, nil},
		{"skip a waiting chat", fresh, nil, skip(ann), fresh, nil, nil, []string{"chat.updated to all"}},
		{"skip one offered to me", offer, ann, skip(ann), fresh, nil, nil, []string{"chat.updated from ann to all", "chat.offered to all"}},

		{"close mine", opened, ann, closing(ann), shut, ann, nil, []string{"chat.updated of ann"}},
		{"close mine again", shut, ann, closing(ann), shut, ann, nil, nil},
		{"close another's", opened, bob, closing(ann), opened, bob, switchboard.ErrNotFound, nil},
		{"close one that waits", fresh, nil, closing(ann), fresh, nil, switchboard.ErrForbidden, nil},
		{"close one offered to me", offer, ann, closing(ann), offer, ann, switchboard.ErrForbidden, nil},
		{"supervisor closes one that waits", fresh, nil, closing(boss), shut, nil, nil, []string{"chat.updated to all"}},
		{"supervisor closes another's", opened, bob, closing(boss), shut, bob, nil, []string{"chat.updated of bob"}},

		{"transfer mine", opened, ann, transfer(ann, bob, ""), opened, bob, nil, []string{"chat.updated of bob from ann"}},
		{"transfer mine to myself", opened, ann, transfer(ann, ann, ""), opened, ann, nil, nil},
		{"transfer another's to me", opened, bob, transfer(ann, ann, ""), opened, bob, switchboard.ErrNotFound, nil},
		{"transfer one that waits", fresh, nil, transfer(ann, ann, ""), fresh, nil, switchboard.ErrForbidden, nil},
		{"supervisor assigns one that waits", fresh, nil, transfer(boss, bob, ""), opened, bob, nil, []string{"chat.updated of bob to all"}},
		{"supervisor takes another's", opened, bob, transfer(boss, boss, ""), opened, boss, nil, []string{"chat.updated of boss from bob"}},
		{"transfer a closed one", shut, ann, transfer(ann, bob, ""), shut, ann, switchboard.ErrConflict, nil},
		{"transfer to a skill", opened, ann, transfer(ann, nil, "billing"), fresh, nil, nil, []string{"chat.updated from ann to all", "chat.offered to all"}},
		{"transfer to nobody", opened, ann, transfer(ann, nil, ""), opened, ann, switchboard.ErrInvalid, nil},
		{"transfer to both", opened, ann, transfer(ann, bob, "billing"), opened, ann, switchboard.ErrInvalid, nil},
		{"transfer to a stranger", opened, ann, transfer(ann, func(*chatRoom) who { return who{ID: db.NewID()} }, ""), opened, ann, switchboard.ErrNotFound, nil},

		{"start one that waits", fresh, nil, start(ann), opened, ann, nil, []string{"chat.updated of ann to all"}},
		{"start a closed one", shut, bob, start(ann), opened, ann, nil, []string{"chat.updated of ann"}},
		{"start my open one", opened, ann, start(ann), opened, ann, nil, nil},
		{"start another's", opened, bob, start(ann), opened, bob, switchboard.ErrConflict, nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := room(t)
			var holder *switchboard.Operator
			if tc.holder != nil {
				holder = new(tc.holder(r))
			}
			id := r.chat(t, "c", tc.state, holder)
			got, err := tc.call(t.Context(), r, id)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			stored, readErr := r.d.Chat(t.Context(), id)
			if readErr != nil {
				t.Fatal(readErr)
			}
			owner := ""
			if tc.owner != nil {
				owner = tc.owner(r).ID
			}
			if stored.State != tc.want || deref(stored.OperatorID) != owner {
				t.Errorf("chat is %s of %q, want %s of %q", stored.State, deref(stored.OperatorID), tc.want, owner)
			}
			if waits := stored.State == fresh || stored.State == offer; waits != (stored.QueuedAt != nil) {
				t.Errorf("a chat that is %s has queued_at %v", stored.State, stored.QueuedAt)
			}
			if err == nil {
				a, _ := json.Marshal(got)
				b, _ := json.Marshal(stored)
				if string(a) != string(b) {
					t.Errorf("returned %s\nstored   %s", a, b)
				}
			}
			if events := r.events(); !slices.Equal(events, tc.events) {
				t.Errorf("events %q, want %q", events, tc.events)
			}
		})
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func TestOnlyOneAccepts(t *testing.T) {
	t.Parallel()
	r := room(t)
	id := r.chat(t, "c", switchboard.ChatNew, nil)
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 12 {
		o := operator(t, r.d, fmt.Sprint("racer", i), switchboard.RoleOperator)
		wg.Go(func() {
			switch _, err := r.d.AcceptChat(t.Context(), o, id); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, switchboard.ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || len(r.events()) != 1 {
		t.Errorf("%d operators got the chat, want 1, with 1 event", won.Load())
	}
}

func TestUnknownChat(t *testing.T) {
	t.Parallel()
	r := room(t)
	_, err := r.d.AcceptChat(t.Context(), r.ann, db.NewID())
	if !errors.Is(err, switchboard.ErrNotFound) {
		t.Errorf("accepting an unknown chat: %v", err)
	}
}

func TestQueueOrder(t *testing.T) {
	t.Parallel()
	r := room(t)
	a, b, c := r.chat(t, "a", switchboard.ChatNew, nil), r.chat(t, "b", switchboard.ChatNew, nil), r.chat(t, "c", switchboard.ChatNew, nil)
	if _, err := r.d.SkipChat(t.Context(), r.ann, a); err != nil {
		t.Fatal(err)
	}
	var got []string
	cursor := ""
	for page := 0; page == 0 || cursor != ""; page++ {
		chats, next, err := r.d.ListChats(t.Context(), r.ann.ID, switchboard.ChatNew, 1, cursor)
		if err != nil || len(chats) != 1 || page > 2 {
			t.Fatalf("page %d: %d chats, %v", page, len(chats), err)
		}
		if chats[0].LastMessage == nil {
			t.Error("the last message is missing")
		}
		got = append(got, chats[0].ID)
		cursor = next
	}
	if want := []string{b, c, a}; !slices.Equal(got, want) {
		t.Errorf("queue is %v, want %v", got, want)
	}
}

func TestListAndFirstChats(t *testing.T) {
	t.Parallel()
	r := room(t)
	chats := map[string]string{}
	for _, c := range []struct {
		key   string
		state switchboard.ChatState
		who   *switchboard.Operator
	}{
		{"waits 1", switchboard.ChatNew, nil},
		{"ann open", switchboard.ChatOpen, &r.ann},
		{"ann closed", switchboard.ChatClosed, &r.ann},
		{"bob open", switchboard.ChatOpen, &r.bob},
		{"bob closed", switchboard.ChatClosed, &r.bob},
		{"ann offered", switchboard.ChatOffered, &r.ann},
		{"bob offered", switchboard.ChatOffered, &r.bob},
		{"all offered", switchboard.ChatOffered, nil},
		{"waits 2", switchboard.ChatNew, nil},
	} {
		chats[r.chat(t, c.key, c.state, c.who)] = c.key
	}
	names := func(list []switchboard.Chat) (out []string) {
		for _, c := range list {
			out = append(out, chats[c.ID])
		}
		return out
	}
	for _, tc := range []struct {
		viewer string
		state  switchboard.ChatState
		want   []string
	}{
		{r.ann.ID, "", []string{"waits 2", "all offered", "ann offered", "ann closed", "ann open", "waits 1"}},
		{r.ann.ID, switchboard.ChatOpen, []string{"ann open"}},
		{r.ann.ID, switchboard.ChatClosed, []string{"ann closed"}},
		{r.ann.ID, switchboard.ChatOffered, []string{"ann offered", "all offered"}},
		{r.ann.ID, switchboard.ChatNew, []string{"waits 1", "waits 2"}},
		{"", "", []string{"waits 2", "all offered", "bob offered", "ann offered", "bob closed", "bob open", "ann closed", "ann open", "waits 1"}},
		{"", switchboard.ChatOpen, []string{"bob open", "ann open"}},
		{"", switchboard.ChatClosed, []string{"bob closed", "ann closed"}},
		{"", switchboard.ChatOffered, []string{"ann offered", "bob offered", "all offered"}},
	} {
		for _, limit := range []int{1, 2, 100} {
			var all []switchboard.Chat
			cursor := ""
			for first := true; first || cursor != ""; first = false {
				page, next, err := r.d.ListChats(t.Context(), tc.viewer, tc.state, limit, cursor)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) > limit {
					t.Fatalf("a page of %d, limit %d", len(page), limit)
				}
				all = append(all, page...)
				cursor = next
			}
			if got := names(all); !slices.Equal(got, tc.want) {
				t.Errorf("viewer %q, state %q, pages of %d: %q, want %q", tc.viewer, tc.state, limit, got, tc.want)
			}
		}
	}
	for _, bad := range []string{"x", "!!", "aSB4", "cSAwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDAgNQ"} {
		if _, _, err := r.d.ListChats(t.Context(), "", "", 10, bad); !errors.Is(err, switchboard.ErrInvalid) {
			t.Errorf("cursor %q: %v, want ErrInvalid", bad, err)
		}
	}

	mine, err := r.d.OperatorChats(t.Context(), r.ann.ID, 2)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(mine), []string{"ann offered", "ann open", "waits 1", "all offered"}; !slices.Equal(got, want) {
		t.Errorf("ann starts with %q, want %q", got, want)
	}
	holders, err := r.d.ChatHolders(t.Context(), slices.Collect(func(yield func(string) bool) {
		for id := range chats {
			if !yield(id) {
				return
			}
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	for id, name := range chats {
		full, err := r.d.Chat(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range []switchboard.Operator{r.ann, r.bob, r.boss} {
			if o.MaySee(holders[id]) != o.MaySee(full) {
				t.Errorf("%s may see %q: the holder says %v", o.Login, name, !o.MaySee(full))
			}
		}
	}
}

func TestStartChatMakesIt(t *testing.T) {
	t.Parallel()
	r := room(t)
	ctx := t.Context()
	if _, err := r.d.StartChat(ctx, r.ann, r.acc, "stranger", false); !errors.Is(err, switchboard.ErrNotFound) {
		t.Errorf("without create: %v, want ErrNotFound", err)
	}
	if _, err := r.d.StartChat(ctx, r.ann, db.NewID(), "stranger", true); !errors.Is(err, switchboard.ErrNotFound) {
		t.Errorf("unknown account: %v, want ErrNotFound", err)
	}
	var wg sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		wg.Go(func() {
			c, err := r.d.StartChat(ctx, r.ann, r.acc, "stranger", true)
			if err != nil {
				t.Error(err)
				return
			}
			if c.Customer == nil || c.Customer.ExternalID != "stranger" || c.State != switchboard.ChatOpen || deref(c.OperatorID) != r.ann.ID {
				t.Errorf("started %+v", c)
			}
			ids[i] = c.ID
		})
	}
	wg.Wait()
	if slices.Sort(ids); ids[0] != ids[len(ids)-1] {
		t.Errorf("one customer got several chats: %v", ids)
	}
	if got := r.events(); !slices.Equal(got, []string{"chat.updated of ann"}) {
		t.Errorf("events %q", got)
	}
	// The customer answers into the same chat.
	appendAll(t, r.d, raw(r.acc, "answer", text("stranger", "7", "hello?")))
	drainAll(t, r.d)
	c, err := r.d.Chat(ctx, ids[0])
	if err != nil || c.LastSeq != 1 || c.State != switchboard.ChatOpen || c.Customer.Name != "Ann" {
		t.Errorf("after the answer: %+v, %v", c, err)
	}
}

func TestCustomerByPhone(t *testing.T) {
	t.Parallel()
	r := room(t)
	u := text("77", "1", "hi")
	u.Customer.Phone = "+79001234567"
	appendAll(t, r.d, raw(r.acc, "phone", u))
	drainAll(t, r.d)
	if got, err := r.d.CustomerByPhone(t.Context(), r.acc, "+79001234567"); err != nil || got != "77" {
		t.Errorf("found %q, %v", got, err)
	}
	for _, tc := range [][2]string{{r.acc, "+79000000000"}, {account(t, r.d), "+79001234567"}} {
		if _, err := r.d.CustomerByPhone(t.Context(), tc[0], tc[1]); !errors.Is(err, switchboard.ErrNotFound) {
			t.Errorf("account %s: %v, want ErrNotFound", tc[0], err)
		}
	}
}

func TestReadMovesForward(t *testing.T) {
	t.Parallel()
	r := room(t)
	ctx := t.Context()
	id := r.chat(t, "c", switchboard.ChatOpen, &r.ann) // seq 1 in
	send(t, r.d, id, "how can I help?")                // seq 2 out
	appendAll(t, r.d, raw(r.acc, "b", text("c", "b", "two")), raw(r.acc, "d", text("c", "d", "three")))
	drainAll(t, r.d) // seq 3 and 4 in
	r.events()
	for _, step := range []struct {
		seq, read int64
		unread    int
		news      bool
	}{{1, 1, 2, true}, {3, 3, 1, true}, {2, 3, 1, false}, {99, 4, 0, true}, {4, 4, 0, false}} {
		c, _, err := r.d.ReadChat(ctx, r.ann, id, step.seq)
		if err != nil {
			t.Fatal(err)
		}
		if c.ReadSeq != step.read || c.Unread != step.unread {
			t.Errorf("read %d: read_seq %d unread %d, want %d and %d", step.seq, c.ReadSeq, c.Unread, step.read, step.unread)
		}
		if got := r.events(); (len(got) == 1) != step.news {
			t.Errorf("read %d: events %q", step.seq, got)
		}
	}
	if _, _, err := r.d.ReadChat(ctx, r.bob, id, 4); !errors.Is(err, switchboard.ErrNotFound) {
		t.Errorf("another's chat: %v, want ErrNotFound", err)
	}
	if _, key, err := r.d.ChatKey(ctx, id); err != nil || key != "c" {
		t.Errorf("ChatKey = %q, %v", key, err)
	}
}

func TestPresence(t *testing.T) {
	t.Parallel()
	r := room(t)
	ctx := t.Context()
	check := func(what string, want switchboard.Presence, events ...string) {
		t.Helper()
		o, err := r.d.Operator(ctx, r.ann.ID)
		if err != nil || o.Presence != want {
			t.Errorf("%s: %s, %v; want %s", what, o.Presence, err, want)
		}
		if got := r.events(); !slices.Equal(got, events) {
			t.Errorf("%s: events %q, want %q", what, got, events)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const event = "operator.presence of ann to all"
	must(r.d.OperatorCame(ctx, r.ann.ID))
	check("came", switchboard.PresenceOnline, event)
	must(r.d.OperatorCame(ctx, r.ann.ID))
	check("came again", switchboard.PresenceOnline)
	must(r.d.SetPresence(ctx, r.ann.ID, switchboard.PresenceAway))
	check("away", switchboard.PresenceAway, event)
	must(r.d.OperatorCame(ctx, r.ann.ID))
	check("came while away", switchboard.PresenceAway)
	if err := r.d.SetPresence(ctx, r.ann.ID, "asleep"); !errors.Is(err, switchboard.ErrInvalid) {
		t.Errorf("unknown presence: %v", err)
	}

	old := func() {
		t.Helper()
		_, err := r.pool.Exec(ctx, `update operators set presence_at = now() - interval '1 minute'`)
		must(err)
	}
	old()
	must(r.d.TouchPresence(ctx, []string{r.bob.ID, r.ann.ID}))
	if n, err := r.d.ExpirePresence(ctx, 15*time.Second); n != 0 || err != nil {
		t.Errorf("expired %d, %v although touched", n, err)
	}
	old()
	if n, err := r.d.ExpirePresence(ctx, 15*time.Second); n != 1 || err != nil {
		t.Errorf("expired %d, %v; want 1", n, err)
	}
	check("expired", switchboard.PresenceOffline, event)
	var payload map[string]string
	must(json.Unmarshal(scalar[[]byte](t, r.pool, `select payload from events order by id desc limit 1`), &payload))
	if want := map[string]string{"operator_id": r.ann.ID, "name": "Name of ann", "status": "offline"}; fmt.Sprint(payload) != fmt.Sprint(want) {
		t.Errorf("payload %v, want %v", payload, want)
	}
}
