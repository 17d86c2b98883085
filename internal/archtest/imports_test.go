package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// floors is the house, bottom first. A package imports only what is on a lower
// floor; inside internal/ Go's own ban of cycles is enough.
var floors = []struct {
	name     string
	packages []string // path.Match patterns
}{
	{"the universal message", []string{"message"}},
	{"the nouns", []string{"."}},
	{"internal", []string{"internal/*"}},
	{"contracts and tools", []string{"channels", "bus", "filestore", "config"}},
	{"database, platforms, simulator", []string{"db", "db/embedded", "channels/*", "simulator"}},
	{"the list of platforms", []string{"channels/all"}},
	{"roles", []string{"edge", "workers", "campaigns", "callbacks", "chathub", "loader", "web"}},
	{"wiring", []string{"cmd/*"}},
}

// support are packages for tests. They may import what they test, and only
// tests may import them.
var support = []string{
	"*/*test", "internal/dbtest/withpostgres", "internal/zktest/withzookeeper",
}

// roles of a process, and what they serve.
var roles = []string{"edge", "workers", "campaigns", "callbacks", "chathub", "loader", "web"}

// bans go beyond the floors. Each has its reason.
var bans = []struct {
	from   []string // patterns of ours
	to     []string // patterns: ours as in floors, others by import path; "..." at the end is everything below
	except []string // of from
	reason string
}{
	{[]string{"message", ".", "simulator", "internal/egress", "internal/service"}, []string{"third-party"}, nil,
		"it is read and reused by everything else, or must share nothing with it: the standard library is enough"},
	{[]string{"simulator"}, []string{"ours"}, nil,
		"a fake that shares code with what it stands in for shares its mistakes"},
	{[]string{"bus"}, []string{"ours"}, nil,
		"the bus carries hints without content; what they are about is none of its business"},
	{[]string{"channels/*"}, []string{".", "internal/...", "bus", "filestore", "db", "config"}, []string{"channels/all"},
		"a platform is a translator: it gets what it needs of the world in channels.Env, returns values and never writes"},
	{[]string{"channels/*"}, []string{"third-party"}, nil,
		"platforms' APIs are net/http and structs of our own; a client library hides errors that have to be classified"},
	{[]string{"channels"}, []string{".", "internal/..."}, nil,
		"the contract of a messenger is about messages only, so that a platform can be written without knowing the rest"},
	{[]string{"edge", "callbacks", "chathub", "loader", "web", "filestore", "channels", "channels/*", "internal/*", "bus", "config", "."},
		[]string{"github.com/jackc/pgx/...", "database/sql"}, nil,
		"db is the only one that speaks SQL; the others declare the methods they need"},
	{[]string{"..."}, []string{"config", "simulator", "db/embedded"}, []string{"cmd/switchboard"},
		"it is wired in cmd alone: packages get values of their own, not the process' settings"},
	{[]string{"..."}, []string{"channels/*"}, []string{"channels/all", "cmd/switchboard"},
		"platforms are known by name and by the contract; a role that knows one does not work for the next"},
	{[]string{"..."}, []string{"db"}, []string{"cmd/switchboard"},
		"consumers declare the small interfaces they need of the database"},
	{[]string{"..."}, []string{"github.com/go-zookeeper/..."}, []string{"bus"}, "ZooKeeper is spoken to in one place, behind the bus"},
	{[]string{"..."}, []string{"github.com/minio/..."}, []string{"filestore"}, "S3 is spoken to in one place, behind filestore.Blobs"},
	{[]string{"..."}, []string{"github.com/olahol/melody"}, []string{"chathub"}, "melody's ways (silent drops, small frames) are tamed in one place"},
	{[]string{"..."}, []string{"github.com/alecthomas/kong", "go.yaml.in/..."}, []string{"cmd/switchboard", "config"}, "flags and files are read by the process, not by packages"},
	{[]string{"..."}, []string{"github.com/xuri/excelize/..."}, []string{"internal/export"}, "workbooks are written in one place, which keeps them out of memory and cleans up"},
	{[]string{"..."}, []string{"github.com/pressly/goose/..."}, []string{"db"}, "the schema is db's"},
	{[]string{"..."}, []string{"testing"}, nil, "test code stays out of the binary"},
}

