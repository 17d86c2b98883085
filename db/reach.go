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
		select coalesce(sum(1 << step) filter (where by_phone), 0)::int by_phone, coalesce(sum(1 << step) filter (where by_id), 0)::int by_id from steps)
	select case when st.n is null then coalesce(m.ok, 0) | (((case when r.kind = 2 or ph.n is not null then free.by_phone else 0 end) | (case when r.kind = 1 then free.by_id & 1 else 0 end)) & ~coalesce(m.known, 0)) else 0 end,
		coalesce(st.list, ''), coalesce(m.unreachable, false), coalesce(m.inactive, false), count(*)
	from r cross join free left join marks m on m.n = r.n left join stopped st on st.n = r.n left join phones ph on ph.n = r.n group by 1, 2, 3, 4`

// CampaignReach tells how many of a campaign's recipients could be reached by which
// step now: some 2 s for a million.
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
	problems := map[string]int64{}
	err = pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local work_mem = '64MB'`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, reachSQL, id, raw, append([]string{"global"}, q.StopLists...))
		if err != nil {
			return err
		}
		var mask int
		var list string
		var unreachable, inactive bool
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&mask, &list, &unreachable, &inactive, &n}, func() error {
			reached.Recipients += n
			if mask != 0 {
				reached.Reachable += n
			}
			first := true
			for i := range q.Steps {
				if mask&(1<<i) == 0 {
					continue
				}
				reached.Steps[i] += n
				if first {
					reached.First[i] += n
					first = false
				}
			}
			switch {
			case list != "":
				problems["on the stop-list "+list] += n
			case mask != 0:
			case unreachable:
				problems["the customer can't be reached (blocked us, or is gone)"] += n
			case inactive:
				problems["the address is inactive: the platform kept refusing it"] += n
			default:
				problems["not known at any account of the steps, and none of them can write first"] += n
			}
			return nil
		})
		return err
	})
	if err != nil {
		return reached, fmt.Errorf("looking whom campaign %s reaches: %w", id, err)
	}
	for _, reason := range slices.Sorted(maps.Keys(problems)) {
		reached.Problems = append(reached.Problems, queue.ReachProblem{Reason: reason, Count: problems[reason]})
	}
	return reached, nil
}
