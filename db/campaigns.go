package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/internal/queue"
	"switchboard/message"
)

const campaignColumns = `c.id, c.name, c.state, c.reason, c.definition, c.files, c.created_by, c.created_at, c.updated_at, c.start_at, c.stop_at, c.started_at, c.finished_at, c.rejected, c.duplicates, c.variables`

// campaignPace is how far back the pace of a campaign is measured.
const campaignPace = 15 * time.Second

// Once makes an action of a script happen once: the same Key with the same Request
// again gets the first one's answer. Without a key nothing is kept.
func (d *DB) once(ctx context.Context, o queue.Once, answer any, do func(tx pgx.Tx) error) error {
	return d.tx(ctx, func(tx pgx.Tx) error {
		if o.Key == "" {
			return do(tx)
		}
		// Whoever has the key at the same time waits here for the other's end.
		tag, err := tx.Exec(ctx, `insert into idempotency_keys (scope, key, request, status, response) values ($1, $2, $3, 200, '') on conflict do nothing`, o.Scope, o.Key, o.Request)
		if err != nil {
			return fmt.Errorf("noting idempotency key: %w", err)
		}
		if tag.RowsAffected() == 0 {
			var request, response []byte
			if err := tx.QueryRow(ctx, `select request, response from idempotency_keys where scope = $1 and key = $2`, o.Scope, o.Key).Scan(&request, &response); err != nil {
				return fmt.Errorf("reading idempotency key: %w", err)
			}
			if string(request) != string(o.Request) || len(response) == 0 {
				return fmt.Errorf("the Idempotency-Key was used with another request: %w", switchboard.ErrConflict)
			}
			if err := json.Unmarshal(response, answer); err != nil {
				return fmt.Errorf("reading the first answer: %w", err)
			}
			return nil
		}
		if err := do(tx); err != nil {
			return err
		}
		response, err := json.Marshal(answer)
		if err != nil {
			return fmt.Errorf("keeping the answer: %w", err)
		}
		if _, err := tx.Exec(ctx, `update idempotency_keys set response = $3 where scope = $1 and key = $2`, o.Scope, o.Key, response); err != nil {
			return fmt.Errorf("keeping the answer: %w", err)
		}
		return nil
	})
}

func auditCampaign(ctx context.Context, tx pgx.Tx, actor, action, id string, detail any) error {
	return writeAudit(ctx, tx, actor, action, id, detail)
}

// AddCampaign stores a draft. Of c the definition and what is taken from it counts.
func (d *DB) AddCampaign(ctx context.Context, o queue.Once, c switchboard.Campaign) (switchboard.Campaign, error) {
	var made switchboard.Campaign
	err := d.once(ctx, o, &made, func(tx pgx.Tx) error {
		id := NewID()
		files := c.Files
		if files == nil {
			files = map[string]message.File{}
		}
		if _, err := tx.Exec(ctx, `insert into campaigns (id, name, definition, files, created_by, start_at, stop_at) values ($1, $2, $3, $4, $5, $6, $7)`,
			id, plainText(c.Name), string(c.Definition), files, c.CreatedBy, c.StartAt, c.StopAt); err != nil {
			return fmt.Errorf("adding campaign: %w", err)
		}
		if err := auditCampaign(ctx, tx, c.CreatedBy, "campaign.add", id, map[string]string{"name": c.Name}); err != nil {
			return err
		}
		var err error
		made, err = campaignIn(ctx, tx, id)
		return err
	})
	return made, err
}

// Campaign returns one campaign with its counts, which are the sum of a few rows.
func (d *DB) Campaign(ctx context.Context, id string) (switchboard.Campaign, error) {
	return campaignIn(ctx, d.pool, id)
}

func campaignIn(ctx context.Context, q batcher, id string) (switchboard.Campaign, error) {
	if len(wellFormed([]string{id})) == 0 {
		return switchboard.Campaign{}, fmt.Errorf("campaign %s: %w", id, switchboard.ErrNotFound)
	}
	list, err := campaignsIn(ctx, q, `select `+campaignColumns+` from campaigns c where c.id = $1 and c.state <> 'deleted'`, id)
	if err != nil {
		return switchboard.Campaign{}, err
	}
	if len(list) == 0 {
		return switchboard.Campaign{}, fmt.Errorf("campaign %s: %w", id, switchboard.ErrNotFound)
	}
	return list[0], nil
}

