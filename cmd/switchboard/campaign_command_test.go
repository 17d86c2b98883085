package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"switchboard/campaigns"
	"switchboard/internal/secret"
)

// spawn begins a command of the program on the world's database.
func (w *world) spawn(env map[string]string, args ...string) *process {
	w.t.Helper()
	return w.spawnWith(env, "", args...)
}

// spawnWith is spawn with something on standard input.
func (w *world) spawnWith(env map[string]string, stdin string, args ...string) *process {
	w.t.Helper()
	all := map[string]string{
		"SWITCHBOARD_DATABASE_URL": w.database,
		"SWITCHBOARD_MASTER_KEY":   base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{5}, secret.KeySize)),
	}
	for k, v := range env {
		all[k] = v
	}
	return launch(w.t, w.t, strings.Join(args, " "), w.t.TempDir(), all, stdin, args...)
}

func writeTable(t *testing.T, rows func(w *bufio.Writer)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "people.csv")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	b := bufio.NewWriter(f)
	rows(b)
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// The same command with the same key asks for the same, whenever it is given: a
// name with the time in it would make it another request a minute later.
func TestCampaignOnceHasNoTime(t *testing.T) {
	t.Parallel()
	for once, want := range map[string]bool{"monday": true, "": false} {
		s := campaignSend{File: "lists/people.csv", Account: []string{"0198"}, Text: "Hello", Kind: "text", Once: once}
		d, err := s.definition()
		if err != nil {
			t.Fatal(err)
		}
		if (d.Name == "people") != want || !strings.HasPrefix(d.Name, "people") {
			t.Errorf("with the key %q the campaign is called %q", once, d.Name)
		}
	}
}

// The commands do the same on the installation and over the REST API.
func TestCampaignCommands(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.account("viber", viberToken, nil) // "Test viber"
	people, to := w.vibers(12, "")
	table := writeTable(t, func(b *bufio.Writer) {
		fmt.Fprintln(b, "external_id;name")
		for _, r := range to {
			fmt.Fprintf(b, "%s;%s\n", r.address, r.vars["name"])
		}
		fmt.Fprintf(b, ";nobody\n%s;twice\n", to[0].address)
	})
	_, key, err := w.sys.admin.AddAPIKey(t.Context(), "test", "script")
	if err != nil {
		t.Fatal(err)
	}
	var made campaigns.Campaign
	text := w.command(0, nil, "campaign", "send", table, "--account", "test Viber", "--text", "Hello {{name}}", "--watch")
	for _, want := range []string{"12 recipients, 1 rows left out, 1 duplicates", "line 14: the row has no phone, customer_id or external_id", "done 12/12", "recipients  12"} {
		if !strings.Contains(text, want) {
			t.Errorf("send --watch says nothing of %q: %s", want, text)
		}
	}
	accounts, err := w.sys.db.Accounts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := w.spawn(map[string]string{"SWITCHBOARD_URL": w.http, "SWITCHBOARD_API_KEY": key, "SWITCHBOARD_DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"},
		"campaign", "send", table, "--account", accounts[0].ID, "--text", "Again {{name}}", "--watch", "--json")
	if code := p.wait(t, patience); code != 0 {
		t.Fatalf("send over the API ended with %d: %s", code, p.logText())
	}
	if err := json.Unmarshal([]byte(p.output()), &made); err != nil || made.State != "done" || made.Counts.Total != 12 {
		t.Fatalf("send over the API printed %s: %v", p.output(), err)
	}
	for i, c := range people {
		if texts := got(c); len(texts) != 2 || texts[0] != fmt.Sprint("Hello V", i) || texts[1] != fmt.Sprint("Again V", i) {
			t.Errorf("customer %d got %q", i, texts)
		}
	}
	var list struct{ Items []campaigns.Campaign }
	w.command(0, &list, "campaign", "list", "--state", "done", "--json")
	if len(list.Items) != 2 || list.Items[0].ID != made.ID || !strings.HasPrefix(list.Items[0].CreatedBy, "apikey:") || list.Items[1].CreatedBy != actor {
		t.Errorf("list: %s", asJSON(list))
	}
	out := filepath.Join(t.TempDir(), "report.csv")
	w.command(0, nil, "campaign", "export", made.ID, "--out", out)
	if rows, err := os.ReadFile(out); err != nil || bytes.Count(rows, []byte("\n")) != 13 {
		t.Errorf("export: %s %v", rows, err)
	}
	text = w.command(0, nil, "campaign", "send", table, "--account", "test viber", "--text", "x", "--dry-run")
	if !strings.Contains(text, "reachable   12") {
		t.Errorf("dry run: %s", text)
	}
	for want, args := range map[string][]string{
		"{{ without }}":                     {"send", table, "--account", "test viber", "--text", "Hello {{name"},
		"0 accounts have this name":         {"send", table, "--account", "nobody", "--text", "x"},
		"use --account with --text":         {"send", table, "--text", "x"},
		"is done; a scheduled or running":   {"pause", made.ID},
		"--url needs --key":                 {"list", "--url", w.http},
		"unknown, expired or revoked":       {"list", "--url", w.http, "--key", "swb_nonsense"},
		"save it as CSV":                    {"send", "people.xlsx", "--account", "test viber", "--text", "x"},
		"external_id; the first row has \"": {"send", writeTable(t, func(b *bufio.Writer) { fmt.Fprintln(b, "a,b") }), "--account", "test viber", "--text", "x"},
	} {
		if text := w.command(1, nil, append([]string{"campaign"}, args...)...); !strings.Contains(text, want) {
			t.Errorf("%q says nothing of %q: %s", args, want, text)
		}
	}
}

