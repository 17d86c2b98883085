package telegram

import (
	"context"
	"strconv"

	"switchboard/message"
)

// portraitSide is the least side of a customer's picture that is good enough, in
// pixels. Telegram keeps 160, 320 and 640; a screen of double density shows the
// largest picture of a desk in 140.
const portraitSide = 320

// Profile implements channels.Profiler: updates tell names, and no pictures. Who
// hides the picture from bots has none.
func (c *channel) Profile(ctx context.Context, customer string) (message.Profile, error) {
	id, err := strconv.ParseInt(customer, 10, 64)
	if err != nil || id == 0 {
		return message.Profile{}, invalid("the customer is not a Telegram id (a whole number)")
	}
	p := message.Profile{ID: customer}
	if id < 0 {
		return c.chatPortrait(ctx, p, id)
	}
	result, err := c.call(ctx, "getUserProfilePhotos", params{"user_id": id, "limit": 1})
	if err != nil {
		return p, sendError(err, 0)
	}
	var got struct {
		Photos [][]file `json:"photos"`
	}
	if err := lenient(result, &got); err != nil {
		return p, &message.Error{Kind: message.ErrUncertain, Detail: "getUserProfilePhotos: not Telegram's answer"}
	}
	if len(got.Photos) == 0 {
		return p, nil
	}
	if f := portrait(got.Photos[0]); f != nil {
		p.Avatar, p.AvatarKey = f.ID, f.Unique
	}
	return p, nil
}

// chatPortrait is for groups and channels that speak as themselves.
func (c *channel) chatPortrait(ctx context.Context, p message.Profile, id int64) (message.Profile, error) {
	result, err := c.call(ctx, "getChat", params{"chat_id": id})
	if err != nil {
		return p, sendError(err, 0)
	}
	var got struct {
		Photo struct {
			ID     string `json:"big_file_id"`
			Unique string `json:"big_file_unique_id"`
		} `json:"photo"`
	}
	if err := lenient(result, &got); err != nil {
		return p, &message.Error{Kind: message.ErrUncertain, Detail: "getChat: not Telegram's answer"}
	}
	if got.Photo.ID != "" {
		p.Avatar, p.AvatarKey = got.Photo.ID, got.Photo.Unique
	}
	return p, nil
}

// portrait is the smallest size that is good enough, else the largest; nil without any.
func portrait(sizes []file) *file {
	var best *file
	for i := range sizes {
		s := &sizes[i]
		if s.known() && min(s.Width, s.Height) >= portraitSide && (best == nil || s.Width < best.Width) {
			best = s
		}
	}
	if best == nil {
		return largest(sizes)
	}
	return best
}
