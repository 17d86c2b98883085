package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"switchboard"
)

// The kinds of addresses, as in suppressions and campaign_recipients.
const (
	stopCustomer = 0
	stopExternal = 1
	stopPhone    = 2
)

func stopAddresses(entries []switchboard.StopEntry) (kinds []int32, addresses, reasons []string) {
	for _, e := range entries {
		kind, address := int32(stopExternal), keyText(e.ExternalID)
		switch {
		case e.CustomerID != "":
			kind, address = stopCustomer, e.CustomerID
		case e.Phone != "":
			kind, address = stopPhone, e.Phone
		}
		kinds, addresses, reasons = append(kinds, kind), append(addresses, address), append(reasons, plainText(e.Reason))
	}
	return kinds, addresses, reasons
}

// StopLists returns the lists that have entries, by name.
func (d *DB) StopLists(ctx context.Context) ([]switchboard.StopList, error) {
	rows, err := d.pool.Query(ctx, `select list, count(*) from suppressions group by list order by list`)
	if err != nil {
		return nil, fmt.Errorf("reading stop-lists: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[switchboard.StopList])
	if err != nil {
		return nil, fmt.Errorf("reading stop-lists: %w", err)
	}
	return list, nil
}

// StopEntries returns entries of a list in the order of kind and address, behind
// after, the last of the former page: nil begins.
func (d *DB) StopEntries(ctx context.Context, list string, after *switchboard.StopEntry, limit int) ([]switchboard.StopEntry, error) {
	kind, address := int32(-1), ""
	if after != nil {
		kinds, addresses, _ := stopAddresses([]switchboard.StopEntry{*after})
		kind, address = kinds[0], addresses[0]
	}
	rows, err := d.pool.Query(ctx, `select kind, address, reason, source, created_at from suppressions where list = $1 and (kind, address) > ($2::smallint, $3) order by kind, address limit $4`, plainText(list), kind, address, limit)
	if err != nil {
		return nil, fmt.Errorf("reading a stop-list: %w", err)
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e switchboard.StopEntry, err error) {
		var kind int
		var address string
		err = row.Scan(&kind, &address, &e.Reason, &e.Source, &e.CreatedAt)
		utc(&e.CreatedAt)
		switch kind {
		case stopCustomer:
			e.CustomerID = address
		case stopPhone:
			e.Phone = address
		default:
			e.ExternalID = address
		}
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading a stop-list: %w", err)
	}
	return entries, nil
}

// AddStops puts addresses on a list, and notes that in the audit journal. added is
// how many were not on it.
func (d *DB) AddStops(ctx context.Context, actor, list string, entries []switchboard.StopEntry) (added int64, err error) {
	kinds, addresses, reasons := stopAddresses(entries)
	return d.changeStops(ctx, actor, "stoplist.add", list, entries, `insert into suppressions (list, kind, address, reason, source)
		select $1, kind, address, reason, $5 from unnest($2::int[], $3::text[], $4::text[]) e (kind, address, reason) order by kind, address on conflict do nothing`,
		list, kinds, addresses, reasons, actor)
}

// RemoveStops takes addresses off a list, and notes that in the audit journal.
// removed is how many were on it.
func (d *DB) RemoveStops(ctx context.Context, actor, list string, entries []switchboard.StopEntry) (removed int64, err error) {
	kinds, addresses, _ := stopAddresses(entries)
	return d.changeStops(ctx, actor, "stoplist.remove", list, entries, `delete from suppressions s using unnest($2::int[], $3::text[]) e (kind, address)
		where s.list = $1 and s.kind = e.kind and s.address = e.address`, list, kinds, addresses)
}

// stopsNoted is how many addresses an entry of the audit journal names.
const stopsNoted = 20

func (d *DB) changeStops(ctx context.Context, actor, action, list string, entries []switchboard.StopEntry, sql string, args ...any) (changed int64, err error) {
	err = d.tx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, sql, args...)
		if err != nil {
			return fmt.Errorf("changing a stop-list: %w", err)
		}
		changed = tag.RowsAffected()
		_, addresses, _ := stopAddresses(entries[:min(len(entries), stopsNoted)])
		return writeAudit(ctx, tx, actor, action, list, map[string]any{"given": len(entries), "changed": changed, "first": addresses})
	})
	return changed, err
}
