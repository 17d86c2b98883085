package export

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxSheetRows is how many rows a sheet of an XLSX has at most, the header
// included. A sheet also ends before its XML comes near 4 GiB, for which the
// format would need other records than every reader knows.
const (
	MaxSheetRows  = 1_048_576
	maxSheetBytes = 4_000_000_000
	maxCellUnits  = 32_767 // of UTF-16: longer texts are cut
)

// xlsxWriter writes a workbook from its first part to its last: the sheets are
// written as their rows come, and what lists them behind them. It holds a row, the
// compressor's window and a buffer, half a megabyte in all, and nothing on disk.
// (excelize keeps 16 to 32 MiB of a sheet in memory and the rest in a file.)
type xlsxWriter struct {
	out     *bufio.Writer
	zip     *zip.Writer
	o       *Options
	columns []string
	letters []string // of the columns: A, B, ... AA
	sheet   io.Writer
	sheets  int
	rows    int   // of this sheet
	bytes   int64 // of this sheet
	line    []byte
	text    bytes.Buffer
	err     error // the first; nothing is written after it
}

const (
	xmlHead = `<?xml version="1.0" encoding="UTF-8" standalone="yes"?>` + "\n"
	mainNS  = `xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"`
	relsNS  = `xmlns="http://schemas.openxmlformats.org/package/2006/relationships"`
	relsOf  = `http://schemas.openxmlformats.org/officeDocument/2006/relationships`

	// The styles: 0 is plain, 1 a time, 2 a header.
	xlsxStyles = xmlHead + `<styleSheet ` + mainNS + `><numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\-mm\-dd\ hh:mm:ss"/></numFmts>` +
		`<fonts count="2"><font><sz val="11"/><name val="Calibri"/><family val="2"/></font><font><b/><sz val="11"/><name val="Calibri"/><family val="2"/></font></fonts>` +
		`<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>` +
		`<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders><cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>` +
		`<cellXfs count="3"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/><xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>` +
		`<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/></cellXfs><cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>`
	xlsxRels = xmlHead + `<Relationships ` + relsNS + `><Relationship Id="rId1" Type="` + relsOf + `/officeDocument" Target="xl/workbook.xml"/></Relationships>`

	timeStyle   = 1
	headerStyle = 2
)

func newXLSX(out io.Writer, columns []string, o *Options) (Writer, error) {
	if o.Sheet == "" {
		o.Sheet = "Data"
	}
	if o.sheetRows == 0 {
		o.sheetRows = MaxSheetRows
	}
	w := &xlsxWriter{out: bufio.NewWriterSize(out, 64<<10), o: o, columns: columns}
	w.zip = zip.NewWriter(w.out)
	w.zip.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestSpeed) })
	for i := range columns {
		letters := ""
		for n := i + 1; n > 0; n = (n - 1) / 26 {
			letters = string(rune('A'+(n-1)%26)) + letters
		}
		w.letters = append(w.letters, letters)
	}
	w.part("_rels/.rels", xlsxRels)
	w.part("xl/styles.xml", xlsxStyles)
	w.begin()
	return w, w.err
}

// part writes a part that is known as a whole.
func (w *xlsxWriter) part(name, text string) {
	if w.create(name); w.err == nil {
		_, w.err = io.WriteString(w.sheet, text)
	}
}

func (w *xlsxWriter) create(name string) {
	if w.err == nil {
		w.sheet, w.err = w.zip.Create(name)
	}
}

// begin begins the next sheet.
func (w *xlsxWriter) begin() {
	w.sheets++
	w.create(fmt.Sprintf("xl/worksheets/sheet%d.xml", w.sheets))
	w.rows, w.bytes = 0, 0
	w.line = append(w.line[:0], xmlHead+`<worksheet `+mainNS+`><sheetViews><sheetView workbookViewId="0"`...)
	if w.sheets == 1 {
		w.line = append(w.line, ` tabSelected="1"`...)
	}
	w.line = append(w.line, `><pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews><cols><col min="1" max="`...)
	w.line = strconv.AppendInt(w.line, int64(len(w.columns)), 10)
	w.line = append(w.line, `" width="18" customWidth="1"/></cols><sheetData>`...)
	w.row()
	for i, c := range w.columns {
		w.words(i, Inert(c), headerStyle)
	}
	w.end()
}

// row begins a row in the line, and end ends and writes it.
func (w *xlsxWriter) row() {
	w.rows++
	w.line = append(w.line, `<row r="`...)
	w.line = strconv.AppendInt(w.line, int64(w.rows), 10)
	w.line = append(w.line, `">`...)
}

func (w *xlsxWriter) end() {
	w.line = append(w.line, `</row>`...)
	w.write()
}

func (w *xlsxWriter) write() {
	if w.err == nil {
		_, w.err = w.sheet.Write(w.line)
	}
	w.bytes += int64(len(w.line))
	w.line = w.line[:0]
}

// cell begins a cell of column i.
func (w *xlsxWriter) cell(i, style int, kind string) {
	w.line = append(append(w.line, `<c r="`...), w.letters[i]...)
	w.line = append(strconv.AppendInt(w.line, int64(w.rows), 10), '"')
	if style > 0 {
		w.line = append(w.line, ` s="`...)
		w.line = append(strconv.AppendInt(w.line, int64(style), 10), '"')
	}
	if kind != "" {
		w.line = append(append(append(w.line, ` t="`...), kind...), '"')
	}
	w.line = append(w.line, '>')
}

