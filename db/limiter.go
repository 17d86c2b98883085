package db

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"switchboard/internal/queue"
	"switchboard/message"
)

// The limiter is the generic cell rate algorithm on one row for each account: tat,
// the theoretical arrival time, moves on by an interval with every slot that is
// given away. A claim takes a slot up to bookAhead before its time, and the process
// that has it makes the call at that time by itself: what happens to the database in
// between delays nothing. A chat that finds no slot within bookAhead is parked: it
// has no job and asks nobody, until the pacer (ReleaseParked) books a slot for it,
// first for the most urgent. Four things together keep every second within
// the rate and the burst: no more than half of the burst is booked at
// once; a call may be late by a sixth of it (slack); later ones go one by one
// (lateInterval) or book anew; and margin. What is left of the burst is for what
// the way to the platform does to the distances.
//
// Where calls are often late, because the machine is slow or starved, slots are
// given away for a later time (lead): each that is missed costs a few transactions more,
// and would make it slower still.

const (
	// bookAhead is how far ahead of its time a slot is given away: an answer waits for
	// a quarter of a second of a campaign, at most.
	bookAhead = 250 * time.Millisecond
	// lateWait is how long a send that missed its slot may wait for another late
	// one's; else it books anew, so that the limiter doesn't stay late.
	lateWait = 100 * time.Millisecond
	// leadStep is what a late send adds to the lead of a process, once in each
	// leadPause; leadMost is what it is at most, leadHalf the time in which half of
	// it is forgotten. Four late sends a second keep some 0.3 s.
	leadStep  = 10 * time.Millisecond
	leadPause = 20 * time.Millisecond
	leadMost  = time.Second
	leadHalf  = 5 * time.Second
	// margin is what the limiter keeps below a rate: the platform counts by its own
	// clock, and by when sends arrive.
	margin = 0.005
	// chatWay is how much later the first of a burst to a chat may reach the platform,
	// compared with those after it, without being counted as one too many: a quarter
	// of what there is between two sends, if that is less.
	chatWay = 250 * time.Millisecond
)

func interval(r message.Rate) time.Duration {
	return time.Duration(float64(time.Second) / r.PerSecond * (1 + margin))
}

// tolerance is how far the theoretical arrival time may be ahead of the clock:
// room for half of the burst at once.
func tolerance(r message.Rate) time.Duration {
	return time.Duration((max(r.Burst, 1)+1)/2-1) * interval(r)
}

// chatTolerance is the same for a chat, whose sends come one after another and are
// not booked ahead: its whole burst, but for what the way to the platform takes.
func chatTolerance(r message.Rate) time.Duration {
	if r.Burst <= 1 {
		return 0
	}
	return time.Duration(r.Burst-1)*interval(r) - min(interval(r)/4, chatWay)
}

// slack is how late a call may be without asking again: the time of a sixth of
// the burst, and what timers need. An account whose sends are claimed on time makes
// all its calls late by a transaction, which changes nothing in the distances.
func slack(p queue.Pacing) time.Duration {
	if p.OnlyOnTime {
		return 50 * time.Millisecond
	}
	return min(max(time.Duration(max(p.Account.Burst, 1))*interval(p.Account)/6, 10*time.Millisecond), 50*time.Millisecond)
}

// lateInterval is how far apart those go that are later than that: an eighth of the
// burst in a second. With a small burst it is one now and then, so that a
// process which is always late gets on.
func lateInterval(r message.Rate) time.Duration {
	if r.Burst < 8 {
		return 5 * time.Second
	}
	return time.Second / time.Duration(r.Burst/8)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// lead is how far ahead of the clock the slots of a process begin. It grows while its
// sends are late.
type lead struct {
	mu   sync.Mutex
	d    time.Duration // when it was last raised
	last time.Time
}

func (l *lead) at(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.left(now)
}

func (l *lead) left(now time.Time) time.Duration {
	d := time.Duration(float64(l.d) * math.Exp2(-float64(now.Sub(l.last))/float64(leadHalf)))
	if d < time.Millisecond {
		return 0
	}
	return d
}

// late notes a send that was late. Many at once say no more than one: after an outage
// all are.
func (l *lead) late(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.last) < leadPause {
		return
	}
	l.d, l.last = min(l.left(now)+leadStep, leadMost), now
}

