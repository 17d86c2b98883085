package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"switchboard/message"
	"switchboard/simulator"
)

// totals is what the end has shown.
type totals struct {
	outcome
	customers, operators, files int
	campaigns                   int            // recipients
	doubledBy                   map[string]int // by platform
	statuses                    map[message.Status]int
	late, duplicates, events    int
	limits                      []string
	conflicts, frozenConflicts  int
	drained                     time.Duration
}

// unfinishedWork asks for everything that is to come to an end by itself.
const unfinishedWork = `select name, n from (
	select 'messages to send' as name, count(*) as n from outbox
	union all select 'messages without a final status', count(*) from messages where status in ('queued', 'sending')
	union all select 'updates not normalised', count(*) from updates u join lanes l on l.id = u.lane where u.id > l.done_id
	union all select 'lanes marked as being drained', count(*) from lanes where draining
	union all select 'chats marked as having a job', count(*) from outbox_chats where busy
	union all select 'campaigns that are not done', count(*) from campaigns where state <> 'done'
	union all select 'messages of campaigns that wait aside', count(*) from campaign_held
	union all select 'files not fetched', count(*) from files where state = 'pending'
	union all select 'jobs of kind ' || kind || ' ' || state, count(*) from river_job where kind in ('drain', 'deliver', 'fetch') and state not in ('completed') group by kind, state
) x where n > 0`

// drain ends the load and waits until nothing is under way.
func (x *chaos) drain() {
	x.halt()
	x.sim.ClearFaults()
	began := time.Now()
	x.note("the load has ended")
	var left []string
	for deadline := began.Add(drainLimit); ; time.Sleep(200 * time.Millisecond) {
		left = nil
		for _, s := range x.stations {
			if n := s.pending(); n > 0 {
				left = append(left, fmt.Sprintf("%d updates at %s", n, s.platform))
			}
		}
		rows, err := x.pool.Query(context.Background(), unfinishedWork)
		if err != nil {
			left = append(left, err.Error())
		} else {
			for rows.Next() {
				var name string
				var n int
				if err := rows.Scan(&name, &n); err != nil {
					left = append(left, err.Error())
				}
				left = append(left, fmt.Sprintf("%d %s", n, name))
			}
			rows.Close()
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			x.breach("after %v there is still work: %s", drainLimit, strings.Join(left, ", "))
			break
		}
	}
	x.note("nothing is under way any more, %.1f s after the load, in which people held back %d times", time.Since(began).Seconds(), x.held.Load())
}

// judge compares everything with everything.
func (x *chaos) judge() *totals {
	o := &totals{doubledBy: map[string]int{}, statuses: map[message.Status]int{}}
	x.bentOrder(o)
	last, cancel := context.WithTimeout(context.Background(), 20*time.Second) // for the last events, of all
	defer cancel()
	for _, a := range x.agents {
		x.judgeStream(last, a, o)
	}
	for _, k := range x.everyTalk() {
		x.judgeTalk(k, o)
	}
	x.judgeFiles(o)
	x.judgeMailings(o)
	x.judgeLimits(o)
	x.judgePolling(o)
	x.judgeStore(o)
	for _, p := range x.everProcess() {
		for line := range strings.Lines(p.logText()) {
			if strings.Contains(line, "DATA RACE") || strings.Contains(line, "panic") || strings.Contains(line, "fatal error") {
				x.breach("%s: %s", p.name, line)
			}
		}
	}
	return o
}

// bentOrder finds what platforms brought too late.
func (x *chaos) bentOrder(o *totals) {
	late := map[string][]string{} // bodies by customer
	for _, s := range x.stations {
		for _, c := range s.callbacks("") {
			switch c.Fault {
			case simulator.FaultReorder:
				late[c.Customer] = append(late[c.Customer], string(c.Body))
			case simulator.FaultDuplicate, simulator.FaultLostAnswer:
				o.duplicates++
			}
		}
	}
	for _, k := range x.everyTalk() {
		for _, body := range late[k.customer.ID()] {
			for _, text := range k.in {
				if strings.Contains(body, `"`+text+`"`) || strings.Contains(body, `"`+trim(text)+padding) {
					if k.late == nil {
						k.late = map[string]bool{}
					}
					if !k.late[text] {
						o.late++
					}
					k.late[text] = true
				}
			}
		}
	}
}

