package channeltest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// goldenRaw is one piece of a callback and what it decodes to.
type goldenRaw struct {
	DedupKey string         `json:"dedup_key,omitempty"`
	ChatKey  string         `json:"chat_key,omitempty"`
	Order    int64          `json:"order,omitempty"`
	Updates  []goldenUpdate `json:"updates,omitempty"`
	Error    string         `json:"error,omitempty"`
}

type goldenUpdate struct {
	Kind       message.UpdateKind `json:"kind"`
	Chat       string             `json:"chat,omitempty"`
	Aliases    []string           `json:"aliases,omitempty"`
	Customer   map[string]string  `json:"customer,omitempty"`
	PlatformID string             `json:"platform_id,omitempty"`
	At         time.Time          `json:"at,omitzero"`
	Content    *message.Content   `json:"content,omitempty"`
	Refs       []string           `json:"refs,omitempty"` // File.Ref of Content.Files
	ReplyTo    string             `json:"reply_to,omitempty"`
	Status     message.Status     `json:"status,omitempty"`
	Failure    *message.Failure   `json:"failure,omitempty"`
	UpTo       bool               `json:"up_to,omitempty"`
	Reachable  *bool              `json:"reachable,omitempty"`
	Quiet      bool               `json:"quiet,omitempty"`
}

func goldenOf(u *message.Update) goldenUpdate {
	g := goldenUpdate{
		Kind: u.Kind, Chat: u.Chat, Aliases: u.Aliases, PlatformID: u.PlatformID, At: u.At, ReplyTo: u.ReplyTo,
		Status: u.Status, Failure: u.Failure, UpTo: u.UpTo, Quiet: u.Quiet,
	}
	if !u.At.IsZero() {
		g.At = u.At.UTC()
	}
	if u.Kind == message.UpdateContactable {
		g.Reachable = &u.Reachable
	}
	if !reflect.ValueOf(u.Content).IsZero() {
		g.Content = &u.Content
	}
	for i := range u.Content.Files {
		g.Refs = append(g.Refs, u.Content.Files[i].Ref)
	}
	p := u.Customer
	g.Customer = map[string]string{
		"id": p.ID, "name": p.Name, "username": p.Username, "avatar": p.Avatar,
		"language": p.Language, "country": p.Country, "phone": p.Phone,
	}
	maps.DeleteFunc(g.Customer, func(_, v string) bool { return v == "" })
	return g
}

// split cuts a callback as the edge would: a channel that is only polled gets
// the body as one piece.
func split(ch channels.Channel, raw []byte) ([]channels.RawUpdate, error) {
	if w, ok := ch.(channels.Webhooks); ok {
		return w.Split(raw)
	}
	return []channels.RawUpdate{{Raw: raw}}, nil
}

// open opens the case's account at a fake platform.
func (c *Case) open(t testing.TB, p *Platform) channels.Channel {
	t.Helper()
	ch, err := c.Platform.Open(p.Account(c, nil), p.Env())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return ch
}

func (c *Case) inputs(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(c.Dir, "*.in.*"))
	if err != nil {
		t.Fatal(err)
	}
	inputs := map[string][]byte{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(filepath.Base(path), ".in.")
		inputs[name] = b
	}
	return inputs
}

func (c *Case) testDecode(t *testing.T) {
	t.Parallel()
	p := NewPlatform(t, nil)
	ch := c.open(t, p)
	inputs := c.inputs(t)
	if len(inputs) == 0 && (is[channels.Webhooks](ch) || is[channels.Poller](ch)) {
		t.Errorf("no *.in.* files in %s, and the platform has updates", c.Dir)
	}
	noStale(t, c.Dir, ".want.json", func(name string) bool { return inputs[name] != nil })
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := inputs[name]
			before := bytes.Clone(raw)
			pieces, err := split(ch, raw)
			if err != nil {
				t.Fatalf("Split: %v", err)
			}
			again, err := split(ch, raw)
			if err != nil || !reflect.DeepEqual(pieces, again) {
				t.Errorf("Split is not deterministic (%v)", err)
			}
			seen := map[string]bool{}
			goldens := []goldenRaw{}
			for _, piece := range pieces {
				if _, ok := ch.(channels.Webhooks); ok && piece.DedupKey == "" {
					t.Error("a piece without dedup key")
				}
				if seen[piece.DedupKey] {
					t.Errorf("two pieces with the dedup key %q", piece.DedupKey)
				}
				seen[piece.DedupKey] = true
				g := goldenRaw{DedupKey: piece.DedupKey, ChatKey: piece.ChatKey, Order: piece.Order}
				updates, err := ch.Decode(piece.Raw)
				second, err2 := ch.Decode(piece.Raw)
				if !reflect.DeepEqual(updates, second) || (err == nil) != (err2 == nil) {
					t.Error("Decode is not deterministic")
				}
				if err != nil {
					g.Error = err.Error()
				} else if len(updates) == 0 {
					t.Error("Decode gave neither an update nor an error")
				}
				for i := range updates {
					checkUpdate(t, &updates[i])
					g.Updates = append(g.Updates, goldenOf(&updates[i]))
				}
				goldens = append(goldens, g)
			}
			if !bytes.Equal(raw, before) {
				t.Error("decoding changed the input")
			}
			compare(t, filepath.Join(c.Dir, name+".want.json"), goldens, c.Scrub)
			mutilate(t, ch, raw)
		})
	}
	if n := len(p.Requests()); n > 0 {
		t.Errorf("decoding made %d requests", n)
	}
}