func matches(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == below || strings.HasPrefix(name, below+"/")
	}
	ok, err := path.Match(pattern, name)
	if err != nil {
		panic(err)
	}
	return ok
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// floorOf returns the floor of one of our packages, -1 for none. The last
// pattern that fits wins, so channels/all is not a platform.
func floorOf(name string) int {
	for i := len(floors) - 1; i >= 0; i-- {
		if matchesAny(floors[i].packages, name) {
			return i
		}
	}
	return -1
}

func isSupport(name string) bool { return matchesAny(support, name) }

// complaints are the rules that from breaks by importing to.
func complaints(from, to string) (found []string) {
	if isSupport(from) {
		return nil
	}
	if ours(to) {
		name := short(to)
		if isSupport(name) {
			return []string{fmt.Sprintf("%s imports %s: it is for tests only", from, name)}
		}
		a, b := floorOf(from), floorOf(name)
		switch {
		case a < 0 || b < 0:
			return []string{fmt.Sprintf("%s imports %s: one of them is on no floor; give it one in floors", from, name)}
		case matches("internal/*", from) && matches("internal/*", name):
		case slices.Contains(roles, from) && slices.Contains(roles, name):
			found = append(found, fmt.Sprintf("%s imports %s: roles run in different processes and meet in the database and on the bus", from, name))
		case b >= a:
			found = append(found, fmt.Sprintf("%s (%s) imports %s (%s): imports go down only", from, floors[a].name, name, floors[b].name))
		}
	}
	target, thirdParty := to, strings.Contains(strings.SplitN(to, "/", 2)[0], ".")
	if ours(to) {
		target = short(to)
	}
	for _, ban := range bans {
		if !matchesAny(ban.from, from) || matchesAny(ban.except, from) {
			continue
		}
		for _, p := range ban.to {
			if (p == "third-party" && thirdParty) || (p == "ours" && ours(to)) || (p != "..." && matches(p, target)) {
				found = append(found, fmt.Sprintf("%s imports %s: %s", from, target, ban.reason))
			}
		}
	}
	return found
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, to := range p.Imports {
			for _, complaint := range complaints(p.short(), to) {
				t.Error(complaint)
			}
		}
	}
}

// TestImportRulesBite keeps the rules from becoming empty, by a misspelt
// pattern for instance.
func TestImportRulesBite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		bad      bool
	}{
		{"edge", "switchboard/db", true},
		{"edge", "switchboard/workers", true},
		{"edge", "switchboard/channels/telegram", true},
		{"edge", "switchboard/channels", false},
		{"edge", "github.com/jackc/pgx/v5", true},
		{"workers", "github.com/jackc/pgx/v5/pgxpool", false},
		{"channels/telegram", "switchboard/db", true},
		{"channels/telegram", "switchboard/internal/secret", true},
		{"channels/telegram", "switchboard/channels/viber", true},
		{"channels/telegram", "github.com/x/telegram", true},
		{"channels/telegram", "switchboard/message", false},
		{"channels/all", "switchboard/channels/telegram", false},
		{"channels", "switchboard/channels/telegram", true},
		{"message", "switchboard", true},
		{"message", "github.com/google/uuid", true},
		{".", "switchboard/message", false},
		{"simulator", "switchboard/message", true},
		{"bus", "switchboard", true},
		{"loader", "switchboard/config", true},
		{"workers", "switchboard/channels/all", true},
		{"cmd/switchboard", "switchboard/channels/all", false},
		{"cmd/switchboard", "switchboard/config", false},
		{"cmd/switchboard", "switchboard/internal/dbtest", true},
		{"db", "switchboard/bus", false},
		{"db", "switchboard/chathub", true},
		{"filestore", "switchboard/db", true},
		{"internal/auth", "switchboard/internal/secret", false},
		{"internal/auth", "switchboard/db", true},
		{"chathub", "testing", true},
		{"edge", "switchboard/internal/nobody/knows", true},
	} {
		if got := complaints(c.from, c.to); (len(got) > 0) != c.bad {
			t.Errorf("%s imports %s: complaints %q, want any: %v", c.from, c.to, got, c.bad)
		}
	}
}

