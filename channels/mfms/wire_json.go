package mfms

import (
	"encoding/base64"
	"net/http"
	"time"

	"switchboard/message"
)

// Everything that no public paper or client of MFMS confirms. There is no logic
// here: correct the words, and the rest follows.

// apiBase is confirmed for keys (setting login empty). The hosts of MFMS proper
// (gateNN.mfms.ru with a port) come with the contract: set api_base then.
const apiBase = "https://im.edna.io"

// Paths below the base. The first two are confirmed, the answer of the third is
// taken to be a delivery report.
const (
	pathSend     = "/api/imOutMessage"
	pathTemplate = "/api/imOutHSM"
	pathPoll     = "/api/imOutMessage/" // and the message's id
)

// authorise signs a request. The key alone is confirmed; with a login MFMS is
// taken to want Basic, as in the XML connector's header.
func authorise(h http.Header, login, password string) {
	if login == "" {
		h.Set("X-API-KEY", password)
		return
	}
	h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(login+":"+password)))
}

// Limits: WhatsApp's own, for MFMS publishes none apart from the 70 characters of
// a file's name (confirmed for the newest of its interfaces).
var (
	textLimit     = message.Limit{Max: 4096, Unit: message.UnitUTF16}
	bodyLimit     = message.Limit{Max: 1024, Unit: message.UnitUTF16} // of a text above buttons
	captionLimit  = message.Limit{Max: 1024, Unit: message.UnitUTF16}
	templateLimit = message.Limit{Max: 1024, Unit: message.UnitUTF16}
	buttonLimit   = message.Limit{Max: 20, Unit: message.UnitUTF16}
	payloadLimit  = message.Limit{Max: 256, Unit: message.UnitUTF16}
	nameLimit     = message.Limit{Max: 70, Unit: message.UnitUTF16}
)

const (
	maxButtons = 3

	maxPicture = 5_000_000   // bytes; larger ones go as documents
	maxMedia   = 16_000_000  // bytes of video and sound; larger ones go as documents
	maxFile    = 100_000_000 // bytes, of documents
	maxFetch   = 100 << 20

	perSecond = 10 // messages of one account

	// afterThrottle is the pause when HTTP 429 names none; 429 itself is not documented.
	afterThrottle = 5 * time.Second
	// The range of validityPeriodSeconds.
	minValidity = 30 * time.Second
	maxValidity = 24 * time.Hour
)

// Types of files that WhatsApp shows as what they are.
var shownAs = map[message.Kind][]string{
	message.KindImage: {"image/jpeg", "image/png"},
	message.KindVideo: {"video/mp4", "video/3gpp"},
	message.KindAudio: {"audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg", "audio/opus"},
}

// outgoing is a message of ours; the fields are confirmed, Keyboard's shape is not.
type outgoing struct {
	ID              string    `json:"id"`
	Subject         string    `json:"subject"`
	Address         string    `json:"address"`
	Priority        string    `json:"priority"` // low, normal, high or realtime
	ValiditySeconds int       `json:"validityPeriodSeconds"`
	Comment         string    `json:"comment,omitempty"`
	ContentType     string    `json:"contentType"`
	Text            string    `json:"text,omitempty"`
	AttachmentURL   string    `json:"attachmentUrl,omitempty"`
	AttachmentName  string    `json:"attachmentName,omitempty"`
	Caption         string    `json:"caption,omitempty"`
	Latitude        *float64  `json:"latitude,omitempty"`
	Longitude       *float64  `json:"longitude,omitempty"`
	LocationAddress string    `json:"locationAddress,omitempty"`
	Keyboard        *keyboard `json:"keyboard,omitempty"`
}

type keyboard struct {
	Rows []keyboardRow `json:"rows"`
}

type keyboardRow struct {
	Buttons []button `json:"buttons"`
}

type button struct {
	Type    string `json:"type"` // QUICK_REPLY, or URL in templates
	Text    string `json:"text"`
	Payload string `json:"payload,omitempty"`
	URL     string `json:"url,omitempty"`
}

// reply is a customer's message. Of the names only imSubject is confirmed.
type reply struct {
	ID             scalar  `json:"id"`
	Subject        scalar  `json:"imSubject"`
	Address        scalar  `json:"address"`
	UserName       text    `json:"userName"`
	ReceivedAt     text    `json:"receivedAt"`
	ContentType    text    `json:"contentType"`
	Text           text    `json:"text"`
	AttachmentURL  text    `json:"attachmentUrl"`
	AttachmentName text    `json:"attachmentName"`
	AttachmentSize scalar  `json:"attachmentSize"`
	Caption        text    `json:"caption"`
	Latitude       scalar  `json:"latitude"`
	Longitude      scalar  `json:"longitude"`
	Place          text    `json:"locationAddress"`
	Contact        contact `json:"contact"`
	Payload        scalar  `json:"payload"`
	ReplyTo        scalar  `json:"replyToId"` // our id of a message of ours, or theirs of one of theirs
}

type contact struct {
	Name  text   `json:"name"`
	Phone scalar `json:"phone"`
}

// pulseReply is the same in the form of the platform's newer interface; these
// names are confirmed, CONTACT and BUTTON among the types are not.
type pulseReply struct {
	ID         scalar `json:"id"`
	Subscriber struct {
		Identifier scalar `json:"identifier"`
	} `json:"subscriber"`
	User struct {
		Name   text `json:"userName"`
		First  text `json:"firstName"`
		Last   text `json:"lastName"`
		Avatar text `json:"avatarUrl"`
	} `json:"userInfo"`
	Content struct {
		Type       text `json:"type"`
		Text       text `json:"text"`
		Caption    text `json:"caption"`
		Attachment struct {
			URL  text   `json:"url"`
			Name text   `json:"name"`
			Size scalar `json:"size"`
		} `json:"attachment"`
		Location struct {
			Latitude  scalar `json:"latitude"`
			Longitude scalar `json:"longitude"`
			Address   text   `json:"address"`
		} `json:"location"`
		Contact contact `json:"contact"`
		Payload scalar  `json:"payload"`
		Items   []struct {
			Identifier scalar `json:"identifier"`
			Title      text   `json:"title"`
		} `json:"items"`
	} `json:"messageContent"`
	ReceivedAt text   `json:"receivedAt"`
	ReplyOurs  scalar `json:"replyOutMessageExternalRequestId"`
	ReplyTheir scalar `json:"replyInMessageId"`
}

// report is a delivery report, of both forms.
type report struct {
	ID       scalar `json:"imOutMessageId"`
	Status   text   `json:"dlvStatus"`
	At       text   `json:"dlvStatusAt"`
	Error    text   `json:"dlvError"`
	PulseID  scalar `json:"requestId"`
	PulseIs  text   `json:"status"`
	PulseAt  text   `json:"statusAt"`
	PulseErr text   `json:"error"`
}

// The layouts of times: with a zone without colon as confirmed, and as the newer
// interface writes them. One without a zone is taken for Moscow's.
var (
	layouts = []string{"2006-01-02T15:04:05.999-0700", time.RFC3339Nano}
	bare    = []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05.999"}
	moscow  = time.FixedZone("MSK", 3*60*60)
)
