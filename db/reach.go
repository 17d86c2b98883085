package db

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"switchboard/internal/queue"
)

// reachSQL tells of every recipient over which steps they could be reached as of
// now (a bit each), and why not, and counts. $2 are the steps as JSON, $3 the
// stop-lists. It mirrors what the pump does (campaign_run.go), for all at once.
const reachSQL = `with steps as materialized (
		select step, accounts, by_phone, by_id from jsonb_to_recordset($2) s (step int, accounts uuid[], by_phone boolean, by_id boolean)),
	r as materialized (
		select n, kind, address from campaign_recipients where campaign_id = $1
		union all select first_n + x.i - 1, x.kind, x.address from campaign_blocks b, unnest(b.kinds, b.addresses) with ordinality x (kind, address, i) where b.campaign_id = $1),
	-- Whom a recipient's address names: themselves, and others with the same phone.
	base as materialized (
		select r.n, cu.id, cu.phone from r join customers cu on r.kind = 0 and cu.id = case when r.kind = 0 then r.address::uuid end
		union all select r.n, cu.id, cu.phone from r join customers cu on r.kind = 1 and cu.external_id = r.address
			and cu.account_id = any(array(select unnest(accounts) from steps where step = 0))),
	known as materialized (
		select r.n, p.customer_id id from r join phone_book p on r.kind = 2 and p.phone = r.address
		union select n, id from base
		union select base.n, p.customer_id from base join phone_book p on base.phone <> '' and p.phone = base.phone),
	found as materialized (
		select k.n, s.step, bool_or(cu.reachable and h.inactive_since is null) ok, bool_or(not cu.reachable) unreachable
		from known k join customers cu on cu.id = k.id join steps s on cu.account_id = any(s.accounts)
			left join address_health h on h.account_id = cu.account_id and h.address = cu.external_id group by 1, 2),
	marks as (
		select f.n, bit_or(1 << step) known, coalesce(bit_or(case when ok then 1 << step end), 0) ok, bool_or(unreachable and not ok) unreachable, bool_or(not unreachable and not ok) inactive
		from found f group by 1),
	phones as (select distinct n from base where phone <> ''),
	stopped as materialized (
		select r.n, min(x.list) list from r join suppressions x on x.address = r.address and x.kind = r.kind
		where x.list = any($3) or x.list in (select 'account:' || unnest(accounts) from steps) group by 1),
	free as (
		select coalesce(sum(1 << step) filter (where by_phone), 0)::int by_phone, coalesce(sum(1 << step) filter (where by_id), 0)::int by_id from steps),
	reach as (
		select r.n, r.kind, r.address, case when st.n is null then coalesce(m.ok, 0) | (((case when r.kind = 2 or ph.n is not null then free.by_phone else 0 end) | (case when r.kind = 1 then free.by_id & 1 else 0 end)) & ~coalesce(m.known, 0)) else 0 end mask,
			coalesce(st.list, '') list, coalesce(m.unreachable, false) unreachable, coalesce(m.inactive, false) inactive
		from r cross join free left join marks m on m.n = r.n left join stopped st on st.n = r.n left join phones ph on ph.n = r.n)
	`

// reachCounts counts them; reachEach tells of each, with the phone or chat by which
// the same person is known.
const (
	reachCounts = reachSQL + `select 0, mask, list, unreachable, inactive, '', '', count(*) from reach group by 2, 3, 4, 5`
	reachEach   = reachSQL + `, who as (
		select k.n, coalesce(max(cu.phone), '') phone, coalesce(min(case when cu.phone = '' then (select ` + chatOfCustomer + ` from (select cu.*) k)::text end), '') chat
		from known k join r on r.n = k.n and r.kind <> 2 join customers cu on cu.id = k.id
		where cu.account_id in (select unnest(accounts) from steps) group by 1)
	select reach.n, mask, list, unreachable, inactive, case when reach.kind = 2 then reach.address else coalesce(who.phone, '') end, coalesce(who.chat, ''), 1
	from reach left join who on who.n = reach.n order by 1`
	reachMixed = `select exists (select from campaign_recipients where campaign_id = $1 and kind <> 2) or exists (select from campaign_blocks where campaign_id = $1 and (0 = any(kinds) or 1 = any(kinds)))`
)

// reachPage is how many recipients are looked at together.
const reachPage = 10000

