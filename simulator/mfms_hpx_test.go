package simulator_test

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"switchboard/simulator"
)

// hpx is what the connector answers, and calls back with.
type hpx struct {
	XMLName  xml.Name
	Code     string `xml:"payload>code"`
	Messages []struct {
		ClientID   string `xml:"clientId,attr"`
		ProviderID string `xml:"providerId,attr"`
		Code       string `xml:"code"`
		Status     string `xml:"instantMessageDlvStatus>dlvStatus"`
		At         string `xml:"instantMessageDlvStatus>dlvStatusAt"`
		Error      string `xml:"instantMessageDlvStatus>dlvError"`
	} `xml:"payload>instantMessageList>instantMessage"`
}

func (n *mfmsNumber) service(root, list string) (int, hpx) {
	n.t.Helper()
	return n.xml(`<?xml version="1.0" encoding="UTF-8"?><` + root + `><header><auth><login>acme</login><password>s3cret of MFMS</password></auth></header><payload><instantMessageList>` +
		list + `</instantMessageList></payload></` + root + `>`)
}

func (n *mfmsNumber) xml(body string) (int, hpx) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), "POST", n.base+"/mfms/acme/connector0/service", strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	status, header, raw := send(n.t, req)
	var out hpx
	if err := xml.Unmarshal(raw, &out); err != nil || !strings.HasPrefix(header.Get("Content-Type"), "text/xml") {
		n.t.Fatalf("%v in %s %q", err, header.Get("Content-Type"), raw)
	}
	return status, out
}

const hpxText = `<address>79261234567</address><subject>ACME_WA</subject><instantMessageType>whatsapp</instantMessageType><contentType>text</contentType><content><text>Hi &amp; bye</text></content>`

// hpxHook enters a receiver's address and returns what it gets.
func (n *mfmsNumber) hpxHook() chan hpx {
	n.t.Helper()
	got := make(chan hpx, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		var v hpx
		if err != nil || xml.Unmarshal(b, &v) != nil || r.Header.Get("Content-Type") != "text/xml; charset=utf-8" || r.Header.Get("Authorization") == "" {
			n.t.Errorf("%q with %v", b, r.Header)
		}
		got <- v
	}))
	n.t.Cleanup(srv.Close)
	n.acct.SetWebhook(strings.Replace(srv.URL, "http://", "http://switchboard:s3cret-pass@", 1))
	return got
}

func nextHPX(t *testing.T, got chan hpx) hpx {
	t.Helper()
	select {
	case v := <-got:
		return v
	case <-time.After(5 * time.Second):
		t.Fatal("no callback")
		return hpx{}
	}
}

