package vk

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"switchboard/message"
)

// Edit implements channels.Editor. A message of several parts is planned anew and
// compared: it may shrink to fewer parts, whose surplus is deleted, but not grow,
// and files stay. VK wants all of a message again, so that the attachments are
// asked for first.
func (c *channel) Edit(ctx context.Context, chat string, ids []string, content *message.Content) error {
	peer, err := parsePeer(chat)
	if err != nil {
		return err
	}
	cmids, err := messageIDs(ids)
	if err != nil {
		return err
	}
	if k := content.Keyboard; k != nil && k.Kind != message.KeyboardInline {
		return invalid("only inline keyboards can be changed with a message")
	}
	parts, err := c.Plan(&message.Outbound{Chat: chat, Content: *content})
	if err != nil {
		return invalid(err.Error())
	}
	if len(parts) > len(cmids) {
		return invalid(fmt.Sprintf("the text needs %d messages, and %d were sent; shorten it", len(parts), len(cmids)))
	}
	for i := range parts {
		if len(parts[i].Files) > 0 && (i > 0 || alone(parts[i].Kind)) && parts[i].Keyboard == nil {
			continue // a file without text: nothing of it can change
		}
		if err := c.edit(ctx, peer, cmids[i], &parts[i]); err != nil {
			return err
		}
	}
	return c.remove(ctx, peer, cmids[len(parts):])
}

func (c *channel) edit(ctx context.Context, peer, cmid int64, part *message.Part) error {
	p, err := c.body(ctx, peer, &message.Part{Outbound: message.Outbound{Content: message.Content{
		Kind: part.Kind, Text: part.Text, Location: part.Location, Keyboard: part.Keyboard,
	}}})
	if err != nil {
		return err
	}
	if len(part.Files) > 0 {
		items, err := c.load(ctx, peer, []int64{cmid})
		if err != nil {
			return c.classify(err, true)
		}
		names := attached(items)
		if len(names) == 0 {
			return invalid("the message is gone, or has no files any more")
		}
		p.Set("attachment", strings.Join(names, ","))
	}
	p.Set("peer_id", number(peer))
	p.Set("cmid", number(cmid))
	p.Set("keep_forward_messages", "1") // a reply stays a reply
	p.Set("keep_snippets", "1")
	if _, err := c.call(ctx, "messages.edit", p); err != nil {
		return c.classify(err, false)
	}
	return nil
}

// attached lists the names of a message's attachments.
func attached(items []json.RawMessage) (names []string) {
	if len(items) != 1 {
		return nil
	}
	var m inMessage
	if lenient(items[0], &m) != nil {
		return nil
	}
	for _, a := range m.Attachments {
		var f media
		if lenient(a.body, &f) == nil && f.ID != 0 && f.OwnerID != 0 {
			names = append(names, f.attachment(a.Type))
		}
	}
	return names
}

// Delete implements channels.Deleter.
func (c *channel) Delete(ctx context.Context, chat string, ids []string) error {
	peer, err := parsePeer(chat)
	if err != nil {
		return err
	}
	cmids, err := messageIDs(ids)
	if err != nil {
		return err
	}
	return c.remove(ctx, peer, cmids)
}

func (c *channel) remove(ctx context.Context, peer int64, cmids []int64) error {
	for some := range slices.Chunk(cmids, idsPerCall) {
		raw, err := c.call(ctx, "messages.delete", url.Values{
			"peer_id": {number(peer)}, "cmids": {list(some)}, "delete_for_all": {"1"}, "group_id": {number(c.group)},
		})
		if err == nil {
			err = deleted(raw)
		}
		if err != nil && !refused(err, 104) { // 104: it is gone already
			return c.classify(err, false)
		}
	}
	return nil
}

// Typing implements channels.Typer. It is shown for about 10 seconds.
func (c *channel) Typing(ctx context.Context, chat string) error {
	peer, err := parsePeer(chat)
	if err != nil {
		return err
	}
	_, err = c.call(ctx, "messages.setActivity", url.Values{"peer_id": {number(peer)}, "type": {"typing"}, "group_id": {number(c.group)}})
	if err != nil {
		return c.classify(err, false)
	}
	return nil
}

// Acknowledge implements channels.Acknowledger: a pressed callback button spins
// until its event is answered, for about a minute.
func (c *channel) Acknowledge(ctx context.Context, raw []byte) error {
	var e event
	if err := lenient(raw, &e); err != nil {
		return fmt.Errorf("reading event: %w", err)
	}
	var p pressed
	if e.Type != eventPress || lenient(e.Object, &p) != nil || p.EventID == "" || p.UserID == 0 {
		return nil
	}
	_, err := c.call(ctx, "messages.sendMessageEventAnswer", url.Values{
		"event_id": {p.EventID}, "user_id": {number(p.UserID)}, "peer_id": {number(p.peer())},
	})
	if err != nil && !refused(err, 100) { // 100: too late
		return c.classify(err, false)
	}
	return nil
}
