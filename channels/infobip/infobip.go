package infobip

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// name is the platform's word in the public contract.
const name = "infobip"

// apiBase is the host that all accounts share; api_base replaces it by the
// account's own, https://{personal}.api.infobip.com.
const apiBase = "https://api.infobip.com"

// Platform is WhatsApp over Infobip.
func Platform() channels.Platform {
	return channels.Platform{
		Name: name,
		Settings: []channels.Setting{
			{Key: "api_key", Help: "an API key of Infobip's portal, with the scopes for WhatsApp and subscriptions", Secret: true, Required: true},
			{Key: "sender", Help: "the WhatsApp number that the account writes from, digits with the country's code", Required: true},
			{Key: "webhook_user", Help: "name by which Infobip signs in at our webhook; you choose it", Required: true},
			{Key: "webhook_password", Help: "password by which Infobip signs in at our webhook; you choose it", Secret: true, Required: true},
			{Key: "list_title", Help: "what stands on the button that opens a list of more than three choices, up to 20 characters", Default: "Menu"},
		},
		Open: func(account channels.Account, env channels.Env) (channels.Channel, error) { return open(account, env) },
	}
}

// channel is an opened number. It is immutable.
type channel struct {
	env            channels.Env
	account        channels.Account
	key            string
	sender         string
	user, password string
	listTitle      string
	base           *url.URL // without trailing slash
	limits         channels.Limits
}

var (
	_ channels.Channel  = (*channel)(nil)
	_ channels.Webhooks = (*channel)(nil)
	_ channels.Typer    = (*channel)(nil)
)

func open(account channels.Account, env channels.Env) (*channel, error) {
	c := &channel{
		env: env, account: account,
		key:    account.Setting("api_key", ""),
		sender: strings.TrimPrefix(account.Setting("sender", ""), "+"),
		user:   account.Setting("webhook_user", ""), password: account.Setting("webhook_password", ""),
		listTitle: account.Setting("list_title", "Menu"),
	}
	switch {
	case c.key == "":
		return nil, errors.New("setting api_key: must not be empty; create a key in Infobip's portal under Developers, API keys")
	case strings.ContainsFunc(c.key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("setting api_key: holds spaces or other characters that a key never has")
	case !isPhone(c.sender):
		return nil, errors.New("setting sender: must be the number in digits with the country's code, like 79001112233")
	case c.user == "" || strings.Contains(c.user, ":"):
		return nil, errors.New("setting webhook_user: must be a name without a colon; you choose it")
	case c.password == "":
		return nil, errors.New("setting webhook_password: must not be empty; use 20 characters or more, by chance")
	}
	if n := message.UnitUTF16.Count(c.listTitle); n > maxButtonTitle {
		return nil, fmt.Errorf("setting list_title: has %d characters; use up to %d", n, maxButtonTitle)
	}
	base := account.Setting("api_base", apiBase)
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("setting api_base: is not an address; use your own https://xxxxx.api.infobip.com from the portal's first page")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	c.base = u
	if c.limits, err = ownLimits(account); err != nil {
		return nil, err
	}
	return c, nil
}

// isPhone reports whether s is an international number in digits: E.164 has up
// to 15, and test senders are as short as 5.
func isPhone(s string) bool { return len(s) >= 5 && len(s) <= 15 && isDigits(s) && s[0] != '0' }

func isDigits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// isUserID reports whether s is a business-scoped user id: the country, a dot,
// and letters and digits.
func isUserID(s string) bool {
	country, id, ok := strings.Cut(s, ".")
	word := func(s string, first rune) bool {
		return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
			return (r < 'A' || r > 'Z') && (first == 'A' || (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.')
		})
	}
	return ok && len(s) <= maxAddress && len(country) == 2 && word(country, 'A') && word(id, 0)
}

// layout is how Infobip writes times, with a fraction of any length or none; RFC
// 3339 would have a colon in the zone.
const layout = "2006-01-02T15:04:05Z0700"

// instant reads a time; zero where it is none.
func instant(s string) time.Time {
	t, err := time.Parse(layout, s)
	if err != nil {
		if t, err = time.Parse(time.RFC3339, s); err != nil {
			return time.Time{}
		}
	}
	if t = t.UTC(); t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