// CampaignReach tells how many of a campaign's recipients could be reached by which
// step now. It takes some 2.5 s for a million that are named by phone, and 15 s when what
// each of them got lately has to be counted.
func (d *DB) CampaignReach(ctx context.Context, id string, q queue.Reach) (queue.Reached, error) {
	reached := queue.Reached{First: make([]int64, len(q.Steps)), Steps: make([]int64, len(q.Steps))}
	type step struct {
		Step     int      `json:"step"`
		Accounts []string `json:"accounts"`
		ByPhone  bool     `json:"by_phone"`
		ByID     bool     `json:"by_id"`
	}
	steps := make([]step, len(q.Steps))
	for i, s := range q.Steps {
		steps[i] = step{i, append([]string{}, s.Accounts...), s.ByPhone, s.ByID}
	}
	raw, err := json.Marshal(steps)
	if err != nil {
		return reached, fmt.Errorf("writing steps: %w", err)
	}
	t := reaching{q: q, out: &reached, problems: map[string]int64{}, people: map[int64]struct{}{}}
	lists := append([]string{"global"}, q.StopLists...)
	err = pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local work_mem = '64MB'`); err != nil {
			return err
		}
		each := q.Cap > 0
		if !each {
			if err := tx.QueryRow(ctx, reachMixed, id).Scan(&each); err != nil {
				return err
			}
		}
		if !each {
			return t.read(ctx, tx, reachCounts, id, raw, lists)
		}
		if _, err := tx.Exec(ctx, `declare reach no scroll cursor for `+reachEach, id, raw, lists); err != nil {
			return err
		}
		for {
			if err := t.read(ctx, tx, fmt.Sprintf(`fetch %d from reach`, reachPage)); err != nil || len(t.page) == 0 {
				return err
			}
			if err := t.spare(ctx, tx, id); err != nil {
				return err
			}
		}
	})
	if err != nil {
		return reached, fmt.Errorf("looking whom campaign %s reaches: %w", id, err)
	}
	for _, reason := range slices.Sorted(maps.Keys(t.problems)) {
		reached.Problems = append(reached.Problems, queue.ReachProblem{Reason: reason, Count: t.problems[reason]})
	}
	return reached, nil
}

// reaching counts who is reached.
type reaching struct {
	q        queue.Reach
	out      *queue.Reached
	problems map[string]int64
	page     []reachRow
	people   map[int64]struct{} // who are recipients already
}

// reachRow is a recipient, or as many as are alike.
type reachRow struct {
	n                     int64
	mask                  int // steps
	list                  string
	unreachable, inactive bool
	phone, chat           string
	count                 int64
}

// read reads rows. Those of single recipients it leaves in the page.
func (t *reaching) read(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	t.page = t.page[:0]
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var r reachRow
	_, err = pgx.ForEachRow(rows, []any{&r.n, &r.mask, &r.list, &r.unreachable, &r.inactive, &r.phone, &r.chat, &r.count}, func() error {
		if r.n > 0 {
			t.page = append(t.page, r)
		} else {
			t.count(&r, "")
		}
		return nil
	})
	return err
}

// spare counts the page, by the rules of the pump's spare.
func (t *reaching) spare(ctx context.Context, tx pgx.Tx, id string) error {
	twice, enough := make([]bool, len(t.page)), map[int32]bool{}
	var index []int32
	var people, numbers []int64
	for i, r := range t.page {
		if r.mask == 0 || (r.phone == "" && r.chat == "") {
			continue
		}
		who := person(r.phone, r.chat)
		_, twice[i] = t.people[who]
		t.people[who] = struct{}{}
		index, people, numbers = append(index, int32(i)), append(people, who), append(numbers, r.n)
	}
	if t.q.Cap > 0 {
		rows, err := tx.Query(ctx, enoughSQL, id, index, people, numbers, t.q.Cap, t.q.CapPer)
		if err != nil {
			return err
		}
		var i int32
		if _, err := pgx.ForEachRow(rows, []any{&i}, func() error { enough[i] = true; return nil }); err != nil {
			return err
		}
	}
	for i := range t.page {
		switch {
		case twice[i]:
			t.count(&t.page[i], reasonTwice)
		case enough[int32(i)]:
			t.count(&t.page[i], reasonEnough(t.q.Cap, t.q.CapPer))
		default:
			t.count(&t.page[i], "")
		}
	}
	return nil
}

// count adds r to what is told; with a reason it is not reached.
func (t *reaching) count(r *reachRow, reason string) {
	t.out.Recipients += r.count
	switch {
	case reason != "":
	case r.list != "":
		reason = "on the stop-list " + r.list
	case r.mask != 0:
		t.out.Reachable += r.count
		first := true
		for i := range t.q.Steps {
			if r.mask&(1<<i) == 0 {
				continue
			}
			t.out.Steps[i] += r.count
			if first {
				t.out.First[i] += r.count
				first = false
			}
		}
		return
	case r.unreachable:
		reason = "the customer can't be reached (blocked us, or is gone)"
	case r.inactive:
		reason = "the address is inactive: the platform kept refusing it"
	default:
		reason = "not known at any account of the steps, and none of them can write first"
	}
	t.problems[reason] += r.count
}
