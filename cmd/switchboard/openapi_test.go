package main

import (
	"bytes"
	"os"
	"testing"

	"switchboard/internal/restapi"
)

// docs/openapi.json is what the desk's client is generated from.
func TestOpenAPIDocumentIsCurrent(t *testing.T) {
	t.Parallel()
	want, err := restapi.Document(fullAPI())
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/openapi.json is out of date: go run ./cmd/switchboard openapi > docs/openapi.json")
	}
}
