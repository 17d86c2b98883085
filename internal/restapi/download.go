package restapi

import (
	"context"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"switchboard/internal/export"
	"switchboard/internal/problem"
)

// Table is a table to be answered with.
type Table struct {
	Name    string // of the file, without an extension
	Format  export.Format
	Columns []string
	Options export.Options
	// Time bounds the rows and the sending; 0 is 30 minutes.
	Time time.Duration
	// Rows writes the rows. It is called after the handler returned, and without the
	// time limit that handlers have; ctx ends when the client goes.
	Rows func(ctx context.Context, w export.Writer) error
	// Done, if not nil, is called when the answer is over, whatever became of it.
	Done func()
}

const (
	downloadTime = 30 * time.Minute
	// downloadIdle is how long a client may take to read what is written at once.
	downloadIdle = time.Minute
)

// Download is an answer in the form of a table, of any length. The operation is
// registered with huma.StreamResponse for its output:
//
//	restapi.Register(api, restapi.Supervisor, http.MethodGet, path, id, tag, summary,
//		func(ctx context.Context, in *input) (*huma.StreamResponse, error) {
//			// what can be refused is refused here
//			return restapi.Download(restapi.Table{...}), nil
//		}, restapi.Downloads(export.CSV))
//
// What fails before the first bytes are sent is answered with a problem; after
// that the connection is cut, so that no client takes the part for the whole.
func Download(t Table) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		if t.Done != nil {
			defer t.Done()
		}
		if t.Time <= 0 {
			t.Time = downloadTime
		}
		w := hc.BodyWriter().(http.ResponseWriter) // the adapter's, on net/http
		ctx, cancel := context.WithTimeout(hc.Context(), t.Time)
		defer cancel()
		out := &download{w: w, ctl: http.NewResponseController(w), table: &t}
		err := out.write(ctx)
		if err == nil {
			_ = out.ctl.Flush()
			_ = out.ctl.SetWriteDeadline(time.Time{}) // the next answer must not inherit it
			return
		}
		if !out.began && hc.Context().Err() == nil {
			p := problem.From(Fail(hc.Context(), late(ctx, err)))
			_ = out.ctl.SetWriteDeadline(time.Now().Add(downloadIdle)) // that of the request may be over
			problem.Send(w, p)
			return
		}
		if hc.Context().Err() == nil {
			serverOf(ctx).log.ErrorContext(ctx, "table cut off", "table", t.Name, "error", err)
		}
		panic(http.ErrAbortHandler)
	}}
}

// Downloads describes the answer of an operation that uses Download.
func Downloads(formats ...export.Format) func(*huma.Operation) {
	return func(op *huma.Operation) {
		content := map[string]*huma.MediaType{}
		for _, f := range formats {
			kind, _, _ := mime.ParseMediaType(f.ContentType())
			schema := &huma.Schema{Type: "string"}
			switch f {
			case export.XLSX:
				schema.Format = "binary"
			case export.JSON:
				row := &huma.Schema{Type: "object", AdditionalProperties: true}
				schema = &huma.Schema{Type: "object", Required: []string{"items"}, Properties: map[string]*huma.Schema{"items": {Type: "array", Items: row}}}
			}
			content[kind] = &huma.MediaType{Schema: schema}
		}
		op.Responses = map[string]*huma.Response{"200": {Description: "the table", Content: content}}
	}
}

// download sets headers with the first bytes, and gives the client time as long
// as it reads.
type download struct {
	w     http.ResponseWriter
	ctl   *http.ResponseController
	table *Table
	began bool
}

func (d *download) write(ctx context.Context) error {
	w, err := export.New(d, d.table.Format, d.table.Columns, d.table.Options)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := d.table.Rows(ctx, w); err != nil {
		return err
	}
	return w.Close()
}

// Write implements io.Writer.
func (d *download) Write(p []byte) (int, error) {
	if !d.began {
		d.began = true
		h := d.w.Header()
		h.Set("Content-Type", d.table.Format.ContentType())
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		if d.table.Format != export.JSON {
			h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": d.table.Name + "." + string(d.table.Format)}))
		}
	}
	_ = d.ctl.SetWriteDeadline(time.Now().Add(downloadIdle))
	return d.w.Write(p)
}
