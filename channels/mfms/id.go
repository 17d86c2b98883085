package mfms

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// scrambler makes the ids of our messages: UUIDs of version 8 that hold the
// phone, since delivery reports name nothing else, and that show it to nobody who
// reads an id in a log. The key comes from the account's id, so that ids stay
// readable when settings change; it is no protection against forgery, which
// webhooks have a password for.
//
// Of the 122 bits that a UUID leaves, 50 are the phone (up to 15 digits), 7 the
// part, 41 a hash of our message id (so that two messages to one phone differ:
// the chance that two of a million do not is below one half, for one phone), and
// 24 are zero, to tell ids that are not ours.
type scrambler struct{ key [32]byte }

const (
	phoneBits, partBits, hashBits, zeroBits = 50, 7, 41, 24
	half                                    = 61 // bits of each half
	mask                                    = 1<<half - 1
	rounds                                  = 6
)

func newScrambler(accountID string) scrambler {
	return scrambler{sha256.Sum256([]byte("ids of mfms account " + accountID))}
}

// id names one part of a message. It is the same at every attempt. phone is what
// isPhone takes.
func (s scrambler) id(phone, messageID string, part int) string {
	number, _ := strconv.ParseUint(phone, 10, 64)
	sum := sha256.Sum256([]byte(messageID))
	hash := binary.BigEndian.Uint64(sum[:]) & (1<<hashBits - 1)
	// left: phone and 11 bits of the hash; right: part, 30 bits of the hash, zeros.
	left := number<<(half-phoneBits) | hash>>30
	right := uint64(part)&(1<<partBits-1)<<(half-partBits) | hash&(1<<30-1)<<zeroBits
	for r := range rounds {
		left, right = right, left^s.round(r, right)
	}
	return join(left, right)
}

// phone reads the phone out of an id; "" when the id is not one of ours.
func (s scrambler) phone(id string) string {
	left, right, ok := cut(id)
	if !ok {
		return ""
	}
	for r := rounds - 1; r >= 0; r-- {
		left, right = right^s.round(r, left), left
	}
	phone := strconv.FormatUint(left>>(half-phoneBits), 10)
	if right&(1<<zeroBits-1) != 0 || !isPhone(phone) {
		return ""
	}
	return phone
}

func (s scrambler) round(r int, v uint64) uint64 {
	mac := hmac.New(sha256.New, s.key[:])
	mac.Write(binary.BigEndian.AppendUint64([]byte{byte(r)}, v))
	return binary.BigEndian.Uint64(mac.Sum(nil)) & mask
}

// join spreads two halves over a UUID: 48 bits, the version, 12 bits, the
// variant, 62 bits.
func join(left, right uint64) string {
	hi := left>>13<<16 | 8<<12 | left>>1&0xfff
	lo := uint64(2)<<62 | left&1<<61 | right
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&(1<<48-1))
}

func cut(id string) (left, right uint64, ok bool) {
	var raw [16]byte
	digits := strings.ReplaceAll(id, "-", "")
	if len(digits) != 32 {
		return 0, 0, false
	}
	if _, err := hex.Decode(raw[:], []byte(digits)); err != nil {
		return 0, 0, false
	}
	hi, lo := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	if hi>>12&0xf != 8 || lo>>62 != 2 {
		return 0, 0, false
	}
	return hi>>16<<13 | hi&0xfff<<1 | lo>>61&1, lo & mask, true
}

// isPhone reports whether s is a phone as MFMS writes it: the country's code and
// the number, 7 to 15 digits.
func isPhone(s string) bool {
	return len(s) >= 7 && len(s) <= 15 && s[0] != '0' && strings.Trim(s, "0123456789") == ""
}

// phone is the digits of an address; "" when they make no phone.
func phone(address string) string {
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, address)
	if !isPhone(digits) {
		return ""
	}
	return digits
}