// Campaigns lists campaigns, newest first.
func (d *DB) Campaigns(ctx context.Context, f switchboard.CampaignFilter, limit int) ([]switchboard.Campaign, error) {
	var before *string
	if f.Before != "" {
		before = &f.Before
	}
	return campaignsIn(ctx, d.pool, `select `+campaignColumns+` from campaigns c where c.state <> 'deleted' and ($1 = '' or c.state = $1)
		and ($2 = '' or position(lower($2) in lower(c.name)) > 0) and ($3::uuid is null or c.id < $3) order by c.id desc limit $4`, string(f.State), f.Name, before, limit)
}

// batcher is a pool, or a transaction.
type batcher interface {
	querier
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

func campaignsIn(ctx context.Context, q batcher, sql string, args ...any) ([]switchboard.Campaign, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("reading campaigns: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c switchboard.Campaign, err error) {
		err = row.Scan(&c.ID, &c.Name, &c.State, &c.Reason, &c.Definition, &c.Files, &c.CreatedBy, &c.CreatedAt, &c.UpdatedAt, &c.StartAt, &c.StopAt, &c.StartedAt, &c.FinishedAt, &c.Rejected, &c.Duplicates, &c.Variables)
		utc(&c.CreatedAt)
		utc(&c.UpdatedAt)
		for _, t := range []*time.Time{c.StartAt, c.StopAt, c.StartedAt, c.FinishedAt} {
			if t != nil {
				utc(t)
			}
		}
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading campaigns: %w", err)
	}
	if len(list) == 0 {
		return list, nil
	}
	ids := make([]string, len(list))
	at := make(map[string]*switchboard.Campaign, len(list))
	for i := range list {
		c := &list[i]
		c.RecentTime = campaignPace
		ids[i], at[c.ID] = c.ID, c
		if c.State == switchboard.CampaignRunning {
			c.Run = &switchboard.CampaignRun{Outbox: map[string]int64{}, Busy: map[string]time.Time{}}
		}
	}
	// In one round trip: who looks at a campaign looks again and again.
	batch := &pgx.Batch{}
	batch.Queue(`select campaign_id, status, step, sum(delta)::bigint,
			coalesce(sum(-delta) filter (where status = 'queued' and delta < 0 and at > now() - $2::interval), 0)::bigint
		from campaign_counts where campaign_id = any($1) group by 1, 2, 3`, ids, campaignPace).Query(func(rows pgx.Rows) error { return readCounts(rows, at) })
	batch.Queue(`select campaign_id, zone, n from campaign_zones where campaign_id = any($1)`, ids).Query(func(rows pgx.Rows) error {
		var id, zone string
		var n int64
		_, err := pgx.ForEachRow(rows, []any{&id, &zone, &n}, func() error {
			if c := at[id]; c.Zones == nil {
				c.Zones = map[string]int64{}
			}
			at[id].Zones[zone] = n
			return nil
		})
		return err
	})
	batch.Queue(campaignRuns, ids, nodeDeadAfter, limitsLong, campaignPace).Query(func(rows pgx.Rows) error { return readRuns(rows, at) })
	if err := q.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("counting recipients of campaigns: %w", err)
	}
	return list, nil
}

func readCounts(rows pgx.Rows, at map[string]*switchboard.Campaign) error {
	var id, status string
	var step int
	var n, left int64
	_, err := pgx.ForEachRow(rows, []any{&id, &status, &step, &n, &left}, func() error {
		c := at[id]
		for len(c.Steps) <= step {
			c.Steps = append(c.Steps, switchboard.CampaignCounts{})
		}
		*c.Counts.Of(status) += n
		*c.Steps[step].Of(status) += n
		c.Counts.Total += n
		c.Steps[step].Total += n
		c.Recent += left
		return nil
	})
	return err
}

// limitsLong is how long an account's limit must be used up to be told of: so long
// only when a platform asked for a pause, or a conversation's burst takes its turn.
const limitsLong = 5 * time.Second

// campaignRuns is what holds running campaigns up. It looks at no recipients, and
// counts messages only of campaigns that nothing was sent of lately, and while some
// account is stopped or held up: among thousands of sends a second the count reads
// what was deleted, too, for ten milliseconds and more.
const campaignRuns = `select id, 'run', '', accepted - taken, null, held_up, exists (select 1 from nodes where 'workers' = any(roles) and seen_at > now() - $2::interval)
		from campaigns where id = any($1) and state = 'running'
	union all select campaign_id, 'quiet', '', sum(n)::bigint, due_at, '', false from campaign_quiet where campaign_id = any($1) and due_at > now() group by campaign_id, due_at
	union all select o.campaign_id, 'outbox', o.account_id::text, o.n, case when l.tat > now() + $3::interval then l.tat end, '', false
		from (select campaign_id, account_id, count(*) n from outbox where campaign_id = any(
			case when exists (select 1 from accounts where state <> 'active') or exists (select 1 from limits where tat > now() + $3::interval) then $1::uuid[]
			else array(select x from unnest($1::uuid[]) x where not exists (select 1 from campaign_counts k where k.campaign_id = x and k.status = 'queued' and k.delta < 0 and k.at > now() - $4::interval)) end)
			group by 1, 2) o
		left join limits l on l.key = 'account:' || o.account_id
	order by 2, 5`

