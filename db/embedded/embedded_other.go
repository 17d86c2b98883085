//go:build !linux

package embedded

import (
	"context"
	"fmt"
	"runtime"
)

// Server exists on Linux only, where the kernel ends it together with its owner.
type Server struct{}

// Start always fails here.
func Start(context.Context, Config) (*Server, error) {
	return nil, fmt.Errorf("the embedded Postgres needs Linux, not %s: give the URL of a database instead", runtime.GOOS)
}

// Remove always fails here.
func Remove(string) error {
	return fmt.Errorf("the embedded Postgres needs Linux, not %s", runtime.GOOS)
}

// URL is never reached.
func (*Server) URL() string { return "" }

// URLFor is never reached.
func (*Server) URLFor(string) string { return "" }

// PID is never reached.
func (*Server) PID() int { return 0 }

// Exited is never reached.
func (*Server) Exited() <-chan error { return nil }

// Wait is never reached.
func (*Server) Wait() error { return nil }

// Stop is never reached.
func (*Server) Stop(context.Context) error { return nil }
