package workers

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/riverqueue/river"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/egress"
	"switchboard/internal/queue"
	"switchboard/message"
)

// FileSink stores the bytes of a file under its id, streaming: it sniffs the
// type, counts, digests, and refuses what is over limit with an error that
// matches IsTooLarge. The same id again overwrites. Removing what isn't there is fine.
type FileSink interface {
	Remove(ctx context.Context, id string) error
	SaveFetched(ctx context.Context, id, name, mime string, r io.Reader, limit int64) (queue.StoredFile, error)
	IsTooLarge(err error) bool
}

type fetchWorker struct {
	river.WorkerDefaults[queue.FetchArgs]
	w *Workers
}

// Timeout implements river.Worker: 200 MB at 0.5 MB/s.
func (*fetchWorker) Timeout(*river.Job[queue.FetchArgs]) time.Duration { return 7 * time.Minute }

// NextRetry implements river.Worker: 2, 6, 18 s ... so that the eighth attempt
// is within the hour for which platforms keep a file.
func (*fetchWorker) NextRetry(job *river.Job[queue.FetchArgs]) time.Time {
	return time.Now().Add(fetchDelay(job.Attempt))
}

// fetchDelay is 2, 6, 18 s ... up to 10 minutes.
func fetchDelay(attempt int) time.Duration {
	d := 2 * time.Second
	for range min(attempt-1, 6) {
		d *= 3
	}
	return min(d, 10*time.Minute)
}

// goneAttempts is how often a platform has to say that a file is gone: messages
// have been seen to arrive before all of a platform's servers have their file.
// Three attempts are 8 s.
const goneAttempts = 3

// blocked tells addresses that may not be fetched now or later.
func blocked(err error) bool {
	_, ok := errors.AsType[*egress.BlockedError](err)
	return ok
}

// Work brings one file of a customer's message into the store.
func (f *fetchWorker) Work(ctx context.Context, job *river.Job[queue.FetchArgs]) error {
	w := f.w
	file, err := w.deps.Store.File(ctx, job.Args.FileID)
	if errors.Is(err, switchboard.ErrNotFound) || (err == nil && file.State != message.FilePending) {
		return nil
	}
	if err != nil {
		return river.JobSnooze(2 * time.Second)
	}
	stored, reason, err := w.fetch(ctx, file)
	switch {
	case err == nil:
	case errors.Is(err, channels.ErrFileTooLarge) || w.deps.Files.IsTooLarge(err):
		stored.State, reason = message.FileTooLarge, "larger than what is fetched"
	case blocked(err), errors.Is(err, errPage):
		stored.State, reason = message.FileFailed, err.Error()
	case errors.Is(err, channels.ErrFileGone) && job.Attempt >= goneAttempts:
		stored.State, reason = message.FileFailed, "the platform no longer has the file"
	case job.Attempt >= job.MaxAttempts:
		stored.State, reason = message.FileFailed, err.Error()
	default:
		w.metrics.fetches.WithLabelValues("retry").Inc()
		w.log.InfoContext(ctx, "file could not be fetched yet", "file", file.ID, "attempt", job.Attempt, "error", err)
		w.ring(ctx, queue.FetchQueue, fetchDelay(job.Attempt))
		return err
	}
	w.metrics.fetches.WithLabelValues(string(stored.State)).Inc()
	if err := w.deps.Store.FinishFetch(ctx, stored, reason); err != nil {
		w.log.WarnContext(ctx, "fetched file could not be recorded; it will be fetched again", "file", file.ID, "error", err)
		return river.JobSnooze(2 * time.Second)
	}
	w.deps.Bus.Wake("events")
	return nil
}

// stall is how long a download may bring nothing. Eight that hang would
// otherwise hold every slot of this process until their timeouts.
const stall = 30 * time.Second

var errStalled = errors.New("the file's server went silent")

// steady reads r, and calls the whole download off when a read takes longer
// than stall. Only reads count, not what the store does between them.
type steady struct {
	r     io.Reader
	watch *time.Timer
}

// Read implements io.Reader.
func (s steady) Read(p []byte) (int, error) {
	s.watch.Reset(stall)
	defer s.watch.Stop()
	return s.r.Read(p)
}

func (w *Workers) fetch(ctx context.Context, file queue.StoredFile) (stored queue.StoredFile, reason string, err error) {
	stored = file
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	account, err := w.deps.Accounts.Get(ctx, file.AccountID)
	if err != nil {
		return stored, "", err
	}
	limit := w.cfg.MaxFile
	if c := account.Capabilities.FetchBytes; c > 0 && c < limit {
		limit = c
	}
	if file.Size > limit {
		return stored, "", channels.ErrFileTooLarge
	}
	download, err := account.Channel.Fetch(ctx, file.Ref)
	if err != nil {
		return stored, "", err
	}
	defer download.Body.Close()
	if download.Size > limit {
		return stored, "", channels.ErrFileTooLarge
	}
	name, mime := file.Name, file.Mime
	if name == "" {
		name = download.Name
	}
	if mime == "" {
		mime = download.Mime
	}
	watch := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer watch.Stop()
	saved, err := w.deps.Files.SaveFetched(ctx, file.ID, name, mime, steady{download.Body, watch}, limit)
	if err != nil {
		return stored, "", unlessStalled(ctx, err)
	}
	if file.Kind != message.KindDocument && strings.HasPrefix(saved.Mime, "text/html") {
		if err := w.deps.Files.Remove(ctx, file.ID); err != nil {
			return stored, "", err
		}
		return stored, "", errPage
	}
	saved.ID, saved.State = file.ID, message.FileReady
	return saved, "", nil
}

// errPage says that a picture's, a video's or a sound's address shows it to people
// in a page of its own.
var errPage = errors.New("the address leads to a page, not to a file")

func unlessStalled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		return cause
	}
	return err
}
