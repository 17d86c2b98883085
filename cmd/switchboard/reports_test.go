package main

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"switchboard"
	"switchboard/config"
	"switchboard/internal/dbtest"
	"switchboard/internal/secret"
	"switchboard/message"
	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

// A conversation from its beginning to its end, as reports tell of it, read from a
// "replica" that is the database itself.
func TestReportOfAConversation(t *testing.T) {
	t.Parallel()
	sim, base := simtest.Start(t)
	url := dbtest.URLOf(t)
	w := startOn(t, sim, base, url, bytes.Repeat([]byte{5}, secret.KeySize), func(c *config.Config) { c.ReplicaURL = url })
	account := w.account("telegram", telegramToken, nil)
	boss := w.operator("boss", switchboard.RoleSupervisor)
	token := w.operator("ann", switchboard.RoleOperator)
	op := w.connect(token, nil)
	customer, err := w.sim.Telegram(telegramToken).NewCustomer(simulator.CustomerSpec{FirstName: "Anna"})
	if err != nil {
		t.Fatal(err)
	}
	customer.SendText("where is my order?")
	in := op.message("a question", func(m *message.Message) bool { return m.Text == "where is my order?" })
	op.call("chat.accept", map[string]any{"chat_id": in.ChatID}, nil)
	out := op.send(map[string]any{"chat_id": in.ChatID, "client_id": "c1", "kind": "text", "text": "on its way"})
	op.call("chat.close", map[string]any{"chat_id": in.ChatID}, nil)

	hour := time.Hour
	period := "?from=" + in.CreatedAt.Add(-hour).Format(time.RFC3339) + "&to=" + out.CreatedAt.Add(hour).Format(time.RFC3339) + "&timezone=Asia/Kolkata"
	type row struct {
		In            int      `json:"messages_in"`
		Out           int      `json:"messages_out"`
		Begun         int      `json:"chats_begun"`
		Closed        int      `json:"chats_closed"`
		Served        int      `json:"chats_served"`
		FirstAnswers  int      `json:"first_answers"`
		FirstAnswer   *float64 `json:"first_answer_median"`
		Handled       int      `json:"handled"`
		Handling      *float64 `json:"handling_average"`
		AccountID     string   `json:"account_id"`
		Operator, Day string
	}
	get := func(token, report string) []row {
		t.Helper()
		var table struct{ Items []row }
		w.rest("GET", "/api/v1/reports/"+report+period, token, nil, 200, &table)
		return table.Items
	}
	answered := out.CreatedAt.Sub(in.CreatedAt).Seconds()
	if r := get(boss, "summary"); len(r) != 1 || r[0].In != 1 || r[0].Out != 1 || r[0].Begun != 1 || r[0].Closed != 1 || r[0].FirstAnswers != 1 || r[0].Handled != 1 ||
		*r[0].FirstAnswer < answered-0.002 || *r[0].FirstAnswer > answered+0.002 || *r[0].Handling <= 0 || *r[0].Handling > 60 {
		t.Errorf("summary %+v; answered in %v s", r, answered)
	}
	if r := get(token, "by-operator"); len(r) != 1 || r[0].Operator != "Op ann" || r[0].Served != 1 || r[0].Closed != 1 || r[0].FirstAnswers != 1 {
		t.Errorf("by operator %+v", r)
	}
	if r := get(boss, "by-account"); len(r) != 1 || r[0].AccountID != account {
		t.Errorf("by account %+v", r)
	}
	for _, report := range []string{"by-day", "by-hour", "by-status", "by-campaign", "messages"} {
		if r := get(boss, report); len(r) == 0 && report != "by-campaign" {
			t.Errorf("%s is empty", report)
		}
	}
	for path, want := range map[string]string{"/readyz": "the replica is used for reads", "/metrics": "switchboard_replica_up 1"} {
		res, err := http.Get("http://" + w.sys.cfg.OpsAddr + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 || !strings.Contains(string(text), want) {
			t.Errorf("%s: %d, %v; it says nothing of %q", path, res.StatusCode, err, want)
		}
	}
}
