package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"switchboard"
	"switchboard/config"
	"switchboard/db"
	"switchboard/internal/queue"
)

// smallHistory is what figure (f) compares with.
const smallHistory = 10_000

// growth is figure (f): what a year's messages do to (a), (b), (c), and to the
// first page of chats and of a chat's messages. Small and large take turns.
func (r *bench) growth(ctx context.Context) error {
	base, stopPlatform, err := platform(ctx)
	if err != nil {
		return err
	}
	defer stopPlatform()
	sizes := [2]int{smallHistory, r.cmd.History}
	var of [2]*config.Config
	var filled time.Duration
	for i, n := range sizes {
		if of[i], err = r.config(ctx); err != nil {
			return err
		}
		start := time.Now()
		if err := r.writeHistory(ctx, of[i], n); err != nil {
			return fmt.Errorf("writing a history of %d messages: %w", n, err)
		}
		filled = time.Since(start)
	}
	const goes = 3
	var figures [5][2][]float64
	for go_ := range goes {
		for turn := range sizes {
			i := (turn + go_) % len(sizes)
			a, _, err := r.takeWebhooks(ctx, of[i], r.cmd.Time/2)
			if err != nil {
				return err
			}
			b, _, _, err := r.takeMessages(ctx, of[i], r.cmd.Time/2, false)
			if err != nil {
				return err
			}
			c, _, err := r.sendAll(ctx, of[i], base)
			if err != nil {
				return err
			}
			chats, messages, err := r.pages(ctx, of[i])
			if err != nil {
				return err
			}
			for f, v := range []float64{a, b, c, chats, messages} {
				figures[f][i] = append(figures[f][i], v)
			}
		}
	}
	for f, name := range []string{"(a) durable webhooks", "(b) webhook to hub event", "(c) sends", "first page of chats, p99", "page of a chat's messages, p99"} {
		small, large := middle(figures[f][0]), middle(figures[f][1])
		text, aim := perSecond, ">= 0.85"
		if f >= 3 {
			text, aim = func(x float64) string { return fmt.Sprintf("%.2f ms", x) }, "<= 2"
		}
		r.add(benchRow{"(f) " + name, text(large), text(small), ratio(large / small), aim, nil})
	}
	last := &r.rows[len(r.rows)-1]
	last.notes = append(last.notes, fmt.Sprintf("(f) with %d messages of %d chats stored over a year, and as many updates over four weeks (copied in %.0f s), and beside it with %d; medians of %d goes each, alternating",
		sizes[1], historyChats(sizes[1]), filled.Seconds(), sizes[0], goes))
	return nil
}

