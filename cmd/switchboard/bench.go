package main

import (
	"context"
	"errors"

	"switchboard/config"
)

type benchCmd struct{}

// Run measures.
func (benchCmd) Run(ctx context.Context, cfg *config.Config) error {
	return errors.New("not built yet")
}
