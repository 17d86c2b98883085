package campaigns

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

// Import is a campaign's recipients being added, with the campaign kept from
// starting and other imports kept waiting.
type Import interface {
	// Known calls each with every recipient that there is already.
	Known(ctx context.Context, each func(kind int16, address []byte)) error
	// Add stores a piece and tells the audit journal, all of it or nothing.
	Add(ctx context.Context, piece *queue.Recipients) error
	Close()
}

// Imported is what became of an import.
type Imported struct {
	Accepted   int64         `json:"accepted" doc:"rows that are recipients now"`
	Rejected   int64         `json:"rejected" doc:"rows that were left out"`
	Duplicates int64         `json:"duplicates" doc:"rows whose recipient the campaign had already"`
	Errors     []ImportError `json:"errors" nullable:"false" doc:"why rows were left out; the first 1000"`
}

// ImportError is why a row was left out.
type ImportError struct {
	Line   int    `json:"line" doc:"of the file, from 1"`
	Reason string `json:"reason"`
}

const (
	maxErrors = 1000
	// pieceRows and pieceBytes bound what is stored at once. Three pieces exist at
	// most: one being filled, one waiting and one being stored.
	pieceRows  = 10000
	pieceBytes = 4 << 20
	// maxUnpacked is how much a body may unpack to.
	maxUnpacked = 64 << 30
	// maxRatio is how many bytes one byte of a packed body may become, from the
	// first MiB on. Tables of phones come to 3 to 10; the most there is, to 1000.
	maxRatio   = 200
	maxAddress = 255
	maxVars    = 16 << 10 // bytes of one recipient's variables
)

// Source is a body with recipients and what is said about it.
type Source struct {
	Body    io.Reader
	NDJSON  bool
	Charset string // "" finds out
	Gzip    bool
	Comma   byte   // 0 finds out
	Region  string // of national phone numbers
}

// errBody marks errors of reading a body, as opposed to those of storing it.
var errBody = errors.New("reading the recipients")

// Add reads recipients from src and adds them to a campaign. What was added before
// an error stays; to send the same again is harmless, because recipients that are
// there count as duplicates. The time is that of one core for parsing while
// another stores.
func (p *Program) Add(ctx context.Context, im Import, accounts Accounts, src Source) (Imported, error) {
	r, err := p.newReader(ctx, accounts, src)
	if err != nil {
		return Imported{}, err
	}
	if err := im.Known(ctx, func(kind int16, address []byte) { r.seen.add(r.key(kind, address)) }); err != nil {
		return Imported{}, err
	}
	full, empty := make(chan *piece, 1), make(chan *piece, 3)
	for range cap(empty) {
		empty <- &piece{Recipients: queue.Recipients{List: make([]queue.Recipient, 0, pieceRows)}}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(full)
		return r.run(ctx, full, empty)
	})
	stored := Imported{Errors: []ImportError{}}
	g.Go(func() error {
		for pc := range full {
			if err := im.Add(ctx, &pc.Recipients); err != nil {
				return err
			}
			stored.Accepted += int64(len(pc.List))
			stored.Rejected += pc.Rejected
			stored.Duplicates += pc.Duplicates
			pc.reset()
			empty <- pc
		}
		return nil
	})
	err = g.Wait()
	stored.Errors = append(stored.Errors, r.errors...)
	return stored, err
}

// piece is a queue.Recipients whose texts lie in one buffer.
type piece struct {
	queue.Recipients
	buf []byte
}

func (p *piece) reset() {
	p.Recipients, p.buf = queue.Recipients{List: p.List[:0]}, p.buf[:0]
}

// keep copies b into the piece's buffer. A buffer that grows leaves the texts that
// were kept before where they are.
func (p *piece) keep(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if len(p.buf)+len(b) > cap(p.buf) {
		p.buf = make([]byte, 0, max(1<<20, len(b)))
	}
	start := len(p.buf)
	p.buf = append(p.buf, b...)
	return p.buf[start:len(p.buf):len(p.buf)]
}