// judgeStream: an operator got every event of the chats that it holds, once.
func (x *chaos) judgeStream(ctx context.Context, a *agent, o *totals) {
	l := x.ledgers[a]
	var chats []string
	for id := range l.chats {
		chats = append(chats, id)
	}
	rows, err := x.pool.Query(context.Background(), `select id from events where id > $1 and chat_id = any($2::uuid[]) and type in ('message.new', 'message.updated') order by id`, l.since, chats)
	if err != nil {
		x.breach("reading events: %v", err)
		return
	}
	defer rows.Close()
	var want []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			x.breach("reading events: %v", err)
		}
		want = append(want, id)
	}
	_ = a.until(ctx, "the last event", func() bool { return len(l.events) >= len(want) })
	a.mu.Lock()
	defer a.mu.Unlock()
	o.events += len(l.events)
	for _, f := range a.faults {
		x.breach("stream of %s: %s", a.login, f)
	}
	for id, s := range l.chats {
		if len(s.twice) > 0 {
			x.breach("stream of %s: messages %v of chat %s were announced twice", a.login, s.twice, id)
		}
	}
	if slices.Equal(l.events, want) {
		return
	}
	got := map[int64]bool{}
	for _, id := range l.events {
		got[id] = true
	}
	var missing []int64
	for _, id := range want {
		if !got[id] {
			missing = append(missing, id)
		}
	}
	x.breach("stream of %s: %d events, want %d; missing are %d", a.login, len(l.events), len(want), missing[:min(10, len(missing))])
}

// judgeTalk: what was said is in the history, at the operator and at the platform.
func (x *chaos) judgeTalk(k *talk, o *totals) {
	s := x.stations[slices.IndexFunc(x.stations, func(s *station) bool { return s.id == k.account })]
	history, err := k.history(x.door)
	if err != nil {
		x.breach("%v", err)
		return
	}
	before := o.doubled
	for _, problem := range k.compare(x.door, history, x.began, &o.outcome) {
		x.breach("%s: %s", s.platform, problem)
	}
	o.doubledBy[s.platform] += o.doubled - before
	for _, m := range history {
		if m.Direction == message.Out {
			o.operators++
			o.statuses[m.Status]++
			// Viber's customers of the simulator read everything.
			if s.platform == "viber" && m.Status != message.StatusRead {
				x.breach("viber: %q of chat %s is %s, and was read: %s", m.Text, k.chat, m.Status, k.timeline(x.door, m.ID))
			}
			continue
		}
		o.customers++
	}
	said := make([]string, len(k.in))
	late := map[string]bool{}
	for i, text := range k.in {
		said[i] = trim(text)
		late[said[i]] = k.late[text]
	}
	shown := &talk{in: said, late: late}
	if len(k.late) == 0 {
		shown.late = nil
	}
	got := x.ledgers[k.agent].chats[k.chat].in
	if !shown.sameIn(got) {
		d, _ := difference(got, said)
		x.breach("%s: operator %s got of the customer of chat %s %s", s.platform, k.agent.login, k.chat, d)
	}
}

// judgeMailings: every recipient of a campaign got its message, once, and of a
// cascade the steps that it should.
func (x *chaos) judgeMailings(o *totals) {
	if m := x.mailing; m != nil {
		for _, problem := range m.compare(x.pool, "sent") {
			x.breach("campaign on telegram: %s", problem)
		}
		o.campaigns += len(m.customers)
		o.doubled += m.doubled
		o.doubledBy["telegram"] += m.doubled
	}
	if c := x.cascade; c != nil {
		for _, problem := range c.compare(x.pool) {
			x.breach("cascade: %s", problem)
		}
		o.campaigns += len(c.customers)
		for i, platform := range []string{"viber", "telegram"} {
			o.doubled += c.twice[i]
			o.doubledBy[platform] += c.twice[i]
		}
	}
}

