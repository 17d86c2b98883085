package telegram_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/channels/channeltest"
	"switchboard/channels/telegram"
	"switchboard/message"
)

// send plans content to chat and sends its first part.
func send(ctx context.Context, t *testing.T, ch channels.Channel, to string, out message.Outbound) (message.Receipt, error) {
	t.Helper()
	out.ID, out.Chat, out.Customer = "m1", to, to
	parts, err := ch.Plan(&out)
	if err != nil {
		t.Fatal(err)
	}
	return ch.Send(ctx, &parts[0])
}

func text(s string) message.Outbound {
	return message.Outbound{Content: message.Content{Kind: message.KindText, Text: s}}
}

func method(r *channeltest.Request) string { return r.Path[strings.LastIndex(r.Path, "/")+1:] }

func TestRemedies(t *testing.T) {
	t.Parallel()
	const group = "-4567"
	reply := text("x")
	reply.ReplyTo = "5"
	photo := message.Outbound{Content: message.Content{Kind: message.KindImage, Text: "подпись", Files: files(message.KindImage, "image/jpeg", "a.jpg")}}
	album := message.Outbound{Content: message.Content{Kind: message.KindImage, Files: files(message.KindImage, "image/jpeg", "a.jpg", "b.jpg")}}
	voice := message.Outbound{Content: message.Content{Kind: message.KindVoice, Files: files(message.KindVoice, "audio/ogg", "a.ogg")}}
	cases := []struct {
		name  string
		out   message.Outbound
		first channeltest.Response // of every call until the remedy shows
		cured func(r *channeltest.Request) bool
		calls []string
		note  string
	}{
		{"group moved", text("x"), refusal(400, "Bad Request: group chat was upgraded to a supergroup chat", `{"migrate_to_chat_id":-1001234567890}`),
			func(r *channeltest.Request) bool { return r.JSON()["chat_id"] == float64(-1001234567890) },
			[]string{"sendMessage", "sendMessage"}, "-1001234567890"},
		{"reply gone", reply, refusal(400, "Bad Request: message to be replied not found", ""),
			func(r *channeltest.Request) bool { return r.JSON()["reply_parameters"] == nil },
			[]string{"sendMessage", "sendMessage"}, "gone"},
		{"photo as document", photo, refusal(400, "Bad Request: PHOTO_INVALID_DIMENSIONS", ""),
			func(r *channeltest.Request) bool {
				return method(r) == "sendDocument" && strings.Contains(string(r.Body), "bytes of a.jpg") && strings.Contains(string(r.Body), "подпись")
			},
			[]string{"sendPhoto", "sendDocument"}, "document"},
		{"album as documents", album, refusal(400, "Bad Request: IMAGE_PROCESS_FAILED", ""),
			func(r *channeltest.Request) bool { return strings.Contains(string(r.Body), `"type":"document"`) },
			[]string{"sendMediaGroup", "sendMediaGroup"}, "document"},
		{"voice as document", voice, refusal(400, "Bad Request: VOICE_MESSAGES_FORBIDDEN", ""),
			func(r *channeltest.Request) bool { return method(r) == "sendDocument" },
			[]string{"sendVoice", "sendDocument"}, "document"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
				if c.cured(r) {
					return platform(r)
				}
				return c.first
			})
			receipt, err := send(t.Context(), t, open(t, p, nil), group, c.out)
			if err != nil {
				t.Fatal(err)
			}
			if len(receipt.IDs) == 0 || !strings.Contains(receipt.Note, c.note) {
				t.Errorf("receipt %+v, want a note with %q", receipt, c.note)
			}
			var calls []string
			for _, r := range p.Requests() {
				calls = append(calls, method(r))
			}
			if !slices.Equal(calls, c.calls) {
				t.Errorf("calls %v, want %v", calls, c.calls)
			}
		})
		t.Run(c.name+", in vain", func(t *testing.T) {
			t.Parallel()
			p := channeltest.NewPlatform(t, func(*channeltest.Request) channeltest.Response { return c.first })
			_, err := send(t.Context(), t, open(t, p, nil), group, c.out)
			if kind := kindOf(t, err); kind != message.ErrInvalid {
				t.Errorf("got %s, want invalid", kind)
			}
			if n := len(p.Requests()); n != 2 {
				t.Errorf("%d calls, want 2: each remedy once", n)
			}
		})
	}
}

// A 404 is our bug as long as the token works.
func TestUnknownMethodIsNotTheAccountsFault(t *testing.T) {
	t.Parallel()
	p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
		if method(r) == "getMe" {
			return platform(r)
		}
		return refusal(404, "Not Found: method not found", "")
	})
	if _, err := send(t.Context(), t, open(t, p, nil), chat, text("x")); kindOf(t, err) != message.ErrInvalid {
		t.Errorf("got %v, want invalid", err)
	}
}

