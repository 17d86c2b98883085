package channels

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/textproto"
	"strings"
	"sync/atomic"
)

// FormFile is a file of the store in a form.
type FormFile struct {
	Field string
	ID    string // in the store
	Name  string // see HeaderText
	Mime  string // "" when unknown
}

// Form is a multipart form on its way.
type Form struct {
	ContentType string
	Body        io.Reader
	complete    atomic.Bool
}

// Complete reports whether the form was handed over to its end, so that the
// platform may have the whole of it.
func (f *Form) Complete() bool { return f.complete.Load() }

// StreamForm streams fields, pairs of name and value, and files from the store into
// the request that send makes: 200 MB cost one copy buffer. send returns when its
// answer is read. The error says that a file could not be read, and nothing of the
// request.
func StreamForm(ctx context.Context, store Files, fields [][2]string, files []FormFile, send func(ctx context.Context, f *Form)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, writer := io.Pipe()
	form := multipart.NewWriter(writer)
	f := &Form{ContentType: form.FormDataContentType(), Body: reader}
	written := make(chan error, 1)
	go func() {
		err := writeForm(ctx, form, store, fields, files)
		if err == nil {
			f.complete.Store(true)
			err = form.Close()
		}
		_ = writer.CloseWithError(err)
		written <- err
	}()
	send(ctx, f)
	// An early answer (413, 429) or a broken connection leaves the writer in the
	// middle of a file.
	cancel()
	_ = reader.CloseWithError(errors.New("upload abandoned"))
	if e, ok := errors.AsType[*storeError](<-written); ok && !errors.Is(e.err, context.Canceled) {
		return e.err
	}
	return nil
}

func writeForm(ctx context.Context, form *multipart.Writer, store Files, fields [][2]string, files []FormFile) error {
	for _, field := range fields {
		if err := form.WriteField(field[0], field[1]); err != nil {
			return err
		}
	}
	for i := range files {
		if err := writeFile(ctx, form, store, &files[i]); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(ctx context.Context, form *multipart.Writer, store Files, f *FormFile) error {
	body, err := store.Open(ctx, f.ID)
	if err != nil {
		return &storeError{fmt.Errorf("opening file %s: %w", f.ID, err)}
	}
	defer func() { _ = body.Close() }()
	header := textproto.MIMEHeader{}
	header.Set("Content-Disposition", fmt.Sprintf(`form-data; name="%s"; filename="%s"`, f.Field, HeaderText(f.Name)))
	header.Set("Content-Type", "application/octet-stream")
	if f.Mime != "" {
		header.Set("Content-Type", oneLine(f.Mime))
	}
	part, err := form.CreatePart(header)
	if err != nil {
		return err
	}
	_, err = io.Copy(part, source{body})
	return err
}

// storeError is a failure of our own store.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// source marks the read errors of a file, to tell them from write errors.
type source struct{ r io.Reader }

func (s source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &storeError{err}
	}
	return n, err
}

// HeaderText is s as it can stand in a header, between quotes.
func HeaderText(s string) string {
	return oneLine(strings.NewReplacer(`\`, "_", `"`, "'").Replace(s))
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}
