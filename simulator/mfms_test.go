package simulator_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

const mfmsToken = "acme:s3cret of MFMS"

// mfmsNumber is a number under test.
type mfmsNumber struct {
	t    *testing.T
	sim  *simulator.Simulator
	base string
	acct *simulator.MFMSAccount
	ids  atomic.Int64
}

func newMFMSNumber(t *testing.T, cfg simulator.Config) *mfmsNumber {
	t.Helper()
	sim, base := simtest.StartConfig(t, cfg)
	return &mfmsNumber{t: t, sim: sim, base: base, acct: sim.MFMS(mfmsToken)}
}

func (n *mfmsNumber) do(method, path, body string, prepare func(*http.Request)) (int, http.Header, []byte) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.base+"/mfms/api/"+path, strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.SetBasicAuth("acme", "s3cret of MFMS")
	if prepare != nil {
		prepare(req)
	}
	return send(n.t, req)
}

// post sends a message; id, subject and address are added where more lacks them.
func (n *mfmsNumber) post(path string, more obj) obj {
	n.t.Helper()
	body := obj{"id": fmt.Sprintf("0198c0de-0000-7000-8000-%012d", n.ids.Add(1)), "subject": "ACME_WA", "address": "79261234567", "contentType": "text", "text": "x"}
	for k, v := range more {
		if body[k] = v; v == nil {
			delete(body, k)
		}
	}
	b, err := json.Marshal(body)
	if err != nil {
		n.t.Fatal(err)
	}
	_, _, raw := n.do("POST", path, string(b), nil)
	return decode(n.t, raw)
}

type mfmsCallback struct {
	auth string
	body any
}

// hook enters a receiver's address and returns what it gets.
func (n *mfmsNumber) hook(answer func(n int) int) chan mfmsCallback {
	n.t.Helper()
	got := make(chan mfmsCallback, 100)
	var count atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		var v any
		if json.Unmarshal(b, &v) == nil {
			got <- mfmsCallback{r.Header.Get("Authorization"), v}
		}
		w.WriteHeader(answer(int(count.Add(1))))
	}))
	n.t.Cleanup(srv.Close)
	n.acct.SetWebhook(strings.Replace(srv.URL, "http://", "http://switchboard:s3cret-pass@", 1) + "/hook")
	return got
}

func nextMFMS(t *testing.T, got chan mfmsCallback) obj {
	t.Helper()
	select {
	case v := <-got:
		if v.auth != "Basic c3dpdGNoYm9hcmQ6czNjcmV0LXBhc3M=" {
			t.Errorf("authorised as %q", v.auth)
		}
		body, _ := v.body.(obj)
		return body
	case <-time.After(10 * time.Second):
		t.Fatal("no callback")
		return nil
	}
}

