package simulator_test

import (
	"bytes"
	"fmt"
	"image/jpeg"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

const vkToken = "vk1.a.test-token"

// vk is a community under test.
type vk struct {
	t    *testing.T
	sim  *simulator.Simulator
	base string
	acct *simulator.VKAccount
}

func newVK(t *testing.T, cfg simulator.Config) *vk {
	t.Helper()
	sim, base := simtest.StartConfig(t, cfg)
	return &vk{t, sim, base, sim.VK(vkToken)}
}

// call makes a call: name, value, name, value ...
func (v *vk) call(method string, pairs ...string) obj {
	v.t.Helper()
	form := url.Values{"v": {"5.199"}, "group_id": {fmt.Sprint(v.acct.GroupID())}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequestWithContext(v.t.Context(), "POST", v.base+"/vk/method/"+method, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+vkToken)
	status, _, b := send(v.t, req)
	if status != 200 {
		v.t.Fatalf("%s: HTTP %d", method, status)
	}
	return decode(v.t, b)
}

// refused wants an error code.
func (v *vk) refused(code int, method string, pairs ...string) {
	v.t.Helper()
	wantEq(v.t, method+fmt.Sprint(pairs), at(v.call(method, pairs...), "error", "error_code"), code)
}

func (v *vk) poll(server, key string, ts any) obj {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), "GET", fmt.Sprintf("%s?act=a_check&key=%s&ts=%v&wait=1", server, key, ts), http.NoBody)
	if err != nil {
		v.t.Fatal(err)
	}
	_, _, b := send(v.t, req)
	return decode(v.t, b)
}

func (v *vk) longPoll() (server, key, ts string) {
	v.t.Helper()
	v.call("groups.setLongPollSettings", "enabled", "1", "message_new", "1", "message_reply", "0", "message_event", "1", "message_read", "1")
	got := v.call("groups.getLongPollServer")
	return str(at(got, "response", "server")), str(at(got, "response", "key")), str(at(got, "response", "ts"))
}

func TestVKLongPoll(t *testing.T) {
	t.Parallel()
	v := newVK(t, simulator.Config{PollHoldMax: 100 * time.Millisecond})
	v.refused(100, "groups.getLongPollServer") // not switched on
	u := v.acct.Customer("")
	if s := u.SendText("early"); !s.Dropped {
		t.Error("an event was kept before it was asked for")
	}
	server, key, ts := v.longPoll()
	idle := v.poll(server, key, ts)
	wantEq(t, "idle ts", str(at(idle, "ts")), ts)
	u.SendText("one")
	u.SendText("two")
	got := v.poll(server, key, ts)
	wantEq(t, "first", at(got, "updates", 0, "object", "message", "text"), "one")
	wantEq(t, "second", at(got, "updates", 1, "object", "message", "text"), "two")
	wantEq(t, "v", at(got, "updates", 0, "v"), "5.199")
	wantEq(t, "again", at(v.poll(server, key, ts), "updates", 1, "event_id"), at(got, "updates", 1, "event_id"))
	if v.acct.Pending() != 2 {
		t.Errorf("%d pending", v.acct.Pending())
	}
	v.poll(server, key, at(got, "ts"))
	if v.acct.Pending() != 0 {
		t.Errorf("%d pending after the next cursor", v.acct.Pending())
	}
	v.acct.ExpireKey()
	wantEq(t, "old key", at(v.poll(server, key, ts), "failed"), 2)
	server, key, _ = v.longPoll()
	v.acct.ForgetHistory()
	lost := v.poll(server, key, ts)
	wantEq(t, "old ts", at(lost, "failed"), 1)
	wantEq(t, "its ts", at(lost, "ts"), 1413)
	v.acct.LoseSession()
	wantEq(t, "lost", at(v.poll(server, key, "1413"), "failed"), 3)
	if _, err := v.sim.Fault(simulator.Fault{Kind: simulator.FaultDuplicate, Count: 1}); err != nil {
		t.Fatal(err)
	}
	server, key, ts = v.longPoll()
	u.SendText("twice")
	got = v.poll(server, key, ts)
	wantEq(t, "twin", at(got, "updates", 0, "event_id"), at(got, "updates", 1, "event_id"))
}

