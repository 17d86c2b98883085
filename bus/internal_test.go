package bus

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", ".", "..", "...", "a/b", "%", "%2E", "telegram:42", "\x00\x7f\u0085", "ключ", "\xff"} {
		f.Add(s, s+".")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x := escape(a)
		if x == "" || x == "." || x == ".." || strings.Contains(x, "/") {
			t.Errorf("escape(%q) is %q, which is no name of a node", a, x)
		}
		if i := strings.IndexFunc(x, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
			t.Errorf("escape(%q) is %q, with a character that is not allowed at %d", a, x, i)
		}
		if (a == b) != (x == escape(b)) {
			t.Errorf("%q and %q both become %q", a, b, x)
		}
	})
}

func FuzzDecodeNode(f *testing.F) {
	whole, err := json.Marshal(Node{ID: "one", Roles: []string{"edge"}, Addr: "h:1", Version: "v", Started: time.Unix(1, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("one", whole)
	f.Add("%2E", []byte("{"))
	f.Add("%", []byte(nil))
	f.Add("a", []byte(`{"id":"b","started":"yesterday"}`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		n := decodeNode(name, data)
		if n.ID == "" && name != "" {
			t.Errorf("node %q has no id", name)
		}
	})
}

func TestDecodeNodeTrustsThePath(t *testing.T) {
	t.Parallel()
	want := Node{ID: "a/1", Roles: []string{"edge"}, Addr: "h:1", Version: "v", Started: time.Unix(1, 0).UTC()}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got := decodeNode(escape(want.ID), data); got.ID != want.ID || !got.Started.Equal(want.Started) || !slices.Equal(got.Roles, want.Roles) {
		t.Errorf("decoded %+v, want %+v", got, want)
	}
	if got := decodeNode("b", data); got.ID != "b" {
		t.Errorf("the id is %q, want the name of the node", got.ID)
	}
	if got := decodeNode("b", []byte(`{"addr":"h:1","roles":7}`)); got.ID != "b" || got.Addr != "" {
		t.Errorf("data that is not understood gave %+v, want nothing but the id", got)
	}
}

func TestRotationRestsAfterAFullTurn(t *testing.T) {
	t.Parallel()
	r := &rotation{}
	if err := r.Init([]string{"a", "b", "c"}); err != nil {
		t.Fatal(err)
	}
	var got []string
	next := func() {
		server, rest := r.Next()
		if rest {
			server = "rest " + server
		}
		got = append(got, server)
	}
	for range 4 {
		next()
	}
	r.Connected()
	for range 4 {
		next()
	}
	if want := []string{"a", "b", "c", "rest a", "b", "c", "a", "rest b"}; !slices.Equal(got, want) {
		t.Errorf("the servers are %v, want %v", got, want)
	}
}

func TestSequence(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int64{
		"0f-0000000012": 12, "0f-2147483647": 2147483647, "-0000000000": 0,
		"stranger": -1, "": -1, "0f-": -1, "0f-x": -1, "7": -1,
	} {
		if got := sequence(name); got != want {
			t.Errorf("sequence(%q) is %d, want %d", name, got, want)
		}
	}
}