func middle(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

func historyChats(n int) int { return max(benchCustomers, n/100) }

// writeHistory fills a fresh database as a year of work would have, in the
// partitions of that year.
func (r *bench) writeHistory(ctx context.Context, cfg *config.Config, n int) error {
	s, err := r.serviceOn(ctx, cfg, "http://127.0.0.1:1/viber", "loader") // makes the account
	if err != nil {
		return err
	}
	account := uuid.MustParse(s.account)
	if err := s.stop(); err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, cfg.DatabaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	// The first partitions hold all that was before; a year ago they were made anew.
	for _, t := range []string{"messages", "updates"} {
		if _, err := pool.Exec(ctx, fmt.Sprintf(`alter table %[1]s detach partition %[1]s_first`, t)); err != nil {
			return err
		}
		if _, err := pool.Exec(ctx, fmt.Sprintf(`drop table %s_first`, t)); err != nil {
			return err
		}
	}
	d, err := db.Open(ctx, db.Config{URL: cfg.DatabaseURL, Name: "bench"}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer d.Close()
	now := time.Now()
	year, weeks := now.AddDate(-1, 0, 1), now.AddDate(0, 0, -27)
	for at := year; at.Before(now.AddDate(0, 1, 0)); at = at.AddDate(0, 0, 7) {
		if _, err := d.Partitions(ctx, at, queue.Keep{}); err != nil {
			return err
		}
	}
	chats := historyChats(n)
	chatIDs, customerIDs := make([]uuid.UUID, chats), make([]uuid.UUID, chats)
	for i := range chats {
		chatIDs[i], customerIDs[i] = idAt(year, i), idAt(year, i)
	}
	external := func(i int) string { return fmt.Sprintf("bench-customer-%06d==", i) }
	err = copyRows(ctx, pool, "customers", []string{"id", "account_id", "external_id", "name", "language", "country"}, chats, func(i int) []any {
		return []any{customerIDs[i], account, external(i), "Customer " + strconv.Itoa(i), "en", "LT"}
	})
	if err != nil {
		return err
	}
	err = copyRows(ctx, pool, "chats", []string{"id", "account_id", "platform", "customer_id", "external_id", "state", "last_seq", "unread", "last_customer_message_at", "queued_at"}, chats, func(i int) []any {
		seq := int64((n + chats - 1 - i) / chats)
		return []any{chatIDs[i], account, "viber", customerIDs[i], external(i), "new", seq, seq, now.Add(-time.Minute), now.Add(-time.Minute)}
	})
	if err != nil {
		return err
	}
	at := func(from time.Time, i int) time.Time {
		return from.Add(time.Duration(float64(now.Add(-time.Minute).Sub(from)) * float64(i) / float64(n)))
	}
	err = copyRows(ctx, pool, messageRows.name, messageRows.columns, n, func(i int) []any {
		row := messageRows.row(int64(i))
		t := at(year, i)
		row[0], row[1], row[2], row[3] = idAt(t, i), chatIDs[i%chats], account, int64(i/chats+1)
		row[7], row[10], row[12], row[13], row[14] = t, customerIDs[i%chats].String(), strconv.Itoa(4_000_000_000+i), t, t
		return row
	})
	if err != nil {
		return err
	}
	err = copyRows(ctx, pool, updateRows.name, append(slices.Clone(updateRows.columns), "id", "received_at"), n, func(i int) []any {
		row := updateRows.row(int64(i))
		row[0], row[1], row[2], row[3] = int32(db.LaneOf(account.String(), external(i%chats))), account, "m:"+strconv.Itoa(4_000_000_000+i), external(i%chats)
		return append(row, int64(i+1), at(weeks, i))
	})
	if err != nil {
		return err
	}
	for _, sql := range []string{
		fmt.Sprintf(`select setval('update_ids', %d)`, n+1), fmt.Sprintf(`update lanes set done_id = %d`, n),
		`vacuum (analyze) messages`, `vacuum (analyze) updates`, `vacuum (analyze) chats`, `vacuum (analyze) customers`, `checkpoint`,
	} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

// idAt is a UUIDv7 of that time.
func idAt(t time.Time, i int) uuid.UUID {
	id := uuid.New()
	ms := t.UnixMilli()
	for b := range 6 {
		id[b] = byte(ms >> (40 - 8*b))
	}
	id[6] = 0x70 | byte(i>>8)&0x0f
	id[7] = byte(i)
	return id
}

// copyRows copies n rows in chunks, two at a time.
func copyRows(ctx context.Context, pool *pgxpool.Pool, name string, columns []string, n int, row func(i int) []any) error {
	const chunk = 50_000
	err := eachOf(2, (n+chunk-1)/chunk, func(i int) error {
		from := i * chunk
		_, err := pool.CopyFrom(ctx, pgx.Identifier{name}, columns, pgx.CopyFromSlice(min(chunk, n-from), func(i int) ([]any, error) { return row(from + i), nil }))
		return err
	})
	if err != nil {
		return fmt.Errorf("copying %s: %w", name, err)
	}
	return nil
}

// pages measures the loader's first page of chats, and pages of chats' messages:
// the p99 of each in milliseconds.
func (r *bench) pages(ctx context.Context, cfg *config.Config) (chats, messages float64, err error) {
	s, err := r.serviceOn(ctx, cfg, "http://127.0.0.1:1/viber", "loader")
	if err != nil {
		return 0, 0, err
	}
	defer s.stop()
	token, err := benchOperator(ctx, s, "pages-"+db.NewID(), switchboard.RoleSupervisor)
	if err != nil {
		return 0, 0, err
	}
	rows, err := s.db.Pool().Query(ctx, `select id::text from chats where account_id = $1 order by id limit 500`, s.account)
	if err != nil {
		return 0, 0, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, 0, err
	}
	get := func(path func(i int) string) (float64, error) {
		var took []time.Duration
		for i := range 500 {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path(i), nil)
			if err != nil {
				return 0, err
			}
			req.Header.Set("Authorization", "Bearer "+token)
			start := time.Now()
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return 0, err
			}
			body, err := io.ReadAll(res.Body)
			if err = errors.Join(err, res.Body.Close()); err != nil {
				return 0, err
			}
			if res.StatusCode != http.StatusOK || !json.Valid(body) {
				return 0, fmt.Errorf("%s was answered %d", path(i), res.StatusCode)
			}
			if i >= 50 { // the first ones warm up
				took = append(took, time.Since(start))
			}
		}
		slices.Sort(took)
		return float64(percentile(took, 0.99).Microseconds()) / 1000, nil
	}
	if chats, err = get(func(int) string { return "/api/v1/chats" }); err != nil {
		return 0, 0, err
	}
	messages, err = get(func(i int) string { return "/api/v1/chats/" + ids[i%len(ids)] + "/messages" })
	return chats, messages, err
}
