package vk

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// Send implements channels.Channel. A keyboard that the community may not send,
// and a reply to what can't be replied to, are left out and the rest is sent, each
// once. The note says so.
func (c *channel) Send(ctx context.Context, part *message.Part) (message.Receipt, error) {
	peer, err := parsePeer(part.Chat)
	if err != nil {
		return message.Receipt{}, err
	}
	random := randomID(part.ID, part.Index)
	if part.Again && c.now().Sub(channels.MadeAt(part.ID)) > randomLife {
		switch receipt, err := c.arrived(ctx, peer, random); {
		case err != nil:
			return message.Receipt{}, err
		case receipt.IDs != nil:
			return receipt, nil
		}
	}
	p, err := c.body(ctx, peer, part)
	if err != nil {
		return message.Receipt{}, err
	}
	p.Set("random_id", number(random))
	var notes []string
	for {
		receipt, err := c.send(ctx, peer, p)
		switch {
		case err == nil:
			receipt.Note = strings.Join(append(notes, receipt.Note), "; ")
			receipt.Note = strings.TrimSuffix(receipt.Note, "; ")
			return receipt, nil
		case refused(err, 912) && p.Has("keyboard"):
			p.Del("keyboard")
			notes = append(notes, "sent without keyboard: switch on Bot capabilities in the community's settings")
		case refused(err, 921, 969) && p.Has("forward"):
			p.Del("forward")
			notes = append(notes, "sent without reply: the message can't be replied to")
		default:
			return message.Receipt{}, c.classify(err, false)
		}
	}
}

// body makes the parameters of a part, and uploads its files.
func (c *channel) body(ctx context.Context, peer int64, part *message.Part) (url.Values, error) {
	p := url.Values{}
	if part.Text != "" {
		p.Set("message", part.Text)
	}
	if cmid, err := strconv.ParseInt(part.ReplyTo, 10, 64); err == nil && cmid > 0 {
		// A reply to a press of a button or to a service line has nothing to point at.
		p.Set("forward", object(map[string]any{"peer_id": peer, "conversation_message_ids": []int64{cmid}, "is_reply": true}))
	}
	if part.Keyboard != nil {
		k, err := keyboardJSON(part.Keyboard)
		if err != nil {
			return nil, invalid(err.Error())
		}
		p.Set("keyboard", k)
	}
	if l := part.Location; l != nil && part.Kind == message.KindLocation {
		p.Set("lat", strconv.FormatFloat(l.Lat, 'f', -1, 64))
		p.Set("long", strconv.FormatFloat(l.Lon, 'f', -1, 64))
	}
	var names []string
	for i := range part.Files {
		name, err := c.attach(ctx, peer, &part.Files[i])
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	if len(names) > 0 {
		p.Set("attachment", strings.Join(names, ","))
	}
	return p, nil
}

const methodSend = "messages.send"

// send calls messages.send for one peer. Errors are *callError.
func (c *channel) send(ctx context.Context, peer int64, p url.Values) (message.Receipt, error) {
	const method = methodSend
	if ctx.Err() != nil {
		return message.Receipt{}, &callError{method: method, detail: "not begun in time", err: ctx.Err()}
	}
	// Even for one: only this form tells the number in the chat.
	p.Set("peer_ids", number(peer))
	raw, err := c.call(ctx, method, p)
	if err != nil {
		return message.Receipt{}, err
	}
	var results []struct {
		MessageID int64 `json:"message_id"`
		CMID      int64 `json:"conversation_message_id"`
		Error     *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := lenient(raw, &results); err != nil || len(results) == 0 {
		var id int64
		if json.Unmarshal(raw, &id) == nil && id > 0 {
			return message.Receipt{Note: "accepted as message " + number(id) + ", without its number in the chat"}, nil
		}
		return message.Receipt{}, &callError{method: method, detail: "the answer names no message", sent: true, status: 200}
	}
	r := results[0]
	if r.Error != nil && r.Error.Code != 0 {
		return message.Receipt{}, &callError{method: method, code: r.Error.Code, detail: c.redact(channels.Shorten(r.Error.Description, 300)), sent: true}
	}
	c.flowed(method)
	if r.CMID <= 0 {
		return message.Receipt{Note: "accepted without its number in the chat"}, nil
	}
	return message.Receipt{IDs: []string{number(r.CMID)}}, nil
}

// randomLife is less than the hour for which VK knows a random_id.
const randomLife = 50 * time.Minute

// arrived looks in the chat for what an earlier attempt may have left there. Errors
// are *message.Error.
func (c *channel) arrived(ctx context.Context, peer, random int64) (message.Receipt, error) {
	raw, err := c.patiently(ctx, "messages.getHistory", url.Values{
		"peer_id": {number(peer)}, "count": {strconv.Itoa(missedPage)}, "group_id": {number(c.group)},
	})
	if err != nil {
		if err := c.unlessPasses(err); err != nil {
			return message.Receipt{}, c.classify(err, true)
		}
		return message.Receipt{}, nil // VK does not show it
	}
	var history struct {
		Items []struct {
			Out      flag  `json:"out"`
			CMID     int64 `json:"conversation_message_id"`
			RandomID int64 `json:"random_id"`
		} `json:"items"`
	}
	_ = lenient(raw, &history)
	for _, m := range history.Items {
		if bool(m.Out) && m.RandomID == random && m.CMID > 0 {
			return message.Receipt{IDs: []string{number(m.CMID)}, Note: "an earlier attempt had arrived"}, nil
		}
	}
	return message.Receipt{}, nil
}

// randomID is the key under which VK knows a repeat: 1 to 2147483647, the same for
// every attempt. Two messages share one by chance once in two billion.
func randomID(id string, part int) int64 {
	h := fnv.New64a()
	h.Write([]byte(id))
	h.Write([]byte{0})
	h.Write([]byte(strconv.Itoa(part)))
	return int64(h.Sum64()%math.MaxInt32) + 1
}

// Forward implements channels.Forwarder.
func (c *channel) Forward(ctx context.Context, toChat, fromChat string, ids []string) (message.Receipt, error) {
	to, err := parsePeer(toChat)
	if err != nil {
		return message.Receipt{}, err
	}
	from, err := parsePeer(fromChat)
	if err != nil {
		return message.Receipt{}, err
	}
	cmids, err := messageIDs(ids)
	if err != nil {
		return message.Receipt{}, err
	}
	if len(cmids) > idsPerCall {
		return message.Receipt{}, invalid("VK forwards 100 messages at once")
	}
	key := channels.MessageID(ctx)
	if key == "" {
		key = toChat + "<" + fromChat + ":" + list(cmids)
	}
	receipt, err := c.send(ctx, to, url.Values{
		"random_id": {number(randomID(key, 0))},
		"forward":   {object(map[string]any{"peer_id": from, "conversation_message_ids": cmids})},
	})
	if err != nil {
		return message.Receipt{}, c.classify(err, false)
	}
	return receipt, nil
}

const idsPerCall = 100 // of forward and of messages.delete

func messageIDs(ids []string) ([]int64, error) {
	if len(ids) == 0 {
		return nil, invalid("no message ids")
	}
	numbers := make([]int64, 0, len(ids))
	for _, id := range ids {
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil || n <= 0 {
			return nil, invalid("a message id of VK is a number, not " + channels.Shorten(id, 40))
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}