// Credentials are a key or login and password.
func TestMFMSAuth(t *testing.T) {
	t.Parallel()
	n := newMFMSNumber(t, simulator.Config{})
	n.sim.MFMS("a-key-0123")
	for name, c := range map[string]struct {
		prepare func(*http.Request)
		status  int
	}{
		"basic":          {nil, 200},
		"key":            {func(r *http.Request) { r.Header.Del("Authorization"); r.Header.Set("X-API-KEY", "a-key-0123") }, 200},
		"nothing":        {func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		"wrong password": {func(r *http.Request) { r.SetBasicAuth("acme", "x") }, 401},
		"wrong key":      {func(r *http.Request) { r.Header.Set("X-API-KEY", "other") }, 401},
	} {
		if status, _, body := n.do("GET", "imOutMessage/x", "", c.prepare); status != c.status {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	n.acct.Set(simulator.AccountOptions{Revoked: new(true)})
	if status, _, body := n.do("GET", "imOutMessage/x", "", nil); status != 401 || !strings.Contains(string(body), "error-unauthorized") {
		t.Errorf("revoked: %d %s", status, body)
	}
}

// What the documents refuse is refused with their codes.
func TestMFMSRefuses(t *testing.T) {
	t.Parallel()
	n := newMFMSNumber(t, simulator.Config{AutoCustomers: true})
	button := func(kind, text, payload string) obj { return obj{"type": kind, "text": text, "payload": payload} }
	rows := func(b ...obj) obj { return obj{"rows": []obj{{"buttons": b}}} }
	yes := button("QUICK_REPLY", "Yes", "y")
	image := obj{"contentType": "image", "text": nil, "attachmentUrl": "https://files.example.org/a.jpg"}
	with := func(o obj, k string, v any) obj {
		c := obj{k: v}
		for key, value := range o {
			if key != k {
				c[key] = value
			}
		}
		return c
	}
	wantEq(t, "first", n.post("imOutMessage", nil)["code"], "ok")
	for name, c := range map[string]struct {
		more obj
		code string
	}{
		"no id":           {obj{"id": nil}, "error-syntax"},
		"id of 36":        {obj{"id": strings.Repeat("x", 36)}, "ok"},
		"id of 37":        {obj{"id": strings.Repeat("x", 37)}, "error-syntax"},
		"no subject":      {obj{"subject": nil}, "error-subject-format"},
		"other subject":   {obj{"subject": "OTHER"}, "error-subject-unknown"},
		"no address":      {obj{"address": nil}, "error-address-not-specified"},
		"address with +":  {obj{"address": "+79261234567"}, "error-address-format"},
		"priority":        {obj{"priority": "urgent"}, "error-priority-format"},
		"start":           {obj{"startTime": "tomorrow"}, "error-start-time-format"},
		"validity of 29":  {obj{"validityPeriodSeconds": 29}, "error-validity-period-seconds-format"},
		"validity of 30":  {obj{"validityPeriodSeconds": 30}, "ok"},
		"a day and more":  {obj{"validityPeriodSeconds": 86401}, "error-validity-period-seconds-format"},
		"no kind":         {obj{"contentType": nil}, "error-content-type-not-specified"},
		"sticker":         {obj{"contentType": "sticker"}, "error-content-type-format"},
		"empty text":      {obj{"text": ""}, "error-content-format"},
		"text of 4096":    {obj{"text": strings.Repeat("я", 4096)}, "ok"},
		"text of 4097":    {obj{"text": strings.Repeat("я", 4097)}, "error-content-format"},
		"no attachment":   {with(image, "attachmentUrl", nil), "error-attachment-url-not-specified"},
		"http":            {with(image, "attachmentUrl", "http://files.example.org/a.jpg"), "error-content-format"},
		"caption of 1025": {with(image, "caption", strings.Repeat("я", 1025)), "error-content-format"},
		"name of 71":      {with(image, "attachmentName", strings.Repeat("я", 71)), "error-content-format"},
		"no latitude":     {obj{"contentType": "location", "longitude": 1}, "error-latitude-not-specified"},
		"no longitude":    {obj{"contentType": "location", "latitude": 1}, "error-longtitude-not-specified"},
		"off the Earth":   {obj{"contentType": "location", "latitude": 91, "longitude": 1}, "error-content-format"},
		"three buttons":   {obj{"keyboard": rows(yes, yes, yes)}, "ok"},
		"buttons, 1024":   {obj{"text": strings.Repeat("я", 1024), "keyboard": rows(yes)}, "ok"},
		"buttons, 1025":   {obj{"text": strings.Repeat("я", 1025), "keyboard": rows(yes)}, "error-content-format"},
		"four buttons":    {obj{"keyboard": rows(yes, yes, yes, yes)}, "error-content-format"},
		"long button":     {obj{"keyboard": rows(button("QUICK_REPLY", strings.Repeat("я", 21), "y"))}, "error-content-format"},
		"no payload":      {obj{"keyboard": rows(button("QUICK_REPLY", "Yes", ""))}, "error-content-format"},
		"link":            {obj{"keyboard": rows(obj{"type": "URL", "text": "Shop", "url": "https://shop.example.com"})}, "error-content-format"},
	} {
		if v := n.post("imOutMessage", c.more); v["code"] != c.code {
			t.Errorf("%s: %v, want %s", name, v, c.code)
		}
	}
	wantEq(t, "the same id", n.post("imOutMessage", obj{"id": "0198C0DE-0000-7000-8000-000000000001"})["code"], "error-id-not-unique")
	for _, body := range []string{"", "[]", "{", "null"} {
		if _, _, raw := n.do("POST", "imOutMessage", body, nil); decode(t, raw)["code"] != "error-syntax" {
			t.Errorf("%q: %s", body, raw)
		}
	}
	if status, _, raw := n.do("POST", "imInMessage", "{}", nil); status != 404 || decode(t, raw)["code"] != "error-not-found" {
		t.Errorf("unknown call: %d %s", status, raw)
	}
}

// A message goes through its states, is told of each, and can be asked for.
func TestMFMSReports(t *testing.T) {
	t.Parallel()
	n := newMFMSNumber(t, simulator.Config{RetryBase: time.Millisecond})
	got := n.hook(func(n int) int { return map[bool]int{true: 500, false: 200}[n == 1] })
	u := n.acct.Customer("79261234567")
	sent := n.post("imOutMessage", obj{"text": "Ready"})
	wantEq(t, "code", sent["code"], "ok")
	var states []string
	for range 4 { // the first one twice
		v := nextMFMS(t, got)
		wantEq(t, "id", v["imOutMessageId"], sent["id"])
		if at, err := time.Parse("2006-01-02T15:04:05.000-0700", str(v["dlvStatusAt"])); err != nil || time.Since(at) > time.Minute {
			t.Errorf("time %v: %v", v["dlvStatusAt"], err)
		}
		states = append(states, str(v["dlvStatus"]))
	}
	wantEq(t, "states", strings.Join(states, " "), "sent sent delivered read")
	_, _, raw := n.do("GET", "imOutMessage/"+str(sent["id"]), "", nil)
	wantEq(t, "asked for", decode(t, raw)["dlvStatus"], "read")
	wantEq(t, "text", u.Messages()[0].Text, "Ready")

	failed := func(what, reason string, v obj) {
		t.Helper()
		r := nextMFMS(t, got)
		wantEq(t, what+": id", r["imOutMessageId"], v["id"])
		wantEq(t, what+": status", r["dlvStatus"], "undelivered")
		wantEq(t, what+": error", r["dlvError"], reason)
	}
	if _, err := u.Do("block", simulator.MFMSAction{}); err != nil {
		t.Fatal(err)
	}
	failed("blocked", "user-blocked", n.post("imOutMessage", nil))
	failed("nobody", "not-whatsapp-user", n.post("imOutMessage", obj{"address": "79990000000"}))
	n.acct.SetTemplates("Order {{1}} is ready (really).")
	u.SendText("hi")
	nextMFMS(t, got)
	failed("another text", "not-template-match", n.post("imOutHSM", obj{"text": "Order is ready (really)."}))
	wantEq(t, "template", n.post("imOutHSM", obj{"text": "Order №5 is ready (really)."})["code"], "ok")
	for _, want := range []string{"sent", "delivered", "read"} {
		wantEq(t, "template", nextMFMS(t, got)["dlvStatus"], want)
	}
	n.acct.Set(simulator.AccountOptions{Window: new(true)})
	n.acct.SetTemplates()
	n.acct.Customer("79261234568")
	failed("window closed", "not-template-match", n.post("imOutMessage", obj{"address": "79261234568"}))
	wantEq(t, "window open", n.post("imOutMessage", nil)["code"], "ok")
	wantEq(t, "window open", nextMFMS(t, got)["dlvStatus"], "sent")
	failed("file that can't be had", "error-content-format", func() obj {
		nextMFMS(t, got)
		nextMFMS(t, got)
		return n.post("imOutMessage", obj{"contentType": "image", "attachmentUrl": n.base + "/nowhere.jpg"})
	}())
}

// Everything that customers do arrives, in both forms.
func TestMFMSCustomers(t *testing.T) {
	t.Parallel()
	n := newMFMSNumber(t, simulator.Config{})
	got := n.hook(good)
	u, err := n.acct.NewCustomer(simulator.CustomerSpec{ID: "79261234567", FirstName: "Anna"})
	if err != nil {
		t.Fatal(err)
	}
	wantEq(t, "code", n.post("imOutMessage", obj{"text": "Well?", "keyboard": obj{"rows": []obj{{"buttons": []obj{{"type": "QUICK_REPLY", "text": "Yes", "payload": "y"}}}}}})["code"], "ok")
	for range 3 {
		nextMFMS(t, got)
	}
	kinds := map[string]string{"photo": "image", "picture": "image", "file": "document", "press": "button", "unknown": "hologram", "reply": "text"}
	for _, action := range simulator.MFMSActions() {
		switch action {
		case "block", "unblock", "expire_media", "raw":
			continue
		}
		kind := kinds[action]
		if kind == "" {
			kind = action
		}
		sent, err := u.Do(action, simulator.MFMSAction{Text: "see"})
		if err != nil || sent.Dropped {
			t.Fatalf("%s: %+v %v", action, sent, err)
		}
		v := nextMFMS(t, got)
		wantEq(t, action, v["contentType"], kind)
		wantEq(t, action+": id", v["id"], sent.MessageID)
		wantEq(t, action+": subject", v["imSubject"], "ACME_WA")
		wantEq(t, action+": address", v["address"], "79261234567")
		wantEq(t, action+": name", v["userName"], "Anna")
		if link := str(v["attachmentUrl"]); len(sent.Files) > 0 {
			req, err := http.NewRequestWithContext(t.Context(), "GET", link, nil)
			if err != nil {
				t.Fatal(err)
			}
			if status, _, b := send(t, req); status != 200 || int64(len(b)) != sent.Files[0].Size {
				t.Errorf("%s: file %d, %d bytes", action, status, len(b))
			}
		}
		if _, err := u.Do(action, simulator.MFMSAction{Text: "see", Pulse: true}); err != nil {
			t.Fatal(err)
		}
		v = nextMFMS(t, got)
		wantEq(t, action+" in the newer form", at(v, "messageContent", "type"), strings.ToUpper(kind))
		wantEq(t, action+" in the newer form: address", at(v, "subscriber", "identifier"), "79261234567")
	}
	if _, err := u.Do("text", simulator.MFMSAction{List: true, NoID: true, Value: json.RawMessage(`{"future":1}`)}); err != nil {
		t.Fatal(err)
	}
	list := <-got
	one, _ := at(list.body, 0).(obj)
	if _, has := one["id"]; has || one["future"] != 1.0 {
		t.Errorf("%v", list.body)
	}
	// The newer form tells where the picture is.
	face, err := n.acct.NewCustomer(simulator.CustomerSpec{ID: "79261234599", Avatar: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := face.Do("text", simulator.MFMSAction{Pulse: true}); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", str(at(nextMFMS(t, got), "userInfo", "avatarUrl")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, h, b := send(t, req); status != 200 || h.Get("Content-Type") != "image/jpeg" || len(b) == 0 {
		t.Errorf("picture: %d %v", status, h)
	}
	// Without an address to call nobody hears.
	n.acct.SetWebhook("")
	if !u.SendText("?").Dropped {
		t.Error("called without an address")
	}
}

func TestMFMSFaults(t *testing.T) {
	t.Parallel()
	n := newMFMSNumber(t, simulator.Config{})
	got := n.hook(good)
	n.acct.Customer("79261234567")
	for _, c := range []struct {
		fault  simulator.Fault
		status int
		code   string
	}{
		{simulator.Fault{Kind: simulator.FaultThrottle, RetryAfter: 3}, 429, ""},
		{simulator.Fault{Kind: simulator.FaultError}, 500, "error-system"},
		{simulator.Fault{Kind: simulator.FaultError, Description: "error-insufficient-balance"}, 200, "error-insufficient-balance"},
		{simulator.Fault{Kind: simulator.FaultUnauthorized}, 401, "error-unauthorized"},
		{simulator.Fault{Kind: simulator.FaultForbidden}, 200, "error-permission"},
		{simulator.Fault{Kind: simulator.FaultHTML}, 502, ""},
		{simulator.Fault{Kind: simulator.FaultBlocked}, 200, "ok"},
	} {
		c.fault.Platform, c.fault.Count, c.fault.Customer = "mfms", 1, "79261234567"
		if _, err := n.sim.Fault(c.fault); err != nil {
			t.Fatal(err)
		}
		status, header, raw := n.do("POST", "imOutMessage", fmt.Sprintf(`{"id":"m%d","subject":"ACME_WA","address":"79261234567","contentType":"text","text":"x"}`, n.ids.Add(1)), nil)
		if status != c.status || c.code != "" && decode(t, raw)["code"] != c.code || c.status == 429 && header.Get("Retry-After") != "3" {
			t.Errorf("%s: %d %s", c.fault.Kind, status, raw)
		}
	}
	wantEq(t, "blocked", nextMFMS(t, got)["dlvError"], "user-blocked")
	// A stranger's call, and a doubled one.
	u := n.acct.Customer("79261234567")
	for _, kind := range []string{simulator.FaultBadSignature, simulator.FaultDuplicate} {
		if _, err := n.sim.Fault(simulator.Fault{Kind: kind, Count: 1}); err != nil {
			t.Fatal(err)
		}
	}
	u.SendText("forged")
	if v := <-got; v.auth == "" || v.auth == "Basic c3dpdGNoYm9hcmQ6czNjcmV0LXBhc3M=" {
		t.Errorf("authorised as %q", v.auth)
	}
	u.SendText("twice")
	wantEq(t, "once", nextMFMS(t, got)["text"], "twice")
	wantEq(t, "twice", nextMFMS(t, got)["text"], "twice")
}
