package filestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"switchboard"
	"switchboard/internal/problem"
	"switchboard/internal/queue"
)

// Auth lets requests in: whoever has a session or an API key. The error is
// switchboard.ErrUnavailable when that can't be told right now.
type Auth func(r *http.Request) (owner string, err error)

// Uploaded is the answer to an upload.
type Uploaded struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Mime   string `json:"mime"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Routes mounts POST /files and GET, HEAD /files/{id} and /files/{id}/{name}.
func (s *Store) Routes(r chi.Router, auth Auth) {
	r.Post("/files", func(w http.ResponseWriter, r *http.Request) { s.upload(w, r, auth) })
	get := func(w http.ResponseWriter, r *http.Request) { s.download(w, r, auth) }
	for _, pattern := range []string{"/files/{id}", "/files/{id}/{name}"} {
		r.Get(pattern, get)
		r.Head(pattern, get)
	}
}

func refuse(w http.ResponseWriter, err error) {
	if errors.Is(err, switchboard.ErrUnavailable) {
		problem.Write(w, http.StatusServiceUnavailable, "unavailable", "try again")
		return
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	problem.Write(w, http.StatusUnauthorized, "unauthorized", err.Error())
}

// uploadIdle is how long an upload may stand still.
const uploadIdle = 30 * time.Second

func (s *Store) upload(w http.ResponseWriter, r *http.Request, auth Auth) {
	owner, err := auth(r)
	if err != nil {
		refuse(w, err)
		return
	}
	if r.ContentLength > s.cfg.MaxUpload+1<<20 {
		s.fail(w, r, &TooLargeError{s.cfg.MaxUpload})
		return
	}
	body := http.MaxBytesReader(w, r.Body, s.cfg.MaxUpload+1<<20) // room for multipart's frame
	moving := &movingReader{r: body, ctl: http.NewResponseController(w)}
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "multipart/form-data" {
		s.save(w, r, owner, uploadName(r), r.Header.Get("Content-Type"), moving)
		return
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{moving, body}
	if params["boundary"] == "" {
		problem.Write(w, http.StatusBadRequest, "bad_request", "multipart/form-data needs a boundary")
		return
	}
	parts, err := r.MultipartReader()
	for err == nil {
		var part interface {
			io.Reader
			FormName() string
			FileName() string
		}
		p, nextErr := parts.NextPart()
		if nextErr != nil {
			err = nextErr
			break
		}
		if part = p; part.FormName() == "file" {
			s.save(w, r, owner, part.FileName(), p.Header.Get("Content-Type"), part)
			return
		}
	}
	if tooLarge(err) {
		s.fail(w, r, &TooLargeError{s.cfg.MaxUpload})
		return
	}
	problem.Write(w, http.StatusBadRequest, "bad_request", "multipart/form-data needs a part called file")
}

// movingReader gives an upload time as long as it moves.
type movingReader struct {
	r   io.Reader
	ctl *http.ResponseController
}

func (m *movingReader) Read(p []byte) (int, error) {
	_ = m.ctl.SetReadDeadline(time.Now().Add(uploadIdle))
	return m.r.Read(p)
}

func uploadName(r *http.Request) string {
	if name := r.URL.Query().Get("name"); name != "" {
		return name
	}
	if _, params, err := mime.ParseMediaType(r.Header.Get("Content-Disposition")); err == nil {
		return params["filename"]
	}
	return ""
}

func (s *Store) save(w http.ResponseWriter, r *http.Request, owner, name, claimed string, body io.Reader) {
	f, err := s.Save(r.Context(), owner, name, claimed, body)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Location", "/files/"+f.ID)
	writeJSON(w, http.StatusCreated, Uploaded{f.ID, f.Name, f.Mime, f.Size, f.SHA256})
}

func tooLarge(err error) bool {
	_, max := errors.AsType[*http.MaxBytesError](err)
	_, ours := errors.AsType[*TooLargeError](err)
	return max || ours
}

func (s *Store) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case tooLarge(err):
		problem.Write(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("files of up to %d bytes are taken", s.cfg.MaxUpload))
	case errors.Is(err, ErrEmpty):
		problem.Write(w, http.StatusBadRequest, "empty", "the file has no bytes; send it as the raw body or as the multipart field file")
	case errors.Is(err, io.ErrUnexpectedEOF) || r.Context().Err() != nil:
		problem.Write(w, http.StatusBadRequest, "bad_request", "the body ended early")
	default:
		s.log.ErrorContext(r.Context(), "upload could not be stored", "error", err)
		problem.Write(w, http.StatusServiceUnavailable, "unavailable", "the file could not be stored; try again")
	}
}

func (s *Store) download(w http.ResponseWriter, r *http.Request, auth Auth) {
	id := chi.URLParam(r, "id")
	if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
		problem.Write(w, http.StatusNotFound, "not_found", "no such file")
		return
	}
	present, ok, expired := s.signed(id, r.URL.Query())
	switch {
	case present && !ok:
		problem.Write(w, http.StatusForbidden, "bad_signature", "the link's signature is wrong")
		return
	case expired:
		problem.Write(w, http.StatusForbidden, "expired", "the link has expired")
		return
	case !present:
		if _, err := auth(r); err != nil {
			refuse(w, err)
			return
		}
	}
	f, err := s.index.File(r.Context(), id)
	if errors.Is(err, switchboard.ErrNotFound) {
		problem.Write(w, http.StatusNotFound, "not_found", "no such file")
		return
	}
	if err != nil {
		s.log.ErrorContext(r.Context(), "file could not be looked up", "error", err)
		problem.Write(w, http.StatusServiceUnavailable, "unavailable", "try again")
		return
	}
	if f.State != "ready" {
		problem.Write(w, http.StatusConflict, "not_ready", "the file is "+string(f.State))
		return
	}
	s.serve(w, r, f)
}

func (s *Store) serve(w http.ResponseWriter, r *http.Request, f queue.StoredFile) {
	h := w.Header()
	kind, inline := safeType(f.Mime)
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", disposition(f.Name, inline))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	h.Set("Cache-Control", "private, max-age=86400, immutable")
	h.Set("ETag", `"`+f.SHA256+`"`)
	body := &ranged{ctx: r.Context(), blobs: s.blobs, key: key(f.ID), size: f.Size}
	defer body.close()
	// The first byte is asked for before the headers go out, so that an object
	// that is away is an error and not a cut body.
	if r.Method == http.MethodGet && f.Size > 0 {
		if err := body.open(); err != nil {
			for _, name := range []string{"ETag", "Cache-Control", "Content-Disposition", "Content-Security-Policy"} {
				h.Del(name)
			}
			s.log.ErrorContext(r.Context(), "file could not be read", "file", f.ID, "error", err)
			problem.Write(w, http.StatusServiceUnavailable, "unavailable", "the file can't be read right now; try again")
			return
		}
	}
	http.ServeContent(w, r, "", f.CreatedAt, body)
}

// safeType is what a file is served as, and whether a browser may show it in
// place. Anything that could run in our origin is handed out as bytes.
func safeType(kind string) (served string, inline bool) {
	base, _, _ := strings.Cut(kind, ";")
	base = strings.TrimSpace(strings.ToLower(base))
	if active(base) || base == "" {
		return "application/octet-stream", false
	}
	switch {
	case strings.HasPrefix(base, "image/"), strings.HasPrefix(base, "audio/"), strings.HasPrefix(base, "video/"), base == "application/pdf":
		return base, true
	case base == "text/plain":
		return kind, false
	default:
		return base, false
	}
}

// disposition names the file in ASCII for old clients and in UTF-8 (RFC 5987).
func disposition(name string, inline bool) string {
	kind := "attachment"
	if inline {
		kind = "inline"
	}
	ascii := strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, name)
	return fmt.Sprintf(`%s; filename="%s"; filename*=UTF-8''%s`, kind, ascii, strings.ReplaceAll(url.QueryEscape(name), "+", "%20"))
}

// ranged is a ReadSeeker over an object that opens it where it is read: one
// request to the store per range.
type ranged struct {
	ctx   context.Context
	blobs Blobs
	key   string
	size  int64
	pos   int64
	body  io.ReadCloser
	at    int64 // where body stands
}

func (r *ranged) open() (err error) {
	r.close()
	r.body, err = r.blobs.Open(r.ctx, r.key, r.pos, -1)
	r.at = r.pos
	return err
}

func (r *ranged) Read(p []byte) (int, error) {
	if r.pos >= r.size {
		return 0, io.EOF
	}
	if r.body == nil || r.at != r.pos {
		if err := r.open(); err != nil {
			return 0, err
		}
	}
	n, err := r.body.Read(p)
	r.pos += int64(n)
	r.at = r.pos
	return n, err
}

func (r *ranged) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	r.pos = offset
	return offset, nil
}

func (r *ranged) close() {
	if r.body != nil {
		_ = r.body.Close()
		r.body = nil
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