// reader makes recipients of rows.
type reader struct {
	table  table
	phones *Phones
	checks []check
	needs  []string // variables that every recipient must have
	seed   maphash.Seed
	seen   keySet // 64 bits of every recipient
	zones  map[string]bool
	hosts  []*channels.Opened // accounts whose ids an external_id may be
	errors []ImportError
	vars   []byte
	number []byte
	values map[string]string // of the row, when it is checked in full
	hours  *Program          // whose hours make a difference; nil when none do
	clocks zones
	now    time.Time
}

func (p *Program) newReader(ctx context.Context, accounts Accounts, src Source) (*reader, error) {
	r := &reader{seed: maphash.MakeSeed(), zones: map[string]bool{}, needs: p.Variables, values: map[string]string{}}
	if p.restricted() {
		r.hours, r.now = p, time.Now()
	}
	var err error
	if r.phones, err = NewPhones(src.Region); err != nil {
		return nil, err
	}
	cs, err := parseCharset(src.Charset)
	if err != nil {
		return nil, err
	}
	for i := range p.Steps {
		opened, err := p.Steps[i].Accounts(ctx, accounts)
		if err != nil {
			return nil, err
		}
		r.hosts = append(r.hosts, opened...)
		for _, a := range opened {
			if c := newCheck(i, &p.Steps[i], a); c != nil {
				r.checks = append(r.checks, *c)
			}
		}
	}
	body := src.Body
	if src.Gzip {
		packed := &counter{Reader: body}
		unpacked, err := gzip.NewReader(packed)
		if err != nil {
			return nil, fmt.Errorf("%w: the body is not gzip, as its Content-Encoding says: %s", errBody, err)
		}
		body = &bounded{Reader: unpacked, packed: packed}
	}
	body = &failing{body}
	if src.NDJSON {
		r.table = newNDJSON(body, cs)
		return r, nil
	}
	r.table, err = newCSV(body, cs, src.Comma)
	return r, err
}

// counter counts what is read.
type counter struct {
	io.Reader
	n int64
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// bounded ends a packed body that becomes too large.
type bounded struct {
	io.Reader
	packed *counter
	n      int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.n += int64(n)
	if b.n > maxUnpacked || (b.n > 1<<20 && b.n > maxRatio*b.packed.n) {
		return n, fmt.Errorf("the body unpacks to more than %d times its size; send it as it is", maxRatio)
	}
	return n, err
}

// failing marks the body's errors.
type failing struct{ io.Reader }

// Read implements io.Reader.
func (f *failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", errBody, err)
	}
	return n, err
}