func readRuns(rows pgx.Rows, at map[string]*switchboard.Campaign) error {
	var id, what, account, reason string
	var n int64
	var until *time.Time
	var workers bool
	_, err := pgx.ForEachRow(rows, []any{&id, &what, &account, &n, &until, &reason, &workers}, func() error {
		r := at[id].Run
		if r == nil {
			return nil
		}
		switch what {
		case "run":
			r.Fresh, r.HeldUp, r.Workers = max(n, 0), reason, workers
		case "quiet":
			r.Quiet = append(r.Quiet, switchboard.CampaignQuiet{Until: until.UTC(), Recipients: n})
		case "outbox":
			if r.Outbox[account] = n; until != nil {
				r.Busy[account] = until.UTC()
			}
		}
		return nil
	})
	return err
}

// campaignMoves are the changes of state, each a conditional update, so that of two
// who do the same one does it. $2 is when it begins by itself, for a start.
var campaignMoves = map[string]struct {
	update string
	wants  string // for people: in which states it can be done
}{
	"start": {`update campaigns set state = case when start_at > now() then 'scheduled' else 'running' end, started_at = coalesce(started_at, case when start_at > now() then null else now() end),
		reason = '', updated_at = now() where id = $1 and state = 'draft' and accepted > 0 and (stop_at is null or stop_at > now())`, "a draft can be started"},
	"pause": {`update campaigns set state = 'paused', reason = 'paused', updated_at = now() where id = $1 and state in ('scheduled', 'running')`, "a scheduled or running campaign can be paused"},
	"resume": {`update campaigns set state = case when started_at is null and start_at > now() then 'scheduled' else 'running' end, started_at = coalesce(started_at, case when start_at > now() then null else now() end),
		reason = '', updated_at = now() where id = $1 and state = 'paused'`, "a paused campaign can be resumed"},
	"cancel": {`update campaigns set state = 'canceled', reason = 'canceled', updated_at = now() where id = $1 and state in ('draft', 'scheduled', 'running', 'paused')`, "a campaign that has not ended can be canceled"},
}

