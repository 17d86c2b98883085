package bus_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchboard/bus"
	"switchboard/bus/bustest"
	"switchboard/internal/zktest"
)

// newZooKeeper returns a bus that logs to the test.
func newZooKeeper(t testing.TB, id string, cfg bus.ZooKeeperConfig) *bus.ZooKeeper {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{
			Level: slog.LevelInfo,
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.String("at", a.Value.Time().Format("05.000"))
				}
				return a
			},
		})).With("bus", id)
	}
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewPedanticRegistry()
	}
	b, err := bus.NewZooKeeper(cfg, testNode(id))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestZooKeeper(t *testing.T) {
	bustest.Run(t, func(t *testing.T) (a, b bus.Bus) {
		cfg := bus.ZooKeeperConfig{Servers: zktest.Shared(t), Root: zktest.Root(t), SessionTimeout: 4 * time.Second}
		return newZooKeeper(t, "one", cfg), newZooKeeper(t, "two", cfg)
	})
}

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	good := bus.ZooKeeperConfig{Servers: []string{"127.0.0.1:2181"}}
	if _, err := bus.NewZooKeeper(good, testNode("one")); err != nil {
		t.Errorf("defaults are refused: %v", err)
	}
	for name, change := range map[string]func(*bus.ZooKeeperConfig){
		"no servers":         func(c *bus.ZooKeeperConfig) { c.Servers = nil },
		"no port":            func(c *bus.ZooKeeperConfig) { c.Servers = []string{"localhost"} },
		"no host":            func(c *bus.ZooKeeperConfig) { c.Servers = []string{":2181"} },
		"relative root":      func(c *bus.ZooKeeperConfig) { c.Root = "switchboard" },
		"root of everything": func(c *bus.ZooKeeperConfig) { c.Root = "/" },
		"root with an end":   func(c *bus.ZooKeeperConfig) { c.Root = "/switchboard/" },
		"short timeout":      func(c *bus.ZooKeeperConfig) { c.SessionTimeout = 10 * time.Millisecond },
		"long timeout":       func(c *bus.ZooKeeperConfig) { c.SessionTimeout = time.Hour },
	} {
		cfg := good
		change(&cfg)
		if _, err := bus.NewZooKeeper(cfg, testNode("one")); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := bus.NewZooKeeper(good, bus.Node{}); err == nil {
		t.Error("a node without id was accepted")
	}
	r := prometheus.NewRegistry()
	good.Registerer = r
	if _, err := bus.NewZooKeeper(good, testNode("one")); err != nil {
		t.Error(err)
	}
	if _, err := bus.NewZooKeeper(good, testNode("two")); err == nil {
		t.Error("metrics registered twice were no error")
	}
}
