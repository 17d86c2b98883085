package message

import (
	"strings"
	"time"
)

// Kind says what a message is. The set is closed; what a platform invents
// tomorrow arrives as Unsupported with the platform's own word for it.
type Kind string

// The kinds of a message.
const (
	KindText        Kind = "text"
	KindImage       Kind = "image"
	KindVideo       Kind = "video"
	KindAudio       Kind = "audio"
	KindVoice       Kind = "voice"
	KindSticker     Kind = "sticker"
	KindDocument    Kind = "document"
	KindContact     Kind = "contact"
	KindLocation    Kind = "location"
	KindButton      Kind = "button"
	KindTemplate    Kind = "template"
	KindForward     Kind = "forward"
	KindService     Kind = "service"
	KindUnsupported Kind = "unsupported"
)

// Kinds lists every kind, in the order of the public contract.
var Kinds = []Kind{
	KindText, KindImage, KindVideo, KindAudio, KindVoice, KindSticker, KindDocument, KindContact,
	KindLocation, KindButton, KindTemplate, KindForward, KindService, KindUnsupported,
}

// IsFile reports whether messages of the kind carry files.
func (k Kind) IsFile() bool {
	switch k {
	case KindImage, KindVideo, KindAudio, KindVoice, KindSticker, KindDocument:
		return true
	default:
		return false
	}
}

// FileKind is what a file of a media type is to be sent as by a message of kind k:
// k itself, except that a template's header has pictures, video and documents.
func (k Kind) FileKind(mime string) Kind {
	if k != KindTemplate {
		return k
	}
	switch family, _, _ := strings.Cut(mime, "/"); family {
	case "image":
		return KindImage
	case "video":
		return KindVideo
	default:
		return KindDocument
	}
}

// Known reports whether k is one of Kinds.
func (k Kind) Known() bool {
	for _, known := range Kinds {
		if k == known {
			return true
		}
	}
	return false
}

// Content is what a message says, the same in both directions. Only the fields
// of its kind are set; Text is also the caption of files.
type Content struct {
	Kind      Kind      `json:"kind"`
	Text      string    `json:"text,omitempty"`
	Files     []File    `json:"files,omitempty"`
	Contact   *Contact  `json:"contact,omitempty"`
	Location  *Location `json:"location,omitempty"`
	Button    *Button   `json:"button,omitempty"`
	Keyboard  *Keyboard `json:"keyboard,omitempty"`
	Template  *Template `json:"template,omitempty"`
	Forwarded []Forward `json:"forwarded,omitempty"`
	// Quote is the customer's chosen part of the message that is replied to, or
	// the text of a replied message that we never stored.
	Quote string `json:"quote,omitempty"`
	// Album groups messages that the customer sent as one album; the platform's
	// own group id, meaningful inside the chat only.
	Album string `json:"album,omitempty"`
	// Service names what happened, for KindService: "started", "blocked", ...
	Service string `json:"service,omitempty"`
	// Unsupported is the platform's own type, for KindUnsupported.
	Unsupported string `json:"unsupported,omitempty"`
	// Payload is what the platform attached for our eyes: a deep link's start
	// parameter, Viber's context or tracking data.
	Payload string `json:"payload,omitempty"`
}

// FileState is where the bytes of a file are.
type FileState string

// The states of a file.
const (
	FilePending  FileState = "pending"   // being fetched from the platform
	FileReady    FileState = "ready"     // in the store
	FileFailed   FileState = "failed"    // could not be fetched; the error is in the message's timeline
	FileTooLarge FileState = "too_large" // over the channel's or our cap; never fetched
)

// File is one file of a message.
type File struct {
	ID    string    `json:"id,omitempty"`
	Kind  Kind      `json:"kind"` // image, video, audio, voice, sticker or document
	Name  string    `json:"name,omitempty"`
	Mime  string    `json:"mime,omitempty"`
	Size  int64     `json:"size,omitempty"` // bytes; 0 when unknown
	State FileState `json:"state"`
	// Width, Height are pixels, Duration seconds; 0 when the platform doesn't say.
	Width    int `json:"width,omitempty"`
	Height   int `json:"height,omitempty"`
	Duration int `json:"duration,omitempty"`
	// Emoji is a sticker's text fallback.
	Emoji string `json:"emoji,omitempty"`
	// Ref is how the platform finds the bytes (a file id or an address). It may
	// hold credentials, so it is stored apart and never shown.
	Ref string `json:"-"`
}

