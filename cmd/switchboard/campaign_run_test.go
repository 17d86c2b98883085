package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/config"
	"switchboard/internal/dbtest"
	"switchboard/internal/queue"
	"switchboard/internal/secret"
	"switchboard/message"
	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

// whom is a recipient of a test's campaign.
type whom struct {
	kind     int
	address  string
	timezone string
	vars     map[string]string
}

// bulk is a campaign of a test.
type bulk struct {
	*world
	id   string
	pool *pgxpool.Pool
}

type js = map[string]any

// bulk makes a campaign, of which nothing is sent yet.
func (w *world) bulk(definition js, to ...whom) *bulk {
	w.t.Helper()
	raw, err := json.Marshal(definition)
	if err != nil {
		w.t.Fatal(err)
	}
	add := switchboard.Campaign{Name: fmt.Sprint(definition["name"]), Definition: raw, CreatedBy: "test"}
	if s, ok := definition["schedule"].(js); ok {
		if at, ok := s["start_at"].(time.Time); ok {
			add.StartAt = &at
		}
		if at, ok := s["stop_at"].(time.Time); ok {
			add.StopAt = &at
		}
	}
	c, err := w.sys.db.AddCampaign(w.t.Context(), queue.Once{}, add)
	if err != nil {
		w.t.Fatal(err)
	}
	b := &bulk{world: w, id: c.ID, pool: w.sys.db.Pool()}
	for i, r := range to {
		var vars *string
		if r.vars != nil {
			text, _ := json.Marshal(r.vars)
			vars = new(string(text))
		}
		b.exec(`insert into campaign_recipients (campaign_id, n, kind, address, timezone, vars) values ($1, $2, $3, $4, nullif($5, ''), $6::jsonb)`, b.id, i+1, r.kind, r.address, r.timezone, vars)
	}
	b.exec(`update campaigns set accepted = $2 where id = $1`, b.id, len(to))
	b.exec(`insert into campaign_counts (campaign_id, status, delta) values ($1, 'queued', $2)`, b.id, len(to))
	return b
}

func (b *bulk) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.pool.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

func (b *bulk) do(action string) {
	b.t.Helper()
	if _, err := b.sys.db.MoveCampaign(b.t.Context(), queue.Once{}, "test", b.id, action); err != nil {
		b.t.Fatal(err)
	}
	b.sys.bus.Wake("campaigns")
}

// outcome is how many recipients have which status, with what the campaign is.
func (b *bulk) outcome() (string, map[string]int) {
	b.t.Helper()
	var state string
	if err := b.pool.QueryRow(b.t.Context(), `select state from campaigns where id = $1`, b.id).Scan(&state); err != nil {
		b.t.Fatal(err)
	}
	rows, err := b.pool.Query(b.t.Context(), `select status, count(*) from campaign_recipients where campaign_id = $1 group by 1`, b.id)
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	got := map[string]int{}
	for rows.Next() {
		var s string
		var n int
		if err := rows.Scan(&s, &n); err != nil {
			b.t.Fatal(err)
		}
		got[s] = n
	}
	return state, got
}

// ends waits until the campaign is in a state and its recipients are as wanted, and
// the counts say the same.
func (b *bulk) ends(state string, want map[string]int) {
	b.t.Helper()
	var got map[string]int
	var now string
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if now, got = b.outcome(); now == state && maps.Equal(got, want) {
			break
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("the campaign is %s with %v, want %s with %v\n%s", now, got, state, want, b.tell())
		}
	}
	c, err := b.sys.db.Campaign(b.t.Context(), b.id)
	if err != nil {
		b.t.Fatal(err)
	}
	text, _ := json.Marshal(c.Counts)
	counts := map[string]int{}
	_ = json.Unmarshal(text, &counts)
	total := counts["total"]
	delete(counts, "total")
	maps.DeleteFunc(counts, func(_ string, n int) bool { return n == 0 })
	sum := 0
	for _, n := range want {
		sum += n
	}
	if !maps.Equal(counts, want) || total != sum {
		b.t.Errorf("the counts are %s, want %v", text, want)
	}
}

// tell is what is known of a campaign, for a failure.
func (b *bulk) tell() string {
	var text string
	err := b.pool.QueryRow(b.t.Context(), `select coalesce(string_agg(concat_ws(' ', 'n', r.n, r.state, r.status, r.reason, 'step', r.step, 'round', r.round, 'due', r.due_at, 'message',
		(select concat_ws(' ', m.status, m.error) from messages m where m.id = r.message_id)), E'\n'), '') from (select * from campaign_recipients where campaign_id = $1 order by n limit 20) r`, b.id).Scan(&text)
	if err != nil {
		return err.Error()
	}
	var outbox string
	_ = b.pool.QueryRow(b.t.Context(), `select coalesce(string_agg(row_to_json(o)::text || ' ' || row_to_json(c)::text, E'\n'), '') from (select * from outbox limit 5) o join outbox_chats c using (chat_id)`).Scan(&outbox)
	return text + "\n" + outbox
}

