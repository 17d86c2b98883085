package telegram

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"switchboard/message"
)

// The parts of Telegram's objects that we use. Ids have up to 52 bits.

type update struct {
	ID              int64            `json:"update_id"`
	Message         json.RawMessage  `json:"message"`
	Edited          json.RawMessage  `json:"edited_message"`
	ChannelPost     json.RawMessage  `json:"channel_post"`
	EditedPost      json.RawMessage  `json:"edited_channel_post"`
	Business        json.RawMessage  `json:"business_message"`
	EditedBusiness  json.RawMessage  `json:"edited_business_message"`
	DeletedBusiness *deletedMessages `json:"deleted_business_messages"`
	Connection      *struct{}        `json:"business_connection"`
	Callback        *callbackQuery   `json:"callback_query"`
	Member          *memberUpdate    `json:"my_chat_member"`
	Reaction        *messageReaction `json:"message_reaction"`
	Poll            *struct{}        `json:"poll"`
}

// anything is the little that most objects have in common.
type anything struct {
	From                 *user   `json:"from"`
	User                 *user   `json:"user"`
	Chat                 *chat   `json:"chat"`
	BusinessConnectionID string  `json:"business_connection_id"`
	Date                 int64   `json:"date"`
	Message              *inside `json:"message"`
}

// inside is a message within another object.
type inside struct {
	MessageID            int64        `json:"message_id"`
	Chat                 *chat        `json:"chat"`
	BusinessConnectionID string       `json:"business_connection_id"`
	Markup               *replyMarkup `json:"reply_markup"`
}

type user struct {
	ID        int64  `json:"id"`
	IsBot     bool   `json:"is_bot"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
	Username  string `json:"username"`
	Language  string `json:"language_code"`
}

func (u *user) name() string { return strings.TrimSpace(u.FirstName + " " + u.LastName) }

func (u *user) profile() message.Profile {
	if u == nil || u.ID == 0 {
		return message.Profile{}
	}
	return message.Profile{ID: strconv.FormatInt(u.ID, 10), Name: u.name(), Username: u.Username, Language: u.Language}
}

type chat struct {
	ID        int64  `json:"id"`
	Type      string `json:"type"` // private, group, supergroup, channel
	Title     string `json:"title"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
	Username  string `json:"username"`
}

func (c *chat) name() string {
	if c.Title != "" {
		return c.Title
	}
	return strings.TrimSpace(c.FirstName + " " + c.LastName)
}

func (c *chat) profile() message.Profile {
	if c == nil || c.ID == 0 {
		return message.Profile{}
	}
	return message.Profile{ID: strconv.FormatInt(c.ID, 10), Name: c.name(), Username: c.Username}
}

type inboundMessage struct {
	MessageID            int64          `json:"message_id"`
	From                 *user          `json:"from"`
	SenderChat           *chat          `json:"sender_chat"`
	BusinessConnectionID string         `json:"business_connection_id"`
	Chat                 *chat          `json:"chat"`
	Date                 int64          `json:"date"`
	EditDate             int64          `json:"edit_date"`
	AlbumID              string         `json:"media_group_id"`
	Origin               *messageOrigin `json:"forward_origin"`
	ViaBot               *user          `json:"via_bot"`
	ReplyTo              *inside        `json:"reply_to_message"`
	ExternalReply        *struct {
		Origin *messageOrigin `json:"origin"`
	} `json:"external_reply"`
	Quote *struct {
		Text string `json:"text"`
	} `json:"quote"`

	Text    *string `json:"text"`
	Caption string  `json:"caption"`

	Photo     []file    `json:"photo"`
	Video     *file     `json:"video"`
	VideoNote *file     `json:"video_note"`
	Voice     *file     `json:"voice"`
	Audio     *file     `json:"audio"`
	Document  *file     `json:"document"`
	Animation *file     `json:"animation"`
	Sticker   *file     `json:"sticker"`
	Contact   *contact  `json:"contact"`
	Location  *location `json:"location"`
	Venue     *struct {
		Location *location `json:"location"`
		Title    string    `json:"title"`
		Address  string    `json:"address"`
	} `json:"venue"`

	MigrateTo   int64 `json:"migrate_to_chat_id"`
	MigrateFrom int64 `json:"migrate_from_chat_id"`

	// Of kinds that can't be shown, the words that can.
	Dice *struct {
		Emoji string `json:"emoji"`
	} `json:"dice"`
	Poll *struct {
		Question string `json:"question"`
	} `json:"poll"`
	WebApp *struct {
		Data string `json:"data"`
	} `json:"web_app_data"`
}

type file struct {
	ID        string `json:"file_id"`
	Unique    string `json:"file_unique_id"` // the same for one file, for ever
	Name      string `json:"file_name"`
	Mime      string `json:"mime_type"`
	Size      int64  `json:"file_size"`
	Width     int    `json:"width"`
	Height    int    `json:"height"`
	Length    int    `json:"length"` // of a video note: both sides
	Duration  int    `json:"duration"`
	Thumbnail *file  `json:"thumbnail"`
	Emoji     string `json:"emoji"`
	Animated  bool   `json:"is_animated"`
	IsVideo   bool   `json:"is_video"`
}

type contact struct {
	Phone     string `json:"phone_number"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
	UserID    int64  `json:"user_id"`
}

type location struct {
	Lat        *float64 `json:"latitude"`
	Lon        *float64 `json:"longitude"`
	LivePeriod int64    `json:"live_period"`
}

type messageOrigin struct {
	Type       string `json:"type"` // user, hidden_user, chat, channel
	Date       int64  `json:"date"`
	User       *user  `json:"sender_user"`
	HiddenName string `json:"sender_user_name"`
	SenderChat *chat  `json:"sender_chat"`
	Chat       *chat  `json:"chat"`
	Signature  string `json:"author_signature"`
}

type callbackQuery struct {
	ID      string  `json:"id"`
	From    *user   `json:"from"`
	Message *inside `json:"message"`
	Data    *string `json:"data"`
	Game    string  `json:"game_short_name"`
}

type replyMarkup struct {
	Inline [][]struct {
		Text string `json:"text"`
		Data string `json:"callback_data"`
	} `json:"inline_keyboard"`
}

type memberUpdate struct {
	Chat *chat  `json:"chat"`
	From *user  `json:"from"`
	Date int64  `json:"date"`
	New  member `json:"new_chat_member"`
}

type member struct {
	Status   string `json:"status"`
	IsMember bool   `json:"is_member"`         // of the restricted
	CanSend  *bool  `json:"can_send_messages"` // of the restricted
}

type messageReaction struct {
	Chat      *chat `json:"chat"`
	MessageID int64 `json:"message_id"`
	User      *user `json:"user"`
	ActorChat *chat `json:"actor_chat"`
	Date      int64 `json:"date"`
	New       []struct {
		Type  string `json:"type"`
		Emoji string `json:"emoji"`
	} `json:"new_reaction"`
}

type deletedMessages struct {
	ConnectionID string  `json:"business_connection_id"`
	Chat         *chat   `json:"chat"`
	MessageIDs   []int64 `json:"message_ids"`
}

// at turns Unix seconds into a time, zero if there is none or it is no date.
func at(seconds int64) time.Time {
	const year9999 = 253402300799 // beyond it JSON has no form for a time
	if seconds <= 0 || seconds > year9999 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
