package vk

import (
	"cmp"
	"context"
	"net/url"
	"strconv"
	"strings"

	"switchboard/message"
)

// Profile implements channels.Profiler: events carry neither names nor pictures.
func (c *channel) Profile(ctx context.Context, customer string) (message.Profile, error) {
	id, err := strconv.ParseInt(customer, 10, 64)
	if err != nil || id == 0 {
		return message.Profile{}, invalid("the customer is not a VK id (a whole number)")
	}
	p := message.Profile{ID: customer}
	if id < 0 {
		return c.community(ctx, p, -id)
	}
	raw, err := c.call(ctx, "users.get", url.Values{"user_ids": {customer}, "fields": {"photo_200,photo_100,has_photo,screen_name"}})
	if err != nil {
		return p, c.classify(err, true)
	}
	var people []struct {
		First  string `json:"first_name"`
		Last   string `json:"last_name"`
		Screen string `json:"screen_name"`
		Big    string `json:"photo_200"`
		Small  string `json:"photo_100"`
		Has    *int   `json:"has_photo"`
	}
	if lenient(raw, &people) != nil {
		return p, &message.Error{Kind: message.ErrUncertain, Detail: "users.get: not VK's answer"}
	}
	if len(people) == 0 {
		return p, nil
	}
	u := people[0]
	p.Name, p.Username = strings.TrimSpace(u.First+" "+u.Last), u.Screen
	// Who has no picture has the address of a drawing of a camera.
	if u.Has == nil || *u.Has != 0 {
		p.Avatar = cmp.Or(u.Big, u.Small)
	}
	return p, nil
}

// community is for those who speak in group chats.
func (c *channel) community(ctx context.Context, p message.Profile, id int64) (message.Profile, error) {
	raw, err := c.call(ctx, "groups.getById", url.Values{"group_id": {number(id)}})
	if err != nil {
		return p, c.classify(err, true)
	}
	var got struct {
		Groups []struct {
			Name   string `json:"name"`
			Screen string `json:"screen_name"`
			Photo  string `json:"photo_200"`
		} `json:"groups"`
	}
	if lenient(raw, &got) != nil {
		return p, &message.Error{Kind: message.ErrUncertain, Detail: "groups.getById: not VK's answer"}
	}
	if len(got.Groups) > 0 {
		p.Name, p.Username, p.Avatar = got.Groups[0].Name, got.Groups[0].Screen, got.Groups[0].Photo
	}
	return p, nil
}
