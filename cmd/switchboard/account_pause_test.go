package main

import (
	"testing"
	"time"

	"switchboard"
	"switchboard/simulator"
)

// What another process pauses and resumes beside a process that has its bus to itself
// holds there without a hint: within the 2 s after which it looks by itself, and the
// quarter of a second for which sends have their slots already.
func TestAccountPausedByCommand(t *testing.T) {
	t.Parallel()
	w := start(t)
	viber := w.account("viber", viberToken, map[string]string{"rate": "20"})
	people, to := w.vibers(600, "")
	b := w.bulk(js{"name": "long", "content": js{"text": "hi"}, "steps": []js{step(viber, nil)}}, to...)
	last := func() (n int, at time.Time) {
		for _, c := range people {
			for _, m := range c.Messages() {
				if m.From == simulator.FromBot {
					if n++; m.At.After(at) {
						at = m.At
					}
				}
			}
		}
		return n, at
	}
	noted := func(action string) time.Time {
		t.Helper()
		list, err := w.sys.db.AuditLog(t.Context(), switchboard.AuditFilter{Action: action, Target: viber}, 1)
		if err != nil || len(list) != 1 {
			t.Fatalf("%s is not in the journal: %v %v", action, list, err)
		}
		return list[0].At
	}
	b.do("start")
	eventually(t, patience, "some are out", func() bool { n, _ := last(); return n > 20 })
	for range 2 {
		w.command(0, nil, "account", "pause", viber)
		time.Sleep(time.Until(noted("account.pause").Add(4 * time.Second)))
		n, at := last()
		late := at.Sub(noted("account.pause"))
		t.Logf("the last of %d was sent %v after the pause", n, late)
		if late > 3*time.Second || n == len(people) {
			t.Errorf("the last of %d messages was sent %v after the pause", n, late)
		}
		w.command(0, nil, "account", "resume", viber)
		eventually(t, patience, "it goes on", func() bool { m, _ := last(); return m > n })
		t.Logf("it went on %v after the resume", time.Since(noted("account.resume")))
	}
}