// Ctrl+C lets go of a campaign, which goes on.
func TestCampaignDetach(t *testing.T) {
	t.Parallel()
	w := start(t)
	// It takes 15 s, which is long enough to let go of it.
	w.account("viber", viberToken, map[string]string{"rate": "2"})
	_, to := w.vibers(30, "")
	table := writeTable(t, func(b *bufio.Writer) {
		fmt.Fprintln(b, "external_id")
		for _, r := range to {
			fmt.Fprintln(b, r.address)
		}
	})
	p := w.spawn(nil, "campaign", "send", table, "--account", "test viber", "--text", "Hello", "--watch")
	eventually(t, patience, "the campaign is seen to run", func() bool { return strings.Contains(p.logText(), "running ") })
	p.signal(syscall.SIGINT)
	if code := p.wait(t, patience); code != 0 || !strings.Contains(p.logText(), "the campaign goes on") {
		t.Fatalf("after SIGINT: %d %s", code, p.logText())
	}
	var list struct{ Items []campaigns.Campaign }
	w.command(0, &list, "campaign", "list", "--json")
	if len(list.Items) != 1 || list.Items[0].State != "running" || list.Items[0].Counts.Queued == 0 {
		t.Fatalf("after letting go: %s", asJSON(list))
	}
	id := list.Items[0].ID
	text := w.command(0, nil, "campaign", "show", id, "--watch")
	if !strings.Contains(text, "done 30/30") {
		t.Errorf("show --watch: %s", text)
	}
}

// A process that is killed while it imports leaves whole pieces behind, and the
// table can be sent again as it is.
func TestImportSurvivesKill(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.account("viber", viberToken, nil)
	const rows = 400000
	table := writeTable(t, func(b *bufio.Writer) {
		fmt.Fprintln(b, "external_id,name")
		for i := range rows {
			fmt.Fprintf(b, "%s,Name %d\n", viberID(i), i)
		}
	})
	_, key, err := w.sys.admin.AddAPIKey(t.Context(), "test", "script")
	if err != nil {
		t.Fatal(err)
	}
	pool := w.sys.db.Pool()
	p := w.spawn(nil, "campaign", "send", table, "--account", "test viber", "--text", "Hello {{name}}", "--draft")
	var id string
	eventually(t, 60*time.Second, "recipients come in", func() bool {
		return pool.QueryRow(t.Context(), `select id from campaigns where accepted > 0`).Scan(&id) == nil
	})
	p.kill()
	check := func() (n int) {
		t.Helper()
		var accepted, counted, packed, last int
		if err := pool.QueryRow(t.Context(), `select accepted, (select sum(delta) from campaign_counts where campaign_id = $1),
			(select sum(cardinality(addresses)) from campaign_blocks where campaign_id = $1), (select max(first_n + cardinality(addresses) - 1) from campaign_blocks where campaign_id = $1)
			from campaigns where id = $1`, id).Scan(&accepted, &counted, &packed, &last); err != nil {
			t.Fatal(err)
		}
		if counted != accepted || packed != accepted || last != accepted {
			t.Fatalf("accepted %d, counted %d, stored %d up to %d", accepted, counted, packed, last)
		}
		return accepted
	}
	// The killed process' last statement may end after it.
	var before int
	eventually(t, patience, "the import's connection is gone", func() bool {
		var locked bool
		return pool.QueryRow(t.Context(), `select exists (select 1 from pg_locks where locktype = 'advisory' and classid = $1)`, 0x636d7069).Scan(&locked) == nil && !locked
	})
	if before = check(); before == 0 || before == rows {
		t.Fatalf("%d recipients were stored at the kill, which tells nothing", before)
	}
	f, err := os.Open(table)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := newCampaignClient(w.http, key)
	got, err := c.put(t.Context(), id, f, "text/csv", false, "")
	if err != nil || got.Accepted != int64(rows-before) || got.Duplicates != int64(before) || got.Rejected != 0 {
		t.Errorf("the table again behind %d: %+v, %v", before, got, err)
	}
	if n := check(); n != rows {
		t.Errorf("%d recipients in the end", n)
	}
}
