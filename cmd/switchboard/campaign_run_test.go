package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/message"
	"switchboard/simulator"
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
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
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
