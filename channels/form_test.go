package channels_test

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"switchboard/channels"
)

// store holds a file of a million bytes, and one that breaks off.
type store struct{}

var errBroken = errors.New("the disk is broken")

func (store) Open(ctx context.Context, id string) (io.ReadCloser, error) {
	switch id {
	case "million":
		return io.NopCloser(contextReader{ctx, strings.NewReader(strings.Repeat("x", 1_000_000))}), nil
	case "broken":
		return io.NopCloser(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errBroken))), nil
	}
	return nil, errBroken
}

func (store) Link(context.Context, string, time.Duration) (string, error) { return "", errBroken }

// contextReader fails when its context is over, as a store over the network does.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func TestStreamForm(t *testing.T) {
	t.Parallel()
	fields := [][2]string{{"chat", "7"}}
	file := channels.FormFile{Field: "f", ID: "million", Name: "a\"b\\c\n.txt", Mime: "text/plain; charset=\"utf-8\"\r\n"}
	err := channels.StreamForm(t.Context(), store{}, fields, []channels.FormFile{file}, func(_ context.Context, f *channels.Form) {
		_, params, err := mime.ParseMediaType(f.ContentType)
		if err != nil || f.Complete() {
			t.Error(err, "or complete before it is read")
		}
		form, err := multipart.NewReader(f.Body, params["boundary"]).ReadForm(2_000_000)
		if err != nil || !f.Complete() {
			t.Fatal(err, "or not complete")
		}
		part := form.File["f"][0]
		if form.Value["chat"][0] != "7" || part.Size != 1_000_000 || part.Filename != "a'b_c.txt" || part.Header.Get("Content-Type") != `text/plain; charset="utf-8"` {
			t.Errorf("%v %+v", form.Value, part)
		}
	})
	if err != nil {
		t.Error(err)
	}
	for _, id := range []string{"broken", "missing"} {
		err := channels.StreamForm(t.Context(), store{}, nil, []channels.FormFile{{Field: "f", ID: id}}, func(_ context.Context, f *channels.Form) {
			if _, err := io.Copy(io.Discard, f.Body); err == nil || f.Complete() {
				t.Error("a form that can't be read looks whole")
			}
		})
		if !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", id, err)
		}
	}
	// An answer before the end of the file is no failure of the store.
	if err := channels.StreamForm(t.Context(), store{}, nil, []channels.FormFile{file}, func(context.Context, *channels.Form) {}); err != nil {
		t.Errorf("abandoned: %v", err)
	}
}
