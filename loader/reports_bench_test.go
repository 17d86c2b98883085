package loader_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkReports: an export of a million messages in each format, with the
// resident memory that this process, which is server and client, took more; and the
// figures of the same messages.
//
//	go test -run xxx -bench Reports -benchtime 1x ./loader
func BenchmarkReports(b *testing.B) {
	const rows = 1_000_000
	o := open(b, nil)
	ctx := b.Context()
	o.exec(`create function id_at(t timestamptz, n int) returns uuid language sql immutable as
		$$ select (lpad(to_hex((extract(epoch from t) * 1000)::bigint), 12, '0') || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid $$`)
	o.exec(`insert into customers (id, account_id, external_id, name) select id_at('2025-09-01', n), $1, n, 'Customer ' || n from generate_series(0, 9999) n`, o.account.ID)
	o.exec(`insert into chats (id, account_id, platform, customer_id, external_id, state) select id_at('2025-09-01', n), $1, 'fake', id_at('2025-09-01', n), n, 'closed' from generate_series(0, 9999) n`, o.account.ID)
	o.exec(`insert into messages (id, chat_id, account_id, seq, direction, kind, status, status_at, body, sender_kind, sender_id, sender_name, created_at)
		select id_at(at, n), id_at('2025-09-01', n % 10000), $1, n / 10000 + 1, case when n / 10000 % 2 = 0 then 'in' else 'out' end, 'text', 'sent', at,
			jsonb_build_object('text', 'message number ' || n || ' of a customer who has a question'), case when n / 10000 % 2 = 0 then 'customer' else 'operator' end, $2, 'Ann', at
		from (select n, '2025-10-01'::timestamptz + n * interval '2.5 seconds' as at from generate_series(0, $3::int - 1) n) t`, o.account.ID, o.ann.ID, rows)
	o.exec(`vacuum analyze messages`)
	for _, c := range []struct{ name, path string }{
		{"csv", "messages?text=true&format=csv&"}, {"json", "messages?text=true&format=json&"}, {"xlsx", "messages?text=true&format=xlsx&"},
		{"summary", "summary?"}, {"by-operator", "by-operator?"}, {"by-hour", "by-hour?timezone=Europe/Berlin&"}, {"by-status", "by-status?"},
		{"by-operator-of-half-a-month", "by-operator?half&"}, // of 10,000 chats that are under way
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				debug.FreeOSMemory()
				if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
					b.Fatal(err)
				}
				before, began := peak(b), time.Now()
				path, from := c.path, "2025-10-01"
				if half, ok := strings.CutSuffix(path, "half&"); ok {
					path, from = half, "2025-10-16"
				}
				size, err := fetch(ctx, o.url+path+"from="+from+"&to=2025-11-01")
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(peak(b)-before)/1024, "MiB-more")
				b.ReportMetric(float64(size)/(1<<20), "MiB-sent")
				b.ReportMetric(time.Since(began).Seconds(), "s")
			}
		})
	}
}

func fetch(ctx context.Context, url string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer boss")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d", resp.StatusCode)
	}
	return io.Copy(io.Discard, resp.Body)
}

// peak is the most memory that was resident since it was reset, in KiB.
func peak(b *testing.B) int64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.ParseInt(string(regexp.MustCompile(`VmHWM:\s+(\d+)`).FindSubmatch(status)[1]), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
