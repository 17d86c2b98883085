package simulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

const tgToken = "7000000001:AAF_test-secret"

const vbToken = "4f1a2b3c4d5e6f70-8192a3b4c5d6e7f8-0a1b2c3d4e5f6071"

// obj is a decoded JSON object; numbers stay exact.
type obj = map[string]any

func decode(t *testing.T, b []byte) obj {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v obj
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decoding %q: %v", b, err)
	}
	return v
}

// at walks objects and arrays: at(v, "result", "photo", 0, "file_id").
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(obj)
			v = m[p]
		case int:
			a, _ := v.([]any)
			if p >= len(a) {
				return nil
			}
			v = a[p]
		}
	}
	return v
}

func num(v any) int64 {
	n, _ := v.(json.Number)
	i, _ := n.Int64()
	return i
}

func str(v any) string {
	s, _ := v.(string)
	return s
}

func wantEq(t *testing.T, what string, got, want any) {
	t.Helper()
	if n, ok := got.(json.Number); ok {
		if i, ok := want.(int); ok {
			got, want = num(n), int64(i)
		}
	}
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func send(t *testing.T, req *http.Request) (int, http.Header, []byte) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading: %v", err)
	}
	return resp.StatusCode, resp.Header, b
}

// tg is a bot under test.
type tg struct {
	t    *testing.T
	sim  *simulator.Simulator
	base string
	acct *simulator.TelegramAccount
}

func newTG(t *testing.T, cfg simulator.Config) *tg {
	t.Helper()
	sim, base := simtest.StartConfig(t, cfg)
	return &tg{t, sim, base, sim.Telegram(tgToken)}
}

func (b *tg) url(method string) string { return b.base + "/telegram/bot" + tgToken + "/" + method }

// call posts a JSON body and returns the envelope.
func (b *tg) call(method string, params any) obj {
	b.t.Helper()
	body, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.post(method, "application/json", bytes.NewReader(body))
}

func (b *tg) post(method, contentType string, body io.Reader) obj {
	b.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, b.url(method), body)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	status, header, raw := send(b.t, req)
	v := decode(b.t, raw)
	if v["ok"] == true {
		wantEq(b.t, method+" HTTP status", status, 200)
	} else {
		wantEq(b.t, method+" HTTP status against error_code", int64(status), num(v["error_code"]))
	}
	if ra := at(v, "parameters", "retry_after"); ra != nil {
		wantEq(b.t, "Retry-After", header.Get("Retry-After"), ra.(json.Number).String())
	}
	return v
}

// ok is call, which must succeed; it returns the result.
func (b *tg) ok(method string, params any) any {
	b.t.Helper()
	v := b.call(method, params)
	if v["ok"] != true {
		b.t.Fatalf("%s: %v", method, v)
	}
	return v["result"]
}

// fails is call, which must fail so.
func (b *tg) fails(method string, params any, code int, description string) obj {
	b.t.Helper()
	v := b.call(method, params)
	if v["ok"] != false || num(v["error_code"]) != int64(code) || !strings.Contains(strings.ToLower(str(v["description"])), strings.ToLower(description)) {
		b.t.Errorf("%s: got %v, want %d %q", method, v, code, description)
	}
	return v
}

type part struct {
	field, name, mime string
	data              []byte
}

func (b *tg) multipart(method string, values map[string]string, files ...part) obj {
	b.t.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for k, v := range values {
		if err := w.WriteField(k, v); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, f := range files {
		h := textproto.MIMEHeader{}
		h.Set("Content-Disposition", `form-data; name="`+f.field+`"; filename="`+f.name+`"`)
		h.Set("Content-Type", f.mime)
		p, err := w.CreatePart(h)
		if err != nil {
			b.t.Fatal(err)
		}
		if _, err := p.Write(f.data); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.t.Fatal(err)
	}
	return b.post(method, w.FormDataContentType(), &buf)
}

// updates polls once without waiting.
func (b *tg) updates(offset int64) []any {
	b.t.Helper()
	r, _ := b.ok("getUpdates", obj{"offset": offset}).([]any)
	return r
}

// vb is a Viber bot under test.
type vb struct {
	t    *testing.T
	sim  *simulator.Simulator
	base string
	acct *simulator.ViberAccount
}

func newVB(t *testing.T, cfg simulator.Config) *vb {
	t.Helper()
	sim, base := simtest.StartConfig(t, cfg)
	return &vb{t, sim, base, sim.Viber(vbToken)}
}

func (b *vb) raw(method string, body []byte) obj {
	b.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, b.base+"/viber/pa/"+method, bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("X-Viber-Auth-Token", vbToken)
	status, _, raw := send(b.t, req)
	wantEq(b.t, method+" HTTP status", status, 200)
	return decode(b.t, raw)
}

func (b *vb) call(method string, params any) obj {
	b.t.Helper()
	body, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.raw(method, body)
}

func (b *vb) want(method string, params any, status int) obj {
	b.t.Helper()
	v := b.call(method, params)
	if num(v["status"]) != int64(status) {
		b.t.Errorf("%s: got %v, want status %d", method, v, status)
	}
	return v
}

// hook is a webhook receiver that keeps what it got.
type hook struct {
	got    chan received
	answer func(n int, r received, w http.ResponseWriter)
}

type received struct {
	header http.Header
	body   []byte
	v      obj
}

// newHook serves a webhook; answer may be nil, which is an empty 200.
func newHook(t *testing.T, answer func(n int, r received, w http.ResponseWriter)) (*hook, string) {
	t.Helper()
	h := &hook{got: make(chan received, 1000), answer: answer}
	n := make(chan int, 1)
	n <- 0
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		rec := received{header: r.Header.Clone(), body: b}
		d.Decode(&rec.v) //nolint:errcheck // a test looks at it
		i := <-n
		n <- i + 1
		if h.answer != nil {
			h.answer(i, rec, w)
		}
		h.got <- rec
	}))
	return h, url
}

func (h *hook) next(t *testing.T) received {
	t.Helper()
	select {
	case r := <-h.got:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no callback came")
		return received{}
	}
}

// event returns the next callback of this event (Viber) or kind (Telegram).
func (h *hook) event(t *testing.T, kind string) received {
	t.Helper()
	for {
		r := h.next(t)
		if r.v["event"] == kind || r.v[kind] != nil && r.v["update_id"] != nil {
			return r
		}
	}
}

// control makes a control call.
func control(t *testing.T, base, method, path string, body any) (int, obj) {
	t.Helper()
	var rd io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		rd = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, base+"/control/"+path, rd)
	if err != nil {
		t.Fatal(err)
	}
	status, _, raw := send(t, req)
	return status, decode(t, raw)
}

func esc(s string) string { return url.PathEscape(s) }

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // polling with a deadline
	}
}

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// sniffed is the standard library's opinion about a content.
func sniffed(b []byte) string {
	if m := http.DetectContentType(b); m != "application/ogg" {
		return m
	}
	return "audio/ogg"
}
