package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard/internal/queue"
)

var addressKinds = []string{"customer", "external", "phone"}

func kindNumbers(entries []queue.Suppression) (kinds []int16, addresses, reasons []string) {
	for _, e := range entries {
		for i, name := range addressKinds {
			if name == e.Kind {
				kinds = append(kinds, int16(i))
			}
		}
		addresses, reasons = append(addresses, keyText(e.Address)), append(reasons, plainText(e.Reason))
	}
	return kinds, addresses, reasons
}

// StopLists lists the stop-lists that have entries, with how many.
func (d *DB) StopLists(ctx context.Context) (lists []queue.StopList, err error) {
	rows, err := d.pool.Query(ctx, `select list, count(*) from suppressions group by 1 order by 1`)
	if err != nil {
		return nil, fmt.Errorf("listing stop-lists: %w", err)
	}
	if lists, err = pgx.CollectRows(rows, pgx.RowToStructByPos[queue.StopList]); err != nil {
		return nil, fmt.Errorf("listing stop-lists: %w", err)
	}
	return lists, nil
}

// Suppressions returns entries of a list, those with an address if one is given,
// in the order of kind and address, after the one given.
func (d *DB) Suppressions(ctx context.Context, list, address string, after queue.Suppression, limit int) ([]queue.Suppression, error) {
	kind := int16(-1)
	if after.Kind != "" {
		kinds, _, _ := kindNumbers([]queue.Suppression{after})
		if len(kinds) == 1 {
			kind = kinds[0]
		}
	}
	rows, err := d.pool.Query(ctx, `select list, (array['customer', 'external', 'phone'])[kind + 1], address, reason, source, created_at from suppressions
		where list = $1 and (kind, address) > ($2, $3) and ($4 = '' or address = $4) order by kind, address limit $5`, list, kind, after.Address, address, limit)
	if err != nil {
		return nil, fmt.Errorf("reading stop-list %s: %w", list, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s queue.Suppression, err error) {
		err = row.Scan(&s.List, &s.Kind, &s.Address, &s.Reason, &s.Source, &s.CreatedAt)
		utc(&s.CreatedAt)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading stop-list %s: %w", list, err)
	}
	return found, nil
}

// Suppress adds entries to a list and returns how many were new; those that are
// there stay as they are.
func (d *DB) Suppress(ctx context.Context, actor, list string, entries []queue.Suppression) (added int64, err error) {
	kinds, addresses, reasons := kindNumbers(entries)
	err = d.tx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `insert into suppressions (list, kind, address, reason, source) select $1, r.kind, r.address, r.reason, $2
			from unnest($3::smallint[], $4::text[], $5::text[]) r (kind, address, reason) order by 2, 3 on conflict do nothing`, list, actor, kinds, addresses, reasons)
		if err != nil {
			return err
		}
		added = tag.RowsAffected()
		return auditCampaign(ctx, tx, actor, "stop-list.add", list, map[string]int64{"added": added})
	})
	if err != nil {
		return 0, fmt.Errorf("adding to stop-list %s: %w", list, err)
	}
	return added, nil
}

// Unsuppress removes entries of a list and returns how many there were.
func (d *DB) Unsuppress(ctx context.Context, actor, list string, entries []queue.Suppression) (removed int64, err error) {
	kinds, addresses, _ := kindNumbers(entries)
	err = d.tx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `delete from suppressions x using unnest($2::smallint[], $3::text[]) r (kind, address) where x.list = $1 and x.kind = r.kind and x.address = r.address`, list, kinds, addresses)
		if err != nil {
			return err
		}
		removed = tag.RowsAffected()
		return auditCampaign(ctx, tx, actor, "stop-list.remove", list, map[string]int64{"removed": removed})
	})
	if err != nil {
		return 0, fmt.Errorf("removing from stop-list %s: %w", list, err)
	}
	return removed, nil
}

// InactiveAddresses returns addresses that campaigns leave out: those that a platform
// kept refusing, and customers who blocked or left the account; in the order of
// account and address, after the ones given. accountID "" is all accounts.
func (d *DB) InactiveAddresses(ctx context.Context, accountID, afterAccount, afterAddress string, limit int) ([]queue.InactiveAddress, error) {
	var account *string
	if accountID != "" {
		account = &accountID
	}
	if afterAccount == "" {
		afterAccount = lowestID
	}
	rows, err := d.pool.Query(ctx, `select distinct on (account_id, address) * from (
			(select h.account_id, h.address, coalesce(cu.id::text, ''), h.permanent_failures, h.last_failure, h.last_failure_at, h.inactive_since, 'permanent_failures'
				from address_health h left join chats c on c.account_id = h.account_id and c.external_id = h.address left join customers cu on cu.id = c.customer_id
				where h.inactive_since is not null and h.last_failure_at > coalesce(c.last_customer_message_at, '-infinity')
				and ($1::uuid is null or h.account_id = $1) and (h.account_id, h.address) > ($2, $3) order by h.account_id, h.address limit $4)
			union all (select cu.account_id, cu.external_id, cu.id::text, coalesce(h.permanent_failures, 0), cu.unreachable_reason, h.last_failure_at, h.inactive_since, 'unreachable'
				from customers cu left join address_health h on h.account_id = cu.account_id and h.address = cu.external_id
				where not cu.reachable and ($1::uuid is null or cu.account_id = $1) and (cu.account_id, cu.external_id) > ($2, $3) order by cu.account_id, cu.external_id limit $4)) x (account_id, address, customer_id, failures, last, last_at, since, reason)
		order by account_id, address, reason limit $4`, account, afterAccount, afterAddress, limit)
	if err != nil {
		return nil, fmt.Errorf("looking for inactive addresses: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a queue.InactiveAddress, err error) {
		err = row.Scan(&a.AccountID, &a.Address, &a.CustomerID, &a.PermanentFailures, &a.LastFailure, &a.LastFailureAt, &a.InactiveSince, &a.Reason)
		for _, t := range []*time.Time{a.LastFailureAt, a.InactiveSince} {
			if t != nil {
				utc(t)
			}
		}
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for inactive addresses: %w", err)
	}
	return found, nil
}
