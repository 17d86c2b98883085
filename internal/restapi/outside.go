package restapi

import (
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// Describe adds to the document what is served outside the frame, as streams or
// to platforms: files and webhooks. It registers no handlers.
func Describe(api huma.API) {
	doc := api.OpenAPI()
	text := &huma.Schema{Type: "string"}
	id := &huma.Param{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: "string", Format: "uuid"}}
	bytes := map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}
	stored := map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{
		Type: "object", Required: []string{"id", "name", "mime", "size", "sha256"},
		Properties: map[string]*huma.Schema{
			"id": {Type: "string", Format: "uuid"}, "name": text, "mime": text, "sha256": text,
			"size": {Type: "integer", Format: "int64", Description: "bytes"},
		},
	}}}
	signedIn := []map[string][]string{{"session": {}}, {"apikey": {}}}
	signedLink := []map[string][]string{{"session": {}}, {"apikey": {}}, {}}

	doc.AddOperation(&huma.Operation{
		OperationID: "uploadFile", Method: http.MethodPost, Path: "/files", Tags: []string{"Files"}, Security: signedIn,
		Summary:    "Store a file: its bytes as the body, or multipart with the part `file`; up to 200 MiB",
		Parameters: []*huma.Param{{Name: "name", In: "query", Schema: text, Description: "the name of a raw body; Content-Disposition works too"}},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/octet-stream": bytes["application/octet-stream"],
			"multipart/form-data": {Schema: &huma.Schema{
				Type: "object", Required: []string{"file"}, Properties: map[string]*huma.Schema{"file": {Type: "string", Format: "binary"}},
			}},
		}},
		Responses: responses(map[int]*huma.Response{201: {Description: "stored; the type is what the bytes are", Content: stored}}, 400, 401, 413, 503),
	})
	for _, op := range []*huma.Operation{
		{OperationID: "getFile", Method: http.MethodGet, Summary: "A file's bytes; with exp and sig of a signed link nobody has to be signed in"},
		{OperationID: "headFile", Method: http.MethodHead, Summary: "What getFile would say, without the bytes"},
	} {
		op.Path, op.Tags, op.Security = "/files/{id}", []string{"Files"}, signedLink
		op.Parameters = []*huma.Param{
			id,
			{Name: "exp", In: "query", Schema: &huma.Schema{Type: "integer", Format: "int64"}, Description: "Unix time in seconds at which a signed link ends"},
			{Name: "sig", In: "query", Schema: text},
			{Name: "Range", In: "header", Schema: text},
			{Name: "If-None-Match", In: "header", Schema: text},
		}
		good := map[int]*huma.Response{
			200: {Description: "all bytes", Headers: map[string]*huma.Param{"ETag": {Schema: text}, "Content-Disposition": {Schema: text}}},
			206: {Description: "a range"}, 304: {Description: "not changed"}, 412: {Description: "If-Match does not hold"},
		}
		if op.Method == http.MethodGet {
			whole := map[string]*huma.MediaType{"*/*": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}
			good[200].Content, good[206].Content = whole, whole
		}
		op.Responses = responses(good, 401, 403, 404, 416, 503)
		doc.AddOperation(op)
	}
	doc.AddOperation(&huma.Operation{
		OperationID: "webhook", Method: http.MethodPost, Path: "/webhooks/{platform}/{account_id}", Tags: []string{"Webhooks"},
		Summary: "A platform's callback, up to 1 MiB, signed as the platform does; answered when it is stored",
		Parameters: []*huma.Param{
			{Name: "platform", In: "path", Required: true, Schema: text},
			{Name: "account_id", In: "path", Required: true, Schema: &huma.Schema{Type: "string", Format: "uuid"}},
		},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Description: "the platform's own"}}}},
		Responses:   responses(map[int]*huma.Response{200: {Description: "stored; some platforms get a body"}}, 400, 401, 403, 404, 405, 413, 503),
	})
}

func responses(good map[int]*huma.Response, codes ...int) map[string]*huma.Response {
	all := map[string]*huma.Response{}
	for code, r := range good {
		all[strconv.Itoa(code)] = r
	}
	for _, code := range codes {
		all[strconv.Itoa(code)] = &huma.Response{Description: http.StatusText(code), Content: map[string]*huma.MediaType{
			"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Error"}},
		}}
	}
	return all
}
