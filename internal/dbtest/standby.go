package dbtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"switchboard/db/embedded"
)

// Standby starts a server that is fed by a primary over streaming replication, and
// answers reads. dir is the primary's folder; its settings are Settings. It takes a
// second. Stop ends it; StandbyIn starts it again.
func Standby(t testing.TB, primary *embedded.Server, dir string) (srv *embedded.Server, standbyDir string) {
	t.Helper()
	standbyDir = Dir(t)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), setupTimeout)
	defer cancel()
	// It belongs to the packages of the server, and is of the server's version there.
	tool := "pg_basebackup"
	if _, err := exec.LookPath(tool); err != nil {
		version, err := os.ReadFile(filepath.Join(dir, "cluster", "PG_VERSION"))
		if err != nil {
			t.Fatalf("dbtest: %v", err)
		}
		tool = filepath.Join("/usr/lib/postgresql", string(version[:len(version)-1]), "bin", tool)
	}
	// --write-recovery-conf makes it a standby of the connection it was made over.
	out, err := exec.CommandContext(ctx, tool, "--dbname", primary.URL(), "--pgdata", filepath.Join(standbyDir, "cluster"),
		"--wal-method", "stream", "--checkpoint", "fast", "--no-sync", "--write-recovery-conf").CombinedOutput()
	if err != nil {
		t.Fatalf("dbtest: copying the primary with %s: %v: %s", tool, err, out)
	}
	password, err := os.ReadFile(filepath.Join(dir, "password"))
	if err == nil {
		err = os.WriteFile(filepath.Join(standbyDir, "password"), password, 0o600)
	}
	if err != nil {
		t.Fatalf("dbtest: copying the password: %v", err)
	}
	return StandbyIn(t, standbyDir), standbyDir
}

// StandbyIn starts a standby again.
func StandbyIn(t testing.TB, dir string) *embedded.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), setupTimeout)
	defer cancel()
	srv, err := embedded.Start(ctx, embedded.Config{DataDir: dir, Settings: Settings()})
	if err != nil {
		t.Fatalf("dbtest: starting a standby: %v", err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(context.Background()); err != nil {
			t.Errorf("dbtest: %v", err)
		}
	})
	return srv
}