func TestAcceptedWithoutID(t *testing.T) {
	t.Parallel()
	for _, result := range []string{`{"message_id":0}`, `null`, `"x"`} {
		p := channeltest.NewPlatform(t, func(*channeltest.Request) channeltest.Response { return ok(result) })
		receipt, err := send(t.Context(), t, open(t, p, nil), chat, text("x"))
		if err != nil || len(receipt.IDs) != 0 || receipt.Note == "" {
			t.Errorf("%s: %+v, %v; want a receipt with a note", result, receipt, err)
		}
	}
}

func TestChatKeys(t *testing.T) {
	t.Parallel()
	ch := open(t, channeltest.NewPlatform(t, nil), nil)
	for _, key := range []string{"", "0", "x", "@durov", "55 1", "99999999999999999999"} {
		out := text("x")
		out.Chat = key
		if _, err := ch.Plan(&out); key != "" && (err == nil || kindOf(t, err) != message.ErrInvalid) {
			t.Errorf("Plan to chat %q: %v, want invalid", key, err)
		}
		if _, err := ch.Send(t.Context(), &message.Part{Of: 1, Outbound: out}); err == nil || kindOf(t, err) != message.ErrInvalid {
			t.Errorf("Send to chat %q: %v, want invalid", key, err)
		}
	}
}

// big is a store whose files are endless until it is told to stop.
type big struct {
	started chan struct{} // closed by the server at the first bytes
	stop    atomic.Bool
	closed  chan struct{}
	sent    atomic.Int64
}

func (b *big) Open(context.Context, string) (io.ReadCloser, error) { return b, nil }

func (b *big) Link(context.Context, string, time.Duration) (string, error) {
	return "", errors.New("no links")
}

func (b *big) Read(p []byte) (int, error) {
	if b.stop.Load() {
		return 0, io.EOF
	}
	b.sent.Add(int64(len(p)))
	return len(p), nil
}

func (b *big) Close() error { close(b.closed); return nil }

// uploadTo sends a document from an endless store to a server.
func uploadTo(ctx context.Context, t *testing.T, handler func(*big, http.ResponseWriter, *http.Request)) error {
	t.Helper()
	store := &big{started: make(chan struct{}), closed: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler(store, w, r) }))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	env := channels.Env{HTTP: server.Client(), Files: store}
	ch, err := telegram.Platform().Open(channels.Account{Settings: map[string]string{"token": token, "api_base": server.URL}}, env)
	if err != nil {
		t.Fatal(err)
	}
	_, err = send(ctx, t, ch, chat, message.Outbound{Content: message.Content{Kind: message.KindDocument, Files: files(message.KindDocument, "application/zip", "big.zip")}})
	select {
	case <-store.closed:
	case <-time.After(5 * time.Second):
		t.Error("Send returned before the file was closed")
	}
	return err
}

// The platform sees the beginning of a file before the store has given its end.
func TestUploadIsStreamed(t *testing.T) {
	t.Parallel()
	err := uploadTo(t.Context(), t, func(store *big, w http.ResponseWriter, r *http.Request) {
		if _, err := io.CopyN(io.Discard, r.Body, 4<<20); err != nil {
			t.Errorf("reading the beginning: %v", err)
		}
		store.stop.Store(true)
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Errorf("reading the rest: %v", err)
		}
		// What lies between the two ends is in the sockets, not in our memory.
		if n := store.sent.Load(); n > 64<<20 {
			t.Errorf("%d bytes were taken from the store", n)
		}
		_, _ = io.WriteString(w, `{"ok":true,"result":{"message_id":5}}`)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUploadCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	err := uploadTo(ctx, t, func(_ *big, _ http.ResponseWriter, r *http.Request) {
		if _, err := io.CopyN(io.Discard, r.Body, 1<<20); err != nil {
			t.Errorf("reading the beginning: %v", err)
		}
		cancel()
		_, _ = io.Copy(io.Discard, r.Body) // until the connection is gone
	})
	// The form never got to its end, so nothing can have been sent.
	if kindOf(t, err) != message.ErrUnavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want unavailable: context canceled", err)
	}
}

func TestUploadAnsweredEarly(t *testing.T) {
	t.Parallel()
	err := uploadTo(t.Context(), t, func(_ *big, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 60","parameters":{"retry_after":60}}`)
	})
	// The answer may get lost when the server closes on the endless body; then
	// the form is incomplete all the same.
	if kind := kindOf(t, err); kind != message.ErrThrottled && kind != message.ErrUnavailable {
		t.Errorf("got %v, want throttled", err)
	}
}

