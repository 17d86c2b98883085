package db

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
)

// durations collects how long something took, 4 bytes each below 49 days.
type durations struct {
	short []uint32 // milliseconds
	long  []int64  // those that don't fit, milliseconds
	total float64  // milliseconds
}

func (d *durations) add(took time.Duration) {
	ms := max(took.Round(time.Millisecond).Milliseconds(), 0) // clocks of two processes may disagree by a little
	d.total += float64(ms)
	if ms <= math.MaxUint32 {
		d.short = append(d.short, uint32(ms))
	} else {
		d.long = append(d.long, ms)
	}
}

// sum is exact. A quantile is the smallest value that at least that share does not
// exceed, so that it is a time that something really took.
func (d *durations) sum() (s switchboard.Durations) {
	n := len(d.short) + len(d.long)
	if n == 0 {
		return s
	}
	slices.Sort(d.short)
	slices.Sort(d.long)
	at := func(share float64) time.Duration {
		i := max(int(math.Ceil(share*float64(n)))-1, 0)
		if i < len(d.short) {
			return time.Duration(d.short[i]) * time.Millisecond
		}
		return time.Duration(d.long[i-len(d.short)]) * time.Millisecond
	}
	s.N, s.Median, s.P90 = int64(n), at(0.5), at(0.9)
	s.Average = time.Duration(math.Round(d.total/float64(n))) * time.Millisecond
	return s
}

// answer is an operator's answer. took is since the first message of the customer
// that nobody had answered.
type answer struct {
	chat, operator, account string
	bucket                  *time.Time
	at                      time.Time
	since                   *time.Time
	first                   bool // of the conversation
}

// line is what happened in a chat: a message of the customer, one of an operator,
// or that the chat was closed.
type line struct {
	chat, account, operator string
	seq                     int64
	what                    byte // 'i', 'o', 'c'
	at                      time.Time
	bucket                  *time.Time
}

// before is what a chat was in before a period began.
type before struct {
	since    *time.Time // of the first message that nobody had answered
	answered bool       // an operator had answered in the conversation
}

// answers finds the answers in the lines of chats, which come chat by chat in their
// order. Of a chat that was under way when the period began it asks what was before,
// for many at once.
type answers struct {
	found func(*answer)
	// ask returns what was before the line with that number, for each.
	ask func(chats []string, seqs []int64) ([]before, error)

	chat     string
	since    *time.Time // as in before
	answered bool
	// unknown: nothing is known yet of the time before this line of the conversation
	unknown int64
	open    *doubt // of this conversation; the next answer may be its first

	doubts []*doubt
}

// doubt is a conversation of which the beginning must be asked for.
type doubt struct {
	seq  int64
	at   answer  // what an operator wrote first; an answer if something waited for it
	next *answer // the first answer after that
}

// doubtsAtOnce are asked for in one statement.
const doubtsAtOnce = 500

func (a *answers) line(l *line) error {
	if l.chat != a.chat {
		a.chat, a.since, a.answered, a.open = l.chat, nil, false, nil
		a.unknown = l.seq
		if len(a.doubts) >= doubtsAtOnce {
			if err := a.settle(); err != nil {
				return err
			}
		}
	}
	switch l.what {
	case 'c':
		a.since, a.answered, a.open, a.unknown = nil, false, nil, 0
	case 'i':
		if a.since == nil {
			at := l.at
			a.since = &at
		}
	case 'o':
		given := answer{chat: l.chat, operator: l.operator, account: l.account, bucket: l.bucket, at: l.at, since: a.since}
		a.since = nil
		switch {
		case a.unknown > 1:
			a.open = &doubt{seq: a.unknown, at: given}
			a.doubts = append(a.doubts, a.open)
			a.unknown = 0
		case given.since == nil:
		case a.open != nil && a.open.next == nil:
			a.open.next, a.answered = &given, true
		default:
			given.first = !a.answered
			a.answered = true
			a.found(&given)
		}
	}
	return nil
}

// settle asks for what is in doubt, at the end of a chat.
func (a *answers) settle() error {
	if len(a.doubts) == 0 {
		return nil
	}
	chats, seqs := make([]string, len(a.doubts)), make([]int64, len(a.doubts))
	for i, d := range a.doubts {
		chats[i], seqs[i] = d.at.chat, d.seq
	}
	was, err := a.ask(chats, seqs)
	if err != nil {
		return err
	}
	for i, d := range a.doubts {
		answered := was[i].answered
		if was[i].since != nil {
			d.at.since = was[i].since
		}
		if d.at.since != nil {
			d.at.first, answered = !answered, true
			a.found(&d.at)
		}
		if d.next != nil {
			d.next.first = !answered
			a.found(d.next)
		}
	}
	a.doubts = a.doubts[:0]
	return nil
}

