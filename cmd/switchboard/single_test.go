package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"switchboard/internal/dbtest"
	"switchboard/internal/secret"
	"switchboard/message"
	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

// single is one process with all roles, behind a door that stays while the
// process comes and goes.
func single(t *testing.T) (*fleet, *simulator.Simulator) {
	t.Helper()
	f := newFleet(t, map[string][]string{"all": {"serve"}}, nil)
	f.door = openDoor(t, []route{{services: []string{"all"}}}, f.address).URL
	sim, base := simtest.StartConfig(t, simulator.Config{KeepMessages: 20_000, RetryBase: 200 * time.Millisecond, RetryMax: time.Second})
	settings := map[string]string{
		"SWITCHBOARD_DATABASE_URL": dbtest.URLOf(t), "SWITCHBOARD_DATA_DIR": filepath.Join(f.dir, "data"),
		"SWITCHBOARD_HTTP_ADDR": "127.0.0.1:0", "SWITCHBOARD_OPS_ADDR": "127.0.0.1:0", "SWITCHBOARD_PUBLIC_URL": f.door,
		"SWITCHBOARD_MASTER_KEY":  base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, secret.KeySize)),
		"SWITCHBOARD_FETCH_ALLOW": strings.TrimPrefix(base, "http://"),
	}
	f.env = map[string]map[string]string{"all": settings, "admin": settings}
	f.start(t, "all")
	f.prepare(t, sim, base, "ann")
	return f, sim
}

// All roles in one process: SIGTERM under load ends it with exit code 0 within
// 30 s, kill -9 does not matter either, and what was under way goes on after the
// next start, once and in order. A second process on the same database is refused.
func TestOneProcess(t *testing.T) {
	t.Parallel()
	f, sim := single(t)
	ann := f.operator(t, "ann", []string{"all"})
	var talks []*talk
	for i := range 2 {
		tg, err := sim.Telegram(telegramToken).NewCustomer(simulator.CustomerSpec{FirstName: fmt.Sprint("T", i)})
		if err != nil {
			t.Fatal(err)
		}
		vb, err := sim.Viber(viberToken).NewCustomer(simulator.CustomerSpec{FirstName: fmt.Sprint("V", i)})
		if err != nil {
			t.Fatal(err)
		}
		talks = append(talks, greet(t, tg, ann), greet(t, vb, ann))
	}

	flow := startFlow(t, "one", talks, pace)
	second := launch(t, t, "second process", f.dir, f.env["all"], "", "serve")
	if code := second.wait(t, patience); code != 1 || !strings.Contains(second.logText(), "SWITCHBOARD_ZOOKEEPER_SERVERS") {
		t.Errorf("a second process on the database ended with exit code %d: %s", code, second.logText())
	}
	heard := func(text string) {
		t.Helper()
		ann.message(t, text, func(m *message.Message) bool { return m.Text == text })
	}
	took := f.process("all").terminate(t)
	f.start(t, "all")
	talks[0].say("after the start")
	heard("after the start")
	t.Logf("terminated in %v; %v", took.Round(time.Millisecond), flow.finish(t, f.door))

	flow = startFlow(t, "killed", talks, pace)
	flow.cutOff = true
	heard("killed in 10")
	killed := time.Now()
	f.process("all").kill()
	f.start(t, "all")
	back := time.Since(killed)
	at := time.Now()
	talks[0].say("after the kill")
	heard("after the kill")
	t.Logf("killed; ready again after %v, messages flow %v later; %v", back.Round(time.Millisecond), time.Since(at).Round(time.Millisecond), flow.finish(t, f.door))
	f.process("all").terminate(t)
}

// The demo is killed in the middle of its customers' talk. It starts again on its
// data, and no Postgres is left of the first one.
func TestKilledDemo(t *testing.T) {
	t.Parallel()
	dir := dbtest.Dir(t)
	t.Cleanup(func() { // the folder is removed after that
		for deadline := time.Now().Add(patience); len(processesOn(dir)) > 0 && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
		}
	})
	env := map[string]string{"SWITCHBOARD_DATA_DIR": dir, "SWITCHBOARD_HTTP_ADDR": "127.0.0.1:0", "SWITCHBOARD_OPS_ADDR": "127.0.0.1:0", "HOME": os.Getenv("HOME")}
	demo := func() (p *process, base, token string) {
		began := time.Now()
		p = launch(t, t, "demo", t.TempDir(), env, "", "demo")
		var found []string
		eventually(t, 60*time.Second, "the demo says where it is", func() bool {
			if p.gone() {
				t.Fatalf("the demo ended with exit code %d: %s", p.code, p.tail(10))
			}
			found = regexp.MustCompile(`(?s)desk: (http://\S+)/\n.*password: (\S+)\n`).FindStringSubmatch(p.output())
			return found != nil
		})
		t.Logf("the demo was up after %v", time.Since(began).Round(time.Millisecond))
		token, _ = login(t, found[1], demoLogin, found[2])
		return p, found[1], token
	}
	type chat struct {
		ID          string
		LastMessage struct{ Seq int64 } `json:"last_message"`
	}
	chats := func(base, token string) (items []chat) {
		var page struct{ Items []chat }
		if status, body := get(base+"/api/v1/chats?limit=100", token); status == http.StatusOK {
			if err := json.Unmarshal([]byte(body), &page); err != nil {
				t.Fatal(err)
			}
		}
		return page.Items
	}
	first, base, token := demo()
	var before []chat
	eventually(t, 60*time.Second, "customers write", func() bool { before = chats(base, token); return len(before) >= 2 })
	postmasters := processesOn(dir)
	if len(postmasters) == 0 {
		t.Fatal("no process works on the data folder")
	}
	first.kill()

	again, base, token := demo()
	after := chats(base, token)
	for _, c := range before {
		i := slices.IndexFunc(after, func(x chat) bool { return x.ID == c.ID })
		if i < 0 || after[i].LastMessage.Seq < c.LastMessage.Seq {
			t.Errorf("chat %+v is lost; after the start there are %+v", c, after)
		}
	}
	for _, pid := range processesOn(dir) {
		if slices.Contains(postmasters, pid) {
			t.Errorf("process %d of the killed demo works on the data still", pid)
		}
	}
	t.Logf("terminated in %v", again.terminate(t).Round(time.Millisecond))
	if left := processesOn(dir); len(left) > 0 {
		t.Errorf("after the end processes %v work on the data", left)
	}
}

// processesOn are the Postgres servers whose command line names the folder.
func processesOn(dir string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // fails for bad patterns only
	for _, file := range files {
		line, err := os.ReadFile(file)
		var pid int
		if _, scan := fmt.Sscanf(file, "/proc/%d/", &pid); err == nil && scan == nil && bytes.Contains(line, []byte("-D\x00"+dir)) && syscall.Kill(pid, 0) == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
