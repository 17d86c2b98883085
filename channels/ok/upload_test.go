package ok

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/channels/channeltest"
	"switchboard/message"
)

const processing = `{"error_code":100,"error_msg":"PARAM : attachment is not ready, still processing"}`

func picturePart(t *testing.T, c *channel, chat string) *message.Part {
	t.Helper()
	parts, err := c.Plan(&message.Outbound{Chat: chat, Content: message.Content{Kind: message.KindImage, Text: "x", Files: []message.File{file(message.KindImage, "a.jpg", "image/jpeg", 15)}}})
	if err != nil || len(parts) != 1 {
		t.Fatal(parts, err)
	}
	return &parts[0]
}

func openAt(t *testing.T, p *channeltest.Platform) *channel {
	t.Helper()
	tc := testCase()
	c, err := open(p.Account(&tc, nil), p.Env())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func count(p *channeltest.Platform, path string) (n int) {
	for _, r := range p.Requests() {
		if strings.HasPrefix(r.Path, path) {
			n++
		}
	}
	return n
}

// A file that OK still works at is waited for with the same token.
func TestNotReady(t *testing.T) {
	t.Parallel()
	left := 3
	p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
		if strings.HasPrefix(r.Path, "/graph/me/messages") && left > 0 {
			left--
			return channeltest.Response{Body: processing}
		}
		return okAnswer(r)
	})
	c := openAt(t, p)
	var waits []time.Duration
	c.wait = func(_ context.Context, d time.Duration) bool { waits = append(waits, d); return true }
	if _, err := c.Send(t.Context(), picturePart(t, c, testChat)); err != nil {
		t.Fatal(err)
	}
	if len(waits) != 3 || waits[0] != 2*time.Second || waits[2] != 8*time.Second {
		t.Errorf("waited %v", waits)
	}
	if n := count(p, "/upload/"); n != 1 {
		t.Errorf("%d uploads", n)
	}

	// Too long: certainly not sent, and the next try sends the same token.
	left = 5
	_, err := c.Send(t.Context(), picturePart(t, c, testChat))
	if e, ok := errors.AsType[*message.Error](err); !ok || e.Kind != message.ErrThrottled || !e.ChatOnly || e.RetryAfter <= 0 {
		t.Errorf("got %v", err)
	}
	if n := count(p, "/upload/"); n != 0 {
		t.Errorf("%d uploads", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	left, waits = 1, nil
	if _, err := c.Send(ctx, picturePart(t, c, testChat)); err == nil || len(waits) != 0 {
		t.Errorf("waits %v although the time is up before: %v", waits, err)
	}
}

// A file for many recipients is uploaded once; a token that OK no longer takes,
// again.
func TestTokenIsUsedAgain(t *testing.T) {
	t.Parallel()
	refuse := false
	p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
		if refuse && strings.HasPrefix(r.Path, "/graph/me/messages") {
			refuse = false
			return channeltest.Response{Body: `{"error_code":100,"error_msg":"PARAM : token"}`}
		}
		return okAnswer(r)
	})
	c := openAt(t, p)
	now := time.Now()
	c.now = func() time.Time { return now }
	send := func() {
		t.Helper()
		if _, err := c.Send(t.Context(), picturePart(t, c, testChat)); err != nil {
			t.Fatal(err)
		}
	}
	send()
	send()
	if n := count(p, "/upload/"); n != 1 {
		t.Errorf("%d uploads for two sends", n)
	}
	refuse = true
	send()
	if n := count(p, "/upload/"); n != 1 {
		t.Errorf("%d uploads after a refused token", n)
	}
	now = now.Add(tokenLife)
	send()
	if n := count(p, "/upload/"); n != 1 {
		t.Errorf("%d uploads after the token's life", n)
	}
	for range 3 * maxTokens {
		c.keepToken(upload{file: time.Now().String()}, "x")
	}
	if len(c.tokens) > maxTokens {
		t.Errorf("%d tokens are kept", len(c.tokens))
	}
}

// The upload's address is OK's word: another host is reached by the guarded client.
func TestUploadElsewhereIsGuarded(t *testing.T) {
	t.Parallel()
	elsewhere := channeltest.NewPlatform(t, okAnswer)
	p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
		if r.Path == "/graph/me/fileUploadUrl" {
			return channeltest.Response{Body: `{"url":"` + elsewhere.URL + `/upload/IMAGE","token":"t"}`}
		}
		return okAnswer(r)
	})
	c := openAt(t, p)
	c.env.Fetch = elsewhere.Env().Fetch
	if _, err := c.Send(t.Context(), picturePart(t, c, testChat)); err != nil {
		t.Fatal(err)
	}
	requests := elsewhere.Requests()
	if len(requests) != 1 || strings.Contains(requests[0].Query, "access_token") {
		t.Errorf("the other host got %+v", requests)
	}
}