func TestUploadCutAtTheEnd(t *testing.T) {
	t.Parallel()
	err := uploadTo(t.Context(), t, func(store *big, _ http.ResponseWriter, r *http.Request) {
		store.stop.Store(true)
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	})
	if kindOf(t, err) != message.ErrUncertain {
		t.Errorf("got %v, want uncertain", err)
	}
}

// Without a setting the webhook's secret comes from the token: the same in every
// process, another for every bot.
func TestDerivedSecret(t *testing.T) {
	t.Parallel()
	p := channeltest.NewPlatform(t, platform)
	told := func(token string) (string, channels.Webhooks) {
		ch := open(t, p, map[string]string{"mode": "webhook", "token": token})
		_, _ = ch.Check(t.Context())
		for _, r := range p.Requests() {
			if method(r) == "setWebhook" {
				s, _ := body(t, r)["secret_token"].(string)
				return s, ch.(channels.Webhooks)
			}
		}
		return "", ch.(channels.Webhooks)
	}
	secret, hooks := told(token)
	if len(secret) < 32 || strings.Contains(token, secret) {
		t.Fatalf("secret %q", secret)
	}
	if again, _ := told(token); again != secret {
		t.Error("the secret changes")
	}
	if err := hooks.Verify(http.Header{"X-Telegram-Bot-Api-Secret-Token": {secret}}, nil, nil); err != nil {
		t.Error(err)
	}
	other := open(t, p, map[string]string{"token": "7000000002:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"}).(channels.Webhooks)
	if err := other.Verify(http.Header{"X-Telegram-Bot-Api-Secret-Token": {secret}}, nil, nil); err == nil {
		t.Error("another bot takes it too")
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	p := channeltest.NewPlatform(t, nil)
	if !open(t, p, nil).(channels.Poller).Polls() {
		t.Error("an account without mode is not polled")
	}
	if open(t, p, map[string]string{"mode": "webhook"}).(channels.Poller).Polls() {
		t.Error("an account in webhook mode is polled")
	}
}

func TestFetchFromPrivateServer(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir := filepath.Join(root, "server")
	if err := os.MkdirAll(filepath.Join(dir, "documents"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{filepath.Join(dir, "documents", "a.pdf"): "pdf", filepath.Join(root, "outside"): "key"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(root, "outside"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want string // content, or ""
		err  error
	}{
		{path: filepath.Join(dir, "documents", "a.pdf"), want: "pdf"},
		{path: filepath.Join(dir, "documents", "b.pdf"), err: channels.ErrFileGone},
		{path: filepath.Join(root, "outside")},
		{path: dir + "/../outside"},
		{path: filepath.Join(dir, "link")},
		{path: dir},
	} {
		t.Run(c.path, func(t *testing.T) {
			t.Parallel()
			p := channeltest.NewPlatform(t, func(*channeltest.Request) channeltest.Response { return ok(`{"file_path":"` + c.path + `"}`) })
			d, err := open(t, p, map[string]string{"local": dir}).Fetch(t.Context(), "x")
			if c.want == "" {
				if err == nil || (c.err != nil && !errors.Is(err, c.err)) {
					t.Errorf("got %v, want an error (%v)", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(d.Body)
			if err != nil || string(b) != c.want || d.Size != int64(len(c.want)) || d.Name != "a.pdf" {
				t.Errorf("got %q, %+v, %v", b, d, err)
			}
			if err := d.Body.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A miss of Telegram's storage passes; the download must be tried again.
func TestFetchRetries(t *testing.T) {
	t.Parallel()
	for _, res := range []channeltest.Response{
		refusal(400, "Bad Request: wrong file_id or the file is temporarily unavailable", ""),
		refusal(429, "Too Many Requests", ""),
		{Status: 502, Body: "<html>"},
		ok(`{"file_id":"x"}`),
	} {
		p := channeltest.NewPlatform(t, func(*channeltest.Request) channeltest.Response { return res })
		if _, err := open(t, p, nil).Fetch(t.Context(), "x"); err == nil || errors.Is(err, channels.ErrFileGone) || errors.Is(err, channels.ErrFileTooLarge) {
			t.Errorf("%s: %v, want a passing error", res.Body, err)
		}
	}
}

// On a private server nothing is too large to fetch.
func TestLargeFileOfPrivateServer(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/document_too_large.in.json")
	if err != nil {
		t.Fatal(err)
	}
	p := channeltest.NewPlatform(t, nil)
	for local, want := range map[string]message.FileState{"": message.FileTooLarge, t.TempDir(): message.FilePending} {
		updates, err := open(t, p, map[string]string{"local": local}).Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := updates[0].Content.Files[0].State; got != want {
			t.Errorf("local %q: state %s, want %s", local, got, want)
		}
	}
}
