package archtest

import (
	"go/format"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"switchboard/config"
)

// pages are the documents that people read.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		names, err := filepath.Glob(filepath.Join(root(), pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			rel, err := filepath.Rel(root(), name)
			if err != nil {
				t.Fatal(err)
			}
			found[rel] = read(t, rel)
		}
	}
	if len(found) < 6 {
		t.Fatalf("only %d documents", len(found))
	}
	return found
}

// TestSettingsAreDocumented: docs/operations.md has a row for every setting, with
// its default, and none for others.
func TestSettingsAreDocumented(t *testing.T) {
	t.Parallel()
	text := read(t, "docs/operations.md")
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(SWITCHBOARD_[A-Z0-9_]+)` \\| (.*)$").FindAllStringSubmatch(text, -1) {
		rows[m[1]] = m[2]
	}
	known := map[string]bool{"SWITCHBOARD_CONFIG": true}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		env := f.Tag.Get("env")
		known[env] = true
		row, ok := rows[env]
		if !ok {
			t.Errorf("docs/operations.md has no row for %s", env)
		}
		if def := f.Tag.Get("default"); def != "" && !strings.HasPrefix(row, "`"+def+"` ") {
			t.Errorf("docs/operations.md: the default of %s is %q; the row says %q", env, def, row)
		}
	}
	// Of commands that work on a server elsewhere, and of the container set.
	for _, env := range []string{"SWITCHBOARD_URL", "SWITCHBOARD_API_KEY", "SWITCHBOARD_SITE", "SWITCHBOARD_LISTEN", "SWITCHBOARD_VERSION"} {
		known[env] = true
	}
	for name, page := range pages(t) {
		for _, env := range regexp.MustCompile(`SWITCHBOARD_[A-Z0-9_]*[A-Z0-9]`).FindAllString(page, -1) {
			if !known[env] {
				t.Errorf("%s: there is no setting %s", name, env)
			}
		}
	}
}

// TestMetricsAreDocumented: every metric has its line, and every line its metric.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	inCode := map[string]bool{}
	goFiles(t, func(name, text string) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		for _, m := range regexp.MustCompile(`Name:\s+"(switchboard_[a-z_]+)"`).FindAllStringSubmatch(text, -1) {
			inCode[m[1]] = true
		}
	})
	if len(inCode) < 20 {
		t.Fatalf("only %d metrics found in the code", len(inCode))
	}
	inDocs := map[string]bool{}
	for name, page := range pages(t) {
		for _, m := range regexp.MustCompile("`(switchboard_[a-z_]+)").FindAllStringSubmatch(page, -1) {
			inDocs[m[1]] = true
			if !inCode[m[1]] {
				t.Errorf("%s: there is no metric %s", name, m[1])
			}
		}
	}
	for metric := range inCode {
		if !inDocs[metric] {
			t.Errorf("docs/operations.md says nothing of %s", metric)
		}
	}
}

// TestDocumentsNameWhatExists: links, files, tests and make targets.
func TestDocumentsNameWhatExists(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	goFiles(t, func(name, text string) {
		if strings.HasSuffix(name, "_test.go") {
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`).FindAllStringSubmatch(text, -1) {
				tests[m[1]] = true
			}
		}
	})
	makefile := read(t, "Makefile")
	exists := func(path string) bool {
		_, err := os.Stat(filepath.Join(root(), path))
		return err == nil
	}
	top := map[string]bool{}
	entries, err := fs.ReadDir(os.DirFS(root()), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		top[e.Name()] = e.IsDir() && !strings.HasPrefix(e.Name(), ".")
	}
	for name, page := range pages(t) {
		prose := regexp.MustCompile("(?s)```.*?```").ReplaceAllString(page, "")
		for _, m := range regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`).FindAllStringSubmatch(prose, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if target := filepath.Join(filepath.Dir(name), m[1]); !exists(target) {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile("`([a-z]+)/([a-z0-9_/.-]+\\.(?:go|yml|yaml|sh|sql|md)|Caddyfile)`").FindAllStringSubmatch(prose, -1) {
			if path := m[1] + "/" + m[2]; top[m[1]] && !exists(path) {
				t.Errorf("%s names %s, which is not there", name, path)
			}
		}
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w+)`").FindAllStringSubmatch(prose, -1) {
			if !tests[m[1]] {
				t.Errorf("%s names %s, which is no test", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile("(?m)(?:`|^)make ([a-z]+)").FindAllStringSubmatch(page, -1) {
			if !regexp.MustCompile(`(?m)^` + m[1] + `:`).MatchString(makefile) {
				t.Errorf("%s: there is no `make %s`", name, m[1])
			}
		}
	}
}

