package loader

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"switchboard"
	"switchboard/internal/export"
	"switchboard/internal/problem"
	"switchboard/internal/restapi"
)

// Reports is where reports are read.
type Reports interface {
	Figures(ctx context.Context, f switchboard.ReportFilter, by switchboard.ReportBy) ([]switchboard.Figures, error)
	MessageCounts(ctx context.Context, f switchboard.ReportFilter) ([]switchboard.MessageCount, error)
	CampaignSteps(ctx context.Context, f switchboard.ReportFilter) ([]switchboard.CampaignStep, error)
	MessageRows(ctx context.Context, f switchboard.ReportFilter, text bool, do func(*switchboard.MessageRow) error) error
	KeptFrom(ctx context.Context) (time.Time, error)
}

// longestPeriod bounds what one report reads.
const longestPeriod = 1100 * 24 * time.Hour

// reportTime is how long the figures of one may take; an export of rows has what
// restapi.Table gives.
const reportTime = 10 * time.Minute

// PeriodQuery, OperatorQuery, MessageQuery and FiguresQuery are what reports are
// asked with.
type (
	PeriodQuery struct {
		From      string `query:"from" required:"true" maxLength:"40" doc:"RFC 3339, or a date, which is its beginning in the time zone"`
		To        string `query:"to" required:"true" maxLength:"40" doc:"like from; the report ends before it"`
		Timezone  string `query:"timezone" default:"UTC" maxLength:"64" doc:"IANA name, like Europe/Berlin: of days, hours and times"`
		AccountID string `query:"account_id" format:"uuid"`
		Platform  string `query:"platform" maxLength:"32"`
		Format    string `query:"format" enum:"json,ndjson,csv,xlsx" default:"json"`
		BOM       bool   `query:"bom" doc:"begin a CSV with a byte order mark, which Excel needs to read UTF-8"`
		Delimiter string `query:"delimiter" enum:"comma,semicolon,tab" default:"comma" doc:"of a CSV"`
	}
	OperatorQuery struct {
		OperatorID string `query:"operator_id" format:"uuid" doc:"what this operator sent, served and answered"`
	}
	MessageQuery struct {
		CampaignID string `query:"campaign_id" format:"uuid"`
		Direction  string `query:"direction" enum:"in,out"`
		Status     string `query:"status" enum:"received,queued,sending,sent,delivered,read,failed,expired,canceled" doc:"what has become of the message by now"`
	}
	FiguresQuery struct {
		PeriodQuery
		OperatorQuery
		MessageQuery
	}
	operatorsQuery struct {
		PeriodQuery
		OperatorQuery
	}
	campaignsQuery struct {
		PeriodQuery
		CampaignID string `query:"campaign_id" format:"uuid"`
	}
	rowsQuery struct {
		FiguresQuery
		Text bool `query:"text" doc:"with the messages' text"`
	}
)

// reportHead stands in a JSON before the items.
type reportHead struct {
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Timezone string    `json:"timezone"`
}

// reporter serves the reports. slots bounds how many are made at once.
type reporter struct {
	reports Reports
	admin   *Admin
	slots   chan struct{}
}

