package channels_test

import (
	"strings"
	"testing"

	"switchboard/channels"
)

func TestMadeAt(t *testing.T) {
	t.Parallel()
	if at := channels.MadeAt("0199a8c0-de00-7000-8000-000000000001"); at.UnixMilli() != 0x0199a8c0de00 {
		t.Errorf("made at %v", at)
	}
	for _, id := range []string{"", "acc1", "0199a8c0-de00-4000-8000-000000000001", strings.Repeat("z", 12) + "7" + strings.Repeat("0", 19)} {
		if at := channels.MadeAt(id); !at.IsZero() {
			t.Errorf("%q was made at %v", id, at)
		}
	}
}
