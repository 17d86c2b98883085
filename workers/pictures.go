package workers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

const (
	// pictureBytes is the largest customer's picture that is taken. Platforms give
	// sizes of up to 720 pixels, which is a tenth of it.
	pictureBytes = 2 << 20
	// pictureTime bounds one attempt.
	pictureTime = 30 * time.Second
	// pictureJobs is how many are fetched at once in a process. Each is in memory
	// whole.
	pictureJobs = 4
)

// pictureTypes are what every browser shows, and what can't hold a script.
var pictureTypes = []string{"image/jpeg", "image/png", "image/gif", "image/webp"}

// errNoPicture says that the bytes are something else.
var errNoPicture = errors.New("no JPEG, PNG, GIF or WebP")

type pictureWorker struct {
	river.WorkerDefaults[queue.PictureArgs]
	w *Workers
}

// Timeout implements river.Worker.
func (*pictureWorker) Timeout(*river.Job[queue.PictureArgs]) time.Duration { return pictureTime }

// NextRetry implements river.Worker: 2, 6, 18 and 54 s.
func (*pictureWorker) NextRetry(job *river.Job[queue.PictureArgs]) time.Time {
	return time.Now().Add(fetchDelay(job.Attempt))
}

// Work makes a file of ours of a customer's picture, so that operators' browsers
// ask nobody else for it and it stays when the platform's address ends.
func (p *pictureWorker) Work(ctx context.Context, job *river.Job[queue.PictureArgs]) error {
	w, a := p.w, job.Args
	outcome, err := w.keepPicture(ctx, a)
	switch {
	case err == nil:
	case errors.Is(err, channels.ErrFileTooLarge), errors.Is(err, errNoPicture), blocked(err):
		outcome = "refused"
	case job.Attempt >= job.MaxAttempts, errors.Is(err, channels.ErrFileGone) && job.Attempt >= goneAttempts:
		outcome = "failed"
		// Its row was not written, as far as is known; and if it was, this does nothing.
		if err := w.removeFile(ctx, a.FileID); err != nil {
			w.log.InfoContext(ctx, "bytes of a picture could not be removed", "file", a.FileID, "error", err)
		}
	default:
		w.metrics.pictures.WithLabelValues("retry").Inc()
		w.ring(ctx, queue.PictureQueue, fetchDelay(job.Attempt))
		return err // River repeats it
	}
	w.metrics.pictures.WithLabelValues(outcome).Inc()
	if err != nil {
		w.log.InfoContext(ctx, "customer's picture could not be kept", "account", a.AccountID, "outcome", outcome, "error", err)
	}
	return nil
}

// keepPicture fetches and stores one picture. The outcome is "kept" or "same".
func (w *Workers) keepPicture(ctx context.Context, a queue.PictureArgs) (outcome string, err error) {
	had, err := w.deps.Store.Picture(ctx, a.AccountID, a.Customer)
	switch {
	case errors.Is(err, switchboard.ErrNotFound):
		return "same", nil
	case err != nil:
		return "", err
	case had.Key == a.Key && had.FileID != "":
		return "same", nil
	}
	body, kind, err := w.fetchPicture(ctx, a)
	if err != nil {
		return "", err
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) == had.SHA256 {
		return "same", w.deps.Store.FinishPicture(ctx, a.AccountID, a.Customer, a.Key, queue.StoredFile{})
	}
	saved, err := w.deps.Files.SaveFetched(ctx, a.FileID, "picture", kind, bytes.NewReader(body), pictureBytes)
	if err != nil {
		return "", fmt.Errorf("storing customer's picture: %w", err)
	}
	saved.ID, saved.Kind = a.FileID, message.KindImage
	if err := w.deps.Store.FinishPicture(ctx, a.AccountID, a.Customer, a.Key, saved); err != nil {
		return "", err
	}
	w.deps.Bus.Wake("events")
	return "kept", nil
}

func (w *Workers) fetchPicture(ctx context.Context, a queue.PictureArgs) (body []byte, kind string, err error) {
	account, err := w.deps.Accounts.Get(ctx, a.AccountID)
	if err != nil {
		return nil, "", err
	}
	download, err := account.Channel.Fetch(ctx, a.Ref)
	if err != nil {
		return nil, "", err
	}
	defer download.Body.Close()
	if download.Size > pictureBytes {
		return nil, "", channels.ErrFileTooLarge
	}
	body, err = io.ReadAll(io.LimitReader(download.Body, pictureBytes+1))
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("reading customer's picture: %w", err)
	case len(body) > pictureBytes:
		return nil, "", channels.ErrFileTooLarge
	}
	if kind = http.DetectContentType(body); !slices.Contains(pictureTypes, kind) {
		return nil, "", errNoPicture
	}
	return body, kind, nil
}

type removeWorker struct {
	river.WorkerDefaults[queue.RemoveArgs]
	w *Workers
}

// Timeout implements river.Worker.
func (*removeWorker) Timeout(*river.Job[queue.RemoveArgs]) time.Duration { return pictureTime }

// Work removes the bytes of a file that has no row any more.
func (r *removeWorker) Work(ctx context.Context, job *river.Job[queue.RemoveArgs]) error {
	return r.w.removeFile(ctx, job.Args.FileID)
}

func (w *Workers) removeFile(ctx context.Context, id string) error {
	_, err := w.deps.Store.File(ctx, id)
	if errors.Is(err, switchboard.ErrNotFound) {
		err = w.deps.Files.Remove(ctx, id)
	}
	return err
}
