package e2e

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// No event is in a transaction. So consumers see all events, and at once,
// whatever their isolation level. Only the markers of the fence are
// transactional.
func TestEventsAreInNoTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t, outboxTable)
	p := r.startReady()
	r.load(300)()
	r.await(p, "order", 300)
	p.kill()
	p = r.startReady()
	r.loadBetween(300, 400)()
	r.await(p, "order", 400)

	events, markers := 0, 0
	for _, batch := range r.batches("order") {
		if batch.Control {
			markers++
			continue
		}
		assert.False(t, batch.IsTransactional, "batch at offset %d", batch.FirstOffset)
		events += int(batch.LastOffsetDelta) + 1
	}
	assert.Equal(t, 400, events)
	assert.Positive(t, markers, "the second start has fenced the first")
	assert.Zero(t, p.stop())
}

// batches reads a topic as a consumer that reads committed records does, and
// requires that nothing is withheld from it.
func (r *rig) batches(aggregateType string) (all []*sarama.RecordBatch) {
	r.t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V3_6_0_0
	client, err := sarama.NewClient(r.kafka.Brokers(), config)
	require.NoError(r.t, err)
	defer func() { assert.NoError(r.t, client.Close()) }()
	topic := r.topic(aggregateType)
	partitions, err := client.Partitions(topic)
	require.NoError(r.t, err)
	for _, id := range partitions {
		leader, err := client.Leader(topic, id)
		require.NoError(r.t, err)
		for next, end := int64(0), int64(1); next < end; {
			request := &sarama.FetchRequest{Version: 11, MaxBytes: 1 << 20, SessionEpoch: -1, Isolation: sarama.ReadCommitted}
			request.AddBlock(topic, id, next, 1<<20, -1)
			response, err := leader.Fetch(request)
			require.NoError(r.t, err)
			block := response.GetBlock(topic, id)
			require.Equal(r.t, sarama.ErrNoError, block.Err)
			require.Equal(r.t, block.HighWaterMarkOffset, block.LastStableOffset, "partition %d", id)
			end = block.HighWaterMarkOffset
			for _, records := range block.RecordsSet {
				all = append(all, records.RecordBatch)
				next = records.RecordBatch.FirstOffset + int64(records.RecordBatch.LastOffsetDelta) + 1
			}
		}
	}
	return all
}
