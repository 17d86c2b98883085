package db

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/message"
)

// Reports are read over connections of their own, with settings of their own: see
// reportSettings. They are made month by month, so that each statement looks into
// one partition, mostly, and ends in time; what needs the order of chats (answers.go)
// sorts on the database's disk.

// reportSettings are of the connections of reports. A report may take long, and
// must not take from others more than it needs: no parallel workers, and an end.
var reportSettings = map[string]string{
	"default_transaction_read_only": "on",
	"plan_cache_mode":               "force_custom_plan", // conditions differ from report to report
	"jit":                           "off", "max_parallel_workers_per_gather": "0", "work_mem": "32MB",
}

// ReportsAtOnce is how many reports a process may make at once: more are for the
// caller to refuse. Each takes up to two connections.
const ReportsAtOnce = 3

// idSkew is how far the time in a message's id may be from created_at: clocks
// differ. Customers' messages have ids that are later still when their update had
// to wait, in quarantine for instance; those are found by created_at.
const idSkew = time.Hour

// span is a range of ids to look at.
type span struct {
	lo, hi string // hi "" is open: only customers' messages are looked for
}

// spans are the months of a period, and what came late.
func spans(from, to time.Time) (list []span) {
	end := to.Add(idSkew)
	for at := from.Add(-idSkew); at.Before(end); {
		next := messagesTable.next(messagesTable.begin(at))
		if next.After(end) {
			next = end
		}
		list = append(list, span{firstID(at), firstID(next)})
		at = next
	}
	return append(list, span{lo: firstID(end)})
}

// conditions is a where clause that grows; the arguments are numbered as they come.
type conditions struct {
	sql  strings.Builder
	args []any
}

// and adds a condition; each ? stands for an argument.
func (c *conditions) and(sql string, args ...any) {
	if c.sql.Len() > 0 {
		c.sql.WriteString(" and ")
	}
	c.sql.WriteString(c.put(sql, args...))
}

// put numbers the arguments of a piece of SQL.
func (c *conditions) put(sql string, args ...any) string {
	var b strings.Builder
	for i, part := range strings.Split(sql, "?") {
		if i > 0 {
			c.args = append(c.args, args[i-1])
			fmt.Fprintf(&b, "$%d", len(c.args))
		}
		b.WriteString(part)
	}
	return b.String()
}

// ofMessages adds the conditions of a filter on messages m.
func (c *conditions) ofMessages(f *switchboard.ReportFilter, s span) {
	c.and("m.id >= ?::uuid", s.lo)
	if s.hi != "" {
		c.and("m.id < ?::uuid", s.hi)
	} else {
		c.and("m.direction = 'in'")
	}
	c.and("m.created_at >= ? and m.created_at < ?", f.From, f.To)
	c.ofAccount("m", f)
	if f.OperatorID != "" {
		c.and("m.sender_kind = 'operator' and m.sender_id = ?", f.OperatorID)
	}
	if f.Direction != "" {
		c.and("m.direction = ?", f.Direction)
	}
	if f.Status != "" {
		c.and("m.status = ?", f.Status)
	}
	if f.CampaignID != "" {
		c.and("exists (select 1 from campaign_sends cs where cs.message_id = m.id and cs.campaign_id = ?::uuid)", f.CampaignID)
	}
}

func (c *conditions) ofAccount(table string, f *switchboard.ReportFilter) {
	if f.AccountID != "" {
		c.and(table+".account_id = ?::uuid", f.AccountID)
	}
	if f.Platform != "" {
		c.and(table+".account_id = any(array(select id from accounts where platform = ?))", f.Platform)
	}
}

// keyed are the two columns of a FigureKey.
func (c *conditions) keyed(by switchboard.ReportBy, zone, id, at string) string {
	switch by {
	case switchboard.ReportDay, switchboard.ReportHour:
		return "''," + c.put("date_trunc(?, "+at+", ?)", string(by), zone)
	case switchboard.ReportAccount, switchboard.ReportOperator:
		return id + ",null::timestamptz"
	default:
		return "'',null::timestamptz"
	}
}

