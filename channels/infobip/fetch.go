package infobip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"

	"switchboard/channels"
)

// Fetch implements channels.Channel: ref is the address that came with the
// message. The key goes along to api_base's host and Infobip's own only, lest a
// forged callback collects it, and never on to where a redirect leads.
// Files live 7 days; 15 of them a second may be read.
func (c *channel) Fetch(ctx context.Context, ref string) (channels.Download, error) {
	u, err := url.Parse(ref)
	if err != nil || channels.WebAddress(ref) == nil || u.User != nil {
		return channels.Download{}, fmt.Errorf("fetching file: not a web address: %w", channels.ErrFileGone)
	}
	client, ours := c.env.Fetch, c.isOurs(u)
	if ours {
		client = c.env.HTTP
	}
	resp, err := c.get(ctx, client, u, ours)
	if err == nil && ours && resp.StatusCode/100 == 3 {
		// To the storage, which needs no key; guarded like any outside address.
		_ = resp.Body.Close()
		var next *url.URL
		if next, err = u.Parse(resp.Header.Get("Location")); err != nil || channels.WebAddress(next.String()) == nil {
			return channels.Download{}, errors.New("fetching file: a redirect to nowhere")
		}
		resp, err = c.get(ctx, c.env.Fetch, next, false)
	}
	if err != nil {
		return channels.Download{}, err
	}
	if resp.StatusCode == http.StatusOK {
		kind := resp.Header.Get("Content-Type")
		if kind == "application/octet-stream" {
			kind = "" // says nothing
		}
		return channels.Download{Body: resp.Body, Size: resp.ContentLength, Mime: kind, Name: downloadName(resp)}, nil
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
	_ = resp.Body.Close()
	err = fmt.Errorf("fetching file: HTTP %d", resp.StatusCode)
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone {
		err = fmt.Errorf("fetching file: HTTP %d: %w", resp.StatusCode, channels.ErrFileGone)
	}
	return channels.Download{}, err
}

func (c *channel) get(ctx context.Context, client channels.Doer, u *url.URL, key bool) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("fetching file: not a web address: %w", channels.ErrFileGone)
	}
	if key {
		req.Header.Set("Authorization", "App "+c.key)
	}
	resp, err := client.Do(req)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // the address may be as good as a key to the file
		}
		return nil, fmt.Errorf("fetching file from %s: %w", u.Hostname(), err)
	}
	return resp, nil
}

// isOurs reports whether the key may be sent to u.
func (c *channel) isOurs(u *url.URL) bool {
	if u.Scheme == c.base.Scheme && strings.EqualFold(u.Host, c.base.Host) {
		return true
	}
	return u.Scheme == "https" && u.Port() == "" && strings.HasSuffix(strings.ToLower(u.Host), ".api.infobip.com")
}

// downloadName is the name that the server gives.
func downloadName(resp *http.Response) string {
	if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition")); err == nil && params["filename"] != "" {
		return path.Base(params["filename"])
	}
	return ""
}
