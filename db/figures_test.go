package db_test

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/db"
	"switchboard/internal/dbtest"
	"switchboard/internal/queue"
)

// past is a database whose months begin in March 2026, whatever the time is.
type past struct {
	*db.DB
	pool   *pgxpool.Pool
	reader *db.Reader
	t      *testing.T
	seq    map[string]int64
}

func newPast(t *testing.T) *past {
	t.Helper()
	d, pool := open(t)
	march := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	if _, err := pool.Exec(t.Context(), `alter table messages detach partition messages_first`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), fmt.Sprintf(`alter table messages attach partition messages_first for values from (minvalue) to ('%s')`, idAt(march, 0))); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{march, march.AddDate(0, 2, 0)} {
		if _, err := d.Partitions(t.Context(), at, queue.Keep{}); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := db.OpenReader(t.Context(), d, db.ReaderConfig{PrimaryURL: dbtest.URLOf(t)}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	return &past{DB: d, pool: pool, reader: reader, t: t, seq: map[string]int64{}}
}

// idAt is an id of that time; n tells ids of one time apart.
func idAt(at time.Time, n uint32) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], uint64(at.UnixMilli())<<16)
	if n > 0 {
		id[6], id[8] = 0x70, 0x80
		binary.BigEndian.PutUint32(id[12:], n)
	}
	return id.String()
}

func (p *past) chat(account, key string) string {
	p.t.Helper()
	id, customer := db.NewID(), db.NewID()
	for sql, args := range map[string][]any{
		`insert into customers (id, account_id, external_id, name) values ($1, $2, $3, 'Ann')`:                                    {customer, account, key},
		`insert into chats (id, account_id, platform, customer_id, external_id, state) values ($1, $2, 'fake', $3, $4, 'closed')`: {id, account, customer, key},
	} {
		if _, err := p.pool.Exec(p.t.Context(), sql, args...); err != nil {
			p.t.Fatal(err)
		}
	}
	return id
}

// said is a message of the past.
type said struct {
	account, chat, direction, kind, status, sender, senderID string
	at                                                       time.Time
	made                                                     time.Time // of the id, where that is another
	failure                                                  string    // JSON
}

func (p *past) say(list ...said) (ids []string) {
	p.t.Helper()
	var rows [][]any
	for _, s := range list {
		p.seq[s.chat]++
		made := s.at
		if !s.made.IsZero() {
			made = s.made
		}
		id := idAt(made, uint32(len(p.seq)*100_000+len(rows))+uint32(p.seq[s.chat])*100+1)
		var failure any
		if s.failure != "" {
			failure = s.failure
		}
		ids = append(ids, id)
		rows = append(rows, []any{id, s.chat, s.account, p.seq[s.chat], s.direction, cmp.Or(s.kind, "text"), s.status, s.at, failure, `{"kind":"text","text":"=1+1"}`, s.sender, s.senderID, "Name", s.at})
	}
	_, err := p.pool.CopyFrom(p.t.Context(), pgx.Identifier{"messages"}, []string{"id", "chat_id", "account_id", "seq", "direction", "kind", "status", "status_at", "error", "body",
		"sender_kind", "sender_id", "sender_name", "created_at"}, pgx.CopyFromRows(rows))
	if err != nil {
		p.t.Fatal(err)
	}
	return ids
}

func (p *past) in(account, chat string, at time.Time) said {
	return said{account: account, chat: chat, direction: "in", status: "received", sender: "customer", at: at}
}

func (p *past) out(account, chat string, at time.Time, operator, status string) said {
	return said{account: account, chat: chat, direction: "out", status: status, sender: "operator", senderID: operator, at: at}
}

func (p *past) log(at time.Time, account, chat, what, operator, former string, since time.Time) {
	p.t.Helper()
	null := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	var from any
	if !since.IsZero() {
		from = since
	}
	if _, err := p.pool.Exec(p.t.Context(), `insert into chat_log (at, chat_id, account_id, seq, what, operator_id, former_id, since) values ($1, $2, $3, $4, $5, $6, $7, $8)`,
		at, chat, account, p.seq[chat], what, null(operator), null(former), from); err != nil {
		p.t.Fatal(err)
	}
}

func instant(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at.UTC()
}

func took(n int64, average, median, p90 time.Duration) switchboard.Durations {
	return switchboard.Durations{N: n, Average: average, Median: median, P90: p90}
}

