package channels

import (
	"strings"
	"testing"
)

func TestRatesAreNumbers(t *testing.T) {
	t.Parallel()
	for value, ok := range map[string]bool{
		"0": true, "0.16": true, "3": true, "1000000": true, "": true,
		"-1": false, "1000001": false, "NaN": false, "nan": false, "Inf": false, "+Inf": false, "-Inf": false, "3/s": false,
	} {
		for _, key := range []string{"rate", "chat_rate"} {
			err := checkSettings(Platform{Name: "pager"}, Account{Settings: map[string]string{key: value}})
			if (err == nil) != ok {
				t.Errorf("%s=%q: %v", key, value, err)
			}
			if err != nil && !strings.Contains(err.Error(), key) {
				t.Errorf("%s=%q: the error names no setting: %v", key, value, err)
			}
		}
	}
}
