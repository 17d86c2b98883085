package main

import (
	"slices"
	"strings"
	"testing"

	"switchboard/message"
	"switchboard/simulator"
)

// A message that is partly sent when its account's limits change is cut to its end
// as it was begun; the next one is cut by the new limits.
func TestLimitsChange(t *testing.T) {
	t.Parallel()
	d := newDesk(t, map[string]string{"text_limit": "100"})
	c := d.customer("telegram", simulator.CustomerSpec{})
	limit := func() int {
		var caps message.Capabilities
		d.rest("GET", "/api/v1/accounts/"+d.accounts["telegram"]+"/capabilities", d.token, nil, 200, &caps)
		return caps.Text.Max
	}
	if n := limit(); n != 100 {
		t.Errorf("the limit is %d", n)
	}
	words := func(i int) string { return strings.Repeat(string(rune('a'+i)), 100) }
	whole := words(0) + words(1) + words(2)[:50]

	fault := d.fault(simulator.Fault{Kind: simulator.FaultError, Platform: "telegram", Method: "sendMessage", After: 1})
	m := d.post(c, map[string]any{"kind": "text", "text": whole, "client_id": "long"})
	polled(t, "first part and the failure of the second", patience, func() bool {
		return len(c.texts()) == 1 && len(d.requests(c, "sendMessage")) > 1
	})
	d.rest("PATCH", "/api/v1/accounts/"+d.accounts["telegram"], d.token, map[string]any{"settings": map[string]string{"text_limit": "4000"}}, 200, nil)
	polled(t, "new limit", patience, func() bool { return limit() == 4000 })
	d.sim.ClearFaults(fault)
	d.reaches(m.ID, message.StatusSent)
	next := d.post(c, map[string]any{"kind": "text", "text": whole, "client_id": "next"})
	d.reaches(next.ID, message.StatusSent)
	if got, want := c.texts(), []string{words(0), words(1), words(2)[:50], whole}; !slices.Equal(got, want) {
		t.Errorf("the customer has %q", got)
	}

	for key, value := range map[string]string{"text_limit": "4097", "image_limit": "11MB", "file_limit": "1 mile"} {
		var p struct{ Detail string }
		d.rest("PATCH", "/api/v1/accounts/"+d.accounts["telegram"], d.token, map[string]any{"settings": map[string]string{key: value}}, 422, &p)
		if !strings.Contains(p.Detail, key) || !strings.Contains(p.Detail, "telegram") {
			t.Errorf("%s=%s: %q", key, value, p.Detail)
		}
	}
}
