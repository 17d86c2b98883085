package simulator_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

func TestControlDialogue(t *testing.T) {
	t.Parallel()
	_, base := simtest.Start(t)
	status, a := control(t, base, "POST", "telegram/accounts", obj{"token": tgToken, "name": "Поддержка"})
	wantEq(t, "account", status, 200)
	wantEq(t, "token", str(a["token"]), tgToken)
	status, made := control(t, base, "POST", "viber/accounts", nil)
	wantEq(t, "made-up account", status, 200)
	if len(strings.Split(str(made["token"]), "-")) != 3 {
		t.Errorf("made-up token: %v", made)
	}
	_, all := control(t, base, "GET", "accounts", nil)
	wantEq(t, "accounts", len(all["items"].([]any)), 2)

	const p = "telegram/7000000001/"
	_, c := control(t, base, "POST", p+"customers", obj{"first_name": "Анна", "avatar": true})
	who := p + "customers/" + str(c["id"])
	_, s := control(t, base, "POST", who+"/text", obj{"text": "Где заказ?"})
	wantEq(t, "message", str(s["message_id"]), "1")
	b := &tg{t: t, base: base}
	wantEq(t, "update", str(at(b.updates(0)[0], "message", "from", "first_name")), "Анна")

	// A waiting read ends when the message comes.
	got := make(chan obj, 1)
	go func() {
		_, m := control(t, base, "GET", who+"/messages?from=bot&wait=20s", nil)
		got <- m
	}()
	b.ok("sendMessage", obj{"chat_id": c["id"], "text": "В пути"})
	m := <-got
	wantEq(t, "inbox", str(at(m, "items", 0, "text")), "В пути")
	_, m = control(t, base, "GET", who+"/messages", nil)
	wantEq(t, "transcript", len(m["items"].([]any)), 2)
	_, m = control(t, base, "GET", who+"/messages?since=1", nil)
	wantEq(t, "since", len(m["items"].([]any)), 1)
	start := time.Now()
	_, m = control(t, base, "GET", who+"/messages?from=bot&wait=50ms&count=2", nil)
	if len(m["items"].([]any)) != 1 || time.Since(start) < 50*time.Millisecond {
		t.Errorf("a wait that times out: %v after %v", m, time.Since(start))
	}

	_, r := control(t, base, "GET", p+"requests?method=sendMessage", nil)
	wantEq(t, "params", str(at(r, "items", 0, "params", "text")), "В пути")
	wantEq(t, "customer", str(at(r, "items", 0, "customer")), str(c["id"]))
	wantEq(t, "path", str(at(r, "items", 0, "path")), "/telegram/bot7000000001:<token>/sendMessage")
	_, r = control(t, base, "GET", p+"rates", nil)
	wantEq(t, "sends", at(r, "sends"), 1)

	status, _ = control(t, base, "PATCH", who, obj{"blocked": true})
	wantEq(t, "patch", status, 200)
	b.fails("sendMessage", obj{"chat_id": c["id"], "text": "x"}, 403, "blocked")
	status, _ = control(t, base, "PATCH", p[:len(p)-1], obj{"revoked": true})
	wantEq(t, "patch", status, 200)
	b.fails("getMe", obj{}, 401, "unauthorized")
	control(t, base, "DELETE", p+"requests", nil)
	_, r = control(t, base, "GET", p+"requests", nil)
	wantEq(t, "forgotten", len(r["items"].([]any)), 0)

	_, many := control(t, base, "POST", p+"customers", obj{"count": 1000, "started": true})
	wantEq(t, "many", len(many["ids"].([]any)), 1000)
	status, _ = control(t, base, "POST", p+"raw", obj{"poll_answer": obj{"x": 1}})
	wantEq(t, "raw", status, 200)
}

func TestControlViberIDs(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{})
	h := b.connect(nil)
	// An id with every character that a path must escape.
	const id = "+/x9aBcD1eFgHiJkLmNo/Q=="
	status, v := control(t, b.base, "POST", "viber/"+b.acct.Ref()+"/customers", obj{"id": id})
	wantEq(t, "created", status, 200)
	wantEq(t, "id", str(v["id"]), id)
	status, _ = control(t, b.base, "POST", "viber/"+b.acct.Ref()+"/customers/"+esc(id)+"/picture", obj{"text": "x"})
	wantEq(t, "action", status, 200)
	wantEq(t, "sender", str(at(h.event(t, "message").v, "sender", "id")), id)
	_, cb := control(t, b.base, "GET", "viber/"+b.acct.Ref()+"/callbacks?event=message&wait=5s", nil)
	wantEq(t, "status", at(cb, "items", 0, "status"), 200)
}

