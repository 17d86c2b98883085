package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard/internal/dbtest"
	"switchboard/simulator"
)

// mailing is a campaign that a script runs through the public door, whatever
// happens behind it.
type mailing struct {
	base, key string
	id        string
	customers map[string]human // by external id
	column    string           // that names them; "": external_id
	doubled   int
}

// call repeats what was not answered, with the same key.
func (m *mailing) call(method, path, kind, body string, answer any) error {
	key := fmt.Sprint(method, path, time.Now().UnixNano())
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		req, err := http.NewRequest(method, m.base+"/api/v1/campaigns"+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+m.key)
		req.Header.Set("Content-Type", kind)
		if method == "POST" {
			req.Header.Set("Idempotency-Key", key)
		}
		status, text := 0, ""
		if res, err := http.DefaultClient.Do(req); err == nil {
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			status, text = res.StatusCode, string(b)
		}
		if status/100 == 2 {
			if answer == nil {
				return nil
			}
			return json.Unmarshal([]byte(text), answer)
		}
		if (status != 0 && status != http.StatusBadGateway && status != http.StatusServiceUnavailable && status != http.StatusInternalServerError) || time.Now().After(deadline) {
			return fmt.Errorf("%s %s: %d %s", method, path, status, text)
		}
	}
}

// startMailing makes a campaign of the customers and starts it.
func startMailing(base, key string, definition js, customers map[string]human) (*mailing, error) {
	m := &mailing{base: base, key: key, customers: customers}
	return m, m.start(definition)
}

func (m *mailing) start(definition js) error {
	raw, err := json.Marshal(definition)
	if err != nil {
		return err
	}
	var made struct{ ID string }
	if err := m.call("POST", "", "application/json", string(raw), &made); err != nil {
		return err
	}
	m.id = made.ID
	var rows strings.Builder
	rows.WriteString(cmp.Or(m.column, "external_id") + ",name\n")
	for id := range m.customers {
		fmt.Fprintf(&rows, "%s,%s\n", id, id)
	}
	var got struct{ Accepted, Duplicates, Rejected int }
	if err := m.call("PUT", "/"+m.id+"/recipients", "text/csv", rows.String(), &got); err != nil {
		return err
	}
	if got.Accepted+got.Duplicates != len(m.customers) || got.Rejected > 0 {
		return fmt.Errorf("of %d recipients: %+v", len(m.customers), got)
	}
	return m.call("POST", "/"+m.id+"/start", "application/json", "", nil)
}

// state is what the API says of it.
func (m *mailing) state() (state string, counts map[string]int, err error) {
	var c struct {
		State  string
		Counts map[string]int
	}
	err = m.call("GET", "/"+m.id, "application/json", "", &c)
	return c.State, c.Counts, err
}

// compare says what is wrong with an ended campaign of one step: every recipient has
// one message, which their customer got once; twice only where its timeline says why.
func (m *mailing) compare(pool *pgxpool.Pool, statuses ...string) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	state, counts, err := m.state()
	if err != nil || state != "done" || counts["total"] != len(m.customers) {
		wrong("the campaign is %s with %v: %v", state, counts, err)
	}
	allowed := 0
	for _, s := range statuses {
		allowed += counts[s]
	}
	if allowed != counts["total"] {
		wrong("the counts are %v, and only %v are right", counts, statuses)
	}
	rows, err := pool.Query(context.Background(), `select r.address, r.state, r.status, coalesce(r.reason, ''), (select count(*) from campaign_sends s where s.campaign_id = r.campaign_id and s.n = r.n),
		coalesce((select string_agg(l.what || ' ' || coalesce(l.detail::text, ''), '; ' order by l.at) from message_log l where l.message_id = r.message_id), '')
		from campaign_recipients r where r.campaign_id = $1`, m.id)
	if err != nil {
		return append(problems, err.Error())
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var address, state, status, reason, line string
		var sends int
		if err := rows.Scan(&address, &state, &status, &reason, &sends, &line); err != nil {
			return append(problems, err.Error())
		}
		n++
		copies, notes := len(got(m.customers[address])), excuses(line)
		if state != "done" || sends != 1 || copies < 1 || copies > 1+notes {
			wrong("recipient %s is %s, %s (%s), has %d messages and got %d: %s", address, state, status, reason, sends, copies, line)
		}
		m.doubled += max(copies-1, 0)
	}
	if n != len(m.customers) {
		wrong("%d recipients, want %d", n, len(m.customers))
	}
	return problems
}

