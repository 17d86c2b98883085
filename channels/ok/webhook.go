package ok

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"switchboard/channels"
)

// secretParameter of the webhook's address holds the account's secret.
const secretParameter = "secret"

// Why a callback is not believed.
var (
	errNoSecret    = fmt.Errorf("%w: the address has no parameter %s: not called by OK, or a proxy dropped it", channels.ErrNoSignature, secretParameter)
	errWrongSecret = errors.New("the address holds another secret: called by a stranger, or subscribed before the secret was changed")
)

// webhook is the address that OK calls. It is secret.
func (c *channel) webhook() string {
	return c.env.Webhook(c.account) + "?" + secretParameter + "=" + url.QueryEscape(c.secret)
}

// Verify implements channels.Webhooks. OK signs nothing, so the address itself
// is the proof.
func (c *channel) Verify(_ http.Header, query map[string][]string, _ []byte) error {
	given := query[secretParameter]
	if len(given) == 0 || given[0] == "" {
		return errNoSecret
	}
	// The hashes are compared, so that the time tells no length either.
	got, want := sha256.Sum256([]byte(given[0])), sha256.Sum256([]byte(c.secret))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return errWrongSecret
	}
	return nil
}

// The kinds of callback that OK documents.
const (
	eventMessage = "MESSAGE_CREATED"
	eventPress   = "MESSAGE_CALLBACK"
	eventSystem  = "CHAT_SYSTEM"
)

// envelope is what Split needs of a callback.
type envelope struct {
	Event  scalar
	Type   scalar // of CHAT_SYSTEM
	Time   scalar
	Press  scalar // callbackId
	Sender scalar
	Chat   scalar
	// HasMessage tells old callbacks, which have no webhookType, apart.
	HasMessage bool
	Mid        scalar // of message
	Seq        scalar
}

// read fills e from a callback, without decoding the rest of it.
func (e *envelope) read(raw []byte) error {
	if err := channels.CheckObject(raw); err != nil {
		return err
	}
	channels.Fields(raw, func(name, value []byte) {
		switch string(name) {
		case "webhookType":
			_ = e.Event.UnmarshalJSON(value)
		case "type":
			_ = e.Type.UnmarshalJSON(value)
		case "timestamp":
			_ = e.Time.UnmarshalJSON(value)
		case "callbackId":
			_ = e.Press.UnmarshalJSON(value)
		case "sender":
			channels.Fields(value, func(name, value []byte) {
				if string(name) == "user_id" {
					_ = e.Sender.UnmarshalJSON(value)
				}
			})
		case "recipient":
			channels.Fields(value, func(name, value []byte) {
				if string(name) == "chat_id" {
					_ = e.Chat.UnmarshalJSON(value)
				}
			})
		case "message":
			e.HasMessage = len(value) > 0 && value[0] == '{'
			channels.Fields(value, func(name, value []byte) {
				switch string(name) {
				case "mid":
					_ = e.Mid.UnmarshalJSON(value)
				case "seq":
					_ = e.Seq.UnmarshalJSON(value)
				}
			})
		}
	})
	return nil
}

// event is the callback's kind, also of old ones, which don't name it.
func (e *envelope) event() string {
	switch {
	case e.Event != "":
		return string(e.Event)
	case e.Press != "":
		return eventPress
	case e.HasMessage:
		return eventMessage
	}
	return ""
}

// chat is the platform's key of the chat; a callback without one is about its
// sender's.
func (e *envelope) chat() string {
	if e.Chat != "" {
		return string(e.Chat)
	}
	return string(e.Sender)
}

// Split implements channels.Webhooks: a callback is one update, whose Raw is raw
// itself. A callback that names no chat and no person is kept if it is a
// message: Decode refuses it, so that somebody gets to see it.
func (c *channel) Split(raw []byte) ([]channels.RawUpdate, error) {
	var e envelope
	if err := e.read(raw); err != nil {
		return nil, fmt.Errorf("decoding callback: %w", err)
	}
	if event := e.event(); e.chat() == "" && event != eventMessage && event != eventPress {
		return nil, nil
	}
	return []channels.RawUpdate{{
		DedupKey: e.dedupKey(raw),
		ChatKey:  e.chat(),
		Order:    order(e.Seq.Int(), e.Time.Int()),
		Raw:      raw,
	}}, nil
}

// Reply implements channels.Webhooks: OK reads nothing of an answer.
func (c *channel) Reply([]byte) channels.Reply { return channels.Reply{} }

// maxID bounds an id that goes into a key as it is.
const maxID = 200

// dedupKey names a callback: OK repeats one until it gets a good answer.
func (e *envelope) dedupKey(raw []byte) string {
	id := ""
	switch e.event() {
	case eventMessage:
		id = string(e.Mid)
	case eventPress:
		if e.Press != "" {
			id = "press:" + string(e.Press)
		}
	case eventSystem:
		id = e.systemID()
	}
	if id == "" || len(id) > maxID {
		return "raw:" + hash(string(raw))
	}
	return id
}

// systemID names an event that has no id of its own; "" without a time or a chat.
func (e *envelope) systemID() string {
	if e.Time == "" || e.Chat == "" {
		return ""
	}
	return "system:" + hash(string(e.Chat)+"\n"+string(e.Event)+" "+string(e.Type)+"\n"+string(e.Time))
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// scalar and text are the fields of OK: its seq is over 2^53.
type (
	scalar = channels.Scalar
	text   = channels.Text
)
