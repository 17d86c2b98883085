package archtest

import (
	"fmt"
	"io"
	"log/slog"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"switchboard/edge"
	"switchboard/internal/restapi"
	"switchboard/loader"
)

// door is what deploy/Caddyfile says about paths: the first route whose
// patterns fit serves the request; one without patterns serves the rest.
type door []struct {
	patterns  []string
	upstreams []string // service:port
}

// readDoor reads the route block of the Caddyfile. It knows the few directives
// that the file uses, and fails on any other rather than misread it.
func readDoor(t *testing.T) door {
	t.Helper()
	_, block, ok := strings.Cut(read(t, "deploy/Caddyfile"), "\troute {\n")
	if !ok {
		t.Fatal("deploy/Caddyfile has no route block")
	}
	var d door
	matchers := map[string][]string{}
	depth, inside := 1, ""
	for line := range strings.Lines(block) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		switch {
		case words[0] == "}":
			if depth--; depth == 0 {
				return d
			}
			continue
		case depth == 1 && strings.HasPrefix(words[0], "@") && words[1] == "path":
			matchers[words[0]] = words[2:]
		case depth == 1 && words[0] == "handle":
			var patterns []string
			if len(words) == 3 {
				if patterns = matchers[words[1]]; patterns == nil {
					t.Fatalf("deploy/Caddyfile: %q names no path matcher above it", line)
				}
			}
			d = append(d, struct{ patterns, upstreams []string }{patterns: patterns})
			inside = "handle"
		case depth == 2 && inside == "handle" && words[0] == "reverse_proxy":
			d[len(d)-1].upstreams = words[1 : len(words)-1]
		case depth == 3 && slices.Contains([]string{"import", "request_buffers"}, words[0]):
		default:
			t.Fatalf("deploy/Caddyfile: %q is nothing that this test can read", line)
		}
		if words[len(words)-1] == "{" {
			depth++
		}
	}
	t.Fatal("deploy/Caddyfile: the route block does not end")
	return nil
}

// find is Caddy's rule: whole path, letters of any case, a star at the end for
// whatever follows.
func (d door) find(url string) []string {
	url = strings.ToLower(path.Clean(url))
	for _, r := range d {
		fits := r.patterns == nil || slices.ContainsFunc(r.patterns, func(p string) bool {
			if prefix, ok := strings.CutSuffix(p, "*"); ok {
				return strings.HasPrefix(url, prefix)
			}
			return url == p
		})
		if fits {
			return r.upstreams
		}
	}
	return nil
}

// operations are the paths that a role registers, with an example for each
// parameter.
func operations(t *testing.T, register func(huma.API)) (paths []string) {
	t.Helper()
	api := restapi.New(chi.NewRouter(), "test", nil, nil, slog.New(slog.NewTextHandler(io.Discard, nil)))
	register(api)
	for p := range api.OpenAPI().Paths {
		paths = append(paths, regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(p, "0198c0de-0000-7000-8000-000000000000"))
	}
	if len(paths) == 0 {
		t.Error("a role without operations")
	}
	return paths
}

func TestProxySendsPathsToTheirRoles(t *testing.T) {
	t.Parallel()
	d := readDoor(t)
	services := serving(t, project(t))
	const id = "0198c0de-0000-7000-8000-000000000000"
	table := map[string][]string{ // the contract: role, paths
		"edge": {"/webhooks/telegram/" + id, "/webhooks/viber/" + id, "/api/v1/messages", "/api/v1/campaigns", "/api/v1/campaigns/" + id,
			"/api/v1/campaigns/" + id + "/recipients"},
		"chathub":   {"/ws/v1", "/api/v1/sessions"},
		"filestore": {"/files", "/files/" + id, "/files/" + id + "/order 1.pdf"},
		"loader": {"/", "/index.html", "/assets/index.js", "/any/page/of/the/desk", "/api/v1/chats", "/api/v1/chats/" + id + "/messages", "/api/v1/messages/" + id,
			"/api/v1/accounts/" + id + "/capabilities", "/api/v1/operators", "/api/v1/api-keys", "/api/v1/quarantine", "/api/v1/audit",
			"/api/openapi.json", "/api/docs", "/webhooksandmore", "/filesandmore", "/ws/v2"},
	}
	// And the code: whatever a role registers must reach it.
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	table["edge"] = append(table["edge"], operations(t, func(api huma.API) { (&edge.Edge{}).Register(api, nil) })...)
	table["chathub"] = append(table["chathub"], operations(t, func(api huma.API) { restapi.RegisterSessions(api, nil) })...)
	table["loader"] = append(table["loader"], operations(t, func(api huma.API) {
		loader.New(nil, nil, loader.NewAdmin(nil, nil, "", nil, nil), 1, quiet).Register(api)
	})...)
	for role, paths := range table {
		for _, p := range paths {
			upstreams := d.find(p)
			if len(upstreams) == 0 {
				t.Errorf("%s goes nowhere; it belongs to %s", p, role)
			}
			for _, u := range upstreams {
				name, port, _ := strings.Cut(u, ":")
				if !slices.Contains(services[name], role) {
					t.Errorf("%s goes to %s, which plays %v; it belongs to %s", p, name, services[name], role)
				}
				if port != "8080" {
					t.Errorf("%s goes to port %s of %s: only the public listener is for the public", p, port, name)
				}
			}
		}
	}
	// Every process that serves the public is used.
	used := fmt.Sprint(d)
	for name, list := range services {
		if !slices.Equal(list, []string{"workers"}) && !strings.Contains(used, name+":8080") {
			t.Errorf("%s plays %v and gets no requests", name, list)
		}
	}
}

// TestProxyHidesTokens: what stands in queries must not get into the log.
func TestProxyHidesTokens(t *testing.T) {
	t.Parallel()
	text := read(t, "deploy/Caddyfile")
	for _, want := range []string{"replace token ", "replace sig ", "admin off"} {
		if !strings.Contains(text, want) {
			t.Errorf("deploy/Caddyfile: no %q", want)
		}
	}
}
