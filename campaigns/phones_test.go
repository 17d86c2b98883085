package campaigns

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/nyaruka/phonenumbers"
)

func TestPhones(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ region, number, want, wrong string }{
		{"", "+79001234567", "+79001234567", ""},
		{"", "79001234567", "+79001234567", ""},
		{"", " +7 (900) 123-45-67 ", "+79001234567", ""},
		{"RU", "8 (900) 123-45-67", "+79001234567", ""},
		{"ru", "89001234567", "+79001234567", ""},
		{"RU", "9001234567", "+79001234567", ""},
		{"RU", "79001234567", "+79001234567", ""},
		{"RU", "+4915112345678", "+4915112345678", ""},
		{"KZ", "87012345678", "+77012345678", ""},
		{"DE", "0151 12345678", "+4915112345678", ""},
		{"US", "(201) 555-0123", "+12015550123", ""},
		{"", "tel:+1-201-555-0123", "+12015550123", ""},
		{"IT", "06 1234 5678", "+390612345678", ""},
		{"", "+390612345678", "+390612345678", ""},
		{"", "+7900123456", "", errPhoneShort.Error()},
		{"", "+790012345678", "", errPhoneSize.Error()},
		{"", "+120155501234", "", errPhoneLong.Error()},
		{"", "89001234567", "", errNoCountry.Error()},
		{"", "0900", "", errNoCountry.Error()},
		{"", "", "", errNoPhone.Error()},
		{"", "ann@example.com", "", errNoPhone.Error()},
		{"", "+9990012345678", "", errNoCountry.Error()},
		{"", "+79001234567 ext. 12", "", errExtension.Error()},
	} {
		p, err := NewPhones(c.region)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.E164(c.number)
		if got != c.want || (err != nil) != (c.wrong != "") || (err != nil && err.Error() != c.wrong) {
			t.Errorf("%q in %q: %q, %v; want %q %s", c.number, c.region, got, err, c.want, c.wrong)
		}
	}
	for _, region := range []string{"Russia", "XX", "R", "001"} {
		if _, err := NewPhones(region); err == nil {
			t.Errorf("region %q is taken", region)
		}
	}
}

// library is what the numbers come to without the short cut.
func library(number, region string) (string, bool) {
	if region == "" && number[0] != '+' {
		number = "+" + number
	}
	n, err := phonenumbers.Parse(number, region)
	if err != nil || n.GetExtension() != "" || phonenumbers.IsPossibleNumberWithReason(n) != phonenumbers.IS_POSSIBLE {
		return "", false
	}
	return phonenumbers.Format(n, phonenumbers.E164), true
}

// The short cut says what the library says: for random numbers of every country,
// with and without plus, and read in several countries.
func TestPlainPhonesAreTheLibrarys(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	taken := 0
	for code := range phonenumbers.GetSupportedCallingCodes() {
		for range 25 {
			number := fmt.Sprint(code)
			for range 5 + random.IntN(8) {
				number += fmt.Sprint(random.IntN(10))
			}
			for _, region := range []string{"", "RU", "US", phonenumbers.GetRegionCodeForCountryCode(code)} {
				p, err := NewPhones(region)
				if err != nil {
					continue // of no country
				}
				for _, s := range []string{"+" + number, number} {
					if !p.plain([]byte(s)) {
						continue
					}
					taken++
					got, err := p.E164(s)
					if want, good := library(s, region); got != want || !good || err != nil {
						t.Errorf("%s in %q: %q, the library has %q", s, region, got, want)
					}
				}
			}
		}
	}
	if taken < 4000 {
		t.Errorf("only %d numbers took the short cut", taken)
	}
	p, _ := NewPhones("RU")
	for _, s := range []string{"+79001234567", "79001234567", "+4915112345678"} {
		if !p.plain([]byte(s)) {
			t.Errorf("%s does not take the short cut", s)
		}
	}
}

func BenchmarkPhones(b *testing.B) {
	p, err := NewPhones("RU")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := p.E164("+79001234567"); err != nil {
			b.Fatal(err)
		}
	}
}