// checkUpdate checks what holds for every update of every platform.
func checkUpdate(t *testing.T, u *message.Update) {
	t.Helper()
	switch u.Kind {
	case message.UpdateMessage, message.UpdateEdit:
		if u.Chat == "" {
			t.Error("a message without chat")
		}
		if !u.Content.Kind.Known() {
			t.Errorf("a message of unknown kind %q", u.Content.Kind)
		}
		if u.Content.Kind.IsFile() && len(u.Content.Files) == 0 {
			t.Errorf("a %s without files", u.Content.Kind)
		}
		if u.Content.Kind == message.KindUnsupported && u.Content.Unsupported == "" {
			t.Error("an unsupported message without the platform's name for it")
		}
		for i := range u.Content.Files {
			f := &u.Content.Files[i]
			if !f.Kind.IsFile() || (f.Ref == "" && f.State == message.FilePending) || f.State == "" {
				t.Errorf("file %d is incomplete: kind %q, state %q, ref %q", i, f.Kind, f.State, f.Ref)
			}
		}
	case message.UpdateDelete, message.UpdateStatus:
		if u.PlatformID == "" {
			t.Errorf("a %s of no message", u.Kind)
		}
	case message.UpdateTyping, message.UpdateContactable:
		if u.Chat == "" && (u.Kind == message.UpdateTyping || u.PlatformID == "") {
			t.Errorf("a %s without chat", u.Kind)
		}
	case message.UpdateIgnore:
	default:
		t.Errorf("unknown kind of update %q", u.Kind)
	}
}

// survive splits and decodes raw, and fails on a panic or on silence.
func survive(t *testing.T, ch channels.Channel, what string, raw []byte) (all []message.Update) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s: panic %v on %s", what, p, raw)
		}
	}()
	pieces, err := split(ch, raw)
	if err != nil {
		return nil
	}
	for _, piece := range pieces {
		updates, err := ch.Decode(piece.Raw)
		if err == nil && len(updates) == 0 {
			t.Errorf("%s: neither an update nor an error from %s", what, piece.Raw)
		}
		for i := range updates {
			checkUpdate(t, &updates[i])
		}
		all = append(all, updates...)
	}
	return all
}

// mutilate feeds ch broken and foreign variants of a good callback.
func mutilate(t *testing.T, ch channels.Channel, raw []byte) {
	t.Helper()
	step := max(len(raw)/200, 1)
	for n := 0; n < len(raw); n += step {
		survive(t, ch, fmt.Sprintf("first %d bytes", n), raw[:n])
	}
	tree := parse(raw)
	if tree == nil {
		return
	}
	want := survive(t, ch, "as is", raw)
	extended := survive(t, ch, "unknown fields", render(extend(tree)))
	if len(extended) != len(want) {
		t.Errorf("with unknown fields: %d updates, without: %d", len(extended), len(want))
	}
	for i := range min(len(extended), len(want)) {
		// A platform's own word for something unknown may be the new field's name.
		if want[i].Content.Kind == message.KindUnsupported {
			extended[i].Content.Unsupported = want[i].Content.Unsupported
		}
		if !reflect.DeepEqual(extended[i], want[i]) {
			t.Errorf("unknown fields change update %d\n got %+v\nwant %+v", i, extended[i], want[i])
		}
	}
	for _, v := range variants(tree) {
		survive(t, ch, v.what, v.raw)
	}
}

func parse(raw []byte) any {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // 64-bit ids must survive
	var tree any
	if dec.Decode(&tree) != nil {
		return nil
	}
	return tree
}

func render(tree any) []byte {
	b, err := json.Marshal(tree)
	if err != nil {
		panic(err) // a tree that came from JSON
	}
	return b
}

// extend adds unknown fields to every object.
func extend(tree any) any {
	switch v := tree.(type) {
	case map[string]any:
		out := map[string]any{"zz_unknown": map[string]any{"a": []any{json.Number("1")}}, "zz_new": true}
		for k, x := range v {
			out[k] = extend(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = extend(x)
		}
		return out
	default:
		return tree
	}
}

type variant struct {
	what string
	raw  []byte
}

// variants removes each field in turn, and gives it each wrong type in turn.
func variants(root any) []variant {
	var all []variant
	add := func(what string) { all = append(all, variant{what, render(root)}) }
	wrong := []any{nil, true, json.Number("-1"), json.Number("1e30"), "", "x", map[string]any{}, []any{}, []any{nil}, []any{map[string]any{}}}
	var walk func(path string, tree any)
	walk = func(path string, tree any) {
		switch v := tree.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				old := v[k]
				delete(v, k)
				add("without " + path + k)
				for _, w := range wrong {
					v[k] = w
					add(fmt.Sprintf("%s%s = %v", path, k, w))
				}
				v[k] = old
				walk(path+k+".", old)
			}
		case []any:
			for i, old := range v {
				for _, w := range wrong {
					v[i] = w
					add(fmt.Sprintf("%s%d = %v", path, i, w))
				}
				v[i] = old
				walk(fmt.Sprintf("%s%d.", path, i), old)
			}
		}
	}
	walk("", root)
	return all
}

// FuzzDecode fuzzes Split and Decode, seeded with the golden inputs.
func FuzzDecode(f *testing.F, c Case) {
	if c.Dir == "" {
		c.Dir = "testdata"
	}
	p := NewPlatform(f, nil)
	ch := c.open(f, p)
	for _, raw := range c.inputs(f) {
		f.Add(raw)
	}
	f.Add([]byte(`{}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		survive(t, ch, "fuzz", raw)
		if updates, err := ch.Decode(raw); err == nil {
			for i := range updates {
				checkUpdate(t, &updates[i])
			}
		}
	})
}
