package channeltest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"switchboard/channels"
)

// Request is what the platform received.
type Request struct {
	Method string
	Path   string // decoded
	Query  string // raw
	Header http.Header
	Body   []byte
}

// JSON decodes the body; nil if it isn't a JSON object.
func (r *Request) JSON() map[string]any {
	var v map[string]any
	_ = json.Unmarshal(r.Body, &v)
	return v
}

// Response is what the platform answers. Status 0 is 200; a body that begins
// with { or [ is sent as JSON unless Header says otherwise.
type Response struct {
	Status int
	Header map[string]string
	Body   string
	Hang   bool // no answer until the client goes away
	Cut    bool // close the connection instead of answering
}

// Platform is a fake platform on loopback and everything a channel may use of
// the world.
type Platform struct {
	URL string // of the API, without trailing slash

	t      testing.TB
	server *httptest.Server
	got    chan *Request // a hint for tests that wait for a request

	mu       sync.Mutex
	hosts    []string
	answer   func(*Request) Response
	requests []*Request
}

// NewPlatform starts a fake platform; it ends with the test.
func NewPlatform(t testing.TB, answer func(*Request) Response) *Platform {
	p := &Platform{t: t, answer: answer, got: make(chan *Request, 64)}
	p.server = httptest.NewServer(http.HandlerFunc(p.serve))
	p.URL = p.server.URL
	p.hosts = []string{strings.TrimPrefix(p.URL, "http://")}
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	return p
}

func (p *Platform) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client gave up
	}
	req := &Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header, Body: body}
	p.mu.Lock()
	p.requests = append(p.requests, req)
	answer := p.answer
	p.mu.Unlock()
	select {
	case p.got <- req:
	default:
	}
	var res Response
	if answer != nil {
		res = answer(req)
	}
	switch {
	case res.Hang:
		<-r.Context().Done()
		return
	case res.Cut:
		panic(http.ErrAbortHandler)
	}
	text := strings.ReplaceAll(res.Body, "{{api}}", p.URL)
	if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		w.Header().Set("Content-Type", "application/json")
	}
	for k, v := range res.Header {
		w.Header().Set(k, strings.ReplaceAll(v, "{{api}}", p.URL))
	}
	if res.Status != 0 {
		w.WriteHeader(res.Status)
	}
	_, _ = io.WriteString(w, text)
}

// Answers replaces the answer.
func (p *Platform) Answers(answer func(*Request) Response) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// Requests returns what came so far and forgets it.
func (p *Platform) Requests() []*Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.requests
	p.requests = nil
	return r
}

// Wait returns once a request has arrived.
func (p *Platform) Wait(ctx context.Context) error {
	select {
	case <-p.got:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a request: %w", ctx.Err())
	}
}

