package channels

import (
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"strings"

	"switchboard/message"
)

// Limits are those that an account may set for itself: a contract with the
// platform may give more than the default, and an installation may want less.
type Limits struct {
	Text  int   // of one message of the platform, in its own unit; longer texts are split
	Image int64 // bytes of what is sent as a picture; larger ones go as documents
	Video int64 // bytes of a video
	File  int64 // bytes of any file
}

// Limits are the account's own settings text_limit, image_limit, video_limit and
// file_limit, or usual where it has none. most is what the platform's documents
// allow; the error names it.
func (a Account) Limits(usual, most Limits) (Limits, error) {
	l := usual
	if v := a.Setting("text_limit", ""); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > most.Text {
			return l, fmt.Errorf("setting text_limit=%q; %s takes 1 to %d characters", v, a.Platform, most.Text)
		}
		l.Text = n
	}
	for _, s := range []struct {
		key  string
		at   *int64
		most int64
	}{{"image_limit", &l.Image, most.Image}, {"video_limit", &l.Video, most.Video}, {"file_limit", &l.File, most.File}} {
		v := a.Setting(s.key, "")
		if v == "" {
			continue
		}
		if s.most == 0 {
			return l, fmt.Errorf("setting %s=%q; %s sends no such files", s.key, v, a.Platform)
		}
		n, ok := bytesOf(v)
		if !ok || n < 1 || n > s.most {
			return l, fmt.Errorf("setting %s=%q; %s takes 1 to %d bytes (10MB and 10MiB are understood, too)", s.key, v, a.Platform, s.most)
		}
		*s.at = n
	}
	l.Video = min(l.Video, l.File)
	l.Image = min(l.Image, l.File)
	return l, nil
}

var limitSettings = []string{"file_limit", "image_limit", "text_limit", "video_limit"}

// OwnLimits is what the account sets for itself, for WithLimits; "" is nothing.
func (o *Opened) OwnLimits() string {
	own := url.Values{}
	for _, key := range limitSettings {
		if v := o.Account.Setting(key, ""); v != "" {
			own.Set(key, v)
		}
	}
	return own.Encode()
}

// WithLimits opens the account's channel as it was when its OwnLimits were so: a
// message that is partly sent is cut to its end as it was begun.
func (o *Opened) WithLimits(own string) (Channel, error) {
	was, err := url.ParseQuery(own)
	if err != nil {
		return nil, fmt.Errorf("limits of before: %w", err)
	}
	a := o.Account
	a.Settings = maps.Clone(a.Settings)
	for _, key := range limitSettings {
		a.Settings[key] = was.Get(key)
	}
	channel, err := o.open(a)
	if err != nil {
		return nil, fmt.Errorf("limits of before: %w", err)
	}
	return channel, nil
}

// FileBytes is the largest file of each of the kinds, which all include document:
// pictures over their own limit go as documents.
func (l Limits) FileBytes(kinds []message.Kind) map[message.Kind]int64 {
	m := map[message.Kind]int64{}
	for _, k := range kinds {
		switch {
		case k == message.KindVideo:
			m[k] = l.Video
		case k.IsFile():
			m[k] = l.File
		}
	}
	return m
}

func bytesOf(s string) (int64, bool) {
	unit := int64(1)
	for _, u := range []struct {
		suffix string
		size   int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1_000}, {"KB", 1_000}, {"MB", 1_000_000}, {"GB", 1_000_000_000}} {
		if digits, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimSpace(digits), u.size
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n * unit, err == nil && n <= 1<<40/unit
}
