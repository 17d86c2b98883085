package filestore_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"switchboard/filestore"
	"switchboard/internal/queue"
	"switchboard/internal/s3test"
)

// watched tells what a store is asked for, and can lose its objects.
type watched struct {
	filestore.Blobs
	mu    sync.Mutex
	asked []string
	away  bool
}

func (w *watched) note(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, what)
	if w.away {
		return errors.New("the store is away")
	}
	return nil
}

func (w *watched) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := strings.Join(w.asked, " ")
	w.asked = nil
	return got
}

func (w *watched) lose() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = true
}

func (w *watched) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := w.note(fmt.Sprintf("open:%d+%d", offset, length)); err != nil {
		return nil, err
	}
	return w.Blobs.Open(ctx, key, offset, length)
}

func (w *watched) Size(ctx context.Context, key string) (int64, error) {
	if err := w.note("size"); err != nil {
		return 0, err
	}
	return w.Blobs.Size(ctx, key)
}

const (
	digits = "0123456789abcdefghij"
	mega   = 1 << 20
)

// discard drops the log.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestRanges(t *testing.T) {
	t.Parallel()
	s3, err := filestore.NewS3(s3test.Shared(t, "ranges-"+strings.ToLower(rand.Text())))
	if err != nil {
		t.Fatal(err)
	}
	for name, blobs := range map[string]filestore.Blobs{"disk": filestore.NewDisk(t.TempDir()), "s3": s3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := blobs.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			store := &watched{Blobs: blobs}
			_, srv := serveWith(t, store, newIndex(), filestore.Config{}, discard())
			u := upload(t, srv.URL, "?name=a.bin", digits)
			etag := `"` + u.SHA256 + `"`
			for _, c := range []struct {
				name, method string
				header       []string
				status       int
				body, ranges string // ranges is Content-Range
				asked        string // of the store
			}{
				{"whole", "GET", nil, 200, digits, "", "open:0+20"},
				{"first", "GET", []string{"Range", "bytes=0-0"}, 206, "0", "bytes 0-0/20", "open:0+1"},
				{"middle", "GET", []string{"Range", "bytes=3-6"}, 206, "3456", "bytes 3-6/20", "open:3+4"},
				{"open end", "GET", []string{"Range", "bytes=17-"}, 206, "hij", "bytes 17-19/20", "open:17+3"},
				{"beyond", "GET", []string{"Range", "bytes=18-99"}, 206, "ij", "bytes 18-19/20", "open:18+2"},
				{"last", "GET", []string{"Range", "bytes=-4"}, 206, "ghij", "bytes 16-19/20", "open:16+4"},
				{"none", "GET", []string{"Range", "bytes=20-"}, 416, "", "bytes */20", ""},
				{"backwards", "GET", []string{"Range", "bytes=5-3"}, 416, "", "", ""},
				{"too many", "GET", []string{"Range", "bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14,16-16"}, 200, digits, "", "open:0+20"},
				{"if-range, same", "GET", []string{"Range", "bytes=1-2", "If-Range", etag}, 206, "12", "bytes 1-2/20", "open:1+2"},
				{"if-range, other", "GET", []string{"Range", "bytes=1-2", "If-Range", `"other"`}, 200, digits, "", "open:0+20"},
				{"not modified", "GET", []string{"If-None-Match", `"other", ` + etag}, 304, "", "", ""},
				{"modified", "GET", []string{"If-None-Match", `"other"`}, 200, digits, "", "open:0+20"},
				{"if-match, other", "GET", []string{"If-Match", `"other"`}, 412, "", "", ""},
				{"head", "HEAD", nil, 200, "", "", ""},
				{"head, range", "HEAD", []string{"Range", "bytes=3-6"}, 206, "", "bytes 3-6/20", ""},
			} {
				store.take()
				res, body := do(t, c.method, srv.URL+"/files/"+u.ID+"/a.bin", nil, append(c.header, authorized...)...)
				if res.StatusCode != c.status || (c.status < 400 && body != c.body) || res.Header.Get("Content-Range") != c.ranges {
					t.Errorf("%s: %d %q, Content-Range %q; want %d %q, %q", c.name, res.StatusCode, body, res.Header.Get("Content-Range"), c.status, c.body, c.ranges)
				}
				if c.status < 400 && res.Header.Get("ETag") != etag {
					t.Errorf("%s: ETag = %s", c.name, res.Header.Get("ETag"))
				}
				if c.status == 416 && (res.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, `"bad_range"`)) {
					t.Errorf("%s: %v %s", c.name, res.Header, body)
				}
				if asked := store.take(); asked != c.asked {
					t.Errorf("%s: the store was asked for %q, want %q", c.name, asked, c.asked)
				}
			}

			res, body := do(t, "GET", srv.URL+"/files/"+u.ID, nil, append([]string{"Range", "bytes=1-2,-3"}, authorized...)...)
			kind, params, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
			if res.StatusCode != 206 || err != nil || kind != "multipart/byteranges" {
				t.Fatalf("two ranges: %d %v", res.StatusCode, res.Header)
			}
			parts := multipart.NewReader(strings.NewReader(body), params["boundary"])
			for _, want := range []string{"bytes 1-2/20=12", "bytes 17-19/20=hij"} {
				part, err := parts.NextPart()
				if err != nil {
					t.Fatal(err)
				}
				bytes, _ := io.ReadAll(part)
				if got := part.Header.Get("Content-Range") + "=" + string(bytes); got != want {
					t.Errorf("part = %s, want %s", got, want)
				}
			}
		})
	}
}