func TestHPX(t *testing.T) {
	t.Parallel()
	n := newMFMSNumber(t, simulator.Config{})
	got := n.hpxHook()
	u := n.acct.Customer("79261234567")
	_, a := n.service("consumeInstantMessageRequest", `<instantMessage clientId="A1">`+hpxText+`</instantMessage><instantMessage clientId="a2">`+strings.Replace(hpxText, "79261234567", "7x", 1)+`</instantMessage>`)
	if a.XMLName.Local != "consumeInstantMessageResponse" || a.Code != "ok" || len(a.Messages) != 2 {
		t.Fatalf("%+v", a)
	}
	first := a.Messages[0]
	wantEq(t, "code", first.Code, "ok")
	wantEq(t, "client id", first.ClientID, "A1")
	wantEq(t, "the bad one", a.Messages[1].Code, "error-address-format")
	for _, state := range []string{"sent", "delivered", "read"} {
		v := nextHPX(t, got)
		if v.XMLName.Local != "provideInstantMessageDlvStatusResponse" || v.Code != "ok" || len(v.Messages) != 1 || v.Messages[0].ProviderID != first.ProviderID || v.Messages[0].Status != state {
			t.Errorf("%+v, want %s", v, state)
		}
		if _, err := time.Parse(time.DateTime, v.Messages[0].At); err != nil {
			t.Error(err)
		}
	}
	if m := u.Messages(); len(m) != 1 || m[0].Text != "Hi & bye" || m[0].ID != first.ProviderID || m[0].State != "read" {
		t.Errorf("%+v", m)
	}
	// A second one with its id is refused, and the first one's id told.
	_, a = n.service("consumeInstantMessageRequest", `<instantMessage clientId="a1">`+hpxText+`</instantMessage>`)
	wantEq(t, "again", a.Messages[0].Code, "error-instant-message-client-id-not-unique")
	wantEq(t, "again: id", a.Messages[0].ProviderID, first.ProviderID)

	_, a = n.service("provideInstantMessageDlvStatusRequest", `<instantMessage providerId="`+first.ProviderID+`"/><instantMessage providerId="5"/><instantMessage providerId="x"/><instantMessage providerId="5"/>`)
	wantEq(t, "asked", a.XMLName.Local, "provideInstantMessageDlvStatusResponse")
	wantEq(t, "state", a.Messages[0].Status, "read")
	for i, code := range []string{"ok", "error-instant-message-provider-id-unknown", "error-instant-message-provider-id-format", "error-instant-message-provider-id-duplicate"} {
		wantEq(t, "code", a.Messages[i].Code, code)
	}

	for what, code := range map[string]string{
		"<address>79261234567</address>":                                      "error-address-not-specified",
		"<subject>ACME_WA</subject>":                                          "error-subject-not-specified",
		"<instantMessageType>whatsapp</instantMessageType>":                   "error-instant-message-type-not-specified",
		"<contentType>text</contentType>":                                     "error-content-type-format",
		"<content><text>Hi &amp; bye</text></content>":                        "error-content-not-specified",
		"ACME_WA|OTHER":                                                       "error-subject-unknown",
		"whatsapp|viber":                                                      "error-instant-message-type-format",
		">text<|>image<":                                                      "error-content-type-format",
		"<content>|<priority>soon</priority><content>":                        "error-priority-format",
		"<content>|<validityPeriodSeconds>5</validityPeriodSeconds><content>": "error-validity-period-seconds-format",
	} {
		old, with, _ := strings.Cut(what, "|")
		_, a := n.service("consumeInstantMessageRequest", `<instantMessage clientId="bad">`+strings.Replace(hpxText, old, with, 1)+`</instantMessage>`)
		if len(a.Messages) != 1 || a.Messages[0].Code != code || a.Messages[0].ProviderID != "" {
			t.Errorf("%s: %+v", what, a)
		}
	}
	for body, code := range map[string]string{
		"<a/>":   "error-syntax",
		"{}":     "error-syntax",
		"<a><b>": "error-syntax",
		"<consumeInstantMessageRequest><header><auth><login>acme</login><password>wrong</password></auth></header></consumeInstantMessageRequest>":          "error-auth",
		"<consumeInstantMessageRequest><header><auth><login>acme</login><password>s3cret of MFMS</password></auth></header></consumeInstantMessageRequest>": "error-syntax",
	} {
		if _, a := n.xml(body); a.Code != code || len(a.Messages) != 0 {
			t.Errorf("%s: %+v", body, a)
		}
	}
	for _, r := range n.acct.Requests("consumeInstantMessageRequest") {
		if strings.Contains(string(r.Body), "s3cret") {
			t.Errorf("recorded: %s", r.Body)
		}
	}
}

func TestHPXFaults(t *testing.T) {
	t.Parallel()
	n := newMFMSNumber(t, simulator.Config{})
	got := n.hpxHook()
	n.acct.Customer("79261234567")
	one := func(id string) (int, hpx) {
		return n.service("consumeInstantMessageRequest", `<instantMessage clientId="`+id+`">`+hpxText+`</instantMessage>`)
	}
	for i, c := range []struct {
		fault      simulator.Fault
		whole, one string
	}{
		{simulator.Fault{Kind: simulator.FaultError}, "error-system", ""},
		{simulator.Fault{Kind: simulator.FaultError, Description: "error-content-format"}, "ok", "error-content-format"},
		{simulator.Fault{Kind: simulator.FaultUnauthorized}, "error-auth", ""},
		{simulator.Fault{Kind: simulator.FaultForbidden}, "error-permission", ""},
		{simulator.Fault{Kind: simulator.FaultBlocked}, "ok", "ok"},
	} {
		c.fault.Platform, c.fault.Count, c.fault.Customer = "mfms", 1, "79261234567"
		if _, err := n.sim.Fault(c.fault); err != nil {
			t.Fatal(err)
		}
		_, a := one(string(rune('a' + i)))
		if a.Code != c.whole || (c.one == "") != (len(a.Messages) == 0) || c.one != "" && a.Messages[0].Code != c.one {
			t.Errorf("%s: %+v", c.fault.Kind, a)
		}
	}
	if v := nextHPX(t, got); v.Messages[0].Status != "undelivered" || v.Messages[0].Error != "user-blocked" {
		t.Errorf("%+v", v)
	}
	// A report that is never delivered; asking still tells.
	if _, err := n.sim.Fault(simulator.Fault{Kind: simulator.FaultDrop, Platform: "mfms", Method: "delivered", Count: 1}); err != nil {
		t.Fatal(err)
	}
	_, a := one("dropped")
	if v := nextHPX(t, got); v.Messages[0].Status != "sent" {
		t.Errorf("%+v", v)
	}
	if v := nextHPX(t, got); v.Messages[0].Status != "read" {
		t.Errorf("%+v", v)
	}
	_, a = n.service("provideInstantMessageDlvStatusRequest", `<instantMessage providerId="`+a.Messages[0].ProviderID+`"/>`)
	wantEq(t, "asked", a.Messages[0].Status, "read")
	if _, err := n.acct.Inject("<what/>"); err != nil {
		t.Error(err)
	}
	nextHPX(t, got)
}
