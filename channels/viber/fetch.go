package viber

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

// Fetch opens the address that came with a message. It works for an hour and
// without credentials; the mime type of the answer is better than the name.
func (c *channel) Fetch(ctx context.Context, ref string) (channels.Download, error) {
	if !isWebAddress(ref) {
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
		return channels.Download{}, fmt.Errorf("fetching file from %s: %w", req.URL.Hostname(), err)
	}
	if resp.StatusCode == http.StatusOK {
		return channels.Download{
			Body: resp.Body,
			Size: resp.ContentLength,
			Mime: resp.Header.Get("Content-Type"),
			Name: downloadName(resp, req.URL),
		}, nil
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		return channels.Download{}, fmt.Errorf("fetching file from %s: HTTP %d: %w", req.URL.Hostname(), resp.StatusCode, channels.ErrFileGone)
	default:
		return channels.Download{}, fmt.Errorf("fetching file from %s: HTTP %d", req.URL.Hostname(), resp.StatusCode)
	}
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
