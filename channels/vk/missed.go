package vk

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"time"

	"switchboard/message"
)

const (
	missedChats    = 100 // chats looked into after a loss, a call each
	missedMessages = 100 // newest messages of each
	// missedAge bounds how old a lost message may be: what nobody answered weeks
	// ago, perhaps before the account was set up here, is no news.
	missedAge = 24 * time.Hour
)

// missed reads again what customers wrote and nobody has answered, after the long
// poll lost events. Most of it is known: the dedup keys of messages, which are made
// of chat and number, sort that out. Without the right to read there is nothing.
func (c *channel) missed(ctx context.Context) ([]json.RawMessage, error) {
	raw, err := c.call(ctx, "messages.getConversations", url.Values{
		"filter": {"unanswered"}, "count": {strconv.Itoa(missedChats)}, "group_id": {number(c.group)},
	})
	if err != nil {
		return nil, c.unlessPasses(err)
	}
	var chats struct {
		Items []struct {
			Conversation struct {
				Peer struct {
					ID int64 `json:"id"`
				} `json:"peer"`
			} `json:"conversation"`
		} `json:"items"`
	}
	if lenient(raw, &chats) != nil {
		return nil, nil
	}
	var events []json.RawMessage
	for _, item := range chats.Items {
		peer := item.Conversation.Peer.ID
		if peer == 0 {
			continue
		}
		raw, err := c.call(ctx, "messages.getHistory", url.Values{
			"peer_id": {number(peer)}, "count": {strconv.Itoa(missedMessages)}, "group_id": {number(c.group)},
		})
		if err != nil {
			if err := c.unlessPasses(err); err != nil {
				return nil, err
			}
			continue
		}
		events = append(events, c.unanswered(raw)...)
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

// unanswered makes events of a chat's newest messages, which come newest first, up
// to the community's own last one.
func (c *channel) unanswered(raw json.RawMessage) []json.RawMessage {
	var history struct {
		Items []json.RawMessage `json:"items"`
	}
	if lenient(raw, &history) != nil {
		return nil
	}
	var events []json.RawMessage
	for _, item := range history.Items {
		var m struct {
			Out    flag  `json:"out"`
			FromID int64 `json:"from_id"`
			Date   int64 `json:"date"`
		}
		if lenient(item, &m) != nil || bool(m.Out) || m.FromID == -c.group {
			break
		}
		if t := at(m.Date); !t.IsZero() && c.now().Sub(t) > missedAge {
			break
		}
		e, err := json.Marshal(map[string]any{"type": eventMessage, "object": map[string]any{"message": item}})
		if err == nil {
			events = append(events, e)
		}
	}
	slices.Reverse(events)
	return events
}