func (rp *reporter) register(api huma.API) {
	get := func(name, id, summary string) (string, string, string, string, string) {
		return http.MethodGet, "/api/v1/reports/" + name, id, "Reports", summary
	}
	described := func(op *huma.Operation) {
		restapi.Downloads(export.JSON, export.NDJSON, export.CSV, export.XLSX)(op)
		op.Errors = append(op.Errors, http.StatusGone, http.StatusTooManyRequests)
		op.Description = "See docs/reports.md for what each column counts. At most a few reports are made at once; beyond that 429 with Retry-After. " +
			"A period of which messages were dropped already (SWITCHBOARD_KEEP_MESSAGES) is refused with 410 `no_longer_kept`."
	}
	add := func(name, id, summary string, by switchboard.ReportBy, columns func(*period) ([]string, func(*switchboard.Figures) []any)) {
		method, path, id, tag, summary := get(name, id, summary)
		restapi.Register(api, restapi.Supervisor, method, path, id, tag, summary, func(ctx context.Context, in *FiguresQuery) (*huma.StreamResponse, error) {
			p, err := rp.begin(ctx, &in.PeriodQuery, &in.OperatorQuery, &in.MessageQuery)
			if err != nil {
				return nil, err
			}
			return rp.figures(p, name, by, columns), nil
		}, described)
	}
	add("summary", "reportSummary", "Messages, chats and answers of a period, in one row", switchboard.ReportWhole, wholeRow)
	add("by-day", "reportByDay", "The same for each day, those without anything too", switchboard.ReportDay, dayRow)
	add("by-hour", "reportByHour", "The same for each hour", switchboard.ReportHour, hourRow)
	add("by-account", "reportByAccount", "The same for each account", switchboard.ReportAccount, rp.accountRow)

	method, path, id, tag, summary := get("by-operator", "reportByOperator", "Chats served, messages, answer and handling times of each operator; operators see their own")
	restapi.Register(api, restapi.Any, method, path, id, tag, summary, func(ctx context.Context, in *operatorsQuery) (*huma.StreamResponse, error) {
		if o := restapi.Principal(ctx).Operator; o != nil && !o.Role.AtLeast(switchboard.RoleSupervisor) {
			if in.OperatorID != "" && in.OperatorID != o.ID {
				return nil, fmt.Errorf("operator_id: operators see their own figures; leave it out: %w", switchboard.ErrForbidden)
			}
			in.OperatorID = o.ID
		}
		p, err := rp.begin(ctx, &in.PeriodQuery, &in.OperatorQuery, &MessageQuery{})
		if err != nil {
			return nil, err
		}
		return rp.figures(p, "by-operator", switchboard.ReportOperator, rp.operatorRow), nil
	}, described)

	method, path, id, tag, summary = get("by-campaign", "reportByCampaign", "What became of the messages of campaigns, by step")
	restapi.Register(api, restapi.Supervisor, method, path, id, tag, summary, func(ctx context.Context, in *campaignsQuery) (*huma.StreamResponse, error) {
		p, err := rp.begin(ctx, &in.PeriodQuery, &OperatorQuery{}, &MessageQuery{CampaignID: in.CampaignID})
		if err != nil {
			return nil, err
		}
		return rp.table(p, "by-campaign", campaignColumns, func(ctx context.Context, w export.Writer) error {
			steps, err := rp.reports.CampaignSteps(ctx, p.filter)
			for i := range steps {
				if err == nil {
					err = w.Row(campaignRow(&steps[i])...)
				}
			}
			return err
		}), nil
	}, described)

	method, path, id, tag, summary = get("by-status", "reportByStatus", "Messages by direction, sender, kind, status and reason of failure")
	restapi.Register(api, restapi.Supervisor, method, path, id, tag, summary, func(ctx context.Context, in *FiguresQuery) (*huma.StreamResponse, error) {
		p, err := rp.begin(ctx, &in.PeriodQuery, &in.OperatorQuery, &in.MessageQuery)
		if err != nil {
			return nil, err
		}
		columns := []string{"direction", "sender", "kind", "status", "reason", "code", "messages"}
		return rp.table(p, "by-status", columns, func(ctx context.Context, w export.Writer) error {
			counts, err := rp.reports.MessageCounts(ctx, p.filter)
			for _, c := range counts {
				if err == nil {
					err = w.Row(c.Direction, c.SenderKind, c.Kind, c.Status, c.ErrorKind, c.ErrorCode, c.N)
				}
			}
			return err
		}), nil
	}, described)

	method, path, id, tag, summary = get("messages", "reportMessages", "Every message of a period, a row each, about in the order of time; of any number")
	restapi.Register(api, restapi.Supervisor, method, path, id, tag, summary, func(ctx context.Context, in *rowsQuery) (*huma.StreamResponse, error) {
		p, err := rp.begin(ctx, &in.PeriodQuery, &in.OperatorQuery, &in.MessageQuery)
		if err != nil {
			return nil, err
		}
		err = rp.admin.store.Audited(ctx, restapi.Principal(ctx).Name(), "report.messages", func(context.Context) (string, any, error) {
			return "", map[string]any{"from": p.filter.From, "to": p.filter.To, "text": in.Text}, nil
		})
		if err != nil {
			p.done()
			return nil, err
		}
		columns := messageColumns
		if in.Text {
			columns = append(slices.Clone(columns), "text")
		}
		answer := rp.tableOf(p, "messages", columns, func(ctx context.Context, w export.Writer) error {
			return rp.reports.MessageRows(ctx, p.filter, in.Text, func(m *switchboard.MessageRow) error { return w.Row(messageRow(m, in.Text)...) })
		})
		answer.Time = 0
		return restapi.Download(answer), nil
	}, described)
}