// got is what customers were sent by campaigns.
func got(c human) (texts []string) {
	for _, m := range c.Messages() {
		if m.From == simulator.FromBot {
			texts = append(texts, m.Text)
		}
	}
	return texts
}

func viberID(n int) string {
	raw := fmt.Appendf(nil, "customer %06d...", n)
	return base64.StdEncoding.EncodeToString(raw[:16])
}

// vibers makes customers of Viber who can be written to.
func (w *world) vibers(n int, receipts string) (all []*simulator.ViberCustomer, to []whom) {
	w.t.Helper()
	for i := range n {
		c, err := w.sim.Viber(viberToken).NewCustomer(simulator.CustomerSpec{ID: viberID(i), FirstName: fmt.Sprint("V", i), Started: true, Receipts: receipts})
		if err != nil {
			w.t.Fatal(err)
		}
		all, to = append(all, c), append(to, whom{kind: queue.ByExternalID, address: c.ID(), vars: map[string]string{"name": fmt.Sprint("V", i)}})
	}
	return all, to
}

func step(account string, more js) js {
	s := js{"account_id": account}
	maps.Copy(s, more)
	return s
}

func TestCampaign(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, nil)
	people, to := w.vibers(60, "")
	b := w.bulk(js{"name": "autumn", "content": js{"text": "Hello {{name}}"}, "steps": []js{step(viber, nil)}}, to...)
	b.do("start")
	b.ends("done", map[string]int{"read": len(to)})
	for i, c := range people {
		if texts := got(c); len(texts) != 1 || texts[0] != fmt.Sprint("Hello V", i) {
			t.Errorf("customer %d got %q", i, texts)
		}
	}
	var kind, name message.SenderKind
	if err := b.pool.QueryRow(t.Context(), `select min(sender_kind), max(sender_name) from messages where direction = 'out'`).Scan(&kind, &name); err != nil || kind != message.SenderCampaign || name != "Shop" {
		t.Errorf("sent by %q %q: %v", kind, name, err)
	}
}

// A customer whose phone is known at two accounts is reached over the second one
// when the first one brings nothing.
func TestCampaignCascade(t *testing.T) {
	t.Parallel()
	// A receipt that overtakes our own note of the send would come seconds late.
	sim, base := simtest.StartConfig(t, simulator.Config{DeliveredAfter: 300 * time.Millisecond})
	w := startOn(t, sim, base, dbtest.URLOf(t), bytes.Repeat([]byte{5}, secret.KeySize), func(*config.Config) {})
	viber, telegram := w.account("viber", viberToken, nil), w.account("telegram", telegramToken, nil)
	tg := w.sim.Telegram(telegramToken)
	const n = 12
	fates := []string{"none", "delivered", "failed"}
	var all []*simulator.ViberCustomer
	var to []whom
	others := make([]*simulator.TelegramCustomer, n)
	for i := range n {
		c, err := w.sim.Viber(viberToken).NewCustomer(simulator.CustomerSpec{ID: viberID(i), FirstName: "V", Started: true, Receipts: fates[i%3]})
		if err != nil {
			t.Fatal(err)
		}
		if others[i], err = tg.NewCustomer(simulator.CustomerSpec{FirstName: "T", Started: true}); err != nil {
			t.Fatal(err)
		}
		all, to = append(all, c), append(to, whom{kind: queue.ByPhone, address: fmt.Sprintf("+7926000%04d", i)})
		for account, id := range map[string]string{viber: c.ID(), telegram: others[i].ID()} {
			w.knows(account, id, to[i].address)
		}
	}
	b := w.bulk(js{"name": "cascade", "content": js{"text": "over Viber"}, "steps": []js{
		step(viber, js{"success": "delivered", "wait": "3s"}), step(telegram, js{"content": js{"text": "over Telegram"}})}}, to...)
	b.do("start")
	b.ends("done", map[string]int{"delivered": n / 3, "sent": n / 3 * 2})
	for i := range n {
		if texts := got(all[i]); len(texts) != 1 {
			t.Errorf("customer %d (%s) got %q over Viber", i, fates[i%3], texts)
		}
		want := 1
		if fates[i%3] == "delivered" {
			want = 0
		}
		if texts := got(others[i]); len(texts) != want {
			t.Errorf("customer %d (%s) got %q over Telegram", i, fates[i%3], texts)
		}
	}
	var steps string
	if err := b.pool.QueryRow(t.Context(), `select string_agg(step || ' ' || n, ', ' order by step) from (select step, count(*) n from campaign_recipients where status = 'sent' group by 1) x`).Scan(&steps); err != nil || (steps != "1 8" && steps != "0 4, 1 4") {
		t.Errorf("sent at steps %s: %v", steps, err)
	}
}

