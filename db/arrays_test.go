package db_test

import (
	"log/slog"
	"math"
	"reflect"
	"strings"
	"testing"

	"switchboard/db"
	"switchboard/internal/dbtest"
)

// What is written as an array reads back as it was, nulls and edges included.
func TestArrays(t *testing.T) {
	t.Parallel()
	d, err := db.Open(t.Context(), db.Config{URL: dbtest.URLOf(t)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ids := []string{"0198aaaa-0000-7000-8000-000000000000", db.NewID(), strings.Repeat("f", 8) + "-ffff-ffff-ffff-ffffffffffff"}
	for _, c := range []struct {
		kind      string
		in, empty any
	}{
		{"text[]", []string{"", "a", `"q{,}\`, "приве́т 👩‍👩‍👧", strings.Repeat("x", 70_000)}, []string{}},
		{"uuid[]", ids, []string{}},
		{"bytea[]", [][]byte{{}, {0}, {0xff, 0xff, 0xff, 0xff}, nil, []byte("x")}, [][]byte{}},
		{"int[]", []int32{0, -1, math.MaxInt32, math.MinInt32}, []int32{}},
		{"bigint[]", []int64{0, -1, math.MaxInt64, math.MinInt64}, []int64{}},
	} {
		for _, in := range []any{c.in, c.empty} {
			out := reflect.New(reflect.TypeOf(in))
			if err := d.Pool().QueryRow(t.Context(), "select $1::"+c.kind, in).Scan(out.Interface()); err != nil {
				t.Errorf("%s: %v", c.kind, err)
			} else if !reflect.DeepEqual(out.Elem().Interface(), in) {
				t.Errorf("%s: %.100q came back as %.100q", c.kind, in, out.Elem().Interface())
			}
		}
		var null bool
		if err := d.Pool().QueryRow(t.Context(), "select $1::"+c.kind+" is null", reflect.Zero(reflect.TypeOf(c.in)).Interface()).Scan(&null); err != nil || !null {
			t.Errorf("%s: nil is null = %v, %v", c.kind, null, err)
		}
	}
}
