package verify

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
)

// fact names a part of an event that is compared.
type fact int

// The parts, in the order in which differences are listed.
const (
	factPayload fact = iota
	factTopic
	factKey
	factType
	factSubject
	factSource
	factTime
	factContentType
	factAttributes
	factCount
)

var factNames = [factCount]string{"payload", "topic", "key", "type", "subject", "source", "time", "datacontenttype", "extensions"}

// facts are hashes of the parts; 0 means that the part is unknown. A difference
// goes unnoticed with a probability of 1 in 4 billion.
type facts [factCount]uint32

// differs lists the parts that both sides know and that differ.
func (f *facts) differs(g *facts) []string {
	var names []string
	for i := range f {
		if f[i] != 0 && g[i] != 0 && f[i] != g[i] {
			names = append(names, factNames[i])
		}
	}
	return names
}

func (f *facts) sameAs(g *facts) bool {
	for i := range f {
		if f[i] != 0 && g[i] != 0 && f[i] != g[i] {
			return false
		}
	}
	return true
}

// set hashes a part; nil means unknown.
func (f *facts) set(i fact, seed maphash.Seed, value []byte) {
	if value != nil {
		f[i] = known(uint32(maphash.Bytes(seed, value)))
	}
}

func known(hash uint32) uint32 { return max(hash, 1) }

// PayloadHash is the payload as a truth file holds it.
type PayloadHash [sha256.Size]byte

// HashPayload hashes the data of an event. present is false for a null record
// value and for an event without data, which is not the same as empty data.
func HashPayload(data []byte, present bool) PayloadHash {
	if !present {
		return PayloadHash{} // to which nothing hashes
	}
	return sha256.Sum256(data)
}

func (h *PayloadHash) fact() uint32 { return known(binary.BigEndian.Uint32(h[:])) }

// attributeSet hashes named values regardless of their order.
type attributeSet struct {
	seed  maphash.Seed
	names map[string]bool // those that are compared
	sum   uint32
}

func (s *attributeSet) add(name string, value []byte) {
	if len(value) > 0 && s.names[name] {
		var h maphash.Hash
		h.SetSeed(s.seed)
		_, _ = h.WriteString(name)
		_ = h.WriteByte(0)
		_, _ = h.Write(value)
		s.sum += uint32(h.Sum64())
	}
}

func (s *attributeSet) fact() uint32 { return known(s.sum) }