// period is a report that has begun: it holds a slot until done.
type period struct {
	filter switchboard.ReportFilter
	loc    *time.Location
	format export.Format
	export export.Options
	done   func()
}

// begin checks what is asked for and takes a slot.
func (rp *reporter) begin(ctx context.Context, in *PeriodQuery, o *OperatorQuery, m *MessageQuery) (*period, error) {
	p := &period{format: export.Format(in.Format), filter: switchboard.ReportFilter{Zone: in.Timezone, AccountID: in.AccountID, Platform: in.Platform,
		OperatorID: o.OperatorID, CampaignID: m.CampaignID, Direction: m.Direction, Status: m.Status}}
	var err error
	if p.loc, err = time.LoadLocation(in.Timezone); err != nil || in.Timezone == "" || in.Timezone == "Local" {
		return nil, invalid("timezone %q: use an IANA name like Europe/Berlin", in.Timezone)
	}
	if p.filter.From, err = moment(in.From, p.loc); err != nil {
		return nil, invalid("from: %w", err)
	}
	if p.filter.To, err = moment(in.To, p.loc); err != nil {
		return nil, invalid("to: %w", err)
	}
	switch {
	case !p.filter.From.Before(p.filter.To):
		return nil, invalid("from must be before to")
	case p.filter.To.Sub(p.filter.From) > longestPeriod:
		return nil, invalid("from, to: ask for at most %d days at once", longestPeriod/(24*time.Hour))
	}
	kept, err := rp.reports.KeptFrom(ctx)
	if err != nil {
		return nil, err
	}
	if p.filter.From.Before(kept) {
		return nil, problem.New(http.StatusGone, "no_longer_kept", fmt.Sprintf("messages before %s are no longer kept; ask for a period from then on", kept.UTC().Format(time.RFC3339)))
	}
	p.export = export.Options{Location: p.loc, BOM: in.BOM, Comma: map[string]rune{"semicolon": ';', "tab": '\t'}[in.Delimiter],
		Head: reportHead{p.filter.From.In(p.loc), p.filter.To.In(p.loc), in.Timezone}}
	select {
	case rp.slots <- struct{}{}:
		p.done = func() { <-rp.slots }
		return p, nil
	default:
		return nil, huma.ErrorWithHeaders(problem.New(http.StatusTooManyRequests, "too_many_reports",
			fmt.Sprintf("%d reports are being made already; try again", cap(rp.slots))), http.Header{"Retry-After": {"5"}})
	}
}

// moment reads a time, or a date in loc. A day that begins later than at midnight,
// because the clock was put forward, begins then.
func moment(text string, loc *time.Location) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	day, err := time.ParseInLocation(time.DateOnly, text, loc)
	if err != nil {
		return day, fmt.Errorf("use a time like 2026-03-01T00:00:00Z or a date like 2026-03-01")
	}
	if day.Format(time.DateOnly) < text {
		_, day = day.ZoneBounds()
	}
	return day, nil
}

func (rp *reporter) tableOf(p *period, name string, columns []string, rows func(context.Context, export.Writer) error) restapi.Table {
	p.export.Sheet = name
	file := fmt.Sprintf("%s_%s_%s", name, p.filter.From.In(p.loc).Format(time.DateOnly), p.filter.To.In(p.loc).Format(time.DateOnly))
	return restapi.Table{Name: file, Format: p.format, Columns: columns, Options: p.export, Time: reportTime, Rows: rows, Done: p.done}
}

func (rp *reporter) table(p *period, name string, columns []string, rows func(context.Context, export.Writer) error) *huma.StreamResponse {
	return restapi.Download(rp.tableOf(p, name, columns, rows))
}

// figures answers with rows of figures. columns names the columns, and makes the
// cells of a row.
func (rp *reporter) figures(p *period, name string, by switchboard.ReportBy, columns func(*period) ([]string, func(*switchboard.Figures) []any)) *huma.StreamResponse {
	names, cells := columns(p)
	return rp.table(p, name, names, func(ctx context.Context, w export.Writer) error {
		rows, err := rp.reports.Figures(ctx, p.filter, by)
		if err != nil {
			return err
		}
		switch by {
		case switchboard.ReportWhole:
			if len(rows) == 0 {
				rows = []switchboard.Figures{{}}
			}
		case switchboard.ReportDay, switchboard.ReportHour:
			rows = fill(rows, p, by)
		case switchboard.ReportAccount, switchboard.ReportOperator:
			if cells, err = rp.named(ctx, p, by, cells); err != nil {
				return err
			}
		}
		for i := range rows {
			if err := w.Row(cells(&rows[i])...); err != nil {
				return err
			}
		}
		return nil
	})
}

