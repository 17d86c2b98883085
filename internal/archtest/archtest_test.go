package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// root is the module's folder.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pkg is what `go list -json` tells of a package.
type pkg struct {
	Dir            string
	ImportPath     string
	Name           string
	GoFiles        []string
	IgnoredGoFiles []string // of other systems
	TestGoFiles    []string
	XTestGoFiles   []string
	Imports        []string
}

// short is the path inside the module; "." is the root package.
func (p *pkg) short() string { return short(p.ImportPath) }

const module = "switchboard"

func short(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func ours(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

var list = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-json=Dir,ImportPath,Name,GoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Imports", "./...")
	cmd.Dir = root()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New("go list: " + err.Error() + "\n" + stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		// npm brings Go files along.
		if !strings.Contains(p.Dir, "node_modules") {
			all = append(all, p)
		}
	}
})

func packages(t *testing.T) []pkg {
	t.Helper()
	all, err := list()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("go list found %d packages; that can't be all", len(all))
	}
	return all
}

// goFiles calls do with every Go file of the module.
func goFiles(t *testing.T, do func(name, text string)) {
	t.Helper()
	top := root()
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != top && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "dist" || name == "data") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // an editor's file that is gone again
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, path)
		do(rel, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
