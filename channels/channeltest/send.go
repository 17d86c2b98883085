package channeltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// private words that the suite sends: no error may repeat them.
const (
	privateText  = "чужая тайна 4711"
	privatePhone = "+79161112233"
)

// prompt is how soon a cancelled call must be back.
const prompt = 5 * time.Second

// File is a ready outbound file; its bytes are FileBytes(id), its name is id.
func File(kind message.Kind, id, mime string) message.File {
	return message.File{ID: id, Kind: kind, Name: id, Mime: mime, Size: int64(len(FileBytes(id))), State: message.FileReady}
}

func (c *Case) text() *message.Outbound {
	return &message.Outbound{
		ID: "0198c0de-0000-7000-8000-000000000001", Chat: c.Chat, Customer: c.Customer,
		Content: message.Content{Kind: message.KindText, Text: privateText},
	}
}

// fill completes an outbound message of a case.
func (c *Case) fill(out message.Outbound) *message.Outbound {
	base := c.text()
	if out.ID == "" {
		out.ID = base.ID
	}
	if out.Chat == "" {
		out.Chat = base.Chat
	}
	if out.Customer == "" {
		out.Customer = base.Customer
	}
	return &out
}

func (c *Case) testOpen(t *testing.T) {
	t.Parallel()
	p := NewPlatform(t, c.Answer)
	c.open(t, p)
	refuse := func(key, value string) {
		account := p.Account(c, map[string]string{key: value})
		_, err := c.Platform.Open(account, p.Env())
		if err == nil {
			t.Errorf("Open takes %s=%q", key, value)
			return
		}
		if !strings.Contains(err.Error(), key) {
			t.Errorf("the error does not name the setting %s: %v", key, err)
		}
		if s := c.leak(account.Settings, err.Error()); s != "" {
			t.Errorf("the error gives away %s", s)
		}
	}
	for _, s := range c.Platform.Settings {
		if s.Required {
			refuse(s.Key, "")
		}
		if len(s.Options) > 0 {
			refuse(s.Key, "no such option")
		}
	}
	for key, value := range c.BadSettings {
		refuse(key, value)
	}
	refuse("api_base", "not an address")
	if n := len(p.Requests()); n > 0 {
		t.Errorf("Open made %d requests", n)
	}
}

func (c *Case) testCapabilities(t *testing.T) {
	t.Parallel()
	caps := c.open(t, NewPlatform(t, c.Answer)).Capabilities()
	if caps.Platform != c.Platform.Name {
		t.Errorf("Platform is %q, want %q", caps.Platform, c.Platform.Name)
	}
	for _, k := range caps.Send {
		switch k {
		case message.KindButton, message.KindService, message.KindUnsupported:
			t.Errorf("Send holds %s, which only customers and platforms make", k)
		default:
			if !k.Known() {
				t.Errorf("Send holds the unknown kind %q", k)
			}
		}
		if k.IsFile() && caps.FileBytes[k] == 0 && caps.FileBytes[message.KindDocument] == 0 {
			t.Errorf("no size limit for %s", k)
		}
	}
	for _, k := range caps.Receive {
		if !k.Known() {
			t.Errorf("Receive holds the unknown kind %q", k)
		}
	}
	for name, l := range map[string]message.Limit{
		"Text": caps.Text, "Caption": caps.Caption, "ButtonText": caps.ButtonText,
		"ButtonPayload": caps.ButtonPayload, "ContactName": caps.ContactName, "ContactPhone": caps.ContactPhone,
	} {
		if l.Max < 0 || (l.Max > 0 && l.Unit != message.UnitBytes && l.Unit != message.UnitRunes && l.Unit != message.UnitUTF16) {
			t.Errorf("%s is %+v: a limit needs a unit", name, l)
		}
	}
	if len(caps.Send) > 0 && (caps.Text.Max == 0 || caps.MaxParts < 1) {
		t.Errorf("Text %+v, MaxParts %d: unlimited texts can't be planned", caps.Text, caps.MaxParts)
	}
	for _, opt := range []struct {
		name  string
		said  bool
		found bool
	}{
		{"Edit", caps.Edit, is[channels.Editor](c.open(t, NewPlatform(t, nil)))},
		{"Delete", caps.Delete, is[channels.Deleter](c.open(t, NewPlatform(t, nil)))},
		{"Forward", caps.Forward, is[channels.Forwarder](c.open(t, NewPlatform(t, nil)))},
		{"Typing", caps.Typing, is[channels.Typer](c.open(t, NewPlatform(t, nil)))},
	} {
		if opt.said && !opt.found {
			t.Errorf("capability %s without its interface", opt.name)
		}
	}
}

