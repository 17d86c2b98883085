package mfms

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

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
		return channels.Download{}, fmt.Errorf("fetching file from %s: %w", u.Hostname(), channels.WithoutAddress(err))
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return channels.DownloadOf(resp, u), nil
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
