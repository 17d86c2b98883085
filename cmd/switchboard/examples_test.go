package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"switchboard"
)

// needs fails the test when a program is missing that the machine of a developer
// has, or gets from scripts/setup.sh.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("this test needs %s, which is not here: scripts/setup.sh test installs it, or apt-get install %s", p, p)
		}
	}
}

// example runs a script of examples/.
type example struct {
	t    *testing.T
	env  []string
	path string
}

func (x *example) command(args ...string) (cmd *exec.Cmd, out *bytes.Buffer) {
	cmd = exec.CommandContext(x.t.Context(), x.path, args...)
	cmd.Env = append(append(os.Environ(), "SWITCHBOARD_API_KEY=", "http_proxy=", "no_proxy=*"), x.env...)
	out = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second
	return cmd, out
}

// run returns what the script said and its exit code.
func (x *example) run(args ...string) (string, int) {
	x.t.Helper()
	cmd, out := x.command(args...)
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), exit.ExitCode()
	}
	if err != nil {
		x.t.Fatalf("%s: %v %s", x.path, err, out)
	}
	return out.String(), 0
}

// The examples do what they say against a running service: they send to everybody in
// a table, once, also when they are run again; they say what is wrong; and their exit
// codes tell a script that calls them.
func TestExamples(t *testing.T) {
	t.Parallel()
	needs(t, "sh", "curl", "jq", "python3")
	for _, name := range []string{"campaign.sh", "campaign.py"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, err := filepath.Abs(filepath.Join("../../examples", name))
			if err != nil {
				t.Fatal(err)
			}
			w := start(t)
			account := w.account("viber", viberToken, nil)
			people, to := w.vibers(12, "")
			table := writeTable(t, func(b *bufio.Writer) {
				fmt.Fprintln(b, "external_id;name")
				for i, r := range to {
					fmt.Fprintf(b, "%s;\"%s %d\"\n", r.address, "Ann \"\"the\"\" first", i)
				}
				fmt.Fprintf(b, ";nobody\n%s;twice\n", to[0].address)
			})
			_, key, err := w.sys.admin.AddAPIKey(t.Context(), "test", "script")
			if err != nil {
				t.Fatal(err)
			}
			x := &example{t, []string{"SWITCHBOARD_URL=" + w.http, "SWITCHBOARD_API_KEY=" + key, "ONCE=monday"}, path}
			out, code := x.run(table, account, `Hello {{name|friend}}, "50 %" off`)
			if code != 0 {
				t.Fatalf("ended with %d: %s", code, out)
			}
			for _, want := range []string{"accepted", "rejected", "the row has no phone, customer_id or external_id", "done"} {
				if !strings.Contains(out, want) {
					t.Errorf("nothing of %q in %s", want, out)
				}
			}
			// Again, as by a script that was killed.
			if out, code = x.run(table, account, `Hello {{name|friend}}, "50 %" off`); code != 0 || strings.Contains(out, "rejected") || !strings.Contains(out, "done") {
				t.Errorf("again: ended with %d: %s", code, out)
			}
			for i, c := range people {
				if texts := got(c); len(texts) != 1 || texts[0] != fmt.Sprintf(`Hello Ann "the" first %d, "50 %%" off`, i) {
					t.Errorf("customer %d got %q", i, texts)
				}
			}
			for what, c := range map[string]struct {
				env  string
				args []string
				want string
			}{
				"another request with the key": {"", []string{table, account, "Another"}, "was used with another request"},
				"no such account":              {"ONCE=a", []string{table, "0198b000-0000-7000-8000-000000000001", "x"}, "no such account"},
				"no such key":                  {"SWITCHBOARD_API_KEY=swb_nonsense", []string{table, account, "x"}, "unknown, expired or revoked"},
				"no key":                       {"SWITCHBOARD_API_KEY=", []string{table, account, "x"}, "apikey add --name mailing"},
				"no table":                     {"ONCE=b", []string{table + ".gone", account, "x"}, "people.csv.gone"},
				"nobody in it":                 {"ONCE=c", []string{writeTable(t, func(b *bufio.Writer) { fmt.Fprintln(b, "phone") }), account, "x"}, "has no recipients"},
			} {
				bad := &example{t, append(append([]string{}, x.env...), c.env), path}
				if out, code := bad.run(c.args...); code == 0 || !strings.Contains(out, c.want) || strings.Contains(out, "Traceback (most") && what != "no table" {
					t.Errorf("%s: ended with %d: %s", what, code, out)
				}
			}
			// One that somebody cancels is no success.
			if err := w.sys.db.SetAccountState(t.Context(), account, switchboard.AccountPaused, "maintenance"); err != nil {
				t.Fatal(err)
			}
			w.sys.bus.Wake("accounts")
			eventually(t, 10*time.Second, "the account is paused", func() bool {
				o, err := w.sys.registry.Get(t.Context(), account)
				return err == nil && o.State == "paused"
			})
			canceled := &example{t, append(append([]string{}, x.env...), "ONCE=slow"), path}
			cmd, said := canceled.command(table, account, "Hello")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var id string
			eventually(t, 30*time.Second, "the slow campaign runs", func() bool {
				return w.sys.db.Pool().QueryRow(t.Context(), `select id from campaigns where state = 'running'`).Scan(&id) == nil
			})
			w.rest("POST", "/api/v1/campaigns/"+id+"/cancel", key, nil, 200, nil)
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said.String(), "canceled") || !strings.Contains(said.String(), "the account is paused: maintenance") {
				t.Errorf("canceled: %v: %s", err, said)
			}
		})
	}
}
