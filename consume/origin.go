package consume

import (
	"regexp"
	"strings"

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
//     are there because they were handled;
//   - those that are not in the partition to which the streamer sends their key
//     now: they were written when the topic had fewer partitions, or by another
//     partitioner.
func positionOf(r *Record, e *event.Event, partitions int32) position {
	stream, written := r.Header(headerStream)
	sequence, _ := e.Extensions()["sequence"].(string)
	replay, again := r.Header(headerReplay)
	switch {
	case !written, stream == "", !sequences.MatchString(sequence):
		return position{}
	case again && isLate(replay):
		return position{}
	case again:
		return position{stream: stream, sequence: sequence}
	case partitions <= 0, Home(r.Key, partitions) != r.Partition:
		return position{}
	}
	return position{stream: stream, sequence: sequence, ordered: true}
}

// isLate reports whether a mark says that the event was not published before.
func isLate(replay string) bool {
	return replay == "dead-letter" || replay == "take-over" || strings.HasPrefix(replay, "missing")
}

// Home returns the partition to which the streamer and Java's clients send a key.
func Home(key []byte, partitions int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % partitions
}

// homes returns where the events of a key can be, given how many partitions the
// topic has had: the present partition first, and then backwards in time.
func homes(r *Record, counts []int32) []int32 {
	all := []int32{r.Partition}
	for i := len(counts) - 1; i >= 0; i-- {
		if former := Home(r.Key, counts[i]); former != all[len(all)-1] {
			all = append(all, former)
		}
	}
	return all
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
