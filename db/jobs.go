package db

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

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
	noting, _ := tx.(interface{ note(queue string) })
	for i, a := range args {
		params[i].Args = a
		if opts, ok := a.(river.JobArgsWithInsertOpts); ok && noting != nil {
			noting.note(opts.InsertOpts().Queue)
		}
	}
	if _, err := j.client.InsertManyFastTx(ctx, tx, params); err != nil {
		return fmt.Errorf("inserting %d jobs: %w", len(args), err)
	}
	return nil
}
