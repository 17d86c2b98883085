package filestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"switchboard"
	"switchboard/internal/problem"
	"switchboard/internal/queue"
	"switchboard/message"
)

// Auth lets requests in: whoever has a session or an API key and, where id is not
// empty, may read the file of that id. An error answers 401 with its text;
// switchboard.ErrForbidden answers 403, switchboard.ErrNotFound (the file is not
// theirs to see) 404, and switchboard.ErrUnavailable (it can't be told right now)
// 503.
type Auth func(r *http.Request, id string) (owner string, err error)

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
	if errors.Is(err, switchboard.ErrNotFound) {
		problem.Write(w, http.StatusNotFound, "not_found", "no such file")
		return
	}
	if p, ok := errors.AsType[*problem.Error](err); ok {
		problem.Send(w, p)
		return
	}
	if errors.Is(err, switchboard.ErrUnavailable) || errors.Is(err, switchboard.ErrForbidden) {
		problem.Send(w, problem.From(err))
		return
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	problem.Write(w, http.StatusUnauthorized, "unauthorized", err.Error())
}

// frame is what a multipart upload may have around the file, in bytes.
const frame = 1 << 20

func (s *Store) upload(w http.ResponseWriter, r *http.Request, auth Auth) {
	ask, cancel := context.WithTimeout(r.Context(), s.cfg.Ask)
	defer cancel()
	owner, err := auth(r.WithContext(ask), "")
	if err != nil {
		refuse(w, err)
		return
	}
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	most := s.cfg.MaxUpload
	if kind == "multipart/form-data" {
		most += frame
	}
	if r.ContentLength > most {
		s.fail(w, r, &TooLargeError{s.cfg.MaxUpload})
		return
	}
	body := http.MaxBytesReader(w, r.Body, most)
	moving := &movingReader{r: body, ctl: http.NewResponseController(w), idle: s.cfg.Idle}
	if kind != "multipart/form-data" {
		s.save(w, r, owner, uploadName(r), r.Header.Get("Content-Type"), moving)
		return
	}
	if params["boundary"] == "" {
		problem.Write(w, http.StatusBadRequest, "bad_request", "multipart/form-data needs a boundary")
		return
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{moving, body}
	parts, err := r.MultipartReader()
	for err == nil {
		var part *multipart.Part
		if part, err = parts.NextPart(); err == nil && part.FormName() == "file" {
			s.save(w, r, owner, part.FileName(), part.Header.Get("Content-Type"), part)
			return
		}
	}
	if err != io.EOF {
		s.fail(w, r, &sourceError{err})
		return
	}
	problem.Write(w, http.StatusBadRequest, "bad_request", "multipart/form-data needs a part called file")
}

// movingReader gives an upload time as long as it moves.
type movingReader struct {
	r    io.Reader
	ctl  *http.ResponseController
	idle time.Duration
}

func (m *movingReader) Read(p []byte) (int, error) {
	_ = m.ctl.SetReadDeadline(time.Now().Add(m.idle))
	n, err := m.r.Read(p)
	if err == io.EOF {
		m.stop() // after any other error it stays: the server must not wait for the rest of a body that stands still
	}
	return n, err
}

// stop ends the deadline: behind the body the server reads on, to see whether the
// client is still there, and a deadline would look like its going.
func (m *movingReader) stop() { _ = m.ctl.SetReadDeadline(time.Time{}) }

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
	_, fromClient := errors.AsType[*sourceError](err)
	switch {
	case tooLarge(err):
		problem.Write(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("files of up to %d bytes are taken", s.cfg.MaxUpload))
	case errors.Is(err, ErrEmpty):
		problem.Write(w, http.StatusBadRequest, "empty", "the file has no bytes; send it as the raw body or as the multipart field file")
	case fromClient && errors.Is(err, os.ErrDeadlineExceeded):
		problem.Write(w, http.StatusRequestTimeout, "too_slow", fmt.Sprintf("nothing came for %s", s.cfg.Idle))
	case fromClient || r.Context().Err() != nil:
		problem.Write(w, http.StatusBadRequest, "bad_request", "the body ended early, or is not what its Content-Type says")
	default:
		s.log.ErrorContext(r.Context(), "upload could not be stored", "error", err)
		problem.Write(w, http.StatusServiceUnavailable, "unavailable", "the file could not be stored; try again")
	}
}