func is[T any](v any) bool { _, ok := v.(T); return ok }

// plan plans out twice and checks what holds for every plan.
func plan(t *testing.T, ch channels.Channel, out *message.Outbound) []message.Part {
	t.Helper()
	before := string(render(out))
	parts, err := ch.Plan(out)
	if err != nil {
		t.Fatalf("Plan: %v", err)
	}
	if again, err := ch.Plan(out); err != nil || !reflect.DeepEqual(parts, again) {
		t.Errorf("Plan is not deterministic (%v)", err)
	}
	if string(render(out)) != before {
		t.Error("Plan changed its input")
	}
	if len(parts) == 0 {
		t.Fatal("Plan gave no parts")
	}
	for i := range parts {
		part := &parts[i]
		if part.Index != i || part.Of != len(parts) {
			t.Errorf("part %d says it is %d of %d, of %d", i, part.Index, part.Of, len(parts))
		}
		if part.ID != out.ID || part.Chat != out.Chat || part.Customer != out.Customer {
			t.Errorf("part %d is of another message", i)
		}
		if last := i == len(parts)-1; (part.Keyboard != nil) != (last && out.Keyboard != nil) {
			t.Errorf("the keyboard belongs to the last part; part %d of %d: %v", i, len(parts), part.Keyboard)
		}
	}
	return parts
}

// units is a text of n units.
func units(n int, unit message.Unit) string {
	if unit == message.UnitBytes {
		return strings.Repeat("a", n)
	}
	return strings.Repeat("я", n)
}

func (c *Case) testPlan(t *testing.T) {
	t.Parallel()
	ch := c.open(t, NewPlatform(t, nil))
	caps := ch.Capabilities()
	if slices.Contains(caps.Send, message.KindText) && caps.Text.Max > 0 {
		for _, row := range []struct{ n, parts int }{{1, 1}, {caps.Text.Max - 1, 1}, {caps.Text.Max, 1}, {caps.Text.Max + 1, 2}, {2*caps.Text.Max + 1, 3}} {
			if row.parts > caps.MaxParts {
				continue
			}
			out := c.text()
			out.Text = units(row.n, caps.Text.Unit)
			if caps.InlineKeyboard && !c.PlainTexts {
				out.Keyboard = &message.Keyboard{Kind: message.KeyboardInline, Rows: [][]message.KeyButton{{{Text: "ok", Payload: "ok"}}}}
			}
			parts := plan(t, ch, out)
			if len(parts) != row.parts {
				t.Errorf("%d %s: %d parts, want %d", row.n, caps.Text.Unit, len(parts), row.parts)
			}
			whole := ""
			for i := range parts {
				if n := caps.Text.Unit.Count(parts[i].Text); n > caps.Text.Max {
					t.Errorf("part %d has %d %s, limit %d", i, n, caps.Text.Unit, caps.Text.Max)
				}
				whole += parts[i].Text
			}
			if whole != out.Text {
				t.Errorf("%d %s: the parts are not the text", row.n, caps.Text.Unit)
			}
		}
		// Wide characters across the limit.
		out := c.text()
		out.Text = units(caps.Text.Max-1, caps.Text.Unit) + "😀😀"
		whole := ""
		if caps.MaxParts > 1 {
			for _, part := range plan(t, ch, out) {
				whole += part.Text
			}
			if whole != out.Text {
				t.Error("an emoji across the limit is lost or cut")
			}
		}
	}
	if slices.Contains(caps.Send, message.KindImage) && caps.Caption.Max > 0 {
		for _, n := range []int{caps.Caption.Max - 1, caps.Caption.Max, caps.Caption.Max + 1} {
			out := c.text()
			out.Kind, out.Text = message.KindImage, units(n, caps.Caption.Unit)
			out.Files = []message.File{File(message.KindImage, "a.jpg", "image/jpeg")}
			parts := plan(t, ch, out)
			beside := 0 // units beside the file
			for i := range parts {
				if len(parts[i].Files) > 0 {
					beside = max(beside, caps.Caption.Unit.Count(parts[i].Text))
				}
			}
			if beside > caps.Caption.Max {
				t.Errorf("a caption of %d %s, limit %d", beside, caps.Caption.Unit, caps.Caption.Max)
			}
			if apart := n > caps.Caption.Max; apart != (parts[len(parts)-1].Kind == message.KindText && len(parts[len(parts)-1].Files) == 0) {
				t.Errorf("caption of %d %s, limit %d: a text of its own is wrong", n, caps.Caption.Unit, caps.Caption.Max)
			}
		}
	}
}

