package vk

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// uploadTries: a failed upload is begun again with a new address, this often in all.
const uploadTries = 3

// uploadAgain are the codes for which a new upload address may help. 10 is told of
// broken voice messages, so that it is not repeated for ever either.
var uploadAgain = []int{1, 10, 22, 105, 118, 121, 129}

// storeError is a failure of our own store.
type storeError struct{ error }

// attach uploads a file and returns what stands in messages.send for it. Errors
// are *message.Error; nothing was sent then.
func (c *channel) attach(ctx context.Context, peer int64, f *message.File) (string, error) {
	var err error
	for range uploadTries {
		var name string
		if f.Kind == message.KindImage {
			name, err = c.attachPhoto(ctx, peer, f)
		} else {
			name, err = c.attachDoc(ctx, peer, f)
		}
		if err == nil {
			return name, nil
		}
		if ctx.Err() != nil || !refused(err, uploadAgain...) {
			break
		}
	}
	if e, ok := errors.AsType[storeError](err); ok {
		return "", &message.Error{Kind: message.ErrUnavailable, Detail: "reading a file of the message", Err: e.error}
	}
	e := c.classify(err, true)
	if refused(err, 1, 10, 22) {
		e.Kind = message.ErrInvalid // three times in a row it is the file
	}
	return "", e
}

func (c *channel) attachPhoto(ctx context.Context, peer int64, f *message.File) (string, error) {
	address, err := c.uploadAddress(ctx, "photos.getMessagesUploadServer", url.Values{"peer_id": {number(peer)}})
	if err != nil {
		return "", err
	}
	const method = "photo upload"
	raw, err := c.upload(ctx, method, address, "photo", f)
	if err != nil {
		return "", err
	}
	var got struct {
		Server json.Number `json:"server"`
		Photo  string      `json:"photo"`
		Hash   string      `json:"hash"`
	}
	if err := lenient(raw, &got); err != nil || got.Photo == "" || got.Photo == "[]" {
		return "", &callError{method: method, code: 129, detail: "VK took no picture from the file"}
	}
	saved, err := c.patiently(ctx, "photos.saveMessagesPhoto", url.Values{"server": {got.Server.String()}, "photo": {got.Photo}, "hash": {got.Hash}})
	if err != nil {
		return "", err
	}
	var photos []media
	if err := lenient(saved, &photos); err != nil || len(photos) != 1 || photos[0].ID == 0 {
		return "", &callError{method: "photos.saveMessagesPhoto", detail: "the answer names no photo", sent: true}
	}
	return photos[0].attachment("photo"), nil
}

func (c *channel) attachDoc(ctx context.Context, peer int64, f *message.File) (string, error) {
	kind := "doc"
	switch f.Kind {
	case message.KindVoice:
		kind = "audio_message"
	case message.KindSticker:
		kind = stickerUpload
	}
	address, err := c.uploadAddress(ctx, "docs.getMessagesUploadServer", url.Values{"peer_id": {number(peer)}, "type": {kind}})
	if err != nil {
		return "", err
	}
	method := kind + " upload"
	raw, err := c.upload(ctx, method, address, "file", f)
	if err != nil {
		return "", err
	}
	var got struct {
		File  string          `json:"file"`
		Error json.RawMessage `json:"error"`
	}
	if err := lenient(raw, &got); err != nil || got.File == "" {
		return "", &callError{method: method, code: 22, detail: "VK refused the file"}
	}
	saved, err := c.patiently(ctx, "docs.save", url.Values{"file": {got.File}, "title": {fileName(f)}})
	if err != nil {
		return "", err
	}
	var answer map[string]json.RawMessage
	var m media
	if err := lenient(saved, &answer); err != nil || lenient(answer[kind], &m) != nil || m.ID == 0 {
		return "", &callError{method: "docs.save", detail: "the answer names no " + kind, sent: true}
	}
	return m.attachment(kind), nil
}

// attachment is the name under which a message carries the file.
func (m *media) attachment(kind string) string {
	s := kind + number(m.OwnerID) + "_" + number(m.ID)
	if m.AccessKey != "" {
		s += "_" + m.AccessKey
	}
	return s
}

func (c *channel) uploadAddress(ctx context.Context, method string, p url.Values) (string, error) {
	raw, err := c.patiently(ctx, method, p)
	if err != nil {
		return "", err
	}
	var got struct {
		URL string `json:"upload_url"`
	}
	if err := lenient(raw, &got); err != nil {
		return "", &callError{method: method, detail: "the answer is not VK's", sent: true}
	}
	if err := checkAddress(got.URL); err != nil {
		return "", &callError{method: method, detail: "the upload address is none", sent: true, err: err}
	}
	return got.URL, nil
}

// upload streams a file from the store. Errors are *callError and storeError.
func (c *channel) upload(ctx context.Context, method, address, field string, f *message.File) (raw json.RawMessage, err error) {
	file := channels.FormFile{Field: field, ID: f.ID, Name: fileName(f), Mime: f.Mime}
	broken := channels.StreamForm(ctx, c.env.Files, nil, []channels.FormFile{file}, func(ctx context.Context, form *channels.Form) {
		raw, err = c.postForm(ctx, method, address, form)
	})
	if broken != nil {
		return nil, storeError{broken}
	}
	return raw, err
}

func (c *channel) postForm(ctx context.Context, method, address string, form *channels.Form) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, form.Body)
	if err != nil {
		return nil, &callError{method: method, detail: "the upload address is none"}
	}
	// No token: the address alone is the permission.
	req.Header.Set("Content-Type", form.ContentType)
	a, err := c.do(req, method)
	if err != nil {
		return nil, err
	}
	if a.status/100 != 2 || !json.Valid(a.body) {
		return nil, &callError{method: method, status: a.status, retryAfter: a.retryAfter, detail: "the answer is not VK's", sent: true}
	}
	return a.body, nil
}

// extensionOf names files that come without an extension, by which VK tells types.
var extensionOf = map[string]string{
	"image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif", "image/webp": ".webp",
	"audio/ogg": ".ogg", "audio/opus": ".ogg", "application/ogg": ".ogg", "audio/mp4": ".m4a", "audio/wav": ".wav",
	"video/mp4": ".mp4", "video/webm": ".webm", "video/quicktime": ".mov",
	"application/pdf": ".pdf", "application/zip": ".zip", "text/plain": ".txt", "text/csv": ".csv",
}

// fileName is a name that can stand in a header and says the type.
func fileName(f *message.File) string {
	name := channels.HeaderText(f.Name)
	bare, _, _ := strings.Cut(f.Mime, ";")
	if name == "" {
		name = "file"
	}
	if !strings.Contains(name, ".") {
		name += extensionOf[lower(bare)]
	}
	return name
}
