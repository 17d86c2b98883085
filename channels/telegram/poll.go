package telegram

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"switchboard/channels"
)

const (
	// pollWait is how long getUpdates waits for something to happen. The
	// platform takes up to 50 s; the longer, the fewer calls of idle bots, but
	// many proxies cut a silent connection at 60 s and some at 30.
	pollWait = 25 * time.Second
	// pollMargin is how much longer we wait for the answer itself.
	pollMargin = 10 * time.Second
	pollLimit  = 100 // updates a call, the most there is
)

// allowedUpdates is all that Decode has a use for. The platform remembers the
// list and would leave reactions out by default.
var allowedUpdates = []string{
	"message", "edited_message", "callback_query", "my_chat_member", "message_reaction",
	"business_connection", "business_message", "edited_business_message", "deleted_business_messages",
}

// Polls implements channels.Poller.
func (c *channel) Polls() bool { return c.mode == modePoll }

// Poll implements channels.Poller. offset is the first update id wanted, 0 in
// the beginning; asking for it makes the platform forget every lower one. next
// is the highest id of this answer plus one, which may be lower than offset:
// after a week without updates the platform goes on at a random id. It must be
// stored as it is, together with the updates.
func (c *channel) Poll(ctx context.Context, offset int64) ([]channels.RawUpdate, int64, error) {
	result, err := c.getUpdates(ctx, offset)
	if e, ok := errors.AsType[*callError](err); ok && e.is(409, webhookActive...) {
		// Left over from before, or set by hand; in this mode it has no right to be.
		if _, err := c.call(ctx, "deleteWebhook", nil); err != nil {
			return nil, offset, pollError(err)
		}
		result, err = c.getUpdates(ctx, offset)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, offset, fmt.Errorf("poll: %w", ctx.Err())
		}
		return nil, offset, pollError(err)
	}
	var pieces []json.RawMessage
	if err := json.Unmarshal(result, &pieces); err != nil {
		return nil, offset, &channels.PollError{Kind: channels.PollUnavailable, Detail: "the answer is not a list of updates"}
	}
	updates := make([]channels.RawUpdate, 0, len(pieces))
	next := int64(0)
	for _, raw := range pieces {
		u, err := rawUpdate(raw)
		if err != nil {
			// Not an update, but it must not stop the others: Decode will set it aside.
			sum := sha256.Sum256(raw)
			u = channels.RawUpdate{DedupKey: "sha256:" + hex.EncodeToString(sum[:]), Raw: raw}
		}
		updates = append(updates, u)
		next = max(next, u.Order+1)
	}
	if next <= 1 {
		next = offset
	}
	return updates, next, nil
}

func (c *channel) getUpdates(ctx context.Context, offset int64) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, pollWait+pollMargin)
	defer cancel()
	p := params{"limit": pollLimit, "timeout": int(pollWait / time.Second), "allowed_updates": allowedUpdates}
	if offset != 0 {
		p["offset"] = offset
	}
	return c.call(ctx, "getUpdates", p)
}
