// Command switchboard is the gateway: every role, the tools around it, and a
// demo of everything on one machine.
//
// Exit codes: 0 done, 1 failed, 2 wrong use, 130 stopped by a second signal.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"switchboard"
	"syscall"

	"github.com/alecthomas/kong"

	"switchboard/config"
)

// version is set by the build.
var version = "dev"

type cli struct {
	config.Config `embed:""`
	ConfigFile    string `name:"config" env:"SWITCHBOARD_CONFIG" placeholder:"FILE" help:"YAML file with settings."`

	Demo       demoCmd       `cmd:"" help:"Everything in one process, with simulated messengers and customers."`
	Serve      serveCmd      `cmd:"" help:"The service."`
	Migrate    migrateCmd    `cmd:"" help:"Bring the database up to date."`
	Account    accountCmd    `cmd:"" help:"Channel accounts."`
	Operator   operatorCmd   `cmd:"" help:"Operators."`
	Apikey     apikeyCmd     `cmd:"" help:"API keys of scripts."`
	Audit      auditCmd      `cmd:"" help:"Who did what, newest first."`
	Callback   callbackCmd   `cmd:"" help:"Statuses that scripts are told."`
	Campaign   campaignCmd   `cmd:"" help:"Campaigns: one thing to many."`
	Stoplist   stoplistCmd   `cmd:"" help:"Addresses that are not written to."`
	Message    messageCmd    `cmd:"" help:"Messages that failed."`
	Quarantine quarantineCmd `cmd:"" help:"Updates that could not be decoded."`
	Simulate   simulateCmd   `cmd:"" help:"The fake platforms alone."`
	Bench      benchCmd      `cmd:"" help:"The benchmarks: figure, floor, ratio."`
	Doctor     doctorCmd     `cmd:"" help:"Check configuration, database, ZooKeeper, storage and accounts."`
	Openapi    openapiCmd    `cmd:"" help:"Print the OpenAPI document."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run() error { fmt.Println(version); return nil }

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if spec := os.Getenv(childVariable); spec != "" {
		if err := runChild(spec); err != nil {
			fmt.Fprintln(os.Stderr, "switchboard:", err)
			return 1
		}
		return 0
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		<-signals
		os.Exit(130)
	}()

	var c cli
	options := []kong.Option{
		kong.Name("switchboard"), kong.Description("A gateway between messengers and contact centres."),
		kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)), kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	}
	if path := configFile(args); path != "" {
		resolver, err := config.File(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, "switchboard:", err)
			return 2
		}
		options = append(options, kong.Resolvers(resolver))
	}
	parser, err := kong.New(&c, options...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "switchboard:", err)
		return 2
	}
	kctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "switchboard:", err)
		return 2
	}
	if err := c.Validate(); err != nil {
		fmt.Fprintln(os.Stderr, "switchboard:", err)
		return 2
	}
	if err := kctx.Run(&c.Config); err != nil && !(errors.Is(err, context.Canceled) && ctx.Err() != nil) {
		fmt.Fprintln(os.Stderr, "switchboard:", switchboard.Reason(err))
		return 1
	}
	return 0
}

// configFile finds --config before the parser runs, since its values are what
// the parser needs.
func configFile(args []string) string {
	for i, a := range args {
		if a == "--config" && i+1 < len(args) {
			return args[i+1]
		}
		if len(a) > 9 && a[:9] == "--config=" {
			return a[9:]
		}
	}
	return os.Getenv("SWITCHBOARD_CONFIG")
}
