package vk

import (
	"context"
	"time"

	"switchboard/channels"
)

const upkeepEvery = 10 * time.Minute

// UpkeepEvery implements channels.Keeper.
func (c *channel) UpkeepEvery() time.Duration { return upkeepEvery }

// Upkeep implements channels.Keeper, for callbacks: VK repeats one five times
// within two hours, then drops it, and stops calling an address that failed
// several times, all without a word. As long as VK says that the address fails,
// and once in the beginning, since nobody may have listened before, the messages
// of the last day are read from the chats. A long poll hears of its losses by
// itself. Errors are *message.Error.
func (c *channel) Upkeep(ctx context.Context) ([]channels.RawUpdate, error) {
	if c.mode != modeCallback {
		return nil, nil
	}
	s, err := c.callbackServer(ctx)
	well := err == nil && s.Status == callbackOK
	switch {
	case refused(err, 7, 15):
		well = true // the token may not look; somebody added the address by hand
	case err != nil:
		return nil, c.classify(err, true)
	case !well:
		if err := c.setCallback(ctx, s); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	due := !c.caughtUp || !well
	c.mu.Unlock()
	if !due {
		return nil, nil
	}
	events, err := c.missed(ctx)
	if err != nil {
		return nil, c.classify(err, true)
	}
	c.mu.Lock()
	c.caughtUp = well
	c.mu.Unlock()
	return rawUpdates(events), nil
}
