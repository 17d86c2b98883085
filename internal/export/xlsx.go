package export

import (
	"archive/zip"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/xuri/excelize/v2"
)

// MaxSheetRows is how many rows a sheet of an XLSX has at most, the header
// included. A sheet also ends before its XML comes near 4 GiB, for which the
// format would need other records than every reader knows.
const (
	MaxSheetRows  = 1_048_576
	maxSheetBytes = 4_000_000_000
)

// dirPattern names the folders of unfinished workbooks; staleAfter is when one is
// taken for what a killed process left behind, above the time that any export has.
const (
	dirPattern = "switchboard-export-"
	staleAfter = 6 * time.Hour
)

type xlsxWriter struct {
	out     io.Writer
	o       *Options
	columns []string
	dir     string
	file    *excelize.File
	sheet   *excelize.StreamWriter
	sheets  int
	rows    int   // of this sheet
	bytes   int64 // of this sheet, about
	date    int   // style of times
	bold    int   // style of the header
	cells   []any
}

func newXLSX(out io.Writer, columns []string, o *Options) (_ Writer, err error) {
	if o.Sheet == "" {
		o.Sheet = "Data"
	}
	if o.sheetRows == 0 {
		o.sheetRows = MaxSheetRows
	}
	sweep(o.Dir)
	w := &xlsxWriter{out: out, o: o, columns: columns, cells: make([]any, len(columns))}
	// A folder of its own, so that nothing can be left in it by mistake.
	if w.dir, err = os.MkdirTemp(o.Dir, dirPattern); err != nil {
		return nil, fmt.Errorf("making a folder for the sheets: %w", err)
	}
	defer func() {
		if err != nil {
			w.Abort()
		}
	}()
	w.file = excelize.NewFile(excelize.Options{TmpDir: w.dir})
	if w.date, err = w.file.NewStyle(&excelize.Style{CustomNumFmt: new("yyyy-mm-dd hh:mm:ss")}); err != nil {
		return nil, fmt.Errorf("making a style: %w", err)
	}
	if w.bold, err = w.file.NewStyle(&excelize.Style{Font: &excelize.Font{Bold: true}}); err != nil {
		return nil, fmt.Errorf("making a style: %w", err)
	}
	return w, w.begin()
}

// begin begins the next sheet.
func (w *xlsxWriter) begin() (err error) {
	if err := w.end(); err != nil {
		return err
	}
	w.sheets++
	name := w.o.Sheet
	if w.sheets == 1 {
		err = w.file.SetSheetName("Sheet1", name)
	} else {
		name += " " + strconv.Itoa(w.sheets)
		_, err = w.file.NewSheet(name)
	}
	if err == nil {
		w.sheet, err = w.file.NewStreamWriter(name)
	}
	if err == nil {
		err = w.sheet.SetPanes(&excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"})
	}
	if err == nil {
		err = w.sheet.SetColWidth(1, len(w.columns), 18)
	}
	if err != nil {
		return fmt.Errorf("beginning a sheet: %w", err)
	}
	w.rows, w.bytes = 0, 0
	for i, c := range w.columns {
		w.cells[i] = excelize.Cell{StyleID: w.bold, Value: Inert(c)}
	}
	return w.put()
}

func (w *xlsxWriter) put() error {
	w.rows++
	if err := w.sheet.SetRow("A"+strconv.Itoa(w.rows), w.cells); err != nil {
		return fmt.Errorf("writing a row: %w", err)
	}
	return nil
}

func (w *xlsxWriter) end() error {
	if w.sheet == nil {
		return nil
	}
	if err := w.sheet.Flush(); err != nil {
		return fmt.Errorf("ending a sheet: %w", err)
	}
	w.sheet = nil
	return nil
}

// Row implements Writer.
func (w *xlsxWriter) Row(cells ...any) error {
	if len(cells) != len(w.columns) {
		return errCells
	}
	if w.file == nil {
		return errClosed
	}
	if w.rows >= w.o.sheetRows || w.bytes > maxSheetBytes {
		if err := w.begin(); err != nil {
			return err
		}
	}
	for i, c := range cells {
		v, err := plain(c)
		if err != nil {
			return err
		}
		if v != nil {
			w.bytes += 64 // what is around the longest address and value
		}
		switch t := v.(type) {
		case string:
			w.bytes += escaped(t)
			v = Inert(t)
		case time.Time:
			v = excelize.Cell{StyleID: w.date, Value: serial(t.In(w.o.Location))}
		case time.Duration:
			v = t.Seconds()
		}
		w.cells[i] = v
	}
	return w.put()
}

// escaped is how long a text is in XML, at most.
func escaped(s string) int64 {
	n := len(s)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '<', c == '>', c == '&', c == '"', c == '\'':
			n += 4
		case c < ' ' && c != '\n':
			n += 6
		}
	}
	return int64(n)
}

// serial is a local time as spreadsheets count: days since the end of 1899.
func serial(t time.Time) float64 {
	_, offset := t.Zone()
	return float64(t.UnixMilli()+int64(offset)*1000)/86_400_000 + 25569
}

// Close implements Writer.
func (w *xlsxWriter) Close() error {
	if w.file == nil {
		return errClosed
	}
	defer w.Abort()
	if err := w.end(); err != nil {
		return err
	}
	// Given nothing else, it would make the whole workbook in memory.
	w.file.SetZipWriter(func(io.Writer) excelize.ZipWriter {
		z := zip.NewWriter(w.out)
		z.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestSpeed) })
		return z
	})
	if _, err := w.file.WriteTo(io.Discard); err != nil {
		return fmt.Errorf("writing the workbook: %w", err)
	}
	return nil
}

var errClosed = errors.New("the table is closed")

// Abort implements Writer.
func (w *xlsxWriter) Abort() {
	if w.file != nil {
		_ = w.file.Close() // closes and removes its files
		w.file, w.sheet = nil, nil
	}
	_ = os.RemoveAll(w.dir) // what cannot be removed now, sweep finds
}

// sweep removes what processes left behind that were killed.
func sweep(dir string) {
	if dir == "" {
		dir = os.TempDir()
	}
	left, _ := filepath.Glob(filepath.Join(dir, dirPattern+"*"))
	for _, d := range left {
		if info, err := os.Stat(d); err == nil && time.Since(info.ModTime()) > staleAfter {
			_ = os.RemoveAll(d)
		}
	}
}
