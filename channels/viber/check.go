package viber

import (
	"context"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// Check asks for the bot's name and sets its webhook, which Viber tries out
// before it answers: this process or another edge must be listening. Errors are
// *message.Error.
func (c *channel) Check(ctx context.Context) (channels.Health, error) {
	info, failure := c.call(ctx, "get_account_info", struct{}{}, nil)
	if failure != nil {
		return channels.Health{}, failure
	}
	ours := ""
	if c.env.PublicURL != "" {
		ours = c.env.Webhook(c.account)
	}
	h := channels.Health{Name: string(info.Name), Details: map[string]string{"webhook": ours}}
	if info.URI != "" {
		h.Details["uri"] = string(info.URI)
	}
	if info.Subscribers != "" {
		h.Details["subscribers"] = string(info.Subscribers)
	}
	if failure := c.setWebhook(ctx, nil); failure != nil {
		if failure.Code == statusInvalidURL {
			failure = c.refusedWebhook(ours, failure)
		}
		return h, failure
	}
	if before := string(info.Webhook); before != "" && before != ours {
		h.Details["previous_webhook"] = before
		h.Warning = "the bot called another address before, and a bot has only one: " + before + " gets nothing any more"
	}
	return h, nil
}

// refusedWebhook says in plain words what Viber tells by a Java exception, or
// by nothing at all.
func (c *channel) refusedWebhook(address string, cause *message.Error) *message.Error {
	e := *cause
	e.Kind = message.ErrAccount
	why := "it must answer from the internet, over https, with a certificate of a public authority and its full chain"
	if !strings.HasPrefix(address, "https://") {
		why = "it must begin with https://"
	}
	e.Detail = "Viber could not call our webhook " + address + ": " + why + " (Viber says: " + e.Detail + ")"
	return &e
}
