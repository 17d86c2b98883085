package ok

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// wanted are the events that we subscribe to.
var wanted = []string{eventMessage, eventPress, eventSystem}

// Check asks for the group's name and subscribes our webhook. Older addresses of
// this account are dropped; others are left and shown, since each of them gets
// every event too. Errors are *message.Error.
func (c *channel) Check(ctx context.Context) (channels.Health, error) {
	var me struct {
		Name  text   `json:"name"`
		Group scalar `json:"group_id"`
	}
	if failure := c.call(ctx, request{method: http.MethodGet, path: "/me/info"}, &me); failure != nil {
		return channels.Health{}, failure
	}
	h := channels.Health{Name: string(me.Name), Details: map[string]string{"group_id": string(me.Group)}}
	_, others, failure := c.subscribe(ctx)
	if failure != nil {
		return h, failure
	}
	h.Details["webhook"] = c.env.Webhook(c.account) // without the secret
	if len(others) > 0 {
		h.Warning = "the group calls other addresses too, each with every event; if operators are there as well, customers get two answers: " + strings.Join(others, ", ")
	}
	return h, nil
}

// subscribe makes sure that our webhook is subscribed. found tells that it was
// already; others are the hosts of foreign addresses.
func (c *channel) subscribe(ctx context.Context) (found bool, others []string, failure *message.Error) {
	if c.env.PublicURL == "" {
		return false, nil, &message.Error{Kind: message.ErrAccount, Detail: "no public address is configured that OK could call"}
	}
	var have struct {
		Subscriptions []struct {
			URL text `json:"url"`
		} `json:"subscriptions"`
	}
	if failure := c.call(ctx, request{method: http.MethodGet, path: "/me/subscriptions"}, &have); failure != nil {
		return false, nil, failure
	}
	ours := c.webhook()
	var stale []string
	for _, s := range have.Subscriptions {
		switch address := string(s.URL); {
		case address == ours:
			found = true
		case c.isStale(address):
			stale = append(stale, address)
		default:
			others = append(others, host(address))
		}
	}
	if !found {
		if failure := c.change(ctx, "/me/subscribe", map[string]any{"url": ours, "types": wanted}); failure != nil {
			return false, others, failure
		}
	}
	for _, address := range stale { // after the new one: no moment is without
		if failure := c.change(ctx, "/me/unsubscribe", map[string]any{"url": address}); failure != nil {
			return found, others, failure
		}
	}
	return found, others, nil
}

func (c *channel) change(ctx context.Context, path string, body any) *message.Error {
	var answer struct {
		Success *bool `json:"success"`
	}
	failure := c.call(ctx, request{method: http.MethodPost, path: path, body: body}, &answer)
	if failure == nil && answer.Success != nil && !*answer.Success {
		failure = &message.Error{Kind: message.ErrAccount, Code: "success:false", Detail: "OK refuses our webhook " + c.env.Webhook(c.account)}
	}
	return failure
}

// isStale reports that an address was this account's: with another secret, or
// under another public address.
func (c *channel) isStale(address string) bool {
	u, err := url.Parse(address)
	return err == nil && c.account.ID != "" && strings.HasSuffix(u.Path, "/webhooks/"+c.account.Platform+"/"+c.account.ID)
}

// host names a foreign address; the rest of it may be a secret.
func host(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return "an unreadable address"
}
