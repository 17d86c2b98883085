package mfms

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"switchboard/channels"
)

// Why a callback is not believed.
var (
	errNoPassword    = fmt.Errorf("%w: no Basic authorisation: the address registered with MFMS lacks user and password, or a proxy dropped them", channels.ErrNoSignature)
	errWrongPassword = errors.New("wrong user or password: called by a stranger, or the address registered with MFMS has old ones")
)

// Verify implements channels.Webhooks: MFMS signs nothing, but calls with the
// user and password of the address that it was given.
func (c *channel) Verify(header http.Header, _ map[string][]string, _ []byte) error {
	scheme, encoded, ok := strings.Cut(header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Basic") {
		return errNoPassword
	}
	given, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil {
		return errWrongPassword
	}
	// The hashes are compared, so that the time tells no length either.
	got, want := sha256.Sum256(given), sha256.Sum256([]byte(c.hookUser+":"+c.hookPassword))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return errWrongPassword
	}
	return nil
}

// Probed implements channels.Probed: the newer interface tries the address when it
// is registered.
func (c *channel) Probed() bool { return true }

// kind is what an element of a callback is, told by its keys.
type kind int

const (
	unknown kind = iota
	isReply
	isPulseReply
	isReport
	isPulseReport
)

// envelope is what Split needs of an element.
type envelope struct {
	id, subject, subjectID, address scalar
	at                              text
	message, request                scalar // of reports: the ids of the two forms
	state, pulseState               text
	hasSubject, hasContent          bool
}

// read fills e from an object, without decoding the rest of it.
func (e *envelope) read(raw []byte) {
	channels.Fields(raw, func(name, value []byte) {
		switch string(name) {
		case "id":
			_ = e.id.UnmarshalJSON(value)
		case "imSubject":
			e.hasSubject = true
			_ = e.subject.UnmarshalJSON(value)
		case "subject":
			if !e.hasSubject {
				_ = e.subject.UnmarshalJSON(value)
			}
		case "subjectId":
			_ = e.subjectID.UnmarshalJSON(value)
		case "address":
			_ = e.address.UnmarshalJSON(value)
		case "subscriber":
			channels.Fields(value, func(name, value []byte) {
				if string(name) == "identifier" {
					_ = e.address.UnmarshalJSON(value)
				}
			})
		case "receivedAt", "dlvStatusAt", "statusAt":
			_ = e.at.UnmarshalJSON(value)
		case "imOutMessageId":
			_ = e.message.UnmarshalJSON(value)
		case "requestId":
			_ = e.request.UnmarshalJSON(value)
		case "dlvStatus":
			_ = e.state.UnmarshalJSON(value)
		case "status":
			_ = e.pulseState.UnmarshalJSON(value)
		case "messageContent":
			e.hasContent = len(value) > 0 && value[0] == '{'
		}
	})
}

func (e *envelope) kind() kind {
	switch {
	case e.message != "" && e.state != "":
		return isReport
	case e.hasContent:
		return isPulseReply
	case e.hasSubject:
		return isReply
	case e.request != "" && e.pulseState != "":
		return isPulseReport
	}
	return unknown
}

// keys are the element's key of the chat and what tells its repeats.
func (c *channel) keys(e *envelope, raw []byte) (chat, dedup string) {
	switch e.kind() {
	case isReport:
		return c.ids.phone(string(e.message)), "report:" + string(e.message) + ":" + strings.ToLower(string(e.state))
	case isPulseReport:
		return c.ids.phone(string(e.request)), "report:" + string(e.request) + ":" + strings.ToLower(string(e.pulseState))
	case isReply, isPulseReply:
		chat = phone(string(e.address))
		subject := e.subject
		if e.subjectID != "" {
			subject = e.subjectID
		}
		if e.id != "" {
			return chat, "in:" + string(subject) + ":" + string(e.id)
		}
	}
	return chat, "raw:" + hash(raw)
}

// maxKey bounds a dedup key.
const maxKey = 200

// Split implements channels.Webhooks: a callback is an object or a list of them,
// each an update, or a document of HPX. What is neither a message nor a report is
// kept: Decode refuses it, so that somebody gets to see it.
func (c *channel) Split(raw []byte) ([]channels.RawUpdate, error) {
	var elements []json.RawMessage
	if isXML(raw) {
		return splitHPX(raw)
	}
	if trimmed := bytes.TrimLeft(raw, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		if json.Unmarshal(raw, &elements) != nil {
			return nil, errors.New("decoding callback: not JSON")
		}
	} else if err := channels.CheckObject(raw); err != nil {
		return nil, fmt.Errorf("decoding callback: %w", err)
	} else {
		elements = []json.RawMessage{raw}
	}
	updates := make([]channels.RawUpdate, 0, len(elements))
	seen := make(map[string]bool, len(elements))
	for _, element := range elements {
		var e envelope
		e.read(element)
		u := c.update(&e, element)
		if seen[u.DedupKey] {
			continue
		}
		seen[u.DedupKey] = true
		updates = append(updates, u)
	}
	return updates, nil
}

// update is the update of an element.
func (c *channel) update(e *envelope, element []byte) channels.RawUpdate {
	chat, dedup := c.keys(e, element)
	if len(dedup) > maxKey {
		dedup = "raw:" + hash([]byte(dedup))
	}
	return channels.RawUpdate{DedupKey: dedup, ChatKey: chat, Order: order(instant(string(e.at))), Raw: element}
}

// isXML tells XML from JSON by its first sign.
func isXML(raw []byte) bool {
	raw = bytes.TrimLeft(bytes.TrimPrefix(raw, []byte("\ufeff")), " \t\r\n")
	return len(raw) > 0 && raw[0] == '<'
}

// Reply implements channels.Webhooks: MFMS reads nothing of an answer.
func (c *channel) Reply([]byte) channels.Reply { return channels.Reply{} }

// order is the place in the chat: milliseconds since 1970.
func order(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMilli()
}

// instant reads a time; zero where it makes no sense.
func instant(s string) time.Time {
	var at time.Time
	for _, layout := range layouts {
		if t, err := time.Parse(layout, s); err == nil {
			at = t
		}
	}
	for _, layout := range bare {
		if t, err := time.ParseInLocation(layout, s, moscow); err == nil {
			at = t
		}
	}
	if at.IsZero() || at.Unix() <= 0 || at.UTC().Year() > 9999 { // the last year that JSON times can write
		return time.Time{}
	}
	return at.UTC()
}

func hash(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16])
}

type (
	scalar = channels.Scalar
	text   = channels.Text
)
