package db_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/message"
)

// aliased is a text in a chat whose key is not the customer's id.
func aliased(chat, user, id, body string) message.Update {
	u := text(chat, id, body)
	u.Customer.ID = "user:" + user
	u.Aliases = []string{"user:" + user, user, "", chat}
	return u
}

// The history, the seqs and the operator of a chat begun by the customer's id
// stay when the customer answers under the platform's key.
func TestAnswerGoesOnInTheChatBegun(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"user:7", "7"} {
		for _, by := range []string{"operator", "script"} {
			t.Run(form+" by "+by, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				r := room(t)
				var id string
				begin := func() string {
					t.Helper()
					if by == "script" {
						id, err := r.d.ChatFor(ctx, r.acc, switchboard.Recipient{ExternalID: form})
						if err != nil {
							t.Fatal(err)
						}
						return id
					}
					c, err := r.d.StartChat(ctx, r.ann, r.acc, form, true)
					if err != nil {
						t.Fatal(err)
					}
					return c.ID
				}
				id = begin()
				before, err := r.d.Chat(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := r.d.SendMessage(ctx, queue.Send{ChatID: id, Content: message.Content{Kind: message.KindText, Text: "good day"}}); err != nil {
					t.Fatal(err)
				}
				appendAll(t, r.d, raw(r.acc, "answer", aliased("chat:C7", "7", "m1", "and to you")), raw(r.acc, "other", aliased("chat:C8", "8", "m1", "somebody else")))
				drainAll(t, r.d)
				c, err := r.d.Chat(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				if c.LastSeq != 2 || c.Unread != 1 || c.Customer.ExternalID != "user:7" || c.Customer.Name != "Ann" || deref(c.OperatorID) != deref(before.OperatorID) {
					t.Errorf("after the answer: %+v, customer %+v", c, c.Customer)
				}
				if want := map[string]switchboard.ChatState{"operator": switchboard.ChatOpen, "script": switchboard.ChatNew}[by]; c.State != want {
					t.Errorf("the chat is %s, want %s", c.State, want)
				}
				if _, key, err := r.d.ChatKey(ctx, id); err != nil || key != "chat:C7" {
					t.Errorf("key %q, %v", key, err)
				}
				if n := scalar[int](t, r.pool, `select count(*) from chats where external_id in ('7', 'user:7', 'chat:C7')`); n != 1 {
					t.Errorf("%d chats with one customer", n)
				}
				for _, to := range []switchboard.Recipient{{ExternalID: "7"}, {ExternalID: "user:7"}, {ExternalID: "chat:C7"}, {CustomerID: before.Customer.ID}, {CustomerID: c.Customer.ID}} {
					if got, err := r.d.ChatFor(ctx, r.acc, to); err != nil || got != id {
						t.Errorf("sends to %+v go to %s, %v, want %s", to, got, err, id)
					}
				}
				for _, key := range []string{"7", "user:7", "chat:C7"} {
					if got, err := r.d.StartChat(ctx, r.ann, r.acc, key, true); err != nil || got.ID != id {
						t.Errorf("begun by %s: %s, %v, want %s", key, got.ID, err, id)
					}
				}
				if n := scalar[int](t, r.pool, `select count(*) from chats where external_id in ('7', 'user:7')`); n != 0 {
					t.Errorf("%d chats were made anew", n)
				}
			})
		}
	}
}

