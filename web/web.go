// Package web serves the operators' desk: a page that was built from the
// TypeScript beside this file and is part of the binary.
//
// A binary that was built without Node has no desk; it says so, and how to get
// one.
package web

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed all:dist
var built embed.FS

// policy is the content security policy of the desk. Nothing comes from
// elsewhere, and nothing is inline: styles are set through the CSSOM. blob: is
// for files, which are fetched with the session and shown from memory.
const policy = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; " +
	"font-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// missing is the page of a binary without the desk.
const missing = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Switchboard</title>
<h1>Switchboard is running</h1>
<p>This binary was built without the operators' desk. To build one with it, run:</p>
<pre>make build</pre>
<p>Everything else works: the REST API under <code>/api/v1</code>, its description at <a href="/api/docs">/api/docs</a>,
and the operators' WebSocket at <code>/ws/v1</code>.</p>
<p lang="ru">Этот файл собран без рабочего места оператора. Соберите его командой <code>make build</code>.</p>
</html>
`

// Handler serves the desk. Paths without a file get the page itself, which
// knows what to show there, except below the prefixes of the other services
// (a mistyped API address must not be answered with a page) and where a file is
// clearly meant; those are 404.
//
// Files under assets/ carry a hash in their names and may be cached for ever,
// everything else is asked for again each time.
func Handler() http.Handler {
	dist, err := fs.Sub(built, "dist")
	if err != nil {
		panic(fmt.Sprintf("web: %v", err)) // the name is a constant
	}
	return &desk{dist}
}

// desk serves the files of a build.
type desk struct{ files fs.FS }

// others are the prefixes that belong to other handlers.
var others = []string{"/api/", "/files/", "/ws/", "/webhooks/"}

func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "the desk is only read", http.StatusMethodNotAllowed)
		return
	}
	clean := path.Clean("/" + r.URL.Path)
	for _, prefix := range others {
		if strings.HasPrefix(clean+"/", prefix) {
			http.NotFound(w, r)
			return
		}
	}
	name := strings.TrimPrefix(clean, "/")
	if name != "" && name != "index.html" && d.serve(w, r, name) {
		return
	}
	if path.Ext(name) != "" && name != "index.html" {
		http.NotFound(w, r)
		return
	}
	if d.serve(w, r, "index.html") {
		return
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/html; charset=utf-8")
	if r.Method == http.MethodGet {
		_, _ = io.WriteString(w, missing)
	}
}

// serve answers with a file, and reports false when there is none.
func (d *desk) serve(w http.ResponseWriter, r *http.Request, name string) bool {
	if strings.HasSuffix(name, ".gz") || strings.HasPrefix(path.Base(name), ".") {
		return false // compressed copies and the placeholder are ours
	}
	content, err := fs.ReadFile(d.files, name)
	if err != nil {
		// A folder's name is no file either.
		return false
	}
	h := w.Header()
	kind := types[path.Ext(name)]
	if kind == "" {
		kind = "application/octet-stream"
	}
	h.Set("Content-Type", kind)
	if strings.HasPrefix(name, "assets/") {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	if packed, err := fs.ReadFile(d.files, name+".gz"); err == nil {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r) {
			h.Set("Content-Encoding", "gzip")
			content = packed
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	// Embedded files have no times, so there is no Last-Modified.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	return true
}

// types are the media types of what a build consists of. Package mime would ask
// the machine's tables, which differ.
var types = map[string]string{
	".html":  "text/html; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".css":   "text/css; charset=utf-8",
	".svg":   "image/svg+xml",
	".png":   "image/png",
	".woff2": "font/woff2",
	".json":  "application/json",
	".txt":   "text/plain; charset=utf-8",
}

// acceptsGzip reads Accept-Encoding: the name alone or with a weight above 0.
func acceptsGzip(r *http.Request) bool {
	for _, item := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		coding, weight, _ := strings.Cut(item, ";")
		if strings.TrimSpace(coding) != "gzip" {
			continue
		}
		q, ok := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
		return !ok || strings.Trim(q, "0.") != ""
	}
	return false
}
