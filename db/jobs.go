package db

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// The queues. Inbound lanes, sends and file fetches don't share worker slots,
// so that slow downloads never hold up a message.
const (
	QueueLanes   = "lanes"
	QueueDeliver = "deliver"
	QueueFetch   = "fetch"
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
	return river.InsertOpts{Queue: QueueLanes, MaxAttempts: maxAttempts}
}

// DeliverArgs is the job that sends what waits in a chat's outbox. One exists
// while outbox_chats.busy is set. Running it twice at once is harmless: a send
// is claimed by attempt number, and only the holder may record its outcome.
type DeliverArgs struct {
	ChatID string `json:"chat_id"`
}

// Kind implements river.JobArgs.
func (DeliverArgs) Kind() string { return "deliver" }

// InsertOpts implements river.JobArgsWithInsertOpts.
func (DeliverArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueDeliver, MaxAttempts: maxAttempts}
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
	return river.InsertOpts{Queue: QueueFetch, MaxAttempts: 8}
}

// maxAttempts is River's largest: jobs whose end is decided by our own tables
// must never be discarded.
const maxAttempts = 32767

// Jobs inserts River jobs in our transactions.
type Jobs struct{ client *river.Client[pgx.Tx] }

func newJobs(log *slog.Logger) (Jobs, error) {
	// Without a pool: this client only inserts, within transactions that it is given.
	client, err := river.NewClient(riverpgxv5.New(nil), &river.Config{Logger: log})
	if err != nil {
		return Jobs{}, fmt.Errorf("making river's insert client: %w", err)
	}
	return Jobs{client}, nil
}

func (j Jobs) insert(ctx context.Context, tx pgx.Tx, args ...river.JobArgs) error {
	if len(args) == 0 {
		return nil
	}
	params := make([]river.InsertManyParams, len(args))
	for i, a := range args {
		params[i].Args = a
	}
	if _, err := j.client.InsertManyFastTx(ctx, tx, params); err != nil {
		return fmt.Errorf("inserting %d jobs: %w", len(args), err)
	}
	return nil
}