// knows puts a customer of an account into the phone book.
func (w *world) knows(account, id, phone string) {
	w.t.Helper()
	chat, err := w.sys.db.ChatFor(w.t.Context(), account, switchboard.Recipient{ExternalID: id})
	if err == nil {
		err = w.sys.db.NotePhone(w.t.Context(), chat, phone)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// What was said after the message was queued holds: a stop word, a block, an entry
// of a stop-list. So does a cancel, and a pause holds until it is over.
func TestCampaignGate(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, nil)
	people, to := w.vibers(8, "")
	for _, c := range people {
		c.SendText("hello")
	}
	pool := w.sys.db.Pool()
	eventually(t, patience, "everybody has written", func() bool {
		var n int
		return pool.QueryRow(t.Context(), `select count(*) from chats`).Scan(&n) == nil && n == len(people)
	})
	pause := func() {
		if err := w.sys.db.SetAccountState(t.Context(), viber, switchboard.AccountPaused, "test"); err != nil {
			t.Fatal(err)
		}
		w.sys.bus.Wake("accounts")
		eventually(t, patience, "the account is paused", func() bool {
			o, err := w.sys.registry.Get(t.Context(), viber)
			return err == nil && o.State == "paused"
		})
	}
	resume := func() {
		if err := w.sys.db.SetAccountState(t.Context(), viber, switchboard.AccountActive, ""); err != nil {
			t.Fatal(err)
		}
		w.sys.bus.Wake("accounts")
	}
	queued := func(b *bulk, n int) {
		eventually(t, patience, "the messages are queued", func() bool {
			var got int
			return pool.QueryRow(t.Context(), `select count(*) from outbox where campaign_id = $1`, b.id).Scan(&got) == nil && got == n
		})
	}
	// One of several phones of a customer.
	to = append(to, whom{kind: queue.ByPhone, address: "+79260000555"})
	last, err := w.sim.Viber(viberToken).NewCustomer(simulator.CustomerSpec{ID: viberID(99), FirstName: "L", Started: true})
	if err != nil {
		t.Fatal(err)
	}
	w.knows(viber, last.ID(), "+79260000556")
	if _, err := pool.Exec(t.Context(), `insert into phone_book select '+79260000555', customer_id, account_id, platform, 'contact' from phone_book`); err != nil {
		t.Fatal(err)
	}
	pause()
	b := w.bulk(js{"name": "gate", "content": js{"text": "buy"}, "steps": []js{step(viber, nil)}, "stop_lists": []string{"vip"}}, to...)
	b.do("start")
	queued(b, len(to))
	people[0].SendText("Стоп!")
	people[1].Unsubscribe()
	eventually(t, patience, "the stop word was noted", func() bool {
		var n int
		return pool.QueryRow(t.Context(), `select (select count(*) from suppressions) + (select count(*) from customers where not reachable)`).Scan(&n) == nil && n == 2
	})
	b.exec(`insert into suppressions (list, kind, address, reason) values ('global', 1, $1, 'lawyers'), ('vip', 1, $2, ''), ('other', 1, $3, ''), ('global', 2, '+79260000555', '')`, to[2].address, to[3].address, to[4].address)
	resume()
	b.ends("done", map[string]int{"skipped": 5, "read": 4})
	if n := len(got(last)); n != 0 {
		t.Errorf("the customer with two phones got %d messages", n)
	}
	to = to[:8]
	for i, c := range people {
		want := 0
		if i > 3 {
			want = 1
		}
		if n := len(got(c)); n != want {
			t.Errorf("customer %d got %d messages, want %d\n%s", i, n, want, b.tell())
		}
	}
	// The next campaign does not even queue them.
	again := w.bulk(js{"name": "again", "content": js{"text": "buy more"}, "steps": []js{step(viber, nil)}, "stop_lists": []string{"vip"}}, to...)
	again.do("start")
	again.ends("done", map[string]int{"skipped": 4, "read": 4})
	var made int
	if err := pool.QueryRow(t.Context(), `select count(*) from campaign_sends where campaign_id = $1`, again.id).Scan(&made); err != nil || made != 4 {
		t.Errorf("%d messages were made: %v", made, err)
	}
	// Who thinks better of it gets more.
	people[0].SendText("СТАРТ")
	eventually(t, patience, "the word was noted", func() bool {
		var n int
		return pool.QueryRow(t.Context(), `select count(*) from suppressions where source = 'stop word'`).Scan(&n) == nil && n == 0
	})

	pause()
	held := w.bulk(js{"name": "held", "content": js{"text": "wait"}, "steps": []js{step(viber, nil)}}, to[4:]...)
	held.do("start")
	queued(held, 4)
	held.do("pause")
	resume()
	queued(held, 0)
	if n := len(got(people[5])); n != 2 {
		t.Errorf("a paused campaign sent: %d messages", n)
	}
	// What an operator says goes on.
	chat, err := w.sys.db.ChatFor(t.Context(), viber, switchboard.Recipient{ExternalID: to[5].address})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.sys.db.SendMessage(t.Context(), queue.Send{ChatID: chat, Content: message.Content{Kind: message.KindText, Text: "answer"}, Sender: message.Sender{Kind: message.SenderOperator}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the answer comes", func() bool { return len(got(people[5])) == 3 })
	held.do("resume")
	held.ends("done", map[string]int{"read": 4})

	pause()
	gone := w.bulk(js{"name": "gone", "content": js{"text": "never"}, "steps": []js{step(viber, nil)}}, to[4:]...)
	gone.do("start")
	queued(gone, 4)
	gone.do("cancel")
	gone.ends("canceled", map[string]int{"canceled": 4})
	resume()
	queued(gone, 0)
	for i, c := range people[4:] {
		for _, text := range got(c) {
			if text == "never" {
				t.Errorf("customer %d got what was canceled", i)
			}
		}
	}
	eventually(t, patience, "the cancel is finished", func() bool {
		var done bool
		return pool.QueryRow(t.Context(), `select finished_at is not null from campaigns where id = $1`, gone.id).Scan(&done) == nil && done
	})
}

// A late success of the first step stops the second one, which waits for its
// account, and is what is reported.
func TestCampaignLateSuccess(t *testing.T) {
	t.Parallel()
	sim, base := simtest.StartConfig(t, simulator.Config{DeliveredAfter: 4 * time.Second})
	w := startOn(t, sim, base, dbtest.URLOf(t), bytes.Repeat([]byte{5}, secret.KeySize), func(*config.Config) {})
	viber, telegram := w.account("viber", viberToken, nil), w.account("telegram", telegramToken, nil)
	people, to := w.vibers(3, "delivered")
	for i, c := range people {
		other, err := w.sim.Telegram(telegramToken).NewCustomer(simulator.CustomerSpec{FirstName: "T", Started: true})
		if err != nil {
			t.Fatal(err)
		}
		to[i] = whom{kind: queue.ByPhone, address: fmt.Sprintf("+7926000%04d", i)}
		w.knows(viber, c.ID(), to[i].address)
		w.knows(telegram, other.ID(), to[i].address)
	}
	if err := w.sys.db.SetAccountState(t.Context(), telegram, switchboard.AccountPaused, "test"); err != nil {
		t.Fatal(err)
	}
	w.sys.bus.Wake("accounts")
	b := w.bulk(js{"name": "late", "content": js{"text": "hi"}, "steps": []js{step(viber, js{"success": "delivered", "wait": "1s"}), step(telegram, nil)}}, to...)
	b.do("start")
	eventually(t, patience, "the second step is queued", func() bool {
		var n int
		return b.pool.QueryRow(t.Context(), `select count(*) from campaign_sends where campaign_id = $1 and step = 1`, b.id).Scan(&n) == nil && n == len(to)
	})
	b.ends("done", map[string]int{"delivered": len(to)})
	if err := w.sys.db.SetAccountState(t.Context(), telegram, switchboard.AccountActive, ""); err != nil {
		t.Fatal(err)
	}
	w.sys.bus.Wake("accounts")
	eventually(t, patience, "the second step is taken back", func() bool {
		var n int
		return b.pool.QueryRow(t.Context(), `select count(*) from messages where account_id = $1 and status = 'canceled'`, telegram).Scan(&n) == nil && n == len(to)
	})
	var steps int
	if err := b.pool.QueryRow(t.Context(), `select count(*) from campaign_recipients where campaign_id = $1 and step = 0`, b.id).Scan(&steps); err != nil || steps != len(to) {
		t.Errorf("%d are reported of the first step: %v", steps, err)
	}
	if n := w.sim.Telegram(telegramToken).Rates().Sends; n > 0 {
		t.Errorf("%d messages were sent over Telegram", n)
	}
}

// What failed is tried again, and nothing else; everybody gets the message once.
func TestCampaignRetry(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, nil)
	people, to := w.vibers(6, "")
	for i := range 2 {
		if err := people[i].Set(simulator.CustomerPatch{Receipts: new("failed")}); err != nil {
			t.Fatal(err)
		}
	}
	b := w.bulk(js{"name": "retry", "content": js{"text": "hi"}, "steps": []js{step(viber, js{"success": "delivered", "wait": "20s"})}}, to...)
	b.do("start")
	b.ends("done", map[string]int{"read": 4, "failed": 2})
	for i := range 2 {
		if err := people[i].Set(simulator.CustomerPatch{Receipts: new("seen")}); err != nil {
			t.Fatal(err)
		}
	}
	n, _, err := w.sys.db.RetryCampaign(t.Context(), queue.Once{}, "test", b.id)
	if err != nil || n != 2 {
		t.Fatalf("%d are tried again: %v", n, err)
	}
	b.ends("done", map[string]int{"read": 6})
	for i, c := range people {
		want := 1
		if i < 2 {
			want = 2 // the first one was taken, and not delivered
		}
		if texts := got(c); len(texts) != want {
			t.Errorf("customer %d got %q", i, texts)
		}
	}
}

// Nobody gets more messages of campaigns than a cap allows, over all campaigns, and
// nobody two of one campaign.
func TestCampaignFrequency(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, nil)
	people, to := w.vibers(4, "")
	w.knows(viber, people[0].ID(), "+79260000001")
	both := append(to, whom{kind: queue.ByPhone, address: "+79260000001"})
	first := w.bulk(js{"name": "first", "content": js{"text": "1"}, "steps": []js{step(viber, nil)}}, both...)
	first.do("start")
	first.ends("done", map[string]int{"read": 4, "skipped": 1})
	capped := js{"name": "second", "content": js{"text": "2"}, "steps": []js{step(viber, nil)}, "frequency_cap": js{"count": 2, "per": "1h"}}
	second := w.bulk(capped, to[:2]...)
	second.do("start")
	second.ends("done", map[string]int{"read": 2})
	third := w.bulk(capped, to...)
	third.do("start")
	third.ends("done", map[string]int{"read": 2, "skipped": 2})
	for i, c := range people {
		if texts := got(c); len(texts) != 2 {
			t.Errorf("customer %d got %q", i, texts)
		}
	}
}

// An address that the platform keeps refusing is left out, and reported.
func TestCampaignInactive(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, nil)
	people, to := w.vibers(2, "")
	if err := people[0].Set(simulator.CustomerPatch{Receipts: new("none")}); err != nil {
		t.Fatal(err)
	}
	people[0].SendText("hello")
	pool := w.sys.db.Pool()
	eventually(t, patience, "the customer is known", func() bool {
		var n int
		return pool.QueryRow(t.Context(), `select count(*) from chats`).Scan(&n) == nil && n == 1
	})
	for i := range 3 {
		b := w.bulk(js{"name": fmt.Sprint("try ", i), "content": js{"text": "hi"}, "steps": []js{step(viber, nil)}}, to...)
		b.do("start")
		b.ends("done", map[string]int{"sent": 1, "read": 1})
		// The platform's late verdict, as the lanes would write it.
		b.exec(`with m as (update messages m set status = 'failed', error = '{"kind": "recipient", "detail": "no such number"}' from campaign_recipients r
				where r.campaign_id = $1 and r.n = 1 and m.id = r.message_id returning m.id, m.chat_id)
			insert into events (type, chat_id, message_id) select 'message.updated', chat_id, id from m`, b.id)
		eventually(t, patience, "the failure is counted", func() bool {
			var n int
			return pool.QueryRow(t.Context(), `select coalesce(max(permanent_failures), 0) from address_health`).Scan(&n) == nil && n == i+1
		})
	}
	b := w.bulk(js{"name": "left out", "content": js{"text": "hi"}, "steps": []js{step(viber, nil)}}, to...)
	b.do("start")
	b.ends("done", map[string]int{"read": 1, "skipped": 1})
	if left, err := w.sys.db.InactiveAddresses(t.Context(), viber, "", "", 10); err != nil || len(left) != 1 || left[0].Address != to[0].address || left[0].PermanentFailures != 3 || left[0].Reason != "permanent_failures" {
		t.Errorf("inactive are %+v: %v", left, err)
	}
	people[0].SendText("I am here")
	eventually(t, patience, "the customer has written again", func() bool {
		var n int
		return pool.QueryRow(t.Context(), `select count(*) from messages where direction = 'in'`).Scan(&n) == nil && n == 2
	})
	if left, err := w.sys.db.InactiveAddresses(t.Context(), "", "", "", 10); err != nil || len(left) != 0 {
		t.Errorf("inactive are still %+v: %v", left, err)
	}
	b = w.bulk(js{"name": "forgiven", "content": js{"text": "hi"}, "steps": []js{step(viber, nil)}}, to...)
	b.do("start")
	b.ends("done", map[string]int{"sent": 1, "read": 1})
}

