package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func packed(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func built4test(t *testing.T) *desk {
	const script = "console.log('desk')"
	return &desk{fstest.MapFS{
		"index.html":            {Data: []byte("<title>desk</title>")},
		"favicon.svg":           {Data: []byte("<svg/>")},
		"assets/desk-1a.js":     {Data: []byte(script)},
		"assets/desk-1a.js.gz":  {Data: packed(t, script)},
		"assets/font-2b.woff2":  {Data: []byte("wOF2")},
		".gitkeep":              {Data: []byte("placeholder")},
		"assets/deeper/file.js": {Data: []byte("1")},
	}}
}

func get(h http.Handler, method, target, encoding string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	if encoding != "" {
		r.Header.Set("Accept-Encoding", encoding)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	h := built4test(t)
	for _, c := range []struct {
		method, path string
		status       int
		cache, kind  string
		body         string
	}{
		{"GET", "/", 200, "no-cache", "text/html; charset=utf-8", "<title>desk</title>"},
		{"GET", "/index.html", 200, "no-cache", "text/html; charset=utf-8", "<title>desk</title>"},
		{"GET", "/chats/42", 200, "no-cache", "text/html; charset=utf-8", "<title>desk</title>"},
		{"GET", "/apiary", 200, "no-cache", "text/html; charset=utf-8", "<title>desk</title>"},
		{"HEAD", "/", 200, "no-cache", "text/html; charset=utf-8", ""},
		{"GET", "/favicon.svg", 200, "no-cache", "image/svg+xml", "<svg/>"},
		{"GET", "/assets/desk-1a.js", 200, "public, max-age=31536000, immutable", "text/javascript; charset=utf-8", "console.log('desk')"},
		{"GET", "/assets/gone.js", 404, "", "", ""},
		{"GET", "/assets/desk-1a.js.gz", 404, "", "", ""},
		{"GET", "/.gitkeep", 404, "", "", ""},
		{"GET", "/../web.go", 404, "", "", ""},
		{"GET", "/api/v1/typo", 404, "", "", ""},
		{"GET", "/api", 404, "", "", ""},
		{"GET", "/files/x", 404, "", "", ""},
		{"GET", "/ws/v2", 404, "", "", ""},
		{"GET", "/webhooks/viber/1", 404, "", "", ""},
		{"POST", "/", 405, "", "", ""},
		{"DELETE", "/favicon.svg", 405, "", "", ""},
	} {
		w := get(h, c.method, c.path, "")
		if w.Code != c.status {
			t.Errorf("%s %s: status %d, want %d", c.method, c.path, w.Code, c.status)
			continue
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Content-Security-Policy": policy,
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s: %s is %q", c.method, c.path, name, got)
			}
		}
		if c.status != 200 {
			if strings.Contains(w.Body.String(), "<title>desk") {
				t.Errorf("%s %s: answered with the page", c.method, c.path)
			}
			continue
		}
		if got := w.Header().Get("Cache-Control"); got != c.cache {
			t.Errorf("%s %s: Cache-Control %q, want %q", c.method, c.path, got, c.cache)
		}
		if got := w.Header().Get("Content-Type"); got != c.kind {
			t.Errorf("%s %s: Content-Type %q, want %q", c.method, c.path, got, c.kind)
		}
		if got := w.Body.String(); got != c.body {
			t.Errorf("%s %s: body %q, want %q", c.method, c.path, got, c.body)
		}
	}
}

func TestPolicyHasNoInline(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"unsafe", "*", "http:", "https:"} {
		if strings.Contains(policy, bad) {
			t.Errorf("the policy allows %s", bad)
		}
	}
}

func TestGzip(t *testing.T) {
	t.Parallel()
	h := built4test(t)
	for encoding, want := range map[string]bool{
		"gzip": true, "br, gzip": true, "gzip;q=0.5": true, "deflate, gzip; q=1": true,
		"": false, "br": false, "gzip;q=0": false, "gzip; q=0.0": false, "identity": false,
	} {
		w := get(h, "GET", "/assets/desk-1a.js", encoding)
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("Accept-Encoding %q: gzip is %t, want %t", encoding, got, want)
		}
		if w.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: no Vary", encoding)
		}
		if got := w.Header().Get("Content-Type"); got != "text/javascript; charset=utf-8" {
			t.Errorf("Accept-Encoding %q: Content-Type %q", encoding, got)
		}
		body := io.Reader(w.Body)
		if want {
			z, err := gzip.NewReader(body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		}
		text, err := io.ReadAll(body)
		if err != nil || string(text) != "console.log('desk')" {
			t.Errorf("Accept-Encoding %q: body %q, %v", encoding, text, err)
		}
	}
	if w := get(h, "GET", "/assets/font-2b.woff2", "gzip"); w.Header().Get("Content-Encoding") != "" || w.Header().Get("Vary") != "" {
		t.Error("a file without a compressed copy was said to be compressed")
	}
}

func TestWithoutBuild(t *testing.T) {
	t.Parallel()
	h := &desk{fstest.MapFS{".gitkeep": {Data: []byte("placeholder")}}}
	w := get(h, "GET", "/", "")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "make build") {
		t.Errorf("status %d, body %q", w.Code, w.Body)
	}
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q: the page must not outlive the binary", got)
	}
	if w := get(h, "GET", "/api/v1/typo", ""); w.Code != http.StatusNotFound {
		t.Errorf("API path: status %d", w.Code)
	}
}

// TestEmbedded looks at what this very binary carries, built or not.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	w := get(Handler(), "GET", "/", "")
	if w.Code != http.StatusOK {
		t.Fatalf("status %d", w.Code)
	}
	if strings.Contains(w.Body.String(), "<script>") || strings.Contains(w.Body.String(), "<style") {
		t.Error("the page has inline code, which its policy forbids")
	}
}
