package vk

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"switchboard/channels"
)

// Fetch implements channels.Channel. ref is the address that came with the
// message: signed, for a while, without credentials. VK answers 403 when the
// signature has run out.
func (c *channel) Fetch(ctx context.Context, ref string) (channels.Download, error) {
	return channels.FetchAddress(ctx, c.env.Fetch, ref, http.StatusForbidden)
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
	if channels.WebAddress(address) == nil {
		return fmt.Errorf("VK gave %s", errorHost(address))
	}
	return nil
}
