package chathub_test

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"switchboard"
	"switchboard/chathub"
	"switchboard/message"
)

type node map[string]any

// at goes down a path of keys, and through references.
func (n node) at(t *testing.T, doc node, path ...string) node {
	t.Helper()
	for i, key := range path {
		next, ok := n[key].(map[string]any)
		if !ok {
			t.Fatalf("docs/asyncapi.yaml: nothing at %s", strings.Join(path[:i+1], "/"))
		}
		n = node(next)
		if ref, ok := n["$ref"].(string); ok {
			n = doc.at(t, doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
	}
	return n
}

func list(v any) (out []string) {
	items, _ := v.([]any)
	for _, item := range items {
		out = append(out, fmt.Sprint(item))
	}
	return out
}

func texts[T ~string](values ...T) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

// fields are the JSON names of a struct.
func fields(typ reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && !f.Anonymous && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

func sameSet(t *testing.T, what string, doc, code []string) {
	t.Helper()
	doc, code = slices.Clone(doc), slices.Clone(code)
	slices.Sort(doc)
	slices.Sort(code)
	if !slices.Equal(doc, code) {
		t.Errorf("%s: the document has\n%q, the code\n%q", what, doc, code)
	}
}

func TestDocumentAgreesWithCode(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := yaml.Unmarshal(raw, &whole); err != nil {
		t.Fatal(err)
	}
	doc := node(whole)
	checkReferences(t, doc, whole)

	var methods []string
	for name, op := range doc.at(t, doc, "operations") {
		o := node(op.(map[string]any))
		if o["action"] == "send" {
			continue
		}
		methods = append(methods, name)
		msg := doc.at(t, doc, "components", "messages", strings.ReplaceAll(name, ".", "_"))
		props := msg.at(t, doc, "payload", "properties")
		if got := props.at(t, doc, "method")["const"]; got != name {
			t.Errorf("%s: its message is for method %v", name, got)
		}
		params, ok := chathub.Params[name]
		if !ok {
			continue // said below
		}
		schema := props.at(t, doc, "params")
		sameSet(t, name+": params", slices.Collect(maps.Keys(schema.at(t, doc, "properties"))), fields(params))
		for _, required := range list(schema["required"]) {
			if !slices.Contains(fields(params), required) {
				t.Errorf("%s: required param %s is none", name, required)
			}
		}
	}
	w := newWorld(t)
	sameSet(t, "methods", methods, w.hub(nil).Methods())
	sameSet(t, "methods with params", methods, slices.Collect(maps.Keys(chathub.Params)))

	schemas := doc.at(t, doc, "components", "schemas")
	shapes := maps.Clone(chathub.Shapes)
	maps.Copy(shapes, map[string]reflect.Type{
		"Chat": reflect.TypeFor[switchboard.Chat](), "Customer": reflect.TypeFor[switchboard.Customer](), "Operator": reflect.TypeFor[switchboard.Operator](),
		"Message": reflect.TypeFor[message.Message](), "File": reflect.TypeFor[message.File](), "Contact": reflect.TypeFor[message.Contact](),
		"Location": reflect.TypeFor[message.Location](), "Keyboard": reflect.TypeFor[message.Keyboard](), "Template": reflect.TypeFor[message.Template](),
	})
	for name, typ := range shapes {
		sameSet(t, "schema "+name, slices.Collect(maps.Keys(schemas.at(t, doc, name, "properties"))), fields(typ))
	}

	enum := func(path ...string) []string { return list(schemas.at(t, doc, path...)["enum"]) }
	sameSet(t, "event types", enum("Event", "properties", "type"), texts(switchboard.EventMessageNew, switchboard.EventMessageUpdated,
		switchboard.EventChatOffered, switchboard.EventChatUpdated, switchboard.EventCustomerTyping, switchboard.EventOperatorPresence))
	sameSet(t, "message kinds", enum("Message", "properties", "kind"), texts(message.Kinds...))
	sameSet(t, "chat states", enum("Chat", "properties", "state"), texts(switchboard.ChatStates...))
	sameSet(t, "roles", enum("Operator", "properties", "role"), texts(switchboard.Roles...))
	var codes, names []string
	description := doc.at(t, doc, "info")["description"].(string)
	for code, name := range chathub.ErrorNames {
		codes, names = append(codes, strconv.Itoa(code)), append(names, name)
		if !strings.Contains(description, fmt.Sprintf("| %d | %s |", code, name)) {
			t.Errorf("the table of errors lacks %d %s", code, name)
		}
	}
	sameSet(t, "error codes", enum("Error", "properties", "code"), codes)
	sameSet(t, "error names", enum("Error", "properties", "data", "properties", "code"), names)
	for code := range chathub.CloseReasons {
		if !strings.Contains(description, fmt.Sprintf("| %d | ", code)) {
			t.Errorf("the table of close codes lacks %d", code)
		}
	}
}

// checkReferences follows every $ref of the document.
func checkReferences(t *testing.T, doc node, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			doc.at(t, doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
		for _, child := range v {
			checkReferences(t, doc, child)
		}
	case []any:
		for _, child := range v {
			checkReferences(t, doc, child)
		}
	}
}
