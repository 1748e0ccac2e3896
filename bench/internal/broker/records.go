package broker

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/IBM/sarama"

	"github.com/outboxstream/streamer/bench/internal/workload"
)

// ProducerConfig is the producer configuration of the harness and the baseline:
// as safe as the streamer's, and set up as a reader of sarama's documentation
// would.
func ProducerConfig() *sarama.Config {
	config := Config()
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1 // sarama requires it with Idempotent
	config.Producer.Compression = sarama.CompressionLZ4
	config.Producer.Return.Successes = true
	config.Producer.Return.Errors = true
	return config
}

// Records creates records of the size of a workload's events.
type Records struct {
	prefix  string
	types   int
	fillers []string
}

// overhead is roughly by how much a payload is longer than its filler.
const overhead = 110

// NewRecords returns Records for the topics with the prefix.
func NewRecords(prefix string, types, payload int) *Records {
	r := &Records{prefix: prefix, types: types, fillers: make([]string, 1024)}
	for i := range r.fillers {
		r.fillers[i] = filler(i, max(0, payload-overhead))
	}
	return r
}

// filler returns a text that does not compress well, like those of the
// workloads.
func filler(n, length int) string {
	const digits = "0123456789abcdef"
	var text strings.Builder
	state := uint64(n)*0x9e3779b97f4a7c15 + 1
	for range length {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		text.WriteByte(digits[state>>60])
	}
	return text.String()
}

// Record is event n, with key, headers and value like those of the streamer.
func (r *Records) Record(n int64) *sarama.ProducerMessage {
	aggregate := n * 7919 % workload.Aggregates
	id := "aggregate-" + strconv.FormatInt(aggregate, 10)
	return &sarama.ProducerMessage{
		Topic:   r.prefix + workload.Type(int(aggregate)%r.types),
		Key:     sarama.StringEncoder(id),
		Value:   sarama.StringEncoder(payload(n, r.fillers[n%int64(len(r.fillers))])),
		Headers: headers(n, id),
	}
}

// payload is event n as the workloads write it into the outbox.
func payload(n int64, filler string) string {
	return fmt.Sprintf(`{"n": %d, "note": %q, "status": "confirmed", "version": %d, "order_id": "order-%d", "amount_cents": %d}`,
		n, filler, n/10_000, n%10_000, n*7919%99_991)
}

// headers are roughly as many bytes as the streamer's: the headers of a
// CloudEvent.
func headers(n int64, id string) []sarama.RecordHeader {
	header := func(name, value string) sarama.RecordHeader {
		return sarama.RecordHeader{Key: []byte(name), Value: []byte(value)}
	}
	return []sarama.RecordHeader{
		header("ce_specversion", "1.0"),
		header("ce_id", fmt.Sprintf("00000000-0000-0000-0000-%012x", n)),
		header("ce_source", "/bench"),
		header("ce_type", "order.confirmed"),
		header("ce_subject", id),
		header("ce_time", "2026-01-02T15:04:05.000006Z"),
		header("ce_sequence", fmt.Sprintf("%032d", n)),
		header("ce_partitionkey", id),
		header("content-type", "application/json"),
		header("streamer", "0123456789abcdef"),
	}
}
