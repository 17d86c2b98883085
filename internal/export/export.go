// Package export writes tables of any length, row by row and in bounded memory,
// as CSV, NDJSON, JSON or XLSX.
//
//	w, err := export.New(out, export.CSV, []string{"phone", "status", "at"}, export.Options{})
//	if err != nil { ... }
//	defer w.Abort() // removes what is left behind; nothing after Close
//	for ... {
//		if err := w.Row(phone, status, at); err != nil { ... }
//	}
//	return w.Close()
//
// A cell is nil (empty), a string, bool, int, int64, float64, time.Time,
// time.Duration (written as seconds) or a pointer to one of them (nil is empty).
// Times are in Options.Location. Over REST, restapi.Download makes the whole answer
// of such a table: headers, deadlines, and a connection that is cut when the rows
// end in an error, so that half a table is not taken for a whole one.
//
// A spreadsheet takes a text that begins with = + - or @ (or a tab or a carriage
// return) for a formula, which may call out. Such texts get an apostrophe in front
// in CSV and XLSX. Phone numbers, "+" and 5 to 15 digits, stay as they are: as a
// formula they are a number, and what we export can be imported again. NDJSON and
// JSON are for programs and change nothing.
package export

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Format is how a table is written.
type Format string

// The formats.
const (
	CSV    Format = "csv"    // RFC 4180 with LF, UTF-8, a header row
	NDJSON Format = "ndjson" // an object a line
	JSON   Format = "json"   // {"items":[...]}
	XLSX   Format = "xlsx"   // an Excel workbook, further sheets after MaxSheetRows
)

// ContentType is the media type of the format.
func (f Format) ContentType() string {
	switch f {
	case CSV:
		return "text/csv; charset=utf-8; header=present"
	case NDJSON:
		return "application/x-ndjson"
	case XLSX:
		return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	default:
		return "application/json"
	}
}

// Options are of the formats they name; the zero value is good for all.
type Options struct {
	// Location is the time zone of times; nil is UTC. CSV, NDJSON and JSON have the
	// offset beside the time (RFC 3339), an XLSX cell holds the local time alone.
	Location *time.Location
	// Head are further members of a JSON's object, before the items: a struct or map,
	// or nil.
	Head any
	// BOM begins a CSV with a byte order mark, without which Excel reads UTF-8 as
	// something else.
	BOM bool
	// Comma separates the cells of a CSV; 0 is ','. Excel in countries with a decimal
	// comma wants ';'.
	Comma rune
	// Sheet names the sheet of an XLSX, at most 25 characters; empty is "Data". The
	// further ones get a number.
	Sheet string
	// Dir is where an XLSX keeps its sheets until it is written; empty is the
	// system's folder for temporary files. It takes some 35 bytes a cell beside its text.
	Dir string
	// sheetRows is MaxSheetRows in all but tests.
	sheetRows int
}

// Writer is a table that is being written. It is not for use by several
// goroutines at once.
type Writer interface {
	// Row writes a row with as many cells as there are columns.
	Row(cells ...any) error
	// Close ends the table. An XLSX is sent only here: its rows lie on disk until then.
	Close() error
	// Abort frees what the table holds, its temporary files too; after Close it does
	// nothing. What has been written stays, without an end.
	Abort()
}

// ErrFormat is an unknown format.
var ErrFormat = errors.New("format: use csv, ndjson, json or xlsx")

// New begins a table on out, which needs no buffer of its own.
func New(out io.Writer, f Format, columns []string, o Options) (Writer, error) {
	if len(columns) == 0 {
		return nil, errors.New("a table needs columns")
	}
	if o.Location == nil {
		o.Location = time.UTC
	}
	switch f {
	case CSV:
		return newCSV(out, columns, &o)
	case NDJSON:
		return newJSON(out, columns, &o, true)
	case JSON:
		return newJSON(out, columns, &o, false)
	case XLSX:
		return newXLSX(out, columns, &o)
	default:
		return nil, ErrFormat
	}
}

// plain takes pointers off a cell, and makes whole numbers int64.
func plain(cell any) (any, error) {
	switch v := cell.(type) {
	case nil, string, bool, int64, float64, time.Time, time.Duration:
		return cell, nil
	case int:
		return int64(v), nil
	case *string:
		return deref(v), nil
	case *bool:
		return deref(v), nil
	case *int64:
		return deref(v), nil
	case *float64:
		return deref(v), nil
	case *time.Time:
		return deref(v), nil
	case *time.Duration:
		return deref(v), nil
	default:
		return nil, fmt.Errorf("a cell can't be a %T", cell)
	}
}

func deref[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// Inert is a text as a spreadsheet may read it; see the package comment.
func Inert(s string) string {
	if s == "" || !strings.ContainsRune("=+-@\t\r", rune(s[0])) || isPhone(s) {
		return s
	}
	return "'" + s
}

func isPhone(s string) bool {
	if s[0] != '+' || len(s) < 6 || len(s) > 16 {
		return false
	}
	for _, c := range s[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

var errCells = errors.New("a row needs as many cells as there are columns")