func TestVKSendRules(t *testing.T) {
	t.Parallel()
	v := newVK(t, simulator.Config{})
	u := v.acct.Customer("77001122")
	stranger, err := v.acct.NewCustomer(simulator.CustomerSpec{})
	if err != nil {
		t.Fatal(err)
	}
	sent := v.call("messages.send", "peer_ids", "77001122,5,"+stranger.ID(), "random_id", "7", "message", "hello")
	wantEq(t, "cmid", at(sent, "response", 0, "conversation_message_id"), 101)
	wantEq(t, "unknown", at(sent, "response", 1, "error", "code"), 901)
	wantEq(t, "never wrote", at(sent, "response", 2, "error", "code"), 901)
	again := v.call("messages.send", "peer_id", "77001122", "random_id", "7", "message", "hello")
	wantEq(t, "same random_id", num(at(again, "response")), num(at(sent, "response", 0, "message_id")))
	if n := len(u.Messages()); n != 1 {
		t.Errorf("the customer has %d messages", n)
	}
	long := strings.Repeat("я", 4096)
	v.call("messages.send", "peer_ids", "77001122", "random_id", "8", "message", long)
	for _, row := range []struct {
		code  int
		pairs []string
	}{
		{914, []string{"message", long + "я"}},
		{100, []string{"message", " "}},
		{100, []string{"message", "x", "random_id", ""}},
		{100, []string{"message", "x", "random_id", "2147483648"}},
		{100, []string{"attachment", "photo-1_2"}},
		{100, []string{"lat", "91", "long", "0", "message", "x"}},
		{913, []string{"message", "x", "forward", `{"peer_id":77001122,"conversation_message_ids":[1` + strings.Repeat(",1", 100) + `]}`}},
		{911, []string{"message", "x", "keyboard", `{"inline":true,"one_time":true,"buttons":[]}`}},
		{911, []string{"message", "x", "keyboard", `{"buttons":[[{"action":{"type":"text","label":"` + strings.Repeat("я", 41) + `"}}]]}`}},
		{911, []string{"message", "x", "keyboard", `{"buttons":[[{"action":{"type":"text","label":"a","payload":"y"}}]]}`}},
		{911, []string{"message", "x", "keyboard", `{"buttons":[[{"action":{"type":"open_link","label":"a","link":"https://a"},"color":"primary"}]]}`}},
	} {
		pairs := append([]string{"peer_ids", "77001122", "random_id", "9"}, row.pairs...)
		v.refused(row.code, "messages.send", pairs...)
	}
	if _, err := u.Do("deny", simulator.VKAction{}); err != nil {
		t.Fatal(err)
	}
	v.refused(901, "messages.send", "peer_id", "77001122", "random_id", "10", "message", "x")
	if _, err := u.Do("blacklist", simulator.VKAction{}); err != nil {
		t.Fatal(err)
	}
	v.refused(900, "messages.send", "peer_id", "77001122", "random_id", "10", "message", "x")
	revoked := true
	v.acct.Set(simulator.AccountOptions{Revoked: &revoked})
	v.refused(5, "groups.getById")
}

func (v *vk) upload(address, field, name string, body []byte) obj {
	v.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part, err := w.CreateFormFile(field, name)
	if err != nil {
		v.t.Fatal(err)
	}
	part.Write(body) //nolint:errcheck // into memory
	w.Close()        //nolint:errcheck // into memory
	req, err := http.NewRequestWithContext(v.t.Context(), "POST", address, &b)
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	_, _, answer := send(v.t, req)
	return decode(v.t, answer)
}