// An operator begins by the customer's id in the very moment when the customer
// writes for the first time: whoever comes first, it is one chat.
func TestBegunWhileTheCustomerWrites(t *testing.T) {
	t.Parallel()
	const pairs = 24
	r := room(t)
	ctx := t.Context()
	var updates []queue.RawUpdate
	for i := range pairs {
		n := strconv.Itoa(i)
		updates = append(updates, raw(r.acc, n, aliased("chat:C"+n, n, "m"+n, "hi")))
	}
	appendAll(t, r.d, updates...)
	var wg sync.WaitGroup
	wg.Go(func() { drainAll(t, r.d) })
	begun := make([][]string, pairs)
	for i := range pairs {
		begun[i] = make([]string, 3)
		for j, key := range []string{"user:" + strconv.Itoa(i), "user:" + strconv.Itoa(i), "chat:C" + strconv.Itoa(i)}[:2+i%2] {
			wg.Go(func() {
				var err error
				if j == 0 {
					var c switchboard.Chat
					c, err = r.d.StartChat(ctx, r.ann, r.acc, key, true)
					begun[i][j] = c.ID
				} else {
					begun[i][j], err = r.d.ChatFor(ctx, r.acc, switchboard.Recipient{ExternalID: key})
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if n := scalar[int](t, r.pool, `select count(*) from quarantine`); n != 0 {
		t.Errorf("%d updates were set aside", n)
	}
	for i := range pairs {
		n := strconv.Itoa(i)
		id, err := r.d.ChatFor(ctx, r.acc, switchboard.Recipient{ExternalID: "user:" + n})
		if err != nil {
			t.Fatal(err)
		}
		c, err := r.d.Chat(ctx, id)
		if err != nil || c.LastSeq != 1 {
			t.Errorf("customer %d: sends go to a chat with %d messages, %v", i, c.LastSeq, err)
		}
		if i%2 == 1 {
			continue // begun by both keys at once: nobody could know that they are one
		}
		if begun[i][0] != id || begun[i][1] != id {
			t.Errorf("customer %d has the chats %v and %s", i, begun[i], id)
		}
		if c.State != switchboard.ChatOpen || deref(c.OperatorID) != r.ann.ID {
			t.Errorf("customer %d: the chat is %s", i, c.State)
		}
	}
}

// The order that the scheduler seldom gives: the operator's transaction has made
// the chat and not yet committed when the customer's message is taken, and the
// other way round.
func TestBeginningsWaitForEachOther(t *testing.T) {
	t.Parallel()
	waiting := func(r *chatRoom) bool {
		return scalar[bool](t, r.pool, `select exists (select 1 from pg_locks l join pg_database b on b.oid = l.database
			where b.datname = current_database() and l.locktype = 'advisory' and not l.granted)`)
	}
	t.Run("the operator first", func(t *testing.T) {
		t.Parallel()
		r := room(t)
		ctx := t.Context()
		appendAll(t, r.d, raw(r.acc, "1", aliased("chat:C7", "7", "m1", "hi")))
		// StartChat stops at the customer's row, having the lock of its key.
		hold, err := r.pool.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit
		if _, err := hold.Exec(ctx, `insert into customers (id, account_id, external_id) values (gen_random_uuid(), $1, 'user:7')`, r.acc); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var begun switchboard.Chat
		wg.Go(func() {
			var err error
			if begun, err = r.d.StartChat(ctx, r.ann, r.acc, "user:7", true); err != nil {
				t.Error(err)
			}
		})
		until(t, "the operator holds the lock", func() bool {
			return scalar[bool](t, r.pool, `select exists (select 1 from pg_locks l join pg_database b on b.oid = l.database
				where b.datname = current_database() and l.locktype = 'advisory' and l.classid = 7305 and l.granted)`)
		})
		wg.Go(func() { drainAll(t, r.d) })
		until(t, "the lane waits", func() bool { return waiting(r) })
		if err := hold.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		one(t, r, begun.ID)
	})
	t.Run("the customer first", func(t *testing.T) {
		t.Parallel()
		r := room(t)
		ctx := t.Context()
		appendAll(t, r.d, raw(r.acc, "1", aliased("chat:C7", "7", "m1", "hi")))
		// The lane stops at the events, with everything else written.
		hold, err := r.pool.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // after a commit
		if _, err := hold.Exec(ctx, `lock table events in exclusive mode`); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { drainAll(t, r.d) })
		until(t, "the lane holds the lock", func() bool {
			return scalar[bool](t, r.pool, `select exists (select 1 from pg_locks l join pg_database b on b.oid = l.database
				where b.datname = current_database() and l.locktype = 'advisory' and l.classid = 7305 and l.granted)`)
		})
		var begun switchboard.Chat
		wg.Go(func() {
			var err error
			if begun, err = r.d.StartChat(ctx, r.ann, r.acc, "user:7", true); err != nil {
				t.Error(err)
			}
		})
		until(t, "the operator waits", func() bool { return waiting(r) })
		if err := hold.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		one(t, r, begun.ID)
	})
}

func one(t *testing.T, r *chatRoom, id string) {
	t.Helper()
	if n := scalar[int](t, r.pool, `select count(*) from chats where account_id = $1 and external_id <> 'c'`, r.acc); n != 1 {
		t.Errorf("%d chats with one customer", n)
	}
	if c, err := r.d.Chat(t.Context(), id); err != nil || c.LastSeq != 1 || deref(c.OperatorID) != r.ann.ID {
		t.Errorf("the operator's chat: %+v, %v", c, err)
	}
	if _, key, err := r.d.ChatKey(t.Context(), id); err != nil || key != "chat:C7" {
		t.Errorf("its key: %q, %v", key, err)
	}
}

// Where both chats are there already, both keep their history, and what is sent
// by the customer's id goes to the one in which the customer writes.
func TestTwoChatsOfOldStayTwo(t *testing.T) {
	t.Parallel()
	r := room(t)
	ctx := t.Context()
	old, err := r.d.StartChat(ctx, r.ann, r.acc, "user:7", true)
	if err != nil {
		t.Fatal(err)
	}
	first := aliased("chat:C7", "7", "m1", "hi")
	first.Aliases = nil // as it was
	appendAll(t, r.d, raw(r.acc, "1", first))
	drainAll(t, r.d)
	appendAll(t, r.d, raw(r.acc, "2", aliased("chat:C7", "7", "m2", "hello?")))
	drainAll(t, r.d)
	if _, key, err := r.d.ChatKey(ctx, old.ID); err != nil || key != "user:7" {
		t.Errorf("the old chat's key is %q, %v", key, err)
	}
	for _, to := range []switchboard.Recipient{{ExternalID: "user:7"}, {ExternalID: "7"}, {CustomerID: old.Customer.ID}} {
		id, err := r.d.ChatFor(ctx, r.acc, to)
		if err != nil || id == old.ID {
			t.Fatalf("%+v: %s, %v", to, id, err)
		}
		if c, err := r.d.Chat(ctx, id); err != nil || c.LastSeq != 2 {
			t.Errorf("%+v: a chat with %d messages, %v", to, c.LastSeq, err)
		}
	}
}

// Both forms of the id were used before the customer answered: the chat that is
// in use goes on, and what is sent by either form goes there.
func TestOfSeveralBegunTheOneInUseGoesOn(t *testing.T) {
	t.Parallel()
	r := room(t)
	ctx := t.Context()
	used, err := r.d.StartChat(ctx, r.ann, r.acc, "user:7", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.d.ChatFor(ctx, r.acc, switchboard.Recipient{ExternalID: "7"}); err != nil {
		t.Fatal(err)
	}
	appendAll(t, r.d, raw(r.acc, "1", aliased("chat:C7", "7", "m1", "hi")))
	if done := drainAll(t, r.d); done.Quarantined != 0 {
		t.Fatalf("drained %+v", done)
	}
	for _, key := range []string{"7", "user:7", "chat:C7"} {
		if id, err := r.d.ChatFor(ctx, r.acc, switchboard.Recipient{ExternalID: key}); err != nil || id != used.ID {
			t.Errorf("%s: %s, %v, want %s", key, id, err, used.ID)
		}
	}
}

// The members of a group have ids that are keys of their private chats: what they
// write in the group leaves those alone, and so does another account's customer.
func TestGroupsAndOtherAccountsAreLeftAlone(t *testing.T) {
	t.Parallel()
	r := room(t)
	ctx := t.Context()
	private, err := r.d.StartChat(ctx, r.ann, r.acc, "55", true)
	if err != nil {
		t.Fatal(err)
	}
	inGroup := text("-100200", "m1", "hello all")
	inGroup.Customer.ID = "55"
	elsewhere := aliased("chat:C55", "55", "m1", "hi")
	appendAll(t, r.d, raw(r.acc, "1", inGroup), raw(account(t, r.d), "1", elsewhere))
	drainAll(t, r.d)
	if c, err := r.d.Chat(ctx, private.ID); err != nil || c.LastSeq != 0 {
		t.Errorf("the private chat: %+v, %v", c, err)
	}
	if _, key, err := r.d.ChatKey(ctx, private.ID); err != nil || key != "55" {
		t.Errorf("the private chat's key: %q, %v", key, err)
	}
	if id, err := r.d.ChatFor(ctx, r.acc, switchboard.Recipient{ExternalID: "55"}); err != nil || id != private.ID {
		t.Errorf("sends to the member go to %s, %v", id, err)
	}
	if n := scalar[int](t, r.pool, `select count(*) from chat_aliases where account_id = $1`, r.acc); n != 0 {
		t.Errorf("%d aliases", n)
	}
}

// A report alone shows the platform's key of a chat that was begun by an alias,
// makes no chat, and finds its message.
func TestReportComesUnderThePlatformsKey(t *testing.T) {
	t.Parallel()
	r := room(t)
	ctx := t.Context()
	typing := message.Update{Kind: message.UpdateTyping, Chat: "chat:C7", Aliases: []string{"user:7"}}
	appendAll(t, r.d, raw(r.acc, "1", typing))
	drainAll(t, r.d)
	if _, err := r.d.StartChat(ctx, r.ann, r.acc, "user:7", false); !errors.Is(err, switchboard.ErrNotFound) {
		t.Errorf("a chat out of nothing: %v", err)
	}
	c, err := r.d.StartChat(ctx, r.ann, r.acc, "user:7", true)
	if err != nil {
		t.Fatal(err)
	}
	r.events()
	appendAll(t, r.d, raw(r.acc, "2", typing))
	drainAll(t, r.d)
	if got := r.events(); !slices.Equal(got, []string{"customer.typing of ann"}) {
		t.Errorf("events %q", got)
	}
	if _, key, err := r.d.ChatKey(ctx, c.ID); err != nil || key != "chat:C7" {
		t.Errorf("key %q, %v", key, err)
	}
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}
