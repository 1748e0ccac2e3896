package e2e

import (
	"github.com/IBM/sarama"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// records returns everything that a topic holds, partition by partition.
func (s *stage) records(topic string) []*sarama.ConsumerMessage {
	s.Helper()
	all, err := s.kafka.Consume(s.Context(), topic)
	require.NoError(s, err)
	return all
}

// ends returns the offset after the last record of each partition that has one.
func (s *stage) ends(topic string) map[int32]int64 {
	ends := map[int32]int64{}
	for _, r := range s.records(topic) {
		ends[r.Partition] = max(ends[r.Partition], r.Offset+1)
	}
	return ends
}

// published reports whether every row of the outbox is in these topics.
func (d *database) published(table string, topics ...string) bool {
	d.Helper()
	records := 0
	for _, topic := range topics {
		records += len(d.records(topic))
	}
	rows := d.number("select count(*) from " + pgx.Identifier{table}.Sanitize())
	require.LessOrEqual(d, int64(records), rows, "an event was published twice")
	return int64(records) == rows
}

// handled reports whether a consumer has got to the end of topics.
func (d *database) handled(consumer string, topics ...string) bool {
	d.Helper()
	for _, topic := range topics {
		for partition, end := range d.ends(topic) {
			if d.number(`select count(*) from inbox.position p join inbox.consumer c on c.number = p.consumer
				where c.name = $1 and p.topic = $2 and p.partition = $3 and p.next_offset >= $4`, consumer, topic, partition, end) == 0 {
				return false
			}
		}
	}
	return true
}

// nothingParked asserts that no event was put aside.
func (d *database) nothingParked() {
	d.Helper()
	assert.Empty(d, d.texts("select topic || ': ' || reason from inbox.parked_key"), "parked keys")
}

// forget deletes from a topic what a consumer has handled, as Kafka's retention does
// after some time. It returns how many records that were.
func (d *database) forget(consumer, topic string) (deleted int) {
	d.Helper()
	before := len(d.records(topic))
	rows, err := d.db.Query(d.Context(), `select p.partition, p.next_offset from inbox.position p
		join inbox.consumer c on c.number = p.consumer where c.name = $1 and p.topic = $2`, consumer, topic)
	require.NoError(d, err)
	offsets := map[int32]int64{}
	var partition int32
	var next int64
	_, err = pgx.ForEachRow(rows, []any{&partition, &next}, func() error {
		offsets[partition] = next
		return nil
	})
	require.NoError(d, err)
	admin, err := d.kafka.Admin()
	require.NoError(d, err)
	defer admin.Close()
	require.NoError(d, admin.DeleteRecords(topic, offsets))
	return before - len(d.records(topic))
}

func headerOf(r *sarama.ConsumerMessage, name string) string {
	for _, h := range r.Headers {
		if string(h.Key) == name {
			return string(h.Value)
		}
	}
	return ""
}
