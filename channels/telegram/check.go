package telegram

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"time"

	"switchboard/channels"
)

// bot is what getMe says.
type bot struct {
	ID        json.Number `json:"id"`
	FirstName string      `json:"first_name"`
	Username  string      `json:"username"`
}

// webhookInfo is what getWebhookInfo says.
type webhookInfo struct {
	URL              string `json:"url"`
	Pending          int64  `json:"pending_update_count"`
	LastErrorDate    int64  `json:"last_error_date"`
	LastErrorMessage string `json:"last_error_message"`
}

// Check implements channels.Channel. In webhook mode it sets the webhook, in
// poll mode it removes one; updates that wait are kept. Errors are
// *message.Error.
func (c *channel) Check(ctx context.Context) (channels.Health, error) {
	fail := func(err error) (channels.Health, error) { return channels.Health{}, sendError(err, 0) }
	result, err := c.call(ctx, "getMe", nil)
	if e, ok := errors.AsType[*callError](err); ok && e.code == 404 && !e.foreign {
		e.code = 401 // the path holds the token: it is wrong
	}
	if err != nil {
		return fail(err)
	}
	var me bot
	if err := lenient(result, &me); err != nil {
		return fail(&callError{method: "getMe", description: "the answer is not a bot", err: err})
	}
	own := c.env.Webhook(c.account)
	if c.mode == modeWebhook {
		// Always, since the platform doesn't tell which secret it knows.
		_, err := c.call(ctx, "setWebhook", params{"url": own, "secret_token": c.secret, "allowed_updates": allowedUpdates})
		if err != nil {
			return fail(err)
		}
	}
	result, err = c.call(ctx, "getWebhookInfo", nil)
	if err != nil {
		return fail(err)
	}
	var info webhookInfo
	if err := lenient(result, &info); err != nil {
		return fail(&callError{method: "getWebhookInfo", description: "the answer is not a webhook", err: err})
	}
	health := channels.Health{Name: me.FirstName, Details: map[string]string{
		"id": me.ID.String(), "mode": c.mode, "pending_updates": strconv.FormatInt(info.Pending, 10),
	}}
	if me.Username != "" {
		health.Name = "@" + me.Username
	}
	switch {
	case c.mode == modeWebhook:
		health.Details["webhook"] = own
		if info.URL != own {
			health.Warning = "the webhook is set to another address: is another program using this token?"
		} else if info.LastErrorMessage != "" && info.Pending > 0 {
			health.Warning = "Telegram could not deliver: " + c.redact(channels.Shorten(info.LastErrorMessage, 300))
			if t := at(info.LastErrorDate); !t.IsZero() {
				health.Warning += " (" + t.Format(time.RFC3339) + ")"
			}
		}
	case info.URL != "":
		if _, err := c.call(ctx, "deleteWebhook", nil); err != nil {
			return fail(err)
		}
		health.Warning = "a webhook was set" + onHost(info.URL) + " and is now removed: is another program using this token?"
	}
	return health, nil
}

// onHost names the host of a foreign webhook; its path may be a secret.
func onHost(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return " on " + u.Host
	}
	return ""
}
