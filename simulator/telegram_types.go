package simulator

import "encoding/json"

type tgUser struct {
	ID        int64  `json:"id"`
	IsBot     bool   `json:"is_bot"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name,omitempty"`
	Username  string `json:"username,omitempty"`
	Language  string `json:"language_code,omitempty"`
}

type tgChat struct {
	ID        int64  `json:"id"`
	Type      string `json:"type"`
	Title     string `json:"title,omitempty"`
	FirstName string `json:"first_name,omitempty"`
	LastName  string `json:"last_name,omitempty"`
	Username  string `json:"username,omitempty"`
}

type tgEntity struct {
	Type     string          `json:"type"`
	Offset   int             `json:"offset"` // UTF-16 units
	Length   int             `json:"length"`
	URL      string          `json:"url,omitempty"`
	User     json.RawMessage `json:"user,omitempty"`
	Language string          `json:"language,omitempty"`
	EmojiID  string          `json:"custom_emoji_id,omitempty"`
}

type tgSize struct {
	FileID   string `json:"file_id"`
	UniqueID string `json:"file_unique_id"`
	Width    int    `json:"width"`
	Height   int    `json:"height"`
	FileSize int64  `json:"file_size,omitempty"`
}

// tgMedia is every kind of file in a message; unused fields stay out.
type tgMedia struct {
	FileID     string  `json:"file_id"`
	UniqueID   string  `json:"file_unique_id"`
	Type       string  `json:"type,omitempty"`
	Width      int     `json:"width,omitempty"`
	Height     int     `json:"height,omitempty"`
	Length     int     `json:"length,omitempty"`
	Duration   *int    `json:"duration,omitempty"`
	IsAnimated *bool   `json:"is_animated,omitempty"`
	IsVideo    *bool   `json:"is_video,omitempty"`
	Emoji      string  `json:"emoji,omitempty"`
	SetName    string  `json:"set_name,omitempty"`
	Performer  string  `json:"performer,omitempty"`
	Title      string  `json:"title,omitempty"`
	FileName   string  `json:"file_name,omitempty"`
	MIME       string  `json:"mime_type,omitempty"`
	FileSize   int64   `json:"file_size,omitempty"`
	Thumbnail  *tgSize `json:"thumbnail,omitempty"`
}

type tgContact struct {
	Phone     string `json:"phone_number"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name,omitempty"`
	UserID    int64  `json:"user_id,omitempty"`
	VCard     string `json:"vcard,omitempty"`
}

type tgLocation struct {
	Latitude   float64 `json:"latitude"`
	Longitude  float64 `json:"longitude"`
	Accuracy   float64 `json:"horizontal_accuracy,omitempty"`
	LivePeriod int     `json:"live_period,omitempty"`
}

type tgVenue struct {
	Location tgLocation `json:"location"`
	Title    string     `json:"title"`
	Address  string     `json:"address"`
}

type tgQuote struct {
	Text     string     `json:"text"`
	Entities []tgEntity `json:"entities,omitempty"`
	Position int        `json:"position"`
	IsManual bool       `json:"is_manual,omitempty"`
}

type tgMessage struct {
	MessageID       int64           `json:"message_id"`
	From            *tgUser         `json:"from,omitempty"`
	Chat            *tgChat         `json:"chat"`
	Date            int64           `json:"date"`
	EditDate        int64           `json:"edit_date,omitempty"`
	ForwardOrigin   json.RawMessage `json:"forward_origin,omitempty"`
	ReplyTo         json.RawMessage `json:"reply_to_message,omitempty"`
	ExternalReply   json.RawMessage `json:"external_reply,omitempty"`
	Quote           *tgQuote        `json:"quote,omitempty"`
	MediaGroupID    string          `json:"media_group_id,omitempty"`
	Protected       bool            `json:"has_protected_content,omitempty"`
	Text            string          `json:"text,omitempty"`
	Entities        []tgEntity      `json:"entities,omitempty"`
	Photo           []tgSize        `json:"photo,omitempty"`
	Video           *tgMedia        `json:"video,omitempty"`
	Animation       *tgMedia        `json:"animation,omitempty"`
	Audio           *tgMedia        `json:"audio,omitempty"`
	Voice           *tgMedia        `json:"voice,omitempty"`
	VideoNote       *tgMedia        `json:"video_note,omitempty"`
	Document        *tgMedia        `json:"document,omitempty"`
	Sticker         *tgMedia        `json:"sticker,omitempty"`
	Caption         string          `json:"caption,omitempty"`
	CaptionEntities []tgEntity      `json:"caption_entities,omitempty"`
	Contact         *tgContact      `json:"contact,omitempty"`
	Location        *tgLocation     `json:"location,omitempty"`
	Venue           *tgVenue        `json:"venue,omitempty"`
	ReplyMarkup     json.RawMessage `json:"reply_markup,omitempty"`

	// extra is further fields, for kinds with no field of their own.
	extra map[string]json.RawMessage
}

// encode renders the message with its extra fields.
func (m *tgMessage) encode() json.RawMessage {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // a raw field that is not JSON: all are validated when they come in
	}
	if len(m.extra) == 0 {
		return b
	}
	x, err := json.Marshal(m.extra)
	if err != nil {
		panic(err)
	}
	b[len(b)-1] = ','
	return append(b, x[1:]...)
}

func (m *tgMessage) kind() string {
	switch {
	case m.Animation != nil:
		return "animation"
	case m.Venue != nil:
		return "venue"
	case m.Photo != nil:
		return "photo"
	case m.Video != nil:
		return "video"
	case m.Audio != nil:
		return "audio"
	case m.Voice != nil:
		return "voice"
	case m.VideoNote != nil:
		return "video_note"
	case m.Document != nil:
		return "document"
	case m.Sticker != nil:
		return "sticker"
	case m.Contact != nil:
		return "contact"
	case m.Location != nil:
		return "location"
	case m.Text != "":
		return "text"
	}
	for k := range m.extra {
		return k
	}
	return "unknown"
}

// media is the message's file and where its id is.
func (m *tgMessage) fileID() string {
	if n := len(m.Photo); n > 0 {
		return m.Photo[n-1].FileID
	}
	for _, f := range []*tgMedia{m.Animation, m.Video, m.Audio, m.Voice, m.VideoNote, m.Document, m.Sticker} {
		if f != nil {
			return f.FileID
		}
	}
	return ""
}

// clearMedia removes the content that editMessageMedia replaces.
func (m *tgMessage) clearMedia() {
	m.Photo, m.Video, m.Animation, m.Audio, m.Voice, m.VideoNote, m.Document, m.Sticker = nil, nil, nil, nil, nil, nil, nil, nil
}
