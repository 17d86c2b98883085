package viber

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/channels/channeltest"
	"switchboard/message"
)

func textOut(text string, k *message.Keyboard) *message.Outbound {
	return &message.Outbound{Chat: testUser, Content: message.Content{Kind: message.KindText, Text: text, Keyboard: k}}
}

func TestPressRoundTrip(t *testing.T) {
	t.Parallel()
	c := openWith(t, nil)
	for _, row := range []struct{ payload, text, wantText string }{
		{"y", "Yes", "Yes"},
		{"a:b:c", "Two\nlines\t here", "Two lines here"},
		{"line\nbreak", "Yes", "Yes"},
		{strings.Repeat("п", 240), strings.Repeat("т", 240), ""},
		{strings.Repeat("п", 238) + "\n1", strings.Repeat("т", 240), ""},
		{strings.Repeat("😀", 120), "x", "x"},
		{"sb:x", " ", ""},
	} {
		b := c.button(&message.KeyButton{Text: row.text, Payload: row.payload})
		if n := message.UnitUTF16.Count(b.ActionBody); n > maxAction {
			t.Errorf("%.10q: ActionBody of %d", row.payload, n)
		}
		press, ok := c.press(b.ActionBody)
		if !ok || press.Payload != row.payload || press.Text != row.wantText {
			t.Errorf("%.10q %.10q came back as %+v", row.payload, row.text, press)
		}
	}
	for _, typed := range []string{"y", "sb", "SB:y", " sb:y", "sb-y", "see sb:y"} {
		if _, ok := c.press(typed); ok {
			t.Errorf("typed %q is taken for a press", typed)
		}
	}
}

func TestPhoneMarkIsTheAccountsOwn(t *testing.T) {
	t.Parallel()
	a, b := openWith(t, nil), openWith(t, map[string]string{"token": "another"})
	if a.phoneMark == b.phoneMark || a.isPhoneMark(b.phoneMark) || !a.isPhoneMark(a.phoneMark) || a.isPhoneMark("") {
		t.Errorf("%s and %s", a.phoneMark, b.phoneMark)
	}
	if n := len(a.phoneMark); n > maxAction || strings.Contains(a.phoneMark, testToken[:8]) {
		t.Errorf("%s", a.phoneMark)
	}
	if press, ok := a.press(a.phoneMark); !ok || press.Payload != "phone" {
		t.Errorf("the mark sent as a text shows as %+v", press)
	}
}

