// Command withzookeeper runs a command with a ZooKeeper of three nodes, and ends
// them afterwards:
//
//	withzookeeper bin/switchboard bench
//
// The command finds the servers in SWITCHBOARD_ZOOKEEPER_SERVERS. Its exit code is
// passed on; 125 means that there was no ensemble.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"switchboard/internal/zktest"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: withzookeeper COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "withzookeeper:", err)
	}
	os.Exit(code)
}

func run(args []string) (code int, err error) {
	// A terminal interrupts the command too; we end when it has.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	ensemble, err := zktest.Open(3)
	if err != nil {
		return 125, err
	}
	defer ensemble.Stop()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "SWITCHBOARD_ZOOKEEPER_SERVERS="+strings.Join(ensemble.Servers(), ","))
	if err := cmd.Start(); err != nil {
		return 125, fmt.Errorf("running the command: %w", err)
	}
	done, forwarded := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(forwarded)
		for {
			select {
			case sig := <-signals:
				if sig == syscall.SIGTERM {
					_ = cmd.Process.Signal(sig)
				}
			case <-done:
				return
			}
		}
	}()
	err = cmd.Wait()
	close(done)
	<-forwarded
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return 125, fmt.Errorf("running the command: %w", err)
	}
	if code = cmd.ProcessState.ExitCode(); code < 0 { // died by a signal
		code = 128 + int(cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	}
	return code, nil
}
