// Package simtest starts a simulator for a test.
package simtest

import (
	"context"
	"net/http/httptest"
	"testing"

	"switchboard/simulator"
)

// Start runs a simulator with the zero Config on loopback until the test ends,
// and returns its address without a trailing slash.
func Start(t testing.TB) (sim *simulator.Simulator, baseURL string) {
	t.Helper()
	return StartConfig(t, simulator.Config{})
}

// StartConfig is Start with a configuration; BaseURL is overwritten.
func StartConfig(t testing.TB, cfg simulator.Config) (sim *simulator.Simulator, baseURL string) {
	t.Helper()
	sim = simulator.New(cfg)
	srv := httptest.NewServer(sim)
	sim.SetBaseURL(srv.URL)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sim.Run(ctx) }()
	t.Cleanup(func() {
		// Run first: it lets hanging requests go, for which Close would wait.
		cancel()
		if err := <-done; err != nil {
			t.Errorf("running the simulator: %v", err)
		}
		srv.CloseClientConnections()
		srv.Close()
	})
	return sim, srv.URL
}