// figureKey is a FigureKey as it comes from the database.
type figureKey struct {
	id string
	at *time.Time
}

// tally gathers a report's rows.
type tally struct {
	rows map[switchboard.FigureKey]*tallied
}

// tallied is a row that is not summed up yet.
type tallied struct {
	switchboard.Figures
	answers, first, handling durations
}

func (t *tally) row(id string, at *time.Time) *tallied {
	k := switchboard.FigureKey{ID: id}
	if at != nil {
		k.At = at.UTC()
	}
	r := t.rows[k]
	if r == nil {
		r = &tallied{}
		r.FigureKey = k
		t.rows[k] = r
	}
	return r
}

// Figures makes the rows of a report; rows in which nothing happened are left out.
// They come in the order of time, or of ids. ErrInvalid when the database does not
// know the time zone.
func (r *Reader) Figures(ctx context.Context, f switchboard.ReportFilter, by switchboard.ReportBy) (rows []switchboard.Figures, err error) {
	err = r.report(ctx, func(pool *pgxpool.Pool) error {
		rows, err = figures(ctx, pool, &f, by)
		return err
	})
	return rows, err
}

func figures(ctx context.Context, pool *pgxpool.Pool, f *switchboard.ReportFilter, by switchboard.ReportBy) ([]switchboard.Figures, error) {
	t := &tally{rows: map[switchboard.FigureKey]*tallied{}}
	for _, s := range spans(f.From, f.To) {
		if err := t.countMessages(ctx, pool, f, by, s); err != nil {
			return nil, reportError("counting messages", err)
		}
	}
	if f.CampaignID == "" && f.Direction == "" && f.Status == "" {
		if err := t.countChats(ctx, pool, f, by); err != nil {
			return nil, reportError("counting chats", err)
		}
		if err := t.timeHandling(ctx, pool, f, by); err != nil {
			return nil, reportError("timing chats", err)
		}
		// Of what lies before a month only that is asked for which is needed, so that a
		// month is as good a period as any.
		month := *f
		for month.From.Before(f.To) {
			if month.To = messagesTable.next(messagesTable.begin(month.From)); month.To.After(f.To) {
				month.To = f.To
			}
			if err := t.timeAnswers(ctx, pool, &month, by); err != nil {
				return nil, reportError("timing answers", err)
			}
			month.From = month.To
		}
	}
	list := make([]switchboard.Figures, 0, len(t.rows))
	for _, r := range t.rows {
		r.Answer, r.FirstAnswer, r.Handling = r.answers.sum(), r.first.sum(), r.handling.sum()
		list = append(list, r.Figures)
	}
	slices.SortFunc(list, func(a, b switchboard.Figures) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return list, nil
}

// reportError tells what the asker can change from other errors.
func reportError(what string, err error) error {
	if err == nil {
		return nil
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "22023": // of date_trunc
			return fmt.Errorf("timezone: the database does not know it; use a name like Europe/Berlin: %w", switchboard.ErrInvalid)
		case "57014":
			return fmt.Errorf("the report takes too long; ask for a shorter period, or for one account: %w", switchboard.ErrInvalid)
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (t *tally) countMessages(ctx context.Context, pool *pgxpool.Pool, f *switchboard.ReportFilter, by switchboard.ReportBy, s span) error {
	c := &conditions{}
	c.ofMessages(f, s)
	id := "m.account_id::text"
	if by == switchboard.ReportOperator {
		c.and("m.sender_kind = 'operator'")
		id = "m.sender_id"
	}
	columns := c.keyed(by, f.Zone, id, "m.created_at")
	rows, err := pool.Query(ctx, `select `+columns+`, m.direction, m.sender_kind, m.status, count(*) from messages m where `+c.sql.String()+` group by 1, 2, 3, 4, 5`, c.args...)
	if err != nil {
		return err
	}
	var k figureKey
	var direction message.Direction
	var sender message.SenderKind
	var status message.Status
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&k.id, &k.at, &direction, &sender, &status, &n}, func() error {
		r := t.row(k.id, k.at)
		if direction == message.In {
			r.In += n
			return nil
		}
		r.Out += n
		switch sender {
		case message.SenderOperator:
			r.OutOperators += n
		case message.SenderCampaign:
			r.OutCampaigns += n
		case message.SenderBot:
			r.OutBots += n
		default:
			r.OutScripts += n
		}
		switch status {
		case message.StatusSent:
			r.Sent += n
		case message.StatusDelivered:
			r.Delivered += n
		case message.StatusRead:
			r.Read += n
		case message.StatusFailed:
			r.Failed += n
		case message.StatusExpired:
			r.Expired += n
		case message.StatusCanceled:
			r.Canceled += n
		default:
			r.Waiting += n
		}
		return nil
	})
	return err
}

// ofChats adds the conditions of a filter on chat_log l. operator is the column of
// the operator that it is about.
func (c *conditions) ofChats(f *switchboard.ReportFilter, operator string) {
	c.and("l.at >= ? and l.at < ?", f.From, f.To)
	c.ofAccount("l", f)
	if f.OperatorID != "" {
		c.and("l."+operator+" = ?::uuid", f.OperatorID)
	}
}

func (t *tally) countChats(ctx context.Context, pool *pgxpool.Pool, f *switchboard.ReportFilter, by switchboard.ReportBy) error {
	perOperator := by == switchboard.ReportOperator || f.OperatorID != ""
	// What somebody begins to serve, and what somebody ends to serve: a transfer is
	// both, of two operators.
	for _, side := range []string{"operator_id", "former_id"} {
		c := &conditions{}
		c.ofChats(f, side)
		switch {
		case perOperator:
			c.and("l." + side + " is not null")
		case side == "operator_id":
			c.and("l.what in ('begun', 'started', 'accepted', 'transferred')")
		default:
			c.and("l.what in ('queued', 'closed')")
		}
		id := "l.account_id::text"
		if by == switchboard.ReportOperator {
			id = "l." + side + "::text"
		}
		columns := c.keyed(by, f.Zone, id, "l.at")
		rows, err := pool.Query(ctx, `select `+columns+`, l.what, count(*) from chat_log l where `+c.sql.String()+` group by 1, 2, 3`, c.args...)
		if err != nil {
			return err
		}
		var k figureKey
		var what string
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&k.id, &k.at, &what, &n}, func() error {
			r := t.row(k.id, k.at)
			switch what {
			case "begun":
				r.Begun += n
			case "started":
				r.Started += n
			case "accepted":
				r.Accepted += n
			case "transferred":
				if side == "operator_id" {
					r.Transferred += n
				} else {
					r.TransferredAway += n
				}
			case "queued":
				r.Requeued += n
			case "closed":
				r.Closed += n
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tally) timeHandling(ctx context.Context, pool *pgxpool.Pool, f *switchboard.ReportFilter, by switchboard.ReportBy) error {
	c := &conditions{}
	c.ofChats(f, "former_id")
	c.and("l.what = 'closed' and l.since is not null")
	id := "l.account_id::text"
	if by == switchboard.ReportOperator {
		id = "l.former_id::text"
	}
	columns := c.keyed(by, f.Zone, id, "l.at")
	rows, err := pool.Query(ctx, `select `+columns+`, l.since, l.at from chat_log l where `+c.sql.String(), c.args...)
	if err != nil {
		return err
	}
	var k figureKey
	var since, at time.Time
	_, err = pgx.ForEachRow(rows, []any{&k.id, &k.at, &since, &at}, func() error {
		t.row(k.id, k.at).handling.add(at.Sub(since))
		return nil
	})
	return err
}

// MessageCounts counts messages by kind and fate, most first.
func (r *Reader) MessageCounts(ctx context.Context, f switchboard.ReportFilter) (list []switchboard.MessageCount, err error) {
	err = r.report(ctx, func(pool *pgxpool.Pool) error {
		sums := map[switchboard.MessageCount]int64{}
		for _, s := range spans(f.From, f.To) {
			c := &conditions{}
			c.ofMessages(&f, s)
			rows, err := pool.Query(ctx, `select m.direction, m.sender_kind, m.kind, m.status, coalesce(m.error->>'kind', ''), coalesce(m.error->>'code', ''), count(*)
				from messages m where `+c.sql.String()+` group by 1, 2, 3, 4, 5, 6`, c.args...)
			if err != nil {
				return reportError("counting messages", err)
			}
			var k switchboard.MessageCount
			var n int64
			if _, err := pgx.ForEachRow(rows, []any{&k.Direction, &k.SenderKind, &k.Kind, &k.Status, &k.ErrorKind, &k.ErrorCode, &n}, func() error {
				sums[k] += n
				return nil
			}); err != nil {
				return reportError("counting messages", err)
			}
		}
		list = make([]switchboard.MessageCount, 0, len(sums))
		for k, n := range sums {
			k.N = n
			list = append(list, k)
		}
		slices.SortFunc(list, func(a, b switchboard.MessageCount) int {
			return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Status, b.Status),
				cmp.Compare(a.SenderKind, b.SenderKind), cmp.Compare(a.ErrorKind, b.ErrorKind), cmp.Compare(a.ErrorCode, b.ErrorCode))
		})
		return nil
	})
	return list, err
}

// CampaignSteps are the steps of the campaigns that made messages in the period,
// newest campaign first.
func (r *Reader) CampaignSteps(ctx context.Context, f switchboard.ReportFilter) (list []switchboard.CampaignStep, err error) {
	err = r.report(ctx, func(pool *pgxpool.Pool) error {
		list, err = campaignSteps(ctx, pool, &f)
		return reportError("reading campaigns", err)
	})
	return list, err
}

func campaignSteps(ctx context.Context, pool *pgxpool.Pool, f *switchboard.ReportFilter) ([]switchboard.CampaignStep, error) {
	type stepKey struct {
		id   string
		step int
	}
	steps := map[stepKey]*switchboard.CampaignStep{}
	step := func(k stepKey) *switchboard.CampaignStep {
		s := steps[k]
		if s == nil {
			s = &switchboard.CampaignStep{CampaignID: k.id, Step: k.step, Messages: map[string]int64{}, Reasons: map[string]int64{}, Recipients: map[string]int64{}}
			steps[k] = s
		}
		return s
	}
	var k stepKey
	var status, reason string
	var n int64
	for _, s := range spans(f.From, f.To) {
		c := &conditions{}
		c.ofMessages(f, s)
		rows, err := pool.Query(ctx, `select s.campaign_id, s.step, m.status, case when m.status in ('failed', 'expired') then concat_ws(' ', m.error->>'kind', m.error->>'code') else '' end, count(*)
			from messages m join campaign_sends s on s.message_id = m.id where m.direction = 'out' and `+c.sql.String()+` group by 1, 2, 3, 4`, c.args...)
		if err != nil {
			return nil, err
		}
		if _, err := pgx.ForEachRow(rows, []any{&k.id, &k.step, &status, &reason, &n}, func() error {
			s := step(k)
			s.Messages[status] += n
			if reason != "" {
				s.Reasons[reason] += n
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	var ids []string
	for k := range steps {
		ids = append(ids, k.id)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	rows, err := pool.Query(ctx, `select campaign_id, step, status, sum(delta) from campaign_counts where campaign_id = any($1) group by 1, 2, 3 having sum(delta) <> 0`, ids)
	if err != nil {
		return nil, err
	}
	if _, err := pgx.ForEachRow(rows, []any{&k.id, &k.step, &status, &n}, func() error {
		step(k).Recipients[status] = n
		return nil
	}); err != nil {
		return nil, err
	}
	rows, err = pool.Query(ctx, `select id, name, state from campaigns where id = any($1)`, ids)
	if err != nil {
		return nil, err
	}
	var id string
	names := map[string][2]string{}
	var name, state string
	if _, err := pgx.ForEachRow(rows, []any{&id, &name, &state}, func() error {
		names[id] = [2]string{name, state}
		return nil
	}); err != nil {
		return nil, err
	}
	list := make([]switchboard.CampaignStep, 0, len(steps))
	for _, s := range steps {
		s.Name, s.State = names[s.CampaignID][0], names[s.CampaignID][1]
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b switchboard.CampaignStep) int {
		return cmp.Or(cmp.Compare(b.CampaignID, a.CampaignID), cmp.Compare(a.Step, b.Step))
	})
	return list, nil
}

// messagePage is how many rows of an export are read at once, each page in a
// statement of its own: a reader who is slow holds nothing in the database.
const messagePage = 5000

// MessageRows calls do with every message of the filter, about in the order of
// time; messages that a restored platform brought late come last. The row is valid
// during the call alone.
func (r *Reader) MessageRows(ctx context.Context, f switchboard.ReportFilter, text bool, do func(*switchboard.MessageRow) error) error {
	said := "null::text"
	if text {
		said = "m.body->>'text'"
	}
	columns := `m.id, m.chat_id, m.account_id, coalesce(a.name, ''), coalesce(a.platform, ''), m.created_at, m.seq, m.direction, m.kind, m.status, m.status_at,
		m.sender_kind, m.sender_id, m.sender_name, coalesce(c.external_id, ''), coalesce(cu.name, ''), s.campaign_id, s.step, m.error->>'kind', m.error->>'code', m.error->>'detail', ` + said
	page := make([]switchboard.MessageRow, 0, messagePage)
	for _, s := range spans(f.From, f.To) {
		last := ""
		for {
			if err := r.report(ctx, func(pool *pgxpool.Pool) error {
				page = page[:0]
				c := &conditions{}
				c.ofMessages(&f, s)
				if last != "" {
					c.and("m.id > ?::uuid", last)
				}
				rows, err := pool.Query(ctx, `select `+columns+` from (select * from messages m where `+c.sql.String()+` order by m.id limit `+fmt.Sprint(messagePage)+`) m
					left join accounts a on a.id = m.account_id left join chats c on c.id = m.chat_id left join customers cu on cu.id = c.customer_id
					left join campaign_sends s on s.message_id = m.id order by m.id`, c.args...)
				if err != nil {
					return reportError("reading messages", err)
				}
				defer rows.Close()
				for rows.Next() {
					page = append(page, switchboard.MessageRow{})
					m := &page[len(page)-1]
					if err := rows.Scan(&m.ID, &m.ChatID, &m.AccountID, &m.Account, &m.Platform, &m.CreatedAt, &m.Seq, &m.Direction, &m.Kind, &m.Status, &m.StatusAt,
						&m.SenderKind, &m.SenderID, &m.SenderName, &m.ExternalID, &m.Customer, &m.CampaignID, &m.Step, &m.ErrorKind, &m.ErrorCode, &m.ErrorText, &m.Text); err != nil {
						return reportError("reading messages", err)
					}
				}
				return reportError("reading messages", rows.Err())
			}); err != nil {
				return err
			}
			for i := range page {
				if err := do(&page[i]); err != nil {
					return err
				}
			}
			if len(page) < messagePage {
				break
			}
			last = page[len(page)-1].ID
		}
	}
	return nil
}

// KeptFrom is the time from which on messages are kept; zero when none was ever
// dropped.
func (r *Reader) KeptFrom(ctx context.Context) (at time.Time, err error) {
	list, err := r.primary.partitionsOf(ctx, &messagesTable)
	if err != nil {
		return at, err
	}
	first := messagesTable.name + "_first"
	if _, ok := list[first]; ok {
		return at, nil
	}
	for _, end := range list {
		if begin := end.AddDate(0, -1, 0); at.IsZero() || begin.Before(at) {
			at = begin
		}
	}
	return at, nil
}
