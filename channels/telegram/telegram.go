package telegram

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

const name = "telegram"

const (
	modePoll    = "poll"
	modeWebhook = "webhook"
)

// Platform is Telegram, by its Bot API.
func Platform() channels.Platform {
	return channels.Platform{
		Name: name,
		Settings: []channels.Setting{
			{Key: "token", Help: "the bot's token, as @BotFather gave it: digits, a colon, letters", Secret: true, Required: true},
			{Key: "mode", Help: "how updates come", Options: []string{modePoll, modeWebhook}, Default: modePoll},
			{Key: "secret", Help: "webhook mode: what Telegram has to send along, 1 to 256 of A-Z a-z 0-9 _ -; made from the token when not set", Secret: true},
			{Key: "file_base", Help: "address of file downloads; api_base with /file when not set"},
			{Key: "local", Help: "for a private Bot API server running with --local: its folder, shared with this machine"},
		},
		Open: open,
	}
}

// channel is an opened bot. It has no state: everything may be called from many
// goroutines.
type channel struct {
	account  channels.Account
	env      channels.Env
	token    string
	mode     string
	secret   string
	base     string // without trailing slash
	fileBase string
	local    string // folder, "" for a server that isn't ours
	limits   channels.Limits
}

var (
	_ channels.Channel      = (*channel)(nil)
	_ channels.Webhooks     = (*channel)(nil)
	_ channels.Poller       = (*channel)(nil)
	_ channels.Editor       = (*channel)(nil)
	_ channels.Deleter      = (*channel)(nil)
	_ channels.Forwarder    = (*channel)(nil)
	_ channels.Typer        = (*channel)(nil)
	_ channels.Acknowledger = (*channel)(nil)
	_ channels.Profiler     = (*channel)(nil)
)

var (
	tokenShape  = regexp.MustCompile(`^[0-9]{1,20}:[A-Za-z0-9_-]+$`)
	secretShape = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)
)

func open(a channels.Account, env channels.Env) (channels.Channel, error) {
	c := &channel{account: a, env: env, token: a.Setting("token", ""), mode: a.Setting("mode", modePoll), secret: a.Setting("secret", ""), local: a.Setting("local", "")}
	switch {
	case c.token == "":
		return nil, errors.New("token is missing: @BotFather shows it after /newbot")
	case !tokenShape.MatchString(c.token) || len(c.token) >= 80:
		return nil, errors.New("token has the wrong shape: it is digits, a colon, then letters, digits, _ and -")
	case c.mode != modePoll && c.mode != modeWebhook:
		return nil, fmt.Errorf("mode is %q; use %s or %s", c.mode, modePoll, modeWebhook)
	case c.secret != "" && !secretShape.MatchString(c.secret):
		return nil, errors.New("secret has the wrong shape: use 1 to 256 of A-Z a-z 0-9 _ -")
	case c.local != "" && !filepath.IsAbs(c.local):
		return nil, fmt.Errorf("local is %q; use the absolute path of the server's folder", c.local)
	}
	if c.secret == "" {
		mac := hmac.New(sha256.New, []byte(c.token))
		mac.Write([]byte("switchboard telegram webhook secret"))
		c.secret = hex.EncodeToString(mac.Sum(nil))
	}
	var err error
	if c.base, err = address("api_base", a.Setting("api_base", "https://api.telegram.org")); err != nil {
		return nil, err
	}
	if c.fileBase, err = address("file_base", a.Setting("file_base", c.base+"/file")); err != nil {
		return nil, err
	}
	if c.limits, err = c.ownLimits(); err != nil {
		return nil, err
	}
	return c, nil
}

func address(key, value string) (string, error) {
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%s is not an address like https://api.telegram.org", key)
	}
	return strings.TrimRight(value, "/"), nil
}

// chatID is a chat key, parsed.
type chatID struct {
	id       int64
	business string // connection id; "" for the bot's own chats
}

func (id chatID) String() string {
	s := strconv.FormatInt(id.id, 10)
	if id.business != "" {
		s += "@" + id.business
	}
	return s
}

func parseChat(key string) (chatID, error) {
	digits, business, _ := strings.Cut(key, "@")
	id, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || id == 0 {
		return chatID{}, &message.Error{Kind: message.ErrInvalid, Detail: "the chat is not a Telegram chat id (a whole number)"}
	}
	return chatID{id, business}, nil
}

// params starts the parameters of a call about the chat.
func (id chatID) params() params {
	p := params{"chat_id": id.id}
	if id.business != "" {
		p["business_connection_id"] = id.business
	}
	return p
}
