package campaigns_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"switchboard"
	"switchboard/campaigns"
	"switchboard/message"
)

func TestDefinitions(t *testing.T) {
	t.Parallel()
	const good = `{"name":"spring","content":{"text":"Hello {{name}}"},"steps":[{"account_id":"` + accountA + `"}]}`
	with := func(members string) string { return strings.TrimSuffix(good, "}") + "," + members + "}" }
	step := func(members string) string {
		return `{"name":"spring","content":{"text":"Hello"},"steps":[{` + members + `}]}`
	}
	content := func(members string) string {
		return `{"name":"spring","content":{` + members + `},"steps":[{"account_id":"` + accountA + `"}]}`
	}
	for in, wrong := range map[string]string{
		good: "",
		with(`"priority":"low","traffic_class":"service","sender":"Shop","ttl":"2h","rate":0.5,"frequency_cap":{"count":1,"per":"24h"},"stop_lists":["vip"],"callback_url":"https://example.com/x?y=1"`): "",
		with(`"schedule":{"start_at":"2030-01-01T00:00:00Z","stop_at":"2030-01-02T00:00:00Z","quiet_hours":{"from":"21:00","to":"09:00"},"timezone":"Asia/Omsk","weekdays":["mon","sun"]}`):              "",
		step(`"platform":"beta"`): "",
		step(`"account_id":"` + accountA + `","success":"read","wait":"10m","price":0.3,"content":{"kind":"image","files":["` + fileID + `"],"text":"{{x|}}"}`):                              "",
		content(`"kind":"template","template":{"name":"t","language":"en","parameters":["{{a}}"]},"keyboard":{"kind":"inline","rows":[[{"text":"{{b}}","action":"url","url":"{{link}}"}]]}`): "",
		strings.Replace(good, "spring", " ", 1):                                                 "name must have 1 to 200 characters",
		with(`"priority":"urgent"`):                                                             "use high, normal or low",
		with(`"traffic_class":"spam"`):                                                          "use marketing, service or transactional",
		with(`"ttl":"1 day"`):                                                                   `ttl "1 day"; use a duration from 1s to 336h, like 24h`,
		with(`"rate":-1`):                                                                       "use recipients per second, 0 to 1000000",
		with(`"frequency_cap":{"count":0,"per":"1h"}`):                                          "frequency_cap.count 0; use 1 to 1000",
		with(`"frequency_cap":{"count":1,"per":"1s"}`):                                          "frequency_cap.per",
		with(`"stop_lists":["VIP customers"]`):                                                  "stop_lists",
		with(`"callback_url":"ftp://example.com"`):                                              "use an address like https://",
		with(`"schedule":{"quiet_hours":{"from":"9","to":"1"}}`):                                `quiet_hours.from "9"; use hours and minutes`,
		with(`"schedule":{"quiet_hours":{"from":"09:00","to":"09:00"}}`):                        "leaves no time to send",
		with(`"schedule":{"timezone":"Omsk"}`):                                                  "like Europe/Moscow",
		with(`"schedule":{"weekdays":["monday"]}`):                                              "use mon, tue, wed",
		with(`"schedule":{"start_at":"2030-01-02T00:00:00Z","stop_at":"2030-01-01T00:00:00Z"}`): "stop_at must be later",
		`{"name":"x","content":{"text":"x"},"steps":[]}`:                                        "steps has 0 entries; use 1 to 10",
		`{"name":"x","steps":[{"account_id":"` + accountA + `"}]}`:                              "steps[0] has no content",
		step(``): "exactly one of account_id and platform",
		step(`"account_id":"` + accountA + `","platform":"alpha"`):                  "exactly one of account_id and platform",
		step(`"account_id":"0198a000-0000-7000-8000-0000000000ee"`):                 "no such account",
		step(`"platform":"pigeons"`):                                                "name one of the platforms that have accounts: alpha, beta, gamma",
		step(`"account_id":"` + accountB + `","success":"read"`):                    "beta does not report that; use accepted",
		step(`"account_id":"` + accountC + `","success":"read"`):                    "gamma does not report that; use accepted or delivered",
		step(`"account_id":"` + accountA + `","success":"seen"`):                    "use accepted, delivered or read",
		step(`"account_id":"` + accountA + `","wait":"soon"`):                       "steps[0].wait",
		step(`"account_id":"` + accountA + `","price":-1`):                          "steps[0].price",
		content(`"text":"  "`):                                                      "steps[0]: text must not be empty",
		content(`"text":"{{"`):                                                      "content.text: character 1: {{ without }}",
		content(`"text":"Привет {{first name}}"`):                                   "content.text: character 8: {{first name}} is no variable",
		content(`"kind":"video","text":"x"`):                                        "alpha can't send video; it can send",
		content(`"kind":"image"`):                                                   "needs files",
		content(`"kind":"image","files":["0198a000-0000-7000-8000-0000000000fe"]`):  "content.files: 0198a000-0000-7000-8000-0000000000fe is not an uploaded file",
		content(`"text":"` + strings.Repeat("x", 2001) + `"`):                       "text of 2001 runes is over 2 messages of 1000",
		content(`"text":"x","keyboard":{"kind":"inline","rows":[[{"text":"{{"}]]}`): "content.keyboard.rows[0][0].text",
	} {
		var d campaigns.Definition
		if err := json.Unmarshal([]byte(in), &d); err != nil {
			t.Fatal(in, err)
		}
		_, _, err := campaigns.Check(t.Context(), d, testAccounts(), files{})
		switch {
		case wrong == "" && err != nil:
			t.Errorf("%s: %v", in, err)
		case wrong != "" && (err == nil || !errors.Is(err, switchboard.ErrInvalid) || !strings.Contains(err.Error(), wrong)):
			t.Errorf("%s: %v, want %q", in, err, wrong)
		}
	}
}