// MoveCampaign starts, pauses, resumes or cancels a campaign. It touches the
// campaign's row alone, however many recipients there are. ErrConflict says in
// which state the campaign is, and what can be done.
func (d *DB) MoveCampaign(ctx context.Context, o queue.Once, actor, id, action string) (switchboard.Campaign, error) {
	move, ok := campaignMoves[action]
	if !ok {
		return switchboard.Campaign{}, fmt.Errorf("campaign action %q: %w", action, switchboard.ErrInvalid)
	}
	var c switchboard.Campaign
	err := d.once(ctx, o, &c, func(tx pgx.Tx) error {
		var err error
		if c, err = campaignIn(ctx, tx, id); err != nil {
			return err
		}
		if action == "start" {
			var free bool
			if err := tx.QueryRow(ctx, `select pg_try_advisory_xact_lock($1, $2)`, importLock, importKey(uuid.MustParse(id))).Scan(&free); err != nil {
				return fmt.Errorf("looking for an import: %w", err)
			}
			if !free {
				return fmt.Errorf("recipients are being added to campaign %s; start it when that is done: %w", id, switchboard.ErrConflict)
			}
		}
		tag, err := tx.Exec(ctx, move.update, id)
		if err != nil {
			return fmt.Errorf("changing campaign: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return whyNot(ctx, tx, id, action, move.wants)
		}
		if err := auditCampaign(ctx, tx, actor, "campaign."+action, id, map[string]any{"name": c.Name, "state": c.State, "recipients": c.Counts.Total}); err != nil {
			return err
		}
		if c, err = campaignIn(ctx, tx, id); err != nil || action != "start" || o.Daily <= 0 {
			return err
		}
		return takeDaily(ctx, tx, o.KeyID, o.Daily, c.Counts.Total)
	})
	return c, err
}

// whyNot says why a campaign can't be moved, as of now: another may have moved it.
func whyNot(ctx context.Context, tx pgx.Tx, id, action, wants string) error {
	c, err := campaignIn(ctx, tx, id)
	if err != nil {
		return err
	}
	if action == "start" && c.State == switchboard.CampaignDraft {
		if c.Counts.Total == 0 {
			return fmt.Errorf("campaign %s has no recipients; add some with PUT /api/v1/campaigns/%s/recipients: %w", id, id, switchboard.ErrConflict)
		}
		return fmt.Errorf("campaign %s was to stop at %s, which is over; make one with a later schedule.stop_at: %w", id, c.StopAt.Format(time.RFC3339), switchboard.ErrConflict)
	}
	return fmt.Errorf("campaign %s is %s; %s: %w", id, c.State, wants, switchboard.ErrConflict)
}

// retryRows is how many recipients are queued again in one transaction: a million
// take some ten seconds.
const retryRows = 20000

// RetryCampaign queues the recipients again whose last step failed or expired, from
// the first step on, and runs a campaign that was done. retried is how many there
// are; the first of them are queued when it returns, the others by RetryMore.
func (d *DB) RetryCampaign(ctx context.Context, o queue.Once, actor, id string) (retried int64, c switchboard.Campaign, err error) {
	var answer struct {
		Retried  int64
		Campaign switchboard.Campaign
	}
	err = d.once(ctx, o, &answer, func(tx pgx.Tx) error {
		c, err := campaignIn(ctx, tx, id)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `update campaigns set retry_from = 1 where id = $1 and state in ('running', 'paused', 'done') and (stop_at is null or stop_at > now())`, id)
		if err != nil {
			return fmt.Errorf("changing campaign: %w", err)
		}
		if tag.RowsAffected() == 0 {
			if c.StopAt != nil && time.Now().After(*c.StopAt) {
				return fmt.Errorf("campaign %s ended at its schedule.stop_at, %s: %w", id, c.StopAt.Format(time.RFC3339), switchboard.ErrConflict)
			}
			return fmt.Errorf("campaign %s is %s; what failed can be retried while it is running, paused or done: %w", id, c.State, switchboard.ErrConflict)
		}
		if err := tx.QueryRow(ctx, `select count(*) from campaign_recipients where campaign_id = $1 and state = 'done' and status in ('failed', 'expired')`, id).Scan(&answer.Retried); err != nil {
			return fmt.Errorf("counting what failed: %w", err)
		}
		if _, err := retryIn(ctx, tx, id); err != nil {
			return err
		}
		if err := auditCampaign(ctx, tx, actor, "campaign.retry-failed", id, map[string]any{"name": c.Name, "recipients": answer.Retried}); err != nil {
			return err
		}
		if answer.Campaign, err = campaignIn(ctx, tx, id); err != nil || o.Daily <= 0 || answer.Retried == 0 {
			return err
		}
		return takeDaily(ctx, tx, o.KeyID, o.Daily, answer.Retried)
	})
	return answer.Retried, answer.Campaign, err
}

// retryIn queues the next recipients again of a campaign that is being retried.
func retryIn(ctx context.Context, tx pgx.Tx, id string) (more bool, err error) {
	var from, n, last int64
	err = tx.QueryRow(ctx, `select retry_from from campaigns where id = $1 and retry_from is not null and state in ('running', 'paused', 'done') for update`, id).Scan(&from)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("locking the campaign: %w", err)
	}
	err = tx.QueryRow(ctx, `with failed as (
			select n, status, step from campaign_recipients where campaign_id = $1 and n >= $2 and state = 'done' and status in ('failed', 'expired') order by n limit $3 for update),
		again as (update campaign_recipients r set state = 'waiting', status = 'queued', reason = null, step = 0, round = round + 1, message_id = null, due_at = now(), updated_at = now()
			from failed f where r.campaign_id = $1 and r.n = f.n),
		counted as (insert into campaign_counts (campaign_id, status, step, delta)
			select $1, status, step, -count(*) from failed group by 2, 3 union all select $1, 'queued', 0, count(*) from failed having count(*) > 0),
		undone as (insert into campaign_done (campaign_id, delta) select $1, -count(*) from failed having count(*) > 0)
		select count(*), coalesce(max(n), 0) from failed`, id, from, retryRows).Scan(&n, &last)
	if err != nil {
		return false, fmt.Errorf("queueing what failed: %w", err)
	}
	more = n == retryRows
	var next *int64
	if more {
		next = new(last + 1)
	}
	if _, err := tx.Exec(ctx, `update campaigns set retry_from = $2, state = case when state = 'done' and $3 then 'running' else state end, finished_at = case when $3 then null else finished_at end,
		reason = case when $3 and state = 'done' then '' else reason end, updated_at = now() where id = $1`, id, next, n > 0); err != nil {
		return false, fmt.Errorf("changing campaign: %w", err)
	}
	return more, nil
}

