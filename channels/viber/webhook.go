package viber

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"switchboard/channels"
)

const signatureHeader = "X-Viber-Content-Signature"

// Why a callback is not believed.
var (
	errUnsigned       = fmt.Errorf("%w: no %s header: not sent by Viber, or a proxy dropped it", channels.ErrNoSignature, signatureHeader)
	errWrongSignature = errors.New(signatureHeader + " does not match the body: not sent by Viber, the body was changed on the way, or the token is another bot's")
)

// Verify checks the signature: lower-case hex of HMAC-SHA256 over the raw body
// under the token. It tells a missing signature from a wrong one.
func (c *channel) Verify(header http.Header, _ map[string][]string, raw []byte) error {
	given := header.Get(signatureHeader)
	if given == "" {
		return errUnsigned
	}
	var sum [sha256.Size]byte
	if len(given) != hex.EncodedLen(len(sum)) {
		return errWrongSignature
	}
	if _, err := hex.Decode(sum[:], []byte(given)); err != nil {
		return errWrongSignature
	}
	want := c.mac(raw)
	if !hmac.Equal(sum[:], want[:]) {
		return errWrongSignature
	}
	return nil
}

// The events that Viber documents.
const (
	eventMessage      = "message"
	eventStarted      = "conversation_started"
	eventSubscribed   = "subscribed"
	eventUnsubscribed = "unsubscribed"
	eventDelivered    = "delivered"
	eventSeen         = "seen"
	eventFailed       = "failed"
	eventWebhook      = "webhook" // the check inside of set_webhook
)

// envelope is what Split needs of a callback.
type envelope struct {
	Event  scalar   `json:"event"`
	Time   scalar   `json:"timestamp"`
	Token  scalar   `json:"message_token"`
	UserID scalar   `json:"user_id"`
	Sender struct { // of message
		ID scalar `json:"id"`
	} `json:"sender"`
	User struct { // of subscribed and conversation_started
		ID scalar `json:"id"`
	} `json:"user"`
	ChatID scalar `json:"chat_id"` // groups and channels only
}

// read fills e from a callback, without decoding the rest of it.
func (e *envelope) read(raw []byte) error {
	if err := channels.CheckObject(raw); err != nil {
		return err
	}
	id := func(person []byte) (id scalar) {
		channels.Fields(person, func(name, value []byte) {
			if string(name) == "id" {
				_ = id.UnmarshalJSON(value)
			}
		})
		return id
	}
	channels.Fields(raw, func(name, value []byte) {
		var field *scalar
		switch string(name) {
		case "event":
			field = &e.Event
		case "timestamp":
			field = &e.Time
		case "message_token":
			field = &e.Token
		case "user_id":
			field = &e.UserID
		case "chat_id":
			field = &e.ChatID
		case "sender":
			e.Sender.ID = id(value)
			return
		case "user":
			e.User.ID = id(value)
			return
		default:
			return
		}
		_ = field.UnmarshalJSON(value)
	})
	return nil
}

// user is the customer's id, wherever the event keeps it.
func (e *envelope) user() string {
	switch {
	case e.Sender.ID != "":
		return string(e.Sender.ID)
	case e.User.ID != "":
		return string(e.User.ID)
	default:
		return string(e.UserID)
	}
}

// Split makes one update of a callback, or none where it concerns no customer:
// the check of set_webhook, groups, and unknown events without a user. The
// update's Raw is raw itself, not a copy.
func (c *channel) Split(raw []byte) ([]channels.RawUpdate, error) {
	var e envelope
	if err := e.read(raw); err != nil {
		return nil, fmt.Errorf("decoding callback: %w", err)
	}
	user := e.user()
	switch {
	case e.Event == eventWebhook, e.ChatID != "":
		return nil, nil
	case user == "" && e.Event != eventMessage:
		return nil, nil
	}
	// A message without a sender is kept: Decode refuses it, so that a person
	// gets to see it.
	return []channels.RawUpdate{{
		DedupKey: dedupKey(string(e.Event), string(e.Token), user, raw),
		ChatKey:  user,
		Order:    e.Time.Int(),
		Raw:      raw,
	}}, nil
}

// dedupKey names a callback. A message has a token of its own; a receipt
// carries the token of our message, so its key holds the event and the user
// too (a broadcast has one token for all). "delivered" comes once a device:
// the first one says it all. Without a usable token the bytes are the key.
func dedupKey(event, token, user string, raw []byte) string {
	if !isToken(token) || len(event)+len(user) > 200 {
		return rawKey(raw)
	}
	switch event {
	case eventMessage:
		return "m:" + token
	case eventStarted, eventSubscribed, eventUnsubscribed:
		return event + ":" + token
	default:
		return event + ":" + token + ":" + user
	}
}

// rawKey stands in where a callback has no token.
func rawKey(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "raw:" + hex.EncodeToString(sum[:16])
}

// isToken reports whether s is an unsigned number of at most 64 bits' length,
// as Viber writes its tokens.
func isToken(s string) bool {
	if s == "" || len(s) > 20 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// Reply is the welcome in answer to conversation_started. Customers who are
// subscribed already only reopened the chat: they are not greeted again.
func (c *channel) Reply(raw []byte) channels.Reply {
	if c.welcome == nil || !bytes.Contains(raw, []byte(eventStarted)) {
		return channels.Reply{}
	}
	var e struct {
		Event      scalar `json:"event"`
		Subscribed bool   `json:"subscribed"`
	}
	if err := channels.DecodeLenient(raw, &e); err != nil || e.Event != eventStarted || e.Subscribed {
		return channels.Reply{}
	}
	return channels.Reply{ContentType: "application/json", Body: bytes.Clone(c.welcome)}
}

// scalar and text are the fields of Viber, which writes some ids as strings or
// as numbers.
type (
	scalar = channels.Scalar
	text   = channels.Text
)
