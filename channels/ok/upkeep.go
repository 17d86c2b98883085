package ok

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

const (
	upkeepEvery = 10 * time.Minute
	// longest is how far back a hole is filled when nobody knows since when: OK
	// drops a subscription after 8 hours without a good answer.
	longest = 24 * time.Hour
	// overlap covers what was on its way at the time.
	overlap = upkeepEvery + 5*time.Minute
	// maxChats bounds one filling.
	maxChats = 300
)

// UpkeepEvery implements channels.Keeper.
func (c *channel) UpkeepEvery() time.Duration { return upkeepEvery }

// Upkeep implements channels.Keeper: it asks whether OK still calls us. If not
// it subscribes again and returns what customers wrote meanwhile, from the
// chats' history; what came by webhook already has the same dedup keys. So it does
// in the beginning, too: nobody may have listened before, and how long OK repeats
// a callback is not told.
func (c *channel) Upkeep(ctx context.Context) ([]channels.RawUpdate, error) {
	found, _, failure := c.subscribe(ctx)
	if failure != nil {
		return nil, failure
	}
	now := c.now()
	c.mu.Lock()
	if (!found || c.kept.IsZero()) && c.hole.IsZero() {
		c.hole = latest(c.kept.Add(-overlap), now.Add(-longest), channels.MadeAt(c.account.ID))
	}
	c.kept = now
	since := c.hole
	c.mu.Unlock()
	if since.IsZero() {
		return nil, nil
	}
	missed, failure := c.history(ctx, since)
	if failure != nil {
		return missed, failure // the hole stays to be filled the next time
	}
	c.mu.Lock()
	c.hole = time.Time{}
	c.mu.Unlock()
	return missed, nil
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}

// history reads the customers' messages since a time, of all chats.
func (c *channel) history(ctx context.Context, since time.Time) (all []channels.RawUpdate, failure *message.Error) {
	marker := ""
	for seen := 0; seen < maxChats; {
		query := url.Values{"count": {chatsOfPage}}
		if marker != "" {
			query.Set("marker", marker)
		}
		var page chatsPage
		if failure := c.paced(ctx, request{method: http.MethodGet, path: "/me/chats", query: query}, &page); failure != nil {
			return all, failure
		}
		for _, chat := range page.Chats {
			seen++
			if last := chat.Last.Int(); last > 0 && last < since.UnixMilli() {
				return all, nil // newest first: the rest is older
			}
			if chat.Type == groupChat {
				continue
			}
			if to, err := recipient(string(chat.ID)); err != nil || to.Chat == "" {
				continue
			}
			missed, failure := c.chatHistory(ctx, string(chat.ID), since)
			if all = append(all, missed...); failure != nil {
				return all, failure
			}
		}
		if marker = string(page.Marker); marker == "" || len(page.Chats) == 0 {
			break
		}
	}
	return all, nil
}

func (c *channel) chatHistory(ctx context.Context, chat string, since time.Time) (missed []channels.RawUpdate, failure *message.Error) {
	var page struct {
		Messages []json.RawMessage `json:"messages"`
	}
	if failure := c.paced(ctx, request{method: http.MethodGet, path: "/me/messages/" + chat, query: url.Values{"count": {messagesOfPage}}}, &page); failure != nil {
		return nil, failure
	}
	for _, raw := range page.Messages {
		var item callback
		var m received
		if channels.DecodeLenient(raw, &item) != nil || channels.DecodeLenient(item.Message, &m) != nil || m.Mid == "" {
			continue
		}
		at := instant(item.Time.Int())
		// Service events of old stand in the history as texts of JSON.
		if item.Sender.ID == "" || strings.HasPrefix(string(item.Sender.ID), "group:") || at.Before(since) || strings.HasPrefix(string(m.Text), `{"ty":`) {
			continue
		}
		if item.Recipient.Chat == "" {
			// Of a chat that was asked for by name.
			var fields map[string]json.RawMessage
			if json.Unmarshal(raw, &fields) != nil {
				continue
			}
			fields["recipient"], _ = json.Marshal(map[string]string{"chat_id": chat})
			raw, _ = json.Marshal(fields)
		}
		pieces, err := c.Split(raw)
		if err != nil {
			continue
		}
		missed = append(missed, pieces...)
	}
	slices.SortStableFunc(missed, func(a, b channels.RawUpdate) int {
		switch {
		case a.Order < b.Order:
			return -1
		case a.Order > b.Order:
			return 1
		}
		return 0
	})
	return missed, nil
}

// paced makes a call and leaves room for the sends beside it.
func (c *channel) paced(ctx context.Context, r request, answer any) *message.Error {
	failure := c.call(ctx, r, answer)
	if failure == nil && !c.wait(ctx, 2*time.Second/perSecond) {
		return &message.Error{Kind: message.ErrUnavailable, Detail: "stopped", Err: ctx.Err()}
	}
	return failure
}
