package queue

import "github.com/riverqueue/river"

// The queues. Inbound lanes, sends, file fetches and customers' pictures don't
// share worker slots, so that slow downloads never hold up a message.
const (
	LaneQueue    = "lanes"
	DeliverQueue = "deliver"
	FetchQueue   = "fetch"
	PictureQueue = "pictures"
)

// DrainArgs is the job that normalises what waits in a lane. One exists while
// lanes.draining is set. Running it twice at once is harmless: the lane's
// drain lock admits one at a time, and the other finds nothing.
type DrainArgs struct {
	Lane int `json:"lane"`
}

// Kind implements river.JobArgs.
func (DrainArgs) Kind() string { return "drain" }

// InsertOpts implements river.JobArgsWithInsertOpts. A drain never gives up.
func (DrainArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: LaneQueue, MaxAttempts: maxAttempts}
}

// DeliverArgs is the job that sends what waits in a chat's outbox. One exists
// while outbox_chats.busy is set. Running it twice at once is harmless: a send
// is claimed by attempt number, and only the holder may record its outcome.
type DeliverArgs struct {
	ChatID string `json:"chat_id"`
	// Priority is that of the message which the job is made for: workers take what
	// people wait for first.
	Priority int `json:"-"`
}

// Kind implements river.JobArgs.
func (DeliverArgs) Kind() string { return "deliver" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (a DeliverArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: DeliverQueue, MaxAttempts: maxAttempts, Priority: 1 + a.Priority}
}

// FetchArgs is the job that brings one file of a customer's message into the
// store. Running it twice overwrites the same object with the same bytes.
type FetchArgs struct {
	FileID string `json:"file_id"`
}

// Kind implements river.JobArgs.
func (FetchArgs) Kind() string { return "fetch" }

// InsertOpts implements river.JobArgsWithInsertOpts. About a quarter of an hour
// of retries: platforms keep files for an hour.
func (FetchArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: FetchQueue, MaxAttempts: 8}
}

// PictureArgs is the job that makes a file of a customer's picture. Running it
// twice overwrites the same object with the same bytes.
type PictureArgs struct {
	AccountID string `json:"account_id"`
	Customer  string `json:"customer"` // the platform's id
	Ref       string `json:"ref"`      // what the channel fetches
	Key       string `json:"key"`      // equal for equal pictures
	FileID    string `json:"file_id"`  // of the file to be
}

// Kind implements river.JobArgs.
func (PictureArgs) Kind() string { return "picture" }

// InsertOpts implements river.JobArgsWithInsertOpts. A minute and a half of
// retries: the picture is asked for again with a later message.
func (PictureArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: PictureQueue, MaxAttempts: 5}
}

// RemoveArgs is the job that removes the bytes of a file whose row is gone.
type RemoveArgs struct {
	FileID string `json:"file_id"`
}

// Kind implements river.JobArgs.
func (RemoveArgs) Kind() string { return "remove" }

// InsertOpts implements river.JobArgsWithInsertOpts. River's own back-off: ten
// attempts are some four hours.
func (RemoveArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: PictureQueue, MaxAttempts: 10}
}

// maxAttempts is River's largest: jobs whose end is decided by our own tables
// must never be discarded.
const maxAttempts = 32767
