package message

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Unit is what a platform counts a limit in.
type Unit string

// The units of text limits.
const (
	UnitUTF16 Unit = "utf16" // UTF-16 code units
	UnitRunes Unit = "runes" // Unicode code points
	UnitBytes Unit = "bytes" // UTF-8 bytes
)

// Count measures s in the unit.
func (u Unit) Count(s string) int {
	switch u {
	case UnitBytes:
		return len(s)
	case UnitUTF16:
		n := 0
		for _, r := range s {
			n += max(utf16.RuneLen(r), 1)
		}
		return n
	default:
		return utf8.RuneCountInString(s)
	}
}

// Limit is a number with its unit; Max 0 means that no limit is known.
type Limit struct {
	Max  int  `json:"max"`
	Unit Unit `json:"unit"`
}

// Rate is a sending limit: PerSecond on average with bursts of up to Burst.
// PerSecond 0 means unlimited.
type Rate struct {
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst"`
}

// Capabilities is what an account can do, as data: the desk offers only this,
// and a send that goes beyond it is refused at once with the limit's name.
type Capabilities struct {
	Platform string `json:"platform"`
	// Send and Receive list the kinds.
	Send    []Kind `json:"send"`
	Receive []Kind `json:"receive"`

	ReplyKeyboard   bool `json:"reply_keyboard"`
	InlineKeyboard  bool `json:"inline_keyboard"`
	RequestPhone    bool `json:"request_phone"`    // a button that asks for the phone
	RequestLocation bool `json:"request_location"` // a button that asks for the location
	ReplyTo         bool `json:"reply_to"`
	Edit            bool `json:"edit"`
	Delete          bool `json:"delete"`
	DeleteReceived  bool `json:"delete_received"` // what customers wrote can be deleted, on their side too
	Forward         bool `json:"forward"`         // message.forward is shown as a forward
	ForwardCopy     bool `json:"forward_copy"`    // message.forward sends a copy: the platform has no forwards
	Forwarded       bool `json:"forwarded"`       // a customer's forward is shown as one
	Typing          bool `json:"typing"`
	OperatorName    bool `json:"operator_name"`
	OperatorAvatar  bool `json:"operator_avatar"`
	CustomerAvatar  bool `json:"customer_avatar"` // the customer's picture is known
	Delivered       bool `json:"delivered"`       // reports delivery to the customer's device
	Read            bool `json:"read"`            // reports reading
	StartByID       bool `json:"start_by_id"`
	StartByPhone    bool `json:"start_by_phone"` // by the platform itself, not by our phone book
	Idempotent      bool `json:"idempotent"`     // the platform takes an idempotency key

	// Text is the longest text of one platform message; longer ones are split
	// into at most MaxParts. Caption is the longest text beside files: a longer
	// one is sent as a text of its own after the files.
	Text     Limit `json:"text"`
	Caption  Limit `json:"caption"`
	MaxParts int   `json:"max_parts"`

	// FileBytes is the largest file by kind; document stands for any file.
	FileBytes map[Kind]int64 `json:"file_bytes"`
	// ShownBytes is the largest file of a kind that customers see as what it is,
	// where that is less than FileBytes: larger ones go as documents.
	ShownBytes map[Kind]int64 `json:"shown_bytes,omitempty"`
	// MaxFiles is how many files one message may carry.
	MaxFiles int `json:"max_files"`
	// FetchBytes is the largest file that we fetch from the platform.
	FetchBytes int64 `json:"fetch_bytes"`

	ButtonText    Limit `json:"button_text"`
	ButtonPayload Limit `json:"button_payload"`
	ButtonRows    int   `json:"button_rows"`
	ButtonColumns int   `json:"button_columns"`
	Buttons       int   `json:"buttons"` // in all, of one keyboard
	ContactName   Limit `json:"contact_name"`
	ContactPhone  Limit `json:"contact_phone"`

	// Rate is of the whole account, ChatRate of one chat.
	Rate     Rate `json:"rate"`
	ChatRate Rate `json:"chat_rate"`
}