// Env is the world: HTTP that reaches the fake platform only, files whose bytes
// are FileBytes of their id, and https://gateway.example as the public address.
func (p *Platform) Env() channels.Env {
	client := &http.Client{
		Transport:     p.server.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	doer := &guard{p, client}
	return channels.Env{HTTP: doer, Fetch: doer, Files: Files{}, PublicURL: "https://gateway.example"}
}

// Account is the case's account at this platform. More settings go on top.
func (p *Platform) Account(c *Case, more map[string]string) channels.Account {
	settings := map[string]string{}
	for k, v := range c.Settings {
		settings[k] = strings.ReplaceAll(v, "{{api}}", p.URL)
	}
	settings["api_base"] = p.URL
	for k, v := range more {
		settings[k] = v
	}
	return channels.Account{ID: "acc1", Platform: c.Platform.Name, Name: "test", Settings: settings}
}

// guard lets requests go to the fake platform only.
type guard struct {
	platform *Platform
	client   *http.Client
}

func (g *guard) Do(r *http.Request) (*http.Response, error) {
	g.platform.mu.Lock()
	known := slices.Contains(g.platform.hosts, r.URL.Host)
	g.platform.mu.Unlock()
	if !known {
		g.platform.t.Errorf("request to another host: %s %s", r.Method, r.URL.Host)
		return nil, errors.New("other host")
	}
	return g.client.Do(r)
}

// Files is a store in which every id exists; its bytes are FileBytes of the id.
// Ids that begin with "missing" can't be opened; those that begin with "broken"
// fail halfway.
type Files struct{}

// FileBytes are the bytes of a file in Files.
func FileBytes(id string) []byte { return []byte("bytes of " + id) }

// Open implements channels.Files.
func (Files) Open(_ context.Context, id string) (io.ReadCloser, error) {
	b := FileBytes(id)
	if strings.HasPrefix(id, "missing") {
		return nil, errors.New("no such file in the store")
	}
	if strings.HasPrefix(id, "broken") {
		return io.NopCloser(io.MultiReader(bytes.NewReader(b[:4]), failingReader{})), nil
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("the store broke off") }

// Link implements channels.Files.
func (Files) Link(_ context.Context, id string, _ time.Duration) (string, error) {
	if strings.HasPrefix(id, "missing") {
		return "", errors.New("no such file in the store")
	}
	return "https://gateway.example/files/signed/" + url.PathEscape(id), nil
}

// secrets are the values that must never be seen, longest first.
func (c *Case) secrets(settings map[string]string) map[string]string {
	values := map[string]string{}
	for _, s := range c.Platform.Settings {
		if v := settings[s.Key]; s.Secret && len(v) >= 4 {
			values[s.Key] = v
		}
	}
	return values
}

// leak names the secret setting that text gives away, or "".
func (c *Case) leak(settings map[string]string, text string) string {
	for key, v := range c.secrets(settings) {
		for _, form := range []string{v, url.QueryEscape(v), url.PathEscape(v)} {
			if strings.Contains(text, form) {
				return key
			}
		}
	}
	return ""
}

// redact makes golden text stable and free of secrets.
func (c *Case) redact(p *Platform, settings map[string]string, text string) string {
	values := c.secrets(settings)
	keys := make([]string, 0, len(values))
	for k := range values {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return len(values[b]) - len(values[a]) })
	for _, k := range keys {
		text = strings.ReplaceAll(text, values[k], "<"+k+">")
		text = strings.ReplaceAll(text, url.QueryEscape(values[k]), "<"+k+">")
	}
	text = strings.ReplaceAll(text, p.URL, "{{api}}")
	if c.Scrub != nil {
		text = c.Scrub(text)
	}
	return text
}

// goldenRequest is a request as golden files show it.
type goldenRequest struct {
	Request string            `json:"request"`
	Header  map[string]string `json:"header,omitempty"`
	JSON    json.RawMessage   `json:"json,omitempty"`
	Form    url.Values        `json:"form,omitempty"`
	Parts   []goldenPart      `json:"parts,omitempty"`
	Text    string            `json:"text,omitempty"`
}

type goldenPart struct {
	Name   string          `json:"name"`
	File   string          `json:"file,omitempty"`
	Type   string          `json:"type,omitempty"`
	JSON   json.RawMessage `json:"json,omitempty"`
	Value  string          `json:"value,omitempty"`
	SHA256 string          `json:"sha256,omitempty"`
	Bytes  int             `json:"bytes,omitempty"`
}

// noise are headers that say nothing about the platform's protocol.
var noise = []string{"Accept-Encoding", "Content-Length", "User-Agent", "Connection", "Transfer-Encoding"}

func golden(r *Request) goldenRequest {
	g := goldenRequest{Request: r.Method + " " + r.Path, Header: map[string]string{}}
	if r.Query != "" {
		g.Request += "?" + r.Query
	}
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	for k := range r.Header {
		if !slices.Contains(noise, k) {
			g.Header[k] = r.Header.Get(k)
		}
	}
	switch {
	case len(r.Body) == 0:
	case kind == "multipart/form-data":
		g.Header["Content-Type"] = kind
		g.Parts = goldenParts(r.Body, params["boundary"])
	case kind == "application/x-www-form-urlencoded":
		g.Form, _ = url.ParseQuery(string(r.Body))
	case json.Valid(r.Body):
		g.JSON = r.Body
	default:
		g.Text = string(r.Body)
	}
	return g
}

func goldenParts(body []byte, boundary string) []goldenPart {
	var parts []goldenPart
	reader := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		p, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return parts
		}
		if err != nil {
			return append(parts, goldenPart{Name: "broken multipart: " + err.Error()})
		}
		b, err := io.ReadAll(p)
		if err != nil {
			return append(parts, goldenPart{Name: "broken part: " + err.Error()})
		}
		g := goldenPart{Name: p.FormName(), File: p.FileName(), Type: p.Header.Get("Content-Type")}
		switch {
		case len(b) > 4096:
			sum := sha256.Sum256(b)
			g.SHA256, g.Bytes = hex.EncodeToString(sum[:]), len(b)
		case len(b) > 0 && (b[0] == '{' || b[0] == '[') && json.Valid(b):
			g.JSON = b
		default:
			g.Value = string(b)
		}
		parts = append(parts, g)
	}
}
