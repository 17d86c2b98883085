package message

// KeyboardKind tells reply keyboards (below the input field) from inline
// buttons (in the feed, under a message).
type KeyboardKind string

// The kinds of keyboard.
const (
	KeyboardReply  KeyboardKind = "reply"
	KeyboardInline KeyboardKind = "inline"
	KeyboardRemove KeyboardKind = "remove" // takes a shown reply keyboard away
)

// Keyboard is rows of buttons sent with a message.
type Keyboard struct {
	Kind KeyboardKind  `json:"kind"`
	Rows [][]KeyButton `json:"rows,omitempty"`
	// Once hides a reply keyboard after one press.
	Once bool `json:"once,omitempty"`
	// Placeholder is shown in the empty input field.
	Placeholder string `json:"placeholder,omitempty"`
}

// KeyAction is what a button does when pressed.
type KeyAction string

// The actions of a button. The zero value means KeyReply.
const (
	KeyReply    KeyAction = "reply"    // sends the payload (or the text) back to us
	KeyURL      KeyAction = "url"      // opens URL
	KeyPhone    KeyAction = "phone"    // asks the customer for their phone number
	KeyLocation KeyAction = "location" // asks the customer for their location
)

// KeyButton is one button.
type KeyButton struct {
	Text    string    `json:"text"`
	Payload string    `json:"payload,omitempty"`
	Action  KeyAction `json:"action,omitempty"`
	URL     string    `json:"url,omitempty"`
}
