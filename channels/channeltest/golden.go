package channeltest

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the platform packages declare: golden files, and the tables of the documents")

// Updating tells that the tests were started with -update.
func Updating() bool { return *update }

// noStale fails for golden files that no case writes any more.
func noStale(t *testing.T, dir, suffix string, known func(name string) bool) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if !known(strings.TrimSuffix(filepath.Base(path), suffix)) {
			t.Errorf("%s belongs to no case; remove it", path)
		}
	}
}

// compare checks v, as indented JSON after scrub, against a golden file.
func compare(t *testing.T, path string, v any, scrub func(string) string) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	got := b.Bytes()
	if scrub != nil {
		got = []byte(scrub(b.String()))
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("no golden file, run with -update: %v", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs\n--- got\n%s\n--- want\n%s", path, got, want)
	}
}
