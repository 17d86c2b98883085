package simulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"switchboard/simulator"
)

// try makes a request that may have no answer.
func (b *tg) try(method string, params obj, timeout time.Duration) (status int, header http.Header, body []byte, err error) {
	b.t.Helper()
	raw, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url(method), bytes.NewReader(raw))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, body, err
}

func TestFaultsTelegram(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	p := obj{"chat_id": 5, "text": "x"}
	const long, short = 30 * time.Second, 100 * time.Millisecond
	for _, x := range []struct {
		f        simulator.Fault
		timeout  time.Duration
		status   int // 0: no answer
		contains string
		accepted bool
	}{
		{simulator.Fault{Kind: simulator.FaultThrottle, RetryAfter: 17}, long, 429, `"retry_after":17`, false},
		{simulator.Fault{Kind: simulator.FaultError}, long, 500, "Internal Server Error", false},
		{simulator.Fault{Kind: simulator.FaultError, Status: 400, Description: "Bad Request: USER_IS_BLOCKED"}, long, 400, "USER_IS_BLOCKED", false},
		{simulator.Fault{Kind: simulator.FaultHTML}, long, 502, "<html>", false},
		{simulator.Fault{Kind: simulator.FaultHTML, Status: 504}, long, 504, "Gateway Timeout", false},
		{simulator.Fault{Kind: simulator.FaultUnauthorized}, long, 401, "Unauthorized", false},
		{simulator.Fault{Kind: simulator.FaultForbidden, Description: "Forbidden: bot was kicked"}, long, 403, "kicked", false},
		{simulator.Fault{Kind: simulator.FaultBlocked}, long, 403, "bot was blocked by the user", false},
		{simulator.Fault{Kind: simulator.FaultHang}, short, 0, "", false},
		{simulator.Fault{Kind: simulator.FaultHangAfter}, short, 0, "", true},
		{simulator.Fault{Kind: simulator.FaultCut}, long, 0, "", false},
		{simulator.Fault{Kind: simulator.FaultCutAfter}, long, 0, "", true},
		{simulator.Fault{Kind: simulator.FaultSlow, Delay: simulator.Delay(50 * time.Millisecond)}, long, 200, `"ok":true`, true},
	} {
		t.Run(x.f.Kind+x.f.Description, func(t *testing.T) {
			b := &tg{t, b.sim, b.base, b.acct}
			before := len(c.Messages())
			id, err := b.sim.Fault(x.f)
			if err != nil {
				t.Fatal(err)
			}
			defer b.sim.ClearFaults(id)
			start := time.Now()
			status, header, body, err := b.try("sendMessage", p, x.timeout)
			if x.status == 0 && err == nil || x.status != 0 && err != nil {
				t.Fatalf("got %d, %v; want status %d", status, err, x.status)
			}
			if x.timeout == short && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("hang: %v", err)
			}
			wantEq(t, "status", status, x.status)
			if !strings.Contains(string(body), x.contains) {
				t.Errorf("body %s, want %s", body, x.contains)
			}
			if x.f.RetryAfter > 0 {
				wantEq(t, "Retry-After", header.Get("Retry-After"), "17")
			}
			if x.f.Kind == simulator.FaultHTML && !strings.HasPrefix(header.Get("Content-Type"), "text/html") {
				t.Errorf("content type %q", header.Get("Content-Type"))
			}
			if d := time.Since(start); x.f.Delay > 0 && d < time.Duration(x.f.Delay) {
				t.Errorf("answered after %v", d)
			}
			wantEq(t, "accepted", len(c.Messages()) > before, x.accepted)
			wantEq(t, "applied", b.sim.Faults()[0].Applied, 1)
			eventually(t, "recorded", func() bool {
				r := b.acct.Requests("sendMessage")
				last := r[len(r)-1]
				return last.Fault == x.f.Kind && last.Status == x.status
			})
		})
	}
}

// What a slow platform takes in late was sent when it arrived: a limit is kept
// by whoever sends.
func TestSlowCountsByArrival(t *testing.T) {
	t.Parallel()
	const delay = 2100 * time.Millisecond
	slow := simulator.Fault{Kind: simulator.FaultSlow, Delay: simulator.Delay(delay), Count: 1}
	check := func(t *testing.T, began time.Time, r simulator.Rates) {
		for _, s := range r.PerSecond {
			if at := time.Unix(s.Second, 0); s.Sends > 0 && at.After(began.Add(delay/2)) {
				t.Errorf("counted in the second of %v, sent at %v", at, began)
			}
		}
		wantEq(t, "sends", r.Sends, int64(1))
	}
	t.Run("telegram", func(t *testing.T) {
		t.Parallel()
		b := newTG(t, simulator.Config{})
		if _, err := b.sim.Fault(slow); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		b.ok("sendMessage", obj{"chat_id": b.acct.Customer(5).ID(), "text": "late"})
		check(t, began, b.acct.Rates())
	})
	t.Run("viber", func(t *testing.T) {
		t.Parallel()
		b := newVB(t, simulator.Config{NoReceipts: true})
		b.connect(nil)
		if _, err := b.sim.Fault(slow); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		b.want("send_message", msg(b.acct.Customer("").ID(), nil), 0)
		check(t, began, b.acct.Rates())
	})
}