// goldenSend is the golden file of a send.
type goldenSend struct {
	Requests []goldenRequest   `json:"requests"`
	Receipts []message.Receipt `json:"receipts,omitempty"`
	Result   any               `json:"result,omitempty"`
	Error    string            `json:"error,omitempty"`
}

func (c *Case) goldenRequests(p *Platform) []goldenRequest {
	all := []goldenRequest{}
	for _, r := range p.Requests() {
		all = append(all, golden(r))
	}
	return all
}

func (c *Case) testSend(t *testing.T) {
	t.Parallel()
	noStale(t, c.Dir, ".send.json", func(name string) bool {
		return slices.ContainsFunc(c.Sends, func(s Send) bool { return s.Name == name && s.Refused == "" })
	})
	for _, s := range c.Sends {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			p := NewPlatform(t, c.Answer)
			ch := c.open(t, p)
			out := c.fill(s.Out)
			caps := ch.Capabilities()
			err := caps.Check(&out.Content, out.ReplyTo != "")
			if s.Refused != "" {
				if refusal, ok := errors.AsType[*message.Refusal](err); !ok || refusal.Code != s.Refused {
					t.Fatalf("Check: %v, want %s", err, s.Refused)
				}
				return
			}
			if err != nil {
				t.Fatalf("Check: %v", err)
			}
			var g goldenSend
			for _, part := range plan(t, ch, out) {
				receipt, err := ch.Send(t.Context(), &part)
				if err != nil {
					t.Fatalf("Send of part %d: %v", part.Index, err)
				}
				if len(receipt.IDs) == 0 {
					t.Errorf("part %d has no platform id", part.Index)
				}
				g.Receipts = append(g.Receipts, receipt)
			}
			g.Requests = c.goldenRequests(p)
			settings := p.Account(c, nil).Settings
			compare(t, filepath.Join(c.Dir, s.Name+".send.json"), g, func(s string) string { return c.redact(p, settings, s) })
		})
	}
}

func (c *Case) testCalls(t *testing.T) {
	t.Parallel()
	calls := append([]Call{{Name: "check", Do: func(ctx context.Context, ch channels.Channel) (any, error) { return ch.Check(ctx) }}}, c.Calls...)
	noStale(t, c.Dir, ".call.json", func(name string) bool {
		return slices.ContainsFunc(calls, func(call Call) bool { return call.Name == name })
	})
	for _, call := range calls {
		t.Run(call.Name, func(t *testing.T) {
			t.Parallel()
			answer := c.Answer
			if call.Answer != nil {
				answer = call.Answer
			}
			p := NewPlatform(t, answer)
			result, err := call.Do(t.Context(), c.open(t, p))
			g := goldenSend{Requests: c.goldenRequests(p), Result: result}
			settings := p.Account(c, nil).Settings
			if err != nil {
				g.Error = err.Error()
				c.checkError(t, settings, err)
			}
			if s := c.leak(settings, string(render(result))); s != "" {
				t.Errorf("the result gives away %s", s)
			}
			compare(t, filepath.Join(c.Dir, call.Name+".call.json"), g, func(s string) string { return c.redact(p, settings, s) })
		})
	}
}

// checkError checks that an error gives nothing away, down to its causes.
func (c *Case) checkError(t *testing.T, settings map[string]string, err error) {
	t.Helper()
	texts := []string{fmt.Sprintf("%v %+v %#v", err, err, err)}
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		texts = append(texts, cause.Error())
		if e, ok := cause.(*message.Error); ok { //nolint:errorlint // this very link of the chain
			texts = append(texts, string(render(e.Failure())))
		}
	}
	for _, text := range texts {
		if s := c.leak(settings, text); s != "" {
			t.Errorf("the error gives away %s: %s", s, text)
		}
		if strings.Contains(text, privateText) || strings.Contains(text, privatePhone) {
			t.Errorf("the error repeats the message: %s", text)
		}
	}
}

// sendError sends the first part of out and returns the classified error.
func (c *Case) sendError(ctx context.Context, t *testing.T, p *Platform, out *message.Outbound) *message.Error {
	t.Helper()
	ch := c.open(t, p)
	parts := plan(t, ch, out)
	_, err := ch.Send(ctx, &parts[0])
	if err == nil {
		t.Fatal("Send succeeded")
	}
	c.checkError(t, p.Account(c, nil).Settings, err)
	e, ok := errors.AsType[*message.Error](err)
	if !ok {
		t.Fatalf("Send gave a %T, want *message.Error: %v", err, err)
	}
	switch e.Kind {
	case message.ErrInvalid, message.ErrRecipient, message.ErrAccount, message.ErrThrottled, message.ErrUnavailable, message.ErrUncertain:
	default:
		t.Errorf("unknown kind of error %q", e.Kind)
	}
	return e
}