func TestStopLists(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, nil)
	_, key, err := w.sys.admin.AddAPIKey(t.Context(), "test", "script")
	if err != nil {
		t.Fatal(err)
	}
	people, to := w.vibers(3, "")
	var added struct{ Added, Present int }
	entries := js{"entries": []js{{"external_id": to[0].address, "reason": "lawyers"}, {"phone": "+7 (926) 000-00-01"}, {"phone": "+79260000001"}}}
	w.rest("POST", "/api/v1/stop-lists/vip", key, entries, 200, &added)
	if added.Added != 2 || added.Present != 0 {
		t.Errorf("added %+v", added)
	}
	w.rest("POST", "/api/v1/stop-lists/vip", key, entries, 200, &added)
	if added.Added != 0 || added.Present != 2 {
		t.Errorf("added again %+v", added)
	}
	w.rest("POST", "/api/v1/stop-lists/Bad%20Name", key, entries, 422, nil)
	w.rest("POST", "/api/v1/stop-lists/vip", key, js{"entries": []js{{"phone": "+79260000001", "external_id": "x"}}}, 422, nil)
	w.rest("POST", "/api/v1/stop-lists/vip", "", entries, 401, nil)
	var lists struct{ Items []queue.StopList }
	w.rest("GET", "/api/v1/stop-lists", key, nil, 200, &lists)
	if len(lists.Items) != 1 || lists.Items[0] != (queue.StopList{List: "vip", Entries: 2}) {
		t.Errorf("lists %+v", lists)
	}
	var all []queue.Suppression
	for path := "/api/v1/stop-lists/vip?limit=1"; path != ""; {
		var page struct {
			Items      []queue.Suppression
			NextCursor *string `json:"next_cursor"`
		}
		w.rest("GET", path, key, nil, 200, &page)
		all = append(all, page.Items...)
		if path = ""; page.NextCursor != nil {
			path = "/api/v1/stop-lists/vip?limit=1&cursor=" + *page.NextCursor
		}
	}
	if len(all) != 2 || all[0].Kind != "external" || all[0].Reason != "lawyers" || all[1].Address != "+79260000001" {
		t.Errorf("entries %+v", all)
	}
	b := w.bulk(js{"name": "lists", "content": js{"text": "hi"}, "steps": []js{step(viber, nil)}, "stop_lists": []string{"vip"}}, to...)
	b.do("start")
	b.ends("done", map[string]int{"read": 2, "skipped": 1})
	var removed struct{ Removed int }
	w.rest("POST", "/api/v1/stop-lists/vip/remove", key, entries, 200, &removed)
	if removed.Removed != 2 {
		t.Errorf("removed %+v", removed)
	}
	people[1].Unsubscribe()
	var inactive struct{ Items []queue.InactiveAddress }
	eventually(t, patience, "the customer who left is reported", func() bool {
		w.rest("GET", "/api/v1/addresses/inactive?account_id="+viber, key, nil, 200, &inactive)
		return len(inactive.Items) == 1 && inactive.Items[0].Address == to[1].address && inactive.Items[0].Reason == "unreachable"
	})
}

