package db

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

//go:embed migrations/*.sql
var migrations embed.FS

// riverVersion is part of MigrationsKey: River's own tables come from its module.
const riverVersion = "river-0.51"

// Migrate brings the database at url up to date: our schema by goose, River's
// by rivermigrate. Several processes may call it at once; an advisory lock lets
// one work at a time.
func Migrate(ctx context.Context, url string) error {
	return withMigrator(ctx, url, func(conn *sql.Conn, provider *goose.Provider, pool *pgxpool.Pool) error {
		if _, err := provider.Up(ctx); err != nil {
			return fmt.Errorf("migrating schema: %w", err)
		}
		migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return fmt.Errorf("opening river's migrations: %w", err)
		}
		if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
			return fmt.Errorf("migrating river's schema: %w", err)
		}
		return nil
	})
}

// Pending returns an error that names `switchboard migrate` when the database
// at url is not on this binary's schema.
func Pending(ctx context.Context, url string) error {
	return withMigrator(ctx, url, func(conn *sql.Conn, provider *goose.Provider, pool *pgxpool.Pool) error {
		pending, err := provider.HasPending(ctx)
		if err != nil {
			return fmt.Errorf("reading schema version: %w", err)
		}
		migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return fmt.Errorf("opening river's migrations: %w", err)
		}
		res, err := migrator.Validate(ctx, nil)
		if err != nil {
			return fmt.Errorf("reading river's schema version: %w", err)
		}
		if pending || !res.OK {
			return fmt.Errorf("the database is not on this version's schema; run `switchboard migrate` first")
		}
		return nil
	})
}

// migrateLock is the advisory lock of whoever migrates ("sbmigrat" in ASCII).
const migrateLock = 0x73626d6967726174

func withMigrator(ctx context.Context, url string, do func(*sql.Conn, *goose.Provider, *pgxpool.Pool) error) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("parsing database url: %w", RedactURL(err))
	}
	sqldb := stdlib.OpenDB(*cfg)
	defer sqldb.Close()
	conn, err := sqldb.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", RedactURL(err))
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "select pg_advisory_lock($1)", int64(migrateLock)); err != nil {
		return fmt.Errorf("taking the migration lock: %w", err)
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", int64(migrateLock))
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, sqldb, dir, goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("reading embedded migrations: %w", err)
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", RedactURL(err))
	}
	defer pool.Close()
	return do(conn, provider, pool)
}

// MigrationsKey changes whenever a migration does; test databases are cached by it.
func MigrationsKey() string {
	sum := sha256.New()
	sum.Write([]byte(riverVersion))
	_ = fs.WalkDir(migrations, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := migrations.ReadFile(path)
		if err != nil {
			return err
		}
		sum.Write([]byte(path))
		sum.Write(b)
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)[:8])
}