// judgeFiles: files of both sides arrived whole, once, and in order.
func (x *chaos) judgeFiles(o *totals) {
	k := x.files
	history, err := k.history(x.door)
	if err != nil {
		x.breach("%v", err)
		return
	}
	var in []string
	for _, m := range history {
		if m.Direction == message.Out || len(m.Files) == 0 {
			continue
		}
		status, body := get(x.door+"/files/"+m.Files[0].ID, k.agent.token)
		sum := sha256.Sum256([]byte(body))
		if status != 200 || m.Files[0].State != message.FileReady {
			x.breach("file %s of message %s is %s: %d", m.Files[0].ID, m.ID, m.Files[0].State, status)
		}
		in = append(in, hex.EncodeToString(sum[:]))
	}
	if !slices.Equal(in, x.fromFile) {
		d, _ := difference(in, x.fromFile)
		x.breach("files of the customer: %s", d)
	}
	var out []string
	for _, m := range k.customer.Messages() {
		for _, f := range m.Files {
			if len(out) == 0 || out[len(out)-1] != f.SHA256 {
				out = append(out, f.SHA256)
			}
		}
	}
	if !slices.Equal(out, x.toFile) {
		d, _ := difference(out, x.toFile)
		x.breach("files of the operator: %s", d)
	}
	o.files = len(in) + len(out)
}

// judgeLimits: by the simulator's clock, but for the time for which the machine
// itself stood still, no second of any account and no second
// of any chat had more than the limit and its burst.
func (x *chaos) judgeLimits(o *totals) {
	for _, s := range x.stations {
		r := s.rates()
		most := s.rate.PerSecond + float64(s.rate.Burst)
		line := fmt.Sprintf("%s\t%d\t%d\t%g", s.platform, r.Sends, r.MaxSliding, most)
		for _, c := range s.crowded(most) {
			// What a machine that stood still has sent before it did may come after.
			stood := x.clock.worst(c.End)
			if float64(c.Sends) > most+math.Ceil(s.rate.PerSecond*stood.Seconds()) {
				x.breach("%s got %d messages in the second before %.1f s, and takes %g; the machine stood still for %v at most", s.platform, c.Sends, c.End.Sub(x.began).Seconds(), most, stood)
				break
			}
		}
		if s.chat.PerSecond > 0 {
			chat := s.chat.PerSecond + float64(s.chat.Burst)
			line += fmt.Sprintf("\t%d\t%g", r.MaxSlidingCustomer, chat)
			if float64(r.MaxSlidingCustomer) > chat {
				x.breach("a chat of %s got %d messages in one second, and takes %g", s.platform, r.MaxSlidingCustomer, chat)
			}
		} else {
			line += fmt.Sprintf("\t%d\tnone", r.MaxSlidingCustomer)
		}
		o.limits = append(o.limits, line)
	}
}

// judgePolling: no two polls at once but for those of a poller that was stopped.
func (x *chaos) judgePolling(o *totals) {
	for _, s := range x.stations {
		method := polls[s.platform]
		if method == "" {
			continue
		}
		var before simulator.Request
		all := s.requests(method)
		slices.SortFunc(all, func(a, b simulator.Request) int { return a.At.Compare(b.At) })
		for i, r := range all {
			if i > 0 && r.At.Before(before.At.Add(before.Took)) {
				o.conflicts++
				stopped := slices.ContainsFunc(x.frozen, func(f [2]time.Time) bool { return before.At.Before(f[1]) && r.At.After(f[0]) })
				if stopped {
					o.frozenConflicts++
				} else {
					x.breach("%s was polled at %.2f s while a poll of %.2f s still hung (%v)", s.platform, r.At.Sub(x.began).Seconds(), before.At.Sub(x.began).Seconds(), before.Took)
				}
			}
			if i == 0 || r.At.Add(r.Took).After(before.At.Add(before.Took)) {
				before = r
			}
		}
	}
	if n := 2 * len(x.frozen); o.frozenConflicts > n {
		x.breach("%d polls overlapped with those of a stopped poller, want %d at most", o.frozenConflicts, n)
	}
}