func (s *Store) download(w http.ResponseWriter, r *http.Request, auth Auth) {
	id := chi.URLParam(r, "id")
	if !validID(id) {
		problem.Write(w, http.StatusNotFound, "not_found", "no such file")
		return
	}
	// A database that says nothing must not hold the request.
	ask, cancel := context.WithTimeout(r.Context(), s.cfg.Ask)
	defer cancel()
	present, ok, expired := s.signed(id, r.URL.Query())
	switch {
	case present && !ok:
		problem.Write(w, http.StatusForbidden, "bad_signature", "the link's signature is wrong or not whole; take it as it was given, with exp and sig")
		return
	case expired:
		problem.Write(w, http.StatusForbidden, "expired", "the link has expired")
		return
	case !present:
		if _, err := auth(r.WithContext(ask), id); err != nil {
			refuse(w, err)
			return
		}
	}
	f, err := s.index.File(ask, id)
	if errors.Is(err, switchboard.ErrNotFound) {
		problem.Write(w, http.StatusNotFound, "not_found", "no such file")
		return
	}
	if err != nil {
		s.log.ErrorContext(r.Context(), "file could not be looked up", "error", err)
		problem.Write(w, http.StatusServiceUnavailable, "unavailable", "try again")
		return
	}
	if f.State != message.FileReady {
		problem.Write(w, http.StatusConflict, "not_ready", "the file is "+string(f.State))
		return
	}
	s.serve(w, r, f)
}

// maxRanges is how many ranges one request may ask for: each costs a request to
// the store. With more of them the whole file is answered, as RFC 9110 allows.
const maxRanges = 8

func (s *Store) serve(w http.ResponseWriter, r *http.Request, f queue.StoredFile) {
	if strings.Count(r.Header.Get("Range"), ",") >= maxRanges {
		r.Header.Del("Range")
	}
	h := w.Header()
	kind, inline := safeType(f.Mime)
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", disposition(f.Name, inline))
	h.Set("X-Content-Type-Options", "nosniff")
	if policy := contentPolicy(kind, inline); policy != "" {
		h.Set("Content-Security-Policy", policy)
	}
	h.Set("Cache-Control", "private, max-age=86400, immutable")
	h.Set("ETag", `"`+f.SHA256+`"`)

	ctx, cancel := context.WithCancel(r.Context())
	body := &ranged{ctx: ctx, blobs: s.blobs, key: key(f.ID), size: f.Size}
	defer body.close()
	defer cancel() // before close, which waits for a read under way
	answer := &answer{ResponseWriter: w, ctl: http.NewResponseController(w), idle: s.cfg.Idle}
	if r.Method == http.MethodGet {
		answer.body = body
	}
	http.ServeContent(answer, r, "", f.CreatedAt, body)
	answer.finish()
	if err := body.failed(); err != nil && r.Context().Err() == nil {
		s.log.ErrorContext(r.Context(), "file could not be read", "file", f.ID, "error", err)
	}
}

// answer is the ResponseWriter of a download. It opens the object when the status
// is about to be sent, at the very range, so that an object that is away is an
// error and not a cut body; makes problems of errors; and gives the client time
// as long as it reads.
type answer struct {
	http.ResponseWriter
	ctl     *http.ResponseController
	idle    time.Duration
	body    *ranged // nil for HEAD
	refused bool    // a problem was sent; what comes for the body is dropped
	wrote   bool    // a part of the body
}

