// Package web is the operators' desk: a single-page application, built into
// the binary, served with headers that let nothing but itself run.
package web

import (
	"bytes"
	"embed"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed all:dist
var dist embed.FS

const (
	// No inline scripts, nothing from elsewhere. Styles are allowed inline: the
	// component library sets element styles. Blobs are files fetched with the
	// session.
	policy = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; media-src 'self' blob:; " +
		"connect-src 'self' ws: wss:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
	unbuilt = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Switchboard</title>" +
		"<p>The desk is not built into this binary. Build it with <code>make build</code> (needs Node.js 20 or newer) and start again.</p></html>"
)

// Handler serves the desk: hashed assets for ever, the page itself never from a
// cache, and the page for every other address, since the application routes.
func Handler() http.Handler {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the embedded folder is always there
	}
	return handler(files)
}

func handler(files fs.FS) http.Handler {
	index, err := fs.ReadFile(files, "index.html")
	if err != nil {
		index = []byte(unbuilt)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		if name != "" && name != "index.html" && !strings.HasPrefix(path.Base(name), ".") {
			if body, err := fs.ReadFile(files, name); err == nil {
				if strings.HasPrefix(name, "assets/") {
					h.Set("Cache-Control", "public, max-age=31536000, immutable")
				} else {
					h.Set("Cache-Control", "public, max-age=3600")
				}
				http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(body))
				return
			}
			if strings.HasPrefix(name, "assets/") {
				http.Error(w, "no such asset", http.StatusNotFound)
				return
			}
		}
		h.Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "index.html", time.Time{}, bytes.NewReader(index))
	})
}
