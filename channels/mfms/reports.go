package mfms

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// Reports implements channels.Reporter: over XML many messages are asked about at
// once, in JSON one after another, no faster than messages are sent. Errors are
// *message.Error.
func (c *channel) Reports(ctx context.Context, messages []channels.Asked) (updates []channels.RawUpdate, err error) {
	var ids []string
	for i := range messages {
		ids = append(ids, messages[i].IDs...)
	}
	if c.hpx {
		for some := range slices.Chunk(ids, maxAsked) {
			got, failure := c.hpxReports(ctx, some)
			updates = append(updates, got...)
			if failure != nil {
				return updates, failure
			}
		}
		return updates, nil
	}
	for i, id := range ids {
		if i > 0 {
			channels.Sleep(ctx, time.Second/perSecond)
		}
		_, answer, failure := c.call(ctx, http.MethodGet, pathPoll+url.PathEscape(id), nil)
		if failure != nil {
			switch failure.Kind {
			case message.ErrInvalid, message.ErrRecipient: // of this message alone: it is not known
				continue
			}
			return updates, failure
		}
		var e envelope
		e.read(answer)
		if e.kind() == isReport && strings.EqualFold(string(e.message), id) && newer(string(e.state)) {
			updates = append(updates, c.update(&e, answer))
		}
	}
	return updates, nil
}
