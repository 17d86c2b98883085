package queue

import (
	"time"

	"switchboard/message"
)

// StoredFile is a file's row.
type StoredFile struct {
	ID, Name, Mime, SHA256, Owner string
	Kind                          message.Kind
	State                         message.FileState
	Size                          int64
	AccountID, MessageID, Ref     string // of a customer's file
	CreatedAt                     time.Time
}

// PictureOwner is StoredFile.Owner of customers' pictures. They end when the
// picture changes, so messages can't carry them.
const PictureOwner = "picture"

// Picture is what is kept of a customer's picture.
type Picture struct {
	Key    string // the platform's name of it, or of none; see message.Profile.AvatarKey
	FileID string // "" when there is none
	SHA256 string // of the file
}
