package db

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/internal/queue"
)

// CampaignImport is a campaign's recipients being added. It holds a connection of
// its own, whose lock ends with it: other imports of the campaign wait for it, and
// the campaign does not start meanwhile.
type CampaignImport struct {
	conn  *pgxpool.Conn
	id    uuid.UUID
	buf   []byte
	actor string
	// The entry in the audit journal, and what has been stored so far.
	entry                          *int64
	accepted, rejected, duplicates int64
}

// importLock is the advisory lock's first key ("cmpi" in ASCII); the second is of
// the campaign's id.
const importLock = 0x636d7069

func importKey(id uuid.UUID) int32 { return int32(binary.BigEndian.Uint32(id[12:])) }

// OpenImport begins to add recipients to a draft, for actor. It waits while another
// import adds to the same. Errors: ErrNotFound, or ErrConflict when it is no draft.
func (d *DB) OpenImport(ctx context.Context, actor, campaignID string) (*CampaignImport, error) {
	if len(wellFormed([]string{campaignID})) == 0 {
		return nil, fmt.Errorf("campaign %s: %w", campaignID, switchboard.ErrNotFound)
	}
	im := &CampaignImport{id: uuid.MustParse(campaignID), actor: actor}
	for {
		conn, err := d.pool.Acquire(ctx)
		if err != nil {
			return nil, fmt.Errorf("connecting for an import: %w", err)
		}
		var got bool
		if err := conn.QueryRow(ctx, `select pg_try_advisory_lock($1, $2)`, importLock, importKey(im.id)).Scan(&got); err != nil {
			conn.Release()
			return nil, fmt.Errorf("locking the campaign for an import: %w", err)
		}
		if got {
			im.conn = conn
			break
		}
		conn.Release() // who waits holds none
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for another import: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	var state string
	err := im.conn.QueryRow(ctx, `select state from campaigns where id = $1 and state <> 'deleted'`, im.id).Scan(&state)
	if err == nil && state != string(switchboard.CampaignDraft) {
		err = notDraft(campaignID, state)
	} else if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("campaign %s: %w", campaignID, switchboard.ErrNotFound)
	}
	if err != nil {
		im.Close()
		return nil, fmt.Errorf("opening an import: %w", err)
	}
	return im, nil
}

func notDraft(id, state string) error {
	return fmt.Errorf("campaign %s is %s; recipients are added to drafts: %w", id, state, switchboard.ErrConflict)
}

