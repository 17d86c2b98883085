package infobip

import (
	"context"
	"net/http"
	"strconv"

	"switchboard/channels"
	"switchboard/message"
)

// Check asks for the number's templates, which proves the key and the number, and
// subscribes our webhook. A key without the scope for subscriptions still works:
// the webhook is to be set by hand then. Errors are *message.Error.
func (c *channel) Check(ctx context.Context) (channels.Health, error) {
	var have struct {
		Templates []struct {
			Status channels.Scalar `json:"status"`
		} `json:"templates"`
	}
	if _, failure := c.call(ctx, http.MethodGet, "/whatsapp/2/senders/"+c.sender+"/templates", "templates", nil, &have, nil); failure != nil {
		return channels.Health{}, failure
	}
	approved := 0
	for _, t := range have.Templates {
		if t.Status == "APPROVED" {
			approved++
		}
	}
	h := channels.Health{Name: "WhatsApp " + c.sender, Details: map[string]string{"approved_templates": strconv.Itoa(approved), "webhook": c.env.Webhook(c.account)}}
	if c.env.PublicURL == "" {
		return h, &message.Error{Kind: message.ErrAccount, Detail: "no public address is configured that Infobip could call"}
	}
	f, failure := c.call(ctx, http.MethodPost, "/subscriptions/1/subscription/WHATSAPP", "subscription", c.subscription(), nil, nil)
	status := 0
	if failure != nil {
		status, _ = strconv.Atoi(failure.Code)
	}
	switch {
	case failure == nil || f != nil && subscribed(f, status):
	case status == http.StatusForbidden || status == http.StatusNotFound:
		h.Warning = "the key may not subscribe the webhook; set its address, user and password in Infobip's portal, or give the key the scope for subscriptions"
	default:
		return h, failure
	}
	return h, nil
}

// subscription wants every event of the number at our webhook, with basic
// authorization. Its id holds a digest of what matters, so that changed settings
// make another one and unchanged ones the same.
func (c *channel) subscription() any {
	hook := c.env.Webhook(c.account)
	id := "switchboard-" + hash(c.sender + "\n" + hook + "\n" + c.user + "\n" + c.password + "\n" + c.key)[:16]
	return object{
		"subscriptionId": id,
		"name":           "Switchboard " + c.sender,
		"events":         []string{"INBOUND_MESSAGE", "DELIVERY", "SEEN", "MARKETING_SUBSCRIPTION_UPDATE", "IDENTITY_CHANGE"},
		"resources":      []string{c.sender},
		"profile": object{
			"profileId": id,
			"webhook":   object{"contentType": "application/json", "notifyUrl": hook},
			"security": object{
				"authId": id, "type": "BASIC",
				"credentials": object{"username": c.user, "password": c.password},
			},
			"maxBucketSize": 100, "windowSize": 50, "connectTimeout": 5000, "readTimeout": 15000,
		},
	}
}
