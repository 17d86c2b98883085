package telegram

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
)

// callUpload makes a call with files, which are streamed from the store: a file
// of 50 MB costs one copy buffer, not 50 MB. Errors are *callError.
func (c *channel) callUpload(ctx context.Context, method string, p params, uploads []upload) (json.RawMessage, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, writer := io.Pipe()
	form := multipart.NewWriter(writer)
	var complete atomic.Bool
	broken := make(chan error, 1) // why the form could not be written, by our fault
	go func() {
		err := c.writeForm(ctx, form, p, uploads)
		if err == nil {
			// From here on the platform may have the whole form.
			complete.Store(true)
			err = form.Close()
		}
		_ = writer.CloseWithError(err)
		broken <- err
	}()
	result, err := c.post(ctx, method, form.FormDataContentType(), reader, complete.Load)
	// An early answer (429, 413) or a broken connection leaves the writer in the
	// middle of a file.
	cancel()
	_ = reader.CloseWithError(errAbandoned)
	cause := <-broken
	if e, ok := errors.AsType[*callError](err); ok && e.code == 0 {
		if f, ok := errors.AsType[*fileError](cause); ok {
			e.description, e.err, e.sent = "reading a file of the message", f.err, false
		}
	}
	return result, err
}

var errAbandoned = errors.New("upload abandoned")

// fileError is a failure of our own store.
type fileError struct{ err error }

func (e *fileError) Error() string { return e.err.Error() }

func (c *channel) writeForm(ctx context.Context, form *multipart.Writer, p params, uploads []upload) error {
	for _, k := range slices.Sorted(maps.Keys(p)) {
		value, ok := p[k].(string)
		if !ok {
			b, err := json.Marshal(p[k]) // nested objects are JSON inside their field
			if err != nil {
				return &fileError{err}
			}
			value = string(b)
		}
		if err := form.WriteField(k, value); err != nil {
			return err
		}
	}
	for _, u := range uploads {
		if err := c.writeFile(ctx, form, u); err != nil {
			return err
		}
	}
	return nil
}

func (c *channel) writeFile(ctx context.Context, form *multipart.Writer, u upload) error {
	body, err := c.env.Files.Open(ctx, u.file.ID)
	if err != nil {
		return &fileError{fmt.Errorf("opening file %s: %w", u.file.ID, err)}
	}
	defer func() { _ = body.Close() }()
	header := textproto.MIMEHeader{}
	header.Set("Content-Disposition", fmt.Sprintf(`form-data; name="%s"; filename="%s"`, u.field, fileName(u)))
	header.Set("Content-Type", "application/octet-stream")
	if u.file.Mime != "" {
		header.Set("Content-Type", oneLine(u.file.Mime))
	}
	part, err := form.CreatePart(header)
	if err != nil {
		return err
	}
	_, err = io.Copy(part, source{body})
	return err
}

// source marks the read errors of a file, to tell them from write errors.
type source struct{ r io.Reader }

func (s source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &fileError{err}
	}
	return n, err
}

// fileName is a name that can stand in a header. Telegram takes a file without
// one for a parameter.
func fileName(u upload) string {
	if name := oneLine(strings.ReplaceAll(strings.ReplaceAll(u.file.Name, `\`, "_"), `"`, "'")); name != "" {
		return name
	}
	return u.field
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}