func parse(t *testing.T, file string) (*token.FileSet, *ast.File) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return set, f
}

// TestPackageComments: every package says in one place what it is for.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		var with []string
		for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
			_, f := parse(t, filepath.Join(p.Dir, name))
			text := f.Doc.Text()
			if strings.TrimSpace(text) == "" {
				continue
			}
			with = append(with, name)
			if want := "Package " + p.Name; p.Name != "main" && !regexp.MustCompile(`^`+want+`\b`).MatchString(text) {
				t.Errorf("%s/%s: the package comment begins with %q", p.short(), name, want)
			}
			if p.Name == "main" && !strings.HasPrefix(text, "Command ") {
				t.Errorf("%s/%s: the package comment begins with %q", p.short(), name, "Command ")
			}
		}
		if len(with) != 1 && len(p.GoFiles) > 0 {
			t.Errorf("%s has %d package comments %v; one belongs there", p.short(), len(with), with)
		}
	}
}

// TestPackageNames: a package is named after what it holds.
func TestPackageNames(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, part := range append(strings.Split(p.short(), "/"), p.Name) {
			switch part {
			case "util", "utils", "common", "helper", "helpers", "model", "models", "misc", "shared", "base", "types":
				t.Errorf("%s: %q says nothing of what is inside", p.short(), part)
			}
		}
	}
}

// TestPlatformsRegisterNothing: the platforms are one list in channels/all, so
// that what a binary knows can be read in one place and tests share no state.
func TestPlatformsRegisterNothing(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, p := range packages(t) {
		if !matches("channels/*", p.short()) {
			continue
		}
		seen++
		for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
			set, f := parse(t, filepath.Join(p.Dir, name))
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: init function; the list is channels/all", set.Position(fn.Pos()))
				}
			}
		}
	}
	if seen < 3 {
		t.Fatalf("only %d packages below channels", seen)
	}
}

// globals are what a package's logging must not go through, by import path. A logger
// is handed in, so that what a part says has its process' form, level and redaction,
// and a test sees it.
var globals = map[string]*regexp.Regexp{
	"log/slog": regexp.MustCompile(`^(Default|SetDefault|With|Log|LogAttrs|(Debug|Info|Warn|Error)(Context)?)$`),
	"log":      regexp.MustCompile(`^(Default|SetOutput|Writer|Output|(Print|Fatal|Panic)(f|ln)?)$`),
}

// globalLogs are the places of a file that log through what the whole process shares.
func globalLogs(set *token.FileSet, f *ast.File) (found []string) {
	names := map[string]*regexp.Regexp{}
	for _, spec := range f.Imports {
		at := strings.Trim(spec.Path.Value, `"`)
		if globals[at] == nil {
			continue
		}
		name := path.Base(at)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = globals[at]
	}
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && names[x.Name] != nil && names[x.Name].MatchString(s.Sel.Name) {
			found = append(found, fmt.Sprintf("%s: %s.%s", set.Position(s.Pos()), x.Name, s.Sel.Name))
		}
		return true
	})
	return found
}

// TestLoggersAreHandedIn: only the process itself knows where its log goes.
func TestLoggersAreHandedIn(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if matches("cmd/*", p.short()) || isSupport(p.short()) {
			continue
		}
		for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
			set, f := parse(t, filepath.Join(p.Dir, name))
			for _, place := range globalLogs(set, f) {
				t.Errorf("%s: take a *slog.Logger instead", place)
			}
		}
	}
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, "bad.go", "package bad\nimport (\n\"log\"\nl \"log/slog\"\n)\nfunc f(log2 *l.Logger) { log2.Info(\"fine\"); l.Info(\"x\"); _ = l.Default(); log.Printf(\"y\") }\n", 0)
	if err != nil {
		t.Fatal(err)
	}
	if found := globalLogs(set, f); len(found) != 3 {
		t.Errorf("the rule finds %q in what has three", found)
	}
}
