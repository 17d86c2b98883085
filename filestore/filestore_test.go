package filestore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"switchboard"
	"switchboard/filestore"
	"switchboard/filestore/filestoretest"
	"switchboard/internal/queue"
	"switchboard/internal/s3test"
)

func TestDisk(t *testing.T) {
	t.Parallel()
	filestoretest.RunBlobs(t, func(t *testing.T) filestore.Blobs { return filestore.NewDisk(t.TempDir()) })
}

func TestS3(t *testing.T) {
	t.Parallel()
	filestoretest.RunBlobs(t, func(t *testing.T) filestore.Blobs {
		s3, err := filestore.NewS3(s3test.Shared(t, "conformance-"+strings.ToLower(rand.Text())))
		if err != nil {
			t.Fatal(err)
		}
		return s3
	})
}

func TestDiskRefusesPathsOutside(t *testing.T) {
	t.Parallel()
	d := filestore.NewDisk(t.TempDir())
	for _, key := range []string{"../x", "/etc/passwd", "a/../../x", "", `a\b`} {
		if err := d.Put(t.Context(), key, strings.NewReader("x"), 1, ""); err == nil {
			t.Errorf("key %q was taken", key)
		}
	}
}

type index struct {
	mu    sync.Mutex
	files map[string]queue.StoredFile
}

func (i *index) AddFile(_ context.Context, f queue.StoredFile) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.files[f.ID] = f
	return nil
}

func (i *index) File(_ context.Context, id string) (queue.StoredFile, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f, ok := i.files[id]
	if !ok {
		return f, switchboard.ErrNotFound
	}
	return f, nil
}

func serve(t *testing.T) (*filestore.Store, *index, string) {
	t.Helper()
	idx := newIndex()
	s, srv := serveWith(t, filestore.NewDisk(t.TempDir()), idx, filestore.Config{MaxUpload: 1 << 20}, slog.New(slog.DiscardHandler))
	return s, idx, srv.URL
}

func newIndex() *index { return &index{files: map[string]queue.StoredFile{}} }