// Contact is a shared address-book card.
type Contact struct {
	Name  string `json:"name,omitempty"`
	Phone string `json:"phone"` // "+" and digits where the platform's form allows to tell
	// Own says that the customer shared the number of their own account, proven
	// by the platform (not a card of somebody else).
	Own bool `json:"own,omitempty"`
}

// Location is a point on the map, WGS 84 degrees.
type Location struct {
	Lat     float64 `json:"lat"`
	Lon     float64 `json:"lon"`
	Title   string  `json:"title,omitempty"`
	Address string  `json:"address,omitempty"`
	// Live says that the point may move (a later edit updates it).
	Live bool `json:"live,omitempty"`
}

// Button is a press of a button that we had sent.
type Button struct {
	Payload string `json:"payload"`
	Text    string `json:"text,omitempty"`
}

// Template is an approved template of channels that need one.
type Template struct {
	Name       string   `json:"name"`
	Language   string   `json:"language"`
	Parameters []string `json:"parameters,omitempty"`
}

// Forward is one forwarded message: from whom, and its text.
type Forward struct {
	From string     `json:"from"`
	Text string     `json:"text,omitempty"`
	At   *time.Time `json:"at,omitempty"`
}

// Status is where a message is on its way.
type Status string

// The statuses. Received is of inbound messages; the others of outbound ones.
const (
	StatusReceived  Status = "received"
	StatusQueued    Status = "queued"
	StatusSending   Status = "sending"
	StatusSent      Status = "sent" // accepted by the platform
	StatusDelivered Status = "delivered"
	StatusRead      Status = "read"
	StatusFailed    Status = "failed"
	StatusExpired   Status = "expired"
	StatusCanceled  Status = "canceled"
)

// rank orders statuses: a status may only be replaced by one of a higher rank.
// failed may replace sent (the platform's late verdict) but nothing that proves
// delivery, and nothing revives a final failure.
var rank = map[Status]int{
	StatusQueued: 1, StatusSending: 2, StatusSent: 3, StatusFailed: 4, StatusExpired: 4, StatusCanceled: 4,
	StatusDelivered: 5, StatusRead: 6,
}

// Advances reports whether a message in status s may go to next. Status
// callbacks come late, doubled and out of order; a status only moves forward,
// and failed, expired and canceled are ends.
func (s Status) Advances(next Status) bool {
	if s == StatusFailed || s == StatusExpired || s == StatusCanceled || s == StatusReceived {
		return false
	}
	return rank[next] > rank[s]
}

// Rank is the number that Advances compares; for use in SQL.
func (s Status) Rank() int { return rank[s] }

// Direction tells the customer's messages from ours.
type Direction string

// The two directions.
const (
	In  Direction = "in"
	Out Direction = "out"
)

// SenderKind says who wrote a message.
type SenderKind string

// The kinds of sender.
const (
	SenderCustomer SenderKind = "customer"
	SenderOperator SenderKind = "operator"
	SenderCampaign SenderKind = "campaign"
	SenderAPI      SenderKind = "api"
	SenderBot      SenderKind = "bot"
)

// Sender is who wrote a message.
type Sender struct {
	Kind SenderKind `json:"kind"`
	ID   string     `json:"id,omitempty"`
	Name string     `json:"name,omitempty"`
}

// Failure is why a message failed, in words a person can act on.
type Failure struct {
	Kind   ErrorKind `json:"kind"`
	Code   string    `json:"code,omitempty"`   // the platform's own code
	Detail string    `json:"detail,omitempty"` // the platform's own words, secrets removed
}

// Message is the universal message as the API shows it.
type Message struct {
	ID        string    `json:"id"`
	ChatID    string    `json:"chat_id"`
	AccountID string    `json:"account_id"`
	Platform  string    `json:"platform"`
	Seq       int64     `json:"seq"` // per chat, from 1, gapless, in order
	Direction Direction `json:"direction"`
	Content
	ReplyTo           *string    `json:"reply_to"`            // id of our message
	PlatformMessageID *string    `json:"platform_message_id"` // text, because 64-bit tokens don't survive JavaScript
	Status            Status     `json:"status"`
	StatusAt          time.Time  `json:"status_at"`
	Error             *Failure   `json:"error"`
	Sender            Sender     `json:"sender"`
	ClientID          *string    `json:"client_id"`
	PlatformAt        *time.Time `json:"platform_at"` // the platform's clock; CreatedAt is ours
	CreatedAt         time.Time  `json:"created_at"`
	EditedAt          *time.Time `json:"edited_at"`
	DeletedAt         *time.Time `json:"deleted_at"`
}