// RefusalCode tells "the channel can't" from "too much of it".
type RefusalCode string

// The codes of a refusal; the chat hub shows them as 1003 and 1004.
const (
	RefusedUnsupported RefusalCode = "unsupported_by_channel"
	RefusedLimit       RefusalCode = "limit_exceeded"
	RefusedInvalid     RefusalCode = "invalid"
)

// Refusal is why a message can't be sent over a channel; Detail names the
// limit and says what would be right.
type Refusal struct {
	Code   RefusalCode
	Detail string
}

func (r *Refusal) Error() string { return string(r.Code) + ": " + r.Detail }

func refuse(code RefusalCode, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Check says whether content can be sent, as a *Refusal or nil. Files must have
// Kind, Size and Mime filled in. replyTo tells that the message is a reply.
func (c *Capabilities) Check(content *Content, replyTo bool) error {
	if !content.Kind.Known() {
		return refuse(RefusedInvalid, "unknown kind %q; known kinds: %v", content.Kind, Kinds)
	}
	if !slices.Contains(c.Send, content.Kind) {
		return refuse(RefusedUnsupported, "%s can't send %s; it can send %v", c.Platform, content.Kind, c.Send)
	}
	if replyTo && !c.ReplyTo {
		return refuse(RefusedUnsupported, "%s can't reply to a message; send without reply_to", c.Platform)
	}
	if err := c.checkBody(content); err != nil {
		return err
	}
	if n := c.Text.Unit.Count(content.Text); c.Text.Max > 0 && c.MaxParts > 0 && n > c.Text.Max*c.MaxParts {
		return refuse(RefusedLimit, "text of %d %s is over %d messages of %d", n, c.Text.Unit, c.MaxParts, c.Text.Max)
	}
	if content.Keyboard != nil {
		return c.checkKeyboard(content.Keyboard)
	}
	return nil
}

func (c *Capabilities) checkBody(content *Content) error {
	if content.Kind.IsFile() {
		return c.checkFiles(content)
	}
	if len(content.Files) > 0 && content.Kind != KindTemplate {
		return refuse(RefusedInvalid, "a %s message carries no files; use kind image, video, audio, voice, sticker or document", content.Kind)
	}
	switch content.Kind {
	case KindText:
		if strings.TrimSpace(content.Text) == "" { // platforms refuse blanks as well
			return refuse(RefusedInvalid, "text must not be empty")
		}
	case KindContact:
		if content.Contact == nil || content.Contact.Phone == "" {
			return refuse(RefusedInvalid, "a contact needs contact.phone")
		}
		if n := c.ContactName.Unit.Count(content.Contact.Name); c.ContactName.Max > 0 && n > c.ContactName.Max {
			return refuse(RefusedLimit, "contact.name has %d %s; %s takes %d", n, c.ContactName.Unit, c.Platform, c.ContactName.Max)
		}
		if n := c.ContactPhone.Unit.Count(content.Contact.Phone); c.ContactPhone.Max > 0 && n > c.ContactPhone.Max {
			return refuse(RefusedLimit, "contact.phone has %d %s; %s takes %d", n, c.ContactPhone.Unit, c.Platform, c.ContactPhone.Max)
		}
	case KindLocation:
		l := content.Location
		if l == nil || !(l.Lat >= -90 && l.Lat <= 90) || !(l.Lon >= -180 && l.Lon <= 180) {
			return refuse(RefusedInvalid, "a location needs location.lat within -90..90 and location.lon within -180..180")
		}
	case KindTemplate:
		if content.Template == nil || content.Template.Name == "" {
			return refuse(RefusedInvalid, "a template needs template.name")
		}
		if len(content.Files) > 0 { // of its header, where the platform's plan takes one
			return c.checkFiles(content)
		}
	}
	return nil
}

func (c *Capabilities) checkFiles(content *Content) error {
	if len(content.Files) == 0 {
		return refuse(RefusedInvalid, "a %s message needs files: upload first, then send the file's id", content.Kind)
	}
	if c.MaxFiles > 0 && len(content.Files) > c.MaxFiles {
		return refuse(RefusedLimit, "%d files; %s takes %d in one message", len(content.Files), c.Platform, c.MaxFiles)
	}
	for i := range content.Files {
		f := &content.Files[i]
		limit := c.FileBytes[f.Kind]
		if limit == 0 {
			limit = c.FileBytes[KindDocument]
		}
		if limit > 0 && f.Size > limit {
			return refuse(RefusedLimit, "file %s has %d bytes; %s takes a %s of up to %d bytes", f.ID, f.Size, c.Platform, f.Kind, limit)
		}
	}
	return nil
}

func (c *Capabilities) checkKeyboard(k *Keyboard) error {
	switch k.Kind {
	case KeyboardReply, KeyboardRemove:
		if !c.ReplyKeyboard {
			return refuse(RefusedUnsupported, "%s has no reply keyboards", c.Platform)
		}
	case KeyboardInline:
		if !c.InlineKeyboard {
			return refuse(RefusedUnsupported, "%s has no inline buttons", c.Platform)
		}
	default:
		return refuse(RefusedInvalid, "keyboard.kind %q; use reply, inline or remove", k.Kind)
	}
	if k.Kind == KeyboardRemove {
		return nil
	}
	if len(k.Rows) == 0 {
		return refuse(RefusedInvalid, "a keyboard needs rows of buttons")
	}
	if c.ButtonRows > 0 && len(k.Rows) > c.ButtonRows {
		return refuse(RefusedLimit, "keyboard has %d rows; %s takes %d", len(k.Rows), c.Platform, c.ButtonRows)
	}
	total := 0
	for _, row := range k.Rows {
		if len(row) == 0 {
			return refuse(RefusedInvalid, "a keyboard row needs at least one button")
		}
		if c.ButtonColumns > 0 && len(row) > c.ButtonColumns {
			return refuse(RefusedLimit, "keyboard row has %d buttons; %s takes %d", len(row), c.Platform, c.ButtonColumns)
		}
		total += len(row)
		for i := range row {
			if err := c.checkButton(k.Kind, &row[i]); err != nil {
				return err
			}
		}
	}
	if c.Buttons > 0 && total > c.Buttons {
		return refuse(RefusedLimit, "keyboard has %d buttons; %s takes %d", total, c.Platform, c.Buttons)
	}
	return nil
}

func (c *Capabilities) checkButton(kind KeyboardKind, b *KeyButton) error {
	if b.Text == "" {
		return refuse(RefusedInvalid, "a button needs text")
	}
	if n := c.ButtonText.Unit.Count(b.Text); c.ButtonText.Max > 0 && n > c.ButtonText.Max {
		return refuse(RefusedLimit, "button text has %d %s; %s takes %d", n, c.ButtonText.Unit, c.Platform, c.ButtonText.Max)
	}
	if n := c.ButtonPayload.Unit.Count(b.Payload); c.ButtonPayload.Max > 0 && n > c.ButtonPayload.Max {
		return refuse(RefusedLimit, "button payload has %d %s; %s takes %d", n, c.ButtonPayload.Unit, c.Platform, c.ButtonPayload.Max)
	}
	switch b.Action {
	case "", KeyReply:
		if b.URL != "" {
			return refuse(RefusedInvalid, "a button with url needs action \"url\"")
		}
	case KeyURL:
		if b.URL == "" {
			return refuse(RefusedInvalid, "a url button needs url")
		}
	case KeyPhone:
		if !c.RequestPhone || kind == KeyboardInline {
			return refuse(RefusedUnsupported, "%s can't ask for the phone with %s buttons", c.Platform, kind)
		}
	case KeyLocation:
		if !c.RequestLocation || kind == KeyboardInline {
			return refuse(RefusedUnsupported, "%s can't ask for the location with %s buttons", c.Platform, kind)
		}
	default:
		return refuse(RefusedInvalid, "button action %q; use reply, url, phone or location", b.Action)
	}
	return nil
}
