package audit_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/examples/shop"
	"github.com/outboxstream/streamer/internal/audit"
	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

const topic = "outbox.event.order"

// written is the event n of a run: event 12 is version 2 of order-1.
func written(n int) shop.Event {
	return shop.Event{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)), AggregateType: "order",
		AggregateID: fmt.Sprintf("order-%d", n/10), Type: "order.changed", Version: int64(n % 10),
	}
}

// transaction holds the events with the given numbers.
func transaction(numbers ...int) (t shop.Transaction) {
	for _, n := range numbers {
		t.Events = append(t.Events, written(n))
	}
	return t
}

// record is the record of event n in its place; its WAL position gives the
// sequence.
func record(n, sequence int) *sarama.ConsumerMessage {
	e := written(n)
	m := &sarama.ConsumerMessage{
		Topic: topic, Timestamp: time.Unix(int64(sequence), 0), Key: []byte(e.AggregateID),
		Value: fmt.Appendf(nil, `{"version":%d}`, e.Version),
	}
	for _, header := range [][2]string{
		{"content-type", "application/json"},
		{"ce_specversion", "1.0"},
		{"ce_id", e.ID.String()},
		{"ce_source", "/shop"},
		{"ce_type", e.Type},
		{"ce_subject", e.AggregateID},
		{"ce_sequence", fmt.Sprintf("%08d", sequence)},
	} {
		m.Headers = append(m.Headers, &sarama.RecordHeader{Key: []byte(header[0]), Value: []byte(header[1])})
	}
	return m
}

// aside moves a record from partition 0 to partition 1.
func aside(m *sarama.ConsumerMessage) *sarama.ConsumerMessage {
	m.Partition = 1
	return m
}

// with changes a record.
func with(m *sarama.ConsumerMessage, change func(*sarama.ConsumerMessage)) *sarama.ConsumerMessage {
	change(m)
	return m
}

