package telegram

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"switchboard/channels"
)

const secretHeader = "X-Telegram-Bot-Api-Secret-Token"

// Verify implements channels.Webhooks.
func (c *channel) Verify(header http.Header, _ map[string][]string, _ []byte) error {
	got := header.Get(secretHeader)
	if got == "" {
		return fmt.Errorf("%w: no %s header", channels.ErrNoSignature, secretHeader)
	}
	if subtle.ConstantTimeCompare([]byte(got), []byte(c.secret)) != 1 {
		return errors.New("wrong " + secretHeader)
	}
	return nil
}

// Split implements channels.Webhooks: a body is one update.
func (c *channel) Split(raw []byte) ([]channels.RawUpdate, error) {
	u, err := rawUpdate(raw)
	if err != nil {
		return nil, err
	}
	return []channels.RawUpdate{u}, nil
}

// Reply implements channels.Webhooks: Telegram wants nothing. (It would take a
// method call here, whose result nobody sees.)
func (c *channel) Reply([]byte) channels.Reply { return channels.Reply{} }

// rawUpdate finds the keys of an update.
func rawUpdate(raw []byte) (channels.RawUpdate, error) {
	u, err := parseUpdate(raw)
	if err != nil {
		return channels.RawUpdate{}, err
	}
	if u.ID == 0 {
		return channels.RawUpdate{}, errors.New("update without update_id")
	}
	chat := ""
	if id := u.chat(raw); id.id != 0 {
		chat = id.String()
	}
	// update_id grows by one and covers all kinds of update, unlike message_id.
	// (After a quiet week it starts anew, perhaps lower; then nothing older is
	// on its way.)
	return channels.RawUpdate{DedupKey: strconv.FormatInt(u.ID, 10), ChatKey: chat, Order: u.ID, Raw: raw}, nil
}

func parseUpdate(raw []byte) (*update, error) {
	var u update
	if err := lenient(raw, &u); err != nil {
		return nil, fmt.Errorf("reading update: %w", err)
	}
	return &u, nil
}
