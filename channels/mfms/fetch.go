package mfms

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

// Fetch implements channels.Channel: ref is the address that came with the
// message, fetched without credentials. When the API's own host asks for them, it
// gets them.
func (c *channel) Fetch(ctx context.Context, ref string) (channels.Download, error) {
	u, err := url.Parse(ref)
	if err != nil || !isWeb(ref) {
		return channels.Download{}, fmt.Errorf("fetching file: not a web address: %w", channels.ErrFileGone)
	}
	resp, err := fetch(ctx, c.env.Fetch, u, nil)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && u.Scheme == c.base.Scheme && u.Host == c.base.Host {
		_ = resp.Body.Close()
		// Over the client that follows no redirects: they would carry the key away.
		resp, err = fetch(ctx, c.env.HTTP, u, func(h http.Header) { authorise(h, c.login, c.password) })
	}
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the address is as good as a key to the file
		}
		return channels.Download{}, fmt.Errorf("fetching file from %s: %w", u.Hostname(), err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return channels.Download{Body: resp.Body, Size: resp.ContentLength, Mime: resp.Header.Get("Content-Type"), Name: downloadName(resp, u)}, nil
	case http.StatusNotFound, http.StatusGone:
		err = fmt.Errorf("HTTP %d: %w", resp.StatusCode, channels.ErrFileGone)
	default:
		err = fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	_ = resp.Body.Close()
	return channels.Download{}, fmt.Errorf("fetching file from %s: %w", u.Hostname(), err)
}

func fetch(ctx context.Context, client channels.Doer, u *url.URL, prepare func(http.Header)) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if prepare != nil {
		prepare(req.Header)
	}
	return client.Do(req)
}

// downloadName is the name that the server gives, else the address's last element
// where it looks like a file.
func downloadName(resp *http.Response, u *url.URL) string {
	if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition")); err == nil && params["filename"] != "" {
		return path.Base(params["filename"])
	}
	if name := path.Base(u.Path); path.Ext(name) != "" {
		return name
	}
	return ""
}
