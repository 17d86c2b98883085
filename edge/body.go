package edge

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

// budget is how many bytes of webhook bodies may be in memory at once: those that
// are being read and those that wait for their commit.
type budget struct {
	most int64
	used atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	return true
}

// firstBytes are taken for a body at once; nearly all fit. What is more is taken
// as it comes, so that a client gets no memory for promising a long body.
const firstBytes = 4 << 10

// body is one webhook's share of the budget.
type body struct {
	budget *budget
	taken  int64
}

// read reads up to limit bytes. Errors: errOverloaded, *http.MaxBytesError, and
// those of the connection.
func (b *body) read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit}
	}
	from := http.MaxBytesReader(w, r.Body, limit)
	size := int64(firstBytes)
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength)
	}
	if !b.take(size) {
		return nil, errOverloaded
	}
	raw := make([]byte, 0, size)
	for {
		if len(raw) == cap(raw) {
			if int64(len(raw)) == r.ContentLength {
				// One byte more tells that the body has ended.
				if n, err := from.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
					return nil, errors.Join(err, io.ErrUnexpectedEOF)
				}
				return raw, nil
			}
			more := 2 * int64(cap(raw))
			if r.ContentLength > 0 {
				more = min(more, r.ContentLength)
			}
			// Both copies exist for a moment; what is taken is the sum.
			if !b.take(more) {
				return nil, errOverloaded
			}
			grown := make([]byte, len(raw), more)
			copy(grown, raw)
			b.give(int64(cap(raw)))
			raw = grown
		}
		n, err := from.Read(raw[len(raw):cap(raw)])
		raw = raw[:len(raw)+n]
		if errors.Is(err, io.EOF) {
			return raw, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (b *body) take(n int64) bool {
	if !b.budget.take(n) {
		return false
	}
	b.taken += n
	return true
}

func (b *body) give(n int64) {
	b.taken -= n
	b.budget.used.Add(-n)
}

func (b *body) release() { b.give(b.taken) }
