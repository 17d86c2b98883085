// Command withpostgres runs a command with a Postgres for tests, and removes it
// afterwards:
//
//	withpostgres go test ./...
//
// The command finds the server in SWITCHBOARD_TEST_DATABASE_URL. Its exit code is
// passed on; 125 means that there was no server.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"switchboard/internal/dbtest"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: withpostgres COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	// Signals are for the command; we end when it has.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	// The command dies with this thread, should we be killed.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	code := 125
	err := dbtest.Run(context.Background(), func(env string) error {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), env)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("running the command: %w", err)
		}
		done := make(chan struct{})
		forwarded := make(chan struct{})
		go func() {
			defer close(forwarded)
			for {
				select {
				case sig := <-signals:
					_ = cmd.Process.Signal(sig)
				case <-done:
					return
				}
			}
		}()
		err := cmd.Wait()
		close(done)
		<-forwarded
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			return fmt.Errorf("running the command: %w", err)
		}
		// -1 stands for death by a signal.
		if code = cmd.ProcessState.ExitCode(); code < 0 {
			code = 128 + int(cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
		}
		return nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpostgres:", err)
		code = max(code, 1)
	}
	return code
}
