// Package filestoretest holds what every filestore.Blobs promises.
package filestoretest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"switchboard/filestore"
)

// Run checks the promises on a fresh store.
func Run(t *testing.T, open func(t *testing.T) filestore.Blobs) {
	put := func(t *testing.T, b filestore.Blobs, key, body string) {
		t.Helper()
		if err := b.Put(t.Context(), key, strings.NewReader(body), int64(len(body)), "text/plain"); err != nil {
			t.Fatal(err)
		}
	}
	read := func(t *testing.T, b filestore.Blobs, key string, offset, length int64) (string, error) {
		t.Helper()
		r, err := b.Open(t.Context(), key, offset, length)
		if err != nil {
			return "", err
		}
		defer r.Close()
		body, err := io.ReadAll(r)
		return string(body), err
	}
	fresh := func(t *testing.T) filestore.Blobs {
		b := open(t)
		if err := b.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		return b
	}

	t.Run("ranges", func(t *testing.T) {
		b := fresh(t)
		put(t, b, "files/ab/one", "0123456789")
		for _, c := range []struct {
			offset, length int64
			want           string
		}{{0, -1, "0123456789"}, {0, 4, "0123"}, {3, -1, "3456789"}, {3, 2, "34"}, {9, 1, "9"}, {9, -1, "9"}, {0, 0, ""}} {
			if got, err := read(t, b, "files/ab/one", c.offset, c.length); err != nil || got != c.want {
				t.Errorf("%d+%d = %q, %v; want %q", c.offset, c.length, got, err, c.want)
			}
		}
	})

	t.Run("replace and delete", func(t *testing.T) {
		b := fresh(t)
		put(t, b, "files/ab/two", "old and long")
		put(t, b, "files/ab/two", "new")
		if got, err := read(t, b, "files/ab/two", 0, -1); err != nil || got != "new" {
			t.Errorf("read = %q, %v", got, err)
		}
		for range 2 {
			if err := b.Delete(t.Context(), "files/ab/two"); err != nil {
				t.Errorf("delete: %v", err)
			}
		}
		if _, err := read(t, b, "files/ab/two", 0, -1); !errors.Is(err, filestore.ErrNoBlob) {
			t.Errorf("read of a deleted object: %v, want ErrNoBlob", err)
		}
		if _, err := read(t, b, "files/no/never", 0, -1); !errors.Is(err, filestore.ErrNoBlob) {
			t.Errorf("read of a missing object: %v, want ErrNoBlob", err)
		}
	})

	t.Run("a failed put leaves nothing", func(t *testing.T) {
		b := fresh(t)
		boom := errors.New("boom")
		err := b.Put(t.Context(), "files/ab/half", io.MultiReader(strings.NewReader("some"), failing{boom}), -1, "text/plain")
		if err == nil {
			t.Error("put of a failing reader succeeded")
		}
		ctx, cancel := context.WithCancel(t.Context())
		err = b.Put(ctx, "files/ab/half", io.MultiReader(strings.NewReader("some"), canceling{cancel}, strings.NewReader("more")), -1, "text/plain")
		if err == nil {
			t.Error("canceled put succeeded")
		}
		if _, err := read(t, b, "files/ab/half", 0, -1); !errors.Is(err, filestore.ErrNoBlob) {
			t.Errorf("read = %v, want ErrNoBlob", err)
		}
	})

	t.Run("large of unknown size", func(t *testing.T) {
		b := fresh(t)
		const size = 40 << 20
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		want := sha256.New()
		src := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), want)
		peak := &peakReader{r: src}
		if err := b.Put(t.Context(), "files/ab/large", peak, -1, "application/octet-stream"); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if grown := int64(peak.heap) - int64(before.HeapAlloc); grown > 32<<20 {
			t.Errorf("heap grew by %d MiB while 40 MiB went through", grown>>20)
		}
		got := sha256.New()
		r, err := b.Open(t.Context(), "files/ab/large", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if n, err := io.Copy(got, r); err != nil || n != size {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Error("the bytes changed")
		}
	})

	t.Run("parallel puts of one key", func(t *testing.T) {
		b := fresh(t)
		errs := make(chan error, 8)
		for i := range 8 {
			go func() {
				errs <- b.Put(t.Context(), "files/ab/race", strings.NewReader(strings.Repeat(fmt.Sprint(i), 1000)), 1000, "text/plain")
			}()
		}
		for range 8 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		got, err := read(t, b, "files/ab/race", 0, -1)
		if err != nil || len(got) != 1000 || strings.Count(got, got[:1]) != 1000 {
			t.Errorf("a mix of several puts, or %v", err)
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

type canceling struct{ cancel func() }

func (c canceling) Read([]byte) (int, error) { c.cancel(); return 0, io.EOF }

// peakReader samples the heap while it is read.
type peakReader struct {
	r    io.Reader
	n    int
	heap uint64
}

func (p *peakReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if p.n += n; p.n > 4<<20 {
		p.n = 0
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		p.heap = max(p.heap, m.HeapAlloc)
	}
	return n, err
}