// serveWith serves a store to whoever has the token "good"; the others are
// refused in several ways.
func serveWith(t *testing.T, blobs filestore.Blobs, idx filestore.Index, cfg filestore.Config, log *slog.Logger) (*filestore.Store, *httptest.Server) {
	t.Helper()
	router := chi.NewRouter()
	srv := httptest.NewServer(router)
	t.Cleanup(srv.Close)
	cfg.PublicURL, cfg.Key = srv.URL+"/", bytes.Repeat([]byte{7}, 32)
	s, err := filestore.New(blobs, idx, cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	s.Routes(router, func(r *http.Request, _ string) (string, error) {
		switch r.Header.Get("Authorization") {
		case "Bearer good":
			return "operator:1", nil
		case "Bearer limited":
			return "", fmt.Errorf("%w: not with this key", switchboard.ErrForbidden)
		case "Bearer whatever":
			return "", fmt.Errorf("%w: no database", switchboard.ErrUnavailable)
		}
		return "", errors.New("no session")
	})
	return s, srv
}

func do(t *testing.T, method, url string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

var authorized = []string{"Authorization", "Bearer good"}

func upload(t *testing.T, base, query, body string, header ...string) filestore.Uploaded {
	t.Helper()
	res, text := do(t, "POST", base+"/files"+query, strings.NewReader(body), append(header, authorized...)...)
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("upload: %d %s", res.StatusCode, text)
	}
	var u filestore.Uploaded
	if err := json.Unmarshal([]byte(text), &u); err != nil {
		t.Fatal(err)
	}
	return u
}

const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"

func TestUploadAndDownload(t *testing.T) {
	t.Parallel()
	_, _, base := serve(t)
	u := upload(t, base, "?name=../../%D1%84%D0%BE%D1%82%D0%BE.png", png, "Content-Type", "application/pdf")
	if u.Name != "фото.png" || u.Mime != "image/png" || u.Size != int64(len(png)) || len(u.SHA256) != 64 {
		t.Errorf("uploaded = %+v", u)
	}
	res, body := do(t, "GET", base+"/files/"+u.ID, nil, authorized...)
	if res.StatusCode != 200 || body != png || res.Header.Get("ETag") != `"`+u.SHA256+`"` || res.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("download: %d %v", res.StatusCode, res.Header)
	}
	if cd := res.Header.Get("Content-Disposition"); !strings.HasPrefix(cd, "inline;") || !strings.Contains(cd, "filename*=UTF-8''%D1%84%D0%BE%D1%82%D0%BE.png") {
		t.Errorf("disposition = %s", cd)
	}
	res, body = do(t, "GET", base+"/files/"+u.ID, nil, "Authorization", "Bearer good", "Range", "bytes=1-3")
	if res.StatusCode != 206 || body != "PNG" || res.Header.Get("Content-Range") != fmt.Sprintf("bytes 1-3/%d", len(png)) {
		t.Errorf("range: %d %q %s", res.StatusCode, body, res.Header.Get("Content-Range"))
	}
	res, _ = do(t, "GET", base+"/files/"+u.ID, nil, "Authorization", "Bearer good", "Range", "bytes=9999-")
	if res.StatusCode != 416 {
		t.Errorf("range past the end: %d", res.StatusCode)
	}
	res, _ = do(t, "GET", base+"/files/"+u.ID, nil, "Authorization", "Bearer good", "If-None-Match", `"`+u.SHA256+`"`)
	if res.StatusCode != 304 {
		t.Errorf("if-none-match: %d", res.StatusCode)
	}
	res, body = do(t, "HEAD", base+"/files/"+u.ID, nil, authorized...)
	if res.StatusCode != 200 || body != "" || res.ContentLength != int64(len(png)) {
		t.Errorf("head: %d %d", res.StatusCode, res.ContentLength)
	}
}

func TestMultipart(t *testing.T) {
	t.Parallel()
	_, _, base := serve(t)
	var buf bytes.Buffer
	m := multipart.NewWriter(&buf)
	_ = m.WriteField("comment", "first")
	f, _ := m.CreateFormFile("file", "a.txt")
	_, _ = f.Write([]byte("plain words"))
	_ = m.Close()
	u := upload(t, base, "", buf.String(), "Content-Type", m.FormDataContentType())
	if u.Name != "a.txt" || !strings.HasPrefix(u.Mime, "text/plain") || u.Size != 11 {
		t.Errorf("uploaded = %+v", u)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	_, _, base := serve(t)
	u := upload(t, base, "", "hello")
	for name, c := range map[string]struct {
		method, path, body, token, kind string
		want                            int
	}{
		"no token":            {"POST", "/files", "x", "", "", 401},
		"not allowed":         {"POST", "/files", "x", "limited", "", 403},
		"can't be told":       {"GET", "/files/" + u.ID, "", "whatever", "", 503},
		"download, no token":  {"GET", "/files/" + u.ID, "", "", "", 401},
		"empty":               {"POST", "/files", "", "good", "", 400},
		"too large":           {"POST", "/files", strings.Repeat("x", 1<<20+1), "good", "", 413},
		"much too large":      {"POST", "/files", strings.Repeat("x", 3<<20), "good", "", 413},
		"multipart, no file":  {"POST", "/files", "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n--b--\r\n", "good", "multipart/form-data; boundary=b", 400},
		"multipart, no frame": {"POST", "/files", "x", "good", "multipart/form-data", 400},
		"unknown id":          {"GET", "/files/0198aaaa-0000-7000-8000-000000000000", "", "good", "", 404},
		"not an id":           {"GET", "/files/..%2f..%2fetc%2fpasswd", "", "good", "", 404},
		"forged link":         {"GET", "/files/" + u.ID + "?exp=99999999999&sig=AAAA", "", "", "", 403},
		"half a link":         {"GET", "/files/" + u.ID + "?exp=99999999999", "", "good", "", 403},
	} {
		h := []string{"Authorization", "Bearer " + c.token, "Content-Type", c.kind}
		res, body := do(t, c.method, base+c.path, strings.NewReader(c.body), h...)
		if res.StatusCode != c.want || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, want %d", name, res.StatusCode, body, c.want)
		}
	}
}

