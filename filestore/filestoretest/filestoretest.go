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

// RunBlobs checks the promises. Every subtest opens a store; they may share what
// is below, as each works on keys of its own.
func RunBlobs(t *testing.T, open func(t *testing.T) filestore.Blobs) {
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
		}{{0, -1, "0123456789"}, {0, 4, "0123"}, {3, -1, "3456789"}, {3, 2, "34"}, {9, 1, "9"}, {9, -1, "9"}, {0, 0, ""}, {0, 1, "0"}, {8, 5, "89"}, {4, 0, ""},
			{10, -1, ""}, {10, 3, ""}, {99, -1, ""}, {99, 1, ""}} {
			if got, err := read(t, b, "files/ab/one", c.offset, c.length); err != nil || got != c.want {
				t.Errorf("%d+%d = %q, %v; want %q", c.offset, c.length, got, err, c.want)
			}
		}
		if n, err := b.Size(t.Context(), "files/ab/one"); err != nil || n != 10 {
			t.Errorf("size = %d, %v", n, err)
		}
	})

	t.Run("not found", func(t *testing.T) {
		b := fresh(t)
		for _, key := range []string{"files/ab/nowhere", "nowhere", "files/zz/a/b/c"} {
			for _, length := range []int64{-1, 0, 1} {
				if _, err := read(t, b, key, 0, length); !errors.Is(err, filestore.ErrNoBlob) {
					t.Errorf("read of %d bytes of %s: %v, want ErrNoBlob", length, key, err)
				}
			}
			if _, err := b.Size(t.Context(), key); !errors.Is(err, filestore.ErrNoBlob) {
				t.Errorf("size of %s: %v, want ErrNoBlob", key, err)
			}
			if err := b.Delete(t.Context(), key); err != nil {
				t.Errorf("delete of %s: %v", key, err)
			}
		}
	})

	t.Run("odd keys", func(t *testing.T) {
		b := fresh(t)
		keys := []string{"odd/one", "odd/with space", "odd/100%25", "odd/a+b=c&d;e", "odd/файл", "odd/'quotes'", "odd/.hidden", "odd/x.y.z", "odd/ONE", "odd/-dash", "odd/deep/er/still",
			"odd/" + strings.Repeat("l", 200)}
		for _, key := range keys {
			put(t, b, key, "body of "+key)
		}
		for _, key := range keys {
			if got, err := read(t, b, key, 0, -1); err != nil || got != "body of "+key {
				t.Errorf("%s = %q, %v", key, got, err)
			}
		}
	})

	t.Run("empty object", func(t *testing.T) {
		b := fresh(t)
		for _, size := range []int64{0, -1} {
			if err := b.Put(t.Context(), "files/ab/empty", strings.NewReader(""), size, "text/plain"); err != nil {
				t.Fatal(err)
			}
			if got, err := read(t, b, "files/ab/empty", 0, -1); err != nil || got != "" {
				t.Errorf("size %d: %q, %v", size, got, err)
			}
			if n, err := b.Size(t.Context(), "files/ab/empty"); err != nil || n != 0 {
				t.Errorf("size %d: %d, %v", size, n, err)
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
		for _, already := range []int64{0, 4, 20 << 20} { // nothing, a part of one, several parts
			for name, end := range map[string]func(cancel func()) error{
				"error":    func(func()) error { return errors.New("boom") },
				"cut":      func(func()) error { return io.ErrUnexpectedEOF },
				"canceled": func(cancel func()) error { cancel(); return nil },
			} {
				ctx, cancel := context.WithCancel(t.Context())
				src := io.MultiReader(io.LimitReader(zeros{}, already), ending(func() error { return end(cancel) }), strings.NewReader("more"))
				if err := b.Put(ctx, "files/ab/half", src, -1, "text/plain"); err == nil {
					t.Errorf("%s after %d bytes: put succeeded", name, already)
				}
				cancel()
				if _, err := read(t, b, "files/ab/half", 0, -1); !errors.Is(err, filestore.ErrNoBlob) {
					t.Errorf("%s after %d bytes: read = %v, want ErrNoBlob", name, already, err)
				}
			}
		}
	})

	t.Run("a failed put keeps the former object", func(t *testing.T) {
		b := fresh(t)
		put(t, b, "files/ab/kept", "former")
		if err := b.Put(t.Context(), "files/ab/kept", io.MultiReader(strings.NewReader("new"), ending(func() error { return io.ErrUnexpectedEOF })), -1, "text/plain"); err == nil {
			t.Error("put succeeded")
		}
		if got, err := read(t, b, "files/ab/kept", 0, -1); err != nil || got != "former" {
			t.Errorf("read = %q, %v", got, err)
		}
	})

	t.Run("nothing is seen before the end", func(t *testing.T) {
		b := fresh(t)
		seen := ending(func() error {
			if _, err := read(t, b, "files/ab/slow", 0, -1); !errors.Is(err, filestore.ErrNoBlob) {
				t.Errorf("read during the put: %v, want ErrNoBlob", err)
			}
			return nil
		})
		if err := b.Put(t.Context(), "files/ab/slow", io.MultiReader(io.LimitReader(zeros{}, 9<<20), seen, strings.NewReader("end")), -1, "text/plain"); err != nil {
			t.Fatal(err)
		}
		if n, err := b.Size(t.Context(), "files/ab/slow"); err != nil || n != 9<<20+3 {
			t.Errorf("size = %d, %v", n, err)
		}
	})

	t.Run("large of unknown size", func(t *testing.T) {
		b := fresh(t)
		const size = 40 << 20
		before := liveHeap()
		want := sha256.New()
		src := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), want)
		peak := &peakReader{r: src}
		if err := b.Put(t.Context(), "files/ab/large", peak, -1, "application/octet-stream"); err != nil {
			t.Fatal(err)
		}
		if grown := int64(peak.heap) - int64(before); grown > 24<<20 {
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

// ending is a reader that does something when it is reached: an error ends the
// stream, nil lets it go on.
type ending func() error

func (e ending) Read([]byte) (int, error) {
	if err := e(); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC() // what is garbage already does not count
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

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
		p.heap = max(p.heap, liveHeap())
	}
	return n, err
}