// excuses counts how often a message's timeline says that it may come twice.
func excuses(line string) (notes int) {
	for _, note := range ambiguous {
		notes += strings.Count(line, note)
	}
	// An attempt that was cut off leaves no line of its own; the next one counts it.
	for _, m := range regexp.MustCompile(`"attempt": (\d+)`).FindAllStringSubmatch(line, -1) {
		if attempt, err := strconv.Atoi(m[1]); err == nil && notes > 0 {
			notes = max(notes, attempt-1)
		}
	}
	return notes
}

// A campaign runs while its process is killed again and again, or ends: every recipient gets
// its message, once.
func TestCampaignKilled(t *testing.T) {
	t.Parallel()
	f, sim := single(t)
	key := f.addKey(t)
	pool, err := pgxpool.New(t.Context(), dbtest.URLOf(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	var telegram, viber string
	if err := pool.QueryRow(t.Context(), `select (select id from accounts where platform = 'telegram'), (select id from accounts where platform = 'viber')`).Scan(&telegram, &viber); err != nil {
		t.Fatal(err)
	}
	// One account with a limit, and one without: their messages wait in different ways.
	f.tool(t, "admin", "", "account", "set", viber, "--set", "rate=60")()
	const n = 400
	people := [2]map[string]human{{}, {}}
	for i := range n {
		v, err := sim.Viber(viberToken).NewCustomer(simulator.CustomerSpec{ID: viberID(i), FirstName: "V", Started: true})
		if err != nil {
			t.Fatal(err)
		}
		c, err := sim.Telegram(telegramToken).NewCustomer(simulator.CustomerSpec{FirstName: "T", Started: true})
		if err != nil {
			t.Fatal(err)
		}
		people[0][v.ID()], people[1][c.ID()] = v, c
	}
	var all []*mailing
	for i, account := range []string{viber, telegram} {
		m, err := startMailing(f.door, key, js{"name": fmt.Sprint("killed ", i), "content": js{"text": "Hello {{name}}"}, "steps": []js{step(account, nil)}, "rate": 80}, people[i])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	sent := func() (n int) {
		_ = pool.QueryRow(t.Context(), `select count(*) from messages where status <> 'queued'`).Scan(&n)
		return n
	}
	for _, at := range []int{0, 40, 200, 500} { // the first: right after the start
		eventually(t, 60*time.Second, fmt.Sprint(at, " messages are out"), func() bool { return sent() >= at })
		if at == 200 {
			f.process("all").terminate(t) // gives back what it has claimed, and the chats; who was killed before did not
			var stuck int
			if err := pool.QueryRow(t.Context(), `select count(*) from outbox_chats o where busy and parked_account is null and not exists (select 1 from outbox x where x.chat_id = o.chat_id) and not exists (
				select 1 from river_job j where j.kind = 'deliver' and j.args ->> 'chat_id' = o.chat_id::text and j.state not in ('completed', 'discarded', 'cancelled'))`).Scan(&stuck); err != nil || stuck > 0 {
				t.Errorf("%d chats are marked as busy, and nobody is at them: %v", stuck, err)
			}
		} else {
			f.process("all").kill()
		}
		f.start(t, "all")
	}
	for _, m := range all {
		eventually(t, 90*time.Second, "the campaign is done", func() bool { state, _, err := m.state(); return err == nil && state == "done" })
	}
	eventually(t, patience, "Viber's are read", func() bool { _, counts, err := all[0].state(); return err == nil && counts["read"] == n })
	for i, m := range all {
		for _, problem := range m.compare(pool, []string{"read", "sent"}[i]) {
			t.Error(problem)
		}
		t.Logf("%d messages came twice, and their timelines say so", m.doubled)
	}
	f.process("all").terminate(t)
}