// clock compares the database's clock with this process'. What says how late it is was
// on its way for a while: of some seconds, the one that was quickest is nearest to the truth.
// Taking each at its word would make the calls of a starved process later than they
// are, and those of several come together.
type clock struct {
	mu    sync.Mutex
	ahead [2]time.Duration // the most that the database's was ahead in the last and in this clockSpan
	began time.Time
}

const (
	clockSpan = 5 * time.Second
	// clockTrust is more than an answer is on its way: a clock was set back.
	clockTrust = 250 * time.Millisecond
)

// when is when it was there by the database's clock, by the clock of this process, which
// showed here afterwards.
func (c *clock) when(there, here time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ahead := there.Sub(here)
	switch passed := here.Sub(c.began); {
	case passed > 2*clockSpan:
		c.ahead, c.began = [2]time.Duration{ahead, ahead}, here
	case passed > clockSpan:
		c.ahead, c.began = [2]time.Duration{c.ahead[1], ahead}, here
	}
	c.ahead[1] = max(c.ahead[1], ahead)
	late := max(c.ahead[0], c.ahead[1]) - ahead
	if late > clockTrust {
		return here
	}
	return here.Add(-late)
}

func accountLimit(accountID string) string { return "account:" + accountID }

// limit is an account's row of the limiter.
type limit struct {
	tat, late time.Time
	parked    *int // the most urgent priority among the parked chats
	touched   bool
}

// slot is the account's next free time.
func (l *limit) slot(now time.Time, r message.Rate) time.Time {
	return later(now, l.tat.Add(-tolerance(r)))
}

func (l *limit) take(slot time.Time, r message.Rate) {
	l.tat, l.touched = later(l.tat, slot).Add(interval(r)), true
}

// claiming gathers what a claim writes, for one statement of each kind.
type claiming struct {
	batch                  pgx.Batch
	granted, timed, booked []int64
	timedAt, bookedAt      []time.Time
	unbooked               []int64
	paced, unparked        []string
	pacedTat               []time.Time
	parked, parkedAccount  []string
	parkedID               []int64
	parkedUntil            []time.Time
}

func (s *step) claim(ctx context.Context, heads []head, chats []string) error {
	s.claims = make(map[string]*queue.Claim, len(heads))
	w := &claiming{}
	slices.SortFunc(heads, func(a, b head) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.OutboxID, b.OutboxID))
	})
	var asking []*head // for a slot
	for i := range heads {
		h := &heads[i]
		c := &queue.Claim{ChatID: h.ChatID, State: queue.ClaimWait, OutboxID: h.OutboxID, Attempt: h.Attempt + 1, Part: h.Part, Limits: h.Limits, Op: h.Op,
			MessageID: h.MessageID, AccountID: h.AccountID, PlatformIDs: h.PlatformID, ForwardFrom: h.FromChat, ForwardIDs: h.ForwardIDs, Orphan: h.Sending}
		s.claims[h.ChatID] = c
		if h.Parked {
			w.unparked = append(w.unparked, h.ChatID) // a job came for it all the same
		}
		pacing := s.pace(h.AccountID)
		switch {
		case h.Sending && h.OwnerAlive && h.Owner != s.node:
			c.Wait = time.Second // another process is at it
		case h.Op != "send" && len(h.PlatformID) == 0:
			// Nothing at the platform to change: the message failed or was canceled.
			w.batch.Queue(`delete from outbox where id = $1`, h.OutboxID)
		case !h.Sending && !h.Now.Before(h.ExpiresAt):
			c.Expired = true
			s.queueExpired(&w.batch, h)
		case h.Gate != "" && !h.Sending:
			s.queueGated(&w.batch, h)
		case !h.Reserved && h.NotBefore.After(h.Now):
			c.Wait = h.NotBefore.Sub(h.Now)
		case !pacing.OK:
			w.park(c, h)
		case pacing.Account.PerSecond <= 0:
			if wait := h.ChatTat.Add(-chatTolerance(pacing.Chat)).Sub(h.Now); pacing.Chat.PerSecond > 0 && wait > 0 {
				c.Wait = wait
				continue
			}
			w.paceChat(h, h.Now, pacing)
			if err := s.grant(w, c, h, time.Time{}, pacing); err != nil {
				return err
			}
		case h.Reserved && h.Now.Sub(h.NotBefore) <= slack(pacing):
			if err := s.grant(w, c, h, h.NotBefore, pacing); err != nil {
				return err
			}
		case !h.Reserved && !h.Parked && h.Ahead != nil && *h.Ahead <= h.Priority:
			w.park(c, h) // without the limit's lock: others are before it anyway
		default:
			asking = append(asking, h)
		}
	}
	limits, err := s.lockLimits(ctx, asking)
	if err != nil {
		return err
	}
	for _, h := range asking {
		if err := s.book(w, h, limits[h.AccountID]); err != nil {
			return err
		}
	}
	return w.write(ctx, s, limits, chats)
}

