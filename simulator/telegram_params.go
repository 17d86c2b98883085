package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// upload is a file part of a multipart call.
type upload struct {
	name, mime string
	b          *blob
	over       bool // larger than any upload may be
}

const (
	maxTelegramUpload = 50 << 20
	maxTelegramPhoto  = 10 << 20
	// maxTelegramBody caps JSON and form bodies; the true figure is not documented.
	maxTelegramBody = 8 << 20
)

var bodyPool = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// parse reads parameters in all the encodings: query, form, JSON and multipart.
// Afterwards every value is a string; objects, numbers and booleans of a JSON
// body are their JSON text, just as they are in a form.
func (c *tgCall) parse(r *http.Request) *tgError {
	c.p = make(map[string]string, 8)
	if r.URL.RawQuery != "" {
		addValues(c.p, r.URL.RawQuery)
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	ct := r.Header.Get("Content-Type")
	if i := strings.IndexByte(ct, ';'); i >= 0 && !strings.HasPrefix(ct, "multipart/") {
		ct = ct[:i]
	}
	ct = strings.TrimSpace(ct)
	var e *tgError
	switch {
	case strings.EqualFold(ct, "application/json"), strings.EqualFold(ct, "application/x-www-form-urlencoded"):
		buf := bodyPool.Get().(*bytes.Buffer)
		buf.Reset()
		defer bodyPool.Put(buf)
		n, err := buf.ReadFrom(io.LimitReader(r.Body, maxTelegramBody+1))
		switch {
		case err != nil:
			return badRequest("can't read the request")
		case n > maxTelegramBody:
			return errTg(413, "Request Entity Too Large")
		case n == 0:
			return nil
		}
		if strings.HasSuffix(ct, "json") || strings.HasSuffix(ct, "JSON") {
			e = addJSON(c.p, buf.Bytes())
		} else {
			addValues(c.p, buf.String())
		}
	case strings.HasPrefix(ct, "multipart/"):
		e = c.parseMultipart(r, ct)
	default:
		io.Copy(io.Discard, io.LimitReader(r.Body, maxTelegramBody)) //nolint:errcheck // an unknown encoding is ignored, as a call without parameters
	}
	if e != nil {
		return e
	}
	for _, v := range c.p {
		if !utf8.ValidString(v) {
			return badRequest("strings must be encoded in UTF-8")
		}
	}
	return nil
}

func addValues(p map[string]string, q string) {
	v, _ := url.ParseQuery(q)
	for k, vs := range v {
		p[k] = vs[0]
	}
}

func addJSON(p map[string]string, b []byte) *tgError {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return badRequest("can't parse the request as a JSON object: %s", err.Error())
	}
	for k, v := range m {
		switch {
		case v[0] == '"':
			if bytes.IndexByte(v, '\\') < 0 && utf8.Valid(v) {
				p[k] = string(v[1 : len(v)-1])
				continue
			}
			var s string
			if err := json.Unmarshal(v, &s); err != nil {
				return badRequest("can't parse the request as a JSON object: %s", err.Error())
			}
			p[k] = s
		case string(v) == "null":
		default:
			p[k] = string(v)
		}
	}
	return nil
}

func (c *tgCall) parseMultipart(r *http.Request, ct string) *tgError {
	_, params, err := mime.ParseMediaType(ct)
	if err != nil || params["boundary"] == "" {
		return badRequest("can't parse the multipart boundary")
	}
	c.files = map[string]*upload{}
	mr := multipart.NewReader(r.Body, params["boundary"])
	over := false
	for {
		part, err := mr.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return badRequest("can't parse the multipart body")
		}
		name := part.FormName()
		if part.FileName() == "" && part.Header.Get("Content-Type") == "" || name != "" && part.FileName() == "" && strings.HasPrefix(part.Header.Get("Content-Type"), "text/plain") {
			b, err := io.ReadAll(io.LimitReader(part, 1<<20))
			if err != nil {
				return badRequest("can't parse the multipart body")
			}
			c.p[name] = string(b)
			continue
		}
		b, tooBig, err := c.a.sim.capture(part, maxTelegramUpload)
		if err != nil {
			return badRequest("can't parse the multipart body")
		}
		if tooBig {
			over = true
			// Read on for a while, so that the client gets to see the answer
			// rather than a broken pipe.
			io.Copy(io.Discard, io.LimitReader(part, 64<<20)) //nolint:errcheck // the answer is 413 in any case
		}
		c.files[name] = &upload{name: part.FileName(), mime: part.Header.Get("Content-Type"), b: b, over: tooBig}
	}
	if over {
		return errTg(413, "Request Entity Too Large")
	}
	return nil
}

func (c *tgCall) int(name string, def int64) (int64, *tgError) {
	v, ok := c.p[name]
	if !ok || v == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, badRequest("parameter %q must be an integer", name)
	}
	return n, nil
}

func (c *tgCall) float(name string) (float64, *tgError) {
	v, err := strconv.ParseFloat(c.p[name], 64)
	if err != nil {
		return 0, badRequest("parameter %q must be a number", name)
	}
	return v, nil
}

func (c *tgCall) bool(name string) bool { return isTrue(c.p[name]) }

func isTrue(v string) bool {
	return v == "true" || v == "1" || strings.EqualFold(v, "yes") || strings.EqualFold(v, "true")
}