// judgeStore: the database has nothing that should not be there.
func (x *chaos) judgeStore(*totals) {
	for what, query := range map[string]string{
		"updates in quarantine": `select coalesce(string_agg(q.error || ': ' || convert_from(u.raw, 'UTF8'), E'\n'), '') from (select * from quarantine limit 3) q left join updates u on u.id = q.update_id`,
		"updates stored twice":  `select coalesce(string_agg(dedup_key, ' '), '') from (select dedup_key from updates group by account_id, dedup_key having count(*) > 1 limit 5) x`,
		"messages numbered wrongly": `select coalesce(string_agg(id::text, ' '), '') from (select c.id from chats c left join messages m on m.chat_id = c.id
			group by c.id having count(m.id) <> c.last_seq or coalesce(max(m.seq), 0) <> c.last_seq limit 5) x`,
		"jobs that were given up": `select coalesce(string_agg(kind || ' ' || state || ' ' || coalesce(errors[1]::text, ''), E'\n'), '') from (select * from river_job where state in ('discarded', 'cancelled') limit 5) x`,
		"accounts not active":     `select coalesce(string_agg(platform || ' ' || state || ': ' || reason, E'\n'), '') from accounts where state <> 'active'`,
		"files not ready":         `select coalesce(string_agg(id::text || ' ' || state || ' ' || error, E'\n'), '') from (select * from files where state <> 'ready' limit 5) x`,
	} {
		var found string
		if err := x.pool.QueryRow(context.Background(), query).Scan(&found); err != nil || found != "" {
			x.breach("%s: %v %s", what, err, found)
		}
	}
}

func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// summary is for people.
func (x *chaos) summary(seed uint64, calm *record, o *totals) {
	fmt.Printf("\n== Chaos, seed %d, %v, %d CPUs, %s\n\n", seed, time.Since(x.began).Round(time.Second), runtime.NumCPU(), time.Now().Format(time.DateOnly))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	cell := func(all []time.Duration, of func([]time.Duration) time.Duration) string {
		if len(all) == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f s", of(all).Seconds())
	}
	most := func(all []time.Duration) time.Duration { return slices.Max(all) }
	fmt.Fprintln(w, "fault\ttimes\twebhook median\tmax\tpolled median\tmax\t")
	row := func(kind string, r *record) {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t\n", kind, r.count, cell(r.webhook, median), cell(r.webhook, most), cell(r.polled, median), cell(r.polled, most))
	}
	row("none", calm)
	injected := 0
	for _, f := range x.faults() {
		if r := x.stats[f.kind]; r != nil {
			row(f.kind, r)
			injected += r.count
		}
	}
	row(twoAtOnce, x.record(twoAtOnce))
	w.Flush()
	fmt.Print("\nFrom the fault's end (of a kill or a stop: from its beginning) until a customer's question was answered.\n\n")
	w = tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "platform\tsends\tmost in a second\tallowed\tin a chat\tallowed\tsent twice\t")
	for i, line := range o.limits {
		fmt.Fprintf(w, "%s\t%d\t\n", line, o.doubledBy[x.stations[i].platform])
	}
	w.Flush()
	statuses, _ := json.Marshal(o.statuses) // strings and numbers
	fmt.Printf(`
%d faults; %d messages of customers, %d of operators and scripts, %d of campaigns, %d files; longest silence to a customer %.1f s
final states %s
%s
%d messages came twice to their customer after a lost answer, and their timelines say so
%d webhooks came twice or again, %d messages in another order than they were written
%d events to operators, by cursor
polling was taken over after %.1f s at most (%d times); %d polls overlapped, all with a poller that was stopped: %v
%d breaches
`, injected, o.customers, o.operators, o.campaigns, o.files, o.outGap.Seconds(), statuses, x.cascade, o.doubled, o.duplicates, o.late, o.events,
		slices.Max(append(x.failover, 0)).Seconds(), len(x.failover), o.conflicts, o.conflicts == o.frozenConflicts, len(x.breaches))
	for _, b := range x.breaches {
		fmt.Println("BREACH", shorten(b, 6000))
	}
}