// book finds a slot for a send, or parks its chat.
func (s *step) book(w *claiming, h *head, l *limit) error {
	c, pacing := s.claims[h.ChatID], s.pace(h.AccountID)
	if !pacing.OK || pacing.Account.PerSecond <= 0 {
		return nil // changed in between: asks again at once
	}
	now := later(h.Now, s.there)
	lead := time.Duration(0)
	if !pacing.OnlyOnTime { // claimed when their time has come
		if h.Reserved {
			s.d.lead.late(s.here)
		}
		lead = s.d.lead.at(s.here)
	}
	if h.Reserved { // and late
		if at := later(l.late, now.Add(lead)); at.Sub(now) <= lateWait+lead {
			l.late, l.touched = at.Add(lateInterval(pacing.Account)), true
			return s.grant(w, c, h, at, pacing)
		}
	}
	// A slot is taken of the account alone: one booked for when the chat's turn
	// comes would keep others from sending before.
	if wait := h.ChatTat.Add(-chatTolerance(pacing.Chat)).Sub(now); pacing.Chat.PerSecond > 0 && wait > 0 && !h.Reserved {
		c.Wait = wait
		return nil
	}
	slot := l.slot(now.Add(lead), pacing.Account)
	// One that missed its slot had its turn before those that are parked.
	if (l.parked != nil && *l.parked <= h.Priority && !h.Reserved) || slot.Sub(now) > bookAhead+lead {
		l.parked = new(min(h.Priority, *cmp.Or(l.parked, &h.Priority)))
		w.park(c, h)
		return nil
	}
	l.take(slot, pacing.Account)
	w.paceChat(h, slot, pacing)
	return s.grant(w, c, h, slot, pacing)
}

// grant gives a send away, to be made at that time. One that must not be made
// twice is only booked before its time: if the process ends while it waits, nobody
// would know that nothing was sent.
func (s *step) grant(w *claiming, c *queue.Claim, h *head, at time.Time, pacing queue.Pacing) error {
	now := later(h.Now, s.there)
	if pacing.OnlyOnTime && at.After(now) {
		w.booked, w.bookedAt = append(w.booked, h.OutboxID), append(w.bookedAt, at)
		c.Wait = at.Sub(now)
		return nil
	}
	if err := s.fill(c, h); err != nil {
		return err
	}
	c.State = queue.ClaimWork
	if at.IsZero() {
		w.granted = append(w.granted, h.OutboxID)
		return nil
	}
	c.At, c.Slack = s.here.Add(at.Sub(s.there)), slack(pacing)
	if pacing.OnlyOnTime {
		c.At = s.here.Add(now.Sub(s.there)) // the transaction itself is not counted twice
	}
	w.timed, w.timedAt = append(w.timed, h.OutboxID), append(w.timedAt, at)
	return nil
}

func (w *claiming) park(c *queue.Claim, h *head) {
	c.State, c.Parked = queue.ClaimDone, true
	w.parked, w.parkedAccount = append(w.parked, h.ChatID), append(w.parkedAccount, h.AccountID)
	w.parkedID, w.parkedUntil = append(w.parkedID, h.OutboxID), append(w.parkedUntil, h.ExpiresAt)
	if h.Reserved {
		w.unbooked = append(w.unbooked, h.OutboxID)
	}
}