// TestDependenciesAreDocumented: every module that our code imports has a reason
// in docs/dependencies.md, and so has every package of the desk.
func TestDependenciesAreDocumented(t *testing.T) {
	t.Parallel()
	text := read(t, "docs/dependencies.md")
	// Modules by the host and path that imports begin with.
	var modules []string
	for _, m := range regexp.MustCompile(`(?m)^\s*(?:require )?([a-z0-9.]+\.[a-z]+/\S+) v`).FindAllStringSubmatch(read(t, "go.mod"), -1) {
		modules = append(modules, m[1])
	}
	direct := map[string]string{}
	add := func(from, path string) {
		best := ""
		for _, m := range modules {
			if (path == m || strings.HasPrefix(path, m+"/")) && len(m) > len(best) {
				best = m
			}
		}
		if best != "" {
			direct[best] = from
		}
	}
	goFiles(t, func(name, text string) {
		head, _, _ := strings.Cut(text, "\nfunc ")
		for _, m := range regexp.MustCompile(`(?m)^\s*(?:import )?(?:\w+ |_ )?"([a-z0-9.]+\.[a-z]+/[^"]+)"$`).FindAllStringSubmatch(head, -1) {
			add(name, m[1])
		}
	})
	if len(direct) < 12 {
		t.Fatalf("only %d modules found: %v", len(direct), direct)
	}
	for m, from := range direct {
		if !strings.Contains(text, "`"+m+"`") {
			t.Errorf("docs/dependencies.md gives no reason for %s (imported by %s)", m, from)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9.]+\\.[a-z]+/[^`]+)`").FindAllStringSubmatch(text, -1) {
		if direct[m[1]] == "" && m[1] != "github.com/versity/versitygw" {
			t.Errorf("docs/dependencies.md has %s, which nothing imports", m[1])
		}
	}
	_, lists, _ := strings.Cut(read(t, "web/package.json"), `"dependencies"`)
	for _, m := range regexp.MustCompile(`"([^"]+)": "[0-9^~]`).FindAllStringSubmatch(lists, -1) {
		if !strings.Contains(text, "`"+m[1]+"`") {
			t.Errorf("docs/dependencies.md gives no reason for %s of the desk", m[1])
		}
	}
}

// TestExampleMessenger compiles the messenger of docs/adding-a-messenger.md and
// runs its test, in a module of its own.
func TestExampleMessenger(t *testing.T) {
	t.Parallel()
	page := read(t, "docs/adding-a-messenger.md")
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	blocks := regexp.MustCompile("(?s)```go\n// file: (\\S+)\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(blocks) != strings.Count(page, "```go") || len(blocks) < 4 {
		t.Fatalf("%d blocks with a file name", len(blocks))
	}
	for _, b := range blocks {
		if formatted, err := format.Source([]byte(b[2])); err != nil || string(formatted) != b[2] {
			t.Errorf("%s is not formatted (%v)", b[1], err)
		}
		write(b[1], b[2])
	}
	update := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(page)
	if update == nil {
		t.Fatal("no callback in the page")
	}
	write("testdata/text.in.json", update[1])
	// Our requirements, so that nothing is resolved or fetched.
	mod := strings.Replace(read(t, "go.mod"), "module switchboard\n", "module example.org/pager\n", 1)
	write("go.mod", mod+"\nrequire switchboard v0.0.0\n\nreplace switchboard => "+root()+"\n")
	write("go.sum", read(t, "go.sum"))
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("test", ".", "-update")
	run("test", ".", "-count=1")
}
