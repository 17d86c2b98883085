package mfms

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"switchboard/channels/channeltest"
	"switchboard/message"
)

const hpxAt = "/acme/connector0"

// taken is the connector's answer to a message.
func taken(code, clientID, providerID string) string {
	return `<consumeInstantMessageResponse><header/><payload><code>ok</code><instantMessageList><instantMessage clientId="` + clientID +
		`" providerId="` + providerID + `"><code>` + code + `</code></instantMessage></instantMessageList></payload></consumeInstantMessageResponse>`
}

func whole(root, code string) string {
	return "<" + root + "><header/><payload><code>" + code + "</code></payload></" + root + ">"
}

// hpxAnswerer is the connector when all is well: it takes what it is sent.
func hpxAnswerer(r *channeltest.Request) channeltest.Response {
	var in hpxRequest
	if r.Method != http.MethodPost || r.Path != pathService || xml.Unmarshal(r.Body, &in) != nil || in.Login != "acme" || in.Password != "s3cret of MFMS" || len(in.Messages) != 1 {
		return channeltest.Response{Body: whole(rootTaken, "error-syntax")}
	}
	m := in.Messages[0]
	if in.XMLName.Local == rootAsk {
		return channeltest.Response{Body: `<provideInstantMessageDlvStatusResponse><payload><code>ok</code><instantMessageList><instantMessage providerId="` + m.ProviderID +
			`"><code>error-instant-message-provider-id-unknown</code></instantMessage></instantMessageList></payload></provideInstantMessageDlvStatusResponse>`}
	}
	return channeltest.Response{Header: map[string]string{"Content-Type": "text/xml"}, Body: xml.Header + taken("ok", strings.ToUpper(m.ClientID), "87952036")}
}

