package export

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

type jsonWriter struct {
	buf   *bufio.Writer
	loc   *time.Location
	keys  [][]byte // each with what stands before it
	lines bool
	rows  int64
	row   []byte
}

func newJSON(out io.Writer, columns []string, o *Options, lines bool) (Writer, error) {
	w := &jsonWriter{buf: bufio.NewWriterSize(out, buffer), loc: o.Location, lines: lines}
	for i, c := range columns {
		key, err := json.Marshal(c)
		if err != nil {
			return nil, fmt.Errorf("writing a column's name: %w", err)
		}
		w.keys = append(w.keys, append(append([]byte{"{,"[min(i, 1)]}, key...), ':'))
	}
	if !lines {
		head := []byte("{")
		if o.Head != nil {
			text, err := json.Marshal(o.Head)
			if err != nil {
				return nil, fmt.Errorf("writing the head of a table: %w", err)
			}
			if head = text[:len(text)-1]; len(head) > 1 {
				head = append(head, ',')
			}
		}
		_, _ = w.buf.Write(append(head, `"items":[`...)) // a fault shows at the next write
	}
	return w, nil
}

// Row implements Writer.
func (w *jsonWriter) Row(cells ...any) error {
	if len(cells) != len(w.keys) {
		return errCells
	}
	w.row = w.row[:0]
	if !w.lines {
		if w.rows > 0 {
			w.row = append(w.row, ',')
		}
		w.row = append(w.row, '\n')
	}
	for i, c := range cells {
		v, err := plain(c)
		if err != nil {
			return err
		}
		w.row = append(w.row, w.keys[i]...)
		switch t := v.(type) {
		case nil:
			w.row = append(w.row, "null"...)
		case string:
			w.row = appendText(w.row, t)
		case bool:
			w.row = strconv.AppendBool(w.row, t)
		case int64:
			w.row = strconv.AppendInt(w.row, t, 10)
		case time.Time:
			w.row = append(t.In(w.loc).AppendFormat(append(w.row, '"'), stamp), '"')
		case time.Duration:
			w.row = strconv.AppendFloat(w.row, t.Seconds(), 'f', -1, 64)
		case float64:
			text, err := json.Marshal(t)
			if err != nil { // not a number
				return fmt.Errorf("writing a cell: %w", err)
			}
			w.row = append(w.row, text...)
		}
	}
	w.row = append(w.row, '}')
	if w.lines {
		w.row = append(w.row, '\n')
	}
	w.rows++
	_, err := w.buf.Write(w.row)
	return err
}

// Close implements Writer.
func (w *jsonWriter) Close() error {
	if !w.lines {
		_, _ = w.buf.WriteString("\n]}\n")
	}
	return w.buf.Flush()
}

// Abort implements Writer.
func (w *jsonWriter) Abort() {}

// appendText appends a string as JSON. Most need no escapes.
func appendText(row []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			text, _ := json.Marshal(s) // of a string there is no error
			return append(row, text...)
		}
	}
	return append(append(append(row, '"'), s...), '"')
}