// Two campaigns of one account get the same share of its rate; a pause holds within
// two seconds; when it is over nobody is skipped or gets the message twice.
func TestCampaignPace(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, map[string]string{"rate": "40"})
	people, to := w.vibers(300, "")
	var both [2]*bulk
	for i := range both {
		both[i] = w.bulk(js{"name": fmt.Sprint("c", i), "content": js{"text": fmt.Sprint("campaign ", i)}, "steps": []js{step(viber, nil)}}, to[i*150:(i+1)*150]...)
	}
	sent := func() (n [2]int) {
		for i, c := range people {
			n[i/150] += len(got(c))
		}
		return n
	}
	for _, b := range both {
		b.do("start")
	}
	eventually(t, patience, "half is out", func() bool { n := sent(); return n[0]+n[1] >= 150 })
	if n := sent(); n[0] < 50 || n[1] < 50 {
		t.Errorf("of two campaigns one had sent %d messages and the other %d", n[0], n[1])
	}
	both[0].do("pause")
	time.Sleep(2 * time.Second) // the promise
	held := sent()[0]
	time.Sleep(1500 * time.Millisecond)
	if n := sent()[0]; n != held || n == 150 {
		t.Errorf("%d messages were out two seconds after the pause, and %d later", held, n)
	}
	both[1].ends("done", map[string]int{"read": 150})
	both[0].do("resume")
	both[0].ends("done", map[string]int{"read": 150})
	for i, c := range people {
		if texts := got(c); len(texts) != 1 {
			t.Errorf("customer %d got %q", i, texts)
		}
	}
	if r := w.sim.Viber(viberToken).Rates(); r.MaxSliding > 44 {
		t.Errorf("%d messages in one second", r.MaxSliding)
	}
}

