package consume

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestDeadLetterHeaders(t *testing.T) {
	t.Parallel()
	r := Record{
		Topic: "orders", Partition: 2, Offset: 258, Timestamp: time.UnixMilli(515),
		Headers: headers("ce_id", "7", "kafka_dlt-original-topic", "an earlier one"),
	}
	got := DeadLetterHeaders(r, DeadLetterCause{Group: "billing", Reason: "no such customer"})
	assert.Equal(t, headers(
		"ce_id", "7", "kafka_dlt-original-topic", "orders", "kafka_dlt-original-partition", "\x00\x00\x00\x02",
		"kafka_dlt-original-offset", "\x00\x00\x00\x00\x00\x00\x01\x02", "kafka_dlt-original-timestamp", "\x00\x00\x00\x00\x00\x00\x02\x03",
		"kafka_dlt-original-timestamp-type", "CreateTime", "kafka_dlt-original-consumer-group", "billing",
		"kafka_dlt-exception-message", "no such customer",
	), got)
	assert.Len(t, r.Headers, 2, "those of the record stay as they are")
}
