package ok

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"switchboard/channels"
)

// name is the platform's word in the public contract.
const name = "ok"

// apiBase is OK's own address; api_base replaces it.
const apiBase = "https://api.ok.ru/graph"

// Platform is Odnoklassniki.
func Platform() channels.Platform {
	return channels.Platform{
		Name: name,
		Settings: []channels.Setting{
			{Key: "token", Help: "the group's access key, from the messages section of the group's settings", Secret: true, Required: true},
			{Key: "secret", Help: "goes into the webhook's address, since OK signs nothing; made from the token when empty", Secret: true},
			{Key: "after_press", Help: "text that takes the place of a message once one of its buttons was pressed; empty leaves it as it is"},
		},
		Open: func(account channels.Account, env channels.Env) (channels.Channel, error) { return open(account, env) },
	}
}

// channel is an opened group. It is immutable apart from what mu guards.
type channel struct {
	env        channels.Env
	account    channels.Account
	token      string
	secret     string
	base       *url.URL // the API's address, path without trailing slash
	afterPress string
	limits     channels.Limits
	now        func() time.Time
	// wait sleeps; false when ctx ended first.
	wait func(ctx context.Context, d time.Duration) bool

	mu     sync.Mutex
	tokens map[upload]uploaded
	flood  channels.Backoff // of codes 8 and 11
	kept   time.Time        // when Upkeep last saw to the subscription
	hole   time.Time        // since when messages may be missing; zero: they are not
}

var (
	_ channels.Channel  = (*channel)(nil)
	_ channels.Webhooks = (*channel)(nil)
	_ channels.Keeper   = (*channel)(nil)
)

func open(account channels.Account, env channels.Env) (*channel, error) {
	token := account.Setting("token", "")
	if token == "" {
		return nil, errors.New("setting token: must not be empty; take the access key from the messages section of the group's settings")
	}
	if !plain(token) {
		return nil, errors.New("setting token: holds spaces or other characters that an access key never has")
	}
	secret := account.Setting("secret", "")
	if !plain(secret) {
		return nil, errors.New("setting secret: use letters, digits and signs of ASCII without spaces, 32 of them by chance")
	}
	if secret == "" {
		mac := hmac.New(sha256.New, []byte(token))
		mac.Write([]byte("webhook of " + account.ID))
		secret = hex.EncodeToString(mac.Sum(nil)[:16])
	}
	base, err := parseBase(account.Setting("api_base", apiBase))
	if err != nil {
		return nil, err
	}
	after := account.Setting("after_press", "")
	if n := textLimit.Unit.Count(after); n > textLimit.Max {
		return nil, fmt.Errorf("setting after_press: has %d characters; use up to %d", n, textLimit.Max)
	}
	limits, err := ownLimits(account)
	if err != nil {
		return nil, err
	}
	return &channel{
		env: env, account: account, token: token, secret: secret, base: base, afterPress: after, limits: limits,
		now: time.Now, wait: channels.Sleep, tokens: map[upload]uploaded{},
	}, nil
}

// plain is visible ASCII only.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// parseBase checks the API's address. The API lives under /graph, which may be
// left out of api_base.
func parseBase(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("setting api_base: %q is not an address; use https://host/graph", s)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	if !strings.HasSuffix(u.Path, "/graph") {
		u.Path += "/graph"
	}
	return u, nil
}
