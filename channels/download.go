package channels

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
)

// FetchAddress opens a file by the address that came with a message, without
// credentials. Errors name the host alone, since the rest of the address is as good
// as a key to the file. They are ErrFileGone for what is no address of the web, for
// 404 and 410, and for the statuses in gone.
func FetchAddress(ctx context.Context, client Doer, address string, gone ...int) (Download, error) {
	u := WebAddress(address)
	if u == nil {
		return Download{}, fmt.Errorf("fetching file: not a web address: %w", ErrFileGone)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return Download{}, fmt.Errorf("fetching file: not a web address: %w", ErrFileGone)
	}
	resp, err := client.Do(req)
	if err != nil {
		return Download{}, fmt.Errorf("fetching file from %s: %w", u.Hostname(), WithoutAddress(err))
	}
	if resp.StatusCode == http.StatusOK {
		return DownloadOf(resp, u), nil
	}
	_ = resp.Body.Close()
	err = fmt.Errorf("HTTP %d", resp.StatusCode)
	if s := resp.StatusCode; s == http.StatusNotFound || s == http.StatusGone || slices.Contains(gone, s) {
		err = fmt.Errorf("%w: %w", err, ErrFileGone)
	}
	return Download{}, fmt.Errorf("fetching file from %s: %w", u.Hostname(), err)
}

// DownloadOf is the file in a good answer. Its name is the one that the server
// gives, else the last element of the address where it looks like a file.
func DownloadOf(resp *http.Response, u *url.URL) Download {
	d := Download{Body: resp.Body, Size: resp.ContentLength, Mime: resp.Header.Get("Content-Type")}
	if d.Mime == "application/octet-stream" {
		d.Mime = "" // says nothing
	}
	if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition")); err == nil && params["filename"] != "" {
		d.Name = path.Base(params["filename"])
	} else if name := path.Base(u.Path); path.Ext(name) != "" {
		d.Name = name
	}
	return d
}