// Without a limit hundreds of messages are claimed as they are made, and wait for their
// turn at a slow platform: a pause holds within two seconds all the same, and nobody
// is skipped or gets the message twice.
func TestCampaignPauseWithoutLimit(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, map[string]string{"rate": "0"})
	people, to := w.vibers(1000, "")
	if _, err := w.sim.Fault(simulator.Fault{Kind: simulator.FaultSlow, Platform: "viber", Method: "send_message", Delay: simulator.Delay(time.Second), Probability: 1}); err != nil {
		t.Fatal(err)
	}
	b := w.bulk(js{"name": "prompt", "content": js{"text": "campaign"}, "steps": []js{step(viber, nil)}}, to...)
	sent := func() (n int) {
		for _, c := range people {
			n += len(got(c))
		}
		return n
	}
	b.do("start")
	eventually(t, 20*time.Second, "some are out", func() bool { return sent() >= 100 })
	b.do("pause")
	time.Sleep(2 * time.Second) // the promise
	held := sent()
	time.Sleep(1500 * time.Millisecond)
	if n := sent(); n != held || n == len(people) {
		t.Errorf("%d messages were out two seconds after the pause, and %d later", held, n)
	}
	w.sim.ClearFaults()
	b.do("resume")
	b.ends("done", map[string]int{"read": len(people)})
	for i, c := range people {
		if texts := got(c); len(texts) != 1 {
			t.Errorf("customer %d got %q", i, texts)
		}
	}
}