func TestUploadFailures(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		file   string
		kind   message.Kind
		answer func(*channeltest.Request) channeltest.Response
		want   message.ErrorKind
	}{
		"missing file":    {"missing", message.KindImage, okAnswer, message.ErrUnavailable},
		"broken file":     {"broken.jpg", message.KindImage, okAnswer, message.ErrUnavailable},
		"no slot":         {"a.jpg", message.KindImage, instead("/graph/me/fileUploadUrl", `{}`), message.ErrUnavailable},
		"slot is no web":  {"a.jpg", message.KindImage, instead("/graph/me/fileUploadUrl", `{"url":"file:///x","token":"t"}`), message.ErrUnavailable},
		"no photo":        {"a.jpg", message.KindImage, instead("/upload/IMAGE", `{"photos":{}}`), message.ErrUnavailable},
		"refused picture": {"a.jpg", message.KindImage, instead("/upload/IMAGE", `{"error_code":21,"error_msg":"NOT_MULTIPART"}`), message.ErrInvalid},
		"refused file":    {"a.pdf", message.KindDocument, instead("/upload/FILE", `{"error_code":4,"error_msg":"REQUEST"}`), message.ErrInvalid},
		"nonsense":        {"a.jpg", message.KindImage, instead("/upload/IMAGE", `<html>`), message.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := channeltest.NewPlatform(t, row.answer)
			c := openAt(t, p)
			part := message.Part{Of: 1, Outbound: message.Outbound{Chat: testChat, Content: message.Content{Kind: row.kind, Files: []message.File{file(row.kind, row.file, "image/jpeg", 15)}}}}
			_, err := c.Send(t.Context(), &part)
			if e := message.Classify(err); err == nil || e.Kind != row.want {
				t.Errorf("got %v, want %s", err, row.want)
			}
			if n := count(p, "/graph/me/messages"); n != 0 {
				t.Errorf("%d messages sent without their file", n)
			}
		})
	}
}

func TestRecipient(t *testing.T) {
	t.Parallel()
	for key, ok := range map[string]bool{
		"chat:C3ecb9d02a600": true, "user:123456789012": true, "123456789012": true, "chat:C-1_x": true,
		"": false, "chat:": false, "user:": false, "user:ann": false, "group:1": false, "mid:1": false, "chat:a/b": false,
		"chat:C1?x=1": false, "+79990001122": false, "chat:" + strings.Repeat("1", 300): false,
	} {
		if _, err := recipient(key); (err == nil) != ok {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestSecretIsMadeFromTheToken(t *testing.T) {
	t.Parallel()
	p := channeltest.NewPlatform(t, okAnswer)
	made := func(id, token string) string {
		c, err := open(channels.Account{ID: id, Platform: name, Settings: map[string]string{"token": token, "api_base": p.URL}}, p.Env())
		if err != nil || len(c.secret) != 32 {
			t.Fatalf("%v, secret of %d", err, len(c.secret))
		}
		return c.secret
	}
	if a := made("a", "t"); a != made("a", "t") || a == made("b", "t") || a == made("a", "u") {
		t.Error("the secret is not the account's and the token's own")
	}
}

// The pause of a flood doubles until a message goes out.
func TestFloodBacksOff(t *testing.T) {
	t.Parallel()
	code := 8
	p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
		if code != 0 {
			return channeltest.Response{Body: fmt.Sprintf(`{"error_code":%d}`, code)}
		}
		return okAnswer(r)
	})
	c := openAt(t, p)
	now := time.UnixMilli(1770000200000)
	c.now = func() time.Time { return now }
	part := &message.Part{Of: 1, Outbound: message.Outbound{Chat: testChat, Content: message.Content{Kind: message.KindText, Text: "x"}}}
	for i, step := range []struct {
		code int
		want time.Duration
	}{{8, 30 * time.Second}, {8, time.Minute}, {11, 4 * time.Minute}, {0, 0}, {8, 30 * time.Second}} {
		code = step.code
		_, err := c.Send(t.Context(), part)
		e := message.Classify(err)
		if (e != nil) != (step.want > 0) || e != nil && e.RetryAfter != step.want {
			t.Errorf("step %d: %+v, want %s", i, e, step.want)
		}
		now = now.Add(step.want)
	}
}

// A hole stays to be filled until it is, and is filled once.
func TestUpkeepFillsAHoleOnce(t *testing.T) {
	t.Parallel()
	subscribed, broken := true, false
	p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
		switch {
		case r.Path == "/graph/me/subscriptions" && subscribed:
			return channeltest.Response{Body: `{"subscriptions":[{"url":"` + ourHook + `"}]}`}
		case r.Path == "/graph/me/chats" && broken:
			return channeltest.Response{Status: 502}
		}
		return forgotten(r)
	})
	c := openAt(t, p)
	c.now = func() time.Time { return time.UnixMilli(1770000200000) }
	c.wait = func(context.Context, time.Duration) bool { return true }
	run := func(want int, ok bool) {
		t.Helper()
		updates, err := c.Upkeep(t.Context())
		if len(updates) != want || (err == nil) != ok {
			t.Errorf("%d updates and %v, want %d and ok %v", len(updates), err, want, ok)
		}
	}
	run(3, true) // nobody may have listened before
	run(0, true)
	subscribed, broken = false, true
	run(0, false)
	subscribed, broken = true, false
	run(2, true) // since the last time it was well, less an overlap: not the third, which is older
	run(0, true)
}
