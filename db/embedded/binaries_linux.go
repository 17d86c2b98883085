package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// debianBinDirs is where Debian and Ubuntu keep the servers, outside PATH.
const debianBinDirs = "/usr/lib/postgresql/*/bin"

// binaries are the programs of one installed Postgres.
type binaries struct {
	dir   string
	major string // "15"
}

func (b binaries) initdb() string   { return filepath.Join(b.dir, "initdb") }
func (b binaries) postgres() string { return filepath.Join(b.dir, "postgres") }

// findBinaries returns the Postgres to use: of the given major version when
// major is set, because data of one version is closed to all others, and
// otherwise the newest of the first place that has any.
func findBinaries(ctx context.Context, binDir, major string) (binaries, error) {
	dirs, err := candidates(binDir)
	if err != nil {
		return binaries{}, err
	}
	var found []string
	for _, dir := range dirs {
		version, err := majorVersion(ctx, filepath.Join(dir, "postgres"))
		if err != nil {
			if binDir != "" {
				return binaries{}, err
			}
			continue
		}
		if major == "" || version == major {
			return binaries{dir: dir, major: version}, nil
		}
		found = append(found, version)
	}
	switch {
	case len(found) > 0:
		return binaries{}, fmt.Errorf("%w: the data was made by version %s, installed is %v; install it (Debian, Ubuntu: postgresql-%s) or upgrade the data with pg_upgrade",
			ErrNoPostgres, major, found, major)
	case binDir != "":
		return binaries{}, fmt.Errorf("%w: %s has no initdb and postgres", ErrNoPostgres, binDir)
	}
	return binaries{}, fmt.Errorf("%w: looked in %s and in PATH; install it (Debian, Ubuntu: apt-get install postgresql) or give the URL of a database",
		ErrNoPostgres, debianBinDirs)
}

// candidates lists folders that hold both programs, best first.
func candidates(binDir string) ([]string, error) {
	var dirs []string
	if binDir != "" {
		dirs = []string{binDir}
	} else {
		installed, err := filepath.Glob(debianBinDirs)
		if err != nil {
			return nil, fmt.Errorf("looking for postgres: %w", err)
		}
		slices.SortFunc(installed, func(a, b string) int { return debianVersion(b) - debianVersion(a) })
		dirs = installed
		if path, err := exec.LookPath("postgres"); err == nil {
			// What lies in PATH may be a link into the folder that also has initdb.
			if real, err := filepath.EvalSymlinks(path); err == nil {
				dirs = append(dirs, filepath.Dir(real))
			}
		}
	}
	return slices.DeleteFunc(dirs, func(dir string) bool {
		b := binaries{dir: dir}
		return !isFile(b.initdb()) || !isFile(b.postgres())
	}), nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// debianVersion reads 15 from /usr/lib/postgresql/15/bin. Versions before 10
// have a point in them and come last.
func debianVersion(binDir string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(binDir)))
	if err != nil {
		return 0
	}
	return n
}

// "postgres (PostgreSQL) 15.10 (Debian 15.10-0+deb12u1)", "postgres (PostgreSQL) 17beta1"
var versionOutput = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

func majorVersion(ctx context.Context, postgres string) (string, error) {
	out, err := exec.CommandContext(ctx, postgres, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("asking %s for its version: %w", postgres, err)
	}
	m := versionOutput.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s --version answers %q, which is no Postgres", postgres, out)
	}
	return string(m[1]), nil
}
