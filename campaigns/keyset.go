package campaigns

// keySet is a set of numbers other than 0. A million take 11 to 16 MiB: a map takes
// 20 to 38, and leaves as much behind at every growth. It grows shard by shard.
type keySet struct {
	shards [256]keyShard
}

type keyShard struct {
	slots []uint64 // a power of two of them; 0 is free
	n     int
}

func place(key uint64) (shard int, hash uint64) {
	h := key * 0x9e3779b97f4a7c15
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return int(h >> 56), h
}

// add adds a key, and reports whether it was not there.
func (s *keySet) add(key uint64) bool {
	i, h := place(key)
	sh := &s.shards[i]
	if sh.n >= len(sh.slots)*3/4 {
		sh.grow()
	}
	if !sh.put(key, h) {
		return false
	}
	sh.n++
	return true
}

func (sh *keyShard) put(key, h uint64) bool {
	mask := uint64(len(sh.slots) - 1)
	for j := h & mask; ; j = (j + 1) & mask {
		switch sh.slots[j] {
		case key:
			return false
		case 0:
			sh.slots[j] = key
			return true
		}
	}
}

func (sh *keyShard) grow() {
	old := sh.slots
	sh.slots = make([]uint64, max(64, 2*len(old)))
	for _, key := range old {
		if key != 0 {
			_, h := place(key)
			sh.put(key, h)
		}
	}
}
