package campaigns_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf16"

	"golang.org/x/text/encoding/charmap"

	"switchboard"
	"switchboard/campaigns"
	"switchboard/internal/queue"
)

// memory is an import without a database.
type memory struct {
	list       []queue.Recipient
	rejected   int64
	duplicates int64
	variables  []string
}

func (m *memory) add(p *queue.Recipients) {
	for _, r := range p.List {
		m.list = append(m.list, queue.Recipient{Kind: r.Kind, Address: bytes.Clone(r.Address), Timezone: bytes.Clone(r.Timezone), Vars: bytes.Clone(r.Vars)})
	}
	m.rejected += p.Rejected
	m.duplicates += p.Duplicates
	m.variables = append(m.variables, p.Variables...)
}

// got is the import in words: address, time zone and variables of each.
func (m *memory) got() string {
	var b strings.Builder
	for _, r := range m.list {
		fmt.Fprintf(&b, "%d:%s", r.Kind, r.Address)
		if len(r.Timezone) > 0 {
			fmt.Fprintf(&b, " @%s", r.Timezone)
		}
		if len(r.Vars) > 0 {
			fmt.Fprintf(&b, " %s", r.Vars)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func program(t testing.TB, content string) *campaigns.Program {
	t.Helper()
	p, _, err := campaigns.Check(t.Context(), campaigns.Definition{Name: "x", Content: text(content), Steps: []campaigns.Step{{AccountID: accountA}}}, testAccounts(), files{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readTable(t testing.TB, p *campaigns.Program, src campaigns.Source) (*memory, campaigns.Imported, error) {
	t.Helper()
	m := &memory{}
	got, err := p.Add(t.Context(), noDB{m}, testAccounts(), src)
	if got.Accepted != int64(len(m.list)) || got.Rejected != m.rejected || got.Duplicates != m.duplicates {
		t.Errorf("the answer %+v is not what was stored: %d, %d, %d", got, len(m.list), m.rejected, m.duplicates)
	}
	return m, got, err
}

const (
	ann = "2:+79001234567"
	bob = "2:+79001234568"
)

func utf16Text(s string, bigEndian, mark bool) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		if bigEndian {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	if mark && bigEndian {
		return "\xfe\xff" + string(b)
	} else if mark {
		return "\xff\xfe" + string(b)
	}
	return string(b)
}

func TestTables(t *testing.T) {
	t.Parallel()
	cp1251 := func(s string) string {
		out, err := charmap.Windows1251.NewEncoder().String(s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	long := strings.Repeat("x", 70<<10)
	const russian = "phone;имя\n+79001234567;Анна Ёлкина\n+79001234568;Ю\n"
	const russianGot = ann + ` {"имя":"Анна Ёлкина"}` + "\n" + bob + ` {"имя":"Ю"}` + "\n"
	for name, c := range map[string]struct {
		in     string
		ndjson bool
		want   string
		errors string // "line: part of the reason" of each
	}{
		"comma":              {in: "phone,name\n+79001234567,Ann\n", want: ann + ` {"name":"Ann"}` + "\n"},
		"CRLF":               {in: "phone,name\r\n+79001234567,Ann\r\n", want: ann + ` {"name":"Ann"}` + "\n"},
		"semicolon":          {in: "phone;name\n+79001234567;Ann, the first\n", want: ann + ` {"name":"Ann, the first"}` + "\n"},
		"tab":                {in: "phone\tname\n+79001234567\tAnn\n", want: ann + ` {"name":"Ann"}` + "\n"},
		"bar":                {in: "phone|name\n+79001234567|Ann\n", want: ann + ` {"name":"Ann"}` + "\n"},
		"one column":         {in: "PHONE\n+79001234567\n", want: ann + "\n"},
		"sep":                {in: "sep=;\nphone;name\n+79001234567;a,b\n", want: ann + ` {"name":"a,b"}` + "\n"},
		"quoted header":      {in: "\"phone\";\"First, Name\"\n+79001234567;Ann\n", want: ann + "\n"},
		"header blanks":      {in: " Phone , First Name \n+79001234567,Ann\n", want: ann + ` {"first_name":"Ann"}` + "\n"},
		"no last end":        {in: "phone,name\n+79001234567,Ann", want: ann + ` {"name":"Ann"}` + "\n"},
		"quotes":             {in: "phone,name\n\"+79001234567\",\"Ann \"\"A\"\", \nof Omsk\"\n+79001234568,Bob\n", want: ann + ` {"name":"Ann \"A\", \u000aof Omsk"}` + "\n" + bob + ` {"name":"Bob"}` + "\n"},
		"a bare quote":       {in: "phone,name\n+79001234567,5\" pipe\n", want: ann + ` {"name":"5\" pipe"}` + "\n"},
		"blank rows":         {in: "\n\nphone,name\n\n+79001234567,Ann\n,\n  \n\n+79001234568,Bob\n", want: ann + ` {"name":"Ann"}` + "\n" + bob + ` {"name":"Bob"}` + "\n"},
		"empty cells":        {in: "phone,name\n+79001234567,\n+79001234568,  \n", want: ann + "\n" + bob + "\n"},
		"too few":            {in: "phone,name,city\n+79001234567,Ann\n+79001234568,Bob,Omsk\n", want: bob + ` {"name":"Bob","city":"Omsk"}` + "\n", errors: "2: 2 cells"},
		"too many":           {in: "phone,name\n+79001234567,Ann,X\n+79001234568,Bob,,\n", want: bob + ` {"name":"Bob"}` + "\n", errors: "2: more cells"},
		"open quote":         {in: "phone,name\n+79001234567,\"Ann\n+79001234568,Bob\n", want: bob + ` {"name":"Bob"}` + "\n", errors: "2: not closed"},
		"open and next":      {in: "phone,name\n+79001234567,\"Ann\n+79001234568,\"Bob\"\n", want: bob + ` {"name":"Bob"}` + "\n", errors: "2: next one is inside"},
		"behind a quote":     {in: "phone,name\n+79001234567,\"Ann\"x\n+79001234568,Bob\n", want: bob + ` {"name":"Bob"}` + "\n", errors: "2: behind a closing quote"},
		"open for long":      {in: "phone,name\n+79001234567,\"Ann\n" + strings.Repeat("+79001234568,Bob\n", 5000), want: bob + ` {"name":"Bob"}` + "\n", errors: "2: not closed within"},
		"long row":           {in: "phone,name\n+79001234567," + long + "\n+79001234568,Bob\n", want: bob + ` {"name":"Bob"}` + "\n", errors: "2: longer than 64 KiB"},
		"very long row":      {in: "phone,name\n+79001234567," + strings.Repeat(long, 9) + "\n+79001234568,Bob\n", want: bob + ` {"name":"Bob"}` + "\n", errors: "2: longer than 64 KiB"},
		"long in quotes":     {in: "phone,name\n+79001234567,\"A\n" + long + "\n+79001234568,Bob\n", want: bob + ` {"name":"Bob"}` + "\n", errors: "2: not closed before|3: cells"},
		"zero byte":          {in: "phone,name\n+79001234567,A\x00nn\n+79001234568,Bob\n", want: bob + ` {"name":"Bob"}` + "\n", errors: "2: zero byte"},
		"UTF-8":              {in: russian, want: russianGot},
		"UTF-8 mark":         {in: "\uFEFF" + russian, want: russianGot},
		"1251":               {in: cp1251(russian), want: russianGot},
		"1251 later":         {in: "phone;name\n" + "+79001234567;Ann\n" + cp1251("+79001234568;Боб\n"), want: ann + ` {"name":"Ann"}` + "\n" + bob + ` {"name":"Боб"}` + "\n"},
		"1251 in quotes":     {in: cp1251("phone;name\n+79001234567;\"Анна\n+79001234568;Боб\n"), want: bob + ` {"name":"Боб"}` + "\n", errors: "2: not closed"},
		"broken UTF-8":       {in: "phone;name\n+79001234567;Анна\n+79001234560;\xcf\xee\n+79001234568;Боб\n", want: ann + ` {"name":"Анна"}` + "\n" + bob + ` {"name":"Боб"}` + "\n", errors: "3: not UTF-8"},
		"broken UTF-8 first": {in: "phone;name\n+79001234560;\xcf\xee\n+79001234567;Анна\n+79001234568;Боб\n", want: ann + ` {"name":"Анна"}` + "\n" + bob + ` {"name":"Боб"}` + "\n", errors: "2: not UTF-8"},
		"UTF-16LE mark":      {in: utf16Text(russian, false, true), want: russianGot},
		"UTF-16BE mark":      {in: utf16Text(russian, true, true), want: russianGot},
		"UTF-16LE":           {in: utf16Text(russian, false, false), want: russianGot},
		"UTF-16BE":           {in: utf16Text(russian, true, false), want: russianGot},
		"time zones":         {in: "phone,timezone\n+79001234567,Asia/Omsk\n+79001234560,Omsk\n+79001234561,Local\n+79001234568,\n", want: ann + " @Asia/Omsk\n" + bob + "\n", errors: "3: IANA|4: IANA"},
		"addresses": {in: "phone,customer_id,external_id\n,0198A000-0000-7000-8000-00000000000A,\n,,abc\n+79001234567,,\n,nonsense,\n,,\n+79001234568,,x1\n",
			want: "0:0198a000-0000-7000-8000-00000000000a\n1:abc\n" + ann + "\n1:x1 {\"phone\":\"+79001234568\"}\n", errors: "5: no UUID"},
		"duplicates":    {in: "phone,external_id\n+79001234567,\n+7 900 123-45-67,\n,79001234567\n,79001234567\n,a\n,a\n", want: ann + "\n1:79001234567\n1:a\n"},
		"nobody":        {in: "name,phone\nAnn,\n", errors: "2: no phone, customer_id or external_id"},
		"NDJSON":        {ndjson: true, in: `{"phone":"+79001234567","Name":"A\u006en \"x\"","n":7,"yes":true,"none":null}` + "\n\n" + `{"phone":"+79001234568"}`, want: ann + ` {"name":"Ann \"x\"","n":"7","yes":"true"}` + "\n" + bob + "\n"},
		"bad NDJSON":    {ndjson: true, in: "x\n[1]\n{\"phone\":\"+79001234567\",\"a\":{}}\n{\"phone\":\"+79001234567\",\"a\":\"1\",\"A\":\"2\"}\n{\"phone\":\"+79001234567\",\"a\":\"\\u0000\"}\n{\"phone\":\"+79001234568\"}\n", want: bob + "\n", errors: "1: not one JSON|2: not one JSON|3: object or a list|4: there twice|5: zero byte"},
		"NDJSON number": {ndjson: true, in: `{"phone":79001234567}`, want: ann + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// In one piece, and byte by byte.
			for _, body := range []io.Reader{strings.NewReader(c.in), io.MultiReader(strings.NewReader(c.in[:len(c.in)/2]), strings.NewReader(c.in[len(c.in)/2:]))} {
				m, got, err := readTable(t, program(t, "Hello"), campaigns.Source{Body: body, NDJSON: c.ndjson})
				if err != nil {
					t.Fatal(err)
				}
				want := c.want
				if m.got() != want && !(strings.HasPrefix(name, "open for long") && got.Duplicates == 4999) {
					t.Errorf("got\n%swant\n%s", m.got(), want)
				}
				var parts []string
				if c.errors != "" {
					parts = strings.Split(c.errors, "|")
				}
				if len(got.Errors) != len(parts) || got.Rejected != int64(len(parts)) {
					t.Fatalf("errors %v, want %q", got.Errors, parts)
				}
				for i, e := range got.Errors {
					line, reason, _ := strings.Cut(parts[i], ": ")
					if fmt.Sprint(e.Line) != line || !strings.Contains(e.Reason, reason) {
						t.Errorf("error %+v, want %q", e, parts[i])
					}
				}
				for _, r := range m.list {
					if len(r.Vars) > 0 && !json.Valid(r.Vars) {
						t.Errorf("variables %s", r.Vars)
					}
				}
			}
		})
	}
}

// What is no table at all is refused, with what would be right.
func TestNoTables(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want string }{
		"gzip":             {"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "Content-Encoding: gzip"},
		"workbook":         {"PK\x03\x04\x14\x00", "save it as CSV"},
		"carriage returns": {"phone,name\r+79001234567,Ann\r", "line feeds"},
	} {
		_, _, err := readTable(t, program(t, "Hello"), campaigns.Source{Body: strings.NewReader(c.in)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// What does not fit is found out before anything is sent.
func TestRowsThatDoNotFit(t *testing.T) {
	t.Parallel()
	p, _, err := campaigns.Check(t.Context(), campaigns.Definition{Name: "x", Content: text("Hi {{name}}, {{when|soon}}"), Steps: []campaigns.Step{{AccountID: accountA}, {AccountID: accountB}}}, testAccounts(), files{})
	if err != nil {
		t.Fatal(err)
	}
	m, got, err := readTable(t, p, campaigns.Source{Body: strings.NewReader("phone,name,when\n+79001234561,Ann,\n+79001234562,Ann,tomorrow or so\n+79001234563,,today\n+79001234564,Анна Анна 1,\n")})
	if err != nil || len(m.list) != 2 || len(got.Errors) != 2 {
		t.Fatalf("%s %+v %v", m.got(), got, err)
	}
	if e := got.Errors[0]; e.Line != 3 || !strings.Contains(e.Reason, "steps[1] with the row's variables: text of 22 runes is over 1 messages of 20") {
		t.Errorf("too long: %+v", e)
	}
	if e := got.Errors[1]; e.Line != 4 || !strings.Contains(e.Reason, "variable name is missing or empty") {
		t.Errorf("missing: %+v", e)
	}
}

func TestManyErrors(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("phone\n")
	for range 25000 {
		b.WriteString("x\n")
	}
	_, got, err := readTable(t, program(t, "Hello"), campaigns.Source{Body: strings.NewReader(b.String())})
	if err != nil || got.Rejected != 25000 || len(got.Errors) != 1000 || got.Errors[999].Line != 1001 {
		t.Errorf("%d, %d, %v", got.Rejected, len(got.Errors), err)
	}
}

func FuzzTable(f *testing.F) {
	for _, s := range []string{"phone,name\n+79001234567,Ann\n", "\uFEFFphone;имя\r\n\"+7 900 123-45-67\";\"a \"\"b\"\"\n\nc\"\n", "sep=|\nexternal_id|x\n1|\"\n2|\"\n", utf16Text("phone\n+79001234567\n", true, true), "{\"phone\":\"+79001234567\",\"a\":\"\\u0416\"}\n",
		"phone\n\"", "phone,a\n\"+79001234567\"x,\n", "customer_id\tphone\n0198a000-0000-7000-8000-00000000000a\t\n"} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	p := program(f, "Hello {{name|x}}")
	f.Fuzz(func(t *testing.T, in []byte, ndjson bool) {
		m, got, err := readTable(t, p, campaigns.Source{Body: bytes.NewReader(in), NDJSON: ndjson})
		if err != nil { // of a header
			if !strings.HasSuffix(err.Error(), switchboard.ErrInvalid.Error()) {
				t.Fatal(err)
			}
			return
		}
		lines := bytes.Count(in, []byte("\n")) + 1
		if rows := got.Accepted + got.Rejected + got.Duplicates; rows > int64(lines) {
			t.Errorf("%d rows of %d lines", rows, lines)
		}
		for _, e := range got.Errors {
			if e.Line < 1 || e.Line > lines || e.Reason == "" {
				t.Errorf("error %+v of %d lines", e, lines)
			}
		}
		seen := map[string]bool{}
		for _, r := range m.list {
			if key := fmt.Sprint(r.Kind, string(r.Address)); seen[key] || len(r.Address) == 0 || bytes.IndexByte(r.Address, 0) >= 0 {
				t.Errorf("recipient %q is empty, or there twice", r.Address)
			} else {
				seen[key] = true
			}
			var vars map[string]string
			if len(r.Vars) > 0 {
				if err := json.Unmarshal(r.Vars, &vars); err != nil || len(vars) == 0 {
					t.Errorf("variables %q: %v", r.Vars, err)
				}
			}
			for name, v := range vars {
				if v == "" || strings.ContainsRune(v, 0) || strings.ToLower(name) != name {
					t.Errorf("variable %q = %q", name, v)
				}
			}
		}
		// Packed it is the same.
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		z.Write(in)
		z.Close()
		if again, _, err := readTable(t, p, campaigns.Source{Body: &packed, NDJSON: ndjson, Gzip: true}); err != nil || again.got() != m.got() {
			t.Errorf("packed: %v", err)
		}
	})
}
