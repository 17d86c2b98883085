package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard/db"
	"switchboard/simulator"
)

// cascade is a campaign of two steps over two accounts, whose recipients are phones
// that both know: Viber, and Telegram for whom Viber brings nothing.
type cascade struct {
	mailing                  // customers are Viber's, by phone
	second  map[string]human // Telegram's, by phone
	fates   map[string]string
	wait    time.Duration // for the first step's success
	twice   [2]int        // messages that came twice, by step
	ends    map[string]int
}

// newCascade makes the people of a cascade, who differ in what Viber reports of their
// messages: that they are read, that they failed, or nothing.
func (x *chaos) newCascade(n int) *cascade {
	c := &cascade{mailing: mailing{base: x.door, key: x.key, customers: map[string]human{}, column: "phone"}, second: map[string]human{}, fates: map[string]string{}, wait: 10 * time.Second, ends: map[string]int{}}
	knows := func(platform, id, phone string) {
		if _, err := x.pool.Exec(context.Background(), `with cu as (insert into customers (id, account_id, external_id, phone) values ($1, $2, $3, $4) returning *),
				ch as (insert into chats (id, account_id, platform, customer_id, external_id, state) select $5, account_id, $6, id, external_id, 'closed' from cu)
			insert into phone_book (phone, customer_id, account_id, platform, source) select phone, id, account_id, $6, 'contact' from cu`,
			db.NewID(), x.station(platform).id, id, phone, db.NewID(), platform); err != nil {
			x.t.Fatal(err)
		}
	}
	for i := range n {
		phone, fate := fmt.Sprintf("+7927%07d", i), []string{"seen", "failed", "none"}[i%3]
		v, err := x.sim.Viber(viberToken).NewCustomer(simulator.CustomerSpec{ID: viberID(i), FirstName: "V", Started: true, Receipts: fate})
		if err != nil {
			x.t.Fatal(err)
		}
		t, err := x.sim.Telegram(telegramToken).NewCustomer(simulator.CustomerSpec{FirstName: "T", Started: true})
		if err != nil {
			x.t.Fatal(err)
		}
		c.customers[phone], c.second[phone], c.fates[phone] = v, t, fate
		knows("viber", v.ID(), phone)
		knows("telegram", t.ID(), phone)
	}
	return c
}

// cascadeSQL tells of each recipient where it stands, and of both steps how many
// messages there are, the last one's status, when its wait began, when that was queued,
// when it failed, and its timeline.
const cascadeSQL = `select r.address, r.state, r.status, r.step, coalesce(r.reason, ''),
		(select count(*) from campaign_sends s where s.campaign_id = r.campaign_id and s.n = r.n and (s.step > 1 or s.round > 0)),
		a.n, coalesce(a.status, ''), a.began, a.failed, a.line, b.n, coalesce(b.status, ''), b.at, b.failed, b.line
	from campaign_recipients r
	cross join lateral (` + cascadeStep + `0) a cross join lateral (` + cascadeStep + `1) b
	where r.campaign_id = $1`

const cascadeStep = `select count(distinct m.id) n, max(m.status) status, coalesce(max(s.at), 'epoch') began, coalesce(max(m.created_at), 'epoch') at, coalesce(min(l.at) filter (where l.what in ('failed', 'expired', 'canceled')), 'epoch') failed,
		coalesce(string_agg(l.what || ' ' || coalesce(l.detail::text, ''), '; ' order by l.at), '') line
	from campaign_sends s join messages m on m.id = s.message_id left join message_log l on l.message_id = m.id where s.campaign_id = r.campaign_id and s.n = r.n and s.step = `

// compare says what is wrong with an ended cascade: nobody is skipped, each step goes
// to a recipient once, and twice only where its timeline says why; the second one goes
// to those, and to all of those, whose first one failed or had no success in its wait;
// and everybody is reported as what came of them.
func (c *cascade) compare(pool *pgxpool.Pool) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	// The last reports may be a moment behind.
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		var through bool
		if err := pool.QueryRow(context.Background(), `select pos >= (select coalesce(max(id), 0) from events) from followers where name = 'campaigns'`).Scan(&through); err == nil && through {
			break
		}
	}
	state, counts, err := c.state()
	if err != nil || state != "done" || counts["total"] != len(c.customers) {
		wrong("the campaign is %s with %v: %v", state, counts, err)
	}
	rows, err := pool.Query(context.Background(), cascadeSQL, c.id)
	if err != nil {
		return append(problems, err.Error())
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var address, state, status, reason string
		var step, others int
		var sends [2]int
		var was, line [2]string
		var at, failed [2]time.Time
		if err := rows.Scan(&address, &state, &status, &step, &reason, &others, &sends[0], &was[0], &at[0], &failed[0], &line[0], &sends[1], &was[1], &at[1], &failed[1], &line[1]); err != nil {
			return append(problems, err.Error())
		}
		n++
		bad := func(format string, args ...any) {
			wrong("%s (%s) is %s, %s at step %d (%s), first %s: %s, second %s: %s: %s", address, c.fates[address], state, status, step, reason, was[0], line[0], was[1], line[1], fmt.Sprintf(format, args...))
		}
		if state != "done" || others > 0 || sends[0] != 1 || sends[1] > 1 {
			bad("%d and %d messages, %d others", sends[0], sends[1], others)
			continue
		}
		for i, customer := range []human{c.customers[address], c.second[address]} {
			copies := len(got(customer))
			least, most := 0, 0
			if sends[i] > 0 {
				most = 1 + excuses(line[i])
				if was[i] == "sent" || was[i] == "delivered" || was[i] == "read" {
					least = 1
				}
			}
			if copies < least || copies > most {
				bad("step %d came %d times, want %d to %d", i, copies, least, most)
			}
			c.twice[i] += max(copies-1, 0)
		}
		success, lost := was[0] == "delivered" || was[0] == "read", was[0] == "failed" || was[0] == "expired"
		switch {
		case sends[1] == 0:
			if !success {
				bad("the first step brought nothing, and there is no second one")
			}
		case at[1].Before(at[0].Add(c.wait)) && (failed[0].Unix() == 0 || at[1].Before(failed[0])):
			bad("the second step was begun %v behind the first, which had %v, and has not failed by then", at[1].Sub(at[0]), c.wait)
		}
		wantStep, want := 1, was[1]
		if success {
			wantStep, want = 0, was[0]
		}
		if step != wantStep || status != want || (status != "sent" && status != "delivered" && status != "read") {
			bad("that is not what came of the messages")
		}
		switch {
		case success && sends[1] > 0:
			c.ends["read late, after the second step"]++
		case success:
			c.ends["read at once"]++
		case lost:
			c.ends["the second step after a failure"]++
		default:
			c.ends["the second step after the wait"]++
		}
		counts[status]--
	}
	if n != len(c.customers) {
		wrong("%d recipients, want %d", n, len(c.customers))
	}
	for status, left := range counts {
		if status != "total" && left != 0 {
			wrong("the counts have %d too many %s", left, status)
		}
	}
	return problems
}

// String is for the summary.
func (c *cascade) String() string {
	if c == nil {
		return "no cascade"
	}
	var parts []string
	for _, what := range []string{"read at once", "the second step after a failure", "the second step after the wait", "read late, after the second step"} {
		parts = append(parts, fmt.Sprintf("%d %s", c.ends[what], what))
	}
	return "the cascade's recipients: " + strings.Join(parts, ", ")
}
