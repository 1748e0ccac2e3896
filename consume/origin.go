package consume

import (
	"regexp"
	"slices"

	"github.com/cloudevents/sdk-go/v2/event"
)

// Headers of the streamer. See docs/wire-format.md.
const (
	headerStream = "streamer-stream"
	headerReplay = "streamer-replay"
)

// position is where an event stands in its stream, if a range can tell by it
// whether the event is handled. Nothing of it is guessed: see [positionOf].
type position struct {
	stream   string
	sequence string
	ordered  bool // the record is one of the stream itself: its sequence exceeds all before it
}

// sequences have a fixed width, so that their order is that of their text.
var sequences = regexp.MustCompile(`^[0-9a-f]{16}-[0-9a-f]{8}$`)

// positionOf says what a record tells about its place. These records have none,
// and are judged by the ledger alone:
//
//   - those of foreign producers: no header streamer-stream;
//   - dead letters that were published after all, events that a take-over found
//     missing, and those of a table that have no sequence: nothing says that they
//     are there because they were handled.
func positionOf(r *Record, e *event.Event) position {
	stream, written := r.Header(headerStream)
	sequence, _ := e.Extensions()["sequence"].(string)
	replay, again := r.Header(headerReplay)
	if !written || stream == "" || !sequences.MatchString(sequence) || again && isLate(replay) {
		return position{}
	}
	return position{stream: stream, sequence: sequence, ordered: !again}
}

// isLate reports whether a mark says that the event was not published before.
func isLate(replay string) bool {
	return replay == "dead-letter" || replay == "take-over"
}

// Home returns the partition to which the streamer and Java's clients send a key.
func Home(key []byte, partitions int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % partitions
}

// homes are the partitions in which the events of a key can be, the latest first,
// and with which number of partitions each began.
type homes struct {
	at, since []int32
}

func (h homes) equal(other homes) bool {
	return slices.Equal(h.at, other.at) && slices.Equal(h.since, other.since)
}

// homesOf returns the homes of a key, given how many partitions its topic has had,
// earliest first.
func homesOf(key []byte, counts []int32) (h homes) {
	for _, count := range slices.Backward(counts) {
		at := Home(key, count)
		if last := len(h.at) - 1; last >= 0 && h.at[last] == at {
			h.since[last] = count
			continue
		}
		h.at, h.since = append(h.at, at), append(h.since, count)
	}
	return h
}

// murmur2 is the hash of Kafka's default partitioner
// (org.apache.kafka.common.utils.Utils.murmur2).
func murmur2(key []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := uint32(seed) ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		k := uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h = h*m ^ k
	}
	switch len(key) {
	case 3:
		h ^= uint32(key[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(key[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(key[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