func hpxCase() channeltest.Case {
	out := func(c message.Content) message.Outbound { return message.Outbound{Content: c} }
	text := func(s string) message.Outbound { return out(message.Content{Kind: message.KindText, Text: s}) }
	with := settings()
	with["dialect"] = dialectHPX
	files := func(kind message.Kind, f message.File) message.Outbound {
		return out(message.Content{Kind: kind, Files: []message.File{f}})
	}
	keys := text("no")
	keys.Keyboard = &message.Keyboard{Kind: message.KeyboardInline, Rows: [][]message.KeyButton{{{Text: "Yes"}}}}
	reply := text("no")
	reply.ReplyTo = "77120"
	c := channeltest.Case{
		Platform: Platform(), Settings: with, Chat: testChat, Customer: testChat, Answer: hpxAnswerer, Dir: "testdata/hpx",
		Sends: []channeltest.Send{
			{Name: "text", Out: text("Здравствуйте!\nЧем <помочь> & \"как\"? ]]> 😀")},
			{Name: "long_text", Out: text(strings.Repeat("я", 4097))},
			{Name: "too_long", Out: text(strings.Repeat("я", 40961)), Refused: message.RefusedLimit},
			{Name: "keyboard", Out: keys, Refused: message.RefusedUnsupported},
			{Name: "reply", Out: reply, Refused: message.RefusedUnsupported},
			{Name: "picture", Out: files(message.KindImage, file(message.KindImage, "a.jpg", "image/jpeg", 5)), Refused: message.RefusedUnsupported},
			{Name: "video", Out: files(message.KindVideo, file(message.KindVideo, "v.mp4", "video/mp4", 5)), Refused: message.RefusedUnsupported},
			{Name: "audio", Out: files(message.KindAudio, file(message.KindAudio, "a.mp3", "audio/mpeg", 5)), Refused: message.RefusedUnsupported},
			{Name: "voice", Out: files(message.KindVoice, file(message.KindVoice, "a.ogg", "audio/ogg", 5)), Refused: message.RefusedUnsupported},
			{Name: "sticker", Out: files(message.KindSticker, file(message.KindSticker, "s.webp", "image/webp", 5)), Refused: message.RefusedUnsupported},
			{Name: "document", Out: files(message.KindDocument, file(message.KindDocument, "b.pdf", "application/pdf", 5)), Refused: message.RefusedUnsupported},
			{Name: "location", Out: out(message.Content{Kind: message.KindLocation, Location: &message.Location{Lat: 1, Lon: 2}}), Refused: message.RefusedUnsupported},
			{Name: "contact", Out: out(message.Content{Kind: message.KindContact, Contact: &message.Contact{Phone: "+78000000000"}}), Refused: message.RefusedUnsupported},
			{Name: "template", Out: out(message.Content{Kind: message.KindTemplate, Text: "x", Template: &message.Template{Name: "x"}}), Refused: message.RefusedUnsupported},
		},
		Calls: []channeltest.Call{
			{Name: "check_refused", Do: check, Answer: answers(200, whole(rootTold, "error-auth"))},
			{Name: "check_elsewhere", Do: check, Answer: answers(404, "<html><body>nginx</body></html>")},
			{Name: "check_unknown_message", Do: check, Answer: answers(200, whole(rootTold, "error-instant-message-provider-id-unknown"))},
		},
		Errors: []channeltest.ErrorRow{
			{Name: "of the message alone", Response: channeltest.Response{Body: taken("error-address-format", "", "")}, Want: message.Error{Kind: message.ErrRecipient, Code: "error-address-format"}},
			{Name: "unknown fault of the address", Response: channeltest.Response{Body: taken("error-address-new", "", "")}, Want: message.Error{Kind: message.ErrRecipient, Code: "error-address-new"}},
			{Name: "unknown code", Response: channeltest.Response{Body: taken("error-of-the-future", "", "")}, Want: message.Error{Kind: message.ErrInvalid, Code: "error-of-the-future", Detail: "unknown code"}},
			{Name: "code that repeats", Response: channeltest.Response{Body: taken("чужая тайна 4711 +79161112233", "", "")}, Want: message.Error{Kind: message.ErrInvalid, Code: "unreadable", Detail: "unknown code"}},
			{Name: "code in capitals with spaces", Response: channeltest.Response{Body: taken(" ERROR-SYSTEM\n", "", "")}, Want: message.Error{Kind: message.ErrUnavailable, Code: "error-system"}},
			{Name: "ok without id", Response: channeltest.Response{Body: taken("ok", "", "")}, Want: message.Error{Kind: message.ErrUncertain}},
			{Name: "ok of another message", Response: channeltest.Response{Body: taken("ok", "0123456789abcdef", "5")}, Want: message.Error{Kind: message.ErrUncertain, Detail: "the answer does not name the message"}},
			{Name: "ok of nothing", Response: channeltest.Response{Body: whole(rootTaken, "ok")}, Want: message.Error{Kind: message.ErrUncertain, Detail: "the answer does not name the message"}},
			{Name: "another root", Response: channeltest.Response{Body: whole(rootTold, "ok")}, Want: message.Error{Kind: message.ErrUncertain, Code: "200"}},
			{Name: "half an answer", Response: channeltest.Response{Body: taken("ok", "", "5")[:150]}, Want: message.Error{Kind: message.ErrUncertain, Code: "200"}},
			{Name: "ok in HTTP 500", Response: channeltest.Response{Status: 500, Body: taken("ok", "", "5")}, Want: message.Error{Kind: message.ErrUncertain, Code: "500"}},
			{Name: "JSON", Response: channeltest.Response{Body: `{"code":"ok"}`}, Want: message.Error{Kind: message.ErrUncertain, Code: "200"}},
			{Name: "429", Response: channeltest.Response{Status: 429, Header: map[string]string{"Retry-After": "7"}, Body: whole(rootTaken, "error-system")}, Want: message.Error{Kind: message.ErrThrottled, Code: "429", RetryAfter: 7 * time.Second}},
			{Name: "401", Response: channeltest.Response{Status: 401}, Want: message.Error{Kind: message.ErrAccount, Code: "401"}},
			{Name: "403", Response: channeltest.Response{Status: 403}, Want: message.Error{Kind: message.ErrAccount, Code: "403"}},
			{Name: "404", Response: channeltest.Response{Status: 404}, Want: message.Error{Kind: message.ErrInvalid, Code: "404"}},
			{Name: "400", Response: channeltest.Response{Status: 400}, Want: message.Error{Kind: message.ErrInvalid, Code: "400"}},
			{Name: "502", Response: channeltest.Response{Status: 502, Body: "<html>"}, Want: message.Error{Kind: message.ErrUncertain, Code: "502"}},
		},
		BadSettings: map[string]string{"login": "", "sender": "A\nB", "dialect": "soap", "password": ""},
	}
	// The classes by the reference, not by our table.
	for _, row := range []struct {
		kind  message.ErrorKind
		all   bool // of the whole request
		codes string
	}{
		{message.ErrUnavailable, true, "error-system"},
		{message.ErrAccount, true, "error-auth error-account-locked error-permission"},
		{message.ErrInvalid, true, "error-syntax"},
		{message.ErrAccount, false, "error-subject-unknown"},
		{message.ErrRecipient, false, "error-address-unknown error-address-not-specified"},
		{message.ErrInvalid, false, "error-subject-format error-subject-not-specified error-instant-message-type-format error-instant-message-type-not-specified error-type-not-specified " +
			"error-content-type-format error-content-not-specified error-priority-format error-comment-format error-validity-period-seconds-format " +
			"error-resend-sms-error error-resend-sms-validity-period-error"},
	} {
		for _, code := range strings.Fields(row.codes) {
			body := taken(code, "", "")
			if row.all {
				body = whole(rootTaken, code)
			}
			c.Errors = append(c.Errors, channeltest.ErrorRow{Name: code, Response: channeltest.Response{Body: body}, Want: message.Error{Kind: row.kind, Code: code}})
		}
	}
	return c
}

