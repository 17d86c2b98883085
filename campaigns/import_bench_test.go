package campaigns_test

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard/campaigns"
	"switchboard/internal/dbtest"
)

// BenchmarkImport imports a million rows and copies the same file into a bare
// table, three times each in turn, and tells the ratio of the best ones.
func BenchmarkImport(b *testing.B) {
	const rows = 1000000
	body, err := io.ReadAll(table(rows))
	if err != nil {
		b.Fatal(err)
	}
	store := openDB(b)
	conn, err := pgx.Connect(context.Background(), dbtest.URLOf(b))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	ctx := context.Background()
	var bare, ours time.Duration
	for range b.N {
		for range 3 {
			if _, err := conn.Exec(ctx, "drop table if exists bare; create table bare (phone text, name text, city text, ord text)"); err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			if _, err := conn.PgConn().CopyFrom(ctx, bytes.NewReader(body), "copy bare from stdin (format csv, header)"); err != nil {
				b.Fatal(err)
			}
			if d := time.Since(began); bare == 0 || d < bare {
				bare = d
			}
			id, p := draft(b, store, "Hello {{name}}, your order {{order}} is here")
			runtime.GC()
			began = time.Now()
			got, err := importInto(b, store, id, p, campaigns.Source{Body: bytes.NewReader(body)})
			if err != nil || got.Accepted != rows {
				b.Fatal(got, err)
			}
			if d := time.Since(began); ours == 0 || d < ours {
				ours = d
			}
			b.Logf("bare %v, ours %v", bare, ours)
		}
	}
	b.ReportMetric(bare.Seconds(), "copy-s")
	b.ReportMetric(ours.Seconds(), "import-s")
	b.ReportMetric(bare.Seconds()/ours.Seconds(), "ratio")
}
