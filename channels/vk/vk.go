package vk

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

const (
	name = "vk"
	// version is of the calls and of the events.
	version = "5.199"
	apiBase = "https://api.vk.ru"
)

const (
	modePoll     = "poll"
	modeCallback = "callback"
)

// Platform is VK, by the API of communities.
func Platform() channels.Platform {
	return channels.Platform{
		Name: name,
		Settings: []channels.Setting{
			{Key: "token", Help: "the community's token, from Manage, API usage, Access tokens, with the rights to messages, photos, documents and the community", Secret: true, Required: true},
			{Key: "group_id", Help: "the community's number, digits only", Required: true},
			{Key: "mode", Help: "how updates come", Options: []string{modePoll, modeCallback}, Default: modePoll},
			{Key: "secret", Help: "callback mode: the secret key that VK has to send along, 1 to 50 of A-Z a-z 0-9 _", Secret: true},
			{Key: "confirmation", Help: "callback mode: the string that VK wants back when it confirms the address, from Manage, API usage, Callback API"},
		},
		Open: func(a channels.Account, env channels.Env) (channels.Channel, error) { return open(a, env) },
	}
}

// channel is an opened community.
type channel struct {
	account      channels.Account
	env          channels.Env
	token        string
	group        int64
	mode         string
	secret       string
	confirmation string
	base         string // without trailing slash and /method
	now          func() time.Time
	limits       channels.Limits
	// wait sleeps; false when ctx ended first.
	wait func(ctx context.Context, d time.Duration) bool

	mu      sync.Mutex
	session *session // of the long poll; nil: to be asked for
	// floods are the methods whose quantity limit is reached.
	floods map[string]*channels.Backoff
	// caughtUp says that nothing is missing since callbacks were last well.
	caughtUp bool
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
	_ channels.Keeper       = (*channel)(nil)
)

func open(a channels.Account, env channels.Env) (*channel, error) {
	c := &channel{
		account: a, env: env, token: a.Setting("token", ""), mode: a.Setting("mode", modePoll),
		secret: a.Setting("secret", ""), confirmation: strings.TrimSpace(a.Setting("confirmation", "")), now: time.Now, wait: channels.Sleep, floods: map[string]*channels.Backoff{},
	}
	group := a.Setting("group_id", "")
	var err error
	switch c.group, err = strconv.ParseInt(group, 10, 64); {
	case c.token == "":
		return nil, errors.New("setting token is missing: VK shows it under Manage, API usage, Access tokens")
	case strings.ContainsFunc(c.token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("setting token holds spaces or other characters that a token never has")
	case group == "":
		return nil, errors.New("setting group_id is missing: the community's number, digits only")
	case err != nil || c.group <= 0 || c.group >= firstChat:
		return nil, fmt.Errorf("setting group_id is %q; use the community's number, digits only, like 123456789", group)
	case c.mode != modePoll && c.mode != modeCallback:
		return nil, fmt.Errorf("setting mode is %q; use %s or %s", c.mode, modePoll, modeCallback)
	case len(c.secret) > 50 || strings.ContainsFunc(c.secret, func(r rune) bool { return !isWord(r) }):
		return nil, errors.New("setting secret has the wrong shape: use 1 to 50 of A-Z a-z 0-9 _")
	case c.mode == modeCallback && c.secret == "":
		return nil, errors.New("setting secret is missing: callback mode needs the secret key that VK sends along, 1 to 50 of A-Z a-z 0-9 _")
	case c.mode == modeCallback && c.confirmation == "":
		return nil, errors.New("setting confirmation is missing: callback mode needs the string that VK shows under Manage, API usage, Callback API")
	case len(c.confirmation) > 100 || strings.ContainsFunc(c.confirmation, func(r rune) bool { return !isWord(r) }):
		return nil, errors.New("setting confirmation has the wrong shape: it is a short word of letters and digits, like 1a2b3c4d")
	}
	c.base = strings.TrimSuffix(strings.TrimRight(a.Setting("api_base", apiBase), "/"), "/method")
	if u, err := url.Parse(c.base); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("setting api_base is not an address like %s", apiBase)
	}
	if c.limits, err = ownLimits(a); err != nil {
		return nil, err
	}
	return c, nil
}

func isWord(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
}

// firstChat is above every id of a person; the ids of group chats begin there.
const firstChat = 2_000_000_000

// parsePeer reads a chat key.
func parsePeer(key string) (int64, error) {
	id, err := strconv.ParseInt(key, 10, 64)
	if err != nil || id == 0 {
		return 0, invalid("the chat is not a VK peer id (a whole number)")
	}
	return id, nil
}

func invalid(detail string) *message.Error {
	return &message.Error{Kind: message.ErrInvalid, Detail: detail}
}
