package campaigns

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"switchboard/channels"
)

// Bounds of what is read. They are for what a table of recipients never reaches.
const (
	maxRecord  = 64 << 10 // bytes of one row
	maxColumns = 200
)

// table reads rows one by one. A row's cells are good until the next one is read.
type table interface {
	// next reads a row. The error is io.EOF, a *rowError of a row that can't be
	// read (the next one can), or the body's own.
	next(*row) error
}

type row struct {
	line  int // of the file, from 1; where the row begins
	cells []cell
}

type cell struct {
	column *column
	value  []byte
}

// column is what a cell's name stands for.
type column struct {
	use  columnUse
	name string // of a variable, in lower case
	key  []byte // of a variable: name as a JSON string, with its colon
	seen bool   // a recipient has it
}

type columnUse int

const (
	useNone columnUse = iota // not a name that a text could have
	useVariable
	usePhone
	useCustomer
	useExternal
	useTimezone
)

var columnUses = map[string]columnUse{"phone": usePhone, "customer_id": useCustomer, "external_id": useExternal, "timezone": useTimezone}

func newColumn(name string) *column {
	name = strings.ToLower(strings.Join(strings.Fields(name), "_"))
	c := &column{use: columnUses[name], name: name}
	if c.use == useNone && isName(name) {
		c.use = useVariable
	}
	key, _ := json.Marshal(name)
	c.key = append(key, ':')
	return c
}

// rowError is why a row is left out.
type rowError struct {
	line   int
	reason string
}

func (e *rowError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.reason) }

// charset names how the text is written; the empty one finds out.
type charset string

const (
	anyCharset  charset = ""
	utf8Charset charset = "utf-8"
	cp1251      charset = "windows-1251"
	utf16le     charset = "utf-16le"
	utf16be     charset = "utf-16be"
)

func parseCharset(name string) (charset, error) {
	switch strings.ToLower(name) {
	case "":
		return anyCharset, nil
	case "utf-8", "utf8", "us-ascii":
		return utf8Charset, nil
	case "windows-1251", "cp1251":
		return cp1251, nil
	case "utf-16":
		return anyCharset, nil // with a byte order mark, or plain to see
	case "utf-16le":
		return utf16le, nil
	case "utf-16be":
		return utf16be, nil
	default:
		return "", invalid("charset %q; use utf-8, utf-16 or windows-1251, or leave it out", name)
	}
}

// lines reads text line by line as UTF-8.
type lines struct {
	in *bufio.Reader
	// charset is empty until the first byte beyond ASCII: a line that is UTF-8
	// decides for it, any other for windows-1251, unless most lines behind it are
	// UTF-8. Russian text in windows-1251 is never good UTF-8, whose bytes come in
	// pairs of a high and a low one.
	charset charset
	again   []byte // UTF-8 to be read once more, before in
	line    int    // the number of the last one
	long    []byte
	decoded []byte
}

var errLongLine = errors.New("line is too long")
var errNotText = errors.New("line is not UTF-8, as the others are")

func newLines(r io.Reader, cs charset) *lines {
	in := bufio.NewReaderSize(r, 256<<10)
	head, _ := in.Peek(512)
	if cs == anyCharset {
		switch {
		case bytes.HasPrefix(head, []byte{0xff, 0xfe}):
			cs = utf16le
		case bytes.HasPrefix(head, []byte{0xfe, 0xff}):
			cs = utf16be
		default:
			cs = byZeros(head)
		}
	}
	switch cs {
	case utf16le:
		in = bufio.NewReaderSize(transform.NewReader(in, unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder()), 256<<10)
		cs = utf8Charset
	case utf16be:
		in = bufio.NewReaderSize(transform.NewReader(in, unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewDecoder()), 256<<10)
		cs = utf8Charset
	}
	if bom, _ := in.Peek(3); bytes.Equal(bom, []byte("\uFEFF")) {
		_, _ = in.Discard(3)
		cs = utf8Charset
	}
	return &lines{in: in, charset: cs}
}

// byZeros tells UTF-16 without a mark by the zero halves of its Latin letters.
func byZeros(head []byte) charset {
	var zeros [2]int
	for i, b := range head {
		if b == 0 {
			zeros[i%2]++
		}
	}
	most := len(head) / 2 * 6 / 10
	switch {
	case len(head) < 4:
	case zeros[1] > most && zeros[0] == 0:
		return utf16le
	case zeros[0] > most && zeros[1] == 0:
		return utf16be
	}
	return anyCharset
}