func (a *answer) WriteHeader(status int) {
	h := a.Header()
	switch {
	case status == http.StatusRequestedRangeNotSatisfiable:
		a.refuse(status, "bad_range", "the file has no such range of bytes")
		return
	case status >= 400 && status != http.StatusPreconditionFailed:
		a.refuse(status, "internal", "something went wrong on our side; it was logged")
		return
	case a.body == nil || (status != http.StatusOK && status != http.StatusPartialContent):
	default:
		length, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
		if strings.HasPrefix(h.Get("Content-Type"), "multipart/byteranges") {
			// A goroutine of ServeContent reads the ranges already.
			err = a.body.exists()
		} else if err == nil {
			err = a.body.open(length)
		}
		if err != nil {
			h.Del("Content-Range")
			a.refuse(http.StatusServiceUnavailable, "unavailable", "the file can't be read right now; try again")
			return
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) refuse(status int, code, detail string) {
	h := a.Header()
	for _, name := range []string{"ETag", "Last-Modified", "Cache-Control", "Content-Disposition", "Content-Length", "Content-Security-Policy"} {
		h.Del(name)
	}
	a.refused = true
	problem.Write(a.ResponseWriter, status, code, detail)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.refused {
		return 0, errRefused // nothing else is read for it
	}
	a.wrote = true
	_ = a.ctl.SetWriteDeadline(time.Now().Add(a.idle))
	return a.ResponseWriter.Write(p)
}

var errRefused = errors.New("another answer was sent")

// finish sends what is buffered while the deadline holds, and ends it: the next
// answer on the connection must not inherit it.
func (a *answer) finish() {
	if !a.wrote {
		return
	}
	_ = a.ctl.Flush()
	_ = a.ctl.SetWriteDeadline(time.Time{})
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

// contentPolicy is what the file may do in a browser. A page made of a sound or a
// film loads it once more from here, and not at all in a sandbox (Chromium asks
// across origins then); its viewer of PDFs is a page of its own that a policy
// would hold back.
func contentPolicy(kind string, inline bool) string {
	switch {
	case !inline:
		return "default-src 'none'; sandbox"
	case kind == "application/pdf":
		return ""
	default:
		return "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
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
// request to the store per range. For several ranges ServeContent reads in a
// goroutine of its own, which may outlive the request: hence the lock, and no
// read after close.
type ranged struct {
	ctx   context.Context
	blobs Blobs
	key   string
	size  int64

	mu     sync.Mutex
	pos    int64
	body   io.ReadCloser
	at     int64 // where body stands
	err    error // of the store
	closed bool
}

// open prepares a read of length bytes from here.
func (r *ranged) open(length int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if length == 0 {
		return nil
	}
	return r.openLocked(length)
}

func (r *ranged) openLocked(length int64) error {
	if r.closed {
		return fs.ErrClosed
	}
	r.closeLocked()
	r.body, r.err = r.blobs.Open(r.ctx, r.key, r.pos, length)
	r.at = r.pos
	return r.err
}

// exists reports whether the object is there.
func (r *ranged) exists() error {
	_, err := r.blobs.Size(r.ctx, r.key)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = err
	}
	return err
}

func (r *ranged) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, fs.ErrClosed
	}
	if r.pos >= r.size {
		return 0, io.EOF
	}
	if r.body == nil || r.at != r.pos {
		if err := r.openLocked(-1); err != nil {
			return 0, err
		}
	}
	n, err := r.body.Read(p)
	r.pos += int64(n)
	r.at = r.pos
	if err == io.EOF && r.pos < r.size {
		// The end of the range; or, when more is asked for, of an object that is
		// shorter than its row says.
		if err = nil; n == 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil && err != io.EOF {
		r.err = fmt.Errorf("reading the object: %w", err)
	}
	return n, err
}

func (r *ranged) Seek(offset int64, whence int) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
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

// failed is the error of the store, if there was one.
func (r *ranged) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *ranged) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.closeLocked()
}

func (r *ranged) closeLocked() {
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