func (w *claiming) paceChat(h *head, at time.Time, pacing queue.Pacing) {
	if pacing.Chat.PerSecond > 0 {
		w.paced, w.pacedTat = append(w.paced, h.ChatID), append(w.pacedTat, later(h.ChatTat, at).Add(interval(pacing.Chat)))
	}
}

func (w *claiming) write(ctx context.Context, s *step, limits map[string]*limit, chats []string) error {
	batch := &w.batch
	if len(w.granted) > 0 {
		batch.Queue(`update outbox set sending = true, attempt = attempt + 1, owner = $2, reserved = false where id = any($1)`, w.granted, s.node)
	}
	if len(w.timed) > 0 {
		batch.Queue(`update outbox o set sending = true, attempt = attempt + 1, owner = $2, reserved = false, not_before = r.at
			from unnest($1::bigint[], $3::timestamptz[]) r (id, at) where o.id = r.id`, w.timed, s.node, w.timedAt)
	}
	if len(w.booked) > 0 {
		batch.Queue(`update outbox o set reserved = true, not_before = r.at from unnest($1::bigint[], $2::timestamptz[]) r (id, at) where o.id = r.id`, w.booked, w.bookedAt)
	}
	if len(w.unbooked) > 0 {
		batch.Queue(`update outbox set reserved = false where id = any($1)`, w.unbooked)
	}
	if len(w.paced) > 0 {
		batch.Queue(`update outbox_chats o set tat = r.tat from unnest($1::uuid[], $2::timestamptz[]) r (id, tat) where o.chat_id = r.id`, w.paced, w.pacedTat)
	}
	if len(w.unparked) > 0 {
		batch.Queue(`update outbox_chats set parked_account = null where chat_id = any($1)`, w.unparked)
	}
	if len(w.parked) > 0 {
		// What is urgent behind the first message makes that one urgent.
		batch.Queue(`update outbox_chats oc set parked_account = r.account, parked_priority = (select min(priority) from outbox o where o.chat_id = oc.chat_id),
				parked_id = r.head, parked_until = r.until
			from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[]) r (id, account, head, until) where oc.chat_id = r.id`,
			w.parked, w.parkedAccount, w.parkedID, w.parkedUntil)
	}
	for account, l := range limits {
		if l.touched {
			batch.Queue(`update limits set tat = greatest(tat, $2), late = greatest(late, $3) where key = $1`, accountLimit(account), l.tat, l.late)
		}
	}
	var empty []string
	for _, id := range chats {
		if s.claims[id] == nil {
			empty = append(empty, id)
		}
	}
	if len(empty) > 0 {
		batch.Queue(`update outbox_chats set busy = false, parked_account = null where chat_id = any($1)`, empty)
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := s.tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("claiming sends: %w", err)
	}
	return nil
}

// lockLimits reads and holds the limits of the accounts of heads, and sets the
// clocks: all waiting for locks is over then.
func (s *step) lockLimits(ctx context.Context, heads []*head) (map[string]*limit, error) {
	limits := map[string]*limit{}
	var keys, accounts []string
	byKey := map[string]*limit{}
	for _, h := range heads {
		if limits[h.AccountID] == nil {
			l := &limit{}
			limits[h.AccountID], byKey[accountLimit(h.AccountID)] = l, l
			keys, accounts = append(keys, accountLimit(h.AccountID)), append(accounts, h.AccountID)
		}
	}
	if len(keys) == 0 {
		return limits, nil
	}
	read := 0
	locked := func(rows pgx.Rows) error {
		for read = 0; rows.Next(); read++ {
			var key string
			var tat, late time.Time
			if err := rows.Scan(&key, &tat, &late); err != nil {
				return err
			}
			byKey[key].tat, byKey[key].late = tat, late
		}
		return rows.Err()
	}
	const lock = `select key, tat, coalesce(nullif(late, '-infinity'), 'epoch') from limits where key = any($1) order by key for update`
	batch := &pgx.Batch{}
	batch.Queue(lock, keys).Query(locked)
	batch.Queue(`select a, (select parked_priority from outbox_chats where parked_account = a order by parked_priority, parked_id limit 1) from unnest($1::uuid[]) a`, accounts).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var account string
			var parked *int
			if err := rows.Scan(&account, &parked); err != nil {
				return err
			}
			limits[account].parked = parked
		}
		return rows.Err()
	})
	batch.Queue(`select clock_timestamp()`).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&s.there)
		s.here = s.d.clock.when(s.there, time.Now())
		return err
	})
	if err := s.tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("reading limits: %w", err)
	}
	if read == len(keys) {
		return limits, nil
	}
	batch = &pgx.Batch{}
	batch.Queue(`insert into limits (key, tat) select k, 'epoch' from unnest($1::text[]) k order by k on conflict (key) do nothing`, keys)
	batch.Queue(lock, keys).Query(locked)
	if err := s.tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("making limits: %w", err)
	}
	return limits, nil
}