// The campaign's own rate is kept on average, and no burst is made of a pause.
func TestCampaignRate(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, nil)
	_, to := w.vibers(80, "")
	b := w.bulk(js{"name": "slow", "content": js{"text": "hi"}, "steps": []js{step(viber, nil)}, "rate": 20}, to...)
	began := time.Now()
	b.do("start")
	b.ends("done", map[string]int{"read": 80})
	if took := time.Since(began); took < 3500*time.Millisecond {
		t.Errorf("80 messages at 20 a second took %v", took)
	}
	if r := w.sim.Viber(viberToken).Rates(); r.MaxSliding > 28 {
		t.Errorf("%d messages in one second", r.MaxSliding)
	}
}

// A campaign begins and ends when its schedule says, and waits for the morning of
// each recipient.
func TestCampaignSchedule(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, nil)
	people, to := w.vibers(3, "")
	now := time.Now().UTC()
	clock := func(d time.Duration) string { return now.Add(d).Format("15:04") }
	// It is night for an hour more at zone 0, and three hours further east it is not.
	to[0].timezone, to[1].timezone = "Etc/UTC", "Etc/GMT-3"
	begin, end := now.Add(4*time.Second).Truncate(time.Second), now.Add(10*time.Minute)
	b := w.bulk(js{"name": "night", "content": js{"text": "hi"}, "steps": []js{step(viber, nil)},
		"schedule": js{"start_at": begin, "stop_at": end, "quiet_hours": js{"from": clock(-time.Hour), "to": clock(time.Hour)}, "timezone": "Etc/GMT-3"}}, to...)
	b.do("start")
	if state, _ := b.outcome(); state != "scheduled" {
		t.Errorf("the campaign is %s", state)
	}
	eventually(t, patience, "those by day have got it", func() bool { _, n := b.outcome(); return n["read"] == 2 })
	for _, c := range people[1:] {
		if at := c.Messages()[0].At; at.Before(begin) {
			t.Errorf("sent at %v, before %v", at, begin)
		}
	}
	var due time.Time
	if err := b.pool.QueryRow(t.Context(), `select due_at from campaign_recipients where campaign_id = $1 and due_at is not null`, b.id).Scan(&due); err != nil || due.Sub(now) < 58*time.Minute || due.Sub(now) > 61*time.Minute {
		t.Errorf("the one at night is due at %v: %v", due, err)
	}
	b.exec(`update campaigns set stop_at = now() + interval '1 second' where id = $1`, b.id)
	b.ends("done", map[string]int{"read": 2, "expired": 1})
	if n := len(got(people[0])); n != 0 {
		t.Errorf("the one at night got %d messages", n)
	}
}

