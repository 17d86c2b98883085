package vk

import (
	"bytes"
	"encoding/json"
	"time"
)

// event is what both ways of receiving deliver.
type event struct {
	Type    string          `json:"type"`
	EventID string          `json:"event_id"`
	Object  json.RawMessage `json:"object"`
}

// flag is a boolean, which VK writes as 0/1 or as true/false.
type flag bool

// UnmarshalJSON never fails.
func (f *flag) UnmarshalJSON(b []byte) error {
	*f = flag(bytes.Equal(b, []byte("1")) || bytes.Equal(b, []byte("true")))
	return nil
}

// inMessage is VK's message.
type inMessage struct {
	ID          int64        `json:"id"`
	Date        int64        `json:"date"`
	UpdateTime  int64        `json:"update_time"`
	PeerID      int64        `json:"peer_id"`
	FromID      int64        `json:"from_id"`
	Out         flag         `json:"out"`
	CMID        int64        `json:"conversation_message_id"`
	Text        string       `json:"text"`
	Payload     string       `json:"payload"`
	Ref         string       `json:"ref"`
	RefSource   string       `json:"ref_source"`
	AdminID     int64        `json:"admin_author_id"`
	Cropped     flag         `json:"is_cropped"`
	Attachments []attachment `json:"attachments"`
	Forwarded   []inMessage  `json:"fwd_messages"`
	Reply       *inMessage   `json:"reply_message"`
	Geo         *geo         `json:"geo"`
	Action      *struct {
		Type     string `json:"type"`
		MemberID int64  `json:"member_id"`
		Text     string `json:"text"`
	} `json:"action"`
}

type geo struct {
	Coordinates *struct {
		Lat *float64 `json:"latitude"`
		Lon *float64 `json:"longitude"`
	} `json:"coordinates"`
	Place struct {
		Title   string `json:"title"`
		Address string `json:"address"`
		City    string `json:"city"`
		Country string `json:"country"`
	} `json:"place"`
}

// attachment is {"type":T, T:{...}}.
type attachment struct {
	Type string
	body json.RawMessage
}

// UnmarshalJSON fails on nothing that is JSON.
func (a *attachment) UnmarshalJSON(b []byte) error {
	*a = attachment{}
	var fields map[string]json.RawMessage
	if lenient(b, &fields) != nil {
		return nil
	}
	_ = json.Unmarshal(fields["type"], &a.Type)
	a.body = fields[a.Type]
	return nil
}

// media holds the fields of all kinds of attachment that have a use.
type media struct {
	ID        int64   `json:"id"`
	OwnerID   int64   `json:"owner_id"`
	FromID    int64   `json:"from_id"`
	AccessKey string  `json:"access_key"`
	Title     string  `json:"title"`
	Artist    string  `json:"artist"`
	Text      string  `json:"text"`
	Caption   string  `json:"caption"`
	Question  string  `json:"question"`
	URL       string  `json:"url"`
	Ext       string  `json:"ext"`
	Size      int64   `json:"size"`
	Type      int     `json:"type"` // of doc
	Width     int     `json:"width"`
	Height    int     `json:"height"`
	Duration  int     `json:"duration"`
	LinkOGG   string  `json:"link_ogg"`
	LinkMP3   string  `json:"link_mp3"`
	Sizes     []image `json:"sizes"`
	Original  *image  `json:"orig_photo"`
	Image     []image `json:"image"`  // of video
	Images    []image `json:"images"` // of sticker
	// Files are a video's bytes by format: mp4_720, hls, ...
	Files map[string]json.RawMessage `json:"files"`
	Price struct {
		Text string `json:"text"`
	} `json:"price"`
}

type image struct {
	Type   string `json:"type"`
	URL    string `json:"url"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// at is a time of VK; zero when it says none, or one that no calendar has.
func at(seconds int64) time.Time {
	if seconds <= 0 || seconds > 253402300799 { // the year 9999
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