// header sets the value of a header.
func header(name, value string) func(*sarama.ConsumerMessage) {
	return func(m *sarama.ConsumerMessage) {
		for _, h := range m.Headers {
			if string(h.Key) == name {
				h.Value = []byte(value)
			}
		}
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	// Events 11, 12, 13 of order-1 and 21, 22 of order-2 were committed; 14 was
	// rolled back.
	ledger := shop.Ledger{
		Committed:  []shop.Transaction{transaction(13), transaction(11), transaction(12, 21), transaction(22)},
		RolledBack: []shop.Transaction{transaction(14)},
	}
	type list = []*sarama.ConsumerMessage
	type count = map[audit.Kind]int
	for name, test := range map[string]struct {
		messages list
		want     count
		repeated int
		detail   string
	}{
		"everything once": {
			messages: list{record(11, 1), record(12, 2), record(21, 3), record(13, 4), record(22, 5)},
		},
		"aggregates in partitions of their own": {
			messages: list{record(11, 1), record(12, 2), record(13, 4), aside(record(21, 3)), aside(record(22, 5))},
		},
		"an event that is missing is lost": {
			messages: list{record(11, 1), record(21, 3), record(13, 4), record(22, 5)},
			want:     count{audit.Lost: 1}, detail: "version 2",
		},
		"nothing at all": {want: count{audit.Lost: 5}},
		"a repeated suffix is counted and no error": {
			messages: list{record(11, 1), record(12, 2), record(21, 3), record(12, 2), record(21, 3), record(13, 4), record(22, 5)},
			repeated: 2,
		},
		"a crash while repeating, and at the end": {
			messages: list{
				record(11, 1), record(12, 2), record(21, 3), record(11, 1), record(12, 2), record(11, 1), record(12, 2), record(21, 3),
				record(13, 4), record(22, 5), record(22, 5),
			},
			repeated: 6,
		},
		"a repetition that leaves out a record is torn": {
			messages: list{record(11, 1), record(12, 2), record(21, 3), record(11, 1), record(21, 3), record(13, 4), record(22, 5)},
			want:     count{audit.Torn: 1}, repeated: 2, detail: "leaves out 1 records",
		},
		"a repetition that does not reach the end is torn": {
			messages: list{record(11, 1), record(12, 2), record(21, 3), record(12, 2), record(13, 4), record(22, 5)},
			want:     count{audit.Torn: 1}, repeated: 1, detail: "ends 1 records before",
		},
		"a repetition that stops in the middle for good is torn": {
			messages: list{record(11, 1), record(12, 2), record(21, 3), record(13, 4), record(22, 5), record(21, 3)},
			want:     count{audit.Torn: 1}, repeated: 1, detail: "ends 2 records before",
		},
		"a repetition with other bytes is altered": {
			messages: list{
				record(11, 1), record(12, 2), record(21, 3), record(13, 4), record(22, 5),
				with(record(22, 5), func(m *sarama.ConsumerMessage) { m.Value = []byte(`{"version": 2}`) }),
			},
			want: count{audit.Altered: 1}, repeated: 1, detail: "other bytes",
		},
		"a repetition with another header is altered": {
			messages: list{
				record(11, 1), record(12, 2), record(21, 3), record(13, 4), record(22, 5),
				with(record(22, 5), header("ce_sequence", "00000006")),
			},
			want: count{audit.Altered: 1}, repeated: 1,
		},
		"a repetition with another time is altered": {
			messages: list{
				record(11, 1), record(12, 2), record(21, 3), record(13, 4), record(22, 5),
				with(record(22, 5), func(m *sarama.ConsumerMessage) { m.Timestamp = time.Unix(9, 0) }),
			},
			want: count{audit.Altered: 1}, repeated: 1,
		},
		"a repetition in another partition is scattered": {
			messages: list{record(11, 1), record(12, 2), record(21, 3), record(13, 4), record(22, 5), aside(record(22, 5))},
			want:     count{audit.Scattered: 1}, repeated: 1,
		},
		"a later version before an earlier one is out of order": {
			messages: list{record(11, 1), record(13, 2), record(21, 3), record(12, 4), record(22, 5)},
			want:     count{audit.OutOfOrder: 1}, detail: "version 2 of order-1",
		},
		"a sequence that descends is out of order": {
			messages: list{record(11, 1), record(12, 4), record(21, 3), record(13, 5), record(22, 6)},
			want:     count{audit.OutOfOrder: 1}, detail: "sequence",
		},
		"a record without a sequence is out of order": {
			messages: list{
				record(11, 1), record(12, 2), record(21, 3), record(13, 4),
				with(record(22, 5), func(m *sarama.ConsumerMessage) { m.Headers = m.Headers[:len(m.Headers)-1] }),
			},
			want: count{audit.OutOfOrder: 1},
		},
		"an aggregate in two partitions is scattered": {
			messages: list{record(11, 1), record(12, 2), record(21, 3), record(22, 5), aside(record(13, 4))},
			want:     count{audit.Scattered: 1}, detail: "order-1",
		},
		"a rolled back event is a phantom": {
			messages: list{record(11, 1), record(12, 2), record(21, 3), record(13, 4), record(22, 5), record(14, 6)},
			want:     count{audit.Phantom: 1},
		},
		"an event nobody wrote is unknown": {
			messages: list{record(11, 1), record(12, 2), record(21, 3), record(13, 4), record(22, 5), record(99, 6)},
			want:     count{audit.Unknown: 1},
		},
		"another type, subject, key or version is altered": {
			messages: list{
				with(record(11, 1), header("ce_type", "order.eaten")),
				with(record(12, 2), header("ce_subject", "order-7")),
				record(21, 3),
				with(record(13, 4), func(m *sarama.ConsumerMessage) { m.Key = nil }),
				with(record(22, 5), func(m *sarama.ConsumerMessage) { m.Value = []byte("torn") }),
			},
			want: count{audit.Altered: 4}, detail: `has type "order.eaten" instead of "order.changed"`,
		},
		"a record that is no CloudEvent is invalid, and its event lost": {
			messages: list{record(11, 1), record(12, 2), record(21, 3), record(13, 4), with(record(22, 5), header("ce_specversion", ""))},
			want:     count{audit.Invalid: 1, audit.Lost: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for offset, m := range test.messages {
				m.Offset = int64(offset)
			}
			report := audit.Compare(ledger, test.messages)
			if test.want == nil {
				test.want = count{}
				require.NoError(t, report.Err())
			} else {
				require.ErrorContains(t, report.Err(), test.detail)
			}
			assert.Equal(t, test.want, report.Count)
			assert.Equal(t, test.repeated, report.Repeated)
			assert.Equal(t, 5, report.Committed)
			assert.Equal(t, 1, report.RolledBack)
			assert.Equal(t, len(test.messages), report.Records)
			assert.Equal(t, 5-test.want[audit.Lost], report.Published)
		})
	}
}

func TestReportIsShort(t *testing.T) {
	t.Parallel()
	var ledger shop.Ledger
	for n := range 100 {
		ledger.Committed = append(ledger.Committed, transaction(n))
	}
	report := audit.Compare(ledger, nil)
	assert.Equal(t, 100, report.Count[audit.Lost])
	assert.Len(t, report.Findings, 5)
	assert.ErrorContains(t, report.Err(), "100 lost")
}

func TestRead(t *testing.T) {
	t.Parallel()
	cluster := fake.Start(t)
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	admin, err := sarama.NewClusterAdmin(cluster.Brokers(), config)
	require.NoError(t, err)
	defer admin.Close()
	for _, name := range []string{topic, "outbox.event.customer"} {
		require.NoError(t, admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1}, false))
	}
	producer, err := sarama.NewSyncProducer(cluster.Brokers(), config)
	require.NoError(t, err)
	defer producer.Close()
	for n := range 8 {
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{
			Topic: []string{topic, "outbox.event.customer"}[n/2%2], Partition: int32(n % 2), Value: sarama.StringEncoder(strconv.Itoa(n)),
		})
		require.NoError(t, err)
	}

	messages, err := audit.Read(t.Context(), cluster.Brokers(), topic, "outbox.event.customer")
	require.NoError(t, err)
	got := make(map[string][]string)
	for _, m := range messages {
		where := fmt.Sprintf("%s-%d", m.Topic, m.Partition)
		got[where] = append(got[where], string(m.Value))
	}
	assert.Equal(t, map[string][]string{
		topic + "-0": {"0", "4"}, topic + "-1": {"1", "5"},
		"outbox.event.customer-0": {"2", "6"}, "outbox.event.customer-1": {"3", "7"},
	}, got)

	_, err = audit.Read(t.Context(), cluster.Brokers(), "nowhere")
	require.ErrorContains(t, err, `topic "nowhere"`)
}
