package vk

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"switchboard/channels"
)

// Why a callback is not believed. VK signs nothing: the secret is in the body.
var (
	errNoSecret    = fmt.Errorf("%w: no secret in the body: not sent by VK, or the server has no secret key in VK's settings", channels.ErrNoSignature)
	errWrongSecret = errors.New("the secret in the body is not the setting secret")
	errOtherGroup  = errors.New("group_id in the body is not the setting group_id")
	errNotCalled   = errors.New("the account has no setting secret, so callbacks can't be believed")
)

// head is what is needed of an event before it is decoded.
type head struct {
	kind, eventID, secret string
	group                 int64
	object                []byte
}

func (h *head) read(raw []byte) error {
	if err := channels.CheckObject(raw); err != nil {
		return err
	}
	channels.Fields(raw, func(name, value []byte) {
		switch string(name) {
		case "type":
			h.kind = plain(value)
		case "event_id":
			h.eventID = plain(value)
		case "secret":
			h.secret = plain(value)
		case "group_id":
			h.group = whole(value)
		case "object":
			h.object = value
		}
	})
	return nil
}

// plain is a JSON string's text; everything else reads as "".
func plain(value []byte) string {
	var s string
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

// whole is a JSON number, 0 where it isn't a whole 64-bit one.
func whole(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Verify implements channels.Webhooks: the secret and the community's number,
// both from the body.
func (c *channel) Verify(_ http.Header, _ map[string][]string, raw []byte) error {
	if c.secret == "" {
		return errNotCalled
	}
	var h head
	if err := h.read(raw); err != nil {
		return errNoSecret
	}
	switch {
	case h.secret == "" && (h.kind != eventConfirmation || confirmationNeedsSecret):
		return errNoSecret
	case h.secret != "" && subtle.ConstantTimeCompare([]byte(h.secret), []byte(c.secret)) != 1:
		return errWrongSecret
	case h.group != c.group:
		return errOtherGroup
	}
	return nil
}

// Split implements channels.Webhooks: a body is one event, or the check of the
// address.
func (c *channel) Split(raw []byte) ([]channels.RawUpdate, error) {
	var h head
	if err := h.read(raw); err != nil {
		return nil, fmt.Errorf("reading event: %w", err)
	}
	if h.kind == eventConfirmation {
		return nil, nil
	}
	u, _ := rawUpdate(&h, raw)
	return []channels.RawUpdate{u}, nil
}

// Reply implements channels.Webhooks: exactly "ok", or the confirmation.
func (c *channel) Reply(raw []byte) channels.Reply {
	var h head
	if h.read(raw) == nil && h.kind == eventConfirmation {
		return channels.Reply{ContentType: "text/plain", Body: []byte(c.confirmation)}
	}
	return channels.Reply{ContentType: "text/plain", Body: []byte("ok")}
}

// noOrder is of events without a place among a chat's messages: they go behind
// those that wait with them.
const noOrder = math.MaxInt64

// rawUpdate finds the keys of an event. A new message is known by its chat and
// number, anything else by the event_id; both are the same whichever way an event
// comes. A message's number orders its chat; placed tells whether the
// event has one of its own.
func rawUpdate(h *head, raw []byte) (u channels.RawUpdate, placed bool) {
	o := h.object
	var peer, user, from, cmid, updated int64
	read := func(name, value []byte) {
		switch string(name) {
		case "peer_id":
			peer = whole(value)
		case "user_id":
			user = whole(value)
		case "from_id":
			from = whole(value)
		case "conversation_message_id":
			cmid = whole(value)
		case "update_time":
			updated = whole(value)
		}
	}
	channels.Fields(o, read)
	channels.Fields(o, func(name, value []byte) {
		if string(name) == "message" {
			channels.Fields(value, read)
		}
	})
	u = channels.RawUpdate{Raw: raw, Order: noOrder}
	for _, id := range []int64{peer, user, from} {
		if id != 0 {
			u.ChatKey = number(id)
			break
		}
	}
	placed = cmid > 0 && (h.kind == eventMessage || h.kind == eventReply || h.kind == eventEdit)
	if placed {
		u.Order = cmid
	}
	switch {
	case placed && peer != 0 && h.kind != eventEdit:
		// Old messages were seen to come again after a reconnect, and after a loss
		// they are read from the chat's history, which knows no events.
		u.DedupKey = fmt.Sprintf("%s:%d:%d", h.kind, peer, cmid)
	case h.eventID != "" && len(h.eventID) <= 200:
		u.DedupKey = "e:" + h.eventID
	case placed && peer != 0:
		u.DedupKey = fmt.Sprintf("%s:%d:%d:%d", h.kind, peer, cmid, updated)
	default:
		sum := sha256.Sum256(raw)
		u.DedupKey = "raw:" + hex.EncodeToString(sum[:16])
	}
	return u, placed
}