// A small history over a month's end and the night in which the clocks of Berlin
// are put forward (29 March, 01:00 UTC), counted by hand.
func TestFigures(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	ctx := t.Context()
	at := func(text string) time.Time { return instant(t, text) }
	shop, desk := account(t, p.DB), account(t, p.DB)
	ann, bob := operator(t, p.DB, "ann", switchboard.RoleOperator).ID, operator(t, p.DB, "bob", switchboard.RoleOperator).ID
	c1, c2, c3 := p.chat(shop, "c1"), p.chat(shop, "c2"), p.chat(desk, "c3")

	// c1: Before the period a question and no answer; the answer in the period takes
	// 26 h 10 min. A second question, answered by bob in 40 s. Closed by bob after
	// 1 h, begun anew the next day and answered in 5 min.
	p.say(p.in(shop, c1, at("2026-03-27T20:50:00Z")))
	p.say(p.out(shop, c1, at("2026-03-28T23:00:00Z"), ann, "read"))      // 29 March 00:00 in Berlin
	p.say(p.in(shop, c1, at("2026-03-29T00:59:30Z")))                    // 01:59:30
	p.say(p.in(shop, c1, at("2026-03-29T01:00:05Z")))                    // 03:00:05
	p.say(p.out(shop, c1, at("2026-03-29T01:00:10Z"), bob, "delivered")) // 03:00:10
	p.say(p.out(shop, c1, at("2026-03-29T01:00:20Z"), bob, "sent"))      // no answer to anything
	p.log(at("2026-03-29T01:30:00Z"), shop, c1, "closed", "", bob, at("2026-03-29T00:30:00Z"))
	p.log(at("2026-03-30T10:00:00Z"), shop, c1, "begun", "", "", time.Time{})
	p.say(p.in(shop, c1, at("2026-03-30T10:00:00Z")))
	p.log(at("2026-03-30T10:01:00Z"), shop, c1, "accepted", ann, "", time.Time{})
	p.say(p.out(shop, c1, at("2026-03-30T10:05:00Z"), ann, "failed"))
	// c2: over the month's end. A campaign's message and a script's are no answers, and
	// a service message is no question.
	p.log(at("2026-03-31T23:59:50Z"), shop, c2, "begun", "", "", time.Time{})
	p.say(said{account: shop, chat: c2, direction: "in", kind: "service", status: "received", sender: "customer", at: at("2026-03-31T20:00:00Z")})
	p.say(p.in(shop, c2, at("2026-03-31T23:59:50Z")))
	p.say(said{account: shop, chat: c2, direction: "out", status: "failed", sender: "campaign", at: at("2026-03-31T23:59:55Z"), failure: `{"kind":"recipient","code":"403"}`})
	p.say(said{account: shop, chat: c2, direction: "out", status: "expired", sender: "api", at: at("2026-04-01T00:00:00Z"), failure: `{"kind":"expired"}`})
	p.log(at("2026-04-01T00:00:00Z"), shop, c2, "accepted", bob, "", time.Time{})
	p.say(p.out(shop, c2, at("2026-04-01T00:00:20Z"), bob, "queued"))
	p.log(at("2026-04-01T00:10:00Z"), shop, c2, "transferred", ann, bob, at("2026-04-01T00:00:00Z"))
	p.log(at("2026-04-01T00:40:00Z"), shop, c2, "closed", "", ann, at("2026-04-01T00:10:00Z"))
	// c3, of another account: a message whose update waited for three weeks, and one
	// after the period. An operator begins.
	p.log(at("2026-04-01T09:00:00Z"), desk, c3, "started", ann, "", time.Time{})
	p.say(p.out(desk, c3, at("2026-04-01T09:00:00Z"), ann, "canceled"))
	late := p.in(desk, c3, at("2026-04-01T09:30:00Z"))
	late.made = at("2026-04-22T09:30:00Z")
	p.say(late)
	p.say(p.out(desk, c3, at("2026-04-02T22:00:00Z"), ann, "sent"))

	berlin := switchboard.ReportFilter{From: at("2026-03-28T23:00:00Z"), To: at("2026-04-01T22:00:00Z"), Zone: "Europe/Berlin"} // 29 March to 1 April
	figures := func(f switchboard.ReportFilter, by switchboard.ReportBy) map[string]switchboard.Figures {
		t.Helper()
		rows, err := p.reader.Figures(ctx, f, by)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]switchboard.Figures{}
		for _, r := range rows {
			k := r.ID
			if !r.At.IsZero() {
				k = r.At.UTC().Format(time.RFC3339)
			}
			r.FigureKey = switchboard.FigureKey{}
			found[k] = r
		}
		return found
	}
	same := func(what string, got, want map[string]switchboard.Figures) {
		t.Helper()
		for _, k := range slices.Sorted(func(yield func(string) bool) {
			for _, m := range []map[string]switchboard.Figures{got, want} {
				for k := range m {
					if !yield(k) {
						return
					}
				}
			}
		}) {
			if got[k] != want[k] {
				t.Errorf("%s, %q:\n got %+v\nwant %+v", what, k, got[k], want[k])
			}
		}
	}
	const s, m, h = time.Second, time.Minute, time.Hour
	// Answers: 26h10m (ann), 40s (bob), 5m (ann), 30s (bob).
	whole := switchboard.Figures{In: 6, Out: 8, OutOperators: 6, OutScripts: 1, OutCampaigns: 1, Waiting: 1, Sent: 1, Delivered: 1, Read: 1, Failed: 2, Expired: 1, Canceled: 1,
		Begun: 2, Started: 1, Accepted: 2, Transferred: 1, Closed: 2,
		Answer: took(4, (26*h+10*m+40*s+5*m+30*s)/4, 40*s, 26*h+10*m), FirstAnswer: took(3, (26*h+10*m+5*m+30*s)/3, 5*m, 26*h+10*m), Handling: took(2, 45*m, 30*m, h)}
	same("whole", figures(berlin, switchboard.ReportWhole), map[string]switchboard.Figures{"": whole})

	same("by day", figures(berlin, switchboard.ReportDay), map[string]switchboard.Figures{
		"2026-03-28T23:00:00Z": {In: 2, Out: 3, OutOperators: 3, Sent: 1, Delivered: 1, Read: 1, Closed: 1,
			Answer: took(2, (26*h+10*m+40*s)/2, 40*s, 26*h+10*m), FirstAnswer: took(1, 26*h+10*m, 26*h+10*m, 26*h+10*m), Handling: took(1, h, h, h)},
		"2026-03-29T22:00:00Z": {In: 1, Out: 1, OutOperators: 1, Failed: 1, Begun: 1, Accepted: 1, Answer: took(1, 5*m, 5*m, 5*m), FirstAnswer: took(1, 5*m, 5*m, 5*m)},
		"2026-03-30T22:00:00Z": {In: 1}, // the service message, at 22:00
		"2026-03-31T22:00:00Z": {In: 2, Out: 4, OutOperators: 2, OutScripts: 1, OutCampaigns: 1, Waiting: 1, Failed: 1, Expired: 1, Canceled: 1,
			Begun: 1, Started: 1, Accepted: 1, Transferred: 1, Closed: 1, Answer: took(1, 30*s, 30*s, 30*s), FirstAnswer: took(1, 30*s, 30*s, 30*s), Handling: took(1, 30*m, 30*m, 30*m)},
	})
	night := switchboard.ReportFilter{From: at("2026-03-29T00:00:00Z"), To: at("2026-03-29T02:00:00Z"), Zone: "Europe/Berlin"}
	same("by hour, without the hour from 2 to 3", figures(night, switchboard.ReportHour), map[string]switchboard.Figures{
		"2026-03-29T00:00:00Z": {In: 1},
		"2026-03-29T01:00:00Z": {In: 1, Out: 2, OutOperators: 2, Sent: 1, Delivered: 1, Closed: 1, Answer: took(1, 40*s, 40*s, 40*s), Handling: took(1, h, h, h)},
	})
	// Half an hour off UTC.
	same("by hour in Kolkata", figures(switchboard.ReportFilter{From: night.From, To: night.To, Zone: "Asia/Kolkata"}, switchboard.ReportHour), map[string]switchboard.Figures{
		"2026-03-29T00:30:00Z": {In: 2, Out: 2, OutOperators: 2, Sent: 1, Delivered: 1, Answer: took(1, 40*s, 40*s, 40*s)},
		"2026-03-29T01:30:00Z": {Closed: 1, Handling: took(1, h, h, h)},
	})
	same("by account", figures(berlin, switchboard.ReportAccount), map[string]switchboard.Figures{
		shop: {In: 5, Out: 7, OutOperators: 5, OutScripts: 1, OutCampaigns: 1, Waiting: 1, Sent: 1, Delivered: 1, Read: 1, Failed: 2, Expired: 1,
			Begun: 2, Accepted: 2, Transferred: 1, Closed: 2, Answer: whole.Answer, FirstAnswer: whole.FirstAnswer, Handling: whole.Handling},
		desk: {In: 1, Out: 1, OutOperators: 1, Canceled: 1, Started: 1},
	})
	byOperator := map[string]switchboard.Figures{
		ann: {Out: 3, OutOperators: 3, Read: 1, Failed: 1, Canceled: 1, Started: 1, Accepted: 1, Transferred: 1, Closed: 1,
			Answer: took(2, (26*h+15*m)/2, 5*m, 26*h+10*m), FirstAnswer: took(2, (26*h+15*m)/2, 5*m, 26*h+10*m), Handling: took(1, 30*m, 30*m, 30*m)},
		bob: {Out: 3, OutOperators: 3, Waiting: 1, Sent: 1, Delivered: 1, Accepted: 1, TransferredAway: 1, Closed: 1,
			Answer: took(2, 35*s, 30*s, 40*s), FirstAnswer: took(1, 30*s, 30*s, 30*s), Handling: took(1, h, h, h)},
	}
	same("by operator", figures(berlin, switchboard.ReportOperator), byOperator)
	of := berlin
	of.OperatorID = bob
	same("of bob", figures(of, switchboard.ReportOperator), map[string]switchboard.Figures{bob: byOperator[bob]})
	same("of bob, whole", figures(of, switchboard.ReportWhole), map[string]switchboard.Figures{"": byOperator[bob]})
	of = berlin
	of.AccountID = desk
	same("of the desk", figures(of, switchboard.ReportWhole), map[string]switchboard.Figures{"": {In: 1, Out: 1, OutOperators: 1, Canceled: 1, Started: 1}})
	of = berlin
	of.Direction, of.Status = "out", "failed"
	same("failed", figures(of, switchboard.ReportWhole), map[string]switchboard.Figures{"": {Out: 2, OutOperators: 1, OutCampaigns: 1, Failed: 2}})
	of = berlin
	of.Platform = "other"
	same("of another platform", figures(of, switchboard.ReportWhole), nil)

	counts, err := p.reader.MessageCounts(ctx, berlin)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range counts {
		lines = append(lines, fmt.Sprintf("%d %s %s %s %s %s %s", c.N, c.Direction, c.SenderKind, c.Kind, c.Status, c.ErrorKind, c.ErrorCode))
	}
	if want := []string{"5 in customer text received  ", "1 in customer service received  ", "1 out operator text canceled  ", "1 out operator text delivered  ", "1 out api text expired expired ",
		"1 out campaign text failed recipient 403", "1 out operator text failed  ", "1 out operator text queued  ", "1 out operator text read  ", "1 out operator text sent  "}; !slices.Equal(lines, want) {
		t.Errorf("by status:\n got %q\nwant %q", lines, want)
	}
	if _, err := p.reader.Figures(ctx, switchboard.ReportFilter{From: berlin.From, To: berlin.To, Zone: "Mars/Olympus"}, switchboard.ReportDay); !errors.Is(err, switchboard.ErrInvalid) {
		t.Errorf("an unknown time zone: %v", err)
	}
	var rows []string
	if err := p.reader.MessageRows(ctx, berlin, true, func(m *switchboard.MessageRow) error {
		rows = append(rows, fmt.Sprint(m.CreatedAt.UTC().Format("02 15:04:05"), " ", m.Platform, " ", m.ExternalID, " ", m.Seq, " ", *m.Text))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 14 || rows[0] != "28 23:00:00 fake c1 2 =1+1" || rows[13] != "01 09:30:00 fake c3 2 =1+1" {
		t.Errorf("rows %q", rows)
	}
}

// Campaigns: their messages by step, and their recipients.
func TestCampaignSteps(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	ctx := t.Context()
	acc := account(t, p.DB)
	begin := instant(t, "2026-03-31T23:00:00Z")
	campaign, other := idAt(begin, 7), idAt(begin, 8)
	if _, err := p.pool.Exec(ctx, `insert into campaigns (id, name, state, definition) values ($1, 'Spring', 'running', '{}'), ($2, 'Other', 'done', '{}')`, campaign, other); err != nil {
		t.Fatal(err)
	}
	n := 0
	send := func(campaign string, step int, at time.Time, status, failure string) {
		n++
		c := p.chat(acc, fmt.Sprint("c", n))
		id := p.say(said{account: acc, chat: c, direction: "out", status: status, sender: "campaign", at: at, failure: failure})[0]
		if _, err := p.pool.Exec(ctx, `insert into campaign_sends (message_id, campaign_id, n, step, account_id, chat_id) values ($1, $2, $3, $4, $5, $6)`, id, campaign, n, step, acc, c); err != nil {
			t.Fatal(err)
		}
	}
	for i, status := range []string{"delivered", "read", "failed", "failed", "sent", "expired", "queued", "sending", "canceled", "failed"} {
		failure := ""
		if status == "failed" {
			failure = fmt.Sprintf(`{"kind":"recipient","code":"%d"}`, 400+i%2)
		}
		send(campaign, 0, begin.Add(time.Duration(i)*20*time.Minute), status, failure) // over the month's end
	}
	send(campaign, 1, begin.Add(2*time.Hour), "delivered", "")
	send(campaign, 1, begin.Add(40*24*time.Hour), "delivered", "") // after the period
	send(other, 0, begin, "sent", "")
	if _, err := p.pool.Exec(ctx, `insert into campaign_counts (campaign_id, status, step, delta) values ($1, 'queued', 0, 12), ($1, 'queued', 0, -10), ($1, 'delivered', 0, 8), ($1, 'skipped', 0, 2), ($1, 'sent', 1, 1), ($1, 'sent', 1, -1)`, campaign); err != nil {
		t.Fatal(err)
	}
	f := switchboard.ReportFilter{From: begin, To: begin.Add(24 * time.Hour), Zone: "UTC"}
	got, err := p.reader.CampaignSteps(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	none := map[string]int64{}
	want := []switchboard.CampaignStep{
		{CampaignID: other, Name: "Other", State: "done", Messages: map[string]int64{"sent": 1}, Reasons: none, Recipients: none},
		{CampaignID: campaign, Name: "Spring", State: "running", Step: 0,
			Messages:   map[string]int64{"delivered": 1, "read": 1, "failed": 3, "sent": 1, "expired": 1, "queued": 1, "sending": 1, "canceled": 1},
			Reasons:    map[string]int64{"recipient 400": 1, "recipient 401": 2},
			Recipients: map[string]int64{"queued": 2, "delivered": 8, "skipped": 2}},
		{CampaignID: campaign, Name: "Spring", State: "running", Step: 1, Messages: map[string]int64{"delivered": 1}, Reasons: none, Recipients: none},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	f.CampaignID = other
	if got, err := p.reader.CampaignSteps(ctx, f); err != nil || len(got) != 1 || got[0].Name != "Other" {
		t.Errorf("of one campaign: %+v, %v", got, err)
	}
	rows, err := p.reader.Figures(ctx, f, switchboard.ReportWhole)
	if err != nil || len(rows) != 1 || rows[0].Out != 1 {
		t.Errorf("figures of one campaign: %+v, %v", rows, err)
	}
}

// Random conversations of which random periods are looked at: the answers are those
// that a reader of the whole history finds.
func TestAnswersOfAnyPeriod(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	acc := account(t, p.DB)
	ops := []string{operator(t, p.DB, "ann", switchboard.RoleOperator).ID, operator(t, p.DB, "bob", switchboard.RoleOperator).ID}
	random := rand.New(rand.NewPCG(1, 2))
	type given struct {
		at       time.Time
		took     time.Duration
		operator string
		first    bool
	}
	var all []given
	start := instant(t, "2026-03-20T00:00:00Z")
	var list []said
	for i := range 60 {
		c := p.chat(acc, fmt.Sprint("c", i))
		at := start
		var since time.Time
		answered := false
		p.seq[c] = 0
		var mine []said
		for range 40 {
			at = at.Add(time.Duration(random.IntN(12*3600*1000)) * time.Millisecond)
			switch n := random.IntN(10); {
			case n < 4:
				mine = append(mine, p.in(acc, c, at))
				if since.IsZero() {
					since = at
				}
			case n < 8:
				o := ops[random.IntN(2)]
				mine = append(mine, p.out(acc, c, at, o, "sent"))
				if !since.IsZero() {
					all = append(all, given{at, at.Sub(since), o, !answered})
					since, answered = time.Time{}, true
				}
			case n == 8:
				mine = append(mine, said{account: acc, chat: c, direction: "out", status: "sent", sender: "api", at: at})
			default:
				p.seq[c] = int64(len(mine)) // what is logged is the number of the last message
				p.log(at, acc, c, "closed", "", "", time.Time{})
				p.seq[c] = 0
				since, answered = time.Time{}, false
			}
		}
		list = append(list, mine...)
	}
	p.say(list...)
	for i := range 25 {
		from := start.Add(time.Duration(random.IntN(15*24*3600)) * time.Second)
		to := from.Add(time.Duration(1+random.IntN(10*24*3600)) * time.Second)
		if i == 0 {
			from, to = start, start.AddDate(0, 2, 0)
		}
		type sums struct{ answers, first []time.Duration }
		want := map[string]*sums{ops[0]: {}, ops[1]: {}}
		for _, a := range all {
			if a.at.Before(from) || !a.at.Before(to) {
				continue
			}
			s := want[a.operator]
			s.answers = append(s.answers, a.took)
			if a.first {
				s.first = append(s.first, a.took)
			}
		}
		rows, err := p.reader.Figures(t.Context(), switchboard.ReportFilter{From: from, To: to, Zone: "UTC"}, switchboard.ReportOperator)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]switchboard.Figures{}
		for _, r := range rows {
			got[r.ID] = r
		}
		for _, o := range ops {
			if a, b := got[o].Answer, naive(want[o].answers); a != b {
				t.Errorf("%s to %s, answers: got %+v, want %+v", from, to, a, b)
			}
			if a, b := got[o].FirstAnswer, naive(want[o].first); a != b {
				t.Errorf("%s to %s, first answers: got %+v, want %+v", from, to, a, b)
			}
		}
	}
}

func naive(list []time.Duration) (s switchboard.Durations) {
	if len(list) == 0 {
		return s
	}
	slices.Sort(list)
	var total time.Duration
	for _, d := range list {
		total += d
	}
	rank := func(percent int) time.Duration { return list[(len(list)*percent+99)/100-1] }
	return switchboard.Durations{N: int64(len(list)), Average: (total / time.Duration(len(list))).Round(time.Millisecond), Median: rank(50), P90: rank(90)}
}

// Months that were dropped are known to be.
func TestKeptFrom(t *testing.T) {
	t.Parallel()
	p := newPast(t)
	if at, err := p.reader.KeptFrom(t.Context()); err != nil || !at.IsZero() {
		t.Errorf("kept from %v, %v; nothing was dropped", at, err)
	}
	for range 2 {
		if _, err := p.Partitions(t.Context(), instant(t, "2026-06-15T00:00:00Z"), queue.Keep{Messages: 60 * 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	if at, err := p.reader.KeptFrom(t.Context()); err != nil || !at.Equal(instant(t, "2026-04-01T00:00:00Z")) {
		t.Errorf("kept from %v, %v; March was dropped", at, err)
	}
}

// A statement that takes too long ends, and says what to do.
func TestReportTakesTooLong(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	reader, err := db.OpenReader(t.Context(), d, db.ReaderConfig{PrimaryURL: dbtest.URLOf(t), Timeout: 100 * time.Millisecond}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `lock table messages`); err != nil {
		t.Fatal(err)
	}
	f := switchboard.ReportFilter{From: time.Now().Add(-time.Hour), To: time.Now(), Zone: "UTC"}
	if _, err := reader.Figures(t.Context(), f, switchboard.ReportWhole); !errors.Is(err, switchboard.ErrInvalid) || !strings.Contains(err.Error(), "shorter period") {
		t.Errorf("figures: %v", err)
	}
	if err := reader.MessageRows(t.Context(), f, false, func(*switchboard.MessageRow) error { return nil }); !errors.Is(err, switchboard.ErrInvalid) {
		t.Errorf("rows: %v", err)
	}
}
