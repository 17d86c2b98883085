package mfms

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"switchboard/channels"
)

// name is the platform's word in the public contract.
const name = "mfms"

// The values of the setting dialect.
const (
	dialectJSON = "json"
	dialectHPX  = "hpx"
)

// Platform is WhatsApp over MFMS.
func Platform() channels.Platform {
	return channels.Platform{
		Name: name,
		Settings: []channels.Setting{
			{Key: "dialect", Help: "which connector of MFMS: JSON, or XML (hpx), which sends texts only", Options: []string{dialectJSON, dialectHPX}, Default: dialectJSON},
			{Key: "login", Help: "the connector's login; empty when password is an API key"},
			{Key: "password", Help: "the connector's password, or the API key when there is no login", Secret: true, Required: true},
			{Key: "sender", Help: "the subject that MFMS gave to your WhatsApp number, like ACME_WA", Required: true},
			{Key: "webhook_user", Help: "the user with whom MFMS calls us, chosen by you; goes into the address you register there", Required: true},
			{Key: "webhook_password", Help: "the password with which MFMS calls us, chosen by you", Secret: true, Required: true},
		},
		Open: func(account channels.Account, env channels.Env) (channels.Channel, error) { return open(account, env) },
	}
}

// channel is an opened account. It is immutable.
type channel struct {
	env                     channels.Env
	account                 channels.Account
	hpx                     bool // the XML connector
	login, password, sender string
	hookUser, hookPassword  string
	base                    *url.URL // the API's address, path without trailing slash
	validity                time.Duration
	limits                  channels.Limits
	ids                     scrambler
}

var (
	_ channels.Channel  = (*channel)(nil)
	_ channels.Webhooks = (*channel)(nil)
	_ channels.Probed   = (*channel)(nil)
	_ channels.Reporter = (*channel)(nil)
)

func open(account channels.Account, env channels.Env) (*channel, error) {
	c := &channel{
		env: env, account: account,
		login: account.Setting("login", ""), password: account.Setting("password", ""), sender: account.Setting("sender", ""),
		hookUser: account.Setting("webhook_user", ""), hookPassword: account.Setting("webhook_password", ""),
		validity: maxValidity, ids: newScrambler(account.ID),
	}
	switch dialect := account.Setting("dialect", dialectJSON); dialect {
	case dialectJSON, dialectHPX:
		c.hpx = dialect == dialectHPX
	default:
		return nil, fmt.Errorf("setting dialect: is json or hpx, not %q", dialect)
	}
	for key, value := range map[string]string{"password": c.password, "sender": c.sender, "webhook_user": c.hookUser, "webhook_password": c.hookPassword} {
		if value == "" {
			return nil, fmt.Errorf("setting %s: must not be empty", key)
		}
	}
	for key, value := range map[string]string{"login": c.login, "password": c.password, "sender": c.sender, "webhook_user": c.hookUser, "webhook_password": c.hookPassword} {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) || strings.TrimSpace(value) != value {
			return nil, fmt.Errorf("setting %s: has control characters, or spaces around it", key)
		}
	}
	switch {
	case c.hpx && c.login == "":
		return nil, errors.New("setting login: must not be empty with dialect=hpx")
	case c.hpx && account.Setting("api_base", "") == "":
		return nil, errors.New("setting api_base: must not be empty with dialect=hpx; it stands in the contract, like https://gate01.mfms.ru:5443/acme/connector0/service")
	}
	// A header holds the key as it is; Basic encodes what it holds.
	if !c.hpx && c.login == "" && strings.ContainsFunc(c.password, func(r rune) bool { return r > '~' || r == ' ' }) {
		return nil, errors.New("setting password: an API key has letters, digits and signs of ASCII only; with a password set login, too")
	}
	for key, user := range map[string]string{"login": c.login, "webhook_user": c.hookUser} {
		if strings.Contains(user, ":") {
			return nil, fmt.Errorf("setting %s: must not hold a colon, which ends the user's name in Basic authorisation", key)
		}
	}
	base, err := url.Parse(account.Setting("api_base", apiBase))
	if err != nil || (base.Scheme != "https" && base.Scheme != "http") || base.Host == "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, errors.New("setting api_base: is not an address; use https://host, as MFMS gave it to you, without /api")
	}
	end := "/api"
	if c.hpx {
		end = pathService
	}
	base.Path, base.RawPath = strings.TrimSuffix(strings.TrimRight(base.Path, "/"), end), ""
	c.base = base
	if c.limits, err = ownLimits(account); err != nil {
		return nil, err
	}
	if d, err := time.ParseDuration(account.Setting("ttl", "")); err == nil {
		c.validity = min(max(d, minValidity), maxValidity)
	}
	return c, nil
}
