package export

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"time"
)

// stamp is how times are written where they are text.
const stamp = "2006-01-02T15:04:05.000Z07:00"

// buffer is how much is written at once.
const buffer = 32 << 10

type csvWriter struct {
	buf   *bufio.Writer
	csv   *csv.Writer
	loc   *time.Location
	texts []string
}

func newCSV(out io.Writer, columns []string, o *Options) (Writer, error) {
	w := &csvWriter{buf: bufio.NewWriterSize(out, buffer), loc: o.Location, texts: make([]string, len(columns))}
	if o.BOM {
		_, _ = w.buf.WriteString("\uFEFF") // a fault shows at the next write
	}
	w.csv = csv.NewWriter(w.buf)
	if o.Comma != 0 {
		w.csv.Comma = o.Comma
	}
	for i, c := range columns {
		w.texts[i] = Inert(c)
	}
	if err := w.csv.Write(w.texts); err != nil {
		return nil, fmt.Errorf("writing the header of a CSV: %w", err)
	}
	return w, nil
}

// Row implements Writer.
func (w *csvWriter) Row(cells ...any) error {
	if len(cells) != len(w.texts) {
		return errCells
	}
	for i, c := range cells {
		v, err := plain(c)
		if err != nil {
			return err
		}
		switch v := v.(type) {
		case nil:
			w.texts[i] = ""
		case string:
			w.texts[i] = Inert(v)
		case bool:
			w.texts[i] = strconv.FormatBool(v)
		case int64:
			w.texts[i] = strconv.FormatInt(v, 10)
		case float64:
			w.texts[i] = strconv.FormatFloat(v, 'f', -1, 64)
		case time.Time:
			w.texts[i] = v.In(w.loc).Format(stamp)
		case time.Duration:
			w.texts[i] = strconv.FormatFloat(v.Seconds(), 'f', -1, 64)
		}
	}
	return w.csv.Write(w.texts)
}

// Close implements Writer.
func (w *csvWriter) Close() error {
	w.csv.Flush()
	return w.csv.Error() // Flush flushes the buffer below, because csv takes it for its own
}

// Abort implements Writer.
func (w *csvWriter) Abort() {}
