package main

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	"switchboard"
	"switchboard/campaigns"
	"switchboard/simulator"
)

// A running campaign whose account is stopped, by hand or because its platform
// refuses the token, says so over the REST API and on the command line, and no more
// when it goes on.
func TestCampaignSaysWhyItWaits(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, map[string]string{"rate": "10"})
	people, to := w.vibers(60, "")
	table := writeTable(t, func(b *bufio.Writer) {
		fmt.Fprintln(b, "external_id")
		for _, r := range to {
			fmt.Fprintln(b, r.address)
		}
	})
	_, key, err := w.sys.admin.AddAPIKey(t.Context(), "test", "script")
	if err != nil {
		t.Fatal(err)
	}
	set := func(state switchboard.AccountState, reason string) {
		t.Helper()
		if err := w.sys.db.SetAccountState(t.Context(), viber, state, reason); err != nil {
			t.Fatal(err)
		}
		w.sys.bus.Wake("accounts")
	}
	set(switchboard.AccountPaused, "the contract is being renewed")
	var made campaigns.Campaign
	w.command(0, &made, "campaign", "send", table, "--account", "test viber", "--text", "Hello", "--json")
	get := func() (c campaigns.Campaign) {
		t.Helper()
		w.rest("GET", "/api/v1/campaigns/"+made.ID, key, nil, 200, &c)
		return c
	}
	waits := func(words string) (c campaigns.Campaign) {
		t.Helper()
		eventually(t, 20*time.Second, "the campaign waits: "+words, func() bool {
			c = get()
			return len(c.Waiting) == 1 && c.Waiting[0].AccountID == viber && strings.Contains(c.Waiting[0].Reason, words) && c.Waiting[0].Messages > 0
		})
		return c
	}
	moves := func() (c campaigns.Campaign) {
		t.Helper()
		was := get().Counts.Queued
		eventually(t, 20*time.Second, "the campaign moves on", func() bool {
			c = get()
			return len(c.Waiting) == 0 && c.Counts.Queued < was
		})
		return c
	}
	if c := waits("the contract is being renewed"); c.State != "running" || c.Counts.Queued != int64(len(to)) || c.ETA != nil {
		t.Errorf("a campaign that waits: %s", asJSON(c))
	}
	for _, args := range [][]string{{"show", made.ID}, {"list"}} {
		text := w.command(0, nil, append([]string{"campaign"}, args...)...)
		if says := strings.Contains(text, "the contract is being renewed ("+viber+")"); says != (args[0] == "show") {
			t.Errorf("%v: %s", args, text)
		}
	}
	watch := w.spawn(nil, "campaign", "show", made.ID, "--watch")
	eventually(t, 20*time.Second, "--watch says why", func() bool { return strings.Contains(watch.logText(), "waiting: the account is paused: the contract") })
	set(switchboard.AccountActive, "")
	moves()

	if _, err := w.sim.Fault(simulator.Fault{Platform: "viber", Kind: simulator.FaultUnauthorized, Count: 1}); err != nil {
		t.Fatal(err)
	}
	waits("the account is paused: ")
	set(switchboard.AccountActive, "")
	moves()
	if code := watch.wait(t, 40*time.Second); code != 0 || !strings.Contains(watch.logText(), "done 60/60") {
		t.Errorf("--watch ended with %d: %s", code, watch.logText())
	}
	for i, c := range people {
		if texts := got(c); len(texts) != 1 {
			t.Errorf("customer %d got %q", i, texts)
		}
	}
}
