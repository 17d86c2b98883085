package ok

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"

	"switchboard/channels"
)

// errPage says that an attachment's address shows a page and holds no file, as
// those of videos do.
var errPage = fmt.Errorf("the address is a page to watch it on, not the file: %w", channels.ErrFileGone)

// Fetch implements channels.Channel: ref is the address that came with the
// message. It needs no credentials; how long it works is not told.
func (c *channel) Fetch(ctx context.Context, ref string) (channels.Download, error) {
	u := webAddress(ref)
	if u == nil {
		return channels.Download{}, fmt.Errorf("fetching file: not a web address: %w", channels.ErrFileGone)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, ref, nil)
	if err != nil {
		return channels.Download{}, fmt.Errorf("fetching file: not a web address: %w", channels.ErrFileGone)
	}
	resp, err := c.env.Fetch.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the address is as good as a key to the file
		}
		return channels.Download{}, fmt.Errorf("fetching file from %s: %w", u.Hostname(), err)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode == http.StatusOK && kind == "text/html" && isPage(ref):
		err = errPage
	case resp.StatusCode == http.StatusOK:
		return channels.Download{Body: resp.Body, Size: resp.ContentLength, Mime: resp.Header.Get("Content-Type"), Name: downloadName(resp, req.URL)}, nil
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone:
		err = fmt.Errorf("HTTP %d: %w", resp.StatusCode, channels.ErrFileGone)
	default:
		err = fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	_ = resp.Body.Close()
	return channels.Download{}, fmt.Errorf("fetching file from %s: %w", u.Hostname(), err)
}

// downloadName is the name that the server gives, else the address's last
// element where it looks like a file.
func downloadName(resp *http.Response, u *url.URL) string {
	if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition")); err == nil && params["filename"] != "" {
		return path.Base(params["filename"])
	}
	if name := path.Base(u.Path); path.Ext(name) != "" {
		return name
	}
	return ""
}
