package faults

import (
	"fmt"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/kafkatest"
)

// record is a record as stored in Kafka.
type record struct{ *sarama.ConsumerMessage }

func (r record) header(name string) string {
	for _, h := range r.Headers {
		if string(h.Key) == name {
			return string(h.Value)
		}
	}
	return ""
}

// where returns the record's place, for messages.
func (r record) where() string { return fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset) }

// readAgain calls do for every record of the run, from the oldest.
func (r *run) readAgain(do func(record)) {
	r.t.Helper()
	reader := kafkatest.NewReader(r.kafka, r.audit.reader.Topics...)
	defer func() { _ = reader.Close() }()
	require.NoError(r.t, reader.Read(r.ctx, func(m *sarama.ConsumerMessage) { do(record{m}) }))
}