func (c *Case) testErrors(t *testing.T) {
	t.Parallel()
	for _, row := range c.Errors {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			p := NewPlatform(t, func(*Request) Response { return row.Response })
			out := c.text()
			if row.Out != nil {
				out = c.fill(*row.Out)
			}
			e := c.sendError(t.Context(), t, p, out)
			if e.Kind != row.Want.Kind || e.Code != row.Want.Code || e.RetryAfter != row.Want.RetryAfter || e.ChatOnly != row.Want.ChatOnly {
				t.Errorf("got %s %q after %s chat only %v (%s), want %s %q after %s chat only %v", e.Kind, e.Code, e.RetryAfter, e.ChatOnly, e.Detail,
					row.Want.Kind, row.Want.Code, row.Want.RetryAfter, row.Want.ChatOnly)
			}
			if row.Want.Detail != "" && e.Detail != row.Want.Detail {
				t.Errorf("detail %q, want %q", e.Detail, row.Want.Detail)
			}
		})
	}
}

// testTransport tries what every platform does one day.
func (c *Case) testTransport(t *testing.T) {
	t.Parallel()
	unknown := []message.ErrorKind{message.ErrUncertain}
	passes := []message.ErrorKind{message.ErrUncertain, message.ErrUnavailable}
	html := map[string]string{"Content-Type": "text/html"}
	for _, row := range []struct {
		name string
		Response
		want []message.ErrorKind
	}{
		{"500", Response{Status: 500, Header: html, Body: "<h1>oops</h1>"}, passes},
		{"502", Response{Status: 502, Header: html, Body: "<h1>Bad Gateway</h1>"}, passes},
		{"503", Response{Status: 503}, passes},
		{"504", Response{Status: 504, Header: html, Body: "<h1>Gateway Timeout</h1>"}, passes},
		{"429", Response{Status: 429, Header: map[string]string{"Retry-After": "7"}}, []message.ErrorKind{message.ErrThrottled}},
		{"nonsense", Response{Body: "<html>welcome</html>"}, unknown},
		{"empty", Response{}, unknown},
		{"half an answer", Response{Body: `{"ok":true,"result":{"mess`}, unknown},
		{"cut", Response{Cut: true}, unknown},
		{"redirect", Response{Status: 302, Header: map[string]string{"Location": "http://203.0.113.1/"}}, append(passes, message.ErrInvalid)},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := NewPlatform(t, func(*Request) Response { return row.Response })
			if e := c.sendError(t.Context(), t, p, c.text()); !slices.Contains(row.want, e.Kind) {
				t.Errorf("got %s (%s), want one of %v", e.Kind, e.Detail, row.want)
			}
		})
	}
	t.Run("away", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		p := NewPlatform(t, nil)
		p.URL = "http://" + l.Addr().String()
		p.hosts = append(p.hosts, l.Addr().String())
		if e := c.sendError(t.Context(), t, p, c.text()); e.Kind != message.ErrUnavailable {
			t.Errorf("got %s, want unavailable: nothing was sent", e.Kind)
		}
		if _, err := c.open(t, p).Check(t.Context()); err == nil {
			t.Error("Check of a platform that is away succeeded")
		} else {
			c.checkError(t, p.Account(c, nil).Settings, err)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		p := NewPlatform(t, func(*Request) Response { return Response{Hang: true} })
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		start := time.Now()
		if e := c.sendError(ctx, t, p, c.text()); e.Kind != message.ErrUncertain {
			t.Errorf("got %s, want uncertain", e.Kind)
		}
		if d := time.Since(start); d > prompt {
			t.Errorf("back after %s", d)
		}
	})
	t.Run("cancelled before", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p := NewPlatform(t, c.Answer)
		if e := c.sendError(ctx, t, p, c.text()); e.Kind != message.ErrUnavailable {
			t.Errorf("got %s, want unavailable: nothing was sent", e.Kind)
		}
	})
	hanging := map[string]func(context.Context, channels.Channel) error{
		"check": func(ctx context.Context, ch channels.Channel) error { _, err := ch.Check(ctx); return err },
		"poll": func(ctx context.Context, ch channels.Channel) error {
			if p, ok := ch.(channels.Poller); ok && p.Polls() {
				_, _, err := p.Poll(ctx, 0)
				return err
			}
			return errSkip
		},
	}
	for name, call := range hanging {
		t.Run("cancelled "+name, func(t *testing.T) {
			t.Parallel()
			p := NewPlatform(t, func(*Request) Response { return Response{Hang: true} })
			c.cancelled(t, p, call)
		})
	}
}

