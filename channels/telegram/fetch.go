package telegram

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"

	"switchboard/channels"
)

// Fetch implements channels.Channel. ref is a file_id. The address of the bytes
// is asked for each time, since it holds for an hour only.
func (c *channel) Fetch(ctx context.Context, ref string) (channels.Download, error) {
	result, err := c.call(ctx, "getFile", params{"file_id": ref})
	if e, ok := errors.AsType[*callError](err); ok {
		switch {
		case e.is(400, fileTooLarge...):
			return channels.Download{}, fmt.Errorf("%w: %s", channels.ErrFileTooLarge, e.description)
		case e.is(400, fileMissing...):
			// A miss of their storage, which passes; the next case has some of its words.
			return channels.Download{}, e
		case e.is(400, fileGone...):
			return channels.Download{}, fmt.Errorf("%w: %s", channels.ErrFileGone, e.description)
		}
	}
	if err != nil {
		return channels.Download{}, err
	}
	var f struct {
		Path string `json:"file_path"`
	}
	if err := lenient(result, &f); err != nil || f.Path == "" {
		return channels.Download{}, fmt.Errorf("telegram getFile: no file_path in the answer")
	}
	if filepath.IsAbs(f.Path) && c.local != "" {
		return c.openLocal(f.Path)
	}
	return c.download(ctx, f.Path)
}

// openLocal opens a file that a private server has put on the shared disk. The
// path is the server's word: nothing outside of its folder is opened.
func (c *channel) openLocal(absolute string) (channels.Download, error) {
	rel, err := filepath.Rel(c.local, absolute)
	if err != nil || !filepath.IsLocal(rel) {
		return channels.Download{}, errors.New("telegram getFile: the file is outside of the folder in setting local")
	}
	f, err := os.OpenInRoot(c.local, rel)
	if errors.Is(err, fs.ErrNotExist) {
		return channels.Download{}, fmt.Errorf("%w: not in the server's folder", channels.ErrFileGone)
	}
	if err != nil {
		return channels.Download{}, fmt.Errorf("opening a file of the private server: %w", errors.New(c.redact(err.Error())))
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return channels.Download{}, errors.New("telegram getFile: not a regular file in the server's folder")
	}
	return channels.Download{Body: f, Size: info.Size(), Name: path.Base(rel)}, nil
}

func (c *channel) download(ctx context.Context, filePath string) (channels.Download, error) {
	u, err := url.Parse(c.fileBase)
	if err != nil {
		return channels.Download{}, err
	}
	u = u.JoinPath("bot"+c.token, filePath)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return channels.Download{}, fmt.Errorf("building the download: %w", c.clean(err))
	}
	res, err := c.env.HTTP.Do(req)
	if err != nil {
		return channels.Download{}, fmt.Errorf("downloading a file: %w", c.clean(err))
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		// A 404 included: getFile has just vouched for the file.
		return channels.Download{}, fmt.Errorf("downloading a file: status %d", res.StatusCode)
	}
	d := channels.Download{Body: res.Body, Size: res.ContentLength, Mime: res.Header.Get("Content-Type"), Name: path.Base(filePath)}
	if d.Mime == "application/octet-stream" {
		d.Mime = "" // says nothing
	}
	return d, nil
}