// RetryMore goes on with a retry, of the campaign or, for "", of any. more says that
// it is not through.
func (d *DB) RetryMore(ctx context.Context, id string) (more bool, err error) {
	if id == "" {
		err := d.pool.QueryRow(ctx, `select id from campaigns where retry_from is not null and state in ('running', 'paused', 'done') order by id limit 1`).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("looking for campaigns to retry: %w", err)
		}
	}
	err = d.tx(ctx, func(tx pgx.Tx) error {
		more, err = retryIn(ctx, tx, id)
		return err
	})
	return more, err
}

// DeleteCampaign removes a draft. Its recipients go by and by, see PruneCampaigns.
func (d *DB) DeleteCampaign(ctx context.Context, actor, id string) error {
	return d.tx(ctx, func(tx pgx.Tx) error {
		c, err := campaignIn(ctx, tx, id)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `update campaigns set state = 'deleted', updated_at = now() where id = $1 and state = 'draft'`, id)
		if err != nil {
			return fmt.Errorf("deleting campaign: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("campaign %s is %s; only drafts can be deleted, others are part of the reports: %w", id, c.State, switchboard.ErrConflict)
		}
		return auditCampaign(ctx, tx, actor, "campaign.delete", id, map[string]any{"name": c.Name, "recipients": c.Counts.Total})
	})
}

// PruneCampaigns removes up to limit recipients of deleted drafts, and the drafts
// that have none left. more says that there is something left to do.
func (d *DB) PruneCampaigns(ctx context.Context, limit int) (more bool, err error) {
	err = d.tx(ctx, func(tx pgx.Tx) error {
		var id string
		err := tx.QueryRow(ctx, `select id from campaigns where state = 'deleted' order by id limit 1 for update skip locked`).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking for deleted campaigns: %w", err)
		}
		more = true
		if _, err := tx.Exec(ctx, `delete from campaign_blocks where campaign_id = $1`, id); err != nil {
			return fmt.Errorf("removing recipients: %w", err)
		}
		tag, err := tx.Exec(ctx, `delete from campaign_recipients where campaign_id = $1 and n in (select n from campaign_recipients where campaign_id = $1 order by n limit $2)`, id, limit)
		if err != nil {
			return fmt.Errorf("removing recipients: %w", err)
		}
		if tag.RowsAffected() > 0 {
			return nil
		}
		batch := &pgx.Batch{}
		batch.Queue(`delete from campaign_counts where campaign_id = $1`, id)
		batch.Queue(`delete from campaign_zones where campaign_id = $1`, id)
		batch.Queue(`delete from campaigns where id = $1`, id)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("removing campaign: %w", err)
		}
		return nil
	})
	return more, err
}

// CampaignRecipients lists recipients in the order of their import. An unknown
// campaign has none.
func (d *DB) CampaignRecipients(ctx context.Context, id string, f switchboard.RecipientFilter, limit int) ([]switchboard.CampaignRecipient, error) {
	// What is still packed has higher numbers than what is not, and is queued.
	rows, err := d.pool.Query(ctx, `(select n, kind, address, coalesce(timezone, ''), vars, status, coalesce(reason, ''), step, message_id, updated_at from campaign_recipients
			where campaign_id = $1 and n > $2 and ($3 = '' or status = $3) order by n limit $4)
		union all (select first_n + r.i - 1, r.kind, r.address, coalesce(r.timezone, ''), nullif(r.vars, '')::jsonb, 'queued', '', 0, null, null
			from (select * from campaign_blocks where campaign_id = $1 and first_n > $2 - $5 and $3 in ('', 'queued') order by first_n limit $4 / $5 + 2) b,
				unnest(b.kinds, b.addresses, b.timezones, b.vars) with ordinality r (kind, address, timezone, vars, i)
			where first_n + r.i - 1 > $2 order by 1 limit $4)
		order by 1 limit $4`, id, f.After, f.Status, limit, blockRows)
	if err != nil {
		return nil, fmt.Errorf("reading recipients: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r switchboard.CampaignRecipient, err error) {
		var kind int
		var address string
		err = row.Scan(&r.N, &kind, &address, &r.Timezone, &r.Variables, &r.Status, &r.Reason, &r.Step, &r.MessageID, &r.UpdatedAt)
		switch kind {
		case queue.ByCustomer:
			r.CustomerID = address
		case queue.ByExternalID:
			r.ExternalID = address
		default:
			r.Phone = address
		}
		if r.UpdatedAt != nil {
			utc(r.UpdatedAt)
		}
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading recipients: %w", err)
	}
	return list, nil
}
