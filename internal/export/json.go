package export

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"
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
		switch t := v.(type) {
		case time.Time:
			v = t.In(w.loc).Format(stamp)
		case time.Duration:
			v = t.Seconds()
		}
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("writing a cell: %w", err)
		}
		w.row = append(append(w.row, w.keys[i]...), text...)
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
