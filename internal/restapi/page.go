package restapi

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strings"
)

// ServeDocument serves the OpenAPI document.
func ServeDocument(document []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(document)
	}
}

type pageOperation struct {
	Method, Path, ID, Summary, Access, Body, Answer string
	Parameters                                      []pageParameter
}

type pageParameter struct {
	Name     string `json:"name"`
	In       string `json:"in"`
	Required bool   `json:"required"`
	Help     string `json:"description"`
}

type pageSchema struct{ Name, Text string }

// page is made on the server and needs no script.
var page = template.Must(template.New("docs").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Switchboard API</title>
<style>
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:0 auto;padding:1.5rem}
h2{margin-top:2.5rem}details{border:1px solid color-mix(in srgb,currentColor 20%,transparent);border-radius:8px;margin:.5rem 0;padding:.5rem .9rem}
summary{cursor:pointer}b.m{display:inline-block;min-width:4.2rem;font:600 13px ui-monospace,monospace}code,pre{font:13px/1.45 ui-monospace,monospace}
pre{overflow:auto;padding:.7rem;border-radius:6px;background:color-mix(in srgb,currentColor 7%,transparent)}td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}small{opacity:.7}
</style></head><body><h1>Switchboard API</h1><p>{{.Description}}</p><p>Machine-readable: <a href="/api/openapi.json">OpenAPI 3.1</a>. Files: <code>POST /files</code>, <code>GET /files/{id}</code>. Operators' live traffic: <code>GET /ws/v1</code> (JSON-RPC 2.0).</p>
{{range .Tags}}<h2>{{.Name}}</h2>{{range .Operations}}<details id="{{.ID}}"><summary><b class="m">{{.Method}}</b> <code>{{.Path}}</code> &ndash; {{.Summary}} <small>{{.Access}}</small></summary>
{{if .Parameters}}<table><tr><th>parameter</th><th>in</th><th></th></tr>{{range .Parameters}}<tr><td><code>{{.Name}}</code>{{if .Required}} *{{end}}</td><td>{{.In}}</td><td>{{.Help}}</td></tr>{{end}}</table>{{end}}
{{if .Body}}<p>Body: <a href="#schema-{{.Body}}">{{.Body}}</a></p>{{end}}{{if .Answer}}<p>Answer: <a href="#schema-{{.Answer}}">{{.Answer}}</a></p>{{end}}</details>{{end}}{{end}}
<h2>Schemas</h2>{{range .Schemas}}<details id="schema-{{.Name}}"><summary><code>{{.Name}}</code></summary><pre>{{.Text}}</pre></details>{{end}}</body></html>`))

// ServePage serves the document as a page for people.
func ServePage(document []byte) http.HandlerFunc {
	html := renderPage(document)
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(html)
	}
}

func renderPage(document []byte) []byte {
	type schemaRef struct {
		Content map[string]struct {
			Schema struct {
				Ref string `json:"$ref"`
			} `json:"schema"`
		} `json:"content"`
	}
	var doc struct {
		Info struct {
			Description string `json:"description"`
		} `json:"info"`
		Paths map[string]map[string]struct {
			ID         string                `json:"operationId"`
			Summary    string                `json:"summary"`
			Tags       []string              `json:"tags"`
			Parameters []pageParameter       `json:"parameters"`
			Security   []map[string][]string `json:"security"`
			Body       schemaRef             `json:"requestBody"`
			Responses  map[string]schemaRef  `json:"responses"`
		} `json:"paths"`
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return []byte("the document can't be shown")
	}
	name := func(s schemaRef) string {
		for _, c := range s.Content {
			return c.Schema.Ref[strings.LastIndex(c.Schema.Ref, "/")+1:]
		}
		return ""
	}
	type tag struct {
		Name       string
		Operations []pageOperation
	}
	var tags []*tag
	byName := map[string]*tag{}
	paths := make([]string, 0, len(doc.Paths))
	for p := range doc.Paths {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, path := range paths {
		for _, method := range []string{"get", "post", "put", "patch", "delete"} {
			op, ok := doc.Paths[path][method]
			if !ok {
				continue
			}
			o := pageOperation{Method: strings.ToUpper(method), Path: path, ID: op.ID, Summary: op.Summary, Parameters: op.Parameters, Body: name(op.Body)}
			for _, s := range op.Security {
				for scheme := range s {
					o.Access += " " + scheme
				}
			}
			for code, r := range op.Responses {
				if strings.HasPrefix(code, "2") {
					o.Answer = name(r)
				}
			}
			t := byName[op.Tags[0]]
			if t == nil {
				t = &tag{Name: op.Tags[0]}
				byName[t.Name] = t
				tags = append(tags, t)
			}
			t.Operations = append(t.Operations, o)
		}
	}
	var schemas []pageSchema
	for n, raw := range doc.Components.Schemas {
		var text bytes.Buffer
		_ = json.Indent(&text, raw, "", "  ")
		schemas = append(schemas, pageSchema{n, text.String()})
	}
	slices.SortFunc(schemas, func(a, b pageSchema) int { return strings.Compare(a.Name, b.Name) })
	var out bytes.Buffer
	if err := page.Execute(&out, map[string]any{"Description": doc.Info.Description, "Tags": tags, "Schemas": schemas}); err != nil {
		return []byte("the document can't be shown")
	}
	return out.Bytes()
}