// Known calls each with every recipient that the campaign has.
func (im *CampaignImport) Known(ctx context.Context, each func(kind int16, address []byte)) error {
	var accepted int64
	if err := im.conn.QueryRow(ctx, `select accepted from campaigns where id = $1`, im.id).Scan(&accepted); err != nil {
		return fmt.Errorf("reading the campaign: %w", err)
	}
	if accepted == 0 {
		return nil
	}
	rows, err := im.conn.Query(ctx, `select kind, address from campaign_recipients where campaign_id = $1
		union all select r.kind, r.address from campaign_blocks b, unnest(b.kinds, b.addresses) r (kind, address) where b.campaign_id = $1`, im.id)
	if err != nil {
		return fmt.Errorf("reading the recipients: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()
		each(int16(binary.BigEndian.Uint16(raw[0])), raw[1])
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the recipients: %w", err)
	}
	return nil
}

// Add stores a piece and notes it in the audit journal, in one transaction: an import
// has one entry, which tells at any time how far it came. ErrConflict says that the
// campaign is no draft any more.
func (im *CampaignImport) Add(ctx context.Context, piece *queue.Recipients) error {
	var entry int64
	err := pgx.BeginFunc(ctx, im.conn, func(tx pgx.Tx) error {
		var accepted int64
		err := tx.QueryRow(ctx, `update campaigns set accepted = accepted + $2, rejected = rejected + $3, duplicates = duplicates + $4, updated_at = now(),
				variables = variables || array(select v from unnest($5::text[]) v where v <> all(variables))
			where id = $1 and state = 'draft' returning accepted`, im.id, len(piece.List), piece.Rejected, piece.Duplicates, piece.Variables).Scan(&accepted)
		if errors.Is(err, pgx.ErrNoRows) {
			return notDraft(im.id.String(), "no draft any more")
		}
		if err != nil {
			return fmt.Errorf("counting: %w", err)
		}
		entry, err = im.note(ctx, tx, piece)
		if err != nil || len(piece.List) == 0 {
			return err
		}
		im.encode(piece.List, accepted-int64(len(piece.List)))
		blocks := (len(piece.List) + blockRows - 1) / blockRows
		tag, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(im.buf), `copy campaign_blocks (campaign_id, first_n, kinds, addresses, timezones, vars) from stdin (format binary)`)
		if err != nil {
			return fmt.Errorf("copying: %w", err)
		}
		if tag.RowsAffected() != int64(blocks) {
			return fmt.Errorf("copying: %d of %d blocks: %w", tag.RowsAffected(), blocks, io.ErrShortWrite)
		}
		if _, err := tx.Exec(ctx, `insert into campaign_counts (campaign_id, status, delta) values ($1, 'queued', $2)`, im.id, len(piece.List)); err != nil {
			return fmt.Errorf("counting: %w", err)
		}
		if len(piece.Zones) == 0 {
			return nil
		}
		zones, counts := make([]string, 0, len(piece.Zones)), make([]int64, 0, len(piece.Zones))
		for zone, n := range piece.Zones {
			zones, counts = append(zones, zone), append(counts, n)
		}
		if _, err := tx.Exec(ctx, `insert into campaign_zones as z (campaign_id, zone, n) select $1, * from unnest($2::text[], $3::bigint[])
			on conflict (campaign_id, zone) do update set n = z.n + excluded.n`, im.id, zones, counts); err != nil {
			return fmt.Errorf("counting by time zone: %w", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("adding %d recipients: %w", len(piece.List), err)
	}
	im.entry = &entry
	im.accepted, im.rejected, im.duplicates = im.accepted+int64(len(piece.List)), im.rejected+piece.Rejected, im.duplicates+piece.Duplicates
	return nil
}

// note writes the import's entry, or brings it up to date.
func (im *CampaignImport) note(ctx context.Context, tx pgx.Tx, piece *queue.Recipients) (entry int64, err error) {
	detail := map[string]int64{"accepted": im.accepted + int64(len(piece.List)), "rejected": im.rejected + piece.Rejected, "duplicates": im.duplicates + piece.Duplicates}
	if im.entry == nil {
		if err := writeAudit(ctx, tx, im.actor, "campaign.import", im.id.String(), detail); err != nil {
			return 0, err
		}
		err = tx.QueryRow(ctx, `select currval(pg_get_serial_sequence('audit', 'id'))`).Scan(&entry)
	} else {
		err = tx.QueryRow(ctx, `update audit set detail = $2 where id = $1 returning id`, *im.entry, detail).Scan(&entry)
	}
	if err != nil {
		return 0, fmt.Errorf("writing the audit journal: %w", err)
	}
	return entry, nil
}

// blockRows is how many recipients lie in a row of campaign_blocks. A row each
// takes 2.7 s a million (an index entry, a dozen columns, JSON to be parsed), and
// bare rows of a table 0.5 s.
const blockRows = 1000

// The types of the arrays' elements, as in pg_type.
const (
	oidInt2 = 21
	oidText = 25
)

// encode writes the piece in Postgres' binary format.
func (im *CampaignImport) encode(list []queue.Recipient, n int64) {
	b := append(im.buf[:0], "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	for len(list) > 0 {
		block := list[:min(len(list), blockRows)]
		list = list[len(block):]
		b = binary.BigEndian.AppendUint16(b, 6)
		b = append(binary.BigEndian.AppendUint32(b, 16), im.id[:]...)
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(n+1))
		n += int64(len(block))
		start := len(b)
		b = beginArray(b, oidInt2, len(block))
		for i := range block {
			b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, 2), uint16(block[i].Kind))
		}
		endField(b, start)
		b = appendTexts(b, block, true, func(r *queue.Recipient) []byte { return r.Address })
		b = appendTexts(b, block, false, func(r *queue.Recipient) []byte { return r.Timezone })
		b = appendTexts(b, block, false, func(r *queue.Recipient) []byte { return r.Vars })
	}
	im.buf = append(b, 0xff, 0xff)
}

// beginArray begins a field that is an array of one dimension, with room for the
// field's length.
func beginArray(b []byte, oid uint32, n int) []byte {
	b = append(b, 0, 0, 0, 0)
	for _, v := range []uint32{1, 0, oid, uint32(n), 1} { // dimensions, no nulls, type, length, first index
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func endField(b []byte, start int) {
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
}

// appendTexts appends a field of texts; null when all are empty, unless it must be there.
func appendTexts(b []byte, block []queue.Recipient, must bool, of func(*queue.Recipient) []byte) []byte {
	start, some := len(b), must
	b = beginArray(b, oidText, len(block))
	for i := range block {
		text := of(&block[i])
		some = some || len(text) > 0
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(text))), text...)
	}
	if !some {
		return append(b[:start], 0xff, 0xff, 0xff, 0xff)
	}
	endField(b, start)
	return b
}

// Close ends the import.
func (im *CampaignImport) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	// A connection that fails here is closed by the pool, and the lock with it.
	if _, err := im.conn.Exec(ctx, `select pg_advisory_unlock($1, $2)`, importLock, importKey(im.id)); err != nil {
		_ = im.conn.Conn().Close(ctx)
	}
	im.conn.Release()
}
