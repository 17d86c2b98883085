package infobip

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"switchboard/channels"
)

// Why a callback is not believed.
var (
	errNoCredentials    = fmt.Errorf("%w: no basic authorization: not called by Infobip, or the subscription has no security profile", channels.ErrNoSignature)
	errWrongCredentials = errors.New("wrong name or password: called by a stranger, or subscribed before the settings were changed")
)

// Verify implements channels.Webhooks: Infobip signs in by basic authorization.
func (c *channel) Verify(header http.Header, _ map[string][]string, _ []byte) error {
	if header.Get("Authorization") == "" {
		return errNoCredentials
	}
	user, password, ok := (&http.Request{Header: header}).BasicAuth()
	// Hashes, so that the time tells no length; both parts, whatever the first says.
	same := sameText(user, c.user) & sameText(password, c.password)
	if !ok || same != 1 {
		return errWrongCredentials
	}
	return nil
}

func sameText(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}

// maxID bounds an id that goes into a key as it is.
const maxID = 200

// envelope is what Split needs of an element.
type envelope struct {
	ID, From, To, Callback         channels.Scalar
	Received, Done, Seen           channels.Scalar
	Phone, User                    channels.Scalar // of contact
	StatusID                       channels.Scalar
	HasMessage, HasStatus, HasSeen bool
}

// read fills e from a well-formed object, without decoding the rest of it.
func (e *envelope) read(object []byte) {
	channels.Fields(object, func(name, value []byte) {
		switch string(name) {
		case "messageId":
			_ = e.ID.UnmarshalJSON(value)
		case "from":
			_ = e.From.UnmarshalJSON(value)
		case "to":
			_ = e.To.UnmarshalJSON(value)
		case "callbackData":
			_ = e.Callback.UnmarshalJSON(value)
		case "receivedAt":
			_ = e.Received.UnmarshalJSON(value)
		case "doneAt":
			_ = e.Done.UnmarshalJSON(value)
		case "seenAt":
			_ = e.Seen.UnmarshalJSON(value)
			e.HasSeen = e.Seen != ""
		case "message":
			e.HasMessage = value[0] == '{'
		case "status":
			e.HasStatus = value[0] == '{'
			channels.Fields(value, func(name, value []byte) {
				if string(name) == "id" {
					_ = e.StatusID.UnmarshalJSON(value)
				}
			})
		case "contact":
			channels.Fields(value, func(name, value []byte) {
				switch string(name) {
				case "phoneNumber":
					_ = e.Phone.UnmarshalJSON(value)
				case "userId":
					_ = e.User.UnmarshalJSON(value)
				}
			})
		}
	})
}

// kind tells the three bodies at one address apart.
type kind int

const (
	kindOther   kind = iota // an event outside of results, or nothing of ours
	kindInbound             // a customer's message
	kindSeen
	kindDelivery
)

func (e *envelope) kind() kind {
	switch {
	case e.HasMessage:
		return kindInbound
	case e.HasSeen:
		return kindSeen
	case e.HasStatus:
		return kindDelivery
	}
	return kindOther
}

// chat is the platform's key of the chat: the customer's phone, which is what
// chats are begun with, else the id of a customer who hides it. A report is about
// the chat that the message was sent to, which comes back with it, however Infobip
// calls the customer meanwhile.
func (e *envelope) chat() string {
	kind := e.kind()
	if (kind == kindDelivery || kind == kindSeen) && isRecipient(string(e.Callback)) {
		return string(e.Callback)
	}
	from := address(string(e.From))
	switch {
	case kind == kindDelivery:
		return address(string(e.To))
	case kind == kindSeen || isPhone(from): // the customer, who is the one that has seen it
		return from
	}
	if phone := address(string(e.Phone)); isPhone(phone) {
		return phone
	}
	return first(from, string(e.User))
}

// address is a phone without the plus, or a user's id as it is.
func address(s string) string {
	if digits, ok := strings.CutPrefix(s, "+"); ok && isDigits(digits) {
		return digits
	}
	return s
}

// dedupKey is equal for two deliveries of the same element.
func (e *envelope) dedupKey(raw []byte) string {
	id := ""
	if e.ID != "" {
		switch e.kind() {
		case kindInbound:
			id = string(e.ID)
		case kindSeen:
			id = "seen:" + string(e.ID)
		case kindDelivery:
			id = "delivery:" + string(e.ID) + ":" + string(e.StatusID) + ":" + string(e.Done)
		}
	}
	if id == "" || len(id) > maxID {
		return "raw:" + hash(string(raw))
	}
	return id
}

func (e *envelope) order() int64 {
	for _, s := range []channels.Scalar{e.Received, e.Seen, e.Done} {
		if t := instant(string(s)); !t.IsZero() {
			return t.UnixMilli()
		}
	}
	return 0
}

// Split implements channels.Webhooks: each element of results is an update, up
// to 2000 of them; a body without results is one as a whole. What is not
// understood is kept, for Decode to refuse, since one bad element must not make
// Infobip repeat the others.
func (c *channel) Split(raw []byte) ([]channels.RawUpdate, error) {
	if err := channels.CheckObject(raw); err != nil {
		return nil, fmt.Errorf("decoding callback: %w", err)
	}
	var results []json.RawMessage
	found := false
	channels.Fields(raw, func(name, value []byte) {
		if string(name) == "results" && value[0] == '[' {
			found = json.Unmarshal(value, &results) == nil
		}
	})
	if !found {
		one := channels.RawUpdate{DedupKey: "raw:" + hash(string(raw)), Raw: raw}
		var ev event
		if channels.DecodeLenient(raw, &ev) == nil {
			one.ChatKey = ev.chat()
			if at := instant(string(ev.Created)); !at.IsZero() {
				one.Order = at.UnixMilli()
			}
		}
		return []channels.RawUpdate{one}, nil
	}
	updates := make([]channels.RawUpdate, len(results))
	for i, one := range results {
		var e envelope
		e.read(one)
		updates[i] = channels.RawUpdate{DedupKey: e.dedupKey(one), ChatKey: e.chat(), Order: e.order(), Raw: one}
	}
	return updates, nil
}

// Reply implements channels.Webhooks: an empty 200 will do.
func (c *channel) Reply([]byte) channels.Reply { return channels.Reply{} }

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}