// readLimit reads an account's limit and the time, and takes the limit's lock if nobody
// has it (free) and there may be something to book.
func readLimit(ctx context.Context, tx pgx.Tx, accountID string, rate message.Rate, lead time.Duration, l *limit) (now time.Time, free bool, err error) {
	if rate.PerSecond <= 0 {
		return now, false, tx.QueryRow(ctx, `select clock_timestamp()`).Scan(&now)
	}
	key := accountLimit(accountID)
	err = tx.QueryRow(ctx, `select tat, clock_timestamp() from limits where key = $1`, key).Scan(&l.tat, &now)
	if errors.Is(err, pgx.ErrNoRows) {
		err = tx.QueryRow(ctx, `insert into limits (key, tat) values ($1, 'epoch') on conflict (key) do update set tat = limits.tat returning tat, clock_timestamp()`, key).Scan(&l.tat, &now)
	}
	if err != nil {
		return now, false, fmt.Errorf("reading the limit: %w", err)
	}
	if first := now.Add(lead); l.slot(first, rate).Sub(first) > bookAhead/2 {
		return now, false, nil
	}
	err = tx.QueryRow(ctx, `select tat, clock_timestamp() from limits where key = $1 for update skip locked`, key).Scan(&l.tat, &now)
	if errors.Is(err, pgx.ErrNoRows) {
		return now, false, nil
	}
	if err != nil {
		return now, false, fmt.Errorf("locking the limit: %w", err)
	}
	return now, true, nil
}

// waiting is a parked chat.
type waiting struct {
	ChatID    string
	ChatTat   time.Time
	OutboxID  *int64 // nil: the message was taken back
	Priority  *int
	NotBefore *time.Time
	ExpiresAt *time.Time
}

// releaseAtMost bounds one release of an account without a limit.
const releaseAtMost = 500

