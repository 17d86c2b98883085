package vk

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// needed are the rights that the token must have, with what fails without.
var needed = []struct{ right, use string }{
	{"messages", "messages"}, {"photos", "pictures"}, {"docs", "documents and voice messages"}, {"manage", "switching events on"},
}

// serverTitle is the callback server's name in VK's settings, 14 characters at most.
const serverTitle = "switchboard"

// Check implements channels.Channel. In poll mode it switches the long poll on, in
// callback mode it adds our address, which VK tries before it answers: this process
// or another edge must be listening. Errors are *message.Error.
func (c *channel) Check(ctx context.Context) (channels.Health, error) {
	raw, err := c.call(ctx, "groups.getById", nil)
	if err != nil {
		return channels.Health{}, c.classify(err, true)
	}
	type group struct {
		ID         int64  `json:"id"`
		Name       string `json:"name"`
		ScreenName string `json:"screen_name"`
	}
	var got struct {
		Groups []group `json:"groups"`
	}
	var groups []group // older versions give the bare list
	if lenient(raw, &got) == nil && len(got.Groups) > 0 {
		groups = got.Groups
	} else {
		_ = lenient(raw, &groups)
	}
	if len(groups) == 0 || groups[0].ID == 0 {
		return channels.Health{}, &message.Error{Kind: message.ErrAccount, Detail: "the token belongs to no community; use one from Manage, API usage, Access tokens"}
	}
	g := groups[0]
	if g.ID != c.group {
		return channels.Health{}, &message.Error{Kind: message.ErrAccount, Detail: fmt.Sprintf("the token is of community %d and the setting group_id says %d", g.ID, c.group)}
	}
	h := channels.Health{Name: g.Name, Details: map[string]string{"id": number(g.ID), "mode": c.mode}}
	if g.ScreenName != "" {
		h.Details["address"] = "https://vk.me/" + g.ScreenName
	}
	warnings := c.missingRights(ctx)
	if c.mode == modePoll {
		if _, err := c.call(ctx, "groups.setLongPollSettings", c.events(nil)); err != nil {
			e := c.classify(err, true)
			warnings = append(warnings, "the events of the long poll could not be switched on ("+e.Detail+"); switch them on in Manage, API usage, Long Poll API")
		}
	} else {
		h.Details["webhook"] = c.env.Webhook(c.account)
		s, err := c.callbackServer(ctx)
		if err != nil {
			return h, c.classify(err, true)
		}
		if s.ID != 0 && s.Status != callbackOK && s.Status != "" {
			warnings = append(warnings, "VK's state of our address is "+channels.Shorten(s.Status, 40)+": it must answer from the internet")
		}
		if err := c.setCallback(ctx, s); err != nil {
			return h, err
		}
	}
	h.Warning = strings.Join(warnings, "; ")
	return h, nil
}

func (c *channel) missingRights(ctx context.Context) []string {
	raw, err := c.call(ctx, "groups.getTokenPermissions", nil)
	var got struct {
		Permissions []struct {
			Name string `json:"name"`
		} `json:"permissions"`
	}
	if err != nil || lenient(raw, &got) != nil || len(got.Permissions) == 0 {
		return nil // not told
	}
	has := map[string]bool{}
	for _, p := range got.Permissions {
		has[p.Name] = true
	}
	var missing []string
	for _, n := range needed {
		if !has[n.right] {
			missing = append(missing, n.right+" (for "+n.use+")")
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return []string{"the token lacks the rights " + strings.Join(missing, ", ") + "; make a new one with them"}
}

// callbackServer is one of the addresses that VK calls.
type callbackServer struct {
	ID     int64  `json:"id"` // 0: there is none
	URL    string `json:"url"`
	Status string `json:"status"`
}

// callbackOK is the status of an address that works; others are unconfigured,
// failed and wait.
const callbackOK = "ok"

// callbackServer finds our address among those that VK calls. Errors are
// *callError.
func (c *channel) callbackServer(ctx context.Context) (callbackServer, error) {
	const method = "groups.getCallbackServers"
	raw, err := c.call(ctx, method, url.Values{"group_id": {number(c.group)}})
	if err != nil {
		return callbackServer{}, err
	}
	var servers struct {
		Items []callbackServer `json:"items"`
	}
	if err := lenient(raw, &servers); err != nil {
		return callbackServer{}, &callError{method: method, detail: "the answer is no list of servers", sent: true}
	}
	own := c.env.Webhook(c.account)
	for _, s := range servers.Items {
		if s.URL == own {
			return s, nil
		}
	}
	return callbackServer{}, nil
}

// setCallback adds our address or refreshes its secret, and ticks the events.
// Errors are *message.Error.
func (c *channel) setCallback(ctx context.Context, s callbackServer) (failure error) {
	p := url.Values{"group_id": {number(c.group)}, "url": {c.env.Webhook(c.account)}, "title": {serverTitle}, "secret_key": {c.secret}}
	if s.ID != 0 {
		p.Set("server_id", number(s.ID))
		if _, err := c.call(ctx, "groups.editCallbackServer", p); err != nil {
			return c.classify(err, true)
		}
	} else if s.ID, failure = c.addServer(ctx, p); failure != nil {
		return failure
	}
	events := c.events(url.Values{"server_id": {number(s.ID)}})
	if _, err := c.call(ctx, "groups.setCallbackSettings", events); err != nil {
		return c.classify(err, true)
	}
	return nil
}

func (c *channel) addServer(ctx context.Context, p url.Values) (int64, error) {
	raw, err := c.call(ctx, "groups.getCallbackConfirmationCode", url.Values{"group_id": {number(c.group)}})
	if err != nil {
		return 0, c.classify(err, true)
	}
	var code struct {
		Code string `json:"code"`
	}
	// A server that is added by the API is asked for the API's string, which can
	// differ from the one that the web shows.
	if lenient(raw, &code) == nil && code.Code != "" && code.Code != c.confirmation {
		return 0, &message.Error{Kind: message.ErrAccount, Detail: fmt.Sprintf("the setting confirmation must be %q, or the address be added by hand in Manage, API usage, Callback API", channels.Shorten(code.Code, 100))}
	}
	raw, err = c.call(ctx, "groups.addCallbackServer", p)
	if err != nil {
		return 0, c.classify(err, true)
	}
	var added struct {
		ID int64 `json:"server_id"`
	}
	if lenient(raw, &added) != nil || added.ID == 0 {
		return 0, &message.Error{Kind: message.ErrUnavailable, Detail: "groups.addCallbackServer: the answer names no server"}
	}
	return added.ID, nil
}
