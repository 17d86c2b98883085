package campaigns_test

import (
	"fmt"
	"strings"
	"testing"
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
	// Over C alone: the first, the customer and ext5.
	a := run(`{"name":"c","content":{"text":"x"},"steps":[{"account_id":"` + accountC + `","price":2}],"stop_lists":["vip"]}`)
	if a.get("recipients") != 12. || a.get("reachable") != 3. || a.get("cost.least") != 6. || a.get("cost.most") != 6. {
		t.Errorf("over C: %s", a.text)
	}
	for _, want := range []string{`{"reason":"on the stop-list global","count":1}`, `{"reason":"on the stop-list vip","count":1}`, `{"reason":"on the stop-list account:` + accountC + `","count":1}`,
		`can't be reached (blocked us, or is gone)","count":1}`, `kept refusing it","count":1}`, `can write first","count":4}`} {
		if !strings.Contains(string(a.text), want) {
			t.Errorf("over C: no %s in %s", want, a.text)
		}
	}
	// C first, then A, which writes to any phone: what C can't is left to A, but for
	// the stop-lists, and for those of whom no phone is known.
	a = run(`{"name":"ca","content":{"text":"x"},"steps":[{"account_id":"` + accountC + `"},{"account_id":"` + accountA + `"}],"rate":2}`)
	steps := a.get("steps").([]any)
	first, second := steps[0].(map[string]any), steps[1].(map[string]any)
	// By A: 3, 4, 8, 9 and the phones that C knows too (1, and the customer), and other.
	if a.get("reachable") != 8. || first["first"] != 3. || second["first"] != 5. || second["reachable"] != 7. || second["price"] != 0.5 || a.get("cost.least") != 2.5 || a.get("cost.most") != 3.5 ||
		second["rate"] != 2. || a.get("seconds") != 4. || a.get("duration") != "4s" {
		t.Errorf("over C and A: %s", a.text)
	}
}
