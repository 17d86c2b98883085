package s3test_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"switchboard/filestore"
	"switchboard/internal/s3test"
)

func TestShared(t *testing.T) {
	t.Parallel()
	config := s3test.Shared(t, "one")
	if other := s3test.Shared(t, "two"); other.Endpoint != config.Endpoint || other.Bucket != "two" {
		t.Errorf("two servers: %s and %s", config.Endpoint, other.Endpoint)
	}
	s3, err := filestore.NewS3(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := s3.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s3.Put(t.Context(), "key", strings.NewReader("body"), 4, "text/plain"); err != nil {
		t.Fatal(err)
	}
	r, err := s3.Open(t.Context(), "key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if body, err := io.ReadAll(r); err != nil || string(body) != "body" {
		t.Errorf("read = %q, %v", body, err)
	}
}

// The server must check keys, or tests of our signing would prove nothing.
func TestKeysAreChecked(t *testing.T) {
	t.Parallel()
	config := s3test.Shared(t, "locked")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+config.Endpoint+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a request without keys: %s", resp.Status)
	}
	config.SecretKey = "wrong"
	s3, err := filestore.NewS3(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := s3.Check(t.Context()); err == nil {
		t.Error("a wrong key was accepted")
	}
}
