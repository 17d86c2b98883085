package db_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"switchboard/internal/queue"
	"switchboard/message"
)

type deliverer struct {
	river.WorkerDefaults[queue.DeliverArgs]
	chats chan string
}

func (d *deliverer) Work(_ context.Context, job *river.Job[queue.DeliverArgs]) error {
	d.chats <- job.Args.ChatID
	return nil
}

// Jobs that are made shortly after each other are all told of: none waits until its
// queue is looked at anyway, which here is after an hour.
func TestJobsAreToldOf(t *testing.T) {
	t.Parallel()
	d, pool := open(t)
	acc := account(t, d)
	var chats []string
	for i := range 20 {
		chats = append(chats, chatWith(t, d, pool, acc, fmt.Sprint("c", i)))
	}
	worker := &deliverer{chats: make(chan string, 100)}
	registered := river.NewWorkers()
	river.AddWorker(registered, worker)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Workers: registered, Logger: slog.New(slog.DiscardHandler),
		Queues: map[string]river.QueueConfig{queue.DeliverQueue: {MaxWorkers: 100, FetchCooldown: 20 * time.Millisecond, FetchPollInterval: time.Hour}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	want := map[string]bool{}
	for i, chat := range chats {
		send := func(ctx context.Context) error {
			_, _, err := d.SendMessage(ctx, queue.Send{ChatID: chat, Content: message.Content{Kind: message.KindText, Text: "x"}})
			return err
		}
		if i%2 == 0 {
			err = send(t.Context())
		} else { // inside of another transaction
			err = d.Audited(t.Context(), "test", "message.send", func(ctx context.Context) (string, any, error) { return chat, nil, send(ctx) })
		}
		if err != nil {
			t.Fatal(err)
		}
		want[chat] = true
	}
	late := time.After(time.Minute)
	for len(want) > 0 {
		select {
		case chat := <-worker.chats:
			delete(want, chat)
		case <-late:
			t.Fatalf("%d of %d jobs were not told of", len(want), len(chats))
		}
	}
}
