package secret

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestBox(t *testing.T) {
	t.Parallel()
	a, err := NewBox(bytes.Repeat([]byte{1}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := NewBox(bytes.Repeat([]byte{2}, KeySize))
	sealed := a.Seal([]byte("token"), []byte("row 1"))
	if bytes.Contains(sealed, []byte("token")) {
		t.Fatal("plain text in the sealed value")
	}
	if got, err := a.Open(sealed, []byte("row 1")); err != nil || string(got) != "token" {
		t.Errorf("open = %q, %v", got, err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1]++
	for name, try := range map[string]func() ([]byte, error){
		"other key": func() ([]byte, error) { return b.Open(sealed, []byte("row 1")) },
		"other row": func() ([]byte, error) { return a.Open(sealed, []byte("row 2")) },
		"changed":   func() ([]byte, error) { return a.Open(changed, []byte("row 1")) },
		"short":     func() ([]byte, error) { return a.Open(sealed[:5], []byte("row 1")) },
		"empty":     func() ([]byte, error) { return a.Open(nil, nil) },
	} {
		if _, err := try(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v, want ErrSealed", name, err)
		}
	}
	if _, err := NewBox([]byte("short")); err == nil {
		t.Error("a short key was taken")
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	hash, err := HashPassword("correct horse")
	if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$") {
		t.Fatalf("hash = %s, %v", hash, err)
	}
	if !CheckPassword(hash, "correct horse") || CheckPassword(hash, "Correct horse") {
		t.Error("password check is wrong")
	}
	for _, bad := range []string{"", "$argon2id$", "plain", "$argon2id$v=19$m=0,t=0,p=0$AA$AA", "$argon2id$v=19$m=999999999,t=1,p=1$AAAA$AAAA"} {
		if CheckPassword(bad, "") {
			t.Errorf("%q matches", bad)
		}
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master.key")
	keys := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = LoadOrCreateKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if !bytes.Equal(k, keys[0]) {
			t.Fatal("two creators, two keys")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(path); err == nil {
		t.Error("a broken key file was taken")
	}
}

func TestSignSeparatesParts(t *testing.T) {
	t.Parallel()
	if bytes.Equal(Sign([]byte("k"), "ab", "c"), Sign([]byte("k"), "a", "bc")) {
		t.Error("moving a border between parts keeps the signature")
	}
}