func answers(status int, body string) func(*channeltest.Request) channeltest.Response {
	return func(*channeltest.Request) channeltest.Response {
		return channeltest.Response{Status: status, Body: body}
	}
}

func TestHPX(t *testing.T) {
	t.Parallel()
	channeltest.Run(t, hpxCase())
}

func FuzzDecodeHPX(f *testing.F) { channeltest.FuzzDecode(f, hpxCase()) }

func openHPX(t testing.TB, p *channeltest.Platform) *channel {
	t.Helper()
	tc := hpxCase()
	c, err := open(p.Account(&tc, nil), p.Env())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A repeat is refused with the id of the first, which is a success; of several
// parts each has its own id.
func TestHPXKnownAlready(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"87952036", ""} {
		p := channeltest.NewPlatform(t, answers(200, taken("error-instant-message-client-id-not-unique", "", id)))
		r, err := openHPX(t, p).Send(t.Context(), textTo(testChat))
		if err != nil || strings.Join(r.IDs, " ") != id || !strings.Contains(r.Note, "already") || !r.ByID {
			t.Errorf("first one's id %q: %+v %v", id, r, err)
		}
	}
	p := channeltest.NewPlatform(t, hpxAnswerer)
	c := openHPX(t, p)
	seen := map[string]bool{}
	for _, index := range []int{0, 1, 0} {
		part := textTo(testChat)
		part.Index = index
		if _, err := c.Send(t.Context(), part); err != nil {
			t.Fatal(err)
		}
		var in hpxRequest
		if err := xml.Unmarshal(p.Requests()[0].Body, &in); err != nil || len(in.Messages[0].ClientID) != 32 {
			t.Fatalf("%v %+v", err, in)
		}
		seen[in.Messages[0].ClientID] = true
	}
	if len(seen) != 2 {
		t.Errorf("ids %v", seen)
	}
}

