package message

import "time"

// UpdateKind says what happened on a platform.
type UpdateKind string

// The kinds of update.
const (
	UpdateMessage UpdateKind = "message" // a new message of the customer
	UpdateEdit    UpdateKind = "edit"    // the customer changed a message; Content is the new whole
	UpdateDelete  UpdateKind = "delete"  // the customer deleted PlatformID
	UpdateStatus  UpdateKind = "status"  // a delivery report for PlatformID
	UpdateTyping  UpdateKind = "typing"  // the customer is typing
	// UpdateContactable says that the customer can (again) be written to, or not
	// any more; see Reachable.
	UpdateContactable UpdateKind = "contactable"
	// UpdateIgnore is something that concerns nobody (a webhook check).
	UpdateIgnore UpdateKind = "ignore"
)

// Profile is what a platform tells about a customer. Empty fields are unknown
// and never overwrite what we know.
type Profile struct {
	ID       string // the platform's id, unique within the account
	Name     string
	Username string
	// Avatar is what the channel fetches the picture by: an address, or the
	// platform's reference of a file; may be "".
	Avatar string
	// AvatarKey is equal for equal pictures, where Avatar need not be; "" means that
	// Avatar serves.
	AvatarKey string `json:",omitempty"`
	Language  string
	Country   string
	Phone     string // only when the platform proves that it is the customer's own
}

// Update is one thing that happened, decoded. One raw callback decodes to zero
// or more of them, in order.
type Update struct {
	Kind UpdateKind
	// Chat is the platform's key of the chat, unique within the account. Reports of
	// platforms that name only the message (Receipt.ByID) leave it empty, and so
	// does what they say of the customer being contactable: the chat is PlatformID's.
	Chat string
	// Aliases are other keys under which we may have begun this very chat with
	// the customer alone: their id, where the platform's key is another.
	Aliases  []string
	Customer Profile
	// PlatformID is the platform's id of the message concerned, unique within
	// the chat; decimal text where the platform uses numbers.
	PlatformID string
	At         time.Time // the platform's clock; zero when it doesn't say
	Content    Content   // for UpdateMessage and UpdateEdit
	// ReplyTo is the platform id of the message that is replied to.
	ReplyTo string
	// Status and Failure are for UpdateStatus.
	Status  Status
	Failure *Failure
	// UpTo says that Status holds for every earlier outbound message of the chat too.
	UpTo bool
	// Reachable is for UpdateContactable.
	Reachable bool
	// Quiet says that the update must not open a conversation by itself (the
	// customer only looked at the chat): stored and shown, but a closed or
	// missing chat is not put in the operators' queue.
	Quiet bool
}

// Outbound is a message on its way to a platform.
type Outbound struct {
	ID       string // our message id, stable over attempts: the base of idempotency keys
	Chat     string // the platform's key of the chat
	Customer string // the platform's id of the customer
	Content
	ReplyTo      string // platform id of the message replied to, "" if none
	SenderName   string // the operator's name, for channels that show it
	SenderAvatar string // public address of the operator's picture
	// Again says that this part was tried before, so that it may have arrived
	// already. Known are then the platform's ids of the chat's latest outbound
	// messages, to tell others from it in the platform's history.
	Again bool
	Known []string
	// ExpiresAt ends the message's time to live: platforms that keep messages are
	// told to give up then. Zero when it isn't known.
	ExpiresAt time.Time
}

// Part is one call to the platform: the atom of delivery. A long text or a
// message with more than the platform takes at once is several parts, sent in
// order, each recorded before the next, so that a crash resends one part at most.
type Part struct {
	Index int // from 0
	Of    int // number of parts in the message
	Outbound
}

// Receipt is the platform's acceptance of one part.
type Receipt struct {
	// IDs are the platform's message ids, one for most kinds, several for albums.
	IDs []string
	// Note is kept in the message's timeline (billing class and the like).
	Note string
	// ByID says that reports name these ids and no chat. The ids are unique within
	// the account then.
	ByID bool `json:",omitempty"`
}
