package campaigns_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"switchboard/campaigns"
	"switchboard/internal/queue"
	"switchboard/message"
)

// Who would be reached over what: by phone, id and customer, over an account that
// can write first and one that can't, with stop-lists and dead addresses.
func TestDryRun(t *testing.T) {
	t.Parallel()
	s := serve(t)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := s.store.Pool().Exec(t.Context(), sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	// Account C knows people and can't write first.
	customer := func(n int, account, phone string, reachable bool) string {
		id := fmt.Sprintf("0198b000-0000-7000-8000-%012d", n)
		exec(`insert into customers (id, account_id, external_id, phone, reachable) values ($1, $2, $3, $4, $5)`, id, account, fmt.Sprint("ext", n), phone, reachable)
		if phone != "" {
			exec(`insert into phone_book (phone, customer_id, account_id, platform, source) values ($1, $2, $3, 'gamma', 'contact')`, phone, id, account)
		}
		return id
	}
	known := customer(1, accountC, "+79001000001", true)
	customer(2, accountC, "+79001000002", true)
	customer(3, accountC, "+79001000003", false)
	customer(4, accountC, "+79001000004", true)
	customer(5, accountC, "", true)
	other := customer(6, accountA, "+79001000006", true)
	exec(`insert into address_health (account_id, address, permanent_failures, inactive_since) values ($1, 'ext4', 3, now())`, accountC)
	exec(`insert into suppressions (list, kind, address) values ('global', 2, '+79001000007'), ('vip', 2, '+79001000008'), ('other', 2, '+79001000009'), ('account:' || $1, 2, '+79001000010')`, accountC)

	run := func(definition string) answer {
		t.Helper()
		id := s.add(definition)
		a := s.want(200, s.put(id, "phone,customer_id,external_id\n"+
			"+79001000001,,\n"+ // known to C
			"+79001000003,,\n"+ // C: blocked
			"+79001000004,,\n"+ // C: inactive
			"+79001000007,,\n+79001000008,,\n+79001000009,,\n+79001000010,,\n"+ // stop-lists: yes, yes, no, yes
			","+known+",\n,"+other+",\n"+ // a customer of C, one of A with a phone
			",,ext5\n,,ext99\n"+ // known to C, and nobody
			",0198b000-0000-7000-8000-000000000099,\n"), "put")
		if a.get("accepted") != 12. {
			t.Fatalf("import: %s", a.text)
		}
		return s.want(200, s.call("POST", "/api/v1/campaigns/"+id+"/dry-run", nil, "Idempotency-Key", id), "dry run")
	}
	// Over C alone: the first, who is the customer too, and ext5.
	a := run(`{"name":"c","content":{"text":"x"},"steps":[{"account_id":"` + accountC + `","price":2}],"stop_lists":["vip"]}`)
	if a.get("recipients") != 12. || a.get("reachable") != 2. || a.get("cost.least") != 4. || a.get("cost.most") != 4. {
		t.Errorf("over C: %s", a.text)
	}
	for _, want := range []string{`{"reason":"on the stop-list global","count":1}`, `{"reason":"on the stop-list vip","count":1}`, `{"reason":"on the stop-list account:` + accountC + `","count":1}`,
		`can't be reached (blocked us, or is gone)","count":1}`, `kept refusing it","count":1}`, `can write first","count":4}`, `"the same person is another recipient of this campaign","count":1}`} {
		if !strings.Contains(string(a.text), want) {
			t.Errorf("over C: no %s in %s", want, a.text)
		}
	}
	// C first, then A, which writes to any phone: what C can't is left to A, but for
	// the stop-lists, and for those of whom no phone is known.
	a = run(`{"name":"ca","content":{"text":"x"},"steps":[{"account_id":"` + accountC + `"},{"account_id":"` + accountA + `"}],"rate":2}`)
	steps := a.get("steps").([]any)
	first, second := steps[0].(map[string]any), steps[1].(map[string]any)
	// By A: 3, 4, 8, 9 and the phone that C knows too (1), and other.
	if a.get("reachable") != 7. || first["first"] != 2. || second["first"] != 5. || second["reachable"] != 6. || second["price"] != 0.5 || a.get("cost.least") != 2.5 || a.get("cost.most") != 3. ||
		second["rate"] != 2. || a.get("seconds") != 3.5 || a.get("duration") != "4s" {
		t.Errorf("over C and A: %s", a.text)
	}
}

// Whom the cap on frequency holds back is told beforehand, by the rule of the run:
// the same campaign that is started then skips as many, for the same reason.
func TestDryRunFrequency(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for _, o := range e.accounts {
		o.Capabilities.Rate = message.Rate{}
	}
	e.start()
	e.works(func(c *queue.Claim) queue.Outcome {
		return queue.Outcome{Kind: queue.OutcomeSent, IDs: []string{"p-" + c.MessageID}}
	})
	finished := func(id string) {
		t.Helper()
		if err := e.do(id, "start"); err != nil {
			t.Fatal(err)
		}
		e.until("the campaign ends", 20*time.Second, func() bool { return scalar[string](e, `select state from campaigns where id = $1`, id) == "done" })
	}
	steps := []campaigns.Step{{AccountID: accountB}}
	finished(e.add(campaigns.Definition{Name: "one", Content: text("hi"), Steps: steps}, 0, 40))
	finished(e.add(campaigns.Definition{Name: "two", Content: text("hi"), Steps: steps}, 20, 40))
	// What was long ago does not count, and neither does what failed.
	e.exec(`update campaign_sends set at = now() - interval '2 hours' where n = 21`)
	e.exec(`update campaign_sends set status = 'failed' where n = 30`)

	s := serveStore(t, e.store, e.accounts)
	id := e.add(campaigns.Definition{Name: "capped", Content: text("hi"), Steps: steps, FrequencyCap: &campaigns.FrequencyCap{Count: 2, Per: "1h"}}, 0, 80)
	a := s.want(200, s.call("POST", "/api/v1/campaigns/"+id+"/dry-run", nil), "dry run")
	told := map[string]float64{}
	for _, p := range a.get("problems").([]any) {
		told[p.(map[string]any)["reason"].(string)] = p.(map[string]any)["count"].(float64)
	}
	finished(id)
	const reason = "got 2 messages of campaigns within 1h0m0s"
	skipped := scalar[int](e, `select count(*) from campaign_recipients where campaign_id = $1 and status = 'skipped' and reason = $2`, id, reason)
	// 21 to 40 got both, but for 21 and 30.
	if told[reason] != float64(skipped) || skipped != 18 || len(told) != 1 || a.get("reachable") != float64(80-skipped) || a.get("steps").([]any)[0].(map[string]any)["first"] != float64(80-skipped) {
		t.Errorf("%d were skipped; it was told: %s", skipped, a.text)
	}
}

// The time takes the hours into account, by the clocks of those who are in the table.
func TestDryRunHours(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var rows strings.Builder
	rows.WriteString("phone,timezone\n")
	for i := range 100 {
		fmt.Fprintf(&rows, "+7423220%04d,\n", i) // Vladivostok, UTC+10
		fmt.Fprintf(&rows, "+7900100%04d,Europe/London\n", i)
		fmt.Fprintf(&rows, "+1800555%04d,\n", i) // anywhere in America: the campaign's clock, UTC+3
	}
	run := func(schedule string) answer {
		t.Helper()
		id := s.add(`{"name":"h","content":{"text":"x"},"rate":1,"steps":[{"account_id":"` + accountA + `"}],"schedule":` + schedule + `}`)
		s.want(200, s.put(id, rows.String()), "put")
		return s.want(200, s.call("POST", "/api/v1/campaigns/"+id+"/dry-run", nil), "dry run")
	}
	// From 0:00 UTC on a day far ahead. It is 10:00 in Vladivostok, 3:00 in Moscow, and midnight in London.
	const start = `"start_at":"2036-07-01T00:00:00Z","timezone":"Europe/Moscow"`
	if a := run(`{` + start + `}`); a.get("seconds") != 300. || a.get("duration") != "5m0s" {
		t.Errorf("at any hour: %s", a.text)
	}
	// London's 100 are the last: from 9:00 there, which is 8:00 UTC in summer.
	if a := run(`{` + start + `,"quiet_hours":{"from":"21:00","to":"09:00"}}`); a.get("seconds") != 8*3600+100. || a.get("duration") != "8h1m40s" || len(a.get("problems").([]any)) != 0 {
		t.Errorf("by day: %s", a.text)
	}
	a := run(`{` + start + `,"quiet_hours":{"from":"21:00","to":"09:00"},"stop_at":"2036-07-01T08:00:30Z"}`)
	if !strings.Contains(string(a.text), `{"reason":"their turn comes after schedule.stop_at, so that they expire","count":70}`) {
		t.Errorf("stopped: %s", a.text)
	}
}
