package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/jpeg"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/config"
	"switchboard/internal/dbtest"
	"switchboard/internal/secret"
	"switchboard/message"
	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

// pictures is a system that is started anew now and then, with people at three
// platforms.
type pictures struct {
	*inbound
	t      *testing.T
	dir    string
	people map[string]*sitter
	said   int
}

// sitter is a customer with, or without, a picture.
type sitter struct {
	name string
	says func(text string) simulator.Sent
	set  func(simulator.CustomerPatch) error
	chat string
	kept string // the picture's address, as operators were told last
}

// getFile downloads an address of ours.
func (p *pictures) getFile(address, token string) (status int, body []byte, kind string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), "GET", p.http+address, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, body, res.Header.Get("Content-Type")
}

// stored says whether the store has the bytes of an address.
func (p *pictures) stored(address string) (found bool) {
	p.t.Helper()
	err := filepath.WalkDir(filepath.Join(p.dir, "files"), func(path string, d fs.DirEntry, err error) error {
		found = found || filepath.Base(path) == strings.TrimPrefix(address, "/files/")
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return found
}

// write makes everybody write once more, and waits until it is here.
func (p *pictures) write() {
	p.t.Helper()
	p.said++
	for _, s := range p.people {
		text := fmt.Sprintf("message %d of %s", p.said, s.name)
		if s.says(text).Dropped {
			p.t.Fatalf("nobody wants what %s writes", s.name)
		}
		s.chat = p.op.message(text, func(m *message.Message) bool { return m.Text == text }).ChatID
	}
}

// avatar is what the REST API says now.
func (p *pictures) avatar(s *sitter) string {
	p.t.Helper()
	var c switchboard.Chat
	p.rest("GET", "/api/v1/chats/"+s.chat, p.token, nil, 200, &c)
	return c.Customer.Avatar
}

// told waits until the operators are told of a picture other than the last one.
func (p *pictures) told(name string) (s *sitter, former string) {
	p.t.Helper()
	s = p.people[name]
	former = s.kept
	p.op.until("event with another picture of "+name, func() bool {
		for _, e := range p.op.events {
			if e.Type == "chat.updated" && e.Chat != nil && e.Chat.ID == s.chat && e.Chat.Customer.Avatar != former {
				s.kept = e.Chat.Customer.Avatar
				return true
			}
		}
		return false
	})
	if got := p.avatar(s); got != s.kept {
		p.t.Errorf("%s: the event says %q, the chat %q", name, s.kept, got)
	}
	return s, former
}

// outcomes is the counter of pictures.
func (p *pictures) outcomes(outcome string) (n float64) {
	p.t.Helper()
	families, err := p.sys.metrics.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "switchboard_customer_pictures_total" {
			for _, m := range f.GetMetric() {
				if m.GetLabel()[0].GetValue() == outcome {
					n = m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

// theirs asks the fake Telegram for the bytes, as a bot would by its documents.
func (p *pictures) theirs(user string, size int) []byte {
	p.t.Helper()
	get := func(address string) []byte {
		p.t.Helper()
		res, err := http.Get(p.base + address) //nolint:noctx // a test
		if err != nil {
			p.t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			p.t.Fatalf("%s: %d %v", address, res.StatusCode, err)
		}
		return b
	}
	var photos struct {
		Result struct {
			Photos [][]struct {
				FileID string `json:"file_id"`
			}
		}
	}
	var file struct {
		Result struct {
			Path string `json:"file_path"`
		}
	}
	if err := json.Unmarshal(get("/telegram/bot"+telegramToken+"/getUserProfilePhotos?user_id="+user), &photos); err != nil {
		p.t.Fatal(err)
	}
	if err := json.Unmarshal(get("/telegram/bot"+telegramToken+"/getFile?file_id="+photos.Result.Photos[0][size].FileID), &file); err != nil {
		p.t.Fatal(err)
	}
	return get("/telegram/file/bot" + telegramToken + "/" + file.Result.Path)
}

// Customers' pictures become files of ours, follow what the platform shows, and
// are fetched from nowhere they must not be.
func TestCustomersPictures(t *testing.T) {
	t.Parallel()
	sim, base := simtest.Start(t)

	// The pictures' own server is away twice before it answers.
	var asked, atHome atomic.Int64
	other := []byte("\x89PNG\r\n\x1a\n of another server")
	cdn := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(other)
	}))
	defer cdn.Close()
	// What listens on our own machine is nobody's picture.
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		atHome.Add(1)
		_, _ = w.Write(other)
	}))
	defer home.Close()

	database, key, dir := dbtest.URLOf(t), bytes.Repeat([]byte{5}, secret.KeySize), t.TempDir()
	p := &pictures{t: t, dir: dir, people: map[string]*sitter{}}
	begin := func() *world {
		return startOn(t, sim, base, database, key, func(cfg *config.Config) {
			cfg.DataDir = dir
			cfg.FetchAllow = append(cfg.FetchAllow, cdn.Listener.Addr().String())
		})
	}
	w := begin()
	bot, community := sim.Telegram(telegramToken), sim.VK(vkToken)
	w.account("telegram", telegramToken, nil)
	viber := w.account("viber", viberToken, nil)
	w.account("vk", vkToken, map[string]string{"group_id": fmt.Sprint(community.GroupID())})
	p.inbound = lookOn(w)
	polled(t, "first long poll", patience, func() bool { return len(community.Requests("groups.getLongPollServer")) > 0 })

	var ann string // her id at Telegram
	for _, spec := range []struct {
		platform string
		simulator.CustomerSpec
	}{
		{"telegram", simulator.CustomerSpec{FirstName: "Ann", Avatar: true}},
		{"telegram", simulator.CustomerSpec{FirstName: "Tim", Avatar: true}},
		{"telegram", simulator.CustomerSpec{FirstName: "Tom"}},
		{"viber", simulator.CustomerSpec{FirstName: "Vera", Avatar: true}},
		{"viber", simulator.CustomerSpec{FirstName: "Vito", Avatar: true, AvatarURL: cdn.URL + "/vito.png"}},
		{"viber", simulator.CustomerSpec{FirstName: "Vlad", Avatar: true, AvatarURL: home.URL + "/admin"}},
		{"viber", simulator.CustomerSpec{FirstName: "Vinz"}},
		{"vk", simulator.CustomerSpec{FirstName: "Kate", Avatar: true}},
		{"vk", simulator.CustomerSpec{FirstName: "Kim", Avatar: true}},
		{"vk", simulator.CustomerSpec{FirstName: "Kai"}},
	} {
		s := &sitter{name: spec.FirstName}
		var err error
		switch spec.platform {
		case "telegram":
			var c *simulator.TelegramCustomer
			if c, err = bot.NewCustomer(spec.CustomerSpec); err == nil {
				s.says, s.set = c.SendText, func(patch simulator.CustomerPatch) error { c.Set(patch); return nil }
				if s.name == "Ann" {
					ann = c.ID()
				}
			}
		case "viber":
			var c *simulator.ViberCustomer
			if c, err = sim.Viber(viberToken).NewCustomer(spec.CustomerSpec); err == nil {
				s.says, s.set = c.SendText, c.Set
			}
		case "vk":
			var c *simulator.VKCustomer
			if c, err = community.NewCustomer(spec.CustomerSpec); err == nil {
				s.says, s.set = c.SendText, c.Set
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		p.people[s.name] = s
	}

	// Telegram's file is away once, too.
	if _, err := sim.Fault(simulator.Fault{Kind: simulator.FaultError, Platform: "telegram", Method: "getFile", Status: 500, Count: 1}); err != nil {
		t.Fatal(err)
	}
	p.write()
	sides := map[string]int{"Ann": 320, "Tim": 320, "Vera": 720, "Kate": 200, "Kim": 200}
	for name, side := range sides {
		s, _ := p.told(name)
		status, body, kind := p.getFile(s.kept, p.token)
		conf, err := jpeg.DecodeConfig(bytes.NewReader(body))
		if status != 200 || kind != "image/jpeg" || err != nil || conf.Width != side || conf.Height != side {
			t.Errorf("%s: %s is %d %s %+v %v, want a JPEG of %d", name, s.kept, status, kind, conf, err, side)
		}
		if status, _, _ := p.getFile(s.kept, ""); status != 401 {
			t.Errorf("%s: a stranger gets %d", name, status)
		}
	}
	first := p.people["Ann"].kept
	if _, body, _ := p.getFile(first, p.token); !bytes.Equal(body, p.theirs(ann, 1)) {
		t.Error("Ann's picture is not Telegram's")
	}
	vito, _ := p.told("Vito")
	if status, body, _ := p.getFile(vito.kept, p.token); status != 200 || !bytes.Equal(body, other) || asked.Load() != 3 {
		t.Errorf("Vito: %d %q after %d requests", status, body, asked.Load())
	}
	polled(t, "refusal of Vlad's address", patience, func() bool { return p.outcomes("refused") == 1 })

	// Nobody is asked for again, however much they write.
	p.write()
	p.write()
	for name, want := range map[string]int{"Telegram's photos": 3, "VK's people": 3} {
		got := bot.Requests("getUserProfilePhotos")[1:] // one was ours
		if name == "VK's people" {
			got = community.Requests("users.get")
		} else if len(got) > want {
			t.Logf("asked: %s", asJSON(got))
		}
		if len(got) != want {
			t.Errorf("%s were asked for %d times, want %d", name, len(got), want)
		}
	}
	for _, name := range []string{"Tom", "Vlad", "Vinz", "Kai"} {
		if got := p.avatar(p.people[name]); got != "" {
			t.Errorf("%s has a picture: %s", name, got)
		}
	}
	if n := atHome.Load(); n > 0 {
		t.Errorf("our own machine was asked %d times", n)
	}

	// Some hours later, in another process.
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `update customers set profile_at = profile_at - interval '6 hours 1 minute'`); err != nil {
		t.Fatal(err)
	}
	w = begin()
	if _, err := w.sys.admin.CheckAccount(t.Context(), "test", viber); err != nil { // on another port, so the webhook moves
		t.Fatal(err)
	}
	p.inbound = &inbound{w, p.token, w.connect(p.token, nil)}
	for name, patch := range map[string]simulator.CustomerPatch{
		"Ann":  {Picture: new(uint64(1))},
		"Vera": {Picture: new(uint64(1))},
		"Kate": {Picture: new(uint64(1))},
		"Tim":  {Avatar: new(false)},
		"Kim":  {Avatar: new(false)},
		"Tom":  {Avatar: new(true)},
		"Vito": {AvatarURL: new(cdn.URL + "/vito.png?signed=anew")},
	} {
		if err := p.people[name].set(patch); err != nil {
			t.Fatal(err)
		}
	}
	p.write()
	for name, hidden := range map[string]bool{"Ann": false, "Vera": false, "Kate": false, "Tom": false, "Tim": true, "Kim": true} {
		s, former := p.told(name)
		if (s.kept == "") != hidden {
			t.Errorf("%s: %q", name, s.kept)
		}
		if !hidden {
			if status, body, _ := p.getFile(s.kept, p.token); status != 200 || len(body) == 0 {
				t.Errorf("%s: %s is %d", name, s.kept, status)
			}
		}
		if former == "" {
			continue
		}
		if status, _, _ := p.getFile(former, p.token); status != 404 {
			t.Errorf("%s: the former picture is %d", name, status)
		}
		polled(t, "removal of the former picture's bytes", patience, func() bool { return !p.stored(former) })
	}
	if _, body, _ := p.getFile(p.people["Ann"].kept, p.token); !bytes.Equal(body, p.theirs(ann, 1)) {
		t.Error("Ann's new picture is not Telegram's")
	}
	// The same bytes under another address are not stored twice.
	polled(t, "second look at Vito", patience, func() bool { return asked.Load() == 4 && p.outcomes("same") == 1 })
	if got := p.avatar(vito); got != vito.kept {
		t.Errorf("Vito's picture moved from %s to %s", vito.kept, got)
	}
	if !p.stored(vito.kept) {
		t.Error("Vito's picture is gone")
	}
	for _, name := range []string{"Vlad", "Vinz", "Kai"} {
		if got := p.avatar(p.people[name]); got != "" {
			t.Errorf("%s has a picture: %s", name, got)
		}
	}
	if n := atHome.Load(); n > 0 {
		t.Errorf("our own machine was asked %d times", n)
	}
}
