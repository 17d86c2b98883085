package campaigns

import (
	"math/rand/v2"
	"testing"
)

func TestKeySet(t *testing.T) {
	t.Parallel()
	var s keySet
	want := map[uint64]bool{}
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 300000 {
		key := uint64(79000000000 + i)
		if i%3 == 0 {
			key = 1<<63 | random.Uint64N(40000)
		}
		if added := s.add(key); added == want[key] {
			t.Fatalf("key %d: added %v, there before %v", key, added, want[key])
		}
		want[key] = true
	}
	n, slots := 0, 0
	for i := range s.shards {
		n += s.shards[i].n
		slots += len(s.shards[i].slots)
	}
	if n != len(want) || slots > 4*n {
		t.Errorf("%d keys in %d slots, want %d", n, slots, len(want))
	}
}