func (w *xlsxWriter) number(i, style int, f float64) {
	w.cell(i, style, "")
	w.line = strconv.AppendFloat(append(w.line, `<v>`...), f, 'g', -1, 64)
	w.line = append(w.line, `</v></c>`...)
}

// coded is what a text must not have that is none: XLSX writes characters so that
// XML has not.
var coded = regexp.MustCompile(`_x[0-9A-Fa-f]{4}_`)

func (w *xlsxWriter) words(i int, s string, style int) {
	w.cell(i, style, "inlineStr")
	w.line = append(w.line, `<is><t xml:space="preserve">`...)
	if s = cut(s); strings.Contains(s, "_x") {
		s = coded.ReplaceAllString(s, "_x005F$0")
	}
	w.text.Reset()
	_ = xml.EscapeText(&w.text, []byte(s)) // a buffer takes everything
	w.line = append(append(w.line, w.text.Bytes()...), `</t></is></c>`...)
}

// cut is as much of a text as a cell takes.
func cut(s string) string {
	if len(s) <= maxCellUnits {
		return s
	}
	units := 0
	for at, r := range s {
		n := max(utf16.RuneLen(r), 1)
		if r == utf8.RuneError {
			n = 1
		}
		if units += n; units > maxCellUnits {
			return s[:at]
		}
	}
	return s
}

// Row implements Writer.
func (w *xlsxWriter) Row(cells ...any) error {
	if len(cells) != len(w.columns) {
		return errCells
	}
	if w.err != nil {
		return fmt.Errorf("writing a row: %w", w.err)
	}
	if w.rows >= w.o.sheetRows || w.bytes > maxSheetBytes {
		w.finish()
		w.begin()
	}
	before := w.rows
	w.row()
	for i, c := range cells {
		v, err := plain(c)
		if err != nil {
			w.line, w.rows = w.line[:0], before
			return err
		}
		switch t := v.(type) {
		case nil:
		case string:
			if t != "" {
				w.words(i, Inert(t), 0)
			}
		case bool:
			w.cell(i, 0, "b")
			w.line = append(w.line, `<v>`...)
			if t {
				w.line = append(w.line, `1</v></c>`...)
			} else {
				w.line = append(w.line, `0</v></c>`...)
			}
		case int64:
			w.cell(i, 0, "")
			w.line = append(strconv.AppendInt(append(w.line, `<v>`...), t, 10), `</v></c>`...)
		case float64:
			if !math.IsNaN(t) && !math.IsInf(t, 0) { // which no cell can be
				w.number(i, 0, t)
			}
		case time.Time:
			w.number(i, timeStyle, serial(t.In(w.o.Location)))
		case time.Duration:
			w.number(i, 0, t.Seconds())
		}
	}
	w.end()
	if w.err != nil {
		return fmt.Errorf("writing a row: %w", w.err)
	}
	return nil
}

// finish ends a sheet.
func (w *xlsxWriter) finish() {
	w.line = append(w.line[:0], `</sheetData></worksheet>`...)
	w.write()
}

// serial is a local time as spreadsheets count: days since the end of 1899.
func serial(t time.Time) float64 {
	_, offset := t.Zone()
	return float64(t.UnixMilli()+int64(offset)*1000)/86_400_000 + 25569
}

// Close implements Writer.
func (w *xlsxWriter) Close() error {
	if w.err != nil {
		return fmt.Errorf("writing the workbook: %w", w.err)
	}
	w.finish()
	var book, rels, types bytes.Buffer
	book.WriteString(xmlHead + `<workbook ` + mainNS + ` xmlns:r="` + relsOf + `"><bookViews><workbookView/></bookViews><sheets>`)
	rels.WriteString(xmlHead + `<Relationships ` + relsNS + `>`)
	types.WriteString(xmlHead + `<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>` +
		`<Default Extension="xml" ContentType="application/xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>` +
		`<Override PartName="/xl/styles.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"/>`)
	for n := 1; n <= w.sheets; n++ {
		var name bytes.Buffer
		_ = xml.EscapeText(&name, []byte(w.o.Sheet))
		if n > 1 {
			fmt.Fprintf(&name, " %d", n)
		}
		fmt.Fprintf(&book, `<sheet name="%s" sheetId="%d" r:id="rId%d"/>`, &name, n, n)
		fmt.Fprintf(&rels, `<Relationship Id="rId%d" Type="%s/worksheet" Target="worksheets/sheet%d.xml"/>`, n, relsOf, n)
		fmt.Fprintf(&types, `<Override PartName="/xl/worksheets/sheet%d.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>`, n)
	}
	fmt.Fprintf(&rels, `<Relationship Id="rId%d" Type="%s/styles" Target="styles.xml"/></Relationships>`, w.sheets+1, relsOf)
	book.WriteString(`</sheets></workbook>`)
	types.WriteString(`</Types>`)
	w.part("xl/workbook.xml", book.String())
	w.part("xl/_rels/workbook.xml.rels", rels.String())
	w.part("[Content_Types].xml", types.String())
	if w.err == nil {
		w.err = w.zip.Close()
	}
	if w.err == nil {
		w.err = w.out.Flush()
	}
	if w.err != nil {
		return fmt.Errorf("writing the workbook: %w", w.err)
	}
	w.err = errClosed
	return nil
}

var errClosed = errors.New("the table is closed")

// Abort implements Writer.
func (w *xlsxWriter) Abort() {
	if w.err == nil {
		w.err = errClosed
	}
}