func TestFaultsViber(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{NoReceipts: true})
	b.connect(nil)
	c := b.acct.Customer("")
	for _, x := range []struct {
		f      simulator.Fault
		http   int
		status int64
	}{
		{simulator.Fault{Kind: simulator.FaultThrottle, RetryAfter: 3}, 429, 12},
		{simulator.Fault{Kind: simulator.FaultThrottle, Code: 12}, 200, 12},
		{simulator.Fault{Kind: simulator.FaultError}, 500, 999},
		{simulator.Fault{Kind: simulator.FaultError, Code: 21}, 200, 21},
		{simulator.Fault{Kind: simulator.FaultUnauthorized}, 200, 2},
		{simulator.Fault{Kind: simulator.FaultForbidden}, 200, 7},
		{simulator.Fault{Kind: simulator.FaultForbidden, Code: 9}, 200, 9},
		{simulator.Fault{Kind: simulator.FaultBlocked}, 200, 6},
	} {
		x.f.Count, x.f.Customer = 1, c.ID()
		if _, err := b.sim.Fault(x.f); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(msg(c.ID(), nil))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.base+"/viber/pa/send_message", bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Viber-Auth-Token", vbToken)
		status, _, body := send(t, req)
		wantEq(t, x.f.Kind+" HTTP", status, x.http)
		wantEq(t, x.f.Kind+" status", num(decode(t, body)["status"]), x.status)
	}
	wantEq(t, "none was accepted", len(c.Messages()), 0)
	b.want("send_message", msg(c.ID(), nil), 0)
}

func TestFaultSelection(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{Seed: 4})
	b.acct.Customer(5)
	b.acct.Customer(6)
	outcome := func(n int, chat int, method string) (s string) {
		for range n {
			if b.call(method, obj{"chat_id": chat, "text": "x", "action": "typing"})["ok"] == true {
				s += "."
			} else {
				s += "x"
			}
		}
		return s
	}
	set := func(f simulator.Fault) {
		t.Helper()
		b.sim.ClearFaults()
		f.Kind = simulator.FaultError
		if _, err := b.sim.Fault(f); err != nil {
			t.Fatal(err)
		}
	}
	set(simulator.Fault{After: 2, Count: 3})
	wantEq(t, "after 2, 3 times", outcome(7, 5, "sendMessage"), "..xxx..")
	set(simulator.Fault{Customer: "6"})
	wantEq(t, "the other customer", outcome(2, 5, "sendMessage"), "..")
	wantEq(t, "this customer", outcome(2, 6, "sendMessage"), "xx")
	set(simulator.Fault{Method: "sendchataction"})
	wantEq(t, "another method", outcome(1, 5, "sendMessage"), ".")
	wantEq(t, "this method", outcome(1, 5, "sendChatAction"), "x")
	set(simulator.Fault{Platform: "viber"})
	wantEq(t, "another platform", outcome(1, 5, "sendMessage"), ".")
	set(simulator.Fault{Account: "7000000001"})
	wantEq(t, "account by its public part", outcome(1, 5, "sendMessage"), "x")
	set(simulator.Fault{Account: "7000000002"})
	wantEq(t, "another account", outcome(1, 5, "sendMessage"), ".")
	set(simulator.Fault{Probability: .5})
	if n := strings.Count(outcome(100, 5, "sendMessage"), "x"); n < 30 || n > 70 {
		t.Errorf("half of 100: %d", n)
	}
	if _, err := b.sim.Fault(simulator.Fault{Kind: "flood"}); err == nil {
		t.Error("an unknown kind was taken")
	}
	if _, err := b.sim.Fault(simulator.Fault{Kind: simulator.FaultCut, Probability: 2}); err == nil {
		t.Error("a probability of 2 was taken")
	}
}

// TestHangEndsWithTheSimulator: simtest's cleanup would block otherwise.
func TestHangEndsWithTheSimulator(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	t.Cleanup(func() { <-done }) // runs after simtest's, which must let the request go
	b := newTG(t, simulator.Config{})
	if _, err := b.sim.Fault(simulator.Fault{Kind: simulator.FaultHang, Method: "getMe"}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(done)
		if resp, err := http.Get(b.url("getMe")); err == nil { //nolint:noctx // a test
			resp.Body.Close()
		}
	}()
	b.poll(context.Background(), "timeout=50")
	b.hanging()
}

func TestHalfADownload(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	c := b.acct.Customer(5)
	if _, err := c.SendFile("document", simulator.FileSpec{Size: 100_000}); err != nil {
		t.Fatal(err)
	}
	f := b.ok("getFile", obj{"file_id": at(b.updates(0)[0], "message", "document", "file_id")})
	link := b.base + "/telegram/file/bot" + tgToken + "/" + str(at(f, "file_path"))
	get := func() (int, error) {
		resp, err := http.Get(link) //nolint:noctx // a test
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		return len(raw), err
	}
	if _, err := b.sim.Fault(simulator.Fault{Kind: simulator.FaultCutAfter, Method: "file", Count: 1}); err != nil {
		t.Fatal(err)
	}
	if n, err := get(); err == nil || n >= 100_000 {
		t.Errorf("a cut download gave %d bytes, %v", n, err)
	}
	if n, err := get(); err != nil || n != 100_000 {
		t.Errorf("the next download gave %d bytes, %v", n, err)
	}
}