func TestControlErrors(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	b.acct.Customer(5)
	for _, x := range []struct {
		method, path string
		body         any
		status       int
	}{
		{"GET", "icq/1", nil, 404},
		{"GET", "telegram/1", nil, 404},
		{"GET", "telegram/7000000001/customers/9", nil, 404},
		{"POST", "telegram/accounts", obj{"token": "nonsense"}, 400},
		{"POST", "telegram/accounts", obj{"tokken": tgToken}, 400},
		{"POST", "viber/accounts", obj{"token": "nonsense"}, 400},
		{"POST", "telegram/7000000001/customers", obj{"id": "5"}, 400},
		{"POST", "telegram/7000000001/customers", obj{"id": "five"}, 400},
		{"POST", "telegram/7000000001/customers", obj{"count": -1}, 400},
		{"POST", "telegram/7000000001/customers/5/dance", nil, 400},
		{"POST", "telegram/7000000001/customers/5/text", obj{"txt": "x"}, 400},
		{"GET", "telegram/7000000001/customers/5/messages?wait=soon", nil, 400},
		{"GET", "telegram/7000000001/requests?since=x", nil, 400},
		{"POST", "faults", obj{"kind": "flood"}, 400},
		{"POST", "faults", obj{"kind": "slow", "delay": "5"}, 400},
		{"POST", "load", obj{"platform": "telegram", "account": "7000000001", "count": 5}, 400},
		{"DELETE", "load/L9", nil, 400},
	} {
		status, v := control(t, b.base, x.method, x.path, x.body)
		if status != x.status || str(v["error"]) == "" {
			t.Errorf("%s %s: got %d %v, want %d", x.method, x.path, status, v, x.status)
		}
	}
	_, v := control(t, b.base, "POST", "faults", obj{"kind": "slow", "delay": "5ms", "count": 1})
	id := str(v["id"])
	_, v = control(t, b.base, "GET", "faults", nil)
	wantEq(t, "delay", str(at(v, "items", 0, "delay")), "5ms")
	control(t, b.base, "DELETE", "faults/"+id, nil)
	_, v = control(t, b.base, "GET", "faults", nil)
	wantEq(t, "removed", len(v["items"].([]any)), 0)
	_, v = control(t, b.base, "GET", "actions", nil)
	if len(v["telegram"].([]any)) < 25 || len(v["viber"].([]any)) < 20 {
		t.Errorf("actions: %v", v)
	}
}

func TestWaitForRequests(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	got := make(chan obj, 1)
	go func() {
		_, v := control(t, b.base, "GET", "telegram/7000000001/requests?method=getMe&count=3&wait=20s", nil)
		got <- v
	}()
	for range 3 {
		b.ok("getMe", obj{})
	}
	wantEq(t, "requests", len((<-got)["items"].([]any)), 3)
}

func TestLeanKeepsCountersOnly(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{Lean: true})
	c := b.acct.Customer(5)
	for range 50 {
		b.ok("sendMessage", obj{"chat_id": 5, "text": "x"})
	}
	wantEq(t, "records", len(b.acct.Requests("")), 0)
	wantEq(t, "messages kept", len(c.Messages()), 16)
	r := b.acct.Rates()
	wantEq(t, "sends", r.Sends, int64(50))
	total := 0
	for _, s := range r.PerSecond {
		total += s.Sends
	}
	wantEq(t, "sends by second", total, 50)
	b.fails("editMessageText", obj{"chat_id": 5, "message_id": 1, "text": "y"}, 400, "message to edit not found")
	b.ok("editMessageText", obj{"chat_id": 5, "message_id": 50, "text": "y"})
}

func TestRecordingIsBounded(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{KeepRequests: 10})
	for range 25 {
		b.ok("getMe", obj{})
	}
	r := b.acct.Requests("getMe")
	wantEq(t, "kept", len(r), 10)
	wantEq(t, "the newest, in order", r[9].Seq-r[0].Seq, int64(9))
	wantEq(t, "numbered", r[9].Seq, int64(25))
}