// The connector has no address or login by default.
func TestHPXSettings(t *testing.T) {
	t.Parallel()
	p := channeltest.NewPlatform(t, hpxAnswerer)
	tc := hpxCase()
	for _, key := range []string{"api_base", "login"} {
		if _, err := open(p.Account(&tc, map[string]string{key: ""}), p.Env()); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("without %s: %v", key, err)
		}
	}
	for _, base := range []string{"", "/", "/service", "/service/"} {
		c, err := open(p.Account(&tc, map[string]string{"api_base": p.URL + hpxAt + base}), p.Env())
		if err != nil {
			t.Fatal(err)
		}
		p.Answers(answers(200, whole(rootTold, "ok")))
		if _, err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if got := p.Requests()[0].Path; got != hpxAt+"/service" {
			t.Errorf("%q: asked at %s", base, got)
		}
	}
}

func TestSplitXML(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("<a>", maxDepth+1) + strings.Repeat("</a>", maxDepth+1)
	for _, raw := range []string{
		"", "<", "<a", "<a>", "<a></b>", "<a/><b/>", "<a/><", "plain", deep, "<a>&unknown;</a>", "<a b=c/>", "<a>\x00</a>", "<a>\xff</a>",
		`<?xml version="1.0" encoding="windows-1251"?><a/>`, `<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>`,
	} {
		if p, err := splitXML([]byte(raw)); err == nil {
			t.Errorf("%q is taken: %+v", raw, p)
		}
	}
	for raw, want := range map[string]string{
		"\ufeff<a/>": "",
		"<a><payload><instantMessageList><instantMessage/></instantMessageList></payload></a>":                                                           "<instantMessage/>",
		"<a><payload><instantMessageList><instantMessage x='1'>&lt;</instantMessage> <instantMessage/></instantMessageList></payload></a>":               "<instantMessage x='1'>&lt;</instantMessage>|<instantMessage/>",
		"<a><instantMessage/><payload><instantMessage/><instantMessageList><b><instantMessage/></b></instantMessageList></payload><!-- c --></a>\n<?x?>": "",
	} {
		p, err := splitXML([]byte(raw))
		if got := string(bytes.Join(p.elements, []byte("|"))); err != nil || got != want || p.root != "a" {
			t.Errorf("%q: %q %v", raw, got, err)
		}
	}
}

// Whatever comes, it is cut into pieces whose keys a database can store, and the
// pieces can be cut no further.
func FuzzSplitXML(f *testing.F) {
	paths, err := filepath.Glob("testdata/hpx/*.in.xml")
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(taken("ok", "a", "b")))
	f.Add([]byte(`<a:b xmlns:a="c"><payload><instantMessageList><instantMessage providerId="&#xA;"/></instantMessageList></payload></a:b>`))
	c := openHPX(f, channeltest.NewPlatform(f, nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		updates, err := splitHPX(raw)
		if (err == nil) != (len(updates) > 0) {
			t.Errorf("%d updates, %v", len(updates), err)
		}
		keys := map[string]bool{}
		for _, u := range updates {
			key := u.DedupKey + u.ChatKey
			switch {
			case u.DedupKey == "" || len(u.DedupKey) > 256 || len(u.ChatKey) > 256 || keys[u.DedupKey]:
				t.Errorf("keys %q %q", u.DedupKey, u.ChatKey)
			case strings.ContainsRune(key, 0) || !utf8.ValidString(key):
				t.Errorf("keys that a database can't store: %q", key)
			}
			keys[u.DedupKey] = true
			decoded, err := c.Decode(u.Raw)
			if again, err2 := c.Decode(u.Raw); len(again) != len(decoded) || (err == nil) != (err2 == nil) {
				t.Error("not deterministic")
			}
			for i := range decoded {
				if decoded[i].Kind != message.UpdateIgnore && (decoded[i].PlatformID == "" || decoded[i].Chat != "") {
					t.Errorf("update %+v", decoded[i])
				}
			}
		}
		if !bytes.Equal(raw, before) {
			t.Error("the input was changed")
		}
	})
}