// A step by platform takes the account that knows the recipient, and a phone that
// nobody knows is written to where the platform can.
func TestCampaignAddresses(t *testing.T) {
	t.Parallel()
	w := start(t)
	const secondToken = "7000000002:BBtestTokenOfTheSimulator0123456789"
	first := w.account("telegram", telegramToken, nil)
	second := w.account("telegram", secondToken, nil)
	login, password, _ := strings.Cut(mfmsToken, ":")
	w.sim.MFMS(mfmsToken)
	sms, err := w.sys.admin.AddAccount(t.Context(), "test", "mfms", "SMS", map[string]string{"login": login, "password": password, "sender": "ACME_WA", "webhook_user": "switchboard", "webhook_password": "s3cret-pass", "api_base": w.base + "/mfms", "rate": "0"})
	if err != nil {
		t.Fatal(err)
	}
	var to []whom
	var people []*simulator.TelegramCustomer
	for i, token := range []string{telegramToken, secondToken} {
		c, err := w.sim.Telegram(token).NewCustomer(simulator.CustomerSpec{FirstName: "T", Started: true})
		if err != nil {
			t.Fatal(err)
		}
		phone := fmt.Sprintf("+7926000010%d", i)
		w.knows([]string{first, second}[i], c.ID(), phone)
		people, to = append(people, c), append(to, whom{kind: queue.ByPhone, address: phone})
	}
	pool := w.sys.db.Pool()
	// One known by phone to nobody, and one by the customer's id, whose Telegram is blocked.
	to = append(to, whom{kind: queue.ByPhone, address: "+79260000199"})
	blocked, err := w.sim.Telegram(telegramToken).NewCustomer(simulator.CustomerSpec{FirstName: "B", Started: true})
	if err != nil {
		t.Fatal(err)
	}
	w.knows(first, blocked.ID(), "+79260000177")
	var customer string
	if err := pool.QueryRow(t.Context(), `update customers set reachable = false where external_id = $1 returning id`, blocked.ID()).Scan(&customer); err != nil {
		t.Fatal(err)
	}
	to = append(to, whom{kind: queue.ByCustomer, address: customer})
	for _, phone := range []string{"79260000199", "79260000177"} {
		if _, err := w.sim.MFMS(mfmsToken).NewCustomer(simulator.CustomerSpec{ID: phone, FirstName: "S", Started: true}); err != nil {
			t.Fatal(err)
		}
	}
	b := w.bulk(js{"name": "addresses", "content": js{"text": "hi"}, "steps": []js{{"platform": "telegram"}, step(sms.ID, nil)}}, to...)
	b.do("start")
	eventually(t, patience, "everything is sent", func() bool {
		_, n := b.outcome()
		return n["sent"]+n["delivered"]+n["read"] == 4
	})
	for i, c := range people {
		if texts := got(c); len(texts) != 1 {
			t.Errorf("customer %d got %q", i, texts)
		}
	}
	var where string
	if err := pool.QueryRow(t.Context(), `select string_agg(s.n || ' ' || s.step || ' ' || c.external_id, ', ' order by s.n) from campaign_sends s join chats c on c.id = s.chat_id where s.account_id = $1`, sms.ID).Scan(&where); err != nil ||
		where != "3 1 79260000199, 4 1 79260000177" {
		t.Errorf("over SMS went %s: %v", where, err)
	}
}

// A campaign of high priority gets more of the account's rate than one of low, and
// not all of it.
func TestCampaignPriority(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, map[string]string{"rate": "60"})
	people, to := w.vibers(400, "")
	low := w.bulk(js{"name": "low", "content": js{"text": "low"}, "steps": []js{step(viber, nil)}, "priority": "low"}, to[:200]...)
	high := w.bulk(js{"name": "high", "content": js{"text": "high"}, "steps": []js{step(viber, nil)}, "priority": "high"}, to[200:]...)
	high.do("start")
	low.do("start")
	sent := func(from, to int) (n int) {
		for _, c := range people[from:to] {
			n += len(got(c))
		}
		return n
	}
	eventually(t, patience, "most of the urgent one is out", func() bool { return sent(200, 400) >= 160 })
	if n := sent(0, 200); n < 10 || n > 100 {
		t.Errorf("of 160 messages of high priority %d of low were sent beside them", n)
	}
	high.ends("done", map[string]int{"read": 200})
	low.ends("done", map[string]int{"read": 200})
}