// answersLookback is how far before a period an unanswered message is looked for.
const answersLookback = 92 * 24 * time.Hour

func (t *tally) timeAnswers(ctx context.Context, pool *pgxpool.Pool, f *switchboard.ReportFilter, by switchboard.ReportBy) error {
	// An answer by anybody ends the waiting, so that all operators are looked at.
	whole := switchboard.ReportFilter{From: f.From, To: f.To, AccountID: f.AccountID, Platform: f.Platform}
	c := &conditions{}
	bucket := "null::timestamptz"
	if by == switchboard.ReportDay || by == switchboard.ReportHour {
		bucket = c.put("date_trunc(?, m.created_at, ?)", string(by), f.Zone)
	}
	sql := ""
	for _, s := range []span{{firstID(f.From.Add(-idSkew)), firstID(f.To.Add(idSkew))}, {lo: firstID(f.To.Add(idSkew))}} {
		c.sql.Reset()
		c.ofMessages(&whole, s)
		c.and("(m.direction = 'in' and m.kind <> 'service' or m.sender_kind = 'operator')")
		sql += `select m.chat_id, m.account_id, m.sender_id, m.seq, case m.direction when 'in' then 'i' else 'o' end, m.created_at, ` + bucket +
			` from messages m where ` + c.sql.String() + ` union all `
	}
	c.sql.Reset()
	c.ofChats(&whole, "")
	c.and("l.what = 'closed'")
	// Of lines with the same number the message comes first.
	sql += `select l.chat_id, l.account_id, '', l.seq, 'c', l.at, null from chat_log l where ` + c.sql.String() + ` order by 1, 4, 5 desc`

	a := &answers{
		found: func(a *answer) {
			if f.OperatorID != "" && a.operator != f.OperatorID {
				return
			}
			id := ""
			switch by {
			case switchboard.ReportOperator:
				id = a.operator
			case switchboard.ReportAccount:
				id = a.account
			}
			r, took := t.row(id, a.bucket), a.at.Sub(*a.since)
			r.answers.add(took)
			if a.first {
				r.first.add(took)
			}
		},
		ask: func(chats []string, seqs []int64) ([]before, error) { return askBefore(ctx, pool, f, chats, seqs) },
	}
	rows, err := pool.Query(ctx, sql, c.args...)
	if err != nil {
		return err
	}
	var l line
	var what string
	if _, err := pgx.ForEachRow(rows, []any{&l.chat, &l.account, &l.operator, &l.seq, &what, &l.at, &l.bucket}, func() error {
		l.what = what[0]
		return a.line(&l)
	}); err != nil {
		return err
	}
	return a.settle()
}

// askBefore looks for what chats were in before the messages with these numbers.
func askBefore(ctx context.Context, pool *pgxpool.Pool, f *switchboard.ReportFilter, chats []string, seqs []int64) ([]before, error) {
	const theirs = `from messages m where m.chat_id = r.chat and m.id >= $3::uuid and m.id < $4::uuid`
	rows, err := pool.Query(ctx, `select u.created_at, coalesce(o.seq is not null and exists (select 1 `+theirs+` and m.seq > c.seq and m.seq < o.seq and m.direction = 'in' and m.kind <> 'service'), false)
		from unnest($1::uuid[], $2::bigint[]) with ordinality r (chat, seq, i)
		cross join lateral (select coalesce(max(l.seq), 0) as seq from chat_log l where l.chat_id = r.chat and l.what = 'closed' and l.seq < r.seq) c
		left join lateral (select m.seq `+theirs+` and m.seq > c.seq and m.seq < r.seq and m.sender_kind = 'operator' order by m.seq desc limit 1) o on true
		left join lateral (select m.created_at `+theirs+` and m.seq > greatest(c.seq, coalesce(o.seq, 0)) and m.seq < r.seq and m.direction = 'in' and m.kind <> 'service' order by m.seq limit 1) u on true
		order by r.i`, chats, seqs, firstID(f.From.Add(-answersLookback)), firstID(f.To.Add(idSkew)))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (b before, err error) {
		return b, row.Scan(&b.since, &b.answered)
	})
}
