package broker

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/outboxstream/streamer/internal/kafkatest/fake"
)

const topic = "orders"

// transactions writes transactions of some records over two partitions. The
// last one stays open until the returned function commits it.
func transactions(t *testing.T, cluster fake.Cluster, sizes ...int) (commit func()) {
	t.Helper()
	config := ProducerConfig()
	config.Producer.Transaction.ID = "contender"
	config.Producer.Partitioner = sarama.NewManualPartitioner
	producer, err := sarama.NewSyncProducer(cluster.Brokers(), config)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, producer.Close()) })
	for i, size := range sizes {
		require.NoError(t, producer.BeginTxn())
		for n := range size {
			_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Partition: int32(n % 2), Value: sarama.StringEncoder("x")})
			require.NoError(t, err)
		}
		if i < len(sizes)-1 {
			require.NoError(t, producer.CommitTxn())
		}
	}
	return func() { require.NoError(t, producer.CommitTxn()) }
}

// watched is an Arrivals of a cluster with a topic of two partitions.
func watched(t *testing.T, isolation sarama.IsolationLevel) (*Arrivals, fake.Cluster) {
	t.Helper()
	cluster := fake.Start(t, kfake.NumBrokers(1), kfake.SeedTopics(2, topic))
	a, err := OpenArrivals(t.Context(), cluster.Brokers(), []string{topic}, isolation)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, a.Close()) })
	return a, cluster
}

// Markers among the events are not events, and events of an open transaction
// have not arrived.
func TestArrivalsInTransactions(t *testing.T) {
	t.Parallel()
	a, cluster := watched(t, sarama.ReadCommitted)
	commit := transactions(t, cluster, 2, 4, 6)
	count, err := a.Final(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 6, count, "of two transactions")
	commit()
	count, err = a.Final(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 12, count)
}

// There are enough records as soon as the markers are counted as events. The
// watch goes on until there are enough events.
func TestWatchTransactions(t *testing.T) {
	t.Parallel()
	a, cluster := watched(t, sarama.ReadCommitted)
	commit := transactions(t, cluster, 2, 4, 6) // 6 events and 4 markers are visible
	first, last := 0, 0
	ended := make(chan struct{})
	observer := Observer{First: func() { first++ }, Last: func() {
		if last++; last == 1 {
			commit()
		}
	}}
	m, err := a.Watch(t.Context(), 10, ended, observer)
	require.NoError(t, err)
	assert.Equal(t, 1, first)
	assert.Equal(t, 2, last, "with 10 records, and with 18")
	assert.True(t, m.Last.After(m.First))

	close(ended)
	_, err = a.Watch(t.Context(), 13, ended, observer)
	require.ErrorContains(t, err, "ended with 12 of 13 events")
}

func TestCountAll(t *testing.T) {
	t.Parallel()
	batch := func(offset int64, delta int32, control, cut bool) *sarama.Records {
		return &sarama.Records{RecordBatch: &sarama.RecordBatch{
			FirstOffset: offset, LastOffsetDelta: delta, Control: control, PartialTrailingRecord: cut,
		}}
	}
	for _, test := range []struct {
		name                      string
		sets                      []*sarama.Records
		from, wantNext, wantCount int64
	}{
		{name: "nothing", from: 3, wantNext: 3},
		{name: "events and markers", sets: []*sarama.Records{batch(0, 9, false, false), batch(10, 0, true, false)}, wantNext: 11, wantCount: 1},
		{
			name: "from within a batch", sets: []*sarama.Records{batch(0, 9, false, false), batch(10, 0, true, false)},
			from: 5, wantNext: 11, wantCount: 1,
		},
		{name: "from behind a marker", sets: []*sarama.Records{batch(0, 0, true, false), batch(1, 4, false, false)}, from: 1, wantNext: 6},
		{name: "truncated", sets: []*sarama.Records{batch(0, 9, false, false), batch(10, 0, true, true)}, wantNext: 10},
	} {
		next, markers := countAll(test.sets, test.from)
		assert.Equal(t, test.wantNext, next, test.name)
		assert.Equal(t, test.wantCount, markers, test.name)
	}
}