func TestNormalPhone(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		in   string
		own  bool
		want string
	}{
		{"37060012345", false, "+37060012345"},
		{"+370 (600) 123-45", false, "+37060012345"},
		{"0037060012345", false, "+37060012345"},
		{"89161234567", false, "89161234567"},
		{"79161234567", false, "+79161234567"},
		{"8 916 123 45 67", true, "+89161234567"},
		{"060012345", false, "060012345"},
		{"112", false, "112"},
		{"6001234567", true, "+6001234567"},
		{"call me", false, "call me"},
		{"00", false, "00"},
	} {
		if got := normalPhone(row.in, row.own); got != row.want {
			t.Errorf("%q (own %v): %q, want %q", row.in, row.own, got, row.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		in    string
		limit int
		want  string
	}{
		{"Anna", 4, "Anna"}, {"Anna", 3, "Ann"}, {"a😀b", 2, "a"}, {"a😀b", 3, "a😀"}, {"я\xff", 1, "я"}, {"", 3, ""}, {"x", 0, ""},
	} {
		if got := truncate(row.in, row.limit); got != row.want {
			t.Errorf("truncate(%q, %d) = %q", row.in, row.limit, got)
		}
	}
	for _, row := range []struct{ name, mime, want string }{
		{"invoice.pdf", "application/pdf", "invoice.pdf"},
		{"invoice", "application/pdf", "invoice.pdf"},
		{"invoice.", "application/pdf", "invoice.pdf"},
		{"", "image/png", "file.png"},
		{".pdf", "", "file.pdf"},
		{"../../etc/passwd", "", "passwd.bin"},
		{`C:\docs\a.doc`, "", "a.doc"},
		{"what." + strings.Repeat("x", 30), "text/csv", "what." + strings.Repeat("x", 30) + ".csv"},
		{strings.Repeat("n", 300) + ".pdf", "", strings.Repeat("n", 252) + ".pdf"},
	} {
		if got := fileName(&message.File{Name: row.name, Mime: row.mime}); got != row.want {
			t.Errorf("%q %q: %q, want %q", row.name, row.mime, got, row.want)
		}
	}
}

// TestRequestSize: whatever the text, no request is over Viber's 30 KB.
func TestRequestSize(t *testing.T) {
	t.Parallel()
	c := openWith(t, nil)
	wide := replyKeyboard()
	for range 24 {
		row := make([]message.KeyButton, 6)
		for i := range row {
			row[i] = message.KeyButton{Text: strings.Repeat("т", 20), Payload: "p"}
		}
		wide.Rows = append(wide.Rows, row)
	}
	for name, text := range map[string]string{
		"three bytes each": strings.Repeat("世", 7000),
		"six bytes each":   strings.Repeat("\u2028", 6999) + "x",
		"control":          strings.Repeat("\x01", 7000),
		"long":             strings.Repeat("слово ", 11000),
	} {
		for _, k := range []*message.Keyboard{nil, wide} {
			parts, err := c.Plan(textOut(text, k))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			whole := ""
			for i := range parts {
				body, err := channels.EncodeJSON(c.request(&parts[i].Outbound, ""))
				if err != nil || len(body) > maxRequest {
					t.Errorf("%s: part %d of %d has %d bytes (%v)", name, i, len(parts), len(body), err)
				}
				whole += parts[i].Text
			}
			if strip := strings.NewReplacer(" ", "", "\u2028", ""); strip.Replace(whole) != strip.Replace(text) {
				t.Errorf("%s: the parts are not the text", name)
			}
		}
	}
	for _, row := range wide.Rows {
		for i := range row {
			row[i].Text = strings.Repeat("т", 240)
		}
	}
	_, err := c.Plan(textOut("x", wide))
	if r, ok := errors.AsType[*message.Refusal](err); !ok || r.Code != message.RefusedLimit || !strings.Contains(r.Detail, "30000") {
		t.Errorf("a keyboard of over 30 KB: %v", err)
	}
	tracked := textOut("x", nil)
	tracked.Payload = strings.Repeat("x", 4001)
	if _, err := c.Plan(tracked); err == nil {
		t.Error("tracking data of 4001 characters is planned")
	}
	empty := textOut("", nil)
	empty.Kind, empty.Files = message.KindDocument, []message.File{stored(message.KindDocument, "a.pdf", "application/pdf", 0)}
	if _, err := c.Plan(empty); err == nil {
		t.Error("an empty file is planned")
	}
}

// linkFiles records what Send asks of the file store.
type linkFiles struct {
	channeltest.Files
	ttl chan time.Duration
}

func (f linkFiles) Link(ctx context.Context, id string, ttl time.Duration) (string, error) {
	f.ttl <- ttl
	return f.Files.Link(ctx, id, ttl)
}

func TestLinks(t *testing.T) {
	t.Parallel()
	c := openWith(t, nil)
	files := linkFiles{ttl: make(chan time.Duration, 1)}
	c.env.Files = files
	send := func(name string) error {
		out := textOut("", nil)
		out.Kind, out.Files = message.KindImage, []message.File{stored(message.KindImage, name, "image/png", 5)}
		parts, err := c.Plan(out)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Send(t.Context(), &parts[0])
		return err
	}
	if err := send("a.png"); err != nil {
		t.Error(err)
	}
	if ttl := <-files.ttl; ttl < 14*24*time.Hour {
		t.Errorf("a link for %s; Viber delivers for 14 days", ttl)
	}
	e, ok := errors.AsType[*message.Error](send("missing.png"))
	if !ok || e.Kind != message.ErrUnavailable {
		t.Errorf("without a link: %v, want unavailable", e)
	}
}

// doer answers without a network.
type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func TestTransport(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		err  error
		want message.ErrorKind
	}{
		{"dial", &net.OpError{Op: "dial", Err: errors.New("refused")}, message.ErrUnavailable},
		{"no such host", &net.DNSError{Err: "no such host", Name: "chatapi.viber.com"}, message.ErrUnavailable},
		{"read", &net.OpError{Op: "read", Err: errors.New("reset")}, message.ErrUncertain},
		{"unknown", errors.New("something"), message.ErrUncertain},
		{"deadline", context.DeadlineExceeded, message.ErrUncertain},
	} {
		c := openWith(t, nil)
		c.env.HTTP = doer(func(*http.Request) (*http.Response, error) { return nil, row.err })
		parts, err := c.Plan(textOut("x", nil))
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Send(t.Context(), &parts[0])
		if e := message.Classify(err); e.Kind != row.want || !errors.Is(err, row.err) {
			t.Errorf("%s: %v, want %s", row.name, err, row.want)
		}
	}
}

// TestNoHandshake: a server that never speaks TLS got nothing of the message.
func TestNoHandshake(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err == nil {
			conn.Close()
		}
	}()
	c := openWith(t, map[string]string{"api_base": "https://" + l.Addr().String() + "/pa"})
	c.env.HTTP = &http.Client{Transport: &http.Transport{}}
	parts, err := c.Plan(textOut("x", nil))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Send(t.Context(), &parts[0])
	if e := message.Classify(err); e.Kind != message.ErrUnavailable {
		t.Errorf("got %v, want unavailable", err)
	}
	<-done
}

// TestHourByOurClock: without a Date in the answer our own clock counts.
func TestHourByOurClock(t *testing.T) {
	t.Parallel()
	c := openWith(t, nil)
	c.now = func() time.Time { return time.Date(2026, 11, 21, 10, 15, 0, 0, time.UTC) }
	c.env.HTTP = doer(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"status":12}`))}, nil
	})
	parts, err := c.Plan(textOut("x", nil))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Send(t.Context(), &parts[0])
	if e := message.Classify(err); e.Kind != message.ErrThrottled || !e.ChatOnly || e.RetryAfter != 45*time.Minute+time.Second {
		t.Errorf("got %v after %s", err, e.RetryAfter)
	}
}

// TestCheckWithoutAddress: Viber can't be told where we are.
func TestCheckWithoutAddress(t *testing.T) {
	t.Parallel()
	c := openWith(t, nil)
	c.env.PublicURL = ""
	h, err := c.Check(t.Context())
	if e := message.Classify(err); e.Kind != message.ErrAccount || h.Name != "Example Shop" {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestFetchKeepsTheAddress: who has the address has the file.
func TestFetchKeepsTheAddress(t *testing.T) {
	t.Parallel()
	c := openWith(t, nil)
	c.env.Fetch = &http.Client{Transport: &http.Transport{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, err = c.Fetch(t.Context(), "http://"+l.Addr().String()+"/private/path.jpg")
	if err == nil || strings.Contains(err.Error(), "private") || errors.Is(err, channels.ErrFileGone) {
		t.Errorf("%v", err)
	}
}
