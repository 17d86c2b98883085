package viber

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"net/url"
	"strings"
	"sync"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// apiBase is Viber's own address; api_base replaces it.
const apiBase = "https://chatapi.viber.com/pa"

// maxSender is the longest sender.name. Viber says characters; UTF-16 units are
// never fewer than those, so the limit holds in either count.
const maxSender = 28

// Platform is Viber.
func Platform() channels.Platform {
	return channels.Platform{
		Name: "viber",
		Settings: []channels.Setting{
			{Key: "token", Help: "the bot's token, from Edit info in the app or the partners' panel", Secret: true, Required: true},
			{Key: "sender_name", Help: "the name customers see where no operator's name is sent, up to 28 characters", Required: true},
			{Key: "sender_avatar", Help: "public https address of the picture beside that name, up to 100 KB"},
			{Key: "welcome", Help: "text shown to a customer who opens the chat for the first time, before they write"},
			{Key: "welcome_keyboard", Help: `reply keyboard under the welcome, as JSON: {"kind":"reply","rows":[[{"text":"Prices","payload":"prices"}]]}`},
		},
		Open: func(account channels.Account, env channels.Env) (channels.Channel, error) { return open(account, env) },
	}
}

// channel is an opened Viber bot. It is immutable apart from the pool.
type channel struct {
	env     channels.Env
	account channels.Account
	token   string
	base    string // the API's address, without trailing slash
	sender  sender
	limits  channels.Limits
	// phoneMark is the ActionBody of our share-phone buttons: a contact that
	// comes back with it is the customer's own number. Customers can't make it up.
	phoneMark string
	// welcome is the ready answer to conversation_started; nil when there is none.
	welcome []byte
	now     func() time.Time
	// macs holds keyed hash.Hash values: keying costs more than hashing a callback.
	macs sync.Pool
}

var (
	_ channels.Channel  = (*channel)(nil)
	_ channels.Webhooks = (*channel)(nil)
)

func open(account channels.Account, env channels.Env) (*channel, error) {
	token := account.Setting("token", "")
	if token == "" {
		return nil, errors.New("setting token: must not be empty; Viber shows it under Edit info of the bot")
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("setting token: holds spaces or other characters that a token never has")
	}
	name := account.Setting("sender_name", "")
	if strings.TrimSpace(name) == "" {
		return nil, errors.New("setting sender_name: must not be empty; it is the name customers see")
	}
	if n := message.UnitUTF16.Count(name); n > maxSender {
		return nil, fmt.Errorf("setting sender_name: has %d characters; Viber takes %d", n, maxSender)
	}
	avatar := account.Setting("sender_avatar", "")
	if avatar != "" && channels.WebAddress(avatar) == nil {
		return nil, fmt.Errorf("setting sender_avatar: %q is not a web address; use https://...", avatar)
	}
	base, err := parseBase(account.Setting("api_base", apiBase))
	if err != nil {
		return nil, err
	}
	c := &channel{
		env:     env,
		account: account,
		token:   token,
		base:    base,
		sender:  sender{Name: name, Avatar: avatar},
		now:     time.Now,
	}
	if c.limits, err = ownLimits(account); err != nil {
		return nil, err
	}
	c.macs.New = func() any { return hmac.New(sha256.New, []byte(token)) }
	c.phoneMark = phoneMark(c.mac([]byte("share-phone " + account.ID)))
	if c.welcome, err = c.buildWelcome(account.Setting("welcome", ""), account.Setting("welcome_keyboard", "")); err != nil {
		return nil, err
	}
	return c, nil
}

// parseBase checks the API's address. The API lives under /pa, which may be
// left out of api_base.
func parseBase(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("setting api_base: %q is not an address; use https://host/pa", s)
	}
	base := strings.TrimRight(s, "/")
	if !strings.HasSuffix(base, "/pa") {
		base += "/pa"
	}
	return base, nil
}

// mac is the HMAC-SHA256 of data under the token.
func (c *channel) mac(data []byte) (sum [sha256.Size]byte) {
	h := c.macs.Get().(hash.Hash)
	h.Reset()
	h.Write(data)
	h.Sum(sum[:0])
	c.macs.Put(h)
	return sum
}

func phoneMark(sum [sha256.Size]byte) string {
	return phoneMarkPrefix + hex.EncodeToString(sum[:12])
}

// buildWelcome makes the answer to conversation_started; nil without a text.
func (c *channel) buildWelcome(text, keyboard string) ([]byte, error) {
	if text == "" {
		if keyboard != "" {
			return nil, errors.New("setting welcome_keyboard: needs the setting welcome beside it")
		}
		return nil, nil
	}
	if n := textLimit.Unit.Count(text); n > textLimit.Max {
		return nil, fmt.Errorf("setting welcome: has %d characters; Viber takes %d", n, textLimit.Max)
	}
	content := message.Content{Kind: message.KindText, Text: text}
	if keyboard != "" {
		d := json.NewDecoder(strings.NewReader(keyboard))
		d.DisallowUnknownFields()
		if err := d.Decode(&content.Keyboard); err != nil {
			return nil, fmt.Errorf("setting welcome_keyboard: %w; use a keyboard as in messages, like {\"kind\":\"reply\",\"rows\":[[{\"text\":\"Yes\",\"payload\":\"y\"}]]}", err)
		}
	}
	caps := c.Capabilities()
	if err := caps.Check(&content, false); err != nil {
		return nil, fmt.Errorf("setting welcome_keyboard: %w", err)
	}
	body, err := channels.EncodeJSON(c.request(&message.Outbound{Content: content}, ""))
	if err != nil {
		return nil, fmt.Errorf("setting welcome: %w", err)
	}
	if len(body) > maxRequest {
		return nil, fmt.Errorf("setting welcome: makes %d bytes with its keyboard; Viber takes %d", len(body), maxRequest)
	}
	return body, nil
}