func TestSignedLink(t *testing.T) {
	t.Parallel()
	s, _, base := serve(t)
	a, b := upload(t, base, "?name=a+b.txt", "first"), upload(t, base, "", "second")
	link, err := s.Link(t.Context(), a.ID, time.Minute)
	if err != nil || !strings.Contains(link, "/a%20b.txt?") {
		t.Fatalf("link = %s, %v", link, err)
	}
	if res, body := do(t, "GET", link, nil); res.StatusCode != 200 || body != "first" {
		t.Errorf("signed: %d %s", res.StatusCode, body)
	}
	if res, body := do(t, "GET", strings.Replace(link, "/a%20b.txt", "", 1), nil); res.StatusCode != 200 || body != "first" {
		t.Errorf("signed, without the name: %d %s", res.StatusCode, body)
	}
	if res, _ := do(t, "HEAD", link, nil); res.StatusCode != 200 || res.ContentLength != 5 {
		t.Errorf("signed head: %d %d", res.StatusCode, res.ContentLength)
	}
	exp := regexp.MustCompile(`exp=\d+`)
	for name, other := range map[string]string{
		"another file":   strings.Replace(link, a.ID, b.ID, 1),
		"another expiry": exp.ReplaceAllString(link, "exp=99999999999"),
		"no number":      exp.ReplaceAllString(link, "exp=soon"),
		"no expiry":      exp.ReplaceAllString(link, ""),
		"cut":            link[:len(link)-1],
		"no signature":   regexp.MustCompile(`sig=[^&]+`).ReplaceAllString(link, "sig="),
	} {
		// A session does not mend a broken link.
		for _, token := range []string{"", "Bearer good"} {
			if res, body := do(t, "GET", other, nil, "Authorization", token); res.StatusCode != 403 || !strings.Contains(body, `"bad_signature"`) {
				t.Errorf("%s, token %q: %d %s", name, token, res.StatusCode, body)
			}
		}
	}
	if res, _ := do(t, "POST", strings.Replace(link, "/"+a.ID+"/a%20b.txt", "", 1), strings.NewReader("x")); res.StatusCode != 401 {
		t.Errorf("upload with a link's signature: %d", res.StatusCode)
	}
	old, err := s.Link(t.Context(), a.ID, -2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if res, body := do(t, "GET", old, nil); res.StatusCode != 403 || !strings.Contains(body, `"expired"`) {
		t.Errorf("expired: %d %s", res.StatusCode, body)
	}
}

// What could run in our origin is handed out as bytes.
func TestActiveTypesAreDefused(t *testing.T) {
	t.Parallel()
	_, _, base := serve(t)
	for name, body := range map[string]string{
		"x.html": "<!DOCTYPE html><script>alert(1)</script>",
		"x.svg":  `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`,
		"x.xml":  `<?xml version="1.0"?><a/>`,
	} {
		u := upload(t, base, "?name="+name, body, "Content-Type", "text/html")
		res, _ := do(t, "GET", base+"/files/"+u.ID, nil, authorized...)
		if res.Header.Get("Content-Type") != "application/octet-stream" || !strings.HasPrefix(res.Header.Get("Content-Disposition"), "attachment") ||
			!strings.Contains(res.Header.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: %v", name, res.Header)
		}
	}
	u := upload(t, base, "?name=evil%E2%80%AEgpj.exe", "MZ", "Content-Type", "text/html")
	if strings.Contains(u.Mime, "html") || strings.ContainsRune(u.Name, '\u202e') {
		t.Errorf("uploaded = %+v", u)
	}
}
