package mfms

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// nobody is an id that no message has.
const nobody = "00000000-0000-0000-0000-000000000000"

// Check asks for a message that does not exist: any answer to that proves address,
// login and password. MFMS has no call to register a webhook with; Health shows the
// address to hand in, without its password. Errors are *message.Error.
func (c *channel) Check(ctx context.Context) (channels.Health, error) {
	var failure *message.Error
	if c.hpx {
		failure = c.hpxCheck(ctx)
	} else {
		_, _, failure = c.call(ctx, http.MethodGet, pathPoll+nobody, nil)
	}
	if failure != nil && failure.Code != codeNotFound && !strings.HasPrefix(failure.Code, "error-instant-message-provider-id-") {
		if failure.Code == "404" {
			failure.Kind, failure.Detail = message.ErrAccount, "the address in the setting api_base is not MFMS's"
		}
		return channels.Health{}, failure
	}
	h := channels.Health{Name: c.sender, Details: map[string]string{"webhook": c.webhook()}}
	switch {
	case c.env.PublicURL == "":
		h.Warning = "no public address is configured that MFMS could call"
	case !strings.HasPrefix(c.env.PublicURL, "https://"):
		h.Warning = "MFMS calls and fetches files over https only; the public address is not"
	}
	return h, nil
}

// webhook is the address to register with MFMS, where the password follows the
// user: https://user:password@host/...
func (c *channel) webhook() string {
	u, err := url.Parse(c.env.Webhook(c.account))
	if err != nil {
		return c.env.Webhook(c.account)
	}
	u.User = url.User(c.hookUser)
	return u.String()
}