// ReleaseParked books the account's free slots of the next quarter of a second for
// parked chats, in the order of urgency and age. As many as there is room for are
// handed to the caller, the others get jobs. An account that may not send keeps them
// parked.
func (d *DB) ReleaseParked(ctx context.Context, accountID string, pacing queue.Pacing, room int) (queue.Released, error) {
	var out queue.Released
	if !pacing.OK {
		return out, nil
	}
	err := d.hotTx(ctx, func(tx pgx.Tx) error {
		out = queue.Released{}
		l, rate, most, lead := limit{}, pacing.Account, releaseAtMost, time.Duration(0)
		if !pacing.OnlyOnTime {
			lead = d.lead.at(time.Now())
		}
		now, free, err := readLimit(ctx, tx, accountID, rate, lead, &l)
		if err != nil {
			return err
		}
		first := now.Add(lead)
		if rate.PerSecond > 0 {
			// Not before half of the time ahead is free: few large releases, and of several
			// pacers one.
			wait := l.slot(first, rate).Sub(first)
			switch {
			case wait > bookAhead/2:
				out.Left, out.Next = true, wait-bookAhead/2
				return nil
			case !free:
				out.Left = true // another is at it
				return nil
			}
			most = min(most, 1+int((bookAhead-wait)/interval(rate)))
		}
		rows, err := tx.Query(ctx, `with oc as (select chat_id, tat, parked_priority, parked_id from outbox_chats where parked_account = $1
				order by parked_priority, parked_id limit $2 for update skip locked)
			select oc.chat_id, coalesce(nullif(oc.tat, '-infinity'), 'epoch'), o.id, o.priority, coalesce(nullif(o.not_before, '-infinity'), 'epoch'), o.expires_at
			from oc left join lateral (select id, priority, not_before, expires_at from outbox where `+headOf+` limit 1) o on true
			order by oc.parked_priority, oc.parked_id`, accountID, most)
		if err != nil {
			return fmt.Errorf("reading parked chats: %w", err)
		}
		parked, err := pgx.CollectRows(rows, pgx.RowToStructByPos[waiting])
		if err != nil {
			return fmt.Errorf("reading parked chats: %w", err)
		}
		if len(parked) == 0 {
			return nil
		}
		w, chats := &claiming{}, make([]string, len(parked))
		var jobs []river.JobArgs
		for i := range parked {
			p := &parked[i]
			chats[i] = p.ChatID
			if i < room {
				out.Handed = append(out.Handed, queue.Handed{ChatID: p.ChatID})
			} else {
				job := queue.DeliverArgs{ChatID: p.ChatID}
				if p.OutboxID != nil {
					job.Priority = *p.Priority
				}
				jobs = append(jobs, job)
			}
			switch {
			case p.OutboxID == nil, rate.PerSecond <= 0, !now.Before(*p.ExpiresAt), p.NotBefore.After(now):
				continue // needs no slot, or not now
			}
			slot := l.slot(first, rate)
			if pacing.Chat.PerSecond > 0 {
				if p.ChatTat.Add(-chatTolerance(pacing.Chat)).After(slot) {
					continue
				}
				w.paced, w.pacedTat = append(w.paced, p.ChatID), append(w.pacedTat, later(p.ChatTat, slot).Add(interval(pacing.Chat)))
			}
			l.take(slot, rate)
			w.booked, w.bookedAt = append(w.booked, *p.OutboxID), append(w.bookedAt, slot)
		}
		w.unparked = chats
		if err := w.write(ctx, &step{tx: tx}, map[string]*limit{accountID: &l}, nil); err != nil {
			return err
		}
		out.Chats, out.Left = len(parked), len(parked) == most
		if rate.PerSecond > 0 {
			out.Next = max(l.slot(first, rate).Sub(first)-bookAhead/2, 0)
		}
		if len(jobs) == 0 {
			return nil
		}
		return d.jobs.insert(ctx, tx, jobs...)
	})
	if err != nil {
		return queue.Released{}, fmt.Errorf("releasing parked chats: %w", err)
	}
	return out, nil
}

// ParkedAccounts lists the accounts that have parked chats, and gives jobs to parked
// chats whose first message has expired.
func (d *DB) ParkedAccounts(ctx context.Context) ([]string, error) {
	rows, err := d.pool.Query(ctx, `with recursive a (id) as (
			(select parked_account from outbox_chats where parked_account is not null order by 1 limit 1)
			union all select (select parked_account from outbox_chats where parked_account > a.id order by 1 limit 1) from a where a.id is not null)
		select id from a where id is not null`)
	if err != nil {
		return nil, fmt.Errorf("looking for parked chats: %w", err)
	}
	accounts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(accounts) == 0 {
		return nil, err
	}
	err = d.unpark(ctx, `select chat_id from outbox_chats where parked_account is not null and parked_until < now() limit 1000 for update skip locked`)
	if err != nil {
		return nil, fmt.Errorf("taking expired sends out of parking: %w", err)
	}
	return accounts, nil
}

// unpark gives jobs to the parked chats that a query locks and names: their claims see
// what is to be done.
func (d *DB) unpark(ctx context.Context, chats string, args ...any) error {
	return d.tx(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `update outbox_chats set parked_account = null where chat_id in (`+chats+`) returning chat_id`, args...)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		jobs := make([]river.JobArgs, len(ids))
		for i, id := range ids {
			jobs[i] = queue.DeliverArgs{ChatID: id, Priority: queue.PriorityCampaign}
		}
		return d.jobs.insert(ctx, tx, jobs...)
	})
}
