package workers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

type oneFile struct {
	channels.Channel
	body func(ctx context.Context) io.Reader
}

func (c oneFile) Get(context.Context, string) (*channels.Opened, error) {
	return &channels.Opened{Channel: c}, nil
}

func (c oneFile) Fetch(ctx context.Context, _ string) (channels.Download, error) {
	return channels.Download{Body: io.NopCloser(c.body(ctx))}, nil
}

type counting struct{ mime string }

func (c counting) SaveFetched(_ context.Context, _, _, _ string, r io.Reader, _ int64) (queue.StoredFile, error) {
	n, err := io.Copy(io.Discard, r)
	return queue.StoredFile{Size: n, Mime: c.mime}, err
}

func (counting) Remove(context.Context, string) error { return nil }

func (counting) IsTooLarge(error) bool { return false }

// pieces hands out one byte each pause, and goes silent after the last.
type pieces struct {
	ctx   context.Context
	left  int
	pause time.Duration
	end   error
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.left == 0 {
		if p.end != nil {
			return 0, p.end
		}
		<-p.ctx.Done() // as a connection whose request is called off
		return 0, p.ctx.Err()
	}
	p.left--
	time.Sleep(p.pause)
	return copy(b, bytes.Repeat([]byte{'x'}, 1)), nil
}

// A server that goes silent is given up after a while, however slow it was
// before; one that is only slow is not.
func TestFetchGivesSilentServersUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  error
		took time.Duration
		want error
	}{
		"slow":   {io.EOF, 5 * (stall - time.Second), nil},
		"silent": {nil, 5*(stall-time.Second) + stall, errStalled},
	} {
		synctest.Test(t, func(t *testing.T) {
			account := oneFile{body: func(ctx context.Context) io.Reader {
				return &pieces{ctx: ctx, left: 5, pause: stall - time.Second, end: c.end}
			}}
			w := &Workers{cfg: Config{MaxFile: 1 << 20}, deps: Deps{Accounts: account, Files: counting{}}}
			start := time.Now()
			_, _, err := w.fetch(t.Context(), queue.StoredFile{})
			if !errors.Is(err, c.want) || time.Since(start) != c.took {
				t.Errorf("%s: %v after %v, want %v after %v", name, err, time.Since(start), c.want, c.took)
			}
		})
	}
}

// What was to be a video and is a page is no file; a document may be one.
func TestFetchTakesNoPages(t *testing.T) {
	t.Parallel()
	account := oneFile{body: func(context.Context) io.Reader { return bytes.NewReader([]byte("<html>")) }}
	w := &Workers{cfg: Config{MaxFile: 1 << 20}, deps: Deps{Accounts: account, Files: counting{"text/html; charset=utf-8"}}}
	for kind, want := range map[message.Kind]error{message.KindVideo: errPage, message.KindImage: errPage, message.KindDocument: nil} {
		if _, _, err := w.fetch(t.Context(), queue.StoredFile{Kind: kind}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", kind, err, want)
		}
	}
}