func TestLoadThroughPolling(t *testing.T) {
	t.Parallel()
	b := newTG(t, simulator.Config{})
	id, err := b.sim.StartLoad(simulator.LoadSpec{Platform: "telegram", Account: tgToken, Customers: 7, Rate: 5000, Count: 300, Prefix: "test "})
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]string{}
	offset, n := int64(0), 0
	eventually(t, "all came", func() bool {
		for _, u := range b.updates(offset) {
			offset = num(at(u, "update_id")) + 1
			n++
			text := str(at(u, "message", "text"))
			_, number, _ := strings.Cut(text, "#")
			chat := at(u, "message", "chat", "id").(interface{ String() string }).String()
			last[chat] = number
			// Echo, but lose one and double another.
			switch number {
			case "3":
			case "5":
				b.ok("sendMessage", obj{"chat_id": chat, "text": "re " + text})
				fallthrough
			default:
				b.ok("sendMessage", obj{"chat_id": chat, "text": "re " + text})
			}
		}
		return n == 300
	})
	b.updates(offset)
	_, v := control(t, b.base, http.MethodGet, "report", nil)
	r := at(v, "items", 0)
	wantEq(t, "id", str(at(r, "id")), id)
	wantEq(t, "sent", at(r, "sent"), 300)
	wantEq(t, "acked", at(r, "acked"), 300)
	wantEq(t, "pending", at(r, "pending"), 0)
	wantEq(t, "customers", len(last), 7)
	wantEq(t, "missing: one each", at(r, "echo", "missing"), 7)
	wantEq(t, "duplicates: one each", at(r, "echo", "duplicates"), 7)
	wantEq(t, "in order", at(r, "echo", "out_of_order"), 0)
	if p := str(at(r, "p99")); p == "" || p == "0s" {
		t.Errorf("p99: %v", r)
	}
}

func TestLoadThroughWebhook(t *testing.T) {
	t.Parallel()
	b := newVB(t, simulator.Config{RetryBase: time.Millisecond})
	h := b.connect(func(n int, _ received, w http.ResponseWriter) {
		if n%10 == 3 {
			w.WriteHeader(503)
		}
	})
	if _, err := b.sim.StartLoad(simulator.LoadSpec{Platform: "viber", Account: vbToken, Customers: 3, Rate: 5000, Count: 100}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all acknowledged", func() bool { return b.sim.Report()[0].Acked == 100 })
	wantEq(t, "running", b.sim.Report()[0].Running, false)
	seen := map[string]bool{}
	for len(seen) < 100 {
		seen[str(at(h.event(t, "message").v, "message", "text"))] = true
	}
	if _, err := b.sim.StartLoad(simulator.LoadSpec{Platform: "viber", Account: vbToken, Rate: 1, Count: 1_000_000}); err != nil {
		t.Fatal(err)
	}
	if err := b.sim.StopLoad("L2"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "stopped", func() bool { return !b.sim.Report()[1].Running })
}

// TestDemo lets people live a hundred times faster and answers them all.
func TestDemo(t *testing.T) {
	t.Parallel()
	sim, base := simtest.StartConfig(t, simulator.Config{Seed: 3, Demo: &simulator.Demo{Pace: 200}})
	a := sim.Telegram(tgToken)
	b := &tg{t, sim, base, a}
	_, v := control(t, base, "GET", "telegram/7000000001/customers", nil)
	wantEq(t, "nobody before the account is connected", len(v["items"].([]any)), 0)
	offset := int64(0)
	chats, kinds := map[string]int{}, map[string]int{}
	pressed := 0
	eventually(t, "four people told stories, shared files and pressed buttons", func() bool {
		for _, u := range b.updates(offset) {
			offset = num(at(u, "update_id")) + 1
			if at(u, "callback_query") != nil {
				pressed++
				continue
			}
			chat := at(u, "message", "chat", "id").(interface{ String() string }).String()
			chats[chat]++
			for k := range at(u, "message").(obj) {
				kinds[k]++
			}
			b.ok("sendMessage", obj{"chat_id": chat, "text": "Уточните, пожалуйста", "reply_markup": obj{"inline_keyboard": [][]obj{{{"text": "Да", "callback_data": "y"}}}}})
		}
		return len(chats) == 4 && kinds["photo"] > 0 && kinds["text"] > 10 && pressed > 3
	})
	_, v = control(t, base, "GET", "telegram/7000000001/customers", nil)
	wantEq(t, "people", len(v["items"].([]any)), 4)
	wantEq(t, "the first", str(at(v, "items", 0, "user", "first_name")), "Анна")
}

func TestDemoViber(t *testing.T) {
	t.Parallel()
	sim, base := simtest.StartConfig(t, simulator.Config{Seed: 3, Demo: &simulator.Demo{Pace: 200, Customers: 2}})
	b := &vb{t, sim, base, sim.Viber(vbToken)}
	h := b.connect(nil)
	for range 5 {
		r := h.event(t, "message")
		b.want("send_message", msg(str(at(r.v, "sender", "id")), nil), 0)
	}
}

func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	_, base := simtest.Start(t)
	for path, want := range map[string]int{"/": 200, "/icq": 404, "/viber/x": 404, "/viber/media/none/a.jpg": 404, "/viber/pa/send_message": 405} {
		resp, err := http.Get(base + path) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		wantEq(t, path, resp.StatusCode, want)
	}
}

func TestRunOnce(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantEq(t, "first", sim.Run(ctx), nil)
	wantEq(t, "second", sim.Run(ctx), simulator.ErrAlreadyRun)
}