// next is the next line with its end. It is good until the call after. errLongLine
// and errNotText leave the reader behind that line.
func (l *lines) next() ([]byte, error) {
	if len(l.again) > 0 {
		i := bytes.IndexByte(l.again, '\n')
		if i < 0 {
			i = len(l.again) - 1
		}
		line := l.again[:i+1]
		l.again = l.again[i+1:]
		l.line++
		return line, nil
	}
	line, err := l.raw()
	if len(line) == 0 && err != nil {
		return nil, err
	}
	l.line++
	if err != nil && err != io.EOF {
		return nil, err
	}
	return l.text(line)
}

func (l *lines) raw() ([]byte, error) {
	line, err := l.in.ReadSlice('\n')
	if err == nil && len(line) > maxRecord {
		return line, errLongLine
	}
	if err == bufio.ErrBufferFull {
		for err == bufio.ErrBufferFull {
			line, err = l.in.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		return []byte("…"), errLongLine
	}
	if err == io.EOF && len(line) > maxRecord {
		return line, errLongLine
	}
	return line, err
}

func (l *lines) text(line []byte) ([]byte, error) {
	if l.charset != cp1251 && utf8.Valid(line) {
		if l.charset == anyCharset && !ascii(line) {
			l.charset = utf8Charset
		}
		return line, nil
	}
	if l.charset == utf8Charset {
		return nil, errNotText
	}
	if l.charset == anyCharset {
		line = bytes.Clone(line) // looking ahead moves what the reader holds
		if l.aheadIsUTF8() {
			l.charset = utf8Charset
			return nil, errNotText
		}
		l.charset = cp1251
	}
	if ascii(line) {
		return line, nil
	}
	l.decoded = l.decoded[:0]
	for _, b := range line {
		l.decoded = utf8.AppendRune(l.decoded, charmap.Windows1251.DecodeByte(b))
	}
	return l.decoded, nil
}

// aheadIsUTF8 tells whether the next 64 KiB have more lines beyond ASCII that are
// UTF-8 than others: the line before them is a broken one then.
func (l *lines) aheadIsUTF8() bool {
	ahead, _ := l.in.Peek(64 << 10)
	if end := bytes.LastIndexByte(ahead, '\n'); end >= 0 {
		ahead = ahead[:end] // the last line may be cut
	}
	good, bad := 0, 0
	for line := range bytes.Lines(ahead) {
		switch {
		case ascii(line):
		case utf8.Valid(line):
			good++
		default:
			bad++
		}
	}
	return good > bad
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// csvTable reads RFC 4180, and what spreadsheets make of it.
type csvTable struct {
	lines   *lines
	comma   byte
	columns []*column
	// One record: the cells' bytes one after the other, and where each ends. Cells
	// without quotes lie in the line itself.
	buf   []byte
	ends  []int
	cells [][]byte
	raw   []byte // lines behind the record's first
}

// newCSV reads the header row. Errors are ErrInvalid, or the body's own.
func newCSV(r io.Reader, cs charset, comma byte) (*csvTable, error) {
	t := &csvTable{lines: newLines(r, cs), comma: comma}
	switch start, _ := t.lines.in.Peek(4); {
	case bytes.HasPrefix(start, []byte{0x1f, 0x8b}):
		return nil, invalid("the table is packed with gzip; say so with Content-Encoding: gzip")
	case bytes.HasPrefix(start, []byte("PK\x03\x04")):
		return nil, invalid("the table is a workbook or an archive; save it as CSV")
	}
	var head []byte
	for {
		line, err := t.lines.next()
		if err == io.EOF {
			return nil, invalid("the table is empty; its first row names the columns, like phone,name")
		}
		if errors.Is(err, errLongLine) || errors.Is(err, errNotText) {
			return nil, invalid("the first row, which names the columns, can't be read: %w", err)
		}
		if err != nil {
			return nil, err
		}
		head = bytes.TrimRight(line, "\r\n")
		if sep, ok := bytes.CutPrefix(head, []byte("sep=")); ok && len(sep) == 1 && t.comma == 0 { // Excel's own
			t.comma = sep[0]
			continue
		}
		if len(bytes.TrimSpace(head)) > 0 {
			break
		}
	}
	if bytes.IndexByte(head, '\r') >= 0 {
		return nil, invalid("the rows end in carriage returns alone; save the table with line feeds")
	}
	if t.comma == 0 {
		t.comma = delimiter(head)
	}
	if open, err := t.scan(head, false); open || err != nil {
		return nil, invalid("the first row, which names the columns, has a quote that is not closed")
	}
	t.slice()
	if len(t.cells) > maxColumns {
		return nil, invalid("the table has %d columns; use up to %d", len(t.cells), maxColumns)
	}
	seen := map[string]bool{}
	address := false
	for _, name := range t.cells {
		c := newColumn(string(name))
		if c.name != "" && seen[c.name] {
			return nil, invalid("two columns are called %q (upper and lower case are the same); give each a name of its own", shortened(c.name))
		}
		seen[c.name] = true
		address = address || c.use == usePhone || c.use == useCustomer || c.use == useExternal
		t.columns = append(t.columns, c)
	}
	if !address {
		names := make([]string, 0, 5)
		for _, c := range t.columns[:min(len(t.columns), 5)] {
			names = append(names, shortened(c.name))
		}
		return nil, invalid("no column is called phone, customer_id or external_id; the first row has %q", strings.Join(names, ", "))
	}
	return t, nil
}

// delimiter is the one that the header row has most of.
func delimiter(head []byte) byte {
	var counts [4]int
	const candidates = ",;\t|"
	quoted := false
	for _, b := range head {
		if b == '"' {
			quoted = !quoted
		}
		if i := strings.IndexByte(candidates, b); i >= 0 && !quoted {
			counts[i]++
		}
	}
	best := 0
	for i, n := range counts {
		if n > counts[best] {
			best = i
		}
	}
	return candidates[best]
}

var errBehindQuote = errors.New("text behind a closing quote; write a quote inside quotes twice")

// scan adds the cells of a line without its end to the record, or goes on with the
// quoted cell that is open. It reports whether one is open at its end.
func (t *csvTable) scan(line []byte, open bool) (bool, error) {
	if !open {
		t.buf, t.ends, t.cells = t.buf[:0], t.ends[:0], t.cells[:0]
	}
	for i := 0; ; {
		if !open && i < len(line) && line[i] == '"' {
			open = true
			i++
		}
		if open {
			for {
				q := bytes.IndexByte(line[i:], '"')
				if q < 0 {
					t.buf = append(append(t.buf, line[i:]...), '\n')
					return true, nil
				}
				t.buf = append(t.buf, line[i:i+q]...)
				i += q + 1
				if i < len(line) && line[i] == '"' {
					t.buf = append(t.buf, '"')
					i++
					continue
				}
				break
			}
			open = false
			for i < len(line) && line[i] == ' ' {
				i++
			}
			if i < len(line) && line[i] != t.comma {
				return false, errBehindQuote
			}
		} else {
			end := bytes.IndexByte(line[i:], t.comma)
			if end < 0 {
				end = len(line) - i
			}
			t.buf = append(t.buf, line[i:i+end]...)
			i += end
		}
		t.ends = append(t.ends, len(t.buf))
		if i >= len(line) {
			return false, nil
		}
		if i++; len(t.ends) > 2*maxColumns {
			return false, fmt.Errorf("more than %d cells", 2*maxColumns)
		}
	}
}

func (t *csvTable) slice() {
	start := 0
	t.cells = t.cells[:0]
	for _, end := range t.ends {
		t.cells = append(t.cells, t.buf[start:end])
		start = end
	}
}

// split is scan and slice for a line without quotes.
func (t *csvTable) split(line []byte) {
	t.cells = t.cells[:0]
	for len(t.cells) <= 2*maxColumns {
		i := bytes.IndexByte(line, t.comma)
		if i < 0 {
			break
		}
		t.cells = append(t.cells, line[:i])
		line = line[i+1:]
	}
	t.cells = append(t.cells, line)
}

// next implements table. Rows without any text are passed over.
func (t *csvTable) next(r *row) error {
	for {
		line, err := t.lines.next()
		r.line = t.lines.line
		if errors.Is(err, errLongLine) || errors.Is(err, errNotText) {
			return &rowError{r.line, reasonOf(err)}
		}
		if err != nil {
			return err
		}
		line = withoutEnd(line)
		if bytes.IndexByte(line, '"') < 0 {
			t.split(line)
		} else if err := t.quoted(line); err != nil {
			return err
		}
		if !blank(t.cells) {
			break
		}
	}
	for i := len(t.columns); i < len(t.cells); i++ {
		if len(t.cells[i]) > 0 {
			return &rowError{r.line, fmt.Sprintf("the row has more cells than the %d columns that the first row names", len(t.columns))}
		}
	}
	if len(t.cells) < len(t.columns) {
		return &rowError{r.line, fmt.Sprintf("the row has %d cells; the first row names %d columns", len(t.cells), len(t.columns))}
	}
	if cap(r.cells) < len(t.columns) {
		r.cells = make([]cell, len(t.columns))
	}
	r.cells = r.cells[:len(t.columns)]
	for i, c := range t.columns {
		r.cells[i] = cell{c, t.cells[i]}
	}
	return nil
}

func withoutEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}

func blank(cells [][]byte) bool {
	for _, c := range cells {
		if len(bytes.TrimSpace(c)) > 0 {
			return false
		}
	}
	return true
}

// quoted reads a record with quotes, over several lines if need be. One that has
// no end is left out by its first line alone: the others are read as rows.
func (t *csvTable) quoted(first []byte) error {
	start := t.lines.line
	t.raw = t.raw[:0]
	open, err := t.scan(first, false)
	for open && err == nil {
		var line []byte
		line, err = t.lines.next()
		if err == io.EOF {
			err = errors.New("a quote opens here and is not closed")
			break
		}
		if errors.Is(err, errLongLine) || errors.Is(err, errNotText) {
			// That line is lost, but for its number; those before it are read again.
			t.raw = append(t.raw, "\x00\n"...)
			err = errors.New("a quote opens here and is not closed before a line that can't be read")
			break
		}
		if err != nil {
			return err
		}
		t.raw = append(t.raw, line...)
		if len(t.raw)+len(first) > maxRecord {
			err = fmt.Errorf("a quote opens here and is not closed within %d KiB", maxRecord>>10)
			break
		}
		if open, err = t.scan(withoutEnd(line), true); err != nil {
			err = errors.New("a quote opens here, and the next one is inside a cell of a later line; write a quote inside quotes twice")
		}
	}
	if err != nil {
		t.lines.again = append(bytes.Clone(t.raw), t.lines.again...)
		t.lines.line = start
		return &rowError{start, err.Error()}
	}
	t.slice()
	return nil
}

func reasonOf(err error) string {
	if errors.Is(err, errLongLine) {
		return fmt.Sprintf("the row is longer than %d KiB", maxRecord>>10)
	}
	return err.Error()
}

// ndjsonTable reads an object a line.
type ndjsonTable struct {
	lines   *lines
	columns map[string]*column // by name as written
	buf     []byte
}

func newNDJSON(r io.Reader, cs charset) *ndjsonTable {
	return &ndjsonTable{lines: newLines(r, cs), columns: map[string]*column{}}
}

// next implements table.
func (t *ndjsonTable) next(r *row) error {
	var line []byte
	for {
		var err error
		line, err = t.lines.next()
		r.line = t.lines.line
		if errors.Is(err, errLongLine) || errors.Is(err, errNotText) {
			return &rowError{r.line, reasonOf(err)}
		}
		if err != nil {
			return err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			break
		}
	}
	if channels.CheckObject(line) != nil {
		return &rowError{r.line, `the line is not one JSON object like {"phone":"+79001234567","name":"Ann"}`}
	}
	r.cells, t.buf = r.cells[:0], t.buf[:0]
	reason := ""
	channels.Fields(line, func(name, value []byte) {
		if reason != "" {
			return
		}
		if len(r.cells) == maxColumns {
			reason = fmt.Sprintf("the object has more than %d members", maxColumns)
			return
		}
		var text []byte
		switch value[0] {
		case '"':
			if text = value[1 : len(value)-1]; bytes.IndexByte(text, '\\') >= 0 {
				var s string
				if err := json.Unmarshal(value, &s); err != nil {
					reason = "a member of the object is no text"
					return
				}
				start := len(t.buf)
				t.buf = append(t.buf, s...)
				text = t.buf[start:]
			}
		case '{', '[':
			reason = fmt.Sprintf("%s is an object or a list; use texts, numbers, true or false", shortened(string(name)))
			return
		case 'n': // null
		default:
			text = value
		}
		c := t.column(name)
		for _, other := range r.cells {
			if other.column.name == c.name && c.name != "" {
				reason = fmt.Sprintf("%s is there twice", shortened(c.name))
				return
			}
		}
		r.cells = append(r.cells, cell{c, text})
	})
	if reason != "" {
		return &rowError{r.line, reason}
	}
	return nil
}

func (t *ndjsonTable) column(name []byte) *column {
	if c := t.columns[string(name)]; c != nil {
		return c
	}
	text := string(name)
	if strings.ContainsRune(text, '\\') {
		_ = json.Unmarshal([]byte(`"`+text+`"`), &text)
	}
	c := newColumn(text)
	if len(t.columns) < 10*maxColumns { // names are few, or somebody plays
		t.columns[string(name)] = c
	}
	return c
}
