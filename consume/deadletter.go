package consume

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"time"
)

// Publisher stores a record in a dead letter topic. It returns once the brokers
// have acknowledged it. Cause says why the event could not be handled. After a
// crash the same record can come again. The adapters have publishers.
type Publisher func(ctx context.Context, r Record, cause DeadLetterCause) error

// DeadLetterCause says why a record is a dead letter.
type DeadLetterCause struct {
	Consumer string
	Group    string
	Attempts int
	Reason   string
	ParkedAt time.Time
}

// Headers of dead letters as Spring for Apache Kafka writes them
// (org.springframework.kafka.support.KafkaHeaders), which tools know.
const deadLetterPrefix = "kafka_dlt-"

// DeadLetterHeaders returns the headers of a dead letter: those of the record, and
// where it was and why it is here, as Spring for Apache Kafka writes it.
func DeadLetterHeaders(r Record, cause DeadLetterCause) []Header {
	all := slices.DeleteFunc(slices.Clone(r.Headers), func(h Header) bool { return strings.HasPrefix(h.Name, deadLetterPrefix) })
	add := func(name string, value []byte) {
		all = append(all, Header{Name: deadLetterPrefix + name, Value: value})
	}
	add("original-topic", []byte(r.Topic))
	add("original-partition", binary.BigEndian.AppendUint32(nil, uint32(r.Partition)))
	add("original-offset", binary.BigEndian.AppendUint64(nil, uint64(r.Offset)))
	add("original-timestamp", binary.BigEndian.AppendUint64(nil, uint64(r.Timestamp.UnixMilli())))
	add("original-timestamp-type", []byte("CreateTime"))
	add("original-consumer-group", []byte(cause.Group))
	add("exception-message", []byte(cause.Reason))
	return all
}