// fill adds the days or hours in which nothing happened. The database's days are
// known by their names and not by when they begin: not every day begins at midnight.
func fill(rows []switchboard.Figures, p *period, by switchboard.ReportBy) []switchboard.Figures {
	have := map[string]*switchboard.Figures{}
	name := func(at time.Time) string {
		if by == switchboard.ReportDay {
			return at.In(p.loc).Format(time.DateOnly)
		}
		return at.In(p.loc).Format("2006-01-02T15Z07:00")
	}
	for i := range rows {
		have[name(rows[i].At)] = &rows[i]
	}
	var all []switchboard.Figures
	last := ""
	end := p.filter.To.Add(-1)
	for at := p.filter.From; ; at = at.Add(15 * time.Minute) { // offsets change by that at least
		at = earlier(at, end)
		n := name(at)
		if n == last {
			if at.Equal(end) {
				return all
			}
			continue
		}
		last = n
		if r := have[n]; r != nil {
			all = append(all, *r)
			continue
		}
		local := at.In(p.loc)
		begin := local.Add(-time.Duration(local.Minute())*time.Minute - time.Duration(local.Second())*time.Second - time.Duration(local.Nanosecond()))
		if by == switchboard.ReportDay {
			begin, _ = moment(n, p.loc)
		}
		all = append(all, switchboard.Figures{FigureKey: switchboard.FigureKey{At: begin}})
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

var (
	messageFigures = []string{"messages_in", "messages_out", "out_operators", "out_scripts", "out_campaigns", "out_bots",
		"queued", "sent", "delivered", "read", "failed", "expired", "canceled"}
	chatFigures = []string{"chats_begun", "chats_started", "chats_accepted", "chats_transferred", "chats_requeued", "chats_closed"}
	timeFigures = []string{"answers", "answer_average", "answer_median", "answer_p90", "first_answers", "first_answer_average", "first_answer_median", "first_answer_p90",
		"handled", "handling_average", "handling_median", "handling_p90"}
)

func messageCells(f *switchboard.Figures) []any {
	return []any{f.In, f.Out, f.OutOperators, f.OutScripts, f.OutCampaigns, f.OutBots, f.Waiting, f.Sent, f.Delivered, f.Read, f.Failed, f.Expired, f.Canceled}
}

// timeCells are empty where there was nothing to time.
func timeCells(f *switchboard.Figures) (cells []any) {
	for _, d := range []switchboard.Durations{f.Answer, f.FirstAnswer, f.Handling} {
		if d.N == 0 {
			cells = append(cells, d.N, nil, nil, nil)
		} else {
			cells = append(cells, d.N, d.Average, d.Median, d.P90)
		}
	}
	return cells
}

// common are the columns that most reports have. A report on certain messages says
// nothing of chats.
func common(p *period, first ...string) ([]string, func(*switchboard.Figures) []any) {
	names := slices.Concat(first, messageFigures)
	if p.filter.CampaignID != "" || p.filter.Direction != "" || p.filter.Status != "" {
		return names, messageCells
	}
	return slices.Concat(names, chatFigures, timeFigures), func(f *switchboard.Figures) []any {
		return slices.Concat(messageCells(f), []any{f.Begun, f.Started, f.Accepted, f.Transferred, f.Requeued, f.Closed}, timeCells(f))
	}
}

func wholeRow(p *period) ([]string, func(*switchboard.Figures) []any) { return common(p) }

func dayRow(p *period) ([]string, func(*switchboard.Figures) []any) {
	names, cells := common(p, "day")
	return names, func(f *switchboard.Figures) []any {
		return append([]any{f.At.In(p.loc).Format(time.DateOnly)}, cells(f)...)
	}
}

func hourRow(p *period) ([]string, func(*switchboard.Figures) []any) {
	names, cells := common(p, "begin", "day", "hour")
	return names, func(f *switchboard.Figures) []any {
		at := f.At.In(p.loc)
		return append([]any{f.At, at.Format(time.DateOnly), at.Hour()}, cells(f)...)
	}
}

func (rp *reporter) accountRow(p *period) ([]string, func(*switchboard.Figures) []any) {
	return common(p, "account_id", "account", "platform")
}

func (rp *reporter) operatorRow(*period) ([]string, func(*switchboard.Figures) []any) {
	names := []string{"operator_id", "operator", "chats_served", "chats_accepted", "chats_started", "chats_transferred", "chats_transferred_away", "chats_requeued", "chats_closed",
		"messages", "queued", "sent", "delivered", "read", "failed", "expired", "canceled"}
	return append(names, timeFigures...), func(f *switchboard.Figures) []any {
		return slices.Concat([]any{f.Accepted + f.Started + f.Transferred, f.Accepted, f.Started, f.Transferred, f.TransferredAway, f.Requeued, f.Closed,
			f.Out, f.Waiting, f.Sent, f.Delivered, f.Read, f.Failed, f.Expired, f.Canceled}, timeCells(f))
	}
}

// named puts id and name before the cells. Who was removed has no name any more.
func (rp *reporter) named(ctx context.Context, p *period, by switchboard.ReportBy, cells func(*switchboard.Figures) []any) (func(*switchboard.Figures) []any, error) {
	names := map[string][]any{}
	width := 1
	if by == switchboard.ReportAccount {
		width = 2
		accounts, err := rp.admin.store.Accounts(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range accounts {
			names[a.ID] = []any{a.Name, a.Platform}
		}
	} else {
		operators, err := rp.admin.store.Operators(ctx)
		if err != nil {
			return nil, err
		}
		for _, o := range operators {
			names[o.ID] = []any{o.Name}
		}
	}
	return func(f *switchboard.Figures) []any {
		name := names[f.ID]
		if name == nil {
			name = make([]any, width)
		}
		return slices.Concat([]any{f.ID}, name, cells(f))
	}, nil
}

var campaignColumns = []string{"campaign_id", "campaign", "state", "step", "messages", "queued", "sent", "delivered", "read", "failed", "expired", "canceled",
	"delivery_rate", "read_rate", "reasons", "recipients", "recipients_queued", "recipients_sent", "recipients_delivered", "recipients_read", "recipients_failed",
	"recipients_expired", "recipients_canceled", "recipients_skipped"}

func campaignRow(s *switchboard.CampaignStep) []any {
	m := s.Messages
	total, reached := sum(m), m["delivered"]+m["read"]
	cells := []any{s.CampaignID, s.Name, s.State, s.Step, total, m["queued"] + m["sending"], m["sent"], m["delivered"], m["read"], m["failed"], m["expired"], m["canceled"]}
	// Of those that were tried: what still waits or was called off is neither.
	tried := total - m["queued"] - m["sending"] - m["canceled"]
	if tried > 0 {
		cells = append(cells, share(reached, tried), share(m["read"], tried))
	} else {
		cells = append(cells, nil, nil)
	}
	reasons := slices.SortedFunc(maps.Keys(s.Reasons), func(a, b string) int { return cmp.Or(cmp.Compare(s.Reasons[b], s.Reasons[a]), cmp.Compare(a, b)) })
	for i, r := range reasons {
		reasons[i] = fmt.Sprintf("%s: %d", r, s.Reasons[r])
	}
	r := s.Recipients
	return append(cells, strings.Join(reasons, "; "), sum(r), r["queued"], r["sent"], r["delivered"], r["read"], r["failed"], r["expired"], r["canceled"], r["skipped"])
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// share has four decimals.
func share(part, whole int64) float64 {
	return float64((part*10_000+whole/2)/whole) / 10_000
}

var messageColumns = []string{"id", "created_at", "account_id", "account", "platform", "chat_id", "external_id", "customer", "seq", "direction", "kind", "status", "status_at",
	"sender", "sender_id", "sender_name", "campaign_id", "step", "reason", "code", "detail"}

func messageRow(m *switchboard.MessageRow, text bool) []any {
	cells := []any{m.ID, m.CreatedAt, m.AccountID, m.Account, m.Platform, m.ChatID, m.ExternalID, m.Customer, m.Seq, m.Direction, m.Kind, m.Status, m.StatusAt,
		m.SenderKind, m.SenderID, m.SenderName, m.CampaignID, m.Step, m.ErrorKind, m.ErrorCode, m.ErrorText}
	if text {
		cells = append(cells, m.Text)
	}
	return cells
}
