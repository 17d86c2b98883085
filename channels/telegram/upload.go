package telegram

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"switchboard/channels"
)

// callUpload makes a call with files, which are streamed from the store. Errors are
// *callError.
func (c *channel) callUpload(ctx context.Context, method string, p params, uploads []upload) (result json.RawMessage, err error) {
	var fields [][2]string
	for _, k := range slices.Sorted(maps.Keys(p)) {
		value, ok := p[k].(string)
		if !ok {
			b, err := json.Marshal(p[k]) // nested objects are JSON inside their field
			if err != nil {
				return nil, &callError{method: method, description: "building the request", err: err}
			}
			value = string(b)
		}
		fields = append(fields, [2]string{k, value})
	}
	files := make([]channels.FormFile, len(uploads))
	for i, u := range uploads {
		files[i] = channels.FormFile{Field: u.field, ID: u.file.ID, Name: fileName(u), Mime: u.file.Mime}
	}
	broken := channels.StreamForm(ctx, c.env.Files, fields, files, func(ctx context.Context, form *channels.Form) {
		result, err = c.post(ctx, method, form.ContentType, form.Body, form.Complete)
	})
	if e, ok := errors.AsType[*callError](err); ok && e.code == 0 && broken != nil {
		e.description, e.err, e.sent = "reading a file of the message", broken, false
	}
	return result, err
}

// fileName is a name that can stand in a header. Telegram takes a file without
// one for a parameter.
func fileName(u upload) string {
	if name := channels.HeaderText(u.file.Name); name != "" {
		return name
	}
	return u.field
}
