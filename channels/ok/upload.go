package ok

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// upload is a file as one kind of attachment.
type upload struct {
	file string // our id
	kind string // IMAGE, VIDEO, AUDIO or FILE
}

// uploaded is a token to send a file by. It works for every recipient, so a
// campaign's file is uploaded once.
type uploaded struct {
	token string
	until time.Time
}

// maxTokens bounds the tokens that are kept.
const maxTokens = 1000

// uploads returns the tokens of the part's files. known tells that one of them
// is of an earlier upload; fresh forbids that.
func (c *channel) uploads(ctx context.Context, part *message.Part, fresh bool) (tokens []string, known bool, failure *message.Error) {
	for i := range part.Files {
		f := &part.Files[i]
		key := upload{f.ID, attachmentType(part.Kind)}
		token := ""
		if !fresh {
			token = c.keptToken(key)
		}
		if token != "" {
			known = true
		} else if token, failure = c.upload(ctx, f, key.kind); failure != nil {
			return nil, false, failure
		} else {
			c.keepToken(key, token)
		}
		tokens = append(tokens, token)
	}
	return tokens, known, nil
}

func (c *channel) keptToken(key upload) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.tokens[key]; ok && c.now().Before(t.until) {
		return t.token
	}
	return ""
}

func (c *channel) keepToken(key upload, token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if len(c.tokens) >= maxTokens {
		maps.DeleteFunc(c.tokens, func(_ upload, t uploaded) bool { return !now.Before(t.until) })
	}
	if len(c.tokens) >= maxTokens {
		clear(c.tokens)
	}
	c.tokens[key] = uploaded{token, now.Add(tokenLife)}
}

// slot is where a file goes.
type slot struct {
	URL   text `json:"url"`
	Token text `json:"token"`
}

// upload asks for a slot and posts the file there. A picture's token is in the
// answer to that; others have the slot's.
func (c *channel) upload(ctx context.Context, f *message.File, kind string) (token string, failure *message.Error) {
	var s slot
	if failure := c.call(ctx, request{method: http.MethodGet, path: "/me/fileUploadUrl", query: url.Values{"type": {kind}}}, &s); failure != nil {
		return "", before(failure)
	}
	address := channels.WebAddress(string(s.URL))
	if address == nil || (kind != "IMAGE" && s.Token == "") {
		return "", &message.Error{Kind: message.ErrUnavailable, Detail: "OK gave no place to upload to"}
	}
	var answer struct {
		Photos map[string]struct {
			Token text `json:"token"`
		} `json:"photos"`
	}
	if failure := c.post(ctx, address, f, kind, &answer); failure != nil {
		return "", before(failure)
	}
	if kind != "IMAGE" {
		return string(s.Token), nil
	}
	for _, id := range slices.Sorted(maps.Keys(answer.Photos)) {
		if t := answer.Photos[id].Token; t != "" {
			return string(t), nil
		}
	}
	return "", &message.Error{Kind: message.ErrUnavailable, Detail: "OK gave no token for the picture"}
}

// post streams a file to its slot.
func (c *channel) post(ctx context.Context, address *url.URL, f *message.File, kind string, answer any) (failure *message.Error) {
	file := channels.FormFile{Field: "file", ID: f.ID, Name: fileName(f, kind), Mime: mimeType(f)}
	broken := channels.StreamForm(ctx, c.env.Files, nil, []channels.FormFile{file}, func(ctx context.Context, form *channels.Form) {
		failure = c.postForm(ctx, address, form, kind == "IMAGE", answer)
	})
	if broken != nil {
		return &message.Error{Kind: message.ErrUnavailable, Detail: "reading a file of the message", Err: broken}
	}
	return failure
}

func (c *channel) postForm(ctx context.Context, address *url.URL, form *channels.Form, object bool, answer any) *message.Error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), form.Body)
	if err != nil {
		return &message.Error{Kind: message.ErrUnavailable, Detail: "OK gave no place to upload to"}
	}
	req.Header.Set("Content-Type", form.ContentType)
	// The address is the platform's word: only the API's own host is known to be
	// what an admin configured.
	client := c.env.Fetch
	if address.Host == c.base.Host && address.Scheme == c.base.Scheme {
		client = c.env.HTTP
	}
	resp, err := client.Do(req)
	if err != nil {
		return channels.NoAnswer("upload to "+address.Hostname(), err, false)
	}
	defer resp.Body.Close()
	if !object && resp.StatusCode/100 == 2 && resp.Header.Get("Invocation-Error") == "" {
		// An empty answer is right; an error is an object all the same.
		raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		var f failed
		if err == nil && (channels.DecodeLenient(raw, &f) != nil || f.Code == "") {
			return nil
		}
		return c.failure(string(f.Code), &f, nil)
	}
	return c.read(resp, nil, answer)
}

// mimeType is what the part says of itself, which OK wants to be true of pictures
// and sound.
func mimeType(f *message.File) string {
	if f.Mime != "" {
		return f.Mime
	}
	return mimeOf[strings.ToLower(path.Ext(f.Name))]
}

// fileName is a name that can stand in a header.
func fileName(f *message.File, kind string) string {
	if name := channels.HeaderText(f.Name); name != "" {
		return name
	}
	return strings.ToLower(kind)
}