func (r *reader) run(ctx context.Context, full chan<- *piece, empty <-chan *piece) error {
	var current row
	var pc *piece
	flush := func() error {
		select {
		case full <- pc:
			pc = nil
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	size := 0
	for {
		if pc == nil {
			select {
			case pc = <-empty:
				size = 0
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := r.table.next(&current)
		if bad, ok := errors.AsType[*rowError](err); ok {
			r.reject(pc, bad.line, bad.reason)
			continue
		}
		if err == io.EOF {
			return flush()
		}
		if err != nil {
			return err
		}
		size += r.take(pc, &current)
		if len(pc.List) == pieceRows || size > pieceBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

func (r *reader) reject(pc *piece, line int, reason string) {
	pc.Rejected++
	if len(r.errors) < maxErrors {
		r.errors = append(r.errors, ImportError{line, reason})
	}
}

// take adds a row to a piece, and tells how many bytes it has there.
func (r *reader) take(pc *piece, row *row) int {
	rec, reason := r.recipient(row)
	if reason != "" {
		r.reject(pc, row.line, reason)
		return 0
	}
	if !r.seen.add(r.key(rec.Kind, rec.Address)) {
		pc.Duplicates++
		return 0
	}
	for i := range row.cells {
		if c := row.cells[i].column; !c.seen && c.use != useNone && c.use != useTimezone && len(row.cells[i].value) > 0 {
			c.seen = true
			if c.use == useVariable {
				pc.Variables = append(pc.Variables, c.name)
			}
		}
	}
	rec.Address, rec.Timezone, rec.Vars = pc.keep(rec.Address), pc.keep(rec.Timezone), pc.keep(rec.Vars)
	pc.List = append(pc.List, rec)
	r.clock(pc, &rec)
	return len(rec.Address) + len(rec.Timezone) + len(rec.Vars)
}

// clock counts a recipient by the clock that they live by: 0.4 s for a million.
func (r *reader) clock(pc *piece, rec *queue.Recipient) {
	if r.hours == nil {
		return
	}
	to := queue.CampaignRecipient{Kind: int(rec.Kind), Timezone: string(rec.Timezone)}
	if to.Timezone == "" {
		to.Address = string(rec.Address)
	}
	name := ""
	if at := r.clocks.of(&to, r.hours.Zone, r.now); at != r.hours.Zone {
		name = at.String()
	}
	if pc.Zones == nil {
		pc.Zones = map[string]int64{}
	}
	pc.Zones[name]++
}

// recipient reads a row. Its texts are good until the next one.
func (r *reader) recipient(row *row) (rec queue.Recipient, reason string) {
	var phone, customer, external []byte
	for i := range row.cells {
		c := &row.cells[i]
		if c.value = bytes.TrimSpace(c.value); len(c.value) == 0 {
			continue
		}
		if bytes.IndexByte(c.value, 0) >= 0 {
			return rec, "the row has a zero byte in it, which no text has"
		}
		switch c.column.use {
		case usePhone:
			phone = c.value
		case useCustomer:
			customer = c.value
		case useExternal:
			external = c.value
		case useTimezone:
			rec.Timezone = c.value
		}
	}
	used := useNone
	switch {
	case len(customer) > 0:
		id, err := uuid.ParseBytes(customer)
		if err != nil {
			return rec, "customer_id is no UUID"
		}
		used, rec.Kind, rec.Address = useCustomer, queue.ByCustomer, []byte(id.String())
	case len(external) > 0:
		if used, rec.Kind, rec.Address = useExternal, queue.ByExternalID, external; len(external) > maxAddress {
			return rec, fmt.Sprintf("external_id is longer than %d bytes", maxAddress)
		}
		if reason := r.host(external); reason != "" {
			return rec, reason
		}
	case len(phone) > 0:
		if used, rec.Kind = usePhone, queue.ByPhone; r.phones.plain(phone) {
			if rec.Address = phone; phone[0] != '+' {
				r.number = append(append(r.number[:0], '+'), phone...)
				rec.Address = r.number
			}
			break
		}
		number, err := r.phones.E164(string(phone))
		if errors.Is(err, errNoCountry) {
			return rec, err.Error() + ", or name the country of national numbers with ?region=RU"
		}
		if err != nil {
			return rec, err.Error()
		}
		rec.Address = []byte(number)
	default:
		return rec, "the row has no phone, customer_id or external_id"
	}
	if len(rec.Timezone) > 0 && !r.zone(rec.Timezone) {
		return rec, fmt.Sprintf("timezone %q is none of the IANA's, like Europe/Moscow", shortened(string(rec.Timezone)))
	}
	// Of several addresses the others are variables.
	r.vars = append(r.vars[:0], '{')
	size := 0
	for i := range row.cells {
		c := &row.cells[i]
		if len(c.value) == 0 || c.column.use == useNone || c.column.use == useTimezone || c.column.use == used {
			continue
		}
		if len(r.vars) > 1 {
			r.vars = append(r.vars, ',')
		}
		r.vars = append(r.vars, c.column.key...)
		r.vars = appendJSON(r.vars, c.value)
		size += len(c.value)
	}
	if len(r.vars) > maxVars {
		return rec, fmt.Sprintf("the row's variables have more than %d KiB", maxVars>>10)
	}
	if len(r.vars) > 1 {
		r.vars = append(r.vars, '}')
		rec.Vars = r.vars
	}
	return rec, r.fits(row, size)
}

// host says why no account of the campaign can have the id.
func (r *reader) host(external []byte) (reason string) {
	for _, a := range r.hosts {
		err := a.CheckChat(string(external))
		if err == nil {
			return ""
		}
		reason = "external_id: " + detail(err)
	}
	return reason
}

func (r *reader) zone(name []byte) bool {
	ok, known := r.zones[string(name)]
	if !known {
		_, err := zone(string(name))
		ok = err == nil
		if len(r.zones) < 2000 { // there are some 600; the rest is noise
			r.zones[string(name)] = ok
		}
	}
	return ok
}

// key is a recipient's in seen. Phones, and numbers of up to 18 digits, are in it
// whole. Of others there is a hash of 62 bits with a seed of this import's own:
// among a million of them two different ones meet once in ten million imports.
func (r *reader) key(kind int16, address []byte) uint64 {
	const number, text = 0, 1 << 63
	digits := address
	if kind == queue.ByPhone && len(address) > 0 {
		digits = address[1:]
	}
	n := uint64(0)
	if kind != queue.ByCustomer && len(digits) > 0 && len(digits) <= 18 && digits[0] != '0' {
		for _, d := range digits {
			if d < '0' || d > '9' {
				n = 0
				break
			}
			n = n*10 + uint64(d-'0')
		}
	}
	if n > 0 {
		return number | uint64(kind&1)<<62 | n
	}
	return text | uint64(kind&1)<<62 | maphash.Bytes(r.seed, address)>>2
}

// appendJSON appends text as a JSON string.
func appendJSON(b, text []byte) []byte {
	b = append(b, '"')
	start := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, text[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		default:
			const hex = "0123456789abcdef"
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		start = i + 1
	}
	return append(append(b, text[start:]...), '"')
}

// check is what a recipient's texts must fit, over one account at one step.
type check struct {
	step    *ProgramStep
	at      string
	account *channels.Opened
	// room is how many bytes all variables together may have so that no text can
	// be too long; -1 when that has to be tried.
	room int
}

// newCheck is nil when nothing depends on the variables.
func newCheck(i int, s *ProgramStep, a *channels.Opened) *check {
	if len(s.content.fields) == 0 {
		return nil
	}
	c := &check{step: s, at: "steps[" + strconv.Itoa(i) + "]", account: a, room: math.MaxInt}
	for _, f := range s.content.fields {
		switch {
		case f.parameter: // no channel has a limit of them that short values reach
			c.room = min(c.room, shortValues+maxAddress)
		case f.body:
			limit := a.Capabilities.Text.Max * max(1, a.Capabilities.MaxParts)
			uses, literal := 0, 0
			for _, p := range f.text.parts {
				if p.name != "" {
					uses++
				}
				literal += len(p.literal) + len(p.fallback)
			}
			if limit > 0 { // a variable may be there several times
				c.room = min(c.room, (limit-literal)/max(1, uses))
			}
			// A text may not be blank, which it could be without anything of its own.
			if strings.TrimSpace(f.text.Render(func(string) string { return "" })) == "" {
				c.room = -1
				return c
			}
		default:
			c.room = -1
			return c
		}
	}
	return c
}

// shortValues is up to how many bytes the variables of a recipient are not tried
// in parameters of templates.
const shortValues = 256

// fits says why the row's texts can't be sent. size is how many bytes the
// variables have together.
func (r *reader) fits(row *row, size int) string {
	for _, name := range r.needs {
		if !has(row, name) {
			return fmt.Sprintf("variable %s is missing or empty; add it, or give the text a default, like {{%s|friend}}", name, name)
		}
	}
	filled := false
	for i := range r.checks {
		c := &r.checks[i]
		if size+maxAddress <= c.room {
			continue
		}
		if !filled {
			clear(r.values)
			for _, x := range row.cells {
				if x.column.name != "" && len(x.value) > 0 {
					r.values[x.column.name] = string(x.value)
				}
			}
			filled = true
		}
		content := c.step.content.render(func(name string) string { return r.values[name] })
		if err := c.account.Check(&content, false, ""); err != nil {
			return c.at + " with the row's variables: " + detail(err)
		}
	}
	return ""
}

func has(row *row, name string) bool {
	for i := range row.cells {
		if c := &row.cells[i]; c.column.name == name && len(c.value) > 0 {
			return true
		}
	}
	return false
}

func detail(err error) string {
	if refusal, ok := errors.AsType[*message.Refusal](err); ok {
		return refusal.Detail
	}
	return err.Error()
}
