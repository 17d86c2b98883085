package viber

import (
	"context"

	"switchboard/channels"
)

// Fetch opens the address that came with a message. It works for an hour and
// without credentials; the mime type of the answer is better than the name.
func (c *channel) Fetch(ctx context.Context, ref string) (channels.Download, error) {
	return channels.FetchAddress(ctx, c.env.Fetch, ref)
}