var errSkip = errors.New("not for this platform")

// cancelled runs call against a platform that hangs, cancels it when the
// request has arrived, and wants it back promptly with an error.
func (c *Case) cancelled(t *testing.T, p *Platform, call func(context.Context, channels.Channel) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ch := c.open(t, p)
	done := make(chan error, 1)
	go func() { done <- call(ctx, ch) }()
	arrived := make(chan error, 1)
	wait, stop := context.WithTimeout(t.Context(), prompt)
	defer stop()
	go func() { arrived <- p.Wait(wait) }()
	select {
	case err := <-done:
		stop()
		<-arrived
		if err == nil {
			t.Error("succeeded against a platform that hangs")
		}
		if err != nil && !errors.Is(err, errSkip) {
			t.Logf("made no request: %v", err)
		}
		return
	case err := <-arrived:
		if err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a cancelled call succeeded")
		} else {
			c.checkError(t, p.Account(c, nil).Settings, err)
		}
	case <-time.After(prompt):
		t.Error("a cancelled call hangs")
	}
}

func (c *Case) testPollErrors(t *testing.T) {
	t.Parallel()
	for _, row := range c.PollErrors {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			p := NewPlatform(t, func(*Request) Response { return row.Response })
			poller, ok := c.open(t, p).(channels.Poller)
			if !ok || !poller.Polls() {
				t.Fatal("the account is not polled")
			}
			_, _, err := poller.Poll(t.Context(), 5)
			e, ok := errors.AsType[*channels.PollError](err)
			if !ok {
				t.Fatalf("Poll gave %v, want a *channels.PollError", err)
			}
			c.checkError(t, p.Account(c, nil).Settings, err)
			if e.Kind != row.Want.Kind || e.RetryAfter != row.Want.RetryAfter {
				t.Errorf("got %s after %s, want %s after %s", e.Kind, e.RetryAfter, row.Want.Kind, row.Want.RetryAfter)
			}
		})
	}
}

func (c *Case) testVerify(t *testing.T) {
	t.Parallel()
	for _, row := range c.Verify {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			p := NewPlatform(t, nil)
			w, ok := c.open(t, p).(channels.Webhooks)
			if !ok {
				t.Fatal("the channel has no webhooks")
			}
			err := w.Verify(row.Header, row.Query, []byte(row.Body))
			if (err == nil) != row.OK {
				t.Errorf("Verify: %v, want ok %v", err, row.OK)
			}
			if err != nil {
				c.checkError(t, p.Account(c, nil).Settings, err)
			}
		})
	}
}

func (c *Case) testFetch(t *testing.T) {
	t.Parallel()
	for _, row := range c.Fetches {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			p := NewPlatform(t, row.Answer)
			ch := c.open(t, p)
			ref := strings.ReplaceAll(row.Ref, "{{api}}", p.URL)
			d, err := ch.Fetch(t.Context(), ref)
			if row.Err != nil {
				if !errors.Is(err, row.Err) {
					t.Errorf("Fetch: %v, want %v", err, row.Err)
				}
				if err != nil {
					c.checkError(t, p.Account(c, nil).Settings, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("Fetch: %v", err)
			}
			body, err := io.ReadAll(d.Body)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Body.Close(); err != nil {
				t.Error(err)
			}
			size := row.Size
			if size == 0 {
				size = int64(len(row.Body))
			}
			if string(body) != row.Body || d.Size != size || d.Mime != row.Mime || d.Name != row.FileName {
				t.Errorf("got %q, %d bytes, %q, %q; want %q, %d bytes, %q, %q", body, d.Size, d.Mime, d.Name, row.Body, size, row.Mime, row.FileName)
			}
			hang := NewPlatform(t, func(*Request) Response { return Response{Hang: true} })
			c.cancelled(t, hang, func(ctx context.Context, ch channels.Channel) error {
				d, err := ch.Fetch(ctx, strings.ReplaceAll(row.Ref, "{{api}}", hang.URL))
				if err == nil {
					err = d.Body.Close()
				}
				return err
			})
		})
	}
}
