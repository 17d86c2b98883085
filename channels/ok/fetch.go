package ok

import (
	"context"
	"fmt"
	"mime"

	"switchboard/channels"
)

// Fetch implements channels.Channel: ref is the address that came with the
// message. It needs no credentials; how long it works is not told. Those of videos
// may show a page to watch them on, and hold no file.
func (c *channel) Fetch(ctx context.Context, ref string) (channels.Download, error) {
	d, err := channels.FetchAddress(ctx, c.env.Fetch, ref)
	if kind, _, _ := mime.ParseMediaType(d.Mime); err == nil && kind == "text/html" && isPage(ref) {
		_ = d.Body.Close()
		return channels.Download{}, fmt.Errorf("fetching file: the address is a page: %w", channels.ErrFileGone)
	}
	return d, err
}
