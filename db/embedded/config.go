package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
)

// Errors that callers can tell apart.
var (
	// ErrInUse says that another process, or another Server of this one, runs a
	// server on the folder.
	ErrInUse = errors.New("data folder is in use")
	// ErrNoPostgres says that the machine has no fitting Postgres.
	ErrNoPostgres = errors.New("no fitting Postgres on this machine")
)

// Database is the database that Start creates and URL names.
const Database = "switchboard"

// role owns everything in the cluster.
const role = "switchboard"

// defaultFallbackDir holds clusters that can't lie in their data folder.
const defaultFallbackDir = "/var/lib/switchboard"

// Config says where and how a server runs.
type Config struct {
	// DataDir is created when missing. It must belong to one server only.
	DataDir string
	// Settings are Postgres's own (postgresql.conf), and win over the defaults of
	// this package. Those that decide who may connect are refused.
	Settings map[string]string
	// Logger gets Postgres's log: panics, fatal errors and warnings as they are,
	// the rest at debug level. Nil discards it.
	Logger *slog.Logger
	// Port also opens 127.0.0.1:Port; 0 means the unix socket only.
	Port int
	// BinDir holds the programs initdb and postgres. When empty they are looked
	// for in /usr/lib/postgresql/*/bin, highest version first, then in PATH.
	BinDir string
	// FallbackDir is used instead of DataDir when root starts the server and the
	// server's user can't enter DataDir. Empty means /var/lib/switchboard.
	FallbackDir string
}

// reserved settings are this package's promise about who may connect, and where
// things lie.
var reserved = []string{
	"config_file", "data_directory", "external_pid_file", "hba_file", "ident_file", "listen_addresses", "log_destination",
	"logging_collector", "password_encryption", "port", "unix_socket_directories", "unix_socket_group", "unix_socket_permissions",
}

func (c Config) withDefaults() (Config, error) {
	if c.DataDir == "" {
		return c, errors.New("embedded postgres: no data folder given")
	}
	if c.Port < 0 || c.Port > 65535 {
		return c, fmt.Errorf("embedded postgres: port %d is not in 0..65535", c.Port)
	}
	for name := range c.Settings {
		if slices.Contains(reserved, name) {
			return c, fmt.Errorf("embedded postgres: setting %q can't be changed", name)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.FallbackDir == "" {
		c.FallbackDir = defaultFallbackDir
	}
	var err error
	if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
		return c, fmt.Errorf("resolving the data folder: %w", err)
	}
	return c, nil
}
