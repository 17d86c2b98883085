package main

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/danielgtaylor/huma/v2"

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

var (
	inPath     = regexp.MustCompile(`\{(\w+)\}`)
	schemaName = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)
)

// A path's parameter that the document lacks is one that the handler does not
// get either: fields of an unexported embedded struct are passed over.
func TestOpenAPIDocumentIsValid(t *testing.T) {
	t.Parallel()
	api := fullAPI().OpenAPI()
	for path, item := range api.Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete, "HEAD": item.Head} {
			if op == nil {
				continue
			}
			for _, name := range inPath.FindAllStringSubmatch(path, -1) {
				if !slices.ContainsFunc(op.Parameters, func(p *huma.Param) bool { return p.In == "path" && p.Name == name[1] }) {
					t.Errorf("%s %s: the parameter %s is not declared", method, path, name[1])
				}
			}
		}
	}
	for name := range api.Components.Schemas.Map() {
		if !schemaName.MatchString(name) {
			t.Errorf("schema %q: not a name", name)
		}
	}
}
