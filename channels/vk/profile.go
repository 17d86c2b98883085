package vk

import (
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
	raw, err := c.call(ctx, "users.get", url.Values{"user_ids": {customer}, "fields": {"photo_200,photo_100,screen_name"}})
	if err != nil {
		return p, c.classify(err, true)
	}
	var people []struct {
		First  string `json:"first_name"`
		Last   string `json:"last_name"`
		Screen string `json:"screen_name"`
		Big    string `json:"photo_200"`
		Small  string `json:"photo_100"`
	}
	if lenient(raw, &people) != nil || len(people) == 0 {
		return p, nil
	}
	u := people[0]
	p.Name, p.Username, p.Avatar = strings.TrimSpace(u.First+" "+u.Last), u.Screen, u.Big
	if p.Avatar == "" {
		p.Avatar = u.Small
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
	if lenient(raw, &got) == nil && len(got.Groups) > 0 {
		p.Name, p.Username, p.Avatar = got.Groups[0].Name, got.Groups[0].Screen, got.Groups[0].Photo
	}
	return p, nil
}
