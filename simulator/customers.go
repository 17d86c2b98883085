package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

func fromBot(all []Message) []Message {
	out := []Message{}
	for _, m := range all {
		if m.From == FromBot {
			out = append(out, m)
		}
	}
	return out
}

func waitMessages(c customer, core *customerCore, n int, d time.Duration) []Message {
	var got []Message
	await(context.Background(), &core.changed, d, func() bool {
		got = fromBot(c.view(0))
		return len(got) >= n
	})
	return got
}

// decodeStrict reads a JSON object and refuses unknown fields; nothing is an
// empty object.
func decodeStrict(b []byte, v any) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("arguments: more than one JSON value")
	}
	return nil
}
