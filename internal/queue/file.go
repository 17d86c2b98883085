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