// A store that is away is an error before the first byte, not a cut file that a
// cache would keep.
func TestObjectAway(t *testing.T) {
	t.Parallel()
	store := &watched{Blobs: filestore.NewDisk(t.TempDir())}
	_, srv := serveWith(t, store, newIndex(), filestore.Config{}, discard())
	u := upload(t, srv.URL, "", digits)
	store.lose()
	for _, ranges := range []string{"", "bytes=3-6", "bytes=1-2,4-5"} {
		res, body := do(t, "GET", srv.URL+"/files/"+u.ID, nil, append([]string{"Range", ranges}, authorized...)...)
		if res.StatusCode != 503 || !strings.Contains(body, `"unavailable"`) || res.Header.Get("ETag") != "" || res.Header.Get("Cache-Control") != "" || res.Header.Get("Content-Range") != "" {
			t.Errorf("range %q: %d %s %v", ranges, res.StatusCode, body, res.Header)
		}
	}
}

// An object that is shorter than its row says must not look whole.
func TestShortObject(t *testing.T) {
	t.Parallel()
	disk, log := filestore.NewDisk(t.TempDir()), &syncBuffer{}
	_, srv := serveWith(t, disk, newIndex(), filestore.Config{}, slog.New(slog.NewTextHandler(log, nil)))
	u := upload(t, srv.URL, "", digits)
	if err := disk.Put(t.Context(), "files/"+u.ID[len(u.ID)-2:]+"/"+u.ID, strings.NewReader("012"), 3, ""); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/files/"+u.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %q, %v; want an unexpected end", body, err)
	}
	srv.Close()
	if !strings.Contains(log.String(), u.ID) {
		t.Errorf("not logged: %s", log)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// raw opens a connection and sends lines and a body, which need not make sense.
func raw(t *testing.T, base, text string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ServeContent reads several ranges in a goroutine that may outlive the request.
func TestClientLeavesDuringRanges(t *testing.T) {
	t.Parallel()
	_, _, base := serve(t)
	u := upload(t, base, "", strings.Repeat("0123456789abcdef", 60000))
	for range 60 {
		conn := raw(t, base, "GET /files/"+u.ID+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nRange: bytes=0-300000,300001-600000,600001-950000\r\n\r\n")
		if _, err := conn.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if res, body := do(t, "GET", base+"/files/"+u.ID, nil, authorized...); res.StatusCode != 200 || len(body) != 960000 {
		t.Errorf("after that: %d, %d bytes", res.StatusCode, len(body))
	}
}

// filesIn counts regular files below a folder.
func filesIn(t *testing.T, dir string) (n int) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			n++
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCutUploadLeavesNothing(t *testing.T) {
	t.Parallel()
	dir, idx := t.TempDir(), newIndex()
	_, srv := serveWith(t, filestore.NewDisk(dir), idx, filestore.Config{}, discard())
	const head = "POST /files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n"
	for _, length := range []int{10, 5000, 100_000} { // within what is sniffed, within a buffer, beyond
		body := strings.Repeat("x", length)
		part := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n" + body
		for _, text := range []string{
			head + "Content-Length: 1000000\r\n\r\n" + body,
			head + "Transfer-Encoding: chunked\r\n\r\n" + strconv.FormatInt(int64(length), 16) + "\r\n" + body + "\r\n",
			head + "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n" + part,
			head + "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: " + strconv.Itoa(len(part)) + "\r\n\r\n" + part,
		} {
			conn := raw(t, srv.URL, text)
			// The client can still read: it hears what was wrong.
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("%.200s: %v", text, err)
			}
			answer, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != 400 || !bytes.Contains(answer, []byte(`"bad_request"`)) {
				t.Errorf("%.200s: %d %s, want 400", text, res.StatusCode, answer)
			}
		}
	}
	srv.Close() // waits for the handlers
	if n := filesIn(t, dir); n != 0 || len(idx.files) != 0 {
		t.Errorf("%d files and %d rows were left", n, len(idx.files))
	}
}

func TestStalledUpload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, srv := serveWith(t, filestore.NewDisk(dir), newIndex(), filestore.Config{Idle: 50 * time.Millisecond}, discard())
	conn := raw(t, srv.URL, "POST /files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 9000))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestTimeout {
		t.Errorf("answer = %s", res.Status)
	}
	srv.Close()
	if n := filesIn(t, dir); n != 0 {
		t.Errorf("%d files were left", n)
	}
}

// slowIndex takes longer to write a row than an upload may stand still.
type slowIndex struct {
	*index
	wait time.Duration
}

func (s slowIndex) AddFile(ctx context.Context, f queue.StoredFile) error {
	select {
	case <-time.After(s.wait):
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.index.AddFile(ctx, f)
}

// Only the client's silence counts, not our own slowness behind the last byte.
func TestSlowStoreIsNoStall(t *testing.T) {
	t.Parallel()
	const idle = 50 * time.Millisecond
	_, srv := serveWith(t, filestore.NewDisk(t.TempDir()), slowIndex{newIndex(), 3 * idle}, filestore.Config{Idle: idle}, discard())
	u := upload(t, srv.URL, "", digits)
	client := srv.Client() // one connection: a deadline left on it would show
	for range 2 {
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/files/"+u.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer good")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(body) != digits {
			t.Errorf("download = %q, %v", body, err)
		}
		<-time.After(2 * idle)
	}
}

func TestStalledDownload(t *testing.T) {
	t.Parallel()
	s, srv := serveWith(t, filestore.NewDisk(t.TempDir()), newIndex(), filestore.Config{Idle: 50 * time.Millisecond}, discard())
	// More than the buffers of two sockets hold.
	f, err := s.Save(t.Context(), "operator:1", "a", "", io.LimitReader(zeros{}, 32*mega))
	if err != nil {
		t.Fatal(err)
	}
	conn := raw(t, srv.URL, "GET /files/"+f.ID+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n")
	if _, err := conn.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() { srv.Close(); close(closed) }() // waits for the handler
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("a client that does not read holds its handler")
		conn.Close()
		<-closed
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type brokenIndex struct{ *index }

func (brokenIndex) AddFile(context.Context, queue.StoredFile) error { return errors.New("no database") }

func TestUploadWithoutARowLeavesNoObject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, srv := serveWith(t, filestore.NewDisk(dir), brokenIndex{newIndex()}, filestore.Config{}, discard())
	if res, body := do(t, "POST", srv.URL+"/files", strings.NewReader(digits), authorized...); res.StatusCode != 503 || !strings.Contains(body, `"unavailable"`) {
		t.Errorf("answer = %d %s", res.StatusCode, body)
	}
	if n := filesIn(t, dir); n != 0 {
		t.Errorf("%d files were left", n)
	}
}

func TestUploadName(t *testing.T) {
	t.Parallel()
	_, _, base := serve(t)
	for disposition, want := range map[string]string{
		`attachment; filename="a b.txt"`:          "a b.txt",
		`attachment; filename*=UTF-8''%D0%B0.txt`: "а.txt",
		`attachment; filename="../../etc/passwd"`: "passwd.txt",
		`attachment`: "file.txt",
		`;;;`:        "file.txt",
		`attachment; filename="a` + "\t" + `b` + `.txt"`:      "ab.txt",
		`attachment; filename="C:\\Users\\me\\Report 1.docx"`: "Report 1.docx",
	} {
		if u := upload(t, base, "", "plain words", "Content-Disposition", disposition); u.Name != want {
			t.Errorf("%s: name = %q, want %q", disposition, u.Name, want)
		}
	}
}

func TestSaveFetched(t *testing.T) {
	t.Parallel()
	const id = "0198aaaa-0000-7000-8000-000000000001"
	s, _, _ := serve(t)
	read := func() string {
		r, err := s.Open(t.Context(), id)
		if err != nil {
			return err.Error()
		}
		defer r.Close()
		b, _ := io.ReadAll(r)
		return string(b)
	}
	if _, err := s.Open(t.Context(), id); !errors.Is(err, filestore.ErrNoBlob) {
		t.Errorf("open before: %v, want ErrNoBlob", err)
	}
	for _, body := range []string{"first run", "second"} {
		f, err := s.SaveFetched(t.Context(), id, "", "text/csv", strings.NewReader(body), 100)
		if err != nil || f.ID != id || f.Size != int64(len(body)) || f.Name != "file.csv" || f.Mime != "text/csv" {
			t.Errorf("saved = %+v, %v", f, err)
		}
	}
	if _, err := s.SaveFetched(t.Context(), id, "", "", strings.NewReader(strings.Repeat("x", 101)), 100); !s.IsTooLarge(fmt.Errorf("wrapped: %w", err)) {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := s.SaveFetched(t.Context(), id, "", "", strings.NewReader(strings.Repeat("x", 100)), 100); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	for _, before := range []int64{0, 10, 3072, 100_000} {
		_, err := s.SaveFetched(t.Context(), id, "", "", io.MultiReader(io.LimitReader(zeros{}, before), cut{}), mega)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes: %v", before, err)
		}
	}
	if got := read(); got != strings.Repeat("x", 100) {
		t.Errorf("after failures: %q", got)
	}
	if _, err := s.SaveFetched(t.Context(), id, "", "", strings.NewReader(""), 100); !errors.Is(err, filestore.ErrEmpty) {
		t.Errorf("empty: %v", err)
	}
	if _, err := s.SaveFetched(t.Context(), "../../etc", "", "", strings.NewReader("x"), 100); err == nil {
		t.Error("an id that is a path was taken")
	}
}

// cut ends as a connection does that was lost, once: a reader that is asked again
// looks finished.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestContentType(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ head, claimed, want string }{
		{png, "", "image/png"},
		{png, "text/html", "image/png"},
		{png, "application/octet-stream", "image/png"},
		{"a,b\n1,2\n", "application/vnd.ms-excel", "text/csv"},
		{"some words", "text/markdown; charset=utf-8", "text/markdown"},
		{"some words", "text/html", "text/plain; charset=utf-8"},
		{"some words", "image/svg+xml", "text/plain; charset=utf-8"},
		{"some words", "text/javascript", "text/plain; charset=utf-8"},
		{"some words", "nonsense", "text/plain; charset=utf-8"},
		{"some words", "x/" + strings.Repeat("y", 300), "text/plain; charset=utf-8"},
		{"<html><script>", "image/png", "text/html; charset=utf-8"},
		{"\x00\x01\x02\x03", "audio/amr", "audio/amr"},
		{"OggS\x00\x02" + strings.Repeat("\x00", 22) + "\x01\x13OpusHead", "audio/ogg", "audio/ogg"},
		{"MZ" + strings.Repeat("\x00", 100), "image/png", "application/vnd.microsoft.portable-executable"},
	} {
		if got := filestore.ContentType([]byte(c.head), c.claimed); got != c.want {
			t.Errorf("%q claimed as %q: %s, want %s", c.head[:min(10, len(c.head))], c.claimed, got, c.want)
		}
	}
}

// What a browser shows in place must be shown: a page of a sound or a film is
// refused by a policy that forbids media, and a PDF by any.
func TestInlinePolicies(t *testing.T) {
	t.Parallel()
	_, _, base := serve(t)
	for name, c := range map[string]struct{ body, policy string }{
		"a.png": {png, "media-src 'self'"},
		"a.wav": {"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00", "media-src 'self'"},
		"a.pdf": {"%PDF-1.4\n", ""},
	} {
		u := upload(t, base, "?name="+name, c.body)
		res, _ := do(t, "GET", base+"/files/"+u.ID, nil, authorized...)
		policy := res.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(res.Header.Get("Content-Disposition"), "inline") || !strings.Contains(policy, c.policy) || strings.Contains(policy, "sandbox") || (c.policy == "") != (policy == "") {
			t.Errorf("%s: %v", name, res.Header)
		}
	}
}

func TestS3LeavesNoUnfinishedUploads(t *testing.T) {
	t.Parallel()
	s3, err := filestore.NewS3(s3test.Shared(t, "unfinished-"+strings.ToLower(rand.Text())))
	if err != nil {
		t.Fatal(err)
	}
	if err := s3.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, end := range []io.Reader{cut{}, reading(cancel)} {
		if err := s3.Put(ctx, "files/ab/half", io.MultiReader(io.LimitReader(zeros{}, 20*mega), end, zeros{}), -1, ""); err == nil {
			t.Error("put succeeded")
		}
	}
	if left, err := s3.Unfinished(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("unfinished: %v, %v", left, err)
	}
	// What a killed process left is freed when it is old.
	if err := s3.Begin(t.Context(), "files/ab/killed"); err != nil {
		t.Fatal(err)
	}
	if err := s3.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := s3.Unfinished(t.Context()); err != nil || len(left) != 1 {
		t.Errorf("unfinished: %v, %v; want the fresh one kept", left, err)
	}
	s3.AbortAbandoned(t.Context(), time.Now().Add(time.Hour))
	if left, err := s3.Unfinished(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("unfinished: %v, %v", left, err)
	}
}

// reading does something when it is reached, and ends.
type reading func()

func (r reading) Read([]byte) (int, error) { r(); return 0, io.EOF }

func TestDiskClearsAbandonedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := filestore.NewDisk(dir)
	if err := d.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"put-old": 25 * time.Hour, "put-new": time.Hour} {
		path := filepath.Join(dir, ".incomplete", name)
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, ".incomplete"))
	if err != nil || len(left) != 1 || left[0].Name() != "put-new" {
		t.Errorf("left = %v, %v", left, err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := filestore.New(filestore.NewDisk(t.TempDir()), newIndex(), filestore.Config{}, discard()); err == nil {
		t.Error("a store without a key was made")
	}
	for _, cfg := range []filestore.S3Config{{Endpoint: "127.0.0.1:9000"}, {Bucket: "b"}, {Endpoint: "http://127.0.0.1/path", Bucket: "b"}} {
		if _, err := filestore.NewS3(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

// Any name becomes one that can stand in a path, a header and a folder, and comes
// back out of the header as it went in.
func FuzzFileName(f *testing.F) {
	for _, name := range []string{"", ".", "..", "a.txt", "../../etc/passwd", `C:\a\b.doc`, "фото.png", "evil\u202egpj.exe", "a\r\nSet-Cookie: x", `q"uo"te.txt`, strings.Repeat("я", 200) + ".jpeg",
		strings.Repeat("x", 300), "a.\xff\xfe", "tab\t.txt", "%2e%2e%2f", ".bashrc", "name. ", "a;b=c.txt", "a/.b"} {
		f.Add(name, "image/png")
	}
	f.Fuzz(func(t *testing.T, name, kind string) {
		got := filestore.FileName(name, kind)
		if !utf8.ValidString(got) || len(got) == 0 || len(got) > 170 || strings.ContainsAny(got, "/\\\r\n\x00\"") || strings.Trim(got, ". ") != got {
			t.Errorf("%q became %q", name, got)
		}
		if again := filestore.FileName(got, kind); again != got {
			t.Errorf("%q became %q, and that %q", name, got, again)
		}
		for _, inline := range []bool{true, false} {
			_, params, err := mime.ParseMediaType(filestore.Disposition(got, inline))
			if err != nil || params["filename"] != got {
				t.Errorf("disposition of %q reads as %q, %v", got, params["filename"], err)
			}
		}
	})
}

// silentIndex is a database that never answers.
type silentIndex struct{ *index }

func (silentIndex) File(ctx context.Context, _ string) (queue.StoredFile, error) {
	<-ctx.Done()
	return queue.StoredFile{}, ctx.Err()
}

func (silentIndex) AddFile(ctx context.Context, _ queue.StoredFile) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestSilentDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, srv := serveWith(t, filestore.NewDisk(dir), silentIndex{newIndex()}, filestore.Config{Ask: 50 * time.Millisecond}, discard())
	if res, body := do(t, "GET", srv.URL+"/files/0198aaaa-0000-7000-8000-000000000000", nil, authorized...); res.StatusCode != 503 {
		t.Errorf("download: %d %s", res.StatusCode, body)
	}
	if res, body := do(t, "POST", srv.URL+"/files", strings.NewReader("x"), authorized...); res.StatusCode != 503 {
		t.Errorf("upload: %d %s", res.StatusCode, body)
	}
	if n := filesIn(t, dir); n != 0 {
		t.Errorf("%d files were left", n)
	}
}
