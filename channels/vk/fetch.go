package vk

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

func isWebAddress(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

// Fetch implements channels.Channel. ref is the address that came with the
// message: signed, for a while, without credentials.
func (c *channel) Fetch(ctx context.Context, ref string) (channels.Download, error) {
	none := channels.Download{}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, ref, http.NoBody)
	if err != nil || !isWebAddress(ref) {
		return none, fmt.Errorf("fetching file: not a web address: %w", channels.ErrFileGone)
	}
	res, err := c.env.Fetch.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the address is a key to the file
		}
		return none, fmt.Errorf("fetching file from %s: %w", errorHost(ref), err)
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		if s := res.StatusCode; s == http.StatusNotFound || s == http.StatusGone || s == http.StatusForbidden {
			// 403: the signature has run out.
			return none, fmt.Errorf("fetching file from %s: HTTP %d: %w", errorHost(ref), s, channels.ErrFileGone)
		}
		return none, fmt.Errorf("fetching file from %s: HTTP %d", errorHost(ref), res.StatusCode)
	}
	d := channels.Download{Body: res.Body, Size: res.ContentLength, Mime: res.Header.Get("Content-Type")}
	if d.Mime == "application/octet-stream" {
		d.Mime = "" // says nothing
	}
	if _, params, err := mime.ParseMediaType(res.Header.Get("Content-Disposition")); err == nil && params["filename"] != "" {
		d.Name = path.Base(params["filename"])
	} else if name := path.Base(req.URL.Path); path.Ext(name) != "" {
		d.Name = name
	}
	return d, nil
}

// errorHost is for messages about addresses: the host alone, since the rest of an
// upload's or a long poll's address is a key.
func errorHost(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "an address without host"
	}
	return u.Hostname()
}

// checkAddress is for addresses that VK hands out for uploads and long polls.
func checkAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return fmt.Errorf("VK gave %s", errorHost(address))
	}
	return nil
}