func TestVKUploads(t *testing.T) {
	t.Parallel()
	v := newVK(t, simulator.Config{})
	u := v.acct.Customer("77001122")
	address := func(method, kind string) string {
		return str(at(v.call(method, "peer_id", "77001122", "type", kind), "response", "upload_url"))
	}
	link := address("docs.getMessagesUploadServer", "doc")
	file := str(at(v.upload(link, "file", "a.txt", []byte("words")), "file"))
	if at(v.upload(link, "file", "a.txt", []byte("words")), "error") == nil {
		t.Error("an address is good twice")
	}
	saved := v.call("docs.save", "file", file, "title", "b.txt")
	wantEq(t, "title", at(saved, "response", "doc", "title"), "b.txt")
	v.refused(100, "docs.save", "file", file)
	for name, body := range map[string]string{"a.mp3": "ID3", "a.exe": "MZ", "a.txt": ""} {
		if at(v.upload(address("docs.getMessagesUploadServer", "doc"), "file", name, []byte(body)), "error") == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if at(v.upload(address("docs.getMessagesUploadServer", "doc"), "photo", "a.txt", []byte("words")), "error") == nil {
		t.Error("a wrong field was taken")
	}
	wantEq(t, "no picture", str(at(v.upload(address("photos.getMessagesUploadServer", ""), "photo", "a.jpg", []byte("words")), "photo")), "[]")
	voice := str(at(v.upload(address("docs.getMessagesUploadServer", "audio_message"), "file", "v.ogg", []byte("no ogg")), "file"))
	v.refused(10, "docs.save", "file", voice)
	name := fmt.Sprintf("doc-%d_%d", v.acct.GroupID(), num(at(saved, "response", "doc", "id")))
	v.call("messages.send", "peer_ids", "77001122", "random_id", "1", "attachment", name)
	m := u.Messages()[0]
	if len(m.Files) != 1 || m.Files[0].Name != "b.txt" || m.Files[0].Size != 5 {
		t.Errorf("%+v", m.Files)
	}
	// What is not given again is gone.
	v.call("messages.edit", "peer_id", "77001122", "cmid", m.ID, "message", "only words")
	if m = u.Messages()[0]; len(m.Files) != 0 || m.Text != "only words" {
		t.Errorf("%+v", m)
	}
	if _, err := u.Do("age", simulator.VKAction{By: simulator.Delay(25 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	v.refused(909, "messages.edit", "peer_id", "77001122", "cmid", m.ID, "message", "x")
	wantEq(t, "delete", at(v.call("messages.delete", "peer_id", "77001122", "cmids", m.ID, "delete_for_all", "1"), "response", 0, "error", "code"), 924)
}

func TestVKCallback(t *testing.T) {
	t.Parallel()
	v := newVK(t, simulator.Config{RetryBase: 10 * time.Millisecond})
	var mu sync.Mutex
	var got []obj
	answer := "ok"
	arrived := make(chan struct{}, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		o := decode(t, b)
		if o["type"] == "confirmation" {
			io.WriteString(w, v.acct.Confirmation()) //nolint:errcheck // a test's answer
			return
		}
		mu.Lock()
		got = append(got, o)
		io.WriteString(w, answer) //nolint:errcheck // a test's answer
		mu.Unlock()
		arrived <- struct{}{}
	}))
	t.Cleanup(hook.Close)
	wrong := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(wrong.Close)
	v.refused(100, "groups.addCallbackServer", "url", hook.URL, "title", "longer than fourteen")
	id := num(at(v.call("groups.addCallbackServer", "url", hook.URL, "title", "t", "secret_key", "sss"), "response", "server_id"))
	v.call("groups.setCallbackSettings", "server_id", fmt.Sprint(id), "message_new", "1")
	v.call("groups.addCallbackServer", "url", wrong.URL, "title", "t")
	list := v.call("groups.getCallbackServers")
	wantEq(t, "ok", at(list, "response", "items", 0, "status"), "ok")
	wantEq(t, "failed", at(list, "response", "items", 1, "status"), "failed")
	u := v.acct.Customer("")
	mu.Lock()
	answer = "OK" // which is not ok
	mu.Unlock()
	u.SendText("hello")
	<-arrived
	mu.Lock()
	answer = "ok"
	mu.Unlock()
	<-arrived
	mu.Lock()
	defer mu.Unlock()
	wantEq(t, "secret", got[0]["secret"], "sss")
	wantEq(t, "again", got[1]["event_id"], got[0]["event_id"])
	if s, err := u.Do("typing", simulator.VKAction{}); err != nil || !s.Dropped {
		t.Errorf("an event that is not ticked was sent: %+v %v", s, err)
	}
}

func TestVKPress(t *testing.T) {
	t.Parallel()
	v := newVK(t, simulator.Config{PollHoldMax: 100 * time.Millisecond, NoReceipts: true})
	server, key, ts := v.longPoll()
	u := v.acct.Customer("77001122")
	v.call("messages.send", "peer_ids", "77001122", "random_id", "1", "message", "x", "keyboard", `{"inline":true,"buttons":[[{"action":{"type":"callback","label":"Yes","payload":"{\"a\":1}"}}]]}`)
	s, err := u.Press("Yes")
	if err != nil {
		t.Fatal(err)
	}
	event := at(v.poll(server, key, ts), "updates", 0)
	wantEq(t, "type", at(event, "type"), "message_event")
	wantEq(t, "payload", at(event, "object", "payload", "a"), 1)
	v.refused(100, "messages.sendMessageEventAnswer", "event_id", str(at(event, "event_id")), "user_id", "77001122", "peer_id", "77001122")
	wantEq(t, "answer", at(v.call("messages.sendMessageEventAnswer", "event_id", str(at(event, "object", "event_id")), "user_id", "77001122", "peer_id", "77001122"), "response"), 1)
	if !v.acct.Answered(s.MessageID) {
		t.Error("the press was not answered")
	}
}

// Every action can be done, and its event can be fetched.
func TestVKActions(t *testing.T) {
	t.Parallel()
	v := newVK(t, simulator.Config{})
	v.longPoll()
	u := v.acct.Customer("77001122")
	for _, name := range simulator.VKActions() {
		if name == "press" || name == "raw" {
			continue
		}
		if name == "edit" {
			u.SendText("to edit")
		}
		if _, err := u.Do(name, simulator.VKAction{Text: "x"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(u.Transcript()); n < 15 {
		t.Errorf("%d messages", n)
	}
}

// Who has no picture has the drawing of a camera, and has_photo tells them apart.
func TestVKPictures(t *testing.T) {
	t.Parallel()
	v := newVK(t, simulator.Config{})
	with, err := v.acct.NewCustomer(simulator.CustomerSpec{Avatar: true})
	if err != nil {
		t.Fatal(err)
	}
	without, err := v.acct.NewCustomer(simulator.CustomerSpec{})
	if err != nil {
		t.Fatal(err)
	}
	look := func(id string) (has any, address string) {
		t.Helper()
		r := v.call("users.get", "user_ids", id, "fields", "photo_200,has_photo")
		return at(r, "response", 0, "has_photo"), str(at(r, "response", 0, "photo_200"))
	}
	has, first := look(with.ID())
	wantEq(t, "has_photo", has, 1)
	if has, camera := look(without.ID()); num(has) != 0 || !strings.HasSuffix(camera, "/icon.png") {
		t.Errorf("without a picture: %v %s", has, camera)
	}
	resp, err := http.Get(first) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	conf, err := jpeg.DecodeConfig(resp.Body)
	resp.Body.Close()
	if err != nil || conf.Width != 200 || conf.Height != 200 {
		t.Errorf("picture: %+v %v", conf, err)
	}
	for _, patch := range []simulator.CustomerPatch{{Picture: new(uint64(1))}, {AvatarURL: new("https://cdn.example/x.jpg")}, {Avatar: new(false)}} {
		if err := with.Set(patch); err != nil {
			t.Fatal(err)
		}
		_, next := look(with.ID())
		if next == first {
			t.Errorf("%+v changes nothing", patch)
		}
		first = next
	}
}
