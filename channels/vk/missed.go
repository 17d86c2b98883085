package vk

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

const (
	// missedChats bounds the chats that are looked into after a loss, the newest
	// ones; each costs a call.
	missedChats = 500
	missedPage  = 200 // chats or messages in one answer, VK's most
	// missedMessages bounds what is read of one chat.
	missedMessages = 1000
	// missedAge bounds how old a lost message may be; none is older than the account.
	missedAge = 24 * time.Hour
	// missedPace leaves half of VK's 20 calls a second to what is sent meanwhile.
	missedPace = 100 * time.Millisecond
)

// missed reads again what was written in the last day, after events were lost:
// also in chats that were answered since, by us or by a campaign. Most of it is
// known; the dedup keys of messages, which are made of chat and number, sort that
// out. Without the right to read there is nothing.
func (c *channel) missed(ctx context.Context) ([]json.RawMessage, error) {
	since := c.now().Add(-missedAge)
	if made := channels.MadeAt(c.account.ID); made.After(since) {
		since = made
	}
	peers, err := c.busyChats(ctx, since)
	if err != nil {
		return nil, c.unlessPasses(err)
	}
	var events []json.RawMessage
	for _, peer := range peers {
		written, err := c.chatSince(ctx, peer, since)
		if err := c.unlessPasses(err); err != nil {
			return nil, err
		}
		events = append(events, written...)
	}
	return events, nil
}

// unlessPasses lets a refusal be, and keeps an error that may pass: then the old
// cursor stays, and the loss is heard of again.
func (c *channel) unlessPasses(err error) error {
	if e, ok := errors.AsType[*callError](err); ok && e.code != 0 {
		switch c.classify(err, true).Kind {
		case message.ErrThrottled, message.ErrUnavailable:
		default:
			return nil
		}
	}
	return err
}

// paced makes one of many calls in a row.
func (c *channel) paced(ctx context.Context, method string, params url.Values) (json.RawMessage, error) {
	if !c.wait(ctx, missedPace) {
		return nil, ctx.Err()
	}
	params.Set("group_id", number(c.group))
	params.Set("count", strconv.Itoa(missedPage))
	return c.patiently(ctx, method, params)
}

// busyChats are the chats in which something was written since a time.
func (c *channel) busyChats(ctx context.Context, since time.Time) (peers []int64, err error) {
	for offset := 0; ; offset += missedPage {
		raw, err := c.paced(ctx, "messages.getConversations", url.Values{"filter": {"all"}, "offset": {strconv.Itoa(offset)}})
		if err != nil {
			return nil, err
		}
		var page struct {
			Items []struct {
				Conversation struct {
					Peer struct {
						ID int64 `json:"id"`
					} `json:"peer"`
				} `json:"conversation"`
				Last struct {
					Date int64 `json:"date"`
				} `json:"last_message"`
			} `json:"items"`
		}
		if lenient(raw, &page) != nil {
			return peers, nil
		}
		before := len(peers)
		for _, item := range page.Items {
			peer, last := item.Conversation.Peer.ID, at(item.Last.Date)
			if peer != 0 && (last.IsZero() || last.After(since)) && !slices.Contains(peers, peer) {
				peers = append(peers, peer)
			}
		}
		if len(page.Items) < missedPage || len(peers) == before || len(peers) >= missedChats {
			return peers[:min(len(peers), missedChats)], nil // the newest come first
		}
	}
}

// chatSince makes events of what a chat holds since a time, in its order.
func (c *channel) chatSince(ctx context.Context, peer int64, since time.Time) (events []json.RawMessage, err error) {
	defer func() { slices.Reverse(events) }() // the history begins with the newest
	for offset := 0; offset < missedMessages; offset += missedPage {
		raw, err := c.paced(ctx, "messages.getHistory", url.Values{"peer_id": {number(peer)}, "offset": {strconv.Itoa(offset)}})
		if err != nil {
			return nil, err
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
		}
		if lenient(raw, &page) != nil {
			return events, nil
		}
		for _, item := range page.Items {
			var m struct {
				Out     flag  `json:"out"`
				FromID  int64 `json:"from_id"`
				Date    int64 `json:"date"`
				AdminID int64 `json:"admin_author_id"`
			}
			if lenient(item, &m) != nil {
				continue
			}
			if t := at(m.Date); !t.IsZero() && !t.After(since) {
				return events, nil
			}
			var e []byte
			switch {
			case !bool(m.Out) && m.FromID != -c.group:
				e, err = json.Marshal(map[string]any{"type": eventMessage, "object": map[string]any{"message": item}})
			case m.AdminID != 0:
				e, err = json.Marshal(map[string]any{"type": eventReply, "object": item})
			default:
				continue // ours
			}
			if err == nil {
				events = append(events, e)
			}
		}
		if len(page.Items) < missedPage {
			break
		}
	}
	return events, nil
}
