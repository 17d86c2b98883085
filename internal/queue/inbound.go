package queue

import (
	"errors"
	"time"

	"switchboard/message"
)

// RawUpdate is a verified update of a platform, on its way in.
type RawUpdate struct {
	AccountID string
	DedupKey  string
	ChatKey   string
	Order     int64
	Raw       []byte
}

// ErrFenced says that another process has taken over what the caller thought
// to own.
var ErrFenced = errors.New("another process has taken over")

// StoredUpdate is a raw update as it waits in its lane.
type StoredUpdate struct {
	Lane       int32
	ID         int64
	AccountID  string
	ChatKey    string
	Order      int64
	Raw        []byte
	ReceivedAt time.Time
}

// Decoded is what a raw update turned out to be. With Err set it is put into
// quarantine, and the lane goes on.
type Decoded struct {
	Platform string
	Updates  []message.Update
	Err      error
}

// Drained tells what a call of Drain did.
type Drained struct {
	Updates     int // raw updates handled
	Messages    int
	Quarantined int
	Events      int
	Files       int
	More        bool    // a lane had more than the limit
	Lanes       []int32 // that had updates
}

// Add sums two.
func (d *Drained) Add(o Drained) {
	d.Updates += o.Updates
	d.Messages += o.Messages
	d.Quarantined += o.Quarantined
	d.Events += o.Events
	d.Files += o.Files
	d.More = d.More || o.More
	d.Lanes = append(d.Lanes, o.Lanes...)
}

// Keep is how long things are kept.
type Keep struct {
	Updates  time.Duration // as the platforms sent them
	Messages time.Duration // with their timelines and customers' files; 0: for ever
}