// The API refuses what it does not know, and says what would be right.
func TestUnknownFields(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for in, want := range map[string]string{
		`{"name":"x","contents":{},"steps":[` + overA + `]}`:                           "contents",
		`{"name":"x","content":{"text":"x","txt":"y"},"steps":[` + overA + `]}`:        "txt",
		`{"name":"x","content":{"text":"x"},"steps":[{"account":"` + accountA + `"}]}`: "account",
		`{"name":"x","content":{"text":"x"}}`:                                          "steps",
		`{"name":"x\u0000","content":{"text":"x"},"steps":[` + overA + `]}`:            "zero character",
		`{`: "",
	} {
		if a := s.call("POST", "/api/v1/campaigns", strings.NewReader(in)); (a.code != 422 && a.code != 400) || !strings.Contains(string(a.text), want) {
			t.Errorf("%s: %d %s", in, a.code, a.text)
		}
	}
	if a := s.call("POST", "/api/v1/campaigns", strings.NewReader(`{"name":"`+strings.Repeat("x", 2<<20)+`"}`)); a.code != 413 {
		t.Errorf("2 MiB: %d", a.code)
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	values := map[string]string{"name": "Ann", "имя": "Анна", "a.b-c_1": "x", "braces": "{{name}}"}
	for in, want := range map[string]string{
		"": "", "plain": "plain", "{{name}}": "Ann", "Hello {{ Name }}!": "Hello Ann!", "{{NAME}}{{name}}": "AnnAnn",
		"{{Имя}}": "Анна", "{{a.b-c_1}}": "x", "{{none|friend}}": "friend", "{{none|}}": "", "{{name|friend}}": "Ann", "{{none| a | b }}": " a | b ",
		`\{{name}}`: "{{name}}", `\{{`: "{{", `a\b`: `a\b`, "{name}": "{name}", "}}": "}}", "{ {{name}} }": "{ Ann }", `\{{{{name}}`: "{{Ann",
		"{{braces}}": "{{name}}", "{{none}}": "",
	} {
		text, err := campaigns.Parse(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if got := text.Render(func(name string) string { return values[name] }); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"{{": "character 1", "a {{b": "character 3", "{{}}": "no variable", "{{a b}}": "no variable", "{{a{{b}}": "no variable", "ж{{?}}": "character 2",
		"{{" + strings.Repeat("x", 65) + "}}": "no variable",
	} {
		if _, err := campaigns.Parse(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// Every recipient gets a content of their own, and the definition stays as it is.
func TestContents(t *testing.T) {
	t.Parallel()
	var d campaigns.Definition
	if err := json.Unmarshal([]byte(`{"name":"x","content":{"kind":"template","template":{"name":"t","language":"en","parameters":["{{a}}","fixed"]},"keyboard":{"kind":"inline","rows":[[{"text":"Open {{a}}","action":"url","url":"https://example.com/{{b|none}}"}]]}},
		"steps":[{"account_id":"`+accountA+`"},{"account_id":"`+accountA+`","content":{"text":"\\{{ {{c}}"}}]}`), &d); err != nil {
		t.Fatal(err)
	}
	p, _, err := campaigns.Check(t.Context(), d, testAccounts(), files{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Variables, []string{"a", "c"}) {
		t.Errorf("variables %v", p.Variables)
	}
	before, _ := json.Marshal(d)
	one, two := p.Content(0, map[string]string{"a": "1", "b": "2"}), p.Content(0, map[string]string{"a": "3"})
	if got := one.Template.Parameters; !slices.Equal(got, []string{"1", "fixed"}) {
		t.Errorf("parameters %q", got)
	}
	if b := one.Keyboard.Rows[0][0]; b.Text != "Open 1" || b.URL != "https://example.com/2" {
		t.Errorf("button %+v", b)
	}
	if b := two.Keyboard.Rows[0][0]; b.Text != "Open 3" || b.URL != "https://example.com/none" || two.Template.Parameters[0] != "3" {
		t.Errorf("the second one's: %+v", two)
	}
	if c := p.Content(1, maps.Clone(map[string]string{"c": "x"})); c.Kind != message.KindText || c.Text != "{{ x" {
		t.Errorf("step 1: %+v", c)
	}
	if after, _ := json.Marshal(d); string(after) != string(before) {
		t.Errorf("the definition became %s", after)
	}
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"Hello {{name|friend}}", `\{{x`, "{{", "{{a|{{b}}", "{{ж}}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := campaigns.Parse(s)
		if err != nil {
			return
		}
		got := text.Render(func(string) string { return "" })
		if len(got) > len(s) {
			t.Errorf("%q renders to %q", s, got)
		}
		if !strings.Contains(s, "{{") && got != s {
			t.Errorf("%q without variables renders to %q", s, got)
		}
	})
}
