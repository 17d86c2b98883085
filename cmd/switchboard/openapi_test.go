package main

import (
	"bytes"
	"encoding/json"
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

// What answers really hold: a message without an error has "error":null, and
// files and webhooks are served beside the frame that makes the document.
func TestOpenAPIDocumentSaysWhatIsServed(t *testing.T) {
	t.Parallel()
	text, err := restapi.Document(fullAPI())
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]any `json:"responses"`
		} `json:"paths"`
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					AnyOf []struct{ Type string } `json:"anyOf"`
				} `json:"properties"`
			} `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, member := range [][2]string{{"Message", "error"}, {"MessageDetail", "error"}, {"Chat", "last_message"}} {
		if of := doc.Components.Schemas[member[0]].Properties[member[1]].AnyOf; len(of) != 2 || of[1].Type != "null" {
			t.Errorf("%s.%s may not be null", member[0], member[1])
		}
	}
	for _, want := range [][3]string{
		{"/files", "post", "413"}, {"/files/{id}", "get", "206"}, {"/files/{id}", "head", "416"}, {"/webhooks/{platform}/{account_id}", "post", "503"},
		{"/api/v1/sessions", "post", "429"}, {"/api/v1/sessions", "post", "400"}, {"/api/v1/messages", "post", "409"}, {"/api/v1/accounts/{id}/check", "post", "502"},
	} {
		if _, ok := doc.Paths[want[0]][want[1]].Responses[want[2]]; !ok {
			t.Errorf("%s %s: the answer %s is not described", want[1], want[0], want[2])
		}
	}
}
