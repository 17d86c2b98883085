package export

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"
)

var columns = []string{"text", "phone", "n", "f", "yes", "at", "took"}

// row is one of each kind; the text is what spreadsheets must not run.
func row(text string) []any {
	var none *time.Duration
	return []any{text, "+79261234567", 7, 0.25, true, time.Date(2026, 3, 29, 1, 30, 0, 500e6, time.UTC), none}
}

func write(t *testing.T, f Format, o Options, rows ...[]any) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := New(&out, f, columns, o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, r := range rows {
		if err := w.Row(r...); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func berlin(t *testing.T) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func TestInert(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "hello": "hello", "=1+1": "'=1+1", "+1+cmd|' /C calc'!A0": "'+1+cmd|' /C calc'!A0", "-2+3": "'-2+3", "@SUM(A1)": "'@SUM(A1)",
		"\t=1": "'\t=1", "\r=1": "'\r=1", "+79261234567": "+79261234567", "+1234": "'+1234", "+792612345678901234": "'+792612345678901234", "a=1": "a=1",
	} {
		if got := Inert(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestCSV(t *testing.T) {
	t.Parallel()
	got := string(write(t, CSV, Options{Location: berlin(t)}, row(`=HYPERLINK("http://x")`), row("two\nlines, \"quoted\"")))
	want := "text,phone,n,f,yes,at,took\n" +
		`"'=HYPERLINK(""http://x"")",+79261234567,7,0.25,true,2026-03-29T03:30:00.500+02:00,` + "\n" +
		`"two` + "\n" + `lines, ""quoted""",+79261234567,7,0.25,true,2026-03-29T03:30:00.500+02:00,` + "\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got = string(write(t, CSV, Options{BOM: true, Comma: ';'}, row("é")))
	if !strings.HasPrefix(got, "\xEF\xBB\xBFtext;phone;") || !strings.Contains(got, "\né;+79261234567;7;") {
		t.Errorf("with BOM and ';': %q", got)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	want := map[string]any{"text": "=1", "phone": "+79261234567", "n": 7.0, "f": 0.25, "yes": true, "at": "2026-03-29T01:30:00.500Z", "took": nil}
	lines := bytes.Split(bytes.TrimSpace(write(t, NDJSON, Options{}, row("=1"), row("=1"))), []byte("\n"))
	var whole struct{ Items []map[string]any }
	if err := json.Unmarshal(write(t, JSON, Options{}, row("=1"), row("=1")), &whole); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 2 || len(whole.Items) != 2 {
		t.Fatalf("%d lines, %d items; want 2 of each", len(lines), len(whole.Items))
	}
	for i, line := range lines {
		var got map[string]any
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(whole.Items[i], want) {
			t.Errorf("line %v, item %v, want %v", got, whole.Items[i], want)
		}
	}
	if got := string(write(t, JSON, Options{})); strings.Join(strings.Fields(got), "") != `{"items":[]}` {
		t.Errorf("no rows: %s", got)
	}
}

func TestXLSX(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var rows [][]any
	for i := range 7 {
		rows = append(rows, row(fmt.Sprint("=row ", i)))
	}
	book, err := excelize.OpenReader(bytes.NewReader(write(t, XLSX, Options{Location: berlin(t), Sheet: "Messages", Dir: dir, sheetRows: 4}, rows...)))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	if got := book.GetSheetList(); !reflect.DeepEqual(got, []string{"Messages", "Messages 2", "Messages 3"}) {
		t.Fatalf("sheets %q", got)
	}
	n := 0
	for _, sheet := range book.GetSheetList() {
		cells, err := book.GetRows(sheet)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(cells[0], columns) {
			t.Errorf("%s begins with %q", sheet, cells[0])
		}
		for _, c := range cells[1:] {
			if want := []string{fmt.Sprint("'=row ", n), "+79261234567", "7", "0.25", "TRUE", "2026-03-29 03:30:01"}; !reflect.DeepEqual(c, want) && c[5] != "2026-03-29 03:30:00" {
				t.Errorf("%s has %q, want %q", sheet, c, want)
			}
			n++
		}
	}
	if n != len(rows) {
		t.Errorf("%d rows, want %d", n, len(rows))
	}
	empty(t, dir)
}

func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// long is a cell of which a few hundred rows go to disk.
var long = strings.Repeat("x", 30_000)

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }

// Nothing stays on disk of a table that is given up, nor of one whose reader goes.
func TestXLSXCleansUp(t *testing.T) {
	t.Parallel()
	for _, ending := range []string{"aborted", "reader gone", "closed"} {
		dir := t.TempDir()
		var out io.Writer = io.Discard
		if ending == "reader gone" {
			out = broken{}
		}
		w, err := New(out, XLSX, columns, Options{Dir: dir, sheetRows: 600})
		if err != nil {
			t.Fatal(err)
		}
		for range 650 {
			if err := w.Row(row(long)...); err != nil {
				t.Fatal(err)
			}
		}
		if spilled, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(spilled) == 0 {
			t.Error("nothing went to disk; the test shows nothing")
		}
		if ending != "aborted" {
			if err := w.Close(); (err != nil) != (ending == "reader gone") {
				t.Errorf("%s: %v", ending, err)
			}
		}
		w.Abort()
		empty(t, dir)
		if err := w.Row(row("")...); err == nil {
			t.Errorf("%s: still takes rows", ending)
		}
	}
	// What a killed process left is removed by the next; what is being written stays.
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{dirPattern + "old": 7 * time.Hour, dirPattern + "new": time.Hour, "other": 7 * time.Hour} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, XLSX, Options{Dir: dir})
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if want := []string{filepath.Join(dir, "other"), filepath.Join(dir, dirPattern+"new")}; !reflect.DeepEqual(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	if _, err := New(io.Discard, "pdf", columns, Options{}); !errors.Is(err, ErrFormat) {
		t.Errorf("pdf: %v", err)
	}
	if _, err := New(io.Discard, CSV, nil, Options{}); err == nil {
		t.Error("no columns were taken")
	}
	for _, f := range []Format{CSV, NDJSON, JSON, XLSX} {
		w, err := New(io.Discard, f, columns, Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		if err := w.Row("one"); err == nil {
			t.Errorf("%s: a short row was taken", f)
		}
		if err := w.Row(row("")[:6]...); err == nil {
			t.Errorf("%s: a short row was taken", f)
		}
		if err := w.Row("", "", 1, 1.0, true, time.Now(), struct{}{}); err == nil {
			t.Errorf("%s: a struct was taken", f)
		}
		if len(f.ContentType()) == 0 {
			t.Errorf("%s has no media type", f)
		}
	}
}

// A table of many rows is not in memory.
func TestMemory(t *testing.T) { // by itself: it looks at the process' memory
	for _, f := range []Format{CSV, XLSX} {
		rows := 16_000
		var before runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		w, err := New(io.Discard, f, columns, Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		var most uint64
		text := strings.Repeat("text ", 800)
		for i := range rows {
			if err := w.Row(row(text)...); err != nil {
				t.Fatal(err)
			}
			if i%4_000 == 3_999 {
				var now runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc-min(now.HeapAlloc, before.HeapAlloc))
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if grown := most >> 20; grown > 50 { // 64 MB of text
			t.Errorf("%s: %d rows took %d MiB of heap", f, rows, grown)
		}
	}
}

// The bytes of a sheet are not taken for fewer than they are, nor for many more:
// a sheet must not end before it is full.
func TestSheetBytes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made, err := New(io.Discard, XLSX, columns, Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer made.Abort()
	w := made.(*xlsxWriter)
	text := strings.Repeat("a text, <b>quoted</b> & \"escaped\"\n", 80)
	for range 8_000 {
		if err := w.Row(row(text)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if real := info.Size(); w.bytes < real || w.bytes > real*3/2 {
		t.Errorf("%d bytes are taken for %d", real, w.bytes)
	}
}

// The workbook's parts are complete and in order for strict readers.
func TestXLSXParts(t *testing.T) {
	t.Parallel()
	text := write(t, XLSX, Options{Dir: t.TempDir()}, row("x"))
	z, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range z.File {
		have[f.Name] = true
	}
	for _, want := range []string{"[Content_Types].xml", "_rels/.rels", "xl/workbook.xml", "xl/worksheets/sheet1.xml", "xl/styles.xml"} {
		if !have[want] {
			t.Errorf("no %s among %v", want, have)
		}
	}
	if _, err := csv.NewReader(bytes.NewReader(write(t, CSV, Options{}, row("x")))).ReadAll(); err != nil {
		t.Error(err)
	}
}
